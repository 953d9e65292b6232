//! The name of an OSTree object: the SHA-256 of its canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::pipeline::{Digest, DigestParseError};

/// Names an object of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum(Digest);

impl Checksum {
    /// The checksum of an object whose canonical form is `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Digest::of(bytes))
    }

    /// A checksum from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The same as a digest.
    #[must_use]
    pub const fn digest(self) -> Digest {
        self.0
    }

    /// Where an object lies below `objects/`: two digits, a slash, the rest and the kind.
    #[must_use]
    pub fn object_path(&self, kind: ObjectKind) -> String {
        let hex = self.to_string();
        let (first, rest) = hex.split_at(2);
        format!("{first}/{rest}.{}", kind.suffix())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Checksum {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        text.parse().map(Self)
    }
}

/// The kinds of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A commit.
    Commit,
    /// A directory's entries.
    DirTree,
    /// A directory's owner, mode and extended attributes.
    DirMeta,
    /// A regular file or symbolic link.
    File,
}

impl ObjectKind {
    /// The suffix of the object's file name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::DirTree => "dirtree",
            Self::DirMeta => "dirmeta",
            Self::File => "file",
        }
    }
}
