//! Why a command does not begin or has no answer: the errors that commands themselves raise, with their hints.

use crate::plane::DEFAULT_KIND;
use crate::text::visible;
use crate::validate::CrdError;

/// Why something is not sent.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("agents would be locked out, so nothing was sent")]
    Lockout,
    #[error("the manifest is invalid, so nothing was sent")]
    Invalid,
    #[error("the manifests are invalid, so nothing was sent")]
    InvalidFiles { command: String },
    #[error("only {}s are applied, and there is {kinds}; nothing was sent", DEFAULT_KIND.kind)]
    OtherKinds { kinds: String, command: String },
    #[error("the plane at {place} has no name, and what is applied must have one")]
    NoName { place: String },
    #[error("{} stands twice, in {first} and in {second}", visible(.name))]
    Twice { name: String, first: String, second: String },
}

impl Refusal {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InvalidFiles { command, .. } | Self::OtherKinds { command, .. } => Some(command.clone()),
            Self::Twice { .. } => Some("leave one of them out".into()),
            Self::Lockout => Some(
                "put the new CA beside the old one until the agents present the new certificate (`choreoctl certs rotate` does all of it), or add --allow-lockout".into(),
            ),
            Self::NoName { .. } => Some("write metadata.name".into()),
            Self::Invalid => None,
        }
    }
}

/// A Secret is not printed.
#[derive(Debug, thiserror::Error)]
#[error("the Secret holds a private key, which is not printed to a terminal")]
pub struct ToTerminal {
    pub command: String,
}

impl ToTerminal {
    pub fn hint(&self) -> Option<String> {
        Some(self.command.clone())
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum NoVerdict {
    #[error("there is no certificate in {0}")]
    Empty(String),
    #[error("standard input can be read once only")]
    StdinTwice,
    #[error("the certificate names no planeID: it has no common name")]
    Unnamed,
    #[error("no plane has the planeID {}", visible(.0))]
    UnknownPlaneId(String),
}

impl NoVerdict {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Empty(_) | Self::StdinTwice => None,
            Self::Unnamed => Some("name it with --plane-id, or a plane with --plane".into()),
            Self::UnknownPlaneId(_) => {
                Some("the agent would be refused; choreoctl get shows the planeIDs there are".into())
            }
        }
    }
}

/// Why manifests can't be validated as asked.
#[derive(Debug, thiserror::Error)]
pub enum NotValidated {
    #[error("no manifest is named: give a file, a folder, or - for standard input")]
    Nothing,
    #[error("standard input can't be mended in place")]
    FixStdin,
    #[error(transparent)]
    Crd(#[from] CrdError),
}

impl NotValidated {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("choreoctl validate FILE".into()),
            Self::FixStdin => Some("write it to a file first".into()),
            Self::Crd(error) => error.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_names_are_neutral_in_a_refusal() {
        let twice = Refusal::Twice { name: "a\u{1b}".into(), first: "f:1".into(), second: "f:2".into() };
        assert_eq!(twice.to_string(), "a\\u{1b} stands twice, in f:1 and in f:2");
        assert_eq!(NoVerdict::UnknownPlaneId("a\n".into()).to_string(), "no plane has the planeID a\\n");
    }

    #[test]
    fn what_needs_no_advice_has_no_hint() {
        assert_eq!(Refusal::Invalid.hint(), None);
        assert_eq!(NoVerdict::Empty("f".into()).hint(), None);
        assert_eq!(NoVerdict::StdinTwice.hint(), None);
    }
}
