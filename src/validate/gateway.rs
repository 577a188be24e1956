//! What the API server accepts and no agent can connect through, and what hurts later of a CA.

use jiff::Timestamp;

use super::fields::CLIENT_CA;
use super::finding::Found;
use super::fix::{Fix, is_written_here};
use super::memory::Memory;
use super::rules::{CA_SECRET_NAME, CA_SECRET_NAMESPACE, CA_SOURCE_BOTH, CA_SOURCE_MISSING, RULES, Rule};
use crate::manifest::{Entry, Node, Value};
use crate::pki::{self, Bundle, Defect, DefectKind, SOON};
use crate::plane::{Kind, Release, Scope, is_dns_label, is_dns_subdomain};

/// The CA of a plane, as far as it is known without a cluster.
pub(super) fn check(root: &Node, judged: &Judged<'_>, found: &mut Found) {
    let (Some(spec), Some(agent)) = (root.get("spec"), root.at(&["spec", "clusterAgent"])) else {
        return;
    };
    let Some(ca) = agent.entry("clientCA").filter(|entry| matches!(entry.node.value, Value::Mapping(_))) else {
        return;
    };
    let value = ca.node.entry("value").filter(|entry| !entry.node.is_null() && entry.node.as_str() != Some(""));
    let secret = Release::ALL
        .iter()
        .find_map(|release| ca.node.entry(release.secret_field()).filter(|entry| !entry.node.is_null()));
    match (value, secret) {
        (None, None) => {
            let message = "clientCA has no CA: the gateway skips the plane, and no agent can connect";
            let field = judged.secret_field;
            let label = format!("neither value nor {field}");
            found.add(&CA_SOURCE_MISSING, ca.key_span.clone(), CLIENT_CA, message, label).help =
                Some(format!("write the CA's PEM as value, or name a Secret with {field}"));
        }
        (Some(value), Some(secret)) => {
            // The key is the worse of the two faults.
            if value.node.as_str().is_some_and(pki::holds_private_key) {
                inline(value, None, judged, found);
            }
            let message = "clientCA has two sources: the gateway uses the value and never reads the Secret";
            let path = format!("{CLIENT_CA}.{}", secret.key);
            found.add(&CA_SOURCE_BOTH, secret.key_span.clone(), &path, message, "never read").help =
                Some("keep the value or the Secret reference".into());
        }
        (Some(value), None) => {
            let written = is_written_here(root, &[spec, agent, &ca.node]) && ca.node.contains(&value.node.span);
            inline(value, written.then_some(&ca.node), judged, found);
        }
        (None, Some(secret)) => {
            let given = secret.node.get("namespace").is_some_and(|node| !node.is_null() && node.as_str() != Some(""));
            if matches!(secret.node.value, Value::Mapping(_)) && !given && judged.kind.scope == Scope::Cluster {
                let path = format!("{CLIENT_CA}.{}.namespace", secret.key);
                let message = format!(
                    "{} needs a namespace: a cluster-scoped plane has none, so the gateway can't find the Secret",
                    secret.key
                );
                found.add(&CA_SECRET_NAMESPACE, secret.key_span.clone(), &path, message, "namespace is missing").help =
                    Some("write the Secret's namespace".into());
            }
            secret_names(secret, found);
        }
    }
}

