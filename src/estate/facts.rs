//! What is known of planes beside their own objects.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::client_ca::{CaPlace, ClientCa, parse_all, read_cas};
use super::control::{Events, PlaneEvent, observability_planes};
use super::neighbours::{Few, Neighbour, Neighbours, Peers};
use super::remover::{Remover, removers};
use super::source::Source;
use super::unavailable::Unavailable;
use crate::plane::{KINDS, Kind, Plane, PlaneKey};

/// All that is known of one plane in the control plane.
#[derive(Clone, Debug)]
pub struct Facts {
    pub plane: Plane,
    pub client_ca: ClientCa,
    /// The other planes of the same planeID; a problem where they could not be listed.
    pub shares_plane_id_with: Result<Peers, Unavailable>,
    /// Planes of other planeIDs that have the same CA, as far as they are known.
    pub same_ca: Few,
    /// Whether the planes of the other scope, which count like those of the plane's own, could be listed.
    pub other_scope: Result<(), Unavailable>,
    /// The plane of the same planeID and the kind that another release has instead: both are one plane in migration. None
    /// where those can't be listed, too.
    pub counterpart: Option<PlaneKey>,
    /// The observability plane that is used, if it exists.
    pub observability_plane: Result<Option<PlaneKey>, Unavailable>,
    pub events: Result<Vec<PlaneEvent>, Unavailable>,
    /// Who removes the plane's finalizer; looked for where the plane is being deleted.
    pub remover: Remover,
    pub now: Timestamp,
}

/// How long a new plane may be without a report: the controller's first one takes about a minute.
const PATIENCE_SECONDS: i64 = 90;

impl Facts {
    /// Whether the first report may still be on its way.
    pub fn is_new(&self) -> bool {
        let created = self.plane.created();
        created.is_some_and(|created| self.now.duration_since(created).as_secs() < PATIENCE_SECONDS)
    }

    /// Says which planes, that may have the planeID or the CA, are unknown, and why.
    ///
    /// # Errors
    /// That sentence.
    pub fn all_known(&self) -> Result<(), String> {
        let kind = self.plane.kind;
        let unknown = |kind: &Kind, why: &Unavailable| format!("{}s are unknown: {}", kind.kind, why.message);
        match (&self.shares_plane_id_with, &self.other_scope, kind.other_scope()) {
            (Err(why), ..) => Err(unknown(kind, why)),
            (_, Err(why), Some(other)) => Err(unknown(other, why)),
            _ => Ok(()),
        }
    }

    /// Of a plane that can't be read, for one and the same reason.
    pub fn unread(plane: Plane, why: &Unavailable, now: Timestamp) -> Self {
        Self {
            client_ca: ClientCa::unread(why.clone()),
            shares_plane_id_with: Err(why.clone()),
            same_ca: Few::default(),
            other_scope: Err(why.clone()),
            counterpart: None,
            observability_plane: Err(why.clone()),
            events: Err(why.clone()),
            remover: Remover::default(),
            now,
            plane,
        }
    }
}

/// The kinds of which planes are all that there are, in all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent(pub Vec<&'static Kind>);

/// Whose CAs are read out of Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Those of the planes that are meant.
    OfMeant,
    /// Those of all planes of their planeIDs, too.
    OfTheirPlaneIds,
}

