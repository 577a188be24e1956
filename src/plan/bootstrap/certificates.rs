//! What the agent is to present and the CA that the plane is to trust: taken from a Secret, or made.

use jiff::Timestamp;

use super::wish::Bootstrap;
use crate::cluster::StoredSecret;
use crate::estate::Pair;
use crate::pki::{
    self, Authority, Bundle, IssueError, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PemPair, PrivateKey, Verdict,
};
use crate::plan::agent::{Data, pair_data, pair_of};
use crate::plan::error::Error;
use crate::plan::issuer::Issuer;
use crate::plane::{Span, day};
use crate::text::visible;

/// How long what is made is valid.
const CA_VALID_FOR: Span = Span::from_seconds(5 * 365 * 86_400);
const VALID_FOR: Span = Span::from_seconds(365 * 86_400);

/// What the agent is to present, and the CA that the plane is to trust.
#[derive(Default)]
pub struct Certificates {
    /// In PEM.
    pub ca: String,
    /// The CA with its key, where it is known.
    pub authority: Option<Authority>,
    /// What the agent's Secret holds, or is to hold; none where cert-manager is to issue it.
    pub pair: Option<PemPair>,
    /// Who writes the agent's Secret.
    pub issuer: Issuer,
    pub new: Option<New>,
    /// What is reported of them.
    pub reported: String,
}

/// What was made, and is not written yet.
pub struct New {
    /// What the Secret beside the agent is to hold.
    pub data: Data,
    /// That Secret, where it is to be replaced.
    pub replaced: Option<StoredSecret>,
    /// A CA that was made, and is to be kept before anything trusts it.
    pub ca: Option<PemPair>,
}

impl Certificates {
    /// Takes what the Secret of an issuer holds for the planeID, and else makes what it is to hold.
    pub fn issued(
        plan: &Bootstrap,
        issuer: Issuer,
        stored: Option<StoredSecret>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        match (issuer, stored) {
            (Issuer::CertManager, Some(secret)) => {
                let (certificate, key) = (secret.text(LEAF_CERTIFICATE), secret.text(LEAF_PRIVATE_KEY));
                let authority = Authority::from_pem(&certificate, &key, now).map_err(IssueError::from)?;
                let ca = authority.certificate.to_pem();
                let reported = held(plan, &secret, &ca, "");
                Ok(Self { ca, authority: Some(authority), issuer, reported, ..Self::default() })
            }
            (Issuer::Own, Some(secret)) if foreign(plan.plane.plane_id(), &secret, now).is_none() => {
                Self::existing(plan, &secret, None)
            }
            (issuer, stored) => Self::made(plan, issuer, stored, now),
        }
    }

    /// Takes what a Secret holds, from any issuer. `given` is its CA in PEM, where that is not the one in the Secret.
    pub fn existing(plan: &Bootstrap, secret: &StoredSecret, given: Option<String>) -> anyhow::Result<Self> {
        let pair = pair_of(secret)?;
        let leaf = pair.leaf();
        let own = leaf.to_pem();
        let ca = match given {
            Some(given) => given,
            None if !pair.ca.is_empty() => pair.ca.clone(),
            // Without a CA of its own a self-signed certificate is what is trusted.
            None if leaf.self_issued() => own.clone(),
            None => {
                let why = "it has no ca.crt: provide its CA with --client-ca-file".to_owned();
                return Err(Error::Pair { secret: secret.name.to_string(), why }.into());
            }
        };
        let issuer = if pair.cert_manager.is_some() { Issuer::CertManager } else { Issuer::Own };
        let mut more = format!(", until {}", day(leaf.not_after));
        if issuer == Issuer::CertManager && has_all(&ca, &own) {
            let renewal = day(leaf.chart_renewal());
            more.push_str(&format!("; the plane pins it, and will refuse the certificate that cert-manager issues on {renewal}: replace it with `certs rotate`"));
        }
        let reported = held(plan, secret, &ca, &more);
        let pair = Some(PemPair {
            certificate: secret.text(LEAF_CERTIFICATE).to_string(),
            key: secret.text(LEAF_PRIVATE_KEY),
        });
        Ok(Self { ca, pair, issuer, reported, ..Self::default() })
    }

    /// Makes a CA and the agent's pair, as far as a run before did not.
    fn made(plan: &Bootstrap, issuer: Issuer, replaced: Option<StoredSecret>, now: Timestamp) -> anyhow::Result<Self> {
        let id = plan.plane.plane_id();
        let (authority, new_ca) = match &plan.authority {
            Some(authority) => (authority.again()?, None),
            None => new_authority(plan, now).map(|(authority, ca)| (authority, Some(ca)))?,
        };
        let ca = authority.certificate.to_pem();
        let mut reported = format!("the CA is valid until {}", day(authority.certificate.not_after));
        let pair = match (issuer, plan.pair.as_ref().filter(|pair| is_usable(pair, id, &ca, now))) {
            // It signs with the CA's key, wherever else that is kept.
            (Issuer::CertManager, _) => None,
            (Issuer::Own, Some(pair)) => {
                reported.push_str(", and so is the agent's certificate, which was provided");
                Some(pair.clone())
            }
            (Issuer::Own, None) => {
                let pair = new_pair(plan, &authority, now)?;
                let until = pair.leaf().map(|leaf| day(leaf.not_after)).unwrap_or_default();
                reported.push_str(&format!(
                    ", the agent's certificate until {until}: renew the certificate before that date"
                ));
                Some(pair)
            }
        };
        let data = match &pair {
            Some(pair) => pair_data(&pair.certificate, &pair.key, &ca),
            None => pair_data(&ca, &authority.key_to_pem(), ""),
        };
        let new = Some(New { data, replaced, ca: new_ca });
        Ok(Self { ca, authority: Some(authority), pair, issuer, new, reported })
    }

