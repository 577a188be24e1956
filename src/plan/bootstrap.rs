//! Registering a build cluster: certificates, what the agent's cluster needs, the plane, the gateway's word, Helm's values.
//! Each step looks first, so that a rerun writes nothing that is right and goes on where a run was cut off.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::agent::{Data, pair_data, pair_of};
use super::{Error, Observer, Right, Status, demand, until};
use crate::cluster::{self, Agent, Cluster, StoredSecret, comparable, labelled};
use crate::doctor::{GATEWAY_CA, Pair};
use crate::estate::client_cas;
use crate::gateway::{Answer, GatewayUrl, Identity, ProbeError, Question, Reply, count, probe};
use crate::manifest::to_yaml;
use crate::pki::{
    self, Authority, CA_CERTIFICATE, Certificate, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey, Verdict,
};
use crate::plane::{
    CA_KEY, CLUSTER_BUILD_PLANE, CaSecret, DryRun, NamespacedName, ObservabilityPlaneRef, Plane, RELEASE, SecretKeyRef,
    Span, State,
};
use crate::secrets::redacted;
use crate::text::{shell_quoted, visible};

/// The Secret of an agent's own pair: another one than the chart's cert-manager writes.
const OWN_SECRET: &str = "cluster-agent-own-tls";
/// The Secret that the chart's cert-manager writes.
const CHART_SECRET: &str = "cluster-agent-tls";
/// The agent's Deployment and ClusterRole, as the chart calls them.
const AGENT: &str = "cluster-agent-buildplane";
/// A CRD of Argo Workflows, which the chart brings along.
const ARGO_CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workflows.argoproj.io";
/// What it is to write where that one is somebody else's.
const UNUSED_SECRET: &str = "cluster-agent-unused-tls";
/// All Secrets that an agent's certificate can be in, in its namespace.
pub const AGENT_SECRETS: [&str; 3] = [CHART_SECRET, OWN_SECRET, UNUSED_SECRET];
/// How long what is made is valid.
const CA_VALID_FOR: Span = Span::from_seconds(5 * 365 * 86_400);
const VALID_FOR: Span = Span::from_seconds(365 * 86_400);

/// Who issues the agent's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Issuer {
    /// choreoctl, into a Secret of the operator's
    Own,
    /// cert-manager, from a CA that is made here
    CertManager,
    /// Whoever did: the certificate in the build cluster is taken over
    Existing,
}

/// Where the plane has its CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CaIn {
    /// In the plane itself
    #[default]
    Value,
    /// In a Secret beside the gateway
    Secret,
}

/// A certificate and its key, in PEM.
pub type Pem = (String, Zeroizing<String>);

/// A CA that is brought along without its key: somebody else issues what it is to trust.
#[derive(Clone)]
pub enum Given {
    /// In PEM, to be written into the plane.
    Value(String),
    /// In a Secret of the control plane.
    Secret(CaSecret),
}

/// What is to be registered, and where.
pub struct Bootstrap {
    pub control: Cluster,
    pub control_namespace: String,
    pub build: Cluster,
    pub build_namespace: String,
    /// The plane without its CA.
    pub plane: Plane,
    /// As the build cluster suggests, unless given.
    pub issuer: Option<Issuer>,
    pub given: Option<Given>,
    pub ca_in: CaIn,
    pub gateway_url: Option<GatewayUrl>,
    pub key_algorithm: KeyAlgorithm,
    /// A CA that is at hand with its key.
    pub authority: Option<Authority>,
    /// An agent's pair that is at hand.
    pub pair: Option<Pem>,
    /// Whether what is there and differs is replaced unasked.
    pub force: bool,
    /// Whether Helm is to be run.
    pub install: bool,
    /// Where Helm's values are to go, and what stands there.
    pub values: Option<(String, Option<String>)>,
    pub dry_run: DryRun,
    /// Longest time for the gateway's answer.
    pub limit: Duration,
}

/// What came of it.
pub struct Made {
    /// Helm's values for the agent.
    pub values: Value,
    /// The Helm release of an agent that is there.
    pub release: Option<String>,
    /// The CA that the plane trusts, in PEM.
    ca: String,
    /// What the agent verifies the gateway against, in PEM.
    gateway_ca: String,
}

/// The same for clusters that aren't at hand.
pub struct Offline {
    /// Helm's values for the agent.
    pub values: Value,
    pub ca: Pem,
    /// What the Secret beside the agent is called.
    pub secret: String,
    /// The agent's pair, unless cert-manager is to issue it.
    pub pair: Option<Pem>,
    /// The objects of the control plane.
    pub objects: Vec<Value>,
}

/// What the agent is to present, and the CA that the plane is to trust.
struct Certificates {
    ca: String,
    authority: Option<Authority>,
    /// What is to stand in the agent's Secret, or does.
    pair: Option<Pem>,
    /// Whether cert-manager writes that Secret.
    by_cert_manager: bool,
    /// What the Secret beside the agent is to hold yet.
    data: Option<Data>,
    /// That Secret, where it is to be replaced.
    replaced: Option<StoredSecret>,
    /// A CA that was made, and is to be kept before anything trusts it.
    made: Option<Pem>,
    /// What was done, where it is to be told yet.
    told: Option<String>,
}

impl Certificates {
    /// A CA, and nothing else yet.
    fn found(ca: String) -> Self {
        Self {
            ca,
            authority: None,
            pair: None,
            by_cert_manager: false,
            data: None,
            replaced: None,
            made: None,
            told: None,
        }
    }
}

/// Something that is there and would be replaced.
struct Difference {
    what: String,
    before: String,
    after: String,
}

/// A step, and what it sees to.
pub struct Step {
    pub id: &'static str,
    pub about: &'static str,
}

