//! Mutants of good planes, judged by `validate` and by a real API server under the same CRD.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::api::client;
use crate::control_plane::ControlPlane;

/// A kind in a release, whose planes are judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub kind: &'static str,
    pub release: &'static str,
}

/// The namespace of the requests for namespaced kinds.
const NAMESPACE: &str = "default";

impl Subject {
    /// Each kind in each release that has it, but for the reference's ClusterBuildPlane.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = ["DataPlane", "ClusterDataPlane", "ObservabilityPlane", "ClusterObservabilityPlane"];
        let of = |release: &'static str, kinds: &'static [&'static str]| {
            kinds.iter().copied().chain(both).map(move |kind| Self { kind, release })
        };
        of("v0.17", &["BuildPlane"]).chain(of("v1.2", &["WorkflowPlane", "ClusterWorkflowPlane"]))
    }

    pub fn plural(self) -> String {
        format!("{}s", self.kind.to_lowercase())
    }

    fn is_namespaced(self) -> bool {
        !self.kind.starts_with("Cluster")
    }

    /// The path of its planes on the API server.
    pub fn path(self) -> String {
        let namespace = if self.is_namespaced() { format!("namespaces/{NAMESPACE}/") } else { String::new() };
        format!("/apis/openchoreo.dev/v1alpha1/{namespace}{}", self.plural())
    }

    fn is_plane(self, text: &str) -> bool {
        let is = |line: &str, wanted: &str| line.replace('"', "").starts_with(wanted);
        text.lines().any(|line| line.replace('"', "") == format!("kind: {}", self.kind))
            && text.lines().any(|line| is(line, "apiVersion: openchoreo.dev/v1alpha1"))
    }
}

/// A manifest in which every scalar is as it is written, and a key may stand twice.
#[derive(Clone, Debug)]
enum Tree {
    Raw(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    fn of(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(fields) => {
                Self::Map(fields.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect())
            }
            scalar => Self::Raw(scalar.to_string()),
        }
    }

