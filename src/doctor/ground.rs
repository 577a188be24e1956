//! What a diagnosis knows of the control plane as a whole.

use std::collections::BTreeSet;

use super::case::Case;
use crate::cluster::{Cluster, Error, Right, Target};
use crate::estate::{CaPlace, Cause, Unavailable};
use crate::plane::{CLUSTER_BUILD_PLANE, Served, Side, Snapshot};

/// What is true for all planes.
pub struct Ground {
    /// The API server's version.
    pub api_server: Result<String, Unavailable>,
    pub crd: Result<Served, Unavailable>,
    /// What may not be read, in the servers' words.
    pub forbidden: BTreeSet<String>,
    /// The rights that are needed in each of the clusters; none where nothing is missing.
    pub control_rights: BTreeSet<Right>,
    pub build_rights: BTreeSet<Right>,
    /// What to do about the one of these that isn't known.
    pub hint: Option<String>,
    /// Where it was looked, for hints.
    pub control: Target,
    pub build: Option<Target>,
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
            api_server: version.map_err(|error| Unavailable::from(&error)),
            crd: crd.map_err(|error| Unavailable::from(&error)),
            control: control.target().clone(),
            ..Self::unknown()
        }
    }

    /// Of a control plane that doesn't tell of planes.
    pub(super) async fn without(control: &Cluster, error: &Error) -> Self {
        match error {
            Error::NoSuchKind { .. } | Error::Forbidden { .. } => Self::of(control).await,
            // It would only be waited for once more.
            error => Self {
                api_server: Err(Unavailable::from(error)),
                crd: Err(Unavailable::from(error)),
                hint: error.hint(),
                control: control.target().clone(),
                ..Self::unknown()
            },
        }
    }

    pub(super) fn of_files(snapshot: &Snapshot) -> Self {
        let name = CLUSTER_BUILD_PLANE.crd_name();
        let crd = snapshot.related(Side::Control, "CustomResourceDefinition", None, &name);
        Self {
            api_server: Err(Unavailable::not_in_files("read from files")),
            crd: match crd.and_then(|crd| Served::of(crd, CLUSTER_BUILD_PLANE.version)) {
                Some(served) => Ok(served),
                None => Self::unknown().crd,
            },
            ..Self::unknown()
        }
    }

    /// Of which nothing is known.
    fn unknown() -> Self {
        let unknown = || Unavailable::not_in_files("it is not in the files");
        Self {
            api_server: Err(unknown()),
            crd: Err(unknown()),
            forbidden: BTreeSet::new(),
            control_rights: BTreeSet::new(),
            build_rights: BTreeSet::new(),
            hint: None,
            control: Target::default(),
            build: None,
        }
    }
}

impl Gathered {
    /// Records what may not be read, and all rights that are needed in a cluster where one is missing.
    pub(super) fn new(mut ground: Ground, cases: Vec<Case>) -> Self {
        let crd = Right::new("get", "apiextensions.k8s.io", "customresourcedefinitions", None);
        let crd = (Side::Control, vec![crd], ground.crd.as_ref().err());
        let all: Vec<_> = cases.iter().flat_map(asked).chain([crd]).collect();
        let forbidden = all.iter().filter_map(|(side, _, problem)| Some((side, (*problem)?)));
        let forbidden: Vec<_> = forbidden.filter(|(_, problem)| problem.cause == Cause::Forbidden).collect();
        let rights = |side: Side| -> BTreeSet<Right> {
            if forbidden.iter().all(|(of, _)| **of != side) {
                return BTreeSet::new();
            }
            all.iter().filter(|(of, ..)| *of == side).flat_map(|(_, rights, _)| rights.clone()).collect()
        };
        let texts = forbidden.iter().map(|(_, problem)| problem.message.clone()).collect();
        (ground.forbidden, ground.control_rights, ground.build_rights) =
            (texts, rights(Side::Control), rights(Side::Build));
        ground.build = cases.first().and_then(|case| case.build_target.clone());
        Self { ground, cases }
    }
}

/// All that is asked for a plane: in which cluster, with which rights, and why it could not be had.
fn asked(case: &Case) -> Vec<(Side, Vec<Right>, Option<&Unavailable>)> {
    let facts = &case.facts;
    let (control, agents) = (Some(case.control_namespace.as_str()), Some(case.build_namespace.as_str()));
    let ca = match CaPlace::of(&facts.plane) {
        CaPlace::Secret(ca) => vec![Right::new("get", "", "secrets", Some(&ca.secret.namespace))],
        _ => Vec::new(),
    };
    let (build, known) = (case.build.as_ref(), case.build.as_ref().and_then(|build| build.as_ref().ok()));
    let group = CLUSTER_BUILD_PLANE.group;
    let planes = |verb| Right::new(verb, group, CLUSTER_BUILD_PLANE.plural, None);
    let of_control = [
        (vec![planes("get"), planes("list")], case.plane.as_ref().err()),
        (ca, facts.client_ca.text().err()),
        (vec![planes("list")], facts.shares_plane_id_with.as_ref().err()),
        (vec![Right::new("get", group, "clusterobservabilityplanes", None)], facts.observability_exists.as_ref().err()),
        (vec![Right::new("list", group, "buildplanes", None)], case.build_planes.as_ref().err()),
        (vec![Right::new("get", "", "secrets", control)], case.gateway_ca.as_ref().err()),
        (vec![Right::new("get", "coordination.k8s.io", "leases", control)], case.lease.as_ref().err()),
        (
            vec![Right::new("get", "", "services", control), Right::new("list", "", "pods", control)],
            case.gateway_pods.as_ref().err(),
        ),
    ];
    let issuance = ["certificates", "certificaterequests"]
        .map(|resource| Right::new("list", "cert-manager.io", resource, agents))
        .to_vec();
    let of_build = [
        (vec![Right::new("list", "apps", "deployments", agents)], build.and_then(|build| build.as_ref().err())),
        (vec![Right::new("list", "apps", "deployments", None)], case.elsewhere.as_ref().err()),
        (
            vec![Right::new("get", "", "secrets", agents)],
            known
                .and_then(|build| build.agent.pair.as_ref().err())
                .or(case.staged.as_ref().and_then(|staged| staged.as_ref().err())),
        ),
        (vec![Right::new("list", "", "pods", agents)], known.and_then(|build| build.agent.pods.as_ref().err())),
        (issuance, known.and_then(|build| build.agent.issuance.as_ref().err())),
        (vec![Right::new("get", "", "configmaps", agents)], known.and_then(|build| build.server_ca.as_ref().err())),
        (vec![Right::new("get", "", "pods/log", agents)], known.and_then(|build| build.log.as_ref().err())),
    ];
    let of_control = of_control.into_iter().map(|(rights, problem)| (Side::Control, rights, problem));
    of_control.chain(of_build.into_iter().map(|(rights, problem)| (Side::Build, rights, problem))).collect()
}
