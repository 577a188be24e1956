//! `choreoctl apply`: make the cluster's planes what manifests say, by server-side apply.

use clap::Args as ClapArgs;
use serde::Deserialize as _;
use serde_json::Value;

use super::manifests::InputArgs;
use super::objects::{name, object_name, report};
use super::refusals::Refusal;
use super::waiting::if_asked;
use super::{error_text, warnings};
use crate::args::{Session, WriteArgs};
use crate::cluster::Change;
use crate::plane::{DryRun, Plane, PlaneKey, without_managed_fields};
use crate::term::Exit;

/// Apply manifests of planes
///
/// Uses server-side apply with the field manager choreoctl, which takes ownership of fields that `create` or client-side
/// `kubectl apply` set. Manifests are validated before anything is sent. A field of another field manager is a conflict.
/// Sends nothing if connected agents would lose access, unless --allow-lockout is set.
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

    /// Take ownership of fields from other field managers
    #[arg(long)]
    force_conflicts: bool,

    /// Apply although connected agents would lose access
    #[arg(long)]
    allow_lockout: bool,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let Session { term, .. } = session;
    let read = args.inputs.read(session, "kubectl apply")?;
    if args.write.dry_run == DryRun::Client {
        let all: Vec<_> = read.planes.into_iter().map(|manifest| (manifest, "applied")).collect();
        report(term, &args.write, &all)?;
        return Ok(Exit::Done);
    }
    let cluster = session.connect_to_write().await?;
    args.inputs.refuse_other_release(&read, &cluster, session).await?;
    let manifests = read.planes;
    let around = |manifest: &Value| cluster.around(&PlaneKey::of_object(manifest));
    let locked_out = warnings::of_lockout(&cluster, &manifests, term).await;
    if locked_out && args.write.dry_run == DryRun::None && !args.allow_lockout {
        if !term.asks() {
            return Err(Refusal::Lockout.into());
        }
        term.confirm("apply the manifests anyway", false)?;
    }
    let (mut done, mut written, mut exit) = (Vec::new(), Vec::new(), Exit::Done);
    for manifest in &manifests {
        match around(manifest).apply(manifest, args.force_conflicts, args.write.dry_run).await {
            Ok(applied) => {
                let after = without_managed_fields(applied.after);
                if applied.change != Change::Unchanged {
                    written.extend(Plane::deserialize(&after));
                }
                done.push((after, applied.change.word()));
            }
            Err(error) => {
                let alone = error.is_about_one_object();
                let error = anyhow::Error::new(error)
                    .context(format!("could not apply {}", object_name(&PlaneKey::of_object(manifest))));
                if !alone {
                    report(term, &args.write, &done)?;
                    return Err(error);
                }
                exit = Exit::Failed;
                term.error(&error_text(&error));
            }
        }
    }
    report(term, &args.write, &done)?;
    warnings::of_sharing(&cluster, &written, term).await;
    if exit == Exit::Failed {
        return Ok(exit);
    }
    let planes = manifests.iter().map(|manifest| around(manifest).key(name(manifest))).collect();
    if_asked(&args.write, &cluster, planes, term).await
}
