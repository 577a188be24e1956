//! What a plane is made of on the command line: its CA, and what its spec says beside it.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::{Args, ValueHint};

use crate::manifest::{self, Input};
use crate::pki::{Bundle, BundleError};
use crate::plane::{
    CaSecret, DESCRIPTION, DISPLAY_NAME, Field, Kind, OBSERVABILITY_KIND, ObservabilityPlaneRef, Plane, PlaneKey,
    SecretStoreRef, is_dns_label, is_label_value, is_qualified_name,
};
use crate::text::visible;

/// Where the CA of a plane comes from.
#[derive(Args, Clone, Debug)]
pub struct CaArgs {
    /// File with the CA's certificates, in PEM, DER or base64; - for standard input (can be repeated)
    #[arg(long = "client-ca-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub client_ca_files: Vec<Input>,

    /// Secret in the control plane with the CA's certificates [default: key ca.crt]
    #[arg(long, value_name = "NAMESPACE/NAME[:KEY]", conflicts_with = "client_ca_files")]
    pub client_ca_secret: Option<CaSecret>,
}

/// What a plane says beside its CA.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecArgs {
    /// planeID of the plane and its agent [default: the plane's name]
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    pub plane_id: Option<String>,

    /// ClusterSecretStore in the plane's cluster
    #[arg(long, value_name = "NAME")]
    secret_store: Option<String>,

    /// Observability plane that receives the plane's logs
    #[arg(long, value_name = "[KIND/]NAME")]
    observability_plane: Option<ObservabilityName>,

    /// URL of the Observer, OpenChoreo's API for logs and metrics: required for observability planes only
    #[arg(long, value_name = "URL")]
    observer_url: Option<String>,

    /// Display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,

    /// Description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Label to set (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,

    /// Annotation to set (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
}

/// An observability plane, as `NAME` or `KIND/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ObservabilityName {
    kind: Option<&'static Kind>,
    name: String,
}

impl FromStr for ObservabilityName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((word, name)) => {
                let kind = Kind::of_word(word).filter(|kind| kind.has(Field::Observer));
                (Some(kind.ok_or("the kind before the `/` is that of an observability plane")?), name)
            }
        };
        Ok(Self { kind, name: plane_id(name)? })
    }
}

/// A flag that a kind of planes has no use for, or lacks.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("the kind {kind} has no {field}: omit {flag}")]
    NoField { kind: &'static str, field: &'static str, flag: &'static str },
    #[error("the kind {kind} requires an observerURL: name it with --observer-url")]
    NoObserver { kind: &'static str },
    #[error("the kind {kind} can't refer to the kind {other}")]
    OtherScope { kind: &'static str, other: &'static str },
}

impl SpecArgs {
    /// Whether a kind needs an Observer's URL that is not given.
    pub fn lacks_observer(&self, kind: &Kind) -> bool {
        kind.has(Field::Observer) && self.observer_url.is_none()
    }

    /// Takes the Observer's URL that was asked for.
    pub fn set_observer(&mut self, url: String) {
        self.observer_url = Some(url);
    }

    /// The plane without a CA. planeID is always written.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn plane(&self, key: &PlaneKey) -> Result<Plane, SpecError> {
        let kind = key.kind;
        let fields = [
            (self.secret_store.is_some(), Field::SecretStore, "secretStoreRef", "--secret-store"),
            (
                self.observability_plane.is_some(),
                Field::ObservabilityPlane,
                "observabilityPlaneRef",
                "--observability-plane",
            ),
            (self.observer_url.is_some(), Field::Observer, "observerURL", "--observer-url"),
        ];
        if let Some((_, _, field, flag)) = fields.into_iter().find(|(given, field, ..)| *given && !kind.has(*field)) {
            return Err(SpecError::NoField { kind: kind.kind, field, flag });
        }
        let mut plane = Plane::new(kind, &key.name);
        plane.metadata.namespace.clone_from(&key.namespace);
        plane.metadata.labels = some(self.labels.iter().cloned().collect());
        let words = [(DISPLAY_NAME, &self.display_name), (DESCRIPTION, &self.description)];
        let words = words.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text.clone()?)));
        plane.metadata.annotations = some(self.annotations.iter().cloned().chain(words).collect());
        plane.spec.plane_id = Some(self.plane_id.clone().unwrap_or_else(|| key.name.clone()));
        plane.spec.secret_store_ref = self.secret_store.clone().map(|name| SecretStoreRef { name });
        if let Some(ObservabilityName { kind: named, name }) = self.observability_plane.clone() {
            let kinds = kind.observability_kinds();
            let of = named.map_or(OBSERVABILITY_KIND, |named| named.kind);
            if !kinds.contains(&of) {
                return Err(SpecError::OtherScope { kind: kind.kind, other: of });
            }
            plane.spec.observability_plane_ref = Some(ObservabilityPlaneRef::Object { kind: Some(of.into()), name });
        }
        match &self.observer_url {
            Some(url) => drop(plane.spec.other.insert("observerURL".into(), url.as_str().into())),
            None if kind.has(Field::Observer) => return Err(SpecError::NoObserver { kind: kind.kind }),
            None => {}
        }
        Ok(plane)
    }
}

