//! release.json: what Fedora CoreOS's release tools publish of a build, made from the meta.json files of its
//! architectures.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::builds::Build;
use crate::failure::{Failure, Kind};

/// Platforms whose image is the artifact of the same name.
const PLATFORMS: &[&str] = &[
    "aliyun",
    "applehv",
    "aws",
    "azure",
    "azurestack",
    "digitalocean",
    "exoscale",
    "gcp",
    "hetzner",
    "hyperv",
    "ibmcloud",
    "kubevirt",
    "metal",
    "nutanix",
    "nvidiabluefield",
    "openstack",
    "oraclecloud",
    "powervs",
    "proxmoxve",
    "qemu",
    "qemu-secex",
    "virtualbox",
    "vmware",
    "vultr",
];

/// Artifacts that belong to the platform `metal`: theirs, the format there, and what they are in it.
const METAL: &[(&str, &str, &str)] = &[
    ("iso", "installer.iso", "disk"),
    ("kernel", "installer-pxe", "kernel"),
    ("initramfs", "installer-pxe", "initramfs"),
    ("live-iso", "iso", "disk"),
    ("live-kernel", "pxe", "kernel"),
    ("live-initramfs", "pxe", "initramfs"),
    ("live-rootfs", "pxe", "rootfs"),
];

/// Uploads to clouds by region: meta.json's key, the platform, the key of the image's id.
const CLOUDS: &[(&str, &str, &str)] = &[("aliyun", "aliyun", "id"), ("amis", "aws", "hvm")];

/// Where a release will lie.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its name; else an imported image's stream, the branch that meta.json names, or the last part of its `ref`.
    pub name: Option<String>,
    /// The address under which it will be, without `/STREAM/builds/…`.
    pub base_url: String,
    /// Whether there are signatures.
    pub signatures: bool,
}

/// Adds a build's architectures to `release`, an earlier release.json or null.
pub fn release_metadata(release: Value, builds: &[Build], stream: &Stream) -> Result<Value> {
    let mut release = match release {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for build in builds {
        let meta = build.meta_json()?;
        agree(&mut release, "release", &meta["buildid"])?;
        agree(&mut release, "stream", &stream_name(stream, &meta).into())?;
        let place = Place {
            prefix: format!(
                "{}/{}/builds/{}/{}",
                stream.base_url.trim_end_matches('/'),
                release["stream"].as_str().unwrap_or_default(),
                build.id(),
                build.arch()
            ),
            arch: build.arch(),
            signatures: stream.signatures,
        };
        let new = place.architecture(&meta)?;
        let arches = release.entry("architectures").or_insert_with(|| json!({}));
        match arches.get_mut(build.arch()).filter(|known| known["media"].is_object()) {
            None => arches[build.arch()] = new,
            Some(known) => add_media(&mut known["media"], &new["media"])?,
        }
    }
    Ok(Value::Object(release))
}

fn stream_name(stream: &Stream, meta: &Value) -> String {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    stream
        .name
        .clone()
        .or_else(|| text(&meta["coreos-assembler.oci-imported-labels"]["com.coreos.stream"]))
        .or_else(|| text(&meta["coreos-assembler.container-config-git"]["branch"]))
        .or_else(|| meta["ref"].as_str().and_then(|name| name.rsplit('/').next()).map(str::to_owned))
        .unwrap_or_default()
}

/// Sets a key, or fails when it says something else already.
fn agree(release: &mut Map<String, Value>, key: &str, value: &Value) -> Result<()> {
    let known = release.entry(key).or_insert_with(|| value.clone());
    if known == value {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Artifact,
        format!("the release metadata to add to is of another release: `{key}` is {known}, not {value}"),
        "write to another file with --output, or remove that one",
    )
    .into())
}

fn add_media(known: &mut Value, new: &Value) -> Result<()> {
    for (platform, media) in new.as_object().into_iter().flatten() {
        match known.get(platform) {
            None => known[platform] = media.clone(),
            Some(there) if there == media => {}
            Some(_) => {
                return Err(Failure::new(
                    Kind::Artifact,
                    format!("the release metadata to add to says something else of `{platform}`"),
                    "write to another file with --output, or remove that one",
                )
                .into());
            }
        }
    }
    Ok(())
}

struct Place<'a> {
    prefix: String,
    arch: &'a str,
    signatures: bool,
}

