//! Rules over a manifest: what the API server would reject, and what no agent could connect through.
//!
//! Not here: reading the text (manifest), and showing what was found (render).

mod gateway;
mod metadata;
mod rules;
mod schema;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use crate::manifest::{Document, FaultKind, Manifest, Node, Value};
use crate::plane::{CLUSTER_BUILD_PLANE, CLUSTER_WORKFLOW_PLANE, CRD, Difference};

pub use rules::{Judge, RULES, Rule, Severity};
pub use schema::Schema;

/// Something wrong in a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static Rule,
    /// Counted from 1 in its file.
    pub document: usize,
    /// The offending key or value, as bytes of the file's text.
    pub span: Range<usize>,
    /// As `spec.planeID`.
    pub path: String,
    pub message: String,
    /// A few words beside the underlined text.
    pub label: String,
    pub help: Option<String>,
}

/// What one file holds and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    pub findings: Vec<Finding>,
    pub documents: usize,
    pub planes: usize,
    /// Documents of other kinds, by kind.
    pub skipped: BTreeMap<String, usize>,
}

impl Judgement {
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.rule.severity == severity).count()
    }
}

/// The schema of the reference.
pub static REFERENCE: LazyLock<Schema> = LazyLock::new(|| Schema::of_crd(CRD).unwrap_or_default());

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

    fn api_version(&self) -> &'m str {
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
    manifest.documents.iter().for_each(|document| unfold(document, &document.root, &mut objects));
    objects
}

/// Judges every document of a file.
pub fn judge(manifest: &Manifest) -> Judgement {
    let mut judgement = Judgement { documents: manifest.documents.len(), ..Judgement::default() };
    for fault in &manifest.faults {
        let rule = match fault.kind {
            FaultKind::Syntax => &rules::YAML_SYNTAX,
            FaultKind::Duplicate => &rules::DUPLICATE_KEY,
        };
        judgement.findings.push(Finding {
            rule,
            document: fault.document,
            span: fault.span.clone(),
            path: String::new(),
            message: fault.message.clone(),
            label: String::new(),
            help: None,
        });
    }
    for object in objects(manifest) {
        judge_object(object, &mut judgement);
    }
    judgement.findings.sort_by_key(|finding| (finding.document, finding.span.start));
    judgement
}

fn judge_object(object: Object<'_>, judgement: &mut Judgement) {
    let mut found = Found { document: object.document, findings: &mut judgement.findings };
    let Value::Mapping(entries) = &object.node.value else {
        found.add(
            &rules::NOT_AN_OBJECT,
            object.node.span.clone(),
            "",
            "a document must be a mapping",
            object.node.type_name(),
        );
        return;
    };
    if object.is_plane() {
        judgement.planes += 1;
        REFERENCE.check(object.node, &mut found);
        metadata::check(object.node, &mut found);
        gateway::check(object.node, &mut found);
        return;
    }
    let place = ["kind", "apiVersion"].iter().find_map(|key| object.node.get(key)).map(|node| node.span.clone());
    let place = place
        .or_else(|| entries.first().map(|entry| entry.key_span.clone()))
        .unwrap_or_else(|| object.node.span.clone());
    if let Some((message, help)) = near_miss(object) {
        found.add(&rules::KIND_NEAR_MISS, place, "kind", message, "").help = Some(help);
    }
    let kind = match object.kind() {
        "" => "without a kind",
        kind => kind,
    };
    *judgement.skipped.entry(kind.to_owned()).or_default() += 1;
}

/// What looks like a plane and is none.
fn near_miss(object: Object<'_>) -> Option<(String, String)> {
    let (kind, api_version) = (object.kind(), object.api_version());
    let (plane, version) = (CLUSTER_BUILD_PLANE.kind, CLUSTER_BUILD_PLANE.api_version());
    let group = api_version.split('/').next().unwrap_or_default();
    if kind == "BuildPlane" && group == CLUSTER_BUILD_PLANE.group {
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
    let seems = !kind.is_empty() && strsim::damerau_levenshtein(&kind.to_lowercase(), &plane.to_lowercase()) <= 2;
    if seems && kind != plane {
        return Some((
            format!("there is no kind {}", crate::term::visible(kind)),
            format!("`kind: {plane}` was meant?"),
        ));
    }
    if kind == plane {
        return Some((
            format!("a {plane} is of {version}, not of `{}`", crate::term::visible(api_version)),
            format!("write `apiVersion: {version}`"),
        ));
    }
    None
}

/// Takes findings of one document.
struct Found<'f> {
    document: usize,
    findings: &'f mut Vec<Finding>,
}

