//! Running a program within a time limit, with both of its streams and its exit code as the result: for
//! programs whose failure is an answer (a command on a test machine), not an error.

use std::io::Read;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::command::Cmd;

/// How often a running program is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long output may still arrive after the program itself has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// What a program did before it ended, was stopped, or ran out of time.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with an exit code.
    Exit(i32),
    /// By a signal that nosa did not send.
    Signal,
    /// By nosa, when its time was up.
    TimedOut,
    /// By nosa, because the caller had seen enough.
    Stopped,
}

impl Finished {
    /// Whether it ended by itself with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.ending == Ending::Exit(0)
    }
}

impl Cmd {
    /// Runs for at most `limit`; `go_on` is asked several times a second and ends it early with `false`.
    pub fn finish(&self, limit: Duration, mut go_on: impl FnMut() -> bool) -> Result<Finished> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(&mut command)?;
        let stdout = child.inner.stdout.take().map(Reader::start);
        let stderr = child.inner.stderr.take().map(Reader::start);
        let deadline = Instant::now() + limit;
        let ending = loop {
            if let Some(status) = child.try_wait()? {
                break status.code().map_or(Ending::Signal, Ending::Exit);
            }
            if Instant::now() >= deadline {
                break Ending::TimedOut;
            }
            if !go_on() {
                break Ending::Stopped;
            }
            std::thread::sleep(TICK);
        };
        child.kill();
        let text = |reader: Option<Reader>| reader.map(Reader::finish).unwrap_or_default();
        Ok(Finished { ending, stdout: text(stdout), stderr: text(stderr) })
    }
}

struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if let Ok(mut bytes) = shared.lock() {
                    bytes.extend_from_slice(&buffer[..length]);
                }
            }
        });
        Self { bytes, thread }
    }

    /// What was read; a grandchild that still holds the pipe is not waited for.
    fn finish(self) -> String {
        let deadline = Instant::now() + DRAIN;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(TICK);
        }
        self.bytes.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::program("sh").args(["-c", script])
    }

    #[test]
    fn a_failing_program_is_an_answer() {
        let done = sh("echo out; echo err >&2; exit 3").finish(Duration::from_secs(10), || true).unwrap();
        assert_eq!(
            (done.ending, done.stdout.as_str(), done.stderr.as_str()),
            (Ending::Exit(3), "out\n", "err\n")
        );
    }

    #[test]
    fn time_runs_out_and_the_output_so_far_is_kept() {
        let done = sh("echo begun; sleep 100").finish(Duration::from_millis(300), || true).unwrap();
        assert_eq!((done.ending, done.stdout.as_str()), (Ending::TimedOut, "begun\n"));
    }

    #[test]
    fn the_caller_may_stop_it() {
        let done = sh("sleep 100").finish(Duration::from_secs(50), || false).unwrap();
        assert_eq!(done.ending, Ending::Stopped);
    }
}
