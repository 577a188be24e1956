//! The restart of an agent: which planes would refuse it afterwards, the restart, and the certificate that its pods present.

use jiff::Timestamp;
use tokio::time::Instant;

use super::agent::Changeover;
use super::clusters::Clusters;
use super::error::Error;
use super::observer::{Observer, Status, until};
use super::trust::{Trustee, Trustees, name};
use crate::cluster::Agent;
use crate::estate::{AgentFacts, Presents, Running};
use crate::pki::{Certificate, Verdict};
use crate::plane::{DryRun, Plane};
use crate::text::{count, visible};

pub struct Restart {
    /// Where the agent is.
    pub namespace: String,
    pub plane: Plane,
    /// By which the new pods are known; another one for each restart.
    pub mark: String,
    pub dry_run: DryRun,
    pub deadline: Option<Instant>,
}

/// The agent, and what speaks against its restart.
pub struct Check {
    pub agent: Agent,
    /// Each a sentence.
    pub objections: Vec<String>,
}

/// What an agent's pods present.
pub struct Presented {
    pub certificate: Certificate,
    /// The pods that present it.
    pub pods: Vec<String>,
    /// What is known of the others, in words.
    pub others: Vec<String>,
}

impl Restart {
    fn changeover<'c>(&'c self, clusters: Clusters<'c>) -> Changeover<'c> {
        Changeover { clusters, namespace: &self.namespace, plane: &self.plane, deadline: self.deadline }
    }

    /// Finds out which planes would refuse what the agent's Secret holds. It only reads.
    ///
    /// # Errors
    /// Those of the plane's cluster, and [`Error::Paused`].
    pub async fn check(&self, clusters: Clusters<'_>) -> anyhow::Result<Check> {
        let agent = self.changeover(clusters).agent().await?;
        if agent.is_paused {
            let namespace = &agent.name.namespace;
            let resume = format!("kubectl -n {namespace} rollout resume deployment {}", agent.name.name);
            let command = clusters.build.target().command(&resume);
            return Err(Error::Paused { agent: agent.name.to_string(), command }.into());
        }
        let facts = AgentFacts::of(clusters.build, agent).await;
        let trustees = Trustees { control: clusters.control, deadline: None, force: false, manifests: false };
        let objections = match trustees.all(self.plane.plane_id()).await {
            Ok(planes) => objections(&self.plane, &facts, &planes, clusters.control.now()),
            Err(error) => vec![format!("it is unknown whether the agent is authorized after a restart: {error:#}")],
        };
        Ok(Check { agent: facts.agent, objections })
    }

    /// Restarts the agent, and waits until it has reconnected. Returns what its pods then present; nothing where none runs.
    ///
    /// # Errors
    /// Those of the clusters, and [`Error::NotReconnected`].
    pub async fn run(
        &self,
        clusters: Clusters<'_>,
        agent: &Agent,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<Option<Presented>> {
        let shown = visible(&agent.name.name).into_owned();
        let revision = AgentFacts::of(clusters.build, agent.clone()).await.pair.ok();
        let revision = revision.as_ref().map(|pair| pair.revision());
        if self.dry_run.sends() {
            clusters.build.roll_out(agent, &self.mark, revision, self.dry_run).await?;
        }
        if !self.dry_run.stores() {
            let reported = format!("Deployment {shown} would be restarted{}", self.dry_run.suffix());
            observer.outcome("restart", Status::Skipped, &reported);
            return Ok(None);
        }
        observer.outcome("restart", Status::Done, &format!("Deployment {shown} restarted"));
        if agent.replicas == 0 {
            observer.outcome("reconnect", Status::Skipped, &format!("Deployment {shown} is scaled to zero"));
            return Ok(None);
        }
        let changeover = self.changeover(clusters);
        let in_time = async {
            let is_new = |pod: &_| self.is_new(pod);
            until(self.deadline, observer, async || changeover.replaced("since the restart", is_new).await).await?;
            changeover.reconnected(agent, observer).await
        };
        match in_time.await {
            Ok(how) => observer.outcome("reconnect", Status::Done, &how),
            Err(error) => return Err(self.not_reconnected(clusters, error)),
        }
        self.presented(clusters, agent, observer).await
    }

    fn is_new(&self, pod: &crate::cluster::AgentPod) -> bool {
        pod.restarted.as_ref() == Some(&self.mark) && pod.started.is_some()
    }

    /// The same error, where the time ran out with the command that finds out why.
    fn not_reconnected(&self, clusters: Clusters<'_>, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Error>() {
            Ok(Error::TimedOut { waiting }) => {
                let doctor =
                    clusters.control.target().command(&format!("choreoctl doctor {}", self.plane.key().words()));
                let command = doctor + &clusters.build.target().plane_flags();
                Error::NotReconnected { waiting, command }.into()
            }
            Ok(other) => other.into(),
            Err(other) => other,
        }
    }

