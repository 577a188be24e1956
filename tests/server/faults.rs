//! Doctor's verdict on faults that are put into an estate, one row each, and the hints that remove them.

use serde_json::{Value, json};

use super::estate::{Estate, Subject};
use super::hints::try_out;
use super::patient::*;

stories!(
    Go:
        doctor_names_what_is_wrong_with_the_ca,
        doctor_names_what_is_wrong_with_the_agents_certificate,
        doctor_names_what_is_wrong_with_the_agent,
        doctor_names_what_is_wrong_with_the_gateway,
        doctor_names_the_first_of_two_causes,
        doctor_warns_of_what_will_hurt,
        nothing_is_wrong_with_any_way_to_have_a_certificate;
);

/// What is done to a healthy estate, and the check that is to name it.
pub struct Fault {
    name: &'static str,
    inject: fn(&Estate),
    cause: &'static str,
    seen: Seen,
}

/// Where a fault is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In a dump, too.
    InItsDump,
    /// Only where the gateway can be asked, or time goes on.
    OnlyLive,
}

pub const fn fault(name: &'static str, inject: fn(&Estate), cause: &'static str) -> Fault {
    Fault { name, inject, cause, seen: Seen::InItsDump }
}

pub const fn only_live(name: &'static str, inject: fn(&Estate), cause: &'static str) -> Fault {
    Fault { name, inject, cause, seen: Seen::OnlyLive }
}

/// What is wrong with the plane and its CA.
static OF_CA: &[Fault] = &[
    fault("clientCA is empty", |at| client_ca(at, json!({})), "client-ca-readable"),
    fault("the CA's Secret is missing", |at| in_secret(at, "none", "ca.crt"), "client-ca-readable"),
    fault("the CA's key is missing", |at| in_secret(at, "ca", "other"), "client-ca-readable"),
    fault("the Secret's namespace is missing", without_namespace, "client-ca-readable"),
    fault("base64 of PEM", |at| value(at, &base64(&file(at, "old/ca.crt"))), "client-ca-usable"),
    fault("no PEM at all", |at| value(at, "hello"), "client-ca-usable"),
    fault("an expired CA", |at| value(at, &ended_ca()), "client-ca-usable"),
    fault(
        "a CA for servers",
        |at| value(at, &openssl(at, "server", &["extendedKeyUsage=serverAuth"])),
        "client-ca-usable",
    ),
    fault("another CA", |at| value(at, &file(at, "other/ca.crt")), "agent-trusted"),
    fault("the certificate of before, pinned", |at| value(at, &openssl(at, "former", LEAF)), "agent-trusted"),
    fault("another planeID in the plane", |at| spec(at, json!({"planeID": "moved"})), "agent-plane-id"),
    fault("held by a finalizer", held, "deletion"),
    fault("an empty value", |at| value(at, ""), "client-ca-readable"),
    fault("blanks", |at| value(at, " \n"), "client-ca-readable"),
    fault("a pinned certificate that ended", |at| value(at, &leaf(-100, -10)), "client-ca-usable"),
    fault("a CA of the same name", |at| value(at, &namesake(at)), "agent-trusted"),
];

/// What is wrong with the agent's certificate.
static OF_CERTIFICATE: &[Fault] = &[
    fault("an expired certificate", just_ended, "agent-trusted"),
    fault("a certificate for servers", for_servers, "agent-trusted"),
    fault("the agent's Secret is missing", without_secret, "agent-certificate"),
    fault("a key that doesn't fit", other_key, "agent-certificate"),
    fault("a Secret of garbage", garbage, "agent-certificate"),
    fault("a certificate that isn't valid yet", |at| issued(at, 10, 100), "agent-trusted"),
    fault("a certificate that ended long ago", |at| issued(at, -100, -10), "agent-trusted"),
    fault("a Secret without a certificate", |at| agent_secret(at, "", &file(at, "old/tls.key")), "agent-certificate"),
    fault("the agent mounts another Secret", other_secret, "agent-certificate"),
    only_live("the running certificate ended", running_ended, "agent-current"),
];

