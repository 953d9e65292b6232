//! A working directory with small builds that were made here and now, as the record has them.

use std::fs;
use std::path::{Path, PathBuf};

use nosa::builds::{Artifact, Build, BuildLock, ConfigSource, EmbeddedFile, Meta, Workdir};
use nosa::host::Cmd;
use nosa::pipeline::Digest;
use serde_json::{Value, json};

use crate::fixture::{nosa, refused, said};

/// The working directory; it goes when dropped.
pub(crate) struct Small {
    /// Where it is.
    pub(crate) dir: PathBuf,
    /// The working directory as the library has it.
    pub(crate) workdir: Workdir,
    _place: tempfile::TempDir,
}

impl Small {
    pub(crate) fn new() -> Self {
        let place = tempfile::Builder::new().prefix("nosa-small-").tempdir().unwrap();
        let dir = place.path().canonicalize().unwrap().join("w");
        let file = |path, text: &'static str| EmbeddedFile { path, mode: 0o644, bytes: text.as_bytes() };
        let files = [
            file(
                "manifest.yaml",
                "ref: os/x/stable\nrojig: {name: os, summary: OS, license: MIT}\n\
                 automatic-version-prefix: '1'\nrepos: [debian]\npackages: [bash]\n",
            ),
            file("image.yaml", "size: 10\ncompressor: xz\n"),
            file("debian.sources", "Types: deb\nURIs: http://127.0.0.1:1/\nSuites: x\nComponents: main\n"),
        ];
        let workdir = Workdir::init(&dir, false, None, ConfigSource::Embedded(&files)).unwrap();
        Self { dir, workdir, _place: place }
    }

    /// Publishes a build with the artifacts `ostree` and those given: name, what follows `os-ID-`, bytes.
    pub(crate) fn publish(&self, id: &str, artifacts: &[(&str, &str, &[u8])]) -> Build {
        self.publish_with(id, artifacts, |_, _| {})
    }

    /// As [`Self::publish`]; `change` may change meta.json and commitmeta.json before.
    pub(crate) fn publish_with(
        &self,
        id: &str,
        artifacts: &[(&str, &str, &[u8])],
        change: impl FnOnce(&mut Meta, &mut Value),
    ) -> Build {
        self.publish_for("x86_64", id, artifacts, change)
    }

    /// As [`Self::publish_with`], for another architecture.
    pub(crate) fn publish_for(
        &self,
        arch: &str,
        id: &str,
        artifacts: &[(&str, &str, &[u8])],
        change: impl FnOnce(&mut Meta, &mut Value),
    ) -> Build {
        let lock = self.lock();
        self.workdir.recover(&lock).unwrap();
        let staging = self.workdir.stage(&lock, id, arch).unwrap();
        let commit = format!("the commit of {id}");
        fs::write(staging.path().join("ostree-commit-object"), &commit).unwrap();
        let mut meta = Meta {
            buildid: id.to_owned(),
            name: "os".to_owned(),
            reference: Some("os/x/stable".to_owned()),
            ostree_version: id.to_owned(),
            ostree_commit: Digest::of(&commit).to_string(),
            ostree_content_checksum: Some("d".repeat(64)),
            rpm_ostree_inputhash: Some("e".repeat(64)),
            ostree_timestamp: "2020-01-15T19:31:31Z".to_owned(),
            basearch: Some(arch.to_owned()),
            ..Meta::default()
        };
        let mut commit_meta = json!({
            "version": id, "rpmostree.inputhash": "e".repeat(64),
            "rpmostree.rpmdb.pkglist": [["bash", "0", "5.2", "3", "amd64"]]
        });
        let archive = format!("the archive of {id}");
        let mut all = vec![("ostree", "ostree.x86_64.ociarchive", archive.as_bytes())];
        all.extend_from_slice(artifacts);
        for (name, suffix, bytes) in all {
            let path = format!("os-{id}-{suffix}");
            fs::write(staging.path().join(&path), bytes).unwrap();
            let artifact = Artifact {
                path,
                sha256: Digest::of(bytes).to_string(),
                size: Some(bytes.len() as u64),
                skip_compression: (name == "ostree").then_some(true),
                ..Artifact::default()
            };
            meta.images.insert(name.to_owned(), artifact);
        }
        change(&mut meta, &mut commit_meta);
        fs::write(staging.path().join("commitmeta.json"), commit_meta.to_string()).unwrap();
        staging.publish(&meta, 1_700_000_000).unwrap()
    }

    /// The workdir's lock. A child that another test's thread has just forked may hold it for a moment more.
    fn lock(&self) -> BuildLock {
        (0..500)
            .find_map(|_| {
                let lock = self.workdir.lock("test").ok();
                lock.or_else(|| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    None
                })
            })
            .unwrap()
    }

    /// A call of nosa here.
    pub(crate) fn call(&self, args: &[&str]) -> Cmd {
        Cmd::program(nosa()).arg("-C").arg(self.dir.as_os_str()).args(args)
    }

    /// Runs nosa, which must succeed, and returns its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        match self.call(args).output() {
            Ok(output) => output.text(),
            Err(error) => panic!("nosa {args:?}: {error:#}"),
        }
    }

    /// As [`Self::ok`], with --json.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    /// Runs nosa, which must fail with `code` and say just `cause` and `cure`.
    pub(crate) fn fails(&self, args: &[&str], code: i32, cause: &str, cure: &str) {
        let (found, text) = said(self.call(args).arg("-q"));
        assert_eq!(text, format!("error: {cause}\n  {cure}\n"), "nosa {args:?}");
        assert_eq!(found, code, "nosa {args:?}");
    }

    /// Runs nosa, which must fail with `code` and say `words`.
    pub(crate) fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        refused(self.call(args), code, words);
    }

    /// meta.json of a build.
    pub(crate) fn meta(&self, id: &str) -> Value {
        let path = self.dir.join("builds").join(id).join("x86_64/meta.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The names of a build's files, sorted.
    pub(crate) fn files(&self, id: &str) -> Vec<String> {
        names(&self.dir.join("builds").join(id).join("x86_64"))
    }

    /// Fails unless every listed build is whole, and nothing else lies in `builds/`.
    pub(crate) fn assert_whole(&self) {
        let index = self.workdir.index().unwrap();
        // Of builds that were never fetched there is nothing to see.
        let here = || index.builds().iter().filter(|entry| self.dir.join("builds").join(&entry.id).exists());
        for entry in here() {
            for arch in &entry.arches {
                let args = ["build-validate", "--build", &entry.id, "--arch", arch, "-q"];
                let (code, text) = said(self.call(&args));
                assert_eq!(code, 0, "{text}");
            }
        }
        let mut expected: Vec<String> = here().map(|entry| entry.id.clone()).collect();
        expected.push("builds.json".to_owned());
        if here().next().is_some() {
            expected.push("latest".to_owned());
        }
        expected.sort();
        assert_eq!(names(&self.dir.join("builds")), expected);
    }
}

impl Small {
    /// Fails unless the only build here has its records and no artifact.
    pub(crate) fn assert_listed_only(&self) {
        let listed = self.json(&["list"]);
        let here: Vec<&Value> =
            listed.as_array().unwrap().iter().filter(|build| !build["meta"].is_null()).collect();
        assert_eq!(here.len(), 1, "{listed}");
        let id = here[0]["id"].as_str().unwrap();
        assert_eq!(self.files(id), ["commitmeta.json", "meta.json", "ostree-commit-object"]);
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Bytes that compress a little, another stream for every `seed`.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes.truncate(length);
    bytes
}
