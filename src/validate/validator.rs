//! The judges of a document in their order: its schema, the gateway, practice; and what is no plane at all.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

use jiff::Timestamp;

use super::finding::{Found, Judgement, LIMIT};
use super::identity::Identity;
use super::schema::Resource;
use super::{cel, gateway, metadata, releases, rules};
use crate::manifest::{Document, Fault, Manifest, Node, Object, Part, Value, parse, parse_part, unfolded};
use crate::plane::{DEFAULT_KIND, KINDS, Kind, Release};
use crate::text::visible;

/// A definition that is read when a plane is first judged by it.
type Own = OnceLock<Option<Resource>>;

/// The definitions of each kind in each release.
static OWN: LazyLock<HashMap<(&Kind, Release), Own>> = LazyLock::new(|| {
    let pairs = KINDS.iter().flat_map(|kind| Release::ALL.map(|release| (kind, release)));
    pairs.map(|pair| (pair, OnceLock::new())).collect()
});

/// By which CRDs planes are judged.
#[derive(Debug)]
enum Crds {
    /// Those that the program carries, of the latest release that has the kind.
    Latest,
    /// Those of the release that the plane is written for.
    Written,
    Of(Release),
    Given(Vec<Resource>),
    /// None: the API server is asked for its part.
    Server,
}

/// By what planes are judged, and when.
#[derive(Debug)]
pub struct Validator {
    crds: Crds,
    at: Timestamp,
    outcomes: cel::Outcomes,
    remarks: gateway::Remarks,
}

impl Validator {
    fn new(crds: Crds, at: Timestamp) -> Self {
        Self { crds, at, outcomes: cel::Outcomes::default(), remarks: gateway::Remarks::default() }
    }

    /// By the latest release that has the kind; ClusterBuildPlanes by the reference, with what the releases demand beyond
    /// it as warnings.
    pub fn reference(at: Timestamp) -> Self {
        Self::new(Crds::Latest, at)
    }

    /// By a release, which may call a kind otherwise.
    pub fn of_release(release: Release, at: Timestamp) -> Self {
        Self::new(Crds::Of(release), at)
    }

    /// By other CRDs.
    pub fn of_crds(resources: Vec<Resource>, at: Timestamp) -> Self {
        Self::new(Crds::Given(resources), at)
    }

    /// By none: the API server is asked for its part.
    pub fn of_server(at: Timestamp) -> Self {
        Self::new(Crds::Server, at)
    }

    /// Judges every document of a file.
    pub fn judge(&self, manifest: &Manifest) -> Judgement {
        self.judge_documents(&manifest.documents, &manifest.faults, manifest.documents.len())
    }

    /// Judges a part of a text, as [`crate::manifest::in_runs`] cuts it. Its documents count from 1.
    pub fn judge_part(&self, text: &str, part: Range<usize>) -> Judgement {
        let Part { documents, faults, count } = parse_part(text, part);
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
        let Crds::Given(resources) = &self.crds else {
            return object.plane_kind();
        };
        let mut of_kind = resources.iter().filter(|resource| resource.kind.kind == object.kind());
        of_kind.find(|resource| resource.schema(object.api_version()).is_some()).map(|resource| resource.kind)
    }

    /// Returns the release that a plane is judged by, as far as that is known.
    fn release(&self, kind: &Kind, root: &Node) -> Release {
        match self.crds {
            Crds::Of(release) => release,
            Crds::Written => releases::written_for(root, kind),
            _ => kind.release(),
        }
    }

