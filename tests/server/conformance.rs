//! The double's gateway and OpenChoreo's own beside each other on one API server: each request of a table gets the same
//! status, type and body from both, in each state of the planes.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use regex::Regex;
use serde_json::{Value, json};

use super::double::{AGENT, CONTROLLER, Era, TYPES, V0, V1, client_ca, create, delete, exchange, install, path};
use super::estate::Estate;
use super::openchoreo::{self, PORTS, Release, V0_17, V1_2};

stories!(
    OpenChoreo:
        the_double_answers_as_the_gateway_of_v0_17,
        the_double_answers_as_the_gateway_of_v1_2;
);

const SOON: Duration = Duration::from_secs(30);
const TYPE: &str = "dataplane";

/// Files of certificates and keys of which each plays a part.
type Pair = Option<[&'static str; 2]>;

/// Both gateways, the number of requests that were compared, and what differed.
struct Both {
    at: Estate,
    release: Release,
    era: &'static Era,
    processes: Vec<Child>,
    compared: RefCell<(usize, Vec<String>)>,
}

impl Both {
    fn start(release: Release, era: &'static Era) -> Self {
        let at = Estate::of(&[(TYPE, "x")]);
        install(&at);
        // A kind that was just installed can't be listed at once.
        let plurals: Vec<_> = TYPES.iter().flat_map(|of| [format!("{of}s"), format!("cluster{of}s")]).collect();
        at.control.kubectl(&["get", &plurals.join(","), "-A"], "");
        for order in [&format!("era {}", era.name), "reports off", "finalizers off", "agents stay"] {
            at.order(order);
        }
        certificates(&at);
        write(&at, "server-ca", &ca("server"), None);
        write(&at, "server", &CertificateParams::new(vec!["localhost".into()]).unwrap(), Some("server-ca"));
        let mut both = Self { at, release, era, processes: Vec::new(), compared: RefCell::default() };
        let mut gateway =
            vec![format!("--port={}", PORTS.0), "--server-cert=server.crt".into(), "--server-key=server.key".into()];
        if era.name == "v1" {
            gateway.extend(["--internal-mtls=true".into(), "--internal-client-ca-cert=internal-ca.crt".into()]);
        }
        both.spawn("cluster-gateway", &gateway, &both.at.control.kubeconfig());
        both.agent(["old/tls.crt", "old/tls.key"]);
        let deadline = Instant::now() + SOON;
        while std::net::TcpStream::connect(("127.0.0.1", both.ports()[1].1)).is_err() {
            assert!(Instant::now() < deadline, "{}", both.at.control.read("cluster-gateway.log"));
            std::thread::sleep(Duration::from_millis(100));
        }
        both
    }

    /// Starts an agent of the gateway that presents a certificate.
    fn agent(&mut self, [certificate, key]: [&str; 2]) {
        let mut arguments = ["--server-url=wss://localhost:8443/ws", "--plane-type=dataplane", "--plane-id=x"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(["--reconnect-delay=1s".into(), "--server-ca=server-ca.crt".into()]);
        arguments.extend([format!("--client-cert={certificate}"), format!("--client-key={key}")]);
        self.spawn("cluster-agent", &arguments, &self.at.build.kubeconfig());
    }

    /// Gives both agents another certificate.
    fn present(&mut self, name: &str) {
        let pair = files(name);
        let mut agent = self.processes.pop().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        self.agent(pair);
        let build = &self.at.build;
        let [certificate, key] = pair.map(|file| self.at.control.read(file));
        let secret = json!({"stringData": {"tls.crt": certificate, "tls.key": key}});
        build.api().merge("/api/v1/namespaces/openchoreo-data-plane/secrets/cluster-agent-tls", &secret);
        build.kubectl(
            &["rollout", "restart", "deployment", "cluster-agent-dataplane", "-n", "openchoreo-data-plane"],
            "",
        );
    }

    fn spawn(&mut self, name: &str, arguments: &[String], kubeconfig: &Path) {
        let mut command = Command::new(self.release.path(name));
        command.args(arguments).env("KUBECONFIG", kubeconfig);
        self.processes.push(openchoreo::spawn(&self.at.control, name, command));
    }

    /// Where the double and the gateway have their API: the file of the CA, and the port.
    fn ports(&self) -> [(&'static str, u16); 2] {
        if self.era.name == "v0" {
            [("gateway.crt", self.at.port), ("server-ca.crt", PORTS.0)]
        } else {
            [("gateway.crt", self.at.api_port), ("server-ca.crt", PORTS.1)]
        }
    }

    /// Asks both, and notes where they differ; what the double says.
    fn ask(&self, is_api: bool, request: &str, pair: Pair, body: &str) -> String {
        let sockets = [("gateway.crt", self.at.port), ("server-ca.crt", PORTS.0)];
        let [double, gateway] = if is_api { self.ports() } else { sockets }
            .map(|port| reported(exchange(&self.at, port, request, pair, body)));
        let mut compared = self.compared.borrow_mut();
        compared.0 += 1;
        if double != gateway {
            compared.1.push(format!("{request} {pair:?} {body}\n  double: {double:?}\n  gateway: {gateway:?}"));
        }
        double
    }

    /// As an agent asks, without asking for an upgrade.
    fn socket(&self, query: &str, pair: Pair) -> String {
        self.ask(false, &format!("GET /ws?{query} HTTP/1.0"), pair, "")
    }

    /// As the controller asks.
    fn api(&self, what: &str, body: &Value) -> String {
        self.ask(true, &format!("{what} HTTP/1.0"), CONTROLLER, &body.to_string())
    }

    fn notify(&self, plane_id: &str, event: &str, key: &str) -> String {
        let (namespace, name) = key.split_once('/').unwrap();
        let body =
            json!({"planeType": TYPE, "planeID": plane_id, "event": event, "namespace": namespace, "name": name});
        self.api("POST /api/v1/planes/notify", &body)
    }

    /// Asks both for all that they say of the agents.
    fn statuses(&self) {
        for of in [&format!("{TYPE}/x"), "dataplane/none", "other/x"] {
            for query in
                ["", "?name=a", "?namespace=team&name=b", "?namespace=team", "?namespace=&name=a", "?name=none", "?x=y"]
            {
                self.api(&format!("GET /api/v1/planes/{of}/status{query}"), &Value::Null);
            }
        }
        self.api("GET /api/v1/planes/status", &Value::Null);
    }

    /// Waits until both have the agent.
    fn until_connected(&self) {
        let deadline = Instant::now() + SOON;
        let request = format!("GET /api/v1/planes/{TYPE}/x/status HTTP/1.0");
        loop {
            let both = self.ports().map(|port| reported(exchange(&self.at, port, &request, CONTROLLER, "")));
            if both.iter().all(|reported| reported.contains("\"connectedAgents\":1")) {
                return;
            }
            assert!(Instant::now() < deadline, "{both:#?}: {}", self.at.control.read("cluster-agent.log"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn value(&self, file: &str) -> Value {
        json!({"value": self.at.control.read(file)})
    }

    fn end(self) {
        assert!(self.compared.borrow().1.is_empty());
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let (count, wrong) = self.compared.take();
        println!("{count} requests to the double and to the gateway: {} differ\n{}", wrong.len(), wrong.join("\n"));
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Times, and what a client says of an API server that is gone.
static VARYING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"("lastSeen":")20[^"]*|(failed to get (?:client CA configurations|CRs): ).*connection refused"#)
        .unwrap()
});

/// An answer as it is compared: its status, the headers that say what it is, and its text without what varies.
fn reported(answer: Result<(String, String), String>) -> String {
    // Of a handshake that fails, the alert is what the other side said.
    let Ok((head, text)) = answer else { return answer.unwrap_err() };
    let fixed = VARYING.replace_all(&text, "$1$2(...)");
    let mut reported = head.split(' ').nth(1).unwrap().to_owned();
    for line in head.lines().skip(1).filter(|line| !line.starts_with("Date")) {
        if fixed == text || !line.starts_with("Content-Length") {
            write!(reported, " [{line}]").unwrap();
        }
    }
    format!("{reported} {fixed}")
}

// Certificates.

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "x");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn days(count: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(jiff::Timestamp::now().as_second() + count * 86_400).unwrap()
}

/// Writes NAME.crt and NAME.key: a certificate that an issuer of such a name signed, or itself.
fn write(at: &Estate, name: &str, params: &CertificateParams, by: Option<&str>) {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        None => params.self_signed(&key).unwrap(),
        Some(by) => {
            let own = KeyPair::from_pem(&at.control.read(format!("{by}.key"))).unwrap();
            params
                .signed_by(&key, &Issuer::from_ca_cert_pem(&at.control.read(format!("{by}.crt")), own).unwrap())
                .unwrap()
        }
    };
    at.control.write(&format!("{name}.crt"), &certificate.pem());
    at.control.write(&format!("{name}.key"), &key.serialize_pem());
}

/// The CAs, each of which has issued the certificate `NAME-leaf`, and the leaves of the first CA, each bad in one way.
const CAS: [&str; 9] = ["good", "namesake", "expired", "future", "no-sign", "server-only", "short", "named", "no-ca"];
const LEAVES: [&str; 12] = [
    "good-leaf",
    "leaf-expired",
    "leaf-future",
    "leaf-server",
    "leaf-any",
    "leaf-none",
    "leaf-both",
    "leaf-ca",
    "leaf-critical",
    "leaf-nameless",
    "self",
    "good",
];

fn certificates(at: &Estate) {
    for name in CAS {
        let mut params = ca(if name == "namesake" { "good" } else { name });
        match name {
            "expired" => (params.not_before, params.not_after) = (days(-20), days(-10)),
            "future" => (params.not_before, params.not_after) = (days(10), days(20)),
            "no-sign" => params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
            "server-only" => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            "short" => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            "named" => {
                let excluded = vec![GeneralSubtree::DnsName("example.com".into())];
                params.name_constraints =
                    Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: excluded });
            }
            "no-ca" => params.is_ca = IsCa::ExplicitNoCa,
            _ => {}
        }
        write(at, name, &params, None);
        let mut params = leaf();
        if name == "named" {
            params.subject_alt_names.push(rcgen::SanType::DnsName("agent.example.com".try_into().unwrap()));
        }
        write(at, &format!("{name}-leaf"), &params, Some(name));
    }
    for name in LEAVES.into_iter().filter(|name| name.starts_with("leaf")) {
        let mut params = leaf();
        match name {
            "leaf-expired" => (params.not_before, params.not_after) = (days(-20), days(-10)),
            "leaf-future" => (params.not_before, params.not_after) = (days(10), days(20)),
            "leaf-server" => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            "leaf-any" => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
            "leaf-none" => params.extended_key_usages = vec![],
            "leaf-both" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
            "leaf-ca" => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "leaf-critical" => {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            }
            "leaf-nameless" => params.distinguished_name = rcgen::DistinguishedName::new(),
            _ => unreachable!("{name}"),
        }
        write(at, name, &params, Some("good"));
    }
    write(at, "self", &leaf(), None);
    for by in ["good", "short"] {
        write(at, &format!("{by}-between"), &ca("between"), Some(by));
        write(at, &format!("{by}-deep"), &leaf(), Some(&format!("{by}-between")));
        let chain = [format!("{by}-deep.crt"), format!("{by}-between.crt")].map(|file| at.control.read(file)).concat();
        at.control.write(&format!("{by}-chain.crt"), &chain);
    }
}

/// The files of a certificate of the tables.
fn files(name: &str) -> [&'static str; 2] {
    let key = if let Some(by) = name.strip_suffix("-chain") { format!("{by}-deep") } else { name.to_owned() };
    // A table is short, and so is what it leaks.
    [format!("{name}.crt").leak(), format!("{key}.key").leak()]
}

// The tables.

/// Requests of anybody for anything.
fn requests(both: &Both) {
    let long = "x".repeat(300);
    let ids = ["", "a", "x", "A", "-", "%27", "a%00b", "%0a", "a/b", "%C3%A4", "a&planeID=x", long.as_str()];
    for plane_type in ["", "x", "DataPlane", "dataplane%20", "clusterdataplane"].into_iter().chain(TYPES) {
        for id in ids {
            for pair in [None, AGENT] {
                both.socket(&format!("planeType={plane_type}&planeID={id}"), pair);
            }
        }
    }
    for query in
        ["", "planeType=dataplane", "planeID=x", "planetype=dataplane&planeid=x", "planeType=dataplane;planeID=x", "%"]
    {
        both.socket(query, AGENT);
    }
    for path in
        ["/", "/ws/", "/WS", "/health", "/ready", "/api", "/api/v1/planes", "//ws", "/ws/../ws?planeType=a", "/metrics"]
    {
        for method in ["GET", "POST", "HEAD"] {
            both.ask(false, &format!("{method} {path} HTTP/1.0"), AGENT, "");
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "X"] {
        both.ask(false, &format!("{method} /ws?planeType=dataplane&planeID=a HTTP/1.0"), AGENT, "");
    }
    for path in [
        "/",
        "/ws",
        "/api/v1/planes",
        "/api/v1/planes/x",
        "/api/v1/planes/notify",
        "/api/v1/planes/a/b/c",
        "/api/v1/planes/a/b/status/",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            both.api(&format!("{method} {path}"), &Value::Null);
        }
    }
    // Who may ask at all.
    for pair in [None, AGENT, Some(files("self"))] {
        both.ask(true, "GET /api/v1/planes/status HTTP/1.0", pair, "");
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{}",
        "{\"planeType\":1}",
        "{\"planeType\":\"dataplane\",\"planeID\":null,\"event\":\"updated\"}",
        "{\"PLANETYPE\":\"dataplane\",\"planeid\":\"x\",\"Event\":\"moved\"}",
        "{\"planeType\":\"dataplane\",\"planeID\":\"x\",\"event\":[]}",
        "{\"planeType\":\"x\",\"planeID\":\"x\",\"event\":\"updated\"}",
        "{\"planeType\":\"x\",\"planeID\":\"x\",\"event\":\"created\"}",
        "{\"planeType\":\"x\",\"planeID\":\"x\",\"event\":\"deleted\"}",
        "{} x",
        "{\"planeType\":\"\u{7f}\"",
    ] {
        both.ask(true, "POST /api/v1/planes/notify HTTP/1.0", CONTROLLER, body);
    }
}

/// Certificates and CAs, each with each.
fn chains(both: &Both) {
    let at = &both.at;
    create(at, TYPE, "/a", Some("a"), &both.value("good.crt"));
    let bundle = |names: &[&str]| json!({"value": names.iter().map(|name| at.control.read(format!("{name}.crt"))).collect::<String>()});
    let mut trusted: Vec<_> =
        CAS.iter().chain(&["self", "good-between", "good-leaf", "leaf-server"]).map(|name| bundle(&[name])).collect();
    trusted.extend([&["namesake", "good"][..], &["expired", "self"], &["good", "good-between"]].map(bundle));
    let presented = CAS.iter().map(|name| format!("{name}-leaf")).chain(LEAVES.map(str::to_owned));
    let presented: Vec<_> =
        presented.chain(["good-deep", "good-chain", "short-chain", "short-deep"].map(str::to_owned)).collect();
    for value in trusted {
        client_ca(at, TYPE, "/a", value);
        for name in &presented {
            both.socket(&format!("planeType={TYPE}&planeID=a"), Some(files(name)));
        }
    }
    delete(at, TYPE, "/a");
}

/// What a plane may have for a CA, of each type and in both scopes.
fn sources(both: &Both) {
    let at = &both.at;
    let pem = at.control.read("old/ca.crt");
    let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    at.control
        .kubectl(&["create", "secret", "generic", "ca", "--from-file=ca.crt=old/ca.crt", "--from-literal=empty="], "");
    at.control.kubectl(&["create", "secret", "generic", "ca", "-n", "team", "--from-file=ca.crt=old/ca.crt"], "");
    let other = if both.era.secret == "secretRef" { "secretKeyRef" } else { "secretRef" };
    let of = |fields: Value| json!({both.era.secret: fields});
    let texts = [
        String::new(),
        " ".into(),
        "hello".into(),
        body.clone(),
        format!("text\n{pem}text\n"),
        pem.replace('\n', "\r\n"),
        pem.replace('\n', " "),
        pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        pem.replace("CERTIFICATE-----\n", "CERTIFICATE-----\nA: b\n\n"),
        format!("{}{pem}", pem.replace("MII", "AAA")),
        format!("{}{pem}", at.control.read("old/ca.key")),
        pem[..pem.len() / 2].to_owned(),
        format!("  {pem}"),
        pem.replace("-----BEGIN", "----BEGIN"),
        format!("{pem}\u{0}"),
        pem.trim_end().to_owned(),
        body[..8].to_owned(),
    ];
    let mut all: Vec<_> = texts.into_iter().map(|text| json!({"value": text})).collect();
    all.extend([
        json!({}),
        json!({"value": null}),
        json!({both.era.secret: null}),
        of(json!({})),
        of(json!({"name": "ca"})),
        of(json!({"key": "ca.crt"})),
        of(json!({"name": "ca", "key": "ca.crt"})),
        of(json!({"name": "ca", "namespace": "team", "key": "ca.crt"})),
        of(json!({"name": "ca", "namespace": "default", "key": "ca.crt"})),
        of(json!({"name": "ca", "namespace": "default", "key": "none"})),
        of(json!({"name": "ca", "namespace": "default", "key": "empty"})),
        of(json!({"name": "none", "namespace": "default", "key": "ca.crt"})),
        of(json!({"name": "gone", "namespace": "default", "key": "ca.crt"})),
        of(json!({"name": "ca", "namespace": "gone", "key": "ca.crt"})),
        json!({other: {"name": "ca", "namespace": "team", "key": "ca.crt"}}),
        json!({"value": pem, both.era.secret: {"name": "gone", "key": "x"}}),
        json!({"value": "x", both.era.secret: {"name": "ca", "namespace": "team", "key": "ca.crt"}}),
    ]);
    for plane_type in TYPES {
        for key in ["/s", "team/s"] {
            create(at, plane_type, key, Some("s"), &json!({}));
            for (number, source) in all.iter().enumerate() {
                // The type that both know is asked for all, the others for some.
                if plane_type == TYPE || number % 4 == 0 {
                    // One of the CRDs is the tests' own, which refuses some.
                    let patch = json!([{"op": "replace", "path": "/spec/clusterAgent/clientCA", "value": source}]);
                    at.control.api().send("PATCH", &path(plane_type, key), "application/json-patch+json", &patch);
                    both.socket(&format!("planeType={plane_type}&planeID=s"), AGENT);
                    both.notify("s", "updated", key);
                }
            }
            delete(at, plane_type, key);
        }
        // Without a planeID only a namespaced plane has one.
        for key in ["/named", "team/named"] {
            create(at, plane_type, key, None, &both.value("old/ca.crt"));
            for id in ["named", "team/named", "Named"] {
                both.socket(&format!("planeType={plane_type}&planeID={id}"), AGENT);
            }
            delete(at, plane_type, key);
        }
    }
}

/// An agent that is connected to both, while planes come, change and go.
fn sessions(both: &Both) {
    let at = &both.at;
    both.statuses();
    let (good, bad) = (both.value("old/ca.crt"), both.value("good.crt"));
    create(at, TYPE, "/a", Some("x"), &good);
    both.until_connected();
    create(at, TYPE, "team/b", Some("x"), &bad);
    both.statuses();
    for event in ["updated", "moved", "created", "deleted"] {
        for key in ["/a", "team/b", "team/a", "/none", "/"] {
            both.notify("x", event, key);
            // Each state is one that both are in: an agent that was disconnected returns.
            both.until_connected();
            both.statuses();
        }
    }
    let text = |text: &str| json!({"value": text});
    for (a, b) in [
        (&bad, &good),
        (&good, &good),
        (&text("hello"), &good),
        (&json!({}), &good),
        (&good, &bad),
        (&good, &json!({})),
        (&good, &text(" ")),
    ] {
        client_ca(at, TYPE, "/a", a.clone());
        client_ca(at, TYPE, "team/b", b.clone());
        for key in ["/a", "team/b"] {
            both.notify("x", "updated", key);
            both.until_connected();
            both.statuses();
        }
    }
    client_ca(at, TYPE, "/a", good);
    for plane in ["dataplane/x", "dataplane/none", "other/x"] {
        both.api(&format!("POST /api/v1/planes/{plane}/reconnect"), &Value::Null);
        both.until_connected();
        both.statuses();
    }
    // A plane that goes takes nobody with it until the controller says so.
    delete(at, TYPE, "/a");
    client_ca(at, TYPE, "team/b", bad);
    both.statuses();
    both.notify("x", "deleted", "/a");
    std::thread::sleep(Duration::from_secs(2));
    both.statuses();
    both.socket(&format!("planeType={TYPE}&planeID=x"), AGENT);
    delete(at, TYPE, "team/b");
}

/// An agent whose certificate has an intermediate: up to v0.17 the gateway forgets that once it is connected.
fn sessions_of_a_chain(both: &mut Both) {
    both.present("good-chain");
    let at = &both.at;
    let (good, bad) = (both.value("good.crt"), both.value("old/ca.crt"));
    create(at, TYPE, "/a", Some("x"), &good);
    both.until_connected();
    create(at, TYPE, "team/b", Some("x"), &good);
    for ca in [&good, &bad, &good] {
        client_ca(at, TYPE, "/a", ca.clone());
        for key in ["team/b", "/a"] {
            both.notify("x", "updated", key);
            both.statuses();
        }
    }
}

fn compare(release: Release, era: &'static Era) {
    let _alone = openchoreo::alone();
    let mut both = Both::start(release, era);
    requests(&both);
    chains(&both);
    sources(&both);
    sessions(&both);
    sessions_of_a_chain(&mut both);
    // Without an API server both say so, each in its client's words.
    both.at.control.kill();
    for plane_type in TYPES {
        both.socket(&format!("planeType={plane_type}&planeID=x"), AGENT);
    }
    both.notify("x", "updated", "/a");
    both.statuses();
    both.end();
}

fn the_double_answers_as_the_gateway_of_v0_17() {
    compare(V0_17, &V0);
}

fn the_double_answers_as_the_gateway_of_v1_2() {
    compare(V1_2, &V1);
}
