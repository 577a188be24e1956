//! Manifests that are to be written: planes only, valid, each once, and with what the releases require.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use clap::{Args, ValueHint};
use serde_json::Value;

use super::objects::name;
use super::refusals::Refusal;
use crate::args::{NamespaceArgs, Session, place, read_manifests, same_namespace};
use crate::cluster::{Cluster, Namespaces};
use crate::manifest::{Input, Manifest, Object, drop_nulls, objects, parse, to_yaml};
use crate::plane::{DEFAULT_KIND, OBSERVABILITY_KIND, PlaneKey, Release, Scope};
use crate::render;
use crate::term::Term;
use crate::text::{shell_quoted, visible};
use crate::validate::{Severity, Validator, judge};

/// Manifests to write.
#[derive(Args, Debug)]
pub struct InputArgs {
    /// Manifest, folder of manifests, or - for standard input (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", required = true, value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,

    /// Include manifests in subfolders
    #[arg(short = 'R', long)]
    recursive: bool,

    #[command(flatten)]
    namespace: NamespaceArgs,
}

/// Manifests that were read.
pub struct Manifests {
    /// The planes, valid and with what the releases require filled in.
    pub planes: Vec<Value>,
    files: Vec<Manifest>,
}

impl InputArgs {
    /// The planes in the files, valid and with what the releases require filled in. `other_kinds` is the command that
    /// is proposed for objects of other kinds.
    ///
    /// # Errors
    /// [`Refusal`] before anything is sent: invalid, of another kind, or the same plane twice.
    pub fn read(&self, session: &Session, other_kinds: &str) -> anyhow::Result<Manifests> {
        let Session { term, options, .. } = session;
        let files = read_manifests(&self.files, self.recursive)?;
        let flags: String = self.files.iter().map(|file| format!(" -f {}", path_word(file))).collect();
        refuse_other_kinds(&files, || options.command(&format!("{other_kinds}{flags}")))?;
        let (mut errors, mut planes, mut places) = (String::new(), Vec::new(), BTreeMap::new());
        for file in &files {
            errors.push_str(&errors_in(file));
            for object in objects(file) {
                if object.name().is_empty() && errors.is_empty() {
                    return Err(Refusal::NoName { place: place(file, object) }.into());
                }
                let plane = self.placed(fill_in(object.node.to_json(), term));
                let key = PlaneKey::of_object(&plane);
                same_namespace(&key, self.namespace.given(), || place(file, object))?;
                let name = key.to_string();
                if let Some(first) = places.insert(key, place(file, object)).filter(|_| !object.name().is_empty()) {
                    return Err(Refusal::Twice { name, first, second: place(file, object) }.into());
                }
                planes.push(plane);
            }
        }
        if errors.is_empty() {
            return Ok(Manifests { planes, files });
        }
        term.error(errors.trim_end());
        let paths: String = self.files.iter().map(|file| format!(" {}", path_word(file))).collect();
        Err(Refusal::InvalidFiles { command: format!("choreoctl validate{paths}") }.into())
    }
}

