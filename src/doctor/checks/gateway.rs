//! Checks of the gateway and of what the controller reports.

use super::super::case::{Case, GATEWAY_CA, GATEWAY_SERVICE};
use super::Outcome;
use crate::gateway::{Answer, ProbeError, Reply};
use crate::plane::{CLUSTER_BUILD_PLANE, DEFAULT_PLANE, Span, State, age};
use crate::term::{shell_quoted, visible};

/// How far two clocks may be apart, in seconds.
const APART: i64 = 60;
/// How old the controller's lease may be, in seconds.
const LEASE_AGE: i64 = 120;

pub fn gateway_running(case: &Case) -> Outcome {
    let namespace = shell_quoted(&case.control_namespace);
    match &case.gateway_pods {
        Err(problem) => Outcome::skip(problem.text.clone()),
        Ok(None) => Outcome::skip(format!("the namespace {} has no Service {GATEWAY_SERVICE}", case.control_namespace)),
        Ok(Some(pods)) => {
            let look = format!("kubectl -n {namespace} get pods -l {}", shell_quoted(&pods.selector));
            match pods.ready {
                0 => Outcome::fail("no pod of the gateway is ready").hint(case.control(&look)),
                1 => Outcome::pass("it runs"),
                count => {
                    let told = "an agent is connected to one of them only, and requests through the others fail";
                    Outcome::warn(format!("{count} pods of the gateway run: {told}")).hint(case.control(&look))
                }
            }
        }
    }
}

pub fn gateway_reachable(case: &Case) -> Outcome {
    let Some(probe) = &case.probe else {
        return match &case.gateway_url {
            None => Outcome::skip("no gateway URL is known: --gateway-url"),
            Some(url) => Outcome::skip(format!("{} was not asked", visible(&url.to_string()))),
        };
    };
    let url = case.gateway_url.as_ref().map(|url| visible(&url.to_string()).into_owned()).unwrap_or_default();
    match probe.as_ref().map_err(|error| &**error) {
        Ok(_) | Err(ProbeError::Dropped(_) | ProbeError::Identity(_) | ProbeError::NotHttp(_)) => {
            Outcome::pass(format!("{url} answers"))
        }
        Err(error @ ProbeError::WrongName { host, .. }) => Outcome::fail(error.to_string())
            .hint(format!("add {} to the gateway's clusterGateway.tls.dnsNames, and restart it", visible(host))),
        Err(error @ ProbeError::Expired(_)) => Outcome::fail(error.to_string())
            .hint(format!("the gateway reads its certificate once, at its start: {}", case.restart_gateway())),
        Err(error @ ProbeError::UnknownAuthority) => {
            let inspect = format!("choreoctl certs inspect secret/{}/{GATEWAY_CA}:ca.crt", case.control_namespace);
            Outcome::fail(error.to_string()).hint(case.control(&inspect))
        }
        // From here it may be another way than from the build cluster.
        Err(error) => Outcome::fail(format!("{error} (asked from this machine)")).hint(format!(
            "is {url} right, and can the build cluster reach it? {}",
            case.control(&format!(
                "kubectl -n {} get service {GATEWAY_SERVICE}",
                shell_quoted(&case.control_namespace)
            ))
        )),
    }
}

/// How far the gateway's clock is ahead of the API server's, in seconds; none where it isn't known or doesn't matter.
fn ahead(case: &Case) -> Option<i64> {
    let date = case.probe.as_ref()?.as_ref().ok()?.date?;
    let ahead = date.duration_since(case.facts.now).as_secs();
    (ahead.abs() > APART).then_some(ahead)
}

pub fn gateway_clock(case: &Case) -> Outcome {
    match &case.probe {
        None => return Outcome::skip("it was not asked"),
        Some(Ok(Reply { date: Some(_), .. })) => {}
        Some(_) => return Outcome::skip("the gateway doesn't tell its time"),
    }
    let Some(ahead) = ahead(case) else {
        return Outcome::pass("the gateway's clock is the API server's");
    };
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    let span = Span::from_seconds(ahead.unsigned_abs());
    let told = format!("the gateway's clock is {span} {side} the API server's");
    let let_in = matches!(&case.probe, Some(Ok(reply)) if reply.answer == Answer::Authorized);
    let stale = matches!(case.facts.plane.state(case.facts.now), State::Late | State::Stale);
    let nodes = case.control(&format!("kubectl -n {} get pods -o wide", shell_quoted(&case.control_namespace)));
    let outcome = if (case.presented && !let_in) || stale { Outcome::fail(told) } else { Outcome::warn(told) };
    outcome.hint(format!("set the clock of the gateway's node right: {nodes}"))
}

