//! Agents in a plane's cluster, found by the chart's labels, their pods, and the Secrets that they read.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview};
use k8s_openapi::api::core::v1::{Container, ContainerState, Namespace, Pod, PodCondition, PodStatus, Secret, Volume};
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PostParams, Preconditions};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::connection::Cluster;
use super::error::Error;
use super::fields::{Writer, writers};
use super::planes::{MANAGER, patch_params, written};
use super::rights::Right;
use crate::plane::{DryRun, Family, KINDS, NamespacedName};
use crate::text::visible;

/// By which the chart's agents are found, whatever the release is called.
pub const LABELS: &str = "app=cluster-agent,app.kubernetes.io/component=cluster-agent";
pub const CONTAINER: &str = "agent";
/// The agent's volume with its certificate and key.
const PAIR_VOLUME: &str = "client-certs";
/// The agent's volume with the gateway's CA.
const SERVER_CA_VOLUME: &str = "server-ca";
/// Annotation of the pod template: the revision of the Secret that its pods were started for.
pub const REVISION: &str = "choreoctl.dev/client-certs";
/// Annotation of the pod template: when it was last restarted, as kubectl writes it.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation by which cert-manager marks a Secret that it writes.
pub const CERT_MANAGER: &str = "cert-manager.io/certificate-name";
/// What the agent logs once the gateway let it in.
pub const AUTHORIZED: &str = "connected to control plane";

/// An agent: a Deployment of the chart, and what its arguments and volumes say.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    pub name: NamespacedName,
    /// `--plane-id`.
    pub plane_id: Option<String>,
    /// `--plane-type`.
    pub plane_type: Option<String>,
    /// `--server-url`.
    pub server_url: Option<String>,
    /// `--tls-enabled`.
    pub tls_enabled: Option<String>,
    /// Name of the Secret with its certificate and key.
    pub secret: Option<String>,
    /// Name of the ConfigMap with the gateway's CA.
    pub server_ca: Option<String>,
    /// How many pods are wanted.
    pub replicas: usize,
    /// Whether changes start no new pods.
    pub is_paused: bool,
    /// The revision of the Secret that it was last restarted for here.
    pub revision: Option<String>,
    /// The Helm release that made it.
    pub release: Option<String>,
    /// The name of its chart.
    pub chart: Option<String>,
    /// The version of its chart.
    pub chart_version: Option<String>,
    /// Labels of its pods.
    selector: String,
}

impl Agent {
    /// Of a Deployment of the chart.
    pub fn of(deployment: Deployment) -> Self {
        let spec = deployment.spec.unwrap_or_default();
        let (pod, template) = (spec.template.spec.unwrap_or_default(), spec.template.metadata.unwrap_or_default());
        let container = pod.containers.iter().find(|container| container.name == CONTAINER);
        let flag = |name: &str| container.and_then(|container| argument(container, name));
        let volume = |name: &str| pod.volumes.iter().flatten().find(|volume| volume.name == name);
        let secret = |volume: &Volume| volume.secret.as_ref()?.secret_name.clone();
        let config_map = |volume: &Volume| Some(volume.config_map.as_ref()?.name.clone());
        let labels = spec.selector.match_labels.unwrap_or_default();
        let label = |key: &str| deployment.metadata.labels.as_ref()?.get(key).cloned();
        // As `openchoreo-build-plane-0.17.0`.
        let chart = label("helm.sh/chart").zip(label("app.kubernetes.io/name"));
        let version = chart.and_then(|(chart, name)| Some(chart.strip_prefix(&name)?.strip_prefix('-')?.to_owned()));
        Self {
            release: label("app.kubernetes.io/instance"),
            chart: label("app.kubernetes.io/name"),
            chart_version: version,
            name: NamespacedName {
                namespace: deployment.metadata.namespace.unwrap_or_default(),
                name: deployment.metadata.name.unwrap_or_default(),
            },
            plane_id: flag("--plane-id"),
            plane_type: flag("--plane-type"),
            server_url: flag("--server-url"),
            tls_enabled: flag("--tls-enabled"),
            secret: volume(PAIR_VOLUME).and_then(secret),
            server_ca: volume(SERVER_CA_VOLUME).and_then(config_map),
            is_paused: spec.paused == Some(true),
            replicas: spec.replicas.and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
            revision: template.annotations.and_then(|mut annotations| annotations.remove(REVISION)),
            selector: labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
        }
    }

