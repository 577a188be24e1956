//! What a migration reads of both clusters.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::{Agent, Cluster, Detail, Error, ListOf, Namespaces};
use crate::estate::{self, AgentFacts, Cause, of_agents, running_release};
use crate::gateway::{GatewayUrl, plane_types};
use crate::plane::{DEFAULT_KIND, Kind, NamespacedName, Plane, PlaneKey, Release, without_managed_fields};
use crate::text::visible;

/// Kinds of objects that may refer to planes: API version, kind and plural.
const REFERRERS: [[&str; 3]; 7] = [
    ["openchoreo.dev/v1alpha1", "Workflow", "workflows"],
    ["openchoreo.dev/v1alpha1", "Project", "projects"],
    ["openchoreo.dev/v1alpha1", "AuthzRole", "authzroles"],
    ["openchoreo.dev/v1alpha1", "AuthzClusterRole", "authzclusterroles"],
    ["openchoreo.dev/v1alpha1", "ClusterAuthzRole", "clusterauthzroles"],
    ["rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"],
    ["rbac.authorization.k8s.io/v1", "Role", "roles"],
];

/// How namespaces begin in which workflows run in a plane's cluster, in v0.17 and since v1.0
/// (internal/pipeline/workflow/pipeline.go).
const RUNS: [&str; 2] = ["openchoreo-ci-", "workflows-"];

/// Where to look.
pub struct Look<'l> {
    pub control: &'l Cluster,
    pub control_namespace: &'l str,
    /// The plane's cluster, and the namespace of its agents where that is given.
    pub build: Option<(&'l Cluster, Option<&'l str>)>,
    pub gateway_url: Option<&'l GatewayUrl>,
    /// Longest time for the gateway's answer.
    pub limit: Duration,
}

/// What is there.
pub struct Seen {
    /// The kinds that the control plane serves.
    pub served: Vec<&'static Kind>,
    pub planes: Vec<Plane>,
    /// All planes, and what may refer to them, as the server has them.
    pub objects: Vec<Value>,
    /// What could not be read, in sentences.
    pub unread: Vec<String>,
    pub running: Running,
    /// None where no plane's cluster was named.
    pub agents: Option<Vec<AgentFacts>>,
    /// Helm releases of agents whose upgrade was interrupted.
    pub pending: Vec<NamespacedName>,
    /// Secrets of runs in the plane's cluster that v1.0 looks for elsewhere.
    pub secrets: Vec<LeftSecrets>,
}

/// Secrets in a namespace of v0.17 for runs, that the namespace of v1.0 lacks.
pub struct LeftSecrets {
    pub namespace: String,
    pub since: String,
    pub names: Vec<String>,
}

/// The release that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// That of the control plane, and what shows it; none where nothing does.
    pub release: Option<(Release, &'static str)>,
    /// That of the controller, which removes finalizers.
    pub controller: Option<Release>,
}

impl Running {
    /// Whether the control plane's release is v1.0 or later.
    pub fn is_late(self) -> bool {
        self.release.is_some_and(|(release, _)| release == Release::V1)
    }

    /// Returns why old planes can't be deleted: only where no controller uses them they can.
    pub fn keeps_old(self) -> Option<&'static str> {
        match self.controller {
            Some(Release::V1) => None,
            Some(Release::V0) => Some("a controller of v0.x is running and uses them"),
            None => Some("the controller's release is unknown: neither its pods nor its Deployment show it"),
        }
    }
}

impl Seen {
    /// Whether the CRDs of v1.0 are there.
    pub fn is_pruned(&self) -> bool {
        self.served.iter().any(|kind| kind.family.releases == [Release::V1])
    }

    pub fn plane(&self, key: &PlaneKey) -> Option<&Plane> {
        self.planes.iter().find(|plane| plane.key() == *key)
    }
}

