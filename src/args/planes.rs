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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{PLANE, files, parse};
    use serde_json::json;

    fn plane(name: &str) -> Plane {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"team": name}}})).unwrap()
    }

    fn names(keys: BTreeSet<PlaneKey>) -> Vec<String> {
        keys.into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn planes_of_one_kind_are_named_together() {
        let choice: ChoiceArgs = parse(&["a", "b"]).unwrap();
        assert_eq!(kind_of(&choice.names).unwrap(), DEFAULT_KIND);
        assert_eq!(kind_of(&[]).unwrap(), DEFAULT_KIND);
        let mut names = choice.names;
        names[1].kind = Kind::of_word("dp").unwrap();
        let error = kind_of(&names).unwrap_err().to_string();
        assert_eq!(error, "a ClusterBuildPlane and a DataPlane are named: name planes of one kind");
    }

    #[test]
    fn planes_in_files_are_chosen_by_name_or_label() {
        let planes = [plane("shared-builder"), plane("other")];
        let choose = |words: &[&str]| parse::<ChoiceArgs>(words).unwrap().in_files(&planes);
        assert_eq!(names(choose(&[]).0), ["other", "shared-builder"]);
        assert_eq!(names(choose(&["-l", "team=other"]).0), ["other"]);
        let (found, missing) = choose(&["other", "shared-bilder"]);
        assert_eq!(names(found), ["other"]);
        let missing = missing[0].downcast_ref::<NotInFiles>().unwrap();
        assert_eq!(missing.to_string(), "there is no plane shared-bilder in the files");
        assert_eq!(missing.hint().unwrap(), "did you mean shared-builder?");
        assert!(parse::<ChoiceArgs>(&["a", "-l", "b=c"]).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn planes_to_do_something_with_are_named_in_one_way() {
        assert!(parse::<WhichArgs>(&[]).unwrap_err().contains("required"));
        assert!(parse::<WhichArgs>(&["a", "--all"]).unwrap_err().contains("cannot be used with"));
        let which: WhichArgs = parse(&["b", "a", "b"]).unwrap();
        assert_eq!(which.named().unwrap().into_iter().collect::<Vec<_>>().len(), 2);
    }

    #[test]
    fn manifests_name_planes_and_a_misspelt_kind_is_an_error() {
        let (_folder, inputs) = files(&[("a.yaml", PLANE), ("b.yaml", &PLANE.replace("BuildPlane", "BuiltPlane"))]);
        let which = |input: &Input| parse::<WhichArgs>(&["-f", &input.to_string()]).unwrap();
        assert_eq!(which(&inputs[0]).named().unwrap().len(), 1);
        let error = which(&inputs[1]).named().unwrap_err().to_string();
        assert!(error.ends_with("b.yaml holds no ClusterBuildPlane"), "{error}");
    }

    #[tokio::test]
    async fn each_plane_that_does_not_exist_is_an_error_of_its_own() {
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": {}});
        let cluster = cluster::Fake::of([object]).cluster();
        let choice: ChoiceArgs = parse(&["a", "b", "c"]).unwrap();
        assert!(!choice.is_whole());
        let (found, missing) = choice.in_cluster(&cluster, |plane: Plane| plane.name().to_owned()).await.unwrap();
        assert_eq!((found, missing.len()), (vec!["a".to_owned()], 2));
        let all: ChoiceArgs = parse(&[]).unwrap();
        assert_eq!(all.in_cluster(&cluster, |plane: Plane| plane).await.unwrap().0.len(), 1);
    }
}
