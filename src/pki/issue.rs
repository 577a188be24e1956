//! Making certificates: a CA, and the client certificate of an agent under it.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use x509_parser::prelude::X509Certificate;

use super::authority::{Authority, AuthorityError, PemPair, belong_together};
use super::certificate::{Certificate, KEY_USAGES};
use super::gox509::{Curve, Key};
use super::key::{KeyAlgorithm, KeyError, PrivateKey};
use super::pem;
use super::request::{Request, RequestError};
use crate::plane::Span;
use crate::text::hidden;

/// The organization in every subject, as OpenChoreo's own chart writes it.
const ORGANIZATION: &str = "OpenChoreo";
/// How long before now a certificate begins, so that a clock that is a little behind accepts it.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// Longest common name (RFC 5280, upper bound `ub-common-name`).
const COMMON_NAME_LIMIT: usize = 64;

/// A certificate and its key.
pub struct Pair {
    /// In PEM.
    pub certificate: String,
    pub key: PrivateKey,
    pub not_after: Timestamp,
}

impl From<Pair> for PemPair {
    fn from(pair: Pair) -> Self {
        Self { key: pair.key.to_pem(), certificate: pair.certificate }
    }
}

/// A client certificate, and whether it ends sooner than was asked because its CA does.
pub struct Issued {
    pub pair: Pair,
    pub shortened: bool,
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("a common name has 1 to {COMMON_NAME_LIMIT} characters, and no control characters")]
    CommonName,
    #[error("the certificate would expire immediately, or after the year 9999")]
    ValidFor,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the CA's subject can't be written into a certificate unchanged: it repeats an attribute")]
    Subject,
    #[error("the certificate's subject can't be written into another one unchanged: it repeats an attribute")]
    OldSubject,
    #[error("could not sign the request: {0}")]
    Request(#[from] RequestError),
    #[error("could not sign the request: its key can't be written into a certificate unchanged")]
    RequestKey,
    #[error("the certificate could not be signed: {0}")]
    Sign(String),
}

impl IssueError {
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Key(error) => return error.hint(),
            Self::Authority(error) => return error.hint(),
            Self::Subject => {
                "use a CA whose subject has each of CN, O and OU at most once: `choreoctl certs ca --out-dir DIR`"
                    .into()
            }
            Self::Request(error) => error.hint(),
            Self::RequestKey => {
                "make key and request with `choreoctl certs request --plane-id ID --out-dir DIR`".into()
            }
            Self::OldSubject => "make a new one with `choreoctl certs client --plane-id ID`".into(),
            Self::CommonName | Self::ValidFor | Self::Sign(_) => return None,
        })
    }
}