/// Reads both clusters.
///
/// # Errors
/// Where planes of any kind, or the agents, can't be read.
pub async fn look(at: &Look<'_>) -> anyhow::Result<Seen> {
    let served = at.control.served_kinds().await?;
    if served.is_empty() {
        return Err(at.control.no_kinds().into());
    }
    let (mut objects, mut unread) = (Vec::new(), Vec::new());
    for kind in &served {
        let read = |mut object: Value| {
            name_kind(&mut object, &kind.api_version(), kind.kind);
            // Who wrote which field shows which CA was pruned; else it is most of a plane, and not needed.
            let is_pruned = Plane::deserialize(&object).is_ok_and(|plane| plane.pruned_secret().is_some());
            if is_pruned { object } else { without_managed_fields(object) }
        };
        objects.extend(at.control.at(kind, &Namespaces::All).planes_as(None, read).await?);
    }
    let planes = objects.iter().filter_map(|object| Plane::deserialize(object).ok()).collect();
    for [api_version, kind, plural] in REFERRERS {
        match referrers(at.control, api_version, kind, plural).await {
            Ok(found) => objects.extend(found),
            Err(Error::NoSuchKind { .. } | Error::NotFound { .. } | Error::NoSource { .. }) => {}
            Err(Error::Forbidden { message, .. }) => {
                unread.push(format!("{kind}s were not searched for references to planes: {}", visible(&message)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let agents = match at.build {
        None => None,
        Some((build, namespace)) => {
            let agents = match namespace {
                Some(namespace) => build.agents(namespace).await?,
                None => build.all_agents().await?,
            };
            let is_meant = |agent: &Agent| agent.may_be_of(DEFAULT_KIND.family);
            Some(of_agents(build, agents.into_iter().filter(is_meant).collect()).await)
        }
    };
    for facts in agents.iter().flatten() {
        // An unknown certificate would pass for one that needs nothing.
        if let Err(why) = &facts.pair
            && why.cause == Cause::Unknown
        {
            anyhow::bail!(
                "the certificate of the agent {} could not be read: {why}",
                visible(&facts.agent.name.to_string())
            );
        }
    }
    let pending = match at.build {
        None => Vec::new(),
        Some((build, _)) => pending_releases(build, agents.iter().flatten()).await,
    };
    let secrets = match at.build {
        None => Ok(Vec::new()),
        Some((build, _)) => left_secrets(build).await,
    };
    let secrets = secrets.unwrap_or_else(|error| {
        unread.push(format!("Secrets of workflow runs were not looked for: {}", visible(&error.to_string())));
        Vec::new()
    });
    Ok(Seen { served, planes, objects, running: running(at, &mut unread).await, unread, agents, pending, secrets })
}

/// The releases of agents that Helm began to upgrade and did not end. Without the right to look nothing is known of them:
/// Helm reports it itself.
async fn pending_releases(build: &Cluster, agents: impl Iterator<Item = &AgentFacts>) -> Vec<NamespacedName> {
    let of_agent = |facts: &AgentFacts| {
        Some(NamespacedName { namespace: facts.agent.name.namespace.clone(), name: facts.agent.release.clone()? })
    };
    let releases: BTreeSet<_> = agents.filter_map(of_agent).collect();
    let mut pending = Vec::new();
    for release in releases {
        let path = format!("/api/v1/namespaces/{}/secrets", release.namespace);
        let labels = format!("owner=helm,name={},status=pending-upgrade", release.name);
        // What the release holds is nobody's concern here.
        let detail = Detail::Metadata;
        let list = ListOf { path: &path, api_version: "v1", kind: "Secret", labels: &labels, fields: "", detail };
        let found = build.collection(&list, |_: Value| ()).await.unwrap_or_default();
        if !found.is_empty() {
            pending.push(release);
        }
    }
    pending
}

async fn left_secrets(build: &Cluster) -> Result<Vec<LeftSecrets>, Error> {
    let mut left = Vec::new();
    for namespace in build.namespaces().await? {
        let Some(rest) = namespace.strip_prefix(RUNS[0]) else {
            continue;
        };
        let since = format!("{}{rest}", RUNS[1]);
        let names = async |namespace: &str| {
            let secrets = build.secrets(namespace).await?;
            Ok::<Vec<_>, Error>(secrets.iter().map(|secret| secret.name.name.clone()).collect())
        };
        let (mut old, new) = (names(&namespace).await?, names(&since).await?);
        old.retain(|name| !new.contains(name));
        if !old.is_empty() {
            left.push(LeftSecrets { namespace, since, names: old });
        }
    }
    Ok(left)
}

/// Finds out which release runs. Why the gateway can't be asked is added to what is unread: it may just be replaced.
pub async fn running(at: &Look<'_>, unread: &mut Vec<String>) -> Running {
    let controller = running_release(at.control, at.control_namespace).await;
    let release = match gateway(at, unread).await {
        Some(release) => Some((release, "by the plane types that its gateway accepts")),
        None => controller.map(|release| (release, "by the controller's image")),
    };
    Running { release, controller }
}

/// Adds its kind to an item of a list, which does not say itself what it is.
fn name_kind(object: &mut Value, api_version: &str, kind: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), api_version.into());
        fields.insert("kind".into(), kind.into());
    }
}

async fn referrers(control: &Cluster, api_version: &str, kind: &str, plural: &str) -> Result<Vec<Value>, Error> {
    let path = format!("/apis/{api_version}/{plural}");
    let list = ListOf { path: &path, api_version, kind, labels: "", fields: "", detail: Detail::Whole };
    let read = |mut object: Value| {
        name_kind(&mut object, api_version, kind);
        without_managed_fields(object)
    };
    control.collection(&list, read).await
}

/// The release of the gateway; none where it was not asked, or says none that is known.
async fn gateway(at: &Look<'_>, unread: &mut Vec<String>) -> Option<Release> {
    let url = at.gateway_url?;
    let types = match estate::gateway_ca(at.control, at.control_namespace).await {
        Ok(ca) => plane_types(url, &ca, at.limit).await.map_err(|error| error.to_string()),
        Err(why) => Err(why.to_string()),
    };
    match types {
        Ok(types) => types.and_then(|types| types.release()),
        Err(why) => {
            unread.push(format!("the gateway was not contacted: {}", visible(&why)));
            None
        }
    }
}
