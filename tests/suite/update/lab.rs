//! Machines that are updated, cut off from power and booted again from the same disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nosa::host::{Ending, clock, environment};
use nosa::vm::{
    Accelerator, Console, Disk, DiskFormat, KeyPair, Machine, Place, Profile, Ssh, Template, TemplateMemory,
    Vm, choose, overlay,
};
use serde_json::json;

use crate::fixture::artifact;

/// How long a machine may take to answer, and a command to end, under KVM.
const BOOT: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(120);
/// How often a console or a machine is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What all machines of a test have in common. Their disks lie here and outlive them.
pub(crate) struct Lab {
    image: PathBuf,
    profile: Profile,
    accelerator: Accelerator,
    key: KeyPair,
    ignition: PathBuf,
    place: tempfile::TempDir,
}

/// A running machine that was told to answer.
pub(crate) struct Guest {
    vm: Vm,
    ssh: Ssh,
    place: Place,
    disk: PathBuf,
    pace: u32,
}

impl Lab {
    /// A lab for the shared build's image; its machines take images from `registry` without TLS.
    pub(crate) fn new(shared: &Path, registry: &str) -> Self {
        let place = tempfile::Builder::new().prefix("nosa-up-").tempdir().unwrap();
        let key = KeyPair::generate(place.path()).unwrap();
        let ignition = place.path().join("config.ign");
        std::fs::write(&ignition, config(&key.public, registry).to_string()).unwrap();
        let profile = Profile::of(environment::basearch()).unwrap();
        let accelerator = choose(&profile, environment::basearch()).accelerator;
        Self { image: artifact(shared, "qemu"), profile, accelerator, key, ignition, place }
    }

    /// The first boot of a new machine, which may become a template.
    pub(crate) fn first_boot(&self) -> (Guest, TemplateMemory) {
        let place = self.place_of("first");
        let disk = place.scratch.join("disk.qcow2");
        overlay(&self.image, &disk, None).unwrap();
        let mut machine = self.machine(&place, &disk);
        let memory = TemplateMemory::new(machine.memory_mib).unwrap();
        machine.memory = memory.shared();
        (self.start(machine, place, disk), memory)
    }

    /// A boot from the disk of a machine that is gone.
    pub(crate) fn boot(&self, name: &str, disk: &Path) -> Guest {
        let place = self.place_of(name);
        self.start(self.machine(&place, disk), place, disk.to_owned())
    }

    /// A machine that goes on from a frozen one.
    pub(crate) fn fork(&self, template: &Template, name: &str) -> Guest {
        let place = self.place_of(name);
        let machine = template.fork(&place).unwrap();
        let disk = machine.disks[0].file.clone();
        let guest = self.start(machine, place, disk);
        // Its clock stood still while it was frozen.
        guest.run(&format!("date -s @{} > /dev/null", clock::now()));
        guest
    }

    fn place_of(&self, name: &str) -> Place {
        let dir = self.place.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Place { scratch: dir.clone(), output: dir }
    }

    fn machine(&self, place: &Place, disk: &Path) -> Machine {
        let console = Console::File(place.console());
        let mut machine = Machine::new(self.profile.clone(), self.accelerator, place.control(), console);
        machine.cpus = u32::try_from(environment::processors()).unwrap().min(2);
        machine.internet = true;
        machine.ignition = Some(self.ignition.clone());
        machine.disks.push(Disk::primary(disk.to_owned(), DiskFormat::Qcow2));
        machine
    }

    fn start(&self, machine: Machine, place: Place, disk: PathBuf) -> Guest {
        let pace = machine.accelerator.slowdown();
        let vm = Vm::start(machine, &place.log()).unwrap();
        let ssh = Ssh::new(vm.host_port(22).unwrap(), "core", &self.key.private, &place.scratch);
        let mut guest = Guest { vm, ssh, place, disk, pace };
        guest.connect();
        guest
    }
}

impl Guest {
    /// Waits until the machine answers.
    pub(crate) fn connect(&mut self) {
        let Self { vm, ssh, .. } = self;
        let answered = ssh.connect(BOOT * self.pace, || vm.check_alive());
        answered.unwrap_or_else(|error| panic!("{error:#}:\n{}", self.console()));
    }

    /// Runs a script as root, which must succeed, and returns what it printed.
    pub(crate) fn run(&self, script: &str) -> String {
        let (done, said) = self.try_run(script);
        assert!(done, "`{script}` failed:\n{said}\nconsole:\n{}", self.console());
        said
    }

    /// Runs a script as root: whether it succeeded, and all that it printed.
    pub(crate) fn try_run(&self, script: &str) -> (bool, String) {
        self.ask(script).unwrap_or_else(|| panic!("nobody ran `{script}`; console:\n{}", self.console()))
    }

