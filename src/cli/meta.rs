//! `nosa meta`: reads and changes a build's meta.json.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use super::which::Which;
use super::{Context, render};
use crate::builds::{self, KeyPath, Setting};

/// Read or change a build's meta.json
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("action").required(true).multiple(false).args([
    "get", "get_value", "set", "set_int", "set_bool", "dump", "image_path", "artifact_json", "finalize",
])))]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print `KEY: VALUE`; keys have dots between: images.qemu.path.
    #[arg(long, value_name = "KEY")]
    get: Vec<KeyPath>,
    /// Print a value.
    #[arg(long, value_name = "KEY")]
    get_value: Vec<KeyPath>,
    /// Set texts.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Set whole numbers.
    #[arg(long, value_name = "KEY=NUMBER")]
    set_int: Vec<Setting>,
    /// Set true or false.
    #[arg(long, value_name = "KEY=true|false")]
    set_bool: Vec<String>,
    /// What `--set-bool KEY` sets.
    #[arg(long = "true", requires = "set_bool")]
    yes: bool,
    /// What `--set-bool KEY` sets.
    #[arg(long = "false", requires = "set_bool", conflicts_with = "yes")]
    no: bool,
    /// Print all of it.
    #[arg(long)]
    dump: bool,
    /// Print the path of an artifact's file.
    #[arg(long, value_name = "ARTIFACT")]
    image_path: Option<String>,
    /// Join these files with it.
    #[arg(long, value_name = "FILE")]
    artifact_json: Vec<PathBuf>,
    /// The artifact that they tell of: a delayed merge writes meta.ARTIFACT.json.
    #[arg(long, value_name = "ARTIFACT", requires = "artifact_json")]
    artifact: Option<String>,
    /// Fold the meta.ARTIFACT.json files of a delayed merge into it.
    #[arg(long)]
    finalize: bool,
    /// Write even what the schema forbids.
    #[arg(long)]
    skip_validation: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let build = args.which.find(&context.open()?)?;
    let (now, validated) = (context.now_nanos(), !args.skip_validation);
    let part = args.artifact.as_deref();
    if args.finalize {
        let folded = build.finalize(now, validated)?;
        context.report.note(format!("folded {} files into meta.json of build {}", folded.len(), build.id()));
    } else if !args.artifact_json.is_empty() {
        let parts =
            args.artifact_json.iter().map(|path| builds::read_part(path)).collect::<Result<Vec<_>>>()?;
        let join = |meta: &mut Value| parts.iter().try_for_each(|part| builds::join_part(meta, part));
        build.update_json(part, now, validated, join)?;
    } else if let Some(name) = &args.image_path {
        render::print(&build.artifact(name)?.0.display().to_string());
    } else if args.dump {
        render::print_json(&build.meta_json()?);
    } else if args.get.is_empty() && args.get_value.is_empty() {
        let new = args.settings()?;
        let set = |meta: &mut Value| new.iter().try_for_each(|(key, value)| key.set(meta, value.clone()));
        build.update_json(part, now, validated, set)?;
    } else {
        let meta = build.meta_json()?;
        for (keys, named) in [(&args.get, true), (&args.get_value, false)] {
            for key in keys {
                render::print_value(named.then_some(key), key.require(&meta)?, context.json);
            }
        }
    }
    Ok(())
}

impl Args {
    /// The values to set.
    fn settings(&self) -> Result<Vec<(KeyPath, Value)>> {
        let mut new = Vec::new();
        for setting in &self.set {
            new.push((setting.key.clone(), Value::from(setting.value.as_str())));
        }
        for setting in &self.set_int {
            new.push((setting.key.clone(), setting.integer()?));
        }
        for text in &self.set_bool {
            // As coreos-assembler: the value is an option of its own.
            let short = (self.yes || self.no) && !text.contains('=');
            let setting: Setting =
                if short { format!("{text}={}", self.yes).parse()? } else { text.parse()? };
            new.push((setting.key.clone(), setting.boolean()?));
        }
        Ok(new)
    }
}
