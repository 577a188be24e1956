//! What identifies a plane.

use std::fmt;

use serde_json::Value;

use super::kind::{DEFAULT_KIND, Family, Kind, Scope};
use super::name::NamespacedName;
use crate::text::{shell_quoted, visible};

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

    /// Reads a plane of a family as it is displayed.
    pub fn of_family(family: &'static Family, text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/').map_or((None, text), |(namespace, name)| (Some(namespace), name));
        let scope = if namespace.is_some() { Scope::Namespaced } else { Scope::Cluster };
        let kind = family.kinds().find(|kind| kind.scope == scope)?;
        Some(Self { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }

    /// Returns the plane as the words of a command line: `NAME`, `cwp/NAME`, or `dp/NAME -n NAMESPACE`.
    pub fn words(&self) -> String {
        if self.kind == DEFAULT_KIND { shell_quoted(&self.name).into_owned() } else { self.kind_words() }
    }

    /// Returns the same with the kind in any case: `cbp/NAME`.
    pub fn kind_words(&self) -> String {
        let namespace = self.namespace.as_deref().map(|namespace| format!(" -n {}", shell_quoted(namespace)));
        format!("{}/{}{}", self.kind.word(), shell_quoted(&self.name), namespace.unwrap_or_default())
    }

    /// Returns the command that migrates a plane of v0.17, as far as it is the same at any stage.
    pub fn migrate_command(&self) -> String {
        format!("choreoctl migrate {}", self.kind_words())
    }

    /// Returns `TYPE/NAME`, or `TYPE/NAMESPACE/NAME`, with the short word of the kind: planes of several kinds are distinguished.
    pub fn with_word(&self) -> String {
        format!("{}/{self}", self.kind.word())
    }

    /// Returns the plane as it is named in sentences: `KIND NAME`, or `KIND NAMESPACE/NAME`.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind.kind, visible(&self.to_string()))
    }

    /// Returns the plane as the words of a kubectl command: `TYPE NAME`, or `TYPE NAME -n NAMESPACE`.
    pub fn kubectl_words(&self) -> String {
        let namespace = self.namespace.as_deref().map(|namespace| format!(" -n {}", shell_quoted(namespace)));
        format!("{} {}{}", self.kind.type_name(), shell_quoted(&self.name), namespace.unwrap_or_default())
    }

    /// Returns the plane's path on the API server.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.path(self.namespace.as_deref()), self.name)
    }
}

/// As `NAME`, or `NAMESPACE/NAME`; the kind is clear from what is around it.
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
        let family = key.kind.family;
        assert_eq!(PlaneKey::of_family(family, &key.to_string()), Some(key.clone()));
        assert_eq!(PlaneKey::of_family(family, "b").unwrap().kind.kind, "ClusterDataPlane");
        assert_eq!((key.words(), key.kubectl_words()), ("dp/b -n a".into(), "dataplane.openchoreo.dev b -n a".into()));
        let build = Kind::of_word("cbp").unwrap();
        assert_eq!(PlaneKey::of_family(build.family, "n/a").unwrap().kind.kind, "BuildPlane");
        assert_eq!(
            PlaneKey::of_family(build.family, "a"),
            Some(PlaneKey { kind: build, namespace: None, name: "a".into() })
        );
        let odd = PlaneKey { name: "a b".into(), ..key.clone() };
        assert_eq!(odd.words(), "dp/'a b' -n a");
        let workflow = PlaneKey { kind: Kind::of_word("cwp").unwrap(), namespace: None, name: "b".into() };
        assert_eq!(
            (workflow.words(), workflow.path()),
            ("cwp/b".into(), "/apis/openchoreo.dev/v1alpha1/clusterworkflowplanes/b".into())
        );
        let other = PlaneKey::of_object(&json!({"metadata": {"name": "b"}}));
        assert_eq!((other.words(), other.migrate_command()), ("b".into(), "choreoctl migrate cbp/b".into()));
        assert_eq!((other.kind.kind, other.to_string().as_str()), ("ClusterBuildPlane", "b"));
        assert_ne!(key, other);
    }
}
