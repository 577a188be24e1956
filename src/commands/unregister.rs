//! `choreoctl unregister`: remove a plane and what was registered for it, in both clusters.

use anyhow::Context as _;
use clap::Args as ClapArgs;

use super::helm::Helm;
use super::remembered::forget;
use super::steps::Steps;
use super::waiting::deadline;
use crate::args::{ChangeArgs, ControlArgs, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, TextFormat};
use crate::cluster::{Cluster, StoredSecret};
use crate::doctor::lockout;
use crate::plan::{self, Clusters, Inventory, Item, Observer as _, Status, Unregister};
use crate::plane::Side;
use crate::term::Exit;
use crate::text::visible;

/// Remove a plane and the objects that `bootstrap` created for it
///
/// Reverses `bootstrap`: removes the agent's ConfigMap and Secrets (with --helm also its Helm release), the namespace if
/// `bootstrap` created it and it is otherwise empty, the plane, and the Secret with its CA in the control plane. It shows
/// first what it removes, and what it keeps because other planes use it. Files are kept. A second run continues an interrupted run.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl unregister shared-builder --plane-context build --dry-run client
  choreoctl unregister shared-builder --plane-context build --helm")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    /// Uninstall the agent's Helm release with helm, instead of printing the command
    #[arg(long)]
    helm: bool,

    /// Keep the Secrets that hold a CA
    #[arg(long)]
    keep_ca: bool,

    #[command(flatten)]
    control: ControlArgs,

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
    let clusters = Clusters { control: &control, build: &build.cluster };
    let plan = Unregister {
        control_namespace: args.control.control_namespace.clone(),
        build_namespace: build.namespace(key.kind.family).to_owned(),
        key,
        keep_ca: args.keep_ca,
        helm: args.helm,
        dry_run: args.change.dry_run,
        deadline: deadline(args.change.timeout),
    };
    let inventory = plan::inventory(clusters, &plan).await?;
    let titles = [(Side::Control, control.target().title()), (Side::Build, build.cluster.target().title())];
    term.note(&preview(&inventory, &titles));
    // Only a remark: what can't be listed is not worth an error.
    let reported = lockout::of_delete(&control, inventory.plane.as_slice()).await;
    reported.iter().flatten().for_each(|reported| term.warn(reported));
    if plan.dry_run.stores() {
        term.confirm(&format!("unregister {}", visible(&plan.key.to_string())), args.change.yes)?;
    }
    let mut steps = Steps::new(term, args.output.format);
    let result = match uninstall(&args, &plan, &inventory, clusters, &mut steps).await {
        Ok(()) => plan::remove(clusters, &plan, &mut steps).await,
        error => error,
    };
    let exit = steps.conclude(result)?;
    // Without Helm it is to be run again.
    if exit == Exit::Done && plan.dry_run.stores() && (plan.helm || inventory.releases.is_empty()) {
        forget(session, &control, &plan.key).await?.iter().for_each(|reported| term.note(reported));
    }
    Ok(exit)
}

/// What is removed from which cluster, and what stays.
fn preview(inventory: &Inventory, titles: &[(Side, String); 2]) -> String {
    let line = |item: &Item| match &item.stays {
        None => format!("  {}", item.title),
        Some(why) => format!("  {}: {why}", item.title),
    };
    let part = |verb: &str, stay: bool, (side, title): &(Side, String)| {
        let lines: Vec<_> = inventory.of(stay).filter(|item| item.side == *side).map(line).collect();
        (!lines.is_empty()).then(|| format!("this {verb} in {title}:\n{}", lines.join("\n")))
    };
    let parts = titles.iter().flat_map(|title| [part("is removed", false, title), part("is kept", true, title)]);
    parts.flatten().collect::<Vec<_>>().join("\n")
}

