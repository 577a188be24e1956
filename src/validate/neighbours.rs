//! Rules across planes, whichever files they stand in. A few bytes are kept of each plane.

use std::collections::HashMap;
use std::ops::Range;

use super::fields::CLIENT_CA;
use super::finding::{Finding, Judgement};
use super::identity::Identity;
use super::rules::{CA_SHARED, PLANE_ID_SHARED, PLANE_TWICE, Rule};
use crate::manifest::Manifest;

/// The planes that were seen so far.
#[derive(Debug, Default)]
pub struct Neighbours {
    files: Vec<String>,
    /// File and line of each plane.
    places: Vec<(u32, u32)>,
    names: HashMap<u64, u32>,
    plane_ids: HashMap<u64, Sharing>,
    /// The planeID that each CA was first seen with.
    cas: HashMap<u64, (u64, u32)>,
}

/// The first plane of a planeID.
#[derive(Debug)]
struct Sharing {
    plane: u32,
    by_secret: bool,
    cas: Box<[u64]>,
}

impl Neighbours {
    /// Takes the planes of a file, and adds to its judgement what they have in common with those seen before.
    pub fn meet(&mut self, manifest: &Manifest, judgement: &mut Judgement) {
        if judgement.identities.is_empty() {
            return;
        }
        self.files.push(manifest.file.clone());
        let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        let (mut line, mut at) = (1, 0);
        let mut findings = Vec::new();
        for identity in std::mem::take(&mut judgement.identities) {
            // Planes come in the order of the text, but for those behind aliases.
            let place = identity.name.as_ref().map_or(&identity.ca, |(_, span)| span);
            let start = place.start.max(at);
            line += manifest.text.as_bytes()[at..start].iter().filter(|byte| **byte == b'\n').count() as u32;
            at = start;
            let plane = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            self.places.push((file, line));
            self.meet_one(identity, plane, &mut findings);
        }
        if !findings.is_empty() {
            judgement.add(findings);
        }
    }

    fn meet_one(&mut self, identity: Identity, plane: u32, findings: &mut Vec<Finding>) {
        let mut report = |rule: &'static Rule, span: &Range<usize>, path: &str, message: String, label: &str| {
            findings.push(Finding::new(rule, identity.document, span.clone(), path, message, label));
        };
        let twice = identity.name.as_ref().and_then(|(name, span)| {
            let first = *self.names.entry(*name).or_insert(plane);
            (first != plane).then_some((first, span))
        });
        if let Some((first, span)) = twice {
            let message =
                format!("this plane is also defined at {}: the last one that is applied wins", self.place(first));
            report(&PLANE_TWICE, span, "metadata.name", message, "again");
            // Both mean one plane, so what they have in common is no wonder.
            return;
        }
        let Some((plane_id, span, text)) = &identity.plane_id else {
            return;
        };
        if let Some(first) = self.plane_ids.get(plane_id) {
            let comparable = first.by_secret == identity.by_secret && !first.cas.is_empty() && !identity.cas.is_empty();
            if comparable && !first.cas.iter().any(|ca| identity.cas.contains(ca)) {
                let message = plane_id_shared(text, &format!("the plane at {}", self.place(first.plane)));
                report(&PLANE_ID_SHARED, span, "spec.planeID", message, "shared");
            }
        } else {
            let sharing = Sharing { plane, by_secret: identity.by_secret, cas: identity.cas.clone() };
            self.plane_ids.insert(*plane_id, sharing);
        }
        let mut reported = false;
        for ca in &identity.cas {
            let (owner, first) = *self.cas.entry(*ca).or_insert((*plane_id, plane));
            if owner != *plane_id && !reported {
                reported = true;
                let message = ca_shared(&format!("the plane at {}", self.place(first)));
                report(&CA_SHARED, &identity.ca, CLIENT_CA, message, "shared");
            }
        }
    }

    fn place(&self, plane: u32) -> String {
        let (file, line) = self.places.get(plane as usize).copied().unwrap_or_default();
        format!("{}:{line}", self.files.get(file as usize).map_or("", String::as_str))
    }
}

/// Says what it means that planes of one planeID trust different CAs; `others` is where they are, or their names.
pub fn plane_id_shared(plane_id: &str, others: &str) -> String {
    format!(
        "planeID {plane_id} is also used by {others} (different CA): an agent is authorized for only some of these planes"
    )
}

