//! The user namespace that nosa works in.
//!
//! nosa starts itself again; the child unshares its user and mount namespace and waits; the parent maps
//! ids 0 to 65535 into it: directly when it is root, with newuidmap(1) and subuid(5) when it is not. The
//! two meet through /proc (`ns/user` differs, `uid_map` is filled), so no descriptor has to be passed.
//! See user_namespaces(7).

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::thread::UnshareFlags;

use crate::failure::{Failure, Kind};
use crate::host::{self, Cmd, environment, fs, tool};

/// Set in the environment of the copy of nosa that is to work inside the namespace.
const MARKER: &str = "NOSA_NAMESPACE";
/// How many ids a tree may use.
const IDS: u64 = 65_536;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// What [`enter`] did.
#[derive(Debug)]
pub enum Entered {
    /// This process is inside; go on.
    Inside,
    /// A copy of this process did the work inside and ended with this code.
    Done(ExitCode),
}

/// Whether this process was started by [`enter`].
#[must_use]
pub fn is_inside() -> bool {
    environment::var(MARKER).is_some()
}

/// Makes sure that the rest of the program runs inside the namespace.
///
/// Must be called before any thread is started: a process with threads cannot change its user namespace.
pub fn enter() -> Result<Entered> {
    if is_inside() {
        unshare()?;
        return Ok(Entered::Inside);
    }
    let root = rustix::process::geteuid().is_root();
    let ranges = if root { None } else { Some(Ranges::of_this_user()?) };
    let program = std::env::current_exe().context("finding nosa's own program file")?;
    let mut child = Cmd::program(program)
        .args(std::env::args_os().skip(1))
        .inherit_environment()
        .env(MARKER, "1")
        .spawn_interactive()
        .context("starting nosa again in a user namespace")?;
    let mapped = wait_for_namespace(child.id()).and_then(|ready| match (ready, &ranges) {
        (false, _) => Ok(()),
        (true, None) => map_as_root(child.id()),
        (true, Some(ranges)) => map_as_user(child.id(), ranges),
    });
    if let Err(error) = mapped {
        child.kill();
        return Err(error);
    }
    let status = child.wait()?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code) => Ok(Entered::Done(ExitCode::from(code))),
        None => Err(Failure::new(
            if status.signal() == Some(9) { Kind::Resource } else { Kind::Interrupted },
            format!("the build was ended by signal {}", status.signal().unwrap_or(0)),
            "signal 9 without anybody's doing means that memory ran out; nothing half-made counts, so run it again",
        )
        .into()),
    }
}

fn unshare() -> Result<()> {
    // SAFETY: only the user and mount namespaces are unshared; the file table, which other code may rely
    // on sharing, is not.
    #[expect(unsafe_code, reason = "rustix marks unshare unsafe because of CLONE_FILES, which is not used")]
    let result = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) };
    result.map_err(|error| {
        Failure::new(
            Kind::Tool,
            format!("the kernel refuses a user namespace: {error}"),
            "allow them: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000 (in a \
             container: run it with --security-opt seccomp=unconfined)",
        )
    })?;
    let start = Instant::now();
    while fs::read_to_string(&PathBuf::from("/proc/self/uid_map"))?.trim().is_empty() {
        if start.elapsed() > PATIENCE {
            bail!("nobody mapped ids into the user namespace");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Waits until the child is in a namespace of its own; false when it ended before.
fn wait_for_namespace(pid: u32) -> Result<bool> {
    let own = std::fs::read_link("/proc/self/ns/user").context("reading /proc/self/ns/user")?;
    let theirs = PathBuf::from(format!("/proc/{pid}/ns/user"));
    let start = Instant::now();
    loop {
        match std::fs::read_link(&theirs) {
            Ok(theirs) if theirs != own => return Ok(true),
            Ok(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) => bail!("the copy of nosa never entered its user namespace"),
            Err(_) => return Ok(false),
        }
    }
}

fn map_as_root(pid: u32) -> Result<()> {
    for map in ["uid_map", "gid_map"] {
        let path = PathBuf::from(format!("/proc/{pid}/{map}"));
        fs::write(&path, format!("0 0 {IDS}\n"))
            .context("mapping ids (does this container itself have 65536 ids?)")?;
    }
    Ok(())
}

fn map_as_user(pid: u32, ranges: &Ranges) -> Result<()> {
    host::require(&[&tool::NEWUIDMAP, &tool::NEWGIDMAP]).map_err(Failure::from)?;
    let uid = rustix::process::geteuid().as_raw().to_string();
    let gid = rustix::process::getegid().as_raw().to_string();
    for (tool, own, first) in [(&tool::NEWGIDMAP, gid, ranges.gids), (&tool::NEWUIDMAP, uid, ranges.uids)] {
        let rest = (IDS - 1).to_string();
        Cmd::new(tool)
            .arg(pid.to_string())
            .args(["0", &own, "1", "1", &first.to_string(), &rest])
            .run()
            .context("mapping subordinate ids")?;
    }
    Ok(())
}

/// The first subordinate user and group id of this user.
struct Ranges {
    uids: u64,
    gids: u64,
}

impl Ranges {
    fn of_this_user() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let user = user_name(uid)?;
        let find = |file: &str| -> Result<u64> {
            let text = fs::read_optional(&PathBuf::from(file))?.unwrap_or_default();
            first_range(&text, &user, uid).ok_or_else(|| {
                Failure::new(
                    Kind::Tool,
                    format!("{file}: user {user} has no range of {IDS} subordinate ids"),
                    format!(
                        "run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
                    ),
                )
                .into()
            })
        };
        Ok(Self { uids: find("/etc/subuid")?, gids: find("/etc/subgid")? })
    }
}

fn user_name(uid: u32) -> Result<String> {
    let passwd = fs::read_to_string(&PathBuf::from("/etc/passwd"))?;
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    Ok(name.or_else(|| environment::var("USER")).unwrap_or_else(|| uid.to_string()))
}

/// The start of the first large enough range for a user in subuid(5)'s format.
fn first_range(text: &str, user: &str, uid: u32) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first: u64 = fields.next()?.parse().ok()?;
        let count: u64 = fields.next()?.parse().ok()?;
        ((owner == user || owner == uid.to_string()) && count >= IDS - 1).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::first_range;

    #[test]
    fn subordinate_ranges_by_name_or_number() {
        let text = "root:1:10\nada:100000:1000\nada:200000:65536\n1002:300000:65536\n";
        assert_eq!(first_range(text, "ada", 1001), Some(200_000));
        assert_eq!(first_range(text, "bob", 1002), Some(300_000));
        assert_eq!(first_range(text, "eve", 1003), None);
    }
}
