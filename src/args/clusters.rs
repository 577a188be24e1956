//! The clusters beside the one that a session reaches: the plane's cluster, and namespaces in both; and two that were named
//! in the place of each other.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use clap_complete::ArgValueCandidates;

use super::namespaces::namespace;
use super::planes::PlaneArgs;
use super::session::Session;
use crate::cluster::{self, Cluster};
use crate::complete;
use crate::config::{self, Place};
use crate::doctor::AgentsIn;
use crate::plane::{CONTROL_NAMESPACE, DEFAULT_KIND, Family, PlaneKey};
use crate::text::{shell_quoted, visible};

/// The plane's cluster, for commands that need it beside the control plane's.
#[derive(Args, Clone, Debug)]
pub struct PlaneClusterArgs {
    /// Context of the plane's cluster, in which its agent runs
    #[arg(long, alias = "build-context", value_name = "NAME", add = ArgValueCandidates::new(complete::plane_contexts), help_heading = "Plane's cluster")]
    plane_context: Option<String>,

    /// Kubeconfig of the plane's cluster [default: the control plane's kubeconfig]
    #[arg(long, alias = "build-kubeconfig", value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Plane's cluster")]
    plane_kubeconfig: Option<PathBuf>,

    /// Namespace of the agent [default: that of the plane's kind, such as openchoreo-build-plane]
    #[arg(long, alias = "build-namespace", value_name = "NAMESPACE", value_parser = namespace, help_heading = "Plane's cluster")]
    plane_namespace: Option<String>,
}

/// A plane's cluster, and where in it the agent is.
pub struct PlaneCluster {
    pub cluster: Cluster,
    /// The namespace that was named.
    namespace: Option<String>,
    /// The family whose agents' namespace has those of its successor: a migration leaves them where they are.
    former: Option<&'static Family>,
}

impl PlaneCluster {
    #[cfg(test)]
    pub fn new(cluster: Cluster, namespace: Option<&str>) -> Self {
        Self { cluster, namespace: namespace.map(str::to_owned), former: None }
    }

