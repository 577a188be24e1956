//! What a validation found so far, printed and fixed file by file.

use std::path::Path;

use clap::ValueEnum;
use serde_json::Value;

use super::judging::{Judged, fixed};
use crate::commands::error_text;
use crate::commands::replaced::{Replaced, replace};
use crate::manifest::{self, Input, Manifest, json_text};
use crate::plane::DryRun;
use crate::render::{self, report, report::Tally};
use crate::term::{self, Exit, Progress, Term};
use crate::validate::{Finding, NO_PLANE, Neighbours, Validator};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    /// Static Analysis Results Interchange Format 2.1.0, for code review
    Sarif,
}

/// What was found so far, and where it goes.
pub struct Run<'t> {
    format: Format,
    term: &'t Term,
    progress: Progress,
    tally: Tally,
    neighbours: Neighbours,
    /// Those that are printed all together at the end.
    findings: Vec<Value>,
    exit: Exit,
    /// Whether nobody reads on.
    unread: bool,
}

impl<'t> Run<'t> {
    pub fn new(format: Format, files: usize, term: &'t Term) -> Self {
        Self {
            format,
            term,
            progress: term.progress(files),
            tally: Tally::default(),
            neighbours: Neighbours::default(),
            findings: Vec::new(),
            exit: Exit::Done,
            unread: false,
        }
    }

    /// Counts one more file that was judged.
    pub fn advance(&self) {
        self.progress.advance();
    }

    /// Prints; when the reader went away nothing more, but what is judged and fixed is not left halfway.
    fn print(&mut self, text: &str) -> anyhow::Result<()> {
        if self.unread {
            return Ok(());
        }
        match self.progress.aside(|| self.term.print(text)) {
            Err(error) if error.is::<term::ClosedPipe>() => self.unread = true,
            printed => printed?,
        }
        Ok(())
    }

    pub fn failed(&mut self, error: &anyhow::Error) {
        self.exit = Exit::Failed;
        self.progress.aside(|| self.term.error(&error_text(error)));
    }

    pub fn take(&mut self, mut file: Judged) -> anyhow::Result<()> {
        self.neighbours.meet(&file.manifest, &mut file.judgement);
        self.tally.add(&file.judgement);
        let shown = &mut self.tally.shown;
        file.judgement.findings.retain(|finding| shown.admits(finding.rule.severity));
        self.show(Some(&file.manifest), &file.judgement.findings)
    }

    fn show(&mut self, manifest: Option<&Manifest>, findings: &[Finding]) -> anyhow::Result<()> {
        match (self.format, manifest) {
            (Format::Text, Some(manifest)) if !findings.is_empty() => {
                let text = render::snippet::findings(manifest, findings);
                return self.print(&text);
            }
            (Format::Text, None) => findings.iter().for_each(|finding| self.term.warn(&finding.message)),
            (Format::Text, _) => {}
            (Format::Json, _) => {
                self.findings.extend(findings.iter().map(|finding| report::finding(manifest, finding)));
            }
            (Format::Sarif, _) => {
                self.findings.extend(findings.iter().map(|finding| render::sarif::result(manifest, finding)));
            }
        }
        Ok(())
    }

    /// Fixes what can be fixed, and judges what came of it.
    pub fn fix(
        &mut self,
        file: Judged,
        validator: &Validator,
        input: &Input,
        dry_run: DryRun,
    ) -> anyhow::Result<Judged> {
        let Input::Path(path) = input else {
            return Ok(file);
        };
        let Some((fixed, count)) = fixed(validator, &file) else {
            return Ok(file);
        };
        if dry_run != DryRun::None {
            let difference = render::diff::of_manifests(&file.manifest, &fixed.manifest, "fixed");
            if self.format == Format::Text {
                self.print(&difference)?;
            } else {
                self.progress.aside(|| self.term.error(difference.trim_end()));
            }
            return Ok(file);
        }
        if !self.replace(path, &file.manifest, &fixed.manifest) {
            return Ok(file);
        }
        let noun = if count == 1 { "finding" } else { "findings" };
        self.progress.aside(|| self.term.note(&format!("{}: {count} {noun} fixed", file.manifest.file)));
        Ok(fixed)
    }

