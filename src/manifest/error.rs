//! What keeps a manifest from being read or written.

use crate::text::shell_quoted;

/// Largest file that is read, in bytes.
pub const LIMIT: usize = 64 << 20;

/// Why a file could not be read as a manifest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file} does not exist")]
    Missing { file: String },
    #[error("could not read {file}")]
    Unreadable { file: String, source: std::io::Error },
    #[error("could not write {file}, which is as it was")]
    Unwritable { file: String, source: std::io::Error },
    #[error("{file} is larger than {} MiB", LIMIT >> 20)]
    TooLarge { file: String },
    #[error("{file} is not text: byte {offset} (line {line}) is not UTF-8")]
    NotText { file: String, offset: usize, line: usize },
    #[error("{file} is binary: it has a NUL at byte {offset}")]
    Binary { file: String, offset: usize },
    #[error("{file}:{line}:{column}: {message}")]
    Syntax { file: String, line: usize, column: usize, message: String },
    #[error("{file} holds no manifest")]
    Empty { file: String },
    #[error("{file} holds no plane")]
    NoPlane { file: String },
    #[error("{folder} holds no .yaml, .yml or .json file")]
    EmptyFolder { folder: String },
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("check the path; `-` is standard input".into()),
            Self::TooLarge { .. } => Some("split the file".into()),
            Self::NotText { .. } | Self::Binary { .. } => {
                Some("manifests are YAML or JSON, in UTF-8 or in UTF-16 with a byte order mark".into())
            }
            Self::NoPlane { file } | Self::Syntax { file, .. } => {
                Some(format!("choreoctl validate {}", shell_quoted(file)))
            }
            Self::Unreadable { .. } | Self::Unwritable { .. } | Self::Empty { .. } | Self::EmptyFolder { .. } => None,
        }
    }
}
