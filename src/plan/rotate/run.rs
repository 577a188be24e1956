//! What carries out a rotation: each stage looks, decides, acts and reports.

use futures_util::future::LocalBoxFuture;
use serde_json::json;

use super::decide::{self, Course, Put, Toward};
use super::rotation::{Goal, Keeper, Outlook, Phase, Rotation, values};
use super::staged::{Staged, staging, with_planes};
use crate::cluster::{self, Agent, Cluster, StoredSecret};
use crate::estate::{self, Issuance, Pair, Presents};
use crate::pki::{self, CA_CERTIFICATE, CA_PRIVATE_KEY, LEAF_CERTIFICATE};
use crate::plan::agent::{Changeover, Data};
use crate::plan::clusters::Clusters;
use crate::plan::error::Error;
use crate::plan::issuer::Issuer;
use crate::plan::observer::{Observer, Status, until};
use crate::plan::trust::{Trustees, all_trust, back, is_home, name, with, without};
use crate::plane::{DryRun, NamespacedName, Plane, PlaneKey, ROTATION, rotation_secret};
use crate::text::{shell_quoted, visible};

/// What carries out a stage.
type Stage = for<'a> fn(&'a mut Run<'_>, &'a Staged) -> LocalBoxFuture<'a, anyhow::Result<()>>;

static STAGES: &[(Phase, Stage)] = &[
    (Phase::Stage, |run, staged| Box::pin(run.stage(staged))),
    (Phase::Switch, |run, staged| Box::pin(run.switch(staged))),
    (Phase::Finish, |run, staged| Box::pin(run.finish(staged))),
];

/// One run of a rotation.
struct Run<'r> {
    rotation: &'r Rotation,
    clusters: Clusters<'r>,
    trustees: Trustees<'r>,
    changeover: Changeover<'r>,
    /// The staging Secret.
    at: NamespacedName,
    keeper: &'r mut dyn Keeper,
    observer: &'r mut dyn Observer,
}

/// What a rotation is going to do, before it is begun or continued; none where it is to make no new CA.
pub async fn outlook(clusters: Clusters<'_>, rotation: &Rotation) -> anyhow::Result<Option<Outlook>> {
    let (Clusters { control, build }, Rotation { plane, namespace, deadline, .. }) = (clusters, rotation);
    let changeover = Changeover { clusters, namespace, plane, deadline: *deadline };
    let agent = changeover.agent().await?;
    let staged = build
        .secret(&rotation_secret(namespace, plane.kind.family, plane.plane_id()))
        .await?
        .map(Staged::of)
        .transpose()?;
    if let Some(staged) = staged {
        return Ok(Some(Outlook { agent, issuer: staged.issuer, values: staged.values(), is_under_way: true }));
    }
    let (secret, pair) = changeover.pair(&agent).await?;
    let trustees = Trustees { control, deadline: *deadline, force: false, manifests: false };
    let now = control.now();
    let (concerned, _) = decide::concerned(trustees.all(plane.plane_id()).await?, plane, &pair, now);
    Ok(decide::issuer(rotation, &pair, &concerned, now).map(|issuer| {
        let values = values(issuer, &secret.name.name, &rotation.target(issuer, &secret));
        Outlook { agent, issuer, values, is_under_way: false }
    }))
}

/// Continues from where the clusters say that the rotation is. The keeper gets the new CA and its key before the last
/// Secret that holds it goes.
///
/// # Errors
/// [`Error`], and those of the clusters. Whatever it is, the agent is authorized as before, and a rerun continues.
pub async fn rotate(
    clusters: Clusters<'_>,
    rotation: &Rotation,
    keeper: &mut dyn Keeper,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    let Rotation { plane, namespace, deadline, force_conflicts: force, manifests, .. } = rotation;
    let at = rotation_secret(namespace, plane.kind.family, plane.plane_id());
    let staged = clusters.build.secret(&at).await?.map(Staged::of).transpose()?;
    let (control, deadline, force, manifests) = (clusters.control, *deadline, *force, *manifests);
    let trustees = Trustees { control, deadline, force, manifests };
    let changeover = Changeover { clusters, namespace, plane, deadline };
    let mut run = Run { rotation, clusters, trustees, changeover, at, keeper, observer };
    match decide::course(rotation, staged) {
        Course::Over(status, reported) => run.outcome("rollback", status, reported),
        Course::Back(staged) => run.roll_back(&staged).await?,
        Course::Forward(last, staged) => run.forward(last, staged).await?,
    }
    Ok(())
}

