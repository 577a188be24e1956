//! Checks of the control plane and of the plane itself.

use super::outcome::{Hint, Outcome, Unchecked};
use crate::cluster::grant;
use crate::doctor::case::Case;
use crate::doctor::deletion::{End, either, held};
use crate::doctor::ground::Ground;
use crate::estate::{Cause, Unavailable};
use crate::manifest::{parse, to_yaml};
use crate::pki::{self, Bundle, CA_CERTIFICATE, Certificate, DefectKind, LEAF_CERTIFICATE};
use crate::plane::{Kind, Plane, PlaneKey, ROTATION, Release, Served};
use crate::text::{shell_quoted, visible};
use crate::validate::{self, Severity, judge};

pub fn api_server(ground: &Ground) -> Outcome {
    match &ground.api_server {
        Ok(version) => Outcome::pass(visible(version)),
        Err(problem) if problem.cause == Cause::NotInFiles => Outcome::skip(problem.message.clone()),
        Err(problem) => {
            let outcome = Outcome::fail(problem.message.clone());
            match ground.hint() {
                Some(hint) => outcome.advice(hint),
                None => outcome.look(ground.control.command("kubectl cluster-info")),
            }
        }
    }
}

pub fn crd(ground: &Ground) -> Outcome {
    if let Some((kind, Ok(_))) =
        ground.crds.iter().find(|(_, crd)| matches!(crd, Ok(served) if served.observability_by_name))
    {
        let kind = kind.kind;
        let reported =
            "observabilityPlaneRef is a plain name, as in v0.14, whose gateway authorizes no agent through a";
        return Outcome::warn(format!("the control plane serves an old CRD of {kind}: {reported} {kind}")).advice(
            "install the CRDs of the running release from the folder crds/ of its chart: Helm does not upgrade CRDs",
        );
    }
    match ground.no_crd() {
        Some(problem) if problem.is_missing() => {
            let outcome = Outcome::fail(problem.message.clone());
            if let Some(hint) = ground.hint() { outcome.advice(hint) } else { outcome }
        }
        Some(problem) => Outcome::skip(problem.message.clone()),
        None => {
            let reported = |(kind, served): &(&'static Kind, Result<Served, Unavailable>)| {
                let required = served.as_ref().is_ok_and(|served| served.plane_id_required);
                let id = if required { ", which must have a planeID" } else { "" };
                format!("{} of {}{id}", kind.kind, kind.api_version())
            };
            Outcome::pass(ground.crds.iter().map(reported).collect::<Vec<_>>().join("; "))
        }
    }
}

pub fn rights(ground: &Ground) -> Outcome {
    let count = ground.forbidden.len();
    if count == 0 {
        return Outcome::pass("read access to everything that was checked");
    }
    let noun = if count == 1 { "request is" } else { "requests are" };
    let outcome = Outcome::warn(format!("{count} {noun} not allowed")).details(ground.forbidden.iter().cloned());
    let clusters = [(Some(&ground.control), &ground.control_rights), (ground.build.as_ref(), &ground.build_rights)];
    clusters.into_iter().fold(outcome, |outcome, (target, rights)| {
        let kubectl = target.map(|target| target.for_another("kubectl apply")).unwrap_or_default();
        match grant("choreoctl-doctor", &kubectl, rights.iter()) {
            Some(command) => {
                outcome.advice(format!("an administrator can grant the missing permissions to USER with\n{command}"))
            }
            None => outcome,
        }
    })
}

pub fn plane_exists(case: &Case) -> Outcome {
    match &case.plane {
        Ok(()) => Outcome::pass(format!("it exists, with planeID {}", visible(case.facts.plane.plane_id()))),
        Err(problem) => Outcome::unknown(problem.message.clone()),
    }
}

