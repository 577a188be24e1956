//! The gateway's verdicts, in words and as the JSON that scripts rely on.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::Unlisted;
use crate::paint;
use crate::pki::Verdict;
use crate::plane::{Kind, PlaneKey, age};
use crate::text::visible;

/// What a certificate was judged by.
pub enum Judge {
    /// A CA alone.
    Ca,
    Plane(PlaneKey),
    /// The planes of a kind, which could not be listed.
    Kind(&'static Kind),
}

/// The verdict for one plane, or what replaces it.
pub struct PlaneVerdict {
    pub by: Judge,
    pub verdict: Verdict,
}

impl From<&Unlisted> for PlaneVerdict {
    fn from(unlisted: &Unlisted) -> Self {
        Self { by: Judge::Kind(unlisted.kind), verdict: Verdict::Unknown(unlisted.to_string()) }
    }
}

/// A line each.
pub fn text(verdicts: &[PlaneVerdict], at: Timestamp) -> String {
    let families = verdicts.iter().filter_map(|one| match &one.by {
        Judge::Plane(plane) => Some(plane.kind.family.plane_type),
        Judge::Ca | Judge::Kind(_) => None,
    });
    let has_families = families.collect::<HashSet<_>>().len() > 1;
    let line = |one: &PlaneVerdict| {
        let name = match &one.by {
            Judge::Ca => "the CA".to_owned(),
            Judge::Plane(plane) if has_families => visible(&plane.with_word()).into_owned(),
            Judge::Plane(plane) => visible(&plane.to_string()).into_owned(),
            Judge::Kind(kind) => format!("{}s", kind.kind),
        };
        let reported = match &one.verdict {
            Verdict::Authorized { until: Some(until) } => {
                let left = age(*until, at);
                format!("{} until {until} ({left})", paint::good("authorized"))
            }
            Verdict::Authorized { until: None } => paint::good("authorized"),
            Verdict::Refused(refusal) => format!("{}: {}", paint::bad("refused"), visible(&refusal.message)),
            Verdict::Unknown(why) => format!("{}: {}", paint::warning("unknown"), visible(why)),
        };
        format!("{name}: {reported}\n")
    };
    verdicts.iter().map(line).collect()
}

/// All of them as one object.
pub fn json(plane_id: Option<&str>, verdicts: &[PlaneVerdict], authorized: bool) -> Value {
    let one = |one: &PlaneVerdict| {
        let (word, reason, message, until) = match &one.verdict {
            Verdict::Authorized { until } => ("authorized", None, None, *until),
            Verdict::Refused(refusal) => ("refused", Some(refusal.reason), Some(refusal.message.as_str()), None),
            Verdict::Unknown(why) => ("unknown", None, Some(why.as_str()), None),
        };
        let (plane, kind) = match &one.by {
            Judge::Ca => (None, None),
            Judge::Plane(plane) => (Some(plane), Some(plane.kind)),
            Judge::Kind(kind) => (None, Some(*kind)),
        };
        json!({
            "plane": plane.map(|plane| &plane.name),
            "kind": kind.map(|kind| kind.kind),
            "namespace": plane.and_then(|plane| plane.namespace.as_ref()),
            "verdict": word,
            "reason": reason,
            "message": message,
            "until": until,
        })
    };
    let verdicts: Vec<_> = verdicts.iter().map(one).collect();
    super::redacted_json(json!({"authorized": authorized, "planeID": plane_id, "verdicts": verdicts}))
}
