//! What both backends do alike: which packages, and what becomes of them in a tree.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use nosa::packages::{Locked, RemovedFiles, Request};
use regex::Regex;

use super::package::{Made, base};
use super::{Bench, Format, listed, over_both, want};

over_both!(
    resolves
    locks
    overrides_beat_the_lock
    overrides_of_a_place_that_is_gone_are_forgotten
    installs_what_the_packages_say
    downloads_are_verified
);

/// A library, a program in two versions that needs it, and what it recommends.
fn packages() -> Vec<Made> {
    let app = |version: &str| {
        Made::new("app", version)
            .depends(&["liba"])
            .recommends("extra")
            .file("/usr/bin/app", version)
            .with(0o4755, ("root", 0))
    };
    vec![
        base(),
        Made::new("liba", "1.0").file("/usr/lib/liba", "a"),
        app("1.0"),
        app("1.1"),
        Made::new("extra", "1.0").file("/usr/share/extra", "e"),
    ]
}

fn lock<F: Format>(name: &str, version: &str) -> Locked {
    Locked {
        name: name.to_owned(),
        evr: F::evr(version),
        arch: None,
        sha256: None,
        origin: "manifest-lock.json:3:5".to_owned(),
    }
}

fn resolves<F: Format>() {
    let bench = Bench::<F>::new(&packages());
    let backend = bench.backend();
    assert!(backend.snapshot().unwrap().is_none());
    let snapshot = backend.refresh(&bench.report()).unwrap();
    assert_eq!(backend.snapshot().unwrap().unwrap(), snapshot);
    assert_eq!(backend.refresh(&bench.report()).unwrap().digest, snapshot.digest);
    assert!(snapshot.date > 1_700_000_000, "{}", snapshot.date);
    let resolve =
        |request: &Request| backend.resolve(request, &bench.report()).map_err(|error| error.to_string());

    let packages = resolve(&want(&["app"])).unwrap();
    assert_eq!(listed(&packages), ["app 1.1-1", "liba 1.0-1"]);
    assert!(packages.iter().any(|package| package.name == "base"));
    assert!(packages.iter().all(|package| package.repo == "test" && package.size > 0));
    let recommends = Request { recommends: true, ..want(&["app"]) };
    assert_eq!(listed(&resolve(&recommends).unwrap()), ["app 1.1-1", "extra 1.0-1", "liba 1.0-1"]);

    let error = resolve(&want(&["base", "apq"])).unwrap_err();
    assert!(error.starts_with("manifest.yaml:2: no repository"), "{error}");
    assert!(error.contains("package apq"), "{error}");
    let without = Request { exclude: vec!["liba".to_owned()], ..want(&["app"]) };
    let error = resolve(&without).unwrap_err();
    assert!(error.starts_with("the packages cannot be installed together"), "{error}");
    assert!(error.contains("liba") && error.contains("app (manifest.yaml:1)"), "{error}");

    // A new package is seen when the repositories are asked, and not before.
    bench.publish(&[Made::new("app", "1.2").file("/usr/bin/app", "1.2")]);
    assert_eq!(listed(&resolve(&want(&["app"])).unwrap()), ["app 1.1-1", "liba 1.0-1"]);
    assert_ne!(backend.refresh(&bench.report()).unwrap().digest, snapshot.digest);
    assert_eq!(listed(&resolve(&want(&["app"])).unwrap()), ["app 1.2-1"]);
}

