//! Verdicts against Go's own, and work that must not grow with the square of what is judged.

use std::fs;
use std::process::Command;

use serde_json::json;

use jiff::Timestamp;

use super::{Refusal, ServerFault, Verdict};
use crate::pki::Bundle;

#[path = "../../../tests/server/corpus.rs"]
mod corpus;

use corpus::Case;

/// The verdict, and whether it is of some Go releases only.
fn verdict(case: &Case) -> (String, bool) {
    let at = Timestamp::from_second(case.at).unwrap();
    let refusal = |refusal: Refusal| {
        let word = serde_json::to_value(refusal.reason).unwrap().as_str().unwrap().to_owned();
        (word, refusal.message.contains("(by Go "))
    };
    let plain = |word: &str| (word.to_owned(), false);
    match &case.host {
        None => match Bundle::from(case.ca.as_str()).verdict(&case.presented, at) {
            Verdict::Authorized { .. } => plain("authorized"),
            Verdict::Refused(refused) => refusal(refused),
            Verdict::Unknown(_) => plain("unknown"),
        },
        Some(host) => match Bundle::from(case.ca.as_str()).accepts_server(&case.presented, host, at) {
            Ok(()) => plain("authorized"),
            Err(ServerFault::Expired(refused) | ServerFault::Refused(refused)) => refusal(refused),
            Err(ServerFault::WrongName(_)) => plain("wrong-name"),
            Err(ServerFault::Unknown(_)) => plain("unknown"),
        },
    }
}

fn question(case: &Case) -> String {
    use base64::Engine as _;
    let encoded = |der: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(der);
    let presented: Vec<_> = case.presented.iter().map(encoded).collect();
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
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("verdicts");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("./verdicts");
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway"));
    assert!(build.status().unwrap().success());
    let mut cases = corpus::cases(count as usize, seed);
    cases.extend(corpus::server_cases());
    let asked = folder.path().join("questions");
    fs::write(&asked, cases.iter().map(question).collect::<String>()).unwrap();
    let answers = Command::new(&program).stdin(fs::File::open(&asked).unwrap()).output().unwrap().stdout;
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.lines().count(), cases.len());
    let (mut differences, mut unknown, mut by_release) = (Vec::new(), Vec::new(), 0);
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for (case, answer) in cases.iter().zip(answers.lines()) {
        let theirs = answer.split('\t').next().unwrap();
        *counts.entry(theirs).or_default() += 1;
        let (ours, some_releases) = verdict(case);
        if ours == "unknown" {
            unknown.push(case.name.clone());
        } else if some_releases && matches!(theirs, "authorized" | "name-constraints") {
            by_release += 1;
        } else if ours != theirs {
            differences.push(format!("{}: {ours}, and Go: {answer}", case.name));
        }
    }
    let report = format!(
        "{} cases, seed {seed}: {counts:?}, {by_release} by release, {} unknown, {} differ",
        cases.len(),
        unknown.len(),
        differences.len()
    );
    if let Ok(path) = std::env::var("REPORT") {
        fs::write(path, format!("{report}\n{differences:#?}\n{unknown:#?}\n")).unwrap();
    }
    assert!(differences.is_empty(), "{report}: {:#?}", &differences[..differences.len().min(20)]);
}

/// Excluded names times names are 400 million comparisons, and both are judged again wherever a certificate expires.
#[test]
fn many_names_take_no_square_of_comparisons() {
    use rcgen::{CertificateParams, CustomExtension, IsCa, KeyPair};
    const MANY: usize = 20_000;
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_be_bytes();
        let significant: Vec<u8> = length.iter().copied().skip_while(|octet| *octet == 0).collect();
        let header = match content.len() {
            0..0x80 => vec![tag, length[3]],
            _ => [vec![tag, 0x80 | significant.len() as u8], significant].concat(),
        };
        [header, content.to_vec()].concat()
    }
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
