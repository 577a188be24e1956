//! Where planes are looked for in a cluster: kinds, each in a namespace or in all of them.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::cluster::{self, Cluster, Listed, Namespaces, PlaneObject, Watches};
use crate::plane::{DEFAULT_KIND, KINDS, Kind, Plane, PlaneKey, PlaneName, Selector, Wanted};
use crate::text::visible;

/// Planes that were asked for, and an error for each that doesn't exist and for what may not be read.
pub type Chosen<T> = (Vec<T>, Vec<anyhow::Error>);

/// Returns the error for what may not be read, where a part of the planes is not enough.
///
/// # Errors
/// That error.
pub fn all_read<T>((planes, mut errors): Chosen<T>) -> anyhow::Result<Chosen<T>> {
    match errors.iter().position(|error| !is_not_found(error)) {
        Some(at) => Err(errors.swap_remove(at)),
        None => Ok((planes, errors)),
    }
}

/// Whether a plane doesn't exist, as opposed to not being known.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_none_or(cluster::Error::is_not_found)
}

/// The server has several kinds of which any may be meant.
#[derive(Debug, thiserror::Error)]
#[error("the server has {}, and the command line does not name one of them", .kinds.iter().map(|kind| kind.kind).collect::<Vec<_>>().join(" and "))]
pub struct Doubt {
    kinds: Vec<&'static Kind>,
}

impl Doubt {
    pub fn of(kinds: impl IntoIterator<Item = &'static Kind>) -> Self {
        Self { kinds: kinds.into_iter().collect() }
    }

    pub fn hint(&self) -> Option<String> {
        let words: Vec<_> = self.kinds.iter().map(|kind| format!("{}/NAME", kind.word())).collect();
        Some(format!("name the kind: {}", words.join(" or ")))
    }
}

/// What is looked for, and where.
#[derive(Clone)]
pub struct Lookup {
    /// The cluster; asked about planes of the first kind.
    pub cluster: Cluster,
    /// One for each kind that is meant.
    places: Vec<Cluster>,
    /// The planes that are named, each with the places where it may be; none where all are meant.
    named: Option<Vec<(String, Vec<Cluster>)>>,
    /// Whether nothing says which kind is meant.
    is_default: bool,
}

impl Lookup {
    /// Finds out which kinds are meant: those that are named, or the cluster-scoped build kinds that the server has.
    ///
    /// # Errors
    /// Those of the discovery, where it is needed.
    pub async fn of(cluster: Cluster, wanted: Wanted, namespaces: Namespaces) -> Result<Self, cluster::Error> {
        let Wanted { kinds, is_all, names } = wanted;
        let is_default = kinds.is_none();
        let any = if names.iter().any(|name| name.is_any) {
            served(&cluster, &KINDS.iter().collect::<Vec<_>>()).await?
        } else {
            Vec::new()
        };
        let kinds = match kinds {
            Some(kinds) if is_all => served(&cluster, &kinds).await?,
            Some(kinds) => kinds,
            // Nothing is left to find out.
            None if !names.is_empty() && names.iter().all(|name| name.kind.is_some() || name.is_any) => Vec::new(),
            None => {
                let builds: Vec<_> = [Some(DEFAULT_KIND), DEFAULT_KIND.successor()].into_iter().flatten().collect();
                served(&cluster, &builds).await?
            }
        };
        Ok(Self { is_default, ..Self::new(cluster, &kinds, &any, &names, &namespaces) })
    }

    /// The same of a cluster that can't report which kinds it has.
    pub fn unasked(cluster: Cluster, wanted: Wanted, namespaces: &Namespaces) -> Self {
        let Wanted { kinds, names, .. } = wanted;
        let any: Vec<_> = KINDS.iter().collect();
        Self::new(cluster, &kinds.unwrap_or_else(|| vec![DEFAULT_KIND]), &any, &names, namespaces)
    }

