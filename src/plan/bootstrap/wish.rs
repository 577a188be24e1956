//! What is to be registered and where, and what the objects that are made for it are called.

use std::time::Duration;

use crate::gateway::{GatewayUrl, Identity, Question};
use crate::pki::{Authority, KeyAlgorithm, PemPair};
use crate::plan::issuer::{AgentCertificate, Issuer};
use crate::plane::{CaSecret, DEFAULT_KIND, DryRun, NamespacedName, Plane, PlaneKey, Release};

/// The Secret of an agent's own pair: another one than the chart's cert-manager writes.
pub const OWN_SECRET: &str = "cluster-agent-own-tls";
/// The Secret that the chart's cert-manager writes.
pub const CHART_SECRET: &str = "cluster-agent-tls";
/// The Secret that cert-manager is to write where that one is another manager's.
pub const UNUSED_SECRET: &str = "cluster-agent-unused-tls";
/// All Secrets that an agent's certificate can be in, in its namespace.
pub const AGENT_SECRETS: [&str; 3] = [CHART_SECRET, OWN_SECRET, UNUSED_SECRET];

/// Where the plane has its CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CaIn {
    /// In the plane, in the field clientCA.value
    #[default]
    Value,
    /// In a Secret in the control plane's namespace, to which the plane refers
    Secret,
}

/// A CA without its key: another one issues the certificates that it verifies.
#[derive(Clone)]
pub enum Given {
    /// In PEM, to be written into the plane.
    Value(String),
    /// In a Secret of the control plane.
    Secret(CaSecret),
}

pub struct Bootstrap {
    pub control_namespace: String,
    pub build_namespace: String,
    /// The release that the plane's kind is served of.
    pub release: Release,
    /// The plane without its CA.
    pub plane: Plane,
    /// None: as the plane's cluster suggests.
    pub certificate: Option<AgentCertificate>,
    pub given: Option<Given>,
    pub ca_in: CaIn,
    pub gateway_url: Option<GatewayUrl>,
    pub key_algorithm: KeyAlgorithm,
    /// A CA with its key, of a run before.
    pub authority: Option<Authority>,
    /// An agent's certificate with its key, of a run before.
    pub pair: Option<PemPair>,
    /// Whether existing objects that differ are replaced without a question.
    pub force: bool,
    /// Whether Helm is to be run.
    pub install: bool,
    /// The file of Helm's values, and what it holds.
    pub values: Option<(String, Option<String>)>,
    pub dry_run: DryRun,
    /// Longest time for the gateway's answer.
    pub limit: Duration,
}

/// The name of the Secret that holds the CA of a planeID's agents for cert-manager.
pub fn ca_name(plane_id: &str) -> String {
    format!("{plane_id}-agent-ca")
}

/// The Secret beside the gateway that holds a plane's CA, where one does.
pub fn client_ca_secret(key: &PlaneKey, namespace: &str) -> NamespacedName {
    // Planes of several kinds may have one name.
    let name = match &key.namespace {
        _ if key.kind == DEFAULT_KIND => format!("{}-client-ca", key.name),
        None => format!("{}-{}-client-ca", key.kind.kind.to_lowercase(), key.name),
        Some(namespace) => format!("{}-{namespace}-{}-client-ca", key.kind.kind.to_lowercase(), key.name),
    };
    NamespacedName { namespace: namespace.to_owned(), name }
}

impl Bootstrap {
    /// A name in the agent's namespace.
    pub fn beside(&self, name: &str) -> NamespacedName {
        NamespacedName { namespace: self.build_namespace.clone(), name: name.to_owned() }
    }

    /// The Secret that holds what an issuer makes, or is to.
    pub fn secret_of(&self, issuer: Issuer) -> NamespacedName {
        match issuer {
            Issuer::Own => self.beside(OWN_SECRET),
            Issuer::CertManager => self.beside(&ca_name(self.plane.plane_id())),
        }
    }

    /// The Secret beside the gateway that holds the plane's CA, where one does.
    pub fn client_ca_secret(&self) -> NamespacedName {
        client_ca_secret(&self.plane.key(), &self.control_namespace)
    }

    /// A question to the gateway. `server_ca` is in PEM.
    pub fn question<'q>(&'q self, url: &'q GatewayUrl, server_ca: &'q str, identity: Option<Identity>) -> Question<'q> {
        let (plane_type, plane_id) = (self.plane.kind.family.plane_type, self.plane.plane_id());
        Question { url, plane_type, plane_id, identity, server_ca, limit: self.limit }
    }
}
