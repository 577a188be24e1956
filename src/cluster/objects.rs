//! What is around planes: Secrets and ConfigMaps with CAs, observability planes, events.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::connection::Cluster;
use super::error::Error;
use crate::plane::{NamespacedName, Release, Served};
use crate::text::{shell_quoted, visible};

impl Cluster {
    /// What the CRD of planes says.
    ///
    /// # Errors
    /// [`Error::NoSuchKind`] where there is none, or none that serves the version that is known here.
    pub async fn served(&self) -> Result<Served, Error> {
        let crd = self.object_if_any(&self.kind.crd_path()).await?;
        match crd.and_then(|crd| Served::of(&crd, self.kind.version)) {
            Some(served) => Ok(served),
            None => Err(self.explain(Error::no_such_kind(&self.target, self.kind)).await),
        }
    }

    /// Returns the release that the served kind is of: by its name or by its CRD, else by the kinds that are served beside it.
    pub async fn release(&self) -> Result<Release, Error> {
        if let [only] = self.kind.family.releases {
            return Ok(*only);
        }
        match self.served().await {
            Err(Error::Forbidden { .. }) => {
                let kinds = self.served_kinds().await?;
                let has = |release: Release| kinds.iter().any(|kind| kind.family.releases == [release]);
                Ok(if has(Release::V0) && !has(Release::V1) { Release::V0 } else { Release::V1 })
            }
            served => Ok(served?.release),
        }
    }

    /// One key of a Secret, or several of them that are there, in this order.
    ///
    /// # Errors
    /// [`Error::NoSource`] without the Secret, [`Error::NoKey`] without any of the keys.
    pub async fn secret_keys(&self, name: &NamespacedName, keys: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        let secret: Option<Secret> = self.read(&name.namespace, &name.name).await?;
        let data = secret.map(|secret| secret.data.unwrap_or_default());
        let data = data.map(|data| data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect());
        self.keys("Secret", name, keys, data)
    }

    /// The same of a ConfigMap, whose text or binary data is meant.
    pub async fn config_map_keys(&self, name: &NamespacedName, keys: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        let map: Option<ConfigMap> = self.read(&name.namespace, &name.name).await?;
        let data = map.map(|map| {
            let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
            let binaries = map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0));
            texts.chain(binaries).collect()
        });
        self.keys("ConfigMap", name, keys, data)
    }

    fn keys(
        &self,
        kind: &str,
        name: &NamespacedName,
        keys: &[&str],
        data: Option<Vec<(String, Vec<u8>)>>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let data = data.ok_or_else(|| self.missing(kind, name))?;
        let of = |wanted: &&str| data.iter().find(|(key, _)| key == wanted).map(|(_, bytes)| bytes.clone());
        let found: Vec<_> = keys.iter().filter_map(of).collect();
        if found.is_empty() {
            let what = format!("{kind} {}", visible(&name.to_string()));
            let has = data.into_iter().map(|(key, _)| key).collect();
            return Err(Error::NoKey { what, key: keys.join(" or "), keys: has });
        }
        Ok(found)
    }

    pub(super) fn missing(&self, kind: &str, name: &NamespacedName) -> Error {
        let command = format!("kubectl -n {} get {}", shell_quoted(&name.namespace), kind.to_lowercase());
        Error::NoSource {
            what: format!("{kind} {}", visible(&name.to_string())),
            command: self.target.command(&command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use serde_json::json;

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "n".into(), name: name.into() }
    }

    #[tokio::test]
    async fn keys_are_read_from_secrets_and_config_maps() {
        let metadata = json!({"namespace": "n", "name": "x"});
        let cluster = Fake::of([
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"a": "MQ==", "b": "Mg=="}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}, "binaryData": {"b": "Mg=="}}),
        ])
        .cluster();
        let expected = [b"2".to_vec(), b"1".to_vec()];
        assert_eq!(cluster.secret_keys(&named("x"), &["b", "c", "a"]).await.unwrap(), expected);
        assert_eq!(cluster.config_map_keys(&named("x"), &["b", "c", "a"]).await.unwrap(), expected);
        let error = cluster.secret_keys(&named("x"), &["c"]).await.unwrap_err();
        assert!(error.hint().unwrap().contains("a, b"), "{error:?}");
        assert!(matches!(cluster.config_map_keys(&named("y"), &["a"]).await, Err(Error::NoSource { .. })));
    }
}
