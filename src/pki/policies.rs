//! Whether the certificate policies of a chain hold (RFC 5280, 6.1, with the graph of RFC 9618), where every policy is
//! acceptable and none is required unless a certificate requires one.

use std::collections::{BTreeMap, BTreeSet};

use super::link::Link;

const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

/// The policies that are valid at one depth: each with what it expects below, and with those above that it comes from.
#[derive(Clone, Debug, Default)]
struct Level {
    nodes: BTreeMap<Vec<u8>, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    expected: BTreeSet<Vec<u8>>,
}

/// Whether they hold for a chain from the leaf to the root.
pub(super) fn hold(chain: &[&Link]) -> bool {
    let n = chain.len() - 1;
    if n == 0 {
        return true;
    }
    let any = || (ANY.to_vec(), Node { expected: BTreeSet::from([ANY.to_vec()]) });
    let mut level = Some(Level { nodes: BTreeMap::from([any()]) });
    let (mut explicit, mut mapping, mut inhibit) = (n as u64 + 1, n as u64 + 1, n as u64 + 1);
    for index in (0..n).rev() {
        let link = chain[index];
        let policies = &link.policies;
        let self_issued = link.subject == link.issuer;
        if policies.ids.is_empty() {
            level = None;
        }
        if explicit == 0 && level.is_none() {
            return false;
        }
        if let Some(above) = level.take() {
            let any_counts = inhibit > 0 || (index > 0 && self_issued);
            let mut below = next(&above, &policies.ids, any_counts);
            if index > 0 {
                match mapped(below, &policies.mappings, mapping > 0) {
                    Some(mapped) => below = mapped,
                    None => return false,
                }
            }
            level = (!below.nodes.is_empty()).then_some(below);
        }
        if index > 0 {
            if !self_issued {
                explicit = explicit.saturating_sub(1);
                mapping = mapping.saturating_sub(1);
                inhibit = inhibit.saturating_sub(1);
            }
            explicit = policies.require_explicit.map_or(explicit, |most| most.min(explicit));
            mapping = policies.inhibit_mapping.map_or(mapping, |most| most.min(mapping));
            inhibit = policies.inhibit_any.map_or(inhibit, |most| most.min(inhibit));
        }
    }
    explicit = explicit.saturating_sub(1);
    if chain[0].policies.require_explicit == Some(0) {
        explicit = 0;
    }
    explicit > 0 || level.is_some()
}

/// The policies of a certificate that those above it expect (RFC 5280, 6.1.3 d).
fn next(above: &Level, ids: &[Vec<u8>], any_counts: bool) -> Level {
    let expected: BTreeSet<_> = above.nodes.values().flat_map(|node| node.expected.iter()).collect();
    let any_above = above.nodes.contains_key(ANY);
    let node = |id: &Vec<u8>| (id.clone(), Node { expected: BTreeSet::from([id.clone()]) });
    let mut below = Level::default();
    for id in ids.iter().filter(|id| *id != ANY) {
        if expected.contains(id) || any_above {
            below.nodes.extend([node(id)]);
        }
    }
    if any_counts && ids.iter().any(|id| id == ANY) {
        for id in expected {
            if !below.nodes.contains_key(id) {
                below.nodes.extend([node(id)]);
            }
        }
    }
    below
}

/// What the policies of a CA are called below it (RFC 5280, 6.1.4 b); none where a mapping is not allowed.
fn mapped(mut level: Level, mappings: &[(Vec<u8>, Vec<u8>)], allowed: bool) -> Option<Level> {
    let mut names: BTreeMap<&Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (issuer, subject) in mappings {
        if !allowed {
            level.nodes.remove(issuer);
        } else if issuer == ANY || subject == ANY {
            return None;
        } else {
            names.entry(issuer).or_default().insert(subject.clone());
        }
    }
    for (issuer, expected) in names {
        if level.nodes.contains_key(issuer) || level.nodes.contains_key(ANY) {
            level.nodes.insert(issuer.clone(), Node { expected });
        }
    }
    Some(level)
}
