//! What differs between releases: a kind's name, fields that only some have, and what their CRDs demand beyond the
//! reference.
//!
//! Not here: the differences themselves (plane).

use super::finding::Found;
use super::fix::{Fix, insertion, is_written_here, quoted};
use super::rules::{
    KIND_OF_OTHER_RELEASE, OBSERVABILITY_KIND_MISSING, PLANE_ID_MISSING, REQUIRED_FIELD, UNKNOWN_FIELD,
};
use super::schema::Resource;
use crate::manifest::{Node, Object, Value};
use crate::plane::{
    Change, DEFAULT_KIND, Difference, Kind, OBSERVABILITY_KIND, PLANE_ID_REQUIRED, Release, is_dns_label,
};

/// What releases' CRDs demand beyond the reference's ClusterBuildPlane.
pub(super) fn beyond_reference(root: &Node, found: &mut Found) {
    let Some(spec) = root.entry("spec") else {
        return;
    };
    // One that differs in its letters' case only is reported as unknown.
    let left_out = |node: &Node, key: &str| {
        matches!(node.value, Value::Mapping(_))
            && node.get(key).is_none_or(Node::is_null)
            && !node.entries().iter().any(|entry| entry.key.eq_ignore_ascii_case(key) && entry.key != key)
    };
    if left_out(&spec.node, "planeID") {
        let Difference { releases, instead, .. } = PLANE_ID_REQUIRED;
        let name = root.at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or("NAME");
        let message = format!("planeID is missing: in {releases} {instead}");
        let finding =
            found.add(&PLANE_ID_MISSING, spec.key_span.clone(), "spec.planeID", message, "planeID is missing");
        let written = quoted(name);
        if is_dns_label(name) {
            finding.help = Some(format!("write `planeID: {written}`, which is what it defaults to"));
            finding.fix = insertion(root, &[&spec.node], "planeID", &written);
        } else {
            finding.help = Some("write the agent's planeID: it defaults to the name, which can't be one".into());
        }
    }
    if let Some(reference) = spec.node.entry("observabilityPlaneRef").filter(|entry| left_out(&entry.node, "kind")) {
        let path = "spec.observabilityPlaneRef.kind";
        let difference = Difference::of(path).next();
        let message =
            difference.map(|d| format!("kind is left out: in {} {}", d.releases, d.instead)).unwrap_or_default();
        let finding =
            found.add(&OBSERVABILITY_KIND_MISSING, reference.key_span.clone(), path, message, "kind is missing");
        finding.help = Some(format!("write `kind: {OBSERVABILITY_KIND}`, which is what it defaults to"));
        finding.fix = insertion(root, &[&spec.node, &reference.node], "kind", OBSERVABILITY_KIND);
    }
}

/// Returns the release that has the fields of a plane, as far as one says: the latest otherwise.
pub(super) fn written_for(root: &Node, kind: &Kind) -> Release {
    let has = |path: &[&str], field: &str| root.at(path).is_some_and(|node| node.get(field).is_some());
    let ca = |release: Release| has(&["spec", "clusterAgent", "clientCA"], release.secret_field());
    let former = (ca(Release::V0) && !ca(Release::V1)) || has(&["spec"], "imagePullSecretRefs");
    if former && kind.in_release(Release::V0) == Some(kind) { Release::V0 } else { kind.release() }
}

/// Says that a release calls the object's kind otherwise.
pub(super) fn other_name(object: Object<'_>, kind: &Kind, named: &Kind, release: Release, found: &mut Found) {
    let Some(node) = object.node.get("kind") else {
        return;
    };
    let message = format!("{release} has no {}: the kind is called {} there", kind.kind, named.kind);
    let finding = found.add(&KIND_OF_OTHER_RELEASE, node.span.clone(), "kind", message, "of another release");
    finding.help = Some(format!("write `kind: {}`", named.kind));
    finding.fix = object.node.contains(&node.span).then(|| Fix::Rename {
        word: node.span.clone(),
        from: kind.kind.to_owned(),
        name: named.kind.to_owned(),
    });
}

