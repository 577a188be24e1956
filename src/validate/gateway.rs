//! What the API server accepts and no agent can connect through, and what the releases' CRDs demand beyond the reference.

use super::Found;
use super::rules::{
    CA_NO_CERTIFICATE, CA_NOT_RAW_PEM, CA_PRIVATE_KEY, CA_SECRET_NAMESPACE, CA_SOURCE_BOTH, CA_SOURCE_MISSING,
    CA_UNPARSABLE, OBSERVABILITY_KIND_MISSING, PLANE_ID_MISSING,
};
use crate::manifest::{Entry, Node, Value};
use crate::pki::{self, BundleError, Certificate};
use crate::plane::{Difference, OBSERVABILITY_KIND, PLANE_ID_REQUIRED};
use crate::term::shell_quoted;

const CLIENT_CA: &str = "spec.clusterAgent.clientCA";

pub(super) fn check(root: &Node, found: &mut Found<'_>) {
    let Some(spec) = root.entry("spec") else {
        return;
    };
    let misspelt =
        spec.node.entries().iter().any(|entry| entry.key != "planeID" && entry.key.eq_ignore_ascii_case("planeID"));
    if matches!(spec.node.value, Value::Mapping(_)) && absent(&spec.node, "planeID") && !misspelt {
        let Difference { releases, instead, .. } = PLANE_ID_REQUIRED;
        let name = root.at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or("NAME");
        let message = format!("planeID is left out: in {releases} {instead}");
        found.add(&PLANE_ID_MISSING, spec.key_span.clone(), "spec.planeID", message, "planeID is missing").help =
            Some(format!("write `planeID: {}`, which is what it defaults to", shell_quoted(name)));
    }
    if let Some(reference) =
        spec.node.entry("observabilityPlaneRef").filter(|entry| matches!(entry.node.value, Value::Mapping(_)))
        && absent(&reference.node, "kind")
    {
        let path = "spec.observabilityPlaneRef.kind";
        let message = Difference::of(path)
            .map(|d| format!("kind is left out: in {} {}", d.releases, d.instead))
            .next()
            .unwrap_or_default();
        found.add(&OBSERVABILITY_KIND_MISSING, reference.key_span.clone(), path, message, "kind is missing").help =
            Some(format!("write `kind: {OBSERVABILITY_KIND}`, which is what it defaults to"));
    }
    let Some(agent) = spec.node.get("clusterAgent") else {
        return;
    };
    if let Some(ca) = agent.entry("clientCA").filter(|entry| matches!(entry.node.value, Value::Mapping(_))) {
        client_ca(ca, found);
    }
}

fn absent(node: &Node, key: &str) -> bool {
    node.get(key).is_none_or(Node::is_null)
}

fn client_ca(ca: &Entry, found: &mut Found<'_>) {
    let value = ca.node.entry("value").filter(|entry| !entry.node.is_null() && entry.node.as_str() != Some(""));
    let secret = ca.node.entry("secretRef").filter(|entry| !entry.node.is_null());
    match (value, secret) {
        (None, None) => {
            let message = "clientCA names no CA: the gateway skips such a plane, and no agent can connect";
            found
                .add(&CA_SOURCE_MISSING, ca.key_span.clone(), CLIENT_CA, message, "neither value nor secretRef")
                .help = Some("write the CA's PEM as value, or name a Secret with secretRef".into());
        }
        (Some(_), Some(secret)) => {
            let message = "clientCA has two sources: the value wins in silence, and the Secret is never read";
            found
                .add(&CA_SOURCE_BOTH, secret.key_span.clone(), &format!("{CLIENT_CA}.secretRef"), message, "never read")
                .help = Some("keep one of the two".into());
        }
        (Some(value), None) => inline(&value.node, found),
        (None, Some(secret)) => {
            if matches!(secret.node.value, Value::Mapping(_))
                && (absent(&secret.node, "namespace")
                    || secret.node.get("namespace").and_then(Node::as_str) == Some(""))
            {
                let path = format!("{CLIENT_CA}.secretRef.namespace");
                let message = "secretRef needs a namespace: a cluster-scoped plane has none of its own, and the gateway's look-up fails";
                found.add(&CA_SECRET_NAMESPACE, secret.key_span.clone(), &path, message, "namespace is missing").help =
                    Some("write the Secret's namespace".into());
            }
        }
    }
}

fn inline(node: &Node, found: &mut Found<'_>) {
    let Some(text) = node.as_str() else {
        return;
    };
    let path = format!("{CLIENT_CA}.value");
    if pki::holds_private_key(text) {
        let message = "clientCA.value holds a private key: whoever may read the plane can read it";
        found.add(&CA_PRIVATE_KEY, node.span.clone(), &path, message, "").help =
            Some("take it out, and make a new CA: this key is no longer secret".into());
        return;
    }
    let certificates = pki::certificates(text);
    if !certificates.is_empty() {
        for (index, _) in certificates
            .iter()
            .enumerate()
            .filter(|(_, der)| Certificate::from_der(der).is_none_or(|parsed| parsed.has_negative_serial()))
        {
            let message = format!("certificate {} in clientCA.value can't be parsed", index + 1);
            found.add(&CA_UNPARSABLE, node.span.clone(), &path, message, "not a certificate");
        }
        return;
    }
    match pki::bundle(text.as_bytes()) {
        Ok(_) => {
            let message = "clientCA.value must be raw PEM: of base64 the gateway understands nothing";
            found.add(&CA_NOT_RAW_PEM, node.span.clone(), &path, message, "encoded").help =
                Some("decode it with `base64 -d`, and write the result as a block behind `value: |`".into());
        }
        Err(BundleError::PrivateKey) => {
            let message = "clientCA.value holds a private key, encoded";
            found.add(&CA_PRIVATE_KEY, node.span.clone(), &path, message, "");
        }
        Err(_) => {
            let message = "clientCA.value holds no certificate";
            found.add(&CA_NO_CERTIFICATE, node.span.clone(), &path, message, "no certificate can be decoded from it");
        }
    }
}
