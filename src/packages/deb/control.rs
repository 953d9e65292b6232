//! Control paragraphs (deb822(5)) and version numbers (deb-version(7)).

use super::super::model::Evr;

/// A paragraph of fields, borrowed from its text.
#[derive(Debug, Clone, Copy)]
pub struct Paragraph<'a> {
    text: &'a str,
}

/// The paragraphs of a text; comments and empty ones are skipped.
pub fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    text.split("\n\n").map(|text| Paragraph { text: text.trim_matches('\n') }).filter(|p| !p.text.is_empty())
}

impl<'a> Paragraph<'a> {
    /// The whole text.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// A field's value on its first line, trimmed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.text;
        loop {
            let (line, tail) = rest.split_once('\n').unwrap_or((rest, ""));
            if line.len() > name.len()
                && line.as_bytes()[name.len()] == b':'
                && line[..name.len()].eq_ignore_ascii_case(name)
            {
                return Some(line[name.len() + 1..].trim());
            }
            if tail.is_empty() {
                return None;
            }
            rest = tail;
        }
    }

    /// A field's value with its continuation lines, joined by blanks.
    #[must_use]
    pub fn get_folded(&self, name: &str) -> Option<String> {
        let mut lines = self.text.lines();
        let prefix = format!("{name}:");
        let first = lines
            .find(|line| line.len() >= prefix.len() && line[..prefix.len()].eq_ignore_ascii_case(&prefix))?;
        let mut value = first[prefix.len()..].trim().to_owned();
        for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
            value.push(' ');
            value.push_str(line.trim());
        }
        Some(value)
    }
}

/// Splits a Debian version into epoch, upstream version and revision.
#[must_use]
pub fn parse_evr(text: &str) -> Evr {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
            (epoch.parse().unwrap_or(0), rest)
        }
        _ => (0, text),
    };
    let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    Evr { epoch, version: version.to_owned(), release: release.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_continuations() {
        let text = "Package: a\nDepends: b,\n c (>= 1)\nDescription: x\n y\n\nPackage: d\n";
        let all: Vec<_> = paragraphs(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("Package"), Some("a"));
        assert_eq!(all[0].get_folded("Depends").unwrap(), "b, c (>= 1)");
        assert_eq!(all[0].get("Pack"), None);
        assert_eq!(all[1].get("package"), Some("d"));
    }

    #[test]
    fn versions() {
        for text in ["1:2.3-4-5", "2.0", "1.0+ds1-1+b19", "2025b"] {
            assert_eq!(parse_evr(text).to_string(), text);
        }
        let evr = parse_evr("1:2.3-4-5");
        assert_eq!((evr.epoch, evr.version.as_str(), evr.release.as_str()), (1, "2.3-4", "5"));
    }
}
