//! The initramfs of two commits.

use anyhow::Result;

use super::Commit;
use super::cpio;
use super::files::{FileDiff, Listing, compare_listings};
use crate::failure::{Failure, Kind};
use crate::ostree::Content;

pub(super) fn compare(from: &Commit<'_>, to: &Commit<'_>) -> Result<FileDiff> {
    Ok(compare_listings(&from.initramfs()?, &to.initramfs()?))
}

impl Commit<'_> {
    /// What the initramfs holds; the kernel's release, which its modules' paths hold, is left out of them.
    fn initramfs(&self) -> Result<Listing> {
        let kernel = self.repo.commit_object(self.checksum)?;
        let missing = || {
            let cause = format!("commit {} has no initramfs", self.checksum);
            Failure::new(Kind::Artifact, cause, "compare without --initramfs")
        };
        let release = kernel.metadata.text(crate::ostree::key::LINUX).ok_or_else(missing)?;
        let path = format!("/usr/lib/modules/{release}/initramfs.img");
        let checksum = self.find(&path)?.ok_or_else(missing)?;
        let Content::Regular(file, _) = self.repo.file(checksum)?.content else {
            return Err(missing().into());
        };
        let listing = cpio::list(file).map_err(|error| {
            let cause = format!("{path} of commit {} cannot be read: {error:#}", self.checksum);
            Failure::new(Kind::Artifact, cause, "compare without --initramfs")
        })?;
        let general = |path: String| path.replace(&format!("/{release}/"), "/KERNEL/");
        Ok(listing.into_iter().map(|(path, entry)| (general(path), entry)).collect())
    }
}
