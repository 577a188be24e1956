//! Words that choose planes on the command line, and the planes that they choose in a cluster or in files.

use std::collections::BTreeSet;

use clap::{Args, ValueHint};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};

use super::files::{place, read_manifests};
use super::lookup::{Chosen, Doubt, Lookup, all_read};
use super::namespaces::{NamespaceArgs, NamespacesArgs};
use super::session::Session;
use crate::cluster::{self, Cluster, Namespaces, PlaneObject};
use crate::complete;
use crate::manifest::{self, Input, Object, objects};
use crate::plane::{
    DEFAULT_KIND, KINDS, Plane, PlaneKey, PlaneName, Scope, Selector, Wanted, Word, closest, did_you_mean,
};
use crate::text::visible;

/// Words that do not choose planes, or not in a way that the verb can use.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    #[error("{0}")]
    Invalid(String),
    #[error("a plane's name needs one namespace: omit --all-namespaces")]
    NamedEverywhere,
    #[error("planes are selected by names or by labels, not by both")]
    NamesAndSelector,
    #[error("no plane is selected")]
    Nothing { wanted: Wanted },
    #[error("{place}: the plane's namespace is {}, and --namespace is {given}", visible(.own))]
    OtherNamespace { place: String, own: String, given: String },
    #[error("name one plane, as NAME, TYPE NAME or TYPE/NAME")]
    NotOne { wanted: Wanted },
}

impl WordsError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing { wanted } => {
                let ways = "name planes, or choose some with -l, --all or -f";
                Some(wanted.explain().map_or_else(|| ways.to_owned(), |more| format!("{ways}; {more}")))
            }
            Self::NotOne { wanted } => wanted.explain(),
            Self::OtherNamespace { .. } => Some("leave --namespace out, or change the manifest".into()),
            Self::Invalid(_) | Self::NamedEverywhere | Self::NamesAndSelector => None,
        }
    }
}

/// Refuses a namespace on the command line that is not the manifest's.
pub fn same_namespace(key: &PlaneKey, given: Option<String>, place: impl Fn() -> String) -> Result<(), WordsError> {
    match (key.kind.scope, key.namespace.clone(), given) {
        (Scope::Namespaced, Some(own), Some(given)) if own != given => {
            Err(WordsError::OtherNamespace { place: place(), own, given })
        }
        _ => Ok(()),
    }
}

/// Reads words.
fn wanted(words: &[Word]) -> Result<Wanted, WordsError> {
    Wanted::of(words).map_err(WordsError::Invalid)
}

/// Planes to look at: all of the kind, unless names or labels choose some.
#[derive(Args, Clone, Debug)]
pub struct ChoiceArgs {
    /// Types (separated by commas, or `planes`) and names of planes, or TYPE/NAME; a name without a type is a
    /// ClusterBuildPlane or ClusterWorkflowPlane, whichever the server has [default: all of these; with -f, and for
    /// `status`, all planes of all types]
    #[arg(value_name = "TYPE|NAME", add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    /// Label selector of the planes
    #[arg(short = 'l', long, value_name = "SELECTOR", add = ArgValueCompleter::new(complete::labels))]
    pub selector: Option<Selector>,
}

impl ChoiceArgs {
    fn wanted(&self) -> Result<Wanted, WordsError> {
        let wanted = wanted(&self.words)?;
        if wanted.names.is_empty() || self.selector.is_none() { Ok(wanted) } else { Err(WordsError::NamesAndSelector) }
    }

