//! How long is waited before a request is sent again. Pure: the pause depends on the count and on what the
//! registry asked for, and on nothing else.

use std::time::Duration;

use crate::host::clock::Utc;

/// The longest pause of nosa's own choice.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause that a registry may ask for.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// How often and how fast a request is sent again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) retries: u32,
    pub(super) first: Duration,
}

impl Backoff {
    /// The pause after the failure number `failed` (from 1), or `None` when it was the last attempt, or when the
    /// registry asks for more patience than there is.
    pub(super) fn pause(&self, failed: u32, asked: Option<Duration>) -> Option<Duration> {
        if failed > self.retries {
            return None;
        }
        let own = self.first.saturating_mul(1_u32.checked_shl(failed - 1).unwrap_or(u32::MAX)).min(LONGEST);
        match asked {
            Some(asked) if asked > PATIENCE => None,
            Some(asked) => Some(own.max(asked)),
            None => Some(own),
        }
    }
}

/// What a Retry-After header asks for: seconds, or the time of an HTTP date, `now` being seconds since 1970.
pub(super) fn retry_after(header: &str, now: u64) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::from_secs(http_date(header)?.saturating_sub(now)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form of RFC 9110 that servers may send.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"] = date.split(' ').collect::<Vec<_>>()[..] else { return None };
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.iter().position(|known| *known == month)? + 1;
    let time = Utc {
        year: year.parse::<u16>().ok()?.into(),
        month: u32::try_from(month).ok()?,
        day: day.parse().ok()?,
        hour: hour.parse().ok()?,
        minute: minute.parse().ok()?,
        second: second.parse().ok()?,
    };
    Some(time.to_epoch())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_to_a_limit_and_end() {
        let backoff = Backoff { retries: 8, first: SECOND };
        let pauses: Vec<Option<u64>> =
            (1..=9).map(|failed| backoff.pause(failed, None).map(|pause| pause.as_secs())).collect();
        assert_eq!(
            pauses,
            [Some(1), Some(2), Some(4), Some(8), Some(16), Some(30), Some(30), Some(30), None]
        );
        assert_eq!(Backoff { retries: u32::MAX, first: SECOND }.pause(40, None), Some(LONGEST));
        assert_eq!(Backoff { retries: 0, first: SECOND }.pause(1, None), None);
    }

    #[test]
    fn the_registry_may_ask_for_more_but_not_for_anything() {
        let backoff = Backoff { retries: 5, first: 4 * SECOND };
        assert_eq!(backoff.pause(1, Some(SECOND)), Some(4 * SECOND));
        assert_eq!(backoff.pause(1, Some(60 * SECOND)), Some(60 * SECOND));
        assert_eq!(backoff.pause(1, Some(PATIENCE)), Some(PATIENCE));
        assert_eq!(backoff.pause(1, Some(PATIENCE + SECOND)), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777;
        assert_eq!(retry_after("7", now), Some(7 * SECOND));
        assert_eq!(retry_after(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(10 * SECOND));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        const YEARS: &str = "Sun, 06 Nov 9223372036854775807 08:49:37 GMT";
        for wrong in ["", "-1", "soon", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT", YEARS]
        {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
