//! The reverse of a registration: what of a plane is removed from both clusters, and what stays as others use it.
//!
//! The plane goes after what is beside its agent, as it names the planeID; its CA goes after the plane, as a plane whose CA
//! is missing disconnects the agents of its whole planeID (release v0.17).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::Instant;

use super::bootstrap::{ca_name, client_ca_secret};
use super::clusters::Clusters;
use super::error::Error;
use super::observer::{Observer, Status, until};
use super::remaining::{Staying, staying};
use crate::cluster::{self, Agent, HELM_RELEASE, Right, StoredSecret, writers};
use crate::doctor::held;
use crate::estate::{CaPlace, Cause, Few, Pair, Unavailable, client_cas, removers};
use crate::pki::{Bundle, LEAF_CERTIFICATE};
use crate::plane::{DryRun, GATEWAY_CA, NamespacedName, Plane, PlaneKey, Side, rotation_secret};
use crate::text::{shell_quoted, visible};

/// The steps in their order, and what each removes.
const STEPS: [(&str, &str); 5] = [
    ("server-ca", "the ConfigMap with the gateway's CA in the agent's namespace"),
    ("agent-secret", "the Secrets with the agent's certificate and its CA"),
    ("namespace", "the agent's namespace"),
    ("plane", "the plane"),
    ("client-ca", "the Secret with the CA in the control plane"),
];

/// What is to be unregistered, and how.
pub struct Unregister {
    pub key: PlaneKey,
    pub control_namespace: String,
    /// The agent's namespace.
    pub build_namespace: String,
    /// Whether Secrets with a CA stay.
    pub keep_ca: bool,
    /// Whether Helm uninstalls the agent's release before anything else is removed.
    pub helm: bool,
    pub dry_run: DryRun,
    pub deadline: Option<Instant>,
}

/// What there is of a registered plane.
pub struct Inventory {
    pub plane: Option<Plane>,
    /// The Helm releases that are the plane's alone.
    pub releases: Vec<String>,
    pub items: Vec<Item>,
}

/// An object of a registered plane.
#[derive(Debug)]
pub struct Item {
    pub step: &'static str,
    pub side: Side,
    pub title: String,
    /// Why it is not removed.
    pub stays: Option<String>,
    path: String,
    uid: String,
}

impl Item {
    fn new(step: &'static str, side: Side, kind: &str, name: &str) -> Self {
        let title = format!("{kind} {}", visible(name));
        Self { step, side, title, stays: None, path: String::new(), uid: String::new() }
    }

    fn at(self, path: String, uid: &str) -> Self {
        Self { path, uid: uid.to_owned(), ..self }
    }

    fn stays(self, stays: Option<String>) -> Self {
        Self { stays, ..self }
    }

    fn of_secret(step: &'static str, side: Side, secret: &StoredSecret) -> Self {
        let NamespacedName { namespace, name } = &secret.name;
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        Self::new(step, side, "Secret", &secret.name.to_string()).at(path, secret.uid())
    }
}

/// Finds what there is of a plane, and what of it others use.
///
/// # Errors
/// [`Error`], and those of the clusters: what can't be looked at may be in use. A plane of which nothing is left has the
/// error of one that doesn't exist.
pub async fn inventory(clusters: Clusters<'_>, plan: &Unregister) -> anyhow::Result<Inventory> {
    let control = clusters.control;
    let plane = control.plane_if_any::<Plane>(&plan.key.name).await?;
    let kinds = control.served_kinds().await?;
    let stays = |plane: Plane| (plane.key() != plan.key).then(|| plane.without_history());
    let others = staying(control, kinds, stays).await?;
    let plane_id = plane.as_ref().map_or(plan.key.name.as_str(), Plane::plane_id).to_owned();
    let is_one = match tokio::join!(control.identity(), clusters.build.identity()) {
        (Some(control), Some(build)) => control == build,
        _ => true,
    };
    let look = Look { clusters, plan, plane_id: &plane_id, others: &others, is_one };
    let (mut items, releases) = look.beside_the_agent().await?;
    if items.iter().all(|item| item.step != "agent-secret" && item.step != "helm") && plane.is_none() {
        // Nothing shows that what is left there is this plane's.
        items.clear();
    }
    if let Some(plane) = &plane {
        items.push(Item::new("plane", Side::Control, plane.kind.kind, &plane.key().to_string()));
    }
    items.extend(look.client_ca(plane.as_ref()).await?);
    if items.is_empty() {
        // Its error names similar planes.
        control.plane::<Plane>(&plan.key.name).await?;
        return Err(control.no_plane(&plan.key.name).into());
    }
    let inventory = Inventory { plane, releases, items };
    clusters.demand("unregister", &inventory.rights(plan)).await?;
    Ok(inventory)
}

