//! Checks of the gateway and of what the controller reports.

use super::outcome::{Hint, Outcome, Unchecked};
use crate::cluster::AgentPod;
use crate::doctor::case::{Case, LogLine};
use crate::doctor::notes::{not_taken_over, unreported};
use crate::estate::{CONTROLLER, Controller, DeployedGateway, Peers, Running};
use crate::gateway::{Answer, ProbeError, Reply};
use crate::plane::{DEFAULT_PLANE, GATEWAY_CA, GATEWAY_SERVICE, Release, Scope, Span, State, age};
use crate::text::{shell_quoted, visible};

/// How far two clocks may be apart, in seconds.
const APART: i64 = 60;
/// Within how many seconds the status follows what an agent logs.
const REPORTED_WITHIN: i64 = 120;

pub fn gateway_running(case: &Case) -> Outcome {
    match &case.shared.deployed {
        Err(problem) => Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
        Ok(None) => Outcome::unchecked(
            Unchecked::GatewayPods,
            format!("the namespace {} has no Service {GATEWAY_SERVICE}", case.shared.control_namespace),
        ),
        Ok(Some(gateway)) => {
            let look = case.kubectl(&format!("get deployments,pods -l {}", shell_quoted(&gateway.selector)));
            match gateway.ready.len() {
                0 => match &case.shared.idle_gateway {
                    Some(name) => {
                        Outcome::fail(format!("the gateway's Deployment {} is scaled to zero", visible(name)))
                            .hint(case.scale(name))
                    }
                    None => Outcome::fail("no pod of the gateway is ready").look(look),
                },
                1 => Outcome::pass("1 pod of the gateway is ready"),
                count => {
                    let reported = "an agent is connected to one of them only, and requests through the others fail";
                    Outcome::warn(format!("{count} pods of the gateway are ready: {reported}")).look(look)
                }
            }
        }
    }
}

pub fn gateway_reachable(case: &Case) -> Outcome {
    let url = case.gateway.url.as_ref().map(|url| visible(&url.to_string()).into_owned()).unwrap_or_default();
    let Some(probe) = &case.gateway.reply else {
        let why = case.gateway.url.as_ref().map(|_| format!("{url} was not contacted"));
        let why = why.unwrap_or_else(|| "the gateway's URL is unknown: add --gateway-url".into());
        return Outcome::unchecked(Unchecked::Gateway, why);
    };
    match probe.as_ref().map_err(|error| &**error) {
        Ok(_) | Err(ProbeError::Dropped(_) | ProbeError::Identity(_) | ProbeError::NotHttp(_)) => {
            Outcome::pass(format!("{url} answers"))
        }
        Err(error @ ProbeError::WrongName { host, .. }) => Outcome::fail(error.to_string())
            .advice(format!("add {} to the gateway's clusterGateway.tls.dnsNames, and restart it", visible(host))),
        Err(error @ ProbeError::Expired(_)) => Outcome::fail(error.to_string())
            .hint(case.restart_gateway())
            .advice("the gateway reads its certificate only when it starts"),
        Err(error @ ProbeError::UnknownAuthority) => {
            let inspect =
                format!("choreoctl certs inspect secret/{}/{GATEWAY_CA}:ca.crt", case.shared.control_namespace);
            Outcome::fail(error.to_string()).look(case.control(&inspect))
        }
        // Names of Services are resolved in the plane's cluster only.
        Err(ProbeError::Name(host)) if is_of_service(host) && case.is_connected() => Outcome::unreachable(format!(
            "{} can be resolved only inside the cluster; an agent is connected",
            visible(host)
        )),
        // The agent may reach it over another network than this machine.
        Err(error) => Outcome::fail(format!("{error} (seen from this machine)"))
            .advice(format!("check that {url} is right and that the plane's cluster can reach it"))
            .look(case.kubectl(&format!(
                "get service {}",
                case.deployed().map_or(GATEWAY_SERVICE, DeployedGateway::service)
            ))),
    }
}

/// Whether a host name is one that the DNS of a cluster gives to a Service.
fn is_of_service(host: &str) -> bool {
    host.ends_with(".svc") || host.contains(".svc.")
}

/// How far the gateway's clock is ahead of the API server's, in seconds; none where it isn't known or doesn't matter.
fn ahead(case: &Case) -> Option<i64> {
    let date = case.gateway.reply.as_ref()?.as_ref().ok()?.date?;
    let ahead = date.duration_since(case.facts.now).as_secs();
    (ahead.abs() > APART).then_some(ahead)
}

