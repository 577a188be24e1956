//! The objects that record what happened to a plane: those on which its connection depends, in both clusters, with the
//! events and the Helm releases around them.
//!
//! Not here: what they say about changes (doctor).

use std::collections::BTreeSet;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroize as _;

use super::client_ca::CaPlace;
use super::gateway::DeployedGateway;
use super::objects::{
    CERTIFICATE, CERTIFICATE_REQUEST, CONFIG_MAP, Collection, DEPLOYMENT, EVENT, LEASE, ObjectRef, POD, Resource,
    SECRET,
};
use super::source::{Coverage, Source, text, typed};
use super::unavailable::{Unavailable, or_none};
use crate::cluster::{Agent, CERT_MANAGER, LABELS};
use crate::pki::LEAF_CERTIFICATE;
use crate::plane::{self, EVENT_NAMESPACE, GATEWAY_CA, GATEWAY_SERVICE, NamespacedName, Plane, Side};

/// By which Helm marks the Secrets of its releases, one for each revision.
const HELM: &str = "owner=helm";
const HELM_TYPE: &str = "type=helm.sh/release.v1";

/// With what the chart's names of agents begin.
const AGENT: &str = "cluster-agent";

/// A plane, and the objects that record its history.
pub struct History {
    pub plane: Plane,
    pub now: Timestamp,
    /// Each with its kind. Of Secrets there are the metadata and the certificates alone.
    pub objects: Vec<(Side, Value)>,
    /// What the connection needs and does not exist.
    pub missing: Vec<Missing>,
    /// What could not be read, and why.
    pub unread: Vec<(Side, Unavailable)>,
}

/// An object that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub side: Side,
    pub title: String,
    /// The kind of the object that refers to it; none of the agent itself.
    pub needed_by: Option<&'static str>,
}

/// What was read of one cluster.
struct Read {
    side: Side,
    objects: Vec<Value>,
    missing: Vec<Missing>,
    unread: Vec<Unavailable>,
}

impl History {
    /// Reads the history of a plane, whose agent is in a namespace of the other cluster, or anywhere in it.
    pub async fn of<S: Source>(
        control: &S,
        control_namespace: &str,
        build: Option<(&S, Option<&str>)>,
        plane: Plane,
    ) -> Self {
        let of_build = async {
            match build {
                Some((source, namespace)) => Some(Read::build(source, control, namespace, &plane).await),
                None => None,
            }
        };
        let (own, of_build) = tokio::join!(Read::control(control, control_namespace, &plane), of_build);
        let mut history =
            Self { plane, now: control.now(), objects: Vec::new(), missing: Vec::new(), unread: Vec::new() };
        for Read { side, objects, missing, unread } in [Some(own), of_build].into_iter().flatten() {
            history.objects.extend(objects.into_iter().map(|object| (side, object)));
            history.missing.extend(missing);
            history.unread.extend(unread.into_iter().map(|why| (side, why)));
        }
        history
    }

    /// Reads the revisions of the Helm releases in a namespace, and the events there.
    pub async fn around(
        source: &impl Source,
        namespace: &str,
    ) -> (Result<Vec<Value>, Unavailable>, Result<Vec<Value>, Unavailable>) {
        let (releases, events) = (helm(namespace), Collection::of(EVENT, Some(namespace)));
        tokio::join!(all(source, &releases), all(source, &events))
    }

    /// Whether an event is about an agent or the gateway, by the chart's names of what it concerns.
    pub fn is_about_programs(event: &Value) -> bool {
        let name = text(event, "/involvedObject/name");
        name.starts_with(AGENT) || name.starts_with(GATEWAY_SERVICE)
    }
}

impl Read {
    fn new(side: Side) -> Self {
        Self { side, objects: Vec::new(), missing: Vec::new(), unread: Vec::new() }
    }

