//! The header of a test: `# kola: {json}` on one line, or `## kola:` and `## ` lines of YAML. Pure text
//! to value; every complaint names the file and the line.

use std::path::Path;

use crate::document::{self, Map, Node, Position};
use crate::failure::Failure;
use crate::vm::DiskSpec;

/// A header must begin within this many bytes, as kola has it.
const SEARCHED: usize = 8192;

const JSON_MARK: &str = "# kola:";
const YAML_MARK: &str = "## kola:";

const KEYS: &[&str] = &[
    "architectures",
    "platforms",
    "distros",
    "tags",
    "requiredTag",
    "exclusive",
    "conflicts",
    "timeoutMin",
    "minMemory",
    "minDisk",
    "additionalNics",
    "additionalDisks",
    "primaryDisk",
    "appendKernelArgs",
    "appendFirstbootKernelArgs",
    "injectContainer",
    "allowConfigWarnings",
    "noInstanceCreds",
    "description",
    "numaNodes",
    "instanceType",
    "bindMountHostRO",
    "creationDate",
    "bootFrom",
    "requiredHostPorts",
];

/// What a test says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// One line about it.
    pub description: String,
    /// Architectures it runs on.
    pub architectures: Filter,
    /// Platforms it runs on.
    pub platforms: Filter,
    /// Distributions it runs on.
    pub distros: Filter,
    /// Its tags.
    pub tags: Vec<String>,
    /// The tag without which it does not run.
    pub required_tag: Option<String>,
    /// Whether it needs a machine for itself.
    pub exclusive: bool,
    /// Tests that it must not share a machine with.
    pub conflicts: Vec<String>,
    /// How long it may take, in minutes.
    pub timeout_min: Option<u64>,
    /// What its machine must have.
    pub needs: Needs,
    /// Why nosa cannot give it what it asks for.
    pub unsupported: Option<String>,
}

/// What a test's machine must have beyond the ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// Size of the primary disk in GiB.
    pub disk_gib: Option<u32>,
    /// Network interfaces beside the first.
    pub nics: u32,
    /// Disks beside the primary one.
    pub disks: Vec<DiskSpec>,
    /// How the primary disk differs.
    pub primary: Option<DiskSpec>,
    /// Kernel arguments of every boot.
    pub kernel_arguments: String,
    /// Kernel arguments of the first boot.
    pub firstboot_kernel_arguments: String,
    /// Guest ports that the host must reach.
    pub ports: Vec<u16>,
}

/// A space-separated list that names what is meant or, after a `!`, what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    words: Vec<String>,
    excluding: bool,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            description: String::new(),
            architectures: Filter::default(),
            platforms: Filter::default(),
            distros: Filter::default(),
            tags: Vec::new(),
            required_tag: None,
            exclusive: true,
            conflicts: Vec::new(),
            timeout_min: None,
            needs: Needs::default(),
            unsupported: None,
        }
    }
}

impl Filter {
    /// Reads a list; `!` before it makes it one of exclusions.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (excluding, list) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Self { words: list.split_whitespace().map(str::to_owned).collect(), excluding }
    }

    /// Whether `word` passes.
    #[must_use]
    pub fn admits(&self, word: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|known| known == word) != self.excluding
    }
}

/// Reads the header of a test's text; a test without one has the default header.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Header, Failure> {
    let Some((line, yaml)) = find(text) else { return Ok(Header::default()) };
    // The lines before the header are kept empty, so that the parser's places are the file's.
    let padded = format!("{}{yaml}", "\n".repeat(line));
    let name = path.display().to_string();
    let node = document::parse(&name, &padded)?;
    if node.is_null() {
        return Ok(Header::default());
    }
    let map = node.map("a kola header")?;
    map.only(KEYS)?;
    let header = read(map)?;
    if !header.exclusive && header.needs != Needs::default() {
        return Err(node.position.failure(
            "a test with `exclusive: false` shares its machine and cannot ask for memory, disks, interfaces, ports or kernel arguments",
            "remove `exclusive: false`, or those keys",
        ));
    }
    Ok(header)
}

