//! The planes' side of a change: which of a planeID are concerned, and what their CA becomes.

use std::collections::BTreeSet;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::error::Error;
use super::observer::{Observer, Status, until};
use crate::cluster::{self, Cluster};
use crate::estate::{CaPlace, ClientCa, client_cas};
use crate::manifest::to_yaml;
use crate::pki::{self, Bundle, Certificate, Trust, Verdict};
use crate::plane::{CaSecret, DryRun, Plane, PlaneKey};
use crate::text::visible;

/// How often a write is tried again when somebody else writes in between.
const TRIES: usize = 5;

/// The planes that a change concerns, and how they are written.
pub struct Trustees<'c> {
    pub control: &'c Cluster,
    pub deadline: Option<Instant>,
    /// Whether fields are taken over from other managers.
    pub force: bool,
    /// Whether manifests can be written for other managers.
    pub manifests: bool,
}

/// A plane with its CA.
pub type Trustee = (Plane, ClientCa);

/// A plane as it is named here: by what distinguishes it within its family.
pub fn name(plane: &Plane) -> String {
    plane.key().to_string()
}

/// What a plane's CA is to hold, made of its name and what it holds now.
pub type Wanted<'w> = dyn Fn(&str, &str) -> String + 'w;

impl Trustees<'_> {
    /// The planes of a planeID in both scopes and all namespaces, each with its CA.
    pub async fn all(&self, plane_id: &str) -> anyhow::Result<Vec<Trustee>> {
        let of_id = |plane: Plane| (plane.plane_id() == plane_id).then_some(plane);
        // A plane that isn't written would refuse the agent with its new certificate.
        let planes = self.control.whole_family_as(of_id).await;
        let planes = planes.with_context(|| format!("could not find all planes of planeID {}", visible(plane_id)))?;
        let planes: Vec<_> = planes.into_iter().flatten().collect();
        let cas = client_cas(self.control, &planes).await;
        Ok(planes.into_iter().zip(cas).collect())
    }

    /// The CA of some planes as they are now; without those that are gone.
    pub async fn of(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> anyhow::Result<Vec<Trustee>> {
        let mut planes = Vec::new();
        for name in names {
            if let Some(key) = PlaneKey::of_family(self.control.kind().family, name.as_ref()) {
                planes.extend(self.control.around(&key).plane_if_any::<Plane>(&key.name).await?);
            }
        }
        let cas = client_cas(self.control, &planes).await;
        Ok(planes.into_iter().zip(cas).collect())
    }

    /// Fails where one of the planes can't be written, before anything is.
    pub async fn check(&self, planes: &[Trustee], wanted: &Wanted<'_>) -> anyhow::Result<()> {
        for (plane, ca) in planes {
            let text = readable(plane, ca)?;
            if let Some(at) = CaPlace::secret(plane) {
                self.refuse_shared(plane, &at).await?;
            }
            if self.manager(plane).await?.is_some() && !self.force {
                continue;
            }
            match self.write(plane, &wanted(&name(plane), &text), DryRun::Server).await {
                // The controller writes, too; a write in earnest is tried again.
                Ok(()) | Err(cluster::Error::Changed { .. }) => {}
                Err(error) => return Err(unwritable(plane, error.to_string()).into()),
            }
        }
        Ok(())
    }

    /// A Secret that is not this planeID's alone, or that cert-manager writes, is not for us to take a CA out of.
    async fn refuse_shared(&self, plane: &Plane, at: &CaSecret) -> anyhow::Result<()> {
        if let Some(secret) = self.control.secret(&at.secret).await?
            && let Some(certificate) = secret.certificate()
        {
            let why = format!("cert-manager writes its Secret {} (Certificate {certificate})", at.secret);
            return Err(unwritable(plane, why).into());
        }
        let other = |other: Plane| {
            let same = CaPlace::secret(&other).as_ref() == Some(at);
            (same && other.plane_id() != plane.plane_id()).then(|| name(&other))
        };
        let others: Vec<_> = self.control.whole_family_as(other).await?.into_iter().flatten().collect();
        if others.is_empty() {
            return Ok(());
        }
        let others = others.join(", ");
        let why =
            format!("its CA's Secret {at} is also used by {others} with another planeID: create a separate Secret");
        Err(unwritable(plane, why).into())
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
        let names: Vec<_> = names.collect();
        let mut pending = Vec::new();
        let planes = self.of(&names).await?;
        for gone in names.iter().filter(|name| planes.iter().all(|(plane, _)| self::name(plane) != ***name)) {
            observer.outcome(step, Status::Skipped, &format!("{} no longer exists", visible(gone)));
        }
        for (plane, ca) in &planes {
            let shown = visible(&name(plane)).into_owned();
            let text = readable(plane, ca)?;
            if wanted(&name(plane), &text) == text {
                observer.outcome(step, Status::Found, &format!("{shown} {did}"));
                continue;
            }
            match self.manager(plane).await? {
                Some(manager) if !self.force => {
                    let manifest = to_yaml(&manifest(plane, &wanted(&name(plane), &text)))?;
                    let path =
                        observer.manifest(&format!("{step}-{}.yaml", name(plane).replace('/', "-")), &manifest)?;
                    let manager = visible(&manager).into_owned();
                    let waiting = format!("{manager} owns {} of {shown}: {path} is to be applied by it", title(plane));
                    observer.outcome(step, Status::Skipped, &waiting);
                    pending.push((name(plane), waiting));
                }
                owner => {
                    self.write_over(&name(plane), wanted).await?;
                    let source =
                        owner.map(|manager| format!("; {} owns it: change its source, too", visible(&manager)));
                    observer.outcome(step, Status::Done, &format!("{shown} {did}{}", source.unwrap_or_default()));
                }
            }
        }
        for (name, waiting) in pending {
            until(self.deadline, observer, async || {
                let now = self.of([&name]).await?;
                let is = |(plane, ca): &Trustee| {
                    readable(plane, ca).is_ok_and(|text| wanted(&self::name(plane), &text) == text)
                };
                Ok(if now.iter().all(is) { Ok(()) } else { Err(waiting.clone()) })
            })
            .await?;
            observer.outcome(step, Status::Done, &format!("{} {did}", visible(&name)));
        }
        Ok(())
    }

    async fn write_over(&self, name: &str, wanted: &Wanted<'_>) -> anyhow::Result<()> {
        let mut tries = TRIES;
        loop {
            let now = self.of([name]).await?;
            let Some((plane, ca)) = now.first() else {
                return Ok(());
            };
            let text = wanted(name, &readable(plane, ca)?);
            match self.write(plane, &text, DryRun::None).await {
                Err(cluster::Error::Changed { .. }) if tries > 1 => tries -= 1,
                result => return Ok(result?),
            }
        }
    }

    async fn write(&self, plane: &Plane, text: &str, dry_run: DryRun) -> Result<(), cluster::Error> {
        match CaPlace::secret(plane) {
            None => self.control.around(&plane.key()).set_client_ca(plane, text, dry_run).await,
            Some(at) => {
                let data = [(at.key.clone(), text.as_bytes().to_vec().into())].into();
                match self.control.secret(&at.secret).await? {
                    Some(secret) => self.control.update_secret(&secret, data, dry_run).await.map(drop),
                    None => self.control.create_secret(&at.secret, "Opaque", data, dry_run).await.map(drop),
                }
            }
        }
    }

    /// Who would put back what is written here.
    ///
    /// # Errors
    /// [`Error::OtherManager`] where neither that one's field may be taken over nor a manifest be written for it.
    async fn manager(&self, plane: &Plane) -> anyhow::Result<Option<String>> {
        let owners = match CaPlace::secret(plane) {
            None => cluster::writers(&plane.metadata, "/f:spec/f:clusterAgent/f:clientCA/f:value"),
            Some(at) => {
                self.control.secret(&at.secret).await?.map(|secret| secret.writers(&at.key)).unwrap_or_default()
            }
        };
        match owners.into_iter().find(cluster::Writer::restores).map(|writer| writer.manager) {
            Some(manager) if !self.force && !self.manifests => {
                Err(Error::OtherManager { plane: name(plane), what: title(plane), manager }.into())
            }
            manager => Ok(manager),
        }
    }
}

