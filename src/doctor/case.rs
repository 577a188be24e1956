//! What a diagnosis knows of one plane.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{AUTHORIZED, AgentPod, Target};
use crate::estate::{
    AgentFacts, Controller, DeployedGateway, Facts, Few, GatewayLog, Pair, Remover, Running, ServerCa, Unavailable,
};
use crate::gateway::{Counted, GatewayUrl, PlaneTypes, ProbeError, Reply};
use crate::pki::{Certificate, Remaining, Verdict};
use crate::plane::{Kind, NamespacedName, PlaneKey, Release};

pub struct Case {
    /// Whether the plane itself could be read.
    pub plane: Result<(), Unavailable>,
    pub facts: Facts,
    /// Planes of the same planeID whose CA authorizes other agents.
    pub rivals: Few,
    /// What is in the plane's cluster; none where none was named.
    pub build: Option<Result<Arc<BuildCase>, Unavailable>>,
    /// Agents of the planeID in other namespaces there.
    pub elsewhere: Result<Vec<NamespacedName>, Unavailable>,
    /// Whether the Secret of an unfinished rotation is there; none where it was not looked for.
    pub staged: Option<Result<bool, Unavailable>>,
    pub gateway: Heard,
    pub shared: Arc<Shared>,
}

/// What is the same for all planes.
pub struct Shared {
    /// Whether all was read from files.
    pub is_of_files: bool,
    pub gateway_ca: Result<String, Unavailable>,
    /// When the controller last renewed its lease; none where there is no lease.
    pub lease: Result<Option<Timestamp>, Unavailable>,
    /// The Deployments of the gateway and of the controller, where one of them does not run because it is scaled to zero.
    pub idle_gateway: Option<String>,
    pub idle_controller: Option<String>,
    /// The release of the controller; looked for where a plane is being deleted or has a counterpart.
    pub running: Option<Release>,
    /// The controller, where it presents a certificate to the gateway.
    pub controller: Result<Option<Controller>, Unavailable>,
    /// The gateway's Services and pods; none where it has no Service here.
    pub deployed: Result<Option<DeployedGateway>, Unavailable>,
    /// The connections in the gateway's logs; read where the status does not count a plane's own agents.
    pub gateway_log: Result<GatewayLog, Unavailable>,
    /// Whether an agent, of whatever planeID, was found in the plane's cluster at all.
    pub has_agents: bool,
    /// Whether that cluster is the control plane's own.
    pub is_one_cluster: bool,
    /// Whether the planes were asked for by their names.
    pub is_named: bool,
    pub soon: Remaining,
    /// Where it was looked, for hints.
    pub control: Target,
    pub control_namespace: String,
    pub build_target: Option<Target>,
    /// The agents' namespace, where one was named.
    pub build_namespace: Option<String>,
}

/// How old the controller's lease may be, in seconds.
pub(super) const LEASE_AGE: i64 = 120;

impl Shared {
    /// Whether the controller has not renewed its lease for long: it does not run.
    pub fn is_lease_old(&self, now: Timestamp) -> bool {
        is_lease_old(&self.lease, now)
    }
}

/// Whether a lease was not renewed for long.
pub fn is_lease_old(lease: &Result<Option<Timestamp>, Unavailable>, now: Timestamp) -> bool {
    let renewed = lease.as_ref().ok().copied().flatten();
    renewed.is_some_and(|renewed| now.duration_since(renewed).as_secs() > LEASE_AGE)
}

/// What the gateway says.
#[derive(Default)]
pub struct Heard {
    pub url: Option<GatewayUrl>,
    /// Its answer to the agent's certificate; none where it was not asked.
    pub reply: Option<Result<Reply, Arc<ProbeError>>>,
    /// Whether a certificate was shown to it.
    pub presented: bool,
    /// The plane types that it knows; none where it lists none.
    pub types: Option<PlaneTypes>,
    /// The agents that it has for this plane, or why it does not report them; none where it was not asked.
    pub counted: Option<Result<Counted, String>>,
    /// Its own certificate.
    pub certificate: Option<Certificate>,
}

/// What a diagnosis knows of an agent in its cluster.
pub struct BuildCase {
    pub agent: AgentFacts,
    /// The CA that the agent verifies the gateway against.
    pub server_ca: Result<ServerCa, Unavailable>,
    /// The end of its pods' logs.
    pub log: Result<String, Unavailable>,
}

impl Case {
    /// The namespace in which the plane's agent is looked for.
    pub fn build_namespace(&self) -> &str {
        self.shared.build_namespace.as_deref().unwrap_or(self.facts.plane.kind.family.helm_release)
    }

    /// What is in the plane's cluster, where it is known.
    pub fn build(&self) -> Option<&BuildCase> {
        self.build.as_ref()?.as_deref().ok()
    }

    /// What the agent's Secret holds.
    pub fn pair(&self) -> Option<&Pair> {
        self.agent()?.pair.as_ref().ok()
    }

