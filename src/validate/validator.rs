//! The judges of a document in their order: its schema, the gateway, practice; and what is no plane at all.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use super::finding::{Found, Judgement, LIMIT};
use super::identity::Identity;
use super::schema::Resource;
use super::{cel, gateway, metadata, rules};
use crate::manifest::{Document, Fault, Manifest, Object, Part, Value, parse, parse_part, unfolded};
use crate::plane::{DEFAULT_KIND, KINDS, Kind};
use crate::text::visible;

/// The resources of the reference, one for each kind that is handled.
static REFERENCE: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let crds = KINDS.iter().filter_map(|kind| kind.crd(kind.release()));
    let read = crds.filter_map(|crd| Resource::all_of(&parse("the reference".into(), crd)).ok());
    read.flatten().map(Arc::new).collect()
});

/// By what planes are judged, and when.
#[derive(Debug)]
pub struct Validator {
    resources: Vec<Arc<Resource>>,
    /// Whether what releases demand beyond the reference is told.
    releases: bool,
    at: Timestamp,
    outcomes: cel::Outcomes,
    remarks: gateway::Remarks,
}

impl Validator {
    /// By the reference, with what the releases demand beyond it as warnings.
    pub fn reference(at: Timestamp) -> Self {
        Self {
            resources: REFERENCE.clone(),
            releases: true,
            at,
            outcomes: cel::Outcomes::default(),
            remarks: gateway::Remarks::default(),
        }
    }

    /// By CRDs instead of the reference's. None of them: the API server is asked for its part.
    pub fn of_crds(resources: Vec<Resource>, at: Timestamp) -> Self {
        Self { resources: resources.into_iter().map(Arc::new).collect(), releases: false, ..Self::reference(at) }
    }

    /// Judges every document of a file.
    pub fn judge(&self, manifest: &Manifest) -> Judgement {
        self.judge_documents(&manifest.documents, &manifest.faults, manifest.documents.len())
    }

    /// Judges a part of a text, as [`crate::manifest::parts`] cuts it. Its documents count from 1.
    pub fn judge_part(&self, text: &str, part: Range<usize>) -> Judgement {
        let Part { documents, faults, count } = parse_part(text, part, 0);
        self.judge_documents(&documents, &faults, count)
    }

    fn judge_documents(&self, documents: &[Document], faults: &[Fault], count: usize) -> Judgement {
        let mut judgement = Judgement::default();
        judgement.documents = count;
        for fault in faults {
            let mut found = Found::new(fault.document);
            found.fault(fault);
            judgement.take(found);
        }
        for object in unfolded(documents) {
            self.judge_object(object, &mut judgement);
        }
        judgement.findings.sort_by_key(|finding| (finding.document, finding.span.start));
        judgement
    }

    /// Whether an object is a plane that is judged here.
    pub fn knows(&self, object: Object<'_>) -> bool {
        self.plane_kind(object).is_some()
    }

    fn plane_kind(&self, object: Object<'_>) -> Option<&'static Kind> {
        if self.resources.is_empty() {
            return object.plane_kind();
        }
        let mut of_kind = self.resources.iter().filter(|resource| resource.kind.kind == object.kind());
        of_kind.find(|resource| resource.schema(object.api_version()).is_some()).map(|resource| resource.kind)
    }

    fn judge_object(&self, object: Object<'_>, judgement: &mut Judgement) {
        let mut found = Found::new(object.document);
        let Value::Mapping(entries) = &object.node.value else {
            let label = object.node.type_name();
            found.add(&rules::NOT_AN_OBJECT, object.node.span.clone(), "", "a document must be a mapping", label);
            judgement.take(found);
            return;
        };
        if let Some(kind) = self.plane_kind(object) {
            judgement.planes += 1;
            judgement.identities.push(Identity::of(object));
            judgement.take(self.judge_plane(object, kind));
            return;
        }
        let place = ["kind", "apiVersion"].iter().find_map(|key| object.node.get(key)).map(|node| node.span.clone());
        let place = place
            .or_else(|| entries.first().map(|entry| entry.key_span.clone()))
            .unwrap_or_else(|| object.node.span.clone());
        if let Some((message, help)) = self.near_miss(object) {
            found.add(&rules::KIND_NEAR_MISS, place, "kind", message, "").help = Some(help);
        }
        let kind = match object.kind() {
            "" => "without a kind",
            kind => kind,
        };
        if judgement.skipped.len() < LIMIT {
            *judgement.skipped.entry(crate::secrets::redacted(kind).into_owned()).or_default() += 1;
        }
        judgement.take(found);
    }

    /// The judges one after the other; what one has told, the next ones don't tell again.
    fn judge_plane(&self, object: Object<'_>, kind: &'static Kind) -> Found {
        let mut found = Found::new(object.document);
        let resources: Vec<_> = self.resources.iter().filter(|resource| resource.kind == kind).collect();
        for resource in &resources {
            if let Some(one) = resource.check(object, &self.outcomes) {
                found.absorb(one, (resources.len() > 1).then_some(&resource.file));
            }
        }
        if !resources.is_empty() {
            metadata::check(object.node, &mut found);
        }
        gateway::fill_in(object.node, &mut found);
        found.later(|found| {
            if self.releases {
                gateway::releases(object.node, found);
            }
            gateway::check(object.node, &gateway::Judged { at: self.at, known: &self.remarks }, found);
            metadata::practice(object.node, kind, found);
        });
        found
    }

    /// What looks like a plane and is none.
    fn near_miss(&self, object: Object<'_>) -> Option<(String, String)> {
        let (kind, api_version) = (object.kind(), object.api_version());
        let (plane, version) = (nearest(kind).kind, self.api_version());
        let seems = !kind.is_empty()
            && kind.len() < 64
            && strsim::damerau_levenshtein(&kind.to_lowercase(), &plane.to_lowercase()) <= 2;
        if seems && kind != plane {
            return Some((format!("there is no kind {}", visible(kind)), format!("`kind: {plane}` was meant?")));
        }
        if kind == plane {
            let of = if api_version.is_empty() { "nothing".into() } else { format!("`{}`", visible(api_version)) };
            return Some((format!("a {plane} is of {version}, not of {of}"), format!("write `apiVersion: {version}`")));
        }
        None
    }

    fn api_version(&self) -> String {
        let first = self.resources.first().and_then(|resource| Some((resource, &resource.versions.first()?.0)));
        first.map_or_else(|| DEFAULT_KIND.api_version(), |(resource, version)| format!("{}/{version}", resource.group))
    }
}

/// Returns the handled kind whose name is most like a word.
fn nearest(word: &str) -> &'static Kind {
    let distance = |kind: &&Kind| match word.len() {
        ..64 => strsim::damerau_levenshtein(&word.to_lowercase(), &kind.kind.to_lowercase()),
        _ => 0,
    };
    KINDS.iter().min_by_key(distance).unwrap_or(DEFAULT_KIND)
}