    async fn control(source: &impl Source, namespace: &str, plane: &Plane) -> Self {
        let mut read = Self::new(Side::Control);
        let named = |name: &str| NamespacedName { namespace: namespace.into(), name: name.into() };
        let ca = CaPlace::secret(plane);
        let client_ca = async {
            let ca = ca.as_ref()?;
            Some(source.get(&ObjectRef::named(SECRET, &ca.secret).with_key(&ca.key)).await)
        };
        let gateway_ca = ObjectRef::named(SECRET, &named(GATEWAY_CA));
        let lease = ObjectRef::named(LEASE, &named(plane::LEASE));
        let about_plane = format!("involvedObject.kind={},involvedObject.name={}", plane.kind.kind, plane.name());
        let place = plane.metadata.namespace.as_deref().unwrap_or(EVENT_NAMESPACE);
        let about_plane = Collection::of(EVENT, Some(place)).with_fields(about_plane);
        let is_about_plane = |event: &Value| {
            let about = &event["involvedObject"];
            about["kind"] == plane.kind.kind && about["name"] == plane.name()
        };
        let around = Collection::of(EVENT, Some(namespace));
        let is_about_gateway = |event: &Value| text(event, "/involvedObject/name").starts_with(GATEWAY_SERVICE);
        let releases = helm(namespace);
        let (client_ca, gateway_ca, lease, pods, helm, about_plane, about_gateway) = tokio::join!(
            client_ca,
            source.get(&gateway_ca),
            source.get(&lease),
            gateway_pods(source, namespace),
            all(source, &releases),
            chosen(source, &about_plane, is_about_plane),
            chosen(source, &around, is_about_gateway),
        );
        if let (Some(ca), Some(answer)) = (&ca, client_ca) {
            let is_missing = answer.as_ref().is_err_and(Unavailable::is_missing);
            if is_missing && source.coverage() != Coverage::Part {
                read.miss(format!("Secret {}", ca.secret), Some(plane.kind.kind));
            }
            read.secret(answer, Some(&ca.key));
        }
        let own = &plane.spec.cluster_agent.client_ca;
        if ca.is_none() && own.value.as_deref().unwrap_or_default().is_empty() {
            // The API server records nobody for a field that was removed.
            read.miss(format!("clientCA of {} {}", plane.kind.kind, plane.key()), Some(plane.kind.kind));
        }
        read.secret(gateway_ca, None);
        read.object(lease, LEASE);
        for list in [pods, helm, about_plane, about_gateway] {
            read.list(list);
        }
        read
    }

    async fn build<S: Source>(source: &S, control: &S, namespace: Option<&str>, plane: &Plane) -> Self {
        let mut read = Self::new(Side::Build);
        let deployed = all(source, &Collection::of(DEPLOYMENT, namespace).labelled(LABELS)).await;
        let deployed = match deployed {
            Ok(deployed) => agents(control, deployed, plane).await,
            Err(why) => {
                read.unread.push(why);
                return read;
            }
        };
        if deployed.is_empty() && source.coverage() != Coverage::Part {
            let place = namespace.map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default();
            read.miss(format!("agent of planeID {}{place}", plane.plane_id()), None);
        }
        let mut namespaces: BTreeSet<_> = namespace.map(str::to_owned).into_iter().collect();
        for (object, agent) in deployed {
            namespaces.insert(agent.name.namespace.clone());
            read.agent(source, &agent).await;
            read.objects.push(object);
        }
        let around = namespaces.iter().map(|namespace| History::around(source, namespace));
        for (helm, events) in join_all(around).await {
            read.list(helm);
            let events = events.map(|events| events.into_iter().filter(|event| read.knows(event)).collect());
            read.list(events);
        }
        read
    }

    /// Reads what an agent depends on, and its pods.
    async fn agent(&mut self, source: &impl Source, agent: &Agent) {
        let namespace = &agent.name.namespace;
        let pair = agent.pair();
        let server_ca = agent.server_ca.clone().unwrap_or_else(|| GATEWAY_CA.into());
        let server_ca = NamespacedName { namespace: namespace.clone(), name: server_ca };
        let secret = async {
            match &pair {
                Some(name) => Some(source.get(&ObjectRef::named(SECRET, name)).await),
                None => None,
            }
        };
        let pods = async {
            // Without a selector these would be the pods of others.
            match agent.selector() {
                "" => Ok(Vec::new()),
                labels => all(source, &Collection::of(POD, Some(namespace)).labelled(labels)).await,
            }
        };
        let map = ObjectRef::named(CONFIG_MAP, &server_ca);
        let [certificates, requests] =
            [CERTIFICATE, CERTIFICATE_REQUEST].map(|resource| Collection::of(resource, Some(namespace)));
        let (secret, map, pods, certificates, requests) =
            tokio::join!(secret, source.get(&map), pods, all(source, &certificates), all(source, &requests));
        if let (Some(name), Some(answer)) = (&pair, secret) {
            self.miss_if(&answer, source, format!("Secret {name}"));
            self.secret(answer, None);
        }
        self.miss_if(&map, source, format!("ConfigMap {server_ca}"));
        self.object(map, CONFIG_MAP);
        self.list(pods);
        // Without cert-manager there are no such kinds.
        let secret = pair.map(|pair| pair.name).unwrap_or_default();
        let certificates = or_none(certificates).map(|all| {
            let all = all.into_iter().flatten();
            all.filter(|one| one["spec"]["secretName"] == secret.as_str()).collect::<Vec<_>>()
        });
        let names: BTreeSet<_> =
            certificates.iter().flatten().map(|certificate| text(certificate, "/metadata/name").to_owned()).collect();
        let is_of_these = |request: &Value| {
            request["metadata"]["annotations"][CERT_MANAGER].as_str().is_some_and(|name| names.contains(name))
        };
        self.list(certificates);
        self.list(or_none(requests).map(|all| all.into_iter().flatten().filter(is_of_these).collect()));
    }

