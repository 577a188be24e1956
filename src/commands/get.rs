//! `choreoctl get`: planes as a table, or as the API server's objects.

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use serde::Deserialize as _;
use serde_json::Value;

use super::error::{none_found, tell_missing};
use super::objects::{list, object_name, without_managed_fields};
use super::watching::watch;
use crate::args::{ChoiceArgs, Chosen, FromFiles, Lookup, OutputArgs, Session, SnapshotArgs};
use crate::cluster::{Error, Target};
use crate::complete;
use crate::estate::{Files, client_cas};
use crate::manifest::{json_text, to_yaml};
use crate::plane::{Plane, PlaneKey, State, StateFilter};
use crate::render;
use crate::render::Identity;
use crate::render::planes::{Row, SortBy};
use crate::term::Exit;
use crate::text::{program, visible};

/// Show planes
///
/// As a table, or with -o json and yaml as the API server's own objects. With -f from files, without a cluster.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("output", |format| format.default_value("table")), after_help = "Examples:
  choreoctl get
  choreoctl get planes -A
  choreoctl get dp -n team -o wide --sort-by state
  choreoctl get --state '!Connected' -o name
  kubectl get cbp -o yaml | choreoctl get -f -")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// States to show, joined by commas; with a ! before it, one to leave out
    #[arg(long, value_name = "STATES", add = ArgValueCompleter::new(complete::states))]
    state: Option<StateFilter>,

    /// Column to sort by; by state the worst come first
    #[arg(long, value_name = "COLUMN", default_value = "name", add = ArgValueCandidates::new(columns))]
    sort_by: SortBy,

    /// Leave the table's header out
    #[arg(long)]
    no_headers: bool,

    /// Go on watching
    #[arg(short, long, conflicts_with = "files")]
    watch: bool,

    #[command(flatten)]
    output: OutputArgs<Format>,

    /// With -o json and yaml, show who owns which field
    #[arg(long)]
    show_managed_fields: bool,

    #[command(flatten)]
    files: SnapshotArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

fn columns() -> Vec<CompletionCandidate> {
    SortBy::names().map(CompletionCandidate::new).collect()
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if args.watch {
        if args.output.format != Format::Table {
            anyhow::bail!("with --watch there is only the table; events in JSON come from `choreoctl watch -o json`");
        }
        return watch(args.choice, args.state.unwrap_or_default(), None, None, session).await;
    }
    match args.output.format {
        Format::Table | Format::Wide | Format::Name => show(&args, session).await,
        Format::Json | Format::Yaml => print(&args, session).await,
    }
}

/// The planes as a table, or by name.
async fn show(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut rows, now, missing, kinds, target): (Vec<_>, _, _, _, _) = if args.files.given() {
        let FromFiles { snapshot, .. } = args.files.read(&[], &session.term)?;
        let cas = client_cas(&Files::control(&snapshot), &snapshot.planes).await;
        let (chosen, missing) = args.choice.in_files(&snapshot.planes)?;
        let wide = args.output.format == Format::Wide;
        let rows = snapshot.planes.into_iter().zip(cas).map(|(plane, ca)| Row::new(plane, wide.then_some(ca)));
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
        session.term.print(&render::planes::table(&rows, !args.no_headers, asked, now))?;
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
    let [old, new] = [&row.key, *other].map(|key| format!("{} {}", key.kind.kind, visible(&key.to_string())));
    let (more, next) = match all.len() - 1 {
        0 => (String::new(), row.key.migrate_command()),
        more => (format!(", as are {more} more"), "choreoctl migrate".to_owned()),
    };
    let (id, next) = (visible(&row.plane_id), target.command(&next));
    Some(format!("{old} and {new} have the planeID {id}: one plane in migration{more}; next: {next} --out-dir DIR"))
}

async fn rows(lookup: &Lookup, args: &Args) -> Result<Chosen<Row>, Error> {
    if args.output.format != Format::Wide {
        return args.choice.in_cluster(lookup, |plane| Row::new(plane, None)).await;
    }
    let (planes, missing) = args.choice.in_cluster(lookup, |plane: Plane| plane).await?;
    let cas = client_cas(&lookup.cluster, &planes).await;
    Ok((planes.into_iter().zip(cas).map(|(plane, ca)| Row::new(plane, Some(ca))).collect(), missing))
}

/// The planes as the API server has them.
async fn print(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut objects, now, missing) = if args.files.given() {
        let FromFiles { values: objects, snapshot } = args.files.read(&[], &session.term)?;
        let (names, missing) = args.choice.in_files(&snapshot.planes)?;
        let chosen = objects.into_iter().filter(|object| names.contains(&PlaneKey::of_object(object))).collect();
        (chosen, snapshot.now, missing)
    } else {
        let lookup = args.choice.connect(session).await?;
        let (objects, missing) = args.choice.in_cluster(&lookup, |object: Value| object).await?;
        (objects, lookup.cluster.now(), missing)
    };
    let exit = tell_missing(&missing, &session.term);
    if args.state.is_some() {
        objects.retain(|object| Plane::deserialize(object).is_ok_and(|plane| keeps(args, plane.state(now))));
    }
    if !args.show_managed_fields {
        objects.iter_mut().for_each(without_managed_fields);
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
        let told = |rows: &[Row]| in_migration(rows, &Target::default());
        let mut rows = vec![row("cbp", None, "a"), row("workflowplane", Some("n"), "a"), row("cdp", None, "a")];
        assert_eq!(told(&rows), None);
        rows.push(row("cwp", None, "b"));
        let pair = "ClusterBuildPlane a and ClusterWorkflowPlane b have the planeID id: one plane in migration";
        let next =
            |more: &str, words: &str| Some(format!("{pair}{more}; next: choreoctl migrate{words} --out-dir DIR"));
        assert_eq!(told(&rows), next("", " cbp/a"));
        rows.extend([row("buildplane", Some("m"), "a"), row("buildplane", Some("n"), "a")]);
        assert_eq!(told(&rows), next(", as are 1 more", ""));
    }

    #[tokio::test]
    async fn a_watch_has_the_table_only() {
        let args = parse(&["--watch", "-o", "json"]).unwrap();
        let error = run(args, &session()).await.unwrap_err().to_string();
        assert!(error.contains("choreoctl watch -o json"), "{error}");
        assert!(parse::<Args>(&["--watch", "-f", "x"]).unwrap_err().contains("cannot be used with"));
    }
}
