//! The kinds of planes, as a table: a kind is a family in a scope. A further kind is one row and its CRD.
//!
//! Not here: what a served CRD says, in which releases differ (releases).

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::release::Release;

/// The group and version of all kinds.
const GROUP: &str = "openchoreo.dev";
const VERSION: &str = "v1alpha1";

/// What the kinds of both scopes have in common: the agent, its chart, and its type on the gateway's wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// What the agent's URL calls it (`planeType`).
    pub plane_type: &'static str,
    /// The agent's chart.
    pub chart: &'static str,
    /// The default name of the Helm release and of the agent's namespace.
    pub helm_release: &'static str,
    /// What the plane's cluster does, as the beginning of a sentence.
    pub purpose: &'static str,
    /// The releases that have these kinds.
    pub releases: &'static [Release],
    /// What the spec has beside planeID and clusterAgent.
    pub fields: &'static [Field],
    /// What took its place in a later release.
    pub successor: Option<&'static Self>,
}

/// What the specs of only some families have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `secretStoreRef`
    SecretStore,
    /// `observabilityPlaneRef`
    ObservabilityPlane,
    /// `gateway`
    Gateway,
    /// `observerURL`, which is required
    Observer,
}

/// Whether planes of a kind have a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// A kind of plane.
#[derive(Debug)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    /// Its short names: words that name it, as do its plural and the kind itself.
    pub aliases: &'static [&'static str],
    pub family: &'static Family,
    pub scope: Scope,
    /// The finalizer by which the controller holds a deletion until the gateway has let the agents go.
    pub finalizer: &'static str,
}

macro_rules! family {
    ($stem:literal, $purpose:literal, $releases:expr, $fields:expr, $successor:expr) => {
        Family {
            plane_type: concat!($stem, "plane"),
            chart: concat!("oci://ghcr.io/openchoreo/helm-charts/openchoreo-", $stem, "-plane"),
            helm_release: concat!("openchoreo-", $stem, "-plane"),
            purpose: $purpose,
            releases: $releases,
            fields: $fields,
            successor: $successor,
        }
    };
}

macro_rules! kind {
    ($kind:literal, $lower:literal, $aliases:expr, $family:ident, $scope:ident) => {
        Kind {
            group: GROUP,
            version: VERSION,
            kind: $kind,
            plural: concat!($lower, "s"),
            aliases: $aliases,
            family: &$family,
            scope: Scope::$scope,
            finalizer: concat!("openchoreo.dev/", $lower, "-cleanup"),
        }
    };
}

const BUILDS: &[Field] = &[Field::SecretStore, Field::ObservabilityPlane];
static BUILD: Family = family!("build", "A cluster that runs builds", &[Release::V0], BUILDS, Some(&WORKFLOW));
static WORKFLOW: Family = family!("workflow", "A cluster that runs workflows", &[Release::V1], BUILDS, None);
static DATA: Family = family!(
    "data",
    "A cluster that runs workloads",
    &Release::ALL,
    &[Field::Gateway, Field::SecretStore, Field::ObservabilityPlane],
    None
);
static OBSERVABILITY: Family =
    family!("observability", "A cluster that keeps logs, metrics and traces", &Release::ALL, &[Field::Observer], None);

/// All kinds.
pub static KINDS: &[Kind] = &[
    kind!("ClusterBuildPlane", "clusterbuildplane", &["cbp", "cbps"], BUILD, Cluster),
    kind!("BuildPlane", "buildplane", &[], BUILD, Namespaced),
    kind!("ClusterWorkflowPlane", "clusterworkflowplane", &["cwp", "cwps"], WORKFLOW, Cluster),
    kind!("WorkflowPlane", "workflowplane", &[], WORKFLOW, Namespaced),
    kind!("ClusterDataPlane", "clusterdataplane", &["cdp", "cdps"], DATA, Cluster),
    kind!("DataPlane", "dataplane", &["dp", "dps"], DATA, Namespaced),
    kind!("ClusterObservabilityPlane", "clusterobservabilityplane", &["cop", "cops"], OBSERVABILITY, Cluster),
    kind!("ObservabilityPlane", "observabilityplane", &[], OBSERVABILITY, Namespaced),
];

/// The kind that is meant where neither a word nor a server says otherwise.
pub static DEFAULT_KIND: &Kind = &KINDS[0];

impl Family {
    /// Returns what its planes are called, as `build plane`.
    pub fn noun(&self) -> String {
        format!("{} plane", self.plane_type.trim_end_matches("plane"))
    }

    /// Returns how the chart calls the agent's Deployment by default.
    pub fn agent(&self) -> String {
        format!("cluster-agent-{}", self.plane_type)
    }

