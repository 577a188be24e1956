//! Steps of a plan as they are reported: a line each, for people or in JSON.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error_text;
use super::source::{CA, LEAF, new_pair};
use crate::args::TextFormat;
use crate::manifest;
use crate::paint;
use crate::pki::{Folder, PemPair};
use crate::plan::{self, Observer, Status};
use crate::plane::DryRun;
use crate::render::{self, redacted_json};
use crate::term::{Exit, PromptError, Term, Waiting};
use crate::text::{shown, visible};

/// The first line of manifests for others.
const MARK: &str = "# written by choreoctl, to be applied instead of the existing object";

/// Reports steps on standard output, and of what is waited for on standard error.
pub struct Steps<'t> {
    pub term: &'t Term,
    pub output: TextFormat,
    /// Where manifests go that another manager is to apply.
    pub out_dir: Option<PathBuf>,
    /// Where a CA goes that is made.
    pub keys: Option<Folder>,
    /// The plane that they are about, where there are several.
    pub plane: Option<String>,
    /// Whether questions were answered with yes beforehand.
    pub yes: bool,
    pub dry_run: bool,
    /// What would be done, where that is only looked at.
    pub preview: Option<Vec<String>>,
    /// How to continue or to go back, where a run ends before the end.
    pub resume: Option<String>,
    is_unfinished: bool,
    waiting: Option<Waiting>,
    last: &'static str,
    since: Instant,
}

/// Times under this are nobody's concern.
const NOTICED: Duration = Duration::from_millis(100);
/// Width of the names of steps on a terminal.
const WIDTH: usize = 13;

impl<'t> Steps<'t> {
    pub fn new(term: &'t Term, output: TextFormat) -> Self {
        Self {
            term,
            output,
            out_dir: None,
            keys: None,
            plane: None,
            yes: false,
            dry_run: false,
            preview: None,
            resume: None,
            is_unfinished: false,
            waiting: None,
            last: "look",
            since: Instant::now(),
        }
    }

    /// Ends the spinner, as another program is going to write.
    pub fn give_way(&mut self) {
        self.waiting = None;
    }

    /// Reports a step, in JSON with more fields. Nobody who reads is no reason to stop between two steps.
    pub fn report(&mut self, step: &'static str, status: Status, message: &str, fields: Value) {
        self.waiting = None;
        self.last = step;
        let took = std::mem::replace(&mut self.since, Instant::now()).elapsed();
        if let Some(preview) = &mut self.preview {
            if status == Status::Done || step == "helm" {
                preview.push(format!("{step}: {}", message.trim_end_matches(" (dry run)")));
            }
            return;
        }
        let _ = match self.output {
            TextFormat::Json => {
                let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let mut line = json!({"time": time, "step": step, "status": status, "message": message});
                if let Some(plane) = &self.plane {
                    line["plane"] = plane.as_str().into();
                }
                if let (Some(line), Value::Object(mut fields)) = (line.as_object_mut(), fields) {
                    line.append(&mut fields);
                }
                self.term.line(&redacted_json(line).to_string())
            }
            TextFormat::Text => {
                let (word, paint): (&str, fn(&str) -> String) = match status {
                    Status::Found => ("ok", paint::faint),
                    Status::Done => ("done", paint::good),
                    Status::Skipped => ("skipped", paint::warning),
                    Status::Failed => ("failed", paint::bad),
                };
                if self.term.redraws() {
                    let took = if took < NOTICED { String::new() } else { format!(" {:.1}s", took.as_secs_f64()) };
                    let word = paint(&format!("{word:<7}"));
                    self.term.line(&format!("{word}  {step:<WIDTH$} {message}{}", paint::faint(&took)))
                } else {
                    self.term.line(&format!("{step}: {message} [{}]", paint(word)))
                }
            }
        };
    }

    /// How a plan ended, for the shell; what keeps it is reported as a step, too.
    pub fn conclude(mut self, result: anyhow::Result<()>) -> anyhow::Result<Exit> {
        if let Some(resume) = self.resume.take().filter(|_| self.is_unfinished) {
            self.waiting = None;
            self.term.on_interrupt(None);
            self.term.note(&resume);
        }
        let Err(error) = result else {
            return Ok(Exit::Done);
        };
        let last = self.last;
        if self.output == TextFormat::Json {
            self.outcome(last, Status::Failed, &format!("{error:#}"));
        }
        self.waiting = None;
        match error.downcast_ref::<plan::Error>() {
            Some(plan::Error::TimedOut { .. } | plan::Error::NotReconnected { .. }) => {
                self.term.error(&error_text(&error));
                Ok(Exit::TimedOut)
            }
            _ => Err(error),
        }
    }
}

/// Writes private keys with their certificates; fails where there are some.
pub fn write_keys(folder: &Folder, ca: Option<&PemPair>, pair: Option<&PemPair>) -> anyhow::Result<()> {
    let pems = ca.map(|ca| (CA, ca)).into_iter().chain(pair.map(|pair| (LEAF, pair)));
    let files: Vec<_> = pems.flat_map(|(names, pem)| new_pair(names, &pem.certificate, &pem.key)).collect();
    Ok(folder.write(&files, false)?)
}

