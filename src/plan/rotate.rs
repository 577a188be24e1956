//! A new CA without an outage: the planes trust the old and the new one, the agent changes over, the old one leaves.
//!
//! Where it stands is read from the clusters: a staging Secret beside the agent's holds what was made and what was there
//! before, from the first write to the last.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::agent::{Changeover, Data, pair_data};
use super::trust::{Trustees, all_trust, back, is_home, with, without};
use super::{Error, Observer, Status, demand, until};
use crate::cluster::{self, Agent, Cluster, StoredSecret};
use crate::doctor::{self, Issuance, Pair, Presents};
use crate::estate::{ClientCa, client_cas};
use crate::pki::{
    self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey,
    Verdict,
};
use crate::plane::{DryRun, NamespacedName, Plane, ROTATION, Span, State, rotation_secret};
use crate::text::{shell_quoted, visible};

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
/// What the agent was last restarted for before.
const REVISION: &str = "revision";
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
    /// The end of the names of Secrets that are made.
    pub suffix: String,
    pub deadline: Option<Instant>,
}

/// What a rotation is going to do beyond the clusters' objects.
pub struct Outlook {
    pub agent: Agent,
    pub way: Way,
    /// Values that the agent's Helm release must have for good, as Helm's `--set` takes them; empty where none change.
    pub values: Vec<String>,
    pub is_under_way: bool,
}

/// What is done outside of the clusters: where the new CA and its key are kept, and Helm.
pub trait Keeper {
    /// Fails where another CA is kept there already.
    fn check(&self, ca: Option<&str>) -> anyhow::Result<()>;

    /// Keeps them; where. None where nothing is to be kept.
    fn keep(&mut self, ca: &str, key: &str) -> anyhow::Result<Option<String>>;

    /// Gives the agent's release these values, if that is wanted; whether it was done.
    fn install(&mut self, agent: &Agent, values: &[String]) -> anyhow::Result<bool>;

    /// The command that does so.
    fn command(&self, agent: &Agent, values: &[String]) -> String;
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
    revision: Option<String>,
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
        let [from, to, revision] = [FROM, TO, REVISION].map(|key| secret.text(key).to_string());
        if from.is_empty() || to.is_empty() || pki::certificates(&secret.text(CA_CERTIFICATE)).is_empty() {
            return Err(broken("it is not whole: delete it once you know that no plane needs its CA"));
        }
        let revision = Some(revision).filter(|revision| !revision.is_empty());
        Ok(Self { secret, way, from, to, revision, planes })
    }

    fn ca(&self) -> String {
        self.secret.text(CA_CERTIFICATE).to_string()
    }

    /// What a plane's CA was before, in PEM.
    fn before(&self, plane: &str) -> &str {
        self.planes.get(plane).map(String::as_str).unwrap_or_default()
    }

    /// What must stay in the values of the chart, or it undoes the change.
    fn values(&self) -> Vec<String> {
        values(self.way, &self.from, &self.to)
    }

    /// The certificates that the agent presented before.
    fn old(&self) -> Vec<Vec<u8>> {
        pki::certificates(&self.secret.text(OLD_CERTIFICATE))
    }

    /// Whether cert-manager issues from the new CA.
    fn is_read_by(&self, issuance: &Issuance) -> bool {
        issuance.ca_secret.as_ref() == Some(&self.to)
    }

    fn is_new(&self, pair: &Pair) -> bool {
        let new = pki::certificates(&self.ca());
        new.iter().any(|ca| pki::issued(&pair.leaf().der, ca))
    }
}

/// What a rotation is going to do, before it is begun or continued.
///
/// # Errors
/// [`Error`], and those of the clusters.
pub async fn outlook(rotation: &Rotation) -> anyhow::Result<Outlook> {
    let Rotation { control, build, plane, deadline, namespace, .. } = rotation;
    let changeover = Changeover { control, build, plane, deadline: *deadline };
    let agent = changeover.agent(namespace).await?;
    let at = rotation_secret(namespace, plane.plane_id());
    if let Some(staged) = build.secret(&at).await?.map(Staged::of).transpose()? {
        return Ok(Outlook { agent, way: staged.way, values: staged.values(), is_under_way: true });
    }
    let (secret, pair) = changeover.pair(&agent).await?;
    let way = rotation.way.unwrap_or(current(&pair));
    let from = &secret.name.name;
    let to = rotation.target(way, from, is_restored(&secret, &pair));
    Ok(Outlook { agent, way, values: values(way, from, &to), is_under_way: false })
}

