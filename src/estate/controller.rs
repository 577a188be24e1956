//! The controller's pods, and the client certificate that they present to the gateway's API: from v1.2.0 on cert-manager
//! renews it, and the controller reads it once, when it starts.

use super::agents::{Pair, Running, secret};
use super::issuance::{Issuance, issuance};
use super::objects::{Collection, POD};
use super::source::{Coverage, Source, typed};
use super::unavailable::Unavailable;
use crate::cluster::AgentPod;
use crate::plane::NamespacedName;
use crate::text::visible;

/// The labels of the controller's pods, as `-l` takes them.
pub const CONTROLLER: &str = "app.kubernetes.io/component=controller-manager";
const CONTAINER: &str = "manager";
/// The volume with the certificate and the key that it presents to the gateway.
const PAIR_VOLUME: &str = "cluster-gateway-client-tls";

/// The controller, where it presents a certificate to the gateway.
#[derive(Clone)]
pub struct Controller {
    pub secret: NamespacedName,
    pub pods: Vec<AgentPod>,
    pub pair: Result<Pair, Unavailable>,
    issuance: Option<Issuance>,
}

impl Controller {
    /// The controller in a namespace; none where no pod of it presents a certificate.
    pub async fn of(source: &impl Source, namespace: &str) -> Result<Option<Self>, Unavailable> {
        let all = Collection::of(POD, Some(namespace)).labelled(CONTROLLER);
        let pods = source.list(&all, |pod| {
            let volumes = pod["spec"]["volumes"].as_array()?;
            let volume = volumes.iter().find(|volume| volume["name"] == PAIR_VOLUME)?;
            let secret = volume["secret"]["secretName"].as_str()?.to_owned();
            Some((secret, AgentPod::of_container(typed(pod)?, CONTAINER)?))
        });
        let (names, pods): (Vec<_>, Vec<_>) = pods.await?.into_iter().unzip();
        let name = match names.into_iter().next() {
            Some(name) => name,
            None if source.coverage() == Coverage::Part => {
                return Err(Unavailable::not_in_files("the controller's pods are not in the files"));
            }
            None => return Ok(None),
        };
        let name = NamespacedName { namespace: namespace.to_owned(), name };
        let (stored, issuance) = tokio::join!(secret(source, &name), issuance(source, &name));
        let pair = stored.and_then(|stored| match stored {
            Some(stored) => Pair::of(&stored),
            None => Err(Unavailable::missing(format!("Secret {} does not exist", visible(&name.to_string())))),
        });
        // What is recorded of former certificates only makes a date exact.
        Ok(Some(Self { secret: name, pods, pair, issuance: issuance.ok().flatten() }))
    }

    /// The certificate that each of its running pods presents.
    pub fn running(&self) -> impl Iterator<Item = (&AgentPod, Running<'_>)> {
        let pair = self.pair.as_ref().ok();
        self.pods.iter().filter_map(move |pod| Some((pod, pair?.running(pod, self.issuance.as_ref(), || None)?)))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Fake;
    use crate::estate::Files;
    use crate::plane::Snapshot;

    fn pod(name: &str, started: &str, volume: &str) -> Value {
        let statuses = json!([{
            "name": CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": started}},
        }]);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "n", "name": name, "labels": {"app.kubernetes.io/component": "controller-manager"}},
            "spec": {"containers": [], "volumes": [{"name": volume, "secret": {"secretName": "tls"}}]},
            "status": {"containerStatuses": statuses},
        })
    }

    #[tokio::test]
    async fn the_controller_presents_what_it_read_at_its_start() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        let at = |text: &str| {
            let at: jiff::Timestamp = text.parse().unwrap();
            time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap()
        };
        (params.not_before, params.not_after) = (at("2026-03-01T00:00:00Z"), at("2026-05-30T00:00:00Z"));
        let certificate = params.self_signed(&key).unwrap().pem();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n", "name": "tls"},
            "data": {"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key.serialize_pem())},
        });
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-03-02T00:00:00Z");
        let pods = [pod("old", old, PAIR_VOLUME), pod("new", new, PAIR_VOLUME), pod("other", old, "x")];
        let fake = Fake::of(pods.iter().cloned().chain([secret]));
        let known = Controller::of(&fake.cluster(), "n").await.unwrap().unwrap();
        let mut ends: Vec<_> =
            known.running().map(|(pod, runs)| (pod.name.as_str(), runs.not_after().to_string())).collect();
        ends.sort_unstable();
        assert_eq!(ends, [("new", "2026-05-30T00:00:00Z".into()), ("old", "2026-04-01T00:00:00Z".into())]);
        // Without the Secret it is not known, and without the volume there is nothing to know.
        let without = Controller::of(&Fake::of(pods.clone()).cluster(), "n").await.unwrap().unwrap();
        assert_eq!(without.pair.as_ref().unwrap_err().message, "Secret n/tls does not exist");
        assert_eq!(without.running().count(), 0);
        assert!(Controller::of(&Fake::of(pods[2..].to_vec()).cluster(), "n").await.unwrap().is_none());
        assert!(Controller::of(&Files::control(&Snapshot::default()), "n").await.is_err());
    }
}
