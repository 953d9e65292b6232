//! A watch over a running program: ends it when no sign of life came for too long.

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
    fn a_step_may_take_so_long_and_no_longer() {
        let limit = Duration::from_millis(400);
        let run = |script: &str, step: bool| {
            Cmd::program("sh")
                .args(["-c", script])
                .run_steps(limit, |_| step)
                .map_err(|error| error.to_string())
        };
        let talking = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done";
        assert_eq!(run(talking, true), Ok(()));
        let error = run(talking, false).unwrap_err();
        assert!(error.starts_with("sh ended with a step that did not end within 0 s"), "{error}");
        assert!(error.contains("\n    1"), "{error}");
        assert!(run("exec sleep 60", true).is_err());
    }
}
