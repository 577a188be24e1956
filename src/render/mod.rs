//! Views: pure functions from what is known, and the time, to text. Colour is always in it; the terminal layer strips it.

pub mod certificates;
pub mod checks;
pub mod custom_columns;
pub mod describe;
pub mod diff;
pub mod forecast;
pub mod logs;
pub mod migration;
pub mod planes;
pub mod report;
pub mod sarif;
pub mod snippet;
pub mod status;
pub mod timeline;
pub mod verdicts;
pub mod watch;

use comfy_table::{Cell, ColumnConstraint, Table, Width, presets};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::paint;
use crate::plane::{PlaneKey, State};
use crate::secrets::redacted;
use crate::text::visible;

/// Widest text of a table's cell, in columns.
const CELL: usize = 80;

/// What is where nothing is known.
pub const NONE: &str = "-";

/// A view's JSON without the private keys that somebody put where none belongs.
pub fn redacted_json(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(redacted(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(redacted_json).collect(),
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| (redacted(&key).into_owned(), redacted_json(value));
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// A view of planes as JSON, each of which is made when it is written: all of them at once take ten times their text.
pub struct PlanesJson<'v, P> {
    /// What comes before the planes, by field.
    pub before: Vec<(&'static str, serde_json::Value)>,
    pub planes: &'v [P],
    pub json: fn(&P) -> serde_json::Value,
}

impl<P> Serialize for PlanesJson<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Each<'v, P>(&'v PlanesJson<'v, P>);

        impl<P> Serialize for Each<'_, P> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.planes.iter().map(|plane| redacted_json((self.0.json)(plane))))
            }
        }

        let mut object = serializer.serialize_map(None)?;
        for (field, value) in &self.before {
            object.serialize_entry(field, &redacted_json(value.clone()))?;
        }
        object.serialize_entry("planes", &Each(self))?;
        object.end()
    }
}

/// The columns that say which plane a row is about: kind and namespace only where they distinguish planes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    pub kind: bool,
    pub namespace: bool,
}

impl Identity {
    pub fn of<'k>(mut keys: impl Iterator<Item = &'k PlaneKey>) -> Self {
        let Some(first) = keys.next() else {
            return Self::default();
        };
        keys.fold(Self::default(), |columns, key| Self {
            kind: columns.kind || key.kind != first.kind,
            namespace: columns.namespace || key.namespace != first.namespace,
        })
    }

    pub fn titles(self) -> Vec<&'static str> {
        let more = [(self.namespace, "NAMESPACE"), (self.kind, "KIND"), (true, "NAME")];
        more.into_iter().filter_map(|(shown, title)| shown.then_some(title)).collect()
    }

    pub fn cells(self, key: &PlaneKey) -> Vec<String> {
        let namespace = self.namespace.then(|| cell(key.namespace.as_deref().unwrap_or_default()));
        let kind = self.kind.then(|| key.kind.kind.to_owned());
        namespace.into_iter().chain(kind).chain([cell(&key.name)]).collect()
    }
}

/// What identifies a plane, as the first fields of its JSON.
pub fn identity_json(key: &PlaneKey, mut rest: serde_json::Value) -> serde_json::Value {
    let mut object = serde_json::json!({"name": key.name, "kind": key.kind.kind, "namespace": key.namespace});
    if let (Some(object), Some(rest)) = (object.as_object_mut(), rest.as_object_mut()) {
        object.append(rest);
    }
    object
}

/// Rows that are laid out at once. Their widths are known before, so that a long table is made piece by piece.
const CHUNK: usize = 500;

/// A table without lines, as kubectl prints it: columns two blanks apart, none after the last.
///
/// Cells must be on one line already; see [`cell`].
pub fn columns(header: Option<&[&str]>, rows: impl Iterator<Item = Vec<String>> + Clone) -> String {
    let mut widths: Vec<u16> = header.iter().flat_map(|header| header.iter()).map(|name| width(name)).collect();
    for row in rows.clone() {
        widths.resize(row.len().max(widths.len()), 0);
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let mut text = String::new();
    if let Some(header) = header {
        lay_out(vec![header.iter().map(|name| (*name).to_owned()).collect()], &widths, &mut text);
    }
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        lay_out(rows.by_ref().take(CHUNK).collect(), &widths, &mut text);
    }
    text
}

fn width(cell: &str) -> u16 {
    u16::try_from(console::measure_text_width(cell)).unwrap_or(u16::MAX)
}

fn lay_out(rows: Vec<Vec<String>>, widths: &[u16], text: &mut String) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(Cell::new_owned).collect::<Vec<_>>()));
    let last = widths.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        let padding = if index == last { 0 } else { 2 };
        column.set_padding((0, padding));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(widths[index] + padding)));
    }
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Untrusted text for a table: on one line, visible, and cut at a width.
pub fn cell(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { cut(text, CELL) }
}

/// Untrusted text, visible and cut at a width in columns.
pub fn cut(text: &str, width: usize) -> String {
    let text = redacted(text);
    // A character takes a byte at least, so what is cut off need not be looked at.
    let shown = visible(&text[..text.floor_char_boundary(4 * width + 4)]).into_owned();
    let kept = console::truncate_str(&shown, width, "");
    if kept.len() < shown.len() {
        let kept = kept.trim_end();
        let kept = kept.char_indices().next_back().map_or("", |(last, _)| &kept[..last]);
        return format!("{kept}…");
    }
    if text.len() > 4 * width + 4 { format!("{shown}…") } else { shown }
}

/// A state's word in its colour.
pub fn state(state: State) -> String {
    match state {
        State::Connected => paint::good(state.name()),
        State::Late | State::Deleting => paint::warning(state.name()),
        State::Stale | State::Disconnected | State::NeverConnected => paint::bad(state.name()),
        State::Unreported => paint::faint(state.name()),
    }
}

/// Returns a view's text without its colours.
pub fn plain(text: &str) -> String {
    console::strip_ansi_codes(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["日本".into(), state(State::Connected), "x".into()], vec!["a".into(), "b".into(), NONE.into()]];
        assert_eq!(
            plain(&columns(Some(&["NAME", "STATE", "LAST"]), rows.into_iter())),
            "NAME  STATE      LAST\n日本  Connected  x\na     b          -\n"
        );
        assert_eq!(columns(None, std::iter::empty()), "");
    }

    proptest! {
        #[test]
        fn a_cell_is_one_harmless_line(text in "(?s).{0,300}|[\u{1b}\n\u{202e}a日]{0,300}") {
            let shown = cell(&text);
            prop_assert!(!shown.contains(crate::text::hidden));
            prop_assert!(console::measure_text_width(&shown) <= CELL + 1);
        }
    }
}
