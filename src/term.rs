//! The only writer: the two streams, their colour and width, prompts, progress, redraw, and the exit codes.
//!
//! Text is rendered in colour by whoever makes it; each stream here keeps or strips the colour for itself.
//! What comes from a file or a cluster goes through [`visible`] before it is rendered, never after.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;

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
    #[error("confirmation is needed to {action}, and there is no terminal to prompt on")]
    NotAsked { action: String },
    #[error("{what} is missing, and there is no terminal to prompt on")]
    Missing { what: String, flag: String },
    #[error("the input ended without an answer: nothing was changed")]
    Ended,
    #[error("not confirmed: nothing was changed")]
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

/// How users call the program as a plugin of kubectl, which looks for `kubectl-choreoctl` on the PATH.
pub const PLUGIN: &str = "kubectl choreoctl";

/// Whether kubectl called the program as its plugin.
pub fn is_plugin() -> bool {
    static CALLED: LazyLock<bool> = LazyLock::new(|| {
        let name = std::env::args_os().next().map(PathBuf::from);
        name.as_deref().and_then(Path::file_stem).is_some_and(|name| name == "kubectl-choreoctl")
    });
    *CALLED
}

/// Returns a text whose command lines name the program as it was called.
pub fn program(text: &str) -> Cow<'_, str> {
    if is_plugin() { as_plugin(text).into() } else { text.into() }
}

fn as_plugin(text: &str) -> String {
    text.replace("choreoctl ", "kubectl choreoctl ").replace("kubectl kubectl choreoctl ", "kubectl choreoctl ")
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
        if self.color || !text.contains('\u{1b}') {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(anstream::adapter::strip_str(text).to_string())
        }
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub color: ColorChoice,
    pub quiet: bool,
    pub verbosity: u8,
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

    /// Tells of progress on standard error, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            self.error(text);
        }
    }

    /// Warns on standard error, `--quiet` or not.
    pub fn warn(&self, text: &str) {
        self.error(&format!("{} {text}", paint::warning("warning:")));
    }

    /// Tells what is asked of which server, with `-v`.
    pub fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.verbosity > 0 {
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
        self.options.verbosity > 0
    }

    /// Writes a line to standard error. Nobody can be told when that fails.
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

    /// Puts right what an interrupted prompt leaves behind: it hides the cursor, and the cursor stands behind it.
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
        Waiting { term: self.clone(), spinner, told: Instant::now(), started: Instant::now() }
    }
}

/// How far something is: a bar on a terminal once it takes longer than a second, elsewhere nothing.
pub struct Progress {
    bar: Option<indicatif::ProgressBar>,
    started: Instant,
}

impl Progress {
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Tells that one more of them is done.
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
    told: Instant,
    started: Instant,
}

impl Waiting {
    /// How often a line is written where there is no spinner.
    pub const EVERY: Duration = Duration::from_secs(30);

