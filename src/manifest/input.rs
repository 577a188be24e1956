//! Files, folders and standard input, as text.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, FileType};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Error, LIMIT};
use crate::text::shown;

/// What a path on the command line names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    Stdin,
    Path(PathBuf),
}

impl Input {
    /// How large it is, as far as that is known, in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Stdin => 0,
            Self::Path(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
        }
    }
}

impl From<OsString> for Input {
    fn from(path: OsString) -> Self {
        if path == "-" { Self::Stdin } else { Self::Path(path.into()) }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("<stdin>"),
            Self::Path(path) => f.write_str(&shown(path)),
        }
    }
}

/// Whether a file in a folder is taken for a manifest: by its ending.
fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
}

/// The bytes of a file or of standard input, [`LIMIT`] at most.
pub fn read_bytes(input: &Input) -> Result<Vec<u8>, Error> {
    let file = input.to_string();
    let mut bytes = Vec::with_capacity(input.size().min(LIMIT as u64) as usize + 1);
    let limit = LIMIT as u64 + 1;
    let read = match input {
        Input::Stdin => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        Input::Path(path) => File::open(path).and_then(|opened| opened.take(limit).read_to_end(&mut bytes)),
    };
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing { file }),
        Err(source) => Err(Error::Unreadable { file, source }),
        Ok(read) if read > LIMIT => Err(Error::TooLarge { file }),
        Ok(_) => Ok(bytes),
    }
}

/// Inputs without folders.
#[derive(Debug, Default)]
pub struct Listed {
    pub inputs: Vec<Input>,
    /// What can't be listed: a path that doesn't exist, a folder that can't be read, or one without a manifest.
    pub missing: Vec<Error>,
    /// Whether several paths may lead to one file.
    several: bool,
}

impl Listed {
    /// Each file once, by the first path that leads to it.
    pub fn once(mut self) -> Self {
        if self.several {
            let mut seen = HashSet::new();
            self.inputs.retain(|input| match input {
                Input::Path(path) => path.canonicalize().map_or(true, |path| seen.insert(path)),
                Input::Stdin => true,
            });
        }
        self
    }
}

/// The inputs, folders by their files in order: directly in them, or with `recursive` at any depth.
pub fn list_inputs(inputs: &[Input], recursive: bool) -> Listed {
    let mut listed = Listed { several: inputs.len() > 1, ..Listed::default() };
    for input in inputs {
        match input {
            Input::Path(folder) if folder.is_dir() => {
                let before = (listed.inputs.len(), listed.missing.len());
                walk(folder, recursive, &mut listed);
                if before == (listed.inputs.len(), listed.missing.len()) {
                    listed.missing.push(Error::EmptyFolder { folder: input.to_string() });
                }
            }
            Input::Path(path)
                if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) =>
            {
                listed.missing.push(Error::Missing { file: input.to_string() });
            }
            _ => listed.inputs.push(input.clone()),
        }
    }
    listed
}

/// Adds a folder's manifests.
fn walk(folder: &Path, recursive: bool, listed: &mut Listed) {
    let entries =
        || folder.read_dir()?.map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))).collect();
    let mut paths: Vec<(PathBuf, FileType)> = match entries() {
        Ok(paths) => paths,
        Err(source) => {
            let file = shown(folder);
            listed.missing.push(Error::Unreadable { file, source });
            return;
        }
    };
    paths.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in paths {
        // A link to a folder isn't followed: it may lead back. Of pipes and devices nothing is read that nobody asked for.
        if kind.is_dir() {
            if recursive {
                walk(&path, recursive, listed);
            }
        // A link that leads nowhere is reported when it is read; Emacs locks a file with one.
        } else if is_manifest(&path) && (kind.is_file() || path.is_file() || is_dangling(&path, kind)) {
            listed.several |= kind.is_symlink();
            listed.inputs.push(Input::Path(path));
        }
    }
}

fn is_dangling(path: &Path, kind: FileType) -> bool {
    let is_lock = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".#"));
    kind.is_symlink() && !is_lock && path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// A file's text, decoded.
pub fn read_text(input: &Input) -> Result<String, Error> {
    decode(read_bytes(input)?, &input.to_string())
}

/// UTF-8 with or without a byte order mark, or UTF-16 with one. A lone CR becomes the line feed that YAML takes it for.
pub fn decode(bytes: Vec<u8>, file: &str) -> Result<String, Error> {
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes, file)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes, file)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest.to_vec(), file)?,
        _ => utf8(bytes, file)?,
    };
    if let Some(offset) = text.find('\0') {
        return Err(Error::Binary { file: file.into(), offset });
    }
    if !text.contains('\r') {
        return Ok(text);
    }
    let mut unified = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        unified.push(if c == '\r' && chars.peek() != Some(&'\n') { '\n' } else { c });
    }
    Ok(unified)
}

fn utf8(bytes: Vec<u8>, file: &str) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        match error.as_bytes().iter().position(|byte| *byte == 0) {
            Some(offset) => Error::Binary { file: file.into(), offset },
            None => {
                Error::NotText { file: file.into(), offset, line: 1 + before.iter().filter(|b| **b == b'\n').count() }
            }
        }
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, file: &str) -> Result<String, Error> {
    let not_text = |offset| Error::NotText { file: file.into(), offset, line: 1 };
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(not_text(bytes.len()));
    }
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<_, _>>().map_err(|_| not_text(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_distinguished() {
        let text = "a: ü\n";
        let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<_>>();
        let with = |mark: &[u8], bytes: Vec<u8>| [mark.to_vec(), bytes].concat();
        for bytes in [
            text.as_bytes().to_vec(),
            with(b"\xef\xbb\xbf", text.into()),
            with(b"\xff\xfe", utf16(u16::to_le_bytes)),
            with(b"\xfe\xff", utf16(u16::to_be_bytes)),
        ] {
            assert_eq!(decode(bytes, "f").unwrap(), text);
        }
        assert_eq!(decode(b"a\rb\r\nc".to_vec(), "f").unwrap(), "a\nb\r\nc");
        assert!(matches!(decode(b"a\n\xff".to_vec(), "f"), Err(Error::NotText { offset: 2, line: 2, .. })));
        assert!(matches!(decode(b"a\0\xff".to_vec(), "f"), Err(Error::Binary { offset: 1, .. })));
    }
}