    pub fn agent(&self) -> Option<&AgentFacts> {
        self.build().map(|build| &build.agent)
    }

    /// The last line of the agent's log about its connection.
    pub fn last_word(&self) -> Option<LogLine<'_>> {
        let log = self.build()?.log.as_ref().ok()?;
        log.lines().rev().find_map(LogLine::of)
    }

    /// The last thing that the agent's log complains of, explained.
    pub fn log(&self) -> Option<String> {
        self.last_word()?.complaint()
    }

    /// The certificate that a pod of the agent presents; none where its agent doesn't run.
    pub fn running(&self, pod: &AgentPod) -> Option<Running<'_>> {
        self.agent()?.running(pod, self.pinned())
    }

    /// The certificates in the plane's CA, as far as they can be read.
    pub fn pinned(&self) -> &[Certificate] {
        self.facts.client_ca.certificates().unwrap_or_default()
    }

    /// When cert-manager renews a certificate that the plane pins: as it says itself, where it can be asked.
    pub fn renewal(&self, pinned: &Certificate) -> Timestamp {
        let issuance = self.agent().and_then(AgentFacts::issuance);
        let held = self.pair().is_some_and(|pair| pair.leaf().der == pinned.der);
        let renewal = issuance.and_then(|issuance| issuance.renewal).filter(|_| held);
        renewal.unwrap_or_else(|| pinned.chart_renewal())
    }

    /// Whether something that was asked for could not be read.
    pub fn is_unread(&self) -> bool {
        let ca = self.facts.client_ca.text().is_err_and(|problem| !problem.is_fault());
        let build = match &self.build {
            None => false,
            // A cluster without any agent may be the wrong one.
            Some(Err(problem)) => !problem.is_fault() || !self.shared.has_agents,
            Some(Ok(build)) => [build.agent.pair.as_ref().err(), build.agent.pods.as_ref().err()]
                .into_iter()
                .flatten()
                .any(|problem| !problem.is_fault()),
        };
        self.plane.is_err() || ca || build
    }

    /// The gateway in the control plane's cluster.
    pub fn deployed(&self) -> Option<&DeployedGateway> {
        self.shared.deployed.as_ref().ok()?.as_ref()
    }

    /// The release of the gateway: by the plane types that it knows, otherwise by its chart's label.
    pub fn release(&self) -> Option<Release> {
        let reported = self.gateway.types.as_ref().map(PlaneTypes::release);
        reported.unwrap_or_else(|| self.deployed()?.release)
    }

    /// Whether the gateway knows the type of a kind of planes; none where its release is unknown.
    pub fn knows(&self, kind: &Kind) -> Option<bool> {
        match &self.gateway.types {
            Some(types) => Some(types.knows(kind.family.plane_type)),
            None => self.release().or(self.shared.running).map(|release| kind.family.releases.contains(&release)),
        }
    }

    /// The counterpart that the control plane uses instead of this plane, which is of another release.
    pub fn used_instead(&self) -> Option<&PlaneKey> {
        let is_used = |other: &&PlaneKey| self.knows(other.kind) == Some(true);
        self.facts.counterpart.as_ref().filter(is_used).filter(|_| self.knows(self.facts.plane.kind) == Some(false))
    }

    /// Whether another plane has taken its place for good.
    pub fn is_replaced(&self) -> bool {
        self.used_instead().is_some() && self.facts.plane.kind.successor().is_some()
    }

    /// The plane of v0.17 whose place this plane takes.
    pub fn predecessor(&self) -> Option<&PlaneKey> {
        self.facts.counterpart.as_ref().filter(|other| other.kind.successor().is_some())
    }

    /// Who removes the plane's finalizer: by the release of the controller, else of the gateway, else by what the cluster
    /// serves.
    pub fn remover(&self) -> Remover {
        match self.shared.running.or_else(|| self.release()) {
            Some(release) => Remover::of(self.facts.plane.kind, Some(release), &[]),
            None => self.facts.remover,
        }
    }

    /// When the last certificate ends that the agent verifies the gateway against.
    pub fn server_ca_ends(&self) -> Option<Timestamp> {
        let ca = self.build()?.server_ca.as_ref().ok()?;
        Certificate::all_in(&ca.text).iter().map(|certificate| certificate.not_after).max()
    }

    /// The gateway's verdict, predicted, on what an agent that starts now would present.
    pub fn verdict(&self) -> Option<Verdict> {
        let pair = self.pair()?;
        Some(self.facts.client_ca.verdict(&pair.presented, self.facts.now))
    }
}

/// A line of the agent's log about its connection.
#[derive(Clone, Copy)]
pub struct LogLine<'l> {
    text: &'l str,
    /// What it complains of; none where it says that the agent is connected.
    complaint: Option<&'static (&'static str, &'static str)>,
}

impl<'l> LogLine<'l> {
    fn of(text: &'l str) -> Option<Self> {
        if text.contains(AUTHORIZED) {
            return Some(Self { text, complaint: None });
        }
        Some(Self { text, complaint: Some(complaint(text)?) })
    }