    /// Returns the names.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn names(&self) -> anyhow::Result<Vec<PlaneName>> {
        Ok(self.wanted()?.names)
    }

    /// Whether planes of all namespaces are meant.
    pub fn is_everywhere(&self) -> bool {
        self.namespaces.are_all()
    }

    /// Connects to the cluster, and finds out which kinds are meant there.
    pub async fn connect(&self, session: &Session) -> anyhow::Result<Lookup> {
        self.look(session.connect().await?).await
    }

    /// The same in a cluster.
    pub async fn look(&self, cluster: Cluster) -> anyhow::Result<Lookup> {
        let wanted = self.wanted()?;
        if self.namespaces.are_all() && !wanted.names.is_empty() {
            return Err(WordsError::NamedEverywhere.into());
        }
        Ok(Lookup::of(cluster, wanted, self.namespaces.namespaces()).await?)
    }

    /// The same, where without words planes of all kinds are meant, in all namespaces.
    pub async fn look_everywhere(&self, cluster: Cluster) -> anyhow::Result<Lookup> {
        let wanted = self.wanted()?;
        if wanted != Wanted::default() {
            return self.look(cluster).await;
        }
        let wanted = Wanted { kinds: Some(KINDS.iter().collect()), is_all: true, names: Vec::new() };
        let namespaces = self.namespaces.one().map_or(Namespaces::All, Namespaces::Named);
        Ok(Lookup::of(cluster, wanted, namespaces).await?)
    }

    /// The same in a cluster that can't report which kinds it has.
    pub fn look_unasked(&self, cluster: Cluster) -> Result<Lookup, WordsError> {
        Ok(Lookup::unasked(cluster, self.wanted()?, &self.namespaces.namespaces()))
    }

    /// The planes in a cluster, each made into what is needed of it as soon as it is there.
    pub async fn in_cluster<T: PlaneObject, R>(
        &self,
        lookup: &Lookup,
        make: impl Fn(T) -> R,
    ) -> Result<Chosen<R>, cluster::Error> {
        lookup.planes_as(self.selector.as_ref(), make).await
    }

    /// The planes out of files.
    pub fn in_files(&self, planes: &[Plane]) -> anyhow::Result<(BTreeSet<PlaneKey>, Vec<anyhow::Error>)> {
        let wanted = self.wanted()?;
        let is_of_kind = |plane: &Plane| wanted.kinds.as_ref().is_none_or(|kinds| kinds.contains(&plane.kind));
        let is_there = |plane: &Plane| match &self.namespaces.one() {
            Some(namespace) if plane.kind.scope == Scope::Namespaced => {
                plane.metadata.namespace.as_ref() == Some(namespace)
            }
            _ => true,
        };
        let all: Vec<_> = planes.iter().filter(|plane| is_of_kind(plane) && is_there(plane)).collect();
        let missing = wanted.names.iter().filter(|name| !all.iter().any(|plane| name.names(plane)));
        let missing = missing.map(|name| NotInFiles::new(name, planes).into()).collect();
        let chosen = |plane: &&&Plane| {
            (wanted.names.is_empty() || wanted.names.iter().any(|name| name.names(plane)))
                && self.selector.as_ref().is_none_or(|selector| selector.matches(plane.labels()))
        };
        Ok((all.iter().filter(chosen).map(|plane| plane.key()).collect(), missing))
    }
}

/// A named plane isn't in the files. `similar` are names of planes there that may be meant.
#[derive(Debug, thiserror::Error)]
#[error("there is no plane {name} in the files")]
pub struct NotInFiles {
    pub name: String,
    pub similar: Vec<String>,
}

impl NotInFiles {
    fn new(name: &PlaneName, planes: &[Plane]) -> Self {
        let similar = closest(name.as_str(), planes.iter().map(Plane::name));
        Self { name: name.to_string(), similar: similar.into_iter().map(str::to_owned).collect() }
    }

    pub fn hint(&self) -> Option<String> {
        did_you_mean(&self.similar)
    }
}

/// Planes to do something with: one way of choosing them must be given.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct WhichArgs {
    /// Types (separated by commas, or `planes`) and names of planes, or TYPE/NAME; a name without a type is a
    /// ClusterBuildPlane or ClusterWorkflowPlane, whichever the server has
    #[arg(value_name = "TYPE|NAME", add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    /// Label selector of the planes
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with_all = ["all", "files"], add = ArgValueCompleter::new(complete::labels))]
    selector: Option<Selector>,

    /// All planes
    #[arg(long, conflicts_with = "files")]
    all: bool,

    /// Manifest with the planes (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with = "words")]
    files: Vec<Input>,
}

/// The same, with the namespaces.
#[derive(Args, Clone, Debug)]
pub struct PlanesArgs {
    #[command(flatten)]
    which: WhichArgs,

    #[command(flatten)]
    namespaces: NamespacesArgs,
}

