//! Name constraints (RFC 5280, 4.2.1.10) as Go applies them to the names below a CA.
//!
//! The subtrees of a CA are sorted once, so that many names against many subtrees take no product of both. Where Go
//! releases differ, a name is refused when one of them refuses it, and [`Objection::releases`] says which. In 1.24.11,
//! 1.24.12, 1.25.5 and 1.25.6 an excluded name of one label also refuses every wildcard (<https://go.dev/issue/76935>):
//! that fault was corrected, and isn't predicted.

use std::collections::HashSet;
use std::net::IpAddr;

use super::names::{Name, is_domain, mailbox, plain_host};

/// One permitted or excluded subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtree {
    Dns(String),
    Email(String),
    Uri(String),
    /// An address and how many of its first bits count.
    Ip {
        address: IpAddr,
        prefix: u8,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    pub permitted: Vec<Subtree>,
    pub excluded: Vec<Subtree>,
}

/// A name that a CA doesn't allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    pub name: String,
    /// Which Go releases refuse it, where not all do.
    pub releases: Option<&'static str>,
}

/// A wildcard is refused where it could name something in an excluded subtree (CVE-2025-61727).
const WILDCARDS: &str = "Go 1.24.11, Go 1.25.5 and later";
/// Constraints on mailboxes and URIs without a leading dot are about that very host (CVE-2026-78664, CVE-2026-78665);
/// Go 1.26.8 doesn't have the correction yet.
const EXACT: &str = "Go releases later than 1.26.8";
const SUBTREES: &str = "Go 1.26.8 and earlier";
/// An IPv4 address written as an IPv6 one is in IPv6 subtrees as its octets say, and since Go 1.26 as an IPv4 one.
const MAPPED: &str = "Go 1.26 and later";
const OCTETS: &str = "Go 1.25 and earlier";

/// Whether a name is in a set of subtrees, by Go releases.
#[derive(Clone, Copy)]
struct Found {
    earlier: bool,
    later: bool,
    /// Which releases the earlier and the later ones are.
    releases: (&'static str, &'static str),
}

impl Found {
    fn everywhere(found: bool) -> Self {
        Self { earlier: found, later: found, releases: ("", "") }
    }
}

/// The subtrees of one CA.
pub(super) struct Index {
    permitted: Side,
    excluded: Side,
}

impl Index {
    pub fn new(constraints: &Constraints) -> Self {
        Self { permitted: Side::new(&constraints.permitted), excluded: Side::new(&constraints.excluded) }
    }

    /// Returns a name that isn't allowed; one that every release refuses, where there is one.
    pub fn objection(&self, names: &[Name]) -> Option<Objection> {
        let mut partial = None;
        for name in names {
            match self.judge(name) {
                Some(None) => return Some(Objection { name: name.to_string(), releases: None }),
                Some(releases) if partial.is_none() => {
                    partial = Some(Objection { name: name.to_string(), releases });
                }
                _ => {}
            }
        }
        partial
    }

    /// Whether a name is refused, and by which releases where not by all.
    fn judge(&self, name: &Name) -> Option<Option<&'static str>> {
        let host = match name {
            Name::Dns(domain) => Some(domain.as_str()).filter(|domain| is_domain(domain.as_bytes(), false)),
            Name::Email(email) => mailbox(email).map(|(_, domain)| domain),
            Name::Uri(host) => host.as_deref().and_then(plain_host).filter(|host| is_domain(host.as_bytes(), false)),
            Name::Ip(_) => Some(""),
        };
        // What can't be understood is refused by whatever constraint.
        let Some(host) = host else {
            return Some(None);
        };
        let refusals = [
            self.permitted.find(name, host, false).map(|found| Found {
                earlier: !found.earlier,
                later: !found.later,
                ..found
            }),
            self.excluded.find(name, host, true),
        ];
        let refusals = refusals.into_iter().flatten().filter(|refused| refused.earlier || refused.later);
        let by = refusals.map(|refused| match (refused.earlier, refused.later) {
            (true, true) => None,
            (true, false) => Some(refused.releases.0),
            _ => Some(refused.releases.1),
        });
        by.min_by_key(|releases| releases.is_some())
    }
}