pub fn gateway_clock(case: &Case) -> Outcome {
    match &case.gateway.reply {
        None => return Outcome::unchecked(Unchecked::Gateway, "the gateway was not contacted"),
        Some(Ok(Reply { date: Some(_), .. })) => {}
        Some(_) => return Outcome::skip("the gateway's answer has no date"),
    }
    let Some(ahead) = ahead(case) else {
        return Outcome::pass("the gateway's clock agrees with the API server's");
    };
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    let span = Span::from_seconds(ahead.unsigned_abs());
    let reported = format!("the gateway's clock is {span} {side} the API server's");
    let authorized = matches!(&case.gateway.reply, Some(Ok(reply)) if reply.answer == Answer::Authorized);
    let stale = matches!(case.facts.plane.state(case.facts.now), State::Late | State::Stale);
    let outcome = if (case.gateway.presented && !authorized) || stale {
        Outcome::fail(reported)
    } else {
        Outcome::warn(reported)
    };
    outcome.advice("correct the clock of the gateway's node").look(case.kubectl("get pods -o wide"))
}

pub fn gateway_answer(case: &Case) -> Outcome {
    let Some(probe) = &case.gateway.reply else {
        return Outcome::unchecked(Unchecked::Gateway, "the gateway was not contacted");
    };
    let log = case.kubectl(&format!("logs service/{GATEWAY_SERVICE} --tail=100"));
    let answer = match probe {
        _ if !case.gateway.presented => {
            let why = "there is no certificate to present: add --plane-context, or --cert and --key";
            return Outcome::unchecked(Unchecked::Presented, why);
        }
        Ok(reply) => &reply.answer,
        Err(error) => return Outcome::fail(error.to_string()).look(log),
    };
    let failed = |advice: &str| Outcome::fail(answer.to_string()).advice(advice);
    let arguments = case.deployed().and_then(|gateway| gateway.arguments.as_ref());
    let header = arguments.and_then(|arguments| arguments.header.as_deref());
    match answer {
        Answer::Authorized => Outcome::pass(answer.to_string()),
        Answer::NoPlane => {
            failed("check that this is the gateway of this control plane, and that it can read the CA").look(log)
        }
        Answer::NotTrusted => failed("check that this is the gateway of this control plane").look(log),
        // Past the proxy, nothing sets the header.
        Answer::NoCertificate if header.is_some() && case.is_connected() => {
            Outcome::unchecked(Unchecked::Presented, format!("{}, and an agent is connected", by_header(header)))
        }
        Answer::NoCertificate if header.is_some() => Outcome::fail(by_header(header))
            .advice("check that the URL is the proxy's, and that the proxy verifies and forwards certificates"),
        Answer::NoCertificate => failed(
            "a proxy in front of the gateway terminates TLS: configure TLS passthrough (TLSRoute, TCP load balancer)",
        ),
        Answer::OtherRelease(_) => match case.predecessor() {
            Some(old) => Outcome::fail(answer.to_string()).hint(case.migrate(old, "")),
            None => failed("install the chart of the control plane's release in the plane's cluster"),
        },
        Answer::Blind(_) => Outcome::fail(answer.to_string()).look(log),
        Answer::Other { .. } => failed("check that the URL is the cluster gateway's").look(log),
    }
}

/// What a gateway says that takes agents' certificates out of a header, where it got none.
fn by_header(header: Option<&str>) -> String {
    let header = visible(header.unwrap_or_default()).into_owned();
    format!(
        "the gateway reads agents' certificates from the header {header} of a proxy (--agent-auth-mode=forwarded-header), and this request had none"
    )
}

/// Whether the gateway's API, by which requests are sent into planes' clusters, can be reached from outside without being
/// authenticated.
pub fn gateway_api_exposed(case: &Case) -> Outcome {
    let Some(gateway) = case.deployed() else {
        return Outcome::skip("the gateway's Service is unknown");
    };
    let Some(first) = gateway.published.first() else {
        return Outcome::pass("the gateway's Services are not exposed outside the cluster");
    };
    let title = |name: &str, by: &str| format!("the Service {name} of type {by}");
    let exposed = |how: &str, advice: &str| {
        let title = title(first.name, &first.by);
        let why = format!(
            "{title} publishes the gateway's API {how}: every client that can reach it can send requests to all agents"
        );
        Outcome::warn(why).advice(advice)
    };
    // Only the first Service ever has it.
    if first.has_api {
        let title = title(first.name, &first.by);
        // What answered without a certificate needs no argument to show it.
        let has_answered = matches!(&case.gateway.counted, Some(Ok(counted)) if !counted.is_shared);
        return match &gateway.arguments {
            None if !has_answered => {
                Outcome::skip(format!("{title} publishes the API, and the gateway's arguments are unknown"))
            }
            Some(arguments) if arguments.is_mutual => {
                Outcome::pass(format!("{title} publishes the API, which authenticates its clients (mutual TLS)"))
            }
            _ => exposed(
                "without authentication",
                "upgrade to OpenChoreo v1.2, or set clusterGateway.internalMtls.enabled=true (v1.0.3, v1.1.3 and later); until then limit who can reach the port",
            ),
        };
    }
    let is_shared = match &case.gateway.counted {
        Some(Ok(counted)) => counted.is_shared,
        // Without asking, only that of v0.x is known.
        _ => gateway.api_port.is_none() && case.release() == Some(Release::V0),
    };
    if is_shared {
        return exposed(
            "on the agents' port, without authentication",
            "limit who can reach the port, for example to the addresses of the planes' clusters; from v1.2.0 on the API authenticates its clients",
        );
    }
    Outcome::pass(format!("{} publishes the agents' port only", title(first.name, &first.by)))
}

