//! Which of many certificates signed which: for a list, not for a verdict.
//!
//! Each certificate is parsed once, and of those of one subject each key is tried once. A certificate is tried against
//! itself and against the keys that its key identifier names before all others, whose number is bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::gox509::{Check, Link, signature};

/// How many signatures are verified for all certificates together, but for the likeliest of each.
const CHECKS: usize = 20_000;
/// How many keys of one identifier are tried: identifiers don't have to be unique.
const LIKELY: usize = 8;

/// What signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// The first of those that have the key.
    Found(usize),
    /// It isn't among them.
    Missing,
    /// There are more of its name than are tried.
    Unknown,
}

/// Certificates by name and key. Those that can't be parsed sign nothing.
pub struct Issuers {
    links: Vec<Option<Link>>,
    /// For each subject the first certificate of each key, in order.
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    /// The same by subject and key identifier.
    by_key_id: HashMap<(Vec<u8>, Vec<u8>), Vec<usize>>,
    /// The first certificate of each subject and key.
    first: HashMap<(Vec<u8>, Vec<u8>), usize>,
    /// How many keys are tried for one certificate.
    most: usize,
}

impl Issuers {
    /// Takes certificates in DER.
    pub fn new<'d>(certificates: impl Iterator<Item = &'d [u8]>) -> Self {
        let links: Vec<_> = certificates.map(|der| Link::parse(der).ok()).collect();
        let most = (CHECKS / links.len().max(1)).max(LIKELY);
        let (mut by_subject, mut by_key_id, mut first) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (index, link) in links.iter().enumerate().filter_map(|(index, link)| Some((index, link.as_ref()?))) {
            if let Entry::Vacant(entry) = first.entry((link.subject.clone(), link.spki.clone())) {
                entry.insert(index);
                by_subject.entry(link.subject.clone()).or_insert_with(Vec::new).push(index);
            }
            if let Some(id) = &link.extensions.subject_key_id {
                let of_id = by_key_id.entry((link.subject.clone(), id.clone())).or_insert_with(Vec::new);
                if of_id.len() < LIKELY {
                    of_id.push(index);
                }
            }
        }
        Self { links, by_subject, by_key_id, first, most }
    }

    /// Returns what signed one of them.
    pub fn of(&self, index: usize) -> Issuer {
        let Some(child) = self.links.get(index).and_then(Option::as_ref) else {
            return Issuer::Missing;
        };
        let signed = |parent: &usize| {
            self.links[*parent].as_ref().is_some_and(|parent| signature(child, parent) == Check::Holds)
        };
        let own = (child.issuer == child.subject).then_some(index);
        let id = child.extensions.authority_key_id.clone().map(|id| (child.issuer.clone(), id));
        let of_id = id.and_then(|id| self.by_key_id.get(&id)).map(Vec::as_slice).unwrap_or_default();
        let of_name = self.by_subject.get(&child.issuer).map(Vec::as_slice).unwrap_or_default();
        let mut candidates = own.iter().chain(of_id).chain(of_name.iter().take(self.most));
        match candidates.find(|parent| signed(parent)) {
            Some(parent) => Issuer::Found(self.first_of_key(*parent)),
            None if of_name.len() > self.most => Issuer::Unknown,
            None => Issuer::Missing,
        }
    }

    /// The first certificate of the same subject and key.
    fn first_of_key(&self, index: usize) -> usize {
        let key = self.links[index].as_ref().map(|link| (link.subject.clone(), link.spki.clone()));
        key.and_then(|key| self.first.get(&key)).copied().unwrap_or(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CustomExtension, DnType, IsCa, Issuer as Signer, KeyPair};

    fn params(name: &str, number: usize) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some((number as u64).into());
        params
    }

    fn all(ders: &[Vec<u8>]) -> Vec<Issuer> {
        let issuers = Issuers::new(ders.iter().map(Vec::as_slice));
        (0..ders.len()).map(|index| issuers.of(index)).collect()
    }

    #[test]
    fn the_issuer_is_found_by_name_and_key() {
        let (ca, other, leaf) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let of_ca = |number| {
            let mut params = params("ca", number);
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params
        };
        let der = |certificate: rcgen::Certificate| certificate.der().to_vec();
        let ders = [
            // Another key of the same name, the CA, the same key once more, a leaf of it, and one of nobody's.
            der(of_ca(1).self_signed(&other).unwrap()),
            der(of_ca(2).self_signed(&ca).unwrap()),
            der(of_ca(3).self_signed(&ca).unwrap()),
            der(params("leaf", 4).signed_by(&leaf, &Signer::new(of_ca(2), &ca)).unwrap()),
            der(params("lost", 5).signed_by(&leaf, &Signer::new(of_ca(2), &leaf)).unwrap()),
            b"none".to_vec(),
        ];
        use Issuer::{Found, Missing};
        assert_eq!(all(&ders), [Found(0), Found(1), Found(1), Found(1), Missing, Missing]);
    }

    /// Against each other they are 4 million signatures.
    #[test]
    fn many_of_one_name_take_no_square_of_checks() {
        const MANY: usize = 2_000;
        let key = KeyPair::generate().unwrap();
        // The same certificate with different keys, of which no signature holds: the last octets of the key vary.
        let mut template = params("ca", 1);
        template.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![0; 8])];
        let der = template.self_signed(&key).unwrap().der().to_vec();
        let at = der.windows(8).position(|window| window == [0; 8]).unwrap();
        let mut ders: Vec<_> = (0..MANY)
            .map(|number| {
                let mut der = der.clone();
                der[at..at + 8].copy_from_slice(&(number as u64).to_be_bytes());
                der
            })
            .collect();
        // Of one key only the first is tried.
        assert_eq!(all(&ders)[1], Issuer::Missing);
        let keys: Vec<_> = (0..64).map(|_| KeyPair::generate().unwrap()).collect();
        ders.truncate(MANY - keys.len());
        ders.extend(keys.iter().map(|key| params("ca", 2).self_signed(key).unwrap().der().to_vec()));
        let found = all(&ders);
        assert_eq!(found[MANY - 1], Issuer::Found(MANY - 1));
        // Sixty-five keys are more than are tried for so many certificates, and that is said.
        assert_eq!(found[1], Issuer::Unknown);
    }
}
