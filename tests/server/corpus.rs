//! Certificates good and bad, to be judged by `certs verify` and by Go: each rule broken alone and with each other one,
//! chains at random, and what no library makes as altered DER.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use time::{Duration, OffsetDateTime};

/// When everything is judged, unless said otherwise.
const NOW: i64 = 1_795_348_800;

/// What an agent presents, what a plane trusts, and when; with a host it is what a gateway presents and an agent trusts.
pub struct Case {
    pub name: String,
    pub host: Option<String>,
    pub presented: Vec<Vec<u8>>,
    pub ca: String,
    /// Seconds since 1970.
    pub at: i64,
}

static KEYS: LazyLock<Vec<KeyPair>> = LazyLock::new(|| {
    use rcgen::{
        PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
        PKCS_RSA_SHA384, PKCS_RSA_SHA512,
    };
    let algorithms = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
        &PKCS_RSA_SHA256,
        &PKCS_RSA_SHA384,
        &PKCS_RSA_SHA512,
    ];
    algorithms.into_iter().map(|algorithm| KeyPair::generate_for(algorithm).unwrap()).collect()
});
/// Keys of the pool by what they are.
const P384: usize = 4;
const P521: usize = 5;
const ED25519: usize = 6;
const RSA: usize = 7;

/// One certificate of a chain.
#[derive(Clone, Debug)]
struct Spec {
    name: String,
    key: usize,
    /// Days around now.
    valid: (i64, i64),
    ca: Option<Option<u8>>,
    explicit: bool,
    key_usages: Vec<KeyUsagePurpose>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    sans: Vec<SanType>,
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
    extensions: Vec<(Vec<u64>, bool, Vec<u8>)>,
}

impl Spec {
    fn ca(name: &str, key: usize) -> Self {
        Self {
            name: name.into(),
            key,
            valid: (-100, 1000),
            ca: Some(None),
            explicit: true,
            key_usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            usages: vec![],
            sans: vec![],
            permitted: vec![],
            excluded: vec![],
            extensions: vec![],
        }
    }

    fn leaf() -> Self {
        Self {
            ca: None,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            valid: (-10, 90),
            ..Self::ca("agent", 3)
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, &*self.name);
        let day = |days: i64| OffsetDateTime::from_unix_timestamp(NOW).unwrap() + Duration::days(days);
        (params.not_before, params.not_after) = (day(self.valid.0), day(self.valid.1));
        params.serial_number = Some(vec![1, 2, 3, 4].into());
        params.is_ca = match self.ca {
            Some(None) => IsCa::Ca(BasicConstraints::Unconstrained),
            Some(Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
            None if self.explicit => IsCa::ExplicitNoCa,
            None => IsCa::NoCa,
        };
        params.key_usages.clone_from(&self.key_usages);
        params.extended_key_usages.clone_from(&self.usages);
        params.subject_alt_names.clone_from(&self.sans);
        if !self.permitted.is_empty() || !self.excluded.is_empty() {
            let constraints = NameConstraints {
                permitted_subtrees: self.permitted.clone(),
                excluded_subtrees: self.excluded.clone(),
            };
            params.name_constraints = Some(constraints);
        }
        params.use_authority_key_identifier_extension = true;
        for (id, critical, content) in &self.extensions {
            let mut extension = CustomExtension::from_oid_content(id, content.clone());
            extension.set_criticality(*critical);
            params.custom_extensions.push(extension);
        }
        params
    }
}

/// Makes another certificate of one, by its octets.
type Alter = fn(&mut Vec<u8>);

/// A chain from its root down, and what is made of it.
#[derive(Clone)]
struct World {
    chain: Vec<Spec>,
    /// Names of issuers as the certificate below has them, where it was signed with another key.
    forged: Vec<usize>,
    at: i64,
    /// How many of the certificates above the leaf are presented.
    presents: usize,
    /// Which of the chain the plane trusts.
    trusts: Vec<usize>,
    alter: Vec<(usize, Alter)>,
    text: fn(String) -> String,
}

impl World {
    fn new(intermediates: usize) -> Self {
        let mut chain = vec![Spec::ca("root", 0)];
        chain.extend((0..intermediates).map(|level| Spec::ca(&format!("level {level}"), 1 + level % 2)));
        chain.push(Spec::leaf());
        Self {
            chain,
            forged: vec![],
            at: NOW,
            presents: intermediates,
            trusts: vec![0],
            alter: vec![],
            text: |pem| pem,
        }
    }

    fn leaf(&mut self) -> &mut Spec {
        self.chain.last_mut().unwrap()
    }

