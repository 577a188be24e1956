//! The registration of planes over both clusters: for each what is in its folder, the plan, Helm's values and Helm.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use super::args::{Args, folder, planned};
use super::folder::{at_hand, keys, there, url_of, write};
use crate::args::{PlaneCluster, Session, TextFormat};
use crate::cluster::Cluster;
use crate::commands::error_text;
use crate::commands::helm::{Helm, VALUES};
use crate::commands::steps::Steps;
use crate::commands::waiting::deadline;
use crate::manifest::to_yaml;
use crate::paint;
use crate::plan::{self, Bootstrap, Clusters, Given, Made, Observer as _, Status};
use crate::plane::{DryRun, Kind, Plane, Release};
use crate::render;
use crate::term::Exit;
use crate::text::{shown, visible};

/// What the registrations of all planes of one command have in common.
pub struct Registration<'r> {
    pub args: &'r Args,
    pub control: Cluster,
    pub build: PlaneCluster,
    /// The release that each kind is served of.
    pub releases: BTreeMap<&'static Kind, Release>,
    /// The CA that is brought along.
    pub given: Option<Given>,
    pub several: bool,
    pub session: &'r Session,
}

impl Registration<'_> {
    /// Says what would change, before anything does.
    pub async fn preview(&self, planes: &[Plane]) -> anyhow::Result<()> {
        for plane in planes {
            let control = self.control.around(&plane.key());
            let mut run = self.of(&control, plane.clone());
            (run.steps.dry_run, run.steps.preview, run.plan.dry_run) = (true, Some(Vec::new()), DryRun::Client);
            run.steps().await?;
            let name = if self.several { format!(" for {}", visible(&plane.key().to_string())) } else { String::new() };
            let changes: Vec<_> =
                run.steps.preview.iter().flatten().map(|line| format!("  {}", visible(line))).collect();
            let changes = if changes.is_empty() { "  nothing".to_owned() } else { changes.join("\n") };
            self.session.term.note(&format!("this will change{name}:\n{changes}"));
        }
        Ok(())
    }

    /// Registers the planes one after another. One of several that fails does not keep the others.
    pub async fn of_all(&self, planes: Vec<Plane>) -> anyhow::Result<Exit> {
        let term = &self.session.term;
        let is_table = self.several && self.args.output.format == TextFormat::Text;
        let mut results = Vec::new();
        for plane in planes {
            let name = plane.key().to_string();
            if is_table {
                term.line(&format!("{}:", paint::strong(&visible(&name))))?;
            }
            let control = self.control.around(&plane.key());
            let mut run = self.of(&control, plane);
            let result = run.steps().await;
            let result = run.steps.conclude(result);
            if !self.several {
                return result;
            }
            results.push(match result {
                Ok(Exit::Done) => (name, "registered".to_owned(), Exit::Done),
                Ok(exit) => (name, "registered, but its agent isn't connected".to_owned(), exit),
                Err(error) => {
                    term.error(&error_text(&error));
                    (name, format!("failed: {error}"), Exit::No)
                }
            });
        }
        if is_table {
            let row = |(name, reported, _): &(String, String, Exit)| {
                vec![visible(name).into_owned(), visible(reported).into_owned()]
            };
            term.print(&render::columns(Some(&["NAME", "RESULT"]), results.iter().map(row)))?;
        }
        let failed = results.iter().any(|(_, _, exit)| *exit != Exit::Done);
        Ok(if failed { Exit::No } else { Exit::Done })
    }

    fn of<'r>(&'r self, control: &'r Cluster, plane: Plane) -> Run<'r> {
        let release = self.releases.get(plane.kind).copied().unwrap_or(plane.kind.release());
        let mut steps = Steps::new(&self.session.term, self.args.output.format);
        steps.plane = self.several.then(|| plane.key().to_string());
        steps.yes = self.args.change.yes;
        steps.dry_run = self.args.change.dry_run != DryRun::None;
        Run {
            folder: folder(self.args, &plane, self.several),
            steps,
            plan: planned(self.args, plane, release, self.given.clone(), self.session),
            clusters: Clusters { control, build: &self.build.cluster },
            args: self.args,
        }
    }
}

/// One plane's way through the steps.
struct Run<'r> {
    args: &'r Args,
    plan: Bootstrap,
    clusters: Clusters<'r>,
    folder: Option<PathBuf>,
    steps: Steps<'r>,
}

