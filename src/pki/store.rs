//! Certificates and keys in a folder: written whole or not at all, keys for their owner only.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::NamedTempFile;

use crate::term::visible;

pub const CA_CERTIFICATE: &str = "ca.crt";
pub const CA_PRIVATE_KEY: &str = "ca.key";
pub const LEAF_CERTIFICATE: &str = "tls.crt";
pub const LEAF_PRIVATE_KEY: &str = "tls.key";
/// A request for a certificate, where its key stays.
pub const REQUEST: &str = "tls.csr";

/// Keeps keys out of version control.
const GITIGNORE: &str = "*.key\n";

/// Held while files are written.
static WRITING: Mutex<()> = Mutex::new(());

/// Returns when no write of files is under way, and lets none begin: the process is about to end.
pub fn finish_writes() {
    std::mem::forget(WRITING.lock());
}

/// Holds off the process's end while a file is written.
pub fn writing() -> impl Drop {
    WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Why files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} exists already")]
    Exists { path: String },
    #[error("{path} is not a folder")]
    NotFolder { path: String },
    #[error("could not write {path}")]
    Write { path: String, source: io::Error },
}

impl StoreError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("name another --out-dir, or add --force to replace it".into()),
            Self::NotFolder { .. } => Some("name a folder with --out-dir".into()),
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("name a folder that you can write to with --out-dir".into())
            }
            Self::Write { .. } => None,
        }
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
        Self { path: path.to_owned() }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Fails where one of the files stands already, before anything is made for them.
    pub fn check(&self, names: &[&str], force: bool) -> Result<(), StoreError> {
        if self.path.exists() && !self.path.is_dir() {
            return Err(StoreError::NotFolder { path: shown(&self.path) });
        }
        let standing = names.iter().map(|name| self.file(name)).find(|path| path.symlink_metadata().is_ok());
        match standing {
            Some(path) if !force => Err(StoreError::Exists { path: shown(&path) }),
            _ => Ok(()),
        }
    }

    /// Writes the files: each beside its place, forced to the disk, then renamed. When one fails none is left.
    pub fn write(&self, files: &[NewFile<'_>], force: bool) -> Result<(), StoreError> {
        let _writing = WRITING.lock();
        self.check(&files.iter().map(|file| file.name).collect::<Vec<_>>(), force)?;
        self.make()?;
        let written = files.iter().map(|file| self.prepare(file)).collect::<Result<Vec<_>, _>>()?;
        let mut placed: Vec<PathBuf> = Vec::new();
        for (file, temporary) in files.iter().zip(written) {
            let path = self.file(file.name);
            let result = if force { temporary.persist(&path) } else { temporary.persist_noclobber(&path) };
            if let Err(error) = result {
                if !force {
                    placed.iter().for_each(|path| drop(fs::remove_file(path)));
                }
                return Err(failed(&path, error.error));
            }
            placed.push(path);
        }
        fs::File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|error| failed(&self.path, error))
    }

    /// The folder, for its owner only where it is new, with a .gitignore over the keys.
    fn make(&self) -> Result<(), StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path).map_err(|error| failed(&self.path, error))?;
        if self.file(".gitignore").symlink_metadata().is_ok() {
            return Ok(());
        }
        let ignore = self.prepare(&NewFile { name: ".gitignore", content: GITIGNORE, secret: false })?;
        match ignore.persist_noclobber(self.file(".gitignore")) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed(&self.file(".gitignore"), error.error))
            }
            _ => Ok(()),
        }
    }

    /// What of the folder, where it stood before, is not as safe as a new one would be.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        #[cfg(unix)]
        if let Ok(folder) = fs::metadata(&self.path)
            && std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o022 != 0
        {
            remarks.push(format!(
                "others can write to {}, and so put a key of theirs in place of yours",
                shown(&self.path)
            ));
        }
        let ignored = fs::read_to_string(self.file(".gitignore")).unwrap_or_default();
        if !ignored.lines().any(|line| matches!(line.trim(), "*" | "*.key" | "/*" | "/*.key")) {
            remarks.push(format!("{} does not keep *.key out of version control", shown(&self.file(".gitignore"))));
        }
        remarks
    }

    fn prepare(&self, file: &NewFile<'_>) -> Result<NamedTempFile, StoreError> {
        let failed = |error| failed(&self.file(file.name), error);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".choreoctl-");
        #[cfg(unix)]
        if !file.secret {
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        }
        let mut temporary = builder.tempfile_in(&self.path).map_err(failed)?;
        temporary.write_all(file.content.as_bytes()).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        Ok(temporary)
    }
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

fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
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
        assert_eq!(fs::read_to_string(path.join(".gitignore")).unwrap(), "*.key\n");
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
        let left = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 3, "no temporary file stays");
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
