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
    /// Output format
    #[arg(id = "output", short = 'o', long, value_name = "FORMAT", value_parser = EnumValueParser::<F>::new(), default_value = "text")]
    pub format: F,
}

/// How a change is made that is confirmed first and awaited afterwards.
#[derive(Args, Clone, Copy, Debug)]
pub struct ChangeArgs {
    /// Change nothing, and show what would be written; with `server` the API server checks it
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub dry_run: DryRun,

    /// Longest time to wait; 0 means no limit
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Span,

    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// The chart of an agent, and whether Helm is run.
#[derive(Args, Clone, Debug)]
pub struct ChartArgs {
    /// Install or upgrade the agent's chart with helm, instead of printing the command
    #[arg(long)]
    pub install: bool,

    /// Helm chart of the agent [default: that of the plane's kind]
    #[arg(long, value_name = "CHART")]
    pub chart: Option<String>,

    /// Version of the chart [default: 0.17.0 or 1.2.3, by the control plane's release]
    #[arg(long, value_name = "VERSION")]
    pub chart_version: Option<String>,

    /// File with additional Helm values (can be repeated)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub values: Vec<PathBuf>,
}

/// How planes are written.
#[derive(Args, Clone, Copy, Debug)]
pub struct WriteArgs {
    /// Print the objects in this format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,

    /// Change nothing, and show what would be written; with `server` the API server checks it
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub dry_run: DryRun,

    /// Wait until the plane is connected
    #[arg(long)]
    pub wait: bool,

    /// With --wait, longest time to wait; 0 means no limit
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub timeout: Span,
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
    /// Validity of the certificate
    #[arg(long, value_name = "DURATION", default_value = "1y")]
    pub valid_for: Span,
}

/// Where new files go.
#[derive(Args, Clone, Debug)]
pub struct NewFilesArgs {
    /// Folder for the new files
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
}

impl NewFilesArgs {
    /// The folder, or another one where none is given.
    pub fn folder(&self, otherwise: impl FnOnce() -> PathBuf) -> Folder {
        Folder::new(&self.out_dir.clone().unwrap_or_else(otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::parse;

    #[test]
    fn a_change_is_made_asked_about_and_awaited_by_default() {
        let change: ChangeArgs = parse(&[]).unwrap();
        assert_eq!((change.dry_run, change.timeout.seconds(), change.yes), (DryRun::None, 300, false));
        let change: ChangeArgs = parse(&["--dry-run", "server", "--timeout", "0", "-y"]).unwrap();
        assert_eq!((change.dry_run, change.timeout.seconds(), change.yes), (DryRun::Server, 0, true));
        let write: WriteArgs = parse(&["--dry-run=client", "-o", "name"]).unwrap();
        assert_eq!((write.dry_run, write.output, write.wait), (DryRun::Client, Some(ObjectFormat::Name), false));
    }

    #[test]
    fn a_format_that_the_verb_has_not_is_refused_with_those_it_has() {
        assert_eq!(parse::<OutputArgs<TextFormat>>(&[]).unwrap().format, TextFormat::Text);
        assert_eq!(parse::<OutputArgs<TextFormat>>(&["-ojson"]).unwrap().format, TextFormat::Json);
        let error = parse::<OutputArgs<TextFormat>>(&["-o", "yaml"]).unwrap_err();
        assert!(error.contains("'yaml' for '--output <FORMAT>'") && error.contains("text, json"), "{error}");
    }

    #[test]
    fn new_files_go_to_the_folder_that_is_named() {
        let files: NewFilesArgs = parse(&["--out-dir", "a"]).unwrap();
        assert_eq!((files.folder(|| "b".into()).path(), files.force), ("a".as_ref(), false));
        let files: NewFilesArgs = parse(&["--force"]).unwrap();
        assert_eq!((files.folder(|| "b".into()).path(), files.force), ("b".as_ref(), true));
    }

    #[test]
    fn new_certificates_have_the_usual_key_and_lifetime() {
        assert_eq!(parse::<KeyArgs>(&[]).unwrap().key_algorithm.name(), "ecdsa-p256");
        assert_eq!(parse::<ValidityArgs>(&[]).unwrap().valid_for.seconds(), 365 * 86400);
        assert!(parse::<ValidityArgs>(&["--valid-for", "soon"]).unwrap_err().contains("--valid-for <DURATION>"));
    }
}
