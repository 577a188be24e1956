//! What the steps of a registration found before anything is written.

use serde_json::Value;

use super::certificates::{Certificates, has_all};
use crate::cluster::{Agent, StoredSecret};
use crate::plane::Plane;

/// The agent's namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    #[default]
    Exists,
    New,
}

/// How the served CRD refers to an observability plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observability {
    #[default]
    ByReference,
    /// By a plain name, as v0.14 does.
    ByName,
}

/// What was found so far.
#[derive(Default)]
pub struct Facts {
    pub namespace: Namespace,
    pub observability: Observability,
    /// What the agent verifies the gateway against, in PEM.
    pub gateway_ca: String,
    /// The agent of the planeID.
    pub agent: Option<Agent>,
    /// What the chart is to call the agent, where that is another name than its default.
    pub agent_name: Option<String>,
    pub certificates: Certificates,
    /// Helm's values for the agent.
    pub values: Value,
    /// What the ConfigMap with the gateway's CA beside the agent holds.
    pub server_ca: Option<String>,
    /// The Secret with the plane's CA beside the gateway, where the CA is to be in it.
    pub client_ca: Option<StoredSecret>,
    pub plane: Option<Plane>,
    /// The CA of that plane, where it can be read.
    pub plane_ca: Option<String>,
}

impl Facts {
    /// The existing plane, if its CA has all certificates of the one that it is to trust.
    pub fn trusting(&self) -> Option<&Plane> {
        let trusts = |held: &str| has_all(held, &self.certificates.ca);
        self.plane.as_ref().filter(|_| self.plane_ca.as_deref().is_some_and(trusts))
    }
}