/// Uninstalls the agent's Helm release, or says how to.
async fn uninstall(
    args: &Args,
    plan: &Unregister,
    inventory: &Inventory,
    clusters: Clusters<'_>,
    steps: &mut Steps<'_>,
) -> anyhow::Result<()> {
    steps.begin("helm", "the agent's Helm release");
    for release in &inventory.releases {
        let helm = Helm::uninstall(release, &plan.build_namespace, args.change.timeout);
        let helm = helm.in_cluster(clusters.build.target());
        if !plan.helm {
            let reported = format!("run: {}, then run this command again to remove the remaining objects", helm.line());
            steps.outcome("helm", Status::Skipped, &reported);
            continue;
        }
        if plan.dry_run.stores() {
            steps.give_way();
            let result = match helm.run() {
                Ok(()) => is_gone(clusters.build, release, &plan.build_namespace).await,
                error => error,
            };
            result.context("the agent's Helm release was not uninstalled")?;
        }
        let reported = format!("Helm release {} uninstalled{}", visible(release), plan.dry_run.suffix());
        steps.outcome("helm", Status::Done, &reported);
    }
    let others = inventory.of(true).filter(|item| item.step == "helm");
    let others: Vec<_> = if inventory.releases.is_empty() { others.collect() } else { Vec::new() };
    for Item { title, stays, .. } in &others {
        let why = stays.as_deref().unwrap_or_default();
        steps.outcome("helm", Status::Skipped, &format!("{title} is kept: {why}"));
    }
    if others.is_empty() && inventory.releases.is_empty() {
        steps.outcome("helm", Status::Found, "no Helm release of the agent is there");
    }
    Ok(())
}

/// With `--ignore-not-found` Helm reports success for a release that it could not read, too (v3, action/uninstall.go).
async fn is_gone(build: &Cluster, release: &str, namespace: &str) -> anyhow::Result<()> {
    let is_record =
        |secret: &StoredSecret| secret.label("owner") == Some("helm") && secret.label("name") == Some(release);
    let has_record = build.secrets(namespace).await?.iter().any(is_record);
    let has_agent = build.agents(namespace).await?.iter().any(|agent| agent.release.as_deref() == Some(release));
    anyhow::ensure!(
        !has_record && !has_agent,
        "helm reported success, but Helm release {} still exists; run this command again",
        visible(release)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::plane::{DEFAULT_KIND, DryRun, PlaneKey};
    use serde_json::json;

    #[tokio::test]
    async fn a_release_that_helm_left_is_an_error() {
        let record = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n",
            "name": "sh.helm.release.v1.r.v1", "labels": {"owner": "helm", "name": "r"}}});
        let cluster = Fake::of([record]).cluster();
        is_gone(&cluster, "other", "n").await.unwrap();
        let left = is_gone(&cluster, "r", "n").await.unwrap_err().to_string();
        assert!(left.contains("Helm release r still exists"), "{left}");
    }

    #[tokio::test]
    async fn what_goes_and_what_stays_is_shown_by_cluster() {
        let plane = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
            "metadata": {"name": "a"}, "spec": {"planeID": "a", "clusterAgent": {"clientCA": {
                "secretRef": {"namespace": "n", "name": "mine", "key": "ca.crt"}}}}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        let (control, build) = (Fake::of([plane]).cluster(), Fake::of([namespace]).cluster());
        let plan = Unregister {
            key: PlaneKey { kind: DEFAULT_KIND, namespace: None, name: "a".into() },
            control_namespace: "c".into(),
            build_namespace: "n".into(),
            keep_ca: false,
            helm: false,
            dry_run: DryRun::Client,
            deadline: None,
        };
        let inventory = plan::inventory(Clusters { control: &control, build: &build }, &plan).await.unwrap();
        let titles = [(Side::Control, "one".to_owned()), (Side::Build, "two".to_owned())];
        snapbox::assert_data_eq!(
            preview(&inventory, &titles),
            snapbox::str![[r#"
this is removed in one:
  ClusterBuildPlane a
this is kept in one:
  Secret n/mine: bootstrap did not create it
this is kept in two:
  Namespace n: choreoctl did not create it
"#]]
        );
    }
}
