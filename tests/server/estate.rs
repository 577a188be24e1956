//! A control plane and a plane's cluster, each an API server of its own, and between them the double of gateway,
//! controller and agents; or OpenChoreo's own programs, where a story is run on a release of them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::{ControlPlane, Output, Running};
use super::openchoreo::{self, Programs};

pub const NAMESPACE: &str = "openchoreo-build-plane";
pub const DEPLOYMENT: &str = "cluster-agent-buildplane";
pub const SECRET: &str = "cluster-agent-tls";
/// A kind of plane that a story is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub kind: &'static str,
    /// Which names it on a command line.
    pub word: &'static str,
    pub plane_type: &'static str,
    /// That of its planes, where they have one.
    pub namespace: Option<&'static str>,
}

/// The kind of most stories.
pub const BUILD: Subject =
    Subject { kind: "ClusterBuildPlane", word: "cbp", plane_type: "buildplane", namespace: None };

/// The one that follows it in v1.0.
pub const WORKFLOW: Subject =
    Subject { kind: "ClusterWorkflowPlane", word: "cwp", plane_type: "workflowplane", namespace: None };

impl Subject {
    /// Where the control plane's API has a plane of it.
    pub fn path(&self, name: &str) -> String {
        let namespace = self.namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
        format!("/apis/openchoreo.dev/v1alpha1/{namespace}{}s/{name}", self.kind.to_lowercase())
    }

    /// Whether it is one of v1.0 and later.
    pub fn is_late(&self) -> bool {
        self.plane_type != BUILD.plane_type
    }
}

/// The double, built once; its folder goes with the process's temporary ones.
static DOUBLE: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/double");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("./double");
    assert!(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway")).status().unwrap().success());
    program
});

/// What is between the clusters.
enum Around {
    Double(Double),
    Programs(Programs),
}

struct Double {
    process: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

pub struct Estate {
    pub control: ControlPlane,
    pub build: ControlPlane,
    /// The kind of the plane that the story is about.
    pub subject: Subject,
    around: Around,
    /// Where the gateway listens.
    pub port: u16,
    /// Where it has its API for planes, unless that shares the agents' port.
    pub api_port: u16,
}

impl Estate {
    /// Two API servers and an agent of this planeID, with a CA and a certificate in the folder `old`.
    pub fn start(plane_id: &str) -> Self {
        let subject = if openchoreo::release() == Some(openchoreo::V1_2) { WORKFLOW } else { BUILD };
        Self { subject, ..Self::of(&[(subject.plane_type, plane_id)]) }
    }

    /// Two API servers and in one of them an agent of each plane type and planeID, with the namespace and the names of its
    /// chart. The first one's CA and certificate are in the folder `old`, the others' in folders of their plane types.
    pub fn of(agents: &[(&str, &str)]) -> Self {
        let (control, build) = servers();
        for (number, (plane_type, plane_id)) in agents.iter().enumerate() {
            let folder = if number == 0 { "old" } else { plane_type };
            let (namespace, _) = names(plane_type);
            control.run(&["certs", "ca", "--out-dir", folder]).expect(0);
            control.run(&["certs", "client", "--plane-id", plane_id, "--ca-dir", folder]).expect(0);
            build.kubectl(&["create", "namespace", &namespace], "");
            let secret = control.run(&["certs", "secret", folder, "-n", &namespace]).expect(0).stdout;
            build.kubectl(&["apply", "-f", "-"], &secret);
            build.kubectl(&["apply", "-f", "-"], &agent(plane_type, plane_id).to_string());
        }
        Self::with_double(control, build, agents.iter().map(|(plane_type, _)| names(plane_type)))
    }

    /// Two API servers and in one of them namespaces, in which agents run as soon as they are installed by these names.
    pub fn for_agents(places: &[(&str, &str)]) -> Self {
        let (control, build) = servers();
        let namespaces: BTreeSet<_> = places.iter().map(|(namespace, _)| namespace).collect();
        for namespace in namespaces {
            build.kubectl(&["create", "namespace", namespace], "");
        }
        Self::with_double(control, build, places.iter().map(|(namespace, name)| ((*namespace).into(), (*name).into())))
    }

