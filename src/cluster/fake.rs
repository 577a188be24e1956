//! An API server in memory, for unit tests: objects by their paths, read, listed, created, patched and deleted. What it
//! refuses is said beforehand, and what it was asked is kept.
//!
//! Not here: validation, ownership of fields, watches. Those are tested on a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::client::Observed;
use super::connection::Cluster;
use super::target::Target;
use crate::plane::{DEFAULT_KIND, KINDS, Kind};
use crate::term::{self, Term};

/// The server. A clone is the same one.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// Answers that were said beforehand, by the beginning of `METHOD PATH`.
    answers: Vec<(String, u16, Value)>,
    asked: Vec<String>,
    writes: u64,
    /// The kinds of planes that are not served.
    unserved: Vec<&'static str>,
}

impl Fake {
    /// Returns a server that has these objects, each with its apiVersion and kind.
    pub fn of(objects: impl IntoIterator<Item = Value>) -> Self {
        let fake = Self::default();
        for object in objects {
            fake.put(object);
        }
        fake
    }

    pub fn put(&self, object: Value) {
        self.state().put(object);
    }

    /// Answers requests that begin with `METHOD PATH` in this way from now on; what was said last comes first.
    pub fn answer(&self, request: &str, code: u16, body: Value) {
        self.state().answers.push((request.to_owned(), code, body));
    }

    /// Serves planes of these kinds only from now on; of all kinds where this was never said.
    pub fn serve(&self, kinds: &[&'static Kind]) {
        let others = KINDS.iter().filter(|kind| !kinds.contains(kind));
        self.state().unserved = others.map(|kind| kind.plural).collect();
    }

    pub fn forbid(&self, request: &str) {
        let body = failure(403, "Forbidden", "it is forbidden", "", "");
        self.answer(request, 403, body);
    }

    /// Returns an object by the end of its path, such as `secrets/NAME`.
    pub fn object(&self, end: &str) -> Option<Value> {
        self.state().objects.iter().find(|(path, _)| path.ends_with(end)).map(|(_, object)| object.clone())
    }

    /// Returns every request so far, as `METHOD PATH?QUERY`.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    pub fn cluster(&self) -> Cluster {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (code, mut answer) = fake.state().take(&parts.method, &parts.uri, &body);
                let accepted = parts.headers.get(http::header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
                if accepted.is_some_and(|accepted| accepted.contains("as=PartialObjectMetadataList")) {
                    only_metadata(&mut answer);
                }
                let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
                Ok::<_, kube::Error>(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
            }
        });
        let term = Term::new(term::Options { quiet: true, no_input: true, ..term::Options::default() });
        let mut target = Target::default();
        target.namespace = "default".into();
        Cluster {
            client: kube::Client::new(service, "default"),
            kind: DEFAULT_KIND,
            namespace: None,
            target: Arc::new(target),
            observed: Arc::new(Observed::new(term)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// What a path means: a collection, and one object in it.
struct Place {
    collection: String,
    plural: String,
    name: Option<String>,
}

impl Place {
    fn of(path: &str) -> Self {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let group = if parts[0] == "api" { 2 } else { 3 };
        let rest = parts.get(group..).unwrap_or_default();
        let at = if rest.len() > 2 && rest[0] == "namespaces" { 2 } else { 0 };
        Self {
            collection: format!("/{}", parts[..(group + at + 1).min(parts.len())].join("/")),
            plural: rest.get(at).copied().unwrap_or_default().to_owned(),
            name: rest.get(at + 1).map(|name| (*name).to_owned()),
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name.as_deref().unwrap_or_default())
    }
}

fn failure(code: u16, reason: &str, message: &str, name: &str, plural: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": message,
        "details": {"name": name, "kind": plural}, "code": code,
    })
}

/// Leaves of a list what a server sends to who asks for metadata alone.
fn only_metadata(list: &mut Value) {
    if let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(|item| *item = json!({"metadata": item["metadata"]}));
        (list["apiVersion"], list["kind"]) = ("meta.k8s.io/v1".into(), "PartialObjectMetadataList".into());
    }
}

