//! Groups of flags that verbs share, and what they lead to: a terminal, a cluster, objects out of files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum, ValueHint};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{self, Cluster, PlaneObject};
use crate::complete;
use crate::manifest::{self, Input, Manifest, Object, objects};
use crate::paint;
use crate::plane::{
    BUILD_NAMESPACE, DEFAULT_KIND, DryRun, Kind, Moment, Plane, PlaneName, Selector, Snapshot, Span, Unreadable,
    closest, did_you_mean, is_dns_label,
};
use crate::term::{self, ColorChoice, Exit, Term};
use crate::text::{shell_quoted, visible};

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// Kubeconfig file, instead of those in KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Global options")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, alias = "control-context", global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::contexts), help_heading = "Global options")]
    context: Option<String>,

    /// Cluster of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::clusters), help_heading = "Global options")]
    cluster: Option<String>,

    /// User of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::users), help_heading = "Global options")]
    user: Option<String>,

    /// User to act as
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Global options")]
    impersonate: Option<String>,

    /// Group to act in (can be repeated)
    #[arg(long = "as-group", global = true, value_name = "GROUP", help_heading = "Global options")]
    impersonate_groups: Vec<String>,

    /// Longest time for one request, watches excepted; 0 for no limit
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", help_heading = "Global options")]
    request_timeout: Span,

    /// When to write in colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    color: ColorChoice,

    /// Write results and errors only
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,

    /// Tell what is asked of which server (can be repeated)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    verbose: u8,

    /// Never prompt
    #[arg(long, global = true, help_heading = "Global options")]
    no_input: bool,
}

impl GlobalArgs {
    pub fn term(&self) -> Term {
        Term::new(term::Options {
            color: self.color,
            quiet: self.quiet,
            verbosity: self.verbose,
            no_input: self.no_input,
        })
    }

    pub fn cluster_options(&self) -> cluster::Options {
        cluster::Options {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_groups.clone(),
            request_timeout: (self.request_timeout.seconds() > 0).then(|| self.request_timeout.duration()),
        }
    }
}

/// What every command gets: the terminal, and the way to the cluster.
#[derive(Clone, Debug)]
pub struct Session {
    pub term: Term,
    pub options: cluster::Options,
}

/// How long a TLS server may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    /// How long a server that is no API server may take.
    pub fn patience(&self) -> Duration {
        self.options.request_timeout.map_or(PATIENCE, |limit| limit.min(PATIENCE))
    }

    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        Ok(Cluster::connect(self.options.clone(), &self.term).await?)
    }

    /// Connects for planes that were named, whose kind the cluster is asked about.
    pub async fn connect_for(&self, names: &[PlaneName]) -> anyhow::Result<Cluster> {
        Ok(self.connect().await?.of_kind(kind_of(names)?))
    }

    /// Connects for a command that writes, and says to what.
    pub async fn connect_to_write(&self) -> anyhow::Result<Cluster> {
        let cluster = self.connect().await?;
        self.term.note(&format!("in {}", cluster.target().title()));
        Ok(cluster)
    }
}

/// Returns the kind of the planes that were named: the one that is meant without a word, where none was.
fn kind_of(names: &[PlaneName]) -> anyhow::Result<&'static Kind> {
    let Some(first) = names.first() else {
        return Ok(DEFAULT_KIND);
    };
    if let Some(other) = names.iter().find(|name| name.kind != first.kind) {
        anyhow::bail!("a {} and a {} are named: name planes of one kind", first.kind.kind, other.kind.kind);
    }
    Ok(first.kind)
}

/// The cluster that builds run in, for commands that need it beside the control plane's.
#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// Context of the build cluster
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::build_contexts), help_heading = "Build cluster")]
    build_context: Option<String>,

    /// Kubeconfig of the build cluster; the other one, unless given
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Build cluster")]
    build_kubeconfig: Option<PathBuf>,

    /// Namespace of the agent
    #[arg(long, value_name = "NAMESPACE", default_value = BUILD_NAMESPACE, value_parser = namespace, help_heading = "Build cluster")]
    build_namespace: String,
}

/// A build cluster, and where in it the agent is.
pub struct BuildCluster {
    pub cluster: Cluster,
    pub namespace: String,
}

/// A command needs the build cluster.
#[derive(Debug, thiserror::Error)]
#[error("the agent is in the build cluster, and none is named")]
pub struct NoBuildCluster;

