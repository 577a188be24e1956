//! Checks of what is in the plane's cluster.

use jiff::Timestamp;

use super::outcome::{Hint, Outcome, Unchecked};
use crate::cluster::{Agent, AgentPod, LABELS, Target};
use crate::doctor::case::{BuildCase, Case, LogLine};
use crate::doctor::redact::without_user;
use crate::estate::{Few, Presents};
use crate::gateway::{Answer, GatewayUrl};
use crate::pki::{self, Bundle, Reason, Verdict};
use crate::plane::{GATEWAY_CA, PlaneKey, age};
use crate::text::{shell_quoted, visible};

/// How long after a restart it is mentioned, in seconds.
const LATELY: i64 = 3600;

/// What is in the plane's cluster, or why a check of it is left out.
pub fn build(case: &Case) -> Result<&BuildCase, Outcome> {
    match &case.build {
        None if case.shared.is_of_files => {
            Err(Outcome::unchecked(Unchecked::AgentCluster, "the agent's objects are not in the files"))
        }
        None => Err(Outcome::unchecked(Unchecked::AgentCluster, "the plane's cluster is unknown: add --plane-context")),
        Some(Err(problem)) if problem.is_missing() => {
            Err(Outcome::unchecked(Unchecked::OtherCluster, "the plane's agent is in another cluster"))
        }
        Some(Err(problem)) => Err(Outcome::unknown(problem.message.clone())),
        Some(Ok(build)) => Ok(build),
    }
}

pub fn agent_exists(case: &Case) -> Outcome {
    match (&case.build, build(case)) {
        (Some(Err(problem)), _) if problem.is_missing() => no_agent(case, &problem.message),
        (_, Ok(build)) => Outcome::pass(format!("Deployment {}", visible(&build.agent.agent.name.to_string()))),
        (_, Err(outcome)) => outcome,
    }
}

/// Says of a namespace without an agent of the planeID where there is one, if anywhere.
fn no_agent(case: &Case, why: &str) -> Outcome {
    let id = visible(case.facts.plane.plane_id()).into_owned();
    let look = case.build_command(&format!("kubectl get deployments -A -l {LABELS}"));
    match &case.elsewhere {
        Ok(agents) if !agents.is_empty() => {
            let names: Vec<_> = agents.iter().map(ToString::to_string).collect();
            let namespace = agents.first().map(|agent| shell_quoted(&agent.namespace).into_owned()).unwrap_or_default();
            let flags = format!(" --plane-namespace {namespace}");
            let doctor = case.control(&format!("choreoctl doctor {}", case.words()));
            let build = case.shared.build_target.as_ref().map(Target::plane_flags).unwrap_or_default();
            let outcome = Outcome::fail(format!("{why}: the agent with planeID {id} is {}", Few::of(&names)));
            // By the name that the chart gives it.
            let is_old = |old: &&PlaneKey| agents.iter().all(|agent| agent.name.ends_with(old.kind.family.plane_type));
            let old = case.predecessor().filter(is_old).zip(agents.first());
            old.into_iter()
                .fold(outcome, |outcome, (old, agent)| outcome.hint(case.replace_agent(old, &agent.namespace)))
                .fix(format!("{doctor}{build}{flags}"))
        }
        _ if case.shared.is_one_cluster => Outcome::fail(format!(
            "{why}, nor in another namespace: the plane's cluster on the command line is the control plane's cluster ({})",
            case.shared.build_target.as_ref().map(Target::title).unwrap_or_default()
        ))
        .advice("name the plane's cluster with --plane-context"),
        // One cluster has the agents of some planes.
        Ok(_) if case.is_connected() && !case.shared.is_named && case.shared.has_agents => {
            Outcome::unchecked(Unchecked::OtherCluster, format!("{why}: the plane is connected from another cluster"))
        }
        Ok(_) if case.is_connected() => {
            Outcome::fail(format!("{why}, nor in another namespace, although the last report says connected"))
                .look(look)
        }
        Err(problem) if case.is_connected() => {
            Outcome::warn(format!("{why}, and other namespaces are unknown: {}", problem.message)).look(look)
        }
        _ => Outcome::fail(why).look(look),
    }
}

/// A kubectl command in the agent's namespace.
fn kubectl(case: &Case, build: &BuildCase, command: &str) -> String {
    case.build_command(&format!("kubectl -n {} {command}", shell_quoted(&build.agent.agent.name.namespace)))
}

