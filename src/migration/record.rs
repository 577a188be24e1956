//! What was known before the CRDs of v1.0 came: planes and what refers to them, with the fields that those CRDs prune.

use serde_json::{Map, Value, json};

use super::rules::{PULL_SECRETS, REFERENCE, wants};
use crate::manifest::{Manifest, objects, parse, to_yaml};
use crate::plane::{DEFAULT_KIND, DUMPED, Kind, Plane, PlaneKey, Release};

/// The first object of a record: of which control plane it is.
const MARK: [&str; 2] = ["choreoctl.dev/v1", "Migration"];
/// Where a plane has its CA.
const CLIENT_CA: &str = "/spec/clusterAgent/clientCA";
/// What `kubectl apply` notes of the object as it was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Planes, Workflows, Projects and roles as they were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The identity of the control plane's cluster, where it is known.
    pub control_plane: Option<String>,
    objects: Vec<Value>,
}

/// What identifies an object.
fn identity(object: &Value) -> [&str; 4] {
    ["/apiVersion", "/kind", "/metadata/namespace", "/metadata/name"].map(|at| text(object, at))
}

fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_plane(object: &Value) -> bool {
    Kind::of_object(text(object, "/apiVersion"), text(object, "/kind")).is_some()
}

/// Whether it is an object of OpenChoreo of this kind.
pub fn is_own(object: &Value, kind: &str) -> bool {
    text(object, "/kind") == kind && text(object, "/apiVersion") == DEFAULT_KIND.api_version()
}

/// Whether a plane names a CA.
fn has_ca(plane: &Value) -> bool {
    let sources = plane.pointer(CLIENT_CA).and_then(Value::as_object);
    sources.is_some_and(|sources| sources.values().any(|source| !source.is_null() && source != ""))
}

/// Whether an object has something that v1.0 calls otherwise, and that can be renamed.
pub fn is_outdated(object: &Value) -> bool {
    if !object.to_string().to_lowercase().contains("buildplane") {
        return false;
    }
    let manifest = to_yaml(object).map(|text| parse(String::new(), text));
    manifest.is_ok_and(|manifest| {
        objects(&manifest).into_iter().any(|object| wants(object, false).iter().any(|want| want.fix.is_some()))
    })
}

/// Whether Helm wrote it with a chart, whose upgrade replaces it.
pub fn is_of_chart(object: &Value) -> bool {
    !text(object, "/metadata/annotations/meta.helm.sh~1release-name").is_empty()
}

/// Whether it belongs to a record: planes that v0.17 can have, Workflows, and what refers to planes by their old names.
fn is_recorded(object: &Value) -> bool {
    match Kind::of_object(text(object, "/apiVersion"), text(object, "/kind")) {
        Some(kind) => kind.family.releases.contains(&Release::V0),
        None => is_own(object, "Workflow") || (is_outdated(object) && !is_of_chart(object)),
    }
}

/// An object without what a server wrote.
fn wish(object: &Value) -> Value {
    let mut wish = Map::new();
    let metadata = &object["metadata"];
    let mut kept = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = metadata.get(field).filter(|value| !value.is_null()) {
            kept.insert(field.into(), value.clone());
        }
    }
    if let Some(annotations) = kept.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| key != LAST_APPLIED && key != DUMPED);
        if annotations.is_empty() {
            kept.shift_remove("annotations");
        }
    }
    for field in ["apiVersion", "kind"] {
        wish.insert(field.into(), object[field].clone());
    }
    wish.insert("metadata".into(), kept.into());
    let rest = object.as_object().into_iter().flatten();
    let rest = rest.filter(|(field, _)| !matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    wish.extend(rest.map(|(field, value)| (field.clone(), value.clone())));
    wish.into()
}

