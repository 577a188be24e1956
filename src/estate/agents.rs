//! The facts around agents: what their Secrets hold, and what their running pods present.

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use zeroize::Zeroize as _;

use super::client_ca::key_of;
use super::issuance::{Issuance, issuance};
use super::objects::{CONFIG_MAP, Collection, DEPLOYMENT, ObjectRef, POD, SECRET};
use super::source::{AT_ONCE, Coverage, Source, typed};
use super::unavailable::{Unavailable, or_none};
use crate::cluster::{Agent, AgentPod, CONTAINER, LABELS, StoredSecret, writers};
use crate::pki::{self, CA_CERTIFICATE, Certificate, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey};
use crate::plane::{CA_KEY, GATEWAY_CA, KEY_FITS, NamespacedName};
use crate::text::visible;

/// How many of an agent's pods are asked for their logs.
const LOGS: usize = 3;
/// How many lines of each of them.
const LINES: i64 = 50;

/// What is known of an agent beside its Deployment.
pub struct AgentFacts {
    pub agent: Agent,
    pub pair: Result<Pair, Unavailable>,
    /// The Secret that the pair is in, with the key: it is wiped when it goes, and never printed.
    pub secret: Option<StoredSecret>,
    pub pods: Result<Vec<AgentPod>, Unavailable>,
    /// The Certificate of cert-manager that writes its Secret; none where there is no such Certificate.
    pub issuance: Result<Option<Issuance>, Unavailable>,
}

/// The certificate that a running pod presents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Running<'c> {
    Known(&'c Certificate),
    /// One that the Secret held before, valid until this moment at the latest, if it was issued for the same duration.
    Unknown {
        latest: Timestamp,
    },
}

impl Running<'_> {
    /// When it expires, at the latest.
    pub fn not_after(&self) -> Timestamp {
        match self {
            Self::Known(certificate) => certificate.not_after,
            Self::Unknown { latest } => *latest,
        }
    }

    /// The same in words.
    pub fn validity(&self) -> String {
        match self {
            Self::Known(certificate) => format!("valid until {}", certificate.not_after),
            Self::Unknown { latest } => {
                format!("the expiry date is unknown: {latest} at the latest, if the duration is the same")
            }
        }
    }
}

/// What an agent's Secret holds, without the key itself.
#[derive(Clone, Debug)]
pub struct Pair {
    /// As `secret/NAMESPACE/NAME`.
    pub source: String,
    /// What an agent that starts now presents, in DER: its own certificate first.
    pub presented: Vec<Vec<u8>>,
    pub certificates: Vec<Certificate>,
    /// The CA beside it, in PEM; empty where there is none.
    pub ca: String,
    /// Whether the key belongs to the certificate.
    pub fits: bool,
    /// What pods that were restarted from here for it are marked with.
    revision: String,
    /// When the Secret was created, and when its tls.crt was last written, as the server recorded it.
    created: Option<Timestamp>,
    pub written: Option<Timestamp>,
    /// The Certificate of cert-manager that writes it.
    pub cert_manager: Option<String>,
}

/// What a running pod presents, which read its Secret once, at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presents {
    /// What the Secret holds.
    This,
    /// An older certificate.
    Older,
    /// It started after the certificate's beginning and before the Secret was last written.
    Unsure,
}

impl Pair {
    pub fn of(secret: &StoredSecret) -> Result<Self, Unavailable> {
        let text = secret.text(LEAF_CERTIFICATE);
        let presented = pki::certificates(&text);
        let certificates = Certificate::all_in(&text);
        if certificates.is_empty() || certificates.len() != presented.len() {
            let text = format!("Secret {} holds no certificate that can be parsed", visible(&secret.name.to_string()));
            return Err(Unavailable::invalid(text));
        }
        let key = PrivateKey::from_pem(&secret.text(LEAF_PRIVATE_KEY));
        Ok(Self {
            source: format!("secret/{}", secret.name),
            fits: key.is_ok_and(|key| pki::belong_together(&presented[0], &key.public_key_info())),
            presented,
            certificates,
            ca: secret.text(CA_CERTIFICATE).to_string(),
            revision: secret.revision(),
            created: secret.created(),
            written: secret.writers(LEAF_CERTIFICATE).into_iter().filter_map(|writer| writer.time).max(),
            cert_manager: secret.certificate().map(str::to_owned),
        })
    }

