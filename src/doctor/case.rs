//! What a diagnosis looks at: everything around one plane, gathered once and in parallel, each part with its own error.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::agents::{AgentFacts, Pair, Running};
use super::dump::{Absent, dumped_build_namespace, dumped_namespace, tells_of_build};
use super::facts::{Facts, facts_of_files};
use super::ground::{Gathered, Ground};
use super::issuance::Issuance;
use super::neighbours::Neighbours;
use crate::cluster::{Agent, AgentPod, Cluster, Error, ServicePods, StoredSecret, Target, agents_of, pods_of};
use crate::estate::{AT_ONCE, CaPlace, Cause, ClientCa, Files, Unavailable, client_cas};
use crate::gateway::{Counted, GatewayUrl, Identity, ProbeError, Question, Reply, count, presented, probe};
use crate::pki::{Certificate, LEAF_PRIVATE_KEY, PrivateKey, Remaining, Verdict};
use crate::plane::{
    CA_KEY, CLUSTER_BUILD_PLANE, KEY_FITS, LOG, NamespacedName, Plane, PlaneKey, Side, Snapshot, rotation_secret,
};

/// The gateway's CA: a Secret in the control plane's namespace, and a ConfigMap of the same name in the agent's.
pub const GATEWAY_CA: &str = "cluster-gateway-ca";
/// The gateway's Service in the control plane's namespace.
pub(super) const GATEWAY_SERVICE: &str = "cluster-gateway";
/// The controller's leader election.
pub(super) const LEASE: &str = "43500532.openchoreo.dev";

/// The namespaced kind, which the gateway judges like the others.
pub(super) const BUILD_PLANE: &str = "BuildPlane";

/// How many of an agent's pods are asked for their logs.
const LOGS: usize = 3;

/// Where a diagnosis may look.
pub struct Reach<'r> {
    pub control: &'r Cluster,
    pub control_namespace: &'r str,
    /// The build cluster, and the agent's namespace in it.
    pub build: Option<(&'r Cluster, &'r str)>,
    /// Whether the planes were named one by one, so that each is to have its agent there.
    pub named: bool,
    /// Where the gateway is, where that isn't to be read out of the agent's arguments.
    pub gateway_url: Option<&'r GatewayUrl>,
    /// What is presented to the gateway instead of what the agent's Secret holds.
    pub identity: Option<(Vec<Vec<u8>>, String)>,
    /// Longest time for the gateway's answer.
    pub limit: Duration,
    /// What is told of as ending soon.
    pub soon: Remaining,
    pub gateway: Gateway,
}

/// What a diagnosis wants of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Its word on the agent's certificate.
    Word,
    /// Its own certificate.
    Certificate,
}

/// All that a diagnosis knows of one plane.
pub struct Case {
    /// Whether the plane itself could be read.
    pub plane: Result<(), Unavailable>,
    pub facts: Facts,
    /// Planes of the same planeID whose CA lets in other agents.
    pub rivals: Vec<String>,
    /// Namespaced BuildPlanes of the same planeID.
    pub build_planes: Result<Vec<String>, Unavailable>,
    pub gateway_ca: Result<String, Unavailable>,
    /// When the controller last renewed its lease; none where there is no lease.
    pub lease: Result<Option<Timestamp>, Unavailable>,
    /// The gateway's pods; none where it has no Service here.
    pub gateway_pods: Result<Option<ServicePods>, Unavailable>,
    /// The build cluster's side; none where none was named.
    pub build: Option<Result<Arc<BuildCase>, Unavailable>>,
    /// Whether an agent, of whatever planeID, was found there at all.
    pub has_agents: bool,
    /// Agents of the planeID in other namespaces there.
    pub elsewhere: Result<Vec<NamespacedName>, Unavailable>,
    /// Whether that cluster is the control plane's own.
    pub is_one_cluster: bool,
    /// Whether the plane was asked for by its name.
    pub is_named: bool,
    /// Whether the Secret of an unfinished rotation is there; none where it was not looked for.
    pub staged: Option<Result<bool, Unavailable>>,
    /// The gateway's word; none where it was not asked.
    pub probe: Option<Result<Reply, Arc<ProbeError>>>,
    /// Whether a certificate was shown to it.
    pub presented: bool,
    /// The agents that it has for this plane; none where it doesn't tell.
    pub counted: Option<Counted>,
    pub gateway_url: Option<GatewayUrl>,
    /// The gateway's own certificate.
    pub gateway_certificate: Option<Certificate>,
    pub soon: Remaining,
    /// Where it was looked, for hints.
    pub control: Target,
    pub control_namespace: String,
    pub build_target: Option<Target>,
    pub build_namespace: String,
}

