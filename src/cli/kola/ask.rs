//! Naming boot tests: where they are looked for, and which of them are meant.

use std::path::PathBuf;

use anyhow::Result;

use super::shipped::shipped;
use crate::cli::Context;
use crate::host::{clock, fs};
use crate::kola::{Circumstances, Denylist, Root, Selected, Selection, Shard, Test, discover, select};

/// Which tests are meant.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Name patterns, such as `ext.config.*` (default: all tests)
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// A directory with more tests (at DIR/tests/kola, named ext.<DIR>.…)
    #[arg(long = "exttest", short = 'E', value_name = "DIR")]
    exttest: Vec<PathBuf>,
    /// Only tests with this tag; !TAG leaves those out
    #[arg(long, value_name = "[!]TAG")]
    tag: Vec<String>,
    /// Leave tests out by pattern
    #[arg(long, value_name = "PATTERN")]
    denylist_test: Vec<String>,
    /// A share of the tests, such as hash:1/3
    #[arg(long, value_name = "hash:M/N", value_parser = Shard::parse)]
    sharding: Option<Shard>,
    /// The stream of the image, which denylist entries may name
    #[arg(long, value_name = "STREAM", default_value = "", hide_default_value = true)]
    denylist_stream: String,
    /// The distribution of the image, which tests may name
    #[arg(long, default_value = "nestos")]
    distro: String,
}

/// The tests there are and the question which of them run.
pub(super) struct Ask {
    tests: Vec<Test>,
    selection: Selection,
    /// The denylist of the working directory's configuration.
    pub(super) denylist: Denylist,
    /// What it is asked about.
    pub(super) circumstances: Circumstances,
}

impl Ask {
    pub(super) fn new(args: &TestArgs, context: &Context, arch: &str, build: Option<&str>) -> Result<Self> {
        let config = context.workdir.join("src/config");
        let file = config.join("kola-denylist.yaml");
        let text = fs::read_optional(&file)?.unwrap_or_default();
        let denylist = Denylist::parse(&file.display().to_string(), &text)?;
        let today = clock::Utc::from_epoch(clock::now()).rfc3339()[..10].to_owned();
        denylist.expired(&today).into_iter().for_each(|note| context.report.note(note));
        let mut roots = vec![shipped(&context.workdir.join("tmp/kola-tests"))?];
        roots.extend(Root::of_config(&config));
        for dir in &args.exttest {
            roots.push(Root::named_by(dir)?);
        }
        let mut tests = vec![Test::basic()];
        for root in &roots {
            tests.extend(discover(root)?);
        }
        let selection = Selection {
            patterns: args.patterns.clone(),
            tags: args.tag.clone(),
            denied: args.denylist_test.clone(),
            distro: args.distro.clone(),
            shard: args.sharding,
        };
        let circumstances = Circumstances {
            stream: args.denylist_stream.clone(),
            arch: arch.to_owned(),
            platform: "qemu".to_owned(),
            version: build.unwrap_or_default().to_owned(),
            today,
        };
        Ok(Self { tests, selection, denylist, circumstances })
    }

    pub(super) fn select(&self) -> Result<Vec<Selected>> {
        Ok(select(self.tests.clone(), &self.selection, &self.denylist, &self.circumstances)?)
    }
}
