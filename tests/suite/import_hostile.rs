//! Images that were made to do harm, or by mistake: each is refused with one message and an exit code, leaves no
//! build and no object, and writes nothing outside.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use nosa::host::Cmd;
use nosa::ostree::Checksum;
use nosa::pipeline::Digest;
use serde_json::json;
use tar::{EntryType, Header};

use super::crafted::{Crafted, Layer, Tar, snapshot};
use super::fixture::{nosa, refused, said};

/// A working directory with a canary beside it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.dir.path().join("outside")).unwrap();
        fs::write(place.dir.path().join("outside/canary"), "alive").unwrap();
        let (code, text) = said(place.nosa(&["init"]));
        assert_eq!(code, 0, "{text}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn nosa(&self, args: &[&str]) -> Cmd {
        let call = Cmd::program(nosa()).arg("-C").arg(self.path("w").as_os_str()).args(args);
        call.env("NOSA_CACHE", self.path("downloads").as_os_str()).env("RUST_BACKTRACE", "0")
    }

    /// The import of an image must fail with one message that holds `words`, and leave nothing.
    fn refuses(&self, what: &str, image: &Crafted, words: &[&str]) {
        let layout = self.path("image");
        let name = image.write(&layout);
        self.refuses_at(what, &name, words);
        fs::remove_dir_all(layout).unwrap();
    }

    fn refuses_at(&self, what: &str, name: &str, words: &[&str]) {
        let outside = snapshot(&self.path("outside"));
        let beside = names(self.dir.path());
        refused(self.nosa(&["import", name]), 12, words);
        assert_eq!(snapshot(&self.path("outside")), outside, "{what}");
        assert_eq!(names(self.dir.path()), beside, "{what}");
        let index = fs::read_to_string(self.path("w/builds/builds.json")).unwrap_or_default();
        assert!(!index.contains("\"id\""), "{what}: {index}");
        let left = |dir: &str| -> Vec<PathBuf> {
            let path = self.path(dir);
            if !path.is_dir() {
                return Vec::new();
            }
            snapshot(&path).into_iter().map(|(path, _)| path).filter(|path| path.is_file()).collect()
        };
        assert_eq!(left("w/cache/repo/objects"), Vec::<PathBuf>::new(), "{what}");
        assert_eq!(left("w/cache/repo/tmp"), Vec::<PathBuf>::new(), "{what}");
        assert_eq!(left("w/cache/stages"), Vec::<PathBuf>::new(), "{what}");
        let tmp = names(&self.path("w/tmp"));
        assert!(!tmp.iter().any(|name| name.starts_with("import-")), "{what}: {tmp:?}");
    }
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "downloads");
    names.sort();
    names
}

/// An image that boots, with a second layer.
fn with(top: Tar) -> Crafted {
    Crafted::new(vec![Tar::default().system().layer(), top.layer()])
}

fn tar() -> Tar {
    Tar::default()
}

#[test]
fn paths_that_lead_out_are_refused() {
    let place = Place::new();
    let long_name = |name: &str| tar().raw("././@LongLink", EntryType::GNULongName, 0, "", name.as_bytes());
    for (what, image, words) in [
        ("a name", with(tar().file("../outside/canary", "dead")), &["layer 2", "leads out"][..]),
        ("a name in the middle", with(tar().file("usr/../../outside/canary", "dead")), &["leads out"]),
        (
            "a PAX header",
            with(tar().pax(&[("path", b"../outside/canary")]).file("usr/x", "dead")),
            &["layer 2", "leads out"],
        ),
        ("a long name", with(long_name("../outside/canary\0").file("usr/x", "dead")), &["leads out"]),
        ("a hard link", with(tar().link("usr/x", "../outside/canary")), &["hard link", "leads out"]),
        (
            "a hard link by PAX",
            with(tar().pax(&[("linkpath", b"../../outside/canary")]).link("usr/x", "usr/y")),
            &["hard link", "leads out"],
        ),
        (
            "a hard link to the host",
            with(tar().link("usr/x", "/etc/hostname")),
            &["hard link", "not in the image"],
        ),
        (
            "a link above an entry",
            with(tar().symlink("usr/up", "../../outside").file("usr/up/canary", "dead")),
            &["layer 2 of 2", "usr/up", "leads out of the image"],
        ),
        (
            "a link to the host above an entry",
            with(
                tar()
                    .symlink("usr/host", place.path("outside").to_str().unwrap())
                    .file("usr/host/canary", "dead"),
            ),
            &["usr/host", "not in the image"],
        ),
        (
            "a link of a lower layer",
            Crafted::new(vec![
                tar().system().symlink("usr/host", "/outside").layer(),
                tar().file("usr/host/canary", "dead").layer(),
            ]),
            &["layer 2 of 2", "not in the image"],
        ),
        (
            "links in a circle",
            with(tar().symlink("usr/a", "b").symlink("usr/b", "a").file("usr/a/x", "")),
            &["links without end"],
        ),
        ("a file as a directory", with(tar().file("etc/os-release/x", "")), &["which is a file"]),
        (
            "a whiteout by a link",
            Crafted::new(vec![
                tar().system().symlink("usr/up", "../..").layer(),
                tar().file("usr/up/.wh.outside", "").layer(),
            ]),
            &["usr/up", "leads out of the image"],
        ),
    ] {
        place.refuses(what, &image, words);
    }
}

