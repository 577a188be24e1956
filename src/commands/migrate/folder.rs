//! The folder of a migration: the record of what was there before, and what is made of it.

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::commands::refusals::Refusal;
use crate::files::{self, Existing, Rights};
use crate::manifest::{self, Input};
use crate::migration::Record;
use crate::plan::migrate::{RECORD_FILE, Swap};
use crate::plane::{DryRun, PlaneKey};
use crate::text::shown;

/// The folder of one control plane's migration.
pub struct Folder<'f> {
    path: &'f Path,
    dry_run: DryRun,
}

impl<'f> Folder<'f> {
    pub fn new(path: &'f Path, dry_run: DryRun) -> Self {
        Self { path, dry_run }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the record of a former run; an empty one where there is none.
    ///
    /// # Errors
    /// [`Refusal::OtherControlPlane`], and where the file can't be read.
    pub fn record(&self, control_plane: Option<String>) -> anyhow::Result<Record> {
        let path = self.file(RECORD_FILE);
        let mut known = if path.exists() { read(&[Input::Path(path)])? } else { Record::default() };
        if let (Some(known), Some(now)) = (&known.control_plane, &control_plane)
            && known != now
        {
            return Err(Refusal::OtherControlPlane { folder: shown(self.path) }.into());
        }
        known.control_plane = control_plane.or(known.control_plane);
        Ok(known)
    }

    /// Writes a file for the owner only, unless it is so already; returns whether it was, or would be, written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<bool> {
        let path = self.file(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(false);
        }
        if self.dry_run.stores() {
            let failed = || format!("could not write {}", shown(&path));
            let mut builder = DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(self.path).with_context(failed)?;
            files::write(&path, text, Rights::Owner, Existing::Replace).with_context(failed)?;
        }
        Ok(true)
    }
}

/// Reads manifests as a record.
pub fn read(inputs: &[Input]) -> anyhow::Result<Record> {
    let listed = manifest::list_inputs(inputs, true).once();
    listed.missing.into_iter().next().map_or(Ok(()), Err)?;
    let read = |input: &Input| {
        let manifest = manifest::parse(input.to_string(), manifest::read_text(input)?);
        manifest.sound().map(|()| manifest)
    };
    let manifests: Result<Vec<_>, manifest::Error> = listed.inputs.iter().map(read).collect();
    Ok(Record::of(&manifests?))
}

/// The name of the file of an agent's values.
pub fn values_file(swap: &Swap) -> String {
    let PlaneKey { namespace, name, .. } = &swap.plane;
    let namespace = namespace.as_ref().map(|namespace| format!("{namespace}-")).unwrap_or_default();
    format!("values-{namespace}{name}.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_one_control_plane_and_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let of = |dry_run| Folder::new(&path, dry_run);
        let record = of(DryRun::None).record(Some("one".into())).unwrap();
        assert!(of(DryRun::Client).write(RECORD_FILE, &record.text().unwrap()).unwrap() && !path.exists());
        assert!(of(DryRun::None).write(RECORD_FILE, &record.text().unwrap()).unwrap());
        assert!(!of(DryRun::None).write(RECORD_FILE, &record.text().unwrap()).unwrap());
        #[cfg(unix)]
        for (path, mode) in [(path.clone(), 0o700), (path.join(RECORD_FILE), 0o600)] {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(of(DryRun::None).record(Some("one".into())).unwrap(), record);
        assert_eq!(of(DryRun::None).record(None).unwrap(), record, "who may not read the identity");
        let error = of(DryRun::None).record(Some("other".into())).unwrap_err().to_string();
        assert!(error.ends_with("new holds the record of another control plane"), "{error}");
        std::fs::write(path.join(RECORD_FILE), "a: [").unwrap();
        assert!(of(DryRun::None).record(None).is_err(), "a record that can't be read is not written over");
    }
}