impl Inventory {
    /// Returns the objects that are removed, or those that stay.
    pub fn of(&self, stay: bool) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.stays.is_some() == stay)
    }

    fn rights(&self, plan: &Unregister) -> Vec<(Side, Right)> {
        let right = |item: &Item| {
            let (resource, group, namespace) = match item.step {
                "server-ca" => ("configmaps", "", Some(plan.build_namespace.as_str())),
                "agent-secret" => ("secrets", "", Some(plan.build_namespace.as_str())),
                "client-ca" => ("secrets", "", Some(plan.control_namespace.as_str())),
                "namespace" => ("namespaces", "", None),
                "plane" => (plan.key.kind.plural, plan.key.kind.group, plan.key.namespace.as_deref()),
                _ => return None,
            };
            Some((item.side, Right::new("delete", group, resource, namespace)))
        };
        self.of(false).filter_map(right).collect()
    }
}

/// Where to look, and what is known already.
struct Look<'l> {
    clusters: Clusters<'l>,
    plan: &'l Unregister,
    plane_id: &'l str,
    /// The planes that stay.
    others: &'l [Plane],
    /// Whether both clusters are one, or may be.
    is_one: bool,
}

impl Look<'_> {
    /// What is in the agent's namespace, and the Helm releases that are the plane's alone.
    async fn beside_the_agent(&self) -> anyhow::Result<(Vec<Item>, Vec<String>)> {
        let (build, family, namespace) =
            (self.clusters.build, self.plan.key.kind.family, self.plan.build_namespace.as_str());
        let is_ours = |agent: &Agent| agent.plane_id.as_deref() == Some(self.plane_id) && agent.may_be_of(family);
        let (ours, agents): (Vec<_>, Vec<_>) = build.agents(namespace).await?.into_iter().partition(is_ours);
        let of_agent = |agent: &Agent| match &agent.release {
            Some(release) => {
                Item::new("helm", Side::Build, "Helm release", &format!("{}/{release}", agent.name.namespace))
            }
            None => Item::new("helm", Side::Build, "Deployment", &agent.name.to_string()),
        };
        let shares = |plane: &&Plane| Staying::of(plane).may_use_agents(family, self.plane_id);
        let sharing: Vec<_> = self.others.iter().filter(shares).map(title).collect();
        if !sharing.is_empty() {
            let why = format!("planeID {} is also used by {}", visible(self.plane_id), Few::of(&sharing));
            return Ok((ours.iter().map(|agent| of_agent(agent).stays(Some(why.clone()))).collect(), Vec::new()));
        }
        let staging = rotation_secret(namespace, family, self.plane_id);
        if build.secret(&staging).await?.is_some() {
            return Err(Error::UnderWay { staging: staging.to_string() }.into());
        }
        let secrets = build.secrets(namespace).await?;
        // An uninstallation that was cut off leaves the release's record.
        let cut_off = |secret: &&StoredSecret| {
            secret.label("owner") == Some("helm") && secret.label("status") == Some("uninstalling")
        };
        let cut_off = secrets.iter().filter(cut_off).filter_map(|secret| secret.label("name"));
        let cut_off = cut_off.filter(|name| *name == family.helm_release).map(str::to_owned);
        let mut releases: Vec<_> = ours.iter().filter_map(|agent| agent.release.clone()).chain(cut_off).collect();
        releases.sort();
        releases.dedup();
        // A release may have other agents, too.
        let is_others = |release: &String| agents.iter().any(|agent| agent.release.as_ref() == Some(release));
        let (shared, releases): (Vec<_>, Vec<_>) = releases.into_iter().partition(is_others);
        let mut items: Vec<_> = ours
            .iter()
            .filter(|agent| agent.release.is_none())
            .map(|agent| {
                let command = format!(
                    "kubectl delete deployment {} --namespace {}",
                    shell_quoted(&agent.name.name),
                    shell_quoted(namespace)
                );
                of_agent(agent).stays(Some(format!(
                    "Helm did not install it; remove it with `{}`",
                    build.target().command(&command)
                )))
            })
            .collect();
        let release = |name: &String| Item::new("helm", Side::Build, "Helm release", &format!("{namespace}/{name}"));
        items.extend(
            shared.iter().map(|name| release(name).stays(Some("it contains the agent of another planeID".into()))),
        );
        let by_hand = || (!self.plan.helm).then(|| "it belongs to Helm: run helm uninstall, or use --helm".to_owned());
        items.extend(releases.iter().map(|name| release(name).stays(by_hand())));

        let beside = Beside {
            agents: &agents,
            // What Helm is going to remove keeps nothing.
            leaving: if self.plan.helm { &releases } else { &[] },
            issuers: self.cert_manager("issuers").await?,
            certificates: self.cert_manager("certificates").await?,
        };
        items.extend(self.server_ca(&beside, &secrets).await?);
        let is_asked = !self.plan.keep_ca && secrets.iter().any(|secret| self.is_ca(secret));
        let trusting = if is_asked { self.others } else { &[] };
        let cas = client_cas(self.clusters.control, trusting).await;
        let unknown =
            |plane: &Plane, why: &Unavailable| format!("it is unknown whether {} trusts it: {why}", title(plane));
        for (plane, ca) in trusting.iter().zip(&cas) {
            // The next run may know.
            if let Err(why) = ca.bundle()
                && why.cause == Cause::Unknown
            {
                anyhow::bail!("the agent's CA can't be removed: {}", unknown(plane, why));
            }
        }
        for secret in &secrets {
            if self.is_pair(secret) {
                let stays = self.mounted(secret, &beside).or_else(|| beside.written(secret));
                items.push(Item::of_secret("agent-secret", Side::Build, secret).stays(stays));
            } else if self.is_ca(secret) {
                let issued = || beside.issuer_of(secret);
                let trusted = || {
                    let ders = Bundle::from(secret.text(LEAF_CERTIFICATE).as_str()).ders().to_vec();
                    trusting.iter().zip(&cas).find_map(|(plane, ca)| match ca.bundle() {
                        Ok(held) if held.ders().iter().any(|der| ders.contains(der)) => {
                            Some(format!("{} trusts it", title(plane)))
                        }
                        Err(why) if why.cause == Cause::Forbidden => Some(unknown(plane, why)),
                        _ => None,
                    })
                };
                let kept = self.plan.keep_ca.then(|| "--keep-ca keeps it".to_owned());
                let stays = kept.or_else(|| self.mounted(secret, &beside)).or_else(issued).or_else(trusted);
                items.push(Item::of_secret("agent-secret", Side::Build, secret).stays(stays));
            }
        }
        if ours.is_empty() && items.iter().all(|item| item.step == "server-ca") {
            // Without the right to look, nothing is known of it.
            let all = build.all_agents().await.unwrap_or_default();
            if let Some(agent) = all.iter().find(|agent| is_ours(agent)) {
                let (plane_id, namespace) = (self.plane_id.to_owned(), agent.name.namespace.clone());
                return Err(Error::AgentElsewhere { plane_id, namespace }.into());
            }
        }
        items.extend(self.namespace(&items, beside.leaving).await?);
        Ok((items, releases))
    }

    /// The objects of a kind of cert-manager in the agent's namespace.
    async fn cert_manager(&self, plural: &str) -> Result<Vec<Value>, cluster::Error> {
        let path = format!("/apis/cert-manager.io/v1/namespaces/{}/{plural}", self.plan.build_namespace);
        let list = self.clusters.build.object_if_any(&path).await?.unwrap_or_default();
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Whether a Secret holds a certificate of the planeID's agent.
    fn is_pair(&self, secret: &StoredSecret) -> bool {
        let is_of = |pair: Pair| !pair.leaf().ca && pair.leaf().common_name.as_deref() == Some(self.plane_id);
        Pair::of(secret).is_ok_and(is_of)
    }

    /// Whether it holds the CA that a registration or a rotation made for cert-manager.
    fn is_ca(&self, secret: &StoredSecret) -> bool {
        let rest = secret.name.name.strip_prefix(&ca_name(self.plane_id));
        let is_suffix = |rest: &str| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_suffix))
    }

    /// Who else uses a Secret in the agent's namespace: another agent, or a plane.
    fn mounted(&self, secret: &StoredSecret, beside: &Beside<'_>) -> Option<String> {
        let agent = beside.agents.iter().find(|agent| agent.secret.as_ref() == Some(&secret.name.name));
        let agent = agent.map(|agent| format!("the agent {} presents it", visible(&agent.name.name)));
        agent.or_else(|| self.user(&secret.name).filter(|_| self.is_one))
    }

    /// The plane that stays and has its CA in a Secret.
    fn user(&self, name: &NamespacedName) -> Option<String> {
        let plane = self.others.iter().find(|plane| Staying::of(plane).uses_secret(name))?;
        Some(format!("{} has its CA there", title(plane)))
    }

    async fn server_ca(&self, beside: &Beside<'_>, secrets: &[StoredSecret]) -> Result<Option<Item>, cluster::Error> {
        let namespace = &self.plan.build_namespace;
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{GATEWAY_CA}");
        let Some(object) = self.clusters.build.object_if_any(&path).await? else {
            return Ok(None);
        };
        let metadata = &object["metadata"];
        let owner = metadata["annotations"][HELM_RELEASE].as_str();
        let owner = owner.filter(|name| !beside.leaving.iter().any(|leaving| leaving == name));
        let agent = beside.agents.iter().find(|agent| agent.server_ca.as_deref() == Some(GATEWAY_CA));
        // One that is registered and not installed yet needs it, too. A plane of another family may have the same planeID.
        let is_other = |pair: Pair| {
            let name = pair.leaf().common_name.clone().filter(|name| name != self.plane_id);
            self.others.iter().any(|other| name.as_deref() == Some(other.plane_id()))
        };
        let other = secrets.iter().find(|secret| Pair::of(secret).is_ok_and(is_other));
        let stays = owner
            .map(|name| format!("Helm release {} has it", visible(name)))
            .or_else(|| agent.map(|agent| format!("the agent {} reads it", visible(&agent.name.name))))
            .or_else(|| other.map(|secret| format!("the agent of Secret {} reads it", visible(&secret.name.name))));
        let item = Item::new("server-ca", Side::Build, "ConfigMap", &format!("{namespace}/{GATEWAY_CA}"));
        Ok(Some(item.at(path, metadata["uid"].as_str().unwrap_or_default()).stays(stays)))
    }

    /// The namespace, which goes where a registration made it and nothing but what goes is in it.
    async fn namespace(&self, items: &[Item], leaving: &[String]) -> Result<Option<Item>, cluster::Error> {
        let (build, name) = (self.clusters.build, self.plan.build_namespace.as_str());
        let path = format!("/api/v1/namespaces/{name}");
        let Some(object) = build.object_if_any(&path).await? else {
            return Ok(None);
        };
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return Ok(None);
        }
        let metadata = ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default();
        let item = Item::new("namespace", Side::Build, "Namespace", name);
        let item = item.at(path, metadata.uid.as_deref().unwrap_or_default());
        if !writers(&metadata, "/f:metadata").iter().any(|writer| writer.manager == cluster::MANAGER) {
            return Ok(Some(item.stays(Some("choreoctl did not create it".into()))));
        }
        let goes = |kind: &str, name: &str| {
            let title = format!("{kind} {}/{}", visible(&self.plan.build_namespace), visible(name));
            items.iter().any(|item| item.stays.is_none() && item.title == title)
        };
        let left = match build.contents(name).await {
            // An aggregated API server may be down for good; after other errors the next run may know.
            Err(error @ (cluster::Error::Forbidden { .. } | cluster::Error::Refused { code: 503, .. })) => {
                Some(format!("it is unknown whether the namespace is empty: {error}"))
            }
            contents => {
                let contents = contents?;
                let left = contents.iter().filter(|it| {
                    !goes(&it.kind, &it.name) && !it.release.as_ref().is_some_and(|release| leaving.contains(release))
                });
                let left: Vec<_> = left.map(|it| format!("{} {}", it.kind, it.name)).collect();
                (!left.is_empty()).then(|| format!("it has {}", Few::of(&left)))
            }
        };
        Ok(Some(item.stays(left)))
    }

    /// The Secrets with the plane's CA in the control plane.
    async fn client_ca(&self, plane: Option<&Plane>) -> anyhow::Result<Vec<Item>> {
        let (control, made) = (self.clusters.control, client_ca_secret(&self.plan.key, &self.plan.control_namespace));
        let mut items = Vec::new();
        if let Some(secret) = control.secret(&made).await? {
            let stays = self.user(&made).or_else(|| self.plan.keep_ca.then(|| "--keep-ca keeps it".to_owned()));
            items.push(Item::of_secret("client-ca", Side::Control, &secret).stays(stays));
        }
        if let Some(ca) = plane.and_then(CaPlace::secret).filter(|ca| ca.secret != made) {
            let why = "bootstrap did not create it".to_owned();
            let item = Item::new("client-ca", Side::Control, "Secret", &ca.secret.to_string());
            items.push(item.stays(self.user(&ca.secret).or(Some(why))));
        }
        Ok(items)
    }
}

