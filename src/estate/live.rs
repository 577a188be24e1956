//! A cluster that is asked as things are read.

use jiff::Timestamp;
use serde_json::Value;

use super::objects::{Collection, OBSERVABILITY_PLANE, ObjectRef};
use super::source::{Coverage, Source};
use super::unavailable::Unavailable;
use crate::cluster::{Agent, AgentPod, Cluster, Detail, Error, ListOf};
use crate::plane::{Kind, Plane, Served};

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
        let detail = if what.resource == OBSERVABILITY_PLANE { Detail::Metadata } else { Detail::Whole };
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
        };
        let made = self.collection(&list, |object: Value| make(&object)).await;
        Ok(unavailable(made)?.into_iter().flatten().collect())
    }

    async fn planes<R>(&self, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Unavailable> {
        unavailable(self.planes_as(None, make).await)
    }

    async fn log(&self, agent: &Agent, pod: &AgentPod) -> Result<String, Unavailable> {
        unavailable(Self::log(self, agent, pod).await)
    }

    async fn served(&self) -> Result<Served, Unavailable> {
        unavailable(Self::served(self).await)
    }

    fn kind(&self) -> &'static Kind {
        Self::kind(self)
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