impl NoBuildCluster {
    pub fn hint(&self) -> Option<String> {
        Some("name its context with --build-context, or its kubeconfig with --build-kubeconfig".into())
    }
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
        let words =
            without_flags(&words, &["context", "control-context", "kubeconfig", "build-context", "build-kubeconfig"]);
        let words: Vec<_> = words.iter().map(|word| shell_quoted(word)).collect();
        let (words, flags) = (words.join(" "), build.by_context("") + &control.by_context("build-"));
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
pub async fn swapped(control: &Cluster, build: Option<&BuildCluster>, error: &cluster::Error) -> Option<Swapped> {
    let (cluster::Error::NoSuchKind { kind, .. }, Some(build)) = (error, build) else {
        return None;
    };
    let served = build.cluster.served().await.is_ok();
    served.then(|| Swapped::of(control.target(), build.cluster.target(), kind))
}

/// The control plane's answer, or that it is the other cluster that serves planes.
///
/// # Errors
/// [`Swapped`], and that of the control plane.
pub async fn unless_swapped<T>(
    control: &Cluster,
    build: Option<&BuildCluster>,
    answer: Result<T, cluster::Error>,
) -> anyhow::Result<T> {
    if let Err(error) = &answer
        && let Some(swapped) = swapped(control, build, error).await
    {
        return Err(swapped.into());
    }
    Ok(answer?)
}

impl BuildArgs {
    /// Whether a build cluster is meant at all.
    pub fn is_named(&self) -> bool {
        self.build_context.is_some() || self.build_kubeconfig.is_some()
    }

    pub fn namespace(&self) -> &str {
        &self.build_namespace
    }

    pub fn kubeconfig(&self) -> Option<&std::path::Path> {
        self.build_kubeconfig.as_deref()
    }

    /// Connects where one is named.
    pub async fn connect(&self, session: &Session) -> anyhow::Result<Option<BuildCluster>> {
        if !self.is_named() {
            return Ok(None);
        }
        let options = cluster::Options {
            kubeconfig: self.build_kubeconfig.clone().or_else(|| session.options.kubeconfig.clone()),
            context: self.build_context.clone(),
            request_timeout: session.options.request_timeout,
            ..cluster::Options::default()
        };
        let cluster = Cluster::connect(options, &session.term).await?;
        Ok(Some(BuildCluster { cluster, namespace: self.build_namespace.clone() }))
    }

    /// Connects to both clusters for a command that writes, and says to which.
    pub async fn connect_to_write(&self, session: &Session) -> anyhow::Result<(Cluster, BuildCluster)> {
        let build = self.connect(session).await?.ok_or(NoBuildCluster)?;
        let control = session.connect().await?;
        session.term.note(&format!(
            "control plane in {}, build plane in {}, namespace {}",
            control.target().title(),
            build.cluster.target().title(),
            build.namespace
        ));
        let (one, other) = tokio::join!(control.identity(), build.cluster.identity());
        if one.is_some() && one == other {
            session.term.note("both contexts reach one and the same cluster");
        }
        Ok((control, build))
    }
}

/// Where the control plane has what it runs on.
#[derive(Args, Clone, Debug)]
pub struct ControlArgs {
    /// Namespace of the control plane
    #[arg(long, value_name = "NAMESPACE", default_value = "openchoreo-control-plane", value_parser = namespace)]
    pub control_namespace: String,
}

/// The name of a namespace on the command line.
pub fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("a namespace has lower-case letters, digits and hyphens".into())
    }
}

/// `-o` of commands that write objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    Yaml,
    Json,
    Name,
}

/// `-o` of commands that tell something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    #[default]
    Text,
    Json,
}

/// What commands that write planes take beside the planes.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// Print the object
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,

    /// How far to go
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub dry_run: DryRun,

    /// Wait until it is connected
    #[arg(long)]
    pub wait: bool,

    /// With --wait, longest time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Span,
}

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

impl ChoiceArgs {
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

