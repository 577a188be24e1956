//! A diagnosis in words, as a table over many planes, and as the JSON that scripts rely on.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Identity, NONE, PlanesJson, columns, cut, identity_json};
use crate::doctor::{Checked, Hint, Status, is_healthy, root_cause, unchecked, warnings};
use crate::paint;
use crate::plane::PlaneKey;
use crate::text::visible;

/// Widest message in the table.
const MESSAGE: usize = 80;

/// A plane and what its checks said.
pub struct Diagnosed {
    pub key: PlaneKey,
    pub checked: Vec<Checked>,
}

fn word(status: Status) -> String {
    match status {
        Status::Pass => paint::good("pass"),
        Status::Warn => paint::warning("warn"),
        Status::Fail => paint::bad("FAIL"),
        Status::Skip => paint::faint("skip"),
    }
}

/// Whether the plane is healthy, as far as it was looked at.
fn verdict(checked: &[Checked]) -> String {
    match root_cause(checked) {
        Some(_) => paint::bad("not healthy"),
        None if !is_healthy(checked) => paint::warning("not known"),
        None if unchecked(checked).is_empty() => paint::good("healthy"),
        None => paint::good("healthy as far as checked"),
    }
}

/// Why something was left out, in a list.
fn reasons(checked: &[Checked]) -> Vec<String> {
    unchecked(checked).iter().map(ToString::to_string).collect()
}

/// The verdict with the number of warnings, and with what was left out.
fn sentence(checked: &[Checked]) -> String {
    let warnings = match warnings(checked).count() {
        0 => String::new(),
        1 => ", 1 warning".into(),
        count => format!(", {count} warnings"),
    };
    let reasons = if root_cause(checked).is_some() { Vec::new() } else { reasons(checked) };
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
    format!("{}{warnings}{reasons}", verdict(checked))
}

/// One plane: what fails and warns, with `all` every check, and the verdict with its cause last.
pub fn text(plane: &Diagnosed, all: bool) -> String {
    let mut text = list(&plane.checked, all);
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("{}: {}\n", paint::strong(&visible(&plane.key.to_string())), sentence(&plane.checked)));
    if let Some(cause) = root_cause(&plane.checked) {
        let id = paint::faint(&format!("[{}]", cause.check.id));
        text.push_str(&format!("{} {} {id}\n", paint::bad("cause:"), visible(&cause.outcome.message)));
        text.push_str(&extras(cause, ""));
    }
    text
}

/// Checks by where they look, with `all` also those that passed or were skipped.
pub fn list(checked: &[Checked], all: bool) -> String {
    let shown: Vec<_> = checked.iter().filter(|one| all || one.is_problem()).collect();
    let width = shown.iter().map(|one| one.check.id.len()).max().unwrap_or_default();
    let indent = " ".repeat(width + 10);
    let cause = root_cause(checked).map(|one| one.check.id);
    let mut text = String::new();
    for group in shown.chunk_by(|one, other| one.check.group() == other.check.group()) {
        let title = group.first().map(|one| one.check.group().title()).unwrap_or_default();
        text.push_str(&format!("{}\n", paint::strong(title)));
        for alike in group.chunk_by(|one, other| is_skipped_alike(one, other)) {
            let Some((one, others)) = alike.split_first() else {
                continue;
            };
            let (id, outcome) = (one.check.id, &one.outcome);
            text.push_str(&format!("  {}  {id:<width$}  {}\n", word(outcome.status), visible(&outcome.message)));
            if !others.is_empty() {
                let ids: Vec<_> = others.iter().map(|one| one.check.id).collect();
                text.push_str(&format!("{indent}also skipped: {}\n", ids.join(", ")));
            }
            // Those of the cause are below the verdict.
            if one.is_problem() && cause != Some(id) {
                text.push_str(&extras(one, &indent));
            }
        }
    }
    let count = |status| checked.iter().filter(|one| one.outcome.status == status).count();
    let (passed, skipped) = (count(Status::Pass), count(Status::Skip));
    if !all {
        let noun = if passed == 1 { "check" } else { "checks" };
        let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
        text.push_str(&paint::faint(&format!("{passed} {noun} passed{skipped} (-v lists them)\n")));
    }
    text
}

