//! What is wrong with a CA at a time: each defect with one id and one sentence, wherever it is shown.
//!
//! Not here: whether the CA can be read at all, and what to do about a defect.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::bundle::{Bundle, BundleError};
use super::certificate::{Certificate, Remaining};
use super::gox509::{Reason, Trust, trust, trust_of};
use crate::plane::{Span, age, day};
use crate::text::visible;

/// A CA that expires within this many days expires soon.
const SOON_DAYS: u64 = 30;
/// How long that is.
pub const SOON: Remaining = Remaining::Span(Span::from_seconds(SOON_DAYS * 86_400));
/// RSA keys shorter than this are weak (NIST SP 800-131A).
const SHORTEST_RSA: usize = 2048;
const PRIVATE_KEY: &str = "holds a private key, but only certificates are allowed here";

/// A kind of defect, in the order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(clap::ValueEnum))]
pub enum DefectKind {
    /// A private key is in it.
    PrivateKey,
    /// It is DER, or base64 of DER or PEM.
    NotRawPem,
    NoCertificate,
    /// No agent can connect, since the gateway can't parse any certificate of it.
    Unparsable,
    /// No agent can connect, as for the two that follow.
    Expired,
    NotYetValid,
    CannotVerify,
    /// A certificate verifies nothing, and another one does.
    PartlyUseless,
    Doubled,
    PinnedLeaf,
    WeakKey,
    SameName,
    ExpiresSoon,
}

impl DefectKind {
    /// The id, by which findings, notes and scripts name it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::PrivateKey => "ca-private-key",
            Self::NotRawPem => "ca-not-raw-pem",
            Self::NoCertificate => "ca-no-certificate",
            Self::Unparsable => "ca-unparsable",
            Self::Expired => "ca-expired",
            Self::NotYetValid => "ca-not-yet-valid",
            Self::CannotVerify => "ca-cannot-verify",
            Self::PartlyUseless => "ca-partly-useless",
            Self::Doubled => "ca-doubled",
            Self::PinnedLeaf => "ca-pinned-leaf",
            Self::WeakKey => "weak-key",
            Self::SameName => "same-name",
            Self::ExpiresSoon => "ca-expires-soon",
        }
    }

    /// Whether a CA with such a defect authorizes no agent.
    pub fn bars_every_agent(self) -> bool {
        (Self::NotRawPem..=Self::CannotVerify).contains(&self)
    }
}

/// Something that is wrong with a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    pub kind: DefectKind,
    /// The number of the certificate among the bundle's DER; none for the CA as a whole.
    pub certificate: Option<usize>,
    /// What is wrong, as a predicate: `has expired at ...`.
    pub what: String,
    /// `the CA`, or `certificate 2 of the CA`.
    subject: String,
}

impl Defect {
    /// A text that holds a private key, beside certificates or without any.
    pub fn private_key() -> Self {
        let (kind, what) = (DefectKind::PrivateKey, PRIVATE_KEY.to_owned());
        Self { kind, certificate: None, what, subject: "the CA".to_owned() }
    }
}

impl std::fmt::Display for Defect {
    /// Writes the sentence, without a full stop.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.subject, self.what)
    }
}

