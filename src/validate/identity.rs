//! What a plane can have in common with others, in a few bytes.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::Range;
use std::sync::LazyLock;

use crate::manifest::{Node, Object};
use crate::pki;
use crate::text::visible;

/// What a plane can have in common with another, as hashes.
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

impl Identity {
    pub fn of(object: Object<'_>) -> Self {
        let root = object.node;
        let text = |node: Option<&Node>| {
            let node = node?;
            let text = node.as_str().filter(|text| !text.is_empty())?;
            Some((hash(&[text.as_bytes()]), node.span.clone(), visible(text).chars().take(63).collect::<String>()))
        };
        let name = root.at(&["metadata", "name"]);
        let ca = root.at(&["spec", "clusterAgent"]).and_then(|agent| agent.entry("clientCA"));
        let source = |key| ca.and_then(|ca| ca.node.get(key));
        let value = source("value").and_then(Node::as_str).unwrap_or_default();
        let secret = source("secretRef").map(|secret| {
            let part = |key| secret.get(key).and_then(Node::as_str).unwrap_or_default().as_bytes();
            hash(&[b"secret", part("namespace"), part("name"), part("key")])
        });
        let by_secret = value.is_empty();
        let cas = if by_secret {
            secret.into_iter().collect()
        } else {
            pki::certificates(value).iter().map(|der| hash(&[b"certificate", der])).collect()
        };
        Self {
            document: object.document,
            name: text(name).map(|(hash, span, _)| (hash, span)),
            plane_id: text(root.at(&["spec", "planeID"]).or(name)),
            cas,
            by_secret,
            ca: ca.map_or_else(|| root.span.clone(), |entry| entry.key_span.clone()),
        }
    }

    pub fn behind(self, documents: usize) -> Self {
        Self { document: self.document + documents, ..self }
    }
}