/// Puts back into an object what the CRDs of v1.0 prune, as far as an older version of it has it.
fn unpruned(object: &mut Value, older: &Value) {
    let secret = |plane: &Value, release: Release| {
        plane.pointer(CLIENT_CA).and_then(|ca| ca.get(release.secret_field())).cloned()
    };
    // What the migration itself has restored is what the record has.
    let is_restored = secret(object, Release::V1).is_some_and(|now| secret(older, Release::V0) == Some(now));
    if is_plane(object) && has_ca(older) && (is_restored || !has_ca(object)) {
        object["spec"]["clusterAgent"]["clientCA"] = older.pointer(CLIENT_CA).cloned().unwrap_or_default();
    }
    for field in [PULL_SECRETS, REFERENCE[0]] {
        if let Some(value) = older["spec"].get(field).filter(|_| object["spec"].get(field).is_none()) {
            object["spec"][field] = value.clone();
        }
    }
}

impl Record {
    /// Reads manifests, whatever else they hold.
    pub fn of<'m>(manifests: impl IntoIterator<Item = &'m Manifest>) -> Self {
        let mut record = Self::default();
        for object in manifests.into_iter().flat_map(objects).map(|object| object.node.to_json()) {
            if [text(&object, "/apiVersion"), text(&object, "/kind")] == MARK {
                record.control_plane = Some(text(&object, "/metadata/name").to_owned());
            } else if is_recorded(&object) {
                record.objects.push(wish(&object));
            }
        }
        record
    }

    /// Takes over the objects of a server. `is_pruned` says whether it has the CRDs of v1.0: then what it lacks of the older
    /// version was pruned, and stays.
    pub fn update(&mut self, stored: &[Value], is_pruned: bool) {
        for object in stored.iter().filter(|object| is_recorded(object)) {
            let mut new = wish(object);
            match self.objects.iter_mut().find(|known| identity(known) == identity(object)) {
                Some(older) => {
                    if is_pruned {
                        unpruned(&mut new, older);
                    }
                    *older = new;
                }
                None => self.objects.push(new),
            }
        }
        self.objects.sort_by(|one, other| identity(one).cmp(&identity(other)));
    }

    /// Fills in what another record has of the same objects, and this one lacks.
    pub fn fill_in(&mut self, other: &Self) {
        for object in &mut self.objects {
            if let Some(known) = other.objects.iter().find(|other| identity(other) == identity(object)) {
                unpruned(object, known);
            }
        }
    }

    /// Returns the planes.
    pub fn planes(&self) -> impl Iterator<Item = (Plane, &Value)> {
        let planes = self.objects.iter().filter(|object| is_plane(object));
        planes.filter_map(|object| Some((serde_json::from_value(object.clone()).ok()?, object)))
    }

    /// Returns the objects that are none.
    pub fn others(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(|object| !is_plane(object))
    }

    pub fn has(&self, plane: &PlaneKey) -> bool {
        self.objects.iter().any(|object| is_plane(object) && PlaneKey::of_object(object) == *plane)
    }

    /// Returns how many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Returns it as documents of YAML.
    pub fn text(&self) -> anyhow::Result<String> {
        let mark = self
            .control_plane
            .as_ref()
            .map(|control_plane| json!({"apiVersion": MARK[0], "kind": MARK[1], "metadata": {"name": control_plane}}));
        documents(mark.iter().chain(&self.objects))
    }
}

