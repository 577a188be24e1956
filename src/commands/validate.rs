//! `choreoctl validate`: what is wrong in manifests, without a cluster.

use clap::{Args as ClapArgs, ValueHint};

use crate::args::{Session, TextFormat};
use crate::manifest::{self, Input, Manifest, json_text};
use crate::render;
use crate::term::{Exit, Term};
use crate::validate::{Finding, Judge, Judgement, RULES, Rule, Severity, judge};

/// Validate manifests of build planes, without a cluster
///
/// Judges by the API reference: what the API server would reject, and what it would accept although no agent could
/// ever connect. What the CRDs of releases demand beyond the reference is a warning that names them.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl validate planes.yaml
  choreoctl validate manifests/ --strict
  helm template . | choreoctl validate -")]
pub struct Args {
    /// Manifests, folders that are searched for .yaml, .yml and .json, or - for standard input
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<Input>,

    /// The same as PATH (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,

    /// Exit 1 on warnings, too
    #[arg(long)]
    strict: bool,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: TextFormat,

    /// List the rules
    #[arg(long)]
    list_rules: bool,
}

pub fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if args.list_rules {
        return list_rules(args.output, &session.term);
    }
    let inputs: Vec<_> = args.paths.into_iter().chain(args.files).collect();
    if inputs.is_empty() {
        anyhow::bail!("no manifest is named: give a file, a folder, or - for standard input");
    }
    let mut exit = Exit::Done;
    let (mut manifests, mut judgements) = (Vec::<Manifest>::new(), Vec::<Judgement>::new());
    for (input, text) in manifest::read_inputs(&inputs, true)? {
        match text {
            Ok(text) => {
                let manifest = manifest::parse(input.to_string(), text);
                judgements.push(judge(&manifest));
                manifests.push(manifest);
            }
            // The other files are judged all the same.
            Err(error) => {
                exit = Exit::Failed;
                session.term.error(&crate::commands::error_text(&error.into()));
            }
        }
    }
    if !manifests.is_empty()
        && judgements.iter().all(|judgement| judgement.documents == 0 && judgement.findings.is_empty())
    {
        let file = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(manifest::Error::Empty { file }.into());
    }
    if manifests.is_empty() && args.output == TextFormat::Text {
        return Ok(exit);
    }
    let extra = no_plane(&manifests, &judgements);
    print(args.output, &session.term, &manifests, &judgements, &extra)?;
    let found = |severity| judgements.iter().map(|judgement| judgement.count(severity)).sum::<usize>();
    let warned = args.strict && (found(Severity::Warning) > 0 || !extra.is_empty());
    Ok(if found(Severity::Error) > 0 || warned { exit.and(Exit::No) } else { exit })
}

fn print(
    format: TextFormat,
    term: &Term,
    manifests: &[Manifest],
    judgements: &[Judgement],
    extra: &[Finding],
) -> anyhow::Result<()> {
    if format == TextFormat::Json {
        return term.line(&json_text(&render::snippet::json(manifests, judgements, extra))?);
    }
    for (manifest, judgement) in manifests.iter().zip(judgements) {
        term.print(&render::snippet::findings(manifest, &judgement.findings))?;
    }
    for finding in extra {
        term.warn(&finding.message);
    }
    term.line(&render::snippet::summary(manifests.len(), judgements, extra))
}

/// Where no plane was seen at all, something else was probably meant.
fn no_plane(manifests: &[Manifest], judgements: &[Judgement]) -> Vec<Finding> {
    let seen = judgements.iter().any(|judgement| judgement.planes > 0 || judgement.count(Severity::Error) > 0);
    let Some(rule) = RULES.iter().find(|rule| rule.id == "no-plane").filter(|_| !seen && !manifests.is_empty()) else {
        return Vec::new();
    };
    let message = "there is no ClusterBuildPlane in it".to_owned();
    vec![Finding { rule, document: 0, span: 0..0, path: String::new(), message, label: String::new(), help: None }]
}

fn list_rules(format: TextFormat, term: &Term) -> anyhow::Result<Exit> {
    if format == TextFormat::Json {
        let rule = |rule: &&Rule| serde_json::json!({"id": rule.id, "severity": rule.severity, "judge": rule.judge, "about": rule.about});
        term.line(&json_text(&RULES.iter().map(rule).collect::<Vec<_>>())?)?;
        return Ok(Exit::Done);
    }
    let row = |rule: &&Rule| {
        let severity = if rule.severity == Severity::Error { "error" } else { "warning" };
        let judge = match rule.judge {
            Judge::Schema => "schema",
            Judge::Gateway => "gateway",
            Judge::Practice => "practice",
        };
        [rule.id, severity, judge, rule.about].map(str::to_owned).to_vec()
    };
    term.print(&render::columns(Some(&["RULE", "SEVERITY", "JUDGE", "ABOUT"]), RULES.iter().map(row)))?;
    Ok(Exit::Done)
}
