//! A small tree with every kind of node that a commit can hold.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Uid, XattrFlags, chownat, lsetxattr};

/// The value of a `security.capability` attribute: cap_net_raw+ep.
pub(crate) const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Writes the tree into `root`, which must not exist. Owners and capabilities need root and are else left out.
pub(crate) fn write(root: &Path) {
    for dir in ["usr/bin", "usr/lib/modules/6.12.0", "usr/share/größe", "usr/etc", "var/tmp", "empty", "a"]
    {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for link in ["bin", "lib"] {
        symlink(format!("usr/{link}"), root.join(link)).unwrap();
    }
    let file = |path: &str, bytes: &[u8], mode: u32| {
        let path = root.join(path);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    file("usr/bin/true", b"#!/bin/sh\n", 0o755);
    file("usr/bin/su", b"setuid", 0o4755);
    file("usr/bin/wall", b"setgid", 0o2755);
    file("usr/bin/ping", b"capable", 0o755);
    file("usr/etc/shadow", b"root:*:0:0::::::\n", 0o640);
    // Only root reads what its mode forbids.
    file("usr/etc/secret", b"nobody reads this", if is_root() { 0o000 } else { 0o400 });
    file("usr/etc/open", b"all write this", 0o666);
    file("usr/lib/modules/6.12.0/vmlinuz", &vec![7; 1_000_000], 0o644);
    file("usr/share/größe/naïve file", b"names", 0o644);
    file("usr/share/größe/line\nbreak", b"names", 0o644);
    file(&format!("usr/share/{}", "n".repeat(255)), b"names", 0o644);
    file("usr/share/empty", b"", 0o644);
    file("usr/share/empty-too", b"", 0o600);
    file("usr/share/xattrs", b"attributes", 0o644);
    for count in 0..70 {
        file(&format!("a/{count}"), format!("{count}").as_bytes(), 0o644);
    }
    fs::hard_link(root.join("usr/bin/true"), root.join("usr/bin/verity")).unwrap();
    fs::hard_link(root.join("usr/bin/true"), root.join("a/linked")).unwrap();
    symlink("no/such//target", root.join("usr/share/dangling")).unwrap();
    symlink("größe", root.join("usr/share/groesse")).unwrap();
    symlink("x".repeat(150), root.join("usr/share/long")).unwrap();
    fs::set_permissions(root.join("var/tmp"), Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o700)).unwrap();

    let attribute = |path: &str, name: &str, value: &[u8]| {
        lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    attribute("usr/share/xattrs", "user.zeta", b"z");
    attribute("usr/share/xattrs", "user.alpha", &[b'a'; 2_000]);
    attribute("usr/share/xattrs", "user.empty", b"");
    attribute("empty", "user.dir", b"on a directory");
    if is_root() {
        let own = |path: &str, uid: u32, gid: u32| {
            let path = root.join(path);
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            let mode = fs::symlink_metadata(&path).unwrap().permissions();
            chownat(CWD, &path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            if !path.is_symlink() {
                fs::set_permissions(&path, mode).unwrap();
            }
        };
        own("usr/etc/shadow", 0, 42);
        own("usr/bin/wall", 0, 5);
        own("empty", 1000, 1000);
        // More than a tar header holds, if this user namespace has that many.
        let link = root.join("usr/share/groesse");
        let (uid, gid) = (Some(Uid::from_raw(65_534)), Some(Gid::from_raw(3_000_000)));
        if chownat(CWD, &link, uid, gid, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            own("usr/share/groesse", 65_534, 60_000);
        }
        attribute("usr/bin/ping", "security.capability", &CAPABILITY);
    }
}
