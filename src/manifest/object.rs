//! Kubernetes objects in a text: a document each, or the items of a List.

use super::node::{Node, Value};
use super::read::{Document, Manifest};
use crate::plane::Kind;

/// An object in a document: the document itself, or an item of a List.
#[derive(Clone, Copy, Debug)]
pub struct Object<'m> {
    pub document: usize,
    pub node: &'m Node,
}

impl<'m> Object<'m> {
    pub fn kind(&self) -> &'m str {
        self.node.get("kind").and_then(Node::as_str).unwrap_or_default()
    }

    pub fn api_version(&self) -> &'m str {
        self.node.get("apiVersion").and_then(Node::as_str).unwrap_or_default()
    }

    pub fn name(&self) -> &'m str {
        self.node.at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or_default()
    }

    /// Returns the kind of the plane that it is.
    pub fn plane_kind(&self) -> Option<&'static Kind> {
        Kind::of_object(self.api_version(), self.kind())
    }

    pub fn is_plane(&self) -> bool {
        self.plane_kind().is_some()
    }
}

/// The objects of a file, Lists taken apart.
pub fn objects(manifest: &Manifest) -> Vec<Object<'_>> {
    unfolded(&manifest.documents)
}

pub fn unfolded(documents: &[Document]) -> Vec<Object<'_>> {
    fn unfold<'m>(document: &'m Document, node: &'m Node, objects: &mut Vec<Object<'m>>) {
        let object = Object { document: document.number, node };
        match node.get("items") {
            Some(Node { value: Value::Sequence(items), .. }) if object.kind().ends_with("List") => {
                items.iter().for_each(|item| unfold(document, item, objects));
            }
            _ => objects.push(object),
        }
    }
    let mut objects = Vec::new();
    documents.iter().for_each(|document| unfold(document, &document.root, &mut objects));
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    #[test]
    fn lists_are_taken_apart_at_any_depth() {
        let text = "kind: List\nitems:\n- kind: ConfigMapList\n  items: [{kind: ConfigMap, metadata: {name: a}}]\n- kind: ClusterBuildPlane\n  apiVersion: openchoreo.dev/v1alpha1\n---\nkind: Pod\nitems: [{kind: x}]\n";
        let manifest = parse("f".into(), text.into());
        let reported: Vec<_> =
            objects(&manifest).iter().map(|object| (object.document, object.kind(), object.name())).collect();
        assert_eq!(reported, [(1, "ConfigMap", "a"), (1, "ClusterBuildPlane", ""), (2, "Pod", "")]);
    }
}