    /// `any` are the kinds of the names that are of any.
    fn new(
        cluster: Cluster,
        kinds: &[&'static Kind],
        any: &[&'static Kind],
        names: &[PlaneName],
        namespaces: &Namespaces,
    ) -> Self {
        let places_of = |kinds: &[&'static Kind]| kinds.iter().map(|kind| cluster.at(kind, namespaces)).collect();
        let places: Vec<Cluster> = places_of(kinds);
        let of_name = |name: &PlaneName| match name.kind {
            Some(kind) => (name.to_string(), vec![cluster.at(kind, namespaces)]),
            None if name.is_any => (name.to_string(), places_of(any)),
            None => (name.to_string(), places.clone()),
        };
        let named: Vec<_> = names.iter().map(of_name).collect();
        let first = places.first().or_else(|| named.first()?.1.first()).cloned().unwrap_or(cluster);
        Self { cluster: first, places, named: (!named.is_empty()).then_some(named), is_default: false }
    }

    /// Of planes that are known by what identifies them.
    pub fn of_keys(cluster: Cluster, keys: Vec<PlaneKey>, namespaces: &Namespaces) -> Self {
        let place = |key: &PlaneKey| match &key.namespace {
            Some(_) => cluster.around(key),
            None => cluster.at(key.kind, namespaces),
        };
        let named: Vec<_> = keys.iter().map(|key| (key.name.clone(), vec![place(key)])).collect();
        let cluster = named.first().map_or(cluster.clone(), |(_, places)| places[0].clone());
        Self { cluster, places: Vec::new(), named: Some(named), is_default: false }
    }

    /// Returns the kinds of which all planes, in all namespaces, are meant, and were listed without one of these errors.
    pub fn whole(&self, selector: Option<&Selector>, errors: &[anyhow::Error]) -> Vec<&'static Kind> {
        if self.named.is_some() || selector.is_some() {
            return Vec::new();
        }
        let unlisted = |kind: &Kind| {
            let of_kind = |error: &cluster::Error| matches!(error, cluster::Error::Unlisted(why) if why.kind == kind);
            errors.iter().any(|error| error.downcast_ref().is_some_and(of_kind))
        };
        let everywhere = self.places.iter().filter(|place| place.is_everywhere()).map(Cluster::kind);
        everywhere.filter(|kind| !unlisted(kind)).collect()
    }

    /// Returns the names; none where all planes are meant.
    pub fn names(&self) -> Vec<String> {
        self.named.iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// Returns what identifies the planes that are named, each where it is looked for first.
    pub fn named_keys(&self) -> Vec<PlaneKey> {
        let first = |(name, places): &(String, Vec<Cluster>)| places.first().unwrap_or(&self.cluster).key(name);
        self.named.iter().flatten().map(first).collect()
    }

    /// Whether a plane is one of those that are meant, by what identifies it.
    pub fn means(&self, key: &PlaneKey) -> bool {
        match &self.named {
            None => self.places.iter().any(|place| place.covers(key)),
            Some(named) => {
                named.iter().any(|(name, places)| *name == key.name && places.iter().any(|place| place.covers(key)))
            }
        }
    }

    /// Returns the kinds that are meant.
    pub fn kinds(&self) -> Vec<&'static Kind> {
        let named = self.named.iter().flatten().flat_map(|(_, places)| places);
        let places: Vec<_> = if self.named.is_some() { named.collect() } else { self.places.iter().collect() };
        let kinds: BTreeSet<_> = places.into_iter().map(Cluster::kind).collect();
        kinds.into_iter().collect()
    }

    /// Whether planes of several kinds are meant.
    pub fn has_kinds(&self) -> bool {
        self.kinds().len() > 1
    }

    /// Fails where nothing says which of two kinds is meant.
    ///
    /// # Errors
    /// [`Doubt`].
    pub fn refuse_doubt(&self) -> Result<(), Doubt> {
        let unsaid = self.named.as_ref().is_none_or(|named| named.iter().any(|(_, places)| places.len() > 1));
        if self.is_default && self.places.len() > 1 && unsaid {
            return Err(Doubt::of(self.places.iter().map(Cluster::kind)));
        }
        Ok(())
    }

    /// Returns the cluster as it is asked about a plane of this name.
    pub async fn only(&self, name: &PlaneName) -> anyhow::Result<Cluster> {
        self.refuse_doubt()?;
        let place = self.named.iter().flatten().find(|(named, _)| *named == name.as_str());
        Ok(place.and_then(|(_, places)| places.first()).unwrap_or(&self.cluster).clone())
    }

    /// Returns the planes, each made into what is needed of it as soon as it is there. Where none may be read, that is an error.
    pub async fn planes_as<T: PlaneObject, R>(
        &self,
        selector: Option<&Selector>,
        make: impl Fn(T) -> R,
    ) -> Result<Chosen<R>, cluster::Error> {
        let Some(named) = &self.named else {
            let lists = join_all(self.places.iter().map(|place| place.planes_as(selector, &make))).await;
            let mut all = Listed::default();
            for (place, list) in self.places.iter().zip(lists) {
                all.add(place.kind(), list)?;
            }
            if all.unlisted.len() == self.places.len() {
                return Ok((all.all()?, Vec::new()));
            }
            let unlisted = all.unlisted.into_iter().map(|unlisted| cluster::Error::from(unlisted).into());
            return Ok((all.planes, unlisted.collect()));
        };
        let distinct: BTreeSet<_> = named
            .iter()
            .flat_map(|(name, places)| places.iter().map(move |place| (name.as_str(), place.key(name))))
            .collect();
        let (mut planes, mut missing, mut found) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut denied = Vec::new();
        for (name, key) in distinct {
            match self.cluster.around(&key).exact_plane(name).await {
                Ok(plane) => {
                    found.insert(name);
                    planes.push(make(plane));
                }
                Err(error) if error.is_not_found() => missing.push((name, error)),
                Err(error @ cluster::Error::Forbidden { .. }) if self.has_kinds() => {
                    found.insert(name);
                    denied.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        if planes.is_empty() && missing.is_empty() && !denied.is_empty() {
            return Err(denied.swap_remove(0));
        }
        // A name that one of several kinds has, or may have, is found.
        missing.retain(|(name, _)| !found.contains(name));
        missing.dedup_by_key(|(name, _)| *name);
        // One list for all of them, and none where nothing is missing.
        let mut known = if missing.is_empty() { Vec::new() } else { self.known().await };
        if self.is_default && !missing.is_empty() {
            // A word that is nearly a kind's was taken for a name.
            known.extend(KINDS.iter().flat_map(|kind| [kind.kind.to_lowercase(), kind.word()]));
        }
        let missing =
            missing.into_iter().map(|(name, error)| self.of_kinds(name, error).with_similar(name, &known).into());
        Ok((planes, missing.chain(denied.into_iter().map(Into::into)).collect()))
    }

    /// Returns the error of a plane that doesn't exist; of one that was looked for among several kinds it names none of them.
    fn of_kinds(&self, name: &str, error: cluster::Error) -> cluster::Error {
        let places: Vec<_> =
            self.named.iter().flatten().filter(|(named, _)| named == name).flat_map(|(_, at)| at).collect();
        let are_builds = places.iter().all(|place| place.kind().family.is_kin(DEFAULT_KIND.family));
        if are_builds || places.len() < 2 {
            return error;
        }
        let what = format!("plane {}", visible(name));
        let command = self.cluster.target().command("choreoctl get planes -A");
        cluster::Error::NotFound { what, similar: Vec::new(), command }
    }

    /// Returns the error of a plane that is named and doesn't exist, with similar names.
    pub async fn missing(&self, name: &str) -> cluster::Error {
        let place = self.named.iter().flatten().find(|(named, _)| named == name).and_then(|(_, places)| places.first());
        let error = place.unwrap_or(&self.cluster).no_plane(name);
        self.of_kinds(name, error).with_similar(name, &self.known().await)
    }

    /// Returns what identifies the planes that are meant: of a name those of every kind that has it, or the first kind's
    /// where none does.
    pub async fn keys(&self, selector: Option<&Selector>) -> anyhow::Result<Vec<PlaneKey>> {
        match &self.named {
            None => Ok(all_read(self.planes_as(selector, |plane: Plane| plane.key()).await?)?.0),
            Some(named) => {
                let mut keys = BTreeSet::new();
                for (name, places) in named {
                    let found = existing(name, places).await?;
                    let first = || places.first().unwrap_or(&self.cluster).key(name);
                    keys.extend(if found.is_empty() { vec![first()] } else { found });
                }
                Ok(keys.into_iter().collect())
            }
        }
    }

    /// Fails where a plane that is still to be created may become one of several kinds.
    pub async fn refuse_unborn(&self) -> anyhow::Result<()> {
        for (name, places) in self.named.iter().flatten().filter(|(_, places)| places.len() > 1) {
            if existing(name, places).await?.is_empty() {
                return Err(Doubt::of(places.iter().map(Cluster::kind)).into());
            }
        }
        Ok(())
    }

    /// Returns the names of the planes that there are where those that are meant were looked for.
    pub async fn known(&self) -> Vec<String> {
        let places: Vec<_> = match &self.named {
            None => self.places.iter().collect(),
            Some(named) => named.iter().flat_map(|(_, places)| places).collect(),
        };
        let mut seen = BTreeSet::new();
        let distinct = places.into_iter().filter(|place| seen.insert(place.key("")));
        join_all(distinct.map(Cluster::names)).await.concat()
    }

    /// Starts a watch on the planes.
    pub fn watch(&self, selector: Option<&Selector>) -> Watches {
        let Some(named) = &self.named else {
            return Watches::start(self.places.iter().map(|place| (place, selector.cloned(), None)));
        };
        let mut of_place = std::collections::BTreeMap::<PlaneKey, (Cluster, BTreeSet<&str>)>::new();
        for (name, places) in named {
            for place in places {
                let entry = of_place.entry(place.key("")).or_insert_with(|| (place.clone(), BTreeSet::new()));
                entry.1.insert(name);
            }
        }
        Watches::start(of_place.values().map(|(place, names)| {
            let only = if names.len() == 1 { names.first().map(|name| (*name).to_owned()) } else { None };
            (place, None, only)
        }))
    }
}

/// Returns what identifies the planes of a name in several places where it may be; in one it need not exist.
async fn existing(name: &str, places: &[Cluster]) -> Result<Vec<PlaneKey>, cluster::Error> {
    let mut found = Vec::new();
    for place in places {
        if places.len() == 1 || place.plane_if_any::<Plane>(name).await?.is_some() {
            found.push(place.key(name));
        }
    }
    Ok(found)
}

/// Returns those of some kinds that the server has; the first, whose absence it then explains, where it has none.
async fn served(cluster: &Cluster, kinds: &[&'static Kind]) -> Result<Vec<&'static Kind>, cluster::Error> {
    let served = match cluster.served_kinds().await {
        // Discovery may be closed; the planes themselves may be open.
        Err(cluster::Error::Forbidden { .. }) => vec![DEFAULT_KIND],
        served => served?,
    };
    let known: Vec<_> = kinds.iter().copied().filter(|kind| served.contains(kind)).collect();
    if known.is_empty() && kinds.len() == KINDS.len() {
        return Err(cluster.no_kinds());
    }
    Ok(if known.is_empty() { vec![DEFAULT_KIND] } else { known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Error, Fake};
    use crate::plane::{KINDS, Scope, Word};
    use serde_json::{Value, json};

    fn object(kind: &str, namespace: Option<&str>, name: &str) -> Value {
        let mut object =
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": {}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        object
    }

    fn kinds(words: &[&str]) -> Vec<&'static Kind> {
        words.iter().map(|word| Kind::of_word(word).unwrap()).collect()
    }

    fn wanted(words: &[&str]) -> Wanted {
        let words: Vec<Word> = words.iter().map(|word| word.parse().unwrap()).collect();
        Wanted::of(&words).unwrap()
    }

    fn named(namespace: &str) -> Namespaces {
        Namespaces::Named(namespace.into())
    }

    async fn look(fake: &Fake, words: &[&str], namespaces: Namespaces) -> Lookup {
        Lookup::of(fake.cluster(), wanted(words), namespaces).await.unwrap()
    }

    /// The planes that are found, as `WORD/NAMESPACE/NAME`, and the errors.
    async fn found(lookup: &Lookup) -> (Vec<String>, Vec<String>) {
        let title = |plane: Plane| plane.key().with_word();
        let (planes, missing) = lookup.planes_as(None, title).await.unwrap();
        (planes, missing.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn without_a_word_the_build_kind_that_is_served_is_meant() {
        let fake = Fake::of([object("ClusterBuildPlane", None, "a"), object("ClusterWorkflowPlane", None, "a")]);
        for (served, expected) in
            [(&["cbp", "cdp"][..], "cbp/a"), (&["cwp", "workflowplane"], "cwp/a"), (&["buildplane", "cwp"], "cwp/a")]
        {
            fake.serve(&kinds(served));
            for words in [&[][..], &["a"]] {
                let lookup = look(&fake, words, Namespaces::Context).await;
                assert_eq!(found(&lookup).await.0, [expected]);
                lookup.refuse_doubt().unwrap();
            }
        }
        fake.serve(&kinds(&["dp"]));
        let lookup = look(&fake, &[], Namespaces::Context).await;
        let error = lookup.planes_as(None, |plane: Plane| plane).await.err().unwrap();
        assert!(matches!(error, Error::NoSuchKind { kind: "ClusterBuildPlane", .. }), "{error:?}");
        let missing = lookup.missing("a").await.to_string();
        assert_eq!(missing, "plane a does not exist");
        let lookup = look(&fake, &["planes/a", "dp/b"], named("team")).await;
        let (_, missing) = found(&lookup).await;
        assert_eq!(
            missing,
            ["DataPlane a in the namespace team does not exist", "DataPlane b in the namespace team does not exist"]
        );
        for name in ["a", "b"] {
            assert_eq!(
                lookup.missing(name).await.to_string(),
                format!("DataPlane {name} in the namespace team does not exist")
            );
        }
        fake.serve(&kinds(&["dp", "cdp"]));
        let lookup = look(&fake, &["planes", "a"], named("team")).await;
        assert_eq!(found(&lookup).await.1, ["plane a does not exist"]);
        let missing = lookup.missing("a").await;
        assert_eq!(
            (missing.to_string().as_str(), missing.hint().unwrap().contains("get planes -A")),
            ("plane a does not exist", true)
        );
        fake.serve(&[]);
        let none = Lookup::of(fake.cluster(), wanted(&["planes"]), Namespaces::All).await.err().unwrap();
        assert_eq!(none.to_string(), "the cluster has no CRD of a plane");
        // Who may not ask which kinds there are may be allowed to read planes.
        fake.serve(&kinds(&["cbp"]));
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1");
        assert_eq!(look(&fake, &[], Namespaces::Context).await.kinds(), kinds(&["cbp"]));
    }

    #[tokio::test]
    async fn of_two_build_kinds_both_are_read_and_a_write_asks_for_the_word() {
        let fake = Fake::of([
            object("ClusterBuildPlane", None, "a"),
            object("ClusterBuildPlane", None, "old"),
            object("ClusterWorkflowPlane", None, "a"),
        ]);
        let (planes, missing) = found(&look(&fake, &[], Namespaces::Context).await).await;
        assert_eq!((planes, missing), (vec!["cbp/a".into(), "cbp/old".into(), "cwp/a".into()], vec![]));
        let lookup = look(&fake, &["a", "old", "gone"], Namespaces::Context).await;
        let (planes, missing) = found(&lookup).await;
        assert_eq!(planes, ["cbp/a", "cwp/a", "cbp/old"]);
        assert_eq!(missing, ["plane gone does not exist"], "one error for both kinds");
        let doubt = lookup.refuse_doubt().unwrap_err();
        let reported =
            "the server has ClusterBuildPlane and ClusterWorkflowPlane, and the command line does not name one of them";
        assert_eq!(doubt.to_string(), reported);
        assert_eq!(doubt.hint().unwrap(), "name the kind: cbp/NAME or cwp/NAME");
        assert!(look(&fake, &[], Namespaces::Context).await.refuse_doubt().is_err());
        for words in [&["cbp/a"][..], &["cbp", "a"], &["cbp,cwp", "a"], &["planes"], &["cwp"]] {
            look(&fake, words, Namespaces::Context).await.refuse_doubt().unwrap();
        }
        assert!(look(&fake, &["cbp/a", "a"], Namespaces::Context).await.refuse_doubt().is_err());
        let any = look(&fake, &["planes/a"], Namespaces::Context).await;
        assert_eq!(found(&any).await, (vec!["cbp/a".to_owned(), "cwp/a".to_owned()], vec![]));
        any.refuse_doubt().unwrap();
        let name: PlaneName = "a".parse().unwrap();
        assert!(lookup.only(&name).await.err().unwrap().is::<Doubt>());
    }

    #[tokio::test]
    async fn namespaced_planes_are_those_of_the_context_of_a_namespace_or_of_all() {
        let fake = Fake::of([
            object("ClusterDataPlane", None, "a"),
            object("DataPlane", Some("default"), "a"),
            object("DataPlane", Some("team"), "a"),
            object("DataPlane", Some("team"), "b"),
            object("ObservabilityPlane", Some("team"), "b"),
        ]);
        let all = ["dp/default/a", "dp/team/a", "dp/team/b"];
        for (words, namespaces, expected) in [
            (&["dp"][..], Namespaces::Context, &all[..1]),
            (&["dp"], named("team"), &all[1..]),
            (&["dp"], Namespaces::All, &all),
            (&["dp/b"], named("team"), &all[2..]),
            (&["cdp,dp", "a"], named("team"), &["cdp/a", "dp/team/a"]),
            (&["cdp"], named("team"), &["cdp/a"]),
            (
                &["planes"],
                Namespaces::All,
                &["cdp/a", "dp/default/a", "dp/team/a", "dp/team/b", "observabilityplane/team/b"],
            ),
        ] {
            let lookup = look(&fake, words, namespaces.clone()).await;
            assert_eq!(found(&lookup).await, (expected.iter().map(|plane| (*plane).to_owned()).collect(), vec![]));
        }
        let lookup = look(&fake, &["dp/b"], Namespaces::Context).await;
        assert_eq!(found(&lookup).await.1.len(), 1);
        assert_eq!(lookup.known().await, ["a"]);
    }

    #[tokio::test]
    async fn what_may_be_read_is_found_beside_an_error_for_the_rest() {
        let fake = Fake::of([
            object("ClusterBuildPlane", None, "a"),
            object("ClusterDataPlane", None, "a"),
            object("DataPlane", Some("team"), "b"),
        ]);
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1/clusterdataplanes");
        let lookup = look(&fake, &["planes"], Namespaces::All).await;
        let (planes, errors) = lookup.planes_as(None, |plane: Plane| plane.key().to_string()).await.unwrap();
        assert_eq!((planes, errors.len()), (vec!["a".to_owned(), "team/b".to_owned()], 1));
        assert!(errors[0].to_string().starts_with("could not list ClusterDataPlanes: not allowed: "), "{}", errors[0]);
        let whole = lookup.whole(None, &errors);
        assert!(whole.len() == KINDS.len() - 1 && !whole.contains(&Kind::of_word("cdp").unwrap()), "{whole:?}");
        // A part is not enough where something is to be done with all of them.
        assert!(lookup.keys(None).await.is_err());
        // A name that one kind has is found, and one that a kind may have is not denied.
        let (planes, errors) = found(&look(&fake, &["cbp,cdp", "a", "gone"], Namespaces::Context).await).await;
        assert_eq!((planes, errors.len()), (vec!["cbp/a".to_owned()], 2));
        assert!(errors.iter().all(|error| error.starts_with("not allowed: ")), "{errors:?}");
        for words in [&["cdp"][..], &["cdp/a"], &["cdp", "a"]] {
            let lookup = look(&fake, words, Namespaces::Context).await;
            assert!(lookup.planes_as(None, |plane: Plane| plane).await.is_err(), "{words:?}");
        }
    }

    #[tokio::test]
    async fn names_with_their_kinds_cost_no_question_which_kinds_there_are() {
        let fake = Fake::of([object("ClusterDataPlane", None, "a")]);
        let lookup = look(&fake, &["cdp/a", "dp/b"], Namespaces::Context).await;
        assert!(fake.asked().is_empty(), "{:?}", fake.asked());
        assert_eq!((lookup.kinds(), lookup.has_kinds()), (kinds(&["cdp", "dp"]), true));
        let keys: Vec<_> = lookup.named_keys().iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["a", "default/b"]);
        assert_eq!(lookup.keys(None).await.unwrap(), lookup.named_keys());
        assert_eq!(lookup.cluster.kind(), Kind::of_word("cdp").unwrap());
    }

    #[tokio::test]
    async fn a_plane_that_may_be_in_two_places_is_wherever_it_exists() {
        let fake = Fake::of([
            object("ClusterWorkflowPlane", None, "new"),
            object("ClusterBuildPlane", None, "both"),
            object("ClusterWorkflowPlane", None, "both"),
        ]);
        let lookup = look(&fake, &["new", "both", "gone"], Namespaces::Context).await;
        let keys = lookup.keys(None).await.unwrap();
        let keys: Vec<_> = keys.iter().map(PlaneKey::with_word).collect();
        assert_eq!(keys, ["cbp/both", "cbp/gone", "cwp/both", "cwp/new"]);
        assert!(lookup.refuse_unborn().await.unwrap_err().is::<Doubt>());
        for words in [&["new", "both"][..], &["cwp/gone"], &["cwp", "gone"]] {
            look(&fake, words, Namespaces::Context).await.refuse_unborn().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_lookup_says_what_it_covers() {
        let fake = Fake::default();
        let key = |word: &str, namespace: Option<&str>, name: &str| PlaneKey {
            kind: Kind::of_word(word).unwrap(),
            namespace: namespace.map(str::to_owned),
            name: name.into(),
        };
        let lookup = look(&fake, &["dp"], named("team")).await;
        assert!(lookup.means(&key("dp", Some("team"), "a")) && lookup.whole(None, &[]).is_empty());
        assert!(!lookup.means(&key("dp", Some("other"), "a")) && !lookup.means(&key("cdp", None, "a")));
        let lookup = look(&fake, &["dp,cdp"], Namespaces::All).await;
        assert!(lookup.means(&key("dp", Some("other"), "a")) && lookup.means(&key("cdp", None, "a")));
        assert_eq!(lookup.whole(None, &[]), kinds(&["dp", "cdp"]));
        assert!(lookup.whole(Some(&"a=b".parse().unwrap()), &[]).is_empty());
        let lookup = look(&fake, &["cdp,dp", "a"], named("team")).await;
        assert!(lookup.means(&key("cdp", None, "a")) && lookup.means(&key("dp", Some("team"), "a")));
        assert!(!lookup.means(&key("cdp", None, "b")) && !lookup.means(&key("cwp", None, "a")));
        assert!(lookup.whole(None, &[]).is_empty());
        let all = look(&fake, &["planes"], Namespaces::Context).await;
        let of_scope = |scope| KINDS.iter().filter(move |kind| kind.scope == scope).collect::<Vec<_>>();
        assert_eq!((all.kinds().len(), all.whole(None, &[])), (KINDS.len(), of_scope(Scope::Cluster)));
    }

    #[tokio::test]
    async fn planes_that_are_known_by_what_identifies_them_are_found_again() {
        let fake = Fake::of([object("DataPlane", Some("x"), "a"), object("DataPlane", Some("y"), "a")]);
        let key = |namespace: Option<&str>| PlaneKey {
            kind: Kind::of_word("dp").unwrap(),
            namespace: namespace.map(str::to_owned),
            name: "a".into(),
        };
        let lookup = Lookup::of_keys(fake.cluster(), vec![key(Some("x")), key(Some("y"))], &Namespaces::Context);
        assert_eq!(found(&lookup).await.0, ["dp/x/a", "dp/y/a"]);
        let lookup = Lookup::of_keys(fake.cluster(), vec![key(None)], &named("y"));
        assert_eq!(found(&lookup).await.0, ["dp/y/a"]);
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_asked_still_has_the_kinds_that_are_meant() {
        let fake = Fake::default();
        let unasked = |words: &[&str]| Lookup::unasked(fake.cluster(), wanted(words), &named("n"));
        for (words, expected) in [(&[][..], &["cbp"][..]), (&["a"], &["cbp"]), (&["dp,cop"], &["dp", "cop"])] {
            let mut expected = kinds(expected);
            expected.sort();
            assert_eq!(unasked(words).kinds(), expected);
        }
        let keys: Vec<_> = unasked(&["dp/a", "cop/b"]).named_keys().iter().map(PlaneKey::words).collect();
        assert_eq!(keys, ["dp/a -n n", "cop/b"]);
        assert!(fake.asked().is_empty());
    }
}
