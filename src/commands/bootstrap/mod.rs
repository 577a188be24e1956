//! `choreoctl bootstrap`: register a build cluster in one go.

mod offline;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use super::apply::check_manifest;
use super::create::{CaArgs, SpecArgs, read_cas};
use super::error_text;
use super::helm::{self, Helm};
use super::steps::Steps;
use super::wait::deadline;
use crate::args::{BuildArgs, ControlArgs, Session, TextFormat, read_manifests, swapped};
use crate::cluster::Cluster;
use crate::gateway::GatewayUrl;
use crate::manifest::{self, Input, objects, to_yaml};
use crate::paint;
use crate::pki::{
    Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, Certificate, Folder, IssueError, KeyAlgorithm, LEAF_CERTIFICATE,
    LEAF_PRIVATE_KEY,
};
use crate::plan::{self, Bootstrap, CaIn, Given, Issuer, Made, Observer as _, Pem, Status};
use crate::plane::{CA_KEY, CHART, CLUSTER_BUILD_PLANE, DryRun, Plane, PlaneName, SecretKeyRef, Span};
use crate::render;
use crate::term::{Exit, Term};
use crate::text::visible;

/// Private keys, apart from what may be committed.
const KEYS: &str = "private";
const VALUES: &str = "values.yaml";
/// Longest name of a plane whose Secrets can be called after it.
const LONGEST: usize = 240;

/// Register a build cluster in one go
///
/// Looks at both clusters, makes or takes over the certificates, creates what the agent needs in the build cluster and
/// the plane in the control plane, and asks the gateway whether it would let the agent in. Run again it changes nothing
/// that is right, and goes on where it was cut off. Without --build-context it writes all of it into --out-dir.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl bootstrap shared-builder --build-context build --gateway-url wss://gateway.example.com:8443/ws --out-dir shared
  choreoctl bootstrap shared-builder --out-dir shared
  choreoctl bootstrap -f planes.yaml --build-context build --yes")]
pub struct Args {
    /// Name of the plane
    #[arg(required_unless_present = "files")]
    name: Option<PlaneName>,

    #[command(flatten)]
    spec: SpecArgs,

    #[command(flatten)]
    ca: CaArgs,

    /// Planes without a CA, several of which may be registered at once (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with = "name")]
    files: Vec<Input>,

    /// Where agents reach the gateway
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent)]
    gateway_url: Option<GatewayUrl>,

    /// Who issues the agent's certificate; unless given, whoever did where a CA is brought along, else cert-manager where
    /// the build cluster has it
    #[arg(long, value_name = "WAY")]
    agent_certificate: Option<Issuer>,

    /// Where the plane has its CA
    #[arg(long, value_name = "WHERE", default_value = "value")]
    client_ca_in: CaIn,

    /// Folder for Helm's values, and for the CA with its key: those that it holds are taken over. Without it the key is
    /// dropped where cert-manager has none
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Kind of the keys
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,

    /// Replace what is there and differs, unasked
    #[arg(long)]
    force: bool,

    /// How far to go
    #[arg(long, value_name = "HOW", default_value = "none")]
    dry_run: DryRun,

    /// Run helm, which must be on the PATH
    #[arg(long)]
    install: bool,

    /// Chart that is installed
    #[arg(long, value_name = "CHART", default_value = CHART)]
    chart: String,

    /// Version of the chart
    #[arg(long, value_name = "VERSION", default_value = "0.17.0")]
    chart_version: String,

    /// Wait until the agent is connected, and authorized for this plane; so does --install
    #[arg(long)]
    wait: bool,

    /// Longest time to wait; 0 for no limit
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Span,

    #[command(flatten)]
    control: ControlArgs,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: TextFormat,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    build: BuildArgs,
}

