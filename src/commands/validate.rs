//! `choreoctl validate`: what is wrong in manifests, without a cluster.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use clap::{Args as ClapArgs, ValueEnum, ValueHint};
use clap_complete::ArgValueCandidates;
use jiff::Timestamp;
use rayon::prelude::*;
use serde_json::Value;

use super::refusals::NotValidated;
use crate::args::{AtArgs, OutputArgs, Session};
use crate::cluster::Cluster;
use crate::complete;
use crate::manifest::{self, Input, Manifest, json_text, objects};
use crate::plane::{DryRun, PlaneKey, closest, did_you_mean};
use crate::render::{self, report, report::Tally};
use crate::term::{self, Exit, Progress, Term};
use crate::validate::{Finding, Judgement, NO_PLANE, Neighbours, RULES, Resource, Rule, Validator, applied};

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

    /// With --fix: none writes, client and server only show what would be written
    #[arg(long, value_name = "HOW", default_value = "none", requires = "fix", hide_possible_values = true)]
    dry_run: DryRun,

    #[command(flatten)]
    at: AtArgs,

    #[command(flatten)]
    output: OutputArgs<Format>,

    /// List the rules
    #[arg(long)]
    list_rules: bool,

    /// Tell why there is a rule, with examples
    #[arg(long, value_name = "RULE", value_parser = rule, add = ArgValueCandidates::new(complete::rules))]
    explain: Option<&'static Rule>,
}

