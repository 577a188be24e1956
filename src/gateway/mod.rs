//! The cluster gateway, and TLS servers in general, as a client meets them: what they present, and what the gateway says
//! to an agent.

mod answer;
mod presented;
mod probe;
mod url;
mod witness;

pub use answer::Answer;
pub use presented::presented;
pub use probe::{Counted, Identity, ProbeError, Question, Reply, count, probe};
pub use url::GatewayUrl;
