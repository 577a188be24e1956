//! What `validate` found, all files together: the sums, and the findings as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::manifest::Manifest;
use crate::secrets::redacted;
use crate::text::count;
use crate::validate::{Finding, Judgement, Kept, Rule, Severity};

/// The sums of a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub files: usize,
    pub documents: usize,
    pub planes: usize,
    pub errors: usize,
    pub warnings: usize,
    /// Documents of other kinds, by kind.
    pub skipped: BTreeMap<String, usize>,
    /// Those that were shown; the others were counted only.
    pub shown: Kept,
}

impl Tally {
    /// Adds a file's.
    pub fn add(&mut self, judgement: &Judgement) {
        self.files += 1;
        self.documents += judgement.documents;
        self.planes += judgement.planes;
        self.errors += judgement.errors;
        self.warnings += judgement.warnings;
        for (kind, count) in &judgement.skipped {
            *self.skipped.entry(kind.clone()).or_default() += count;
        }
    }

    pub fn omitted(&self) -> usize {
        (self.errors + self.warnings).saturating_sub(self.shown.sum())
    }
}

/// `1 file, 3 planes: 1 error, 1 warning`.
pub fn summary(tally: &Tally) -> String {
    let mut text = format!("{}, {}: ", count(tally.files, "file"), count(tally.planes, "plane"));
    match (tally.errors, tally.warnings) {
        (0, 0) => text.push_str("no findings"),
        (errors, warnings) => {
            let _ = write!(text, "{}, {}", count(errors, "error"), count(warnings, "warning"));
        }
    }
    if tally.omitted() > 0 {
        let _ = write!(text, "; {} not shown", count(tally.omitted(), "finding"));
    }
    const MANY: usize = 8;
    if !tally.skipped.is_empty() {
        let kinds: Vec<_> = tally
            .skipped
            .iter()
            .take(MANY)
            .map(|(kind, number)| format!("{number} {}", super::cut(kind, 60)))
            .collect();
        let _ = write!(text, "; skipped {}", kinds.join(", "));
        if tally.skipped.len() > MANY {
            let _ = write!(text, " and other kinds");
        }
    }
    text
}

/// All of it as one object.
pub fn json(tally: &Tally, findings: &[Value]) -> Value {
    json!({
        "files": tally.files,
        "documents": tally.documents,
        "planes": tally.planes,
        "skipped": tally.skipped,
        "errors": tally.errors,
        "warnings": tally.warnings,
        "findings": findings,
        "omitted": tally.omitted(),
    })
}

/// One finding as an object; of no file where it is about all of them.
pub fn finding(manifest: Option<&Manifest>, finding: &Finding) -> Value {
    let place = |at: usize| manifest.map(|manifest| manifest.position(at));
    let (start, end) = (place(finding.span.start), place(finding.span.end));
    json!({
        "rule": finding.rule.id,
        "severity": finding.rule.severity,
        "judge": finding.rule.judge,
        "file": manifest.map(|manifest| &manifest.file),
        "document": manifest.map(|_| finding.document),
        "line": start.map(|(line, _)| line),
        "column": start.map(|(_, column)| column),
        "endLine": end.map(|(line, _)| line),
        "endColumn": end.map(|(_, column)| column),
        "path": redacted(&finding.path),
        "message": redacted(&finding.message),
        "help": finding.help.as_deref().map(redacted),
    })
}

/// A rule as an object.
pub fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "severity": rule.severity,
        "judge": rule.judge,
        "about": rule.about,
        "why": rule.why,
        "bad": example(rule.bad),
        "good": example(rule.good),
    })
}

/// A rule in full, for `--explain`.
pub fn explanation(rule: &Rule) -> String {
    use crate::paint;
    let severity = match rule.severity {
        Severity::Error => paint::bad("error"),
        Severity::Warning => paint::warning("warning"),
    };
    let indented = |text: &str| example(text).lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "{} ({severity}, {})\n\nRequirement: {}\n\n{}\n\nInvalid example:\n\n{}\nValid example:\n\n{}",
        paint::strong(rule.id),
        rule.judge.name(),
        rule.about,
        folded(rule.why, 80),
        indented(rule.bad),
        indented(rule.good)
    )
}

/// A text in lines of so many characters at most, if its words are no longer.
fn folded(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// An example without its marks.
pub fn example(text: &str) -> String {
    text.replace(crate::validate::MARKS, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::render::plain;
    use crate::validate::{RULES, judge};

    const TEXT: &str = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\nspec: {planeId: a}\n---\nkind: ConfigMap\n";

    #[test]
    fn sums_are_reported_in_a_line() {
        let mut tally = Tally::default();
        assert_eq!(summary(&tally), "0 files, 0 planes: no findings");
        tally.add(&judge(&parse("f".into(), TEXT.into())));
        assert_eq!(summary(&tally), "1 file, 1 plane: 2 errors, 0 warnings; 2 findings not shown; skipped 1 ConfigMap");
        tally.skipped = (0..9).map(|number| (format!("K{number}"), 1)).collect();
        assert!(summary(&tally).ends_with("1 K7 and other kinds"), "{}", summary(&tally));
        let object = json(&tally, &[]);
        assert_eq!((&object["files"], &object["errors"], &object["omitted"]), (&json!(1), &json!(2), &json!(2)));
    }

    #[test]
    fn a_finding_has_its_place() {
        let manifest = parse("f.yaml".into(), TEXT.into());
        let findings = judge(&manifest).findings;
        let unknown = findings.iter().find(|finding| finding.rule.id == "unknown-field").unwrap();
        let object = finding(Some(&manifest), unknown);
        let place = ["line", "column", "endLine", "endColumn", "document"].map(|key| object[key].as_u64().unwrap());
        assert_eq!((place, &object["path"]), ([4, 8, 4, 15, 1], &json!("spec.planeId")));
        assert!(finding(None, unknown)["line"].is_null());
    }

    #[test]
    fn an_explanation_fits_into_80_columns() {
        for rule in RULES {
            let text = plain(&explanation(rule));
            let why = text.split("\n\n").nth(2).unwrap();
            assert!(why.lines().all(|line| line.chars().count() <= 80), "{why}");
            assert_eq!(why.replace('\n', " "), rule.why);
            assert!(!text.contains(crate::validate::MARKS), "{text}");
        }
    }
}
