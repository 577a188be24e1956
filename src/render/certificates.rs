//! Certificates as a table and as the JSON that scripts rely on.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{NONE, cell, columns};
use crate::doctor::Note;
use crate::paint;
use crate::pki::Certificate;
use crate::plane::{age, day};

/// A certificate and where it was read.
pub struct Sourced {
    pub source: String,
    /// Counted from 0 in its source.
    pub index: usize,
    pub certificate: Certificate,
    /// Whether it ends within what was asked for.
    pub expires: bool,
    /// The one among those shown that signed it, as `SOURCE#INDEX`.
    pub signed_by: Option<String>,
    pub remarks: Vec<Note>,
}

/// A source that could not be read.
#[derive(Serialize)]
pub struct Unread {
    pub source: String,
    pub text: String,
}

const HEADER: [&str; 9] = ["SOURCE", "INDEX", "SUBJECT", "ISSUER", "USE", "KEY", "NOT-AFTER", "LEFT", "USED"];
const WIDE: [&str; 4] = ["SIGNED-BY", "SERIAL", "SHA256", "SPKI-SHA256"];

/// A row each.
pub fn table(certificates: &[Sourced], wide: bool, now: Timestamp) -> String {
    let header: Vec<_> = HEADER.iter().chain(if wide { WIDE.iter() } else { [].iter() }).copied().collect();
    let rows = certificates.iter().map(|sourced| {
        let certificate = &sourced.certificate;
        let mut row = vec![
            cell(&sourced.source),
            sourced.index.to_string(),
            cell(&certificate.subject),
            if certificate.self_issued() { "self".into() } else { cell(&certificate.issuer) },
            if certificate.ca { "CA".into() } else { usage(certificate) },
            cell(&certificate.key_algorithm),
            day(certificate.not_after),
            left(certificate, sourced.expires, now),
            format!("{:.0}%", certificate.lifetime_used(now) * 100.0),
        ];
        if wide {
            row.extend([
                sourced.signed_by.as_deref().map_or_else(|| NONE.into(), cell),
                cell(&certificate.serial),
                certificate.sha256.clone(),
                certificate.spki_sha256.clone(),
            ]);
        }
        row
    });
    columns(Some(&header), rows)
}

fn usage(certificate: &Certificate) -> String {
    if certificate.ext_key_usage.is_empty() { NONE.into() } else { cell(&certificate.ext_key_usage.join(",")) }
}

/// How long it is still valid, in words.
pub fn left(certificate: &Certificate, soon: bool, now: Timestamp) -> String {
    let Certificate { not_before, not_after, .. } = certificate;
    if *not_after < now {
        paint::bad(&format!("expired {} ago", age(*not_after, now)))
    } else if *not_before > now {
        paint::bad(&format!("valid in {}", age(*not_before, now)))
    } else if soon {
        paint::warning(&age(*not_after, now))
    } else {
        age(*not_after, now)
    }
}

/// One certificate as an object.
pub fn object(source: &str, index: usize, certificate: &Certificate, now: Timestamp) -> Value {
    let mut object = json!({"source": source, "index": index});
    if let (Some(object), Ok(Value::Object(fields))) = (object.as_object_mut(), serde_json::to_value(certificate)) {
        object.extend(fields);
        object.insert("lifetimeUsed".into(), json!((certificate.lifetime_used(now) * 10_000.0).round() / 10_000.0));
    }
    object
}

/// All of them as one object.
pub fn json(certificates: &[Sourced], problems: &[Unread], now: Timestamp) -> Value {
    let objects: Vec<_> = certificates
        .iter()
        .map(|sourced| {
            let mut object = object(&sourced.source, sourced.index, &sourced.certificate, now);
            object["signedBy"] = json!(sourced.signed_by);
            object["remarks"] = json!(sourced.remarks);
            object
        })
        .collect();
    json!({"certificates": objects, "problems": problems})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki;
    use crate::plane::Span;
    use crate::render::plain;
    use jiff::SignedDuration;

    #[test]
    fn certificates_are_reported_in_a_table_and_as_json() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let later = |days: i64| now + SignedDuration::from_hours(24 * days);
        let pair = pki::ca("CA", pki::KeyAlgorithm::EcdsaP256, Span::from_seconds(100 * 86_400), now).unwrap();
        let certificate = Certificate::all_in(&pair.certificate).remove(0);
        for (at, soon, words) in [
            (later(10), false, "90d"),
            (later(95), true, "5d"),
            (later(101), false, "expired 24h ago"),
            (later(-2), false, "valid in"),
        ] {
            assert!(
                plain(&left(&certificate, soon, at)).starts_with(words),
                "{words}: {}",
                left(&certificate, soon, at)
            );
        }
        let sourced = Sourced {
            source: "ca\u{1b}[2J".into(),
            index: 0,
            certificate,
            expires: false,
            signed_by: None,
            remarks: vec![],
        };
        let text = plain(&table(std::slice::from_ref(&sourced), true, later(10)));
        assert!(text.starts_with("SOURCE") && text.contains("SPKI-SHA256") && text.contains(" self "), "{text}");
        assert!(text.contains(r"ca\u{1b}[2J") && text.contains("2027-03-02") && text.contains(" 10% "), "{text}");
        let object = json(&[sourced], &[], later(10));
        assert_eq!(
            (&object["certificates"][0]["source"], &object["certificates"][0]["lifetimeUsed"]),
            (&json!("ca\u{1b}[2J"), &json!(0.1))
        );
    }
}