    /// Tells of a change.
    pub fn tell(&mut self, text: &str) {
        self.told = Instant::now();
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
        if self.spinner.is_none() && self.told.elapsed() >= Self::EVERY {
            self.told = Instant::now();
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
        let (gone, told) = tokio::sync::oneshot::channel();
        // A thread of its own, that ends with the process: nothing tells it to stop waiting.
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
        if told.await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
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

/// Whether a character can change how a terminal shows what stands around it: control and escape characters,
/// line and paragraph separators, and what reorders or hides text (Unicode TR36, bidirectional controls and tags).
pub fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The places of private keys, each to its end or the text's: in PEM (RFC 7468, 10 and 11, and their forerunners), and in
/// base64 or hexadecimal of PEM or of DER.
pub fn private_keys(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::<Range<usize>>::new();
    for (start, _) in text.match_indices("-----BEGIN ") {
        let label = &text[start + 11..text.floor_char_boundary(start + 60)];
        if found.last().is_some_and(|last| start < last.end)
            || !label.split("-----").next().unwrap_or(label).contains("PRIVATE KEY")
        {
            continue;
        }
        let body = start + 11;
        let end = text[body..].find("-----END ").map(|at| body + at + 9);
        let end = end.and_then(|end| Some(end + text[end..].find("-----")? + 5)).unwrap_or(text.len());
        found.push(start..end);
    }
    let pem = found.len();
    let mut at = 0;
    while let Some((word, next)) = next_word(text, at) {
        at = next;
        if let Some(start) = key_in(&text[word.clone()])
            && !found[..pem].iter().any(|key| key.contains(&word.start))
        {
            // The rest of it stands in the lines below, where it was wrapped.
            let mut end = word.end;
            while let Some((more, next)) = next_word(text, end)
                && text[end..more.start].chars().all(|c| c.is_whitespace() || c == '=')
                && more.len() >= 4
                && !text[more.end..].trim_start_matches('=').starts_with([':', ',', '.'])
            {
                (end, at) = (more.end, next);
            }
            found.push(word.start + start..end);
        }
    }
    found.extend(spelled_keys(text));
    found.sort_by_key(|key| key.start);
    found.dedup_by(|later, key| {
        let one = later.start < key.end;
        if one {
            key.end = key.end.max(later.end);
        }
        one
    });
    found
}

/// The next word of the letters that base64 has, in either alphabet, and where it ends.
fn next_word(text: &str, from: usize) -> Option<(Range<usize>, usize)> {
    let letter = |c: &u8| matches!(c, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'+' | b'/' | b'-' | b'_');
    let bytes = text.as_bytes();
    let start = from + bytes[from..].iter().position(letter)?;
    let end = bytes[start..].iter().position(|c| !letter(c)).map_or(text.len(), |end| start + end);
    Some((start..end, end))
}

/// The fewest characters by whose beginning a private key is told: 16 octets in base64.
const SHORTEST_KEY: usize = 22;

/// Where in a word a private key begins: at its beginning, or behind a prefix such as `key-` or `0x`.
fn key_in(word: &str) -> Option<usize> {
    let after = word.match_indices(['+', '/', '-', '_', 'x']).map(|(at, _)| at + 1);
    std::iter::once(0).chain(after).find(|at| word.len() - at >= SHORTEST_KEY && encodes_key(&word[*at..]))
}

/// Private keys in hexadecimal with a colon or a blank between the octets.
fn spelled_keys(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for run in text.as_bytes().split(|c| !(c.is_ascii_hexdigit() || matches!(c, b':' | b' '))) {
        if run.len() > 3 * 32 {
            let key = text[start..start + run.len()].trim_start_matches([':', ' ']);
            let digits: String = key.chars().filter(char::is_ascii_hexdigit).take(96).collect();
            if encodes_key(&digits) {
                let end = start + run.len();
                found.push(end - key.len()..end);
            }
        }
        start += run.len() + 1;
    }
    found
}

/// Whether a word begins as a private key in base64, of either alphabet, or in hexadecimal.
fn encodes_key(word: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    // The first octet is that of a sequence, a hyphen or an `o`.
    if !word.starts_with(['M', 'L', 'b', '3', '2', '6']) {
        return false;
    }
    let head = word.get(..96).unwrap_or(word).replace('-', "+").replace('_', "/");
    let base64 = STANDARD.decode(&head[..head.len() / 4 * 4]).is_ok_and(|octets| begins_key(&octets));
    let (pairs, _) = head.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let octets: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect();
    base64 || octets.is_some_and(|octets| begins_key(&octets))
}

/// Whether octets begin as a private key does: PKCS#8 (RFC 5208, also encrypted), PKCS#1, SEC1, OpenSSH's own, or PEM.
fn begins_key(octets: &[u8]) -> bool {
    /// The arc of PKCS#5 and PKCS#12, whose algorithms encrypt keys.
    const PKCS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01];
    let content = |octets: &'_ [u8]| -> Option<usize> {
        match octets {
            [0x30, length @ ..=0x7f, ..] if *length > 8 => Some(2),
            [0x30, long @ 0x81..0x84, ..] => Some(2 + usize::from(long & 0x7f)),
            _ => None,
        }
    };
    if octets.starts_with(b"openssh-key-v1") {
        return true;
    }
    if octets.starts_with(b"-----BEGIN ") {
        return octets.windows(11).any(|window| window == b"PRIVATE KEY");
    }
    let Some(rest) = content(octets).and_then(|at| octets.get(at..)) else {
        return false;
    };
    match rest {
        // Version 0 with an algorithm or a modulus, version 1 of either form, with a key or an algorithm.
        [2, 1, 0, 0x30 | 2, ..] | [2, 1, 1, 4 | 0x30, ..] => true,
        [0x30, ..] => {
            let inner = content(rest).and_then(|at| rest.get(at..)).unwrap_or_default();
            matches!(inner, [6, _, id @ ..] if id.starts_with(PKCS) && matches!(id.get(PKCS.len()), Some(5 | 12)))
        }
        _ => false,
    }
}

/// Untrusted text without the private keys that somebody put where none belongs.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let keys = if text.len() < SHORTEST_KEY && !text.contains("PRIVATE KEY") { Vec::new() } else { private_keys(text) };
    let mut shown = Cow::Borrowed(text);
    for key in keys.into_iter().rev() {
        shown.to_mut().replace_range(key, "(private key, not shown)");
    }
    shown
}

