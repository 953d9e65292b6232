//! QEMU's arguments as a pure function of a [`Machine`].

use super::accel::Accelerator;
use super::disk_spec::{Channel, Sectors};
use super::machine::{Console, Disk, Firmware, Machine, Memory};
use super::options::Options;

/// The guest's address of its first interface, and the one that host ports are forwarded to.
const FIRST_MAC: &str = "52:54:00:12:34:56";

/// The arguments that make QEMU the machine, the program's name left out.
#[must_use]
pub fn argv(machine: &Machine) -> Vec<String> {
    let mut args = Args::default();
    args.flag("-no-user-config");
    args.flag("-nodefaults");
    args.pair("-name", &machine.hostname.replace(',', ",,"));
    board(machine, &mut args);
    firmware(machine, &mut args);
    kernel(machine, &mut args);
    args.pair("-object", "rng-random,id=rng0,filename=/dev/urandom");
    args.pair("-device", "virtio-rng-pci,rng=rng0");
    for (index, disk) in machine.disks.iter().enumerate() {
        add_disk(index, disk, &mut args);
    }
    network(machine, &mut args);
    if let Some(config) = &machine.ignition {
        args.option("-fw_cfg", Options::keys().set("name", "opt/com.coreos/config").path("file", config));
    }
    serial(machine, &mut args);
    args.option(
        "-chardev",
        Options::new("socket")
            .set("id", "control")
            .path("path", &machine.control)
            .set("server", "on")
            .set("wait", "off"),
    );
    args.pair("-mon", "chardev=control,mode=control");
    if machine.incoming.is_some() {
        args.pair("-incoming", "defer");
    }
    args.0
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn pair(&mut self, flag: &str, value: &str) {
        self.0.extend([flag.to_owned(), value.to_owned()]);
    }

    fn option(&mut self, flag: &str, value: Options) {
        self.0.extend([flag.to_owned(), value.build()]);
    }
}

fn board(machine: &Machine, args: &mut Args) {
    let mut board = Options::new(&machine.profile.machine).set("memory-backend", "ram");
    for (key, value) in &machine.profile.machine_options {
        board = board.set(key, value);
    }
    args.option("-machine", board);
    match machine.accelerator {
        Accelerator::Kvm => args.pair("-accel", "kvm"),
        Accelerator::Tcg => args.pair("-accel", "tcg,thread=multi"),
    }
    args.pair("-cpu", machine.profile.cpu(machine.accelerator));
    args.pair("-smp", &machine.cpus.to_string());
    let size = format!("{}M", machine.memory_mib);
    args.pair("-m", &size);
    let memory = match &machine.memory {
        Memory::Anonymous => {
            Options::new("memory-backend-memfd").set("id", "ram").set("size", &size).set("share", "on")
        }
        Memory::File { path, shared } => Options::new("memory-backend-file")
            .set("id", "ram")
            .set("size", &size)
            .path("mem-path", path)
            .set("share", if *shared { "on" } else { "off" }),
    };
    args.option("-object", memory);
    args.pair("-display", "none");
    args.pair("-boot", "menu=off,strict=on");
}

fn firmware(machine: &Machine, args: &mut Args) {
    let Firmware::Uefi(files) = &machine.firmware else { return };
    let flash = || Options::keys().set("if", "pflash").set("format", "raw");
    args.option("-drive", flash().set("unit", 0).set("readonly", "on").path("file", &files.code));
    args.option("-drive", flash().set("unit", 1).path("file", &files.vars));
}

fn kernel(machine: &Machine, args: &mut Args) {
    let Some(direct) = &machine.kernel else { return };
    args.pair("-kernel", &direct.kernel.display().to_string());
    args.pair("-initrd", &direct.initrd.display().to_string());
    args.pair("-append", &direct.arguments);
}

fn add_disk(index: usize, disk: &Disk, args: &mut Args) {
    let paths = if disk.multipath { 2 } else { 1 };
    for path in 0..paths {
        let drive = if disk.multipath { format!("disk{index}-{path}") } else { format!("disk{index}") };
        let mut options = Options::keys()
            .set("if", "none")
            .set("id", &drive)
            .set("format", disk.format.name())
            .path("file", &disk.file)
            .set("cache", "unsafe")
            .set("discard", "unmap");
        if disk.multipath {
            options = options.set("file.locking", "off");
        }
        args.option("-drive", options);
        let channel = if disk.multipath { Channel::Scsi } else { disk.channel };
        let device = match channel {
            Channel::Virtio => Options::new("virtio-blk-pci"),
            Channel::Nvme => Options::new("nvme"),
            Channel::Scsi => {
                let bus = format!("scsi-{drive}");
                args.option("-device", Options::new("virtio-scsi-pci").set("id", &bus));
                Options::new("scsi-hd").set("bus", format!("{bus}.0"))
            }
        };
        args.option("-device", disk_device(device, index, &drive, disk, channel));
    }
}

