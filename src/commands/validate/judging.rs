//! Files judged whole: read in batches, part by part, on all cores; and fixes made in them, as far as they go.
//!
//! Not here: the rules, and how findings are shown.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::manifest::{self, Input, Manifest, objects};
use crate::plane::PlaneKey;
use crate::validate::{Finding, Judgement, Validator, applied};

/// Files that are read at once: many small ones, or few large ones.
pub fn batches(files: Vec<Input>) -> impl Iterator<Item = Vec<Input>> {
    const FILES: usize = 512;
    const BYTES: u64 = 32 << 20;
    let mut files: VecDeque<_> = files.into();
    std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < FILES && bytes < BYTES {
            let Some(file) = files.pop_front() else {
                break;
            };
            bytes += file.size();
            batch.push(file);
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// A file's text, and what was found in it.
pub struct Judged {
    pub manifest: Manifest,
    pub judgement: Judgement,
}

pub fn judge_file(validator: &Validator, input: Input) -> (Input, Result<Judged, manifest::Error>) {
    let judged = manifest::read_text(&input).map(|text| judge_text(validator, input.to_string(), text));
    (input, judged)
}

/// Judges a text part by part, a large one on all cores, so that no more than a few of its documents are in memory.
pub fn judge_text(validator: &Validator, file: String, text: String) -> Judged {
    let judged = manifest::in_runs(&text, |parts| {
        let mut judgement = Judgement::default();
        parts.iter().for_each(|part| judgement.join(validator.judge_part(&text, part.clone())));
        judgement
    });
    let mut judgement = Judgement::default();
    judged.into_iter().for_each(|judged| judgement.join(judged));
    Judged { manifest: Manifest::unread(file, text), judgement }
}

impl Judged {
    /// Adds what the API server finds. Both report doubled keys, at the same place.
    pub async fn ask_server(&mut self, cluster: &Cluster, validator: &Validator) -> anyhow::Result<()> {
        let doubled = self.judgement.findings.iter().filter(|finding| finding.rule.id == "duplicate-key");
        let doubled: BTreeSet<_> = doubled.map(|finding| finding.span.start).collect();
        let mut findings = found_by_server(cluster, validator, &self.manifest).await?;
        findings.retain(|finding| !doubled.contains(&finding.span.start));
        self.judgement.add(findings);
        Ok(())
    }
}

/// What the API server finds in each plane of a file.
async fn found_by_server(cluster: &Cluster, validator: &Validator, file: &Manifest) -> anyhow::Result<Vec<Finding>> {
    let manifest = manifest::parse(file.file.clone(), file.text.clone());
    let mut findings = Vec::new();
    for object in objects(&manifest).into_iter().filter(|object| validator.knows(*object)) {
        let whole = manifest.documents.iter().find(|document| std::ptr::eq(&document.root, object.node));
        let (text, start, media_type) = match whole {
            Some(document) => {
                let text = &manifest.text[document.part.clone()];
                let json = text.trim_start().starts_with('{') && serde_json::from_str::<Value>(text).is_ok();
                let media_type = if json { "application/json" } else { "application/yaml" };
                (text.to_owned(), document.part.start, media_type)
            }
            // An item of a List has no text of its own.
            None => (object.node.to_json().to_string(), object.node.span.start, "application/json"),
        };
        let cluster = cluster.around(&PlaneKey::of_object(&object.node.to_json()));
        if let Some(refusal) = cluster.would_take(&text, media_type).await? {
            findings.extend(refusal.findings(object, &manifest.text, start));
        }
    }
    Ok(findings)
}

/// A file with every fix made, again and again until there is none left, and how many were made. What one of them brings
/// to light may be fixed by the next.
pub fn fixed(validator: &Validator, file: &Judged) -> Option<(Judged, usize)> {
    const ROUNDS: usize = 10;
    let faults = |judged: &Judged| {
        let of_text = |finding: &&Finding| matches!(finding.rule.id, "yaml-syntax" | "duplicate-key");
        judged.judgement.findings.iter().filter(of_text).count()
    };
    let (mut best, mut count) = (None::<Judged>, 0);
    for _ in 0..ROUNDS {
        let current = best.as_ref().unwrap_or(file);
        let text = &current.manifest.text;
        let edits: Vec<_> = current.judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(text)).collect();
        if edits.is_empty() {
            break;
        }
        let more = edits.len();
        let next = judge_text(validator, file.manifest.file.clone(), applied(text, edits));
        if faults(&next) > faults(current) {
            break;
        }
        count += more;
        best = Some(next);
    }
    best.map(|best| (best, count))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use jiff::Timestamp;

    use super::*;
    use crate::plane::{DEFAULT_KIND, Release};
    use crate::render::{self, report};
    use crate::validate::tests::whole;
    use crate::validate::{Neighbours, RULES, Resource, Severity, applied};

    /// What is put into texts at random: what YAML, JSON, PEM and this resource are made of.
    const TOKENS: [&str; 48] = [
        "&a ",
        "*a",
        "<<: *a",
        "---\n",
        "...\n",
        "- ",
        "? ",
        ": ",
        "#",
        " #",
        "|\n",
        ">-\n",
        "|2\n",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\t",
        "\n\t",
        "\r\n",
        "\r",
        "!!str ",
        "!!int ",
        "!!binary ",
        "!x ",
        "%YAML 1.1\n",
        "%",
        "null",
        "~",
        "on",
        "0x1F",
        "1e999",
        ".inf",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "\u{1b}[31m",
        "\0",
        "é",
        "日本",
        "😀",
        "planeId: a\n",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\n",
    ];

    fn bases() -> Vec<Vec<u8>> {
        let examples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
        let examples =
            examples.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"));
        let mut bases: Vec<_> = examples.map(|path| std::fs::read(path).unwrap()).collect();
        bases.extend(
            RULES.iter().flat_map(|rule| [rule.bad, rule.good]).map(|text| report::example(&whole(text)).into_bytes()),
        );
        bases.push(br#"{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": {"clusterAgent": {"clientCA": {"value": "\u00e9\/"}}}}"#.to_vec());
        bases.push(b"a: &a {b: &b [1, *a]}\nc: {<<: [*a, *b], ? [x] : y}\n".to_vec());
        bases
    }

    fn mutate(text: &mut Vec<u8>, bases: &[Vec<u8>], rng: &mut Rng) {
        let at = rng.usize(0..=text.len());
        let end = (at + rng.usize(0..24)).min(text.len());
        match rng.u8(0..8) {
            0 => drop(text.drain(at..end)),
            1 => {
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            2 if at < text.len() => text[at] = rng.u8(..),
            3 => text.insert(at, rng.u8(..)),
            4 => text.truncate(at),
            5 => {
                let other = rng.choice(bases).unwrap();
                let from = rng.usize(0..=other.len());
                text.splice(at..end, other[from..(from + rng.usize(0..200)).min(other.len())].to_vec());
            }
            _ => drop(text.splice(at..at, rng.choice(TOKENS).unwrap().bytes())),
        }
    }

    /// FUZZ in the environment is how many inputs are tried, SEED what they are made from.
    #[test]
    #[allow(clippy::print_stdout)]
    fn mutated_inputs_run_clean_from_bytes_to_findings() {
        let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
        let (count, seed) = (number("FUZZ", 2000), number("SEED", 4));
        let (mut rng, bases) = (Rng::with_seed(seed), bases());
        let at = "2026-11-22T12:00:00Z".parse().unwrap();
        let crds = Resource::all_of(&manifest::parse("crd".into(), DEFAULT_KIND.crd(Release::V0).unwrap())).unwrap();
        let of_releases = Release::ALL.map(|release| Validator::of_release(release, at));
        let validators: Vec<_> =
            of_releases.into_iter().chain([Validator::reference(at), Validator::of_crds(crds, at)]).collect();
        let (mut read, mut found, mut fixed) = (0, 0, 0);
        for _ in 0..count {
            let mut bytes = rng.choice(&bases).unwrap().clone();
            for _ in 0..rng.usize(1..6) {
                mutate(&mut bytes, &bases, &mut rng);
            }
            let crd = String::from_utf8_lossy(&bytes).into_owned();
            let Ok(text) = manifest::decode(bytes, "f") else {
                continue;
            };
            read += 1;
            let mut file = judge_text(rng.choice(&validators).unwrap(), "f".into(), text);
            Neighbours::default().meet(&file.manifest, &mut file.judgement);
            let text = &file.manifest.text;
            for finding in &file.judgement.findings {
                assert!(text.get(finding.span.clone()).is_some(), "{finding:?} in {text:?}");
                render::sarif::result(Some(&file.manifest), finding);
                report::finding(Some(&file.manifest), finding);
            }
            let shown = render::snippet::findings(&file.manifest, &file.judgement.findings);
            assert!(!shown.contains(['\u{202e}', '\u{85}', '\u{2028}']), "{shown}");
            found += file.judgement.findings.len();
            let edits: Vec<_> = file.judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(text)).collect();
            fixed += edits.len();
            applied(text, edits);
            let _ = Resource::all_of(&manifest::parse("f".into(), crd));
        }
        println!("{count} inputs, seed {seed}: {read} are text, {found} findings, {fixed} fixed");
        assert!(read * 4 > count && found as u64 > count / 4 && fixed > 0, "{read} {found} {fixed}");
    }

    #[test]
    fn a_large_text_is_judged_as_its_parts() {
        let plane =
            "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\nspec: {planeID: A}\n";
        let many = format!("{plane}---\n").repeat(4000);
        let file = judge_text(&Validator::reference(Timestamp::now()), "f".into(), many);
        assert_eq!((file.judgement.documents, file.judgement.planes), (4001, 4000));
        assert_eq!(file.judgement.findings.len(), 8000);
        assert!(file.judgement.findings.iter().all(|finding| finding.rule.severity == Severity::Error));
        let last = file.judgement.findings.last().unwrap();
        assert_eq!((last.document, file.manifest.position(last.span.start).0), (4000, 4 + 3999 * 5));
    }

    fn fix(text: &str) -> Option<(String, usize)> {
        let validator = Validator::reference("2026-11-22T12:00:00Z".parse().unwrap());
        let file = judge_text(&validator, "f".into(), text.to_owned());
        fixed(&validator, &file).map(|(file, count)| (file.manifest.text, count))
    }

    #[test]
    fn fixes_are_made_until_none_is_left() {
        let plane = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\n";
        let (text, count) = fix(&format!("{plane}spec: {{planeId: a}} # kept\n")).unwrap();
        assert!(text.contains("planeID: a") && text.contains("# kept") && count > 0, "{text}");
        assert_eq!(fix(&text), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone() {
        assert_eq!(fix("a: [b\n"), None);
    }
}
