//! What planes trust: the CA that each names, read and parsed once for all that name the same one.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use rayon::prelude::*;
use serde_json::Value;

use super::objects::{CONFIG_MAP, ObjectRef, SECRET};
use super::source::{AT_ONCE, Source};
use super::unavailable::Unavailable;
use crate::pki::{self, Bundle, Certificate, Defect, DefectKind, Reason, Refusal, Remaining, SOON, Verdict};
use crate::plane::{CaSecret, Plane};
use crate::text::visible;

/// The CA that a plane names. Cheap to clone: planes that name the same one share it.
#[derive(Clone, Debug)]
pub struct ClientCa(Arc<Named>);

#[derive(Debug)]
struct Named {
    source: String,
    bundle: Result<Bundle, Unavailable>,
    /// Why the bundle has no certificate that can be read, once that is asked for.
    unusable: OnceLock<Unavailable>,
}

impl ClientCa {
    pub fn new(source: String, bytes: Result<Vec<u8>, Unavailable>) -> Self {
        let text = |bytes| {
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        };
        let bundle = bytes.map(|bytes| text(bytes).into());
        Self(Arc::new(Named { source, bundle, unusable: OnceLock::new() }))
    }

    /// One of which nothing is known.
    pub fn unread(why: Unavailable) -> Self {
        Self::new("unknown".into(), Err(why))
    }

    /// `value`, `secret/NAMESPACE/NAME:KEY`, `none` or `unknown`.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What was read, whether certificates are in it or not.
    pub fn bundle(&self) -> Result<&Bundle, &Unavailable> {
        self.0.bundle.as_ref()
    }

    /// The text as it came.
    pub fn text(&self) -> Result<&str, &Unavailable> {
        self.bundle().map(Bundle::pem)
    }

    /// Its certificates in DER, whether they can be parsed or not; none where it can't be read.
    pub fn ders(&self) -> &[Vec<u8>] {
        self.bundle().map(Bundle::ders).unwrap_or_default()
    }

    /// The certificates that can be parsed; where there is none, the defect that is why.
    pub fn certificates(&self) -> Result<&[Certificate], &Unavailable> {
        let bundle = self.bundle()?;
        if !bundle.certificates().is_empty() {
            return Ok(bundle.certificates());
        }
        Err(self.0.unusable.get_or_init(|| {
            let defects = pki::appraise(bundle, Timestamp::MIN, SOON);
            let defect = defects.iter().find(|defect| defect.kind <= DefectKind::Unparsable);
            Unavailable::invalid(defect.map_or("the CA can't be parsed".to_owned(), ToString::to_string))
        }))
    }

    /// What is wrong with it at a time; nothing, where it can't be had or no certificate can be parsed. `soon` is how long
    /// it has to be valid still.
    pub fn defects(&self, at: Timestamp, soon: Remaining) -> Vec<Defect> {
        match self.bundle() {
            Ok(bundle) if self.certificates().is_ok() => pki::appraise(bundle, at, soon),
            _ => Vec::new(),
        }
    }

    /// The gateway's verdict on what an agent presents, for the plane of this CA.
    pub fn verdict(&self, presented: &[Vec<u8>], at: Timestamp) -> Verdict {
        match self.bundle() {
            Ok(bundle) => bundle.verdict(presented, at),
            // A plane whose CA can't be read is skipped; whether it can be is not known to one who may not look.
            Err(why) if why.is_fault() => {
                let message = format!("the gateway can't read the plane's CA: {why}");
                Verdict::Refused(Refusal { reason: Reason::CaUnreadable, message })
            }
            Err(why) => Verdict::Unknown(format!("the plane's CA can't be read: {why}")),
        }
    }

    /// The first of its certificates to expire.
    pub fn expires(&self) -> Option<Timestamp> {
        self.certificates().ok()?.iter().map(|certificate| certificate.not_after).min()
    }
}

/// Where a plane says that its CA is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CaPlace {
    Value(String),
    Secret(CaSecret),
    Unusable(String, Unavailable),
}