/// The command that gives the agent's chart another value; advice where the chart's version is unknown.
fn helm(case: &Case, agent: &Agent, value: &str) -> Hint {
    let family = case.facts.plane.kind.family;
    let (chart, release) = (family.chart, shell_quoted(agent.release.as_deref().unwrap_or(family.helm_release)));
    // Without one helm would take the newest.
    let version = shell_quoted(agent.chart_version.as_deref().unwrap_or("VERSION"));
    let namespace = shell_quoted(&agent.name.namespace);
    let command = format!("helm upgrade {release} {chart} --version {version} --namespace {namespace} --reuse-values");
    let command = case.build_command(&format!("{command} --set {}", shell_quoted(value)));
    if agent.chart_version.is_some() { Hint::Fix(command) } else { Hint::Advice(command) }
}

pub fn agent_plane_id(case: &Case, build: &BuildCase) -> Outcome {
    let (agent, wanted) = (&build.agent.agent, case.facts.plane.plane_id());
    match agent.plane_id.as_deref() {
        Some(id) if id == wanted => match replaced_late(build, wanted) {
            Some((pod, id)) => Outcome::fail(format!(
                "pod {} still runs with planeID {}: the Deployment with planeID {} has not replaced it yet",
                visible(pod),
                visible(id),
                visible(wanted)
            ))
            .look(kubectl(
                case,
                build,
                &format!("rollout status deployment {}", shell_quoted(&build.agent.agent.name.name)),
            )),
            None => Outcome::pass(format!("the agent runs with planeID {}", visible(id))),
        },
        id => {
            let id = id.map_or("none".into(), visible);
            Outcome::fail(format!("the agent runs with planeID {id}, but the plane has planeID {}", visible(wanted)))
                .hint(helm(case, agent, &format!("clusterAgent.planeID={wanted}")))
        }
    }
}

/// A running pod with another planeID, where none has the one that is wanted, and its planeID.
fn replaced_late<'b>(build: &'b BuildCase, wanted: &'b str) -> Option<(&'b str, &'b str)> {
    let pods = build.agent.pods.as_deref().unwrap_or_default();
    let running = pods.iter().filter(|pod| pod.started.is_some());
    let ids: Vec<_> = running.map(|pod| (&*pod.name, pod.plane_id.as_deref().unwrap_or(wanted))).collect();
    ids.first().copied().filter(|_| ids.iter().all(|(_, id)| *id != wanted))
}

pub fn agent_plane_type(case: &Case, build: &BuildCase) -> Outcome {
    let wanted = case.facts.plane.kind.family.plane_type;
    match build.agent.agent.plane_type.as_deref() {
        None => Outcome::skip("the agent's arguments do not set it"),
        Some(kind) if kind == wanted => Outcome::pass(format!("it is {wanted}")),
        Some(kind) => {
            let family = case.facts.plane.kind.family;
            let why = format!("the agent runs with plane type {}, but the plane needs {wanted}", visible(kind));
            let outcome = Outcome::fail(match &case.gateway.types {
                Some(types) if types.knows(kind) => format!("{why}: the gateway supports both"),
                Some(_) => format!("{why}: the gateway does not support the agent's"),
                None => why,
            });
            if let Some(old) = case.predecessor().filter(|old| old.kind.family.plane_type == kind) {
                return outcome.hint(case.replace_agent(old, &build.agent.agent.name.namespace));
            }
            match build.agent.agent.chart.as_deref() {
                Some(chart) if family.chart.rsplit('/').next() != Some(chart) => {
                    let chart = visible(chart);
                    outcome.advice(format!(
                        "the agent's chart is {chart}: install {} in the plane's cluster",
                        family.chart
                    ))
                }
                _ => outcome.hint(helm(case, &build.agent.agent, &format!("clusterAgent.planeType={wanted}"))),
            }
        }
    }
}

pub fn agent_tls(case: &Case, build: &BuildCase) -> Outcome {
    match build.agent.agent.tls_enabled.as_deref() {
        Some("false") => Outcome::fail("the agent runs with --tls-enabled=false, and presents no certificate")
            .hint(helm(case, &build.agent.agent, "clusterAgent.tls.enabled=true")),
        _ => Outcome::pass("TLS is on"),
    }
}

