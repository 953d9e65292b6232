//! A watch over a running program: ends it when nothing was heard of it for too long.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A thread that waits for signs of life.
#[derive(Debug)]
pub(super) struct Watch {
    signs: Sender<()>,
    thread: JoinHandle<bool>,
    limit: Duration,
}

impl Watch {
    /// Watches the child `id`, which must not be reaped before [`Watch::finish`].
    pub(super) fn start(id: u32, limit: Duration) -> Self {
        let (signs, ear) = channel();
        let thread = std::thread::spawn(move || {
            loop {
                match ear.recv_timeout(limit) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => return false,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return false };
            // It fails only if the program has just ended by itself.
            kill_process(pid, Signal::KILL).is_ok()
        });
        Self { signs, thread, limit }
    }

    /// Notes a sign of life.
    pub(super) fn heard(&self) {
        // The watch may have ended already, having killed the program.
        let _ = self.signs.send(());
    }

    /// Ends the watch; the limit if it was exceeded.
    pub(super) fn finish(self) -> Option<Duration> {
        let Self { signs, thread, limit } = self;
        drop(signs);
        thread.join().unwrap_or(false).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cmd;
    use super::*;

    #[test]
    fn a_silent_program_is_ended_and_a_talking_one_is_not() {
        let limit = Duration::from_millis(300);
        let talking = ["-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"];
        Cmd::program("sh").args(talking).silence(limit).run().unwrap();
        let error = Cmd::program("sh").args(["-c", "echo one; exec sleep 60"]).silence(limit).run();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("it printed nothing for 0 s and was ended"), "{error}");
        assert!(error.contains("one"), "{error}");
    }
}
