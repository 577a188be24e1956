//! What a migration has to do, by what is there and what was recorded: pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::seen::Seen;
use crate::cluster::Agent;
use crate::estate::AgentFacts;
use crate::gateway::GatewayUrl;
use crate::manifest::{objects, parse};
use crate::migration::{
    Moved, Record, Survey, carry, could_be_default, default_plane, documents, is_right, moved, renamed,
};
use crate::plan::bootstrap::{CHART_SECRET, tls_of_existing};
use crate::plan::issuer::Issuer;
use crate::plane::{DEFAULT_KIND, Family, GATEWAY_CA, Plane, PlaneKey, PlaneName};

/// What is to be done for a plane that was there before.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// It exists, with a CA.
    None,
    Create(Value),
    /// It lost its CA to the CRDs of v1.0; this is it.
    Restore(Value),
    /// It lost its CA, and no record has it.
    Lost,
    /// It exists no more.
    Gone,
    /// The CRD of its new kind is not there yet.
    Later,
}

/// A plane that was there before.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub old: PlaneKey,
    /// What v1.0 calls it.
    pub new: PlaneKey,
    pub work: Work,
}

/// An agent whose chart is to be replaced by that of v1.0.
#[derive(Clone, Debug)]
pub struct Swap {
    /// The first plane of its planeID, as v1.0 calls it.
    pub plane: PlaneKey,
    pub agent: Agent,
    /// Helm's values.
    pub values: Value,
    /// Whether it runs as v1.0 has it already.
    pub is_done: bool,
    /// When it was last heard of.
    pub last_heartbeat: Option<Timestamp>,
}

/// What there is to do.
#[derive(Debug)]
pub struct Prepared {
    pub changes: Vec<Change>,
    /// All planes as v1.0 takes them, in YAML.
    pub planes: String,
    pub moved: Vec<Moved>,
    /// A plane that would run these Workflows without a change of theirs.
    pub default_plane: Option<Value>,
    pub swaps: Vec<Swap>,
    /// Planes whose agents are not in the plane's cluster.
    pub without_agent: Vec<PlaneKey>,
}

/// The planes that are to be migrated.
#[derive(Clone, Debug, Default)]
pub struct Meant {
    /// None for all.
    pub names: Vec<PlaneName>,
    pub namespace: Option<String>,
}

impl Meant {
    /// Whether a name means a plane, by its old or its new kind. Without a kind the planes of builds and workflows are meant.
    fn names(&self, name: &PlaneName, plane: &PlaneKey) -> bool {
        let of_kind = match name.kind {
            Some(kind) => kind.family.is_kin(plane.kind.family) && kind.scope == plane.kind.scope,
            None => name.is_any || plane.kind.family.has_argo(),
        };
        let of_namespace = plane.namespace.is_none() || self.namespace.is_none() || plane.namespace == self.namespace;
        of_kind && of_namespace && name.as_str() == plane.name
    }

    pub fn means(&self, plane: &PlaneKey) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| self.names(name, plane))
    }

    /// Returns the names that mean none of these planes.
    pub fn missing<'m>(&'m self, changes: &'m [Change]) -> impl Iterator<Item = &'m PlaneName> {
        self.names.iter().filter(|name| !changes.iter().any(|change| self.names(name, &change.old)))
    }
}

fn has_ca(plane: &Plane) -> bool {
    let ca = &plane.spec.cluster_agent.client_ca;
    ca.value.as_ref().is_some_and(|value| !value.is_empty()) || ca.secret_ref.is_some()
}

/// Decides what there is to do for the planes that are meant, and for all of them where Workflows need it.
pub fn prepare(
    seen: &Seen,
    record: &Record,
    gateway_url: Option<&GatewayUrl>,
    meant: &Meant,
) -> anyhow::Result<Prepared> {
    let (old, before): (Vec<_>, Vec<_>) = record.planes().unzip();
    let before = parse("planes".into(), documents(before)?);
    let carried = carry(&before, &Survey::of([&before].into_iter()));
    let after = carried.after.as_ref().unwrap_or(&before);
    let manifests: Vec<_> = objects(after).iter().map(|object| object.node.to_json()).collect();
    let changes = old.iter().zip(&manifests).map(|(plane, manifest)| change(seen, &plane.key(), manifest));
    let all: Vec<_> = changes.collect();
    // A plane of the same planeID has the same agents.
    let default_id = seen.plane(&default_plane()).map(Plane::plane_id);
    let id_of = |key: &PlaneKey| old.iter().find(|plane| plane.key() == *key).map(Plane::plane_id);
    let runs_there = |moved: &Moved| default_id.is_some() && default_id == id_of(&moved.on);
    let moved: Vec<_> =
        moved(record).into_iter().filter(|moved| !is_right(moved, &seen.objects) && !runs_there(moved)).collect();
    let default = could_be_default(&moved, record).filter(|_| default_id.is_none());
    let of_default = default.and_then(|plane| manifests.iter().find(|one| PlaneKey::of_object(one) == *plane));
    let default_plane = of_default.map(|manifest| {
        let mut manifest = manifest.clone();
        manifest["metadata"] = json!({"name": default_plane().name});
        manifest
    });
    let changes: Vec<_> = all.into_iter().filter(|change| meant.means(&change.old)).collect();
    let (swaps, without_agent) = swaps(seen, &old, &changes, gateway_url);
    Ok(Prepared { changes, planes: after.text.clone(), moved, default_plane, swaps, without_agent })
}

