//! Notes on a plane: what looks wrong. Remarks: what only looks wrong, or is left to a default. Both as tables over the
//! facts.

use std::cell::LazyCell;

use serde::Serialize;

use super::deletion::held;
use crate::estate::Facts;
use crate::pki::{Defect, DefectKind, SOON};
use crate::plane::{CONTROL_NAMESPACE, DEFAULT_OBSERVABILITY, Plane, ROTATION, Release, Scope, State};
use crate::text::visible;
use crate::validate;

/// A heartbeat from further in the future than this is a clock that is wrong, not one that is a little ahead.
const AHEAD_SECONDS: i64 = 60;

/// A remark with a stable id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub id: &'static str,
    pub text: String,
}

impl Note {
    pub fn new(id: &'static str, text: impl Into<String>) -> Self {
        Self { id, text: text.into() }
    }
}

/// One thing to look for.
pub struct Noted {
    pub id: &'static str,
    /// Why it matters.
    pub why: &'static str,
    check: Check,
}

/// What a note is of: something about the plane, or a kind of defect of its CA.
enum Check {
    Facts(fn(&Facts) -> Option<String>),
    Ca(DefectKind),
}

macro_rules! noted {
    ($($id:expr, $of:ident($check:expr), $why:literal;)*) => { &[$(Noted { id: $id, why: $why, check: Check::$of($check) }),*] };
}

/// Faults, the most pressing first.
pub static NOTES: &[Noted] = noted![
    "deletion-held", Facts(deletion_held), "The controller removes the plane's finalizer after the gateway has answered; while one of them is down, the deletion hangs. From OpenChoreo v1.0 on no controller removes the finalizer of a build plane.";
    "report-stale", Facts(report_stale), "The controller reports once a minute. An old report does not show the agent's present state. From OpenChoreo v1.0 on the controller also stops reporting on a namespaced plane after its CA is changed to one that can't be read.";
    "never-connected", Facts(never_connected), "The agent is not installed yet or does not reach the gateway, or the registration is wrong: usually the agent has another planeID, or the CA does not verify the agent's certificate. `choreoctl doctor` reports the cause.";
    "no-report", Facts(no_report), "The controller has not reported on the plane: it does not run, cannot reach the gateway's API, or the gateway cannot read the CA.";
    "heartbeat-ahead", Facts(heartbeat_ahead), "The gateway records heartbeats with its own clock, and choreoctl computes their age with the API server's clock.";
    "ca-unreadable", Facts(ca_unreadable), "The gateway skips a plane whose CA it can't read.";
    DefectKind::Expired.id(), Ca(DefectKind::Expired), "The gateway verifies an agent's certificate only when the agent connects: existing connections stay open.";
    DefectKind::ExpiresSoon.id(), Ca(DefectKind::ExpiresSoon), "The CA expires in less than 30 days: `choreoctl certs rotate` replaces it without an outage.";
    DefectKind::NotYetValid.id(), Ca(DefectKind::NotYetValid), "The gateway refuses every agent until the CA's validity begins.";
    DefectKind::CannotVerify.id(), Ca(DefectKind::CannotVerify), "No agent can connect: the gateway uses only CA certificates that allow client authentication.";
    DefectKind::PartlyUseless.id(), Ca(DefectKind::PartlyUseless), "The gateway ignores such a certificate, which makes it hard to see which certificates are used.";
    DefectKind::PinnedLeaf.id(), Ca(DefectKind::PinnedLeaf), "The plane trusts one certificate instead of a CA. After cert-manager has renewed the agent's certificate, the gateway refuses the agent at its next restart.";
    DefectKind::WeakKey.id(), Ca(DefectKind::WeakKey), "NIST SP 800-131A disallows RSA keys under 2048 bits.";
    DefectKind::SameName.id(), Ca(DefectKind::SameName), "Several CA certificates have the same name: it is hard to see which of them is in use, and easy to delete the wrong one.";
    "ca-shared", Facts(ca_shared), "If planes with different planeIDs trust one CA, the agent of one can connect as the agent of the other.";
    "both-sources", Facts(both_sources), "The gateway reads the value, so a change of the Secret has no effect.";
    "status-shared", Facts(status_shared), "The status counts the agents of the planeID, not those of the plane.";
    "rotation-unfinished", Facts(rotation_unfinished), "The plane trusts the old CA and the new one. Run `choreoctl certs rotate` again to continue, or with --rollback to go back.";
    "migration-unfinished", Facts(migration_unfinished), "OpenChoreo v1.0 and later has workflow planes instead of build planes. The control plane uses the plane of its own release: `choreoctl doctor` reports which one, and `choreoctl migrate` continues the migration.";
    "observability-missing", Facts(observability_missing), "The plane names an observability plane that does not exist: requests for logs and metrics fail.";
];

