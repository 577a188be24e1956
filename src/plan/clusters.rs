//! The two clusters that a plan changes, and the rights that it needs in them.

use super::error::Error;
use crate::cluster::{self, Cluster, Right};
use crate::plane::Side;

#[derive(Clone, Copy)]
pub struct Clusters<'c> {
    pub control: &'c Cluster,
    pub build: &'c Cluster,
}

impl<'c> Clusters<'c> {
    pub fn of(self, side: Side) -> &'c Cluster {
        match side {
            Side::Control => self.control,
            Side::Build => self.build,
        }
    }

    /// Fails where rights that a verb needs are missing, and names all of them.
    pub async fn demand(self, verb: &str, needed: &[(Side, Right)]) -> Result<(), Error> {
        let answers = needed.iter().map(|(side, right)| self.of(*side).may(right));
        let answers = futures_util::future::join_all(answers).await;
        let missing: Vec<_> = needed.iter().zip(answers).filter(|(_, may)| !may).map(|(needed, _)| needed).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // By cluster, as each has roles of its own; with all that is needed, so that the roles stay when more is missing
        // later.
        let kubectl = |side: Side| self.of(side).target().for_another("kubectl apply");
        let mut clusters = vec![kubectl(Side::Control), kubectl(Side::Build)];
        clusters.dedup();
        clusters.retain(|cluster| missing.iter().any(|(side, _)| kubectl(*side) == *cluster));
        let grant = |cluster: &String| {
            let needed = needed.iter().filter(|(side, _)| kubectl(*side) == *cluster);
            cluster::grant(&format!("choreoctl-{verb}"), cluster, needed.map(|(_, right)| right))
        };
        let command = clusters.iter().filter_map(grant).collect::<Vec<_>>().join("\n");
        let reported = |(side, Right { verb, resource, namespace, .. }): &(Side, Right)| {
            let place =
                namespace.as_ref().map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default();
            format!("{verb} {resource}{place} of {}", self.of(*side).target().title())
        };
        Err(Error::NoRight { rights: missing.into_iter().map(reported).collect(), command })
    }
}
