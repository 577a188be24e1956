//! Verdicts compared with Go's own, and work that must not grow with the square of what is judged.
//!
//! `tests/gateway/verdicts.json` keeps certificates with Go's verdicts on them. SNAPSHOTS=overwrite makes the comparison
//! with Go write it anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::der::Tag;
use super::der::tests::element;
use super::{Reason, Refusal, ServerFault, Verdict};
use crate::pki::Bundle;
use crate::pki::pem::certificate_pem;

#[path = "../../../tests/server/corpus.rs"]
mod corpus;

use corpus::Case;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/verdicts.json");

/// What is predicted: the word for it, and the sentence.
struct Predicted {
    word: String,
    message: String,
}

impl Predicted {
    fn refused(refusal: Refusal) -> Self {
        let word = serde_json::to_value(refusal.reason).unwrap().as_str().unwrap().to_owned();
        Self { word, message: refusal.message }
    }

    fn plain(word: &str) -> Self {
        Self { word: word.to_owned(), message: String::new() }
    }

    fn of(case: &Case) -> Self {
        let at = Timestamp::from_second(case.at).unwrap();
        let ca = Bundle::from(case.ca.as_str());
        match &case.host {
            None => match ca.verdict(&case.presented, at) {
                Verdict::Authorized { .. } => Self::plain("authorized"),
                Verdict::Refused(refusal) => Self::refused(refusal),
                Verdict::Unknown(_) => Self::plain("unknown"),
            },
            Some(host) => match ca.accepts_server(&case.presented, host, at) {
                Ok(()) => Self::plain("authorized"),
                Err(ServerFault::Expired(refusal) | ServerFault::Refused(refusal)) => Self::refused(refusal),
                Err(ServerFault::WrongName(_)) => Self::plain("wrong-name"),
                Err(ServerFault::Unknown(_)) => Self::plain("unknown"),
            },
        }
    }

    /// Whether Go's verdict is this one, of some releases where it is only theirs.
    fn is(&self, theirs: &str) -> bool {
        self.word == theirs || (self.message.contains("(by Go ") && matches!(theirs, "authorized" | "name-constraints"))
    }
}

/// Go's verdicts on cases: the word for each, and Go's own words.
fn gos(cases: &[Case]) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("verdicts");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("./verdicts");
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway"));
    assert!(build.status().unwrap().success());
    let mut running = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    let questions: Vec<String> = cases.iter().map(question).collect();
    let asking = std::thread::spawn(move || questions.iter().for_each(|one| input.write_all(one.as_bytes()).unwrap()));
    let answers = String::from_utf8(running.wait_with_output().unwrap().stdout).unwrap();
    asking.join().unwrap();
    let answers: Vec<_> = answers.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!(answers.len(), cases.len());
    answers.into_iter().map(|(word, words)| (word.to_owned(), words.to_owned())).collect()
}

fn question(case: &Case) -> String {
    let presented: Vec<_> = case.presented.iter().map(|der| STANDARD.encode(der)).collect();
    let at = Timestamp::from_second(case.at).unwrap().to_string();
    json!({"Presented": presented, "CA": case.ca, "At": at, "Host": case.host.clone().unwrap_or_default()}).to_string()
        + "\n"
}

/// RANDOM and SEED in the environment are how many cases are made at random, and from what; REPORT is a file for the
/// numbers. `tests/run` runs it where Go is, and counts it as skipped elsewhere.
#[test]
#[ignore = "it compares with Go"]
fn verdicts_are_gos() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (count, seed) = (number("RANDOM", 200), number("SEED", 5));
    let mut cases = corpus::cases(count as usize, seed);
    cases.extend(corpus::server_cases());
    let overwrite = std::env::var("SNAPSHOTS").is_ok_and(|word| word == "overwrite");
    let kept = if overwrite { Vec::new() } else { fixture() };
    let made = cases.len();
    cases.extend(kept.into_iter().map(|(case, _)| case));
    let answers = gos(&cases);
    let predicted: Vec<_> = cases.iter().map(Predicted::of).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    answers.iter().for_each(|(theirs, _)| *counts.entry(theirs).or_default() += 1);
    let judged = cases.iter().zip(&predicted).zip(&answers);
    let differ = judged.clone().filter(|((_, ours), (theirs, _))| ours.word != "unknown" && !ours.is(theirs));
    let differences: Vec<_> = differ
        .map(|((case, ours), (theirs, words))| format!("{}: {}, and Go: {theirs} {words}", case.name, ours.word))
        .collect();
    let unknown: Vec<_> = judged.clone().filter(|((_, ours), _)| ours.word == "unknown").collect();
    let by_release = judged.clone().filter(|((_, ours), (theirs, _))| ours.is(theirs) && ours.word != *theirs).count();
    let report = format!(
        "{} cases, seed {seed}: {counts:?}, {by_release} by release, {} unknown, {} differ",
        cases.len(),
        unknown.len(),
        differences.len()
    );
    if let Ok(path) = std::env::var("REPORT") {
        let unknown: Vec<_> = unknown.iter().map(|((case, _), _)| &case.name).collect();
        fs::write(path, format!("{report}\n{differences:#?}\n{unknown:#?}\n")).unwrap();
    }
    assert!(differences.is_empty(), "{report}: {:#?}", &differences[..differences.len().min(20)]);
    if overwrite {
        keep(&cases[..made], &predicted, &answers);
    }
}

