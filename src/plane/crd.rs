//! The CRDs of all kinds, as YAML: the structure that a release's API server enforces, and nothing more.
//!
//! The kinds differ in few fields, so their CRDs are put together from parts. That of ClusterBuildPlane is a file of its
//! own: it follows the API reference, which demands less than any release.

use std::fmt::Write as _;

use super::kind::{Field, Kind, Scope};
use super::release::Release;

/// The ClusterBuildPlane of the API reference.
const REFERENCE: &str = include_str!("crd.yaml");
/// What all planes have in their status.
const STATUS: &str = include_str!("crds/status.yaml");
/// Where a gateway listens.
const LISTENER: &str = include_str!("crds/listener.yaml");
/// The syntax of planeIDs and of the names of observability planes.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

impl Kind {
    /// Returns its CRD in a release, as YAML; none where the release has no such kind.
    pub fn crd(&self, release: Release) -> Option<String> {
        let exists = self.family.releases.contains(&release);
        exists.then(|| if self.kind == "ClusterBuildPlane" { REFERENCE.to_owned() } else { composed(self, release) })
    }
}

fn composed(kind: &Kind, release: Release) -> String {
    let (name, plural, lower) = (kind.kind, kind.plural, kind.kind.to_lowercase());
    let (scope, planes) = match kind.scope {
        Scope::Cluster => ("Cluster", "agents of the planeID"),
        Scope::Namespaced => ("Namespaced", "agents that this plane authorizes"),
    };
    let short = if kind.aliases.is_empty() {
        String::new()
    } else {
        format!("\n    shortNames: [{}]", kind.aliases.join(", "))
    };
    let mut text = format!(
        "# The {name} of OpenChoreo {release}, as a CustomResourceDefinition: its structure and nothing more.
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {plural}.{group}
spec:
  group: {group}
  names:
    kind: {name}
    listKind: {name}List
    plural: {plural}
    singular: {lower}{short}
  scope: {scope}
  versions:
    - name: {version}
      served: true
      storage: true
      subresources:
        status: {{}}
      schema:
        openAPIV3Schema:
          description: {purpose}, and the agent in it that connects to the control plane's cluster gateway.
          type: object
          properties:
            apiVersion:
              type: string
            kind:
              type: string
            metadata:
              type: object
            spec:
",
        group = kind.group,
        version = kind.version,
        purpose = kind.family.purpose,
    );
    push(&mut text, 14, &spec(kind, release));
    let list = match kind.scope {
        Scope::Cluster => "  x-kubernetes-list-type: map\n  x-kubernetes-list-map-keys: [type]\n",
        Scope::Namespaced => "",
    };
    push(&mut text, 12, "status:\n  type: object\n  properties:");
    push(&mut text, 16, &STATUS.replace("{list}\n", list).replace("{planes}", planes));
    text
}

/// Returns the schema of a kind's spec.
fn spec(kind: &Kind, release: Release) -> String {
    let fields = kind.family.fields;
    let mut required = vec!["clusterAgent"];
    if kind.scope == Scope::Cluster {
        required.push("planeID");
    }
    if fields.contains(&Field::Observer) {
        required.push("observerURL");
    }
    let mut spec = format!("type: object\nrequired: [{}]\nproperties:\n", required.join(", "));
    let default = if kind.scope == Scope::Namespaced { " Defaults to the resource's name." } else { "" };
    let own = if kind.scope == Scope::Namespaced { " Defaults to the resource's namespace." } else { "" };
    let field = release.secret_field();
    push(
        &mut spec,
        2,
        &format!(
            "planeID:
  description: The logical plane that the agent belongs to. Several resources may share one.{default}
  type: string
  maxLength: 63
  pattern: {LABEL}
clusterAgent:
  description: How the agent is authenticated.
  type: object
  required: [clientCA]
  properties:
    clientCA:
      description: The CA certificates that the agent's client certificate is verified against, from one of two sources.
      type: object
      properties:
        {field}:
          description: A key of a Secret in the control plane's cluster.
          type: object
          required: [name, key]
          properties:
            name:
              type: string
            namespace:
              description: The Secret's namespace.{own}
              type: string
            key:
              type: string
        value:
          description: The certificates themselves, in PEM.
          type: string
"
        ),
    );
    for field in fields {
        push(&mut spec, 2, &own_field(kind, *field, release));
    }
    spec
}