fn locks<F: Format>() {
    let bench = Bench::<F>::new(&packages());
    let backend = bench.backend();
    backend.refresh(&bench.report()).unwrap();
    let resolve =
        |request: &Request| backend.resolve(request, &bench.report()).map_err(|error| error.to_string());
    let locked = |locks: &[(&str, &str)], strict| Request {
        locked: locks.iter().map(|(name, version)| lock::<F>(name, version)).collect(),
        strict,
        ..want(&["app"])
    };
    assert_eq!(listed(&resolve(&locked(&[("app", "1.0")], false)).unwrap()), ["app 1.0-1", "liba 1.0-1"]);
    assert_eq!(
        resolve(&locked(&[("app", "0.9")], false)).unwrap_err(),
        format!(
            "manifest-lock.json:3:5: app is locked at {}, but the repositories have {}",
            F::evr("0.9"),
            F::evr("1.1")
        )
    );
    let whole = [("app", "1.0"), ("liba", "1.0"), ("base", "1.0")];
    assert_eq!(listed(&resolve(&locked(&whole, true)).unwrap()), ["app 1.0-1", "liba 1.0-1"]);
    assert_eq!(
        resolve(&locked(&[("app", "1.0"), ("base", "1.0")], true)).unwrap_err(),
        "--strict: not in the lockfile: liba"
    );
    // What nothing needs may be gone.
    assert!(resolve(&locked(&[("gone", "1.0")], false)).is_ok());
    let mut request = locked(&[("app", "1.1")], false);
    request.locked[0].sha256 = Some(nosa::pipeline::Digest::of("another"));
    let error = resolve(&request).unwrap_err();
    assert!(error.starts_with("manifest-lock.json:3:5: app 1.1-1 is locked with digest sha256:"), "{error}");
    request.locked[0].sha256 = None;
    request.locked[0].arch = Some("riscv64".to_owned());
    let error = resolve(&request).unwrap_err();
    assert!(error.contains("app is locked at 1.1-1.riscv64, but the repositories have 1.1-1."), "{error}");
}

fn overrides_beat_the_lock<F: Format>() {
    let bench = Bench::<F>::new(&packages());
    let mine = [
        Made::new("app", "0.1").file("/usr/bin/app", "mine"),
        Made::new("unwanted", "1.0").file("/usr/bin/unwanted", "u"),
    ];
    let backend = bench.backend_with(&mine);
    backend.refresh(&bench.report()).unwrap();
    let request = Request { locked: vec![lock::<F>("app", "1.0")], ..want(&["app"]) };
    let packages = backend.resolve(&request, &bench.report()).unwrap();
    assert_eq!(listed(&packages), ["app 0.1-1"]);
    let app = packages.iter().find(|package| package.name == "app").unwrap();
    assert_eq!(app.repo, "overrides");
    let files = backend.download(&packages, &bench.report()).unwrap();
    assert!(files.iter().any(|file| file.to_str().unwrap().contains("/overrides/app")), "{files:?}");
    let junk = bench.repo().join("../overrides").join(format!("junk.{}", F::ENDING));
    std::fs::write(&junk, "junk").unwrap();
    let error = F::backend(
        &bench.repo().join("../state"),
        &bench.repo(),
        vec![nosa::packages::LocalPackage {
            path: junk,
            sha256: nosa::pipeline::Digest::of("junk"),
            size: 4,
        }],
    )
    .resolve(&request, &bench.report())
    .unwrap_err();
    assert!(
        error.to_string().contains(&format!("junk.{}: cannot be read as a package", F::ENDING)),
        "{error}"
    );
    // Without them the lock counts again.
    let packages = bench.backend().resolve(&request, &bench.report()).unwrap();
    assert_eq!(listed(&packages), ["app 1.0-1", "liba 1.0-1"]);
}

/// A working directory that was moved since, or whose cache another one shares.
fn overrides_of_a_place_that_is_gone_are_forgotten<F: Format>() {
    let bench = Bench::<F>::new(&packages());
    let backend = bench.backend_with(&[Made::new("app", "0.1").file("/usr/bin/app", "mine")]);
    backend.refresh(&bench.report()).unwrap();
    backend.resolve(&want(&["app"]), &bench.report()).unwrap();
    let (old, new) = (bench.repo().join("../state"), bench.repo().join("../moved"));
    std::fs::rename(old, &new).unwrap();
    let backend = F::backend(&new, &bench.repo(), Vec::new());
    backend.refresh(&bench.report()).unwrap();
    let packages = backend.resolve(&want(&["app"]), &bench.report()).unwrap();
    assert_eq!(listed(&packages), ["app 1.1-1", "liba 1.0-1"]);
}

