//! Annotations and names that OpenChoreo or choreoctl gives, and the names that are meant without a word.

/// Annotation of a name for people (API reference, `openchoreo.dev/display-name`).
pub const DISPLAY_NAME: &str = "openchoreo.dev/display-name";
/// Annotation of a description for people.
pub const DESCRIPTION: &str = "openchoreo.dev/description";
/// The only kind of observability plane that a cluster-scoped plane may refer to.
pub const OBSERVABILITY_KIND: &str = "ClusterObservabilityPlane";
/// The observability plane that is meant when none is named.
pub const DEFAULT_OBSERVABILITY: &str = "default";
/// Annotation of a plane whose CA is being rotated: the Secret that holds what the rotation made.
pub const ROTATION: &str = "choreoctl.dev/rotation";
/// The plane of builds that name none.
pub const DEFAULT_PLANE: &str = "default";
/// Annotation of a dumped object: when it was dumped.
pub const DUMPED: &str = "choreoctl.dev/dumped";
/// Annotation of a dumped object: the cluster that it comes from.
pub const SIDE: &str = "choreoctl.dev/cluster";
/// Annotation of a dumped Secret: whether its key, which stayed where it is, belongs to its certificate.
pub const KEY_FITS: &str = "choreoctl.dev/key-fits";
/// Annotation of a dumped pod: the end of its log.
pub const LOG: &str = "choreoctl.dev/log";
/// Where the controller sends its events, as the resource itself has no namespace.
pub const EVENT_NAMESPACE: &str = "default";
/// The gateway's CA: a Secret in the control plane's namespace, and a ConfigMap of the same name in the agent's.
pub const GATEWAY_CA: &str = "cluster-gateway-ca";
/// The gateway's Service in the control plane's namespace.
pub const GATEWAY_SERVICE: &str = "cluster-gateway";
/// The one that agents of other clusters reach, from v1.2.0 on.
pub const GATEWAY_EXTERNAL: &str = "cluster-gateway-external";
/// The container in the gateway's pods.
pub const GATEWAY_CONTAINER: &str = "cluster-gateway";
/// The controller's leader election.
pub const CONTROL_NAMESPACE: &str = "openchoreo-control-plane";
pub const LEASE: &str = "43500532.openchoreo.dev";
