//! Three boots for a new deployment to come up, counted by GRUB: it has no arithmetic, so grub.cfg knows each
//! step from 3 to 0, and at 0 takes the second entry of the menu, which is what ran before. The number is in
//! GRUB's environment block, a file of 1024 bytes: a first line, `name=value` lines, and `#` up to the end.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::machine::Machine;
use super::programs::say;
use super::state::State;

/// How many boots a new deployment has.
pub(crate) const BOOTS: u32 = 3;
const FILE: &str = "/boot/grub2/grubenv";
const NAME: &str = "boot_counter";
const FIRST_LINE: &str = "# GRUB Environment Block\n";
const SIZE: usize = 1024;

/// Begins to count if the next boot runs what has not proved itself. Runs when the machine goes down, after
/// ostree has finished what was staged.
pub(crate) async fn arm() -> Result<()> {
    let machine = Machine::open()?;
    let (all, state) = (machine.deployments()?, State::load()?);
    match all.iter().find(|one| !one.staged) {
        Some(next) if state.is_good(&next.commit) => stop(&machine).await,
        // It runs, and is counted already.
        Some(next) if next.booted => Ok(()),
        Some(next) if Path::new(FILE).parent().is_some_and(Path::is_dir) => {
            say(format_args!("{} has {BOOTS} boots to prove itself", next.name()));
            // The lock makes /boot writable for this process.
            let _lock = machine.lock().await?;
            write(Some(BOOTS))
        }
        _ => Ok(()),
    }
}

/// Ends the count.
pub(crate) async fn stop(machine: &Machine) -> Result<()> {
    if value(&read()?).is_none() {
        return Ok(());
    }
    let _lock = machine.lock().await?;
    write(None)
}

/// How many boots are left, if they are counted.
pub(crate) fn left() -> Result<Option<u32>> {
    Ok(value(&read()?).and_then(|count| count.parse().ok()))
}

fn read() -> Result<String> {
    if !Path::new(FILE).exists() {
        return Ok(String::new());
    }
    std::fs::read_to_string(FILE).with_context(|| format!("reading {FILE}"))
}

fn write(count: Option<u32>) -> Result<()> {
    let text = with(&read()?, count)?;
    let new = format!("{FILE}.new");
    let place = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, FILE)?;
        std::fs::File::open(Path::new(FILE).parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    place().with_context(|| format!("writing {FILE}"))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#') && line.contains('='))
}

fn value(text: &str) -> Option<&str> {
    lines(text).find_map(|line| line.strip_prefix(NAME)?.strip_prefix('='))
}

/// The block with another count, or with none; what else is in it stays.
fn with(text: &str, count: Option<u32>) -> Result<String> {
    let mut block = FIRST_LINE.to_owned();
    for line in lines(text).filter(|line| value(line).is_none()) {
        block.push_str(&format!("{line}\n"));
    }
    if let Some(count) = count {
        block.push_str(&format!("{NAME}={count}\n"));
    }
    ensure!(block.len() <= SIZE, "{FILE} is full");
    block.push_str(&"#".repeat(SIZE - block.len()));
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_comes_and_goes_and_all_else_stays() {
        let counted = with("", Some(3)).unwrap();
        assert_eq!((counted.len(), value(&counted)), (SIZE, Some("3")));
        assert!(counted.starts_with("# GRUB Environment Block\nboot_counter=3\n####"));
        let both = with(&counted.replace("\n##", "\nsaved_entry=x\n"), Some(2)).unwrap();
        assert_eq!((both.len(), value(&both)), (SIZE, Some("2")));
        let ended = with(&both, None).unwrap();
        assert_eq!((ended.len(), value(&ended)), (SIZE, None));
        assert!(ended.contains("\nsaved_entry=x\n"));
    }

    #[test]
    fn a_block_that_is_full_is_left_alone() {
        assert!(with(&format!("a={}\n", "x".repeat(SIZE)), Some(3)).is_err());
    }
}