/// Returns objects as documents of YAML.
pub fn documents<'o>(objects: impl IntoIterator<Item = &'o Value>) -> anyhow::Result<String> {
    let texts: anyhow::Result<Vec<_>> = objects.into_iter().map(to_yaml).collect();
    Ok(texts?.join("---\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, spec: Value) -> Value {
        let version = if kind == "ClusterRole" { "rbac.authorization.k8s.io/v1" } else { "openchoreo.dev/v1alpha1" };
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "uid": "u"}, "spec": spec, "status": {}})
    }

    fn plane(kind: &str, ca: Value) -> Value {
        object(kind, "a", json!({"planeID": "a", "clusterAgent": {"clientCA": ca}}))
    }

    fn updated(stored: &[Value], is_pruned: bool, record: &Record) -> Record {
        let mut record = record.clone();
        record.update(stored, is_pruned);
        record
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut role = object("ClusterRole", "r", Value::Null);
        role["rules"] =
            json!([{"apiGroups": ["openchoreo.dev"], "resources": ["clusterbuildplanes"], "verbs": ["get"]}]);
        let stored = [
            plane("ClusterBuildPlane", json!({"value": "a\nb\n"})),
            object("Workflow", "w", json!({"buildPlaneRef": {"kind": "BuildPlane", "name": "a"}})),
            object("Project", "p", json!({})),
            object("ClusterRole", "other", Value::Null),
            role,
        ];
        let record = updated(&stored, false, &Record { control_plane: Some("id".into()), ..Record::default() });
        assert_eq!((record.len(), record.planes().count(), record.others().count()), (3, 1, 2));
        let text = record.text().unwrap();
        assert!(!text.contains("uid") && !text.contains("status"), "{text}");
        assert_eq!(Record::of([&parse("f".into(), text)]), record);
    }

    #[test]
    fn what_was_pruned_stays_in_the_record_and_what_was_changed_does_not() {
        let secret = json!({"secretRef": {"namespace": "n", "name": "s", "key": "k"}});
        let mut whole = plane("ClusterDataPlane", secret.clone());
        whole["spec"]["imagePullSecretRefs"] = json!(["x"]);
        let workflow = object("Workflow", "w", json!({"buildPlaneRef": {"kind": "BuildPlane", "name": "a"}}));
        let before = updated(&[whole, workflow], false, &Record::default());
        let mut pruned = plane("ClusterDataPlane", json!({}));
        pruned["metadata"]["annotations"] = json!({LAST_APPLIED: "{}", "mine": "new"});
        let default =
            object("Workflow", "w", json!({"workflowPlaneRef": {"kind": "ClusterWorkflowPlane", "name": "default"}}));
        let after = updated(&[pruned.clone(), default], true, &before);
        let (_, recorded) = after.planes().next().unwrap();
        assert_eq!(recorded["spec"]["clusterAgent"]["clientCA"], secret);
        assert_eq!(recorded["spec"]["imagePullSecretRefs"], json!(["x"]));
        assert_eq!(recorded["metadata"]["annotations"], json!({"mine": "new"}));
        assert_eq!(after.others().next().unwrap()["spec"]["buildPlaneRef"]["name"], "a");
        // What was restored from it does not change it, and what was written otherwise does.
        let mut reference = secret.clone();
        reference["secretKeyRef"] = reference["secretRef"].take();
        reference.as_object_mut().unwrap().remove("secretRef");
        let of_ca = |record: &Record| record.planes().next().unwrap().1["spec"]["clusterAgent"]["clientCA"].clone();
        assert_eq!(of_ca(&updated(&[plane("ClusterDataPlane", reference.clone())], true, &before)), secret);
        reference["secretKeyRef"]["key"] = "other".into();
        assert_eq!(of_ca(&updated(&[plane("ClusterDataPlane", reference.clone())], true, &before)), reference);
        // A server that prunes nothing is right.
        let changed = updated(&[plane("ClusterDataPlane", json!({"value": "x"}))], false, &before);
        assert_eq!(changed.planes().next().unwrap().1["spec"].get("imagePullSecretRefs"), None);
        // What a record lacks, another one may have.
        let mut late = updated(&[pruned], true, &Record::default());
        late.fill_in(&before);
        assert_eq!(late.planes().next().unwrap().1["spec"]["clusterAgent"]["clientCA"], secret);
        assert_eq!((late.len(), late.has(&PlaneKey::of_object(&plane("ClusterDataPlane", json!({}))))), (1, true));
    }
}