/// The details and hints of a check, a line each.
fn extras(one: &Checked, indent: &str) -> String {
    let details = one.outcome.details.iter().map(|detail| format!("- {}", visible(detail)));
    // A hint may be a command of several lines, and is to be pasted as it is.
    let hints = one.outcome.hints.iter().map(|hint| {
        let lines: Vec<_> = hint.text().lines().map(|line| visible(line).into_owned()).collect();
        format!("{} {}", paint::good(&format!("{}:", hint.label())), lines.join("\n"))
    });
    details.chain(hints).map(|line| format!("{indent}{line}\n")).collect()
}

fn is_skipped_alike(one: &Checked, other: &Checked) -> bool {
    let skipped = |one: &Checked| one.outcome.status == Status::Skip;
    skipped(one) && skipped(other) && one.outcome.message == other.outcome.message
}

/// Several planes, a row each, problems first.
pub fn table(planes: &[Diagnosed]) -> String {
    let rank = |plane: &&Diagnosed| match root_cause(&plane.checked) {
        Some(_) => 0,
        None if !is_healthy(&plane.checked) => 1,
        None => 2,
    };
    let identity = Identity::of(planes.iter().map(|plane| &plane.key));
    let mut sorted: Vec<_> = planes.iter().collect();
    sorted.sort_by_key(rank);
    let rows = sorted.into_iter().map(|plane| {
        let cause = root_cause(&plane.checked);
        let cells = [
            verdict(&plane.checked),
            cause.map_or_else(|| NONE.into(), |cause| cause.check.id.to_owned()),
            warnings(&plane.checked).count().to_string(),
            cause.map_or_else(|| NONE.into(), |cause| cut(&cause.outcome.message, MESSAGE)),
        ];
        identity.cells(&plane.key).into_iter().chain(cells).collect()
    });
    let titles = identity.titles().into_iter().chain(["VERDICT", "ROOT-CAUSE", "WARNINGS", "MESSAGE"]);
    let table = columns(Some(&titles.collect::<Vec<_>>()), rows);
    let reasons: BTreeSet<_> = planes.iter().flat_map(|plane| unchecked(&plane.checked)).collect();
    let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    if reasons.is_empty() { table } else { format!("{table}\nnot checked: {}\n", reasons.join("; ")) }
}

/// All of them as one object; `ground` are the checks that are about no plane.
pub fn json<'p>(ground: &[Checked], planes: &'p [Diagnosed], healthy: bool) -> PlanesJson<'p, Diagnosed> {
    let ground: Vec<_> = ground.iter().map(check_json).collect();
    PlanesJson { before: vec![("healthy", healthy.into()), ("checks", ground.into())], planes, json: plane_json }
}

fn check_json(one: &Checked) -> Value {
    let outcome = &one.outcome;
    json!({
        "id": one.check.id,
        "group": one.check.group().title(),
        "status": outcome.status,
        "message": outcome.message,
        "details": outcome.details,
        "hint": outcome.hints.first().map(Hint::text),
        "hints": outcome.hints,
        "unchecked": outcome.unchecked.map(|why| why.to_string()),
    })
}

