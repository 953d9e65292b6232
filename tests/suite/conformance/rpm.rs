//! RPMs, by the `rpm` crate, in a repository by createrepo_c.

use std::path::{Path, PathBuf};

use nosa::host::Cmd;
use nosa::packages::{Dnf, LocalPackage, PackageBackend, Supply, YumRepository};
use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder};

use super::Format;
use super::package::{Content, Made};

/// RPMs.
pub(crate) struct Rpms;

impl Format for Rpms {
    const ENDING: &'static str = "rpm";

    fn write(dir: &Path, package: &Made) -> PathBuf {
        let arch = std::env::consts::ARCH;
        let mut builder = PackageBuilder::new(&package.name, &package.version, "MIT", arch, "a test");
        builder.release("1").using_config(
            BuildConfig::v4().compression(CompressionType::Gzip).source_date(1_600_000_000_u32),
        );
        for item in &package.items {
            let (owner, group) = (item.owner.0, item.owner.0);
            let options = match &item.content {
                Content::File(_) => {
                    FileOptions::new(&item.path).permissions(u16::try_from(item.mode).unwrap())
                }
                Content::Link(target) => FileOptions::symlink(&item.path, target),
                Content::Dir => FileOptions::dir(&item.path).permissions(u16::try_from(item.mode).unwrap()),
            };
            let options = options.user(owner).group(group);
            match &item.content {
                Content::File(bytes) => {
                    let options = if package.raw_socket.as_ref() == Some(&item.path) {
                        options.caps("cap_net_raw=ep").unwrap()
                    } else {
                        options
                    };
                    builder.with_file_contents(bytes.clone(), options).unwrap()
                }
                Content::Link(_) => builder.with_symlink(options).unwrap(),
                Content::Dir => builder.with_dir_entry(options).unwrap(),
            };
        }
        package.depends.iter().for_each(|name| {
            builder.requires(Dependency::any(name));
        });
        package.recommends.iter().for_each(|name| {
            builder.recommends(Dependency::any(name));
        });
        if package.essential {
            builder.provides(Dependency::any("/bin/sh"));
        }
        if !package.pre.is_empty() {
            builder.pre_install_script(package.pre.as_str());
        }
        if !package.post.is_empty() {
            builder.post_install_script(package.post.as_str());
        }
        let path = dir.join(format!("{}-{}-1.{arch}.rpm", package.name, package.version));
        builder.build().unwrap().write_file(&path).unwrap();
        path
    }

    fn publish(dir: &Path) {
        Cmd::program("createrepo_c").args(["--quiet", "--no-database"]).arg(dir).run().unwrap();
        let text = format!("[test]\nname=test\nbaseurl=file://{}\ngpgcheck=0\n", dir.display());
        std::fs::write(dir.join("test.repo"), text).unwrap();
    }

    fn backend(state: &Path, repo: &Path, overrides: Vec<LocalPackage>) -> Box<dyn PackageBackend> {
        std::fs::create_dir_all(state).unwrap();
        let path = repo.join("test.repo");
        let text = std::fs::read_to_string(&path).unwrap();
        let repository = YumRepository::new("test", &path, &text, Supply::All, Vec::new()).unwrap();
        let (downloads, log) = (state.join("downloads"), state.join("log"));
        let arch = std::env::consts::ARCH;
        Box::new(Dnf::new(state, &downloads, &log, (arch, "1"), vec![repository], overrides).unwrap())
    }
}

#[test]
fn an_unsigned_package_is_refused_unless_the_repository_says_otherwise() {
    let bench = super::Bench::<Rpms>::new(&[super::package::base()]);
    let definition = bench.repo().join("test.repo");
    let text = std::fs::read_to_string(&definition).unwrap().replace("gpgcheck=0\n", "");
    std::fs::write(&definition, text).unwrap();
    let error = bench.install(&super::want(&["base"]), &[]).err().unwrap();
    let error = error.to_string();
    assert!(error.starts_with("test.repo: repository `test`: the signature of base-1.0-1."), "{error}");
}

#[test]
fn what_alternatives_remembers_is_the_images() {
    if !crate::fixture::is_root() {
        return;
    }
    let packages = [
        super::package::base(),
        Made::new("editor", "1.0").dir("/var/lib/alternatives").file("/var/lib/alternatives/vi", "auto\n"),
    ];
    let bench = super::Bench::<Rpms>::new(&packages);
    let tree = bench.install(&super::want(&["editor"]), &[]).unwrap();
    assert_eq!(tree.read("usr/lib/alternatives/vi"), "auto\n");
    let link = std::fs::read_link(tree.root.join("var/lib/alternatives")).unwrap();
    assert_eq!(link, Path::new("../../usr/lib/alternatives"));
    let without = bench.install(&super::want(&["base"]), &[]).unwrap();
    assert!(!without.root.join("usr/lib/alternatives").exists());
}
