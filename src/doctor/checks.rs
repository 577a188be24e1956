//! The checks of a diagnosis, in the order of cause: a table over what is known of one plane.

use serde::Serialize;

use super::agents::Presents;
use super::case::{BuildCase, Case, GATEWAY_CA};
use crate::gateway::{Answer, GatewayUrl, ProbeError};
use crate::manifest::{parse, to_yaml};
use crate::pki::{self, Remaining, Verdict};
use crate::plane::{CLUSTER_BUILD_PLANE, Plane, State, age};
use crate::term::{shell_quoted, visible};
use crate::validate::{Severity, judge};

/// How a check came out. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Warn,
    Fail,
    /// It was not looked at, or could not be.
    Skip,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub status: Status,
    pub message: String,
    pub hint: Option<String>,
    /// Whether what it needs could not be read: then nothing is said to be healthy.
    #[serde(skip)]
    pub unknown: bool,
}

impl Outcome {
    fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: None, unknown: false }
    }

    fn pass(message: impl Into<String>) -> Self {
        Self::new(Status::Pass, message)
    }

    fn warn(message: impl Into<String>) -> Self {
        Self::new(Status::Warn, message)
    }

    fn fail(message: impl Into<String>) -> Self {
        Self::new(Status::Fail, message)
    }

    fn skip(message: impl Into<String>) -> Self {
        Self::new(Status::Skip, message)
    }

    fn unknown(message: impl Into<String>) -> Self {
        Self { unknown: true, ..Self::skip(message) }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// One of the checks.
pub struct Check {
    pub id: &'static str,
    /// Those that must not have failed for this one to mean anything.
    pub needs: &'static [&'static str],
    pub about: &'static str,
    /// Why it matters, and what is usually behind it.
    pub why: &'static str,
    run: fn(&Case) -> Outcome,
}

/// A check and what it said.
pub struct Checked {
    pub check: &'static Check,
    pub outcome: Outcome,
}

