//! `choreoctl wait`: block until planes reach a state.

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use serde_json::json;
use tokio::time::timeout_at;

use super::objects::object_name;
use super::source::SourceReader;
use super::waiting::{LOOK_AGAIN, Outcome, Wish, deadline, until, word};
use crate::args::{Lookup, NoPlaneCluster, PlaneClusterArgs, PlanesArgs, Session};
use crate::cluster::Cluster;
use crate::complete;
use crate::estate;
use crate::manifest::json_text;
use crate::paint;
use crate::pki::Verdict;
use crate::plane::{DEFAULT_KIND, Goal, Plane, PlaneKey, Source, Span, State};
use crate::render::identity_json;
use crate::term::Exit;

/// Wait until planes reach a state
///
/// Exits 0 when every plane meets every condition, 3 when a plane does not exist, and 124 on timeout. A GOAL is a state
/// (connected, late, stale, disconnected, neverconnected, unreported, deleting: `choreoctl get --help` explains them),
/// exists, deleted, or trusted: the plane authorizes the agent's
/// certificate (--cert, else that in the agent's Secret).
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl wait shared-builder
  choreoctl wait --all --for connected --timeout 10m
  choreoctl wait shared-builder --for deleted
  choreoctl wait shared-builder --for trusted --cert certs/tls.crt")]
pub struct Args {
    #[command(flatten)]
    which: PlanesArgs,

    /// State to wait for, or exists, deleted or trusted (can be repeated)
    #[arg(long = "for", value_name = "GOAL", default_value = "connected", add = ArgValueCandidates::new(goals))]
    goals: Vec<Goal>,

    /// Longest time to wait; 0 checks once, unlike in other commands
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Span,

    /// Succeed when one plane meets the conditions
    #[arg(long)]
    any: bool,

    /// With --for trusted, the agent's certificate, as in `certs inspect` [default: from its Secret]
    #[arg(long, value_name = "SOURCE", add = ArgValueCompleter::new(complete::sources))]
    cert: Option<Source>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    #[command(flatten)]
    build: PlaneClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
}

fn goals() -> Vec<clap_complete::CompletionCandidate> {
    let states = State::ALL.iter().map(|state| state.name().to_lowercase());
    states
        .chain(["exists", "deleted", "trusted"].map(String::from))
        .map(clap_complete::CompletionCandidate::new)
        .collect()
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let deadline = deadline(args.timeout);
    let chosen = chosen(&args, session);
    let (lookup, planes) = match deadline {
        None => chosen.await?,
        Some(deadline) => match timeout_at(deadline, chosen).await {
            Ok(chosen) => chosen?,
            Err(_) => {
                session.term.error(&format!("{} timed out before the planes could be listed", paint::bad("error:")));
                return Ok(Exit::TimedOut);
            }
        },
    };
    let cluster = &lookup.cluster;
    let outcome = if planes.is_empty() {
        session.term.note("no plane matches");
        let met = args.goals.iter().all(|goal| goal.holds(None));
        Outcome { exit: if met { Exit::Done } else { Exit::NotFound }, planes: Vec::new() }
    } else {
        let trust =
            if args.goals.contains(&Goal::Trusted) { Some(Trust::new(&args, &lookup, session).await?) } else { None };
        let trusts = async |plane: &Plane| match &trust {
            Some(trust) => trust.verdict(cluster, plane).await,
            None => Ok(()),
        };
        let wish = Wish { planes, goals: args.goals, any: args.any, deadline };
        until(cluster, &wish, trusts, &session.term).await?
    };
    if args.output == Some(Format::Json) {
        let planes: Vec<_> = outcome
            .planes
            .iter()
            .map(|(plane, met, state)| identity_json(plane, json!({"met": met, "state": state.map(State::name)})))
            .collect();
        session.term.line(&json_text(&json!({"planes": planes}))?)?;
    } else {
        for (plane, _, state) in outcome.planes.iter().filter(|(_, met, _)| *met) {
            session.term.line(&format!("{} {}", object_name(plane), word(*state)))?;
        }
    }
    Ok(outcome.exit)
}

/// Where planes are looked for, and those that are meant.
async fn chosen(args: &Args, session: &Session) -> anyhow::Result<(Lookup, Vec<PlaneKey>)> {
    let lookup = args.which.look(session.connect().await?, false).await?;
    if args.goals.contains(&Goal::Exists) {
        lookup.refuse_unborn().await?;
    }
    let planes =
        if args.timeout.seconds() == 0 { args.which.keys(&lookup).await? } else { keys(args, &lookup).await? };
    Ok((lookup, planes))
}

