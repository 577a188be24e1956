//! `choreoctl certs rotate`: a new CA without an outage.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};

use crate::args::{
    ChangeArgs, KeyArgs, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, TextFormat, ValidityArgs, unless_swapped,
};
use crate::cluster::{Agent, Target};
use crate::commands::helm::{Helm, VALUES};
use crate::commands::source::{CA, new_pair, read, read_key};
use crate::commands::steps::Steps;
use crate::commands::waiting::deadline;
use crate::pki::{self, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder};
use crate::plan::{self, Clusters, Goal, Issuer, Keeper, Outlook, Phase, Rotation};
use crate::plane::{DryRun, Family, PlaneKey, Span};
use crate::term::{Exit, Term};
use crate::text::{shell_quoted, shown};

/// Replace a plane's CA and its agent's certificate without an outage
///
/// Works in three stages: all planes with the planeID trust the old CA and the new CA; the agent's Secret is replaced and
/// the agent is restarted; after the agent has reconnected, the old CA is removed from the planes. It reads its progress
/// from the clusters: run the command again to continue a rotation. It can also replace a pinned certificate by a CA.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("timeout", |timeout| timeout.default_value("10m")), after_help = "Examples:
  choreoctl certs rotate shared-builder --plane-context build
  choreoctl certs rotate shared-builder --plane-context build --to own --out-dir certs
  choreoctl certs rotate shared-builder --plane-context build --until stage
  choreoctl certs rotate shared-builder --plane-context build --rollback")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    #[command(flatten)]
    build: PlaneClusterArgs,

    /// Who issues the agent's certificate from now on [default: as now]
    #[arg(long, value_name = "WAY")]
    to: Option<Issuer>,

    /// How far to go
    #[arg(long, value_name = "STAGE", default_value = "finish")]
    until: Phase,

    /// Undo the rotation, as long as the old CA is trusted
    #[arg(long, conflicts_with_all = ["until", "to"])]
    rollback: bool,

    /// Folder for the new CA, its private key, and manifests of planes that another manager applies. Without it, the CA's
    /// private key is deleted at the end, and a new certificate needs another rotation
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Run helm if the agent's chart needs new values, instead of printing the command
    #[arg(long)]
    install: bool,

    /// With --install, Helm chart of the agent [default: that of the plane's kind]
    #[arg(long, value_name = "CHART")]
    chart: Option<String>,

    /// Version of the chart [default: that of the agent]
    #[arg(long, value_name = "VERSION")]
    chart_version: Option<String>,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    validity: ValidityArgs,

    /// Validity of the CA
    #[arg(long, value_name = "DURATION", default_value = "5y")]
    ca_valid_for: Span,

    /// Take ownership of fields from other field managers
    #[arg(long)]
    force_conflicts: bool,

    /// Rotate again although the CA is less than a day old
    #[arg(long)]
    again: bool,

    /// Overwrite an existing CA in --out-dir
    #[arg(long, requires = "out_dir")]
    force: bool,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let folder = args.out_dir.as_deref().map(Folder::new);
    if let Some(folder) = &folder {
        folder.check(&CA, true)?;
    }
    let (control, build, key) = args.build.connect_to_write(&args.plane, session).await?;
    let plane = unless_swapped(&control, Some(&build), control.plane(&key.name).await).await?;
    let clusters = Clusters { control: &control, build: &build.cluster };
    let rotation = Rotation {
        namespace: build.namespace(key.kind.family).to_owned(),
        plane,
        issuer: args.to,
        goal: if args.rollback { Goal::Back } else { Goal::Until(args.until) },
        key_algorithm: args.key.key_algorithm,
        valid_for: args.validity.valid_for,
        ca_valid_for: args.ca_valid_for,
        manifests: args.out_dir.is_some(),
        force_conflicts: args.force_conflicts,
        again: args.again,
        suffix: pki::random_suffix()?,
        dry_run: args.change.dry_run,
        deadline: deadline(args.change.timeout),
    };
    let mut keeper = Outside { args: &args, family: key.kind.family, folder, target: build.cluster.target() };
    if args.change.dry_run == DryRun::None {
        if !args.rollback {
            let outlook = plan::outlook(clusters, &rotation).await?;
            outlook.iter().for_each(|outlook| announce(&args, outlook, &keeper, term));
        }
        let name = &key;
        let question = match args.until {
            _ if args.rollback => format!("roll back the rotation of the CA of plane {name} and restart its agent"),
            Phase::Stage => format!("stage a new CA for plane {name}"),
            Phase::Switch | Phase::Finish => format!("rotate the CA of plane {name} and restart its agent"),
        };
        term.confirm(&question, args.change.yes)?;
    }
    let mut steps = Steps::new(term, args.output.format);
    steps.out_dir.clone_from(&args.out_dir);
    steps.resume = Some(resume(&args, &key, clusters, &rotation.namespace));
    let result = plan::rotate(clusters, &rotation, &mut keeper, &mut steps).await;
    let values = args.out_dir.as_ref().map(|folder| folder.join(VALUES)).filter(|values| values.exists());
    if let (Ok(()), Some(values)) = (&result, values) {
        let again = "run bootstrap again with --force, which writes the file again";
        term.warn(&format!("{} may name the former Secret: {again}", shown(&values)));
    }
    steps.conclude(result)
}

