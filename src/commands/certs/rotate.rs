//! `choreoctl certs rotate`: a new CA without an outage.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};
use clap_complete::ArgValueCandidates;

use super::super::steps::Steps;
use super::super::wait::deadline;
use super::{read, read_key};
use crate::args::{BuildArgs, DryRun, Session, TextFormat, unless_swapped};
use crate::complete;
use crate::pki::{CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, KeyAlgorithm, NewFile};
use crate::plan::{self, Keeper, Phase, Rotation, Way};
use crate::plane::{PlaneName, Span};
use crate::term::{Exit, visible};

/// Give a plane and its agent a new CA without an outage
///
/// Goes in three stages: the planes of the planeID trust the old CA and the new one, the agent's Secret is replaced and
/// the agent restarted, and once it is connected again the old CA leaves the planes. Where it stands is read from the
/// clusters: run it again after a cut, and it goes on. It also leads a plane from a pinned certificate to a CA.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl certs rotate shared-builder --build-context build
  choreoctl certs rotate shared-builder --build-context build --to own --out-dir certs
  choreoctl certs rotate shared-builder --build-context build --until stage
  choreoctl certs rotate shared-builder --build-context build --rollback")]
pub struct Args {
    /// Name of a plane
    #[arg(add = ArgValueCandidates::new(complete::planes))]
    name: PlaneName,

    #[command(flatten)]
    build: BuildArgs,

    /// Who issues the agent's certificate from then on; as it is now, unless given
    #[arg(long, value_name = "WAY")]
    to: Option<Way>,

    /// Last stage to go to
    #[arg(long, value_name = "STAGE", default_value = "finish")]
    until: Phase,

    /// Go back to what was before, as long as the old CA is trusted
    #[arg(long, conflicts_with_all = ["until", "to"])]
    rollback: bool,

    /// Folder that the new CA and its key are kept in, and manifests that another manager is to apply; without it the
    /// key is dropped in the end
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Kind of the new keys
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,

    /// How long the agent's certificate is valid
    #[arg(long, value_name = "DURATION", default_value = "1y")]
    valid_for: Span,

    /// How long the CA is valid
    #[arg(long, value_name = "DURATION", default_value = "5y")]
    ca_valid_for: Span,

    /// Take fields over from other managers
    #[arg(long)]
    force_conflicts: bool,

    /// Make another CA although the one there is was just made
    #[arg(long)]
    again: bool,

    /// Replace a CA that exists in --out-dir
    #[arg(long, requires = "out_dir")]
    force: bool,

    /// How far to go
    #[arg(long, value_name = "HOW", default_value = "none")]
    dry_run: DryRun,

    /// Longest time for all of it; 0 for no limit
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    timeout: Span,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: TextFormat,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let mut keeper = OutDir { folder: args.out_dir.as_deref().map(Folder::new), force: args.force };
    if let Some(folder) = &keeper.folder {
        folder.check(&[CA_CERTIFICATE, CA_PRIVATE_KEY], true)?;
    }
    let (control, build) = args.build.connect_to_write(session).await?;
    let plane = unless_swapped(&control, Some(&build), control.plane(args.name.as_str()).await).await?;
    if args.dry_run == DryRun::None {
        let verb = if args.rollback { "roll back the rotation of" } else { "rotate" };
        term.confirm(&format!("{verb} the CA of plane {} and restart its agent", args.name), args.yes)?;
    }
    let rotation = Rotation {
        control,
        build: build.cluster,
        namespace: build.namespace,
        plane,
        way: args.to,
        until: args.until,
        key_algorithm: args.key_algorithm,
        valid_for: args.valid_for,
        ca_valid_for: args.ca_valid_for,
        manifests: args.out_dir.is_some(),
        force_conflicts: args.force_conflicts,
        again: args.again,
        deadline: deadline(args.timeout),
    };
    let mut steps = Steps::new(term, args.output);
    steps.out_dir.clone_from(&args.out_dir);
    let result = plan::rotate(&rotation, args.rollback, args.dry_run.server(), &mut keeper, &mut steps).await;
    steps.conclude(result)
}

/// The folder that the new CA is kept in, where one is named.
struct OutDir {
    folder: Option<Folder>,
    force: bool,
}

impl Keeper for OutDir {
    fn check(&self, ca: Option<&str>) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        // The CA of this rotation may stand there since a run that was cut off.
        let is_there = read(&folder.file(CA_CERTIFICATE)).is_ok_and(|there| Some(there.as_str()) == ca);
        Ok(folder.check(&[CA_CERTIFICATE, CA_PRIVATE_KEY], self.force || is_there)?)
    }

    fn keep(&mut self, ca: &str, key: &str) -> anyhow::Result<Option<String>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let there = |name, text: &str| read_key(&folder.file(name)).is_ok_and(|there| there.as_str() == text);
        if !there(CA_CERTIFICATE, ca) || !there(CA_PRIVATE_KEY, key) {
            self.check(Some(ca))?;
            let files = [
                NewFile { name: CA_PRIVATE_KEY, content: key, secret: true },
                NewFile { name: CA_CERTIFICATE, content: ca, secret: false },
            ];
            folder.write(&files, true)?;
        }
        Ok(Some(visible(&folder.path().to_string_lossy()).into_owned()))
    }
}
