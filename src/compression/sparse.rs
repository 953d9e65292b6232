//! A file whose blocks of zeros become holes: a disk image of 10 GiB need not take them.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

const BLOCK: usize = 64 << 10;

/// Writes a fresh file, leaving out zeros.
#[derive(Debug)]
pub struct SparseFile {
    file: File,
    length: u64,
}

impl SparseFile {
    /// Over an empty file.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file, length: 0 }
    }

    /// Sets the length and returns the file.
    pub fn finish(self) -> io::Result<File> {
        self.file.set_len(self.length)?;
        Ok(self.file)
    }
}

impl Write for SparseFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Up to the next block's boundary, so that whole blocks are seen.
        let room = BLOCK - (self.length % BLOCK as u64) as usize;
        let part = &bytes[..bytes.len().min(room)];
        if part.iter().any(|byte| *byte != 0) {
            self.file.write_all_at(part, self.length)?;
        }
        self.length += part.len() as u64;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