/// Says what becomes of the CA's key, and which command of Helm's the rotation needs, before it is confirmed.
fn announce(args: &Args, outlook: &Outlook, keeper: &Outside<'_>, term: &Term) {
    let key = match (&args.out_dir, outlook.issuer) {
        (Some(folder), _) => format!("is kept in {} once the rotation is finished", shown(folder)),
        (None, Issuer::CertManager) => "is kept in the Secret that cert-manager reads".to_owned(),
        (None, Issuer::Own) => {
            "is deleted at the end: without --out-dir the next certificate needs another rotation".to_owned()
        }
    };
    term.note(&format!("the new CA's key {key}"));
    if outlook.is_under_way {
        term.note("an unfinished rotation is continued");
    }
    if outlook.values.is_empty() {
        return;
    }
    let command = keeper.command(&outlook.agent, &outlook.values);
    let when = match (outlook.issuer, keeper.installs()) {
        _ if args.until == Phase::Stage => "before the rotation finishes, the agent's chart needs",
        (_, true) => "Helm is run with",
        (Issuer::CertManager, false) => "the rotation waits until you run this command (--install runs it)",
        (Issuer::Own, false) => "afterwards, run this command for the agent's chart (--install runs it)",
    };
    term.note(&format!("{when}: {command}"));
}

/// How to continue a rotation that ended before its end, and how to go back.
fn resume(args: &Args, key: &PlaneKey, clusters: Clusters<'_>, namespace: &str) -> String {
    let name = key.words();
    let namespace = format!(" --plane-namespace {}", shell_quoted(namespace));
    let (control, build) = (clusters.control.target(), clusters.build.target());
    let line = control.command(&format!("choreoctl certs rotate {name}")) + &build.plane_flags() + &namespace;
    let out_dir = args.out_dir.as_ref().map(|folder| format!(" --out-dir {}", shell_quoted(&folder.to_string_lossy())));
    let mut go_on = format!("{line}{}", out_dir.unwrap_or_default());
    for (flag, given) in [("install", args.install), ("force-conflicts", args.force_conflicts), ("force", args.force)] {
        if given {
            go_on.push_str(&format!(" --{flag}"));
        }
    }
    for (flag, value) in [("chart", args.chart.as_deref()), ("chart-version", args.chart_version.as_deref())] {
        if let Some(value) = value {
            go_on.push_str(&format!(" --{flag} {}", shell_quoted(value)));
        }
    }
    format!("the rotation is unfinished\ncontinue: {go_on}\nundo:     {line} --rollback")
}

/// Where the new CA is kept, and how Helm is run.
struct Outside<'r> {
    args: &'r Args,
    family: &'static Family,
    folder: Option<Folder>,
    target: &'r Target,
}

impl Outside<'_> {
    fn installs(&self) -> bool {
        self.args.install && !self.args.rollback
    }

    fn helm(&self, agent: &Agent, values: &[String]) -> Option<Helm> {
        let Args { chart, chart_version, .. } = self.args;
        let chart = chart.as_deref().unwrap_or(self.family.chart);
        let helm = Helm::of_agent(agent, self.family, chart, chart_version.as_deref())?;
        let values = values.iter().flat_map(|value| ["--set".to_owned(), value.clone()]);
        Some(helm.with(values).in_cluster(self.target))
    }
}

