//! A new CA without an outage: the planes trust the old and the new one, the agent changes over, the old one leaves.
//!
//! Its progress is read from the clusters: `staged` is the Secret that holds what was made and what was there before.
//! `run` carries out the stages, as `decide` says by what is found.

mod decide;
mod rotation;
mod run;
mod staged;

pub use rotation::{Goal, Keeper, Outlook, Phase, Rotation};
pub use run::{outlook, rotate};
