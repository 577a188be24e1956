//! What each step of a registration does, by what was found: pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{Certificates, day, foreign, has_all};
use super::facts::{Facts, Namespace};
use super::plane::{change, wanted};
use super::values::{tls, tls_of_existing, values};
use super::wish::{Bootstrap, CaIn, Given};
use crate::cluster::{Agent, Right, StoredSecret, Target};
use crate::doctor::GATEWAY_CA;
use crate::gateway::GatewayUrl;
use crate::pki::{self, Authority, Certificate, LEAF_CERTIFICATE};
use crate::plan::agent::Data;
use crate::plan::error::Error;
use crate::plan::issuer::{AgentCertificate, Issuer};
use crate::plan::observer::{Pem, Status};
use crate::plane::{CA_KEY, CaSecret, NamespacedName, Plane, Side};
use crate::text::{shell_quoted, visible};

/// The agent's Deployment and ClusterRole, as the chart calls them.
const AGENT: &str = "cluster-agent-buildplane";

/// What a step does, and what is reported of it.
pub struct Action<'f> {
    pub status: Status,
    pub told: String,
    pub write: Option<Write<'f>>,
}

/// A request that changes a cluster.
pub enum Write<'f> {
    /// A new object of the build cluster, in the collection at this path.
    Object(String, Value),
    /// Fields of the object of the build cluster at this path.
    Fields(String, Value),
    NewSecret {
        side: Side,
        name: NamespacedName,
        kind: &'static str,
        data: Data,
    },
    Secret {
        side: Side,
        there: &'f StoredSecret,
        data: Data,
    },
    NewPlane(Value),
    Plane(Value),
}

impl<'f> Action<'f> {
    fn new(status: Status, told: impl Into<String>) -> Self {
        Self { status, told: told.into(), write: None }
    }

    fn done(told: impl Into<String>, write: Write<'f>) -> Self {
        Self { write: Some(write), ..Self::new(Status::Done, told) }
    }

    /// Nothing can be tried in a namespace that does not exist.
    fn within(mut self, plan: &Bootstrap, namespace: Namespace) -> Self {
        self.write = self.write.filter(|_| plan.dry_run.stores() || namespace == Namespace::Exists);
        self
    }
}

/// The rights that a registration needs.
pub fn rights(plan: &Bootstrap, namespace: Namespace) -> Vec<(Side, Right)> {
    let (group, planes) = (plan.plane.kind.group, plan.plane.kind.plural);
    let control = |verb, resource| (Side::Control, Right::new(verb, "", resource, Some(&plan.control_namespace)));
    let build = |verb, group, resource| (Side::Build, Right::new(verb, group, resource, Some(&plan.build_namespace)));
    let namespaces = |verb| (Side::Build, Right::new(verb, "", "namespaces", None));
    let mut needed = vec![control("get", "secrets"), namespaces("get")];
    needed.extend(["get", "create", "patch"].map(|verb| (Side::Control, Right::new(verb, group, planes, None))));
    for resource in ["secrets", "configmaps"] {
        needed.extend(["get", "create", "patch"].map(|verb| build(verb, "", resource)));
    }
    if namespace == Namespace::New {
        needed.push(namespaces("create"));
    }
    if plan.ca_in == CaIn::Secret {
        needed.extend(["create", "patch"].map(|verb| control(verb, "secrets")));
    }
    if plan.install || plan.certificate == Some(AgentCertificate::Existing) || plan.given.is_some() {
        needed.push(build("list", "apps", "deployments"));
    }
    needed
}

/// What is known of cert-manager in the build cluster.
#[derive(Debug, PartialEq, Eq)]
pub enum CertManager {
    Missing,
    /// With what shows that it works.
    Works(&'static str),
    /// With what shows that it does not.
    Broken(String),
}

impl CertManager {
    /// Judges the Deployments of its controller; none where there are none.
    pub fn of_controllers(controllers: &[Value]) -> Option<Self> {
        let is_available = |one: &Value| one["status"]["availableReplicas"].as_i64().is_some_and(|count| count > 0);
        let first = controllers.first()?;
        Some(if controllers.iter().any(is_available) {
            Self::Works(", and its controller is available")
        } else {
            let text = |field: &str| first["metadata"][field].as_str().unwrap_or_default();
            Self::Broken(format!("Deployment {}/{} has no available pod", text("namespace"), text("name")))
        })
    }