/// All checks, in the order of cause.
pub static CHECKS: &[Check] = &[
    Check {
        id: "plane-exists",
        needs: &[],
        about: "the plane can be read",
        why: "Without the control plane only the build cluster's side is looked at.",
        run: plane_exists,
    },
    Check {
        id: "deletion",
        needs: &["plane-exists"],
        about: "the plane is not being deleted",
        why: "A plane that is being deleted waits for the controller, which waits for the gateway; with either of them down it hangs.",
        run: deletion,
    },
    Check {
        id: "client-ca-readable",
        needs: &["plane-exists"],
        about: "the CA that the plane names can be read",
        why: "The gateway skips a plane whose CA it can't read: no value and no Secret, or a Secret, key or namespace that isn't there.",
        run: client_ca_readable,
    },
    Check {
        id: "client-ca-usable",
        needs: &["client-ca-readable"],
        about: "the CA lets in any agent at all now",
        why: "The gateway reads raw PEM only, and takes no certificate that has expired, isn't valid yet, or isn't for client authentication.",
        run: client_ca_usable,
    },
    Check {
        id: "spec-valid",
        needs: &["client-ca-readable", "client-ca-usable"],
        about: "the plane is valid by the rules of `choreoctl validate`",
        why: "The API server accepts planes through which no agent can connect.",
        run: spec_valid,
    },
    Check {
        id: "ca-outlives",
        needs: &["client-ca-usable"],
        about: "the CA doesn't end soon, and pins no certificate",
        why: "A pinned certificate is refused once cert-manager has renewed the agent's and the agent restarts.",
        run: ca_outlives,
    },
    Check {
        id: "plane-id-shared",
        needs: &["client-ca-readable"],
        about: "the planes of one planeID let in the same agents",
        why: "Status counts the agents of the planeID, not of the plane: one can say connected although no agent is authorized for it.",
        run: plane_id_shared,
    },
    Check {
        id: "ca-shared",
        needs: &["client-ca-readable"],
        about: "no plane of another planeID has the same CA",
        why: "With one CA for several planes each one's agent can pass as the other's.",
        run: ca_shared,
    },
    Check {
        id: "observability-plane",
        needs: &["plane-exists"],
        about: "the observability plane exists",
        why: "A missing one shows nowhere in the status; requests for logs and metrics of builds fail later.",
        run: observability_plane,
    },
    Check {
        id: "agent-exists",
        needs: &[],
        about: "the build cluster has an agent",
        why: "The chart makes it a Deployment with the labels app=cluster-agent and app.kubernetes.io/component=cluster-agent.",
        run: agent_exists,
    },
    Check {
        id: "agent-plane-id",
        needs: &["plane-exists", "agent-exists"],
        about: "the agent runs as the plane's planeID",
        why: "Helm's clusterAgent accepts unknown keys: with planeId instead of planeID the agent runs as `default`.",
        run: agent_plane_id,
    },
    Check {
        id: "agent-plane-type",
        needs: &["agent-exists"],
        about: "the agent's plane type is that of the release",
        why: "From OpenChoreo 1.0 on it is workflowplane: agent and gateway must be of the same release.",
        run: agent_plane_type,
    },
    Check {
        id: "agent-tls",
        needs: &["agent-exists"],
        about: "the agent presents a certificate",
        why: "With clusterAgent.tls.enabled false it presents none, and the gateway refuses it.",
        run: agent_tls,
    },
    Check {
        id: "agent-server-url",
        needs: &["agent-exists"],
        about: "the agent's server URL is wss://HOST:PORT/ws",
        why: "Without /ws the gateway answers 404, which the agent logs as a bad handshake; https:// is a malformed URL to it.",
        run: agent_server_url,
    },
    Check {
        id: "agent-replicas",
        needs: &["agent-exists"],
        about: "the agent is not scaled to zero",
        why: "Each replica holds a connection of its own.",
        run: agent_replicas,
    },
    Check {
        id: "agent-certificate",
        needs: &["agent-exists"],
        about: "the agent's Secret holds a certificate and the key that belongs to it",
        why: "Without the Secret the pod hangs in ContainerCreating; with a key that doesn't fit it crashes.",
        run: agent_certificate,
    },
    Check {
        id: "agent-trusted",
        needs: &["client-ca-usable", "agent-certificate"],
        about: "the plane authorizes the agent's certificate",
        why: "The gateway verifies it against the plane's CA alone, by Go's rules; neither its name nor the planeID count.",
        run: agent_trusted,
    },
    Check {
        id: "agent-server-ca",
        needs: &["agent-exists"],
        about: "the agent verifies the gateway against the gateway's CA",
        why: "The ConfigMap of that name in the control plane is a placeholder; the CA is in the Secret.",
        run: agent_server_ca,
    },
    Check {
        id: "agent-running",
        needs: &["agent-exists", "agent-certificate", "agent-server-ca", "agent-replicas"],
        about: "the agent's pods run",
        why: "A missing Secret or ConfigMap holds them in ContainerCreating; a pair that doesn't fit makes them crash.",
        run: agent_running,
    },
    Check {
        id: "agent-current",
        needs: &["agent-certificate", "agent-running"],
        about: "the running agent presents what its Secret holds",
        why: "It reads its certificate once, at its start: after a renewal it goes on with the old one until it is restarted.",
        run: agent_current,
    },
    Check {
        id: "gateway-reachable",
        needs: &["agent-server-url", "agent-server-ca"],
        about: "the gateway answers, with a certificate that is valid for its name",
        why: "Its names come from clusterGateway.tls.dnsNames alone, and it reads its certificate once, at its start.",
        run: gateway_reachable,
    },
    Check {
        id: "gateway-answer",
        needs: &["gateway-reachable", "agent-trusted"],
        about: "the gateway authorizes the agent's certificate",
        why: "Asked as an agent asks, without becoming one.",
        run: gateway_answer,
    },
    Check {
        id: "controller",
        needs: &["deletion"],
        about: "the controller reports on the plane",
        why: "Where it or the gateway is down the last report stays for ever; its lease tells which.",
        run: controller,
    },
    Check {
        id: "connected",
        needs: &["deletion", "controller"],
        about: "an agent is connected",
        why: "The controller tells of it once a minute.",
        run: connected,
    },
];