fn change(seen: &Seen, old: &PlaneKey, manifest: &Value) -> Change {
    let new = renamed(old);
    let client_ca = &manifest["spec"]["clusterAgent"]["clientCA"];
    let is_recorded = serde_json::from_value(manifest.clone()).is_ok_and(|plane: Plane| has_ca(&plane));
    let work = match seen.plane(&new) {
        Some(plane) if has_ca(plane) => Work::None,
        Some(_) if is_recorded => Work::Restore(client_ca.clone()),
        Some(plane) if plane.pruned_secret().is_some() => Work::Lost,
        Some(_) => Work::None,
        None if new == *old => Work::Gone,
        // Where the old kind is served no more, its planes went with it.
        None if seen.served.contains(&old.kind) && seen.plane(old).is_none() => Work::Gone,
        None if !seen.served.contains(&new.kind) => Work::Later,
        None => Work::Create(manifest.clone()),
    };
    Change { old: old.clone(), new, work }
}

/// The agents of these planes in the plane's cluster, and the planes that have none there.
fn swaps(
    seen: &Seen,
    old: &[Plane],
    changes: &[Change],
    gateway_url: Option<&GatewayUrl>,
) -> (Vec<Swap>, Vec<PlaneKey>) {
    let planes: Vec<_> = old
        .iter()
        .filter(|plane| plane.kind.family.has_argo())
        .filter(|plane| changes.iter().any(|change| change.old == plane.key() && change.work != Work::Gone))
        .collect();
    let Some(agents) = &seen.agents else {
        return (Vec::new(), Vec::new());
    };
    let is_of = |facts: &AgentFacts, plane: &Plane| facts.agent.plane_id.as_deref() == Some(plane.plane_id());
    let swap = |facts: &AgentFacts| {
        let plane = planes.iter().find(|plane| is_of(facts, plane))?;
        let heartbeat =
            seen.plane(&plane.key()).and_then(Plane::connection).and_then(|reported| reported.last_heartbeat_time);
        let workflow = renamed(&plane.key()).kind.family;
        Some(Swap {
            plane: renamed(&plane.key()),
            agent: facts.agent.clone(),
            values: values(facts, workflow, gateway_url, agents),
            is_done: facts.agent.plane_type.as_deref() == Some(workflow.plane_type),
            last_heartbeat: heartbeat,
        })
    };
    let is_without = |plane: &&&Plane| !agents.iter().any(|facts| is_of(facts, plane));
    let without_agent = planes.iter().filter(is_without).map(|plane| renamed(&plane.key())).collect();
    (agents.iter().filter_map(swap).collect(), without_agent)
}

/// Helm's values for an agent of v1.0 in the place of one of v0.17: with the same certificate, URL and planeID. They are put
/// over those of the release.
fn values(facts: &AgentFacts, family: &Family, gateway_url: Option<&GatewayUrl>, all: &[AgentFacts]) -> Value {
    let agent = &facts.agent;
    let ca = facts.issuance.as_ref().ok().and_then(Option::as_ref).and_then(|issuance| issuance.ca_secret.as_deref());
    let mut tls = match ca {
        // Another Issuer of the same CA.
        Some(ca) => {
            let mut tls = json!({"enabled": true, "generateCerts": false, "caSecretName": ca});
            if let Some(secret) = agent.secret.as_deref().filter(|secret| *secret != CHART_SECRET) {
                (tls["secretName"], tls["clientSecretName"]) = (secret.into(), secret.into());
            }
            tls
        }
        // One that cert-manager signed by itself is kept from the chart's new Certificate, which the plane does not trust.
        None => tls_of_existing(agent.secret.as_deref(), Issuer::Own),
    };
    if let Some(map) = agent.server_ca.as_deref().filter(|map| *map != GATEWAY_CA) {
        tls["serverCAConfigMap"] = map.into();
    }
    // A Deployment of the same name could not be changed into one of the other chart, whose selector differs. ClusterRoles
    // have the agent's name, so that agents of one cluster have different ones.
    let own = family.agent();
    let is_taken =
        all.iter().any(|other| other.agent.name.name == own && other.agent.name.namespace != agent.name.namespace);
    let id = agent.plane_id.as_deref().unwrap_or_default();
    let is_first = agent.name.name == DEFAULT_KIND.family.agent() && !is_taken;
    let name = if is_first { own } else { format!("cluster-agent-workflow-{id}").chars().take(50).collect() };
    let mut values = json!({
        "name": name, "planeType": family.plane_type, "planeID": id, "image": {"tag": ""}, "tls": tls,
    });
    if let Some(url) = gateway_url.map(ToString::to_string).or_else(|| agent.server_url.clone()) {
        values["serverUrl"] = url.into();
    }
    json!({"clusterAgent": values})
}
