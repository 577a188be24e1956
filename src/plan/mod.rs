//! Changes of several steps over two clusters: registering one and the reverse, renewing and rotating what its agent
//! presents, and the way from v0.17 to v1.0. Each
//! step looks first, acts where something is to be done and looks again, so that a run that was cut off is finished by
//! the next one. What is to be done is decided apart, by what was found.
//!
//! Not here: the command line, and how steps are shown.

mod agent;
mod bootstrap;
mod clusters;
mod error;
#[cfg(test)]
mod fixtures;
mod issuer;
pub mod migrate;
mod observer;
mod remaining;
mod renew;
mod restart;
mod rotate;
mod trust;
mod unregister;

pub use bootstrap::{
    AGENT_SECRETS, Bootstrap, CaIn, Files, Given, Made, authorized, begin, bootstrap, installed, offline,
};
pub use clusters::Clusters;
pub use error::Error;
pub use issuer::{AgentCertificate, Issuer};
pub use observer::{Observer, Status};
pub use remaining::{Staying, staying};
pub use renew::{Renewal, renew};
pub use restart::Restart;
pub use rotate::{Goal, Keeper, Outlook, Phase, Rotation, outlook, rotate};
pub use unregister::{Inventory, Item, Unregister, inventory, remove};
