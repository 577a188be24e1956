//! `choreoctl apply`: make the cluster's planes what manifests say, by server-side apply.

use std::collections::BTreeMap;

use clap::{Args as ClapArgs, ValueHint};
use serde::Deserialize as _;
use serde_json::Value;

use super::{error_text, object_name, print_objects, without_managed_fields};
use super::{sharing, wait};
use crate::args::{Session, WriteArgs, place, read_manifests};
use crate::cluster::{self, Change, Cluster};
use crate::doctor::lockout;
use crate::manifest::{Input, Manifest, objects, parse, to_yaml, without_nulls};
use crate::pki::BundleError;
use crate::plane::{DryRun, OBSERVABILITY_KIND, Plane};
use crate::render;
use crate::term::{Exit, Term};
use crate::text::{shell_quoted, visible};
use crate::validate::{Severity, judge};

/// Apply manifests of build planes
///
/// A server-side apply under the field manager choreoctl, which takes over what create or a client-side kubectl apply
/// set. Manifests are validated before anything is sent. A field that somebody else owns is a conflict.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl apply -f planes.yaml
  choreoctl apply -f planes/ -R --wait
  choreoctl create a --client-ca-file ca.crt --dry-run client -o yaml | choreoctl apply -f -")]
pub struct Args {
    #[command(flatten)]
    inputs: InputArgs,

    #[command(flatten)]
    write: WriteArgs,

    /// Take fields over from other managers
    #[arg(long)]
    force_conflicts: bool,

    /// Apply it although agents that are connected now are then refused
    #[arg(long)]
    allow_lockout: bool,
}

/// Manifests to write.
#[derive(ClapArgs, Debug)]
pub struct InputArgs {
    /// Manifest, folder of manifests, or - for standard input (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", required = true, value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,

    /// Take manifests in folders below the folder, too
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Why something is not sent.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{}: {source}", visible(.file))]
    Bundle { file: String, source: BundleError },
    #[error("agents would be locked out, so nothing was sent")]
    Lockout,
    #[error("the manifest is invalid, so nothing was sent")]
    Invalid,
    #[error("the manifests are invalid, so nothing was sent")]
    InvalidFiles { command: String },
    #[error("only ClusterBuildPlanes are applied, and there is {kinds}; nothing was sent")]
    OtherKinds { kinds: String, command: String },
    #[error("the plane at {place} has no name, and what is applied must have one")]
    NoName { place: String },
    #[error("{} stands twice, in {first} and in {second}", visible(.name))]
    Twice { name: String, first: String, second: String },
}