/// What else is in the agent's namespace.
struct Beside<'b> {
    /// The other agents.
    agents: &'b [Agent],
    /// The releases that Helm is going to uninstall.
    leaving: &'b [String],
    issuers: Vec<Value>,
    certificates: Vec<Value>,
}

impl Beside<'_> {
    fn is_leaving(&self, object: &Value) -> bool {
        let release = object["metadata"]["annotations"][HELM_RELEASE].as_str();
        release.is_some_and(|release| self.leaving.iter().any(|leaving| leaving == release))
    }

    /// The Certificate of cert-manager that would write a Secret anew.
    fn written(&self, secret: &StoredSecret) -> Option<String> {
        let writes = |it: &&Value| it["spec"]["secretName"] == secret.name.name.as_str() && !self.is_leaving(it);
        let certificate = self.certificates.iter().find(writes)?["metadata"]["name"].as_str()?;
        Some(format!("cert-manager writes it for Certificate {}, which is still there", visible(certificate)))
    }

    /// The Issuer of cert-manager that signs with the CA in a Secret.
    fn issuer_of(&self, secret: &StoredSecret) -> Option<String> {
        let signs = |it: &&Value| it["spec"]["ca"]["secretName"] == secret.name.name.as_str() && !self.is_leaving(it);
        let issuer = self.issuers.iter().find(signs)?["metadata"]["name"].as_str()?;
        Some(format!("Issuer {} signs with it", visible(issuer)))
    }
}

