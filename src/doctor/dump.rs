//! The objects that a diagnosis looks at, for somebody else to look at: what is read is recorded, and redacted at once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::case::complaint;
use super::gather::gather;
use super::reach::{AgentsIn, Reach};
use super::redact::{hide_tokens, kept};
use crate::cluster::{AUTHORIZED, CERT_MANAGER, Cluster, Error, Namespaces};
use crate::estate::{
    CERTIFICATE, CERTIFICATE_REQUEST, Events, Extent, GatewayLog, History, ISSUER, Record, Recording, Unavailable,
    marks,
};
use crate::plane::{DUMPED, KINDS, Kind, LOG, Plane, PlaneKey, SIDE, Side};

/// The objects around planes as one List, and what could not be read.
pub async fn dump(reach: &Reach<'_, Cluster>, meant: &[PlaneKey]) -> Result<(Value, Vec<String>), Error> {
    let (control, at) = (reach.control, reach.control.now());
    let kinds: Vec<_> =
        KINDS.iter().filter(|kind| meant.iter().any(|plane| plane.kind.family.is_kin(kind.family))).collect();
    let (planes, mut items, unlisted) = planes(control, &kinds, meant).await?;
    let keep = |object: &Value, key: Option<&str>| Some(kept(object, key));
    let records = [Side::Control, Side::Build].map(|side| Record::new(side, &keep));
    read(reach, kinds, &planes, &records).await;
    let [mut control_record, build_record] = records.map(Record::into_parts);
    control_record.1.extend(unlisted);
    let mut unread = Vec::new();
    items.insert(0, marks::place(Side::Control, reach.control_namespace));
    unread.extend(add(&mut items, Side::Control, control_record));
    if let Some((_, agents_in)) = reach.build {
        items.extend(namespaces(agents_in, &planes).into_iter().map(|namespace| marks::place(Side::Build, namespace)));
        unread.extend(add(&mut items, Side::Build, build_record));
    }
    items.push(marks::end());
    items.iter_mut().for_each(|item| finish(item, at));
    let mut list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    hide_tokens(&mut list);
    Ok((list, unread))
}

type Unlisted = Vec<(String, Unavailable)>;

/// The planes that are meant, those of their planeIDs, which may be planes in migration, and those with the same CA; each also as what is kept of it. And the
/// collections that could not be listed: those of kinds of which none is meant.
async fn planes(
    control: &Cluster,
    kinds: &[&'static Kind],
    meant: &[PlaneKey],
) -> Result<(Vec<Plane>, Vec<Value>, Unlisted), Error> {
    let (mut objects, mut unlisted) = (Vec::<Value>::new(), Vec::<(&Kind, _)>::new());
    for kind in kinds {
        let is_meant = meant.iter().any(|plane| plane.kind == *kind);
        match control.at(kind, &Namespaces::All).planes::<Value>(None).await {
            Ok(planes) => objects.extend(planes.into_iter().map(|mut object| {
                (object["apiVersion"], object["kind"]) = (kind.api_version().into(), kind.kind.into());
                object
            })),
            Err(Error::NoSuchKind { .. }) if !is_meant => {}
            Err(error) if is_meant => return Err(error),
            Err(error) => unlisted.push((*kind, Unavailable::from(&error))),
        }
    }
    let all: Vec<_> = objects.iter().map(plane).collect();
    let meant: Vec<_> = all.iter().filter(|plane| meant.contains(&plane.key())).collect();
    let is_concerned = |plane: &Plane| {
        meant.iter().any(|meant| {
            let (family, other) = (meant.kind.family, plane.kind.family);
            (family.is_kin(other) && meant.plane_id() == plane.plane_id())
                || (family == other && meant.spec.cluster_agent.client_ca == plane.spec.cluster_agent.client_ca)
        })
    };
    let concerned = objects.iter().zip(&all).filter(|(_, plane)| is_concerned(plane));
    let as_kept = |(object, plane): (&Value, &Plane)| {
        let mut object = kept(object, None);
        object["metadata"]["annotations"][SIDE] = Side::Control.name().into();
        (plane.clone(), object)
    };
    let (planes, items): (Vec<Plane>, _) = concerned.map(as_kept).unzip();
    // Of a family without any plane here nothing depends on it.
    unlisted.retain(|(kind, _)| planes.iter().any(|plane| plane.kind.family == kind.family));
    let unlisted = unlisted.into_iter().map(|(kind, why)| (kind.path(None), why)).collect();
    Ok((planes, items, unlisted))
}

/// Reads what a diagnosis and a page look at.
async fn read(
    reach: &Reach<'_, Cluster>,
    kinds: Vec<&'static Kind>,
    planes: &[Plane],
    [control, build]: &[Record<'_>; 2],
) {
    let recorded = Recording { inner: reach.control, record: control };
    let agents = reach.build.map(|(cluster, agents_in)| (Recording { inner: cluster, record: build }, agents_in));
    let reach = Reach {
        control: &recorded,
        control_namespace: reach.control_namespace,
        kinds: reach.kinds.clone(),
        build: agents.as_ref().map(|(recording, agents_in)| (recording, *agents_in)),
        named: reach.named,
        soon: reach.soon,
        gateway: None,
        bound: None,
    };
    gather(&reach, planes.to_vec(), &Extent(kinds)).await;
    Events::about(&recorded, planes.iter().map(Plane::key)).await;
    drop(History::around(&recorded, reach.control_namespace).await);
    if let Some((recorded, agents_in)) = reach.build {
        let around = namespaces(agents_in, planes).into_iter().map(|namespace| History::around(recorded, namespace));
        drop(join_all(around).await);
    }
}

/// The namespaces that the agents of planes are in.
fn namespaces<'n>(agents_in: AgentsIn<'n>, planes: &[Plane]) -> BTreeSet<&'n str> {
    planes.iter().filter_map(|plane| agents_in.namespace(plane.kind.family)).collect()
}