    /// Whether a Secret that was created at this moment has held this certificate ever since: what starts with it has
    /// nothing else to read.
    fn is_first(&self, started: Timestamp) -> bool {
        self.created == Some(started) && self.created == self.written
    }

    /// The revision of the Secret.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    pub fn leaf(&self) -> &Certificate {
        &self.certificates[0]
    }

    /// What a pod presents; none where its agent doesn't run.
    pub fn presented_by(&self, pod: &AgentPod) -> Option<Presents> {
        let started = pod.started?;
        Some(if pod.revision.as_ref() == Some(&self.revision) {
            Presents::This
        } else if started < self.leaf().not_before {
            Presents::Older
        } else if self.written.is_some_and(|written| started <= written) && !self.is_first(started) {
            // Both are whole seconds.
            Presents::Unsure
        } else {
            Presents::This
        })
    }

    /// The certificate that a pod presents, as cert-manager recorded it; otherwise, the former one that is known.
    pub fn running<'a>(
        &'a self,
        pod: &AgentPod,
        issuance: Option<&'a Issuance>,
        former: impl FnOnce() -> Option<&'a Certificate>,
    ) -> Option<Running<'a>> {
        let (leaf, started) = (self.leaf(), pod.started?);
        let former = match self.presented_by(pod)? {
            Presents::This => return Some(Running::Known(leaf)),
            // It read the Secret while that was replaced.
            Presents::Unsure => return Some(Running::Unknown { latest: leaf.not_after }),
            Presents::Older => issuance.and_then(|issuance| issuance.held_at(started)).or_else(former),
        };
        let lifetime = leaf.not_after.duration_since(leaf.not_before);
        let latest = started.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        Some(former.map_or(Running::Unknown { latest }, Running::Known))
    }
}

impl AgentFacts {
    pub async fn of(source: &impl Source, agent: Agent) -> Self {
        let (pair, pods) = tokio::join!(pair(source, &agent), pods(source, &agent));
        let (pair, secret) = pair.map_or_else(|why| (Err(why), None), |(pair, secret)| (Ok(pair), Some(secret)));
        let issuance = match (agent.pair(), &pair) {
            (Some(name), pair) if is_issued(pair) => issuance(source, &name).await,
            _ => Ok(None),
        };
        Self { pair, secret, pods, issuance, agent }
    }

    /// The Certificate of cert-manager that writes the agent's Secret.
    pub fn issuance(&self) -> Option<&Issuance> {
        self.issuance.as_ref().ok()?.as_ref()
    }

    /// What a pod presents; none where its agent doesn't run. `pinned` are the certificates in the plane's CA.
    pub fn running<'a>(&'a self, pod: &AgentPod, pinned: &'a [Certificate]) -> Option<Running<'a>> {
        let (pair, started) = (self.pair.as_ref().ok()?, pod.started?);
        let former = || pinned.iter().find(|one| self.held(one, pair.leaf(), started));
        pair.running(pod, self.issuance(), former)
    }

    /// Whether the Secret held a certificate of the plane's CA before this leaf, and still did at a pod's start: it was
    /// issued by then, and not to be renewed yet.
    fn held(&self, former: &Certificate, leaf: &Certificate, started: Timestamp) -> bool {
        let renewal = self.issuance().and_then(|issuance| issuance.renewal);
        // Both are renewed after the same part of their lifetimes.
        let renewed =
            renewal.and_then(|renewal| former.not_before.checked_add(renewal.duration_since(leaf.not_before)).ok());
        !former.ca
            && former.der != leaf.der
            && former.subject == leaf.subject
            && former.not_before <= started
            && started < renewed.unwrap_or_else(|| former.chart_renewal())
    }

