//! QEMU's `head,key=value,…` options, built so that no value can break out: a comma in it doubles.

use std::fmt::Write as _;
use std::path::Path;

/// One option argument under construction.
#[derive(Debug, Clone)]
pub(super) struct Options(String);

impl Options {
    /// An option that starts with a bare word: `virtio-blk-pci`, `user`, `q35`.
    pub(super) fn new(head: &str) -> Self {
        Self(escape(head))
    }

    /// An option that has keys only.
    pub(super) fn keys() -> Self {
        Self(String::new())
    }

    /// Adds `key=value`.
    #[must_use]
    pub(super) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        write!(self.0, "{key}={}", escape(&value.to_string())).unwrap_or_default();
        self
    }

    /// Adds `key=path`.
    #[must_use]
    pub(super) fn path(self, key: &str, path: &Path) -> Self {
        self.set(key, path.display())
    }

    /// Adds `key=value` if there is a value.
    #[must_use]
    pub(super) fn maybe(self, key: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// The finished argument.
    pub(super) fn build(self) -> String {
        self.0
    }
}

fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        let option = Options::new("file").set("id", "a").path("path", Path::new("/tmp/a,b/c=d")).build();
        assert_eq!(option, "file,id=a,path=/tmp/a,,b/c=d");
        assert_eq!(Options::keys().set("if", "none").build(), "if=none");
    }
}
