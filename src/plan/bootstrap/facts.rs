//! What the steps of a registration found before anything is written, and what is made of it: the plane, Helm's values for
//! the agent, and for clusters that can't be reached from here all objects, to be applied by others.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{Certificates, has_all, new_authority, new_pair};
use super::wish::{Bootstrap, CHART_SECRET, CaIn, Given, UNUSED_SECRET};
use crate::cluster::{Agent, StoredSecret};
use crate::pki::{IssueError, PemPair};
use crate::plan::issuer::{AgentCertificate, Issuer};
use crate::plane::{CA_KEY, CaSecret, NamespacedName, ObservabilityPlaneRef, Plane, SecretKeyRef};

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
    /// Who issues that agent's certificate and the Secret that holds it, or its CA: a rotation gives it another name.
    pub current: Option<(Issuer, String)>,
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
    /// The Secret that holds what an issuer makes, or is to.
    pub fn secret_of(&self, plan: &Bootstrap, issuer: Issuer) -> NamespacedName {
        let current = self.current.as_ref().filter(|(of, _)| *of == issuer);
        current.map_or_else(|| plan.secret_of(issuer), |(_, name)| plan.beside(name))
    }

    /// The existing plane, if its CA has all certificates of the one that it is to trust.
    pub fn trusting(&self) -> Option<&Plane> {
        let trusts = |held: &str| has_all(held, &self.certificates.ca);
        self.plane.as_ref().filter(|_| self.plane_ca.as_deref().is_some_and(trusts))
    }
}

/// The plane as it is to be: with the CA in it or in a Secret, and what the existing one says beside. An existing CA that
/// authorizes the agent stays where it is.
pub fn wanted(plan: &Bootstrap, facts: &Facts) -> Value {
    let mut wanted = plan.plane.clone();
    let client_ca = &mut wanted.spec.cluster_agent.client_ca;
    match (facts.trusting(), &plan.given, plan.ca_in) {
        (Some(there), ..) => client_ca.clone_from(&there.spec.cluster_agent.client_ca),
        (None, Some(Given::Secret(CaSecret { secret, key })), _) => {
            client_ca.secret_ref = Some((plan.release, reference(secret.clone(), key)));
        }
        (None, _, CaIn::Value) => client_ca.value = Some(facts.certificates.ca.clone()),
        (None, _, CaIn::Secret) => {
            client_ca.secret_ref = Some((plan.release, reference(plan.client_ca_secret(), CA_KEY)));
        }
    }
    let spec = &mut wanted.spec;
    if facts.observability == Observability::ByName
        && let Some(observability) = &mut spec.observability_plane_ref
    {
        *observability = ObservabilityPlaneRef::Name(observability.name().to_owned());
    }
    if let Some(Plane { spec: there, .. }) = &facts.plane {
        spec.secret_store_ref = spec.secret_store_ref.take().or_else(|| there.secret_store_ref.clone());
        spec.observability_plane_ref =
            spec.observability_plane_ref.take().or_else(|| there.observability_plane_ref.clone());
        // Such as a data plane's gateway.
        for (field, value) in &there.other {
            spec.other.entry(field).or_insert_with(|| value.clone());
        }
    }
    wanted.manifest()
}

/// The manifest of the plane, where the existing one lacks something of it.
pub fn change(plan: &Bootstrap, facts: &Facts) -> Option<Value> {
    let there = facts.plane.as_ref()?.manifest();
    Some(wanted(plan, facts)).filter(|wanted| !covers(&there, wanted))
}

fn reference(secret: NamespacedName, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: secret.name, namespace: Some(secret.namespace), key: key.to_owned() }
}

/// Whether a value has all that the other one says, at whatever depth.
fn covers(there: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, wanted)| covers(&there[name], wanted)),
        wanted => there == wanted,
    }
}

