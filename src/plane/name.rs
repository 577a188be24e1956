//! Names of objects as the API server takes them, and the forms in which users type them.

use std::fmt;
use std::str::FromStr;

use super::kind::{DEFAULT_KIND, Family};

/// The key of a Secret that holds a CA, unless said otherwise.
pub const CA_KEY: &str = "ca.crt";

/// RFC 1123 label: lower-case letters, digits and hyphens, at most 63, not a hyphen at either end.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 in all; each part has no length limit of its own
/// (`k8s.io/apimachinery` `IsDNS1123Subdomain`).
pub fn is_dns_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// The part of a label or annotation key behind the `/`, and a label's value when not empty.
fn is_name_part(text: &str) -> bool {
    let outer = |b: u8| b.is_ascii_alphanumeric();
    let inner = |b: u8| outer(b) || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes.first().copied().is_some_and(outer)
        && bytes.last().copied().is_some_and(outer)
        && bytes.iter().copied().all(inner)
}

/// The key of a label or an annotation: `[prefix/]name`.
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name_part(name),
        None => is_name_part(text),
    }
}

/// The value of a label; may be empty.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// An object in a namespace, as `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    pub namespace: String,
    pub name: String,
}

impl FromStr for NamespacedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_dns_label(namespace) && is_dns_subdomain(name) => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err("write NAMESPACE/NAME".into()),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The Secret beside the agent that holds what a rotation of a planeID's CA made, until it is finished. Agents of several
/// families may share a namespace and a planeID.
pub fn rotation_secret(namespace: &str, family: &Family, plane_id: &str) -> NamespacedName {
    let family = if family == DEFAULT_KIND.family { String::new() } else { format!("{}-", family.plane_type) };
    NamespacedName { namespace: namespace.to_owned(), name: format!("choreoctl-rotation-{family}{plane_id}") }
}

/// A CA in a Secret, as `NAMESPACE/NAME[:KEY]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaSecret {
    pub secret: NamespacedName,
    pub key: String,
}

impl FromStr for CaSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secret, key) = text.split_once(':').unwrap_or((text, CA_KEY));
        let secret = secret.parse().map_err(|_| "write NAMESPACE/NAME or NAMESPACE/NAME:KEY")?;
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > 253 || !key.bytes().all(inner) {
            return Err("the key has letters, digits, `-`, `_` and `.` only".into());
        }
        Ok(Self { secret, key: key.into() })
    }
}

impl fmt::Display for CaSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.secret, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Kind;

    #[test]
    fn a_rotation_s_secret_is_its_family_s_own() {
        let names =
            ["cbp", "cwp", "dp"].map(|word| rotation_secret("n", Kind::of_word(word).unwrap().family, "id").name);
        let expected =
            ["choreoctl-rotation-id", "choreoctl-rotation-workflowplane-id", "choreoctl-rotation-dataplane-id"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_secret_key_defaults() {
        let secret: CaSecret = "ns/ca".parse().unwrap();
        assert_eq!(secret.to_string(), "ns/ca:ca.crt");
        assert_eq!("ns/ca:tls.crt".parse::<CaSecret>().unwrap().key, "tls.crt");
        for text in ["ca", "ns/ca:", "ns/ca:a b", "/ca", "a.b/ca"] {
            assert!(text.parse::<CaSecret>().is_err(), "{text}");
        }
    }

    #[test]
    fn label_syntax() {
        assert!(is_qualified_name("example.com/a_b.C"));
        assert!(!is_qualified_name("a/b/c") && !is_qualified_name("/a") && !is_qualified_name("-a"));
        assert!(
            is_label_value("") && is_label_value("a") && !is_label_value("a b") && !is_label_value(&"a".repeat(64))
        );
    }
}