/// What a diagnosis knows of the build cluster.
pub struct BuildCase {
    pub agent: AgentFacts,
    /// The CA that the agent verifies the gateway against.
    pub server_ca: Result<String, Unavailable>,
    /// The end of its pods' logs.
    pub log: Result<String, Unavailable>,
}

/// What is looked up once for all planes.
struct Common {
    neighbours: Neighbours,
    /// The planeID and the name of each namespaced BuildPlane.
    build_planes: Result<Vec<(String, String)>, Unavailable>,
    gateway_ca: Result<String, Unavailable>,
    lease: Result<Option<Timestamp>, Unavailable>,
    gateway_pods: Result<Option<ServicePods>, Unavailable>,
    /// The agents of the build cluster; none where none was named.
    build: Option<Result<Vec<Arc<BuildCase>>, Unavailable>>,
    /// The agents of all its namespaces, where some plane's was not found.
    everywhere: Result<Vec<Agent>, Unavailable>,
    is_one_cluster: bool,
    heard: Mutex<BTreeMap<String, Once>>,
}

/// What a gateway needs to be asked only once, by its URL: each of many planes would wait for it again.
#[derive(Clone, Default)]
struct Once {
    /// Why it can't be reached.
    away: Option<Arc<ProbeError>>,
    /// Its own certificate, once it was looked at.
    certificate: Option<Option<Certificate>>,
}

impl Common {
    /// Of a control plane that tells nothing.
    async fn without_control(reach: &Reach<'_>, problem: &Unavailable) -> Self {
        Self {
            neighbours: Neighbours::new(std::iter::empty()),
            build_planes: Err(problem.clone()),
            gateway_ca: Err(problem.clone()),
            lease: Err(problem.clone()),
            gateway_pods: Err(problem.clone()),
            build: build_cases(reach).await,
            everywhere: Ok(Vec::new()),
            is_one_cluster: false,
            heard: Mutex::default(),
        }
    }

    /// What is known of a gateway from the planes before.
    fn heard(&self, url: &GatewayUrl) -> Once {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&url.to_string()).cloned().unwrap_or_default()
    }

    fn hear(&self, url: &GatewayUrl, change: impl FnOnce(&mut Once)) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        change(heard.entry(url.to_string()).or_default());
    }
}

