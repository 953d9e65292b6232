//! meta.json and commitmeta.json with types: every key of coreos-assembler's v1 schema.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema;
use crate::failure::{Failure, Kind};

/// A file of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Artifact {
    /// Its name in the build's directory.
    pub path: String,
    /// Its digest, 64 hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether it is to stay as it is when the build is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_compression: Option<bool>,
    /// The digest before it was compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncompressed_sha256: Option<String>,
    /// The size before it was compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncompressed_size: Option<u64>,
}

/// Where a source tree came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSource {
    /// The commit.
    pub commit: String,
    /// The repository.
    pub origin: String,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// `true` or `false`, as a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<String>,
}

/// A container image that was pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerImage {
    /// Its name.
    pub image: String,
    /// Its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The content of meta.json. Uploads to clouds are kept as they stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Meta {
    /// The build's id.
    pub buildid: String,
    /// The operating system's name.
    pub name: String,
    /// One line about it.
    pub summary: Option<String>,
    /// The OSTree branch.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The OSTree commit.
    pub ostree_commit: String,
    /// The commit's content checksum.
    pub ostree_content_checksum: Option<String>,
    /// The commit's time, RFC 3339 in UTC.
    pub ostree_timestamp: String,
    /// The version in the commit.
    pub ostree_version: String,
    /// Content objects taken from the cache.
    pub ostree_n_cache_hits: Option<u64>,
    /// Content objects in the commit.
    pub ostree_n_content_total: Option<u64>,
    /// Content objects written.
    pub ostree_n_content_written: Option<u64>,
    /// Metadata objects in the commit.
    pub ostree_n_metadata_total: Option<u64>,
    /// Metadata objects written.
    pub ostree_n_metadata_written: Option<u64>,
    /// Bytes of content written.
    pub ostree_content_bytes_written: Option<u64>,
    /// The digest of what the tree was made from.
    pub rpm_ostree_inputhash: Option<String>,
    /// The architecture.
    #[serde(rename = "coreos-assembler.basearch")]
    pub basearch: Option<String>,
    /// The time of the build.
    #[serde(rename = "coreos-assembler.build-timestamp")]
    pub build_timestamp: Option<String>,
    /// Where the program came from.
    #[serde(rename = "coreos-assembler.code-source")]
    pub code_source: Option<String>,
    /// Whether the configuration had uncommitted changes: `true` or `false`, as a text.
    #[serde(rename = "coreos-assembler.config-dirty")]
    pub config_dirty: Option<String>,
    /// The configuration's commit.
    #[serde(rename = "coreos-assembler.config-gitrev")]
    pub config_gitrev: Option<String>,
    /// The configuration's variant.
    #[serde(rename = "coreos-assembler.config-variant")]
    pub config_variant: Option<String>,
    /// The configuration's source.
    #[serde(rename = "coreos-assembler.container-config-git")]
    pub config_git: Option<GitSource>,
    /// The program's source.
    #[serde(rename = "coreos-assembler.container-image-git")]
    pub program_git: Option<GitSource>,
    /// The repository definitions' source.
    #[serde(rename = "coreos-assembler.yumrepos-git")]
    pub yumrepos_git: Option<GitSource>,
    /// The digest of image.yaml.
    #[serde(rename = "coreos-assembler.image-config-checksum")]
    pub image_config_checksum: Option<String>,
    /// The digest of commit and image.yaml.
    #[serde(rename = "coreos-assembler.image-input-checksum")]
    pub image_input_checksum: Option<String>,
    /// How many builds with the same commit came before.
    #[serde(rename = "coreos-assembler.image-genver")]
    pub image_genver: Option<u64>,
    /// When it was last written, nanoseconds since 1970.
    #[serde(rename = "coreos-assembler.meta-stamp")]
    pub meta_stamp: Option<serde_json::Number>,
    /// Whether writers leave files of their own to be joined later.
    #[serde(rename = "coreos-assembler.delayed-meta-merge")]
    pub delayed_meta_merge: Option<bool>,
    /// Whether overrides/ had a part in it.
    #[serde(rename = "coreos-assembler.overrides-active")]
    pub overrides_active: Option<bool>,
    /// Whether it was imported from an OCI image.
    #[serde(rename = "coreos-assembler.oci-imported")]
    pub oci_imported: Option<bool>,
    /// The labels of that image.
    #[serde(rename = "coreos-assembler.oci-imported-labels")]
    pub oci_imported_labels: Option<BTreeMap<String, String>>,
    /// The version of the parent build in its stream.
    #[serde(rename = "fedora-coreos.parent-version")]
    pub parent_version: Option<String>,
    /// The commit of the parent build in its stream.
    #[serde(rename = "fedora-coreos.parent-commit")]
    pub parent_commit: Option<String>,
    /// Packages that differ from the build before.
    pub pkgdiff: Option<Vec<Value>>,
    /// Packages that differ from the parent.
    pub parent_pkgdiff: Option<Vec<Value>>,
    /// Advisories since the build before.
    pub advisories_diff: Option<Vec<Value>>,
    /// Advisories since the parent.
    pub parent_advisories_diff: Option<Vec<Value>>,
    /// The artifacts by name.
    pub images: BTreeMap<String, Artifact>,
    /// The image that was pushed.
    pub oscontainer: Option<ContainerImage>,
    /// The image it was built on.
    pub base_oscontainer: Option<ContainerImage>,
    /// The image of extensions.
    pub extensions_container: Option<ContainerImage>,
    /// The release payload.
    pub release_payload: Option<ContainerImage>,
    /// The image for KubeVirt.
    pub kubevirt: Option<ContainerImage>,
    /// The extensions.
    pub extensions: Option<Value>,
    /// Where the build can be seen.
    pub build_url: Option<String>,
    /// Where the build was uploaded.
    pub s3: Option<Value>,
    /// The build in Koji.
    pub koji: Option<Value>,
    /// Uploads to Aliyun.
    pub aliyun: Option<Value>,
    /// Uploads to AWS.
    pub amis: Option<Value>,
    /// Windows licence-included uploads to AWS.
    pub aws_winli: Option<Value>,
    /// Uploads to Azure.
    pub azure: Option<Value>,
    /// Uploads to Google Cloud.
    pub gcp: Option<Value>,
    /// Uploads to IBM Cloud.
    pub ibmcloud: Option<Value>,
    /// Uploads to PowerVS.
    pub powervs: Option<Value>,
}

