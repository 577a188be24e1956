//! Certificates and keys: made with rcgen, read back, and kept in files.
//!
//! Not here: where certificates come from (a cluster, a server), and how they are shown.

mod authority;
mod certificate;
mod chain;
mod constraints;
mod der;
mod hostname;
mod issue;
mod issuers;
mod key;
mod link;
mod names;
mod pem;
mod policies;
mod refusal;
mod request;
mod signature;
mod store;
mod verify;

pub use authority::{Authority, AuthorityError, belong_together};
pub use certificate::{Certificate, Remaining};
pub use issue::{IssueError, ca, client, lifetime, renewed, request, sign, with_chain};
pub use issuers::{Issuer, Issuers};
pub use key::{KeyAlgorithm, KeyError, PrivateKey, random_suffix};
pub use pem::{BundleError, begun_certificates, bundle, certificates, encode, holds_private_key};
pub use refusal::{Reason, Refusal};
pub use store::{
    CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, NewFile, REQUEST, StoreError,
    finish_writes, writing,
};
pub use verify::{PublicKey, ServerFault, Trust, Verdict, issued, public_key, trust, verify, verify_server};