/// Names that no Secret can have.
fn secret_names(secret: &Entry, found: &mut Found) {
    let is_key = |text: &str| {
        !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let fits = |key: &str, text: &str| match key {
        "name" => is_dns_subdomain(text),
        // One that is left empty is reported as missing.
        "namespace" => text.is_empty() || is_dns_label(text),
        _ => is_key(text),
    };
    for key in ["name", "namespace", "key"] {
        if let Some(node) = secret.node.get(key)
            && node.as_str().is_some_and(|text| !fits(key, text))
        {
            let path = format!("{CLIENT_CA}.{}.{key}", secret.key);
            let message = format!("a Secret can't have this {key}, so the gateway can't find it");
            found.add(&CA_SECRET_NAME, node.span.clone(), &path, message, "");
        }
    }
}

fn inline(value: &Entry, parent: Option<&Node>, judged: &Judged<'_>, found: &mut Found) {
    let Some(text) = value.node.as_str() else {
        return;
    };
    let path = format!("{CLIENT_CA}.value");
    let key = (text.len() < 64 << 10).then(|| text.to_owned());
    for remark in judged.known.recall(key, || remarks(text, judged.at)).iter() {
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
pub(super) struct Remark {
    rule: &'static Rule,
    message: String,
    label: String,
    help: Option<&'static str>,
    /// What should stand there.
    instead: Option<String>,
}

/// The plane's kind, when its CA is judged, and what was said of each text before: many planes may have the same.
pub(super) struct Judged<'v> {
    pub kind: &'static Kind,
    /// What refers to a Secret in the release that it is judged by.
    pub secret_field: &'static str,
    pub at: Timestamp,
    pub known: &'v Remarks,
}

/// What there is to say of the texts that were looked at.
pub(super) type Remarks = Memory<String, Remark, 256>;

fn remarks(text: &str, at: Timestamp) -> Vec<Remark> {
    if pki::holds_private_key(text) {
        return Remark::of(&Defect::private_key(), None).into_iter().collect();
    }
    let bundle = Bundle::from(text);
    pki::appraise(&bundle, at, SOON).iter().filter_map(|defect| Remark::of(defect, Some(&bundle))).collect()
}

impl Remark {
    /// A defect by the rule of its id; none where there is no such rule.
    fn of(defect: &Defect, bundle: Option<&Bundle>) -> Option<Self> {
        let rule = RULES.iter().find(|rule| rule.id == defect.kind.id())?;
        let text = bundle.map(Bundle::pem).unwrap_or_default();
        let (label, help) = match defect.kind {
            DefectKind::PrivateKey => ("", Some("remove the key and create a new CA: this key is no longer secret")),
            DefectKind::NotRawPem => ("encoded", Some("write the PEM as text, in a block after `value: |`")),
            DefectKind::NoCertificate => {
                let folded = "a PEM keeps its line breaks in a block after `value: |`, but not after `value: >`";
                let help = text.contains("-----BEGIN CERTIFICATE-----").then_some(folded);
                ("no certificate can be decoded from it", help)
            }
            kind if kind.bars_every_agent() => ("every agent is refused", None),
            DefectKind::PartlyUseless => ("it has no effect", None),
            DefectKind::Doubled => ("duplicate", None),
            DefectKind::PinnedLeaf => ("pinned", Some("issue the agent's certificate from a CA, and set that CA here")),
            _ => ("", Some("add the next CA: then agents of both CAs are authorized")),
        };
        let instead = match defect.kind {
            DefectKind::NotRawPem => Bundle::normalized(text.as_bytes()).ok().map(|bundle| bundle.pem().to_owned()),
            _ => None,
        };
        Some(Self { rule, message: defect.to_string(), label: label.to_owned(), help, instead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::{found, pems, plane, plane_of};
    use base64::Engine as _;

    #[test]
    fn a_ca_that_authorizes_nobody_is_reported() {
        let made = |change: fn(&mut rcgen::CertificateParams)| {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
            change(&mut params);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        let critical = |params: &mut rcgen::CertificateParams| {
            let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions = vec![extension];
        };
        let cases: [(String, &[&str]); 6] = [
            (made(|_| {}), &[]),
            (made(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]), &["ca-pinned-leaf"]),
            (made(critical), &["ca-cannot-verify"]),
            (made(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa), &["ca-pinned-leaf"]),
            // Two faults of one certificate are one, and a web page's blanks make it none at all.
            (made(|params| params.not_after = rcgen::date_time_ymd(2026, 2, 1)), &["ca-expired"]),
            (made(|_| {}).replace("-----\n", "-----\u{a0}\n"), &["ca-no-certificate"]),
        ];
        for (pem, rules) in cases {
            let pem = serde_json::to_string(&pem).unwrap();
            let text = plane(&format!("{{planeID: a, clusterAgent: {{clientCA: {{value: {pem}}}}}}}"));
            assert_eq!(found(&text).into_iter().map(|found| found.0).collect::<Vec<_>>(), rules, "{text}");
        }
    }

    #[test]
    fn a_private_key_is_reported_in_every_encoding() {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = base64::engine::general_purpose::STANDARD.encode(key.serialize_der());
        let hex: String = key.serialize_der().iter().map(|octet| format!("{octet:02x}")).collect();
        let ca = pems().remove(1).1;
        let labelled = Bundle::from_iter([key.serialize_der()]).pem().to_owned();
        for value in [der.clone(), hex, format!("{ca}key: {der}\n"), format!("{ca}{labelled}"), key.serialize_pem()] {
            let inner = format!("value: {value:?}");
            for source in [inner.clone(), format!("{inner}, secretRef: {{name: ca, namespace: s, key: k}}")] {
                let text = plane(&format!("{{planeID: a, clusterAgent: {{clientCA: {{{source}}}}}}}"));
                assert!(found(&text).iter().any(|found| found.0 == "ca-private-key"), "{text}");
            }
        }
    }

    #[test]
    fn the_namespace_of_a_secret_is_the_own_one_of_a_namespaced_plane() {
        let spec = |field| format!("{{planeID: a, clusterAgent: {{clientCA: {{{field}: {{name: ca, key: k}}}}}}}}");
        for (kind, field, reported) in [
            ("ClusterWorkflowPlane", "secretKeyRef", true),
            ("ClusterDataPlane", "secretKeyRef", true),
            ("ClusterBuildPlane", "secretRef", true),
            ("WorkflowPlane", "secretKeyRef", false),
            ("DataPlane", "secretKeyRef", false),
            ("BuildPlane", "secretRef", false),
        ] {
            let expected = reported.then(|| ("ca-secret-namespace", field.to_owned()));
            assert_eq!(found(&plane_of(kind, &spec(field))), Vec::from_iter(expected), "{kind}");
        }
        let none = found(&plane_of("DataPlane", "{clusterAgent: {clientCA: {}}}"));
        assert_eq!(none, [("ca-source-missing", "clientCA".to_owned())]);
    }

    #[test]
    fn a_ca_has_one_source_that_can_be_read() {
        for (client_ca, reported) in [
            ("{}", Some(("ca-source-missing", "clientCA"))),
            ("{value: '', secretRef: ~}", Some(("ca-source-missing", "clientCA"))),
            ("{value: x, secretRef: {name: ca, namespace: s, key: k}}", Some(("ca-source-both", "secretRef"))),
            ("{secretRef: {name: ca, namespace: '', key: k}}", Some(("ca-secret-namespace", "secretRef"))),
            ("{secretRef: {name: CA, namespace: s, key: k}}", Some(("ca-secret-name", "CA"))),
            ("{secretRef: {name: ca, namespace: s.t, key: k}}", Some(("ca-secret-name", "s.t"))),
            ("{secretRef: {name: ca.b, namespace: s, key: a_B-c.d}}", None),
        ] {
            let text = plane(&format!("{{planeID: a, clusterAgent: {{clientCA: {client_ca}}}}}"));
            let reported = reported.map(|(rule, at): (_, &str)| (rule, at.to_owned()));
            assert_eq!(found(&text), Vec::from_iter(reported), "{client_ca}");
        }
    }
}
