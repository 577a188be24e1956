//! `choreoctl wait`: block until planes reach a state.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::certs::Reach;
use crate::args::{BuildArgs, NoBuildCluster, Session, WhichArgs, WriteArgs};
use crate::cluster::{Cluster, Event, Watch};
use crate::complete;
use crate::doctor;
use crate::manifest::json_text;
use crate::paint;
use crate::pki::Verdict;
use crate::plane::{DryRun, Goal, Plane, Source, Span, State, closest, did_you_mean};
use crate::render;
use crate::term::{Exit, Term, Waiting};
use crate::text::visible;

/// How long till the next look for planes that a selector may choose one day.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Wait until build planes reach a state
///
/// Exits 0 when every condition holds for every plane, 3 when a plane isn't there, and 124 when the time runs out.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl wait shared-builder
  choreoctl wait --all --for connected --timeout 10m
  choreoctl wait shared-builder --for deleted
  choreoctl wait shared-builder --for trusted --cert certs/tls.crt")]
pub struct Args {
    #[command(flatten)]
    which: WhichArgs,

    /// State to wait for, or exists, or deleted, or trusted: the plane authorizes the agent's certificate (can be repeated)
    #[arg(long = "for", value_name = "GOAL", default_value = "connected", add = ArgValueCandidates::new(goals))]
    goals: Vec<Goal>,

    /// Longest time to wait; 0 looks once
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: Span,

    /// One plane is enough
    #[arg(long)]
    any: bool,

    /// With --for trusted, what the agent presents; what its Secret holds in the build cluster, unless given
    #[arg(long, value_name = "SOURCE", add = ArgValueCompleter::new(complete::sources))]
    cert: Option<Source>,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    #[command(flatten)]
    build: BuildArgs,
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

/// What is waited for.
pub struct Wish<'s> {
    pub names: Vec<String>,
    pub goals: Vec<Goal>,
    pub any: bool,
    /// None to look once.
    pub deadline: Option<Instant>,
    /// What is to be trusted, where that is a goal.
    pub trust: Option<Trust<'s>>,
}

/// A certificate that planes are to trust.
pub struct Trust<'s> {
    reach: Reach<'s>,
    source: Source,
    /// What can't change while it is waited for.
    presented: Option<Vec<Vec<u8>>>,
}

impl<'s> Trust<'s> {
    async fn new(args: &Args, session: &'s Session) -> anyhow::Result<Self> {
        let source = args.cert.clone().unwrap_or(Source::Agent);
        let reach = Reach::to(source.needs_cluster(), &args.build, session).await?;
        if source == Source::Agent && reach.build.is_none() {
            return Err(NoBuildCluster.into());
        }
        let stays = matches!(source, Source::File(_) | Source::Stdin);
        let presented = if stays { Some(reach.presented(&source, None).await?) } else { None };
        Ok(Self { reach, source, presented })
    }

    /// Whether a plane authorizes it now; why not, otherwise.
    async fn verdict(&self, cluster: &Cluster, plane: &Plane) -> Result<(), String> {
        let read = match &self.presented {
            Some(presented) => Ok(presented.clone()),
            None => self.reach.presented(&self.source, Some(plane.plane_id())).await,
        };
        let presented = read.map_err(|error| format!("{error:#}"))?;
        let cas = doctor::client_cas(cluster, std::slice::from_ref(plane)).await;
        let verdict = cas.first().map(|ca| ca.verdict(&presented, cluster.now()));
        match verdict {
            Some(Verdict::Authorized { .. }) => Ok(()),
            Some(Verdict::Refused(refusal)) => Err(refusal.message),
            Some(Verdict::Unknown(why)) => Err(why),
            None => Err("its CA can't be read".into()),
        }
    }
}

/// How it came out.
pub struct Outcome {
    pub exit: Exit,
    /// Each plane, whether its goals hold, and its last state; none where it isn't there.
    pub planes: Vec<(String, bool, Option<State>)>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let cluster = args.which.connect(session).await?;
    let deadline = deadline(args.timeout);
    let names = match deadline {
        None => args.which.names(&cluster).await?,
        Some(deadline) => match timeout_at(deadline, names(&args, &cluster)).await {
            Ok(names) => names?,
            Err(_) => {
                session
                    .term
                    .error(&format!("{} the time ran out before the planes could be listed", paint::bad("error:")));
                return Ok(Exit::TimedOut);
            }
        },
    };
    let outcome = if names.is_empty() {
        session.term.note("no plane is meant");
        let met = args.goals.iter().all(|goal| goal.holds(None));
        Outcome { exit: if met { Exit::Done } else { Exit::NotFound }, planes: Vec::new() }
    } else {
        let trust = if args.goals.contains(&Goal::Trusted) { Some(Trust::new(&args, session).await?) } else { None };
        let wish = Wish { names, goals: args.goals, any: args.any, deadline, trust };
        until(&cluster, &wish, &session.term).await?
    };
    if args.output == Some(Format::Json) {
        let planes: Vec<_> = outcome
            .planes
            .iter()
            .map(|(name, met, state)| json!({"name": name, "met": met, "state": state.map(State::name)}))
            .collect();
        session.term.line(&json_text(&json!({"planes": planes}))?)?;
    } else {
        for (name, _, state) in outcome.planes.iter().filter(|(_, met, _)| *met) {
            session.term.line(&format!("{} {}", super::object_name(name), word(*state)))?;
        }
    }
    Ok(outcome.exit)
}

