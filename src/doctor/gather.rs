//! Gathering what a diagnosis looks at: everything around planes, in parallel, each part with its own error; what is the
//! same for many planes once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::case::{BuildCase, Case, Shared, is_lease_old};
use super::ground::Ground;
use super::reach::{AgentsIn, Gateways, Reach};
use crate::cluster::{Agent, Error, Target};
use crate::estate::{
    self, AT_ONCE, AgentFacts, CONTROLLER, Cause, Controller, Coverage, DeployedGateway, Extent, Facts, GatewayLog,
    Neighbours, Secrets, Source, Surroundings, Unavailable, grouped,
};
use crate::gateway::GatewayUrl;
use crate::plane::{Family, Kind, NamespacedName, Plane, PlaneKey, Scope, rotation_secret};
use crate::text::visible;

/// What was gathered of planes, and what they stand on.
pub struct Gathered {
    pub ground: Ground,
    pub cases: Vec<Case>,
}

impl Gathered {
    fn new(mut ground: Ground, cases: Vec<Case>) -> Self {
        ground.require(&cases);
        ground.build = cases.first().and_then(|case| case.shared.build_target.clone());
        Self { ground, cases }
    }
}

/// The agents of a family.
struct Agents {
    all: Vec<Arc<BuildCase>>,
    by_plane_id: HashMap<String, Vec<Arc<BuildCase>>>,
    /// Why none is said to be missing for sure.
    coverage: Coverage,
    namespace: String,
    family: &'static Family,
}

/// The planes' cluster, and where in it the agents are.
type Build<'r, S> = Option<(&'r S, AgentsIn<'r>)>;

/// Planes whose agents are in one cluster.
pub struct Group<'r, S> {
    /// That cluster, or why it can't be asked; none where it is unknown.
    pub build: Option<Result<(&'r S, AgentsIn<'r>), Unavailable>>,
    /// Where their agents reach the gateway, where that is known.
    pub gateway_url: Option<GatewayUrl>,
    pub planes: Vec<Plane>,
}

