//! Running programs: argv lists only, pinned locale and time zone, no standard input, the whole output
//! in a log, the last lines of it in the error, and no child that outlives nosa.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::outcome::{CommandError, OVERTIME, Tail, describe};
use super::tools::Tool;
use super::watch::Watch;

/// The variables of nosa's own environment that programs see.
const PASSED_ON: &[&str] = &[
    "ALL_PROXY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "TMPDIR",
    "USER",
    "XDG_RUNTIME_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A program call as data; [`fmt::Display`] prints it so that it can be pasted into a shell.
#[derive(Debug, Clone)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    log: Option<PathBuf>,
    inherit_environment: bool,
}

/// What a finished program wrote to standard output.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
}

impl Output {
    /// Standard output as text (invalid UTF-8 replaced).
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A running program that dies with this guard.
#[derive(Debug)]
pub struct Child {
    pub(super) inner: std::process::Child,
    command: String,
}

impl Cmd {
    /// A call of one of nosa's tools.
    #[must_use]
    pub fn new(tool: &Tool) -> Self {
        Self::program(tool.name)
    }

    /// A call of a program by name or path.
    pub fn program(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            stdin: None,
            log: None,
            inherit_environment: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable to the small fixed environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Passes nosa's whole environment on, for copies of nosa itself.
    #[must_use]
    pub fn inherit_environment(mut self) -> Self {
        self.inherit_environment = true;
        self
    }

    /// Runs in `dir`.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Feeds `bytes` as standard input (the default is an empty one).
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Appends the program's output (standard error, and standard output unless captured) to a file.
    #[must_use]
    pub fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }

    /// Runs to the end; anything but exit code 0 is a [`CommandError`].
    pub fn run(&self) -> Result<()> {
        self.run_lines(|_| {})
    }

    /// Runs to the end, handing each line of output (both streams) to `line` as it comes.
    pub fn run_lines(&self, mut line: impl FnMut(&str)) -> Result<()> {
        self.run_steps(Duration::MAX, |text| {
            line(text);
            false
        })
    }

    /// As [`Cmd::run_lines`], for a program of many steps: `line` says whether a line begins one, and a step
    /// that takes longer than `limit` ends the program.
    pub fn run_steps(&self, limit: Duration, mut line: impl FnMut(&str) -> bool) -> Result<()> {
        let (reader, writer) = std::io::pipe().context("creating a pipe")?;
        let mut command = self.command();
        command.stdout(writer.try_clone().context("cloning a pipe")?).stderr(writer);
        let mut child = self.start(&mut command)?;
        drop(command);
        let watch = (limit < Duration::MAX).then(|| Watch::start(child.id(), limit));
        let mut log = self.open_log()?;
        let mut tail = Tail::default();
        let mut reader = BufReader::new(reader);
        let mut buffer = Vec::new();
        while reader.read_until(b'\n', &mut buffer).context("reading a program's output")? > 0 {
            if let Some(log) = &mut log {
                log.write_all(&buffer).context("writing a program's log")?;
            }
            let text = String::from_utf8_lossy(&buffer);
            let text = text.trim_end();
            tail.push(text);
            let step = line(text);
            buffer.clear();
            if let Some(watch) = watch.as_ref().filter(|_| step) {
                watch.heard();
            }
        }
        let stuck = watch.and_then(Watch::finish);
        let status = child.wait()?;
        match stuck {
            Some(limit) => Err(self.error(None, format!("{OVERTIME}{} s", limit.as_secs()), tail)),
            None => self.check(status, tail),
        }
    }