/// Subtrees by kind; none where there are none of a kind.
#[derive(Default)]
struct Side {
    dns: Option<Domains>,
    uri: Option<Domains>,
    email: Option<Mailboxes>,
    ip: Option<Nets>,
}

impl Side {
    fn new(subtrees: &[Subtree]) -> Self {
        let mut side = Self::default();
        for subtree in subtrees {
            match subtree {
                Subtree::Dns(domain) => side.dns.get_or_insert_default().add(domain),
                Subtree::Uri(domain) => side.uri.get_or_insert_default().add(domain),
                Subtree::Email(email) => side.email.get_or_insert_default().add(email),
                Subtree::Ip { address, prefix } => side.ip.get_or_insert_default().add(*address, *prefix),
            }
        }
        let domains = [&mut side.dns, &mut side.uri].into_iter().flatten();
        domains.chain(side.email.iter_mut().map(|email| &mut email.domains)).for_each(Domains::finish);
        side.ip.iter_mut().for_each(Nets::finish);
        side
    }

    /// Whether a name is in one of the subtrees of its kind; none where there are none.
    fn find(&self, name: &Name, host: &str, excluded: bool) -> Option<Found> {
        match name {
            Name::Dns(_) => self.dns.as_ref().map(|domains| domains.find(host, excluded)),
            Name::Uri(_) => self.uri.as_ref().map(|domains| domains.find_host(host, excluded)),
            Name::Email(email) => self.email.as_ref().map(|mailboxes| mailboxes.find(email, host, excluded)),
            Name::Ip(address) => self.ip.as_ref().map(|nets| nets.find(*address)),
        }
    }
}

/// Domains, each with what is below it; one with a leading dot is what is below only.
#[derive(Default)]
struct Domains {
    /// An empty one is everything.
    all: bool,
    trees: Vec<Vec<u8>>,
    /// Those with a leading dot.
    below: Vec<Vec<u8>>,
    exact: HashSet<String>,
    /// What follows the first label of each, from its dot on.
    parents: HashSet<String>,
}

impl Domains {
    fn add(&mut self, domain: &str) {
        let domain = domain.to_ascii_lowercase();
        self.all |= domain.is_empty();
        self.trees.push(reversed(&domain));
        if domain.starts_with('.') {
            self.below.push(reversed(&domain));
        }
        self.parents.extend(parent(&domain));
        self.exact.insert(domain);
    }

    fn finish(&mut self) {
        prune(&mut self.trees);
        prune(&mut self.below);
    }

    /// A domain of a DNS name.
    fn find(&self, domain: &str, excluded: bool) -> Found {
        let domain = domain.to_ascii_lowercase();
        if self.all || covers(&self.trees, &reversed(&domain)) {
            return Found::everywhere(true);
        }
        let wildcard =
            excluded && domain.starts_with('*') && parent(&domain).is_some_and(|p| self.parents.contains(&p));
        Found { earlier: false, later: wildcard, releases: ("", WILDCARDS) }
    }

    /// The host of a URI or of a mailbox.
    fn find_host(&self, host: &str, excluded: bool) -> Found {
        let host = host.to_ascii_lowercase();
        let later = self.all || self.exact.contains(&host) || covers(&self.below, &reversed(&host));
        let tree = self.find(&host, excluded);
        Found { earlier: tree.earlier || tree.later, later, releases: (SUBTREES, EXACT) }
    }
}

/// A domain from its last octet to its first. A dot sorts before everything else, so that what is below a domain follows
/// it at once.
fn reversed(domain: &str) -> Vec<u8> {
    domain.bytes().rev().map(|octet| if octet == b'.' { 0 } else { octet }).collect()
}

/// A domain without its first label, from the dot on.
fn parent(domain: &str) -> Option<String> {
    domain.find('.').map(|dot| domain[dot..].to_owned())
}

/// Sorts, and takes out what is below another one.
fn prune(trees: &mut Vec<Vec<u8>>) {
    trees.sort_unstable();
    trees.dedup_by(|next, kept| is_below(kept, next));
}

fn covers(pruned: &[Vec<u8>], domain: &[u8]) -> bool {
    let after = pruned.partition_point(|tree| tree.as_slice() <= domain);
    after.checked_sub(1).is_some_and(|last| is_below(&pruned[last], domain))
}