/// Every check of a case; what follows from one that failed is skipped.
pub fn checks(case: &Case) -> Vec<Checked> {
    let mut done: Vec<Checked> = Vec::new();
    for check in CHECKS {
        let missing = check.needs.iter().find(|need| {
            done.iter().any(|one| one.check.id == **need && matches!(one.outcome.status, Status::Fail | Status::Skip))
        });
        let outcome = match missing {
            Some(need) => Outcome::skip(format!("hangs on {need}")),
            None => (check.run)(case),
        };
        done.push(Checked { check, outcome });
    }
    done
}

/// The check that names the cause: the first in their order that failed.
pub fn root_cause(checked: &[Checked]) -> Option<&Checked> {
    checked.iter().find(|one| one.outcome.status == Status::Fail)
}

/// Whether nothing failed, and all that was looked for could be read.
pub fn is_healthy(checked: &[Checked]) -> bool {
    root_cause(checked).is_none() && !checked.iter().any(|one| one.outcome.unknown)
}

fn plane_exists(case: &Case) -> Outcome {
    match &case.plane {
        Ok(()) => Outcome::pass(format!("it exists, with planeID {}", visible(case.facts.plane.plane_id()))),
        Err(problem) => Outcome::unknown(problem.text.clone()),
    }
}

fn deletion(case: &Case) -> Outcome {
    let plane = &case.facts.plane;
    if plane.metadata.deletion_timestamp.is_none() {
        return Outcome::pass("it is not being deleted");
    }
    let held: Vec<_> = plane.metadata.finalizers.iter().flatten().map(|finalizer| visible(finalizer)).collect();
    Outcome::fail(format!("it is being deleted, and held by {}", held.join(", ")))
        .hint("start the controller and the gateway: the finalizer goes once both answered")
}

fn client_ca_readable(case: &Case) -> Outcome {
    let ca = &case.facts.client_ca;
    match &ca.text {
        Ok(text) if text.trim().is_empty() => Outcome::fail(format!("{} is empty", visible(&ca.source))),
        Ok(_) => Outcome::pass(format!("{} can be read", visible(&ca.source))),
        Err(problem) if matches!(problem.word, "missing" | "invalid") => {
            let hint = match ca.source.strip_prefix("secret/").and_then(|source| source.split_once('/')) {
                Some((namespace, rest)) if !namespace.is_empty() => {
                    let name = rest.split(':').next().unwrap_or_default();
                    let namespace = shell_quoted(namespace);
                    case.control(&format!("kubectl -n {namespace} get secret {} -o yaml", shell_quoted(name)))
                }
                _ => case.control(&format!("choreoctl describe {}", shell_quoted(case.facts.plane.name()))),
            };
            Outcome::fail(problem.text.clone()).hint(hint)
        }
        Err(problem) => Outcome::unknown(problem.text.clone()),
    }
}

fn client_ca_usable(case: &Case) -> Outcome {
    let ca = &case.facts.client_ca;
    let certificates = match ca.certificates() {
        Ok(certificates) => certificates,
        Err(problem) => {
            let hint = "choreoctl certs bundle FILE makes raw PEM of base64 and DER";
            return Outcome::fail(problem.text.clone()).hint(hint);
        }
    };
    let trusts: Vec<_> = certificates.iter().map(|one| pki::trust(&one.der, case.facts.now)).collect();
    match trusts.iter().find_map(|trust| trust.as_ref().err()) {
        Some(refusal) if trusts.iter().all(Result::is_err) => {
            let name = shell_quoted(case.facts.plane.name());
            let hint = case.rotate(&format!("choreoctl certs rotate {name}"));
            Outcome::fail(format!("no agent is let in: the CA {}", refusal.message)).hint(hint)
        }
        _ => {
            Outcome::pass(format!("{} of {} certificates let agents in", trusts.iter().flatten().count(), trusts.len()))
        }
    }
}

/// What the API server took and no agent gets in by.
fn errors(plane: &Plane) -> Vec<String> {
    let mut object = plane.manifest(&CLUSTER_BUILD_PLANE);
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    let Ok(text) = to_yaml(&object) else {
        return Vec::new();
    };
    let findings = judge(&parse("the plane".into(), text)).findings;
    let told = findings.into_iter().filter(|finding| finding.rule.severity == Severity::Error);
    told.map(|finding| format!("{} [{}]", finding.message, finding.rule.id)).collect()
}

