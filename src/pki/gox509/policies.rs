//! Whether the certificate policies of a chain hold (RFC 5280, 6.1, with the graph of RFC 9618), where every policy is
//! acceptable and none is required unless a certificate requires one.

use std::collections::{BTreeMap, BTreeSet};

use super::extensions::Policies;
use super::link::Link;

const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

/// The policies that are valid at one depth, each with those that it expects below; policies as DER of their OIDs.
type Level = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// How many certificates may follow until a rule holds: that a policy is required, that none may be mapped, and that
/// anyPolicy doesn't count.
struct Limits {
    explicit: u64,
    mapping: u64,
    any: u64,
}

impl Limits {
    fn pass(&mut self, policies: &Policies, self_issued: bool) {
        let lower = |limit: &mut u64, most: Option<u64>| {
            *limit = limit.saturating_sub(u64::from(!self_issued)).min(most.unwrap_or(u64::MAX));
        };
        lower(&mut self.explicit, policies.require_explicit);
        lower(&mut self.mapping, policies.inhibit_mapping);
        lower(&mut self.any, policies.inhibit_any);
    }
}

/// Whether they hold for a chain from the leaf to the root.
pub(super) fn hold(chain: &[&Link]) -> bool {
    let [leaf, .., _] = chain else {
        return true;
    };
    let n = chain.len() as u64;
    let mut limits = Limits { explicit: n, mapping: n, any: n };
    let mut level = Some(Level::from([(ANY.to_vec(), BTreeSet::from([ANY.to_vec()]))]));
    for (index, link) in chain[..chain.len() - 1].iter().enumerate().rev() {
        let policies = &link.extensions.policies;
        let self_issued = link.subject == link.issuer;
        level = level.filter(|_| !policies.ids.is_empty());
        if limits.explicit == 0 && level.is_none() {
            return false;
        }
        if let Some(above) = level.take() {
            let any_counts = limits.any > 0 || (index > 0 && self_issued);
            let mut below = next(&above, &policies.ids, any_counts);
            if index > 0 {
                match mapped(below, &policies.mappings, limits.mapping > 0) {
                    Some(mapped) => below = mapped,
                    None => return false,
                }
            }
            level = (!below.is_empty()).then_some(below);
        }
        if index > 0 {
            limits.pass(policies, self_issued);
        }
    }
    let required = limits.explicit <= 1 || leaf.extensions.policies.require_explicit == Some(0);
    !required || level.is_some()
}

/// The policies of a certificate that those above it expect (RFC 5280, 6.1.3 d).
fn next(above: &Level, ids: &[Vec<u8>], any_counts: bool) -> Level {
    let expected: BTreeSet<_> = above.values().flatten().collect();
    let any_above = above.contains_key(ANY);
    let stated = ids.iter().filter(|id| *id != ANY && (any_above || expected.contains(id)));
    let mut below: BTreeSet<_> = stated.collect();
    if any_counts && ids.iter().any(|id| id == ANY) {
        below.extend(expected);
    }
    below.into_iter().map(|id| (id.clone(), BTreeSet::from([id.clone()]))).collect()
}

/// What the policies of a CA are called below it (RFC 5280, 6.1.4 b); none where a mapping is not allowed.
fn mapped(mut level: Level, mappings: &[(Vec<u8>, Vec<u8>)], allowed: bool) -> Option<Level> {
    let mut names = Level::new();
    for (issuer, subject) in mappings {
        if !allowed {
            level.remove(issuer);
        } else if issuer == ANY || subject == ANY {
            return None;
        } else {
            names.entry(issuer.clone()).or_default().insert(subject.clone());
        }
    }
    for (issuer, expected) in names {
        if level.contains_key(&issuer) || level.contains_key(ANY) {
            level.insert(issuer, expected);
        }
    }
    Some(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::gox509::link::tests::blank;

    const ONE: &[u8] = &[1];
    const TWO: &[u8] = &[2];

    fn stated(ids: &[&[u8]]) -> Policies {
        Policies { ids: ids.iter().map(|id| id.to_vec()).collect(), ..Policies::default() }
    }

    fn required(ids: &[&[u8]]) -> Policies {
        Policies { require_explicit: Some(0), ..stated(ids) }
    }

    fn mapping(policies: Policies, from: &[u8], to: &[u8]) -> Policies {
        Policies { mappings: vec![(from.to_vec(), to.to_vec())], ..policies }
    }

    /// Whether they hold for a leaf, the certificates above it, and a root that states none.
    fn holds(chain: &[Policies]) -> bool {
        let mut links: Vec<_> = (0..=chain.len() as u8).map(|number| blank(number, number + 1)).collect();
        links.iter_mut().zip(chain).for_each(|(link, policies)| link.extensions.policies = policies.clone());
        hold(&links.iter().collect::<Vec<_>>())
    }

    #[test]
    fn none_is_required_unless_a_certificate_says_so() {
        assert!(holds(&[]));
        assert!(holds(&[stated(&[]), stated(&[])]));
        assert!(holds(&[stated(&[ONE]), stated(&[TWO])]));
        assert!(!holds(&[required(&[])]));
        assert!(holds(&[required(&[ONE])]));
        assert!(!holds(&[stated(&[]), required(&[ONE])]));
        assert!(!holds(&[stated(&[TWO]), required(&[ONE])]));
        assert!(holds(&[stated(&[TWO, ONE]), required(&[ONE])]));
        // Nothing is left below a certificate without policies.
        assert!(!holds(&[stated(&[ONE]), stated(&[]), required(&[ONE])]));
    }

    #[test]
    fn a_requirement_may_be_put_off() {
        let later = |after| Policies { require_explicit: Some(after), ..stated(&[]) };
        assert!(!holds(&[stated(&[]), later(1)]));
        assert!(holds(&[stated(&[]), later(2)]));
        assert!(!holds(&[stated(&[]), stated(&[]), later(2)]));
    }

    #[test]
    fn any_policy_is_for_each() {
        assert!(holds(&[stated(&[ONE]), required(&[ANY])]));
        assert!(holds(&[stated(&[ANY]), required(&[ONE])]));
        let inhibited = Policies { inhibit_any: Some(0), ..required(&[ONE]) };
        assert!(!holds(&[stated(&[ANY]), inhibited]));
    }

    #[test]
    fn policies_may_be_called_otherwise_below() {
        let mapped = mapping(required(&[ONE]), ONE, TWO);
        assert!(holds(&[stated(&[TWO]), mapped.clone()]));
        assert!(!holds(&[stated(&[ONE]), mapped.clone()]));
        assert!(!holds(&[stated(&[TWO]), mapping(required(&[ONE]), ONE, ANY)]));
        let inhibited = Policies { inhibit_mapping: Some(0), ..stated(&[ONE]) };
        assert!(!holds(&[stated(&[TWO]), mapped, inhibited]));
    }
}
