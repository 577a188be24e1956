//! Words that choose planes on the command line, and the planes that they choose in a cluster or in files.

use std::collections::BTreeSet;

use clap::{Args, ValueHint};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};

use super::files::read_manifests;
use super::lookup::{Chosen, Lookup};
use super::namespaces::{NamespaceArgs, NamespacesArgs};
use super::session::Session;
use crate::cluster::{self, Cluster, PlaneObject};
use crate::complete;
use crate::manifest::{self, Input, Object, objects};
use crate::plane::{DEFAULT_KIND, Plane, PlaneKey, PlaneName, Scope, Selector, Wanted, Word, closest, did_you_mean};

/// Words that do not choose planes, or not in a way that the verb can use.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    #[error("{0}")]
    Invalid(String),
    #[error("a plane is looked for by its name in one namespace: leave --all-namespaces out")]
    NamedEverywhere,
    #[error("planes are chosen by names or by labels, not by both")]
    NamesAndSelector,
    #[error("no plane is chosen")]
    Nothing { wanted: Wanted },
    #[error("one plane is to be named, as NAME, TYPE NAME or TYPE/NAME")]
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
            Self::Invalid(_) | Self::NamedEverywhere | Self::NamesAndSelector => None,
        }
    }
}

/// Reads words.
fn wanted(words: &[Word]) -> Result<Wanted, WordsError> {
    Wanted::of(words).map_err(WordsError::Invalid)
}

/// Planes to look at: all of the kind, unless names or labels choose some.
#[derive(Args, Clone, Debug)]
pub struct ChoiceArgs {
    /// Kinds (joined by commas, `planes` for all) and names of planes, or TYPE/NAME [default: all planes]
    #[arg(value_name = "TYPE|NAME", add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    /// Labels that the planes must have
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

    /// Returns what identifies the planes that are named, without a look at a cluster.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn keys(&self) -> Result<Vec<PlaneKey>, WordsError> {
        let Wanted { names, kinds, .. } = self.wanted()?;
        let kind = kinds.and_then(|kinds| kinds.first().copied()).unwrap_or_default();
        let key = |name: PlaneName| PlaneKey {
            kind: name.kind.unwrap_or(kind),
            namespace: self.namespaces.one().clone(),
            name: name.to_string(),
        };
        Ok(names.into_iter().map(key).collect())
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
    /// Kinds (joined by commas, `planes` for all) and names of planes, or TYPE/NAME
    #[arg(value_name = "TYPE|NAME", add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    /// Labels of the planes
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with_all = ["all", "files"], add = ArgValueCompleter::new(complete::labels))]
    selector: Option<Selector>,

    /// All planes
    #[arg(long, conflicts_with = "files")]
    all: bool,

    /// Planes in manifests (can be repeated)
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

    /// The planes that exist, and an error for each that is named and doesn't.
    pub async fn planes(&self, lookup: &Lookup) -> Result<Chosen<Plane>, cluster::Error> {
        lookup.planes_as(self.which.selector.as_ref(), |plane| plane).await
    }

    /// What identifies them, whether they exist or not.
    pub async fn keys(&self, lookup: &Lookup) -> Result<Vec<PlaneKey>, cluster::Error> {
        lookup.keys(self.which.selector.as_ref()).await
    }

    fn in_manifests(&self) -> Result<Vec<PlaneKey>, manifest::Error> {
        let files = &self.which.files;
        let manifests = read_manifests(files, false)?;
        let planes = manifests.iter().flat_map(objects).filter(Object::is_plane);
        let keys: BTreeSet<_> = planes.map(|object| PlaneKey::of_object(&object.node.to_json())).collect();
        // A misspelt kind must not pass for nothing to do.
        match files.first() {
            Some(file) if keys.is_empty() => Err(manifest::Error::NoPlane { file: file.to_string() }),
            _ => Ok(keys.into_iter().collect()),
        }
    }
}

/// Planes of which at least one is named, or all of some kinds are.
#[derive(Args, Clone, Debug)]
pub struct NamedArgs {
    /// Kinds (joined by commas, `planes` for all) and names of planes, or TYPE/NAME
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
    /// Kind and name of the plane, or TYPE/NAME
    #[arg(value_name = "[TYPE] NAME", num_args = 0..=2, add = ArgValueCandidates::new(complete::words))]
    words: Vec<Word>,

    #[command(flatten)]
    namespace: NamespaceArgs,
}

impl PlaneArgs {
    pub fn is_given(&self) -> bool {
        !self.words.is_empty()
    }

    /// Adds a name that was asked for.
    pub fn set_name(&mut self, name: &str) {
        self.words.extend(name.parse());
    }

    /// Returns the name, with its kind where a word tells it; none where there are no words, or only a kind's.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn name(&self) -> Result<(Option<PlaneName>, Wanted), WordsError> {
        let wanted = wanted(&self.words)?;
        match wanted.names.as_slice() {
            _ if wanted.kinds.as_ref().is_some_and(|kinds| kinds.len() != 1) => Err(WordsError::NotOne { wanted }),
            [] => Ok((None, wanted)),
            [name] => Ok((Some(name.clone()), wanted)),
            _ => Err(WordsError::NotOne { wanted }),
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