impl Rotation {
    /// The Secret that the agent, or cert-manager, is to read.
    fn target(&self, way: Way, from: &str, is_restored: bool) -> String {
        match way {
            // What somebody else writes stays theirs.
            Way::Own if is_restored => format!("{from}-{}", self.suffix),
            Way::Own => from.to_owned(),
            Way::CertManager => format!("{}-agent-ca-{}", self.plane.plane_id(), self.suffix),
        }
    }
}

/// Goes on from where the clusters say that the rotation stands. The keeper gets the new CA and its key before the last
/// Secret that holds it goes.
///
/// # Errors
/// [`Error`], and those of the clusters. Whatever it is, the agent is let in as before, and a rerun goes on.
pub async fn rotate(
    rotation: &Rotation,
    rollback: bool,
    dry_run: DryRun,
    keeper: &mut dyn Keeper,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    let Rotation { control, build, plane, deadline, .. } = rotation;
    let (force, manifests) = (rotation.force_conflicts, rotation.manifests);
    let trustees = Trustees { control, deadline: *deadline, force, manifests };
    let changeover = Changeover { control, build, plane, deadline: *deadline };
    let at = rotation_secret(&rotation.namespace, plane.plane_id());
    let run = Run { rotation, trustees, changeover, at };
    let staged = build.secret(&run.at).await?.map(Staged::of).transpose()?;
    match (staged, rollback, dry_run) {
        (None, true, _) => observer.tell("rollback", Status::Found, "no rotation is under way"),
        (Some(staged), true, DryRun::None) => run.rollback(&staged, observer).await?,
        (Some(_), true, _) => {
            observer.tell("rollback", Status::Skipped, "the rotation would be rolled back (dry run)");
        }
        (staged, false, dry_run) => run.forward(staged, dry_run, keeper, observer).await?,
    }
    Ok(())
}

