//! What an API server said of a manifest, brought to the places that it means.

use std::ops::Range;

use super::finding::{Finding, Found};
use super::rules::SERVER_REJECTED;
use crate::cluster::{Cause, Rejection};
use crate::manifest::{Node, Object, Value};
use crate::text::visible;

const UNKNOWN: &str = "unknown field";

impl Rejection {
    /// The verdict as findings on the object, whose text was sent from `start` on.
    pub fn findings(&self, object: Object<'_>, text: &str, start: usize) -> Vec<Finding> {
        let mut found = Found::new(object.document);
        let (lines, others) = self.strict();
        // What is about the whole is reported only where nothing else is.
        let whole = |cause: &&Cause| cause.field.is_empty() || cause.field == "<nil>";
        let all_whole = self.causes.iter().all(|cause| whole(&cause));
        for cause in self.causes.iter().chain(&others).filter(|cause| all_whole || !whole(cause)) {
            let path = if whole(&cause) { "" } else { &cause.field };
            let places = resolve(object.node, path);
            let span = if cause.message.starts_with(UNKNOWN) { places.key } else { places.value };
            // What is missing has no place of its own to name it.
            let what = if cause.message == "Required value" {
                format!("{path}: {}", cause.message)
            } else {
                cause.message.clone()
            };
            found.add(&SERVER_REJECTED, span, path, visible(&what), "");
        }
        for (line, message) in lines {
            let span = line_of(text, start, line).unwrap_or_else(|| resolve(object.node, "").value);
            found.add(&SERVER_REJECTED, span, "", visible(&message), "");
        }
        if found.findings.is_empty() {
            found.add(&SERVER_REJECTED, resolve(object.node, "").value, "", visible(&self.message), "");
        }
        found.findings
    }

    /// What strict validation says in its message only: `unknown field "spec.x"`, and `line 3: key "a" already set in map`.
    fn strict(&self) -> (Vec<(usize, String)>, Vec<Cause>) {
        let (mut lines, mut causes) = (Vec::new(), Vec::new());
        if !self.causes.is_empty() {
            return (lines, causes);
        }
        for part in self.message.split(", ").flat_map(|part| part.split('\n')) {
            if let Some(field) = part.split("unknown field \"").nth(1).and_then(|rest| rest.split('"').next()) {
                causes.push(Cause { field: field.to_owned(), message: format!("{UNKNOWN} {field}") });
            } else if let Some((line, what)) = part.split("line ").nth(1).and_then(|rest| rest.split_once(": "))
                && let Ok(line) = line.parse()
            {
                lines.push((line, what.to_owned()));
            }
        }
        (lines, causes)
    }
}

/// Where a field is: its key, and its value where that is a scalar.
struct Places {
    key: Range<usize>,
    value: Range<usize>,
}

/// The places of a path such as `spec.conditions[0].type`, as far down as the object goes.
fn resolve(root: &Node, path: &str) -> Places {
    let mut node = root;
    let mut key = root.entry("kind").map_or_else(|| root.span.clone(), |entry| entry.key_span.clone());
    let mut rest = path.trim_start_matches('.');
    while !rest.is_empty() {
        let (index, next) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((index, next)) => (index, next),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        let entry = |key: &str, next| node.entry(key).map(|entry| (&entry.node, &entry.key_span, next));
        let below = match (&node.value, index.parse::<usize>()) {
            (Value::Sequence(items), Ok(index)) => items.get(index).map(|item| (item, &item.span, next)),
            // A key may hold dots.
            _ => entry(index, next).or_else(|| entry(rest, "")),
        };
        let Some((below, place, next)) = below else {
            break;
        };
        (node, key) = (below, place.clone());
        rest = next.trim_start_matches('.');
    }
    let scalar = !matches!(node.value, Value::Mapping(_) | Value::Sequence(_));
    let value = if scalar && rest.is_empty() { node.span.clone() } else { key.clone() };
    Places { key, value }
}

/// A line's text, without what it begins with.
fn line_of(text: &str, start: usize, line: usize) -> Option<Range<usize>> {
    let mut at = start;
    for _ in 1..line {
        at += text[at..].find('\n')? + 1;
    }
    let content = text[at..].lines().next()?;
    let from = at + content.len() - content.trim_start().len();
    Some(from..at + content.trim_end().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{objects, parse};

    fn reported(text: &str, rejection: &Rejection) -> Vec<(String, String, String)> {
        let manifest = parse("f".into(), text.into());
        let object = objects(&manifest)[0];
        let one = |finding: Finding| (text[finding.span].to_owned(), finding.path, finding.message);
        rejection.findings(object, text, 0).into_iter().map(one).collect()
    }

    #[test]
    fn causes_come_to_their_places() {
        let text = "kind: X\nmetadata:\n  labels: {a.b/c: d}\nspec:\n  list: [{x: 1}, {z: 2}]\n";
        let cause = |field: &str| Cause { field: field.into(), message: "m".into() };
        let causes = ["spec.list[1].z", "spec.list[0]", "spec.none", "metadata.labels", "", "metadata.labels.a.b/c"];
        let rejection = Rejection { message: String::new(), causes: causes.map(cause).into() };
        let places: Vec<_> = reported(text, &rejection).into_iter().map(|reported| reported.0).collect();
        assert_eq!(places, ["2", "{x: 1}", "spec", "labels", "d"]);
    }

    #[test]
    fn strict_messages_are_taken_apart() {
        let text = "kind: X\nspec:\n  a: 1\n  a: 2\n";
        let message = "strict decoding error: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map, unknown field \"spec.a\"";
        let found = reported(text, &Rejection { message: message.into(), causes: vec![] });
        assert_eq!(found[0].0, "a");
        assert_eq!((found[1].0.as_str(), found[1].2.as_str()), ("a: 2", "key \"a\" already set in map"));
        let found = reported(text, &Rejection { message: "no".into(), causes: vec![] });
        assert_eq!((found[0].0.as_str(), found[0].2.as_str()), ("kind", "no"));
    }
}
