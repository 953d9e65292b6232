//! Compressing a build's artifacts, and back. The new file is written beside the old one and checked against
//! meta.json before it takes its place (see `Build::switch_artifact`).

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::builds::{Artifact, Build, BuildLock};
use crate::compression::{self, Format, SparseFile};
use crate::failure::{Failure, Kind};
use crate::host::{clock, environment, fs};
use crate::pipeline::{Digest, Hashing, Progress, Reporter, Unit};

/// Whose artifacts, and who is told.
pub struct Job<'a> {
    /// The build.
    pub build: &'a Build,
    /// The right to change it.
    pub lock: &'a BuildLock,
    /// Which artifacts; all if empty.
    pub artifacts: &'a [String],
    /// Where to tell of progress.
    pub report: &'a Reporter,
}

/// What became of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The architecture.
    pub arch: String,
    /// Its name.
    pub artifact: String,
    /// Its file now.
    pub path: String,
    /// Its size now.
    pub size: Option<u64>,
    /// Why it is as it was; `None` when it was changed.
    pub skipped: Option<&'static str>,
}

/// Compresses artifacts.
pub fn compress(job: &Job<'_>, format: Format, level: u32) -> Result<Vec<Change>> {
    job.each(|name, artifact| {
        if artifact.skip_compression == Some(true) {
            return Ok(Err("is not to be compressed"));
        }
        if artifact.uncompressed_sha256.is_some() || Format::of_name(&artifact.path).is_some() {
            return Ok(Err("is compressed already"));
        }
        let (source, _) = job.build.artifact(name)?;
        let path = format!("{}{}", artifact.path, format.extension());
        let beside = job.build.beside(&path)?;
        let written = job.write(&beside, &source, "compressing", artifact, |mut input, output, size| {
            let mut hashing = Hashing::new(BufWriter::with_capacity(1 << 20, output));
            compression::encode(
                format,
                level,
                environment::processors(),
                Some(size),
                &mut input,
                &mut hashing,
            )?;
            let (digest, count, writer) = hashing.finish();
            Ok((digest, count, writer.into_inner().context("writing")?))
        })?;
        Ok(Ok(Artifact {
            path,
            sha256: written.0.to_string(),
            size: Some(written.1),
            uncompressed_sha256: Some(artifact.sha256.clone()),
            uncompressed_size: Some(written.2),
            skip_compression: artifact.skip_compression,
        }))
    })
}

/// Decompresses artifacts.
pub fn decompress(job: &Job<'_>) -> Result<Vec<Change>> {
    job.each(|name, artifact| {
        if artifact.skip_compression == Some(true) {
            return Ok(Err("is not to be compressed"));
        }
        let Some((format, path)) = Format::of_name(&artifact.path) else {
            return Ok(Err("is not compressed"));
        };
        let (source, _) = job.build.artifact(name)?;
        let beside = job.build.beside(path)?;
        let written = job.write(&beside, &source, "decompressing", artifact, |input, output, _| {
            let mut hashing = Hashing::new(SparseFile::new(output));
            compression::decode(format, BufReader::with_capacity(1 << 20, input), &mut hashing)?;
            let (digest, count, file) = hashing.finish();
            Ok((digest, count, file.finish()?))
        })?;
        if let Some(expected) = &artifact.uncompressed_sha256
            && *expected != written.0.to_string()
        {
            fs::remove_file_if_exists(&beside)?;
            return Err(damaged(&source, "uncompressed content", &written.0, expected));
        }
        Ok(Ok(Artifact {
            path: path.to_owned(),
            sha256: written.0.to_string(),
            size: Some(written.1),
            skip_compression: artifact.skip_compression,
            ..Artifact::default()
        }))
    })
}

impl Job<'_> {
    /// Has each artifact's file replaced by the one that `make` left beside it, or says why not.
    fn each(
        &self,
        mut make: impl FnMut(&str, &Artifact) -> Result<Result<Artifact, &'static str>>,
    ) -> Result<Vec<Change>> {
        let images = self.build.meta()?.images;
        for name in self.artifacts {
            // The failure names those there are.
            self.build.artifact(name)?;
        }
        let mut changes = Vec::new();
        let wanted = |name: &String| self.artifacts.is_empty() || self.artifacts.contains(name);
        for (name, artifact) in images.iter().filter(|(name, _)| wanted(name)) {
            let made = make(name, artifact)?;
            if let Ok(new) = &made {
                let now = u64::try_from(clock::now_nanos()).unwrap_or(u64::MAX);
                self.build.switch_artifact(self.lock, name, new, now, &mut |_| Ok(()))?;
            }
            let (skipped, artifact) = match made {
                Ok(new) => (None, new),
                Err(reason) => (Some(reason), artifact.clone()),
            };
            let arch = self.build.arch().to_owned();
            changes.push(Change {
                arch,
                artifact: name.clone(),
                path: artifact.path,
                size: artifact.size,
                skipped,
            });
        }
        Ok(changes)
    }

    /// Writes the file `beside` from `source`, whose bytes must be what `artifact` says. Returns digest and
    /// size of what was written, and the size of what was read. A failure leaves nothing.
    fn write(
        &self,
        beside: &Path,
        source: &Path,
        doing: &str,
        artifact: &Artifact,
        work: impl FnOnce(&mut dyn Read, File, u64) -> Result<(Digest, u64, File)>,
    ) -> Result<(Digest, u64, u64)> {
        let file = fs::open(source)?;
        let size = file.metadata().with_context(|| format!("reading {}", source.display()))?.len();
        let progress = self.report.progress(format!("{doing} {}", artifact.path), size, Unit::Bytes);
        let mut input = Hashing::new(Watched { inner: file, progress });
        let run = || -> Result<(Digest, u64, u64)> {
            let (digest, count, output) = work(&mut input, fs::create(beside)?, size)?;
            // A decoder may stop before the file's end.
            std::io::copy(&mut input, &mut std::io::sink())?;
            output.sync_all()?;
            let (found, read, _) = input.finish();
            if found.to_string() != artifact.sha256 {
                return Err(damaged(source, "content", &found, &artifact.sha256));
            }
            Ok((digest, count, read))
        };
        run().map_err(|error| {
            drop(fs::remove_file_if_exists(beside));
            match error.downcast::<Failure>() {
                Ok(failure) => failure.into(),
                Err(error) => self.explain(error.context(format!("{doing} {}", source.display()))),
            }
        })
    }

    /// What could not be read as its format is damaged; everything else stays what it was.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let broken = error.chain().any(|cause| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.raw_os_error().is_none())
        });
        if !broken {
            return error;
        }
        let cure = "fetch or make that artifact again";
        Failure::new(Kind::Artifact, format!("{error:#}"), cure).into()
    }
}

fn damaged(path: &Path, what: &str, found: &Digest, expected: &str) -> anyhow::Error {
    Failure::new(
        Kind::Artifact,
        format!(
            "{} is damaged: the SHA-256 of its {what} is {found}, meta.json says {expected}",
            path.display()
        ),
        "fetch or make that artifact again",
    )
    .into()
}

/// A reader that tells how far it is.
struct Watched {
    inner: File,
    progress: Progress,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}