impl Run<'_> {
    async fn steps(&mut self) -> anyhow::Result<()> {
        if let Some(folder) = &self.folder {
            let keys = keys(folder);
            plan::begin("certificates", &mut self.steps);
            (self.plan.authority, self.plan.pair) =
                at_hand(&keys, self.plan.plane.plane_id(), self.args.change.dry_run)?;
            self.steps.keys = Some(keys);
            let path = folder.join(VALUES);
            self.plan.values = Some((shown(&path), there(&path)));
            // One that was named before stays.
            if self.plan.gateway_url.is_none() {
                self.plan.gateway_url = url_of(folder);
            }
        }
        let made = plan::bootstrap(self.clusters, &self.plan, &mut self.steps).await?;
        self.values(&made)?;
        self.helm(&made).await?;
        let name = self.plan.plane.key().words();
        if self.plan.dry_run.stores() && (self.args.chart.install || self.args.wait) {
            return plan::authorized(
                self.clusters,
                &self.plan,
                &made,
                deadline(self.args.change.timeout),
                &mut self.steps,
            )
            .await;
        }
        if self.steps.preview.is_some() {
            return Ok(());
        }
        let wait = self.clusters.control.target().command(&format!("choreoctl wait {name} --for connected"));
        self.steps.outcome("wait", Status::Skipped, &format!("run, when the agent is installed: {wait}"));
        Ok(())
    }

    fn values(&mut self, made: &Made) -> anyhow::Result<()> {
        plan::begin("values", &mut self.steps);
        let Some(folder) = &self.folder else {
            self.steps.outcome(
                "values",
                Status::Skipped,
                "the helm command contains the values, because --out-dir is not set",
            );
            return Ok(());
        };
        let (path, text) = (folder.join(VALUES), to_yaml(&made.values)?);
        let reported = format!("values for the Helm chart are in {}", shown(&path));
        if there(&path).is_some_and(|there| there == text) {
            self.steps.outcome("values", Status::Found, &reported);
            return Ok(());
        }
        if self.plan.dry_run.stores() {
            write(folder, VALUES, &text)?;
        }
        self.steps.outcome("values", Status::Done, &format!("{reported}{}", self.args.change.dry_run.suffix()));
        Ok(())
    }

    async fn helm(&mut self, made: &Made) -> anyhow::Result<()> {
        plan::begin("helm", &mut self.steps);
        let helm = self.helm_command(made);
        if !self.args.chart.install {
            self.steps.outcome("helm", Status::Skipped, &format!("run: {}", helm.line()));
            return Ok(());
        }
        if self.steps.preview.is_some() {
            self.steps.outcome("helm", Status::Done, &helm.line());
            return Ok(());
        }
        if plan::installed(self.clusters, &self.plan, made, self.chart_version()).await? {
            self.steps.outcome("helm", Status::Found, "the agent runs with these values");
            return Ok(());
        }
        if self.plan.dry_run.stores() {
            self.steps.give_way();
            let advice = "the chart was not installed; if it asks for values, run this again with --values FILE";
            helm.run().context(advice)?;
        }
        self.steps.outcome(
            "helm",
            Status::Done,
            &format!("the chart is installed{}", self.args.change.dry_run.suffix()),
        );
        Ok(())
    }

    fn chart_version(&self) -> &str {
        self.args.chart.chart_version.as_deref().unwrap_or(self.plan.release.chart_version())
    }

    /// The command that installs the agent.
    fn helm_command(&self, made: &Made) -> Helm {
        let (args, plan) = (self.args, &self.plan);
        let helm = Helm::upgrade(
            plan.plane.kind.family,
            made.release.as_deref(),
            args.chart.chart.as_deref().unwrap_or(plan.plane.kind.family.chart),
            self.chart_version(),
            &plan.build_namespace,
        );
        // What choreoctl sets comes last, and wins.
        let values = args.chart.values.iter().map(|path| ["--values".to_owned(), path.to_string_lossy().into_owned()]);
        let mut words: Vec<_> = values.flatten().collect();
        match &self.folder {
            Some(folder) => words.extend(["--values".into(), folder.join(VALUES).to_string_lossy().into_owned()]),
            None => set(&made.values, "", &mut words),
        }
        helm.with(words).in_cluster(self.clusters.build.target())
    }
}

/// Values as Helm's command line takes them: a text that looks like a number stays a text.
fn set(values: &Value, path: &str, words: &mut Vec<String>) {
    match values {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                set(value, &path, words);
            }
        }
        Value::String(text) => {
            let escaped = text.replace('\\', "\\\\").replace(',', "\\,");
            words.extend(["--set-string".into(), format!("{path}={escaped}")]);
        }
        value => words.extend(["--set".into(), format!("{path}={value}")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_words_of_helm_and_a_text_stays_a_text() {
        let mut words = Vec::new();
        set(&json!({"a": {"b": "x,y\\z", "n": 1, "t": "1"}, "on": true}), "", &mut words);
        let pairs: Vec<_> = words.chunks(2).map(|pair| pair.join(" ")).collect();
        let expected = ["--set-string a.b=x\\,y\\\\z", "--set a.n=1", "--set-string a.t=1", "--set on=true"];
        assert_eq!(pairs, expected);
    }
}
