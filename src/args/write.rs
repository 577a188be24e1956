//! How a change is made, what new files are like, and how results are printed.

use std::path::PathBuf;

use clap::builder::EnumValueParser;
use clap::{Args, ValueEnum, ValueHint};

use crate::pki::{Folder, KeyAlgorithm};
use crate::plane::{DryRun, Span};

/// `-o` of commands that write objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    Yaml,
    Json,
    Name,
}

/// `-o` of commands that report something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    Text,
    Json,
}

/// The format of a result. Its default is `text`; a verb with another one changes the argument.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputArgs<F: ValueEnum + Send + Sync + 'static> {
    /// How to print it
    #[arg(id = "output", short = 'o', long, value_name = "FORMAT", value_parser = EnumValueParser::<F>::new(), default_value = "text")]
    pub format: F,
}

#[derive(Args, Clone, Copy, Debug)]
pub struct DryRunArgs {
    /// How far to go
    #[arg(long, value_name = "HOW", default_value = "none")]
    dry_run: DryRun,
}

/// How a change is made that is confirmed first and awaited afterwards.
#[derive(Args, Clone, Copy, Debug)]
pub struct ChangeArgs {
    #[command(flatten)]
    how_far: DryRunArgs,

    /// Longest time to wait; 0 for no limit
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Span,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

impl ChangeArgs {
    pub fn dry_run(&self) -> DryRun {
        self.how_far.dry_run
    }
}

/// How planes are written.
#[derive(Args, Clone, Copy, Debug)]
pub struct WriteArgs {
    /// Print the object
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,

    #[command(flatten)]
    how_far: DryRunArgs,

    /// Wait until it is connected
    #[arg(long)]
    pub wait: bool,

    /// With --wait, longest time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Span,
}

impl WriteArgs {
    pub fn dry_run(&self) -> DryRun {
        self.how_far.dry_run
    }
}

/// The key of a new certificate.
#[derive(Args, Clone, Copy, Debug)]
pub struct KeyArgs {
    /// Algorithm of new private keys
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    pub key_algorithm: KeyAlgorithm,
}

/// The lifetime of a new certificate.
#[derive(Args, Clone, Copy, Debug)]
pub struct ValidityArgs {
    /// How long the certificate is valid
    #[arg(long, value_name = "DURATION", default_value = "1y")]
    pub valid_for: Span,
}

/// Where new files go.
#[derive(Args, Clone, Debug)]
pub struct NewFilesArgs {
    /// Folder for the new files
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

impl NewFilesArgs {
    /// The folder, or another one where none is given.
    pub fn folder(&self, otherwise: impl FnOnce() -> PathBuf) -> Folder {
        Folder::new(&self.out_dir.clone().unwrap_or_else(otherwise))
    }
}
