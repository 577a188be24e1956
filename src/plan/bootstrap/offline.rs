//! A registration for clusters that can't be reached from here, as objects to be applied by others.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{Certificates, new_authority, new_pair};
use super::facts::Facts;
use super::plane::wanted;
use super::values::values;
use super::wish::{Bootstrap, CaIn};
use crate::pki::{IssueError, PemPair};
use crate::plan::issuer::{AgentCertificate, Issuer};
use crate::plane::CA_KEY;

/// What is to be applied, and to be kept.
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
pub fn offline(plan: &Bootstrap, issuer: Issuer, now: Timestamp) -> Result<Files, IssueError> {
    let (id, algorithm) = (plan.plane.plane_id(), plan.key_algorithm);
    let (authority, ca) = match &plan.authority {
        Some(authority) => (authority.again()?, authority.pem_pair()),
        None => new_authority(id, algorithm, now)?,
    };
    let pair = match (issuer, &plan.pair) {
        (Issuer::CertManager, _) => None,
        (Issuer::Own, Some(pair)) => Some(pair.clone()),
        (Issuer::Own, None) => Some(new_pair(id, &authority, algorithm, now)?.0),
    };
    let certificates = Certificates { ca: ca.certificate.clone(), issuer, ..Certificates::default() };
    let facts = Facts { certificates, ..Facts::default() };
    let mut objects = vec![wanted(plan, &facts)];
    if plan.ca_in == CaIn::Secret {
        let name = plan.client_ca_secret();
        let metadata = json!({"name": name.name, "namespace": name.namespace});
        let data = json!({CA_KEY: ca.certificate});
        objects.insert(0, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}));
    }
    let values = values(plan, AgentCertificate::Issued(issuer), &facts);
    Ok(Files { values, ca, secret: plan.secret_of(issuer).name, pair, objects })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{leaf, registration, root};

    #[test]
    fn files_hold_what_each_issuer_needs() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let before = root("ca", now);
        let of = |issuer, ca_in, authority, pair| {
            let plan = Bootstrap { ca_in, authority, pair, ..registration() };
            offline(&plan, issuer, now).unwrap()
        };
        let own = of(Issuer::Own, CaIn::Value, None, None);
        assert!(own.pair.is_some() && own.secret == "cluster-agent-own-tls");
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
