//! The checks of a diagnosis, in the order of cause: a table over what is known of one plane.

mod agent;
mod commands;
mod gateway;
mod outcome;
mod plane;

use std::collections::BTreeSet;

use super::case::{BuildCase, Case};
use super::ground::Ground;

pub use outcome::{Hint, Outcome, Status, Unchecked};

/// Where a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    ControlPlane,
    Agent,
    Gateway,
    Connection,
}

impl Group {
    pub fn title(self) -> &'static str {
        match self {
            Self::ControlPlane => "control plane",
            Self::Agent => "agent",
            Self::Gateway => "gateway",
            Self::Connection => "connection",
        }
    }
}

pub struct Check {
    pub id: &'static str,
    /// Those without which this one means nothing.
    pub needs: &'static [&'static str],
    pub about: &'static str,
    /// Why it matters, and what is usually behind it.
    pub why: &'static str,
    run: Run,
}

/// What a check looks at.
enum Run {
    Ground(fn(&Ground) -> Outcome),
    Plane(fn(&Case) -> Outcome),
    Agent(fn(&Case, &BuildCase) -> Outcome),
}

impl Check {
    /// Whether it is about no plane, but about what all of them stand on.
    pub fn is_of_ground(&self) -> bool {
        matches!(self.run, Run::Ground(_))
    }

    /// Where it looks, by its id.
    pub fn group(&self) -> Group {
        match self.id {
            "controller" | "controller-certificate" | "connected" | "agent-authorized" => Group::Connection,
            id if id == "plane-type-known" || id.starts_with("gateway-") => Group::Gateway,
            id if id.starts_with("agent-") => Group::Agent,
            _ => Group::ControlPlane,
        }
    }
}

pub struct Checked {
    pub check: &'static Check,
    pub outcome: Outcome,
}

impl Checked {
    /// Whether the verdict on a plane depends on it.
    pub fn counts(&self) -> bool {
        self.is_problem() || self.outcome.unknown || self.outcome.unchecked.is_some()
    }

    /// Whether it is worth a word of its own.
    pub fn is_problem(&self) -> bool {
        matches!(self.outcome.status, Status::Warn | Status::Fail)
    }
}

/// Rows of an id, what it needs, how it looks, what it is about, and why it matters.
macro_rules! checks {
    ($($id:literal needs [$($need:literal),*], $run:ident($check:path), $about:literal, $why:literal;)*) => {
        &[$(Check { id: $id, needs: &[$($need),*], about: $about, why: $why, run: Run::$run($check) }),*]
    };
}

