//! `choreoctl watch`: planes as they change.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use tokio::time::Instant;

use super::tell_missing;
use crate::args::{ChoiceArgs, Session};
use crate::cluster::{Error, Event, Watch};
use crate::complete;
use crate::manifest::json_line;
use crate::plane::{Plane, PlaneName, Span, State, StateFilter};
use crate::render::planes::{Row, SortBy, sort, summary, table};
use crate::render::watch::{Change, Kind, json, line};
use crate::term::{Exit, Term, reader_gone};

/// How many changes stand under the table.
const LATEST: usize = 8;
/// How often the ages on a terminal are brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// Watch build planes change
///
/// On a terminal a table that redraws in place, elsewhere a line for each change. States that change because time
/// passes are changes, too. It outlives restarts of the API server and misses no final state.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl watch
  choreoctl watch shared-builder -o lines
  choreoctl watch --state '!Connected' -o json | jq .")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// States to tell of, joined by commas; with a ! before it, one to leave out
    #[arg(long, value_name = "STATES", add = ArgValueCompleter::new(complete::states))]
    state: Option<StateFilter>,

    /// Stop after this long
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,

    /// How to print it; a table on a terminal and lines elsewhere, unless given
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Lines,
    Json,
}

impl Args {
    /// For `get --watch`.
    pub fn new(choice: ChoiceArgs, state: Option<StateFilter>) -> Self {
        Self { choice, state, timeout: None, output: None }
    }
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let cluster = session.connect().await?;
    let only = if let [name] = args.choice.names.as_slice() { Some(name.to_string()) } else { None };
    let mut watch = Watch::start(&cluster, args.choice.selector.clone(), only);
    let format = args.output.unwrap_or(if session.term.redraws() { Format::Table } else { Format::Lines });
    let mut view = View {
        term: session.term.clone(),
        format,
        latest: VecDeque::new(),
        title: cluster.target().title(),
        lost: false,
    };
    let mut board = Board {
        names: args.choice.names,
        filter: args.state.unwrap_or_default(),
        planes: BTreeMap::new(),
        synced: false,
        begun: false,
    };
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout.duration());
    let gone = reader_gone();
    tokio::pin!(gone);
    loop {
        let wake = board.wake(watch.now(), view.ticks(), deadline);
        let changes = tokio::select! {
            event = watch.next() => board.take(event?, watch.now()),
            () = tokio::time::sleep_until(wake) => board.pass(watch.now()),
            () = &mut gone => return Ok(Exit::Done),
        };
        view.show(&changes, &board, watch.now())?;
        if let Some(missing) = board.missing() {
            let command = cluster.target().command("choreoctl get");
            let error = Error::NotFound { what: format!("plane {missing}"), similar: Vec::new(), command };
            let error = error.with_similar(missing.as_str(), &cluster.names().await);
            return Ok(tell_missing(&[error.into()], &session.term));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Exit::TimedOut);
        }
    }
}

/// The planes as last told, each with its state then.
struct Board {
    names: Vec<PlaneName>,
    filter: StateFilter,
    planes: BTreeMap<String, (Plane, State)>,
    synced: bool,
    /// Whether the first list was looked at.
    begun: bool,
}

impl Board {
    /// When to look again although nothing was heard.
    fn wake(&self, now: Timestamp, ticks: bool, deadline: Option<Instant>) -> Instant {
        let changes = self.planes.values().filter_map(|(plane, _)| plane.next_change(now)).min();
        // The longest nap bounds what a clock that jumps can do.
        let nap = changes.map_or(Duration::from_secs(60), |change| {
            Duration::try_from(change.duration_since(now)).unwrap_or_default() + Duration::from_millis(1)
        });
        let nap = nap.min(if ticks { TICK } else { Duration::from_secs(60) });
        let wake = Instant::now() + nap;
        deadline.map_or(wake, |deadline| wake.min(deadline))
    }