    fn case(&self, name: String) -> Option<Case> {
        let mut ders: Vec<Vec<u8>> = Vec::new();
        for (index, spec) in self.chain.iter().enumerate() {
            let above = index.checked_sub(1).map(|above| &self.chain[above]);
            let signer = match above {
                None => spec.key,
                Some(above) if self.forged.contains(&index) => (above.key + 1) % 4,
                Some(above) => above.key,
            };
            ders.push(certificate(spec, above, signer)?);
        }
        for (index, alter) in &self.alter {
            alter(&mut ders[(*index).min(self.chain.len() - 1)]);
        }
        let ca: String = self.trusts.iter().map(|index| pem(&ders[(*index).min(ders.len() - 1)])).collect();
        let last = ders.len() - 1;
        let presented = ders[last - self.presents.min(last)..].iter().rev().cloned().collect();
        Some(Case { name, host: None, presented, ca: (self.text)(ca), at: self.at })
    }
}

/// A certificate in DER by what it says, which issuer it names, and whose key signs it. Each is made once: signatures of
/// elliptic curves are different every time.
fn certificate(spec: &Spec, above: Option<&Spec>, signer: usize) -> Option<Vec<u8>> {
    static MADE: LazyLock<Mutex<HashMap<String, Option<Vec<u8>>>>> = LazyLock::new(Mutex::default);
    let name = format!("{spec:?} {:?} {signer}", above.map(|above| (&above.name, above.key)));
    let make = || {
        let (params, key) = (spec.params(), &KEYS[spec.key]);
        let made = match above {
            None => params.self_signed(key),
            Some(above) => params.signed_by(key, &Issuer::new(above.params(), &KEYS[signer])),
        };
        Some(made.ok()?.der().to_vec())
    };
    MADE.lock().unwrap().entry(name).or_insert_with(make).clone()
}

pub fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A tag, the length and the content.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [header, content.to_vec()].concat()
}

/// The elements in a constructed one: each whole, from its tag on.
fn elements(der: &[u8]) -> Vec<Vec<u8>> {
    let mut content = &der[header(der)..];
    let mut found = Vec::new();
    while !content.is_empty() {
        let length = header(content) + length(content);
        found.push(content[..length].to_vec());
        content = &content[length..];
    }
    found
}

fn header(der: &[u8]) -> usize {
    if der[1] < 0x80 { 2 } else { 2 + usize::from(der[1] & 0x7f) }
}

fn length(der: &[u8]) -> usize {
    if der[1] < 0x80 {
        der[1].into()
    } else {
        der[2..header(der)].iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet))
    }
}

/// Another body for a certificate, whose signature then no longer fits.
fn edit_body(der: &mut Vec<u8>, edit: impl Fn(&mut Vec<Vec<u8>>)) {
    let mut parts = elements(der);
    let mut body = elements(&parts[0]);
    edit(&mut body);
    parts[0] = tlv(0x30, &body.concat());
    *der = tlv(0x30, &parts.concat());
}

fn without_version(der: &mut Vec<u8>) {
    edit_body(der, |body| {
        body.remove(0);
        body.pop();
    });
}

fn negative_serial(der: &mut Vec<u8>) {
    edit_body(der, |body| body[1] = tlv(2, &[0x81, 2, 3]));
}

fn huge_serial(der: &mut Vec<u8>) {
    edit_body(der, |body| body[1] = tlv(2, &[0x71; 40]));
}

fn padded_serial(der: &mut Vec<u8>) {
    edit_body(der, |body| body[1] = tlv(2, &[0, 1, 2]));
}

fn version_nine(der: &mut Vec<u8>) {
    edit_body(der, |body| body[0] = tlv(0xa0, &tlv(2, &[8])));
}

fn doubled_extension(der: &mut Vec<u8>) {
    edit_body(der, |body| {
        let last = body.len() - 1;
        let list = elements(&elements(&body[last])[0]);
        let doubled = [list.concat(), list[0].clone()].concat();
        body[last] = tlv(0xa3, &tlv(0x30, &doubled));
    });
}

fn odd_subject(der: &mut Vec<u8>) {
    edit_body(der, |body| {
        // A PrintableString with a character that it can't have.
        let attribute = tlv(0x30, &[tlv(6, &[0x55, 4, 3]), tlv(0x13, b"a_b")].concat());
        body[5] = tlv(0x30, &tlv(0x31, &attribute));
    });
}

/// The signature's algorithm, in both its places.
fn signed_with(der: &mut Vec<u8>, id: &[u8], parameters: &[u8]) {
    let algorithm = tlv(0x30, &[&tlv(6, id)[..], parameters].concat());
    edit_body(der, |body| body[2].clone_from(&algorithm));
    let mut parts = elements(der);
    parts[1] = algorithm;
    *der = tlv(0x30, &parts.concat());
}

fn md5(der: &mut Vec<u8>) {
    signed_with(der, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], &[5, 0]);
}

fn sha1(der: &mut Vec<u8>) {
    signed_with(der, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], &[5, 0]);
}

fn ecdsa_sha1(der: &mut Vec<u8>) {
    signed_with(der, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], &[]);
}

fn unheard_of(der: &mut Vec<u8>) {
    signed_with(der, &[0x2a, 0x03, 0x04], &[]);
}

fn two_algorithms(der: &mut Vec<u8>) {
    edit_body(der, |body| body[2] = tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3])));
}

/// Another public key: its algorithm, the algorithm's parameters and its bits.
fn public_key(der: &mut Vec<u8>, id: &[u8], parameters: &[u8], bits: &[u8]) {
    let algorithm = tlv(0x30, &[&tlv(6, id)[..], parameters].concat());
    let key = tlv(0x30, &[algorithm, tlv(3, &[&[0], bits].concat())].concat());
    edit_body(der, |body| {
        let serial = body.iter().position(|element| element[0] == 2).unwrap();
        body[serial + 5].clone_from(&key);
    });
}

fn rsa(der: &mut Vec<u8>, modulus: &[u8]) {
    let key = tlv(0x30, &[tlv(2, modulus), tlv(2, &[1, 0, 1])].concat());
    public_key(der, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], &[5, 0], &key);
}

