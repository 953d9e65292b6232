//! Machines for tests: booted with an Ignition configuration of their own, or forked from one that was.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::host::{clock, environment, fs};
use crate::pipeline::Reporter;
use crate::vm::{
    Accelerator, BootArguments, Console, Disk, DiskFormat, Firmware, KeyPair, Machine, Place, Profile, Ssh,
    Template, TemplateMemory, Vm, append_arguments, blank, choose, overlay, raw_copy,
};

use super::header::Needs;
use super::kit;
use super::scan;

/// How long a machine may take to answer by SSH under KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// How long an ordinary command on it may take under KVM.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to come up altogether, under KVM.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// How often a console is looked at for signs that its machine is dead.
const CONSOLE_INTERVAL: Duration = Duration::from_secs(2);

/// Firmware that machines start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirmwareKind {
    /// BIOS.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}

/// What all machines of a run have in common.
#[derive(Debug)]
pub struct Lab {
    /// The image that they boot.
    pub image: PathBuf,
    /// Their profile.
    pub profile: Profile,
    /// What executes them.
    pub accelerator: Accelerator,
    /// What they start with.
    pub firmware: FirmwareKind,
    /// Their memory, where a test does not need more.
    pub memory_mib: u32,
    /// The user that tests log in as.
    pub user: String,
    /// The key that opens them.
    pub key: KeyPair,
    /// Where their consoles and journals go.
    pub output: PathBuf,
}

/// What a machine is started for.
#[derive(Debug, Clone)]
pub(super) struct Order<'o> {
    pub(super) name: &'o str,
    pub(super) attempt: u32,
    pub(super) needs: &'o Needs,
    pub(super) internet: bool,
    pub(super) ignition: &'o str,
}

/// A running machine that answers.
pub(super) struct Guest {
    pub(super) vm: Vm,
    pub(super) ssh: Ssh,
    place: Place,
    pace: u32,
    scratch: TempDir,
}

/// A template with the directory that its disks lie in.
pub(super) struct Frozen {
    pub(super) template: Template,
    _scratch: TempDir,
}

impl Lab {
    /// A lab for an image: finds the accelerator, tells why it is slow if it is, and makes a key.
    pub fn new(
        image: PathBuf,
        arch: &str,
        output: PathBuf,
        firmware: FirmwareKind,
        memory_mib: Option<u32>,
        report: &Reporter,
    ) -> Result<Self> {
        let profile = Profile::of(arch)?;
        let choice = choose(&profile, arch);
        if let Some(note) = &choice.note {
            report.note(note);
        }
        fs::create_dir_all(&output)?;
        let (accelerator, key) = (choice.accelerator, KeyPair::generate(&output)?);
        let (memory_mib, user) = (memory_mib.unwrap_or(profile.memory_mib), "core".to_owned());
        Ok(Self { image, profile, accelerator, firmware, memory_mib, user, key, output })
    }

    /// Processors of each machine.
    #[must_use]
    pub fn cpus() -> u32 {
        u32::try_from(environment::processors()).unwrap_or(1).min(2)
    }

    /// Boots a machine.
    pub(super) fn boot(&self, order: &Order<'_>) -> Result<Guest> {
        let (scratch, place) = self.place(order.name, order.attempt)?;
        let machine = self.machine(order, &place)?;
        self.start(machine, scratch, place)
    }

    /// Boots the machine that others are forked from.
    pub(super) fn boot_template(&self, order: &Order<'_>) -> Result<(Guest, TemplateMemory)> {
        let (scratch, place) = self.place(order.name, order.attempt)?;
        let mut machine = self.machine(order, &place)?;
        let memory = TemplateMemory::new(machine.memory_mib)?;
        machine.memory = memory.shared();
        Ok((self.start(machine, scratch, place)?, memory))
    }

    /// Forks a machine; only its name, attempt and wish for the internet count.
    pub(super) fn fork(&self, template: &Template, order: &Order<'_>) -> Result<Guest> {
        let (scratch, place) = self.place(order.name, order.attempt)?;
        let mut machine = template.fork(&place)?;
        machine.internet = order.internet;
        let guest = self.start(machine, scratch, place)?;
        // Its clock stood still while it was frozen.
        guest.sudo(&format!("date -s @{} > /dev/null", clock::now()))?;
        Ok(guest)
    }

