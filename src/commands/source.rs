//! What is in a [`Source`] and in files, for the verbs that read certificates and keys.

use std::path::Path;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::args::{
    Chosen, Doubt, Group, Lookup, NoPlaneCluster, PlaneCluster, PlaneClusterArgs, Session, SeveralClusters,
};
use crate::cluster::{Cluster, Namespaces};
use crate::estate::AgentFacts;
use crate::gateway;
use crate::manifest::{self, Input};
use crate::pki::{Bundle, CA_CERTIFICATE, CA_PRIVATE_KEY, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, NewFile};
use crate::plane::{Family, KINDS, Kind, Plane, PlaneKey, PlaneName, Source, Wanted};

/// Where sources lead to: the clusters that they need, and servers.
pub struct SourceReader<'s> {
    session: &'s Session,
    pub cluster: Option<Cluster>,
    /// The clusters of the agents.
    pub fleet: Vec<Group>,
    namespaces: Namespaces,
}

impl<'s> SourceReader<'s> {
    /// Connects to the control plane's cluster where it is needed.
    pub async fn to(cluster: bool, session: &'s Session) -> anyhow::Result<Self> {
        let cluster = if cluster { Some(session.connect().await?) } else { None };
        Ok(Self { session, cluster, fleet: Vec::new(), namespaces: Namespaces::Context })
    }

    /// Connects to the cluster of the agents that a flag names, else to those of the configuration with planes that are
    /// meant.
    pub async fn with_agents(
        mut self,
        build: &PlaneClusterArgs,
        is_meant: impl Fn(&PlaneKey) -> bool,
    ) -> anyhow::Result<Self> {
        let named = build.connect(self.session).await?;
        let has_config = !self.session.config()?.control_planes.is_empty();
        if named.is_none() && has_config && self.cluster.is_none() {
            self.cluster = Some(self.session.connect().await?);
        }
        self.fleet = match &self.cluster {
            Some(control) => build.configured_groups(self.session, control, named, is_meant).await?,
            None => vec![Group { cluster: named.map(Ok), planes: Vec::new(), gateway_url: None }],
        };
        self.fleet.retain(|group| group.cluster.is_some());
        // The only cluster is needed, and its error has a hint.
        if let [only] = self.fleet.as_mut_slice()
            && let Some(Err(error)) = only.cluster.take_if(|cluster| cluster.is_err())
        {
            return Err(error);
        }
        Ok(self)
    }

    /// Returns the cluster of a plane's agent; without a plane the only one.
    fn build(&self, plane: Option<&PlaneKey>) -> anyhow::Result<&PlaneCluster> {
        let group = match self.fleet.as_slice() {
            [] => return Err(NoPlaneCluster.into()),
            [only] => only,
            several => plane
                .and_then(|plane| several.iter().find(|group| group.planes.contains(plane)))
                .ok_or_else(|| SeveralClusters::of(several))?,
        };
        let why = || group.error().map_or_else(|| NoPlaneCluster.into(), |error| anyhow::anyhow!("{error:#}"));
        group.usable().ok_or_else(why)
    }

    /// Looks for planes of a namespaced kind in these namespaces.
    pub fn with_planes_in(self, namespaces: Namespaces) -> Self {
        Self { namespaces, ..self }
    }

    /// Where a plane is looked for.
    pub async fn plane(&self, name: &PlaneName) -> anyhow::Result<Plane> {
        let wanted = Wanted { names: vec![name.clone()], ..Wanted::default() };
        let lookup = Lookup::of(self.cluster()?.clone(), wanted, self.namespaces.clone()).await?;
        let (mut planes, mut missing) = lookup.planes_as(None, |plane: Plane| plane).await?;
        if planes.len() > 1 {
            return Err(Doubt::of(planes.iter().map(|plane| plane.kind)).into());
        }
        match planes.pop() {
            Some(plane) => Ok(plane),
            None => Err(missing.pop().unwrap_or_else(|| anyhow::anyhow!("there is no plane {name}"))),
        }
    }