/// A self-signed CA: critical basic constraints with path length 0, keyCertSign and cRLSign, a subject key identifier.
pub fn ca(name: &str, algorithm: KeyAlgorithm, valid_for: Span, now: Timestamp) -> Result<Pair, IssueError> {
    let key = PrivateKey::generate(algorithm)?;
    let mut params = named(subject(name)?);
    let not_after = end(valid_for, now)?;
    validity(&mut params, now, not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(key.pair()).map_err(|error| IssueError::Sign(error.to_string()))?;
    Ok(Pair { certificate: pem::certificate_pem(certificate.der()), key, not_after })
}

/// An agent's client certificate: CN = planeID, clientAuth, digitalSignature; not valid outside its CA's validity.
pub fn client(
    plane_id: &str,
    authority: &Authority,
    key: PrivateKey,
    valid_for: Span,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let (certificate, not_after, shortened) = leaf(agent(plane_id)?, authority, key.pair(), valid_for, now)?;
    Ok(Issued { pair: Pair { certificate, key, not_after }, shortened })
}

/// The next one of an agent's certificates: its subject, usages and DNS names, under the same CA, for a new key.
pub fn renewed(
    old: &Certificate,
    authority: &Authority,
    key: PrivateKey,
    valid_for: Span,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let parsed = parsed(&old.der)?;
    let mut params = named(DistinguishedName::new());
    for attribute in parsed.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().map(Iterator::collect).unwrap_or_default();
        let text = attribute.as_str().map_err(|_| IssueError::Subject)?;
        let printable = attribute.attr_value().tag() == x509_parser::der_parser::asn1_rs::Tag::PrintableString;
        let value = match text.try_into() {
            Ok(text) if printable => DnValue::PrintableString(text),
            _ => DnValue::Utf8String(text.to_owned()),
        };
        params.distinguished_name.push(DnType::from_oid(&oid), value);
    }
    let usages = KEY_USAGES.iter().zip(PURPOSES).filter(|(name, _)| old.key_usage.iter().any(|usage| usage == *name));
    params.key_usages = usages.map(|(_, purpose)| purpose).collect();
    params.extended_key_usages = old.ext_key_usage.iter().filter_map(|name| ext_key_usage(name)).collect();
    if !old.allows_clients() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    for name in &old.dns_names {
        let name = name.as_str().try_into().map_err(|error: rcgen::Error| IssueError::Sign(error.to_string()))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let (certificate, not_after, shortened) = leaf(params, authority, key.pair(), valid_for, now)?;
    let der = pem::certificates(&certificate).into_iter().next().unwrap_or_default();
    if !self::parsed(&der).is_ok_and(|new| new.subject().as_raw() == parsed.subject().as_raw()) {
        return Err(IssueError::OldSubject);
    }
    Ok(Issued { pair: Pair { certificate, key, not_after }, shortened })
}

/// A renewed certificate with the rest of the chain that the old one was presented with.
pub fn with_chain(certificate: &str, presented: &[Vec<u8>]) -> String {
    let rest = presented.iter().skip(1).map(|der| pem::certificate_pem(der));
    std::iter::once(certificate.to_owned()).chain(rest).collect()
}

/// For how long a certificate was made, so that the next one lasts as long.
pub fn lifetime(certificate: &Certificate) -> Span {
    let whole = certificate.not_after.duration_since(certificate.not_before);
    let asked = if whole > BACKDATED { whole - BACKDATED } else { whole };
    Span::from_seconds(u64::try_from(asked.as_secs()).unwrap_or_default())
}

/// The usages that a client certificate can have, in the order of [`KEY_USAGES`].
const PURPOSES: [KeyUsagePurpose; 5] = [
    KeyUsagePurpose::DigitalSignature,
    KeyUsagePurpose::ContentCommitment,
    KeyUsagePurpose::KeyEncipherment,
    KeyUsagePurpose::DataEncipherment,
    KeyUsagePurpose::KeyAgreement,
];

fn ext_key_usage(name: &str) -> Option<ExtendedKeyUsagePurpose> {
    use ExtendedKeyUsagePurpose as Purpose;
    Some(match name {
        "any" => Purpose::Any,
        "serverAuth" => Purpose::ServerAuth,
        "clientAuth" => Purpose::ClientAuth,
        "codeSigning" => Purpose::CodeSigning,
        "emailProtection" => Purpose::EmailProtection,
        "timeStamping" => Purpose::TimeStamping,
        "ocspSigning" => Purpose::OcspSigning,
        oid => Purpose::Other(oid.split('.').map(str::parse).collect::<Result<_, _>>().ok()?),
    })
}

/// A certificate signing request (PKCS#10, RFC 2986) in PEM, where the key must not travel.
pub fn request(plane_id: &str, key: &PrivateKey) -> Result<String, IssueError> {
    let params = named(subject(plane_id)?);
    let request = params.serialize_request(key.pair()).and_then(|request| request.pem());
    request.map_err(|error| IssueError::Sign(error.to_string()))
}

/// What was signed for a request.
pub struct Signed {
    /// In PEM.
    pub certificate: String,
    pub plane_id: String,
    pub not_after: Timestamp,
    /// Whether it ends sooner than was asked because its CA does.
    pub shortened: bool,
}

/// An agent's client certificate for the key of a request, whose signature shows that the asker has it. Of what else is
/// asked for only the common name counts, as the planeID.
pub fn sign(request: &str, authority: &Authority, valid_for: Span, now: Timestamp) -> Result<Signed, IssueError> {
    let asked = Request::from_pem(request)?;
    let plane_id = asked.common_name.clone().ok_or(IssueError::CommonName)?;
    let key = RequestKey { algorithm: algorithm(&asked.key).ok_or(IssueError::RequestKey)?, bits: &asked.public_key };
    let (certificate, not_after, shortened) = leaf(agent(&plane_id)?, authority, &key, valid_for, now)?;
    let made = pem::certificates(&certificate);
    // rcgen writes the key's algorithm anew.
    if !made.iter().all(|der| belong_together(der, &asked.info)) {
        return Err(IssueError::RequestKey);
    }
    Ok(Signed { certificate, plane_id, not_after, shortened })
}

/// A request's key, for rcgen.
struct RequestKey<'r> {
    algorithm: &'static SignatureAlgorithm,
    bits: &'r [u8],
}