impl Observer for Steps<'_> {
    fn begin(&mut self, step: &'static str, about: &str) {
        self.last = step;
        self.waiting = None;
        if self.output == TextFormat::Text && self.term.redraws() {
            self.waiting = Some(self.term.wait(&format!("{step}: {about}")));
        }
    }

    fn replaces(&mut self, what: &str, before: &str, after: &str) -> anyhow::Result<bool> {
        self.waiting = None;
        if self.preview.is_some() {
            return Ok(true);
        }
        let from = format!("{} (as it is)", visible(what));
        let (before, after) = (render::diff::shown(before), render::diff::shown(after));
        self.term.error(render::diff::unified(&before, &after, &from, "(as it would become)").trim_end());
        if self.yes || !self.term.asks() {
            return Ok(false);
        }
        // What would be asked is only shown.
        if self.dry_run {
            return Ok(true);
        }
        match self.term.confirm(&format!("replace {}", visible(what)), false) {
            Err(error) if error.is::<PromptError>() => Ok(false),
            answer => answer.map(|()| true),
        }
    }

    fn outcome(&mut self, step: &'static str, status: Status, message: &str) {
        self.report(step, status, message, json!({}));
    }

    fn keep(&mut self, ca: &PemPair, dry_run: DryRun) -> anyhow::Result<bool> {
        let Some(keys) = &self.keys else {
            return Ok(false);
        };
        if dry_run.stores() {
            write_keys(keys, Some(ca), None)?;
        }
        Ok(true)
    }

    fn unfinished(&mut self, is_unfinished: bool) {
        self.is_unfinished = is_unfinished;
        self.term.on_interrupt(self.resume.clone().filter(|_| is_unfinished));
    }

    fn wait(&mut self, text: &str) {
        match &mut self.waiting {
            Some(waiting) => {
                waiting.change(text);
                waiting.remind(text);
            }
            None => self.waiting = Some(self.term.wait(text)),
        }
    }

    fn manifest(&mut self, name: &str, text: &str) -> anyhow::Result<String> {
        let folder = self.out_dir.clone().unwrap_or_default();
        let path = folder.join(name);
        let failed = || format!("could not write {}", path.display());
        // A key may come to lie beside it.
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).with_context(failed)?;
        // One that is there may be of the run before, and of nobody else.
        match std::fs::read_to_string(&path) {
            Ok(there) if !there.starts_with(MARK) => {
                anyhow::bail!("{} exists already, and was not written by a rotation", path.display())
            }
            _ => {}
        }
        manifest::write(&path, &format!("{MARK}\n{text}"))?;
        Ok(shown(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::session;

    #[test]
    fn a_preview_keeps_what_would_be_done_and_asks_nothing() {
        let session = session();
        let mut steps = Steps::new(&session.term, TextFormat::Text);
        steps.preview = Some(Vec::new());
        steps.outcome("plane", Status::Found, "it is there");
        steps.outcome("plane", Status::Done, "created (dry run)");
        steps.outcome("helm", Status::Skipped, "run: helm");
        assert!(steps.replaces("Secret s", "a", "b").unwrap());
        assert_eq!(steps.preview.unwrap(), ["plane: created", "helm: run: helm"]);
    }

    #[test]
    fn nothing_is_replaced_where_nobody_can_be_asked() {
        let session = session();
        let mut steps = Steps::new(&session.term, TextFormat::Text);
        for dry_run in [false, true] {
            steps.dry_run = dry_run;
            assert!(!steps.replaces("Secret s", "a\n", "b\n").unwrap());
        }
    }

    #[test]
    fn a_plan_that_ran_out_of_time_ends_with_the_code_for_it() {
        let session = session();
        let end = |result| Steps::new(&session.term, TextFormat::Text).conclude(result);
        assert_eq!(end(Ok(())).unwrap(), Exit::Done);
        let error = plan::Error::TimedOut { waiting: "the agent".into() };
        assert_eq!(end(Err(error.into())).unwrap(), Exit::TimedOut);
        assert!(end(Err(plan::Error::NoCa { namespace: "n".into() }.into())).is_err());
    }

    #[test]
    fn a_manifest_of_a_run_before_is_replaced_and_no_other_file() {
        let (session, folder) = (session(), tempfile::tempdir().unwrap());
        let mut steps = Steps::new(&session.term, TextFormat::Text);
        steps.out_dir = Some(folder.path().join("new"));
        let path = steps.manifest("plane.yaml", "a: 1\n").unwrap();
        steps.manifest("plane.yaml", "a: 2\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{MARK}\na: 2\n"));
        std::fs::write(&path, "mine").unwrap();
        let error = steps.manifest("plane.yaml", "a: 3\n").unwrap_err().to_string();
        assert!(error.ends_with("plane.yaml exists already, and was not written by a rotation"), "{error}");
    }
}
