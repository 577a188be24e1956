//! What a deleted plane leaves behind: the agent's side in the plane's cluster, and the CA's Secret in the control plane.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use crate::cluster::{Agent, Cluster, LABELS, Target};
use crate::estate::{CaPlace, Few};
use crate::plan::{AGENT_SECRETS, Staying, staying};
use crate::plane::{Family, GATEWAY_CA, NamespacedName, Plane};
use crate::text::{shell_quoted, visible};

/// Returns a note on what these planes leave behind, with the commands that remove it; none where other planes use all
/// of it. The commands are exact where the planes' clusters are given.
pub async fn note(cluster: &Cluster, builds: &[&Cluster], deleted: &[Plane]) -> Option<String> {
    let is_deleted = |plane: &Plane| deleted.iter().any(|deleted| deleted.is(plane));
    let mut kinds: Vec<_> = deleted.iter().map(|plane| plane.kind).collect();
    let mut known = true;
    if deleted.iter().any(|plane| CaPlace::secret(plane).is_some()) {
        // A CA's Secret may be that of planes of any type.
        match cluster.served_kinds().await {
            Ok(served) => kinds.extend(served),
            Err(_) => known = false,
        }
    }
    let stays = |plane: Plane| (!is_deleted(&plane)).then(|| Staying::of(&plane));
    // Without the right to list planes it isn't known what they use, and the note says so.
    let staying = if known { staying(cluster, kinds, stays).await.ok() } else { None };
    let agents = builds.iter().map(async |build| Some((build.target(), build.all_agents().await.ok()?)));
    let agents: Vec<_> = join_all(agents).await.into_iter().flatten().collect();
    text(deleted, staying.as_deref(), cluster.target(), &agents)
}