pub fn deletion(case: &Case) -> Outcome {
    let plane = &case.facts.plane;
    if plane.metadata.deletion_timestamp.is_none() {
        return Outcome::pass("it is not being deleted");
    }
    let held = held(plane, case.remover(), &case.shared.control_namespace);
    let outcome = Outcome::fail(format!("the plane is being deleted, and {}", held.why));
    match held.end {
        Some(End::Remove(command)) => outcome.fix(case.control(&command)),
        Some(End::Depends { remove, start }) => outcome.advice(either(&case.control(&remove), &case.control(&start))),
        None => {
            let idle = [&case.shared.idle_gateway, &case.shared.idle_controller].into_iter().flatten();
            let outcome = idle.fold(outcome, |outcome, name| outcome.hint(case.scale(name)));
            outcome.look(case.kubectl("get deployments,pods"))
        }
    }
}

/// What a plane type's gateway of another release is, and what to do about it.
pub fn plane_type_known(case: &Case) -> Outcome {
    let (kind, label) = (case.facts.plane.kind, case.deployed().and_then(|gateway| gateway.release));
    let plane_type = kind.family.plane_type;
    let of = |release: Release, by: &str| (format!("OpenChoreo {}, by {by}", release.span()), Some(release));
    let (gateway, release) = match (&case.gateway.types, label, case.shared.running) {
        (Some(types), ..) => (types.to_string(), types.release()),
        (None, Some(release), _) => of(release, "the label of its Service"),
        (None, None, Some(release)) => of(release, "the image of the controller"),
        (None, None, None) => {
            let why = "the gateway's release is unknown: it was not contacted, and its Service has no version";
            return Outcome::unchecked(Unchecked::Gateway, why);
        }
    };
    if case.knows(kind) == Some(true) {
        return Outcome::pass(format!("the gateway supports the plane type {plane_type} ({gateway})"));
    }
    let why = format!("the gateway does not support the plane type {plane_type} ({gateway})");
    if let Some(other) = case.used_instead() {
        return in_migration(case, other, &why);
    }
    match release.and_then(|release| kind.in_release(release)).filter(|other| *other != kind) {
        None => Outcome::fail(why).advice("install planes, agents and the control plane of one release"),
        Some(other) => {
            let outcome = Outcome::fail(format!("{why}: in that release the kind is called {}", other.kind));
            if kind.successor() == Some(other) {
                return outcome.hint(case.migrate(&case.facts.plane.key(), ""));
            }
            outcome.advice(format!(
                "create a {} with the same planeID and CA, and install the agent with the chart {}",
                other.kind, other.family.chart
            ))
        }
    }
}

/// Says of a plane that its counterpart is used: what is no fault, and which checks have to wait for it.
fn in_migration(case: &Case, other: &PlaneKey, why: &str) -> Outcome {
    let title = format!("{} {}", other.kind.kind, visible(&other.to_string()));
    let outcome = if case.is_replaced() {
        let hint = case.migrate(&case.facts.plane.key(), " --until cleanup");
        Outcome::warn(format!("{title} has replaced this plane: {why}")).hint(hint)
    } else {
        let when = "the plane takes effect once the control plane's release is v1.0 or later";
        Outcome::warn(format!("{why}; {when}, and until then {title} is used"))
    };
    Outcome { blocks: true, ..outcome }
}

pub fn client_ca_readable(case: &Case) -> Outcome {
    let ca = &case.facts.client_ca;
    let look = || match ca.source().strip_prefix("secret/").and_then(|source| source.split_once('/')) {
        Some((namespace, rest)) if !namespace.is_empty() => {
            let name = rest.split(':').next().unwrap_or_default();
            let namespace = shell_quoted(namespace);
            case.control(&format!("kubectl -n {namespace} describe secret {}", shell_quoted(name)))
        }
        _ => case.control(&format!("choreoctl describe {}", case.words())),
    };
    let failed = |why: String| {
        let hint = trust_agent(case).or_else(|| restore(case));
        hint.into_iter().fold(Outcome::fail(why), Outcome::hint).look(look())
    };
    match ca.text() {
        Ok(text) if text.trim().is_empty() => failed(format!("{} is empty", visible(ca.source()))),
        Ok(_) => Outcome::pass(format!("{} can be read", visible(ca.source()))),
        Err(problem) if problem.is_fault() => failed(problem.message.clone()),
        Err(problem) => Outcome::unknown(problem.message.clone()),
    }
}