/// A plane as it is named in reasons.
fn title(plane: &Plane) -> String {
    plane.key().title()
}

/// Removes what there is of a plane and nobody else uses, once Helm is done.
///
/// # Errors
/// [`Error`], and those of the clusters; a rerun continues.
pub async fn remove(clusters: Clusters<'_>, plan: &Unregister, observer: &mut dyn Observer) -> anyhow::Result<()> {
    observer.begin("look", "the plane's objects in both clusters");
    let inventory = inventory(clusters, plan).await?;
    for (step, about) in STEPS {
        observer.begin(step, about);
        let mut items = inventory.items.iter().filter(|item| item.step == step).peekable();
        if items.peek().is_none() {
            observer.outcome(step, Status::Found, "no object of the plane exists");
        }
        for item in items {
            if let Some(why) = &item.stays {
                observer.outcome(step, Status::Skipped, &format!("{} is kept: {why}", item.title));
                continue;
            }
            match &inventory.plane {
                Some(plane) if step == "plane" => delete(clusters, plan, plane, observer).await?,
                _ if plan.dry_run.sends() => {
                    clusters.of(item.side).delete_object(&item.path, &item.uid, plan.dry_run).await?;
                }
                _ => {}
            }
            observer.outcome(step, Status::Done, &format!("{} deleted{}", item.title, plan.dry_run.suffix()));
        }
    }
    Ok(())
}

