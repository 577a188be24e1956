//! The facts around planes, from a cluster or from the objects of files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use serde_json::Value;

use super::dump::Absent;
use super::neighbours::{Few, Neighbours};
use crate::cluster::{Cluster, Error, PlaneEvent};
use crate::pki::{self, BundleError, Certificate, Reason, Refusal, Verdict};
use crate::plane::{CaSecret, OBSERVABILITY_KIND, Plane, Side, Snapshot};
use crate::text::visible;

/// How many requests run at once.
pub(super) const AT_ONCE: usize = 16;

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For a table's cell.
    pub word: &'static str,
    pub text: String,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        Self { word: error.word(), text: error.to_string() }
    }
}

/// The CA that a plane names.
#[derive(Clone, Debug)]
pub struct ClientCa {
    /// `value`, `secret/NAMESPACE/NAME:KEY` or `none`.
    pub source: String,
    /// As it stands there.
    pub text: Result<String, Problem>,
    /// Read out of the text when they are asked for: a verdict doesn't need them.
    certificates: OnceLock<Result<Vec<Certificate>, Problem>>,
}

impl ClientCa {
    pub fn new(source: String, bytes: Result<Vec<u8>, Problem>) -> Self {
        let text = bytes.map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        });
        Self { source, text, certificates: OnceLock::new() }
    }

    pub fn certificates(&self) -> &Result<Vec<Certificate>, Problem> {
        let read = || self.text.as_ref().map_err(Problem::clone).and_then(|text| certificates_of(text.as_bytes()));
        self.certificates.get_or_init(read)
    }

    /// With other certificates than its text has.
    #[cfg(test)]
    pub fn holding(mut self, certificates: Result<Vec<Certificate>, Problem>) -> Self {
        self.certificates = certificates.into();
        self
    }

    /// The gateway's verdict on what an agent presents, for the plane of this CA.
    pub fn verdict(&self, presented: &[Vec<u8>], at: Timestamp) -> Verdict {
        match &self.text {
            Ok(text) => pki::verify(presented, text, at),
            // A plane whose CA can't be read is skipped; whether it can be is not known to one who may not look.
            Err(problem) if matches!(problem.word, "missing" | "invalid") => {
                let message = format!("the gateway can't read the plane's CA: {}", problem.text);
                Verdict::Refused(Refusal { reason: Reason::CaUnreadable, message })
            }
            Err(problem) => Verdict::Unknown(format!("the plane's CA can't be read: {}", problem.text)),
        }
    }

    /// The first of its certificates to end.
    pub fn expires(&self) -> Option<Timestamp> {
        self.certificates().as_ref().ok()?.iter().map(|certificate| certificate.not_after).min()
    }
}

/// All that is known of one plane.
#[derive(Clone, Debug)]
pub struct Facts {
    pub plane: Plane,
    pub client_ca: ClientCa,
    /// The other planes of the same planeID; a problem where they could not be listed.
    pub shares_plane_id_with: Result<Vec<String>, Problem>,
    /// Planes of other planeIDs that have the same CA, as far as they are known.
    pub same_ca: Few,
    /// Whether the observability plane exists.
    pub observability_exists: Result<bool, Problem>,
    pub events: Result<Vec<PlaneEvent>, Problem>,
    pub now: Timestamp,
}

impl Facts {
    /// Of a plane that can't be read, for one and the same reason.
    pub fn unread(plane: Plane, problem: &Problem, now: Timestamp) -> Self {
        Self {
            client_ca: ClientCa::new("unknown".into(), Err(problem.clone())),
            shares_plane_id_with: Err(problem.clone()),
            same_ca: Few::default(),
            observability_exists: Err(problem.clone()),
            events: Err(problem.clone()),
            now,
            plane,
        }
    }
}

/// Where a plane says that its CA is.
pub enum CaPlace {
    Value(String),
    Secret(CaSecret),
    Unusable(String, Problem),
}