    /// Reads what the pods present.
    async fn presented(
        &self,
        clusters: Clusters<'_>,
        agent: &Agent,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<Option<Presented>> {
        let facts = AgentFacts::of(clusters.build, agent.clone()).await;
        let known = facts.pair.as_ref().and_then(|pair| Ok((pair, facts.pods.as_ref()?)));
        let (pair, pods) = match known {
            Ok(known) => known,
            Err(why) => {
                observer.outcome(
                    "certificate",
                    Status::Skipped,
                    &format!("the certificate of the pods is unknown: {why}"),
                );
                return Ok(None);
            }
        };
        let pods = pods.iter().filter(|pod| pair.presented_by(pod) == Some(Presents::This));
        Ok(Some(Presented {
            certificate: pair.leaf().clone(),
            pods: pods.map(|pod| pod.name.clone()).collect(),
            others: facts.behind(&[]),
        }))
    }
}

impl std::fmt::Display for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Certificate { subject, sha256, not_after, .. } = &self.certificate;
        let (pods, s) = (count(self.pods.len(), "pod"), if self.pods.len() == 1 { "s" } else { "" });
        write!(f, "{pods} present{s} {}, sha256 {sha256}, valid until {not_after}", visible(subject))?;
        self.others.iter().try_for_each(|other| write!(f, "; {other}"))
    }
}

