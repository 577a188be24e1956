//! What happens at a request of a command that writes in several steps: it is killed, answers get lost, the server fails,
//! or a second operator runs a command of his own. Afterwards the next run finishes, and no agent was refused.
//!
//! SIEGE=long tries 200 moments of each command, and 20 second operators.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::control_plane::{ControlPlane, Output, finish};
use super::estate::{Estate, SECRET};
use super::gate::{Act, Gate, Passage};
use super::hints::shell;
use super::{bootstrap, migration, rotation, unregister};

stories!(
    Go:
        a_rotation_is_finished_after_any_moment,
        a_rollback_is_finished_after_any_moment,
        a_renewal_is_finished_after_any_moment,
        a_restart_is_finished_after_any_moment,
        a_registration_is_finished_after_any_moment,
        a_removal_is_finished_after_any_moment,
        a_migration_is_finished_after_any_moment,
        two_rotate_at_once,
        one_renews_what_another_rotates,
        two_register_at_once,
        two_migrate_at_once;
);

/// What is tried in turn.
const ACTS: [Act; 8] = [
    Act::Kill,
    Act::KillAnswered,
    Act::Lose,
    Act::KillAnswered,
    Act::Cut,
    Act::Answer("500 Internal Server Error"),
    Act::Kill,
    Act::Answer("401 Unauthorized"),
];

const ROTATE: &str = "choreoctl certs rotate a --yes --timeout 60s";
const RENEW: &str = "choreoctl certs renew a --ca-dir old --yes --timeout 60s";

/// How many moments of a command are tried.
fn moments() -> usize {
    if crate::is_long() { 200 } else { ACTS.len() }
}

/// How many second operators there are for a command.
fn operators() -> usize {
    if crate::is_long() { 20 } else { 2 }
}

/// A command line of a shell whose commands go through the gate.
fn command(at: &Estate, line: &str) -> Command {
    let gate = |at: &ControlPlane| at.path().join("gate.kubeconfig");
    let mut command = shell(at, &format!("exec {line} --plane-kubeconfig {}", gate(&at.build).display()));
    command.env("KUBECONFIG", gate(&at.control));
    command
}

/// One whose commands go to the servers themselves.
fn own_command(at: &Estate, line: &str) -> Command {
    shell(at, &format!("exec {line} --plane-kubeconfig {}", at.build.kubeconfig().display()))
}

fn direct(at: &Estate, line: &str) -> Output {
    finish(own_command(at, line), "")
}

/// Runs a command line again and again, each time with something else at another one of its requests. What comes before a
/// run gets the gate and the run's number; what comes after it what was done, and whether the run said that it succeeded.
fn at_any_moment(
    at: &mut Estate,
    before: impl Fn(&mut Estate, &Gate, usize),
    line: &str,
    after: impl Fn(&mut Estate, &str, bool),
) {
    let gate = Gate::before(&[&at.control, &at.build]);
    before(at, &gate, 0);
    let whole = gate.run(command(at, line), |_| Act::Pass);
    assert_eq!(whole.output.code, 0, "{:#?}", whole.output);
    after(at, "a whole run", true);
    let (mut killed, mut failed) = (0, 0);
    for moment in 0..moments() {
        let number = 1 + moment * whole.requests / moments();
        let act = ACTS[moment % ACTS.len()];
        before(at, &gate, moment);
        let Passage { output, requests } = gate.run(command(at, line), only(number, act));
        let what = format!("{line}: {act:?} at request {number} of {requests}: {output:#?}");
        match output.code {
            -1 => killed += 1,
            0 => {}
            _ => {
                failed += 1;
                is_honest(&output, &what);
            }
        }
        after(at, &what, output.code == 0);
    }
    println!("{line}: {} requests, {} moments, {killed} killed, {failed} failed", whole.requests, moments());
}

/// Does something at one request.
fn only(number: usize, act: Act) -> impl Fn(usize) -> Act {
    move |request| if request == number { act } else { Act::Pass }
}

/// Fails where a command did not report its failure.
#[track_caller]
fn is_honest(output: &Output, what: &str) {
    assert!(matches!(output.code, 1 | 2 | 3 | 124) && output.stderr.contains("error: "), "{what}");
    assert!(!output.stderr.contains("panicked"), "{what}");
}

