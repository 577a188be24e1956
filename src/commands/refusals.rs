//! Why a command does not begin or has no answer: the errors that commands themselves raise, with their hints.

use crate::plane::{Kind, Release};
use crate::text::visible;

/// Why something is not sent or printed, has no verdict, or can't be validated as asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("nothing was sent, because connected agents would lose access")]
    Lockout,
    #[error("the manifest is invalid, so nothing was sent")]
    Invalid,
    #[error("the manifests are invalid, so nothing was sent")]
    InvalidFiles { command: String },
    #[error("nothing was sent, because only planes can be applied, and the manifests contain {kinds}")]
    OtherKinds { kinds: String, command: String },
    #[error("the plane at {place} has no name; a plane that is applied needs a name")]
    NoName { place: String },
    #[error("{} is duplicated, in {first} and in {second}", visible(.name))]
    Twice { name: String, first: String, second: String },
    #[error("the Secret holds a private key, which is not printed to a terminal")]
    ToTerminal { command: String },
    #[error("there is no certificate in {0}")]
    NoCertificate(String),
    #[error("standard input can be read once only")]
    StdinTwice,
    #[error("the certificate names no planeID: it has no common name")]
    Unnamed,
    /// `other` is a plane of another plane type that has it, and the command that judges by that type.
    #[error("no {nouns} has the planeID {}{}", visible(.plane_id), .other.as_ref().map(|(plane, _)| format!("; {} has", visible(plane))).unwrap_or_default())]
    UnknownPlaneId { plane_id: String, nouns: String, other: Option<(String, String)> },
    #[error("the agents of several plane types present different certificates")]
    SeveralAgents { kinds: Vec<&'static Kind> },
    #[error("no manifest is named: give a file, a folder, or - for standard input")]
    NoManifest,
    #[error("standard input can't be fixed in place")]
    FixStdin,
    #[error("{release} has no {kind}: the kind is called {named} there")]
    NotInRelease { release: Release, kind: &'static str, named: &'static str, command: String },
    #[error("could not start the migration: no folder for its record is set")]
    NoFolder,
    #[error("{folder} holds the record of another control plane")]
    OtherControlPlane { folder: String },
    #[error("could not delete the old planes: {why}")]
    OldController { why: &'static str },
    #[error("there is no check or id {}", visible(.id))]
    UnknownCheck { id: String, question: Option<String> },
    #[error("there is no log: the agent {} has no pod", visible(.agent))]
    NoPods { agent: String, command: String },
}

impl Refusal {
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InvalidFiles { command }
            | Self::OtherKinds { command, .. }
            | Self::ToTerminal { command }
            | Self::NoPods { command, .. }
            | Self::NotInRelease { command, .. } => command,
            Self::UnknownCheck { question, .. } => question.as_deref().unwrap_or("choreoctl doctor --list-checks"),
            Self::Twice { .. } => "remove one of them",
            Self::Lockout => {
                "keep the old CA next to the new one until the agents present the new certificate (`choreoctl certs rotate` does this), or add --allow-lockout"
            }
            Self::NoName { .. } => "write metadata.name",
            Self::Unnamed => "name it with --plane-id, or a plane with --plane",
            Self::UnknownPlaneId { other: Some((_, command)), .. } => command,
            Self::SeveralAgents { kinds } => {
                let words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
                return Some(format!(
                    "name the kind, such as `choreoctl certs verify {}`",
                    words.join("` or `choreoctl certs verify ")
                ));
            }
            Self::UnknownPlaneId { other: None, .. } => {
                "the agent would be refused; choreoctl get shows the planeIDs there are"
            }
            Self::NoManifest => "choreoctl validate FILE",
            Self::FixStdin => "write it to a file first",
            Self::NoFolder => "name one with --out-dir, or manifests with -f",
            Self::OtherControlPlane { .. } => "name another folder with --out-dir, or the right cluster with --context",
            Self::OldController { .. } => "upgrade the control plane first",
            Self::Invalid | Self::NoCertificate(_) | Self::StdinTwice => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_names_are_neutral_in_a_refusal() {
        let twice = Refusal::Twice { name: "a\u{1b}".into(), first: "f:1".into(), second: "f:2".into() };
        assert_eq!(twice.to_string(), "a\\u{1b} is duplicated, in f:1 and in f:2");
        let unknown = |other| Refusal::UnknownPlaneId { plane_id: "a\n".into(), nouns: "build plane".into(), other };
        assert_eq!(unknown(None).to_string(), "no build plane has the planeID a\\n");
        let found = unknown(Some(("ClusterBuildPlane b".into(), "choreoctl x".into())));
        assert_eq!(found.to_string(), "no build plane has the planeID a\\n; ClusterBuildPlane b has");
        assert_eq!(found.hint().as_deref(), Some("choreoctl x"));
    }

    #[test]
    fn what_needs_no_advice_has_no_hint() {
        assert_eq!(Refusal::Invalid.hint(), None);
        assert_eq!(Refusal::NoCertificate("f".into()).hint(), None);
        assert_eq!(Refusal::StdinTwice.hint(), None);
    }
}
