//! `choreoctl restart`: restart the agent, wait until it has reconnected, and say which certificate it presents.

use clap::Args as ClapArgs;
use jiff::Timestamp;
use serde_json::json;

use super::steps::Steps;
use super::waiting::deadline;
use crate::args::{ChangeArgs, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, TextFormat, unless_swapped};
use crate::plan::{Clusters, Restart, Status};
use crate::plane::DryRun;
use crate::term::Exit;

/// Restart the agent, and wait until it has reconnected
///
/// Restarts the agent's Deployment as `kubectl rollout restart` does, waits until the new pods run and one of them has
/// reconnected, and reports the certificate that they present. An agent reads its certificate only when it starts: if the
/// certificate in its Secret would be refused, the command names the planes and the reason, and asks for confirmation.
///
/// With -o json, each step is an object: time, step (restart, reconnect, certificate), status (done, skipped, failed) and
/// message; the step `certificate` also has subject, sha256, notAfter and pods.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl restart shared-builder --plane-context build
  choreoctl restart cwp/default --plane-context build --timeout 2m
  choreoctl restart shared-builder --plane-context build --dry-run server")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    #[command(flatten)]
    build: PlaneClusterArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let (control, build, key) = args.build.connect_to_write(&args.plane, session).await?;
    let plane = unless_swapped(&control, Some(&build), control.plane(&key.name).await).await?;
    let clusters = Clusters { control: &control, build: &build.cluster };
    let restart = Restart {
        namespace: build.namespace(key.kind.family).to_owned(),
        plane,
        mark: Timestamp::now().to_string(),
        dry_run: args.change.dry_run,
        deadline: deadline(args.change.timeout),
    };
    let check = restart.check(clusters).await?;
    check.objections.iter().for_each(|objection| term.warn(objection));
    if !check.objections.is_empty() && args.change.dry_run == DryRun::None {
        term.confirm(&format!("restart the agent of plane {key}, which may not reconnect"), args.change.yes)?;
    }
    let mut steps = Steps::new(term, args.output.format);
    let result = restart.run(clusters, &check.agent, &mut steps).await;
    let result = result.map(|presented| {
        if let Some(presented) = presented {
            let certificate = &presented.certificate;
            let fields = json!({
                "subject": certificate.subject, "sha256": certificate.sha256, "notAfter": certificate.not_after,
                "pods": presented.pods,
            });
            steps.report("certificate", Status::Done, &presented.to_string(), fields);
        }
    });
    steps.conclude(result)
}
