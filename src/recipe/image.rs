//! The OCI image of a build: what its plan depends on, what an update to it costs, and whether that is too
//! much.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::{Planned, Recipe};
use crate::builds::{Build, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::oci::{
    Component, Compression, Contents, MAX_LAYERS, OciArchive, PlanRecord, Planning, UpdateCost,
};
use crate::pipeline::Reporter;

/// The file of a build that tells what its image is made of.
pub const OCI_PLAN: &str = "oci-plan.json";

/// What a user can say about the image.
#[derive(Debug, Clone)]
pub struct ImageOptions {
    /// How many layers it has at most.
    pub max_layers: usize,
    /// How its layers are compressed.
    pub compression: Compression,
    /// Which plan its own follows.
    pub plan: PlanSource,
    /// How many bytes an update to it may cost.
    pub max_update_size: Option<u64>,
}

/// Which plan a build's own follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanSource {
    /// That of the build before.
    Previous,
    /// That in this file.
    File(PathBuf),
    /// None: layers are planned as if there had been no image before.
    Fresh,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            max_layers: MAX_LAYERS,
            compression: Compression::default(),
            plan: PlanSource::Previous,
            max_update_size: None,
        }
    }
}

/// The image before, as plans and costs need it.
#[derive(Debug, Clone)]
pub(super) struct Before {
    name: String,
    record: PlanRecord,
}

/// What a machine downloads that has the image before.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Update {
    /// The build it has, or the file with its plan.
    pub from: String,
    /// What it downloads.
    #[serde(flatten)]
    pub cost: UpdateCost,
}

/// A build's image and what an update to it costs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImagePlan {
    /// The build.
    pub build: String,
    /// What its image is made of.
    #[serde(flatten)]
    pub plan: PlanRecord,
    /// What an update from another build costs, if there is one to compare with.
    pub update: Option<Update>,
}

impl ImageOptions {
    /// The image before: of the file that was named, else of the latest build.
    pub(super) fn before(&self, latest: Option<&Build>, report: &Reporter) -> Result<Option<Before>> {
        if let PlanSource::File(path) = &self.plan {
            let name = path.display().to_string();
            let record = PlanRecord::read(path)?.ok_or_else(|| {
                let cause = format!("{name}, which --oci-plan names, is not there");
                Failure::new(Kind::Usage, cause, format!("name the {OCI_PLAN} of a build"))
            })?;
            return Ok(Some(Before { name, record }));
        }
        let Some(build) = latest else { return Ok(None) };
        let record = plan_of(build)?;
        if record.is_none() {
            report.note(format!("build {} has no {OCI_PLAN}: its layers are planned afresh", build.id()));
        }
        Ok(record.map(|record| Before { name: build.id().to_owned(), record }))
    }

    /// Whether the image that is there is what these options ask for.
    pub(super) fn suits(&self, latest: &Build, before: Option<&Before>) -> Result<bool> {
        let Some(there) = plan_of(latest)? else { return Ok(true) };
        Ok(there.compression == self.compression
            && there.layers.len() <= self.max_layers
            && match &self.plan {
                PlanSource::Previous => true,
                PlanSource::Fresh => false,
                PlanSource::File(_) => before.is_none_or(|before| before.record.lock() == there.lock()),
            })
    }

    fn planning(&self, before: Option<&Before>) -> Planning {
        let fresh = self.plan == PlanSource::Fresh;
        Planning {
            max_layers: self.max_layers,
            lock: before.filter(|_| !fresh).map(|before| before.record.lock()).unwrap_or_default(),
            changes: before.map(|before| before.record.history.changes.clone()).unwrap_or_default(),
        }
    }

    /// Fails when an update costs more than it may.
    fn check(&self, update: &Update) -> Result<()> {
        const NAMED: usize = 5;
        let Some(limit) = self.max_update_size.filter(|limit| update.cost.total > *limit) else {
            return Ok(());
        };
        let layers = &update.cost.layers;
        let mut causes: Vec<String> = layers
            .iter()
            .take(NAMED)
            .map(|layer| format!("{} for {}", mib(layer.size), layer.why()))
            .collect();
        if layers.len() > NAMED {
            causes.push(format!("{} more layers", layers.len() - NAMED));
        }
        let cause = format!(
            "an update from {} would download {}, and --max-update-size allows {}: {}",
            update.from,
            mib(update.cost.total),
            mib(limit),
            causes.join("; ")
        );
        let cure = "nothing was published; leave out one of these changes, or allow more";
        Err(Failure::new(Kind::OverBudget, cause, cure).into())
    }
}

