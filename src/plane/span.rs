//! Lengths of time as people type and read them: `90s`, `3d4h`, `1y`; a day has 24 h and a year 365 d.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const UNITS: [(char, u64); 6] = [('y', 31_536_000), ('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A length of time in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

impl Span {
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    pub const fn seconds(self) -> u64 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// The instant this long after `time`, or the last one that can be represented.
    pub fn after(self, time: Timestamp) -> Timestamp {
        let seconds = i64::try_from(self.0).unwrap_or(i64::MAX);
        time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("not a duration: write numbers with the units y w d h m s, such as 90s, 12h or 3d4h, not `{text}`")
        };
        if text == "0" {
            return Ok(Self(0));
        }
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = rest[digits..].chars().next().ok_or_else(wrong)?;
            let (_, seconds) = UNITS.iter().find(|(letter, _)| *letter == unit).ok_or_else(wrong)?;
            total = number.checked_mul(*seconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(total)) }
    }
}

/// Exactly, in the fewest units: `1y`, `3d4h`, `90s` as `1m30s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        let mut rest = self.0;
        for (letter, seconds) in UNITS {
            if rest >= seconds && letter != 'w' {
                text.push_str(&format!("{}{letter}", rest / seconds));
                rest %= seconds;
            }
        }
        f.pad(&text)
    }
}

/// A moment on the command line: RFC 3339, or `+30d` from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    After(Span),
}

impl Moment {
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::After(span) => span.after(now),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('+') {
            Some(span) => span.parse().map(Self::After),
            None => text
                .parse()
                .map(Self::At)
                .map_err(|_| "write a time such as 2026-11-22T12:00:00Z, or a duration from now such as +30d".into()),
        }
    }
}

/// The day of a moment, as 2026-11-22.
pub fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// How long ago `then` was, or how long it is till then: two units at most, as kubectl rounds ages.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |major: u64, unit: char, minor: u64, lesser: char| {
        if minor == 0 { format!("{major}{unit}") } else { format!("{major}{unit}{minor}{lesser}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(days / 365, 'y', days % 365, 'd'),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read() {
        let seconds = |text: &str| text.parse::<Span>().map(Span::seconds);
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("3d4h"), Ok(3 * 86_400 + 4 * 3_600));
        assert_eq!(seconds("5y"), Ok(5 * 365 * 86_400));
        for wrong in ["", "5", "d", "5x", "-1s", "1.5h", "1d 2h", "99999999999999999999y", "1d2", "ä"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let before = |seconds: i64| age(Timestamp::from_second(1_800_000_000 - seconds).unwrap(), now);
        assert_eq!(before(12), "12s");
        assert_eq!(before(240), "4m");
        assert_eq!(before(250), "4m10s");
        assert_eq!(before(3 * 86_400 + 4 * 3_600 + 59), "3d4h");
        assert_eq!(before(9 * 86_400 + 3), "9d");
        assert_eq!(before(-90), "90s");
        assert_eq!(before(800 * 86_400), "2y70d");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(seconds in 0_u64..10_000_000_000) {
            let span = Span::from_seconds(seconds);
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }
}