pub fn agent_server_url(case: &Case, build: &BuildCase) -> Outcome {
    let right = |url: &str| helm(case, &build.agent.agent, &format!("clusterAgent.serverUrl={url}"));
    let wrong = |why: String| Outcome::fail(why).advice(right("wss://HOST:PORT/ws").text());
    let Some(text) = build.agent.agent.server_url.as_deref() else {
        return Outcome::skip("the agent's arguments do not set it");
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
        Ok(url) => match (&case.gateway.url, case.last_word().filter(LogLine::is_unreachable)) {
            // What answers there is the gateway.
            (Some(named), Some(line)) if url != *named && matches!(case.gateway.reply, Some(Ok(_))) => {
                let [shown, named] = [&url, named].map(|url| visible(&url.to_string()).into_owned());
                let why = line.complaint().unwrap_or_default();
                let why = format!("the agent's server URL is {shown}, and the gateway answers at {named}; {why}");
                Outcome::fail(why).hint(right(&named))
            }
            _ => Outcome::pass(format!("{}", visible(&url.to_string()))),
        },
    }
}

pub fn agent_replicas(case: &Case, build: &BuildCase) -> Outcome {
    let agent = &build.agent.agent;
    match agent.replicas {
        0 => Outcome::fail("the agent is scaled to zero").fix(kubectl(
            case,
            build,
            &format!("scale deployment {} --replicas=1", shell_quoted(&agent.name.name)),
        )),
        1 => Outcome::pass("1 replica"),
        count => Outcome::pass(format!("{count} replicas")),
    }
}

pub fn agent_certificate_issued(case: &Case, build: &BuildCase) -> Outcome {
    let agent = &build.agent;
    let issuance = match &agent.issuance {
        Ok(Some(issuance)) => issuance,
        Ok(None) => return Outcome::skip("the agent's Secret has no Certificate of cert-manager"),
        Err(problem) => return Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
    };
    let name = visible(&issuance.name.to_string()).into_owned();
    let missing = agent.pair.as_ref().is_err_and(|problem| problem.is_missing());
    let why = match &issuance.pending {
        Some(why) => why.as_str(),
        // Its condition is of before the Secret was deleted.
        None if missing => {
            "the Secret was deleted, and cert-manager did not issue it again, although the Certificate is Ready"
        }
        None => match &issuance.issuer_problem {
            Some(why) => {
                let why = format!("the Issuer of Certificate {name} is not ready, so its renewal fails: {why}");
                return Outcome::warn(why).look(kubectl(case, build, "describe issuers.cert-manager.io"));
            }
            None => return Outcome::pass(format!("Certificate {name} is ready")),
        },
    };
    let look = format!("describe certificates.cert-manager.io {}", shell_quoted(&issuance.name.name));
    let outcome = match &agent.pair {
        Ok(pair) if pair.leaf().not_after > case.facts.now => {
            Outcome::warn(format!("Certificate {name} has not been renewed: {why}"))
        }
        _ => Outcome::fail(format!("Certificate {name} has not been issued: {why}")),
    };
    outcome.look(kubectl(case, build, &look)).advice("check that cert-manager runs and that its Issuer is ready")
}

pub fn agent_certificate(case: &Case, build: &BuildCase) -> Outcome {
    match &build.agent.pair {
        Ok(pair) if pair.fits => Outcome::pass(format!("{} holds a certificate and its key", visible(&pair.source))),
        Ok(pair) => {
            Outcome::fail(format!("the private key in {} does not match the certificate", visible(&pair.source)))
                .hint(case.rotate())
        }
        Err(problem) if problem.is_fault() => {
            Outcome::fail(problem.message.clone()).look(kubectl(case, build, "get secrets"))
        }
        Err(problem) => Outcome::unknown(problem.message.clone()),
    }
}

