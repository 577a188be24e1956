//! What carries out a rotation: each stage looks, decides, acts and reports.

use futures_util::future::LocalBoxFuture;
use serde_json::json;

use super::decide::{self, Course, Put, Toward};
use super::rotation::{Keeper, Outlook, Phase, Rotation, values};
use super::staged::{Staged, staging, with_planes};
use crate::cluster::{self, Agent, Cluster, StoredSecret};
use crate::doctor::{self, Issuance, Pair};
use crate::estate::client_cas;
use crate::pki::{self, CA_CERTIFICATE, CA_PRIVATE_KEY, LEAF_CERTIFICATE, Verdict};
use crate::plan::agent::{Changeover, Data};
use crate::plan::clusters::Clusters;
use crate::plan::error::Error;
use crate::plan::issuer::Issuer;
use crate::plan::observer::{Observer, Status, until};
use crate::plan::trust::{Trustees, Wanted, all_trust, back, is_home, with, without};
use crate::plane::{DryRun, NamespacedName, Plane, ROTATION, rotation_secret};
use crate::text::shell_quoted;

/// What carries out a stage.
type Stage = for<'a> fn(&'a mut Run<'_>, &'a Staged) -> LocalBoxFuture<'a, anyhow::Result<()>>;

/// The stages in their order.
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

/// What a rotation is going to do, before it is begun or continued.
///
/// # Errors
/// [`Error`], and those of the clusters.
pub async fn outlook(clusters: Clusters<'_>, rotation: &Rotation) -> anyhow::Result<Outlook> {
    let (build, Rotation { plane, namespace, deadline, .. }) = (clusters.build, rotation);
    let changeover = Changeover { clusters, namespace, plane, deadline: *deadline };
    let agent = changeover.agent().await?;
    let staged = build.secret(&rotation_secret(namespace, plane.plane_id())).await?.map(Staged::of).transpose()?;
    if let Some(staged) = staged {
        return Ok(Outlook { agent, issuer: staged.issuer, values: staged.values(), is_under_way: true });
    }
    let (secret, pair) = changeover.pair(&agent).await?;
    let issuer = rotation.issuer.unwrap_or(decide::current(&pair));
    let values = values(issuer, &secret.name.name, &rotation.target(issuer, &secret));
    Ok(Outlook { agent, issuer, values, is_under_way: false })
}

/// Continues from where the clusters say that the rotation stands. The keeper gets the new CA and its key before the last
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
    let at = rotation_secret(namespace, plane.plane_id());
    let staged = clusters.build.secret(&at).await?.map(Staged::of).transpose()?;
    let (control, deadline, force, manifests) = (clusters.control, *deadline, *force, *manifests);
    let trustees = Trustees { control, deadline, force, manifests };
    let changeover = Changeover { clusters, namespace, plane, deadline };
    let mut run = Run { rotation, clusters, trustees, changeover, at, keeper, observer };
    match decide::course(rotation, staged) {
        Course::Over(status, told) => run.tell("rollback", status, told),
        Course::Back(staged) => run.roll_back(&staged).await?,
        Course::Forward(last, staged) => run.forward(last, staged).await?,
    }
    Ok(())
}