pub async fn run(mut args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let planes = planes(&args, term)?;
    let several = planes.len() > 1;
    let given = given(&args, several)?;
    if !args.build.is_named() {
        return offline::write(&args, &planes, session);
    }
    refuse_one_agent_for_two(&planes)?;
    let (control, build) = args.build.connect_to_write(session).await?;
    if let Some(plane) = planes.first()
        && let Err(error) = control.plane_if_any::<Plane>(plane.name()).await
        && let Some(swapped) = swapped(&control, Some(&build), &error).await
    {
        return Err(swapped.into());
    }
    if args.gateway_url.is_none() && !args.yes && term.asks() {
        let url = term.ask("Where agents reach the gateway, as wss://HOST:PORT/ws (may be empty)", None, |text| {
            if text.is_empty() { Ok(()) } else { GatewayUrl::of_agent(text).map(drop) }
        })?;
        args.gateway_url = url.parse().ok();
    }
    let make = |plane: Plane, preview: bool| {
        let mut steps = Steps::new(term, args.output);
        (steps.plane, steps.yes) = (several.then(|| plane.name().to_owned()), args.yes);
        steps.dry_run = preview || args.dry_run != DryRun::None;
        steps.preview = preview.then(Vec::new);
        let mut run = Run {
            folder: folder(&args, &plane, several),
            steps,
            plan: plan(&args, &control, &build.cluster, plane, given.as_ref(), session),
            kubeconfig: helm::kubeconfig(&args.build, session),
            args: &args,
        };
        if preview {
            run.plan.dry_run = DryRun::Client;
        }
        run
    };
    if args.dry_run == DryRun::None {
        if term.asks() && !args.yes {
            preview(planes.iter().map(|plane| make(plane.clone(), true)), several, term).await?;
        }
        let names: Vec<_> = planes.iter().map(|plane| visible(plane.name())).collect();
        term.confirm(&format!("register {}", names.join(", ")), args.yes)?;
    }
    let mut results = Vec::new();
    for plane in planes {
        let name = plane.name().to_owned();
        let run = make(plane, false);
        if several && args.output == TextFormat::Text {
            term.line(&format!("{}:", paint::strong(&visible(&name))))?;
        }
        let result = run.through().await;
        if !several {
            return result;
        }
        results.push(match result {
            Ok(Exit::Done) => (name, "registered".to_owned(), Exit::Done),
            Ok(exit) => (name, "registered, but its agent isn't connected".to_owned(), exit),
            Err(error) => {
                term.error(&error_text(&error));
                (name, format!("failed: {error}"), Exit::No)
            }
        });
    }
    if args.output == TextFormat::Text {
        let rows = results.iter().map(|(name, told, _)| vec![visible(name).into_owned(), visible(told).into_owned()]);
        term.print(&render::columns(Some(&["NAME", "RESULT"]), rows))?;
    }
    let failed = results.iter().any(|(_, _, exit)| *exit != Exit::Done);
    Ok(if failed { Exit::No } else { Exit::Done })
}

/// One namespace of a build cluster has one agent, which has one planeID.
fn refuse_one_agent_for_two(planes: &[Plane]) -> anyhow::Result<()> {
    if let [first, others @ ..] = planes
        && let Some(other) = others.iter().find(|other| other.plane_id() != first.plane_id())
    {
        let told = format!("{} has the planeID {}, and {}", first.name(), first.plane_id(), other.name());
        anyhow::bail!(
            "{told} {}: a namespace of a build cluster has one agent, of one planeID; register them one by one, each with a --build-namespace of its own",
            other.plane_id()
        );
    }
    Ok(())
}

/// Says what would change, before anything does.
async fn preview(runs: impl Iterator<Item = Run<'_>>, several: bool, term: &Term) -> anyhow::Result<()> {
    for mut run in runs {
        run.steps().await?;
        let name = if several { format!(" for {}", visible(run.plan.plane.name())) } else { String::new() };
        let changes: Vec<_> = run.steps.preview.iter().flatten().map(|line| format!("  {}", visible(line))).collect();
        let changes = if changes.is_empty() { "  nothing".to_owned() } else { changes.join("\n") };
        term.note(&format!("this will change{name}:\n{changes}"));
    }
    Ok(())
}

/// The planes that are meant, each without a CA, valid but for that.
fn planes(args: &Args, term: &Term) -> anyhow::Result<Vec<Plane>> {
    let planes = match &args.name {
        Some(name) => vec![args.spec.plane(name.as_str())],
        None => planes_of_files(args)?,
    };
    for plane in &planes {
        let mut plane = plane.clone();
        let name = plane.name().to_owned();
        // Any CA will do to see whether the rest is right.
        plane.spec.cluster_agent.client_ca.secret_ref =
            Some(SecretKeyRef { name: "ca".into(), namespace: Some("default".into()), key: CA_KEY.into() });
        check_manifest(&plane.manifest(), term)?;
        anyhow::ensure!(
            name.len() <= LONGEST,
            "the name {} is too long for a Secret that is called after it",
            visible(&name)
        );
    }
    Ok(planes)
}

