//! The dates on which a plane will break by itself, from what a diagnosis knows.

use jiff::Timestamp;
use serde::Serialize;

use super::case::Case;
use crate::pki::Verdict;
use crate::term::visible;

/// What happens on a date. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is so already.
    Refused,
    /// cert-manager renews the agent's certificate, which the plane pins.
    PinnedLeafRenewed,
    /// The agent's certificate ends.
    CertificateExpires,
    /// The last certificate of the CA ends that lets the agent in, or any agent.
    CaExpires,
    /// The gateway's own certificate ends.
    GatewayCertificateExpires,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::PinnedLeafRenewed => "pinned-leaf-renewed",
            Self::CertificateExpires => "certificate-expires",
            Self::CaExpires => "ca-expires",
            Self::GatewayCertificateExpires => "gateway-certificate-expires",
        }
    }
}

/// A date and what happens then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Break {
    pub date: Timestamp,
    pub reason: Reason,
    pub message: String,
}

/// The dates on which a plane breaks as things stand at `at`, the first one first; a past one is why it is broken.
pub fn forecast(case: &Case, at: Timestamp) -> Vec<Break> {
    let mut breaks: Vec<_> = of_ca(case).into_iter().chain(of_agent(case, at)).chain(of_gateway(case)).collect();
    breaks.sort();
    breaks.dedup_by(|later, earlier| later.reason == earlier.reason);
    breaks
}

fn of_ca(case: &Case) -> Vec<Break> {
    let certificates = case.facts.client_ca.certificates().as_deref().unwrap_or_default();
    let mut breaks = Vec::new();
    if let Some(last) = certificates.iter().map(|certificate| certificate.not_after).max() {
        let message = "the last certificate of the CA ends, and no agent is let in".to_owned();
        breaks.push(Break { date: last, reason: Reason::CaExpires, message });
    }
    // Whether cert-manager made what is pinned is known with the build cluster only.
    let by_cert_manager = case.pair().is_none_or(|pair| pair.cert_manager.is_some());
    let is_presented = |der: &Vec<u8>| case.pair().is_none_or(|pair| pair.leaf().der == *der);
    for leaf in certificates.iter().filter(|one| !one.ca) {
        if by_cert_manager && is_presented(&leaf.der) {
            let message = format!(
                "cert-manager renews the pinned certificate ({}): from the agent's next restart on the new one is refused",
                visible(&leaf.subject)
            );
            breaks.push(Break { date: leaf.chart_renewal(), reason: Reason::PinnedLeafRenewed, message });
        }
    }
    breaks
}

fn of_agent(case: &Case, at: Timestamp) -> Option<Break> {
    let pair = case.pair()?;
    match case.facts.client_ca.verdict(&pair.presented, at) {
        Verdict::Authorized { until } => {
            let leaf = pair.leaf();
            let date = until?;
            Some(if date >= leaf.not_after {
                let message = "the agent's certificate ends, and its next connection is refused".to_owned();
                Break { date, reason: Reason::CertificateExpires, message }
            } else {
                let message = "the CA that lets the agent in ends, and its next connection is refused".to_owned();
                Break { date, reason: Reason::CaExpires, message }
            })
        }
        Verdict::Refused(refusal) => {
            let message = format!("the agent's certificate is refused: {}", refusal.message);
            Some(Break { date: at, reason: Reason::Refused, message })
        }
        Verdict::Unknown(_) => None,
    }
}

fn of_gateway(case: &Case) -> Option<Break> {
    let certificate = case.gateway_certificate.as_ref()?;
    let message = "the certificate that the gateway serves ends: it reads the next one at its start only".to_owned();
    Some(Break { date: certificate.not_after, reason: Reason::GatewayCertificateExpires, message })
}
