//! Which planes run builds or workflows, as far as files show it: what a Workflow that names none depends on.

use crate::manifest::{Manifest, Node, Object, objects};
use crate::plane::{DEFAULT_PLANE, Kind, Scope};
/// The build and workflow planes in files.
#[derive(Debug, Default)]
pub struct Survey {
    planes: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    kind: &'static Kind,
    namespace: Option<String>,
    name: String,
}

fn namespace(object: Object<'_>) -> Option<&str> {
    object.node.at(&["metadata", "namespace"]).and_then(Node::as_str)
}

impl Survey {
    pub fn of<'m>(manifests: impl Iterator<Item = &'m Manifest>) -> Self {
        let runs = |kind: &&'static Kind| kind.family.has_argo();
        let found = |object: Object<'_>| {
            let kind = object.plane_kind().filter(runs)?;
            Some(Found { kind, namespace: namespace(object).map(str::to_owned), name: object.name().to_owned() })
        };
        Self { planes: manifests.flat_map(|manifest| objects(manifest).into_iter().filter_map(found)).collect() }
    }

    /// Returns why a Workflow without a reference runs elsewhere from v1.0 on or not at all, and what to write.
    pub fn other_default(&self, workflow: Object<'_>) -> Option<(&'static str, &'static str)> {
        let mut defaults = self.planes.iter().filter(|plane| plane.name == DEFAULT_PLANE);
        // One that names no namespace may be put into any.
        let meets = |plane: &Found| match (plane.namespace.as_deref(), namespace(workflow)) {
            (Some(plane), Some(workflow)) => plane == workflow,
            _ => true,
        };
        if defaults.clone().any(|plane| plane.kind.scope == Scope::Namespaced && meets(plane)) {
            return Some((
                "v0.17 runs it on the plane named default of its namespace, but v1.0 on ClusterWorkflowPlane default",
                "write `workflowPlaneRef: {kind: WorkflowPlane, name: default}`",
            ));
        }
        let is_lost = !self.planes.is_empty() && !defaults.any(|plane| plane.kind.scope == Scope::Cluster);
        is_lost.then_some((
            "v1.0 runs it on ClusterWorkflowPlane default, which is not in the files",
            "write workflowPlaneRef, or create a ClusterWorkflowPlane named default with the planeID and CA of another one",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    #[test]
    fn a_workflow_without_a_reference_depends_on_the_defaults() {
        let plane = |kind: &str, metadata: &str| {
            format!("---\napiVersion: openchoreo.dev/v1alpha1\nkind: {kind}\nmetadata: {{{metadata}}}\n")
        };
        let cluster = plane("ClusterBuildPlane", "name: default");
        let own = |namespace: &str| plane("BuildPlane", &format!("name: default, namespace: {namespace}"));
        for (planes, reported) in [
            (String::new(), None),
            (cluster.clone(), None),
            (plane("ClusterWorkflowPlane", "name: default"), None),
            (plane("ClusterBuildPlane", "name: other"), Some("v1.0")),
            (plane("ClusterDataPlane", "name: other"), None),
            (own("a"), Some("v0.17")),
            (format!("{cluster}{}", own("a")), Some("v0.17")),
            (format!("{cluster}{}", own("b")), None),
            (format!("{cluster}{}", plane("BuildPlane", "name: default")), Some("v0.17")),
            (format!("{cluster}{}", plane("WorkflowPlane", "name: default, namespace: a")), Some("v0.17")),
        ] {
            let survey = Survey::of([&parse("f".into(), planes.clone())].into_iter());
            let workflow = parse("w".into(), "kind: Workflow\nmetadata: {name: w, namespace: a}\n".into());
            let reason = survey.other_default(objects(&workflow)[0]).map(|(reason, _)| reason);
            assert_eq!(reason.is_some(), reported.is_some(), "{planes}");
            assert!(reason.is_none_or(|reason| reason.starts_with(reported.unwrap())), "{planes}{reason:?}");
        }
    }
}