/// The steps in their order, as they are told.
pub static STEPS: &[Step] = &[
    Step { id: "contexts", about: "both clusters answer, and are two" },
    Step { id: "rights", about: "all that it takes is allowed" },
    Step { id: "crd", about: "the control plane serves the kind" },
    Step { id: "gateway-ca", about: "the gateway's CA is in its Secret" },
    Step { id: "gateway", about: "the gateway answers, with a certificate for its name" },
    Step { id: "cert-manager", about: "the build cluster has what the chart needs" },
    Step { id: "certificates", about: "a CA and the agent's certificate: made, or taken over" },
    Step { id: "namespace", about: "the agent's namespace" },
    Step { id: "server-ca", about: "the ConfigMap with the gateway's CA beside the agent" },
    Step { id: "agent-secret", about: "the Secret beside the agent" },
    Step { id: "client-ca", about: "the CA beside the gateway, where it isn't in the plane" },
    Step { id: "plane", about: "the plane" },
    Step { id: "probe", about: "the gateway authorizes the agent's certificate" },
    Step { id: "values", about: "Helm's values" },
    Step { id: "helm", about: "the agent's chart" },
    Step { id: "wait", about: "the agent is connected, and authorized for this plane" },
];

/// A step begins.
pub fn begin(step: &'static str, observer: &mut dyn Observer) {
    if let Some(step) = STEPS.iter().find(|known| known.id == step) {
        observer.begin(step.id, step.about);
    }
}

/// A CA for the agents of a planeID, and its certificate and key in PEM.
fn new_authority(id: &str, algorithm: KeyAlgorithm, now: Timestamp) -> Result<(Authority, Pem), pki::IssueError> {
    let name: String = format!("build plane agents of {id}").chars().take(64).collect();
    let ca = pki::ca(&name, algorithm, CA_VALID_FOR, now)?;
    let key = ca.key.to_pem();
    let authority = Authority::from_pem(&ca.certificate, &key, now)?;
    Ok((authority, (ca.certificate, key)))
}

/// The same for clusters that aren't at hand: what isn't at hand of certificates is made, with cert-manager only the CA's.
///
/// # Errors
/// Those of making certificates.
pub fn offline(
    plane: &Plane,
    (issuer, ca_in): (Issuer, CaIn),
    (url, control_namespace): (Option<&GatewayUrl>, &str),
    at_hand: (Option<Authority>, Option<Pem>),
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> Result<Offline, pki::IssueError> {
    let id = plane.plane_id();
    let (authority, ca) = match at_hand.0 {
        Some(authority) => {
            let ca = (pki::encode("CERTIFICATE", &authority.certificate.der), authority.key_to_pem());
            (authority, ca)
        }
        None => new_authority(id, algorithm, now)?,
    };
    let pair = match (issuer, at_hand.1) {
        (Issuer::Own, Some(pair)) => Some(pair),
        (Issuer::Own, None) => Some(new_pair(id, &authority, algorithm, now)?.0),
        _ => None,
    };
    let mut plane = plane.clone();
    let mut objects = Vec::new();
    match ca_in {
        CaIn::Value => plane.spec.cluster_agent.client_ca.value = Some(ca.0.clone()),
        CaIn::Secret => {
            let name = client_ca_secret(control_namespace, plane.name());
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name.name, "namespace": name.namespace},
                "stringData": {CA_KEY: ca.0},
            }));
            plane.spec.cluster_agent.client_ca.secret_ref = Some(reference(name, CA_KEY.into()));
        }
    }
    objects.push(plane.manifest());
    let secret = if pair.is_some() { OWN_SECRET.to_owned() } else { ca_secret(id) };
    Ok(Offline { values: values(id, url, tls(issuer, id)), ca, secret, pair, objects })
}

