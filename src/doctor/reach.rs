//! Where a diagnosis may look.

use std::time::Duration;

use crate::gateway::GatewayUrl;
use crate::pki::Remaining;

/// The two clusters, the gateway, and what is asked of them.
pub struct Reach<'r, S> {
    pub control: &'r S,
    pub control_namespace: &'r str,
    /// The build cluster, and the agents' namespace in it; without one, those of all namespaces are meant.
    pub build: Option<(&'r S, Option<&'r str>)>,
    /// Whether the planes were named one by one, so that each is to have its agent there.
    pub named: bool,
    /// What is told of as expiring soon.
    pub soon: Remaining,
    /// How the gateway is asked; none where it is not to be.
    pub gateway: Option<GatewayReach<'r>>,
}

/// How a gateway is asked.
pub struct GatewayReach<'r> {
    /// Where it is, where that isn't to be read out of the agent's arguments.
    pub url: Option<&'r GatewayUrl>,
    /// The certificates and the key that are presented to it instead of those in the agent's Secret.
    pub identity: Option<(Vec<Vec<u8>>, String)>,
    /// Longest time for its answer.
    pub limit: Duration,
    pub question: Gateway,
}

/// What a diagnosis wants of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Its answer to the agent's certificate.
    Word,
    /// Its own certificate.
    Certificate,
}