/// Where a plane's CA is, by its spec alone.
pub fn ca_place(plane: &Plane) -> CaPlace {
    let ca = &plane.spec.cluster_agent.client_ca;
    if let Some(value) = ca.value.as_ref().filter(|value| !value.is_empty()) {
        return CaPlace::Value(value.clone());
    }
    let Some(secret) = &ca.secret_ref else {
        return CaPlace::Unusable("none".into(), Problem { word: "missing", text: "the plane names no CA".into() });
    };
    let source = format!("secret/{}/{}:{}", secret.namespace.as_deref().unwrap_or_default(), secret.name, secret.key);
    match source.trim_start_matches("secret/").parse() {
        Ok(secret) => CaPlace::Secret(secret),
        Err(_) => {
            let text = match &secret.namespace {
                None => "its secretRef has no namespace",
                Some(_) => "its secretRef can't name a Secret",
            };
            CaPlace::Unusable(source, Problem { word: "invalid", text: text.into() })
        }
    }
}

/// The certificates in a CA's bytes.
pub fn certificates_of(bytes: &[u8]) -> Result<Vec<Certificate>, Problem> {
    let text = String::from_utf8_lossy(bytes);
    let found = Certificate::all_in(&text);
    if !found.is_empty() {
        return Ok(found);
    }
    let text = match pki::bundle(bytes) {
        Ok(_) => "it is not raw PEM, and the gateway understands nothing else".into(),
        Err(BundleError::Broken(_)) => "its certificates can't be parsed".into(),
        Err(error) => error.to_string(),
    };
    Err(Problem { word: "invalid", text })
}

/// The CAs of planes, in their order. Each Secret is read once.
pub async fn client_cas(cluster: &Cluster, planes: &[Plane]) -> Vec<ClientCa> {
    let places: Vec<_> = planes.iter().map(ca_place).collect();
    let secrets: BTreeSet<CaSecret> = places
        .iter()
        .filter_map(|place| if let CaPlace::Secret(secret) = place { Some(secret.clone()) } else { None })
        .collect();
    let read = stream::iter(secrets).map(|secret| async move {
        let bytes = cluster.secret_keys(&secret.secret, &[&secret.key]).await;
        (secret, bytes.map(|bytes| bytes.concat()).map_err(|error| Problem::from(&error)))
    });
    let read: BTreeMap<_, _> = read.buffer_unordered(AT_ONCE).collect().await;
    places.into_iter().map(|place| client_ca(place, |secret| read.get(secret).cloned())).collect()
}

/// The CAs of planes out of files, from Secrets in the same files.
pub fn client_cas_of_files(snapshot: &Snapshot) -> Vec<ClientCa> {
    let absent = Absent::new(snapshot, Side::Control);
    let secret = |secret: &CaSecret| {
        let name = &secret.secret;
        let Some(object) = snapshot.related(Side::Control, "Secret", Some(&name.namespace), &name.name) else {
            return Some(Err(absent.secret(name)));
        };
        let encoded = object.get("data").and_then(|data| data.get(&secret.key)).and_then(Value::as_str);
        let plain = object.get("stringData").and_then(|data| data.get(&secret.key)).and_then(Value::as_str);
        let bytes = plain.map(|text| text.as_bytes().to_vec()).or_else(|| STANDARD.decode(encoded?).ok());
        Some(bytes.ok_or_else(|| Problem {
            word: "missing",
            text: format!("Secret {} in the files has no key {}", secret.secret, visible(&secret.key)),
        }))
    };
    snapshot.planes.iter().map(|plane| client_ca(ca_place(plane), secret)).collect()
}

fn client_ca(place: CaPlace, read: impl Fn(&CaSecret) -> Option<Result<Vec<u8>, Problem>>) -> ClientCa {
    match place {
        CaPlace::Value(value) => ClientCa::new("value".into(), Ok(value.into_bytes())),
        CaPlace::Unusable(source, problem) => ClientCa::new(source, Err(problem)),
        CaPlace::Secret(secret) => {
            let absent = || Err(Problem { word: "unknown", text: "the Secret is not in the files".into() });
            ClientCa::new(format!("secret/{secret}"), read(&secret).unwrap_or_else(absent))
        }
    }
}

