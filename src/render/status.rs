//! The fleet in one screen: how many planes are how, which of them need attention, and what comes next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{identity_json, redacted_json};
use crate::doctor::{Break, Checked, Hint, Reason, Status, is_healthy, root_cause};
use crate::paint;
use crate::plane::{PlaneKey, State, age};
use crate::text::{count, program, visible};

/// How many dates are shown.
const NEXT: usize = 5;

/// A plane, and what its checks and its forecast say.
pub struct Member {
    pub key: PlaneKey,
    pub state: State,
    pub checked: Vec<Checked>,
    pub breaks: Vec<Break>,
    /// Whether the cluster of its agent is known.
    pub has_cluster: bool,
}

pub struct Fleet {
    pub members: Vec<Member>,
    /// What is true for all planes.
    pub ground: Vec<Checked>,
    pub now: Timestamp,
    /// Whether it was read from files.
    pub is_of_files: bool,
}

impl Member {
    /// The reason why it needs attention: its root cause, or what is unknown and would come before that.
    fn reason(&self) -> Option<&Checked> {
        let cause = root_cause(&self.checked);
        let unknown = self.checked.iter().find(|one| one.outcome.unknown).filter(|_| !is_healthy(&self.checked));
        // They are in the order of cause.
        let place = |wanted: &Checked| self.checked.iter().position(|one| std::ptr::eq(one, wanted));
        match (cause, unknown) {
            (Some(cause), Some(unknown)) if place(unknown) < place(cause) => Some(unknown),
            (cause, unknown) => cause.or(unknown),
        }
    }

    fn title(&self) -> String {
        visible(&self.key.with_word()).into_owned()
    }
}

impl Fleet {
    /// The planes that need attention, those that are connected last.
    fn attention(&self) -> Vec<(&Member, &Checked)> {
        let mut all: Vec<_> = self.members.iter().filter_map(|member| Some((member, member.reason()?))).collect();
        all.sort_by_key(|(member, _)| State::ALL.iter().position(|state| *state == member.state));
        all
    }

    /// How many planes are in each state, without those that need attention.
    fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.reason().is_none()) {
            *states.entry(member.state.name()).or_default() += 1;
        }
        states
    }

    /// The next dates on which planes lose their connection, each with its planes: one certificate may be that of many.
    fn next(&self) -> Vec<(Vec<&Member>, &Break)> {
        let is_ahead = |one: &&Break| one.date > self.now && one.reason != Reason::RunningCertificateUnknown;
        let mut dates = BTreeMap::<&Break, Vec<&Member>>::new();
        for member in &self.members {
            member.breaks.iter().filter(is_ahead).for_each(|one| dates.entry(one).or_default().push(member));
        }
        dates.into_iter().take(NEXT).map(|(one, members)| (members, one)).collect()
    }

    fn problems(&self) -> impl Iterator<Item = &Checked> {
        self.ground.iter().filter(|one| one.outcome.status == Status::Fail || one.outcome.unknown)
    }
}

fn hints(checked: &Checked) -> impl Iterator<Item = &Hint> {
    // The best one is enough for one screen.
    checked.outcome.hints.iter().take(1)
}

/// The counts, the planes that need attention, and the next dates.
pub fn text(fleet: &Fleet) -> String {
    let (attention, next) = (fleet.attention(), fleet.next());
    let mut counts: Vec<_> =
        fleet.states().into_iter().map(|(state, number)| format!("{number} {}", state.to_lowercase())).collect();
    if !attention.is_empty() {
        let verb = if attention.len() == 1 { "needs" } else { "need" };
        counts.push(paint::bad(&format!("{} {verb} attention", attention.len())));
    }
    let outage = next
        .first()
        .map(|(members, first)| format!("; next outage in {}: {}", age(fleet.now, first.date), titles(members)));
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    let mut text = format!("{}: {counts}{}\n", count(fleet.members.len(), "plane"), outage.unwrap_or_default());
    for problem in fleet.problems() {
        let message = visible(&problem.outcome.message);
        text.push_str(&format!(
            "\n{} {message} {}\n",
            paint::bad("control plane:"),
            paint::faint(&format!("[{}]", problem.check.id))
        ));
        hints(problem).for_each(|hint| text.push_str(&line(hint)));
    }
    for (member, reason) in attention {
        let title = paint::strong(&member.title());
        let id = paint::faint(&format!("[{}]", reason.check.id));
        text.push_str(&format!("\n{title}  {}\n    {} {id}\n", member.state.name(), visible(&reason.outcome.message)));
        hints(reason).for_each(|hint| text.push_str(&line(hint)));
    }
    if !next.is_empty() {
        let row = |(members, one): &(Vec<&Member>, &Break)| {
            let date = one.date.strftime("%Y-%m-%d").to_string();
            vec![date, age(fleet.now, one.date), titles(members), visible(&one.message).into_owned()]
        };
        text.push_str(&format!("\n{}", super::columns(Some(&["NEXT", "IN", "PLANE", "WHAT"]), next.iter().map(row))));
    }
    let unknown: Vec<_> = fleet.members.iter().filter(|member| !member.has_cluster).collect();
    if let Some(first) = unknown.first() {
        let agents = format!("\nnot checked: the agents of {}", count(unknown.len(), "plane"));
        text.push_str(&program(&match fleet.is_of_files {
            true => format!("{agents}, whose objects are not in the files\n"),
            false => {
                let words = first.key.words();
                format!("{agents}, whose clusters are unknown: choreoctl config set {words} --plane-context CONTEXT\n")
            }
        }));
    }
    text
}