/// What is no fault.
pub static REMARKS: &[Noted] = noted![
    "report-pending", Facts(report_pending), "The controller reports on a new plane after about a minute.";
    "plane-id-left-out", Facts(plane_id_left_out), "The API reference says that planeID defaults to the plane's name; the CRDs of cluster-scoped planes require it.";
    "observability-default-missing", Facts(observability_default_missing), "A plane without observabilityPlaneRef uses the observability plane named default, if it exists.";
    "generation-behind", Facts(generation_behind), "The controller reads the spec of a cluster-scoped plane once, and of a namespaced plane after each change. The gateway reads the CA each time an agent connects.";
];

/// What is wrong with a plane.
pub fn notes(facts: &Facts) -> Vec<Note> {
    found(NOTES, facts)
}

/// What there is to say of a plane beside its faults.
pub fn remarks(facts: &Facts) -> Vec<Note> {
    found(REMARKS, facts)
}

fn found(table: &[Noted], facts: &Facts) -> Vec<Note> {
    let defects = LazyCell::new(|| facts.client_ca.defects(facts.now, SOON));
    let text = |noted: &Noted| match noted.check {
        Check::Facts(check) => check(facts),
        Check::Ca(kind) => of_kind(&defects, kind),
    };
    table.iter().filter_map(|noted| text(noted).map(|text| Note::new(noted.id, text))).collect()
}

fn state(facts: &Facts) -> State {
    facts.plane.state(facts.now)
}

fn deletion_held(facts: &Facts) -> Option<String> {
    (state(facts) == State::Deleting)
        .then(|| format!("the plane is being deleted, and {}", held(&facts.plane, facts.remover, CONTROL_NAMESPACE)))
}

fn report_stale(facts: &Facts) -> Option<String> {
    let why = not_taken_over(&facts.plane).unwrap_or("the controller or the gateway is down");
    (state(facts) == State::Stale).then(|| format!("the last report is old: {why}, and the agent's state is unknown"))
}

/// How far the controller is behind the spec: what it has seen, and what there is.
fn behind(plane: &Plane) -> Option<(i64, i64)> {
    let (observed, now) = (plane.status.as_ref()?.observed_generation?, plane.metadata.generation?);
    (observed < now).then_some((observed, now))
}

/// Why a namespaced plane whose last change the controller has not taken over is not reported on, as from v1.0 on.
pub fn not_taken_over(plane: &Plane) -> Option<&'static str> {
    let is_meant = plane.kind.scope == Scope::Namespaced && plane.kind.family.releases.contains(&Release::V1);
    behind(plane).filter(|_| is_meant).map(|_| {
        "the controller could not take over the last change, as the CA can't be read, or the gateway's API can't be reached"
    })
}

/// Why there is no report on a plane, by what the controller has done so far.
pub fn unreported(plane: &Plane) -> &'static str {
    let is_held = plane.metadata.finalizers.iter().flatten().any(|one| one == plane.kind.finalizer);
    let is_created = plane.status.iter().flat_map(|status| &status.conditions).any(|one| one.kind == "Created");
    match (is_held, is_created) {
        (false, _) => "no controller has begun to manage this plane",
        // Up to v0.17 the condition was set whatever the gateway answered.
        (true, false) if plane.kind.release() == Release::V1 => {
            "the CA can't be read, or the controller can't reach the gateway's API, so that it never set the condition Created"
        }
        (true, _) => "the controller can't reach the gateway, or the gateway can't parse the CA",
    }
}

fn never_connected(facts: &Facts) -> Option<String> {
    (state(facts) == State::NeverConnected).then(|| {
        format!(
            "no agent has ever connected: compare planeID {} with the agent's --plane-id, and the CA with the agent's certificate",
            visible(facts.plane.plane_id())
        )
    })
}

fn no_report(facts: &Facts) -> Option<String> {
    let why = unreported(&facts.plane);
    (state(facts) == State::Unreported && !facts.is_new()).then(|| format!("there is no report: {why}"))
}

fn report_pending(facts: &Facts) -> Option<String> {
    let pending = state(facts) == State::Unreported && facts.is_new();
    pending.then(|| "no report yet: the first one takes about a minute".into())
}

