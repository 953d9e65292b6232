//! The physical root: an OSTree sysroot with one deployment, and the files around it that first boot,
//! updates and the installer look for. What `ostree admin init-fs --modern`, `os-init`, `pull-local` and
//! `deploy` make (a test compares the two), but each file is copied once and no mode or time depends on
//! who runs it:
//!
//! ```text
//! root/.aleph-version.json, .coreos-aleph-version.json -> .aleph-version.json
//! root/boot/                                          where the boot file system is mounted
//! root/ostree/repo/                                   bare; its files are links of the deployed ones
//! root/ostree/deploy/NAME/deploy/COMMIT.0/            the tree, with /etc a copy of /usr/etc
//! root/ostree/deploy/NAME/deploy/COMMIT.0.origin      where updates come from
//! root/ostree/deploy/NAME/var/                        a copy of the tree's /var
//! root/ostree/boot.1 -> boot.1.1, boot.1.1/NAME/KERNEL/0 -> the deployment
//! boot/loader -> loader.1, loader.1/entries/ostree-1.conf
//! boot/boot -> .                                      entries say /boot/ostree/…
//! boot/ostree/NAME-KERNEL/                            kernel and initramfs
//! boot/grub2/grub.cfg, boot/coreos/platforms.json, boot/ignition.firstboot
//! ```

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::bootentry::{self, Kernel};
use super::copy;
use crate::host::fs;
use crate::ostree::{Checksum, NodeObject, ObjectKind, Ownership, Repo};
use crate::pipeline::Digest;

/// Names of one file at most; ext4 allows 65000.
const MOST_LINKS: u32 = 60_000;

const REPO_CONFIG: &str = "[core]\nrepo_version=1\nmode=bare\n\n[sysroot]\nbootloader=none\nreadonly=true\n\
                           bootprefix=true\nbls-append-except-default=grub_users=\"\"\n";

/// What is deployed, and how it is to boot.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The commit.
    pub commit: Checksum,
    /// Its version.
    pub version: String,
    /// The operating system's name: the stateroot.
    pub name: String,
    /// The branch that updates come from.
    pub branch: String,
    /// The remote that updates come from; `None` when there is none, and the commit is the origin.
    pub remote: Option<String>,
    /// The blobs of the OCI image that hold the commit, and nothing else: the layers that the machine need not
    /// fetch again.
    pub layers: Vec<Digest>,
    /// Kernel arguments, in order.
    pub kargs: Vec<String>,
    /// `.aleph-version.json`: from which image this machine came.
    pub aleph: String,
    /// platforms.json, for the installer.
    pub platforms: String,
    /// grub.cfg.
    pub menu: String,
}

/// A sysroot on disk, its boot file system apart from its root.
#[derive(Debug)]
pub struct Sysroot {
    /// The root file system's content.
    pub root: PathBuf,
    /// The boot file system's content.
    pub boot: PathBuf,
}

impl Deployment {
    /// The deployment's directory on the root file system.
    pub fn directory(&self) -> String {
        format!("ostree/deploy/{}/deploy/{}.0", self.name, self.commit)
    }
}

impl Sysroot {
    /// Deploys from `repo` into fresh directories below `dir`.
    pub fn make(deployment: &Deployment, repo: &Repo, dir: &Path) -> Result<Self> {
        let sysroot = Self { root: dir.join("root"), boot: dir.join("boot") };
        for dir in [&sysroot.root.join("boot"), &sysroot.boot] {
            copy::make_dir(dir)?;
        }
        let tree = sysroot.root.join(deployment.directory());
        sysroot.write_stateroot(deployment)?;
        repo.checkout(deployment.commit, &tree, Ownership::Kept)
            .with_context(|| format!("deploying commit {}", deployment.commit))?;
        sysroot.write_repo(deployment, repo, &tree)?;
        sysroot.write_state(deployment, &tree)?;
        sysroot.write_boot(deployment, &tree)?;
        sysroot.write_marks(deployment)?;
        copy::forget_access(dir)?;
        Ok(sysroot)
    }