/// What there is to know of planes in a cluster; `whole` says that these are all that there are.
pub async fn gather(reach: &Reach<'_>, planes: Vec<Plane>, whole: bool) -> Gathered {
    let ca = NamespacedName { namespace: reach.control_namespace.into(), name: GATEWAY_CA.into() };
    let service = NamespacedName { namespace: reach.control_namespace.into(), name: GATEWAY_SERVICE.into() };
    let keys = [CA_KEY];
    let (ground, all, gateway_ca, lease, build_planes, gateway_pods, build) = tokio::join!(
        Ground::of(reach.control),
        async { if whole { Ok(planes.clone()) } else { reach.control.planes::<Plane>(None).await } },
        reach.control.secret_keys(&ca, &keys),
        reach.control.lease(reach.control_namespace, LEASE),
        reach.control.build_planes(),
        reach.control.service_pods(&service),
        build_cases(reach),
    );
    let listed = all.as_ref().map(drop).map_err(Unavailable::from);
    // Who may read some planes and not list them knows of these.
    let mut all = all.unwrap_or_else(|_| planes.clone());
    // A Secret is read only for those that are looked at, and for those of their planeIDs.
    let ids: BTreeSet<_> = planes.iter().map(Plane::plane_id).collect();
    all.retain(|plane| ids.contains(plane.plane_id()) || matches!(CaPlace::of(plane), CaPlace::Value(_)));
    let cas = client_cas(reach.control, &all).await;
    let (everywhere, is_one_cluster) = elsewhere(reach, build.as_ref(), &planes).await;
    let common = Common {
        neighbours: Neighbours::new(all.iter().zip(&cas)),
        build_planes: build_planes
            .map(|planes| planes.iter().map(by_plane_id).collect())
            .map_err(|error| Unavailable::from(&error)),
        gateway_ca: gateway_ca
            .map(|bytes| String::from_utf8_lossy(&bytes.concat()).into_owned())
            .map_err(|error| Unavailable::from(&error)),
        lease: lease.map_err(|error| Unavailable::from(&error)),
        gateway_pods: gateway_pods.map_err(|error| Unavailable::from(&error)),
        everywhere,
        is_one_cluster,
        build,
        heard: Mutex::default(),
    };
    let cas: HashMap<_, _> = all.iter().map(|plane| plane.name().to_owned()).zip(cas).collect();
    let wanted: BTreeSet<_> = planes.iter().map(|plane| plane.observability_plane().to_owned()).collect();
    let looked = stream::iter(wanted).map(|name| async move {
        let exists = reach.control.has_observability_plane(&name).await.map_err(|error| Unavailable::from(&error));
        (name, exists)
    });
    let observability: HashMap<_, _> = looked.buffer_unordered(AT_ONCE).collect().await;
    let now = reach.control.now();
    let gone = || Unavailable::missing("it is gone");
    let facts = planes.into_iter().map(|plane| {
        let client_ca = cas.get(plane.name()).cloned().unwrap_or_else(|| ClientCa::unread(gone()));
        Facts {
            same_ca: common.neighbours.same_ca(&plane, &client_ca),
            client_ca,
            shares_plane_id_with: listed.clone().map(|()| common.neighbours.sharing(&plane)),
            observability_exists: observability.get(plane.observability_plane()).cloned().unwrap_or(Ok(false)),
            // No check needs them.
            events: Ok(Vec::new()),
            now,
            plane,
        }
    });
    let gathered = stream::iter(facts.collect::<Vec<_>>()).map(|facts| case(reach, facts, &common));
    Gathered::new(ground, gathered.buffered(AT_ONCE).collect().await)
}

/// The planeID of a BuildPlane, and its name.
fn by_plane_id(plane: &Plane) -> (String, String) {
    let namespace = plane.metadata.namespace.as_deref().unwrap_or_default();
    (plane.plane_id().to_owned(), format!("{namespace}/{}", plane.name()))
}

/// What the build cluster tells of planes where the control plane tells of none. Without names those of its agents' planeIDs
/// are meant.
pub async fn gather_without_control(reach: &Reach<'_>, names: &[String], error: &Error) -> Gathered {
    let problem = Unavailable::from(error);
    let common = Common::without_control(reach, &problem).await;
    let mut names = names.to_vec();
    if names.is_empty() {
        let agents = common.build.as_ref().and_then(|build| build.as_ref().ok()).into_iter().flatten();
        names = agents.filter_map(|build| build.agent.agent.plane_id.clone()).collect();
    }
    let (common, problem) = (&common, &problem);
    let gathered = stream::iter(names).map(async |name| {
        let mut plane = Plane::default();
        plane.metadata.name = Some(name);
        let facts = Facts::unread(plane, problem, Timestamp::now());
        Case { plane: Err(problem.clone()), ..case(reach, facts, common).await }
    });
    let cases = gathered.buffered(AT_ONCE).collect().await;
    Gathered::new(Ground::without(reach.control, error).await, cases)
}

/// Those of BuildPlanes that have a plane's planeID.
fn of_plane_id(build_planes: &[(String, String)], plane: &Plane) -> Vec<String> {
    build_planes.iter().filter(|(id, _)| id == plane.plane_id()).map(|(_, name)| name.clone()).collect()
}