impl Run<'_> {
    async fn forward(
        &self,
        staged: Option<Staged>,
        dry_run: DryRun,
        keeper: &mut dyn Keeper,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let staged = match staged {
            Some(staged) => {
                if self.rotation.way.is_some_and(|way| way != staged.way) {
                    return Err(Error::OtherWay { under_way: staged.way.name() }.into());
                }
                keeper.check(Some(&staged.ca()))?;
                observer.tell("stage", Status::Found, &format!("the new CA and certificate are in Secret {}", self.at));
                staged
            }
            None => match self.begin(&agent, dry_run, keeper, observer).await? {
                Some(staged) => staged,
                None => return Ok(()),
            },
        };
        observer.unfinished(true);
        if !dry_run.stores() {
            observer.tell("stage", Status::Skipped, "the rotation would go on (dry run)");
            return Ok(());
        }
        let staged = self.adopt(staged).await?;
        self.mark(&staged, Some(&self.at.to_string())).await?;
        self.stage(&staged, observer).await?;
        if self.rotation.until == Phase::Stage {
            return Ok(());
        }
        match staged.way {
            Way::Own => self.switch(&staged, &agent, observer).await?,
            Way::CertManager => self.follow(&staged, keeper, observer).await?,
        }
        if self.rotation.until == Phase::Switch {
            return Ok(());
        }
        self.finish(staged, keeper, observer).await
    }

    /// Makes the new CA and certificate, where none are under way; none where there is nothing to do.
    async fn begin(
        &self,
        agent: &Agent,
        dry_run: DryRun,
        keeper: &dyn Keeper,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<Option<Staged>> {
        let rotation = self.rotation;
        let (secret, pair) = self.changeover.pair(agent).await?;
        let all = self.trustees.all(rotation.plane.plane_id()).await?;
        let now = self.changeover.control.now();
        let (concerned, others) = concerned(all, &rotation.plane, &pair, now);
        for (other, ca) in &others {
            let name = visible(other.name());
            let why = match ca.text() {
                Ok(_) => "trusts another agent".to_owned(),
                Err(problem) => format!("has no CA that can be read ({})", visible(&problem.message)),
            };
            observer.tell("stage", Status::Skipped, &format!("{name} {why}, and stays as it is"));
        }
        let current = current(&pair);
        let way = rotation.way.unwrap_or(current);
        if !rotation.again && way == current && is_fresh(&concerned, &pair, now) {
            let told =
                "the CA was just made, and the agent's certificate is of it: nothing to do; --again makes another one";
            observer.tell("finish", Status::Found, told);
            return Ok(None);
        }
        self.refuse_build_planes(&pair, now).await?;
        keeper.check(None)?;
        let made = self.make(way, agent, &secret, &pair, &concerned)?;
        let new = String::from_utf8_lossy(&made[CA_CERTIFICATE]).into_owned();
        self.trustees.check(&concerned, &|_, text| with(text, &new)).await?;
        self.may().await?;
        if !dry_run.stores() {
            if dry_run.sends() {
                self.changeover.build.create_secret(&self.at, "Opaque", made, dry_run).await?;
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
        let (staged, status) = match self.changeover.build.create_secret(&self.at, "Opaque", made, dry_run).await {
            // Another run was faster: its CA is the one.
            Err(cluster::Error::Exists { .. }) => {
                (self.changeover.build.existing_secret(&self.at).await?, Status::Found)
            }
            made => (made?, Status::Done),
        };
        observer.tell("stage", status, &format!("the new CA and certificate are in Secret {}", self.at));
        Ok(Some(Staged::of(staged)?))
    }

    /// Namespaced BuildPlanes let agents in, too, and aren't written here.
    async fn refuse_build_planes(&self, pair: &Pair, now: Timestamp) -> anyhow::Result<()> {
        let mut planes = match self.changeover.control.build_planes().await {
            // Who may not look can't be told of them.
            Err(cluster::Error::Forbidden { .. }) => return Ok(()),
            planes => planes?,
        };
        planes.retain(|plane| plane.plane_id() == self.rotation.plane.plane_id());
        let cas = client_cas(self.changeover.control, &planes).await;
        let trusts =
            |(_, ca): &(&Plane, ClientCa)| matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. });
        match planes.iter().zip(cas).find(trusts) {
            None => Ok(()),
            Some((plane, _)) => {
                let namespace = plane.metadata.namespace.as_deref().unwrap_or_default();
                let why = "it trusts the agent, and namespaced BuildPlanes are not written here".to_owned();
                Err(Error::Unwritable { plane: format!("BuildPlane {namespace}/{}", plane.name()), why }.into())
            }
        }
    }

    /// Fails where a right is missing that a later step needs.
    async fn may(&self) -> anyhow::Result<()> {
        let namespace = Some(self.rotation.namespace.as_str());
        let needed = [
            ("create", "", "secrets"),
            ("patch", "", "secrets"),
            ("delete", "", "secrets"),
            ("patch", "apps", "deployments"),
            ("list", "", "pods"),
        ];
        let build = self.changeover.build;
        Ok(demand("rotate", &needed.map(|(verb, group, resource)| (build, verb, group, resource, namespace))).await?)
    }

    /// Takes along the planes that came to trust the agent since the rotation began.
    async fn adopt(&self, staged: Staged) -> anyhow::Result<Staged> {
        let (old, now) = (staged.old(), self.changeover.control.now());
        let all = self.trustees.all(self.rotation.plane.plane_id()).await?;
        let trusts = |ca: &ClientCa| matches!(ca.verdict(&old, now), Verdict::Authorized { .. });
        let new: Vec<_> =
            all.into_iter().filter(|(plane, ca)| !staged.planes.contains_key(plane.name()) && trusts(ca)).collect();
        if new.is_empty() {
            return Ok(staged);
        }
        let ca = staged.ca();
        self.trustees.check(&new, &|_, text| with(text, &ca)).await?;
        let before =
            new.into_iter().map(|(plane, ca)| (plane.name().to_owned(), ca.text().unwrap_or_default().to_owned()));
        let planes: BTreeMap<_, _> = staged.planes.clone().into_iter().chain(before).collect();
        let data = [(PLANES.to_owned(), serde_json::to_vec(&planes)?.into())].into();
        Ok(Staged::of(self.changeover.build.update_secret(&staged.secret, data, DryRun::None).await?)?)
    }

    /// What the staging Secret is to hold.
    fn make(
        &self,
        way: Way,
        agent: &Agent,
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
            .map(|(plane, ca)| (plane.name().to_owned(), ca.text().unwrap_or_default().to_owned()))
            .collect();
        let from = &secret.name.name;
        let to = rotation.target(way, from, is_restored(secret, pair));
        for (name, text) in [
            (CA_CERTIFICATE, ca.certificate.as_str()),
            (CA_PRIVATE_KEY, &ca_key),
            (OLD_CERTIFICATE, &secret.text(LEAF_CERTIFICATE)),
            (OLD_PRIVATE_KEY, &secret.text(LEAF_PRIVATE_KEY)),
            (OLD_CA, &secret.text(CA_CERTIFICATE)),
            (WAY, way.name()),
            (REVISION, agent.revision.as_deref().unwrap_or_default()),
            (FROM, from),
            (TO, &to),
            (PLANES, &serde_json::to_string(&planes)?),
        ] {
            data.insert(name.to_owned(), text.as_bytes().to_vec().into());
        }
        Ok(data)
    }

    /// Marks the planes as being rotated, or no longer, for those who do not see the agent's cluster. Who may not write
    /// planes, as where their CAs are in Secrets, leaves them unmarked.
    async fn mark(&self, staged: &Staged, secret: Option<&str>) -> anyhow::Result<()> {
        let control = self.changeover.control;
        for name in staged.planes.keys() {
            let Some(plane) = control.plane_if_any::<Plane>(name).await? else {
                continue;
            };
            if plane.annotation(ROTATION) == secret {
                continue;
            }
            let path = control.key(name).path();
            let fields = json!({"metadata": {"annotations": {ROTATION: secret}}});
            match control.merge_object(&path, &fields, DryRun::None).await {
                Ok(_) | Err(cluster::Error::Forbidden { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
        let mut data = pair_data(&new(LEAF_CERTIFICATE), &new(LEAF_PRIVATE_KEY), &new(CA_CERTIFICATE));
        match self.changeover.build.secret(&target).await? {
            Some(there) if there.text(LEAF_CERTIFICATE) == new(LEAF_CERTIFICATE) => {
                observer.tell("switch", Status::Found, &format!("Secret {target} holds the new certificate"));
            }
            Some(there) if there.text(LEAF_CERTIFICATE) == new(OLD_CERTIFICATE) => {
                if self.is_home(staged, &target).await? {
                    data.remove(CA_CERTIFICATE);
                }
                self.changeover.build.update_secret(&there, data, DryRun::None).await?;
                observer.tell("switch", Status::Done, &format!("Secret {target} holds the new certificate"));
            }
            Some(_) => return Err(Error::Meddled { secret: target.to_string() }.into()),
            None => {
                self.changeover.build.create_secret(&target, "kubernetes.io/tls", data, DryRun::None).await?;
                observer.tell("switch", Status::Done, &format!("Secret {target} made with the new certificate"));
            }
        }
        self.changeover.restart(agent, &target, observer).await?;
        self.changeover.reconnected(agent, observer).await
    }

    /// Whether a plane reads its CA out of the agent's own Secret, as it can where both clusters are one.
    async fn is_home(&self, staged: &Staged, secret: &NamespacedName) -> anyhow::Result<bool> {
        let planes = self.trustees.of(staged.planes.keys()).await?;
        Ok(planes.iter().any(|(plane, _)| is_home(plane, secret, CA_CERTIFICATE)))
    }

    /// Waits until cert-manager has issued from the new CA, and restarts the agent for it.
    async fn follow(
        &self,
        staged: &Staged,
        keeper: &mut dyn Keeper,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        let target = self.beside(&staged.to);
        if self.changeover.build.secret(&target).await?.is_none() {
            let data = [(LEAF_CERTIFICATE, CA_CERTIFICATE), (LEAF_PRIVATE_KEY, CA_PRIVATE_KEY)]
                .map(|(name, of)| (name.to_owned(), staged.secret.bytes(of).to_vec().into()));
            self.changeover.build.create_secret(&target, "kubernetes.io/tls", data.into(), DryRun::None).await?;
            observer.tell("switch", Status::Done, &format!("Secret {target} holds the CA for cert-manager"));
        } else {
            observer.tell("switch", Status::Found, &format!("Secret {target} holds the CA for cert-manager"));
        }
        let values = staged.values();
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let (_, pair) = self.changeover.pair(&agent).await?;
        if !staged.is_new(&pair) && keeper.install(&agent, &values)? {
            observer.tell("switch", Status::Done, "Helm gave the agent's release the new CA");
        }
        let command = keeper.command(&agent, &values);
        let mut is_ordered = false;
        let (agent, secret) = until(self.changeover.deadline, observer, async || {
            let agent = self.changeover.agent(&self.rotation.namespace).await?;
            let (secret, pair) = self.changeover.pair(&agent).await?;
            if staged.is_new(&pair) {
                return Ok(Ok((agent, secret.name.clone())));
            }
            let Some(issuance) = self.issuance(&secret.name).await else {
                return Ok(Err(format!("cert-manager has not issued from the new CA yet: {command}")));
            };
            if !staged.is_read_by(&issuance) {
                return Ok(Err(format!("cert-manager does not issue from the new CA yet: {command}")));
            }
            // Another CA in the same Issuer is no reason for cert-manager to issue anew.
            if !std::mem::replace(&mut is_ordered, true) {
                self.order(&issuance).await?;
            }
            Ok(Err(format!("cert-manager has not issued Certificate {} from the new CA yet", issuance.name)))
        })
        .await?;
        observer.tell("switch", Status::Done, &format!("cert-manager issued from the new CA, in Secret {secret}"));
        self.changeover.restart(&agent, &secret, observer).await?;
        self.changeover.reconnected(&agent, observer).await
    }

    /// The Certificate of cert-manager behind the agent's Secret, as far as it can be read.
    async fn issuance(&self, secret: &NamespacedName) -> Option<Issuance> {
        doctor::issuance(self.changeover.build, secret).await.ok().flatten()
    }

    /// Has cert-manager issue anew; who may not leaves that to somebody else.
    async fn order(&self, issuance: &Issuance) -> anyhow::Result<()> {
        match doctor::reissue(self.changeover.build, &issuance.name).await {
            Ok(()) | Err(cluster::Error::Forbidden { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the old CA out of the planes, once nothing needs it.
    async fn finish(&self, staged: Staged, keeper: &mut dyn Keeper, observer: &mut dyn Observer) -> anyhow::Result<()> {
        self.old_is_needed(&staged, observer).await?;
        let (new, old, now) = (staged.ca(), staged.old(), self.changeover.control.now());
        let wanted = |name: &str, text: &str| without(text, &old, staged.before(name), &new, now);
        self.trustees.make("finish", staged.planes.keys(), &wanted, "no longer trusts the old CA", observer).await?;
        // Another run may have gone back while this one waited; what was there before must then stay.
        self.old_is_needed(&staged, observer).await?;
        let kept = match keeper.keep(&new, &staged.secret.text(CA_PRIVATE_KEY))? {
            Some(place) => format!("the new CA and its key are in {place}"),
            None if staged.way == Way::CertManager => {
                format!("the new CA's key is in Secret {}", self.beside(&staged.to))
            }
            None => "the new CA's key is dropped: without --out-dir the next certificate takes a rotation".into(),
        };
        // While it can still be continued.
        self.settle(&staged, keeper, observer).await?;
        self.mark(&staged, None).await?;
        self.changeover.build.delete_secret(&staged.secret).await?;
        observer.unfinished(false);
        observer.tell("finish", Status::Done, &kept);
        observer.tell("finish", Status::Done, &format!("Secret {} deleted", self.at));
        self.report(&staged, observer).await
    }

    /// Reports which CAs the planes trust in the end, and why others than the new one stay.
    async fn report(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let new = pki::certificates(&staged.ca());
        for (plane, ca) in self.trustees.of(staged.planes.keys()).await? {
            let certificates = ca.certificates().unwrap_or_default();
            let named = |certificate: &&pki::Certificate| {
                let day = certificate.not_after.strftime("%Y-%m-%d");
                format!("{} until {day}", visible(&certificate.subject))
            };
            let (ours, others): (Vec<_>, Vec<_>) = certificates.iter().partition(|one| new.contains(&one.der));
            let list = |all: &[&pki::Certificate]| all.iter().map(named).collect::<Vec<_>>().join(", ");
            let mut message = format!("{} trusts {}", visible(plane.name()), list(&ours));
            if !others.is_empty() {
                let why = "which did not issue the agent's former certificate, so other agents may use it";
                message.push_str(&format!("; it also trusts {}, {why}", list(&others)));
            }
            observer.tell("finish", Status::Done, &message);
        }
        Ok(())
    }

    /// Gives the agent's release the values without which the next upgrade takes the change back, or says which.
    async fn settle(
        &self,
        staged: &Staged,
        keeper: &mut dyn Keeper,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        let values = staged.values();
        if staged.way == Way::CertManager || values.is_empty() {
            return Ok(());
        }
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let message = if keeper.install(&agent, &values)? {
            "Helm keeps the agent's new Secret".to_owned()
        } else {
            let command = keeper.command(&agent, &values);
            format!("the next upgrade of the chart takes this back, unless Helm knows the new Secret: {command}")
        };
        observer.tell("finish", Status::Done, &message);
        Ok(())
    }

    /// Fails where the agent's Secret or a live agent needs the old CA.
    async fn old_is_needed(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let needed = |why: String| Error::StillNeeded { why };
        let agent = self.changeover.agent(&self.rotation.namespace).await?;
        let (secret, pair) = self.changeover.pair(&agent).await?;
        match pki::verify(&pair.presented, &staged.ca(), self.changeover.control.now()) {
            Verdict::Authorized { .. } => {}
            Verdict::Refused(pki::Refusal { message: why, .. }) | Verdict::Unknown(why) => {
                let held = format!("Secret {} holds a certificate that the new CA doesn't let in: {why}", secret.name);
                return Err(needed(held).into());
            }
        }
        let pods = self.changeover.build.agent_pods(&agent).await?;
        let behind = |pod: &&cluster::AgentPod| pod.started.is_some() && pair.presented_by(pod) != Some(Presents::This);
        if let Some(pod) = pods.iter().find(behind) {
            return Err(needed(format!("pod {} may have started with the certificate of before", pod.name)).into());
        }
        // More agents than there are pods here: one of another cluster has the same planeID.
        let here = pods.len();
        let counted = until(self.changeover.deadline, observer, async || {
            let plane: Plane = self.changeover.control.plane(self.rotation.plane.name()).await?;
            let (id, state) = (visible(plane.plane_id()).into_owned(), plane.state(self.changeover.control.now()));
            let Some(report) = plane.connection().filter(|_| state != State::Stale) else {
                return Ok(Err(format!("the control plane has no recent report on the agents of planeID {id}")));
            };
            let there = if report.connected { usize::try_from(report.connected_agents).unwrap_or(0) } else { 0 };
            let more = format!("the control plane counts {there} agents of planeID {id}, and {here} run here");
            Ok(if there <= here { Ok(()) } else { Err(more) })
        });
        counted.await.map_err(|error| match error.downcast::<Error>() {
            Ok(Error::TimedOut { waiting: why }) => needed(why).into(),
            Ok(error) => error.into(),
            Err(error) => error,
        })
    }

    /// Back to what was before, in the other order.
    async fn rollback(&self, staged: &Staged, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let new = staged.ca();
        let before = |name: &str| staged.before(name);
        observer.unfinished(true);
        let agent = match self.changeover.agent(&self.rotation.namespace).await {
            Ok(agent) if self.is_switched(staged, &agent).await? => Some(agent),
            Ok(_) => None,
            Err(error) => match error.downcast_ref::<cluster::Error>() {
                Some(cluster::Error::NoAgent { .. }) => None,
                _ => return Err(error),
            },
        };
        if let Some(agent) = agent {
            match staged.way {
                Way::Own => self.refuse_dead_end(staged).await?,
                Way::CertManager => self.refuse_pinned(staged)?,
            }
            let both = |name: &str, text: &str| with(&with(text, before(name)), &new);
            self.trustees.make("rollback", staged.planes.keys(), &both, "trusts both CAs", observer).await?;
            self.switch_back(staged, &agent, observer).await?;
        }
        let back = |name: &str, text: &str| back(text, before(name), &new);
        self.trustees.make("rollback", staged.planes.keys(), &back, "trusts what it did before", observer).await?;
        let target = self.beside(&staged.to);
        if staged.to != staged.from
            && let Some(made) = self.changeover.build.secret(&target).await?
        {
            self.changeover.build.delete_secret(&made).await?;
            observer.tell("rollback", Status::Done, &format!("Secret {target} deleted"));
        }
        self.mark(staged, None).await?;
        self.changeover.build.delete_secret(&staged.secret).await?;
        observer.unfinished(false);
        observer.tell("rollback", Status::Done, &format!("Secret {} deleted", self.at));
        Ok(())
    }

    /// Whether the agent was given anything new: its Secret was written, or it was restarted.
    async fn is_switched(&self, staged: &Staged, agent: &Agent) -> anyhow::Result<bool> {
        if agent.revision != staged.revision || agent.secret.as_ref() != Some(&staged.from) {
            return Ok(true);
        }
        Ok(match staged.way {
            Way::CertManager => {
                let (secret, pair) = self.changeover.pair(agent).await?;
                let issuance = self.issuance(&secret.name).await;
                staged.is_new(&pair) || issuance.is_some_and(|issuance| staged.is_read_by(&issuance))
            }
            Way::Own if staged.to != staged.from => false,
            Way::Own => match self.changeover.build.secret(&self.beside(&staged.from)).await? {
                Some(held) => held.text(LEAF_CERTIFICATE) == staged.secret.text(LEAF_CERTIFICATE),
                None => true,
            },
        })
    }

    /// What the agent would be given back must be let in by what the planes trusted before; else forward is the way out.
    async fn refuse_dead_end(&self, staged: &Staged) -> anyhow::Result<()> {
        let from = self.changeover.build.secret(&self.beside(&staged.from)).await?;
        let presented = match from {
            Some(from) if staged.to != staged.from => pki::certificates(&from.text(LEAF_CERTIFICATE)),
            _ => staged.old(),
        };
        // One that was issued in this second is valid from the next answer's date on.
        let issued = presented.first().and_then(|der| pki::Certificate::from_der(der)).map(|leaf| leaf.not_before);
        let now = self.changeover.control.now().max(issued.unwrap_or(Timestamp::MIN));
        let mut why = String::from("no plane trusted it");
        for ca in staged.planes.values() {
            match pki::verify(&presented, ca, now) {
                Verdict::Refused(refusal) => why = refusal.message,
                Verdict::Authorized { .. } | Verdict::Unknown(_) => return Ok(()),
            }
        }
        Err(Error::NoWayBack { why }.into())
    }

    /// The same before cert-manager has issued from the former CA again: that helps where the planes trust a CA, and not
    /// where they pin the former certificate.
    fn refuse_pinned(&self, staged: &Staged) -> Result<(), Error> {
        let issuers = |ca: &String| -> String {
            let all = pki::Certificate::all_in(ca).into_iter().filter(|certificate| certificate.ca);
            all.map(|certificate| pki::encode("CERTIFICATE", &certificate.der)).collect()
        };
        let now = self.changeover.control.now();
        let trusts = |ca: &String| matches!(pki::verify(&staged.old(), &issuers(ca), now), Verdict::Authorized { .. });
        if staged.planes.values().any(trusts) {
            return Ok(());
        }
        let why = "no plane trusted the CA of its certificate, and cert-manager issues another certificate".to_owned();
        Err(Error::NoWayBack { why })
    }

    async fn switch_back(&self, staged: &Staged, agent: &Agent, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let from = self.beside(&staged.from);
        let old = |name: &str| staged.secret.text(name);
        let mut data = pair_data(&old(OLD_CERTIFICATE), &old(OLD_PRIVATE_KEY), &old(OLD_CA));
        let held = self.changeover.build.secret(&from).await?;
        if staged.way == Way::CertManager {
            let namespace = shell_quoted(&agent.name.namespace);
            let release = agent.release.as_deref().map_or_else(|| "RELEASE".into(), shell_quoted);
            let command = format!("helm rollback {release} --namespace {namespace}");
            let command = self.changeover.build.target().command(&command);
            let mut is_ordered = false;
            until(self.changeover.deadline, observer, async || {
                let agent = self.changeover.agent(&self.rotation.namespace).await?;
                let (secret, pair) = self.changeover.pair(&agent).await?;
                let issuance = self.issuance(&secret.name).await;
                if issuance.as_ref().is_some_and(|issuance| staged.is_read_by(issuance)) {
                    return Ok(Err(format!("cert-manager still issues from the new CA: {command}")));
                }
                if !staged.is_new(&pair) {
                    return Ok(Ok(()));
                }
                if let Some(issuance) = issuance
                    && !std::mem::replace(&mut is_ordered, true)
                {
                    self.order(&issuance).await?;
                }
                Ok(Err(format!("the agent's certificate is still of the new CA: {command}")))
            })
            .await?;
            self.refuse_dead_end(staged).await?;
        } else if let Some(held) = held {
            if staged.to == staged.from && held.text(LEAF_CERTIFICATE) != old(OLD_CERTIFICATE) {
                if self.is_home(staged, &from).await? {
                    data.remove(CA_CERTIFICATE);
                }
                self.changeover.build.update_secret(&held, data, DryRun::None).await?;
                observer.tell("rollback", Status::Done, &format!("Secret {from} holds the old certificate again"));
            }
        } else {
            self.changeover.build.create_secret(&from, "kubernetes.io/tls", data, DryRun::None).await?;
            observer.tell("rollback", Status::Done, &format!("Secret {from} made with the old certificate"));
        }
        self.changeover.restart(agent, &from, observer).await?;
        self.changeover.reconnected(agent, observer).await
    }

    fn beside(&self, name: &str) -> NamespacedName {
        NamespacedName { namespace: self.rotation.namespace.clone(), name: name.to_owned() }
    }
}

type WithCa = (Plane, ClientCa);

/// The planes that trust the agent, or share a certificate with the one that was named; and the others.
fn concerned(all: Vec<WithCa>, named: &Plane, pair: &Pair, now: Timestamp) -> (Vec<WithCa>, Vec<WithCa>) {
    let ders = |ca: &ClientCa| -> BTreeSet<Vec<u8>> {
        ca.text().map(pki::certificates).unwrap_or_default().into_iter().collect()
    };
    let own = all.iter().find(|(plane, _)| plane.name() == named.name()).map(|(_, ca)| ders(ca)).unwrap_or_default();
    all.into_iter().partition(|(plane, ca)| {
        plane.name() == named.name()
            || matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. } | Verdict::Unknown(_))
            || !ders(ca).is_disjoint(&own)
    })
}

/// Who issues an agent's certificate.
fn current(pair: &Pair) -> Way {
    if pair.cert_manager.is_some() { Way::CertManager } else { Way::Own }
}

/// Whether cert-manager or another manager would put back what is written into the agent's Secret.
fn is_restored(secret: &StoredSecret, pair: &Pair) -> bool {
    pair.cert_manager.is_some() || secret.writers(LEAF_CERTIFICATE).iter().any(cluster::Writer::restores)
}

/// The common name of a CA that a rotation makes, as far as there is room (RFC 5280, `ub-common-name`).
fn ca_name(plane_id: &str) -> String {
    let name = format!("build plane agents of {plane_id}");
    if name.len() > 64 { plane_id.to_owned() } else { name }
}

/// Whether there is nothing to do: every plane trusts one CA alone, which a rotation just made, and lets the agent in.
fn is_fresh(concerned: &[WithCa], pair: &Pair, now: Timestamp) -> bool {
    concerned.iter().all(|(plane, ca)| match ca.certificates().as_deref() {
        Ok([only]) => {
            only.common_name == Some(ca_name(plane.plane_id()))
                && FRESH.after(only.not_before) > now
                && matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. })
        }
        _ => false,
    })
}

/// Values of the chart by which it reads a Secret.
fn values(way: Way, from: &str, to: &str) -> Vec<String> {
    match way {
        Way::Own if to != from => vec![format!("clusterAgent.tls.clientSecretName={to}")],
        Way::Own => Vec::new(),
        Way::CertManager => {
            vec!["clusterAgent.tls.generateCerts=false".to_owned(), format!("clusterAgent.tls.caSecretName={to}")]
        }
    }
}
