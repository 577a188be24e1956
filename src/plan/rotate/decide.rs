//! What a rotation does next, by what was found: pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::rotation::{Goal, Phase, Rotation, ca_name};
use super::staged::{OLD_CERTIFICATE, Staged};
use crate::cluster::{Agent, AgentPod, Right, StoredSecret};
use crate::doctor::{Issuance, Pair, Presents};
use crate::estate::ClientCa;
use crate::pki::{self, Certificate, LEAF_CERTIFICATE, Verdict};
use crate::plan::error::Error;
use crate::plan::issuer::Issuer;
use crate::plan::observer::Status;
use crate::plan::trust::Trustee;
use crate::plane::{NamespacedName, Plane, Side, Span, State};
use crate::text::visible;

/// A CA younger than this is taken for the one that was just made.
const FRESH: Span = Span::from_seconds(86_400);

/// The planes that trust the agent, or share a certificate with the one that was named; and the others.
pub fn concerned(all: Vec<Trustee>, named: &Plane, pair: &Pair, now: Timestamp) -> (Vec<Trustee>, Vec<Trustee>) {
    let ders = |ca: &ClientCa| -> BTreeSet<Vec<u8>> {
        ca.text().map(pki::certificates).unwrap_or_default().into_iter().collect()
    };
    let own = all.iter().find(|(plane, _)| plane.name() == named.name()).map(|(_, ca)| ders(ca)).unwrap_or_default();
    all.into_iter().partition(|(plane, ca)| {
        plane.name() == named.name()
            || matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. } | Verdict::Unknown(_))
            || !ders(ca).is_disjoint(&own)
    })
}

/// Why a plane of the planeID stays as it is.
pub fn left_alone((plane, ca): &Trustee) -> String {
    let why = match ca.text() {
        Ok(_) => "trusts another agent".to_owned(),
        Err(problem) => format!("has no CA that can be read ({})", visible(&problem.message)),
    };
    format!("{} {why}, and stays as it is", visible(plane.name()))
}

/// Who issues the agent's certificate from now on; none where there is nothing to do, as every plane trusts one CA alone,
/// which a rotation just made, and the agent's certificate is of it.
pub fn issuer(rotation: &Rotation, pair: &Pair, concerned: &[Trustee], now: Timestamp) -> Option<Issuer> {
    let is_fresh = |(plane, ca): &Trustee| match ca.certificates().as_deref() {
        Ok([only]) => {
            only.common_name == Some(ca_name(plane.plane_id()))
                && FRESH.after(only.not_before) > now
                && matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. })
        }
        _ => false,
    };
    let issuer = rotation.issuer.unwrap_or(current(pair));
    let is_done = !rotation.again && issuer == current(pair) && concerned.iter().all(is_fresh);
    Some(issuer).filter(|_| !is_done)
}

/// The rights that the later stages need, in the agent's namespace.
pub fn rights(namespace: &str) -> Vec<(Side, Right)> {
    let needed = [
        ("create", "", "secrets"),
        ("patch", "", "secrets"),
        ("delete", "", "secrets"),
        ("patch", "apps", "deployments"),
        ("list", "", "pods"),
    ];
    needed.map(|(verb, group, of)| (Side::Build, Right::new(verb, group, of, Some(namespace)))).into()
}

/// What a dry run reports.
pub fn predicted(concerned: &[Trustee], secret: &NamespacedName) -> String {
    let names: Vec<_> = concerned.iter().map(|(plane, _)| visible(plane.name())).collect();
    format!("a new CA would be trusted by {}, and the agent's Secret {secret} follow (dry run)", names.join(", "))
}

/// Who issues an agent's certificate.
pub fn current(pair: &Pair) -> Issuer {
    if pair.cert_manager.is_some() { Issuer::CertManager } else { Issuer::Own }
}