    /// Labels of its pods, as `-l` takes them.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The Secret with its certificate and key.
    pub fn pair(&self) -> Option<NamespacedName> {
        let name = self.secret.clone()?;
        Some(NamespacedName { namespace: self.name.namespace.clone(), name })
    }
}

/// The path of those of a collection that have labels.
pub fn labelled(path: &str, selector: &str) -> String {
    format!("{path}?labelSelector={}", selector.replace(',', "%2C").replace('=', "%3D"))
}

/// The value of `--NAME=VALUE` or `--NAME VALUE`.
fn argument(container: &Container, name: &str) -> Option<String> {
    let mut words = container.command.iter().chain(&container.args).flatten();
    while let Some(word) = words.next() {
        match word.strip_prefix(name) {
            Some("") => return words.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    None
}

/// A pod of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentPod {
    pub name: String,
    /// `--plane-id`, which a pod that the Deployment has yet to replace may have another one of.
    pub plane_id: Option<String>,
    /// Since when its agent runs; none where it doesn't.
    pub started: Option<Timestamp>,
    /// The revision of the Secret that it was started for, where a restart from here made it.
    pub revision: Option<String>,
    /// The restart that made it, where one did.
    pub restarted: Option<String>,
    /// Why its agent doesn't run.
    pub waiting: Option<String>,
    /// How often its agent ended and was started again.
    pub restarts: i32,
    /// When and with which exit code it last ended.
    pub ended: Option<(Timestamp, i32)>,
}

impl AgentPod {
    /// Of a pod; none where it ended: it is a leftover then, and holds no connection.
    pub fn of(pod: Pod) -> Option<Self> {
        Self::of_container(pod, CONTAINER)
    }

    /// The same of a pod that runs another program.
    pub fn of_container(pod: Pod, container: &str) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let PodStatus { container_statuses, init_container_statuses, conditions, phase, .. } =
            pod.status.unwrap_or_default();
        let status = container_statuses.into_iter().flatten().find(|status| status.name == container);
        let status = status.unwrap_or_default();
        let ContainerState { running, waiting, terminated } = status.state.unwrap_or_default();
        let ended = status.last_state.and_then(|state| state.terminated);
        let spec = pod.spec.unwrap_or_default();
        let program = spec.containers.iter().find(|one| one.name == container);
        // What comes before it may hold it up.
        let before = init_container_statuses.into_iter().flatten().find_map(|status| status.state?.waiting?.reason);
        let unscheduled = |condition: PodCondition| {
            (condition.type_ == "PodScheduled" && condition.status == "False").then_some(condition.reason?)
        };
        let waiting = waiting.and_then(|waiting| waiting.reason).filter(|reason| reason != "PodInitializing");
        let waiting = waiting
            .or(before)
            .or_else(|| terminated.and_then(|terminated| terminated.reason))
            .or_else(|| conditions.into_iter().flatten().find_map(unscheduled))
            .or(phase);
        let mut annotations = pod.metadata.annotations.unwrap_or_default();
        Some(Self {
            name: pod.metadata.name.unwrap_or_default(),
            plane_id: program.and_then(|program| argument(program, "--plane-id")),
            revision: annotations.remove(REVISION),
            restarted: annotations.remove(RESTARTED),
            waiting: waiting.filter(|_| running.is_none()),
            started: running.and_then(|running| running.started_at).map(|time| time.0),
            restarts: status.restart_count,
            ended: ended.and_then(|ended| Some((ended.finished_at?.0, ended.exit_code))),
        })
    }
}

