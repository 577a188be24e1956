//! OpenChoreo's own gateway, controller and agents, and cert-manager, in the place of the double: stories of other modules
//! are run on them once more. tests/openchoreo builds them and runs their pods.
//!
//! A gateway takes fixed ports of this machine, so only one of these stories runs at a time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::{ControlPlane, finish};
use super::eras::DATA;
use super::estate::{BUILD, DEPLOYMENT, Estate, NAMESPACE, SECRET, Subject, WORKFLOW};
use super::helm::{PLANE, check, diagnose};
use super::hints::{HELM, paste};
use super::{families, faults, helm, moments, patient, rotation, unregister};

stories!(
    OpenChoreo:
        the_agent_is_installed_and_repaired_on_v0_17,
        a_rotation_goes_by_helm_and_back_on_v0_17,
        the_charts_own_certificate_is_led_to_a_ca_on_v0_17,
        a_certificate_that_is_not_issued_is_the_cause_on_v0_17,
        a_pinned_certificate_is_renewed_and_its_agent_refused,
        a_rotation_refuses_nobody_on_v0_17,
        a_rotation_is_finished_after_any_moment_on_v0_17,
        a_rollback_is_finished_after_any_moment_on_v0_17,
        a_registration_is_finished_after_any_moment_on_v0_17,
        a_removal_is_finished_after_any_moment_on_v0_17,
        a_rotation_is_finished_after_any_moment_on_v1_2,
        a_rollback_is_finished_after_any_moment_on_v1_2,
        second_operators_leave_one_ca_on_v0_17,
        second_operators_leave_one_ca_on_v1_2,
        both_clusters_return_to_the_state_before_on_v0_17,
        planes_of_three_families_are_registered_and_one_is_rotated_on_v1_2,
        a_plane_is_migrated_with_its_control_plane,
        an_agent_is_looked_after_on_v0_17,
        an_agent_is_looked_after_on_v1_2,
        doctor_names_what_is_wrong_on_v0_17,
        doctor_names_what_is_wrong_on_v1_2,
        doctor_names_what_is_wrong_with_a_data_plane_on_v1_2;
);

/// A release that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release(pub &'static str);

pub const V0_17: Release = Release("v0.17.0");
pub const V1_2: Release = Release("v1.2.3");

/// Where a gateway has agents, and its API from v1.0 on.
pub const PORTS: (u16, u16) = (8443, 8444);
/// Where agents reach it.
pub const URL: &str = "wss://localhost:8443/ws";

const CONTROL: &str = "openchoreo-control-plane";
/// How long the programs have for what takes them a minute: the controller asks once in one.
const SOON: Duration = Duration::from_secs(120);

impl Release {
    /// The image of its agent.
    pub fn agent(self) -> String {
        format!("cluster-agent:{}", self.0)
    }

    /// Where a program or the charts of it are.
    pub fn path(self, name: &str) -> PathBuf {
        BUILT.join(self.0).join(name)
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openchoreo").join(name)
}

/// Where all is that was built.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let build = Command::new(script("build")).output().unwrap();
    String::from_utf8(build.stdout).unwrap().trim().into()
});

/// Whether the programs can be had: the reason why not, otherwise. They are built where they are not.
pub fn available() -> Result<(), String> {
    let build = Command::new(script("build")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let build = build.wait_with_output().unwrap();
    let reported = String::from_utf8(build.stderr).unwrap().trim().to_owned();
    match build.status.code() {
        Some(0) => Ok(()),
        Some(3) => Err(reported),
        _ => panic!("OpenChoreo could not be built: {reported}"),
    }
}

thread_local! {
    static RELEASE: Cell<Option<Release>> = const { Cell::new(None) };
}

/// The release whose programs the story of this thread is run on, if it isn't the double.
pub fn release() -> Option<Release> {
    RELEASE.get()
}

/// Waits until no other story has a gateway.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a story on the programs of a release.
pub fn on<T>(release: Release, story: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            RELEASE.set(None);
        }
    }
    let _alone = alone();
    let _back = Back;
    RELEASE.set(Some(release));
    story()
}

