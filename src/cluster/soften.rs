//! Reading objects of Kubernetes' own kinds that hold a time past the year 9999 in UTC, which the API server stores and
//! the types here can't hold.

use std::fmt::Debug;

use jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::{Request, request};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::Cluster;
use super::error::Error;
use crate::plane::nearest_time;

impl Cluster {
    /// Reads one object; none where there is none.
    pub(super) async fn read<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match self.ask(api.get_opt(name)).await {
            Err(Error::Answer { .. }) => {
                self.softened(Request::new(api.resource_url()).get(name, &<_>::default())).await.map(Some)
            }
            object => object,
        }
    }

    /// Lists objects.
    pub(super) async fn read_list<K>(&self, namespace: &str, params: &ListParams) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let list = match self.ask(api.list(params)).await {
            Err(Error::Answer { .. }) => self.softened(Request::new(api.resource_url()).list(params)).await,
            list => list,
        };
        list.map(|list| list.items)
    }

    /// Asks again, and makes times of the answer such that can be held.
    async fn softened<T: DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, request::Error>,
    ) -> Result<T, Error> {
        let mut answer: Value = self.request(request).await?;
        soften(&mut answer);
        serde_json::from_value(answer).map_err(|error| self.error(kube::Error::SerdeError(error)))
    }
}

/// Replaces each time that can't be held by the nearest one that can.
pub fn soften(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(soften),
        Value::Array(items) => items.iter_mut().for_each(soften),
        Value::String(text) if text.starts_with("9999-") && text.parse::<Timestamp>().is_err() => {
            if let Some(time) = nearest_time(text) {
                *text = time.to_string();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Event;
    use serde_json::json;

    #[test]
    fn an_object_with_an_endless_time_is_read() {
        let mut event = json!({
            "metadata": {"name": "a", "managedFields": [{"time": "9999-12-31T23:59:59Z"}]}, "involvedObject": {},
            "lastTimestamp": "9999-12-31T23:59:59Z", "message": "9999-12-31", "firstTimestamp": "2026-01-01T00:00:00Z",
        });
        assert!(serde_json::from_value::<Event>(event.clone()).is_err());
        soften(&mut event);
        let event: Event = serde_json::from_value(event).unwrap();
        assert_eq!(event.last_timestamp.unwrap().0.as_second(), Timestamp::MAX.as_second());
        assert_eq!(event.message.as_deref(), Some("9999-12-31"));
        assert_eq!(event.first_timestamp.unwrap().0.to_string(), "2026-01-01T00:00:00Z");
    }
}