/// An agent's pair, and the end of its certificate.
fn new_pair(
    id: &str,
    authority: &Authority,
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> Result<(Pem, Timestamp), pki::IssueError> {
    let leaf = pki::client(id, authority, PrivateKey::generate(algorithm)?, VALID_FOR, now)?;
    Ok(((leaf.pair.certificate, leaf.pair.key.to_pem()), leaf.pair.not_after))
}

fn client_ca_secret(namespace: &str, plane: &str) -> NamespacedName {
    NamespacedName { namespace: namespace.to_owned(), name: format!("{plane}-client-ca") }
}

fn reference(secret: NamespacedName, key: String) -> SecretKeyRef {
    SecretKeyRef { name: secret.name, namespace: Some(secret.namespace), key }
}

/// Registers a build cluster.
///
/// # Errors
/// [`Error`], and those of the clusters; whatever stands is right, and a rerun goes on.
pub async fn bootstrap(plan: &Bootstrap, observer: &mut dyn Observer) -> anyhow::Result<Made> {
    plan.contexts(observer).await?;
    let is_new = plan.rights(observer).await?;
    let by_name = plan.crd(observer).await?;
    let gateway_ca = plan.gateway_ca(observer).await?;
    plan.gateway(&gateway_ca, observer).await?;
    let issuer = plan.issuer(observer).await?;
    let agent = plan.agent(issuer).await?;
    let name = plan.agent_name(agent.as_ref()).await?;
    let mut certificates = plan.certificates(issuer, agent.as_ref(), observer).await?;
    plan.foretell(&certificates)?;
    // All questions come before the first write.
    let tls = match issuer {
        Issuer::Existing => tls_of(&certificates, agent.as_ref()),
        issuer => tls(issuer, plan.plane.plane_id()),
    };
    let mut values = values(plan.plane.plane_id(), plan.gateway_url.as_ref(), tls);
    if let Some(name) = name {
        values["clusterAgent"]["name"] = name.into();
    }
    let mut differences = plan.differences(&certificates, &gateway_ca, by_name).await?;
    if let Some((what, Some(before))) = plan.values.clone() {
        let after = to_yaml(&values)?;
        differences.extend((before != after).then_some(Difference { what, before, after }));
    }
    for Difference { what, before, after } in differences {
        if !plan.force && !observer.replaces(&what, &before, &after)? {
            return Err(Error::Differs { what }.into());
        }
    }
    plan.keep(&mut certificates, observer)?;
    plan.namespace(is_new, observer).await?;
    plan.server_ca(&gateway_ca, is_new, observer).await?;
    plan.agent_secret(issuer, &mut certificates, is_new, observer).await?;
    plan.plane(&certificates.ca, by_name, observer).await?;
    plan.probe(&gateway_ca, &certificates, observer).await?;
    Ok(Made { values, release: agent.and_then(|agent| agent.release), ca: certificates.ca, gateway_ca })
}

/// Helm's values for the agent.
fn values(plane_id: &str, url: Option<&GatewayUrl>, tls: Value) -> Value {
    let mut agent = json!({"planeID": plane_id, "tls": tls});
    if let Some(url) = url {
        agent["serverUrl"] = url.to_string().into();
    }
    json!({"clusterAgent": agent})
}

fn tls(issuer: Issuer, plane_id: &str) -> Value {
    match issuer {
        Issuer::Own => json!({"enabled": true, "clientSecretName": OWN_SECRET}),
        Issuer::CertManager => json!({"enabled": true, "generateCerts": false, "caSecretName": ca_secret(plane_id)}),
        Issuer::Existing => json!({"enabled": true}),
    }
}

/// The same for a Secret that was taken over. One that cert-manager doesn't write has to be kept from the chart's
/// Certificate, which writes another one then, unused.
fn tls_of(certificates: &Certificates, agent: Option<&Agent>) -> Value {
    let secret = agent.and_then(|agent| agent.secret.as_deref()).unwrap_or(CHART_SECRET);
    let mut tls = tls(Issuer::Existing, "");
    if !certificates.by_cert_manager {
        tls["clientSecretName"] = secret.into();
        if secret == CHART_SECRET {
            tls["secretName"] = UNUSED_SECRET.into();
        }
    } else if secret != CHART_SECRET {
        tls["clientSecretName"] = secret.into();
    }
    tls
}

fn ca_secret(plane_id: &str) -> String {
    format!("{plane_id}-agent-ca")
}

/// Whether an agent runs with these values already: as its Deployment says, and with a certificate that the plane trusts.
///
/// # Errors
/// Those of the build cluster.
pub async fn installed(plan: &Bootstrap, made: &Made, version: &str) -> Result<bool, cluster::Error> {
    let agents = plan.build.agents(&plan.build_namespace).await?;
    let url = plan.gateway_url.as_ref().map(ToString::to_string);
    let fits = |agent: &&Agent| {
        let tls = &made.values["clusterAgent"]["tls"]["clientSecretName"];
        agent.plane_id.as_deref() == Some(plan.plane.plane_id())
            && (url.is_none() || agent.server_url == url)
            && (tls.is_null() || agent.secret.as_deref() == tls.as_str())
            && agent.chart_version.as_deref().is_none_or(|there| there == version)
    };
    let Some(name) = agents.iter().find(fits).and_then(Agent::pair) else {
        return Ok(false);
    };
    let presented = plan.build.secret(&name).await?.map(|secret| pki::certificates(&secret.text(LEAF_CERTIFICATE)));
    let now = plan.control.now();
    let trusted = |presented: Vec<_>| matches!(pki::verify(&presented, &made.ca, now), Verdict::Authorized { .. });
    Ok(presented.is_some_and(trusted))
}

/// Waits until the agent is connected, and authorized for this very plane.
///
/// # Errors
/// [`Error::TimedOut`], and those of the clusters.
pub async fn authorized(
    plan: &Bootstrap,
    made: &Made,
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    begin("wait", observer);
    let name = plan.plane.name();
    let mut looks = 0;
    let told = until(deadline, observer, async || {
        looks += 1;
        let plane: Plane = plan.control.plane(name).await?;
        let state = plane.state(plan.control.now());
        if state != State::Connected {
            return Ok(Err(format!("{name} is {}, and the control plane tells of it once a minute", state.name())));
        }
        let Some(url) = &plan.gateway_url else {
            return Ok(Ok("an agent of the planeID is connected".to_owned()));
        };
        let question = plan.question(url, &made.gateway_ca, None);
        Ok(match count(question, name).await.ok().flatten().map(|counted| counted.connected_agents) {
            None => Ok("an agent of the planeID is connected; the gateway doesn't tell for which plane".to_owned()),
            Some(0) => Err(format!("an agent of the planeID is connected, and none that {name} lets in")),
            Some(agents) => Ok(format!("connected, and the gateway counts {agents} for {name}")),
        })
    })
    .await?;
    observer.tell("wait", if looks > 1 { Status::Done } else { Status::Found }, &told);
    Ok(())
}

/// Whether one has all that the other says, at whatever depth.
fn covers(there: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, wanted)| covers(&there[name], wanted)),
        wanted => there == wanted,
    }
}

/// Whether a text holds all certificates of another one.
fn has_all(held: &str, wanted: &str) -> bool {
    let held = pki::certificates(held);
    pki::certificates(wanted).iter().all(|der| held.contains(der))
}

/// Certificates in words, a line each, to be compared.
fn described(text: &str) -> String {
    let line = |certificate: Certificate| {
        format!("{} until {} sha256 {}\n", visible(&certificate.subject), certificate.not_after, certificate.sha256)
    };
    let lines: String = Certificate::all_in(text).into_iter().map(line).collect();
    if lines.is_empty() { "no certificate\n".into() } else { lines }
}

impl Bootstrap {
    async fn contexts(&self, observer: &mut dyn Observer) -> anyhow::Result<()> {
        begin("contexts", observer);
        let (control, build) = tokio::join!(self.control.version(), self.build.version());
        let told = format!("control plane {}, build cluster {}", control?, build?);
        let (one, other) = tokio::join!(self.control.identity(), self.build.identity());
        let same = if one.is_some() && one == other { "; both are one and the same cluster" } else { "" };
        observer.tell("contexts", Status::Found, &format!("{told}{same}"));
        Ok(())
    }