/// Runs a command line to its end, unless that has been reached.
fn finished(at: &Estate, is_done: bool, line: &str, what: &str) {
    if !is_done {
        let reported = direct(at, line);
        assert_eq!(reported.code, 0, "{what} {reported:#?}");
    }
}

const STAGING: &str = "choreoctl-rotation-shared";

pub fn a_rotation_is_finished_after_any_moment() {
    let mut at = rotation::three_planes();
    let old = Mutex::new(String::new());
    at_any_moment(
        &mut at,
        |at, _, _| *old.lock().unwrap() = at.value("a"),
        &format!("{ROTATE} --again"),
        |at, what, is_done| {
            let made = at.secrets().contains(STAGING).then(|| at.secret(STAGING)["ca.crt"].clone());
            let is_new = at.value("a") != *old.lock().unwrap();
            assert!(!is_done || (made.is_none() && is_new), "not finished: {what}");
            let again = if made.is_some() || is_new { "" } else { " --again" };
            finished(at, is_done, &format!("{ROTATE}{again}"), what);
            let new = rotation::rotated(at, &old.lock().unwrap());
            assert!(made.is_none_or(|made| made == new), "a second CA was made: {what}");
            at.nobody_was_refused();
        },
    );
}

/// The rotation, too, is killed at another moment each time, before its last stage.
pub fn a_rollback_is_finished_after_any_moment() {
    let mut at = rotation::three_planes();
    let (by_value, by_secret, pair) = (at.value("a"), rotation::of_secret(&at), at.secret(SECRET));
    let line = format!("{ROTATE} --rollback");
    direct(&at, &line).expect(0);
    let requests = AtomicUsize::new(0);
    at_any_moment(
        &mut at,
        |at, gate, moment| {
            let until_switch = command(at, &format!("{ROTATE} --again --until switch"));
            match requests.load(Ordering::Relaxed) {
                0 => {
                    let whole = gate.run(until_switch, |_| Act::Pass);
                    assert_eq!(whole.output.code, 0, "{:#?}", whole.output);
                    requests.store(whole.requests, Ordering::Relaxed);
                }
                requests => {
                    let number = requests - moment * requests / moments();
                    gate.run(until_switch, only(number, Act::KillAnswered));
                }
            }
        },
        &line,
        |at, what, is_done| {
            finished(at, is_done, &line, what);
            assert!(at.value("a") == by_value && rotation::of_secret(at) == by_secret, "{what}");
            assert_eq!(
                (at.secrets().trim(), at.secret(SECRET)),
                (&*format!("secret/{SECRET}"), pair.clone()),
                "{what}"
            );
            at.nobody_was_refused();
        },
    );
}

fn a_renewal_is_finished_after_any_moment() {
    let mut at = rotation::three_planes();
    let is_authorized = |at: &Estate| at.run(&["certs", "verify", "--cert", "agent", "--plane", "a"]).expect(0);
    at_any_moment(
        &mut at,
        |_, _, _| {},
        RENEW,
        |at, what, is_done| {
            // Whatever the Secret has now.
            is_authorized(at);
            finished(at, is_done, RENEW, what);
            is_authorized(at);
            assert_eq!(at.secrets().trim(), format!("secret/{SECRET}"), "{what}");
            at.nobody_was_refused();
        },
    );
}

fn a_restart_is_finished_after_any_moment() {
    let mut at = rotation::three_planes();
    let line = "choreoctl restart a --yes --timeout 60s";
    at_any_moment(
        &mut at,
        |_, _, _| {},
        line,
        |at, what, is_done| {
            finished(at, is_done, line, what);
            at.nobody_was_refused();
        },
    );
}

fn bootstrap_line(at: &Estate) -> String {
    format!(
        "choreoctl bootstrap boot --gateway-url {} --agent-certificate own --out-dir out --yes --timeout 60s",
        bootstrap::url(at)
    )
}

/// Fails unless the plane and the agent have the CA of the folder, and another run has nothing to write.
fn is_registered(at: &Estate, line: &str, what: &str) {
    let ca = at.control.read("out/private/ca.crt");
    assert!(at.value("boot") == ca && at.secret(bootstrap::OWN)["ca.crt"] == ca, "{what}");
    let before = bootstrap::versions(at);
    let reported = direct(at, line);
    assert!(reported.code == 0 && bootstrap::versions(at) == before, "{what} {reported:#?}");
}