    fn wanted(&self, plane: &Plane) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name.as_str() == plane.name())
    }

    /// A plane that was asked for by name and isn't there when the watch begins.
    fn missing(&mut self) -> Option<PlaneName> {
        if !self.synced || std::mem::replace(&mut self.begun, true) {
            return None;
        }
        self.names.iter().find(|name| !self.planes.contains_key(name.as_str())).cloned()
    }

    /// The changes that an event of the server makes.
    fn take(&mut self, event: Event, time: Timestamp) -> Vec<Change> {
        let about_server = |kind, message| vec![Change { time, kind, plane: None, from: None, message }];
        match event {
            Event::Applied(plane) => self.put(*plane, time),
            Event::Deleted(plane) => self.remove(plane.name(), time).into_iter().collect(),
            Event::Lost(error) => about_server(Kind::Lost, Some(error.to_string())),
            Event::Resumed => about_server(Kind::Resumed, None),
            Event::Synced(planes) => {
                let gone: Vec<_> = self.planes.keys().filter(|name| !planes.contains_key(*name)).cloned().collect();
                let mut changes: Vec<_> = gone.iter().filter_map(|name| self.remove(name, time)).collect();
                changes.extend(planes.into_values().flat_map(|plane| self.put(plane, time)));
                if !self.synced {
                    self.synced = true;
                    changes.extend(about_server(Kind::Synced, None));
                }
                changes
            }
        }
    }

    fn put(&mut self, plane: Plane, time: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.wanted(&plane) {
            return changes;
        }
        // One of the same name that was made anew while nobody looked.
        if self.planes.get(plane.name()).is_some_and(|(old, _)| old.metadata.uid != plane.metadata.uid) {
            changes.extend(self.remove(plane.name(), time));
        }
        let to = plane.state(time);
        let before = self.planes.insert(plane.name().to_owned(), (plane.clone(), to));
        let (kind, from) = match before {
            Some((old, from)) if old.metadata.resource_version == plane.metadata.resource_version && from == to => {
                return changes;
            }
            Some((_, from)) => (Kind::Changed, Some(from)),
            None if self.synced => (Kind::Added, None),
            None => (Kind::Present, None),
        };
        if self.filter.keeps(to) || from.is_some_and(|from| self.filter.keeps(from)) {
            changes.push(Change { time, kind, plane: Some(plane), from, message: None });
        }
        changes
    }

    fn remove(&mut self, name: &str, time: Timestamp) -> Option<Change> {
        let (plane, from) = self.planes.remove(name)?;
        self.filter.keeps(from).then_some(Change {
            time,
            kind: Kind::Deleted,
            plane: Some(plane),
            from: Some(from),
            message: None,
        })
    }

    /// The changes that time alone makes.
    fn pass(&mut self, time: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for (plane, state) in self.planes.values_mut() {
            let to = plane.state(time);
            let from = std::mem::replace(state, to);
            if from != to && (self.filter.keeps(from) || self.filter.keeps(to)) {
                changes.push(Change {
                    time,
                    kind: Kind::Changed,
                    plane: Some(plane.clone()),
                    from: Some(from),
                    message: None,
                });
            }
        }
        changes
    }
}

/// How it is shown.
struct View {
    term: Term,
    format: Format,
    latest: VecDeque<String>,
    title: String,
    lost: bool,
}

impl View {
    fn ticks(&self) -> bool {
        self.format == Format::Table && self.term.redraws()
    }

    fn show(&mut self, changes: &[Change], board: &Board, now: Timestamp) -> anyhow::Result<()> {
        for change in changes {
            match (self.format, change.kind) {
                (Format::Json, _) => self.term.line(&json_line(&json(change))?)?,
                (Format::Lines, Kind::Lost | Kind::Resumed) => {
                    line(change).iter().for_each(|line| self.term.note(line))
                }
                (Format::Lines, _) => line(change).iter().try_for_each(|line| self.term.line(line))?,
                (Format::Table, kind) => {
                    self.lost = (self.lost || kind == Kind::Lost) && kind != Kind::Resumed;
                    if !matches!(kind, Kind::Present | Kind::Synced) {
                        self.latest.extend(line(change));
                    }
                }
            }
        }
        while self.latest.len() > LATEST {
            self.latest.pop_front();
        }
        if self.format != Format::Table || !board.synced {
            return Ok(());
        }
        let text = self.table(board, now);
        match (self.term.redraws(), changes.is_empty()) {
            (true, _) => self.term.redraw(&text),
            (false, true) => Ok(()),
            (false, false) => self.term.print(&format!("{text}\n")),
        }
    }

    fn table(&self, board: &Board, now: Timestamp) -> String {
        let mut planes: Vec<_> = board
            .planes
            .values()
            .filter(|(_, state)| board.filter.keeps(*state))
            .map(|(plane, _)| Row::new(plane.clone(), None))
            .collect();
        let summary = summary(planes.iter().map(|plane| plane.state(now)));
        let (columns, lines) = self.term.size().unwrap_or((usize::MAX, usize::MAX));
        // The title, the header, the summary, a line on what is hidden, and the line that the cursor stands in.
        let room = lines.saturating_sub(5).max(1);
        let hidden = planes.len().saturating_sub(room);
        // Where not all fit, those that need a look do.
        sort(&mut planes, if hidden > 0 { SortBy::State } else { SortBy::Name }, now);
        planes.truncate(room);
        let latest = self.latest.len().saturating_sub(room - planes.len());
        let server = if self.lost { ", not answering: what is shown is old" } else { "" };
        let mut text = format!("{}{server}, {}\n", self.title, now.strftime("%H:%M:%SZ"));
        text.push_str(&table(&planes, true, now));
        if hidden > 0 {
            text.push_str(&format!("and {hidden} more\n"));
        }
        text.push_str(&format!("{summary}\n"));
        for line in self.latest.iter().skip(latest) {
            text.push_str(&format!("  {line}\n"));
        }
        fit(&text, columns, lines)
    }
}

/// Cuts the text at the terminal's width and height: a line that wraps or scrolls would break the redraw.
fn fit(text: &str, columns: usize, lines: usize) -> String {
    let lines = text.lines().take(lines.saturating_sub(1).max(1));
    lines.map(|line| console::truncate_str(line, columns, "…").into_owned() + "\n").collect()
}
