//! From v0.17 to v1.0 and later, on a running platform: what is there, what breaks, the planes of v1.0 out of the record of
//! what was there before, the agents in their place, and the old planes' end. Each stage looks first.
//!
//! Not here: the record's files, Helm, and manifests in Git.

mod finish;
mod prepare;
mod problems;
mod seen;
#[cfg(test)]
mod tests;
mod write;

use clap::ValueEnum;
use clap::builder::PossibleValue;

pub use finish::{Old, finish, leftovers, old_planes};
pub use prepare::{Meant, Prepared, Swap, prepare};
pub use problems::{Commands, DEFAULT_PLANE_FILE, PLANES_FILE, Problem, RECORD_FILE, WORKFLOWS_FILE, problems};
pub use seen::{Look, Running, Seen, look, running};
pub use write::{connected, pending, right, rights, write_planes};

/// How far a migration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Prepare,
    Switch,
    Cleanup,
}

impl ValueEnum for Stage {
    fn value_variants<'v>() -> &'v [Self] {
        &[Self::Prepare, Self::Switch, Self::Cleanup]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Prepare => ("prepare", "Save the fields that the CRDs of v1.0 drop, and list what breaks"),
            Self::Switch => ("switch", "Create the new planes, restore references, replace the agents"),
            Self::Cleanup => ("cleanup", "Delete the old planes"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}
