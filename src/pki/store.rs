//! Certificates and keys in a folder: written whole or not at all, keys for their owner only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{self, Existing, Rights};
use crate::text::shown;

pub const CA_CERTIFICATE: &str = "ca.crt";
pub const CA_PRIVATE_KEY: &str = "ca.key";
pub const LEAF_CERTIFICATE: &str = "tls.crt";
pub const LEAF_PRIVATE_KEY: &str = "tls.key";
/// A request for a certificate, where its key stays.
pub const REQUEST: &str = "tls.csr";

/// Keeps keys, also those that were replaced, out of version control.
const IGNORED: NewFile<'_> = NewFile { name: GITIGNORE, content: "*.key*\n.choreoctl-*\n", secret: false };
const GITIGNORE: &str = ".gitignore";
/// What is put behind the name of a file that was replaced.
const OLD: &str = "old";
/// Files on their way: a folder of this prefix that is not finished, and the one that is.
const UNFINISHED: &str = ".choreoctl-new-";
const FINISHED: &str = ".choreoctl-next";
/// The second name of a file that is about to be replaced.
const BESIDE: &str = ".choreoctl-old";

/// Why files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} exists already")]
    Exists { path: String },
    #[error("{path} is not a folder")]
    NotFolder { path: String },
    #[error("{path} is a folder, but a file must be written there")]
    NotFile { path: String },
    #[error("{path} is a symbolic link, and keys are not written through links")]
    Symlink { path: String },
    #[error("{path} belongs to another user, who could read or replace keys in it")]
    NotOwned { path: String },
    #[error("could not write {path}")]
    Write { path: String, source: io::Error },
}

impl StoreError {
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Exists { .. } => "name another --out-dir, or add --force to replace it",
            Self::NotFolder { .. } | Self::NotFile { .. } | Self::Symlink { .. } => "name a folder with --out-dir",
            Self::NotOwned { .. } => "use a folder that belongs to you with --out-dir",
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "name a folder that you can write to with --out-dir"
            }
            Self::Write { .. } => return None,
        };
        Some(hint.into())
    }
}

/// A file to be written.
pub struct NewFile<'a> {
    pub name: &'a str,
    pub content: &'a str,
    /// Whether only its owner may read it.
    pub secret: bool,
}

