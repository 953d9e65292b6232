//! Which of two package versions is newer, by the rules of deb and of rpm.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Debian Policy 5.6.12.
    Deb,
    /// rpmvercmp.
    Rpm,
}

/// Compares `EPOCH, VERSION, RELEASE`.
pub(super) fn compare(rules: Rules, one: [&str; 3], other: [&str; 3]) -> Ordering {
    let epoch = |text: &str| text.parse::<u64>().unwrap_or(0);
    let part = match rules {
        Rules::Deb => deb,
        Rules::Rpm => rpm,
    };
    epoch(one[0])
        .cmp(&epoch(other[0]))
        .then_with(|| part(one[1], other[1]))
        .then_with(|| part(one[2], other[2]))
}

fn deb(one: &str, other: &str) -> Ordering {
    // `~` sorts before the end, the end before letters, letters before anything else.
    let weight = |c: Option<&char>| match c {
        Some('~') => -1,
        Some(c) if c.is_ascii_digit() => 0,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => *c as i32,
        Some(c) => *c as i32 + 256,
    };
    let (mut one, mut other) = (one.chars().peekable(), other.chars().peekable());
    loop {
        while one.peek().is_some_and(|c| !c.is_ascii_digit())
            || other.peek().is_some_and(|c| !c.is_ascii_digit())
        {
            match weight(one.peek()).cmp(&weight(other.peek())) {
                Ordering::Equal => drop((one.next(), other.next())),
                unequal => return unequal,
            }
        }
        match number(&mut one).cmp(&number(&mut other)) {
            Ordering::Equal if one.peek().is_none() && other.peek().is_none() => return Ordering::Equal,
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

/// A run of digits without leading zeros, by length first, so that it compares as a number.
fn number(chars: &mut Peekable<Chars<'_>>) -> (usize, String) {
    let digits = run(chars, |c| c.is_ascii_digit());
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits.to_owned())
}

fn run(chars: &mut Peekable<Chars<'_>>, of: impl Fn(&char) -> bool) -> String {
    std::iter::from_fn(|| chars.next_if(&of)).collect()
}

fn rpm(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.chars().peekable(), other.chars().peekable());
    let separator = |c: &char| !c.is_ascii_alphanumeric() && *c != '~' && *c != '^';
    loop {
        drop((run(&mut one, separator), run(&mut other, separator)));
        match (one.peek().copied(), other.peek().copied()) {
            (Some('~'), Some('~')) | (Some('^'), Some('^')) => drop((one.next(), other.next())),
            (Some('~'), _) | (None, Some('^')) => return Ordering::Less,
            (_, Some('~')) | (Some('^'), None) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, _) | (Some('^'), _) => return Ordering::Less,
            (_, None) | (_, Some('^')) => return Ordering::Greater,
            (Some(mine), Some(theirs)) if mine.is_ascii_digit() && theirs.is_ascii_digit() => {
                match number(&mut one).cmp(&number(&mut other)) {
                    Ordering::Equal => {}
                    unequal => return unequal,
                }
            }
            // Numbers are newer than letters.
            (Some(mine), _) if mine.is_ascii_digit() => return Ordering::Greater,
            (_, Some(theirs)) if theirs.is_ascii_digit() => return Ordering::Less,
            _ => match run(&mut one, char::is_ascii_alphabetic)
                .cmp(&run(&mut other, char::is_ascii_alphabetic))
            {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is older than the next.
    fn ascending(rules: Rules, versions: &[&str]) {
        for (index, one) in versions.iter().enumerate() {
            for (place, other) in versions.iter().enumerate() {
                let found = compare(rules, ["0", one, "1"], ["0", other, "1"]);
                assert_eq!(found, index.cmp(&place), "{rules:?} {one} {other}");
            }
        }
    }

    #[test]
    fn versions_in_order() {
        ascending(
            Rules::Deb,
            &["1.0~~", "1.0~~a", "1.0~rc1", "1.0", "1.0a", "1.0+b1", "1.0.1", "1.2", "1.10", "2"],
        );
        ascending(Rules::Rpm, &["1.0~rc1", "1.0", "1.0^git1", "1.0.a", "1.0.1", "1.2", "1.10", "2"]);
        for rules in [Rules::Deb, Rules::Rpm] {
            assert_eq!(compare(rules, ["0", "1.01", "1"], ["0", "1.1", "1"]), Ordering::Equal);
            assert_eq!(compare(rules, ["1", "1", "1"], ["0", "9", "1"]), Ordering::Greater);
            assert_eq!(compare(rules, ["0", "1", "2"], ["0", "1", "10"]), Ordering::Less);
        }
        assert_eq!(compare(Rules::Rpm, ["0", "1.0", "1"], ["0", "1_0", "1"]), Ordering::Equal);
    }
}
