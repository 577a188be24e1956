//! Rules over a manifest: what the API server would reject, what no agent could connect through, and what hurts later.
//!
//! Not here: reading the text (manifest), and showing what was found (render).

mod cel;
mod crd;
mod fix;
mod format;
mod gateway;
mod metadata;
mod neighbours;
mod rules;
mod schema;
mod server;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use crate::manifest::{Document, Fault, FaultKind, Manifest, Node, Part, Value, parse, parse_part};
use crate::plane::{CLUSTER_BUILD_PLANE, CLUSTER_WORKFLOW_PLANE, CRD, Difference};
use crate::text::visible;

pub use crd::{CrdError, Resource};
pub use fix::{Fix, applied};
pub use neighbours::Neighbours;
#[cfg(test)]
pub use rules::whole;
pub use rules::{Judge, MARKS, NO_PLANE, RULES, Rule, Severity};
pub use server::{Cause, Refusal};

use neighbours::Identity;

/// How many errors, and how many warnings, are kept of one run; the others are counted.
pub const LIMIT: usize = 10_000;

/// How many of each are kept already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    errors: usize,
    warnings: usize,
}

impl Kept {
    /// Whether there is room for one more, which is taken.
    pub fn admits(&mut self, severity: Severity) -> bool {
        let kept = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        let room = *kept < LIMIT;
        *kept += usize::from(room);
        room
    }

    pub fn sum(self) -> usize {
        self.errors + self.warnings
    }
}

/// Among how many findings of an object doubles are looked for.
const MANY: usize = 100;

/// Something wrong in a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static Rule,
    /// Counted from 1 in its file; 0 where it is about no document.
    pub document: usize,
    /// The offending key or value, as bytes of the file's text.
    pub span: Range<usize>,
    /// As `spec.planeID`.
    pub path: String,
    pub message: String,
    /// A few words beside the underlined text.
    pub label: String,
    pub help: Option<String>,
    /// What would mend it without a doubt.
    pub fix: Option<Fix>,
}

/// What a text holds and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// In the order of their places, [`LIMIT`] of each severity at most.
    pub findings: Vec<Finding>,
    kept: Kept,
    /// All errors and warnings, those among them that are not kept.
    pub errors: usize,
    pub warnings: usize,
    pub documents: usize,
    pub planes: usize,
    /// Documents of other kinds, by kind.
    pub skipped: BTreeMap<String, usize>,
    identities: Vec<Identity>,
}

impl Judgement {
    fn take(&mut self, found: Found) {
        self.errors += found.errors;
        self.warnings += found.warnings;
        self.keep(found.findings);
    }

    fn keep(&mut self, findings: Vec<Finding>) {
        let Self { findings: kept, kept: room, .. } = self;
        kept.extend(findings.into_iter().filter(|finding| room.admits(finding.rule.severity)));
    }

    /// Adds findings that were made elsewhere.
    pub fn add(&mut self, findings: Vec<Finding>) {
        let errors = findings.iter().filter(|finding| finding.rule.severity == Severity::Error).count();
        self.errors += errors;
        self.warnings += findings.len() - errors;
        self.keep(findings);
        self.findings.sort_by_key(|finding| (finding.document, finding.span.start));
    }

    /// Takes what was found behind it in the same text.
    pub fn join(&mut self, mut other: Self) {
        let before = self.documents;
        other.findings.iter_mut().for_each(|finding| finding.document += before);
        self.keep(other.findings);
        self.identities.extend(other.identities.into_iter().map(|identity| identity.behind(before)));
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.documents += other.documents;
        self.planes += other.planes;
        for (kind, count) in other.skipped {
            *self.skipped.entry(kind).or_default() += count;
        }
    }
}

