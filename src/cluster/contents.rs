//! What a namespace holds, of every kind that the server has.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::connection::Cluster;
use super::error::Error;
use super::planes::{Detail, ListOf};

/// How many kinds are listed at once.
const AT_ONCE: usize = 8;
/// Where Helm keeps the name of the release that an object is of.
pub const HELM_RELEASE: &str = "meta.helm.sh/release-name";

/// An object in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub kind: String,
    pub name: String,
    /// The Helm release that it is of, or whose history it is.
    pub release: Option<String>,
}

impl Cluster {
    /// Returns the objects of a namespace, without those that every namespace has and those that go with their owner.
    ///
    /// # Errors
    /// Also where one of the kinds can't be listed: the others may not be all.
    pub async fn contents(&self, namespace: &str) -> Result<Vec<Content>, Error> {
        let groups = self.object("/apis").await?;
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        let versions = groups.iter().flat_map(|group| group["versions"].as_array().into_iter().flatten());
        let versions = versions.filter_map(|version| Some(format!("/apis/{}", version["groupVersion"].as_str()?)));
        // Usage is measured, not stored.
        let versions = versions.filter(|path| !path.starts_with("/apis/metrics.k8s.io/"));
        let mut kinds = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for path in std::iter::once("/api/v1".to_owned()).chain(versions) {
            let group = path.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
            let found = self.object(&path).await?;
            for resource in found["resources"].as_array().into_iter().flatten() {
                let (name, kind) = (resource["name"].as_str(), resource["kind"].as_str());
                let verbs = resource["verbs"].as_array().into_iter().flatten();
                if let (Some(name), Some(kind)) = (name, kind)
                    && resource["namespaced"] == true
                    && verbs.into_iter().any(|verb| verb == "list")
                    && !matches!(kind, "Event" | "Endpoints")
                    && seen.insert((group.clone(), name.to_owned()))
                {
                    kinds.insert((format!("{path}/namespaces/{namespace}/{name}"), kind.to_owned()));
                }
            }
        }
        let list = async |(path, kind): (String, String)| {
            let detail = Detail::Metadata;
            let list = ListOf { path: &path, api_version: "", kind: &kind, labels: "", fields: "", detail };
            self.collection(&list, |object: Value| content(&kind, &object["metadata"])).await
        };
        let lists: Vec<_> = stream::iter(kinds).map(list).buffered(AT_ONCE).try_collect().await?;
        Ok(lists.concat().into_iter().flatten().collect())
    }
}

fn content(kind: &str, metadata: &Value) -> Option<Content> {
    let name = metadata["name"].as_str()?;
    let is_everywhere = matches!((kind, name), ("ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt"));
    let is_owned = metadata["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty());
    if is_everywhere || is_owned {
        return None;
    }
    let labels = &metadata["labels"];
    let history = if labels["owner"] == "helm" { labels["name"].as_str() } else { None };
    let release = metadata["annotations"][HELM_RELEASE].as_str().or(history).map(str::to_owned);
    Some(Content { kind: kind.to_owned(), name: name.to_owned(), release })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use serde_json::json;

    fn object(version: &str, kind: &str, mut metadata: Value) -> Value {
        metadata["namespace"] = "n".into();
        json!({"apiVersion": version, "kind": kind, "metadata": metadata})
    }

    #[tokio::test]
    async fn what_a_namespace_holds_is_listed_by_every_kind() {
        let fake = Fake::of([
            object("v1", "ConfigMap", json!({"name": "kube-root-ca.crt"})),
            object("v1", "ServiceAccount", json!({"name": "default"})),
            object("v1", "Pod", json!({"name": "p", "ownerReferences": [{"name": "d"}]})),
            object("v1", "Secret", json!({"name": "h.v1", "labels": {"owner": "helm", "name": "r"}})),
            object("apps/v1", "Deployment", json!({"name": "d", "annotations": {HELM_RELEASE: "r"}})),
            object("example.com/v1", "Widget", json!({"name": "w"})),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "other", "name": "s"}}),
        ]);
        let contents = fake.cluster().contents("n").await.unwrap();
        let reported: Vec<_> =
            contents.iter().map(|it| (it.kind.as_str(), it.name.as_str(), it.release.as_deref())).collect();
        let expected = [("Secret", "h.v1", Some("r")), ("Deployment", "d", Some("r")), ("Widget", "w", None)];
        assert_eq!(reported, expected);
        fake.forbid("GET /apis/example.com/v1/namespaces/n/widgets");
        assert!(matches!(fake.cluster().contents("n").await, Err(Error::Forbidden { .. })));
    }
}
