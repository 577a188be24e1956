//! What objects say about the past: who wrote them and when, what their pods did, and what was reported of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::entry::{Entry, Role, Type};
use crate::cluster::CONTAINER;
use crate::doctor::case::LEASE_AGE;
use crate::estate::time;
use crate::pki::Certificate;
use crate::plane::{CA_KEY, GATEWAY_CONTAINER, Plane, Side};

/// Annotation of a pod template by which `kubectl rollout restart` makes new pods.
const RESTARTED: &str = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
/// The most fields of a spec that are listed.
const FIELDS: usize = 3;

/// What a plane and the objects around it say. Where the connection is lost, the report of it is the loss itself.
pub fn entries(plane: &Plane, objects: &[(Side, Value)], now: Timestamp, is_lost: bool) -> Vec<Entry> {
    let manifest = plane.manifest();
    let of_plane = Reports { side: Side::Control, object: &manifest, now };
    let mut entries = of_plane.writes();
    entries.extend(of_plane.certificates(plane.spec.cluster_agent.client_ca.value.as_deref().unwrap_or_default()));
    entries.extend(of_plane.connection(plane, is_lost));
    let reported = objects.iter().flat_map(|(side, object)| Reports { side: *side, object, now }.all());
    entries.extend(reported);
    entries
}

/// An object that reports its past.
struct Reports<'o> {
    side: Side,
    object: &'o Value,
    now: Timestamp,
}

fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn time_at(object: &Value, pointer: &str) -> Option<Timestamp> {
    time(text(object, pointer))
}

