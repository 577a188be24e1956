//! What a diagnosis knows of the control plane as a whole.

use std::collections::BTreeSet;

use super::case::Case;
use super::facts::Problem;
use crate::cluster::{Cluster, Error, Target};
use crate::plane::{CLUSTER_BUILD_PLANE, Served, Side, Snapshot};

/// What is true for all planes.
pub struct Ground {
    /// The API server's version.
    pub api_server: Result<String, Problem>,
    pub crd: Result<Served, Problem>,
    /// What may not be read, in the servers' words.
    pub forbidden: BTreeSet<String>,
    /// What to do about the one of these that isn't known.
    pub hint: Option<String>,
    /// Where it was looked, for hints.
    pub control: Target,
}

/// What was gathered of planes, and what they stand on.
pub struct Gathered {
    pub ground: Ground,
    pub cases: Vec<Case>,
}

impl Ground {
    pub(super) async fn of(control: &Cluster) -> Self {
        let (version, crd) = tokio::join!(control.version(), control.served());
        Self {
            hint: version.as_ref().err().or(crd.as_ref().err()).and_then(Error::hint),
            api_server: version.map_err(|error| Problem::from(&error)),
            crd: crd.map_err(|error| Problem::from(&error)),
            forbidden: BTreeSet::new(),
            control: control.target().clone(),
        }
    }

    /// Of a control plane that doesn't tell of planes.
    pub(super) async fn without(control: &Cluster, error: &Error) -> Self {
        match error {
            Error::NoSuchKind { .. } | Error::Forbidden { .. } => Self::of(control).await,
            // It would only be waited for once more.
            error => Self {
                api_server: Err(Problem::from(error)),
                crd: Err(Problem::from(error)),
                forbidden: BTreeSet::new(),
                hint: error.hint(),
                control: control.target().clone(),
            },
        }
    }

    pub(super) fn of_files(snapshot: &Snapshot) -> Self {
        let unknown = || Problem { word: "unknown", text: "it is not in the files".into() };
        let name = CLUSTER_BUILD_PLANE.crd_name();
        let crd = snapshot.related(Side::Control, "CustomResourceDefinition", None, &name);
        Self {
            api_server: Err(Problem { word: "files", text: "read from files".into() }),
            crd: crd.and_then(|crd| Served::of(crd, CLUSTER_BUILD_PLANE.version)).ok_or_else(unknown),
            forbidden: BTreeSet::new(),
            hint: None,
            control: Target::default(),
        }
    }
}

impl Gathered {
    /// Takes down what may not be read.
    pub(super) fn new(mut ground: Ground, cases: Vec<Case>) -> Self {
        let problems = cases.iter().flat_map(problems).chain(ground.crd.as_ref().err());
        let forbidden = problems.filter(|problem| problem.word == "forbidden").map(|problem| problem.text.clone());
        ground.forbidden = forbidden.collect();
        Self { ground, cases }
    }
}

/// All that could not be had for a plane.
fn problems(case: &Case) -> Vec<&Problem> {
    let facts = &case.facts;
    let build = case.build.as_ref();
    let known = build.and_then(|build| build.as_ref().ok());
    let all = [
        case.plane.as_ref().err(),
        facts.client_ca.text.as_ref().err(),
        facts.shares_plane_id_with.as_ref().err(),
        facts.observability_exists.as_ref().err(),
        case.build_planes.as_ref().err(),
        case.gateway_ca.as_ref().err(),
        case.lease.as_ref().err(),
        case.gateway_pods.as_ref().err(),
        build.and_then(|build| build.as_ref().err()),
        known.and_then(|build| build.agent.pair.as_ref().err()),
        known.and_then(|build| build.agent.pods.as_ref().err()),
        known.and_then(|build| build.server_ca.as_ref().err()),
        known.and_then(|build| build.log.as_ref().err()),
    ];
    all.into_iter().flatten().collect()
}
