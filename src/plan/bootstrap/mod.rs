//! Registering a plane: certificates, what the plane's cluster needs, the plane, the gateway's answer, Helm's
//! values. Each step looks first, so that a rerun writes nothing that is right and continues where a run was cut off.
//!
//! `steps` is the table of the steps and carries them out: those of `look` add to the `facts`, those of `decide` say what
//! is written. `certificates` and `facts` make what is written, also for others to apply.

mod certificates;
mod decide;
mod facts;
mod look;
mod steps;
mod wish;

pub(super) use facts::tls_of_existing;
pub use facts::{Files, offline};
pub use steps::{Made, authorized, begin, bootstrap, installed};
pub use wish::{AGENT_SECRETS, Bootstrap, CaIn, Given};
pub(super) use wish::{CHART_SECRET, ca_name, client_ca_secret};