fn is_below(tree: &[u8], domain: &[u8]) -> bool {
    domain.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || tree.last() == Some(&0) || rest[0] == 0)
}

/// Whole mailboxes, and domains whose mailboxes count.
#[derive(Default)]
struct Mailboxes {
    /// The domain in lower case.
    whole: HashSet<(String, String)>,
    domains: Domains,
}

impl Mailboxes {
    fn add(&mut self, email: &str) {
        match mailbox(email).filter(|_| email.contains('@')) {
            Some((local, domain)) => {
                self.whole.insert((local, domain.to_ascii_lowercase()));
            }
            None => self.domains.add(email),
        }
    }

    fn find(&self, email: &str, domain: &str, excluded: bool) -> Found {
        let whole = mailbox(email).map(|(local, domain)| (local, domain.to_ascii_lowercase()));
        if whole.is_some_and(|whole| self.whole.contains(&whole)) {
            return Found::everywhere(true);
        }
        self.domains.find_host(domain, excluded)
    }
}

/// Ranges of addresses, from the first to the last, which neither overlap nor touch.
#[derive(Default)]
struct Nets {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
    /// Those of IPv4 addresses that are written as IPv6 ones.
    mapped: Vec<(u128, u128)>,
}

impl Nets {
    /// Bits that are set behind the prefix don't count. Go 1.26.0 to 1.26.8 sort by them, and can miss an address where
    /// there are several such subtrees; releases before and after don't.
    fn add(&mut self, address: IpAddr, prefix: u8) {
        let range = |bits: u128, width: u8| {
            let host = 1_u128.checked_shl(u32::from(width - prefix)).map_or(u128::MAX, |size| size - 1);
            (bits & !host, bits & !host | host)
        };
        match address {
            IpAddr::V4(address) => self.v4.push(range(address.to_bits().into(), 32)),
            IpAddr::V6(address) => {
                let range = range(address.to_bits(), 128);
                self.v6.push(range);
                if prefix >= 96 && address.to_ipv4_mapped().is_some() {
                    self.mapped.push(range);
                }
            }
        }
    }

    fn finish(&mut self) {
        for ranges in [&mut self.v4, &mut self.v6, &mut self.mapped] {
            ranges.sort_unstable();
            ranges.dedup_by(|next, kept| {
                let joined = next.0 <= kept.1;
                kept.1 = if joined { kept.1.max(next.1) } else { kept.1 };
                joined
            });
        }
    }