    /// Returns the namespaces of the agents.
    pub fn agents_in(&self) -> AgentsIn<'_> {
        self.namespace.as_deref().map_or(AgentsIn::Default(self.former), AgentsIn::Named)
    }

    /// Returns the namespace of the agents of a family.
    pub fn namespace(&self, family: &Family) -> &str {
        self.agents_in().namespace(family).unwrap_or(family.helm_release)
    }

    /// Returns the namespace that was named.
    pub fn named(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// A command needs the plane's cluster.
#[derive(Debug, thiserror::Error)]
#[error("the agent is in the plane's cluster, which is not named")]
pub struct NoPlaneCluster;

impl NoPlaneCluster {
    pub fn hint(&self) -> Option<String> {
        Some("name its context with --plane-context, or its kubeconfig with --plane-kubeconfig; `choreoctl config set` remembers it".into())
    }
}

impl PlaneClusterArgs {
    /// Whether a plane's cluster is meant at all.
    pub fn is_named(&self) -> bool {
        self.plane_context.is_some() || self.plane_kubeconfig.is_some()
    }

    /// Returns the namespace of the agents of a family.
    pub fn namespace(&self, family: &'static Family) -> &str {
        self.plane_namespace.as_deref().unwrap_or(family.helm_release)
    }

    /// Connects where one is named.
    pub async fn connect(&self, session: &Session) -> anyhow::Result<Option<PlaneCluster>> {
        if !self.is_named() {
            return Ok(None);
        }
        let (context, kubeconfig) = (self.plane_context.clone(), self.plane_kubeconfig.clone());
        let place = Place { context, kubeconfig, ..Place::default() };
        self.connect_to(&place, session).await.map(Some)
    }

    /// Connects where one is named, while the control plane is asked something. A wrong flag is reported first.
    pub async fn connect_while<T>(
        &self,
        session: &Session,
        question: impl Future<Output = T>,
    ) -> anyhow::Result<(Option<PlaneCluster>, T)> {
        let (named, answer) = tokio::join!(self.connect(session), question);
        Ok((named?, answer))
    }

    /// Returns where the options lead, to be kept: with absolute paths, and with the cluster's identity.
    pub async fn place(&self, session: &Session) -> anyhow::Result<Place> {
        let place = Place { namespace: self.plane_namespace.clone(), ..Place::default() };
        let Some(build) = self.connect(session).await? else {
            return Ok(place);
        };
        let kubeconfig = self.plane_kubeconfig.as_ref().or(session.options.kubeconfig.as_ref());
        let kubeconfig = kubeconfig.map(std::path::absolute).transpose()?;
        let context = build.cluster.target().context.clone();
        Ok(Place { context, kubeconfig, identity: build.cluster.identity().await, ..place })
    }

    /// Connects to a place. A namespace that is named by a flag comes first.
    pub async fn connect_to(&self, place: &Place, session: &Session) -> anyhow::Result<PlaneCluster> {
        let options = cluster::Options {
            kubeconfig: place.kubeconfig.clone().or_else(|| session.options.kubeconfig.clone()),
            context: place.context.clone(),
            request_timeout: session.options.request_timeout,
            ..cluster::Options::default()
        };
        let cluster = Cluster::connect(options, &session.term).await?;
        let namespace = self.plane_namespace.clone().or_else(|| place.namespace.clone());
        let limit = session.patience();
        // Without an identity to compare with, what is needed of the cluster is waited for longer, and its error reported.
        let identity = async {
            match &place.identity {
                None => Ok(None),
                Some(_) => tokio::time::timeout(limit, cluster.identity()).await,
            }
        };
        let former = async {
            match namespace {
                Some(_) => None,
                None => tokio::time::timeout(limit, former(&cluster)).await.ok().flatten(),
            }
        };
        let (identity, former) = tokio::join!(identity, former);
        let Ok(identity) = identity else {
            anyhow::bail!("{} did not answer within {} s", cluster.target().title(), limit.as_secs());
        };
        if let (Some(known), Some(now)) = (&place.identity, identity)
            && *known != now
        {
            return Err(other_cluster(cluster.target()).into());
        }
        Ok(PlaneCluster { cluster, namespace, former })
    }

    /// Connects to both clusters for a command that changes a plane, and reports to which.
    pub async fn connect_to_write(
        &self,
        plane: &PlaneArgs,
        session: &Session,
    ) -> anyhow::Result<(Cluster, PlaneCluster, PlaneKey)> {
        let (control, build, key) = self.connect_for(plane, session).await?;
        self.announce(&control, &build, key.kind.family, session).await;
        Ok((control, build, key))
    }

    /// Connects to both clusters of a plane.
    pub async fn connect_for(
        &self,
        plane: &PlaneArgs,
        session: &Session,
    ) -> anyhow::Result<(Cluster, PlaneCluster, PlaneKey)> {
        if !self.is_named() && session.config()?.control_planes.is_empty() {
            return Err(NoPlaneCluster.into());
        }
        let control = session.connect().await?;
        let (named, found) = self.connect_while(session, plane.at(control.clone())).await?;
        let (control, key) = unless_swapped(&control, named.as_ref(), found).await?;
        let build =
            self.of_planes(session, &control, named, std::slice::from_ref(&key)).await?.ok_or(NoPlaneCluster)?;
        Ok((control, build, key))
    }

    /// Connects to both clusters.
    pub async fn connect_both(&self, session: &Session) -> anyhow::Result<(Cluster, PlaneCluster)> {
        let build = self.connect(session).await?.ok_or(NoPlaneCluster)?;
        Ok((session.connect().await?, build))
    }

    /// Reports which clusters are written to.
    pub async fn announce(&self, control: &Cluster, build: &PlaneCluster, family: &Family, session: &Session) {
        session.term.note(&format!(
            "control plane in {}, {} in {}, namespace {}",
            control.target().title(),
            family.noun(),
            build.cluster.target().title(),
            build.namespace(family)
        ));
        let (one, other) = tokio::join!(control.identity(), build.cluster.identity());
        if one.is_some() && one == other {
            session.term.note("both contexts reach one and the same cluster");
        }
    }
}

/// The error of a context that means another cluster than when the configuration was written.
fn other_cluster(target: &cluster::Target) -> config::Error {
    let context = target.context.as_deref().map(|context| format!("context {}", visible(context)));
    let command = format!("choreoctl config set NAME{}", target.by_context("plane-"));
    config::Error::OtherCluster { what: context.unwrap_or_else(|| target.title()), command }
}

/// The family whose agents' namespace has agents of its successor, while that one's own has none. Without the right to look
/// nothing is known of it.
async fn former(cluster: &Cluster) -> Option<&'static Family> {
    let family = DEFAULT_KIND.family;
    let successor = family.successor?;
    let has = async |namespace: &str| {
        let agents = cluster.agents(namespace).await.unwrap_or_default();
        agents.iter().any(|agent| agent.plane_type.as_deref() == Some(successor.plane_type))
    };
    (has(family.helm_release).await && !has(successor.helm_release).await).then_some(family)
}