/// What runs beside the API servers of both clusters.
pub struct Programs {
    running: BTreeMap<String, Child>,
    cert_manager: Mutex<Option<Child>>,
    release: Cell<Release>,
    /// From when on connections are counted.
    since: Mutex<jiff::Timestamp>,
}

impl Programs {
    pub fn start(control: &ControlPlane, plane: &ControlPlane, release: Release) -> Self {
        let mut running = BTreeMap::new();
        for (at, name) in [(control, "control"), (plane, "plane")] {
            at.kubectl(&["delete", "crd", "--all"], "");
            let crds = BUILT.join("cert-manager/crds");
            at.kubectl(&["apply", "--server-side", "-f", &crds.to_string_lossy()], "");
            let mut managers = Command::new(BUILT.join("kube-controller-manager"));
            managers.args([
                "--leader-elect=false",
                "--secure-port=0",
                "--root-ca-file=apiserver.crt",
                "--kubeconfig=kubeconfig",
            ]);
            managers.arg("--controllers=deployment-controller,replicaset-controller,namespace-controller,garbage-collector-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,endpoints-controller,endpointslice-controller");
            running.insert(format!("managers of {name}"), spawn(at, "kube-controller-manager", managers));
            let mut kubelet = Command::new("python3");
            kubelet.arg(script("kubelet.py")).arg(at.path()).arg(&*BUILT);
            running.insert(format!("kubelet of {name}"), spawn(at, "kubelet", kubelet));
        }
        running.insert("cert-manager of control".into(), cert_manager(control));
        let since = Mutex::new(jiff::Timestamp::now());
        let release = Cell::new(release);
        let programs = Self { running, cert_manager: Mutex::new(Some(cert_manager(plane))), release, since };
        programs.install(control);
        programs
    }