    /// Fails where the plane would refuse what the agent presents.
    pub fn check(&self, plane: &str, now: Timestamp) -> Result<(), Error> {
        let Some(pair) = &self.pair else {
            return Ok(());
        };
        match Bundle::from(self.ca.as_str()).verdict(&pki::certificates(&pair.certificate), now) {
            Verdict::Refused(refusal) => Err(Error::NotTrusted { plane: plane.to_owned(), why: refusal.message }),
            _ => Ok(()),
        }
    }
}

/// Whether a pair of a run before is the agent's, and its CA this one.
fn is_usable(pair: &PemPair, plane_id: &str, ca: &str, now: Timestamp) -> bool {
    let presented = pki::certificates(&pair.certificate);
    pair.leaf().is_some_and(|leaf| leaf.common_name.as_deref() == Some(plane_id))
        && Bundle::from(ca).verdict(&presented, now).is_authorized()
}

/// What is reported of a Secret that holds the certificates; the CA of a run before may be another one.
fn held(plan: &Bootstrap, secret: &StoredSecret, ca: &str, more: &str) -> String {
    let held = Bundle::from(ca);
    let other = plan.authority.as_ref().is_some_and(|authority| !held.ders().contains(&authority.certificate.der));
    let other = if other { "; the CA in --out-dir is another one, and is not used" } else { "" };
    format!("Secret {} holds them{more}{other}", secret.name)
}

/// Why a Secret does not hold what was made for this planeID; none where it does.
pub fn foreign(plane_id: &str, secret: &StoredSecret, now: Timestamp) -> Option<String> {
    let Ok(pair) = Pair::of(secret) else {
        return Some("holds no certificate".to_owned());
    };
    let leaf = pair.leaf();
    match leaf.common_name.as_deref() {
        name if name != Some(plane_id) => Some(format!("holds a certificate of {}", visible(name.unwrap_or("nobody")))),
        _ if !pair.fits => Some("holds a key that doesn't belong to its certificate".into()),
        _ if leaf.not_after <= now => Some(format!("holds a certificate that expired on {}", leaf.not_after)),
        _ => None,
    }
}

/// Makes a CA for the agents of a planeID; also in PEM, with its key.
pub fn new_authority(plan: &Bootstrap, now: Timestamp) -> Result<(Authority, PemPair), IssueError> {
    let noun = plan.plane.kind.family.noun();
    let name: String = format!("{noun} agents of {}", plan.plane.plane_id()).chars().take(64).collect();
    let ca = PemPair::from(pki::ca(&name, plan.key_algorithm, CA_VALID_FOR, now)?);
    let authority = Authority::from_pem(&ca.certificate, &ca.key, now)?;
    Ok((authority, ca))
}

/// Makes an agent's pair.
pub fn new_pair(plan: &Bootstrap, authority: &Authority, now: Timestamp) -> Result<PemPair, IssueError> {
    let key = PrivateKey::generate(plan.key_algorithm)?;
    Ok(pki::client(plan.plane.plane_id(), authority, key, VALID_FOR, now)?.pair.into())
}

