//! The domain: the resource's types, its CRD, its states, what releases differ in, and the words users name things by.
//!
//! Not here: reading it from a cluster or a file, judging it, showing it.

mod closest;
mod crd;
mod dry_run;
mod goal;
mod key;
mod kind;
mod lenient;
mod name;
mod plane_name;
mod read;
mod release;
mod releases;
mod resource;
mod selector;
mod snapshot;
mod source;
mod span;
mod state;
mod well_known;

pub use closest::{closest, did_you_mean};
pub use dry_run::DryRun;
pub use goal::Goal;
pub use key::PlaneKey;
pub use kind::{DEFAULT_KIND, Family, Field, KINDS, Kind, Scope};
pub use lenient::{Unreadable, nearest_time};
pub use name::{
    CA_KEY, CaSecret, NamespacedName, is_dns_label, is_dns_subdomain, is_label_value, is_qualified_name,
    rotation_secret,
};
pub use plane_name::{KindWord, PlaneName, Wanted, Word};
pub use release::Release;
pub use releases::{Change, Difference, PLANE_ID_REQUIRED, Served};
pub use resource::{
    AgentConnection, ObservabilityPlaneRef, Plane, SecretKeyRef, SecretStoreRef, without_managed_fields,
};
pub use selector::Selector;
pub use snapshot::{Side, Snapshot};
pub use source::Source;
pub use span::{Moment, Span, age, day};
pub use state::{State, StateFilter};
pub use well_known::*;
