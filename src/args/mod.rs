//! Groups of flags that verbs share, and what they lead to: a terminal, a cluster, objects out of files.

mod clusters;
mod files;
mod fleet;
mod lookup;
mod namespaces;
mod planes;
mod session;
mod spec;
mod write;

pub use clusters::{ControlArgs, NoPlaneCluster, PlaneCluster, PlaneClusterArgs, Swapped, swapped, unless_swapped};
pub use files::{AT_HELP, AtArgs, FileArgs, FromFiles, SnapshotArgs, place, read_manifests};
pub use fleet::{Group, SeveralClusters};
pub use lookup::{Chosen, Doubt, Lookup, is_not_found};
pub use namespaces::{NamespaceArgs, NamespacesArgs, namespace};
pub use planes::{ChoiceArgs, NamedArgs, NotInFiles, PlaneArgs, PlanesArgs, WordsError, same_namespace};
pub use session::{GlobalArgs, Session};
pub use spec::{CaArgs, NotCa, SpecArgs, plane_id, read_ca, read_cas};
pub use write::{
    ChangeArgs, ChartArgs, KeyArgs, NewFilesArgs, ObjectFormat, OutputArgs, TextFormat, ValidityArgs, WriteArgs,
};

#[cfg(test)]
pub(crate) mod tests;
