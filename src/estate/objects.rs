//! What can be asked for in a cluster: kinds, objects by their names, and collections; and where the API server has them.

use crate::plane::NamespacedName;
use crate::text::visible;

/// A kind of objects, as the API server names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: &'static str,
    /// Empty for the core group.
    group: &'static str,
    version: &'static str,
    plural: &'static str,
}

macro_rules! resources {
    ($($name:ident = $kind:expr, $group:expr, $version:expr, $plural:expr;)*) => {
        $(pub static $name: Resource = Resource { kind: $kind, group: $group, version: $version, plural: $plural };)*
    };
}

resources! {
    SECRET = "Secret", "", "v1", "secrets";
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

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
    pub resource: &'static Resource,
    /// None for one of the whole cluster.
    pub namespace: Option<String>,
    pub name: String,
    /// The key that is wanted of a Secret, beside those with an agent's certificate and the CA next to it.
    pub key: Option<String>,
}

impl ObjectRef {
    pub fn named(resource: &'static Resource, name: &NamespacedName) -> Self {
        Self { resource, namespace: Some(name.namespace.clone()), name: name.name.clone(), key: None }
    }

    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Where the API server has it.
    pub fn path(&self) -> String {
        format!("{}/{}", self.resource.path(self.namespace.as_deref()), encoded(&self.name))
    }

    /// As `Secret NAMESPACE/NAME`.
    pub fn title(&self) -> String {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let name = format!("{namespace}{}", self.name);
        format!("{} {}", self.resource.kind, visible(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let name = NamespacedName { namespace: "a".into(), name: "b".into() };
        assert_eq!(ObjectRef::named(&SECRET, &name).path(), "/api/v1/namespaces/a/secrets/b");
    }
}