#[test]
fn whiteouts_of_the_root_are_refused() {
    let place = Place::new();
    for name in [".wh..wh..opq", ".wh.", ".wh..", ".wh...", "usr/.wh..", ".wh.usr/x"] {
        place.refuses(name, &with(tar().file(name, "")), &["layer 2", "white"]);
    }
    // This one is a whiteout like any other, but leaves no system.
    place.refuses("usr", &with(tar().file(".wh.usr", "")), &["no kernel"]);
}

#[test]
fn what_a_commit_cannot_hold_is_refused() {
    let place = Place::new();
    let node = |kind| tar().raw("usr/node", kind, 0o666, "", b"");
    for (what, image, words) in [
        ("a character device", with(node(EntryType::Char)), &["usr/node", "device or pipe"][..]),
        ("a block device", with(node(EntryType::Block)), &["device or pipe"]),
        ("a pipe", with(node(EntryType::Fifo)), &["device or pipe"]),
        ("an unknown kind", with(node(EntryType::new(b'Z'))), &["usr/node", "unknown"]),
        (
            "a long name",
            with(tar().pax(&[("path", "n".repeat(256).as_bytes())]).file("x", "")),
            &["255 bytes"],
        ),
        ("a long path", with(tar().pax(&[("path", "n/".repeat(3000).as_bytes())]).file("x", "")), &["4096"]),
        ("a deep path", with(tar().pax(&[("path", "n/".repeat(200).as_bytes())]).file("x", "")), &["deep"]),
        ("a name not in UTF-8", with(tar().pax(&[("path", b"usr/\xff")]).file("x", "")), &["not UTF-8"]),
        ("a zero byte", with(tar().pax(&[("path", b"usr/a\0b")]).file("x", "")), &["zero byte"]),
        (
            "a long target",
            with(tar().pax(&[("linkpath", "n".repeat(4096).as_bytes())]).symlink("x", "y")),
            &["target"],
        ),
        ("a large uid", with(tar().pax(&[("uid", b"4294967296")]).file("x", "")), &["4294967296"]),
        (
            "large attributes",
            with(tar().pax(&[("SCHILY.xattr.user.a", &[7; 100_000])]).file("x", "")),
            &["extended"],
        ),
        ("a sparse file", with(tar().pax(&[("GNU.sparse.major", b"1")]).file("x", "")), &["sparse"]),
        ("a directory's hard link", with(tar().link("usr/x", "etc")), &["hard link to a directory"]),
    ] {
        place.refuses(what, &image, words);
    }
    let mut header = Header::new_gnu();
    header.set_path("usr/x").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    // -1 in base 256.
    header.as_gnu_mut().unwrap().size = [0xff; 12];
    header.set_cksum();
    place.refuses("a negative size", &with(tar().header(&header)), &["layer 2", "size"]);
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(1 << 40);
    header.set_cksum();
    place.refuses("a large PAX header", &with(tar().header(&header)), &["layer 2", "header"]);
}

#[test]
fn what_lies_of_itself_is_refused() {
    let place = Place::new();
    let honest = tar().file("usr/x", "x").layer();
    let other = Digest::of("other");
    let base = tar().system().layer();
    let image = |layer: Layer| Crafted::new(vec![base.clone(), layer]);
    place.refuses("digest", &image(Layer { digest: other, ..honest.clone() }), &["has the digest"]);
    place.refuses(
        "size",
        &image(Layer { size: honest.size + 1, ..honest.clone() }),
        &["its descriptor says"],
    );
    place.refuses(
        "smaller size",
        &image(Layer { size: honest.size - 1, ..honest.clone() }),
        &["its descriptor says"],
    );
    place.refuses("diff_id", &image(Layer { diff_id: other, ..honest.clone() }), &["layer 2", "diff_id"]);
    let cut = honest.blob[..honest.blob.len() / 2].to_vec();
    place.refuses("cut gzip", &image(Layer::blob(cut, honest.diff_id)), &["layer 2", "ends too early"]);
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n * 7919 % 251) as u8).collect();
    place.refuses(
        "no gzip",
        &image(Layer::blob(noise.clone(), honest.diff_id)),
        &["layer 2", "decompressed"],
    );
    place.refuses("no tar", &image(Layer::gzip(&noise)), &["layer 2", "checksum"]);
    let whole = tar().file("usr/x", &"x".repeat(4000)).end();
    place.refuses("cut tar", &image(Layer::gzip(&whole[..2048])), &["layer 2", "ends within"]);
    let docker = Layer { media_type: "application/vnd.example.layer".into(), ..honest.clone() };
    place.refuses("media type", &image(docker), &["vnd.example.layer"]);
    let config = Crafted { config_type: "application/vnd.example.config".into(), ..image(honest.clone()) };
    place.refuses("configuration", &config, &["vnd.example.config"]);
    let foreign = Crafted { architecture: "s390x".into(), ..image(honest) };
    place.refuses("platform", &foreign, &["no image for", "s390x"]);
}

