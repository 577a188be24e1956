//! `choreoctl validate`: what is wrong in manifests, without a cluster.

use std::collections::{BTreeSet, VecDeque};

use clap::builder::PossibleValuesParser;
use clap::{Args as ClapArgs, ValueEnum, ValueHint};
use jiff::Timestamp;
use rayon::prelude::*;
use serde_json::Value;

use crate::args::{DryRun, Session};
use crate::cluster::Cluster;
use crate::manifest::{self, Input, Manifest, json_text};
use crate::pki;
use crate::plane::Moment;
use crate::render::{self, report, report::Tally};
use crate::term::{Exit, Progress, Term, visible};
use crate::validate::{
    CrdError, Finding, Judgement, LIMIT, Neighbours, RULES, Resource, Rule, Validator, applied, objects,
};

/// Validate manifests of build planes, without a cluster
///
/// Judges by the API reference: what the API server would reject, what it would accept although no agent could ever
/// connect, and what hurts later. What the CRDs of releases demand beyond the reference is a warning that names them.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl validate planes.yaml
  choreoctl validate manifests/ --strict -o sarif
  choreoctl validate manifests/ --fix --dry-run client
  choreoctl validate --explain ca-pinned-leaf
  helm template . | choreoctl validate --crd crd.yaml -")]
pub struct Args {
    /// Manifests, folders that are searched for .yaml, .yml and .json, or - for standard input
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<Input>,

    /// The same as PATH (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,

    /// CRD of ClusterBuildPlane to judge by instead of the reference (can be repeated)
    #[arg(long = "crd", value_name = "FILE", value_hint = ValueHint::FilePath)]
    crds: Vec<Input>,

    /// Let the API server judge its part, in a dry run that stores nothing
    #[arg(long, conflicts_with = "crds")]
    server: bool,

    /// Exit 1 on warnings, too
    #[arg(long)]
    strict: bool,

    /// Write what is mended without a doubt, with comments and layout as they are
    #[arg(long)]
    fix: bool,

    /// With --fix, show what would be written only: client and server are the same here
    #[arg(long, value_name = "HOW", default_value = "none", requires = "fix")]
    dry_run: DryRun,

    /// Moment that certificates are judged at: a time as 2026-11-22T12:00:00Z, or +30d; now otherwise
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,

    /// List the rules
    #[arg(long)]
    list_rules: bool,

    /// Tell why there is a rule, with examples
    #[arg(long, value_name = "RULE", value_parser = PossibleValuesParser::new(RULES.iter().map(|rule| rule.id)))]
    #[arg(hide_possible_values = true)]
    explain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    /// Static Analysis Results Interchange Format 2.1.0, for code review
    Sarif,
}

/// Why manifests can't be validated as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no manifest is named: give a file, a folder, or - for standard input")]
    Nothing,
    #[error("standard input can't be mended in place")]
    FixStdin,
    #[error(transparent)]
    Crd(#[from] CrdError),
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("choreoctl validate FILE".into()),
            Self::FixStdin => Some("write it to a file first".into()),
            Self::Crd(error) => error.hint(),
        }
    }
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    if args.list_rules {
        return list_rules(args.output, term);
    }
    if let Some(rule) = args.explain.as_deref().and_then(Rule::by_id) {
        return explain(rule, args.output, term);
    }
    let inputs: Vec<_> = args.paths.iter().chain(&args.files).cloned().collect();
    if inputs.is_empty() {
        return Err(Error::Nothing.into());
    }
    if args.fix && inputs.contains(&Input::Stdin) {
        return Err(Error::FixStdin.into());
    }
    let at = args.at.map_or_else(Timestamp::now, |moment| moment.from(Timestamp::now()));
    let cluster = if args.server { Some(session.connect().await?) } else { None };
    let validator = match (&cluster, args.crds.as_slice()) {
        (None, []) => Validator::reference(at),
        (_, crds) => Validator::of_crds(read_crds(crds)?, at),
    };
    let files = manifest::list_inputs(&inputs, true)?;
    let progress = term.progress(files.len());
    let mut run = Run {
        format: args.output,
        term,
        progress,
        tally: Tally::default(),
        neighbours: Neighbours::default(),
        findings: Vec::new(),
        exit: Exit::Done,
    };
    for batch in batches(files) {
        let judged: Vec<_> = batch.into_par_iter().map(|input| judge_file(&validator, input)).collect();
        for (input, judged) in judged {
            run.progress.advance();
            match judged {
                Ok(mut file) => {
                    if let Some(cluster) = &cluster {
                        let told = &file.judgement.findings;
                        let told: BTreeSet<_> = told.iter().map(|finding| finding.span.start).collect();
                        let mut findings = ask_server(cluster, &validator, &file.manifest).await?;
                        findings.retain(|finding| !told.contains(&finding.span.start));
                        file.judgement.add(findings);
                    }
                    if args.fix {
                        file = run.fix(file, &validator, &input, args.dry_run)?;
                    }
                    run.take(file)?;
                }
                // The other files are judged all the same.
                Err(error) => run.failed(&error.into()),
            }
        }
    }
    run.end(&inputs, args.strict)
}

