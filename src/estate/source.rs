//! One way to read a cluster, whatever reports it.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::objects::{Collection, ObjectRef};
use super::unavailable::Unavailable;
use crate::cluster::{Cluster, Detail, Error, ListOf, Target, soften};
use crate::plane::{Kind, NamespacedName, Plane, Served, nearest_time};

/// How many requests run at once.
pub const AT_ONCE: usize = 16;

/// How much a source knows of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of it: what it doesn't have does not exist.
    Whole,
    /// What was looked for when it was dumped: of that, what it doesn't have did not exist.
    Dump,
    /// Some objects of it.
    Part,
}

/// A cluster that can be read.
///
/// Objects are JSON values, as the API server has them; none of them needs to be valid.
pub trait Source {
    /// One object.
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable>;

    /// Objects of a kind, each made into what is needed of it as soon as it is there.
    async fn list<R>(&self, what: &Collection, make: impl Fn(&Value) -> Option<R>) -> Result<Vec<R>, Unavailable>;

    /// All planes of a kind, in all namespaces, each made into what is needed of it as soon as it is there. A kind that the
    /// cluster lacks has none.
    async fn planes<R>(&self, kind: &'static Kind, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Unavailable>;

    /// The last lines of a container's log.
    async fn log(&self, pod: &NamespacedName, container: &str, lines: i64) -> Result<String, Unavailable>;

    /// What the CRD of a kind says.
    async fn served(&self, kind: &'static Kind) -> Result<Served, Unavailable>;

    fn coverage(&self) -> Coverage;

    /// The moment for which it says.
    fn now(&self) -> Timestamp;

    /// The cluster itself, where it is asked as things are read.
    fn live(&self) -> Option<&Cluster>;

    /// How commands reach the cluster; none where it can't be reached.
    fn target(&self) -> Option<&Target> {
        self.live().map(Cluster::target)
    }

    /// The API server's version.
    async fn version(&self) -> Result<String, Unavailable> {
        match self.live() {
            Some(cluster) => cluster.version().await.map_err(|error| Unavailable::from(&error)),
            None => Err(Unavailable::not_in_files("read from files")),
        }
    }

    /// Identifies the cluster; none where that is unknown.
    async fn identity(&self) -> Option<String> {
        self.live()?.identity().await
    }
}

fn unavailable<T>(answer: Result<T, Error>) -> Result<T, Unavailable> {
    answer.map_err(|error| Unavailable::from(&error))
}

impl Source for Cluster {
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable> {
        let missing = || Unavailable::missing(format!("{} does not exist", what.title()));
        if what.name.is_empty() {
            return Err(missing());
        }
        // An observability plane may hold credentials, and matters only by its existence.
        let is_observability = what.resource.plural.ends_with("observabilityplanes");
        let detail = if is_observability { Detail::Metadata } else { Detail::Whole };
        let answer = unavailable(self.fetch(&what.path(), detail).await);
        answer.map_err(|why| if why.is_missing() { missing() } else { why })
    }

    async fn list<R>(&self, what: &Collection, make: impl Fn(&Value) -> Option<R>) -> Result<Vec<R>, Unavailable> {
        let list = ListOf {
            path: &what.place(),
            api_version: &what.resource.api_version(),
            kind: what.resource.kind,
            labels: &what.labels,
            fields: &what.fields,
            detail: what.detail,
        };
        let made = self.collection(&list, |object: Value| make(&object)).await;
        Ok(unavailable(made)?.into_iter().flatten().collect())
    }

    async fn planes<R>(&self, kind: &'static Kind, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Unavailable> {
        unavailable(self.every(kind, make).await)
    }

    async fn log(&self, pod: &NamespacedName, container: &str, lines: i64) -> Result<String, Unavailable> {
        unavailable(Self::log(self, pod, container, lines).await)
    }

    async fn served(&self, kind: &'static Kind) -> Result<Served, Unavailable> {
        unavailable(Self::served(&self.of_kind(kind)).await)
    }

    fn coverage(&self) -> Coverage {
        Coverage::Whole
    }

    fn live(&self) -> Option<&Cluster> {
        Some(self)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}

/// An object as a type; none where it is no such object. Times past the year 9999 become the last one.
pub fn typed<T: DeserializeOwned>(object: &Value) -> Option<T> {
    T::deserialize(object).ok().or_else(|| {
        let mut softened = object.clone();
        soften(&mut softened);
        T::deserialize(softened).ok()
    })
}

/// A time, also one past the year 9999.
pub fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| nearest_time(text))
}

/// Values by their keys, each key's in their order.
pub fn grouped<K: Eq + Hash, V>(pairs: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups = HashMap::<_, Vec<_>>::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}

/// The text at a JSON pointer; empty where there is none.
pub fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