/// What a run does.
pub enum Course {
    /// Nothing: how the step `rollback` came out, and what is reported of it.
    Over(Status, &'static str),
    /// Continues, or begins without a staging Secret.
    Forward(Phase, Option<Staged>),
    Back(Staged),
}

/// What a run does, by the rotation that is under way.
pub fn course(rotation: &Rotation, staged: Option<Staged>) -> Course {
    match (rotation.goal, staged) {
        (Goal::Until(last), staged) => Course::Forward(last, staged),
        (Goal::Back, None) => Course::Over(Status::Found, "no rotation is under way"),
        (Goal::Back, Some(staged)) if rotation.dry_run.stores() => Course::Back(staged),
        (Goal::Back, Some(_)) => Course::Over(Status::Skipped, "the rotation would be rolled back (dry run)"),
    }
}

/// Fails where the rotation that is under way is to another issuer than the one that is named now.
pub fn refuse_other_issuer(rotation: &Rotation, staged: &Staged) -> Result<(), Error> {
    match rotation.issuer {
        Some(issuer) if issuer != staged.issuer => Err(Error::OtherWay { under_way: staged.issuer.name() }),
        _ => Ok(()),
    }
}

/// From which CA cert-manager is to issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    New,
    Former,
}

/// What cert-manager has yet to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending {
    pub why: String,
    /// Whether it is to be asked to issue anew: another CA in the same Issuer is no reason for it to do so by itself.
    pub orders: bool,
}

/// What cert-manager has yet to do until the agent's certificate is of the CA that it is to be of. `command` is Helm's,
/// which changes from which CA it issues.
pub fn pending(
    toward: Toward,
    staged: &Staged,
    pair: &Pair,
    issuance: Option<&Issuance>,
    command: &str,
) -> Option<Pending> {
    let reads_new = issuance.map(|issuance| staged.is_read_by(issuance));
    let (why, orders) = match (toward, staged.has_issued(pair), reads_new) {
        (Toward::New, true, _) => return None,
        (Toward::New, false, None) => (format!("cert-manager has not issued from the new CA yet: {command}"), false),
        (Toward::New, false, Some(false)) => {
            (format!("cert-manager does not issue from the new CA yet: {command}"), false)
        }
        (Toward::New, false, Some(true)) => {
            let name = issuance.map(|issuance| issuance.name.to_string()).unwrap_or_default();
            (format!("cert-manager has not issued Certificate {name} from the new CA yet"), true)
        }
        (Toward::Former, _, Some(true)) => (format!("cert-manager still issues from the new CA: {command}"), false),
        (Toward::Former, false, _) => return None,
        (Toward::Former, true, reads) => {
            (format!("the agent's certificate is still of the new CA: {command}"), reads.is_some())
        }
    };
    Some(Pending { why, orders })
}

/// What is written into the Secret that the agent mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Nothing,
    New,
    Over,
}

/// How the agent's Secret gets the new pair.
pub fn put_new(staged: &Staged, held: Option<&StoredSecret>) -> Result<Put, Error> {
    let (new, old) = (staged.secret.text(LEAF_CERTIFICATE), staged.secret.text(OLD_CERTIFICATE));
    match held.map(|held| (held, held.text(LEAF_CERTIFICATE))) {
        None => Ok(Put::New),
        Some((_, leaf)) if leaf == new => Ok(Put::Nothing),
        Some((_, leaf)) if leaf == old => Ok(Put::Over),
        Some((held, _)) => Err(Error::Meddled { secret: held.name.to_string() }),
    }
}

/// How the agent's Secret of before gets the old pair again.
pub fn put_old(staged: &Staged, held: Option<&StoredSecret>) -> Put {
    let old = staged.secret.text(OLD_CERTIFICATE);
    match held {
        None => Put::New,
        Some(held) if staged.to == staged.from && held.text(LEAF_CERTIFICATE) != old => Put::Over,
        Some(_) => Put::Nothing,
    }
}

/// Whether an agent was restarted for another Secret since, or mounts one.
pub fn is_restarted(staged: &Staged, agent: &Agent) -> bool {
    agent.revision != staged.revision || agent.secret.as_ref() != Some(&staged.from)
}

/// Whether cert-manager has issued from the new CA, or is about to.
pub fn is_reissued(staged: &Staged, pair: &Pair, issuance: Option<&Issuance>) -> bool {
    staged.has_issued(pair) || issuance.is_some_and(|issuance| staged.is_read_by(issuance))
}

/// Whether the Secret that the agent mounted before holds the new certificate, or is gone.
pub fn is_rewritten(staged: &Staged, held: Option<&StoredSecret>) -> bool {
    let new = staged.secret.text(LEAF_CERTIFICATE);
    staged.to == staged.from && held.is_none_or(|held| held.text(LEAF_CERTIFICATE) == new)
}

