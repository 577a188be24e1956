//! What a rotation does next, by what was found: pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::rotation::{Goal, Phase, Rotation, ca_name};
use super::staged::{OLD_CERTIFICATE, Staged};
use crate::cluster::{Agent, AgentPod, Right, StoredSecret};
use crate::estate::{ClientCa, Issuance, Pair, Presents};
use crate::pki::{self, Bundle, Certificate, LEAF_CERTIFICATE, Verdict};
use crate::plan::error::Error;
use crate::plan::issuer::Issuer;
use crate::plan::observer::Status;
use crate::plan::trust::{Trustee, name};
use crate::plane::{NamespacedName, Plane, Side, Span, State, day};
use crate::text::visible;

/// A CA younger than this is taken for the one that was just made.
const FRESH: Span = Span::from_seconds(86_400);

/// The planes that trust the agent, or share a certificate with the one that was named; and the others.
pub fn concerned(all: Vec<Trustee>, named: &Plane, pair: &Pair, now: Timestamp) -> (Vec<Trustee>, Vec<Trustee>) {
    let ders = |ca: &ClientCa| -> BTreeSet<Vec<u8>> {
        ca.text().map(pki::certificates).unwrap_or_default().into_iter().collect()
    };
    let own = all.iter().find(|(plane, _)| plane.is(named)).map(|(_, ca)| ders(ca)).unwrap_or_default();
    all.into_iter().partition(|(plane, ca)| {
        plane.is(named)
            || matches!(ca.verdict(&pair.presented, now), Verdict::Authorized { .. } | Verdict::Unknown(_))
            || !ders(ca).is_disjoint(&own)
    })
}

/// Why a plane of the planeID stays as it is.
pub fn left_alone((plane, ca): &Trustee) -> String {
    let why = match ca.text() {
        Ok(_) => "trusts another agent".to_owned(),
        Err(problem) => format!("has an unreadable CA ({})", visible(&problem.message)),
    };
    format!("{} {why}, and is not changed", visible(&name(plane)))
}

