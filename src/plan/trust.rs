//! The planes' side of a change: which of a planeID are concerned, and what their CA becomes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Error, Observer, Status, until};
use crate::cluster::{self, Cluster};
use crate::doctor::{self, CaPlace, ClientCa};
use crate::manifest::to_yaml;
use crate::pki::{self, Certificate, Verdict};
use crate::plane::{CaSecret, Plane};
use crate::term::visible;

/// How often a write is tried again when somebody else writes in between.
const TRIES: usize = 5;
/// Managers that put back what they own, although they write as people's tools do.
const RESTORING: [&str; 7] =
    ["argocd", "kustomize-controller", "helm-controller", "flux", "fleet", "rancher", "external-secrets"];

/// The planes that a change concerns, and how they are written.
pub struct Trustees<'c> {
    pub control: &'c Cluster,
    pub deadline: Option<Instant>,
    /// Whether fields are taken over from other managers.
    pub force: bool,
    pub dry_run: bool,
}

/// What a plane's CA is to hold, made of what it holds now.
pub type Wanted<'w> = dyn Fn(&str, &str) -> String + 'w;

impl Trustees<'_> {
    /// The planes of a planeID, each with its CA.
    pub async fn all(&self, plane_id: &str) -> anyhow::Result<Vec<(Plane, ClientCa)>> {
        let mut planes = self.control.planes::<Plane>(None).await?;
        planes.retain(|plane| plane.plane_id() == plane_id);
        let cas = doctor::client_cas(self.control, &planes).await;
        Ok(planes.into_iter().zip(cas).collect())
    }

    /// The CA of some planes as they are now, by name.
    pub async fn of(&self, names: impl Iterator<Item = &String>) -> anyhow::Result<Vec<(Plane, ClientCa)>> {
        let mut planes = Vec::new();
        for name in names {
            planes.push(self.control.plane::<Plane>(name).await?);
        }
        let cas = doctor::client_cas(self.control, &planes).await;
        Ok(planes.into_iter().zip(cas).collect())
    }

    /// Fails where one of the planes can't be written, before anything is.
    pub async fn check(
        &self,
        planes: &[(Plane, ClientCa)],
        wanted: &Wanted<'_>,
        manifests: bool,
    ) -> anyhow::Result<()> {
        for (plane, ca) in planes {
            let text = readable(plane, ca)?;
            let home = Home::of(plane);
            if let Some(manager) = self.manager(plane, &home).await?.filter(|_| !self.force) {
                if !manifests {
                    return Err(Error::OtherManager { plane: plane.name().into(), what: home.what(), manager }.into());
                }
                continue;
            }
            self.write(plane, &home, &wanted(plane.name(), &text), true)
                .await
                .map_err(|error| Error::Unwritable { plane: plane.name().into(), why: error.to_string() })?;
        }
        Ok(())
    }

    /// Makes each plane's CA what is wanted; where another manager owns it, by a manifest that is waited for.
    pub async fn make(
        &self,
        step: &'static str,
        names: impl Iterator<Item = &String>,
        wanted: &Wanted<'_>,
        did: &str,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        for (plane, ca) in self.of(names).await? {
            let shown = visible(plane.name()).into_owned();
            if self.stands(&plane, &ca, wanted)? {
                observer.tell(step, Status::Found, &format!("{shown} {did} already"));
                continue;
            }
            let home = Home::of(&plane);
            match self.manager(&plane, &home).await?.filter(|_| !self.force) {
                None => self.write_over(&plane, wanted).await?,
                Some(manager) => {
                    let text = wanted(plane.name(), &readable(&plane, &ca)?);
                    let manifest = to_yaml(&home.manifest(&plane, &text))?;
                    let path = observer.manifest(&format!("{}.yaml", plane.name()), &manifest)?;
                    let waiting =
                        format!("{} owns {} of {shown}: {path} is to be applied by it", visible(&manager), home.what());
                    observer.tell(step, Status::Skipped, &waiting);
                    until(self.deadline, observer, async || {
                        let now = self.of([plane.name().to_owned()].iter()).await?;
                        let arrived = now.iter().all(|(plane, ca)| self.stands(plane, ca, wanted).unwrap_or(false));
                        Ok(if arrived { Ok(()) } else { Err(waiting.clone()) })
                    })
                    .await?;
                }
            }
            observer.tell(step, Status::Done, &format!("{shown} {did}"));
        }
        Ok(())
    }

    /// Whether a plane's CA is what is wanted of it.
    fn stands(&self, plane: &Plane, ca: &ClientCa, wanted: &Wanted<'_>) -> anyhow::Result<bool> {
        let text = readable(plane, ca)?;
        Ok(wanted(plane.name(), &text) == text)
    }

    async fn write_over(&self, plane: &Plane, wanted: &Wanted<'_>) -> anyhow::Result<()> {
        let mut tries = TRIES;
        loop {
            let now = self.of([plane.name().to_owned()].iter()).await?;
            let Some((plane, ca)) = now.first() else {
                return Ok(());
            };
            let text = wanted(plane.name(), &readable(plane, ca)?);
            match self.write(plane, &Home::of(plane), &text, self.dry_run).await {
                Err(cluster::Error::Changed) if tries > 1 => tries -= 1,
                result => return Ok(result?),
            }
        }
    }

    async fn write(&self, plane: &Plane, home: &Home, text: &str, dry_run: bool) -> Result<(), cluster::Error> {
        match home {
            Home::Inline => self.control.set_client_ca(plane, text, dry_run).await,
            Home::Secret(at) => {
                let secret = self.control.existing_secret(&at.secret).await?;
                let data = BTreeMap::from([(at.key.clone(), text.as_bytes().to_vec().into())]);
                self.control.update_secret(&secret, data, dry_run).await.map(drop)
            }
        }
    }

    /// Who would put back what is written here.
    async fn manager(&self, plane: &Plane, home: &Home) -> Result<Option<String>, cluster::Error> {
        let owners = match home {
            Home::Inline => cluster::writers(&plane.metadata, "/f:spec/f:clusterAgent/f:clientCA/f:value"),
            Home::Secret(at) => self.control.existing_secret(&at.secret).await?.writers(&at.key),
        };
        let restores = |writer: &cluster::Writer| {
            let by_hand = writer.manager == cluster::MANAGER || writer.manager.starts_with("kubectl");
            !by_hand && (writer.applies || RESTORING.iter().any(|name| writer.manager.contains(name)))
        };
        Ok(owners.into_iter().find(restores).map(|writer| writer.manager))
    }
}

