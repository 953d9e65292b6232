//! The machine nosa runs on: programs, files, locks, environment and clock. The only room that may
//! call `Command::new`, read the environment or look at the clock; it knows nothing of nosa.

pub mod clock;
mod command;
pub mod environment;
pub mod fs;
mod limited;
mod linklock;
mod lock;
mod outcome;
mod tools;
mod watch;

pub use command::{Child, Cmd, Output};
pub use limited::{Ending, Finished};
pub use linklock::LinkLock;
pub use lock::{FileLock, LockHeld};
pub use outcome::CommandError;
pub use tools::{Installed, OCCASIONAL, TOOLS, Tool, ToolError, doctor, require};
/// The rows of the tool table.
pub mod tool {
    pub use super::tools::{
        APT_GET, AWS, BWRAP, CURL, DEBUGFS, DNF, GIT, GPG, NEWGIDMAP, NEWUIDMAP, PODMAN, QEMU_IMG,
        QEMU_X86_64, RPM, SKOPEO, SKOPEO_SIGNING, SQLITE3, SSH, SSH_KEYGEN,
    };
}