fn rsa_of_8192_bits(der: &mut Vec<u8>) {
    rsa(der, &[&[0][..], &[0xff; 1024]].concat());
}

fn rsa_of_8193_bits(der: &mut Vec<u8>) {
    rsa(der, &[&[1][..], &[0xff; 1024]].concat());
}

fn dsa(der: &mut Vec<u8>) {
    let number = tlv(2, &[7]);
    public_key(der, &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], &tlv(0x30, &number.repeat(3)), &number);
}

fn x25519(der: &mut Vec<u8>) {
    public_key(der, &[0x2b, 0x65, 0x6e], &[], &[9; 32]);
}

fn flipped_signature(der: &mut Vec<u8>) {
    let last = der.pop().unwrap();
    der.push(last ^ 1);
}

fn cut(der: &mut Vec<u8>) {
    der.truncate(der.len() - 5);
}

fn longer(der: &mut Vec<u8>) {
    der.push(0);
}

const POLICY: [u64; 4] = [2, 5, 29, 32];
const POLICY_MAPPINGS: [u64; 4] = [2, 5, 29, 33];
const POLICY_CONSTRAINTS: [u64; 4] = [2, 5, 29, 36];
const INHIBIT_ANY: [u64; 4] = [2, 5, 29, 54];

fn policy_ids(ids: &[&[u8]]) -> (Vec<u64>, bool, Vec<u8>) {
    let list: Vec<_> = ids.iter().flat_map(|id| tlv(0x30, &tlv(6, id))).collect();
    (POLICY.into(), false, tlv(0x30, &list))
}

fn require_explicit(after: u8) -> (Vec<u64>, bool, Vec<u8>) {
    (POLICY_CONSTRAINTS.into(), true, tlv(0x30, &tlv(0x80, &[after])))
}

fn inhibit_mapping(after: u8) -> (Vec<u64>, bool, Vec<u8>) {
    (POLICY_CONSTRAINTS.into(), true, tlv(0x30, &[tlv(0x80, &[0]), tlv(0x81, &[after])].concat()))
}

fn mapping(from: &[u8], to: &[u8]) -> (Vec<u64>, bool, Vec<u8>) {
    (POLICY_MAPPINGS.into(), true, tlv(0x30, &tlv(0x30, &[tlv(6, from), tlv(6, to)].concat())))
}

const ONE: &[u8] = &[0x2a, 3, 1];
const TWO: &[u8] = &[0x2a, 3, 2];
const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0];

