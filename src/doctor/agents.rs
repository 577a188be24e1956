//! The facts around agents: what their Secrets hold, and what their running pods present.

use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::Problem;
use super::facts::AT_ONCE;
use crate::cluster::{Agent, AgentPod, Cluster, Error, StoredSecret};
use crate::pki::{self, Certificate, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey};
use crate::term::visible;

/// What is known of an agent beside its Deployment.
pub struct AgentFacts {
    pub agent: Agent,
    pub pair: Result<Pair, Problem>,
    pub pods: Result<Vec<AgentPod>, Problem>,
}

/// What an agent's Secret holds, without the key itself.
#[derive(Clone, Debug)]
pub struct Pair {
    /// As `secret/NAMESPACE/NAME`.
    pub source: String,
    /// What an agent that starts now presents, in DER: its own certificate first.
    pub presented: Vec<Vec<u8>>,
    pub certificates: Vec<Certificate>,
    /// Whether the key belongs to the certificate.
    pub fits: bool,
    /// What pods that were restarted from here for it are marked with.
    revision: String,
    /// When tls.crt was last written, as the server took it down.
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
    pub fn of(secret: &StoredSecret) -> Result<Self, Problem> {
        let text = secret.text(LEAF_CERTIFICATE);
        let presented = pki::certificates(&text);
        let certificates = Certificate::all_in(&text);
        if certificates.is_empty() || certificates.len() != presented.len() {
            let text = format!("Secret {} holds no certificate that can be parsed", visible(&secret.name.to_string()));
            return Err(Problem { word: "invalid", text });
        }
        let key = PrivateKey::from_pem(&secret.text(LEAF_PRIVATE_KEY));
        Ok(Self {
            source: format!("secret/{}", secret.name),
            fits: key.is_ok_and(|key| pki::belong_together(&presented[0], &key.public_key_info())),
            presented,
            certificates,
            revision: secret.revision(),
            written: secret.writers(LEAF_CERTIFICATE).into_iter().filter_map(|writer| writer.time).max(),
            cert_manager: secret.certificate().map(str::to_owned),
        })
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
        } else if self.written.is_some_and(|written| started <= written) {
            // Both are whole seconds.
            Presents::Unsure
        } else {
            Presents::This
        })
    }
}

impl AgentFacts {
    pub async fn of(cluster: &Cluster, agent: Agent) -> Self {
        let (pair, pods) = tokio::join!(pair(cluster, &agent), cluster.agent_pods(&agent));
        Self { pair, pods: pods.map_err(|error| Problem::from(&error)), agent }
    }

    /// The pods that don't surely present what the Secret holds, in words.
    pub fn behind(&self) -> Vec<String> {
        let (Ok(pair), Ok(pods)) = (&self.pair, &self.pods) else {
            return Vec::new();
        };
        let told = |pod: &AgentPod| {
            let (name, since) = (visible(&pod.name), pod.started?);
            match pair.presented_by(pod)? {
                Presents::This => None,
                Presents::Older => Some(format!(
                    "pod {name} runs since {since}, before this certificate was made: it presents an older one until it is restarted"
                )),
                Presents::Unsure => Some(format!(
                    "pod {name} runs since {since}, before the Secret was last written: it may present an older certificate until it is restarted"
                )),
            }
        };
        pods.iter().filter_map(told).collect()
    }
}

async fn pair(cluster: &Cluster, agent: &Agent) -> Result<Pair, Problem> {
    let Some(name) = agent.pair() else {
        let text = format!("the agent {} mounts no Secret as client-certs", visible(&agent.name.to_string()));
        return Err(Problem { word: "missing", text });
    };
    let secret = cluster.existing_secret(&name).await.map_err(|error| Problem::from(&error))?;
    Pair::of(&secret)
}

/// The facts of all agents in a namespace.
pub async fn agents(cluster: &Cluster, namespace: &str) -> Result<Vec<AgentFacts>, Error> {
    let agents = cluster.agents(namespace).await?;
    Ok(stream::iter(agents).map(|agent| AgentFacts::of(cluster, agent)).buffered(AT_ONCE).collect().await)
}
