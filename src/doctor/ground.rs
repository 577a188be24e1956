//! What a diagnosis knows of the control plane as a whole, which rights it needs, and what it was refused.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::case::Case;
use crate::cluster::{Right, Target};
use crate::estate::{CaPlace, Cause, Source, Unavailable};
use crate::plane::{Kind, Served, Side};

/// A verb, a group and a resource, and the namespace where they are needed.
type Needed<'c> = (&'static str, &'static str, &'static str, Option<&'c str>);

/// Takes something that was asked for: in which cluster, why it could not be had, and with which rights it could be.
type Take<'t, 'c> = dyn FnMut(Side, Option<&'c Unavailable>, &[Needed<'_>]) + 't;

/// What is true for all planes.
pub struct Ground {
    /// The API server's version.
    pub api_server: Result<String, Unavailable>,
    /// What the CRDs of the planes' kinds say.
    pub crds: Vec<(&'static Kind, Result<Served, Unavailable>)>,
    /// What may not be read, in the servers' words.
    pub forbidden: BTreeSet<String>,
    /// The rights that are needed in each of the clusters; none where nothing is missing.
    pub control_rights: BTreeSet<Right>,
    pub build_rights: BTreeSet<Right>,
    /// Where it was looked, for hints.
    pub control: Target,
    pub build: Option<Target>,
}

impl Ground {
    pub async fn of(control: &impl Source, kinds: &[&'static Kind]) -> Self {
        let served = join_all(kinds.iter().map(async |kind| (*kind, control.served(kind).await)));
        let (api_server, crds) = tokio::join!(control.version(), served);
        Self::new(api_server, crds, control)
    }

    /// Of a control plane that doesn't report planes.
    pub async fn without(control: &impl Source, kinds: &[&'static Kind], why: &Unavailable) -> Self {
        match why.cause {
            Cause::Missing | Cause::Forbidden => Self::of(control, kinds).await,
            // It would only be waited for once more.
            _ => {
                let crds = kinds.iter().map(|kind| (*kind, Err(why.clone())));
                Self::new(Err(why.clone()), crds.collect(), control)
            }
        }
    }

    fn new(
        api_server: Result<String, Unavailable>,
        crds: Vec<(&'static Kind, Result<Served, Unavailable>)>,
        control: &impl Source,
    ) -> Self {
        Self {
            api_server,
            crds,
            forbidden: BTreeSet::new(),
            control_rights: BTreeSet::new(),
            build_rights: BTreeSet::new(),
            control: control.target().cloned().unwrap_or_default(),
            build: None,
        }
    }

    /// What to do about the one of these that isn't known.
    pub fn hint(&self) -> Option<String> {
        let why = self.api_server.as_ref().err().or(self.no_crd());
        why.and_then(|why| why.hint.clone())
    }

    /// Why what a CRD says is not known.
    pub fn no_crd(&self) -> Option<&Unavailable> {
        self.crds.iter().find_map(|(_, served)| served.as_ref().err())
    }

    /// Takes down what may not be read, and all rights that are needed in a cluster where one is missing.
    pub fn require(&mut self, cases: &[Case]) {
        let mut refused = Vec::new();
        let is_forbidden = |why: &&Unavailable| why.cause == Cause::Forbidden;
        self.each(cases, &mut |side, why, _| {
            if let Some(why) = why.filter(is_forbidden) {
                refused.push((side, why.message.clone()));
            }
        });
        let rights = |side: Side| {
            let mut rights = BTreeSet::new();
            if refused.iter().any(|(of, _)| *of == side) {
                self.each(cases, &mut |of, _, needed| {
                    let needed = needed.iter().filter(|_| of == side);
                    rights.extend(needed.map(|(verb, group, what, at)| Right::new(verb, group, what, *at)));
                });
            }
            rights
        };
        let (control, build) = (rights(Side::Control), rights(Side::Build));
        (self.control_rights, self.build_rights) = (control, build);
        self.forbidden = refused.into_iter().map(|(_, message)| message).collect();
    }

    /// All that was asked for.
    fn each<'c>(&'c self, cases: &'c [Case], take: &mut Take<'_, 'c>) {
        let crd = ("get", "apiextensions.k8s.io", "customresourcedefinitions", None);
        take(Side::Control, self.no_crd(), &[crd]);
        for (number, case) in cases.iter().enumerate() {
            of_plane(case, take);
            of_agent(case, take);
            if number == 0 {
                of_all(case, take);
            }
        }
    }
}

/// What was asked for once, for all planes.
fn of_all<'c>(case: &'c Case, take: &mut Take<'_, 'c>) {
    let (shared, at) = (&case.shared, Some(case.shared.control_namespace.as_str()));
    let lease = ("get", "coordination.k8s.io", "leases", at);
    take(Side::Control, shared.gateway_ca.as_ref().err(), &[("get", "", "secrets", at)]);
    take(Side::Control, shared.lease.as_ref().err(), &[lease]);
    let pods = ("list", "", "pods", at);
    take(Side::Control, shared.deployed.as_ref().err(), &[("get", "", "services", at), pods]);
    take(Side::Control, shared.gateway_log.as_ref().err(), &[("get", "", "pods/log", at)]);
    let pair = shared.controller.as_ref().ok().and_then(Option::as_ref).and_then(|known| known.pair.as_ref().err());
    take(Side::Control, shared.controller.as_ref().err().or(pair), &[pods, ("get", "", "secrets", at)]);
}

fn of_plane<'c>(case: &'c Case, take: &mut Take<'_, 'c>) {
    let (facts, kind) = (&case.facts, case.facts.plane.kind);
    let planes = |verb| (verb, kind.group, kind.plural, None);
    take(Side::Control, case.plane.as_ref().err(), &[planes("get"), planes("list")]);
    let secret = CaPlace::secret(&facts.plane);
    let namespace = secret.as_ref().map(|secret| secret.secret.namespace.as_str());
    let secrets = [("get", "", "secrets", namespace)];
    take(Side::Control, facts.client_ca.text().err(), if secret.is_some() { &secrets } else { &[] });
    take(Side::Control, facts.shares_plane_id_with.as_ref().err(), &[planes("list")]);
    let observability = facts.plane.observability_planes();
    let observability: Vec<_> =
        observability.iter().map(|plane| ("get", kind.group, plane.kind.plural, None)).collect();
    take(Side::Control, facts.observability_plane.as_ref().err(), &observability);
    let other = kind.other_scope().map(|other: &Kind| ("list", other.group, other.plural, None));
    take(Side::Control, facts.other_scope.as_ref().err(), other.as_slice());
}

fn of_agent<'c>(case: &'c Case, take: &mut Take<'_, 'c>) {
    let (build, at) = (case.build.as_ref(), Some(case.build_namespace()));
    let known = case.build();
    take(Side::Build, build.and_then(|build| build.as_ref().err()), &[("list", "apps", "deployments", at)]);
    take(Side::Build, case.elsewhere.as_ref().err(), &[("list", "apps", "deployments", None)]);
    let staged = case.staged.as_ref().and_then(|staged| staged.as_ref().err());
    let pair = known.and_then(|build| build.agent.pair.as_ref().err());
    take(Side::Build, pair.or(staged), &[("get", "", "secrets", at)]);
    take(Side::Build, known.and_then(|build| build.agent.pods.as_ref().err()), &[("list", "", "pods", at)]);
    let issuance = ["certificates", "certificaterequests"].map(|what| ("list", "cert-manager.io", what, at));
    take(Side::Build, known.and_then(|build| build.agent.issuance.as_ref().err()), &issuance);
    take(Side::Build, known.and_then(|build| build.server_ca.as_ref().err()), &[("get", "", "configmaps", at)]);
    take(Side::Build, known.and_then(|build| build.log.as_ref().err()), &[("get", "", "pods/log", at)]);
}
