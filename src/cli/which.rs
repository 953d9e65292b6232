//! The option that commands about one build have in common.

use anyhow::Result;

use crate::builds::{Build, Workdir};
use crate::host::environment;

/// Which build.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Which {
    /// The build.
    #[arg(long, value_name = "ID", default_value = "latest")]
    build: String,
    /// Its architecture (default: this machine's).
    #[arg(long)]
    arch: Option<String>,
}

impl Which {
    /// The one build.
    pub(super) fn find(&self, workdir: &Workdir) -> Result<Build> {
        workdir.build(&self.build, self.arch.as_deref().unwrap_or(environment::basearch()))
    }

    /// The build for every architecture that is here, or for the one that was named.
    pub(super) fn all(&self, workdir: &Workdir) -> Result<Vec<Build>> {
        if self.arch.is_some() {
            return Ok(vec![self.find(workdir)?]);
        }
        workdir.architectures(&self.build)
    }
}
