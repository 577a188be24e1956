//! The rules as data: what each is about, why, and a manifest that breaks it beside one that doesn't.

use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// Whose verdict a rule predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The API server, with the reference's CRD, a release's or a fork's.
    Schema,
    /// The cluster gateway: accepted by the API server, yet no agent can connect.
    Gateway,
    /// Nobody today; it hurts later.
    Practice,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Judge {
    pub fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Gateway => "gateway",
            Self::Practice => "practice",
        }
    }
}

/// One thing that can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, for scripts.
    pub id: &'static str,
    pub severity: Severity,
    pub judge: Judge,
    /// What holds where nothing is wrong, in a sentence.
    pub about: &'static str,
    /// Why, and what to do.
    pub why: &'static str,
    /// A part of a manifest that breaks the rule. What is wrong is between [`MARKS`]; `<...>` represents a PEM.
    pub bad: &'static str,
    /// The same part, fixed.
    pub good: &'static str,
}

/// What is around the offending key or value in an example.
pub const MARKS: [char; 2] = ['«', '»'];

macro_rules! rules {
    ($($name:ident = $id:literal $severity:ident $judge:ident $about:literal, $why:literal, bad $bad:literal, good $good:literal;)*) => {
        $(pub static $name: Rule = Rule {
            id: $id,
            severity: Severity::$severity,
            judge: Judge::$judge,
            about: $about,
            why: $why,
            bad: $bad,
            good: $good,
        };)*

        /// All rules, in the order of their judges.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    YAML_SYNTAX = "yaml-syntax" Error Schema
        "the text can be read as YAML or JSON",
        "The API server and kubectl read YAML 1.1: tabs never indent, a `%YAML 1.2` line is refused, and a plain `.inf` is a number that JSON doesn't have.",
        bad "spec:\n  planeID: «.inf»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    DUPLICATE_KEY = "duplicate-key" Error Schema
        "no key is duplicated in a mapping",
        "The API server refuses such a manifest when it validates strictly; otherwise, and with kubectl, the last one wins silently. A merge (`<<`) brings keys, too.",
        bad "spec:\n  planeID: shared-builder\n  «planeID»: shared-builder-2\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder-2\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    NOT_AN_OBJECT = "not-an-object" Error Schema
        "every document is a mapping",
        "A list or a text is no object that an API server could store. Objects of a list stand in the items of a List.",
        bad "«just a text»\n",
        good "kind: List\napiVersion: v1\nitems: []\n";
    UNKNOWN_FIELD = "unknown-field" Error Schema
        "every field is one that the resource has",
        "Strict validation refuses it. Without it the API server drops the field silently, and what was meant doesn't happen. A field of another release is named with the release. --fix renames secretRef to secretKeyRef and back, as the release has it, and a field that differs in its letters' case only.",
        bad "spec:\n  «planeId»: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    WRONG_TYPE = "wrong-type" Error Schema
        "every value has its field's type",
        "In YAML 1.1 y, n, yes, no, on and off are booleans, and 0123, 1e3 and 1_000 are numbers: quotes make them texts. v0.14 has observabilityPlaneRef as a text, later releases as an object.",
        bad "spec:\n  planeID: «on»\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: \"on\"\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    REQUIRED_FIELD = "required-field" Error Schema
        "no required field is left out",
        "A null counts as left out. The place is that of the mapping's key in which it is missing.",
        bad "spec:\n  planeID: shared-builder\n  «clusterAgent»: {}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    PLANE_ID_FORMAT = "plane-id-format" Error Schema
        "planeID is at most 63 lower-case letters, digits and hyphens",
        "It must begin and end with a letter or a digit, and be the very text that the agent has as clusterAgent.planeID in its Helm values.",
        bad "spec:\n  planeID: «Shared_Builder»\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    PATTERN_MISMATCH = "pattern-mismatch" Error Schema
        "a text matches its field's pattern",
        "The pattern is that of the CRD, in the syntax of Go's regexp.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: «Production»}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    FORMAT = "format" Error Schema
        "a text has its field's format",
        "Such as date-time, duration or ipv4, where the CRD asks for one. The reference's asks for none in what a manifest may set.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  deadline: «soon»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  deadline: 1h\n";
    LENGTH = "length" Error Schema
        "a text is neither too short nor too long",
        "Counted in characters, not in bytes.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: «''»}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    COUNT = "count" Error Schema
        "a list or a mapping has neither too few entries nor too many",
        "Where the CRD bounds them (minItems, maxItems, minProperties, maxProperties). The reference's does not.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «builders»: [a, b, c, d]\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  builders: [a, b]\n";
    NOT_IN_ENUM = "not-in-enum" Error Schema
        "a value is one of those that its field allows",
        "A cluster-scoped plane can only refer to a ClusterObservabilityPlane, a namespaced one to an ObservabilityPlane of its namespace, too.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: «ObservabilityPlane», name: production}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    OUT_OF_RANGE = "out-of-range" Error Schema
        "a number is neither too small nor too large",
        "Where the CRD bounds it, or asks for a multiple, or for 32 bits.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  parallel: «99»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  parallel: 4\n";
    NOT_UNIQUE = "not-unique" Error Schema
        "nothing is duplicated in a list that is a set or a map",
        "Where the CRD has x-kubernetes-list-type set or map.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  builders: [a, «a»]\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  builders: [a, b]\n";
    ALTERNATIVE = "alternative" Error Schema
        "a value has one of the forms that its field allows",
        "Where the CRD has anyOf, oneOf or not. The reason why the nearest form does not match is reported with it.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «cache»: {}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  cache: {path: /cache}\n";
    CEL_RULE = "cel-rule" Error Schema
        "the resource's validation rules hold",
        "Rules in CEL (x-kubernetes-validations) that the CRD brings; the message is the rule's own.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «limits»: {least: 5, most: 1}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  limits: {least: 1, most: 5}\n";
    CEL_UNKNOWN = "cel-unknown" Warning Schema
        "the resource's validation rules can be evaluated here",
        "A rule uses something of CEL that this program can't evaluate, such as type(x) == int. That is no verdict: the API server gives one, with --server.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «window»: {length: 1h}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    NAME_FORMAT = "name-format" Error Schema
        "names are DNS subdomains",
        "At most 253 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends of each part (RFC 1123). Finalizers are [prefix/]name.",
        bad "metadata:\n  name: «Shared_Builder»\n",
        good "metadata:\n  name: shared-builder\n";
    LABEL_FORMAT = "label-format" Error Schema
        "labels have the syntax of labels",
        "Keys are [prefix/]name, the name and the value at most 63 letters, digits, hyphens, underscores and dots, with a letter or digit at both ends.",
        bad "metadata:\n  name: shared-builder\n  labels: {team: «build & run»}\n",
        good "metadata:\n  name: shared-builder\n  labels: {team: build-and-run}\n";
    ANNOTATION_FORMAT = "annotation-format" Error Schema
        "annotations have the syntax of annotations",
        "Keys as those of labels; all together at most 256 KiB.",
        bad "metadata:\n  name: shared-builder\n  annotations: {«for whom»: team}\n",
        good "metadata:\n  name: shared-builder\n  annotations: {for-whom: team}\n";
    OWNER_REFERENCE = "owner-reference" Error Schema
        "owner references are whole",
        "Each needs apiVersion, kind, name and uid, and one of them at most may be the controller.",
        bad "metadata:\n  name: shared-builder\n  ownerReferences:\n  - «apiVersion»: v1\n    kind: ConfigMap\n    name: a\n    uid: ''\n",
        good "metadata:\n  name: shared-builder\n  ownerReferences:\n  - apiVersion: v1\n    kind: ConfigMap\n    name: a\n    uid: 0a1b\n";
    SERVER_REJECTED = "server-rejected" Error Schema
        "the API server takes it",
        "What a server-side dry run (--server) found, in the server's words, brought to its line.",
        bad "metadata:\n  name: shared-builder\n",
        good "metadata:\n  name: shared-builder\n";
    KIND_OF_OTHER_RELEASE = "kind-of-other-release" Error Schema
        "the release has the kind",
        "v1.0 renamed BuildPlane and ClusterBuildPlane to WorkflowPlane and ClusterWorkflowPlane. No release has both, and each kind is judged by a release that has it, unless --release names another one. --fix renames it.",
        bad "kind: «ClusterBuildPlane»\napiVersion: openchoreo.dev/v1alpha1\nmetadata:\n  name: shared-builder\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "kind: ClusterWorkflowPlane\napiVersion: openchoreo.dev/v1alpha1\nmetadata:\n  name: shared-builder\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    PLANE_ID_MISSING = "plane-id-missing" Warning Schema
        "planeID is given, as the releases' CRDs require it",
        "In the reference of ClusterBuildPlane it defaults to the plane's name; the CRDs of v0.14 to v0.17 require it. create and apply fill it in, kubectl does not, and --fix writes it.",
        bad "«spec»:\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    OBSERVABILITY_KIND_MISSING = "observability-kind-missing" Warning Schema
        "observabilityPlaneRef.kind is given, as the releases' CRDs require it",
        "In the reference of ClusterBuildPlane it defaults to ClusterObservabilityPlane; the CRDs of v0.15 to v0.17 require it. --fix writes it.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «observabilityPlaneRef»: {name: production}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    CA_SOURCE_MISSING = "ca-source-missing" Error Gateway
        "clientCA has a value or refers to a Secret",
        "With neither the gateway skips the plane, and every agent is refused with `no ... CRs found`.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    «clientCA»: {}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA: {value: <a CA>}\n";
    CA_SOURCE_BOTH = "ca-source-both" Error Gateway
        "clientCA has one source only",
        "With both the value wins silently and the Secret is never read: a new CA in the Secret changes nothing.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n      «secretRef»: {namespace: openchoreo-system, name: ca, key: ca.crt}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-system, name: ca, key: ca.crt}\n";
    CA_SECRET_NAMESPACE = "ca-secret-namespace" Error Gateway
        "the reference to a Secret has a namespace, where the plane has none",
        "A cluster-scoped plane has no namespace of its own. The CRDs accept secretRef (secretKeyRef from v1.0 on) without one, and the gateway's look-up then fails. In a namespaced plane it defaults to the plane's namespace.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      «secretRef»: {name: ca, key: ca.crt}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-system, name: ca, key: ca.crt}\n";
    CA_SECRET_NAME = "ca-secret-name" Error Gateway
        "the reference to a Secret names one that can exist",
        "The CRDs take any text for its name, namespace and key; the gateway's look-up of one that no Secret can have fails.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-system, name: «The_CA», key: ca.crt}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-system, name: ca, key: ca.crt}\n";
    CA_PRIVATE_KEY = "ca-private-key" Error Gateway
        "clientCA.value holds no private key",
        "Everyone who may read the plane can read it, and with a CA's key make certificates for any agent. A key that was in a manifest is no longer secret: create a new CA.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a private key>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_NOT_RAW_PEM = "ca-not-raw-pem" Error Gateway
        "clientCA.value is raw PEM",
        "The reference speaks of base64-encoded PEM, but the gateway of every release reads raw PEM only, and takes base64 for no certificate at all. --fix decodes it.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA in base64>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_NO_CERTIFICATE = "ca-no-certificate" Error Gateway
        "clientCA.value holds a certificate",
        "The gateway looks for CERTIFICATE blocks in PEM without headers, and skips a plane that has none.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «to be done»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_UNPARSABLE = "ca-unparsable" Error Gateway
        "the certificates in clientCA.value can be parsed",
        "Go's parser, which is the gateway's, skips what it can't parse: a broken paste, or a negative serial number.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a broken certificate>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_EXPIRED = "ca-expired" Error Gateway
        "the CA has not expired",
        "Every certificate of a chain must be within its validity, the root too: with an expired CA every agent is refused at its next connection.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<an expired CA>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_NOT_YET_VALID = "ca-not-yet-valid" Error Gateway
        "the CA is valid already",
        "Until its notBefore every agent is refused. A clock that is wrong where the CA was made does this.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA of next year>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_CANNOT_VERIFY = "ca-cannot-verify" Error Gateway
        "the CA can verify a client certificate",
        "Its extended key usage must allow client authentication, or be absent: it counts through the whole chain. A critical extension that Go doesn't know rules it out, too.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a server's certificate>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_PINNED_LEAF = "ca-pinned-leaf" Warning Practice
        "the CA is a CA, not the agent's own certificate",
        "It works until the agent's certificate is renewed: cert-manager does so 15 days before its end, and at the agent's next restart the new one is refused. A CA of its own outlives renewals.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<an agent's certificate>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_EXPIRES_SOON = "ca-expires-soon" Warning Practice
        "the CA lasts for a month and more",
        "Put the next CA beside it in time: a bundle of the old one and the new one authorizes agents of either.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA that expires soon>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_PARTLY_USELESS = "ca-partly-useless" Warning Practice
        "every certificate of the bundle is usable",
        "One that has expired, isn't valid yet, can't be parsed or can't verify client certificates does nothing beside the others; left there it hides what counts.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA><an expired CA>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_DOUBLED = "ca-doubled" Warning Practice
        "no certificate is duplicated in the bundle",
        "It changes nothing today. After a rotation that removes one of them the other goes on trusting the old CA. `choreoctl certs bundle` leaves duplicates out.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA><a CA>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_SHARED = "ca-shared" Warning Practice
        "each planeID has a CA of its own",
        "Nothing in a certificate says for which plane it is, so an agent of one plane can pass as the agent of another that trusts the same CA.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: other\n  clusterAgent: {«clientCA»: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: other\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: other-ca, key: ca.crt}}}\n";
    PLANE_ID_SHARED = "plane-id-shared" Warning Practice
        "planes that share a planeID share a CA",
        "An agent is authorized for each plane by itself. With different CAs it is authorized for some of them only. Planes are compared within a planeType, in all namespaces: the same planeID under two types is independent.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: «shared-builder»\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: other-ca, key: ca.crt}}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n";
    PLANE_TWICE = "plane-twice" Warning Practice
        "each plane is described once",
        "Of two manifests of one kind, namespace and name the one that is applied last wins. apply refuses both.",
        bad "metadata:\n  name: shared-builder\n---\nmetadata:\n  name: «shared-builder»\n",
        good "metadata:\n  name: shared-builder\n";
    ANNOTATION_NEAR_MISS = "annotation-near-miss" Warning Practice
        "annotations that look like OpenChoreo's are",
        "OpenChoreo reads openchoreo.dev/display-name and openchoreo.dev/description of a plane, and nothing that is nearly so.",
        bad "metadata:\n  name: shared-builder\n  annotations: {«openchoreo.dev/displayname»: Shared}\n",
        good "metadata:\n  name: shared-builder\n  annotations: {openchoreo.dev/display-name: Shared}\n";
    FOREIGN_FINALIZER = "foreign-finalizer" Warning Practice
        "a finalizer of OpenChoreo is that of the plane's kind",
        "A controller removes the finalizer of its own kind only, so that the deletion of this plane would never end. `kubectl get -o yaml` of a plane of v0.x brings it along; `choreoctl migrate` leaves it out.",
        bad "metadata:\n  name: shared-builder\n  finalizers: [«openchoreo.dev/clusterdataplane-cleanup»]\n",
        good "metadata:\n  name: shared-builder\n  finalizers: [openchoreo.dev/clusterbuildplane-cleanup]\n";
    NAMESPACE_IGNORED = "namespace-ignored" Warning Practice
        "a cluster-scoped resource has no namespace",
        "The API server accepts it and ignores it; it may have been meant for the namespaced kind.",
        bad "metadata:\n  name: shared-builder\n  «namespace»: default\n",
        good "metadata:\n  name: shared-builder\n";
    KIND_NEAR_MISS = "kind-near-miss" Warning Practice
        "what looks like a plane is one",
        "Objects of other kinds are skipped, so a slip in kind or apiVersion would pass for a good file. So would a plane whose kind has no CRD among those that --crd gives.",
        bad "apiVersion: openchoreo.dev/v1alpha1\nkind: «ClusterBuildplane»\nmetadata:\n  name: shared-builder\n",
        good "metadata:\n  name: shared-builder\n";
    NO_PLANE = "no-plane" Warning Practice
        "there is a plane to judge",
        "Where no file holds a plane, something else was probably meant.",
        bad "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shared-builder\n",
        good "metadata:\n  name: shared-builder\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Entry, Node, Value, parse};
    use crate::plane::Release;
    use crate::validate::neighbours::Neighbours;
    use crate::validate::tests::{fork, judged, manifest_of, now, pems, reference, unmarked};
    use crate::validate::validator::Validator;
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    /// Rules that the end of a run says (`tests/cmd/validate.trycmd`), or a server's answer (`server.rs`).
    const ELSEWHERE: [&str; 2] = ["no-plane", "server-rejected"];
    /// Rules that the reference's CRD gives no reason for.
    const BY_A_FORK: [&str; 6] = ["format", "count", "out-of-range", "not-unique", "alternative", "cel-rule"];

    fn validator_of(rule: &Rule) -> Validator {
        match rule.id {
            "cel-unknown" => fork(),
            "kind-of-other-release" => Validator::of_release(Release::V1, now()),
            id if BY_A_FORK.contains(&id) => fork(),
            _ => reference(),
        }
    }

    #[test]
    fn every_rule_has_an_example_that_breaks_it_and_one_that_does_not() {
        let pems = pems();
        let mut ids = BTreeSet::new();
        for rule in RULES {
            assert!(ids.insert(rule.id), "{} is duplicated", rule.id);
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
                let reported: Vec<_> = judgement.findings.iter().map(|f| (f.rule.id, f.span.clone())).collect();
                assert_eq!(reported, [(rule.id, place.clone())], "{style:?}: {text}");
                let line = text[..place.start].matches('\n').count() + 1;
                let column = text[..place.start].rsplit('\n').next().unwrap().chars().count() + 1;
                assert_eq!(manifest.position(place.start), (line, column), "{} {style:?}", rule.id);
            }
        }
    }
}
