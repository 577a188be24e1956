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
            id if id.starts_with("gateway-") => Group::Gateway,
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
        "Without the API server nothing is known about the planes; the objects in the plane's cluster are checked anyway.";
    "crd" needs ["api-server"], Ground(plane::crd), "the control plane serves the kinds of the planes",
        "Helm never upgrades CRDs, so the served CRD and the gateway can be of different releases; OpenChoreo 1.0 renamed the build kinds.";
    "rights" needs ["api-server"], Ground(plane::rights), "choreoctl may read all objects that the checks need",
        "An object that choreoctl has no permission to read is never reported as healthy.";
    "plane-exists" needs ["api-server", "crd"], Plane(plane::plane_exists), "the plane can be read",
        "Without the plane only the plane's cluster is checked.";
    "deletion" needs ["plane-exists"], Plane(plane::deletion), "the plane is not being deleted",
        "The controller removes the plane's finalizer after the gateway has answered; while one of them is down, the deletion hangs.";
    "client-ca-readable" needs ["plane-exists"], Plane(plane::client_ca_readable), "the plane's CA can be read",
        "The gateway skips a plane whose CA it can't read: clientCA has neither value nor Secret, or the Secret, its key or its namespace does not exist.";
    "client-ca-usable" needs ["client-ca-readable"], Plane(plane::client_ca_usable), "the CA can verify client certificates now",
        "The gateway reads raw PEM only, and rejects a CA certificate that has expired, is not yet valid, or does not allow client authentication.";
    "spec-valid" needs ["client-ca-readable", "client-ca-usable"], Plane(plane::spec_valid), "the plane is valid by the rules of `choreoctl validate`",
        "The API server also accepts planes for which no agent can connect.";
    "ca-outlives" needs ["client-ca-usable"], Plane(plane::ca_outlives), "the CA (or a pinned certificate) stays valid for longer than --expires-within",
        "If the plane pins the agent's certificate, the gateway refuses the agent at its next restart after cert-manager has renewed it.";
    "plane-id-shared" needs ["client-ca-readable"], Plane(plane::plane_id_shared), "all planes with the same planeID authorize the same agents",
        "The status counts all agents with the planeID: a plane can be reported as connected although it authorizes none of them.";
    "ca-shared" needs ["client-ca-readable"], Plane(plane::ca_shared), "no plane with another planeID trusts the same CA",
        "If planes with different planeIDs trust one CA, the agent of one can connect as the agent of the other.";
    "rotation" needs ["plane-exists"], Plane(plane::rotation), "no rotation of the CA is unfinished",
        "During a rotation the plane trusts the old and the new CA. `choreoctl certs rotate` sets the annotation choreoctl.dev/rotation on the plane, and stores the new CA and certificate in a Secret in the agent's namespace; run it again to continue, or with --rollback to undo the rotation.";
    "observability-plane" needs ["plane-exists"], Plane(plane::observability_plane), "the observability plane to which the plane refers exists",
        "The status does not report a missing observability plane; requests for logs and metrics fail.";
    "plane-type-known" needs ["plane-exists"], Plane(plane::plane_type_known), "the gateway supports the plane's type",
        "OpenChoreo 1.0 renamed build planes to workflow planes: a gateway supports one of the two plane types and refuses agents of the other, and the controller reconciles only the kinds of its own release. The API server can serve the CRDs of both. A build plane and a workflow plane with the same planeID are one plane during a migration: a warning reports which of them is used.";
    "agent-exists" needs [], Plane(agent::agent_exists), "the plane's cluster has an agent with the planeID",
        "The chart creates the agent as a Deployment with the labels app=cluster-agent and app.kubernetes.io/component=cluster-agent.";
    "agent-plane-id" needs ["plane-exists", "agent-exists"], Agent(agent::agent_plane_id), "the agent runs with the plane's planeID",
        "The Helm chart ignores unknown keys in clusterAgent: with planeId instead of planeID, the agent runs with the planeID `default`.";
    "agent-plane-type" needs ["plane-type-known", "agent-exists"], Agent(agent::agent_plane_type), "the agent uses the plane type that the gateway supports",
        "The plane type of build agents is buildplane up to v0.17 and workflowplane from v1.0 on: agent and gateway must be of the same release.";
    "agent-tls" needs ["agent-exists"], Agent(agent::agent_tls), "the agent presents a certificate",
        "With clusterAgent.tls.enabled: false the agent presents no client certificate, and the gateway refuses it.";
    "agent-server-url" needs ["agent-exists"], Agent(agent::agent_server_url), "the agent's server URL is wss://HOST:PORT/ws",
        "Without /ws the gateway answers 404, which the agent logs as `bad handshake`; with https:// the agent logs `malformed ws or wss URL`.";
    "agent-replicas" needs ["agent-exists"], Agent(agent::agent_replicas), "the agent is not scaled to zero",
        "With zero replicas no agent runs; each replica has its own connection to the gateway.";
    "agent-certificate-issued" needs ["agent-exists"], Agent(agent::agent_certificate_issued), "cert-manager has issued the agent's certificate",
        "Until cert-manager has issued it, the agent's Secret is missing or holds an old certificate: the conditions of the Certificate and its Issuer show why.";
    "agent-certificate" needs ["agent-exists", "agent-certificate-issued"], Agent(agent::agent_certificate), "the agent's Secret holds a certificate and its private key",
        "Without the Secret, the agent's pod stays in ContainerCreating; if the key does not match the certificate, the agent crashes.";
    "agent-trusted" needs ["client-ca-usable", "agent-certificate"], Agent(agent::agent_trusted), "the plane authorizes the agent's certificate",
        "The gateway verifies the certificate against the plane's CA only, as Go's crypto/x509 does; its common name and the planeID are not compared.";
    "agent-server-ca" needs ["agent-exists"], Agent(agent::agent_server_ca), "the agent verifies the gateway against the gateway's CA",
        "The agent reads the gateway's CA from the ConfigMap cluster-gateway-ca in the plane's cluster. It must hold the CA from the Secret cluster-gateway-ca in the control plane; the control plane also has a ConfigMap of that name, which is only a placeholder.";
    "agent-running" needs ["agent-exists", "agent-certificate", "agent-server-ca", "agent-replicas"], Agent(agent::agent_running), "the agent's pods are running",
        "Pods stay in ContainerCreating while a Secret or ConfigMap is missing, and crash if the key does not match the certificate.";
    "agent-current" needs ["agent-certificate", "agent-running"], Agent(agent::agent_current), "the running agent presents the certificate in its Secret",
        "The agent reads its certificate only when it starts: after a renewal it presents the old certificate until it is restarted.";
    "gateway-running" needs [], Plane(gateway::gateway_running), "exactly one pod of the gateway is running",
        "Without a running pod no agent can connect, nothing is reported, and deletions hang. With several pods an agent is connected to only one of them, and requests through the others fail with 502 `no agents found for plane`.";
    "gateway-reachable" needs ["agent-server-url", "agent-server-ca"], Plane(gateway::gateway_reachable), "the gateway answers, with a certificate that is valid for its name",
        "The names in the gateway's certificate come only from clusterGateway.tls.dnsNames, and the gateway reads its certificate only when it starts.";
    "gateway-clock" needs ["gateway-reachable"], Plane(gateway::gateway_clock), "the clocks of the gateway and the API server agree",
        "The gateway verifies certificates and records heartbeats with its own clock.";
    "gateway-answer" needs ["plane-type-known", "gateway-reachable", "agent-trusted"], Plane(gateway::gateway_answer), "the gateway authorizes the agent's certificate",
        "choreoctl connects with the agent's certificate as an agent does, without being registered as one.";
    "gateway-api-exposed" needs [], Plane(gateway::gateway_api_exposed), "the gateway's API is not published without authentication",
        "Through this API, a client can send requests to the clusters of all agents. In v0.x, v1.0.0, v1.0.1, v1.1.0 and v1.1.1 the API is on the agents' port, so it is published with it. In v1.0.2 to v1.0.5 and v1.1.2 to v1.1.6 a Service of type LoadBalancer or NodePort publishes it on port 8444, by default without authentication. From v1.2.0 on the Service publishes only the agents' port.";
    "controller-certificate" needs ["plane-exists"], Plane(gateway::controller_certificate), "the controller presents its current certificate to the gateway",
        "From v1.2.0 on the controller presents to the gateway's API a client certificate that is valid for 90 days. cert-manager renews it, but the controller reads it only when it starts: after it has expired nothing is reported and deletions hang, while agents stay connected.";
    "controller" needs ["deletion", "plane-type-known", "gateway-running", "controller-certificate"], Plane(gateway::controller), "the controller reports on the plane",
        "While the controller or the gateway is down, the plane keeps its last report; the controller's lease and the gateway's pods show which of them is down. From v1.0 on the controller also reports nothing if it could not read the plane's CA when it first reconciled the plane. For a namespaced plane this also applies after each change of the plane.";
    "connected" needs ["deletion", "controller"], Plane(gateway::connected), "an agent is connected",
        "The controller updates the connection in the plane's status once a minute. A connected plane may still be unused: a build, workflow or environment that names no plane, and a plane that names no observability plane, use the one with the name `default`; any other plane must be referenced by name.";
    "agent-authorized" needs ["connected", "gateway-reachable"], Plane(gateway::agent_authorized), "an agent that this plane authorizes is connected",
        "The status of a cluster-scoped plane counts all agents with the planeID: the plane is reported as connected even if its CA verifies none of them, and then requests through the plane fail with 403. If the gateway's API can't be reached, the gateway's log shows which planes it authorized.";
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