type Fault = (&'static str, fn(&mut World));

/// Each breaks a rule, or nearly so.
const FAULTS: &[Fault] = &[
    ("nothing", |_| {}),
    ("leaf expired", |w| w.leaf().valid = (-30, -1)),
    ("leaf to come", |w| w.leaf().valid = (1, 30)),
    ("leaf's first second", |w| w.at = NOW - 10 * 86_400),
    ("before leaf's first second", |w| w.at = NOW - 10 * 86_400 - 1),
    ("leaf's last second", |w| w.at = NOW + 90 * 86_400),
    ("after leaf's last second", |w| w.at = NOW + 90 * 86_400 + 1),
    ("root expired", |w| w.chain[0].valid = (-100, -1)),
    ("root to come", |w| w.chain[0].valid = (1, 100)),
    ("leaf for servers", |w| w.leaf().usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ("leaf for both", |w| w.leaf().usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
    ("leaf for any", |w| w.leaf().usages = vec![ExtendedKeyUsagePurpose::Any]),
    ("leaf without usages", |w| w.leaf().usages = vec![]),
    ("leaf of another usage", |w| w.leaf().usages = vec![ExtendedKeyUsagePurpose::Other(vec![1, 2, 3, 4])]),
    ("root for servers", |w| w.chain[0].usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ("root for clients", |w| w.chain[0].usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ("root that may not sign", |w| w.chain[0].key_usages = vec![KeyUsagePurpose::DigitalSignature]),
    ("root without key usage", |w| w.chain[0].key_usages = vec![]),
    ("root that is no CA", |w| w.chain[0].ca = None),
    ("root that says nothing", |w| (w.chain[0].ca, w.chain[0].explicit) = (None, false)),
    ("root for leaves only", |w| w.chain[0].ca = Some(Some(0))),
    ("root for one level", |w| w.chain[0].ca = Some(Some(1))),
    ("leaf that is a CA", |w| w.leaf().ca = Some(None)),
    ("leaf pinned", |w| w.trusts = vec![usize::MAX]),
    ("leaf and root trusted", |w| w.trusts = vec![usize::MAX, 0]),
    ("root twice", |w| w.trusts = vec![0, 0]),
    ("nothing trusted", |w| w.trusts = vec![]),
    ("forged", |w| w.forged = vec![w.chain.len() - 1]),
    ("forged above", |w| w.forged = vec![1]),
    ("intermediates left out", |w| w.presents = 0),
    ("root presented, too", |w| w.presents += 1),
    ("unknown critical extension", |w| w.leaf().extensions.push((vec![1, 2, 3], true, vec![5, 0]))),
    ("unknown extension", |w| w.leaf().extensions.push((vec![1, 2, 3], false, vec![5, 0]))),
    ("root with unknown critical extension", |w| w.chain[0].extensions.push((vec![1, 2, 3], true, vec![5, 0]))),
    ("critical empty alternative names", |w| w.leaf().extensions.push((vec![2, 5, 29, 17], true, vec![0x30, 0]))),
    ("names allowed", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::DnsName("example.com".into())];
        w.leaf().sans = vec![SanType::DnsName("a.EXAMPLE.com".try_into().unwrap())];
    }),
    ("names not allowed", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::DnsName("example.com".into())];
        w.leaf().sans = vec![SanType::DnsName("aexample.com".try_into().unwrap())];
    }),
    ("names below only", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::DnsName(".example.com".into())];
        w.leaf().sans = vec![SanType::DnsName("example.com".try_into().unwrap())];
    }),
    ("names excluded", |w| {
        w.chain[0].excluded = vec![GeneralSubtree::DnsName("example.com".into())];
        w.leaf().sans = vec![SanType::DnsName("x.example.com".try_into().unwrap())];
    }),
    ("names of another kind", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::DnsName("example.com".into())];
        w.leaf().sans = vec![SanType::IpAddress("10.0.0.1".parse().unwrap())];
    }),
    ("addresses allowed", |w| {
        w.chain[0].permitted =
            vec![GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix("10.0.0.0".parse().unwrap(), 8))];
        w.leaf().sans = vec![SanType::IpAddress("10.1.2.3".parse().unwrap())];
    }),
    ("addresses not allowed", |w| {
        w.chain[0].permitted =
            vec![GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix("10.0.0.0".parse().unwrap(), 8))];
        w.leaf().sans = vec![SanType::IpAddress("11.1.2.3".parse().unwrap())];
    }),
    ("addresses of the other family", |w| {
        w.chain[0].permitted =
            vec![GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix("10.0.0.0".parse().unwrap(), 8))];
        w.leaf().sans = vec![SanType::IpAddress("::1".parse().unwrap())];
    }),
    ("mailboxes", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::Rfc822Name("a@example.com".into())];
        w.leaf().sans = vec![SanType::Rfc822Name("a@Example.com".try_into().unwrap())];
    }),
    ("mailboxes of others", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::Rfc822Name("a@example.com".into())];
        w.leaf().sans = vec![SanType::Rfc822Name("b@example.com".try_into().unwrap())];
    }),
    ("mailboxes of a domain", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::Rfc822Name("example.com".into())];
        w.leaf().sans = vec![SanType::Rfc822Name("b@mail.example.com".try_into().unwrap())];
    }),
    ("no mailbox", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::Rfc822Name("example.com".into())];
        w.leaf().sans = vec![SanType::Rfc822Name("example.com".try_into().unwrap())];
    }),
    ("constraints, no names", |w| w.chain[0].permitted = vec![GeneralSubtree::DnsName("example.com".into())]),
    ("a URI", |w| {
        w.chain[0].permitted = vec![GeneralSubtree::DnsName("example.com".into())];
        w.leaf().sans = vec![SanType::URI("https://example.org/x".try_into().unwrap())];
    }),
    ("policies required", |w| w.chain[0].extensions.push(require_explicit(0))),
    ("policies required and given", |w| {
        w.chain[0].extensions.push(require_explicit(0));
        w.chain.iter_mut().skip(1).for_each(|spec| spec.extensions.push(policy_ids(&[ONE])));
    }),
    ("policies given and not required", |w| w.leaf().extensions.push(policy_ids(&[ONE, TWO]))),
    ("leaf requires policies", |w| w.leaf().extensions.push(require_explicit(0))),
    ("leaf's policies doubled", |w| w.leaf().extensions.push(policy_ids(&[ONE, ONE]))),
    ("negative serial", |w| w.alter.push((usize::MAX, negative_serial))),
    ("root's negative serial", |w| w.alter.push((0, negative_serial))),
    ("root's huge serial", |w| w.alter.push((0, huge_serial))),
    ("root's padded serial", |w| w.alter.push((0, padded_serial))),
    ("root of version 1", |w| w.alter.push((0, without_version))),
    ("root of version 9", |w| w.alter.push((0, version_nine))),
    ("root's extension doubled", |w| w.alter.push((0, doubled_extension))),
    ("root's subject odd", |w| w.alter.push((0, odd_subject))),
    ("leaf's extension doubled", |w| w.alter.push((usize::MAX, doubled_extension))),
    ("root with MD5", |w| w.alter.push((0, md5))),
    ("leaf with MD5", |w| w.alter.push((usize::MAX, md5))),
    ("leaf with SHA-1", |w| w.alter.push((usize::MAX, sha1))),
    ("leaf with ECDSA and SHA-1", |w| w.alter.push((usize::MAX, ecdsa_sha1))),
    ("leaf with another algorithm", |w| w.alter.push((usize::MAX, unheard_of))),
    ("leaf with two algorithms", |w| w.alter.push((usize::MAX, two_algorithms))),
    ("leaf with RSA of 8192 bits", |w| w.alter.push((usize::MAX, rsa_of_8192_bits))),
    ("leaf with RSA of 8193 bits", |w| w.alter.push((usize::MAX, rsa_of_8193_bits))),
    ("leaf with DSA", |w| w.alter.push((usize::MAX, dsa))),
    ("leaf with X25519", |w| w.alter.push((usize::MAX, x25519))),
    ("root with X25519", |w| w.alter.push((0, x25519))),
    ("leaf's signature flipped", |w| w.alter.push((usize::MAX, flipped_signature))),
    ("root's signature flipped", |w| w.alter.push((0, flipped_signature))),
    ("root cut off", |w| w.alter.push((0, cut))),
    ("root with a tail", |w| w.alter.push((0, longer))),
    ("leaf cut off", |w| w.alter.push((usize::MAX, cut))),
    ("P-384", |w| w.chain[0].key = P384),
    ("P-521", |w| w.chain[0].key = P521),
    ("Ed25519", |w| w.chain[0].key = ED25519),
    ("RSA", |w| w.chain[0].key = RSA),
    ("RSA with SHA-384", |w| w.chain[0].key = RSA + 1),
    ("RSA with SHA-512", |w| w.chain[0].key = RSA + 2),
    ("headers in the PEM", |w| w.text = |pem| pem.replace("CERTIFICATE-----\nM", "CERTIFICATE-----\nA: b\n\nM")),
    ("another label", |w| w.text = |pem| pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
    ("text around the PEM", |w| w.text = |pem| format!("a CA\n{pem}\nand more\n")),
    ("CRLF", |w| w.text = |pem| pem.replace('\n', "\r\n")),
    ("blanks at line ends", |w| w.text = |pem| pem.replace('\n', " \t\n")),
    ("in one line", |w| w.text = |pem| pem.replace('\n', "")),
    ("indented", |w| w.text = |pem| pem.replace('\n', "\n  ")),
    ("base64 of PEM", |w| w.text = |pem| STANDARD.encode(pem)),
    ("no end", |w| w.text = |pem| pem.replace("-----END CERTIFICATE-----", "")),
    ("empty", |w| w.text = |_| String::new()),
    ("a broken block before", |w| {
        w.text = |pem| format!("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n{pem}")
    }),
];