/// Where the control plane has what it runs on.
#[derive(Args, Clone, Debug)]
pub struct ControlArgs {
    /// Namespace of the control plane
    #[arg(long, value_name = "NAMESPACE", default_value = CONTROL_NAMESPACE, value_parser = namespace)]
    pub control_namespace: String,
}

/// The two clusters were named in the place of each other.
#[derive(Debug, thiserror::Error)]
#[error("the contexts are swapped: {build} serves {kind}, and {control} does not")]
pub struct Swapped {
    control: String,
    build: String,
    kind: &'static str,
    command: String,
}

impl Swapped {
    pub fn hint(&self) -> Option<String> {
        Some(self.command.clone())
    }

    /// Of two clusters, with the command line that names them the other way round.
    pub fn of(control: &cluster::Target, build: &cluster::Target, kind: &'static str) -> Self {
        let words: Vec<_> = std::env::args().skip(1).collect();
        let words = without_flags(
            &words,
            &[
                "context",
                "control-context",
                "kubeconfig",
                "plane-context",
                "plane-kubeconfig",
                "build-context",
                "build-kubeconfig",
            ],
        );
        let words: Vec<_> = words.iter().map(|word| shell_quoted(word)).collect();
        let (words, flags) = (words.join(" "), build.by_context("") + &control.by_context("plane-"));
        let command = format!("choreoctl {words}{flags}");
        Self { control: control.title(), build: build.title(), kind, command }
    }
}

/// A command line without some of its flags and their values.
fn without_flags<'w>(words: &'w [String], flags: &[&str]) -> Vec<&'w str> {
    let mut words = words.iter();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word
            .strip_prefix("--")
            .map(|flag| flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value))))
        {
            Some((flag, None)) if flags.contains(&flag) => drop(words.next()),
            Some((flag, Some(_))) if flags.contains(&flag) => {}
            _ => kept.push(word.as_str()),
        }
    }
    kept
}

/// Whether the control plane's answer means that the two clusters were named in the place of each other.
pub async fn swapped(control: &Cluster, build: Option<&PlaneCluster>, error: &cluster::Error) -> Option<Swapped> {
    let (cluster::Error::NoSuchKind { kind, .. }, Some(build)) = (error, build) else {
        return None;
    };
    let served = build.cluster.served_kinds().await.is_ok_and(|kinds| !kinds.is_empty());
    served.then(|| Swapped::of(control.target(), build.cluster.target(), kind))
}

