//! `choreoctl config`: the file that says in which cluster each plane's agent is.

use clap::{Args as ClapArgs, Subcommand};

use super::remembered::remember;
use crate::args::{OutputArgs, PlaneArgs, PlaneClusterArgs, Session, TextFormat};
use crate::config::{self, Config, Place};
use crate::gateway::GatewayUrl;
use crate::manifest::json_text;
use crate::plane::Plane;
use crate::render;
use crate::term::{Exit, Term};
use crate::text::{shown, visible};

/// Manage the configuration: which cluster runs each plane's agent
///
/// Commands use the configuration file if --plane-context is not set. The file holds no secrets. A control plane
/// and a plane's cluster are identified by the UID of the namespace kube-system: a context that now points to another
/// cluster is refused.
///
/// The file is choreoctl/config.yaml in the user's configuration folder, or the path in CHOREOCTL_CONFIG. It has a list
/// controlPlanes, each with context, identity and planes, each of these with kind, namespace, name, planeContext,
/// planeKubeconfig, planeNamespace, gatewayURL and identity.
#[derive(ClapArgs, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show the saved clusters of all planes
    List(OutputArgs<TextFormat>),
    /// Save which cluster runs a plane's agent
    #[command(after_help = "Examples:
  choreoctl config set shared --plane-context build
  choreoctl config set dp/east -n team --plane-kubeconfig ~/east.yaml --gateway-url wss://gateway.example.com:8443/ws")]
    Set(SetArgs),
    /// Remove a plane's saved cluster
    Unset(UnsetArgs),
    /// Print the path of the configuration file
    Path,
}

#[derive(ClapArgs, Debug)]
struct SetArgs {
    #[command(flatten)]
    plane: PlaneArgs,

    /// URL at which agents connect to the gateway
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent)]
    gateway_url: Option<GatewayUrl>,

    #[command(flatten)]
    build: PlaneClusterArgs,
}

#[derive(ClapArgs, Debug)]
struct UnsetArgs {
    #[command(flatten)]
    plane: PlaneArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let path = config::path()?;
    match args.command {
        Command::Path => session.term.line(&shown(&path))?,
        Command::List(output) => list(&Config::read(&path)?, output.format, &session.term)?,
        Command::Set(args) => return set(&args, session).await,
        Command::Unset(args) => return unset(&args, session).await,
    }
    Ok(Exit::Done)
}

fn list(config: &Config, format: TextFormat, term: &Term) -> anyhow::Result<()> {
    if format == TextFormat::Json {
        return term.line(&json_text(&config.to_json())?);
    }
    let text = |text: Option<&str>| text.map_or_else(|| "-".into(), |text| visible(text).into_owned());
    let rows = config.control_planes.iter().flat_map(|control| {
        control.planes.iter().map(move |(key, place)| {
            let kubeconfig = place.kubeconfig.as_ref().map(|path| path.to_string_lossy().into_owned());
            vec![
                text(control.context.as_deref()),
                visible(&key.with_word()).into_owned(),
                text(place.context.as_deref()),
                text(kubeconfig.as_deref()),
                text(place.namespace.as_deref()),
                text(place.gateway_url.as_ref().map(ToString::to_string).as_deref()),
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        term.note("No planes are configured");
        return Ok(());
    }
    let heads = ["CONTEXT", "PLANE", "PLANE-CONTEXT", "KUBECONFIG", "NAMESPACE", "GATEWAY"];
    term.print(&render::columns(Some(&heads), rows.into_iter()))
}

async fn set(args: &SetArgs, session: &Session) -> anyhow::Result<Exit> {
    let (control, key) = args.plane.at(session.connect().await?).await?;
    let plane: Plane = control.plane(&key.name).await?;
    let place = args.build.place(session).await?;
    anyhow::ensure!(
        place.is_named() || args.gateway_url.is_some(),
        "nothing to save: add --plane-context or another option"
    );
    let reported = remember(&control, &plane.key(), Place { gateway_url: args.gateway_url.clone(), ..place }).await?;
    session.term.line(&reported)?;
    Ok(Exit::Done)
}

/// A cluster that is gone can be forgotten, too: only the kubeconfig is read.
async fn unset(args: &UnsetArgs, session: &Session) -> anyhow::Result<Exit> {
    let path = config::path()?;
    let mut config = Config::read(&path)?;
    let context = session.connect().await.ok().and_then(|control| control.target().context.clone());
    let (name, wanted) = args.plane.name()?;
    let name = name.ok_or(crate::args::WordsError::NotOne { wanted })?;
    let known = config.control_plane(context.as_deref(), None)?;
    let keys = known.map(|known| known.named(&name, args.plane.namespace().as_deref())).unwrap_or_default();
    if keys.is_empty() {
        anyhow::bail!("{name} is not configured for context {}", visible(context.as_deref().unwrap_or("-")));
    }
    config.unset(context.as_deref(), &keys);
    config.write(&path)?;
    for key in keys {
        session.term.line(&format!("{} removed from {}", visible(&key.with_word()), shown(&path)))?;
    }
    Ok(Exit::Done)
}
