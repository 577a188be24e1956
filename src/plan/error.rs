//! Why a plan does not go on, with a hint at what to do about it.

use crate::text::{shell_quoted, visible};

/// Why a change was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("timed out: {waiting}")]
    TimedOut { waiting: String },
    #[error("the agent did not reconnect before the timeout: {waiting}")]
    NotReconnected { waiting: String, command: String },
    #[error("the agent {} can't be restarted: its Deployment is paused", visible(.agent))]
    Paused { agent: String, command: String },
    #[error("the CA of {} can't be written: {}", visible(.plane), visible(.why))]
    Unwritable { plane: String, why: String },
    #[error("{} of {} belongs to {}", .what, visible(.plane), visible(.manager))]
    OtherManager { plane: String, what: String, manager: String },
    #[error("the rotation can't be rolled back: the gateway would refuse the agent's former certificate: {}", visible(.why))]
    NoWayBack { why: String },
    #[error("a rotation of the CA is in progress (Secret {})", visible(.staging))]
    UnderWay { staging: String },
    #[error("another manager restores the old content of Secret {}: {}", visible(.secret), visible(.manager))]
    OtherOwner { secret: String, manager: String },
    #[error("the plane {} would not authorize an agent with the new certificate: {}", visible(.plane), visible(.why))]
    NotTrusted { plane: String, why: String },
    #[error("the old CA is still needed: {}", visible(.why))]
    StillNeeded { why: String },
    #[error("the agent's Secret {} was changed since the rotation began", visible(.secret))]
    Meddled { secret: String },
    #[error("another client replaced the certificate in Secret {} at the same time", visible(.secret))]
    Overwritten { secret: String },
    #[error("the agent {} mounts no Secret as client-certs", visible(.0))]
    NoSecret(String),
    #[error("the certificate in {} can't be used: {}", visible(.secret), visible(.why))]
    Pair { secret: String, why: String },
    #[error("cert-manager writes {} (Certificate {}), and would undo a renewal", visible(.secret), visible(.certificate))]
    CertManager { secret: String, certificate: String, command: String },
    #[error("the CA that was provided did not issue the agent's certificate in {}", visible(.secret))]
    OtherCa { secret: String },
    #[error("no Secret in the namespace {} holds the CA of the agent's certificate with its key", visible(.namespace))]
    NoCa { namespace: String },
    #[error("{} already exists, and differs from what choreoctl would create", visible(.what))]
    Differs { what: String },
    #[error("nothing was changed, because these permissions are missing: {}", .rights.join(", "))]
    NoRight { rights: Vec<String>, command: String },
    #[error("the control plane has no namespace {}", visible(.namespace))]
    NoNamespace { namespace: String, command: String },
    #[error("the gateway can't be used: {}", visible(.why))]
    Gateway { why: String, hint: String },
    #[error("the namespace {} already has the agent of plane {} (planeID {}), and can have only one agent", visible(.namespace), visible(.plane), visible(.plane_id))]
    OtherAgent { namespace: String, plane: String, plane_id: String },
    #[error("cert-manager does not work in the plane's cluster: {}", visible(.why))]
    NoCertManager { why: String, command: String },
    #[error("Helm release {} in the namespace {} has already installed {}, which the agent's chart installs too: Helm would refuse a second one in this cluster", visible(.release), visible(.namespace), .what)]
    InstalledOnce { release: String, namespace: String, what: &'static str, command: String },
    #[error("the agent of planeID {} is in the namespace {} of this cluster", visible(.plane_id), visible(.namespace))]
    AgentElsewhere { plane_id: String, namespace: String },
    #[error("a rotation to {} is in progress", .under_way)]
    OtherWay { under_way: &'static str },
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TimedOut { .. } => "run it again: it continues where it stopped".into(),
            Self::NotReconnected { command, .. } | Self::Paused { command, .. } => command.clone(),
            Self::OtherManager { .. } => {
                "name a folder for the manifest with --out-dir, or take the field over with --force-conflicts".into()
            }
            Self::StillNeeded { .. } => "run the command again after that, or undo the rotation with --rollback".into(),
            Self::Meddled { .. } => {
                "save a copy of the Secret, then restore its former content with --rollback".into()
            }
            Self::Overwritten { .. } => "check who replaced it, then run the command again".into(),
            Self::CertManager { command, .. } => command.clone(),
            Self::Differs { .. } => "check the difference, and add --force to replace the object".into(),
            Self::Gateway { hint, .. } => hint.clone(),
            Self::NoNamespace { command, .. } => command.clone(),
            Self::NoCa { .. } => "provide the CA with --ca-dir, or replace the CA with `choreoctl certs rotate`".into(),
            Self::OtherCa { .. } => "provide the CA that issued it, or replace the CA with `choreoctl certs rotate`".into(),
            Self::NoRight { command, .. } => format!("an administrator grants them to USER with\n{command}"),
            Self::OtherAgent { .. } => "name another namespace with --plane-namespace".into(),
            Self::NoCertManager { command, .. } => format!("start it, or choose --agent-certificate own: {command}"),
            Self::InstalledOnce { command, .. } => {
                format!("use the existing agent for this plane, too, with the same planeID: {command}")
            }
            Self::AgentElsewhere { namespace, .. } => format!("--plane-namespace {}", shell_quoted(namespace)),
            Self::NoWayBack { .. } => "complete the rotation instead: run the command without --rollback".into(),
            Self::UnderWay { .. } => "finish the rotation with `choreoctl certs rotate`, which also issues a new certificate".into(),
            Self::OtherOwner { .. } => "renew the certificate at its source, or switch to a separate Secret with `choreoctl certs rotate --to own`".into(),
            Self::OtherWay { under_way } => format!("finish it with --to {under_way}, or --rollback"),
            Self::Unwritable { .. } | Self::NotTrusted { .. } | Self::NoSecret(_) | Self::Pair { .. } => return None,
        })
    }
}