    /// In block style.
    fn write(&self, indent: usize, out: &mut String) {
        let margin = " ".repeat(indent);
        match self {
            Self::Raw(text) => drop(writeln!(out, " {text}")),
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(fields) if fields.is_empty() => out.push_str(" {}\n"),
            Self::List(items) => {
                out.push('\n');
                for item in items {
                    let _ = write!(out, "{margin}-");
                    item.write(indent + 2, out);
                }
            }
            Self::Map(fields) => {
                out.push('\n');
                for (key, value) in fields {
                    let _ = write!(out, "{margin}{}:", key_text(key));
                    value.write(indent + 2, out);
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.write(0, &mut text);
        text.trim_start_matches('\n').to_owned()
    }

    /// The way to each value below this one.
    fn ways(&self, way: &[usize], ways: &mut Vec<Vec<usize>>) {
        let below: Vec<&Self> = match self {
            Self::Raw(_) => vec![],
            Self::List(items) => items.iter().collect(),
            Self::Map(fields) => fields.iter().map(|(_, value)| value).collect(),
        };
        for (index, tree) in below.into_iter().enumerate() {
            let way = [way, &[index]].concat();
            ways.push(way.clone());
            tree.ways(&way, ways);
        }
    }

    fn at(&mut self, way: &[usize]) -> &mut Self {
        way.iter().fold(self, |tree, index| match tree {
            Self::List(items) => &mut items[*index],
            Self::Map(fields) => &mut fields[*index].1,
            Self::Raw(_) => unreachable!(),
        })
    }
}

/// A key as it is: in quotes where it has to be.
fn key_text(key: &str) -> String {
    let plain = key.chars().next().is_some_and(char::is_alphabetic)
        && key.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c));
    if plain || key.starts_with('"') { key.to_owned() } else { serde_json::to_string(key).unwrap() }
}

/// What a scalar may be written as: YAML 1.1's spellings, other types, boundary lengths, other scripts.
fn spellings() -> Vec<String> {
    let words = [
        "null",
        "~",
        "Null",
        "''",
        "true",
        "True",
        "on",
        "off",
        "y",
        "n",
        "yes",
        "NO",
        "12",
        "-1",
        "0",
        "+1",
        "1.5",
        "1.0",
        "1e3",
        "1e21",
        "1e-7",
        "0123",
        "0o17",
        "0x1F",
        "0b11",
        "1_000",
        "08",
        ".5",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        ".inf",
        "-.Inf",
        ".nan",
        "2001-01-01",
        "12:30",
        "190:20:30",
        "=",
        "<<",
        "text",
        "Text",
        "a_b",
        "-a",
        "a-",
        "a.b",
        "a/b",
        "\"1\"",
        "'on'",
        "!!str 12",
        "!!int 12",
        "\"a\\tb\"",
        "ä",
        "日本",
        "\"\\u00e9\"",
        "\"\\U0001F600\"",
        "'a''b'",
        "\"\"",
        "[]",
        "{}",
        "[a]",
        "[a, a]",
        "{a: b}",
        "{a: 1, a: 2}",
        "1h",
        "PT1H",
        "2026-11-22T12:00:00Z",
        "2026-11-22",
        "10.0.0.1",
        "::1",
        "10.0.0.0/8",
        "AAAA",
        "123e4567-e89b-12d3-a456-426614174000",
        "a b",
        "\" a\"",
        "\"a\\nb\"",
        "|-\n        block",
        ">\n        folded\n        text",
        "\u{2028}",
        "a\u{2028}",
        "\u{85}",
        "\"\u{2028}\"",
    ];
    let mut spellings: Vec<_> = words.map(str::to_owned).into();
    for length in [1, 3, 4, 8, 9, 62, 63, 64, 252, 253, 254, 316, 317] {
        spellings.push("a".repeat(length));
        spellings.push(format!("\"{}\"", "é".repeat(length)));
    }
    spellings
}

const KEYS: [&str; 12] =
    ["unknown", "Name", "planeid", "\"1\"", "ä", "a.b/c", "-a", "kind", "spec", "status", "namespace", "x y"];

/// One change, of a kind that the number says.
fn mutate(tree: &mut Tree, rng: &mut Rng, spellings: &[String], kind: usize) {
    let mut ways = Vec::new();
    tree.ways(&[], &mut ways);
    let Some(way) = rng.choice(&ways).cloned() else {
        return;
    };
    let (last, parent) = way.split_last().unwrap();
    match kind {
        0 => match tree.at(parent) {
            Tree::List(items) => drop(items.remove(*last)),
            Tree::Map(fields) => drop(fields.remove(*last)),
            Tree::Raw(_) => {}
        },
        1 => match tree.at(parent) {
            Tree::List(items) => items.push(items[*last].clone()),
            Tree::Map(fields) => fields.push(fields[*last].clone()),
            Tree::Raw(_) => {}
        },
        2 => {
            if let Tree::Map(fields) = tree.at(parent) {
                let key = &mut fields[*last].0;
                *key = match rng.usize(0..5) {
                    0 => key.to_uppercase(),
                    1 => key.to_lowercase(),
                    2 => format!("{key}s"),
                    3 => key.chars().rev().collect(),
                    _ => rng.choice(KEYS).unwrap().to_owned(),
                };
            }
        }
        3 => *tree.at(&way) = Tree::Raw("null".into()),
        4 => {
            let empty = [Tree::Raw("''".into()), Tree::List(vec![]), Tree::Map(vec![])];
            *tree.at(&way) = rng.choice(&empty).unwrap().clone();
        }
        5 => {
            let added = (rng.choice(KEYS).unwrap().to_owned(), Tree::Raw(rng.choice(spellings).unwrap().clone()));
            match tree.at(&way) {
                Tree::Map(fields) => fields.push(added),
                Tree::List(items) => items.push(added.1),
                raw => *raw = Tree::Map(vec![added]),
            }
        }
        6 => {
            if let Tree::Raw(text) = tree.at(&way) {
                let inner = text.trim_matches('"').to_owned();
                *text = match rng.usize(0..5) {
                    0 => inner,
                    1 => format!("\"{inner}{inner}\""),
                    2 => format!("\"{}\"", inner.to_uppercase()),
                    3 => format!("\"{inner}-\""),
                    _ => format!("\"{inner}{}\"", "x".repeat(rng.usize(1..300))),
                };
            }
        }
        _ => *tree.at(&way) = Tree::Raw(rng.choice(spellings).unwrap().clone()),
    }
}

fn mutants(bases: &[Value], count: usize, seed: u64) -> Vec<String> {
    let (mut rng, spellings) = (Rng::with_seed(seed), spellings());
    let mut mutants: Vec<String> = bases.iter().map(|base| Tree::of(base).text()).collect();
    // Each spelling of each scalar, then changes at random, one or two at a time.
    let mut spelled = Vec::new();
    for base in bases {
        let tree = Tree::of(base);
        let mut ways = Vec::new();
        tree.ways(&[], &mut ways);
        for way in ways {
            for spelling in rng.choose_multiple(spellings.iter(), 12) {
                let mut mutant = tree.clone();
                *mutant.at(&way) = Tree::Raw(spelling.clone());
                spelled.push(mutant.text());
            }
        }
    }
    mutants.extend(rng.choose_multiple(spelled, count / 2));
    while mutants.len() < count {
        let mut tree = Tree::of(rng.choice(bases).unwrap());
        for _ in 0..rng.usize(1..=2) {
            let kind = rng.usize(0..9);
            mutate(&mut tree, &mut rng, &spellings, kind);
        }
        mutants.push(tree.text());
    }
    mutants
}

/// What a judge says of a mutant.
#[derive(Debug, Default)]
struct Verdict {
    rejected: bool,
    fields: Vec<String>,
    messages: Vec<String>,
    /// Whether a CEL rule could not be evaluated.
    unknown: bool,
    /// Whether it is of another namespace than the request.
    elsewhere: bool,
}

fn ours(at: &ControlPlane, subject: Subject, by: &[&str], mutants: &[String]) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = mutants.iter().map(|_| Verdict::default()).collect();
    for (chunk, mutants) in mutants.chunks(500).enumerate() {
        let folder = format!("mutants-{chunk}");
        fs::create_dir_all(at.path().join(&folder)).unwrap();
        for (index, mutant) in mutants.iter().enumerate() {
            fs::write(at.path().join(format!("{folder}/{index}.yaml")), mutant).unwrap();
        }
        let judged = at.run(&[&["validate", "-o", "json", &folder], by].concat()).json();
        assert_eq!(judged["omitted"], 0);
        for finding in judged["findings"].as_array().unwrap() {
            let Some(file) = finding["file"].as_str() else {
                continue;
            };
            let index: usize = Path::new(file).file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let verdict = &mut verdicts[chunk * 500 + index];
            verdict.unknown |= finding["rule"] == "cel-unknown";
            if finding["judge"] == "schema" && finding["severity"] == "error" {
                verdict.rejected = true;
                verdict.fields.push(finding["path"].as_str().unwrap().to_owned());
                verdict.messages.push(finding["message"].as_str().unwrap().to_owned());
            }
            // A kind that isn't there is a 404 for the API server.
            verdict.rejected |= finding["rule"] == "kind-near-miss";
        }
        // What is no plane at all is skipped here, and refused there.
        let one = |file: &str| judged["findings"].as_array().unwrap().iter().any(|finding| finding["file"] == file);
        for index in 0..mutants.len() {
            let verdict = &mut verdicts[chunk * 500 + index];
            if !verdict.rejected && !one(&format!("{folder}/{index}.yaml")) && !subject.is_plane(&mutants[index]) {
                verdict.rejected = true;
            }
        }
    }
    verdicts
}

