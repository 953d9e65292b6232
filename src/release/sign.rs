//! Signing a build with GPG: `FILE.sig` beside every artifact, and the OSTree commit, whose signature goes
//! into its detached metadata: in the repository, and as `ostree-commitmeta-object` in the build.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::builds::{Build, BuildLock};
use crate::failure::{Failure, Kind};
use crate::host::{self, Cmd, environment, fs, tool};
use crate::ostree::{self, Checksum, ObjectKind, Repo};
use crate::pipeline::{Reporter, Unit};

/// The commit's bytes, and the detached metadata with its signatures.
const COMMIT: &str = "ostree-commit-object";
const COMMIT_META: &str = "ostree-commitmeta-object";

/// A key of the host's GPG.
#[derive(Debug, Clone)]
pub struct GpgKey {
    /// Its id, fingerprint or user id.
    pub id: String,
    /// Where GPG keeps it, if not in its usual place.
    pub homedir: Option<PathBuf>,
}

/// A signature that is there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// What it signs.
    pub path: String,
    /// Its file.
    pub signature: String,
    /// Whether it was there already, by this key.
    pub kept: bool,
}

/// Signs the artifacts `only` (all if empty) of a build and its commit; `repo` is the repository that has the
/// commit, if there is one.
pub fn sign(
    build: &Build,
    _lock: &BuildLock,
    key: &GpgKey,
    only: &[String],
    repo: Option<&Repo>,
    report: &Reporter,
) -> Result<Vec<Signed>> {
    host::require(&[&tool::GPG]).map_err(Failure::from)?;
    let fingerprint = key.fingerprint()?;
    let meta = build.meta()?;
    let mut paths = vec![COMMIT.to_owned()];
    for name in only {
        build.artifact(name)?;
    }
    let wanted = |name: &String| only.is_empty() || only.contains(name);
    for (name, _) in meta.images.iter().filter(|(name, _)| wanted(name)) {
        paths.push(build.artifact(name)?.1.path);
    }
    let progress = report.progress("signing", paths.len() as u64, Unit::Items);
    let mut signed = Vec::new();
    for path in paths {
        signed.push(key.sign_file(build, &path, &fingerprint)?);
        progress.add(1);
    }
    let commit: Checksum = meta.ostree_commit.parse().context("reading the commit of meta.json")?;
    let signature = fs::read(&build.dir().join(format!("{COMMIT}.sig")))?;
    let repo = repo.filter(|repo| repo.has(commit, ObjectKind::Commit));
    if let Some(repo) = repo {
        repo.set_detached(commit, &ostree::add_signature(&repo.detached(commit)?, &signature)?)?;
    } else {
        report.warn(format!("the cache has no commit {commit}: only the build's own files are signed"));
    }
    let place = build.dir().join(COMMIT_META);
    let before = if place.exists() { fs::read(&place)? } else { Vec::new() };
    fs::write_atomic(&place, ostree::add_signature(&before, &signature)?, 0o644)?;
    Ok(signed)
}

impl GpgKey {
    fn gpg(&self) -> Cmd {
        let mut gpg = Cmd::new(&tool::GPG).args(["--batch", "--no-tty", "--quiet"]);
        if let Some(home) =
            self.homedir.clone().or_else(|| environment::var_os("GNUPGHOME").map(PathBuf::from))
        {
            gpg = gpg.arg("--homedir").arg(home);
        }
        gpg
    }

    /// The fingerprint of the secret key, which must exist.
    fn fingerprint(&self) -> Result<String> {
        let listed =
            self.gpg().args(["--with-colons", "--list-secret-keys", "--"]).arg(&self.id).output().ok();
        let fingerprint = listed.and_then(|output| {
            let text = output.text();
            let line = text.lines().find(|line| line.starts_with("fpr:"))?;
            line.split(':').nth(9).map(str::to_owned)
        });
        fingerprint.ok_or_else(|| {
            let place = self.homedir.as_deref().map(|home| format!(" in {}", home.display()));
            Failure::new(
                Kind::Usage,
                format!("GPG has no secret key `{}`{}", self.id, place.unwrap_or_default()),
                "name one that `gpg --list-secret-keys` shows, or its --gpg-homedir",
            )
            .into()
        })
    }

    fn sign_file(&self, build: &Build, path: &str, fingerprint: &str) -> Result<Signed> {
        let (file, name) = (build.dir().join(path), format!("{path}.sig"));
        let signature = build.dir().join(&name);
        let kept = signature.exists() && self.holds(&signature, &file, fingerprint);
        if !kept {
            let beside = build.beside(&name)?;
            let signing = self.gpg().args(["--yes", "--digest-algo", "SHA256", "--local-user"]);
            let signing = signing.arg(&self.id).arg("--output").arg(&beside).arg("--detach-sign").arg(&file);
            signing.run().map_err(|error| {
                let cause = format!("signing {} failed: {error:#}", file.display());
                Failure::new(
                    Kind::Build,
                    cause,
                    "see that gpg can use the key without asking for a passphrase",
                )
            })?;
            fs::open(&beside)?.sync_all()?;
            fs::rename(&beside, &signature)?;
            fs::sync_dir(build.dir())?;
        }
        Ok(Signed { path: path.to_owned(), signature: name, kept })
    }

    /// Whether a signature is good and by this key.
    fn holds(&self, signature: &Path, file: &Path, fingerprint: &str) -> bool {
        let verify = self.gpg().args(["--status-fd", "1", "--verify"]).arg(signature).arg(file);
        verify.output().is_ok_and(|output| {
            let text = output.text();
            text.lines().any(|line| line.starts_with("[GNUPG:] VALIDSIG") && line.contains(fingerprint))
        })
    }
}
