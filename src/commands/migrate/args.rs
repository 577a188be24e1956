//! The flags of `choreoctl migrate`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum as _, ValueHint};

use crate::args::{ChangeArgs, ChartArgs, ControlArgs, NamespaceArgs, PlaneClusterArgs, TextFormat};
use crate::gateway::GatewayUrl;
use crate::manifest::Input;
use crate::plan::migrate::Stage;
use crate::plane::PlaneName;

/// The options of a migration in clusters.
const OF_CLUSTERS: [&str; 13] = [
    "until",
    "wait",
    "records",
    "gateway_url",
    "install",
    "chart",
    "chart_version",
    "values",
    "control_namespace",
    "namespace",
    "plane_context",
    "plane_kubeconfig",
    "plane_namespace",
];

/// Migrate planes from OpenChoreo v0.17 to v1.0 and later
///
/// With -f it migrates manifests, and rewrites them in place unless --out-dir names a folder: build planes become workflow planes, in every plane secretRef becomes secretKeyRef, and
/// references to planes are updated in Workflows, roles, labels and Kustomize targets. Comments, layout and order are kept.
/// What must be changed by hand is reported with its line, and then the exit code is 1.
///
/// Without -f it migrates the planes of a control plane in three stages; the control plane's release decides which can run.
/// `prepare`, before the control plane's upgrade, saves the fields that the CRDs of v1.0 drop to --out-dir (the record),
/// writes new manifests and Helm values, and lists what breaks, with exit code 1. `switch`, after the upgrade, creates new
/// planes, restores Secret references, replaces the agents and waits until they are connected. `cleanup` deletes the old
/// planes. A second run changes nothing that is correct, and continues where the last was interrupted.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl migrate -f manifests/ -R --dry-run client
  choreoctl migrate -f manifests/ -R -o migrated
  choreoctl migrate --plane-context build --out-dir migration --until prepare
  choreoctl migrate --plane-context build --out-dir migration --install --wait
  choreoctl migrate cbp/shared --out-dir migration --until cleanup")]
pub struct Args {
    /// Planes to migrate [default: all planes of all kinds]
    #[arg(value_name = "NAME|TYPE/NAME", conflicts_with = "files")]
    pub names: Vec<PlaneName>,

    #[command(flatten)]
    pub namespace: NamespaceArgs,

    /// Manifest, folder of manifests, or - for standard input (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with_all = OF_CLUSTERS)]
    pub files: Vec<Input>,

    /// With -f, include manifests in subfolders
    #[arg(short = 'R', long, requires = "files")]
    pub recursive: bool,

    /// Short for --out-dir; `text` and `json` mean --output, and name no folder
    #[arg(short = 'o', value_name = "DIR|FORMAT", value_hint = ValueHint::DirPath)]
    short: Vec<String>,

    /// With -f, folder for the migrated manifests [default: rewrite them in place]; without -f, folder for the record, the
    /// new manifests and the Helm values
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, value_parser = out_dir)]
    pub out_dir: Option<PathBuf>,

    /// With -f and --out-dir, overwrite existing files in the folder
    #[arg(long, requires = "files")]
    pub force: bool,

    /// Format of the report
    #[arg(long, value_name = "FORMAT")]
    pub output: Option<TextFormat>,

    #[command(flatten)]
    pub clusters: Clusters,

    #[command(flatten)]
    pub change: ChangeArgs,

    #[command(flatten)]
    pub build: PlaneClusterArgs,
}

/// What only a migration in clusters takes.
#[derive(ClapArgs, Debug)]
pub struct Clusters {
    /// Last stage [default: as far as the control plane's release allows; before it deletes, `cleanup` asks]
    #[arg(long, value_name = "STAGE")]
    pub until: Option<Stage>,

    /// Wait until the control plane has been upgraded, then run `switch`
    #[arg(long)]
    pub wait: bool,

    /// Dump, folder or manifest with dropped fields that the record lacks (can be repeated)
    #[arg(long = "record", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub records: Vec<Input>,

    /// URL at which agents connect to the gateway, to detect its release
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent)]
    pub gateway_url: Option<GatewayUrl>,

    #[command(flatten)]
    pub chart: ChartArgs,

    #[command(flatten)]
    pub control: ControlArgs,
}

/// Everywhere else `-o` is the format of the output.
fn out_dir(word: &str) -> Result<PathBuf, String> {
    match TextFormat::from_str(word, true) {
        Ok(_) => Err(format!("--output {word} is the format; a folder of this name is ./{word}")),
        Err(_) => Ok(word.into()),
    }
}

impl Args {
    /// Sorts the words of `-o`: a format, or a folder.
    pub fn settle(&mut self) {
        for word in std::mem::take(&mut self.short) {
            match TextFormat::from_str(&word, true) {
                Ok(format) => self.output = Some(format),
                Err(_) => self.out_dir = Some(word.into()),
            }
        }
    }

    pub fn format(&self) -> TextFormat {
        self.output.unwrap_or(TextFormat::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::parse;

    #[test]
    fn a_word_of_o_is_a_format_or_a_folder() {
        let settled = |words: &[&str]| {
            let mut args: Args = parse(words).unwrap();
            args.settle();
            (args.format(), args.out_dir)
        };
        assert_eq!(settled(&[]), (TextFormat::Text, None));
        assert_eq!(settled(&["-o", "json", "--out-dir", "d"]), (TextFormat::Json, Some("d".into())));
        assert_eq!(settled(&["-f", "x", "-o", "d", "-o", "json"]), (TextFormat::Json, Some("d".into())));
        assert_eq!(settled(&["-o", "./json"]), (TextFormat::Text, Some("./json".into())));
        assert!(parse::<Args>(&["--out-dir", "json"]).unwrap_err().contains("a folder of this name is ./json"));
    }

    #[test]
    fn manifests_and_clusters_are_migrated_apart() {
        for words in [&["a"][..], &["--until", "switch"], &["--plane-context", "c"], &["-n", "n"], &["--record", "f"]] {
            let error = parse::<Args>(&[&["-f", "x"], words].concat()).unwrap_err();
            assert!(error.contains("cannot be used with"), "{error}");
        }
        for words in [["-R"], ["--force"]] {
            assert!(parse::<Args>(&words).unwrap_err().contains("--filename"));
        }
    }
}
