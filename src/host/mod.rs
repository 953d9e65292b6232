//! The machine nosa runs on: programs, files, locks, environment and clock. The only room that may
//! call `Command::new`, read the environment or look at the clock; it knows nothing of nosa.

pub mod clock;
mod command;
pub mod environment;
pub mod fs;
mod limited;
mod lock;
mod outcome;
mod tools;
mod watch;

pub use command::{Child, Cmd, Output};
pub use limited::{Ending, Finished};
pub use lock::{FileLock, LockHeld};
pub use outcome::CommandError;
pub use tools::{Installed, TOOLS, Tool, ToolError, doctor, require};
/// The rows of the tool table.
pub mod tool {
    pub use super::tools::{
        APT_GET, BWRAP, DEBUGFS, DNF, GIT, NEWGIDMAP, NEWUIDMAP, QEMU_IMG, QEMU_X86_64, RPM, SQLITE3, SSH,
        SSH_KEYGEN,
    };
}