/// The resource of the reference.
static REFERENCE: LazyLock<Option<Arc<Resource>>> =
    LazyLock::new(|| Resource::of_manifest(&parse("the reference".into(), CRD.into())).ok().map(Arc::new));

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
        let resources = REFERENCE.iter().cloned().collect();
        Self { resources, releases: true, at, outcomes: cel::Outcomes::default(), remarks: gateway::Remarks::default() }
    }

    /// By CRDs instead of the reference's. None of them: the API server is asked for its part.
    pub fn of_crds(resources: Vec<Resource>, at: Timestamp) -> Self {
        Self { resources: resources.into_iter().map(Arc::new).collect(), releases: false, ..Self::reference(at) }
    }

    /// Judges every document of a file.
    pub fn judge(&self, manifest: &Manifest) -> Judgement {
        let part = Part {
            documents: manifest.documents.clone(),
            faults: manifest.faults.clone(),
            count: manifest.documents.len(),
        };
        self.judge_documents(&part)
    }

    /// Judges a part of a text, as [`crate::manifest::parts`] cuts it. Its documents count from 1.
    pub fn judge_part(&self, text: &str, part: Range<usize>) -> Judgement {
        self.judge_documents(&parse_part(text, part, 0))
    }

    fn judge_documents(&self, part: &Part) -> Judgement {
        let mut judgement = Judgement { documents: part.count, ..Judgement::default() };
        for fault in &part.faults {
            let mut found = Found::new(fault.document);
            found.fault(fault);
            judgement.take(found);
        }
        for object in unfolded(&part.documents) {
            self.judge_object(object, &mut judgement);
        }
        judgement.findings.sort_by_key(|finding| (finding.document, finding.span.start));
        judgement
    }

    /// Whether an object is a plane that is judged here.
    pub fn knows(&self, object: Object<'_>) -> bool {
        let served = |resource: &Arc<Resource>| resource.schema(object.api_version()).is_some();
        match self.resources.as_slice() {
            [] => object.is_plane(),
            resources => object.kind() == CLUSTER_BUILD_PLANE.kind && resources.iter().any(served),
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
        if self.knows(object) {
            judgement.planes += 1;
            judgement.identities.push(Identity::of(object));
            judgement.take(self.judge_plane(object));
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
    fn judge_plane(&self, object: Object<'_>) -> Found {
        let mut found = Found::new(object.document);
        for resource in &self.resources {
            let Some(schema) = resource.schema(object.api_version()) else {
                continue;
            };
            let mut one = Found::new(object.document);
            schema.check(object.node, resource, &self.outcomes, &mut one);
            found.absorb(one, (self.resources.len() > 1).then_some(&resource.file));
        }
        if !self.resources.is_empty() {
            metadata::check(object.node, &mut found);
        }
        gateway::fill_in(object.node, &mut found);
        found.later(|found| {
            if self.releases {
                gateway::releases(object.node, found);
            }
            gateway::check(object.node, &gateway::Judged { at: self.at, known: &self.remarks }, found);
            metadata::practice(object.node, found);
        });
        found
    }

    /// What looks like a plane and is none.
    fn near_miss(&self, object: Object<'_>) -> Option<(String, String)> {
        let (kind, api_version) = (object.kind(), object.api_version());
        let (plane, version) = (CLUSTER_BUILD_PLANE.kind, self.api_version());
        let group = |version: &str| version.split('/').next().unwrap_or_default().to_owned();
        if kind == "BuildPlane" && group(api_version) == group(&version) {
            return Some((
                "a BuildPlane is namespaced and not looked at here".into(),
                format!("the cluster-scoped kind is {plane}"),
            ));
        }
        if kind == CLUSTER_WORKFLOW_PLANE.kind {
            let releases = Difference::of("").next().map_or("later releases", |difference| difference.releases);
            return Some((
                format!("{kind} is what {plane} is called in {releases}"),
                format!("for releases to v0.17 write `kind: {plane}`"),
            ));
        }
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
        first.map_or_else(
            || CLUSTER_BUILD_PLANE.api_version(),
            |(resource, version)| format!("{}/{version}", resource.group),
        )
    }
}

/// Judges a file by the reference, now.
pub fn judge(manifest: &Manifest) -> Judgement {
    Validator::reference(Timestamp::now()).judge(manifest)
}

/// An object in a document: the document itself, or an item of a List.
#[derive(Clone, Copy, Debug)]
pub struct Object<'m> {
    pub document: usize,
    pub node: &'m Node,
}

impl<'m> Object<'m> {
    pub fn kind(&self) -> &'m str {
        self.node.get("kind").and_then(Node::as_str).unwrap_or_default()
    }

    pub fn api_version(&self) -> &'m str {
        self.node.get("apiVersion").and_then(Node::as_str).unwrap_or_default()
    }

    pub fn name(&self) -> &'m str {
        self.node.at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or_default()
    }

    pub fn is_plane(&self) -> bool {
        self.kind() == CLUSTER_BUILD_PLANE.kind && self.api_version() == CLUSTER_BUILD_PLANE.api_version()
    }
}

