//! What was found in documents, with how much of it is kept and counted.

use std::collections::BTreeMap;
use std::ops::Range;

use super::fields::CLIENT_CA;
use super::fix::Fix;
use super::identity::Identity;
use super::rules::{DUPLICATE_KEY, Rule, Severity, YAML_SYNTAX};
use crate::manifest::{Fault, FaultKind};
use crate::text::visible;

/// How many errors, and how many warnings, are kept of one run; the others are counted.
pub const LIMIT: usize = 10_000;

/// How many of each are kept already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    errors: usize,
    warnings: usize,
}

impl Kept {
    /// Whether there is room for one more, which is taken.
    pub fn admits(&mut self, severity: Severity) -> bool {
        let kept = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        let room = *kept < LIMIT;
        *kept += usize::from(room);
        room
    }

    pub fn sum(self) -> usize {
        self.errors + self.warnings
    }
}

/// Among how many findings of an object doubles are looked for.
const MANY: usize = 100;

/// Something wrong in a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static Rule,
    /// Counted from 1 in its file; 0 where it is about no document.
    pub document: usize,
    /// The offending key or value, as bytes of the file's text.
    pub span: Range<usize>,
    /// As `spec.planeID`.
    pub path: String,
    pub message: String,
    /// A few words beside the underlined text.
    pub label: String,
    pub help: Option<String>,
    /// What would fix it without a doubt.
    pub fix: Option<Fix>,
}

impl Finding {
    /// One without help.
    pub fn new(
        rule: &'static Rule,
        document: usize,
        span: Range<usize>,
        path: &str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        let (path, message, label) = (path.to_owned(), message.into(), label.into());
        Self { rule, document, span, path, message, label, help: None, fix: None }
    }
}

/// What a text holds and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// In the order of their places, [`LIMIT`] of each severity at most.
    pub findings: Vec<Finding>,
    kept: Kept,
    /// All errors and warnings, those among them that are not kept.
    pub errors: usize,
    pub warnings: usize,
    pub documents: usize,
    pub planes: usize,
    /// Documents of other kinds, by kind.
    pub skipped: BTreeMap<String, usize>,
    pub(super) identities: Vec<Identity>,
}

impl Judgement {
    pub(super) fn take(&mut self, found: Found) {
        self.errors += found.errors;
        self.warnings += found.warnings;
        self.keep(found.findings);
    }

    fn keep(&mut self, findings: Vec<Finding>) {
        let Self { findings: kept, kept: room, .. } = self;
        kept.extend(findings.into_iter().filter(|finding| room.admits(finding.rule.severity)));
    }

    /// Adds findings that were made elsewhere.
    pub fn add(&mut self, findings: Vec<Finding>) {
        let errors = findings.iter().filter(|finding| finding.rule.severity == Severity::Error).count();
        self.errors += errors;
        self.warnings += findings.len() - errors;
        self.keep(findings);
        self.findings.sort_by_key(|finding| (finding.document, finding.span.start));
    }

    /// Takes what was found behind it in the same text.
    pub fn join(&mut self, mut other: Self) {
        let before = self.documents;
        other.findings.iter_mut().for_each(|finding| finding.document += before);
        self.keep(other.findings);
        self.identities.extend(other.identities.into_iter().map(|identity| identity.behind(before)));
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.documents += other.documents;
        self.planes += other.planes;
        for (kind, count) in other.skipped {
            *self.skipped.entry(kind).or_default() += count;
        }
    }
}

/// Takes findings of one document.
#[derive(Debug)]
pub(super) struct Found {
    pub document: usize,
    pub findings: Vec<Finding>,
    pub errors: usize,
    warnings: usize,
    /// Whether the last one is only counted.
    over: bool,
}

impl Found {
    pub fn new(document: usize) -> Self {
        Self { document, findings: Vec::new(), errors: 0, warnings: 0, over: false }
    }