fn read_crds(files: &[Input]) -> anyhow::Result<Vec<Resource>> {
    let read = |file: &Input| -> anyhow::Result<Resource> {
        let manifest = manifest::parse(file.to_string(), manifest::read_text(file)?);
        Ok(Resource::of_manifest(&manifest).map_err(Error::from)?)
    };
    files.iter().map(read).collect()
}

/// Files that are read at once: many small ones, or few large ones.
fn batches(files: Vec<Input>) -> impl Iterator<Item = Vec<Input>> {
    const FILES: usize = 512;
    const BYTES: u64 = 32 << 20;
    let mut files: VecDeque<_> = files.into();
    std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < FILES && bytes < BYTES {
            let Some(file) = files.pop_front() else {
                break;
            };
            bytes += file.size();
            batch.push(file);
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// A file's text, and what was found in it.
struct Judged {
    manifest: Manifest,
    judgement: Judgement,
}

fn judge_file(validator: &Validator, input: Input) -> (Input, Result<Judged, manifest::Error>) {
    let judged = manifest::read_text(&input).map(|text| judge_text(validator, input.to_string(), text));
    (input, judged)
}

/// Judges a text part by part, a large one on all cores, so that no more than a few of its documents are in memory.
fn judge_text(validator: &Validator, file: String, text: String) -> Judged {
    const LARGE: usize = 256 << 10;
    let parts = manifest::parts(&text);
    let judge = |parts: &[std::ops::Range<usize>]| {
        let mut judgement = Judgement::default();
        parts.iter().for_each(|part| judgement.join(validator.judge_part(&text, part.clone())));
        judgement
    };
    let judgement = if text.len() < LARGE {
        judge(&parts)
    } else {
        let chunk = parts.len().div_ceil(8 * rayon::current_num_threads()).max(1);
        let judged: Vec<_> = parts.par_chunks(chunk).map(judge).collect();
        let mut all = Judgement::default();
        judged.into_iter().for_each(|judgement| all.join(judgement));
        all
    };
    Judged { manifest: Manifest::unread(file, text), judgement }
}

/// What the API server finds in each plane of a file.
async fn ask_server(cluster: &Cluster, validator: &Validator, file: &Manifest) -> anyhow::Result<Vec<Finding>> {
    let manifest = manifest::parse(file.file.clone(), file.text.clone());
    let mut findings = Vec::new();
    for object in objects(&manifest).into_iter().filter(|object| validator.knows(*object)) {
        let whole = manifest.documents.iter().find(|document| std::ptr::eq(&document.root, object.node));
        let (text, start, media_type) = match whole {
            Some(document) => {
                let text = &manifest.text[document.part.clone()];
                let json = text.trim_start().starts_with('{') && serde_json::from_str::<Value>(text).is_ok();
                let media_type = if json { "application/json" } else { "application/yaml" };
                (text.to_owned(), document.part.start, media_type)
            }
            // An item of a List has no text of its own.
            None => (object.node.to_json().to_string(), object.node.span.start, "application/json"),
        };
        if let Some(refusal) = cluster.would_take(&text, media_type).await? {
            findings.extend(refusal.findings(object, &manifest.text, start));
        }
    }
    Ok(findings)
}

/// What was found so far, and where it goes.
struct Run<'t> {
    format: Format,
    term: &'t Term,
    progress: Progress,
    tally: Tally,
    neighbours: Neighbours,
    /// Those that are printed all together at the end.
    findings: Vec<Value>,
    exit: Exit,
}

impl Run<'_> {
    fn failed(&mut self, error: &anyhow::Error) {
        self.exit = Exit::Failed;
        self.progress.aside(|| self.term.error(&super::error_text(error)));
    }

    fn take(&mut self, mut file: Judged) -> anyhow::Result<()> {
        self.neighbours.meet(&file.manifest, &mut file.judgement);
        self.tally.add(&file.judgement);
        let room = LIMIT - self.tally.shown;
        file.judgement.findings.truncate(room);
        self.show(Some(&file.manifest), &file.judgement.findings)
    }

    fn show(&mut self, manifest: Option<&Manifest>, findings: &[Finding]) -> anyhow::Result<()> {
        self.tally.shown += findings.len();
        match (self.format, manifest) {
            (Format::Text, Some(manifest)) if !findings.is_empty() => {
                let text = render::snippet::findings(manifest, findings);
                return self.progress.aside(|| self.term.print(&text));
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

    /// Mends what can be mended, and judges what came of it.
    fn fix(&self, file: Judged, validator: &Validator, input: &Input, dry_run: DryRun) -> anyhow::Result<Judged> {
        let text = &file.manifest.text;
        let edits: Vec<_> = file.judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(text)).collect();
        let Input::Path(path) = input else {
            return Ok(file);
        };
        if edits.is_empty() {
            return Ok(file);
        }
        let count = edits.len();
        let mended = judge_text(validator, file.manifest.file.clone(), applied(text, edits));
        let better = mended.judgement.errors + mended.judgement.warnings + count
            <= file.judgement.errors + file.judgement.warnings;
        if !better {
            return Ok(file);
        }
        if dry_run != DryRun::None {
            let shown = |text: &str| text.split_inclusive('\n').map(visible_line).collect::<String>();
            let name = visible(&file.manifest.file);
            let difference =
                render::diff::unified(&shown(text), &shown(&mended.manifest.text), &name, &format!("{name} (mended)"));
            self.progress.aside(|| self.term.print(&difference))?;
            return Ok(file);
        }
        if manifest::read_bytes(input)? != text.as_bytes() {
            let message = format!("{} is not mended: it has a byte order mark, is UTF-16 or was changed just now", file.manifest.file);
            self.progress.aside(|| self.term.warn(&message));
            return Ok(file);
        }
        let writing = pki::writing();
        manifest::replace(path, &mended.manifest.text)?;
        drop(writing);
        let noun = if count == 1 { "finding" } else { "findings" };
        self.progress.aside(|| self.term.note(&format!("{}: {count} {noun} mended", file.manifest.file)));
        Ok(mended)
    }

    fn end(mut self, inputs: &[Input], strict: bool) -> anyhow::Result<Exit> {
        if self.tally.files > 0 && self.tally.documents == 0 && self.tally.errors == 0 {
            let file = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(manifest::Error::Empty { file }.into());
        }
        if self.tally.files == 0 && self.format == Format::Text {
            return Ok(self.exit);
        }
        if self.tally.planes == 0 && self.tally.errors == 0 && self.tally.files > 0 {
            self.tally.warnings += 1;
            self.show(None, &[no_plane()])?;
        }
        match self.format {
            Format::Text => self.term.line(&report::summary(&self.tally))?,
            Format::Json => self.term.line(&json_text(&report::json(&self.tally, &self.findings))?)?,
            Format::Sarif => self.term.line(&json_text(&render::sarif::log(&self.findings))?)?,
        }
        let no = self.tally.errors > 0 || (strict && self.tally.warnings > 0);
        Ok(if no { self.exit.and(Exit::No) } else { self.exit })
    }
}

fn visible_line(line: &str) -> String {
    let plain = line.trim_end_matches(['\r', '\n']);
    format!("{}\n", visible(plain))
}

/// Where no plane was seen at all, something else was probably meant.
fn no_plane() -> Finding {
    Finding {
        rule: &crate::validate::NO_PLANE,
        document: 0,
        span: 0..0,
        path: String::new(),
        message: "there is no ClusterBuildPlane in it".into(),
        label: String::new(),
        help: None,
        fix: None,
    }
}

fn explain(rule: &Rule, format: Format, term: &Term) -> anyhow::Result<Exit> {
    match format {
        Format::Text => term.print(&report::explanation(rule))?,
        Format::Json => term.line(&json_text(&report::rule(rule))?)?,
        Format::Sarif => term.line(&json_text(&render::sarif::log(&[]))?)?,
    }
    Ok(Exit::Done)
}

fn list_rules(format: Format, term: &Term) -> anyhow::Result<Exit> {
    match format {
        Format::Text => {
            let row = |rule: &&Rule| {
                [rule.id, rule.severity.name(), rule.judge.name(), rule.about].map(str::to_owned).to_vec()
            };
            let header = ["RULE", "SEVERITY", "JUDGE", "ABOUT"];
            term.print(&render::columns(Some(&header), RULES.iter().map(row)))?;
        }
        Format::Json => {
            term.line(&json_text(&RULES.iter().map(|rule| report::rule(rule)).collect::<Vec<_>>())?)?;
        }
        Format::Sarif => term.line(&json_text(&render::sarif::log(&[]))?)?,
    }
    Ok(Exit::Done)
}