/// A folder for certificates and keys.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        // Without the slash at the end, which would lead through a link.
        Self { path: path.components().collect() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Fails where one of the files is already, before anything is made for them; first finishes what an earlier run
    /// was cut off in.
    pub fn check(&self, names: &[&str], force: bool) -> Result<(), StoreError> {
        self.settle()?;
        self.vacant(names, force)
    }

    fn vacant(&self, names: &[&str], force: bool) -> Result<(), StoreError> {
        self.refuse_foreign()?;
        for path in names.iter().map(|name| self.file(name)) {
            match path.symlink_metadata() {
                Ok(there) if there.is_symlink() => return Err(StoreError::Symlink { path: shown(&path) }),
                Ok(_) if !force => return Err(StoreError::Exists { path: shown(&path) }),
                _ => {}
            }
            if let Some(path) = [&path, &old(&path)].into_iter().find(|path| path.is_dir()) {
                return Err(StoreError::NotFile { path: shown(path) });
            }
        }
        Ok(())
    }

    /// Fails where the folder is a link or somebody else's, who would decide what becomes of a key.
    pub fn refuse_foreign(&self) -> Result<(), StoreError> {
        let path = shown(&self.path);
        match self.path.symlink_metadata() {
            Ok(there) if there.is_symlink() => Err(StoreError::Symlink { path }),
            Ok(there) if !there.is_dir() => Err(StoreError::NotFolder { path }),
            #[cfg(unix)]
            Ok(there) if std::os::unix::fs::MetadataExt::uid(&there) != rustix::process::geteuid().as_raw() => {
                Err(StoreError::NotOwned { path })
            }
            _ => Ok(()),
        }
    }

    /// Writes the files, all of them or none: a new folder appears with all of them in it, and in one that is there they
    /// stand finished beside their places before the first of them is put there. What they replace is kept as `*.old`.
    pub fn write(&self, files: &[NewFile<'_>], force: bool) -> Result<(), StoreError> {
        let _writing = files::writing();
        let names: Vec<_> = files.iter().map(|file| file.name).collect();
        self.check(&names, force)?;
        if !self.path.exists() && self.appear(files)? {
            return Ok(());
        }
        let folder = self.lock()?;
        // Somebody else may have been there since.
        self.place(&folder)?;
        self.vacant(&names, force)?;
        let _ = fs::remove_file(self.file(BESIDE));
        sweep(&self.path);
        let ignored = self.file(GITIGNORE).symlink_metadata().is_err().then_some(IGNORED);
        let (_lock, unfinished) = self.prepare(&self.path, files.iter().chain(&ignored))?;
        let finished = self.file(FINISHED);
        // From here on the new ones count: a run that is cut off is finished by the next.
        fs::rename(unfinished.keep(), &finished).map_err(|error| failed(&finished, error))?;
        self.sync(&folder)?;
        self.place(&folder)
    }

    /// Makes the folder with the files in it; whether it did, as another run may have been faster.
    fn appear(&self, files: &[NewFile<'_>]) -> Result<bool, StoreError> {
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if parent.exists() && !parent.is_dir() {
            return Err(StoreError::NotFolder { path: shown(&parent) });
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&parent).map_err(|error| failed(&parent, error))?;
        sweep(&parent);
        let (_lock, unfinished) = self.prepare(&parent, files.iter().chain([&IGNORED]))?;
        if let Err(error) = fs::rename(unfinished.path(), &self.path) {
            let there = self.path.symlink_metadata().is_ok();
            return if there { Ok(false) } else { Err(failed(&self.path, error)) };
        }
        let _ = unfinished.keep();
        fs::File::open(&parent).and_then(|parent| parent.sync_all()).map_err(|error| failed(&parent, error))?;
        Ok(true)
    }

    /// Puts the finished files, if there are any, in their places, and what stood there beside them.
    fn place(&self, folder: &fs::File) -> Result<(), StoreError> {
        let finished = self.file(FINISHED);
        if finished.symlink_metadata().is_err() {
            return Ok(());
        }
        let failed = |error| failed(&self.path, error);
        let names: Vec<_> = fs::read_dir(&finished)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>())
            .map_err(failed)?;
        let place = |name: &std::ffi::OsString| self.path.join(name);
        for name in names.iter().filter(|name| place(name).symlink_metadata().is_ok()) {
            let beside = self.file(BESIDE);
            let _ = fs::remove_file(&beside);
            // The old one stays in its place until the new one takes it.
            fs::hard_link(place(name), &beside)
                .or_else(|_| copy(&place(name), &beside))
                .and_then(|()| narrow(&finished.join(name), &beside))
                .and_then(|()| fs::rename(&beside, old(&place(name))))
                .map_err(failed)?;
        }
        self.sync(folder)?;
        for name in &names {
            fs::rename(finished.join(name), place(name)).map_err(failed)?;
        }
        self.sync(folder)?;
        fs::remove_dir(&finished).map_err(failed)
    }

    /// Finishes what a run that was cut off had begun to put in place.
    pub fn settle(&self) -> Result<(), StoreError> {
        if self.file(FINISHED).symlink_metadata().is_err() {
            return Ok(());
        }
        self.refuse_foreign()?;
        self.place(&self.lock()?)
    }

    /// The folder itself, for this process alone until it is dropped.
    fn lock(&self) -> Result<fs::File, StoreError> {
        let lock = |folder: fs::File| folder.lock().map(|()| folder);
        fs::File::open(&self.path).and_then(lock).map_err(|error| failed(&self.path, error))
    }

    fn sync(&self, folder: &fs::File) -> Result<(), StoreError> {
        folder.sync_all().map_err(|error| failed(&self.path, error))
    }

    /// The files whole and on the disk, in a folder beside their places that only its owner can read, and its lock. They
    /// go with it unless it is kept.
    fn prepare<'f>(
        &self,
        parent: &Path,
        files: impl Iterator<Item = &'f NewFile<'f>>,
    ) -> Result<(fs::File, tempfile::TempDir), StoreError> {
        let failed_folder = |error| failed(&self.path, error);
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let (folder, lock) = loop {
            let folder = builder.tempdir_in(parent).map_err(failed_folder)?;
            // A umask takes rights away at creation, also those of the owner.
            #[cfg(unix)]
            fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .map_err(failed_folder)?;
            match fs::File::open(folder.path()) {
                Ok(lock) => {
                    lock.lock().map_err(failed_folder)?;
                    if folder.path().exists() {
                        break (folder, lock);
                    }
                }
                // Who sweeps was faster than the lock.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed_folder(error)),
            }
        };
        for file in files {
            let rights = if file.secret { Rights::Owner } else { Rights::Readable };
            let written = files::put(&folder.path().join(file.name), file.content, rights, Existing::Keep);
            written.map_err(|error| failed(&self.file(file.name), error))?;
        }
        lock.sync_all().map_err(failed_folder)?;
        Ok((lock, folder))
    }

    /// What of the folder, where it stood before, is not as safe as a new one would be.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        #[cfg(unix)]
        if let Ok(folder) = fs::metadata(&self.path)
            && std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o022 != 0
        {
            remarks.push(format!("other users can write to {}, and could replace your key", shown(&self.path)));
        }
        let ignored = fs::read_to_string(self.file(GITIGNORE)).unwrap_or_default();
        if !ignored.lines().any(|line| matches!(line.trim(), "*" | "*.key*" | "/*" | "/*.key*")) {
            remarks.push(format!("{} does not keep *.key* out of version control", shown(&self.file(GITIGNORE))));
        }
        remarks
    }
}

