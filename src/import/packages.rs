//! The packages of a Debian system, from dpkg's own list: what an image was derived from says no longer which
//! they are.

use anyhow::Result;

use super::tree::{Dir, Node};
use crate::ostree::{Incoming, PackageEntry};

/// Where dpkg's list may be: in an image that keeps it below /usr, or at its usual place.
const PLACES: &[&str] = &["usr/lib/sysimage/dpkg/status", "var/lib/dpkg/status"];
/// The largest list that is read.
const LARGEST: u64 = 64 << 20;

/// The installed packages, sorted; `None` where dpkg has no list.
pub(super) fn read(root: &Dir, incoming: &Incoming) -> Result<Option<Vec<PackageEntry>>> {
    for place in PLACES {
        if let Some(Node::File(checksum)) = root.find(place) {
            let bytes = incoming.content(*checksum, LARGEST)?;
            return Ok(Some(parse(&String::from_utf8_lossy(&bytes))));
        }
    }
    Ok(None)
}

fn parse(status: &str) -> Vec<PackageEntry> {
    let mut found: Vec<PackageEntry> = status.split("\n\n").filter_map(entry).collect();
    found.sort();
    found
}

/// A package, if it is installed.
fn entry(paragraph: &str) -> Option<PackageEntry> {
    let get = |name: &str| {
        let value = |line: &'_ str| -> Option<String> {
            Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned())
        };
        paragraph.lines().find_map(value)
    };
    if !get("Status")?.ends_with(" installed") {
        return None;
    }
    let version = get("Version")?;
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", &version));
    let (upstream, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    Some(PackageEntry {
        name: get("Package")?,
        epoch: epoch.parse().unwrap_or(0),
        version: upstream.to_owned(),
        release: release.to_owned(),
        arch: get("Architecture")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_and_their_versions() {
        let status = "Package: zsh\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.9\n\n\
                      Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:5.2-rc-2+b1\n\
                      Description: x\n Version: 9\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n";
        let found: Vec<_> = parse(status)
            .into_iter()
            .map(|entry| (entry.name, entry.epoch, entry.version, entry.release))
            .collect();
        let expected = [("bash", 1, "5.2-rc", "2+b1"), ("zsh", 0, "5.9", "")];
        assert_eq!(
            found,
            expected.map(|(name, epoch, v, r)| (name.to_owned(), epoch, v.to_owned(), r.to_owned()))
        );
    }
}
