//! Manifests for tests: the rules' examples made whole, and what is found in a text.

use std::ops::Range;

use base64::Engine as _;
use jiff::Timestamp;

use super::cel::Outcomes;
use super::crd::CrdError;
use super::finding::Finding;
use super::neighbours::Neighbours;
use super::rules::{MARKS, Severity};
use super::schema::Resource;
use super::validator::Validator;
use crate::manifest::{objects, parse};
use crate::pki::{self, Bundle, KeyAlgorithm, PrivateKey};
use crate::plane::{DEFAULT_KIND, Release, Span};

/// When everything is judged here.
pub fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub fn reference() -> Validator {
    Validator::reference(now())
}

pub fn judged(validator: &Validator, text: &str) -> Vec<(&'static str, String)> {
    let manifest = parse("f.yaml".into(), text.into());
    let mut judgement = validator.judge(&manifest);
    Neighbours::default().meet(&manifest, &mut judgement);
    let errors = judgement.findings.iter().filter(|finding| finding.rule.severity == Severity::Error).count();
    assert_eq!((judgement.errors, judgement.warnings), (errors, judgement.findings.len() - errors), "{text}");
    let reported = |finding: &Finding| (finding.rule.id, manifest.text[finding.span.clone()].to_owned());
    judgement.findings.iter().map(reported).collect()
}

/// The ids of what is found in a manifest, each with the text that it points at.
pub fn found(text: &str) -> Vec<(&'static str, String)> {
    judged(&reference(), text)
}

pub fn plane(spec: &str) -> String {
    format!("apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata:\n  name: a\nspec: {spec}\n")
}

/// A plane of any kind: a namespaced one in the namespace `team`.
pub fn plane_of(kind: &str, spec: &str) -> String {
    let namespace = if kind.starts_with("Cluster") { "" } else { ", namespace: team" };
    format!("apiVersion: openchoreo.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: a{namespace}}}\nspec: {spec}\n")
}

pub const SECRET: &str = "clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: k}}}";

/// An example as a whole manifest: what a plane needs beside it is put around it.
pub fn whole(example: &str) -> String {
    const HEAD: &str = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\n";
    const NAME: &str = "metadata:\n  name: shared-builder\n";
    const SPEC: &str = "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    let document = |text: &str| {
        let begins = |key: &str| text.lines().any(|line| line.replace(MARKS, "").starts_with(key));
        if begins("kind:") || !(begins("metadata:") || begins("spec:")) {
            return text.to_owned();
        }
        let name = if begins("metadata:") { "" } else { NAME };
        let spec = if begins("spec:") { "" } else { SPEC };
        format!("{HEAD}{name}{text}{spec}")
    };
    example.split("---\n").map(document).collect::<Vec<_>>().join("---\n")
}

/// A CRD of which only the schema of `spec` is given, in flow style.
pub fn crd(spec: &str) -> Result<Resource, CrdError> {
    let read = Resource::all_of(&parse(
        "crd.yaml".into(),
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec:\n  group: g\n  names: {{kind: ClusterBuildPlane}}\n  versions:\n  - name: v1\n    served: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties: {{spec: {spec}}}\n"
        ),
    ));
    read.map(|mut resources| resources.remove(0))
}

/// What is wrong with a `spec` by its schema: the rule's id, the text that it points at, and the message.
pub fn checked(schema: &str, spec: &str) -> Vec<(&'static str, String, String)> {
    let text = format!("apiVersion: g/v1\nkind: ClusterBuildPlane\nspec: {spec}\n");
    let manifest = parse("f".into(), text.clone());
    let found = crd(schema).unwrap().check(objects(&manifest)[0], &Outcomes::default()).unwrap();
    let reported = |finding: Finding| (finding.rule.id, text[finding.span].to_owned(), finding.message);
    found.findings.into_iter().map(reported).collect()
}

/// The reference's CRD with fields for the rules that it has no use for.
pub fn fork() -> Validator {
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
    let crd = DEFAULT_KIND.crd(Release::V0).unwrap().replacen(mark, &format!("{more}{mark}"), 1);
    Validator::of_crds(Resource::all_of(&parse("fork.yaml".into(), crd)).unwrap(), now())
}

/// The texts that stand for PEM in examples.
pub fn pems() -> Vec<(&'static str, String)> {
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
        ("<a broken certificate>", Bundle::from_iter([b"broken"]).pem().to_owned()),
        ("<a private key>", PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap().to_pem().to_string()),
    ]
}

/// An example as a whole manifest, with real PEM in quotes, and still with its marks.
pub fn manifest_of(example: &str, pems: &[(&str, String)]) -> String {
    let mut text = whole(example);
    // Two of them one behind the other are one text.
    for (first, one) in pems {
        for (second, other) in pems {
            text = text.replace(&format!("{first}{second}"), &format!("{:?}", format!("{one}{other}")));
        }
    }
    pems.iter().fold(text, |text, (name, pem)| text.replace(name, &format!("{pem:?}")))
}

/// The text without its marks, and what is between them.
pub fn unmarked(text: &str) -> (String, Option<Range<usize>>) {
    let plain = text.replace(MARKS, "");
    let place = text.find(MARKS[0]).zip(text.find(MARKS[1]));
    (plain, place.map(|(start, end)| start..end - MARKS[0].len_utf8()))
}