impl InputArgs {
    /// Refuses planes whose reference to a Secret is called otherwise in the release of the CRD that the cluster serves: the
    /// API server names neither the line nor the release.
    pub async fn refuse_other_release(
        &self,
        manifests: &Manifests,
        cluster: &Cluster,
        session: &Session,
    ) -> anyhow::Result<()> {
        let read = manifests.files.iter().flat_map(objects);
        let kinds: BTreeSet<_> = read.filter(|one| names_secret(*one)).filter_map(|one| one.plane_kind()).collect();
        let mut releases = BTreeSet::new();
        for kind in kinds.into_iter().filter(|kind| kind.family.is_of_all_releases()) {
            // Where that is unknown, the API server judges.
            releases.extend(cluster.of_kind(kind).release().await);
        }
        for release in releases {
            let validator = Validator::of_release(release, cluster.now());
            let found = |file: &Manifest| {
                let mut findings = validator.judge(file).findings;
                let path = format!("spec.clusterAgent.clientCA.{}", release.other().secret_field());
                // A kind of one release only is written as that release has it.
                let objects = objects(file)
                    .into_iter()
                    .filter(|object| object.plane_kind().is_some_and(|kind| kind.family.is_of_all_releases()));
                let places: Vec<_> = objects.map(|object| object.node.span.clone()).collect();
                findings.retain(|finding| {
                    let is_in = |place: &Range<usize>| place.contains(&finding.span.start);
                    finding.path == path && finding.rule.severity == Severity::Error && places.iter().any(is_in)
                });
                render::snippet::findings(file, &findings)
            };
            let errors: String = manifests.files.iter().map(found).collect();
            if errors.is_empty() {
                continue;
            }
            session.term.error(errors.trim_end());
            let words =
                |flag: &str| self.files.iter().map(|file| format!(" {flag}{}", path_word(file))).collect::<String>();
            let command = match release {
                Release::V0 => format!("choreoctl validate{} --release {release} --fix", words("")),
                Release::V1 => format!("choreoctl migrate{}", words("-f ")),
            };
            return Err(Refusal::InvalidFiles { command }.into());
        }
        Ok(())
    }

    /// Puts a plane of a namespaced kind that names no namespace into the one that is given.
    fn placed(&self, mut plane: Value) -> Value {
        if let Namespaces::Named(namespace) = self.namespace.namespaces()
            && PlaneKey::of_object(&plane).kind.scope == Scope::Namespaced
            && plane["metadata"]["namespace"].is_null()
        {
            plane["metadata"]["namespace"] = namespace.into();
        }
        plane
    }
}

/// Whether it names a Secret, as any release does.
fn names_secret(object: Object<'_>) -> bool {
    let ca = object.node.at(&["spec", "clusterAgent", "clientCA"]);
    ca.is_some_and(|ca| Release::ALL.iter().any(|release| ca.entry(release.secret_field()).is_some()))
}

fn errors_in(file: &Manifest) -> String {
    let mut findings = judge(file).findings;
    findings.retain(|finding| finding.rule.severity == Severity::Error);
    render::snippet::findings(file, &findings)
}

fn path_word(input: &Input) -> String {
    match input {
        Input::Stdin => "-".into(),
        Input::Path(path) => shell_quoted(&path.to_string_lossy()).into_owned(),
    }
}

fn refuse_other_kinds(files: &[Manifest], command: impl Fn() -> String) -> Result<(), Refusal> {
    let others: Vec<_> = files
        .iter()
        .flat_map(|file| objects(file).into_iter().map(move |object| (file, object)))
        .filter(|(_, object)| !object.is_plane())
        .collect();
    let named = others.iter().take(3).map(|(file, object)| {
        let kind = if object.kind().is_empty() { "something without a kind" } else { object.kind() };
        format!("{} in {}", visible(kind), place(file, *object))
    });
    let mut kinds = named.collect::<Vec<_>>().join(", ");
    match others.len() {
        0 => return Ok(()),
        count @ 4.. => kinds.push_str(&format!(" and {} more", count - 3)),
        _ => {}
    }
    Err(Refusal::OtherKinds { kinds, command: command() })
}

/// Writes what the reference leaves out by default and the releases' CRDs require.
fn fill_in(mut plane: Value, term: &Term) -> Value {
    drop_nulls(&mut plane);
    let name = name(&plane).to_owned();
    // A namespaced plane has defaults of its own when it runs.
    let kind = PlaneKey::of_object(&plane).kind;
    let is_of_cluster = kind.scope == Scope::Cluster;
    // Only its reference has these defaults.
    if kind == DEFAULT_KIND
        && let Some(spec) = plane.get_mut("spec").and_then(Value::as_object_mut)
    {
        if !spec.contains_key("planeID") {
            term.note(&format!(
                "{name}: the manifest has no planeID: {name}, the plane's name, is used",
                name = visible(&name)
            ));
            spec.insert("planeID".into(), name.into());
        }
        if let Some(reference) = spec.get_mut("observabilityPlaneRef").and_then(Value::as_object_mut)
            && !reference.contains_key("kind")
        {
            reference.insert("kind".into(), OBSERVABILITY_KIND.into());
        }
    }
    // What the server writes is no part of what is wanted.
    if let Some(object) = plane.as_object_mut() {
        object.shift_remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            let fields = ["managedFields", "creationTimestamp", "generation", "selfLink"];
            for field in fields.into_iter().chain(is_of_cluster.then_some("namespace")) {
                metadata.shift_remove(field);
            }
        }
    }
    plane
}