pub fn a_registration_is_finished_after_any_moment() {
    let mut at = bootstrap::prepared();
    let line = bootstrap_line(&at);
    at_any_moment(
        &mut at,
        |at, _, _| bootstrap::clear(at),
        &line,
        |at, what, is_done| {
            finished(at, is_done, &line, what);
            is_registered(at, &line, what);
        },
    );
}

pub fn a_removal_is_finished_after_any_moment() {
    let mut at = unregister::empty();
    let before = unregister::both(&at);
    let line = "choreoctl unregister second --plane-namespace second --helm --yes --timeout 60s";
    at_any_moment(
        &mut at,
        |at, _, _| unregister::register_elsewhere(at, "second"),
        line,
        |at, what, is_done| {
            let reported = direct(at, line);
            // Nothing is left to be found where all was done.
            assert!(matches!(reported.code, 0 | 3) && (!is_done || reported.code == 3), "{what} {reported:#?}");
            unregister::finalize(at, "second");
            unregister::returned_to(at, &before);
        },
    );
}

/// What a run has done the next one finds done: each goes on from where the one before was stopped.
fn a_migration_is_finished_after_any_moment() {
    migration::is_migrated_with(|at, more| {
        through(at, &format!("choreoctl migrate --out-dir out {}", migration::words(at, more)))
    });
}

/// Runs a command line again and again, and stops each run at a later request than the one before; the last run, which
/// ended before its request came.
pub fn through(at: &Estate, line: &str) -> Output {
    let gate = Gate::before(&[&at.control, &at.build]);
    let (mut number, mut count) = (1, 0);
    loop {
        let act = ACTS[count % ACTS.len()];
        let Passage { output, requests } = gate.run(command(at, line), only(number, act));
        if requests < number {
            println!("{count} moments: {line}");
            return output;
        }
        // By 1 it says that there is more to do, and what it can do without it does.
        if !matches!(output.code, -1..=1) {
            is_honest(&output, &format!("{act:?} at {number}: {output:#?}"));
        }
        count += 1;
        // A stage is long, and there are five of them.
        number += (2 * requests / moments()).max(1);
    }
}

// Second operators.

/// Runs a command, and while one of its requests is held another one to its end; nothing of that where the first one does
/// not come to that request.
fn held(gate: &Gate, first: Command, number: usize, second: Command) -> (Passage, Option<Output>) {
    let (second, output) = (Mutex::new(Some(second)), Arc::new(Mutex::new(None)));
    let to = output.clone();
    let passage = gate.run(first, move |request| {
        // Other requests of the first one are held, too.
        let mut second = second.lock().unwrap();
        if request == number {
            *to.lock().unwrap() = second.take().map(|second| finish(second, ""));
        }
        Act::Pass
    });
    let output = output.lock().unwrap().take();
    (passage, output)
}

/// Runs a command line again and again; while one of its requests is held, or at the same time as its start, a second
/// operator runs another one to its end. What comes after them gets both outputs.
fn with_a_second_operator(
    at: &mut Estate,
    before: impl Fn(&mut Estate),
    [first, second]: [&str; 2],
    after: impl Fn(&mut Estate, &str, [&Output; 2]),
) {
    let gate = Gate::before(&[&at.control, &at.build]);
    before(at);
    let whole = gate.run(command(at, first), |_| Act::Pass);
    assert_eq!(whole.output.code, 0, "{:#?}", whole.output);
    let (mut lost, count) = ([0, 0], operators());
    for moment in 0..count {
        before(at);
        let number = 1 + (moment + 1) * whole.requests / (count + 2);
        let (how, first_output, second_output) = if moment % 2 == 0 {
            let (passage, other) = held(&gate, command(at, first), number, own_command(at, second));
            (format!("at request {number}"), passage.output, other)
        } else {
            let other = own_command(at, second);
            let other = std::thread::spawn(|| finish(other, ""));
            let output = direct(at, first);
            ("at the same time".into(), output, Some(other.join().unwrap()))
        };
        let Some(second_output) = second_output else { continue };
        let what = format!("{second} {how} of {first}: {first_output:#?} {second_output:#?}");
        for (output, lost) in [&first_output, &second_output].into_iter().zip(&mut lost) {
            if output.code != 0 {
                *lost += 1;
                is_honest(output, &what);
            }
        }
        assert!(first_output.code == 0 || second_output.code == 0, "neither succeeds: {what}");
        after(at, &what, [&first_output, &second_output]);
    }
    println!("{first} and {second}: {count} times, {lost:?} failed");
}

