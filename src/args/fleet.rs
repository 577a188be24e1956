//! The clusters of planes by the configuration file, where no flag names one.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::clusters::{PlaneCluster, PlaneClusterArgs};
use super::session::Session;
use crate::cluster::Cluster;
use crate::config::{self, ControlPlane, Place};
use crate::plane::PlaneKey;
use crate::text::{count, program, shown, visible};

/// Planes of one cluster.
pub struct Group {
    /// Their cluster, or why it can't be used; none where it is unknown.
    pub cluster: Option<anyhow::Result<PlaneCluster>>,
    pub planes: Vec<PlaneKey>,
    /// Where the configuration says that they are.
    pub place: Place,
}

impl PlaneClusterArgs {
    /// What the configuration says of a control plane; nothing where a flag names the plane's cluster.
    ///
    /// # Errors
    /// [`config::Error`]: also where the context means another cluster than it did.
    pub async fn configured(&self, session: &Session, control: &Cluster) -> anyhow::Result<Option<ControlPlane>> {
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
        let known = if named.is_none() { self.configured(session, control).await? } else { None };
        let Some(known) = known else {
            return Ok(vec![Group { cluster: named.map(Ok), planes, place: Place::default() }]);
        };
        let mut by_place = BTreeMap::<Place, Vec<PlaneKey>>::new();
        for plane in planes {
            let place = known.place(&plane).cloned().unwrap_or_default();
            by_place.entry(place).or_default().push(plane);
        }
        let group = async |(place, planes): (Place, Vec<PlaneKey>)| {
            let cluster = if place.is_named() { Some(self.at(&place, &planes, session).await) } else { None };
            Group { cluster, planes, place }
        };
        let groups = join_all(by_place.into_iter().map(group)).await;
        let clusters = groups.iter().filter_map(|group| Some((group.cluster.as_ref()?.as_ref().ok()?, &group.planes)));
        let (clusters, planes): (Vec<_>, Vec<_>) = clusters.unzip();
        if !clusters.is_empty() {
            tell(session, &clusters, planes.into_iter().map(Vec::len).sum());
        }
        Ok(groups)
    }

    /// Connects to the cluster of planes that are all of one: to the one that is named, else to that of the configuration.
    pub async fn of_planes(
        &self,
        session: &Session,
        control: &Cluster,
        planes: &[PlaneKey],
    ) -> anyhow::Result<Option<PlaneCluster>> {
        let named = self.connect(session).await?;
        let mut groups = self.groups(session, control, named, planes.to_vec()).await?;
        if groups.len() > 1 {
            return Ok(None);
        }
        groups.pop().and_then(|group| group.cluster).transpose()
    }

    /// Connects to a place, and fails where its context means another cluster than it did.
    async fn at(&self, place: &Place, planes: &[PlaneKey], session: &Session) -> anyhow::Result<PlaneCluster> {
        let cluster = self.connect_to(place, session).await?;
        if let (Some(known), Some(now)) = (&place.identity, cluster.cluster.identity().await)
            && *known != now
        {
            let name = planes.first().map(|plane| plane.with_word()).unwrap_or_default();
            let target = cluster.cluster.target();
            let what = target.context.as_deref().map(|context| format!("context {}", visible(context)));
            let what = what.unwrap_or_else(|| target.title());
            let command = program(&format!("choreoctl config set {name}{}", target.by_context("plane-"))).into_owned();
            return Err(config::Error::OtherCluster { what, command }.into());
        }
        Ok(cluster)
    }
}

/// Says which clusters the configuration names.
fn tell(session: &Session, clusters: &[&PlaneCluster], planes: usize) {
    let Ok(path) = config::path() else { return };
    let titles: Vec<_> = clusters.iter().map(|cluster| cluster.cluster.target().title()).collect();
    let agents = if planes == 1 { "its agent".to_owned() } else { format!("the agents of {}", count(planes, "plane")) };
    session.term.note(&format!("{agents} in {}, as {} says", titles.join(" and "), shown(&path)));
}
