//! A file that is replaced by an edited one, unless it was changed meanwhile.

use std::path::Path;

use crate::manifest::{self, Input};

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Replaced {
    Done,
    /// It had this many hard links, of which the others still lead to the old content.
    Unlinked(u64),
    /// It is as it was.
    Not(Reason),
}

/// Why a file is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What was read is not byte by byte what the file has.
    Encoding(&'static str),
    ReadOnly,
    Changed,
}

impl Reason {
    /// Returns a clause whose subject is the file.
    pub fn text(self) -> &'static str {
        match self {
            Self::Encoding(text) => text,
            Self::ReadOnly => "it is read-only",
            Self::Changed => "it was changed just now",
        }
    }

    fn of(path: &Path, read: &str) -> Option<Self> {
        let input = Input::Path(path.to_owned());
        let bytes = manifest::read_bytes(&input).unwrap_or_default();
        if bytes == read.as_bytes() {
            return path.metadata().is_ok_and(|there| there.permissions().readonly()).then_some(Self::ReadOnly);
        }
        let encoding = match bytes.as_slice() {
            [0xef, 0xbb, 0xbf, ..] => "it begins with a byte order mark",
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16",
            _ => "it has carriage returns without a line feed",
        };
        let is_as_read = manifest::read_text(&input).is_ok_and(|text| text == read);
        Some(if is_as_read { Self::Encoding(encoding) } else { Self::Changed })
    }
}

/// Writes an edited text in the place of the one that was read.
pub fn replace(path: &Path, read: &str, edited: &str) -> Result<Replaced, manifest::Error> {
    if let Some(reason) = Reason::of(path, read) {
        return Ok(Replaced::Not(reason));
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
            Self::Not(reason) => Some(format!("{file} is not {done}: {}", reason.text())),
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
        assert_eq!(replace(&file, "other", "new").unwrap(), Replaced::Not(Reason::Changed));
        std::fs::hard_link(&file, folder.path().join("b.yaml")).unwrap();
        assert_eq!(replace(&file, "old", "new").unwrap(), Replaced::Unlinked(2));
        assert_eq!(replace(&file, "new", "newer").unwrap(), Replaced::Done);
        for (bytes, part) in [
            (&b"\xef\xbb\xbfold"[..], "a byte order mark"),
            (b"\xff\xfeo\0l\0d\0", "UTF-16"),
            (b"\xef\xbb\xbfother", "changed just now"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let reported = replace(&file, "old", "new").unwrap().warning("f", "fixed").unwrap();
            assert!(reported.starts_with("f is not fixed: it ") && reported.ends_with(part), "{reported}");
            assert_eq!(std::fs::read(&file).unwrap(), bytes);
        }
        std::fs::write(&file, "old").unwrap();
        let mut rights = file.metadata().unwrap().permissions();
        rights.set_readonly(true);
        std::fs::set_permissions(&file, rights).unwrap();
        assert_eq!(replace(&file, "old", "new").unwrap(), Replaced::Not(Reason::ReadOnly));
        assert_eq!(links(Path::new("/nowhere")), 1);
    }
}
