//! A migration on a running platform, stage by stage.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::time::Instant;

use super::args::Args;
use super::folder::{Folder, read, values_file};
use crate::args::{PlaneCluster, Session, TextFormat, unless_swapped};
use crate::cluster::{Cluster, Right};
use crate::commands::helm::Helm;
use crate::commands::refusals::Refusal;
use crate::commands::steps::Steps;
use crate::commands::waiting::deadline;
use crate::manifest::to_yaml;
use crate::migration::{Record, documents};
use crate::plan::migrate::{
    Commands, DEFAULT_PLANE_FILE, Look, Meant, Old, PLANES_FILE, Prepared, Problem, RECORD_FILE, Running, Seen, Stage,
    Swap, WORKFLOWS_FILE, connected, finish, leftovers, look, old_planes, pending, prepare, problems, right, rights,
    running, write_planes,
};
use crate::plan::{self, Clusters, Observer as _, Status};
use crate::plane::{DEFAULT_KIND, DryRun, Plane, PlaneKey, Release, Side, State};
use crate::render;
use crate::term::Exit;
use crate::text::{count, program, shell_quoted, shown, visible};

/// How often a control plane that is awaited is looked at.
const EVERY: Duration = Duration::from_secs(1);

pub async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let folder = args.out_dir.as_deref().ok_or(Refusal::NoFolder)?;
    let control = session.connect().await?;
    let meant = Meant { names: args.names.clone(), namespace: args.namespace.given() };
    // The agents of other kinds are not replaced.
    let is_meant = |key: &PlaneKey| key.kind.family.has_argo() && meant.means(key);
    let named = args.build.connect(session).await?;
    let build = args.build.of_configured(session, &control, named, is_meant).await?;
    session.term.note(&format!(
        "control plane in {}{}",
        control.target().title(),
        build.as_ref().map(|build| format!(", agents in {}", build.cluster.target().title())).unwrap_or_default()
    ));
    let mut steps = Steps::new(&session.term, args.format());
    steps.yes = args.change.yes;
    steps.dry_run = args.change.dry_run != DryRun::None;
    let words: Vec<_> = std::env::args().skip(1).map(|word| shell_quoted(&word).into_owned()).collect();
    steps.resume =
        Some(program(&format!("the migration is unfinished\ncontinue: choreoctl {}", words.join(" "))).into());
    let mut run = Run {
        args,
        session,
        control: &control,
        build: build.as_ref(),
        folder: Folder::new(folder, args.change.dry_run),
        path: folder,
        meant,
        steps,
        agreed: false,
        awaited: BTreeSet::new(),
        exit: Exit::Done,
    };
    let result = run.stages().await;
    let exit = run.exit;
    Ok(run.steps.conclude(result)?.and(exit))
}

/// What is known at a moment.
struct Known {
    seen: Seen,
    record: Record,
    prepared: Prepared,
}

struct Run<'r> {
    args: &'r Args,
    session: &'r Session,
    control: &'r Cluster,
    build: Option<&'r PlaneCluster>,
    folder: Folder<'r>,
    path: &'r Path,
    meant: Meant,
    steps: Steps<'r>,
    /// Whether the switch was agreed to before the upgrade.
    agreed: bool,
    /// The planeIDs whose agents this run has seen connected.
    awaited: BTreeSet<String>,
    exit: Exit,
}

