//! The formats and patterns that a schema may ask of a text, as the API server checks them.
//!
//! Formats: `k8s.io/kube-openapi/pkg/validation/strfmt`. Patterns: Go's `regexp`, whose classes are ASCII.

use std::iter::Peekable;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::Chars;
use std::sync::LazyLock;

use regex::Regex;

use crate::plane::{is_dns_label, is_dns_subdomain};

/// A format that is checked.
#[derive(Clone, Copy)]
pub struct Format {
    pub name: &'static str,
    fits: fn(&str) -> bool,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

static FORMATS: &[Format] = &[
    Format { name: "date-time", fits: date_time },
    Format { name: "date", fits: date },
    Format { name: "duration", fits: duration },
    Format { name: "byte", fits: |text| BASE64.is_match(text) },
    Format { name: "password", fits: |_| true },
    Format { name: "uuid", fits: |text| UUID.is_match(text) },
    Format { name: "uuid3", fits: |text| uuid(text, '3') },
    Format { name: "uuid4", fits: |text| uuid(text, '4') },
    Format { name: "uuid5", fits: |text| uuid(text, '5') },
    Format { name: "ipv4", fits: ipv4 },
    Format { name: "ipv6", fits: |text| text.parse::<Ipv6Addr>().is_ok() },
    Format { name: "cidr", fits: cidr },
    Format { name: "mac", fits: |text| MAC.is_match(text) },
    Format { name: "hostname", fits: hostname },
    Format { name: "hexcolor", fits: |text| HEX_COLOR.is_match(text) },
    Format { name: "bsonobjectid", fits: |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()) },
    Format { name: "ssn", fits: |text| text.len() == 11 && SSN.is_match(text) },
    Format { name: "k8s-short-name", fits: is_dns_label },
    Format { name: "k8s-long-name", fits: is_dns_subdomain },
];

/// Formats that the API server checks and this program does not.
const UNCHECKED: [&str; 7] = ["uri", "email", "isbn", "isbn10", "isbn13", "creditcard", "rgbcolor"];

impl Format {
    /// A format of strings by its name, hyphens or not; none where the API server doesn't check it either.
    ///
    /// # Errors
    /// One that the API server checks and this program can't.
    pub fn of_string(name: &str) -> Result<Option<Self>, ()> {
        let plain = |name: &str| name.replace('-', "");
        if UNCHECKED.contains(&plain(name).as_str()) {
            return Err(());
        }
        Ok(FORMATS.iter().find(|format| plain(format.name) == plain(name)).copied())
    }

    pub fn fits(self, text: &str) -> bool {
        (self.fits)(text)
    }
}

/// A pattern of this room's own, which compiles; a test looks at each.
pub(super) fn own(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{error}"))
}

static BASE64: LazyLock<Regex> =
    LazyLock::new(|| own("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"));