    /// The planes of some kinds, and the errors of those that may not be listed; without kinds of those that are meant
    /// without a word.
    pub async fn planes(&self, kinds: Option<&[&'static Kind]>) -> anyhow::Result<Chosen<Plane>> {
        let is_all = kinds.is_some_and(|kinds| kinds.len() == KINDS.len());
        let wanted = Wanted { kinds: kinds.map(<[_]>::to_vec), is_all, names: Vec::new() };
        let lookup = Lookup::of(self.cluster()?.clone(), wanted, self.namespaces.clone()).await?;
        Ok(lookup.planes_as(None, Plane::without_history).await?)
    }

    /// The control plane's cluster.
    pub fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| anyhow::anyhow!("there is no cluster to ask"))
    }

    /// The API server's clock, the control plane's before the plane's cluster's; this machine's where neither is asked.
    pub fn now(&self) -> Timestamp {
        let build = || self.build(None).ok().map(|build| &build.cluster);
        self.cluster.as_ref().or_else(build).map_or_else(Timestamp::now, Cluster::now)
    }

    /// The bytes of a file, or of an object's key; of a Secret without a key those of `keys` that it has.
    pub async fn bytes(&self, source: &Source, keys: &[&str]) -> anyhow::Result<Vec<u8>> {
        match source {
            Source::File(path) => Ok(manifest::read_bytes(&Input::Path(path.clone()))?),
            Source::Stdin => Ok(manifest::read_bytes(&Input::Stdin)?),
            Source::Secret(name, key) => {
                let key = key.as_deref();
                let keys = key.as_ref().map_or(keys, std::slice::from_ref);
                Ok(self.cluster()?.secret_keys(name, keys).await?.concat())
            }
            Source::ConfigMap(name, key) => {
                Ok(self.cluster()?.config_map_keys(name, &[key.as_deref().unwrap_or(CA_CERTIFICATE)]).await?.concat())
            }
            Source::Plane(_) | Source::Planes(_) | Source::Agent | Source::Server { .. } => {
                anyhow::bail!("there are no such bytes in {source}")
            }
        }
    }

    /// The certificates that an agent with this source would present, or that a server does, in DER and their order. The
    /// agent is one of a family, and of a plane or a planeID where there is one.
    pub async fn presented(
        &self,
        source: &Source,
        family: &'static Family,
        plane: Option<&PlaneKey>,
        plane_id: Option<&str>,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        match source {
            Source::Server { host, port } => {
                return Ok(gateway::presented(host, *port, self.session.patience()).await?);
            }
            Source::Agent => {
                let build = self.build(plane)?;
                let agent = build.cluster.agent(build.namespace(family), family, plane_id).await?;
                let facts = AgentFacts::of(&build.cluster, agent).await;
                facts.behind(&[]).iter().for_each(|reported| self.session.term.warn(reported));
                return Ok(facts.pair.map_err(|problem| anyhow::Error::msg(problem.message))?.presented);
            }
            _ => {}
        }
        let bytes = self.bytes(source, &[LEAF_CERTIFICATE]).await?;
        Ok(Bundle::read(&bytes)?.ders().to_vec())
    }
}

/// The names of a CA's certificate and key, and of an agent's.
pub const CA: [&str; 2] = [CA_CERTIFICATE, CA_PRIVATE_KEY];
pub const LEAF: [&str; 2] = [LEAF_CERTIFICATE, LEAF_PRIVATE_KEY];

/// A certificate and its key as new files, the key first.
pub fn new_pair<'p>([name, key_name]: [&'p str; 2], certificate: &'p str, key: &'p str) -> [NewFile<'p>; 2] {
    [NewFile { name: key_name, content: key, secret: true }, NewFile { name, content: certificate, secret: false }]
}

/// A file's text, which is wiped when it goes.
pub fn read_key(path: &Path) -> Result<Zeroizing<String>, manifest::Error> {
    let bytes = Zeroizing::new(manifest::read_bytes(&Input::Path(path.to_owned()))?);
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// A file's text. What isn't text holds no PEM.
pub fn read(path: &Path) -> Result<String, manifest::Error> {
    let bytes = manifest::read_bytes(&Input::Path(path.to_owned()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::args::tests::session;
    use crate::cluster::Fake;
    use crate::commands::tests::write_pairs;
    use crate::plane::DEFAULT_KIND;

    fn reader<'s>(session: &'s Session, cluster: Option<Cluster>) -> SourceReader<'s> {
        SourceReader { session, cluster, fleet: Vec::new(), namespaces: Namespaces::Context }
    }

    #[tokio::test]
    async fn a_file_presents_its_certificates() {
        let folder = tempfile::tempdir().unwrap();
        write_pairs(folder.path(), "a");
        let session = session();
        let source = |name: &str| Source::File(folder.path().join(name));
        let presented =
            reader(&session, None).presented(&source(LEAF_CERTIFICATE), DEFAULT_KIND.family, None, None).await.unwrap();
        assert_eq!(presented.len(), 1);
        assert!(reader(&session, None).presented(&source("none"), DEFAULT_KIND.family, None, None).await.is_err());
    }

    #[tokio::test]
    async fn a_secret_has_the_keys_that_are_looked_for() {
        let data = json!({"tls.crt": "Zm9v", "ca.crt": "YmFy"});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "data": data});
        let session = session();
        let reader = reader(&session, Some(Fake::of([secret]).cluster()));
        let bytes = async |source: &str| reader.bytes(&source.parse().unwrap(), &["tls.crt", "ca.crt"]).await.unwrap();
        assert_eq!(bytes("secret/n/s").await, b"foobar");
        assert_eq!(bytes("secret/n/s:ca.crt").await, b"bar");
    }

    #[tokio::test]
    async fn what_no_cluster_was_named_for_cannot_be_asked() {
        let session = session();
        let reader = reader(&session, None);
        assert_eq!(reader.cluster().err().unwrap().to_string(), "there is no cluster to ask");
        assert!(
            reader.presented(&Source::Agent, DEFAULT_KIND.family, None, None).await.unwrap_err().is::<NoPlaneCluster>()
        );
        assert!(reader.bytes(&"planes".parse().unwrap(), &[]).await.is_err());
    }
}