/// A general name, or a subtree without its mask: its kind (RFC 5280, 4.2.1.6) and its octets.
type General = (u8, Vec<u8>);

/// Kinds and texts.
type Texts = &'static [(u8, &'static str)];

const EMAIL: u8 = 1;
const DNS: u8 = 2;
const URI: u8 = 6;
const IP: u8 = 7;

fn general(kind: u8, text: &str) -> General {
    (kind, text.as_bytes().to_vec())
}

fn alternative_names(names: &[General]) -> (Vec<u64>, bool, Vec<u8>) {
    let list: Vec<_> = names.iter().flat_map(|(kind, octets)| tlv(0x80 | kind, octets)).collect();
    (vec![2, 5, 29, 17], false, tlv(0x30, &list))
}

fn constraints(permitted: &[General], excluded: &[General]) -> (Vec<u64>, bool, Vec<u8>) {
    let part = |tag, subtrees: &[General]| {
        let list: Vec<_> = subtrees.iter().flat_map(|(kind, octets)| tlv(0x30, &tlv(0x80 | kind, octets))).collect();
        if list.is_empty() { list } else { tlv(tag, &list) }
    };
    (vec![2, 5, 29, 30], true, tlv(0x30, &[part(0xa0, permitted), part(0xa1, excluded)].concat()))
}

/// What a CA permits and excludes, and what the leaf below it is called. Most of them are corrected faults of Go.
const NAMES: &[(&str, Texts, Texts, Texts)] = &[
    ("a wildcard over an excluded name (CVE-2025-61727)", &[], &[(DNS, "foo.example.com")], &[(DNS, "*.example.com")]),
    ("a wildcard in other letters (CVE-2026-33810)", &[], &[(DNS, "foo.EXAMPLE.com")], &[(DNS, "*.Example.com")]),
    ("a wildcard above an excluded name", &[], &[(DNS, "a.foo.example.com")], &[(DNS, "*.example.com")]),
    ("a wildcard and an excluded single label", &[], &[(DNS, "org")], &[(DNS, "*.example.com")]),
    ("a wildcard below a leading dot", &[], &[(DNS, ".example.com")], &[(DNS, "*.example.com")]),
    ("a lone asterisk", &[], &[(DNS, "foo.example.com")], &[(DNS, "*")]),
    ("a wildcard and a permitted name", &[(DNS, "foo.example.com")], &[], &[(DNS, "*.example.com")]),
    ("an empty DNS name (CVE-2026-27138)", &[], &[(DNS, "foo.example.com")], &[(DNS, "")]),
    ("everything excluded", &[], &[(DNS, "")], &[(DNS, "example.com")]),
    ("a dot at the end", &[(DNS, "example.com")], &[], &[(DNS, "example.com.")]),
    ("a constraint with a dot at the end", &[(DNS, "example.com.")], &[], &[(DNS, "example.com")]),
    ("a constraint of a dot", &[(DNS, ".")], &[], &[(DNS, "example.com")]),
    ("a name with a hyphen", &[], &[(DNS, "a.com"), (DNS, "a.a.com"), (DNS, "a-a.com")], &[(DNS, "x.a-a.com")]),
    (
        "the first of two mailboxes of one local part (CVE-2026-27137)",
        &[(EMAIL, "a@example.com"), (EMAIL, "a@example.org")],
        &[],
        &[(EMAIL, "a@example.com")],
    ),
    ("a mailbox below a domain (CVE-2026-78664)", &[(EMAIL, "example.com")], &[], &[(EMAIL, "a@sub.example.com")]),
    ("a mailbox below an excluded domain", &[], &[(EMAIL, "example.com")], &[(EMAIL, "a@sub.example.com")]),
    ("a mailbox below a leading dot", &[(EMAIL, ".example.com")], &[], &[(EMAIL, "a@sub.example.com")]),
    ("a quoted mailbox", &[(EMAIL, "example.com")], &[], &[(EMAIL, "\"a b\"@example.com")]),
    ("a mailbox with two at signs", &[(EMAIL, "example.com")], &[], &[(EMAIL, "a@b@example.com")]),
    ("a host below a domain (CVE-2026-78665)", &[(URI, "example.com")], &[], &[(URI, "spiffe://sub.example.com/a")]),
    ("a host below a leading dot", &[(URI, ".example.com")], &[], &[(URI, "spiffe://sub.example.com/a")]),
    ("a host with a port", &[(URI, "example.com")], &[], &[(URI, "https://u:p@example.com:443/a?b#c")]),
    ("an address with a zone (CVE-2024-45341)", &[(URI, "example.com")], &[], &[(URI, "https://[fe80::1%25x]:1/")]),
    ("brackets around IPv4 (CVE-2025-47912)", &[], &[], &[(URI, "https://[1.2.3.4]/")]),
    ("two colons", &[], &[], &[(URI, "https://a:1:2/")]),
    ("brackets behind a name (CVE-2026-25679)", &[], &[], &[(URI, "https://a[::1]/")]),
    ("a URI without a host", &[(DNS, "example.com")], &[], &[(URI, "urn:a")]),
    ("a URI with a blank", &[], &[], &[(URI, "https://example.com/a b")]),
    ("a URI with a broken escape", &[], &[], &[(URI, "https://example.com/%zz")]),
    ("an address for a URI's constraint", &[(URI, "10.0.0.1")], &[], &[(URI, "https://example.com/")]),
];