/// A merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => merge(&mut target[name], value),
        }
    }
}

impl State {
    fn put(&mut self, mut object: Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, namespace) = (text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
        let root = if version.contains('/') { "apis" } else { "api" };
        let namespace = if namespace.is_empty() { namespace } else { format!("namespaces/{namespace}/") };
        let name = text("/metadata/name");
        let path = format!("/{root}/{version}/{namespace}{}s/{name}", kind.to_lowercase());
        self.writes += 1;
        object["metadata"]["resourceVersion"] = self.writes.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", self.writes).into();
        }
        self.objects.insert(path, object);
    }

    fn take(&mut self, method: &Method, uri: &http::Uri, body: &[u8]) -> (u16, Value) {
        let query = uri.query().unwrap_or_default().to_owned();
        let request = format!("{method} {uri}");
        self.asked.push(request.clone());
        if let Some((_, code, answer)) = self.answers.iter().rev().find(|(start, ..)| request.starts_with(start)) {
            return (*code, answer.clone());
        }
        let place = Place::of(uri.path());
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let stored = !query.contains("dryRun=All") && sent["dryRun"].is_null();
        match (method.as_str(), &place.name) {
            _ if self.unserved.contains(&place.plural.as_str()) => {
                (404, failure(404, "NotFound", "the server could not find the requested resource", "", ""))
            }
            // Discovery.
            ("GET", None) if uri.path() == "/apis" => {
                let versions: BTreeSet<_> = self.kinds().map(|(version, ..)| version).collect();
                let versions = versions.iter().filter_map(|version| version.strip_prefix("/apis/"));
                let group = |version: &str| json!({"name": version, "versions": [{"groupVersion": version}]});
                (200, json!({"kind": "APIGroupList", "groups": versions.map(group).collect::<Vec<_>>()}))
            }
            ("GET", None) if place.plural.is_empty() && !uri.path().starts_with("/apis/openchoreo.dev/") => {
                let here = self.kinds().filter(|(version, ..)| version == uri.path());
                let resource = |(_, plural, kind): (String, String, String)| json!({"name": plural, "kind": kind, "namespaced": true, "verbs": ["list"]});
                (200, json!({"kind": "APIResourceList", "resources": here.map(resource).collect::<Vec<_>>()}))
            }
            ("GET", None) if place.plural.is_empty() => {
                let served = KINDS.iter().filter(|kind| !self.unserved.contains(&kind.plural));
                let resources = served.map(|kind| json!({"name": kind.plural, "kind": kind.kind, "namespaced": true, "singularName": "", "verbs": []}));
                (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "", "resources": resources.collect::<Vec<_>>()}),
                )
            }
            ("GET", None) => (200, self.list(&place, &query)),
            ("GET", Some(name)) => match self.objects.get(&place.path()) {
                Some(object) => (200, object.clone()),
                None => (404, failure(404, "NotFound", "it was not found", name, &place.plural)),
            },
            ("POST", _) if place.plural == "selfsubjectaccessreviews" => {
                let mut review = sent;
                review["status"] = json!({"allowed": true});
                (201, review)
            }
            ("POST", _) => self.create(&place, sent, stored),
            ("PATCH", Some(name)) => self.patch(&place, name, &sent, stored),
            ("DELETE", Some(name)) => match self.objects.remove(&place.path()) {
                Some(object) => {
                    if !stored {
                        self.objects.insert(place.path(), object.clone());
                    }
                    (200, object)
                }
                None => (404, failure(404, "NotFound", "it was not found", name, &place.plural)),
            },
            _ => (405, failure(405, "MethodNotAllowed", "it is not allowed", "", "")),
        }
    }

    /// The kinds of the namespaced objects that it has: each with its API's path and its plural.
    fn kinds(&self) -> impl Iterator<Item = (String, String, String)> {
        let kind = |(path, object): (&String, &Value)| {
            let (version, _) = path.split_once("/namespaces/")?;
            Some((version.to_owned(), Place::of(path).plural, object["kind"].as_str()?.to_owned()))
        };
        self.objects.iter().filter_map(kind).collect::<BTreeSet<_>>().into_iter()
    }

    fn create(&mut self, place: &Place, mut object: Value, stored: bool) -> (u16, Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("{}/{name}", place.collection);
        if self.objects.contains_key(&path) {
            return (409, failure(409, "AlreadyExists", &format!("{name} already exists"), &name, &place.plural));
        }
        if let Some((_, rest)) = place.collection.split_once("/namespaces/") {
            object["metadata"]["namespace"] = rest.split('/').next().unwrap_or_default().into();
        }
        if stored {
            self.put(object);
            return (201, self.objects.get(&path).cloned().unwrap_or_default());
        }
        (201, object)
    }

    /// A merge; server-side apply also creates.
    fn patch(&mut self, place: &Place, name: &str, patch: &Value, stored: bool) -> (u16, Value) {
        let before = self.objects.get(&place.path()).cloned();
        if before.is_none() && patch["kind"].is_null() {
            return (404, failure(404, "NotFound", "it was not found", name, &place.plural));
        }
        let mut object = before.unwrap_or_else(|| json!({}));
        let asked = &patch["metadata"]["resourceVersion"];
        if !asked.is_null() && *asked != object["metadata"]["resourceVersion"] {
            return (409, failure(409, "Conflict", "the object has been modified", name, &place.plural));
        }
        let unchanged = object.clone();
        merge(&mut object, patch);
        if stored && object != unchanged {
            self.put(object);
            return (200, self.objects.get(&place.path()).cloned().unwrap_or_default());
        }
        (200, object)
    }

    fn list(&self, place: &Place, query: &str) -> Value {
        let kind = KINDS.iter().find(|kind| kind.plural == place.plural);
        let (version, plural) = place.collection.rsplit_once('/').unwrap_or_default();
        let of_all =
            |path: &str| path.starts_with(&format!("{version}/namespaces/")) && Place::of(path).plural == plural;
        let items =
            self.objects.iter().filter(|(path, _)| Place::of(path).collection == place.collection || of_all(path));
        let items = items.map(|(_, object)| object).filter(|object| selected(object, query));
        let group = version.trim_start_matches("/apis/").trim_start_matches("/api/").split("/namespaces").next();
        let other = || match plural {
            "authzclusterroles" => "AuthzClusterRole".to_owned(),
            "authzroles" => "AuthzRole".to_owned(),
            "certificaterequests" => "CertificateRequest".to_owned(),
            "clusterauthzroles" => "ClusterAuthzRole".to_owned(),
            "clusterroles" => "ClusterRole".to_owned(),
            plural => format!("{}{}", plural[..1].to_uppercase(), plural[1..].trim_end_matches('s')),
        };
        json!({
            "apiVersion": group,
            "kind": format!("{}List", kind.map_or_else(other, |kind| kind.kind.to_owned())),
            "metadata": {"resourceVersion": self.writes.to_string()},
            "items": items.collect::<Vec<_>>(),
        })
    }
}

/// Whether an object is chosen by the label and field selectors of a query; those of equality only.
fn selected(object: &Value, query: &str) -> bool {
    let decoded = |text: &str| text.replace("%2C", ",").replace("%3D", "=").replace("%2F", "/");
    query.split('&').filter_map(|part| part.split_once('=')).all(|(name, value)| {
        let terms = decoded(value);
        let mut terms = terms.split(',').filter_map(|term| term.split_once('='));
        match name {
            "labelSelector" => terms.all(|(key, value)| object["metadata"]["labels"][key] == value),
            "fieldSelector" => terms.all(|(path, value)| {
                object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str) == Some(value)
            }),
            _ => true,
        }
    })
}
