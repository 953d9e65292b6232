//! Which of the tests run: name patterns, tags, filters, denylist, shards. A test that was meant but does
//! not run is skipped with its reason.

use glob::{MatchOptions, Pattern};

use crate::failure::{Failure, Kind};

use super::denylist::{Circumstances, Denylist, Verdict};
use super::discovery::Test;

/// What the user asks for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Name patterns; none means all.
    pub patterns: Vec<String>,
    /// Tags, `!tag` for those to leave out.
    pub tags: Vec<String>,
    /// More patterns that must not run.
    pub denied: Vec<String>,
    /// The distribution of the image, which tests may name.
    pub distro: String,
    /// The share of the tests to run.
    pub shard: Option<Shard>,
}

/// A share of the tests: `hash:m/n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    part: u64,
    parts: u64,
}

/// A test and whether it is to run.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The test.
    pub test: Test,
    /// The denylist's word, or why it is skipped.
    pub verdict: Verdict,
}

impl Shard {
    /// Reads `hash:m/n`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let numbers = text.strip_prefix("hash:").and_then(|rest| rest.split_once('/'));
        let shard = numbers.and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
        match shard {
            Some((part, parts)) if (1..=parts).contains(&part) => Ok(Self { part, parts }),
            _ => Err(Failure::new(Kind::Usage, format!("`{text}` is no share"), "write it as hash:1/3")),
        }
    }

    fn has(self, name: &str) -> bool {
        fnv64(name) % self.parts + 1 == self.part
    }
}

/// Chooses among `tests`; those that the user did not mean are left out altogether.
pub fn select(
    tests: Vec<Test>,
    selection: &Selection,
    denylist: &Denylist,
    now: &Circumstances,
) -> Result<Vec<Selected>, Failure> {
    for pattern in selection.patterns.iter().chain(&selection.denied) {
        Pattern::new(pattern).map_err(|error| {
            Failure::new(Kind::Usage, format!("`{pattern}` is no pattern: {error}"), "use *, ? and [a-z]")
        })?;
    }
    if let Some(pattern) =
        selection.patterns.iter().find(|pattern| !tests.iter().any(|test| matches(pattern, &test.name)))
    {
        return Err(Failure::new(
            Kind::Usage,
            format!("no test is called `{pattern}`"),
            "`nosa kola list` shows all tests",
        ));
    }
    Ok(tests
        .into_iter()
        .filter(|test| selection.means(test))
        .map(|test| {
            let verdict = selection.judge(&test, denylist, now);
            Selected { test, verdict }
        })
        .collect())
}

impl Selected {
    /// The test and its verdict for machines.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let (verdict, reason) = match &self.verdict {
            Verdict::Run => ("run", ""),
            Verdict::Warn(why) => ("warn", why.as_str()),
            Verdict::Skip(why) => ("skip", why.as_str()),
        };
        let header = &self.test.header;
        serde_json::json!({
            "name": self.test.name,
            "description": header.description,
            "tags": header.tags,
            "exclusive": header.exclusive,
            "timeoutMin": header.timeout_min,
            "verdict": verdict,
            "reason": reason,
        })
    }
}

impl Selection {
    fn means(&self, test: &Test) -> bool {
        let named =
            self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(pattern, &test.name));
        let has = |tag: &str| test.header.tags.iter().any(|own| own == tag);
        let (unwanted, wanted): (Vec<_>, Vec<_>) = self.tags.iter().partition(|tag| tag.starts_with('!'));
        let tagged = wanted.is_empty() || wanted.iter().any(|tag| has(tag));
        let clean = !unwanted.iter().any(|tag| has(tag.trim_start_matches('!')));
        let required = test.header.required_tag.as_ref().is_none_or(|tag| wanted.contains(&tag));
        named && tagged && clean && required && self.shard.is_none_or(|shard| shard.has(&test.name))
    }

    fn judge(&self, test: &Test, denylist: &Denylist, now: &Circumstances) -> Verdict {
        let header = &test.header;
        let skip = |why: String| Verdict::Skip(why);
        if !header.architectures.admits(&now.arch) {
            return skip(format!("not for {}", now.arch));
        }
        if !header.platforms.admits(&now.platform) {
            return skip(format!("not for platform {}", now.platform));
        }
        if !header.distros.admits(&self.distro) {
            return skip(format!("not for distribution {}", self.distro));
        }
        if let Some(why) = &header.unsupported {
            return skip(why.clone());
        }
        if self.denied.iter().any(|pattern| matches(pattern, &test.name)) {
            return skip("denied on the command line".to_owned());
        }
        denylist.verdict(&test.name, now)
    }
}

/// Whether a pattern matches a name, as a path is matched: `*` stops at `/`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(name, options))
}

/// FNV-1, 64 bits.
fn fnv64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::super::discovery::Body;
    use super::super::header::{Filter, Header};
    use super::*;

    fn test(name: &str, header: Header) -> Test {
        Test { name: name.into(), header, body: Body::Basic }
    }

    fn tests() -> Vec<Test> {
        let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
        vec![
            test("basic", Header::default()),
            test("ext.a.one", Header { tags: tags(&["net"]), ..Header::default() }),
            test("ext.a.two", Header { architectures: Filter::parse("!x86_64"), ..Header::default() }),
            test(
                "ext.b.three",
                Header { required_tag: Some("slow".into()), tags: tags(&["slow"]), ..Header::default() },
            ),
        ]
    }

    fn names(selection: &Selection) -> Vec<String> {
        let now = Circumstances { arch: "x86_64".into(), ..Circumstances::default() };
        let selected = select(tests(), selection, &Denylist::default(), &now).unwrap();
        selected
            .into_iter()
            .map(|selected| match selected.verdict {
                Verdict::Skip(why) => format!("{}: {why}", selected.test.name),
                _ => selected.test.name,
            })
            .collect()
    }

    fn with(patterns: &[&str], tags: &[&str]) -> Selection {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Selection { patterns: own(patterns), tags: own(tags), ..Selection::default() }
    }

    #[test]
    fn patterns_tags_and_filters() {
        assert_eq!(names(&with(&[], &[])), ["basic", "ext.a.one", "ext.a.two: not for x86_64"]);
        assert_eq!(names(&with(&["ext.a.o*", "basic"], &[])), ["basic", "ext.a.one"]);
        assert_eq!(names(&with(&[], &["net"])), ["ext.a.one"]);
        assert_eq!(names(&with(&["ext.*"], &["!net"])), ["ext.a.two: not for x86_64"]);
        assert_eq!(names(&with(&[], &["slow"])), ["ext.b.three"]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let result = select(tests(), &with(&["nope"], &[]), &Denylist::default(), &Circumstances::default());
        assert!(result.unwrap_err().cause.contains("no test is called `nope`"));
    }

    #[test]
    fn the_shares_are_a_partition() {
        let all: usize = (1..=3)
            .map(|part| {
                let shard = Some(Shard::parse(&format!("hash:{part}/3")).unwrap());
                names(&Selection { shard, ..with(&[], &["!none"]) }).len()
            })
            .sum();
        assert_eq!(all, 3);
        assert!(Shard::parse("hash:4/3").is_err() && Shard::parse("1/3").is_err());
        // The published test vector of FNV-1 for "foobar".
        assert_eq!(fnv64("foobar"), 0x340d_8765_a4dd_a9c2);
    }
}
