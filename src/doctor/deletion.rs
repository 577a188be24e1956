//! What holds planes that are being deleted, and what ends that.

use std::fmt;

use serde_json::json;

use crate::plane::{Kind, Plane};
use crate::text::{shell_quoted, visible};

/// The reason of a condition by which the controller says that something still refers to a plane.
const BLOCKED: &str = "DeletionBlocked";

/// What holds a plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Such as `is held by the finalizer F, ...`: the plane is its subject.
    pub why: String,
    /// The kubectl command that removes a finalizer for which no controller is left.
    pub remove: Option<String>,
}

/// With the command.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.remove.iter().try_for_each(|command| write!(f, "; remove it with `{command}`"))
    }
}

/// Says what holds a plane. `replaced_by` is the kind that takes the place of the plane's where no controller is left for
/// that.
pub fn held(plane: &Plane, replaced_by: Option<&Kind>) -> Held {
    let finalizers: Vec<_> = plane.metadata.finalizers.iter().flatten().collect();
    let names: Vec<_> = finalizers.iter().map(|finalizer| visible(finalizer)).collect();
    let held = |more: &str| format!("is held by the finalizer {}{more}", names.join(", "));
    let is_ours = finalizers.iter().any(|finalizer| *finalizer == plane.kind.finalizer);
    let kind = plane.kind.kind;
    let blocked = plane.status.iter().flat_map(|status| &status.conditions).find(|one| one.reason == BLOCKED);
    let why = match (replaced_by, blocked) {
        _ if names.is_empty() => "is going".to_owned(),
        _ if !is_ours => held(""),
        (Some(other), _) => held(&format!(", and no controller removes it: {} took the place of {kind}", other.kind)),
        (None, Some(blocked)) => held(&format!(": {}", visible(&blocked.message))),
        (None, None) => held(", which the controller removes once the gateway has answered: are both running?"),
    };
    let remove = (is_ours && replaced_by.is_some()).then(|| {
        let rest: Vec<_> = finalizers.iter().filter(|finalizer| **finalizer != plane.kind.finalizer).collect();
        let patch = json!({"metadata": {"finalizers": rest}}).to_string();
        format!("kubectl patch {} --type=merge -p {}", plane.key().kubectl_words(), shell_quoted(&patch))
    });
    Held { why, remove }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Kind;

    fn plane(word: &str, finalizers: &[&str], reason: &str) -> Plane {
        let condition = json!({
            "type": "Finalizing", "status": "False", "reason": reason,
            "message": "Deletion blocked: dataplane is still referenced by 2 environment(s)",
        });
        let mut plane: Plane = serde_json::from_value(json!({
            "metadata": {"name": "a", "finalizers": finalizers}, "status": {"conditions": [condition]},
        }))
        .unwrap();
        plane.kind = Kind::of_word(word).unwrap();
        plane
    }

    #[test]
    fn what_holds_a_plane_is_named() {
        let ours = |word: &str| Kind::of_word(word).unwrap().finalizer;
        let told =
            |plane: &Plane, replaced_by: Option<&str>| held(plane, replaced_by.and_then(Kind::of_word)).to_string();
        assert_eq!(told(&plane("cbp", &[], ""), None), "is going");
        assert_eq!(told(&plane("cbp", &["x/y"], ""), Some("cwp")), "is held by the finalizer x/y");
        let old = ours("cbp");
        assert_eq!(
            told(&plane("cbp", &[old], ""), None),
            format!(
                "is held by the finalizer {old}, which the controller removes once the gateway has answered: are both running?"
            )
        );
        assert_eq!(
            told(&plane("cbp", &["x/y", old], ""), Some("cwp")),
            format!(
                "is held by the finalizer x/y, {old}, and no controller removes it: ClusterWorkflowPlane took the place of \
                 ClusterBuildPlane; remove it with `kubectl patch clusterbuildplane.openchoreo.dev a --type=merge -p \
                 '{{\"metadata\":{{\"finalizers\":[\"x/y\"]}}}}'`"
            )
        );
        let data = ours("dp");
        assert_eq!(
            told(&plane("dp", &[data], BLOCKED), None),
            format!(
                "is held by the finalizer {data}: Deletion blocked: dataplane is still referenced by 2 environment(s)"
            )
        );
    }
}
