//! Rules about /etc: the image's half of a merge with each machine's own.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::view::{NodeKind, View};
use super::{Found, Known, NAMED};

pub(super) fn usr_etc(view: &View, _: &Known) -> Option<Found> {
    let files = view.below("usr/etc").filter(|(_, node)| node.kind != NodeKind::Directory);
    let cause = "/usr/etc is where a machine keeps the image's /etc: what a Containerfile writes there is confused with it";
    Found::about(files, cause, "write it to /etc")
}

pub(super) fn machine_id(view: &View, _: &Known) -> Option<Found> {
    let id = view.get("etc/machine-id")?;
    let same = id.text.as_deref().is_some_and(|text| !matches!(text.trim(), "" | "uninitialized"));
    let cause = "every machine would have the same identity";
    same.then(|| Found::about([(Path::new("etc/machine-id"), id)], cause, "RUN rm /etc/machine-id"))?
}

pub(super) fn ssh_host_key(view: &View, _: &Known) -> Option<Found> {
    let is_key = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ssh_host_") && name.ends_with("_key")
    };
    let keys = view.below("etc/ssh").filter(|(path, _)| is_key(path));
    let cause = "every machine would have the same SSH host keys, and whoever has the image has them too";
    Found::about(keys, cause, "RUN rm -f /etc/ssh/ssh_host_*; each machine makes its own")
}

/// Users that only /etc/passwd knows: a machine that changed its /etc/passwd keeps its own, without them.
pub(super) fn users(view: &View, known: &Known) -> Option<Found> {
    if !view.has_base() {
        return None;
    }
    let mut lines = Vec::new();
    let mut found = Found::default();
    for (file, kind) in [("etc/passwd", "u"), ("etc/group", "g")] {
        let Some(node) = view.get(file).filter(|node| view.is_added(node)) else { continue };
        let names = |text: Option<&str>| -> BTreeSet<String> {
            let lines = text.unwrap_or_default().lines();
            lines.filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
        };
        let before = names(view.before(file).and_then(|node| node.text.as_deref()));
        let now = names(node.text.as_deref());
        for name in now.difference(&before).filter(|name| !name.is_empty() && !known.has_account(name)) {
            // A user's group comes with the user.
            if !lines.contains(&format!("u {name} -")) {
                lines.push(format!("{kind} {name} -"));
            }
        }
        found.paths.push(format!("/{file}"));
    }
    if lines.is_empty() {
        return None;
    }
    found.count = lines.len();
    let shown = lines.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    found.cause = format!(
        "accounts exist in the image's /etc only ({shown}): a machine that has a user of its own keeps its own files"
    );
    found.cure = "write such lines into /usr/lib/sysusers.d/NAME.conf".into();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;

    #[test]
    fn identities_do_not_belong_into_images() {
        assert_eq!(found(&["etc/machine-id=0123"]), [("machine-id", "/etc/machine-id".to_owned())]);
        assert_eq!(found(&["etc/machine-id=uninitialized\n"]), []);
        let key = "etc/ssh/ssh_host_ed25519_key";
        assert_eq!(found(&[key, "etc/ssh/ssh_host_ed25519_key.pub"]), [("ssh-host-key", format!("/{key}"))]);
        assert_eq!(found(&["usr/etc/a.conf"]), [("usr-etc", "/usr/etc/a.conf".to_owned())]);
    }

    #[test]
    fn new_users_want_sysusers() {
        let passwd = "etc/passwd=root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/false";
        let group = "etc/group=web:x:33:";
        assert_eq!(found(&[passwd, group])[0].0, "users-without-sysusers");
        assert_eq!(found(&[passwd, group, "usr/lib/sysusers.d/web.conf=u web 33 - /"]), []);
        assert_eq!(found(&["etc/passwd=root:x:0:0::/root:/bin/bash"]), []);
    }
}