fn text(
    deleted: &[Plane],
    staying: Option<&[Staying]>,
    control: &Target,
    agents: &[(&Target, Vec<Agent>)],
) -> Option<String> {
    let known = staying.unwrap_or_default();
    let id = |plane: &'_ Plane| (plane.kind.family.plane_type, plane.plane_id().to_owned());
    let ids: BTreeMap<_, _> = deleted.iter().map(|plane| (id(plane), (plane.kind.family, plane.plane_id()))).collect();
    let is_unused = |(family, id): &(&Family, &str)| !known.iter().any(|plane| plane.uses_agents(family, id));
    let ids: Vec<_> = ids.into_values().filter(is_unused).collect();
    let secrets: BTreeSet<_> = deleted.iter().filter_map(CaPlace::secret).map(|ca| ca.secret).collect();
    let is_used = |name: &NamespacedName| known.iter().any(|plane| plane.uses_secret(name));
    let secrets: Vec<_> = secrets.into_iter().filter(|name| !is_used(name)).collect();
    let caution = if staying.is_some() { "" } else { ", unless another plane uses it" };
    let mut lines = Vec::new();
    match agents {
        _ if ids.is_empty() => {}
        [_, ..] => lines.extend(of_agents(&ids, agents)),
        [] => {
            let (ids, cluster) = (some(&ids), if ids.len() == 1 { "cluster" } else { "clusters" });
            lines.push(format!(
                "the agent of {ids}, if one was installed, remains in its {cluster}{caution}. Find and remove it with:"
            ));
            lines.extend(of_unknown().map(|command| format!("  {command}")));
            lines.push("with --plane-context, these commands have the actual names".into());
        }
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

/// The commands for the agents of planeIDs that clusters have.
fn of_agents(ids: &[(&'static Family, &str)], clusters: &[(&Target, Vec<Agent>)]) -> Vec<String> {
    let of_cluster = |(build, all): &(&Target, Vec<Agent>)| {
        let found = ids.iter().flat_map(|(family, id)| {
            let is_of = move |agent: &&Agent| agent.plane_id.as_deref() == Some(id) && agent.may_be_of(family);
            all.iter().filter(is_of).map(move |agent| (agent, *id))
        });
        let command = |(agent, id): (&Agent, &str)| {
            let alone = all.iter().filter(|other| other.name.namespace == agent.name.namespace).count() == 1;
            let lines = of_agent(agent, id, alone).map(|command| format!("  {}", build.command(&command)));
            let name = visible(&agent.name.to_string()).into_owned();
            format!("the agent {name} remains. To remove it:\n{}", lines.collect::<Vec<_>>().join("\n"))
        };
        found.map(command).collect::<Vec<_>>()
    };
    let commands: Vec<_> = clusters.iter().flat_map(of_cluster).collect();
    if commands.is_empty() {
        let titles: Vec<_> = clusters.iter().map(|(build, _)| build.title()).collect();
        return vec![format!("no agent of {} was found in {}", some(ids), titles.join(", "))];
    }
    commands
}

fn of_agent<'a>(agent: &'a Agent, id: &'a str, alone: bool) -> impl Iterator<Item = String> + 'a {
    let there = format!("--namespace {}", shell_quoted(&agent.name.namespace));
    let workload = match &agent.release {
        Some(release) => format!("helm uninstall {} {there}", shell_quoted(release)),
        None => format!("kubectl delete deployment {} {there}", shell_quoted(&agent.name.name)),
    };
    let secrets: BTreeSet<_> =
        AGENT_SECRETS.iter().map(|name| (*name).to_owned()).chain(agent.secret.clone()).collect();
    let secrets = secrets.into_iter().chain([format!("{id}-agent-ca")]);
    let secrets: Vec<_> = secrets.map(|name| shell_quoted(&name).into_owned()).collect();
    let map = shell_quoted(agent.server_ca.as_deref().unwrap_or(GATEWAY_CA)).into_owned();
    let objects = [
        format!("kubectl delete secret {} {there} --ignore-not-found", secrets.join(" ")),
        format!("kubectl delete configmap {map} {there} --ignore-not-found"),
    ];
    // A namespace with another agent stays.
    let namespace = alone.then(|| format!("kubectl delete namespace {}", shell_quoted(&agent.name.namespace)));
    std::iter::once(workload).chain(objects).chain(namespace)
}

/// The same where nothing is known of the agent.
fn of_unknown() -> impl Iterator<Item = String> {
    let there = "--namespace NAMESPACE";
    let secrets = AGENT_SECRETS.join(" ");
    [
        format!("kubectl get deployments -A -l {LABELS} --context CONTEXT"),
        format!("helm uninstall RELEASE {there} --kube-context CONTEXT"),
        format!("kubectl delete secret {secrets} {there} --ignore-not-found --context CONTEXT"),
        format!("kubectl delete configmap {GATEWAY_CA} {there} --ignore-not-found --context CONTEXT"),
    ]
    .into_iter()
}

/// The first planeIDs, and how many more there are.
fn some(ids: &[(&'static Family, &str)]) -> String {
    let noun = if ids.len() == 1 { "planeID" } else { "planeIDs" };
    format!("{noun} {}", Few::of(&ids.iter().map(|(_, id)| *id).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use serde_json::json;

    fn plane(name: &str, plane_id: &str, secret: Option<&str>) -> Plane {
        let ca = secret.map_or_else(
            || json!({"value": "x"}),
            |name| json!({"secretRef": {"namespace": "ns", "name": name, "key": "ca.crt"}}),
        );
        let spec = json!({"planeID": plane_id, "clusterAgent": {"clientCA": ca}});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    fn reported(deleted: &[Plane], staying: Option<&[Plane]>) -> String {
        let staying: Option<Vec<_>> = staying.map(|planes| planes.iter().map(Staying::of).collect());
        text(deleted, staying.as_deref(), &Target::default(), &[]).unwrap_or_default()
    }

    #[test]
    fn what_is_left_is_reported_with_commands() {
        let note = reported(&[plane("a", "x", Some("ca"))], Some(&[plane("b", "y", None)]));
        for line in [
            "the agent of planeID x, if one was installed, remains in its cluster. Find and remove it with:",
            "  helm uninstall RELEASE --namespace NAMESPACE --kube-context CONTEXT",
            "  kubectl delete configmap cluster-gateway-ca --namespace NAMESPACE --ignore-not-found --context CONTEXT",
            "the CA's Secret remains in the control plane. To remove:",
            "  kubectl delete secret ca --namespace ns",
        ] {
            assert!(note.lines().any(|found| found == line), "no {line:?} in {note}");
        }
        assert!(note.contains("kubectl delete secret cluster-agent-tls cluster-agent-own-tls "), "{note}");
    }

    #[test]
    fn the_agents_that_are_found_have_their_own_names() {
        let agent = |namespace: &str, id: &str| {
            let labels = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
            let container = json!({"name": "agent", "args": [format!("--plane-id={id}")]});
            json!({"kind": "Deployment", "metadata": {"name": "agent", "namespace": namespace, "labels": labels},
                "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}}})
        };
        let agents = [agent("one", "x"), agent("two", "y"), agent("two", "z")];
        let [one, others @ ..] = agents.map(|agent| Agent::of(serde_json::from_value(agent).unwrap()));
        let target = Target::default();
        let clusters = [(&target, vec![one]), (&target, others.to_vec())];
        let note = |id: &str| text(&[plane("a", id, None)], Some(&[]), &target, &clusters).unwrap();
        let reported = note("x");
        assert!(reported.contains("  kubectl delete deployment agent --namespace one\n"), "{reported}");
        assert!(
            reported.contains(" x-agent-ca ") && reported.ends_with("  kubectl delete namespace one"),
            "{reported}"
        );
        assert!(!note("y").contains("delete namespace"), "{}", note("y"));
        assert!(note("nobody").contains("no agent of planeID nobody was found in "));
    }

    #[test]
    fn what_others_use_is_not_left() {
        let gone = [plane("a", "x", Some("ca"))];
        let note = reported(&gone, Some(&[plane("b", "x", Some("other"))]));
        assert!(!note.contains("helm") && note.contains("kubectl delete secret ca "), "{note}");
        let note = reported(&gone, Some(&[plane("b", "y", Some("ca"))]));
        assert!(note.contains("helm") && !note.contains("in the control plane"), "{note}");
        assert_eq!(reported(&gone, Some(&[plane("b", "x", Some("ca"))])), "");
        assert_eq!(reported(&gone, None).matches(", unless another plane uses it. ").count(), 2);
    }

    #[tokio::test]
    async fn a_secret_that_planes_of_another_type_use_is_not_left() {
        let other = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "DataPlane", "metadata": {"name": "b", "namespace": "n"},
            "spec": {"clusterAgent": {"clientCA": {"secretKeyRef": {"namespace": "ns", "name": "ca", "key": "ca.crt"}}}}});
        let (used, unused) = (Fake::of([other]), Fake::default());
        let deleted = [plane("a", "x", Some("ca"))];
        let left = async |fake: &Fake| {
            let note = note(&fake.cluster(), &[], &deleted).await.unwrap();
            (note.contains("kubectl delete secret ca "), note.contains("unless another plane uses it"))
        };
        assert_eq!(left(&used).await, (false, false));
        assert_eq!(left(&unused).await, (true, false));
        used.forbid("GET /apis/openchoreo.dev/v1alpha1/dataplanes");
        assert_eq!(left(&used).await, (true, true));
    }

    #[test]
    fn long_lists_say_how_many_are_left_out() {
        let many: Vec<_> = (0..9).map(|i| plane(&format!("p{i}"), &format!("id{i}"), None)).collect();
        assert!(reported(&many, Some(&[])).contains(
            "the agent of planeIDs id0, id1, id2, id3, id4 and 4 more, if one was installed, remains in its clusters"
        ));
    }
}