pub fn agent_trusted(case: &Case, build: &BuildCase) -> Outcome {
    let Ok(pair) = &build.agent.pair else {
        return Outcome::skip("its certificate can't be read");
    };
    let with_ca = || {
        case.with_both("certs renew", " --ca-dir DIR", |text| {
            Hint::Advice(format!("with the CA and its key in DIR: {text}"))
        })
    };
    let is_issued = pair.cert_manager.is_some();
    match case.facts.client_ca.verdict(&pair.presented, case.facts.now) {
        Verdict::Authorized { until: Some(until) } if case.shared.soon.covers(until, case.facts.now) => {
            let is_own_end = until >= pair.leaf().not_after;
            let renewal = build.agent.issuance().and_then(|issuance| issuance.renewal);
            if let Some(renewal) = renewal.filter(|renewal| is_own_end && *renewal > case.facts.now) {
                return Outcome::pass(format!("authorized until {until}; cert-manager renews it at {renewal}"));
            }
            let left = age(until, case.facts.now);
            let outcome = Outcome::warn(format!("authorized until {until} only ({left})")).hint(case.rotate());
            if is_own_end && !is_issued { outcome.hint(with_ca()) } else { outcome }
        }
        Verdict::Authorized { until } => {
            Outcome::pass(until.map_or_else(|| "authorized".into(), |until| format!("authorized until {until}")))
        }
        Verdict::Refused(refusal) => {
            let outcome = Outcome::fail(refusal.message).hint(case.rotate());
            let renews = match refusal.reason {
                Reason::Expired => true,
                // A renewal adds it, where the plane's CA issued the certificate.
                Reason::Usage if !pair.leaf().allows_clients() => {
                    case.pinned().iter().any(|ca| ca.allows_clients() && pki::issued(&pair.leaf().der, &ca.der))
                }
                _ => false,
            };
            if renews && !is_issued { outcome.hint(with_ca()) } else { outcome }
        }
        Verdict::Unknown(why) => Outcome::unknown(why),
    }
}

pub fn agent_server_ca(case: &Case, build: &BuildCase) -> Outcome {
    let map = build.agent.agent.server_ca.as_deref().unwrap_or(GATEWAY_CA);
    let hint = |outcome: Outcome| {
        let secret = case.kubectl(&format!("get secret {GATEWAY_CA}"));
        let template = "-o 'go-template={{index .data \"ca.crt\" | base64decode}}' > gateway-ca.crt";
        let create = format!("create configmap {} --from-file=ca.crt=gateway-ca.crt", shell_quoted(map));
        let create = kubectl(case, build, &format!("{create} --dry-run=client -o yaml"));
        let apply = case.build_command("kubectl apply -f -");
        // It reads the CA once, when it starts.
        outcome.fix(format!("{secret} {template} && {create} | {apply} && {}", restart(case, build)))
    };
    let map = visible(map);
    let own = match &build.server_ca {
        Ok(own) => own,
        Err(problem) if problem.is_missing() => return hint(Outcome::fail(problem.message.clone())),
        Err(problem) => return Outcome::unknown(problem.message.clone()),
    };
    let written = own.written;
    let own = Bundle::from(own.text.as_str());
    if own.ders().is_empty() {
        return hint(Outcome::fail(format!("the ConfigMap {map} of the agent holds no certificate")));
    }
    // Go's verdict, unlike that of other libraries, counts the root's own dates.
    let ends = case.server_ca_ends();
    if let Some(ended) = ends.filter(|ends| *ends < case.facts.now) {
        return hint(Outcome::fail(format!("the gateway's CA in the agent's ConfigMap {map} expired on {ended}")));
    }
    let passed = |message: &str| old_server_ca(case, build, &map, written).unwrap_or_else(|| Outcome::pass(message));
    match &case.shared.gateway_ca {
        Ok(theirs) if Bundle::from(theirs.as_str()).ders().iter().any(|der| own.ders().contains(der)) => match ends {
            Some(ends) if case.shared.soon.covers(ends, case.facts.now) => {
                Outcome::warn(format!("the gateway's CA expires in {}, at {ends}", age(ends, case.facts.now)))
            }
            _ => passed("the agent trusts the gateway's CA"),
        },
        Ok(_) => {
            hint(Outcome::fail(format!("the ConfigMap {map} of the agent holds another CA than the gateway's Secret")))
        }
        Err(_) if matches!(case.gateway.reply, Some(Ok(_))) => passed("this CA issued the gateway's certificate"),
        Err(problem) => Outcome::unchecked(
            Unchecked::Unread,
            format!("the agent's CA can't be compared with the gateway's CA: {}", problem.message),
        ),
    }
}