/// The planes that are meant; where they are to come into being, as soon as there are any.
async fn keys(args: &Args, lookup: &Lookup) -> anyhow::Result<Vec<PlaneKey>> {
    loop {
        let planes = args.which.keys(lookup).await?;
        if !planes.is_empty() || !args.goals.contains(&Goal::Exists) {
            return Ok(planes);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A certificate that planes are to trust.
struct Trust<'s> {
    reader: SourceReader<'s>,
    source: Source,
    /// What can't change while it is waited for.
    presented: Option<Vec<Vec<u8>>>,
}

impl<'s> Trust<'s> {
    async fn new(args: &Args, lookup: &Lookup, session: &'s Session) -> anyhow::Result<Self> {
        let source = args.cert.clone().unwrap_or(Source::Agent);
        let mut reader = SourceReader::to(source.needs_cluster(), session).await?;
        if source == Source::Agent {
            reader = reader.with_agents(&args.build, |plane| lookup.means(plane)).await?;
            anyhow::ensure!(!reader.fleet.is_empty(), NoPlaneCluster);
        }
        let stays = matches!(source, Source::File(_) | Source::Stdin);
        let family = DEFAULT_KIND.family;
        let presented = if stays { Some(reader.presented(&source, family, None, None).await?) } else { None };
        Ok(Self { reader, source, presented })
    }

    /// Whether a plane authorizes it now; why not, otherwise.
    async fn verdict(&self, cluster: &Cluster, plane: &Plane) -> Result<(), String> {
        let read = match &self.presented {
            Some(presented) => Ok(presented.clone()),
            None => {
                self.reader.presented(&self.source, plane.kind.family, Some(&plane.key()), Some(plane.plane_id())).await
            }
        };
        let presented = read.map_err(|error| format!("{error:#}"))?;
        let cas = estate::client_cas(cluster, std::slice::from_ref(plane)).await;
        let verdict = cas.first().map(|ca| ca.verdict(&presented, cluster.now()));
        match verdict {
            Some(Verdict::Authorized { .. }) => Ok(()),
            Some(Verdict::Refused(refusal)) => Err(refusal.message),
            Some(Verdict::Unknown(why)) => Err(why),
            None => Err("its CA can't be read".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};
    use crate::cluster::Fake;
    use crate::commands::tests::write_pairs;
    use serde_json::json;

    fn plane(ca: &str) -> serde_json::Value {
        let spec = json!({"planeID": "a", "clusterAgent": {"clientCA": {"value": ca}}});
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn goals_are_states_and_three_more() {
        assert_eq!(goals().len(), State::ALL.len() + 3);
        let args: Args = parse(&["a"]).unwrap();
        assert_eq!((args.goals, args.timeout.seconds()), (vec![Goal::State(State::Connected)], 300));
        assert!(parse::<Args>(&["a", "--for", "happy"]).is_err());
    }

    #[tokio::test]
    async fn planes_that_are_to_exist_are_awaited_and_others_are_not() {
        let of = |words: &[&str]| parse::<Args>(words).unwrap();
        let lookup = async |args: &Args| args.which.look(Fake::default().cluster(), false).await.unwrap();
        let args = of(&["--all"]);
        assert!(keys(&args, &lookup(&args).await).await.unwrap().is_empty());
        let args = of(&["--all", "--for", "exists"]);
        let lookup = lookup(&args).await;
        let found = tokio::time::timeout(LOOK_AGAIN / 2, keys(&args, &lookup)).await;
        assert!(found.is_err());
    }

    #[tokio::test]
    async fn a_plane_trusts_what_its_ca_issued() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ca, foreign) = (write_pairs(one.path(), "a"), write_pairs(other.path(), "a"));
        let cert = one.path().join("tls.crt");
        let args: Args = parse(&["a", "--for", "trusted", "--cert", &cert.to_string_lossy()]).unwrap();
        let session = session();
        let cluster = Fake::default().cluster();
        let lookup = args.which.look(cluster.clone(), false).await.unwrap();
        let trust = Trust::new(&args, &lookup, &session).await.unwrap();
        let verdict = async |ca: &str| trust.verdict(&cluster, &serde_json::from_value(plane(ca)).unwrap()).await;
        assert_eq!(verdict(&ca).await, Ok(()));
        assert!(verdict(&foreign).await.is_err());
        let args: Args = parse(&["a", "--for", "trusted"]).unwrap();
        assert!(Trust::new(&args, &lookup, &session).await.err().unwrap().is::<NoPlaneCluster>());
    }
}
