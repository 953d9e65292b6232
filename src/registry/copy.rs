//! Copying an image from where it lies to elsewhere, with its digest; an index with all that it names.

use anyhow::Result;
use serde::Serialize;

use super::access::Access;
use super::client::{Action, Client};
use super::document::named;
use super::pull::{block_on, fill, refuse_docker};
use super::push::deliver;
use super::source::Source;
use crate::failure::{Failure, Kind};
use crate::oci::{ImageRef, Layout, NewLayout, Repository};
use crate::pipeline::{Digest, Reporter};

/// An image that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Where it is now.
    pub target: String,
    /// The digest of its manifest or index, the same on both sides.
    #[serde(serialize_with = "named")]
    pub digest: Digest,
    /// How many bytes of blobs were sent or written.
    pub bytes: u64,
}

/// Copies an image.
pub fn copy(
    from: &ImageRef,
    to: &ImageRef,
    source_access: &Access,
    target_access: &Access,
    report: &Reporter,
) -> Result<Copied> {
    block_on(async {
        let source = open(from, source_access, report).await?;
        let name = match from {
            ImageRef::Layout(_, name) | ImageRef::Archive(_, name) => name.as_deref(),
            _ => None,
        };
        let root = source.root(name).await?;
        let digest = root.digest;
        match to {
            ImageRef::Layout(path, name) | ImageRef::Archive(path, name) => {
                refuse_docker(&root, &source.place())?;
                let layout = NewLayout::beside(path)?;
                let parts = source.parts(root.clone()).await?;
                let bytes = fill(&source, &parts, &layout, report).await?;
                match to {
                    ImageRef::Archive(..) => layout.into_archive(root.descriptor()?, name.as_deref())?,
                    _ => layout.into_directory(root.descriptor()?, name.as_deref())?,
                }
                Ok(Copied { target: to.to_string(), digest, bytes })
            }
            ImageRef::Registry(repository) => {
                let parts = source.parts(root).await?;
                let client = Client::open(repository, target_access, Action::Push, report).await?;
                let pushed = deliver(&source, &parts, &client, &[], mount_from(from, to)).await?;
                Ok(Copied { target: to.to_string(), digest, bytes: pushed.sent })
            }
            ImageRef::Storage(name) => Err(no_storage(name)),
        }
    })
}

/// Copies each image of an index alone, as `TAG-ARCHITECTURE`: for registries that hold no indexes. An image that
/// is in no index is copied as it is.
pub fn copy_apart(
    from: &Repository,
    to: &Repository,
    source_access: &Access,
    target_access: &Access,
    report: &Reporter,
) -> Result<Vec<Copied>> {
    let from = ImageRef::Registry(from.clone());
    block_on(async {
        let source = open(&from, source_access, report).await?;
        let root = source.root(None).await?;
        let mut copied = Vec::new();
        for (architecture, document) in source.images(root).await? {
            let digest = document.digest;
            let parts = source.parts(document).await?;
            let mut repository = to.clone();
            if let (Some(architecture), Some(tag)) = (architecture, &mut repository.tag) {
                tag.push('-');
                tag.push_str(&architecture);
            }
            let client = Client::open(&repository, target_access, Action::Push, report).await?;
            let target = ImageRef::Registry(repository);
            let pushed = deliver(&source, &parts, &client, &[], mount_from(&from, &target)).await?;
            copied.push(Copied { target: target.to_string(), digest, bytes: pushed.sent });
        }
        Ok(copied)
    })
}

/// The source of an image.
pub(super) async fn open(from: &ImageRef, access: &Access, report: &Reporter) -> Result<Source> {
    Ok(match from {
        ImageRef::Layout(path, _) | ImageRef::Archive(path, _) => {
            Source::Layout(Layout::open(path)?, from.to_string())
        }
        ImageRef::Registry(repository) => {
            Source::Registry(Box::new(Client::open(repository, access, Action::Pull, report).await?))
        }
        ImageRef::Storage(name) => return Err(no_storage(name)),
    })
}

/// The repository from which a registry may take blobs itself.
pub(super) fn mount_from<'a>(from: &'a ImageRef, to: &ImageRef) -> Option<&'a str> {
    match (from, to) {
        (ImageRef::Registry(from), ImageRef::Registry(to)) if from.host == to.host => Some(&from.name),
        _ => None,
    }
}

fn no_storage(name: &str) -> anyhow::Error {
    Failure::new(
        Kind::Usage,
        format!("{name} is in podman's storage, which only podman reads and writes"),
        format!("copy it by podman's own tools: skopeo copy containers-storage:{name} oci:DIR"),
    )
    .into()
}