impl Run<'_> {
    fn tell(&mut self, step: &'static str, status: Status, told: &str) {
        self.observer.tell(step, status, told);
    }

    /// Restarts the agent for what a Secret holds, and waits until it is back.
    async fn complete(&mut self, agent: &Agent, secret: &NamespacedName) -> anyhow::Result<()> {
        self.changeover.complete(agent, secret, self.observer).await
    }

    /// Makes the CA of each plane of the rotation what is wanted.
    async fn make(
        &mut self,
        step: &'static str,
        staged: &Staged,
        wanted: &Wanted<'_>,
        did: &str,
    ) -> anyhow::Result<()> {
        self.trustees.make(step, staged.planes.keys(), wanted, did, self.observer).await
    }

    async fn forward(&mut self, last: Phase, staged: Option<Staged>) -> anyhow::Result<()> {
        let agent = self.changeover.agent().await?;
        let staged = match staged {
            Some(staged) => {
                decide::refuse_other_issuer(self.rotation, &staged)?;
                self.keeper.check(Some(&staged.ca()))?;
                self.tell("stage", Status::Found, &format!("the new CA and certificate are in Secret {}", self.at));
                staged
            }
            None => match self.begin(&agent).await? {
                Some(staged) => staged,
                None => return Ok(()),
            },
        };
        self.observer.unfinished(true);
        if !self.rotation.dry_run.stores() {
            self.tell("stage", Status::Skipped, "the rotation would go on (dry run)");
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
        others.iter().for_each(|other| self.tell("stage", Status::Skipped, &decide::left_alone(other)));
        let Some(issuer) = decide::issuer(rotation, &pair, &concerned, now) else {
            let told =
                "the CA was just made, and the agent's certificate is of it: nothing to do; --again makes another one";
            self.tell("finish", Status::Found, told);
            return Ok(None);
        };
        self.refuse_build_planes(&pair).await?;
        self.keeper.check(None)?;
        let made = staging(rotation, issuer, agent, &secret, &concerned, control.now())?;
        let new = String::from_utf8_lossy(&made[CA_CERTIFICATE]).into_owned();
        self.trustees.check(&concerned, &|_, text| with(text, &new)).await?;
        self.clusters.demand("rotate", &decide::rights(&rotation.namespace)).await?;
        if !rotation.dry_run.stores() {
            if rotation.dry_run.sends() {
                build.create_secret(&self.at, "Opaque", made, rotation.dry_run).await?;
            }
            self.tell("stage", Status::Skipped, &decide::predicted(&concerned, &secret.name));
            return Ok(None);
        }
        let (staged, status) = match build.create_secret(&self.at, "Opaque", made, DryRun::None).await {
            // Another run was faster: its CA is the one.
            Err(cluster::Error::Exists { .. }) => (build.existing_secret(&self.at).await?, Status::Found),
            made => (made?, Status::Done),
        };
        self.tell("stage", status, &format!("the new CA and certificate are in Secret {}", self.at));
        Ok(Some(Staged::of(staged)?))
    }

    /// Namespaced BuildPlanes authorize agents, too, and aren't written here.
    async fn refuse_build_planes(&self, pair: &Pair) -> anyhow::Result<()> {
        let control = self.clusters.control;
        let mut planes = match control.build_planes().await {
            // Who may not look can't be told of them.
            Err(cluster::Error::Forbidden { .. }) => return Ok(()),
            planes => planes?,
        };
        planes.retain(|plane| plane.plane_id() == self.rotation.plane.plane_id());
        let cas = client_cas(control, &planes).await;
        let mut trusts = planes.iter().zip(cas);
        match trusts.find(|(_, ca)| matches!(ca.verdict(&pair.presented, control.now()), Verdict::Authorized { .. })) {
            None => Ok(()),
            Some((plane, _)) => {
                let namespace = plane.metadata.namespace.as_deref().unwrap_or_default();
                let why = "it trusts the agent, and namespaced BuildPlanes are not written here".to_owned();
                Err(Error::Unwritable { plane: format!("BuildPlane {namespace}/{}", plane.name()), why }.into())
            }
        }
    }

    /// Takes along the planes that came to trust the agent since the rotation began.
    async fn adopt(&self, staged: Staged) -> anyhow::Result<Staged> {
        let (old, now) = (staged.old(), self.clusters.control.now());
        let mut new = self.trustees.all(self.rotation.plane.plane_id()).await?;
        new.retain(|(plane, ca)| {
            !staged.planes.contains_key(plane.name()) && matches!(ca.verdict(&old, now), Verdict::Authorized { .. })
        });
        if new.is_empty() {
            return Ok(staged);
        }
        let ca = staged.ca();
        self.trustees.check(&new, &|_, text| with(text, &ca)).await?;
        let data = with_planes(&staged, &new)?;
        Ok(Staged::of(self.clusters.build.update_secret(&staged.secret, data, DryRun::None).await?)?)
    }

    /// Marks the planes as being rotated, or no longer, for those who do not see the agent's cluster. Who may not write
    /// planes, as where their CAs are in Secrets, leaves them unmarked.
    async fn mark(&self, staged: &Staged, secret: Option<&str>) -> anyhow::Result<()> {
        let control = self.clusters.control;
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
    async fn stage(&mut self, staged: &Staged) -> anyhow::Result<()> {
        let new = staged.ca();
        let wanted = |_: &str, text: &str| with(text, &new);
        self.make("stage", staged, &wanted, "trusts the new CA").await?;
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
        let (status, told) = match put {
            Put::Nothing => (Status::Found, "holds the new certificate"),
            Put::Over => (Status::Done, "holds the new certificate"),
            Put::New => (Status::Done, "made with the new certificate"),
        };
        self.tell("switch", status, &format!("Secret {target} {told}"));
        let agent = self.changeover.agent().await?;
        self.complete(&agent, &target).await
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
        let told = format!("Secret {target} holds the CA for cert-manager");
        if is_there {
            self.tell("switch", Status::Found, &told);
        } else {
            let build = self.clusters.build;
            build.create_secret(&target, "kubernetes.io/tls", staged.ca_pair(), DryRun::None).await?;
            self.tell("switch", Status::Done, &told);
        }
        let values = staged.values();
        let agent = self.changeover.agent().await?;
        let (_, pair) = self.changeover.pair(&agent).await?;
        if !staged.has_issued(&pair) && self.keeper.install(&agent, &values)? {
            self.tell("switch", Status::Done, "Helm gave the agent's release the new CA");
        }
        let command = self.keeper.command(&agent, &values);
        let (agent, secret) = self.issued(Toward::New, staged, &command).await?;
        self.tell("switch", Status::Done, &format!("cert-manager issued from the new CA, in Secret {secret}"));
        self.complete(&agent, &secret).await
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
        self.make("finish", staged, &wanted, "no longer trusts the old CA").await?;
        // Another run may have gone back while this one waited; what was there before must then stay.
        self.refuse_needed(staged).await?;
        let kept = match self.keeper.keep(&new, &staged.secret.text(CA_PRIVATE_KEY))? {
            Some(place) => format!("the new CA and its key are in {place}"),
            None if staged.issuer == Issuer::CertManager => {
                format!("the new CA's key is in Secret {}", self.rotation.beside(&staged.to))
            }
            None => "the new CA's key is dropped: without --out-dir the next certificate takes a rotation".into(),
        };
        // While it can still be continued.
        self.settle(staged).await?;
        self.unstage(staged).await?;
        self.tell("finish", Status::Done, &kept);
        self.tell("finish", Status::Done, &format!("Secret {} deleted", self.at));
        let new = pki::certificates(&new);
        for trustee in self.trustees.of(staged.planes.keys()).await? {
            self.tell("finish", Status::Done, &decide::trusted(&trustee, &new));
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
        let message = if self.keeper.install(&agent, &values)? {
            "Helm keeps the agent's new Secret".to_owned()
        } else {
            let command = self.keeper.command(&agent, &values);
            format!("the next upgrade of the chart takes this back, unless Helm knows the new Secret: {command}")
        };
        self.tell("finish", Status::Done, &message);
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
            self.make("rollback", staged, &both, "trusts both CAs").await?;
            self.switch_back(staged, &agent).await?;
        }
        let back = |name: &str, text: &str| back(text, before(name), &new);
        self.make("rollback", staged, &back, "trusts what it did before").await?;
        let target = self.rotation.beside(&staged.to);
        if staged.to != staged.from
            && let Some(made) = self.clusters.build.secret(&target).await?
        {
            self.clusters.build.delete_secret(&made).await?;
            self.tell("rollback", Status::Done, &format!("Secret {target} deleted"));
        }
        self.unstage(staged).await?;
        self.tell("rollback", Status::Done, &format!("Secret {} deleted", self.at));
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
            match put {
                Put::Nothing => {}
                Put::Over => {
                    self.tell("rollback", Status::Done, &format!("Secret {from} holds the old certificate again"));
                }
                Put::New => {
                    self.tell("rollback", Status::Done, &format!("Secret {from} made with the old certificate"));
                }
            }
        }
        self.complete(agent, &from).await
    }
}

/// The Certificate of cert-manager behind the agent's Secret, as far as it can be read.
async fn issuance(build: &Cluster, secret: &NamespacedName) -> Option<Issuance> {
    doctor::issuance(build, secret).await.ok().flatten()
}

/// Has cert-manager issue anew; who may not leaves that to another one.
async fn order(build: &Cluster, issuance: &Issuance) -> anyhow::Result<()> {
    match doctor::reissue(build, &issuance.name).await {
        Ok(()) | Err(cluster::Error::Forbidden { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
