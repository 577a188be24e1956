//! Findings with the text that they are about.

use std::ops::Range;

use crate::manifest::Manifest;
use crate::secrets::private_keys;
use crate::text::{hidden, visible};
use crate::validate::{Finding, Judge, Severity};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// How much of a line is shown around what is underlined, in bytes.
const AROUND: usize = 100;

/// The findings of one file, each with its line.
pub fn findings(manifest: &Manifest, findings: &[Finding]) -> String {
    let of_findings =
        findings.iter().filter(|finding| finding.rule.id == "ca-private-key").map(|finding| finding.span.clone());
    let secrets = private_keys(&manifest.text).into_iter().chain(of_findings);
    let secrets: Vec<_> = secrets.map(|span| lines(&manifest.text, &span)).collect();
    let mut text = String::new();
    for finding in findings {
        let span = &finding.span;
        let secret = secrets.iter().any(|secret| secret.start <= span.end && span.start <= secret.end);
        text.push_str(&one(manifest, finding, secret));
        text.push_str("\n\n");
    }
    text
}

fn one(manifest: &Manifest, finding: &Finding, secret: bool) -> String {
    let level = match finding.rule.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let (line, column) = manifest.position(finding.span.start);
    let path = visible(&manifest.file).into_owned();
    let (excerpt, span) = if secret {
        ("(not shown: it holds a private key)".to_owned(), 0..0)
    } else {
        excerpt(&manifest.text, &finding.span)
    };
    let label = visible(&finding.label).into_owned();
    let title = level.primary_title(visible(&finding.message).into_owned()).id(finding.rule.id);
    let annotation = AnnotationKind::Primary.span(span).label((!label.is_empty() && !secret).then_some(label));
    let mut group = title.element(Snippet::source(excerpt).line_start(line).path(path.clone()).annotation(annotation));
    if finding.rule.judge == Judge::Gateway {
        group = group.element(Level::NOTE.message("the API server accepts it"));
    }
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(visible(help).into_owned()));
    }
    let rendered = Renderer::styled().render(&[group]);
    // The renderer counts columns in its excerpt, which may begin in the middle of a line.
    place(&rendered, &path, line, column)
}

/// Puts the true line and column behind the first mention of the path.
fn place(rendered: &str, path: &str, line: usize, column: usize) -> String {
    let mark = format!("{path}:{line}:");
    match rendered.find(&mark) {
        Some(at) => {
            let after = at + mark.len();
            let digits = rendered[after..].bytes().take_while(u8::is_ascii_digit).count();
            format!("{}{column}{}", &rendered[..after], &rendered[after + digits..])
        }
        None => rendered.to_owned(),
    }
}

/// The whole lines that a span touches.
fn lines(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |end| span.end + end);
    start..end
}

/// The first line of the span, visible and no longer than needed, and the span in it.
fn excerpt(text: &str, span: &Range<usize>) -> (String, Range<usize>) {
    // A line may be as long as the text: no more of it is looked at than is shown.
    let first = text.floor_char_boundary(span.start.saturating_sub(2 * AROUND));
    let last = text.ceil_char_boundary(span.start.saturating_add(4 * AROUND).min(text.len()));
    let line_start = text[first..span.start].rfind('\n').map_or(first, |end| first + end + 1);
    let line_end = text[span.start..last].find(['\n', '\r']).map_or(last, |end| span.start + end);
    let span = span.start..span.end.min(line_end).max(span.start);
    let from = text.ceil_char_boundary(line_start.max(span.start.saturating_sub(AROUND)));
    let to = text.floor_char_boundary(line_end.min(span.start.saturating_add(2 * AROUND)));
    let mut shown = String::new();
    let mut within = 0..0;
    if from > line_start {
        shown.push('…');
    }
    for (at, c) in text[from..to].char_indices() {
        if from + at == span.start {
            within.start = shown.len();
        }
        if hidden(c) && c != '\t' {
            shown.push_str(&visible(c.encode_utf8(&mut [0; 4])));
        } else {
            shown.push(if c == '\t' { ' ' } else { c });
        }
        if from + at < span.end {
            within.end = shown.len();
        }
    }
    if span.start >= to {
        within.start = shown.len();
    }
    if to < line_end {
        shown.push('…');
    }
    (shown, within.start..within.end.max(within.start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::render::plain;
    use crate::validate::judge;
    use snapbox::{assert_data_eq, str};

    fn shown(text: &str) -> String {
        let manifest = parse("planes.yaml".into(), text.into());
        plain(&findings(&manifest, &judge(&manifest).findings))
    }

    const HEAD: &str = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\n";

    #[test]
    fn a_finding_and_its_line() {
        let text = format!(
            "{HEAD}spec:\n  planeID: Shared_Builder\n  clusterAgent: {{clientCA: {{secretRef: {{name: x, key: k, namespace: s}}}}}}\n"
        );
        assert_data_eq!(
            shown(&text),
            str![[r#"
error[plane-id-format]: planeID must be lower-case letters, digits and hyphens
 --> planes.yaml:5:12
  |
5 |   planeID: Shared_Builder
  |            ^^^^^^^^^^^^^^ does not match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$
  |
  = help: use `shared-builder`


"#]]
        );
    }

    #[test]
    fn long_and_hostile_lines_are_cut_and_visible() {
        let text = format!("{HEAD}spec: {{x: \"{}\", \"\u{202e}bad\": 1}}\n", "é".repeat(5000));
        let shown = shown(&text);
        assert!(shown.contains("…") && shown.contains("planes.yaml:4:5015"), "{shown}");
        assert!(!shown.contains('\u{202e}') && shown.contains(r"\u{202e}bad"));
        assert!(shown.lines().all(|line| line.chars().count() < 400));
    }

    #[test]
    fn no_line_of_a_private_key_is_shown() {
        let key = crate::pki::PrivateKey::generate(crate::pki::KeyAlgorithm::EcdsaP256).unwrap().to_pem().to_string();
        let secret = key.lines().nth(1).unwrap();
        let inline = format!("{HEAD}spec: {{bad: 1, clusterAgent: {{clientCA: {{value: {key:?}}}}}}}\n");
        let block = format!(
            "{HEAD}spec:\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: |\n        {}\n",
            key.trim_end().replace('\n', "\n        ")
        );
        for text in [inline, block] {
            let shown = shown(&text);
            assert!(shown.contains("ca-private-key") && !shown.contains(secret), "{shown}");
        }
        for elsewhere in ["clientCA: K", "planeID: K", "K: 1", "secretStoreRef: {name: K, x: 1}"] {
            let shown = shown(&format!("{HEAD}spec: {{{}}}\n", elsewhere.replace('K', &format!("{key:?}"))));
            assert!(shown.contains("not shown") && !shown.contains(secret), "{shown}");
        }
    }
}