pub fn controller_certificate(case: &Case) -> Outcome {
    let controller = match &case.shared.controller {
        Err(problem) => return Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
        Ok(None) => return Outcome::pass("nothing to check: the controller presents no certificate to the gateway"),
        Ok(Some(controller)) => controller,
    };
    let pair = match &controller.pair {
        Ok(pair) => pair,
        Err(problem) if problem.is_fault() => {
            let look = format!("get secret {}", shell_quoted(&controller.secret.name));
            return Outcome::fail(problem.message.clone()).look(case.kubectl(&look));
        }
        Err(problem) => return Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
    };
    let Some((pod, running)) = first_to_end(controller) else {
        return Outcome::skip("the controller does not run");
    };
    let (name, ends, validity) = (visible(&pod.name), running.not_after(), running.validity());
    let restart = Hint::Fix(case.kubectl(&format!("delete pods -l {CONTROLLER}")));
    if ends < case.facts.now {
        let why =
            format!("the certificate that pod {name} of the controller presents to the gateway has expired ({ends})");
        return Outcome::fail(format!("{why}: the gateway refuses its requests")).hint(restart);
    }
    if matches!(running, Running::Known(certificate) if certificate.der == pair.leaf().der) {
        return Outcome::pass(format!("it presents the current certificate to the gateway, {validity}"));
    }
    let why = format!("pod {name} of the controller started before its certificate for the gateway was renewed");
    Outcome::warn(format!("{why}, and presents an older one until it is restarted ({validity})")).hint(restart)
}

/// The pod of the controller whose certificate expires first.
fn first_to_end(controller: &Controller) -> Option<(&AgentPod, Running<'_>)> {
    controller.running().min_by_key(|(_, running)| running.not_after())
}

pub fn controller(case: &Case) -> Outcome {
    let facts = &case.facts;
    let down = case.shared.is_lease_old(facts.now);
    let lease = match &case.shared.lease {
        Ok(Some(renewed)) => format!("the controller last renewed its lease {} ago", age(*renewed, facts.now)),
        Ok(None) => "there is no lease of the controller".into(),
        Err(problem) => format!("the controller's lease is unknown: {}", problem.message),
    };
    if let Some(name) = &case.shared.idle_controller {
        let why = format!("the controller's Deployment {} is scaled to zero, and {lease}", visible(name));
        let is_stale = matches!(facts.plane.state(facts.now), State::Stale | State::Unreported);
        let outcome = if is_stale { Outcome::fail(why) } else { Outcome::warn(why) };
        return outcome.hint(case.scale(name));
    }
    let look = case.kubectl("get deployments,pods");
    let answers = matches!(case.gateway.reply, Some(Ok(_)));
    match facts.plane.state(facts.now) {
        State::Stale if down => {
            Outcome::fail(format!("the last report is old, and {lease}: the controller is down")).look(look)
        }
        State::Stale if not_taken_over(&facts.plane).is_some() => {
            let why = not_taken_over(&facts.plane).unwrap_or_default();
            Outcome::fail(format!("the last report is old: {why}; {lease}")).look(look)
        }
        State::Stale if answers => {
            let reported = "the gateway answers, so the controller doesn't report";
            Outcome::fail(format!("the last report is old; {reported}; {lease}")).look(look)
        }
        State::Stale => {
            Outcome::fail(format!("the last report is old; {lease}: check that the gateway is running")).look(look)
        }
        State::Unreported if case.facts.is_new() => Outcome::pass("no report yet: the first one takes about a minute"),
        State::Unreported => {
            let why = unreported(&facts.plane);
            Outcome::fail(format!("there is no report: {why}; {lease}")).look(look)
        }
        _ if down => Outcome::warn(lease).look(look),
        _ => Outcome::pass("the controller reports"),
    }
}

