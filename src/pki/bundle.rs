//! The certificates of a CA: read once, and kept as they came.
//!
//! Not here: what is wrong with them.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::certificate::Certificate;
use super::gox509::{self, Link, Presented, ServerFault, Verdict};
use super::pem;

/// The certificates that Go's certificate pool would take out of a text, and the text. Each is read when it is first
/// asked for; copies share what was read.
#[derive(Clone, Debug, Default)]
pub struct Bundle(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    text: String,
    ders: OnceLock<Vec<Vec<u8>>>,
    certificates: OnceLock<Vec<Certificate>>,
    links: OnceLock<Vec<Link>>,
}

/// Why bytes are not CA certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it is empty")]
    Empty,
    #[error("it holds a private key, but only certificates are allowed here")]
    PrivateKey,
    #[error("it holds no certificate")]
    NoCertificate,
    #[error("its certificate {0} can't be parsed")]
    Broken(usize),
}

impl From<String> for Bundle {
    fn from(text: String) -> Self {
        Self(Arc::new(Held { text, ..Held::default() }))
    }
}

impl From<&str> for Bundle {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<D: AsRef<[u8]>> FromIterator<D> for Bundle {
    /// Writes certificates in DER one behind the other.
    fn from_iter<I: IntoIterator<Item = D>>(ders: I) -> Self {
        ders.into_iter().map(|der| pem::certificate_pem(der.as_ref())).collect::<String>().into()
    }
}

impl Bundle {
    /// Reads PEM, DER or base64 of either: raw PEM of each certificate once, without anything else.
    pub fn normalized(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(BundleError::Empty);
        }
        let mut ders = ders(bytes).or_else(|error| {
            let compact: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            match STANDARD.decode(compact) {
                Ok(decoded) if error == BundleError::NoCertificate => self::ders(&decoded),
                _ => Err(error),
            }
        })?;
        let whole = |der: &[u8]| x509_parser::parse_x509_certificate(der).is_ok_and(|(rest, _)| rest.is_empty());
        if let Some(broken) = ders.iter().position(|der| !whole(der)) {
            return Err(BundleError::Broken(broken + 1));
        }
        let mut seen = HashSet::new();
        ders.retain(|der| seen.insert(der.clone()));
        Ok(ders.into_iter().collect())
    }

    /// Reads raw PEM as it is, and any other form as [`Bundle::normalized`].
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let raw = Self::from(String::from_utf8_lossy(bytes).into_owned());
        if raw.ders().is_empty() { Self::normalized(bytes) } else { Ok(raw) }
    }

    /// The text as it came.
    pub fn pem(&self) -> &str {
        &self.0.text
    }

    /// Every certificate in DER, whether it can be parsed or not.
    pub fn ders(&self) -> &[Vec<u8>] {
        self.0.ders.get_or_init(|| pem::certificates(&self.0.text))
    }

    /// Those that can be parsed.
    pub fn certificates(&self) -> &[Certificate] {
        self.0.certificates.get_or_init(|| self.ders().iter().filter_map(|der| Certificate::from_der(der)).collect())
    }

    /// How many certificates begin in the text, whether they can be read or not.
    pub fn begun(&self) -> usize {
        self.pem().lines().filter(|line| line.trim_end() == "-----BEGIN CERTIFICATE-----").count()
    }

    /// Those that Go can parse, which are what it trusts.
    pub(super) fn links(&self) -> &[Link] {
        self.0.links.get_or_init(|| self.ders().iter().filter_map(|der| Link::parse(der).ok()).collect())
    }

    /// Whether Go would trust anything at all.
    pub fn has_roots(&self) -> bool {
        !self.links().is_empty()
    }

    /// The gateway's verdict on what an agent presents, its own certificate first, as DER, for a plane of this CA.
    pub fn verdict(&self, presented: &[Vec<u8>], at: Timestamp) -> Verdict {
        gox509::verify(presented, self.links(), at)
    }

    /// [`Bundle::verdict`] on what is judged against many CAs.
    pub fn verdict_on(&self, presented: &Presented, at: Timestamp) -> Verdict {
        presented.verdict(self.links(), at)
    }

    /// Whether an agent that trusts this CA accepts what the gateway at a host presents; else the first rule that isn't met.
    pub fn accepts_server(&self, presented: &[Vec<u8>], host: &str, at: Timestamp) -> Result<(), ServerFault> {
        gox509::verify_server(presented, self.links(), host, at)
    }
}

