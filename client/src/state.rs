//! What the updater remembers: /var/lib/nestos-update/state.json. It is lost without harm: every deployment is
//! then judged once more.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

const DIR: &str = "/var/lib/nestos-update";

/// The memory. Keys are commits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Deployments that came up healthy on this machine.
    pub good: Vec<String>,
    /// Images that did not.
    pub bad: BTreeMap<String, Bad>,
    /// The manifest digest of the image that somebody rolled back.
    pub declined: Option<String>,
    /// The last look for an update.
    pub last_check: Option<Check>,
    /// Units that failed before the update that is being tried.
    pub failed_before: Vec<String>,
}

/// Why an image is not taken again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bad {
    /// The manifest digest of its image.
    pub digest: Option<String>,
    /// What was wrong with it.
    pub reason: String,
    /// When, in seconds since the epoch.
    pub time: i64,
}

/// A look for an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// When, in seconds since the epoch.
    pub time: i64,
    /// The image's manifest digest at that time, if there was an answer.
    pub digest: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl State {
    /// Reads it.
    pub(crate) fn load() -> Result<Self> {
        Self::load_from(Path::new(DIR))
    }

    /// Writes it.
    pub(crate) fn save(&self) -> Result<()> {
        self.save_to(Path::new(DIR))
    }

    /// Whether a deployment of this commit came up healthy.
    pub(crate) fn is_good(&self, commit: &str) -> bool {
        self.good.iter().any(|good| good == commit)
    }

    /// Why the image with this manifest digest is not taken again.
    pub(crate) fn why_not(&self, digest: &str) -> Option<String> {
        let bad = self.bad.values().find(|bad| bad.digest.as_deref() == Some(digest));
        let declined = self.declined.as_deref() == Some(digest);
        let failed = bad.map(|bad| format!("failed on this machine: {}", bad.reason));
        failed.or_else(|| declined.then(|| "was rolled back".to_owned()))
    }

    /// The image with this manifest digest is to be tried again.
    pub(crate) fn forgive(&mut self, digest: &str) {
        self.bad.retain(|_, bad| bad.digest.as_deref() != Some(digest));
        self.declined.take_if(|declined| declined == digest);
    }

    /// A deployment is healthy.
    pub(crate) fn set_good(&mut self, commit: &str) {
        self.bad.remove(commit);
        if !self.is_good(commit) {
            self.good.push(commit.to_owned());
        }
    }

    /// A deployment is not.
    pub(crate) fn set_bad(&mut self, commit: &str, bad: Bad) {
        self.good.retain(|good| good != commit);
        self.bad.insert(commit.to_owned(), bad);
    }

    /// Forgets the good ones that are no longer on the machine.
    pub(crate) fn keep_only(&mut self, commits: &[String]) {
        self.good.retain(|good| commits.contains(good));
    }

    fn load_from(dir: &Path) -> Result<Self> {
        let path = file(dir);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        // Half a file after a power cut says nothing: begin anew.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn save_to(&self, dir: &Path) -> Result<()> {
        let path = file(dir);
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir)?;
            let new = path.with_extension("new");
            let mut out = std::fs::File::create(&new)?;
            out.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&new, &path)?;
            std::fs::File::open(dir)?.sync_all()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_judged_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("s");
        let mut state = State::load_from(&place).unwrap();
        state.set_good("a");
        state.set_good("b");
        let bad = Bad { digest: Some("sha256:b".into()), reason: "no answer".into(), time: 5 };
        state.set_bad("b", bad);
        state.save_to(&place).unwrap();
        let state = State::load_from(&place).unwrap();
        assert!(state.is_good("a") && !state.is_good("b"));
        assert_eq!(state.why_not("sha256:b").unwrap(), "failed on this machine: no answer");
        assert_eq!(state.why_not("sha256:a"), None);
    }

    #[test]
    fn what_was_rolled_back_is_not_taken_until_it_is_asked_for() {
        let mut state = State { declined: Some("sha256:a".into()), ..State::default() };
        assert_eq!(state.why_not("sha256:a").unwrap(), "was rolled back");
        assert_eq!(state.why_not("sha256:b"), None);
        state.forgive("sha256:b");
        assert!(state.why_not("sha256:a").is_some());
        state.forgive("sha256:a");
        assert_eq!(state, State::default());
    }

    #[test]
    fn a_deployment_that_proves_itself_is_bad_no_longer() {
        let mut state = State::default();
        state.set_bad("a", Bad::default());
        state.set_good("a");
        assert!(state.is_good("a") && state.bad.is_empty());
        state.keep_only(&[]);
        assert!(!state.is_good("a"));
    }

    #[test]
    fn half_a_file_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), "{\"good\": [").unwrap();
        assert_eq!(State::load_from(dir.path()).unwrap(), State::default());
    }
}