fn planes_of_files(args: &Args) -> anyhow::Result<Vec<Plane>> {
    anyhow::ensure!(args.spec == SpecArgs::default(), "with -f the planes say what they are: leave the flags out");
    let manifests = read_manifests(&args.files, false)?;
    let mut planes = Vec::new();
    for object in manifests.iter().flat_map(objects) {
        let name = visible(object.name());
        anyhow::ensure!(object.is_plane(), "{name} is no {}, and nothing else is registered", CLUSTER_BUILD_PLANE.kind);
        let is_twice = planes.iter().any(|plane: &Plane| plane.name() == object.name());
        anyhow::ensure!(!is_twice, "the plane {name} is there twice");
        let mut plane: Plane = serde_path_to_error::deserialize(object.node.to_json())
            .with_context(|| format!("could not read the plane {name}"))?;
        let ca = &plane.spec.cluster_agent.client_ca;
        anyhow::ensure!(
            ca.value.is_none() && ca.secret_ref.is_none(),
            "the plane {name} has a CA already: choreoctl apply registers it"
        );
        plane.spec.plane_id = Some(plane.plane_id().to_owned());
        // What a server wrote is no wish.
        let metadata = std::mem::take(&mut plane.metadata);
        (plane.metadata.name, plane.metadata.labels, plane.metadata.annotations) =
            (metadata.name, metadata.labels, metadata.annotations);
        plane.status = None;
        plane.other.retain(|field, _| !matches!(field.as_str(), "apiVersion" | "kind"));
        planes.push(plane);
    }
    anyhow::ensure!(!planes.is_empty(), "there is no plane in the files");
    Ok(planes)
}

/// The CA that is brought along.
fn given(args: &Args, several: bool) -> anyhow::Result<Option<Given>> {
    let given = match &args.ca {
        CaArgs { client_ca_secret: Some(secret), .. } => Given::Secret(secret.clone()),
        CaArgs { client_ca_files, .. } if !client_ca_files.is_empty() => Given::Value(read_cas(client_ca_files)?),
        _ => return Ok(None),
    };
    anyhow::ensure!(!several, "one CA for several planes would let each one's agent pass as the other's");
    anyhow::ensure!(
        matches!(args.agent_certificate, None | Some(Issuer::Existing)),
        "a CA without its key issues nothing: leave it out, or say --agent-certificate existing"
    );
    Ok(Some(given))
}

/// Where a plane's files go.
fn folder(args: &Args, plane: &Plane, several: bool) -> Option<PathBuf> {
    let folder = args.out_dir.clone()?;
    Some(if several { folder.join(plane.name()) } else { folder })
}

fn plan(
    args: &Args,
    control: &Cluster,
    build: &Cluster,
    plane: Plane,
    given: Option<&Given>,
    session: &Session,
) -> Bootstrap {
    Bootstrap {
        control: control.clone(),
        control_namespace: args.control.control_namespace.clone(),
        build: build.clone(),
        build_namespace: args.build.namespace().to_owned(),
        plane,
        issuer: args.agent_certificate,
        given: given.cloned(),
        ca_in: args.client_ca_in,
        gateway_url: args.gateway_url.clone(),
        key_algorithm: args.key_algorithm,
        authority: None,
        pair: None,
        force: args.force,
        dry_run: args.dry_run,
        install: args.install,
        values: None,
        limit: session.patience(),
    }
}

/// The folder of private keys.
fn keys(folder: &Path) -> Folder {
    Folder::new(&folder.join(KEYS))
}

/// What a run before left in the folder: a CA, and an agent's pair.
fn at_hand(keys: &Folder, plane_id: &str, dry_run: DryRun) -> anyhow::Result<(Option<Authority>, Option<Pem>)> {
    keys.refuse_foreign()?;
    if dry_run == DryRun::None {
        keys.settle()?;
    }
    let pair = |certificate, key| -> Option<Pem> {
        let read = |name| std::fs::read_to_string(keys.file(name)).ok();
        Some((read(certificate)?, Zeroizing::new(read(key)?)))
    };
    let authority = pair(CA_CERTIFICATE, CA_PRIVATE_KEY)
        .map(|(certificate, key)| Authority::from_pem(&certificate, &key, Timestamp::now()).map_err(IssueError::from));
    let pair = pair(LEAF_CERTIFICATE, LEAF_PRIVATE_KEY);
    let leaf = pair.as_ref().and_then(|(text, _)| Certificate::all_in(text).into_iter().next());
    if let Some(other) = leaf.and_then(|leaf| leaf.common_name).filter(|name| name != plane_id) {
        anyhow::bail!(
            "{} holds the certificate of planeID {}: name another --out-dir",
            shown(keys.path()),
            visible(&other)
        );
    }
    Ok((authority.transpose()?, pair))
}

/// One plane's way through the steps.
struct Run<'r> {
    args: &'r Args,
    plan: Bootstrap,
    folder: Option<PathBuf>,
    /// That of the build cluster, for helm.
    kubeconfig: Option<PathBuf>,
    steps: Steps<'r>,
}