    /// When it was logged; none where the line does not say.
    pub fn time(&self) -> Option<Timestamp> {
        let fields: Value = serde_json::from_str(self.text).ok()?;
        fields["time"].as_str()?.parse().ok()
    }

    pub fn is_connected(&self) -> bool {
        self.complaint.is_none()
    }

    /// What it complains of, explained.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.map(|(word, meaning)| format!("the agent logs `{word}`: {meaning}"))
    }

    /// Whether an attempt to connect failed: requests into its cluster, which it logs too, may fail all the same.
    pub fn is_refusal(&self) -> bool {
        self.complaint.is_some() && self.text.contains("dial failed")
    }

    /// Whether the agent could not reach its server URL at all.
    pub fn is_unreachable(&self) -> bool {
        self.is_refusal() && self.text.contains("dial tcp")
    }

    /// Whether the agent does not trust the gateway's certificate.
    pub fn is_other_ca(&self) -> bool {
        self.complaint.is_some_and(|(word, _)| *word == UNKNOWN_AUTHORITY)
    }
}

/// Returns the known complaint in a line of the log: its words, and what they mean.
pub fn complaint(line: &str) -> Option<&'static (&'static str, &'static str)> {
    COMPLAINTS.iter().find(|(words, _)| line.contains(words))
}

const UNKNOWN_AUTHORITY: &str = "certificate signed by unknown authority";

/// What the agent logs, and what it means.
static COMPLAINTS: &[(&str, &str)] = &[
    ("malformed ws or wss URL", "its server URL begins with https://"),
    ("use wss://", "its server URL does not begin with wss://"),
    ("plane-type must be", "its image is of another release, which has no such plane type"),
    ("failed to load client certificate", "the key does not match the certificate, or one of them can't be parsed"),
    // Up to v1.2.3 these are warnings; later agents don't start.
    ("failed to parse server CA certificate", "the ConfigMap with the gateway's CA holds no certificate"),
    ("failed to read server CA certificate", "the ConfigMap with the gateway's CA has no key ca.crt"),
    ("no server CA is configured", "its arguments name no file with the gateway's CA"),
    ("failed to create agent", "its plane type is of another release, or its certificate can't be used"),
    (UNKNOWN_AUTHORITY, "the agent trusts another CA than the gateway's"),
    ("certificate is valid for", "the gateway's certificate is not valid for the host name in the agent's server URL"),
    (
        "doesn't contain any IP SANs",
        "the gateway's certificate is not valid for the host name in the agent's server URL",
    ),
    ("certificate has expired", "the gateway serves an old certificate"),
    // With the reason behind it: no such host, or a name server that refuses, fails, or does not answer.
    ("dial tcp: lookup", "the host name of its server URL can't be resolved by the DNS of its cluster"),
    ("no such host", "the host name of its server URL can't be resolved"),
    ("connection refused", "no process listens at the agent's server URL"),
    ("i/o timeout", "the agent's server URL can't be reached over the network"),
    ("bad handshake", "the gateway refuses the agent"),
    ("connection lost, reconnecting", "the agent's connection to the gateway was closed"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_complaints_are_distinguished() {
        let failed = |error: &str| format!(r#"{{"level":"ERROR","msg":"failed to create agent","error":"{error}"}}"#);
        let meaning = |line: &str| complaint(line).map(|(_, meaning)| *meaning).unwrap_or_default();
        let parse = "failed to parse server CA certificate /ca-certs/ca.crt: no valid certificates found";
        for (line, part) in [
            (failed(parse), "holds no certificate"),
            (failed("failed to read server CA certificate /ca-certs/ca.crt: no such file"), "no key ca.crt"),
            (failed("TLS is enabled but no server CA is configured: set --server-ca-path"), "name no file"),
            (failed("TLS is enabled but the server URL scheme is https: use wss:// instead"), "begin with wss://"),
            (failed("something else"), "of another release, or its certificate"),
            ("dial failed: dial tcp: lookup a.b: no such host".into(), "can't be resolved"),
            (
                "dial tcp: lookup a.b on 127.0.0.1:53: read udp 127.0.0.1:1: connection refused".into(),
                "can't be resolved",
            ),
            ("dial tcp: lookup a.b on 10.0.0.10:53: server misbehaving".into(), "can't be resolved"),
            ("dial tcp: lookup a.b: i/o timeout".into(), "can't be resolved"),
            ("dial tcp 127.0.0.1:9: connect: connection refused".into(), "no process listens"),
            ("Error: plane-type must be 'dataplane' or 'workflowplane', got: buildplane".into(), "image is of another"),
        ] {
            assert!(meaning(&line).contains(part), "{line}: {}", meaning(&line));
        }
        for line in ["received GOAWAY from gateway, reconnecting", "reconnecting after GOAWAY", AUTHORIZED] {
            assert!(complaint(line).is_none(), "{line}");
        }
    }
}
