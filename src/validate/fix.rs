//! What mends a finding without a doubt, as edits of the text that leave its comments and layout alone.

use std::ops::Range;

/// A change that is safe: it says what was said already, in the words that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Another name for a key.
    Rename { key: Range<usize>, name: String },
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
            Self::Rename { key, name } => {
                // A merge stands for the keys that it brings.
                if !text[key.clone()].trim_matches(['"', '\'']).eq_ignore_ascii_case(name) {
                    return None;
                }
                let quotes = text[key.clone()].starts_with(['"', '\'']).then(|| &text[key.start..=key.start]);
                let quotes = quotes.unwrap_or_default();
                Some(Edit { range: key.clone(), text: format!("{quotes}{name}{quotes}") })
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
                // Behind a `- ` or a `? `, and where an anchor stands before it, the next line must be as far in.
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
        }
    }
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

fn flow(text: &str, mapping: &Range<usize>) -> bool {
    text[mapping.clone()].starts_with('{')
}

/// What stands before a place in its line, and whether that is white space only.
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
