//! A diagnosis in words, as a table over many planes, and as the JSON that scripts rely on.

use serde_json::{Value, json};

use super::{NONE, cell, columns, cut, redacted_json};
use crate::doctor::{Checked, Status, is_healthy, root_cause};
use crate::term::{paint, visible};

/// Widest message in the table.
const MESSAGE: usize = 80;

/// A plane and what its checks said.
pub struct Diagnosed {
    pub name: String,
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

fn verdict(checked: &[Checked]) -> String {
    match root_cause(checked) {
        Some(_) => paint::bad("not healthy"),
        None if is_healthy(checked) => paint::good("healthy"),
        None => paint::warning("not known"),
    }
}

/// One plane in full: the cause first, then every check.
pub fn text(plane: &Diagnosed) -> String {
    let mut text = format!("{}: {}\n", paint::strong(&visible(&plane.name)), verdict(&plane.checked));
    if let Some(cause) = root_cause(&plane.checked) {
        text.push_str(&format!("\nThe cause: {} [{}]\n", visible(&cause.outcome.message), cause.check.id));
        if let Some(hint) = &cause.outcome.hint {
            text.push_str(&format!("{} {}\n", paint::good("hint:"), visible(hint)));
        }
    }
    text + "\n" + &list(&plane.checked)
}

/// Checks, a line each; those that were skipped for one and the same reason share theirs.
pub fn list(checked: &[Checked]) -> String {
    let mut text = String::new();
    let width = checked.iter().map(|one| one.check.id.len()).max().unwrap_or_default();
    let cause = root_cause(checked).map(|one| one.check.id);
    let same = |one: &Checked, other: &Checked| {
        let skipped = |one: &Checked| one.outcome.status == Status::Skip;
        skipped(one) && skipped(other) && one.outcome.message == other.outcome.message
    };
    for group in checked.chunk_by(same) {
        let [one, others @ ..] = group else {
            continue;
        };
        let id = one.check.id;
        text.push_str(&format!("  {}  {id:<width$}  {}\n", word(one.outcome.status), visible(&one.outcome.message)));
        if !others.is_empty() {
            let ids: Vec<_> = others.iter().map(|one| one.check.id).collect();
            text.push_str(&format!("        {:<width$}  so, too: {}\n", "", ids.join(", ")));
        }
        if let Some(hint) = one.outcome.hint.as_ref().filter(|_| one.is_problem() && cause != Some(id)) {
            text.push_str(&format!("        {:<width$}  {} {}\n", "", paint::good("hint:"), visible(hint)));
        }
    }
    text
}

/// Several planes, a row each, problems first.
pub fn table(planes: &[Diagnosed]) -> String {
    let rank = |plane: &&Diagnosed| match root_cause(&plane.checked) {
        Some(_) => 0,
        None if !is_healthy(&plane.checked) => 1,
        None => 2,
    };
    let mut sorted: Vec<_> = planes.iter().collect();
    sorted.sort_by_key(rank);
    let rows = sorted.into_iter().map(|plane| {
        let warnings = plane.checked.iter().filter(|one| one.outcome.status == Status::Warn).count();
        let cause = root_cause(&plane.checked);
        vec![
            cell(&plane.name),
            verdict(&plane.checked),
            cause.map_or_else(|| NONE.into(), |cause| cause.check.id.to_owned()),
            warnings.to_string(),
            cause.map_or_else(|| NONE.into(), |cause| cut(&cause.outcome.message, MESSAGE)),
        ]
    });
    columns(Some(&["NAME", "VERDICT", "ROOT-CAUSE", "WARNINGS", "MESSAGE"]), rows)
}

/// All of them as one object; `ground` are the checks that are about no plane.
pub fn json(ground: &[Checked], planes: &[Diagnosed], healthy: bool) -> Value {
    let one = |one: &Checked| {
        json!({
            "id": one.check.id,
            "status": one.outcome.status,
            "message": one.outcome.message,
            "hint": one.outcome.hint,
        })
    };
    let plane = |plane: &Diagnosed| {
        json!({
            "name": plane.name,
            "healthy": is_healthy(&plane.checked),
            "rootCause": root_cause(&plane.checked).map(|cause| cause.check.id),
            "checks": plane.checked.iter().filter(|one| !one.check.is_of_ground()).map(one).collect::<Vec<_>>(),
        })
    };
    let planes: Vec<_> = planes.iter().map(plane).collect();
    let ground: Vec<_> = ground.iter().map(one).collect();
    redacted_json(json!({"healthy": healthy, "checks": ground, "planes": planes}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{CHECKS, Outcome};

    fn diagnosed(name: &str, outcomes: &[(&str, Status, &str, Option<&str>)]) -> Diagnosed {
        let checked = outcomes.iter().map(|(id, status, message, hint)| Checked {
            check: CHECKS.iter().find(|check| check.id == *id).unwrap(),
            outcome: Outcome::told(*status, message, *hint),
        });
        Diagnosed { name: name.into(), checked: checked.collect() }
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
                ("gateway-answer", Status::Skip, "hangs on agent-trusted", None),
            ],
        );
        let shown = anstream::adapter::strip_str(&text(&sick)).to_string();
        let expected = "\
sick: not healthy

The cause: it presents none\\u{1b}[2J [agent-tls]
hint: helm upgrade

  pass  client-ca-usable  1 of 1 certificates let agents in
  warn  ca-shared         b has it, too
                          hint: choreoctl certs rotate sick
  FAIL  agent-tls         it presents none\\u{1b}[2J
  FAIL  agent-trusted     refused
  skip  gateway-answer    hangs on agent-trusted
";
        assert_eq!(shown, expected);
        let well = diagnosed("well", &[("client-ca-usable", Status::Pass, "", None)]);
        let object = json(&[], &[well, sick], false);
        assert_eq!(
            (&object["planes"][0]["healthy"], &object["planes"][1]["rootCause"]),
            (&json!(true), &json!("agent-tls"))
        );
        let well = diagnosed("well", &[("client-ca-usable", Status::Pass, "", None)]);
        let sick = diagnosed("sick", &[("agent-tls", Status::Fail, "none", None)]);
        let rows = anstream::adapter::strip_str(&table(&[well, sick])).to_string();
        let expected = "\
NAME  VERDICT      ROOT-CAUSE  WARNINGS  MESSAGE
sick  not healthy  agent-tls   0         none
well  healthy      -           0         -
";
        assert_eq!(rows, expected);
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