impl CaPlace {
    /// By the plane's spec alone.
    pub fn of(plane: &Plane) -> Self {
        let ca = &plane.spec.cluster_agent.client_ca;
        if let Some(value) = ca.value.as_ref().filter(|value| !value.is_empty()) {
            return Self::Value(value.clone());
        }
        let Some((release, secret)) = &ca.secret_ref else {
            let why = match plane.pruned_secret() {
                None => "the plane names no CA".to_owned(),
                Some(release) => {
                    let (other, field) = (release.other(), release.secret_field());
                    let (span, name) = (other.span(), other.secret_field());
                    format!("the plane has no CA: the CRD of {span} dropped its {field}; write it as {name}")
                }
            };
            return Self::Unusable("none".into(), Unavailable::missing(why));
        };
        let field = release.secret_field();
        // The gateway looks for that of a namespaced plane in the plane's own namespace (plane_client_ca.go).
        let namespace = secret.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.or(plane.metadata.namespace.as_deref());
        let source = format!("secret/{}/{}:{}", namespace.unwrap_or_default(), secret.name, secret.key);
        match source.trim_start_matches("secret/").parse() {
            Ok(secret) => Self::Secret(secret),
            Err(_) if namespace.is_none() => {
                Self::Unusable(source, Unavailable::invalid(format!("its {field} has no namespace")))
            }
            Err(_) => Self::Unusable(source, Unavailable::invalid(format!("its {field} can't name a Secret"))),
        }
    }

    /// The key of a Secret that a plane names; none where its CA is anywhere else.
    pub fn secret(plane: &Plane) -> Option<CaSecret> {
        match Self::of(plane) {
            Self::Secret(secret) => Some(secret),
            Self::Value(_) | Self::Unusable(..) => None,
        }
    }

    async fn read(&self, source: &impl Source) -> ClientCa {
        match self {
            Self::Value(value) => ClientCa::new("value".into(), Ok(value.clone().into_bytes())),
            Self::Unusable(source, why) => ClientCa::new(source.clone(), Err(why.clone())),
            Self::Secret(secret) => {
                let what = ObjectRef::named(SECRET, &secret.secret).with_key(&secret.key);
                let object = source.get(&what).await;
                let bytes = object.and_then(|object| key_of(&object, &secret.key, &what));
                ClientCa::new(format!("secret/{secret}"), bytes)
            }
        }
    }
}

/// What a key of a Secret or ConfigMap holds.
pub fn key_of(object: &Value, key: &str, what: &ObjectRef) -> Result<Vec<u8>, Unavailable> {
    let decoded = |field: &str| STANDARD.decode(object[field][key].as_str()?).ok();
    let bytes = match what.resource {
        CONFIG_MAP => object["data"][key].as_str().map(|text| text.into()).or_else(|| decoded("binaryData")),
        _ => decoded("data"),
    };
    let title = what.title();
    bytes.ok_or_else(|| Unavailable::missing(format!("{title} has no key {}", visible(key))))
}

/// Parses the certificates of CAs on all cores. Each CA is parsed when it is first asked for, and so one after another
/// otherwise.
pub fn parse_all<'c>(cas: impl IntoIterator<Item = &'c ClientCa>) {
    let cas: Vec<_> = cas.into_iter().collect();
    cas.into_par_iter().for_each(|ca| {
        let _ = ca.certificates();
    });
}

/// The CAs of planes, in their order.
pub async fn client_cas(source: &impl Source, planes: &[Plane]) -> Vec<ClientCa> {
    let places: Vec<_> = planes.iter().map(CaPlace::of).collect();
    read_cas(source, places.iter()).await
}