impl PublicKeyData for RequestKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// One of the algorithms that a kind of key signs with, from which rcgen knows the kind.
fn algorithm(key: &Key) -> Option<&'static SignatureAlgorithm> {
    Some(match key {
        Key::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        Key::Ecdsa(Curve::P256) => &rcgen::PKCS_ECDSA_P256_SHA256,
        Key::Ecdsa(Curve::P384) => &rcgen::PKCS_ECDSA_P384_SHA384,
        Key::Ecdsa(Curve::P521) => &rcgen::PKCS_ECDSA_P521_SHA512,
        Key::Ed25519 => &rcgen::PKCS_ED25519,
        Key::Ecdsa(Curve::P224) | Key::Dsa | Key::Other => return None,
    })
}

/// What an agent's certificate says, but for its validity.
fn agent(plane_id: &str) -> Result<CertificateParams, IssueError> {
    let mut params = named(subject(plane_id)?);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// A leaf in PEM, when it ends, and whether that is sooner than was asked for.
fn leaf(
    mut params: CertificateParams,
    authority: &Authority,
    key: &impl PublicKeyData,
    valid_for: Span,
    now: Timestamp,
) -> Result<(String, Timestamp, bool), IssueError> {
    let asked = end(valid_for, now)?;
    let not_after = asked.min(authority.certificate.not_after);
    validity(&mut params, now, not_after)?;
    params.not_before = params.not_before.max(instant(authority.certificate.not_before)?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let issuer = authority.issuer()?;
    let certificate = params.signed_by(key, &issuer).map_err(|error| IssueError::Sign(error.to_string()))?;
    verify(certificate.der(), &authority.certificate.der)?;
    Ok((pem::certificate_pem(certificate.der()), not_after, not_after < asked))
}

/// The names are compared byte by byte when a chain is verified, and rcgen builds the issuer's anew: so look.
fn verify(leaf: &[u8], ca: &[u8]) -> Result<(), IssueError> {
    let is_same = parsed(leaf)?.issuer().as_raw() == parsed(ca)?.subject().as_raw();
    if is_same { Ok(()) } else { Err(IssueError::Subject) }
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, IssueError> {
    let parsed = x509_parser::parse_x509_certificate(der);
    parsed.map(|(_, parsed)| parsed).map_err(|error| IssueError::Sign(error.to_string()))
}

fn named(subject: DistinguishedName) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params
}

/// From a little before now to an end, under a serial number of its own.
fn validity(params: &mut CertificateParams, now: Timestamp, not_after: Timestamp) -> Result<(), IssueError> {
    params.serial_number = Some(serial()?);
    params.not_before = instant(now.checked_sub(BACKDATED).unwrap_or(now))?;
    params.not_after = instant(not_after)?;
    Ok(())
}

fn subject(common_name: &str) -> Result<DistinguishedName, IssueError> {
    if common_name.is_empty() || common_name.chars().count() > COMMON_NAME_LIMIT || common_name.contains(hidden) {
        return Err(IssueError::CommonName);
    }
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, ORGANIZATION);
    subject.push(DnType::CommonName, common_name);
    Ok(subject)
}

/// 16 random octets, positive and not zero (RFC 5280, 4.1.2.2: at most 20).
fn serial() -> Result<SerialNumber, IssueError> {
    let mut octets = [0; 16];
    SystemRandom::new().fill(&mut octets).map_err(|_| KeyError::Generate)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&octets))
}

fn end(valid_for: Span, now: Timestamp) -> Result<Timestamp, IssueError> {
    let end = valid_for.after(now);
    if valid_for.seconds() == 0 || end == Timestamp::MAX { Err(IssueError::ValidFor) } else { Ok(end) }
}