/// A plane's CA as it is; empty where nothing is there, an error where that isn't known.
fn readable(plane: &Plane, ca: &ClientCa) -> Result<String, Error> {
    match ca.text() {
        Ok(text) => Ok(text.to_owned()),
        Err(problem) if problem.is_missing() => Ok(String::new()),
        Err(problem) => Err(unwritable(plane, problem.message.clone())),
    }
}

fn unwritable(plane: &Plane, why: String) -> Error {
    Error::Unwritable { plane: name(plane), why }
}

/// A plane's CA, by its place.
fn title(plane: &Plane) -> String {
    let in_secret = |at: CaSecret| format!("the key {} of Secret {}", visible(&at.key), at.secret);
    CaPlace::secret(plane).map_or_else(|| "clientCA.value".into(), in_secret)
}

/// What is to be applied instead: the object without what the server adds, and of a Secret that key alone.
fn manifest(plane: &Plane, text: &str) -> Value {
    match CaPlace::secret(plane) {
        None => {
            let mut spec = serde_json::to_value(&plane.spec).unwrap_or_default();
            spec["clusterAgent"]["clientCA"] = json!({"value": text});
            let metadata = &plane.metadata;
            let mut manifest = json!({
                "apiVersion": plane.kind.api_version(),
                "kind": plane.kind.kind,
                "metadata": {"name": plane.name()},
                "spec": spec,
            });
            if let Some(namespace) = &metadata.namespace {
                manifest["metadata"]["namespace"] = namespace.as_str().into();
            }
            for (field, of) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
                if let Some(of) = of.as_ref().filter(|of| !of.is_empty()) {
                    manifest["metadata"][field] = json!(of);
                }
            }
            manifest
        }
        Some(at) => json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": at.secret.name, "namespace": at.secret.namespace},
            "stringData": {&at.key: text},
        }),
    }
}