/// Helm's values for the agent.
pub fn values(plan: &Bootstrap, from: AgentCertificate, facts: &Facts) -> Value {
    let held = facts.agent.as_ref().and_then(|agent| agent.secret.as_deref());
    let tls = match from {
        AgentCertificate::Issued(issuer) => {
            let secret = facts.secret_of(plan, issuer).name;
            match issuer {
                Issuer::Own => json!({"enabled": true, "clientSecretName": secret}),
                Issuer::CertManager => json!({"enabled": true, "generateCerts": false, "caSecretName": secret}),
            }
        }
        AgentCertificate::Existing => tls_of_existing(held, facts.certificates.issuer),
    };
    let mut agent = json!({"planeID": plan.plane.plane_id(), "tls": tls});
    if let Some(url) = &plan.gateway_url {
        agent["serverUrl"] = url.to_string().into();
    }
    if let Some(name) = &facts.agent_name {
        agent["name"] = name.as_str().into();
    }
    json!({"clusterAgent": agent})
}

/// The values that name an existing Secret. One that cert-manager doesn't write has to be kept from the chart's
/// Certificate, which writes another one then, unused.
pub fn tls_of_existing(secret: Option<&str>, issuer: Issuer) -> Value {
    let secret = secret.unwrap_or(CHART_SECRET);
    let mut tls = json!({"enabled": true});
    if issuer == Issuer::Own || secret != CHART_SECRET {
        tls["clientSecretName"] = secret.into();
    }
    if issuer == Issuer::Own && secret == CHART_SECRET {
        tls["secretName"] = UNUSED_SECRET.into();
    }
    tls
}

