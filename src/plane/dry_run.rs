//! How far a change goes: whether it is sent to an API server, and whether that stores it.

use clap::ValueEnum;

/// How far a change goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    #[default]
    None,
    /// Only read, check and show what would be written
    Client,
    /// Let the API server check the writes, too, without storing them
    Server,
}

impl DryRun {
    /// Whether a request is sent.
    pub fn sends(self) -> bool {
        self != Self::Client
    }

    /// Whether what is sent is stored.
    pub fn stores(self) -> bool {
        self == Self::None
    }

    /// What is put behind a line that says what was done.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}
