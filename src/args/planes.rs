//! Names of planes on the command line, and the planes that they choose in a cluster or in files.

use std::collections::BTreeSet;

use clap::{Args, ValueHint};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};

use super::files::read_manifests;
use super::session::Session;
use crate::cluster::{self, Cluster, PlaneObject};
use crate::complete;
use crate::manifest::{self, Input, Object, objects};
use crate::plane::{DEFAULT_KIND, Kind, Plane, PlaneKey, PlaneName, Selector, closest, did_you_mean};

/// Planes to look at: all, unless said otherwise.
#[derive(Args, Clone, Debug)]
pub struct ChoiceArgs {
    /// Names of the planes; all, unless given
    #[arg(add = ArgValueCandidates::new(complete::planes))]
    pub names: Vec<PlaneName>,

    /// Labels that the planes must have
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names", add = ArgValueCompleter::new(complete::labels))]
    pub selector: Option<Selector>,
}

/// Planes that were asked for, and an error for each that doesn't exist.
pub type Chosen<T> = (Vec<T>, Vec<anyhow::Error>);

/// Returns the kind of the planes that were named: the one that is meant without a word, where none was.
pub fn kind_of(names: &[PlaneName]) -> anyhow::Result<&'static Kind> {
    let Some(first) = names.first() else {
        return Ok(DEFAULT_KIND);
    };
    if let Some(other) = names.iter().find(|name| name.kind != first.kind) {
        anyhow::bail!("a {} and a {} are named: name planes of one kind", first.kind.kind, other.kind.kind);
    }
    Ok(first.kind)
}

impl ChoiceArgs {
    /// Connects to the cluster of the planes, whose kind it is asked about.
    pub async fn connect(&self, session: &Session) -> anyhow::Result<Cluster> {
        Ok(session.connect().await?.of_kind(kind_of(&self.names)?))
    }

    /// Whether all planes are meant.
    pub fn is_whole(&self) -> bool {
        self.names.is_empty() && self.selector.is_none()
    }

    /// The planes in a cluster, each made into what is needed of it as soon as it is there.
    pub async fn in_cluster<T: PlaneObject, R>(
        &self,
        cluster: &Cluster,
        make: impl Fn(T) -> R,
    ) -> Result<Chosen<R>, cluster::Error> {
        if self.names.is_empty() {
            return Ok((cluster.planes_as(self.selector.as_ref(), make).await?, Vec::new()));
        }
        let names: BTreeSet<_> = self.names.iter().map(PlaneName::as_str).collect();
        by_name(cluster, names, make).await
    }

    /// The planes out of files.
    pub fn in_files(&self, planes: &[Plane]) -> (BTreeSet<PlaneKey>, Vec<anyhow::Error>) {
        let there = |name: &&PlaneName| planes.iter().any(|plane| name.names(plane));
        let missing = self.names.iter().filter(|name| !there(name));
        let missing = missing.map(|name| NotInFiles::new(name, planes).into());
        let wanted = |plane: &&Plane| {
            (self.names.is_empty() || self.names.iter().any(|name| name.names(plane)))
                && self.selector.as_ref().is_none_or(|selector| selector.matches(plane.labels()))
        };
        (planes.iter().filter(wanted).map(Plane::key).collect(), missing.collect())
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

/// Planes to do something with: one way of naming them must be given.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// Names of the planes
    #[arg(add = ArgValueCandidates::new(complete::planes))]
    names: Vec<PlaneName>,

    /// Labels of the planes
    #[arg(short = 'l', long, value_name = "SELECTOR", add = ArgValueCompleter::new(complete::labels))]
    selector: Option<Selector>,

    /// All planes
    #[arg(long)]
    all: bool,

    /// Planes in manifests (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,
}

impl WhichArgs {
    /// Connects to the cluster of the planes, whose kind it is asked about.
    pub async fn connect(&self, session: &Session) -> anyhow::Result<Cluster> {
        self.of_kind(session.connect().await?)
    }

    /// Returns a cluster that is asked about the planes' kind.
    pub fn of_kind(&self, cluster: Cluster) -> anyhow::Result<Cluster> {
        Ok(cluster.of_kind(kind_of(&self.names)?))
    }

    /// The planes that exist, and an error for each that is named and doesn't.
    pub async fn planes(&self, cluster: &Cluster) -> anyhow::Result<Chosen<Plane>> {
        if self.all || self.selector.is_some() {
            return Ok((cluster.planes(self.selector.as_ref()).await?, Vec::new()));
        }
        let names = self.named()?;
        Ok(by_name(cluster, names.iter().map(String::as_str).collect(), |plane| plane).await?)
    }

    /// What identifies them, whether they exist or not.
    pub async fn keys(&self, cluster: &Cluster) -> anyhow::Result<Vec<PlaneKey>> {
        if self.all || self.selector.is_some() {
            return Ok(cluster.planes_as(self.selector.as_ref(), |plane: Plane| plane.key()).await?);
        }
        Ok(self.named()?.iter().map(|name| cluster.key(name)).collect())
    }

    fn named(&self) -> Result<BTreeSet<String>, manifest::Error> {
        if self.files.is_empty() {
            return Ok(self.names.iter().map(ToString::to_string).collect());
        }
        let manifests = read_manifests(&self.files, false)?;
        let planes = manifests.iter().flat_map(objects).filter(Object::is_plane);
        let names: BTreeSet<_> = planes.map(|object| object.name().to_owned()).collect();
        // A misspelt kind must not pass for nothing to do.
        match self.files.first() {
            Some(file) if names.is_empty() => Err(manifest::Error::NoPlane { file: file.to_string() }),
            _ => Ok(names),
        }
    }
}

async fn by_name<T: PlaneObject, R>(
    cluster: &Cluster,
    names: BTreeSet<&str>,
    make: impl Fn(T) -> R,
) -> Result<Chosen<R>, cluster::Error> {
    let (mut planes, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match cluster.exact_plane(name).await {
            Ok(plane) => planes.push(make(plane)),
            Err(error) if error.is_not_found() => missing.push((name, error)),
            Err(error) => return Err(error),
        }
    }
    // One list for all of them, and none where nothing is missing.
    let known = if missing.is_empty() { Vec::new() } else { cluster.names().await };
    let missing = missing.into_iter().map(|(name, error)| error.with_similar(name, &known).into());
    Ok((planes, missing.collect()))
}