/// The first of some planes, and how many more there are.
fn titles(members: &[&Member]) -> String {
    let first = members.first().map(|first| first.title()).unwrap_or_default();
    match members.len().saturating_sub(1) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn line(hint: &Hint) -> String {
    format!("    {} {}\n", paint::good(&format!("{}:", hint.label())), program(hint.text()))
}

/// The same as one object.
pub fn json(fleet: &Fleet) -> Value {
    let mut states = BTreeMap::<&str, usize>::new();
    fleet.members.iter().for_each(|member| *states.entry(member.state.name()).or_default() += 1);
    let attention = fleet.attention().into_iter().map(|(member, reason)| {
        let rest = json!({
            "state": member.state.name(),
            "rootCause": reason.check.id,
            "message": reason.outcome.message,
            "hints": reason.outcome.hints,
        });
        identity_json(&member.key, rest)
    });
    let next = fleet.next().into_iter().map(|(members, one)| {
        let planes: Vec<_> = members.iter().map(|member| identity_json(&member.key, json!({}))).collect();
        json!({"date": one.date, "reason": one.reason, "message": one.message, "planes": planes})
    });
    let problems = fleet.problems().map(|one| json!({"id": one.check.id, "message": one.outcome.message}));
    redacted_json(json!({
        "planes": fleet.members.len(),
        "states": states,
        "attention": attention.collect::<Vec<_>>(),
        "next": next.collect::<Vec<_>>(),
        "controlPlane": problems.collect::<Vec<_>>(),
        "notChecked": fleet.members.iter().filter(|member| !member.has_cluster).count(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{CHECKS, Outcome};

    fn member(name: &str, state: State, outcome: Option<Outcome>, dates: &[&str]) -> Member {
        let checked = outcome.into_iter().map(|outcome| Checked { check: &CHECKS[5], outcome }).collect();
        let date = |date: &&str| Break {
            date: date.parse().unwrap(),
            reason: Reason::CaExpires,
            message: "the CA expires".into(),
        };
        Member {
            key: PlaneKey { name: name.into(), ..PlaneKey::default() },
            state,
            checked,
            breaks: dates.iter().map(date).collect(),
            has_cluster: name != "lost",
        }
    }

    #[test]
    fn what_needs_attention_comes_first_and_what_is_well_is_counted() {
        let failed = |text: &str| Some(Outcome::reported(Status::Fail, text, Some("choreoctl certs rotate a")));
        let fleet = Fleet {
            members: vec![
                member("well", State::Connected, None, &["2026-02-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
                member("late", State::Late, None, &["2025-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
                member("pinned", State::Connected, failed("the plane refuses its agent"), &["2026-01-13T00:00:00Z"]),
                member("lost", State::Disconnected, failed("no agent"), &[]),
            ],
            ground: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            is_of_files: false,
        };
        snapbox::assert_data_eq!(
            text(&fleet),
            snapbox::str![[r#"
4 planes: 1 connected, 1 late, [31m2 need attention[0m; next outage in 12d: cbp/pinned

[1mcbp/lost[0m  Disconnected
    no agent [2m[client-ca-readable][0m
    [32mfix:[0m choreoctl certs rotate a

[1mcbp/pinned[0m  Connected
    the plane refuses its agent [2m[client-ca-readable][0m
    [32mfix:[0m choreoctl certs rotate a

NEXT        IN    PLANE                WHAT
2026-01-13  12d   cbp/pinned           the CA expires
2026-02-01  31d   cbp/well and 1 more  the CA expires
2027-01-01  365d  cbp/well             the CA expires

not checked: the agents of 1 plane, whose clusters are unknown: choreoctl config set lost --plane-context CONTEXT

"#]]
        );
        let json = json(&fleet);
        assert_eq!(
            (&json["planes"], &json["states"]["Connected"], &json["notChecked"]),
            (&4.into(), &2.into(), &1.into())
        );
        assert_eq!(json["attention"][0]["rootCause"], "client-ca-readable");
        assert_eq!(json["next"].as_array().unwrap().len(), 3);
        let none = Fleet { members: Vec::new(), ground: Vec::new(), now: fleet.now, is_of_files: false };
        assert_eq!(text(&none), "0 planes: none\n");
    }
}