/// The command that writes a reference to a Secret again that the CRDs of v1.x dropped.
fn restore(case: &Case) -> Option<Hint> {
    let is_lost = case.facts.plane.pruned_secret() == Some(Release::V0);
    is_lost.then(|| Hint::Advice(format!("{} --out-dir DIR", case.control("choreoctl migrate"))))
}

/// The command that writes the CA of the agent's certificate, or the certificate itself where it is self-signed, into the
/// plane: what the guides do by hand. None where an agent would be refused all the same.
fn trust_agent(case: &Case) -> Option<Hint> {
    let (pair, build) = (case.pair()?, case.shared.build_target.as_ref()?);
    let trusts = |ca: &str| Bundle::from(ca).verdict(&pair.presented, case.facts.now).is_authorized();
    let leaf = pair.leaf().to_pem();
    let key = if trusts(&pair.ca) { CA_CERTIFICATE } else { LEAF_CERTIFICATE };
    if key == LEAF_CERTIFICATE && !(pair.leaf().self_issued() && trusts(&leaf)) {
        return None;
    }
    let secret = case.agent()?.agent.pair()?;
    let (namespace, secret) = (shell_quoted(&secret.namespace).into_owned(), shell_quoted(&secret.name).into_owned());
    let value = format!("{{{{index .data \"{key}\" | base64decode | printf \"%q\"}}}}");
    let field = case.facts.plane.secret_field();
    let patch = format!("{{\"spec\":{{\"clusterAgent\":{{\"clientCA\":{{\"{field}\":null,\"value\":{value}}}}}}}}}");
    let read = build.command(&format!("kubectl -n {namespace} get secret {secret}"));
    let plane = case.facts.plane.key().kubectl_words();
    let write = case.control(&format!("kubectl patch {plane} --type=merge --patch-file=client-ca.json"));
    Some(Hint::Fix(format!("{read} -o go-template='{patch}' > client-ca.json && {write}")))
}

pub fn client_ca_usable(case: &Case) -> Outcome {
    let ca = &case.facts.client_ca;
    let certificates = match ca.certificates() {
        Ok(certificates) => certificates,
        Err(problem) => {
            let outcome = trust_agent(case).into_iter().fold(Outcome::fail(problem.message.clone()), Outcome::hint);
            return outcome.advice("convert base64 or DER to raw PEM with choreoctl certs bundle FILE");
        }
    };
    let defects = case.facts.client_ca.defects(case.facts.now, case.shared.soon);
    match defects.iter().find(|defect| defect.kind.bars_every_agent()) {
        Some(defect) => Outcome::fail(format!("no agent can connect: {defect}")).hint(case.rotate()),
        None => {
            let useless = defects.iter().filter(|defect| defect.kind == DefectKind::PartlyUseless).count();
            let (usable, all) = (certificates.len() - useless, certificates.len());
            Outcome::pass(format!("{usable} of {all} CA certificates can verify client certificates"))
        }
    }
}

/// What the API server took and no agent gets in by.
fn errors(plane: &Plane) -> Vec<String> {
    let mut object = plane.manifest();
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    let Ok(text) = to_yaml(&object) else {
        return Vec::new();
    };
    let findings = judge(&parse("the plane".into(), text)).findings;
    let reported = findings.into_iter().filter(|finding| finding.rule.severity == Severity::Error);
    reported.map(|finding| format!("{} [{}]", finding.message, finding.rule.id)).collect()
}

pub fn spec_valid(case: &Case) -> Outcome {
    match errors(&case.facts.plane).as_slice() {
        [] => Outcome::pass("it is valid"),
        errors => {
            let get = case.control(&format!("choreoctl get {}", case.words()));
            let hint = format!("{get} -o yaml | choreoctl validate -");
            Outcome::fail(errors.join("; ")).look(hint)
        }
    }
}

