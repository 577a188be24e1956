//! How a change is made and how results are printed.

use clap::{Args, ValueEnum};

use crate::plane::{DryRun, Span};

/// `-o` of commands that write objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    Yaml,
    Json,
    Name,
}

/// `-o` of commands that tell something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    #[default]
    Text,
    Json,
}

/// What commands that write planes take beside the planes.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// Print the object
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,

    /// How far to go
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub dry_run: DryRun,

    /// Wait until it is connected
    #[arg(long)]
    pub wait: bool,

    /// With --wait, longest time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Span,
}