/// Untrusted text, on one line, with every hidden character spelled out and without private keys.
pub fn visible(text: &str) -> Cow<'_, str> {
    match redacted(text) {
        Cow::Borrowed(text) => spelled(text),
        Cow::Owned(text) => Cow::Owned(spelled(&text).into_owned()),
    }
}

fn spelled(text: &str) -> Cow<'_, str> {
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if hidden(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Untrusted text as one word of a shell command, so that a hint can be pasted.
pub fn shell_quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,~".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('~') {
        return Cow::Borrowed(text);
    }
    if !text.contains(hidden) {
        return Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")));
    }
    let mut quoted = String::from("$'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if hidden(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// The few colours, each with one meaning.
pub mod paint {
    use colored::Colorize as _;

    pub fn good(text: &str) -> String {
        text.green().to_string()
    }

    pub fn warning(text: &str) -> String {
        text.yellow().to_string()
    }

    pub fn bad(text: &str) -> String {
        text.red().to_string()
    }

    pub fn faint(text: &str) -> String {
        text.dimmed().to_string()
    }

    pub fn strong(text: &str) -> String {
        text.bold().to_string()
    }
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

    #[test]
    fn hidden_characters_are_spelled_out() {
        assert_eq!(visible("a\u{1b}[31mb\n\u{202e}c\u{9b}"), r"a\u{1b}[31mb\n\u{202e}c\u{9b}");
        assert!(matches!(visible("größe 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn private_keys_are_not_shown() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----";
        assert_eq!(visible(&format!("a {key}\n{key} b")), r"a (private key, not shown)\n(private key, not shown) b");
        assert_eq!(redacted("x -----BEGIN PRIVATE KEY-----\\nSECRET"), "x (private key, not shown)");
        let key = rcgen::KeyPair::generate().unwrap();
        let der = key.serialize_der();
        let hex: String = der.iter().map(|octet| format!("{octet:02x}")).collect();
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
        for encoded in [
            STANDARD.encode(&der),
            STANDARD_NO_PAD.encode(&der),
            URL_SAFE.encode(&der),
            hex,
            STANDARD.encode(key.serialize_pem()),
        ] {
            let shown = redacted(&format!("k: {encoded}\"")).into_owned();
            assert!(shown.starts_with("k: (private key, not shown)") && shown.len() < 32, "{shown}");
        }
        let wrapped: String = STANDARD
            .encode(&der)
            .as_bytes()
            .chunks(32)
            .map(|line| format!("  {}\n", str::from_utf8(line).unwrap()))
            .collect();
        let spelled: String = der.iter().map(|octet| format!("{octet:02x}:")).collect();
        for text in [wrapped, spelled, format!("KEY_{}", STANDARD.encode(&der)), format!("0x{}", STANDARD.encode(&der))]
        {
            let shown = redacted(&text).into_owned();
            assert!(shown.contains("not shown") && shown.len() < 40, "{shown}");
        }
        let harmless = STANDARD.encode(rcgen::generate_simple_self_signed(vec![]).unwrap().cert.der());
        assert_eq!(redacted(&harmless), harmless);
        assert_eq!(redacted(&"a/b-c".repeat(40)), "a/b-c".repeat(40));
        let public = "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY----- and the words PRIVATE KEY";
        assert_eq!(redacted(public), public);
    }

    #[test]
    fn quoted_words_survive_a_shell() {
        for text in ["plain-1.x/y", "", "two words", "it's", "$(id)", "a\nb", "a\u{1b}'\\b", "~x", "ünï"] {
            let script = format!("printf %s {}", shell_quoted(text));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{script}");
        }
    }
}
