//! What holds planes that are being deleted, and what ends that.

use std::fmt;

use serde_json::json;

use crate::estate::{CONTROLLER, Remover};
use crate::plane::{KINDS, Plane};
use crate::text::{shell_quoted, visible};

/// The reason of a condition by which the controller says that something still refers to a plane.
const BLOCKED: &str = "DeletionBlocked";

/// What holds a plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Such as `is held by the finalizer F, ...`: the plane is its subject.
    pub why: String,
    /// What ends it, where the controller does not.
    pub end: Option<End>,
}

/// The kubectl commands that end a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Removes the finalizers for which no controller is left.
    Remove(String),
    /// Which of the two is right depends on the release that runs, which is unknown.
    Depends { remove: String, start: String },
}

/// With the command.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        match &self.end {
            None => Ok(()),
            Some(End::Remove(command)) => write!(f, "; remove it with `{command}`"),
            Some(End::Depends { remove, start }) => write!(f, "; {}", either(remove, start)),
        }
    }
}

/// Says when to use which of two commands.
pub fn either(remove: &str, start: &str) -> String {
    format!(
        "if OpenChoreo is v1.0 or later, no controller removes it: use `{remove}`; otherwise start the controller, which \
         removes it: `{start}`"
    )
}

/// Says what holds a plane. `namespace` is that of the control plane.
pub fn held(plane: &Plane, remover: Remover, namespace: &str) -> Held {
    let finalizers: Vec<_> = plane.metadata.finalizers.iter().flatten().collect();
    let names: Vec<_> = finalizers.iter().map(|finalizer| visible(finalizer)).collect();
    let held = |more: &str| format!("is held by the finalizer {}{more}", names.join(", "));
    let (own, kind) = (plane.kind.finalizer, plane.kind.kind);
    let is_ours = finalizers.iter().any(|finalizer| *finalizer == own);
    let foreign = KINDS.iter().find(|kind| {
        plane.kind.is_foreign_finalizer(kind.finalizer)
            && finalizers.iter().any(|finalizer| *finalizer == kind.finalizer)
    });
    let blocked = plane.status.iter().flat_map(|status| &status.conditions).find(|one| one.reason == BLOCKED);
    let why = match (remover, blocked) {
        _ if names.is_empty() => "is going".to_owned(),
        _ if let Some(other) = foreign => held(&format!(
            ", and no controller removes {} from a {kind}: this is the finalizer of a {}",
            other.finalizer, other.kind
        )),
        _ if !is_ours => held(""),
        (Remover::Nobody { release, instead }, _) => {
            let span = release.span();
            held(&format!(", and no controller removes it: OpenChoreo {span} has {} instead of {kind}", instead.kind))
        }
        (_, Some(blocked)) => held(&format!(": {}", visible(&blocked.message))),
        (Remover::Unknown { instead }, None) => held(&format!(", and {} may have replaced {kind}", instead.kind)),
        (Remover::Controller, None) => {
            held(", which the controller removes after the gateway has answered: check that both are running")
        }
    };
    let patch = |is_removed: &dyn Fn(&str) -> bool| {
        let rest: Vec<_> = finalizers.iter().filter(|finalizer| !is_removed(finalizer)).collect();
        let patch = json!({"metadata": {"finalizers": rest}}).to_string();
        format!("kubectl patch {} --type=merge -p {}", plane.key().kubectl_words(), shell_quoted(&patch))
    };
    let is_foreign = |finalizer: &str| plane.kind.is_foreign_finalizer(finalizer);
    let end = match remover {
        Remover::Nobody { .. } if is_ours || foreign.is_some() => {
            Some(End::Remove(patch(&|finalizer| finalizer == own || is_foreign(finalizer))))
        }
        _ if foreign.is_some() => Some(End::Remove(patch(&is_foreign))),
        Remover::Unknown { .. } if is_ours && blocked.is_none() => {
            let namespace = shell_quoted(namespace);
            let start = format!("kubectl -n {namespace} scale deployment -l {CONTROLLER} --replicas=1");
            Some(End::Depends { remove: patch(&|finalizer| finalizer == own), start })
        }
        _ => None,
    };
    Held { why, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::{Kind, Release};

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
        let kind = |word: &str| Kind::of_word(word).unwrap();
        let ours = |word: &str| kind(word).finalizer;
        let reported = |plane: &Plane, remover: Remover| held(plane, remover, "n").to_string();
        let (nobody, unknown) =
            (Remover::Nobody { release: Release::V1, instead: kind("cwp") }, Remover::Unknown { instead: kind("cwp") });
        assert_eq!(reported(&plane("cbp", &[], ""), Remover::Controller), "is going");
        assert_eq!(reported(&plane("cbp", &["x/y"], ""), nobody), "is held by the finalizer x/y");
        let old = ours("cbp");
        assert_eq!(
            reported(&plane("cbp", &[old], ""), Remover::Controller),
            format!(
                "is held by the finalizer {old}, which the controller removes after the gateway has answered: check that both are running"
            )
        );
        let patch = |rest: &str| {
            format!(
                "`kubectl patch clusterbuildplane.openchoreo.dev a --type=merge -p '{{\"metadata\":{{\"finalizers\":[{rest}]}}}}'`"
            )
        };
        assert_eq!(
            reported(&plane("cbp", &["x/y", old], ""), nobody),
            format!(
                "is held by the finalizer x/y, {old}, and no controller removes it: OpenChoreo v1.0 and later has \
                 ClusterWorkflowPlane instead of ClusterBuildPlane; remove it with {}",
                patch("\"x/y\"")
            )
        );
        assert_eq!(
            reported(&plane("cbp", &[old], ""), unknown),
            format!(
                "is held by the finalizer {old}, and ClusterWorkflowPlane may have replaced ClusterBuildPlane; if \
                 OpenChoreo is v1.0 or later, no controller removes it: use {}; otherwise start the controller, which removes \
                 it: `kubectl -n n scale deployment -l app.kubernetes.io/component=controller-manager --replicas=1`",
                patch("")
            )
        );
        // One that migrated manifests brought along.
        let new = ours("cwp");
        let foreign = reported(&plane("cwp", &[new, old], ""), Remover::Controller);
        let why = format!(
            "and no controller removes {old} from a ClusterWorkflowPlane: this is the finalizer of a ClusterBuildPlane"
        );
        assert!(foreign.contains(&why), "{foreign}");
        assert!(foreign.ends_with(&format!("'{{\"metadata\":{{\"finalizers\":[\"{new}\"]}}}}'`")), "{foreign}");
        let data = ours("dp");
        assert_eq!(
            reported(&plane("dp", &[data], BLOCKED), Remover::Controller),
            format!(
                "is held by the finalizer {data}: Deletion blocked: dataplane is still referenced by 2 environment(s)"
            )
        );
    }
}
