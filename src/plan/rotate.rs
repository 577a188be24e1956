//! A new CA without an outage: the planes trust the old and the new one, the agent changes over, the old one leaves.
//!
//! Where it stands is read from the clusters: a staging Secret beside the agent's holds what was made and what was there
//! before, from the first write to the last.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::time::Instant;

use super::agent::{Changeover, Data, pair_data};
use super::trust::{Trustees, all_trust, with, without};
use super::{Error, Observer, Status, until};
use crate::cluster::{self, Agent, Cluster, StoredSecret};
use crate::doctor::{ClientCa, Pair, Presents};
use crate::pki::{
    self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey,
    Verdict,
};
use crate::plane::{NamespacedName, Plane, Span};
use crate::term::visible;

/// What the agent's Secret held before.
const OLD_CERTIFICATE: &str = "old.crt";
const OLD_PRIVATE_KEY: &str = "old.key";
const OLD_CA: &str = "old-ca.crt";
/// The planes' CAs as they were before, as JSON by the planes' names.
const PLANES: &str = "planes.json";
/// Who issues the agent's certificate.
const WAY: &str = "way";
/// The Secret that the agent mounted before, and the one that it is to mount.
const FROM: &str = "from";
const TO: &str = "to";
/// A CA younger than this is taken for the one that was just made.
const FRESH: Span = Span::from_seconds(86_400);

/// Who issues the agent's certificate from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// choreoctl, into a Secret of the operator's
    Own,
    /// cert-manager, from the CA's Secret
    CertManager,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::CertManager => "cert-manager",
        }
    }
}

/// How far a rotation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Phase {
    /// The planes trust the old CA and the new one
    Stage,
    /// The agent presents the new certificate
    Switch,
    /// The old CA leaves the planes
    #[default]
    Finish,
}

/// What is to be rotated, and how.
pub struct Rotation {
    pub control: Cluster,
    pub build: Cluster,
    /// Where the agent is.
    pub namespace: String,
    pub plane: Plane,
    /// As it is now, unless given.
    pub way: Option<Way>,
    pub until: Phase,
    pub key_algorithm: KeyAlgorithm,
    pub valid_for: Span,
    pub ca_valid_for: Span,
    /// Whether manifests can be written for other managers.
    pub manifests: bool,
    pub force_conflicts: bool,
    /// Whether a CA that was just made is replaced, too.
    pub again: bool,
    pub deadline: Option<Instant>,
}

/// The plan of one run.
struct Run<'r> {
    rotation: &'r Rotation,
    trustees: Trustees<'r>,
    changeover: Changeover<'r>,
    at: NamespacedName,
}

/// What the staging Secret says.
struct Staged {
    secret: StoredSecret,
    way: Way,
    from: String,
    to: String,
    planes: BTreeMap<String, String>,
}

impl Staged {
    fn of(secret: StoredSecret) -> Result<Self, Error> {
        let name = secret.name.to_string();
        let broken = |why: &str| Error::Pair { secret: name.clone(), why: why.to_owned() };
        let way = match secret.text(WAY).as_str() {
            "own" => Way::Own,
            "cert-manager" => Way::CertManager,
            _ => return Err(broken("it is not of a rotation")),
        };
        let planes =
            serde_json::from_slice(secret.bytes(PLANES)).map_err(|_| broken("its list of planes can't be read"))?;
        let (from, to) = (secret.text(FROM).to_string(), secret.text(TO).to_string());
        Ok(Self { secret, way, from, to, planes })
    }

    fn ca(&self) -> String {
        self.secret.text(CA_CERTIFICATE).to_string()
    }

    /// The certificates that the agent presented before.
    fn old(&self) -> Vec<Vec<u8>> {
        pki::certificates(&self.secret.text(OLD_CERTIFICATE))
    }

    fn is_new(&self, pair: &Pair) -> bool {
        let new = pki::certificates(&self.ca());
        new.iter().any(|ca| pki::issued(&pair.leaf().der, ca))
    }
}