    /// Starts the double for the agents' namespaces and Deployments, or the programs of the story's release.
    fn with_double(
        control: ControlPlane,
        build: ControlPlane,
        places: impl Iterator<Item = (String, String)> + Clone,
    ) -> Self {
        let estate = match openchoreo::release() {
            Some(release) => {
                let programs = Programs::start(&control, &build, release);
                let (port, api_port) = openchoreo::PORTS;
                Self { control, build, subject: BUILD, around: Around::Programs(programs), port, api_port }
            }
            None => {
                let (double, port, api_port) = Double::start(&control, &build, places.clone());
                Self { control, build, subject: BUILD, around: Around::Double(double), port, api_port }
            }
        };
        let ca = json!({"ca.crt": std::fs::read_to_string(estate.control.path().join("gateway.crt")).unwrap()});
        for (namespace, _) in places {
            estate.server_ca_in(&namespace, &ca);
        }
        estate
    }

    /// The namespace of the subject's agent.
    fn namespace(&self) -> String {
        names(self.subject.plane_type).0
    }

    /// Where the API of the planes' cluster has what is in the namespace of the subject's agent.
    fn place(&self, group: &str, rest: &str) -> String {
        format!("/{group}/namespaces/{}/{rest}", self.namespace())
    }

    pub fn agent_path(&self) -> String {
        self.place("apis/apps/v1", &format!("deployments/{}", names(self.subject.plane_type).1))
    }

    pub fn pods_path(&self) -> String {
        self.place("api/v1", "pods")
    }

    pub fn secret_path(&self) -> String {
        self.place("api/v1", &format!("secrets/{SECRET}"))
    }

    pub fn server_ca_path(&self) -> String {
        self.place("api/v1", "configmaps/cluster-gateway-ca")
    }

    /// The gateway's CA in the ConfigMap that the agent reads.
    pub fn trust_gateway(&self) {
        let ca = std::fs::read_to_string(self.control.path().join("gateway.crt")).unwrap();
        self.server_ca(json!({"ca.crt": ca}));
    }

    /// Other keys in the ConfigMap that the agent reads.
    pub fn server_ca(&self, data: Value) {
        self.server_ca_in(&self.namespace(), &data);
    }

    fn server_ca_in(&self, namespace: &str, data: &Value) {
        let metadata = json!({"name": "cluster-gateway-ca", "namespace": namespace});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        self.build.api().write(&format!("/api/v1/namespaces/{namespace}/configmaps/cluster-gateway-ca"), &map);
    }

    /// Ends the double as a power cut would.
    pub fn kill_double(&mut self) {
        self.double_mut().end();
    }

    fn double(&self) -> &Double {
        match &self.around {
            Around::Double(double) => double,
            Around::Programs(_) => panic!("only the double does that"),
        }
    }

    fn double_mut(&mut self) -> &mut Double {
        match &mut self.around {
            Around::Double(double) => double,
            Around::Programs(_) => panic!("only the double does that"),
        }
    }

    /// Whether OpenChoreo's own programs run.
    pub fn is_real(&self) -> bool {
        matches!(self.around, Around::Programs(_))
    }

    /// The control plane's namespace with the gateway's CA, which OpenChoreo's charts bring with them.
    pub fn control_namespace(&self) {
        if !self.is_real() {
            let namespace = "openchoreo-control-plane";
            self.control.kubectl(&["create", "namespace", namespace], "");
            let ca = ["create", "secret", "generic", "cluster-gateway-ca", "--from-file=ca.crt=gateway.crt"];
            self.control.kubectl(&[&ca[..], &["-n", namespace]].concat(), "");
        }
    }

    /// The agent's Deployment, with the gateway's URL among its arguments.
    pub fn agent(&self, plane_id: &str) -> Value {
        Self::agent_of(self.subject.plane_type, plane_id, self.port)
    }

    /// An agent of a plane type at the gateway of this port.
    pub fn agent_of(plane_type: &str, plane_id: &str, port: u16) -> Value {
        let mut agent = agent(plane_type, plane_id);
        set_argument(&mut agent, &format!("--server-url=wss://localhost:{port}/ws"));
        agent
    }