    fn find(&self, address: IpAddr) -> Found {
        let inside = |ranges: &[(u128, u128)], bits: u128| {
            let after = ranges.partition_point(|range| range.0 <= bits);
            after.checked_sub(1).is_some_and(|last| bits <= ranges[last].1)
        };
        match address {
            IpAddr::V4(address) => Found::everywhere(inside(&self.v4, address.to_bits().into())),
            IpAddr::V6(address) => {
                let earlier = inside(&self.v6, address.to_bits());
                let mapped = address.to_ipv4_mapped().is_some();
                let later = if mapped { inside(&self.mapped, address.to_bits()) } else { earlier };
                Found { earlier, later, releases: (OCTETS, MAPPED) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is refused of one name, and by which releases.
    fn refused(constraints: &Constraints, name: Name) -> Option<Option<&'static str>> {
        Index::new(constraints).objection(&[name]).map(|objection| objection.releases)
    }

    fn permitted(subtrees: Vec<Subtree>) -> Constraints {
        Constraints { permitted: subtrees, excluded: vec![] }
    }

    fn excluded(subtrees: Vec<Subtree>) -> Constraints {
        Constraints { permitted: vec![], excluded: subtrees }
    }

    fn dns(text: &str) -> Name {
        Name::Dns(text.into())
    }

    #[test]
    fn a_wildcard_must_not_name_what_is_excluded() {
        let of = |subtree: &str, name: &str| refused(&excluded(vec![Subtree::Dns(subtree.into())]), dns(name));
        assert_eq!(of("foo.example.com", "*.example.com"), Some(Some(WILDCARDS)));
        assert_eq!(of("foo.EXAMPLE.com", "*.Example.COM"), Some(Some(WILDCARDS)));
        assert_eq!(of("example.com", "*.example.com"), Some(None));
        assert_eq!(of(".example.com", "*.example.com"), Some(None));
        assert_eq!(of("a.b.example.com", "*.example.com"), None);
        assert_eq!(of("foo.example.com", "*.foo.example.com"), Some(None));
        assert_eq!(of("com", "*.example.org"), None);
        assert_eq!(of("foo.example.com", "*"), None);
        // A permitted subtree has to hold the whole wildcard.
        let permitted = permitted(vec![Subtree::Dns("foo.example.com".into())]);
        assert_eq!(refused(&permitted, dns("*.example.com")), Some(None));
    }

    #[test]
    fn hosts_of_mailboxes_and_uris_are_judged_by_the_stricter_release() {
        let email = |text: &str| Name::Email(text.into());
        let uri = |host: &str| Name::Uri(Some(host.into()));
        let mail = |subtree: &str| vec![Subtree::Email(subtree.into())];
        assert_eq!(refused(&permitted(mail("example.com")), email("a@Example.com")), None);
        assert_eq!(refused(&permitted(mail("example.com")), email("a@sub.example.com")), Some(Some(EXACT)));
        assert_eq!(refused(&excluded(mail("example.com")), email("a@sub.example.com")), Some(Some(SUBTREES)));
        assert_eq!(refused(&permitted(mail(".example.com")), email("a@sub.example.com")), None);
        assert_eq!(refused(&permitted(mail(".example.com")), email("a@example.com")), Some(None));
        let two = permitted([mail("a@example.com"), mail("a@example.org")].concat());
        assert_eq!(refused(&two, email("a@example.com")), None);
        assert_eq!(refused(&two, email("a@example.net")), Some(None));
        assert_eq!(refused(&two, email("A@example.com")), Some(None));
        let uris = |subtree: &str| vec![Subtree::Uri(subtree.into())];
        assert_eq!(refused(&permitted(uris("example.com")), uri("example.com:1")), None);
        assert_eq!(refused(&permitted(uris("example.com")), uri("a.example.com")), Some(Some(EXACT)));
        assert_eq!(refused(&permitted(uris("example.com")), uri("[fe80::1%eth0]")), Some(None));
        assert_eq!(refused(&permitted(uris("")), Name::Uri(None)), Some(None));
    }

    #[test]
    fn addresses_are_in_nets() {
        let net = |address: &str, prefix| Subtree::Ip { address: address.parse().unwrap(), prefix };
        let ip = |address: &str| Name::Ip(address.parse().unwrap());
        let nets = permitted(vec![net("10.9.9.9", 8), net("10.1.0.0", 16), net("2001:db8::", 32)]);
        assert_eq!(["10.0.0.0", "10.255.255.255", "2001:db8::1"].map(|at| refused(&nets, ip(at))), [None; 3]);
        assert_eq!(["9.255.255.255", "11.0.0.0", "::1"].map(|at| refused(&nets, ip(at))), [Some(None); 3]);
        assert_eq!(refused(&excluded(vec![net("0.0.0.0", 0)]), ip("1.2.3.4")), Some(None));
        assert_eq!(refused(&excluded(vec![net("::", 0)]), ip("::ffff:1.2.3.4")), Some(Some(OCTETS)));
        assert_eq!(refused(&excluded(vec![net("::ffff:1.2.0.0", 112)]), ip("::ffff:1.2.3.4")), Some(None));
    }

    /// The rule as RFC 5280 and Go's documentation put it, without an index.
    fn plainly_below(tree: &str, name: &str) -> bool {
        let (tree, name) = (tree.to_lowercase(), name.to_lowercase());
        let dotted = if tree.starts_with('.') { tree.clone() } else { format!(".{tree}") };
        tree.is_empty() || tree == name || name.ends_with(&dotted)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_search_finds(
            trees in proptest::collection::vec(r"\.?[abA-]{1,2}(\.[ab]{1,2}){0,3}", 1..12),
            name in r"[abB-]{1,2}(\.[ab]{1,2}){0,4}",
        ) {
            let subtrees = trees.iter().cloned().map(Subtree::Dns).collect();
            let plainly = trees.iter().any(|tree| plainly_below(tree, &name));
            prop_assert_eq!(refused(&excluded(subtrees), dns(&name)).is_some(), plainly);
        }
    }
}
