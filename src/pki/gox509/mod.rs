//! Go's crypto/x509 as the gateway and agents use it: parsed as strictly, and judged by the same rules.
//!
//! Not here: what a user is shown of a certificate ([`crate::pki::Certificate`]).

mod chain;
mod constraints;
mod der;
mod extensions;
mod hostname;
mod key;
mod link;
mod names;
#[cfg(test)]
mod oracle;
mod policies;
mod recovery;
mod signature;
mod verdict;

pub use chain::{Reason, Refusal};
pub use der::{Malformed, Reader, Tag, need};
pub use key::{Curve, Key, public_key as read_key};
pub use link::Link;
pub use signature::{Check, Signed, check, signature};
pub use verdict::{
    Presented, PublicKey, ServerFault, Trust, Verdict, issued, public_key, trust, trust_of, verify, verify_server,
};
