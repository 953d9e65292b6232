//! /etc/nestos/update.conf: what happens by itself, and when a new deployment counts as healthy.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ostree_ext::glib::{KeyFile, KeyFileFlags};

use super::window::Window;

const FILE: &str = "/etc/nestos/update.conf";

/// What the timer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Automatic {
    /// Nothing.
    Off,
    /// Fetches; whoever reboots the machine gets the update.
    Stage,
    /// Fetches, and reboots in the window.
    Reboot,
}

/// The configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// What the timer does.
    pub automatic: Automatic,
    /// When it may reboot.
    pub window: Window,
    /// The image that `upgrade` follows on a machine that was never switched.
    pub image: Option<String>,
    /// Whether images that no key has signed are refused whatever policy.json says.
    pub require_signature: bool,
    /// How long a new deployment may take until it is up and every check has passed.
    pub health_timeout: Duration,
    /// Whether units that fail only since the update count.
    pub health_units: bool,
}

const KEYS: &[(&str, &[&str])] =
    &[("update", &["automatic", "window", "image", "signatures"]), ("health", &["timeout", "units"])];

impl Config {
    /// Reads the file; without one, the defaults.
    pub(crate) fn read() -> Result<Self> {
        let path = Path::new(FILE);
        let text = if path.exists() {
            std::fs::read_to_string(path).with_context(|| format!("reading {FILE}"))?
        } else {
            String::new()
        };
        Self::parse(&text).with_context(|| format!("reading {FILE}"))
    }

    /// Reads the file's text.
    fn parse(text: &str) -> Result<Self> {
        let file = KeyFile::new();
        file.load_from_data(text, KeyFileFlags::NONE)?;
        refuse_unknown(&file)?;
        let get = |group: &str, key: &str| -> Result<Option<String>> {
            if !file.has_group(group) || !file.has_key(group, key)? {
                return Ok(None);
            }
            Ok(Some(file.string(group, key)?.to_string()))
        };
        let automatic = match get("update", "automatic")?.as_deref() {
            None | Some("off") => Automatic::Off,
            Some("stage") => Automatic::Stage,
            Some("reboot") => Automatic::Reboot,
            Some(other) => bail!("automatic={other}: write off, stage or reboot"),
        };
        let require_signature = match get("update", "signatures")?.as_deref() {
            None | Some("policy") => false,
            Some("required") => true,
            Some(other) => bail!("signatures={other}: write policy or required"),
        };
        let health_units = match get("health", "units")?.as_deref() {
            None | Some("yes") => true,
            Some("no") => false,
            Some(other) => bail!("units={other}: write yes or no"),
        };
        let timeout = get("health", "timeout")?.unwrap_or_else(|| "600".to_owned());
        let timeout = timeout.parse().with_context(|| format!("timeout={timeout}: write seconds"))?;
        Ok(Self {
            automatic,
            window: get("update", "window")?.unwrap_or_default().parse()?,
            image: get("update", "image")?.filter(|image| !image.is_empty()),
            require_signature,
            health_timeout: Duration::from_secs(timeout),
            health_units,
        })
    }
}

/// A misspelt key would be a safety net that is not there.
fn refuse_unknown(file: &KeyFile) -> Result<()> {
    for group in file.groups().iter() {
        let Some((_, keys)) = KEYS.iter().find(|(name, _)| *name == group.as_str()) else {
            bail!("[{}] is no section: there are [update] and [health]", group.as_str());
        };
        for key in file.keys(group.as_str())?.iter() {
            if !keys.contains(&key.as_str()) {
                bail!("{} is no key of [{}]: it has {}", key.as_str(), group.as_str(), keys.join(", "));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_nothing_happens_by_itself() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.automatic, Automatic::Off);
        assert!(!config.require_signature && config.health_units && config.image.is_none());
        assert_eq!(config.health_timeout, Duration::from_secs(600));
    }

    #[test]
    fn the_file_that_ships_says_the_defaults() {
        let shipped = include_str!("../../variants/shared/debian/overlay.d/16update/etc/nestos/update.conf");
        assert_eq!(Config::parse(shipped).unwrap(), Config::parse("").unwrap());
        // Every key is in it, as a comment that only needs its mark taken away.
        let all: String = shipped
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = Config::parse(&all).unwrap();
        assert!(config.image.is_some());
        for (_, keys) in KEYS {
            for key in *keys {
                assert!(all.contains(&format!("\n{key}=")), "{key}");
            }
        }
    }

    #[test]
    fn a_misspelt_key_or_value_is_refused() {
        for (text, word) in [
            ("[update]\nautomatik=reboot\n", "automatik"),
            ("[updates]\n", "[updates]"),
            ("[update]\nautomatic=yes\n", "off, stage or reboot"),
            ("[update]\nwindow=2-4\n", "02:00-04:00"),
            ("[update]\nsignatures=on\n", "policy or required"),
            ("[health]\ntimeout=5m\n", "write seconds"),
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
