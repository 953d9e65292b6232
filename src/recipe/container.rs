//! A build's images in registries: pushed, signed if a key is named, and recorded in meta.json as
//! coreos-assembler records them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::builds::{Build, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::{clock, environment};
use crate::oci::{self, ImageRef, Layout, Repository, architecture};
use crate::pipeline::{Reporter, Unit, sha256_file};
use crate::registry::{self, Access, Copied, IndexRequest, Pushed, PushedIndex, SigstoreKey};

/// The keys of meta.json that tell of a pushed image.
const KEYS: &[&str] =
    &["base-oscontainer", "oscontainer", "extensions-container", "kubevirt", "release-payload"];

/// An image of a build that is to be pushed.
pub struct PushContainer<'a> {
    /// The artifact.
    pub artifact: &'a str,
    /// Where to.
    pub target: &'a Repository,
    /// More tags.
    pub tags: &'a [String],
    /// Signs it.
    pub key: Option<&'a SigstoreKey>,
}

/// Pushes an image of a build and records it.
pub fn push_container(
    build: &Build,
    request: &PushContainer<'_>,
    access: &Access,
    report: &Reporter,
) -> Result<Pushed> {
    if let Some(key) = request.key {
        if request.target.tag.is_none() && request.tags.is_empty() {
            let cause = format!("{} has no tag, and a signature is of a tag", request.target);
            return Err(Failure::new(Kind::Usage, cause, "name one by --tag").into());
        }
        key.check()?;
    }
    let archive = archive(build, request.artifact, report)?;
    let target = request.target;
    // The registry may have the layers under the name by which the build was pushed before.
    let before = build.meta()?.base_oscontainer.map(|known| known.image);
    let before = before.as_deref().and_then(|image| image.strip_prefix(&format!("{}/", target.host)));
    let place = format!("oci-archive:{}", archive.display());
    let layout = Layout::open(&archive)?;
    let pushed = registry::push(layout, &place, target, request.tags, before, access, report)?;
    if let Some(key) = request.key {
        registry::sign(target, pushed.digest, &pushed.tags, key, access, report)?;
    }
    let key = if request.artifact == "ostree" { "base-oscontainer" } else { request.artifact };
    if KEYS.contains(&key) {
        record(build, key, &pushed.image, &format!("sha256:{}", pushed.digest), &pushed.tags)?;
    }
    Ok(pushed)
}

/// An index that is to be pushed.
pub struct PushManifest<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its tags.
    pub tags: &'a [String],
    /// The artifact of each build.
    pub artifact: &'a str,
    /// Under which key each build's meta.json tells of it, if it is to.
    pub record_as: Option<&'a str>,
    /// Pushes even if the registry has it.
    pub force: bool,
    /// Signs it.
    pub key: Option<&'a SigstoreKey>,
}

/// Pushes one image of a build's architectures and records in each its own digest.
pub fn push_container_manifest(
    builds: &[Build],
    request: &PushManifest<'_>,
    access: &Access,
    report: &Reporter,
) -> Result<PushedIndex> {
    if let Some(name) = request.record_as.filter(|name| !KEYS.contains(name)) {
        let cause = format!("meta.json has no key `{name}` for an image");
        return Err(Failure::new(Kind::Usage, cause, format!("name one of {}", KEYS.join(", "))).into());
    }
    let mut images = Vec::new();
    let mut annotations = BTreeMap::new();
    for build in builds {
        images.push(ImageRef::Archive(archive(build, request.artifact, report)?, None));
        annotations.insert(oci::VERSION.to_owned(), build.id().to_owned());
    }
    let pushed = push_images(&images, request, &annotations, access, report)?;
    let Some(key) = request.record_as else { return Ok(pushed) };
    for build in builds {
        if let Some(digest) = pushed.images.get(&architecture(build.arch()).to_string()) {
            record(build, key, &pushed.image, &format!("sha256:{digest}"), &pushed.tags)?;
        }
    }
    Ok(pushed)
}

