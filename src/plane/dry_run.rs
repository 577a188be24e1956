//! How far a change goes: whether it is sent to an API server, and whether that stores it.

use clap::ValueEnum;

/// How far a change goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    #[default]
    None,
    /// Check locally and send nothing
    Client,
    /// Let the API server validate and default the objects, without storing them
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