/// In whole seconds, which is what a certificate can hold.
fn instant(time: Timestamp) -> Result<time::OffsetDateTime, IssueError> {
    time::OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| IssueError::ValidFor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Certificate;
    use rcgen::KeyPair;

    const DAY: u64 = 86_400;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn authority(name: &str, days: u64) -> (Pair, Authority) {
        let pair = ca(name, KeyAlgorithm::EcdsaP256, Span::from_seconds(days * DAY), now()).unwrap();
        let authority = Authority::from_pem(&pair.certificate, &pair.key.to_pem(), now()).unwrap();
        (pair, authority)
    }

    fn der(pair: &Pair) -> Vec<u8> {
        pem::certificates(&pair.certificate).remove(0)
    }

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
    }

    #[test]
    fn a_ca_has_what_a_verifier_asks_for() {
        let (pair, _) = authority("A", 10);
        let der = der(&pair);
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint == Some(0));
        assert!(parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
        assert!(
            parsed.extensions().iter().any(|e| e.oid == x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER)
        );
        assert!(parsed.verify_signature(None).is_ok());
    }

    #[test]
    fn a_renewed_certificate_is_for_client_authentication() {
        use ExtendedKeyUsagePurpose::{Any, ServerAuth};
        let (_, authority) = authority("A", 10);
        for (usages, expected) in
            [(vec![ServerAuth], vec!["serverAuth", "clientAuth"]), (vec![Any], vec!["any"]), (vec![], vec![])]
        {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "builder");
            params.extended_key_usages = usages;
            let old = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let old = Certificate::from_der(old.der()).unwrap();
            let new = renewed(&old, &authority, key(), Span::from_seconds(DAY), now()).unwrap().pair;
            assert_eq!(Certificate::from_der(&der(&new)).unwrap().ext_key_usage, expected);
        }
    }

    #[test]
    fn a_request_is_signed_for_its_key_and_nothing_else_of_it() {
        let (_, authority) = authority("A", 10);
        let key = key();
        let asked = request("builder", &key).unwrap();
        let signed = sign(&asked, &authority, Span::from_seconds(DAY), now()).unwrap();
        let leaf = Certificate::from_der(&pem::certificates(&signed.certificate)[0]).unwrap();
        assert_eq!(
            (signed.plane_id.as_str(), leaf.ext_key_usage, leaf.ca),
            ("builder", vec!["clientAuth".to_owned()], false)
        );
        assert!(crate::pki::belong_together(&leaf.der, &key.public_key_info()));
        // Another name than the one that was signed.
        let body: String = asked.lines().filter(|line| !line.starts_with('-')).collect();
        let mut der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
        let at = der.windows(7).position(|window| window == b"builder").unwrap();
        der[at] = b'x';
        let refused = |request: &str| match sign(request, &authority, Span::from_seconds(DAY), now()) {
            Err(IssueError::Request(error)) => error,
            other => panic!("{:?}", other.map(|signed| signed.certificate)),
        };
        assert_eq!(refused(&pem::encode("CERTIFICATE REQUEST", &der)), RequestError::Signature);
        assert_eq!([refused(""), refused(&signed.certificate)], [RequestError::Missing, RequestError::Missing]);
        assert_eq!(refused(&format!("{asked}{asked}")), RequestError::Several(2));
        assert_eq!(
            refused(&pem::encode("CERTIFICATE REQUEST", b"0\x03abc")),
            RequestError::Malformed("its structure is broken")
        );
    }

    #[test]
    fn what_a_request_asks_for_besides_does_not_keep_it_from_being_signed() {
        let (_, authority) = authority("A", 10);
        let request = |key: &KeyPair, change: fn(&mut CertificateParams)| {
            let mut params = named(subject("builder").unwrap());
            change(&mut params);
            params.serialize_request(key).unwrap().pem().unwrap()
        };
        fn constrained(params: &mut CertificateParams) {
            // Permitted: the DNS name x.
            let mut names = rcgen::CustomExtension::from_oid_content(
                &[2, 5, 29, 30],
                vec![0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, b'x'],
            );
            names.set_criticality(true);
            let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions = vec![names, unknown];
        }
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P521_SHA512, &rcgen::PKCS_RSA_SHA256] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let signed = sign(&request(&key, constrained), &authority, Span::from_seconds(DAY), now()).unwrap();
            let der = pem::certificates(&signed.certificate).remove(0);
            let leaf = Certificate::from_der(&der).unwrap();
            assert_eq!((leaf.common_name.as_deref(), leaf.ca), (Some("builder"), false));
            assert!(
                matches!(crate::pki::trust(&der, now()), Ok(crate::pki::Trust::Itself)),
                "nothing critical is left"
            );
        }
    }

    #[test]
    fn a_client_certificate_is_no_longer_valid_than_its_ca() {
        let (root, authority) = authority("A", 10);
        let issued = client("builder", &authority, key(), Span::from_seconds(365 * DAY), now()).unwrap();
        let leaf = Certificate::from_der(&der(&issued.pair)).unwrap();
        assert!(issued.shortened);
        assert_eq!(leaf.not_after, authority.certificate.not_after);
        assert!(leaf.not_before >= authority.certificate.not_before);
        let (leaf, root) = (der(&issued.pair), der(&root));
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
        assert!(leaf.verify_signature(Some(root.public_key())).is_ok());
        assert!(leaf.raw_serial().len() <= 20 && leaf.raw_serial()[0] < 0x80);
        assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
        assert!(!client("builder", &authority, key(), Span::from_seconds(DAY), now()).unwrap().shortened);
    }

    #[test]
    fn what_is_no_ca_signs_nothing() {
        let (root, authority) = authority("A", 10);
        let (_, other) = self::authority("B", 10);
        let leaf = client("builder", &authority, key(), Span::from_seconds(DAY), now()).unwrap().pair;
        let wrong = |certificate: &str, key: &PrivateKey, at: Timestamp| {
            Authority::from_pem(certificate, &key.to_pem(), at).map(|_| ()).unwrap_err()
        };
        assert!(matches!(wrong(&leaf.certificate, &leaf.key, now()), AuthorityError::NotCa { .. }));
        assert!(matches!(wrong(&root.certificate, &leaf.key, now()), AuthorityError::Mismatch));
        let later = Span::from_seconds(11 * DAY).after(now());
        assert!(matches!(wrong(&root.certificate, &root.key, later), AuthorityError::Expired { .. }));
        let earlier = now().checked_sub(SignedDuration::from_hours(1)).unwrap();
        assert!(matches!(wrong(&root.certificate, &root.key, earlier), AuthorityError::NotYetValid { .. }));
        assert!(matches!(wrong("", &root.key, now()), AuthorityError::NoCertificate));
        let both = format!("{}{}", pem::certificate_pem(&other.certificate.der), root.certificate);
        assert!(Authority::from_pem(&both, &root.key.to_pem(), now()).is_ok());
    }

    #[test]
    fn of_the_certificates_of_one_key_the_usable_one_signs() {
        let key = key();
        let make = |name: &str, begin: i64, end: i64, strange: bool| {
            let at = |days: i64| now().checked_add(SignedDuration::from_hours(24 * days)).unwrap();
            let mut params = named(subject(name).unwrap());
            validity(&mut params, at(begin), at(end)).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            if strange {
                let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            }
            pem::certificate_pem(params.self_signed(key.pair()).unwrap().der())
        };
        let (old, strange, new) =
            (make("old", -20, -10, false), make("strange", -1, 1, true), make("new", -1, 1, false));
        let chosen = |certificates: String| {
            Authority::from_pem(&certificates, &key.to_pem(), now()).map(|authority| authority.certificate.subject)
        };
        assert_eq!(chosen(format!("{old}{strange}{new}")).unwrap(), "O=OpenChoreo, CN=new");
        assert!(matches!(chosen(format!("{old}{strange}")), Err(AuthorityError::Expired { .. })));
        assert!(matches!(chosen(strange), Err(AuthorityError::Unusable { .. })));
    }

    #[test]
    fn a_subject_that_repeats_an_attribute_is_refused() {
        // O=OpenChoreo, O=OpenChoreo: the attribute CN of an ordinary CA, renamed in place to a second O.
        let mut ca = der(&authority("OpenChoreo", 10).0);
        let (common_name, organization) = ([0x06, 0x03, 0x55, 0x04, 0x03], [0x06, 0x03, 0x55, 0x04, 0x0a]);
        for at in 0..ca.len() - 5 {
            if ca[at..at + 5] == common_name {
                ca[at..at + 5].copy_from_slice(&organization);
            }
        }
        let (_, template) = authority("x", 10);
        let leaf = client("builder", &template, key(), Span::from_seconds(DAY), now()).unwrap();
        assert!(matches!(verify(&der(&leaf.pair), &ca), Err(IssueError::Subject)));
    }

    #[test]
    fn bounds_are_reported() {
        let (_, authority) = authority("A", 10);
        let error = |name: &str, seconds| {
            client(name, &authority, key(), Span::from_seconds(seconds), now()).map(|_| ()).unwrap_err()
        };
        assert!(matches!(error("", 1), IssueError::CommonName));
        assert!(matches!(error("a\u{1b}b", 1), IssueError::CommonName));
        assert!(matches!(error(&"x".repeat(65), 1), IssueError::CommonName));
        assert!(matches!(error("x", 0), IssueError::ValidFor));
        assert!(matches!(error("x", u64::MAX), IssueError::ValidFor));
    }
}
