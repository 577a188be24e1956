//! The cluster gateway as the control plane's cluster runs it: its Services, its pods with their arguments, and what their
//! logs report connections.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::issuance::condition;
use super::objects::{Collection, ObjectRef, POD, SERVICE};
use super::source::{Source, text};
use super::unavailable::{Unavailable, or_none};
use crate::plane::{GATEWAY_CONTAINER, GATEWAY_EXTERNAL, GATEWAY_SERVICE, NamespacedName, Plane, Release};

/// The Service's port of the API for planes, from v1.0.2 and v1.1.2 on.
const API: &str = "internal-api";
/// How many lines of a pod's log are read: what concerns connections is rare among them.
const LINES: i64 = 2000;

/// The gateway's Services and the pods behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployedGateway {
    /// The pods' labels, as `-l` takes them.
    pub selector: String,
    /// The names of those that are ready.
    pub ready: Vec<String>,
    /// The port of its API, where that is not the agents'.
    pub api_port: Option<u16>,
    /// Whether agents of other clusters have a Service of their own, as from v1.2.0 on.
    pub has_external: bool,
    /// The Services that can be reached from outside of the cluster.
    pub published: Vec<Published>,
    /// The release of its chart, by the Service's label.
    pub release: Option<Release>,
    /// None where no pod of it is known.
    pub arguments: Option<Arguments>,
}

/// A Service that can be reached from outside of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub name: &'static str,
    /// `LoadBalancer` or `NodePort`.
    pub by: String,
    /// Whether the API's own port is among its ports.
    pub has_api: bool,
}

/// How the gateway was started, as far as that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Whether its API demands a client certificate, of a CA of its own.
    pub is_mutual: bool,
    /// The header out of which it takes agents' certificates, where it ignores those of the TLS handshake (v1.2.4 and
    /// later).
    pub header: Option<String>,
}

/// The header, where the gateway's arguments name none.
const HEADER: &str = "X-Forwarded-Client-Cert";

impl Arguments {
    fn of(words: &[&str]) -> Self {
        let value = |name: &str| {
            let found = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
                "" => words.get(at + 1).copied(),
                rest => rest.strip_prefix('='),
            });
            found.filter(|value| !value.is_empty())
        };
        let is_forwarded = value("--agent-auth-mode") == Some("forwarded-header");
        let header = value("--forwarded-header-name").unwrap_or(HEADER);
        Self {
            is_mutual: value("--internal-client-ca-cert").is_some() && value("--internal-mtls") != Some("false"),
            header: is_forwarded.then(|| header.to_owned()),
        }
    }

    /// Of a gateway's pod.
    fn of_pod(pod: &Value) -> Option<Self> {
        let containers = pod["spec"]["containers"].as_array()?;
        let container = containers.iter().find(|container| container["name"] == GATEWAY_CONTAINER)?;
        let words = ["command", "args"].into_iter().flat_map(|field| container[field].as_array().into_iter().flatten());
        Some(Self::of(&words.filter_map(Value::as_str).collect::<Vec<_>>()))
    }
}

impl DeployedGateway {
    /// The gateway in a namespace; none where it has no Service there.
    pub async fn of(source: &impl Source, namespace: &str) -> Result<Option<Self>, Unavailable> {
        let service = async |name: &'static str| {
            let of = NamespacedName { namespace: namespace.into(), name: name.into() };
            or_none(source.get(&ObjectRef::named(SERVICE, &of)).await)
        };
        let (own, external) = tokio::join!(service(GATEWAY_SERVICE), service(GATEWAY_EXTERNAL));
        let Some(own) = own? else {
            return Ok(None);
        };
        // Files that are no dump need not have the second one.
        let external = external.ok().flatten();
        let labels = own["spec"]["selector"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        let selector = labels.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",");
        // A Service without a selector has no pods of its own.
        let pods = if selector.is_empty() {
            Vec::new()
        } else {
            let pods = Collection::of(POD, Some(namespace)).labelled(&selector);
            let known =
                |pod: &Value| Some((is_ready(pod), text(pod, "/metadata/name").to_owned(), Arguments::of_pod(pod)));
            source.list(&pods, known).await?
        };
        let api = ports(&own).find(|port| port["name"] == API).and_then(|port| port["port"].as_u64());
        let published = [(GATEWAY_SERVICE, Some(&own)), (GATEWAY_EXTERNAL, external.as_ref())];
        let published = published.into_iter().filter_map(|(name, service)| Published::of(name, service?));
        Ok(Some(Self {
            selector,
            api_port: api.and_then(|port| port.try_into().ok()),
            has_external: external.is_some(),
            published: published.collect(),
            release: own["metadata"]["labels"]["app.kubernetes.io/version"].as_str().and_then(|text| text.parse().ok()),
            arguments: pods.iter().find_map(|(.., arguments)| arguments.clone()),
            ready: pods.into_iter().filter(|(is_ready, ..)| *is_ready).map(|(_, name, _)| name).collect(),
        }))
    }

    /// The Service that agents of other clusters reach.
    pub fn service(&self) -> &'static str {
        if self.has_external { GATEWAY_EXTERNAL } else { GATEWAY_SERVICE }
    }
}

