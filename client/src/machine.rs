//! The machine's deployments: which is running, which comes next, and of which image each was made.

use anyhow::{Context as _, Result};
use ostree_ext::container::OstreeImageReference;
use ostree_ext::container::deploy::ORIGIN_CONTAINER;
use ostree_ext::container::store;
use ostree_ext::ostree::{Deployment, Sysroot, gio::Cancellable, glib};
use ostree_ext::sysroot::SysrootLock;

/// An OSTree system that is running.
pub(crate) struct Machine {
    /// The system root.
    pub sysroot: Sysroot,
}

/// A deployment and what is known of it.
pub(crate) struct Deployed {
    /// The deployment.
    pub deployment: Deployment,
    /// Its commit.
    pub commit: String,
    /// Whether it is running.
    pub booted: bool,
    /// Whether it waits for the machine to go down.
    pub staged: bool,
    /// Whether it is kept whatever comes.
    pub pinned: bool,
    /// The image that it came from, none for what an installer wrote.
    pub image: Option<OstreeImageReference>,
    /// The image's manifest digest.
    pub digest: Option<String>,
    /// The version of the system.
    pub version: Option<String>,
}

impl Machine {
    /// Opens the running system.
    pub(crate) fn open() -> Result<Self> {
        let sysroot = Sysroot::new_default();
        if rustix::process::geteuid().is_root() {
            sysroot.set_mount_namespace_in_use();
        }
        sysroot.load(Cancellable::NONE).context("reading the deployments")?;
        sysroot.require_booted_deployment().context("this machine does not run an OSTree deployment")?;
        Ok(Self { sysroot })
    }

    /// Waits until nobody else changes deployments, and reads them anew. Who has the lock already waits for ever.
    pub(crate) async fn lock(&self) -> Result<SysrootLock> {
        anyhow::ensure!(rustix::process::geteuid().is_root(), "only root can change what the machine runs");
        let lock = SysrootLock::new_from_sysroot(&self.sysroot).await.context("locking the system root")?;
        self.sysroot.load_if_changed(Cancellable::NONE)?;
        Ok(lock)
    }

    /// The deployments: the next boot's first, a staged one before all others.
    pub(crate) fn deployments(&self) -> Result<Vec<Deployed>> {
        let booted = self.sysroot.booted_deployment();
        let all = self.sysroot.deployments().into_iter();
        all.map(|deployment| {
            let is_booted = booted.as_ref().is_some_and(|booted| booted.equal(&deployment));
            self.describe(deployment, is_booted)
        })
        .collect()
    }

    /// The running one.
    pub(crate) fn booted(&self) -> Result<Deployed> {
        self.describe(self.sysroot.require_booted_deployment()?, true)
    }

    fn describe(&self, deployment: Deployment, booted: bool) -> Result<Deployed> {
        let commit = deployment.csum().to_string();
        let origin = deployment.origin();
        let text = origin.and_then(|origin| origin.string("origin", ORIGIN_CONTAINER).ok());
        let image = text.map(|text| OstreeImageReference::try_from(text.as_str())).transpose()?;
        // An image's commit says what image it is; an installer's commit has a version only.
        let of_image = image.as_ref().map(|_| store::query_image_commit(&self.sysroot.repo(), &commit));
        let of_image = of_image.transpose().with_context(|| format!("reading commit {commit}"))?;
        let version = match &of_image {
            Some(state) => state.version().map(str::to_owned),
            None => self.version_of(&commit)?,
        };
        let (staged, pinned) = (deployment.is_staged(), deployment.is_pinned());
        let digest = of_image.map(|state| state.manifest_digest.to_string());
        Ok(Deployed { deployment, commit, booted, staged, pinned, image, digest, version })
    }

    fn version_of(&self, commit: &str) -> Result<Option<String>> {
        let (commit, _) = self.sysroot.repo().load_commit(commit)?;
        let metadata = glib::VariantDict::new(Some(&commit.child_value(0)));
        Ok(metadata.lookup::<String>("version")?)
    }
}

impl Deployed {
    /// Its kernel arguments, without the one that names the deployment.
    pub(crate) fn kernel_arguments(&self) -> Vec<String> {
        let options = self.deployment.bootconfig().and_then(|config| config.get("options"));
        let options = options.as_deref().unwrap_or_default();
        options.split_whitespace().filter(|word| !word.starts_with("ostree=")).map(str::to_owned).collect()
    }

    /// A name for it in a message: its version, or the beginning of its commit.
    pub(crate) fn name(&self) -> String {
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        self.version.clone().unwrap_or_else(|| short.to_owned())
    }
}
