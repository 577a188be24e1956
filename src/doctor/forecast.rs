//! The dates on which a plane will break by itself, from what a diagnosis knows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::case::Case;
use crate::estate::{Pair, Running};
use crate::pki::{self, Certificate, Reason as Why, Verdict};

/// Rows of a reason, its name and why it matters.
macro_rules! reasons {
    ($($(#[$about:meta])* $reason:ident = $name:literal, $why:literal;)*) => {
        /// What happens on a date. Its name is what scripts get.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Reason {
            $($(#[$about])* #[serde(rename = $name)] $reason,)*
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            pub fn why(self) -> &'static str {
                match self { $(Self::$reason => $why,)* }
            }

            pub fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)* }
            }
        }
    };
}

reasons! {
    /// It is so already.
    Refused = "refused", "The gateway refuses the agent's certificate already: an agent that is connected stays connected until it restarts.";
    /// cert-manager renews the agent's certificate, which the plane pins.
    PinnedLeafRenewed = "pinned-leaf-renewed", "cert-manager renews the certificate that the plane pins: the new one is refused at the agent's next restart.";
    /// The agent's certificate ends, and nobody renews it.
    CertificateExpires = "certificate-expires", "The agent's certificate is not renewed automatically: after it has expired, the gateway refuses the agent's next connection.";
    /// What the running agent presents ends: it read it once, at its start.
    RunningCertificateExpires = "running-certificate-expires", "The agent reads its certificate only when it starts. Restart the agent after its Secret holds the next certificate, and before this one expires.";
    /// The same of a certificate that is not known: the date is the latest possible one.
    RunningCertificateUnknown = "running-certificate-unknown", "The pod started before the present certificate was issued, and no CertificateRequest or pinned certificate shows which one it read. The date is the latest possible one.";
    /// The last certificate of the CA ends that lets the agent in, or any agent.
    CaExpires = "ca-expires", "After the last CA certificate has expired, the gateway refuses every agent.";
    /// The gateway's own certificate ends.
    GatewayCertificateExpires = "gateway-certificate-expires", "The gateway reads its certificate only when it starts, and agents refuse an expired certificate: restart the gateway before.";
    /// What the controller presents to the gateway ends: it read it once, at its start.
    ControllerCertificateExpires = "controller-certificate-expires", "The controller reads its client certificate for the gateway once, when it starts (v1.2.0 and later): after it has expired, the gateway refuses the controller: nothing is reported and deletions hang, while agents stay connected. Restart the controller before.";
    /// What the agent verifies the gateway against ends.
    GatewayCaExpires = "gateway-ca-expires", "Agents verify the gateway's certificate with this CA, and refuse the gateway after the CA has expired.";
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Break {
    pub date: Timestamp,
    pub reason: Reason,
    pub message: String,
}

impl Break {
    fn new(date: Timestamp, reason: Reason, message: impl Into<String>) -> Self {
        Self { date, reason, message: message.into() }
    }

    /// Whether it may happen before a moment.
    pub fn may_precede(&self, moment: Timestamp) -> bool {
        self.reason == Reason::RunningCertificateUnknown || self.date < moment
    }
}

/// The dates on which a plane breaks, seen from a moment, the first one first; a past one is why it is broken.
pub fn forecast(case: &Case, at: Timestamp) -> Vec<Break> {
    // Nobody connects through a plane that was replaced.
    if case.is_replaced() {
        return Vec::new();
    }
    let mut breaks = of_ca(case, at);
    breaks.extend(of_broken_pair(case, at));
    if let Some(pair) = case.pair() {
        let verdict = case.facts.client_ca.verdict(&pair.presented, at);
        breaks.extend(of_running(case, pair, &verdict));
        breaks.extend(of_secret(pair, verdict, at));
    }
    breaks.extend(of_gateway(case));
    breaks.extend(of_controller(case));
    breaks.sort();
    let mut seen = BTreeSet::new();
    breaks.retain(|one| seen.insert(one.reason));
    breaks
}

fn of_ca(case: &Case, at: Timestamp) -> Vec<Break> {
    let certificates = match case.facts.client_ca.certificates() {
        Ok(certificates) => certificates,
        Err(problem) if problem.is_fault() => {
            return vec![Break::new(at, Reason::Refused, format!("no agent can connect: {}", problem.message))];
        }
        Err(_) => return Vec::new(),
    };
    let mut breaks = Vec::new();
    // One that never lets anybody in is no matter.
    let counts = |one: &&Certificate| match pki::trust(&one.der, at) {
        Err(refusal) => matches!(refusal.reason, Why::Expired | Why::NotYetValid),
        Ok(_) => true,
    };
    if let Some(last) = certificates.iter().filter(counts).map(|certificate| certificate.not_after).max() {
        let message = "the last CA certificate expires: no agent can connect after that";
        breaks.push(Break::new(last, Reason::CaExpires, message));
    }
    // Whether cert-manager made what is pinned is known with the plane's cluster only.
    let renewed = |leaf: &&Certificate| {
        let presented = |pair: &Pair| pair.cert_manager.is_some() && pair.leaf().der == leaf.der;
        // One that ended beside a CA is a leftover.
        let matters = leaf.not_after > at || !certificates.iter().any(|one| one.ca);
        !leaf.ca && matters && case.pair().is_none_or(presented)
    };
    breaks.extend(certificates.iter().filter(renewed).map(|leaf| {
        let message = format!("the CA {}", pki::pinned(leaf, Some(case.renewal(leaf))));
        Break::new(case.renewal(leaf), Reason::PinnedLeafRenewed, message)
    }));
    breaks
}

/// A Secret that no agent can start with.
fn of_broken_pair(case: &Case, at: Timestamp) -> Option<Break> {
    let why = match &case.agent()?.pair {
        Ok(pair) if pair.fits => return None,
        Ok(pair) => format!("the private key in {} does not match the certificate", pair.source),
        Err(problem) if problem.is_fault() => problem.message.clone(),
        Err(_) => return None,
    };
    Some(Break::new(at, Reason::Refused, format!("the agent can't restart: {why}")))
}

/// What the running agents present: what their Secret holds, or held at their start.
fn of_running(case: &Case, pair: &Pair, verdict: &Verdict) -> Vec<Break> {
    let pods = case.agent().and_then(|agent| agent.pods.as_deref().ok()).unwrap_or_default();
    // One that nobody renews expires for agents that start later, too.
    let is_renewed = pair.cert_manager.is_some() && verdict.is_authorized();
    let ends = |running: Running| {
        let (reason, message) = match running {
            Running::Known(leaf) if leaf.der == pair.leaf().der && !is_renewed => return None,
            Running::Known(_) => (
                Reason::RunningCertificateExpires,
                "the certificate that the running agent presents expires: before that, restart the agent once its Secret holds the next certificate",
            ),
            Running::Unknown { .. } => (
                Reason::RunningCertificateUnknown,
                "the expiry date of the running agent's certificate is unknown; it is this date at the latest if all its certificates have the same duration: restart the agent once the plane authorizes the certificate in its Secret",
            ),
        };
        Some(Break::new(running.not_after(), reason, message))
    };
    pods.iter().filter_map(|pod| case.running(pod)).filter_map(ends).collect()
}

/// What an agent that starts from now on presents.
fn of_secret(pair: &Pair, verdict: Verdict, at: Timestamp) -> Option<Break> {
    let leaf = pair.leaf();
    match verdict {
        Verdict::Authorized { until } => {
            let date = until?;
            if date < leaf.not_after {
                let message = "the CA that authorizes the agent expires: the agent's next connection is refused";
                return Some(Break::new(date, Reason::CaExpires, message));
            }
            let message = "the agent's certificate expires: the agent's next connection is refused";
            pair.cert_manager.is_none().then(|| Break::new(date, Reason::CertificateExpires, message))
        }
        Verdict::Refused(refusal) => {
            let message = format!("the gateway refuses the certificate in the agent's Secret: {}", refusal.message);
            let ended = (refusal.reason == Why::Expired && leaf.not_after < at).then_some(leaf.not_after);
            Some(Break::new(ended.unwrap_or(at), Reason::Refused, message))
        }
        Verdict::Unknown(_) => None,
    }
}

/// What the controller presents to the gateway.
fn of_controller(case: &Case) -> Option<Break> {
    let controller = case.shared.controller.as_ref().ok()?.as_ref()?;
    let (_, running) = controller.running().min_by_key(|(_, running)| running.not_after())?;
    let message = match running {
        Running::Known(_) => {
            "the certificate that the controller presents to the gateway expires: restart it before, once its Secret holds the next certificate"
        }
        Running::Unknown { .. } => {
            "the certificate that the controller presents to the gateway expires at this date at the latest: restart the controller"
        }
    };
    Some(Break::new(running.not_after(), Reason::ControllerCertificateExpires, message))
}

fn of_gateway(case: &Case) -> Vec<Break> {
    let end = case.gateway.certificate.as_ref().map(|certificate| certificate.not_after);
    let message = "the gateway's certificate expires: it reads the next one only when it starts";
    let certificate = end.map(|date| Break::new(date, Reason::GatewayCertificateExpires, message));
    let message = "the gateway's CA expires: agents refuse the gateway after that";
    let ca = case.server_ca_ends().map(|date| Break::new(date, Reason::GatewayCaExpires, message));
    certificate.into_iter().chain(ca).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use futures_util::FutureExt as _;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::{AgentsIn, Reach, gather};
    use crate::estate::{Extent, Files};
    use crate::pki::{Authority, KeyAlgorithm, PrivateKey, Remaining, ca, client};
    use crate::plane::{DEFAULT_KIND, Plane, Snapshot, Span};

    const DAY: i64 = 86_400;

    fn day(number: i64) -> Timestamp {
        let start: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        Timestamp::from_second(start.as_second() + number * DAY).unwrap()
    }

    fn days(count: u64) -> Span {
        Span::from_seconds(count * 86_400)
    }

    /// A self-signed leaf as the chart makes it, from a day on.
    fn chart_leaf(from: i64) -> String {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let time = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap();
        (params.not_before, params.not_after) = (time(day(from)), time(day(from + 90)));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    /// A CA of five years and a leaf under it of so many days, both from day 0 on.
    fn issued(count: u64) -> (String, String) {
        let made = ca("ca", KeyAlgorithm::EcdsaP256, days(1825), day(0)).unwrap();
        let authority = Authority::from_pem(&made.certificate, &made.key.to_pem(), day(0)).unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let leaf = client("x", &authority, key, days(count), day(0)).unwrap();
        (made.certificate, leaf.pair.certificate)
    }

    /// What breaks when, in days, for a plane with this CA whose agent's Secret holds this certificate, looked at on a day;
    /// its pod runs since another one.
    fn breaks(ca: &str, leaf: &str, cert_manager: bool, at: i64, started: i64) -> Vec<(i64, &'static str)> {
        breaks_with(&[], ca, leaf, cert_manager, at, started)
    }

    /// The same with objects of cert-manager beside the Secret.
    fn breaks_with(
        objects: &[Value],
        ca: &str,
        leaf: &str,
        cert_manager: bool,
        at: i64,
        started: i64,
    ) -> Vec<(i64, &'static str)> {
        let plane: Plane = serde_json::from_value(json!({
            "metadata": {"name": "x"}, "spec": {"planeID": "x", "clusterAgent": {"clientCA": {"value": ca}}}
        }))
        .unwrap();
        let labels = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
        let metadata = |name: &str| json!({"name": name, "namespace": "b", "labels": labels, "annotations": {}});
        let volume = json!({"name": "client-certs", "secret": {"secretName": "tls"}});
        let container = json!({"name": "agent", "args": ["--plane-id=x"]});
        let pod = json!({"containers": [container], "volumes": [volume]});
        let running = json!({"running": {"startedAt": day(started).to_string()}});
        let statuses =
            json!([{"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": running}]);
        let mut secret =
            json!({"kind": "Secret", "metadata": metadata("tls"), "data": {"tls.crt": STANDARD.encode(leaf)}});
        if cert_manager {
            secret["metadata"]["annotations"]["cert-manager.io/certificate-name"] = "x".into();
        }
        let template = json!({"metadata": {"labels": labels}, "spec": pod});
        let selector = json!({"matchLabels": labels});
        let mut related: Vec<Value> = vec![
            secret,
            json!({"kind": "Deployment", "metadata": metadata("agent"), "spec": {"selector": selector, "template": template}}),
            json!({"kind": "Pod", "metadata": metadata("pod"), "spec": pod, "status": {"containerStatuses": statuses}}),
        ];
        related.extend_from_slice(objects);
        let snapshot = Snapshot { now: day(started), ..Snapshot::of_files(vec![plane], related) };
        let (control, build) = (Files::control(&snapshot), Files::build(&snapshot).unwrap());
        let reach = Reach {
            control: &control,
            control_namespace: "control",
            kinds: vec![DEFAULT_KIND],
            build: Some((&build, AgentsIn::All)),
            named: true,
            soon: Remaining::Share(0.0),
            gateway: None,
            bound: None,
        };
        let gathered = gather(&reach, snapshot.planes.clone(), &Extent::default()).now_or_never().unwrap();
        let reported = forecast(&gathered.cases[0], day(at));
        let number = |date: Timestamp| (date.as_second() - day(0).as_second()).div_euclid(DAY);
        reported.into_iter().map(|one| (number(one.date), one.reason.name())).collect()
    }

    #[test]
    fn a_pinned_leaf_breaks_on_day_75_and_day_90() {
        let (first, second) = (chart_leaf(0), chart_leaf(75));
        let reported = [(75, "pinned-leaf-renewed"), (90, "running-certificate-expires"), (90, "ca-expires")];
        for at in [1, 60, 74, 80] {
            assert_eq!(breaks(&first, &first, true, at, 0), reported, "on day {at}");
        }
        // Renewed on day 75: the pod goes on with the first one, and whatever starts presents the second one.
        for at in [76, 89] {
            let reported = [(at, "refused"), (90, "running-certificate-expires"), (90, "ca-expires")];
            assert_eq!(breaks(&first, &second, true, at, 0), reported, "on day {at}");
        }
        // Past its end the former one is still known; between two later ones it is not what the pod read.
        assert_eq!(breaks(&first, &second, true, 95, 0)[0], (90, "running-certificate-expires"));
        let reported = breaks(&first, &chart_leaf(150), true, 160, 80);
        assert!(reported.contains(&(170, "running-certificate-unknown")), "{reported:?}");
        // The pod was restarted.
        assert_eq!(breaks(&first, &second, true, 77, 76), [(77, "refused"), (90, "ca-expires")]);
        // One that nobody renews has its end only.
        assert_eq!(breaks(&first, &first, false, 1, 0), [(90, "certificate-expires"), (90, "ca-expires")]);
    }

    /// A Certificate of cert-manager, and the requests that it keeps: number, day and certificate.
    fn issuance(renewal: i64, kept: &[(u64, i64, &str)]) -> Vec<Value> {
        let certificate = json!({
            "kind": "Certificate", "metadata": {"name": "x", "namespace": "b"}, "spec": {"secretName": "tls"},
            "status": {
                "renewalTime": day(renewal).to_string(), "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        let request = |(number, at, pem): &(u64, i64, &str)| {
            let annotations = json!({
                "cert-manager.io/certificate-name": "x", "cert-manager.io/certificate-revision": number.to_string(),
            });
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": day(*at).to_string()});
            json!({
                "kind": "CertificateRequest",
                "metadata": {"name": format!("x-{number}"), "namespace": "b", "annotations": annotations},
                "status": {"certificate": STANDARD.encode(pem), "conditions": [ready]},
            })
        };
        std::iter::once(certificate).chain(kept.iter().map(request)).collect()
    }

    #[test]
    fn the_running_certificate_is_kept_in_sight_after_a_renewal() {
        let made = ca("ca", KeyAlgorithm::EcdsaP256, days(1825), day(0)).unwrap();
        let authority = Authority::from_pem(&made.certificate, &made.key.to_pem(), day(0)).unwrap();
        let leaf = |from: i64| {
            let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
            client("x", &authority, key, days(90), day(from)).unwrap().pair.certificate
        };
        let (first, second, third) = (leaf(0), leaf(75), leaf(150));
        let end = (1825, "ca-expires");
        let reported = |kept: &[(u64, i64, &str)], at, started| {
            breaks_with(&issuance(225, kept), &made.certificate, &third, true, at, started)
        };
        // Recorded, it is known to the day.
        let all = [(1, 0, first.as_str()), (2, 75, second.as_str()), (3, 150, third.as_str())];
        assert_eq!(reported(&all, 160, 1), [(90, "running-certificate-expires"), end]);
        assert_eq!(reported(&all, 160, 80), [(165, "running-certificate-expires"), end]);
        assert_eq!(reported(&all, 160, 151), [(240, "running-certificate-expires"), end]);
        // A gap, or only the latest one, leaves the latest possible date.
        for kept in [&all[2..], &[all[0], all[2]], &[]] {
            assert_eq!(reported(kept, 160, 80), [(170, "running-certificate-unknown"), end]);
        }
        assert_eq!(reported(&all[1..], 160, 1), [(91, "running-certificate-unknown"), end]);
    }

    #[test]
    fn an_unknown_end_precedes_every_moment() {
        let one = |reason| Break { date: day(90), reason, message: String::new() };
        assert!(one(Reason::RunningCertificateUnknown).may_precede(day(1)));
        assert!(!one(Reason::RunningCertificateExpires).may_precede(day(1)));
    }

    #[test]
    fn a_pinned_leaf_is_renewed_when_cert_manager_says_so() {
        let leaf = chart_leaf(0);
        let reported = breaks_with(&issuance(60, &[]), &leaf, &leaf, true, 1, 0);
        assert_eq!(reported[0], (60, "pinned-leaf-renewed"));
        // Another Certificate than that of the pinned one says nothing of it.
        let reported = breaks_with(&issuance(60, &[]), &leaf, &chart_leaf(75), true, 76, 0);
        assert!(reported.iter().all(|(date, _)| *date != 60), "{reported:?}");
    }

    #[test]
    fn a_leaf_under_a_ca_breaks_at_its_end() {
        let (ca, leaf) = issued(365);
        let own = [(365, "certificate-expires"), (1825, "ca-expires")];
        for at in [1, 300, 364] {
            assert_eq!(breaks(&ca, &leaf, false, at, 0), own, "on day {at}");
        }
        // Past its end that is why.
        assert_eq!(breaks(&ca, &leaf, false, 400, 0), [(365, "refused"), (1825, "ca-expires")]);
        // cert-manager renews it, and the running agent has to be restarted all the same.
        let (ca, leaf) = issued(90);
        let renewed = [(90, "running-certificate-expires"), (1825, "ca-expires")];
        for at in [1, 80] {
            assert_eq!(breaks(&ca, &leaf, true, at, 0), renewed, "on day {at}");
        }
    }

    #[test]
    fn a_ca_may_end_first() {
        let (first, _) = issued(90);
        let (second, leaf) = issued(90);
        assert_eq!(breaks(&format!("{first}{second}"), &leaf, true, 1, 0)[0], (90, "running-certificate-expires"));
        assert_eq!(breaks(&first, &leaf, true, 7, 0), [(7, "refused"), (1825, "ca-expires")]);
        // A CA that lets nobody in is broken now.
        assert_eq!(breaks("hello", &leaf, true, 7, 0), [(7, "refused")]);
    }
}