impl Recipe<'_> {
    /// The plan of a written image with its history, and what an update to it costs, which must be allowed.
    pub(super) fn settle_image(
        &self,
        image: &OciArchive,
        before: Option<&Before>,
    ) -> Result<(PlanRecord, Option<Update>)> {
        let mut plan = image.plan()?;
        let Some(Before { name, record }) = before else { return Ok((plan, None)) };
        plan.follow(record);
        let update = Update { from: name.clone(), cost: UpdateCost::between(record, &plan) };
        self.options.image.check(&update)?;
        Ok((plan, Some(update)))
    }

    /// Where the files of the commit come from.
    pub(super) fn contents(&self, planned: &Planned) -> Result<Contents> {
        let packages = planned.packages.packages.iter().map(|package| {
            let component = Component { source: package.source.clone(), version: package.evr.to_string() };
            (package.name.clone(), component)
        });
        let composition = self.composition(&planned.installed, String::new())?;
        Ok(Contents {
            owners: planned.installed.owners()?,
            packages: packages.collect::<BTreeMap<_, _>>(),
            configured: composition.configured(),
        })
    }

    pub(super) fn image_planning(&self, before: Option<&Before>) -> Planning {
        self.options.image.planning(before)
    }
}

/// What a build's image is made of; `None` for builds that do not tell.
fn plan_of(build: &Build) -> Result<Option<PlanRecord>> {
    PlanRecord::read(&build.dir().join(OCI_PLAN))
}

fn told_plan(build: &Build) -> Result<PlanRecord> {
    if let Some(plan) = plan_of(build)? {
        return Ok(plan);
    }
    let cause = format!("build {} does not tell what its image is made of ({OCI_PLAN})", build.id());
    let cure = match build.meta()?.oci_imported {
        Some(true) => "it was imported: only what `nosa build` made has a plan",
        _ => "build it anew: older builds do not",
    };
    Err(Failure::new(Kind::Artifact, cause, cure).into())
}

/// The build whose plan the next one follows: the latest, but that images from elsewhere have no plan.
pub(super) fn last_own(workdir: &Workdir, latest: &Build) -> Result<Option<Build>> {
    let mut build = latest.clone();
    while build.meta()?.oci_imported == Some(true) {
        let Ok(before) = workdir.build_before(&build) else { return Ok(None) };
        build = before;
    }
    Ok(Some(build))
}

/// A build's image, and what an update to it costs from the build `from` (default: the one before, if there
/// is one).
pub fn image_plan(workdir: &Workdir, id: &str, from: Option<&str>) -> Result<ImagePlan> {
    let arch = environment::basearch();
    let build = workdir.build(id, arch)?;
    let plan = told_plan(&build)?;
    let before = match from {
        Some(id) => Some(workdir.build(id, arch)?),
        None => {
            let own = workdir.build_before(&build).and_then(|before| last_own(workdir, &before));
            own.ok().flatten().filter(|before| before.dir().join(OCI_PLAN).exists())
        }
    };
    let update = match before {
        Some(before) => Some(Update {
            from: before.id().to_owned(),
            cost: UpdateCost::between(&told_plan(&before)?, &plan),
        }),
        None => None,
    };
    Ok(ImagePlan { build: build.id().to_owned(), plan, update })
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builds::{ConfigSource, EmbeddedFile, Meta};

    #[test]
    fn an_import_stands_between_no_two_plans() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path| EmbeddedFile { path, mode: 0o644, bytes: b"" };
        let config = [file("manifest.yaml"), file("image.yaml")];
        let workdir = Workdir::init(dir.path(), false, None, ConfigSource::Embedded(&config)).unwrap();
        let lock = workdir.lock("test").unwrap();
        let publish = |id: &str, imported: bool| {
            let meta = Meta {
                buildid: id.to_owned(),
                name: "os".to_owned(),
                ostree_version: id.to_owned(),
                ostree_commit: "c".repeat(64),
                ostree_content_checksum: Some("d".repeat(64)),
                rpm_ostree_inputhash: Some("e".repeat(64)),
                ostree_timestamp: "2020-01-15T19:31:31Z".to_owned(),
                oci_imported: imported.then_some(true),
                ..Meta::default()
            };
            workdir.stage(&lock, id, "x86_64").unwrap().publish(&meta, 0).unwrap()
        };
        let own = |build: &Build| last_own(&workdir, build).unwrap().map(|build| build.id().to_owned());
        assert_eq!(own(&publish("1.0", true)), None);
        assert_eq!(own(&publish("2.0", false)), Some("2.0".to_owned()));
        publish("3.0", true);
        assert_eq!(own(&publish("4.0", true)), Some("2.0".to_owned()));
    }
}