    /// Writes it with another argument in the place of the one of its name. Each time there are new pods, which read the
    /// Secret anew.
    pub fn deploy(&self, plane_id: &str, argument: &str) {
        let mut agent = self.agent(plane_id);
        set_argument(&mut agent, argument);
        let time = jiff::Timestamp::now().to_string();
        agent["spec"]["template"]["metadata"]["annotations"] = json!({"restarted": time});
        self.build.api().write(&self.agent_path(), &agent);
    }

    /// Waits until what starts has surely read what the agent's Secret holds now: times are whole seconds.
    pub fn a_second_later(&self) {
        let secret = self.build.api().get(&self.secret_path()).unwrap_or_default();
        let entries = secret["metadata"]["managedFields"].as_array();
        let times = entries.into_iter().flatten().filter_map(|entry| entry["time"].as_str()?.parse().ok());
        let Some(written): Option<jiff::Timestamp> = times.max() else { return };
        let over = written + jiff::SignedDuration::from_millis(1050);
        let left = over.duration_since(jiff::Timestamp::now());
        std::thread::sleep(left.try_into().unwrap_or_default());
    }

    /// How many connections asked to become an agent.
    pub fn upgrades(&self) -> u64 {
        self.numbers()["upgrades"].as_u64().unwrap()
    }

    /// The double's numbers.
    pub fn numbers(&self) -> Value {
        let double = self.double();
        writeln!(&double.orders, "count").unwrap();
        serde_json::from_str(&double.answer(|line| line.starts_with('{'))).unwrap()
    }

    /// How many attempts of the agents were authorized and refused since the last reset, and what was refused.
    pub fn count(&mut self) -> (u64, u64, Value) {
        if let Around::Programs(programs) = &self.around {
            return programs.count(&self.control);
        }
        let counts = self.numbers();
        let sum = |outcome: &str| -> u64 {
            ["pod", "restless"].iter().map(|kind| counts["attempts"][*kind][outcome].as_u64().unwrap()).sum()
        };
        (sum("authorized"), sum("refused"), counts["refusals"].clone())
    }

    pub fn reset(&mut self) {
        self.order("reset");
    }

    /// Says the double to be otherwise from now on: `gateway expired`, `reports off`.
    pub fn order(&self, order: &str) {
        match &self.around {
            Around::Double(double) => double.order(order),
            Around::Programs(programs) => programs.order(order, &self.control, &self.build),
        }
    }

    /// Waits until agents are let in, and counts from then on.
    pub fn settle(&mut self) {
        if let Around::Programs(programs) = &self.around {
            programs.settle(&self.control);
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.reset();
            std::thread::sleep(Duration::from_millis(1200));
            let (authorized, refused, reported) = self.count();
            // An agent of OpenChoreo's keeps the connection that it has.
            if (authorized > 10 || self.is_real()) && refused == 0 {
                return self.reset();
            }
            assert!(Instant::now() < deadline, "the agents are not authorized: {reported}");
        }
    }

    /// Fails where an agent was refused, or where none tried: those of OpenChoreo keep a connection that they have.
    #[track_caller]
    pub fn nobody_was_refused(&mut self) {
        let (authorized, refused, reported) = self.count();
        assert!(
            (authorized > 0 || self.is_real()) && refused == 0,
            "{authorized} authorized, {refused} refused: {reported:#}"
        );
    }

    fn args<'a>(&'a self, args: &[&'a str], kubeconfig: &'a str) -> Vec<&'a str> {
        [args, &["--build-kubeconfig", kubeconfig]].concat()
    }

    /// The binary, for both clusters.
    pub fn run(&self, args: &[&str]) -> Output {
        let kubeconfig = self.build.kubeconfig().to_string_lossy().into_owned();
        self.control.run(&self.args(args, &kubeconfig))
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        let kubeconfig = self.build.kubeconfig().to_string_lossy().into_owned();
        self.control.spawn(&self.args(args, &kubeconfig))
    }