static UUID: LazyLock<Regex> =
    LazyLock::new(|| own("^(?i-u)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static MAC: LazyLock<Regex> = LazyLock::new(|| {
    own(concat!(
        "^(?i-u)(?:[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5}|(?::[0-9a-f]{2}){7}|(?::[0-9a-f]{2}){19}",
        "|(?:-[0-9a-f]{2}){5}|(?:-[0-9a-f]{2}){7}|(?:-[0-9a-f]{2}){19})",
        "|[0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{40}",
        "|[0-9a-f]{4}(?:(?:\\.[0-9a-f]{4}){2}|(?:\\.[0-9a-f]{4}){3}|(?:\\.[0-9a-f]{4}){9}))$"
    ))
});
static HEX_COLOR: LazyLock<Regex> = LazyLock::new(|| own("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static SSN: LazyLock<Regex> = LazyLock::new(|| own("^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| own("^([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})$"));
static GO_DURATION: LazyLock<Regex> =
    LazyLock::new(|| own("^[-+]?(?:0|(?:(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$"));
static WORDY_DURATION: LazyLock<Regex> = LazyLock::new(|| own("([0-9]+)[\\t\\n\\x0c\\r ]*([A-Za-zµ]+)"));
static HOST_LABEL: LazyLock<Regex> =
    LazyLock::new(|| own("^[a-zA-Z0-9\\p{S}\\p{L}](?:[a-zA-Z0-9\\-\\p{S}\\p{L}]*[a-zA-Z0-9\\p{S}\\p{L}])?$"));
static LONE_LABEL: LazyLock<Regex> =
    LazyLock::new(|| own("^[a-zA-Z0-9\\p{S}\\p{L}](?:-?[a-zA-Z0-9\\p{S}\\p{L}]{0,62})$"));
static TOP_LABEL: LazyLock<Regex> = LazyLock::new(|| own("^[a-zA-Z\\p{L}]{2,63}$"));

/// Of a version; of version 3 the variant is not looked at.
fn uuid(text: &str, version: char) -> bool {
    let digit = |index| text.chars().filter(|c| *c != '-').nth(index).unwrap_or_default();
    UUID.is_match(text) && digit(12) == version && (version == '3' || "89abAB".contains(digit(16)))
}

fn date(text: &str) -> bool {
    let fits = |(index, byte): (usize, u8)| if matches!(index, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(fits) && text.parse::<jiff::civil::Date>().is_ok()
}

fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(day), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    date(day) && TIME.captures(time).is_some_and(|found| &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59")
}

/// As Go writes durations, or in words: `22 ns`, `3 days`.
fn duration(text: &str) -> bool {
    const UNITS: [&[&str]; 8] = [&["ns"], &["us", "µs"], &["ms"], &["s"], &["m"], &["h", "hr"], &["d"], &["w", "wk"]];
    const WORDS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let unit = |unit: &str| {
        let unit = unit.to_lowercase();
        UNITS.iter().any(|names| names.contains(&unit.as_str())) || WORDS.iter().any(|word| unit.starts_with(word))
    };
    if GO_DURATION.is_match(text) {
        return true;
    }
    let mut parts = WORDY_DURATION.captures_iter(text).peekable();
    parts.peek().is_some()
        && WORDY_DURATION.captures_iter(text).all(|part| part[1].parse::<i64>().is_ok())
        && parts.any(|part| unit(&part[2]))
}

/// Leading zeros are let pass, as Go did once.
fn ipv4(text: &str) -> bool {
    let octet = |octet: &str| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0".to_owned(),
        octet => octet.to_owned(),
    };
    let plain = text.split('.').map(octet).collect::<Vec<_>>().join(".");
    plain.parse::<Ipv4Addr>().is_ok() || (text.contains('.') && text.parse::<Ipv6Addr>().is_ok())
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let bits = if address.contains(':') { 128 } else { 32 };
    let known = if bits == 128 { address.parse::<Ipv6Addr>().is_ok() } else { ipv4(address) };
    known && length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u32>().is_ok_and(|length| length <= bits)
}

/// RFC 1034 names and single labels, with letters and symbols of any script.
fn hostname(text: &str) -> bool {
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    match text.rsplit_once('.') {
        // Of a name without dots the API server takes a hyphen behind its first letter only.
        None => LONE_LABEL.is_match(text),
        Some((rest, top)) => rest.split('.').all(|label| HOST_LABEL.is_match(label)) && TOP_LABEL.is_match(top),
    }
}

/// A pattern in Go's syntax, compiled.
///
/// # Errors
/// Says what can't be understood.
pub fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(&translated(text)?).map_err(|error| match error {
        regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        other => other.to_string(),
    })
}

