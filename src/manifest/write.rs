//! YAML and JSON out. Characters that a terminal would obey are written as escapes, which both languages have.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use crate::files::{self, Existing, Rights};
use crate::text::{hidden, shown};

/// Represents a hidden character while the YAML is written; private use, so that the writer leaves it alone.
const MARK: char = '\u{f8ff}';

/// Writes a text into a file, whether it exists or not: whole or not at all.
///
/// # Errors
/// What the operating system says, with the file's name.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    files::write(path, text, Rights::Usual, Existing::Replace).map_err(|source| {
        let file = shown(path);
        Error::Unwritable { file, source }
    })
}

/// A document in YAML, without a `---`. Texts that YAML 1.1 would read as another type are quoted, and a PEM is a block.
pub fn to_yaml(value: &Value) -> anyhow::Result<String> {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    let mut text = String::new();
    if needs_escapes(value) {
        let marked = mark(value);
        serde_saphyr::to_fmt_writer_with_options(&mut text, &marked, options)?;
        return Ok(unmark(&text));
    }
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)?;
    Ok(text)
}

/// A value as JSON over several lines, as kubectl prints it, without a line end.
pub fn json_text(value: &impl Serialize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(escape_json(String::from_utf8(bytes)?))
}

/// A value as JSON on one line.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(escape_json(serde_json::to_string(value)?))
}

/// In JSON's text a hidden character other than layout can only stand inside a string.
fn escape_json(text: String) -> String {
    let escaped = |c: char| hidden(c) && c != '\n';
    if !text.contains(escaped) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn needs_escapes(value: &Value) -> bool {
    let text = |text: &str| text.contains(|c| hidden(c) && c != '\n');
    match value {
        Value::String(value) => text(value),
        Value::Array(items) => items.iter().any(needs_escapes),
        Value::Object(fields) => fields.iter().any(|(key, value)| text(key) || needs_escapes(value)),
        _ => false,
    }
}

/// Every hidden character as MARK, its number, MARK. Before the text a control character, to have it quoted, and an empty
/// pair of marks, by which [`unmark`] finds and drops it.
fn mark(value: &Value) -> Value {
    let text = |text: &str| {
        if !text.contains(|c| hidden(c) && c != '\n' || c == MARK) {
            return text.to_owned();
        }
        let mut out = format!("\u{1}{MARK}{MARK}");
        for c in text.chars() {
            match c {
                c if hidden(c) || c == MARK => {
                    let _ = write!(out, "{MARK}{:x}{MARK}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out
    };
    match value {
        Value::String(value) => text(value).into(),
        Value::Array(items) => items.iter().map(mark).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (text(key), mark(value))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn unmark(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, part) in text.split(MARK).enumerate() {
        if index % 2 == 1 && part.is_empty() {
            out.truncate(out.trim_end_matches("\\x01").trim_end_matches("\\u0001").len());
            continue;
        }
        match u32::from_str_radix(part, 16) {
            Ok(code) if index % 2 == 1 => {
                let _ = match code {
                    0x0a => write!(out, "\\n"),
                    0x09 => write!(out, "\\t"),
                    0x0d => write!(out, "\\r"),
                    code if code <= 0xff => write!(out, "\\x{code:02X}"),
                    code if code <= 0xffff => write!(out, "\\u{code:04X}"),
                    code => write!(out, "\\U{code:08X}"),
                };
            }
            _ => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn text_stays_text() {
        for text in [
            "on",
            "yes",
            "n",
            "1_000",
            "0123",
            "1e3",
            "~",
            "",
            " x",
            "x: y",
            "- x",
            "#x",
            "2001-01-01",
            "<<",
            "=",
            ".inf",
            "null",
            "x\n",
            "a\nb\n\n",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
        ] {
            let value = json!({"k": text});
            let yaml = to_yaml(&value).unwrap();
            assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), value, "{yaml}");
        }
    }

    #[test]
    fn a_pem_is_a_block() {
        let yaml = to_yaml(&json!({"value": "-----BEGIN X-----\nAA==\n-----END X-----\n"})).unwrap();
        assert_eq!(yaml, "value: |\n  -----BEGIN X-----\n  AA==\n  -----END X-----\n");
    }

    #[test]
    fn json_escapes_what_a_terminal_obeys() {
        assert_eq!(json_line(&json!("a\u{202e}b\u{9b}\u{1b}")).unwrap(), "\"a\\u202eb\\u009b\\u001b\"");
    }

    proptest! {
        /// Whatever the text, another reader gets it back, and nothing hidden is in the output.
        #[test]
        fn yaml_is_read_back(key in "\\PC{0,8}|[\\x00-\\x{2fff}]{0,6}", text in "(?s).{0,40}|[\\x00-\\x20\\x7f-\\xa0\u{202e}\u{2066}\u{f8ff}:#'\"\\\\ -]{0,12}") {
            let value = json!({"a": {key: [text]}});
            let yaml = to_yaml(&value).unwrap();
            prop_assert!(!yaml.contains(|c| hidden(c) && c != '\n'), "{:?}", yaml);
            let read: Value = serde_yaml::from_str(&yaml).map_err(|e| TestCaseError::fail(format!("{e}: {yaml:?}")))?;
            prop_assert_eq!(read, value, "{:?}", yaml);
        }

        #[test]
        fn json_is_read_back(text in "(?s).{0,40}") {
            let line = json_line(&json!([text])).unwrap();
            prop_assert!(!line.contains(hidden));
            prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!([text]));
        }
    }
}