impl Keeper for Outside<'_> {
    fn install(&mut self, agent: &Agent, values: &[String]) -> anyhow::Result<bool> {
        if !self.installs() {
            return Ok(false);
        }
        let missing = "the agent's Deployment names no Helm release and version of its chart: name it with --chart-version, or run helm by hand";
        self.helm(agent, values).context(missing)?.run()?;
        Ok(true)
    }

    fn command(&self, agent: &Agent, values: &[String]) -> String {
        match self.helm(agent, values) {
            Some(helm) => helm.line(),
            None => format!("helm upgrade with --set {}", values.join(" --set ")),
        }
    }

    fn check(&self, ca: Option<&str>) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        // The CA of this rotation may stand there since a run that was cut off.
        let is_there = read(&folder.file(CA_CERTIFICATE)).is_ok_and(|there| Some(there.as_str()) == ca);
        Ok(folder.check(&CA, self.args.force || is_there)?)
    }

    fn keep(&mut self, ca: &str, key: &str) -> anyhow::Result<Option<String>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let there = |name, text: &str| read_key(&folder.file(name)).is_ok_and(|there| there.as_str() == text);
        if !there(CA_CERTIFICATE, ca) || !there(CA_PRIVATE_KEY, key) {
            self.check(Some(ca))?;
            folder.write(&new_pair(CA, ca, key), true)?;
        }
        Ok(Some(shown(folder.path())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::parse;
    use crate::cluster::Fake;
    use crate::plane::{DEFAULT_KIND, Kind};

    fn outside<'r>(folder: Option<&std::path::Path>, args: &'r Args, target: &'r Target) -> Outside<'r> {
        let family = DEFAULT_KIND.family;
        Outside { args, family, folder: folder.map(Folder::new), target }
    }

    #[tokio::test]
    async fn what_was_named_is_named_again_to_continue_and_not_to_go_back() {
        let cluster = Fake::default().cluster();
        let clusters = Clusters { control: &cluster, build: &cluster };
        let words = ["a", "--plane-context", "b", "--out-dir", "a b", "--install", "--chart-version", "1", "--force"];
        let key = PlaneKey { name: "a".into(), ..PlaneKey::default() };
        let text = resume(&parse(&words).unwrap(), &key, clusters, "ns");
        let lines: Vec<_> = text.lines().collect();
        let line = "choreoctl certs rotate a --plane-namespace ns";
        assert_eq!(
            lines,
            [
                "the rotation is unfinished".to_owned(),
                format!("continue: {line} --out-dir 'a b' --install --force --chart-version 1"),
                format!("undo:     {line} --rollback"),
            ]
        );
        let key = PlaneKey { kind: Kind::of_word("dp").unwrap(), namespace: Some("n".into()), name: "a".into() };
        let text = resume(&parse(&["dp", "a", "-n", "n"]).unwrap(), &key, clusters, "ns");
        assert!(text.contains("\ncontinue: choreoctl certs rotate dp/a -n n --plane-namespace ns\n"), "{text}");
    }

    #[test]
    fn a_ca_is_kept_once_and_another_one_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, usual) = (Target::default(), parse::<Args>(&["a"]).unwrap());
        let mut keeper = outside(Some(folder.path()), &usual, &target);
        keeper.check(None).unwrap();
        assert!(keeper.keep("ca", "key").unwrap().is_some());
        keeper.check(Some("ca")).unwrap();
        keeper.keep("ca", "key").unwrap();
        assert!(keeper.check(Some("other")).is_err() && keeper.keep("other", "key").is_err());
        let force = parse::<Args>(&["a", "--out-dir", "x", "--force"]).unwrap();
        let mut keeper = outside(Some(folder.path()), &force, &target);
        keeper.keep("other", "key").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(CA_CERTIFICATE)).unwrap(), "other");
    }

    #[test]
    fn without_a_folder_the_key_is_kept_nowhere() {
        let (target, args) = (Target::default(), parse::<Args>(&["a"]).unwrap());
        let mut keeper = outside(None, &args, &target);
        keeper.check(None).unwrap();
        assert_eq!(keeper.keep("ca", "key").unwrap(), None);
    }

    #[test]
    fn a_rollback_goes_nowhere_else() {
        assert!(parse::<Args>(&["a", "--rollback", "--until", "stage"]).unwrap_err().contains("cannot be used with"));
        assert!(parse::<Args>(&["a", "--force"]).unwrap_err().contains("--out-dir"));
        assert_eq!(parse::<Args>(&["a"]).unwrap().change.timeout.seconds(), 600);
    }
}