fn some<K: Ord, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}

/// What was given as a CA is none that a plane can have.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", visible(.file))]
pub struct NotCa {
    pub file: String,
    pub source: BundleError,
}

impl NotCa {
    pub fn hint(&self) -> Option<String> {
        Some(match self.source {
            BundleError::PrivateKey => "use only the CA's certificate (ca.crt): a key must never be in a plane".into(),
            _ => "certificates can be in PEM, in DER, or in base64 of either".into(),
        })
    }
}

/// The CA certificates in files, as raw PEM without doubles.
pub fn read_cas(files: &[Input]) -> anyhow::Result<String> {
    let parts = files.iter().map(read_ca).collect::<anyhow::Result<Vec<_>>>()?;
    let bundle = Bundle::normalized(parts.concat().as_bytes());
    Ok(bundle.map_err(|source| NotCa { file: "the CA".into(), source })?.pem().to_owned())
}

pub fn read_ca(file: &Input) -> anyhow::Result<String> {
    let bytes = manifest::read_bytes(file)?;
    let bundle = Bundle::normalized(&bytes).map_err(|source| NotCa { file: file.to_string(), source })?;
    Ok(bundle.pem().to_owned())
}

pub fn plane_id(text: &str) -> Result<String, String> {
    let fits = is_dns_label(text).then(|| text.to_owned());
    fits.ok_or_else(|| "at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends".into())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_qualified_name(key) && is_label_value(value) => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE, of letters, digits, `-`, `_` and `.`".into()),
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_qualified_name(&key.to_lowercase()) => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE, the key of letters, digits, `-`, `_` and `.`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{files, parse};
    use crate::pki;
    use crate::plane::{KINDS, Scope};
    use serde_json::json;

    fn key(kind: &str) -> PlaneKey {
        let kind = Kind::of_word(kind).unwrap();
        let namespace = (kind.scope == Scope::Namespaced).then(|| "n".to_owned());
        PlaneKey { kind, namespace, name: "a".into() }
    }

    #[test]
    fn a_plane_says_its_plane_id_and_only_what_was_given() {
        let plane = parse::<SpecArgs>(&[]).unwrap().plane(&key("cbp")).unwrap();
        assert_eq!((plane.name(), plane.spec.plane_id.as_deref()), ("a", Some("a")));
        assert!(plane.metadata.labels.is_none() && plane.metadata.annotations.is_none());
        let words = ["--plane-id", "x", "-l", "k=v,l=w", "--display-name", "A", "--annotations", "n/m=1"];
        let plane = parse::<SpecArgs>(&words).unwrap().plane(&key("cbp")).unwrap();
        assert_eq!(plane.spec.plane_id.as_deref(), Some("x"));
        assert_eq!(plane.labels().len(), 2);
        let annotations = plane.metadata.annotations.unwrap();
        assert_eq!((annotations[DISPLAY_NAME].as_str(), annotations["n/m"].as_str()), ("A", "1"));
    }

    #[test]
    fn each_kind_takes_the_flags_of_its_own_fields() {
        let spec = |kind: &str, words: &[&str]| {
            let plane = parse::<SpecArgs>(words).unwrap().plane(&key(kind)).map_err(|error| error.to_string())?;
            let object = plane.manifest();
            Ok::<_, String>((object["metadata"]["namespace"].clone(), object["spec"].clone()))
        };
        let (store, url) = (["--secret-store", "s"], ["--observer-url", "https://o"]);
        let to = |name: &'static str| ["--observability-plane", name];
        let referring = |kind: &str, name: &'static str| {
            spec(kind, &to(name)).map(|(_, spec)| spec["observabilityPlaneRef"].clone())
        };
        let reference = |kind: &str| json!({"kind": kind, "name": "o"});
        for kind in KINDS {
            let (word, is_observability) = (kind.word(), kind.has(Field::Observer));
            let (own, none) = if is_observability { (&url, &store) } else { (&store, &url) };
            let (namespace, own) = spec(&word, own).unwrap();
            assert_eq!(namespace.is_string(), kind.scope == Scope::Namespaced, "{word}");
            let (field, value) = if is_observability {
                ("observerURL", json!("https://o"))
            } else {
                ("secretStoreRef", json!({"name": "s"}))
            };
            assert_eq!(own[field], value, "{word}");
            let refused = spec(&word, none).unwrap_err();
            assert!(refused.starts_with(&format!("the kind {} has no ", kind.kind)), "{refused}");
            assert!(refused.ends_with(&format!("omit {}", none[0])), "{refused}");
            if is_observability {
                assert!(spec(&word, &[]).unwrap_err().ends_with("name it with --observer-url"), "{word}");
                assert!(referring(&word, "o").unwrap_err().contains("has no observabilityPlaneRef"), "{word}");
                continue;
            }
            assert_eq!(referring(&word, "o"), Ok(reference("ClusterObservabilityPlane")), "{word}");
            assert_eq!(referring(&word, "cop/o"), Ok(reference("ClusterObservabilityPlane")), "{word}");
            let own = referring(&word, "observabilityplane/o");
            match kind.scope {
                Scope::Namespaced => assert_eq!(own, Ok(reference("ObservabilityPlane")), "{word}"),
                Scope::Cluster => {
                    assert_eq!(
                        own,
                        Err(format!("the kind {} can't refer to the kind ObservabilityPlane", kind.kind)),
                        "{word}"
                    );
                }
            }
        }
        for name in ["dp/o", "pod/o", "cop/O", "cop/"] {
            assert!(parse::<SpecArgs>(&to(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused_at_once() {
        for (flag, value, why) in [
            ("--plane-id", "A", "lower-case letters"),
            ("--labels", "k", "write KEY=VALUE"),
            ("--labels", "k=a b", "write KEY=VALUE"),
            ("--annotations", "k v=1", "write KEY=VALUE"),
            ("--client-ca-secret", "name", "NAMESPACE/NAME"),
        ] {
            let error = match flag {
                "--client-ca-secret" => parse::<CaArgs>(&[flag, value]).unwrap_err(),
                _ => parse::<SpecArgs>(&[flag, value]).unwrap_err(),
            };
            assert!(error.contains(why), "{flag} {value}: {error}");
        }
    }

    #[test]
    fn a_ca_is_read_without_doubles_and_a_key_is_none() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let ca = pki::ca("a", pki::KeyAlgorithm::EcdsaP256, "1y".parse().unwrap(), now).unwrap();
        let key = ca.key.to_pem();
        let (_folder, inputs) = files(&[("ca.crt", &ca.certificate), ("ca.key", key.as_str()), ("text", "x")]);
        assert_eq!(read_cas(&[inputs[0].clone(), inputs[0].clone()]).unwrap(), ca.certificate);
        for (input, hint) in
            [(&inputs[1], "a key must never be in a plane"), (&inputs[2], "in PEM, in DER, or in base64")]
        {
            let error = read_ca(input).unwrap_err();
            assert!(error.downcast_ref::<NotCa>().unwrap().hint().unwrap().contains(hint), "{error}");
        }
    }
}