/// Planes, and what they have to do with each other and with all others.
pub struct Surroundings {
    pub neighbours: Neighbours,
    /// Why not all planes of some kinds are known.
    unlisted: HashMap<&'static Kind, Unavailable>,
    cas: HashMap<CaPlace, ClientCa>,
    /// The names of planes that may be counterparts, by kind, namespace and planeID.
    counterparts: HashMap<(&'static Kind, Option<String>, String), BTreeSet<String>>,
    observability: HashMap<PlaneKey, Result<bool, Unavailable>>,
    /// Who removes the finalizers of the kinds of planes that are being deleted.
    removers: HashMap<&'static Kind, Remover>,
    now: Timestamp,
}

/// What is needed of a plane for its neighbours: its planeID, and where its CA is.
fn neighbour(plane: &Plane) -> (PlaneKey, String, CaPlace) {
    (plane.key(), plane.plane_id().to_owned(), CaPlace::of(plane))
}

fn is_deleted(plane: &Plane) -> bool {
    plane.metadata.deletion_timestamp.is_some()
}

impl Surroundings {
    pub async fn of(source: &impl Source, planes: &[Plane], extent: &Extent, secrets: Secrets) -> Self {
        let of_kind = |kind: &'static Kind| {
            planes.iter().filter(move |plane| plane.kind == kind).map(neighbour).collect::<Vec<_>>()
        };
        // The gateway counts planes of both scopes alike, and knows planeIDs by their plane type.
        let families: BTreeSet<_> = planes.iter().map(|plane| plane.kind.family.plane_type).collect();
        let is_of_family = |kind: &Kind| families.contains(kind.family.plane_type);
        let others: BTreeSet<_> = planes.iter().filter_map(|plane| plane.kind.counterpart()).collect();
        let kinds = KINDS.iter().filter(|kind| is_of_family(kind) || others.contains(kind));
        let listed = join_all(kinds.map(async |kind| {
            let listed = match extent.0.contains(&kind) {
                true => Ok(of_kind(kind)),
                false => source.planes(kind, |plane| neighbour(&plane)).await,
            };
            (kind, listed)
        }));
        let observability = planes.iter().flat_map(Plane::observability_planes);
        let going = planes.iter().filter(|plane| is_deleted(plane)).map(|plane| plane.kind);
        let (listed, observability, removers) =
            tokio::join!(listed, observability_planes(source, observability), removers(source, going));
        let (mut all, mut unlisted) = (Vec::new(), HashMap::new());
        for (kind, listed) in listed {
            // Who may read some planes and not list them knows of these.
            all.extend(listed.unwrap_or_else(|why| {
                unlisted.insert(kind, why);
                of_kind(kind)
            }));
        }
        let mut counterparts = HashMap::<_, BTreeSet<_>>::new();
        for (key, plane_id, _) in all.iter().filter(|(key, ..)| others.contains(key.kind)) {
            let of = (key.kind, key.namespace.clone(), plane_id.clone());
            counterparts.entry(of).or_default().insert(key.name.clone());
        }
        all.retain(|(key, ..)| is_of_family(key.kind));
        let id = |key: &PlaneKey, plane_id: &str| (key.kind.family.plane_type, plane_id.to_owned());
        let (keys, ids): (BTreeSet<_>, BTreeSet<_>) =
            planes.iter().map(|plane| (plane.key(), id(&plane.key(), plane.plane_id()))).unzip();
        // A Secret is read only where it is needed.
        let read = all.iter().filter(|(key, plane_id, place)| match secrets {
            _ if matches!(place, CaPlace::Value(_)) => true,
            Secrets::OfMeant => keys.contains(key),
            Secrets::OfTheirPlaneIds => ids.contains(&id(key, plane_id)),
        });
        let read: Vec<_> = read.map(|(.., place)| place).collect();
        let cas = read_cas(source, read.iter().copied()).await;
        let cas: HashMap<_, _> = read.into_iter().zip(cas).collect();
        // Planes may have the same CA inline: its text is copied once.
        let cas: HashMap<_, _> = cas.into_iter().map(|(place, ca)| (place.clone(), ca)).collect();
        let planes = all.into_iter();
        let planes = planes.map(|(key, plane_id, place)| Neighbour { key, plane_id, ca: cas.get(&place).cloned() });
        let neighbours = Neighbours::new(planes);
        Self { neighbours, unlisted, cas, counterparts, observability, removers, now: source.now() }
    }

    /// Returns a plane's counterpart: of several, the one of its name.
    fn counterpart(&self, plane: &Plane) -> Option<PlaneKey> {
        let (kind, namespace) = (plane.kind.counterpart()?, plane.metadata.namespace.clone());
        let of = (kind, namespace.clone(), plane.plane_id().to_owned());
        let names = self.counterparts.get(&of)?;
        let name = names.get(plane.name()).or_else(|| names.first())?.clone();
        Some(PlaneKey { kind, namespace, name })
    }

