//! Where OpenChoreo's releases differ from the API reference, as data that warnings quote.

use serde_json::Value;

use super::kind::{Field, Kind};
use super::release::Release;

/// One difference between the reference and released software.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field that it is about, as `spec.planeID`; empty for the kind itself.
    pub path: &'static str,
    pub reference: &'static str,
    /// The releases, as `v0.14 to v0.17`.
    pub releases: &'static str,
    /// What those releases do instead.
    pub instead: &'static str,
}

pub static PLANE_ID_REQUIRED: Difference = Difference {
    path: "spec.planeID",
    reference: "optional, defaults to the name",
    releases: "v0.15 to v0.17",
    instead: "the CRD requires it",
};

/// All of them, by field.
pub static DIFFERENCES: &[&Difference] = &[
    &Difference {
        path: "",
        reference: "ClusterBuildPlane",
        releases: "v1.0 and later",
        instead: "the kind is called ClusterWorkflowPlane",
    },
    &Difference {
        path: "",
        reference: "an agent connects through it",
        releases: "v0.14",
        instead: "the gateway reads namespaced BuildPlanes only, so no agent can connect through a ClusterBuildPlane",
    },
    &PLANE_ID_REQUIRED,
    &Difference {
        path: "spec.clusterAgent.clientCA.secretRef",
        reference: "secretRef",
        releases: "v1.0 and later",
        instead: "it is called secretKeyRef",
    },
    &Difference {
        path: "spec.clusterAgent.clientCA.secretRef.namespace",
        reference: "required for a cluster-scoped resource",
        releases: "v0.15 to v0.17",
        instead: "the CRD accepts it without a namespace, but then the gateway can't find the Secret",
    },
    &Difference {
        path: "spec.clusterAgent.clientCA",
        reference: "one of value and secretRef",
        releases: "v0.14 to v0.17",
        instead: "if neither is set, the gateway skips the plane; if both are set, it uses the value without a message",
    },
    &Difference {
        path: "spec.clusterAgent.clientCA.value",
        reference: "base64-encoded PEM",
        releases: "v0.15 to v0.17",
        instead: "the gateway reads raw PEM only and finds no certificate in base64 text",
    },
    &Difference {
        path: "spec.observabilityPlaneRef",
        reference: "an object of kind and name",
        releases: "v0.14",
        instead: "it is a plain string",
    },
    &Difference {
        path: "spec.observabilityPlaneRef.kind",
        reference: "optional, defaults to ClusterObservabilityPlane",
        releases: "v0.15 to v0.17",
        instead: "the CRD requires it",
    },
];

/// A field that only some releases have.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub path: &'static str,
    /// The kinds that have it: all, or those with this field.
    of: Option<Field>,
    /// What happened to it, as `v1.0 removed it`.
    pub what: &'static str,
    /// Its name in the other releases.
    pub other_name: Option<&'static str>,
}

static CHANGES: &[Change] = &[
    Change {
        path: "spec.clusterAgent.clientCA.secretRef",
        of: None,
        what: "v1.0 renamed it to secretKeyRef",
        other_name: Some("secretKeyRef"),
    },
    Change {
        path: "spec.clusterAgent.clientCA.secretKeyRef",
        of: None,
        what: "up to v0.17 it is called secretRef",
        other_name: Some("secretRef"),
    },
    Change { path: "spec.imagePullSecretRefs", of: Some(Field::Gateway), what: "v1.0 removed it", other_name: None },
    Change { path: "spec.finOpsAgentURL", of: Some(Field::Observer), what: "v1.1 introduced it", other_name: None },
    Change {
        path: "spec.gateway.publicVirtualHost",
        of: Some(Field::Gateway),
        what: "v0.17 replaced it by ingress and egress",
        other_name: None,
    },
    Change {
        path: "spec.gateway.organizationVirtualHost",
        of: Some(Field::Gateway),
        what: "v0.17 replaced it by ingress and egress",
        other_name: None,
    },
];

impl Change {
    /// Returns what happened to a field of a kind.
    pub fn of(kind: &Kind, path: &str) -> Option<&'static Self> {
        CHANGES.iter().find(|change| change.path == path && change.of.is_none_or(|field| kind.has(field)))
    }
}