/// A build for the architectures `arches`, or for all that builds.json lists; they must be here.
pub fn architectures(workdir: &Workdir, id: &str, arches: &[String]) -> Result<Vec<Build>> {
    let index = workdir.index()?;
    let entry = if id == "latest" { index.latest() } else { index.get(id) };
    // With no such build, the failure is the one of its first architecture.
    let (id, listed) = entry.map_or((id, &[][..]), |entry| (entry.id.as_str(), entry.arches.as_slice()));
    let own = [environment::basearch().to_owned()];
    let arches = match (arches, listed) {
        ([], []) => &own[..],
        ([], listed) => listed,
        (arches, _) => arches,
    };
    arches.iter().map(|arch| workdir.build(id, arch)).collect()
}

/// Pushes images and an index over them.
pub fn push_images(
    images: &[ImageRef],
    request: &PushManifest<'_>,
    annotations: &BTreeMap<String, String>,
    access: &Access,
    report: &Reporter,
) -> Result<PushedIndex> {
    if let Some(key) = request.key {
        key.check()?;
    }
    let index = IndexRequest {
        images,
        repository: request.repository,
        tags: request.tags,
        annotations,
        force: request.force,
    };
    let pushed = registry::push_index(&index, access, report)?;
    if let Some(key) = request.key {
        registry::sign(request.repository, pushed.digest, &pushed.tags, key, access, report)?;
    }
    Ok(pushed)
}

/// An artifact's archive, which must be what meta.json says.
fn archive(build: &Build, artifact: &str, report: &Reporter) -> Result<PathBuf> {
    let (path, known) = build.artifact(artifact)?;
    let progress = report.progress(format!("checking {}", known.path), 0, Unit::Items);
    let sha256 = sha256_file(&path)?.to_string();
    drop(progress);
    if sha256 != known.sha256 {
        let cause =
            format!("{} has the digest {sha256}, but meta.json says {}", path.display(), known.sha256);
        return Err(Failure::new(Kind::Artifact, cause, "build it again, or restore it from a copy").into());
    }
    Ok(path)
}

fn record(build: &Build, key: &str, image: &str, digest: &str, tags: &[String]) -> Result<()> {
    let now = u64::try_from(clock::now_nanos()).unwrap_or(u64::MAX);
    build.update_json(None, now, true, |meta| {
        meta[key] = json!({"image": image, "digest": digest, "tags": tags});
        Ok(())
    })?;
    Ok(())
}

/// Copies an image, or the tags of a repository; `apart` copies each architecture alone, as `TAG-ARCH`.
pub fn copy_container(
    from: &str,
    to: &str,
    tags: &[String],
    apart: bool,
    (source_access, target_access): (&Access, &Access),
    report: &Reporter,
) -> Result<Vec<Copied>> {
    let copy = |from: &ImageRef, to: &ImageRef| -> Result<Vec<Copied>> {
        match (from, to) {
            (ImageRef::Registry(from), ImageRef::Registry(to)) if apart => {
                registry::copy_apart(from, to, source_access, target_access, report)
            }
            _ => Ok(vec![registry::copy(from, to, source_access, target_access, report)?]),
        }
    };
    if tags.is_empty() {
        return copy(&from.parse()?, &to.parse()?);
    }
    let (from, to) = (Repository::bare(from)?, Repository::bare(to)?);
    let mut copied = Vec::new();
    for tag in tags {
        let tagged = |repository: &Repository| Repository::tagged(&repository.to_string(), tag);
        copied.extend(copy(&ImageRef::Registry(tagged(&from)?), &ImageRef::Registry(tagged(&to)?))?);
    }
    Ok(copied)
}

/// Refuses what would make other bytes of an image: coreos-assembler's options for that have no place here.
pub fn refuse_format(format: Option<&str>, transport: Option<&str>) -> Result<()> {
    let cause = match (format, transport) {
        (Some(format), _) if format != "oci" => {
            format!("nosa pushes images as they were built, not as {format}: the digest would be another")
        }
        (_, Some(transport)) if !["registry", "docker://"].contains(&transport) => {
            format!("nosa pushes to registries, not to `{transport}`")
        }
        _ => return Ok(()),
    };
    let cure = "use skopeo for that: skopeo copy oci-archive:FILE …";
    Err(Failure::new(Kind::Usage, cause, cure).into())
}
