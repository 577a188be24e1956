//! A registration for clusters that can't be reached from here, as objects to be applied by others.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{new_authority, new_pair};
use super::plane::reference;
use super::values::{tls, values};
use super::wish::{CaIn, OWN_SECRET, ca_secret, client_ca_secret};
use crate::gateway::GatewayUrl;
use crate::pki::{self, Authority, IssueError, KeyAlgorithm};
use crate::plan::issuer::Issuer;
use crate::plan::observer::Pem;
use crate::plane::{CA_KEY, Plane};

/// What is to be registered.
pub struct Offline<'o> {
    pub plane: &'o Plane,
    pub issuer: Issuer,
    pub ca_in: CaIn,
    pub gateway_url: Option<&'o GatewayUrl>,
    pub control_namespace: &'o str,
    /// A CA with its key, of a run before.
    pub authority: Option<Authority>,
    /// An agent's certificate with its key, of a run before.
    pub pair: Option<Pem>,
    pub key_algorithm: KeyAlgorithm,
}

/// What came of it.
pub struct Files {
    /// Helm's values for the agent.
    pub values: Value,
    pub ca: Pem,
    /// The name of the Secret beside the agent.
    pub secret: String,
    /// The agent's pair, unless cert-manager is to issue it.
    pub pair: Option<Pem>,
    /// The objects of the control plane.
    pub objects: Vec<Value>,
}

/// Makes what a run before did not of certificates, with cert-manager only the CA's, and the objects that name them.
///
/// # Errors
/// Those of making certificates.
pub fn offline(plan: Offline<'_>, now: Timestamp) -> Result<Files, IssueError> {
    let (id, algorithm) = (plan.plane.plane_id(), plan.key_algorithm);
    let (authority, ca) = match plan.authority {
        Some(authority) => {
            let ca = (pki::encode("CERTIFICATE", &authority.certificate.der), authority.key_to_pem());
            (authority, ca)
        }
        None => new_authority(id, algorithm, now)?,
    };
    let (secret, pair) = match (plan.issuer, plan.pair) {
        (Issuer::CertManager, _) => (ca_secret(id), None),
        (Issuer::Own, Some(pair)) => (OWN_SECRET.to_owned(), Some(pair)),
        (Issuer::Own, None) => (OWN_SECRET.to_owned(), Some(new_pair(id, &authority, algorithm, now)?.0)),
    };
    let mut plane = plan.plane.clone();
    let mut objects = Vec::new();
    match plan.ca_in {
        CaIn::Value => plane.spec.cluster_agent.client_ca.value = Some(ca.0.clone()),
        CaIn::Secret => {
            let name = client_ca_secret(plan.control_namespace, plane.name());
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name.name, "namespace": name.namespace},
                "stringData": {CA_KEY: ca.0},
            }));
            plane.spec.cluster_agent.client_ca.secret_ref = Some(reference(name, CA_KEY));
        }
    }
    objects.push(plane.manifest());
    let values = values(id, plan.gateway_url, tls(plan.issuer, id));
    Ok(Files { values, ca, secret, pair, objects })
}