fn rule(id: &str) -> Result<&'static Rule, String> {
    Rule::by_id(id).ok_or_else(|| {
        let close = did_you_mean(&closest(id, RULES.iter().map(|rule| rule.id)));
        let question = close.map(|question| format!("{question} ")).unwrap_or_default();
        format!("there is no such rule: {question}--list-rules lists all")
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    /// Static Analysis Results Interchange Format 2.1.0, for code review
    Sarif,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    if args.list_rules {
        return list_rules(args.output.format, term);
    }
    if let Some(rule) = args.explain {
        return explain(rule, args.output.format, term);
    }
    let inputs: Vec<_> = args.paths.iter().chain(&args.files).cloned().collect();
    if inputs.is_empty() {
        return Err(NotValidated::Nothing.into());
    }
    if args.fix && inputs.contains(&Input::Stdin) {
        return Err(NotValidated::FixStdin.into());
    }
    let at = args.at.from(Timestamp::now());
    let cluster = if args.server { Some(session.connect().await?) } else { None };
    let validator = match (&cluster, args.crds.as_slice()) {
        (None, []) => Validator::reference(at),
        (_, crds) => Validator::of_crds(read_crds(crds)?, at),
    };
    let files = manifest::list_inputs(&inputs, true).once();
    let progress = term.progress(files.inputs.len());
    let mut run = Run {
        format: args.output.format,
        term,
        progress,
        tally: Tally::default(),
        neighbours: Neighbours::default(),
        findings: Vec::new(),
        exit: Exit::Done,
        unread: false,
    };
    files.missing.into_iter().for_each(|error| run.failed(&error.into()));
    for batch in batches(files.inputs) {
        let judged: Vec<_> = batch.into_par_iter().map(|input| judge_file(&validator, input)).collect();
        for (input, judged) in judged {
            run.progress.advance();
            match judged {
                Ok(mut file) => {
                    if let Some(cluster) = &cluster {
                        let told = &file.judgement.findings;
                        // Of doubled keys both tell, at the same place.
                        let told = told.iter().filter(|finding| finding.rule.id == "duplicate-key");
                        let told: BTreeSet<_> = told.map(|finding| finding.span.start).collect();
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
    let mut resources = Vec::new();
    for file in files {
        let manifest = manifest::parse(file.to_string(), manifest::read_text(file)?);
        resources.extend(Resource::all_of(&manifest).map_err(NotValidated::from)?);
    }
    Ok(resources)
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
        let cluster = cluster.around(&PlaneKey::of_object(&object.node.to_json()));
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
    /// Whether nobody reads on.
    unread: bool,
}

impl Run<'_> {
    /// Prints; when the reader went away nothing more, but what is judged and mended is not left halfway.
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

    fn failed(&mut self, error: &anyhow::Error) {
        self.exit = Exit::Failed;
        self.progress.aside(|| self.term.error(&super::error_text(error)));
    }

    fn take(&mut self, mut file: Judged) -> anyhow::Result<()> {
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

    /// Mends what can be mended, and judges what came of it.
    fn fix(&mut self, file: Judged, validator: &Validator, input: &Input, dry_run: DryRun) -> anyhow::Result<Judged> {
        let Input::Path(path) = input else {
            return Ok(file);
        };
        let Some((mended, count)) = mended(validator, &file) else {
            return Ok(file);
        };
        if dry_run != DryRun::None {
            let difference = render::diff::of_manifests(&file.manifest, &mended.manifest);
            if self.format == Format::Text {
                self.print(&difference)?;
            } else {
                self.progress.aside(|| self.term.error(difference.trim_end()));
            }
            return Ok(file);
        }
        if manifest::read_bytes(input).ok().as_deref() != Some(file.manifest.text.as_bytes()) {
            let message =
                format!("{} is not mended: it is not plain UTF-8, or was changed just now", file.manifest.file);
            self.progress.aside(|| self.term.warn(&message));
            return Ok(file);
        }
        let links = links(path);
        if let Err(error) = manifest::write(path, &mended.manifest.text) {
            self.failed(&error.into());
            return Ok(file);
        }
        if links > 1 {
            let file = &file.manifest.file;
            let message = format!("{file} had {links} hard links: the others still have the old content");
            self.progress.aside(|| self.term.warn(&message));
        }
        let noun = if count == 1 { "finding" } else { "findings" };
        self.progress.aside(|| self.term.note(&format!("{}: {count} {noun} mended", file.manifest.file)));
        Ok(mended)
    }

    fn end(mut self, inputs: &[Input], strict: bool) -> anyhow::Result<Exit> {
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
            self.show(None, &[no_plane()])?;
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

/// A file with every fix made, again and again until there is none left, and how many were made. What one of them brings
/// to light may be mended by the next.
fn mended(validator: &Validator, file: &Judged) -> Option<(Judged, usize)> {
    const ROUNDS: usize = 10;
    let faults = |judged: &Judged| {
        let of_text = |finding: &&Finding| matches!(finding.rule.id, "yaml-syntax" | "duplicate-key");
        judged.judgement.findings.iter().filter(of_text).count()
    };
    let (mut best, mut count) = (None::<Judged>, 0);
    for _ in 0..ROUNDS {
        let current = best.as_ref().unwrap_or(file);
        let text = &current.manifest.text;
        let edits: Vec<_> = current.judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(text)).collect();
        if edits.is_empty() {
            break;
        }
        let more = edits.len();
        let next = judge_text(validator, file.manifest.file.clone(), applied(text, edits));
        if faults(&next) > faults(current) {
            break;
        }
        count += more;
        best = Some(next);
    }
    best.map(|best| (best, count))
}

/// Where no plane was seen at all, something else was probably meant.
fn no_plane() -> Finding {
    Finding {
        rule: &NO_PLANE,
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

/// Returns how many names a file has.
fn links(path: &Path) -> u64 {
    #[cfg(unix)]
    return path.metadata().map_or(1, |metadata| std::os::unix::fs::MetadataExt::nlink(&metadata));
    #[cfg(not(unix))]
    return 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::DEFAULT_KIND;
    use crate::validate::Severity;
    use crate::validate::tests::whole;
    use fastrand::Rng;

    /// What is put into texts at random: what YAML, JSON, PEM and this resource are made of.
    const TOKENS: [&str; 48] = [
        "&a ",
        "*a",
        "<<: *a",
        "---\n",
        "...\n",
        "- ",
        "? ",
        ": ",
        "#",
        " #",
        "|\n",
        ">-\n",
        "|2\n",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\t",
        "\n\t",
        "\r\n",
        "\r",
        "!!str ",
        "!!int ",
        "!!binary ",
        "!x ",
        "%YAML 1.1\n",
        "%",
        "null",
        "~",
        "on",
        "0x1F",
        "1e999",
        ".inf",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "\u{1b}[31m",
        "\0",
        "é",
        "日本",
        "😀",
        "planeId: a\n",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\n",
    ];

    fn bases() -> Vec<Vec<u8>> {
        let examples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
        let examples =
            examples.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"));
        let mut bases: Vec<_> = examples.map(|path| std::fs::read(path).unwrap()).collect();
        bases.extend(
            RULES.iter().flat_map(|rule| [rule.bad, rule.good]).map(|text| report::example(&whole(text)).into_bytes()),
        );
        bases.push(br#"{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": {"clusterAgent": {"clientCA": {"value": "\u00e9\/"}}}}"#.to_vec());
        bases.push(b"a: &a {b: &b [1, *a]}\nc: {<<: [*a, *b], ? [x] : y}\n".to_vec());
        bases
    }

    fn mutate(text: &mut Vec<u8>, bases: &[Vec<u8>], rng: &mut Rng) {
        let at = rng.usize(0..=text.len());
        let end = (at + rng.usize(0..24)).min(text.len());
        match rng.u8(0..8) {
            0 => drop(text.drain(at..end)),
            1 => {
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            2 if at < text.len() => text[at] = rng.u8(..),
            3 => text.insert(at, rng.u8(..)),
            4 => text.truncate(at),
            5 => {
                let other = rng.choice(bases).unwrap();
                let from = rng.usize(0..=other.len());
                text.splice(at..end, other[from..(from + rng.usize(0..200)).min(other.len())].to_vec());
            }
            _ => drop(text.splice(at..at, rng.choice(TOKENS).unwrap().bytes())),
        }
    }

    /// FUZZ in the environment is how many inputs are tried, SEED what they are made from.
    #[test]
    #[allow(clippy::print_stdout)]
    fn mutated_inputs_run_clean_from_bytes_to_findings() {
        let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
        let (count, seed) = (number("FUZZ", 2000), number("SEED", 4));
        let (mut rng, bases) = (Rng::with_seed(seed), bases());
        let at = "2026-11-22T12:00:00Z".parse().unwrap();
        let crds = Resource::all_of(&manifest::parse("crd".into(), DEFAULT_KIND.crd.unwrap().into())).unwrap();
        let validators = [Validator::reference(at), Validator::of_crds(crds, at)];
        let (mut read, mut found, mut fixed) = (0, 0, 0);
        for _ in 0..count {
            let mut bytes = rng.choice(&bases).unwrap().clone();
            for _ in 0..rng.usize(1..6) {
                mutate(&mut bytes, &bases, &mut rng);
            }
            let crd = String::from_utf8_lossy(&bytes).into_owned();
            let Ok(text) = manifest::decode(bytes, "f") else {
                continue;
            };
            read += 1;
            let mut file = judge_text(rng.choice(&validators).unwrap(), "f".into(), text);
            Neighbours::default().meet(&file.manifest, &mut file.judgement);
            let text = &file.manifest.text;
            for finding in &file.judgement.findings {
                assert!(text.get(finding.span.clone()).is_some(), "{finding:?} in {text:?}");
                render::sarif::result(Some(&file.manifest), finding);
                report::finding(Some(&file.manifest), finding);
            }
            let shown = render::snippet::findings(&file.manifest, &file.judgement.findings);
            assert!(!shown.contains(['\u{202e}', '\u{85}', '\u{2028}']), "{shown}");
            found += file.judgement.findings.len();
            let edits: Vec<_> = file.judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(text)).collect();
            fixed += edits.len();
            applied(text, edits);
            let _ = Resource::all_of(&manifest::parse("f".into(), crd));
        }
        println!("{count} inputs, seed {seed}: {read} are text, {found} findings, {fixed} mended");
        assert!(read * 4 > count && found as u64 > count / 4 && fixed > 0, "{read} {found} {fixed}");
    }

    #[test]
    fn a_large_text_is_judged_as_its_parts() {
        let plane =
            "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\nspec: {planeID: A}\n";
        let many = format!("{plane}---\n").repeat(4000);
        let file = judge_text(&Validator::reference(Timestamp::now()), "f".into(), many);
        assert_eq!((file.judgement.documents, file.judgement.planes), (4001, 4000));
        assert_eq!(file.judgement.findings.len(), 8000);
        assert!(file.judgement.findings.iter().all(|finding| finding.rule.severity == Severity::Error));
        let last = file.judgement.findings.last().unwrap();
        assert_eq!((last.document, file.manifest.position(last.span.start).0), (4000, 4 + 3999 * 5));
    }
}