/// What speaks against a restart: the plane would refuse the agent, or another one of the planeID would lose it.
fn objections(plane: &Plane, facts: &AgentFacts, planes: &[Trustee], now: Timestamp) -> Vec<String> {
    let pair = match &facts.pair {
        Ok(pair) => pair,
        Err(why) => return vec![format!("the agent has no usable certificate after a restart: {why}")],
    };
    let source = visible(&pair.source);
    if !pair.fits {
        return vec![format!("the agent can't start: the private key in {source} does not belong to its certificate")];
    }
    let loses = |(of, ca): &Trustee| {
        let refused = match ca.verdict(&pair.presented, now) {
            Verdict::Authorized { .. } => return None,
            Verdict::Refused(refusal) => format!("would refuse the certificate in {source}: {}", refusal.message),
            Verdict::Unknown(why) => format!("may refuse the certificate in {source}: {why}"),
        };
        // Another plane that refuses what the pods present loses nothing.
        let pinned = ca.certificates().unwrap_or_default();
        let uses = |pod| match facts.running(pod, pinned) {
            Some(Running::Known(running)) => {
                running.der != pair.leaf().der && ca.verdict(std::slice::from_ref(&running.der), now).is_authorized()
            }
            Some(Running::Unknown { .. }) => true,
            None => false,
        };
        let is_lost = of.key() == plane.key() || facts.pods.as_ref().is_ok_and(|pods| pods.iter().any(uses));
        is_lost.then(|| format!("plane {} {refused}", visible(&name(of))))
    };
    planes.iter().filter_map(loses).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::REVISION;
    use crate::plan::fixtures::{
        BUILD, Estate, Reports, deployment, leaf, pair_secret, plane_object, registration, root, secret,
    };

    const MARK: &str = "2026-01-01T00:00:00Z";

    fn restart(dry_run: DryRun) -> Restart {
        Restart {
            namespace: BUILD.into(),
            plane: registration().plane,
            mark: MARK.into(),
            dry_run,
            deadline: Some(Instant::now()),
        }
    }

    fn agent(replicas: u32) -> Value {
        let mut agent = deployment(BUILD, "agent", "id", "s");
        agent["spec"]["replicas"] = replicas.into();
        agent
    }

    fn pod(name: &str, annotations: Value, started: Timestamp) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": BUILD, "name": name, "labels": {"app": "cluster-agent"}, "annotations": annotations},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "agent", "state": {"running": {"startedAt": started.to_string()}}},
            ]},
        })
    }

    async fn objections_at(at: &Estate) -> Vec<String> {
        restart(DryRun::None).check(at.clusters()).await.unwrap().objections
    }

    #[tokio::test]
    async fn anyone_would_refuse_the_agent_after_the_restart_is_named() {
        let now = Timestamp::now();
        let hours = |count| now - jiff::SignedDuration::from_hours(count);
        let (own, other) = (root("own", hours(9)), root("other", hours(9)));
        let (old, new) = (leaf("id", &other, hours(8)), leaf("id", &own, hours(2)));
        let pair = pair_secret("s", &new, "");
        let at = Estate::of([plane_object("p", "id", &own.certificate, now)], [agent(1), pair.clone()]);
        assert_eq!(objections_at(&at).await, [""; 0]);
        // Another plane of the planeID that refuses this certificate loses nothing while no pod presents another one.
        at.control.put(plane_object("q", "id", &other.certificate, now));
        at.control.put(plane_object("r", "another", &other.certificate, now));
        at.build.put(pod("a", json!({}), hours(1)));
        assert_eq!(objections_at(&at).await, [""; 0]);
        at.control.put(plane_object("q", "id", &old.certificate, now));
        at.build.put(pod("a", json!({}), hours(7)));
        let reported = objections_at(&at).await;
        assert!(
            reported.len() == 1
                && reported[0].starts_with("plane q would refuse the certificate in secret/builders/s: "),
            "{reported:?}"
        );
        // The plane itself is named whatever its pods present.
        at.control.put(plane_object("p", "id", &old.certificate, now));
        at.build.put(pod("a", json!({}), hours(1)));
        let reported = objections_at(&at).await;
        assert!(reported.len() == 1 && reported[0].starts_with("plane p would refuse "), "{reported:?}");
        at.build.put(secret(BUILD, "s", &[("tls.crt", &new.certificate), ("tls.key", &old.key)]));
        assert!(objections_at(&at).await[0].contains("does not belong to its certificate"));
        at.build.put(secret(BUILD, "s", &[]));
        assert!(objections_at(&at).await[0].starts_with("the agent has no usable certificate"));
        let mut paused = agent(1);
        paused["spec"]["paused"] = true.into();
        at.build.put(paused);
        let error = restart(DryRun::None).check(at.clusters()).await.err().unwrap().downcast::<Error>().unwrap();
        assert!(error.hint().unwrap().starts_with("kubectl -n builders rollout resume deployment agent"), "{error}");
        assert_eq!(at.writes(), 0);
    }

    #[tokio::test]
    async fn an_agent_is_restarted_each_time_and_awaited() {
        let now = Timestamp::now();
        let ca = root("ca", now);
        let pair = leaf("id", &ca, now);
        let at = Estate::of([plane_object("p", "id", &ca.certificate, now)], [agent(1), pair_secret("s", &pair, "")]);
        let run = async |dry_run, reported: &mut Reports| {
            let restart = restart(dry_run);
            let agent = restart.check(at.clusters()).await.unwrap().agent;
            restart.run(at.clusters(), &agent, reported).await
        };
        for (dry_run, asked) in [(DryRun::Client, false), (DryRun::Server, true)] {
            let mut reported = Reports::default();
            assert!(
                run(dry_run, &mut reported).await.unwrap().is_none() && reported.says("restart", "would be restarted")
            );
            assert_eq!(at.build.asked().iter().any(|request| request.starts_with("PATCH")), asked);
        }
        assert_eq!(at.writes(), 0);
        // Pods of before are not waited for, whatever they present.
        at.build.put(pod("old", json!({}), now));
        let error = run(DryRun::None, &mut Reports::default()).await.err().unwrap();
        assert!(error.to_string().contains("0 of 1 pods run since the restart, 1 other pods still exist"), "{error}");
        let hint = error.downcast_ref::<Error>().unwrap().hint().unwrap();
        assert!(hint.contains("choreoctl doctor"), "{hint}");
        let stored = at.build.object("deployments/agent").unwrap();
        let annotations = &stored["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations["kubectl.kubernetes.io/restartedAt"], MARK);

        at.build.put(pod("old", annotations.clone(), now));
        assert!(annotations[REVISION].as_str().unwrap().starts_with("s@"), "{annotations}");
        at.build.answer(
            &format!("GET /api/v1/namespaces/{BUILD}/pods/old/log"),
            200,
            json!("connected to control plane"),
        );
        let mut reported = Reports::default();
        let presented = run(DryRun::None, &mut reported).await.unwrap().unwrap();
        assert_eq!(reported.outcomes(), [("restart", Status::Done), ("reconnect", Status::Done)]);
        assert_eq!(presented.pods, ["old"]);
        let text = presented.to_string();
        assert!(text.starts_with("1 pod presents ") && text.contains(&presented.certificate.sha256), "{text}");

        at.build.put(agent(0));
        let mut reported = Reports::default();
        assert!(run(DryRun::None, &mut reported).await.unwrap().is_none());
        assert!(reported.says("reconnect", "scaled to zero"));
    }
}
