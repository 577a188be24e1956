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
mod refusal;
mod signature;
mod verdict;

pub use refusal::{Reason, Refusal};
pub use verdict::{PublicKey, ServerFault, Trust, Verdict, issued, public_key, trust};
pub(super) use {
    der::{Reader, Tag},
    key::{Curve, Key, public_key as read_key},
    link::Link,
    signature::{Check, Signed, check, signature},
    verdict::{verify, verify_server},
};
