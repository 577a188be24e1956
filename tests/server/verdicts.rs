//! `certs verify` beside Go's crypto/x509, case by case.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::control_plane::finish;
use crate::corpus;

stories!(
    Go:
        verdicts_are_gos;
);

/// Of so many cases one is judged here, in a process of its own; src/pki judges all of them in one.
const STEP: usize = 10;

/// Whether a case is among those: the first of each verdict always is.
fn is_judged(verdicts: &[&str], index: usize) -> bool {
    index.is_multiple_of(STEP) || !verdicts[..index].contains(&verdicts[index])
}

/// RANDOM and SEED in the environment are how many chains are made at random, and from what.
fn verdicts_are_gos() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (count, seed) = (number("RANDOM", 400), number("SEED", 5));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("verdicts");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("./verdicts");
    assert!(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway")).status().unwrap().success());
    let cases = corpus::cases(count as usize, seed);
    let question = |case: &corpus::Case| {
        use base64::Engine as _;
        let presented: Vec<_> =
            case.presented.iter().map(|der| base64::engine::general_purpose::STANDARD.encode(der)).collect();
        let at = jiff::Timestamp::from_second(case.at).unwrap().to_string();
        json!({"Presented": presented, "CA": case.ca, "At": at}).to_string() + "\n"
    };
    let questions: String = cases.iter().map(question).collect();
    let asked = folder.path().join("questions");
    fs::write(&asked, &questions).unwrap();
    let answers = Command::new(&program).stdin(fs::File::open(&asked).unwrap()).output().unwrap().stdout;
    let answers = String::from_utf8(answers).unwrap();
    let theirs: Vec<_> = answers.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(theirs.len(), cases.len());
    let all = answers.lines().zip(&theirs).zip(&cases).enumerate();
    let judged: Vec<_> = all.filter(|(index, _)| is_judged(&theirs, *index)).map(|(_, case)| case).collect();
    let (mut differences, mut unknown, mut by_release) = (0, 0, 0);
    let folder = folder.path();
    for ((words, theirs), case) in &judged {
        let ours = verdict(folder, case);
        unknown += usize::from(ours == "unknown");
        if ours == BY_RELEASE && matches!(**theirs, "authorized" | "name-constraints") {
            by_release += 1;
        } else if ours != **theirs && ours != "unknown" {
            differences += 1;
            println!("{}: {ours}, and Go: {words}", case.name);
        }
    }
    println!(
        "{} of {} cases, seed {seed}: {:?}, {unknown} unknown here, {by_release} by release",
        judged.len(),
        cases.len(),
        counts(theirs.iter().copied())
    );
    assert_eq!((differences, unknown), (0, 0));
}

/// Refused by some Go releases, which may not be the one on this machine.
const BY_RELEASE: &str = "by release";

/// How many cases have each verdict.
fn counts<'v>(verdicts: impl Iterator<Item = &'v str>) -> std::collections::BTreeMap<&'v str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    verdicts.for_each(|verdict| *counts.entry(verdict).or_default() += 1);
    counts
}

/// What `certs verify` says of a case: `authorized`, `unknown`, or the reason.
fn verdict(folder: &Path, case: &corpus::Case) -> String {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let pem: String = case.presented.iter().map(|der| corpus::pem(der)).collect();
    fs::write(path("presented.pem"), pem).unwrap();
    fs::write(path("ca"), &case.ca).unwrap();
    let at = jiff::Timestamp::from_second(case.at).unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_choreoctl"));
    command.args(["certs", "verify", "-o", "json", "--cert", &path("presented.pem"), "--ca", &path("ca"), "--at", &at]);
    let reported = finish(command, "");
    let verdict = &reported.json()["verdicts"][0];
    let word = |key: &str| verdict[key].as_str().map(str::to_owned);
    let code = match word("verdict").as_deref() {
        Some("authorized") => 0,
        Some("refused") => 1,
        _ => 2,
    };
    assert_eq!(reported.code, code, "{}: {reported:?}", case.name);
    if word("message").is_some_and(|message| message.contains("(by Go ")) {
        return BY_RELEASE.to_owned();
    }
    word("reason").or_else(|| word("verdict")).unwrap()
}