/// A Secret as it is. What it holds is wiped when it goes, and never printed.
pub struct StoredSecret {
    pub name: NamespacedName,
    object: Secret,
}

impl StoredSecret {
    /// One out of a file.
    pub fn of_object(object: &Value) -> Option<Self> {
        let object: Secret = serde_json::from_value(object.clone()).ok()?;
        let (namespace, name) = (object.metadata.namespace.clone()?, object.metadata.name.clone()?);
        Some(Self { name: NamespacedName { namespace, name }, object })
    }

    /// A key's bytes; empty where it isn't there.
    pub fn bytes(&self, key: &str) -> &[u8] {
        self.object.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice()).unwrap_or_default()
    }

    /// A key as text; empty where it isn't there.
    pub fn text(&self, key: &str) -> Zeroizing<String> {
        String::from_utf8_lossy(self.bytes(key)).into_owned().into()
    }

    /// What changes with every write: its name and version.
    pub fn revision(&self) -> String {
        format!("{}@{}", self.name.name, self.object.metadata.resource_version.as_deref().unwrap_or_default())
    }

    pub fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// The Certificate of cert-manager that writes it.
    pub fn certificate(&self) -> Option<&str> {
        self.object.metadata.annotations.as_ref()?.get(CERT_MANAGER).map(String::as_str)
    }

    pub fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.object.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Who wrote a key.
    pub fn writers(&self, key: &str) -> Vec<Writer> {
        writers(&self.object.metadata, &format!("/f:data/f:{key}"))
    }
}

impl Drop for StoredSecret {
    fn drop(&mut self) {
        self.object.data.iter_mut().flatten().for_each(|(_, bytes)| bytes.0.zeroize());
    }
}

impl Agent {
    /// Whether it may be a plane's of a family: by its plane type, which may be that of another release; where that is of
    /// another family, by the name that the chart gives it.
    pub fn may_be_of(&self, family: &Family) -> bool {
        let Some(plane_type) = self.plane_type.as_deref() else {
            return true;
        };
        let is_kin = |other: &&'static Family| other.is_kin(family);
        let mut families = KINDS.iter().map(|kind| kind.family).filter(|other| other.plane_type == plane_type);
        match families.next() {
            None => true,
            Some(other) => is_kin(&other) || self.name.name.ends_with(family.plane_type),
        }
    }
}

impl Cluster {
    /// The agents in a namespace.
    pub async fn agents(&self, namespace: &str) -> Result<Vec<Agent>, Error> {
        let found = self.read_list(namespace, &ListParams::default().labels(LABELS)).await?;
        Ok(found.into_iter().map(Agent::of).collect())
    }

    /// The agents in all namespaces.
    pub async fn all_agents(&self) -> Result<Vec<Agent>, Error> {
        let api: Api<Deployment> = Api::all(self.client.clone());
        let found = self.ask(api.list(&ListParams::default().labels(LABELS))).await?;
        Ok(found.items.into_iter().map(Agent::of).collect())
    }

    /// The agent of a planeID of a family; without a planeID, the only agent that there is.
    ///
    /// # Errors
    /// [`Error::NoAgent`] and [`Error::SeveralAgents`] otherwise.
    pub async fn agent(&self, namespace: &str, family: &Family, plane_id: Option<&str>) -> Result<Agent, Error> {
        self.the_one(self.agents(namespace).await?, namespace, family, plane_id)
    }

    /// The same among the agents of a namespace.
    ///
    /// # Errors
    /// [`Error::NoAgent`] and [`Error::SeveralAgents`] otherwise.
    pub fn the_one(
        &self,
        mut agents: Vec<Agent>,
        namespace: &str,
        family: &Family,
        plane_id: Option<&str>,
    ) -> Result<Agent, Error> {
        agents.retain(|agent| agent.may_be_of(family));
        let ids: Vec<_> = agents.iter().filter_map(|agent| agent.plane_id.clone()).collect();
        if let Some(id) = plane_id {
            agents.retain(|agent| agent.plane_id.as_deref() == Some(id));
        }
        match agents.len() {
            1 => Ok(agents.remove(0)),
            0 => Err(Error::NoAgent {
                namespace: namespace.to_owned(),
                plane_id: plane_id.map(str::to_owned),
                there: ids,
                command: self.target.command(&format!("kubectl get deployments -A -l {LABELS}")),
            }),
            _ => Err(Error::SeveralAgents {
                names: agents.iter().map(|agent| visible(&agent.name.to_string()).into_owned()).collect(),
            }),
        }
    }