/// Says what is wrong with a CA at a time, by certificate; `soon` is how long it has to be valid still.
pub fn appraise(bundle: &Bundle, at: Timestamp, soon: Remaining) -> Vec<Defect> {
    let whole = |(kind, what)| Defect { kind, certificate: None, what, subject: "the CA".to_owned() };
    if let Some(unreadable) = unreadable(bundle) {
        return vec![whole(unreadable)];
    }
    let ders = bundle.ders();
    let (mut links, mut certificates) = (bundle.links().iter().peekable(), bundle.certificates().iter().peekable());
    let mut trust = |der: &Vec<u8>| {
        links.next_if(|link| link.der == *der).map_or_else(|| trust(der, at), |link| trust_of(link, at))
    };
    let trusts: Vec<_> = ders.iter().map(&mut trust).collect();
    let parsed: Vec<_> = ders.iter().map(|der| certificates.next_if(|one| one.der == *der)).collect();
    let of = |index: usize, (kind, what)| {
        let subject =
            if ders.len() == 1 { "the CA".to_owned() } else { format!("certificate {} of the CA", index + 1) };
        Defect { kind, certificate: Some(index), what, subject }
    };
    let usable = trusts.iter().any(Result::is_ok);
    let (mut found, mut seen) = (Vec::new(), HashMap::new());
    for (index, der) in ders.iter().enumerate() {
        let first = *seen.entry(der).or_insert(index);
        if first != index {
            found.push(of(index, (DefectKind::Doubled, format!("is a copy of certificate {}", first + 1))));
            continue;
        }
        let certificate = parsed[index];
        let own = match &trusts[index] {
            Err(refusal) => Some((useless(refusal.reason, usable), refusal.message.clone())),
            Ok(Trust::Itself) => {
                certificate.map(|one| (DefectKind::PinnedLeaf, pinned(one, Some(one.chart_renewal()))))
            }
            Ok(Trust::Issuer) => None,
        };
        found.extend(own.into_iter().chain(certificate.and_then(weak_key)).map(|defect| of(index, defect)));
    }
    let readable = || parsed.iter().enumerate().filter_map(|(index, one)| Some((index, (*one)?)));
    found.extend(same_name(readable()).into_iter().map(|(index, defect)| of(index, defect)));
    let usable = readable().filter(|(index, _)| trusts[*index].is_ok()).map(|(_, one)| one);
    if let Some(last) = usable.max_by_key(|one| one.not_after).filter(|last| last.expires_within(soon, at)) {
        let what = format!("expires in {}, at {}", age(last.not_after, at), last.not_after);
        found.push(whole((DefectKind::ExpiresSoon, what)));
    }
    found
}

type Reports = (DefectKind, String);

/// What keeps the gateway from reading any certificate.
fn unreadable(bundle: &Bundle) -> Option<Reports> {
    if !bundle.ders().is_empty() {
        return None;
    }
    let (kind, what) = match Bundle::normalized(bundle.pem().as_bytes()) {
        Ok(_) => (DefectKind::NotRawPem, "is not raw PEM, the only format that the gateway reads"),
        Err(BundleError::PrivateKey) => (DefectKind::PrivateKey, PRIVATE_KEY),
        Err(_) => (DefectKind::NoCertificate, "holds no certificate"),
    };
    Some((kind, what.to_owned()))
}

/// What keeps a certificate from verifying any client certificate.
fn useless(reason: Reason, others_are_usable: bool) -> DefectKind {
    match reason {
        _ if others_are_usable => DefectKind::PartlyUseless,
        Reason::Unparsable => DefectKind::Unparsable,
        Reason::Expired => DefectKind::Expired,
        Reason::NotYetValid => DefectKind::NotYetValid,
        _ => DefectKind::CannotVerify,
    }
}

/// Says of a certificate that is trusted itself what becomes of it; `renewal` is when cert-manager renews it, if it does.
pub fn pinned(certificate: &Certificate, renewal: Option<Timestamp>) -> String {
    let next = renewal.map(|renewal| format!(", also its renewal (if by cert-manager, on {})", day(renewal)));
    format!(
        "is a client certificate ({}, valid until {}): the gateway refuses every other certificate{}",
        visible(&certificate.subject),
        day(certificate.not_after),
        next.unwrap_or_default()
    )
}

/// Says of a certificate, of a CA or not, that its key is weak.
pub fn weak_key(certificate: &Certificate) -> Option<Reports> {
    let algorithm = &certificate.key_algorithm;
    let bits = algorithm.strip_prefix("rsa-").and_then(|bits| bits.parse::<usize>().ok());
    let weak = bits.is_some_and(|bits| bits < SHORTEST_RSA) || algorithm == "ecdsa-p224";
    weak.then(|| (DefectKind::WeakKey, format!("has a weak key: {}", visible(algorithm))))
}