fn installs_what_the_packages_say<F: Format>() {
    let mut app = Made::new("app", "1.0")
        .file("/usr/bin/app", "app")
        .with(0o4755, ("root", 0))
        .file("/usr/lib/app/secret", "s")
        .with(0o640, ("lp", 7))
        .file("/usr/lib/app/unwanted", "u")
        .link("/usr/bin/link", "app")
        .dir("/usr/lib/app/dir")
        .with(0o2750, ("lp", 7))
        .pre("cat /etc/passwd > /etc/seen-before")
        .post("echo \"$SOURCE_DATE_EPOCH $PWD\" > /etc/made-after; id -u >> /etc/made-after");
    app.items.insert(0, Made::new("x", "1").dir("/usr/lib/app").items.remove(0));
    app = app.file("/usr/bin/ping", "p").with(0o755, ("root", 0));
    app.raw_socket = Some("/usr/bin/ping".to_owned());
    let bench = Bench::<F>::new(&[base(), app]);
    let remove = [RemovedFiles {
        package: Regex::new("^app$").unwrap(),
        patterns: vec![Regex::new(".*/unwanted").unwrap()],
    }];
    let tree = bench.install(&want(&["app"]), &remove).unwrap();
    let meta = |path: &str| std::fs::symlink_metadata(tree.root.join(path)).unwrap();
    let stat = |path: &str| {
        let meta = meta(path);
        (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid())
    };
    assert_eq!(stat("usr/bin/app"), (0o4755, 0, 0));
    assert_eq!(stat("usr/lib/app/secret"), (0o640, 7, 7));
    assert_eq!(stat("usr/lib/app/dir"), (0o2750, 7, 7));
    assert_eq!(std::fs::read_link(tree.root.join("usr/bin/link")).unwrap().to_str(), Some("app"));
    assert!(!tree.root.join("usr/lib/app/unwanted").exists());
    let mut value = [0; 64];
    let length =
        rustix::fs::lgetxattr(tree.root.join("usr/bin/ping"), "security.capability", &mut value).unwrap();
    // struct vfs_cap_data: revision 2, effective; permitted CAP_NET_RAW (13).
    assert_eq!(&value[..length.min(8)], [1, 0, 0, 2, 0, 0x20, 0, 0]);
    assert!(tree.read("etc/seen-before").contains("lp:x:7:7"));
    assert_eq!(tree.read("etc/made-after"), "86400 /\n0\n");
    assert_eq!(tree.owners.get("/usr/bin/app").map(String::as_str), Some("app"));
    assert_eq!(tree.owners.get("/usr/lib/app/secret").map(String::as_str), Some("app"));
    assert_eq!(tree.owners.get("/etc/passwd").map(String::as_str), Some("base"));
    assert_eq!(bench.warnings(), Vec::<String>::new());

    // The same packages give the same tree, whenever they are installed.
    let again = bench.install(&want(&["app"]), &remove).unwrap();
    let differences = nosa::host::Cmd::program("diff")
        .arg("-r")
        .arg("--no-dereference")
        .arg(&tree.root)
        .arg(&again.root)
        .run();
    if let Err(error) = differences {
        panic!("{error:#}");
    }
}

fn downloads_are_verified<F: Format>() {
    let bench = Bench::<F>::new(&packages());
    let backend = bench.backend();
    backend.refresh(&bench.report()).unwrap();
    let packages = backend.resolve(&want(&["app"]), &bench.report()).unwrap();
    let damaged = std::fs::read_dir(bench.repo()).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        path.extension().is_some_and(|ending| ending == F::ENDING) && path.to_str().unwrap().contains("liba")
    });
    let path = damaged.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = backend.download(&packages, &bench.report()).unwrap_err();
    assert!(path.exists(), "the repository's own file is the user's");
    let failure = error.downcast_ref::<nosa::failure::Failure>().unwrap_or_else(|| panic!("{error:#}"));
    assert_eq!(failure.kind, nosa::failure::Kind::Repository, "{failure:?}");
    assert!(failure.cause.contains("liba") || failure.cause.contains("Hash Sum mismatch"), "{failure:?}");
}