/// Go's syntax in that of the crate `regex`: its classes as ASCII, and as plain what only this crate takes for an operator.
///
/// # Errors
/// Says what this crate has nothing for.
fn translated(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('b') => out.push_str("(?-u:\\b)"),
                Some('B') => return Err("\\B can't be checked".into()),
                Some('C') => return Err("\\C can't be checked".into()),
                Some('Q') => quoted(&mut chars, &mut out),
                Some(escaped) => out.push_str(&escape(escaped, &mut chars)),
                None => out.push('\\'),
            },
            '[' => class(&mut chars, &mut out),
            '{' => match repetition(chars.clone()) {
                Some([least, most]) if least.max(most) > MOST_REPETITIONS => return Err("invalid repeat count".into()),
                Some(_) => out.push('{'),
                None => out.push_str("\\{"),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// How often Go lets a thing be repeated at most.
const MOST_REPETITIONS: u32 = 1000;

/// The bounds behind a brace, if Go takes it for a repetition: otherwise it is a brace.
fn repetition(chars: Peekable<Chars<'_>>) -> Option<[u32; 2]> {
    let ahead: String = chars.take(32).collect();
    let (inner, _) = ahead.split_once('}')?;
    let number = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
        if plain && !text.is_empty() { Some(text.parse().unwrap_or(u32::MAX)) } else { None }
    };
    match inner.split_once(',') {
        None => number(inner).map(|count| [count; 2]),
        Some((least, "")) => number(least).map(|count| [count; 2]),
        Some((least, most)) => Some([number(least)?, number(most)?]),
    }
}

/// Plain text from `\Q` to `\E`, or to the end.
fn quoted(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            return;
        }
        out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

/// What a backslash makes of a character and those behind it, in a class or outside.
fn escape(c: char, chars: &mut Peekable<Chars<'_>>) -> String {
    match c {
        'd' => "[0-9]".into(),
        'D' => "[^0-9]".into(),
        'w' => "[0-9A-Za-z_]".into(),
        'W' => "[^0-9A-Za-z_]".into(),
        's' => "[\\t\\n\\x0C\\r ]".into(),
        'S' => "[^\\t\\n\\x0C\\r ]".into(),
        'p' | 'P' | 'x' => {
            let mut out = format!("\\{c}");
            if let Some(brace) = chars.next_if_eq(&'{') {
                out.push(brace);
                out.extend(chars.by_ref().take_while(|inner| *inner != '}'));
                out.push('}');
            }
            out
        }
        // Octal: a zero with up to two digits, or three; one digit alone would be a reference back, which Go has not.
        '0'..='7' if c == '0' || chars.peek().is_some_and(|next| ('0'..='7').contains(next)) => {
            let mut code = c.to_digit(8).unwrap_or_default();
            for _ in 0..2 {
                let Some(digit) = chars.next_if(|next| ('0'..='7').contains(next)) else {
                    break;
                };
                code = code * 8 + digit.to_digit(8).unwrap_or_default();
            }
            format!("\\x{{{code:x}}}")
        }
        // To this crate these two are the ends of words.
        '<' | '>' => c.into(),
        c => format!("\\{c}"),
    }
}