    /// The pods of an agent, also those that are going.
    pub async fn agent_pods(&self, agent: &Agent) -> Result<Vec<AgentPod>, Error> {
        let wanted = ListParams::default().labels(&agent.selector);
        let found = self.read_list(&agent.name.namespace, &wanted).await?;
        Ok(found.into_iter().filter_map(AgentPod::of).collect())
    }

    /// The last lines of a container's log.
    pub async fn log(&self, pod: &NamespacedName, container: &str, lines: i64) -> Result<String, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let end = LogParams { container: Some(container.into()), tail_lines: Some(lines), ..LogParams::default() };
        self.ask(api.logs(&pod.name, &end)).await
    }

    /// Whether an agent's pod logged that the gateway let it in; none where its log can't be read.
    pub async fn was_authorized(&self, agent: &Agent, pod: &AgentPod) -> Option<bool> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &agent.name.namespace);
        let container = Some(CONTAINER.into());
        let beginning = LogParams { container, limit_bytes: Some(1 << 20), ..LogParams::default() };
        self.ask(api.logs(&pod.name, &beginning)).await.ok().map(|log| log.contains(AUTHORIZED))
    }

    /// Restarts an agent for a Secret as it is. Where that was done already nothing happens.
    pub async fn restart(&self, agent: &Agent, secret: &StoredSecret) -> Result<(), Error> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &agent.name.namespace);
        let patch = json!({"spec": {"template": {
            "metadata": {"annotations": {REVISION: secret.revision()}},
            "spec": {"volumes": [{"name": PAIR_VOLUME, "secret": {"secretName": secret.name.name}}]},
        }}});
        let params = patch_params(DryRun::None);
        self.ask(api.patch(&agent.name.name, &params, &Patch::Strategic(patch))).await.map(drop)
    }

    /// Restarts an agent as `kubectl rollout restart` does. The new pods have the mark, and the revision of their Secret.
    pub async fn roll_out(
        &self,
        agent: &Agent,
        mark: &str,
        revision: Option<&str>,
        dry_run: DryRun,
    ) -> Result<(), Error> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &agent.name.namespace);
        let mut annotations = json!({RESTARTED: mark});
        if let Some(revision) = revision {
            annotations[REVISION] = revision.into();
        }
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.ask(api.patch(&agent.name.name, &patch_params(dry_run), &Patch::Strategic(patch))).await.map(drop)
    }

    /// A Secret with all its keys, or none where it doesn't exist.
    pub async fn secret(&self, name: &NamespacedName) -> Result<Option<StoredSecret>, Error> {
        let found = self.read(&name.namespace, &name.name).await?;
        Ok(found.map(|object| StoredSecret { name: name.clone(), object }))
    }

    /// The Secrets of a namespace.
    pub async fn secrets(&self, namespace: &str) -> Result<Vec<StoredSecret>, Error> {
        let stored = |object: Secret| {
            let name = object.metadata.name.clone().unwrap_or_default();
            StoredSecret { name: NamespacedName { namespace: namespace.to_owned(), name }, object }
        };
        Ok(self.read_list(namespace, &ListParams::default()).await?.into_iter().map(stored).collect())
    }

    /// The same of one that must exist.
    pub async fn existing_secret(&self, name: &NamespacedName) -> Result<StoredSecret, Error> {
        self.secret(name).await?.ok_or_else(|| self.missing("Secret", name))
    }

    /// Makes a new Secret.
    ///
    /// # Errors
    /// [`Error::Exists`] where there is one already.
    pub async fn create_secret(
        &self,
        name: &NamespacedName,
        kind: &str,
        data: BTreeMap<String, Zeroizing<Vec<u8>>>,
        dry_run: DryRun,
    ) -> Result<StoredSecret, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let mut new = StoredSecret { name: name.clone(), object: Secret::default() };
        new.object.metadata.name = Some(name.name.clone());
        new.object.type_ = Some(kind.into());
        let taken = data.into_iter().map(|(key, mut bytes)| (key, ByteString(std::mem::take(&mut *bytes))));
        new.object.data = Some(taken.filter(|(_, bytes)| !bytes.0.is_empty()).collect());
        let params = PostParams { dry_run: !dry_run.stores(), field_manager: Some(MANAGER.into()) };
        let made = self.ask(api.create(&params, &new.object)).await?;
        Ok(StoredSecret { name: name.clone(), object: made })
    }

    /// Replaces keys of a Secret in one write, if nobody wrote it since it was read. An empty one is taken out.
    ///
    /// # Errors
    /// [`Error::Changed`] where somebody did.
    pub async fn update_secret(
        &self,
        secret: &StoredSecret,
        data: BTreeMap<String, Zeroizing<Vec<u8>>>,
        dry_run: DryRun,
    ) -> Result<StoredSecret, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.name.namespace);
        let encode = |bytes: &[u8]| (!bytes.is_empty()).then(|| STANDARD.encode(bytes));
        let data: BTreeMap<_, _> = data.iter().map(|(key, bytes)| (key, encode(bytes))).collect();
        let version = &secret.object.metadata.resource_version;
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "data": data}));
        let object = self.ask(api.patch(&secret.name.name, &patch_params(dry_run), &patch)).await?;
        Ok(StoredSecret { name: secret.name.clone(), object })
    }

    /// Deletes a Secret, if it is still the one that was read. That it is gone already is no error.
    pub async fn delete_secret(&self, secret: &StoredSecret) -> Result<(), Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.name.namespace);
        let metadata = &secret.object.metadata;
        let this = Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::background() };
        match self.ask(api.delete(&secret.name.name, &params)).await {
            Ok(_) | Err(Error::NoSource { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether something may be done here (SelfSubjectAccessReview); true where that is unknown.
    pub async fn may(&self, right: &Right) -> bool {
        let mut review = SelfSubjectAccessReview::default();
        review.spec.resource_attributes = Some(ResourceAttributes {
            verb: Some(right.verb.into()),
            group: Some(right.group.into()),
            resource: Some(right.resource.into()),
            namespace: right.namespace.clone(),
            ..ResourceAttributes::default()
        });
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = self.ask(api.create(&PostParams::default(), &review)).await;
        answer.ok().and_then(|answer| answer.status).is_none_or(|status| status.allowed)
    }

    /// An object as the server has it, or a list of them, by its path.
    pub async fn object(&self, path: &str) -> Result<Value, Error> {
        self.request(http::Request::get(path).body(Vec::new())).await
    }

    /// The same of an object that may not be there.
    pub async fn object_if_any(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.object(path).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. } | Error::NoSource { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object in a collection, by its path.
    pub async fn create_object(&self, path: &str, object: &Value, dry_run: DryRun) -> Result<Value, Error> {
        let request = http::Request::post(written(path, dry_run));
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        self.request(request.body(object.to_string().into_bytes())).await
    }

    /// Changes fields of an object, by its path.
    pub async fn merge_object(&self, path: &str, fields: &Value, dry_run: DryRun) -> Result<Value, Error> {
        let request = http::Request::patch(written(path, dry_run));
        let request = request.header(http::header::CONTENT_TYPE, "application/merge-patch+json");
        self.request(request.body(fields.to_string().into_bytes())).await
    }

    /// Deletes an object by its path, if it is still the one of this UID. That it is gone already is no error.
    pub async fn delete_object(&self, path: &str, uid: &str, dry_run: DryRun) -> Result<(), Error> {
        // With options in the body the API server ignores those in the query, also `dryRun`.
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        if !dry_run.stores() {
            options["dryRun"] = json!(["All"]);
        }
        let request = http::Request::delete(path);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        match self.request::<Value>(request.body(options.to_string().into_bytes())).await {
            Ok(_) | Err(Error::NoSource { .. } | Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of all namespaces.
    pub async fn namespaces(&self) -> Result<Vec<String>, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let list = self.ask(api.list_metadata(&ListParams::default())).await?;
        Ok(list.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect())
    }

    /// Identifies this cluster by the UID of its namespace kube-system; none where that may not be read.
    pub async fn identity(&self) -> Option<String> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        self.ask(api.get_metadata("kube-system")).await.ok()?.metadata.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::plane::{DEFAULT_KIND, Kind};

    fn deployment(name: &str, plane_id: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "n", "labels": {
                "app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent",
                "app.kubernetes.io/instance": "release", "app.kubernetes.io/name": "openchoreo-build-plane",
                "helm.sh/chart": "openchoreo-build-plane-0.17.0",
            }},
            "spec": {
                "selector": {"matchLabels": {"of": name}},
                "template": {"spec": {
                    "containers": [
                        {"name": "proxy", "args": ["--plane-id=other"]},
                        {"name": "agent", "args": ["--plane-id", plane_id, "--server-url=wss://g/ws", "--plane-type=buildplane"]},
                    ],
                    "volumes": [
                        {"name": "client-certs", "secret": {"secretName": "pair"}},
                        {"name": "server-ca", "configMap": {"name": "ca"}},
                    ],
                }},
            },
        })
    }

    fn pod(name: &str, of: &str, status: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": {"of": of}},
            "spec": {"containers": []}, "status": status,
        })
    }

    fn state(state: Value) -> Value {
        json!({"phase": "Pending", "containerStatuses": [
            {"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 3, "state": state},
        ]})
    }

    #[tokio::test]
    async fn an_agent_is_found_by_its_plane_id() {
        let objects = [deployment("a", "one"), deployment("b", "two")];
        let cluster = Fake::of(objects).cluster();
        let agents = cluster.agents("n").await.unwrap();
        let agent = &agents[0];
        assert_eq!((agent.plane_id.as_deref(), agent.server_url.as_deref()), (Some("one"), Some("wss://g/ws")));
        assert_eq!((agent.chart_version.as_deref(), agent.release.as_deref()), (Some("0.17.0"), Some("release")));
        assert_eq!((agent.pair().unwrap().to_string(), agent.server_ca.as_deref()), ("n/pair".into(), Some("ca")));
        let family = DEFAULT_KIND.family;
        assert_eq!(cluster.agent("n", family, Some("two")).await.unwrap().name.name, "b");
        let error = cluster.agent("n", family, Some("three")).await.unwrap_err();
        assert!(error.hint().unwrap().contains("one, two"), "{error:?}");
        assert!(matches!(cluster.agent("n", family, None).await, Err(Error::SeveralAgents { .. })));
        assert_eq!(cluster.all_agents().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn agents_of_one_plane_id_in_one_namespace_are_distinguished_by_their_plane_type() {
        let of = |name: &str, plane_type: Option<&str>| {
            let mut agent = deployment(name, "id");
            let args = &mut agent["spec"]["template"]["spec"]["containers"][1]["args"];
            args.as_array_mut().unwrap().retain(|arg| !arg.as_str().unwrap().starts_with("--plane-type"));
            args.as_array_mut().unwrap().extend(plane_type.map(|name| format!("--plane-type={name}").into()));
            agent
        };
        let family = |word: &str| Kind::of_word(word).unwrap().family;
        let three = [of("w", Some("workflowplane")), of("d", Some("dataplane")), of("o", Some("observabilityplane"))];
        let cluster = Fake::of(three).cluster();
        for (word, name) in [("cwp", "w"), ("workflowplane", "w"), ("dp", "d"), ("cop", "o"), ("cbp", "w")] {
            for plane_id in [Some("id"), None] {
                assert_eq!(cluster.agent("n", family(word), plane_id).await.unwrap().name.name, name, "{word}");
            }
            assert!(matches!(cluster.agent("n", family(word), Some("other")).await, Err(Error::NoAgent { .. })));
        }
        // One that doesn't say its type, or says one that is not known, may be any; so may one that has the chart's name.
        let agent = |name, plane_type| Agent::of(serde_json::from_value(of(name, plane_type)).unwrap());
        for (agent, word, is_meant) in [
            (agent("a", None), "dp", true),
            (agent("a", Some("futureplane")), "dp", true),
            (agent("a", Some("buildplane")), "dp", false),
            (agent("a", Some("buildplane")), "cwp", true),
            (agent("cluster-agent-dataplane", Some("buildplane")), "dp", true),
            (agent("cluster-agent-dataplane", Some("buildplane")), "cop", false),
        ] {
            assert_eq!(agent.may_be_of(family(word)), is_meant, "{agent:?} {word}");
        }
    }

    #[test]
    fn a_pod_says_why_its_agent_does_not_run() {
        let waits = |status: Value| {
            let pod = serde_json::from_value(pod("p", "a", status)).unwrap();
            AgentPod::of(pod).map(|pod| pod.waiting)
        };
        let reason = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(waits(state(json!({"waiting": {"reason": "CrashLoopBackOff"}}))), reason("CrashLoopBackOff"));
        assert_eq!(waits(state(json!({"terminated": {"reason": "Error", "exitCode": 1}}))), reason("Error"));
        assert_eq!(waits(state(json!({"waiting": {"reason": "PodInitializing"}}))), reason("Pending"));
        assert_eq!(waits(state(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}))), Some(None));
        let unscheduled = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"},
        ]});
        assert_eq!(waits(unscheduled), reason("Unschedulable"));
        assert_eq!(waits(json!({"phase": "Failed"})), None, "it is over");
    }

    #[tokio::test]
    async fn a_secret_is_changed_only_as_it_was_read() {
        let fake = Fake::default();
        let cluster = fake.cluster();
        let name = NamespacedName { namespace: "n".into(), name: "s".into() };
        let data = |text: &str| BTreeMap::from([("k".to_owned(), Zeroizing::new(text.as_bytes().to_vec()))]);
        cluster.create_secret(&name, "Opaque", data("1"), DryRun::Server).await.unwrap();
        assert!(cluster.secret(&name).await.unwrap().is_none(), "a dry run");
        let secret = cluster.create_secret(&name, "Opaque", data("1"), DryRun::None).await.unwrap();
        assert!(matches!(
            cluster.create_secret(&name, "Opaque", data("1"), DryRun::None).await,
            Err(Error::Exists { .. })
        ));
        let newer = cluster.update_secret(&secret, data("2"), DryRun::None).await.unwrap();
        assert_eq!(newer.bytes("k"), b"2");
        assert_ne!(newer.revision(), secret.revision());
        assert!(matches!(cluster.update_secret(&secret, data("3"), DryRun::None).await, Err(Error::Changed { .. })));
        assert_eq!(cluster.secrets("n").await.unwrap().len(), 1);
        cluster.delete_secret(&newer).await.unwrap();
        cluster.delete_secret(&newer).await.unwrap();
        let error = cluster.existing_secret(&name).await.err().unwrap();
        assert!(error.to_string().contains("n/s") && !error.is_not_found(), "{error}");
    }

    #[tokio::test]
    async fn what_may_be_done_is_asked_and_taken_for_granted_without_an_answer() {
        let fake = Fake::default();
        assert!(fake.cluster().may(&Right::new("get", "", "secrets", None)).await);
        let denied = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {}, "status": {"allowed": false}});
        fake.answer("POST /apis/authorization.k8s.io", 201, denied);
        assert!(!fake.cluster().may(&Right::new("get", "", "secrets", None)).await);
        fake.forbid("POST /apis/authorization.k8s.io");
        assert!(fake.cluster().may(&Right::new("get", "", "secrets", None)).await);
    }
}
