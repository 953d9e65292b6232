//! check-passwd and check-groups: the accounts a system must have, from passwd(5) and group(5) files or
//! from entries in the treefile, every one checked and with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::include::Walk;
use super::model::{AccountCheck, Group, User};
use super::source::Source;
use crate::document::{Entry, Map, Node, Position, Value};
use crate::failure::Failure;

/// Accounts of one kind.
pub(super) trait Account: Sized {
    /// What a file of them is called.
    const FILE: &'static str;
    /// What a line looks like.
    const FORM: &'static str;
    /// Fields of a line.
    const FIELDS: usize;
    /// From the fields of a line, the name checked.
    fn of_line(fields: &[&str], origin: String) -> Result<Self, String>;
    /// From the numbers of an entry in the treefile.
    fn of_entry(name: String, ids: &[u32], origin: String) -> Option<Self>;
}

impl Account for User {
    const FILE: &'static str = "passwd";
    const FORM: &'static str = "`name:x:uid:gid:comment:home:shell`";
    const FIELDS: usize = 7;

    fn of_line(fields: &[&str], origin: String) -> Result<Self, String> {
        let text = |at: usize| fields.get(at).copied().unwrap_or_default().to_owned();
        let (home, shell) = (text(5), text(6));
        if !home.starts_with('/') {
            return Err(format!("the home directory `{home}` is not an absolute path"));
        }
        Ok(Self {
            name: text(0),
            uid: id("uid", &text(2))?,
            gid: id("gid", &text(3))?,
            comment: text(4),
            home: Some(home),
            shell: Some(shell).filter(|shell| !shell.is_empty()),
            origin,
        })
    }

    fn of_entry(name: String, ids: &[u32], origin: String) -> Option<Self> {
        let (uid, gid) = match ids {
            [id] => (*id, *id),
            [uid, gid] => (*uid, *gid),
            _ => return None,
        };
        Some(Self { name, uid, gid, comment: String::new(), home: None, shell: None, origin })
    }
}

impl Account for Group {
    const FILE: &'static str = "group";
    const FORM: &'static str = "`name:x:gid:members`";
    const FIELDS: usize = 4;

    fn of_line(fields: &[&str], origin: String) -> Result<Self, String> {
        let text = |at: usize| fields.get(at).copied().unwrap_or_default();
        let members = text(3).split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        Ok(Self { name: text(0).to_owned(), gid: id("gid", text(2))?, members, origin })
    }

    fn of_entry(name: String, ids: &[u32], origin: String) -> Option<Self> {
        let [gid] = ids else { return None };
        Some(Self { name, gid: *gid, members: Vec::new(), origin })
    }
}

/// Reads the value of `key`, which is `check-passwd` or `check-groups`.
pub(super) fn check<A: Account>(
    key: &str,
    node: &Node,
    walk: &mut Walk<'_>,
    source: &dyn Source,
) -> Result<AccountCheck<A>, Failure> {
    let map = node.map(key)?;
    map.only(&["type", "filename", "filenames", "entries"])?;
    let Some(kind) = map.get("type") else {
        return Err(node.position.failure(
            format_args!("`{key}` lacks `type`"),
            "add `type: file`, `data`, `previous` or `none`",
        ));
    };
    match kind.text("type")? {
        "none" => Ok(AccountCheck::None),
        "previous" => Ok(AccountCheck::Previous),
        "file" => of_files(key, node, map, walk, source),
        "data" => {
            let Some(entries) = map.get("entries") else {
                return Err(node.position.failure(
                    format_args!("`{key}` has type data and lacks `entries`"),
                    "add `entries: {name: id}`",
                ));
            };
            let entries = entries.map("entries")?.entries.iter().map(of_entry).collect::<Result<_, _>>()?;
            Ok(AccountCheck::Data { entries })
        }
        _ => Err(kind.expected("type", "one of none, previous, file, data", "choose one of them")),
    }
}

fn of_files<A: Account>(
    key: &str,
    node: &Node,
    map: &Map,
    walk: &mut Walk<'_>,
    source: &dyn Source,
) -> Result<AccountCheck<A>, Failure> {
    let mut names = Vec::new();
    if let Some(name) = map.get("filename") {
        name.text("filename")?;
        names.push(name);
    }
    if let Some(list) = map.get("filenames") {
        list.texts("filenames")?;
        names.extend(list.list("filenames")?);
    }
    if names.is_empty() {
        return Err(node.position.failure(
            format_args!("`{key}` has type file and lacks `filename`"),
            format!("add `filename: {}`, relative to this treefile", A::FILE),
        ));
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut entries = Vec::new();
    let mut seen = BTreeMap::new();
    for name in names {
        let path = walk.beside(&name.position, name.text("filename")?);
        let text = source.read(&path).map_err(|error| walk.unreadable_file(&path, &name.position, &error))?;
        parse(&walk.name(&path), &text, &mut seen, &mut entries)?;
        walk.files.push(path.clone());
        paths.push(path);
    }
    Ok(AccountCheck::File { paths, entries })
}

/// The accounts of a passwd or group file; `seen` has the place of each name.
fn parse<A: Account>(
    file: &str,
    text: &str,
    seen: &mut BTreeMap<String, Position>,
    entries: &mut Vec<A>,
) -> Result<(), Failure> {
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let position = Position { file: file.into(), line: index + 1, column: 1 };
        let wrong = |cause: String| position.failure(cause, format!("write {}", A::FORM));
        let fields: Vec<&str> = line.split(':').collect();
        if fields.len() != A::FIELDS {
            return Err(wrong(format!(
                "a line of a {} file has {} fields, found {}: {line}",
                A::FILE,
                A::FIELDS,
                fields.len()
            )));
        }
        let name = fields.first().copied().unwrap_or_default();
        name_is_good(name).map_err(wrong)?;
        if let Some(first) = seen.insert(name.to_owned(), position.clone()) {
            return Err(position.failure(
                format_args!("`{name}` stands twice; the first time at {first}"),
                "remove one of the two lines",
            ));
        }
        entries.push(A::of_line(&fields, position.line()).map_err(wrong)?);
    }
    Ok(())
}

fn of_entry<A: Account>(entry: &Entry) -> Result<A, Failure> {
    let Entry { key: name, position, value } = entry;
    let cure = format!("write `{name}: 42`, or `{name}: [42, 43]` for a user and its group");
    name_is_good(name).map_err(|cause| position.failure(cause, "correct the name"))?;
    let numbers = match &value.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let ids: Option<Vec<u32>> = numbers
        .iter()
        .map(|node| match node.value {
            Value::Integer(number) => u32::try_from(number).ok(),
            _ => None,
        })
        .collect();
    ids.and_then(|ids| A::of_entry(name.clone(), &ids, position.line()))
        .ok_or_else(|| value.expected(&format!("entries.{name}"), "a numeric id", cure))
}

/// What shadow's useradd accepts, and the capitals and dots that some packages' users have.
fn name_is_good(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$".contains(c)) {
        return Ok(());
    }
    Err(format!("`{name}` is not an account's name"))
}

fn id(what: &str, text: &str) -> Result<u32, String> {
    match text.parse() {
        // The last one means "no id" to the kernel.
        Ok(number) if number != u32::MAX => Ok(number),
        _ => Err(format!("the {what} `{text}` is not a number from 0 to 4294967294")),
    }
}

impl Walk<'_> {
    /// The path that a value standing at `position` names: relative to the file it stands in.
    pub(super) fn beside(&self, position: &Position, path: &str) -> PathBuf {
        self.dir().join(Path::new(&*position.file).with_file_name("")).join(path)
    }
}