    /// Whether all planes of a kind are known.
    fn listed(&self, kind: Option<&Kind>) -> Result<(), Unavailable> {
        kind.and_then(|kind| self.unlisted.get(kind)).map_or(Ok(()), |why| Err(why.clone()))
    }

    /// Returns the first that exists of the observability planes that may be a plane's.
    fn observability(&self, plane: &Plane) -> Result<Option<PlaneKey>, Unavailable> {
        for key in plane.observability_planes() {
            match self.observability.get(&key) {
                Some(Ok(true)) => return Ok(Some(key)),
                Some(Err(why)) => return Err(why.clone()),
                Some(Ok(false)) | None => {}
            }
        }
        Ok(None)
    }

    /// What is known of one of the planes, but its events.
    pub fn facts(&self, plane: Plane) -> Facts {
        let gone = || ClientCa::unread(Unavailable::missing("it is gone"));
        let client_ca = self.cas.get(&CaPlace::of(&plane)).cloned().unwrap_or_else(gone);
        let (key, listed) = (plane.key(), self.listed(Some(plane.kind)));
        Facts {
            same_ca: self.neighbours.same_ca(&key, plane.plane_id(), &client_ca),
            client_ca,
            shares_plane_id_with: listed.map(|()| self.neighbours.sharing(&key, plane.plane_id())),
            other_scope: self.listed(plane.kind.other_scope()),
            counterpart: self.counterpart(&plane),
            observability_plane: self.observability(&plane),
            events: Ok(Vec::new()),
            remover: self.removers.get(plane.kind).copied().unwrap_or_default(),
            now: self.now,
            plane,
        }
    }
}