    /// The control plane's chart, with the ports of this machine in mind.
    fn install(&self, control: &ControlPlane) {
        let chart = self.release.get().path("charts/openchoreo-control-plane");
        let crds = chart.join("crds");
        control.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()], "");
        control.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "");
        let names = [
            "localhost".to_owned(),
            format!("cluster-gateway.{CONTROL}.svc"),
            format!("cluster-gateway.{CONTROL}.svc.cluster.local"),
        ];
        let gateway = json!({"image": {"pullPolicy": "IfNotPresent"}, "tls": {"dnsNames": names}});
        let arguments = ["--metrics-bind-address=0", "--leader-elect", "--health-probe-bind-address=0"];
        let manager = json!({"args": arguments, "env": {"enableWebhooks": "false"}});
        let values = json!({"clusterGateway": gateway, "controllerManager": {"manager": manager}});
        let values = control.write("control-values.json", &values.to_string());
        let mut install = Command::new(&*HELM);
        install.args(["upgrade", "--install", CONTROL]).arg(&chart).args([
            "--namespace",
            CONTROL,
            "--create-namespace",
        ]);
        install
            .args(["--skip-crds", "--skip-schema-validation", "--values", &values])
            .env("KUBECONFIG", control.kubeconfig());
        finish(install, "").expect(0);
        // One gateway has to be gone before the next one takes its ports; nobody probes the manager.
        let recreate = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}).to_string();
        control.kubectl(&["patch", "deployment", "cluster-gateway", "-n", CONTROL, "-p", &recreate], "");
        let probes: Vec<_> = ["readinessProbe", "livenessProbe"]
            .map(|probe| json!({"op": "remove", "path": format!("/spec/template/spec/containers/0/{probe}")}))
            .into();
        let probes = Value::from(probes).to_string();
        control
            .kubectl(&["patch", "deployment", "controller-manager", "-n", CONTROL, "--type=json", "-p", &probes], "");
        for name in ["cluster-gateway", "controller-manager"] {
            control.kubectl(&["rollout", "status", "deployment", name, "-n", CONTROL, "--timeout=120s"], "");
        }
        let ca = [
            "get",
            "secret",
            "cluster-gateway-ca",
            "-n",
            CONTROL,
            "-o",
            r#"go-template={{index .data "ca.crt" | base64decode}}"#,
        ];
        control.write("gateway.crt", &control.kubectl(&ca, "").stdout);
    }

    /// Does what the double is reported, as far as it can be done to the programs.
    pub fn order(&self, order: &str, control: &ControlPlane, plane: &ControlPlane) {
        let replicas = |count: &str| {
            control.kubectl(
                &["scale", "deployment", "controller-manager", "-n", CONTROL, &format!("--replicas={count}")],
                "",
            );
        };
        match order {
            "gateway well" | "logs on" | "finalizers on" | "api mutual" => {}
            "era v1" if self.release.get() == V1_2 => {}
            "era v1" => {
                self.release.set(V1_2);
                self.install(control);
            }
            "reset" => *self.since.lock().unwrap() = jiff::Timestamp::now(),
            "reports on" => replicas("1"),
            "reports off" => {
                replicas("0");
                let gone = ["wait", "pod", "-l", "app.kubernetes.io/component=controller-manager", "-n", CONTROL];
                control.kubectl(&[&gone[..], &["--for=delete", "--timeout=60s"]].concat(), "");
            }
            "issuing on" => *self.cert_manager.lock().unwrap() = Some(cert_manager(plane)),
            "issuing off" => {
                let mut running = self.cert_manager.lock().unwrap().take().unwrap();
                running.kill().unwrap();
                running.wait().unwrap();
            }
            _ => panic!("the programs is unknown: {order}"),
        }
    }

    /// How many connections the gateway authorized and refused since the last reset, and what it said of the refused.
    pub fn count(&self, control: &ControlPlane) -> (u64, u64, Value) {
        let since = *self.since.lock().unwrap();
        let log = control.kubectl(&["logs", "deployment/cluster-gateway", "-n", CONTROL], "").stdout;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_new =
            |line: &Value| line["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().unwrap() >= since);
        let lines: Vec<_> = lines.filter(is_new).collect();
        let of = |message: &str| lines.iter().filter(|line| line["msg"] == message).cloned().collect::<Vec<_>>();
        let (authorized, refused) = (of("agent connected successfully"), of("per-CR certificate verification failed"));
        (authorized.len() as u64, refused.len() as u64, refused.into())
    }

    /// Waits until an agent was authorized, and none was refused since.
    pub fn settle(&self, control: &ControlPlane) {
        let deadline = Instant::now() + SOON;
        while self.count(control).0 == 0 {
            assert!(Instant::now() < deadline, "no agent is authorized: {:?}", self.count(control));
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // A kubelet ends its pods at the end of its input.
        self.running.values_mut().for_each(|child| drop(child.stdin.take()));
        let cert_manager = self.cert_manager.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (name, child) in &mut self.running {
            if !name.starts_with("kubelet") {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        if let Some(child) = cert_manager {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn cert_manager(at: &ControlPlane) -> Child {
    let mut command = Command::new(BUILT.join("cert-manager/cert-manager"));
    command.args(["--kubeconfig=kubeconfig", "--leader-elect=false", "--metrics-listen-address=127.0.0.1:0"]);
    command.arg("--internal-healthz-listen-address=127.0.0.1:0");
    spawn(at, "cert-manager", command)
}

/// Starts a program in a cluster's folder, where it leaves its log.
pub fn spawn(at: &ControlPlane, name: &str, mut command: Command) -> Child {
    let log = File::create(at.path().join(format!("{name}.log"))).unwrap();
    command.current_dir(at.path()).stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

fn the_agent_is_installed_and_repaired_on_v0_17() {
    on(V0_17, helm::what_helm_was_reported_wrongly_is_put_right_by_the_command_that_is_printed);
}

fn a_rotation_goes_by_helm_and_back_on_v0_17() {
    on(V0_17, helm::a_rotation_from_ca_to_ca_goes_by_helm_and_back);
}

fn the_charts_own_certificate_is_led_to_a_ca_on_v0_17() {
    on(V0_17, helm::the_charts_own_certificate_is_led_to_a_ca);
}

fn a_certificate_that_is_not_issued_is_the_cause_on_v0_17() {
    on(V0_17, helm::a_certificate_that_is_not_issued_is_the_cause);
}

/// What happens on day 75 of a plane that was registered as the guides have it, in two minutes: cert-manager renews the
/// certificate that the plane pins, and the agent is refused when it starts again.
fn a_pinned_certificate_is_renewed_and_its_agent_refused() {
    on(V0_17, || {
        let mut at = helm::prepared();
        let chart = "oci://ghcr.io/openchoreo/helm-charts/openchoreo-build-plane --version 0.17.0";
        let kubeconfig = at.build.kubeconfig();
        let sets = format!("serverUrl={URL} planeID={PLANE} tls.duration=1h tls.renewBefore=59m");
        let sets: String = sets.split(' ').map(|set| format!(" --set clusterAgent.{set}")).collect();
        let install = format!("helm install openchoreo-build-plane {chart} --namespace {NAMESPACE}");
        paste(&at, &format!("{install} --kubeconfig {}{sets}", kubeconfig.display())).expect(0);
        let deadline = Instant::now() + SOON;
        while !at.secrets().contains(SECRET) {
            assert!(Instant::now() < deadline, "no certificate is issued");
        }
        let pinned = at.secret(SECRET)["tls.crt"].clone();
        at.control.write("pinned.crt", &pinned);
        at.control.run(&["create", PLANE, "--client-ca-file", "pinned.crt"]).expect(0);
        let plane = helm::until(&at, |plane| plane["healthy"] == true);
        let trusts = |plane: &Value| check(plane, "agent-trusted")["status"].clone();
        assert!(plane["healthy"] == true && trusts(&plane) != "fail", "{plane:#}");
        let renewal = helm::date_of(&helm::forecast(&at), "pinned-leaf-renewed").unwrap();
        while at.secret(SECRET)["tls.crt"] == pinned {
            assert!(Instant::now() < deadline, "the certificate is not renewed");
            std::thread::sleep(Duration::from_millis(200));
        }
        let [predicted, now] = [renewal.parse().unwrap(), jiff::Timestamp::now()];
        assert!(now.duration_since(predicted).abs() < jiff::SignedDuration::from_secs(20), "{predicted} and {now}");

        // The agent stays, and the next one is refused.
        let plane = diagnose(&at);
        assert_eq!(
            (&plane["rootCause"], check(&plane, "connected")["status"].as_str()),
            (&json!("agent-trusted"), Some("pass"))
        );
        assert_eq!(helm::forecast(&at)[0].0, "refused");
        at.reset();
        at.build.kubectl(&["rollout", "restart", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
        let plane = helm::until(&at, |plane| check(plane, "connected")["status"] == "fail");
        assert_eq!(plane["rootCause"], "agent-trusted", "{plane:#}");
        assert!(at.count().1 > 0);
        helm::repair(&at, "a pinned certificate that was renewed", "agent-trusted", "fail");
        let plane = helm::until(&at, |plane| plane["healthy"] == true);
        assert_eq!(plane["healthy"], true, "{plane:#}");

        // From now on a renewal changes nothing.
        let (led, deadline) = (at.secret(SECRET)["tls.crt"].clone(), Instant::now() + SOON);
        while at.secret(SECRET)["tls.crt"] == led {
            assert!(Instant::now() < deadline, "the certificate is not renewed");
            std::thread::sleep(Duration::from_millis(200));
        }
        at.reset();
        at.build.kubectl(&["rollout", "restart", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
        at.build.kubectl(&["rollout", "status", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
        let plane = helm::until(&at, |plane| check(plane, "connected")["status"] == "pass");
        assert_eq!(trusts(&plane), "pass", "{plane:#}");
        at.nobody_was_refused();
    });
}

fn a_rotation_refuses_nobody_on_v0_17() {
    on(V0_17, rotation::a_rotation_refuses_nobody);
}

fn a_rotation_is_finished_after_any_moment_on_v0_17() {
    on(V0_17, moments::a_rotation_is_finished_after_any_moment);
}

fn a_rollback_is_finished_after_any_moment_on_v0_17() {
    on(V0_17, moments::a_rollback_is_finished_after_any_moment);
}

fn a_registration_is_finished_after_any_moment_on_v0_17() {
    on(V0_17, moments::a_registration_is_finished_after_any_moment);
}

fn a_removal_is_finished_after_any_moment_on_v0_17() {
    on(V0_17, moments::a_removal_is_finished_after_any_moment);
}

fn a_rotation_is_finished_after_any_moment_on_v1_2() {
    on(V1_2, moments::a_rotation_is_finished_after_any_moment);
}

fn a_rollback_is_finished_after_any_moment_on_v1_2() {
    on(V1_2, moments::a_rollback_is_finished_after_any_moment);
}

fn second_operators_leave_one_ca_on_v0_17() {
    on(V0_17, moments::two_rotate_at_once);
    on(V0_17, moments::one_renews_what_another_rotates);
    on(V0_17, moments::two_register_at_once);
}

fn second_operators_leave_one_ca_on_v1_2() {
    on(V1_2, moments::two_rotate_at_once);
    on(V1_2, moments::one_renews_what_another_rotates);
}

fn both_clusters_return_to_the_state_before_on_v0_17() {
    on(V0_17, unregister::both_clusters_return_to_the_state_before);
}

fn planes_of_three_families_are_registered_and_one_is_rotated_on_v1_2() {
    on(V1_2, families::planes_of_three_families_are_registered_and_one_is_rotated);
}

fn a_plane_is_migrated_with_its_control_plane() {
    on(V0_17, || {
        let mut at = helm::installed();
        let kubeconfig = at.build.kubeconfig().display().to_string();
        let both = format!("--plane-kubeconfig {kubeconfig}");
        // At each of a few requests of a stage it is killed, or its answer is lost; the next run goes on from there.
        let migrate = |at: &Estate, more: &str| {
            let line = format!("choreoctl migrate cbp/{PLANE} --out-dir migrated --install --yes {more}");
            moments::through(at, &line)
        };
        migrate(&at, "--until prepare").expect(0);
        at.order("era v1");
        let reported = migrate(&at, "").expect(0);
        let waited = paste(&at, &format!("choreoctl wait cwp/{PLANE} --for connected --timeout 150s {both}"));
        let doctor = paste(&at, &format!("choreoctl doctor cwp/{PLANE} {both}"));
        assert!(waited.code == 0 && doctor.code == 0, "{reported:#?}\n{waited:#?}\n{doctor:#?}");
        at.reset();
        paste(&at, &format!("choreoctl get cbp/{PLANE}")).expect(3);
        paste(&at, &format!("choreoctl restart cwp/{PLANE} {both}")).expect(0);
        at.nobody_was_refused();
    });
}

/// Waits, reads logs, restarts, renews, rotates and deletes.
fn an_agent_is_looked_after(subject: Subject) {
    let mut at = patient::well_with(subject);
    let plane = format!("{}/{}", subject.word, patient::PLANE);
    let run =
        |at: &Estate, words: &str| at.run(&words.replace("PLANE", &plane).split(' ').collect::<Vec<_>>()).expect(0);
    let log = run(&at, "logs PLANE --gateway -o json").stdout;
    for message in ["connected to control plane", "agent connected successfully"] {
        assert!(log.contains(message), "{message} in {log}");
    }
    at.reset();
    assert!(run(&at, "restart PLANE -o json").stdout.contains("\"reconnect\""));
    run(&at, "certs renew PLANE --ca-dir old --yes");
    run(&at, "certs rotate PLANE --again --yes --out-dir new");
    run(&at, "certs verify --cert agent --plane PLANE");
    run(&at, "wait PLANE --for connected");
    at.nobody_was_refused();
    // The controller lets go of it, and the agent is refused from then on.
    run(&at, "delete PLANE --yes --timeout 60s");
    let deadline = Instant::now() + SOON;
    while at.count().1 == 0 {
        assert!(Instant::now() < deadline, "the agent of no plane is not refused");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn an_agent_is_looked_after_on_v0_17() {
    on(V0_17, || an_agent_is_looked_after(BUILD));
}

fn an_agent_is_looked_after_on_v1_2() {
    on(V1_2, || an_agent_is_looked_after(WORKFLOW));
}

fn doctor_names_what_is_wrong_on_v0_17() {
    on(V0_17, || faults::on_programs(BUILD));
}

fn doctor_names_what_is_wrong_on_v1_2() {
    on(V1_2, || faults::on_programs(WORKFLOW));
}

fn doctor_names_what_is_wrong_with_a_data_plane_on_v1_2() {
    on(V1_2, || faults::on_programs(DATA));
}