fn plane_json(plane: &Diagnosed) -> Value {
    let checks = plane.checked.iter().filter(|one| !one.check.is_of_ground());
    let verdict = json!({
        "healthy": is_healthy(&plane.checked),
        "rootCause": root_cause(&plane.checked).map(|cause| cause.check.id),
        "warnings": warnings(&plane.checked).map(|one| one.check.id).collect::<Vec<_>>(),
        "unchecked": reasons(&plane.checked),
        "checks": checks.map(check_json).collect::<Vec<_>>(),
    });
    identity_json(&plane.key, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{CHECKS, Outcome, Unchecked};

    fn diagnosed(name: &str, outcomes: &[(&str, Status, &str, Option<&str>)]) -> Diagnosed {
        let checked = outcomes.iter().map(|(id, status, message, hint)| Checked {
            check: CHECKS.iter().find(|check| check.id == *id).unwrap(),
            outcome: Outcome::reported(*status, message, *hint),
        });
        let key = PlaneKey { name: name.into(), ..PlaneKey::default() };
        Diagnosed { key, checked: checked.collect() }
    }

    #[test]
    fn the_cause_comes_first() {
        let sick = diagnosed(
            "sick",
            &[
                ("client-ca-usable", Status::Pass, "1 of 1 certificates let agents in", None),
                ("ca-shared", Status::Warn, "b has it, too", Some("choreoctl certs rotate sick")),
                ("agent-tls", Status::Fail, "it presents none\u{1b}[2J", Some("helm upgrade")),
                ("agent-trusted", Status::Fail, "refused", None),
                ("gateway-clock", Status::Skip, "depends on agent-trusted", None),
                ("gateway-answer", Status::Skip, "depends on agent-trusted", None),
            ],
        );
        let shown = crate::render::plain(&text(&sick, false));
        let expected = "\
control plane
  warn  ca-shared      b has it, too
                       fix: choreoctl certs rotate sick
agent
  FAIL  agent-tls      it presents none\\u{1b}[2J
  FAIL  agent-trusted  refused
1 check passed, 2 skipped (-v lists them)

sick: not healthy, 1 warning
cause: it presents none\\u{1b}[2J [agent-tls]
fix: helm upgrade
";
        assert_eq!(shown, expected);
        let shown = crate::render::plain(&list(&sick.checked, true));
        let expected = "\
gateway
  skip  gateway-clock     depends on agent-trusted
                          also skipped: gateway-answer
";
        assert!(
            shown.starts_with("control plane\n  pass  client-ca-usable  1 of 1") && shown.ends_with(expected),
            "{shown}"
        );
        let well = diagnosed("well", &[("client-ca-usable", Status::Pass, "", None)]);
        let object = serde_json::to_value(json(&[], &[well, sick], false)).unwrap();
        assert_eq!(
            (&object["planes"][0]["healthy"], &object["planes"][1]["rootCause"]),
            (&json!(true), &json!("agent-tls"))
        );
        let well = diagnosed("well", &[("client-ca-usable", Status::Pass, "", None)]);
        let sick = diagnosed("sick", &[("agent-tls", Status::Fail, "none", None)]);
        let rows = crate::render::plain(&table(&[well, sick]));
        let expected = "\
NAME  VERDICT      ROOT-CAUSE  WARNINGS  MESSAGE
sick  not healthy  agent-tls   0         none
well  healthy      -           0         -
";
        assert_eq!(rows, expected);
    }

    #[test]
    fn healthy_is_said_only_of_what_was_checked() {
        let reported = |outcomes: &[(&str, Status)], left_out: &[Unchecked]| {
            let outcomes: Vec<_> = outcomes.iter().map(|(id, status)| (*id, *status, "", None)).collect();
            let mut plane = diagnosed("p", &outcomes);
            for (one, why) in plane.checked.iter_mut().zip(left_out) {
                one.outcome.unchecked = Some(*why);
            }
            crate::render::plain(&sentence(&plane.checked))
        };
        let (pass, warn, fail, skip) = (Status::Pass, Status::Warn, Status::Fail, Status::Skip);
        assert_eq!(reported(&[("crd", pass)], &[]), "healthy");
        assert_eq!(reported(&[("crd", pass), ("rights", warn), ("ca-shared", warn)], &[]), "healthy, 2 warnings");
        assert_eq!(
            reported(&[("agent-exists", skip), ("agent-tls", skip), ("rights", warn)], &[Unchecked::AgentCluster; 2]),
            "healthy as far as checked, 1 warning: the plane's cluster was not given"
        );
        assert_eq!(
            reported(
                &[("gateway-answer", skip), ("agent-exists", skip)],
                &[Unchecked::Gateway, Unchecked::AgentCluster]
            ),
            "healthy as far as checked: the plane's cluster was not given; the gateway was not contacted"
        );
        assert_eq!(reported(&[("agent-exists", skip), ("crd", fail)], &[Unchecked::AgentCluster]), "not healthy");
    }

    #[test]
    fn each_check_needs_only_those_before_it() {
        for (index, check) in CHECKS.iter().enumerate() {
            let before = |need: &&&str| CHECKS[..index].iter().any(|other| other.id == **need);
            assert_eq!(check.needs.iter().filter(before).count(), check.needs.len(), "{}", check.id);
            assert!(!check.about.is_empty() && check.why.ends_with('.'), "{}", check.id);
        }
    }
}
