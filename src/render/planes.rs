//! Planes as a table, a row each.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::str::FromStr;

use jiff::Timestamp;

use super::{Identity, NONE, cell, columns, cut, state};
use crate::estate::{Cause, ClientCa};
use crate::paint;
use crate::pki::{DefectKind, SOON};
use crate::plane::{AgentConnection, Plane, PlaneKey, ROTATION, State, age};
use crate::text::visible;

/// Widest message in a table.
const MESSAGE: usize = 60;

/// Which of two rows comes first at a time.
type Order = fn(&Row, &Row, Timestamp) -> Ordering;

/// A column by its title, and what it shows of a row at a time.
enum Column {
    /// One that the table can be sorted by.
    Always(&'static str, fn(&Row, Timestamp) -> String, Order),
    /// One in the wide table only.
    Wide(&'static str, fn(&Row, &Wide, Timestamp) -> String),
}

/// The columns behind those that identify the plane, from the left. By state the worst come first, by a time the newest.
static COLUMNS: [Column; 12] = [
    Column::Always("PLANE-ID", |row, _| cell(&row.plane_id), |a, b, _| a.plane_id.cmp(&b.plane_id)),
    Column::Always("STATE", |row, now| state(row.state(now)), by_state),
    Column::Always(
        "AGENTS",
        |row, _| row.agents().map_or_else(|| NONE.to_owned(), |agents| agents.to_string()),
        |a, b, _| b.agents().cmp(&a.agents()),
    ),
    Column::Always(
        "HEARTBEAT",
        |row, now| since(row.heartbeat().map(|heartbeat| heartbeat.min(now)), now),
        |a, b, _| b.heartbeat().cmp(&a.heartbeat()),
    ),
    Column::Always("SINCE", |row, now| since(row.since(now), now), |a, b, now| b.since(now).cmp(&a.since(now))),
    Column::Always("AGE", |row, now| since(row.created, now), |a, b, _| b.created.cmp(&a.created)),
    Column::Wide("CLIENT-CA", |_, wide, _| cell(wide.ca.source())),
    Column::Wide("CA-EXPIRES", |_, wide, now| expires(&wide.ca, now)),
    Column::Wide("SECRET-STORE", |_, wide, _| cell(&wide.secret_store)),
    Column::Wide("OBSERVABILITY", |_, wide, _| cell(&wide.observability)),
    Column::Wide("MESSAGE", |row, _, _| message(row)),
    Column::Wide("CA-REMARKS", |_, wide, now| remarks(wide, now)),
];

/// What rows are sorted by: a column's title in any case. Equal ones stay by name.
#[derive(Clone, Copy, Debug)]
pub struct SortBy(Order);

impl SortBy {
    pub const NAME: Self = Self(by_name);
    pub const STATE: Self = Self(by_state);

    /// Returns the columns that a table can be sorted by, as users write them.
    pub fn names() -> impl Iterator<Item = String> {
        Self::all().map(|(title, _)| title.to_lowercase())
    }

    fn all() -> impl Iterator<Item = (&'static str, Self)> {
        let identity: [(_, Order); 3] = [("NAME", by_name), ("KIND", by_kind), ("NAMESPACE", by_namespace)];
        let identity = identity.into_iter().map(|(title, order)| (title, Self(order)));
        identity.chain(COLUMNS.iter().filter_map(|column| match column {
            Column::Always(title, _, order) => Some((*title, Self(*order))),
            Column::Wide(..) => None,
        }))
    }
}

impl FromStr for SortBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let column = Self::all().find(|(title, _)| title.eq_ignore_ascii_case(text)).map(|(_, column)| column);
        column.ok_or_else(|| format!("not a column: one of {}", Self::names().collect::<Vec<_>>().join(", ")))
    }
}

fn by_name(a: &Row, b: &Row, _: Timestamp) -> Ordering {
    let order = |row: &Row| (row.key.name.clone(), row.key.namespace.clone(), row.key.kind);
    a.key.name.cmp(&b.key.name).then_with(|| order(a).cmp(&order(b)))
}

fn by_kind(a: &Row, b: &Row, _: Timestamp) -> Ordering {
    a.key.kind.kind.cmp(b.key.kind.kind)
}

fn by_namespace(a: &Row, b: &Row, _: Timestamp) -> Ordering {
    a.key.namespace.cmp(&b.key.namespace)
}

fn by_state(a: &Row, b: &Row, now: Timestamp) -> Ordering {
    a.state(now).cmp(&b.state(now))
}