/// Writes the fixture: every case with one thing in it, and of the others each that is refused for another reason.
fn keep(cases: &[Case], predicted: &[Predicted], answers: &[(String, String)]) {
    let mut seen = BTreeSet::new();
    let (mut certificates, mut numbers) = (Vec::new(), HashMap::new());
    let mut number = |der: &[u8]| {
        *numbers.entry(der.to_vec()).or_insert_with(|| {
            certificates.push(STANDARD.encode(der));
            certificates.len() - 1
        })
    };
    let mut rows = Vec::new();
    for ((case, ours), (theirs, words)) in cases.iter().zip(predicted).zip(answers) {
        let several = case.name.contains("; ") || case.name.contains("random ") || case.name.contains("altered ");
        let reported = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        if !seen.insert((theirs.clone(), reported(words), reported(&ours.message))) && several {
            continue;
        }
        let presented: Vec<_> = case.presented.iter().map(|der| number(der)).collect();
        let plain = Bundle::from(case.ca.as_str());
        let is_plain = plain.ders().iter().map(|der| certificate_pem(der)).collect::<String>() == case.ca;
        let ca = match is_plain {
            true => plain.ders().iter().map(|der| number(der)).collect(),
            false => json!(case.ca),
        };
        rows.push(json!([case.name, theirs, presented, ca, case.at, case.host]).to_string());
    }
    let certificates: Vec<_> = certificates.iter().map(|der| json!(der).to_string()).collect();
    let text =
        format!("{{\"certificates\": [\n{}\n],\n\"cases\": [\n{}\n]}}\n", certificates.join(",\n"), rows.join(",\n"));
    fs::write(FIXTURE, text).unwrap();
}

/// The cases of the fixture, each with Go's verdict.
fn fixture() -> Vec<(Case, String)> {
    let text = fs::read_to_string(Path::new(FIXTURE)).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let certificates = kept["certificates"].as_array().unwrap().iter();
    let certificates: Vec<_> = certificates.map(|der| STANDARD.decode(der.as_str().unwrap()).unwrap()).collect();
    let of = |numbers: &Value| -> Vec<Vec<u8>> {
        let numbers = numbers.as_array().unwrap().iter();
        numbers.map(|number| certificates[number.as_u64().unwrap() as usize].clone()).collect()
    };
    let case = |row: &Value| {
        let case = Case {
            name: row[0].as_str().unwrap().to_owned(),
            presented: of(&row[2]),
            ca: match row[3].as_str() {
                Some(text) => text.to_owned(),
                None => of(&row[3]).iter().map(|der| certificate_pem(der)).collect(),
            },
            at: row[4].as_i64().unwrap(),
            host: row[5].as_str().map(str::to_owned),
        };
        (case, row[1].as_str().unwrap().to_owned())
    };
    kept["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn verdicts_are_those_that_go_gave() {
    let cases = fixture();
    assert!(cases.len() > 300, "{}", cases.len());
    let mut differences = Vec::new();
    for (case, theirs) in &cases {
        let ours = Predicted::of(case);
        if !ours.is(theirs) {
            differences.push(format!("{}: {}, and Go: {theirs}", case.name, ours.word));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn every_reason_is_one_that_go_gave() {
    let words: BTreeSet<_> = fixture().into_iter().map(|(_, theirs)| theirs).collect();
    // That a CA can't be read is said of a plane: nothing is presented to Go.
    for reason in Reason::value_variants().iter().filter(|reason| **reason != Reason::CaUnreadable) {
        let word = serde_json::to_value(reason).unwrap();
        assert!(words.contains(word.as_str().unwrap()), "{word}");
    }
    assert!(words.contains("authorized") && words.contains("wrong-name"));
}

/// Excluded names times names are 400 million comparisons, and both are judged again wherever a certificate expires.
#[test]
fn many_names_take_no_square_of_comparisons() {
    use rcgen::{CertificateParams, CustomExtension, IsCa, KeyPair};
    const MANY: usize = 20_000;
    let tlv = |tag, content: &[u8]| element(Tag(tag), content);
    let subtrees: Vec<u8> =
        (0..MANY).flat_map(|number| tlv(0x30, &tlv(0x82, format!("x{number}.example.com").as_bytes()))).collect();
    let names: Vec<u8> = (0..MANY).flat_map(|number| tlv(0x82, format!("y{number}.example.com").as_bytes())).collect();
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let excluded = tlv(0x30, &tlv(0xa1, &subtrees));
    ca.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 30], excluded)];
    let ca_der = ca.self_signed(&ca_key).unwrap().der().to_vec();
    let issuer = rcgen::Issuer::new(ca, &ca_key);
    let leaf = |names: Vec<u8>| {
        let mut leaf = CertificateParams::default();
        leaf.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &names))];
        vec![leaf.signed_by(&key, &issuer).unwrap().der().to_vec()]
    };
    let at: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    let ca: Bundle = [ca_der].into_iter().collect();
    assert!(matches!(ca.verdict(&leaf(names.clone()), at), Verdict::Authorized { .. }));
    let hit = [names, tlv(0x82, b"a.x19999.example.com")].concat();
    assert!(matches!(ca.verdict(&leaf(hit), at), Verdict::Refused(refusal) if refusal.message.contains("a.x19999")));
}