fn spec_valid(case: &Case) -> Outcome {
    match errors(&case.facts.plane).as_slice() {
        [] => Outcome::pass("it is valid"),
        errors => {
            let name = shell_quoted(case.facts.plane.name());
            let hint = format!("{} -o yaml | choreoctl validate -", case.control(&format!("choreoctl get {name}")));
            Outcome::fail(errors.join("; ")).hint(hint)
        }
    }
}

fn ca_outlives(case: &Case) -> Outcome {
    let certificates = case.facts.client_ca.certificates().as_deref().unwrap_or_default();
    let name = shell_quoted(case.facts.plane.name());
    if let Some(remark) = certificates.iter().find_map(super::pinned_leaf) {
        return Outcome::warn(remark.text).hint(case.rotate(&format!("choreoctl certs rotate {name}")));
    }
    let last = certificates.iter().max_by_key(|certificate| certificate.not_after);
    match last {
        Some(last) if last.expires_within(case.soon, case.facts.now) => {
            Outcome::warn(format!("the CA expires in {}, at {}", age(last.not_after, case.facts.now), last.not_after))
                .hint(case.rotate(&format!("choreoctl certs rotate {name}")))
        }
        Some(last) => Outcome::pass(format!("the CA is valid until {}", last.not_after)),
        None => Outcome::skip("it holds no certificate"),
    }
}

fn plane_id_shared(case: &Case) -> Outcome {
    let id = visible(case.facts.plane.plane_id());
    if let Ok(planes) = &case.build_planes
        && !planes.is_empty()
    {
        let names: Vec<_> = planes.iter().map(|name| visible(name)).collect();
        return Outcome::warn(format!("namespaced BuildPlanes have the planeID {id}, too: {}", names.join(", ")));
    }
    match case.rivals.as_slice() {
        [] => Outcome::pass(format!("no other plane of planeID {id} has another CA")),
        rivals => {
            let names: Vec<_> = rivals.iter().map(|name| visible(name)).collect();
            let told = format!("{} of the same planeID {id} let in other agents", names.join(", "));
            Outcome::warn(format!("{told}: an agent is authorized for a part of them only"))
        }
    }
}

fn ca_shared(case: &Case) -> Outcome {
    match case.same_ca.as_slice() {
        [] => Outcome::pass("its CA is its own"),
        others => {
            let names: Vec<_> = others.iter().map(|name| visible(name)).collect();
            let told = format!("{} have the same CA: each one's agent can pass as the other's", names.join(", "));
            let name = shell_quoted(case.facts.plane.name());
            Outcome::warn(told).hint(case.rotate(&format!("choreoctl certs rotate {name}")))
        }
    }
}

fn observability_plane(case: &Case) -> Outcome {
    let name = visible(case.facts.plane.observability_plane());
    let named = case.facts.plane.spec.observability_plane_ref.is_some();
    match &case.facts.observability_exists {
        Ok(true) => Outcome::pass(format!("ClusterObservabilityPlane {name} exists")),
        Ok(false) if named => Outcome::warn(format!("ClusterObservabilityPlane {name} does not exist"))
            .hint(case.control("kubectl get clusterobservabilityplanes")),
        Ok(false) => Outcome::pass("none is named, and there is no default"),
        Err(problem) => Outcome::skip(problem.text.clone()),
    }
}

/// The build cluster's side, or why a check of it is left out.
fn build(case: &Case) -> Result<&BuildCase, Outcome> {
    match &case.build {
        None => Err(Outcome::skip("no build cluster was named: --build-context")),
        Some(Err(problem)) => Err(Outcome::unknown(problem.text.clone())),
        Some(Ok(build)) => Ok(build),
    }
}

macro_rules! build {
    ($case:expr) => {
        match build($case) {
            Ok(build) => build,
            Err(outcome) => return outcome,
        }
    };
}

