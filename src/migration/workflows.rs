//! Which plane each Workflow runs on in v0.17, and what v1.0 needs so that it stays so.
//!
//! v0.17 takes the plane that a Workflow names, else BuildPlane `default` of its namespace, else ClusterBuildPlane `default`.
//! The CRD of v1.0 writes ClusterWorkflowPlane `default` into every Workflow that names none, also into stored ones, and the
//! reference never changes after that (api/v1alpha1/workflow_types.go).

use serde_json::{Value, json};

use super::record::{Record, is_own};
use super::rules::REFERENCE;
use crate::plane::{DEFAULT_KIND, DEFAULT_PLANE, Kind, PlaneKey, Scope};

/// A Workflow that v1.0 would run elsewhere, or nowhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// As `NAMESPACE/NAME`.
    pub name: String,
    /// The plane that it runs on in v0.17.
    pub on: PlaneKey,
    /// What v1.0 calls that plane.
    pub plane: PlaneKey,
    /// The Workflow with its reference to that plane.
    pub manifest: Value,
}

/// Returns what v1.0 calls a plane.
pub fn renamed(plane: &PlaneKey) -> PlaneKey {
    PlaneKey { kind: plane.kind.successor().unwrap_or(plane.kind), ..plane.clone() }
}

/// Returns the plane that a Workflow without a reference runs on in v1.0.
pub fn default_plane() -> PlaneKey {
    let kind = DEFAULT_KIND.successor().unwrap_or(DEFAULT_KIND);
    PlaneKey { kind, namespace: None, name: DEFAULT_PLANE.into() }
}

/// The plane that a reference names.
fn referred(reference: &Value, namespace: Option<&str>) -> Option<PlaneKey> {
    let kind = Kind::of_word(reference["kind"].as_str()?)?;
    let namespace = namespace.filter(|_| kind.scope == Scope::Namespaced).map(str::to_owned);
    Some(PlaneKey { kind, namespace, name: reference["name"].as_str()?.to_owned() })
}

/// The plane that runs a Workflow in v0.17; none where none does.
fn runs_on(workflow: &Value, record: &Record) -> Option<PlaneKey> {
    let namespace = workflow["metadata"]["namespace"].as_str();
    let reference = |field: &str| referred(&workflow["spec"][field], namespace);
    if let Some(plane) = reference(REFERENCE[0]) {
        return Some(plane);
    }
    let by_default = |kind: &'static Kind| {
        let namespace = namespace.filter(|_| kind.scope == Scope::Namespaced).map(str::to_owned);
        Some(PlaneKey { kind, namespace, name: DEFAULT_PLANE.into() }).filter(|plane| record.has(plane))
    };
    // One that the CRD of v1.0 wrote says nothing.
    let named = reference(REFERENCE[1]).filter(|plane| *plane != default_plane());
    named.or_else(|| DEFAULT_KIND.other_scope().and_then(by_default)).or_else(|| by_default(DEFAULT_KIND))
}

/// Returns the Workflows that need a reference in v1.0, by their names.
pub fn moved(record: &Record) -> Vec<Moved> {
    let workflows = record.others().filter(|object| is_own(object, "Workflow"));
    let moved = |workflow: &Value| {
        let on = runs_on(workflow, record)?;
        let plane = renamed(&on);
        if plane == default_plane() {
            return None;
        }
        let mut manifest = workflow.clone();
        let spec = manifest["spec"].as_object_mut()?;
        spec.shift_remove(REFERENCE[0]);
        spec.insert(REFERENCE[1].into(), json!({"kind": plane.kind.kind, "name": plane.name}));
        let text = |field: &str| workflow["metadata"][field].as_str().unwrap_or_default();
        Some(Moved { name: format!("{}/{}", text("namespace"), text("name")), on, plane, manifest })
    };
    workflows.filter_map(moved).collect()
}

/// Whether a stored Workflow has the reference that it needs.
pub fn is_right(moved: &Moved, stored: &[Value]) -> bool {
    let is_it = |object: &&Value| {
        is_own(object, "Workflow")
            && ["name", "namespace"].iter().all(|field| object["metadata"][field] == moved.manifest["metadata"][field])
    };
    stored.iter().find(is_it).is_some_and(|object| object["spec"][REFERENCE[1]] == moved.manifest["spec"][REFERENCE[1]])
}

/// Returns the plane that could be ClusterWorkflowPlane `default`, too: that of all Workflows that need one, where none has
/// the name.
pub fn could_be_default<'m>(moved: &'m [Moved], record: &Record) -> Option<&'m PlaneKey> {
    let old = PlaneKey { kind: DEFAULT_KIND, ..default_plane() };
    let first = &moved.first()?.plane;
    let fits = first.kind.scope == Scope::Cluster && moved.iter().all(|one| one.plane == *first);
    (fits && !record.has(&old)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, namespace: Option<&str>, spec: Value) -> Value {
        let mut object =
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        object
    }

    fn record(planes: &[(&str, &str, Option<&str>)], workflow: Value) -> Record {
        let mut objects: Vec<_> =
            planes.iter().map(|(kind, name, namespace)| object(kind, name, *namespace, json!({}))).collect();
        objects.push(object("Workflow", "w", Some("a"), workflow));
        let mut record = Record::default();
        record.update(&objects, false);
        record
    }

    #[test]
    fn a_workflow_stays_on_its_plane() {
        let cluster = ("ClusterBuildPlane", "default", None);
        let shared = ("ClusterBuildPlane", "shared", None);
        let own = |namespace| ("BuildPlane", "default", Some(namespace));
        let by = |kind: &str, name: &str| json!({"buildPlaneRef": {"kind": kind, "name": name}, "x": 1});
        let defaulted = json!({"workflowPlaneRef": {"kind": "ClusterWorkflowPlane", "name": "default"}});
        let named = json!({"workflowPlaneRef": {"kind": "WorkflowPlane", "name": "b"}});
        for (planes, spec, expected) in [
            (vec![cluster], json!({}), None),
            (vec![cluster], defaulted.clone(), None),
            (vec![cluster], by("ClusterBuildPlane", "default"), None),
            (vec![], json!({}), None),
            (vec![shared], json!({}), None),
            (vec![shared], by("ClusterBuildPlane", "shared"), Some(("ClusterWorkflowPlane", "shared", true))),
            (vec![shared, cluster], by("ClusterBuildPlane", "shared"), Some(("ClusterWorkflowPlane", "shared", false))),
            (vec![cluster, own("a")], json!({}), Some(("WorkflowPlane", "default", false))),
            (vec![cluster, own("a")], defaulted, Some(("WorkflowPlane", "default", false))),
            (vec![cluster, own("b")], json!({}), None),
            (vec![own("a")], named, Some(("WorkflowPlane", "b", false))),
        ] {
            let record = record(&planes, spec.clone());
            let moved = moved(&record);
            let reported = moved.first().map(|one| {
                assert_eq!(one.manifest["spec"].get("buildPlaneRef"), None);
                assert!(is_right(one, std::slice::from_ref(&one.manifest)) && !is_right(one, &[]));
                (one.plane.kind.kind, one.plane.name.as_str(), could_be_default(&moved, &record).is_some())
            });
            assert_eq!(reported, expected, "{planes:?} {spec}");
        }
    }
}