/// Goes on from where the clusters say that the rotation stands. `keep` is given the new CA and its key before the last
/// Secret that holds it goes.
///
/// # Errors
/// [`Error`], and those of the clusters. Whatever it is, the agent is let in as before, and a rerun goes on.
pub async fn rotate(
    rotation: &Rotation,
    rollback: bool,
    dry_run: Option<bool>,
    keep: &mut dyn FnMut(&str, &str) -> anyhow::Result<()>,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    let Rotation { control, build, plane, deadline, .. } = rotation;
    let trustees = Trustees { control, deadline: *deadline, force: rotation.force_conflicts, dry_run: false };
    let changeover = Changeover { control, build, plane, deadline: *deadline };
    let name = format!("choreoctl-rotation-{}", plane.plane_id());
    let at = NamespacedName { namespace: rotation.namespace.clone(), name };
    let run = Run { rotation, trustees, changeover, at };
    let staged = build.secret(&run.at).await?.map(Staged::of).transpose()?;
    match (staged, rollback) {
        (None, true) => {
            observer.tell("rollback", Status::Found, "no rotation is under way");
            Ok(())
        }
        (Some(staged), true) => match dry_run {
            Some(_) => {
                observer.tell("rollback", Status::Skipped, "the rotation would be rolled back (dry run)");
                Ok(())
            }
            None => run.rollback(&staged, observer).await,
        },
        (staged, false) => run.forward(staged, dry_run, keep, observer).await,
    }
}

