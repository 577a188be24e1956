//! What fixes a finding without a doubt, as edits of the text that leave its comments and layout alone.

use std::ops::Range;

use crate::manifest::Node;

/// A change that is safe: it says what was said already, in the words that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Another name for a key, or another word as a value.
    Rename { word: Range<usize>, from: String, name: String },
    /// A field in front of the first one of a mapping.
    Insert {
        /// The first one's key.
        before: Range<usize>,
        mapping: Range<usize>,
        key: String,
        /// A text as YAML has it.
        value: String,
    },
    /// Another text as a value.
    Replace { key: Range<usize>, value: Range<usize>, mapping: Range<usize>, text: String },
    /// No field, or no item of a list, nor the comment in its last line. The mapping or list must have another one.
    Remove { key: Range<usize>, name: String, value: Range<usize>, mapping: Range<usize> },
}

/// Bytes of a text and what should stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub range: Range<usize>,
    pub text: String,
}

impl Fix {
    /// The change as an edit; none where the text is written in a way that it can't be made in.
    pub fn edit(&self, text: &str) -> Option<Edit> {
        match self {
            Self::Rename { word, from, name } => {
                // A merge represents the keys that it brings, an alias for what is elsewhere, and what has an anchor may be
                // meant elsewhere, too. An anchor in a line above a key is that of its mapping.
                let is_key = text[word.end..].trim_start().starts_with(':');
                let before = if is_key { indent(text, word.start).0 } else { &text[..word.start] };
                let anchored = before.split_whitespace().next_back().is_some_and(|word| word.starts_with('&'));
                if anchored || text[word.clone()].trim_matches(['"', '\'']) != from {
                    return None;
                }
                let quotes = text[word.clone()].starts_with(['"', '\'']).then(|| &text[word.start..=word.start]);
                let quotes = quotes.unwrap_or_default();
                Some(Edit { range: word.clone(), text: format!("{quotes}{name}{quotes}") })
            }
            Self::Insert { before, mapping, key, value } => {
                let at = before.start..before.start;
                if flow(text, mapping) {
                    let json = text[before.clone()].starts_with('"');
                    let plain = value.trim_matches('"');
                    let text = if json { format!("\"{key}\": \"{plain}\", ") } else { format!("{key}: {value}, ") };
                    return Some(Edit { range: at, text });
                }
                let (indent, alone) = indent(text, before.start);
                // Behind a `- ` or a `? `, and where an anchor is before it, the next line must be as far in.
                let spaces = if alone { indent.to_owned() } else { " ".repeat(indent.chars().count()) };
                Some(Edit { range: at, text: format!("{key}: {value}{}{spaces}", line_end(text, before.start)) })
            }
            Self::Replace { key, value, mapping, text: new } => {
                if flow(text, mapping) {
                    let quoted = serde_json::to_string(new).ok()?;
                    return Some(Edit { range: value.clone(), text: quoted });
                }
                let between = text.get(key.end..value.start)?.trim().trim_start_matches(':').trim();
                let block = between.starts_with(['|', '>']);
                let plain_header =
                    between.is_empty() || (block && between[1..].chars().all(|c| "+-0123456789".contains(c)));
                let rest = text[value.end..].lines().next().unwrap_or_default();
                if !plain_header || !rest.trim().is_empty() {
                    return None;
                }
                let (before, alone) = indent(text, key.start);
                if !alone {
                    return None;
                }
                let end = line_end(text, key.start);
                let lines: Vec<_> = new.lines().map(|line| format!("{before}  {line}")).collect();
                let range = key.end..value.end;
                Some(Edit { range, text: format!(": |{end}{}", lines.join(end)) })
            }
            Self::Remove { key, name, value, mapping } => {
                let end = value.end.max(key.end);
                let own = mapping.start <= key.start && end <= mapping.end.max(key.end);
                // What has an anchor may be meant elsewhere, too.
                if !own || text[key.clone()].trim_matches(['"', '\'']) != name || text[key.start..end].contains('&') {
                    return None;
                }
                if flow(text, mapping) {
                    let range = match text[end..].trim_start().strip_prefix(',') {
                        Some(next) => key.start..text.len() - next.trim_start().len(),
                        None => text[..key.start].trim_end().strip_suffix(',')?.len()..end,
                    };
                    return Some(Edit { range, text: String::new() });
                }
                let (before, mut alone) = indent(text, key.start);
                if key == value
                    && let Some(spaces) = before.trim_end().strip_suffix('-')
                {
                    alone = spaces.bytes().all(|b| b == b' ');
                }
                let line = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
                // Nothing at all is a null.
                let rest = text[end..line].trim_start_matches(':').trim();
                let range = key.start - before.len()..line;
                (alone && (rest.is_empty() || rest.starts_with('#'))).then(|| Edit { range, text: String::new() })
            }
        }
    }
}