/// Whether a text holds all certificates of another one.
pub fn has_all(held: &str, wanted: &str) -> bool {
    let held = Bundle::from(held);
    Bundle::from(wanted).ders().iter().all(|der| held.ders().contains(der))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{leaf, of_cert_manager, pair_secret, registration, root, secret, stored};

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_secret_is_ours_with_a_valid_pair_of_the_plane_id() {
        let ca = root("ca", now());
        let pair = leaf("id", &ca, now());
        let mixed = PemPair { key: leaf("id", &ca, now()).key, ..pair.clone() };
        let later = now() + jiff::SignedDuration::from_hours(24 * 366);
        for (pair, at, why) in [
            (&pair, now(), None),
            (&pair, later, Some("holds a certificate that expired on 2027-11-22T12:00:00Z")),
            (&leaf("other", &ca, now()), now(), Some("holds a certificate of other")),
            (&mixed, now(), Some("holds a key that doesn't belong to its certificate")),
        ] {
            assert_eq!(foreign("id", &stored(&pair_secret("s", pair, "")), at).as_deref(), why);
        }
        assert_eq!(foreign("id", &stored(&secret("n", "s", &[])), now()).unwrap(), "holds no certificate");
    }

    #[test]
    fn what_is_missing_is_made_and_what_a_run_before_made_is_used() {
        let plan = registration();
        let own = Certificates::issued(&plan, Issuer::Own, None, now()).unwrap();
        let new = own.new.as_ref().unwrap();
        assert_eq!(
            own.reported,
            "the CA is valid until 2031-11-21, the agent's certificate until 2027-11-22: renew the certificate before that date"
        );
        assert!(own.pair.is_some() && new.ca.is_some() && new.replaced.is_none());
        assert_eq!(new.data["ca.crt"].as_slice(), own.ca.as_bytes());
        own.check("p", now()).unwrap();
        let by_manager = Certificates::issued(&plan, Issuer::CertManager, None, now()).unwrap();
        assert_eq!(by_manager.reported, "the CA is valid until 2031-11-21");
        assert!(by_manager.pair.is_none(), "cert-manager issues it");
        by_manager.check("p", now()).unwrap();
        let data = by_manager.new.unwrap().data;
        assert!(data["tls.crt"].as_slice() == by_manager.ca.as_bytes() && data["ca.crt"].is_empty());

        let before = root("ca", now());
        for (id, is_used) in [("id", true), ("other", false)] {
            let pair = leaf(id, &before, now());
            let authority = Some(before.authority.again().unwrap());
            let plan = Bootstrap { authority, pair: Some(pair.clone()), ..registration() };
            let made = Certificates::issued(&plan, Issuer::Own, None, now()).unwrap();
            assert_eq!(
                (made.pair.unwrap().certificate == pair.certificate, made.reported.ends_with("provided")),
                (is_used, is_used)
            );
            assert!(made.ca == before.certificate && made.new.unwrap().ca.is_none());
        }
    }

    #[test]
    fn what_a_secret_holds_is_taken_and_replaced_only_where_it_is_not_ours() {
        let ca = root("ca", now());
        let ours = pair_secret("s", &leaf("id", &ca, now()), &ca.certificate);
        let plan = registration();
        let taken = Certificates::issued(&plan, Issuer::Own, Some(stored(&ours)), now()).unwrap();
        assert_eq!(taken.reported, "Secret builders/s holds them, until 2027-11-22");
        assert!(taken.new.is_none() && taken.ca == ca.certificate);
        let theirs = pair_secret("s", &leaf("other", &ca, now()), &ca.certificate);
        let made = Certificates::issued(&plan, Issuer::Own, Some(stored(&theirs)), now()).unwrap();
        assert!(made.new.unwrap().replaced.is_some());
        let of_ca = pair_secret("s", &ca.authority.pem_pair(), "");
        let authority = Certificates::issued(&plan, Issuer::CertManager, Some(stored(&of_ca)), now()).unwrap();
        assert!(authority.authority.is_some() && authority.reported == "Secret builders/s holds them");
        assert!(Certificates::issued(&plan, Issuer::CertManager, Some(stored(&theirs)), now()).is_err());
        let other = root("other", now()).authority;
        let plan = Bootstrap { authority: Some(other), ..registration() };
        let taken = Certificates::issued(&plan, Issuer::Own, Some(stored(&ours)), now()).unwrap();
        assert!(
            taken.reported.ends_with("; the CA in --out-dir is another one, and is not used"),
            "{}",
            taken.reported
        );
    }

    #[test]
    fn an_existing_certificate_needs_a_ca_from_somewhere() {
        let ca = root("ca", now());
        let plan = registration();
        let pair = leaf("id", &ca, now());
        let bare = stored(&pair_secret("s", &pair, ""));
        let error = Certificates::existing(&plan, &bare, None).err().unwrap();
        assert!(error.to_string().contains("provide its CA with --client-ca-file"), "{error}");
        let given = Certificates::existing(&plan, &bare, Some(ca.certificate.clone())).unwrap();
        assert!(given.ca == ca.certificate && given.issuer == Issuer::Own);
        let itself = stored(&pair_secret("s", &ca.authority.pem_pair(), ""));
        assert_eq!(Certificates::existing(&plan, &itself, None).unwrap().ca, ca.certificate, "it is self-signed");
        let managed = stored(&of_cert_manager(pair_secret("s", &pair, &pair.certificate)));
        let pinned = Certificates::existing(&plan, &managed, None).unwrap();
        assert_eq!(pinned.issuer, Issuer::CertManager);
        assert!(
            pinned
                .reported
                .contains("; the plane pins it, and will refuse the certificate that cert-manager issues on ")
        );
    }

    #[test]
    fn what_the_plane_would_refuse_is_refused_before_it() {
        let (ca, other) = (root("ca", now()), root("other", now()));
        let of = |ca: &str, pair| Certificates { ca: ca.to_owned(), pair, ..Certificates::default() };
        let pair = || Some(leaf("id", &ca, now()));
        assert!(of(&ca.certificate, pair()).check("p", now()).is_ok());
        assert!(of("", None).check("p", now()).is_ok());
        let refused = of(&other.certificate, pair()).check("p", now()).unwrap_err();
        assert!(matches!(refused, Error::NotTrusted { plane, .. } if plane == "p"));
    }
}
