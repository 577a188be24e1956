//! Fields of planes that have words of their own, beside those that their schema gives them.

use super::rules::{PLANE_ID_FORMAT, Rule};
use crate::plane::Difference;

pub(super) const CLIENT_CA: &str = "spec.clusterAgent.clientCA";

/// What helps with a field whose text is of the wrong type.
pub(super) fn help(path: &str) -> Option<String> {
    match path {
        "spec.observabilityPlaneRef" => Difference::of(path)
            .find(|difference| difference.instead.contains("string"))
            .map(|d| format!("in {} {}; later it is {}", d.releases, d.instead, d.reference)),
        _ => None,
    }
}

/// The rule of a field's text that doesn't fit, and what the text must be.
pub(super) fn form(path: &str) -> Option<(&'static Rule, &'static str)> {
    let plane_id = (&PLANE_ID_FORMAT, "planeID must be lower-case letters, digits and hyphens");
    (path == "spec.planeID").then_some(plane_id)
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