/// What a table shows of a plane, and no more: thousands of them take little memory.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: PlaneKey,
    pub plane_id: String,
    created: Option<Timestamp>,
    deleted: Option<Timestamp>,
    connection: Option<AgentConnection>,
    wide: Option<Box<Wide>>,
    /// Cells of columns that the user chose.
    chosen: Vec<String>,
}

/// Columns of labels, which are the last ones of the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelColumns<'a> {
    /// Labels with a column each.
    pub keys: &'a [String],
    /// Whether one more column has all labels.
    pub all: bool,
}

impl LabelColumns<'_> {
    /// Returns a plane's cells.
    pub fn cells(self, plane: &Plane) -> Vec<String> {
        let labels = plane.labels();
        let one = |key: &String| labels.get(key).map_or_else(|| NONE.into(), |value| cell(value));
        let pair = |(key, value)| format!("{key}={value}");
        let all = labels.iter().map(pair).collect::<Vec<_>>().join(",");
        let all = Some(visible(&all).into_owned()).filter(|all| !all.is_empty()).unwrap_or_else(|| NONE.into());
        self.keys.iter().map(one).chain(self.all.then_some(all)).collect()
    }

    /// Returns the columns' titles: what kubectl makes of a key, the upper-case part after its prefix.
    fn titles(self) -> impl Iterator<Item = String> {
        let title = |key: &String| cell(&key.rsplit('/').next().unwrap_or(key).to_uppercase());
        self.keys.iter().map(title).chain(self.all.then(|| "LABELS".into()))
    }
}

/// The planes of older kinds in a table that have a counterpart there, each with that.
pub fn in_migration(rows: &[Row]) -> Vec<(&Row, &PlaneKey)> {
    let of = |row: &Row, kind| (kind, row.key.namespace.clone(), row.plane_id.clone());
    let may_be = rows.iter().filter(|row| row.key.kind.counterpart().is_some());
    let all: HashMap<_, _> = may_be.map(|row| (of(row, row.key.kind), &row.key)).collect();
    let old = rows.iter().filter_map(|row| Some((row, row.key.kind.successor()?)));
    old.filter_map(|(row, kind)| Some((row, *all.get(&of(row, kind))?))).collect()
}

/// What only the wide table shows.
#[derive(Clone, Debug)]
struct Wide {
    ca: ClientCa,
    /// Whether a rotation of the CA is unfinished.
    rotating: bool,
    secret_store: String,
    observability: String,
}

impl Row {
    /// A row of the table; with its CA, one of the wide table.
    pub fn new(plane: Plane, ca: Option<ClientCa>) -> Self {
        let (key, plane_id) = (plane.key(), plane.plane_id().to_owned());
        let created = plane.created();
        let rotating = plane.annotation(ROTATION).is_some();
        let spec = plane.spec;
        let wide = ca.map(|ca| {
            Box::new(Wide {
                ca,
                rotating,
                secret_store: spec.secret_store_ref.map(|store| store.name).unwrap_or_default(),
                observability: spec
                    .observability_plane_ref
                    .map(|reference| reference.name().to_owned())
                    .unwrap_or_default(),
            })
        });
        let connection = plane.status.and_then(|status| status.agent_connection);
        Self {
            key,
            plane_id,
            created,
            deleted: plane.metadata.deletion_timestamp.map(|time| time.0),
            // A message may be long, and only the wide table has it.
            connection: connection.map(|connection| AgentConnection {
                message: connection.message.filter(|_| wide.is_some()),
                ..connection
            }),
            wide,
            chosen: Vec::new(),
        }
    }

    /// Adds the cells of columns that the user chose.
    pub fn with_chosen(self, chosen: Vec<String>) -> Self {
        Self { chosen, ..self }
    }

    /// Returns the cells of columns that the user chose.
    pub fn chosen(&self) -> &[String] {
        &self.chosen
    }

    pub fn state(&self, now: Timestamp) -> State {
        State::of(self.connection.as_ref(), self.deleted.is_some(), now)
    }

    fn since(&self, now: Timestamp) -> Option<Timestamp> {
        self.deleted.or_else(|| State::since(self.connection.as_ref()?, now))
    }

    fn heartbeat(&self) -> Option<Timestamp> {
        self.connection.as_ref()?.last_heartbeat_time
    }

    fn agents(&self) -> Option<i64> {
        Some(self.connection.as_ref()?.connected_agents)
    }

    fn cells(&self, identity: Identity, now: Timestamp) -> Vec<String> {
        let cell = |column: &Column| match column {
            Column::Always(_, cell, _) => Some(cell(self, now)),
            Column::Wide(_, cell) => Some(cell(self, self.wide.as_ref()?, now)),
        };
        let cells = identity.cells(&self.key).into_iter().chain(COLUMNS.iter().filter_map(cell));
        cells.chain(self.chosen.iter().cloned()).collect()
    }
}

fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| NONE.to_owned(), |time| age(time, now))
}

fn message(row: &Row) -> String {
    let message = row.connection.as_ref().and_then(|connection| connection.message.as_deref());
    message.filter(|message| !message.is_empty()).map_or_else(|| NONE.to_owned(), |message| cut(message, MESSAGE))
}

fn expires(ca: &ClientCa, now: Timestamp) -> String {
    match (ca.certificates(), ca.expires()) {
        (_, Some(end)) if end < now => paint::bad(&format!("{} ago", age(end, now))),
        (_, Some(end)) if SOON.covers(end, now) => paint::warning(&age(end, now)),
        (_, Some(end)) => age(end, now),
        (Err(problem), None) if problem.cause == Cause::Forbidden => paint::faint(problem.cause.word()),
        (Err(problem), None) => paint::bad(problem.cause.word()),
        (Ok(_), None) => NONE.to_owned(),
    }
}

/// The ids of what is wrong with the CA, but for what its expiry says.
fn remarks(wide: &Wide, now: Timestamp) -> String {
    let reported = [DefectKind::PinnedLeaf, DefectKind::SameName, DefectKind::WeakKey];
    let defects = wide.ca.defects(now, SOON);
    let kinds = reported.into_iter().filter(|kind| defects.iter().any(|defect| defect.kind == *kind));
    let mut remarks: Vec<_> = kinds.map(DefectKind::id).collect();
    remarks.extend(wide.rotating.then_some("rotation-unfinished"));
    if remarks.is_empty() { NONE.to_owned() } else { paint::warning(&remarks.join(",")) }
}

/// Puts rows in order.
pub fn sort(rows: &mut [Row], by: SortBy, now: Timestamp) {
    rows.sort_by(|a, b| by.0(a, b, now).then_with(|| by_name(a, b, now)));
}

/// Returns the planes that come first in the order of [`SortBy::STATE`], in no order: rows are made of these alone.
pub fn first_by_state(planes: Vec<&Plane>, count: usize, now: Timestamp) -> Vec<&Plane> {
    let mut planes: Vec<_> = planes.into_iter().map(|plane| (plane.state(now), plane)).collect();
    if count < planes.len() {
        planes.select_nth_unstable_by(count, |(state, plane), (other_state, other)| {
            let names = || plane.name().cmp(other.name());
            let places = || (&plane.metadata.namespace, plane.kind).cmp(&(&other.metadata.namespace, other.kind));
            state.cmp(other_state).then_with(names).then_with(places)
        });
        planes.truncate(count);
    }
    planes.into_iter().map(|(_, plane)| plane).collect()
}

/// The table. Kind and namespace are shown where rows differ in them, or where several were `asked` for.
pub fn table(rows: &[Row], headers: bool, asked: Identity, now: Timestamp) -> String {
    table_with(rows, headers, asked, LabelColumns::default(), now)
}

/// The same with columns of labels, whose cells the rows have.
pub fn table_with(rows: &[Row], headers: bool, asked: Identity, labels: LabelColumns, now: Timestamp) -> String {
    let found = Identity::of(rows.iter().map(|row| &row.key));
    let is_namespaced = rows.iter().any(|row| row.key.namespace.is_some());
    let identity =
        Identity { kind: found.kind || asked.kind, namespace: found.namespace || (asked.namespace && is_namespaced) };
    let wide = rows.first().is_some_and(|row| row.wide.is_some());
    let title = |column: &Column| match column {
        Column::Always(title, ..) => Some(*title),
        Column::Wide(title, _) => wide.then_some(*title),
    };
    let labels: Vec<_> = labels.titles().collect();
    let header = identity.titles().into_iter().chain(COLUMNS.iter().filter_map(title));
    let header: Vec<_> = header.chain(labels.iter().map(String::as_str)).collect();
    columns(headers.then_some(&header), rows.iter().map(|row| row.cells(identity, now)))
}