fn agent_exists(case: &Case) -> Outcome {
    match &case.build {
        Some(Err(problem)) if problem.word == "missing" => {
            let labels = "app=cluster-agent,app.kubernetes.io/component=cluster-agent";
            Outcome::fail(problem.text.clone())
                .hint(case.build_command(&format!("kubectl get deployments -A -l {labels}")))
        }
        _ => {
            let build = build!(case);
            Outcome::pass(format!("Deployment {}", visible(&build.agent.agent.name.to_string())))
        }
    }
}

fn helm(case: &Case, value: &str) -> String {
    let namespace = build(case).map(|build| build.agent.agent.name.namespace.clone()).unwrap_or_default();
    format!("helm upgrade with --set {value} in the namespace {}", visible(&namespace))
}

fn agent_plane_id(case: &Case) -> Outcome {
    let build = build!(case);
    let wanted = case.facts.plane.plane_id();
    match build.agent.agent.plane_id.as_deref() {
        Some(id) if id == wanted => Outcome::pass(format!("it runs as planeID {}", visible(id))),
        id => {
            let id = id.map_or("none".into(), visible);
            Outcome::fail(format!("the agent runs as planeID {id}, and the plane's is {}", visible(wanted)))
                .hint(helm(case, &format!("clusterAgent.planeID={wanted}")))
        }
    }
}

fn agent_plane_type(case: &Case) -> Outcome {
    let build = build!(case);
    let wanted = CLUSTER_BUILD_PLANE.plane_type;
    match build.agent.agent.plane_type.as_deref() {
        None => Outcome::skip("its arguments name none"),
        Some(kind) if kind == wanted => Outcome::pass(format!("it is {wanted}")),
        Some(kind) => {
            Outcome::fail(format!("the agent connects as {}, and this release knows {wanted}", visible(kind)))
                .hint("install the chart of the control plane's release in the build cluster")
        }
    }
}

fn agent_tls(case: &Case) -> Outcome {
    let build = build!(case);
    match build.agent.agent.tls_enabled.as_deref() {
        Some("false") => Outcome::fail("the agent runs with --tls-enabled=false, and presents no certificate")
            .hint(helm(case, "clusterAgent.tls.enabled=true")),
        _ => Outcome::pass("TLS is on"),
    }
}

fn agent_server_url(case: &Case) -> Outcome {
    let build = build!(case);
    let wrong = |why: String| Outcome::fail(why).hint(helm(case, "clusterAgent.serverUrl=wss://HOST:PORT/ws"));
    let Some(text) = build.agent.agent.server_url.as_deref() else {
        return Outcome::skip("its arguments name none");
    };
    match text.parse::<GatewayUrl>() {
        Err(why) => wrong(format!("the agent's server URL {} can't be used: {why}", visible(text))),
        Ok(url) if url.scheme != "wss" => wrong(format!(
            "the agent's server URL {} begins with {}://, not wss://",
            visible(text),
            visible(&url.scheme)
        )),
        Ok(url) if url.path != "/ws" => wrong(format!("the agent's server URL {} does not end in /ws", visible(text))),
        Ok(url) => Outcome::pass(format!("{}", visible(&url.to_string()))),
    }
}

fn agent_replicas(case: &Case) -> Outcome {
    let agent = &build!(case).agent.agent;
    let (namespace, name) = (shell_quoted(&agent.name.namespace), shell_quoted(&agent.name.name));
    match agent.replicas {
        0 => Outcome::fail("the agent is scaled to zero")
            .hint(case.build_command(&format!("kubectl -n {namespace} scale deployment {name} --replicas=1"))),
        count => Outcome::pass(format!("{count} wanted")),
    }
}

fn agent_certificate(case: &Case) -> Outcome {
    let build = build!(case);
    match &build.agent.pair {
        Ok(pair) if pair.fits => Outcome::pass(format!("{} holds it", visible(&pair.source))),
        Ok(pair) => Outcome::fail(format!("in {} the key does not belong to the certificate", visible(&pair.source)))
            .hint("choreoctl certs secret DIR -n NAMESPACE prints one whose key does"),
        Err(problem) if matches!(problem.word, "missing" | "invalid") => {
            let namespace = shell_quoted(&build.agent.agent.name.namespace);
            Outcome::fail(problem.text.clone()).hint(case.build_command(&format!("kubectl -n {namespace} get secrets")))
        }
        Err(problem) => Outcome::unknown(problem.text.clone()),
    }
}

