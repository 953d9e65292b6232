//! scratch
#![allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes
)]
use nosa::packages::*;
use nosa::pipeline::*;
use std::path::*;
use std::sync::Arc;
struct P;
impl Sink for P {
    fn emit(&self, e: &Event) {
        if let Event::Detail(d) = e {
            println!("  {d}");
        } else if let Event::Progress { task, done, total, .. } = e {
            if done == total {
                println!("{task} {done}/{total}");
            }
        }
    }
}
fn main() {
    if let nosa::sandbox::Entered::Done(_) = nosa::sandbox::enter().unwrap() {
        return;
    }
    let cfg = Path::new("/work/wt-variant/variants/debian-container");
    let cache = Path::new("/work/scratch/cache");
    std::fs::create_dir_all(cache).unwrap();
    let mut repos = vec![];
    for id in ["debian", "debian-security", "debian-forky"] {
        let p = cfg.join(format!("{id}.sources"));
        repos.push(
            Repository::new(id, &p, std::fs::read_to_string(&p).unwrap(), id == "debian-forky").unwrap(),
        );
    }
    let names: Vec<Wanted> = std::fs::read_to_string("/work/scratch/names")
        .unwrap()
        .split_whitespace()
        .map(|n| Wanted { name: n.into(), origin: String::new() })
        .collect();
    let forky: Vec<String>="grub2-common grub-common grub-pc-bin grub-efi-amd64-bin grub-efi-amd64-unsigned libefiboot1t64 libefivar1t64".split(' ').map(String::from).collect();
    let apt = Apt::new(
        cache,
        Path::new("/work/scratch/apt.log"),
        "x86_64",
        repos,
        vec![("debian-forky".into(), forky)],
        Mirrors::of_host(Mirrors::default()),
    )
    .unwrap();
    let r = Reporter::new(Arc::new(P));
    let t = std::time::Instant::now();
    if apt.snapshot().unwrap().is_none() {
        println!("{:?}", apt.refresh(&r).unwrap());
    }
    println!("refresh {:?}", t.elapsed());
    let req = Request {
        packages: names,
        exclude:
            "python3 python3-minimal perl man-db ifupdown initramfs-tools grub-pc grub-efi-amd64 polkitd cron"
                .split(' ')
                .map(String::from)
                .collect(),
        ..Default::default()
    };
    let p = apt.resolve(&req, &r).unwrap();
    println!("resolve {:?} {} pkgs", t.elapsed(), p.len());
    let f = apt.download(&p, &r).unwrap();
    println!("download {:?}", t.elapsed());
    let tree = Path::new("/work/scratch/tree");
    nosa::host::fs::remove_tree(tree).unwrap();
    std::fs::create_dir_all(tree).unwrap();
    let tmp = Path::new("/work/scratch/tmp");
    std::fs::create_dir_all(tmp).unwrap();
    let t = std::time::Instant::now();
    let _u = std::fs::remove_file("/work/scratch/configure.log");
    apt.install(&InstallRequest {
        packages: &p,
        files: &f,
        tree,
        tmp,
        log: Path::new("/work/scratch/configure.log"),
        epoch: 1700000000,
        remove: &[],
        report: &r,
    })
    .unwrap();
    println!("install {:?}", t.elapsed());
}