    /// The pods that may not present what the Secret holds, in words.
    pub fn behind(&self, pinned: &[Certificate]) -> Vec<String> {
        let (Ok(pair), Ok(pods)) = (&self.pair, &self.pods) else {
            return Vec::new();
        };
        let behind = |pod: &AgentPod| {
            let (name, since, presents) = (visible(&pod.name), pod.started?, pair.presented_by(pod)?);
            let validity = self.running(pod, pinned)?.validity();
            match presents {
                Presents::This => None,
                Presents::Older => Some(format!(
                    "pod {name} has been running since {since}, before this certificate was issued: it presents an older certificate until it is restarted ({validity})"
                )),
                Presents::Unsure => Some(format!(
                    "pod {name} has been running since {since}, before the Secret was last written: it may present an older certificate until it is restarted ({validity})"
                )),
            }
        };
        pods.iter().filter_map(behind).collect()
    }
}

/// Whether cert-manager writes a Secret, or may be about to.
fn is_issued(pair: &Result<Pair, Unavailable>) -> bool {
    match pair {
        Ok(pair) => pair.cert_manager.is_some(),
        Err(why) => why.is_fault(),
    }
}

async fn pair(source: &impl Source, agent: &Agent) -> Result<(Pair, StoredSecret), Unavailable> {
    let Some(name) = agent.pair() else {
        let name = agent.name.to_string();
        return Err(Unavailable::missing(format!("the agent {} mounts no Secret as client-certs", visible(&name))));
    };
    let what = ObjectRef::named(SECRET, &name);
    let object = source.get(&what).await?;
    let reported = object["metadata"]["annotations"][KEY_FITS] != "false";
    let secret = stored(object).ok_or_else(|| Unavailable::invalid(format!("{} can't be read", what.title())))?;
    let mut pair = Pair::of(&secret)?;
    if source.coverage() != Coverage::Whole && secret.bytes(LEAF_PRIVATE_KEY).is_empty() {
        // The key stayed where it is; a dump says what it was like.
        pair.fits = reported;
    }
    Ok((pair, secret))
}

/// A Secret out of an object, whose text is wiped.
fn stored(mut object: Value) -> Option<StoredSecret> {
    let secret = StoredSecret::of_object(&object);
    for value in object["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
        if let Value::String(text) = value {
            text.zeroize();
        }
    }
    secret
}

/// A Secret with all its keys; none where it doesn't exist.
pub async fn secret(source: &impl Source, name: &NamespacedName) -> Result<Option<StoredSecret>, Unavailable> {
    Ok(or_none(source.get(&ObjectRef::named(SECRET, name)).await)?.and_then(stored))
}

/// The pods of an agent, also those that are going.
async fn pods(source: &impl Source, agent: &Agent) -> Result<Vec<AgentPod>, Unavailable> {
    let pods = Collection::of(POD, Some(&agent.name.namespace)).labelled(agent.selector());
    source.list(&pods, |pod| AgentPod::of(typed(pod)?)).await
}

/// The agents in a namespace, or in all of them.
pub async fn deployed(source: &impl Source, namespace: Option<&str>) -> Result<Vec<Agent>, Unavailable> {
    source.list(&Collection::of(DEPLOYMENT, namespace).labelled(LABELS), |object| Some(Agent::of(typed(object)?))).await
}

/// The facts of several agents.
pub async fn of_agents(source: &impl Source, agents: Vec<Agent>) -> Vec<AgentFacts> {
    stream::iter(agents).map(|agent| AgentFacts::of(source, agent)).buffered(AT_ONCE).collect().await
}