/// Deletes the plane, and waits until its finalizer has let it go.
async fn delete(
    Clusters { control, .. }: Clusters<'_>,
    plan: &Unregister,
    plane: &Plane,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    if plan.dry_run.sends() && plane.metadata.deletion_timestamp.is_none() {
        match control.delete(plane, plan.dry_run).await {
            Ok(()) | Err(cluster::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !plan.dry_run.stores() {
        return Ok(());
    }
    let removers = removers(control, [plane.kind]).await;
    let remover = removers.get(plane.kind).copied().unwrap_or_default();
    until(plan.deadline, observer, async || {
        let left = control.plane_if_any::<Plane>(plane.name()).await?;
        let left = left.filter(|left| left.metadata.uid == plane.metadata.uid);
        Ok(left.map_or(Ok(()), |left| {
            Err(format!("{} {}", visible(left.name()), held(&left, remover, &plan.control_namespace)))
        }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::fixtures::{
        BUILD, CONTROL, Estate, Reports, config_map, deployment, leaf, namespace, pair_secret, plane_object, root,
        secret,
    };

    fn plan() -> Unregister {
        Unregister {
            key: PlaneKey { kind: crate::plane::DEFAULT_KIND, namespace: None, name: "p".into() },
            control_namespace: CONTROL.into(),
            build_namespace: BUILD.into(),
            keep_ca: false,
            helm: true,
            dry_run: DryRun::None,
            deadline: Some(Instant::now()),
        }
    }

    /// A namespace that choreoctl created.
    fn own_namespace() -> Value {
        let mut object = namespace(BUILD);
        object["metadata"]["managedFields"] = json!([{
            "manager": "choreoctl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {}}},
        }]);
        object
    }

    /// What a registration writes, in the order in which it is removed; each with the end of its path.
    fn registered() -> [(&'static str, Value); 6] {
        let now = jiff::Timestamp::now();
        let ca = root("ca", now);
        let cert_manager = secret(BUILD, "id-agent-ca", &[("tls.crt", &ca.certificate), ("tls.key", &ca.key)]);
        [
            ("configmaps/cluster-gateway-ca", config_map("gateway")),
            ("secrets/cluster-agent-own-tls", pair_secret("cluster-agent-own-tls", &leaf("id", &ca, now), "")),
            ("secrets/id-agent-ca", cert_manager),
            ("namespaces/builders", own_namespace()),
            ("clusterbuildplanes/p", plane_object("p", "id", &ca.certificate, now)),
            ("secrets/p-client-ca", secret(CONTROL, "p-client-ca", &[("ca.crt", &ca.certificate)])),
        ]
    }

    fn estate<'o>(objects: impl IntoIterator<Item = &'o (&'static str, Value)>) -> Estate {
        let (build, control): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|(end, object)| object["metadata"]["namespace"] == BUILD || end.starts_with("namespaces/"));
        let of =
            |objects: Vec<&(&str, Value)>| objects.into_iter().map(|(_, object)| object.clone()).collect::<Vec<_>>();
        let at = Estate::of(of(control), of(build));
        let uid = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": name}});
        at.control.put(uid("one"));
        at.build.put(uid("other"));
        at
    }

    fn left(at: &Estate) -> Vec<&'static str> {
        let is_left = |end: &&str| at.control.object(end).is_some() || at.build.object(end).is_some();
        registered().map(|(end, _)| end).into_iter().filter(is_left).collect()
    }

    async fn stays(at: &Estate, plan: &Unregister) -> Vec<String> {
        let inventory = inventory(at.clusters(), plan).await.unwrap();
        let reported = |item: &Item| format!("{}: {}", item.title, item.stays.as_deref().unwrap_or_default());
        inventory.of(true).map(reported).collect()
    }

    #[tokio::test]
    async fn all_that_was_registered_is_removed_and_nothing_in_a_dry_run() {
        let at = estate(&registered());
        // A plane of another family is independent of it, whatever its planeID.
        let mut other = plane_object("p", "id", "", jiff::Timestamp::now());
        other["kind"] = "ClusterDataPlane".into();
        at.control.put(other);
        for dry_run in [DryRun::Client, DryRun::Server] {
            let mut reported = Reports::default();
            remove(at.clusters(), &Unregister { dry_run, ..plan() }, &mut reported).await.unwrap();
            assert!(reported.steps.iter().all(|(_, status, _)| *status == Status::Done), "{:?}", reported.steps);
            assert_eq!(left(&at).len(), 6, "{dry_run:?}");
        }
        let mut reported = Reports::default();
        remove(at.clusters(), &plan(), &mut reported).await.unwrap();
        assert_eq!(left(&at), [""; 0]);
        assert!(reported.says("agent-secret", "Secret builders/id-agent-ca deleted"), "{:?}", reported.steps);
        let error = remove(at.clusters(), &plan(), &mut reported).await.unwrap_err();
        assert!(error.downcast_ref::<cluster::Error>().is_some_and(cluster::Error::is_not_found), "{error}");
    }

    #[tokio::test]
    async fn a_removal_that_ends_after_any_step_is_finished_by_the_next_run() {
        let all = registered();
        for (number, (end, object)) in all.iter().enumerate() {
            // The path of the namespace begins those of what is in it.
            if object["kind"] != "Namespace" {
                let at = estate(&all);
                let on_control = object["metadata"]["namespace"] == CONTROL || object["kind"] == "ClusterBuildPlane";
                let fake = if on_control { &at.control } else { &at.build };
                let space = object["metadata"]["namespace"].as_str().map(|it| format!("namespaces/{it}/"));
                let group =
                    if object["kind"] == "ClusterBuildPlane" { "apis/openchoreo.dev/v1alpha1" } else { "api/v1" };
                fake.forbid(&format!("DELETE /{group}/{}{end}", space.unwrap_or_default()));
                remove(at.clusters(), &plan(), &mut Reports::default()).await.unwrap_err();
                let expected: Vec<_> = all[number..].iter().map(|(end, _)| *end).collect();
                assert_eq!(left(&at), expected, "before {end}");
            }
            // As the next run finds it.
            let at = estate(&all[number..]);
            remove(at.clusters(), &plan(), &mut Reports::default()).await.unwrap();
            assert_eq!(left(&at), [""; 0], "after {end}");
        }
    }

    #[tokio::test]
    async fn what_others_use_or_made_stays() {
        let now = jiff::Timestamp::now();
        let all = registered();
        let ca = all[4].1["spec"]["clusterAgent"]["clientCA"]["value"].as_str().unwrap();
        // Another plane of the planeID, also of a release's other name.
        let at = estate(&all);
        at.build.put(deployment(BUILD, "agent", "id", "cluster-agent-own-tls"));
        at.control.put(plane_object("twin", "id", "", now));
        let why = "planeID id is also used by ClusterBuildPlane twin";
        assert_eq!(stays(&at, &plan()).await, [format!("Helm release builders/release: {why}")]);
        // Another agent, and a plane that trusts the CA and one that has it in the same Secret.
        let at = estate(&all);
        at.build.put(deployment(BUILD, "other", "else", "cluster-agent-own-tls"));
        at.control.put(plane_object("truster", "else", ca, now));
        let mut sharer = plane_object("sharer", "third", "", now);
        let reference = json!({"namespace": CONTROL, "name": "p-client-ca", "key": "ca.crt"});
        sharer["spec"]["clusterAgent"]["clientCA"] = json!({"secretRef": reference});
        at.control.put(sharer);
        let reported = stays(&at, &plan()).await;
        let expected = [
            "Secret builders/cluster-agent-own-tls: the agent other presents it",
            "Secret builders/id-agent-ca: ClusterBuildPlane sharer trusts it",
            "Namespace builders: it has Secret cluster-agent-own-tls, Secret id-agent-ca, Deployment other",
            "Secret control/p-client-ca: ClusterBuildPlane sharer has its CA there",
        ];
        assert_eq!(reported, expected);
        // A namespace that others created, a CA that is kept, and what cert-manager would write again.
        let mut more = all.clone();
        more[3].1 = namespace(BUILD);
        let issuer = json!({"apiVersion": "cert-manager.io/v1", "kind": "Issuer",
            "metadata": {"namespace": BUILD, "name": "i"}, "spec": {"ca": {"secretName": "id-agent-ca"}}});
        let certificate = json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate",
            "metadata": {"namespace": BUILD, "name": "c"}, "spec": {"secretName": "cluster-agent-own-tls"}});
        let at = estate(&more);
        at.build.put(issuer);
        at.build.put(certificate);
        let reported = stays(&at, &plan()).await;
        let written = "cert-manager writes it for Certificate c, which is still there";
        let expected = [
            format!("Secret builders/cluster-agent-own-tls: {written}"),
            "Secret builders/id-agent-ca: Issuer i signs with it".into(),
            "Namespace builders: choreoctl did not create it".into(),
        ];
        assert_eq!(reported, expected);
        let reported = stays(&estate(&all), &Unregister { keep_ca: true, ..plan() }).await;
        assert_eq!(
            reported.iter().filter(|reported| reported.ends_with(": --keep-ca keeps it")).count(),
            2,
            "{reported:?}"
        );
    }

    #[tokio::test]
    async fn helm_removes_what_it_installed_or_is_named() {
        let at = estate(&registered());
        let mut map = config_map("gateway");
        map["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "release"});
        at.build.put(map);
        at.build.put(deployment(BUILD, "agent", "id", "cluster-agent-own-tls"));
        let helm = inventory(at.clusters(), &plan()).await.unwrap();
        assert_eq!(helm.releases, ["release"]);
        let reported = stays(&at, &Unregister { helm: false, ..plan() }).await;
        assert!(
            reported.contains(
                &"Helm release builders/release: it belongs to Helm: run helm uninstall, or use --helm".to_owned()
            ),
            "{reported:?}"
        );
        assert!(reported.contains(&"ConfigMap builders/cluster-gateway-ca: Helm release release has it".to_owned()));
        // An uninstallation that was cut off.
        let at = estate(&registered());
        let mut record = secret(BUILD, "sh.helm.release.v1.openchoreo-build-plane.v1", &[]);
        let name = "openchoreo-build-plane";
        record["metadata"]["labels"] = json!({"owner": "helm", "name": name, "status": "uninstalling"});
        at.build.put(record);
        assert_eq!(inventory(at.clusters(), &plan()).await.unwrap().releases, [name]);
        // One that Helm did not install.
        let at = estate(&registered());
        let mut agent = deployment(BUILD, "agent", "id", "s");
        agent["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/instance");
        at.build.put(agent);
        let reported = stays(&at, &plan()).await;
        assert!(
            reported[0].contains("remove it with `kubectl delete deployment agent --namespace builders"),
            "{reported:?}"
        );
    }

    #[tokio::test]
    async fn what_is_not_known_to_be_unused_is_not_removed() {
        let at = estate(&registered());
        at.build.forbid("GET /api/v1/namespaces/builders/secrets?");
        assert!(inventory(at.clusters(), &plan()).await.is_err());
        let at = estate(&registered());
        at.control.forbid("GET /apis/openchoreo.dev/v1alpha1/dataplanes");
        assert!(inventory(at.clusters(), &plan()).await.is_err());
        let at = estate(&registered());
        at.build.put(secret(BUILD, "choreoctl-rotation-id", &[]));
        let error = inventory(at.clusters(), &plan()).await.err().unwrap();
        assert!(matches!(error.downcast_ref(), Some(Error::UnderWay { .. })), "{error}");
        let at = estate(&registered()[4..]);
        at.build.put(deployment("elsewhere", "agent", "id", "s"));
        let error = inventory(at.clusters(), &plan()).await.err().unwrap();
        assert!(matches!(error.downcast_ref(), Some(Error::AgentElsewhere { .. })), "{error}");
        // What may not be known stays; what the next run may know is an error.
        let contents = "GET /api/v1/namespaces/builders/configmaps?";
        for (code, is_kept) in [(403, true), (503, true), (500, false), (429, false)] {
            let at = estate(&registered());
            at.build.answer(contents, code, json!({"kind": "Status", "code": code}));
            let found = inventory(at.clusters(), &plan()).await;
            assert_eq!(found.is_ok(), is_kept, "{code}");
            let kept = found.iter().flat_map(|found| found.of(true)).filter_map(|item| item.stays.as_deref());
            assert_eq!(kept.filter(|why| why.starts_with("it is unknown whether")).count(), usize::from(is_kept));
        }
        // A ConfigMap without anything that is the plane's may be another one's.
        let at = estate(&registered()[..1]);
        assert!(inventory(at.clusters(), &plan()).await.is_err());
        let denied = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {}, "status": {"allowed": false}});
        let at = estate(&registered());
        at.build.answer("POST /apis/authorization.k8s.io", 201, denied);
        let error = inventory(at.clusters(), &plan()).await.err().unwrap().to_string();
        assert!(error.contains("delete secrets in the namespace builders of"), "{error}");
    }
}