impl Refusal {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle { source: BundleError::PrivateKey, .. } => {
                Some("give the CA's certificate (ca.crt) alone: a key never goes into a plane".into())
            }
            Self::Bundle { .. } => Some("certificates are taken in PEM, in DER, or in base64 of either".into()),
            Self::InvalidFiles { command, .. } | Self::OtherKinds { command, .. } => Some(command.clone()),
            Self::Twice { .. } => Some("leave one of them out".into()),
            Self::Lockout => Some(
                "put the new CA beside the old one until the agents present the new certificate (`choreoctl certs rotate` does all of it), or add --allow-lockout".into(),
            ),
            Self::NoName { .. } => Some("write metadata.name".into()),
            Self::Invalid => None,
        }
    }
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let Session { term, .. } = session;
    let manifests = args.inputs.read(session, "kubectl apply")?;
    if args.write.dry_run == DryRun::Client {
        report(&args, term, &manifests.iter().map(|manifest| (manifest.clone(), "applied")).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let cluster = session.connect_to_write().await?;
    let locked_out = tell_lockout(&cluster, &manifests, term).await;
    if locked_out && args.write.dry_run == DryRun::None && !args.allow_lockout {
        if !term.asks() {
            return Err(Refusal::Lockout.into());
        }
        term.confirm("apply it all the same", false)?;
    }
    let (mut done, mut written, mut exit) = (Vec::new(), Vec::new(), Exit::Done);
    for manifest in &manifests {
        match cluster.apply(manifest, args.force_conflicts, args.write.dry_run).await {
            Ok(mut applied) => {
                without_managed_fields(&mut applied.after);
                if applied.change != Change::Unchanged {
                    written.extend(Plane::deserialize(&applied.after));
                }
                done.push((applied.after, applied.change.word()));
            }
            Err(error) => {
                let alone = error.is_about_one_object();
                let error =
                    anyhow::Error::new(error).context(format!("could not apply {}", object_name(name(manifest))));
                if !alone {
                    report(&args, term, &done)?;
                    return Err(error);
                }
                exit = Exit::Failed;
                term.error(&error_text(&error));
            }
        }
    }
    report(&args, term, &done)?;
    sharing::warn(&cluster, &written, term).await;
    if exit == Exit::Failed {
        return Ok(exit);
    }
    let names = manifests.iter().map(|manifest| name(manifest).to_owned()).collect();
    wait::if_asked(&args.write, &cluster, names, term).await
}

/// Says whom planes lock out once they are applied; whether anybody.
pub async fn tell_lockout(cluster: &Cluster, manifests: &[Value], term: &Term) -> bool {
    let planes: Vec<Plane> = manifests.iter().filter_map(|manifest| Plane::deserialize(manifest).ok()).collect();
    match lockout::of_apply(cluster, &planes).await {
        Ok(told) => {
            told.iter().for_each(|told| term.warn(told));
            !told.is_empty()
        }
        // Where that kind isn't there, or nobody answers, applying says so better.
        Err(error @ cluster::Error::Forbidden { .. }) => {
            term.warn(&format!("whether agents are locked out can't be told: {error}"));
            false
        }
        Err(_) => false,
    }
}

fn report(args: &Args, term: &Term, done: &[(Value, &str)]) -> anyhow::Result<()> {
    match args.write.output {
        Some(format) => print_objects(term, &done.iter().map(|(object, _)| object.clone()).collect::<Vec<_>>(), format),
        None => done.iter().try_for_each(|(object, word)| {
            term.line(&format!("{} {word}{}", object_name(name(object)), args.write.dry_run.suffix()))
        }),
    }
}

pub fn name(manifest: &Value) -> &str {
    manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

impl InputArgs {
    /// The planes in the files, valid and with what the releases require filled in. `other_kinds` is the command that
    /// is proposed for objects of other kinds.
    ///
    /// # Errors
    /// [`Refusal`] before anything is sent: invalid, of another kind, or the same plane twice.
    pub fn read(&self, session: &Session, other_kinds: &str) -> anyhow::Result<Vec<Value>> {
        let Session { term, options } = session;
        let files = read_manifests(&self.files, self.recursive)?;
        let flags: String = self.files.iter().map(|file| format!(" -f {}", path_word(file))).collect();
        refuse_other_kinds(&files, || options.command(&format!("{other_kinds}{flags}")))?;
        let (mut errors, mut planes, mut places) = (String::new(), Vec::new(), BTreeMap::new());
        for file in &files {
            let mut findings = judge(file).findings;
            findings.retain(|finding| finding.rule.severity == Severity::Error);
            errors.push_str(&render::snippet::findings(file, &findings));
            for object in objects(file) {
                if object.name().is_empty() && errors.is_empty() {
                    return Err(Refusal::NoName { place: place(file, object) }.into());
                }
                if let Some(first) =
                    places.insert(object.name(), place(file, object)).filter(|_| !object.name().is_empty())
                {
                    return Err(
                        Refusal::Twice { name: object.name().into(), first, second: place(file, object) }.into()
                    );
                }
                planes.push(fill_in(without_nulls(object.node.to_json()), term));
            }
        }
        if errors.is_empty() {
            return Ok(planes);
        }
        term.error(errors.trim_end());
        let paths: String = self.files.iter().map(|file| format!(" {}", path_word(file))).collect();
        Err(Refusal::InvalidFiles { command: format!("choreoctl validate{paths}") }.into())
    }
}

fn path_word(input: &Input) -> String {
    match input {
        Input::Stdin => "-".into(),
        Input::Path(path) => shell_quoted(&path.to_string_lossy()).into_owned(),
    }
}

fn refuse_other_kinds(files: &[Manifest], command: impl Fn() -> String) -> Result<(), Refusal> {
    let others: Vec<_> = files
        .iter()
        .flat_map(|file| objects(file).into_iter().map(move |object| (file, object)))
        .filter(|(_, object)| !object.is_plane())
        .collect();
    let named = others.iter().take(3).map(|(file, object)| {
        let kind = if object.kind().is_empty() { "something without a kind" } else { object.kind() };
        format!("{} in {}", visible(kind), place(file, *object))
    });
    let mut kinds = named.collect::<Vec<_>>().join(", ");
    match others.len() {
        0 => return Ok(()),
        count @ 4.. => kinds.push_str(&format!(" and {} more", count - 3)),
        _ => {}
    }
    Err(Refusal::OtherKinds { kinds, command: command() })
}

/// Writes what the reference leaves out by default and the releases' CRDs require.
fn fill_in(mut plane: Value, term: &Term) -> Value {
    let name = name(&plane).to_owned();
    if let Some(spec) = plane.get_mut("spec").and_then(Value::as_object_mut) {
        if spec.get("planeID").is_none_or(Value::is_null) {
            term.note(&format!("{}: planeID is left out and written as {}", visible(&name), visible(&name)));
            spec.insert("planeID".into(), name.into());
        }
        if let Some(reference) = spec.get_mut("observabilityPlaneRef").and_then(Value::as_object_mut)
            && reference.get("kind").is_none_or(Value::is_null)
        {
            reference.insert("kind".into(), OBSERVABILITY_KIND.into());
        }
    }
    // What the server writes is no part of what is wanted.
    if let Some(object) = plane.as_object_mut() {
        object.shift_remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["managedFields", "creationTimestamp", "generation", "selfLink", "namespace"] {
                metadata.shift_remove(field);
            }
        }
    }
    plane
}

/// Validates an object that was made here.
pub fn check_manifest(manifest: &Value, term: &Term) -> anyhow::Result<()> {
    let file = parse("the plane".into(), to_yaml(manifest)?);
    let mut findings = judge(&file).findings;
    findings.retain(|finding| finding.rule.severity == Severity::Error);
    if findings.is_empty() {
        return Ok(());
    }
    term.error(render::snippet::findings(&file, &findings).trim_end());
    Err(Refusal::Invalid.into())
}