fn agent_trusted(case: &Case) -> Outcome {
    let name = shell_quoted(case.facts.plane.name());
    match case.verdict() {
        None => match build(case) {
            Ok(_) => Outcome::skip("its certificate can't be read"),
            Err(outcome) => outcome,
        },
        Some(Verdict::Authorized { until }) => match until {
            Some(until) if Remaining::covers(case.soon, until, case.facts.now) => {
                Outcome::warn(format!("authorized until {until} only ({})", age(until, case.facts.now)))
                    .hint(case.rotate(&format!("choreoctl certs renew {name}")))
            }
            Some(until) => Outcome::pass(format!("authorized until {until}")),
            None => Outcome::pass("authorized"),
        },
        Some(Verdict::Refused(refusal)) => {
            Outcome::fail(refusal.message).hint(case.rotate(&format!("choreoctl certs rotate {name}")))
        }
        Some(Verdict::Unknown(why)) => Outcome::unknown(why),
    }
}

fn agent_server_ca(case: &Case) -> Outcome {
    let build = build!(case);
    let namespace = shell_quoted(&build.agent.agent.name.namespace);
    let hint = |outcome: Outcome| {
        let secret = format!("kubectl -n {} get secret {GATEWAY_CA}", case.control_namespace);
        let template = "-o 'go-template={{index .data \"ca.crt\" | base64decode}}' > gateway-ca.crt";
        let create = format!("kubectl -n {namespace} create configmap {GATEWAY_CA} --from-file=ca.crt=gateway-ca.crt");
        let create = case.build_command(&format!("{create} --dry-run=client -o yaml"));
        let apply = case.build_command("kubectl apply -f -");
        outcome.hint(format!("{} {template} && {create} | {apply}", case.control(&secret)))
    };
    let own = match &build.server_ca {
        Ok(own) => own,
        Err(problem) if problem.word == "missing" => return hint(Outcome::fail(problem.text.clone())),
        Err(problem) => return Outcome::unknown(problem.text.clone()),
    };
    let own = pki::certificates(own);
    if own.is_empty() {
        return hint(Outcome::fail(format!("the ConfigMap {GATEWAY_CA} of the agent holds no certificate")));
    }
    match &case.gateway_ca {
        Ok(theirs) if pki::certificates(theirs).iter().any(|der| own.contains(der)) => {
            Outcome::pass("it has the gateway's CA")
        }
        Ok(_) => hint(Outcome::fail(format!(
            "the ConfigMap {GATEWAY_CA} of the agent holds another CA than the gateway's Secret"
        ))),
        Err(problem) => Outcome::pass(format!("it holds a CA; the gateway's own can't be compared: {}", problem.text)),
    }
}

fn agent_running(case: &Case) -> Outcome {
    let build = build!(case);
    let pods = match &build.agent.pods {
        Ok(pods) => pods,
        Err(problem) => return Outcome::unknown(problem.text.clone()),
    };
    let (namespace, running) =
        (shell_quoted(&build.agent.agent.name.namespace), pods.iter().filter(|pod| pod.started.is_some()).count());
    let reasons: Vec<_> = pods
        .iter()
        .filter_map(|pod| Some(format!("{} is in {}", visible(&pod.name), visible(pod.waiting.as_deref()?))))
        .collect();
    match running {
        0 => Outcome::fail(if reasons.is_empty() { "it has no pods".into() } else { reasons.join(", ") })
            .hint(case.build_command(&format!("kubectl -n {namespace} describe pods -l app=cluster-agent"))),
        count if reasons.is_empty() => Outcome::pass(format!("{count} run")),
        count => Outcome::warn(format!("{count} run, and {}", reasons.join(", "))),
    }
}

