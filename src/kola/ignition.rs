//! The Ignition configuration of a test's machine: what the harness needs, with the test's own merged in.
//! No spec newer than 3.0 is written here; the test's own may be what the image's Ignition reads.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::failure::{Failure, Kind};
use crate::host::{Cmd, Tool, fs};
use crate::vm::Accelerator;

/// The journal, as it comes, on a virtio-serial port.
const JOURNAL_UNIT: &str = "\
[Unit]
DefaultDependencies=no
After=systemd-journald.service
Requires=systemd-journald.service
ConditionPathExists=/dev/virtio-ports/mantlejournal
[Service]
Type=simple
ExecStart=/bin/sh -c 'exec journalctl -q -b -f --no-tail -o short-monotonic --lines=all > /dev/virtio-ports/mantlejournal'
[Install]
RequiredBy=multi-user.target
";

/// Times that suit an emulated machine: systemd's own 90 s send a slow one into emergency mode.
const PATIENCE: &str = "[Manager]\nDefaultDeviceTimeoutSec=10min\nDefaultTimeoutStartSec=10min\n";

const BUTANE: Tool = Tool {
    name: "butane",
    least: &[],
    version_args: &[],
    package: "butane",
    purpose: "Butane configurations",
};

/// A configuration under construction.
#[derive(Debug, Clone)]
pub struct Ignition {
    merged: Vec<String>,
    user: String,
    keys: Vec<String>,
    units: Vec<Value>,
    files: Vec<Value>,
}

impl Ignition {
    /// A configuration in which `user` may log in with `key`.
    #[must_use]
    pub fn new(user: &str, key: &str) -> Self {
        Self {
            merged: Vec::new(),
            user: user.to_owned(),
            keys: vec![key.to_owned()],
            units: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Has the journal streamed to the port `mantlejournal`.
    #[must_use]
    pub fn stream_journal(mut self) -> Self {
        let unit = json!({
            "name": "mantle-virtio-journal-stream.service", "enabled": true, "contents": JOURNAL_UNIT
        });
        self.units.push(unit);
        self
    }

    /// Has systemd wait longer for devices and services, for a machine that is emulated.
    #[must_use]
    pub fn patient(mut self, accelerator: Accelerator) -> Self {
        if accelerator == Accelerator::Tcg {
            let path = "/etc/systemd/system.conf.d/10-nosa-patience.conf";
            self.files.push(json!({
                "path": path, "mode": 0o644, "contents": { "source": data_url(PATIENCE) }
            }));
        }
        self
    }

    /// Logs the user in on a console without asking.
    #[must_use]
    pub fn autologin(mut self, console: &str) -> Self {
        let contents = format!(
            "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin {} --noclear --keep-baud 115200,57600,38400,9600 %I $TERM\n",
            self.user
        );
        self.units.push(json!({
            "name": format!("serial-getty@{console}.service"),
            "dropins": [{ "name": "10-nosa-autologin.conf", "contents": contents }],
        }));
        self
    }

    /// Adds a unit that is not enabled.
    #[must_use]
    pub fn unit(mut self, name: &str, contents: &str) -> Self {
        self.units.push(json!({ "name": name, "enabled": false, "contents": contents }));
        self
    }

    /// Merges another configuration in, given as its text.
    #[must_use]
    pub fn merge(mut self, config: String) -> Self {
        self.merged.push(config);
        self
    }

    /// The configuration's text.
    #[must_use]
    pub fn build(&self) -> String {
        let merge: Vec<Value> =
            self.merged.iter().map(|config| json!({ "source": data_url(config) })).collect();
        let config = json!({
            "ignition": { "version": "3.0.0", "config": { "merge": merge } },
            "passwd": { "users": [{ "name": self.user, "sshAuthorizedKeys": self.keys }] },
            "storage": { "files": self.files },
            "systemd": { "units": self.units },
        });
        format!("{config:#}\n")
    }
}

/// Reads a configuration file: Ignition as it is, Butane (`*.bu`) translated by the `butane` program.
pub fn read_config(path: &Path) -> Result<String> {
    if path.extension().is_some_and(|extension| extension == "bu") {
        return translate(path);
    }
    let text = fs::read_to_string(path)?;
    let config: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Kind::Config, format!("{}: {error}", path.display()), "give an Ignition configuration")
    })?;
    if config.pointer("/ignition/version").and_then(Value::as_str).is_none() {
        return Err(Failure::new(
            Kind::Config,
            format!("{} has no ignition.version", path.display()),
            "add \"ignition\": {\"version\": \"3.0.0\"}",
        )
        .into());
    }
    Ok(text)
}

fn translate(path: &Path) -> Result<String> {
    if let Some(problem) = BUTANE.look().problem {
        return Err(Failure::new(
            Kind::Tool,
            format!("{}: {problem}", path.display()),
            "install butane, or write the configuration as Ignition (config.ign)",
        )
        .into());
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    let output = Cmd::new(&BUTANE)
        .args(["--strict", "--files-dir"])
        .arg(dir)
        .arg(path)
        .output()
        .with_context(|| format!("translating {}", path.display()))?;
    Ok(output.text())
}

/// A `data:` URL (RFC 2397) that holds a text.
fn data_url(text: &str) -> String {
    text.bytes().fold(String::from("data:,"), |mut url, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => url.push(byte as char),
            _ => write!(url, "%{byte:02X}").unwrap_or_default(),
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_configuration() {
        let text = Ignition::new("core", "ssh-ed25519 AAAA nosa")
            .patient(Accelerator::Tcg)
            .unit("kola-runext.service", "[Unit]\n")
            .merge("{\"ignition\": {\"version\": \"3.3.0\"}}\n".to_owned())
            .build();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_configuration_without_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.ign");
        std::fs::write(&path, "{}").unwrap();
        assert!(read_config(&path).unwrap_err().to_string().contains("no ignition.version"));
        std::fs::write(&path, "{").unwrap();
        assert!(read_config(&path).unwrap_err().to_string().contains("config.ign: EOF"));
    }
}