/// When the time is over; none for 0.
pub fn deadline(timeout: Span) -> Option<Instant> {
    (timeout.seconds() > 0).then(|| Instant::now() + timeout.duration())
}

/// The planes that are meant; where they are to come into being, as soon as there are any.
async fn names(args: &Args, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    loop {
        let names = args.which.names(cluster).await?;
        if !names.is_empty() || !args.goals.contains(&Goal::Exists) {
            return Ok(names);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// After a write: waits until the planes are connected, where that was asked for.
pub async fn if_asked(args: &WriteArgs, cluster: &Cluster, names: Vec<String>, term: &Term) -> anyhow::Result<Exit> {
    if !args.wait || args.dry_run != DryRun::None {
        return Ok(Exit::Done);
    }
    connected(cluster, names, args.timeout, term).await
}

/// Waits until the planes are connected.
pub async fn connected(cluster: &Cluster, names: Vec<String>, timeout: Span, term: &Term) -> anyhow::Result<Exit> {
    let goals = vec![Goal::State(State::Connected)];
    let wish = Wish { names, goals, any: false, deadline: deadline(timeout), trust: None };
    Ok(until(cluster, &wish, term).await?.exit)
}

fn word(state: Option<State>) -> String {
    state.map_or_else(|| "not there".into(), render::state)
}

/// Waits until the wish is true, a plane is missing, or the time has run out.
pub async fn until(cluster: &Cluster, wish: &Wish<'_>, term: &Term) -> anyhow::Result<Outcome> {
    let goals = wish.goals.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let mut waiting = wish.deadline.map(|_| term.wait(&format!("waiting for {}: {goals}", title(&wish.names))));
    let only = if let [name] = wish.names.as_slice() { Some(name.clone()) } else { None };
    let mut watch = Watch::start(cluster, None, only);
    let mut roll = Roll::new(wish);
    let bears_absence = wish.goals.iter().any(|goal| goal.bears_absence());
    loop {
        let wake = roll.wake(watch.now()).min(Instant::now() + Waiting::EVERY);
        let wake = if wish.trust.is_some() { wake.min(Instant::now() + LOOK_AGAIN) } else { wake };
        let wake = wish.deadline.map_or(wake, |deadline| wake.min(deadline));
        tokio::select! {
            event = watch.next() => roll.take(event?, waiting.as_mut()),
            () = tokio::time::sleep_until(wake) => {}
        }
        // Looking once takes as long as an answer takes, which the request's time limit bounds.
        let over = wish.deadline.map_or(roll.synced, |deadline| Instant::now() >= deadline);
        if !roll.synced && !over {
            continue;
        }
        roll.ask_for_trust(cluster).await;
        let planes = roll.judge(watch.now());
        roll.tell(&planes, waiting.as_mut());
        let met = planes.iter().filter(|(_, met, _)| *met).count();
        let exit = if met == planes.len() || (wish.any && met > 0) {
            Exit::Done
        } else if roll.synced && planes.iter().any(|(_, met, state)| !met && state.is_none() && !bears_absence) {
            Exit::NotFound
        } else if over {
            Exit::TimedOut
        } else {
            continue;
        };
        drop(waiting);
        roll.conclude(exit, &planes, cluster, term).await;
        return Ok(Outcome { exit, planes });
    }
}

fn title(names: &[String]) -> String {
    match names {
        [name] => visible(name).into_owned(),
        names => format!("{} planes", names.len()),
    }
}

/// The hint on the first plane that isn't there and whose name is like that of another.
async fn meant(planes: &[(String, bool, Option<State>)], cluster: &Cluster) -> String {
    let known = cluster.names().await;
    for (name, _, _) in planes.iter().filter(|(_, _, state)| state.is_none()) {
        if let Some(question) = did_you_mean(&closest(name, known.iter().map(String::as_str))) {
            return format!("\n\n{} {question}", paint::good("hint:"));
        }
    }
    String::new()
}

/// The planes that are waited for.
struct Roll<'w> {
    wish: &'w Wish<'w>,
    planes: BTreeMap<String, Plane>,
    /// The object that had each name first: another one of the same name means that it was deleted.
    first: BTreeMap<String, Option<String>>,
    told: BTreeMap<String, Option<State>>,
    /// Why the planes that don't trust the certificate don't.
    distrust: BTreeMap<String, String>,
    synced: bool,
}

impl<'w> Roll<'w> {
    fn new(wish: &'w Wish<'w>) -> Self {
        Self {
            wish,
            planes: BTreeMap::new(),
            first: BTreeMap::new(),
            told: BTreeMap::new(),
            distrust: BTreeMap::new(),
            synced: false,
        }
    }

    async fn ask_for_trust(&mut self, cluster: &Cluster) {
        let Some(trust) = &self.wish.trust else {
            return;
        };
        self.distrust.clear();
        for (name, plane) in &self.planes {
            if let Err(why) = trust.verdict(cluster, plane).await {
                self.distrust.insert(name.clone(), why);
            }
        }
    }

    fn wanted(&self, name: &str) -> bool {
        self.wish.names.iter().any(|wanted| wanted == name)
    }

    fn take(&mut self, event: Event, waiting: Option<&mut Waiting>) {
        match event {
            Event::Synced(planes) => {
                let named = planes.into_iter().map(|(key, plane)| (key.name, plane));
                self.planes = named.filter(|(name, _)| self.wanted(name)).collect();
                self.synced = true;
            }
            Event::Applied(plane) if self.wanted(plane.name()) => {
                drop(self.planes.insert(plane.name().to_owned(), *plane))
            }
            Event::Deleted(plane) => drop(self.planes.remove(plane.name())),
            Event::Applied(_) => {}
            Event::Lost(error) => {
                if let Some(waiting) = waiting {
                    waiting.tell(&format!("lost the API server, still trying: {error}"));
                }
            }
            Event::Resumed => {
                if let Some(waiting) = waiting {
                    waiting.tell("the API server answers again");
                }
            }
        }
        for (name, plane) in &self.planes {
            self.first.entry(name.clone()).or_insert_with(|| plane.metadata.uid.clone());
        }
    }

    fn wake(&self, now: jiff::Timestamp) -> Instant {
        let change = self.planes.values().filter_map(|plane| plane.next_change(now)).min();
        let nap =
            change.and_then(|change| Duration::try_from(change.duration_since(now)).ok()).unwrap_or(Waiting::EVERY);
        Instant::now() + nap + Duration::from_millis(1)
    }

    fn judge(&self, now: jiff::Timestamp) -> Vec<(String, bool, Option<State>)> {
        let judge = |name: &String| {
            let plane = self.planes.get(name);
            let state = plane.map(|plane| plane.state(now));
            let replaced =
                plane.is_some_and(|plane| self.first.get(name).is_some_and(|first| *first != plane.metadata.uid));
            let trusted = plane.is_some() && !self.distrust.contains_key(name);
            let holds = |goal: &Goal| match goal {
                Goal::Deleted => replaced || goal.holds(state),
                Goal::Trusted => trusted,
                goal => goal.holds(state),
            };
            let met = self.synced && self.wish.goals.iter().all(holds);
            (name.clone(), met, state)
        };
        self.wish.names.iter().map(judge).collect()
    }

    /// Tells each change of a state, once.
    fn tell(&mut self, planes: &[(String, bool, Option<State>)], waiting: Option<&mut Waiting>) {
        let Some(waiting) = waiting else {
            return;
        };
        for (name, _, state) in planes {
            if self.told.insert(name.clone(), *state) != Some(*state) {
                waiting.tell(&format!("{}: {}", visible(name), word(*state)));
            }
        }
        let open = planes.iter().filter(|(_, met, _)| !met).count();
        waiting.remind(&format!("still waiting for {open} of {}", planes.len()));
    }

    /// The last words: what is missing, and whose connection it is.
    async fn conclude(&self, exit: Exit, planes: &[(String, bool, Option<State>)], cluster: &Cluster, term: &Term) {
        if exit != Exit::Done {
            let why = match exit {
                Exit::TimedOut if !self.synced => "the time ran out before the API server told of any plane",
                Exit::TimedOut => "the time ran out",
                _ => "not all planes are there",
            };
            let line = |(name, _, state): &(String, bool, Option<State>)| {
                let why = self.distrust.get(name).map(|why| format!(", not trusted: {}", visible(why)));
                format!("  {}: {}{}", visible(name), word(*state), why.unwrap_or_default())
            };
            let states: Vec<_> = planes.iter().map(line).collect();
            let meant = if exit == Exit::NotFound { meant(planes, cluster).await } else { String::new() };
            term.error(&format!("{} {why}\n{}{meant}", paint::bad("error:"), states.join("\n")));
            return;
        }
        if !self.wish.goals.contains(&Goal::State(State::Connected)) {
            return;
        }
        // Only a remark: what can't be listed is not worth an error.
        let all = cluster.planes::<Plane>(None).await.unwrap_or_default();
        for plane in self.planes.values() {
            let others: Vec<_> = all
                .iter()
                .filter(|other| plane.shares_plane_id_with(other))
                .map(|other| visible(other.name()))
                .collect();
            if !others.is_empty() {
                term.note(&format!(
                    "connected is planeID {}, which {} shares with {}: an agent may be authorized for one of them only",
                    visible(plane.plane_id()),
                    visible(plane.name()),
                    others.join(", ")
                ));
            }
        }
    }
}