    /// Whether an event is about one of the objects that were read, or about what the agent's Deployment owns.
    fn knows(&self, event: &Value) -> bool {
        let (kind, name) = (text(event, "/involvedObject/kind"), text(event, "/involvedObject/name"));
        if self.objects.iter().all(|object| object["kind"] != DEPLOYMENT.kind) {
            // What is left of an agent that was deleted.
            return name.starts_with(AGENT);
        }
        self.objects.iter().any(|object| {
            let own = text(object, "/metadata/name");
            let is_owned = || matches!(kind, "Pod" | "ReplicaSet") && name.starts_with(&format!("{own}-"));
            (object["kind"] == kind && own == name) || (object["kind"] == DEPLOYMENT.kind && is_owned())
        })
    }

    fn miss(&mut self, title: String, needed_by: Option<&'static str>) {
        self.missing.push(Missing { side: self.side, title, needed_by });
    }

    /// Takes down that what an agent mounts does not exist.
    fn miss_if(&mut self, answer: &Result<Value, Unavailable>, source: &impl Source, title: String) {
        if source.coverage() != Coverage::Part && answer.as_ref().is_err_and(Unavailable::is_missing) {
            self.miss(title, Some(DEPLOYMENT.kind));
        }
    }

    fn object(&mut self, answer: Result<Value, Unavailable>, resource: Resource) {
        match or_none(answer) {
            Ok(object) => self.objects.extend(object.map(|object| of_kind(object, resource))),
            Err(why) => self.unread.push(why),
        }
    }

    /// Adds a Secret without its keys: with the agent's certificate, or what is in the key of a CA.
    fn secret(&mut self, answer: Result<Value, Unavailable>, key: Option<&str>) {
        let public = |mut secret: Value| {
            if let Some(data) = secret["data"].as_object_mut() {
                let is_public = |name: &str| name == key.unwrap_or(LEAF_CERTIFICATE);
                for (_, value) in data.iter_mut().filter(|(name, _)| !is_public(name)) {
                    if let Value::String(text) = value {
                        text.zeroize();
                    }
                }
                data.retain(|name, _| is_public(name));
            }
            secret
        };
        self.object(answer.map(public), SECRET);
    }

    fn list(&mut self, list: Result<Vec<Value>, Unavailable>) {
        match list {
            Ok(objects) => self.objects.extend(objects),
            Err(why) => self.unread.push(why),
        }
    }
}

/// The revisions of the Helm releases in a namespace, without what they hold.
fn helm(namespace: &str) -> Collection {
    Collection::of(SECRET, Some(namespace)).labelled(HELM).with_fields(HELM_TYPE.into()).metadata()
}

/// An object out of a list, which need not say of which kind it is.
fn of_kind(mut object: Value, resource: Resource) -> Value {
    object["kind"] = resource.kind.into();
    object
}

async fn all(source: &impl Source, what: &Collection) -> Result<Vec<Value>, Unavailable> {
    chosen(source, what, |_| true).await
}

