//! Checks of the gateway and of what the controller reports.

use super::outcome::{Hint, Outcome, Unchecked};
use crate::doctor::case::Case;
use crate::estate::Peers;
use crate::gateway::{Answer, ProbeError, Reply};
use crate::plane::{DEFAULT_PLANE, GATEWAY_CA, GATEWAY_SERVICE, Span, State, age};
use crate::text::{shell_quoted, visible};

/// How far two clocks may be apart, in seconds.
const APART: i64 = 60;
/// How old the controller's lease may be, in seconds.
const LEASE_AGE: i64 = 120;

pub fn gateway_running(case: &Case) -> Outcome {
    match &case.shared.gateway_pods {
        Err(problem) => Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
        Ok(None) => Outcome::unchecked(
            Unchecked::GatewayPods,
            format!("the namespace {} has no Service {GATEWAY_SERVICE}", case.shared.control_namespace),
        ),
        Ok(Some(pods)) => {
            let look = case.kubectl(&format!("get pods -l {}", shell_quoted(&pods.selector)));
            match pods.ready {
                0 => Outcome::fail("no pod of the gateway is ready").look(look),
                1 => Outcome::pass("1 pod of the gateway is ready"),
                count => {
                    let told = "an agent is connected to one of them only, and requests through the others fail";
                    Outcome::warn(format!("{count} pods of the gateway are ready: {told}")).look(look)
                }
            }
        }
    }
}

