//! What the harness puts on a machine: the test, its data, its unit, and the scripts that speak kola's
//! protocol there. One tar archive carries all, since each SSH command costs an emulated guest dearly.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::host::fs;

use super::discovery::External;

/// Starts and watches a unit.
pub(super) const RUN_UNIT: &str = "/run/nosa/run-unit.sh";
/// Waits for the machine to come up and names failed units.
pub(super) const BASE_CHECKS: &str = "/run/nosa/base-checks.sh";
/// nosa's own checks.
pub(super) const BASIC: &str = "/run/nosa/basic.sh";

/// A test's place on its machine; several tests that share one have different numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'t> {
    name: &'t str,
    external: &'t External,
    number: Option<usize>,
}

impl<'t> Slot<'t> {
    pub(super) fn new(name: &'t str, external: &'t External, number: Option<usize>) -> Self {
        Self { name, external, number }
    }

    /// The name of the test's unit.
    pub(super) fn unit(&self) -> String {
        format!("kola-runext{}.service", self.suffix())
    }

    /// The text of the test's unit.
    pub(super) fn unit_text(&self) -> String {
        let (unit, name, data) = (self.unit(), self.name, self.data());
        let file = self.external.program.file_name().unwrap_or_default().display();
        let path = self.program();
        format!(
            "[Unit]\n[Service]\nRemainAfterExit=yes\nEnvironmentFile=-/run/kola-runext-env\n\
             Environment=KOLA_UNIT={unit}\nEnvironment=KOLA_TEST={name}\nEnvironment=KOLA_TEST_EXE={file}\n\
             Environment=KOLA_EXT_DATA={data}\nExecStart=/{path}\n"
        )
    }

    /// The archive with the test and its data.
    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::new();
        archive.file(&self.program(), &fs::read(&self.external.program)?, 0o755)?;
        archive.file(&format!("etc/systemd/system/{}", self.unit()), self.unit_text().as_bytes(), 0o644)?;
        if let Some(data) = &self.external.data {
            archive.tree(self.data().trim_start_matches('/'), data)?;
        }
        archive.scripts()?;
        archive.finish()
    }

    fn program(&self) -> String {
        let file = self.external.program.file_name().unwrap_or_default().display();
        format!("usr/local/bin/kola-runext{}-{file}", self.suffix())
    }

    fn data(&self) -> String {
        format!("/var/opt/kola/extdata{}", self.suffix())
    }

    fn suffix(&self) -> String {
        self.number.map(|number| format!("-{number}")).unwrap_or_default()
    }
}

/// The archive with the scripts alone: a machine that rebooted has lost them.
pub(super) fn scripts() -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.scripts()?;
    archive.finish()
}

struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        builder.mode(tar::HeaderMode::Deterministic);
        builder.follow_symlinks(false);
        Self(builder)
    }

    fn scripts(&mut self) -> Result<()> {
        self.file(RUN_UNIT, include_bytes!("guest/run-unit.sh"), 0o755)?;
        self.file(BASE_CHECKS, include_bytes!("guest/base-checks.sh"), 0o755)?;
        self.file(BASIC, include_bytes!("guest/basic.sh"), 0o755)?;
        for name in ["tmp/autopkgtest-reboot", "tmp/autopkgtest-reboot-prepare"] {
            self.file(name, include_bytes!("guest/reboot.sh"), 0o755)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_entry_type(tar::EntryType::Regular);
        self.0
            .append_data(&mut header, path.trim_start_matches('/'), bytes)
            .with_context(|| format!("packing {path}"))
    }

    fn tree(&mut self, path: &str, dir: &Path) -> Result<()> {
        self.0.append_dir_all(path, dir).with_context(|| format!("packing {}", dir.display()))
    }

    fn finish(self) -> Result<Vec<u8>> {
        self.0.into_inner().context("packing a test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cmd;

    #[test]
    fn the_unit_is_kolas() {
        let external = External { program: "/t/reboot/test.sh".into(), data: None, config: None };
        insta::assert_snapshot!(Slot::new("ext.config.reboot", &external, None).unit_text());
        assert!(
            Slot::new("x", &external, Some(3))
                .unit_text()
                .contains("ExecStart=/usr/local/bin/kola-runext-3-test.sh")
        );
    }

    #[test]
    fn the_archive_holds_the_test_its_data_and_the_scripts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("test.sh"), "#!/bin/sh\n").unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("data/lib.sh"), "x").unwrap();
        let external = External {
            program: dir.path().join("test.sh"),
            data: Some(dir.path().join("data")),
            config: None,
        };
        let bytes = Slot::new("ext.x", &external, None).archive().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        for name in
            ["usr/local/bin/kola-runext-test.sh", "var/opt/kola/extdata/lib.sh", "tmp/autopkgtest-reboot"]
        {
            assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
        }
    }

    #[test]
    fn the_guests_scripts_are_valid_shell() {
        for script in ["run-unit.sh", "reboot.sh", "base-checks.sh", "basic.sh"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kola/guest").join(script);
            Cmd::program("sh").arg("-n").arg(path).run().unwrap();
        }
    }
}