/// The agents of each family, by its plane type; none where no cluster was named.
type AllAgents = Option<HashMap<&'static str, Result<Agents, Unavailable>>>;
/// Something of a planeID, by its plane type, too.
type OfPlaneId<T> = HashMap<(&'static str, String), T>;

/// What the cases are made of, beside the facts of each plane.
struct Common {
    url: Option<GatewayUrl>,
    neighbours: Arc<Neighbours>,
    agents: AllAgents,
    /// Agents in all namespaces, where some plane's was not found.
    everywhere: Result<OfPlaneId<Vec<NamespacedName>>, Unavailable>,
    /// Whether the Secret of an unfinished rotation is there.
    staged: OfPlaneId<Result<bool, Unavailable>>,
    gateways: Arc<Gateways>,
    shared: Arc<Shared>,
}

/// What there is to know of planes, whose agents are in one cluster.
pub async fn gather<S: Source>(reach: &Reach<'_, S>, planes: Vec<Plane>, extent: &Extent) -> Gathered {
    gather_groups(reach, vec![Group { build: reach.build.map(Ok), gateway_url: None, planes }], extent).await
}

/// The same of planes whose agents are in several clusters. The control plane is asked once for all of them, and a cluster
/// that does not answer hides only its own agents.
pub async fn gather_groups<S: Source>(reach: &Reach<'_, S>, groups: Vec<Group<'_, S>>, extent: &Extent) -> Gathered {
    let (control, namespace) = (reach.control, reach.control_namespace);
    let (mut builds, mut urls, mut planes) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        builds.push(group.build);
        urls.push(group.gateway_url);
        planes.push(group.planes);
    }
    let mut end = 0;
    let ranges: Vec<_> = planes
        .iter()
        .map(|planes| {
            end += planes.len();
            end - planes.len()..end
        })
        .collect();
    let planes = planes.concat();
    // The status of a namespaced plane counts its own agents.
    let needs_log = planes.iter().any(|plane| plane.kind.scope == Scope::Cluster);
    let of_groups = builds.iter().zip(&ranges).map(async |(build, range)| {
        let families = families(planes[range.clone()].iter().map(|plane| plane.kind));
        match build {
            Some(Err(why)) => Some(families.iter().map(|family| (family.plane_type, Err(why.clone()))).collect()),
            Some(Ok(build)) => {
                let found = agents(Some(*build), families.clone());
                let Some(bound) = reach.bound else {
                    return found.await;
                };
                let late = |_| {
                    let title = build.0.target().map(Target::title).unwrap_or_default();
                    let why = Unavailable::new(
                        Cause::Unknown,
                        format!("{title} did not answer within {} s", bound.as_secs()),
                    );
                    Some(families.iter().map(|family| (family.plane_type, Err(why.clone()))).collect())
                };
                tokio::time::timeout(bound, found).await.unwrap_or_else(late)
            }
            None => None,
        }
    });
    let (ground, surroundings, gateway_ca, lease, gateway, controller, agents) = tokio::join!(
        Ground::of(control, &reach.kinds),
        Surroundings::of(control, &planes, extent, Secrets::OfTheirPlaneIds),
        estate::gateway_ca(control, namespace),
        estate::lease(control, namespace),
        gateway(control, namespace, needs_log),
        Controller::of(control, namespace),
        join_all(of_groups),
    );
    let (deployed, gateway_log) = gateway;
    let is_going = |plane: &Plane| plane.metadata.deletion_timestamp.is_some();
    let (mut idle_gateway, mut idle_controller, mut running) = (None, None, None);
    if let Ok(Some(gateway)) = &deployed
        && gateway.ready.is_empty()
    {
        idle_gateway = estate::scaled_to_zero(control, namespace, &gateway.selector).await;
    }
    if is_lease_old(&lease, control.now()) {
        idle_controller = estate::scaled_to_zero(control, namespace, CONTROLLER).await;
    }
    let builds: Vec<_> = builds.into_iter().map(|build| build.and_then(Result::ok)).collect();
    let looked = builds.iter().zip(&agents).zip(&ranges).map(async |((build, agents), range)| {
        let (agents, planes) = (agents.as_ref(), &planes[range.clone()]);
        let everywhere = everywhere(control, *build, agents, planes).await;
        (everywhere, staged(*build, agents, &surroundings.neighbours, planes).await)
    });
    let looked = join_all(looked).await;
    let has_going = planes.iter().any(is_going);
    let facts: Vec<_> = planes.into_iter().map(|plane| surroundings.facts(plane)).collect();
    if has_going || facts.iter().any(|facts| facts.counterpart.is_some()) {
        running = estate::running_release(control, namespace).await;
    }
    let (neighbours, gateways) = (Arc::new(surroundings.neighbours), Arc::new(Gateways::default()));
    let (mut facts, mut all) = (facts.into_iter(), Vec::new());
    for ((((build, url), agents), range), ((everywhere, is_one_cluster), staged)) in
        builds.into_iter().zip(urls).zip(agents).zip(ranges).zip(looked)
    {
        let unread = Shared::unread(reach, build, agents.as_ref(), &Unavailable::not_in_files("it was not read"));
        let shared = Arc::new(Shared {
            gateway_ca: gateway_ca.clone(),
            lease: lease.clone(),
            controller: controller.clone(),
            deployed: deployed.clone(),
            gateway_log: gateway_log.clone(),
            idle_gateway: idle_gateway.clone(),
            idle_controller: idle_controller.clone(),
            running,
            is_one_cluster,
            ..unread
        });
        let (neighbours, gateways) = (neighbours.clone(), gateways.clone());
        let common = Common { url, neighbours, agents, everywhere, staged, gateways, shared };
        all.push((common, facts.by_ref().take(range.len()).collect::<Vec<_>>()));
    }
    let cases = all.into_iter().map(async |(common, facts)| {
        let cases = stream::iter(facts).map(|facts| common.case(reach, facts)).buffered(AT_ONCE);
        cases.collect::<Vec<_>>().await
    });
    Gathered::new(ground, join_all(cases).await.into_iter().flatten().collect())
}

/// The gateway as the cluster runs it, and what its logs report, where that is needed.
async fn gateway(
    control: &impl Source,
    namespace: &str,
    needs_log: bool,
) -> (Result<Option<DeployedGateway>, Unavailable>, Result<GatewayLog, Unavailable>) {
    let deployed = DeployedGateway::of(control, namespace).await;
    let log = match &deployed {
        Ok(Some(gateway)) if needs_log => GatewayLog::of(control, namespace, gateway).await,
        _ => Ok(GatewayLog::default()),
    };
    (deployed, log)
}

