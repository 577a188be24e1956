//! Warns before a write of the agents that it would lock out.

use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::doctor::lockout;
use crate::plane::Plane;
use crate::term::Term;

/// Says whom planes lock out once they are applied; whether anybody.
pub async fn warn(cluster: &Cluster, manifests: &[Value], term: &Term) -> bool {
    let planes: Vec<Plane> = manifests.iter().filter_map(|manifest| Plane::deserialize(manifest).ok()).collect();
    match lockout::of_apply(cluster, &planes).await {
        Ok(told) => {
            told.iter().for_each(|told| term.warn(told));
            !told.is_empty()
        }
        // Where that kind isn't there, or nobody answers, applying says so better.
        Err(error @ cluster::Error::Forbidden { .. }) => {
            term.warn(&format!("whether agents are locked out can't be told: {error}"));
            false
        }
        Err(_) => false,
    }
}
