//! Versions as rpm-ostree makes them: a prefix with `<date:…>` tags, and a last number that counts up.
//! Pure: the time and the earlier versions are arguments.

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::host::clock::Utc;

/// The version that follows `previous` (in any order) for `prefix` at `now`, seconds since 1970.
///
/// With a date tag the first version of a prefix is `PREFIX.0`, without one `PREFIX`; then the last number
/// counts up. `suffix` is the character before that number.
pub fn next_version<'p>(
    prefix: &str,
    suffix: Option<char>,
    previous: impl IntoIterator<Item = &'p str>,
    now: u64,
) -> Result<String> {
    let (prefix, dated) = render(prefix, now)?;
    let suffix = suffix.unwrap_or('.');
    let last = previous.into_iter().filter_map(|version| counter(version, &prefix, suffix)).max();
    let version = match last {
        None if dated => format!("{prefix}{suffix}0"),
        None => prefix,
        // The bare prefix counts as its own zeroth version only where it is one.
        Some(None) if dated => format!("{prefix}{suffix}0"),
        Some(None) => format!("{prefix}{suffix}1"),
        Some(Some(number)) => format!("{prefix}{suffix}{}", number + 1),
    };
    check_version(&version)?;
    Ok(version)
}

/// The number at the end of a version of this prefix: `None` for another prefix, `Some(None)` for the bare
/// prefix.
fn counter(version: &str, prefix: &str, suffix: char) -> Option<Option<u64>> {
    let rest = version.strip_prefix(prefix)?;
    if rest.is_empty() {
        return Some(None);
    }
    let digits: String = rest.strip_prefix(suffix)?.chars().take_while(char::is_ascii_digit).collect();
    Some(Some(digits.parse().unwrap_or(0)))
}

/// What lies beside the builds' directories.
const BESIDE: &[&str] = &["builds.json", "latest"];

/// Fails unless `version` can name a build's directory, a tag and a part of file names.
pub fn check_version(version: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+~".contains(c);
    if version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version.chars().all(plain)
        && version.len() <= 128
        && !BESIDE.contains(&version)
    {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Config,
        format!("`{version}` cannot be a version"),
        "use letters, digits and - _ . + ~, and begin with a letter or digit",
    )
    .into())
}

/// The id of a build: its version, and for the second and later image of one commit that image's number.
#[must_use]
pub fn build_id(version: &str, image_genver: u64) -> String {
    if image_genver == 0 { version.to_owned() } else { format!("{version}-{image_genver}") }
}

/// Replaces the `<date:FORMAT>` tags; tells whether there was one.
fn render(prefix: &str, now: u64) -> Result<(String, bool)> {
    let wrong = |cause: String| {
        Failure::new(Kind::Config, cause, "write the tag as `<date:%Y%m%d>` in `automatic-version-prefix`")
    };
    let (mut result, mut rest, mut dated) = (String::new(), prefix, false);
    while let Some((before, after)) = rest.split_once('<') {
        let Some((tag, after)) = after.split_once('>') else {
            return Err(wrong(format!("a `<` is not closed in version prefix `{prefix}`")).into());
        };
        let Some(format) = tag.strip_prefix("date:") else {
            return Err(wrong(format!("unknown tag `<{tag}>` in version prefix `{prefix}`")).into());
        };
        result.push_str(before);
        result.push_str(
            &date(format, now).map_err(|field| {
                wrong(format!("unknown date field `{field}` in version prefix `{prefix}`"))
            })?,
        );
        dated = true;
        rest = after;
    }
    result.push_str(rest);
    Ok((result, dated))
}

