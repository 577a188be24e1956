//! `choreoctl get`: planes as a table, or as the API server's objects.

use std::ffi::OsStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args as ClapArgs, Command, ValueEnum};
use clap_complete::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use super::error::{none_found, tell_missing};
use super::objects::{list, object_name};
use super::watching::watch;
use crate::args::{ChoiceArgs, Chosen, FromFiles, Lookup, OutputArgs, Session, SnapshotArgs};
use crate::cluster::{Error, Target};
use crate::complete;
use crate::estate::{ClientCa, Files, client_cas, parse_all};
use crate::manifest::{json_text, to_yaml};
use crate::plane::{Plane, PlaneKey, State, StateFilter, without_managed_fields};
use crate::render;
use crate::render::custom_columns::CustomColumns;
use crate::render::describe::computed;
use crate::render::planes::{LabelColumns, Row, SortBy};
use crate::render::{Identity, redacted_json};
use crate::term::Exit;
use crate::text::{program, visible};

/// Show planes
///
/// Prints a table, or with -o json and yaml the objects of the API server. With -f it reads files instead of a cluster.
///
/// -o custom-columns=TITLE:PATH,... accepts kubectl's paths, such as .metadata.name or
/// .status.conditions[?(@.type=="Created")].status. A path can also read the fields that --computed adds to objects of
/// -o json and yaml: computed.planeID, and computed.connection with the same fields as `describe -o json` (state,
/// connected, connectedAgents, since, lastConnectedTime, lastDisconnectedTime, lastHeartbeatTime, heartbeatAgeSeconds,
/// message, and counts: whether the number of agents is of the planeID or of the plane). In a path, .connection.state is
/// short for .computed.connection.state.
///
/// In the table, AGENTS is the number of connected agents, HEARTBEAT the age of the last heartbeat, SINCE the time in this
/// state.
///
/// States: Connected; Late: connected, but the heartbeat is older than 120 s; Stale: older than 180 s; Disconnected;
/// NeverConnected: the controller reports that no agent has ever connected; Unreported: the controller has reported
/// nothing yet; Deleting.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("output", |format| format.value_parser(FormatParser).default_value("table")), after_help = "Examples:
  choreoctl get
  choreoctl get planes -A
  choreoctl get dp -n team -o wide --sort-by state
  choreoctl get --state '!Connected' -o name
  choreoctl get -L team --show-labels
  choreoctl get -o custom-columns=NAME:.metadata.name,STATE:.connection.state
  choreoctl get -o json --computed | jq '.items[].computed.connection.state'
  kubectl get cbp -o yaml | choreoctl get -f -")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// States to show, separated by commas, such as Late,Stale; !STATE hides a state
    #[arg(long, value_name = "STATES", add = ArgValueCompleter::new(complete::states))]
    state: Option<StateFilter>,

    /// Column of the table, such as name or state (the worst state first); not a JSONPath
    #[arg(long, value_name = "COLUMN", default_value = "name", add = ArgValueCandidates::new(columns))]
    sort_by: SortBy,

    /// Labels to show as columns, separated by commas (can be repeated)
    #[arg(short = 'L', long, value_name = "KEYS", value_delimiter = ',', conflicts_with = "watch", add = ArgValueCompleter::new(complete::label_keys))]
    label_columns: Vec<String>,

    /// Show all labels as the last column
    #[arg(long, conflicts_with = "watch")]
    show_labels: bool,

    /// Omit the table's header
    #[arg(long)]
    no_headers: bool,

    /// Watch for changes after the first output
    #[arg(short, long, conflicts_with = "files")]
    watch: bool,

    #[command(flatten)]
    output: OutputArgs<Format>,

    /// With -o json and yaml, include metadata.managedFields
    #[arg(long)]
    show_managed_fields: bool,

    /// With -o json and yaml, add planeID and connection (with the state) as the field `computed`
    #[arg(long)]
    computed: bool,

    #[command(flatten)]
    files: SnapshotArgs,
}

#[derive(Clone, Debug, PartialEq, ValueEnum)]
enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
    #[value(skip)]
    Custom(CustomColumns),
}

/// What is before the columns in the format that has some.
const CUSTOM: &str = "custom-columns=";

/// Reads a format by its name, or with its columns.
#[derive(Clone, Debug)]
struct FormatParser;

