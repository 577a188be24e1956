//! What can be asked for in a cluster: kinds, objects by their names, and collections; and where the API server has them.

use crate::cluster::Detail;
use crate::plane::{Kind, NamespacedName, PlaneKey};
use crate::text::visible;

/// A kind of objects, as the API server names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: &'static str,
    /// Empty for the core group.
    pub group: &'static str,
    version: &'static str,
    pub plural: &'static str,
}

macro_rules! resources {
    ($($name:ident = $kind:literal, $group:literal, $version:literal, $plural:literal;)*) => {
        $(pub const $name: Resource = Resource { kind: $kind, group: $group, version: $version, plural: $plural };)*
    };
}

resources! {
    SECRET = "Secret", "", "v1", "secrets";
    CONFIG_MAP = "ConfigMap", "", "v1", "configmaps";
    SERVICE = "Service", "", "v1", "services";
    POD = "Pod", "", "v1", "pods";
    EVENT = "Event", "", "v1", "events";
    LEASE = "Lease", "coordination.k8s.io", "v1", "leases";
    DEPLOYMENT = "Deployment", "apps", "v1", "deployments";
    CRD = "CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions";
    CERTIFICATE = "Certificate", "cert-manager.io", "v1", "certificates";
    CERTIFICATE_REQUEST = "CertificateRequest", "cert-manager.io", "v1", "certificaterequests";
    ISSUER = "Issuer", "cert-manager.io", "v1", "issuers";
}

impl From<&Kind> for Resource {
    fn from(kind: &Kind) -> Self {
        Self { kind: kind.kind, group: kind.group, version: kind.version, plural: kind.plural }
    }
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Where the API server has its objects.
    fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        let namespace = namespace.map(|namespace| format!("/namespaces/{}", encoded(namespace))).unwrap_or_default();
        format!("/{root}/{}{namespace}/{}", self.api_version(), self.plural)
    }
}

/// A text as a part of a path, or as a value of a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// One object by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    pub resource: Resource,
    /// None for one of the whole cluster.
    pub namespace: Option<String>,
    pub name: String,
    /// The key that is wanted of a Secret, beside those with an agent's certificate and the CA next to it.
    pub key: Option<String>,
}

impl ObjectRef {
    pub fn named(resource: Resource, name: &NamespacedName) -> Self {
        Self { resource, namespace: Some(name.namespace.clone()), name: name.name.clone(), key: None }
    }

    pub fn of_cluster(resource: Resource, name: &str) -> Self {
        Self { resource, namespace: None, name: name.to_owned(), key: None }
    }

    /// Whether it is this plane.
    pub fn is(&self, plane: &PlaneKey) -> bool {
        self.resource == plane.kind.into() && self.namespace == plane.namespace && self.name == plane.name
    }

    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Where the API server has it.
    pub fn path(&self) -> String {
        format!("{}/{}", self.resource.path(self.namespace.as_deref()), encoded(&self.name))
    }

    /// As `Secret NAMESPACE/NAME`; of the two that have one name everywhere, what they are.
    pub fn title(&self) -> String {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let name = format!("{namespace}{}", self.name);
        match self.resource.kind {
            "Lease" => "the controller's lease".into(),
            "Service" => format!("the gateway's Service {}", visible(&name)),
            kind => format!("{kind} {}", visible(&name)),
        }
    }
}

/// Objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub resource: Resource,
    /// None for those of all namespaces.
    pub namespace: Option<String>,
    /// Labels that they have, as `-l` takes them; empty for any.
    pub labels: String,
    /// Fields that they have, as `--field-selector` takes them; empty for any.
    pub fields: String,
    /// How much of each object is asked for.
    pub detail: Detail,
}

impl Collection {
    pub fn of(resource: impl Into<Resource>, namespace: Option<&str>) -> Self {
        let namespace = namespace.map(str::to_owned);
        let (labels, fields) = (String::new(), String::new());
        Self { resource: resource.into(), namespace, labels, fields, detail: Detail::Whole }
    }

    pub fn labelled(self, labels: &str) -> Self {
        Self { labels: labels.to_owned(), ..self }
    }

    pub fn with_fields(self, fields: String) -> Self {
        Self { fields, ..self }
    }

    /// The same without more than their metadata.
    pub fn metadata(self) -> Self {
        Self { detail: Detail::Metadata, ..self }
    }

    /// Where the API server has it, whatever is chosen of it.
    pub fn place(&self) -> String {
        self.resource.path(self.namespace.as_deref())
    }

    /// Where the API server has what is chosen of it.
    pub fn path(&self) -> String {
        let choices = [("labelSelector", &self.labels), ("fieldSelector", &self.fields)];
        let choices = choices.into_iter().filter(|(_, chosen)| !chosen.is_empty());
        // A key of labels has a slash, which needs no escape behind the question mark.
        let choices: Vec<_> = choices.map(|(name, chosen)| format!("{name}={}", query(chosen))).collect();
        if choices.is_empty() { self.place() } else { format!("{}?{}", self.place(), choices.join("&")) }
    }
}

fn query(text: &str) -> String {
    text.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let name = NamespacedName { namespace: "a".into(), name: "b".into() };
        assert_eq!(ObjectRef::named(SECRET, &name).path(), "/api/v1/namespaces/a/secrets/b");
        let kind = Kind::of_word("cop").unwrap();
        let plane = ObjectRef::of_cluster(kind.into(), "x/../y?z");
        let path = "/apis/openchoreo.dev/v1alpha1/clusterobservabilityplanes/x%2F..%2Fy%3Fz";
        assert_eq!(plane.path(), path, "a name leads nowhere else");
        assert_eq!(plane.title(), "ClusterObservabilityPlane x/../y?z");
        let agents = Collection::of(DEPLOYMENT, Some("a")).labelled("app=x,kubernetes.io/y=z");
        let path = "/apis/apps/v1/namespaces/a/deployments?labelSelector=app%3Dx%2Ckubernetes.io/y%3Dz";
        assert_eq!(agents.path(), path);
        assert_eq!(Collection::of(DEPLOYMENT, None).path(), "/apis/apps/v1/deployments");
    }
}