/// What the planes' cluster has of planes where the control plane says nothing of them. Without names those of its agents'
/// planeIDs are meant.
pub async fn gather_without_control<S: Source>(reach: &Reach<'_, S>, named: &[PlaneKey], error: &Error) -> Gathered {
    let why = &Unavailable::from(error);
    let build = reach.build;
    let agents = agents(build, families(reach.kinds.iter().copied())).await;
    let kind = reach.kinds.first().copied().unwrap_or_default();
    let planes: Vec<_> = if named.is_empty() {
        let known = agents.iter().flat_map(HashMap::values).filter_map(|agents| agents.as_ref().ok());
        let of_family = |agents: &Agents| {
            let kind = reach.kinds.iter().copied().find(|kind| kind.family == agents.family).unwrap_or(kind);
            let ids = agents.all.iter().filter_map(|build| build.agent.agent.plane_id.clone());
            ids.map(|id| Plane::new(kind, &id)).collect::<Vec<_>>()
        };
        known.flat_map(of_family).collect()
    } else {
        let plane = |key: &PlaneKey| {
            let mut plane = Plane::new(key.kind, &key.name);
            plane.metadata.namespace.clone_from(&key.namespace);
            plane
        };
        named.iter().map(plane).collect()
    };
    let (neighbours, gateways) = (Arc::new(Neighbours::new([])), Arc::default());
    let staged = staged(build, agents.as_ref(), &neighbours, &planes).await;
    let shared = Arc::new(Shared::unread(reach, build, agents.as_ref(), why));
    let everywhere = Ok(HashMap::new());
    let common = &Common { url: None, neighbours, agents, everywhere, staged, gateways, shared };
    let cases = stream::iter(planes).map(async |plane| {
        let facts = Facts::unread(plane, why, Timestamp::now());
        Case { plane: Err(why.clone()), ..common.case(reach, facts).await }
    });
    let cases = cases.buffered(AT_ONCE).collect().await;
    Gathered::new(Ground::without(reach.control, &reach.kinds, why).await, cases)
}