    fn place(&self, name: &str, attempt: u32) -> Result<(TempDir, Place)> {
        let output = self.output.join(name).join(format!("machine-{attempt}"));
        fs::remove_tree(&output)?;
        fs::create_dir_all(&output)?;
        let scratch =
            tempfile::Builder::new().prefix("nosa-vm-").tempdir().context("creating a directory")?;
        let place = Place { scratch: scratch.path().to_owned(), output };
        Ok((scratch, place))
    }

    fn machine(&self, order: &Order<'_>, place: &Place) -> Result<Machine> {
        let needs = order.needs;
        let mut machine = Machine::new(
            self.profile.clone(),
            self.accelerator,
            place.control(),
            Console::File(place.console()),
        );
        machine.cpus = Self::cpus();
        machine.memory_mib = needs.memory_mib.unwrap_or_default().max(self.memory_mib);
        machine.internet = order.internet;
        machine.extra_nics = needs.nics;
        machine.forwards.extend(&needs.ports);
        if self.firmware == FirmwareKind::Uefi {
            machine.firmware = Firmware::Uefi(place.uefi(self.profile.uefi(Path::exists)?)?);
        }
        let config = place.output.join("ignition.json");
        fs::write(&config, order.ignition)?;
        machine.ignition = Some(config);
        machine.ports = ["mantlejournal", "com.coreos.ignition.journal"].map(|name| place.port(name)).into();
        machine.disks.push(self.primary_disk(needs, place)?);
        for (index, spec) in needs.disks.iter().enumerate() {
            let file = place.scratch.join(format!("extra{index}.raw"));
            blank(&file, spec.size_gib.unwrap_or(1))?;
            machine.disks.push(Disk::additional(file, DiskFormat::Raw, spec));
        }
        Ok(machine)
    }

    fn primary_disk(&self, needs: &Needs, place: &Place) -> Result<Disk> {
        let spec = needs.primary.clone().unwrap_or_default();
        let size = [needs.disk_gib, spec.size_gib].into_iter().flatten().max();
        let mut file = place.scratch.join("disk.qcow2");
        let mut format = DiskFormat::Qcow2;
        overlay(&self.image, &file, size)?;
        let arguments = BootArguments {
            every_boot: needs.kernel_arguments.clone(),
            first_boot: needs.firstboot_kernel_arguments.clone(),
        };
        append_arguments(&file, &arguments, &place.scratch)?;
        if spec.multipath {
            let raw = place.scratch.join("disk.raw");
            raw_copy(&file, &raw)?;
            (file, format) = (raw, DiskFormat::Raw);
        }
        let ordinary = Disk::primary(file.clone(), format);
        let serial = spec.serial.clone().or(ordinary.serial);
        Ok(Disk { serial, boot_index: ordinary.boot_index, ..Disk::additional(file, format, &spec) })
    }

    fn start(&self, machine: Machine, scratch: TempDir, place: Place) -> Result<Guest> {
        let pace = machine.accelerator.slowdown();
        let mut vm = Vm::start(machine, &place.log())?;
        let mut ssh = Ssh::new(vm.host_port(22)?, &self.user, &self.key.private, &place.scratch);
        let mut console = ConsoleWatch::new(place.console());
        ssh.connect(BOOT_LIMIT * pace, || {
            vm.check_alive()?;
            console.check()
        })?;
        Ok(Guest { vm, ssh, place, pace, scratch })
    }
}

impl Guest {
    /// The factor that time limits grow by.
    pub(super) fn pace(&self) -> u32 {
        self.pace
    }

    /// The time limit of an ordinary command.
    pub(super) fn command_limit(&self) -> Duration {
        COMMAND_LIMIT * self.pace
    }

    /// Runs a command line as root; any other end than success is an error.
    pub(super) fn sudo(&self, script: &str) -> Result<String> {
        let done = self.ssh.run(&root(script), self.command_limit())?;
        if done.success() {
            return Ok(done.stdout);
        }
        bail!("`{script}` on the machine ended with {:?}: {}", done.ending, done.stderr.trim())
    }