/// Adds what was read of a cluster, in an order that stays, and returns what could not be read.
fn add(
    items: &mut Vec<Value>,
    side: Side,
    (mut objects, unread): (Vec<Value>, Vec<(String, Unavailable)>),
) -> Vec<String> {
    only_concerned(&mut objects);
    let place = |object: &Value| {
        ["/kind", "/metadata/namespace", "/metadata/name"].map(|at| object.pointer(at).map(Value::to_string))
    };
    objects.sort_by_cached_key(place);
    items.extend(objects);
    items.extend(unread.iter().map(|(path, why)| marks::unread(side, path, why)));
    unread.into_iter().map(|(path, why)| format!("{path}: {why}")).collect()
}

/// Leaves out Certificates that write other Secrets than those that agents and the controller mount, and what belongs to
/// these; and events about other objects.
fn only_concerned(objects: &mut Vec<Value>) {
    let volumes = |object: &Value| {
        let volumes = object.pointer("/spec/template/spec/volumes").or(object.pointer("/spec/volumes"));
        volumes.and_then(Value::as_array).cloned()
    };
    let mounted: BTreeSet<_> = objects
        .iter()
        .flat_map(|object| volumes(object).unwrap_or_default())
        .filter_map(|volume| Some(volume["secret"]["secretName"].as_str()?.to_owned()))
        .collect();
    let is_meant = |object: &Value| object["spec"]["secretName"].as_str().is_some_and(|name| mounted.contains(name));
    let certificates = objects.iter().filter(|object| object["kind"] == CERTIFICATE.kind && is_meant(object));
    let names: BTreeSet<_> =
        certificates.filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned())).collect();
    let of_these = |object: &Value| {
        object["metadata"]["annotations"][CERT_MANAGER].as_str().is_some_and(|name| names.contains(name))
    };
    let known: BTreeSet<_> =
        objects.iter().filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned)).collect();
    let is_about_known = |event: &Value| {
        let about = &event["involvedObject"];
        KINDS.iter().any(|kind| about["kind"] == kind.kind)
            || about["name"].as_str().is_some_and(|name| known.contains(name))
            || History::is_about_programs(event)
    };
    objects.retain(|object| match object["kind"].as_str().unwrap_or_default() {
        "Event" => is_about_known(object),
        kind if kind == CERTIFICATE.kind => is_meant(object),
        kind if kind == CERTIFICATE_REQUEST.kind => of_these(object),
        kind if kind == ISSUER.kind => !names.is_empty(),
        _ => true,
    });
}

/// Says of an object when it was dumped, and keeps of a log what a diagnosis understands: the rest of it may be anything.
fn finish(item: &mut Value, at: Timestamp) {
    let Some(annotations) = item.pointer_mut("/metadata/annotations") else {
        return;
    };
    annotations[DUMPED] = at.to_string().into();
    if let Some(log) = annotations.get(LOG).and_then(Value::as_str) {
        let reported = log.lines().filter_map(|line| match GatewayLog::kept(line) {
            None if complaint(line).is_some() || line.contains(AUTHORIZED) => Some(line.to_owned()),
            kept => kept,
        });
        let reported: Vec<_> = reported.collect();
        annotations[LOG] = reported.join("\n").into();
    }
}