/// Fails where what the agent would be given back, or is given again, is authorized by nothing that the planes trusted
/// before: forward is the way out then. `held` is the Secret that it mounted before.
pub fn refuse_dead_end(staged: &Staged, held: Option<&StoredSecret>, now: Timestamp) -> Result<(), Error> {
    let presented = match held {
        Some(held) if staged.to != staged.from => pki::certificates(&held.text(LEAF_CERTIFICATE)),
        _ => staged.old(),
    };
    // One that was issued in this second is valid from the next answer's date on.
    let issued = presented.first().and_then(|der| Certificate::from_der(der)).map(|leaf| leaf.not_before);
    let now = now.max(issued.unwrap_or(Timestamp::MIN));
    let mut why = String::from("no plane trusted it");
    for ca in staged.planes.values() {
        match pki::verify(&presented, ca, now) {
            Verdict::Refused(refusal) => why = refusal.message,
            Verdict::Authorized { .. } | Verdict::Unknown(_) => return Ok(()),
        }
    }
    Err(Error::NoWayBack { why })
}

/// Fails where the planes pinned the former certificate: cert-manager issues another one from the former CA, which helps
/// only where they trusted that.
pub fn refuse_pinned(staged: &Staged, now: Timestamp) -> Result<(), Error> {
    let issuers = |ca: &String| -> String {
        let all = Certificate::all_in(ca).into_iter().filter(|certificate| certificate.ca);
        all.map(|certificate| pki::encode("CERTIFICATE", &certificate.der)).collect()
    };
    let trusts = |ca: &String| matches!(pki::verify(&staged.old(), &issuers(ca), now), Verdict::Authorized { .. });
    if staged.planes.values().any(trusts) {
        return Ok(());
    }
    let why = "no plane trusted the CA of its certificate, and cert-manager issues another certificate".to_owned();
    Err(Error::NoWayBack { why })
}

/// Fails where the agent's Secret or one of its pods needs the old CA.
pub fn refuse_needed(
    staged: &Staged,
    secret: &StoredSecret,
    pair: &Pair,
    pods: &[AgentPod],
    now: Timestamp,
) -> Result<(), Error> {
    let behind = |pod: &&AgentPod| pod.started.is_some() && pair.presented_by(pod) != Some(Presents::This);
    let why = match (pki::verify(&pair.presented, &staged.ca(), now), pods.iter().find(behind)) {
        (Verdict::Refused(pki::Refusal { message: why, .. }) | Verdict::Unknown(why), _) => {
            format!("Secret {} holds a certificate that the new CA doesn't let in: {why}", secret.name)
        }
        (_, Some(pod)) => format!("pod {} may have started with the certificate of before", pod.name),
        (_, None) => return Ok(()),
    };
    Err(Error::StillNeeded { why })
}

/// Why a plane's status does not show yet that the agents here are all of its planeID: those of another cluster may have
/// the same one.
pub fn uncounted(plane: &Plane, here: usize, now: Timestamp) -> Option<String> {
    let (id, state) = (visible(plane.plane_id()).into_owned(), plane.state(now));
    let Some(report) = plane.connection().filter(|_| state != State::Stale) else {
        return Some(format!("the control plane has no recent report on the agents of planeID {id}"));
    };
    let there = if report.connected { usize::try_from(report.connected_agents).unwrap_or(0) } else { 0 };
    let more = format!("the control plane counts {there} agents of planeID {id}, and {here} run here");
    (there > here).then_some(more)
}

/// Which CAs a plane trusts in the end, and why others than the new one stay.
pub fn trusted((plane, ca): &Trustee, new: &[Vec<u8>]) -> String {
    let named = |certificate: &&Certificate| {
        let day = certificate.not_after.strftime("%Y-%m-%d");
        format!("{} until {day}", visible(&certificate.subject))
    };
    let certificates = ca.certificates().unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = certificates.iter().partition(|one| new.contains(&one.der));
    let list = |all: &[&Certificate]| all.iter().map(named).collect::<Vec<_>>().join(", ");
    let mut told = format!("{} trusts {}", visible(plane.name()), list(&ours));
    if !others.is_empty() {
        let why = "which did not issue the agent's former certificate, so other agents may use it";
        told.push_str(&format!("; it also trusts {}, {why}", list(&others)));
    }
    told
}
