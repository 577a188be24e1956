//! Findings in SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format), as code review and CI read them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::report::example;
use crate::manifest::Manifest;
use crate::secrets::redacted;
use crate::validate::{Finding, RULES, Rule};

/// All of it as one log.
pub fn log(results: &[Value]) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "choreoctl",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": {"text": rule.about},
        "fullDescription": {"text": rule.why},
        "help": {"text": format!("Invalid example:\n{}\nValid example:\n{}", example(rule.bad), example(rule.good))},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"judge": rule.judge},
    })
}

/// One finding as a result, with what would fix it.
pub fn result(manifest: Option<&Manifest>, finding: &Finding) -> Value {
    let message = match &finding.help {
        Some(help) => format!("{}; {help}", finding.message),
        None => finding.message.clone(),
    };
    let index = RULES.iter().position(|rule| rule.id == finding.rule.id);
    let mut result = json!({
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": finding.rule.severity,
        "message": {"text": redacted(&message)},
        "properties": {"path": redacted(&finding.path)},
    });
    let Some(manifest) = manifest else {
        return result;
    };
    let artifact = json!({"uri": uri(&manifest.file)});
    result["locations"] = json!([{
        "physicalLocation": {"artifactLocation": artifact, "region": region(manifest, &finding.span)},
    }]);
    if let Some(edit) = finding.fix.as_ref().and_then(|fix| fix.edit(&manifest.text)) {
        result["fixes"] = json!([{
            "description": {"text": finding.help.as_deref().unwrap_or(finding.rule.about)},
            "artifactChanges": [{
                "artifactLocation": artifact,
                "replacements": [{
                    "deletedRegion": region(manifest, &edit.range),
                    "insertedContent": {"text": edit.text},
                }],
            }],
        }]);
    }
    result
}

fn region(manifest: &Manifest, span: &std::ops::Range<usize>) -> Value {
    let ((line, column), (end_line, end_column)) = (manifest.position(span.start), manifest.position(span.end));
    json!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column})
}

/// A path as a relative URI reference (RFC 3986), or an absolute one of the scheme file.
fn uri(file: &str) -> String {
    let mut uri = String::from(if file.starts_with('/') { "file://" } else { "" });
    for byte in file.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("./a b/ü.yaml"), "a%20b/%C3%BC.yaml");
        assert_eq!(uri("/a/b"), "file:///a/b");
    }
}