/// Fails unless all planes trust one CA in the end, and the agent was authorized all the time.
fn is_one_ca(at: &mut Estate, what: &str) {
    at.nobody_was_refused();
    let reported = direct(at, ROTATE);
    if reported.code != 0 {
        // Somebody else's certificate is not lost without a word.
        reported.says(&["was changed since the rotation began", "--rollback"]);
        finished(at, false, &format!("{ROTATE} --rollback"), what);
        at.nobody_was_refused();
        finished(at, false, &format!("{ROTATE} --again"), what);
    }
    let ca = at.value("a");
    assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), 1, "{what}");
    assert_eq!(rotation::of_secret(at), ca, "{what}");
    assert_eq!(at.secrets().trim(), format!("secret/{SECRET}"), "{what}");
    at.run(&["certs", "verify", "--cert", "agent", "--plane", "a"]).expect(0);
    at.nobody_was_refused();
}

pub fn two_rotate_at_once() {
    let mut at = rotation::three_planes();
    let again = format!("{ROTATE} --again");
    for second in [&again[..], ROTATE] {
        with_a_second_operator(&mut at, |_| {}, [&again, second], |at, what, _| is_one_ca(at, what));
    }
}

/// The CA that the second operator renews with may be gone by then.
pub fn one_renews_what_another_rotates() {
    let mut at = rotation::three_planes();
    let rotate = format!("{ROTATE} --again --out-dir new --force");
    let renew = RENEW.replace("--ca-dir old", "--ca-dir new");
    let with_a_key = |at: &mut Estate| finished(at, false, &rotate, "a CA with its key");
    for lines in [[&rotate[..], &renew], [&renew, &rotate], [&renew, &renew]] {
        with_a_second_operator(&mut at, with_a_key, lines, |at, what, _| is_one_ca(at, what));
    }
}

pub fn two_register_at_once() {
    let mut at = bootstrap::prepared();
    let line = bootstrap_line(&at);
    // Each has a folder and thus a CA of its own, or both have one.
    let elsewhere = line.replace("--out-dir out", "--out-dir other");
    let clear = |at: &mut Estate| {
        bootstrap::clear(at);
        let _ = std::fs::remove_dir_all(at.control.path().join("other"));
    };
    with_a_second_operator(&mut at, clear, [&line, &line], |at, what, _| {
        finished(at, false, &line, what);
        is_registered(at, &line, what);
    });
    with_a_second_operator(&mut at, clear, [&line, &elsewhere], |at, what, outputs| {
        // Who succeeded goes on to succeed.
        let winner = if outputs[0].code == 0 { &line } else { &elsewhere };
        finished(at, false, winner, what);
        at.control.write("agent.crt", &at.secret(bootstrap::OWN)["tls.crt"]);
        let verified = at.control.run(&["certs", "verify", "--cert", "agent.crt", "--plane", "boot"]);
        assert_eq!(verified.code, 0, "{what} {verified:#?}");
        assert_eq!(at.value("boot"), at.secret(bootstrap::OWN)["ca.crt"], "{what}");
    });
}

/// Each has a folder of his own, or both have one.
fn two_migrate_at_once() {
    migration::is_migrated_with(|at, more| {
        let gate = Gate::before(&[&at.control, &at.build]);
        let line = format!("choreoctl migrate --out-dir out {}", migration::words(at, more));
        let mut whole = 1;
        for moment in 0..operators() {
            let elsewhere = format!("--out-dir {}", ["out", "other"][moment % 2]);
            let number = 1 + moment * whole / operators();
            let second = own_command(at, &line.replace("--out-dir out", &elsewhere));
            let (Passage { output, requests }, other) = held(&gate, command(at, &line), number, second);
            whole = requests;
            for output in [Some(&output), other.as_ref()].into_iter().flatten() {
                // By 1 it says that there is more to do.
                if !matches!(output.code, 0 | 1) {
                    is_honest(output, &format!("{line} at request {number}: {output:#?}"));
                }
            }
        }
        direct(at, &line)
    });
}
