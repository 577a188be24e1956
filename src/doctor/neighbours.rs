//! Which planes have the same planeID, and which the same CA.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::estate::ClientCa;
use crate::pki;
use crate::plane::Plane;
use crate::text::visible;

/// How many names a message has.
const NAMED: usize = 5;

/// The first of several names, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Few {
    pub names: Vec<String>,
    pub total: usize,
}

impl Few {
    /// The first of these names.
    pub fn of<N: AsRef<str>>(names: &[N]) -> Self {
        let first = names.iter().take(NAMED).map(|name| name.as_ref().to_owned());
        Self { names: first.collect(), total: names.len() }
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// As `a, b and 14 more`.
impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names.iter().map(|name| visible(name)).collect();
        f.write_str(&names.join(", "))?;
        match self.total.saturating_sub(names.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// All planes that are known, by their planeIDs and by the certificates in their CAs.
pub struct Neighbours {
    by_plane_id: BTreeMap<String, Vec<String>>,
    /// Planes with the same certificates in their CAs.
    groups: Vec<Group>,
    /// The groups that hold a certificate.
    by_certificate: HashMap<Vec<u8>, Vec<usize>>,
    /// The group of each plane whose CA holds a certificate.
    of_plane: HashMap<String, usize>,
}

#[derive(Default)]
struct Group {
    /// Names and planeIDs.
    planes: Vec<(String, String)>,
    by_plane_id: HashMap<String, usize>,
}

impl Neighbours {
    pub fn new<'p>(planes: impl Iterator<Item = (&'p Plane, &'p ClientCa)>) -> Self {
        let mut by_plane_id = BTreeMap::<_, Vec<_>>::new();
        let (mut groups, mut by_certificate, mut of_plane) = (Vec::<Group>::new(), HashMap::new(), HashMap::new());
        let mut known = HashMap::<BTreeSet<Vec<u8>>, usize>::new();
        for (plane, ca) in planes {
            let (name, id) = (plane.name().to_owned(), plane.plane_id().to_owned());
            by_plane_id.entry(id.clone()).or_default().push(name.clone());
            let certificates = certificates(ca);
            if certificates.is_empty() {
                continue;
            }
            let group = *known.entry(certificates).or_insert_with_key(|certificates| {
                for der in certificates {
                    by_certificate.entry(der.clone()).or_insert_with(Vec::new).push(groups.len());
                }
                groups.push(Group::default());
                groups.len() - 1
            });
            if let Some(members) = groups.get_mut(group) {
                *members.by_plane_id.entry(id.clone()).or_default() += 1;
                members.planes.push((name.clone(), id));
            }
            of_plane.insert(name, group);
        }
        Self { by_plane_id, groups, by_certificate, of_plane }
    }

    /// Whether a plane has this planeID.
    pub fn has_plane_id(&self, id: &str) -> bool {
        self.by_plane_id.contains_key(id)
    }

    /// The other planes of a planeID.
    pub fn sharing(&self, plane: &Plane) -> Vec<String> {
        let all = self.by_plane_id.get(plane.plane_id()).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|name| *name != plane.name()).cloned().collect()
    }

    /// The planes of the same planeID whose CA has no certificate in common with this one.
    pub fn rivals(&self, plane: &Plane, ca: &ClientCa) -> Vec<String> {
        let with = self.with(ca);
        let differs = |name: &String| self.of_plane.get(name).is_some_and(|group| !with.contains(group));
        if with.is_empty() { Vec::new() } else { self.sharing(plane).into_iter().filter(differs).collect() }
    }

    /// The planes of other planeIDs that have a certificate of this CA.
    pub fn same_ca(&self, plane: &Plane, ca: &ClientCa) -> Few {
        let with = self.with(ca);
        let groups = || with.iter().filter_map(|group| self.groups.get(*group));
        let id = plane.plane_id();
        let strangers = |group: &Group| group.planes.len() - group.by_plane_id.get(id).copied().unwrap_or_default();
        let others = groups().flat_map(|group| &group.planes).filter(|(_, other)| other != id);
        let mut names: Vec<_> = others.take(NAMED).map(|(name, _)| name.clone()).collect();
        names.sort();
        Few { names, total: groups().map(strangers).sum() }
    }

    /// The groups that have a certificate of a CA.
    fn with(&self, ca: &ClientCa) -> HashSet<usize> {
        certificates(ca).iter().filter_map(|der| self.by_certificate.get(der)).flatten().copied().collect()
    }
}

fn certificates(ca: &ClientCa) -> BTreeSet<Vec<u8>> {
    pki::certificates(ca.text().unwrap_or_default()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{KeyAlgorithm, ca};
    use crate::plane::Span;
    use serde_json::json;

    fn authority(name: &str) -> String {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        ca(name, KeyAlgorithm::EcdsaP256, Span::from_seconds(86_400), now).unwrap().certificate
    }

    fn plane(name: &str, id: &str, ca: &str) -> (Plane, ClientCa) {
        let object = json!({"metadata": {"name": name}, "spec": {"planeID": id}});
        (serde_json::from_value(object).unwrap(), ClientCa::new("value".into(), Ok(ca.as_bytes().to_vec())))
    }

    #[test]
    fn planes_of_one_ca_or_one_plane_id_are_found() {
        let (one, other) = (authority("one"), authority("other"));
        let both = format!("{one}{other}");
        let mut all =
            vec![plane("a", "a", &one), plane("b", "b", &both), plane("a2", "a", &other), plane("c", "c", "")];
        all.extend((0..20).map(|number| plane(&format!("z{number:02}"), "z", &one)));
        let neighbours = Neighbours::new(all.iter().map(|(plane, ca)| (plane, ca)));
        let (a, ca) = &all[0];
        assert_eq!((neighbours.sharing(a), neighbours.rivals(a, ca)), (vec!["a2".into()], vec!["a2".into()]));
        let same = neighbours.same_ca(a, ca);
        assert_eq!(same.total, 21, "{same}");
        assert!(same.to_string().ends_with(" and 16 more"), "{same}");
        let (b, ca) = &all[1];
        assert_eq!((neighbours.rivals(b, ca).len(), neighbours.same_ca(b, ca).total), (0, 22));
        let (c, ca) = &all[3];
        assert!(neighbours.same_ca(c, ca).is_empty() && neighbours.rivals(c, ca).is_empty());
        assert_eq!(Few::of(&["x", "y"]).to_string(), "x, y");
    }
}
