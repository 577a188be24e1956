//! A new certificate for an agent, under the same CA: its Secret is replaced, and it is restarted for it.

use jiff::Timestamp;
use tokio::time::Instant;

use super::agent::{Changeover, Data, pair_data};
use super::clusters::Clusters;
use super::error::Error;
use super::observer::{Observer, Status};
use super::trust::{Trustees, all_trust};
use crate::cluster::{Agent, AgentPod, Cluster, StoredSecret, Target, Writer};
use crate::estate::{Pair, Presents};
use crate::pki::{
    self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, KeyAlgorithm, KeyError, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY,
    PrivateKey,
};
use crate::plane::{DryRun, Plane, Span, day, rotation_secret};

/// A certificate that was made within this time and isn't presented yet is one whose renewal was cut off.
const CUT_OFF: Span = Span::from_seconds(3_600);

pub struct Renewal {
    /// Where the agent is.
    pub namespace: String,
    pub plane: Plane,
    /// None: looked for next to the agent's Secret.
    pub authority: Option<Authority>,
    /// None: that of the old key.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// None: as long as the old one.
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
    let staging = rotation_secret(namespace, plane.kind.family, plane.plane_id());
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
            let reported = format!("Secret {name} was renewed, but the agent was not restarted yet");
            observer.outcome("renew", Status::Found, &reported);
        }
        Step::Renew => {
            let (data, presented, until) = renewed(renewal, &secret, &pair, authority, now)?;
            let trustees = Trustees { control, deadline: *deadline, force: false, manifests: false };
            let mut planes = trustees.all(plane.plane_id()).await?;
            planes.retain(|(of, ca)| of.name() == plane.name() || ca.verdict(&pair.presented, now).is_authorized());
            all_trust(&planes, &presented, now)?;
            if dry_run.sends() {
                build.update_secret(&secret, data, *dry_run).await?;
            }
            let until = day(until);
            if !dry_run.stores() {
                let reported = format!("Secret {name} would hold a certificate valid until {until} (dry run)");
                observer.outcome("renew", Status::Skipped, &reported);
                return Ok(());
            }
            let reported = format!("Secret {name} holds a new certificate, valid until {until}");
            observer.outcome("renew", Status::Done, &reported);
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
    let own = authority.certificate.to_pem();
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plan::fixtures::{
        BUILD, Estate, Reports, Root, agent, deployment, leaf, of_cert_manager, pair, pair_secret, plane_object,
        registration, root, secret, stored, written_by,
    };

    fn renewal(dry_run: DryRun) -> Renewal {
        Renewal {
            namespace: BUILD.into(),
            plane: registration().plane,
            authority: None,
            key_algorithm: None,
            valid_for: None,
            dry_run,
            deadline: Some(Instant::now()),
        }
    }

    #[test]
    fn what_another_one_writes_is_not_renewed() {
        let now = Timestamp::UNIX_EPOCH;
        let plain = pair_secret("s", &leaf("id", &root("ca", now), now), "");
        let refused = |secret: &Value| {
            let agent = agent(BUILD, "agent", "id", "s");
            refuse_managed(&agent, &stored(secret), &pair(secret), &Target::default()).err()
        };
        assert!(refused(&plain).is_none());
        assert!(refused(&written_by(plain.clone(), "kubectl")).is_none());
        let managed = refused(&of_cert_manager(plain.clone())).unwrap();
        let restart = "kubectl -n builders rollout restart deployment agent";
        assert!(matches!(managed, Error::CertManager { command, .. } if command == restart));
        let other = refused(&written_by(plain, "argocd")).unwrap();
        assert!(matches!(other, Error::OtherOwner { manager, .. } if manager == "argocd"));
    }

    #[test]
    fn a_renewal_that_was_cut_off_only_restarts_the_agent() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let hours = |count| jiff::SignedDuration::from_hours(count);
        let (ca, other) = (root("ca", now - hours(9)), root("other", now));
        let of = |made: Timestamp| pair_secret("s", &leaf("id", &ca, made), "");
        let pod = |started| AgentPod {
            name: "pod".into(),
            plane_id: None,
            revision: None,
            restarted: None,
            waiting: None,
            started: Some(started),
            restarts: 0,
            ended: None,
        };
        let (before, after) = (pod(now - hours(2)), pod(now + hours(3)));
        for (what, made, pods, expected) in [
            ("no pod", now, vec![], Step::Renew),
            ("a pod of before", now, vec![before.clone()], Step::Restart),
            ("one of before and a new one", now, vec![after.clone(), before.clone()], Step::Restart),
            ("a new pod", now, vec![after], Step::Renew),
            ("not just made", now - hours(1), vec![before], Step::Renew),
        ] {
            let secret = of(made);
            let step = decide(&stored(&secret), &pair(&secret), &ca.authority, &pods, now).unwrap();
            assert_eq!(step, expected, "{what}");
        }
        let secret = of(now);
        let error = decide(&stored(&secret), &pair(&secret), &other.authority, &[], now).unwrap_err();
        assert!(matches!(error, Error::OtherCa { .. }));
    }

    /// A plane with a CA, and an agent with a pair of it; the CA's key is beside that.
    fn estate(old: &Root, now: Timestamp) -> Estate {
        let long_ago = now - jiff::SignedDuration::from_hours(48);
        Estate::of(
            [plane_object("p", "id", &old.certificate, now)],
            [
                deployment(BUILD, "agent", "id", "s"),
                pair_secret("s", &leaf("id", old, long_ago), ""),
                secret(BUILD, "ca", &[("ca.crt", &old.certificate), ("ca.key", &old.key)]),
            ],
        )
    }

    #[tokio::test]
    async fn a_renewal_writes_a_pair_of_the_ca_that_is_beside_it() {
        let now = Timestamp::now();
        let old = root("old", now - jiff::SignedDuration::from_hours(72));
        let at = estate(&old, now);
        let held = || at.build.object("secrets/s").unwrap()["data"].clone();
        let before = held();
        for dry_run in [DryRun::Client, DryRun::Server] {
            let mut reported = Reports::default();
            renew(at.clusters(), &renewal(dry_run), &mut reported).await.unwrap();
            assert!(reported.says("renew", "Secret builders/s would hold a certificate valid until"));
            assert_eq!((at.writes(), held()), (0, before.clone()));
        }
        let mut reported = Reports::default();
        renew(at.clusters(), &renewal(DryRun::None), &mut reported).await.unwrap();
        let steps: Vec<_> = reported.steps.iter().map(|(step, ..)| *step).collect();
        assert_eq!(steps, ["renew", "restart", "reconnect"]);
        assert_ne!(held()["tls.crt"], before["tls.crt"]);
        assert_eq!(pair(&at.build.object("secrets/s").unwrap()).ca, old.certificate);
    }

    #[tokio::test]
    async fn a_renewal_is_refused_where_it_would_not_hold() {
        let now = Timestamp::now();
        let old = root("old", now - jiff::SignedDuration::from_hours(72));
        let refused = async |at: &Estate, renewal: Renewal| {
            renew(at.clusters(), &renewal, &mut Reports::default()).await.unwrap_err().downcast::<Error>().unwrap()
        };
        let at = estate(&old, now);
        at.build.put(secret(BUILD, "ca", &[]));
        assert!(matches!(refused(&at, renewal(DryRun::None)).await, Error::NoCa { .. }));
        let other = Some(root("other", now).authority);
        assert!(matches!(
            refused(&at, Renewal { authority: other, ..renewal(DryRun::None) }).await,
            Error::OtherCa { .. }
        ));
        let at = estate(&old, now);
        at.control.put(plane_object("p", "id", &root("other", now).certificate, now));
        assert!(matches!(refused(&at, renewal(DryRun::None)).await, Error::NotTrusted { .. }));
        at.build.put(secret(BUILD, "choreoctl-rotation-id", &[]));
        assert!(matches!(refused(&at, renewal(DryRun::None)).await, Error::UnderWay { .. }));
        assert_eq!(at.writes(), 0);
    }
}