impl Run<'_> {
    async fn stages(&mut self) -> anyhow::Result<()> {
        let until = self.args.clusters.until;
        let mut known = self.look().await?;
        self.prepare(&known)?;
        let goes_on = until != Some(Stage::Prepare) && known.seen.running.is_late();
        self.report(&known, goes_on)?;
        if !goes_on {
            self.write(&known, false, &[]).await?;
            if until == Some(Stage::Prepare) || !self.upgraded(&known).await? {
                return Ok(());
            }
            known = self.look().await?;
        }
        self.exit = Exit::Done;
        known = self.switch(known).await?;
        if !self.problems(&known).is_empty() {
            self.exit = Exit::No;
        }
        if until == Some(Stage::Switch) { Ok(()) } else { self.cleanup(&known).await }
    }

    fn place(&self) -> Look<'_> {
        let Args { clusters, .. } = self.args;
        Look {
            control: self.control,
            control_namespace: &clusters.control.control_namespace,
            build: self.build.map(|build| (&build.cluster, build.named())),
            gateway_url: clusters.gateway_url.as_ref(),
            limit: self.session.patience(),
        }
    }

    /// Reads both clusters and the record.
    async fn look(&mut self) -> anyhow::Result<Known> {
        let Args { clusters, .. } = self.args;
        self.steps.begin("look", "both clusters");
        let seen = unless_swapped(self.control, self.build, look(&self.place()).await).await?;
        let mut record = self.folder.record(self.control.identity().await)?;
        record.update(&seen.objects, seen.is_pruned());
        if !clusters.records.is_empty() {
            record.fill_in(&read(&clusters.records)?);
        }
        let prepared = prepare(&seen, &record, clusters.gateway_url.as_ref(), &self.meant)?;
        if let Some(name) = self.meant.missing(&prepared.changes).next() {
            let control = self.control.of_kind(name.kind.unwrap_or(DEFAULT_KIND));
            return Err(control.no_plane(name.as_str()).into());
        }
        Ok(Known { seen, record, prepared })
    }

    /// Writes the record first, and then what is made of it.
    fn prepare(&mut self, known: &Known) -> anyhow::Result<()> {
        let Known { seen, record, prepared } = known;
        self.steps.give_way();
        let agents =
            seen.agents.as_ref().map(|agents| format!(", {}", count(agents.len(), "agent"))).unwrap_or_default();
        let release = match seen.running.release {
            Some((release, by)) => format!("the control plane's release is OpenChoreo {}, {by}", release.span()),
            None => "the control plane's release is unknown: name the gateway with --gateway-url".into(),
        };
        self.steps.outcome("look", Status::Found, &format!("{release}; {}{agents}", count(seen.planes.len(), "plane")));
        seen.unread.iter().for_each(|text| self.session.term.warn(text));
        self.file("record", RECORD_FILE, &record.text()?, &format!("{} as they were", count(record.len(), "object")))?;
        self.file(
            "manifests",
            PLANES_FILE,
            &prepared.planes,
            &format!("{} for v1.0", count(prepared.changes.len(), "plane")),
        )?;
        if !prepared.moved.is_empty() {
            let text = documents(prepared.moved.iter().map(|moved| &moved.manifest))?;
            self.file(
                "manifests",
                WORKFLOWS_FILE,
                &text,
                &format!("{} with references", count(prepared.moved.len(), "Workflow")),
            )?;
        }
        if let Some(plane) = &prepared.default_plane {
            self.file("manifests", DEFAULT_PLANE_FILE, &to_yaml(plane)?, "a copy of the plane, named default")?;
        }
        for swap in prepared.swaps.iter().filter(|swap| !swap.is_done) {
            let reported = format!("Helm values for {}", visible(&swap.agent.name.to_string()));
            self.file("values", &values_file(swap), &to_yaml(&swap.values)?, &reported)?;
        }
        Ok(())
    }

    fn file(&mut self, step: &'static str, name: &str, text: &str, holds: &str) -> anyhow::Result<()> {
        let is_new = self.folder.write(name, text)?;
        let status = if is_new { Status::Done } else { Status::Found };
        let suffix = if is_new { self.args.change.dry_run.suffix() } else { "" };
        self.steps.outcome(step, status, &format!("{} has {holds}{suffix}", shown(&self.folder.file(name))));
        Ok(())
    }

    fn problems(&self, known: &Known) -> Vec<Problem> {
        let folder = self.path.to_string_lossy();
        let commands = Commands {
            control: self.control.target(),
            build: self.build.map(|build| build.cluster.target()),
            folder: &shell_quoted(&folder),
        };
        problems(&known.seen, &known.record, &known.prepared, &self.meant, &commands)
    }

    /// Lists what breaks, but for what the next stage solves in this run.
    fn report(&mut self, known: &Known, goes_on: bool) -> anyhow::Result<()> {
        self.steps.give_way();
        let problems = self.problems(known);
        for problem in problems.iter().filter(|problem| !(goes_on && problem.is_solved_by_switch)) {
            self.exit = Exit::No;
            let line = match self.args.format() {
                TextFormat::Text => render::migration::problem(problem),
                TextFormat::Json => render::migration::problem_json(problem, Timestamp::now()).to_string() + "\n",
            };
            self.session.term.print(&line)?;
        }
        Ok(())
    }

    /// Creates planes, and where `restores`, gives others their CA again, after a yes to that and to the agents' replacement.
    async fn write(&mut self, known: &Known, restores: bool, swaps: &[&Swap]) -> anyhow::Result<()> {
        let changes = &known.prepared.changes;
        let agent = |swap: &&Swap| format!("replace the agent {}", visible(&swap.agent.name.to_string()));
        let words: Vec<_> = pending(changes, restores).into_iter().chain(swaps.iter().map(agent)).collect();
        if !words.is_empty() && self.args.change.dry_run.stores() {
            self.demand(&rights(changes, restores)).await?;
            self.steps.give_way();
            self.session.term.confirm(&words.join(", "), self.args.change.yes || self.agreed)?;
        }
        write_planes(self.control, changes, restores, self.args.change.dry_run, &mut self.steps).await
    }

    /// Fails where rights are missing, before anything is written.
    async fn demand(&self, needed: &[(Side, Right)]) -> Result<(), plan::Error> {
        let build = self.build.map_or(self.control, |build| &build.cluster);
        Clusters { control: self.control, build }.demand("migrate", needed).await
    }

    /// Waits for the control plane's upgrade where that is asked for, and says otherwise what comes next; whether it is done.
    async fn upgraded(&mut self, Known { seen, prepared, .. }: &Known) -> anyhow::Result<bool> {
        if !self.waits() {
            let reported =
                format!("{}; next: upgrade the control plane, then run this command again", old_release(seen.running));
            self.steps.outcome("switch", Status::Skipped, &reported);
            return Ok(false);
        }
        // Once the gateway is replaced, agents wait for every second that a question takes.
        let swaps = prepared.swaps.iter().filter(|swap| !swap.is_done && self.args.clusters.chart.install).count();
        let agents = if swaps == 0 { String::new() } else { format!(" and replace {}", count(swaps, "agent")) };
        let what =
            format!("migrate {}{agents} once the control plane is upgraded", count(prepared.changes.len(), "plane"));
        self.session.term.confirm(&what, self.args.change.yes)?;
        self.agreed = true;
        self.steps.begin("switch", "the control plane's upgrade");
        self.until(Running::is_late, old_release).await?;
        self.steps.outcome("switch", Status::Done, "the control plane's release is v1.0 or later");
        Ok(true)
    }

    fn waits(&self) -> bool {
        self.args.clusters.wait && self.args.change.dry_run.stores()
    }

    /// Waits until what runs is such.
    async fn until(
        &mut self,
        fits: impl Fn(Running) -> bool,
        reported: impl Fn(Running) -> String,
    ) -> anyhow::Result<()> {
        let until = deadline(self.args.change.timeout);
        loop {
            let running = running(&self.place(), &mut Vec::new()).await;
            if fits(running) {
                return Ok(());
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(plan::Error::TimedOut { waiting: reported(running) }.into());
            }
            self.steps.wait(&reported(running));
            tokio::time::sleep(EVERY).await;
        }
    }

    /// The stage in which planes and agents become those of v1.0; what is known after it.
    async fn switch(&mut self, known: Known) -> anyhow::Result<Known> {
        let Args { clusters, change, .. } = self.args;
        let swaps = &known.prepared.swaps;
        let pending: Vec<_> = swaps.iter().filter(|swap| !swap.is_done).collect();
        self.write(&known, true, if clusters.chart.install { &pending } else { &[] }).await?;
        self.steps.unfinished(change.dry_run.stores() && clusters.chart.install && !pending.is_empty());
        for swap in swaps {
            self.steps.begin("helm", "the agent's chart");
            let name = visible(&swap.agent.name.to_string()).into_owned();
            let helm = self.helm(swap)?;
            if swap.is_done {
                self.steps.outcome("helm", Status::Found, &format!("the release of agent {name} is v1.0 or later"));
            } else if clusters.chart.install {
                if change.dry_run.stores() {
                    // It may have got another certificate since the first look.
                    self.folder.write(&values_file(swap), &to_yaml(&swap.values)?)?;
                    self.steps.give_way();
                    let advice = "the chart was not replaced; if Helm reports a value that the new chart does not have, add a file with KEY: null with --values";
                    helm.run().context(advice)?;
                }
                let reported = format!("the chart of {name} is replaced{}", change.dry_run.suffix());
                self.steps.outcome("helm", Status::Done, &reported);
            } else {
                self.steps.outcome("helm", Status::Skipped, &format!("run: {}", helm.line()));
            }
        }
        // All are replaced before the first one is awaited: until then each is refused.
        if let Some(build) = self.build.filter(|_| change.dry_run.stores()) {
            let both = Clusters { control: self.control, build: &build.cluster };
            for swap in swaps.iter().filter(|swap| swap.is_done || clusters.chart.install) {
                connected(both, swap, !swap.is_done, deadline(change.timeout), &mut self.steps).await?;
                self.awaited.extend(swap.agent.plane_id.clone());
            }
        }
        if self.build.is_none() && known.prepared.changes.iter().any(|change| change.old != change.new) {
            let why =
                "the agents are in the planes' clusters: run the command once for each cluster, with --plane-context";
            self.steps.outcome("helm", Status::Skipped, why);
        }
        self.steps.unfinished(false);
        if change.dry_run.stores() { self.look().await } else { Ok(known) }
    }

    fn helm(&self, swap: &Swap) -> anyhow::Result<Helm> {
        let Args { clusters, .. } = self.args;
        let build = self.build.context("an agent without a cluster")?;
        let family = swap.plane.kind.family;
        let (chart, version) = (clusters.chart.chart.as_deref(), clusters.chart.chart_version.as_deref());
        let helm = Helm::replace(
            swap.agent.release.as_deref().unwrap_or(family.helm_release),
            chart.unwrap_or(family.chart),
            version.unwrap_or(Release::V1.chart_version()),
            &swap.agent.name.namespace,
        );
        // What choreoctl sets comes last, and wins.
        let files = clusters.chart.values.iter().cloned().chain([self.folder.file(&values_file(swap))]);
        let words = files.flat_map(|path: PathBuf| ["--values".to_owned(), path.to_string_lossy().into_owned()]);
        Ok(helm.with(words).in_cluster(build.cluster.target()))
    }

    /// The stage in which the old planes go.
    async fn cleanup(&mut self, known: &Known) -> anyhow::Result<()> {
        let Args { change, clusters, .. } = self.args;
        let insists = clusters.until == Some(Stage::Cleanup);
        let now = self.control.now();
        let awaited = &self.awaited;
        let is_connected = |new: &Plane| {
            insists || awaited.contains(new.plane_id()) || matches!(new.state(now), State::Connected | State::Late)
        };
        let old = old_planes(&known.seen, &self.meant, is_connected);
        match known.seen.running.keeps_old().filter(|_| !old.is_empty()) {
            Some(why) if self.waits() => {
                self.steps.begin("delete", "the old controller's end");
                let reported = |running: Running| running.keeps_old().unwrap_or(why).to_owned();
                self.until(|running| running.keeps_old().is_none(), reported).await?;
            }
            Some(why) if insists => return Err(Refusal::OldController { why }.into()),
            Some(why) => {
                self.steps.outcome("delete", Status::Skipped, &format!("the old planes are kept: {why}"));
                return Ok(());
            }
            None => {}
        }
        let goes = |old: &&Old| old.kept.is_none();
        let names: Vec<_> = old.iter().filter(goes).map(|old| old.plane.key().title()).collect();
        if !names.is_empty() && change.dry_run.stores() {
            let goes = old.iter().filter(goes).map(|old| old.plane.key());
            let needed: Vec<_> = goes.flat_map(|key| ["patch", "delete"].map(|verb| right(verb, &key))).collect();
            self.demand(&needed).await?;
            self.steps.give_way();
            let what = format!("delete {} in {}", names.join(", "), self.control.target().title());
            self.session.term.confirm(&what, change.yes)?;
        }
        finish(self.control, &old, change.dry_run, &mut self.steps).await?;
        self.steps.give_way();
        if !change.dry_run.stores() {
            return Ok(());
        }
        let seen = self.look().await?.seen;
        self.steps.give_way();
        if !seen.planes.iter().any(|plane| plane.kind.successor().is_some()) {
            self.steps.outcome("cleanup", Status::Found, "all old planes are deleted");
        }
        let build = self.build.map(|build| build.cluster.target());
        let lines = leftovers(&seen, &known.prepared.swaps, self.control.target(), build);
        if !lines.is_empty() {
            self.session.term.note(&program(&format!("left over:\n{}", lines.join("\n"))));
        }
        Ok(())
    }
}

/// Why the switch can't be made yet.
fn old_release(running: Running) -> String {
    match running.release {
        Some((release, _)) => format!("the control plane is of OpenChoreo {}", release.span()),
        None => "the control plane's release is unknown".into(),
    }
}