    /// Whether every release has its kinds: one that another release lacks has another name there.
    pub fn is_of_all_releases(&self) -> bool {
        self.releases.len() == Release::ALL.len()
    }

    /// Whether its chart brings Argo Workflows along.
    pub fn has_argo(&self) -> bool {
        matches!(self.plane_type, "buildplane" | "workflowplane")
    }

    /// Whether it is this family, or what that is called in another release.
    pub fn is_kin(&self, other: &Self) -> bool {
        self == other || self.successor == Some(other) || other.successor == Some(self)
    }

    /// Returns its kinds, of both scopes.
    pub fn kinds(&'static self) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(move |kind| kind.family == self)
    }
}

impl Kind {
    /// Returns the kind that a word names: the kind itself, its plural or an alias, in any case, with the group or without.
    pub fn of_word(word: &str) -> Option<&'static Self> {
        let word = word.to_ascii_lowercase();
        let word = word.strip_suffix(&format!(".{GROUP}")).unwrap_or(&word);
        KINDS
            .iter()
            .find(|kind| kind.plural == word || kind.kind.eq_ignore_ascii_case(word) || kind.aliases.contains(&word))
    }

    /// Returns the kind of an object that says this of itself.
    pub fn of_object(api_version: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|known| known.kind == kind && known.api_version() == api_version)
    }

    /// Returns the kind of the same family in the other scope.
    pub fn other_scope(&self) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.family == self.family && kind.scope != self.scope)
    }

    /// Returns what the kind is called in a later release, where it has another name there.
    pub fn successor(&self) -> Option<&'static Self> {
        KINDS.iter().find(|kind| Some(kind.family) == self.family.successor && kind.scope == self.scope)
    }

    /// Returns the kind of the other release that is the same thing by another name: its planes are the counterparts of planes
    /// of this kind.
    pub fn counterpart(&self) -> Option<&'static Self> {
        Release::ALL.into_iter().filter_map(|release| self.in_release(release)).find(|other| *other != self)
    }

    /// Returns what the kind is called in another release, where it has another name there.
    pub fn in_release(&self, release: Release) -> Option<&'static Self> {
        let stem = |family: &'static Family| family.successor.unwrap_or(family);
        let alike = |kind: &&Kind| stem(kind.family) == stem(self.family) && kind.scope == self.scope;
        KINDS.iter().filter(alike).find(|kind| kind.family.releases.contains(&release))
    }

    /// Returns the release whose schema a plane is judged by where nothing says otherwise: the latest.
    pub fn release(&self) -> Release {
        if self.family.releases.contains(&Release::V1) { Release::V1 } else { Release::V0 }
    }

    /// Returns the kinds of observability planes that a plane of this kind can refer to.
    pub fn observability_kinds(&self) -> &'static [&'static str] {
        match self.scope {
            Scope::Cluster => &["ClusterObservabilityPlane"],
            Scope::Namespaced => &["ObservabilityPlane", "ClusterObservabilityPlane"],
        }
    }

    /// Whether its spec has a field.
    pub fn has(&self, field: Field) -> bool {
        self.family.fields.contains(&field)
    }

    /// Whether a finalizer is that of planes of another kind, which no controller removes from one of this kind.
    pub fn is_foreign_finalizer(&self, finalizer: &str) -> bool {
        self.finalizer != finalizer && KINDS.iter().any(|kind| kind.finalizer == finalizer)
    }

    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// Returns how `kubectl get -o name` writes the type: `clusterbuildplane.openchoreo.dev`.
    pub fn type_name(&self) -> String {
        format!("{}.{}", self.kind.to_lowercase(), self.group)
    }

    /// Returns the shortest word that names it.
    pub fn word(&self) -> String {
        self.aliases.first().map_or_else(|| self.kind.to_lowercase(), |word| (*word).to_owned())
    }

    /// Returns the name of its CRD.
    pub fn crd_name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// Returns the path of its CRD on the API server.
    pub fn crd_path(&self) -> String {
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", self.crd_name())
    }

    /// Returns the collection's path on the API server: in a namespace, or in all of them.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let namespace = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
        format!("/apis/{}/{}/{namespace}{}", self.group, self.version, self.plural)
    }
}

impl Default for &'static Kind {
    fn default() -> Self {
        DEFAULT_KIND
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.plural == other.plural
    }
}