impl Found<'_> {
    fn add(
        &mut self,
        rule: &'static Rule,
        span: Range<usize>,
        path: &str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Finding {
        self.findings.push(Finding {
            rule,
            document: self.document,
            span,
            path: path.to_owned(),
            message: message.into(),
            label: label.into(),
            help: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    /// The ids of what is found in a manifest, each with the text that it points at.
    fn found(text: &str) -> Vec<(&'static str, String)> {
        let manifest = parse("f.yaml".into(), text.into());
        judge(&manifest)
            .findings
            .iter()
            .map(|finding| (finding.rule.id, manifest.text[finding.span.clone()].to_owned()))
            .collect()
    }

    fn plane(spec: &str) -> String {
        format!("apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata:\n  name: a\nspec: {spec}\n")
    }

    const SECRET: &str = "clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: k}}}";

    #[test]
    fn a_good_plane_has_no_findings() {
        assert_eq!(found(&plane(&format!("{{planeID: a, {SECRET}}}"))), []);
    }

    #[test]
    fn the_schema_is_held() {
        let cases = [
            ("{planeID: A_b, @}", "plane-id-format", "A_b"),
            ("{planeID: '', @}", "plane-id-format", "''"),
            ("{planeID: on, @}", "wrong-type", "on"),
            ("{planeID: 12, @}", "wrong-type", "12"),
            ("{planeId: a, planeID: a, @}", "unknown-field", "planeId"),
            ("{planeID: a, clusterAgent: {}}", "required-field", "clusterAgent"),
            ("{planeID: a}", "required-field", "spec"),
            ("{planeID: a, @, secretStoreRef: {}}", "required-field", "secretStoreRef"),
            (
                "{planeID: a, @, observabilityPlaneRef: {kind: ObservabilityPlane, name: x}}",
                "not-in-enum",
                "ObservabilityPlane",
            ),
            ("{planeID: a, @, observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: ''}}", "length", "''"),
            (
                "{planeID: a, @, observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: X}}",
                "pattern-mismatch",
                "X",
            ),
            ("{planeID: a, planeID: b, @}", "duplicate-key", "planeID"),
            ("[]", "wrong-type", "[]"),
            (
                "{planeID: a, clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: null}}}}",
                "required-field",
                "secretRef",
            ),
        ];
        for (spec, rule, at) in cases {
            let findings = found(&plane(&spec.replace('@', SECRET)));
            assert!(findings.contains(&(rule, at.to_owned())), "{spec}: {findings:?}");
        }
        let long = "a".repeat(64);
        assert_eq!(found(&plane(&format!("{{planeID: {long}, {SECRET}}}")))[0].0, "plane-id-format");
    }

    #[test]
    fn the_gateway_is_foreseen() {
        let ca = |value: &str| format!("{{planeID: a, clusterAgent: {{clientCA: {{value: {value:?}}}}}}}");
        let pem = crate::pki::ca(
            "x",
            crate::pki::KeyAlgorithm::EcdsaP256,
            crate::plane::Span::from_seconds(600),
            jiff::Timestamp::now(),
        )
        .unwrap();
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(&pem.certificate);
        let cases = [
            (ca(&pem.certificate), None),
            (ca(&format!("a CA\n{}", pem.certificate)), None),
            (ca(&encoded), Some("ca-not-raw-pem")),
            (ca("hello"), Some("ca-no-certificate")),
            (ca(""), Some("ca-source-missing")),
            (ca(&pem.key.to_pem()), Some("ca-private-key")),
            (ca(&crate::pki::encode("CERTIFICATE", b"x")), Some("ca-unparsable")),
            ("{planeID: a, clusterAgent: {clientCA: {}}}".into(), Some("ca-source-missing")),
            (
                "{planeID: a, clusterAgent: {clientCA: {value: x, secretRef: {name: ca, namespace: s, key: k}}}}"
                    .into(),
                Some("ca-source-both"),
            ),
            (
                "{planeID: a, clusterAgent: {clientCA: {secretRef: {name: ca, key: k}}}}".into(),
                Some("ca-secret-namespace"),
            ),
            (format!("{{{SECRET}}}"), Some("plane-id-missing")),
            (
                format!("{{planeID: a, {SECRET}, observabilityPlaneRef: {{name: x}}}}"),
                Some("observability-kind-missing"),
            ),
        ];
        for (spec, rule) in cases {
            let ids: Vec<_> = found(&plane(&spec)).into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, Vec::from_iter(rule), "{spec}");
        }
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
            ("{name: a, labels: {a: 'b c'}}", "label-format", "'b c'"),
            ("{name: a, labels: {-a: b}}", "label-format", "-a"),
            ("{name: a, labels: {a: 1}}", "wrong-type", "1"),
            ("{name: a, annotations: {a b: c}}", "annotation-format", "a b"),
            ("{name: a, namespace: b}", "namespace-ignored", "namespace"),
            ("{name: a, label: {}}", "unknown-field", "label"),
            ("{name: a, generation: x}", "wrong-type", "x"),
            ("{name: a, creationTimestamp: yesterday}", "wrong-type", "yesterday"),
            ("{name: a, finalizers: x}", "wrong-type", "x"),
            ("{name: a, finalizers: [a/b, a/b/c]}", "name-format", "a/b/c"),
            ("{name: a, ownerReferences: {}}", "wrong-type", "{}"),
            ("{generateName: Foo-}", "name-format", "Foo-"),
        ];
        for (metadata, rule, at) in cases {
            assert_eq!(found(&with(metadata)), [(rule, at.to_owned())], "{metadata}");
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
        assert_eq!(found("a")[0].0, "not-an-object");
        assert_eq!(found("a: [")[0].0, "yaml-syntax");
    }

    #[test]
    fn lists_are_taken_apart() {
        let text = "kind: List\napiVersion: v1\nitems:\n- kind: ConfigMap\n- apiVersion: openchoreo.dev/v1alpha1\n  kind: ClusterBuildPlane\n  metadata: {name: a}\n  spec: {}\n";
        let judgement = judge(&parse("f".into(), text.into()));
        assert_eq!((judgement.documents, judgement.planes, judgement.skipped["ConfigMap"]), (1, 1, 1));
        assert_eq!(judgement.findings.len(), 2);
    }

    #[test]
    fn every_rule_is_reached_and_told_once() {
        let source = include_str!("mod.rs");
        for rule in RULES {
            let elsewhere = ["cel-rule", "cel-unknown", "no-plane", "unwelcome-value", "out-of-range"];
            assert!(
                elsewhere.contains(&rule.id) || source.contains(&format!("\"{}\"", rule.id)),
                "{} has no test",
                rule.id
            );
            assert_eq!(RULES.iter().filter(|other| other.id == rule.id).count(), 1);
        }
    }
}
