//! Checks of the control plane and of the plane itself.

use super::super::case::Case;
use super::super::ground::Ground;
use super::Outcome;
use crate::manifest::{parse, to_yaml};
use crate::pki::{self, Certificate, Remaining};
use crate::plane::{CLUSTER_BUILD_PLANE, Plane, age};
use crate::term::{shell_quoted, visible};
use crate::validate::{Severity, judge};

pub fn api_server(ground: &Ground) -> Outcome {
    match &ground.api_server {
        Ok(version) => Outcome::pass(visible(version)),
        Err(problem) if problem.word == "files" => Outcome::skip(problem.text.clone()),
        Err(problem) => {
            let hint = ground.hint.clone().unwrap_or_else(|| ground.control.command("kubectl cluster-info"));
            Outcome::fail(problem.text.clone()).hint(hint)
        }
    }
}

pub fn crd(ground: &Ground) -> Outcome {
    let kind = CLUSTER_BUILD_PLANE.kind;
    match &ground.crd {
        Ok(served) if served.observability_by_name => {
            let told = "observabilityPlaneRef is a plain name, as in v0.14, whose gateway lets in no agent through a";
            Outcome::warn(format!("the {kind} that is served is an old one: {told} {kind}")).hint(
                "install the CRDs of the release that runs, which Helm leaves as they are: its chart's folder crds/",
            )
        }
        Ok(served) => {
            let id = if served.plane_id_required { ", which must have a planeID" } else { "" };
            Outcome::pass(format!("{kind} of {}{id}", CLUSTER_BUILD_PLANE.api_version()))
        }
        Err(problem) if problem.word == "missing" => {
            let outcome = Outcome::fail(problem.text.clone());
            if let Some(hint) = &ground.hint { outcome.hint(hint) } else { outcome }
        }
        Err(problem) => Outcome::skip(problem.text.clone()),
    }
}

pub fn rights(ground: &Ground) -> Outcome {
    if ground.forbidden.is_empty() {
        return Outcome::pass("nothing that was looked at is forbidden");
    }
    let told: Vec<_> = ground.forbidden.iter().map(String::as_str).collect();
    Outcome::warn(told.join("; ")).hint(ground.control.command("kubectl auth can-i --list"))
}

pub fn plane_exists(case: &Case) -> Outcome {
    match &case.plane {
        Ok(()) => Outcome::pass(format!("it exists, with planeID {}", visible(case.facts.plane.plane_id()))),
        Err(problem) => Outcome::unknown(problem.text.clone()),
    }
}

pub fn deletion(case: &Case) -> Outcome {
    let plane = &case.facts.plane;
    if plane.metadata.deletion_timestamp.is_none() {
        return Outcome::pass("it is not being deleted");
    }
    let held: Vec<_> = plane.metadata.finalizers.iter().flatten().map(|finalizer| visible(finalizer)).collect();
    Outcome::fail(format!("it is being deleted, and held by {}", held.join(", ")))
        .hint("start the controller and the gateway: the finalizer goes once both answered")
}

pub fn client_ca_readable(case: &Case) -> Outcome {
    let ca = &case.facts.client_ca;
    let look = || match ca.source.strip_prefix("secret/").and_then(|source| source.split_once('/')) {
        Some((namespace, rest)) if !namespace.is_empty() => {
            let name = rest.split(':').next().unwrap_or_default();
            let namespace = shell_quoted(namespace);
            case.control(&format!("kubectl -n {namespace} describe secret {}", shell_quoted(name)))
        }
        _ => case.control(&format!("choreoctl describe {}", shell_quoted(case.facts.plane.name()))),
    };
    match &ca.text {
        Ok(text) if text.trim().is_empty() => Outcome::fail(format!("{} is empty", visible(&ca.source))).hint(look()),
        Ok(_) => Outcome::pass(format!("{} can be read", visible(&ca.source))),
        Err(problem) if matches!(problem.word, "missing" | "invalid") => {
            Outcome::fail(problem.text.clone()).hint(look())
        }
        Err(problem) => Outcome::unknown(problem.text.clone()),
    }
}

pub fn client_ca_usable(case: &Case) -> Outcome {
    let ca = &case.facts.client_ca;
    let certificates = match ca.certificates() {
        Ok(certificates) => certificates,
        Err(problem) => {
            let hint = "choreoctl certs bundle FILE makes raw PEM of base64 and DER";
            return Outcome::fail(problem.text.clone()).hint(hint);
        }
    };
    let trusts: Vec<_> = certificates.iter().map(|one| pki::trust(&one.der, case.facts.now)).collect();
    match trusts.iter().find_map(|trust| trust.as_ref().err()) {
        Some(refusal) if trusts.iter().all(Result::is_err) => {
            let name = shell_quoted(case.facts.plane.name());
            let hint = case.rotate(&format!("choreoctl certs rotate {name}"));
            Outcome::fail(format!("no agent is let in: the CA {}", refusal.message)).hint(hint)
        }
        _ => {
            Outcome::pass(format!("{} of {} certificates let agents in", trusts.iter().flatten().count(), trusts.len()))
        }
    }
}