/// The CAs at places, in their order; each place is read once.
pub async fn read_cas<'p>(source: &impl Source, places: impl Iterator<Item = &'p CaPlace>) -> Vec<ClientCa> {
    let (mut distinct, mut numbers) = (Vec::new(), HashMap::new());
    let mut number = |place| {
        *numbers.entry(place).or_insert_with(|| {
            distinct.push(place);
            distinct.len() - 1
        })
    };
    let places: Vec<usize> = places.map(&mut number).collect();
    let read = stream::iter(distinct).map(|place| place.read(source)).buffered(AT_ONCE);
    let read: Vec<_> = read.collect().await;
    places.into_iter().map(|number| read[number].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::estate::Cause;
    use serde_json::json;

    fn plane(client_ca: Value) -> Plane {
        let spec = json!({"planeID": "x", "clusterAgent": {"clientCA": client_ca}});
        serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).unwrap()
    }

    fn secret(name: &str, key: &str) -> Plane {
        plane(json!({"secretRef": {"namespace": "n", "name": name, "key": key}}))
    }

    #[test]
    fn a_plane_says_where_its_ca_is() {
        let place = |client_ca: Value| match CaPlace::of(&plane(client_ca)) {
            CaPlace::Value(text) => text,
            CaPlace::Secret(secret) => secret.to_string(),
            CaPlace::Unusable(source, why) => format!("{source}, {}: {why}", why.cause.word()),
        };
        let named = json!({"namespace": "n", "name": "s", "key": "k"});
        assert_eq!(place(json!({"value": "x", "secretRef": named})), "x", "the gateway reads the value");
        assert_eq!(place(json!({"value": "", "secretRef": named})), "n/s:k");
        assert_eq!(place(json!({})), "none, missing: the plane names no CA");
        let mut pruned = plane(json!({}));
        let fields = json!({"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:secretRef": {".": {}, "f:name": {}}}}}});
        pruned.metadata.managed_fields =
            serde_json::from_value(json!([{"manager": "m", "operation": "Update", "fieldsV1": fields}])).unwrap();
        let CaPlace::Unusable(_, why) = CaPlace::of(&pruned.clone().without_history()) else { panic!("it has none") };
        let why = why.to_string();
        assert!(why.ends_with("the CRD of v1.0 and later dropped its secretRef; write it as secretKeyRef"), "{why}");
        pruned.spec.cluster_agent.client_ca.value = Some("x".into());
        assert!(pruned.pruned_secret().is_none() && pruned.without_history().metadata.managed_fields.is_none());
        let reported = "secret//s:k, invalid: its secretRef has no namespace";
        assert_eq!(place(json!({"secretRef": {"name": "s", "key": "k"}})), reported);
        let reported = "secret/n/S:k, invalid: its secretRef can't name a Secret";
        assert_eq!(place(json!({"secretRef": {"namespace": "n", "name": "S", "key": "k"}})), reported);
    }

    #[tokio::test]
    async fn each_ca_is_read_once_and_shared() {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n", "name": "s"}, "data": {"k": "Y2E="},
        });
        let fake = Fake::of([object]);
        let value = || plane(json!({"value": "inline"}));
        let planes = [secret("s", "k"), value(), secret("s", "k"), value()];
        let cas = client_cas(&fake.cluster(), &planes).await;
        assert_eq!(
            cas.iter().map(ClientCa::text).collect::<Vec<_>>(),
            [Ok("ca"), Ok("inline"), Ok("ca"), Ok("inline")]
        );
        assert_eq!((cas[0].source(), cas[1].source(), fake.asked().len()), ("secret/n/s:k", "value", 1));
        assert!(Arc::ptr_eq(&cas[0].0, &cas[2].0) && Arc::ptr_eq(&cas[1].0, &cas[3].0));
    }

    #[tokio::test]
    async fn a_ca_that_is_not_there_refuses_and_one_that_may_not_be_read_is_unknown() {
        let fake =
            Fake::of([json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n", "name": "s"}})]);
        fake.forbid("GET /api/v1/namespaces/n/secrets/secret");
        let planes = [secret("gone", "k"), secret("s", "k"), secret("secret", "k")];
        let cas = client_cas(&fake.cluster(), &planes).await;
        let reported: Vec<_> = cas.iter().map(|ca| ca.text().unwrap_err().clone()).collect();
        assert_eq!((reported[0].cause, reported[0].message.as_str()), (Cause::Missing, "Secret n/gone does not exist"));
        assert_eq!((reported[1].cause, reported[1].message.as_str()), (Cause::Missing, "Secret n/s has no key k"));
        assert_eq!(reported[2].cause, Cause::Forbidden);
        let verdict = |ca: &ClientCa| ca.verdict(&[], Timestamp::UNIX_EPOCH);
        assert!(matches!(verdict(&cas[0]), Verdict::Refused(refusal) if refusal.reason == Reason::CaUnreadable));
        assert!(matches!(verdict(&cas[2]), Verdict::Unknown(_)));
        assert!(cas[2].certificates().is_err() && cas[2].ders().is_empty() && cas[2].expires().is_none());
    }
}
