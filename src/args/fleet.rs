//! The clusters of planes by the configuration file, where no flag names one.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::clusters::{PlaneCluster, PlaneClusterArgs};
use super::session::Session;
use crate::cluster::Cluster;
use crate::config::{self, ControlPlane, Place};
use crate::estate::Few;
use crate::gateway::GatewayUrl;
use crate::plane::PlaneKey;
use crate::text::{count, shown};

/// Planes of one cluster.
pub struct Group {
    /// Their cluster, or why it can't be used; none where it is unknown.
    pub cluster: Option<anyhow::Result<PlaneCluster>>,
    pub planes: Vec<PlaneKey>,
    /// Where the configuration says that the gateway is.
    pub gateway_url: Option<GatewayUrl>,
}

impl Group {
    /// Returns their cluster where it can be used.
    pub fn usable(&self) -> Option<&PlaneCluster> {
        self.cluster.as_ref()?.as_ref().ok()
    }

    /// Returns why their cluster can't be used.
    pub fn error(&self) -> Option<&anyhow::Error> {
        self.cluster.as_ref()?.as_ref().err()
    }
}

/// The planes are in several clusters, and a command looks at one.
#[derive(Debug, thiserror::Error)]
#[error("the agents are in several clusters, and this command reads one: {}", .0.join("; "))]
pub struct SeveralClusters(Vec<String>);

impl SeveralClusters {
    /// Names each cluster with its planes.
    pub fn of(groups: &[Group]) -> Self {
        let title = |group: &Group| {
            let names: Vec<_> = group.planes.iter().map(PlaneKey::with_word).collect();
            let names = Few::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
            match &group.cluster {
                Some(Ok(cluster)) => format!("{names} in {}", cluster.cluster.target().title()),
                Some(Err(_)) => format!("{names} in a cluster that could not be used"),
                None => format!("{names} in an unknown cluster"),
            }
        };
        Self(groups.iter().map(title).collect())
    }

    pub fn hint(&self) -> Option<String> {
        Some("name planes of one cluster, or their cluster with --plane-context".into())
    }
}

impl PlaneClusterArgs {
    /// What the configuration says of a control plane; nothing where a flag names the plane's cluster.
    ///
    /// # Errors
    /// [`config::Error`]: also where the context means another cluster than it did.
    async fn configured(&self, session: &Session, control: &Cluster) -> anyhow::Result<Option<ControlPlane>> {
        if self.is_named() {
            return Ok(None);
        }
        let config = session.config()?;
        if config.control_planes.is_empty() {
            return Ok(None);
        }
        let identity = control.identity().await;
        let known = config.control_plane(control.target().context.as_deref(), identity.as_deref())?;
        Ok(known.cloned())
    }

    /// Connects to the clusters of planes by the configuration; all are in the one that a flag named, where it was connected
    /// to already.
    pub async fn groups(
        &self,
        session: &Session,
        control: &Cluster,
        named: Option<PlaneCluster>,
        planes: Vec<PlaneKey>,
    ) -> anyhow::Result<Vec<Group>> {
        let known = self.configured(session, control).await?;
        self.groups_of(session, known, named, planes).await
    }

    async fn groups_of(
        &self,
        session: &Session,
        known: Option<ControlPlane>,
        named: Option<PlaneCluster>,
        planes: Vec<PlaneKey>,
    ) -> anyhow::Result<Vec<Group>> {
        let Some(known) = known else {
            return Ok(vec![Group { cluster: named.map(Ok), planes, gateway_url: None }]);
        };
        // Planes of one cluster are looked at together, wherever the gateway is said to be.
        let mut by_place = BTreeMap::<Place, (Option<GatewayUrl>, Vec<PlaneKey>)>::new();
        for plane in planes {
            let mut place = known.place(&plane).cloned().unwrap_or_default();
            let gateway_url = place.gateway_url.take();
            let (url, planes) = by_place.entry(place).or_default();
            *url = url.take().or(gateway_url);
            planes.push(plane);
        }
        let group = async |(place, (gateway_url, planes)): (Place, (Option<GatewayUrl>, Vec<PlaneKey>))| {
            let cluster = if place.is_named() { Some(self.connect_to(&place, session).await) } else { None };
            Group { cluster, planes, gateway_url }
        };
        let groups = join_all(by_place.into_iter().map(group)).await;
        let clusters = groups.iter().filter_map(|group| Some((group.usable()?, &group.planes)));
        let (clusters, planes): (Vec<_>, Vec<_>) = clusters.unzip();
        if !clusters.is_empty() {
            note_fleet(session, &clusters, planes.into_iter().map(Vec::len).sum());
        }
        Ok(groups)
    }

    /// Returns the cluster of planes that are all in one: the one that a flag named, else that of the configuration.
    ///
    /// # Errors
    /// [`SeveralClusters`]
    pub async fn of_planes(
        &self,
        session: &Session,
        control: &Cluster,
        named: Option<PlaneCluster>,
        planes: &[PlaneKey],
    ) -> anyhow::Result<Option<PlaneCluster>> {
        only(self.groups(session, control, named, planes.to_vec()).await?)
    }

    /// Returns the cluster of those planes of the configuration that are meant, before it is known which planes exist.
    ///
    /// # Errors
    /// [`SeveralClusters`]
    pub async fn of_configured(
        &self,
        session: &Session,
        control: &Cluster,
        named: Option<PlaneCluster>,
        is_meant: impl Fn(&PlaneKey) -> bool,
    ) -> anyhow::Result<Option<PlaneCluster>> {
        only(self.configured_groups(session, control, named, is_meant).await?)
    }

    /// Connects to the clusters of those planes of the configuration that are meant.
    pub async fn configured_groups(
        &self,
        session: &Session,
        control: &Cluster,
        named: Option<PlaneCluster>,
        is_meant: impl Fn(&PlaneKey) -> bool,
    ) -> anyhow::Result<Vec<Group>> {
        let known = self.configured(session, control).await?;
        let planes = known.iter().flat_map(|known| &known.planes).map(|(key, _)| key);
        let planes = planes.filter(|key| is_meant(key)).cloned().collect();
        self.groups_of(session, known, named, planes).await
    }
}

/// The cluster of the only group.
fn only(mut groups: Vec<Group>) -> anyhow::Result<Option<PlaneCluster>> {
    if groups.len() > 1 {
        return Err(SeveralClusters::of(&groups).into());
    }
    groups.pop().and_then(|group| group.cluster).transpose()
}

/// Says which clusters the configuration names.
fn note_fleet(session: &Session, clusters: &[&PlaneCluster], planes: usize) {
    let Ok(path) = config::path() else { return };
    let titles: Vec<_> = clusters.iter().map(|cluster| cluster.cluster.target().title()).collect();
    let agents = if planes == 1 { "its agent".to_owned() } else { format!("the agents of {}", count(planes, "plane")) };
    session.term.note(&format!("{agents} in {}, according to {}", titles.join(" and "), shown(&path)));
}
