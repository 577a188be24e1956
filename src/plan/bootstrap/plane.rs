//! The plane as it is to be, and what it differs in from the existing one.

use serde_json::Value;

use super::facts::{Facts, Observability};
use super::wish::{Bootstrap, CaIn, Given};
use crate::plane::{CA_KEY, CaSecret, NamespacedName, ObservabilityPlaneRef, Plane, SecretKeyRef};

/// The plane as it is to be: with the CA in it or in a Secret, and what the existing one says beside. An existing CA that
/// authorizes the agent stays where it is.
pub fn wanted(plan: &Bootstrap, facts: &Facts) -> Value {
    let mut wanted = plan.plane.clone();
    let client_ca = &mut wanted.spec.cluster_agent.client_ca;
    match (facts.trusting(), &plan.given, plan.ca_in) {
        (Some(there), ..) => client_ca.clone_from(&there.spec.cluster_agent.client_ca),
        (None, Some(Given::Secret(CaSecret { secret, key })), _) => {
            client_ca.secret_ref = Some(reference(secret.clone(), key));
        }
        (None, _, CaIn::Value) => client_ca.value = Some(facts.certificates.ca.clone()),
        (None, _, CaIn::Secret) => client_ca.secret_ref = Some(reference(plan.client_ca_secret(), CA_KEY)),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::bootstrap::certificates::Certificates;
    use crate::plan::fixtures::{CONTROL, plane, plane_object, registration, root};

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
}