    pub fn told(&self) -> (Status, String) {
        match self {
            Self::Missing => (
                Status::Skipped,
                "the build cluster has no cert-manager.io/v1: install it before the chart, which needs it".into(),
            ),
            Self::Works(how) => (Status::Found, format!("the build cluster has cert-manager.io/v1{how}")),
            Self::Broken(why) => (Status::Skipped, format!("cert-manager does not work: {}", visible(why))),
        }
    }
}

/// Where the agent's certificate comes from, unless it is said: `own` and `ca` are the Secrets of a run before, which is
/// continued.
pub fn certificate(
    plan: &Bootstrap,
    manager: &CertManager,
    own: Option<&StoredSecret>,
    ca: Option<&StoredSecret>,
    now: Timestamp,
) -> AgentCertificate {
    let is_ours = |own: &StoredSecret| foreign(plan.plane.plane_id(), own, now).is_none();
    match (plan.certificate, &plan.given) {
        (Some(certificate), _) => certificate,
        (None, Some(_)) => AgentCertificate::Existing,
        (None, None) if own.is_some_and(is_ours) || (ca.is_none() && *manager == CertManager::Missing) => {
            AgentCertificate::Issued(Issuer::Own)
        }
        (None, None) => AgentCertificate::Issued(Issuer::CertManager),
    }
}

/// The agent of the planeID among those of its namespace; else the planeID of another one, whose place it would take.
pub fn agent(plan: &Bootstrap, agents: Vec<Agent>) -> Result<Agent, Option<String>> {
    let id = Some(plan.plane.plane_id());
    let (ours, others): (Vec<_>, Vec<_>) = agents.into_iter().partition(|agent| agent.plane_id.as_deref() == id);
    ours.into_iter().next().ok_or_else(|| others.into_iter().find_map(|agent| agent.plane_id))
}

/// Fails where the agent of the namespace is another plane's: the chart would take it away from that one.
pub fn refuse_agent_of(plan: &Bootstrap, plane_id: &str, planes: &[Plane]) -> Result<(), Error> {
    match planes.iter().find(|plane| plane.plane_id() == plane_id) {
        Some(plane) => {
            let (namespace, plane) = (plan.build_namespace.clone(), plane.name().to_owned());
            Err(Error::OtherAgent { namespace, plane, plane_id: plane_id.to_owned() })
        }
        None => Ok(()),
    }
}

/// What the chart is to call the agent, by the agents of the cluster and a CRD of Argo Workflows, which the chart brings
/// along: none where its default name is free.
///
/// # Errors
/// [`Error::AgentElsewhere`] and [`Error::InstalledOnce`].
pub fn agent_name(
    plan: &Bootstrap,
    agents: &[Agent],
    argo: Option<&Value>,
    control: &Target,
) -> Result<Option<String>, Error> {
    let id = plan.plane.plane_id();
    let others = || agents.iter().filter(|agent| agent.name.namespace != plan.build_namespace);
    if let Some(ours) = others().find(|agent| agent.plane_id.as_deref() == Some(id)) {
        let namespace = ours.name.namespace.clone();
        return Err(Error::AgentElsewhere { plane_id: id.to_owned(), namespace });
    }
    let annotation = |name: &str| argo?["metadata"]["annotations"][name].as_str().map(str::to_owned);
    if let Some(release) = annotation("meta.helm.sh/release-name")
        && let Some(namespace) = annotation("meta.helm.sh/release-namespace")
        && (namespace != plan.build_namespace || release != plan.plane.kind.family.release)
    {
        // Helm lets only one release of a cluster install it.
        let first = others().find_map(|agent| agent.plane_id.as_deref());
        let (name, id) = (shell_quoted(plan.plane.name()), shell_quoted(first.unwrap_or("ID")));
        let command = control.command(&format!("choreoctl create {name} --plane-id {id}"));
        return Err(Error::InstalledOnce { release, namespace, what: "Argo Workflows", command });
    }
    let is_taken = others().any(|agent| agent.name.name == AGENT);
    Ok(is_taken.then(|| format!("cluster-agent-{id}").chars().take(50).collect()))
}

/// The name of an existing agent, where it is not the chart's default.
pub fn name_of(agent: &Agent) -> Option<String> {
    Some(agent.name.name.clone()).filter(|name| name != AGENT)
}

/// Helm's values for the agent.
pub fn helm_values(plan: &Bootstrap, from: AgentCertificate, facts: &Facts) -> Value {
    let id = plan.plane.plane_id();
    let secret = facts.agent.as_ref().and_then(|agent| agent.secret.as_deref());
    let tls = match from {
        AgentCertificate::Existing => tls_of_existing(secret, facts.certificates.issuer),
        AgentCertificate::Issued(issuer) => tls(issuer, id),
    };
    let mut values = values(id, plan.gateway_url.as_ref(), tls);
    if let Some(name) = &facts.agent_name {
        values["clusterAgent"]["name"] = name.as_str().into();
    }
    values
}

/// An existing object that would be replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    pub before: String,
    pub after: String,
}