impl Run<'_> {
    async fn forward(
        &self,
        staged: Option<Staged>,
        dry_run: Option<bool>,
        keep: &mut dyn FnMut(&str, &str) -> anyhow::Result<()>,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let staged = match staged {
            Some(staged) => {
                if let Some(way) = self.rotation.way.filter(|way| *way != staged.way) {
                    let _ = way;
                    return Err(Error::OtherWay { under_way: staged.way.name() }.into());
                }
                observer.tell("stage", Status::Found, &format!("the new CA and certificate are in Secret {}", self.at));
                staged
            }
            None => match self.begin(&agent, dry_run, observer).await? {
                Some(staged) => staged,
                None => return Ok(()),
            },
        };
        if dry_run.is_some() {
            observer.tell("stage", Status::Skipped, "the rotation would go on (dry run)");
            return Ok(());
        }
        self.stage(&staged, observer).await?;
        if self.rotation.until == Phase::Stage {
            return Ok(());
        }
        match staged.way {
            Way::Own => self.switch(&staged, &agent, observer).await?,
            Way::CertManager => self.follow(&staged, observer).await?,
        }
        if self.rotation.until == Phase::Switch {
            return Ok(());
        }
        self.finish(staged, keep, observer).await
    }

    /// Makes the new CA and certificate, where none are under way; none where there is nothing to do.
    async fn begin(
        &self,
        agent: &Agent,
        dry_run: Option<bool>,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<Option<Staged>> {
        let rotation = self.rotation;
        let (secret, pair) = self.changeover.pair(agent).await?;
        let all = self.trustees.all(rotation.plane.plane_id()).await?;
        let now = self.changeover.control.now();
        let (concerned, others) = concerned(all, &rotation.plane, &pair, now);
        for other in &others {
            let name = visible(other.name());
            observer.tell("stage", Status::Skipped, &format!("{name} trusts another agent, and stays as it is"));
        }
        if let Some(since) = fresh(&concerned, &pair, now).filter(|_| !rotation.again) {
            let told = format!(
                "the CA was made at {since}, and the agent's certificate is of it: nothing to do; --force makes another one"
            );
            observer.tell("finish", Status::Found, &told);
            return Ok(None);
        }
        let way = rotation.way.unwrap_or(if pair.cert_manager.is_some() { Way::CertManager } else { Way::Own });
        let made = self.make(way, &secret, &pair, &concerned)?;
        let new = String::from_utf8_lossy(&made[CA_CERTIFICATE]).into_owned();
        self.trustees.check(&concerned, &|_, text| with(text, &new), rotation.manifests).await?;
        if let Some(server) = dry_run {
            if server {
                self.changeover.build.create_secret(&self.at, "Opaque", made, true).await?;
            }
            let names: Vec<_> = concerned.iter().map(|(plane, _)| visible(plane.name())).collect();
            let told = format!(
                "a new CA would be trusted by {}, and the agent's Secret {} follow (dry run)",
                names.join(", "),
                secret.name
            );
            observer.tell("stage", Status::Skipped, &told);
            return Ok(None);
        }
        let staged = match self.changeover.build.create_secret(&self.at, "Opaque", made, false).await {
            // Another run was faster: its CA is the one.
            Err(cluster::Error::Exists { .. }) => self.changeover.build.existing_secret(&self.at).await?,
            made => made?,
        };
        observer.tell("stage", Status::Done, &format!("new CA and certificate made, in Secret {}", self.at));
        Ok(Some(Staged::of(staged)?))
    }

    /// What the staging Secret is to hold.
    fn make(
        &self,
        way: Way,
        secret: &StoredSecret,
        pair: &Pair,
        concerned: &[(Plane, ClientCa)],
    ) -> anyhow::Result<Data> {
        let rotation = self.rotation;
        let now = self.changeover.control.now();
        let plane_id = rotation.plane.plane_id();
        let ca = pki::ca(&ca_name(plane_id), rotation.key_algorithm, rotation.ca_valid_for, now)?;
        let ca_key = ca.key.to_pem();
        let mut data = Data::new();
        if way == Way::Own {
            let authority = Authority::from_pem(&ca.certificate, &ca_key, now).map_err(pki::IssueError::from)?;
            let key = PrivateKey::generate(rotation.key_algorithm)?;
            let leaf = pki::client(plane_id, &authority, key, rotation.valid_for, now)?;
            data = pair_data(&leaf.pair.certificate, &leaf.pair.key.to_pem(), &ca.certificate);
        }
        let planes: BTreeMap<_, _> = concerned
            .iter()
            .map(|(plane, ca)| (plane.name().to_owned(), ca.text.clone().unwrap_or_default()))
            .collect();
        let from = &secret.name.name;
        let to = match way {
            // What cert-manager writes stays its own.
            Way::Own if pair.cert_manager.is_some() => format!("{from}-own"),
            Way::Own => from.clone(),
            Way::CertManager => format!("{plane_id}-agent-ca-{}", suffix(&ca.certificate)),
        };
        for (name, text) in [
            (CA_CERTIFICATE, ca.certificate.as_str()),
            (CA_PRIVATE_KEY, &ca_key),
            (OLD_CERTIFICATE, &secret.text(LEAF_CERTIFICATE)),
            (OLD_PRIVATE_KEY, &secret.text(LEAF_PRIVATE_KEY)),
            (OLD_CA, &secret.text(CA_CERTIFICATE)),
            (WAY, way.name()),
            (FROM, from),
            (TO, &to),
            (PLANES, &serde_json::to_string(&planes)?),
        ] {
            data.insert(name.to_owned(), text.as_bytes().to_vec().into());
        }
        Ok(data)
    }

    /// Lets every plane trust the old CA and the new one.
    async fn stage(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let new = staged.ca();
        let wanted = |_: &str, text: &str| with(text, &new);
        self.trustees.make("stage", staged.planes.keys(), &wanted, "trusts the new CA", observer).await?;
        if staged.way == Way::Own {
            let planes = self.trustees.of(staged.planes.keys()).await?;
            let leaf = pki::certificates(&staged.secret.text(LEAF_CERTIFICATE));
            all_trust(&planes, &leaf, self.changeover.control.now())?;
        }
        Ok(())
    }

    /// Gives the agent the new certificate.
    async fn switch(&self, staged: &Staged, agent: &Agent, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let target = self.beside(&staged.to);
        let new = |name: &str| staged.secret.text(name);
        let data = pair_data(&new(LEAF_CERTIFICATE), &new(LEAF_PRIVATE_KEY), &new(CA_CERTIFICATE));
        match self.changeover.build.secret(&target).await? {
            Some(there) if there.text(LEAF_CERTIFICATE) == new(LEAF_CERTIFICATE) => {
                observer.tell("switch", Status::Found, &format!("Secret {target} holds the new certificate"));
            }
            Some(there) if there.text(LEAF_CERTIFICATE) == new(OLD_CERTIFICATE) => {
                self.changeover.build.update_secret(&there, data, false).await?;
                observer.tell("switch", Status::Done, &format!("Secret {target} holds the new certificate"));
            }
            Some(_) => return Err(Error::Meddled { secret: target.to_string() }.into()),
            None => {
                self.changeover.build.create_secret(&target, "kubernetes.io/tls", data, false).await?;
                observer.tell("switch", Status::Done, &format!("Secret {target} made with the new certificate"));
            }
        }
        self.changeover.restart(agent, &target, observer).await?;
        self.changeover.reconnected(agent, observer).await
    }

    /// Waits until cert-manager has issued from the new CA, and restarts the agent for it.
    async fn follow(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let target = self.beside(&staged.to);
        if self.changeover.build.secret(&target).await?.is_none() {
            let data = [(LEAF_CERTIFICATE, CA_CERTIFICATE), (LEAF_PRIVATE_KEY, CA_PRIVATE_KEY)]
                .map(|(name, of)| (name.to_owned(), staged.secret.bytes(of).to_vec().into()));
            self.changeover.build.create_secret(&target, "kubernetes.io/tls", data.into(), false).await?;
            observer.tell("switch", Status::Done, &format!("Secret {target} holds the CA for cert-manager"));
        } else {
            observer.tell("switch", Status::Found, &format!("Secret {target} holds the CA for cert-manager"));
        }
        let waiting = format!("cert-manager has not issued from the new CA yet: helm upgrade with {}", values(staged));
        let (agent, secret) = until(self.changeover.deadline, observer, async || {
            let agent = self.changeover.agent(&self.rotation.namespace).await?;
            let (secret, pair) = self.changeover.pair(&agent).await?;
            Ok(if staged.is_new(&pair) { Ok((agent, secret.name.clone())) } else { Err(waiting.clone()) })
        })
        .await?;
        observer.tell("switch", Status::Done, &format!("cert-manager issued from the new CA, in Secret {secret}"));
        self.changeover.restart(&agent, &secret, observer).await?;
        self.changeover.reconnected(&agent, observer).await
    }

    /// Takes the old CA out of the planes, once nothing needs it.
    async fn finish(
        &self,
        staged: Staged,
        keep: &mut dyn FnMut(&str, &str) -> anyhow::Result<()>,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        self.old_is_needed(&staged, observer).await?;
        let (new, old, now) = (staged.ca(), staged.old(), self.changeover.control.now());
        let wanted = |_: &str, text: &str| without(text, &old, &new, now);
        self.trustees.make("finish", staged.planes.keys(), &wanted, "trusts the old CA no more", observer).await?;
        keep(&new, &staged.secret.text(CA_PRIVATE_KEY))?;
        self.changeover.build.delete_secret(&staged.secret).await?;
        observer.tell("finish", Status::Done, &format!("Secret {} deleted", self.at));
        let values = values(&staged);
        if !values.is_empty() {
            observer.tell("finish", Status::Done, &format!("keep these Helm values: {values}"));
        }
        Ok(())
    }

    /// Fails where the agent's Secret or a live agent needs the old CA.
    async fn old_is_needed(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let (secret, pair) = self.changeover.pair(&agent).await?;
        if let Verdict::Refused(refusal) = pki::verify(&pair.presented, &staged.ca(), self.changeover.control.now()) {
            let why = format!(
                "Secret {} holds a certificate that the new CA did not issue: {}",
                secret.name, refusal.message
            );
            return Err(Error::StillNeeded { why }.into());
        }
        let pods = self.changeover.build.agent_pods(&agent).await?;
        let behind = |pod: &&cluster::AgentPod| pod.started.is_some() && pair.presented_by(pod) != Some(Presents::This);
        if let Some(pod) = pods.iter().find(behind) {
            let why = format!("pod {} started with the certificate of before", pod.name);
            return Err(Error::StillNeeded { why }.into());
        }
        // More agents than there are pods here: one of another cluster has the same planeID.
        let here = pods.len();
        let counted = until(self.changeover.deadline, observer, async || {
            let plane: Plane = self.changeover.control.plane(self.rotation.plane.name()).await?;
            let there = plane.connection().filter(|connection| connection.connected);
            let there = there.map_or(0, |connection| usize::try_from(connection.connected_agents).unwrap_or(0));
            Ok(if there <= here {
                Ok(())
            } else {
                Err(format!(
                    "the control plane counts {there} agents of planeID {}, and {here} run here",
                    visible(plane.plane_id())
                ))
            })
        });
        match counted.await {
            Err(error) => match error.downcast::<Error>() {
                Ok(Error::TimedOut { waiting: why }) => Err(Error::StillNeeded { why }.into()),
                Ok(error) => Err(error.into()),
                Err(error) => Err(error),
            },
            counted => counted,
        }
    }

    /// Back to what was before, in the other order.
    async fn rollback(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let new = staged.ca();
        let both = |name: &str, text: &str| {
            let before = staged.planes.get(name).map(String::as_str).unwrap_or_default();
            with(&with(text, before), &new)
        };
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let target = self.beside(&staged.to);
        let from = self.changeover.build.existing_secret(&self.beside(&staged.from)).await?;
        let is_back = match staged.way {
            Way::Own => from.text(LEAF_CERTIFICATE) == staged.secret.text(OLD_CERTIFICATE),
            Way::CertManager => !staged.is_new(&self.changeover.pair(&agent).await?.1),
        };
        if !is_back || !self.changeover.presents(&agent, &from).await? {
            self.trustees.make("rollback", staged.planes.keys(), &both, "trusts both CAs", observer).await?;
            self.switch_back(staged, &agent, observer).await?;
        }
        let before = |name: &str, text: &str| staged.planes.get(name).cloned().unwrap_or_else(|| text.to_owned());
        self.trustees.make("rollback", staged.planes.keys(), &before, "trusts what it did before", observer).await?;
        if staged.to != staged.from
            && let Some(made) = self.changeover.build.secret(&target).await?
        {
            self.changeover.build.delete_secret(&made).await?;
            observer.tell("rollback", Status::Done, &format!("Secret {target} deleted"));
        }
        self.changeover.build.delete_secret(&staged.secret).await?;
        observer.tell("rollback", Status::Done, &format!("Secret {} deleted", self.at));
        Ok(())
    }

    async fn switch_back(&self, staged: &Staged, agent: &Agent, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let from = self.beside(&staged.from);
        let old = |name: &str| staged.secret.text(name);
        if staged.way == Way::CertManager {
            let waiting = "the agent's certificate is still of the new CA: helm rollback, or helm upgrade with the values of before";
            until(self.changeover.deadline, observer, async || {
                let agent = self.changeover.agent(&self.rotation.namespace).await?;
                let (_, pair) = self.changeover.pair(&agent).await?;
                Ok(if staged.is_new(&pair) { Err(waiting.to_owned()) } else { Ok(()) })
            })
            .await?;
        } else {
            let held = self.changeover.build.existing_secret(&from).await?;
            if staged.to == staged.from && held.text(LEAF_CERTIFICATE) != old(OLD_CERTIFICATE) {
                let data = pair_data(&old(OLD_CERTIFICATE), &old(OLD_PRIVATE_KEY), &old(OLD_CA));
                self.changeover.build.update_secret(&held, data, false).await?;
                observer.tell("rollback", Status::Done, &format!("Secret {from} holds the old certificate again"));
            }
        }
        self.changeover.restart(agent, &from, observer).await?;
        let planes = staged.planes.values();
        let (presented, now) = (staged.old(), self.changeover.control.now());
        let let_in = |ca: &String| matches!(pki::verify(&presented, ca, now), Verdict::Authorized { .. });
        if planes.into_iter().any(let_in) {
            return self.changeover.reconnected(agent, observer).await;
        }
        observer.tell("reconnect", Status::Skipped, "the agent was refused before, and is again");
        Ok(())
    }

    fn beside(&self, name: &str) -> NamespacedName {
        NamespacedName { namespace: self.rotation.namespace.clone(), name: name.to_owned() }
    }
}