#[test]
fn bombs_are_refused() {
    let place = Place::new();
    let bomb = {
        let mut header = Header::new_ustar();
        header.set_path("usr/zeroes").unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(1 << 30);
        header.set_cksum();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(header.as_bytes()).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(1 << 29), &mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let image = Crafted::new(vec![tar().system().layer(), Layer::blob(bomb, Digest::of(""))]);
    place.refuses("zeroes", &image, &["layer 2", "unpacks to more than"]);

    // Each layer is below the limit of a layer; together they are not.
    let zeroes = tar().raw("usr/zeroes", EntryType::Regular, 0o644, "", &vec![0; 200 << 20]).end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&zeroes).unwrap();
    let layer = Layer::blob(encoder.finish().unwrap(), Digest::of(&zeroes));
    let image = Crafted::new(vec![tar().system().layer(), layer.clone(), layer]);
    place.refuses("many layers", &image, &["the image unpacks to more than"]);

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for count in 0..=1_000_000 {
        let mut header = Header::new_ustar();
        header.set_path(format!("usr/many/{count}")).unwrap();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_cksum();
        encoder.write_all(header.as_bytes()).unwrap();
    }
    let image =
        Crafted::new(vec![tar().system().layer(), Layer::blob(encoder.finish().unwrap(), Digest::of(""))]);
    place.refuses("entries", &image, &["layer 2", "more entries"]);
}

#[test]
fn objects_that_are_not_what_they_say_are_refused() {
    let place = Place::new();
    let object = |sum: Checksum, kind: &str| {
        let hex = sum.to_string();
        format!("sysroot/ostree/repo/objects/{}/{}.{kind}", &hex[..2], &hex[2..])
    };
    let long = |path: &str, kind, target: &str, content: &[u8]| {
        tar()
            .pax(&[("path", path.as_bytes()), ("linkpath", target.as_bytes())])
            .raw("x", kind, 0o644, "", content)
    };
    let own = |layer: Layer, commit: Checksum| {
        let labels = json!({
            "org.opencontainers.image.version": "1.0",
            "ostree.commit": commit.to_string(),
            "ostree.final-diffid": format!("sha256:{}", layer.diff_id),
        });
        Crafted { labels, ..Crafted::new(vec![layer]) }
    };
    let commit = Checksum::of(b"a commit");
    let none = own(tar().system().layer(), commit);
    place.refuses("no commit", &none, &["have no commit", &commit.to_string()]);
    let lie = long(&object(commit, "commit"), EntryType::Regular, "", b"another commit").layer();
    place.refuses("a commit", &own(lie, commit), &["layer 1", "has the checksum"]);
    let damaged = long(&object(commit, "commit"), EntryType::Regular, "", b"a commit").layer();
    place.refuses("no form", &own(damaged, commit), &["is damaged"]);
    let file = long(&object(commit, "file"), EntryType::Regular, "", b"content").layer();
    place.refuses("no attributes", &own(file, commit), &["without its attributes"]);
    let unlabelled = Crafted {
        labels: json!({"org.opencontainers.image.version": "1.0", "ostree.commit": commit.to_string()}),
        ..with(tar())
    };
    place.refuses("half the labels", &unlabelled, &["ostree.final-diffid"]);
}

#[test]
fn an_image_that_does_not_boot_says_why() {
    let place = Place::new();
    let module = |version: &str, name: &str| format!("usr/lib/modules/{version}/{name}");
    for (what, image, words) in [
        ("no kernel", Crafted::new(vec![tar().file("etc/passwd", "").layer()]), &["no kernel", "bootc"][..]),
        (
            "two kernels",
            with(tar().file(&module("6.13.0", "vmlinuz"), "")),
            &["several kernels", "6.12.0, 6.13.0"],
        ),
        (
            "no initramfs",
            with(tar().file(&module("6.12.0", ".wh.initramfs.img"), "")),
            &["no initramfs", "dracut"],
        ),
        ("two /etc", with(tar().file("usr/etc/x", "")), &["/usr/etc", "write to /etc"]),
        ("no /etc", with(tar().file(".wh.etc", "")), &["no directory /etc"]),
        ("no version", Crafted { labels: json!({}), ..with(tar()) }, &["--version"]),
    ] {
        place.refuses(what, &image, words);
    }
    place.refuses_at("nothing", &format!("oci:{}", place.path("nowhere").display()), &["nowhere"]);
    // As when the configuration gives such a version.
    let image = Crafted { labels: json!({"org.opencontainers.image.version": "../x"}), ..with(tar()) };
    refused(place.nosa(&["import", &image.write(&place.path("image"))]), 3, &["../x"]);
}