fn agent_current(case: &Case) -> Outcome {
    let build = build!(case);
    let behind = build.agent.behind();
    let (Ok(pair), Ok(pods)) = (&build.agent.pair, &build.agent.pods) else {
        return Outcome::skip("its pods can't be compared");
    };
    let agent = &build.agent.agent.name;
    let restart = format!(
        "kubectl -n {} rollout restart deployment {}",
        shell_quoted(&agent.namespace),
        shell_quoted(&agent.name)
    );
    match behind.first() {
        None => Outcome::pass(format!("{} of {} pods do", pods.len(), pods.len())),
        Some(told) => {
            let older = pods.iter().any(|pod| pair.presented_by(pod) == Some(Presents::Older));
            let trusted = matches!(case.verdict(), Some(Verdict::Authorized { .. }));
            let outcome = Outcome::warn(told.clone());
            if older && !trusted {
                return outcome.hint("do not restart it before the plane trusts what the Secret holds");
            }
            outcome.hint(case.build_command(&restart))
        }
    }
}

fn gateway_reachable(case: &Case) -> Outcome {
    let Some(probe) = &case.probe else {
        return match &case.gateway_url {
            None => Outcome::skip("no gateway URL is known: --gateway-url"),
            Some(url) => Outcome::skip(format!(
                "{} was not asked: a certificate or the gateway's CA is missing",
                visible(&url.to_string())
            )),
        };
    };
    let url = case.gateway_url.as_ref().map(|url| visible(&url.to_string()).into_owned()).unwrap_or_default();
    match probe {
        Ok(_) | Err(ProbeError::Dropped(_) | ProbeError::Identity(_) | ProbeError::NotHttp(_)) => {
            Outcome::pass(format!("{url} answers"))
        }
        Err(error @ ProbeError::WrongName { host, .. }) => Outcome::fail(error.to_string())
            .hint(format!("add {} to the gateway's clusterGateway.tls.dnsNames, and restart it", visible(host))),
        Err(error @ ProbeError::Expired) => {
            Outcome::fail(error.to_string()).hint("restart the gateway: it reads its certificate once, at its start")
        }
        Err(error @ ProbeError::UnknownAuthority) => {
            let copy = format!("kubectl -n {} get secret {GATEWAY_CA} -o yaml", case.control_namespace);
            Outcome::fail(error.to_string()).hint(case.control(&copy))
        }
        // From here it may be another way than from the build cluster.
        Err(error) => Outcome::fail(format!("{error} (asked from this machine)"))
            .hint(format!("is {url} right, and can the build cluster reach it?")),
    }
}

fn gateway_answer(case: &Case) -> Outcome {
    let Some(probe) = &case.probe else {
        return Outcome::skip("it was not asked");
    };
    match probe {
        Ok(Answer::Authorized) => Outcome::pass("it authorizes the agent"),
        Ok(Answer::NoPlane) => Outcome::fail("the gateway finds no plane of this planeID whose CA it can read")
            .hint("is it another control plane's gateway? Its log names the cause: failed to extract CA from plane CR"),
        Ok(Answer::NotTrusted) => Outcome::fail("no plane that the gateway knows trusts the agent's certificate")
            .hint("is it another control plane's gateway?"),
        Ok(Answer::NoCertificate) => Outcome::fail("the certificate does not arrive at the gateway")
            .hint("something on the way terminates TLS: let it pass TLS through"),
        Ok(Answer::OtherRelease(text)) => {
            Outcome::fail(format!("the gateway is of another release: {}", visible(text)))
                .hint("install the chart of the control plane's release in the build cluster")
        }
        Ok(Answer::Blind(text)) => Outcome::fail(format!("the gateway can't read the API server: {}", visible(text)))
            .hint("look at the gateway's log and rights"),
        Ok(Answer::Other { status, text }) => {
            Outcome::fail(format!("the gateway, or something before it, answers {status}: {}", visible(text)))
                .hint("does the URL lead to the cluster gateway?")
        }
        Err(error) => Outcome::fail(error.to_string()),
    }
}

