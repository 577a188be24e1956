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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::estate::{Cause, Files};
    use crate::plane::Snapshot;

    fn object(kind: &str, name: &str) -> Value {
        json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": {"namespace": "n", "name": name}})
    }

    fn ready(mut object: Value, status: &str) -> Value {
        object["status"]["conditions"] = json!([{"type": "Ready", "status": status, "message": "so it is"}]);
        object
    }

    fn certificate(status: &str) -> Value {
        let mut certificate = ready(object("Certificate", "c"), status);
        certificate["spec"] = json!({"secretName": "s", "issuerRef": {"name": "i"}});
        certificate["status"]["renewalTime"] = "2026-01-01T00:00:00Z".into();
        certificate
    }

    fn name() -> NamespacedName {
        NamespacedName { namespace: "n".into(), name: "s".into() }
    }

    #[tokio::test]
    async fn a_certificate_is_read_with_its_issuer() {
        let mut issuer = ready(object("Issuer", "i"), "False");
        issuer["spec"] = json!({"ca": {"secretName": "root"}});
        let objects = [object("Certificate", "other"), certificate("True"), issuer, object("Issuer", "j")];
        let snapshot = Snapshot::of_files(Vec::new(), objects.to_vec());
        let files = issuance(&Files::control(&snapshot), &name()).await.unwrap().unwrap();
        assert_eq!((files.name.to_string(), files.pending.clone()), ("n/c".into(), None));
        assert_eq!(files.issuer_problem.as_deref(), Some("Ready False: so it is"));
        assert_eq!((files.ca_secret.as_deref(), files.renewal.is_some()), (Some("root"), true));
        assert_eq!(issuance(&Fake::of(objects).cluster(), &name()).await.unwrap(), Some(files));
    }

    #[tokio::test]
    async fn what_is_not_issued_says_why() {
        let pending = async |certificate: Value| {
            issuance(&Fake::of([certificate]).cluster(), &name()).await.unwrap().unwrap().pending
        };
        assert_eq!(pending(certificate("False")).await.as_deref(), Some("Ready False: so it is"));
        let mut new = certificate("False");
        new["status"] = json!({});
        assert_eq!(pending(new).await.as_deref(), Some("cert-manager has not processed it"));
        assert_eq!(issuance(&Fake::default().cluster(), &name()).await, Ok(None), "there is no cert-manager");
        let fake = Fake::of([certificate("True")]);
        fake.forbid("GET /apis/cert-manager.io/v1/namespaces/n/certificates?");
        assert_eq!(issuance(&fake.cluster(), &name()).await.unwrap_err().cause, Cause::Forbidden);
    }

    #[tokio::test]
    async fn a_certificate_is_issued_anew_by_its_condition() {
        let fake = Fake::of([certificate("True")]);
        reissue(&fake.cluster(), &NamespacedName { namespace: "n".into(), name: "c".into() }).await.unwrap();
        assert!(
            fake.asked().iter().any(|asked| asked.starts_with("PATCH ") && asked.contains("/certificates/c/status"))
        );
    }
}