impl PlanesArgs {
    /// Finds out which kinds are meant in a cluster. A verb that writes asks for a word where two may be meant.
    pub async fn look(&self, cluster: Cluster, writes: bool) -> anyhow::Result<Lookup> {
        let WhichArgs { words, selector, all, files } = &self.which;
        let wanted = wanted(words)?;
        match (wanted.names.is_empty(), *all || selector.is_some()) {
            (false, true) => return Err(WordsError::NamesAndSelector.into()),
            (true, false) if files.is_empty() => return Err(WordsError::Nothing { wanted }.into()),
            _ if self.namespaces.are_all() && !wanted.names.is_empty() => {
                return Err(WordsError::NamedEverywhere.into());
            }
            _ => {}
        }
        let namespaces = self.namespaces.namespaces();
        if !files.is_empty() {
            return Ok(Lookup::of_keys(cluster, self.in_manifests()?, &namespaces));
        }
        let lookup = Lookup::of(cluster, wanted, namespaces).await?;
        if writes {
            lookup.refuse_doubt()?;
        }
        Ok(lookup)
    }

    /// The planes that exist, and an error for each that is named and doesn't; all of them have to be readable.
    pub async fn planes(&self, lookup: &Lookup) -> anyhow::Result<Chosen<Plane>> {
        all_read(lookup.planes_as(self.which.selector.as_ref(), |plane| plane).await?)
    }

    /// What identifies them, whether they exist or not.
    pub async fn keys(&self, lookup: &Lookup) -> anyhow::Result<Vec<PlaneKey>> {
        lookup.keys(self.which.selector.as_ref()).await
    }

    fn in_manifests(&self) -> anyhow::Result<Vec<PlaneKey>> {
        let files = &self.which.files;
        let manifests = read_manifests(files, false)?;
        let mut keys = BTreeSet::new();
        for manifest in &manifests {
            for object in objects(manifest).into_iter().filter(Object::is_plane) {
                let key = PlaneKey::of_object(&object.node.to_json());
                same_namespace(&key, self.namespaces.one(), || place(manifest, object))?;
                keys.insert(key);
            }
        }
        // A misspelt kind must not pass for nothing to do.
        match files.first() {
            Some(file) if keys.is_empty() => Err(manifest::Error::NoPlane { file: file.to_string() }.into()),
            _ => Ok(keys.into_iter().collect()),
        }
    }
}

/// Planes of which at least one is named, or all of some kinds are.
#[derive(Args, Clone, Debug)]
pub struct NamedArgs {
    /// Types (separated by commas, or `planes`) and names of planes, or TYPE/NAME; a name without a type is a
    /// ClusterBuildPlane or ClusterWorkflowPlane, whichever the server has
    #[arg(value_name = "TYPE|NAME", required = true, add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    #[command(flatten)]
    namespaces: NamespacesArgs,
}

impl NamedArgs {
    /// Finds out which kinds are meant in a cluster.
    pub async fn look(&self, cluster: Cluster) -> anyhow::Result<Lookup> {
        let wanted = wanted(&self.words)?;
        if self.namespaces.are_all() && !wanted.names.is_empty() {
            return Err(WordsError::NamedEverywhere.into());
        }
        Ok(Lookup::of(cluster, wanted, self.namespaces.namespaces()).await?)
    }
}

/// One plane.
#[derive(Args, Clone, Debug)]
pub struct PlaneArgs {
    /// Type and name of the plane, or TYPE/NAME; without a type a ClusterBuildPlane or ClusterWorkflowPlane, whichever the
    /// server has (without a server, a ClusterBuildPlane)
    #[arg(value_name = "TYPE|NAME", num_args = 0..=2, add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    #[command(flatten)]
    namespace: NamespaceArgs,
}

impl PlaneArgs {
    pub fn is_given(&self) -> bool {
        !self.words.is_empty()
    }

    /// Returns the namespace that is given.
    pub fn namespace(&self) -> Option<String> {
        self.namespace.given()
    }

    /// Whether a word says which kind the plane is of.
    pub fn names_kind(&self) -> bool {
        matches!(self.name(), Ok((Some(PlaneName { kind: Some(_), .. }), _)))
    }

    /// Adds a name that was asked for.
    pub fn set_name(&mut self, name: &str) {
        self.words.extend(name.parse());
    }

