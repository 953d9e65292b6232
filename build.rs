//! Puts the files of `variants/` into the program, so that `nosa init` needs nothing beside it.

#![expect(clippy::disallowed_methods, reason = "a build script is told everything by its environment")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::from("&[\n");
    for name in ["variants", "kola-tests"] {
        println!("cargo::rerun-if-changed={name}");
        walk(&root.join(name), root, &mut text)?;
    }
    text.push_str("]\n");
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("embedded.rs"), text)?;
    Ok(())
}

fn walk(dir: &Path, root: &Path, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let mut paths: Vec<_> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(root)?.display();
        if meta.is_dir() {
            walk(&path, root, text)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(&path)?;
            writeln!(text, "    ({name:?}, 0o120777, b{target:?}),", name = name.to_string())?;
        } else {
            let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            writeln!(text, "    ({name:?}, 0o{mode:o}, include_bytes!({path:?})),", name = name.to_string())?;
        }
    }
    Ok(())
}