fn heartbeat_ahead(facts: &Facts) -> Option<String> {
    let heartbeat = facts.plane.connection()?.last_heartbeat_time?;
    let ahead = heartbeat.duration_since(facts.now).as_secs();
    (ahead > AHEAD_SECONDS).then(|| {
        format!("the last heartbeat is {ahead} s in the future: the clock of the gateway or the API server is wrong")
    })
}

fn ca_unreadable(facts: &Facts) -> Option<String> {
    let problem = facts.client_ca.certificates().err()?;
    problem.is_fault().then(|| format!("the CA can't be read, and then no agent can connect: {problem}"))
}

/// The sentences on defects of one kind; none where there is none.
fn of_kind(defects: &[Defect], kind: DefectKind) -> Option<String> {
    let sentences: Vec<_> = defects.iter().filter(|defect| defect.kind == kind).map(ToString::to_string).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

fn ca_shared(facts: &Facts) -> Option<String> {
    (!facts.same_ca.is_empty()).then(|| validate::ca_shared(&facts.same_ca.to_string()))
}

fn rotation_unfinished(facts: &Facts) -> Option<String> {
    let secret = visible(facts.plane.annotation(ROTATION)?);
    let again = format!("choreoctl certs rotate {} --plane-context CONTEXT", facts.plane.key().words());
    Some(format!(
        "a rotation of the CA is unfinished (Secret {secret} in the plane's cluster): continue it with `{again}`, or undo it with `{again} --rollback`"
    ))
}

fn migration_unfinished(facts: &Facts) -> Option<String> {
    let other = facts.counterpart.as_ref()?;
    let own = facts.plane.key();
    let old = if own.kind.successor().is_some() { &own } else { other };
    Some(format!(
        "{} {} has the same planeID, and both are one plane during the migration: continue with `{} --out-dir DIR`",
        other.kind.kind,
        visible(&other.to_string()),
        old.migrate_command()
    ))
}

fn both_sources(facts: &Facts) -> Option<String> {
    let ca = &facts.plane.spec.cluster_agent.client_ca;
    (ca.secret_ref.is_some() && ca.value.as_ref().is_some_and(|value| !value.is_empty()))
        .then(|| "clientCA has both a value and a Secret: the gateway uses the value and never reads the Secret".into())
}

fn plane_id_left_out(facts: &Facts) -> Option<String> {
    let is_left_out = facts.plane.spec.plane_id.is_none() && facts.plane.kind.scope == Scope::Cluster;
    is_left_out.then(|| "planeID is left out: the reference takes the name, the releases to v0.17 require it".into())
}

fn status_shared(facts: &Facts) -> Option<String> {
    if facts.plane.kind.scope == Scope::Namespaced {
        return None;
    }
    let others = facts.shares_plane_id_with.as_ref().ok()?.few();
    let id = visible(facts.plane.plane_id());
    (!others.is_empty()).then(|| {
        format!("planeID {id} is shared with {others}: the status counts the agents of all of them, and an agent may be authorized for one only")
    })
}

fn observability_missing(facts: &Facts) -> Option<String> {
    let planes = facts.plane.observability_planes();
    let named = planes.first().filter(|_| facts.plane.spec.observability_plane_ref.is_some())?;
    (facts.observability_plane == Ok(None)).then(|| {
        let (kind, name) = (named.kind.kind, named.to_string());
        format!("{kind} {} does not exist: requests for logs of the plane fail", visible(&name))
    })
}

fn observability_default_missing(facts: &Facts) -> Option<String> {
    let named = facts.plane.spec.observability_plane_ref.is_some();
    let planes = facts.plane.observability_planes();
    (!named && !planes.is_empty() && facts.observability_plane == Ok(None)).then(|| {
        let kinds: Vec<_> = planes.iter().map(|plane| plane.kind.kind).collect();
        let kinds = kinds.join(" or ");
        format!("no observability plane is set, and there is no {kinds} named {DEFAULT_OBSERVABILITY}")
    })
}

fn generation_behind(facts: &Facts) -> Option<String> {
    let (observed, generation) = behind(&facts.plane)?;
    let why = match facts.plane.kind.scope {
        Scope::Cluster => {
            "this is normal, as the controller reads the spec of a cluster-scoped plane only once; a changed CA applies when an agent next connects"
        }
        Scope::Namespaced => "the controller has not taken over the last change yet",
    };
    Some(format!("observedGeneration {observed} is behind generation {generation}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estate::{ClientCa, Few, Peers, Remover, Unavailable};
    use crate::pki::{KeyAlgorithm, ca};
    use crate::plane::{Kind, Plane, PlaneKey, Span};
    use rcgen::CertificateParams;
    use serde_json::json;

    /// A certificate with an RSA key of 1024 bits.
    const WEAK: &str = "\
-----BEGIN CERTIFICATE-----
MIIB/DCCAWWgAwIBAgIUUJ6F82sRvAKhZX7T3uWj4u3HVggwDQYJKoZIhvcNAQEL
BQAwDzENMAsGA1UEAwwEd2VhazAgFw0yNjExMjUxOTE2NDdaGA8yMTI2MTEwMTE5
MTY0N1owDzENMAsGA1UEAwwEd2VhazCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkC
gYEAz234STvmlRyOJHX44lOjVzYRILBHLpBKcYTORWgQEWQzBmV5pm7EhWv+2gQG
vO0zrJYRxCzczdY3SscAL6MNZzE9kO7RqfSKhTRprQjzcH55DbD7W1i5L1TdzNCZ
8uk4JTF1+CGCkCkelIlqH4kovTdJn5zVRE4jjD+rUohQXHMCAwEAAaNTMFEwHQYD
VR0OBBYEFPoHDKuI4YSoj2038R/iWRlEcuzmMB8GA1UdIwQYMBaAFPoHDKuI4YSo
j2038R/iWRlEcuzmMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADgYEA
AImnfLN29cPdSUObFQdR2b48auJ2PF5dpx2nz6xb9rChsw/s4Hc/ers/OtDwUvnS
A8Beo0IXEy1I8uqKsr4eKJ3hLNcIHf7k56M5QCQKxcqfcSRUZF77jWrSNjGde7OI
6SyvFsVu5YHmClW9QN6cVWG7scMthYk38vtDgodktjk=
-----END CERTIFICATE-----
";

    fn facts(plane: serde_json::Value) -> Facts {
        let mut object = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"planeID": "a", "clusterAgent": {"clientCA": {}}},
            "status": {"agentConnection": {"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-01-02T00:00:00Z"}}
        });
        merge(&mut object, plane);
        let now = "2026-01-02T00:00:10Z".parse().unwrap();
        let root = ca("A", KeyAlgorithm::EcdsaP256, Span::from_seconds(86_400 * 400), now).unwrap();
        let plane: Plane = serde_json::from_value(object).unwrap();
        Facts {
            client_ca: ClientCa::new("value".into(), Ok(root.certificate.into_bytes())),
            observability_plane: Ok(plane.observability_planes().pop()),
            plane,
            shares_plane_id_with: Ok(Peers::default()),
            same_ca: Few::default(),
            other_scope: Ok(()),
            counterpart: None,
            events: Ok(vec![]),
            remover: Remover::default(),
            now,
        }
    }

    fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(json!({})), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    fn ids(facts: &Facts) -> Vec<&'static str> {
        notes(facts).into_iter().chain(remarks(facts)).map(|note| note.id).collect()
    }

    #[test]
    fn a_healthy_plane_has_no_notes() {
        assert_eq!(ids(&facts(json!({}))), Vec::<&str>::new());
    }

    #[test]
    fn every_note_is_reached() {
        let connection = |connection: serde_json::Value| facts(json!({"status": {"agentConnection": connection}}));
        let unreported = |extra: serde_json::Value| {
            let mut facts = facts(extra);
            facts.plane.status = None;
            facts
        };
        let mut seen = Vec::new();
        let mut expect = |facts: Facts, id: &'static str| {
            assert!(ids(&facts).contains(&id), "{id}: {:?}", ids(&facts));
            seen.push(id);
        };
        expect(
            facts(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}})),
            "deletion-held",
        );
        expect(connection(json!({"lastHeartbeatTime": "2026-01-01T00:00:00Z"})), "report-stale");
        expect(connection(json!({"connected": false})), "never-connected");
        expect(unreported(json!({})), "no-report");
        expect(connection(json!({"lastHeartbeatTime": "2026-01-03T00:00:00Z"})), "heartbeat-ahead");
        expect(
            facts(
                json!({"spec": {"planeID": "b", "clusterAgent": {"clientCA": {"value": "x", "secretRef": {"name": "n", "key": "k"}}}}}),
            ),
            "both-sources",
        );
        expect(facts(json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}})), "generation-behind");
        let mut left_out = facts(json!({}));
        left_out.plane.spec.plane_id = None;
        expect(left_out, "plane-id-left-out");
        let mut shared = facts(json!({}));
        shared.shares_plane_id_with = Ok(Peers::of(&["b"]));
        expect(shared, "status-shared");
        for (named, id) in
            [(json!({}), "observability-default-missing"), (json!({"name": "x"}), "observability-missing")]
        {
            let mut blind =
                facts(if named == json!({}) { json!({}) } else { json!({"spec": {"observabilityPlaneRef": named}}) });
            blind.observability_plane = Ok(None);
            expect(blind, id);
        }
        let mut twin = facts(json!({}));
        twin.same_ca = Few::of(&["b"]);
        expect(twin, "ca-shared");
        let mut migrated = facts(json!({}));
        migrated.counterpart = PlaneKey::of_family(Kind::of_word("cwp").unwrap().family, "b");
        expect(migrated, "migration-unfinished");
        expect(facts(json!({"metadata": {"annotations": {ROTATION: "n/s"}}})), "rotation-unfinished");
        expect(unreported(json!({"metadata": {"creationTimestamp": "2026-01-02T00:00:00Z"}})), "report-pending");
        let mut unreadable = facts(json!({}));
        unreadable.client_ca = ClientCa::unread(Unavailable::missing("gone"));
        expect(unreadable, "ca-unreadable");
        for (days, id) in [(401, "ca-expired"), (390, "ca-expires-soon"), (-1, "ca-not-yet-valid")] {
            let mut later = facts(json!({}));
            later.now = later.now.checked_add(jiff::SignedDuration::from_hours(24 * days)).unwrap();
            expect(later, id);
        }
        // By what rcgen makes of them, valid since 1975.
        let with = |alters: &[fn(&mut CertificateParams)]| {
            let made = |alter: &fn(&mut CertificateParams)| {
                let mut params = CertificateParams::default();
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
                alter(&mut params);
                params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
            };
            let text: String = alters.iter().map(made).collect();
            Facts { client_ca: ClientCa::new("value".into(), Ok(text.into_bytes())), ..facts(json!({})) }
        };
        expect(with(&[|params| params.is_ca = rcgen::IsCa::NoCa]), "ca-pinned-leaf");
        let server = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        };
        expect(with(&[server]), "ca-cannot-verify");
        expect(with(&[|_| {}, server]), "ca-partly-useless");
        expect(with(&[|_| {}, |_| {}]), "same-name");
        expect(Facts { client_ca: ClientCa::new("value".into(), Ok(WEAK.into())), ..facts(json!({})) }, "weak-key");
        for noted in NOTES.iter().chain(REMARKS) {
            assert!(seen.contains(&noted.id) && noted.why.ends_with('.'), "{} is never reached", noted.id);
        }
    }

    #[test]
    fn the_words_on_a_missing_report_tell_whose_fault_it_is() {
        let text = |extra| {
            let mut facts = facts(extra);
            facts.plane.status = None;
            notes(&facts).into_iter().chain(remarks(&facts)).next().unwrap().text
        };
        assert!(text(json!({})).contains("no controller"));
        assert!(
            text(json!({"metadata": {"finalizers": ["openchoreo.dev/clusterbuildplane-cleanup"]}})).contains("gateway")
        );
        assert!(text(json!({"metadata": {"creationTimestamp": "2026-01-02T00:00:00Z"}})).contains("minute"));
    }

    #[test]
    fn a_later_controller_is_quiet_on_a_ca_that_cannot_be_read() {
        let text = |word: &str, changed: serde_json::Value| {
            let mut facts = facts(changed);
            facts.plane.kind = Kind::of_word(word).unwrap();
            let id = |note: &Note| note.id == "no-report" || note.id == "report-stale";
            notes(&facts).into_iter().find(id).unwrap().text
        };
        let finalizer = |word: &str| json!({"finalizers": [Kind::of_word(word).unwrap().finalizer]});
        let unreported = |word: &str, conditions: serde_json::Value| {
            let status = json!({"agentConnection": null, "conditions": conditions});
            text(word, json!({"metadata": finalizer(word), "status": status}))
        };
        let created = json!([{"type": "Created", "status": "True"}]);
        assert!(unreported("cwp", json!([])).contains("the CA can't be read"));
        assert!(!unreported("cwp", created).contains("the CA can't be read"));
        assert!(!unreported("cbp", json!([])).contains("the CA can't be read"));
        // A namespaced plane is looked at with each change.
        let stale = json!({"agentConnection": {"lastHeartbeatTime": "2026-01-01T00:00:00Z"}, "observedGeneration": 1});
        let stale =
            |word: &str, generation: i64| text(word, json!({"metadata": {"generation": generation}, "status": stale}));
        assert!(stale("dp", 2).contains("could not take over the last change"));
        assert!(!stale("dp", 1).contains("could not take over"));
        assert!(!stale("cdp", 2).contains("could not take over"));
    }
}