    /// As [`Self::try_run`]; nothing when the machine did not answer.
    fn ask(&self, script: &str) -> Option<(bool, String)> {
        let line = format!("sudo sh -c '{}' 2>&1", script.replace('\'', r"'\''"));
        let done = self.ssh.run(&line, COMMAND * self.pace).ok()?;
        // 255 is ssh's own, when the connection breaks.
        matches!(done.ending, Ending::Exit(code) if code != 255).then(|| (done.success(), done.stdout))
    }

    /// Begins a script as root and does not wait for it.
    pub(crate) fn begin(&self, script: &str) {
        self.run(&format!("systemd-run --quiet --collect --unit=begun -- sh -c '{script}'"));
    }

    /// Reboots in order, and waits for the next boot.
    pub(crate) fn reboot(&mut self) {
        self.reboots_after("systemctl --no-block reboot");
    }

    /// Begins a script that ends in a reboot, and waits for the next boot. The script has no part in the connection,
    /// which the reboot may cut at any word.
    pub(crate) fn reboots_after(&mut self, script: &str) {
        let old = self.boot_id().unwrap();
        self.begin(script);
        self.wait_until(|guest| guest.boot_id().map(|id| id != old), "the machine did not reboot");
    }

    /// Waits until the machine runs what was installed, over as many reboots as that takes.
    pub(crate) fn wait_for_base(&mut self) {
        let base = |guest: &Self| {
            let (done, said) = guest.ask("nestos-update status --json")?;
            let status: serde_json::Value = serde_json::from_str(&said).ok().filter(|_| done)?;
            let all = status["deployments"].as_array()?;
            Some(all.iter().any(|one| one["role"] == "booted" && one["image"].is_null()))
        };
        self.wait_until(base, "the machine did not return");
    }

    /// Waits until the machine says yes; none is no answer, and the connection is made anew.
    fn wait_until(&mut self, says_yes: impl Fn(&Self) -> Option<bool>, else_fail_with: &str) {
        let deadline = Instant::now() + BOOT * self.pace * 3;
        while Instant::now() < deadline {
            match says_yes(self) {
                Some(true) => return,
                Some(false) => std::thread::sleep(LOOK * 10),
                None => self.connect(),
            }
        }
        panic!("{else_fail_with}:\n{}", self.console());
    }

    /// The boot that the machine is in, if it answers.
    pub(crate) fn boot_id(&self) -> Option<String> {
        let done = self.ssh.run("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(20)).ok()?;
        done.success().then(|| done.stdout.trim().to_owned())
    }

    /// `nestos-update status --json`.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.run("nestos-update status --json")).unwrap()
    }

    /// Waits until the running deployment has been judged, and says how.
    pub(crate) fn health(&self) -> String {
        let deadline = Instant::now() + BOOT * self.pace;
        loop {
            let status = self.status();
            let all = status["deployments"].as_array().unwrap();
            let booted = all.iter().find(|one| one["role"] == "booted").unwrap();
            let health = booted["health"].as_str().unwrap();
            if health != "unproven" {
                return health.to_owned();
            }
            assert!(Instant::now() < deadline, "nobody judged {status:#}");
            std::thread::sleep(LOOK * 10);
        }
    }

    /// All that the console showed since this machine was powered on.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.place.console()).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of the console has all these words; what it showed before its byte `from` does not
    /// count.
    pub(crate) fn wait_for(&mut self, from: usize, words: &[&str]) {
        let deadline = Instant::now() + BOOT * self.pace;
        loop {
            let console = self.console();
            let mut lines = console.get(from..).unwrap_or_default().lines();
            if lines.any(|line| words.iter().all(|word| line.contains(word))) {
                return;
            }
            assert!(Instant::now() < deadline, "no line with {words:?} on the console:\n{console}");
            self.vm.check_alive().unwrap();
            std::thread::sleep(LOOK);
        }
    }

    /// Cuts the power: what the machine has written is on its disk, what it still had in memory is lost.
    pub(crate) fn cut(self) -> PathBuf {
        self.vm.quit().unwrap();
        self.disk
    }

    /// Freezes the machine, for forks.
    pub(crate) fn freeze(mut self, memory: TemplateMemory) -> Template {
        self.ssh.disconnect().unwrap();
        Template::freeze(self.vm, memory, &self.place.scratch).unwrap()
    }
}

fn config(key: &str, registry: &str) -> serde_json::Value {
    let file = |path: &str, text: &str| {
        let text: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        json!({"path": path, "mode": 0o644, "overwrite": true, "contents": {"source": format!("data:,{text}")}})
    };
    let patience = "[Manager]\nDefaultDeviceTimeoutSec=10min\nDefaultTimeoutStartSec=10min\n";
    let insecure = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
    json!({
        "ignition": {"version": "3.0.0"},
        "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": [key]}]},
        "storage": {"files": [
            file("/etc/systemd/system.conf.d/10-patience.conf", patience),
            file("/etc/containers/registries.conf.d/50-test.conf", &insecure),
            file("/etc/of-this-machine", "kept\n"),
            file("/var/lib/of-this-machine", "kept\n"),
        ]},
    })
}