/// Says what it means that planes of several planeIDs trust one CA; `others` as in [`plane_id_shared`].
pub fn ca_shared(others: &str) -> String {
    format!(
        "the CA is also trusted by {others} (different planeID): the agent of one can connect as the agent of the other"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::validate::tests::reference;

    fn plane(name: &str, plane_id: &str, secret: &str) -> String {
        format!(
            "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {{name: {name}}}\nspec: {{planeID: {plane_id}, clusterAgent: {{clientCA: {{secretRef: {{name: {secret}, namespace: s, key: k}}}}}}}}\n"
        )
    }

    /// What several files have in common, each finding with the file that it is reported in.
    fn met(files: &[&str]) -> Vec<(String, &'static str, String)> {
        let mut neighbours = Neighbours::default();
        let meet = |(number, text): (usize, &&str)| {
            let manifest = parse(format!("{number}.yaml"), (*text).to_owned());
            let mut judgement = reference().judge(&manifest);
            neighbours.meet(&manifest, &mut judgement);
            let reported = |finding: Finding| (manifest.file.clone(), finding.rule.id, finding.message);
            judgement.findings.into_iter().map(reported).collect::<Vec<_>>()
        };
        files.iter().enumerate().flat_map(meet).collect()
    }

    #[test]
    fn what_planes_have_in_common_is_reported_of_the_later_one() {
        let first = plane("a", "a", "ca-a");
        let reported = |others: &str, rule: &'static str, message: &str| {
            let found = met(&[&format!("# first\n{first}"), others]);
            let expected = ("1.yaml".to_owned(), rule, message.to_owned());
            assert_eq!(found, [expected]);
        };
        reported(
            &plane("a", "b", "ca-b"),
            "plane-twice",
            "this plane is also defined at 0.yaml:4: the last one that is applied wins",
        );
        reported(&plane("b", "a", "ca-b"), "plane-id-shared", &plane_id_shared("a", "the plane at 0.yaml:4"));
        reported(&plane("b", "b", "ca-a"), "ca-shared", &ca_shared("the plane at 0.yaml:4"));
        for others in [plane("b", "b", "ca-b"), plane("b", "a", "ca-a")] {
            assert_eq!(met(&[&first, &others]), []);
        }
    }

    /// A plane of any kind, with a CA in a Secret.
    fn of_kind(kind: &str, namespace: &str, name: &str, plane_id: &str, secret: &str) -> String {
        let field = if kind.ends_with("BuildPlane") { "secretRef" } else { "secretKeyRef" };
        let namespace = if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
        let observer = if kind.contains("Observ") { "observerURL: u, " } else { "" };
        format!(
            "apiVersion: openchoreo.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\nspec: {{{observer}planeID: {plane_id}, clusterAgent: {{clientCA: {{{field}: {secret}}}}}}}\n"
        )
    }

    #[test]
    fn planes_meet_within_a_type_in_both_scopes_and_all_namespaces() {
        let ca = "{name: ca, key: k}";
        let first = of_kind("DataPlane", "one", "a", "x", ca);
        for (other, reported) in [
            (of_kind("DataPlane", "one", "a", "x", ca), Some("plane-twice")),
            (of_kind("DataPlane", "two", "a", "x", ca), Some("plane-id-shared")),
            (of_kind("DataPlane", "two", "a", "x", "{name: ca, namespace: one, key: k}"), None),
            (of_kind("ClusterDataPlane", "", "a", "x", "{name: ca, namespace: two, key: k}"), Some("plane-id-shared")),
            (of_kind("ClusterDataPlane", "", "a", "x", "{name: ca, namespace: one, key: k}"), None),
            (of_kind("ClusterDataPlane", "", "a", "z", "{name: ca, namespace: one, key: k}"), Some("ca-shared")),
            (of_kind("WorkflowPlane", "one", "a", "x", "{name: other, key: k}"), None),
            (of_kind("ObservabilityPlane", "one", "a", "z", ca), None),
            (of_kind("BuildPlane", "one", "a", "x", ca), None),
        ] {
            let found: Vec<_> = met(&[&first, &other]).into_iter().map(|(_, rule, _)| rule).collect();
            assert_eq!(found, Vec::from_iter(reported), "{other}");
        }
        // Both are meant for the namespace of the context.
        let unplaced = of_kind("DataPlane", "", "a", "x", ca);
        assert_eq!(met(&[&unplaced, &unplaced])[0].1, "plane-twice");
        assert_eq!(met(&[&unplaced, &first]), []);
    }

    #[test]
    fn a_value_and_a_secret_cannot_be_compared() {
        let value = plane("b", "a", "x").replace("secretRef: {name: x, namespace: s, key: k}", "value: x");
        assert!(met(&[&plane("a", "a", "ca"), &value]).iter().all(|(_, rule, _)| *rule != "plane-id-shared"));
    }
}
