//! The layers of an image, each read through [`Layout::read_layer`], several at once.

use std::io::{self, Read};

use anyhow::Result;

use super::limits::{at, refuse};
use crate::oci::{Budget, Image, LayerEntry, Layout};
use crate::pipeline::Progress;

/// A layer of an image.
pub(super) struct Layer<'a> {
    layout: &'a Layout,
    image: &'a Image,
    index: usize,
}

/// The layers of an image, in order.
pub(super) fn layers<'a>(layout: &'a Layout, image: &'a Image) -> Vec<Layer<'a>> {
    (0..image.manifest.layers().len()).map(|index| Layer { layout, image, index }).collect()
}

impl Layer<'_> {
    /// Hands each entry to `visit`; what that made of them counts only when this succeeds.
    pub(super) fn read<T>(
        &self,
        budget: &Budget,
        progress: &Progress,
        mut what: T,
        visit: impl Fn(&mut T, &LayerEntry, &mut dyn Read) -> Result<()>,
    ) -> Result<T> {
        let read = self.layout.read_layer(self.image, self.index, budget, |entry, content| {
            let mut content = Content { inner: content, progress, fault: None };
            let visited = visit(&mut what, &entry, &mut content);
            match content.fault {
                Some(fault) if visited.is_err() => Err(refuse(fault)),
                _ => visited,
            }
        });
        read.map_err(|error| self.at(error))?;
        Ok(what)
    }

    /// Names the layer in a refusal.
    pub(super) fn at(&self, error: anyhow::Error) -> anyhow::Error {
        let place = format!("layer {} of {}", self.index + 1, self.image.manifest.layers().len());
        at(&place, error)
    }
}

/// A file's content, and why it could not be read, if the layer is to blame.
struct Content<'a> {
    inner: &'a mut dyn Read,
    progress: &'a Progress,
    fault: Option<String>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).inspect_err(|error| {
            // What the system says has a number; what a decoder says has none.
            if error.raw_os_error().is_none() {
                self.fault = Some(error.to_string());
            }
        })?;
        self.progress.add(count as u64);
        Ok(count)
    }
}