    /// The directories around the deployment.
    fn write_stateroot(&self, deployment: &Deployment) -> Result<()> {
        let stateroot = self.root.join("ostree/deploy").join(&deployment.name);
        copy::make_dir(&stateroot.join("deploy"))?;
        // Where a transient root keeps its changes (ostree-prepare-root).
        let backing = stateroot.join("backing");
        let own = backing.join(format!("{}.0", deployment.commit));
        for dir in [&backing, &own, &own.join("root-transient")] {
            copy::make_dir_with(dir, 0o700)?;
        }
        copy::make_dir_with(&own.join("root-transient/work"), 0o700)?;
        copy::make_dir_with(&own.join("root-transient/upper"), 0o755)
    }

    /// A repository of the deployed commit: content objects are links of the deployed files.
    fn write_repo(&self, deployment: &Deployment, source: &Repo, tree: &Path) -> Result<()> {
        let repo = self.root.join("ostree/repo");
        for dir in ["refs/heads", "refs/mirrors", "refs/remotes", "extensions", "state", "tmp/cache"] {
            copy::make_dir(&repo.join(dir))?;
        }
        copy::make_file(&repo.join("config"), 0o644, REPO_CONFIG)?;
        copy::make_file(&repo.join(".lock"), 0o640, "")?;
        let object = |checksum: Checksum, kind| -> Result<PathBuf> {
            let path = repo.join("objects").join(checksum.object_path(kind));
            copy::make_dir(path.parent().unwrap_or(&repo))?;
            Ok(path)
        };
        let metadata = |checksum: Checksum, kind| -> Result<()> {
            let target = object(checksum, kind)?;
            if target.exists() {
                return Ok(());
            }
            copy::make_file(&target, 0o644, fs::read(&source.object(checksum, kind))?)
        };
        metadata(deployment.commit, ObjectKind::Commit)?;
        let mut names: HashMap<Checksum, u32> = HashMap::new();
        for node in source.walk(deployment.commit)? {
            match node.object {
                NodeObject::Directory { tree, meta, .. } => {
                    metadata(tree, ObjectKind::DirTree)?;
                    metadata(meta, ObjectKind::DirMeta)?;
                }
                NodeObject::File(checksum) => {
                    let count = names.entry(checksum).or_default();
                    *count += 1;
                    link(&tree.join(&node.path), &object(checksum, ObjectKind::File)?, *count)?;
                }
            }
        }
        self.write_refs(deployment, &repo)
    }

    /// The refs that keep the commit: the deployment's own, the branch of a remote, and one for each layer, by which
    /// ostree-ext knows what it has (store.rs, `query_layer`). They go when no image that is kept has the layer.
    fn write_refs(&self, deployment: &Deployment, repo: &Path) -> Result<()> {
        let mut refs = vec![repo.join("refs/heads/ostree/1/1/0")];
        if let Some(remote) = &deployment.remote {
            refs.push(repo.join("refs/remotes").join(remote).join(&deployment.branch));
        }
        let blobs = repo.join("refs/heads/ostree/container/blob");
        refs.extend(deployment.layers.iter().map(|layer| blobs.join(format!("sha256_3A_{layer}"))));
        for path in refs {
            copy::make_dir(path.parent().unwrap_or(repo))?;
            copy::make_file(&path, 0o644, format!("{}\n", deployment.commit))?;
        }
        Ok(())
    }

    /// What belongs to the machine and not to the commit: /etc, /var, the origin.
    fn write_state(&self, deployment: &Deployment, tree: &Path) -> Result<()> {
        if tree.join("usr/etc").is_dir() {
            copy::tree(&tree.join("usr/etc"), &tree.join("etc"))?;
        }
        let var = self.root.join("ostree/deploy").join(&deployment.name).join("var");
        if tree.join("var").is_dir() {
            copy::tree(&tree.join("var"), &var)?;
        } else {
            copy::make_dir(&var)?;
        }
        // Trees from before libostree left this to systemd-tmpfiles (2023).
        if !tree.join("usr/lib/tmpfiles.d/ostree-tmpfiles.conf").exists() {
            complete_var(&var)?;
        }
        let refspec = match &deployment.remote {
            Some(remote) => format!("{remote}:{}", deployment.branch),
            None => deployment.commit.to_string(),
        };
        let origin = self.root.join(format!("{}.origin", deployment.directory()));
        copy::make_file(&origin, 0o644, format!("[origin]\nrefspec={refspec}\n"))
    }