/// Pieces of names and subtrees, which meet often.
const DOMAINS: [&str; 16] = [
    "example.com",
    ".example.com",
    "a.example.com",
    "b.example.com",
    "*.example.com",
    "*.a.example.com",
    "A.Example.COM",
    "aexample.com",
    "a-a.example.com",
    "com",
    "*",
    "",
    "x.a.example.com",
    "*x.example.com",
    "example.com.",
    "a..example.com",
];
const LOCALS: [&str; 6] = ["a", "b", "A", "\"a\"", "a\\@", "a."];
const URIS: [&str; 10] = [
    "spiffe://D/x",
    "https://D:443/",
    "https://u:p@D",
    "D",
    "//D/x",
    "https:D",
    "https://[::1]/D",
    "https://%44D/",
    "https://D/%20%",
    "1://D",
];

/// A name or a subtree; of mailboxes and URIs those that Go releases agree on.
fn random_general(rng: &mut Rng, subtree: bool) -> General {
    let domain = rng.choice(DOMAINS).unwrap();
    match rng.u8(0..8) {
        0 => match (subtree, rng.bool()) {
            (true, true) => general(EMAIL, &format!(".{}", domain.trim_start_matches('.'))),
            _ => general(EMAIL, &format!("{}@{domain}", rng.choice(LOCALS).unwrap())),
        },
        1 if subtree => general(URI, &format!(".{}", domain.trim_start_matches('.'))),
        1 => general(URI, &rng.choice(URIS).unwrap().replace('D', domain)),
        2 => {
            let mut octets: Vec<u8> = rng.choice([vec![10, 0, 0, 0], vec![10, 1, 0, 0], vec![0x20; 16]]).unwrap();
            if !subtree {
                let last = octets.len() - 1;
                octets[last] = rng.u8(0..3);
                return (IP, octets);
            }
            let ones = rng.choice([0, 8, 16, 24, 7]).unwrap();
            let mask = |at: usize| (0xff00_u16 >> ones_in(ones, at)) as u8;
            let mut masks: Vec<u8> = (0..octets.len()).map(mask).collect();
            if rng.u8(0..8) == 0 {
                masks.reverse();
            }
            octets.iter_mut().zip(&masks).for_each(|(octet, mask)| *octet &= mask);
            (IP, [octets, masks].concat())
        }
        _ => general(DNS, domain),
    }
}

/// How many of the first bits of a mask are in one of its octets.
fn ones_in(ones: usize, at: usize) -> usize {
    ones.saturating_sub(8 * at).min(8)
}

fn random_names(rng: &mut Rng) -> World {
    let mut world = World::new(rng.usize(0..2));
    let count = rng.usize(1..4);
    let names: Vec<_> = (0..count).map(|_| random_general(rng, false)).collect();
    world.leaf().extensions.push(alternative_names(&names));
    for spec in 0..world.chain.len() - 1 {
        let side = |rng: &mut Rng| (0..rng.usize(0..4)).map(|_| random_general(rng, true)).collect::<Vec<_>>();
        let (permitted, excluded) = (side(rng), side(rng));
        world.chain[spec].extensions.push(constraints(&permitted, &excluded));
    }
    world
}

/// The names of the list, and `count` at random.
fn name_cases(count: usize, rng: &mut Rng) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, permitted, excluded, names) in NAMES {
        let generals = |list: &[(u8, &str)]| list.iter().map(|(kind, text)| general(*kind, text)).collect::<Vec<_>>();
        let mut world = World::new(0);
        world.leaf().extensions.push(alternative_names(&generals(names)));
        if !permitted.is_empty() || !excluded.is_empty() {
            world.chain[0].extensions.push(constraints(&generals(permitted), &generals(excluded)));
        }
        cases.extend(world.case((*name).to_owned()));
    }
    cases.extend((0..count).filter_map(|number| random_names(rng).case(format!("random names {number}"))));
    cases
}

