//! The rules as data.

use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// Whose verdict a rule foretells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The API server, with the reference's CRD or a release's.
    Schema,
    /// The cluster gateway: accepted by the API server, yet no agent can connect.
    Gateway,
    /// Nobody today; it hurts later.
    Practice,
}

/// One thing that can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, for scripts.
    pub id: &'static str,
    pub severity: Severity,
    pub judge: Judge,
    pub about: &'static str,
}

macro_rules! rules {
    ($($name:ident = $id:literal $severity:ident $judge:ident $about:literal;)*) => {
        $(pub static $name: Rule = Rule { id: $id, severity: Severity::$severity, judge: Judge::$judge, about: $about };)*

        /// All rules, in the order of their judges.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    YAML_SYNTAX = "yaml-syntax" Error Schema "the text can be read as YAML or JSON";
    DUPLICATE_KEY = "duplicate-key" Error Schema "no key stands twice in one mapping";
    NOT_AN_OBJECT = "not-an-object" Error Schema "every document is a mapping";
    UNKNOWN_FIELD = "unknown-field" Error Schema "every field is one that the resource has";
    WRONG_TYPE = "wrong-type" Error Schema "every value has its field's type";
    REQUIRED_FIELD = "required-field" Error Schema "no required field is left out";
    PLANE_ID_FORMAT = "plane-id-format" Error Schema "planeID is at most 63 lower-case letters, digits and hyphens";
    PATTERN_MISMATCH = "pattern-mismatch" Error Schema "a text matches its field's pattern";
    LENGTH = "length" Error Schema "a text is neither too short nor too long";
    NOT_IN_ENUM = "not-in-enum" Error Schema "a value is one of those that its field allows";
    OUT_OF_RANGE = "out-of-range" Error Schema "a number is neither too small nor too large";
    CEL_RULE = "cel-rule" Error Schema "the resource's validation rules hold";
    CEL_UNKNOWN = "cel-unknown" Warning Schema "the resource's validation rules can be evaluated here";
    NAME_FORMAT = "name-format" Error Schema "the name is a DNS subdomain";
    LABEL_FORMAT = "label-format" Error Schema "labels have the syntax of labels";
    ANNOTATION_FORMAT = "annotation-format" Error Schema "annotations have the syntax of annotations";
    PLANE_ID_MISSING = "plane-id-missing" Warning Schema "planeID is given, as the releases' CRDs require it";
    OBSERVABILITY_KIND_MISSING = "observability-kind-missing" Warning Schema "observabilityPlaneRef.kind is given, as the releases' CRDs require it";
    CA_SOURCE_MISSING = "ca-source-missing" Error Gateway "clientCA has a value or a secretRef";
    CA_SOURCE_BOTH = "ca-source-both" Error Gateway "clientCA has one source only";
    CA_SECRET_NAMESPACE = "ca-secret-namespace" Error Gateway "clientCA.secretRef has a namespace";
    CA_PRIVATE_KEY = "ca-private-key" Error Gateway "clientCA.value holds no private key";
    CA_NOT_RAW_PEM = "ca-not-raw-pem" Error Gateway "clientCA.value is raw PEM";
    CA_NO_CERTIFICATE = "ca-no-certificate" Error Gateway "clientCA.value holds a certificate";
    CA_UNPARSABLE = "ca-unparsable" Error Gateway "the certificates in clientCA.value can be parsed";
    NAMESPACE_IGNORED = "namespace-ignored" Warning Practice "a cluster-scoped resource has no namespace";
    KIND_NEAR_MISS = "kind-near-miss" Warning Practice "what looks like a ClusterBuildPlane is one";
    NO_PLANE = "no-plane" Warning Practice "there is a ClusterBuildPlane to look at";
}