    fn write_boot(&self, deployment: &Deployment, tree: &Path) -> Result<()> {
        let kernel = Kernel::find(tree)?;
        let (name, checksum) = (&deployment.name, &kernel.checksum);
        let directory = format!("ostree/{name}-{checksum}");
        copy::make_dir(&self.boot.join(&directory))?;
        for (source, name) in &kernel.files {
            copy::node(source, &self.boot.join(&directory).join(name))?;
        }
        let os_release = fs::read_optional(&tree.join("usr/lib/os-release"))?.unwrap_or_default();
        let bootlink = format!("/ostree/boot.1/{name}/{checksum}/0");
        let options = format!("{} ostree={bootlink}", deployment.kargs.join(" "));
        let title = bootentry::title(&os_release, &deployment.version);
        copy::make_dir(&self.boot.join("loader.1/entries"))?;
        let entry = self.boot.join("loader.1/entries/ostree-1.conf");
        copy::make_file(&entry, 0o644, kernel.entry(&title, &options, &directory))?;
        copy::make_link("loader.1", &self.boot.join("loader"))?;
        copy::make_link(".", &self.boot.join("boot"))?;
        let links = self.root.join("ostree/boot.1.1").join(name).join(checksum);
        copy::make_dir(&links)?;
        copy::make_link(format!("../../../deploy/{name}/deploy/{}.0", deployment.commit), &links.join("0"))?;
        copy::make_link("boot.1.1", &self.root.join("ostree/boot.1"))
    }

    /// The files that are not OSTree's.
    fn write_marks(&self, deployment: &Deployment) -> Result<()> {
        copy::make_file(&self.root.join(".aleph-version.json"), 0o644, &deployment.aleph)?;
        copy::make_link(".aleph-version.json", &self.root.join(".coreos-aleph-version.json"))?;
        copy::make_dir(&self.boot.join("coreos"))?;
        copy::make_file(&self.boot.join("coreos/platforms.json"), 0o644, &deployment.platforms)?;
        copy::make_dir_with(&self.boot.join("grub2"), 0o700)?;
        copy::make_file(&self.boot.join("grub2/grub.cfg"), 0o600, &deployment.menu)?;
        copy::make_file(&self.boot.join("ignition.firstboot"), 0o644, "")
    }
}

/// Adds the directories that every /var has.
fn complete_var(var: &Path) -> Result<()> {
    for (name, mode) in [("lib", 0o755), ("log", 0o755), ("tmp", 0o1777)] {
        if var.join(name).symlink_metadata().is_err() {
            copy::make_dir_with(&var.join(name), mode)?;
        }
    }
    for (name, target) in [("lock", "../run/lock"), ("run", "../run")] {
        if var.join(name).symlink_metadata().is_err() {
            copy::make_link(target, &var.join(name))?;
        }
    }
    Ok(())
}

/// Makes a deployed file and its object one, `count` being how many names the object then has.
///
/// Empty files stay apart, as in OSTree: thousands of them would be names of one object.
fn link(deployed: &Path, object: &Path, count: u32) -> Result<()> {
    let meta = deployed.symlink_metadata().with_context(|| format!("reading {}", deployed.display()))?;
    if meta.is_file() && meta.size() == 0 {
        return if count == 1 { copy::node(deployed, object) } else { Ok(()) };
    }
    if count > MOST_LINKS {
        return Ok(());
    }
    let (from, to) = if count == 1 { (deployed, object) } else { (object, deployed) };
    if count > 1 {
        fs::remove_file_if_exists(deployed)?;
    }
    std::fs::hard_link(from, to).with_context(|| format!("linking {} to {}", from.display(), to.display()))
}
