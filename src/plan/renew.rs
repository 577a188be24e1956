//! A new certificate for an agent, under the same CA: its Secret is replaced, and it is restarted for it.

use jiff::Timestamp;
use tokio::time::Instant;

use super::agent::{Changeover, Data, pair_data};
use super::clusters::Clusters;
use super::error::Error;
use super::observer::{Observer, Status};
use super::trust::{Trustees, all_trust};
use crate::cluster::{Agent, AgentPod, Cluster, StoredSecret, Target, Writer};
use crate::doctor::{Pair, Presents};
use crate::pki::{
    self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, KeyAlgorithm, KeyError, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY,
    PrivateKey, Verdict,
};
use crate::plane::{DryRun, Plane, Span, rotation_secret};

/// A certificate that was made within this time and isn't presented yet is one whose renewal was cut off.
const CUT_OFF: Span = Span::from_seconds(3_600);

/// What is to be renewed, and how.
pub struct Renewal {
    /// Where the agent is.
    pub namespace: String,
    pub plane: Plane,
    /// Looked for beside the agent's Secret, unless given.
    pub authority: Option<Authority>,
    /// That of the old key, unless given.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// As long as the old one, unless given.
    pub valid_for: Option<Span>,
    pub dry_run: DryRun,
    pub deadline: Option<Instant>,
}

/// Renews the agent's certificate in its cluster.
///
/// # Errors
/// [`Error`], and those of the clusters; the agent's Secret then holds a whole pair that its planes trust.
pub async fn renew(clusters: Clusters<'_>, renewal: &Renewal, observer: &mut dyn Observer) -> anyhow::Result<()> {
    let (Clusters { control, build }, Renewal { namespace, plane, dry_run, deadline, .. }) = (clusters, renewal);
    let changeover = Changeover { clusters, namespace, plane, deadline: *deadline };
    let agent = changeover.agent().await?;
    let (secret, pair) = changeover.pair(&agent).await?;
    refuse_managed(&agent, &secret, &pair, build.target())?;
    let staging = rotation_secret(namespace, plane.plane_id());
    if build.secret(&staging).await?.is_some() {
        return Err(Error::UnderWay { staging: staging.to_string() }.into());
    }
    let now = control.now();
    let found = match &renewal.authority {
        None => beside(build, namespace, &pair, now).await?,
        Some(_) => None,
    };
    let authority = renewal.authority.as_ref().or(found.as_ref());
    let authority = authority.ok_or_else(|| Error::NoCa { namespace: namespace.clone() })?;
    let name = &secret.name;
    match decide(&secret, &pair, authority, &build.agent_pods(&agent).await?, now)? {
        Step::Restart => {
            let told = format!("Secret {name} was renewed, and the agent not restarted yet");
            observer.tell("renew", Status::Found, &told);
        }
        Step::Renew => {
            let (data, presented, until) = renewed(renewal, &secret, &pair, authority, now)?;
            let trustees = Trustees { control, deadline: *deadline, force: false, manifests: false };
            let mut planes = trustees.all(plane.plane_id()).await?;
            planes.retain(|(of, ca)| {
                of.name() == plane.name() || matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. })
            });
            all_trust(&planes, &presented, now)?;
            if dry_run.sends() {
                build.update_secret(&secret, data, *dry_run).await?;
            }
            let until = until.strftime("%Y-%m-%d");
            if !dry_run.stores() {
                let told = format!("Secret {name} would hold a certificate valid until {until} (dry run)");
                observer.tell("renew", Status::Skipped, &told);
                return Ok(());
            }
            let told = format!("Secret {name} holds a new certificate, valid until {until}");
            observer.tell("renew", Status::Done, &told);
        }
    }
    if dry_run.stores() { changeover.complete(&agent, name, observer).await } else { Ok(()) }
}

/// The first step of a renewal.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Renew,
    /// One that was cut off wrote the Secret, and did not restart the agent.
    Restart,
}

/// Fails where another one writes the agent's Secret, and would undo a renewal.
fn refuse_managed(agent: &Agent, secret: &StoredSecret, pair: &Pair, build: &Target) -> Result<(), Error> {
    let name = secret.name.to_string();
    if let Some(certificate) = pair.cert_manager.clone() {
        let restart = format!("kubectl -n {} rollout restart deployment {}", agent.name.namespace, agent.name.name);
        return Err(Error::CertManager { secret: name, certificate, command: build.command(&restart) });
    }
    match secret.writers(LEAF_CERTIFICATE).into_iter().find(Writer::restores) {
        Some(writer) => Err(Error::OtherOwner { secret: name, manager: writer.manager }),
        None => Ok(()),
    }
}

/// What is to be done first, by the CA that was found.
fn decide(
    secret: &StoredSecret,
    pair: &Pair,
    authority: &Authority,
    pods: &[AgentPod],
    now: Timestamp,
) -> Result<Step, Error> {
    if !pki::issued(&pair.leaf().der, &authority.certificate.der) {
        return Err(Error::OtherCa { secret: secret.name.to_string() });
    }
    let is_just_made = CUT_OFF.after(pair.leaf().not_before) > now;
    let is_behind = |pod| matches!(pair.presented_by(pod), Some(Presents::Older | Presents::Unsure));
    Ok(if is_just_made && pods.iter().any(is_behind) { Step::Restart } else { Step::Renew })
}

/// Makes what the Secret is to hold; also what an agent then presents, in DER, and until when that is valid.
fn renewed(
    renewal: &Renewal,
    secret: &StoredSecret,
    pair: &Pair,
    authority: &Authority,
    now: Timestamp,
) -> anyhow::Result<(Data, Vec<Vec<u8>>, Timestamp)> {
    let key = PrivateKey::from_pem(&secret.text(LEAF_PRIVATE_KEY)).ok();
    let algorithm = renewal.key_algorithm.or_else(|| key.as_ref()?.algorithm()).ok_or(KeyError::Unusable)?;
    let valid_for = renewal.valid_for.unwrap_or_else(|| pki::lifetime(pair.leaf()));
    let issued = pki::renewed(pair.leaf(), authority, PrivateKey::generate(algorithm)?, valid_for, now)?.pair;
    let certificate = pki::with_chain(&issued.certificate, &pair.presented);
    let own = pki::encode("CERTIFICATE", &authority.certificate.der);
    let ca = if pair.ca.is_empty() { &own } else { &pair.ca };
    Ok((pair_data(&certificate, &issued.key.to_pem(), ca), pki::certificates(&certificate), issued.not_after))
}

/// The CA that issued a certificate, where a Secret in the namespace holds it with its key.
async fn beside(build: &Cluster, namespace: &str, pair: &Pair, now: Timestamp) -> anyhow::Result<Option<Authority>> {
    let secrets = build.secrets(namespace).await?;
    let keys = [(CA_CERTIFICATE, CA_PRIVATE_KEY), (LEAF_CERTIFICATE, LEAF_PRIVATE_KEY)];
    let authorities = secrets.iter().flat_map(|secret| {
        keys.iter().filter_map(|(certificate, key)| {
            Authority::from_pem(&secret.text(certificate), &secret.text(key), now).ok()
        })
    });
    let mut issuers = authorities.filter(|authority| pki::issued(&pair.leaf().der, &authority.certificate.der));
    Ok(issuers.next())
}
