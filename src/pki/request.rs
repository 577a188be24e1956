//! Certificate signing requests (PKCS#10, RFC 2986): what is read of them before one is signed.
//!
//! Of what a request asks for only the common name and the key count, so that extensions in it are passed over, whatever
//! they say.

use super::gox509::{Check, Curve, Key, Malformed, Reader, Signed, Tag, check, need, read_key};
use super::pem;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// The smallest RSA key that gets a certificate, in bits.
const SMALLEST_RSA: usize = 2048;

/// A request whose signature shows that its sender has the key.
pub struct Request {
    /// The last of its common names; none where it has none that is text.
    pub common_name: Option<String>,
    pub key: Key,
    /// The key itself, as its algorithm has it.
    pub public_key: Vec<u8>,
    /// SubjectPublicKeyInfo in DER.
    pub info: Vec<u8>,
}

/// Why a request can't be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("it holds no certificate signing request in PEM (CERTIFICATE REQUEST)")]
    Missing,
    #[error("the file holds {0} certificate signing requests, but only one can be signed at a time")]
    Several(usize),
    #[error("its certificate signing request can't be parsed: {0}")]
    Malformed(&'static str),
    #[error("the signature of the certificate signing request does not match its key")]
    Signature,
    #[error("it is signed with MD5 or SHA-1, which can be forged")]
    Insecure,
    #[error("it is signed with an algorithm that is not supported, or does not fit its key")]
    Algorithm,
    #[error("its key is not supported: {0}")]
    Key(String),
    #[error("its RSA key has {0} bits, and {SMALLEST_RSA} is the least")]
    SmallKey(usize),
}

impl From<Malformed> for RequestError {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why.0)
    }
}

impl RequestError {
    pub fn hint(&self) -> String {
        match self {
            Self::Several(_) => "split the file".into(),
            Self::Insecure | Self::Algorithm => {
                "sign the request with SHA-256: `openssl req -new -sha256 -key KEY -out CSR`".into()
            }
            Self::Key(_) | Self::SmallKey(_) => {
                "make another key, RSA of 2048 bits or more, ECDSA P-256, P-384 or P-521, or Ed25519: `choreoctl certs \
                 request --plane-id ID --out-dir DIR` makes key and request"
                    .into()
            }
            _ => "make one with `choreoctl certs request --plane-id ID --out-dir DIR`".into(),
        }
    }
}

impl Request {
    /// Reads the one request in a PEM text, and verifies its signature.
    pub fn from_pem(text: &str) -> Result<Self, RequestError> {
        let labels = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
        let mut blocks = pem::blocks(text);
        blocks.retain(|block| labels.contains(&block.label.as_str()));
        match blocks.as_slice() {
            [] => Err(RequestError::Missing),
            [block] => Self::from_der(&block.der),
            several => Err(RequestError::Several(several.len())),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        let what = "its structure is broken";
        let (mut input, mut outer) = (Reader::new(der), Reader::sequence(der, what)?);
        let octets = need(outer.read_whole(Tag::SEQUENCE), what)?;
        let algorithm = need(outer.read(Tag::SEQUENCE), what)?;
        let signature = need(outer.read_bits(), what)?;
        let mut inner = Reader::sequence(octets, what)?;
        need(inner.read(Tag::INTEGER).filter(|version| *version == [0]), what)?;
        let subject = need(inner.read(Tag::SEQUENCE), what)?;
        let info = need(inner.read_whole(Tag::SEQUENCE), what)?;
        need(input.read(Tag::SEQUENCE).filter(|_| input.is_empty() && outer.is_empty()), what)?;
        let (key, public_key) = read_key(info)?;
        match &key {
            Key::Ecdsa(Curve::P224) => return Err(RequestError::Key("the curve P-224".into())),
            Key::Dsa => return Err(RequestError::Key("DSA".into())),
            Key::Other => return Err(RequestError::Key("agents can't use its kind in TLS".into())),
            Key::Rsa { bits } if *bits < SMALLEST_RSA => return Err(RequestError::SmallKey(*bits)),
            _ => {}
        }
        match check(&Signed { octets, algorithm, signature: &signature }, &key, &public_key) {
            Check::Holds => {}
            Check::Fails => return Err(RequestError::Signature),
            Check::Insecure => return Err(RequestError::Insecure),
            Check::Mismatch => return Err(RequestError::Algorithm),
            Check::Unsupported(what) => return Err(RequestError::Key(what.to_owned())),
        }
        Ok(Self { common_name: common_name(subject), key, public_key, info: info.to_vec() })
    }
}

fn common_name(subject: &[u8]) -> Option<String> {
    let (mut sets, mut found) = (Reader::new(subject), None);
    while !sets.is_empty() {
        let mut set = Reader::new(sets.read(Tag::SET)?);
        while !set.is_empty() {
            let mut attribute = Reader::new(set.read(Tag::SEQUENCE)?);
            let id = attribute.read_oid()?;
            let (tag, value) = attribute.read_any()?;
            if id == COMMON_NAME && matches!(tag, Tag::UTF8_STRING | Tag::PRINTABLE_STRING | Tag::IA5_STRING) {
                found = str::from_utf8(value).ok().map(str::to_owned);
            }
        }
    }
    found
}
