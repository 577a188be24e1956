//! The forms in which users name a plane.

use std::fmt;
use std::str::FromStr;

use super::kind::{DEFAULT_KIND, Kind};
use super::name::is_dns_subdomain;
use super::resource::Plane;

/// A plane's name, as `NAME` or `TYPE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaneName {
    pub kind: &'static Kind,
    name: String,
}

impl PlaneName {
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether a plane has this kind and name.
    pub fn names(&self, plane: &Plane) -> bool {
        self.name == plane.name() && self.kind == plane.kind
    }
}

impl FromStr for PlaneName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (DEFAULT_KIND, text),
            Some((word, name)) => (handled(word)?, name),
        };
        if is_dns_subdomain(name) {
            Ok(Self { kind, name: name.to_owned() })
        } else {
            Err("a name has lower-case letters, digits, hyphens and dots, and a letter or digit at both ends".into())
        }
    }
}

/// Returns the kind that a word before a `/` names.
fn handled(word: &str) -> Result<&'static Kind, String> {
    match Kind::of_word(word) {
        Some(kind) => Ok(kind),
        None if word == "plane" || word == "planes" => Ok(DEFAULT_KIND),
        None => Err("the type before the `/` is not plane, cbp or clusterbuildplane".into()),
    }
}

impl fmt::Display for PlaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_a_type() {
        for text in
            ["a.b-c", "plane/a.b-c", "cbp/a.b-c", "clusterbuildplane.openchoreo.dev/a.b-c", "ClusterBuildPlanes/a.b-c"]
        {
            assert_eq!(text.parse::<PlaneName>().unwrap().as_str(), "a.b-c", "{text}");
        }
        for text in ["", "pod/a", "plane/", "A", "a..b", "-a", "a_b", "a/b/c", "cwp/a", "\u{1b}"] {
            assert!(text.parse::<PlaneName>().is_err(), "{text}");
        }
    }
}
