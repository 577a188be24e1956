//! What the API server accepts and no agent can connect through, and what hurts later of a CA.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::rules::{
    CA_CANNOT_VERIFY, CA_DOUBLED, CA_EXPIRED, CA_EXPIRES_SOON, CA_NO_CERTIFICATE, CA_NOT_RAW_PEM, CA_NOT_YET_VALID,
    CA_PARTLY_USELESS, CA_PINNED_LEAF, CA_PRIVATE_KEY, CA_SECRET_NAMESPACE, CA_SOURCE_BOTH, CA_SOURCE_MISSING,
    CA_UNPARSABLE, OBSERVABILITY_KIND_MISSING, PLANE_ID_MISSING, Rule,
};
use super::{Fix, Found};
use crate::manifest::{Entry, Node, Value};
use crate::pki::{self, BundleError, Certificate};
use crate::plane::{Difference, OBSERVABILITY_KIND, PLANE_ID_REQUIRED, age};
use crate::term::{shell_quoted, visible};

pub(super) const CLIENT_CA: &str = "spec.clusterAgent.clientCA";
/// A CA that ends within this many days is told of.
const SOON_DAYS: i64 = 30;

/// What releases' CRDs demand beyond the reference's.
pub(super) fn releases(root: &Node, found: &mut Found) {
    let Some(spec) = root.entry("spec") else {
        return;
    };
    if let Value::Mapping(entries) = &spec.node.value
        && absent(&spec.node, "planeID")
        && !entries.iter().any(|entry| entry.key.eq_ignore_ascii_case("planeID") && entry.key != "planeID")
    {
        let Difference { releases, instead, .. } = PLANE_ID_REQUIRED;
        let name = root.at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or("NAME");
        let message = format!("planeID is left out: in {releases} {instead}");
        let finding =
            found.add(&PLANE_ID_MISSING, spec.key_span.clone(), "spec.planeID", message, "planeID is missing");
        finding.help = Some(format!("write `planeID: {}`, which is what it defaults to", shell_quoted(name)));
        if crate::plane::is_dns_label(name) {
            finding.fix = insertion(root, &[&spec.node], "planeID", name);
        }
    }
    if let Some(reference) = spec.node.entry("observabilityPlaneRef")
        && matches!(reference.node.value, Value::Mapping(_))
        && absent(&reference.node, "kind")
    {
        let path = "spec.observabilityPlaneRef.kind";
        let message = Difference::of(path)
            .map(|d| format!("kind is left out: in {} {}", d.releases, d.instead))
            .next()
            .unwrap_or_default();
        let finding =
            found.add(&OBSERVABILITY_KIND_MISSING, reference.key_span.clone(), path, message, "kind is missing");
        finding.help = Some(format!("write `kind: {OBSERVABILITY_KIND}`, which is what it defaults to"));
        finding.fix = insertion(root, &[&spec.node, &reference.node], "kind", OBSERVABILITY_KIND);
    }
}

