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

pub fn reference(secret: NamespacedName, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: secret.name, namespace: Some(secret.namespace), key: key.to_owned() }
}

/// Whether a value has all that the other one says, at whatever depth.
fn covers(there: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, wanted)| covers(&there[name], wanted)),
        wanted => there == wanted,
    }
}
