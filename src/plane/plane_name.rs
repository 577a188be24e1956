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
    /// None where no word says.
    pub kind: Option<&'static Kind>,
    /// Whether a plane of any kind is meant, as the word for all kinds says.
    pub is_any: bool,
    name: String,
}

impl PlaneName {
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether a plane has this name, and this kind where one is named.
    pub fn names(&self, plane: &Plane) -> bool {
        self.is(plane.kind, plane.name())
    }

    /// Whether a plane of a kind and a name is meant.
    pub fn is(&self, kind: &Kind, name: &str) -> bool {
        self.name == name && self.kind.is_none_or(|named| named == kind)
    }

    /// Returns the same name of a kind, unless it has one already.
    fn of_kind(self, kind: Option<&'static Kind>) -> Self {
        Self { kind: self.kind.or(kind), ..self }
    }
}

impl FromStr for PlaneName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_any = text.split_once('/').is_some_and(|(word, _)| word.eq_ignore_ascii_case(ALL));
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((word, name)) if word == ANY || is_any => (None, name),
            Some((word, name)) => (Some(Kind::of_word(word).ok_or_else(|| no_kind(word))?), name),
        };
        if is_dns_subdomain(name) {
            Ok(Self { kind, is_any, name: name.to_owned() })
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
    let kinds = KINDS.iter().map(|kind| kind.kind.to_lowercase()).collect::<Vec<_>>().join(", ");
    if word.eq_ignore_ascii_case(ALL) {
        return format!("{ALL} means all kinds, but one kind is needed: one of {kinds}");
    }
    format!("{} is not a kind of plane: one of {kinds}", crate::text::visible(word))
}

/// A word on the command line: kinds, or a plane's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    fn kinds(&self) -> Option<Vec<&'static Kind>> {
        Kind::of_words(&self.0)
    }

    /// Whether it means all kinds.
    fn is_all(&self) -> bool {
        self.kinds().is_some_and(|kinds| kinds.len() == KINDS.len())
    }
}

impl Kind {
    /// Returns the kinds that words joined by commas name; none where one of them names none.
    pub fn of_words(words: &str) -> Option<Vec<&'static Self>> {
        let is_all = |word: &str| word.eq_ignore_ascii_case(ALL);
        let named: Option<Vec<_>> = words.split(',').filter(|word| !is_all(word)).map(Self::of_word).collect();
        if words.split(',').any(is_all) { named.map(|_| KINDS.iter().collect()) } else { named }
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = Self(text.to_owned());
        if word.kinds().is_none() {
            match text.split_once(',') {
                Some(_) if !text.contains('/') => {
                    let unknown = text.split(',').find(|word| Kind::of_words(word).is_none()).unwrap_or_default();
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
        let is_all = words.first().is_some_and(Word::is_all);
        let only = match kinds.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        };
        let parse = |word: &Word| {
            if kinds.is_some() && word.0.contains('/') {
                return Err(format!("the type is given more than once: write only {}", word.0));
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
            .then(|| format!("if a plane's name is also a type, write TYPE/NAME, such as {word}/{word}"))
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
        assert!(wanted(&["cdp,Planes"]).unwrap().is_all && Kind::of_words("pods,planes").is_none());
        assert!(
            "planes".parse::<KindWord>().unwrap_err().starts_with("planes means all kinds, but one kind is needed")
        );
        let any = wanted(&["Planes/a", "plane/b"]).unwrap().names;
        assert_eq!([(any[0].kind, any[0].is_any), (any[1].kind, any[1].is_any)], [(None, true), (None, false)]);
        let none = wanted(&["a", "dp"]).unwrap();
        assert_eq!((none.kinds.clone(), none.names.len()), (None, 2));
        assert_eq!(wanted(&["a", "dp/b"]).unwrap().names[1].kind.unwrap().kind, "DataPlane");
        assert!(wanted(&["dp", "dp/b"]).unwrap_err().contains("given more than once"));
        assert!(wanted(&["dp,pods"]).unwrap_err().starts_with("pods is not a kind"));
        assert!(wanted(&["dp"]).unwrap().explain().unwrap().contains("dp/dp"));
        assert_eq!(none.explain(), None);
    }
}
