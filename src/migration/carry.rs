//! One text with all changes made that can be made, and what is left to do in it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::rules::{REFERENCE, Want, is_kept, is_workflow, list, mention, title, wants};
use super::survey::Survey;
use crate::manifest::{Entry, FaultKind, Manifest, Node, Object, Value, objects, parse};
use crate::plane::{DEFAULT_KIND, KINDS};
use crate::text::visible;
use crate::validate::applied;

/// What became of a text.
#[derive(Debug, Default)]
pub struct Carried {
    /// The text with its changes; none where there are none.
    pub after: Option<Manifest>,
    /// How many changes of each sort were made.
    pub changes: BTreeMap<&'static str, usize>,
    /// By line.
    pub left: Vec<Left>,
    /// How many Workflows refer to a plane in a way that a stored Workflow does not take over.
    pub kept: usize,
}

impl Carried {
    /// Counts lines in the text before its changes: the changed text is in another file, or in none.
    pub fn by_former_lines(mut self) -> Self {
        self.left.iter_mut().for_each(|left| left.line = left.former);
        self
    }
}

/// Something that takes a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// In the text with its changes.
    pub line: usize,
    /// The line in the text before its changes.
    pub former: usize,
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Makes all changes in a text that was read, if it can be read whole.
pub fn carry(before: &Manifest, survey: &Survey) -> Carried {
    let mut carried = Carried::default();
    if let Some(left) = unreadable(before) {
        carried.left.extend(left);
        return carried;
    }
    let wanted = all_wants(before);
    // Several may be made by one edit, and a place may be wanted by several aliases.
    let mut edits = BTreeMap::new();
    for want in can_be_made(before, &wanted) {
        if let Some(edit) = want.fix.as_ref().and_then(|fix| fix.edit(&before.text)) {
            let (_, wants) = edits.entry((edit.range.start, edit.range.end)).or_insert((edit, BTreeMap::new()));
            wants.insert(want.place.start, want);
        }
    }
    let text = applied(&before.text, edits.values().map(|(edit, _)| edit.clone()).collect());
    let after = parse(before.file.clone(), text);
    if edits.is_empty() || after.faults.len() > before.faults.len() {
        carried.left = left_in(before, survey);
        return carried;
    }
    carried.kept = objects(before).into_iter().filter(|object| is_kept(*object)).count();
    let (mut gone, mut lines_gone) = (Vec::new(), 0);
    for (edit, wants) in edits.into_values() {
        let (former, column) = before.position(edit.range.start);
        let line = former - lines_gone;
        for want in wants.into_values() {
            *carried.changes.entry(want.noun).or_default() += 1;
            if let Some((message, help)) = &want.loss {
                let message = visible(message).into_owned();
                carried.left.push(Left { line, former, message, help: (*help).to_owned() });
            }
        }
        let lines = before.text[edit.range].matches('\n').count();
        lines_gone += lines;
        // What goes from the beginning of a line on makes room for the next line there.
        gone.push((line - usize::from(column == 1), lines));
    }
    carried.left.extend(left_in(&after, survey).into_iter().map(|left| {
        let gone = gone.iter().filter(|(above, _)| *above < left.line);
        Left { former: left.line + gone.map(|(_, lines)| lines).sum::<usize>(), ..left }
    }));
    carried.after = Some(after);
    carried.left.sort();
    carried.left.dedup();
    carried
}

/// Why a text can't be changed; nothing of a Helm template that has nothing to do with planes.
fn unreadable(manifest: &Manifest) -> Option<Option<Left>> {
    let fault = manifest.faults.iter().find(|fault| fault.kind == FaultKind::Syntax)?;
    let (line, _) = manifest.position(fault.span.start);
    if !manifest.text.contains("{{") {
        let message = format!("the file is not changed, because it can't be read: {}", visible(&fault.message));
        return Some(Some(Left { line, former: line, message, help: "correct it, and migrate it again".into() }));
    }
    let message = "the file is not changed: it is a Helm template, not YAML".into();
    let help = "change the kinds of planes, their secretRef, and references to planes by hand".into();
    Some(manifest.text.to_lowercase().contains("plane").then_some(Left { line, former: line, message, help }))
}

fn is_kustomization(manifest: &Manifest, object: Object<'_>) -> bool {
    let has_name = ["kustomization.yaml", "kustomization.yml"].iter().any(|name| manifest.file.ends_with(name));
    has_name || object.api_version().starts_with("kustomize.config.k8s.io/")
}

