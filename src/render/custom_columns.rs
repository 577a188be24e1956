//! Columns that the user chooses, as kubectl's `-o custom-columns=NAME:.path,...`.

use std::str::FromStr;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::{Map, Value};

use super::columns;
use crate::text::visible;

/// Represents a field that the object lacks.
pub const MISSING: &str = "<none>";

/// Columns, each with its title and the path of its field.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomColumns(Vec<(String, JpQuery)>);

impl CustomColumns {
    /// Returns a row with the fields of an object. The computed fields are read as `.computed.FIELD` and as `.FIELD`.
    pub fn row(&self, object: Value, computed: &Value) -> Vec<String> {
        let mut fields = computed.as_object().cloned().unwrap_or_default();
        fields.insert("computed".into(), computed.clone());
        if let Value::Object(own) = object {
            fields.extend(own);
        }
        let object = Value::Object(fields);
        self.0.iter().map(|(_, path)| field(path, &object)).collect()
    }

    /// Returns the table with these rows.
    pub fn table<'r>(&self, rows: impl Iterator<Item = &'r [String]> + Clone, headers: bool) -> String {
        let titles: Vec<_> = self.0.iter().map(|(title, _)| visible(title)).collect();
        let titles: Vec<_> = titles.iter().map(AsRef::as_ref).collect();
        columns(headers.then_some(&titles), rows.map(<[_]>::to_vec))
    }
}

impl FromStr for CustomColumns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let column = |column: &str| {
            let (title, path) = column
                .split_once(':')
                .filter(|(title, path)| !title.is_empty() && !path.is_empty())
                .ok_or_else(|| format!("column `{column}` must have the form TITLE:PATH"))?;
            let query = standard(path).ok_or_else(|| format!("path `{path}` lacks the name of a field"))?;
            let query = parse_json_path(&query).map_err(|_| format!("path `{path}` is not a JSONPath expression"))?;
            Ok((title.to_owned(), query))
        };
        text.split(',').map(column).collect::<Result<_, _>>().map(Self)
    }
}

/// Returns a path of kubectl in the syntax of RFC 9535; none where a field has no name. kubectl leaves out `$` and the
/// braces, and its names may have hyphens and, after a backslash, dots:
/// <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.
fn standard(path: &str) -> Option<String> {
    let path = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
    let path = path.strip_prefix('$').unwrap_or(path);
    let path = if path.starts_with(['.', '[']) { path.to_owned() } else { format!(".{path}") };
    let mut query = String::from("$");
    let mut rest = path.chars().peekable();
    let mut quote = None;
    while let Some(c) = rest.next() {
        let is_number = query.ends_with(|last: char| last.is_ascii_digit());
        match (c, quote) {
            ('\\', Some(_)) => {
                query.push(c);
                query.extend(rest.next());
            }
            (c, Some(end)) => {
                query.push(c);
                quote = quote.filter(|_| c != end);
            }
            ('"' | '\'', None) => {
                query.push(c);
                quote = Some(c);
            }
            ('.', None) if !is_number => {
                query.extend(rest.next_if_eq(&'.').map(|_| ".."));
                match rest.peek() {
                    Some('[') => {}
                    Some('*') => query.extend(rest.next().map(|_| "[*]")),
                    _ => {
                        let mut name = String::new();
                        while let Some(c) = rest.next_if(|c| !c.is_whitespace() && !".[]()=!<>&|,".contains(*c)) {
                            name.extend(if c == '\\' { rest.next() } else { Some(c) });
                        }
                        let name = Some(name).filter(|name| !name.is_empty())?;
                        query.push_str(&format!("[{}]", Value::String(name)));
                    }
                }
            }
            (c, None) => query.push(c),
        }
    }
    Some(query)
}

/// Returns the values of a path, joined by commas.
fn field(path: &JpQuery, object: &Value) -> String {
    let found = js_path_process(path, object).unwrap_or_default();
    let values = found.into_iter().map(|found| found.val()).filter(|value| !value.is_null() && *value != "");
    let values: Vec<_> = values.map(text).collect();
    if values.is_empty() { MISSING.into() } else { visible(&values.join(",")).into_owned() }
}

