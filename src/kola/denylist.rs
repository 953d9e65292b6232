//! `kola-denylist.yaml`: tests that must not run, or whose failure only warns, where and until when.

use crate::document::{self, Map};
use crate::failure::Failure;

use super::selection::matches;

const KEYS: &[&str] = &[
    "pattern",
    "tracker",
    "snooze",
    "warn",
    "streams",
    "arches",
    "platforms",
    "osversion",
    "skip-console-warnings",
];

/// The entries of a denylist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denylist {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    pattern: String,
    tracker: String,
    snooze: Option<String>,
    warn: bool,
    streams: Vec<String>,
    arches: Vec<String>,
    platforms: Vec<String>,
    versions: Vec<String>,
}

/// What the denylist is asked about.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The stream of the image, empty if it has none.
    pub stream: String,
    /// The architecture.
    pub arch: String,
    /// The platform.
    pub platform: String,
    /// The version of the operating system, empty if unknown.
    pub version: String,
    /// Today, as `2026-11-23`.
    pub today: String,
}

/// What the denylist says of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Run,
    /// Run it; a failure is a warning, for this reason.
    Warn(String),
    /// Leave it out, for this reason.
    Skip(String),
}

impl Denylist {
    /// Reads a denylist; `name` is its file in complaints.
    pub fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let node = document::parse(name, text)?;
        if node.is_null() {
            return Ok(Self::default());
        }
        let entries = node.list("a denylist")?;
        let entries = entries.iter().map(|entry| read(entry.map("an entry of the denylist")?));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// What it says of the test `name`.
    #[must_use]
    pub fn verdict(&self, name: &str, now: &Circumstances) -> Verdict {
        let mut verdict = Verdict::Run;
        for entry in self.entries.iter().filter(|entry| entry.applies(now) && matches(&entry.pattern, name)) {
            if !entry.warn {
                return Verdict::Skip(entry.reason());
            }
            verdict = Verdict::Warn(entry.reason());
        }
        verdict
    }

    /// The entries whose snooze is over, one line each.
    #[must_use]
    pub fn expired(&self, today: &str) -> Vec<String> {
        let over = |entry: &&Entry| entry.snooze.as_deref().is_some_and(|until| until <= today);
        self.entries
            .iter()
            .filter(over)
            .map(|entry| {
                let until = entry.snooze.as_deref().unwrap_or_default();
                format!("the denylist's snooze of {} ended on {until}: {}", entry.pattern, entry.tracker)
            })
            .collect()
    }
}

impl Entry {
    fn applies(&self, now: &Circumstances) -> bool {
        let within = |list: &[String], word: &str| list.is_empty() || list.iter().any(|known| known == word);
        self.snooze.as_deref().is_none_or(|until| until > now.today.as_str())
            && within(&self.streams, &now.stream)
            && within(&self.arches, &now.arch)
            && within(&self.platforms, &now.platform)
            && within(&self.versions, &now.version)
    }

    fn reason(&self) -> String {
        let until = self.snooze.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
        let tracker = if self.tracker.is_empty() { String::new() } else { format!(": {}", self.tracker) };
        format!("denylist entry {}{until}{tracker}", self.pattern)
    }
}

fn read(map: &Map) -> Result<Entry, Failure> {
    map.only(KEYS)?;
    let text = |key: &str| map.get(key).map(|node| node.text(key).map(str::to_owned)).transpose();
    let list = |key: &str| -> Result<Vec<String>, Failure> {
        let Some(node) = map.get(key) else { return Ok(Vec::new()) };
        Ok(node.texts(key)?.into_iter().map(str::to_owned).collect())
    };
    let snooze = text("snooze")?;
    if let (Some(date), Some(node)) = (&snooze, map.get("snooze"))
        && !is_date(date)
    {
        return Err(node.position.failure(format_args!("`{date}` is no date"), "write it as 2026-11-23"));
    }
    let place = map.entries.first().map(|entry| entry.position.clone());
    let pattern = match (text("pattern")?, place) {
        (Some(pattern), _) => pattern,
        (None, Some(place)) => {
            return Err(place.failure("an entry without `pattern`", "name the tests it is about"));
        }
        (None, None) => String::new(),
    };
    Ok(Entry {
        pattern,
        tracker: text("tracker")?.unwrap_or_default(),
        snooze,
        warn: map.get("warn").map_or(Ok(false), |node| node.boolean("warn"))?,
        streams: list("streams")?,
        arches: list("arches")?,
        platforms: list("platforms")?,
        versions: list("osversion")?,
    })
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
- pattern: ext.config.podman.*
  tracker: https://example.org/1
  snooze: 2026-12-01
  arches: [x86_64]
- pattern: ext.config.flaky
  warn: true
- pattern: ext.config.old
  snooze: 2025-02-01
- pattern: basic/UserAdd
  platforms: [aws]
";

    fn now(today: &str) -> Circumstances {
        Circumstances {
            arch: "x86_64".into(),
            platform: "qemu".into(),
            today: today.into(),
            ..Circumstances::default()
        }
    }

    #[test]
    fn what_is_denied_where_and_until_when() {
        let list = Denylist::parse("kola-denylist.yaml", TEXT).unwrap();
        let verdict = |name: &str, today: &str| list.verdict(name, &now(today));
        assert!(
            matches!(verdict("ext.config.podman.run", "2026-11-23"), Verdict::Skip(why) if why.contains("example.org/1"))
        );
        assert_eq!(verdict("ext.config.podman.run", "2026-12-01"), Verdict::Run);
        assert!(matches!(verdict("ext.config.flaky", "2026-11-23"), Verdict::Warn(_)));
        assert_eq!(verdict("ext.config.old", "2026-11-23"), Verdict::Run);
        assert_eq!(verdict("basic/UserAdd", "2026-11-23"), Verdict::Run);
        assert_eq!(list.expired("2026-11-23").len(), 1);
    }

    #[test]
    fn wrong_entries_are_named_with_their_place() {
        let cases = [
            ("- pattern: a\n  snoze: 2026-01-01\n", "d.yaml:2:3: unknown key `snoze`"),
            ("- pattern: a\n  snooze: tomorrow\n", "d.yaml:2:11: `tomorrow` is no date"),
            ("- warn: true\n", "d.yaml:1:3: an entry without `pattern`"),
        ];
        for (text, expected) in cases {
            let cause = Denylist::parse("d.yaml", text).unwrap_err().cause;
            assert!(cause.starts_with(expected), "{cause}");
        }
        assert_eq!(Denylist::parse("d.yaml", "[]\n").unwrap(), Denylist::default());
    }
}
