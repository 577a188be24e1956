//! A file that is replaced by an edited one, unless it was changed meanwhile.

use std::path::Path;

use crate::manifest::{self, Input};

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Replaced {
    Done,
    /// It had this many hard links, of which the others still lead to the old content.
    Unlinked(u64),
    /// It is as it was: it is not plain UTF-8, or was changed since it was read.
    Not,
}

/// Writes an edited text in the place of the one that was read.
pub fn replace(path: &Path, read: &str, edited: &str) -> Result<Replaced, manifest::Error> {
    if manifest::read_bytes(&Input::Path(path.to_owned())).ok().as_deref() != Some(read.as_bytes()) {
        return Ok(Replaced::Not);
    }
    let links = links(path);
    manifest::write(path, edited)?;
    Ok(if links > 1 { Replaced::Unlinked(links) } else { Replaced::Done })
}

impl Replaced {
    /// Returns the warning about a file that was to be `done`, as `fixed`.
    pub fn warning(&self, file: &str, done: &str) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Unlinked(links) => {
                Some(format!("{file} had {links} hard links: the others still have the old content"))
            }
            Self::Not => Some(format!("{file} is not {done}: it is not plain UTF-8, or was changed just now")),
        }
    }
}

/// Returns how many names a file has.
fn links(path: &Path) -> u64 {
    #[cfg(unix)]
    return path.metadata().map_or(1, |metadata| std::os::unix::fs::MetadataExt::nlink(&metadata));
    #[cfg(not(unix))]
    return 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_it_was_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "old").unwrap();
        assert_eq!(replace(&file, "other", "new").unwrap(), Replaced::Not);
        std::fs::hard_link(&file, folder.path().join("b.yaml")).unwrap();
        assert_eq!(replace(&file, "old", "new").unwrap(), Replaced::Unlinked(2));
        assert_eq!(replace(&file, "new", "newer").unwrap(), Replaced::Done);
        assert_eq!(links(Path::new("/nowhere")), 1);
    }
}
