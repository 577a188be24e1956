//! What cert-manager reports about the Certificate behind an agent's Secret: whether it is issued, when it is renewed, and
//! which certificates it issued before.
//!
//! The fields are those of cert-manager.io/v1, `Certificate.status` and `CertificateRequest.status`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::objects::{CERTIFICATE, CERTIFICATE_REQUEST, Collection, ISSUER, ObjectRef};
use super::source::{Source, text, time};
use super::unavailable::{Unavailable, or_none};
use crate::cluster::{CERT_MANAGER, Cluster, Error};
use crate::pki::Certificate;
use crate::plane::{DryRun, NamespacedName, Span};
use crate::text::visible;

/// Annotation of a CertificateRequest: which issue of its Certificate it is for, counted from 1.
pub const ISSUE: &str = "cert-manager.io/certificate-revision";
/// How long the Secret may still hold the former certificate after the next one was signed.
const WRITTEN_WITHIN: Span = Span::from_seconds(5);

/// A Certificate of cert-manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuance {
    pub name: NamespacedName,
    /// Why the present certificate is not, or not yet, issued; none where the Certificate is ready.
    pub pending: Option<String>,
    /// When cert-manager renews it (`status.renewalTime`).
    pub renewal: Option<Timestamp>,
    /// Why its Issuer can't issue; none where that is ready, or is not one of the namespace.
    pub issuer_problem: Option<String>,
    /// The Secret of the CA from which its Issuer issues.
    pub ca_secret: Option<String>,
    /// By number of issue. cert-manager keeps only some of them (`spec.revisionHistoryLimit`).
    issued: Vec<Issued>,
}

#[derive(Clone, Debug, PartialEq)]
struct Issued {
    number: u64,
    at: Timestamp,
    certificate: Certificate,
}

impl Issuance {
    /// The Certificate that writes a Secret, with its CertificateRequests and its Issuer among those of the namespace.
    pub fn of(secret: &NamespacedName, certificate: &Value, requests: &[Value], issuers: &[Value]) -> Option<Self> {
        let name = certificate["metadata"]["name"].as_str()?;
        let requests = requests.iter().filter(|object| object["metadata"]["annotations"][CERT_MANAGER] == name);
        let mut issued: Vec<_> = requests.filter_map(Issued::of).collect();
        issued.sort_by_key(|issued| issued.number);
        let issuer = &certificate["spec"]["issuerRef"]["name"];
        let issuer = issuers.iter().find(|object| object["metadata"]["name"] == *issuer);
        Some(Self {
            name: NamespacedName { namespace: secret.namespace.clone(), name: name.to_owned() },
            pending: pending(certificate),
            issuer_problem: issuer.filter(|issuer| condition(issuer, "Ready").is_some()).and_then(pending),
            ca_secret: issuer.and_then(|issuer| issuer["spec"]["ca"]["secretName"].as_str()).map(str::to_owned),
            renewal: time(text(certificate, "/status/renewalTime")),
            issued,
        })
    }

    /// The certificate that the Secret held at a moment, where that is recorded beyond doubt.
    pub fn held_at(&self, at: Timestamp) -> Option<&Certificate> {
        let successive = self.issued.windows(2).find(|pair| {
            let [held, next] = pair else { return false };
            held.number + 1 == next.number && WRITTEN_WITHIN.after(held.at) < at && at < next.at
        })?;
        successive.first().map(|held| &held.certificate)
    }
}

impl Issued {
    fn of(request: &Value) -> Option<Self> {
        let pem = STANDARD.decode(request["status"]["certificate"].as_str()?).ok()?;
        let metadata = &request["metadata"];
        let ready = condition(request, "Ready").and_then(|ready| time(text(ready, "/lastTransitionTime")));
        Some(Self {
            number: metadata["annotations"][ISSUE].as_str()?.parse().ok()?,
            at: ready.or_else(|| time(text(metadata, "/creationTimestamp")))?,
            certificate: Certificate::all_in(&String::from_utf8_lossy(&pem)).into_iter().next()?,
        })
    }
}

/// Returns why a Certificate is not ready: that it is being issued, and what its conditions say.
fn pending(certificate: &Value) -> Option<String> {
    let is_ready = condition(certificate, "Ready").is_some_and(|ready| ready["status"] == "True");
    if is_ready {
        return None;
    }
    let conditions = certificate["status"]["conditions"].as_array().into_iter().flatten();
    let said = conditions.map(|condition| {
        let text = |field: &str| visible(condition[field].as_str().unwrap_or_default()).into_owned();
        format!("{} {}: {}", text("type"), text("status"), text("message"))
    });
    let said: Vec<_> = said.collect();
    Some(if said.is_empty() { "cert-manager has not processed it".into() } else { said.join("; ") })
}

/// One of the conditions in an object's status.
pub fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The Certificate that writes a Secret; none where there is none, or no cert-manager.
pub async fn issuance(source: &impl Source, secret: &NamespacedName) -> Result<Option<Issuance>, Unavailable> {
    let list = async |resource| {
        let all = Collection::of(resource, Some(&secret.namespace));
        Ok::<_, Unavailable>(or_none(source.list(&all, |object| Some(object.clone())).await)?.unwrap_or_default())
    };
    let (certificates, requests, issuers) = tokio::join!(list(CERTIFICATE), list(CERTIFICATE_REQUEST), list(ISSUER));
    let certificates = certificates?;
    let certificate = certificates.iter().find(|object| object["spec"]["secretName"] == secret.name.as_str());
    // What is known of the Certificate does not depend on the others.
    let (requests, issuers) = (requests.unwrap_or_default(), issuers.unwrap_or_default());
    Ok(certificate.and_then(|certificate| Issuance::of(secret, certificate, &requests, &issuers)))
}

/// Has cert-manager issue a Certificate anew, as `cmctl renew` does: by the condition `Issuing`.
///
/// # Errors
/// Those of the cluster.
pub async fn reissue(cluster: &Cluster, name: &NamespacedName) -> Result<(), Error> {
    let path = ObjectRef::named(CERTIFICATE, name).path();
    let certificate = cluster.object(&path).await?;
    let conditions = certificate["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions: Vec<_> = conditions.filter(|condition| condition["type"] != "Issuing").cloned().collect();
    conditions.push(json!({
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered",
        "lastTransitionTime": cluster.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }));
    let status = json!({"status": {"conditions": conditions}});
    cluster.merge_object(&format!("{path}/status"), &status, DryRun::None).await.map(drop)
}
