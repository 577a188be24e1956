//! Warnings of what a write does to agents: those that it would lock out, and those that can then pass as others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::doctor::lockout;
use crate::estate::{CaPlace, Few};
use crate::pki;
use crate::plane::{CaSecret, Plane, PlaneKey};
use crate::term::Term;
use crate::text::visible;

/// Something that two planes can have in common as their CA.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ca {
    /// A certificate in the plane itself, in DER.
    Certificate(Vec<u8>),
    /// A Secret, which is compared by its name: its content may not be readable.
    Secret(CaSecret),
}

/// A plane, and what it has as its CA.
#[derive(Clone, Debug)]
struct Trusting {
    key: PlaneKey,
    plane_id: String,
    cas: BTreeSet<Ca>,
}

impl Trusting {
    fn of(plane: &Plane) -> Self {
        let cas = match CaPlace::of(plane) {
            CaPlace::Value(text) => pki::certificates(&text).into_iter().map(Ca::Certificate).collect(),
            CaPlace::Secret(secret) => BTreeSet::from([Ca::Secret(secret)]),
            CaPlace::Unusable(..) => BTreeSet::new(),
        };
        Self { key: plane.key(), plane_id: plane.plane_id().to_owned(), cas }
    }
}

/// Warns of CAs that these planes share with planes of other planeIDs. Without the right to list planes nothing is
/// said: it is only a remark.
pub async fn of_sharing(cluster: &Cluster, planes: &[Plane], term: &Term) {
    let written: Vec<_> = planes.iter().map(Trusting::of).collect();
    let cas: BTreeSet<_> = written.iter().flat_map(|plane| &plane.cas).collect();
    if cas.is_empty() {
        return;
    }
    let related = |plane: Plane| Some(Trusting::of(&plane)).filter(|plane| plane.cas.iter().any(|ca| cas.contains(ca)));
    let mut listed = Vec::new();
    let families: BTreeMap<_, _> = planes.iter().map(|plane| (plane.kind.family.plane_type, plane.kind)).collect();
    for kind in families.into_values() {
        listed.extend(cluster.of_kind(kind).family_as(related).await.unwrap_or_default().planes);
    }
    shared(&written, listed.into_iter().flatten()).iter().for_each(|reported| term.warn(reported));
}

/// Returns a sentence for each group of planes that share a CA and not the planeID, and of which one was written.
fn shared(written: &[Trusting], listed: impl Iterator<Item = Trusting>) -> Vec<String> {
    let is_written = |key: &PlaneKey| written.iter().any(|plane| plane.key == *key);
    // What was written counts as it was written: in a dry run the listed one is still another.
    let others: Vec<_> = listed.filter(|plane| !is_written(&plane.key)).collect();
    // Planes of two types are independent.
    let mut groups = BTreeMap::<(&str, &Ca), Vec<&Trusting>>::new();
    for plane in written.iter().chain(&others) {
        for ca in &plane.cas {
            groups.entry((plane.key.kind.family.plane_type, ca)).or_default().push(plane);
        }
    }
    let mut reported = Vec::new();
    for group in groups.into_values() {
        let (ours, others): (Vec<_>, Vec<_>) = group.iter().partition(|plane| is_written(&plane.key));
        let is_one = group.iter().all(|plane| plane.plane_id == group[0].plane_id);
        if ours.is_empty() || is_one {
            continue;
        }
        let sentence = sentence(&ours, &others);
        if !reported.contains(&sentence) {
            reported.push(sentence);
        }
    }
    reported
}

fn sentence(ours: &[&Trusting], others: &[&Trusting]) -> String {
    let why = "an agent of one can connect as an agent of another [ca-shared]";
    if let [one] = ours {
        let others: Vec<_> = others.iter().copied().filter(|other| other.plane_id != one.plane_id).collect();
        let other = if others.len() == 1 { "which has another planeID" } else { "which have other planeIDs" };
        return format!("{} trusts the same CA as {}, {other}: {why}", visible(&one.key.to_string()), some(&others));
    }
    let same = if others.is_empty() { String::new() } else { format!(" as {}", some(others)) };
    format!("{} trust the same CA{same}, and not all have the same planeID: {why}", some(ours))
}