/// A field in front of the others of a mapping, if all on the way to it is where it is written, and nothing but
/// the mapping's own text would change.
pub(super) fn insertion(root: &Node, way: &[&Node], key: &str, value: &str) -> Option<Fix> {
    let last = way.last()?;
    let first = last.entries().first()?;
    let written = is_written_here(root, way) && last.contains(&first.key_span);
    (last.entry(key).is_none() && written).then(|| Fix::Insert {
        before: first.key_span.clone(),
        mapping: last.span.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// Whether each node is inside the one above it, and none comes through an alias.
pub(super) fn is_written_here(root: &Node, way: &[&Node]) -> bool {
    let mut above = root;
    way.iter().all(|node| {
        let within = above.contains(&node.span);
        above = node;
        within
    })
}

/// A text with edits, of which those that overlap an earlier one are left out.
pub fn applied(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for edit in edits.into_iter() {
        if edit.range.start < at {
            continue;
        }
        out.push_str(&text[at..edit.range.start]);
        out.push_str(&edit.text);
        at = edit.range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// A text as YAML has it: in quotes where it would be read as another type.
pub(super) fn quoted(text: &str) -> String {
    let read = crate::manifest::parse(String::new(), text.to_owned());
    let plain = read.documents.first().and_then(|document| document.root.as_str()) == Some(text);
    if plain { text.to_owned() } else { format!("{text:?}") }
}

fn flow(text: &str, collection: &Range<usize>) -> bool {
    text[collection.clone()].starts_with(['{', '['])
}

/// What is before a place in its line, and whether that is white space only.
fn indent(text: &str, at: usize) -> (&str, bool) {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let before = &text[start..at];
    (before, before.bytes().all(|b| b == b' '))
}

/// How the line of a place ends.
fn line_end(text: &str, at: usize) -> &'static str {
    match text[at..].find('\n') {
        Some(end) if text[..at + end].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::validate::tests::{SECRET, found, pems, plane, reference, whole};
    use crate::validate::validator::judge;

    #[test]
    fn what_is_fixed_has_no_findings_and_keeps_its_layout() {
        let base64 = pems().remove(0).1;
        let cases = [
            (
                "# why\nspec: # here\n  planeId: a # and here\n  clusterAgent: @\n".to_owned(),
                "# why\nspec: # here\n  planeID: a # and here\n",
            ),
            (
                "spec:\n  # before\n  clusterAgent: @ # so\n".to_owned(),
                "spec:\n  # before\n  planeID: shared-builder\n  clusterAgent:",
            ),
            ("spec: {clusterAgent: @}\n".to_owned(), "spec: {planeID: shared-builder, clusterAgent:"),
            (
                format!("spec:\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: {base64}\n"),
                "      value: |\n        -----BEGIN CERTIFICATE-----\n        MII",
            ),
            (
                format!(
                    "spec:\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: >-\n        {}\n        {}\n",
                    &base64[..100],
                    &base64[100..]
                ),
                "      value: |\n        -----BEGIN",
            ),
            (
                format!("spec: {{planeID: a, clusterAgent: {{clientCA: {{value: '{base64}'}}}}}}\n"),
                "{value: \"-----BEGIN CERTIFICATE-----\\nMII",
            ),
            (
                "spec:\n  planeID: a\n  clusterAgent: @\n  observabilityPlaneRef:\n    name: x\n".to_owned(),
                "Ref:\n    kind: ClusterObservabilityPlane\n    name: x\n",
            ),
        ];
        let secret = "{clientCA: {secretRef: {name: ca, namespace: s, key: k}}}";
        for (spec, expected) in cases {
            for line_end in ["\n", "\r\n"] {
                let text = whole(&spec.replace('@', secret)).replace('\n', line_end);
                let judgement = reference().judge(&parse("f".into(), text.clone()));
                let edits: Vec<_> = judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(&text)).collect();
                assert_eq!(edits.len(), 1, "{text}");
                let fixed = applied(&text, edits);
                assert_eq!(found(&fixed), [], "{fixed}");
                assert!(fixed.replace("\r\n", "\n").contains(expected), "{fixed}");
                assert_eq!(fixed.contains("\r\n"), line_end == "\r\n");
            }
        }
        let json = serde_json::json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"}, "spec": {"clusterAgent": {"clientCA": {"value": base64}}}}).to_string();
        let edits: Vec<_> = judge(&parse("f".into(), json.clone()))
            .findings
            .iter()
            .filter_map(|f| f.fix.as_ref()?.edit(&json))
            .collect();
        let fixed = applied(&json, edits);
        assert_eq!(found(&fixed), []);
        serde_json::from_str::<serde_json::Value>(&fixed).unwrap();
    }

    #[test]
    fn a_field_is_removed_with_its_line_or_its_comma() {
        for (text, left) in [
            ("a: 1\nb: [x] # c\nd: 1\n", Some("a: 1\nd: 1\n")),
            ("a:\n  # kept\n  b:\n  - x\n  - y", Some("a:\n  # kept\n")),
            ("b:\r\nd: 1\r\n", Some("d: 1\r\n")),
            ("{a: 1, b: {x: 1}}", Some("{a: 1}")),
            ("{\"b\": [\"x\"],\n  \"d\": 1}", Some("{\"d\": 1}")),
            ("- b: 1\n  d: 1\n", None),
            ("b: &x 1\nd: *x\n", None),
            ("b: |\n  x\nd: 1", Some("d: 1")),
        ] {
            let root = parse("f".into(), text.into()).documents.remove(0).root;
            let mut mappings = [&root].into_iter().chain(root.items()).chain(root.get("a"));
            let mapping = mappings.rfind(|node| node.entry("b").is_some()).unwrap();
            let entry = mapping.entry("b").unwrap();
            let (key, value) = (entry.key_span.clone(), entry.node.span.clone());
            let fix = Fix::Remove { key, name: "b".into(), value, mapping: mapping.span.clone() };
            let removed = fix.edit(text).map(|edit| applied(text, vec![edit]));
            assert_eq!(removed.as_deref(), left, "{text}");
        }
    }

    #[test]
    fn what_is_not_safe_is_not_fixed() {
        let base64 = pems().remove(0).1;
        for text in [
            // Both spellings, a value behind a comment, one behind an alias, a merged key.
            plane(&format!("{{planeId: b, planeID: a, {SECRET}}}")),
            plane(&format!("\n  planeID: a\n  clusterAgent:\n    clientCA:\n      value: {base64} # a comment")),
            plane("\n  planeID: a\n  clusterAgent:\n    clientCA: *ca").replace(
                "name: a",
                &format!("name: a\n  annotations: {{x: &x a}}\n  labels: &ca\n    value: {base64}"),
            ),
            plane(&format!("{{<<: {{planeId: a}}, {SECRET}}}")),
            plane(&format!("{{{SECRET}}}")).replace("name: a", "name: a.b"),
        ] {
            let findings = reference().judge(&parse("f".into(), text.clone())).findings;
            let fixable = findings.iter().filter_map(|f| f.fix.as_ref()?.edit(&text)).count();
            assert!(!findings.is_empty() && fixable == 0, "{text}{findings:#?}");
        }
    }
}