impl Meta {
    /// Reads a JSON value.
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|error| {
            Failure::new(Kind::Artifact, format!("meta.json is damaged: {error}"), "restore it from a copy")
                .into()
        })
    }

    /// The JSON value, without keys that hold nothing.
    pub fn to_json(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self).context("encoding meta.json")?;
        if let Value::Object(map) = &mut value {
            map.retain(|key, value| !value.is_null() && (key != "images" || !self.images.is_empty()));
        }
        Ok(value)
    }
}

/// Fails with all problems if a value is not a valid meta.json; those that `before` had too are not its fault.
pub(super) fn check(name: &str, value: &Value, before: Option<&Value>) -> Result<()> {
    let old = before.map(schema::validate).unwrap_or_default();
    let mut problems = schema::validate(value);
    problems.retain(|problem| !old.contains(problem));
    if problems.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = problems
        .iter()
        .map(|problem| format!("{} {}", problem.pointer, problem.what).trim().to_owned())
        .collect();
    Err(Failure::new(
        Kind::Artifact,
        format!("{name} would not follow the schema: {}", list.join("; ")),
        "correct the values that were given",
    )
    .into())
}

/// One package in commitmeta.json: name, epoch, version, release, architecture.
pub type PackageRow = [String; 5];

/// The content of commitmeta.json: the commit's metadata, as far as nosa or its readers know names for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommitMeta {
    /// The version.
    pub version: String,
    /// The digest of what the tree was made from.
    pub inputhash: Option<String>,
    /// The installed packages, sorted by name.
    pub packages: Vec<PackageRow>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Everything else.
    pub other: BTreeMap<String, Value>,
}