/// Takes away what runs that were cut off left unfinished: a run that goes on holds a lock on its own.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let unfinished = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
        if unfinished
            && path.symlink_metadata().is_ok_and(|there| there.is_dir())
            && let Ok(own) = fs::File::open(&path)
            && own.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Where a file goes that is replaced.
fn old(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(format!(".{OLD}"));
    old.into()
}

/// A copy with the same rights, where a second name can't be had.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

/// Takes the rights of others from a file that is kept, where its successor gives them none: an old key is still a key.
#[cfg(unix)]
fn narrow(new: &Path, kept: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let others = 0o077;
    let (successor, there) = (fs::metadata(new)?.permissions().mode(), fs::metadata(kept)?.permissions().mode());
    if successor & others == 0 && there & others != 0 {
        fs::set_permissions(kept, fs::Permissions::from_mode(there & 0o777 & !others))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn narrow(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    // The temporary file's name is put around the operating system's words; what matters is the place it was meant for.
    let inner = source.get_ref().and_then(std::error::Error::source);
    let code = source.raw_os_error().or_else(|| inner?.downcast_ref::<io::Error>()?.raw_os_error());
    let source = code.map_or(source, io::Error::from_raw_os_error);
    match source.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: shown(path) },
        io::ErrorKind::NotADirectory => StoreError::NotFolder { path: shown(path) },
        _ => StoreError::Write { path: shown(path), source },
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn files(content: &str) -> [NewFile<'_>; 2] {
        [NewFile { name: "a.key", content, secret: true }, NewFile { name: "a.crt", content, secret: false }]
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_for_their_owner() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/deep");
        Folder::new(&path).write(&files("x"), false).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("a.key")), 0o600);
        assert_eq!(fs::read_to_string(path.join(".gitignore")).unwrap(), "*.key*\n.choreoctl-*\n");
        assert_eq!(Folder::new(&path).remarks(), Vec::<String>::new());
        fs::write(path.join(".gitignore"), "foo").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Folder::new(&path).remarks().len(), 2);
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        fs::write(root.path().join("a.crt"), "old").unwrap();
        assert!(matches!(folder.write(&files("new"), false), Err(StoreError::Exists { .. })));
        assert!(!root.path().join("a.key").exists());
        folder.write(&files("new"), true).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("a.crt")).unwrap(), "new");
        assert_eq!(fs::read_to_string(root.path().join("a.crt.old")).unwrap(), "old");
        let left = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 4, "no temporary file stays");
    }

    #[test]
    fn an_old_key_is_kept_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a.key", "a.crt"] {
            fs::write(root.path().join(name), "old").unwrap();
            fs::set_permissions(root.path().join(name), fs::Permissions::from_mode(0o666)).unwrap();
        }
        Folder::new(root.path()).write(&files("new"), true).unwrap();
        let modes = ["a.key", "a.key.old", "a.crt.old"].map(|name| mode(&root.path().join(name)));
        assert_eq!(modes, [0o600, 0o600, 0o666]);
    }

    #[test]
    fn a_file_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(Folder::new(&path).write(&files("x"), false), Err(StoreError::NotFolder { .. })));
        assert!(matches!(
            Folder::new(&path.join("below")).write(&files("x"), false),
            Err(StoreError::NotFolder { .. })
        ));
    }
}
