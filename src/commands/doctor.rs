//! `choreoctl doctor`: find out why an agent isn't connected.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};
use rayon::prelude::*;

use super::diagnosis::DiagnosisArgs;
use super::error::{none_found, tell_missing};
use super::refusals::Refusal;
use super::source::read;
use crate::args::{OutputArgs, Session, SnapshotArgs, TextFormat, swapped};
use crate::cluster;
use crate::doctor::{
    self, CHECKS, Case, Checked, Gateway, GatewayReach, Gathered, Reach, Status, checks, explained, is_healthy,
    root_cause,
};
use crate::estate::Extent;
use crate::manifest::{Input, json_text};
use crate::pki::{self, Remaining};
use crate::plane::{Plane, closest, did_you_mean};
use crate::render;
use crate::render::checks::Diagnosed;
use crate::term::{Exit, Term};

/// Find out why an agent isn't connected
///
/// Reads the control plane and, with --plane-context, the plane's cluster. Asks the gateway as an agent does, without
/// being registered as one. Prints the failed checks and warnings (with -v all checks), then the verdict and one root
/// cause. It never writes. Exits 2 when an object that a check needs can't be read (even if a check
/// failed), else 1 when a check failed. A check that is skipped for another reason does not change the exit code.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl doctor
  choreoctl doctor shared-builder --plane-context build
  choreoctl doctor shared-builder --gateway-url wss://gateway.example.com:8443/ws --cert tls.crt --key tls.key
  choreoctl doctor -f dump.yaml
  choreoctl doctor --explain agent-trusted")]
pub struct Args {
    #[command(flatten)]
    diagnosis: DiagnosisArgs,

    /// Certificate to present to the gateway [default: from the agent's Secret]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "key", conflicts_with = "files")]
    cert: Option<PathBuf>,

    /// Private key of the certificate in --cert
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "cert")]
    key: Option<PathBuf>,

    /// Warn about certificates that expire within this time, or within this share of their lifetime
    #[arg(long, value_name = "DURATION|PERCENT", default_value = "30d")]
    expires_within: Remaining,

    /// Exit 1 on warnings, too
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    /// List the checks
    #[arg(long)]
    list_checks: bool,

    /// Explain a check, or an id in the output of `describe`, `status`, `forecast` or `certs inspect`
    #[arg(long, value_name = "CHECK", add = clap_complete::ArgValueCandidates::new(crate::complete::checks))]
    explain: Option<String>,

    #[command(flatten)]
    files: SnapshotArgs,

    /// File with the objects of the plane's cluster, if those in -f are only of the control plane (can be repeated)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath, requires = "files")]
    build_file: Vec<Input>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if args.list_checks || args.explain.is_some() {
        return tell_checks(&args, session);
    }
    let term = &session.term;
    if args.files.given() {
        args.diagnosis.refuse_clusters()?;
        let files = args.files.read(&args.build_file, term)?;
        let (gathered, missing, exit) = args.diagnosis.read_files(&files, args.expires_within, term).await?;
        return Ok(exit.and(conclude(&args, gathered, missing, term)?));
    }
    let control = session.connect().await?;
    let identity = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
        _ => None,
    };
    let choice = &args.diagnosis.choice;
    let (build, looked) = args.diagnosis.build().connect_while(session, choice.look(control.clone())).await?;
    let (lookup, failed) = match looked.map_err(anyhow::Error::downcast::<cluster::Error>) {
        Ok(lookup) => (lookup, None),
        Err(Ok(error)) => (choice.look_unasked(control.clone())?, Some(error)),
        Err(Err(error)) => return Err(error),
    };
    let reach = args.diagnosis.reach(&lookup, Gateway::Word, session);
    let gateway = reach.gateway.map(|gateway| GatewayReach { identity, ..gateway });
    let reach = Reach { gateway, soon: args.expires_within, ..reach };
    let chosen = match failed {
        None => choice.in_cluster(&lookup, Plane::without_history).await,
        Some(error) => Err(error),
    };
    let (gathered, missing, exit) = match chosen {
        Ok((planes, missing)) => {
            let extent = Extent(lookup.whole(choice.selector.as_ref(), &missing));
            let keys = planes.iter().map(Plane::key).collect();
            let fleet = args.diagnosis.build().groups(session, &control, build, keys).await?;
            (args.diagnosis.gather(&reach, planes, &extent, &fleet).await, missing, Exit::Done)
        }
        Err(error) => {
            if let Some(swapped) = swapped(&control, build.as_ref(), &error).await {
                return Err(swapped.into());
            }
            // The agent's side is shown all the same.
            let reach = Reach { build: build.as_ref().map(|build| (&build.cluster, build.agents_in())), ..reach };
            let gathered = doctor::gather_without_control(&reach, &lookup.named_keys(), &error).await;
            (gathered, vec![error.into()], Exit::Failed)
        }
    };
    Ok(exit.and(conclude(&args, gathered, missing, term)?))
}

