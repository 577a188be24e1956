//! Checks of the build cluster.

use jiff::Timestamp;

use super::super::agents::Presents;
use super::super::case::{BuildCase, Case, GATEWAY_CA};
use super::super::redact::without_user;
use super::Outcome;
use crate::cluster::{AgentPod, LET_IN};
use crate::gateway::{Answer, GatewayUrl};
use crate::pki::{self, Reason, Remaining, Verdict};
use crate::plane::{CHART, CLUSTER_BUILD_PLANE, RELEASE, age};
use crate::term::{shell_quoted, visible};

/// How long a restart is told of, in seconds.
const LATELY: i64 = 3600;

/// The build cluster's side, or why a check of it is left out.
fn build(case: &Case) -> Result<&BuildCase, Outcome> {
    match &case.build {
        None => Err(Outcome::skip("no build cluster was named: --build-context")),
        Some(Err(problem)) if problem.word == "missing" => Err(Outcome::skip("its agent is elsewhere")),
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

pub fn agent_exists(case: &Case) -> Outcome {
    match &case.build {
        // One cluster has the agents of some planes.
        Some(Err(problem)) if problem.word == "missing" && case.is_connected() => {
            let told = format!("{}, and one is connected from elsewhere", problem.text);
            let look = case.build_command("kubectl get deployments -A -l app=cluster-agent");
            if case.has_agents { Outcome::skip(told) } else { Outcome::warn(told).hint(look) }
        }
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

/// The command that gives the agent's chart another value.
fn helm(case: &Case, value: &str) -> String {
    let Ok(BuildCase { agent, .. }) = build(case) else {
        return String::new();
    };
    let agent = &agent.agent;
    let release = shell_quoted(agent.release.as_deref().unwrap_or(RELEASE));
    // Without one helm would take the newest.
    let version = shell_quoted(agent.chart_version.as_deref().unwrap_or("VERSION"));
    let namespace = shell_quoted(&agent.name.namespace);
    let command = format!("helm upgrade {release} {CHART} --version {version} --namespace {namespace} --reuse-values");
    case.build_command(&format!("{command} --set {}", shell_quoted(value))).replace(" --context ", " --kube-context ")
}

pub fn agent_plane_id(case: &Case) -> Outcome {
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

pub fn agent_plane_type(case: &Case) -> Outcome {
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

pub fn agent_tls(case: &Case) -> Outcome {
    let build = build!(case);
    match build.agent.agent.tls_enabled.as_deref() {
        Some("false") => Outcome::fail("the agent runs with --tls-enabled=false, and presents no certificate")
            .hint(helm(case, "clusterAgent.tls.enabled=true")),
        _ => Outcome::pass("TLS is on"),
    }
}

pub fn agent_server_url(case: &Case) -> Outcome {
    let build = build!(case);
    let right = |url: &str| helm(case, &format!("clusterAgent.serverUrl={url}"));
    let wrong = |why: String| Outcome::fail(why).hint(right("wss://HOST:PORT/ws"));
    let Some(text) = build.agent.agent.server_url.as_deref() else {
        return Outcome::skip("its arguments name none");
    };
    match text.parse::<GatewayUrl>() {
        Err(why) => wrong(format!("the agent's server URL {} can't be used: {why}", visible(&without_user(text)))),
        Ok(url) if url.scheme != "wss" || url.path != "/ws" => {
            let (text, scheme) = (without_user(text), visible(&url.scheme));
            let shown = visible(&text);
            let why = if url.scheme == "wss" {
                format!("the agent's server URL {shown} does not end in /ws")
            } else {
                format!("the agent's server URL {shown} begins with {scheme}://, not wss://")
            };
            let meant = GatewayUrl { scheme: "wss".into(), path: "/ws".into(), ..url };
            Outcome::fail(why).hint(right(&meant.to_string()))
        }
        Ok(url) => Outcome::pass(format!("{}", visible(&url.to_string()))),
    }
}

pub fn agent_replicas(case: &Case) -> Outcome {
    let agent = &build!(case).agent.agent;
    let (namespace, name) = (shell_quoted(&agent.name.namespace), shell_quoted(&agent.name.name));
    match agent.replicas {
        0 => Outcome::fail("the agent is scaled to zero")
            .hint(case.build_command(&format!("kubectl -n {namespace} scale deployment {name} --replicas=1"))),
        count => Outcome::pass(format!("{count} wanted")),
    }
}

pub fn agent_certificate(case: &Case) -> Outcome {
    let build = build!(case);
    match &build.agent.pair {
        Ok(pair) if pair.fits => Outcome::pass(format!("{} holds it", visible(&pair.source))),
        Ok(pair) => Outcome::fail(format!("in {} the key does not belong to the certificate", visible(&pair.source)))
            .hint(case.rotate(&format!("choreoctl certs rotate {}", shell_quoted(case.facts.plane.name())))),
        Err(problem) if matches!(problem.word, "missing" | "invalid") => {
            let namespace = shell_quoted(&build.agent.agent.name.namespace);
            Outcome::fail(problem.text.clone()).hint(case.build_command(&format!("kubectl -n {namespace} get secrets")))
        }
        Err(problem) => Outcome::unknown(problem.text.clone()),
    }
}

pub fn agent_trusted(case: &Case) -> Outcome {
    let name = shell_quoted(case.facts.plane.name());
    match case.verdict() {
        None => match build(case) {
            Ok(_) => Outcome::skip("its certificate can't be read"),
            Err(outcome) => outcome,
        },
        Some(Verdict::Authorized { until }) => match until {
            Some(until) if Remaining::covers(case.soon, until, case.facts.now) => {
                // A new one under a CA that ends would end with it.
                let verb =
                    if case.pair().is_some_and(|pair| until < pair.leaf().not_after) { "rotate" } else { "renew" };
                Outcome::warn(format!("authorized until {until} only ({})", age(until, case.facts.now)))
                    .hint(case.rotate(&format!("choreoctl certs {verb} {name}")))
            }
            Some(until) => Outcome::pass(format!("authorized until {until}")),
            None => Outcome::pass("authorized"),
        },
        Some(Verdict::Refused(refusal)) => {
            let verb = if refusal.reason == Reason::Expired { "renew" } else { "rotate" };
            Outcome::fail(refusal.message).hint(case.rotate(&format!("choreoctl certs {verb} {name}")))
        }
        Some(Verdict::Unknown(why)) => Outcome::unknown(why),
    }
}

pub fn agent_server_ca(case: &Case) -> Outcome {
    let build = build!(case);
    let namespace = shell_quoted(&build.agent.agent.name.namespace);
    let map = build.agent.agent.server_ca.as_deref().unwrap_or(GATEWAY_CA);
    let hint = |outcome: Outcome| {
        let secret = format!("kubectl -n {} get secret {GATEWAY_CA}", shell_quoted(&case.control_namespace));
        let template = "-o 'go-template={{index .data \"ca.crt\" | base64decode}}' > gateway-ca.crt";
        let create =
            format!("kubectl -n {namespace} create configmap {} --from-file=ca.crt=gateway-ca.crt", shell_quoted(map));
        let create = case.build_command(&format!("{create} --dry-run=client -o yaml"));
        let apply = case.build_command("kubectl apply -f -");
        outcome.hint(format!("{} {template} && {create} | {apply}", case.control(&secret)))
    };
    let map = visible(map);
    let own = match &build.server_ca {
        Ok(own) => own,
        Err(problem) if problem.word == "missing" => return hint(Outcome::fail(problem.text.clone())),
        Err(problem) => return Outcome::unknown(problem.text.clone()),
    };
    let own = pki::certificates(own);
    if own.is_empty() {
        return hint(Outcome::fail(format!("the ConfigMap {map} of the agent holds no certificate")));
    }
    // Go's verdict, unlike that of other libraries, counts the root's own dates.
    let ends = case.server_ca_ends();
    if let Some(ended) = ends.filter(|ends| *ends < case.facts.now) {
        return hint(Outcome::fail(format!("the gateway's CA in the ConfigMap {map} of the agent ended on {ended}")));
    }
    match &case.gateway_ca {
        Ok(theirs) if pki::certificates(theirs).iter().any(|der| own.contains(der)) => match ends {
            Some(ends) if Remaining::covers(case.soon, ends, case.facts.now) => {
                Outcome::warn(format!("the gateway's CA ends in {}, at {ends}", age(ends, case.facts.now)))
            }
            _ => Outcome::pass("it has the gateway's CA"),
        },
        Ok(_) => {
            hint(Outcome::fail(format!("the ConfigMap {map} of the agent holds another CA than the gateway's Secret")))
        }
        Err(_) if matches!(case.probe, Some(Ok(_))) => Outcome::pass("the gateway's certificate is of this CA"),
        Err(problem) => Outcome::skip(format!("it holds a CA; the gateway's own can't be compared: {}", problem.text)),
    }
}

pub fn agent_running(case: &Case) -> Outcome {
    let build = build!(case);
    let pods = match &build.agent.pods {
        Ok(pods) => pods,
        Err(problem) => return Outcome::unknown(problem.text.clone()),
    };
    let namespace = shell_quoted(&build.agent.agent.name.namespace);
    let told: Vec<_> = pods.iter().filter_map(|pod| trouble(pod, case.facts.now)).collect();
    let running = pods.iter().filter(|pod| pod.started.is_some()).count();
    let look = case.build_command(&format!("kubectl -n {namespace} describe pods -l app=cluster-agent"));
    match running {
        0 if told.is_empty() => Outcome::fail("it has no pods").hint(look),
        0 => {
            let why = case.log().map(|told| format!("; {told}")).unwrap_or_default();
            Outcome::fail(format!("{}{why}", told.join(", "))).hint(look)
        }
        count if told.is_empty() && count < build.agent.agent.replicas => {
            Outcome::warn(format!("{count} of {} run", build.agent.agent.replicas)).hint(look)
        }
        count if told.is_empty() => Outcome::pass(format!("{count} run")),
        count => Outcome::warn(format!("{count} run, and {}", told.join(", "))).hint(look),
    }
}

/// What is wrong with a pod: it doesn't run, or it ended of late.
fn trouble(pod: &AgentPod, now: Timestamp) -> Option<String> {
    let name = visible(&pod.name);
    let ended = pod.ended.map(|(at, code)| format!("ended {} ago with exit code {code}", age(at, now)));
    let ended = ended.map(|ended| format!(", {} restarts, last {ended}", pod.restarts)).unwrap_or_default();
    let lately = pod.ended.is_some_and(|(at, _)| now.duration_since(at).as_secs() < LATELY);
    match &pod.waiting {
        Some(reason) => Some(format!("{name} is in {}{ended}", visible(reason))),
        None if lately => Some(format!("{name} was started anew{ended}")),
        None => None,
    }
}

pub fn agent_current(case: &Case) -> Outcome {
    let build = build!(case);
    let behind = build.agent.behind(case.pinned());
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
            let presents: Vec<_> = pods.iter().filter_map(|pod| pair.presented_by(pod)).collect();
            let trusted = matches!(case.verdict(), Some(Verdict::Authorized { .. }));
            // The gateway would let in what the Secret holds, and no pod presents it.
            let would = matches!(&case.probe, Some(Ok(reply)) if reply.answer == Answer::Authorized);
            let all_older = presents.iter().all(|presents| *presents == Presents::Older);
            let outcome = if would && all_older && !case.is_connected() {
                Outcome::fail(told.clone())
            } else {
                Outcome::warn(told.clone())
            };
            if presents.contains(&Presents::Older) && !trusted {
                return outcome.hint("do not restart it before the plane trusts what the Secret holds");
            }
            outcome.hint(case.build_command(&restart))
        }
    }
}

impl Case {
    /// The last thing that the agent's log complains of, explained.
    pub(super) fn log(&self) -> Option<String> {
        let log = self.build.as_ref()?.as_ref().ok()?.log.as_ref().ok()?;
        let (word, meaning) = log.lines().rev().take_while(|line| !line.contains(LET_IN)).find_map(complaint)?;
        Some(format!("the agent logs `{word}`: {meaning}"))
    }
}

/// What a line of the agent's log complains of.
pub fn complaint(line: &str) -> Option<&'static (&'static str, &'static str)> {
    COMPLAINTS.iter().find(|(word, _)| line.contains(word))
}

/// What the agent logs, and what it means.
static COMPLAINTS: &[(&str, &str)] = &[
    ("malformed ws or wss URL", "its server URL begins with https://"),
    ("failed to load client certificate", "key and certificate don't fit or don't parse"),
    ("failed to create agent", "its plane type is of another release, or its certificate can't be used"),
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
