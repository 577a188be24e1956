//! The only writer: the two streams, their colour and width, prompts, progress, redraw, and the exit codes.
//!
//! Text is rendered in colour by its author; each stream here keeps or strips the colour for itself.
//! What comes from a file or a cluster goes through [`crate::text::visible`] before it is rendered, never after.

use std::borrow::Cow;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{ArgAction, Args, ValueEnum};

use crate::paint;
use crate::text::visible;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or the answer is yes.
    Done,
    /// 1: the answer is no.
    No,
    /// 2: it could not be done, or isn't known.
    Failed,
    /// 3: the named plane does not exist.
    NotFound,
    /// 124: the time ran out.
    TimedOut,
    /// 130: interrupted by Ctrl-C.
    Interrupted,
    /// 143: asked to end by SIGTERM.
    Ended,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Failed => 2,
            Self::NotFound => 3,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Ended => 143,
        }
    }

    /// The one that counts of two outcomes: the first of 2, 3, 1, 0.
    pub fn and(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Failed => 0,
            Self::NotFound => 1,
            Self::No => 2,
            Self::Done => 3,
            Self::TimedOut | Self::Interrupted | Self::Ended => -1,
        };
        if rank(other) < rank(self) { other } else { self }
    }
}

/// The reader of standard output went away. Not an error: the command ends in silence.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct ClosedPipe;

/// A prompt was ended by Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Why a question could not be put, or was answered with no.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error("confirmation is needed to {action}, but there is no terminal to prompt on")]
    NotAsked { action: String },
    #[error("{what} is missing, but there is no terminal to prompt on")]
    Missing { what: String, flag: String },
    #[error("nothing was changed, because standard input ended without an answer")]
    Ended,
    #[error("nothing was changed, because you did not confirm")]
    Refused,
}

impl PromptError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAsked { .. } => Some("add --yes".into()),
            Self::Missing { flag, .. } => Some(format!("add {flag}")),
            Self::Refused | Self::Ended => None,
        }
    }
}

/// When to write in colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug)]
struct Stream {
    terminal: bool,
    color: bool,
}

impl Stream {
    fn new(terminal: bool, choice: ColorChoice) -> Self {
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if forced() => true,
            ColorChoice::Auto => terminal && !dumb(),
        };
        Self { terminal, color }
    }

    fn paint(self, text: &str) -> Cow<'_, str> {
        if self.color { Cow::Borrowed(text) } else { console::strip_ansi_codes(text) }
    }
}

fn set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn forced() -> bool {
    std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0")
}

fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// What the user wants of the streams; from the global flags.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Options {
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    pub color: ColorChoice,

    /// Print only results and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,

    /// Print the requests to servers, more when repeated; `doctor -v` also lists all checks
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,

    /// Never prompt
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_input: bool,
}

/// Both streams and the terminal behind them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Term {
    out: Stream,
    err: Stream,
    options: Options,
    /// How many lines of a redrawn block stand on standard output, so that a message can be put above it.
    drawn: Arc<AtomicUsize>,
    /// What an interruption leaves unfinished, and how to continue.
    unfinished: Arc<Mutex<Option<String>>>,
}

impl Term {
    pub fn new(options: Options) -> Self {
        colored::control::set_override(true);
        Self {
            out: Stream::new(io::stdout().is_terminal(), options.color),
            err: Stream::new(io::stderr().is_terminal(), options.color),
            options,
            drawn: Arc::default(),
            unfinished: Arc::default(),
        }
    }

