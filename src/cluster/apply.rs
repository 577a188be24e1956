//! Server-side apply, and the take-over of what `create` or client-side `kubectl apply` set.

use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::{Value, json};

use super::connection::Cluster;
use super::error::{Cause, Error};
use super::fields::Fields;
use super::planes::{MANAGER, patch_params};
use crate::plane::{DryRun, Release};
use crate::text::shell_quoted;

/// Managers that write whole objects and so hold fields that apply is meant to manage, with the operation `Update`.
const TAKEN_OVER: [&str; 3] = [MANAGER, "kubectl-client-side-apply", "kubectl-create"];
/// How often a take-over is tried again when somebody else writes in between.
const TRIES: usize = 5;

/// What an apply did, or would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Configured,
    Unchanged,
}

impl Change {
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The outcome for one object.
#[derive(Clone, Debug)]
pub struct Applied {
    pub change: Change,
    /// The object before; none where it is new.
    pub before: Option<Value>,
    pub after: Value,
}

impl Cluster {
    /// Makes the cluster's object what the manifest says. A dry run stores nothing.
    ///
    /// # Errors
    /// [`Error::Owned`] where another manager owns a field that differs, unless `force`;
    /// [`Error::BothSources`] where the result would hold two sources of the CA.
    pub async fn apply(&self, manifest: &Value, force: bool, dry_run: DryRun) -> Result<Applied, Error> {
        let name = manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let mut tries = TRIES;
        loop {
            let before: Option<Value> = self.plane_if_any(name).await?;
            refuse_outdated(manifest, before.as_ref())?;
            let result = self.apply_over(name, manifest, before.as_ref(), force, dry_run).await;
            match result {
                Err(Error::Changed { .. }) if tries > 1 => tries -= 1,
                result => {
                    let after = result?;
                    let change = match &before {
                        None => Change::Created,
                        Some(before) if comparable(before) == comparable(&after) => Change::Unchanged,
                        Some(_) => Change::Configured,
                    };
                    return Ok(Applied { change, before, after });
                }
            }
        }
    }

    async fn apply_over(
        &self,
        name: &str,
        manifest: &Value,
        before: Option<&Value>,
        force: bool,
        dry_run: DryRun,
    ) -> Result<Value, Error> {
        let Some(before) = before else {
            let after = self.patch(name, manifest, force, DryRun::Server).await?;
            return if dry_run.stores() { self.patch(name, manifest, force, dry_run).await } else { Ok(after) };
        };
        let taken = owned(before, taken_over).without_lifecycle();
        let after = self.foretell(name, manifest, before, &taken, force).await?;
        self.refuse_both_sources(name, manifest, before, &after)?;
        if !dry_run.stores() {
            return Ok(after);
        }
        if !taken.is_empty() {
            self.take_over(name, before, taken).await?;
        }
        self.patch(name, manifest, force, dry_run).await
    }

    /// What the object will be: a dry run, without the fields that the take-over gives up.
    async fn foretell(
        &self,
        name: &str,
        manifest: &Value,
        before: &Value,
        taken: &Fields,
        force: bool,
    ) -> Result<Value, Error> {
        let mut after = match self.patch(name, manifest, force, DryRun::Server).await {
            Err(Error::Owned { owned }) => {
                let others: Vec<_> = owned.into_iter().filter(|field| !of_taken_over(field)).collect();
                if others.is_empty() {
                    self.patch(name, manifest, true, DryRun::Server).await?
                } else {
                    return Err(Error::Owned { owned: others });
                }
            }
            after => after?,
        };
        let others = owned(before, |entry| !taken_over(entry) && !ours(entry));
        taken.without(&Fields::of_manifest(manifest)).without(&others).remove_from(&mut after);
        Ok(after)
    }

