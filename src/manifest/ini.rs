//! `*.repo` files (dnf.conf(5)): which repositories they define, and whether each could be used at all.
//! What the values mean in full is the package manager's business.

use std::collections::BTreeMap;

use super::notes::Notes;
use crate::document::Position;
use crate::failure::Failure;

/// One section of a file.
#[derive(Debug)]
struct Section {
    id: String,
    position: Position,
    values: BTreeMap<String, (Position, String)>,
}

/// The ids that a file defines, in order; what is wrong with any is noted.
pub(super) fn repositories(name: &str, text: &str, notes: &mut Notes) -> Vec<String> {
    let Some(sections) = notes.take(sections(name, text)) else { return Vec::new() };
    for section in &sections {
        let checked = check(section, &mut notes.warnings);
        notes.take(checked);
    }
    sections.into_iter().map(|section| section.id).collect()
}

fn sections(name: &str, text: &str) -> Result<Vec<Section>, Failure> {
    let mut sections: Vec<Section> = Vec::new();
    let mut main = false;
    let mut last: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let position = Position { file: name.into(), line: index + 1, column: 1 };
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            let id = header.split_once(']').map(|(id, _)| id.trim().to_owned()).unwrap_or_default();
            if id.is_empty() {
                return Err(position.failure(format_args!("`{trimmed}` names no repository"), "write `[id]`"));
            }
            main = id == "main";
            last = None;
            if !main {
                sections.push(Section { id, position, values: BTreeMap::new() });
            }
            continue;
        }
        if main {
            continue;
        }
        let Some(section) = sections.last_mut() else {
            let cause = format!("`{trimmed}` stands before the first `[id]`");
            return Err(position.failure(cause, "begin each repository with its id in brackets"));
        };
        // A line that is indented goes on with the value above it.
        if let Some((_, value)) = last.as_ref().and_then(|key| section.values.get_mut(key))
            && line.starts_with([' ', '\t'])
        {
            value.push(' ');
            value.push_str(trimmed);
            continue;
        }
        let Some((key, value)) = trimmed.split_once('=') else {
            return Err(position.failure(format_args!("`{trimmed}` is not `key=value`"), "correct the line"));
        };
        let key = key.trim().to_owned();
        section.values.insert(key.clone(), (position, value.trim().to_owned()));
        last = Some(key);
    }
    Ok(sections)
}

fn check(section: &Section, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let Section { id, position, values } = section;
    let text = |key: &str| values.get(key).map_or("", |(_, value)| value.as_str());
    if ["baseurl", "metalink", "mirrorlist"].iter().all(|key| text(key).is_empty()) {
        return Err(position.failure(
            format_args!("repository `{id}` has no address"),
            "add `baseurl=https://…`, or `metalink=` or `mirrorlist=`",
        ));
    }
    let truth =
        |key: &str, default: bool| match values.get(key) {
            None => Ok(default),
            Some((position, value)) => match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok(true),
                "0" | "false" | "no" | "off" => Ok(false),
                _ => Err(position
                    .failure(format_args!("`{key}` must be 0 or 1, found {value}"), "write `0` or `1`")),
            },
        };
    for key in ["enabled", "repo_gpgcheck", "skip_if_unavailable"] {
        truth(key, true)?;
    }
    let checked = truth("gpgcheck", true)?;
    if checked && text("gpgkey").is_empty() {
        warnings.push(format!(
            "{position}: repository `{id}` checks signatures (gpgcheck is not 0) and names no gpgkey"
        ));
    }
    if !checked {
        warnings.push(format!("{position}: packages of repository `{id}` are not verified (gpgcheck=0)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let mut notes = Notes::default();
        let ids = repositories("a.repo", text, &mut notes);
        (ids, notes.problems.iter().map(|failure| failure.cause.clone()).collect())
    }

    #[test]
    fn addresses_of_several_lines_and_a_main_section() {
        let text = "# x\n[main]\nnonsense\n[a]\nname=A\nbaseurl=https://a\n   https://b\ngpgcheck=yes\ngpgkey=x\n\
                    [ b ]\nmetalink = https://c\n";
        assert_eq!(read(text), (vec!["a".to_owned(), "b".to_owned()], Vec::new()));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let cause = |text: &str| read(text).1.join("; ");
        assert_eq!(cause("name=A\n"), "a.repo:1:1: `name=A` stands before the first `[id]`");
        assert_eq!(cause("[a\n"), "a.repo:1:1: `[a` names no repository");
        assert_eq!(cause("[a]\nbaseurl\n"), "a.repo:2:1: `baseurl` is not `key=value`");
        assert_eq!(
            cause("[a]\nname=A\n[b]\nbaseurl=x\nenabled=maybe\n"),
            "a.repo:1:1: repository `a` has no address; a.repo:5:1: `enabled` must be 0 or 1, found maybe"
        );
        let mut notes = Notes::default();
        repositories("a.repo", "[a]\nbaseurl=x\ngpgcheck=1\n", &mut notes);
        assert_eq!(
            notes.warnings,
            ["a.repo:1:1: repository `a` checks signatures (gpgcheck is not 0) and names no gpgkey"]
        );
    }
}
