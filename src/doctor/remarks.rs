//! Remarks on certificates that are looked at together: what is weak, what will not last, what doesn't belong together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::pki::Certificate;
use crate::text::visible;

/// A remark on one certificate, with a stable id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub id: &'static str,
    pub text: String,
}

impl Remark {
    pub fn new(id: &'static str, text: impl Into<String>) -> Self {
        Self { id, text: text.into() }
    }
}

/// RSA keys shorter than this are weak (NIST SP 800-131A).
const SHORTEST_RSA: usize = 2048;

/// Of a certificate wherever it stands.
pub fn weak_key(certificate: &Certificate) -> Option<Remark> {
    let algorithm = &certificate.key_algorithm;
    let short =
        algorithm.strip_prefix("rsa-").is_some_and(|bits| bits.parse().is_ok_and(|bits: usize| bits < SHORTEST_RSA));
    (short || algorithm == "ecdsa-p224")
        .then(|| Remark::new("weak-key", format!("its key is weak: {}", visible(algorithm))))
}

/// Of a certificate in a plane's CA: whether it is the agent's own, and when that will no longer do, as the chart has it.
pub fn pinned_leaf(certificate: &Certificate) -> Option<Remark> {
    (!certificate.ca).then(|| pinned(certificate, certificate.chart_renewal()))
}

/// The same of one that cert-manager renews at a moment.
pub fn pinned(certificate: &Certificate, renewal: jiff::Timestamp) -> Remark {
    let day = |time: jiff::Timestamp| time.strftime("%Y-%m-%d").to_string();
    let text = format!(
        "the agent's client certificate, not a CA ({}): cert-manager renews it on {}, after the agent's next restart the gateway refuses the new one, and from {} on also this one",
        visible(&certificate.subject),
        day(renewal),
        day(certificate.not_after)
    );
    Remark::new("pinned-leaf", text)
}

/// Of the certificates in a plane's CA, each of these words once.
pub fn ca_remarks(certificates: &[Certificate]) -> Vec<&'static str> {
    let own = certificates.iter().flat_map(|certificate| [pinned_leaf(certificate), weak_key(certificate)]).flatten();
    let together = same_name(&certificates.iter().collect::<Vec<_>>()).into_iter().map(|(_, remark)| remark);
    let ids: BTreeSet<_> = own.chain(together).map(|remark| remark.id).collect();
    ids.into_iter().collect()
}

/// Of several certificates: those that share a subject with another one of another key. By index.
pub fn same_name(certificates: &[&Certificate]) -> Vec<(usize, Remark)> {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    let mut remarks = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        let first = keys.entry(&certificate.subject).or_insert(&certificate.spki_sha256);
        if *first != certificate.spki_sha256 {
            let text = format!("another certificate of the name {} has another key", visible(&certificate.subject));
            remarks.push((index, Remark::new("same-name", text)));
        }
    }
    remarks
}