/// Whether a plane reads its CA out of this key of a Secret of this name.
pub fn is_home(plane: &Plane, secret: &crate::plane::NamespacedName, key: &str) -> bool {
    CaPlace::secret(plane).is_some_and(|at| at.secret == *secret && at.key == key)
}

fn ders(ca: &Bundle) -> Vec<Vec<u8>> {
    ca.certificates().iter().map(|certificate| certificate.der.clone()).collect()
}

/// A text that holds just these certificates: as it is where it does, so that what is around them stays.
fn holding(ca: &Bundle, ders: &[Vec<u8>]) -> String {
    if ca.ders() == ders { ca.pem().to_owned() } else { Bundle::from_iter(ders).pem().to_owned() }
}

/// A CA with another one beside it, and without anything that isn't a certificate.
pub fn with(text: &str, new: &str) -> String {
    let (ca, new) = (Bundle::from(text), Bundle::from(new));
    let mut all = ders(&ca);
    for der in new.ders() {
        if !all.contains(der) {
            all.push(der.clone());
        }
    }
    holding(&ca, &all)
}

/// A CA with the new one, and without those that issued the agent's old certificate, that pin another one of its name, or
/// that have expired. Where none of those of before authorized the old certificate, it was another CA's: then all of before
/// go, since no agent that is connected needs them.
pub fn without(text: &str, old: &[Vec<u8>], before: &str, new: &str, at: Timestamp) -> String {
    let [ca, before, new] = [text, before, new].map(Bundle::from);
    let authorized = before.verdict(old, at).is_authorized();
    let issued = |der: &Vec<u8>| old.iter().any(|old| old == der || pki::issued(old, der));
    let foreign = !authorized && !before.ders().iter().any(issued);
    let name = old.first().and_then(|leaf| Certificate::from_der(leaf)).map(|leaf| leaf.subject);
    let goes = |certificate: &Certificate| {
        let der = &certificate.der;
        let pinned = Some(&certificate.subject) == name.as_ref() && pki::trust(der, at) == Ok(Trust::Itself);
        pinned || certificate.not_after < at || issued(der) || (foreign && before.ders().contains(der))
    };
    let stays = |one: &&Certificate| new.ders().contains(&one.der) || !goes(one);
    let stay: Vec<_> = ca.certificates().iter().filter(stays).map(|one| one.der.clone()).collect();
    with(&holding(&ca, &stay), new.pem())
}