/// The first names, and how many more there are.
fn some(planes: &[&Trusting]) -> Few {
    Few::of(&planes.iter().map(|plane| plane.key.to_string()).collect::<Vec<_>>())
}

/// Says whom planes lock out once they are applied; whether anybody.
pub async fn of_lockout(cluster: &Cluster, manifests: &[Value], term: &Term) -> bool {
    let planes: Vec<Plane> = manifests.iter().filter_map(|manifest| Plane::deserialize(manifest).ok()).collect();
    match lockout::of_apply(cluster, &planes).await {
        Ok(reported) => {
            reported.iter().for_each(|reported| term.warn(reported));
            !reported.is_empty()
        }
        // Where that kind isn't there, or nobody answers, applying says so better.
        Err(error @ (cluster::Error::Forbidden { .. } | cluster::Error::Unlisted(_))) => {
            term.warn(&format!("it is unknown whether agents would lose access: {error}"));
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Kind;

    fn plane(name: &str, plane_id: &str, cas: &[u8]) -> Trusting {
        let cas = cas.iter().map(|ca| Ca::Certificate(vec![*ca])).collect();
        let key = PlaneKey { name: name.into(), ..PlaneKey::default() };
        Trusting { key, plane_id: plane_id.into(), cas }
    }

    #[test]
    fn other_plane_ids_are_reported_once() {
        let listed = [plane("a", "a", &[9]), plane("b", "b", &[1, 2]), plane("c", "c", &[3]), plane("d", "x", &[1])];
        let reported = shared(&[plane("a", "a", &[1, 2])], listed.into_iter());
        assert_eq!(reported.len(), 2, "{reported:?}");
        assert!(reported[0].starts_with("a trusts the same CA as b, d, which have other planeIDs"), "{reported:?}");
        assert!(reported[1].starts_with("a trusts the same CA as b, which has another planeID"), "{reported:?}");
        // Planes of another type are independent.
        let of_kind = |word: &str, plane: Trusting| Trusting {
            key: PlaneKey { kind: Kind::of_word(word).unwrap(), ..plane.key },
            ..plane
        };
        let listed = [("buildplane", "b"), ("cdp", "c")].map(|(word, name)| of_kind(word, plane(name, name, &[1])));
        let reported = shared(&[plane("a", "a", &[1])], listed.into_iter());
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(reported[0].starts_with("a trusts the same CA as b, which has another planeID"), "{reported:?}");
        // Planes of one planeID have one CA by right.
        assert!(shared(&[plane("a", "x", &[1])], [plane("d", "x", &[1])].into_iter()).is_empty());
    }

    #[test]
    fn long_lists_say_how_many_are_left_out() {
        let many = |letter: &str| (0..20).map(|i| plane(&format!("{letter}{i:02}"), &i.to_string(), &[1])).collect();
        let (ours, others): (Vec<_>, Vec<_>) = (many("a"), many("b"));
        let reported = shared(&ours, others.into_iter());
        assert_eq!(reported.len(), 1);
        let start =
            "a00, a01, a02, a03, a04 and 15 more trust the same CA as b00, b01, b02, b03, b04 and 15 more, and not all";
        assert!(reported[0].starts_with(start), "{reported:?}");
        let reported = shared(&ours, std::iter::empty());
        assert!(
            reported[0].starts_with("a00, a01, a02, a03, a04 and 15 more trust the same CA, and not all"),
            "{reported:?}"
        );
    }

    #[test]
    fn secrets_are_compared_by_name() {
        let plane = |name: &str, key: &str| {
            let secret = serde_json::json!({"namespace": "ns", "name": "ca", "key": key});
            Trusting::of(
                &serde_json::from_value(serde_json::json!({
                    "metadata": {"name": name},
                    "spec": {"planeID": name, "clusterAgent": {"clientCA": {"secretRef": secret}}},
                }))
                .unwrap(),
            )
        };
        assert_eq!(shared(&[plane("a", "ca.crt")], [plane("b", "ca.crt")].into_iter()).len(), 1);
        assert!(shared(&[plane("a", "ca.crt")], [plane("b", "other")].into_iter()).is_empty());
    }
}
