//! What each step of a registration does, by what was found: pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{Certificates, foreign, has_all};
use super::facts::{Facts, Namespace, change, wanted};
use super::wish::{Bootstrap, CaIn, Given};
use crate::cluster::{Agent, Right, StoredSecret, Target};
use crate::gateway::GatewayUrl;
use crate::pki::{Authority, Bundle, Certificate, LEAF_CERTIFICATE, PemPair};
use crate::plan::agent::Data;
use crate::plan::error::Error;
use crate::plan::issuer::{AgentCertificate, Issuer};
use crate::plan::observer::Status;
use crate::plane::{CA_KEY, CaSecret, GATEWAY_CA, NamespacedName, Plane, Side, day};
use crate::text::{shell_quoted, visible};

/// What a step does, and what is reported of it.
pub struct Action<'f> {
    pub status: Status,
    pub reported: String,
    pub write: Option<Write<'f>>,
}

/// A request that changes a cluster.
pub enum Write<'f> {
    /// A new object of the plane's cluster, in the collection at this path.
    Object(String, Value),
    /// Fields of the object of the plane's cluster at this path.
    Fields(String, Value),
    /// A new Secret, with its type and what it is to hold.
    NewSecret(Side, NamespacedName, &'static str, Data),
    Secret(Side, &'f StoredSecret, Data),
    NewPlane(Value),
    Plane(Value),
}

impl<'f> Action<'f> {
    fn new(status: Status, reported: impl Into<String>) -> Self {
        Self { status, reported: reported.into(), write: None }
    }

    fn done(reported: impl Into<String>, write: Write<'f>) -> Self {
        Self { write: Some(write), ..Self::new(Status::Done, reported) }
    }

    /// Nothing can be tried in a namespace that does not exist.
    fn within(mut self, plan: &Bootstrap, namespace: Namespace) -> Self {
        self.write = self.write.filter(|_| plan.dry_run.stores() || namespace == Namespace::Exists);
        self
    }
}

pub fn rights(plan: &Bootstrap, namespace: Namespace) -> Vec<(Side, Right)> {
    let (group, planes) = (plan.plane.kind.group, plan.plane.kind.plural);
    let control = |verb, resource| (Side::Control, Right::new(verb, "", resource, Some(&plan.control_namespace)));
    let build = |verb, group, resource| (Side::Build, Right::new(verb, group, resource, Some(&plan.build_namespace)));
    let namespaces = |verb| (Side::Build, Right::new(verb, "", "namespaces", None));
    let mut needed = vec![control("get", "secrets"), namespaces("get")];
    let namespace_of_plane = plan.plane.metadata.namespace.as_deref();
    needed.extend(
        ["get", "create", "patch"].map(|verb| (Side::Control, Right::new(verb, group, planes, namespace_of_plane))),
    );
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

/// What is known of cert-manager in the plane's cluster.
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

    pub fn reported(&self) -> (Status, String) {
        match self {
            Self::Missing => (
                Status::Skipped,
                "the plane's cluster has no cert-manager.io/v1: install it before the chart, which needs it".into(),
            ),
            Self::Works(how) => (Status::Found, format!("the plane's cluster has cert-manager.io/v1{how}")),
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
    let family = plan.plane.kind.family;
    let is_ours = |agent: &Agent| agent.plane_id.as_deref() == id && agent.may_be_of(family);
    let (ours, others): (Vec<_>, Vec<_>) = agents.into_iter().partition(is_ours);
    ours.into_iter().next().ok_or_else(|| others.into_iter().find_map(|agent| agent.plane_id))
}

/// Fails where the agent of the namespace is another plane's: the chart would take it away from that one.
pub fn refuse_agent_of(plan: &Bootstrap, plane_id: &str, planes: &[Plane]) -> Result<(), Error> {
    let is_of = |plane: &&Plane| plane.kind.family == plan.plane.kind.family && plane.plane_id() == plane_id;
    match planes.iter().find(is_of) {
        Some(plane) => {
            let (namespace, plane) = (plan.build_namespace.clone(), plane.name().to_owned());
            Err(Error::OtherAgent { namespace, plane, plane_id: plane_id.to_owned() })
        }
        None => Ok(()),
    }
}

/// What the chart is to call a new agent, by the agents of the cluster and a CRD of Argo Workflows, which the chart
/// installs, too: none where its default name is free.
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
    let family = plan.plane.kind.family;
    let is_other = |agent: &&Agent| agent.name.namespace != plan.build_namespace && agent.may_be_of(family);
    let others = || agents.iter().filter(is_other);
    if let Some(ours) = others().find(|agent| agent.plane_id.as_deref() == Some(id)) {
        let namespace = ours.name.namespace.clone();
        return Err(Error::AgentElsewhere { plane_id: id.to_owned(), namespace });
    }
    let annotation = |name: &str| argo?["metadata"]["annotations"][name].as_str().map(str::to_owned);
    // Only the charts of build and workflow planes install it.
    if family.has_argo()
        && let Some(release) = annotation("meta.helm.sh/release-name")
        && let Some(namespace) = annotation("meta.helm.sh/release-namespace")
        && (namespace != plan.build_namespace || release != plan.plane.kind.family.helm_release)
    {
        // Helm lets only one release of a cluster install it.
        let first = others().find_map(|agent| agent.plane_id.as_deref());
        let (name, id) = (plan.plane.key().words(), shell_quoted(first.unwrap_or("ID")));
        let command = control.command(&format!("choreoctl create {name} --plane-id {id}"));
        return Err(Error::InstalledOnce { release, namespace, what: "Argo Workflows", command });
    }
    let is_taken = others().any(|agent| agent.name.name == family.agent());
    Ok(is_taken.then(|| format!("cluster-agent-{id}").chars().take(50).collect()))
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
            after: pair.as_ref().map(|pair| described(&pair.certificate)).unwrap_or_default(),
        });
    }
    // A ConfigMap without a certificate is the chart's placeholder.
    let is_other = |held: &&String| !has_all(held, &facts.gateway_ca) && !Bundle::from(held.as_str()).ders().is_empty();
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
    let line = |certificate: &Certificate| {
        format!("{} until {} sha256 {}\n", visible(&certificate.subject), certificate.not_after, certificate.sha256)
    };
    let lines: String = Bundle::from(text).certificates().iter().map(line).collect();
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
    let reported = format!("ConfigMap {} holds the gateway's CA", plan.beside(GATEWAY_CA));
    let data = json!({CA_KEY: facts.gateway_ca});
    let (path, collection) = server_ca_path(plan);
    let write = match &facts.server_ca {
        Some(held) if has_all(held, &facts.gateway_ca) => return Action::new(Status::Found, reported),
        Some(_) => Write::Fields(path, json!({"data": data})),
        None => {
            let metadata = json!({"name": GATEWAY_CA});
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            Write::Object(collection, object)
        }
    };
    Action::done(reported, write).within(plan, facts.namespace)
}