fn ders(bytes: &[u8]) -> Result<Vec<Vec<u8>>, BundleError> {
    if let Ok(text) = str::from_utf8(bytes) {
        if pem::holds_private_key(text) {
            return Err(BundleError::PrivateKey);
        }
        let found = pem::certificates(text);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    match bytes {
        [0x30, ..] if x509_parser::parse_x509_certificate(bytes).is_ok() => Ok(vec![bytes.to_vec()]),
        [0x30, ..] if rcgen::KeyPair::try_from(bytes).is_ok() => Err(BundleError::PrivateKey),
        _ => Err(BundleError::NoCertificate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::pem::certificate_pem;
    use proptest::prelude::*;

    fn bundle(bytes: &[u8]) -> Result<String, BundleError> {
        Bundle::normalized(bytes).map(|bundle| bundle.pem().to_owned())
    }

    fn certificate() -> Vec<u8> {
        rcgen::generate_simple_self_signed(vec![]).unwrap().cert.der().to_vec()
    }

    #[test]
    fn every_form_of_a_bundle_becomes_pem() {
        let der = certificate();
        let pem = certificate_pem(&der);
        for form in [
            pem.clone().into_bytes(),
            der.clone(),
            STANDARD.encode(&pem).into_bytes(),
            STANDARD.encode(&der).into_bytes(),
            format!("# a CA\n{pem}{pem}").into_bytes(),
        ] {
            assert_eq!(bundle(&form).as_deref(), Ok(pem.as_str()));
        }
        let key = rcgen::KeyPair::generate().unwrap();
        assert_eq!(bundle(format!("{pem}{}", key.serialize_pem()).as_bytes()), Err(BundleError::PrivateKey));
        assert_eq!(bundle(key.serialized_der()), Err(BundleError::PrivateKey));
        assert_eq!(bundle(STANDARD.encode(key.serialize_pem()).as_bytes()), Err(BundleError::PrivateKey));
        for beside in [STANDARD.encode(key.serialize_pem()), STANDARD.encode(key.serialized_der())] {
            assert_eq!(bundle(format!("{pem}{beside}\n").as_bytes()), Err(BundleError::PrivateKey));
            assert_eq!(bundle(format!("{beside}\n{pem}").as_bytes()), Err(BundleError::PrivateKey));
        }
        assert_eq!(bundle(b" \n"), Err(BundleError::Empty));
        assert_eq!(bundle(b"hello"), Err(BundleError::NoCertificate));
        assert_eq!(bundle(certificate_pem(b"0\x03abc").as_bytes()), Err(BundleError::Broken(1)));
    }

    #[test]
    fn fuzzed_certificates_keys_and_requests_are_read_or_refused() {
        use crate::pki::request::Request;
        use crate::pki::{KeyAlgorithm, PrivateKey};
        let own = |ca: bool| {
            let mut params = rcgen::CertificateParams::new(vec!["a.b".into()]).unwrap();
            if ca {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
                let subtree = rcgen::GeneralSubtree::DnsName("b".into());
                let excluded_subtrees = Vec::new();
                params.name_constraints =
                    Some(rcgen::NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees });
            }
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
        };
        let (ca, leaf) = (own(true), own(false));
        let request = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate().unwrap());
        let request = request.unwrap().pem().unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let (pem, key_pem, key_der) = (ca.pem() + &leaf.pem(), key.to_pem(), key.to_der());
        let seeds = [pem.as_bytes(), ca.der(), leaf.der(), key_pem.as_bytes(), &key_der, request.as_bytes()];
        let at = Timestamp::UNIX_EPOCH;
        crate::fuzz::fuzz(&seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = (Request::from_pem(&text), pem::holds_private_key(&text), Bundle::normalized(bytes));
            // A key that is read is one that can be written and read again.
            if let Ok(key) = PrivateKey::from_pem(&text) {
                assert!(PrivateKey::from_pem(&key.to_pem()).is_ok());
            }
            // Changed bytes of DER are no PEM, and are tried as such.
            for bundle in Bundle::read(bytes).into_iter().chain([[bytes].into_iter().collect()]) {
                let presented = bundle.ders().iter().take(3).cloned().collect::<Vec<_>>();
                let _ = (bundle.verdict(&presented, at), bundle.accepts_server(&presented, "a.b", at).is_ok());
                crate::pki::appraise(&bundle, at, crate::pki::SOON);
                for certificate in bundle.certificates() {
                    assert!(!certificate.to_pem().is_empty() && !certificate.lifetime_used(at).is_nan());
                }
            }
        });
    }

    #[test]
    fn a_text_is_kept_as_it_came() {
        let der = certificate();
        let text = format!("# a CA\n{}trailing", certificate_pem(&der));
        let bundle = Bundle::from(text.as_str());
        assert_eq!((bundle.pem(), bundle.ders()), (text.as_str(), &[der.clone()][..]));
        assert_eq!(bundle.certificates().len(), 1);
        let written: Bundle = [&der, &der].into_iter().collect();
        assert_eq!(written.pem(), certificate_pem(&der).repeat(2));
        assert!(!Bundle::from("none").has_roots() && written.has_roots());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(-----BEGIN |-----END |CERTIFICATE|-----|\n|AAAA|:| |\u{e9}|=){0,30}") {
            let _ = bundle(text.as_bytes());
        }
    }
}