/// A date in strftime's notation; on failure the field that is not known.
fn date(format: &str, now: u64) -> Result<String, String> {
    let utc = Utc::from_epoch(now);
    let Utc { year, month, day, hour, minute, second } = utc;
    let days = now / 86_400;
    let new_year = days_before(&utc, days);
    let weekday = (days + 4) % 7;
    let mut result = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => result.push_str(&format!("{year:04}")),
            Some('C') => result.push_str(&format!("{:02}", year / 100)),
            Some('y') => result.push_str(&format!("{:02}", year % 100)),
            Some('m') => result.push_str(&format!("{month:02}")),
            Some('d') => result.push_str(&format!("{day:02}")),
            Some('H') => result.push_str(&format!("{hour:02}")),
            Some('M') => result.push_str(&format!("{minute:02}")),
            Some('S') => result.push_str(&format!("{second:02}")),
            Some('F') => result.push_str(&format!("{year:04}-{month:02}-{day:02}")),
            Some('j') => result.push_str(&format!("{:03}", days - new_year + 1)),
            Some('s') => result.push_str(&now.to_string()),
            Some('u') => result.push_str(&(if weekday == 0 { 7 } else { weekday }).to_string()),
            Some('w') => result.push_str(&weekday.to_string()),
            Some('%') => result.push('%'),
            Some(other) => return Err(format!("%{other}")),
            None => return Err("%".to_owned()),
        }
    }
    Ok(result)
}

/// The day number of 1 January of the same year.
fn days_before(utc: &Utc, days: u64) -> u64 {
    let leap = utc.year % 4 == 0 && (utc.year % 100 != 0 || utc.year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: u64 = lengths.iter().take(utc.month as usize - 1).sum();
    days - before - (u64::from(utc.day) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-01-14T08:00:00Z, a Tuesday.
    const NOW: u64 = 1_736_841_600;

    fn next(prefix: &str, previous: &[&str]) -> String {
        next_version(prefix, None, previous.iter().copied(), NOW).unwrap()
    }

    #[test]
    fn with_a_date_numbers_begin_at_zero() {
        let prefix = "24.03-LTS.<date:%Y%m%d>";
        assert_eq!(next(prefix, &[]), "24.03-LTS.20250114.0");
        assert_eq!(next(prefix, &["24.03-LTS.20250113.7"]), "24.03-LTS.20250114.0");
        assert_eq!(next(prefix, &["24.03-LTS.20250114.0"]), "24.03-LTS.20250114.1");
        assert_eq!(next(prefix, &["24.03-LTS.20250114.9", "24.03-LTS.20250114.10"]), "24.03-LTS.20250114.11");
        assert_eq!(next(prefix, &["24.03-LTS.20250114.3-1"]), "24.03-LTS.20250114.4");
        assert_eq!(next(prefix, &["24.03-LTS.20250114"]), "24.03-LTS.20250114.0");
    }

    #[test]
    fn without_a_date_the_first_version_is_the_prefix() {
        assert_eq!(next("10", &[]), "10");
        assert_eq!(next("10", &["10"]), "10.1");
        assert_eq!(next("10", &["10.1", "10"]), "10.2");
        assert_eq!(next("10", &["9.5", "100.3"]), "10");
        assert_eq!(next_version("10", Some('-'), ["10-4", "10.9"], NOW).unwrap(), "10-5");
    }

    #[test]
    fn date_fields() {
        assert_eq!(next("<date:%F>.<date:%H%M%S>", &[]), "2025-01-14.080000.0");
        assert_eq!(next("<date:%y.%j.%u.%w>", &[]), "25.014.2.2.0");
        assert_eq!(date("%j", 1_735_603_200).unwrap(), "366", "2024-12-31 of a leap year");
        let cause = |prefix: &str| next_version(prefix, None, [], NOW).unwrap_err().to_string();
        assert_eq!(cause("1.<date:%Q>"), "unknown date field `%Q` in version prefix `1.<date:%Q>`");
        assert_eq!(cause("1.<dat:%Y>"), "unknown tag `<dat:%Y>` in version prefix `1.<dat:%Y>`");
        assert_eq!(cause("1.<date:%Y"), "a `<` is not closed in version prefix `1.<date:%Y`");
    }

    #[test]
    fn what_cannot_name_a_directory_is_no_version() {
        for bad in ["", "a/b", "..", "-1", "a b", "latest", ".1"] {
            assert!(check_version(bad).is_err(), "{bad:?}");
        }
        assert!(check_version("24.03-LTS.20250114.0").is_ok());
        assert_eq!((build_id("1.0", 0).as_str(), build_id("1.0", 2).as_str()), ("1.0", "1.0-2"));
    }
}