pub fn ca_outlives(case: &Case) -> Outcome {
    let certificates = case.pinned();
    let ended = |certificate: &&Certificate| certificate.not_after < case.facts.now;
    let leaves = certificates.iter().filter(|certificate| !certificate.ca && !ended(certificate));
    if let Some(leaf) = leaves.min_by_key(|certificate| certificate.not_after) {
        // Who renews it is known with the plane's cluster.
        let held = case.pair().map(|pair| pair.leaf().der == leaf.der);
        let own = case.pair().is_some_and(|pair| pair.cert_manager.is_none());
        let renewal = (held != Some(false) && !own).then(|| case.renewal(leaf));
        let other = if held == Some(false) { ", but the agent's Secret holds another certificate" } else { "" };
        let remark = format!("the CA {}{other}", pki::pinned(leaf, renewal));
        return Outcome::warn(remark).hint(case.rotate());
    }
    let soon = case.facts.client_ca.defects(case.facts.now, case.shared.soon);
    if let Some(defect) = soon.iter().find(|defect| defect.kind == DefectKind::ExpiresSoon) {
        return Outcome::warn(defect.to_string()).hint(case.rotate());
    }
    let usable = |certificate: &&Certificate| pki::trust(&certificate.der, case.facts.now).is_ok();
    match certificates.iter().filter(usable).map(|certificate| certificate.not_after).max() {
        None => Outcome::skip("it holds no certificate"),
        Some(last) => Outcome::pass(format!("the CA is valid until {last}")),
    }
}

/// A rotation that was begun, and neither finished nor rolled back.
pub fn rotation(case: &Case) -> Outcome {
    let unfinished = |secret: String| {
        let back = case.with_both("certs rotate", " --rollback", Hint::Fix);
        let reported = format!("a rotation of the plane's CA is unfinished{secret}: continue it, or roll it back");
        Outcome::warn(reported).hint(case.rotate()).hint(back)
    };
    match (case.facts.plane.annotation(ROTATION), &case.staged) {
        (_, Some(Ok(true))) => unfinished(String::new()),
        (Some(secret), Some(Ok(false))) => {
            let (plane, secret) = (case.facts.plane.key().kubectl_words(), visible(secret));
            Outcome::warn(format!("the plane is annotated with a rotation, but Secret {secret} does not exist"))
                .fix(case.control(&format!("kubectl annotate {plane} {ROTATION}-")))
        }
        (Some(secret), _) => unfinished(format!(" (Secret {})", visible(secret))),
        (None, Some(Err(problem))) => Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
        (None, _) => Outcome::pass("there is no unfinished rotation"),
    }
}

pub fn plane_id_shared(case: &Case) -> Outcome {
    let id = visible(case.facts.plane.plane_id());
    match (case.rivals.is_empty(), case.facts.all_known()) {
        (false, _) => Outcome::warn(validate::plane_id_shared(&id, &case.rivals.to_string())),
        (true, Ok(())) => Outcome::pass(format!("all planes with planeID {id} have the same CA")),
        (true, Err(unknown)) => Outcome::unchecked(Unchecked::Unread, unknown),
    }
}

pub fn ca_shared(case: &Case) -> Outcome {
    let others = &case.facts.same_ca;
    match (others.is_empty(), case.facts.all_known()) {
        (false, _) => Outcome::warn(validate::ca_shared(&others.to_string())).hint(case.rotate()),
        (true, Ok(())) => Outcome::pass("no other plane that was checked has this CA"),
        (true, Err(unknown)) => Outcome::unchecked(Unchecked::Unread, unknown),
    }
}

pub fn observability_plane(case: &Case) -> Outcome {
    let planes = case.facts.plane.observability_planes();
    let named = case.facts.plane.spec.observability_plane_ref.is_some();
    let Some(first) = planes.first() else {
        return Outcome::pass(format!("a {} has no reference to an observability plane", case.facts.plane.kind.kind));
    };
    let kinds: Vec<_> = planes.iter().map(|plane| plane.kind.kind).collect();
    let title = format!("{} {}", first.kind.kind, visible(&first.to_string()));
    match &case.facts.observability_plane {
        Ok(Some(found)) => Outcome::pass(format!("{} {} exists", found.kind.kind, visible(&found.to_string()))),
        Ok(None) if named => Outcome::warn(format!("{title} does not exist"))
            .look(case.control(&format!("kubectl get {} -A", first.kind.plural))),
        Ok(None) => Outcome::pass(format!(
            "nothing to check: no observability plane is set, and there is no {} named default",
            kinds.join(" or ")
        )),
        Err(problem) => Outcome::unchecked(Unchecked::Unread, problem.message.clone()),
    }
}