async fn case(reach: &Reach<'_>, facts: Facts, common: &Common) -> Case {
    let plane = &facts.plane;
    let build = common.build.as_ref().map(|build| match build {
        Ok(agents) => meant(reach, agents, plane.plane_id(), &common.neighbours),
        Err(problem) => Err(problem.clone()),
    });
    let has_agents = common.build.as_ref().is_some_and(|build| build.as_ref().is_ok_and(|agents| !agents.is_empty()));
    let rivals = common.neighbours.rivals(plane, &facts.client_ca);
    let id = plane.plane_id();
    let staged = match (reach.build, &build) {
        (Some((cluster, namespace)), Some(Ok(_))) => {
            let found = cluster.secret(&rotation_secret(namespace, id)).await;
            Some(found.map(|found| found.is_some()).map_err(|error| Unavailable::from(&error)))
        }
        _ => None,
    };
    let elsewhere = common.everywhere.as_ref().map(|agents| of_id(agents, id)).map_err(Unavailable::clone);
    let known = build.as_ref().and_then(|build| build.as_deref().ok());
    let gateway = Heard::of(reach, plane, known, common).await;
    Case {
        plane: Ok(()),
        rivals,
        build_planes: common.build_planes.as_ref().map(|planes| of_plane_id(planes, plane)).map_err(Unavailable::clone),
        gateway_ca: common.gateway_ca.clone(),
        lease: common.lease.clone(),
        gateway_pods: common.gateway_pods.clone(),
        build,
        has_agents,
        elsewhere,
        is_one_cluster: common.is_one_cluster,
        is_named: reach.named,
        staged,
        probe: gateway.reply,
        presented: gateway.presented,
        counted: gateway.counted,
        gateway_certificate: gateway.certificate,
        gateway_url: gateway.url,
        soon: reach.soon,
        control: reach.control.target().clone(),
        control_namespace: reach.control_namespace.to_owned(),
        build_target: reach.build.map(|(cluster, _)| cluster.target().clone()),
        build_namespace: reach.build.map(|(_, namespace)| namespace.to_owned()).unwrap_or_default(),
        facts,
    }
}

/// Where the namespace that was named lacks a plane's agent: the agents of all namespaces of the build cluster, and whether
/// that is the control plane's own.
async fn elsewhere(
    reach: &Reach<'_>,
    build: Option<&Result<Vec<Arc<BuildCase>>, Unavailable>>,
    planes: &[Plane],
) -> (Result<Vec<Agent>, Unavailable>, bool) {
    let (Some((cluster, _)), Some(Ok(agents))) = (reach.build, build) else {
        return (Ok(Vec::new()), false);
    };
    let ids: HashSet<_> = agents.iter().filter_map(|build| build.agent.agent.plane_id.as_deref()).collect();
    if planes.iter().all(|plane| ids.contains(plane.plane_id())) {
        return (Ok(Vec::new()), false);
    }
    let (agents, one, other) = tokio::join!(cluster.all_agents(), reach.control.identity(), cluster.identity());
    (agents.map_err(|error| Unavailable::from(&error)), one.is_some() && one == other)
}

/// Those of agents that have a planeID.
fn of_id(agents: &[Agent], plane_id: &str) -> Vec<NamespacedName> {
    let ours = agents.iter().filter(|agent| agent.plane_id.as_deref() == Some(plane_id));
    ours.map(|agent| agent.name.clone()).collect()
}

/// The agents of the build cluster, where one was named.
async fn build_cases(reach: &Reach<'_>) -> Option<Result<Vec<Arc<BuildCase>>, Unavailable>> {
    let (cluster, namespace) = reach.build?;
    let agents = match cluster.agents(namespace).await {
        Ok(agents) => agents,
        Err(error) => return Some(Err(Unavailable::from(&error))),
    };
    let cases = stream::iter(agents).map(async |agent| Arc::new(build_case(cluster, namespace, agent).await));
    Some(Ok(cases.buffered(AT_ONCE).collect().await))
}

/// The agent that is meant for a planeID: one that runs as another, where it is the only one and no other plane's.
fn meant(
    reach: &Reach<'_>,
    agents: &[Arc<BuildCase>],
    plane_id: &str,
    neighbours: &Neighbours,
) -> Result<Arc<BuildCase>, Unavailable> {
    let Some((cluster, namespace)) = reach.build else {
        return Err(Unavailable::missing("there is no build cluster"));
    };
    let all: Vec<_> = agents.iter().map(|build| build.agent.agent.clone()).collect();
    let found = match cluster.the_one(all.clone(), namespace, Some(plane_id)) {
        Err(Error::NoAgent { there, .. }) if there.len() == 1 && !neighbours.has_plane_id(&there[0]) => {
            cluster.the_one(all, namespace, None)
        }
        found => found,
    };
    let found = found.map_err(|error| Unavailable::from(&error))?;
    let is_it = |build: &&Arc<BuildCase>| build.agent.agent.name == found.name;
    agents.iter().find(is_it).cloned().ok_or(Unavailable::missing("the agent is gone"))
}