/// Returns a value as kubectl prints it, which is how Go does.
fn text(value: &Value) -> String {
    let pairs = |fields: &Map<String, Value>| {
        let mut pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect();
        pairs.sort();
        pairs.join(" ")
    };
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => format!("map[{}]", pairs(fields)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "builder", "my-team": "ci", "o'n\"e": "q"}},
            "spec": {"planeID": "a-id"},
            "status": {"conditions": [
                {"type": "Created", "status": "True", "generation": 2},
                {"type": "Ready", "status": "False", "generation": 1.5},
            ], "message": "\u{1b}[2J", "none": null, "empty": ""},
        })
    }

    fn cell(path: &str) -> String {
        let columns: CustomColumns = format!("X:{path}").parse().unwrap();
        columns.row(object(), &json!({"planeID": "computed-id", "connection": {"state": "Late"}})).remove(0)
    }

    #[test]
    fn paths_are_kubectls() {
        for (path, expected) in [
            (".metadata.name", "a"),
            ("metadata.name", "a"),
            ("{.metadata.name}", "a"),
            ("{$.metadata.name}", "a"),
            (r".metadata.labels.app\.kubernetes\.io/name", "builder"),
            (".metadata.labels['app.kubernetes.io/name']", "builder"),
            (".metadata.labels.my-team", "ci"),
            (r#".metadata.labels.o'n"e"#, "q"),
            (r#".metadata.labels["o'n\"e"]"#, "q"),
            (".status.conditions[0].type", "Created"),
            (".status.conditions[-1].type", "Ready"),
            (".status.conditions.[1].type", "Ready"),
            (".status.conditions[*].type", "Created,Ready"),
            (".status.conditions[0:1].type", "Created"),
            (r#".status.conditions[?(@.type=="Ready")].status"#, "False"),
            (".status.conditions[?(@.generation > 1.6)].type", "Created"),
            (".status.conditions[?(@.type == 'a.b')].status", MISSING),
            ("..generation", "2,1.5"),
            (".spec.*", "a-id"),
            (".spec", "map[planeID:a-id]"),
            (".status.conditions[0]", "map[generation:2 status:True type:Created]"),
            (".status.conditions[9].type", MISSING),
            (".spec.planeID.deeper", MISSING),
            (".status.none", MISSING),
            (".status.empty", MISSING),
            (".status.message", r"\u{1b}[2J"),
        ] {
            assert_eq!(cell(path), expected, "{path} as {:?}", standard(path));
        }
    }

    #[test]
    fn computed_fields_do_not_hide_those_of_the_object() {
        assert_eq!(cell(".connection.state"), "Late");
        assert_eq!(cell(".computed.connection.state"), "Late");
        assert_eq!(cell(".spec.planeID"), "a-id");
        let columns: CustomColumns = "X:.planeID".parse().unwrap();
        assert_eq!(columns.row(json!({"planeID": "own"}), &json!({"planeID": "computed"})), ["own"]);
        assert_eq!(columns.row(json!({}), &Value::Null), [MISSING]);
    }

    #[test]
    fn the_table_has_the_titles_that_were_given() {
        let columns: CustomColumns = "NAME:.metadata.name,Labels:.metadata.none".parse().unwrap();
        let row = columns.row(object(), &Value::Null);
        let table = |headers| columns.table([&row[..]].into_iter(), headers);
        assert_eq!(table(true), "NAME  Labels\na     <none>\n");
        assert_eq!(table(false), "a  <none>\n");
    }

    #[test]
    fn a_column_that_cannot_be_read_is_an_error() {
        for (spec, said) in [
            ("", "column `` must have the form TITLE:PATH"),
            ("NAME", "column `NAME` must"),
            ("NAME:", "column `NAME:` must"),
            (":.a", "column `:.a` must"),
            ("A:.a,", "column `` must"),
            ("A:.a.", "path `.a.` lacks the name of a field"),
            ("A:.a[", "path `.a[` is not a JSONPath expression"),
            ("A:.a['b", "is not a JSONPath expression"),
        ] {
            let error = spec.parse::<CustomColumns>().unwrap_err();
            assert!(error.contains(said), "{spec}: {error}");
        }
    }
}