/// Shows what the checks say, and how that ends.
fn conclude(args: &Args, gathered: Gathered, missing: Vec<anyhow::Error>, term: &Term) -> anyhow::Result<Exit> {
    let Gathered { ground: of_all, cases } = gathered;
    let ground = checks(&of_all, None);
    let is_named = !args.diagnosis.choice.names()?.is_empty();
    let is_table = args.output.format == TextFormat::Text && !is_named && cases.len() > 1;
    let diagnose = |case: Case| {
        let mut checked = checks(&of_all, Some(&case));
        if is_table {
            // Of thousands of planes only what is shown is kept.
            checked.retain(Checked::counts);
        }
        Diagnosed { key: case.facts.plane.key(), checked }
    };
    let planes: Vec<_> = cases.into_par_iter().map(diagnose).collect();
    let all = planes.iter().map(|plane| plane.checked.as_slice()).chain([ground.as_slice()]);
    let exit = all.map(|checked| exit_of(checked, args.strict)).fold(Exit::Done, Exit::and);
    match args.output.format {
        TextFormat::Json => {
            let healthy =
                missing.is_empty() && is_healthy(&ground) && planes.iter().all(|plane| is_healthy(&plane.checked));
            term.line(&json_text(&render::checks::json(&ground, &planes, healthy))?)?;
        }
        TextFormat::Text => match planes.as_slice() {
            [] if missing.is_empty() && root_cause(&ground).is_none() => none_found(term),
            [] => term.print(&render::checks::list(&ground, true))?,
            planes if is_table => {
                term.print(&render::checks::table(planes))?;
                let reported: Vec<_> = ground.into_iter().filter(|one| one.is_problem()).collect();
                if !reported.is_empty() {
                    term.print(&format!("\n{}", render::checks::list(&reported, true)))?;
                }
            }
            planes => {
                let pages: Vec<_> = planes.iter().map(|plane| render::checks::text(plane, term.is_verbose())).collect();
                term.print(&pages.join("\n"))?;
            }
        },
    }
    Ok(exit.and(tell_missing(&missing, term)))
}

fn exit_of(checked: &[Checked], strict: bool) -> Exit {
    let has = |status| checked.iter().any(|one| one.outcome.status == status);
    let failed = has(Status::Fail) || (strict && has(Status::Warn));
    let exit = if failed { Exit::No } else { Exit::Done };
    if checked.iter().any(|one| one.outcome.unknown) { exit.and(Exit::Failed) } else { exit }
}

/// What is shown to the gateway: certificates and the key that belongs to the first of them.
fn identity(certificate: &Path, key: &Path) -> anyhow::Result<(Vec<Vec<u8>>, String)> {
    let presented = pki::certificates(&read(certificate)?);
    anyhow::ensure!(!presented.is_empty(), "there is no certificate in {}", certificate.display());
    let text = read(key)?;
    let public = pki::PrivateKey::from_pem(&text).with_context(|| format!("could not use {}", key.display()))?;
    let public = public.public_key_info();
    let fits = pki::belong_together(&presented[0], &public);
    anyhow::ensure!(
        fits,
        "the key in {} does not belong to the certificate in {}",
        key.display(),
        certificate.display()
    );
    Ok((presented, text))
}

fn tell_checks(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let Some(id) = &args.explain else {
        let rows = CHECKS.iter().map(|check| [check.id, check.about].map(str::to_owned).to_vec());
        session.term.print(&render::columns(Some(&["CHECK", "REQUIREMENT"]), rows))?;
        return Ok(Exit::Done);
    };
    let all = explained();
    let Some(one) = all.iter().find(|one| one.id == id) else {
        let similar: Vec<_> = closest(id, all.iter().map(|one| one.id)).into_iter().map(str::to_owned).collect();
        return Err(Refusal::UnknownCheck { id: id.clone(), question: did_you_mean(&similar) }.into());
    };
    let needs = one.needs.join(", ");
    let needs = if needs.is_empty() {
        needs
    } else {
        format!("\n\nDepends on: {needs}. If a check on which it depends fails or has no result, it is skipped.")
    };
    session.term.line(&format!("{}: {}\n\n{}{needs}", one.id, one.about, one.why))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{authority, client};
    use crate::doctor::Outcome;

    #[test]
    fn failures_are_a_no_and_warnings_only_where_they_count() {
        let checked = |statuses: &[Status]| -> Vec<Checked> {
            let outcome =
                |status: &Status| Checked { check: &CHECKS[0], outcome: Outcome::reported(*status, "", None) };
            statuses.iter().map(outcome).collect()
        };
        assert_eq!(exit_of(&checked(&[]), true), Exit::Done);
        assert_eq!(exit_of(&checked(&[Status::Pass, Status::Fail]), false), Exit::No);
        assert_eq!(exit_of(&checked(&[Status::Warn]), false), Exit::Done);
        assert_eq!(exit_of(&checked(&[Status::Warn]), true), Exit::No);
        let mut unknown = checked(&[Status::Fail]);
        unknown[0].outcome.unknown = true;
        assert_eq!(exit_of(&unknown, false), Exit::Failed);
    }

    #[test]
    fn what_is_shown_to_the_gateway_belongs_together() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, ca, _) = authority();
        let (leaf, key) = client(&authority, "a");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (leaf, key, ca) = (file("tls.crt", &leaf), file("tls.key", &key), file("ca.crt", &ca));
        assert_eq!(identity(&leaf, &key).unwrap().0.len(), 1);
        for (certificate, key, why) in
            [(&ca, &key, "the key in "), (&key, &key, "there is no certificate in "), (&leaf, &ca, "could not use ")]
        {
            let error = identity(certificate, key).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn an_unknown_check_has_a_similar_one() {
        use crate::args::tests::{parse, session};
        let args: Args = parse(&["--explain", "agent-trustd"]).unwrap();
        let error = tell_checks(&args, &session()).unwrap_err().to_string();
        assert_eq!(error, "there is no check or id agent-trustd");
    }
}
