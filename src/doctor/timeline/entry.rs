//! One line of a timeline.

use jiff::Timestamp;
use serde::Serialize;

use crate::estate::Missing;
use crate::plane::Side;

/// What happened. The order is that of cause and effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    Expired,
    /// A revision of a Helm release.
    Release,
    Created,
    Written,
    /// The deletion was requested.
    Deleted,
    /// The pods of a Deployment were to be restarted.
    Restarted,
    /// The controller acquired or renewed its lease.
    Lease,
    Ended,
    Started,
    /// A certificate is valid from then on.
    Valid,
    Event,
    Condition,
    Disconnected,
    Connected,
    Heartbeat,
    /// Something does not exist: it may have been deleted at any time.
    Missing,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Release => "release",
            Self::Created => "created",
            Self::Written => "written",
            Self::Deleted => "deleted",
            Self::Restarted => "restarted",
            Self::Lease => "lease",
            Self::Ended => "ended",
            Self::Started => "started",
            Self::Valid => "valid",
            Self::Event => "event",
            Self::Condition => "condition",
            Self::Disconnected => "disconnected",
            Self::Connected => "connected",
            Self::Heartbeat => "heartbeat",
            Self::Missing => "missing",
        }
    }
}

/// What something may be for a connection that was lost. The order is that of cause and effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Somebody wrote something, or a certificate expired: a change in its own right.
    Change,
    /// What processes did: by themselves, or because of a change.
    Process,
    /// A report of something else.
    Report,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// None where it is unknown.
    pub time: Option<Timestamp>,
    pub side: Side,
    /// The kind of the object.
    pub kind: String,
    /// As `Secret NAMESPACE/NAME`.
    pub object: String,
    pub what: Type,
    pub text: String,
    /// Who did it, where that is known.
    pub by: Option<String>,
    pub(super) role: Role,
    /// Whether it is the loss itself.
    pub is_loss: bool,
    pub is_last_before_loss: bool,
}

impl Entry {
    /// Most times are whole seconds: in one second a cause comes before its effects and the loss last, and Deployments are
    /// written because of what they mount.
    pub(super) fn order(&self) -> (Timestamp, bool, Role, Type, bool, String) {
        let time = self.time.unwrap_or(Timestamp::MAX);
        (time, self.is_loss, self.role, self.what, self.kind == "Deployment", self.object.clone())
    }

    pub(super) fn of_missing(missing: &Missing) -> Self {
        Self {
            time: None,
            side: missing.side,
            kind: String::new(),
            object: missing.title.clone(),
            what: Type::Missing,
            text: "does not exist: it was deleted, or never created".into(),
            by: None,
            role: Role::Report,
            is_loss: false,
            is_last_before_loss: false,
        }
    }
}