/// The families of kinds, each once.
fn families(kinds: impl Iterator<Item = &'static Kind>) -> Vec<&'static Family> {
    let mut families: Vec<_> = kinds.map(|kind| kind.family).collect();
    families.sort_by_key(|family| family.plane_type);
    families.dedup();
    families
}

impl Shared {
    /// Of a control plane of which nothing is read.
    fn unread<S: Source>(
        reach: &Reach<'_, S>,
        build: Build<'_, S>,
        agents: Option<&HashMap<&'static str, Result<Agents, Unavailable>>>,
        why: &Unavailable,
    ) -> Self {
        Self {
            gateway_ca: Err(why.clone()),
            lease: Err(why.clone()),
            idle_gateway: None,
            idle_controller: None,
            running: None,
            controller: Err(why.clone()),
            deployed: Err(why.clone()),
            gateway_log: Err(why.clone()),
            has_agents: agents.into_iter().flat_map(HashMap::values).flatten().any(|agents| !agents.all.is_empty()),
            is_one_cluster: false,
            is_named: reach.named,
            soon: reach.soon,
            is_of_files: reach.control.target().is_none(),
            control: reach.control.target().cloned().unwrap_or_default(),
            control_namespace: reach.control_namespace.to_owned(),
            build_target: build.and_then(|(build, _)| build.target().cloned()),
            build_namespace: match build {
                Some((_, AgentsIn::Named(namespace))) => Some(namespace.to_owned()),
                _ => None,
            },
        }
    }
}

impl Common {
    async fn case<S: Source>(&self, reach: &Reach<'_, S>, facts: Facts) -> Case {
        let plane = &facts.plane;
        let (id, plane_type) = (plane.plane_id(), plane.kind.family.plane_type);
        let agents = self.agents.as_ref().and_then(|agents| agents.get(plane_type));
        let build = agents.map(|agents| agents.as_ref().map_err(Clone::clone)?.meant(id, &self.neighbours));
        let known = build.as_ref().and_then(|build| build.as_deref().ok());
        let of_id = &(plane_type, id.to_owned());
        let elsewhere = self.everywhere.as_ref().map(|agents| agents.get(of_id).cloned().unwrap_or_default());
        Case {
            plane: Ok(()),
            rivals: self.neighbours.rivals(&plane.key(), id, &facts.client_ca),
            elsewhere: elsewhere.map_err(Clone::clone),
            staged: self.staged.get(of_id).cloned(),
            gateway: self.gateways.ask(reach, self.url.as_ref(), plane, known, &self.shared).await,
            shared: self.shared.clone(),
            build,
            facts,
        }
    }
}

impl Agents {
    /// The agent that is meant for a planeID: one that runs as another, where it is the only one and no other plane's.
    fn meant(&self, plane_id: &str, neighbours: &Neighbours) -> Result<Arc<BuildCase>, Unavailable> {
        let ours = self.by_plane_id.get(plane_id).map(Vec::as_slice).unwrap_or_default();
        let id = |build: &BuildCase| build.agent.agent.plane_id.clone();
        let is_free =
            |build: &BuildCase| id(build).is_none_or(|id| !neighbours.has_plane_id(self.family.plane_type, &id));
        match (ours, self.all.as_slice()) {
            ([one], _) => Ok(one.clone()),
            ([], [only]) if is_free(only) => Ok(only.clone()),
            ([], _) if self.coverage == Coverage::Part => Err(Unavailable::not_in_files(format!(
                "an agent of planeID {plane_id} in the namespace {} is not in the files",
                self.namespace
            ))),
            ([], all) => Err(Unavailable::from(&Error::NoAgent {
                namespace: self.namespace.clone(),
                plane_id: Some(plane_id.to_owned()),
                there: all.iter().filter_map(|build| id(build)).collect(),
                command: String::new(),
            })),
            (several, _) => {
                let names = several.iter().map(|build| build.agent.agent.name.to_string());
                let names = names.map(|name| visible(&name).into_owned()).collect();
                Err(Unavailable::from(&Error::SeveralAgents { names }))
            }
        }
    }
}

/// The agents of families, where their cluster was named. In one namespace there may be agents of several families.
async fn agents<S: Source>(build: Build<'_, S>, families: Vec<&'static Family>) -> AllAgents {
    let (source, agents_in) = build?;
    let of_family = async |family: &'static Family| {
        let namespace = agents_in.namespace(family);
        let mut agents = match estate::deployed(source, namespace).await {
            Ok(agents) => agents,
            Err(why) => return (family.plane_type, Err(why)),
        };
        agents.retain(|agent| agent.may_be_of(family));
        let cases = stream::iter(agents).map(async |agent| Arc::new(build_case(source, agent).await));
        let all: Vec<_> = cases.buffered(AT_ONCE).collect().await;
        let by_plane_id =
            grouped(all.iter().filter_map(|build| Some((build.agent.agent.plane_id.clone()?, build.clone()))));
        let namespace = namespace.unwrap_or_default().to_owned();
        (family.plane_type, Ok(Agents { all, by_plane_id, coverage: source.coverage(), namespace, family }))
    };
    Some(join_all(families.into_iter().map(of_family)).await.into_iter().collect())
}

async fn build_case(source: &impl Source, agent: Agent) -> BuildCase {
    let agent = AgentFacts::of(source, agent).await;
    let (server_ca, log) = tokio::join!(estate::server_ca(source, &agent.agent), estate::log(source, &agent));
    BuildCase { agent, server_ca, log }
}

/// Where a family's namespace lacks a plane's agent: the agents of all namespaces of the planes' cluster, and whether that is
/// the control plane's own.
async fn everywhere<S: Source>(
    control: &S,
    build: Build<'_, S>,
    agents: Option<&HashMap<&'static str, Result<Agents, Unavailable>>>,
    planes: &[Plane],
) -> (Result<OfPlaneId<Vec<NamespacedName>>, Unavailable>, bool) {
    let (Some((build, _)), Some(agents)) = (build, agents) else {
        return (Ok(HashMap::new()), false);
    };
    let lacks = |plane: &Plane| {
        let known = agents.get(plane.kind.family.plane_type);
        known.is_some_and(|known| known.as_ref().is_ok_and(|known| !known.by_plane_id.contains_key(plane.plane_id())))
    };
    let lacking = families(planes.iter().filter(|plane| lacks(plane)).map(|plane| plane.kind));
    if lacking.is_empty() {
        return (Ok(HashMap::new()), false);
    }
    let (agents, one, other) = tokio::join!(estate::deployed(build, None), control.identity(), build.identity());
    let by_plane_id = |agents: Vec<Agent>| {
        grouped(agents.into_iter().flat_map(|agent| {
            let of = lacking.iter().filter(|family| agent.may_be_of(family)).collect::<Vec<_>>();
            let of = of.into_iter().filter_map(|family| Some((family.plane_type, agent.plane_id.clone()?)));
            of.map(|id| (id, agent.name.clone())).collect::<Vec<_>>()
        }))
    };
    (agents.map(by_plane_id), one.is_some() && one == other)
}