/// What is wrong with the agent.
static OF_AGENT: &[Fault] = &[
    fault("another planeID: Helm's planeId", |at| at.deploy("default", "--x=y"), "agent-plane-id"),
    fault("no agent", without_agent, "agent-exists"),
    fault(
        "no agent, and a report of before",
        |at| {
            last_report(at, 60, 1);
            without_agent(at)
        },
        "agent-exists",
    ),
    fault("another plane type", of_the_other_release, "agent-plane-type"),
    fault("no TLS", |at| at.deploy("sick", "--tls-enabled=false"), "agent-tls"),
    fault("a URL without /ws", |at| at.deploy("sick", "--server-url=wss://localhost:1"), "agent-server-url"),
    fault("a URL of https", |at| at.deploy("sick", "--server-url=https://localhost:1/ws"), "agent-server-url"),
    fault("a URL of nothing", |at| at.deploy("sick", "--server-url=localhost"), "agent-server-url"),
    fault("scaled to zero", scaled_to_zero, "agent-replicas"),
    fault("the gateway's CA is missing", without_server_ca, "agent-server-ca"),
    fault("the placeholder", |at| server_ca(at, "# filled in later"), "agent-server-ca"),
    fault("another gateway's CA", |at| server_ca(at, &file(at, "other/ca.crt")), "agent-server-ca"),
    fault("a ConfigMap with another key", |at| at.server_ca(json!({"ca.pem": "x"})), "agent-server-ca"),
    fault("a URL without TLS", |at| at.deploy(PLANE, "--server-url=ws://localhost:1/ws"), "agent-server-url"),
    fault("an agent that crashes", |at| image(at, "crashes"), "agent-running"),
    fault("an image that can't be pulled", |at| image(at, "unpullable"), "agent-running"),
];

/// An agent connects as what planes of builds are called in another release.
fn of_the_other_release(at: &Estate) {
    let other = if at.subject.is_late() { "buildplane" } else { "workflowplane" };
    at.deploy(PLANE, &format!("--plane-type={other}"));
}

/// What is wrong with the gateway and the controller.
static OF_GATEWAY: &[Fault] = &[
    only_live("a closed port", |at| at.deploy("sick", "--server-url=wss://localhost:1/ws"), "gateway-reachable"),
    only_live("no such host", |at| at.deploy("sick", "--server-url=wss://gateway.invalid:1/ws"), "gateway-reachable"),
    only_live("a name that the gateway lacks", other_name, "gateway-reachable"),
    only_live("no TLS there", no_tls, "gateway-reachable"),
    only_live("another server's URL", |at| url(at, at.control.port()), "gateway-reachable"),
    fault("no gateway runs", |at| gateway_pods(at, 0), "gateway-running"),
    only_live("the gateway's certificate ended", |at| at.order("gateway expired"), "gateway-reachable"),
    only_live("a gateway of another CA", |at| at.order("gateway stranger"), "gateway-reachable"),
    only_live("a silent port", |at| at.order("gateway silent"), "gateway-reachable"),
    only_live("TLS ends before the gateway", |at| at.order("gateway terminated"), "gateway-answer"),
    only_live("the handshake ends", |at| at.order("gateway dropping"), "gateway-answer"),
    only_live("a gateway of another release", |at| at.order("gateway newer"), "plane-type-known"),
    only_live("a gateway that can't read", |at| at.order("gateway blind"), "gateway-answer"),
    only_live("no gateway at all", |at| at.order("gateway other"), "gateway-answer"),
    only_live("a gateway of another time", |at| at.order("gateway slow"), "gateway-clock"),
    fault("nobody reports", stale, "controller"),
    fault(
        "the controller is down",
        |at| {
            lease(at, 3600);
            stale(at)
        },
        "controller",
    ),
];

/// Of two faults the one that comes first in the order of cause.
static OF_TWO: &[Fault] = &[
    fault(
        "another CA and no TLS",
        |at| {
            value(at, &file(at, "other/ca.crt"));
            at.deploy("sick", "--tls-enabled=false")
        },
        "agent-tls",
    ),
    fault(
        "no CA and no agent",
        |at| {
            client_ca(at, json!({}));
            without_agent(at)
        },
        "client-ca-readable",
    ),
    fault(
        "a wrong planeID and no Secret",
        |at| {
            at.deploy("default", "--x=y");
            without_secret(at)
        },
        "agent-plane-id",
    ),
    fault(
        "an expired gateway and another CA",
        |at| {
            at.order("gateway expired");
            value(at, &file(at, "other/ca.crt"))
        },
        "agent-trusted",
    ),
    fault(
        "no pods and an expired CA",
        |at| {
            scaled_to_zero(at);
            value(at, &ended_ca())
        },
        "client-ca-usable",
    ),
    fault(
        "a wrong URL and no pods",
        |at| {
            at.deploy(PLANE, "--server-url=https://localhost:1/ws");
            scaled_to_zero(at)
        },
        "agent-server-url",
    ),
    fault(
        "held while nobody reports",
        |at| {
            stale(at);
            held(at)
        },
        "deletion",
    ),
];

