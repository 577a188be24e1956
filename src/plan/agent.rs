//! The agent's side of a change: its Secret, its restart, and its return.

use std::collections::BTreeMap;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::clusters::Clusters;
use super::error::Error;
use super::observer::{Observer, Status, until};
use crate::cluster::{Agent, AgentPod, StoredSecret};
use crate::estate::{Pair, Presents};
use crate::pki::{CA_CERTIFICATE, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY};
use crate::plane::{NamespacedName, Plane, State};
use crate::text::visible;

/// What a Secret is to hold.
pub type Data = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The keys of an agent's Secret.
pub fn pair_data(certificate: &str, key: &str, ca: &str) -> Data {
    [(LEAF_CERTIFICATE, certificate), (LEAF_PRIVATE_KEY, key), (CA_CERTIFICATE, ca)]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec().into()))
        .into()
}

/// The pair in a Secret, which must hold one.
pub fn pair_of(secret: &StoredSecret) -> Result<Pair, Error> {
    Pair::of(secret).map_err(|problem| Error::Pair { secret: secret.name.to_string(), why: problem.message })
}

/// An agent that is to present something else.
#[derive(Clone, Copy)]
pub struct Changeover<'c> {
    pub clusters: Clusters<'c>,
    /// Where the agent is.
    pub namespace: &'c str,
    pub plane: &'c Plane,
    pub deadline: Option<Instant>,
}