/// A field in front of the others of a mapping, if all on the way to it stands where it is written, and nothing but
/// the mapping's own text would change.
fn insertion(root: &Node, way: &[&Node], key: &str, value: &str) -> Option<Fix> {
    let last = way.last()?;
    let first = last.entries().first()?;
    let written = is_written_here(root, way) && last.contains(&first.key_span);
    (last.entry(key).is_none() && written).then(|| Fix::Insert {
        before: first.key_span.clone(),
        mapping: last.span.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// Whether each node stands inside the one above it, and none comes through an alias.
fn is_written_here(root: &Node, way: &[&Node]) -> bool {
    let mut above = root;
    way.iter().all(|node| {
        let within = above.contains(&node.span);
        above = node;
        within
    })
}

fn absent(node: &Node, key: &str) -> bool {
    node.get(key).is_none_or(Node::is_null)
}

/// The CA of a plane, as far as it is known without a cluster.
pub(super) fn check(root: &Node, judged: &Judged<'_>, found: &mut Found) {
    let (Some(spec), Some(agent)) = (root.get("spec"), root.at(&["spec", "clusterAgent"])) else {
        return;
    };
    let Some(ca) = agent.entry("clientCA").filter(|entry| matches!(entry.node.value, Value::Mapping(_))) else {
        return;
    };
    let value = ca.node.entry("value").filter(|entry| !entry.node.is_null() && entry.node.as_str() != Some(""));
    // Later releases call it secretKeyRef.
    let secret =
        ["secretRef", "secretKeyRef"].iter().find_map(|key| ca.node.entry(key).filter(|entry| !entry.node.is_null()));
    match (value, secret) {
        (None, None) => {
            let message = "clientCA names no CA: the gateway skips such a plane, and no agent can connect";
            found
                .add(&CA_SOURCE_MISSING, ca.key_span.clone(), CLIENT_CA, message, "neither value nor secretRef")
                .help = Some("write the CA's PEM as value, or name a Secret with secretRef".into());
        }
        (Some(_), Some(secret)) => {
            let message = "clientCA has two sources: the value wins in silence, and the Secret is never read";
            let path = format!("{CLIENT_CA}.{}", secret.key);
            found.add(&CA_SOURCE_BOTH, secret.key_span.clone(), &path, message, "never read").help =
                Some("keep one of the two".into());
        }
        (Some(value), None) => {
            let written = is_written_here(root, &[spec, agent, &ca.node]) && ca.node.contains(&value.node.span);
            inline(value, written.then_some(&ca.node), judged, found);
        }
        (None, Some(secret)) => {
            if matches!(secret.node.value, Value::Mapping(_))
                && (absent(&secret.node, "namespace")
                    || secret.node.get("namespace").and_then(Node::as_str) == Some(""))
            {
                let path = format!("{CLIENT_CA}.{}.namespace", secret.key);
                let message = "secretRef needs a namespace: a cluster-scoped plane has none of its own, and the gateway's look-up fails";
                found.add(&CA_SECRET_NAMESPACE, secret.key_span.clone(), &path, message, "namespace is missing").help =
                    Some("write the Secret's namespace".into());
            }
        }
    }
}

fn inline(value: &Entry, parent: Option<&Node>, judged: &Judged<'_>, found: &mut Found) {
    let Some(text) = value.node.as_str() else {
        return;
    };
    let path = format!("{CLIENT_CA}.value");
    for remark in judged.remarks(text).iter() {
        let finding =
            found.add(remark.rule, value.node.span.clone(), &path, remark.message.clone(), remark.label.clone());
        finding.help = remark.help.map(str::to_owned);
        if let (Some(pem), Some(parent)) = (&remark.instead, parent) {
            finding.fix = Some(Fix::Replace {
                key: value.key_span.clone(),
                value: value.node.span.clone(),
                mapping: parent.span.clone(),
                text: pem.clone(),
            });
        }
    }
}

/// Something to say of a CA's text.
#[derive(Clone, Debug)]
struct Remark {
    rule: &'static Rule,
    message: String,
    label: String,
    help: Option<&'static str>,
    /// What should stand there.
    instead: Option<String>,
}

fn remark(rule: &'static Rule, message: impl Into<String>, label: &str) -> Remark {
    Remark { rule, message: message.into(), label: label.to_owned(), help: None, instead: None }
}

/// When CAs are judged, and what was said of each text before: many planes may have the same.
pub(super) struct Judged<'v> {
    pub at: Timestamp,
    pub known: &'v Remarks,
}

/// Texts that were looked at, and what there is to say of each.
#[derive(Debug, Default)]
pub(super) struct Remarks(Mutex<HashMap<String, Arc<[Remark]>>>);

/// How many texts are remembered.
const REMEMBERED: usize = 256;

impl Judged<'_> {
    fn remarks(&self, text: &str) -> Arc<[Remark]> {
        if let Ok(known) = self.known.0.lock()
            && let Some(remarks) = known.get(text)
        {
            return remarks.clone();
        }
        let remarks: Arc<[Remark]> = remarks(text, self.at).into();
        if text.len() < 64 << 10
            && let Ok(mut known) = self.known.0.lock()
        {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(text.to_owned(), remarks.clone());
        }
        remarks
    }
}

fn remarks(text: &str, at: Timestamp) -> Vec<Remark> {
    if pki::holds_private_key(text) {
        let message = "clientCA.value holds a private key: whoever may read the plane can read it";
        let help = "take it out, and make a new CA: this key is no longer secret";
        return vec![Remark { help: Some(help), ..remark(&CA_PRIVATE_KEY, message, "") }];
    }
    let blocks = pki::certificates(text);
    if blocks.is_empty() {
        return vec![match pki::bundle(text.as_bytes()) {
            Ok(pem) => {
                let message = "clientCA.value must be raw PEM: of base64 the gateway understands nothing";
                let help = "decode it with `base64 -d`, and write the result as a block behind `value: |`";
                Remark { help: Some(help), instead: Some(pem), ..remark(&CA_NOT_RAW_PEM, message, "encoded") }
            }
            Err(BundleError::PrivateKey) => remark(&CA_PRIVATE_KEY, "clientCA.value holds a private key, encoded", ""),
            Err(_) => {
                let label = "no certificate can be decoded from it";
                remark(&CA_NO_CERTIFICATE, "clientCA.value holds no certificate", label)
            }
        }];
    }
    let parsed = |der: &Vec<u8>| Certificate::from_der(der).filter(|parsed| !parsed.has_negative_serial());
    let certificates: Vec<_> = blocks.iter().map(parsed).collect();
    bundle(&certificates, at)
}

/// What keeps a certificate from being of use, if anything does.
fn useless(certificate: &Option<Certificate>, at: Timestamp) -> Option<(&'static Rule, String)> {
    let Some(certificate) = certificate else {
        return Some((&CA_UNPARSABLE, "can't be parsed".into()));
    };
    if certificate.not_after < at {
        return Some((&CA_EXPIRED, format!("has expired at {}", certificate.not_after)));
    }
    if certificate.not_before > at {
        return Some((&CA_NOT_YET_VALID, format!("is valid only from {} on", certificate.not_before)));
    }
    if !certificate.allows_client_auth() {
        return Some((&CA_CANNOT_VERIFY, "is not for client certificates, by its extended key usage".into()));
    }
    None
}

fn bundle(certificates: &[Option<Certificate>], at: Timestamp) -> Vec<Remark> {
    let faults: Vec<_> = certificates.iter().map(|certificate| useless(certificate, at)).collect();
    let mut remarks = Vec::new();
    let one = certificates.len() == 1;
    let name = |index: usize| if one { "the CA".to_owned() } else { format!("certificate {} of the CA", index + 1) };
    let none_is_of_use = faults.iter().all(Option::is_some);
    for (index, fault) in faults.iter().enumerate() {
        let Some((rule, why)) = fault else {
            continue;
        };
        let rule = if none_is_of_use { rule } else { &CA_PARTLY_USELESS };
        let label = if none_is_of_use { "every agent is refused" } else { "it does nothing" };
        remarks.push(remark(rule, format!("{} {why}", name(index)), label));
    }
    let (mut seen, mut last) = (BTreeSet::new(), None);
    for (index, certificate) in certificates.iter().enumerate() {
        let Some(certificate) = certificate else {
            continue;
        };
        if !seen.insert(&certificate.sha256) {
            remarks.push(remark(&CA_DOUBLED, format!("{} stands twice in clientCA.value", name(index)), "a double"));
        } else if faults[index].is_none() {
            last = last.max(Some(certificate.not_after));
            if !certificate.ca {
                let message = format!(
                    "{} is no CA but a certificate of its own ({}): once the agent's is renewed, it no longer fits",
                    name(index),
                    visible(&certificate.subject)
                );
                let help = "let the agent's certificate be issued by a CA, and name that CA here";
                remarks.push(Remark { help: Some(help), ..remark(&CA_PINNED_LEAF, message, "pinned") });
            }
        }
    }
    if let Some(last) = last.filter(|last| last.duration_since(at).as_hours() / 24 < SOON_DAYS) {
        let message = format!("the CA expires in {}, at {last}", age(last, at));
        let help = "put the next CA beside it: agents of either are then let in";
        remarks.push(Remark { help: Some(help), ..remark(&CA_EXPIRES_SOON, message, "") });
    }
    remarks
}