/// The complaint about an agent that started before its ConfigMap got the CA that it holds now; none where it connected
/// since.
fn old_server_ca(case: &Case, build: &BuildCase, map: &str, written: Option<Timestamp>) -> Option<Outcome> {
    let last = case.last_word();
    let started = |pod: &AgentPod| Some((visible(&pod.name).into_owned(), pod.started?));
    let pods = build.agent.pods.as_deref().unwrap_or_default();
    let old = pods.iter().filter_map(started).find(|(_, started)| written.is_some_and(|written| *started < written));
    let refuses = last.filter(LogLine::is_other_ca).and_then(|line| line.complaint());
    let outcome = match (old, written, refuses) {
        (Some((pod, since)), Some(written), refuses) => {
            let reported =
                format!("pod {pod} has been running since {since}, before the ConfigMap {map} was last written");
            let reported = format!("{reported} ({written}): it verifies the gateway with the former CA");
            match refuses {
                Some(why) => Outcome::fail(format!("{reported}; {why}")),
                None if last.is_some_and(|line| line.is_connected() && line.time() > Some(written)) => return None,
                None => Outcome::warn(format!("{reported} until it is restarted")),
            }
        }
        // This CA verifies the gateway's certificate, so it is not the one that the agent read.
        (_, _, Some(why)) if matches!(case.gateway.reply, Some(Ok(_))) => {
            Outcome::fail(format!("the ConfigMap {map} holds the gateway's CA, but {why}: the agent needs a restart"))
        }
        _ => return None,
    };
    Some(outcome.fix(restart(case, build)))
}

/// The command that restarts the agent.
fn restart(case: &Case, build: &BuildCase) -> String {
    kubectl(case, build, &format!("rollout restart deployment {}", shell_quoted(&build.agent.agent.name.name)))
}

pub fn agent_running(case: &Case, build: &BuildCase) -> Outcome {
    let pods = match &build.agent.pods {
        Ok(pods) => pods,
        Err(problem) => return Outcome::unknown(problem.message.clone()),
    };
    let reported: Vec<_> = pods.iter().filter_map(|pod| trouble(pod, case.facts.now)).collect();
    let running = pods.iter().filter(|pod| pod.started.is_some()).count();
    let look = kubectl(case, build, "describe pods -l app=cluster-agent");
    match running {
        0 if reported.is_empty() => Outcome::fail("the agent has no pods").look(look),
        0 => {
            let why = case.log().map(|reported| format!("; {reported}")).unwrap_or_default();
            Outcome::fail(format!("{}{why}", reported.join(", "))).look(look)
        }
        count if reported.is_empty() && count < build.agent.agent.replicas => {
            Outcome::warn(format!("{count} of {} pods are running", build.agent.agent.replicas)).look(look)
        }
        1 if reported.is_empty() => Outcome::pass("1 pod is running"),
        count if reported.is_empty() => Outcome::pass(format!("{count} pods are running")),
        count => Outcome::warn(format!("{count} running, and {}", reported.join(", "))).look(look),
    }
}

/// What is wrong with a pod: it doesn't run, or it ended of late.
fn trouble(pod: &AgentPod, now: Timestamp) -> Option<String> {
    let name = visible(&pod.name);
    let ended = pod.ended.map(|(at, code)| format!("ended {} ago with exit code {code}", age(at, now)));
    let restarts = if pod.restarts == 1 { "restart" } else { "restarts" };
    let ended = ended.map(|ended| format!(", {} {restarts}, last {ended}", pod.restarts)).unwrap_or_default();
    let lately = pod.ended.is_some_and(|(at, _)| now.duration_since(at).as_secs() < LATELY);
    match &pod.waiting {
        Some(reason) => Some(format!("{name} is in {}{ended}", visible(reason))),
        None if lately => Some(format!("{name} was restarted{ended}")),
        None => None,
    }
}

pub fn agent_current(case: &Case, build: &BuildCase) -> Outcome {
    let behind = build.agent.behind(case.pinned());
    let (Ok(pair), Ok(pods)) = (&build.agent.pair, &build.agent.pods) else {
        return Outcome::skip("its pods can't be compared");
    };
    match behind.first() {
        None => Outcome::pass(format!("{} of {} pods present the current certificate", pods.len(), pods.len())),
        Some(reported) => {
            let presents: Vec<_> = pods.iter().filter_map(|pod| pair.presented_by(pod)).collect();
            let trusted = case.verdict().is_some_and(|verdict| verdict.is_authorized());
            // The gateway would authorize what the Secret holds, and no pod presents it.
            let would = matches!(&case.gateway.reply, Some(Ok(reply)) if reply.answer == Answer::Authorized);
            let all_older = presents.iter().all(|presents| *presents == Presents::Older);
            let outcome = if would && all_older && !case.is_connected() {
                Outcome::fail(reported.clone())
            } else {
                Outcome::warn(reported.clone())
            };
            if presents.contains(&Presents::Older) && !trusted {
                return outcome
                    .advice("do not restart the agent before the plane trusts the certificate in its Secret");
            }
            outcome.fix(restart(case, build))
        }
    }
}
