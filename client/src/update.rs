//! Switching to an image and upgrading: fetch by ostree-ext, stage by libostree. ostree finishes a staged
//! deployment when the machine goes down in order; until then nothing that boots has changed, so an update may
//! be cut off at any moment.

use anyhow::{Context as _, Result, bail};
use ostree_ext::container::deploy::{ORIGIN_CONTAINER, remove_undeployed_images};
use ostree_ext::container::store::{
    ImageImporter, ImageProxyConfig, ImportProgress, LayeredImageState, PrepareResult,
};
use ostree_ext::container::{ImageReference, OstreeImageReference, SignatureSource, Transport};
use ostree_ext::ostree::{SysrootDeployTreeOpts, gio::Cancellable, glib};
use ostree_ext::sysroot::SysrootLock;

use super::config::Config;
use super::health;
use super::machine::{Deployed, Machine};
use super::programs::{now, reboot, say};
use super::state::{Check, State};

const POLICY: &str = "/etc/containers/policy.json";

/// What `upgrade` was asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    /// Reboot at once.
    pub reboot: bool,
    /// Take an image that failed here or was rolled back.
    pub retry: bool,
}

/// How an upgrade ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgraded {
    /// There is nothing new.
    Current,
    /// The next boot will run something new.
    Staged,
    /// There is only an image that failed here or was rolled back.
    Refused,
}

/// Fetches another image for the next boot.
pub(crate) async fn switch(config: &Config, image: &str, reboots: bool) -> Result<()> {
    let reference = reference(config, image)?;
    let machine = Machine::open()?;
    let lock = machine.lock().await?;
    let importer = open(&machine, &reference).await?;
    let found = Found::ask(importer).await?;
    stage(&machine, &lock, &reference, found.fetch().await?)?;
    drop(lock);
    if reboots { reboot() } else { Ok(()) }
}

/// Fetches what the followed image's name now stands for.
pub(crate) async fn upgrade(config: &Config, wish: Wish) -> Result<Upgraded> {
    let machine = Machine::open()?;
    let lock = machine.lock().await?;
    let (reference, found) = look(config, &machine).await?;
    if is_there(&machine, &found.digest)? {
        say(format_args!("nothing new: {reference} is {}", found.digest));
        return Ok(Upgraded::Current);
    }
    if let (Some(why_not), false) = (State::load()?.why_not(&found.digest), wish.retry) {
        say(format_args!("{} {why_not}; --retry takes it again", found.digest));
        return Ok(Upgraded::Refused);
    }
    stage(&machine, &lock, &reference, found.fetch().await?)?;
    drop(lock);
    if wish.reboot {
        reboot()?;
    }
    Ok(Upgraded::Staged)
}

/// Looks whether there is something new, and says it.
pub(crate) async fn check(config: &Config) -> Result<bool> {
    let machine = Machine::open()?;
    let _lock = machine.lock().await?;
    let (reference, found) = look(config, &machine).await?;
    let new = !is_there(&machine, &found.digest)?;
    let word = if new { "there is an update" } else { "nothing new" };
    say(format_args!("{word}: {reference} is {}", found.digest));
    Ok(new)
}

/// What a registry has.
struct Found {
    importer: ImageImporter,
    prepared: PrepareResult,
    digest: String,
}

impl Found {
    async fn ask(mut importer: ImageImporter) -> Result<Self> {
        let prepared = importer.prepare().await?;
        let digest = match &prepared {
            PrepareResult::AlreadyPresent(state) => state.manifest_digest.to_string(),
            PrepareResult::Ready(import) => import.manifest_digest.to_string(),
        };
        Ok(Self { importer, prepared, digest })
    }

    /// Downloads the layers that the machine lacks. Each that is complete stays, whatever happens to the next.
    async fn fetch(mut self) -> Result<Box<LayeredImageState>> {
        let import = match self.prepared {
            PrepareResult::AlreadyPresent(state) => return Ok(state),
            PrepareResult::Ready(import) => import,
        };
        let lacking: Vec<u64> = import
            .all_layers()
            .filter(|layer| layer.commit.is_none())
            .map(|layer| layer.layer().size())
            .collect();
        let (count, bytes) = (lacking.len(), lacking.iter().sum());
        say(format_args!("fetching {count} layers, {}: {}", glib::format_size(bytes), self.digest));
        let mut progress = self.importer.request_progress();
        let told = tokio::spawn(async move {
            let mut done = 0;
            while let Some(event) = progress.recv().await {
                if let ImportProgress::OstreeChunkCompleted(layer)
                | ImportProgress::DerivedLayerCompleted(layer) = event
                {
                    done += 1;
                    say(format_args!("layer {done} of {count}, {}", glib::format_size(layer.size())));
                }
            }
        });
        let state = self.importer.import(import).await?;
        told.await?;
        Ok(state)
    }
}