pub fn gateway_answer(case: &Case) -> Outcome {
    let Some(probe) = &case.probe else {
        return Outcome::skip("it was not asked");
    };
    let namespace = shell_quoted(&case.control_namespace);
    let log = case.control(&format!("kubectl -n {namespace} logs service/{GATEWAY_SERVICE} --tail=100"));
    let answer = match probe {
        _ if !case.presented => {
            return Outcome::skip("there is no certificate to ask with: --build-context, or --cert and --key");
        }
        Ok(reply) => &reply.answer,
        Err(error) => return Outcome::fail(error.to_string()).hint(log),
    };
    let failed = |hint: String| Outcome::fail(answer.to_string()).hint(hint);
    match answer {
        Answer::Authorized => Outcome::pass(answer.to_string()),
        Answer::NoPlane => {
            failed(format!("is it another control plane's gateway, or can't it read the CA? Its log tells: {log}"))
        }
        Answer::NotTrusted => failed(format!("is it another control plane's gateway? Its log tells: {log}")),
        Answer::NoCertificate => {
            failed("something on the way terminates TLS: let it pass TLS through (TLSRoute, TCP)".into())
        }
        Answer::OtherRelease(_) => {
            failed("install the chart of the control plane's release in the build cluster".into())
        }
        Answer::Blind(_) => failed(log),
        Answer::Other { .. } => failed(format!("does the URL lead to the cluster gateway? {log}")),
    }
}

pub fn controller(case: &Case) -> Outcome {
    let facts = &case.facts;
    let (down, lease) = match &case.lease {
        Ok(Some(renewed)) => {
            let old = facts.now.duration_since(*renewed).as_secs() > LEASE_AGE;
            (old, format!("the controller last renewed its lease {} ago", age(*renewed, facts.now)))
        }
        Ok(None) => (false, "there is no lease of the controller".into()),
        Err(problem) => (false, format!("of the controller's lease nothing is known: {}", problem.text)),
    };
    let namespace = shell_quoted(&case.control_namespace);
    let look = case.control(&format!("kubectl -n {namespace} get pods"));
    let answers = matches!(case.probe, Some(Ok(_)));
    match facts.plane.state(facts.now) {
        State::Stale if down => Outcome::fail(format!("the last report is old, and {lease}: it is down")).hint(look),
        State::Stale if answers => {
            let told = "the gateway answers, so the controller doesn't report";
            Outcome::fail(format!("the last report is old; {told}; {lease}")).hint(look)
        }
        State::Stale => Outcome::fail(format!("the last report is old; {lease}: is the gateway down?")).hint(look),
        State::Unreported if case.is_new() => Outcome::pass("no report yet: the first one takes about a minute"),
        State::Unreported => {
            let held = facts.plane.metadata.finalizers.iter().flatten().any(|one| one == CLUSTER_BUILD_PLANE.finalizer);
            let why = if held {
                "the controller can't reach the gateway, or the gateway can't parse the CA"
            } else {
                "no controller looks after this plane"
            };
            Outcome::fail(format!("there is no report: {why}; {lease}")).hint(look)
        }
        _ if down => Outcome::warn(lease).hint(look),
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
            None => outcome.hint(case.rotate(&format!("choreoctl doctor {}", shell_quoted(facts.plane.name())))),
            Some(_) => outcome,
        }
    };
    match facts.plane.state(facts.now) {
        State::Connected if facts.plane.name() == DEFAULT_PLANE => Outcome::pass(format!("{agents} connected")),
        State::Connected => Outcome::pass(format!("{agents} connected; builds reach it by its name only")),
        State::Late => Outcome::warn("the heartbeat is late"),
        State::Unreported => Outcome::skip("there is no report yet"),
        State::Disconnected => failed("no agent is connected, though one was"),
        _ => failed("no agent ever got in"),
    }
}

pub fn agent_authorized(case: &Case) -> Outcome {
    match case.counted {
        _ if case.facts.plane.state(case.facts.now) != State::Connected => Outcome::skip("none is connected"),
        None => Outcome::skip("the gateway doesn't tell"),
        Some(counted) if counted.connected_agents > 0 => {
            Outcome::pass(format!("the gateway counts {} for this plane", counted.connected_agents))
        }
        Some(_) if case.facts.shares_plane_id_with.as_ref().is_ok_and(Vec::is_empty) => {
            Outcome::fail("no agent is connected that this plane lets in, though the status says so").hint(case.rotate(
                &format!("choreoctl certs verify --cert agent --plane {}", shell_quoted(case.facts.plane.name())),
            ))
        }
        Some(_) => {
            let shared = case.facts.shares_plane_id_with.as_deref().unwrap_or_default();
            let names: Vec<_> = shared.iter().map(|name| visible(name)).collect();
            let others = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            let name = shell_quoted(case.facts.plane.name());
            let hint = case.rotate(&format!("choreoctl certs verify --cert agent --plane {name}"));
            Outcome::fail(format!(
                "the agents that are connected are let in by other planes of the planeID{others} only"
            ))
            .hint(hint)
        }
    }
}

impl Case {
    /// The command that restarts the gateway.
    fn restart_gateway(&self) -> String {
        let namespace = shell_quoted(&self.control_namespace);
        let pods = self.gateway_pods.as_ref().ok().and_then(Option::as_ref);
        self.control(&match pods {
            Some(pods) => format!("kubectl -n {namespace} delete pods -l {}", shell_quoted(&pods.selector)),
            None => format!("kubectl -n {namespace} get pods"),
        })
    }
}
