//! `choreoctl bootstrap`: register a build cluster in one go.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};
use jiff::Timestamp;

use super::create::SpecArgs;
use super::error_text;
use super::steps::Steps;
use super::wait;
use crate::args::{BuildArgs, Session, TextFormat, namespace, read_manifests};
use crate::gateway::GatewayUrl;
use crate::manifest::{self, Input, to_yaml};
use crate::pki::{
    Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, IssueError, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY,
    NewFile,
};
use crate::plan::{self, Bootstrap, CaIn, Files, Issuer, Observer as _, Status};
use crate::plane::{Plane, PlaneName, Span};
use crate::render;
use crate::term::{Exit, shell_quoted, visible};
use crate::validate::objects;

/// The chart of the agent, and the release that is told of.
const CHART: &str = "oci://ghcr.io/openchoreo/helm-charts/openchoreo-build-plane";
/// Private keys, apart from what may be committed.
const KEYS: &str = "private";

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

    /// Planes without a CA, several of which may be registered at once (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with = "name")]
    files: Vec<Input>,

    /// Where agents reach the gateway
    #[arg(long, value_name = "URL")]
    gateway_url: Option<GatewayUrl>,

    /// Who issues the agent's certificate; cert-manager where the build cluster has it, unless given
    #[arg(long, value_name = "WAY")]
    agent_certificate: Option<Issuer>,

    /// Where the plane has its CA
    #[arg(long, value_name = "WHERE", default_value = "value")]
    client_ca_in: CaIn,

    /// Folder for Helm's values, and for the CA with its key; without it the key is dropped where cert-manager has none
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Kind of the keys
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,

    /// Replace what is there and differs
    #[arg(long)]
    force: bool,

    /// Run helm, which must be on the PATH
    #[arg(long)]
    install: bool,

    /// Chart that is installed
    #[arg(long, value_name = "CHART", default_value = CHART)]
    chart: String,

    /// Version of the chart
    #[arg(long, value_name = "VERSION", default_value = "0.17.0")]
    chart_version: String,

    /// Wait until the agent is connected
    #[arg(long)]
    wait: bool,

    /// Longest time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Span,

    /// Namespace of the control plane
    #[arg(long, value_name = "NAMESPACE", default_value = "openchoreo-control-plane", value_parser = namespace)]
    control_namespace: String,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: TextFormat,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    build: BuildArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let planes = planes(&args)?;
    if !args.build.is_named() {
        return offline(&args, &planes, session);
    }
    let (control, build) = args.build.connect_to_write(session).await?;
    let names: Vec<_> = planes.iter().map(|plane| visible(plane.name())).collect();
    session.term.note(&format!("steps: {}", plan::STEPS.join(", ")));
    session.term.confirm(&format!("register {}", names.join(", ")), args.yes)?;
    let mut results = Vec::new();
    for plane in &planes {
        let folder = folder(&args, plane, planes.len() > 1);
        let mut plan = Bootstrap {
            control: control.clone(),
            control_namespace: args.control_namespace.clone(),
            build: build.cluster.clone(),
            build_namespace: build.namespace.clone(),
            plane: plane.clone(),
            issuer: args.agent_certificate,
            ca_in: args.client_ca_in,
            gateway_url: args.gateway_url.clone(),
            key_algorithm: args.key_algorithm,
            authority: folder.as_deref().map(authority).transpose()?.flatten(),
            force: args.force,
            limit: session.patience(),
        };
        let mut steps = Steps::new(&session.term, args.output, None);
        let result = one(&args, &mut plan, folder.as_deref(), &mut steps, session).await;
        let result = match result {
            Ok(exit) => Ok(exit),
            Err(error) => steps.conclude(Err(error)),
        };
        match (result, planes.len()) {
            (result, 1) => return result,
            (Ok(exit), _) => results.push((plane.name().to_owned(), "registered".to_owned(), exit)),
            (Err(error), _) => {
                session.term.error(&error_text(&error));
                results.push((plane.name().to_owned(), format!("failed: {error}"), Exit::No));
            }
        }
    }
    let rows = results.iter().map(|(name, told, _)| vec![visible(name).into_owned(), visible(told).into_owned()]);
    if args.output == TextFormat::Text {
        session.term.print(&render::columns(Some(&["NAME", "RESULT"]), rows))?;
    }
    Ok(results.iter().fold(Exit::Done, |exit, (_, _, other)| exit.and(*other)))
}

