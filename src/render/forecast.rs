//! When planes will break, as a table, as JSON, and as metrics for Prometheus.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Identity, NONE, cell, columns, identity_json};
use crate::doctor::{Break, Reason};
use crate::paint;
use crate::plane::{PlaneKey, age};

/// A plane and the dates on which it breaks, the first one first.
pub struct Forecast {
    pub key: PlaneKey,
    pub plane_id: String,
    pub breaks: Vec<Break>,
}

/// A row for each date, the first one first.
pub fn table(forecasts: &[Forecast], within: impl Fn(&Break) -> bool, at: Timestamp) -> String {
    let identity = Identity::of(forecasts.iter().map(|one| &one.key));
    let mut rows: Vec<_> =
        forecasts.iter().flat_map(|one| one.breaks.iter().map(move |date| (&one.key, date))).collect();
    rows.sort_by_key(|(_, one)| one.date);
    let row = |(key, one): (&PlaneKey, &Break)| {
        let left = match one.reason {
            Reason::RunningCertificateUnknown => "unknown".into(),
            _ if one.date <= at => "passed".into(),
            _ => age(one.date, at),
        };
        let cells = [
            one.date.strftime("%Y-%m-%d %H:%M").to_string(),
            if within(one) { paint::bad(&left) } else { left },
            one.reason.name().to_owned(),
            cell(&one.message),
        ];
        identity.cells(key).into_iter().chain(cells).collect()
    };
    let unknown = forecasts.iter().filter(|one| one.breaks.is_empty());
    let unknown = unknown.map(|one| {
        let cells = [NONE, NONE, NONE, "no date is known"].map(str::to_owned);
        identity.cells(&one.key).into_iter().chain(cells).collect()
    });
    let titles: Vec<_> = identity.titles().into_iter().chain(["DATE", "LEFT", "REASON", "MESSAGE"]).collect();
    columns(Some(&titles), rows.into_iter().map(row).chain(unknown))
}

/// The first date of each, and the next ones.
pub fn json(forecasts: &[Forecast]) -> Value {
    let one = |one: &Forecast| {
        let first = one.breaks.first();
        let dates = json!({
            "date": first.map(|first| first.date),
            "reason": first.map(|first| first.reason),
            "message": first.map(|first| &first.message),
            "next": one.breaks.get(1..).unwrap_or_default(),
        });
        identity_json(&one.key, dates)
    };
    super::redacted_json(json!({"planes": forecasts.iter().map(one).collect::<Vec<_>>()}))
}

/// A gauge for each date, in the text format of Prometheus.
pub fn prometheus(forecasts: &[Forecast]) -> String {
    let metric = "choreoctl_plane_breaks_timestamp_seconds";
    let mut text = format!("# HELP {metric} When a plane will lose its connection.\n# TYPE {metric} gauge\n");
    for one in forecasts {
        for date in &one.breaks {
            let (plane, id) = (label(&one.key.name), label(&one.plane_id));
            let (kind, namespace) = (one.key.kind.kind, label(one.key.namespace.as_deref().unwrap_or_default()));
            let (reason, second) = (date.reason.name(), date.date.as_second());
            text.push_str(&format!("{metric}{{plane=\"{plane}\",kind=\"{kind}\",namespace=\"{namespace}\",plane_id=\"{id}\",reason=\"{reason}\"}} {second}\n"));
        }
    }
    text
}

fn label(text: &str) -> String {
    crate::text::visible(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_reported_in_three_ways() {
        let at: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let date = |text: &str, reason| Break { date: text.parse().unwrap(), reason, message: "it ends".into() };
        let breaks = vec![
            date("2026-12-04T03:12:00Z", Reason::PinnedLeafRenewed),
            date("2027-01-20T03:12:00Z", Reason::RunningCertificateUnknown),
            date("2027-02-20T03:12:00Z", Reason::CertificateExpires),
        ];
        let key = |name: &str| PlaneKey { name: name.into(), ..PlaneKey::default() };
        let known = Forecast { key: key("a\"b"), plane_id: "a".into(), breaks };
        let all = [known, Forecast { key: key("unknown"), plane_id: "u".into(), breaks: vec![] }];
        let table = crate::render::plain(&table(&all, |_| false, at));
        let expected = "\
NAME     DATE              LEFT     REASON                       MESSAGE
a\"b      2026-12-04 03:12  11d      pinned-leaf-renewed          it ends
a\"b      2027-01-20 03:12  unknown  running-certificate-unknown  it ends
a\"b      2027-02-20 03:12  89d      certificate-expires          it ends
unknown  -                 -        -                            no date is known
";
        assert_eq!(table, expected);
        let object = json(&all);
        assert_eq!(object["planes"][0]["reason"], "pinned-leaf-renewed");
        assert_eq!(object["planes"][0]["next"][1]["date"], "2027-02-20T03:12:00Z");
        assert!(object["planes"][1]["date"].is_null());
        let expected = "\
# HELP choreoctl_plane_breaks_timestamp_seconds When a plane will lose its connection.
# TYPE choreoctl_plane_breaks_timestamp_seconds gauge
choreoctl_plane_breaks_timestamp_seconds{plane=\"a\\\"b\",kind=\"ClusterBuildPlane\",namespace=\"\",plane_id=\"a\",reason=\"pinned-leaf-renewed\"} 1796353920
choreoctl_plane_breaks_timestamp_seconds{plane=\"a\\\"b\",kind=\"ClusterBuildPlane\",namespace=\"\",plane_id=\"a\",reason=\"running-certificate-unknown\"} 1800414720
choreoctl_plane_breaks_timestamp_seconds{plane=\"a\\\"b\",kind=\"ClusterBuildPlane\",namespace=\"\",plane_id=\"a\",reason=\"certificate-expires\"} 1803093120
";
        assert_eq!(prometheus(&all), expected);
    }
}