/// The header's text, with as many blanks as its comment signs took, and the lines before it.
fn find(text: &[u8]) -> Option<(usize, String)> {
    let text = String::from_utf8_lossy(text);
    let mut offset = 0;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if offset >= SEARCHED {
            return None;
        }
        offset += line.len() + 1;
        if let Some(json) = line.strip_prefix(JSON_MARK) {
            return Some((index, format!("{}{json}", " ".repeat(JSON_MARK.len()))));
        }
        if line.starts_with(YAML_MARK) {
            // It ends with the first other line, or with the file.
            let body =
                lines.map_while(|(_, line)| line.strip_prefix("## ")).map(|line| format!("   {line}\n"));
            return Some((index + 1, body.collect()));
        }
    }
    None
}

fn read(map: &Map) -> Result<Header, Failure> {
    let mut header = Header {
        description: text(map, "description")?,
        architectures: Filter::parse(&text(map, "architectures")?),
        platforms: Filter::parse(&text(map, "platforms")?),
        distros: Filter::parse(&text(map, "distros")?),
        tags: words(&text(map, "tags")?),
        required_tag: Some(text(map, "requiredTag")?).filter(|tag| !tag.is_empty()),
        exclusive: truth(map, "exclusive", true)?,
        conflicts: texts(map, "conflicts")?,
        timeout_min: number(map, "timeoutMin")?,
        needs: needs(map)?,
        unsupported: None,
    };
    truth(map, "allowConfigWarnings", false)?;
    truth(map, "noInstanceCreds", false)?;
    text(map, "instanceType")?;
    text(map, "creationDate")?;
    header.unsupported = unsupported(map)?;
    if let Some(tag) = &header.required_tag
        && !header.tags.contains(tag)
    {
        header.tags.push(tag.clone());
    }
    Ok(header)
}

fn needs(map: &Map) -> Result<Needs, Failure> {
    let disks = texts_at(map, "additionalDisks")?
        .into_iter()
        .map(|(place, disk)| DiskSpec::parse(&disk).map_err(|error| place.failure(error, "")))
        .collect::<Result<_, _>>()?;
    let primary = match map.get("primaryDisk") {
        Some(node) => {
            let spec = DiskSpec::parse_primary(node.text("primaryDisk")?);
            Some(spec.map_err(|error| node.position.failure(error, ""))?)
        }
        None => None,
    };
    let ports = texts_at(map, "requiredHostPorts")?
        .into_iter()
        .map(|(place, port)| port.parse().map_err(|_| place.failure(format_args!("`{port}` is no port"), "")))
        .collect::<Result<_, _>>()?;
    Ok(Needs {
        memory_mib: small(map, "minMemory")?,
        disk_gib: small(map, "minDisk")?,
        nics: small(map, "additionalNics")?.unwrap_or_default(),
        disks,
        primary,
        kernel_arguments: text(map, "appendKernelArgs")?,
        firstboot_kernel_arguments: text(map, "appendFirstbootKernelArgs")?,
        ports,
    })
}

fn unsupported(map: &Map) -> Result<Option<String>, Failure> {
    let mut why = None;
    for (key, asked) in [
        ("injectContainer", truth(map, "injectContainer", false)?),
        ("numaNodes", truth(map, "numaNodes", false)?),
        ("bootFrom", !text(map, "bootFrom")?.is_empty()),
        ("bindMountHostRO", map.get("bindMountHostRO").is_some()),
    ] {
        if asked {
            why = Some(format!("nosa's machines have no {key}"));
        }
    }
    Ok(why)
}

fn text(map: &Map, key: &str) -> Result<String, Failure> {
    map.get(key).map_or(Ok(String::new()), |node| node.text(key).map(str::to_owned))
}

