//! The staging Secret of a rotation, beside the agent's: what was made and what was there before, from the first write
//! to the last.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::rotation::{Rotation, ca_name, values};
use crate::cluster::{Agent, StoredSecret};
use crate::estate::{Issuance, Pair};
use crate::pki::{
    self, Authority, Bundle, CA_CERTIFICATE, CA_PRIVATE_KEY, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey,
};
use crate::plan::agent::{Data, pair_data};
use crate::plan::error::Error;
use crate::plan::issuer::Issuer;
use crate::plan::trust::{Trustee, name};

/// What the agent's Secret held before.
pub const OLD_CERTIFICATE: &str = "old.crt";
pub const OLD_PRIVATE_KEY: &str = "old.key";
pub const OLD_CA: &str = "old-ca.crt";
/// The planes' CAs as they were before, as JSON by the planes' names.
const PLANES: &str = "planes.json";
/// Who issues the agent's certificate.
const ISSUER: &str = "way";
/// The Secret that the agent mounted before, and the one that it is to mount.
const FROM: &str = "from";
const TO: &str = "to";
/// What the agent was last restarted for before.
const REVISION: &str = "revision";

pub struct Staged {
    pub secret: StoredSecret,
    pub issuer: Issuer,
    /// The Secret that the agent mounted before.
    pub from: String,
    /// The Secret that the agent, or cert-manager, is to read.
    pub to: String,
    pub revision: Option<String>,
    /// The CA of each plane as it was before, in PEM.
    pub planes: BTreeMap<String, String>,
}

impl Staged {
    pub fn of(secret: StoredSecret) -> Result<Self, Error> {
        let name = secret.name.to_string();
        let broken = |why: &str| Error::Pair { secret: name.clone(), why: why.to_owned() };
        let stored = secret.text(ISSUER);
        let issuer = [Issuer::Own, Issuer::CertManager].into_iter().find(|issuer| issuer.name() == stored.as_str());
        let issuer = issuer.ok_or_else(|| broken("it does not belong to a rotation"))?;
        let planes =
            serde_json::from_slice(secret.bytes(PLANES)).map_err(|_| broken("its list of planes can't be read"))?;
        let [from, to, revision] = [FROM, TO, REVISION].map(|key| secret.text(key).to_string());
        if from.is_empty() || to.is_empty() || Bundle::from(secret.text(CA_CERTIFICATE).as_str()).ders().is_empty() {
            return Err(broken("it is incomplete: delete it if no plane needs its CA"));
        }
        let revision = Some(revision).filter(|revision| !revision.is_empty());
        Ok(Self { secret, issuer, from, to, revision, planes })
    }

    /// The new CA, in PEM.
    pub fn ca(&self) -> String {
        self.secret.text(CA_CERTIFICATE).to_string()
    }

    /// What a plane's CA was before, in PEM.
    pub fn before(&self, plane: &str) -> &str {
        self.planes.get(plane).map(String::as_str).unwrap_or_default()
    }

    /// What must stay in the values of the chart, or it undoes the change.
    pub fn values(&self) -> Vec<String> {
        values(self.issuer, &self.from, &self.to)
    }

    /// The certificates that the agent presented before.
    pub fn old(&self) -> Vec<Vec<u8>> {
        pki::certificates(&self.secret.text(OLD_CERTIFICATE))
    }

    /// The new pair for the agent's Secret.
    pub fn new_pair(&self) -> Data {
        self.pair_of([LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, CA_CERTIFICATE])
    }

    /// What the agent's Secret held before.
    pub fn old_pair(&self) -> Data {
        self.pair_of([OLD_CERTIFICATE, OLD_PRIVATE_KEY, OLD_CA])
    }

    /// The new CA with its key, for cert-manager.
    pub fn ca_pair(&self) -> Data {
        pair_data(&self.ca(), &self.secret.text(CA_PRIVATE_KEY), "")
    }

    fn pair_of(&self, keys: [&str; 3]) -> Data {
        let [certificate, key, ca] = keys.map(|key| self.secret.text(key));
        pair_data(&certificate, &key, &ca)
    }