impl Published {
    fn of(name: &'static str, service: &Value) -> Option<Self> {
        let by = text(service, "/spec/type");
        matches!(by, "LoadBalancer" | "NodePort").then(|| Self {
            name,
            by: by.to_owned(),
            has_api: ports(service).any(|port| port["name"] == API),
        })
    }
}

fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    service["spec"]["ports"].as_array().into_iter().flatten()
}

fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// The connections in the gateway's logs.
#[derive(Clone, Debug, Default)]
pub struct GatewayLog(HashMap<String, Connection>);

#[derive(Clone, Debug)]
struct Connection {
    plane_type: String,
    plane_id: String,
    /// The planes that authorize its agent, as the gateway calls them: `NAMESPACE/NAME`, or `/NAME`.
    planes: BTreeSet<String>,
}

/// What the gateway logs of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Begins,
    Ends,
    Granted,
    Revoked,
}

static WORDS: &[(&str, Word)] = &[
    ("agent connected successfully", Word::Begins),
    ("agent unregistered", Word::Ends),
    ("disconnecting agent due to CR change", Word::Ends),
    ("CR authorization granted to connection", Word::Granted),
    ("CR authorization revoked from connection", Word::Revoked),
];

/// A line of the log, where it is about a connection.
fn understood(line: &str) -> Option<(Word, Value)> {
    let (_, word) = WORDS.iter().find(|(message, _)| line.contains(message))?;
    let fields: Value = serde_json::from_str(line).ok()?;
    fields["connectionID"].is_string().then_some((*word, fields))
}

impl GatewayLog {
    /// Reads the logs of the gateway's pods.
    pub async fn of(source: &impl Source, namespace: &str, gateway: &DeployedGateway) -> Result<Self, Unavailable> {
        let log = async |pod: &String| {
            let pod = NamespacedName { namespace: namespace.into(), name: pod.clone() };
            source.log(&pod, GATEWAY_CONTAINER, LINES).await
        };
        let logs = join_all(gateway.ready.iter().map(log)).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of_text(&logs.join("\n")))
    }

    fn of_text(text: &str) -> Self {
        let mut connections = HashMap::new();
        for (word, fields) in text.lines().filter_map(understood) {
            let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            let id = field("connectionID");
            match word {
                Word::Begins => {
                    let planes = fields["validCRs"].as_array().into_iter().flatten();
                    let planes = planes.filter_map(Value::as_str).map(str::to_owned).collect();
                    let connection = Connection { plane_type: field("planeType"), plane_id: field("planeID"), planes };
                    connections.insert(id, connection);
                }
                Word::Ends => drop(connections.remove(&id)),
                Word::Granted => drop(connections.get_mut(&id).map(|known| known.planes.insert(field("cr")))),
                Word::Revoked => drop(connections.get_mut(&id).map(|known| known.planes.remove(&field("cr")))),
            }
        }
        Self(connections)
    }

    /// How many agents are connected that a plane authorizes; none where the logs don't have all of the planeID's
    /// connections: their beginning is not kept for ever.
    pub fn authorized(&self, plane: &Plane) -> Option<usize> {
        let of_id = |known: &&Connection| {
            known.plane_type == plane.kind.family.plane_type && known.plane_id == plane.plane_id()
        };
        let known: Vec<_> = self.0.values().filter(of_id).collect();
        let reported = plane.connection().map_or(0, |connection| connection.connected_agents);
        let key = format!("{}/{}", plane.metadata.namespace.as_deref().unwrap_or_default(), plane.name());
        let is_whole = reported > 0 && i64::try_from(known.len()).is_ok_and(|count| count >= reported);
        is_whole.then(|| known.iter().filter(|known| known.planes.contains(&key)).count())
    }

    /// What a dump keeps of a line; none where it is not about a connection.
    pub fn kept(line: &str) -> Option<String> {
        let (_, mut fields) = understood(line)?;
        let known = ["time", "msg", "connectionID", "planeType", "planeID", "validCRs", "cr"];
        fields.as_object_mut()?.retain(|name, _| known.contains(&name.as_str()));
        Some(json!(fields).to_string())
    }
}