/// What exists and would be replaced, but for the plane.
pub fn differences(plan: &Bootstrap, facts: &Facts, now: Timestamp) -> Vec<Difference> {
    let Certificates { ca, pair, new, .. } = &facts.certificates;
    let mut differences = Vec::new();
    if let Some(secret) = new.as_ref().and_then(|new| new.replaced.as_ref()) {
        let why = foreign(plan.plane.plane_id(), secret, now).unwrap_or_default();
        differences.push(Difference {
            what: format!("Secret {}, which {why},", secret.name),
            before: described(&secret.text(LEAF_CERTIFICATE)),
            after: pair.as_ref().map(|(text, _)| described(text)).unwrap_or_default(),
        });
    }
    // A ConfigMap without a certificate is the chart's placeholder.
    let is_other = |held: &&String| !has_all(held, &facts.gateway_ca) && !pki::certificates(held).is_empty();
    if let Some(held) = facts.server_ca.as_ref().filter(is_other) {
        let what = format!("ConfigMap {}", plan.beside(GATEWAY_CA));
        differences.push(Difference { what, before: described(held), after: described(&facts.gateway_ca) });
    }
    if let Some(there) = facts.client_ca.as_ref().filter(|there| there.text(CA_KEY).as_str() != ca) {
        let (before, after) = (described(&there.text(CA_KEY)), described(ca));
        differences.push(Difference { what: format!("Secret {}", there.name), before, after });
    }
    differences
}

/// Certificates as text, a line each, to be compared.
fn described(text: &str) -> String {
    let line = |certificate: Certificate| {
        format!("{} until {} sha256 {}\n", visible(&certificate.subject), certificate.not_after, certificate.sha256)
    };
    let lines: String = Certificate::all_in(text).into_iter().map(line).collect();
    if lines.is_empty() { "no certificate\n".into() } else { lines }
}

pub fn namespace<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    let name = &plan.build_namespace;
    if facts.namespace == Namespace::Exists {
        return Action::new(Status::Found, format!("{name} exists"));
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    Action::done(format!("{name} created"), Write::Object("/api/v1/namespaces".into(), object))
}

/// The path of the ConfigMap with the gateway's CA beside the agent, and that of its collection.
pub fn server_ca_path(plan: &Bootstrap) -> (String, String) {
    let collection = format!("/api/v1/namespaces/{}/configmaps", plan.build_namespace);
    (format!("{collection}/{GATEWAY_CA}"), collection)
}

/// The gateway's CA in the agent's namespace.
pub fn server_ca<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    let told = format!("ConfigMap {} holds the gateway's CA", plan.beside(GATEWAY_CA));
    let data = json!({CA_KEY: facts.gateway_ca});
    let (path, collection) = server_ca_path(plan);
    let write = match &facts.server_ca {
        Some(held) if has_all(held, &facts.gateway_ca) => return Action::new(Status::Found, told),
        Some(_) => Write::Fields(path, json!({"data": data})),
        None => {
            let metadata = json!({"name": GATEWAY_CA});
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            Write::Object(collection, object)
        }
    };
    Action::done(told, write).within(plan, facts.namespace)
}

