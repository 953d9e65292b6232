//! The only clock. Stages never read it: times that reach an artifact are values given to them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z now.
#[must_use]
pub fn now() -> u64 {
    now_nanos() as u64 / 1_000_000_000
}

/// Nanoseconds since 1970-01-01T00:00:00Z now.
#[must_use]
pub fn now_nanos() -> u128 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos())
}

/// A date and time of the proleptic Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year, e.g. 2026.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, 1 to 31.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
    /// Second, 0 to 59.
    pub second: u32,
}

impl Utc {
    /// Converts seconds since the epoch (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    #[must_use]
    pub fn from_epoch(seconds: u64) -> Self {
        let days = (seconds / 86_400) as i64;
        let rest = (seconds % 86_400) as u32;
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day, hour: rest / 3_600, minute: rest / 60 % 60, second: rest % 60 }
    }

    /// Seconds since the epoch; 0 for earlier times.
    #[must_use]
    pub fn to_epoch(&self) -> u64 {
        let (year, month) = (self.year - i64::from(self.month <= 2), i64::from(self.month));
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(self.day) - 1;
        let days =
            era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
        let time = i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second);
        u64::try_from(days * 86_400 + time).unwrap_or(0)
    }

    /// Reads `2026-11-23T02:03:04Z`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let numbers = |text: &str, by: char| -> Option<Vec<u32>> {
            text.split(by).map(|part| part.parse().ok()).collect()
        };
        let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
        let (&[year, month, day], &[hour, minute, second]) = (date.as_slice(), time.as_slice()) else {
            return None;
        };
        Some(Self { year: year.into(), month, day, hour, minute, second })
    }

    /// `2026-11-23T02:03:04Z`.
    #[must_use]
    pub fn rfc3339(&self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::Utc;

    #[test]
    fn known_instants() {
        assert_eq!(Utc::from_epoch(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Utc::from_epoch(951_782_400).rfc3339(), "2000-02-29T00:00:00Z");
        assert_eq!(Utc::from_epoch(1_795_399_384).rfc3339(), "2026-11-23T02:03:04Z");
        for seconds in [0, 951_782_400, 1_795_399_384, 4_107_542_399] {
            let text = Utc::from_epoch(seconds).rfc3339();
            assert_eq!(Utc::parse(&text).map(|time| time.to_epoch()), Some(seconds));
        }
        assert_eq!(Utc::parse("yesterday"), None);
    }
}