/// All checks, in the order of cause.
pub static CHECKS: &[Check] = checks![
    "api-server" needs [], Ground(plane::api_server), "the control plane's API server answers",
        "Nothing of the planes is known without it; what is in the agents' cluster is reported anyway.";
    "crd" needs ["api-server"], Ground(plane::crd), "the control plane serves the kinds of the planes",
        "Helm never upgrades a CRD, so the one that is served may be of another release than the gateway; OpenChoreo 1.0 renamed the kind.";
    "rights" needs ["api-server"], Ground(plane::rights), "all that is looked at may be read",
        "What may not be read is never taken for healthy.";
    "plane-exists" needs ["api-server", "crd"], Plane(plane::plane_exists), "the plane can be read",
        "Without the control plane only the agents' cluster is looked at.";
    "deletion" needs ["plane-exists"], Plane(plane::deletion), "the plane is not being deleted",
        "A plane that is being deleted waits for the controller, which waits for the gateway; with either of them down it hangs.";
    "client-ca-readable" needs ["plane-exists"], Plane(plane::client_ca_readable), "the CA that the plane names can be read",
        "The gateway skips a plane whose CA it can't read: no value and no Secret, or a Secret, key or namespace that isn't there.";
    "client-ca-usable" needs ["client-ca-readable"], Plane(plane::client_ca_usable), "the CA can verify client certificates now",
        "The gateway reads raw PEM only, and takes no certificate that has expired, isn't valid yet, or isn't for client authentication.";
    "spec-valid" needs ["client-ca-readable", "client-ca-usable"], Plane(plane::spec_valid), "the plane is valid by the rules of `choreoctl validate`",
        "The API server accepts planes through which no agent can connect.";
    "ca-outlives" needs ["client-ca-usable"], Plane(plane::ca_outlives), "the CA doesn't end soon, nor a certificate that it pins",
        "A pinned certificate is refused once cert-manager has renewed the agent's and the agent restarts.";
    "plane-id-shared" needs ["client-ca-readable"], Plane(plane::plane_id_shared), "all planes with the planeID authorize the same agents",
        "Status counts the agents of the planeID, not of the plane: one can say connected although no agent is authorized for it.";
    "ca-shared" needs ["client-ca-readable"], Plane(plane::ca_shared), "no plane of another planeID has the same CA",
        "With one CA for several planes each one's agent can pass as the other's.";
    "rotation" needs ["plane-exists"], Plane(plane::rotation), "no rotation of the CA is unfinished",
        "Between its stages the plane trusts the old CA and the new one. `choreoctl certs rotate` marks the plane with the annotation choreoctl.dev/rotation and keeps what it made in a Secret of the agent's namespace; run again it continues, and with --rollback it goes back.";
    "observability-plane" needs ["plane-exists"], Plane(plane::observability_plane), "the observability plane exists",
        "A missing one shows nowhere in the status; requests for logs and metrics fail later.";
    "plane-type-known" needs ["plane-exists"], Plane(plane::plane_type_known), "the gateway knows the plane's type",
        "OpenChoreo 1.0 renamed build planes to workflow planes: a gateway knows one of the two types and refuses agents of the other, and its controller looks after the kinds of its own release only. CRDs of both may be served. A build plane and a workflow plane of the same planeID are one plane in migration: only a warning says which of them is used.";
    "agent-exists" needs [], Plane(agent::agent_exists), "the plane's cluster has an agent of the planeID",
        "The chart makes it a Deployment with the labels app=cluster-agent and app.kubernetes.io/component=cluster-agent.";
    "agent-plane-id" needs ["plane-exists", "agent-exists"], Agent(agent::agent_plane_id), "the agent runs as the plane's planeID",
        "Helm's clusterAgent accepts unknown keys: with planeId instead of planeID the agent runs as `default`.";
    "agent-plane-type" needs ["plane-type-known", "agent-exists"], Agent(agent::agent_plane_type), "the agent's plane type is that of the release",
        "From OpenChoreo 1.0 on it is workflowplane: agent and gateway must be of the same release.";
    "agent-tls" needs ["agent-exists"], Agent(agent::agent_tls), "the agent presents a certificate",
        "With clusterAgent.tls.enabled false it presents none, and the gateway refuses it.";
    "agent-server-url" needs ["agent-exists"], Agent(agent::agent_server_url), "the agent's server URL is wss://HOST:PORT/ws",
        "Without /ws the gateway answers 404, which the agent logs as a bad handshake; https:// is a malformed URL to it.";
    "agent-replicas" needs ["agent-exists"], Agent(agent::agent_replicas), "the agent is not scaled to zero",
        "Each replica holds a connection of its own.";
    "agent-certificate-issued" needs ["agent-exists"], Agent(agent::agent_certificate_issued), "cert-manager has issued the agent's certificate",
        "Without it the agent's Secret is missing, or holds a certificate that expires: the conditions of the Certificate and its Issuer name the reason.";
    "agent-certificate" needs ["agent-exists", "agent-certificate-issued"], Agent(agent::agent_certificate), "the agent's Secret holds a certificate and the key that belongs to it",
        "Without the Secret the pod hangs in ContainerCreating; with a key that doesn't fit it crashes.";
    "agent-trusted" needs ["client-ca-usable", "agent-certificate"], Agent(agent::agent_trusted), "the plane authorizes the agent's certificate",
        "The gateway verifies it against the plane's CA alone, by Go's rules; neither its name nor the planeID count.";
    "agent-server-ca" needs ["agent-exists"], Agent(agent::agent_server_ca), "the agent verifies the gateway against the gateway's CA",
        "The ConfigMap of that name in the control plane is a placeholder; the CA is in the Secret.";
    "agent-running" needs ["agent-exists", "agent-certificate", "agent-server-ca", "agent-replicas"], Agent(agent::agent_running), "the agent's pods run",
        "A missing Secret or ConfigMap holds them in ContainerCreating; a pair that doesn't fit makes them crash.";
    "agent-current" needs ["agent-certificate", "agent-running"], Agent(agent::agent_current), "the running agent presents what its Secret holds",
        "It reads its certificate once, at its start: after a renewal it goes on with the old one until it is restarted.";
    "gateway-running" needs [], Plane(gateway::gateway_running), "one pod of the gateway runs",
        "Without one no agent gets in, and reports and deletions stop; with several an agent is connected to one of them only, and requests through the others fail with 502 `no agents found for plane`.";
    "gateway-reachable" needs ["agent-server-url", "agent-server-ca"], Plane(gateway::gateway_reachable), "the gateway answers, with a certificate that is valid for its name",
        "Its names come from clusterGateway.tls.dnsNames alone, and it reads its certificate once, at its start.";
    "gateway-clock" needs ["gateway-reachable"], Plane(gateway::gateway_clock), "the gateway's clock is the API server's",
        "It judges certificates and dates heartbeats by its own clock.";
    "gateway-answer" needs ["plane-type-known", "gateway-reachable", "agent-trusted"], Plane(gateway::gateway_answer), "the gateway authorizes the agent's certificate",
        "Asked as an agent asks, without becoming one.";
    "gateway-api-exposed" needs [], Plane(gateway::gateway_api_exposed), "the gateway's API is not published without authentication",
        "By it requests are sent through the agents into their clusters. Up to v1.0.1 and v1.1.1 it is at the agents' port; v1.0.2 to v1.0.5 and v1.1.2 to v1.1.6 publish its own port, 8444, with a Service of type LoadBalancer or NodePort, and authenticate nobody by default; from v1.2.0 on that Service has the agents' port only.";
    "controller-certificate" needs ["plane-exists"], Plane(gateway::controller_certificate), "the controller presents its current certificate to the gateway",
        "From v1.2.0 on the controller presents a client certificate of 90 days to the gateway's API. cert-manager renews it, and the controller reads it once, when it starts: after its end nothing is reported and deletions hang, while agents stay connected.";
    "controller" needs ["deletion", "plane-type-known", "gateway-running", "controller-certificate"], Plane(gateway::controller), "the controller reports on the plane",
        "Where it or the gateway is down the last report stays for ever; its lease and the gateway's pods tell which. From v1.0 on it reports nothing, either, on a plane whose CA can't be read when it first looks at it, or takes over a change of a namespaced one.";
    "connected" needs ["deletion", "controller"], Plane(gateway::connected), "an agent is connected",
        "The controller reports it once a minute. What names no plane uses the one named `default`, of its namespace or of the cluster: any other has to be named.";
    "agent-authorized" needs ["connected", "gateway-reachable"], Plane(gateway::agent_authorized), "an agent that this plane authorizes is connected",
        "The status of a cluster-scoped plane counts the agents of the planeID: one whose CA trusts none of them says connected, too, and its requests get 403. Where the gateway's API can't be asked, its log says whom it authorized.";
];

