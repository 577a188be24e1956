//! Certificates and keys: made with rcgen, read back, judged as Go judges them, and kept in files.
//!
//! Not here: where certificates come from (a cluster, a server), and how they are shown.

mod appraisal;
mod authority;
mod bundle;
mod certificate;
mod gox509;
mod issue;
mod issuers;
mod key;
mod pem;
mod request;
mod store;

pub use appraisal::{Defect, DefectKind, SOON, appraise, pinned, same_name, weak_key};
pub use authority::{Authority, AuthorityError, PemPair, belong_together};
pub use bundle::{Bundle, BundleError};
pub use certificate::{Certificate, Remaining};
pub use gox509::{Presented, PublicKey, Reason, Refusal, ServerFault, Trust, Verdict, issued, public_key, trust};
pub use issue::{IssueError, ca, client, lifetime, renewed, request, sign, with_chain};
pub use issuers::{Issuer, Issuers};
pub use key::{KeyAlgorithm, KeyError, PrivateKey, random_suffix};
pub use pem::{certificates, holds_private_key};
pub use store::{
    CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, NewFile, REQUEST, StoreError,
};