/// The planes that trust the agent, or share a certificate with the one that was named; and the others.
fn concerned(
    all: Vec<(Plane, ClientCa)>,
    named: &Plane,
    pair: &Pair,
    now: Timestamp,
) -> (Vec<(Plane, ClientCa)>, Vec<Plane>) {
    let ders = |ca: &ClientCa| -> BTreeSet<Vec<u8>> {
        ca.text.as_deref().map(pki::certificates).unwrap_or_default().into_iter().collect()
    };
    let own = all.iter().find(|(plane, _)| plane.name() == named.name()).map(|(_, ca)| ders(ca)).unwrap_or_default();
    let (concerned, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(plane, ca)| {
        plane.name() == named.name()
            || matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. } | Verdict::Unknown(_))
            || !ders(ca).is_disjoint(&own)
    });
    (concerned, others.into_iter().map(|(plane, _)| plane).collect())
}

/// The common name of a CA that a rotation makes, as far as there is room (RFC 5280, `ub-common-name`).
fn ca_name(plane_id: &str) -> String {
    let name = format!("build plane agents of {plane_id}");
    if name.len() > 64 { plane_id.to_owned() } else { name }
}

/// Since when there is nothing to do: every plane trusts one CA alone, which a rotation just made, and which issued the
/// agent's certificate.
fn fresh(concerned: &[(Plane, ClientCa)], pair: &Pair, now: Timestamp) -> Option<Timestamp> {
    let of = |(plane, ca): &(Plane, ClientCa)| match ca.certificates().as_deref() {
        Ok([only])
            if only.common_name == Some(ca_name(plane.plane_id()))
                && FRESH.after(only.not_before) > now
                && pki::issued(&pair.leaf().der, &only.der) =>
        {
            Some(only.not_before)
        }
        _ => None,
    };
    concerned.iter().map(of).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// What must stay in the values of the chart, or it undoes the change.
fn values(staged: &Staged) -> String {
    let to = &staged.to;
    match staged.way {
        Way::Own if staged.to != staged.from => format!("--set clusterAgent.tls.clientSecretName={to}"),
        Way::Own => String::new(),
        Way::CertManager => {
            format!("--set clusterAgent.tls.generateCerts=false --set clusterAgent.tls.caSecretName={to}")
        }
    }
}

/// What tells a CA's Secret from that of the next rotation.
fn suffix(pem: &str) -> String {
    let sha256 = pki::Certificate::all_in(pem).into_iter().next().map(|certificate| certificate.sha256);
    sha256.unwrap_or_default().chars().take(8).collect()
}