impl Changeover<'_> {
    /// The agent of the plane as it is now.
    pub async fn agent(&self) -> anyhow::Result<Agent> {
        Ok(self.clusters.build.agent(self.namespace, self.plane.kind.family, Some(self.plane.plane_id())).await?)
    }

    /// The Secret that an agent mounts, and the pair in it.
    pub async fn pair(&self, agent: &Agent) -> anyhow::Result<(StoredSecret, Pair)> {
        let name = agent.pair().ok_or_else(|| Error::NoSecret(agent.name.to_string()))?;
        let secret = self.clusters.build.existing_secret(&name).await?;
        let pair = pair_of(&secret)?;
        Ok((secret, pair))
    }

    /// Restarts the agent for what a Secret holds, and waits until it is back.
    pub async fn complete(
        &self,
        agent: &Agent,
        secret: &NamespacedName,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        self.restart(agent, secret, observer).await?;
        if agent.replicas == 0 {
            let name = visible(&agent.name.name);
            observer.outcome("reconnect", Status::Skipped, &format!("Deployment {name} is scaled to zero"));
            return Ok(());
        }
        let how = self.reconnected(agent, observer).await?;
        observer.outcome("reconnect", Status::Done, &how);
        Ok(())
    }

    /// Restarts the agent for what a Secret holds, unless all its pods present that, and waits until they do.
    async fn restart(&self, agent: &Agent, secret: &NamespacedName, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let stored = self.clusters.build.existing_secret(secret).await?;
        let pair = pair_of(&stored)?;
        let name = visible(&agent.name.name).into_owned();
        let pods = self.clusters.build.agent_pods(agent).await?;
        let is_mounted = agent.pair().as_ref() == Some(&stored.name) && pods.len() >= agent.replicas;
        if is_mounted && pods.iter().all(|pod| pair.presented_by(pod) == Some(Presents::This)) {
            observer.outcome("restart", Status::Found, &format!("Deployment {name} runs with this certificate"));
            return Ok(());
        }
        self.clusters.build.restart(agent, &stored).await?;
        observer.outcome("restart", Status::Done, &format!("Deployment {name} restarted"));
        let presents = |pod: &_| pair.presented_by(pod) == Some(Presents::This);
        until(self.deadline, observer, async || {
            let look = self.replaced("with the new certificate", presents).await?;
            if look.is_err()
                && pair_of(&self.clusters.build.existing_secret(secret).await?)?.presented != pair.presented
            {
                return Err(Error::Overwritten { secret: secret.to_string() }.into());
            }
            Ok(look)
        })
        .await
    }

    /// Whether every pod is a new one; what is missing, otherwise. `how` says how new ones run.
    pub async fn replaced(&self, how: &str, is_new: impl Fn(&AgentPod) -> bool) -> anyhow::Result<Result<(), String>> {
        // It may have been scaled since.
        let agent = &self.agent().await?;
        let pods = self.clusters.build.agent_pods(agent).await?;
        let new = pods.iter().filter(|pod| is_new(pod)).count();
        let old = pods.len() - new;
        if new >= agent.replicas && old == 0 {
            return Ok(Ok(()));
        }
        let reasons: Vec<_> = pods.iter().filter_map(|pod| pod.waiting.as_deref()).map(visible).collect();
        let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        Ok(Err(format!("{new} of {} pods run {how}, {old} other pods still exist{why}", agent.replicas)))
    }

    /// Waits until a pod is connected, by its log, or by a heartbeat that only one of now can have sent. Returns how that is
    /// known.
    pub async fn reconnected(&self, agent: &Agent, observer: &mut dyn Observer) -> anyhow::Result<String> {
        let since = self.clusters.control.now();
        until(self.deadline, observer, async || {
            for pod in self.clusters.build.agent_pods(agent).await? {
                if self.clusters.build.was_authorized(agent, &pod).await == Some(true) {
                    return Ok(Ok(format!("pod {} logged that it is connected", visible(&pod.name))));
                }
            }
            let plane: Plane = self.clusters.control.around(&self.plane.key()).plane(self.plane.name()).await?;
            let heartbeat = plane.connection().and_then(|connection| connection.last_heartbeat_time);
            let connected = plane.state(self.clusters.control.now()) == State::Connected;
            Ok(match heartbeat.filter(|heartbeat| connected && *heartbeat > since) {
                Some(heartbeat) => {
                    Ok(format!("{} reports a heartbeat of the agent at {heartbeat}", visible(plane.name())))
                }
                None => {
                    Err("the agent has not reconnected yet; the control plane updates its report once a minute".into())
                }
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::fixtures::{
        BUILD, Estate, Reports, deployment, leaf, pair_secret, plane_object, registration, root,
    };

    /// A running pod of the agent that was started for a revision of its Secret.
    fn pod(name: &str, revision: &str, started: &str) -> Value {
        let labels = json!({"app": "cluster-agent"});
        let state = json!({"running": {"startedAt": started}});
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": BUILD, "name": name, "labels": labels, "annotations": {"choreoctl.dev/client-certs": revision}},
            "status": {"phase": "Running", "containerStatuses": [{"name": "agent", "state": state}]},
        })
    }

    #[tokio::test]
    async fn an_agent_is_restarted_until_its_pods_present_the_pair_and_is_awaited() {
        let now = jiff::Timestamp::now();
        let mut agent = deployment(BUILD, "agent", "id", "s");
        agent["spec"]["replicas"] = 1.into();
        let at = Estate::of([], [agent, pair_secret("s", &leaf("id", &root("ca", now), now), "")]);
        at.control.put(plane_object("p", "id", "", now));
        let plane = registration().plane;
        let changeover =
            Changeover { clusters: at.clusters(), namespace: BUILD, plane: &plane, deadline: Some(Instant::now()) };
        let agent = changeover.agent().await.unwrap();
        let (secret, _) = changeover.pair(&agent).await.unwrap();
        let complete = async |reported: &mut Reports| {
            changeover.complete(&agent, &secret.name, reported).await.err().map(|error| error.to_string())
        };
        let mut reported = Reports::default();
        assert!(
            complete(&mut reported).await.unwrap().contains("0 of 1 pods run with the new certificate, 0 other pods")
        );
        assert_eq!(reported.outcomes(), [("restart", Status::Done)]);
        at.build.put(pod("old", "s@0", "2020-01-01T00:00:00Z"));
        assert!(
            complete(&mut Reports::default())
                .await
                .unwrap()
                .contains("0 of 1 pods run with the new certificate, 1 other pods")
        );
        at.build.put(pod("old", &secret.revision(), "2020-01-01T00:00:00Z"));
        let mut reported = Reports::default();
        assert!(complete(&mut reported).await.unwrap().contains("the agent has not reconnected yet"));
        assert_eq!(reported.outcomes(), [("restart", Status::Found)]);
        at.build.answer(
            &format!("GET /api/v1/namespaces/{BUILD}/pods/old/log"),
            200,
            json!("connected to control plane"),
        );
        let mut reported = Reports::default();
        assert_eq!(complete(&mut reported).await, None);
        assert!(reported.says("reconnect", "pod old logged that it is connected"));
    }

    #[tokio::test]
    async fn a_certificate_that_somebody_replaces_is_not_awaited() {
        let now = jiff::Timestamp::now();
        let mut agent = deployment(BUILD, "agent", "id", "s");
        agent["spec"]["replicas"] = 1.into();
        let pair = || pair_secret("s", &leaf("id", &root("ca", now), now), "");
        let at = Estate::of([], [agent, pair()]);
        let plane = registration().plane;
        let changeover = Changeover { clusters: at.clusters(), namespace: BUILD, plane: &plane, deadline: None };
        let agent = changeover.agent().await.unwrap();
        let name = agent.pair().unwrap();
        let mut reported = Reports::default();
        let replaced = async {
            // By then it waits.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            at.build.put(pair());
        };
        let (result, ()) = tokio::join!(changeover.complete(&agent, &name, &mut reported), replaced);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("replaced the certificate in Secret builders/s"), "{error}");
    }

    #[tokio::test]
    async fn a_secret_without_a_pair_is_refused() {
        let plane = registration().plane;
        let mut unmounted = deployment(BUILD, "agent", "id", "s");
        unmounted["spec"]["template"]["spec"]["volumes"] = json!([]);
        for (agent, why) in [
            (unmounted, "the agent builders/agent mounts no Secret as client-certs"),
            (deployment(BUILD, "agent", "id", "s"), "the certificate in builders/s can't be used"),
        ] {
            let at = Estate::of([], [agent, crate::plan::fixtures::secret(BUILD, "s", &[])]);
            let changeover = Changeover { clusters: at.clusters(), namespace: BUILD, plane: &plane, deadline: None };
            let agent = changeover.agent().await.unwrap();
            let error = changeover.pair(&agent).await.err().unwrap().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