/// What is done to a healthy estate that stays healthy, and the check that warns.
pub type Warning = (&'static str, fn(&Estate), &'static str);

static WARNINGS: &[Warning] = &[
    ("a CA for two planes", |at| twin(at, "other", "old"), "ca-shared"),
    ("two CAs for a planeID", |at| twin(at, PLANE, "other"), "plane-id-shared"),
    (
        "no observability plane",
        |at| spec(at, json!({"observabilityPlaneRef": {"name": "none"}})),
        "observability-plane",
    ),
    ("two gateways", |at| gateway_pods(at, 2), "gateway-running"),
    ("a gateway ahead of its time", |at| at.order("gateway fast"), "gateway-clock"),
    ("an old lease", |at| lease(at, 3600), "controller"),
    ("a certificate that ends soon", ends_soon, "agent-trusted"),
    ("a pinned certificate that is renewed soon", renewed_soon, "ca-outlives"),
    ("a pinned certificate, as the chart makes it", |at| pinned(at, -1, 89), "ca-outlives"),
    ("a renewal without a restart", |at| pair(at, &[], "renewed"), "agent-current"),
    ("a crash beside a pod that runs", |at| rolled(at, "crashes"), "agent-running"),
];

/// What is done to a healthy estate.
type Way = (&'static str, fn(&Estate));

/// Ways for an agent to have its certificate, in each of which nothing is wrong.
static WAYS: &[Way] = &[
    ("own", |_| ()),
    ("with a key in SEC1", |at| with_key(at, "old", &["ec", "-in", "old/tls.key"])),
    ("with an RSA key in PKCS#1", with_rsa_key),
    ("cert-manager under a CA", mark),
];

/// Pastes the hints of a check that complains of what was injected. Fixed is what has this status, or does not fail.
fn try_hints(at: &Estate, name: &str, inject: fn(&Estate), id: &str, fixed: &str) -> Vec<String> {
    let find = |reported: &Value| complaints(&reported["planes"][0]).into_iter().find(|check| check["id"] == id);
    let remake = || {
        be_well(at, name);
        inject(at);
        let reported = until(at, |plane| complaints(plane).iter().any(|check| check["id"] == id));
        find(&reported).unwrap_or_default()
    };
    let Some(check) = find(&diagnose(at)) else {
        return vec![format!("{name}: {id} does not complain any more")];
    };
    let is_fixed = || {
        let status = |plane: &Value| status_of(plane, id);
        let is_so = |plane: &Value| if fixed.is_empty() { status(plane) != "fail" } else { status(plane) == fixed };
        is_so(&until(at, is_so)["planes"][0])
    };
    try_out(at, name, &check, remake, is_fixed)
}

/// Fails where a dump holds a private key of the test, as text or in base64.
fn no_key_is_in(at: &Estate, dump: &str) {
    let folders = ["", "old", "other"].map(|folder| at.control.path().join(folder));
    let entries = folders.iter().flat_map(std::fs::read_dir).flatten().map(|entry| entry.unwrap().path());
    let keys: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "key")).collect();
    assert!(keys.len() > 3 && !dump.contains("PRIVATE KEY"));
    for path in keys {
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert!(!dump.contains(line) && !dump.contains(&base64(&text)[..60]));
    }
}

