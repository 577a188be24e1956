//! `choreoctl validate`: judges manifests, without a cluster.

mod judging;
mod printing;

use clap::{Args as ClapArgs, ValueHint};
use clap_complete::ArgValueCandidates;
use jiff::Timestamp;
use rayon::prelude::*;

use self::judging::{batches, judge_file};
use self::printing::{Format, Run};
use super::refusals::Refusal;
use crate::args::{AT_HELP, AtArgs, OutputArgs, Session};
use crate::complete;
use crate::manifest::{self, Input, json_text};
use crate::plane::{DryRun, Release, closest, did_you_mean};
use crate::render::{self, report};
use crate::term::{Exit, Term};
use crate::validate::{RULES, Resource, Rule, Validator};

/// Validate manifests of planes, without a cluster
///
/// Reports what the API server would reject, what it would accept although no agent could connect, and what causes problems
/// later. Without --release, each kind is validated against the CRD of the latest release that has it (v0.17 for BuildPlane,
/// v1.2 for most others), except ClusterBuildPlane: it is always validated against OpenChoreo's published API reference,
/// which requires less than the CRDs; a warning names the releases that require more.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("at", |at| at.help(AT_HELP)), after_help = "Examples:
  choreoctl validate planes.yaml
  choreoctl validate manifests/ --strict -o sarif
  choreoctl validate manifests/ --fix --dry-run client
  choreoctl validate manifests/ --release v0.17
  choreoctl validate --explain ca-pinned-leaf
  helm template . | choreoctl validate --crd crd.yaml -")]
pub struct Args {
    /// Manifests, folders with .yaml, .yml or .json files (also in subfolders), or - (standard input)
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<Input>,

    /// Alias of PATH (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,

    /// CRD to validate against, instead of the release's (can be repeated)
    #[arg(long = "crd", value_name = "FILE", value_hint = ValueHint::FilePath)]
    crds: Vec<Input>,

    /// Release to validate against: v0.17 (also for v0.15 and v0.16) or v1.2 (also for v1.0 and v1.1) [default: the latest
    /// that has the kind]
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["crds", "server"], add = ArgValueCandidates::new(complete::releases))]
    release: Option<Release>,

    /// Also validate on the API server, with a server-side dry run
    #[arg(long, conflicts_with = "crds")]
    server: bool,

    /// Exit 1 on warnings, too
    #[arg(long)]
    strict: bool,

    /// Apply unambiguous fixes to the files, keeping comments and layout
    #[arg(long)]
    fix: bool,

    /// Do not write: `client` and `server` both show what --fix would change
    #[arg(long, value_name = "HOW", default_value = "none", requires = "fix", hide_possible_values = true)]
    dry_run: DryRun,

    #[command(flatten)]
    at: AtArgs,

    #[command(flatten)]
    output: OutputArgs<Format>,

    /// List the rules
    #[arg(long)]
    list_rules: bool,

    /// Explain a rule, with examples
    #[arg(long, value_name = "RULE", value_parser = rule, add = ArgValueCandidates::new(complete::rules))]
    explain: Option<&'static Rule>,
}

fn rule(id: &str) -> Result<&'static Rule, String> {
    RULES.iter().find(|rule| rule.id == id).copied().ok_or_else(|| {
        let close = did_you_mean(&closest(id, RULES.iter().map(|rule| rule.id)));
        let question = close.map(|question| format!("{question} ")).unwrap_or_default();
        format!("there is no such rule: {question}use --list-rules to list all rules")
    })
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    if args.list_rules || args.explain.is_some() {
        return tell_rules(args.explain.filter(|_| !args.list_rules), args.output.format, term);
    }
    let inputs: Vec<_> = args.paths.iter().chain(&args.files).cloned().collect();
    if inputs.is_empty() {
        return Err(Refusal::NoManifest.into());
    }
    if args.fix && inputs.contains(&Input::Stdin) {
        return Err(Refusal::FixStdin.into());
    }
    let at = args.at.from(Timestamp::now());
    let cluster = if args.server { Some(session.connect().await?) } else { None };
    let validator = match (&cluster, args.release, args.crds.as_slice()) {
        (Some(_), ..) => Validator::of_server(at),
        (None, Some(release), _) => Validator::of_release(release, at),
        (None, None, []) => Validator::reference(at),
        (None, None, crds) => Validator::of_crds(read_crds(crds)?, at),
    };
    let files = manifest::list_inputs(&inputs, true).once();
    let mut run = Run::new(args.output.format, files.inputs.len(), term);
    files.missing.into_iter().for_each(|error| run.failed(&error.into()));
    for batch in batches(files.inputs) {
        let judged: Vec<_> = batch.into_par_iter().map(|input| judge_file(&validator, input)).collect();
        for (input, judged) in judged {
            run.advance();
            match judged {
                Ok(mut file) => {
                    if let Some(cluster) = &cluster {
                        file.ask_server(cluster, &validator).await?;
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
        resources.extend(Resource::all_of(&manifest)?);
    }
    Ok(resources)
}

/// Prints a rule in full, or all of them.
fn tell_rules(rule: Option<&Rule>, format: Format, term: &Term) -> anyhow::Result<Exit> {
    match (format, rule) {
        (Format::Text, Some(rule)) => term.print(&report::explanation(rule))?,
        (Format::Text, None) => {
            let row = |rule: &&Rule| {
                [rule.id, rule.severity.name(), rule.judge.name(), rule.about].map(str::to_owned).to_vec()
            };
            let header = ["RULE", "SEVERITY", "CATEGORY", "REQUIREMENT"];
            term.print(&render::columns(Some(&header), RULES.iter().map(row)))?;
        }
        (Format::Json, Some(rule)) => term.line(&json_text(&report::rule(rule))?)?,
        (Format::Json, None) => {
            term.line(&json_text(&RULES.iter().map(|rule| report::rule(rule)).collect::<Vec<_>>())?)?;
        }
        (Format::Sarif, _) => term.line(&json_text(&render::sarif::log(&[]))?)?,
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{files, parse, session};
    use crate::plane::{DEFAULT_KIND, Release};
    use crate::validate::CrdError;

    #[tokio::test]
    async fn what_cannot_be_validated_is_refused() {
        for (words, hint) in
            [(&[] as &[&str], "choreoctl validate FILE"), (&["-", "--fix"], "write it to a file first")]
        {
            let error = run(parse(words).unwrap(), &session()).await.unwrap_err();
            assert_eq!(error.downcast_ref::<Refusal>().unwrap().hint().unwrap(), hint);
        }
        assert!(parse::<Args>(&["--server", "--crd", "x"]).unwrap_err().contains("cannot be used with"));
        assert!(parse::<Args>(&["--dry-run", "client"]).unwrap_err().contains("--fix"));
    }

    #[test]
    fn a_misspelt_rule_has_a_similar_one() {
        let id = RULES[0].id;
        assert_eq!(rule(id).unwrap().id, id);
        let error = rule(&format!("{id}s")).unwrap_err();
        assert!(
            error.contains(&format!("did you mean {id}")) && error.ends_with("use --list-rules to list all rules"),
            "{error}"
        );
    }

    #[test]
    fn a_crd_is_read_and_another_object_is_none() {
        let (_folder, inputs) =
            files(&[("crd.yaml", &DEFAULT_KIND.crd(Release::V0).unwrap()), ("other.yaml", "kind: Secret\n")]);
        assert_eq!(read_crds(&inputs[..1]).unwrap().len(), 1);
        assert!(read_crds(&inputs[1..]).err().unwrap().is::<CrdError>());
    }
}