pub fn connected(case: &Case) -> Outcome {
    let facts = &case.facts;
    let agents = facts.plane.connection().map_or(0, |connection| connection.connected_agents);
    let last = case.last_word();
    let why = last.and_then(|line| line.complaint()).map(|reported| format!("; {reported}")).unwrap_or_default();
    let failed = |reported: &str| {
        let outcome = match last.filter(LogLine::is_connected) {
            None => Outcome::fail(format!("{reported}{why}")),
            Some(line) => {
                let ago = line.time().map(|time| facts.now.duration_since(time).as_secs());
                let at = line.time().map(|time| format!(" at {time}")).unwrap_or_default();
                let why = format!("{reported}, but the agent logged{at} that it is connected");
                let outcome = match ago {
                    Some(..REPORTED_WITHIN) => Outcome::warn(format!("{why}: the status follows within a minute")),
                    Some(_) => Outcome::fail(format!("{why}, and the status follows within a minute")),
                    None => Outcome::fail(format!("{why}: if it just did, the status follows within a minute")),
                };
                return outcome.look(case.control(&format!("choreoctl wait {} --for connected", case.words())));
            }
        };
        match &case.build {
            // The causes lie there.
            None => outcome.hint(case.with_both("doctor", "", Hint::Look)),
            Some(_) => outcome,
        }
    };
    let heartbeat = facts.plane.connection().and_then(|connection| connection.last_heartbeat_time);
    let is_newer = |line: &LogLine<'_>| line.is_refusal() && line.time().is_none_or(|time| Some(time) >= heartbeat);
    match facts.plane.state(facts.now) {
        State::Connected if last.as_ref().is_some_and(is_newer) => {
            let agents = connected_agents(agents);
            Outcome::warn(format!("the status, which is up to a minute old, reports {agents}; since then{}", &why[1..]))
        }
        State::Connected if facts.plane.name() == DEFAULT_PLANE => Outcome::pass(connected_agents(agents)),
        State::Connected => {
            let users = match facts.plane.kind.family.plane_type {
                "buildplane" => "builds",
                "workflowplane" => "workflows",
                "dataplane" => "environments",
                _ => "other planes",
            };
            let agents = connected_agents(agents);
            Outcome::pass(format!("{agents}; the plane is not named default, so {users} must reference it by name"))
        }
        State::Late => Outcome::warn("the heartbeat is late"),
        State::Unreported => Outcome::skip("there is no report yet"),
        State::Disconnected => failed("no agent is connected, but one was connected before"),
        _ => failed("no agent has ever connected"),
    }
}

fn connected_agents(count: i64) -> String {
    if count == 1 { "1 agent is connected".into() } else { format!("{count} agents are connected") }
}

pub fn agent_authorized(case: &Case) -> Outcome {
    let plane = &case.facts.plane;
    if plane.state(case.facts.now) != State::Connected {
        return Outcome::skip("no agent is connected");
    }
    let unknown = match &case.gateway.counted {
        Some(Ok(counted)) if counted.connected_agents > 0 => {
            return Outcome::pass(format!("the gateway counts {} for this plane", counted.connected_agents));
        }
        Some(Ok(_)) => return authorizes_none(case),
        Some(Err(why)) => format!("the gateway did not report its agents: {why}"),
        None => "the gateway was not asked for its agents".to_owned(),
    };
    if plane.kind.scope == Scope::Namespaced {
        return Outcome::pass("the status counts only the agents of this plane");
    }
    let log = match &case.shared.gateway_log {
        Ok(log) => match log.authorized(plane) {
            Some(0) => return authorizes_none(case),
            Some(count) => {
                return Outcome::pass(format!("the gateway has authorized {count} for this plane, by its log"));
            }
            None => "its log was not found, or does not go back far enough".to_owned(),
        },
        Err(problem) => format!("its log can't be read: {}", problem.message),
    };
    let why = if case.gateway.counted.is_some() { Unchecked::Agents } else { Unchecked::Gateway };
    Outcome::unchecked(why, format!("{unknown}; {log}"))
}

/// An agent of the planeID is connected, and the plane authorizes none.
fn authorizes_none(case: &Case) -> Outcome {
    let shared = case.facts.shares_plane_id_with.as_ref().map(Peers::few).unwrap_or_default();
    let why = if shared.is_empty() {
        "the status reports a connected agent, but this plane authorizes no connected agent".to_owned()
    } else {
        format!("the connected agents are authorized only by other planes with the same planeID ({shared})")
    };
    Outcome::fail(why).hint(case.with_both("certs verify --cert agent --plane", "", Hint::Look))
}

impl Case {
    /// The command that restarts the gateway.
    fn restart_gateway(&self) -> Hint {
        match self.deployed() {
            Some(gateway) => Hint::Fix(self.kubectl(&format!("delete pods -l {}", shell_quoted(&gateway.selector)))),
            None => Hint::Look(self.kubectl("get pods")),
        }
    }
}