fn items<'o>(object: &'o Value, pointer: &str) -> impl Iterator<Item = &'o Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The title of an object by its kind, namespace and name.
fn title(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

impl Reports<'_> {
    fn all(&self) -> Vec<Entry> {
        let is_release = self.object["metadata"]["labels"]["owner"] == "helm";
        match text(self.object, "/kind") {
            "Secret" if is_release => self.release().into_iter().collect(),
            "Secret" => [self.writes(), self.secret()].concat(),
            "ConfigMap" => [self.writes(), self.certificates(text(self.object, &format!("/data/{CA_KEY}")))].concat(),
            "Deployment" => [self.deployment(), self.conditions()].concat(),
            "Certificate" => [self.writes(), self.conditions()].concat(),
            "CertificateRequest" => [self.created(Role::Report).into_iter().collect(), self.conditions()].concat(),
            "Pod" => self.pod(),
            "Event" => self.event().into_iter().collect(),
            "Lease" => self.lease(),
            _ => Vec::new(),
        }
    }

    fn entry(&self, time: Option<Timestamp>, role: Role, what: Type, text_of_it: impl Into<String>) -> Option<Entry> {
        let object = self.object;
        let kind = text(object, "/kind");
        Some(Entry {
            time: Some(time?),
            side: self.side,
            kind: kind.to_owned(),
            object: title(kind, text(object, "/metadata/namespace"), text(object, "/metadata/name")),
            what,
            text: text_of_it.into(),
            by: None,
            role,
            is_loss: false,
            is_last_before_loss: false,
        })
    }

    fn created(&self, role: Role) -> Option<Entry> {
        let time = time_at(self.object, "/metadata/creationTimestamp");
        let entry = self.entry(time, role, Type::Created, "created")?;
        // In the second of its creation a controller may have set a finalizer already.
        let by = self.managed().filter(|entry| time_at(entry, "/time") == time);
        let by = by.min_by_key(|entry| parts(&entry["fieldsV1"]) == ["metadata"]);
        Some(Entry { by: by.and_then(manager), ..entry })
    }

    /// Who wrote fields, but those of the status.
    fn managed(&self) -> impl Iterator<Item = &Value> {
        let is_status = |entry: &Value| {
            let fields = entry["fieldsV1"].as_object();
            entry["subresource"] == "status" || fields.is_some_and(|fields| fields.keys().all(|key| key == "f:status"))
        };
        items(self.object, "/metadata/managedFields").filter(move |entry| !is_status(entry))
    }

    /// Its creation, the last write of each manager, and the request to delete it.
    fn writes(&self) -> Vec<Entry> {
        let created = self.created(Role::Change);
        let born = created.as_ref().and_then(|entry| entry.time);
        let creator = created.as_ref().and_then(|entry| entry.by.clone());
        let written = self.managed().filter_map(|entry| {
            let (time, by) = (time_at(entry, "/time")?, manager(entry));
            if Some(time) == born && by == creator {
                return None;
            }
            let parts = parts(&entry["fieldsV1"]);
            let role = if parts == ["metadata"] { Role::Report } else { Role::Change };
            let verb = if entry["operation"] == "Apply" { "applied" } else { "written" };
            let reported = format!("{verb}: {}", parts.join(", "));
            Some(Entry { by, ..self.entry(Some(time), role, Type::Written, reported)? })
        });
        let deleted = time_at(self.object, "/metadata/deletionTimestamp");
        let deleted = self.entry(deleted, Role::Change, Type::Deleted, "deletion requested");
        created.into_iter().chain(written).chain(deleted).collect()
    }

    /// The beginnings and the ends, up to now, of the certificates in a text.
    fn certificates(&self, pem: &str) -> Vec<Entry> {
        let of_one = |certificate: Certificate| {
            let Certificate { subject, not_before, not_after, .. } = certificate;
            let reported = |time: Timestamp| Some(time).filter(|time| *time <= self.now);
            let valid = format!("certificate {subject} is valid until {not_after}");
            let valid = self.entry(reported(not_before), Role::Report, Type::Valid, valid);
            let expired = format!("certificate {subject} expired");
            valid.into_iter().chain(self.entry(reported(not_after), Role::Change, Type::Expired, expired))
        };
        Certificate::all_in(pem).into_iter().flat_map(of_one).collect()
    }

    fn secret(&self) -> Vec<Entry> {
        let data = self.object["data"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_str);
        let decoded = data.filter_map(|text| STANDARD.decode(text).ok());
        decoded.flat_map(|bytes| self.certificates(&String::from_utf8_lossy(&bytes))).collect()
    }

    /// A revision of a Helm release, by the labels of its Secret.
    fn release(&self) -> Option<Entry> {
        let label = |name: &str| text(self.object, &format!("/metadata/labels/{name}"));
        let created = self.created(Role::Change)?;
        let object = title("Helm release", text(self.object, "/metadata/namespace"), label("name"));
        let text = format!("revision {} ({})", label("version"), label("status"));
        Some(Entry { object, what: Type::Release, text, ..created })
    }

    /// Its writes, and the restart of its pods, which is a part of the write that asked for it.
    fn deployment(&self) -> Vec<Entry> {
        let mut entries = self.writes();
        let Some(restarted) = time_at(self.object, RESTARTED) else {
            return entries;
        };
        let is_same = |entry: &&mut Entry| {
            let apart = entry.time.map(|time| time.duration_since(restarted).as_secs().abs());
            entry.what == Type::Written && apart.is_some_and(|seconds| seconds <= 1)
        };
        match entries.iter_mut().find(is_same) {
            Some(write) => (write.what, write.text) = (Type::Restarted, format!("{}; restart requested", write.text)),
            None => {
                entries.extend(self.entry(Some(restarted), Role::Change, Type::Restarted, "restart requested"));
            }
        }
        entries
    }

    fn conditions(&self) -> Vec<Entry> {
        let of_one = |condition: &Value| {
            let changed = time_at(condition, "/lastUpdateTime").or_else(|| time_at(condition, "/lastTransitionTime"));
            let [kind, status, reason, message] =
                ["/type", "/status", "/reason", "/message"].map(|field| text(condition, field));
            let reported = if message.is_empty() { reason } else { message };
            self.entry(changed, Role::Report, Type::Condition, format!("{kind} is {status}: {reported}"))
        };
        items(self.object, "/status/conditions").filter_map(of_one).collect()
    }

    /// The creation of a pod, and the starts and ends of its program that are known.
    fn pod(&self) -> Vec<Entry> {
        let is_known = |status: &&Value| status["name"] == CONTAINER || status["name"] == GATEWAY_CONTAINER;
        let statuses: Vec<_> = items(self.object, "/status/containerStatuses").filter(is_known).collect();
        let waiting = statuses.iter().map(|status| text(status, "/state/waiting/reason")).find(|why| !why.is_empty());
        let mut entries: Vec<_> = self.created(Role::Process).into_iter().collect();
        for entry in &mut entries {
            entry.by = None;
            entry.text.extend(waiting.map(|why| format!(", now waiting: {why}")));
        }
        for status in statuses {
            let name = text(status, "/name");
            let mut start = |time: Option<Timestamp>| {
                let started = format!("container {name} started");
                entries.extend(self.entry(time, Role::Process, Type::Started, started));
            };
            start(time_at(status, "/state/running/startedAt"));
            let ends = ["/state/terminated", "/lastState/terminated"].into_iter().filter_map(|at| status.pointer(at));
            let ends: Vec<_> = ends.collect();
            ends.iter().for_each(|end| start(time_at(end, "/startedAt")));
            for end in ends {
                let reason = text(end, "/reason");
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                let ended = format!("container {name} ended with exit code {}{reason}", end["exitCode"]);
                entries.extend(self.entry(time_at(end, "/finishedAt"), Role::Process, Type::Ended, ended));
            }
        }
        entries
    }

    fn event(&self) -> Option<Entry> {
        let event = self.object;
        let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"];
        let last = times.into_iter().find_map(|at| time_at(event, at));
        let last = last.or_else(|| time_at(event, "/metadata/creationTimestamp"));
        let times = event["count"].as_i64().filter(|count| *count > 1).map(|count| format!(" ({count} times)"));
        let reported = format!("{}: {}{}", text(event, "/reason"), text(event, "/message"), times.unwrap_or_default());
        let by = ["/source/component", "/reportingComponent"].map(|field| text(event, field));
        let by = by.into_iter().find(|by| !by.is_empty()).map(str::to_owned);
        let [kind, namespace, name] =
            ["kind", "namespace", "name"].map(|field| text(&event["involvedObject"], &format!("/{field}")));
        let object = title(kind, namespace, name);
        Some(Entry { object, by, ..self.entry(last, Role::Report, Type::Event, reported)? })
    }

    /// When the controller acquired its lease, and last renewed it; it stopped then, if that is long ago.
    fn lease(&self) -> Vec<Entry> {
        let renewed = time_at(self.object, "/spec/renewTime");
        let is_old = renewed.is_some_and(|renewed| self.now.duration_since(renewed).as_secs() > LEASE_AGE);
        let role = if is_old { Role::Process } else { Role::Report };
        let reported = if is_old { "the controller renewed it for the last time" } else { "renewed by the controller" };
        let acquired = time_at(self.object, "/spec/acquireTime");
        let acquired = self.entry(acquired, Role::Process, Type::Lease, "acquired by the controller");
        let renewed = self.entry(renewed, role, Type::Lease, reported);
        let holder = Some(text(self.object, "/spec/holderIdentity")).filter(|holder| !holder.is_empty());
        let by = |entry| Entry { by: holder.map(str::to_owned), ..entry };
        acquired.into_iter().chain(renewed).map(by).collect()
    }

    /// What the controller reported of a plane's connection.
    fn connection(&self, plane: &Plane, is_lost: bool) -> Vec<Entry> {
        let mut entries = self.conditions();
        let Some(connection) = plane.connection() else {
            return entries;
        };
        let is_reported = is_lost && !connection.connected;
        let message = connection.message.as_deref().filter(|message| !message.is_empty());
        let now = message.map(|message| format!(": {message}")).unwrap_or_default();
        let (connected, disconnected) = if connection.connected { (now.as_str(), "") } else { ("", now.as_str()) };
        let reported = [
            (connection.last_connected_time, Type::Connected, format!("reported as connected{connected}"), false),
            (
                connection.last_disconnected_time,
                Type::Disconnected,
                format!("reported as disconnected{disconnected}"),
                is_reported,
            ),
            (connection.last_heartbeat_time, Type::Heartbeat, "last heartbeat".into(), is_lost && connection.connected),
        ];
        for (time, what, reported, is_loss) in reported {
            let entry = self.entry(time, Role::Report, what, reported);
            entries.extend(entry.map(|entry| Entry { is_loss, ..entry }));
        }
        entries
    }
}

fn manager(entry: &Value) -> Option<String> {
    entry["manager"].as_str().map(str::to_owned)
}

/// The parts of an object that a manager owns, by its fields in FieldsV1.
fn parts(fields: &Value) -> Vec<String> {
    let names = |value: &Value| -> Vec<String> {
        let keys = value.as_object().into_iter().flat_map(Map::keys);
        keys.filter_map(|key| key.strip_prefix("f:")).map(str::to_owned).collect()
    };
    let mut parts = Vec::new();
    for part in names(fields).into_iter().filter(|part| part != "status") {
        let below = &fields[format!("f:{part}")];
        let inside = names(below);
        match part.as_str() {
            "spec" if (1..=FIELDS).contains(&inside.len()) => parts.extend(inside.iter().map(|field| {
                let is_ca = field == "clusterAgent" && !below["f:clusterAgent"]["f:clientCA"].is_null();
                format!("spec.{field}{}", if is_ca { ".clientCA" } else { "" })
            })),
            _ => parts.push(part),
        }
    }
    parts
}