async fn build_case(cluster: &Cluster, namespace: &str, agent: Agent) -> BuildCase {
    let agent = AgentFacts::of(cluster, agent).await;
    let name = agent.agent.server_ca.clone().unwrap_or_else(|| GATEWAY_CA.into());
    let map = NamespacedName { namespace: namespace.into(), name };
    let keys = [CA_KEY];
    let pods = agent.pods.as_deref().unwrap_or_default().iter().take(LOGS);
    let log = async {
        let logs = futures_util::future::join_all(pods.map(|pod| cluster.log(&agent.agent, pod))).await;
        let (known, mut failed): (Vec<_>, Vec<_>) = logs.into_iter().partition(Result::is_ok);
        match failed.pop() {
            Some(Err(error)) if known.is_empty() => Err(Unavailable::from(&error)),
            _ => Ok(known.into_iter().flatten().collect::<Vec<_>>().join("\n")),
        }
    };
    let (server_ca, log) = tokio::join!(cluster.config_map_keys(&map, &keys), log);
    BuildCase {
        server_ca: server_ca
            .map(|bytes| String::from_utf8_lossy(&bytes.concat()).into_owned())
            .map_err(|error| Unavailable::from(&error)),
        log,
        agent,
    }
}

/// What the gateway tells.
#[derive(Default)]
struct Heard {
    url: Option<GatewayUrl>,
    reply: Option<Result<Reply, Arc<ProbeError>>>,
    presented: bool,
    counted: Option<Counted>,
    certificate: Option<Certificate>,
}

impl Heard {
    async fn of(reach: &Reach<'_>, plane: &Plane, build: Option<&BuildCase>, common: &Common) -> Self {
        let of_agent = || build?.agent.agent.server_url.as_deref()?.parse().ok();
        let Some(url) = reach.gateway_url.cloned().or_else(of_agent) else {
            return Self::default();
        };
        let before = common.heard(&url);
        if reach.gateway == Gateway::Certificate {
            let certificate = match before.certificate {
                Some(certificate) => certificate,
                None => shown(&url, reach.limit).await,
            };
            common.hear(&url, |once| once.certificate = Some(certificate.clone()));
            return Self { certificate, url: Some(url), ..Self::default() };
        }
        if let Some(away) = before.away {
            return Self { reply: Some(Err(away)), url: Some(url), ..Self::default() };
        }
        // As the agent does it, where its side is known.
        let server_ca = match (build.map(|build| &build.server_ca), &common.gateway_ca) {
            (Some(Ok(ca)), _) | (_, Ok(ca)) => ca,
            _ => return Self { url: Some(url), ..Self::default() },
        };
        let identity = match (&reach.identity, reach.build, build) {
            (Some((presented, key)), _, _) => {
                PrivateKey::from_pem(key).ok().map(|key| Identity { presented: presented.clone(), key })
            }
            (None, Some((cluster, _)), Some(build)) => of_secret(cluster, build).await,
            _ => None,
        };
        let presented = identity.is_some();
        let plane_type = CLUSTER_BUILD_PLANE.family.plane_type;
        let of_agent = build.and_then(|build| build.agent.agent.plane_id.as_deref());
        let question =
            |plane_id, identity| Question { url: &url, plane_type, plane_id, identity, server_ca, limit: reach.limit };
        let reply = probe(question(of_agent.unwrap_or(plane.plane_id()), identity)).await.map_err(Arc::new);
        let counted = match &reply {
            Ok(_) => count(question(plane.plane_id(), None), plane.name()).await.ok().flatten(),
            Err(error) => {
                if error.is_away() {
                    common.hear(&url, |once| once.away = Some(error.clone()));
                }
                None
            }
        };
        Self { reply: Some(reply), presented, counted, certificate: None, url: Some(url) }
    }
}

/// The certificate that the gateway serves.
async fn shown(url: &GatewayUrl, limit: Duration) -> Option<Certificate> {
    let presented = presented(&url.host, url.port, limit).await.ok()?;
    Certificate::from_der(presented.first()?)
}