/// The planes that are meant, each without a CA.
fn planes(args: &Args) -> anyhow::Result<Vec<Plane>> {
    if let Some(name) = &args.name {
        return Ok(vec![args.spec.plane(name.as_str())]);
    }
    let manifests = read_manifests(&args.files, false)?;
    let mut planes = Vec::new();
    for object in manifests.iter().flat_map(objects).filter(|object| object.is_plane()) {
        let mut plane: Plane = serde_path_to_error::deserialize(object.node.to_json())
            .with_context(|| format!("could not read the plane {}", visible(object.name())))?;
        plane.spec.plane_id = Some(plane.plane_id().to_owned());
        planes.push(plane);
    }
    anyhow::ensure!(!planes.is_empty(), "there is no plane in the files");
    Ok(planes)
}

/// Where a plane's files go.
fn folder(args: &Args, plane: &Plane, several: bool) -> Option<PathBuf> {
    let folder = args.out_dir.clone()?;
    Some(if several { folder.join(plane.name()) } else { folder })
}

/// The CA that a run before left in the folder.
fn authority(folder: &Path) -> anyhow::Result<Option<Authority>> {
    let keys = Folder::new(&folder.join(KEYS));
    keys.settle()?;
    let read = |name| std::fs::read_to_string(keys.file(name)).ok();
    match (read(CA_CERTIFICATE), read(CA_PRIVATE_KEY)) {
        (Some(certificate), Some(key)) => {
            let key = zeroize::Zeroizing::new(key);
            Ok(Some(Authority::from_pem(&certificate, &key, Timestamp::now()).map_err(IssueError::from)?))
        }
        _ => Ok(None),
    }
}

async fn one(
    args: &Args,
    plan: &mut Bootstrap,
    folder: Option<&Path>,
    steps: &mut Steps<'_>,
    session: &Session,
) -> anyhow::Result<Exit> {
    // The key is on the disk before anything trusts its CA: a run that is cut off finds it there.
    if let Some(folder) = folder
        && plan.authority.is_none()
        && !matches!(args.agent_certificate, Some(Issuer::Existing))
    {
        let made = plan::files(plan.plane.clone(), None, args.key_algorithm, plan.control.now())?;
        if let Some((ca, key)) = &made.ca {
            write_ca(folder, ca, key)?;
            plan.authority = authority(folder)?;
        }
    }
    let files = plan::bootstrap(plan, steps).await?;
    let name = plan.plane.name();
    if let Some(folder) = folder {
        let told = if write(folder, "values.yaml", &files.values)? { Status::Done } else { Status::Found };
        steps.tell("values", told, &format!("{} has Helm's values", shown(&folder.join("values.yaml"))));
    } else {
        if files.ca.is_some() && plan.issuer != Some(Issuer::CertManager) {
            let told = "the CA's key is dropped, as no --out-dir is given: the next certificate takes `certs rotate`";
            steps.tell("values", Status::Skipped, told);
        }
        steps.tell("values", Status::Done, &format!("Helm's values: {}", files.values.trim().replace('\n', "; ")));
    }
    let helm = helm(args, plan, folder);
    if args.install {
        let folder = folder.context("--install needs --out-dir for Helm's values")?;
        run_helm(&helm, folder)?;
        steps.tell("helm", Status::Done, "helm is through");
    } else {
        steps.tell(
            "helm",
            Status::Skipped,
            &format!("run: helm {}", helm.iter().map(|word| shell_quoted(word)).collect::<Vec<_>>().join(" ")),
        );
    }
    if !args.install && !args.wait {
        let wait = plan.control.target().command(&format!("choreoctl wait {name} --for connected"));
        steps.tell("wait", Status::Skipped, &format!("then: {wait}"));
        return Ok(Exit::Done);
    }
    let exit = wait::connected(&plan.control, vec![name.to_owned()], args.timeout, &session.term).await?;
    if exit == Exit::Done {
        steps.tell("wait", Status::Done, "an agent is connected");
    }
    Ok(exit)
}

/// The words behind `helm` that install the agent.
fn helm(args: &Args, plan: &Bootstrap, folder: Option<&Path>) -> Vec<String> {
    let mut words: Vec<String> = ["upgrade", "--install", "openchoreo-build-plane"].map(str::to_owned).to_vec();
    words.extend([args.chart.clone(), "--version".into(), args.chart_version.clone()]);
    words.extend(["--namespace".into(), plan.build_namespace.clone()]);
    let values = folder.map_or_else(|| PathBuf::from("values.yaml"), |folder| folder.join("values.yaml"));
    words.extend(["--values".into(), values.to_string_lossy().into_owned()]);
    if let Some(context) = &plan.build.target().context {
        words.extend(["--kube-context".into(), context.clone()]);
    }
    words.extend(args.build.kubeconfig().map(|path| format!("--kubeconfig={}", path.to_string_lossy())));
    words
}