    /// The names of the planes out of files.
    pub fn in_files(&self, planes: &[Plane]) -> (BTreeSet<String>, Vec<anyhow::Error>) {
        let there = |name: &&PlaneName| planes.iter().any(|plane| plane.name() == name.as_str());
        let missing = self.names.iter().filter(|name| !there(name));
        let missing = missing.map(|name| NotInFiles::new(name, planes).into());
        let wanted = |plane: &&Plane| {
            (self.names.is_empty() || self.names.iter().any(|name| name.as_str() == plane.name()))
                && self.selector.as_ref().is_none_or(|selector| selector.matches(plane.labels()))
        };
        (planes.iter().filter(wanted).map(|plane| plane.name().to_owned()).collect(), missing.collect())
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
    /// Connects to the cluster of the planes.
    pub async fn connect(&self, session: &Session) -> anyhow::Result<Cluster> {
        session.connect_for(&self.names).await
    }

    /// The planes that exist, and an error for each that is named and doesn't.
    pub async fn planes(&self, cluster: &Cluster) -> anyhow::Result<Chosen<Plane>> {
        if self.all || self.selector.is_some() {
            return Ok((cluster.planes(self.selector.as_ref()).await?, Vec::new()));
        }
        let names = self.named()?;
        Ok(by_name(cluster, names.iter().map(String::as_str).collect(), |plane| plane).await?)
    }

    /// Their names, whether they exist or not.
    pub async fn names(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        if self.all || self.selector.is_some() {
            let name = |plane: Plane| plane.name().to_owned();
            return Ok(cluster.planes_as(self.selector.as_ref(), name).await?);
        }
        Ok(self.named()?.into_iter().collect())
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

/// Planes out of files.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// Read from a file, a folder or - (standard input) instead of a cluster (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<Input>,

    /// With -f, moment that ages count from: a time as 2026-11-22T12:00:00Z, or +30d; the newest time in the files otherwise
    #[arg(long, value_name = "TIME", requires = "files")]
    at: Option<Moment>,
}

/// What files hold.
pub struct FromFiles {
    /// The planes as they stand there.
    pub values: Vec<Value>,
    pub snapshot: Snapshot,
    /// Whether all of them could be read.
    pub exit: Exit,
}

impl FileArgs {
    pub fn of(files: &[Input]) -> Self {
        Self { files: files.to_vec(), at: None }
    }

    /// The same with more files.
    pub fn with(&self, more: &[Input]) -> Self {
        Self { files: [self.files.as_slice(), more].concat(), at: self.at }
    }

    pub fn given(&self) -> bool {
        !self.files.is_empty()
    }

    /// The planes in the files as their own objects, and what stands around them. A plane that can't be read is told,
    /// and the others are shown all the same.
    pub fn read(&self, term: &Term) -> anyhow::Result<FromFiles> {
        let manifests = read_manifests(&self.files, false)?;
        let (mut values, mut planes, mut related, mut exit) = (Vec::new(), Vec::new(), Vec::new(), Exit::Done);
        // What two files hold counts once.
        let mut seen = BTreeSet::new();
        for manifest in &manifests {
            for object in objects(manifest) {
                let value = object.node.to_json();
                if self.files.len() > 1 && !seen.insert(value.to_string()) {
                    continue;
                }
                if !object.is_plane() {
                    related.push(value);
                    continue;
                }
                match serde_path_to_error::deserialize::<_, Plane>(&value) {
                    Ok(plane) => {
                        let warn = |field: &Unreadable| term.warn(&field.warning(plane.name()));
                        plane.unreadable.iter().for_each(warn);
                        planes.push(plane);
                        values.push(value);
                    }
                    Err(error) => {
                        let (place, name) = (place(manifest, object), visible(object.name()));
                        let field = error.path().to_string();
                        let told = format!("plane {name} at {place} can't be read: {field}: {}", error.inner());
                        term.error(&format!("{} {}", paint::bad("error:"), visible(&told)));
                        exit = Exit::Failed;
                    }
                }
            }
        }
        let at = self.at.map(|moment| moment.from(Timestamp::now()));
        let snapshot = Snapshot::of_files(planes, related, at);
        term.note(&format!("from files; ages count from {}", snapshot.now.strftime("%Y-%m-%dT%H:%M:%SZ")));
        Ok(FromFiles { values, snapshot, exit })
    }
}

/// Where an object stands, for an error: `FILE:LINE`.
pub fn place(manifest: &Manifest, object: Object<'_>) -> String {
    format!("{}:{}", manifest.file, manifest.position(object.node.span.start).0)
}

/// Reads manifests whole; the first fault is an error.
pub fn read_manifests(inputs: &[Input], recursive: bool) -> Result<Vec<Manifest>, manifest::Error> {
    let mut manifests = Vec::new();
    for (input, text) in manifest::read_inputs(inputs, recursive)? {
        let manifest = manifest::parse(input.to_string(), text?);
        manifest.sound()?;
        manifests.push(manifest);
    }
    if manifests.iter().all(|manifest| manifest.documents.is_empty()) {
        let file = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(manifest::Error::Empty { file });
    }
    Ok(manifests)
}
