//! A new certificate for an agent, under the same CA: its Secret is replaced, and it is restarted for it.

use jiff::Timestamp;
use tokio::time::Instant;

use super::agent::{Changeover, pair_data};
use super::trust::{Trustees, all_trust};
use super::{Error, Observer, Status};
use crate::cluster::{self, Cluster};
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
    pub control: Cluster,
    pub build: Cluster,
    /// Where the agent is.
    pub namespace: String,
    pub plane: Plane,
    /// Looked for beside the agent's Secret, unless given.
    pub authority: Option<Authority>,
    /// That of the old key, unless given.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// As long as the old one, unless given.
    pub valid_for: Option<Span>,
    pub deadline: Option<Instant>,
}

/// Renews the agent's certificate in its cluster.
///
/// # Errors
/// [`Error`], and those of the clusters; the agent's Secret then holds a whole pair that its planes trust.
pub async fn renew(renewal: &Renewal, dry_run: DryRun, observer: &mut dyn Observer) -> anyhow::Result<()> {
    let Renewal { control, build, plane, authority, deadline, .. } = renewal;
    let changeover = Changeover { control, build, plane, deadline: *deadline };
    let agent = changeover.agent(&renewal.namespace).await?;
    let (secret, pair) = changeover.pair(&agent).await?;
    let name = secret.name.to_string();
    if let Some(certificate) = &pair.cert_manager {
        let restart = format!("kubectl -n {} rollout restart deployment {}", agent.name.namespace, agent.name.name);
        let command = build.target().command(&restart);
        return Err(Error::CertManager { secret: name, certificate: certificate.clone(), command }.into());
    }
    if let Some(writer) = secret.writers(LEAF_CERTIFICATE).into_iter().find(cluster::Writer::restores) {
        return Err(Error::OtherOwner { secret: name, manager: writer.manager }.into());
    }
    let staging = rotation_secret(&renewal.namespace, plane.plane_id());
    if build.secret(&staging).await?.is_some() {
        return Err(Error::UnderWay { staging: staging.to_string() }.into());
    }
    let now = control.now();
    let found = if authority.is_some() { None } else { beside(build, &renewal.namespace, &pair, now).await? };
    let authority =
        authority.as_ref().or(found.as_ref()).ok_or_else(|| Error::NoCa { namespace: renewal.namespace.clone() })?;
    if !pki::issued(&pair.leaf().der, &authority.certificate.der) {
        return Err(Error::OtherCa { secret: name }.into());
    }
    if is_cut_off(&pair, &build.agent_pods(&agent).await?, now) {
        observer.tell("renew", Status::Found, &format!("Secret {name} was renewed, and the agent not restarted yet"));
    } else {
        let key = PrivateKey::from_pem(&secret.text(LEAF_PRIVATE_KEY)).ok();
        let algorithm = renewal.key_algorithm.or_else(|| key.as_ref()?.algorithm()).ok_or(KeyError::Unusable)?;
        let valid_for = renewal.valid_for.unwrap_or_else(|| pki::lifetime(pair.leaf()));
        let issued = pki::renewed(pair.leaf(), authority, PrivateKey::generate(algorithm)?, valid_for, now)?;
        let trustees = Trustees { control, deadline: *deadline, force: false, manifests: false };
        let mut planes = trustees.all(plane.plane_id()).await?;
        planes.retain(|(of, ca)| {
            of.name() == plane.name() || matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. })
        });
        let certificate = pki::with_chain(&issued.pair.certificate, &pair.presented);
        all_trust(&planes, &pki::certificates(&certificate), now)?;
        let until = issued.pair.not_after.strftime("%Y-%m-%d");
        let ca = secret.text(CA_CERTIFICATE);
        let ca = if ca.is_empty() { pki::encode("CERTIFICATE", &authority.certificate.der) } else { ca.to_string() };
        let data = pair_data(&certificate, &issued.pair.key.to_pem(), &ca);
        if dry_run.sends() {
            build.update_secret(&secret, data, dry_run).await?;
        }
        if !dry_run.stores() {
            let told = format!("Secret {name} would hold a certificate valid until {until} (dry run)");
            observer.tell("renew", Status::Skipped, &told);
            return Ok(());
        }
        observer.tell("renew", Status::Done, &format!("Secret {name} holds a new certificate, valid until {until}"));
    }
    if !dry_run.stores() {
        return Ok(());
    }
    changeover.restart(&agent, &secret.name, observer).await?;
    changeover.reconnected(&agent, observer).await
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

/// Whether a renewal wrote the Secret and did not come to restart the agent.
fn is_cut_off(pair: &Pair, pods: &[cluster::AgentPod], now: Timestamp) -> bool {
    let just_made = CUT_OFF.after(pair.leaf().not_before) > now;
    just_made && pods.iter().any(|pod| matches!(pair.presented_by(pod), Some(Presents::Older | Presents::Unsure)))
}
