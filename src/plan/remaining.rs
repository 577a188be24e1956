//! What planes that stay in a control plane use, of that which others leave behind when they go.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Error};
use crate::estate::CaPlace;
use crate::plane::{CaSecret, Family, Kind, NamespacedName, Plane};

/// A plane that stays.
pub struct Staying {
    family: &'static Family,
    plane_id: String,
    secret: Option<CaSecret>,
}

impl Staying {
    pub fn of(plane: &Plane) -> Self {
        let plane_id = plane.plane_id().to_owned();
        Self { family: plane.kind.family, plane_id, secret: CaPlace::secret(plane) }
    }

    /// Whether the agents of a planeID are its own.
    pub fn uses_agents(&self, family: &Family, plane_id: &str) -> bool {
        self.family.plane_type == family.plane_type && self.plane_id == plane_id
    }

    /// The same, where the agents may be those of the family's name in another release, as in a migration.
    pub fn may_use_agents(&self, family: &Family, plane_id: &str) -> bool {
        self.family.is_kin(family) && self.plane_id == plane_id
    }

    /// Whether its CA is in a Secret.
    pub fn uses_secret(&self, name: &NamespacedName) -> bool {
        self.secret.as_ref().is_some_and(|ca| ca.secret == *name)
    }
}

/// Returns the planes of these kinds' families that stay, each made into what is needed of it. `make` returns none for one
/// that goes.
pub async fn staying<R>(
    cluster: &Cluster,
    kinds: impl IntoIterator<Item = &'static Kind>,
    make: impl Fn(Plane) -> Option<R>,
) -> Result<Vec<R>, Error> {
    let families: BTreeMap<_, _> = kinds.into_iter().map(|kind| (kind.family.plane_type, kind)).collect();
    let mut staying = Vec::new();
    for kind in families.into_values() {
        staying.extend(cluster.of_kind(kind).whole_family_as(&make).await?.into_iter().flatten());
    }
    Ok(staying)
}