fn truth(map: &Map, key: &str, default: bool) -> Result<bool, Failure> {
    map.get(key).map_or(Ok(default), |node| node.boolean(key))
}

fn number(map: &Map, key: &str) -> Result<Option<u64>, Failure> {
    map.get(key).map(|node| node.natural(key)).transpose()
}

fn small(map: &Map, key: &str) -> Result<Option<u32>, Failure> {
    let Some(node) = map.get(key) else { return Ok(None) };
    let value = node.natural(key)?;
    u32::try_from(value)
        .map(Some)
        .map_err(|_| node.position.failure(format_args!("{key} is too large: {value}"), ""))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn texts(map: &Map, key: &str) -> Result<Vec<String>, Failure> {
    Ok(texts_at(map, key)?.into_iter().map(|(_, text)| text).collect())
}

fn texts_at(map: &Map, key: &str) -> Result<Vec<(Position, String)>, Failure> {
    let Some(node) = map.get(key) else { return Ok(Vec::new()) };
    let item = |node: &Node| node.text(key).map(|text| (node.position.clone(), text.to_owned()));
    node.list(key)?.iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Header, String> {
        parse(Path::new("t/test.sh"), text.as_bytes()).map_err(|failure| failure.cause)
    }

    #[test]
    fn a_json_header() {
        let header =
            header("#!/bin/bash\n# kola: { \"exclusive\": false, \"tags\": \"a b\", \"platforms\": \"!qemu\" }\nset -e\n").unwrap();
        assert!(!header.exclusive);
        assert_eq!(header.tags, ["a", "b"]);
        assert!(!header.platforms.admits("qemu") && header.platforms.admits("aws"));
    }

    #[test]
    fn a_yaml_header() {
        let text = "#!/bin/bash\n## kola:\n##   # a comment\n##   architectures: x86_64 aarch64\n##   timeoutMin: 20\n##   additionalDisks: [\"5G:mpath\"]\n##   conflicts:\n##     - ext.config.a\n#\n# exclusive: false\n";
        let header = header(text).unwrap();
        assert!(
            header.exclusive
                && header.architectures.admits("aarch64")
                && !header.architectures.admits("ppc64le")
        );
        assert_eq!((header.timeout_min, header.needs.disks.len()), (Some(20), 1));
        assert_eq!(header.conflicts, ["ext.config.a"]);
    }

    #[test]
    fn a_yaml_header_that_ends_with_the_file_counts() {
        assert!(!header("#!/bin/sh\n## kola:\n##   exclusive: false").unwrap().exclusive);
    }

    #[test]
    fn no_header_is_the_default_header() {
        assert_eq!(header("#!/bin/bash\necho hi\n").unwrap(), Header::default());
        let late = format!("#!/bin/bash\n{}# kola: {{\"exclusive\": false}}\n", "# long\n".repeat(1300));
        assert!(header(&late).unwrap().exclusive);
    }

    #[test]
    fn complaints_name_the_place() {
        let cases = [
            ("#!/bin/sh\n## kola:\n##   exclusiv: false\n", "t/test.sh:3:6: unknown key `exclusiv`"),
            ("#!/bin/sh\n# kola: {\"tag\": \"x\"}\n", "t/test.sh:2:10: unknown key `tag`"),
            (
                "#!/bin/sh\n## kola:\n##   additionalDisks: [\"5\"]\n",
                "t/test.sh:3:24: disk `5`: `5` is no size",
            ),
            ("#!/bin/sh\n## kola:\n##   exclusive: false\n##   minMemory: 4096\n", "shares its machine"),
        ];
        for (text, expected) in cases {
            let cause = header(text).unwrap_err();
            assert!(cause.contains(expected), "{cause}");
        }
    }

    #[test]
    fn what_nosa_cannot_give_is_said() {
        let header = header("#!/bin/sh\n# kola: {\"bootFrom\": \"iso\"}\n").unwrap();
        assert_eq!(header.unsupported.as_deref(), Some("nosa's machines have no bootFrom"));
    }
}