impl Run<'_> {
    fn outcome(&mut self, step: &'static str, status: Status, reported: &str) {
        self.observer.outcome(step, status, reported);
    }

    async fn forward(&mut self, last: Phase, staged: Option<Staged>) -> anyhow::Result<()> {
        let agent = self.changeover.agent().await?;
        let staged = match staged {
            Some(staged) => {
                decide::refuse_other_issuer(self.rotation, &staged)?;
                self.keeper.check(Some(&staged.ca()))?;
                self.outcome("stage", Status::Found, &format!("the new CA and certificate are in Secret {}", self.at));
                staged
            }
            None => match self.begin(&agent).await? {
                Some(staged) => staged,
                None => return Ok(()),
            },
        };
        self.observer.unfinished(true);
        if !self.rotation.dry_run.stores() {
            self.outcome("stage", Status::Skipped, "the rotation would continue (dry run)");
            return Ok(());
        }
        let staged = self.adopt(staged).await?;
        self.mark(&staged, Some(&self.at.to_string())).await?;
        for (_, stage) in STAGES.iter().filter(|(phase, _)| *phase <= last) {
            stage(self, &staged).await?;
        }
        Ok(())
    }

    /// Makes the new CA and certificate, where none are under way; none where there is nothing to do.
    async fn begin(&mut self, agent: &Agent) -> anyhow::Result<Option<Staged>> {
        let (rotation, Clusters { control, build }) = (self.rotation, self.clusters);
        let (secret, pair) = self.changeover.pair(agent).await?;
        let all = self.trustees.all(rotation.plane.plane_id()).await?;
        let now = control.now();
        let (concerned, others) = decide::concerned(all, &rotation.plane, &pair, now);
        others.iter().for_each(|other| self.outcome("stage", Status::Skipped, &decide::left_alone(other)));
        let Some(issuer) = decide::issuer(rotation, &pair, &concerned, now) else {
            self.catch_up(agent, &secret.name, &pair).await?;
            return Ok(None);
        };
        self.keeper.check(None)?;
        let made = staging(rotation, issuer, agent, &secret, &concerned, control.now())?;
        let new = String::from_utf8_lossy(&made[CA_CERTIFICATE]).into_owned();
        self.trustees.check(&concerned, &|_, text| with(text, &new)).await?;
        self.clusters.demand("rotate", &decide::rights(&rotation.namespace)).await?;
        if !rotation.dry_run.stores() {
            if rotation.dry_run.sends() {
                build.create_secret(&self.at, "Opaque", made, rotation.dry_run).await?;
            }
            self.outcome("stage", Status::Skipped, &decide::predicted(&concerned, &secret.name));
            return Ok(None);
        }
        let (staged, status) = match build.create_secret(&self.at, "Opaque", made, DryRun::None).await {
            // Another run was faster: its CA is the one.
            Err(cluster::Error::Exists { .. }) => (build.existing_secret(&self.at).await?, Status::Found),
            made => (self.unless_late(made?, &pair).await?, Status::Done),
        };
        self.outcome("stage", status, &format!("the new CA and certificate are in Secret {}", self.at));
        Ok(Some(Staged::of(staged)?))
    }

    /// A rotation that began and ended since the agent's certificate was read leaves no Secret to stumble over, but another
    /// certificate: what was made here is of the past then, and deleted.
    async fn unless_late(&self, made: StoredSecret, pair: &Pair) -> anyhow::Result<StoredSecret> {
        let now = match self.changeover.agent().await {
            Ok(agent) => self.changeover.pair(&agent).await,
            Err(error) => Err(error),
        };
        let error = match now {
            Ok((_, now)) if now.presented == pair.presented => return Ok(made),
            Ok((secret, _)) => Error::Overwritten { secret: secret.name.to_string() }.into(),
            Err(error) => error,
        };
        self.clusters.build.delete_secret(&made).await?;
        Err(error)
    }

    /// Restarts an agent that runs with another certificate than its Secret holds, which the planes trust.
    async fn catch_up(&mut self, agent: &Agent, secret: &NamespacedName, pair: &Pair) -> anyhow::Result<()> {
        let reported = "the CA was created less than a day ago and already issued the agent's certificate: nothing to do; use --again to create another CA";
        self.outcome("finish", Status::Found, reported);
        let pods = self.clusters.build.agent_pods(agent).await?;
        let is_behind = |pod| matches!(pair.presented_by(pod), Some(Presents::Older | Presents::Unsure));
        let Some(pod) = pods.iter().find(|pod| is_behind(pod)) else {
            return Ok(());
        };
        let reported = format!("pod {} may present another certificate than Secret {secret} holds", visible(&pod.name));
        if !self.rotation.dry_run.stores() || self.rotation.goal == Goal::Until(Phase::Stage) {
            self.outcome("restart", Status::Skipped, &format!("{reported}, until the agent is restarted"));
            return Ok(());
        }
        self.changeover.complete(agent, secret, self.observer).await
    }

    /// Takes along the planes that came to trust the agent since the rotation began.
    async fn adopt(&self, staged: Staged) -> anyhow::Result<Staged> {
        let (old, now) = (staged.old(), self.clusters.control.now());
        let mut new = self.trustees.all(self.rotation.plane.plane_id()).await?;
        new.retain(|(plane, ca)| !staged.planes.contains_key(&name(plane)) && ca.verdict(&old, now).is_authorized());
        if new.is_empty() {
            return Ok(staged);
        }
        let ca = staged.ca();
        self.trustees.check(&new, &|_, text| with(text, &ca)).await?;
        let data = with_planes(&staged, &new)?;
        Ok(Staged::of(self.clusters.build.update_secret(&staged.secret, data, DryRun::None).await?)?)
    }

    /// Marks the planes as being rotated, or no longer, for those who do not see the plane's cluster. Who may not write
    /// planes, as where their CAs are in Secrets, leaves them unmarked.
    async fn mark(&self, staged: &Staged, secret: Option<&str>) -> anyhow::Result<()> {
        let control = self.clusters.control;
        for name in staged.planes.keys() {
            let Some(key) = PlaneKey::of_family(control.kind().family, name) else {
                continue;
            };
            let Some(plane) = control.around(&key).plane_if_any::<Plane>(&key.name).await? else {
                continue;
            };
            if plane.annotation(ROTATION) == secret {
                continue;
            }
            let path = key.path();
            let fields = json!({"metadata": {"annotations": {ROTATION: secret}}});
            match control.merge_object(&path, &fields, DryRun::None).await {
                Ok(_) | Err(cluster::Error::Forbidden { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets every plane trust the old CA and the new one.
    async fn stage(&mut self, staged: &Staged) -> anyhow::Result<()> {
        let new = staged.ca();
        let wanted = |_: &str, text: &str| with(text, &new);
        self.trustees.make("stage", staged.planes.keys(), &wanted, "trusts the new CA", self.observer).await?;
        if staged.issuer == Issuer::Own {
            let planes = self.trustees.of(staged.planes.keys()).await?;
            let leaf = pki::certificates(&staged.secret.text(LEAF_CERTIFICATE));
            all_trust(&planes, &leaf, self.clusters.control.now())?;
        }
        Ok(())
    }

    /// Gives the agent the new certificate.
    async fn switch(&mut self, staged: &Staged) -> anyhow::Result<()> {
        let target = self.rotation.beside(&staged.to);
        let held = self.clusters.build.secret(&target).await?;
        if staged.issuer == Issuer::CertManager {
            return self.follow(staged, held.is_some()).await;
        }
        let put = decide::put_new(staged, held.as_ref())?;
        self.put(put, &target, held.as_ref(), staged.new_pair(), staged).await?;
        let (status, reported) = match put {
            Put::Nothing => (Status::Found, "holds the new certificate"),
            Put::Over => (Status::Done, "holds the new certificate"),
            Put::New => (Status::Done, "created with the new certificate"),
        };
        self.outcome("switch", status, &format!("Secret {target} {reported}"));
        let agent = self.changeover.agent().await?;
        self.changeover.complete(&agent, &target, self.observer).await
    }

    /// Writes a pair into a Secret of the agent. A CA in it stays where a plane reads its own out of it, as one can where
    /// both clusters are one.
    async fn put(
        &self,
        put: Put,
        name: &NamespacedName,
        held: Option<&StoredSecret>,
        mut data: Data,
        staged: &Staged,
    ) -> anyhow::Result<()> {
        let build = self.clusters.build;
        match (put, held) {
            (Put::Nothing, _) => {}
            (_, None) => drop(build.create_secret(name, "kubernetes.io/tls", data, DryRun::None).await?),
            (_, Some(held)) => {
                let planes = self.trustees.of(staged.planes.keys()).await?;
                if planes.iter().any(|(plane, _)| is_home(plane, name, CA_CERTIFICATE)) {
                    data.remove(CA_CERTIFICATE);
                }
                build.update_secret(held, data, DryRun::None).await?;
            }
        }
        Ok(())
    }

    /// Waits until cert-manager has issued from the new CA, and restarts the agent for it.
    async fn follow(&mut self, staged: &Staged, is_there: bool) -> anyhow::Result<()> {
        let target = self.rotation.beside(&staged.to);
        let reported = format!("Secret {target} holds the CA for cert-manager");
        if is_there {
            self.outcome("switch", Status::Found, &reported);
        } else {
            let build = self.clusters.build;
            build.create_secret(&target, "kubernetes.io/tls", staged.ca_pair(), DryRun::None).await?;
            self.outcome("switch", Status::Done, &reported);
        }
        let values = staged.values();
        let agent = self.changeover.agent().await?;
        let (_, pair) = self.changeover.pair(&agent).await?;
        if !staged.has_issued(&pair) && self.keeper.install(&agent, &values)? {
            self.outcome("switch", Status::Done, "Helm gave the agent's release the new CA");
        }
        let command = self.keeper.command(&agent, &values);
        let (agent, secret) = self.issued(Toward::New, staged, &command).await?;
        self.outcome("switch", Status::Done, &format!("cert-manager issued from the new CA, in Secret {secret}"));
        self.changeover.complete(&agent, &secret, self.observer).await
    }

    /// Waits until the agent's certificate is of the CA that it is to be of; the agent and its Secret then. Once, where
    /// that helps, cert-manager is asked to issue anew.
    async fn issued(
        &mut self,
        toward: Toward,
        staged: &Staged,
        command: &str,
    ) -> anyhow::Result<(Agent, NamespacedName)> {
        let (changeover, build) = (self.changeover, self.clusters.build);
        let mut is_ordered = false;
        until(changeover.deadline, self.observer, async || {
            let agent = changeover.agent().await?;
            let (secret, pair) = changeover.pair(&agent).await?;
            let issuance = issuance(build, &secret.name).await;
            let Some(pending) = decide::pending(toward, staged, &pair, issuance.as_ref(), command) else {
                return Ok(Ok((agent, secret.name.clone())));
            };
            if let Some(issuance) = issuance
                && pending.orders
                && !std::mem::replace(&mut is_ordered, true)
            {
                order(build, &issuance).await?;
            }
            Ok(Err(pending.why))
        })
        .await
    }

    /// Takes the old CA out of the planes, once nothing needs it.
    async fn finish(&mut self, staged: &Staged) -> anyhow::Result<()> {
        self.refuse_needed(staged).await?;
        let (new, old, now) = (staged.ca(), staged.old(), self.clusters.control.now());
        let wanted = |name: &str, text: &str| without(text, &old, staged.before(name), &new, now);
        self.trustees
            .make("finish", staged.planes.keys(), &wanted, "no longer trusts the old CA", self.observer)
            .await?;
        // Another run may have gone back while this one waited; what was there before must then stay.
        self.refuse_needed(staged).await?;
        let kept = match self.keeper.keep(&new, &staged.secret.text(CA_PRIVATE_KEY))? {
            Some(place) => format!("the new CA and its key are in {place}"),
            None if staged.issuer == Issuer::CertManager => {
                format!("the new CA's key is in Secret {}", self.rotation.beside(&staged.to))
            }
            None => {
                "without --out-dir the new CA's key is not saved: the next certificate needs another rotation".into()
            }
        };
        // While it can still be continued.
        self.settle(staged).await?;
        self.unstage(staged).await?;
        self.outcome("finish", Status::Done, &kept);
        self.outcome("finish", Status::Done, &format!("Secret {} deleted", self.at));
        let new = pki::certificates(&new);
        for trustee in self.trustees.of(staged.planes.keys()).await? {
            self.outcome("finish", Status::Done, &decide::trusted(&trustee, &new));
        }
        Ok(())
    }

    /// Deletes the staging Secret: the rotation is over.
    async fn unstage(&mut self, staged: &Staged) -> anyhow::Result<()> {
        self.mark(staged, None).await?;
        self.clusters.build.delete_secret(&staged.secret).await?;
        self.observer.unfinished(false);
        Ok(())
    }

    /// Gives the agent's release the values without which the next upgrade takes the change back, or says which.
    async fn settle(&mut self, staged: &Staged) -> anyhow::Result<()> {
        let values = staged.values();
        if staged.issuer == Issuer::CertManager || values.is_empty() {
            return Ok(());
        }
        let agent = self.changeover.agent().await?;
        if self.keeper.install(&agent, &values)? {
            self.outcome("finish", Status::Done, "Helm keeps the agent's new Secret");
        } else {
            let command = self.keeper.command(&agent, &values);
            let message = format!("run this, or the next upgrade of the chart restores the old Secret: {command}");
            self.outcome("finish", Status::Skipped, &message);
        }
        Ok(())
    }

    /// Fails where the agent's Secret or a live agent needs the old CA.
    async fn refuse_needed(&mut self, staged: &Staged) -> anyhow::Result<()> {
        let Clusters { control, build } = self.clusters;
        let agent = self.changeover.agent().await?;
        let (secret, pair) = self.changeover.pair(&agent).await?;
        let pods = build.agent_pods(&agent).await?;
        decide::refuse_needed(staged, &secret, &pair, &pods, control.now())?;
        let counted = until(self.changeover.deadline, self.observer, async || {
            let plane: Plane = control.plane(self.rotation.plane.name()).await?;
            Ok(decide::uncounted(&plane, pods.len(), control.now()).map_or(Ok(()), Err))
        });
        counted.await.map_err(|error| match error.downcast::<Error>() {
            Ok(Error::TimedOut { waiting: why }) => Error::StillNeeded { why }.into(),
            Ok(error) => error.into(),
            Err(error) => error,
        })
    }

    /// Back to what was before, in the other order.
    async fn roll_back(&mut self, staged: &Staged) -> anyhow::Result<()> {
        let new = staged.ca();
        let before = |name: &str| staged.before(name);
        self.observer.unfinished(true);
        if let Some(agent) = self.switched(staged).await? {
            let now = self.clusters.control.now();
            match staged.issuer {
                Issuer::Own => self.refuse_dead_end(staged).await?,
                Issuer::CertManager => decide::refuse_pinned(staged, now)?,
            }
            let both = |name: &str, text: &str| with(&with(text, before(name)), &new);
            self.trustees.make("rollback", staged.planes.keys(), &both, "trusts both CAs", self.observer).await?;
            self.switch_back(staged, &agent).await?;
        }
        let back = |name: &str, text: &str| back(text, before(name), &new);
        self.trustees
            .make("rollback", staged.planes.keys(), &back, "trusts the former CA again", self.observer)
            .await?;
        let target = self.rotation.beside(&staged.to);
        if staged.to != staged.from
            && let Some(made) = self.clusters.build.secret(&target).await?
        {
            self.clusters.build.delete_secret(&made).await?;
            self.outcome("rollback", Status::Done, &format!("Secret {target} deleted"));
        }
        self.unstage(staged).await?;
        self.outcome("rollback", Status::Done, &format!("Secret {} deleted", self.at));
        Ok(())
    }

    /// The agent, if it was given anything new: its Secret was written, or it was restarted.
    async fn switched(&self, staged: &Staged) -> anyhow::Result<Option<Agent>> {
        let agent = match self.changeover.agent().await {
            Err(error) if matches!(error.downcast_ref(), Some(cluster::Error::NoAgent { .. })) => return Ok(None),
            agent => agent?,
        };
        if decide::is_restarted(staged, &agent) {
            return Ok(Some(agent));
        }
        let is_switched = match staged.issuer {
            Issuer::CertManager => {
                let (secret, pair) = self.changeover.pair(&agent).await?;
                decide::is_reissued(staged, &pair, issuance(self.clusters.build, &secret.name).await.as_ref())
            }
            Issuer::Own => {
                let held = self.clusters.build.secret(&self.rotation.beside(&staged.from)).await?;
                decide::is_rewritten(staged, held.as_ref())
            }
        };
        Ok(Some(agent).filter(|_| is_switched))
    }

    async fn refuse_dead_end(&self, staged: &Staged) -> anyhow::Result<()> {
        let held = self.clusters.build.secret(&self.rotation.beside(&staged.from)).await?;
        Ok(decide::refuse_dead_end(staged, held.as_ref(), self.clusters.control.now())?)
    }

    async fn switch_back(&mut self, staged: &Staged, agent: &Agent) -> anyhow::Result<()> {
        let (build, from) = (self.clusters.build, self.rotation.beside(&staged.from));
        let held = build.secret(&from).await?;
        if staged.issuer == Issuer::CertManager {
            let namespace = shell_quoted(&agent.name.namespace);
            let release = agent.release.as_deref().map_or_else(|| "RELEASE".into(), shell_quoted);
            let command = build.target().command(&format!("helm rollback {release} --namespace {namespace}"));
            self.issued(Toward::Former, staged, &command).await?;
            self.refuse_dead_end(staged).await?;
        } else {
            let put = decide::put_old(staged, held.as_ref());
            self.put(put, &from, held.as_ref(), staged.old_pair(), staged).await?;
            let reported = match put {
                Put::Nothing => None,
                Put::Over => Some("holds the old certificate again"),
                Put::New => Some("created with the old certificate"),
            };
            reported
                .into_iter()
                .for_each(|reported| self.outcome("rollback", Status::Done, &format!("Secret {from} {reported}")));
        }
        self.changeover.complete(agent, &from, self.observer).await
    }
}

/// The Certificate of cert-manager behind the agent's Secret, as far as it can be read.
async fn issuance(build: &Cluster, secret: &NamespacedName) -> Option<Issuance> {
    estate::issuance(build, secret).await.ok().flatten()
}

/// Has cert-manager issue anew; who may not leaves that to another one.
async fn order(build: &Cluster, issuance: &Issuance) -> anyhow::Result<()> {
    match estate::reissue(build, &issuance.name).await {
        Ok(()) | Err(cluster::Error::Forbidden { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plan::fixtures::{
        BUILD, Estate, Reports, deployment, leaf, of_cert_manager, pair_secret, plane_object, root, rotation, secret,
    };

    /// A folder and a Helm that remember what they got. Helm gives the agent a certificate of the new CA, as cert-manager
    /// does.
    #[derive(Default)]
    struct Kept {
        cas: Vec<String>,
        values: Vec<String>,
        helm: Option<crate::cluster::Fake>,
    }

    impl Keeper for Kept {
        fn check(&self, _: Option<&str>) -> anyhow::Result<()> {
            Ok(())
        }

        fn keep(&mut self, ca: &str, _: &str) -> anyhow::Result<Option<String>> {
            self.cas.push(ca.to_owned());
            Ok(Some("out".into()))
        }

        fn install(&mut self, _: &Agent, values: &[String]) -> anyhow::Result<bool> {
            self.values = values.to_vec();
            let Some(helm) = &self.helm else {
                return Ok(false);
            };
            let staging = StoredSecret::of_object(&helm.object("secrets/choreoctl-rotation-id").unwrap()).unwrap();
            let now = jiff::Timestamp::now();
            let (certificate, key) = (staging.text(CA_CERTIFICATE), staging.text(CA_PRIVATE_KEY));
            let authority = pki::Authority::from_pem(&certificate, &key, now)?;
            let new =
                crate::plan::fixtures::Root { certificate: certificate.to_string(), key: key.to_string(), authority };
            helm.put(of_cert_manager(pair_secret("s", &leaf("id", &new, now), &certificate)));
            Ok(true)
        }

        fn command(&self, _: &Agent, values: &[String]) -> String {
            format!("helm {}", values.join(" "))
        }
    }

    /// A plane `p` by value, `q` by Secret, and `r`, which trusts another agent; the agent is scaled to zero.
    fn estate(mark: fn(Value) -> Value) -> Estate {
        let now = jiff::Timestamp::now();
        let (old, other) = (root("old", now), root("other", now));
        let mut by_secret = plane_object("q", "id", "", now);
        by_secret["spec"]["clusterAgent"]["clientCA"] =
            serde_json::json!({"secretRef": {"namespace": "n", "name": "ca", "key": "ca.crt"}});
        let held = pair_secret("s", &leaf("id", &old, now), &old.certificate);
        Estate::of(
            [
                plane_object("p", "id", &old.certificate, now),
                by_secret,
                plane_object("r", "id", &other.certificate, now),
                secret("n", "ca", &[("ca.crt", &old.certificate)]),
            ],
            [deployment(BUILD, "agent", "id", "s"), mark(held)],
        )
    }

    /// The CAs of `p` and `q`.
    fn cas(at: &Estate) -> [String; 2] {
        let value =
            at.control.object("clusterbuildplanes/p").unwrap()["spec"]["clusterAgent"]["clientCA"]["value"].clone();
        let held = StoredSecret::of_object(&at.control.object("n/secrets/ca").unwrap()).unwrap();
        [value.as_str().unwrap().to_owned(), held.text(CA_CERTIFICATE).to_string()]
    }

    async fn run(at: &Estate, rotation: &Rotation, keeper: &mut Kept) -> (anyhow::Result<()>, Reports) {
        let mut reported = Reports::default();
        let result = rotate(at.clusters(), rotation, keeper, &mut reported).await;
        (result, reported)
    }

    fn to(goal: Goal) -> Rotation {
        Rotation { goal, ..rotation() }
    }

    #[test]
    fn the_stages_are_in_the_order_of_the_phases() {
        let phases: Vec<_> = STAGES.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(phases, [Phase::Stage, Phase::Switch, Phase::Finish]);
    }

    #[tokio::test]
    async fn a_rotation_goes_through_its_stages_one_by_one_and_then_has_nothing_to_do() {
        let at = estate(|held| held);
        let before = cas(&at);
        for dry_run in [DryRun::Client, DryRun::Server] {
            let (result, reported) = run(&at, &Rotation { dry_run, ..rotation() }, &mut Kept::default()).await;
            result.unwrap();
            assert!(reported.says(
                "stage",
                "p, q would trust a new CA, and the agent's Secret builders/s would be replaced (dry run)"
            ));
            assert_eq!(at.writes(), 0);
        }
        let (result, reported) = run(&at, &to(Goal::Until(Phase::Stage)), &mut Kept::default()).await;
        result.unwrap();
        assert!(reported.says("stage", "r trusts another agent") && reported.says("stage", "q trusts the new CA"));
        assert!(reported.is_unfinished && cas(&at).iter().all(|ca| ca.matches("BEGIN CERTIFICATE").count() == 2));
        let plane = at.control.object("clusterbuildplanes/p").unwrap();
        assert_eq!(plane["metadata"]["annotations"][ROTATION], "builders/choreoctl-rotation-id");
        assert!(outlook(at.clusters(), &rotation()).await.unwrap().unwrap().is_under_way);
        let (result, reported) = run(&at, &to(Goal::Until(Phase::Switch)), &mut Kept::default()).await;
        result.unwrap();
        assert!(
            reported.says("stage", "are in Secret builders/choreoctl-rotation-id")
                && reported.says("stage", "p trusts")
        );
        assert!(reported.says("switch", "Secret builders/s holds the new certificate") && reported.is_unfinished);
        let mut keeper = Kept::default();
        let (result, reported) = run(&at, &rotation(), &mut keeper).await;
        result.unwrap();
        assert!(
            reported.says("restart", "runs with this certificate") && reported.says("reconnect", "is scaled to zero")
        );
        assert!(reported.says("finish", "the new CA and its key are in out") && !reported.is_unfinished);
        let new = cas(&at);
        assert!(new == [keeper.cas[0].clone(), keeper.cas[0].clone()] && new != before);
        assert!(at.build.object("secrets/choreoctl-rotation-id").is_none());
        // The name of the CA and its age show that it was just made.
        let (result, reported) = run(&at, &rotation(), &mut Kept::default()).await;
        result.unwrap();
        assert!(reported.says("finish", "nothing to do; use --again to create another CA"), "{:?}", reported.steps);
        assert!(outlook(at.clusters(), &rotation()).await.unwrap().is_none(), "no command of Helm's is announced");
        // A pod of before is restarted all the same.
        let state = serde_json::json!({"running": {"startedAt": "2020-01-01T00:00:00Z"}});
        at.build.put(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": BUILD, "name": "old", "labels": {"app": "cluster-agent"}},
            "status": {"phase": "Running", "containerStatuses": [{"name": "agent", "state": state}]},
        }));
        let writes = at.writes();
        let (result, reported) =
            run(&at, &Rotation { dry_run: DryRun::Client, ..rotation() }, &mut Kept::default()).await;
        result.unwrap();
        assert!(reported.says("restart", "pod old may present another certificate") && at.writes() == writes);
        let now = Some(tokio::time::Instant::now());
        let (result, reported) = run(&at, &Rotation { deadline: now, ..rotation() }, &mut Kept::default()).await;
        assert!(
            reported.says("restart", "Deployment agent restarted") && at.writes() == writes + 1,
            "{:?}",
            reported.steps
        );
        assert!(result.unwrap_err().to_string().contains("1 other pods still exist"));
    }

    /// Replaces the agent's certificate once the rotation has read it.
    struct Faster<'f>(&'f Estate);

    impl Keeper for Faster<'_> {
        fn check(&self, _: Option<&str>) -> anyhow::Result<()> {
            let now = jiff::Timestamp::now();
            self.0.build.put(pair_secret("s", &leaf("id", &root("faster", now), now), ""));
            Ok(())
        }

        fn keep(&mut self, _: &str, _: &str) -> anyhow::Result<Option<String>> {
            unreachable!("it does not come to its end")
        }

        fn install(&mut self, _: &Agent, _: &[String]) -> anyhow::Result<bool> {
            Ok(false)
        }

        fn command(&self, _: &Agent, _: &[String]) -> String {
            String::new()
        }
    }

    #[tokio::test]
    async fn a_rotation_that_another_one_overtook_leaves_nothing_behind() {
        let at = estate(|held| held);
        let before = cas(&at);
        let error = rotate(at.clusters(), &rotation(), &mut Faster(&at), &mut Reports::default()).await.unwrap_err();
        assert!(error.to_string().contains("replaced the certificate in Secret builders/s"), "{error}");
        assert!(cas(&at) == before && at.build.object("secrets/choreoctl-rotation-id").is_none());
    }

    #[tokio::test]
    async fn a_rotation_is_rolled_back_from_every_stage() {
        for phase in [Phase::Stage, Phase::Switch] {
            let at = estate(|held| held);
            let before = cas(&at);
            let held = at.build.object("secrets/s").unwrap()["data"].clone();
            run(&at, &to(Goal::Until(phase)), &mut Kept::default()).await.0.unwrap();
            let dry = Rotation { dry_run: DryRun::Client, ..to(Goal::Back) };
            let (result, reported) = run(&at, &dry, &mut Kept::default()).await;
            assert!(result.is_ok() && reported.says("rollback", "would be rolled back"));
            let (result, reported) = run(&at, &to(Goal::Back), &mut Kept::default()).await;
            result.unwrap();
            let is_switched = phase == Phase::Switch;
            assert_eq!(
                reported.says("rollback", "holds the old certificate again"),
                is_switched,
                "{:?}",
                reported.steps
            );
            assert_eq!((cas(&at), &at.build.object("secrets/s").unwrap()["data"]), (before, &held));
            assert!(at.build.object("secrets/choreoctl-rotation-id").is_none() && !reported.is_unfinished);
            let (result, reported) = run(&at, &to(Goal::Back), &mut Kept::default()).await;
            assert!(result.is_ok() && reported.says("rollback", "there is no unfinished rotation"));
        }
    }

    #[tokio::test]
    async fn cert_manager_is_followed_and_followed_back() {
        let at = estate(of_cert_manager);
        let mut keeper = Kept { helm: Some(at.build.clone()), ..Kept::default() };
        let former = at.build.object("secrets/s").unwrap();
        let (result, reported) = run(&at, &to(Goal::Until(Phase::Switch)), &mut keeper).await;
        result.unwrap();
        assert!(reported.says("switch", "Secret builders/id-agent-ca-x1 holds the CA for cert-manager"));
        assert!(reported.says("switch", "Helm gave the agent's release the new CA"));
        assert!(reported.says("switch", "cert-manager issued from the new CA, in Secret builders/s"));
        let values = ["clusterAgent.tls.generateCerts=false", "clusterAgent.tls.caSecretName=id-agent-ca-x1"];
        assert_eq!(keeper.values, values);
        // Nobody has issued from the former CA again.
        let (result, _) = run(&at, &to(Goal::Back), &mut keeper).await;
        let error = result.unwrap_err();
        assert!(
            error.to_string().contains("the agent's certificate is still issued by the new CA: helm rollback release")
        );
        at.build.put(former);
        let (result, reported) = run(&at, &to(Goal::Back), &mut keeper).await;
        result.unwrap();
        assert!(reported.says("rollback", "Secret builders/id-agent-ca-x1 deleted"), "{:?}", reported.steps);
        // And forward to the end.
        let (result, reported) = run(&at, &rotation(), &mut keeper).await;
        result.unwrap();
        assert!(reported.says("finish", "p no longer trusts the old CA"));
    }

    #[tokio::test]
    async fn an_agent_of_cert_managers_moves_to_a_secret_of_the_operators_and_helm_is_reported_of_it() {
        let at = estate(of_cert_manager);
        let to_own = Rotation { issuer: Some(Issuer::Own), ..rotation() };
        assert_eq!(
            outlook(at.clusters(), &to_own).await.unwrap().unwrap().values,
            ["clusterAgent.tls.clientSecretName=s-x1"]
        );
        let mut keeper = Kept::default();
        let (result, reported) = run(&at, &to_own, &mut keeper).await;
        result.unwrap();
        assert!(
            reported.says("switch", "Secret builders/s-x1 created with the new certificate"),
            "{:?}",
            reported.steps
        );
        assert!(reported.says("restart", "Deployment agent restarted"));
        assert!(reported.says("finish", "restores the old Secret: helm clusterAgent.tls"));
    }

    #[tokio::test]
    async fn a_rotation_stops_before_its_first_write_where_it_could_not_go_on() {
        let at = estate(|held| held);
        let mut namespaced = plane_object("b", "id", &cas(&at)[0], jiff::Timestamp::now());
        (namespaced["kind"], namespaced["metadata"]["namespace"]) = ("BuildPlane".into(), "team".into());
        at.control.put(namespaced);
        at.control.forbid("PATCH /apis/openchoreo.dev/v1alpha1/namespaces/team/buildplanes/b");
        let (result, _) = run(&at, &rotation(), &mut Kept::default()).await;
        assert!(
            matches!(result.unwrap_err().downcast_ref(), Some(Error::Unwritable { plane, .. }) if plane == "team/b")
        );
        at.control.forbid("GET /apis/openchoreo.dev/v1alpha1/buildplanes");
        let (result, _) = run(&at, &rotation(), &mut Kept::default()).await;
        let reported = format!("{:#}", result.unwrap_err());
        let expected = "could not find all planes of planeID id: could not list BuildPlanes: not allowed: ";
        assert!(reported.starts_with(expected), "{reported}");
        assert!(outlook(at.clusters(), &rotation()).await.is_err());
        assert_eq!(at.writes(), 0);
        let at = estate(|held| held);
        let denied = serde_json::json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {}, "status": {"allowed": false}});
        at.build.answer("POST /apis/authorization.k8s.io", 201, denied);
        let (result, _) = run(&at, &rotation(), &mut Kept::default()).await;
        assert!(matches!(result.unwrap_err().downcast_ref(), Some(Error::NoRight { rights, .. }) if rights.len() == 5));
        assert_eq!(at.writes(), 0);
    }

    #[tokio::test]
    async fn namespaced_planes_are_taken_along_and_those_of_other_types_are_not() {
        let at = estate(|held| held);
        let [before, _] = cas(&at);
        let of = |kind: &str, namespace: Option<&str>, plane_id: &str| {
            let mut plane = plane_object("b", plane_id, &before, jiff::Timestamp::now());
            plane["kind"] = kind.into();
            if let Some(namespace) = namespace {
                plane["metadata"]["namespace"] = namespace.into();
            }
            at.control.put(plane);
        };
        of("BuildPlane", Some("one"), "id");
        of("BuildPlane", Some("two"), "id");
        of("BuildPlane", Some("three"), "else");
        of("DataPlane", Some("one"), "id");
        of("ClusterWorkflowPlane", None, "id");
        let value = |path: &str| {
            let plane = at.control.object(path).unwrap();
            plane["spec"]["clusterAgent"]["clientCA"]["value"].as_str().unwrap().to_owned()
        };
        let (result, reported) = run(&at, &to(Goal::Until(Phase::Stage)), &mut Kept::default()).await;
        result.unwrap();
        assert!(reported.says("stage", "one/b trusts the new CA") && reported.says("stage", "two/b trusts the new CA"));
        for namespace in ["one", "two"] {
            let plane = at.control.object(&format!("{namespace}/buildplanes/b")).unwrap();
            assert!(plane["metadata"]["annotations"][ROTATION].is_string(), "{namespace}");
        }
        run(&at, &rotation(), &mut Kept::default()).await.0.unwrap();
        let [after, _] = cas(&at);
        assert!(after != before && value("one/buildplanes/b") == after && value("two/buildplanes/b") == after);
        for other in ["three/buildplanes/b", "dataplanes/b", "clusterworkflowplanes/b"] {
            assert_eq!(value(other), before, "{other}");
        }
    }

    #[tokio::test]
    async fn a_plane_that_came_to_trust_the_agent_is_taken_along() {
        let at = estate(|held| held);
        let before = cas(&at);
        run(&at, &to(Goal::Until(Phase::Stage)), &mut Kept::default()).await.0.unwrap();
        at.control.put(plane_object("late", "id", &before[0], jiff::Timestamp::now()));
        let (result, reported) = run(&at, &rotation(), &mut Kept::default()).await;
        result.unwrap();
        assert!(
            reported.says("stage", "late trusts the new CA")
                && reported.says("finish", "late no longer trusts the old CA")
        );
    }
}