/// The agent's pair, or the CA for cert-manager, in its Secret.
pub fn agent_secret<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    let Certificates { issuer, new: Some(new), .. } = &facts.certificates else {
        return Action::new(Status::Found, "the agent's Secret exists");
    };
    let (side, name, data) = (Side::Build, facts.secret_of(plan, *issuer), new.data.clone());
    let (verb, write) = match &new.replaced {
        Some(there) => ("replaced", Write::Secret(side, there, data)),
        None => ("created", Write::NewSecret(side, name.clone(), "kubernetes.io/tls", data)),
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
    let reported = format!("Secret {name} holds the CA");
    match &facts.client_ca {
        Some(there) if there.text(CA_KEY).as_str() == ca => Action::new(Status::Found, reported),
        Some(there) => Action::done(reported, Write::Secret(side, there, data)),
        None => Action::done(reported, Write::NewSecret(side, name, "Opaque", data)),
    }
}

pub fn plane<'f>(plan: &Bootstrap, facts: &'f Facts) -> Action<'f> {
    let name = plan.plane.name();
    match (&facts.plane, change(plan, facts)) {
        (None, _) => {
            let reported = format!("{} {name} created", plan.plane.kind.kind);
            Action::done(reported, Write::NewPlane(wanted(plan, facts)))
        }
        (Some(there), None) => {
            let reported = format!("{name} trusts the CA, with planeID {}", visible(there.plane_id()));
            Action::new(Status::Found, reported)
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
    Pair(&'p GatewayUrl, &'p PemPair),
    /// Whether it authorizes a pair like those that cert-manager will issue from this CA.
    IssuedBy(&'p GatewayUrl, &'p Authority),
}

pub fn question<'p>(plan: &'p Bootstrap, certificates: &'p Certificates) -> Question<'p> {
    let url = plan.gateway_url.as_ref().filter(|_| plan.dry_run.stores());
    match (url, &certificates.pair, &certificates.authority) {
        (_, None, None) => Question::None("there is no client certificate to present".into()),
        (Some(url), Some(pair), _) => Question::Pair(url, pair),
        (Some(url), None, Some(authority)) => Question::IssuedBy(url, authority),
        (None, pair, _) => {
            // What cert-manager is to issue has its own dates.
            let leaf = pair.as_ref().and_then(PemPair::leaf);
            let until = leaf.map(|leaf| format!(" until {}", day(leaf.not_after))).unwrap_or_default();
            Question::None(format!("predicted: the plane authorizes the agent's certificate{until}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::GatewayUrl;
    use crate::plan::bootstrap::certificates::New;
    use crate::plan::fixtures::{
        BUILD, CONTROL, Root, agent as deployed, leaf, pair_secret, plane as plane_of, plane_object, registration,
        root, secret, stored,
    };
    use crate::plane::DryRun;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// What a request is, in a word.
    fn word(write: Option<&Write<'_>>) -> String {
        match write {
            None => "nothing".into(),
            Some(Write::Object(path, object)) => format!("create {} in {path}", object["kind"].as_str().unwrap()),
            Some(Write::Fields(path, _)) => format!("merge {path}"),
            Some(Write::NewSecret(side, name, kind, _)) => format!("create {kind} {name} in {}", side.name()),
            Some(Write::Secret(side, there, _)) => format!("update {} in {}", there.name, side.name()),
            Some(Write::NewPlane(_)) => "create plane".into(),
            Some(Write::Plane(_)) => "apply plane".into(),
        }
    }

    #[test]
    fn rights_are_those_that_the_steps_need() {
        let count = |change: &dyn Fn(&mut Bootstrap), namespace| {
            let mut plan = registration();
            change(&mut plan);
            rights(&plan, namespace).len()
        };
        let plain = count(&|_| {}, Namespace::Exists);
        assert_eq!(plain, 11);
        type Change<'c> = &'c dyn Fn(&mut Bootstrap);
        let cases: [(&str, Change<'_>, Namespace, usize); 5] = [
            ("a new namespace", &|_| {}, Namespace::New, 1),
            ("a Secret beside the gateway", &|plan| plan.ca_in = CaIn::Secret, Namespace::Exists, 2),
            ("Helm", &|plan| plan.install = true, Namespace::Exists, 1),
            (
                "a certificate that exists",
                &|plan| plan.certificate = Some(AgentCertificate::Existing),
                Namespace::Exists,
                1,
            ),
            ("a CA that is given", &|plan| plan.given = Some(Given::Value(String::new())), Namespace::Exists, 1),
        ];
        for (what, change, namespace, more) in cases {
            assert_eq!(count(change, namespace), plain + more, "{what}");
        }
        assert!(rights(&registration(), Namespace::Exists).iter().all(|(side, right)| match &right.namespace {
            Some(namespace) => namespace == if *side == Side::Control { CONTROL } else { BUILD },
            None => matches!(right.resource, "namespaces" | "clusterbuildplanes"),
        }));
    }

    #[test]
    fn cert_manager_works_where_its_controller_does() {
        let controller =
            |count: i64| json!({"metadata": {"namespace": "n", "name": "c"}, "status": {"availableReplicas": count}});
        let cases = [
            (vec![], None),
            (vec![controller(0)], Some(CertManager::Broken("Deployment n/c has no available pod".into()))),
            (vec![controller(0), controller(1)], Some(CertManager::Works(", and its controller is available"))),
        ];
        for (controllers, judged) in cases {
            assert_eq!(CertManager::of_controllers(&controllers), judged);
        }
        let words = [
            (
                CertManager::Missing,
                Status::Skipped,
                "the plane's cluster has no cert-manager.io/v1: install it before the chart, which needs it",
            ),
            (CertManager::Works("!"), Status::Found, "the plane's cluster has cert-manager.io/v1!"),
            (CertManager::Broken("why".into()), Status::Skipped, "cert-manager does not work: why"),
        ];
        for (manager, status, reported) in words {
            assert_eq!(manager.reported(), (status, reported.to_owned()));
        }
    }

    #[test]
    fn a_certificate_comes_from_where_it_is_said_or_was_begun() {
        let ca = root("ca", now());
        let ours = stored(&pair_secret("s", &leaf("id", &ca, now()), &ca.certificate));
        let other = stored(&pair_secret("s", &leaf("other", &ca, now()), &ca.certificate));
        let (own, by_manager) = (AgentCertificate::Issued(Issuer::Own), AgentCertificate::Issued(Issuer::CertManager));
        let (missing, works) = (CertManager::Missing, CertManager::Works(""));
        let plain = registration();
        for (manager, own_secret, ca_secret, expected) in [
            (&missing, None, None, own),
            (&works, None, None, by_manager),
            (&works, Some(&ours), None, own),
            (&works, Some(&other), None, by_manager),
            (&missing, None, Some(&ours), by_manager),
            (&missing, Some(&ours), Some(&ours), own),
        ] {
            assert_eq!(certificate(&plain, manager, own_secret, ca_secret, now()), expected);
        }
        let given = Bootstrap { given: Some(Given::Value(String::new())), ..registration() };
        assert_eq!(certificate(&given, &works, Some(&ours), None, now()), AgentCertificate::Existing);
        let said = Bootstrap { certificate: Some(by_manager), ..given };
        assert_eq!(certificate(&said, &missing, Some(&ours), None, now()), by_manager);
    }

    #[test]
    fn a_namespace_has_one_agent() {
        let plan = registration();
        let (ours, other) = (deployed(BUILD, "a", "id", "s"), deployed(BUILD, "b", "other", "s"));
        assert_eq!(agent(&plan, vec![other.clone(), ours.clone()]), Ok(ours));
        assert_eq!(agent(&plan, vec![other]), Err(Some("other".into())));
        assert_eq!(agent(&plan, vec![]), Err(None));
        let planes = [plane_of(&plane_object("q", "other", "", now()))];
        let refused = refuse_agent_of(&plan, "other", &planes).unwrap_err();
        assert!(matches!(refused, Error::OtherAgent { plane, .. } if plane == "q"));
        assert!(refuse_agent_of(&plan, "nobody's", &planes).is_ok());
    }

    #[test]
    fn the_chart_calls_an_agent_by_a_name_that_is_free() {
        let plan = registration();
        let control = Target::default();
        let name = |agents: &[Agent], argo: Option<&Value>| agent_name(&plan, agents, argo, &control);
        let elsewhere = |name, id| deployed("elsewhere", name, id, "s");
        assert!(matches!(name(&[], None), Ok(None)));
        assert!(matches!(name(&[elsewhere("x", "y")], None), Ok(None)));
        assert_eq!(name(&[elsewhere("cluster-agent-buildplane", "y")], None).unwrap().unwrap(), "cluster-agent-id");
        let ours = name(&[elsewhere("x", "id")], None).unwrap_err();
        assert!(matches!(ours, Error::AgentElsewhere { namespace, .. } if namespace == "elsewhere"));
        let argo = |release: &str, namespace: &str| {
            let (release_name, of) = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace");
            json!({"metadata": {"annotations": {release_name: release, of: namespace}}})
        };
        for (argo, is_free) in [
            (argo(plan.plane.kind.family.helm_release, BUILD), true),
            (json!({}), true),
            (argo("other", BUILD), false),
            (argo(plan.plane.kind.family.helm_release, "elsewhere"), false),
        ] {
            assert_eq!(name(&[], Some(&argo)).is_ok(), is_free, "{argo}");
        }
        let refused = name(&[elsewhere("x", "y")], Some(&argo("other", "n"))).unwrap_err();
        assert!(
            matches!(refused, Error::InstalledOnce { command, .. } if command == "choreoctl create p --plane-id y")
        );
    }

    /// Facts of certificates that are new, for a CA.
    fn made(ca: &Root, replaced: Option<StoredSecret>) -> Facts {
        let new = Some(New { data: Data::new(), replaced, ca: None });
        let certificates = Certificates { ca: ca.certificate.clone(), new, ..Certificates::default() };
        Facts { certificates, gateway_ca: ca.certificate.clone(), ..Facts::default() }
    }

    /// Facts of an existing plane with a CA.
    fn with_plane(facts: Facts, held: &str) -> Facts {
        let plane = Some(plane_of(&plane_object("p", "id", held, now())));
        Facts { plane, plane_ca: Some(held.to_owned()), ..facts }
    }

    #[test]
    fn each_step_writes_what_is_missing_and_nothing_else() {
        let (ca, other) = (root("ca", now()), root("other", now()));
        let of = |name: &str| stored(&secret(CONTROL, name, &[("ca.crt", &other.certificate)]));
        let ours = || stored(&secret(CONTROL, "p-client-ca", &[("ca.crt", &ca.certificate)]));
        let in_secret = || Bootstrap { ca_in: CaIn::Secret, ..registration() };
        let given = || {
            let given = CaSecret { secret: plan_name("given"), key: "ca.crt".into() };
            Bootstrap { given: Some(Given::Secret(given)), ..registration() }
        };
        let new = || made(&ca, None);
        let stored_pair = || Facts { certificates: Certificates::default(), ..made(&ca, None) };
        let held = |text: &str| Facts { server_ca: Some(text.to_owned()), ..made(&ca, None) };
        let by_manager = || {
            let mut facts = made(&ca, None);
            facts.certificates.issuer = Issuer::CertManager;
            facts
        };
        type Decide = for<'f> fn(&Bootstrap, &'f Facts) -> Action<'f>;
        let maps = "/api/v1/namespaces/builders/configmaps";
        let cases: Vec<(&str, Decide, Bootstrap, Facts, Status, String)> = vec![
            ("there", namespace, registration(), new(), Status::Found, "nothing".into()),
            (
                "new",
                namespace,
                registration(),
                Facts { namespace: Namespace::New, ..new() },
                Status::Done,
                "create Namespace in /api/v1/namespaces".into(),
            ),
            ("missing", server_ca, registration(), new(), Status::Done, format!("create ConfigMap in {maps}")),
            ("there", server_ca, registration(), held(&ca.certificate), Status::Found, "nothing".into()),
            (
                "another",
                server_ca,
                registration(),
                held(&other.certificate),
                Status::Done,
                format!("merge {maps}/cluster-gateway-ca"),
            ),
            (
                "a placeholder",
                server_ca,
                registration(),
                held(""),
                Status::Done,
                format!("merge {maps}/cluster-gateway-ca"),
            ),
            ("there", agent_secret, registration(), stored_pair(), Status::Found, "nothing".into()),
            (
                "new",
                agent_secret,
                registration(),
                new(),
                Status::Done,
                "create kubernetes.io/tls builders/cluster-agent-own-tls in build".into(),
            ),
            (
                "a CA for cert-manager",
                agent_secret,
                registration(),
                by_manager(),
                Status::Done,
                "create kubernetes.io/tls builders/id-agent-ca in build".into(),
            ),
            (
                "another",
                agent_secret,
                registration(),
                made(&ca, Some(of("theirs"))),
                Status::Done,
                "update control/theirs in build".into(),
            ),
            ("in the plane", client_ca, registration(), new(), Status::Skipped, "nothing".into()),
            ("given", client_ca, given(), new(), Status::Found, "nothing".into()),
            ("trusted", client_ca, in_secret(), with_plane(new(), &ca.certificate), Status::Found, "nothing".into()),
            (
                "missing",
                client_ca,
                in_secret(),
                new(),
                Status::Done,
                "create Opaque control/p-client-ca in control".into(),
            ),
            (
                "there",
                client_ca,
                in_secret(),
                Facts { client_ca: Some(ours()), ..new() },
                Status::Found,
                "nothing".into(),
            ),
            (
                "another",
                client_ca,
                in_secret(),
                Facts { client_ca: Some(of("p-client-ca")), ..new() },
                Status::Done,
                "update control/p-client-ca in control".into(),
            ),
            ("missing", plane, registration(), new(), Status::Done, "create plane".into()),
            ("there", plane, registration(), with_plane(new(), &ca.certificate), Status::Found, "nothing".into()),
            (
                "another",
                plane,
                registration(),
                with_plane(new(), &other.certificate),
                Status::Done,
                "apply plane".into(),
            ),
        ];
        for (what, decide, plan, facts, status, written) in cases {
            let action = decide(&plan, &facts);
            assert_eq!((action.status, word(action.write.as_ref())), (status, written), "{what}: {}", action.reported);
        }
    }

    fn plan_name(name: &str) -> NamespacedName {
        NamespacedName { namespace: CONTROL.into(), name: name.into() }
    }

    #[test]
    fn what_can_not_be_tried_is_not_sent() {
        let (ca, other) = (root("ca", now()), root("other", now()));
        let facts = Facts { namespace: Namespace::New, ..with_plane(made(&ca, None), &other.certificate) };
        for (dry_run, is_sent) in [(DryRun::Server, false), (DryRun::None, true)] {
            let plan = Bootstrap { dry_run, ..registration() };
            for decide in [server_ca, agent_secret, plane] {
                assert_eq!(decide(&plan, &facts).write.is_some(), is_sent, "{dry_run:?}");
            }
            assert!(namespace(&plan, &facts).write.is_some());
        }
    }

    #[test]
    fn what_is_done_is_reported_with_the_objects_names() {
        let ca = root("ca", now());
        let facts = Facts { namespace: Namespace::New, ..made(&ca, None) };
        let plan = Bootstrap { ca_in: CaIn::Secret, ..registration() };
        let reported =
            [namespace, server_ca, agent_secret, client_ca, plane].map(|decide| decide(&plan, &facts).reported);
        assert_eq!(
            reported,
            [
                "builders created",
                "ConfigMap builders/cluster-gateway-ca holds the gateway's CA",
                "Secret builders/cluster-agent-own-tls created",
                "Secret control/p-client-ca holds the CA",
                "ClusterBuildPlane p created",
            ]
        );
        let facts = with_plane(made(&ca, None), &ca.certificate);
        assert_eq!(plane(&plan, &facts).reported, "p trusts the CA, with planeID id");
        assert_eq!(client_ca(&plan, &facts).reported, "the plane has the CA");
    }

    #[test]
    fn what_differs_is_asked_about_and_a_placeholder_is_not() {
        let (ca, other) = (root("ca", now()), root("other", now()));
        let theirs = stored(&pair_secret("s", &leaf("other", &other, now()), ""));
        let mut facts = made(&ca, Some(theirs));
        facts.server_ca = Some(other.certificate.clone());
        facts.client_ca = Some(stored(&secret(CONTROL, "p-client-ca", &[("ca.crt", "")])));
        let found = differences(&registration(), &facts, now());
        let what: Vec<_> = found.iter().map(|difference| difference.what.as_str()).collect();
        let secret = "Secret builders/s, which holds a certificate of other,";
        assert_eq!(what, [secret, "ConfigMap builders/cluster-gateway-ca", "Secret control/p-client-ca"]);
        assert!(found[1].before.contains("=other") && found[1].after.contains("=ca"), "{:?}", found[1]);
        assert_eq!(found[2].before, "no certificate\n");
        for server_ca in [None, Some(String::new()), Some(ca.certificate.clone())] {
            let facts = Facts { server_ca, ..made(&ca, None) };
            assert_eq!(differences(&registration(), &facts, now()), []);
        }
    }

    #[test]
    fn the_gateway_is_asked_with_what_the_agent_will_present() {
        let ca = root("ca", now());
        let plan = |dry_run, url: Option<&str>| {
            let gateway_url = url.map(|url| GatewayUrl::of_agent(url).unwrap());
            Bootstrap { dry_run, gateway_url, ..registration() }
        };
        let url = Some("wss://g:8443/ws");
        let pair = || Certificates { pair: Some(leaf("id", &ca, now())), ..Certificates::default() };
        let authority = || Certificates { authority: Some(ca.authority.again().unwrap()), ..Certificates::default() };
        let cases = [
            (plan(DryRun::None, url), pair(), "the pair"),
            (plan(DryRun::None, url), authority(), "one of the CA"),
            (plan(DryRun::None, url), Certificates::default(), "there is no client certificate to present"),
            (plan(DryRun::None, None), authority(), "predicted: the plane authorizes the agent's certificate"),
            (
                plan(DryRun::Server, url),
                pair(),
                "predicted: the plane authorizes the agent's certificate until 2027-11-22",
            ),
        ];
        for (plan, certificates, expected) in cases {
            let asked = match question(&plan, &certificates) {
                Question::None(why) => why,
                Question::Pair(..) => "the pair".into(),
                Question::IssuedBy(..) => "one of the CA".into(),
            };
            assert_eq!(asked, expected);
        }
    }
}