/// How many planes are in which state: `3 planes: 1 Connected, 2 Unreported`.
pub fn summary(planes: impl Iterator<Item = State>) -> String {
    let states: Vec<_> = planes.collect();
    let counts = State::ALL.into_iter().rev().filter_map(|wanted| {
        let count = states.iter().filter(|found| **found == wanted).count();
        (count > 0).then(|| format!("{count} {}", state(wanted)))
    });
    let counts: Vec<_> = counts.collect();
    let noun = if states.len() == 1 { "plane" } else { "planes" };
    if counts.is_empty() { format!("no {noun}") } else { format!("{} {noun}: {}", states.len(), counts.join(", ")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::estate::Unavailable;
    use crate::plane::Kind;
    use crate::render::plain;
    use serde_json::json;
    use snapbox::{assert_data_eq, str};

    pub(crate) fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// A plane whose connection is that of one state, and others that test the widths.
    pub(crate) fn planes() -> Vec<Plane> {
        let plane = |name: &str, connection: serde_json::Value| {
            let status = if connection.is_null() { json!({}) } else { json!({"agentConnection": connection}) };
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": "2026-11-13T12:00:00Z"},
                "spec": {"planeID": format!("{name}-id"), "clusterAgent": {"clientCA": {"value": "x"}}},
                "status": status,
            }))
            .unwrap()
        };
        vec![
            plane(
                "shared",
                json!({"connected": true, "connectedAgents": 2, "lastConnectedTime": "2026-11-19T08:00:00Z", "lastHeartbeatTime": "2026-11-22T11:59:48Z", "message": "2 agents connected (HA mode)"}),
            ),
            plane(
                "late",
                json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-11-22T11:57:40Z"}),
            ),
            plane(
                "stale",
                json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-11-20T11:57:40Z"}),
            ),
            plane(
                "secure",
                json!({"connected": false, "connectedAgents": 0, "lastConnectedTime": "2026-11-01T00:00:00Z", "lastDisconnectedTime": "2026-11-22T11:57:00Z", "lastHeartbeatTime": "2026-11-22T11:56:00Z", "message": "No agents connected"}),
            ),
            plane("new", json!(null)),
            plane("never", json!({"connected": false, "connectedAgents": 0})),
        ]
    }

    fn rows(ca: Option<ClientCa>) -> Vec<Row> {
        planes().into_iter().map(|plane| Row::new(plane, ca.clone())).collect()
    }

    #[test]
    fn the_first_by_state_are_those_that_are_sorted_first() {
        let mut all = planes();
        for (plane, place) in planes()
            .into_iter()
            .flat_map(|plane| [("dp", "n"), ("dp", "m"), ("observabilityplane", "n")].map(|at| (plane.clone(), at)))
        {
            let kind = Kind::of_word(place.0).unwrap();
            let mut plane = plane;
            plane.kind = kind;
            plane.metadata.namespace = Some(place.1.into());
            all.push(plane);
        }
        for count in 0..=all.len() + 1 {
            let rows = |planes: Vec<Plane>| {
                let mut rows: Vec<_> = planes.into_iter().map(|plane| Row::new(plane, None)).collect();
                sort(&mut rows, SortBy::STATE, now());
                rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
            };
            let first = first_by_state(all.iter().collect(), count, now()).into_iter().cloned().collect();
            let expected: Vec<_> = rows(all.clone()).into_iter().take(count).collect();
            assert_eq!(rows(first), expected);
        }
    }

    #[test]
    fn the_table() {
        let mut rows = rows(None);
        sort(&mut rows, SortBy::STATE, now());
        assert_data_eq!(
            plain(&table(&rows, true, Identity::default(), now())),
            str![[r#"
NAME    PLANE-ID   STATE           AGENTS  HEARTBEAT  SINCE  AGE
stale   stale-id   Stale           1       2d         47h    9d
secure  secure-id  Disconnected    0       4m         3m     9d
never   never-id   NeverConnected  0       -          -      9d
new     new-id     Unreported      -       -          -      9d
late    late-id    Late            1       2m20s      19s    9d
shared  shared-id  Connected       2       12s        3d4h   9d

"#]]
        );
        assert_data_eq!(
            plain(&summary(rows.iter().map(|row| row.state(now())))),
            str!["6 planes: 1 Connected, 1 Late, 1 Unreported, 1 NeverConnected, 1 Disconnected, 1 Stale"]
        );
    }

    #[test]
    fn labels_are_the_last_columns() {
        let mut plane = planes().remove(4);
        let labels = [("team", "ci"), ("app.kubernetes.io/name", "\u{1b}[2J")];
        plane.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let keys = ["app.kubernetes.io/name", "none"].map(str::to_owned);
        let labels = LabelColumns { keys: &keys, all: true };
        let rows = [plane, planes().remove(5)].map(|plane| {
            let cells = labels.cells(&plane);
            Row::new(plane, None).with_chosen(cells)
        });
        let text = plain(&table_with(&rows, true, Identity::default(), labels, now()));
        let last = |line: &str| line.split_whitespace().skip(7).map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = text.lines().map(last).collect();
        let all = r"app.kubernetes.io/name=\u{1b}[2J,team=ci";
        assert_eq!(lines, [["NAME", "NONE", "LABELS"], [r"\u{1b}[2J", NONE, all], [NONE; 3]]);
    }

    #[test]
    fn a_table_is_sorted_by_any_column_that_has_an_order() {
        // The first two of each order; equal ones are by name.
        let cases = [
            ("name", ["late", "never"]),
            ("kind", ["late", "never"]),
            ("namespace", ["late", "never"]),
            ("plane-id", ["late", "never"]),
            ("state", ["stale", "secure"]),
            ("agents", ["shared", "late"]),
            ("heartbeat", ["shared", "late"]),
            ("since", ["late", "secure"]),
            ("age", ["late", "never"]),
        ];
        assert_eq!(SortBy::names().collect::<Vec<_>>(), cases.map(|(name, _)| name));
        for (name, first) in cases {
            let mut rows = rows(None);
            sort(&mut rows, name.to_uppercase().parse().unwrap(), now());
            assert_eq!([rows[0].key.name.as_str(), rows[1].key.name.as_str()], first, "{name}");
        }
        assert!("message".parse::<SortBy>().unwrap_err().contains("one of name, kind, namespace, plane-id, state"));
    }

    #[test]
    fn kind_and_namespace_are_shown_and_sorted_by_where_they_differ() {
        let of = |word: &str, namespace: Option<&str>| {
            let mut plane = planes().remove(0);
            plane.kind = Kind::of_word(word).unwrap();
            plane.metadata.namespace = namespace.map(str::to_owned);
            Row::new(plane, None)
        };
        let head = |rows: &[Row], kinds, everywhere| {
            let text = plain(&table(rows, true, Identity { kind: kinds, namespace: everywhere }, now()));
            let words: Vec<_> = text.lines().next().unwrap().split_whitespace().map(str::to_owned).collect();
            words[..words.iter().position(|word| word == "PLANE-ID").unwrap()].join(" ")
        };
        let (cluster, one, two) = (of("cdp", None), of("dp", Some("one")), of("dp", Some("two")));
        for (rows, kinds, everywhere, expected) in [
            (vec![cluster.clone()], false, true, "NAME"),
            (vec![cluster.clone()], true, true, "KIND NAME"),
            (vec![one.clone()], false, false, "NAME"),
            (vec![one.clone()], false, true, "NAMESPACE NAME"),
            (vec![one.clone(), two.clone()], false, false, "NAMESPACE NAME"),
            (vec![cluster.clone(), of("cwp", None)], false, false, "KIND NAME"),
            (vec![cluster.clone(), one.clone()], false, false, "NAMESPACE KIND NAME"),
        ] {
            assert_eq!(head(&rows, kinds, everywhere), expected);
        }
        for (column, expected) in
            [("kind", ["a", "one/a", "two/a", "zero/a"]), ("namespace", ["a", "one/a", "two/a", "zero/a"])]
        {
            let mut rows = [of("observabilityplane", Some("zero")), two.clone(), one.clone(), cluster.clone()];
            rows.iter_mut().for_each(|row| row.key.name = "a".into());
            sort(&mut rows, column.parse().unwrap(), now());
            assert_eq!(rows.map(|row| row.key.to_string()), expected, "{column}");
        }
        let text = plain(&table(&[cluster, one], false, Identity::default(), now()));
        assert!(text.starts_with("-    ClusterDataPlane  shared"), "{text}");
    }

    #[test]
    fn the_wide_table_says_what_could_not_be_read() {
        for (cause, word) in [(Cause::Forbidden, "forbidden"), (Cause::Missing, "missing")] {
            let problem = Unavailable::new(cause, "");
            let ca = ClientCa::new("secret/a/b:ca.crt".into(), Err(problem));
            let text = plain(&table(&rows(Some(ca))[..1], false, Identity::default(), now()));
            assert!(text.contains(word) && text.contains("2 agents connected (HA mode)"), "{text}");
        }
    }

    #[test]
    fn hostile_text_stays_in_its_cell() {
        let mut plane = planes().remove(0);
        plane.metadata.name = Some("\u{1b}[2Jx\n\u{202e}y".into());
        plane.status.as_mut().unwrap().agent_connection.as_mut().unwrap().message = Some("m\n".repeat(1 << 20));
        let ca = ClientCa::new("value".into(), Ok(vec![]));
        let text = plain(&table(&[Row::new(plane, Some(ca))], false, Identity::default(), now()));
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with(r"\u{1b}[2Jx\n\u{202e}y"), "{text}");
        assert!(text.len() < 400);
    }
}
