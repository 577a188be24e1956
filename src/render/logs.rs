//! Lines of logs: what the JSON of agents and gateways says, for people and for scripts, without secrets.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cluster::LogLine;
use crate::paint;
use crate::secrets::{Lines, logged, without_secrets};
use crate::text::visible;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    Agent,
    Gateway,
}

/// The pod whose log it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogSource {
    pub program: Program,
    pub pod: String,
}

/// A line of a log without secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub source: LogSource,
    /// The program's own time; where it writes none, that of the node.
    pub time: Option<Timestamp>,
    /// None for a line that is no JSON.
    level: Option<String>,
    message: String,
    fields: Map<String, Value>,
    is_structured: bool,
}

/// Reads the lines of one log in their order.
#[derive(Debug)]
pub struct Reading {
    source: LogSource,
    lines: Lines,
}

impl Reading {
    pub fn of(source: LogSource) -> Self {
        Self { source, lines: Lines::default() }
    }

    /// Returns what a line says; none for one that is a part of a secret.
    pub fn entry(&mut self, line: &LogLine) -> Option<Entry> {
        let source = self.source.clone();
        let Some(mut fields) = structured(&line.text) else {
            let message = self.lines.next(&line.text)?.into_owned();
            let (level, fields) = (None, Map::new());
            return Some(Entry { source, time: line.written, level, message, fields, is_structured: false });
        };
        self.lines = Lines::default();
        let mut take = |name: &str| match fields.shift_remove(name) {
            Some(Value::String(text)) => Some(without_secrets(&text).into_owned()),
            Some(other) => Some(other.to_string()),
            None => None,
        };
        let (time, level, message) = (take("time"), take("level"), take("msg").unwrap_or_default());
        let time = time.and_then(|time| time.parse().ok()).or(line.written);
        let level = level.map(|level| level.to_uppercase());
        let fields = fields.into_iter().map(|(name, value)| {
            let value = without_secrets_in(&name, value);
            (without_secrets(&name).into_owned(), value)
        });
        Some(Entry { source, time, level, message, fields: fields.collect(), is_structured: true })
    }
}

/// The fields of a line that a logger wrote: an object with a message.
fn structured(line: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) if fields.get("msg").is_some_and(Value::is_string) => Some(fields),
        _ => None,
    }
}

fn without_secrets_in(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(logged(name, &text).into_owned()),
        Value::Array(items) => items.into_iter().map(|item| without_secrets_in(name, item)).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| {
                let value = without_secrets_in(&name, value);
                (without_secrets(&name).into_owned(), value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Number(number) => {
            let text = number.to_string();
            let shown = logged(name, &text);
            if shown == text { Value::Number(number) } else { Value::String(shown.into_owned()) }
        }
        other => other,
    }
}

/// How the source is named in front of each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    None,
    Pod,
    /// The program, too.
    Program,
}

/// A line for people: time, level, message, and the other fields as KEY=VALUE; one that is no JSON as it is.
pub fn text(entry: &Entry, prefix: Prefix) -> String {
    let pod = visible(&entry.source.pod);
    let mut line = match (prefix, entry.source.program) {
        (Prefix::None, _) => String::new(),
        (Prefix::Pod, _) => format!("{pod} "),
        (Prefix::Program, Program::Agent) => format!("agent/{pod} "),
        (Prefix::Program, Program::Gateway) => format!("gateway/{pod} "),
    };
    if entry.is_structured {
        if let Some(time) = entry.time {
            line.push_str(&time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ ").to_string());
        }
        if let Some(level) = &entry.level {
            line.push_str(&format!("{} ", painted(&format!("{:<5}", visible(level)))));
        }
    }
    line.push_str(&visible(&entry.message));
    for (name, value) in &entry.fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        line.push_str(&format!(" {}={}", visible(name), word(&visible(&text))));
    }
    line
}

fn painted(level: &str) -> String {
    match level.trim_end() {
        "ERROR" | "FATAL" | "PANIC" => paint::bad(level),
        "WARN" | "WARNING" => paint::warning(level),
        "DEBUG" | "TRACE" => paint::faint(level),
        _ => level.to_owned(),
    }
}

/// A value as one word: in quotation marks where it is not.
fn word(value: &str) -> String {
    if value.is_empty() || value.starts_with('"') || value.contains([' ', '=']) {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        value.to_owned()
    }
}

/// The same as an object.
pub fn json(entry: &Entry) -> Value {
    json!({
        "time": entry.time,
        "source": entry.source.program,
        "pod": entry.source.pod,
        "level": entry.level,
        "message": entry.message,
        "fields": entry.fields,
    })
}