/// The agent's pair, or the CA for cert-manager, in its Secret.
pub fn agent_secret<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    let Certificates { issuer, new: Some(new), .. } = &facts.certificates else {
        return Action::new(Status::Found, "the agent's Secret is there");
    };
    let (side, name, data) = (Side::Build, plan.secret_of(*issuer), new.data.clone());
    let (verb, write) = match &new.replaced {
        Some(there) => ("replaced", Write::Secret { side, there, data }),
        None => ("created", Write::NewSecret { side, name: name.clone(), kind: "kubernetes.io/tls", data }),
    };
    Action::done(format!("Secret {name} {verb}"), write).within(plan, facts.namespace)
}

/// The CA in a Secret of the control plane, where it is to be there.
pub fn client_ca<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    match (facts.trusting(), &plan.given, plan.ca_in) {
        (Some(_), ..) => return Action::new(Status::Found, "the plane has the CA"),
        (None, Some(Given::Secret(CaSecret { secret, .. })), _) => {
            return Action::new(Status::Found, format!("Secret {secret} holds the CA"));
        }
        (None, _, CaIn::Value) => return Action::new(Status::Skipped, "the CA is in the plane itself"),
        (None, _, CaIn::Secret) => {}
    }
    let (side, name, ca) = (Side::Control, plan.client_ca_secret(), &facts.certificates.ca);
    let data = [(CA_KEY.to_owned(), ca.as_bytes().to_vec().into())].into();
    let told = format!("Secret {name} holds the CA");
    match &facts.client_ca {
        Some(there) if there.text(CA_KEY).as_str() == ca => Action::new(Status::Found, told),
        Some(there) => Action::done(told, Write::Secret { side, there, data }),
        None => Action::done(told, Write::NewSecret { side, name, kind: "Opaque", data }),
    }
}

pub fn plane<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    let name = plan.plane.name();
    match (&facts.plane, change(plan, facts)) {
        (None, _) => {
            let told = format!("{} {name} created", plan.plane.kind.kind);
            Action::done(told, Write::NewPlane(wanted(plan, facts)))
        }
        (Some(there), None) => {
            let told = format!("{name} trusts the CA, with planeID {}", visible(there.plane_id()));
            Action::new(Status::Found, told)
        }
        (Some(_), Some(manifest)) => {
            let mut action = Action::done(format!("{name} configured"), Write::Plane(manifest));
            // It was tried when the difference was found.
            action.write = action.write.filter(|_| plan.dry_run.stores());
            action
        }
    }
}

/// What the gateway is asked about the agent's certificate.
pub enum Question<'p> {
    /// Nothing, with the reason.
    None(String),
    /// Whether it authorizes this pair.
    Pair(&'p GatewayUrl, &'p Pem),
    /// Whether it authorizes a pair like those that cert-manager will issue from this CA.
    IssuedBy(&'p GatewayUrl, &'p Authority),
}

pub fn question<'p>(plan: &'p Bootstrap, certificates: &'p Certificates) -> Question<'p> {
    let url = plan.gateway_url.as_ref().filter(|_| plan.dry_run.stores());
    match (url, &certificates.pair, &certificates.authority) {
        (_, None, None) => Question::None("there is no certificate to ask with".into()),
        (Some(url), Some(pair), _) => Question::Pair(url, pair),
        (Some(url), None, Some(authority)) => Question::IssuedBy(url, authority),
        (None, pair, _) => {
            // What cert-manager is to issue has its own dates.
            let leaf = pair.as_ref().and_then(|(text, _)| Certificate::all_in(text).into_iter().next());
            let until = leaf.map(|leaf| format!(" until {}", day(leaf.not_after))).unwrap_or_default();
            Question::None(format!("predicted: the plane authorizes the agent's certificate{until}"))
        }
    }
}
