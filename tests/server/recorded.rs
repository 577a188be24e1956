//! The recorded estate in tests/estates, on which doctor's table of faults is judged without a server: it is what a dump of a
//! live one has today. RECORD in the environment writes it anew.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::estate::Estate;
use super::patient::*;

stories!(
    Go:
        the_recorded_estate_is_what_a_dump_has;
);

const ESTATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/estates/healthy.json");
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/estates/certificates.json");

/// Each kind with the fields that its objects have, but for those whose names are made up anew each time.
fn fields(object: &Value, path: &str, all: &mut BTreeSet<String>) {
    match object {
        Value::Object(fields_of_it) => {
            fields_of_it.iter().for_each(|(name, field)| fields(field, &format!("{path}.{name}"), all));
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, &format!("{path}[]"), all)),
        _ => drop(all.insert(path.to_owned())),
    }
}

fn fields_of_kinds(dump: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for object in dump["items"].as_array().unwrap() {
        fields(object, object["kind"].as_str().unwrap(), &mut all);
    }
    all
}

/// Certificates for the faults of the table, of just before the dump.
fn certificates(at: &Estate) -> Value {
    json!({
        "other CA": file(at, "other/ca.crt"),
        "CA of the same name": namesake(at),
        "CA for servers": openssl(at, "server", &["extendedKeyUsage=serverAuth"]),
        "CA that ended": ended_ca(),
        "leaf of before": openssl(at, "former", LEAF),
        "leaf that ended": leaf_of_ca(at, -100, -10),
        "leaf that begins later": leaf_of_ca(at, 10, 100),
        "leaf that ends soon": leaf_of_ca(at, -1, 10),
        "pinned leaf": leaf(-1, 89),
        "pinned leaf that is renewed soon": leaf(-57, 33),
        "pinned leaf that ended": leaf(-100, -10),
    })
}

fn write(path: &str, value: &Value) {
    std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
}

fn the_recorded_estate_is_what_a_dump_has() {
    let at = well();
    let certificates = certificates(&at);
    gateway_pods(&at, 1);
    lease(&at, 1);
    // The API server may make events of its own: with this one there are always some.
    at.build.kubectl(&["create", "-f", "-"], &scaled().to_string());
    at.run(&["dump", PLANE, "-o", "dump.yaml"]).expect(0);
    let dump: Value = serde_yaml::from_str(&file(&at, "dump.yaml")).unwrap();
    if std::env::var("RECORD").is_ok() {
        write(ESTATE, &dump);
        write(CERTIFICATES, &certificates);
    }
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(ESTATE).unwrap()).unwrap();
    let (now, before) = (fields_of_kinds(&dump), fields_of_kinds(&recorded));
    let odd: Vec<_> = now.symmetric_difference(&before).collect();
    assert!(odd.is_empty(), "a dump has other fields than {ESTATE}: {odd:#?}");
}