    /// Writes a result to standard output.
    ///
    /// # Errors
    /// [`ClosedPipe`] when its reader went away, otherwise what the operating system says (a full disk).
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        self.bytes(self.out.paint(text).as_bytes())
    }

    /// Like [`Term::print`], with a line end.
    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// Writes bytes to standard output as they are: a shell's script, or what moves on a terminal.
    pub fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(closed)
    }

    /// Whether only results and errors are written.
    pub fn is_quiet(&self) -> bool {
        self.options.quiet
    }

    /// Reports progress on standard error, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            self.error(text);
        }
    }

    /// Warns on standard error, `--quiet` or not.
    pub fn warn(&self, text: &str) {
        self.error(&format!("{} {text}", paint::warning("warning:")));
    }

    /// Reports what is asked of which server, with `-v`.
    pub fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.verbose > 0 {
            self.error(&text());
        }
    }

    /// Sets what is written where the process is interrupted from now on.
    pub fn on_interrupt(&self, text: Option<String>) {
        *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Writes what an interruption leaves unfinished.
    pub fn interrupted(&self) {
        let text = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(text) = text {
            self.note(&format!("\n{text}"));
        }
    }

    /// Whether more than usual is to be written (`-v`).
    pub fn is_verbose(&self) -> bool {
        self.options.verbose > 0
    }

    /// Writes a line to standard error. Nobody can be informed when that fails.
    pub fn error(&self, text: &str) {
        let above = if self.err.terminal { self.drawn.swap(0, Ordering::Relaxed) } else { 0 };
        let clear = if above > 0 { CLEAR_BELOW } else { "" };
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "{}{clear}{}", up(above), self.err.paint(text));
    }

    /// Whether standard output is a terminal, where a table may be redrawn.
    pub fn redraws(&self) -> bool {
        self.out.terminal && !dumb()
    }

    /// Whether standard output is a terminal at all.
    pub fn shows_output(&self) -> bool {
        self.out.terminal
    }

    /// Puts right what an interrupted prompt leaves behind: it hides the cursor, and the cursor is behind it.
    pub fn recover(&self) {
        if self.err.terminal {
            let _ = writeln!(io::stderr(), "\u{1b}[?25h");
        }
    }

    /// Columns and rows of the terminal behind standard output.
    pub fn size(&self) -> Option<(usize, usize)> {
        if !self.out.terminal {
            return None;
        }
        console::Term::stdout().size_checked().map(|(rows, columns)| (usize::from(columns), usize::from(rows)))
    }

    /// Replaces what the last call drew on the terminal, line by line: nothing flickers, and nothing is scrolled away.
    pub fn redraw(&self, text: &str) -> anyhow::Result<()> {
        let lines = text.lines().count();
        let above = self.drawn.swap(lines, Ordering::Relaxed);
        let rest = if lines < above { CLEAR_BELOW } else { "" };
        // Without colour these sequences are still needed, so they are put in behind the paint.
        let painted = self.out.paint(text);
        let text: String = painted.lines().map(|line| format!("{line}\u{1b}[K\n")).collect();
        self.bytes(format!("{}{text}{rest}", up(above)).as_bytes())
    }

    /// Where the output of other programs goes: it is progress, and no result.
    pub fn for_others() -> std::process::Stdio {
        io::stderr().into()
    }

    /// Whether questions may be put: both standard input and standard error are a terminal, and no `--no-input`.
    pub fn asks(&self) -> bool {
        !self.options.no_input && io::stdin().is_terminal() && self.err.terminal
    }

    /// Asks for a yes to an action such as `delete plane a`, unless it was given by `--yes`.
    ///
    /// # Errors
    /// [`PromptError`] when there is no terminal or the answer is no.
    pub fn confirm(&self, action: &str, yes: bool) -> anyhow::Result<()> {
        if yes {
            return Ok(());
        }
        if !self.asks() {
            return Err(PromptError::NotAsked { action: action.to_owned() }.into());
        }
        if self.agrees(&format!("Do you want to {action}?"))? { Ok(()) } else { Err(PromptError::Refused.into()) }
    }

    /// Asks a yes/no question until the answer is one of both; Enter alone and the end of input mean no.
    fn agrees(&self, question: &str) -> anyhow::Result<bool> {
        loop {
            match self.answer(&format!("{question} [y/N] "))?.as_deref().map(yes_or_no) {
                None => return Ok(false),
                Some(Some(answer)) => return Ok(answer),
                Some(None) => self.error("answer y or n"),
            }
        }
    }

    /// Asks for a text that `check` accepts; Enter alone takes the default.
    ///
    /// # Errors
    /// [`PromptError::Ended`] when the input ends without an answer.
    pub fn ask(
        &self,
        prompt: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<String> {
        let proposed = default.map(|default| format!(" [{}]", visible(default))).unwrap_or_default();
        loop {
            let Some(line) = self.answer(&format!("{prompt}{proposed}: "))? else {
                return Err(PromptError::Ended.into());
            };
            let text = match (line.trim(), default) {
                ("", Some(default)) => default,
                (text, _) => text,
            };
            match check(text) {
                Ok(()) => return Ok(text.to_owned()),
                Err(why) => self.error(&format!("{} {}", paint::bad("error:"), visible(&why))),
            }
        }
    }

    /// Reads one line from the terminal; none when the input ends (Ctrl-D). The terminal itself edits the line, so that
    /// nothing counts before Enter.
    fn answer(&self, prompt: &str) -> anyhow::Result<Option<String>> {
        discard_typed();
        // Standard error is not locked while it waits: a signal ends the program from another thread, which writes there.
        io::stderr().write_all(self.err.paint(prompt).as_bytes()).context("could not prompt")?;
        let mut line = Vec::new();
        io::stdin().lock().read_until(b'\n', &mut line).context("could not read the answer")?;
        if line.last() != Some(&b'\n') {
            // The cursor is still in the prompt's line.
            let _ = writeln!(io::stderr());
        }
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Asks for one of several; returns its index.
    pub fn choose(&self, prompt: &str, items: &[&str]) -> anyhow::Result<usize> {
        discard_typed();
        dialoguer::Select::new().with_prompt(prompt).items(items).default(0).interact().map_err(interrupted)
    }

    /// Shows how many of `total` are done, if it takes long.
    pub fn progress(&self, total: usize) -> Progress {
        let bar = (self.err.terminal && !self.options.quiet).then(|| {
            let hidden = indicatif::ProgressDrawTarget::hidden();
            indicatif::ProgressBar::with_draw_target(Some(total as u64), hidden)
        });
        Progress { bar, started: Instant::now() }
    }

    /// Shows that something takes time: a spinner on a terminal, elsewhere a line now and every 30 s.
    pub fn wait(&self, text: &str) -> Waiting {
        let spinner = (self.err.terminal && !self.options.quiet).then(|| {
            let spinner = indicatif::ProgressBar::new_spinner();
            spinner.set_message(text.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            self.note(text);
        }
        Waiting { term: self.clone(), spinner, reported: Instant::now(), started: Instant::now() }
    }
}

/// How far something is: a bar on a terminal once it takes longer than a second, elsewhere nothing.
pub struct Progress {
    bar: Option<indicatif::ProgressBar>,
    started: Instant,
}

impl Progress {
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Reports that one more of them is done.
    pub fn advance(&self) {
        let Some(bar) = &self.bar else {
            return;
        };
        bar.inc(1);
        if bar.is_hidden() && self.started.elapsed() > Self::PATIENCE {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Writes something else while the bar is out of the way.
    pub fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A wait that is being shown; ends when dropped.
pub struct Waiting {
    term: Term,
    spinner: Option<indicatif::ProgressBar>,
    reported: Instant,
    started: Instant,
}

impl Waiting {
    /// How often a line is written where there is no spinner.
    pub const EVERY: Duration = Duration::from_secs(30);

    /// Reports a change.
    pub fn show(&mut self, text: &str) {
        self.reported = Instant::now();
        match &self.spinner {
            Some(spinner) => spinner.set_message(text.to_owned()),
            None => self.term.note(text),
        }
    }

    /// Shows what is waited for now; a line is written only by [`Waiting::remind`].
    pub fn change(&mut self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text.to_owned());
        }
    }

    /// Says that it still waits, when nothing was said for 30 s.
    pub fn remind(&mut self, text: &str) {
        if self.spinner.is_none() && self.reported.elapsed() >= Self::EVERY {
            self.reported = Instant::now();
            self.term.note(&format!("{text} ({}s)", self.started.elapsed().as_secs()));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Completes when nobody reads standard output any more; never where that can't be seen (a file, a terminal).
pub async fn reader_gone() {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, poll};
        let (gone, reported) = tokio::sync::oneshot::channel();
        // A thread of its own, that ends with the process: nothing asks it to stop waiting.
        std::thread::spawn(move || {
            let out = io::stdout();
            let mut fds = [PollFd::new(&out, PollFlags::empty())];
            while let Ok(_) | Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {
                if fds[0].revents().contains(PollFlags::ERR) {
                    return gone.send(()).ok();
                }
            }
            None
        });
        if reported.await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// The result of writing to standard output by other means than [`Term`], once all is out.
///
/// # Errors
/// Those of [`Term::print`].
pub fn printed(result: io::Result<()>) -> anyhow::Result<()> {
    result.and_then(|()| io::stdout().flush()).map_err(closed)
}

fn closed(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ClosedPipe.into(),
        _ => anyhow::Error::new(error).context("could not write to standard output"),
    }
}

/// Discards what was typed before a prompt appears: it was meant for something else.
fn discard_typed() {
    #[cfg(unix)]
    if io::stdin().is_terminal() {
        let _ = rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush);
    }
}

/// Reads an answer to a yes/no question; none when it is neither. The default is no.
fn yes_or_no(answer: &str) -> Option<bool> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "" | "n" | "no" => Some(false),
        _ => None,
    }
}

fn interrupted(error: dialoguer::Error) -> anyhow::Error {
    let dialoguer::Error::IO(error) = error;
    match error.kind() {
        io::ErrorKind::Interrupted => Interrupted.into(),
        _ => anyhow::Error::new(error).context("could not ask"),
    }
}

/// Clears from the cursor to the end of the screen.
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Moves the cursor up over `lines` lines.
fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\u{1b}[{lines}A\r") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_2_3_1_counts() {
        assert_eq!(Exit::No.and(Exit::NotFound), Exit::NotFound);
        assert_eq!(Exit::Failed.and(Exit::NotFound), Exit::Failed);
        assert_eq!(Exit::Done.and(Exit::No), Exit::No);
        assert_eq!(Exit::Done.and(Exit::Done), Exit::Done);
    }

    #[test]
    fn only_yes_is_yes() {
        for (answer, meaning) in [("y", true), ("YES ", true), ("", false), ("n", false), ("No", false)] {
            assert_eq!(yes_or_no(answer), Some(meaning), "{answer:?}");
        }
        for answer in ["yy", "j", "\u{1b}[A", "yes please"] {
            assert_eq!(yes_or_no(answer), None, "{answer:?}");
        }
    }
}