pub fn gateway_reachable(case: &Case) -> Outcome {
    let url = case.gateway.url.as_ref().map(|url| visible(&url.to_string()).into_owned()).unwrap_or_default();
    let Some(probe) = &case.gateway.reply else {
        let why = case.gateway.url.as_ref().map(|_| format!("{url} was not contacted"));
        let why = why.unwrap_or_else(|| "no gateway URL is known: --gateway-url".into());
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
            .advice("the gateway reads its certificate once, when it starts"),
        Err(error @ ProbeError::UnknownAuthority) => {
            let inspect =
                format!("choreoctl certs inspect secret/{}/{GATEWAY_CA}:ca.crt", case.shared.control_namespace);
            Outcome::fail(error.to_string()).look(case.control(&inspect))
        }
        // Names of Services are resolved in the agent's cluster only.
        Err(ProbeError::Name(host)) if is_of_service(host) && case.is_connected() => {
            Outcome::unreachable(format!("{} is a name inside of a cluster, and an agent is connected", visible(host)))
        }
        // The agent may reach it over another network than this machine.
        Err(error) => Outcome::fail(format!("{error} (seen from this machine)"))
            .advice(format!("check that {url} is right and that the agent's cluster can reach it"))
            .look(case.kubectl(&format!("get service {GATEWAY_SERVICE}"))),
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
    let told = format!("the gateway's clock is {span} {side} the API server's");
    let let_in = matches!(&case.gateway.reply, Some(Ok(reply)) if reply.answer == Answer::Authorized);
    let stale = matches!(case.facts.plane.state(case.facts.now), State::Late | State::Stale);
    let outcome = if (case.gateway.presented && !let_in) || stale { Outcome::fail(told) } else { Outcome::warn(told) };
    outcome.advice("correct the clock of the gateway's node").look(case.kubectl("get pods -o wide"))
}

pub fn gateway_answer(case: &Case) -> Outcome {
    let Some(probe) = &case.gateway.reply else {
        return Outcome::unchecked(Unchecked::Gateway, "the gateway was not contacted");
    };
    let log = case.kubectl(&format!("logs service/{GATEWAY_SERVICE} --tail=100"));
    let answer = match probe {
        _ if !case.gateway.presented => {
            let why = "there is no certificate to present: --plane-context, or --cert and --key";
            return Outcome::unchecked(Unchecked::Gateway, why);
        }
        Ok(reply) => &reply.answer,
        Err(error) => return Outcome::fail(error.to_string()).look(log),
    };
    let failed = |advice: &str| Outcome::fail(answer.to_string()).advice(advice);
    match answer {
        Answer::Authorized => Outcome::pass(answer.to_string()),
        Answer::NoPlane => {
            failed("check that this is the gateway of this control plane, and that it can read the CA").look(log)
        }
        Answer::NotTrusted => failed("check that this is the gateway of this control plane").look(log),
        Answer::NoCertificate => {
            failed("a proxy before the gateway terminates TLS: let TLS pass through it (TLSRoute, TCP load balancer)")
        }
        Answer::OtherRelease(_) => failed("install the chart of the control plane's release in the agent's cluster"),
        Answer::Blind(_) => Outcome::fail(answer.to_string()).look(log),
        Answer::Other { .. } => failed("check that the URL leads to the cluster gateway").look(log),
    }
}

pub fn controller(case: &Case) -> Outcome {
    let facts = &case.facts;
    let (down, lease) = match &case.shared.lease {
        Ok(Some(renewed)) => {
            let old = facts.now.duration_since(*renewed).as_secs() > LEASE_AGE;
            (old, format!("the controller last renewed its lease {} ago", age(*renewed, facts.now)))
        }
        Ok(None) => (false, "there is no lease of the controller".into()),
        Err(problem) => (false, format!("of the controller's lease nothing is known: {}", problem.message)),
    };
    let look = case.kubectl("get pods");
    let answers = matches!(case.gateway.reply, Some(Ok(_)));
    match facts.plane.state(facts.now) {
        State::Stale if down => Outcome::fail(format!("the last report is old, and {lease}: it is down")).look(look),
        State::Stale if answers => {
            let told = "the gateway answers, so the controller doesn't report";
            Outcome::fail(format!("the last report is old; {told}; {lease}")).look(look)
        }
        State::Stale => Outcome::fail(format!("the last report is old; {lease}: is the gateway down?")).look(look),
        State::Unreported if case.facts.is_new() => Outcome::pass("no report yet: the first one takes about a minute"),
        State::Unreported => {
            let held = facts.plane.metadata.finalizers.iter().flatten().any(|one| one == facts.plane.kind.finalizer);
            let why = if held {
                "the controller can't reach the gateway, or the gateway can't parse the CA"
            } else {
                "no controller looks after this plane"
            };
            Outcome::fail(format!("there is no report: {why}; {lease}")).look(look)
        }
        _ if down => Outcome::warn(lease).look(look),
        _ => Outcome::pass("it reports"),
    }
}

pub fn connected(case: &Case) -> Outcome {
    let facts = &case.facts;
    let agents = facts.plane.connection().map_or(0, |connection| connection.connected_agents);
    let why = case.log().map(|told| format!("; {told}")).unwrap_or_default();
    let failed = |told: &str| {
        let outcome = Outcome::fail(format!("{told}{why}"));
        match &case.build {
            // The causes lie there.
            None => outcome.hint(case.with_both("doctor", "", Hint::Look)),
            Some(_) => outcome,
        }
    };
    match facts.plane.state(facts.now) {
        State::Connected if facts.plane.name() == DEFAULT_PLANE => Outcome::pass(connected_agents(agents)),
        State::Connected => Outcome::pass(format!(
            "{}; it is not the plane named default, so builds must name it",
            connected_agents(agents)
        )),
        State::Late => Outcome::warn("the heartbeat is late"),
        State::Unreported => Outcome::skip("there is no report yet"),
        State::Disconnected => failed("no agent is connected, though one was"),
        _ => failed("no agent has ever connected"),
    }
}

fn connected_agents(count: i64) -> String {
    if count == 1 { "1 agent is connected".into() } else { format!("{count} agents are connected") }
}

pub fn agent_authorized(case: &Case) -> Outcome {
    match case.gateway.counted {
        _ if case.facts.plane.state(case.facts.now) != State::Connected => Outcome::skip("none is connected"),
        None => Outcome::unchecked(Unchecked::Gateway, "the gateway did not report its agents"),
        Some(counted) if counted.connected_agents > 0 => {
            Outcome::pass(format!("the gateway counts {} for this plane", counted.connected_agents))
        }
        Some(_) => {
            let shared = case.facts.shares_plane_id_with.as_ref().map(Peers::few).unwrap_or_default();
            let why = if shared.is_empty() {
                "no agent is connected that this plane authorizes, although the status says so".to_owned()
            } else {
                format!("the connected agents are authorized only by other planes of the planeID ({})", shared)
            };
            Outcome::fail(why).hint(case.with_both("certs verify --cert agent --plane", "", Hint::Look))
        }
    }
}

impl Case {
    /// The command that restarts the gateway.
    fn restart_gateway(&self) -> Hint {
        match &self.shared.gateway_pods {
            Ok(Some(pods)) => Hint::Fix(self.kubectl(&format!("delete pods -l {}", shell_quoted(&pods.selector)))),
            _ => Hint::Look(self.kubectl("get pods")),
        }
    }
}