/// Roots of one name, none of which signed the leaf: as many as Go tries, and one more.
fn crowded_cases() -> Vec<Case> {
    let case = |count: u8| {
        let world = World { forged: vec![1], trusts: vec![], ..World::new(0) };
        let root = certificate(&world.chain[0], None, 0)?;
        let others = (0..count).map(|last| pem(&[&root[..root.len() - 1], &[last]].concat()));
        Some(Case { ca: others.collect(), ..world.case(format!("{count} roots of one name"))? })
    };
    [100, 101].into_iter().filter_map(case).collect()
}

/// Pinned certificates, each with one octet changed: what can be parsed, and what it says.
fn altered_cases(count: usize, rng: &mut Rng) -> Vec<Case> {
    let mut worlds = [World::new(0), random_names(rng), random(rng)];
    worlds[0].leaf().extensions.extend([policy_ids(&[ONE, TWO]), mapping(ONE, TWO), require_explicit(3)]);
    let leaves: Vec<_> =
        worlds.iter().filter_map(|world| Some(world.case(String::new())?.presented[0].clone())).collect();
    let case = |number: usize, rng: &mut Rng| {
        let mut der = leaves[number % leaves.len()].clone();
        let at = rng.usize(0..der.len());
        der[at] = if rng.bool() { rng.u8(..) } else { der[at] ^ 1 << rng.u8(0..8) };
        let name = format!("altered {number}, octet {at}");
        Case { name, host: None, ca: pem(&der), presented: vec![der], at: NOW }
    };
    (0..count).map(|number| case(number, rng)).collect()
}