/// Whether an agent's Deployment says what the values do, by a version of the chart.
pub fn fits(plan: &Bootstrap, agent: &Agent, values: &Value, version: &str) -> bool {
    let url = plan.gateway_url.as_ref().map(ToString::to_string);
    let secret = values["clusterAgent"]["tls"]["clientSecretName"].as_str();
    agent.plane_id.as_deref() == Some(plan.plane.plane_id())
        && (url.is_none() || agent.server_url == url)
        && (secret.is_none() || agent.secret.as_deref() == secret)
        && agent.chart_version.as_deref().is_none_or(|there| there == version)
}

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
pub fn offline(plan: &Bootstrap, issuer: Issuer, now: Timestamp) -> Result<Files, IssueError> {
    let (authority, ca) = match &plan.authority {
        Some(authority) => (authority.again()?, authority.pem_pair()),
        None => new_authority(plan, now)?,
    };
    let pair = match (issuer, &plan.pair) {
        (Issuer::CertManager, _) => None,
        (Issuer::Own, Some(pair)) => Some(pair.clone()),
        (Issuer::Own, None) => Some(new_pair(plan, &authority, now)?),
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
    use crate::gateway::GatewayUrl;
    use crate::plan::bootstrap::wish::OWN_SECRET;
    use crate::plan::fixtures::{BUILD, CONTROL, agent, leaf, plane, plane_object, registration, root};

    #[test]
    fn a_plane_gets_its_ca_where_it_is_wanted_unless_it_trusts_the_agent_already() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let (ca, other) = (root("ca", now), root("other", now));
        let facts = |held: Option<&str>| Facts {
            certificates: Certificates { ca: ca.certificate.clone(), ..Certificates::default() },
            plane: held.map(|held| plane(&plane_object("p", "id", held, now))),
            plane_ca: held.map(str::to_owned),
            ..Facts::default()
        };
        let both = format!("{}{}", other.certificate, ca.certificate);
        let value = json!({"value": ca.certificate});
        let in_secret = Bootstrap { ca_in: CaIn::Secret, ..registration() };
        let own = json!({"secretRef": {"namespace": CONTROL, "name": "p-client-ca", "key": "ca.crt"}});
        let secret = CaSecret { secret: NamespacedName { namespace: "n".into(), name: "s".into() }, key: "k".into() };
        let given = Bootstrap { given: Some(Given::Secret(secret)), ..registration() };
        let theirs = json!({"secretRef": {"namespace": "n", "name": "s", "key": "k"}});
        for (plan, held, expected) in [
            (registration(), None, value.clone()),
            (registration(), Some(other.certificate.as_str()), value),
            (registration(), Some(both.as_str()), json!({"value": both})),
            (in_secret, None, own),
            (given, None, theirs),
        ] {
            assert_eq!(wanted(&plan, &facts(held))["spec"]["clusterAgent"]["clientCA"], expected);
        }
        assert!(change(&registration(), &facts(None)).is_none(), "there is none to be changed");
        assert!(change(&registration(), &facts(Some(&both))).is_none());
        assert!(change(&registration(), &facts(Some(&other.certificate))).is_some());
    }

    #[test]
    fn what_the_existing_plane_says_beside_stays_and_is_named_as_the_crd_has_it() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut there = plane_object("p", "id", "", now);
        there["spec"]["secretStoreRef"] = json!({"name": "vault"});
        let mut plan = registration();
        let mut facts = Facts { plane: Some(plane(&there)), ..Facts::default() };
        assert_eq!(wanted(&plan, &facts)["spec"]["secretStoreRef"]["name"], "vault");
        let mut with_observability = there.clone();
        with_observability["spec"]["observabilityPlaneRef"] = json!({"kind": "ClusterObservabilityPlane", "name": "o"});
        plan.plane.spec.observability_plane_ref = plane(&with_observability).spec.observability_plane_ref;
        assert_eq!(wanted(&plan, &facts)["spec"]["observabilityPlaneRef"]["name"], "o");
        facts.observability = Observability::ByName;
        assert_eq!(wanted(&plan, &facts)["spec"]["observabilityPlaneRef"], "o");
    }

    #[test]
    fn a_secret_that_cert_manager_does_not_write_is_kept_from_the_chart() {
        for (secret, issuer, expected) in [
            (None, Issuer::CertManager, json!({"enabled": true})),
            (Some("mine"), Issuer::CertManager, json!({"enabled": true, "clientSecretName": "mine"})),
            (Some("mine"), Issuer::Own, json!({"enabled": true, "clientSecretName": "mine"})),
            (
                None,
                Issuer::Own,
                json!({"enabled": true, "clientSecretName": CHART_SECRET, "secretName": UNUSED_SECRET}),
            ),
        ] {
            assert_eq!(tls_of_existing(secret, issuer), expected);
        }
    }

    #[test]
    fn values_name_the_plane_the_secret_the_gateway_and_the_agent() {
        let url = GatewayUrl::of_agent("wss://g:8443/ws").unwrap();
        let of = |gateway_url, from, facts: &Facts| {
            values(&Bootstrap { gateway_url, ..registration() }, from, facts)["clusterAgent"].clone()
        };
        let facts = Facts { agent: Some(agent(BUILD, "mine", "id", "held")), ..Facts::default() };
        let own = json!({"planeID": "id", "tls": {"enabled": true, "clientSecretName": "cluster-agent-own-tls"}, "serverUrl": "wss://g:8443/ws"});
        assert_eq!(of(Some(url), AgentCertificate::Issued(Issuer::Own), &facts), own);
        let managed =
            json!({"planeID": "id", "tls": {"enabled": true, "generateCerts": false, "caSecretName": "id-agent-ca"}});
        assert_eq!(of(None, AgentCertificate::Issued(Issuer::CertManager), &facts), managed);
        let facts = Facts { agent_name: Some("mine".into()), ..facts };
        let existing = json!({"planeID": "id", "tls": {"enabled": true, "clientSecretName": "held"}, "name": "mine"});
        assert_eq!(of(None, AgentCertificate::Existing, &facts), existing);
    }

    #[test]
    fn an_agent_fits_where_its_deployment_says_the_same() {
        let mut plan = registration();
        plan.gateway_url = Some(GatewayUrl::of_agent("wss://g:8443/ws").unwrap());
        let values = values(&registration(), AgentCertificate::Issued(Issuer::Own), &Facts::default());
        let ours = || agent(BUILD, "a", "id", OWN_SECRET);
        let mut other_url = ours();
        other_url.server_url = None;
        let mut other_chart = ours();
        other_chart.chart_version = Some("0".into());
        for (agent, does_fit) in [
            (ours(), true),
            (agent(BUILD, "a", "other", OWN_SECRET), false),
            (agent(BUILD, "a", "id", "other"), false),
            (other_url, false),
            (other_chart, false),
        ] {
            assert_eq!(fits(&plan, &agent, &values, "1"), does_fit, "{agent:?}");
        }
    }

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
