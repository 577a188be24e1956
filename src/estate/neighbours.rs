//! Which planes have the same planeID, and which the same CA.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::client_ca::ClientCa;
use crate::plane::PlaneKey;
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

/// The other planes of a planeID, by their names. Cheap to clone: those of one planeID share one list.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    all: Arc<Vec<String>>,
    /// Where the plane itself is in the list.
    own: Option<usize>,
}

impl Peers {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let others = self.all.iter().enumerate().filter(|(at, _)| Some(*at) != self.own);
        others.map(|(_, name)| name.as_str())
    }

    /// The first of them.
    pub fn few(&self) -> Few {
        let names = self.names().take(NAMED).map(str::to_owned).collect();
        Few { names, total: self.all.len() - usize::from(self.own.is_some()) }
    }

    #[cfg(test)]
    pub fn of(names: &[&str]) -> Self {
        Self { all: Arc::new(names.iter().map(|name| (*name).to_owned()).collect()), own: None }
    }
}

/// A plane that is known, with what it trusts, as far as that is known.
pub struct Neighbour {
    pub key: PlaneKey,
    pub plane_id: String,
    pub ca: Option<ClientCa>,
}

/// Planes that have one thing in common, each with the number of another thing that only some of them have in common.
#[derive(Default)]
struct Sorted {
    /// The first few planes of each number: no message names more of them.
    first: Vec<(usize, usize)>,
    total: usize,
}

impl Sorted {
    /// Adds a plane, of whose number so many are here by now.
    fn push(&mut self, by: usize, plane: usize, count: usize) {
        self.total += 1;
        if count <= NAMED {
            self.first.push((by, plane));
        }
    }

    /// The first planes of other numbers than these.
    fn first_but(&self, left_out: &BTreeSet<usize>) -> impl Iterator<Item = usize> {
        let others = self.first.iter().filter(|(by, _)| !left_out.contains(by));
        others.take(NAMED).map(|(_, plane)| *plane)
    }
}