    pub fn add(
        &mut self,
        rule: &'static Rule,
        span: Range<usize>,
        path: &str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Finding {
        if self.over {
            self.findings.pop();
        }
        let count = self.count(rule.severity);
        *count += 1;
        self.over = *count > LIMIT;
        self.findings.push(Finding::new(rule, self.document, span, path, message, label));
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    pub fn fault(&mut self, fault: &Fault) {
        let rule = match fault.kind {
            FaultKind::Syntax => &YAML_SYNTAX,
            FaultKind::Duplicate => &DUPLICATE_KEY,
        };
        self.add(rule, fault.span.clone(), "", fault.message.clone(), "");
    }

    fn count(&mut self, severity: Severity) -> &mut usize {
        match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        }
    }

    /// Takes another's findings, those by another CRD of several; of those that are here already its name only.
    pub fn absorb(&mut self, other: Self, by: Option<&str>) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        let by = by.map(visible);
        for mut finding in other.findings {
            let same = |known: &&mut Finding| {
                known.rule == finding.rule && known.span == finding.span && known.path == finding.path
            };
            if let Some(known) = self.findings.iter_mut().take(MANY).find(same) {
                if let (Some(by), Some(names)) = (&by, known.message.strip_suffix(')')) {
                    known.message = format!("{names}, {by})");
                }
                *self.count(finding.rule.severity) -= 1;
                continue;
            }
            if let Some(by) = &by {
                finding.message = format!("{} (by {by})", finding.message);
            }
            self.findings.push(finding);
        }
    }

    /// Lets later judges add what no earlier one has reported for the same field or one around it.
    pub fn later(&mut self, judge: impl FnOnce(&mut Self)) {
        let mut later = Self::new(self.document);
        judge(&mut later);
        let reported = |path: &str| {
            self.findings.iter().take(MANY).any(|known| {
                known.rule.severity == Severity::Error
                    && (below(path, &known.path) || (path == CLIENT_CA && below(&known.path, path)))
            })
        };
        later.findings.retain(|finding| !reported(&finding.path));
        for finding in &later.findings {
            *self.count(finding.rule.severity) += 1;
        }
        self.findings.append(&mut later.findings);
    }
}

/// Whether a path is another one or goes on from it.
fn below(path: &str, above: &str) -> bool {
    !above.is_empty() && path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::validate::tests::{SECRET, found, plane};
    use crate::validate::validator::judge;

    #[test]
    fn findings_are_counted_beyond_the_limit() {
        let fields: String = (0..LIMIT + 5).map(|number| format!("  x{number}: 1\n")).collect();
        let text = plane(&format!("\n{fields}"));
        let judgement = judge(&parse("f".into(), text));
        // A warning among so many errors isn't lost.
        assert_eq!((judgement.findings.len(), judgement.warnings), (LIMIT + 1, 1));
        assert!(judgement.errors > LIMIT + 5, "{}", judgement.errors);
    }

    #[test]
    fn a_fault_is_reported_once() {
        // Each of these has one reason, which two judges could give.
        for spec in [
            "{planeID: a, clusterAgent: {clientCA: {Value: x}}}",
            "{planeId: a, @}",
            "{planeID: a, clusterAgent: {clientCA: {value: 12}}}",
            "{planeID: a, clusterAgent: {clientCA: x}}",
            "{planeID: a, clusterAgent: {clientCA: {secretRef: {name: ca, key: k, namespace: 1}}}}",
            "{planeID: a, clusterAgent: {clientCA: {value: ''}}}",
            "{planeID: a, @, observabilityPlaneRef: {Kind: ClusterObservabilityPlane, name: a}}",
            "{planeID: a, clusterAgent: {clientCA: {secretRef: {name: ca, namespace: s, key: 'a/b'}}}}",
        ] {
            assert_eq!(found(&plane(&spec.replace('@', SECRET))).len(), 1, "{spec}");
        }
    }
}