/// The CA that an agent verifies the gateway against, as its ConfigMap holds it now.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerCa {
    /// In PEM.
    pub text: String,
    /// When it was last written, as the server recorded it.
    pub written: Option<Timestamp>,
}

/// Reads the CA that an agent verifies the gateway against.
pub async fn server_ca(source: &impl Source, agent: &Agent) -> Result<ServerCa, Unavailable> {
    let name = agent.server_ca.clone().unwrap_or_else(|| GATEWAY_CA.into());
    let what = ObjectRef::named(CONFIG_MAP, &NamespacedName { namespace: agent.name.namespace.clone(), name });
    let object = source.get(&what).await?;
    let text = String::from_utf8_lossy(&key_of(&object, CA_KEY, &what)?).into_owned();
    let metadata = typed::<ObjectMeta>(&object["metadata"]).unwrap_or_default();
    let written = writers(&metadata, &format!("/f:data/f:{CA_KEY}")).into_iter().filter_map(|writer| writer.time).max();
    Ok(ServerCa { text, written })
}

/// The ends of the logs of an agent's first pods; a problem where none of them can be read.
pub async fn log(source: &impl Source, facts: &AgentFacts) -> Result<String, Unavailable> {
    let pods = facts.pods.as_deref().unwrap_or_default().iter().take(LOGS);
    let log = async |pod: &AgentPod| {
        let name = NamespacedName { namespace: facts.agent.name.namespace.clone(), name: pod.name.clone() };
        source.log(&name, CONTAINER, LINES).await
    };
    let logs = futures_util::future::join_all(pods.map(log)).await;
    let (known, mut failed): (Vec<_>, Vec<_>) = logs.into_iter().partition(Result::is_ok);
    match failed.pop() {
        Some(Err(why)) if known.is_empty() => Err(why),
        _ => Ok(known.into_iter().flatten().collect::<Vec<_>>().join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::cluster::Fake;
    use crate::estate::{Cause, Files, marks};
    use crate::pki::KeyAlgorithm;
    use crate::plane::{LOG, Side, Snapshot};
    use serde_json::json;

    fn named(kind: &str, version: &str, name: &str) -> Value {
        json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "n", "name": name, "annotations": {}}})
    }

    fn deployment() -> Value {
        let mut deployment = named("Deployment", "apps/v1", "agent");
        deployment["metadata"]["labels"] =
            json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
        let container = json!({"name": "agent", "args": ["--plane-id=x"]});
        let volumes = json!([
            {"name": "client-certs", "secret": {"secretName": "tls"}}, {"name": "server-ca", "configMap": {"name": "ca"}},
        ]);
        let template = json!({"spec": {"containers": [container], "volumes": volumes}});
        deployment["spec"] = json!({"selector": {"matchLabels": {"of": "x"}}, "template": template});
        deployment
    }

    fn secret() -> Value {
        let key = rcgen::KeyPair::from_pem(&PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap().to_pem()).unwrap();
        let leaf = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let mut secret = named("Secret", "v1", "tls");
        let encoded = |text: String| STANDARD.encode(text);
        secret["data"] = json!({"tls.crt": encoded(leaf.pem()), "tls.key": encoded(key.serialize_pem())});
        secret
    }

    fn pod(name: &str, label: &str, phase: &str) -> Value {
        let mut pod = named("Pod", "v1", name);
        pod["metadata"]["labels"] = json!({"of": label});
        pod["metadata"]["annotations"] = json!({LOG: format!("log of {name}")});
        let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let status =
            json!({"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state});
        (pod["spec"], pod["status"]) =
            (json!({"containers": []}), json!({"phase": phase, "containerStatuses": [status]}));
        pod
    }

    fn objects() -> Vec<Value> {
        let mut map = named("ConfigMap", "v1", "ca");
        map["binaryData"] = json!({"ca.crt": STANDARD.encode("gateway")});
        vec![deployment(), secret(), pod("a", "x", "Running"), pod("b", "x", "Failed"), pod("c", "y", "Running"), map]
    }

    fn dumped(mut objects: Vec<Value>) -> Snapshot {
        objects.push(marks::place(Side::Build, "n"));
        Snapshot::of_files(Vec::new(), objects)
    }

    /// All that is read of the agent, in words.
    async fn reported(source: &impl Source) -> (String, Vec<String>, Result<String, Unavailable>) {
        let agents = deployed(source, Some("n")).await.unwrap();
        let facts = of_agents(source, agents).await.remove(0);
        let pair = match &facts.pair {
            Ok(pair) => format!("{} {}", pair.source, pair.fits),
            Err(why) => format!("{}: {why}", why.cause.word()),
        };
        let pods = facts.pods.as_deref().unwrap().iter().map(|pod| pod.name.clone()).collect();
        (pair, pods, server_ca(source, &facts.agent).await.map(|ca| ca.text))
    }

    #[tokio::test]
    async fn an_agent_is_read_the_same_from_a_cluster_and_from_files() {
        let snapshot = dumped(objects());
        let expected = ("secret/n/tls true".to_owned(), vec!["a".to_owned()], Ok("gateway".to_owned()));
        assert_eq!(reported(&Fake::of(objects()).cluster()).await, expected);
        let files = Files::build(&snapshot).unwrap();
        assert_eq!(reported(&files).await, expected);
        let facts = AgentFacts::of(&files, deployed(&files, None).await.unwrap().remove(0)).await;
        assert_eq!(log(&files, &facts).await, Ok("log of a".into()));
    }

    #[tokio::test]
    async fn a_dump_says_of_a_key_that_stayed_whether_it_fits() {
        for (reported_by_dump, expected) in [("true", true), ("false", false)] {
            let mut all = objects();
            all[1]["data"].as_object_mut().unwrap().shift_remove("tls.key");
            all[1]["metadata"]["annotations"][KEY_FITS] = reported_by_dump.into();
            let snapshot = dumped(all.clone());
            assert_eq!(reported(&Files::build(&snapshot).unwrap()).await.0, format!("secret/n/tls {expected}"));
            assert_eq!(reported(&Fake::of(all).cluster()).await.0, "secret/n/tls false", "a cluster has no such word");
        }
    }

    #[tokio::test]
    async fn what_an_agent_lacks_is_reported() {
        let mut garbage = objects();
        garbage[1]["data"] = json!({"tls.crt": "AAAA"});
        garbage[5] = named("ConfigMap", "v1", "ca");
        let (pair, _, ca) = reported(&Fake::of(garbage).cluster()).await;
        assert_eq!(pair, "invalid: Secret n/tls holds no certificate that can be parsed");
        assert_eq!(ca.unwrap_err().message, "ConfigMap n/ca has no key ca.crt");
        let fake = Fake::of([deployment()]);
        let (pair, pods, ca) = reported(&fake.cluster()).await;
        assert_eq!((pair.as_str(), pods.len()), ("missing: Secret n/tls does not exist", 0));
        assert_eq!(ca.unwrap_err().cause, Cause::Missing);
        fake.forbid("GET /api/v1/namespaces/n/secrets/tls");
        assert!(reported(&fake.cluster()).await.0.starts_with("forbidden: "));
        let mut without = deployment();
        without["spec"]["template"]["spec"]["volumes"] = json!([]);
        let reported = reported(&Fake::of([without]).cluster()).await.0;
        assert_eq!(reported, "missing: the agent n/agent mounts no Secret as client-certs");
    }

    #[test]
    fn an_object_that_is_no_secret_is_none() {
        assert!(!stored(secret()).unwrap().bytes(LEAF_PRIVATE_KEY).is_empty());
        assert!(stored(json!({"data": {"a": 1}})).is_none());
    }
}
