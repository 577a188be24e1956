//! What a dump says of itself, beside its objects: where it looked, what it could not read, and that it is whole.

use serde_json::{Value, json};

use super::source::text;
use super::unavailable::{Cause, Unavailable};
use crate::plane::{DUMPED, Side, Snapshot};

const OWN: &str = "choreoctl.dev/v1";
const UNREAD: &str = "Unread";
const END: &str = "End";

/// What says that a side was looked at, by the namespace that it names.
fn looked_at(side: Side) -> &'static str {
    match side {
        Side::Control => "ControlPlane",
        Side::Build => "BuildCluster",
    }
}

fn own(kind: &str, name: &str) -> Value {
    json!({"apiVersion": OWN, "kind": kind, "metadata": {"name": name}})
}

/// Says that a cluster was looked at, and where in it.
pub fn place(side: Side, namespace: &str) -> Value {
    own(looked_at(side), namespace)
}

/// Says that a path of a cluster could not be read.
pub fn unread(side: Side, path: &str, why: &Unavailable) -> Value {
    let mut mark = own(UNREAD, path);
    mark["cluster"] = side.name().into();
    mark["word"] = why.cause.word().into();
    mark["text"] = why.message.clone().into();
    mark
}

/// Says that nothing is missing at the dump's end.
pub fn end() -> Value {
    own(END, "end")
}

fn marks<'s>(snapshot: &'s Snapshot, kind: &str) -> impl Iterator<Item = &'s Value> {
    snapshot.related.iter().filter(move |object| object["apiVersion"] == OWN && object["kind"] == kind)
}

/// The namespace of a cluster that a dump was made of; none where files don't say.
pub fn namespace(snapshot: &Snapshot, side: Side) -> Option<&str> {
    marks(snapshot, looked_at(side)).next()?["metadata"]["name"].as_str()
}

/// All namespaces of a cluster that a dump was made of.
pub fn namespaces(snapshot: &Snapshot, side: Side) -> Vec<&str> {
    marks(snapshot, looked_at(side)).filter_map(|mark| mark["metadata"]["name"].as_str()).collect()
}

/// The paths of a cluster that a dump could not read, without what was chosen of them, and why.
pub fn all_unread(snapshot: &Snapshot, side: Side) -> Vec<(String, Unavailable)> {
    let ours = marks(snapshot, UNREAD).filter(|mark| mark["cluster"] == side.name());
    let read = |mark: &Value| {
        let cause = if mark["word"] == Cause::Forbidden.word() { Cause::Forbidden } else { Cause::Unknown };
        let message = format!("it could not be read for the dump: {}", text(mark, "/text"));
        let path = text(mark, "/metadata/name");
        (path.split('?').next().unwrap_or(path).to_owned(), Unavailable::new(cause, message))
    };
    ours.map(read).collect()
}

/// Whether one of the planes says that it was dumped.
pub fn is_dump(snapshot: &Snapshot) -> bool {
    snapshot.planes.iter().any(|plane| plane.annotation(DUMPED).is_some())
}

/// Whether a dump ends before its end.
pub fn is_cut_off(snapshot: &Snapshot) -> bool {
    is_dump(snapshot) && marks(snapshot, END).next().is_none()
}