async fn chosen(
    source: &impl Source,
    what: &Collection,
    is_meant: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, Unavailable> {
    let make = |object: &Value| is_meant(object).then(|| of_kind(object.clone(), what.resource));
    source.list(what, make).await
}

async fn gateway_pods(source: &impl Source, namespace: &str) -> Result<Vec<Value>, Unavailable> {
    match DeployedGateway::of(source, namespace).await? {
        Some(gateway) if !gateway.selector.is_empty() => {
            all(source, &Collection::of(POD, Some(namespace)).labelled(&gateway.selector)).await
        }
        _ => Ok(Vec::new()),
    }
}

/// The agents of a plane among those of a namespace: those of its planeID; without any the only one, unless it is another
/// plane's.
async fn agents(control: &impl Source, deployed: Vec<Value>, plane: &Plane) -> Vec<(Value, Agent)> {
    let family = plane.kind.family;
    let all = deployed.into_iter().filter_map(|object| Some((Agent::of(typed(&object)?), object)));
    let all: Vec<_> = all.filter(|(agent, _)| agent.may_be_of(family)).map(|(agent, object)| (object, agent)).collect();
    let is_ours = |agent: &Agent| agent.plane_id.as_deref() == Some(plane.plane_id());
    if all.iter().any(|(_, agent)| is_ours(agent)) {
        return all.into_iter().filter(|(_, agent)| is_ours(agent)).collect();
    }
    let [(_, only)] = all.as_slice() else {
        return Vec::new();
    };
    let Some(id) = &only.plane_id else {
        return all;
    };
    let kinds: Vec<_> = family.kinds().collect();
    let lists = kinds.iter().map(|kind| control.planes(kind, |other| other.plane_id() == id));
    let is_taken = join_all(lists).await.into_iter().flatten().flatten().any(|is_of_it| is_of_it);
    if is_taken { Vec::new() } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::estate::Files;
    use crate::plane::{DEFAULT_KIND, DUMPED, Snapshot};
    use serde_json::json;

    fn object(version: &str, kind: &str, name: &str) -> Value {
        json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "n", "name": name}})
    }

    fn plane(client_ca: Value) -> Plane {
        serde_json::from_value(json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": DEFAULT_KIND.kind,
            "metadata": {"name": "p", "annotations": {DUMPED: "2026-01-01T00:00:00Z"}},
            "spec": {"planeID": "p", "clusterAgent": {"clientCA": client_ca}},
        }))
        .unwrap()
    }

    fn in_secret() -> Value {
        json!({"secretRef": {"namespace": "n", "name": "ca", "key": "ca.crt"}})
    }

    fn agent(name: &str, plane_id: &str) -> Value {
        let mut agent = object("apps/v1", "Deployment", name);
        agent["metadata"]["labels"] = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
        let container = json!({"name": "agent", "args": [format!("--plane-id={plane_id}")]});
        let volumes = json!([{"name": "client-certs", "secret": {"secretName": "tls"}}]);
        let template = json!({"spec": {"containers": [container], "volumes": volumes}});
        agent["spec"] = json!({"selector": {"matchLabels": {"of": "x"}}, "template": template});
        agent
    }

    fn labelled(mut object: Value, key: &str, value: &str) -> Value {
        object["metadata"]["labels"] = json!({key: value});
        object
    }

    fn secret(name: &str) -> Value {
        let mut secret = object("v1", "Secret", name);
        secret["data"] = json!({"tls.crt": "Y2VydA==", "ca.crt": "Y2E=", "tls.key": "U0VDUkVU", "release": "U0VDUkVU"});
        secret
    }

    fn event(about: (&str, &str), name: &str) -> Value {
        let mut event = object("v1", "Event", name);
        event["involvedObject"] = json!({"kind": about.0, "name": about.1});
        event
    }

    fn build() -> Vec<Value> {
        let mut helm = labelled(secret("sh.helm.release.v1.a.v1"), "owner", "helm");
        helm["type"] = "helm.sh/release.v1".into();
        let mut certificate = object("cert-manager.io/v1", "Certificate", "own");
        certificate["spec"] = json!({"secretName": "tls"});
        let request = |name: &str, of: &str| {
            let mut request = object("cert-manager.io/v1", "CertificateRequest", name);
            request["metadata"]["annotations"] = json!({CERT_MANAGER: of});
            request
        };
        vec![
            agent("agent", "p"),
            agent("other", "q"),
            secret("tls"),
            secret("foreign"),
            helm,
            certificate,
            object("cert-manager.io/v1", "Certificate", "foreign"),
            request("own-1", "own"),
            request("foreign-1", "foreign"),
            labelled(object("v1", "Pod", "agent-1"), "of", "x"),
            event(("Pod", "agent-1"), "of-pod"),
            event(("ReplicaSet", "agent-0"), "of-set"),
            event(("Pod", "stranger"), "of-stranger"),
        ]
    }

    fn control() -> Vec<Value> {
        let mut service = object("v1", "Service", GATEWAY_SERVICE);
        service["spec"] = json!({"selector": {"app": "g"}});
        let mut about_plane = event((DEFAULT_KIND.kind, "p"), "of-plane");
        about_plane["metadata"]["namespace"] = EVENT_NAMESPACE.into();
        vec![
            service,
            secret("ca"),
            secret(GATEWAY_CA),
            object("coordination.k8s.io/v1", "Lease", plane::LEASE),
            labelled(object("v1", "Pod", "gateway-1"), "app", "g"),
            about_plane,
            event(("Pod", "cluster-gateway-1"), "of-gateway"),
            event(("Pod", "stranger"), "of-stranger"),
        ]
    }

    fn names(history: &History, side: Side) -> Vec<String> {
        let of_side = history.objects.iter().filter(|(of, _)| *of == side);
        let mut names: Vec<_> =
            of_side.map(|(_, one)| format!("{} {}", text(one, "/kind"), text(one, "/metadata/name"))).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_a_connection_depends_on_is_read_in_both_clusters_without_secrets() {
        let (control, build) = (Fake::of(control()), Fake::of(build()));
        let own = (&build.cluster(), Some("n"));
        let history = History::of(&control.cluster(), "n", Some(own), plane(in_secret())).await;
        let expected = [
            "Event of-gateway",
            "Event of-plane",
            "Lease 43500532.openchoreo.dev",
            "Pod gateway-1",
            "Secret ca",
            "Secret cluster-gateway-ca",
        ];
        assert_eq!(names(&history, Side::Control), expected);
        let expected = [
            "Certificate own",
            "CertificateRequest own-1",
            "Deployment agent",
            "Event of-pod",
            "Event of-set",
            "Pod agent-1",
            "Secret sh.helm.release.v1.a.v1",
            "Secret tls",
        ];
        assert_eq!(names(&history, Side::Build), expected);
        let data = |name: &str| {
            let (_, secret) = history.objects.iter().find(|(_, one)| one["metadata"]["name"] == name).unwrap();
            secret["data"].clone()
        };
        assert_eq!((data("tls"), data("ca")), (json!({"tls.crt": "Y2VydA=="}), json!({"ca.crt": "Y2E="})));
        assert_eq!(data("sh.helm.release.v1.a.v1"), Value::Null);
        let gone = Missing {
            side: Side::Build,
            title: "ConfigMap n/cluster-gateway-ca".into(),
            needed_by: Some("Deployment"),
        };
        assert_eq!((history.missing, history.unread.len()), (vec![gone], 0));
    }

    #[tokio::test]
    async fn what_is_missing_or_forbidden_is_reported() {
        let control = Fake::default();
        control.forbid("GET /apis/coordination.k8s.io/");
        let build = Fake::of([event(("Pod", "cluster-agent-1"), "of-former"), event(("Pod", "x"), "of-stranger")]);
        let own = (&build.cluster(), Some("n"));
        let history = History::of(&control.cluster(), "n", Some(own), plane(in_secret())).await;
        let missing: Vec<_> = history.missing.iter().map(|one| (one.title.as_str(), one.needed_by)).collect();
        let expected = [("Secret n/ca", Some(DEFAULT_KIND.kind)), ("agent of planeID p in the namespace n", None)];
        assert_eq!(missing, expected);
        assert_eq!(history.unread.iter().map(|(side, _)| *side).collect::<Vec<_>>(), [Side::Control]);
        assert_eq!(names(&history, Side::Build), ["Event of-former"]);
        let history = History::of(&control.cluster(), "n", None, plane(json!({}))).await;
        assert_eq!(history.missing[0].title, "clientCA of ClusterBuildPlane p");
        // Files that are no dump say nothing of what is not in them.
        let snapshot = Snapshot::of_files(Vec::new(), vec![agent("agent", "p")]);
        let (control, build) = (Files::control(&snapshot), Files::build(&snapshot).unwrap());
        let history = History::of(&control, "n", Some((&build, None)), plane(in_secret())).await;
        assert!(history.missing.is_empty() && names(&history, Side::Build) == ["Deployment agent"]);
    }

    #[tokio::test]
    async fn the_only_agent_is_the_plane_s_unless_it_is_another_one_s() {
        let of = async |others: Vec<Value>, agents: Vec<Value>| {
            let (control, build) = (Fake::of(others).cluster(), Fake::of(agents).cluster());
            let history = History::of(&control, "n", Some((&build, Some("n"))), plane(json!({"value": "x"}))).await;
            names(&history, Side::Build).iter().filter(|name| name.starts_with("Deployment")).count()
        };
        let taken = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": DEFAULT_KIND.kind, "metadata": {"name": "q"},
        });
        assert_eq!(of(vec![], vec![agent("a", "p"), agent("b", "p"), agent("c", "q")]).await, 2);
        assert_eq!(of(vec![], vec![agent("a", "q")]).await, 1);
        assert_eq!(of(vec![taken], vec![agent("a", "q")]).await, 0);
        assert_eq!(of(vec![], vec![agent("a", "q"), agent("b", "r")]).await, 0);
    }
}
