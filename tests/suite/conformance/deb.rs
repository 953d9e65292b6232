//! Debs, written here (deb(5)), in a repository signed with a key of the test's own.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use nosa::host::Cmd;
use nosa::packages::{Apt, LocalPackage, Mirrors, PackageBackend, Repository, Supply};
use nosa::pipeline::{Digest, sha256_file};

use super::Format;
use super::package::{Content, Made};

/// Debs.
pub(crate) struct Debs;

fn arch() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

fn control(package: &Made) -> String {
    let mut text = format!(
        "Package: {}\nVersion: {}-1\nArchitecture: {}\nMaintainer: Test <test@test.invalid>\nDescription: a test\n",
        package.name,
        package.version,
        arch()
    );
    if package.essential {
        text.push_str("Essential: yes\n");
    }
    if !package.depends.is_empty() {
        text.push_str(&format!("Depends: {}\n", package.depends.join(", ")));
    }
    if !package.recommends.is_empty() {
        text.push_str(&format!("Recommends: {}\n", package.recommends.join(", ")));
    }
    text
}

fn header(path: &str, mode: u32, kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(format!("./{}", path.trim_start_matches('/'))).unwrap();
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mtime(1_600_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn data(package: &Made) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for item in &package.items {
        let (kind, bytes): (_, &[u8]) = match &item.content {
            Content::File(bytes) => (tar::EntryType::Regular, bytes),
            Content::Link(_) => (tar::EntryType::Symlink, &[]),
            Content::Dir => (tar::EntryType::Directory, &[]),
        };
        let mut header = header(&item.path, item.mode, kind, bytes.len());
        if let Content::Link(target) = &item.content {
            header.set_link_name(target).unwrap();
        }
        header.set_uid(item.owner.1.into());
        header.set_gid(item.owner.1.into());
        header.set_username(item.owner.0).unwrap();
        header.set_groupname(item.owner.0).unwrap();
        header.set_cksum();
        archive.append(&header, bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

impl Format for Debs {
    const ENDING: &'static str = "deb";

    fn write(dir: &Path, package: &Made) -> PathBuf {
        let mut files = vec![("control", control(package), 0o644)];
        let mut post = package.post.clone();
        if let Some(file) = &package.raw_socket {
            post = format!("setcap cap_net_raw=ep {file}\n{post}");
        }
        for (name, text) in [("preinst", &package.pre), ("postinst", &post)] {
            if !text.is_empty() {
                files.push((name, format!("#!/bin/sh\nset -e\n{text}\n"), 0o755));
            }
        }
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text, mode) in &files {
            let mut header = header(name, *mode, tar::EntryType::Regular, text.len());
            header.set_cksum();
            archive.append(&header, text.as_bytes()).unwrap();
        }
        let path = dir.join(format!("{}_{}-1_{}.deb", package.name, package.version, arch()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"!<arch>\n").unwrap();
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", archive.into_inner().unwrap()),
            ("data.tar", data(package)),
        ];
        for (name, bytes) in members {
            let size = bytes.len();
            writeln!(file, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644").unwrap();
            file.write_all(&bytes).unwrap();
            if size % 2 == 1 {
                file.write_all(b"\n").unwrap();
            }
        }
        path
    }

    fn publish(dir: &Path) {
        let mut index = String::new();
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "deb")) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let control = Cmd::program("dpkg-deb").arg("--field").arg(path).output().unwrap().text();
            let (size, sha256) = (std::fs::metadata(path).unwrap().len(), sha256_file(path).unwrap());
            index.push_str(&format!(
                "{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sha256}\n\n",
                control.trim_end()
            ));
        }
        std::fs::write(dir.join("Packages"), &index).unwrap();
        let release = format!(
            "Origin: Test\nSuite: test\nCodename: test\nDate: Sat, 01 Aug 2026 10:00:00 UTC\nSHA256:\n {} {} Packages\n",
            Digest::of(&index),
            index.len()
        );
        std::fs::write(dir.join("Release"), release).unwrap();
        let home = dir.join("gnupg");
        let gpg = |args: &[&str]| {
            Cmd::program("gpg")
                .arg("--homedir")
                .arg(&home)
                .args(["--batch", "--yes", "--quiet"])
                .args(args.iter().copied())
        };
        if !home.is_dir() {
            std::fs::create_dir(&home).unwrap();
            std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            gpg(&["--passphrase", "", "--quick-gen-key", "test@test.invalid", "rsa2048", "sign", "never"])
                .run()
                .unwrap();
            gpg(&["--output"]).arg(dir.join("key.gpg")).arg("--export").run().unwrap();
        }
        gpg(&["--clearsign", "--output"]).arg(dir.join("InRelease")).arg(dir.join("Release")).run().unwrap();
        let text = format!("Types: deb\nURIs: file:{}\nSuites: ./\nSigned-By: key.gpg\n", dir.display());
        std::fs::write(dir.join("test.sources"), text).unwrap();
    }

    fn backend(state: &Path, repo: &Path, overrides: Vec<LocalPackage>) -> Box<dyn PackageBackend> {
        std::fs::create_dir_all(state).unwrap();
        let path = repo.join("test.sources");
        let repository =
            Repository::new("test", &path, std::fs::read_to_string(&path).unwrap(), Supply::All).unwrap();
        let (downloads, log) = (state.join("downloads"), state.join("log"));
        let arch = std::env::consts::ARCH;
        Box::new(
            Apt::new(
                state,
                &downloads,
                &log,
                arch,
                vec![repository],
                Vec::new(),
                (Mirrors::default(), overrides),
            )
            .unwrap(),
        )
    }
}