/// Validates an object that was made here.
pub fn check_manifest(manifest: &Value, term: &Term) -> anyhow::Result<()> {
    let errors = errors_in(&parse("the plane".into(), to_yaml(manifest)?));
    if errors.is_empty() {
        return Ok(());
    }
    term.error(errors.trim_end());
    Err(Refusal::Invalid.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{PLANE, files, parse, session};
    use serde_json::json;

    fn read(texts: &[&str]) -> anyhow::Result<Vec<Value>> {
        let texts: Vec<_> = texts.iter().enumerate().map(|(index, text)| (format!("{index}.yaml"), *text)).collect();
        let texts: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let (_folder, inputs) = files(&texts);
        let words: Vec<_> = inputs.iter().flat_map(|input| ["-f".to_owned(), input.to_string()]).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        parse::<InputArgs>(&words).unwrap().read(&session(), "kubectl apply").map(|read| read.planes)
    }

    fn refusal(texts: &[&str]) -> Refusal {
        read(texts).unwrap_err().downcast().unwrap()
    }

    #[test]
    fn planes_are_read_with_what_releases_require_and_without_what_the_server_writes() {
        let plane = PLANE
            .replace("{name: a,", "{name: a, generation: 3,")
            .replace("spec: {", "spec: {observabilityPlaneRef: {name: o}, ");
        let planes = read(&[&format!("{plane}status: {{}}\n")]).unwrap();
        assert_eq!(planes[0]["metadata"], json!({"name": "a", "labels": {"team": "x"}}));
        assert_eq!(planes[0]["spec"]["planeID"], "a");
        assert_eq!(planes[0]["spec"]["observabilityPlaneRef"]["kind"], OBSERVABILITY_KIND);
        assert!(planes[0].get("status").is_none());
    }

    #[test]
    fn other_kinds_are_refused_with_the_command_that_takes_them() {
        let other = |kind: &str| format!("kind: {kind}\nmetadata: {{name: a}}\n");
        let many = ["A", "B", "C", "D", "E"].map(other).join("---\n");
        let refusal = refusal(&[PLANE, &many]);
        let text = refusal.to_string();
        assert!(
            text.starts_with("nothing was sent, because only planes can be applied, and the manifests contain A in "),
            "{text}"
        );
        assert!(text.ends_with("1.yaml:7 and 2 more"), "{text}");
        assert!(refusal.hint().unwrap().starts_with("kubectl apply -f "), "{:?}", refusal.hint());
    }

    #[test]
    fn a_plane_without_a_name_one_that_is_there_twice_and_an_invalid_one_are_refused() {
        assert!(matches!(refusal(&[PLANE, PLANE]), Refusal::Twice { name, .. } if name == "a"));
        let nameless = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {}\nspec: {}\n";
        let refused = read(&[nameless]).unwrap_err();
        assert!(refused.is::<Refusal>(), "{refused}");
        let invalid = refusal(&[&PLANE.replace("secretRef", "secretReff")]);
        assert!(matches!(&invalid, Refusal::InvalidFiles { command } if command.starts_with("choreoctl validate ")));
    }

    #[test]
    fn a_plane_that_was_made_here_is_checked_like_one_in_a_file() {
        let plane = |name: &str| json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name}, "spec": {"planeID": "a", "clusterAgent": {"clientCA": {"secretRef": {"namespace": "ns", "name": "ca", "key": "ca.crt"}}}}});
        let term = session().term;
        check_manifest(&plane("a"), &term).unwrap();
        assert!(check_manifest(&plane("A b"), &term).unwrap_err().is::<Refusal>());
    }
}