/// Judges a file by the reference, now.
pub fn judge(manifest: &Manifest) -> Judgement {
    Validator::reference(Timestamp::now()).judge(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::{SECRET, found, now, plane, reference};

    #[test]
    fn near_misses_are_told() {
        for (text, kind) in [
            ("kind: ClusterBuildplane\napiVersion: openchoreo.dev/v1alpha1", "ClusterBuildplane"),
            ("kind: ClusterBuildPlane\napiVersion: openchoreo.io/v1alpha1", "ClusterBuildPlane"),
            ("kind: BuildPlane\napiVersion: openchoreo.dev/v1alpha1", "BuildPlane"),
            ("kind: ClusterWorkflowPlane\napiVersion: openchoreo.dev/v1alpha1", "ClusterWorkflowPlane"),
        ] {
            assert_eq!(found(text), [("kind-near-miss", kind.to_owned())], "{text}");
        }
        assert_eq!(found("kind: ConfigMap\napiVersion: v1"), []);
    }

    #[test]
    fn lists_are_taken_apart() {
        let text = "kind: List\napiVersion: v1\nitems:\n- kind: ConfigMap\n- apiVersion: openchoreo.dev/v1alpha1\n  kind: ClusterBuildPlane\n  metadata: {name: a}\n  spec: {}\n";
        let judgement = judge(&parse("f".into(), text.into()));
        assert_eq!((judgement.documents, judgement.planes, judgement.skipped["ConfigMap"]), (1, 1, 1));
        assert_eq!(judgement.findings.len(), 2);
    }

    #[test]
    fn parts_make_the_whole() {
        let text = format!("{}---\n# nothing\n---\na: [\n---\n{}", plane("{}"), plane("[]"));
        let whole = reference().judge(&parse("f".into(), text.clone()));
        let mut joined = Judgement::default();
        for part in crate::manifest::parts(&text) {
            joined.join(reference().judge_part(&text, part));
        }
        assert_eq!(joined.findings, whole.findings);
        assert_eq!(joined.findings.last().unwrap().document, 4);
    }

    #[test]
    fn several_crds_judge_together() {
        let crd = |pattern: &str| {
            let crd =
                DEFAULT_KIND.crd(Release::V0).unwrap().replacen("maxLength: 63", &format!("maxLength: {pattern}"), 1);
            Resource::all_of(&parse(format!("{pattern}.yaml"), crd)).unwrap().remove(0)
        };
        let validator = Validator::of_crds(vec![crd("9"), crd("4")], now());
        for (plane_id, by) in
            [("too-long", "4 characters (by 4.yaml)"), ("much-too-long", "9 characters (by 9.yaml, 4.yaml)")]
        {
            let manifest = parse("f".into(), plane(&format!("{{planeID: {plane_id}, {SECRET}}}")));
            let told = validator.judge(&manifest).findings;
            assert_eq!(told.len(), 1);
            assert!(told[0].message.ends_with(by), "{}", told[0].message);
        }
    }

    #[test]
    fn behind_an_alias_it_is_the_alias_or_what_is_written() {
        let text = plane(
            "&s\n  planeID: &id Bad_ID\n  clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: k}}}",
        )
        .replace("  name: a", "  name: a\n  annotations: {a: &v Bad_ID, b: &m {x: 1}}")
        .replace("&id Bad_ID", "*v");
        assert_eq!(found(&text), [("wrong-type", "{x: 1}".to_owned()), ("plane-id-format", "*v".to_owned())]);
        let merged = plane("{<<: &m {planeId: a}, planeID: a, @}").replace('@', SECRET);
        assert_eq!(found(&merged), [("unknown-field", "<<".to_owned())]);
        let nested = format!("{}---\n{}", plane(&format!("{{planeID: a, {SECRET}}}")), plane("*none"));
        assert_eq!(found(&nested)[0].0, "yaml-syntax");
    }
}