/// Says of certificates, of a CA or not, which share a subject with an earlier one of another key, by their numbers.
pub fn same_name<'c>(certificates: impl Iterator<Item = (usize, &'c Certificate)>) -> Vec<(usize, Reports)> {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, certificate) in certificates {
        if *keys.entry(&certificate.subject).or_insert(&certificate.spki_sha256) != certificate.spki_sha256 {
            let what =
                format!("has the name of another certificate with another key: {}", visible(&certificate.subject));
            found.push((index, (DefectKind::SameName, what)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use clap::ValueEnum as _;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    const DAY: i64 = 86_400;

    /// A certificate of one name, valid over days from 1970 on.
    fn made(alter: fn(&mut CertificateParams), days: std::ops::Range<i64>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let time = |day| time::OffsetDateTime::from_unix_timestamp(day * DAY).unwrap();
        (params.not_before, params.not_after) = (time(days.start), time(days.end));
        alter(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn server(params: &mut CertificateParams) {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    }

    fn leaf(params: &mut CertificateParams) {
        params.is_ca = IsCa::NoCa;
    }

    fn other(params: &mut CertificateParams) {
        params.distinguished_name.push(DnType::CommonName, "other");
    }

    /// What is wrong on day 10: the kinds and the sentences.
    fn reported(bundle: &Bundle) -> Vec<(DefectKind, String)> {
        let at = Timestamp::from_second(10 * DAY).unwrap();
        appraise(bundle, at, SOON).into_iter().map(|defect| (defect.kind, defect.to_string())).collect()
    }

    #[test]
    fn every_kind_of_defect_has_one_sentence() {
        use DefectKind::*;
        let good = || made(|_| {}, 0..1000);
        let text = |ders: &[Vec<u8>]| ders.iter().collect::<Bundle>();
        let key = KeyPair::generate().unwrap();
        let doubled = good();
        let cases = [
            (
                Bundle::from(key.serialize_pem()),
                PrivateKey,
                "the CA holds a private key, but only certificates are allowed here",
            ),
            (
                Bundle::from(STANDARD.encode(good())),
                NotRawPem,
                "the CA is not raw PEM, the only format that the gateway reads",
            ),
            (Bundle::from("to be done"), NoCertificate, "the CA holds no certificate"),
            (text(&[b"none".to_vec()]), Unparsable, "the CA can't be parsed: it is not a certificate"),
            (text(&[made(|_| {}, 0..9)]), Expired, "the CA has expired at 1970-01-10T00:00:00Z"),
            (text(&[made(|_| {}, 11..99)]), NotYetValid, "the CA is valid only from 1970-01-12T00:00:00Z on"),
            (
                text(&[made(server, 0..99)]),
                CannotVerify,
                "the CA is not for client certificates, by its extended key usage",
            ),
            (
                text(&[good(), made(other, 0..9)]),
                PartlyUseless,
                "certificate 2 of the CA has expired at 1970-01-10T00:00:00Z",
            ),
            (text(&[doubled.clone(), doubled]), Doubled, "certificate 2 of the CA is a copy of certificate 1"),
            (
                text(&[made(leaf, 0..90)]),
                PinnedLeaf,
                "the CA is a client certificate (CN=ca, valid until 1970-04-01): the gateway refuses every other certificate, also its renewal (if by cert-manager, on 1970-03-17)",
            ),
            (
                text(&[good(), good()]),
                SameName,
                "certificate 2 of the CA has the name of another certificate with another key: CN=ca",
            ),
            (text(&[made(|_| {}, 0..20)]), ExpiresSoon, "the CA expires in 10d, at 1970-01-21T00:00:00Z"),
        ];
        let mut reached: Vec<_> = cases.iter().map(|(_, kind, _)| *kind).collect();
        for (bundle, kind, sentence) in cases {
            assert_eq!(reported(&bundle), [(kind, sentence.to_owned())]);
        }
        let mut weak = Certificate::from_der(&good()).unwrap();
        assert_eq!(weak_key(&weak), None);
        weak.key_algorithm = "rsa-1024".into();
        assert_eq!(weak_key(&weak), Some((WeakKey, "has a weak key: rsa-1024".into())));
        reached.push(WeakKey);
        assert!(DefectKind::value_variants().iter().all(|kind| reached.contains(kind)), "{reached:?}");
        assert_eq!(reported(&text(&[good()])), []);
    }

    #[test]
    fn a_ca_of_several_certificates_is_usable_while_one_is() {
        use DefectKind::*;
        let bundle = |ders: &[Vec<u8>]| ders.iter().collect::<Bundle>();
        let kinds = |bundle: &Bundle| reported(bundle).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(&bundle(&[made(|_| {}, 0..9), made(other, 11..99)])), [Expired, NotYetValid]);
        assert_eq!(kinds(&bundle(&[made(|_| {}, 0..20), made(other, 0..999)])), []);
        assert_eq!(kinds(&bundle(&[made(|_| {}, 0..20), made(other, 0..9)])), [PartlyUseless, ExpiresSoon]);
    }
}