    /// Runs to the end and returns standard output; standard error goes to the log and the error.
    pub fn output(&self) -> Result<Output> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(&mut command)?;
        let stderr = child.inner.stderr.take();
        let drain = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                drop(stderr.read_to_end(&mut text));
            }
            text
        });
        let mut stdout = Vec::new();
        if let Some(mut pipe) = child.inner.stdout.take() {
            pipe.read_to_end(&mut stdout).context("reading a program's output")?;
        }
        let stderr = drain.join().unwrap_or_default();
        if let Some(mut log) = self.open_log()? {
            log.write_all(&stderr).context("writing a program's log")?;
        }
        let mut tail = Tail::default();
        String::from_utf8_lossy(&stderr).lines().for_each(|line| tail.push(line));
        let status = child.wait()?;
        self.check(status, tail)?;
        Ok(Output { stdout })
    }

    /// Runs with nosa's own terminal, for interactive programs, and returns how it ended.
    pub fn interactive(&self) -> Result<ExitStatus> {
        self.spawn_interactive()?.wait()
    }

    /// Starts the program with nosa's own terminal and returns at once.
    pub fn spawn_interactive(&self) -> Result<Child> {
        let mut command = self.command();
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        self.start(&mut command)
    }

    /// Starts the program and returns at once; its output goes to the log.
    pub fn spawn(&self) -> Result<Child> {
        let mut command = self.command();
        match self.open_log()? {
            Some(log) => {
                command.stdout(log.try_clone().context("cloning a log handle")?).stderr(log);
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        self.start(&mut command)
    }

    /// Starts the program with both standard streams as pipes, for a caller that talks to it.
    pub fn spawn_piped(&self) -> Result<std::process::Child> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.spawn().with_context(|| format!("starting {self}"))
    }

    pub(super) fn command(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
        let mut command = Command::new(&self.program);
        if !self.inherit_environment {
            command.env_clear();
            for name in PASSED_ON {
                if let Some(value) = super::environment::var_os(name) {
                    command.env(name, value);
                }
            }
            command.env("PATH", search_path()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value))).args(&self.args);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        die_with_parent(&mut command);
        command
    }

    pub(super) fn start(&self, command: &mut Command) -> Result<Child> {
        let mut inner = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        if let (Some(bytes), Some(mut pipe)) = (self.stdin.clone(), inner.stdin.take()) {
            // A program may end without reading all of it; its exit code tells whether that was wrong.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Ok(Child { inner, command: self.to_string() })
    }

    fn open_log(&self) -> Result<Option<File>> {
        let Some(path) = &self.log else { return Ok(None) };
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening log {}", path.display()))?;
        writeln!(log, "$ {self}").with_context(|| format!("writing {}", path.display()))?;
        Ok(Some(log))
    }

    fn check(&self, status: ExitStatus, tail: Tail) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(self.error(status.code(), describe(status), tail))
    }

    fn error(&self, code: Option<i32>, status: String, tail: Tail) -> anyhow::Error {
        let (command, log) = (self.to_string(), self.log.clone());
        CommandError { command, code, status, tail: tail.lines.into(), log }.into()
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(arg)))
    }
}

impl Child {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.inner.wait().with_context(|| format!("waiting for {}", self.command))
    }

    /// The exit status if the program has ended already.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.inner.try_wait().with_context(|| format!("waiting for {}", self.command))
    }

    /// Kills the program and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only if it has ended already, which is what is wanted.
        drop(self.inner.kill());
        drop(self.inner.wait());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.inner.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// The caller's PATH, with the administrator's directories that a plain user's PATH may lack.
fn search_path() -> OsString {
    let own = super::environment::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&own).collect();
    for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !dirs.iter().any(|known| known == Path::new(dir)) {
            dirs.push(dir.into());
        }
    }
    std::env::join_paths(dirs).unwrap_or(own)
}

/// Finds a program on the search path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Has the kernel kill the child when the thread that started it ends.
fn die_with_parent(command: &mut Command) {
    let hook = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec the hook makes one prctl system call: it allocates nothing and takes
    // no lock.
    #[expect(unsafe_code, reason = "std offers no safe way to set the parent-death signal")]
    unsafe {
        command.pre_exec(hook);
    }
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::TAIL_LINES;
    use super::*;

    #[test]
    fn a_call_prints_as_it_can_be_pasted() {
        let cmd = Cmd::program("echo").arg("a b").arg("it's").arg("--x=1");
        assert_eq!(cmd.to_string(), r"echo 'a b' 'it'\''s' --x=1");
    }

    #[test]
    fn a_failed_program_shows_code_and_last_lines_and_keeps_all_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let error = Cmd::program("sh").args(["-c", "seq 30; exit 3"]).log(&log).run().unwrap_err();
        let error = error.downcast_ref::<CommandError>().unwrap();
        assert_eq!(error.code, Some(3));
        assert_eq!(error.tail.len(), TAIL_LINES);
        assert_eq!(error.tail.last().unwrap(), "30");
        assert!(std::fs::read_to_string(&log).unwrap().contains("\n1\n2\n"));
    }

    #[test]
    fn locale_and_time_zone_are_pinned() {
        let out = Cmd::program("sh").args(["-c", "echo $LC_ALL $TZ $CARGO"]).output().unwrap();
        assert_eq!(out.text(), "C.UTF-8 UTC\n");
    }

    #[test]
    fn a_dropped_child_is_dead() {
        let child = Cmd::program("sleep").arg("100").spawn().unwrap();
        let proc_dir = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(proc_dir.exists());
        drop(child);
        assert!(!proc_dir.exists());
    }
}