/// A plane's CA as it stands; empty where nothing is there, an error where that isn't known.
fn readable(plane: &Plane, ca: &ClientCa) -> Result<String, Error> {
    match &ca.text {
        Ok(text) => Ok(text.clone()),
        Err(_) if ca.source == "none" => Ok(String::new()),
        Err(problem) => Err(Error::Unwritable { plane: plane.name().into(), why: problem.text.clone() }),
    }
}

/// Where a plane's CA is written.
enum Home {
    Inline,
    Secret(CaSecret),
}

impl Home {
    fn of(plane: &Plane) -> Self {
        match doctor::ca_place(plane) {
            CaPlace::Secret(secret) => Self::Secret(secret),
            CaPlace::Value(_) | CaPlace::Unusable(..) => Self::Inline,
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Inline => "clientCA.value".into(),
            Self::Secret(at) => format!("the key {} of Secret {}", visible(&at.key), at.secret),
        }
    }

    /// What is to be applied instead: the object without what the server adds, and of a Secret no other key.
    fn manifest(&self, plane: &Plane, text: &str) -> Value {
        match self {
            Self::Inline => {
                let mut spec = serde_json::to_value(&plane.spec).unwrap_or_default();
                spec["clusterAgent"]["clientCA"] = json!({"value": text});
                let metadata = &plane.metadata;
                let mut manifest = json!({
                    "apiVersion": crate::plane::CLUSTER_BUILD_PLANE.api_version(),
                    "kind": crate::plane::CLUSTER_BUILD_PLANE.kind,
                    "metadata": {"name": plane.name()},
                    "spec": spec,
                });
                for (field, of) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
                    if let Some(of) = of.as_ref().filter(|of| !of.is_empty()) {
                        manifest["metadata"][field] = json!(of);
                    }
                }
                manifest
            }
            Self::Secret(at) => json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": at.secret.name, "namespace": at.secret.namespace},
                "stringData": {&at.key: text},
            }),
        }
    }
}

/// A CA with another one beside it, and without anything that isn't a certificate.
pub fn with(text: &str, new: &str) -> String {
    let mut ders: Vec<_> = Certificate::all_in(text).into_iter().map(|certificate| certificate.der).collect();
    for der in pki::certificates(new) {
        if ders.contains(&der) {
            continue;
        }
        ders.push(der);
    }
    // Text around the certificates is somebody's, and stays where nothing is to be added.
    if pki::certificates(text).len() == ders.len() { text.to_owned() } else { encode(&ders) }
}

/// A CA with the new one, and without those that an agent with the old certificates would need, that pin a certificate,
/// or that have ended.
pub fn without(text: &str, old: &[Vec<u8>], new: &str, at: Timestamp) -> String {
    let new = pki::certificates(new);
    let needed = |der: &Vec<u8>| old.iter().any(|old| old == der || pki::issued(old, der));
    let stays = |certificate: &Certificate| {
        new.contains(&certificate.der) || (certificate.ca && certificate.not_after >= at && !needed(&certificate.der))
    };
    let mut ders: Vec<_> =
        Certificate::all_in(text).into_iter().filter(stays).map(|certificate| certificate.der).collect();
    for der in new {
        if !ders.contains(&der) {
            ders.push(der);
        }
    }
    let now: Vec<_> = pki::certificates(text);
    if now == ders { text.to_owned() } else { encode(&ders) }
}

fn encode(ders: &[Vec<u8>]) -> String {
    ders.iter().map(|der| pki::encode("CERTIFICATE", der)).collect()
}

/// Fails where one of the planes would refuse what an agent presents.
pub fn all_trust(planes: &[(Plane, ClientCa)], presented: &[Vec<u8>], at: Timestamp) -> Result<(), Error> {
    for (plane, ca) in planes {
        let why = match ca.verdict(presented, at) {
            Verdict::Authorized { .. } => continue,
            Verdict::Refused(refusal) => refusal.message,
            Verdict::Unknown(why) => why,
        };
        return Err(Error::NotTrusted { plane: plane.name().into(), why });
    }
    Ok(())
}