async fn theirs(at: &ControlPlane, subject: Subject, mutants: &[String]) -> Vec<Verdict> {
    let client = client(at).await;
    let uri = format!("{}?fieldValidation=Strict&dryRun=All", subject.path());
    let ask = |mutant: &String| {
        let request = http::Request::post(&uri)
            .header("content-type", "application/yaml")
            .body(mutant.clone().into_bytes())
            .unwrap();
        let client = client.clone();
        async move {
            match client.request::<Value>(request).await {
                Ok(_) => Verdict::default(),
                Err(kube::Error::Api(status)) => {
                    assert!(matches!(status.code, 400 | 404 | 422 | 409), "{status:?}");
                    let causes = status.details.map(|details| details.causes).unwrap_or_default();
                    Verdict {
                        rejected: true,
                        fields: causes.into_iter().map(|cause| cause.field).collect(),
                        elsewhere: status.message.contains("does not match the namespace"),
                        messages: vec![status.message],
                        unknown: false,
                    }
                }
                Err(error) => panic!("{error}: {}", "the API server did not answer"),
            }
        }
    };
    stream::iter(mutants).map(ask).buffered(8).collect().await
}

/// Judges mutants on both sides, here as the options `by` say, and fails where they differ.
pub fn compare(at: &ControlPlane, subject: Subject, by: &[&str], bases: &[Value], (count, seed): (usize, u64)) {
    let mutants = mutants(bases, count, seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let theirs = runtime.block_on(theirs(at, subject, &mutants));
    let ours = ours(at, subject, by, &mutants);
    let (mut rejected, mut unknown, mut differences) = (0, 0, Vec::new());
    for ((mutant, ours), theirs) in mutants.iter().zip(&ours).zip(&theirs) {
        rejected += usize::from(theirs.rejected);
        if theirs.elsewhere {
            continue;
        }
        if ours.unknown {
            unknown += 1;
            continue;
        }
        let named = theirs.fields.iter().find(|field| !field.is_empty() && *field != "<nil>");
        // Of what is no plane nothing is reported here: it is skipped.
        let reported = !subject.is_plane(mutant)
            || named.is_none_or(|field| ours.fields.iter().any(|path| same_field(path, field)));
        if ours.rejected != theirs.rejected || !reported {
            differences.push(format!("{mutant}ours: {ours:?}\ntheirs: {theirs:?}\n"));
        }
    }
    let (kind, by) = (subject.kind, by.join(" "));
    println!(
        "{} mutants of {kind} by {by}, seed {seed}: {rejected} rejected, {unknown} with rules that can't be evaluated, {} differ",
        mutants.len(),
        differences.len()
    );
    if let Ok(path) = std::env::var("DIFFERENCES") {
        fs::write(format!("{path}-{kind}-{by}"), differences.join("---\n")).unwrap();
    }
    for difference in differences.iter().take(5) {
        println!("{difference}");
    }
    assert!(differences.is_empty(), "{} of {} mutants differ", differences.len(), mutants.len());
    assert!(unknown * 100 < mutants.len(), "{unknown} can't be evaluated");
    assert!(
        rejected * 10 > mutants.len() && rejected * 10 < mutants.len() * 9,
        "{rejected} rejected of {}",
        mutants.len()
    );
}

/// Keys of maps are written in several ways; labels, annotations and finalizers the server says as a whole.
fn same_field(ours: &str, theirs: &str) -> bool {
    let plain = |path: &str| path.replace(['[', ']'], ".").replace("..", ".").trim_end_matches('.').to_owned();
    let whole = ["metadata.labels", "metadata.annotations", "metadata.finalizers", "metadata.ownerReferences"];
    plain(ours) == plain(theirs)
        || (whole.iter().any(|whole| theirs.starts_with(whole)) && ours.starts_with(theirs.split('[').next().unwrap()))
        || (whole[3] == theirs.split('.').take(2).collect::<Vec<_>>().join(".") && ours.starts_with(whole[3]))
}

/// Good planes that between them have every field of the reference.
pub fn planes() -> Vec<Value> {
    let plane = |name: &str, spec: Value| {
        serde_json::json!({
            "apiVersion": "openchoreo.dev/v1alpha1",
            "kind": "ClusterBuildPlane",
            "metadata": {"name": name, "labels": {"team": "build", "example.com/a": ""}, "annotations": {"openchoreo.dev/display-name": "Shared"}},
            "spec": spec,
        })
    };
    let secret = serde_json::json!({"secretRef": {"namespace": "openchoreo-system", "name": "ca", "key": "ca.crt"}});
    let mut owned =
        plane("owned", serde_json::json!({"planeID": "owned", "clusterAgent": {"clientCA": {"value": "PEM"}}}));
    owned["metadata"]["ownerReferences"] =
        serde_json::json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b", "controller": true}]);
    owned["metadata"]["finalizers"] = serde_json::json!(["example.com/keep"]);
    owned["metadata"]["managedFields"] = serde_json::json!([
        {"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
    ]);
    owned["status"] = serde_json::json!({
        "observedGeneration": 1,
        "agentConnection": {"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-11-22T12:00:00Z"},
    });
    let mut generated = plane("x", serde_json::json!({"planeID": "generated", "clusterAgent": {"clientCA": secret}}));
    generated["metadata"] = serde_json::json!({"generateName": "plane-"});
    vec![
        plane("basic", serde_json::json!({"planeID": "basic", "clusterAgent": {"clientCA": secret}})),
        plane(
            "full",
            serde_json::json!({
                "planeID": "full",
                "clusterAgent": {"clientCA": secret},
                "secretStoreRef": {"name": "vault-backend"},
                "observabilityPlaneRef": {"kind": "ClusterObservabilityPlane", "name": "production"},
            }),
        ),
        owned,
        generated,
    ]
}

/// The same planes as those of a kind in a release, with its own fields.
pub fn planes_of(subject: Subject) -> Vec<Value> {
    let mut planes = planes();
    for (index, plane) in planes.iter_mut().enumerate() {
        plane["kind"] = subject.kind.into();
        if subject.is_namespaced() && index == 0 {
            plane["metadata"]["namespace"] = NAMESPACE.into();
        }
        let spec = plane["spec"].as_object_mut().unwrap();
        if subject.kind.ends_with("ObservabilityPlane") {
            spec.remove("secretStoreRef");
            spec.remove("observabilityPlaneRef");
            spec.insert("observerURL".into(), "https://observer.example.com".into());
        }
        let client_ca = spec["clusterAgent"]["clientCA"].as_object_mut().unwrap();
        if subject.release == "v1.2"
            && let Some(secret) = client_ca.remove("secretRef")
        {
            client_ca.insert("secretKeyRef".into(), secret);
        }
    }
    let v1 = subject.release == "v1.2";
    let more = match subject.kind.trim_start_matches("Cluster") {
        "DataPlane" if v1 => DATA.into(),
        "DataPlane" => format!("imagePullSecretRefs: [registry, other]\n{DATA}"),
        "ObservabilityPlane" if v1 => "{rcaAgentURL: 'https://rca', finOpsAgentURL: 'https://finops'}".to_owned(),
        "ObservabilityPlane" => "{rcaAgentURL: 'https://rca'}".to_owned(),
        _ => "{}".to_owned(),
    };
    add(&mut planes[1], &more);
    planes
}

const DATA: &str = "
gateway:
  ingress:
    external:
      name: outside
      namespace: gateways
      http: {listenerName: web, host: example.com, port: 80}
      https: {host: example.com, port: 443}
    internal: {name: inside, namespace: gateways}
  egress:
    external: {name: out, namespace: gateways, tls: {host: example.com, port: 8443}}
";

fn add(plane: &mut Value, fields: &str) {
    let fields: BTreeMap<String, Value> = serde_yaml::from_str(fields).unwrap();
    for (name, value) in fields {
        plane["spec"][name] = value;
    }
}

/// A stricter CRD, of every keyword that `validate` honours.
pub fn strict_crd() -> String {
    let crd = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/plane/crd.yaml")).unwrap();
    let mut crd: Value = serde_yaml::from_str(&crd).unwrap();
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    schema["properties"]["metadata"] = serde_json::from_str(
        r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 20, "pattern": "^[a-z]"}}}"#,
    )
    .unwrap();
    let more: BTreeMap<String, Value> = serde_yaml::from_str(STRICT).unwrap();
    let spec = &mut schema["properties"]["spec"];
    spec["properties"]["clusterAgent"]["properties"]["clientCA"]["oneOf"] =
        serde_json::json!([{"required": ["value"]}, {"required": ["secretRef"]}]);
    spec["x-kubernetes-validations"] = serde_json::json!([
        {"rule": "self.planeID != 'forbidden'", "message": "is forbidden", "fieldPath": ".planeID", "reason": "FieldValueForbidden"},
        {"rule": "!has(self.limits) || self.limits.least <= self.limits.most", "messageExpression": "'the limits of ' + self.planeID + ' are the wrong way round'"},
    ]);
    spec["required"] = serde_json::json!(["clusterAgent", "planeID"]);
    for (name, schema) in more {
        spec["properties"][name] = schema;
    }
    crd.to_string()
}

