//! Why something can't be had.

use std::fmt;

use crate::cluster::Error;

/// What keeps something from being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It does not exist.
    Missing,
    /// It exists, and can't be used as what it is meant for.
    Invalid,
    Forbidden,
    Unauthorized,
    /// The API server did not answer, or is busy.
    Unreachable,
    /// Files hold no word of it: whether it exists is unknown.
    NotInFiles,
    Unknown,
}

impl Cause {
    /// One word for a table's cell.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::NotInFiles | Self::Unknown => "unknown",
        }
    }
}

/// Something that can't be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unavailable {
    pub cause: Cause,
    pub message: String,
    /// What to do about it, where the cluster's error says so.
    pub hint: Option<String>,
}

impl Unavailable {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), hint: None }
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Cause::Missing, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Cause::Invalid, message)
    }

    pub fn not_in_files(message: impl Into<String>) -> Self {
        Self::new(Cause::NotInFiles, message)
    }

    pub fn is_missing(&self) -> bool {
        self.cause == Cause::Missing
    }

    /// Whether it is missing or invalid for everybody: otherwise only this reader doesn't know it.
    pub fn is_fault(&self) -> bool {
        matches!(self.cause, Cause::Missing | Cause::Invalid)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<&Error> for Unavailable {
    fn from(error: &Error) -> Self {
        let cause = match error {
            Error::Forbidden { .. } | Error::Unlisted(_) => Cause::Forbidden,
            Error::NotFound { .. }
            | Error::NoSource { .. }
            | Error::NoSuchKind { .. }
            | Error::NoKey { .. }
            | Error::NoAgent { .. } => Cause::Missing,
            Error::Unauthorized { .. } => Cause::Unauthorized,
            Error::TimedOut { .. } | Error::Unreachable { .. } | Error::Busy { .. } => Cause::Unreachable,
            _ => Cause::Unknown,
        };
        Self { cause, message: error.to_string(), hint: error.hint() }
    }
}

/// Turns what isn't there into nothing, which is known.
pub fn or_none<T>(read: Result<T, Unavailable>) -> Result<Option<T>, Unavailable> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(why) if why.is_missing() => Ok(None),
        Err(why) => Err(why),
    }
}