impl TypedValueParser for FormatParser {
    type Value = Format;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Format, clap::Error> {
        if value.to_str().is_some_and(|text| text.starts_with(CUSTOM)) {
            let columns = |text: &str| text.trim_start_matches(CUSTOM).parse().map(Format::Custom);
            return columns.parse_ref(command, arg, value);
        }
        EnumValueParser::<Format>::new().parse_ref(command, arg, value).map_err(|mut error| {
            let names = self.possible_values().into_iter().flatten().map(|value| value.get_name().to_owned());
            error.insert(ContextKind::ValidValue, ContextValue::Strings(names.collect()));
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue>>> {
        let named = Format::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        Some(Box::new(named.chain([PossibleValue::new(CUSTOM)])))
    }
}

fn columns() -> Vec<CompletionCandidate> {
    SortBy::names().map(CompletionCandidate::new).collect()
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if args.watch {
        if args.output.format != Format::Table {
            anyhow::bail!("--watch supports only the table; for JSON events use `choreoctl watch -o json`");
        }
        return watch(args.choice, args.state.unwrap_or_default(), None, None, session).await;
    }
    let format = &args.output.format;
    if (args.show_labels || !args.label_columns.is_empty()) && !matches!(format, Format::Table | Format::Wide) {
        anyhow::bail!("--show-labels and --label-columns add columns to the table: omit them or -o");
    }
    if args.computed && !matches!(format, Format::Json | Format::Yaml) {
        anyhow::bail!("--computed adds a field to -o json and yaml; custom columns have it without the flag");
    }
    match format {
        Format::Table | Format::Wide | Format::Name => show(&args, session).await,
        Format::Json | Format::Yaml => print(&args, session).await,
        Format::Custom(columns) => show_columns(&args, columns, session).await,
    }
}

/// The planes as a table, or by name.
async fn show(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut rows, now, missing, kinds, target): (Vec<_>, _, _, _, _) = if args.files.given() {
        let FromFiles { snapshot, .. } = args.files.read(&[], &session.term)?;
        let cas = client_cas(&Files::control(&snapshot), &snapshot.planes).await;
        let (chosen, missing) = args.choice.in_files(&snapshot.planes)?;
        let wide = args.output.format == Format::Wide;
        if wide {
            parse_all(&cas);
        }
        let rows = snapshot.planes.into_iter().zip(cas).map(|(plane, ca)| row(args, plane, wide.then_some(ca)));
        (rows.filter(|row| chosen.contains(&row.key)).collect(), snapshot.now, missing, false, Target::default())
    } else {
        let lookup = args.choice.connect(session).await?;
        let (rows, missing) = rows(&lookup, args).await?;
        (rows, lookup.cluster.now(), missing, lookup.has_kinds(), lookup.cluster.target().clone())
    };
    let exit = tell_missing(&missing, &session.term);
    rows.retain(|row| keeps(args, row.state(now)));
    render::planes::sort(&mut rows, args.sort_by, now);
    if rows.is_empty() {
        if exit == Exit::Done {
            none_found(&session.term);
        }
    } else if args.output.format == Format::Name {
        let names: String = rows.iter().map(|row| object_name(&row.key) + "\n").collect();
        session.term.print(&names)?;
    } else {
        let asked = Identity { kind: kinds, namespace: args.choice.is_everywhere() };
        session.term.print(&render::planes::table_with(&rows, !args.no_headers, asked, labels(args), now))?;
        // A script reads the table alone.
        if rows.len() > 1 && !args.no_headers && session.term.shows_output() && !session.term.is_quiet() {
            session.term.line(&render::planes::summary(rows.iter().map(|row| row.state(now))))?;
        }
        if let Some(note) = in_migration(&rows, &target) {
            session.term.note(&program(&note));
        }
    }
    Ok(exit)
}

/// Says of the first plane of v0.17 and its counterpart that they are one.
fn in_migration(rows: &[Row], target: &Target) -> Option<String> {
    let all = render::planes::in_migration(rows);
    let (row, other) = all.first()?;
    let [old, new] = [&row.key, *other].map(PlaneKey::title);
    let (more, next) = match all.len() - 1 {
        0 => (String::new(), row.key.migrate_command()),
        more => (format!(", as are {more} more"), "choreoctl migrate".to_owned()),
    };
    let (id, next) = (visible(&row.plane_id), target.command(&next));
    Some(format!(
        "{old} and {new} have the planeID {id} and are one plane during the migration{more}; next: {next} --out-dir DIR"
    ))
}

fn labels(args: &Args) -> LabelColumns<'_> {
    LabelColumns { keys: &args.label_columns, all: args.show_labels }
}

fn row(args: &Args, plane: Plane, ca: Option<ClientCa>) -> Row {
    let labels = labels(args).cells(&plane);
    Row::new(plane, ca).with_chosen(labels)
}

async fn rows(lookup: &Lookup, args: &Args) -> Result<Chosen<Row>, Error> {
    if args.output.format != Format::Wide {
        return args.choice.in_cluster(lookup, |plane| row(args, plane, None)).await;
    }
    let (planes, missing) = args.choice.in_cluster(lookup, Plane::without_history).await?;
    let cas = client_cas(&lookup.cluster, &planes).await;
    parse_all(&cas);
    Ok((planes.into_iter().zip(cas).map(|(plane, ca)| row(args, plane, Some(ca))).collect(), missing))
}

/// The planes as the API server has them, each made into what is needed of it, the time there, and an error for each that
/// doesn't exist.
async fn objects<R>(
    args: &Args,
    session: &Session,
    make: impl Fn(Value, Timestamp) -> R,
) -> anyhow::Result<(Vec<R>, Timestamp, Vec<anyhow::Error>)> {
    if args.files.given() {
        let FromFiles { values: objects, snapshot } = args.files.read(&[], &session.term)?;
        let (names, missing) = args.choice.in_files(&snapshot.planes)?;
        let chosen = objects.into_iter().filter(|object| names.contains(&PlaneKey::of_object(object)));
        return Ok((chosen.map(|object| make(object, snapshot.now)).collect(), snapshot.now, missing));
    }
    let lookup = args.choice.connect(session).await?;
    let (objects, missing) = args.choice.in_cluster(&lookup, |object| make(object, lookup.cluster.now())).await?;
    Ok((objects, lookup.cluster.now(), missing))
}

/// The planes as a table of the columns that the user chose.
async fn show_columns(args: &Args, columns: &CustomColumns, session: &Session) -> anyhow::Result<Exit> {
    let row = |object: Value, now: Timestamp| {
        let plane = Plane::deserialize(&object)?;
        let cells = columns.row(object, &computed(&plane, now));
        Ok(Row::new(plane, None).with_chosen(cells))
    };
    let (rows, now, missing) = objects(args, session, row).await?;
    let exit = tell_missing(&missing, &session.term);
    let mut rows = rows.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    rows.retain(|row| keeps(args, row.state(now)));
    render::planes::sort(&mut rows, args.sort_by, now);
    if !rows.is_empty() {
        session.term.print(&columns.table(rows.iter().map(Row::chosen), !args.no_headers))?;
    } else if exit == Exit::Done {
        none_found(&session.term);
    }
    Ok(exit)
}

/// The planes as the API server has them, with what is computed where that was asked for.
async fn print(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    // Who wrote which field is most of a listed plane: it need not be held until it is printed.
    let make = |object, _| if args.show_managed_fields { object } else { without_managed_fields(object) };
    let (mut objects, now, missing) = objects(args, session, make).await?;
    let exit = tell_missing(&missing, &session.term);
    if args.state.is_some() {
        objects.retain(|object| Plane::deserialize(object).is_ok_and(|plane| keeps(args, plane.state(now))));
    }
    if args.computed {
        for object in &mut objects {
            object["computed"] = redacted_json(computed(&Plane::deserialize(&*object)?, now));
        }
    }
    let names = args.choice.names()?;
    let result = match objects.as_slice() {
        [object] if names.len() == 1 => object.clone(),
        [] if !names.is_empty() => return Ok(exit),
        objects => list(objects.iter()),
    };
    match args.output.format {
        Format::Yaml => session.term.print(&to_yaml(&result)?)?,
        _ => session.term.line(&json_text(&result)?)?,
    }
    Ok(exit)
}

fn keeps(args: &Args, state: State) -> bool {
    args.state.as_ref().is_none_or(|filter| filter.keeps(state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};
    use crate::cluster::Fake;
    use crate::plane::{DEFAULT_KIND, Kind};
    use serde_json::json;

    async fn lookup(fake: &Fake, args: &Args) -> Lookup {
        args.choice.look(fake.cluster()).await.unwrap()
    }

    fn fake() -> Fake {
        let plane = |name: &str| {
            let ca = json!({"secretRef": {"namespace": "ns", "name": "ca", "key": "ca.crt"}});
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name}, "spec": {"clusterAgent": {"clientCA": ca}}})
        };
        Fake::of([plane("a"), plane("b")])
    }

    #[tokio::test]
    async fn only_the_wide_table_asks_for_cas() {
        for (words, asked) in [(&[] as &[&str], 1), (&["-o", "wide"], 2)] {
            let fake = fake();
            fake.serve(&[DEFAULT_KIND]);
            let args: Args = parse(words).unwrap();
            let lookup = lookup(&fake, &args).await;
            let before = fake.asked().len();
            rows(&lookup, &args).await.unwrap();
            assert_eq!(fake.asked().len() - before, asked, "{:?}", fake.asked());
        }
        let args: Args = parse(&["a", "c", "-o", "wide"]).unwrap();
        let (rows, missing) = rows(&lookup(&fake(), &args).await, &args).await.unwrap();
        assert_eq!((rows.len(), missing.len()), (1, 1));
    }

    #[test]
    fn a_state_passes_the_filter_and_every_one_without_it() {
        let args = |words: &[&str]| parse::<Args>(words).unwrap();
        assert!(keeps(&args(&[]), State::Stale));
        assert!(!keeps(&args(&["--state", "!Stale"]), State::Stale));
        assert!(keeps(&args(&["--state", "connected,stale"]), State::Stale));
        assert!(!columns().is_empty());
    }

    #[test]
    fn a_plane_and_its_counterpart_are_one_plane() {
        let row = |kind: &str, namespace: Option<&str>, name: &str| {
            let metadata = json!({"name": name, "namespace": namespace});
            let plane = json!({"metadata": metadata, "spec": {"planeID": "id", "clusterAgent": {"clientCA": {}}}});
            let mut plane: Plane = serde_json::from_value(plane).unwrap();
            plane.kind = Kind::of_word(kind).unwrap();
            Row::new(plane, None)
        };
        let reported = |rows: &[Row]| in_migration(rows, &Target::default());
        let mut rows = vec![row("cbp", None, "a"), row("workflowplane", Some("n"), "a"), row("cdp", None, "a")];
        assert_eq!(reported(&rows), None);
        rows.push(row("cwp", None, "b"));
        let pair =
            "ClusterBuildPlane a and ClusterWorkflowPlane b have the planeID id and are one plane during the migration";
        let next =
            |more: &str, words: &str| Some(format!("{pair}{more}; next: choreoctl migrate{words} --out-dir DIR"));
        assert_eq!(reported(&rows), next("", " cbp/a"));
        rows.extend([row("buildplane", Some("m"), "a"), row("buildplane", Some("n"), "a")]);
        assert_eq!(reported(&rows), next(", as are 1 more", ""));
    }

    #[tokio::test]
    async fn a_flag_needs_the_format_that_it_changes() {
        for (words, said) in [
            (&["--show-labels", "-o", "json"][..], "columns to the table"),
            (&["-L", "a", "-o", "custom-columns=A:.a"], "columns to the table"),
            (&["--computed"], "-o json and yaml"),
        ] {
            let error = run(parse(words).unwrap(), &session()).await.unwrap_err().to_string();
            assert!(error.contains(said), "{words:?}: {error}");
        }
        let error = parse::<Args>(&["-o", "tabel"]).unwrap_err();
        assert!(error.contains("name, custom-columns=]") && error.contains("'table'"), "{error}");
        let error = parse::<Args>(&["-o", "custom-columns=A"]).unwrap_err();
        assert!(error.contains("column `A` must have the form TITLE:PATH"), "{error}");
        let columns = parse::<Args>(&["-L", "a,b", "-L", "c"]).unwrap().label_columns;
        assert_eq!(columns, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_watch_has_the_table_only() {
        let args = parse(&["--watch", "-o", "json"]).unwrap();
        let error = run(args, &session()).await.unwrap_err().to_string();
        assert!(error.contains("choreoctl watch -o json"), "{error}");
        assert!(parse::<Args>(&["--watch", "-f", "x"]).unwrap_err().contains("cannot be used with"));
    }
}