/// All planes that are known, by their planeIDs and by the certificates in their CAs.
#[derive(Default)]
pub struct Neighbours {
    planes: Vec<PlaneKey>,
    /// By plane type and planeID: the gateway takes one planeID of two types for two planes.
    plane_ids: HashMap<(&'static str, String), usize>,
    /// By planeID: the names, and the planes by their group.
    of_plane_id: Vec<(Arc<Vec<String>>, Sorted)>,
    /// Where each plane is among those of its planeID.
    own: HashMap<(usize, PlaneKey), usize>,
    /// Planes with the same certificates in their CAs, by planeID.
    groups: Vec<Sorted>,
    /// The groups of a plane type that hold a certificate.
    by_certificate: HashMap<(&'static str, Vec<u8>), Vec<usize>>,
    /// How many planes of a planeID are in a group.
    counts: HashMap<(usize, usize), usize>,
}

impl Neighbours {
    pub fn new(planes: impl IntoIterator<Item = Neighbour>) -> Self {
        let mut all = Self::default();
        let (mut names, mut known) = (Vec::<Vec<String>>::new(), HashMap::new());
        for Neighbour { key, plane_id, ca } in planes {
            let plane = all.planes.len();
            let plane_type = key.kind.family.plane_type;
            let id = *all.plane_ids.entry((plane_type, plane_id)).or_insert(names.len());
            if id == names.len() {
                names.push(Vec::new());
                all.of_plane_id.push(<_>::default());
            }
            // Files may hold a plane more than once.
            if all.own.contains_key(&(id, key.clone())) {
                continue;
            }
            all.own.insert((id, key.clone()), names[id].len());
            names[id].push(key.to_string());
            if let Some(group) = ca.and_then(|ca| all.group(plane_type, &ca, &mut known)) {
                let count = all.counts.entry((id, group)).or_default();
                *count += 1;
                all.groups[group].push(id, plane, *count);
                all.of_plane_id[id].1.push(group, plane, *count);
            }
            all.planes.push(key);
        }
        for ((shared, _), names) in all.of_plane_id.iter_mut().zip(names) {
            *shared = Arc::new(names);
        }
        all
    }

    /// The group of a CA, which may be a new one; none where it holds no certificate.
    fn group(
        &mut self,
        plane_type: &'static str,
        ca: &ClientCa,
        known: &mut HashMap<(&'static str, BTreeSet<Vec<u8>>), usize>,
    ) -> Option<usize> {
        let certificates: BTreeSet<_> = ca.ders().iter().cloned().collect();
        if certificates.is_empty() {
            return None;
        }
        let group = *known.entry((plane_type, certificates)).or_insert_with_key(|(_, certificates)| {
            for der in certificates {
                self.by_certificate.entry((plane_type, der.clone())).or_default().push(self.groups.len());
            }
            self.groups.push(Sorted::default());
            self.groups.len() - 1
        });
        Some(group)
    }

    fn id(&self, key: &PlaneKey, plane_id: &str) -> Option<usize> {
        self.plane_ids.get(&(key.kind.family.plane_type, plane_id.to_owned())).copied()
    }

    /// Whether a plane of a type has this planeID.
    pub fn has_plane_id(&self, plane_type: &'static str, id: &str) -> bool {
        self.plane_ids.contains_key(&(plane_type, id.to_owned()))
    }

    /// The other planes of a plane's planeID.
    pub fn sharing(&self, key: &PlaneKey, plane_id: &str) -> Peers {
        let Some(id) = self.id(key, plane_id) else {
            return Peers::default();
        };
        let all = self.of_plane_id.get(id).map(|(names, _)| names.clone()).unwrap_or_default();
        Peers { own: self.own.get(&(id, key.clone())).copied(), all }
    }

    /// The planes of the same planeID whose CA has no certificate in common with this one.
    pub fn rivals(&self, key: &PlaneKey, plane_id: &str, ca: &ClientCa) -> Few {
        let with = self.with(key, ca);
        let Some(id) = self.id(key, plane_id).filter(|_| !with.is_empty()) else {
            return Few::default();
        };
        let (_, sorted) = &self.of_plane_id[id];
        let alike: usize = with.iter().filter_map(|group| self.counts.get(&(id, *group))).sum();
        self.named(sorted.first_but(&with), sorted.total - alike)
    }

    /// The planes of other planeIDs that have a certificate of this CA.
    pub fn same_ca(&self, key: &PlaneKey, plane_id: &str, ca: &ClientCa) -> Few {
        let own: BTreeSet<_> = self.id(key, plane_id).into_iter().collect();
        let groups = self.with(key, ca);
        let ours = groups.iter().flat_map(|group| own.iter().filter_map(|id| self.counts.get(&(*id, *group))));
        let total = groups.iter().map(|group| self.groups[*group].total).sum::<usize>() - ours.sum::<usize>();
        let mut few = self.named(groups.iter().flat_map(|group| self.groups[*group].first_but(&own)), total);
        few.names.sort();
        few
    }

    /// The first of these planes, in their order.
    fn named(&self, planes: impl Iterator<Item = usize>, total: usize) -> Few {
        let first: BTreeSet<_> = planes.collect();
        let names = first.into_iter().take(NAMED).filter_map(|plane| Some(self.planes.get(plane)?.to_string()));
        Few { names: names.collect(), total }
    }

    /// The groups of a plane's type that have a certificate of a CA.
    fn with(&self, key: &PlaneKey, ca: &ClientCa) -> BTreeSet<usize> {
        let plane_type = key.kind.family.plane_type;
        let groups = ca.ders().iter().filter_map(|der| self.by_certificate.get(&(plane_type, der.clone())));
        groups.flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{KeyAlgorithm, ca};
    use crate::plane::{Kind, Span};

    fn authority(name: &str) -> String {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        ca(name, KeyAlgorithm::EcdsaP256, Span::from_seconds(86_400), now).unwrap().certificate
    }

    fn key(name: &str) -> PlaneKey {
        PlaneKey { name: name.into(), ..PlaneKey::default() }
    }

    fn trusting(text: &str) -> ClientCa {
        ClientCa::new("value".into(), Ok(text.as_bytes().to_vec()))
    }

    #[test]
    fn planes_of_one_ca_or_one_plane_id_are_found() {
        let (one, other) = (authority("one"), authority("other"));
        let both = format!("{one}{other}");
        let mut planes: Vec<_> =
            [("a", "a", &one), ("b", "b", &both), ("a2", "a", &other)].map(|(n, id, ca)| (n.to_owned(), id, ca)).into();
        planes.extend((0..20).map(|number| (format!("z{number:02}"), "z", &one)));
        let known =
            planes.iter().map(|(n, id, ca)| Neighbour { key: key(n), plane_id: (*id).into(), ca: Some(trusting(ca)) });
        let unread = Neighbour { key: key("c"), plane_id: "a".into(), ca: None };
        let neighbours = Neighbours::new(known.chain([unread]));
        let sharing = neighbours.sharing(&key("a"), "a");
        assert_eq!((sharing.names().collect::<Vec<_>>(), sharing.few().total), (vec!["a2", "c"], 2));
        assert_eq!(neighbours.rivals(&key("a"), "a", &trusting(&one)), Few::of(&["a2"]));
        let same = neighbours.same_ca(&key("a"), "a", &trusting(&one));
        assert_eq!((same.total, same.to_string()), (21, "b, z00, z01, z02, z03 and 16 more".into()));
        assert!(neighbours.rivals(&key("b"), "b", &trusting(&both)).is_empty());
        assert_eq!(neighbours.same_ca(&key("b"), "b", &trusting(&both)).total, 22);
        let none = trusting("");
        assert!(
            neighbours.same_ca(&key("c"), "a", &none).is_empty() && neighbours.rivals(&key("a"), "a", &none).is_empty()
        );
        let has = |plane_type, id| neighbours.has_plane_id(plane_type, id);
        assert!(has("buildplane", "z") && !has("buildplane", "y") && !has("dataplane", "z"));
        assert!(neighbours.sharing(&key("y"), "y").few().is_empty());
        assert_eq!(Few::of(&["x", "y"]).to_string(), "x, y");
    }

    #[test]
    fn planes_of_both_scopes_are_compared_and_those_of_other_types_are_not() {
        let (one, other) = (authority("one"), authority("other"));
        let of = |word: &str, namespace: Option<&str>, plane_id: &str, ca: &str| {
            let kind = Kind::of_word(word).unwrap();
            let key = PlaneKey { kind, namespace: namespace.map(str::to_owned), name: "a".into() };
            Neighbour { key, plane_id: plane_id.into(), ca: Some(trusting(ca)) }
        };
        let all = || {
            [
                of("cdp", None, "id", &one),
                of("dp", Some("x"), "id", &other),
                of("dp", Some("y"), "id", &one),
                of("dp", Some("z"), "else", &one),
                of("cwp", None, "id", &other),
                of("cbp", None, "else", &one),
            ]
        };
        let neighbours = Neighbours::new(all());
        let reported = |plane: &Neighbour| {
            let ca = plane.ca.as_ref().unwrap();
            let sharing = neighbours.sharing(&plane.key, &plane.plane_id).few();
            [
                sharing,
                neighbours.rivals(&plane.key, &plane.plane_id, ca),
                neighbours.same_ca(&plane.key, &plane.plane_id, ca),
            ]
        };
        let reported: Vec<_> = all().iter().map(|plane| reported(plane).map(|few| few.to_string())).collect();
        let expected = [
            ["x/a, y/a", "x/a", "z/a"],
            ["a, y/a", "a, y/a", ""],
            ["a, x/a", "x/a", "z/a"],
            ["", "", "a, y/a"],
            ["", "", ""],
            ["", "", ""],
        ];
        assert_eq!(reported, expected.map(|reported| reported.map(str::to_owned)));
    }
}