fn controller(case: &Case) -> Outcome {
    let facts = &case.facts;
    let lease = match &case.lease {
        Ok(Some(renewed)) => {
            let old = facts.now.duration_since(*renewed).as_secs() > 120;
            let told = format!("the controller last renewed its lease {} ago", age(*renewed, facts.now));
            (old, told)
        }
        Ok(None) => (false, "there is no lease of the controller".into()),
        Err(problem) => (false, format!("of the controller's lease nothing is known: {}", problem.text)),
    };
    let namespace = shell_quoted(&case.control_namespace);
    let look = case.control(&format!("kubectl -n {namespace} get pods"));
    match facts.plane.state(facts.now) {
        State::Stale if lease.0 => Outcome::fail(format!("the last report is old, and {}", lease.1)).hint(look),
        State::Stale => Outcome::fail(format!("the last report is old; {}: is the gateway down?", lease.1)).hint(look),
        State::Unreported if case.is_new() => Outcome::pass("no report yet: the first one takes about a minute"),
        State::Unreported => {
            let held = facts.plane.metadata.finalizers.iter().flatten().any(|one| one == CLUSTER_BUILD_PLANE.finalizer);
            let why = if held {
                "the controller can't reach the gateway, or the gateway can't parse the CA"
            } else {
                "no controller looks after this plane"
            };
            Outcome::fail(format!("there is no report: {why}; {}", lease.1)).hint(look)
        }
        _ if lease.0 => Outcome::warn(lease.1).hint(look),
        _ => Outcome::pass("it reports"),
    }
}

fn connected(case: &Case) -> Outcome {
    let facts = &case.facts;
    let agents = facts.plane.connection().map_or(0, |connection| connection.connected_agents);
    let why = case.log().map(|told| format!("; {told}")).unwrap_or_default();
    match facts.plane.state(facts.now) {
        State::Connected => Outcome::pass(format!("{agents} connected")),
        State::Late => Outcome::warn("the heartbeat is late"),
        State::Unreported => Outcome::skip("there is no report yet"),
        State::Disconnected => Outcome::fail(format!("no agent is connected, though one was{why}")),
        _ => Outcome::fail(format!("no agent ever got in{why}")),
    }
}

impl Case {
    fn is_new(&self) -> bool {
        let created = self.facts.plane.created();
        created.is_some_and(|created| self.facts.now.duration_since(created).as_secs() < 90)
    }

    /// A command line for the control plane's cluster.
    fn control(&self, command: &str) -> String {
        self.control.command(command)
    }

    fn build_command(&self, command: &str) -> String {
        self.build_target.as_ref().map_or_else(|| command.to_owned(), |target| target.command(command))
    }

    /// A command line that needs both clusters.
    fn rotate(&self, command: &str) -> String {
        let build = self
            .build_target
            .as_ref()
            .map_or_else(|| " --build-context CONTEXT".into(), crate::cluster::Target::build_flags);
        format!("{}{build}", self.control(command))
    }

    /// The last thing that the agent's log complains of, explained.
    fn log(&self) -> Option<String> {
        let log = self.build.as_ref()?.as_ref().ok()?.log.as_ref().ok()?;
        let line = log.lines().rev().find(|line| COMPLAINTS.iter().any(|(word, _)| line.contains(word)))?;
        let (word, meaning) = COMPLAINTS.iter().find(|(word, _)| line.contains(word))?;
        Some(format!("the agent logs `{word}`: {meaning}"))
    }
}

/// What the agent logs, and what it means.
static COMPLAINTS: &[(&str, &str)] = &[
    ("malformed ws or wss URL", "its server URL begins with https://"),
    ("failed to load client certificate", "key and certificate don't fit or don't parse"),
    ("failed to parse server CA certificate", "the ConfigMap with the gateway's CA holds no certificate"),
    ("failed to read server CA certificate", "the ConfigMap with the gateway's CA has no key ca.crt"),
    ("certificate signed by unknown authority", "it has another CA than the gateway's"),
    ("certificate is valid for", "the gateway's certificate lacks the name that it uses"),
    ("doesn't contain any IP SANs", "the gateway's certificate lacks the name that it uses"),
    ("certificate has expired", "the gateway serves an old certificate"),
    ("no such host", "the host name of its server URL can't be resolved"),
    ("connection refused", "nobody listens where its server URL leads"),
    ("i/o timeout", "the network doesn't lead to its server URL"),
    ("bad handshake", "the gateway refuses it"),
];
