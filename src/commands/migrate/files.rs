//! A migration of manifests, for Git.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::args::Args;
use crate::args::{Session, TextFormat};
use crate::commands::error_text;
use crate::commands::refusals::Refusal;
use crate::commands::replaced::{Reason, Replaced, replace};
use crate::manifest::{self, Input, Manifest, json_text};
use crate::migration::{Carried, Left, Survey, carry};
use crate::pki::StoreError;
use crate::plane::DryRun;
use crate::render;
use crate::term::{Exit, Term};
use crate::text::{count, program, shell_quoted, shown};

pub fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let listed = manifest::list_inputs(&args.files, args.recursive).once();
    listed.missing.into_iter().next().map_or(Ok(()), Err)?;
    let (mut read, mut exit) = (Vec::new(), Exit::Done);
    for input in listed.inputs {
        match manifest::read_text(&input) {
            Ok(text) => {
                let manifest = manifest::parse(input.to_string(), text);
                read.push((input, manifest));
            }
            // The other files are migrated all the same.
            Err(error) => {
                exit = Exit::Failed;
                term.error(&error_text(&error.into()));
            }
        }
    }
    let survey = Survey::of(read.iter().map(|(_, manifest)| manifest));
    let mut files: Vec<_> = read
        .into_iter()
        .map(|(input, before)| {
            let carried = carry(&before, &survey);
            let is_in_place = args.change.dry_run.stores() && args.out_dir.is_none() && input != Input::Stdin;
            let carried = if is_in_place { carried } else { carried.by_former_lines() };
            File { input, before, carried }
        })
        .collect();
    if args.change.dry_run.stores() {
        let targets = args.targets(&files)?;
        for (file, target) in files.iter_mut().zip(targets) {
            match file.write(target.as_deref(), term) {
                Ok(()) => {}
                Err(error) if file.input == Input::Stdin => return Err(error),
                Err(error) => {
                    exit = Exit::Failed;
                    term.error(&error_text(&error));
                }
            }
        }
    } else {
        let changed = files.iter().filter_map(|file| Some((&file.before, file.carried.after.as_ref()?)));
        let differences = changed.map(|(before, after)| render::diff::of_manifests(before, after, "migrated"));
        term.print(&differences.collect::<String>())?;
    }
    report(args, &files, term)?;
    let is_left = files.iter().any(|file| !file.carried.left.is_empty());
    Ok(if is_left { exit.and(Exit::No) } else { exit })
}

/// A file that was read, and what became of it.
struct File {
    input: Input,
    before: Manifest,
    carried: Carried,
}

impl File {
    /// Writes it to a file of the new folder, in place where there is none, or to standard output.
    fn write(&mut self, target: Option<&Path>, term: &Term) -> anyhow::Result<()> {
        let after = self.carried.after.as_ref();
        match (&self.input, target) {
            (Input::Stdin, _) => return term.bytes(after.unwrap_or(&self.before).text.as_bytes()),
            (Input::Path(_), Some(target)) => {
                let folder = target.parent().unwrap_or(target);
                std::fs::create_dir_all(folder).map_err(|source| match source.kind() {
                    ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                        StoreError::NotFolder { path: shown(folder) }
                    }
                    _ => StoreError::Write { path: shown(folder), source },
                })?;
                manifest::write(target, &after.unwrap_or(&self.before).text)?;
            }
            (Input::Path(path), None) => {
                let Some(after) = after else {
                    return Ok(());
                };
                match replace(path, &self.before.text, &after.text)? {
                    Replaced::Not(reason) => {
                        let message = format!("the file is not changed: {}", reason.text());
                        let help = match reason {
                            Reason::Encoding(_) => "migrate it with --out-dir, which writes plain UTF-8",
                            Reason::ReadOnly => "make it writable, or migrate it with --out-dir",
                            Reason::Changed => "migrate it again",
                        };
                        let help = help.into();
                        self.carried =
                            Carried { left: vec![Left { line: 1, former: 1, message, help }], ..Carried::default() };
                    }
                    replaced => replaced.warning(&self.before.file, "migrated").iter().for_each(|text| term.warn(text)),
                }
            }
        }
        Ok(())
    }
}

impl Args {
    /// Where each file goes below the new folder, if there is one: as it is below the outermost folder that was read.
    ///
    /// # Errors
    /// Before anything is written: the new folder is none, two files would be one, or one exists and differs.
    fn targets(&self, files: &[File]) -> anyhow::Result<Vec<Option<PathBuf>>> {
        if let Some(folder) = self.out_dir.as_deref().filter(|folder| folder.exists() && !folder.is_dir()) {
            return Err(StoreError::NotFolder { path: shown(folder) }.into());
        }
        let mut taken = BTreeMap::new();
        let mut targets = Vec::new();
        for File { input, before, carried } in files {
            let (Input::Path(path), Some(folder)) = (input, self.out_dir.as_deref()) else {
                targets.push(None);
                continue;
            };
            let roots = self.files.iter().filter_map(|root| match root {
                Input::Path(root) => path.strip_prefix(root).ok(),
                Input::Stdin => None,
            });
            let below = roots
                .filter(|below| below.components().next().is_some())
                .max_by_key(|below| below.components().count());
            let target = folder.join(below.or(path.file_name().map(Path::new)).unwrap_or(path));
            if let Some(first) = taken.insert(target.clone(), input.to_string()) {
                return Err(Refusal::Twice { name: shown(&target), first, second: input.to_string() }.into());
            }
            let text = &carried.after.as_ref().unwrap_or(before).text;
            let differs = || std::fs::read(&target).ok().as_deref() != Some(text.as_bytes());
            if !self.force && target.exists() && differs() {
                return Err(StoreError::Exists { path: shown(&target) }.into());
            }
            targets.push(Some(target));
        }
        Ok(targets)
    }
}

fn report(args: &Args, files: &[File], term: &Term) -> anyhow::Result<()> {
    let migrated: Vec<_> = files.iter().map(|file| (file.before.file.as_str(), &file.carried)).collect();
    let suffix = if args.change.dry_run.stores() { "" } else { DryRun::Client.suffix() };
    let report = match args.format() {
        TextFormat::Text => render::migration::text(&migrated, suffix),
        TextFormat::Json => json_text(&render::migration::json(&migrated))? + "\n",
    };
    if args.files.contains(&Input::Stdin) {
        term.error(report.trim_end());
    } else {
        term.print(&report)?;
    }
    let kept: usize = files.iter().map(|file| file.carried.kept).sum();
    if kept > 0 {
        let workflows = count(kept, "Workflow");
        term.note(&format!(
            "{workflows} with another plane than ClusterWorkflowPlane default: the API server never changes the reference \
             of a stored Workflow, so create it anew once v1.0 runs: kubectl replace --force -f FILE"
        ));
    }
    let changed = files.iter().any(|file| file.carried.after.is_some());
    if changed && args.change.dry_run.stores() && !args.files.contains(&Input::Stdin) {
        let written = args.out_dir.as_deref().map(|folder| vec![Input::Path(folder.to_owned())]);
        let mut seen = HashSet::new();
        let paths: String = written
            .as_ref()
            .unwrap_or(&args.files)
            .iter()
            .filter(|input| seen.insert(input.to_string()))
            .map(|path| format!(" {}", shell_quoted(&path.to_string())))
            .collect();
        term.note(&program(&format!("next: choreoctl validate{paths} --release v1.2")));
    }
    Ok(())
}