/// Asks for the image that this machine follows, and remembers that it did.
async fn look(config: &Config, machine: &Machine) -> Result<(OstreeImageReference, Found)> {
    let reference = followed(config, machine)?;
    let asked = async { Found::ask(open(machine, &reference).await?).await }.await;
    let mut state = State::load()?;
    let (digest, error) = match &asked {
        Ok(found) => (Some(found.digest.clone()), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    state.last_check = Some(Check { time: now()?, digest, error });
    state.save()?;
    Ok((reference, asked?))
}

async fn open(machine: &Machine, reference: &OstreeImageReference) -> Result<ImageImporter> {
    let config = ImageProxyConfig::default();
    let mut importer = ImageImporter::new(&machine.sysroot.repo(), reference, config).await?;
    importer.require_bootable();
    Ok(importer)
}

/// Whether the next boot will run this image, whoever staged it.
fn is_there(machine: &Machine, digest: &str) -> Result<bool> {
    Ok(machine.deployments()?.first().is_some_and(|next| next.digest.as_deref() == Some(digest)))
}

/// Stages a fetched image: the running system's /etc will be merged into it when the machine goes down.
fn stage(
    machine: &Machine,
    lock: &SysrootLock,
    reference: &OstreeImageReference,
    image: Box<LayeredImageState>,
) -> Result<()> {
    let booted = machine.booted()?;
    let arguments = booted.kernel_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = SysrootDeployTreeOpts { override_kernel_argv: Some(&arguments), ..Default::default() };
    let origin = glib::KeyFile::new();
    origin.set_string("origin", ORIGIN_CONTAINER, &reference.to_string());
    // What fails already does not speak against the update.
    let mut state = State::load()?;
    state.failed_before = health::failed_units()?;
    state.forgive(image.manifest_digest.as_ref());
    state.save()?;
    machine
        .sysroot
        .stage_tree_with_options(
            Some(&booted.deployment.osname()),
            &image.merge_commit,
            Some(&origin),
            Some(&booted.deployment),
            &options,
            Cancellable::NONE,
        )
        .context("staging the deployment")?;
    machine.sysroot.load_if_changed(Cancellable::NONE)?;
    remove_undeployed_images(lock).context("forgetting images that no deployment uses")?;
    let version = image.version().unwrap_or("without a version");
    say(format_args!("staged {version}, {}: the next boot will run it", image.manifest_digest));
    Ok(())
}

/// The image that the next boot's deployment came from, else the running one's, else the configuration's.
fn followed(config: &Config, machine: &Machine) -> Result<OstreeImageReference> {
    let of_deployment = |deployed: Vec<Deployed>| deployed.into_iter().find_map(|one| one.image);
    match (of_deployment(machine.deployments()?), &config.image) {
        (Some(reference), _) => {
            let sigverify = signature(config, reference.sigverify)?;
            Ok(OstreeImageReference { sigverify, ..reference })
        }
        (None, Some(image)) => reference(config, image),
        (None, None) => {
            bail!(
                "no image to follow: name one by `nestos-update switch IMAGE`, or in /etc/nestos/update.conf"
            )
        }
    }
}

/// What a user means by the name of an image.
fn reference(config: &Config, text: &str) -> Result<OstreeImageReference> {
    if text.starts_with("ostree-") {
        let reference = OstreeImageReference::try_from(text)?;
        let sigverify = signature(config, reference.sigverify)?;
        return Ok(OstreeImageReference { sigverify, ..reference });
    }
    let sigverify = signature(config, SignatureSource::ContainerPolicyAllowInsecure)?;
    Ok(OstreeImageReference { sigverify, imgref: place(text)? })
}

/// `docker://host/os`, `oci:/dir`, … as they are; anything else is in a registry.
fn place(text: &str) -> Result<ImageReference> {
    let of_transport = |(word, rest): (&str, &str)| {
        // A registry's host may be called as a transport is: registry:5000/os.
        let is_port = rest.split('/').next().is_some_and(|port| port.parse::<u16>().is_ok());
        !is_port && Transport::try_from(word).is_ok()
    };
    if text.split_once(':').is_some_and(of_transport) {
        return ImageReference::try_from(text);
    }
    anyhow::ensure!(!text.is_empty(), "the image has no name");
    Ok(ImageReference { transport: Transport::Registry, name: text.to_owned() })
}

/// skopeo follows policy.json in any case. Where its default wants signatures, or the configuration does,
/// ostree-ext is told to refuse a policy that would accept anything.
fn signature(config: &Config, wished: SignatureSource) -> Result<SignatureSource> {
    match wished {
        SignatureSource::ContainerPolicyAllowInsecure
            if config.require_signature || !accepts_anything(&policy()?) =>
        {
            Ok(SignatureSource::ContainerPolicy)
        }
        other => Ok(other),
    }
}

fn policy() -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(POLICY).with_context(|| format!("reading {POLICY}"))?;
    serde_json::from_str(&text).with_context(|| format!("reading {POLICY}"))
}

/// Whether a policy takes images that it says nothing of, signed or not.
fn accepts_anything(policy: &serde_json::Value) -> bool {
    let default = policy["default"].as_array().map(Vec::as_slice).unwrap_or_default();
    matches!(default, [only] if only["type"] == "insecureAcceptAnything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_in_a_registry() {
        for (text, spelt) in [
            ("10.0.2.2:5000/os:1", "docker://10.0.2.2:5000/os:1"),
            ("host/os", "docker://host/os"),
            ("docker://host/os", "docker://host/os"),
            ("registry:5000/os:1", "docker://registry:5000/os:1"),
            ("oci:/var/tmp/os:1", "oci:/var/tmp/os:1"),
            ("containers-storage:localhost/os", "containers-storage:localhost/os"),
        ] {
            assert_eq!(place(text).unwrap().to_string(), spelt);
        }
        assert!(place("").is_err() && place("oci:").is_err());
    }

    #[test]
    fn only_a_lone_permission_accepts_anything() {
        let policy = |text: &str| serde_json::from_str(text).unwrap();
        assert!(accepts_anything(&policy(r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)));
        assert!(!accepts_anything(&policy(r#"{"default": [{"type": "reject"}]}"#)));
        assert!(!accepts_anything(&policy("{}")));
    }
}
