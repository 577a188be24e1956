//! What is known of a plane beside its own object, gathered once, each part with its own error; and what that tells:
//! checks and their cause, notes, remarks, whom a change locks out, when it breaks.
//!
//! Not here: reaching the cluster (cluster), and showing what was found (render).

mod agents;
mod case;
mod checks;
mod dump;
mod explained;
mod facts;
#[cfg(test)]
mod faults;
mod forecast;
mod ground;
mod issuance;
pub mod lockout;
mod neighbours;
mod notes;
mod redact;
mod remarks;

pub use agents::{AgentFacts, Pair, Presents, agents};
pub use case::{Case, GATEWAY_CA, Gateway, Reach, gather, gather_of_files, gather_without_control};
pub use checks::{CHECKS, Checked, Hint, Status, checks, is_healthy, root_cause, unchecked, warnings};
#[cfg(test)]
pub use checks::{Outcome, Unchecked};
pub use dump::{dump, is_cut_off};
pub use explained::explained;
pub use facts::{Facts, facts, facts_of_files};
pub use forecast::{Break, Reason, forecast};
pub use ground::Gathered;
pub use issuance::{Issuance, issuance, reissue};
pub use neighbours::Few;
pub use notes::{Note, notes, remarks};
pub use remarks::Remark;
