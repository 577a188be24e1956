//! Files, written whole or not at all.
//!
//! Not here: several files that appear together ([`crate::pki::Folder`]).

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held while files are written.
static WRITING: Mutex<()> = Mutex::new(());

/// Returns when no write of files is under way, and lets none begin: the process is about to end.
pub fn finish_writes() {
    std::mem::forget(writing());
}

/// Holds off the process's end while files are written.
pub fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Those who may read the file that it replaces; of a new one whom the umask lets.
    Usual,
    /// Everybody, where the umask lets them.
    Readable,
    Owner,
}

/// What becomes of a file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Replace,
    /// It stays, and the write fails with [`io::ErrorKind::AlreadyExists`].
    Keep,
}

/// Writes a file through a link to it. What exists and is no file, such as a pipe, gets the text.
pub fn write(path: &Path, text: &str, rights: Rights, existing: Existing) -> io::Result<()> {
    // A pipe may never be read: nothing of it could be finished before the process ends.
    let _writing = if is_stream(path) { None } else { Some(writing()) };
    put(path, text, rights, existing)
}

/// Writes a file as [`write()`] does, for one who holds off the process's end.
pub fn put(path: &Path, text: &str, rights: Rights, existing: Existing) -> io::Result<()> {
    let there = path.metadata().ok();
    if is_stream(path) {
        return OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
    }
    let path = if there.is_some() { path.canonicalize()? } else { path.to_owned() };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".choreoctl-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(match rights {
        Rights::Usual if there.is_none() => 0o666,
        Rights::Readable => 0o644,
        Rights::Usual | Rights::Owner => 0o600,
    }));
    let mut temporary = builder.tempfile_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    if let Some(there) = there.filter(|_| rights == Rights::Usual) {
        take_over(temporary.as_file(), &there)?;
    }
    temporary.as_file().sync_all()?;
    match existing {
        Existing::Replace => temporary.persist(path),
        Existing::Keep => temporary.persist_noclobber(path),
    }
    .map(drop)
    .map_err(|error| error.error)
}

/// Whether something exists that is no file, such as a pipe.
fn is_stream(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file())
}

/// Gives a file the owner and the rights of another one.
fn take_over(file: &File, from: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::os::unix::fs::fchown(file, Some(from.uid()), Some(from.gid()))?;
    }
    file.set_permissions(from.permissions())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_replaced_file_keeps_its_rights_and_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, "new", Rights::Usual, Existing::Replace).unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("new", 0o640));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        write(&link, "secret", Rights::Owner, Existing::Replace).unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("secret", 0o600));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_file_that_exists_is_kept_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write(&file, "old", Rights::Owner, Existing::Keep).unwrap();
        let error = write(&file, "new", Rights::Owner, Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("old", 0o600));
        assert!(write(&folder.path().join("none/file"), "", Rights::Usual, Existing::Replace).is_err());
    }

    #[test]
    fn what_is_no_file_gets_the_text() {
        write(Path::new("/dev/null"), "text", Rights::Owner, Existing::Keep).unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