const VERSION: &str = "version";
const INPUTHASH: &str = "rpmostree.inputhash";
const PACKAGES: &str = "rpmostree.rpmdb.pkglist";
const KERNEL: &str = "ostree.linux";
const BOOTABLE: &str = "ostree.bootable";

impl CommitMeta {
    /// Reads a JSON value.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(map) = value else {
            return Err(
                Failure::new(Kind::Artifact, "commitmeta.json is damaged: not a map", "restore it").into()
            );
        };
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let packages = match map.get(PACKAGES) {
            Some(list) => Vec::deserialize(list).map_err(|error| {
                let cause = format!("commitmeta.json is damaged: {PACKAGES}: {error}");
                Failure::new(Kind::Artifact, cause, "restore it from a copy")
            })?,
            None => Vec::new(),
        };
        let known = [VERSION, INPUTHASH, PACKAGES, KERNEL, BOOTABLE];
        let other = map.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        Ok(Self {
            version: text(VERSION).unwrap_or_default(),
            inputhash: text(INPUTHASH),
            packages,
            kernel: text(KERNEL),
            other: other.map(|(key, value)| (key.clone(), value.clone())).collect(),
        })
    }

    /// The JSON value, keys sorted; a commit with a kernel is bootable.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut sorted: BTreeMap<String, Value> = self.other.clone();
        sorted.insert(VERSION.to_owned(), self.version.clone().into());
        sorted
            .insert(PACKAGES.to_owned(), self.packages.iter().map(|row| Value::from(row.to_vec())).collect());
        if let Some(inputhash) = &self.inputhash {
            sorted.insert(INPUTHASH.to_owned(), inputhash.clone().into());
        }
        if let Some(kernel) = &self.kernel {
            sorted.insert(KERNEL.to_owned(), kernel.clone().into());
            sorted.insert(BOOTABLE.to_owned(), true.into());
        }
        Value::Object(sorted.into_iter().collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_type_has_every_key_of_the_schema_and_no_other() {
        let value = serde_json::to_value(Meta::default()).unwrap();
        let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, schema::keys());
    }

    #[test]
    fn meta_round_trips_without_empty_keys() {
        let mut meta = Meta { buildid: "1".to_owned(), overrides_active: Some(true), ..Meta::default() };
        let artifact = Artifact { path: "a".to_owned(), size: Some(3), ..Artifact::default() };
        meta.images.insert("ostree".to_owned(), artifact);
        let value = meta.to_json().unwrap();
        assert_eq!(
            value,
            json!({
                "buildid": "1", "name": "", "ostree-commit": "", "ostree-timestamp": "", "ostree-version": "",
                "coreos-assembler.overrides-active": true,
                "images": {"ostree": {"path": "a", "sha256": "", "size": 3}}
            })
        );
        assert_eq!(Meta::from_json(&value).unwrap(), meta);
        let error = Meta::from_json(&json!({"buildid": 1})).unwrap_err();
        assert_eq!(error.to_string(), "meta.json is damaged: invalid type: integer `1`, expected a string");
    }

    #[test]
    fn commit_metadata_round_trips_in_rpm_ostrees_shape() {
        let value = json!({
            "coreos-assembler.config-gitrev": "abc",
            "nestos.stream": "stable",
            "ostree.bootable": true,
            "ostree.linux": "6.12.1",
            "rpmostree.inputhash": "ee",
            "rpmostree.rpmdb.pkglist": [["bash", "0", "5.2", "3", "amd64"]],
            "version": "1.0"
        });
        let meta = CommitMeta::from_json(&value).unwrap();
        assert_eq!((meta.packages[0][0].as_str(), meta.kernel.as_deref()), ("bash", Some("6.12.1")));
        assert_eq!(meta.other.len(), 2);
        assert_eq!(meta.to_json().to_string(), value.to_string());
    }
}
