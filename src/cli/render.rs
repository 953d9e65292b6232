//! The only code that prints: bars on a terminal, plain lines elsewhere, JSON where it was asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::pipeline::{Event, Sink, Unit};

/// In a plain log, a task that goes on tells of itself this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    /// Stages, tasks, notes.
    Normal,
    /// And every line that programs print.
    Verbose,
}

/// Renders events on standard error.
pub struct Renderer {
    verbosity: Verbosity,
    bars: Option<MultiProgress>,
    tasks: Mutex<HashMap<u64, Task>>,
}

struct Task {
    bar: Option<ProgressBar>,
    started: Instant,
    told: Instant,
}

impl Renderer {
    /// A renderer for this terminal, or for a log when standard error is none.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal() && verbosity != Verbosity::Quiet;
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { verbosity, bars, tasks: Mutex::default() }
    }

    fn line(&self, text: &str) {
        self.raw(&shown(text));
    }

    /// A line as it is.
    fn raw(&self, text: &str) {
        match &self.bars {
            // Writing fails only when the terminal is gone; there is nobody left to tell.
            Some(bars) => drop(bars.println(text)),
            None => to_stderr(text),
        }
    }

    fn progress(&self, id: u64, name: &str, done: u64, total: u64, unit: Unit) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = total > 0 && done >= total;
        if finished {
            if let Some(task) = tasks.remove(&id) {
                let took = task.started.elapsed();
                if let Some(bar) = task.bar {
                    bar.finish_and_clear();
                }
                if took >= Duration::from_secs(1) {
                    self.line(&format!("    {name}: {} in {}", amount(done, unit), seconds(took)));
                }
            }
            return;
        }
        let now = Instant::now();
        let task = tasks.entry(id).or_insert_with(|| {
            let bar = self.bars.as_ref().map(|bars| bars.add(bar(name, unit, total)));
            Task { bar, started: now, told: now }
        });
        match &task.bar {
            Some(bar) => {
                if total > 0 {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            None if now - task.told >= HEARTBEAT => {
                task.told = now;
                let share =
                    (done * 100).checked_div(total).map(|share| format!(" ({share}%)")).unwrap_or_default();
                to_stderr(&format!("    {name}: {}{share}", amount(done, unit)));
            }
            None => {}
        }
    }
}

impl Sink for Renderer {
    fn emit(&self, event: &Event) {
        let shown = self.verbosity != Verbosity::Quiet;
        match event {
            Event::StageStarted { stage, reason } if shown => self.line(&format!("==> {stage}: {reason}")),
            Event::StageReused { stage } if shown => self.line(&format!("  = {stage}: unchanged, reused")),
            Event::StageFinished { stage, took, success: true } if shown => {
                self.line(&format!("  + {stage}: {}", seconds(*took)));
            }
            Event::StageFinished { stage, took, success: false } => {
                self.line(&format!("  ! {stage}: failed after {}", seconds(*took)));
            }
            Event::Progress { id, task, done, total, unit } if shown => {
                self.progress(*id, task, *done, *total, *unit);
            }
            Event::Warning(text) => self.line(&format!("warning: {text}")),
            Event::Note(text) if shown => self.line(text),
            Event::Detail(text) if self.verbosity == Verbosity::Verbose => {
                // Programs may draw as they do without nosa.
                self.raw(&format!("      {text}"));
            }
            _ => {}
        }
    }
}

fn bar(name: &str, unit: Unit, total: u64) -> ProgressBar {
    let template = match (unit, total) {
        (_, 0) => "    {msg} {spinner} {elapsed}",
        (Unit::Bytes, _) => "    {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        (Unit::Items, _) => "    {msg} {bar:30} {pos}/{len} {per_sec} {eta}",
    };
    let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.set_message(name.to_owned());
    if total == 0 {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

fn amount(count: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => bytes(count),
        Unit::Items => count.to_string(),
    }
}

/// A size for people: `1.2 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A duration for people: `1.2 s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Prints a line of a result on standard output.
pub fn print(text: &str) {
    // A reader that closed the pipe (`| head`) has seen what it wanted.
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{}", shown(text)));
}

/// Text without what a terminal would obey: it may quote names of an image, or a registry.
fn shown(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(obeyed) {
        return text.into();
    }
    let escaped = |c: char| if obeyed(c) { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect::<String>().into()
}

/// Prints a result as JSON on standard output.
pub fn print_json(value: &impl serde::Serialize) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints a value of a record: a text as it is, anything else as JSON; with its key before it if there is one.
pub fn print_value(key: Option<&impl std::fmt::Display>, value: &serde_json::Value, json: bool) {
    let text = match value {
        serde_json::Value::String(text) if !json => text.clone(),
        other => other.to_string(),
    };
    match key {
        Some(key) if !json => print(&format!("{key}: {text}")),
        _ => print(&text),
    }
}

/// Prints a table on standard output: columns as wide as their widest cell.
pub fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        print(cells.join("  ").trim_end());
    }
}

/// Prints a failure: what went wrong, and what to do.
pub fn print_failure(failure: &Failure) {
    to_stderr(&shown(&format!("error: {}", failure.cause)));
    if !failure.cure.is_empty() {
        to_stderr(&shown(&format!("  {}", failure.cure)));
    }
}

fn to_stderr(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(writeln!(err, "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_commands_no_terminal() {
        assert_eq!(
            shown("a \u{1b}[2J name\r, größer\n\tand more"),
            "a \\u{1b}[2J name\\r, größer\n\tand more"
        );
        assert!(matches!(shown("plain"), Cow::Borrowed(_)));
    }
}
