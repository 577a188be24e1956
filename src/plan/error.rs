//! Why a plan does not go on, with a hint at what to do about it.

use crate::text::{shell_quoted, visible};

/// Why a change was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the time ran out: {waiting}")]
    TimedOut { waiting: String },
    #[error("the agent has not reconnected in time: {waiting}")]
    NotReconnected { waiting: String, command: String },
    #[error("the agent {} can't be restarted: its Deployment is paused", visible(.agent))]
    Paused { agent: String, command: String },
    #[error("the CA of {} can't be written: {}", visible(.plane), visible(.why))]
    Unwritable { plane: String, why: String },
    #[error("{} of {} belongs to {}", .what, visible(.plane), visible(.manager))]
    OtherManager { plane: String, what: String, manager: String },
    #[error("there is no way back: the agent would be refused with what it had before: {}", visible(.why))]
    NoWayBack { why: String },
    #[error("a rotation of its CA is under way, by Secret {}", visible(.staging))]
    UnderWay { staging: String },
    #[error("somebody else puts back what is in Secret {}: {}", visible(.secret), visible(.manager))]
    OtherOwner { secret: String, manager: String },
    #[error("the plane {} would not authorize an agent with the new certificate: {}", visible(.plane), visible(.why))]
    NotTrusted { plane: String, why: String },
    #[error("the old CA is still needed: {}", visible(.why))]
    StillNeeded { why: String },
    #[error("the agent's Secret {} was changed since the rotation began", visible(.secret))]
    Meddled { secret: String },
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
    #[error("{} is there already, and differs from what it would become", visible(.what))]
    Differs { what: String },
    #[error("these rights are missing, and nothing was changed: {}", .rights.join(", "))]
    NoRight { rights: Vec<String>, command: String },
    #[error("the control plane has no namespace {}", visible(.namespace))]
    NoNamespace { namespace: String, command: String },
    #[error("the gateway can't be used: {}", visible(.why))]
    Gateway { why: String, hint: String },
    #[error("the namespace {} has the agent of plane {} already (planeID {}), and a namespace has one", visible(.namespace), visible(.plane), visible(.plane_id))]
    OtherAgent { namespace: String, plane: String, plane_id: String },
    #[error("cert-manager does not work in the plane's cluster: {}", visible(.why))]
    NoCertManager { why: String, command: String },
    #[error("Helm release {} in the namespace {} has already installed {}, which the agent's chart installs too: Helm would refuse a second one in this cluster", visible(.release), visible(.namespace), .what)]
    InstalledOnce { release: String, namespace: String, what: &'static str, command: String },
    #[error("the agent of planeID {} is in the namespace {} of this cluster", visible(.plane_id), visible(.namespace))]
    AgentElsewhere { plane_id: String, namespace: String },
    #[error("a rotation to {} is under way", .under_way)]
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
            Self::StillNeeded { .. } => "run it again once that is over, or --rollback".into(),
            Self::Meddled { .. } => {
                "--rollback brings the Secret back to what it was; keep a copy of what it holds now".into()
            }
            Self::CertManager { command, .. } => command.clone(),
            Self::Differs { .. } => "look at it, and add --force to replace it".into(),
            Self::Gateway { hint, .. } => hint.clone(),
            Self::NoNamespace { command, .. } => command.clone(),
            Self::NoCa { .. } => "give the CA with --ca-dir, or move to a new one with `choreoctl certs rotate`".into(),
            Self::OtherCa { .. } => "give the CA that did, or move to a new one with `choreoctl certs rotate`".into(),
            Self::NoRight { command, .. } => format!("an administrator grants them to USER with\n{command}"),
            Self::OtherAgent { .. } => "name another one with --plane-namespace".into(),
            Self::NoCertManager { command, .. } => format!("start it, or choose --agent-certificate own: {command}"),
            Self::InstalledOnce { command, .. } => {
                format!("let the plane share the agent that is there, by its planeID: {command}")
            }
            Self::AgentElsewhere { namespace, .. } => format!("--plane-namespace {}", shell_quoted(namespace)),
            Self::NoWayBack { .. } => "go forward instead: run it without --rollback".into(),
            Self::UnderWay { .. } => "finish it with `choreoctl certs rotate`, which makes a new certificate".into(),
            Self::OtherOwner { .. } => "renew it where that takes it from, or move to a Secret of your own with `choreoctl certs rotate --to own`".into(),
            Self::OtherWay { under_way } => format!("finish it with --to {under_way}, or --rollback"),
            Self::Unwritable { .. } | Self::NotTrusted { .. } | Self::NoSecret(_) | Self::Pair { .. } => return None,
        })
    }
}