impl Place<'_> {
    fn architecture(&self, meta: &Value) -> Result<Value> {
        let mut arch = json!({"media": {}});
        if meta["coreos-assembler.oci-imported"] != true {
            arch["commit"] = meta["ostree-commit"].clone();
        }
        if let Some(image) = meta.get("base-oscontainer") {
            arch["oci-image"] = oci_image(&meta["buildid"], image)?;
        }
        let images = &meta["images"];
        let media = &mut arch["media"];
        for platform in PLATFORMS {
            if let Some(image) = images.get(platform) {
                let format = self.format(image, platform);
                media[platform]["artifacts"][format]["disk"] = self.artifact(image);
            }
        }
        for (key, platform, id) in CLOUDS {
            for upload in meta[key].as_array().into_iter().flatten() {
                let region = upload["name"].as_str().unwrap_or_default();
                media[platform]["images"][region] = json!({"image": upload[id]});
            }
        }
        for key in ["ibmcloud", "powervs"] {
            for upload in meta[key].as_array().into_iter().flatten() {
                let region = upload["region"].as_str().unwrap_or_default();
                let place =
                    json!({"object": upload["object"], "bucket": upload["bucket"], "url": upload["url"]});
                media[key]["images"][region] = place;
            }
        }
        if let Some(key) = images.get("ignition-gpg-key") {
            media["qemu-secex"]["ignition-gpg-key"] = self.artifact(key);
        }
        if let Some(Value::Object(upload)) = meta.get("gcp") {
            let mut image = upload.clone();
            image.shift_remove("url");
            if let Some(name) = image.shift_remove("image") {
                image.insert("name".to_owned(), name);
            }
            media["gcp"]["image"] = image.into();
        }
        if let Some(image) = meta.get("kubevirt") {
            media["kubevirt"]["image"] = oci_image(&meta["buildid"], image)?;
        }
        self.metal(images, media);
        extensions(meta, &mut arch);
        Ok(arch)
    }

    fn metal(&self, images: &Value, media: &mut Value) {
        if media["metal"]["artifacts"].is_null() {
            media["metal"]["artifacts"] = json!({});
        }
        let artifacts = &mut media["metal"]["artifacts"];
        if let Some(image) = images.get("metal4k") {
            let format = format!("4k.{}", self.format(image, "metal4k"));
            artifacts[format]["disk"] = self.artifact(image);
        }
        for (name, format, part) in METAL {
            if let Some(image) = images.get(name) {
                artifacts[format][part] = self.artifact(image);
            }
        }
    }

    fn artifact(&self, image: &Value) -> Value {
        let location = format!("{}/{}", self.prefix, image["path"].as_str().unwrap_or_default());
        let signature = if self.signatures { format!("{location}.sig") } else { String::new() };
        json!({
            "location": location, "signature": signature, "sha256": image["sha256"],
            "uncompressed-sha256": image["uncompressed-sha256"],
        })
    }

    /// What follows `PLATFORM.ARCH.` in the file's name: `qcow2.xz`.
    fn format(&self, image: &Value, platform: &str) -> String {
        let path = image["path"].as_str().unwrap_or_default();
        let tail = path.rsplit_once(&format!("{platform}.{}.", self.arch)).map(|(_, tail)| tail);
        tail.unwrap_or_else(|| path.split_once('.').map_or(path, |(_, tail)| tail)).to_owned()
    }
}

/// Images that no stream has, below the key that is for them.
fn extensions(meta: &Value, arch: &mut Value) {
    if let Some(url) = meta["azure"].get("url") {
        arch["rhel-coreos-extensions"]["azure-disk"] = json!({"url": url});
    }
    for upload in meta["aws-winli"].as_array().into_iter().flatten() {
        let region = upload["name"].as_str().unwrap_or_default();
        arch["rhel-coreos-extensions"]["aws-winli"]["images"][region] = json!({"image": upload["hvm"]});
    }
}

/// A pushed image by its one tag that does not name the release, and by its digest.
fn oci_image(release: &Value, image: &Value) -> Result<Value> {
    let release = release.as_str().unwrap_or_default();
    let name = image["image"].as_str().unwrap_or_default();
    let tags = image["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let floating: Vec<&str> = tags.filter(|tag| !tag.contains(release)).collect();
    let [tag] = floating[..] else {
        return Err(Failure::new(
            Kind::Artifact,
            format!("image {name} has {} tags that follow a stream; one is needed", floating.len()),
            "push it under one tag that does not hold the build's id",
        )
        .into());
    };
    let digest = image["digest"].as_str().unwrap_or_default();
    Ok(json!({"image": format!("{name}:{tag}"), "digest-ref": format!("{name}@{digest}")}))
}