/// The control plane's answer, or that it is the other cluster that serves planes.
///
/// # Errors
/// [`Swapped`], and that of the control plane.
pub async fn unless_swapped<T>(
    control: &Cluster,
    build: Option<&PlaneCluster>,
    answer: Result<T, impl Into<anyhow::Error>>,
) -> anyhow::Result<T> {
    let error = match answer {
        Ok(answer) => return Ok(answer),
        Err(error) => error.into(),
    };
    match error.downcast_ref() {
        Some(of_cluster) => Err(swapped(control, build, of_cluster).await.map_or(error, anyhow::Error::from)),
        None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};
    use crate::plane::Kind;

    #[tokio::test]
    async fn a_build_cluster_that_is_not_named_is_missing_only_where_it_is_needed() {
        let args: PlaneClusterArgs = parse(&[]).unwrap();
        assert!(!args.is_named() && args.connect(&session()).await.unwrap().is_none());
        let plane: PlaneArgs = parse(&["a"]).unwrap();
        let error = args.connect_to_write(&plane, &session()).await.err().unwrap();
        assert!(error.is::<NoPlaneCluster>(), "{error}");
        for flag in ["--plane-kubeconfig", "--plane-context", "--build-kubeconfig", "--build-context"] {
            assert!(parse::<PlaneClusterArgs>(&[flag, "b"]).unwrap().is_named(), "{flag}");
        }
    }

    #[tokio::test]
    async fn agents_are_in_the_namespace_of_their_family_or_in_the_one_that_is_named() {
        let namespaces = |words: &[&str]| -> Vec<_> {
            let args: PlaneClusterArgs = parse(words).unwrap();
            let cluster = cluster::Fake::default().cluster();
            let cluster = PlaneCluster::new(cluster, args.plane_namespace.as_deref());
            let of_kind = |kind: &Kind| {
                assert_eq!(args.namespace(kind.family), cluster.namespace(kind.family));
                args.namespace(kind.family).to_owned()
            };
            ["cbp", "cwp", "dp"].map(|word| of_kind(Kind::of_word(word).unwrap())).to_vec()
        };
        let own = ["openchoreo-build-plane", "openchoreo-workflow-plane", "openchoreo-data-plane"];
        assert_eq!(namespaces(&[]), own);
        for flag in ["--plane-namespace", "--build-namespace"] {
            assert_eq!(namespaces(&[flag, "n"]), ["n"; 3]);
        }
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        assert_eq!(parse::<ControlArgs>(&[]).unwrap().control_namespace, "openchoreo-control-plane");
        let error = parse::<ControlArgs>(&["--control-namespace", "A_b"]).unwrap_err();
        assert!(error.contains("a namespace has lower-case letters, digits and hyphens"), "{error}");
    }

    #[test]
    fn flags_of_both_clusters_leave_the_line_in_either_spelling() {
        let words = ["get", "--context", "a", "-o", "json", "--plane-context=b", "--contexts", "--context"];
        let words = words.map(str::to_owned);
        assert_eq!(without_flags(&words, &["context", "plane-context"]), ["get", "-o", "json", "--contexts"]);
    }

    #[tokio::test]
    async fn only_a_missing_kind_beside_a_build_cluster_can_be_a_swap() {
        let control = cluster::Fake::default().cluster();
        let build = PlaneCluster::new(control.clone(), None);
        let missing = || cluster::Error::NoSuchKind { kind: "ClusterBuildPlane", renamed: None, command: "c".into() };
        assert!(swapped(&control, None, &missing()).await.is_none());
        assert!(swapped(&control, Some(&build), &cluster::Error::Changed { what: String::new() }).await.is_none());
        let answer: Result<(), _> = Err(missing());
        let error = unless_swapped(&control, None, answer).await.unwrap_err();
        assert!(error.is::<cluster::Error>(), "{error}");
        assert_eq!(unless_swapped(&control, Some(&build), Ok::<_, cluster::Error>(1)).await.unwrap(), 1);
    }

    #[test]
    fn a_swap_says_which_cluster_serves_planes() {
        let target = |context: &str| {
            let mut target = cluster::Target::default();
            target.context = Some(context.into());
            target
        };
        let swapped = Swapped::of(&target("one"), &target("two"), "ClusterBuildPlane");
        let text = swapped.to_string();
        assert!(text.starts_with("the contexts are swapped: ") && text.contains("two"), "{text}");
        assert!(swapped.hint().unwrap().ends_with(" --context two --plane-context one"), "{:?}", swapped.hint());
    }
}