/// Adds to what a schema found what is known of the kind's fields: what happened to one that other releases have, and
/// what to write where one is missing. A field is renamed only where its release `is_sure`.
pub(super) fn explain(root: &Node, resource: &Resource, api_version: &str, is_sure: bool, found: &mut Found) {
    for finding in &mut found.findings {
        if finding.rule == &UNKNOWN_FIELD
            && let Some(change) = Change::of(resource.kind, &finding.path)
        {
            finding.message = format!("there is no field {}: {}", finding.path, change.what);
            finding.help = Some("remove it".into());
            finding.fix = None;
            let Some(name) = change.other_name else {
                continue;
            };
            finding.help = Some(format!("write `{name}`"));
            if !is_sure {
                let other = resource.kind.release().other();
                finding.help = Some(format!("write `{name}`, or validate with --release {other}"));
                continue;
            }
            let (above, own) = change.path.rsplit_once('.').unwrap_or_default();
            if let Some(way) = way(root, above)
                && let Some(parent) = way.last()
                && is_written_here(root, &way)
                && parent.contains(&finding.span)
                && parent.entry(name).is_none()
                && resource.has(api_version, above, name)
            {
                finding.fix = Some(Fix::Rename { word: finding.span.clone(), from: own.into(), name: name.into() });
            }
        } else if finding.rule == &REQUIRED_FIELD {
            match finding.path.as_str() {
                "spec.planeID" => (finding.help, finding.fix) = plane_id(root, resource.kind),
                "spec.observabilityPlaneRef.kind" => {
                    let kinds = resource.kind.observability_kinds();
                    let written: Vec<_> = kinds.iter().map(|kind| format!("`kind: {kind}`")).collect();
                    finding.help = Some(format!("write {}", written.join(" or ")));
                    if let ([only], Some(way)) = (kinds, way(root, "spec.observabilityPlaneRef")) {
                        finding.fix = insertion(root, &way, "kind", only);
                    }
                }
                _ => {}
            }
        }
    }
}

/// What to write as a planeID that is missing, which only the reference's ClusterBuildPlane has a default for.
fn plane_id(root: &Node, kind: &Kind) -> (Option<String>, Option<Fix>) {
    let name = root.at(&["metadata", "name"]).and_then(Node::as_str).filter(|name| is_dns_label(name)).map(quoted);
    match (name, root.get("spec")) {
        (Some(name), Some(spec)) if kind == DEFAULT_KIND => (None, insertion(root, &[spec], "planeID", &name)),
        _ => (Some("write the planeID that the agent has: `clusterAgent.planeID` of its Helm values".into()), None),
    }
}