/// Whether Secrets of unfinished rotations are there, for the planeIDs that have an agent.
async fn staged<S: Source>(
    build: Build<'_, S>,
    agents: Option<&HashMap<&'static str, Result<Agents, Unavailable>>>,
    neighbours: &Neighbours,
    planes: &[Plane],
) -> OfPlaneId<Result<bool, Unavailable>> {
    let (Some((build, _)), Some(agents)) = (build, agents) else {
        return HashMap::new();
    };
    let ids: BTreeSet<_> = planes.iter().map(|plane| (plane.kind.family.plane_type, plane.plane_id())).collect();
    let found = ids.into_iter().filter_map(|(plane_type, id)| {
        let agents = agents.get(plane_type)?.as_ref().ok()?;
        let agent = agents.meant(id, neighbours).ok()?;
        Some((plane_type, rotation_secret(&agent.agent.agent.name.namespace, agents.family, id), id))
    });
    let looked = stream::iter(found).map(async |(plane_type, secret, id)| {
        let secret = estate::secret(build, &secret).await;
        ((plane_type, id.to_owned()), secret.map(|secret| secret.is_some()))
    });
    looked.buffer_unordered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Fake};
    use crate::pki::Remaining;
    use crate::plane::{DEFAULT_KIND, Span};
    use serde_json::{Value, json};

    fn plane(name: &str, plane_id: &str) -> Value {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name},
            "spec": {"planeID": plane_id, "clusterAgent": {"clientCA": {"value": "x"}}},
        })
    }

    fn agent(namespace: &str, name: &str, plane_id: &str) -> Value {
        let labels = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
        let container = json!({"name": "agent", "args": [format!("--plane-id={plane_id}")]});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}},
        })
    }

    fn reach<'r>(control: &'r Cluster, build: Option<&'r Cluster>) -> Reach<'r, Cluster> {
        Reach {
            control,
            control_namespace: "control",
            kinds: vec![DEFAULT_KIND],
            build: build.map(|build| (build, AgentsIn::Named("n"))),
            named: false,
            soon: Remaining::Span(Span::default()),
            gateway: None,
            bound: None,
        }
    }

    /// What is found for each plane: its agent, or why there is none; and agents elsewhere.
    async fn found(planes: &[Value], agents: &[Value]) -> Vec<(String, usize)> {
        let (control, build) = (Fake::of(planes.to_vec()).cluster(), Fake::of(agents.to_vec()).cluster());
        let planes = control.planes(None).await.unwrap();
        let gathered = gather(&reach(&control, Some(&build)), planes, &Extent(vec![DEFAULT_KIND])).await;
        let reported = |case: &Case| match case.build.as_ref().unwrap() {
            Ok(build) => (build.agent.agent.name.name.clone(), 0),
            Err(why) => (why.message.clone(), case.elsewhere.as_ref().unwrap().len()),
        };
        gathered.cases.iter().map(reported).collect()
    }

    #[tokio::test]
    async fn no_plane_costs_a_request_of_its_own() {
        let counts = async |planes: usize| {
            let fake = Fake::of((0..planes).map(|number| plane(&format!("p{number}"), "id")));
            let (control, build) = (fake.cluster(), Fake::of([agent("n", "a", "id")]));
            let planes = control.planes(None).await.unwrap();
            let gathered = gather(&reach(&control, Some(&build.cluster())), planes, &Extent(vec![DEFAULT_KIND])).await;
            assert!(gathered.cases.iter().all(|case| Arc::ptr_eq(&case.shared, &gathered.cases[0].shared)));
            (fake.asked().len(), build.asked().len())
        };
        assert_eq!(counts(1).await, counts(200).await);
    }

    #[tokio::test]
    async fn the_agent_of_a_plane_is_the_one_of_its_plane_id() {
        let planes = [plane("x", "x"), plane("y", "y")];
        let reported = found(&planes, &[agent("n", "a", "x"), agent("n", "b", "y")]).await;
        assert_eq!(reported, [("a".into(), 0), ("b".into(), 0)]);
        // One of another planeID is meant only where it is nobody else's, and alone.
        let gone = |id: &str| format!("there is no agent of planeID {id} in the namespace n");
        assert_eq!(found(&planes, &[agent("n", "a", "x")]).await[1], (gone("y"), 0));
        assert_eq!(found(&planes[1..], &[agent("n", "a", "default")]).await, [("a".into(), 0)]);
        let reported = found(&planes[1..], &[agent("n", "a", "default"), agent("n", "b", "default")]).await;
        assert_eq!(reported, [(gone("y"), 0)]);
        let reported = found(&planes[..1], &[agent("n", "a", "x"), agent("n", "b", "x")]).await;
        assert_eq!(reported, [("there are several agents: n/a, n/b".into(), 0)]);
        assert_eq!(found(&planes[..1], &[agent("o", "a", "x")]).await, [(gone("x"), 1)], "it is elsewhere");
    }

    #[tokio::test]
    async fn agents_of_several_families_in_one_namespace_are_distinguished() {
        let of = |kind: &str, namespace: Option<&str>| {
            let mut plane = plane("x", "x");
            plane["kind"] = kind.into();
            if let Some(namespace) = namespace {
                plane["metadata"]["namespace"] = namespace.into();
            }
            plane
        };
        let planes = [
            of("ClusterWorkflowPlane", None),
            of("WorkflowPlane", Some("t")),
            of("ClusterDataPlane", None),
            of("ClusterObservabilityPlane", None),
        ];
        let typed = |name: &str, plane_type: &str| {
            let mut agent = agent("n", name, "x");
            let args = agent["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
            args.push(format!("--plane-type={plane_type}").into());
            agent
        };
        let agents = [typed("w", "workflowplane"), typed("d", "dataplane")];
        let (control, build) = (Fake::of(planes.clone()).cluster(), Fake::of(agents).cluster());
        let planes: Vec<Plane> = planes.into_iter().map(|plane| serde_json::from_value(plane).unwrap()).collect();
        let gathered = gather(&reach(&control, Some(&build)), planes, &Extent::default()).await;
        let found: Vec<_> = gathered
            .cases
            .iter()
            .map(|case| case.agent().map_or("none".to_owned(), |agent| agent.agent.name.name.clone()))
            .collect();
        assert_eq!(found, ["w", "w", "d", "none"]);
        let why = gathered.cases[3].build.as_ref().unwrap().as_ref().err().unwrap();
        assert_eq!(why.message, "there is no agent of planeID x in the namespace n");
        assert!(gathered.cases[3].elsewhere.as_ref().unwrap().is_empty());
    }

    #[tokio::test]
    async fn each_family_has_a_namespace_of_its_own_where_none_is_named() {
        let mut data = plane("x", "x");
        data["kind"] = "ClusterDataPlane".into();
        let planes = [plane("x", "x"), data];
        let agents = [agent("openchoreo-build-plane", "b", "x"), agent("openchoreo-data-plane", "d", "x")];
        let (control, build) = (Fake::of(planes.clone()).cluster(), Fake::of(agents).cluster());
        let planes = planes.map(|plane| serde_json::from_value(plane).unwrap()).to_vec();
        let reach = Reach { build: Some((&build, AgentsIn::Default(None))), ..reach(&control, None) };
        let gathered = gather(&reach, planes, &Extent::default()).await;
        let found: Vec<_> = gathered.cases.iter().map(|case| case.agent().unwrap().agent.name.name.as_str()).collect();
        assert_eq!(found, ["b", "d"]);
    }

    #[tokio::test]
    async fn the_build_cluster_is_looked_at_without_the_control_plane() {
        let (control, build) = (Fake::default().cluster(), Fake::of([agent("n", "a", "x")]).cluster());
        let error = Error::Busy { server: "s".into(), wait: std::time::Duration::from_secs(9) };
        let gathered = gather_without_control(&reach(&control, Some(&build)), &[], &error).await;
        let case = &gathered.cases[0];
        assert_eq!((case.facts.plane.name(), case.plane.is_err()), ("x", true));
        assert_eq!(case.agent().unwrap().agent.name.name, "a");
        assert!(gathered.ground.api_server.is_err() && gathered.ground.no_crd().is_some());
        let key = PlaneKey { kind: Kind::of_word("dp").unwrap(), namespace: Some("t".into()), name: "x".into() };
        let reach = Reach { kinds: vec![key.kind], ..reach(&control, Some(&build)) };
        let gathered = gather_without_control(&reach, std::slice::from_ref(&key), &error).await;
        let case = &gathered.cases[0];
        assert_eq!((case.facts.plane.key(), case.agent().unwrap().agent.name.name.as_str()), (key, "a"));
    }
}
