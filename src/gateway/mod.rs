//! The cluster gateway, and TLS servers in general, as a client meets them: what they present, and what the gateway says
//! to an agent.

mod answer;
mod plane_types;
mod presented;
mod probe;
mod url;
mod witness;

pub use answer::Answer;
pub use plane_types::PlaneTypes;
pub use presented::presented;
pub use probe::{API_PORT, Counted, Identity, ProbeError, Question, Reply, count, plane_types, probe};
pub use url::GatewayUrl;
