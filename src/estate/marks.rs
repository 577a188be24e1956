//! What a dump says of itself, beside its objects: where it looked, what it could not read, and that it is whole.

use serde_json::Value;

use super::source::text;
use super::unavailable::{Cause, Unavailable};
use crate::plane::{DUMPED, Side, Snapshot};

const OWN: &str = "choreoctl.dev/v1";
const UNREAD: &str = "Unread";

fn marks<'s>(snapshot: &'s Snapshot, kind: &str) -> impl Iterator<Item = &'s Value> {
    snapshot.related.iter().filter(move |object| object["apiVersion"] == OWN && object["kind"] == kind)
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
