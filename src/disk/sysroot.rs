//! The physical root: an OSTree sysroot with one deployment, as `ostree admin` of the tree itself lays it
//! out, and the files around it that first boot, updates and the installer look for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::programs::Programs;
use crate::host::fs;

/// What is deployed, and how it is to boot.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    /// The commit's checksum.
    pub commit: String,
    /// The operating system's name: the stateroot.
    pub name: String,
    /// The branch that updates come from.
    pub reference: String,
    /// The remote that updates come from; `None` when there is none, and the commit is the origin.
    pub remote: Option<String>,
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
pub(super) struct Sysroot {
    /// The root file system's content.
    pub root: PathBuf,
    /// The boot file system's content.
    pub boot: PathBuf,
}

impl Sysroot {
    /// Deploys from `repo` into fresh directories below `dir`, with the tree's own ostree.
    pub(super) fn make(
        deployment: &Deployment,
        repo: &Path,
        programs: &Programs,
        dir: &Path,
    ) -> Result<Self> {
        let sysroot = Self { root: dir.join("root"), boot: dir.join("boot") };
        fs::create_dir_all(&sysroot.root)?;
        sysroot.deploy(deployment, repo, programs)?;
        fs::rename(&sysroot.root.join("boot"), &sysroot.boot)?;
        fs::create_dir_all(&sysroot.root.join("boot"))?;
        sysroot.add_files(deployment)?;
        Ok(sysroot)
    }

    fn deploy(&self, deployment: &Deployment, repo: &Path, programs: &Programs) -> Result<()> {
        let inside = programs
            .sandbox()
            .bind(&self.root, "/run/sysroot")
            .bind_ro(repo, "/run/repo")
            .env("OSTREE_SYSROOT_DEBUG", "mutable-deployments");
        let ostree = |args: &[&str]| inside.command("ostree").args(args).log(&programs.log).run();
        ostree(&["admin", "init-fs", "--modern", "/run/sysroot"]).context("making the sysroot")?;
        self.configure(true)?;
        ostree(&["admin", "os-init", "--sysroot=/run/sysroot", &deployment.name])
            .context("making the stateroot")?;
        ostree(&[
            "pull-local",
            "--repo=/run/sysroot/ostree/repo",
            "--disable-fsync",
            "/run/repo",
            &deployment.commit,
        ])
        .with_context(|| format!("copying commit {} into the sysroot", deployment.commit))?;
        let refspec = match &deployment.remote {
            Some(remote) => {
                let path =
                    self.root.join("ostree/repo/refs/remotes").join(remote).join(&deployment.reference);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(&path, format!("{}\n", deployment.commit))?;
                format!("{remote}:{}", deployment.reference)
            }
            None => deployment.commit.clone(),
        };
        let kargs = deployment.kargs.iter().map(|karg| format!("--karg-append={karg}"));
        inside
            .command("ostree")
            .args(["admin", "deploy", "--sysroot=/run/sysroot", "--os", &deployment.name, &refspec])
            .args(kargs)
            .log(&programs.log)
            .run()
            .with_context(|| format!("deploying commit {}", deployment.commit))?;
        self.configure(false)
    }

    /// Writes the repository's configuration; without flushes while it is filled.
    fn configure(&self, filling: bool) -> Result<()> {
        let text = format!(
            "[core]\nrepo_version=1\nmode=bare\n{}\n[sysroot]\nbootloader=none\nreadonly=true\nbootprefix=true\n\
             bls-append-except-default=grub_users=\"\"\n",
            if filling { "fsync=false\n" } else { "" }
        );
        fs::write(&self.root.join("ostree/repo/config"), text)
    }

    fn add_files(&self, deployment: &Deployment) -> Result<()> {
        fs::write(&self.root.join(".aleph-version.json"), &deployment.aleph)?;
        fs::symlink_atomic(Path::new(".aleph-version.json"), &self.root.join(".coreos-aleph-version.json"))?;
        for dir in ["grub2", "coreos"] {
            fs::create_dir_all(&self.boot.join(dir))?;
        }
        fs::write(&self.boot.join("grub2/grub.cfg"), &deployment.menu)?;
        fs::write(&self.boot.join("coreos/platforms.json"), &deployment.platforms)?;
        fs::write(&self.boot.join("ignition.firstboot"), "")
    }
}
