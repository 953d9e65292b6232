//! Compressing streams with all cores, so that the bytes depend on the content and the settings alone: never
//! on the number of threads. It knows nothing of builds.

mod decode;
mod encode;
mod gzip;
mod sparse;

use std::str::FromStr;

pub use decode::{decode, decoder};
pub use encode::encode;
pub use sparse::SparseFile;

use crate::failure::{Failure, Kind};

/// A compressed format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One gzip member.
    Gzip,
    /// One xz stream of many blocks.
    Xz,
    /// One zstd frame.
    Zstd,
}

impl Format {
    /// All, with their names.
    pub const ALL: &[(&str, Self)] = &[("gzip", Self::Gzip), ("xz", Self::Xz), ("zstd", Self::Zstd)];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// What a file's name gets at its end.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// The level that fits images: dense, and still as fast as a disk.
    #[must_use]
    pub const fn usual_level(self) -> u32 {
        match self {
            Self::Gzip | Self::Xz => 6,
            Self::Zstd => 10,
        }
    }

    /// The format that a file's name tells of, and the name without it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<(Self, &str)> {
        Self::ALL.iter().find_map(|(_, format)| Some((*format, name.strip_suffix(format.extension())?)))
    }

    /// The format that a file's first bytes tell of.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl FromStr for Format {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            let cause = format!("`{text}` is no compressor");
            Failure::new(Kind::Usage, cause, format!("choose one of {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests;