/// Which lines of the gateway's logs are about a plane: by its planeID, by what the gateway calls it, and by connections
/// that are known to be its agent's.
#[derive(Clone, Debug)]
pub struct GatewayLines {
    plane_type: &'static str,
    plane_id: String,
    namespace: String,
    name: String,
    connections: HashSet<String>,
}

impl GatewayLines {
    pub fn about(plane: &Plane) -> Self {
        Self {
            plane_type: plane.kind.family.plane_type,
            plane_id: plane.plane_id().to_owned(),
            namespace: plane.metadata.namespace.clone().unwrap_or_default(),
            name: plane.name().to_owned(),
            connections: HashSet::new(),
        }
    }

    /// Whether a line is; of lines in the order of the log.
    pub fn have(&mut self, line: &str) -> bool {
        let Ok(fields) = serde_json::from_str::<Value>(line) else {
            return false;
        };
        let text = |name: &str| fields[name].as_str();
        if text("planeType").is_some_and(|plane_type| plane_type != self.plane_type) {
            return false;
        }
        let key = format!("{}/{}", self.namespace, self.name);
        let is_key = |value: &Value| value.as_str() == Some(&key);
        let identifier = format!("{}/{}", self.plane_type, self.plane_id);
        let is_of_id = text("planeID") == Some(&self.plane_id) || text("planeIdentifier") == Some(&identifier);
        let connection = text("connectionID");
        if let Some(connection) = connection.filter(|_| is_of_id) {
            self.connections.insert(connection.to_owned());
        }
        // Planes of several plane types may have one name.
        let is_of_type = fields["planeType"].is_string();
        is_of_id
            || connection.is_some_and(|connection| self.connections.contains(connection))
            || is_of_type && fields["validCRs"].as_array().into_iter().flatten().chain([&fields["cr"]]).any(is_key)
            || is_of_type && text("name") == Some(&self.name) && text("namespace") == Some(&self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::estate::Files;
    use crate::plane::{DUMPED, Kind, Snapshot};

    fn dumped(objects: &[Value]) -> Snapshot {
        let metadata = json!({"name": "a", "annotations": {DUMPED: "2026-01-01T00:00:00Z"}});
        Snapshot::of_files(vec![serde_json::from_value(json!({"metadata": metadata})).unwrap()], objects.to_vec())
    }

    fn pod(name: &str, app: &str, ready: &str) -> Value {
        let arguments = ["--port=8443", "--internal-mtls=true", "--internal-client-ca-cert=/internal-ca/ca.crt"];
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": GATEWAY_CONTAINER, "args": arguments}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn service(name: &str, kind: &str, ports: &[(&str, u16)]) -> Value {
        let ports: Vec<_> = ports.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "n", "name": name, "labels": {"app.kubernetes.io/version": "v1.2.3"}},
            "spec": {"type": kind, "selector": {"app": "g"}, "ports": ports},
        })
    }

    #[tokio::test]
    async fn the_gateway_s_services_and_its_ready_pods_are_read() {
        let objects = [
            service(GATEWAY_SERVICE, "ClusterIP", &[("websocket", 8443), (API, 8444)]),
            service(GATEWAY_EXTERNAL, "LoadBalancer", &[("websocket", 8443)]),
            pod("a", "g", "True"),
            pod("b", "g", "False"),
            pod("c", "other", "True"),
        ];
        let snapshot = dumped(&objects);
        let expected = DeployedGateway {
            selector: "app=g".into(),
            ready: vec!["a".into()],
            api_port: Some(8444),
            has_external: true,
            published: vec![Published { name: GATEWAY_EXTERNAL, by: "LoadBalancer".into(), has_api: false }],
            release: Some(Release::V1),
            arguments: Some(Arguments { is_mutual: true, header: None }),
        };
        assert_eq!(DeployedGateway::of(&Fake::of(objects).cluster(), "n").await, Ok(Some(expected.clone())));
        assert_eq!(DeployedGateway::of(&Files::control(&snapshot), "n").await, Ok(Some(expected.clone())));
        assert_eq!(expected.service(), GATEWAY_EXTERNAL);
        assert_eq!(DeployedGateway::of(&Files::control(&dumped(&[])), "n").await, Ok(None));
        let why = DeployedGateway::of(&Files::control(&Snapshot::default()), "n").await.unwrap_err();
        assert_eq!(why.message, "the gateway's Service n/cluster-gateway is not in the files");
    }

    #[test]
    fn arguments_tell_who_is_authenticated_and_how() {
        let mutual = |words: &[&str]| Arguments::of(words).is_mutual;
        assert!(mutual(&["--internal-client-ca-cert=/ca.crt"]) && mutual(&["--internal-client-ca-cert", "/ca.crt"]));
        assert!(!mutual(&["--internal-mtls=false", "--internal-client-ca-cert=/ca.crt"]) && !mutual(&["--port=8443"]));
        assert!(!mutual(&["--internal-mtls=true"]), "without a CA nobody is verified");
        let header = |words: &[&str]| Arguments::of(words).header;
        assert_eq!(header(&["--agent-auth-mode=forwarded-header"]).as_deref(), Some(HEADER));
        let named = ["--agent-auth-mode=forwarded-header", "--forwarded-header-name=X-Amzn-Mtls-Clientcert"];
        assert_eq!(header(&named).as_deref(), Some("X-Amzn-Mtls-Clientcert"));
        assert_eq!(header(&["--agent-auth-mode=mtls"]), None);
    }

    #[test]
    fn the_log_says_whose_agents_are_connected() {
        let begins = |id: &str, planes: &[&str]| {
            let mut fields = json!({"msg": "agent connected successfully", "planeType": "dataplane", "planeID": "x"});
            (fields["connectionID"], fields["validCRs"], fields["clientCN"]) =
                (id.into(), json!(planes), "secret".into());
            fields.to_string()
        };
        let of =
            |message: &str, id: &str, plane: &str| json!({"msg": message, "connectionID": id, "cr": plane}).to_string();
        let plane = |word: &str, namespace: Option<&str>, reported: i64| {
            let mut plane: Plane = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": namespace}, "spec": {"planeID": "x"},
                "status": {"agentConnection": {"connected": true, "connectedAgents": reported}},
            }))
            .unwrap();
            plane.kind = Kind::of_word(word).unwrap();
            plane
        };
        let (own, other) = (plane("cdp", None, 2), plane("dp", Some("n"), 1));
        let mut lines =
            vec!["no JSON".to_owned(), begins("1", &["/p", "n/p"]), begins("2", &["/p"]), begins("3", &["/p"])];
        lines.push(of("agent unregistered", "3", ""));
        let reported = |lines: &[String], plane: &Plane| GatewayLog::of_text(&lines.join("\n")).authorized(plane);
        assert_eq!((reported(&lines, &own), reported(&lines, &other)), (Some(2), Some(1)));
        // Another type's plane of the same planeID, and a log that does not go back far enough.
        assert_eq!((reported(&lines, &plane("cwp", None, 1)), reported(&lines[2..], &own)), (None, None));
        lines.push(of("CR authorization revoked from connection", "1", "/p"));
        assert_eq!(reported(&lines, &own), Some(1));
        lines.push(of("CR authorization granted to connection", "1", "/p"));
        assert_eq!(reported(&lines, &own), Some(2));
        // A dump keeps no more than that.
        let kept: Vec<_> = lines.iter().filter_map(|line| GatewayLog::kept(line)).collect();
        assert!(kept.len() == lines.len() - 1 && !kept.concat().contains("secret"), "{kept:?}");
        assert_eq!(reported(&kept, &own), Some(2));
    }

    #[test]
    fn lines_about_a_plane_are_reported_from_those_about_others() {
        let mut plane: Plane =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"planeID": "x"}})).unwrap();
        plane.kind = Kind::of_word("cdp").unwrap();
        let mut lines = GatewayLines::about(&plane);
        let granted = json!({"msg": "CR authorization granted to connection", "connectionID": "1", "cr": "/p"});
        for (line, expected) in [
            (granted.clone(), false),
            (json!({"planeType": "dataplane", "planeID": "x", "connectionID": "1"}), true),
            (granted, true),
            (json!({"planeIdentifier": "dataplane/x", "connectionID": "2"}), true),
            (json!({"planeIdentifier": "dataplane/xy", "connectionID": "3"}), false),
            (json!({"planeType": "workflowplane", "planeID": "x"}), false),
            (json!({"planeType": "dataplane", "planeID": "y", "validCRs": ["n/p"]}), false),
            (json!({"planeType": "dataplane", "namespace": "", "name": "p"}), true),
            (json!({"planeType": "dataplane", "namespace": "n", "name": "p"}), false),
            (json!({"planeType": "dataplane", "cr": "/p"}), true),
            (json!({"msg": "server started"}), false),
        ] {
            assert_eq!(lines.have(&line.to_string()), expected, "{line}");
        }
        assert!(!lines.have("panic: x"));
    }
}