/// What a CRD that is served says of the fields that releases differ in. Helm never upgrades a CRD, so the release that
/// runs may be another one than the CRD's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// spec.observabilityPlaneRef is a plain name, as in v0.14, whose gateway reads no ClusterBuildPlane.
    pub observability_by_name: bool,
    /// spec.planeID must be there.
    pub plane_id_required: bool,
    /// What the reference to a Secret is called.
    pub release: Release,
}

impl Served {
    /// Of a CRD; none where it serves no such version.
    pub fn of(crd: &Value, version: &str) -> Option<Self> {
        let versions = crd.pointer("/spec/versions")?.as_array()?;
        let served = versions.iter().find(|one| one["name"] == version && one["served"] == true)?;
        let spec = served.pointer("/schema/openAPIV3Schema/properties/spec")?;
        let required = spec["required"].as_array().into_iter().flatten().any(|field| field == "planeID");
        let by_name = spec.pointer("/properties/observabilityPlaneRef/type").is_some_and(|kind| kind == "string");
        let client_ca = spec.pointer("/properties/clusterAgent/properties/clientCA/properties");
        let is_v1 = client_ca.is_some_and(|fields| fields[Release::V1.secret_field()].is_object());
        let release = if is_v1 { Release::V1 } else { Release::V0 };
        Some(Self { observability_by_name: by_name, plane_id_required: required, release })
    }
}

impl Difference {
    /// The differences of one field.
    pub fn of(path: &str) -> impl Iterator<Item = &'static Self> {
        DIFFERENCES.iter().copied().filter(move |difference| difference.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::{DEFAULT_KIND, KINDS, Kind, Scope};

    #[test]
    fn each_field_in_the_table_is_one_of_the_reference() {
        let crd: Value = serde_yaml::from_str(&DEFAULT_KIND.crd(Release::V0).unwrap()).unwrap();
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        for difference in DIFFERENCES {
            let mut node = schema;
            for field in difference.path.split('.').filter(|field| !field.is_empty()) {
                node = &node["properties"][field];
                assert!(node.is_object(), "{}", difference.path);
            }
        }
        assert_eq!(Difference::of("spec.planeID").count(), 1);
    }

    #[test]
    fn a_changed_field_is_one_of_its_kinds_only() {
        let kind = |word| Kind::of_word(word).unwrap();
        assert_eq!(Change::of(kind("dp"), "spec.imagePullSecretRefs").unwrap().what, "v1.0 removed it");
        assert_eq!(Change::of(kind("cwp"), "spec.imagePullSecretRefs"), None);
        for change in CHANGES {
            let Some(name) = change.other_name else { continue };
            let (above, own) = change.path.rsplit_once('.').unwrap();
            let other = Change::of(kind("cbp"), &format!("{above}.{name}")).unwrap();
            assert_eq!(other.other_name, Some(own), "{change:?}");
        }
    }

    #[test]
    fn a_crd_says_what_it_serves() {
        let crd = |kind: &Kind, release| -> Value { serde_yaml::from_str(&kind.crd(release).unwrap()).unwrap() };
        for kind in KINDS {
            for release in kind.family.releases {
                // The API reference demands no planeID of the default kind.
                let plane_id_required = kind.scope == Scope::Cluster && kind != DEFAULT_KIND;
                let served = Served { observability_by_name: false, plane_id_required, release: *release };
                assert_eq!(Served::of(&crd(kind, *release), "v1alpha1"), Some(served), "{} {release}", kind.kind);
            }
        }
        let mut crd = crd(DEFAULT_KIND, Release::V0);
        assert_eq!(Served::of(&crd, "v1"), None);
        let spec = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
        spec["properties"]["observabilityPlaneRef"] = serde_json::json!({"type": "string"});
        spec["required"] = serde_json::json!(["planeID"]);
        let old = Served { observability_by_name: true, plane_id_required: true, release: Release::V0 };
        assert_eq!(Served::of(&crd, "v1alpha1"), Some(old));
    }
}