    /// Whether cert-manager issues from the new CA.
    pub fn is_read_by(&self, issuance: &Issuance) -> bool {
        issuance.ca_secret.as_ref() == Some(&self.to)
    }

    /// Whether a pair is of the new CA.
    pub fn has_issued(&self, pair: &Pair) -> bool {
        Bundle::from(self.ca()).ders().iter().any(|ca| pki::issued(&pair.leaf().der, ca))
    }
}

/// What the staging Secret is to hold: a new CA, the agent's new pair unless cert-manager issues it, and what was before.
pub fn staging(
    rotation: &Rotation,
    issuer: Issuer,
    agent: &Agent,
    secret: &StoredSecret,
    concerned: &[Trustee],
    now: Timestamp,
) -> anyhow::Result<Data> {
    let plane_id = rotation.plane.plane_id();
    let ca =
        pki::ca(&ca_name(rotation.plane.kind.family, plane_id), rotation.key_algorithm, rotation.ca_valid_for, now)?;
    let ca_key = ca.key.to_pem();
    let mut data = Data::new();
    if issuer == Issuer::Own {
        let authority = Authority::from_pem(&ca.certificate, &ca_key, now).map_err(pki::IssueError::from)?;
        let key = PrivateKey::generate(rotation.key_algorithm)?;
        let leaf = pki::client(plane_id, &authority, key, rotation.valid_for, now)?.pair;
        data = pair_data(&leaf.certificate, &leaf.key.to_pem(), &ca.certificate);
    }
    let planes = concerned.iter().map(|(plane, ca)| (name(plane), ca.text().unwrap_or_default()));
    let from = &secret.name.name;
    for (key, text) in [
        (CA_CERTIFICATE, ca.certificate.as_str()),
        (CA_PRIVATE_KEY, &ca_key),
        (OLD_CERTIFICATE, &secret.text(LEAF_CERTIFICATE)),
        (OLD_PRIVATE_KEY, &secret.text(LEAF_PRIVATE_KEY)),
        (OLD_CA, &secret.text(CA_CERTIFICATE)),
        (ISSUER, issuer.name()),
        (REVISION, agent.revision.as_deref().unwrap_or_default()),
        (FROM, from),
        (TO, &rotation.target(issuer, secret)),
        (PLANES, &serde_json::to_string(&planes.collect::<BTreeMap<_, _>>())?),
    ] {
        data.insert(key.to_owned(), text.as_bytes().to_vec().into());
    }
    Ok(data)
}

/// The CAs of before with those of planes that came to trust the agent since, as the staging Secret holds them.
pub fn with_planes(staged: &Staged, adopted: &[Trustee]) -> anyhow::Result<Data> {
    let adopted = adopted.iter().map(|(plane, ca)| (name(plane), ca.text().unwrap_or_default()));
    let planes = staged.planes.iter().map(|(name, ca)| (name.clone(), ca.as_str())).chain(adopted);
    Ok([(PLANES.to_owned(), serde_json::to_vec(&planes.collect::<BTreeMap<_, _>>())?.into())].into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{BUILD, root, secret, stored};

    #[test]
    fn a_staging_secret_that_is_not_whole_is_refused() {
        let ca = root("ca", Timestamp::UNIX_EPOCH).certificate;
        let whole = [("way", "own"), ("from", "s"), ("to", "s"), ("planes.json", "{\"p\": \"x\"}"), ("ca.crt", &ca)];
        let of = |change: (&str, &str)| {
            let data = whole.map(|(key, text)| (key, if key == change.0 { change.1 } else { text }));
            Staged::of(stored(&secret(BUILD, "staging", &data)))
        };
        let staged = of(("", "")).unwrap();
        assert_eq!(
            (staged.issuer, staged.before("p"), staged.before("q"), staged.revision.clone()),
            (Issuer::Own, "x", "", None)
        );
        assert_eq!(of(("way", "cert-manager")).unwrap().issuer, Issuer::CertManager);
        for (change, why) in [
            (("way", "x"), "it does not belong to a rotation"),
            (("planes.json", "["), "its list of planes can't be read"),
            (("ca.crt", ""), "it is incomplete"),
            (("from", ""), "it is incomplete"),
        ] {
            let error = of(change).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