async fn of_secret(cluster: &Cluster, build: &BuildCase) -> Option<Identity> {
    let pair = build.agent.pair.as_ref().ok()?;
    let secret = cluster.existing_secret(&build.agent.agent.pair()?).await.ok()?;
    let key = PrivateKey::from_pem(&secret.text(LEAF_PRIVATE_KEY)).ok()?;
    Some(Identity { presented: pair.presented.clone(), key })
}

impl Case {
    /// What the agent's Secret holds.
    pub fn pair(&self) -> Option<&Pair> {
        self.build.as_ref()?.as_ref().ok()?.agent.pair.as_ref().ok()
    }

    /// What is known of the agent.
    pub fn agent(&self) -> Option<&AgentFacts> {
        Some(&self.build.as_ref()?.as_ref().ok()?.agent)
    }

    /// The certificate that a pod of the agent presents; none where its agent doesn't run.
    pub fn running(&self, pod: &AgentPod) -> Option<Running<'_>> {
        self.agent()?.running(pod, self.pinned())
    }

    /// The certificates in the plane's CA, as far as they can be read.
    pub fn pinned(&self) -> &[Certificate] {
        self.facts.client_ca.certificates().unwrap_or_default()
    }

    /// When cert-manager renews a certificate that the plane pins: as it says itself, where it can be asked.
    pub fn renewal(&self, pinned: &Certificate) -> Timestamp {
        let issuance = self.agent().and_then(AgentFacts::issuance);
        let held = self.pair().is_some_and(|pair| pair.leaf().der == pinned.der);
        let renewal = issuance.and_then(|issuance| issuance.renewal).filter(|_| held);
        renewal.unwrap_or_else(|| pinned.chart_renewal())
    }

    /// Whether something that was asked for could not be read.
    pub fn is_unread(&self) -> bool {
        let known = |problem: &Unavailable| problem.is_fault();
        let ca = self.facts.client_ca.text().is_err_and(|problem| !known(problem));
        let build = match &self.build {
            None => false,
            // A cluster without any agent may be the wrong one.
            Some(Err(problem)) => !known(problem) || !self.has_agents,
            Some(Ok(build)) => [build.agent.pair.as_ref().err(), build.agent.pods.as_ref().err()]
                .into_iter()
                .flatten()
                .any(|problem| !known(problem)),
        };
        self.plane.is_err() || ca || build
    }

    /// When the last certificate ends that the agent verifies the gateway against.
    pub fn server_ca_ends(&self) -> Option<Timestamp> {
        let text = self.build.as_ref()?.as_ref().ok()?.server_ca.as_ref().ok()?;
        Certificate::all_in(text).iter().map(|certificate| certificate.not_after).max()
    }

    /// The gateway's verdict, foretold, on what an agent that starts now would present.
    pub fn verdict(&self) -> Option<Verdict> {
        let pair = self.pair()?;
        Some(self.facts.client_ca.verdict(&pair.presented, self.facts.now))
    }
}

