//! Fields of planes that have words of their own, beside those that their schema gives them.

use super::rules::{PLANE_ID_FORMAT, Rule};
use crate::plane::{Difference, SECRET_KEY_REF};

pub(super) const CLIENT_CA: &str = "spec.clusterAgent.clientCA";

/// What [`form`] and [`help`] say of one field.
struct Words {
    /// As `spec.planeID`.
    path: &'static str,
    form: Option<(&'static Rule, &'static str)>,
    help: fn() -> Option<String>,
}

static WORDS: [Words; 3] = [
    Words {
        path: "spec.planeID",
        form: Some((&PLANE_ID_FORMAT, "planeID must be lower-case letters, digits and hyphens")),
        help: || None,
    },
    Words {
        path: "spec.observabilityPlaneRef",
        form: None,
        help: || {
            Difference::of("spec.observabilityPlaneRef")
                .find(|difference| difference.instead.contains("string"))
                .map(|d| format!("in {} {}; later it is {}", d.releases, d.instead, d.reference))
        },
    },
    Words {
        path: "spec.clusterAgent.clientCA.secretKeyRef",
        form: None,
        help: || {
            Some(format!("it is the name of secretRef in {}; to v0.17 write `secretRef`", SECRET_KEY_REF.releases))
        },
    },
];

fn of(path: &str) -> Option<&'static Words> {
    WORDS.iter().find(|words| words.path == path)
}

/// What helps with a field that is unknown, or whose text is of the wrong type.
pub(super) fn help(path: &str) -> Option<String> {
    (of(path)?.help)()
}

/// The rule of a field's text that doesn't fit, and what the text must be.
pub(super) fn form(path: &str) -> Option<(&'static Rule, &'static str)> {
    of(path)?.form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_fields_have_words() {
        assert_eq!(form("spec.planeID").unwrap().0.id, "plane-id-format");
        assert!(
            help("spec.observabilityPlaneRef")
                .unwrap()
                .starts_with("in v0.14 it is a plain string; later it is an object")
        );
        assert_eq!(
            (help("spec.planeID"), help("spec.secretStoreRef"), form("spec.observabilityPlaneRef")),
            (None, None, None)
        );
    }
}