/// Sorts lines by their times. One without a time stays behind the line before it.
pub fn sort(logs: Vec<Vec<Entry>>) -> Vec<Entry> {
    let timed = logs.into_iter().flat_map(|log| {
        let mut last = None;
        log.into_iter().map(move |entry| {
            last = entry.time.max(last);
            (last, entry)
        })
    });
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(time, _)| *time);
    timed.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;

    fn source(program: Program, pod: &str) -> LogSource {
        LogSource { program, pod: pod.into() }
    }

    fn entry(pod: &str, written: &str, text: &str) -> Entry {
        let line = LogLine { written: written.parse().ok(), text: text.into() };
        Reading::of(source(Program::Agent, pod)).entry(&line).unwrap()
    }

    const CONNECTED: &str = r#"{"time":"2026-11-22T13:01:22.1239+01:00","level":"INFO","msg":"connected to control plane","component":"agent","planeID":"x","error":"two words","count":2,"valid":["a","b"]}"#;

    #[test]
    fn a_structured_line_is_made_readable_and_any_other_stays_as_it_is() {
        let written = "2026-11-22T12:01:23Z";
        let shown = |text_of: &str| plain(&text(&entry("p", written, text_of), Prefix::None));
        let expected = r#"2026-11-22T12:01:22.123Z INFO  connected to control plane component=agent planeID=x error="two words" count=2 valid="[\"a\",\"b\"]""#;
        assert_eq!(shown(CONNECTED), expected.replace(r#""[\"a\",\"b\"]""#, r#"["a","b"]"#));
        assert_eq!(
            shown(r#"{"level":"warn","msg":"m","a":"","b":"x=y"}"#),
            format!("2026-11-22T12:01:23.000Z WARN  m a=\"\" b=\"x=y\"")
        );
        for text in ["panic: runtime error", "{\"a\":1}", "[1]", "  indented", ""] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("\u{1b}[2J"), r"\u{1b}[2J");
        assert!(!shown(r#"{"msg":"a\nb\u001b[2J"}"#).contains(['\n', '\u{1b}']));
    }

    #[test]
    fn only_the_level_is_coloured() {
        colored::control::set_override(true);
        let shown = text(&entry("p", "", r#"{"level":"ERROR","msg":"m","a":"b"}"#), Prefix::Pod);
        assert_eq!(shown, format!("p {} m a=b", paint::bad("ERROR")));
    }

    #[test]
    fn the_source_is_named_in_front_of_a_line_and_in_json() {
        let mut reading = Reading::of(source(Program::Gateway, "g"));
        let line = reading.entry(&LogLine { written: None, text: "x".into() }).unwrap();
        let prefixed = [Prefix::None, Prefix::Pod, Prefix::Program].map(|prefix| text(&line, prefix));
        assert_eq!(prefixed, ["x", "g x", "gateway/g x"]);
        assert_eq!(text(&entry("a", "", "x"), Prefix::Program), "agent/a x");
        let expected =
            json!({"time": null, "source": "gateway", "pod": "g", "level": null, "message": "x", "fields": {}});
        assert_eq!(json(&line), expected);
        let fields =
            json!({"component": "agent", "planeID": "x", "error": "two words", "count": 2, "valid": ["a", "b"]});
        assert_eq!(json(&entry("a", "", CONNECTED))["fields"], fields);
    }

    #[test]
    fn secrets_are_in_no_output() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let pem = key.serialize_pem();
        let fields = json!({
            "msg": format!("key {pem}"), "ca": certificate, "token": 123456, "nested": {"password": "hunter2", "list": [pem]},
            "header": "Bearer abcdefghijklmnopqrstuvwx",
        });
        let body: Vec<_> = pem.lines().chain(certificate.lines()).filter(|line| !line.starts_with('-')).collect();
        let mut shown = Vec::new();
        for log in [vec![fields.to_string()], pem.lines().map(str::to_owned).collect()] {
            let mut reading = Reading::of(source(Program::Agent, "p"));
            let lines = log.iter().map(|text| LogLine { written: None, text: text.clone() });
            let entries: Vec<_> = lines.filter_map(|line| reading.entry(&line)).collect();
            assert_eq!(entries.len(), 1);
            shown.extend(entries.iter().flat_map(|entry| [text(entry, Prefix::None), json(entry).to_string()]));
        }
        let shown = shown.concat();
        for secret in body.into_iter().chain(["123456", "hunter2", "abcdefghijklmnop"]) {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[test]
    fn lines_are_sorted_by_their_times_and_those_without_stay_together() {
        let time = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
        let logs = vec![
            vec![entry("a", &time(1), "1"), entry("a", "", "1 more"), entry("a", &time(4), "4")],
            vec![entry("b", "", "0"), entry("b", &time(2), "2"), entry("b", &time(4), "4 too")],
        ];
        let messages: Vec<_> = sort(logs).into_iter().map(|entry| entry.message).collect();
        assert_eq!(messages, ["0", "1", "1 more", "2", "4", "4 too"]);
    }
}