/// A class, behind its bracket: characters and ranges of them, each escaped.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let one = |c: char, chars: &mut Peekable<Chars<'_>>| match c {
        '\\' => match chars.next() {
            Some(escaped) => escape(escaped, chars),
            None => "\\".into(),
        },
        c if c.is_ascii_punctuation() => format!("\\{c}"),
        c => c.into(),
    };
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            // A bracket that closes at once is one of the class.
            ']' if !first => {
                out.push(']');
                return;
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                out.extend(chars.by_ref().take_while(|c| *c != ']'));
                out.push(']');
            }
            c => {
                out.push_str(&one(c, chars));
                let mut ahead = chars.clone();
                // A hyphen makes a range, but at the class's end.
                if ahead.next() == Some('-') && ahead.peek().is_some_and(|end| *end != ']') {
                    chars.next();
                    if let Some(end) = chars.next() {
                        out.push('-');
                        out.push_str(&one(end, chars));
                    }
                }
            }
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_fit_what_the_api_server_takes() {
        let cases: [(&str, &[&str], &[&str]); 15] = [
            (
                "date-time",
                &["2026-11-22T12:00:00Z", "2026-11-22t12:00:00.5+01:00"],
                &["2026-11-22", "2026-11-22T24:00:00Z", "2026-02-30T12:00:00Z", "2026-11-22T12:00Z"],
            ),
            ("date", &["2026-11-22", "2024-02-29", "0000-01-01"], &["2026-2-2", "2026-02-29", "x"]),
            ("duration", &["1h30m", "0", ".5s", "22 ns", "3 days", "1d"], &["1", "h", "1x", ""]),
            ("byte", &["AAAA", "AA=="], &["", "A", "AA"]),
            ("password", &["", "x"], &[]),
            ("uuid", &["123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000"], &["123"]),
            ("uuid3", &["123e4567-e89b-32d3-a456-426614174000"], &["123e4567-e89b-42d3-a456-426614174000"]),
            ("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-42d3-c456-426614174000"]),
            ("uuid5", &["123e4567-e89b-52d3-b456-426614174000"], &["123e4567-e89b-42d3-b456-426614174000"]),
            ("ipv4", &["10.0.0.1", "010.0.0.1", "::ffff:1.2.3.4"], &["10.0.0", "::1", "300.1.1.1"]),
            ("ipv6", &["::1", "2001:db8::1"], &["10.0.0.1", "fe80::1%eth0"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "::/129"]),
            ("mac", &["00:11:22:aa:bb:cc", "0011.22aa.bbcc", "001122aabbcc"], &["00:11:22:aa:bb", "00-11:22-aa-bb-cc"]),
            ("hostname", &["a", "a.example", "1a.example", "ü.example"], &["a_b", "-a", "a.b-", "a.1", ""]),
            ("hexcolor", &["#fff", "00AAff"], &["#ff", "red"]),
        ];
        for (name, good, bad) in cases {
            let format = Format::of_string(name).unwrap().unwrap();
            for text in good {
                assert!(format.fits(text), "{name} {text}");
            }
            for text in bad {
                assert!(!format.fits(text), "{name} {text}");
            }
        }
        assert!(Format::of_string("uri").is_err());
        assert!(Format::of_string("int-or-string").unwrap().is_none());
        for format in FORMATS {
            format.fits("x");
        }
    }

    #[test]
    fn patterns_are_gos() {
        for (text, good, bad) in [
            (r"^\d+$", "12", "١٢"),
            (r"^[\w]+$", "a_1", "ä"),
            (r"^[^\d_]+$", "ab", "a1"),
            (r"^[[a]+$", "[a", "b"),
            (r"^[]a]+$", "]a", "["),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[:alpha:]-]+$", "a-", "1"),
            (r"^\<a\>$", "<a>", "a"),
            (r"^[+--]+$", "+,-", "."),
            (r"^[a-c\d~~]+$", "b1~", "d"),
            (r"^[^-a]+$", "b", "-"),
            (r"^[\x41-\x43]+$", "ABC", "D"),
            (r"^\s$", " ", "\u{a0}"),
            (r"^a\.b$", "a.b", "axb"),
            (r"^\p{Greek}\pL$", "αb", "ab"),
            (r"^[\p{Lu}\x{e4}-\x{f6}]+$", "Aä", "a"),
            (r"^\Qa.b{\E+$", "a.b{{", "axb{"),
            (r"^\101\x42$", "AB", "101B"),
            (r"^{a{,2}$", "{a{,2}", "aa"),
            (r"^a{2,}b{0,1}$", "aab", "ab"),
        ] {
            let regex = pattern(text).unwrap();
            assert!(regex.is_match(good) && !regex.is_match(bad), "{text}");
        }
        assert!(pattern("(").is_err());
        for text in [r"a\Bb", "a{1001}", "a{2,1}", r"\1"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}
