//! What a diagnosis knows of the control plane as a whole.

use std::collections::BTreeSet;

use crate::cluster::{Right, Target};
use crate::estate::{Cause, Source, Unavailable};
use crate::plane::{Kind, Served};

/// What is true for all planes.
pub struct Ground {
    /// The kind of the planes.
    pub kind: &'static Kind,
    /// The API server's version.
    pub api_server: Result<String, Unavailable>,
    pub crd: Result<Served, Unavailable>,
    /// What may not be read, in the servers' words.
    pub forbidden: BTreeSet<String>,
    /// The rights that are needed in each of the clusters; none where nothing is missing.
    pub control_rights: BTreeSet<Right>,
    pub build_rights: BTreeSet<Right>,
    /// Where it was looked, for hints.
    pub control: Target,
    pub build: Option<Target>,
}

impl Ground {
    pub async fn of(control: &impl Source) -> Self {
        let (api_server, crd) = tokio::join!(control.version(), control.served());
        Self::new(api_server, crd, control)
    }

    /// Of a control plane that doesn't tell of planes.
    pub async fn without(control: &impl Source, why: &Unavailable) -> Self {
        match why.cause {
            Cause::Missing | Cause::Forbidden => Self::of(control).await,
            // It would only be waited for once more.
            _ => Self::new(Err(why.clone()), Err(why.clone()), control),
        }
    }

    fn new(api_server: Result<String, Unavailable>, crd: Result<Served, Unavailable>, control: &impl Source) -> Self {
        Self {
            kind: control.kind(),
            api_server,
            crd,
            forbidden: BTreeSet::new(),
            control_rights: BTreeSet::new(),
            build_rights: BTreeSet::new(),
            control: control.target().cloned().unwrap_or_default(),
            build: None,
        }
    }

    /// What to do about the one of these that isn't known.
    pub fn hint(&self) -> Option<String> {
        let why = self.api_server.as_ref().err().or(self.crd.as_ref().err());
        why.and_then(|why| why.hint.clone())
    }
}