    /// Returns the definitions of a kind.
    fn resources(&self, kind: &'static Kind, release: Release) -> Vec<&Resource> {
        match &self.crds {
            Crds::Latest | Crds::Written | Crds::Of(_) => Vec::from_iter(own(kind, release)),
            Crds::Given(resources) => resources.iter().filter(|resource| resource.kind == kind).collect(),
            Crds::Server => Vec::new(),
        }
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
            let release = self.release(kind, object.node);
            let named = kind.in_release(release).unwrap_or(kind);
            judgement.identities.push(Identity::of(object, named));
            let mut found = self.judge_plane(object, named, release);
            if named != kind {
                releases::other_name(object, kind, named, release, &mut found);
            }
            judgement.take(found);
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

    /// The judges one after the other; what one has reported, the next ones don't report again.
    fn judge_plane(&self, object: Object<'_>, kind: &'static Kind, release: Release) -> Found {
        let mut found = Found::new(object.document);
        let resources = self.resources(kind, release);
        let is_sure = !matches!(self.crds, Crds::Latest) || kind.in_release(release.other()) != Some(kind);
        for resource in &resources {
            if let Some(mut one) = resource.check(object, &self.outcomes) {
                releases::explain(object.node, resource, object.api_version(), is_sure, &mut one);
                found.absorb(one, (resources.len() > 1).then_some(&resource.file));
            }
        }
        if !resources.is_empty() {
            metadata::check(object.node, kind, &mut found);
        }
        found.later(|found| {
            if !matches!(self.crds, Crds::Given(_) | Crds::Server) && kind == DEFAULT_KIND {
                releases::beyond_reference(object.node, found);
            }
            let secret_field = release.secret_field();
            gateway::check(
                object.node,
                &gateway::Judged { kind, secret_field, at: self.at, known: &self.remarks },
                found,
            );
            metadata::practice(object.node, kind, found);
        });
        found
    }

    /// What looks like a plane and is none.
    fn near_miss(&self, object: Object<'_>) -> Option<(String, String)> {
        let (kind, api_version) = (object.kind(), object.api_version());
        let plane = nearest(kind)?;
        let (name, version) = (plane.kind, self.api_version(plane));
        if kind != name {
            return Some((format!("there is no kind {}", visible(kind)), format!("did you mean `kind: {name}`?")));
        }
        if api_version == version {
            return Some((
                format!("{name} is not validated, because its CRD is missing"),
                "add its CRD with --crd".into(),
            ));
        }
        // Others have a kind of this name, too.
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        if name == "DataPlane"
            && !group.is_empty()
            && !group.contains("choreo")
            && strsim::levenshtein(group, plane.group) > 3
        {
            return None;
        }
        let of = if api_version.is_empty() { "nothing".into() } else { format!("`{}`", visible(api_version)) };
        Some((format!("the apiVersion of {name} is {version}, not {of}"), format!("write `apiVersion: {version}`")))
    }

    /// Returns the API version that planes of a kind have.
    fn api_version(&self, kind: &'static Kind) -> String {
        let resources = self.resources(kind, kind.release());
        let first = resources.first().and_then(|resource| Some((resource, &resource.versions.first()?.0)));
        first.map_or_else(|| kind.api_version(), |(resource, version)| format!("{}/{version}", resource.group))
    }
}

/// Returns the definition of a kind in a release.
fn own(kind: &'static Kind, release: Release) -> Option<&'static Resource> {
    let read = || {
        let manifest = parse(format!("{} of {release}", kind.kind), kind.crd(release)?);
        Resource::all_of(&manifest).ok()?.pop()
    };
    OWN.get(&(kind, release))?.get_or_init(read).as_ref()
}

/// Returns the kind whose name a word nearly is.
fn nearest(word: &str) -> Option<&'static Kind> {
    let distance = |kind: &&Kind| strsim::damerau_levenshtein(&word.to_lowercase(), &kind.kind.to_lowercase());
    let near = KINDS.iter().filter(|_| (1..64).contains(&word.len())).min_by_key(distance);
    near.filter(|kind| distance(kind) <= 2)
}

/// Judges a file now, each plane by the release that it is written for: what the server that it goes to, or comes from,
/// has is not known here.
pub fn judge(manifest: &Manifest) -> Judgement {
    Validator::new(Crds::Written, Timestamp::now()).judge(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Release;
    use crate::validate::tests::{SECRET, found, now, plane, reference};

    #[test]
    fn near_misses_are_reported() {
        for (text, kind) in [
            ("kind: ClusterBuildplane\napiVersion: openchoreo.dev/v1alpha1", "ClusterBuildplane"),
            ("kind: ClusterBuildPlane\napiVersion: openchoreo.io/v1alpha1", "ClusterBuildPlane"),
            ("kind: Dataplane\napiVersion: openchoreo.dev/v1alpha1", "Dataplane"),
            ("kind: WorkflowPlanes\napiVersion: openchoreo.dev/v1alpha1", "WorkflowPlanes"),
            ("kind: DataPlane\napiVersion: v1alpha1", "DataPlane"),
            ("kind: DataPlane\napiVersion: openchoreo.io/v1alpha1", "DataPlane"),
            ("kind: ObservabilityPlane\napiVersion: openchoreo.dev/v1", "ObservabilityPlane"),
        ] {
            assert_eq!(found(text), [("kind-near-miss", kind.to_owned())], "{text}");
        }
        for text in ["kind: ConfigMap\napiVersion: v1", "kind: DataPlane\napiVersion: gateway.example.com/v1"] {
            assert_eq!(found(text), [], "{text}");
        }
        let crd = Resource::all_of(&parse("f".into(), DEFAULT_KIND.crd(Release::V0).unwrap())).unwrap();
        let (by_crd, text) = (Validator::of_crds(crd, now()), "kind: BuildPlane\napiVersion: openchoreo.dev/v1alpha1");
        let findings = by_crd.judge(&parse("f".into(), text.into())).findings;
        assert_eq!(findings[0].message, "BuildPlane is not validated, because its CRD is missing");
    }

    #[test]
    fn each_crd_that_the_program_carries_is_read() {
        for (kind, release) in KINDS.iter().flat_map(|kind| Release::ALL.map(|release| (kind, release))) {
            assert_eq!(own(kind, release).is_some(), kind.crd(release).is_some(), "{} {release}", kind.kind);
        }
    }

    #[test]
    fn the_examples_are_valid() {
        for family in ["workflow", "data", "observability"] {
            let path = format!("{}/examples/{family}-plane.yaml", env!("CARGO_MANIFEST_DIR"));
            let judgement = reference().judge(&parse(path.clone(), std::fs::read_to_string(path).unwrap()));
            assert_eq!((judgement.planes, judgement.findings), (1, vec![]), "{family}");
        }
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
        let judged = crate::manifest::in_runs(&text, |parts| {
            parts.iter().map(|part| reference().judge_part(&text, part.clone())).collect::<Vec<_>>()
        });
        judged.into_iter().flatten().for_each(|part| joined.join(part));
        assert_eq!(joined.findings, whole.findings);
        assert_eq!(joined.findings.last().unwrap().document, 4);
    }

    #[test]
    fn fuzzed_manifests_are_judged() {
        let seeds = [
            plane(&format!("{{planeID: a, {SECRET}, <<: &m {{planeId: a}}, other: *m}}")),
            plane("\n  planeID: &id \"Bad\\u0041\"\n  clusterAgent:\n    clientCA:\n      value: |-\n        -----BEGIN CERTIFICATE-----\n        MIIB\n"),
            format!("# a\n---\nkind: List\nitems:\n- kind: X\n- {}", plane("~").replace('\n', "\n  ")),
            r#"{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterDataPlane", "metadata": {"name": "a"}, "spec": {"planeID": 1e3}}"#.into(),
        ];
        let validator = reference();
        crate::fuzz::fuzz(&seeds.each_ref().map(String::as_bytes), |bytes| {
            let Ok(text) = crate::manifest::decode(bytes.to_vec(), "f") else { return };
            let manifest = parse("f".into(), text);
            let judgement = validator.judge(&manifest);
            for finding in &judgement.findings {
                assert!(manifest.text.get(finding.span.clone()).is_some(), "{finding:?}");
                manifest.position(finding.span.start);
            }
            let mut joined = Judgement::default();
            let judged = crate::manifest::in_runs(&manifest.text, |parts| {
                parts.iter().map(|part| validator.judge_part(&manifest.text, part.clone())).collect::<Vec<_>>()
            });
            judged.into_iter().flatten().for_each(|part| joined.join(part));
            assert_eq!(joined.findings, judgement.findings);
        });
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
            let reported = validator.judge(&manifest).findings;
            assert_eq!(reported.len(), 1);
            assert!(reported[0].message.ends_with(by), "{}", reported[0].message);
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