/// Whether a check says nothing of a plane as long as its counterpart is used instead: of one that was replaced nothing
/// matters any more but its deletion, and of one that takes effect later there is no agent yet.
fn has_to_wait(check: &Check, case: &Case) -> bool {
    let is_of_plane = match check.id {
        "plane-exists" | "deletion" | "plane-type-known" => true,
        _ => !case.is_replaced() && check.group() == Group::ControlPlane,
    };
    case.used_instead().is_some() && !check.is_of_ground() && !is_of_plane
}

/// Every check, of a plane or of the ground alone; what follows from one that failed is skipped.
pub fn checks(ground: &Ground, case: Option<&Case>) -> Vec<Checked> {
    let mut done: Vec<Checked> = Vec::new();
    for check in CHECKS {
        let missing =
            check.needs.iter().find(|need| done.iter().any(|one| one.check.id == **need && one.outcome.blocks));
        let outcome = match (missing, &check.run, case) {
            (_, _, Some(case)) if has_to_wait(check, case) => Outcome::depends_on("plane-type-known"),
            (Some(need), ..) => Outcome::depends_on(need),
            (None, Run::Ground(run), _) => run(ground),
            (None, Run::Plane(run), Some(case)) => run(case),
            (None, Run::Agent(run), Some(case)) => agent::build(case).map_or_else(|why| why, |build| run(case, build)),
            (None, Run::Plane(_) | Run::Agent(_), None) => continue,
        };
        done.push(Checked { check, outcome });
    }
    done
}

/// The check that names the cause: the first in their order that failed.
pub fn root_cause(checked: &[Checked]) -> Option<&Checked> {
    checked.iter().find(|one| one.outcome.status == Status::Fail)
}

pub fn warnings(checked: &[Checked]) -> impl Iterator<Item = &Checked> {
    checked.iter().filter(|one| one.outcome.status == Status::Warn)
}

/// What was not looked at, although it could be wrong: the reasons, each once.
pub fn unchecked(checked: &[Checked]) -> BTreeSet<Unchecked> {
    checked.iter().filter_map(|one| one.outcome.unchecked).collect()
}

/// Whether nothing failed, and all that was looked for could be read.
pub fn is_healthy(checked: &[Checked]) -> bool {
    root_cause(checked).is_none() && !checked.iter().any(|one| one.outcome.unknown)
}