impl Run<'_> {
    async fn through(mut self) -> anyhow::Result<Exit> {
        let result = self.steps().await;
        self.steps.conclude(result)
    }

    async fn steps(&mut self) -> anyhow::Result<()> {
        if let Some(folder) = &self.folder {
            let keys = keys(folder);
            plan::begin("certificates", &mut self.steps);
            (self.plan.authority, self.plan.pair) = at_hand(&keys, self.plan.plane.plane_id(), self.args.dry_run)?;
            self.steps.keys = Some(keys);
            let path = folder.join(VALUES);
            self.plan.values = Some((shown(&path), there(&path)));
            // One that was named before stays.
            if self.plan.gateway_url.is_none() {
                self.plan.gateway_url = url_of(folder);
            }
        }
        let made = plan::bootstrap(&self.plan, &mut self.steps).await?;
        self.values(&made)?;
        self.helm(&made).await?;
        let name = self.plan.plane.name();
        if self.plan.dry_run.stores() && (self.args.install || self.args.wait) {
            return plan::authorized(&self.plan, &made, deadline(self.args.timeout), &mut self.steps).await;
        }
        if self.steps.preview.is_some() {
            return Ok(());
        }
        let wait = self.plan.control.target().command(&format!("choreoctl wait {name} --for connected"));
        self.steps.tell("wait", Status::Skipped, &format!("then: {wait}"));
        Ok(())
    }

    fn values(&mut self, made: &Made) -> anyhow::Result<()> {
        plan::begin("values", &mut self.steps);
        let Some(folder) = &self.folder else {
            self.steps.tell("values", Status::Skipped, "Helm's command has them, as no --out-dir is given");
            return Ok(());
        };
        let (path, text) = (folder.join(VALUES), to_yaml(&made.values)?);
        let told = format!("{} has Helm's values", shown(&path));
        if there(&path).is_some_and(|there| there == text) {
            self.steps.tell("values", Status::Found, &told);
            return Ok(());
        }
        if self.plan.dry_run.stores() {
            write(folder, VALUES, &text)?;
        }
        self.steps.tell("values", Status::Done, &format!("{told}{}", self.args.dry_run.suffix()));
        Ok(())
    }

    async fn helm(&mut self, made: &Made) -> anyhow::Result<()> {
        plan::begin("helm", &mut self.steps);
        let helm = self.helm_command(made);
        if !self.args.install {
            self.steps.tell("helm", Status::Skipped, &format!("run: {}", helm.line()));
            return Ok(());
        }
        if self.steps.preview.is_some() {
            self.steps.tell("helm", Status::Done, &helm.line());
            return Ok(());
        }
        if plan::installed(&self.plan, made, &self.args.chart_version).await? {
            self.steps.tell("helm", Status::Found, "the agent runs with these values");
            return Ok(());
        }
        if self.plan.dry_run.stores() {
            self.steps.give_way();
            helm.run()?;
        }
        self.steps.tell("helm", Status::Done, &format!("the chart is installed{}", self.args.dry_run.suffix()));
        Ok(())
    }

    /// The command that installs the agent.
    fn helm_command(&self, made: &Made) -> Helm {
        let (args, plan) = (self.args, &self.plan);
        let helm = Helm::upgrade(made.release.as_deref(), &args.chart, &args.chart_version, &plan.build_namespace);
        let mut words = Vec::new();
        match &self.folder {
            Some(folder) => words.extend(["--values".into(), folder.join(VALUES).to_string_lossy().into_owned()]),
            None => set(&made.values, "", &mut words),
        }
        helm.with(words).in_cluster(plan.build.target(), self.kubeconfig.as_deref())
    }
}

/// The gateway's URL in Helm's values of a run before.
fn url_of(folder: &Path) -> Option<GatewayUrl> {
    let text = std::fs::read_to_string(folder.join(VALUES)).ok()?;
    let values = manifest::parse(VALUES.into(), text);
    let values = values.documents.first()?.root.to_json();
    GatewayUrl::of_agent(values["clusterAgent"]["serverUrl"].as_str()?).ok()
}

/// Values as Helm's command line takes them: a text that looks like a number stays a text.
fn set(values: &Value, path: &str, words: &mut Vec<String>) {
    match values {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                set(value, &path, words);
            }
        }
        Value::String(text) => {
            let escaped = text.replace('\\', "\\\\").replace(',', "\\,");
            words.extend(["--set-string".into(), format!("{path}={escaped}")]);
        }
        value => words.extend(["--set".into(), format!("{path}={value}")]),
    }
}

/// What a file says, where there is one.
fn there(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Writes a file, unless it is so already.
fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    if there(&path).is_some_and(|there| there == text) {
        return Ok(());
    }
    let failed = || format!("could not write {}", shown(&path));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(failed)?;
    }
    Ok(manifest::write(&path, text)?)
}

fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}
