//! What a certificate says, as a value.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::pem;
use crate::plane::Span;

/// An X.509 certificate (RFC 5280). Serializes to the fields that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// In hexadecimal, two digits an octet, joined by colons.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Whether the basic constraints make it a CA.
    pub ca: bool,
    /// As `--key-algorithm` names it where it can be made.
    pub key_algorithm: String,
    /// Empty where none is stated.
    pub key_usage: Vec<String>,
    /// Empty where any use is allowed.
    pub ext_key_usage: Vec<String>,
    pub dns_names: Vec<String>,
    /// Fingerprint of the whole certificate, in lower-case hexadecimal.
    pub sha256: String,
    /// Fingerprint of its SubjectPublicKeyInfo.
    pub spki_sha256: String,
    /// Of the subject; the last where it has several.
    #[serde(skip)]
    pub common_name: Option<String>,
    #[serde(skip)]
    pub der: Vec<u8>,
}

/// How much of a certificate's life is left: a length of time, or a share of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remaining {
    Span(Span),
    /// Between 0 and 1.
    Share(f64),
}

impl Remaining {
    /// Whether a moment is within the length of time; a share is of a certificate, and says nothing of a moment.
    pub fn covers(self, until: Timestamp, now: Timestamp) -> bool {
        matches!(self, Self::Span(span) if until < span.after(now))
    }
}

impl std::str::FromStr for Remaining {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Span),
            Some(number) => match number.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Share(percent / 100.0)),
                _ => Err("write a percentage between 0% and 100%".into()),
            },
        }
    }
}

impl std::fmt::Display for Remaining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Span(span) => span.fmt(f),
            Self::Share(share) => write!(f, "{}% of its lifetime", share * 100.0),
        }
    }
}

impl Certificate {
    /// Reads DER; none where it can't be parsed, or its times is unknown.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        // 99991231235959Z, which means no end (RFC 5280, 4.1.2.5), lies a day behind the last moment of a Timestamp.
        let last = Timestamp::MAX.as_second();
        let common_name = parsed.subject().iter_common_name().last();
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp().min(last)).ok();
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            ca: parsed.is_ca(),
            key_algorithm: key_algorithm(parsed.public_key()),
            key_usage: key_usage(&parsed),
            ext_key_usage: ext_key_usage(&parsed),
            dns_names: dns_names(&parsed),
            sha256: fingerprint(der),
            spki_sha256: fingerprint(parsed.public_key().raw),
            common_name: common_name.and_then(|name| name.as_str().ok()).map(str::to_owned),
            der: der.to_vec(),
        })
    }

    /// As one block of PEM.
    pub fn to_pem(&self) -> String {
        pem::certificate_pem(&self.der)
    }

    /// The certificates in a PEM text that can be parsed; other things beside them are passed over.
    pub fn all_in(text: &str) -> Vec<Self> {
        pem::certificates(text).iter().filter_map(|der| Self::from_der(der)).collect()
    }

    /// The share of the lifetime that has passed: 0 at its beginning, 1 at its end and after it.
    pub fn lifetime_used(&self, now: Timestamp) -> f64 {
        let whole = self.not_after.duration_since(self.not_before).as_secs_f64();
        let passed = now.duration_since(self.not_before).as_secs_f64();
        if whole <= 0.0 { 1.0 } else { (passed / whole).clamp(0.0, 1.0) }
    }

    /// Whether it has ended, or does within what is asked for.
    pub fn expires_within(&self, remaining: Remaining, now: Timestamp) -> bool {
        match remaining {
            Remaining::Span(span) => self.not_after < span.after(now),
            Remaining::Share(share) => self.lifetime_used(now) > 1.0 - share || self.not_after < now,
        }
    }

    /// When the chart's cert-manager renews it: 360 h before its end (release v0.17, section `clusterAgent.tls`). For one
    /// that is not valid that long, after two thirds of its lifetime, which is cert-manager's default.
    pub fn chart_renewal(&self) -> Timestamp {
        let planned = self.not_after.checked_sub(SignedDuration::from_hours(360)).unwrap_or(self.not_after);
        if planned > self.not_before {
            return planned;
        }
        self.not_before + self.not_after.duration_since(self.not_before) / 3 * 2
    }

    /// Whether subject and issuer are the same, as a self-signed certificate has it.
    pub fn self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `--key-algorithm` names it where it can be made.