fn all_wants(manifest: &Manifest) -> Vec<Want> {
    let of_objects = objects(manifest).into_iter();
    let of_objects = of_objects.flat_map(|object| wants(object, is_kustomization(manifest, object)));
    manifest.documents.iter().filter_map(|document| list(&document.root)).chain(of_objects).collect()
}

/// Those that are wanted wherever aliases lead to their place.
fn can_be_made<'w>(manifest: &Manifest, wants: &'w [Want]) -> impl Iterator<Item = &'w Want> {
    let mut wanted = HashMap::<_, usize>::new();
    wants.iter().for_each(|want| *wanted.entry(&want.place).or_default() += 1);
    let mut places = HashMap::new();
    if !wants.is_empty() {
        manifest.documents.iter().for_each(|document| count(&document.root, &mut places));
    }
    wants.iter().filter(move |want| wanted.get(&want.place) == places.get(&want.place))
}

/// Counts how often each place is in a tree. A sequence of one item may have the item's, and is none of its own.
fn count(node: &Node, places: &mut HashMap<Range<usize>, usize>) {
    if !matches!(node.value, Value::Sequence(_)) {
        *places.entry(node.span.clone()).or_default() += 1;
    }
    node.items().iter().for_each(|item| count(item, places));
    for entry in node.entries() {
        *places.entry(entry.key_span.clone()).or_default() += 1;
        count(&entry.node, places);
    }
}

/// What is left to do in a text with its changes.
fn left_in(manifest: &Manifest, survey: &Survey) -> Vec<Left> {
    let mut left = Vec::new();
    for object in objects(manifest) {
        let name = title(object);
        let mut report = |at: usize, message: String, help: &str| {
            let (line, _) = manifest.position(at);
            left.push(Left { line, former: line, message, help: help.to_owned() });
        };
        let is_kustomization = is_kustomization(manifest, object);
        let wanted = wants(object, is_kustomization);
        for want in &wanted {
            let word = visible(&manifest.text[want.place.clone()]).into_owned();
            report(
                want.place.start,
                format!("`{word}` of {name} can't be changed where it is written"),
                &visible(&want.by_hand),
            );
        }
        if let Some(spec) = object.node.get("spec").filter(|spec| is_workflow(object) && names_no_plane(spec))
            && let Some((reason, help)) = survey.other_default(object)
        {
            report(spec.span.start, format!("{name} references no plane: {reason}"), help);
        }
        if object.kind() == "CustomResourceDefinition" {
            if let Some(kind) = KINDS.iter().find(|kind| kind.crd_name() == object.name())
                && let Some(successor) = kind.successor()
            {
                let help = "delete it after the last plane of the kind; the chart of v1.0 installs the new one";
                let message = format!("{name} has a kind that v1.0 renamed to {}", successor.kind);
                report(object.node.span.start, message, help);
            }
            continue;
        }
        let mut look = |key: &str, text: &str, span: &Range<usize>| {
            let is_file = is_kustomization && matches!(key, "resources" | "components" | "bases");
            let known = is_file || wanted.iter().any(|want| want.place == *span);
            if let Some((at, word, new)) = mention(key, text).filter(|_| !known) {
                // Where a text is written in several lines or with escapes, its beginning is as good.
                let at = manifest.text[span.clone()].find(word).unwrap_or_else(|| at.min(span.len()));
                let help = new.map_or("remove it: v1.0 does not have this field".into(), |new| {
                    format!("write {new}, the name in v1.0")
                });
                report(span.start + at, format!("{name} mentions {}", visible(word)), &help);
            }
        };
        texts("", object.node, &mut look);
    }
    left
}

/// Whether it is whole, and no patch, and leaves the plane to the default.
fn names_no_plane(spec: &Node) -> bool {
    let given = |field: &str| spec.get(field).is_some_and(|node| !node.is_null());
    given("runTemplate") && !REFERENCE.into_iter().any(given)
}