fn run_helm(words: &[String], folder: &Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("helm").args(words).status();
    let status = status.context("could not run helm: is it on the PATH?")?;
    anyhow::ensure!(status.success(), "helm ended with {status}; its values are in {}", shown(folder));
    Ok(())
}

/// All of it as files.
fn offline(args: &Args, planes: &[Plane], session: &Session) -> anyhow::Result<Exit> {
    let Some(_) = &args.out_dir else {
        return Err(crate::args::NoBuildCluster.into());
    };
    for plane in planes {
        let folder = folder(args, plane, planes.len() > 1).unwrap_or_default();
        if folder.join(KEYS).join(CA_PRIVATE_KEY).exists() {
            let path = shown(&folder.join(KEYS));
            anyhow::bail!("{path} holds the keys of a run before: name another --out-dir");
        }
        let files = plan::files(plane.clone(), args.gateway_url.as_ref(), args.key_algorithm, Timestamp::now())?;
        write_all(args, &folder, plane, &files)?;
        session.term.line(&format!("{}: what to apply where is in its README.md", shown(&folder)))?;
    }
    Ok(Exit::Done)
}

fn write_all(args: &Args, folder: &Path, plane: &Plane, files: &Files) -> anyhow::Result<()> {
    let (Some((ca, ca_key)), Some((certificate, key))) = (&files.ca, &files.pair) else {
        return Ok(());
    };
    let new = |name, content, secret| NewFile { name, content, secret };
    let keys = [
        new(CA_PRIVATE_KEY, ca_key.as_str(), true),
        new(CA_CERTIFICATE, ca.as_str(), false),
        new(LEAF_PRIVATE_KEY, key.as_str(), true),
        new(LEAF_CERTIFICATE, certificate.as_str(), false),
    ];
    Folder::new(&folder.join(KEYS)).write(&keys, false)?;
    let namespace = args.build.namespace();
    let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    write(folder, "control-plane/plane.yaml", &to_yaml(&files.plane)?)?;
    write(folder, "build-plane/namespace.yaml", &to_yaml(&object)?)?;
    write(folder, "values.yaml", &files.values)?;
    write(folder, "README.md", &readme(args, plane))?;
    Ok(())
}

/// What to apply where.
fn readme(args: &Args, plane: &Plane) -> String {
    let (name, namespace, control) = (plane.name(), args.build.namespace(), &args.control_namespace);
    format!(
        "# Registering the build plane {name}

`{KEYS}` holds private keys: keep it out of version control. With kubectl's contexts `control` and `build`:

    kubectl --context control apply -f control-plane/plane.yaml
    kubectl --context build apply -f build-plane/namespace.yaml
    choreoctl certs secret {KEYS} -n {namespace} --name cluster-agent-own-tls | kubectl --context build apply -f -
    kubectl --context control -n {control} get secret cluster-gateway-ca -o 'go-template={{{{index .data \"ca.crt\" | base64decode}}}}' > gateway-ca.crt
    kubectl --context build -n {namespace} create configmap cluster-gateway-ca --from-file=ca.crt=gateway-ca.crt
    helm upgrade --install openchoreo-build-plane {chart} --version {version} --namespace {namespace} --values values.yaml --kube-context build
    choreoctl wait {name} --for connected --context control

The agent's certificate ends in a year: `choreoctl certs renew --dir {KEYS}` makes the next one.
",
        chart = args.chart,
        version = args.chart_version,
    )
}

fn write_ca(folder: &Path, ca: &str, key: &str) -> anyhow::Result<()> {
    let files = [
        NewFile { name: CA_PRIVATE_KEY, content: key, secret: true },
        NewFile { name: CA_CERTIFICATE, content: ca, secret: false },
    ];
    Ok(Folder::new(&folder.join(KEYS)).write(&files, false)?)
}

/// Writes a file unless it is so already; whether it did.
fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<bool> {
    let path = folder.join(name);
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    let failed = || format!("could not write {}", shown(&path));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(failed)?;
    }
    manifest::write(&path, text)?;
    Ok(true)
}

fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}