impl Eq for Kind {}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plural.hash(state);
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.plural.cmp(other.plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_names_one_kind() {
        let words = |kind: &'static Kind| {
            let own = [kind.kind.to_lowercase(), kind.plural.to_owned(), kind.type_name()];
            own.into_iter().chain(kind.aliases.iter().map(|alias| (*alias).to_owned()))
        };
        let mut all = BTreeSet::new();
        for kind in KINDS {
            for word in words(kind) {
                assert_eq!(Kind::of_word(&word.to_uppercase()), Some(kind), "{word}");
                assert!(all.insert(word.clone()), "{word} names two kinds");
            }
            assert_eq!(Kind::of_object("openchoreo.dev/v1alpha1", kind.kind), Some(kind));
            let other = kind.other_scope().unwrap();
            assert_eq!((other.family, other.other_scope()), (kind.family, Some(kind)));
        }
        assert_eq!(Kind::of_word("pods"), None);
        assert_eq!(Kind::of_object("openchoreo.dev/v1", "ClusterBuildPlane"), None);
        assert_eq!(DEFAULT_KIND.kind, "ClusterBuildPlane");
        let later = Kind::of_word("cbp").and_then(Kind::successor).unwrap();
        assert_eq!((later.kind, later.successor()), ("ClusterWorkflowPlane", None));
        assert_eq!(later.in_release(Release::V0).unwrap().kind, "ClusterBuildPlane");
        assert_eq!(later.in_release(Release::V1), Some(later));
        let counterpart = |word: &str| Kind::of_word(word).unwrap().counterpart().map(|kind| kind.kind);
        let counterparts = ["cbp", "cwp", "buildplane", "dp"].map(counterpart);
        assert_eq!(
            counterparts,
            [Some("ClusterWorkflowPlane"), Some("ClusterBuildPlane"), Some("WorkflowPlane"), None]
        );
        let data = Kind::of_word("dp").unwrap();
        assert_eq!((data.in_release(Release::V0), data.release()), (Some(data), Release::V1));
    }

    #[test]
    fn families_know_their_agents_their_kin_and_their_fields() {
        let of = |word: &str| Kind::of_word(word).unwrap();
        let families = ["cbp", "cwp", "cdp", "cop"].map(|word| of(word).family);
        let names = families.map(|family| (family.noun(), family.agent(), family.has_argo()));
        let expected = [("build", true), ("workflow", true), ("data", false), ("observability", false)];
        let expected =
            expected.map(|(stem, argo)| (format!("{stem} plane"), format!("cluster-agent-{stem}plane"), argo));
        assert_eq!(names, expected);
        for (at, family) in families.into_iter().enumerate() {
            let kinds: Vec<_> = family.kinds().map(|kind| kind.scope).collect();
            assert_eq!(kinds, [Scope::Cluster, Scope::Namespaced]);
            let kin: Vec<_> = families.into_iter().map(|other| family.is_kin(other)).collect();
            let expected = [
                [true, true, false, false],
                [true, true, false, false],
                [false, false, true, false],
                [false, false, false, true],
            ];
            assert_eq!(kin, expected[at], "{}", family.plane_type);
        }
        let fields = [Field::SecretStore, Field::ObservabilityPlane, Field::Gateway, Field::Observer];
        let has = |word: &str| fields.map(|field| of(word).has(field));
        assert_eq!(has("buildplane"), [true, true, false, false]);
        assert_eq!(has("cwp"), [true, true, false, false]);
        assert_eq!(has("dp"), [true, true, true, false]);
        assert_eq!(has("cop"), [false, false, false, true]);
        assert_eq!(of("cdp").observability_kinds(), ["ClusterObservabilityPlane"]);
        assert_eq!(of("dp").observability_kinds(), ["ObservabilityPlane", "ClusterObservabilityPlane"]);
        assert_eq!(["cbp", "buildplane", "DPS"].map(|word| of(word).word()), ["cbp", "buildplane", "dp"]);
        assert_eq!(of("buildplane").crd_name(), "buildplanes.openchoreo.dev");
    }

    #[test]
    fn a_family_and_a_scope_give_all_names() {
        let kind = Kind::of_word("dp").unwrap();
        assert_eq!(
            (kind.kind, kind.plural, kind.finalizer),
            ("DataPlane", "dataplanes", "openchoreo.dev/dataplane-cleanup")
        );
        assert_eq!((kind.family.plane_type, kind.family.helm_release), ("dataplane", "openchoreo-data-plane"));
        assert_eq!(kind.path(Some("a")), "/apis/openchoreo.dev/v1alpha1/namespaces/a/dataplanes");
        let cluster = kind.other_scope().unwrap();
        assert_eq!(cluster.path(None), "/apis/openchoreo.dev/v1alpha1/clusterdataplanes");
    }
}
