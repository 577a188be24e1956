//! What identifies a plane.

use std::fmt;

use serde_json::Value;

use super::kind::Kind;
use super::name::NamespacedName;

/// What identifies a plane: its kind, its namespace where the kind has one, and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaneKey {
    pub kind: &'static Kind,
    pub namespace: Option<String>,
    pub name: String,
}

impl PlaneKey {
    /// Returns what identifies the plane that an object is.
    pub fn of_object(object: &Value) -> Self {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let kind = Kind::of_object(text("/apiVersion").unwrap_or_default(), text("/kind").unwrap_or_default());
        Self {
            kind: kind.unwrap_or_default(),
            namespace: text("/metadata/namespace").map(str::to_owned),
            name: text("/metadata/name").unwrap_or_default().to_owned(),
        }
    }

    /// Returns the plane's path on the API server.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.path(self.namespace.as_deref()), self.name)
    }
}

/// As `NAME`, or `NAMESPACE/NAME`; the kind is told by what stands around it.
impl fmt::Display for PlaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => f.pad(&self.name),
            Some(namespace) => {
                let name = NamespacedName { namespace: namespace.clone(), name: self.name.clone() };
                f.pad(&name.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plane_is_identified_by_its_kind_its_namespace_and_its_name() {
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "DataPlane", "metadata": {"namespace": "a", "name": "b"}});
        let key = PlaneKey::of_object(&object);
        assert_eq!((key.kind.kind, key.to_string().as_str()), ("DataPlane", "a/b"));
        assert_eq!(key.path(), "/apis/openchoreo.dev/v1alpha1/namespaces/a/dataplanes/b");
        let other = PlaneKey::of_object(&json!({"metadata": {"name": "b"}}));
        assert_eq!((other.kind.kind, other.to_string().as_str()), ("ClusterBuildPlane", "b"));
        assert_ne!(key, other);
    }
}