    /// Whether all that may be done is allowed; and whether the agent's namespace is to be made.
    async fn rights(&self, observer: &mut dyn Observer) -> anyhow::Result<bool> {
        begin("rights", observer);
        let path = format!("/api/v1/namespaces/{}", self.build_namespace);
        let is_new = match self.build.object_if_any(&path).await {
            Ok(there) => there.is_none(),
            // Told below, with the others.
            Err(cluster::Error::Forbidden { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let (group, planes) = (CLUSTER_BUILD_PLANE.group, CLUSTER_BUILD_PLANE.plural);
        let control = Some(self.control_namespace.as_str());
        let build = Some(self.build_namespace.as_str());
        let mut needed: Vec<Right<'_>> =
            vec![(&self.control, "get", "", "secrets", control), (&self.build, "get", "", "namespaces", None)];
        needed.extend(["get", "create", "patch"].map(|verb| (&self.control, verb, group, planes, None)));
        for resource in ["secrets", "configmaps"] {
            needed.extend(["get", "create", "patch"].map(|verb| (&self.build, verb, "", resource, build)));
        }
        if is_new {
            needed.push((&self.build, "create", "", "namespaces", None));
        }
        if self.ca_in == CaIn::Secret {
            needed.extend(["create", "patch"].map(|verb| (&self.control, verb, "", "secrets", control)));
        }
        if self.install || self.issuer == Some(Issuer::Existing) || self.given.is_some() {
            needed.push((&self.build, "list", "apps", "deployments", build));
        }
        demand("bootstrap", &needed).await?;
        observer.tell("rights", Status::Found, "all that it takes is allowed");
        Ok(is_new)
    }

    /// Whether the CRD that is served names observability planes by a plain name.
    async fn crd(&self, observer: &mut dyn Observer) -> anyhow::Result<bool> {
        begin("crd", observer);
        // A missing kind is an error of its own.
        self.control.plane_if_any::<Plane>(self.plane.name()).await?;
        let kind = CLUSTER_BUILD_PLANE.kind;
        let by_name = match self.control.served().await {
            Ok(served) => served.observability_by_name,
            // It takes a right of its own to read it.
            Err(cluster::Error::Forbidden { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let told = if by_name {
            format!("the control plane serves the {kind} of v0.14, whose gateway lets in no agent through one")
        } else {
            format!("the control plane serves {kind}")
        };
        observer.tell("crd", Status::Found, &told);
        Ok(by_name)
    }

    /// The gateway's CA out of its Secret: the ConfigMap of that name is a placeholder.
    async fn gateway_ca(&self, observer: &mut dyn Observer) -> anyhow::Result<String> {
        begin("gateway-ca", observer);
        let name = NamespacedName { namespace: self.control_namespace.clone(), name: GATEWAY_CA.into() };
        let bytes = self.control.secret_keys(&name, &[CA_KEY]).await?.concat();
        let ca = pki::bundle(&bytes).with_context(|| format!("Secret {name} can't be used"))?;
        observer.tell("gateway-ca", Status::Found, &format!("Secret {name} holds the gateway's CA"));
        Ok(ca)
    }

    async fn gateway(&self, ca: &str, observer: &mut dyn Observer) -> anyhow::Result<()> {
        begin("gateway", observer);
        let Some(url) = &self.gateway_url else {
            observer.tell("gateway", Status::Skipped, "no --gateway-url is given: it is not asked");
            return Ok(());
        };
        match probe(self.question(url, ca, None)).await {
            Ok(_) | Err(ProbeError::Dropped(_)) => {
                observer.tell(
                    "gateway",
                    Status::Found,
                    &format!("{} answers, with a valid certificate", visible(&url.to_string())),
                );
                Ok(())
            }
            Err(error) => {
                let hint = match &error {
                    ProbeError::Expired(_) => "restart the gateway: it reads its certificate once, at its start".into(),
                    ProbeError::WrongName { host, .. } if host.parse::<std::net::IpAddr>().is_ok() => {
                        "use a host name: the chart can't put an address into the gateway's certificate".into()
                    }
                    ProbeError::WrongName { host, .. } => {
                        format!("add {} to clusterGateway.tls.dnsNames, and restart the gateway", visible(host))
                    }
                    _ => format!("is {} right?", visible(&url.to_string())),
                };
                Err(Error::Gateway { why: error.to_string(), hint }.into())
            }
        }
    }

    fn question<'q>(&'q self, url: &'q GatewayUrl, ca: &'q str, identity: Option<Identity>) -> Question<'q> {
        Question {
            url,
            plane_type: CLUSTER_BUILD_PLANE.family.plane_type,
            plane_id: self.plane.plane_id(),
            identity,
            server_ca: ca,
            limit: self.limit,
        }
    }

    /// cert-manager where its CRDs are, unless said otherwise.
    async fn issuer(&self, observer: &mut dyn Observer) -> anyhow::Result<Issuer> {
        begin("cert-manager", observer);
        let has = self.build.object_if_any("/apis/cert-manager.io/v1").await.ok().flatten().is_some();
        let answer = if has { self.cert_manager().await } else { Ok("") };
        let (status, told) = match &answer {
            Ok(_) if !has => (
                Status::Skipped,
                "the build cluster has no cert-manager.io/v1: install it before the chart, which needs it".to_owned(),
            ),
            Ok(found) => (Status::Found, format!("the build cluster has cert-manager.io/v1{found}")),
            Err(why) => (Status::Skipped, format!("cert-manager does not work: {}", visible(why))),
        };
        observer.tell("cert-manager", status, &told);
        let issuer = self.chosen_issuer(has).await?;
        match answer {
            Err(why) if issuer == Issuer::CertManager => {
                let command =
                    self.build.target().command("kubectl get deployments -A -l app.kubernetes.io/name=cert-manager");
                Err(Error::NoCertManager { why, command }.into())
            }
            _ => Ok(issuer),
        }
    }

    /// Whether cert-manager works, beyond its CRDs: its controller is available, or its webhook at least admits an Issuer.
    ///
    /// # Errors
    /// Why not.
    async fn cert_manager(&self) -> Result<&'static str, String> {
        let controllers = "app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller";
        let list = self.build.object(&labelled("/apis/apps/v1/deployments", controllers)).await.unwrap_or_default();
        let controllers = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_available = |one: &Value| one["status"]["availableReplicas"].as_i64().is_some_and(|count| count > 0);
        match controllers.first() {
            Some(_) if controllers.iter().any(is_available) => return Ok(", and its controller is available"),
            Some(one) => {
                let metadata = &one["metadata"];
                let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
                return Err(format!("Deployment {}/{} has no available pod", text("namespace"), text("name")));
            }
            None => {}
        }
        let issuer = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "Issuer",
            "metadata": {"generateName": "choreoctl-"},
            "spec": {"selfSigned": {}},
        });
        match self
            .build
            .create_object("/apis/cert-manager.io/v1/namespaces/default/issuers", &issuer, DryRun::Server)
            .await
        {
            // A webhook that is down.
            Err(cluster::Error::Refused { message, .. }) => Err(message),
            Ok(_) => Ok("; its controller was not found, and its API admits an Issuer"),
            Err(_) => Ok("; whether its controller runs is unknown"),
        }
    }

    async fn chosen_issuer(&self, has: bool) -> anyhow::Result<Issuer> {
        if let Some(issuer) = self.issuer {
            return Ok(issuer);
        }
        if self.given.is_some() {
            return Ok(Issuer::Existing);
        }
        // The way of a run before is gone on.
        let (own, ca) = (self.secret_of(Issuer::Own, None), self.secret_of(Issuer::CertManager, None));
        let (own, ca) = tokio::try_join!(self.build.secret(&own), self.build.secret(&ca))?;
        let is_own = own.is_some_and(|own| self.is_ours(&own, self.control.now()).is_ok());
        Ok(if is_own || (ca.is_none() && !has) { Issuer::Own } else { Issuer::CertManager })
    }

    fn beside(&self, name: &str) -> NamespacedName {
        NamespacedName { namespace: self.build_namespace.clone(), name: name.to_owned() }
    }

    /// Tells what was done, or would be.
    fn done(&self, step: &'static str, told: &str, observer: &mut dyn Observer) {
        observer.tell(step, Status::Done, &format!("{told}{}", self.dry_run.suffix()));
    }

    /// Whether something is sent into the agent's namespace: nothing can be tried in one that isn't there.
    fn sends(&self, is_new: bool) -> bool {
        self.dry_run.stores() || (self.dry_run.sends() && !is_new)
    }

    /// The CA that was brought along.
    async fn given(&self) -> anyhow::Result<Option<String>> {
        Ok(match &self.given {
            None => None,
            Some(Given::Value(text)) => Some(text.clone()),
            Some(Given::Secret(CaSecret { secret, key })) => {
                let bytes = self.control.secret_keys(secret, &[key]).await?.concat();
                Some(pki::bundle(&bytes)?)
            }
        })
    }

    /// The agent of the planeID, where there is one.
    async fn agent(&self, issuer: Issuer) -> anyhow::Result<Option<Agent>> {
        let agents = match self.build.agents(&self.build_namespace).await {
            // It is of use, and not needed.
            Err(cluster::Error::Forbidden { .. }) if issuer != Issuer::Existing && !self.install => return Ok(None),
            agents => agents?,
        };
        let id = self.plane.plane_id();
        let (ours, others): (Vec<_>, Vec<_>) =
            agents.into_iter().partition(|agent| agent.plane_id.as_deref() == Some(id));
        if let ([], Some(other)) = (ours.as_slice(), others.into_iter().find_map(|agent| agent.plane_id)) {
            self.refuse_agent_of(&other).await?;
        }
        Ok(ours.into_iter().next())
    }

    /// What the chart is to call the agent, where another release has the default name already; none where it may have that.
    ///
    /// # Errors
    /// [`Error::AgentElsewhere`] and [`Error::InstalledOnce`], before anything is written.
    async fn agent_name(&self, agent: Option<&Agent>) -> anyhow::Result<Option<String>> {
        if let Some(agent) = agent {
            return Ok(Some(agent.name.name.clone()).filter(|name| name != AGENT));
        }
        let agents = match self.build.all_agents().await {
            // Who may not look finds out by Helm.
            Err(cluster::Error::Forbidden { .. }) => return Ok(None),
            agents => agents?,
        };
        let id = self.plane.plane_id();
        let others = || agents.iter().filter(|agent| agent.name.namespace != self.build_namespace);
        if let Some(ours) = others().find(|agent| agent.plane_id.as_deref() == Some(id)) {
            let namespace = ours.name.namespace.clone();
            return Err(Error::AgentElsewhere { plane_id: id.to_owned(), namespace }.into());
        }
        let first = others().find_map(|agent| agent.plane_id.as_deref());
        self.refuse_second_argo(first).await?;
        let is_taken = others().any(|agent| agent.name.name == AGENT);
        Ok(is_taken.then(|| format!("cluster-agent-{id}").chars().take(50).collect::<String>()))
    }

    /// Fails where another release has installed Argo Workflows, which Helm lets only one release do in a cluster.
    async fn refuse_second_argo(&self, plane_id: Option<&str>) -> anyhow::Result<()> {
        let Some(crd) = self.build.object_if_any(ARGO_CRD).await.ok().flatten() else {
            return Ok(());
        };
        let annotation = |name: &str| crd["metadata"]["annotations"][name].as_str().map(str::to_owned);
        match (annotation("meta.helm.sh/release-name"), annotation("meta.helm.sh/release-namespace")) {
            (Some(release), Some(namespace)) if namespace != self.build_namespace || release != RELEASE => {
                let id = shell_quoted(plane_id.unwrap_or("ID"));
                let create = format!("choreoctl create {} --plane-id {id}", shell_quoted(self.plane.name()));
                let command = self.control.target().command(&create);
                Err(Error::InstalledOnce { release, namespace, what: "Argo Workflows", command }.into())
            }
            _ => Ok(()),
        }
    }

    /// Fails where an agent of the namespace is another plane's: the chart would take it away from that one.
    async fn refuse_agent_of(&self, plane_id: &str) -> anyhow::Result<()> {
        // Who may not list planes knows of none.
        let planes: Vec<Plane> = self.control.planes(None).await.unwrap_or_default();
        match planes.iter().find(|plane| plane.plane_id() == plane_id) {
            Some(plane) => {
                let (namespace, plane) = (self.build_namespace.clone(), plane.name().to_owned());
                Err(Error::OtherAgent { namespace, plane, plane_id: plane_id.to_owned() }.into())
            }
            None => Ok(()),
        }
    }

    /// The Secret that holds the certificates, or is to.
    fn secret_of(&self, issuer: Issuer, agent: Option<&Agent>) -> NamespacedName {
        match issuer {
            Issuer::Own => self.beside(OWN_SECRET),
            Issuer::CertManager => self.beside(&ca_secret(self.plane.plane_id())),
            Issuer::Existing => agent.and_then(Agent::pair).unwrap_or_else(|| self.beside(CHART_SECRET)),
        }
    }

    /// What there is, and else what is made.
    async fn certificates(
        &self,
        issuer: Issuer,
        agent: Option<&Agent>,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<Certificates> {
        begin("certificates", observer);
        let now = self.control.now();
        let name = self.secret_of(issuer, agent);
        let there = match issuer {
            Issuer::Existing => Some(self.build.existing_secret(&name).await?),
            _ => self.build.secret(&name).await?,
        };
        let Some(secret) = there else {
            return self.new_certificates(issuer, None);
        };
        let (certificate, key) = (secret.text(LEAF_CERTIFICATE), secret.text(LEAF_PRIVATE_KEY));
        match issuer {
            Issuer::CertManager => {
                let authority = Authority::from_pem(&certificate, &key, now).map_err(pki::IssueError::from)?;
                let ca = pki::encode("CERTIFICATE", &authority.certificate.der);
                self.found(&name, &ca, "", observer);
                Ok(Certificates { authority: Some(authority), ..Certificates::found(ca) })
            }
            Issuer::Own if self.is_ours(&secret, now).is_err() => self.new_certificates(issuer, Some(secret)),
            Issuer::Own | Issuer::Existing => {
                let pair = pair_of(&secret)?;
                let beside = secret.text(CA_CERTIFICATE).to_string();
                let ca = match self.given().await? {
                    Some(given) => given,
                    None if !beside.is_empty() => beside,
                    // Without a CA of its own a self-signed certificate is what is trusted.
                    None if pair.leaf().self_issued() => pki::encode("CERTIFICATE", &pair.leaf().der),
                    None => {
                        let why = "it has no ca.crt: bring its CA along with --client-ca-file".to_owned();
                        return Err(Error::Pair { secret: name.to_string(), why }.into());
                    }
                };
                let by_cert_manager = pair.cert_manager.is_some();
                let leaf = pair.leaf();
                let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
                let mut more = format!(", until {}", day(leaf.not_after));
                if by_cert_manager && has_all(&ca, &pki::encode("CERTIFICATE", &leaf.der)) {
                    let renewal = day(leaf.chart_renewal());
                    more.push_str(&format!("; the plane pins it, and refuses the one that cert-manager makes on {renewal}: `certs rotate` leads out of that"));
                }
                self.found(&name, &ca, &more, observer);
                let pair = Some((certificate.to_string(), key));
                Ok(Certificates { pair, by_cert_manager, ..Certificates::found(ca) })
            }
        }
    }

    /// What is there and would be replaced.
    async fn differences(
        &self,
        certificates: &Certificates,
        gateway_ca: &str,
        by_name: bool,
    ) -> anyhow::Result<Vec<Difference>> {
        let mut differences = Vec::new();
        if let Some(secret) = &certificates.replaced {
            let why = self.is_ours(secret, self.control.now()).err().unwrap_or_default();
            let after = certificates.pair.as_ref().map(|(text, _)| described(text)).unwrap_or_default();
            differences.push(Difference {
                what: format!("Secret {}, which {why},", secret.name),
                before: described(&secret.text(LEAF_CERTIFICATE)),
                after,
            });
        }
        // A placeholder is nobody's.
        if let Some(text) = self.server_ca_there().await?
            && !has_all(&text, gateway_ca)
            && !pki::certificates(&text).is_empty()
        {
            let what = format!("ConfigMap {}", self.beside(GATEWAY_CA));
            differences.push(Difference { what, before: described(&text), after: described(gateway_ca) });
        }
        let there = self.control.plane_if_any::<Plane>(self.plane.name()).await?;
        let trusted = self.trusts(there.as_ref(), &certificates.ca).await;
        if self.ca_in == CaIn::Secret && self.given.is_none() && !trusted {
            let name = client_ca_secret(&self.control_namespace, self.plane.name());
            let held = self.control.secret(&name).await?.map(|secret| secret.text(CA_KEY));
            if let Some(held) = held.filter(|held| held.as_str() != certificates.ca) {
                let (before, after) = (described(&held), described(&certificates.ca));
                differences.push(Difference { what: format!("Secret {name}"), before, after });
            }
        }
        let Some(there) = there else {
            return Ok(differences);
        };
        let wanted = self.wanted(Some(&there), trusted, &certificates.ca, by_name);
        if !covers(&there.manifest(), &wanted.manifest()) {
            let foretold = self.control.apply(&wanted.manifest(), true, DryRun::Server).await?;
            let shown = |object: &Value| to_yaml(&comparable(object)).map(|text| redacted(&text).into_owned());
            let before = foretold.before.as_ref().map(shown).transpose()?.unwrap_or_default();
            let what = format!("the plane {}", self.plane.name());
            differences.push(Difference { what, before, after: shown(&foretold.after)? });
        }
        Ok(differences)
    }

    /// Keeps a CA that was made, and tells of what was.
    fn keep(&self, certificates: &mut Certificates, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let Some(mut told) = certificates.told.take() else {
            return Ok(());
        };
        if let Some(ca) = certificates.made.take()
            && !observer.keep(&ca, self.dry_run)?
            && certificates.pair.is_some()
        {
            told.push_str(
                "; the CA's key is dropped, as no --out-dir is given: the next certificate takes `certs rotate`",
            );
        }
        self.done("certificates", &told, observer);
        Ok(())
    }

    /// The certificates are in their Secret; what is at hand may be of another CA.
    fn found(&self, name: &NamespacedName, ca: &str, more: &str, observer: &mut dyn Observer) {
        let held = pki::certificates(ca);
        let other = self.authority.as_ref().is_some_and(|authority| !held.contains(&authority.certificate.der));
        let other = if other { "; the CA in --out-dir is another one, and is not used" } else { "" };
        observer.tell("certificates", Status::Found, &format!("Secret {name} holds them{more}{other}"));
    }

    /// Why a Secret doesn't hold what was made here for this planeID.
    fn is_ours(&self, secret: &StoredSecret, now: Timestamp) -> Result<(), String> {
        let pair = Pair::of(secret).map_err(|_| "holds no certificate".to_owned())?;
        let leaf = pair.leaf();
        match leaf.common_name.as_deref() {
            name if name != Some(self.plane.plane_id()) => {
                Err(format!("holds a certificate of {}", visible(name.unwrap_or("nobody"))))
            }
            _ if !pair.fits => Err("holds a key that doesn't belong to its certificate".into()),
            _ if leaf.not_after <= now => Err(format!("holds a certificate that ended on {}", leaf.not_after)),
            _ => Ok(()),
        }
    }

    /// A CA and the agent's pair, as far as they aren't at hand.
    fn new_certificates(&self, issuer: Issuer, replaced: Option<StoredSecret>) -> anyhow::Result<Certificates> {
        let (id, now) = (self.plane.plane_id(), self.control.now());
        let (authority, made) = match &self.authority {
            Some(authority) => (authority.again()?, None),
            None => {
                let (authority, ca) = new_authority(id, self.key_algorithm, now)?;
                (authority, Some(ca))
            }
        };
        let ca = pki::encode("CERTIFICATE", &authority.certificate.der);
        let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
        let mut told = format!("the CA is valid until {}", day(authority.certificate.not_after));
        let at_hand = self.pair.as_ref().filter(|(certificate, _)| {
            let presented = pki::certificates(certificate);
            let leaf = presented.first().and_then(|der| Certificate::from_der(der));
            leaf.is_some_and(|leaf| leaf.common_name.as_deref() == Some(id))
                && matches!(pki::verify(&presented, &ca, now), Verdict::Authorized { .. })
        });
        let (data, pair) = match (issuer, at_hand) {
            (Issuer::Own, Some((certificate, key))) => {
                told.push_str(", and so is the agent's certificate, which is at hand");
                (pair_data(certificate, key, &ca), Some((certificate.clone(), key.clone())))
            }
            (Issuer::Own, None) => {
                let (pair, until) = new_pair(id, &authority, self.key_algorithm, now)?;
                told.push_str(&format!(", the agent's certificate until {}: renew it by then", day(until)));
                (pair_data(&pair.0, &pair.1, &ca), Some(pair))
            }
            // It signs with the CA's key, wherever else that is kept.
            _ => (pair_data(&ca, &authority.key_to_pem(), ""), None),
        };
        let authority = Some(authority);
        let told = Some(told);
        Ok(Certificates { authority, pair, data: Some(data), replaced, made, told, ..Certificates::found(ca) })
    }

    /// Fails where the plane would not let in what the agent presents: before anything is written.
    fn foretell(&self, certificates: &Certificates) -> Result<(), Error> {
        let Some((certificate, _)) = &certificates.pair else {
            return Ok(());
        };
        match pki::verify(&pki::certificates(certificate), &certificates.ca, self.control.now()) {
            Verdict::Refused(refusal) => {
                Err(Error::NotTrusted { plane: self.plane.name().into(), why: refusal.message })
            }
            _ => Ok(()),
        }
    }

    async fn namespace(&self, is_new: bool, observer: &mut dyn Observer) -> anyhow::Result<()> {
        begin("namespace", observer);
        let name = &self.build_namespace;
        if !is_new {
            observer.tell("namespace", Status::Found, &format!("{name} exists"));
            return Ok(());
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if self.dry_run.sends() {
            self.build.create_object("/api/v1/namespaces", &object, self.dry_run).await?;
        }
        self.done("namespace", &format!("{name} created"), observer);
        Ok(())
    }

    /// What the agent's ConfigMap holds, where there is one.
    async fn server_ca_there(&self) -> Result<Option<String>, cluster::Error> {
        let path = format!("/api/v1/namespaces/{}/configmaps/{GATEWAY_CA}", self.build_namespace);
        let there = self.build.object_if_any(&path).await?;
        Ok(there.map(|there| there["data"][CA_KEY].as_str().unwrap_or_default().to_owned()))
    }

    /// The gateway's CA in the agent's namespace.
    async fn server_ca(&self, ca: &str, is_new: bool, observer: &mut dyn Observer) -> anyhow::Result<()> {
        begin("server-ca", observer);
        let name = self.beside(GATEWAY_CA);
        let collection = format!("/api/v1/namespaces/{}/configmaps", name.namespace);
        let told = format!("ConfigMap {name} holds the gateway's CA");
        let data = json!({CA_KEY: ca});
        let there = self.server_ca_there().await?;
        if there.as_ref().is_some_and(|there| has_all(there, ca)) {
            observer.tell("server-ca", Status::Found, &told);
            return Ok(());
        }
        match (there, self.sends(is_new)) {
            (_, false) => {}
            (None, true) => {
                let metadata = json!({"name": GATEWAY_CA});
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
                self.build.create_object(&collection, &map, self.dry_run).await?;
            }
            (Some(_), true) => {
                let path = format!("{collection}/{GATEWAY_CA}");
                self.build.merge_object(&path, &json!({"data": data}), self.dry_run).await?;
            }
        }
        self.done("server-ca", &told, observer);
        Ok(())
    }

    /// The agent's pair, or the CA for cert-manager, in its Secret.
    async fn agent_secret(
        &self,
        issuer: Issuer,
        certificates: &mut Certificates,
        is_new: bool,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        begin("agent-secret", observer);
        let Some(data) = certificates.data.take() else {
            observer.tell("agent-secret", Status::Found, "the agent's Secret is there");
            return Ok(());
        };
        let name = self.secret_of(issuer, None);
        let verb = if certificates.replaced.is_some() { "replaced" } else { "created" };
        if self.sends(is_new) {
            match &certificates.replaced {
                Some(there) => self.build.update_secret(there, data, self.dry_run).await?,
                None => self.build.create_secret(&name, "kubernetes.io/tls", data, self.dry_run).await?,
            };
        }
        self.done("agent-secret", &format!("Secret {name} {verb}"), observer);
        Ok(())
    }

    /// The plane as it is to be: with the CA in it or in a Secret, and what it says beside. What lets the agent in is right,
    /// however it came there.
    fn wanted(&self, there: Option<&Plane>, trusted: bool, ca: &str, by_name: bool) -> Plane {
        let mut wanted = self.plane.clone();
        let trusting = there.filter(|_| trusted);
        let client_ca = &mut wanted.spec.cluster_agent.client_ca;
        match (trusting, &self.given, self.ca_in) {
            (Some(there), ..) => client_ca.clone_from(&there.spec.cluster_agent.client_ca),
            (None, Some(Given::Secret(CaSecret { secret, key })), _) => {
                client_ca.secret_ref = Some(reference(secret.clone(), key.clone()));
            }
            (None, _, CaIn::Value) => client_ca.value = Some(ca.to_owned()),
            (None, _, CaIn::Secret) => {
                let secret = client_ca_secret(&self.control_namespace, self.plane.name());
                client_ca.secret_ref = Some(reference(secret, CA_KEY.into()));
            }
        }
        if by_name && let Some(observability) = &mut wanted.spec.observability_plane_ref {
            *observability = ObservabilityPlaneRef::Name(observability.name().to_owned());
        }
        if let Some(there) = there {
            let spec = &there.spec;
            wanted.spec.secret_store_ref = wanted.spec.secret_store_ref.or_else(|| spec.secret_store_ref.clone());
            wanted.spec.observability_plane_ref =
                wanted.spec.observability_plane_ref.or_else(|| spec.observability_plane_ref.clone());
        }
        wanted
    }

    /// The CA in a Secret of the control plane, where it is to be there.
    async fn client_ca(&self, trusted: bool, ca: &str, observer: &mut dyn Observer) -> anyhow::Result<()> {
        begin("client-ca", observer);
        match (trusted, &self.given, self.ca_in) {
            (true, ..) => {
                observer.tell("client-ca", Status::Found, "the plane has the CA");
                return Ok(());
            }
            (_, Some(Given::Secret(CaSecret { secret, .. })), _) => {
                observer.tell("client-ca", Status::Found, &format!("Secret {secret} holds the CA"));
                return Ok(());
            }
            (_, _, CaIn::Value) => {
                observer.tell("client-ca", Status::Skipped, "the CA is in the plane itself");
                return Ok(());
            }
            (_, _, CaIn::Secret) => {}
        }
        let name = client_ca_secret(&self.control_namespace, self.plane.name());
        let data = [(CA_KEY.to_owned(), ca.as_bytes().to_vec().into())].into();
        let told = format!("Secret {name} holds the CA");
        match (self.control.secret(&name).await?, self.dry_run.sends()) {
            (Some(there), _) if there.text(CA_KEY).as_str() == ca => {
                observer.tell("client-ca", Status::Found, &told);
                return Ok(());
            }
            (_, false) => {}
            (Some(there), true) => drop(self.control.update_secret(&there, data, self.dry_run).await?),
            (None, true) => drop(self.control.create_secret(&name, "Opaque", data, self.dry_run).await?),
        }
        self.done("client-ca", &told, observer);
        Ok(())
    }

    async fn plane(&self, ca: &str, by_name: bool, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let name = self.plane.name();
        let there = self.control.plane_if_any::<Plane>(name).await?;
        let trusted = self.trusts(there.as_ref(), ca).await;
        self.client_ca(trusted, ca, observer).await?;
        begin("plane", observer);
        let manifest = self.wanted(there.as_ref(), trusted, ca, by_name).manifest();
        let Some(there) = there else {
            if self.dry_run.sends() {
                self.control.create(&manifest, self.dry_run).await?;
            }
            self.done("plane", &format!("{} {name} created", CLUSTER_BUILD_PLANE.kind), observer);
            return Ok(());
        };
        if covers(&there.manifest(), &manifest) {
            let told = format!("{name} trusts the CA, with planeID {}", visible(there.plane_id()));
            observer.tell("plane", Status::Found, &told);
            return Ok(());
        }
        if self.dry_run.stores() {
            self.control.apply(&manifest, true, self.dry_run).await?;
        }
        self.done("plane", &format!("{name} configured"), observer);
        Ok(())
    }

    /// Whether the CA of a plane has all of these certificates.
    async fn trusts(&self, plane: Option<&Plane>, ca: &str) -> bool {
        let Some(plane) = plane else {
            return false;
        };
        let cas = client_cas(&self.control, std::slice::from_ref(plane)).await;
        cas.first().and_then(|ca| ca.text().ok()).is_some_and(|held| has_all(held, ca))
    }

    /// What the gateway says to the agent's certificate; for cert-manager to one like those that it will issue.
    async fn probe(&self, ca: &str, certificates: &Certificates, observer: &mut dyn Observer) -> anyhow::Result<()> {
        begin("probe", observer);
        let now = self.control.now();
        let made;
        let (certificate, key) = match (&certificates.pair, &certificates.authority) {
            (Some((certificate, key)), _) => (certificate.as_str(), key.as_str()),
            (None, Some(authority)) => {
                let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
                let leaf = pki::client(self.plane.plane_id(), authority, key, Span::from_seconds(3600), now)?;
                made = (leaf.pair.certificate, leaf.pair.key.to_pem());
                (made.0.as_str(), made.1.as_str())
            }
            (None, None) => {
                observer.tell("probe", Status::Skipped, "there is no certificate to ask with");
                return Ok(());
            }
        };
        let presented = pki::certificates(certificate);
        let Some(url) = self.gateway_url.as_ref().filter(|_| self.dry_run.stores()) else {
            // What cert-manager is to issue has its own dates.
            let own = presented.first().filter(|_| certificates.pair.is_some());
            let until = own.and_then(|der| Certificate::from_der(der)).map(|leaf| leaf.not_after);
            let until = until.map(|until| format!(" until {}", until.strftime("%Y-%m-%d"))).unwrap_or_default();
            observer.tell(
                "probe",
                Status::Skipped,
                &format!("predicted: the plane authorizes the agent's certificate{until}"),
            );
            return Ok(());
        };
        let key = PrivateKey::from_pem(key)?;
        let why = match probe(self.question(url, ca, Some(Identity { presented, key }))).await {
            Ok(Reply { answer: Answer::Authorized, .. }) => {
                observer.tell("probe", Status::Found, "the gateway authorizes the agent's certificate");
                return Ok(());
            }
            Ok(reply) => reply.answer.to_string(),
            Err(error) => error.to_string(),
        };
        let name = self.plane.name();
        let hint = self.control.target().command(&format!("choreoctl doctor {name}"));
        Err(Error::Gateway { why, hint }.into())
    }
}
