//! A registration for clusters that can't be reached from here, as objects to be applied by others.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{new_authority, new_pair};
use super::plane::reference;
use super::values::{tls, values};
use super::wish::{CaIn, OWN_SECRET, ca_secret, client_ca_secret};
use crate::gateway::GatewayUrl;
use crate::pki::{Authority, IssueError, KeyAlgorithm, PemPair};
use crate::plan::issuer::Issuer;
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
    pub pair: Option<PemPair>,
    pub key_algorithm: KeyAlgorithm,
}

/// What came of it.
pub struct Files {
    /// Helm's values for the agent.
    pub values: Value,
    pub ca: PemPair,
    /// The name of the Secret beside the agent.
    pub secret: String,
    /// The agent's pair, unless cert-manager is to issue it.
    pub pair: Option<PemPair>,
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
            let ca = authority.pem_pair();
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
        CaIn::Value => plane.spec.cluster_agent.client_ca.value = Some(ca.certificate.clone()),
        CaIn::Secret => {
            let name = client_ca_secret(plan.control_namespace, plane.name());
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name.name, "namespace": name.namespace},
                "stringData": {CA_KEY: ca.certificate},
            }));
            plane.spec.cluster_agent.client_ca.secret_ref = Some(reference(name, CA_KEY));
        }
    }
    objects.push(plane.manifest());
    let values = values(id, plan.gateway_url, tls(plan.issuer, id));
    Ok(Files { values, ca, secret, pair, objects })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{leaf, registration, root};

    #[test]
    fn files_hold_what_each_issuer_needs() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let plane = registration().plane;
        let before = root("ca", now);
        let of = |issuer, ca_in, authority, pair| {
            let (control_namespace, key_algorithm) = ("control", KeyAlgorithm::EcdsaP256);
            let plan = Offline {
                plane: &plane,
                issuer,
                ca_in,
                gateway_url: None,
                control_namespace,
                authority,
                pair,
                key_algorithm,
            };
            offline(plan, now).unwrap()
        };
        let own = of(Issuer::Own, CaIn::Value, None, None);
        assert!(own.pair.is_some() && own.secret == OWN_SECRET);
        assert_eq!(own.objects[0]["spec"]["clusterAgent"]["clientCA"]["value"], own.ca.certificate);
        let managed = of(Issuer::CertManager, CaIn::Secret, None, None);
        assert!(managed.pair.is_none() && managed.secret == "id-agent-ca");
        assert_eq!(managed.objects[0]["metadata"]["name"], "p-client-ca");
        assert_eq!(managed.objects[1]["spec"]["clusterAgent"]["clientCA"]["secretRef"]["name"], "p-client-ca");
        let pair = leaf("id", &before, now);
        let again = of(Issuer::Own, CaIn::Value, Some(before.authority.again().unwrap()), Some(pair.clone()));
        assert!(
            again.ca.certificate == before.certificate && again.pair.unwrap().certificate == pair.certificate,
            "a run before made them"
        );
    }
}