pub(super) fn key_algorithm(info: &SubjectPublicKeyInfo<'_>) -> String {
    let parameters = info.algorithm.parameters.as_ref();
    let curve = parameters.and_then(|parameters| parameters.as_oid().ok()).map(|oid| oid.to_id_string());
    match info.parsed() {
        // The modulus may begin with a zero octet, which the size counts.
        Ok(PublicKey::RSA(key)) => format!("rsa-{}", modulus_bits(key.modulus)),
        Ok(PublicKey::EC(_)) => match curve.as_deref() {
            Some("1.2.840.10045.3.1.7") => "ecdsa-p256".into(),
            Some("1.3.132.0.34") => "ecdsa-p384".into(),
            Some("1.3.132.0.35") => "ecdsa-p521".into(),
            Some("1.3.132.0.33") => "ecdsa-p224".into(),
            _ => "ecdsa".into(),
        },
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => "ed25519".into(),
        _ => info.algorithm.algorithm.to_id_string(),
    }
}

fn modulus_bits(modulus: &[u8]) -> usize {
    let significant = modulus.iter().skip_while(|byte| **byte == 0).collect::<Vec<_>>();
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// Key usages by their bits (RFC 5280, 4.2.1.3).
pub(super) const KEY_USAGES: [&str; 7] = [
    "digitalSignature",
    "contentCommitment",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
];

fn key_usage(certificate: &X509Certificate<'_>) -> Vec<String> {
    let flags = certificate.key_usage().ok().flatten().map_or(0, |usage| usage.value.flags);
    let set = KEY_USAGES.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| (*name).to_owned()).collect()
}

impl Certificate {
    /// Whether its extended key usage allows client authentication; without one everything is allowed.
    pub fn allows_clients(&self) -> bool {
        self.ext_key_usage.is_empty() || self.ext_key_usage.iter().any(|name| name == "clientAuth" || name == "any")
    }
}

fn ext_key_usage(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let usage = usage.value;
    let known = [
        (usage.any, "any"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "ocspSigning"),
    ];
    let named = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    named.chain(usage.other.iter().map(|oid| oid.to_id_string())).collect()
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    alternative.flatten().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{self, Authority, KeyAlgorithm, PrivateKey, ca, client};

    #[test]
    fn what_was_made_is_read() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let year = Span::from_seconds(365 * 86_400);
        for algorithm in
            [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048]
        {
            let root = ca("A CA", algorithm, year, now).unwrap();
            let parsed = Certificate::from_der(&pki::certificates(&root.certificate)[0]).unwrap();
            assert_eq!(
                (parsed.subject.as_str(), parsed.ca, parsed.key_algorithm.as_str()),
                ("O=OpenChoreo, CN=A CA", true, algorithm.name().as_str())
            );
            let authority = Authority::from_pem(&root.certificate, &root.key.to_pem(), now).unwrap();
            let leaf = client("builder", &authority, PrivateKey::generate(algorithm).unwrap(), year, now).unwrap();
            let parsed = Certificate::from_der(&pki::certificates(&leaf.pair.certificate)[0]).unwrap();
            assert_eq!(parsed.subject, "O=OpenChoreo, CN=builder");
            assert_eq!(parsed.ext_key_usage, ["clientAuth"]);
            assert!(!parsed.ca && parsed.lifetime_used(now) < 0.01);
            assert!(parsed.expires_within("400d".parse().unwrap(), now));
            assert!(!parsed.expires_within("300d".parse().unwrap(), now));
            assert!(
                parsed.expires_within("100%".parse().unwrap(), now)
                    && !parsed.expires_within("33%".parse().unwrap(), now)
            );
        }
    }

    #[test]
    fn shares_and_spans_are_distinguished() {
        assert_eq!("30d".parse(), Ok(Remaining::Span(Span::from_seconds(30 * 86_400))));
        assert_eq!("33%".parse(), Ok(Remaining::Share(0.33)));
        for wrong in ["", "101%", "-1%", "%", "nan%", "30"] {
            assert!(wrong.parse::<Remaining>().is_err(), "{wrong}");
        }
    }
}