/// A plane out of an object; one of nothing where it is none.
fn plane(object: &Value) -> Plane {
    Plane::deserialize(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::doctor::AgentsIn;
    use crate::estate::Files;
    use crate::pki::Remaining;
    use crate::plane::{DEFAULT_KIND, Snapshot, Span};

    fn object(version: &str, kind: &str, name: &str, namespace: Option<&str>) -> Value {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        object
    }

    fn plane_of(kind: &str, namespace: Option<&str>, name: &str, plane_id: &str) -> Value {
        let mut plane = object("openchoreo.dev/v1alpha1", kind, name, namespace);
        plane["spec"] = json!({"planeID": plane_id, "clusterAgent": {"clientCA": {"value": name}}});
        plane
    }

    fn control() -> Fake {
        let fake = Fake::of([
            plane_of("ClusterBuildPlane", None, "a", "id"),
            plane_of("ClusterBuildPlane", None, "sibling", "id"),
            plane_of("ClusterBuildPlane", None, "stranger", "other"),
            plane_of("BuildPlane", Some("n"), "ours", "id"),
            plane_of("BuildPlane", Some("n"), "theirs", "other"),
            plane_of("ClusterWorkflowPlane", None, "next", "id"),
            plane_of("ClusterWorkflowPlane", None, "stranger", "other"),
            plane_of("WorkflowPlane", Some("n"), "ours", "id"),
            plane_of("ClusterDataPlane", None, "a", "id"),
            plane_of("DataPlane", Some("n"), "a", "id"),
        ]);
        fake.forbid("GET /api/v1/namespaces/control/secrets");
        fake
    }

    fn build() -> Fake {
        let mut agent = object("apps/v1", "Deployment", "agent", Some("build"));
        agent["metadata"]["labels"] = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
        let container = json!({"name": "agent", "args": ["--plane-id=id"]});
        let volumes = json!([{"name": "client-certs", "secret": {"secretName": "tls"}}]);
        let template = json!({"spec": {"containers": [container], "volumes": volumes}});
        agent["spec"] = json!({"selector": {"matchLabels": {"of": "x"}}, "template": template});
        let mut secret = object("v1", "Secret", "tls", Some("build"));
        secret["data"] = json!({"tls.crt": "AAAA", "tls.key": "U0VDUkVU", "other": "U0VDUkVU"});
        let certificate = |name: &str, secret: &str| {
            let mut certificate = object("cert-manager.io/v1", "Certificate", name, Some("build"));
            certificate["spec"] = json!({"secretName": secret});
            certificate
        };
        Fake::of([agent, secret, certificate("own", "tls"), certificate("foreign", "elsewhere")])
    }

    async fn dumped() -> (Vec<Value>, Vec<String>) {
        let (control, build) = (control().cluster(), build().cluster());
        let reach = Reach {
            control: &control,
            control_namespace: "control",
            kinds: vec![DEFAULT_KIND],
            build: Some((&build, AgentsIn::Named("build"))),
            named: true,
            soon: Remaining::Span(Span::default()),
            gateway: None,
            bound: None,
        };
        let meant = PlaneKey { name: "a".into(), ..PlaneKey::default() };
        let (list, unread) = dump(&reach, &[meant]).await.unwrap();
        (list["items"].as_array().unwrap().clone(), unread)
    }

    #[tokio::test]
    async fn a_dump_holds_what_concerns_its_planes_and_no_secret() {
        let (items, unread) = dumped().await;
        let titles: Vec<_> = items
            .iter()
            .map(|item| format!("{} {}", item["kind"].as_str().unwrap(), item["metadata"]["name"].as_str().unwrap()))
            .collect();
        let expected = [
            "ControlPlane control",
            "ClusterBuildPlane a",
            "ClusterBuildPlane sibling",
            "BuildPlane ours",
            "ClusterWorkflowPlane next",
            "WorkflowPlane ours",
            "Unread /api/v1/namespaces/control/secrets/cluster-gateway-ca",
            "Unread /api/v1/namespaces/control/secrets?labelSelector=owner%3Dhelm&fieldSelector=type%3Dhelm.sh/release.v1",
            "BuildCluster build",
            "Certificate own",
            "Deployment agent",
            "Secret tls",
            "End end",
        ];
        assert_eq!(titles, expected);
        assert_eq!(unread.len(), 2, "{unread:?}");
        let text = Value::from(items).to_string();
        assert!(!text.contains("U0VDUkVU") && !text.contains("SECRET"), "{text}");
    }

    #[tokio::test]
    async fn a_dump_is_read_as_the_clusters_were() {
        let (items, _) = dumped().await;
        let (planes, related): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| KINDS.iter().any(|kind| item["kind"] == kind.kind));
        let planes: Vec<_> = planes.iter().map(plane).collect();
        let snapshot = Snapshot::of_files(planes, related);
        let (files, agents) = (Files::control(&snapshot), Files::build(&snapshot).unwrap());
        let reach = Reach {
            control: &files,
            control_namespace: "control",
            kinds: vec![DEFAULT_KIND],
            build: Some((&agents, AgentsIn::Named("build"))),
            named: true,
            soon: Remaining::Span(Span::default()),
            gateway: None,
            bound: None,
        };
        let planes = snapshot.planes[..1].to_vec();
        let gathered = gather(&reach, planes, &Extent::default()).await;
        let case = &gathered.cases[0];
        let agent = case.agent().unwrap();
        let pair = agent.pair.as_ref().unwrap_err();
        assert_eq!(pair.message, "Secret build/tls holds no certificate that can be parsed");
        assert_eq!(agent.issuance.as_ref().unwrap().as_ref().unwrap().name.name, "own");
        let sharing = case.facts.shares_plane_id_with.as_ref().unwrap();
        assert_eq!(sharing.names().collect::<Vec<_>>(), ["sibling", "n/ours"]);
        assert_eq!(case.facts.other_scope, Ok(()));
        assert_eq!(case.facts.counterpart.as_ref().map(PlaneKey::with_word).as_deref(), Some("cwp/next"));
        assert!(gathered.ground.forbidden.len() == 1 && gathered.ground.control_rights.len() > 5);
        assert!(!marks::is_cut_off(&snapshot));
    }
}