/// What files tell of planes.
pub async fn gather_of_files(
    snapshot: &Snapshot,
    names: &BTreeSet<PlaneKey>,
    control_namespace: &str,
    soon: Remaining,
    named: bool,
) -> Gathered {
    let cas = client_cas(&Files::control(snapshot), &snapshot.planes).await;
    let neighbours = Neighbours::new(snapshot.planes.iter().zip(&cas));
    let namespace = dumped_namespace(snapshot).unwrap_or(control_namespace);
    let named_here = |name: &str| NamespacedName { namespace: namespace.into(), name: name.into() };
    let (absent, build_absent) = (Absent::new(snapshot, Side::Control), Absent::new(snapshot, Side::Build));
    // A dump has those of its planeIDs.
    let build_planes: Vec<_> = objects(snapshot, Side::Control, BUILD_PLANE).iter().map(by_plane_id).collect();
    let gateway_ca = named_here(GATEWAY_CA);
    let (lease, gateway_pods) =
        (lease_of_files(snapshot, namespace), gateway_pods_of_files(snapshot, &named_here(GATEWAY_SERVICE)));
    let agents = tells_of_build(snapshot).then(|| build_cases_of_files(snapshot));
    let case = |facts: Facts| {
        let rivals = neighbours.rivals(&facts.plane, &facts.client_ca);
        let id = facts.plane.plane_id();
        let build_namespace = dumped_build_namespace(snapshot).unwrap_or_default().to_owned();
        let secret = rotation_secret(&build_namespace, id);
        let staged = match snapshot.related(Side::Build, "Secret", Some(&secret.namespace), &secret.name) {
            Some(_) => Some(Ok(true)),
            None if build_namespace.is_empty() => None,
            None => match build_absent.secret(&secret) {
                problem if problem.is_missing() => Some(Ok(false)),
                problem => Some(Err(problem)),
            },
        };
        let elsewhere = match build_absent.everywhere() {
            Some(problem) => Err(problem),
            None => Ok(of_id(&agents_of(&snapshot.related), id)),
        };
        let build = agents.as_ref().map(|agents| meant_of_files(snapshot, agents, facts.plane.plane_id(), &neighbours));
        let known = build.as_ref().and_then(|build| build.as_deref().ok());
        Case {
            plane: Ok(()),
            rivals,
            build_planes: match absent.build_planes() {
                Some(problem) => Err(problem),
                None => Ok(of_plane_id(&build_planes, &facts.plane)),
            },
            gateway_pods: gateway_pods.clone(),
            gateway_ca: text_of(snapshot, Side::Control, "Secret", &gateway_ca)
                .ok_or_else(|| absent.secret(&gateway_ca)),
            lease: lease.clone(),
            probe: None,
            presented: false,
            counted: None,
            gateway_url: known.and_then(|build| build.agent.agent.server_url.as_deref()?.parse().ok()),
            gateway_certificate: None,
            has_agents: agents.as_ref().is_some_and(|agents| !agents.is_empty()),
            elsewhere,
            is_one_cluster: false,
            is_named: named,
            staged,
            build_namespace,
            build,
            soon,
            control: Target::default(),
            control_namespace: namespace.to_owned(),
            build_target: None,
            facts,
        }
    };
    let cases = facts_of_files(snapshot, names).await.into_iter().map(case).collect();
    Gathered::new(Ground::of_files(snapshot), cases)
}

/// The objects of a kind in files.
fn objects<T: DeserializeOwned>(snapshot: &Snapshot, side: Side, kind: &str) -> Vec<T> {
    let ours = snapshot.related.iter().filter(|object| object["kind"] == kind && side.has(object));
    ours.filter_map(|object| serde_json::from_value(object.clone()).ok()).collect()
}

/// When the controller last renewed its lease, as files tell it.
fn lease_of_files(snapshot: &Snapshot, namespace: &str) -> Result<Option<Timestamp>, Unavailable> {
    match snapshot.related(Side::Control, "Lease", Some(namespace), LEASE) {
        Some(lease) => Ok(lease.pointer("/spec/renewTime").and_then(|time| time.as_str()?.parse().ok())),
        None => none_or(Absent::new(snapshot, Side::Control).lease(namespace)),
    }
}

/// The gateway's pods, as files tell of them.
fn gateway_pods_of_files(snapshot: &Snapshot, name: &NamespacedName) -> Result<Option<ServicePods>, Unavailable> {
    let absent = Absent::new(snapshot, Side::Control);
    match (snapshot.related(Side::Control, "Service", Some(&name.namespace), &name.name), absent.pods(&name.namespace))
    {
        (Some(_), Some(problem)) => Err(problem),
        (Some(service), None) => {
            let service = serde_json::from_value(service.clone()).unwrap_or_default();
            Ok(Some(ServicePods::of(&service, &objects(snapshot, Side::Control, "Pod"))))
        }
        (None, _) => none_or(absent.service(name)),
    }
}

/// What isn't there is known.
fn none_or<T>(problem: Unavailable) -> Result<Option<T>, Unavailable> {
    if problem.is_missing() { Ok(None) } else { Err(problem) }
}

/// The CA that an object of files holds.
fn text_of(snapshot: &Snapshot, side: Side, kind: &str, name: &NamespacedName) -> Option<String> {
    let object = snapshot.related(side, kind, Some(&name.namespace), &name.name)?;
    if kind == "Secret" {
        return Some(StoredSecret::of_object(object)?.text(CA_KEY).to_string());
    }
    Some(object.pointer(&format!("/data/{CA_KEY}"))?.as_str()?.to_owned())
}

