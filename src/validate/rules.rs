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
        "the file is valid YAML or JSON",
        "The API server and kubectl read YAML 1.1: tabs can't indent, a `%YAML 1.2` directive is an error, and an unquoted `.inf` is a number that JSON does not support.",
        bad "spec:\n  planeID: «.inf»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    DUPLICATE_KEY = "duplicate-key" Error Schema
        "a mapping has no duplicate keys",
        "With strict field validation the API server rejects duplicate keys; otherwise, and with kubectl, the last key wins without a message. A merge key (`<<`) can also add a duplicate.",
        bad "spec:\n  planeID: shared-builder\n  «planeID»: shared-builder-2\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder-2\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    NOT_AN_OBJECT = "not-an-object" Error Schema
        "every document is a Kubernetes object",
        "A sequence or a string is not an object that the API server can store. Put several objects into the items of a List, or into several documents.",
        bad "«just a text»\n",
        good "kind: List\napiVersion: v1\nitems: []\n";
    UNKNOWN_FIELD = "unknown-field" Error Schema
        "every field exists in the resource's schema",
        "Strict validation rejects an unknown field. Otherwise the API server drops it without a message, and the setting has no effect. If another release has the field, the message names the release. --fix renames secretRef to secretKeyRef or the reverse, as the release requires (if both releases have the kind, only with --release), and corrects a field that differs only in upper and lower case.",
        bad "spec:\n  «planeId»: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    WRONG_TYPE = "wrong-type" Error Schema
        "every value has the type of its field",
        "In YAML 1.1 y, n, yes, no, on and off are booleans, and 0123, 1e3 and 1_000 are numbers: write them in quotes to get strings. observabilityPlaneRef is an object (a string only in v0.14, which is not supported).",
        bad "spec:\n  planeID: «on»\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: \"on\"\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    REQUIRED_FIELD = "required-field" Error Schema
        "every required field is set",
        "A field that is null counts as missing. The position in the report is that of the mapping in which the field is missing.",
        bad "spec:\n  planeID: shared-builder\n  «clusterAgent»: {}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    PLANE_ID_FORMAT = "plane-id-format" Error Schema
        "planeID is at most 63 lower-case letters, digits and hyphens",
        "The planeID must begin and end with a letter or a digit, and be equal to clusterAgent.planeID in the agent's Helm values.",
        bad "spec:\n  planeID: «Shared_Builder»\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    PATTERN_MISMATCH = "pattern-mismatch" Error Schema
        "a string matches the pattern of its field",
        "The pattern is in the CRD, in the syntax of Go's regexp package.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: «Production»}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    FORMAT = "format" Error Schema
        "a string has the format of its field",
        "The CRD can require a format, such as date-time, duration or ipv4. OpenChoreo's CRDs require none: the example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  deadline: «soon»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  deadline: 1h\n";
    LENGTH = "length" Error Schema
        "a string is neither too short nor too long",
        "The CRD sets minLength and maxLength, which count characters, not bytes.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: «''»}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    COUNT = "count" Error Schema
        "a list or mapping has an allowed number of entries",
        "The CRD can limit the number of entries (minItems, maxItems, minProperties, maxProperties). OpenChoreo's CRDs do not: the example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «builders»: [a, b, c, d]\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  builders: [a, b]\n";
    NOT_IN_ENUM = "not-in-enum" Error Schema
        "a value is one of the values that its field allows",
        "For example, a cluster-scoped plane can refer only to a ClusterObservabilityPlane; a namespaced plane can also refer to an ObservabilityPlane in its namespace.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: «ObservabilityPlane», name: production}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    OUT_OF_RANGE = "out-of-range" Error Schema
        "a number is in the range that its field allows",
        "The CRD can set minimum, maximum, multipleOf, or the format int32. The example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  parallel: «99»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  parallel: 4\n";
    NOT_UNIQUE = "not-unique" Error Schema
        "a list of type set or map has no duplicate entries",
        "The CRD declares such a list with x-kubernetes-list-type: set or map. The example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  builders: [a, «a»]\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  builders: [a, b]\n";
    ALTERNATIVE = "alternative" Error Schema
        "a value has one of the forms that its field allows",
        "The CRD declares the forms with anyOf, oneOf or not. The message has the reason why the most similar form does not match. The example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «cache»: {}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  cache: {path: /cache}\n";
    CEL_RULE = "cel-rule" Error Schema
        "the resource meets the CRD's CEL validation rules",
        "The CRD contains CEL rules (x-kubernetes-validations); the reported message is the one in the rule. The example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «limits»: {least: 5, most: 1}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  limits: {least: 1, most: 5}\n";
    CEL_UNKNOWN = "cel-unknown" Warning Schema
        "the CRD has only CEL validation rules that choreoctl can evaluate",
        "A rule uses a part of CEL that choreoctl can't evaluate, such as type(x) == int. The manifest may be valid or not: use --server to let the API server evaluate the rule. The example has a field of another CRD (--crd).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «window»: {length: 1h}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    NAME_FORMAT = "name-format" Error Schema
        "names are DNS subdomains",
        "A name has at most 253 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends of each part (RFC 1123). Finalizers are checked, too: they have the form [prefix/]name.",
        bad "metadata:\n  name: «Shared_Builder»\n",
        good "metadata:\n  name: shared-builder\n";
    LABEL_FORMAT = "label-format" Error Schema
        "labels have valid keys and values",
        "A key is [prefix/]name. The name and the value have at most 63 letters, digits, hyphens, underscores and dots, with a letter or digit at both ends.",
        bad "metadata:\n  name: shared-builder\n  labels: {team: «build & run»}\n",
        good "metadata:\n  name: shared-builder\n  labels: {team: build-and-run}\n";
    ANNOTATION_FORMAT = "annotation-format" Error Schema
        "annotations have valid keys and an allowed size",
        "Keys have the same syntax as keys of labels. All annotations of an object together have at most 256 KiB.",
        bad "metadata:\n  name: shared-builder\n  annotations: {«for whom»: team}\n",
        good "metadata:\n  name: shared-builder\n  annotations: {for-whom: team}\n";
    OWNER_REFERENCE = "owner-reference" Error Schema
        "owner references have all required fields",
        "Each owner reference needs apiVersion, kind, name and uid. At most one owner can be the controller.",
        bad "metadata:\n  name: shared-builder\n  ownerReferences:\n  - «apiVersion»: v1\n    kind: ConfigMap\n    name: a\n    uid: ''\n",
        good "metadata:\n  name: shared-builder\n  ownerReferences:\n  - apiVersion: v1\n    kind: ConfigMap\n    name: a\n    uid: 0a1b\n";
    SERVER_REJECTED = "server-rejected" Error Schema
        "the API server accepts the manifest in a dry run",
        "With --server, a server-side dry run validates the manifest. The message is the API server's, with the line in the manifest.",
        bad "apiVersion: openchoreo.dev/v1alpha1\nkind: BuildPlane\nmetadata:\n  name: shared-builder\n  namespace: «no-such-namespace»\n",
        good "apiVersion: openchoreo.dev/v1alpha1\nkind: BuildPlane\nmetadata:\n  name: shared-builder\n  namespace: team\n";
    KIND_OF_OTHER_RELEASE = "kind-of-other-release" Error Schema
        "the kind exists in the release",
        "v1.0 renamed BuildPlane and ClusterBuildPlane to WorkflowPlane and ClusterWorkflowPlane. No release has both. Without --release each kind is validated against a release that has it. --fix renames the kind. The example is invalid with --release v1.2.",
        bad "kind: «ClusterBuildPlane»\napiVersion: openchoreo.dev/v1alpha1\nmetadata:\n  name: shared-builder\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "kind: ClusterWorkflowPlane\napiVersion: openchoreo.dev/v1alpha1\nmetadata:\n  name: shared-builder\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    PLANE_ID_MISSING = "plane-id-missing" Warning Schema
        "planeID of a ClusterBuildPlane is set: its CRDs require it",
        "OpenChoreo's API reference says that planeID defaults to the plane's name, but the CRDs require it. `create` and `apply` add it to a ClusterBuildPlane, kubectl does not; --fix writes it into the file. In other cluster-scoped planes, and with --release, a missing planeID is an error (required-field).",
        bad "«spec»:\n  clusterAgent: {clientCA: {value: <a CA>}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    OBSERVABILITY_KIND_MISSING = "observability-kind-missing" Warning Schema
        "observabilityPlaneRef.kind of a ClusterBuildPlane is set: its CRDs require it",
        "OpenChoreo's API reference says that observabilityPlaneRef.kind defaults to ClusterObservabilityPlane, but the CRDs require it. --fix writes it into the file. In other planes, and with --release, a missing kind is an error (required-field).",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  «observabilityPlaneRef»: {name: production}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n  observabilityPlaneRef: {kind: ClusterObservabilityPlane, name: production}\n";
    CA_SOURCE_MISSING = "ca-source-missing" Error Gateway
        "clientCA has a value or refers to a Secret",
        "If neither is set, the gateway skips the plane and refuses every agent with `no ... CRs found`.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    «clientCA»: {}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA: {value: <a CA>}\n";
    CA_SOURCE_BOTH = "ca-source-both" Error Gateway
        "clientCA has either a value or a Secret, not both",
        "If both are set, the gateway uses the value and never reads the Secret: a new CA in the Secret has no effect.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n      «secretRef»: {namespace: openchoreo-control-plane, name: ca, key: ca.crt}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-control-plane, name: ca, key: ca.crt}\n";
    CA_SECRET_NAMESPACE = "ca-secret-namespace" Error Gateway
        "the Secret reference of a cluster-scoped plane has a namespace",
        "A cluster-scoped plane has no namespace of its own. The CRDs accept secretRef (secretKeyRef from v1.0 on) without a namespace, but then the gateway can't find the Secret. In a namespaced plane the namespace defaults to the plane's.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      «secretRef»: {name: ca, key: ca.crt}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-control-plane, name: ca, key: ca.crt}\n";
    CA_SECRET_NAME = "ca-secret-name" Error Gateway
        "the Secret reference has a valid name, namespace and key",
        "The CRDs accept any string as name, namespace and key, but the gateway can't find a Secret with a name that Kubernetes does not allow.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-control-plane, name: «The_CA», key: ca.crt}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      secretRef: {namespace: openchoreo-control-plane, name: ca, key: ca.crt}\n";
    CA_PRIVATE_KEY = "ca-private-key" Error Gateway
        "clientCA.value holds no private key",
        "Every user who can read the plane can read the key, and with a CA's key can issue certificates for any agent. A key that was in a manifest is no longer secret: create a new CA.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a private key>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_NOT_RAW_PEM = "ca-not-raw-pem" Error Gateway
        "clientCA.value is raw PEM",
        "OpenChoreo's API reference says base64-encoded PEM, but the gateway of every release reads only raw PEM, and finds no certificate in base64. --fix decodes the value.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA in base64>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_NO_CERTIFICATE = "ca-no-certificate" Error Gateway
        "clientCA.value holds a certificate",
        "The gateway looks for PEM blocks of type CERTIFICATE without header fields such as Proc-Type, and skips a plane that has none.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «to be done»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_UNPARSABLE = "ca-unparsable" Error Gateway
        "the certificates in clientCA.value can be parsed",
        "The gateway uses Go's parser, which skips certificates that it can't parse, such as one that was copied incompletely or has a negative serial number.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a broken certificate>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_EXPIRED = "ca-expired" Error Gateway
        "the CA has not expired",
        "All certificates of a chain must be valid now, also the root: if the CA has expired, the gateway refuses every agent at its next connection.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<an expired CA>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_NOT_YET_VALID = "ca-not-yet-valid" Error Gateway
        "the CA's validity has begun",
        "The gateway refuses every agent until the CA's notBefore. A wrong clock on the machine that created the CA is the usual cause.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA of next year>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_CANNOT_VERIFY = "ca-cannot-verify" Error Gateway
        "the CA can verify a client certificate",
        "The CA's extended key usage must include client authentication or be absent, because it limits the whole chain. The CA also must not have a critical extension that Go does not support.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a server's certificate>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_PINNED_LEAF = "ca-pinned-leaf" Warning Practice
        "clientCA holds a CA, not the agent's own certificate",
        "A pinned certificate works until cert-manager renews the agent's certificate, 15 days before it expires. At the agent's next restart the gateway refuses the new certificate. A separate CA stays valid after renewals.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<an agent's certificate>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_EXPIRES_SOON = "ca-expires-soon" Warning Practice
        "the CA is valid for at least another 30 days",
        "Add the next CA before the old one expires: a bundle of both CAs authorizes agents with a certificate of either CA.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA that expires soon>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_PARTLY_USELESS = "ca-partly-useless" Warning Practice
        "every certificate of the bundle is usable",
        "A certificate that has expired, is not yet valid, can't be parsed or can't verify client certificates has no effect, and makes it hard to see which certificates are used: remove it.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA><an expired CA>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_DOUBLED = "ca-doubled" Warning Practice
        "the bundle has no duplicate certificates",
        "A duplicate has no effect now. If a rotation removes only one of the copies, the plane still trusts the old CA. `choreoctl certs bundle` removes duplicates.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: «<a CA><a CA>»\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent:\n    clientCA:\n      value: <a CA>\n";
    CA_SHARED = "ca-shared" Warning Practice
        "each planeID has its own CA",
        "The gateway does not compare the certificate's common name with the planeID, so an agent of one plane can connect as the agent of another plane that trusts the same CA.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: other\n  clusterAgent: {«clientCA»: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: other\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: other-ca, key: ca.crt}}}\n";
    PLANE_ID_SHARED = "plane-id-shared" Warning Practice
        "all planes with the same planeID authorize the same agents",
        "The gateway authorizes an agent separately for each plane with its planeID: with different CAs it is authorized for only some of them. Planes of the same plane type are compared in all namespaces; planes of different plane types are independent.",
        bad "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: «shared-builder»\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: other-ca, key: ca.crt}}}\n",
        good "spec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n---\nmetadata:\n  name: other\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: ca.crt}}}\n";
    PLANE_TWICE = "plane-twice" Warning Practice
        "each plane has only one manifest",
        "If two manifests have the same kind, namespace and name, the last one wins with kubectl. `choreoctl apply` rejects both.",
        bad "metadata:\n  name: shared-builder\n---\nmetadata:\n  name: «shared-builder»\n",
        good "metadata:\n  name: shared-builder\n";
    ANNOTATION_NEAR_MISS = "annotation-near-miss" Warning Practice
        "annotations of OpenChoreo are spelled correctly",
        "OpenChoreo reads only the annotations openchoreo.dev/display-name and openchoreo.dev/description of a plane, and ignores similar spellings.",
        bad "metadata:\n  name: shared-builder\n  annotations: {«openchoreo.dev/displayname»: Shared}\n",
        good "metadata:\n  name: shared-builder\n  annotations: {openchoreo.dev/display-name: Shared}\n";
    FOREIGN_FINALIZER = "foreign-finalizer" Warning Practice
        "the plane has no finalizer of another kind of plane",
        "A controller removes only the finalizer of its own kind, so the deletion of this plane would hang. If you export a build plane of v0.x and rename its kind for v1.0, the old kind's finalizer stays; `choreoctl migrate` removes it.",
        bad "metadata:\n  name: shared-builder\n  finalizers: [«openchoreo.dev/clusterdataplane-cleanup»]\n",
        good "metadata:\n  name: shared-builder\n  finalizers: [openchoreo.dev/clusterbuildplane-cleanup]\n";
    NAMESPACE_IGNORED = "namespace-ignored" Warning Practice
        "a cluster-scoped resource has no namespace",
        "The API server accepts and ignores the namespace. Perhaps the namespaced kind was intended.",
        bad "metadata:\n  name: shared-builder\n  «namespace»: default\n",
        good "metadata:\n  name: shared-builder\n";
    KIND_NEAR_MISS = "kind-near-miss" Warning Practice
        "kind and apiVersion of planes are spelled correctly",
        "`validate` skips objects of other kinds, so a typo in kind or apiVersion would hide an invalid plane. With --crd, this rule also warns about a plane whose kind is in none of the CRDs.",
        bad "apiVersion: openchoreo.dev/v1alpha1\nkind: «ClusterBuildplane»\nmetadata:\n  name: shared-builder\n",
        good "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata:\n  name: shared-builder\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
    NO_PLANE = "no-plane" Warning Practice
        "the files contain a plane",
        "If no file contains a plane, the path is probably wrong.",
        bad "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shared-builder\n",
        good "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata:\n  name: shared-builder\nspec:\n  planeID: shared-builder\n  clusterAgent: {clientCA: {value: <a CA>}}\n";
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
