//! Label selectors in kubectl's syntax, for objects out of files; a server gets the text as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::name::{is_label_value, is_qualified_name};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// `-l`: requirements that must all hold, such as `team=ci,tier!=test,zone in (a,b),!old`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

impl Selector {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let requirements = parts(text).map(requirement).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), requirements })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits at the commas that aren't in brackets.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let wrong =
        || format!("`{part}` is not a requirement on labels: write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY or !KEY");
    let key = |text: &str| Some(text.trim().to_owned()).filter(|key| is_qualified_name(key)).ok_or_else(wrong);
    let value = |text: &str| Some(text.trim().to_owned()).filter(|value| is_label_value(value)).ok_or_else(wrong);
    if let Some(absent) = part.strip_prefix('!') {
        return key(absent).map(Requirement::Absent);
    }
    if let Some((left, set)) = part.split_once('(') {
        let set = set.trim_end().strip_suffix(')').ok_or_else(wrong)?;
        let values = set.split(',').map(value).collect::<Result<_, _>>()?;
        return match left.split_whitespace().collect::<Vec<_>>()[..] {
            [name, "in"] => Ok(Requirement::In(key(name)?, values)),
            [name, "notin"] => Ok(Requirement::NotIn(key(name)?, values)),
            _ => Err(wrong()),
        };
    }
    if let Some((name, text)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(key(name)?, vec![value(text)?]));
    }
    if let Some((name, text)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(key(name)?, vec![value(text)?]));
    }
    key(part).map(Requirement::Exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_hold_or_not() {
        let labels = BTreeMap::from([("team".to_owned(), "ci".to_owned()), ("zone".to_owned(), "a".to_owned())]);
        for (text, holds) in [
            ("team=ci", true),
            ("team==ci,zone", true),
            ("team!=ci", false),
            ("other!=x", true),
            ("zone in (a, b),team notin (x)", true),
            ("!zone", false),
            ("!old", true),
            ("", true),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().matches(&labels), holds, "{text}");
        }
        for text in ["a=b=c", "a in b", "a in (b", "=x", "a b", "a=\u{1b}"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
