//! The times of the week in which a machine may reboot by itself: `Sat,Sun 02:00-04:00`, in local time.

use std::str::FromStr;

use anyhow::{Error, Result, bail};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// The timer looks once an hour, at most twenty minutes late.
const SHORTEST: u32 = 90;
const DAY: u32 = 24 * 60;

/// Days and hours. A window that ends before it begins goes over midnight and belongs to the day it begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Window {
    /// Indexes of days, from Monday; all when empty.
    days: Vec<u32>,
    /// Minutes since midnight; the whole day when absent.
    hours: Option<(u32, u32)>,
}

impl Window {
    /// Whether a moment is inside: a day, 0 for Monday, and a minute of it.
    pub(crate) fn contains(&self, day: u32, minute: u32) -> bool {
        let on = |day: u32| self.days.is_empty() || self.days.contains(&(day % 7));
        match self.hours {
            None => on(day),
            Some((from, to)) if from < to => on(day) && (from..to).contains(&minute),
            Some((from, to)) => (on(day) && minute >= from) || (on(day + 6) && minute < to),
        }
    }
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut window = Self::default();
        for word in text.split_whitespace() {
            if word.starts_with(|c: char| c.is_ascii_digit()) {
                window.hours = Some(hours(word)?);
                continue;
            }
            for name in word.split(',') {
                let Some(day) = DAYS.iter().position(|day| *day == name) else {
                    bail!("window={text}: {name} is no day: write {}", DAYS.join(", "));
                };
                window.days.push(u32::try_from(day)?);
            }
        }
        Ok(window)
    }
}

fn hours(word: &str) -> Result<(u32, u32)> {
    let minute = |text: &str| -> Option<u32> {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let Some((from, to)) = word.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)))
    else {
        bail!("window={word}: write hours as 02:00-04:00");
    };
    if (to + DAY - from) % DAY < SHORTEST {
        bail!("window={word}: the timer runs once an hour: write at least {SHORTEST} minutes");
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_days_and_hours() {
        let window: Window = "Sat,Sun 02:00-04:00".parse().unwrap();
        assert!(window.contains(5, 120) && window.contains(6, 239));
        assert!(!window.contains(5, 119) && !window.contains(6, 240) && !window.contains(0, 130));
        let always: Window = "".parse().unwrap();
        assert!(always.contains(3, 700));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_its_first_day() {
        let window: Window = "Sun 23:00-01:00".parse().unwrap();
        assert!(window.contains(6, 23 * 60) && window.contains(0, 59));
        assert!(!window.contains(6, 30) && !window.contains(0, 23 * 60));
    }

    #[test]
    fn what_the_timer_could_miss_is_refused() {
        for text in ["02:00-02:30", "02:00-02:00", "25:00-27:00", "Sunday", "02-04"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