    /// Puts the scripts on the machine and asks which units failed or hang, one line each.
    pub(super) fn base_checks(&self) -> Result<Vec<String>> {
        self.ssh.unpack(kit::scripts()?, self.command_limit())?;
        let limit = SETTLE_LIMIT * self.pace;
        let script = format!("sh {} {}", kit::BASE_CHECKS, limit.as_secs());
        let done = self.ssh.run(&root(&script), limit * 2)?;
        if !done.success() {
            bail!("the machine's base checks ended with {:?}: {}", done.ending, done.stderr.trim());
        }
        Ok(done.stdout.lines().map(str::to_owned).collect())
    }

    /// The boot that the machine is in.
    pub(super) fn boot_id(&self) -> Result<String> {
        let done = self.ssh.run("cat /proc/sys/kernel/random/boot_id", self.command_limit())?;
        if !done.success() {
            bail!("the machine does not tell its boot id: {:?}", done.ending);
        }
        Ok(done.stdout.trim().to_owned())
    }

    /// Waits until the machine answers from another boot than `old`.
    pub(super) fn wait_for_reboot(&mut self, old: &str) -> Result<()> {
        let limit = BOOT_LIMIT * self.pace * 2;
        let deadline = Instant::now() + limit;
        let mut console = ConsoleWatch::new(self.place.console());
        while Instant::now() < deadline {
            let done = self.ssh.run("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(10));
            match done {
                Ok(done) if done.success() && done.stdout.trim() != old => return Ok(()),
                Ok(done) if done.success() => std::thread::sleep(Duration::from_millis(500)),
                _ => {
                    let vm = &mut self.vm;
                    self.ssh.connect(limit, || {
                        vm.check_alive()?;
                        console.check()
                    })?;
                }
            }
        }
        bail!("the machine did not reboot within {} s", limit.as_secs())
    }

    /// Freezes the machine; its scratch directory lives on with the template.
    pub(super) fn freeze(self, memory: TemplateMemory) -> Result<Frozen> {
        let template = Template::freeze(self.vm, memory, &self.place.scratch)?;
        Ok(Frozen { template, _scratch: self.scratch })
    }

    /// A watch on the machine's console.
    pub(super) fn console_watch(&self) -> ConsoleWatch {
        ConsoleWatch::new(self.place.console())
    }

    /// What console and journal hold that they must not.
    pub(super) fn findings(&self) -> Result<Vec<scan::Finding>> {
        self.collect_journal()?;
        let mut findings = Vec::new();
        for name in ["console.txt", "journal.txt"] {
            let text = read_lossy(&self.place.output.join(name))?;
            for finding in scan::scan(&text) {
                if !findings.iter().any(|known: &scan::Finding| known.meaning == finding.meaning) {
                    findings.push(finding);
                }
            }
        }
        Ok(findings)
    }

    /// Fetches the journal of a machine that does not stream it.
    fn collect_journal(&self) -> Result<()> {
        let file = self.place.output.join("journal.txt");
        if self.vm.machine().incoming.is_some() || std::fs::metadata(&file).is_ok_and(|meta| meta.len() > 0) {
            return Ok(());
        }
        match self.sudo("journalctl -q -b --no-pager -o short-monotonic") {
            Ok(journal) => fs::write(&file, journal),
            // A machine that no longer answers has its console.
            Err(_) => Ok(()),
        }
    }
}

/// Looks at a console now and then for signs that its machine is dead.
pub(super) struct ConsoleWatch {
    file: PathBuf,
    looked: Instant,
}

impl ConsoleWatch {
    fn new(file: PathBuf) -> Self {
        Self { file, looked: Instant::now() }
    }

    /// The sign, if it is time to look and there is one.
    pub(super) fn dead(&mut self) -> Option<scan::Finding> {
        if self.looked.elapsed() < CONSOLE_INTERVAL {
            return None;
        }
        self.looked = Instant::now();
        scan::dead(&read_lossy(&self.file).ok()?)
    }

    fn check(&mut self) -> Result<()> {
        match self.dead() {
            Some(finding) => bail!("the machine died: {finding}"),
            None => Ok(()),
        }
    }
}

/// A command line that runs a script as root.
pub(super) fn root(script: &str) -> String {
    format!("sudo sh -c '{}'", script.replace('\'', r"'\''"))
}

fn read_lossy(file: &Path) -> Result<String> {
    if !file.exists() {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::root;

    #[test]
    fn a_script_reaches_the_machine_as_it_is() {
        assert_eq!(root("echo 'a b'"), r"sudo sh -c 'echo '\''a b'\'''");
    }
}
