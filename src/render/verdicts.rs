//! The gateway's verdicts, in words and as the JSON that scripts rely on.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::paint;
use crate::pki::Verdict;
use crate::plane::{PlaneKey, age};
use crate::text::visible;

/// The verdict for one plane; of no plane where a CA alone was judged.
pub struct PlaneVerdict {
    pub plane: Option<PlaneKey>,
    pub verdict: Verdict,
}

/// A line each.
pub fn text(verdicts: &[PlaneVerdict], at: Timestamp) -> String {
    let families: HashSet<_> =
        verdicts.iter().filter_map(|one| Some(one.plane.as_ref()?.kind.family.plane_type)).collect();
    let has_families = families.len() > 1;
    let line = |one: &PlaneVerdict| {
        let name = one.plane.as_ref().map_or("the CA".to_owned(), |plane| {
            let name = visible(&plane.to_string()).into_owned();
            if has_families { format!("{}/{name}", plane.kind.word()) } else { name }
        });
        let told = match &one.verdict {
            Verdict::Authorized { until: Some(until) } => {
                let left = age(*until, at);
                format!("{} until {until} ({left})", paint::good("authorized"))
            }
            Verdict::Authorized { until: None } => paint::good("authorized"),
            Verdict::Refused(refusal) => format!("{}: {}", paint::bad("refused"), visible(&refusal.message)),
            Verdict::Unknown(why) => format!("{}: {}", paint::warning("unknown"), visible(why)),
        };
        format!("{name}: {told}\n")
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
        json!({
            "plane": one.plane.as_ref().map(|plane| &plane.name),
            "kind": one.plane.as_ref().map(|plane| plane.kind.kind),
            "namespace": one.plane.as_ref().and_then(|plane| plane.namespace.as_ref()),
            "verdict": word,
            "reason": reason,
            "message": message,
            "until": until,
        })
    };
    let verdicts: Vec<_> = verdicts.iter().map(one).collect();
    super::redacted_json(json!({"authorized": authorized, "planeID": plane_id, "verdicts": verdicts}))
}
