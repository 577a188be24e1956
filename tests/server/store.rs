//! What an API server keeps in etcd: taken down once, and brought back when a story has ended, so that the next one need
//! not start an API server of its own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What servers write by themselves, all the time.
const OWN: [&str; 3] = ["/registry/leases/kube-system/", "/registry/masterleases/", "/registry/peerserverleases/"];

/// What decides on the kinds that are served: an API server follows a change of it, but not at once.
const KINDS: [&str; 2] = ["/registry/apiextensions.k8s.io/", "/registry/apiregistration.k8s.io/"];

/// How many changes go into one transaction.
const AT_ONCE: usize = 100;

/// Keys and values, both in base64.
type Contents = BTreeMap<String, String>;

/// Whether all is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    Wholly,
    /// The API server may serve other kinds for a while.
    Partly,
}

pub struct Store {
    port: u16,
    before: Contents,
}

impl Store {
    /// The etcd on a port of this machine, as it is now.
    pub fn of(port: u16) -> Self {
        let mut store = Self { port, before: Contents::new() };
        store.before = store.contents();
        store
    }

    /// Asks etcd by its gateway for JSON.
    fn ask(&self, path: &str, question: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = question.to_string();
        // HTTP/1.0, so that the answer ends with the connection.
        write!(stream, "POST /v3/kv/{path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    fn contents(&self) -> Contents {
        let first = STANDARD.encode([0]);
        let all = self.ask("range", &json!({"key": first, "range_end": first}));
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pairs = all["kvs"].as_array().unwrap().iter().map(|pair| (word(&pair["key"]), word(&pair["value"])));
        pairs.filter(|(key, _)| !begins_with(key, &OWN)).collect()
    }

    /// Forgets all revisions before the present one.
    pub fn compact(&self) {
        let range = self.ask("range", &json!({"key": STANDARD.encode([0])}));
        self.ask("compaction", &json!({"revision": range["header"]["revision"], "physical": true}));
    }

    /// Deletes what is new, and writes again what is not as it was.
    pub fn restore(&self) -> Restored {
        let now = self.contents();
        let new = now.keys().filter(|key| !self.before.contains_key(*key));
        let other = self.before.iter().filter(|(key, value)| now.get(*key) != Some(value));
        let (new, other): (Vec<_>, Vec<_>) = (new.collect(), other.collect());
        let mut changed = new.iter().copied().chain(other.iter().map(|(key, _)| *key));
        if changed.any(|key| begins_with(key, &KINDS)) {
            return Restored::Partly;
        }
        let deletions = new.iter().map(|key| json!({"request_delete_range": {"key": key}}));
        let writes = other.iter().map(|(key, value)| json!({"request_put": {"key": key, "value": value}}));
        let changes: Vec<_> = deletions.chain(writes).collect();
        for changes in changes.chunks(AT_ONCE) {
            self.ask("txn", &json!({"success": changes}));
        }
        Restored::Wholly
    }
}

fn begins_with(key: &str, prefixes: &[&str]) -> bool {
    let key = STANDARD.decode(key).unwrap();
    prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
}