/// The objects of a file, Lists taken apart.
pub fn objects(manifest: &Manifest) -> Vec<Object<'_>> {
    unfolded(&manifest.documents)
}

fn unfolded(documents: &[Document]) -> Vec<Object<'_>> {
    fn unfold<'m>(document: &'m Document, node: &'m Node, objects: &mut Vec<Object<'m>>) {
        let object = Object { document: document.number, node };
        match node.get("items") {
            Some(Node { value: Value::Sequence(items), .. }) if object.kind().ends_with("List") => {
                items.iter().for_each(|item| unfold(document, item, objects));
            }
            _ => objects.push(object),
        }
    }
    let mut objects = Vec::new();
    documents.iter().for_each(|document| unfold(document, &document.root, &mut objects));
    objects
}

/// Takes findings of one document.
#[derive(Debug)]
struct Found {
    document: usize,
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
    /// Whether the last one is only counted.
    over: bool,
}

impl Found {
    fn new(document: usize) -> Self {
        Self { document, findings: Vec::new(), errors: 0, warnings: 0, over: false }
    }

    fn add(
        &mut self,
        rule: &'static Rule,
        span: Range<usize>,
        path: &str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Finding {
        if self.over {
            self.findings.pop();
        }
        let count = self.count(rule.severity);
        *count += 1;
        self.over = *count > LIMIT;
        self.findings.push(Finding {
            rule,
            document: self.document,
            span,
            path: path.to_owned(),
            message: message.into(),
            label: label.into(),
            help: None,
            fix: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn fault(&mut self, fault: &Fault) {
        let rule = match fault.kind {
            FaultKind::Syntax => &rules::YAML_SYNTAX,
            FaultKind::Duplicate => &rules::DUPLICATE_KEY,
        };
        self.add(rule, fault.span.clone(), "", fault.message.clone(), "");
    }

    fn count(&mut self, severity: Severity) -> &mut usize {
        match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        }
    }

    /// Takes another's findings, those by another CRD of several; of those that are here already its name only.
    fn absorb(&mut self, other: Self, by: Option<&str>) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        let by = by.map(visible);
        for mut finding in other.findings {
            let same = |known: &&mut Finding| {
                known.rule == finding.rule && known.span == finding.span && known.path == finding.path
            };
            if let Some(known) = self.findings.iter_mut().take(MANY).find(same) {
                if let (Some(by), Some(names)) = (&by, known.message.strip_suffix(')')) {
                    known.message = format!("{names}, {by})");
                }
                *self.count(finding.rule.severity) -= 1;
                continue;
            }
            if let Some(by) = &by {
                finding.message = format!("{} (by {by})", finding.message);
            }
            self.findings.push(finding);
        }
    }

    /// Lets later judges add what no earlier one has told of the same field or one around it.
    fn later(&mut self, judge: impl FnOnce(&mut Self)) {
        let mut later = Self::new(self.document);
        judge(&mut later);
        let told = |path: &str| {
            self.findings.iter().take(MANY).any(|known| {
                known.rule.severity == Severity::Error
                    && (below(path, &known.path) || (path == gateway::CLIENT_CA && below(&known.path, path)))
            })
        };
        later.findings.retain(|finding| !told(&finding.path));
        for finding in &later.findings {
            *self.count(finding.rule.severity) += 1;
        }
        self.findings.append(&mut later.findings);
    }
}

/// Whether a path is another one or goes on from it.
fn below(path: &str, above: &str) -> bool {
    !above.is_empty() && path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Entry, parse};
    use crate::pki::{self, KeyAlgorithm, PrivateKey};
    use crate::plane::Span;
    use base64::Engine as _;
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    /// When everything is judged here.
    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn reference() -> Validator {
        Validator::reference(now())
    }

    fn judged(validator: &Validator, text: &str) -> Vec<(&'static str, String)> {
        let manifest = parse("f.yaml".into(), text.into());
        let mut judgement = validator.judge(&manifest);
        Neighbours::default().meet(&manifest, &mut judgement);
        let errors = judgement.findings.iter().filter(|finding| finding.rule.severity == Severity::Error).count();
        assert_eq!((judgement.errors, judgement.warnings), (errors, judgement.findings.len() - errors), "{text}");
        let told = |finding: &Finding| (finding.rule.id, manifest.text[finding.span.clone()].to_owned());
        judgement.findings.iter().map(told).collect()
    }

    /// The ids of what is found in a manifest, each with the text that it points at.
    fn found(text: &str) -> Vec<(&'static str, String)> {
        judged(&reference(), text)
    }

    fn plane(spec: &str) -> String {
        format!("apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata:\n  name: a\nspec: {spec}\n")
    }

    const SECRET: &str = "clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: k}}}";

    #[test]
    fn the_schema_is_held() {
        assert_eq!(found(&plane(&format!("{{planeID: a, {SECRET}}}"))), []);
        let cases = [
            ("{planeID: A_b, @}", "plane-id-format", "A_b"),
            ("{planeID: '', @}", "plane-id-format", "''"),
            ("{planeID: on, @}", "wrong-type", "on"),
            ("{planeID: 12, @}", "wrong-type", "12"),
            ("{planeId: a, planeID: a, @}", "unknown-field", "planeId"),
            ("{planeID: a, clusterAgent: {}}", "required-field", "clusterAgent"),
            ("{planeID: a}", "required-field", "spec"),
            ("{planeID: a, @, secretStoreRef: {}}", "required-field", "secretStoreRef"),
            ("{planeID: a, planeID: b, @}", "duplicate-key", "planeID"),
            ("[]", "wrong-type", "[]"),
            ("{planeID: a, @, observabilityPlaneRef: prod}", "wrong-type", "prod"),
            (
                "{planeID: a, clusterAgent: {clientCA: {secretKeyRef: {namespace: s, name: a, key: b}}}}",
                "unknown-field",
                "secretKeyRef",
            ),
            (
                "{planeID: a, clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: null}}}}",
                "required-field",
                "secretRef",
            ),
        ];
        for (spec, rule, at) in cases {
            let findings = found(&plane(&spec.replace('@', SECRET)));
            assert_eq!(findings, [(rule, at.to_owned())], "{spec}");
        }
        let long = "a".repeat(64);
        assert_eq!(found(&plane(&format!("{{planeID: {long}, {SECRET}}}")))[0].0, "plane-id-format");
    }

    #[test]
    fn metadata_is_held() {
        let with = |metadata: &str| {
            plane(&format!("{{planeID: a, {SECRET}}}"))
                .replace("metadata:\n  name: a", &format!("metadata: {metadata}"))
        };
        let cases = [
            ("{name: A}", "name-format", "A"),
            ("{}", "required-field", "metadata"),
            ("{name: a, labels: {-a: b}}", "label-format", "-a"),
            ("{name: a, labels: {a: 1}}", "wrong-type", "1"),
            ("{name: a, label: {}}", "unknown-field", "label"),
            ("{name: a, generation: x}", "wrong-type", "x"),
            ("{name: a, creationTimestamp: yesterday}", "wrong-type", "yesterday"),
            ("{name: a, finalizers: x}", "wrong-type", "x"),
            ("{name: a, finalizers: [a/b, a/b/c]}", "name-format", "a/b/c"),
            ("{name: a, finalizers: [orphan, foregroundDeletion]}", "name-format", "foregroundDeletion"),
            ("{name: a, ownerReferences: {}}", "wrong-type", "{}"),
            ("{name: a, ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: u, x: y}]}", "unknown-field", "x"),
            ("{name: a, ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: u, x: ~}]}", "unknown-field", "x"),
            (
                "{name: a, managedFields: [{operation: Apply, fieldsType: FieldsV1, apiVersion: v1, name: n}]}",
                "unknown-field",
                "name",
            ),
            ("{name: a, managedFields: [{operation: Delete}]}", "wrong-type", "Delete"),
            ("{generateName: Foo-}", "name-format", "Foo-"),
            ("{generateName: foo.-}", "name-format", "foo.-"),
            (
                "{name: a, annotations: {openchoreo.io/display-name: x}}",
                "annotation-near-miss",
                "openchoreo.io/display-name",
            ),
        ];
        for (metadata, rule, at) in cases {
            assert_eq!(found(&with(metadata)), [(rule, at.to_owned())], "{metadata}");
        }
        for good in
            ["{generateName: foo-}", "{name: a, annotations: {example.com/description: x}}", "{name: a, labels: null}"]
        {
            assert_eq!(found(&with(good)), [], "{good}");
        }
    }

    #[test]
    fn a_ca_that_lets_nobody_in_is_told() {
        let made = |change: fn(&mut rcgen::CertificateParams)| {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
            change(&mut params);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        let critical = |params: &mut rcgen::CertificateParams| {
            let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions = vec![extension];
        };
        let cases: [(String, &[&str]); 6] = [
            (made(|_| {}), &[]),
            (made(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]), &["ca-pinned-leaf"]),
            (made(critical), &["ca-cannot-verify"]),
            (made(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa), &["ca-pinned-leaf"]),
            // Two faults of one certificate are one, and a web page's blanks make it none at all.
            (made(|params| params.not_after = rcgen::date_time_ymd(2026, 2, 1)), &["ca-expired"]),
            (made(|_| {}).replace("-----\n", "-----\u{a0}\n"), &["ca-no-certificate"]),
        ];
        for (pem, rules) in cases {
            let pem = serde_json::to_string(&pem).unwrap();
            let text = plane(&format!("{{planeID: a, clusterAgent: {{clientCA: {{value: {pem}}}}}}}"));
            assert_eq!(found(&text).into_iter().map(|found| found.0).collect::<Vec<_>>(), rules, "{text}");
        }
    }

    #[test]
    fn a_private_key_is_told_in_every_encoding() {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = base64::engine::general_purpose::STANDARD.encode(key.serialize_der());
        let hex: String = key.serialize_der().iter().map(|octet| format!("{octet:02x}")).collect();
        let ca = pems().remove(1).1;
        let labelled = pki::encode("CERTIFICATE", &key.serialize_der());
        for value in [der.clone(), hex, format!("{ca}key: {der}\n"), format!("{ca}{labelled}"), key.serialize_pem()] {
            let inner = format!("value: {value:?}");
            for source in [inner.clone(), format!("{inner}, secretRef: {{name: ca, namespace: s, key: k}}")] {
                let text = plane(&format!("{{planeID: a, clusterAgent: {{clientCA: {{{source}}}}}}}"));
                assert!(found(&text).iter().any(|found| found.0 == "ca-private-key"), "{text}");
            }
        }
    }

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
    fn findings_are_counted_beyond_the_limit() {
        let fields: String = (0..LIMIT + 5).map(|number| format!("  x{number}: 1\n")).collect();
        let text = plane(&format!("\n{fields}"));
        let judgement = judge(&parse("f".into(), text));
        // A warning among so many errors isn't lost.
        assert_eq!((judgement.findings.len(), judgement.warnings), (LIMIT + 1, 1));
        assert!(judgement.errors > LIMIT + 5, "{}", judgement.errors);
    }

    #[test]
    fn several_crds_judge_together() {
        let crd = |pattern: &str| {
            let crd = CRD.replacen("maxLength: 63", &format!("maxLength: {pattern}"), 1);
            Resource::of_manifest(&parse(format!("{pattern}.yaml"), crd)).unwrap()
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

    /// The reference's CRD with fields for the rules that it has no use for.
    fn fork() -> Validator {
        let fields = [
            "deadline: {type: string, format: duration}",
            "builders: {type: array, x-kubernetes-list-type: set, maxItems: 3, items: {type: string}}",
            "parallel: {type: integer, maximum: 10}",
            "cache: {type: object, properties: {path: {type: string}, volume: {type: string}}, anyOf: [{required: [path]}, {required: [volume]}]}",
            "limits: {type: object, properties: {least: {type: integer}, most: {type: integer}}, x-kubernetes-validations: [{rule: self.least <= self.most}]}",
            "window: {type: object, properties: {length: {type: string}}, x-kubernetes-validations: [{rule: unheard_of(self.length)}]}",
        ];
        let mark = "                secretStoreRef:\n";
        let more: String = fields.iter().map(|field| format!("                {field}\n")).collect();
        let crd = CRD.replacen(mark, &format!("{more}{mark}"), 1);
        Validator::of_crds(vec![Resource::of_manifest(&parse("fork.yaml".into(), crd)).unwrap()], now())
    }

    /// The texts that stand for PEM in examples.
    fn pems() -> Vec<(&'static str, String)> {
        let days = |days: u64| Span::from_seconds(days * 86_400);
        let ca = |at: Timestamp, life: u64| pki::ca("CA", KeyAlgorithm::EcdsaP256, days(life), at).unwrap();
        let (good, later) = (ca(now(), 365), jiff::SignedDuration::from_hours(24 * 365));
        let authority = pki::Authority::from_pem(&good.certificate, &good.key.to_pem(), now()).unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let leaf = pki::client("shared-builder", &authority, key, days(90), now()).unwrap().pair;
        let mut server = rcgen::CertificateParams::new(vec!["a".into()]).unwrap();
        server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let server = server.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        vec![
            ("<a CA in base64>", base64::engine::general_purpose::STANDARD.encode(&good.certificate)),
            ("<a CA>", good.certificate),
            ("<an expired CA>", ca(now() - later, 30).certificate),
            ("<a CA of next year>", ca(now() + later, 30).certificate),
            ("<a CA that expires soon>", ca(now(), 7).certificate),
            ("<an agent's certificate>", leaf.certificate),
            ("<a server's certificate>", server.pem()),
            ("<a broken certificate>", pki::encode("CERTIFICATE", b"broken")),
            ("<a private key>", PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap().to_pem().to_string()),
        ]
    }

    /// An example as a whole manifest, with real PEM in quotes, and still with its marks.
    fn manifest_of(example: &str, pems: &[(&str, String)]) -> String {
        let mut text = whole(example);
        // Two of them one behind the other are one text.
        for (first, one) in pems {
            for (second, other) in pems {
                text = text.replace(&format!("{first}{second}"), &format!("{:?}", format!("{one}{other}")));
            }
        }
        pems.iter().fold(text, |text, (name, pem)| text.replace(name, &format!("{pem:?}")))
    }

    /// The text without its marks, and what stands between them.
    fn unmarked(text: &str) -> (String, Option<Range<usize>>) {
        let plain = text.replace(MARKS, "");
        let place = text.find(MARKS[0]).zip(text.find(MARKS[1]));
        (plain, place.map(|(start, end)| start..end - MARKS[0].len_utf8()))
    }

    /// Rules that a whole run tells, or a server.
    const ELSEWHERE: [&str; 2] = ["no-plane", "server-rejected"];
    /// Rules that the reference's CRD gives no reason for.
    const BY_A_FORK: [&str; 6] = ["format", "count", "out-of-range", "not-unique", "alternative", "cel-rule"];

    fn validator_of(rule: &Rule) -> Validator {
        if BY_A_FORK.contains(&rule.id) || rule.id == "cel-unknown" { fork() } else { reference() }
    }

    #[test]
    fn every_rule_has_an_example_that_breaks_it_and_one_that_does_not() {
        let pems = pems();
        let mut ids = BTreeSet::new();
        for rule in RULES {
            assert!(ids.insert(rule.id), "{} stands twice", rule.id);
            assert!(rule.why.ends_with('.') && !rule.about.ends_with('.'), "{}", rule.id);
            if ELSEWHERE.contains(&rule.id) {
                continue;
            }
            let validator = validator_of(rule);
            let (text, place) = unmarked(&manifest_of(rule.bad, &pems));
            assert_eq!(judged(&validator, &text), [(rule.id, text[place.unwrap()].to_owned())], "{text}");
            assert_eq!(judged(&validator, &unmarked(&manifest_of(rule.good, &pems)).0), [], "{}", rule.id);
        }
    }

    /// How a manifest is written anew. Marked texts keep their marks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Style {
        Block,
        Flow,
        Json,
        /// Each value with an anchor before it.
        Anchored,
        /// In one line behind text of several bytes a character.
        MultiByte,
        Crlf,
    }

    impl Style {
        fn flow(self) -> bool {
            matches!(self, Self::Flow | Self::Json | Self::MultiByte)
        }

        fn scalar(self, text: &str) -> String {
            let inner = text.replace(MARKS, "");
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let marked = inner != text;
            // What is marked is as it was written, so that it keeps its type.
            let shown = match parse("f".into(), inner.clone()).documents.first().map(|document| &document.root.value) {
                Some(Value::String(read)) if marked && self == Self::Json => quoted(read),
                _ if marked && !inner.contains('\n') => inner,
                _ => quoted(&inner),
            };
            if marked { format!("{}{shown}{}", MARKS[0], MARKS[1]) } else { shown }
        }

        fn write(self, node: &Node, indent: usize, out: &mut String) {
            let key = |key: &str| if self == Self::Json { self.scalar(key) } else { key.to_owned() };
            if self == Self::Anchored && indent > 0 {
                let _ = write!(out, "&a{} ", out.len());
            }
            match &node.value {
                Value::Null => out.push_str("null"),
                Value::Bool(value) => drop(write!(out, "{value}")),
                Value::Number(number) => drop(write!(out, "{number}")),
                Value::String(text) => out.push_str(&self.scalar(text)),
                Value::Sequence(items) if self.flow() || items.is_empty() => {
                    self.list(out, ('[', ']'), items, |item, out| self.write(item, 1, out));
                }
                Value::Mapping(entries) if self.flow() || entries.is_empty() => {
                    self.list(out, ('{', '}'), entries, |entry, out| {
                        let _ = write!(out, "{}: ", key(&entry.key));
                        self.write(&entry.node, 1, out);
                    });
                }
                Value::Sequence(items) => {
                    for item in items {
                        let _ = write!(out, "\n{}- ", " ".repeat(indent));
                        // A flow mapping, as a block one would begin in this line.
                        Self::Flow.write(item, 0, out);
                    }
                }
                Value::Mapping(entries) => {
                    for entry in entries {
                        let _ = write!(out, "\n{}{}: ", " ".repeat(indent), key(&entry.key));
                        self.write(&entry.node, indent + 2, out);
                    }
                }
            }
        }

        fn list<T>(self, out: &mut String, brackets: (char, char), items: &[T], write: impl Fn(&T, &mut String)) {
            out.push(brackets.0);
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(brackets.1);
        }

        fn document(self, root: &Node) -> String {
            let mut root = root.clone();
            if self == Self::MultiByte
                && let Value::Mapping(entries) = &mut root.value
                && let Some(metadata) = entries.iter_mut().find(|entry| entry.key == "metadata")
                && let Value::Mapping(fields) = &mut metadata.node.value
            {
                let text = Node { span: 0..0, value: Value::String("größer 日本 😀".into()) };
                let entry = |key: &str, node| Entry { key: key.into(), key_span: 0..0, node };
                match fields.iter_mut().find(|field| field.key == "annotations") {
                    Some(Entry { node: Node { value: Value::Mapping(annotations), .. }, .. }) => {
                        annotations.insert(0, entry("a", text));
                    }
                    _ => {
                        let value = Value::Mapping(vec![entry("a", text)]);
                        fields.insert(0, entry("annotations", Node { span: 0..0, value }));
                    }
                }
            }
            let mut out = String::new();
            self.write(&root, 0, &mut out);
            out.trim_start().to_owned()
        }
    }

    #[test]
    fn findings_stand_where_they_belong_in_every_style() {
        let pems = pems();
        // These say something of the text itself, which is another one in another style.
        let of_text = ["yaml-syntax", "not-an-object"];
        for rule in RULES.iter().filter(|rule| !ELSEWHERE.contains(&rule.id) && !of_text.contains(&rule.id)) {
            let manifest = parse("f".into(), manifest_of(rule.bad, &pems));
            for style in [Style::Block, Style::Flow, Style::Json, Style::Anchored, Style::MultiByte, Style::Crlf] {
                let documents = manifest.documents.iter().map(|document| style.document(&document.root));
                let text = documents.collect::<Vec<_>>().join("\n---\n") + "\n";
                let text = if style == Style::Crlf { text.replace('\n', "\r\n") } else { text };
                let (text, place) = unmarked(&text);
                let place = place.unwrap();
                let manifest = parse("f".into(), text.clone());
                let mut judgement = validator_of(rule).judge(&manifest);
                Neighbours::default().meet(&manifest, &mut judgement);
                let told: Vec<_> = judgement.findings.iter().map(|f| (f.rule.id, f.span.clone())).collect();
                assert_eq!(told, [(rule.id, place.clone())], "{style:?}: {text}");
                let line = text[..place.start].matches('\n').count() + 1;
                let column = text[..place.start].rsplit('\n').next().unwrap().chars().count() + 1;
                assert_eq!(manifest.position(place.start), (line, column), "{} {style:?}", rule.id);
            }
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

    #[test]
    fn what_is_mended_has_no_findings_and_keeps_its_layout() {
        let base64 = pems().remove(0).1;
        let cases = [
            (
                "# why\nspec: # here\n  planeId: a # and here\n  clusterAgent: @\n".to_owned(),
                "# why\nspec: # here\n  planeID: a # and here\n",
            ),
            (
                "spec:\n  # before\n  clusterAgent: @ # so\n".to_owned(),
                "spec:\n  # before\n  planeID: shared-builder\n  clusterAgent:",
            ),
            ("spec: {clusterAgent: @}\n".to_owned(), "spec: {planeID: shared-builder, clusterAgent:"),
            (
                format!("spec:\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: {base64}\n"),
                "      value: |\n        -----BEGIN CERTIFICATE-----\n        MII",
            ),
            (
                format!(
                    "spec:\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: >-\n        {}\n        {}\n",
                    &base64[..100],
                    &base64[100..]
                ),
                "      value: |\n        -----BEGIN",
            ),
            (
                format!("spec: {{planeID: a, clusterAgent: {{clientCA: {{value: '{base64}'}}}}}}\n"),
                "{value: \"-----BEGIN CERTIFICATE-----\\nMII",
            ),
            (
                "spec:\n  planeID: a\n  clusterAgent: @\n  observabilityPlaneRef:\n    name: x\n".to_owned(),
                "Ref:\n    kind: ClusterObservabilityPlane\n    name: x\n",
            ),
        ];
        let secret = "{clientCA: {secretRef: {name: ca, namespace: s, key: k}}}";
        for (spec, expected) in cases {
            for line_end in ["\n", "\r\n"] {
                let text = whole(&spec.replace('@', secret)).replace('\n', line_end);
                let judgement = reference().judge(&parse("f".into(), text.clone()));
                let edits: Vec<_> = judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(&text)).collect();
                assert_eq!(edits.len(), 1, "{text}");
                let mended = applied(&text, edits);
                assert_eq!(found(&mended), [], "{mended}");
                assert!(mended.replace("\r\n", "\n").contains(expected), "{mended}");
                assert_eq!(mended.contains("\r\n"), line_end == "\r\n");
            }
        }
        let json = serde_json::json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": {"clusterAgent": {"clientCA": {"value": base64}}}}).to_string();
        let edits: Vec<_> = judge(&parse("f".into(), json.clone()))
            .findings
            .iter()
            .filter_map(|f| f.fix.as_ref()?.edit(&json))
            .collect();
        let mended = applied(&json, edits);
        assert_eq!(found(&mended), []);
        serde_json::from_str::<serde_json::Value>(&mended).unwrap();
    }

    #[test]
    fn what_is_not_safe_is_not_mended() {
        let base64 = pems().remove(0).1;
        for text in [
            // Both spellings, a value behind a comment, one behind an alias, a merged key.
            plane(&format!("{{planeId: b, planeID: a, {SECRET}}}")),
            plane(&format!("\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: {base64} # a comment")),
            plane("\n  planeID: a\n  clusterAgent:\n    clientCA: *ca").replace(
                "name: a",
                &format!("name: a\n  annotations: {{x: &x a}}\n  labels: &ca\n    value: {base64}"),
            ),
            plane(&format!("{{<<: {{planeId: a}}, {SECRET}}}")),
            plane(&format!("{{{SECRET}}}")).replace("name: a", "name: a.b"),
        ] {
            let findings = reference().judge(&parse("f".into(), text.clone())).findings;
            let mendable = findings.iter().filter_map(|f| f.fix.as_ref()?.edit(&text)).count();
            assert!(!findings.is_empty() && mendable == 0, "{text}{findings:#?}");
        }
    }

    #[test]
    fn a_fault_is_told_once() {
        // Each of these has one reason, which two judges could give.
        for spec in [
            "{planeID: a, clusterAgent: {clientCA: {Value: x}}}",
            "{planeId: a, @}",
            "{planeID: a, clusterAgent: {clientCA: {value: 12}}}",
            "{planeID: a, clusterAgent: {clientCA: x}}",
            "{planeID: a, clusterAgent: {clientCA: {secretRef: {name: ca, key: k, namespace: 1}}}}",
            "{planeID: a, clusterAgent: {clientCA: {value: ''}}}",
            "{planeID: a, @, observabilityPlaneRef: {Kind: ClusterObservabilityPlane, name: a}}",
            "{planeID: a, clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: 'a/b'}}}}",
        ] {
            assert_eq!(found(&plane(&spec.replace('@', SECRET))).len(), 1, "{spec}");
        }
    }
}