/// Returns the schemas of what only some families have.
fn own_field(kind: &Kind, field: Field, release: Release) -> String {
    match field {
        Field::SecretStore => "secretStoreRef:
  description: The ClusterSecretStore of External Secrets Operator in the plane's cluster.
  type: object
  required: [name]
  properties:
    name:
      type: string
"
        .into(),
        Field::ObservabilityPlane => observability(kind),
        Field::Gateway => {
            let mut text = gateway();
            if release == Release::V0 {
                text += "imagePullSecretRefs:\n  description: Secrets for pulling images.\n  type: array\n  items:\n    type: string\n";
            }
            text
        }
        Field::Observer => {
            let agents = if release == Release::V0 { &["rcaAgentURL"][..] } else { &["rcaAgentURL", "finOpsAgentURL"] };
            let mut text = "observerURL:\n  description: URL of the Observer's API.\n  type: string\n".to_owned();
            agents.iter().for_each(|field| push(&mut text, 0, &format!("{field}:\n  type: string\n")));
            text
        }
    }
}

/// Returns the gateways of a data plane: of each direction and side one.
fn gateway() -> String {
    let mut text = "gateway:
  description: The gateways through which the data plane's workloads are reached, and reach others.
  type: object
  properties:
"
    .to_owned();
    for direction in ["ingress", "egress"] {
        push(&mut text, 4, &format!("{direction}:\n  type: object\n  properties:"));
        for side in ["external", "internal"] {
            push(&mut text, 8, &format!("{side}:\n  type: object\n  required: [name, namespace]\n  properties:"));
            push(&mut text, 12, "name:\n  type: string\nnamespace:\n  type: string");
            for protocol in ["http", "https", "tls"] {
                push(&mut text, 12, &format!("{protocol}:"));
                push(&mut text, 14, LISTENER);
            }
        }
    }
    text
}

fn observability(kind: &Kind) -> String {
    let kinds = kind.observability_kinds();
    let mut text = format!(
        "observabilityPlaneRef:
  description: The observability plane that takes the plane's logs; one named default when left out.
  type: object
  required: [kind, name]
  properties:
    kind:
      type: string
      enum: [{}]
    name:
      type: string
      minLength: 1
      maxLength: 63
      pattern: {LABEL}
",
        kinds.join(", ")
    );
    if let [only] = kinds {
        let rule = format!(
            "  x-kubernetes-validations:\n    - rule: \"!has(self.kind) || self.kind == '{only}'\"\n      message: a {} can only refer to a {only}\n",
            kind.kind
        );
        text += &rule;
    }
    text
}

/// Appends lines, each behind so many blanks.
fn push(text: &mut String, indent: usize, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plane::KINDS;

    #[test]
    fn each_kind_has_a_crd_in_its_releases() {
        for kind in KINDS {
            for release in Release::ALL {
                let text = kind.crd(release);
                assert_eq!(text.is_some(), kind.family.releases.contains(&release), "{} {release}", kind.kind);
                let Some(text) = text else { continue };
                let crd: Value = serde_yaml::from_str(&text).unwrap();
                assert_eq!(crd["metadata"]["name"], kind.crd_name().as_str());
                assert_eq!(crd["spec"]["names"]["kind"], kind.kind);
                let scope = if kind.scope == Scope::Cluster { "Cluster" } else { "Namespaced" };
                assert_eq!(crd["spec"]["scope"], scope);
                let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
                let ca = &spec["properties"]["clusterAgent"]["properties"]["clientCA"]["properties"];
                assert!(ca[release.secret_field()].is_object() && ca["value"].is_object(), "{text}");
                assert_eq!(spec["properties"]["gateway"].is_object(), kind.family.fields.contains(&Field::Gateway));
            }
        }
    }
}