impl Fault {
    /// Puts the fault into the estate; what is wrong with what doctor says, by itself and by a dump, and with its hints.
    pub fn find(&self, at: &Estate) -> Vec<String> {
        let Self { name, cause, .. } = self;
        be_well(at, name);
        (self.inject)(at);
        let reported = until(at, |plane| plane["rootCause"] == *cause);
        let complaints = complaints(&reported["planes"][0]);
        let mut wrong = Vec::new();
        if reported["planes"][0]["rootCause"] != *cause {
            wrong.push(format!("{name}: {complaints:#?}"));
        }
        wrong.extend(self.find_in_dump(at));
        let failed = complaints.iter().find(|check| check["id"] == *cause);
        if failed.is_some_and(|check| check["message"].as_str().unwrap().is_empty() || check["hint"].is_null()) {
            wrong.push(format!("{name}: no words, or no hint"));
        }
        wrong.extend(try_hints(at, name, self.inject, cause, ""));
        wrong
    }

    fn find_in_dump(&self, at: &Estate) -> Option<String> {
        run(at, "dump", &["-o", "dump.yaml", "--force"]).expect(0);
        no_key_is_in(at, &file(at, "dump.yaml"));
        let reported = at.control.run(&["doctor", "-f", "dump.yaml", "-o", "json"]).json();
        let root = &reported["planes"][0]["rootCause"];
        // The connection may have ended since.
        let is_unseen = self.seen == Seen::OnlyLive && (root.is_null() || root == "connected");
        let is_right = root == self.cause || is_unseen;
        (!is_right).then(|| format!("{}, by its dump: {:#?}", self.name, complaints(&reported["planes"][0])))
    }
}

fn doctor_names(faults: &[Fault]) {
    let at = start();
    let wrong: Vec<_> = faults.iter().flat_map(|fault| fault.find(&at)).collect();
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), faults.len(), wrong.join("\n"));
}

/// Faults that OpenChoreo's own programs don't have: its gateway can't be made to present an old certificate, and an agent
/// keeps the connection that it has when its certificate ends.
const ONLY_ON_THE_DOUBLE: &[&str] = &["an expired gateway and another CA", "the running certificate ended"];

/// The tables on OpenChoreo's own programs.
pub fn on_programs(subject: Subject) {
    let at = well_with(subject);
    let faults = [OF_CA, OF_CERTIFICATE, OF_AGENT, OF_TWO].into_iter().flatten();
    let faults: Vec<_> = faults.filter(|fault| !ONLY_ON_THE_DOUBLE.contains(&fault.name)).collect();
    let wrong: Vec<_> = faults.iter().flat_map(|fault| fault.find(&at)).collect();
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), faults.len(), wrong.join("\n"));
}

fn doctor_names_what_is_wrong_with_the_ca() {
    doctor_names(OF_CA);
}

fn doctor_names_what_is_wrong_with_the_agents_certificate() {
    doctor_names(OF_CERTIFICATE);
}

fn doctor_names_what_is_wrong_with_the_agent() {
    doctor_names(OF_AGENT);
}

fn doctor_names_what_is_wrong_with_the_gateway() {
    doctor_names(OF_GATEWAY);
}

fn doctor_names_the_first_of_two_causes() {
    doctor_names(OF_TWO);
}

/// What is wrong with the warning of something that is done to the estate, and with its hints.
pub fn warning(at: &Estate, (name, inject, check): &Warning) -> Vec<String> {
    be_well(at, name);
    inject(at);
    let warns = |plane: &Value| {
        let reported = complaints(plane);
        plane["healthy"] == true
            && reported.len() == 1
            && reported[0]["id"] == *check
            && reported[0]["status"] == "warn"
    };
    let reported = until(at, warns);
    if !warns(&reported["planes"][0]) {
        return vec![format!("{name}: {:#?}", complaints(&reported["planes"][0]))];
    }
    run(at, "doctor", &["-q"]).expect(0);
    run(at, "doctor", &["-q", "--strict"]).expect(1);
    try_hints(at, name, *inject, check, "pass")
}

fn doctor_warns_of_what_will_hurt() {
    let at = start();
    let wrong: Vec<_> = WARNINGS.iter().flat_map(|row| warning(&at, row)).collect();
    assert!(wrong.is_empty(), "{} are wrong: {}", wrong.len(), wrong.join("\n"));
}

fn nothing_is_wrong_with_any_way_to_have_a_certificate() {
    let at = start();
    for (name, change) in WAYS {
        be_well(&at, name);
        change(&at);
        let reported = until(&at, is_well);
        assert!(is_well(&reported["planes"][0]), "{name}: {:#?}", complaints(&reported["planes"][0]));
        at.run(&["doctor", PLANE, "-q", "--strict"]).expect(0);
    }
}