/// Looks at each key and text of a value, but for annotations, which copy objects and speak to people, the status, and
/// kinds of other groups.
fn texts(key: &str, node: &Node, look: &mut impl FnMut(&str, &str, &Range<usize>)) {
    match &node.value {
        Value::String(text) => look(key, text, &node.span),
        Value::Sequence(items) => items.iter().for_each(|item| texts(key, item, look)),
        Value::Mapping(entries) => {
            let group = [node.get("group"), node.get("apiVersion")].into_iter().flatten().find_map(Node::as_str);
            let is_other = group.is_some_and(|group| group.split('/').next() != Some(DEFAULT_KIND.group));
            let is_meant = |entry: &&Entry| match entry.key.as_str() {
                "annotations" | "status" => false,
                "kind" => !is_other,
                _ => true,
            };
            for entry in entries.iter().filter(is_meant) {
                look("", &entry.key, &entry.key_span);
                texts(&entry.key, &entry.node, look);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: openchoreo.dev/v1alpha1\n";

    /// The text with its changes, and what is left to do: the line, and its message.
    fn carried(file: &str, text: &str) -> (String, Vec<(usize, String)>) {
        let before = parse(file.into(), text.into());
        let survey = Survey::of([&before].into_iter());
        let carried = carry(&before, &survey);
        let after = carried.after.as_ref().map_or(text, |after| &after.text).to_owned();
        if carried.after.is_some() {
            let again = carry(&parse(file.into(), after.clone()), &survey);
            assert!(again.after.is_none(), "{after}{again:?}");
        }
        (after, carried.left.into_iter().map(|left| (left.line, left.message)).collect())
    }

    /// Checks that only words change, and that no more than this is left.
    fn check(text: &str, words: &[(&str, &str)], left: &[(usize, &str)]) {
        for line_end in ["\n", "\r\n"] {
            let (text, mut expected) = (text.replace('\n', line_end), text.replace('\n', line_end));
            words.iter().for_each(|(from, to)| expected = expected.replace(from, to));
            let (after, found) = carried("f.yaml", &text);
            assert_eq!(after, expected);
            assert_eq!(found.len(), left.len(), "{text}{found:?}");
            for ((line, message), (expected_line, part)) in found.iter().zip(left) {
                assert!(line == expected_line && message.contains(part), "{text}{found:?}");
            }
        }
    }

    const NAMES: [(&str, &str); 2] = [("ClusterBuildPlane", "ClusterWorkflowPlane"), ("secretRef", "secretKeyRef")];

    #[test]
    fn planes_of_every_kind_are_carried() {
        let spec = "metadata: {name: a}\nspec:\n  clusterAgent:\n    clientCA:\n      secretRef: {name: ca} # c\n";
        for kind in KINDS.iter().filter(|kind| kind.successor().is_none()) {
            check(&format!("{HEAD}kind: {}\n{spec}", kind.kind), &NAMES[1..], &[]);
        }
        check(&format!("{HEAD}kind: \"ClusterBuildPlane\"\n{spec}"), &NAMES, &[]);
        check(&format!("{HEAD}kind: BuildPlane\n{spec}"), &[("BuildPlane", "WorkflowPlane"), NAMES[1]], &[]);
        let other = "apiVersion: example.com/v1\nkind: BuildPlane\n";
        check(&format!("{other}{spec}"), &[], &[]);
        let list = format!("{HEAD}kind: ClusterBuildPlaneList\nitems:\n- {HEAD}  kind: ClusterBuildPlane\n");
        check(&list, &NAMES, &[]);
    }

    #[test]
    fn what_an_alias_repeats_is_changed_where_all_of_it_is_meant() {
        let plane = |ca: &str| format!("- {HEAD}  kind: DataPlane\n  spec: {{clusterAgent: {{clientCA: {ca}}}}}\n");
        let list = |items: &str| format!("apiVersion: v1\nkind: List\nitems:\n{items}");
        let both = format!("{}{}", plane("&ca {secretRef: {name: a}}"), plane("*ca"));
        check(&list(&both), &NAMES[1..], &[]);
        let other = format!("{}- kind: Other\n  spec: *ca\n", plane("&ca {secretRef: {name: a}}"));
        check(&list(&other), &[], &[(6, "can't be changed")]);
        let cannot = "can't be changed where it is written";
        let kind = format!("{HEAD}kind: &k ClusterBuildPlane\nmetadata: {{name: a, labels: {{x: *k}}}}\n");
        check(&kind, &[], &[(2, cannot), (3, "mentions ClusterBuildPlane")]);
        let merged = format!("{HEAD}kind: DataPlane\nmetadata: {{annotations: &a {{secretRef: x}}}}\n");
        check(&format!("{merged}spec: {{clusterAgent: {{clientCA: {{<<: *a}}}}}}\n"), &[], &[(4, cannot)]);
        let twice =
            format!("{HEAD}kind: DataPlane\nspec: {{clusterAgent: {{clientCA: {{secretRef: a, secretKeyRef: b}}}}}}\n");
        check(&twice, &[], &[(3, "`secretRef` of DataPlane can't")]);
    }

    #[test]
    fn what_belongs_to_the_stored_object_is_not_carried_to_another_kind() {
        let cleanup = "openchoreo.dev/clusterbuildplane-cleanup";
        let (old, rest) = (
            format!("  creationTimestamp: x\n  finalizers:\n  - {cleanup}\n  generation: 2\n"),
            "  resourceVersion: \"1\"\n  uid: x\n",
        );
        let plane = format!("{HEAD}kind: ClusterBuildPlane\nmetadata:\n{old}  name: a\n{rest}spec: {{planeID: a}}\n");
        let status = "status:\n  conditions:\n  - type: Created\n";
        let new = format!("{HEAD}kind: ClusterWorkflowPlane\nmetadata:\n  name: a\nspec: {{planeID: a}}\n");
        assert_eq!(carried("f.yaml", &format!("{plane}{status}")), (new, Vec::new()));
        let flow = format!(
            "{{\"apiVersion\": \"openchoreo.dev/v1alpha1\", \"kind\": \"ClusterBuildPlane\", \"metadata\": {{\"finalizers\": \
             [\"{cleanup}\", \"x/y\"], \"generation\": 1, \"name\": \"a\", \"resourceVersion\": \"1\", \"uid\": \"x\"}}, \
             \"spec\": {{}}, \"status\": {{}}}}"
        );
        let (after, left) = carried("f.json", &flow);
        let expected = r#"{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterWorkflowPlane", "metadata": {"finalizers": ["x/y"], "name": "a"}, "spec": {}}"#;
        assert_eq!((after.as_str(), left.len()), (expected, 0));
        // The others keep what is theirs, and a plane that was carried before loses the finalizer alone.
        let kept = format!(
            "{HEAD}kind: DataPlane\nmetadata: {{name: a, uid: x, finalizers: [openchoreo.dev/dataplane-cleanup]}}\n"
        );
        check(&kept, &[], &[]);
        let before =
            format!("{HEAD}kind: ClusterWorkflowPlane\nmetadata:\n  uid: x\n  finalizers:\n  - x/y\n  - {cleanup}\n");
        let (line, crlf) = (format!("  - {cleanup}\n"), format!("  - {cleanup}\r\n"));
        check(&before, &[(&line, ""), (&crlf, "")], &[]);
        let going = format!("{HEAD}kind: BuildPlane\nmetadata:\n  deletionTimestamp: x\n  name: a\n");
        let (_, left) = carried("f.yaml", &going);
        assert_eq!(left, [(4, "BuildPlane a was being deleted".to_owned())]);
    }

    #[test]
    fn what_is_removed_is_reported() {
        let plane = format!("{HEAD}kind: DataPlane\nmetadata: {{name: a}}\nspec:\n  planeID: a\n");
        let removed = "  imagePullSecretRefs:\n  - x\n";
        let second = format!("---\n{plane}{removed}");
        let reported = "imagePullSecretRefs of DataPlane a is removed, because v1.0 has no such field; it was [\"x\"]";
        check(
            &format!("{plane}{removed}{second}"),
            &[(removed, ""), (&removed.replace('\n', "\r\n"), "")],
            &[(6, reported), (12, reported)],
        );
        let workflow = "---\nkind: Other\nx: ClusterBuildPlane\n";
        let before = parse("f.yaml".into(), format!("{plane}{removed}{second}{workflow}"));
        let carried = carry(&before, &Survey::default()).by_former_lines();
        let lines: Vec<_> = carried.left.iter().map(|left| left.line).collect();
        let at = |part: &str| before.text.lines().position(|line| line.contains(part)).unwrap() + 1;
        assert_eq!(lines, [6, 14, at("ClusterBuildPlane")]);
        check(
            &format!("{HEAD}kind: Project\nspec: {{buildPlaneRef: {{name: a}}}}\n"),
            &[],
            &[(3, "`buildPlaneRef` of Project can't")],
        );
    }

    #[test]
    fn words_that_are_no_more_are_reported_where_they_mean_a_plane() {
        for (line, word) in [
            ("kind: ClusterBuildPlane", Some("ClusterBuildPlane")),
            ("run: kubectl get buildplanes", Some("buildplanes")),
            ("openchoreo.dev/build-plane: a", Some("openchoreo.dev/build-plane")),
            ("actions: ['buildplane:view']", Some("buildplane:")),
            ("args: [--plane-type=buildplane]", Some("--plane-type=buildplane")),
            ("planeType: buildplane", Some("buildplane")),
            ("url: oci://ghcr.io/openchoreo/helm-charts/openchoreo-build-plane", Some("oci://")),
            ("path: /spec/clusterAgent/clientCA/secretRef", Some("secretRef")),
            ("path: /spec/imagePullSecretRefs/-", Some("imagePullSecretRefs")),
            ("{group: example.com, kind: BuildPlane}", None),
            ("image: example.com/buildplane:1", None),
            ("file: clusterbuildplanes.yaml", None),
            ("namespace: openchoreo-build-plane", None),
            ("name: my-buildplanes", None),
            ("envFrom: [{secretRef: {name: a}}]", None),
            ("annotations: {a: ClusterBuildPlane}", None),
        ] {
            let (_, left) = carried("f.yaml", &format!("kind: Other\nspec:\n- a\n- {line}\n"));
            assert_eq!(left.len(), usize::from(word.is_some()), "{line} {left:?}");
            let reported =
                word.is_none_or(|word| left[0].0 == 4 && left[0].1.contains(&format!("Other mentions {word}")));
            assert!(reported, "{line} {left:?}");
        }
        let crd = |name| {
            format!(
                "kind: CustomResourceDefinition\nmetadata: {{name: {name}.openchoreo.dev}}\nspec: ClusterBuildPlane\n"
            )
        };
        check(&crd("buildplanes"), &[], &[(1, "v1.0 renamed to WorkflowPlane")]);
        check(&crd("workflows"), &[], &[]);
    }

    #[test]
    fn a_workflow_that_names_no_plane_is_reported_and_a_patch_of_one_is_not() {
        let plane = format!("{HEAD}kind: ClusterWorkflowPlane\nmetadata: {{name: a}}\n---\n");
        let workflow = |spec: &str| format!("{plane}{HEAD}kind: Workflow\nmetadata: {{name: w}}\nspec: {spec}\n");
        check(&workflow("{runTemplate: {}}"), &[], &[(8, "Workflow w references no plane")]);
        check(&workflow("{schema: {}}"), &[], &[]);
        let changes = [("buildPlaneRef", "workflowPlaneRef"), NAMES[0]];
        let with = |kind: &str, name: &str| {
            workflow(&format!("{{buildPlaneRef: {{kind: {kind}, name: {name}}}, runTemplate: {{}}}}"))
        };
        check(&with("ClusterBuildPlane", "b"), &changes, &[]);
        let kept = |text: String| {
            let manifest = parse("f".into(), text);
            carry(&manifest, &Survey::default()).kept
        };
        assert_eq!((kept(with("ClusterBuildPlane", "b")), kept(with("ClusterBuildPlane", "default"))), (1, 0));
        assert_eq!(kept(with("BuildPlane", "default")), 1);
    }

    #[test]
    fn a_role_that_has_the_new_resource_keeps_the_old_one() {
        let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules:\n- apiGroups: [openchoreo.dev]\n  resources: [buildplanes, workflowplanes]\n";
        check(role, &[], &[(5, "`buildplanes` of Role can't")]);
        check(&role.replace("openchoreo.dev", "example.com"), &[], &[(5, "mentions buildplanes")]);
        let changes = [("buildplanes", "workflowplanes")];
        check(&role.replace(", workflow", ", data"), &changes, &[]);
        // As kubectl prints it.
        check(&role.replace("[buildplanes, workflowplanes]", "\n  - buildplanes"), &changes, &[]);
    }

    #[test]
    fn a_kustomization_is_known_by_its_name_too() {
        let text = "resources: [buildplanes]\npatches:\n- target: {kind: BuildPlane}\n";
        let (after, left) = carried("a/kustomization.yml", text);
        assert_eq!((after, left), (text.replace("BuildPlane", "WorkflowPlane"), vec![]));
        assert_eq!(carried("f.yaml", text).1.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_left_as_it_is() {
        for (text, reported) in [
            (format!("{HEAD}kind: ClusterBuildPlane\nname: {{{{ .Values.name }}}}\n"), Some("a Helm template")),
            ("name: {{ .Values.name }}\n".into(), None),
            (format!("{HEAD}kind: ClusterBuildPlane\n---\na: [\n"), Some("it can't be read: ")),
        ] {
            let (after, left) = carried("f.yaml", &text);
            assert_eq!((after, left.len()), (text, usize::from(reported.is_some())), "{left:?}");
            assert!(reported.is_none_or(|reported| left[0].1.contains(reported)), "{left:?}");
        }
    }
}
