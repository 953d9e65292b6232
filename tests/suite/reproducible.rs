//! Two builds from empty caches, in two directories, by root and by an ordinary user with another time zone,
//! umask, locale and host name: the same commit, image and disk, byte for byte.

use std::fs;
use std::path::Path;

use nosa::host::Cmd;

use crate::fixture::{EPOCH, artifact, is_root, latest, nosa, said, shared};

const USER: &str = "nosa-test";

fn run(program: &str, args: &[&str]) {
    let (code, said) = said(Cmd::program(program).args(args));
    assert_eq!(code, 0, "{program} {args:?}:\n{said}");
}

#[test]
fn another_user_elsewhere_builds_the_same_bytes() {
    let Some(shared) = shared() else { return };
    if !is_root() {
        return;
    }
    if said(Cmd::program("id").arg(USER)).0 != 0 {
        run("useradd", &["--create-home", "--add-subids-for-system", USER]);
    }
    let place = tempfile::Builder::new().prefix("nosa-user-").tempdir_in("/var/tmp").unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    // The same packages, even if the archive moves while the tests run: the first build's own lock.
    let (dir, first) = latest(&shared);
    run("install", &["-m755", nosa(), &at("nosa")]);
    let client = Path::new(nosa()).with_file_name("../libexec/nosa/nestos-update").display().to_string();
    run("install", &["-m755", &client, &at("nestos-update")]);
    fs::create_dir_all(at("a b/src")).unwrap();
    let config = shared.join("src/config").canonicalize().unwrap();
    run("cp", &["-r", &config.display().to_string(), &at("a b/src/config")]);
    let lock = dir.join("manifest-lock.generated.x86_64.json").display().to_string();
    run("cp", &[&lock, &at("a b/src/config/manifest-lock.x86_64.json")]);
    for name in ["builds", "cache", "tmp"] {
        fs::create_dir_all(place.path().join("a b").join(name)).unwrap();
    }
    copy_downloads(place.path());
    run("chown", &["-R", &format!("{USER}:"), &place.path().display().to_string()]);
    let script = format!(
        "hostname elsewhere && exec runuser -u {USER} -- env HOME={home} NOSA_CACHE={home}/downloads TZ=Asia/Tokyo \
         LC_ALL=C LANG=de_DE.UTF-8 SOURCE_DATE_EPOCH={EPOCH} sh -c 'umask 077; cd / && exec {home}/nosa -C \"{home}/a b\" build'",
        home = place.path().display()
    );
    let (code, text) = said(Cmd::program("unshare").args(["--uts", "sh", "-c", &script]));
    assert_eq!(code, 0, "{text}");

    let second = place.path().join("a b");
    let (_, meta) = latest(&second);
    assert_eq!(first["ostree-commit"], meta["ostree-commit"]);
    for name in ["oci-manifest", "ostree", "qemu"] {
        let (one, other) = (artifact(&shared, name), artifact(&second, name));
        run("cmp", &[&one.display().to_string(), &other.display().to_string()]);
    }
    // The trees belong to the user's subordinate ids: root can remove them, tempfile as well.
}

/// Spares the network what is here already.
fn copy_downloads(place: &Path) {
    let own = nosa::host::environment::var_os("NOSA_CACHE")
        .map(std::path::PathBuf::from)
        .or_else(|| nosa::host::environment::user_cache_dir().map(|dir| dir.join("nosa")))
        .unwrap();
    run("cp", &["-r", &own.display().to_string(), &place.join("downloads").display().to_string()]);
}
