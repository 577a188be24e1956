//! Planes as they change: what changed, and how it is shown.

use std::collections::VecDeque;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use tokio::time::Instant;

use super::error::tell_missing;
use super::watched::Watched;
use crate::args::{ChoiceArgs, Session};
use crate::cluster::Error;
use crate::manifest::json_line;
use crate::plane::{Span, StateFilter};
use crate::render::Identity;
use crate::render::planes::{Row, SortBy, first_by_state, sort, summary, table};
use crate::render::watch::{Change, Kind, json, line};
use crate::term::{Exit, Term, reader_gone};

/// How many changes stand under the table.
const LATEST: usize = 8;
/// How often the ages on a terminal are brought up to date.
const TICK: Duration = Duration::from_secs(1);
/// Shortest time between two redraws: more are not seen, and each costs as much as there are planes.
const FRAME: Duration = Duration::from_millis(100);
/// How often all states are computed again although nothing is due: a clock may jump.
const LONGEST_NAP: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Lines,
    Json,
}

/// Shows the chosen planes and each change until the time is over or nobody reads on. Without a format it is a table on a
/// terminal, and lines elsewhere.
pub async fn watch(
    choice: ChoiceArgs,
    filter: StateFilter,
    timeout: Option<Span>,
    format: Option<Format>,
    session: &Session,
) -> anyhow::Result<Exit> {
    let lookup = choice.connect(session).await?;
    let mut watch = lookup.watch(choice.selector.as_ref());
    if choice.names()?.is_empty() {
        watch = watch.of_what_may_be_listed();
    }
    let mut exit = Exit::Done;
    let format = format.unwrap_or(if session.term.redraws() { Format::Table } else { Format::Lines });
    let mut view = View {
        term: session.term.clone(),
        format,
        latest: VecDeque::new(),
        title: lookup.cluster.target().title(),
        everywhere: choice.is_everywhere(),
        with_kind: lookup.has_kinds(),
        lost: false,
        drawn: Instant::now(),
        outdated: false,
    };
    let mut watched = Watched::new(lookup.clone(), filter);
    let deadline = timeout.map(|timeout| Instant::now() + timeout.duration());
    let gone = reader_gone();
    tokio::pin!(gone);
    loop {
        let wake = Instant::now() + watched.nap(watch.now()).min(LONGEST_NAP);
        let wake = deadline.map_or(wake, |deadline| wake.min(deadline));
        let changes = tokio::select! {
            event = watch.next() => watched.take(event?, watch.now()),
            () = tokio::time::sleep_until(wake) => watched.pass(watch.now()),
            () = tokio::time::sleep_until(view.next_redraw()), if watched.synced() && view.redraws() => watched.pass_due(watch.now()),
            () = &mut gone => return Ok(exit),
        };
        for unlisted in watch.take_unlisted() {
            exit = tell_missing(&[Error::from(unlisted).into()], &session.term);
        }
        view.show(&changes, &watched, watch.now())?;
        if let Some(missing) = watched.missing() {
            return Ok(tell_missing(&[lookup.missing(&missing).await.into()], &session.term));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            if view.outdated {
                view.redraw(&watched, watch.now())?;
            }
            return Ok(Exit::TimedOut);
        }
    }
}

/// How it is shown.
struct View {
    term: Term,
    format: Format,
    latest: VecDeque<String>,
    title: String,
    everywhere: bool,
    /// Whether planes of several kinds are watched.
    with_kind: bool,
    lost: bool,
    /// When the table was last drawn on the terminal, and whether planes changed since then.
    drawn: Instant,
    outdated: bool,
}

impl View {
    fn show(&mut self, changes: &[Change], watched: &Watched, now: Timestamp) -> anyhow::Result<()> {
        for change in changes {
            match (self.format, change.kind) {
                (Format::Json, _) => self.term.line(&json_line(&json(change))?)?,
                (Format::Lines, Kind::Lost | Kind::Resumed) => {
                    line(change, self.with_kind).iter().for_each(|line| self.term.note(line))
                }
                (Format::Lines, _) => line(change, self.with_kind).iter().try_for_each(|line| self.term.line(line))?,
                (Format::Table, kind) => {
                    self.lost = (self.lost || kind == Kind::Lost) && kind != Kind::Resumed;
                    if !matches!(kind, Kind::Present | Kind::Synced) {
                        self.latest.extend(line(change, self.with_kind));
                    }
                }
            }
        }
        while self.latest.len() > LATEST {
            self.latest.pop_front();
        }
        if self.format != Format::Table || !watched.synced() {
            return Ok(());
        }
        let is_first = changes.iter().any(|change| change.kind == Kind::Synced);
        match (self.redraws(), changes.is_empty()) {
            (true, false) if !is_first && self.drawn.elapsed() < FRAME => {
                self.outdated = true;
                Ok(())
            }
            (true, _) => self.redraw(watched, now),
            (false, true) => Ok(()),
            (false, false) => self.term.print(&format!("{}\n", self.table(watched, now))),
        }
    }

    /// Whether there is a table on a terminal.
    fn redraws(&self) -> bool {
        self.format == Format::Table && self.term.redraws()
    }

    /// Returns when the table is drawn again without a further change.
    fn next_redraw(&self) -> Instant {
        self.drawn + if self.outdated { FRAME } else { TICK }
    }

    fn redraw(&mut self, watched: &Watched, now: Timestamp) -> anyhow::Result<()> {
        (self.drawn, self.outdated) = (Instant::now(), false);
        self.term.redraw(&self.table(watched, now))
    }

    fn table(&self, watched: &Watched, now: Timestamp) -> String {
        let planes: Vec<_> = watched.shown().collect();
        let summary = summary(planes.iter().map(|plane| plane.state(now)));
        let (columns, lines) = self.term.size().unwrap_or((usize::MAX, usize::MAX));
        // The title, the header, the summary, a line on what is hidden, and the line that the cursor is in.
        let room = lines.saturating_sub(5).max(1);
        let hidden = planes.len().saturating_sub(room);
        // Where not all fit, those that need a look do.
        let planes = if hidden > 0 { first_by_state(planes, room, now) } else { planes };
        let mut planes: Vec<_> = planes.into_iter().map(|plane| Row::new(plane.clone(), None)).collect();
        sort(&mut planes, if hidden > 0 { SortBy::STATE } else { SortBy::NAME }, now);
        let latest = self.latest.len().saturating_sub(room - planes.len());
        let server = if self.lost { ", not answering: the table is not up to date" } else { "" };
        let mut text = format!("{}{server}, {}\n", self.title, now.strftime("%H:%M:%SZ"));
        text.push_str(&table(&planes, true, Identity { kind: self.with_kind, namespace: self.everywhere }, now));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_has_no_room_for_is_cut() {
        assert_eq!(fit("abcdef\nb\nc\n", 4, 3), "abc…\nb\n");
        assert_eq!(fit("a\nb\n", usize::MAX, usize::MAX), "a\nb\n");
        assert_eq!(fit("a\nb\n", 80, 1), "a\n");
    }
}