/// The agents in files.
fn build_cases_of_files(snapshot: &Snapshot) -> Vec<Arc<BuildCase>> {
    let related: Vec<_> = snapshot.related.iter().filter(|object| Side::Build.has(object)).cloned().collect();
    // Those of other namespaces were dumped to say where they are.
    let namespace = dumped_build_namespace(snapshot);
    let mut agents = agents_of(&related);
    agents.retain(|agent| namespace.is_none_or(|namespace| agent.name.namespace == namespace));
    agents.into_iter().map(|agent| Arc::new(build_case_of_files(snapshot, &related, agent))).collect()
}

/// The agent that is meant for a planeID: one that runs as another, where it is the only one and no other plane's.
fn meant_of_files(
    snapshot: &Snapshot,
    agents: &[Arc<BuildCase>],
    plane_id: &str,
    neighbours: &Neighbours,
) -> Result<Arc<BuildCase>, Unavailable> {
    let id = |build: &BuildCase| build.agent.agent.plane_id.clone();
    let ours: Vec<_> = agents.iter().filter(|build| id(build).as_deref() == Some(plane_id)).collect();
    let is_free = |build: &BuildCase| id(build).is_none_or(|id| !neighbours.has_plane_id(&id));
    match (ours.as_slice(), agents) {
        ([build], _) => Ok(Arc::clone(build)),
        ([], [build]) if is_free(build) => Ok(build.clone()),
        ([], _) => {
            let namespace = dumped_build_namespace(snapshot).unwrap_or_default();
            Err(Absent::new(snapshot, Side::Build).agents(namespace, plane_id))
        }
        _ => Err(Unavailable::new(Cause::Unknown, format!("there are several agents of planeID {plane_id}"))),
    }
}

fn build_case_of_files(snapshot: &Snapshot, related: &[serde_json::Value], agent: Agent) -> BuildCase {
    let absent = Absent::new(snapshot, Side::Build);
    let namespace = agent.name.namespace.clone();
    let pair = match agent.pair() {
        None => Err(Unavailable::missing("the agent mounts no Secret as client-certs")),
        Some(name) => match snapshot.related(Side::Build, "Secret", Some(&name.namespace), &name.name) {
            None => Err(absent.secret(&name)),
            Some(object) => pair_of_files(object),
        },
    };
    let map = agent.server_ca.clone().unwrap_or_else(|| GATEWAY_CA.into());
    let map = NamespacedName { namespace: namespace.clone(), name: map };
    let server_ca = text_of(snapshot, Side::Build, "ConfigMap", &map).ok_or_else(|| absent.config_map(&map));
    let pods = match absent.pods(&namespace) {
        Some(problem) => Err(problem),
        None => Ok(pods_of(&agent, related)),
    };
    let of_ours = |object: &&serde_json::Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["kind"] == "Pod" && pods.as_ref().is_ok_and(|pods| pods.iter().any(|pod| pod.name == name))
    };
    let logs: Vec<_> = related
        .iter()
        .filter(of_ours)
        .filter_map(|pod| pod["metadata"]["annotations"][LOG].as_str())
        .map(str::to_owned)
        .collect();
    let issuance = match agent.pair() {
        None => Ok(None),
        Some(name) => match (Issuance::of(related, &name), absent.issuances(&namespace)) {
            (None, Some(problem)) => Err(problem),
            (found, _) => Ok(found),
        },
    };
    BuildCase { server_ca, log: Ok(logs.join("\n")), agent: AgentFacts { pair, pods, issuance, agent } }
}

fn pair_of_files(object: &serde_json::Value) -> Result<Pair, Unavailable> {
    let invalid = || Unavailable::invalid("the agent's Secret in the files can't be read");
    let secret = StoredSecret::of_object(object).ok_or_else(invalid)?;
    let mut pair = Pair::of(&secret)?;
    if secret.bytes(LEAF_PRIVATE_KEY).is_empty() {
        // The key stayed where it is; the dump says what it was like.
        pair.fits = object["metadata"]["annotations"][KEY_FITS] != "false";
    }
    Ok(pair)
}