/// A CA as it was before, without the new one; what somebody else put there since stays.
pub fn back(text: &str, before: &str, new: &str) -> String {
    let [ca, old, new] = [text, before, new].map(Bundle::from);
    let rest: Vec<_> = ders(&ca).into_iter().filter(|der| !new.ders().contains(der)).collect();
    let set = |ders: &[Vec<u8>]| ders.iter().cloned().collect::<BTreeSet<_>>();
    if set(&rest) == set(&ders(&old)) { before.to_owned() } else { holding(&ca, &rest) }
}

/// Fails where one of the planes would refuse what an agent presents.
pub fn all_trust(planes: &[Trustee], presented: &[Vec<u8>], at: Timestamp) -> Result<(), Error> {
    for (plane, ca) in planes {
        let why = match ca.verdict(presented, at) {
            Verdict::Authorized { .. } => continue,
            Verdict::Refused(refusal) => refusal.message,
            Verdict::Unknown(why) => why,
        };
        return Err(Error::NotTrusted { plane: name(plane), why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{self, Estate, Reports, Root, of_cert_manager, plane, plane_object, secret};
    use crate::plane::NamespacedName;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn root(name: &str) -> Root {
        fixtures::root(name, now())
    }

    fn leaf(plane_id: &str, root: &Root) -> String {
        fixtures::leaf(plane_id, root, now()).certificate
    }

    #[test]
    fn a_ca_comes_beside_the_old_one_and_the_old_one_goes() {
        let (old, new, other) = (root("old"), root("new"), root("other"));
        let (agent, stranger) = (leaf("a", &old), leaf("b", &other));
        let commented = format!("# ours\n{}", old.certificate);
        let both = with(&commented, &new.certificate);
        assert_eq!(both, format!("{}{}", old.certificate, new.certificate));
        assert_eq!(with(&both, &new.certificate), both);
        assert_eq!(with(&commented, &old.certificate), commented, "what is right stays as it is");
        let presented = pki::certificates(&agent);
        let bundle = format!("{both}{}{stranger}", other.certificate);
        let after = without(&bundle, &presented, &both, &new.certificate, now());
        let stays = format!("{}{}{stranger}", new.certificate, other.certificate);
        assert_eq!(after, stays, "what other agents need stays");
        // The agent's own certificate of before, pinned, goes; so does what has ended.
        let former = leaf("a", &other);
        let pinned = format!("{former}{}", new.certificate);
        assert_eq!(without(&pinned, &presented, &pinned, &new.certificate, now()), new.certificate);
        let later = now() + jiff::SignedDuration::from_hours(24 * 400);
        assert_eq!(without(&stays, &presented, &bundle, &new.certificate, later), new.certificate);
        assert_eq!(without("", &presented, "", &new.certificate, now()), new.certificate);
    }

    #[test]
    fn the_ca_of_before_goes_where_the_agent_had_a_certificate_of_another() {
        let (before, new, foreign) = (root("before"), root("new"), root("foreign"));
        let presented = pki::certificates(&leaf("a", &foreign));
        let both = with(&before.certificate, &new.certificate);
        assert_eq!(without(&both, &presented, &before.certificate, &new.certificate, now()), new.certificate);
        // One that came since is somebody else's.
        let later = root("later").certificate;
        let three = format!("{both}{later}");
        let after = without(&three, &presented, &before.certificate, &new.certificate, now());
        assert_eq!(after, format!("{}{later}", new.certificate));
    }

    #[test]
    fn back_keeps_what_came_in_between() {
        let (old, new, other) = (root("old"), root("new"), root("other"));
        let before = format!("# ours\n{}", old.certificate);
        assert_eq!(back(&with(&before, &new.certificate), &before, &new.certificate), before);
        let three = format!("{}{}{}", old.certificate, other.certificate, new.certificate);
        let rest = format!("{}{}", old.certificate, other.certificate);
        assert_eq!(back(&three, &before, &new.certificate), rest);
        assert_eq!(back(&new.certificate, "", &new.certificate), "");
    }

    /// Runs `make` for the planes `p` and `gone`, so that they trust a CA beside their own.
    async fn make(at: &Estate, force: bool, manifests: bool, new: &str, reported: &mut Reports) -> anyhow::Result<()> {
        let deadline = Some(Instant::now());
        let trustees = Trustees { control: at.clusters().control, deadline, force, manifests };
        let names = ["gone".to_owned(), "p".to_owned()];
        trustees.make("stage", names.iter(), &|_, text| with(text, new), "trusts the new CA", reported).await
    }

    #[tokio::test]
    async fn a_ca_is_written_unless_another_manager_would_put_it_back() {
        let (old, new) = (root("old").certificate, root("new").certificate);
        let mut object = plane_object("p", "id", &old, now());
        let at = Estate::of([object.clone()], []);
        let mut reported = Reports::default();
        make(&at, false, false, &new, &mut reported).await.unwrap();
        make(&at, false, false, &new, &mut reported).await.unwrap();
        let gone = ("stage", Status::Skipped, "gone no longer exists".to_owned());
        let trusts = |status| ("stage", status, "p trusts the new CA".to_owned());
        assert_eq!(reported.steps, [gone.clone(), trusts(Status::Done), gone, trusts(Status::Found)]);

        let fields = json!({"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:value": {}}}}});
        object["metadata"]["managedFields"] = json!([{"manager": "argocd", "operation": "Apply", "apiVersion": "openchoreo.dev/v1alpha1", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
        let at = Estate::of([object], []);
        let refused = make(&at, false, false, &new, &mut Reports::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), "clientCA.value of p belongs to argocd");
        let mut reported = Reports::default();
        let waiting = make(&at, false, true, &new, &mut reported).await.unwrap_err();
        let expected = "argocd owns clientCA.value of p: out/stage-p.yaml is to be applied by it";
        assert!(waiting.to_string().ends_with(expected), "{waiting}");
        let (name, text) = &reported.manifests[0];
        assert!(name == "stage-p.yaml" && text.contains("kind: ClusterBuildPlane") && text.contains("planeID: id"));
        assert_eq!(at.writes(), 0);
        let mut reported = Reports::default();
        make(&at, true, false, &new, &mut reported).await.unwrap();
        assert!(reported.says("stage", "p trusts the new CA; argocd owns it: change its source, too"));
    }

    #[tokio::test]
    async fn a_secret_that_is_not_the_plane_ids_alone_is_not_written() {
        let ca = root("ca").certificate;
        let by_secret = |name: &str, id: &str| {
            let mut object = plane_object(name, id, "", now());
            let place = json!({"secretRef": {"namespace": "n", "name": "s", "key": "ca.crt"}});
            object["spec"]["clusterAgent"]["clientCA"] = place;
            object
        };
        let held = secret("n", "s", &[("ca.crt", &ca)]);
        let check = async |control: Vec<Value>| {
            let at = Estate::of(control, []);
            let trustees = Trustees { control: at.clusters().control, deadline: None, force: false, manifests: false };
            let planes = trustees.all("id").await.unwrap();
            let result = trustees.check(&planes, &|_, text| text.to_owned()).await;
            assert_eq!(at.writes(), 0);
            result.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check(vec![by_secret("p", "id"), by_secret("q", "id"), held.clone()]).await, "");
        let shared = check(vec![by_secret("p", "id"), by_secret("x", "other"), held.clone()]).await;
        assert!(shared.contains("its CA's Secret n/s:ca.crt is also used by x with another planeID"), "{shared}");
        let managed = check(vec![by_secret("p", "id"), of_cert_manager(held)]).await;
        assert!(managed.contains("cert-manager writes its Secret n/s (Certificate agent)"), "{managed}");
        assert!(is_home(
            &plane(&by_secret("p", "id")),
            &NamespacedName { namespace: "n".into(), name: "s".into() },
            "ca.crt"
        ));
    }
}