    /// A Secret beside the agent, decoded.
    pub fn secret(&self, name: &str) -> std::collections::BTreeMap<String, String> {
        use base64::Engine as _;
        let namespace = self.namespace();
        let object = self.build.kubectl(&["get", "secret", "-n", &namespace, name, "-o", "json"], "").json();
        let decode = |value: &Value| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        object["data"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), decode(value))).collect()
    }

    /// The names of the Secrets beside the agent.
    pub fn secrets(&self) -> String {
        let namespace = self.namespace();
        self.build.kubectl(&["get", "secrets", "-n", &namespace, "-o", "name"], "").stdout
    }

    /// A plane's inline CA.
    pub fn value(&self, plane: &str) -> String {
        let object = self.control.kubectl(&["get", self.subject.kind, plane, "-o", "json"], "").json();
        object["spec"]["clusterAgent"]["clientCA"]["value"].as_str().unwrap_or_default().to_owned()
    }
}

impl Double {
    /// The double, and the ports of its gateway and its API.
    fn start(
        control: &ControlPlane,
        build: &ControlPlane,
        places: impl Iterator<Item = (String, String)>,
    ) -> (Self, u16, u16) {
        let mut command = Command::new(&*DOUBLE);
        command.arg(control.path());
        for (namespace, deployment) in places {
            command.arg(build.path()).args([namespace, deployment]);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, answers) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let orders = process.stdin.take().unwrap();
        let double = Self { process, orders, answers };
        let port = double.answer(|line| line.starts_with("ready "))[6..].parse().unwrap();
        let api_port = double.answer(|line| line.starts_with("api "))[4..].parse().unwrap();
        (double, port, api_port)
    }

    fn answer(&self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.answers.recv_timeout(Duration::from_secs(30)).unwrap();
            if fits(&line) {
                return line;
            }
        }
    }

    fn order(&self, order: &str) {
        writeln!(&self.orders, "{order}").unwrap();
        self.answer(|line| line == "ok");
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.end();
    }
}

/// A control plane, and a plane's cluster.
fn servers() -> (ControlPlane, ControlPlane) {
    std::thread::scope(|scope| {
        let other = scope.spawn(ControlPlane::start);
        (ControlPlane::start(), other.join().unwrap())
    })
}

/// Puts an argument in the place of the one of its name.
fn set_argument(agent: &mut Value, argument: &str) {
    let name = argument.split('=').next().unwrap();
    let arguments = agent["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
    let old = arguments.iter_mut().filter(|old| old.as_str().unwrap().starts_with(name));
    old.for_each(|old| *old = argument.into());
}

/// The namespace and the Deployment of an agent, as guides and charts have them.
pub fn names(plane_type: &str) -> (String, String) {
    let family = plane_type.trim_end_matches("plane");
    (format!("openchoreo-{family}-plane"), format!("cluster-agent-{plane_type}"))
}

/// An agent as OpenChoreo's chart makes it.
pub fn agent(plane_type: &str, plane_id: &str) -> Value {
    let ((namespace, name), family) = (names(plane_type), plane_type.trim_end_matches("plane"));
    let labels = json!({
        "app": "cluster-agent",
        "app.kubernetes.io/component": "cluster-agent",
        "app.kubernetes.io/name": namespace,
        "app.kubernetes.io/instance": family,
    });
    let mut arguments = vec![
        format!("--server-url={}", openchoreo::release().map_or("wss://127.0.0.1:1/ws", |_| openchoreo::URL)),
        format!("--plane-type={plane_type}"),
        format!("--plane-id={plane_id}"),
        "--client-cert=/certs/tls.crt".to_owned(),
        "--client-key=/certs/tls.key".to_owned(),
        "--server-ca=/ca-certs/ca.crt".to_owned(),
    ];
    // The chart of observability planes never passes it.
    if plane_type != "observabilityplane" {
        arguments.push("--tls-enabled=true".to_owned());
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "cluster-agent", "app.kubernetes.io/instance": family}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{
                        "name": "agent",
                        "image": openchoreo::release().map_or("agent".into(), openchoreo::Release::agent),
                        "args": arguments,
                        "volumeMounts": [
                            {"name": "client-certs", "mountPath": "/certs"},
                            {"name": "server-ca", "mountPath": "/ca-certs"},
                        ],
                    }],
                    "volumes": [
                        {"name": "client-certs", "secret": {"secretName": SECRET}},
                        {"name": "server-ca", "configMap": {"name": "cluster-gateway-ca"}},
                    ],
                },
            },
        },
    })
}