/// The facts of planes, with their events.
pub async fn facts(source: &impl Source, planes: Vec<Plane>, extent: &Extent) -> Vec<Facts> {
    let (surroundings, mut events) = tokio::join!(
        Surroundings::of(source, &planes, extent, Secrets::OfMeant),
        Events::about(source, planes.iter().map(Plane::key))
    );
    let with_events = |plane: Plane| {
        let events = events.take(&plane.key());
        Facts { events, ..surroundings.facts(plane) }
    };
    let facts: Vec<_> = planes.into_iter().map(with_events).collect();
    parse_all(facts.iter().map(|facts| &facts.client_ca));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Fake};
    use crate::estate::{Cause, Files};
    use crate::plane::{DEFAULT_KIND, Snapshot};
    use serde_json::{Value, json};

    fn plane(name: &str, plane_id: &str, client_ca: Value) -> Value {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name},
            "spec": {"planeID": plane_id, "clusterAgent": {"clientCA": client_ca}},
        })
    }

    fn secret(name: &str) -> Value {
        json!({"secretRef": {"namespace": "n", "name": name, "key": "ca.crt"}})
    }

    async fn listed(cluster: &Cluster) -> Vec<Plane> {
        cluster.planes(None).await.unwrap()
    }

    #[tokio::test]
    async fn no_plane_costs_a_request_of_its_own() {
        let all = (0..300).map(|number| plane(&format!("p{number}"), "id", json!({"value": "x"})));
        let fake = Fake::of(all);
        let cluster = fake.cluster();
        let planes = listed(&cluster).await;
        let before = fake.asked().len();
        let reported = facts(&cluster, planes, &Extent(vec![DEFAULT_KIND])).await;
        // Those of the other scope and of the later kind, the observability plane, and the events.
        assert_eq!((reported.len(), fake.asked().len() - before), (300, 4), "{:?}", fake.asked());
        assert_eq!(reported[7].shares_plane_id_with.as_ref().unwrap().few().total, 299);
        assert_eq!((&reported[7].observability_plane, &reported[7].events), (&Ok(None), &Ok(Vec::new())));
    }

    #[tokio::test]
    async fn the_secrets_of_planes_that_are_not_meant_are_read_only_where_that_matters() {
        let all = [plane("a", "id", secret("a")), plane("b", "id", secret("b")), plane("c", "other", secret("c"))];
        for (secrets, expected) in [(Secrets::OfMeant, vec!["a"]), (Secrets::OfTheirPlaneIds, vec!["a", "b"])] {
            let fake = Fake::of(all.clone());
            let cluster = fake.cluster();
            let mut planes = listed(&cluster).await;
            planes.truncate(1);
            let surroundings = Surroundings::of(&cluster, &planes, &Extent::default(), secrets).await;
            let asked = fake.asked();
            let mut read: Vec<_> = asked.iter().filter_map(|asked| asked.split("/secrets/").nth(1)).collect();
            read.sort_unstable();
            assert_eq!(read, expected);
            let reported = surroundings.facts(planes.remove(0));
            assert_eq!(reported.client_ca.text().unwrap_err().message, "Secret n/a does not exist");
            assert_eq!(reported.shares_plane_id_with.unwrap().names().collect::<Vec<_>>(), ["b"]);
        }
    }

    #[tokio::test]
    async fn one_who_may_not_list_planes_learns_of_the_ones_that_were_named() {
        let fake = Fake::of([plane("a", "id", json!({"value": "x"}))]);
        let cluster = fake.cluster();
        let planes = listed(&cluster).await;
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1/clusterbuildplanes?");
        let reported = facts(&cluster, planes, &Extent::default()).await.remove(0);
        assert_eq!(reported.shares_plane_id_with.unwrap_err().cause, Cause::Forbidden);
        assert_eq!((reported.client_ca.text(), reported.other_scope), (Ok("x"), Ok(())));
        let fake = Fake::of([plane("a", "id", json!({"value": "x"})), plane("b", "id", json!({"value": "y"}))]);
        let cluster = fake.cluster();
        let planes = listed(&cluster).await;
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1/buildplanes?");
        let reported = facts(&cluster, planes, &Extent::default()).await.remove(0);
        assert_eq!(reported.all_known().unwrap_err(), "BuildPlanes are unknown: not allowed: it is forbidden");
        assert_eq!(reported.shares_plane_id_with.unwrap().names().collect::<Vec<_>>(), ["b"]);
        assert_eq!(reported.other_scope.unwrap_err().cause, Cause::Forbidden);
    }

    #[tokio::test]
    async fn planes_of_both_scopes_and_all_namespaces_are_neighbours_within_a_plane_type() {
        let of = |kind: &str, namespace: Option<&str>| {
            let mut plane = plane("a", "id", json!({"value": "x"}));
            plane["kind"] = kind.into();
            if let Some(namespace) = namespace {
                plane["metadata"]["namespace"] = namespace.into();
            }
            plane
        };
        let all = [
            of("ClusterWorkflowPlane", None),
            of("WorkflowPlane", Some("one")),
            of("WorkflowPlane", Some("two")),
            of("ClusterDataPlane", None),
            of("DataPlane", Some("one")),
            of("ClusterBuildPlane", None),
        ];
        let fake = Fake::of(all.clone());
        let planes: Vec<Plane> = all.iter().map(|plane| serde_json::from_value(plane.clone()).unwrap()).collect();
        let snapshot = Snapshot::of_files(planes.clone(), Vec::new());
        let live = facts(&fake.cluster(), planes.clone(), &Extent::default()).await;
        for reported in [live, facts(&Files::control(&snapshot), planes, &Extent::default()).await] {
            let sharing = reported.iter().map(|facts| facts.shares_plane_id_with.as_ref().unwrap().names().collect());
            let expected =
                [vec!["one/a", "two/a"], vec!["a", "two/a"], vec!["a", "one/a"], vec!["one/a"], vec!["a"], vec![]];
            assert_eq!(sharing.collect::<Vec<Vec<_>>>(), expected);
            assert!(reported.iter().all(|facts| facts.other_scope == Ok(())));
        }
        // A kind that the server lacks has no planes, and that is known.
        fake.serve(&[DEFAULT_KIND]);
        let planes = listed(&fake.cluster()).await;
        let reported = facts(&fake.cluster(), planes, &Extent::default()).await.remove(0);
        assert_eq!((reported.shares_plane_id_with.unwrap().few().is_empty(), reported.other_scope), (true, Ok(())));
    }

    #[tokio::test]
    async fn the_counterpart_of_a_plane_has_its_plane_id_and_its_namespace() {
        let of = |kind: &str, namespace: Option<&str>, name: &str, plane_id: &str| {
            let mut plane = plane(name, plane_id, json!({"value": "x"}));
            (plane["kind"], plane["metadata"]["namespace"]) = (kind.into(), json!(namespace));
            plane
        };
        let all = [
            of("ClusterBuildPlane", None, "a", "id"),
            of("ClusterBuildPlane", None, "c", "id"),
            of("ClusterBuildPlane", None, "alone", "alone"),
            of("ClusterWorkflowPlane", None, "b", "id"),
            of("ClusterWorkflowPlane", None, "c", "id"),
            of("BuildPlane", Some("one"), "a", "id"),
            of("WorkflowPlane", Some("one"), "a", "id"),
            of("WorkflowPlane", Some("two"), "a", "id"),
            of("DataPlane", Some("one"), "a", "id"),
        ];
        let planes: Vec<Plane> = all.iter().map(|plane| serde_json::from_value(plane.clone()).unwrap()).collect();
        let fake = Fake::of(all);
        let reported = facts(&fake.cluster(), planes.clone(), &Extent::default()).await;
        let names = |reported: &[Facts]| {
            let name = |facts: &Facts| facts.counterpart.as_ref().map(PlaneKey::with_word).unwrap_or_default();
            reported.iter().map(name).collect::<Vec<_>>()
        };
        let one = ["workflowplane/one/a", "buildplane/one/a"];
        assert_eq!(names(&reported), ["cwp/b", "cwp/c", "", "cbp/a", "cbp/c", one[0], one[1], "", ""]);
        // Who may not list the others knows of none.
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1/clusterworkflowplanes?");
        let reported = facts(&fake.cluster(), planes[..1].to_vec(), &Extent::default()).await;
        assert_eq!((names(&reported), reported[0].all_known()), (vec![String::new()], Ok(())));
    }

    #[tokio::test]
    async fn a_namespaced_plane_may_have_an_observability_plane_of_either_scope() {
        let mut namespaced = plane("a", "id", json!({"value": "x"}));
        (namespaced["kind"], namespaced["metadata"]["namespace"]) = ("DataPlane".into(), "n".into());
        let observability = |kind: &str, namespace: Option<&str>, name: &str| json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        let found = async |reference: Value, other: Value| {
            let mut plane = namespaced.clone();
            plane["spec"]["observabilityPlaneRef"] = reference;
            let plane = serde_json::from_value(plane).unwrap();
            let reported = facts(&Fake::of([other]).cluster(), vec![plane], &Extent::default()).await.remove(0);
            reported.observability_plane.unwrap().map(|key| format!("{} {key}", key.kind.kind))
        };
        let (cluster, own) = ("ClusterObservabilityPlane", "ObservabilityPlane");
        let named = |kind: &str| json!({"kind": kind, "name": "o"});
        for (reference, other, expected) in [
            (Value::Null, observability(own, Some("n"), "default"), Some("ObservabilityPlane n/default")),
            (Value::Null, observability(cluster, None, "default"), Some("ClusterObservabilityPlane default")),
            (Value::Null, observability(own, Some("other"), "default"), None),
            (named(own), observability(own, Some("n"), "o"), Some("ObservabilityPlane n/o")),
            (named(own), observability(cluster, None, "o"), None),
            (named(cluster), observability(cluster, None, "o"), Some("ClusterObservabilityPlane o")),
        ] {
            assert_eq!(found(reference, other).await.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn a_plane_in_two_files_counts_once() {
        let planes = [plane("a", "id", json!({})), plane("b", "id", json!({})), plane("b", "id", json!({}))];
        let planes: Vec<Plane> = planes.map(|plane| serde_json::from_value(plane).unwrap()).into();
        let snapshot = Snapshot::of_files(planes.clone(), Vec::new());
        let reported = facts(&Files::control(&snapshot), planes, &Extent::default()).await;
        let others = |at: usize| reported[at].shares_plane_id_with.as_ref().unwrap().names().collect::<Vec<_>>();
        assert_eq!((others(0), others(1)), (vec!["b"], vec!["a"]));
    }
}