/// The nodes on the way to a field, with the field's own.
fn way<'n>(root: &'n Node, path: &str) -> Option<Vec<&'n Node>> {
    let mut node = root;
    path.split('.')
        .map(|key| {
            node = node.get(key)?;
            Some(node)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::plane::KINDS;
    use crate::validate::applied;
    use crate::validate::finding::Finding;
    use crate::validate::tests::{now, plane_of, reference};
    use crate::validate::validator::{Validator, judge};

    /// What is found in a plane with a reference to a Secret for `@`, in which only errors of one rule are expected.
    fn judged(validator: &Validator, kind: &str, spec: &str) -> (String, Vec<Finding>) {
        let text = plane_of(kind, &spec.replace('@', "{name: ca, namespace: s, key: k}"));
        let findings = validator.judge(&parse("f".into(), text.clone())).findings;
        (text, findings)
    }

    fn fixed(text: &str, findings: &[Finding]) -> String {
        applied(text, findings.iter().filter_map(|finding| finding.fix.as_ref()?.edit(text)).collect())
    }

    #[test]
    fn a_field_of_another_release_is_named_with_what_happened_to_it() {
        let of = |release| Validator::of_release(release, now());
        let (own, old, new) = (reference(), of(Release::V0), of(Release::V1));
        let client_ca = |field| format!("{{planeID: a, clusterAgent: {{clientCA: {{{field}: @}}}}}}");
        let (by_ref, by_key) = (client_ca("secretRef"), client_ca("secretKeyRef"));
        let more = |spec: &str, field| spec.replacen('{', &format!("{{{field}, "), 1);
        let renamed = ": v1.0 renamed it to secretKeyRef";
        let cases: [(&Validator, &str, String, &str); 9] = [
            (&own, "ClusterWorkflowPlane", by_ref.clone(), renamed),
            (&new, "DataPlane", by_ref.clone(), renamed),
            (&new, "ClusterDataPlane", by_ref.clone(), renamed),
            (&own, "ClusterBuildPlane", by_key.clone(), ": up to v0.17 it is called secretRef"),
            (&old, "DataPlane", by_key.clone(), ": up to v0.17 it is called secretRef"),
            (&own, "DataPlane", more(&by_key, "imagePullSecretRefs: [a]"), ": v1.0 removed it"),
            (&own, "WorkflowPlane", more(&by_key, "imagePullSecretRefs: [a]"), "imagePullSecretRefs"),
            (&own, "DataPlane", more(&by_key, "gateway: {publicVirtualHost: a}"), ": v0.17 replaced it by"),
            (&old, "ObservabilityPlane", more(&by_ref, "observerURL: u, finOpsAgentURL: u"), ": v1.1 introduced it"),
        ];
        for (validator, kind, spec, reported) in cases {
            let (text, findings) = judged(validator, kind, &spec);
            assert_eq!((findings.len(), findings[0].rule.id), (1, "unknown-field"), "{text}{findings:#?}");
            assert!(findings[0].message.contains(reported), "{findings:#?}");
            assert_eq!(findings[0].fix.is_some(), reported.contains("secret"), "{findings:#?}");
            if findings[0].fix.is_some() {
                let text = fixed(&text, &findings);
                assert_eq!(validator.judge(&parse("f".into(), text.clone())).findings, [], "{text}");
            }
        }
        // Perhaps the file is for the other release.
        let unsure = &judged(&own, "DataPlane", &by_ref).1[0];
        assert_eq!(unsure.help.as_deref(), Some("write `secretKeyRef`, or validate with --release v0.17"));
        assert_eq!(unsure.fix, None);
        let both = by_ref.replacen("secretRef", "secretKeyRef: @, secretRef", 1);
        assert_eq!(judged(&own, "DataPlane", &both).1[0].fix, None);
        for (validator, kind, spec) in [
            (&old, "DataPlane", more(&by_ref, "imagePullSecretRefs: [a]")),
            (&own, "ObservabilityPlane", more(&by_key, "observerURL: u, finOpsAgentURL: u")),
        ] {
            assert_eq!(judged(validator, kind, &spec).1, [], "{spec}");
        }
    }

    #[test]
    fn a_plane_is_written_for_the_release_that_has_its_fields() {
        for (kind, spec, release) in [
            ("DataPlane", "{clusterAgent: {clientCA: {secretRef: @}}}", Release::V0),
            ("DataPlane", "{clusterAgent: {clientCA: {secretKeyRef: @}}}", Release::V1),
            ("DataPlane", "{clusterAgent: {clientCA: {value: x}}}", Release::V1),
            ("DataPlane", "{clusterAgent: {clientCA: {value: x}}, imagePullSecretRefs: []}", Release::V0),
            ("WorkflowPlane", "{clusterAgent: {clientCA: {secretRef: @}}}", Release::V1),
            ("BuildPlane", "{clusterAgent: {clientCA: {secretKeyRef: @}}}", Release::V0),
        ] {
            let manifest = parse("f".into(), plane_of(kind, &spec.replace('@', "{}")));
            let kind = KINDS.iter().find(|one| one.kind == kind).unwrap();
            assert_eq!(written_for(&manifest.documents[0].root, kind), release, "{spec}");
        }
        let former = plane_of("DataPlane", "{clusterAgent: {clientCA: {secretRef: {name: ca, key: k}}}}");
        assert_eq!(judge(&parse("f".into(), former)).findings, []);
    }

    #[test]
    fn a_kind_of_another_release_is_renamed_and_judged_under_its_name_there() {
        let spec = |field| format!("{{planeID: a, clusterAgent: {{clientCA: {{{field}: @}}}}}}");
        for (release, kind, field, named) in [
            (Release::V1, "ClusterBuildPlane", "secretRef", "ClusterWorkflowPlane"),
            (Release::V1, "BuildPlane", "secretRef", "WorkflowPlane"),
            (Release::V0, "ClusterWorkflowPlane", "secretKeyRef", "ClusterBuildPlane"),
            (Release::V0, "WorkflowPlane", "secretKeyRef", "BuildPlane"),
        ] {
            let validator = Validator::of_release(release, now());
            let (text, findings) = judged(&validator, kind, &spec(field));
            let reported: Vec<_> = findings.iter().map(|finding| finding.rule.id).collect();
            assert_eq!(reported, ["kind-of-other-release", "unknown-field"], "{findings:#?}");
            assert_eq!(findings[0].message, format!("{release} has no {kind}: the kind is called {named} there"));
            let text = fixed(&text, &findings);
            assert!(text.contains(&format!("kind: {named}\n")), "{text}");
            assert_eq!(validator.judge(&parse("f".into(), text.clone())).findings, [], "{text}");
            assert_eq!(judged(&reference(), kind, &spec(field)).1, [], "{kind}");
        }
    }

    #[test]
    fn a_kind_that_is_anchored_or_behind_an_alias_stays() {
        let plane = plane_of("ClusterBuildPlane", "{planeID: a, clusterAgent: {clientCA: {value: x}}}");
        let anchored = plane.replace("kind: ", "kind: &k ");
        let aliased = plane
            .replace("kind: ClusterBuildPlane\n", "")
            .replace("{name: a", "{labels: {x: &k ClusterBuildPlane}, name: a")
            .replace("spec:", "kind: *k\nspec:");
        for text in [anchored, aliased] {
            let findings = Validator::of_release(Release::V1, now()).judge(&parse("f".into(), text.clone())).findings;
            assert_eq!(findings[0].rule.id, "kind-of-other-release", "{text}");
            assert_eq!(fixed(&text, &findings), text);
        }
    }

    #[test]
    fn what_is_missing_is_written_where_only_one_text_is_right() {
        let spec = "{clusterAgent: {clientCA: {secretKeyRef: @}}, observabilityPlaneRef: {name: o}}";
        for (kind, reported) in [
            (
                "ClusterWorkflowPlane",
                &[
                    ("spec.planeID", "write the planeID that the agent has", false),
                    ("spec.observabilityPlaneRef.kind", "write `kind: ClusterObservabilityPlane`", true),
                ][..],
            ),
            (
                "DataPlane",
                &[(
                    "spec.observabilityPlaneRef.kind",
                    "write `kind: ObservabilityPlane` or `kind: ClusterObservabilityPlane`",
                    false,
                )],
            ),
        ] {
            let (_, findings) = judged(&reference(), kind, spec);
            assert_eq!(findings.len(), reported.len(), "{findings:#?}");
            for (finding, (path, help, fix)) in findings.iter().zip(reported) {
                assert_eq!((finding.rule.id, finding.path.as_str()), ("required-field", *path));
                assert!(finding.help.as_ref().unwrap().starts_with(help), "{finding:?}");
                assert_eq!(finding.fix.is_some(), *fix, "{finding:?}");
            }
        }
    }
}
