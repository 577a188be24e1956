//! `choreoctl diff`: what apply would change.

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::manifests::InputArgs;
use super::objects::object_name;
use super::{error_text, warnings};
use crate::args::{OutputArgs, Session, TextFormat};
use crate::cluster::{Change, comparable};
use crate::manifest::{json_text, to_yaml};
use crate::plane::{DryRun, PlaneKey};
use crate::render::{self, PlanesJson, identity_json};
use crate::secrets::redacted;
use crate::term::Exit;

/// Show what apply would change
///
/// Exits 0 when nothing would change, 1 when a plane would change, and 2 when a plane can't be compared.
///
/// -o json prints one object: {"planes": [{"name", "kind", "namespace", "change", "diff"}]}. change is created, configured
/// or unchanged. diff is the unified diff, or null if nothing would change. A plane that can't be compared is not listed.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl diff -f planes.yaml
  choreoctl diff -f planes.yaml -o json | jq -r '.planes[] | select(.diff) | .name'")]
pub struct Args {
    #[command(flatten)]
    inputs: InputArgs,

    /// Compare as if choreoctl took ownership of conflicting fields
    #[arg(long)]
    force_conflicts: bool,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let read = args.inputs.read(session, "kubectl diff")?;
    let cluster = session.connect().await?;
    args.inputs.refuse_other_release(&read, &cluster, session).await?;
    let manifests = read.planes;
    warnings::of_lockout(&cluster, &manifests, &session.term).await;
    let mut exit = Exit::Done;
    let mut compared = Vec::new();
    for manifest in &manifests {
        let key = PlaneKey::of_object(manifest);
        let title = object_name(&key);
        let applied = match cluster.around(&key).apply(manifest, args.force_conflicts, DryRun::Server).await {
            Ok(applied) => applied,
            Err(error) => {
                let alone = error.is_about_one_object();
                let error = anyhow::Error::new(error).context(format!("could not compare {title}"));
                if !alone {
                    return Err(error);
                }
                exit = exit.and(Exit::Failed);
                session.term.error(&error_text(&error));
                continue;
            }
        };
        let diff = if applied.change == Change::Unchanged {
            None
        } else {
            exit = exit.and(Exit::No);
            let before = applied.before.as_ref().map(text).transpose()?.unwrap_or_default();
            let after = text(&applied.after)?;
            let from = if applied.before.is_some() { format!("{title} (in the cluster)") } else { "/dev/null".into() };
            Some(render::diff::unified(&before, &after, &from, &format!("{title} (to be applied)")))
        };
        match (args.output.format, diff) {
            (TextFormat::Json, diff) => {
                let fields = json!({"change": applied.change.word(), "diff": diff.as_deref().map(render::plain)});
                compared.push(identity_json(&key, fields));
            }
            (TextFormat::Text, Some(diff)) => session.term.print(&diff)?,
            (TextFormat::Text, None) => {}
        }
    }
    if args.output.format == TextFormat::Json {
        session.term.line(&json_text(&PlanesJson { before: Vec::new(), planes: &compared, json: Value::clone })?)?;
    }
    Ok(exit)
}

/// The object as YAML, without its status and what changes at every write.
fn text(object: &Value) -> anyhow::Result<String> {
    let mut object = comparable(object);
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    Ok(redacted(&to_yaml(&object)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_changes_at_every_write_is_no_difference() {
        let object = |version: &str, status: &str| {
            text(&json!({
                "metadata": {"name": "a", "resourceVersion": version, "managedFields": [version], "generation": version},
                "spec": {"planeID": "a"},
                "status": status,
            }))
            .unwrap()
        };
        assert_eq!(object("1", "old"), object("2", "new"));
        assert!(object("1", "").contains("planeID: a"));
    }
}
