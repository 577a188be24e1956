//! The Kubernetes client: which cluster, how to reach it, and what is asked of it; its errors with their hints.
//!
//! Not here: what the answers mean.

mod agents;
mod apply;
mod bounds;
mod client;
mod connection;
mod contents;
mod error;
mod explain;
#[cfg(test)]
mod fake;
mod fields;
mod logs;
mod objects;
mod planes;
mod rights;
mod soften;
mod target;
mod watch;

pub use agents::{AUTHORIZED, Agent, AgentPod, CERT_MANAGER, CONTAINER, LABELS, REVISION, StoredSecret, labelled};
pub use apply::{Change, comparable};
pub use connection::{Cluster, Namespaces};
pub use contents::HELM_RELEASE;
pub use error::{Cause, Error, Rejection, Unlisted};
#[cfg(test)]
pub use fake::Fake;
pub use fields::{Writer, writers};
pub use logs::{LogLine, LogRange};
pub use planes::{Detail, ListOf, Listed, MANAGER, PlaneObject};
pub use rights::{Right, grant};
pub use soften::soften;
pub use target::{Options, Target, clusters, contexts, users};
#[cfg(test)]
pub use watch::Listing;
pub use watch::{Event, Watches};
