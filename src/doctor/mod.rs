//! What is made of what is known of planes: checks and their cause, notes, remarks, whom a change locks out, when a plane
//! breaks, and a dump for somebody else to look at.
//!
//! Not here: reading the clusters (estate), and showing what was found (render).

mod case;
mod checks;
mod deletion;
mod dump;
mod explained;
#[cfg(test)]
mod faults;
mod forecast;
mod gather;
mod ground;
pub mod lockout;
mod notes;
mod reach;
mod redact;
mod timeline;

pub use case::Case;
pub use checks::{CHECKS, Checked, Hint, Status, checks, is_healthy, root_cause, unchecked, warnings};
#[cfg(test)]
pub use checks::{Outcome, Unchecked};
pub use deletion::held;
pub use dump::dump;
pub use explained::explained;
pub use forecast::{Break, Reason, forecast};
pub use gather::{Gathered, Group, gather, gather_groups, gather_without_control};
pub use notes::{Note, notes, remarks};
pub use reach::{AgentsIn, Gateway, GatewayReach, Reach};
pub use timeline::{Entry, Timeline};
