//! The words by which users choose planes: `[TYPE[,TYPE]...] [NAME]...`, and TYPE/NAME anywhere.

use std::fmt;
use std::str::FromStr;

use super::kind::{KINDS, Kind};
use super::name::is_dns_subdomain;
use super::resource::Plane;

/// The word for planes of all kinds.
const ALL: &str = "planes";
/// The word before a `/` that says no more than that a plane is meant.
const ANY: &str = "plane";

/// A plane's name, as `NAME` or `TYPE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaneName {
    /// None where no word tells.
    pub kind: Option<&'static Kind>,
    name: String,
}

impl PlaneName {
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether a plane has this name, and this kind where one is named.
    pub fn names(&self, plane: &Plane) -> bool {
        self.name == plane.name() && self.kind.is_none_or(|kind| kind == plane.kind)
    }

    /// Returns the same name of a kind, unless it has one already.
    fn of_kind(self, kind: Option<&'static Kind>) -> Self {
        Self { kind: self.kind.or(kind), ..self }
    }
}

impl FromStr for PlaneName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((ANY | ALL, name)) => (None, name),
            Some((word, name)) => (Some(Kind::of_word(word).ok_or_else(|| no_kind(word))?), name),
        };
        if is_dns_subdomain(name) {
            Ok(Self { kind, name: name.to_owned() })
        } else {
            Err("a name has lower-case letters, digits, hyphens and dots, and a letter or digit at both ends".into())
        }
    }
}

impl fmt::Display for PlaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

fn no_kind(word: &str) -> String {
    let kinds: Vec<_> = KINDS.iter().map(|kind| kind.kind.to_lowercase()).collect();
    format!("{} is no kind of plane: one of {}", crate::text::visible(word), kinds.join(", "))
}

/// A word on the command line: kinds, or a plane's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    fn kinds(&self) -> Option<Vec<&'static Kind>> {
        Kind::of_words(&self.0)
    }
}

impl Kind {
    /// Returns the kinds that words joined by commas name; none where one of them names none.
    pub fn of_words(words: &str) -> Option<Vec<&'static Self>> {
        if words.eq_ignore_ascii_case(ALL) {
            return Some(KINDS.iter().collect());
        }
        words.split(',').map(Self::of_word).collect()
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = Self(text.to_owned());
        if word.kinds().is_none() {
            match text.split_once(',') {
                Some(_) if !text.contains('/') => {
                    let unknown = text.split(',').find(|word| Kind::of_word(word).is_none()).unwrap_or_default();
                    return Err(no_kind(unknown));
                }
                _ => drop(text.parse::<PlaneName>()?),
            }
        }
        Ok(word)
    }
}

/// A word that names one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindWord(pub &'static Kind);

impl FromStr for KindWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::of_word(text).map(Self).ok_or_else(|| no_kind(text))
    }
}

/// What words choose: planes of some kinds, all of them or some by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// None where no word names any.
    pub kinds: Option<Vec<&'static Kind>>,
    /// Whether the word for all kinds is why.
    pub is_all: bool,
    pub names: Vec<PlaneName>,
}

impl Wanted {
    /// Reads words: where the first names kinds, it chooses those of the names behind it.
    ///
    /// # Errors
    /// A sentence, for a word behind it that can't be a name.
    pub fn of(words: &[Word]) -> Result<Self, String> {
        let kinds = words.first().and_then(Word::kinds);
        let names = if kinds.is_some() { &words[1..] } else { words };
        let is_all = kinds.is_some() && words[0].0.eq_ignore_ascii_case(ALL);
        let only = match kinds.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        };
        let parse = |word: &Word| {
            if kinds.is_some() && word.0.contains('/') {
                return Err(format!("the type is named twice: write {} alone", word.0));
            }
            Ok(word.0.parse::<PlaneName>()?.of_kind(only))
        };
        Ok(Self { names: names.iter().map(parse).collect::<Result<_, _>>()?, is_all, kinds })
    }

    /// Returns what to say where a name is needed and a kind's word is all there is.
    pub fn explain(&self) -> Option<String> {
        let [kind] = self.kinds.as_deref()? else { return None };
        let word = kind.word();
        self.names
            .is_empty()
            .then(|| format!("a plane whose name is the word of a kind is named as TYPE/NAME, such as {word}/{word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str]) -> Result<Wanted, String> {
        Wanted::of(&words.iter().map(|word| word.parse()).collect::<Result<Vec<_>, _>>()?)
    }

    #[test]
    fn names_take_a_type() {
        for (text, kind) in [
            ("a.b-c", None),
            ("plane/a.b-c", None),
            ("cbp/a.b-c", Some("ClusterBuildPlane")),
            ("clusterbuildplane.openchoreo.dev/a.b-c", Some("ClusterBuildPlane")),
            ("ClusterWorkflowPlanes/a.b-c", Some("ClusterWorkflowPlane")),
            ("dp/a.b-c", Some("DataPlane")),
        ] {
            let name: PlaneName = text.parse().unwrap();
            assert_eq!((name.as_str(), name.kind.map(|kind| kind.kind)), ("a.b-c", kind), "{text}");
        }
        for text in ["", "pod/a", "plane/", "A", "a..b", "-a", "a_b", "a/b/c", "\u{1b}"] {
            assert!(text.parse::<PlaneName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_first_word_that_is_a_kind_chooses_it() {
        let kinds =
            |wanted: &Wanted| wanted.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.kind).collect::<Vec<_>>());
        let one = wanted(&["CDP", "a", "cop"]).unwrap();
        assert_eq!(kinds(&one), Some(vec!["ClusterDataPlane"]));
        let names: Vec<_> = one.names.iter().map(|name| (name.kind.unwrap().kind, name.as_str())).collect();
        assert_eq!(names, [("ClusterDataPlane", "a"), ("ClusterDataPlane", "cop")]);
        let two = wanted(&["cwp,DataPlanes", "a"]).unwrap();
        assert_eq!((kinds(&two).unwrap().len(), two.names[0].kind), (2, None));
        let all = wanted(&["planes"]).unwrap();
        assert!(all.is_all && all.names.is_empty() && all.kinds.unwrap().len() == KINDS.len());
        let none = wanted(&["a", "dp"]).unwrap();
        assert_eq!((none.kinds.clone(), none.names.len()), (None, 2));
        assert_eq!(wanted(&["a", "dp/b"]).unwrap().names[1].kind.unwrap().kind, "DataPlane");
        assert!(wanted(&["dp", "dp/b"]).unwrap_err().contains("named twice"));
        assert!(wanted(&["dp,pods"]).unwrap_err().starts_with("pods is no kind"));
        assert!(wanted(&["dp"]).unwrap().explain().unwrap().contains("dp/dp"));
        assert_eq!(none.explain(), None);
    }
}
