//! What a deleted plane leaves behind: the agent's side in the build cluster, and the CA's Secret in the control plane.

use std::collections::BTreeSet;

use crate::args::BUILD_NAMESPACE;
use crate::cluster::{Cluster, Target};
use crate::doctor::{CaPlace, GATEWAY_CA, ca_place};
use crate::plan::AGENT_SECRETS;
use crate::plane::{CaSecret, NamespacedName, Plane, RELEASE};
use crate::term::{shell_quoted, visible};

/// How many planeIDs are named.
const NAMED: usize = 5;

/// A plane that stays.
struct Staying {
    plane_id: String,
    secret: Option<CaSecret>,
}

impl Staying {
    fn of(plane: &Plane) -> Self {
        Self { plane_id: plane.plane_id().to_owned(), secret: secret(plane) }
    }
}

fn secret(plane: &Plane) -> Option<CaSecret> {
    match ca_place(plane) {
        CaPlace::Secret(secret) => Some(secret),
        CaPlace::Value(_) | CaPlace::Unusable(..) => None,
    }
}

/// Returns a note on what these planes leave behind, with the commands that remove it; none where other planes use all
/// of it.
pub async fn note(cluster: &Cluster, deleted: &[Plane]) -> Option<String> {
    let is_deleted = |plane: &Plane| deleted.iter().any(|deleted| deleted.name() == plane.name());
    let staying = |plane: Plane| (!is_deleted(&plane)).then(|| Staying::of(&plane));
    // Without the right to list planes it isn't known what they use, and the note says so.
    let staying = cluster.planes_as(None, staying).await.ok();
    let staying: Option<Vec<_>> = staying.map(|planes| planes.into_iter().flatten().collect());
    text(deleted, staying.as_deref(), cluster.target())
}

fn text(deleted: &[Plane], staying: Option<&[Staying]>, control: &Target) -> Option<String> {
    let known = staying.unwrap_or_default();
    let ids: BTreeSet<_> = deleted.iter().map(Plane::plane_id).collect();
    let ids: Vec<_> = ids.into_iter().filter(|id| known.iter().all(|plane| plane.plane_id != *id)).collect();
    let secrets: BTreeSet<_> = deleted.iter().filter_map(secret).map(|ca| ca.secret).collect();
    let is_used =
        |name: &NamespacedName| known.iter().any(|plane| plane.secret.as_ref().is_some_and(|ca| ca.secret == *name));
    let secrets: Vec<_> = secrets.into_iter().filter(|name| !is_used(name)).collect();
    let caution = if staying.is_some() { "" } else { ", unless another plane uses it" };
    let mut lines = Vec::new();
    if !ids.is_empty() {
        let cluster = if ids.len() == 1 { "cluster" } else { "clusters" };
        lines.push(format!(
            "what was installed in the build {cluster} of {} remains{caution}. To remove it:",
            some(&ids)
        ));
        lines.extend(of_build().into_iter().map(|command| format!("  {command}")));
        lines.push(
            "CONTEXT is a placeholder for the build cluster's context; the names are the chart's and bootstrap's defaults"
                .into(),
        );
    }
    if !secrets.is_empty() {
        let noun = if secrets.len() == 1 { "the CA's Secret remains" } else { "the CAs' Secrets remain" };
        lines.push(format!("{noun} in the control plane{caution}. To remove:"));
        lines.extend(secrets.iter().map(|secret| {
            let (namespace, name) = (shell_quoted(&secret.namespace), shell_quoted(&secret.name));
            format!("  {}", control.command(&format!("kubectl delete secret {name} --namespace {namespace}")))
        }));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The commands for the build cluster.
fn of_build() -> [String; 4] {
    let there = format!("--namespace {BUILD_NAMESPACE}");
    let secrets = AGENT_SECRETS.join(" ");
    [
        format!("helm uninstall {RELEASE} {there} --kube-context CONTEXT"),
        format!("kubectl delete secret {secrets} {there} --ignore-not-found --context CONTEXT"),
        format!("kubectl delete configmap {GATEWAY_CA} {there} --ignore-not-found --context CONTEXT"),
        format!("kubectl delete namespace {BUILD_NAMESPACE} --context CONTEXT"),
    ]
}

/// The first planeIDs, and how many more there are.
fn some(ids: &[&str]) -> String {
    let noun = if ids.len() == 1 { "planeID" } else { "planeIDs" };
    let named = ids.iter().take(NAMED).map(|id| visible(id)).collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(NAMED) {
        0 => format!("{noun} {named}"),
        more => format!("{noun} {named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plane(name: &str, plane_id: &str, secret: Option<&str>) -> Plane {
        let ca = secret.map_or_else(
            || json!({"value": "x"}),
            |name| json!({"secretRef": {"namespace": "ns", "name": name, "key": "ca.crt"}}),
        );
        let spec = json!({"planeID": plane_id, "clusterAgent": {"clientCA": ca}});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    fn told(deleted: &[Plane], staying: Option<&[Plane]>) -> String {
        let staying: Option<Vec<_>> = staying.map(|planes| planes.iter().map(Staying::of).collect());
        text(deleted, staying.as_deref(), &Target::default()).unwrap_or_default()
    }

    #[test]
    fn what_is_left_is_told_with_commands() {
        let note = told(&[plane("a", "x", Some("ca"))], Some(&[plane("b", "y", None)]));
        for line in [
            "what was installed in the build cluster of planeID x remains. To remove it:",
            "  helm uninstall openchoreo-build-plane --namespace openchoreo-build-plane --kube-context CONTEXT",
            "  kubectl delete configmap cluster-gateway-ca --namespace openchoreo-build-plane --ignore-not-found --context CONTEXT",
            "  kubectl delete namespace openchoreo-build-plane --context CONTEXT",
            "the CA's Secret remains in the control plane. To remove:",
            "  kubectl delete secret ca --namespace ns",
        ] {
            assert!(note.lines().any(|found| found == line), "no {line:?} in {note}");
        }
        assert!(note.contains("kubectl delete secret cluster-agent-tls cluster-agent-own-tls "), "{note}");
    }

    #[test]
    fn what_others_use_is_not_left() {
        let gone = [plane("a", "x", Some("ca"))];
        let note = told(&gone, Some(&[plane("b", "x", Some("other"))]));
        assert!(!note.contains("helm") && note.contains("kubectl delete secret ca "), "{note}");
        let note = told(&gone, Some(&[plane("b", "y", Some("ca"))]));
        assert!(note.contains("helm") && !note.contains("in the control plane"), "{note}");
        assert_eq!(told(&gone, Some(&[plane("b", "x", Some("ca"))])), "");
        assert_eq!(told(&gone, None).matches(", unless another plane uses it. To remove").count(), 2);
    }

    #[test]
    fn long_lists_say_how_many_are_left_out() {
        let many: Vec<_> = (0..9).map(|i| plane(&format!("p{i}"), &format!("id{i}"), None)).collect();
        assert!(
            told(&many, Some(&[]))
                .contains("in the build clusters of planeIDs id0, id1, id2, id3, id4 and 4 more remains")
        );
    }
}