const STRICT: &str = r#"
builders:
  description: a set
  type: array
  x-kubernetes-list-type: set
  minItems: 1
  maxItems: 3
  items: {type: string, minLength: 1, maxLength: 8}
pools:
  title: a map of lists
  type: array
  x-kubernetes-list-type: map
  x-kubernetes-list-map-keys: [name, zone]
  maxItems: 4
  items:
    type: object
    required: [name]
    properties:
      name: {type: string, maxLength: 8}
      zone: {type: string, default: a, maxLength: 8}
      size: {type: integer, format: int32, minimum: 0, exclusiveMinimum: true}
    x-kubernetes-validations:
    - rule: "!has(self.size) || self.size < 1000"
      message: is too large
limits:
  type: object
  nullable: true
  minProperties: 1
  maxProperties: 3
  properties:
    least: {type: integer, default: 1}
    most: {type: integer, default: 5, maximum: 100}
    step: {type: integer, multipleOf: 5}
ratio: {type: number, minimum: 0, maximum: 1, exclusiveMaximum: true}
half: {type: number, format: float, multipleOf: 0.5}
port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}], pattern: "^[a-z0-9]+$"}
deadline: {type: string, format: duration}
since: {type: string, format: date-time}
day: {type: string, format: date}
id: {type: string, format: uuid}
address: {type: string, anyOf: [{format: ipv4}, {format: ipv6}]}
network: {type: string, format: cidr}
blob: {type: string, format: byte}
short: {type: string, format: k8s-short-name}
level: {type: string, enum: [low, high, "1", "on"]}
number: {type: integer, enum: [1, 2, 3]}
digits: {type: string, pattern: '^\d+$'}
choice:
  type: object
  x-kubernetes-map-type: atomic
  properties:
    a: {type: string}
    b: {type: string}
    c: {type: boolean}
  oneOf:
  - required: [a]
  - required: [b]
  not: {required: [c], properties: {c: {enum: [false]}}}
  allOf:
  - properties: {a: {maxLength: 4}}
  - properties: {b: {minLength: 2}}
settings:
  type: object
  maxProperties: 3
  additionalProperties: {type: string, maxLength: 8}
anything: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: object, properties: {x: {type: string}}}}}
nothing: {type: string, nullable: true, maxLength: 3}
flags:
  type: object
  default: {}
  properties:
    on: {type: boolean, default: true}
    "yes": {type: boolean}
"#;

/// Good planes by the stricter CRD.
pub fn strict_planes() -> Vec<Value> {
    let mut planes = planes();
    add(
        &mut planes[0],
        "{builders: [a, b], pools: [{name: a, size: 1}, {name: a, zone: b}], limits: {least: 1, most: 2, step: 10}, ratio: 0.5, half: 1.5, port: 80}",
    );
    add(
        &mut planes[1],
        "{deadline: 1h, since: '2026-11-22T12:00:00Z', day: '2026-11-22', id: 123e4567-e89b-12d3-a456-426614174000, address: 10.0.0.1, network: 10.0.0.0/8, blob: AAAA, short: a}",
    );
    add(
        &mut planes[2],
        "{level: low, number: 2, digits: '12', choice: {a: x}, settings: {x: y}, anything: {known: {x: y}, other: {z: 1}}, nothing: null, flags: {'on': false}}",
    );
    planes
}