/// What the API server took and no agent gets in by.
fn errors(plane: &Plane) -> Vec<String> {
    let mut object = plane.manifest(&CLUSTER_BUILD_PLANE);
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    let Ok(text) = to_yaml(&object) else {
        return Vec::new();
    };
    let findings = judge(&parse("the plane".into(), text)).findings;
    let told = findings.into_iter().filter(|finding| finding.rule.severity == Severity::Error);
    told.map(|finding| format!("{} [{}]", finding.message, finding.rule.id)).collect()
}

pub fn spec_valid(case: &Case) -> Outcome {
    match errors(&case.facts.plane).as_slice() {
        [] => Outcome::pass("it is valid"),
        errors => {
            let name = shell_quoted(case.facts.plane.name());
            let hint = format!("{} -o yaml | choreoctl validate -", case.control(&format!("choreoctl get {name}")));
            Outcome::fail(errors.join("; ")).hint(hint)
        }
    }
}

pub fn ca_outlives(case: &Case) -> Outcome {
    let certificates = case.facts.client_ca.certificates().as_deref().unwrap_or_default();
    let name = shell_quoted(case.facts.plane.name());
    let ended = |certificate: &&Certificate| certificate.not_after < case.facts.now;
    let pinned = certificates.iter().filter(|certificate| !certificate.ca && !ended(certificate));
    if let Some(pinned) = pinned.min_by_key(|certificate| certificate.not_after) {
        // By whom it is renewed is known with the build cluster.
        let own = case.pair().is_some_and(|pair| pair.cert_manager.is_none() && pair.leaf().der == pinned.der);
        if own {
            return ends(pinned, case);
        }
        let remark = super::super::pinned_leaf(pinned).map(|remark| remark.text).unwrap_or_default();
        return if Remaining::covers(case.soon, pinned.chart_renewal(), case.facts.now) {
            Outcome::warn(remark).hint(case.rotate(&format!("choreoctl certs rotate {name}")))
        } else {
            Outcome::pass(remark)
        };
    }
    let lets_in = |certificate: &&Certificate| pki::trust(&certificate.der, case.facts.now).is_ok();
    match certificates.iter().filter(lets_in).max_by_key(|certificate| certificate.not_after) {
        Some(last) => ends(last, case),
        None => Outcome::skip("it holds no certificate"),
    }
}

/// When the last certificate of a CA ends.
fn ends(last: &Certificate, case: &Case) -> Outcome {
    if !last.expires_within(case.soon, case.facts.now) {
        return Outcome::pass(format!("the CA is valid until {}", last.not_after));
    }
    let name = shell_quoted(case.facts.plane.name());
    Outcome::warn(format!("the CA expires in {}, at {}", age(last.not_after, case.facts.now), last.not_after))
        .hint(case.rotate(&format!("choreoctl certs rotate {name}")))
}

pub fn plane_id_shared(case: &Case) -> Outcome {
    let id = visible(case.facts.plane.plane_id());
    if let Err(problem) = &case.facts.shares_plane_id_with {
        return Outcome::skip(format!("who has the planeID {id} isn't known: {}", problem.text));
    }
    if let Ok(planes) = &case.build_planes
        && !planes.is_empty()
    {
        let names: Vec<_> = planes.iter().map(|name| visible(name)).collect();
        return Outcome::warn(format!("namespaced BuildPlanes have the planeID {id}, too: {}", names.join(", ")));
    }
    match case.rivals.as_slice() {
        [] => match &case.build_planes {
            Ok(_) => Outcome::pass(format!("no other plane of planeID {id} has another CA")),
            Err(problem) => Outcome::skip(format!("of BuildPlanes nothing is known: {}", problem.text)),
        },
        rivals => {
            let names: Vec<_> = rivals.iter().map(|name| visible(name)).collect();
            let told = format!("{} of the same planeID {id} let in other agents", names.join(", "));
            Outcome::warn(format!("{told}: an agent is authorized for a part of them only"))
        }
    }
}

pub fn ca_shared(case: &Case) -> Outcome {
    match case.same_ca.as_slice() {
        [] => Outcome::pass("no other plane that was looked at has its CA"),
        others => {
            let names: Vec<_> = others.iter().map(|name| visible(name)).collect();
            let told = format!("{} have the same CA: each one's agent can pass as the other's", names.join(", "));
            let name = shell_quoted(case.facts.plane.name());
            Outcome::warn(told).hint(case.rotate(&format!("choreoctl certs rotate {name}")))
        }
    }
}

pub fn observability_plane(case: &Case) -> Outcome {
    let name = visible(case.facts.plane.observability_plane());
    let named = case.facts.plane.spec.observability_plane_ref.is_some();
    match &case.facts.observability_exists {
        Ok(true) => Outcome::pass(format!("ClusterObservabilityPlane {name} exists")),
        Ok(false) if named => Outcome::warn(format!("ClusterObservabilityPlane {name} does not exist"))
            .hint(case.control("kubectl get clusterobservabilityplanes")),
        Ok(false) => Outcome::pass("none is named, and there is no default"),
        Err(problem) => Outcome::skip(problem.text.clone()),
    }
}
