//! `choreoctl migrate`: from OpenChoreo v0.17 to v1.0 and later, in manifests or on a running platform.

mod args;
mod clusters;
mod files;
mod folder;

pub use args::Args;

use crate::args::Session;
use crate::term::Exit;

pub async fn run(mut args: Args, session: &Session) -> anyhow::Result<Exit> {
    args.settle();
    anyhow::ensure!(
        !args.force || args.out_dir.is_some(),
        "--force replaces files of a folder: name it with --out-dir"
    );
    if args.files.is_empty() { clusters::run(&args, session).await } else { files::run(&args, session) }
}