    /// Writes a fixed file in the place of the one that was read; whether it did.
    fn replace(&mut self, path: &Path, read: &Manifest, fixed: &Manifest) -> bool {
        match replace(path, &read.text, &fixed.text) {
            Ok(replaced) => {
                let warning = replaced.warning(&read.file, "fixed");
                warning.iter().for_each(|warning| self.progress.aside(|| self.term.warn(warning)));
                !matches!(replaced, Replaced::Not(_))
            }
            Err(error) => {
                self.failed(&error.into());
                false
            }
        }
    }

    pub fn end(mut self, inputs: &[Input], strict: bool) -> anyhow::Result<Exit> {
        self.progress.finish();
        if self.tally.files > 0 && self.tally.documents == 0 && self.tally.errors == 0 {
            let file = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(manifest::Error::Empty { file }.into());
        }
        if self.tally.files == 0 && self.format == Format::Text && self.exit != Exit::Done {
            return Ok(self.exit);
        }
        if self.tally.planes == 0 && self.tally.errors == 0 && self.tally.files > 0 {
            self.tally.warnings += 1;
            self.tally.shown.admits(NO_PLANE.severity);
            // Something else was probably meant.
            let finding = Finding::new(&NO_PLANE, 0, 0..0, "", "the file contains no plane", "");
            self.show(None, &[finding])?;
        }
        let last = match self.format {
            Format::Text => report::summary(&self.tally),
            Format::Json => json_text(&report::json(&self.tally, &self.findings))?,
            Format::Sarif => json_text(&render::sarif::log(&self.findings))?,
        };
        self.print(&format!("{last}\n"))?;
        let no = self.tally.errors > 0 || (strict && self.tally.warnings > 0);
        Ok(if no { self.exit.and(Exit::No) } else { self.exit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{files, session};
    use crate::commands::validate::judging::judge_text;

    const MISSPELT: &str = "apiVersion: openchoreo.dev/v1alpha1
kind: ClusterBuildPlane
metadata: {name: a}
spec: {planeId: a}
";

    fn fix(text: &str, on_disk: &str, dry_run: DryRun) -> (String, String) {
        let (session, (_folder, inputs)) = (session(), files(&[("a.yaml", on_disk)]));
        let validator = Validator::reference("2026-11-22T12:00:00Z".parse().unwrap());
        let mut run = Run::new(Format::Json, 1, &session.term);
        let file = judge_text(&validator, "a.yaml".into(), text.to_owned());
        let judged = run.fix(file, &validator, &inputs[0], dry_run).unwrap();
        (judged.manifest.text, manifest::read_text(&inputs[0]).unwrap())
    }

    #[test]
    fn a_fix_is_judged_as_it_was_written() {
        let fixed = MISSPELT.replace("planeId", "planeID");
        assert_eq!(fix(MISSPELT, MISSPELT, DryRun::None), (fixed.clone(), fixed.clone()));
        assert_eq!(fix(&fixed, &fixed, DryRun::None), (fixed.clone(), fixed));
    }

    #[test]
    fn a_dry_run_and_a_file_that_was_changed_stay_as_they_are() {
        assert_eq!(fix(MISSPELT, MISSPELT, DryRun::Client), (MISSPELT.to_owned(), MISSPELT.to_owned()));
        let changed = format!("{MISSPELT}# changed\n");
        assert_eq!(fix(MISSPELT, &changed, DryRun::None), (MISSPELT.to_owned(), changed));
    }

    #[test]
    fn inputs_without_a_document_are_an_error() {
        let (session, (_folder, inputs)) = (session(), files(&[("a.yaml", "# nothing\n")]));
        let validator = Validator::reference("2026-11-22T12:00:00Z".parse().unwrap());
        let mut run = Run::new(Format::Json, 1, &session.term);
        run.take(judge_text(&validator, "a.yaml".into(), "# nothing\n".into())).unwrap();
        let error = run.end(&inputs, false).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(manifest::Error::Empty { .. })), "{error}");
    }
}