/// Who issues the agent's certificate from now on; none where there is nothing to do, as every plane trusts one CA alone,
/// which a rotation just made, and the agent's certificate is of it.
pub fn issuer(rotation: &Rotation, pair: &Pair, concerned: &[Trustee], now: Timestamp) -> Option<Issuer> {
    let is_fresh = |(plane, ca): &Trustee| match ca.certificates().as_deref() {
        Ok([only]) => {
            only.common_name == Some(ca_name(plane.kind.family, plane.plane_id()))
                && FRESH.after(only.not_before) > now
                && ca.verdict(&pair.presented, now).is_authorized()
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
    let names: Vec<_> = concerned.iter().map(|(plane, _)| visible(&name(plane)).into_owned()).collect();
    format!("{} would trust a new CA, and the agent's Secret {secret} would be replaced (dry run)", names.join(", "))
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
        (Goal::Back, None) => Course::Over(Status::Found, "there is no unfinished rotation"),
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
            (format!("the agent's certificate is still issued by the new CA: {command}"), reads.is_some())
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
        match Bundle::from(ca.as_str()).verdict(&presented, now) {
            Verdict::Refused(refusal) => why = refusal.message,
            Verdict::Authorized { .. } | Verdict::Unknown(_) => return Ok(()),
        }
    }
    Err(Error::NoWayBack { why })
}

/// Fails where the planes pinned the former certificate: cert-manager issues another one from the former CA, which helps
/// only where they trusted that.
pub fn refuse_pinned(staged: &Staged, now: Timestamp) -> Result<(), Error> {
    let issuers = |ca: &String| -> Bundle {
        let bundle = Bundle::from(ca.as_str());
        bundle.certificates().iter().filter(|certificate| certificate.ca).map(|certificate| &certificate.der).collect()
    };
    let trusts = |ca: &String| issuers(ca).verdict(&staged.old(), now).is_authorized();
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
    let why = match (Bundle::from(staged.ca()).verdict(&pair.presented, now), pods.iter().find(behind)) {
        (Verdict::Refused(pki::Refusal { message: why, .. }) | Verdict::Unknown(why), _) => {
            format!("the new CA does not authorize the certificate in Secret {}: {why}", secret.name)
        }
        (_, Some(pod)) => format!("pod {} may have started with the former certificate", pod.name),
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
    let more =
        format!("the control plane reports {there} agents with planeID {id}, but {here} are running in this cluster");
    (there > here).then_some(more)
}

/// Which CAs a plane trusts in the end, and why others than the new one stay.
pub fn trusted((plane, ca): &Trustee, new: &[Vec<u8>]) -> String {
    let named = |certificate: &&Certificate| {
        let day = day(certificate.not_after);
        format!("{} until {day}", visible(&certificate.subject))
    };
    let certificates = ca.certificates().unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = certificates.iter().partition(|one| new.contains(&one.der));
    let list = |all: &[&Certificate]| all.iter().map(named).collect::<Vec<_>>().join(", ");
    let mut reported = format!("{} trusts {}", visible(&name(plane)), list(&ours));
    if !others.is_empty() {
        let why = "which did not issue the agent's former certificate, so other agents may use it";
        reported.push_str(&format!("; it also trusts {}, {why}", list(&others)));
    }
    reported
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::estate::{Cause, Unavailable};
    use crate::pki::PemPair;
    use crate::plan::fixtures::{
        BUILD, Root, agent, leaf, of_cert_manager, pair, pair_secret, plane, plane_object, root, rotation, stored,
    };
    use crate::plan::rotate::staged::staging;
    use crate::plane::DEFAULT_KIND;
    use crate::plane::DryRun;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn trustee(name: &str, ca: &str) -> Trustee {
        (plane(&plane_object(name, "id", ca, now())), ClientCa::new("value".into(), Ok(ca.as_bytes().to_vec())))
    }

    /// A rotation of the plane `p` that is under way: the agent's pair was of `old`.
    fn staged(rotation: &Rotation, issuer: Issuer, old: &Root, planes: &[Trustee]) -> Staged {
        let secret = stored(&pair_secret("s", &leaf("id", old, now()), &old.certificate));
        let agent = agent(BUILD, "agent", "id", "s");
        let data = staging(rotation, issuer, &agent, &secret, planes, now()).unwrap();
        let texts: Vec<_> =
            data.iter().map(|(key, bytes)| (key.as_str(), std::str::from_utf8(bytes).unwrap())).collect();
        Staged::of(stored(&crate::plan::fixtures::secret(BUILD, "staging", &texts))).unwrap()
    }

    /// A Secret with the pair that a rotation made.
    fn new_pair(staged: &Staged) -> Value {
        let text = |key: &str| staged.secret.text(key).to_string();
        pair_secret("s", &PemPair { certificate: text("tls.crt"), key: text("tls.key").into() }, &text("ca.crt"))
    }

    #[test]
    fn planes_that_trust_the_agent_or_share_a_certificate_are_concerned() {
        let (ca, other, third) = (root("ca", now()), root("other", now()), root("third", now()));
        let presented = pair(&pair_secret("s", &leaf("id", &ca, now()), ""));
        let both = format!("{}{}", other.certificate, third.certificate);
        let mut unread = trustee("unread", "");
        unread.1 = ClientCa::new("secret/n/s:k".into(), Err(Unavailable::new(Cause::Forbidden, "no")));
        let all = vec![
            trustee("p", &other.certificate),
            trustee("trusts", &ca.certificate),
            trustee("shares", &both),
            unread,
            trustee("stranger", &third.certificate),
            trustee("empty", ""),
        ];
        let (concerned, others) = concerned(all, &rotation().plane, &presented, now());
        let names = |all: &[Trustee]| all.iter().map(|(plane, _)| plane.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&concerned), ["p", "trusts", "shares", "unread"]);
        assert_eq!(names(&others), ["stranger", "empty"]);
        assert_eq!(left_alone(&others[0]), "stranger trusts another agent, and is not changed");
        assert_eq!(left_alone(&concerned[3]), "unread has an unreadable CA (no), and is not changed");
        let reported = "p would trust a new CA, and the agent's Secret n/s would be replaced (dry run)";
        let secret = NamespacedName { namespace: "n".into(), name: "s".into() };
        assert_eq!(predicted(&concerned[..1], &secret), reported);
    }

    #[test]
    fn nothing_is_to_be_done_just_after_a_rotation() {
        let (fresh, plain) = (root(&ca_name(DEFAULT_KIND.family, "id"), now()), root("plain", now()));
        let secret = |root: &Root| pair_secret("s", &leaf("id", root, now()), "");
        let (ours, other) = (pair(&secret(&fresh)), pair(&secret(&plain)));
        let managed = pair(&of_cert_manager(secret(&fresh)));
        let only = [trustee("p", &fresh.certificate)];
        let two = [trustee("p", &format!("{}{}", fresh.certificate, plain.certificate))];
        let later = now() + jiff::SignedDuration::from_hours(25);
        let again = Rotation { again: true, ..rotation() };
        let to_own = Rotation { issuer: Some(Issuer::Own), ..rotation() };
        for (what, rotation, pair, planes, at, expected) in [
            ("fresh", &rotation(), &ours, &only, now(), None),
            ("of cert-manager", &rotation(), &managed, &only, now(), None),
            ("a day later", &rotation(), &ours, &only, later, Some(Issuer::Own)),
            ("another CA beside", &rotation(), &ours, &two, now(), Some(Issuer::Own)),
            ("another CA's certificate", &rotation(), &other, &only, now(), Some(Issuer::Own)),
            ("--again", &again, &ours, &only, now(), Some(Issuer::Own)),
            ("another issuer", &to_own, &managed, &only, now(), Some(Issuer::Own)),
        ] {
            assert_eq!(issuer(rotation, pair, planes, at), expected, "{what}");
        }
    }

    #[test]
    fn a_run_continues_begins_or_goes_back() {
        let ca = root("ca", now());
        let rotation = |goal, dry_run| Rotation { goal, dry_run, ..rotation() };
        let until = Goal::Until(Phase::Switch);
        let staged = |rotation: &Rotation| staged(rotation, Issuer::Own, &ca, &[]);
        for (goal, dry_run, is_staged, expected) in [
            (until, DryRun::None, false, "begin"),
            (until, DryRun::Client, true, "continue"),
            (Goal::Back, DryRun::None, true, "back"),
            (Goal::Back, DryRun::None, false, "there is no unfinished rotation"),
            (Goal::Back, DryRun::Server, true, "the rotation would be rolled back (dry run)"),
        ] {
            let rotation = rotation(goal, dry_run);
            let found = match course(&rotation, is_staged.then(|| staged(&rotation))) {
                Course::Over(_, reported) => reported,
                Course::Forward(Phase::Switch, None) => "begin",
                Course::Forward(Phase::Switch, Some(_)) => "continue",
                Course::Forward(..) => "another phase",
                Course::Back(_) => "back",
            };
            assert_eq!(found, expected);
        }
        let to = |issuer| Rotation { issuer, ..rotation(until, DryRun::None) };
        let staged = staged(&to(None));
        assert!(refuse_other_issuer(&to(None), &staged).is_ok());
        assert!(refuse_other_issuer(&to(Some(Issuer::Own)), &staged).is_ok());
        let refused = refuse_other_issuer(&to(Some(Issuer::CertManager)), &staged).unwrap_err();
        assert_eq!(refused.to_string(), "a rotation to own is in progress");
        assert_eq!(rights(BUILD).len(), 5);
    }

    /// What cert-manager reports the agent's Certificate, with the CA's Secret that it issues from.
    fn issuance(ca_secret: &str) -> Issuance {
        let of = |kind: &str, name: &str, spec: Value| json!({"kind": kind, "metadata": {"namespace": BUILD, "name": name}, "spec": spec});
        let objects = [
            of("Certificate", "c", json!({"secretName": "s", "issuerRef": {"name": "i"}})),
            of("Issuer", "i", json!({"ca": {"secretName": ca_secret}})),
        ];
        let secret = NamespacedName { namespace: BUILD.into(), name: "s".into() };
        Issuance::of(&secret, &objects[0], &[], &objects[1..]).unwrap()
    }

    #[test]
    fn cert_manager_is_waited_for_and_asked_once_it_reads_the_right_ca() {
        let old = root("old", now());
        let staged = staged(&rotation(), Issuer::CertManager, &old, &[]);
        let new = Root {
            certificate: staged.ca(),
            key: String::new(),
            authority: pki::Authority::from_pem(&staged.ca(), &staged.secret.text("ca.key"), now()).unwrap(),
        };
        let [of_old, of_new] = [&old, &new].map(|root| pair(&pair_secret("s", &leaf("id", root, now()), "")));
        let (reads_old, reads_new) = (issuance("other"), issuance(&staged.to));
        use Toward::{Former, New};
        for (toward, pair, issuance, why, orders) in [
            (New, &of_new, None, "", false),
            (New, &of_new, Some(&reads_old), "", false),
            (New, &of_old, None, "cert-manager has not issued from the new CA yet: helm", false),
            (New, &of_old, Some(&reads_old), "cert-manager does not issue from the new CA yet: helm", false),
            (
                New,
                &of_old,
                Some(&reads_new),
                "cert-manager has not issued Certificate builders/c from the new CA yet",
                true,
            ),
            (Former, &of_old, None, "", false),
            (Former, &of_old, Some(&reads_old), "", false),
            (Former, &of_old, Some(&reads_new), "cert-manager still issues from the new CA: helm", false),
            (Former, &of_new, Some(&reads_new), "cert-manager still issues from the new CA: helm", false),
            (Former, &of_new, None, "the agent's certificate is still issued by the new CA: helm", false),
            (Former, &of_new, Some(&reads_old), "the agent's certificate is still issued by the new CA: helm", true),
        ] {
            let found = pending(toward, &staged, pair, issuance, "helm");
            let expected = (!why.is_empty()).then(|| Pending { why: why.to_owned(), orders });
            assert_eq!(found, expected, "{toward:?}");
        }
        assert!(is_reissued(&staged, &of_new, None) && is_reissued(&staged, &of_old, Some(&reads_new)));
        assert!(!is_reissued(&staged, &of_old, Some(&reads_old)) && !is_reissued(&staged, &of_old, None));
    }

    #[test]
    fn the_agents_secret_is_written_only_as_it_was_left() {
        let old = root("old", now());
        let own = staged(&rotation(), Issuer::Own, &old, &[]);
        let text = |key: &str| own.secret.text(key).to_string();
        let of_old =
            stored(&pair_secret("s", &PemPair { certificate: text("old.crt"), key: text("old.key").into() }, ""));
        let of_new = stored(&new_pair(&own));
        let foreign = stored(&pair_secret("s", &leaf("id", &old, now()), ""));
        assert_eq!(put_new(&own, None).unwrap(), Put::New);
        assert_eq!(put_new(&own, Some(&of_new)).unwrap(), Put::Nothing);
        assert_eq!(put_new(&own, Some(&of_old)).unwrap(), Put::Over);
        assert!(matches!(put_new(&own, Some(&foreign)), Err(Error::Meddled { secret }) if secret == "builders/s"));
        assert_eq!(put_old(&own, None), Put::New);
        assert_eq!(put_old(&own, Some(&of_old)), Put::Nothing);
        assert_eq!(put_old(&own, Some(&of_new)), Put::Over);
        assert_eq!(put_old(&own, Some(&foreign)), Put::Over, "a meddled one goes back to what it was");
        assert!(is_rewritten(&own, None) && is_rewritten(&own, Some(&of_new)) && !is_rewritten(&own, Some(&of_old)));
        let moved = Staged { to: "another".into(), ..staged(&rotation(), Issuer::Own, &old, &[]) };
        assert_eq!(put_old(&moved, Some(&foreign)), Put::Nothing, "nothing was written into that");
        assert!(!is_rewritten(&moved, None));
        let mounted = |secret: &str, revision: Option<&str>| {
            let mut agent = agent(BUILD, "agent", "id", secret);
            agent.revision = revision.map(str::to_owned);
            is_restarted(&own, &agent)
        };
        assert!(!mounted("s", None) && mounted("other", None) && mounted("s", Some("s@2")));
    }

    #[test]
    fn there_is_a_way_back_only_to_what_the_planes_trusted() {
        let (old, other) = (root("old", now()), root("other", now()));
        let of = |issuer, ca: &str| staged(&rotation(), issuer, &old, &[trustee("p", ca)]);
        let trusted = of(Issuer::Own, &old.certificate);
        assert!(refuse_dead_end(&trusted, None, now()).is_ok());
        let later = now() + jiff::SignedDuration::from_hours(24 * 366);
        assert!(matches!(refuse_dead_end(&trusted, None, later), Err(Error::NoWayBack { .. })), "it has expired");
        let refused = refuse_dead_end(&of(Issuer::Own, &other.certificate), None, now());
        assert!(matches!(refused, Err(Error::NoWayBack { .. })));
        let nobody = refuse_dead_end(&staged(&rotation(), Issuer::Own, &old, &[]), None, now());
        assert!(matches!(nobody, Err(Error::NoWayBack { why }) if why == "no plane trusted it"));
        // What the former Secret holds now is what the agent goes back to, where it was moved to another one.
        let moved = Staged { to: "another".into(), ..of(Issuer::Own, &other.certificate) };
        let held = stored(&pair_secret("s", &leaf("id", &other, now()), ""));
        assert!(refuse_dead_end(&moved, Some(&held), now()).is_ok());
        let pinned = of(Issuer::CertManager, &trusted.secret.text("old.crt"));
        assert!(matches!(refuse_pinned(&pinned, now()), Err(Error::NoWayBack { .. })));
        assert!(refuse_pinned(&of(Issuer::CertManager, &old.certificate), now()).is_ok());
    }

    #[test]
    fn the_old_ca_stays_while_a_secret_a_pod_or_another_agent_needs_it() {
        let old = root("old", now());
        let staged = staged(&rotation(), Issuer::Own, &old, &[]);
        let (secret_old, secret_new) = (pair_secret("s", &leaf("id", &old, now()), ""), new_pair(&staged));
        let pod = |revision: Option<String>| AgentPod {
            name: "pod".into(),
            plane_id: None,
            revision,
            restarted: None,
            waiting: None,
            started: Some(now() - jiff::SignedDuration::from_hours(1)),
            restarts: 0,
            ended: None,
        };
        let needed = |secret: &Value, pods: &[AgentPod]| {
            refuse_needed(&staged, &stored(secret), &pair(secret), pods, now()).err().map(|error| error.to_string())
        };
        assert_eq!(needed(&secret_new, &[]), None);
        assert!(
            needed(&secret_old, &[])
                .unwrap()
                .contains("the new CA does not authorize the certificate in Secret builders/s")
        );
        assert!(
            needed(&secret_new, &[pod(None)]).unwrap().contains("pod pod may have started with the former certificate")
        );
        assert_eq!(needed(&secret_new, &[pod(Some(stored(&secret_new).revision()))]), None);

        let counted = |connected: Value| {
            let mut object = plane_object("p", "id", "", now());
            object["status"]["agentConnection"] = connected;
            uncounted(&plane(&object), 1, now())
        };
        let of = |connected: bool, agents: i32| json!({"connected": connected, "connectedAgents": agents, "lastHeartbeatTime": now().to_string()});
        assert_eq!(counted(of(true, 1)), None);
        assert_eq!(counted(of(false, 5)), None);
        assert_eq!(
            counted(of(true, 2)).unwrap(),
            "the control plane reports 2 agents with planeID id, but 1 are running in this cluster"
        );
        assert!(counted(Value::Null).unwrap().starts_with("the control plane has no recent report on the agents"));
        let stale = json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-11-22T11:00:00Z"});
        assert!(counted(stale).is_some());
    }

    #[test]
    fn what_planes_trust_in_the_end_is_reported_with_what_stays() {
        let (new, other) = (root("new", now()), root("other", now()));
        let ders = pki::certificates(&new.certificate);
        let alone = trusted(&trustee("p", &new.certificate), &ders);
        assert!(alone.starts_with("p trusts ") && alone.contains("new until 2027-11-22") && !alone.contains(';'));
        let both = trusted(&trustee("p", &format!("{}{}", other.certificate, new.certificate)), &ders);
        assert!(both.contains("; it also trusts ") && both.contains("other until 2027-11-22, which did not issue"));
    }
}