    /// Makes the fields of the managers that are taken over ours, if nobody wrote since `before`.
    async fn take_over(&self, name: &str, before: &Value, taken: Fields) -> Result<(), Error> {
        let entries = entries(before);
        let mine = entries
            .iter()
            .find(|entry| ours(entry))
            .map(|entry| Fields::from_json(&entry["fieldsV1"]))
            .unwrap_or_default();
        let mut kept: Vec<Value> = entries.iter().filter(|entry| !taken_over(entry) && !ours(entry)).cloned().collect();
        kept.push(json!({
            "manager": MANAGER,
            "operation": "Apply",
            "apiVersion": before["apiVersion"],
            "time": entries.iter().find(|entry| taken_over(entry)).map(|entry| entry["time"].clone()),
            "fieldsType": "FieldsV1",
            "fieldsV1": mine.union(taken).into_json(),
        }));
        let patch = json!({"metadata": {"managedFields": kept, "resourceVersion": before.pointer("/metadata/resourceVersion")}});
        self.ask(self.api().patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    fn refuse_both_sources(&self, name: &str, manifest: &Value, before: &Value, after: &Value) -> Result<(), Error> {
        let path = |source: &str| format!("/spec/clusterAgent/clientCA/{source}");
        let holds = |object: &Value, source: &str| {
            object.pointer(&path(source)).is_some_and(|value| !value.is_null() && value != "")
        };
        let secret = Release::ALL.map(Release::secret_field).into_iter().find(|field| holds(after, field));
        let Some(secret) = secret.filter(|_| holds(after, "value")) else {
            return Ok(());
        };
        let other = if holds(manifest, "value") { secret } else { "value" };
        let field = format!("/fieldsV1/f:spec/f:clusterAgent/f:clientCA/f:{other}");
        let mut others = entries(before).iter().filter(|entry| !taken_over(entry) && !ours(entry));
        let owner = others.find(|entry| entry.pointer(&field).is_some()).and_then(|entry| entry["manager"].as_str());
        let removal = json!([{"op": "remove", "path": path(other)}]).to_string();
        let command = format!(
            "kubectl patch {} {name}{} --type=json -p {}",
            self.kind.plural,
            self.in_namespace(),
            shell_quoted(&removal)
        );
        Err(Error::BothSources { owner: owner.map(str::to_owned), command: self.target.command(&command) })
    }

    async fn patch(&self, name: &str, manifest: &Value, force: bool, dry_run: DryRun) -> Result<Value, Error> {
        let field_validation = Some(ValidationDirective::Strict);
        let params = PatchParams { force, field_validation, ..patch_params(dry_run) };
        // What was compared before is left out: a take-over changes the version, too.
        let patch = Patch::Apply(without(manifest, &["uid", "resourceVersion"]));
        self.request(kube::core::Request::new(self.path()).patch(name, &params, &patch)).await
    }
}

/// A manifest that names the object that it was read from, or its version, is meant for just that.
fn refuse_outdated(manifest: &Value, before: Option<&Value>) -> Result<(), Error> {
    let field = |object: &Value, name| object.pointer(&format!("/metadata/{name}")).cloned();
    for name in ["uid", "resourceVersion"] {
        if let Some(wanted) = field(manifest, name)
            && before.and_then(|before| field(before, name)) != Some(wanted)
        {
            return Err(Error::Outdated { field: name });
        }
    }
    Ok(())
}

fn entries(object: &Value) -> &[Value] {
    object.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn owned(object: &Value, by: impl Fn(&Value) -> bool) -> Fields {
    let sets = entries(object).iter().filter(|entry| by(entry)).map(|entry| Fields::from_json(&entry["fieldsV1"]));
    sets.fold(Fields::default(), Fields::union)
}

fn taken_over(entry: &Value) -> bool {
    entry["operation"] == "Update"
        && entry.get("subresource").is_none_or(|subresource| subresource == "")
        && TAKEN_OVER.iter().any(|manager| entry["manager"] == *manager)
}

fn ours(entry: &Value) -> bool {
    entry["operation"] == "Apply" && entry["manager"] == MANAGER
}

/// The server names the manager in a sentence only: `conflict with "NAME" using GROUP/VERSION`, with `using` for updates.
fn of_taken_over(field: &Cause) -> bool {
    let manager = field.message.split('"').nth(1);
    field.message.contains(" using ") && TAKEN_OVER.iter().any(|taken| manager == Some(taken))
}

/// An object without fields of its metadata.
fn without(object: &Value, fields: &[&str]) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        fields.iter().for_each(|field| drop(metadata.shift_remove(*field)));
    }
    object
}

/// An object without what changes at every write.
pub fn comparable(object: &Value) -> Value {
    let annotated =
        object.pointer("/metadata/annotations").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
    let changing = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "annotations"];
    without(object, if annotated { &changing } else { &changing[..5] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;

    fn manifest(client_ca: &Value) -> Value {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "a"},
            "spec": {"clusterAgent": {"clientCA": client_ca}},
        })
    }

    #[tokio::test]
    async fn an_object_is_created_configured_or_left_as_it_is() {
        let fake = Fake::default();
        let cluster = fake.cluster();
        let (one, other) = (manifest(&json!({"value": "1"})), manifest(&json!({"value": "2"})));
        let mut changes = Vec::new();
        for (manifest, dry_run) in
            [(&one, DryRun::Server), (&one, DryRun::None), (&one, DryRun::None), (&other, DryRun::None)]
        {
            changes.push(cluster.apply(manifest, false, dry_run).await.unwrap().change);
        }
        assert_eq!(changes, [Change::Created, Change::Created, Change::Unchanged, Change::Configured]);
    }

    #[tokio::test]
    async fn two_sources_are_refused_and_their_owner_is_named() {
        let mut before = manifest(&json!({"secretRef": {"name": "n", "key": "k"}}));
        let owned = json!({"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:secretRef": {}}}}});
        before["metadata"]["managedFields"] =
            json!([{"manager": "gitops", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": owned}]);
        let error = Fake::of([before]).cluster().apply(&manifest(&json!({"value": "x"})), false, DryRun::None).await;
        let error = error.unwrap_err();
        assert!(error.to_string().contains("belongs to gitops"), "{error}");
        assert!(error.hint().unwrap().contains("/spec/clusterAgent/clientCA/secretRef"), "{error:?}");
    }

    #[tokio::test]
    async fn a_manifest_of_an_older_version_is_refused() {
        let fake = Fake::of([manifest(&json!({"value": "1"}))]);
        let mut old = manifest(&json!({"value": "2"}));
        old["metadata"]["resourceVersion"] = "0".into();
        let error = fake.cluster().apply(&old, false, DryRun::None).await.unwrap_err();
        assert!(matches!(error, Error::Outdated { field: "resourceVersion" }), "{error:?}");
    }

    #[test]
    fn a_conflict_with_a_manager_that_is_taken_over_is_none() {
        let field = |message: &str| Cause { field: ".spec".into(), message: message.into() };
        assert!(of_taken_over(&field("conflict with \"kubectl-create\" using openchoreo.dev/v1alpha1")));
        assert!(!of_taken_over(&field("conflict with \"kubectl-create\"")), "it applied");
        assert!(!of_taken_over(&field("conflict with \"helm\" using openchoreo.dev/v1alpha1")));
    }
}
