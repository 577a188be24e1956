//! What a plane can have in common with others, in a few bytes.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::Range;
use std::sync::LazyLock;

use crate::manifest::{Node, Object};
use crate::pki;
use crate::plane::{Kind, Release, Scope};
use crate::text::visible;

/// What a plane can have in common with another, as hashes: with one of the same planeType, as the agents of other types
/// do not meet it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub document: usize,
    pub name: Option<(u64, Range<usize>)>,
    pub plane_id: Option<(u64, Range<usize>, String)>,
    /// Each certificate that it trusts, or the key of the Secret that holds them.
    pub cas: Box<[u64]>,
    pub by_secret: bool,
    pub ca: Range<usize>,
}

static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = SEED.build_hasher();
    for part in parts {
        hasher.write(part);
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

/// A text that isn't empty, and where it is.
fn text(node: Option<&Node>) -> Option<(&str, Range<usize>)> {
    let node = node?;
    Some((node.as_str().filter(|text| !text.is_empty())?, node.span.clone()))
}

impl Identity {
    pub fn of(object: Object<'_>, kind: &Kind) -> Self {
        let root = object.node;
        let own = match kind.scope {
            Scope::Cluster => Some(""),
            // Of one that is left out, the context decides.
            Scope::Namespaced => text(root.at(&["metadata", "namespace"])).map(|(namespace, _)| namespace),
        };
        let of_type = kind.family.plane_type.as_bytes();
        let name = root.at(&["metadata", "name"]);
        let ca = root.at(&["spec", "clusterAgent"]).and_then(|agent| agent.entry("clientCA"));
        let source = |key| ca.and_then(|ca| ca.node.get(key));
        let value = source("value").and_then(Node::as_str).unwrap_or_default();
        let secret = Release::ALL.iter().find_map(|release| source(release.secret_field())).and_then(|secret| {
            let part = |key| text(secret.get(key)).map(|(text, _)| text);
            let namespace = part("namespace").or(own)?;
            let [name, key] = ["name", "key"].map(|key| part(key).unwrap_or_default().as_bytes());
            Some(hash(&[of_type, b"secret", namespace.as_bytes(), name, key]))
        });
        let by_secret = value.is_empty();
        let cas = if by_secret {
            secret.into_iter().collect()
        } else {
            pki::certificates(value).iter().map(|der| hash(&[of_type, b"certificate", der])).collect()
        };
        Self {
            document: object.document,
            name: text(name).map(|(name, span)| {
                (hash(&[kind.plural.as_bytes(), own.unwrap_or_default().as_bytes(), name.as_bytes()]), span)
            }),
            plane_id: text(root.at(&["spec", "planeID"]).or(name))
                .map(|(id, span)| (hash(&[of_type, id.as_bytes()]), span, visible(id).chars().take(63).collect())),
            cas,
            by_secret,
            ca: ca.map_or_else(|| root.span.clone(), |entry| entry.key_span.clone()),
        }
    }

    pub fn behind(self, documents: usize) -> Self {
        Self { document: self.document + documents, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{objects, parse};
    use crate::plane::DEFAULT_KIND;
    use crate::validate::tests::{pems, plane};

    fn of(spec: &str) -> Identity {
        Identity::of(objects(&parse("f".into(), plane(spec)))[0], DEFAULT_KIND)
    }

    #[test]
    fn planes_have_in_common_what_has_one_hash() {
        let ca = |value: &str| format!("clusterAgent: {{clientCA: {{value: {value:?}}}}}");
        let [.., (_, expired), _, (_, soon), _, _, _, _] = <[_; 9]>::try_from(pems()).unwrap();
        let (one, both) = (of(&format!("{{{}}}", ca(&soon))), of(&format!("{{{}}}", ca(&format!("{expired}{soon}")))));
        assert_eq!((one.cas.len(), both.cas.len(), one.by_secret), (1, 2, false));
        assert!(both.cas.contains(&one.cas[0]));
        let secret = |name: &str| {
            of(&format!("{{clusterAgent: {{clientCA: {{secretRef: {{name: {name}, namespace: s, key: k}}}}}}}}"))
        };
        assert_eq!(secret("a").cas, secret("a").cas);
        assert_ne!(secret("a").cas, secret("b").cas);
        assert!(secret("a").by_secret);
    }

    #[test]
    fn a_plane_id_defaults_to_the_name() {
        let (named, given) = (of("{}"), of("{planeID: a}"));
        assert_eq!(named.plane_id.unwrap().0, given.plane_id.unwrap().0);
        assert_eq!(of("{planeID: ''}").plane_id, None);
        assert_eq!(of("{}").behind(3).document, 4);
    }
}
