//! The checks of a diagnosis, in the order of cause: a table over what is known of one plane.

mod agent;
mod commands;
mod gateway;
mod outcome;
mod plane;

use std::collections::BTreeSet;

use super::case::Case;
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

/// One of the checks.
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
}

use Run::Plane;

impl Check {
    /// Whether it is about no plane, but about what all of them stand on.
    pub fn is_of_ground(&self) -> bool {
        matches!(self.run, Run::Ground(_))
    }

    /// Where it looks, by its id.
    pub fn group(&self) -> Group {
        match self.id {
            "controller" | "connected" | "agent-authorized" => Group::Connection,
            id if id.starts_with("gateway-") => Group::Gateway,
            id if id.starts_with("agent-") => Group::Agent,
            _ => Group::ControlPlane,
        }
    }
}

/// A check and what it said.
pub struct Checked {
    pub check: &'static Check,
    pub outcome: Outcome,
}

impl Checked {
    /// Whether it is worth a word of its own.
    pub fn is_problem(&self) -> bool {
        matches!(self.outcome.status, Status::Warn | Status::Fail)
    }
}

/// All checks, in the order of cause.
pub static CHECKS: &[Check] = &[
    Check {
        id: "api-server",
        needs: &[],
        about: "the control plane's API server answers",
        why: "Nothing of the planes is known without it; the build cluster's side is told all the same.",
        run: Run::Ground(plane::api_server),
    },
    Check {
        id: "crd",
        needs: &["api-server"],
        about: "the control plane serves ClusterBuildPlane",
        why: "Helm never upgrades a CRD, so the one that is served may be of another release than the gateway; OpenChoreo 1.0 renamed the kind.",
        run: Run::Ground(plane::crd),
    },
    Check {
        id: "rights",
        needs: &["api-server"],
        about: "all that is looked at may be read",
        why: "What may not be read is never taken for healthy.",
        run: Run::Ground(plane::rights),
    },
    Check {
        id: "plane-exists",
        needs: &["api-server", "crd"],
        about: "the plane can be read",
        why: "Without the control plane only the build cluster's side is looked at.",
        run: Plane(plane::plane_exists),
    },
    Check {
        id: "deletion",
        needs: &["plane-exists"],
        about: "the plane is not being deleted",
        why: "A plane that is being deleted waits for the controller, which waits for the gateway; with either of them down it hangs.",
        run: Plane(plane::deletion),
    },
    Check {
        id: "client-ca-readable",
        needs: &["plane-exists"],
        about: "the CA that the plane names can be read",
        why: "The gateway skips a plane whose CA it can't read: no value and no Secret, or a Secret, key or namespace that isn't there.",
        run: Plane(plane::client_ca_readable),
    },
    Check {
        id: "client-ca-usable",
        needs: &["client-ca-readable"],
        about: "the CA lets in any agent at all now",
        why: "The gateway reads raw PEM only, and takes no certificate that has expired, isn't valid yet, or isn't for client authentication.",
        run: Plane(plane::client_ca_usable),
    },
    Check {
        id: "spec-valid",
        needs: &["client-ca-readable", "client-ca-usable"],
        about: "the plane is valid by the rules of `choreoctl validate`",
        why: "The API server accepts planes through which no agent can connect.",
        run: Plane(plane::spec_valid),
    },
    Check {
        id: "ca-outlives",
        needs: &["client-ca-usable"],
        about: "the CA doesn't end soon, nor a certificate that it pins",
        why: "A pinned certificate is refused once cert-manager has renewed the agent's and the agent restarts.",
        run: Plane(plane::ca_outlives),
    },
    Check {
        id: "plane-id-shared",
        needs: &["client-ca-readable"],
        about: "the planes of one planeID let in the same agents",
        why: "Status counts the agents of the planeID, not of the plane: one can say connected although no agent is authorized for it.",
        run: Plane(plane::plane_id_shared),
    },
    Check {
        id: "ca-shared",
        needs: &["client-ca-readable"],
        about: "no plane of another planeID has the same CA",
        why: "With one CA for several planes each one's agent can pass as the other's.",
        run: Plane(plane::ca_shared),
    },
    Check {
        id: "rotation",
        needs: &["plane-exists"],
        about: "no rotation of the CA is unfinished",
        why: "Between its stages the plane trusts the old CA and the new one. `choreoctl certs rotate` marks the plane with the annotation choreoctl.dev/rotation and keeps what it made in a Secret of the agent's namespace; run again it continues, and with --rollback it goes back.",
        run: Plane(plane::rotation),
    },
    Check {
        id: "observability-plane",
        needs: &["plane-exists"],
        about: "the observability plane exists",
        why: "A missing one shows nowhere in the status; requests for logs and metrics of builds fail later.",
        run: Plane(plane::observability_plane),
    },
    Check {
        id: "agent-exists",
        needs: &[],
        about: "the build cluster has an agent",
        why: "The chart makes it a Deployment with the labels app=cluster-agent and app.kubernetes.io/component=cluster-agent.",
        run: Plane(agent::agent_exists),
    },
    Check {
        id: "agent-plane-id",
        needs: &["plane-exists", "agent-exists"],
        about: "the agent runs as the plane's planeID",
        why: "Helm's clusterAgent accepts unknown keys: with planeId instead of planeID the agent runs as `default`.",
        run: Plane(agent::agent_plane_id),
    },
    Check {
        id: "agent-plane-type",
        needs: &["agent-exists"],
        about: "the agent's plane type is that of the release",
        why: "From OpenChoreo 1.0 on it is workflowplane: agent and gateway must be of the same release.",
        run: Plane(agent::agent_plane_type),
    },
    Check {
        id: "agent-tls",
        needs: &["agent-exists"],
        about: "the agent presents a certificate",
        why: "With clusterAgent.tls.enabled false it presents none, and the gateway refuses it.",
        run: Plane(agent::agent_tls),
    },
    Check {
        id: "agent-server-url",
        needs: &["agent-exists"],
        about: "the agent's server URL is wss://HOST:PORT/ws",
        why: "Without /ws the gateway answers 404, which the agent logs as a bad handshake; https:// is a malformed URL to it.",
        run: Plane(agent::agent_server_url),
    },
    Check {
        id: "agent-replicas",
        needs: &["agent-exists"],
        about: "the agent is not scaled to zero",
        why: "Each replica holds a connection of its own.",
        run: Plane(agent::agent_replicas),
    },
    Check {
        id: "agent-certificate-issued",
        needs: &["agent-exists"],
        about: "cert-manager has issued the agent's certificate",
        why: "Without it the agent's Secret is missing, or holds a certificate that expires: the conditions of the Certificate and its Issuer name the reason.",
        run: Plane(agent::agent_certificate_issued),
    },
    Check {
        id: "agent-certificate",
        needs: &["agent-exists", "agent-certificate-issued"],
        about: "the agent's Secret holds a certificate and the key that belongs to it",
        why: "Without the Secret the pod hangs in ContainerCreating; with a key that doesn't fit it crashes.",
        run: Plane(agent::agent_certificate),
    },
    Check {
        id: "agent-trusted",
        needs: &["client-ca-usable", "agent-certificate"],
        about: "the plane authorizes the agent's certificate",
        why: "The gateway verifies it against the plane's CA alone, by Go's rules; neither its name nor the planeID count.",
        run: Plane(agent::agent_trusted),
    },
    Check {
        id: "agent-server-ca",
        needs: &["agent-exists"],
        about: "the agent verifies the gateway against the gateway's CA",
        why: "The ConfigMap of that name in the control plane is a placeholder; the CA is in the Secret.",
        run: Plane(agent::agent_server_ca),
    },
    Check {
        id: "agent-running",
        needs: &["agent-exists", "agent-certificate", "agent-server-ca", "agent-replicas"],
        about: "the agent's pods run",
        why: "A missing Secret or ConfigMap holds them in ContainerCreating; a pair that doesn't fit makes them crash.",
        run: Plane(agent::agent_running),
    },
    Check {
        id: "agent-current",
        needs: &["agent-certificate", "agent-running"],
        about: "the running agent presents what its Secret holds",
        why: "It reads its certificate once, at its start: after a renewal it goes on with the old one until it is restarted.",
        run: Plane(agent::agent_current),
    },
    Check {
        id: "gateway-running",
        needs: &[],
        about: "one pod of the gateway runs",
        why: "Without one no agent gets in, and reports and deletions stop; with several an agent is connected to one of them only, and requests through the others fail with 502 `no agents found for plane`.",
        run: Plane(gateway::gateway_running),
    },
    Check {
        id: "gateway-reachable",
        needs: &["agent-server-url", "agent-server-ca"],
        about: "the gateway answers, with a certificate that is valid for its name",
        why: "Its names come from clusterGateway.tls.dnsNames alone, and it reads its certificate once, at its start.",
        run: Plane(gateway::gateway_reachable),
    },
    Check {
        id: "gateway-clock",
        needs: &["gateway-reachable"],
        about: "the gateway's clock is the API server's",
        why: "It judges certificates and dates heartbeats by its own clock.",
        run: Plane(gateway::gateway_clock),
    },
    Check {
        id: "gateway-answer",
        needs: &["gateway-reachable", "agent-trusted"],
        about: "the gateway authorizes the agent's certificate",
        why: "Asked as an agent asks, without becoming one.",
        run: Plane(gateway::gateway_answer),
    },
    Check {
        id: "controller",
        needs: &["deletion", "gateway-running"],
        about: "the controller reports on the plane",
        why: "Where it or the gateway is down the last report stays for ever; its lease and the gateway's pods tell which.",
        run: Plane(gateway::controller),
    },
    Check {
        id: "connected",
        needs: &["deletion", "controller"],
        about: "an agent is connected",
        why: "The controller tells of it once a minute. Builds that name no plane use the BuildPlane `default` of their namespace, then the ClusterBuildPlane `default`: any other has to be named.",
        run: Plane(gateway::connected),
    },
    Check {
        id: "agent-authorized",
        needs: &["connected", "gateway-reachable"],
        about: "an agent is connected that this very plane lets in",
        why: "The status counts the agents of the planeID: a plane whose CA trusts none of them says connected, too, and its builds get 403.",
        run: Plane(gateway::agent_authorized),
    },
];

/// Every check, of a plane or of the ground alone; what follows from one that failed is skipped.
pub fn checks(ground: &Ground, case: Option<&Case>) -> Vec<Checked> {
    let mut done: Vec<Checked> = Vec::new();
    for check in CHECKS {
        let missing =
            check.needs.iter().find(|need| done.iter().any(|one| one.check.id == **need && one.outcome.blocks));
        let outcome = match (missing, &check.run, case) {
            (Some(need), ..) => Outcome::depends_on(need),
            (None, Run::Ground(run), _) => run(ground),
            (None, Run::Plane(run), Some(case)) => run(case),
            (None, Run::Plane(_), None) => continue,
        };
        done.push(Checked { check, outcome });
    }
    done
}

/// The check that names the cause: the first in their order that failed.
pub fn root_cause(checked: &[Checked]) -> Option<&Checked> {
    checked.iter().find(|one| one.outcome.status == Status::Fail)
}

/// The checks that warn.
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