    /// Returns the name, with its kind where a word names it; none where there are no words, or only a kind's.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn name(&self) -> Result<(Option<PlaneName>, Wanted), WordsError> {
        let wanted = wanted(&self.words)?;
        match wanted.names.as_slice() {
            _ if wanted.kinds.as_ref().is_some_and(|kinds| kinds.len() != 1) => Err(WordsError::NotOne { wanted }),
            [] => Ok((None, wanted)),
            [name] if name.is_any => Err(WordsError::NotOne { wanted }),
            [name] => Ok((Some(name.clone()), wanted)),
            _ => Err(WordsError::NotOne { wanted }),
        }
    }

    /// Returns the plane in a cluster, for a verb that only reads: a name that planes of two kinds have is in doubt.
    ///
    /// # Errors
    /// [`WordsError`], [`super::Doubt`], and that it doesn't exist.
    pub async fn read(&self, cluster: Cluster) -> anyhow::Result<Plane> {
        let (name, wanted) = self.name()?;
        if name.is_none() {
            return Err(WordsError::NotOne { wanted }.into());
        }
        let lookup = Lookup::of(cluster, wanted, self.namespace.namespaces()).await?;
        let (mut planes, mut errors) = lookup.planes_as(None, |plane: Plane| plane).await?;
        match (planes.pop(), planes.is_empty(), errors.pop()) {
            (Some(plane), true, _) => Ok(plane),
            (None, _, Some(error)) => Err(error),
            (last, ..) => Err(Doubt::of(planes.iter().chain(&last).map(|plane| plane.kind)).into()),
        }
    }

    /// Returns the plane out of files.
    ///
    /// # Errors
    /// [`WordsError`], [`super::Doubt`], and that it isn't there.
    pub fn in_files(&self, planes: &[Plane]) -> anyhow::Result<Plane> {
        let (name, wanted) = self.name()?;
        let name = name.ok_or(WordsError::NotOne { wanted })?;
        let is_there = |plane: &&Plane| {
            let namespace = self.namespace.given().filter(|_| plane.kind.scope == Scope::Namespaced);
            name.names(plane) && (namespace.is_none() || namespace == plane.metadata.namespace)
        };
        match planes.iter().filter(is_there).collect::<Vec<_>>().as_slice() {
            [] => Err(NotInFiles::new(&name, planes).into()),
            [one] => Ok((*one).clone()),
            several => Err(Doubt::of(several.iter().map(|plane| plane.kind)).into()),
        }
    }

    /// Returns what identifies a plane that is made without a look at a cluster.
    ///
    /// # Errors
    /// [`WordsError`] where no name is given.
    pub fn key(&self) -> Result<PlaneKey, WordsError> {
        let (name, wanted) = self.name()?;
        let name = name.ok_or(WordsError::NotOne { wanted })?;
        let kind = name.kind.unwrap_or(DEFAULT_KIND);
        let namespace = self.namespace.given().filter(|_| kind.scope == Scope::Namespaced);
        Ok(PlaneKey { kind, namespace, name: name.as_str().to_owned() })
    }

    /// Returns what identifies the plane in a cluster, and the cluster as it is asked about its kind.
    ///
    /// # Errors
    /// [`WordsError`], and [`super::Doubt`] where the server has two kinds that may be meant.
    pub async fn at(&self, cluster: Cluster) -> anyhow::Result<(Cluster, PlaneKey)> {
        let (name, wanted) = self.name()?;
        let name = name.ok_or(WordsError::NotOne { wanted: wanted.clone() })?;
        let lookup = Lookup::of(cluster, wanted, self.namespace.namespaces()).await?;
        let cluster = lookup.only(&name).await?;
        let key = cluster.key(name.as_str());
        Ok((cluster, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{PLANE, files, parse};
    use crate::cluster::Fake;
    use crate::plane::Kind;
    use serde_json::json;

    fn plane(kind: &str, namespace: Option<&str>, name: &str) -> Plane {
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"team": name}});
        serde_json::from_value(json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": metadata}))
            .unwrap()
    }

    fn titles(keys: impl IntoIterator<Item = PlaneKey>) -> Vec<String> {
        keys.into_iter().map(|key| key.with_word()).collect()
    }

    #[test]
    fn planes_in_files_are_chosen_by_kind_namespace_name_or_label() {
        let planes = [
            plane("ClusterBuildPlane", None, "shared-builder"),
            plane("ClusterBuildPlane", None, "other"),
            plane("ClusterDataPlane", None, "other"),
            plane("DataPlane", Some("x"), "other"),
            plane("DataPlane", Some("y"), "other"),
        ];
        let choose = |words: &[&str]| parse::<ChoiceArgs>(words).unwrap().in_files(&planes);
        for (words, expected) in [
            (&[][..], &["cbp/other", "cbp/shared-builder", "cdp/other", "dp/x/other", "dp/y/other"][..]),
            (&["-l", "team=shared-builder"], &["cbp/shared-builder"]),
            (&["other"], &["cbp/other", "cdp/other", "dp/x/other", "dp/y/other"]),
            (&["dp"], &["dp/x/other", "dp/y/other"]),
            (&["dp/other", "-n", "y"], &["dp/y/other"]),
            (&["cbp,dp", "other", "-n", "x"], &["cbp/other", "dp/x/other"]),
            (&["planes", "-A", "-l", "team=other"], &["cbp/other", "cdp/other", "dp/x/other", "dp/y/other"]),
        ] {
            let (found, missing) = choose(words).unwrap();
            assert_eq!(
                (titles(found), missing.len()),
                (expected.iter().map(|one| (*one).to_owned()).collect(), 0),
                "{words:?}"
            );
        }
        let (found, missing) = choose(&["other", "shared-bilder"]).unwrap();
        assert_eq!(found.len(), 4);
        let missing = missing[0].downcast_ref::<NotInFiles>().unwrap();
        assert_eq!(missing.to_string(), "there is no plane shared-bilder in the files");
        assert_eq!(missing.hint().unwrap(), "did you mean shared-builder?");
        assert_eq!(choose(&["cwp/other"]).unwrap().1.len(), 1);
        let error = choose(&["a", "-l", "b=c"]).unwrap_err().to_string();
        assert_eq!(error, "planes are selected by names or by labels, not by both");
        assert!(parse::<ChoiceArgs>(&["-A", "-n", "x"]).unwrap_err().contains("cannot be used with"));
    }

    #[tokio::test]
    async fn planes_to_do_something_with_are_chosen_in_one_way() {
        let look = async |words: &[&str], writes| {
            parse::<PlanesArgs>(words).unwrap().look(Fake::default().cluster(), writes).await
        };
        let error = async |words: &[&str]| look(words, true).await.err().unwrap();
        assert!(parse::<PlanesArgs>(&[]).unwrap_err().contains("required"));
        let both = error(&["a", "--all"]).await.to_string();
        assert_eq!(both, "planes are selected by names or by labels, not by both");
        assert!(error(&["dp/a", "-A"]).await.to_string().contains("omit --all-namespaces"));
        let nothing = error(&["dp"]).await;
        assert_eq!(nothing.to_string(), "no plane is selected");
        let hint = nothing.downcast_ref::<WordsError>().unwrap().hint().unwrap();
        assert!(hint.starts_with("name planes, or choose some with -l, --all or -f; "), "{hint}");
        assert!(hint.ends_with("write TYPE/NAME, such as dp/dp"), "{hint}");
        // The server has two kinds of which either may be meant.
        for words in [&["a"][..], &["--all"], &["-l", "x=y"]] {
            assert!(error(words).await.is::<Doubt>(), "{words:?}");
            look(words, false).await.unwrap();
        }
        let args: PlanesArgs = parse(&["cbp", "b", "a", "b"]).unwrap();
        let lookup = args.look(Fake::default().cluster(), true).await.unwrap();
        assert_eq!(titles(args.keys(&lookup).await.unwrap()), ["cbp/a", "cbp/b"]);
    }

    #[tokio::test]
    async fn manifests_name_planes_of_any_kind_and_a_misspelt_kind_is_an_error() {
        let data = PLANE.replace("ClusterBuildPlane", "DataPlane");
        let namespaced = data.replace("name: a", "name: a, namespace: x");
        let misspelt = PLANE.replace("BuildPlane", "BuiltPlane");
        let (_folder, inputs) =
            files(&[("a.yaml", PLANE), ("b.yaml", &data), ("c.yaml", &namespaced), ("d.yaml", &misspelt)]);
        let chosen = async |words: &[&str]| {
            let args: PlanesArgs = parse(words).unwrap();
            let lookup = args.look(Fake::default().cluster(), true).await?;
            Ok::<_, anyhow::Error>(titles(args.keys(&lookup).await?))
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| inputs[at].to_string());
        let all = ["-f", &a, "-f", &b, "-f", &c];
        assert_eq!(chosen(&all).await.unwrap(), ["cbp/a", "dp/default/a", "dp/x/a"]);
        assert_eq!(chosen(&["-f", &b, "-n", "team"]).await.unwrap(), ["dp/team/a"]);
        let other = chosen(&["-f", &c, "-n", "team"]).await.unwrap_err().to_string();
        assert!(other.ends_with("c.yaml:1: the plane's namespace is x, and --namespace is team"), "{other}");
        let error = chosen(&["-f", &d]).await.unwrap_err().to_string();
        assert!(error.contains("d.yaml") && error.contains("no"), "{error}");
    }

    #[tokio::test]
    async fn each_plane_that_does_not_exist_is_an_error_of_its_own() {
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": {}});
        let cluster = Fake::of([object]).cluster();
        let found = async |words: &[&str]| {
            let choice: ChoiceArgs = parse(words).unwrap();
            let lookup = choice.look(cluster.clone()).await.unwrap();
            choice.in_cluster(&lookup, |plane: Plane| plane.name().to_owned()).await.unwrap()
        };
        let (planes, missing) = found(&["a", "b", "c"]).await;
        assert_eq!((planes, missing.len()), (vec!["a".to_owned()], 2));
        assert_eq!(found(&[]).await.0.len(), 1);
        let everywhere: ChoiceArgs = parse(&["a", "-A"]).unwrap();
        let error = everywhere.look(cluster.clone()).await.err().unwrap().to_string();
        assert!(error.contains("omit --all-namespaces"), "{error}");
        let named: NamedArgs = parse(&["a", "-A"]).unwrap();
        assert!(named.look(cluster.clone()).await.is_err() && parse::<NamedArgs>(&[]).is_err());
    }

    #[tokio::test]
    async fn one_plane_is_named_by_a_name_and_perhaps_its_kind() {
        let of = |words: &[&str]| parse::<PlaneArgs>(words).unwrap();
        for (words, expected) in [
            (&["a"][..], "cbp/a"),
            (&["cwp", "a"], "cwp/a"),
            (&["ClusterDataPlanes/a"], "cdp/a"),
            (&["dp", "a", "-n", "x"], "dp/x/a"),
            (&["cdp", "a", "-n", "x"], "cdp/a"),
            (&["dp/dp"], "dp/dp"),
        ] {
            assert_eq!(titles([of(words).key().unwrap()]), [expected], "{words:?}");
            assert_eq!(of(words).names_kind(), words != ["a"], "{words:?}");
        }
        let mut asked = of(&["cop"]);
        assert!(asked.is_given() && asked.name().unwrap().0.is_none());
        asked.set_name("a");
        assert_eq!(titles([asked.key().unwrap()]), ["cop/a"]);
        for words in [&[][..], &["dp"], &["cbp,dp", "a"], &["planes", "a"], &["planes/a"], &["a", "b"]] {
            let error = of(words).key().unwrap_err();
            assert!(matches!(error, WordsError::NotOne { .. }), "{words:?}: {error}");
            assert_eq!(error.hint().is_some(), words == ["dp"], "{words:?}");
        }
        assert!(matches!(of(&["dp", "dp/a"]).key(), Err(WordsError::Invalid(_))));
        assert!(parse::<PlaneArgs>(&["a", "b", "c"]).is_err());
    }

    #[tokio::test]
    async fn the_server_says_which_kind_one_plane_is_of() {
        let at = async |words: &[&str], served: &[&str]| {
            let fake = Fake::default();
            fake.serve(&served.iter().map(|word| Kind::of_word(word).unwrap()).collect::<Vec<_>>());
            let (cluster, key) = parse::<PlaneArgs>(words).unwrap().at(fake.cluster()).await?;
            assert!(cluster.covers(&key), "{words:?}");
            Ok::<_, anyhow::Error>(titles([key]).concat())
        };
        assert_eq!(at(&["a"], &["cbp"]).await.unwrap(), "cbp/a");
        assert_eq!(at(&["a"], &["cwp"]).await.unwrap(), "cwp/a");
        assert!(at(&["a"], &["cbp", "cwp"]).await.unwrap_err().is::<Doubt>());
        assert_eq!(at(&["cwp/a"], &["cbp", "cwp"]).await.unwrap(), "cwp/a");
        assert_eq!(at(&["dp", "a"], &["dp"]).await.unwrap(), "dp/default/a");
        assert_eq!(at(&["dp/a", "-n", "x"], &["dp"]).await.unwrap(), "dp/x/a");
    }
}