/// What breaks, or nearly breaks, a rule for the certificate of a gateway at gateway.example.com.
const SERVER_FAULTS: &[Fault] = &[
    ("nothing", |_| {}),
    ("own CA", |w| w.chain = vec![Spec { sans: w.leaf().sans.clone(), usages: vec![], ..Spec::ca("own", 0) }]),
    ("own, no CA", |w| {
        w.chain = vec![Spec { sans: w.leaf().sans.clone(), ca: None, usages: vec![], ..Spec::ca("own", 0) }];
    }),
    ("leaf that is a CA", |w| w.leaf().ca = Some(None)),
    ("leaf pinned", |w| w.trusts = vec![usize::MAX]),
    ("leaf expired", |w| w.leaf().valid = (-30, -1)),
    ("leaf to come", |w| w.leaf().valid = (1, 30)),
    ("root expired", |w| w.chain[0].valid = (-100, -1)),
    ("root to come", |w| w.chain[0].valid = (1, 100)),
    ("for clients", |w| w.leaf().usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ("without usages", |w| w.leaf().usages = vec![]),
    ("for any", |w| w.leaf().usages = vec![ExtendedKeyUsagePurpose::Any]),
    ("root for clients", |w| w.chain[0].usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ("without key usage", |w| w.leaf().key_usages = vec![]),
    ("common name only", |w| {
        w.leaf().name = "gateway.example.com".into();
        w.leaf().sans = vec![];
    }),
    ("nothing trusted", |w| w.trusts = vec![]),
    ("forged", |w| w.forged = vec![w.chain.len() - 1]),
    ("intermediates left out", |w| w.presents = 0),
    ("critical extension", |w| w.leaf().extensions.push((vec![1, 2, 3], true, vec![5, 0]))),
    ("host allowed", |w| w.chain[0].extensions.push(constraints(&[general(DNS, "example.com")], &[]))),
    ("host excluded", |w| w.chain[0].extensions.push(constraints(&[], &[general(DNS, "gateway.example.com")]))),
    ("leaf with SHA-1", |w| w.alter.push((usize::MAX, sha1))),
    ("leaf cut off", |w| w.alter.push((usize::MAX, cut))),
    ("Ed25519", |w| w.leaf().key = ED25519),
    ("P-521", |w| w.leaf().key = P521),
];

/// Names of a gateway's certificate: kinds and octets.
const SERVER_NAMES: [&[(u8, &[u8])]; 14] = [
    &[(DNS, b"gateway.example.com")],
    &[(DNS, b"GATEWAY.example.COM"), (DNS, b"other")],
    &[(DNS, b"*.example.com")],
    &[(DNS, b"gateway.*.com")],
    &[(DNS, b"g*.example.com")],
    &[(DNS, b"*")],
    &[(DNS, b"*.com")],
    &[(DNS, b"gateway.example.com.")],
    &[(DNS, b"-a.example.com"), (DNS, b"a_b.example.com")],
    &[(DNS, b"10.0.0.1"), (DNS, b"")],
    &[(IP, &[10, 0, 0, 1])],
    &[(IP, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1])],
    &[(IP, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
    &[(EMAIL, b"gateway.example.com"), (URI, b"https://gateway.example.com/")],
];
const HOSTS: [&str; 18] = [
    "gateway.example.com",
    "Gateway.Example.Com",
    "gateway.example.com.",
    "gateway.example.com..",
    "example.com",
    "a.gateway.example.com",
    "-a.example.com",
    "a_b.example.com",
    "a b.example.com",
    "*.example.com",
    "10.0.0.1",
    "[10.0.0.1]",
    "::1",
    "[::1]",
    "[]",
    "::ffff:10.0.0.1",
    "gateway",
    "*",
];

/// A gateway's certificates: each rule broken alone, and every host with every name.
pub fn server_cases() -> Vec<Case> {
    let world = |intermediates: usize, names: &[(u8, &[u8])]| {
        let mut world = World::new(intermediates);
        world.leaf().usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let names: Vec<_> = names.iter().map(|(kind, octets)| (*kind, octets.to_vec())).collect();
        world.leaf().extensions.push(alternative_names(&names));
        world
    };
    let mut cases = Vec::new();
    let mut add = |world: &World, name: String, host: &str| {
        cases.extend(world.case(name).map(|case| Case { host: Some(host.to_owned()), ..case }));
    };
    for intermediates in 0..2 {
        for (name, fault) in SERVER_FAULTS {
            let mut world = World::new(intermediates);
            world.leaf().usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            world.leaf().sans = vec![SanType::DnsName(HOSTS[0].try_into().unwrap())];
            fault(&mut world);
            for host in [HOSTS[0], "other.example.com"] {
                add(&world, format!("{name}, {intermediates} between, as {host}"), host);
            }
        }
    }
    for (number, names) in SERVER_NAMES.iter().enumerate() {
        for host in HOSTS {
            add(&world(0, names), format!("names {number} as {host}"), host);
        }
    }
    cases
}

/// Every fault alone and with each other one below a root, each alone with intermediates; and `count` at random each of
/// chains, of names, and of altered certificates.
pub fn cases(count: usize, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for (levels, pairs) in [(0, true), (1, false), (2, false)] {
        for (index, (name, fault)) in FAULTS.iter().enumerate() {
            let mut world = World::new(levels);
            fault(&mut world);
            cases.extend(world.case(format!("{name}, {levels} between")));
            if pairs {
                for (other, second) in &FAULTS[index + 1..] {
                    let mut world = world.clone();
                    second(&mut world);
                    cases.extend(world.case(format!("{name}; {other}")));
                }
            }
        }
    }
    let mut rng = Rng::with_seed(seed);
    cases.extend(crowded_cases());
    cases.extend(name_cases(count, &mut rng));
    cases.extend(altered_cases(count, &mut rng));
    for number in 0..count {
        let world = random(&mut rng);
        let case = world.case(format!("random {number}"));
        // Two chains that know each other's certificates make several paths.
        let other = if rng.u8(0..3) == 0 { random(&mut rng).case(String::new()) } else { None };
        cases.extend(case.map(|mut case| {
            if let Some(other) = other {
                case.presented.extend(other.presented.into_iter().skip(1));
                case.ca.push_str(&other.ca);
            }
            case
        }));
    }
    cases
}

fn random(rng: &mut Rng) -> World {
    let mut world = World::new(rng.usize(0..4));
    for index in 0..world.chain.len() {
        let last = index + 1 == world.chain.len();
        let spec = &mut world.chain[index];
        // Names out of a few, so that paths cross.
        if !last {
            spec.name = format!("name {}", rng.u8(0..3));
            spec.key = rng.usize(0..7);
            spec.ca = if rng.u8(0..4) == 0 { Some(Some(rng.u8(0..3))) } else { spec.ca };
        }
        if rng.u8(0..12) == 0 {
            spec.valid = (rng.i64(-50..20), rng.i64(-5..60));
        }
        if rng.u8(0..8) == 0 {
            spec.usages = vec![
                rng.choice([
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                    ExtendedKeyUsagePurpose::Any,
                ])
                .unwrap(),
            ];
        }
        if rng.u8(0..6) == 0 {
            spec.sans = vec![SanType::DnsName(
                rng.choice(["a.example.com", "b.example.org", "example.com"]).unwrap().try_into().unwrap(),
            )];
        }
        if !last && rng.u8(0..8) == 0 {
            let domain = rng.choice(["example.com", ".example.com", "org"]).unwrap();
            spec.permitted = vec![GeneralSubtree::DnsName(domain.into())];
        }
        if !last && rng.u8(0..10) == 0 {
            spec.excluded = vec![GeneralSubtree::DnsName(rng.choice(["a.example.com", "org"]).unwrap().into())];
        }
        if rng.u8(0..3) == 0 {
            let ids = rng.choice([&[ONE][..], &[TWO], &[ONE, TWO], &[ANY], &[ANY, ONE]]).unwrap();
            spec.extensions.push(policy_ids(ids));
            if !last && rng.u8(0..3) == 0 {
                spec.extensions.push(mapping(ONE, if rng.bool() { TWO } else { ANY }));
            }
        }
        if rng.u8(0..6) == 0 {
            let after = rng.u8(0..3);
            spec.extensions.push(if rng.bool() { require_explicit(after) } else { inhibit_mapping(after) });
        }
        if !last && rng.u8(0..10) == 0 {
            spec.extensions.push((INHIBIT_ANY.into(), true, tlv(2, &[rng.u8(0..2)])));
        }
    }
    if rng.u8(0..10) == 0 {
        world.presents = rng.usize(0..4);
    }
    if rng.u8(0..6) == 0 {
        world.trusts = vec![rng.usize(0..world.chain.len())];
    }
    world.at = NOW + rng.i64(-3..3) * 86_400;
    world
}