/// The facts of planes in a cluster.
pub async fn facts(cluster: &Cluster, planes: Vec<Plane>) -> Vec<Facts> {
    let all = cluster.planes::<Plane>(None).await;
    let cas = client_cas(cluster, &planes).await;
    let now = cluster.now();
    let known = known_cas(&planes, &cas);
    // The Secrets of planes that are not shown are not read.
    let others: Vec<_> =
        all.as_deref().unwrap_or_default().iter().map(|plane| (plane, known_ca(plane, &known))).collect();
    let neighbours = Neighbours::new(others.iter().map(|(plane, ca)| (*plane, ca)));
    let shares = |plane: &Plane| all.as_ref().map(|_| neighbours.sharing(plane)).map_err(Problem::from);
    let gathered = stream::iter(planes.iter().cloned().zip(cas.iter().cloned())).map(|(plane, client_ca)| async {
        let (observability, events) =
            tokio::join!(cluster.has_observability_plane(plane.observability_plane()), cluster.events(plane.name()));
        Facts {
            same_ca: neighbours.same_ca(&plane, &client_ca),
            client_ca,
            shares_plane_id_with: shares(&plane),
            observability_exists: observability.map_err(|error| Problem::from(&error)),
            events: events.map_err(|error| Problem::from(&error)),
            now,
            plane,
        }
    });
    gathered.buffered(AT_ONCE).collect().await
}

/// The CAs of Secrets that were read for planes.
fn known_cas(planes: &[Plane], cas: &[ClientCa]) -> BTreeMap<CaSecret, ClientCa> {
    let secret = |(plane, ca): (&Plane, &ClientCa)| match ca_place(plane) {
        CaPlace::Secret(secret) => Some((secret, ca.clone())),
        _ => None,
    };
    planes.iter().zip(cas).filter_map(secret).collect()
}

/// The CA of a plane, as far as it is known without a request.
fn known_ca(plane: &Plane, known: &BTreeMap<CaSecret, ClientCa>) -> ClientCa {
    client_ca(ca_place(plane), |secret| known.get(secret).map(|ca| ca.text.clone().map(String::into_bytes)))
}

/// The facts of planes out of files, as far as these tell. `planes` are those to be shown.
pub fn facts_of_files(snapshot: &Snapshot, planes: &BTreeSet<String>) -> Vec<Facts> {
    let unknown = || Problem { word: "unknown", text: "unknown: not in the files".into() };
    let absent = Absent::new(snapshot, Side::Control);
    let cas = client_cas_of_files(snapshot);
    let neighbours = Neighbours::new(snapshot.planes.iter().zip(&cas));
    let shown = snapshot.planes.iter().zip(&cas).filter(|(plane, _)| planes.contains(plane.name()));
    let facts = shown.map(|(plane, client_ca)| Facts {
        client_ca: client_ca.clone(),
        shares_plane_id_with: Ok(neighbours.sharing(plane)),
        same_ca: neighbours.same_ca(plane, client_ca),
        observability_exists: match snapshot.related(
            Side::Control,
            OBSERVABILITY_KIND,
            None,
            plane.observability_plane(),
        ) {
            Some(_) => Ok(true),
            None => match absent.observability(plane.observability_plane()) {
                problem if problem.word == "missing" => Ok(false),
                problem if problem.word == "forbidden" => Err(problem),
                _ => Err(unknown()),
            },
        },
        events: events_of_files(snapshot, plane.name()).ok_or_else(unknown),
        now: snapshot.now,
        plane: plane.clone(),
    });
    facts.collect()
}

fn events_of_files(snapshot: &Snapshot, plane: &str) -> Option<Vec<PlaneEvent>> {
    let text =
        |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let events = snapshot
        .related
        .iter()
        .filter(|object| text(object, "/kind") == "Event" && text(object, "/involvedObject/name") == plane);
    let events: Vec<_> = events
        .map(|event| PlaneEvent {
            kind: text(event, "/type"),
            reason: text(event, "/reason"),
            message: text(event, "/message"),
            last: text(event, "/lastTimestamp").parse().ok(),
            count: event["count"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(1),
        })
        .collect();
    (!events.is_empty()).then_some(events)
}