fn disk_device(device: Options, index: usize, drive: &str, disk: &Disk, channel: Channel) -> Options {
    // NVMe refuses to start without a serial number; two paths are one disk to the guest by theirs.
    let needs_serial = channel == Channel::Nvme || disk.multipath;
    let serial = disk.serial.clone().or_else(|| needs_serial.then(|| format!("disk{index}")));
    let wwn = disk.wwn.or_else(|| disk.multipath.then_some(0x5000_c500_0000_0000 + index as u64));
    let device = device
        .set("drive", drive)
        .maybe("serial", serial)
        .maybe("wwn", wwn.filter(|_| channel == Channel::Scsi).map(|wwn| format!("{wwn:#018x}")))
        .maybe("bootindex", disk.boot_index);
    match disk.sectors {
        Sectors::Native512 => device,
        Sectors::Emulated512 => device.set("physical_block_size", 4096).set("logical_block_size", 512),
        Sectors::Native4k => device.set("physical_block_size", 4096).set("logical_block_size", 4096),
    }
}

fn network(machine: &Machine, args: &mut Args) {
    let mut user = Options::new("user").set("id", "net0").set("hostname", &machine.hostname);
    for port in &machine.forwards {
        user = user.set("hostfwd", format!("tcp:127.0.0.1:0-:{port}"));
    }
    if !machine.internet {
        user = user.set("restrict", "on");
    }
    args.option("-netdev", user);
    args.option("-device", Options::new("virtio-net-pci").set("netdev", "net0").set("mac", FIRST_MAC));
    for nic in 1..=machine.extra_nics {
        let id = format!("net{nic}");
        args.option(
            "-netdev",
            Options::new("user")
                .set("id", &id)
                .set("dhcpstart", format!("10.0.2.{}", 30 + nic))
                .set("restrict", "on"),
        );
        args.option(
            "-device",
            Options::new("virtio-net-pci").set("netdev", &id).set("mac", format!("52:55:00:d1:56:{nic:02x}")),
        );
    }
}

fn serial(machine: &Machine, args: &mut Args) {
    let console = match &machine.console {
        Console::File(path) => Options::new("file").set("id", "console").path("path", path),
        Console::Terminal => Options::new("stdio").set("id", "console").set("signal", "off").set("mux", "on"),
    };
    args.option("-chardev", console);
    args.pair("-serial", "chardev:console");
    if machine.console == Console::Terminal {
        args.pair("-mon", "chardev=console,mode=readline");
    }
    if machine.ports.is_empty() {
        return;
    }
    args.pair("-device", "virtio-serial-pci,id=serial0");
    for (index, port) in machine.ports.iter().enumerate() {
        let id = format!("port{index}");
        args.option("-chardev", Options::new("file").set("id", &id).path("path", &port.file));
        args.option("-device", Options::new("virtserialport").set("chardev", &id).set("name", &port.name));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DirectKernel, DiskFormat, DiskSpec, Port, Profile, UefiFiles};
    use super::*;
    use std::path::PathBuf;

    fn machine() -> Machine {
        let profile = Profile::of("x86_64").unwrap();
        let mut machine = Machine::new(
            profile,
            Accelerator::Tcg,
            "/run/q/control".into(),
            Console::File("/out/console.txt".into()),
        );
        machine.disks.push(Disk::primary("/tmp/overlay.qcow2".into(), DiskFormat::Qcow2));
        machine
    }

    fn text(machine: &Machine) -> String {
        argv(machine).join("\n").replace("\n-", "\n\u{1}-").split('\n').fold(String::new(), |text, word| {
            match word.strip_prefix('\u{1}') {
                Some(flag) => format!("{text}\n{flag}"),
                None if text.is_empty() => word.to_owned(),
                None => format!("{text} {word}"),
            }
        })
    }

    #[test]
    fn a_plain_machine() {
        insta::assert_snapshot!(text(&machine()));
    }

    #[test]
    fn a_machine_with_everything() {
        let mut machine = machine();
        machine.accelerator = Accelerator::Kvm;
        machine.firmware =
            Firmware::Uefi(UefiFiles { code: "/fw/CODE.fd".into(), vars: "/out/a,b/vars.fd".into() });
        machine.memory = Memory::File { path: "/dev/shm/ram".into(), shared: false };
        machine.cpus = 2;
        machine.internet = true;
        machine.extra_nics = 2;
        machine.forwards.push(8080);
        machine.ignition = Some("/out/config.ign".into());
        machine.incoming = Some("/tmp/state".into());
        machine.ports.push(Port { name: "mantlejournal".into(), file: "/out/journal.txt".into() });
        for spec in ["5G:mpath", "1G:4k,channel=nvme", "1G:512e,serial=data", "1G:channel=scsi,wwn=7"] {
            let spec = DiskSpec::parse(spec).unwrap();
            machine.disks.push(Disk::additional(PathBuf::from("/tmp/blank"), DiskFormat::Raw, &spec));
        }
        insta::assert_snapshot!(text(&machine));
    }

    #[test]
    fn a_machine_on_the_terminal_with_its_own_kernel() {
        let mut machine = machine();
        machine.console = Console::Terminal;
        machine.kernel = Some(DirectKernel {
            kernel: "/k/vmlinuz".into(),
            initrd: "/k/initrd".into(),
            arguments: "a=b, c".into(),
        });
        insta::assert_snapshot!(text(&machine));
    }
}
