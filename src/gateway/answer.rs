//! What the cluster gateway answers to an agent, out of a page over HTTP.

use jiff::Timestamp;

use super::plane_types::PlaneTypes;
use crate::text::visible;

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Authorized for one plane of the planeID at least.
    Authorized,
    /// No plane has the planeID, or none of those has a CA that the gateway can read.
    NoPlane,
    /// No plane of the planeID trusts the certificate.
    NotTrusted,
    /// None arrived: something between terminates TLS, or none was sent.
    NoCertificate,
    /// The gateway is of another release: it knows these plane types only.
    OtherRelease(PlaneTypes),
    /// The gateway can't read the API server.
    Blind(String),
    /// Something else, quoted.
    Other { status: u16, text: String },
}

/// What came over HTTP.
pub struct Page {
    pub status: u16,
    /// Whether the server speaks of WebSockets.
    pub websocket: bool,
    pub date: Option<Timestamp>,
    pub text: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Authorized => f.write_str("the gateway authorizes the agent"),
            Self::NoPlane => f.write_str("the gateway finds no plane with this planeID and a readable CA"),
            Self::NotTrusted => f.write_str("no plane with this planeID trusts the agent's certificate"),
            Self::NoCertificate => f.write_str("the gateway receives no client certificate"),
            Self::OtherRelease(types) => {
                write!(f, "the gateway does not support this plane type: it is a gateway of {types}")
            }
            Self::Blind(text) => write!(f, "the gateway can't read the API server: {}", visible(text)),
            Self::Other { status, text } => {
                write!(f, "the gateway, or a proxy in front of it, answers {status}: {}", visible(text))
            }
        }
    }
}

impl Answer {
    /// The gateway's answers by status and text.
    pub fn of(page: Page) -> Self {
        let Page { status, websocket, text, .. } = page;
        if let (400, Some(types)) = (status, PlaneTypes::of_refusal(&text)) {
            return Self::OtherRelease(types);
        }
        let reason = text.split_once("verification failed: ").map(|(_, reason)| reason);
        match (status, reason) {
            (400, _) if websocket => Self::Authorized,
            (401, None) if text.contains("no client certificate") => Self::NoCertificate,
            (401, Some(reason)) if reason.starts_with("no ") && reason.contains("CRs found") => Self::NoPlane,
            (401, Some(reason)) if reason.starts_with("certificate not valid for any CR") => Self::NotTrusted,
            (401, Some(reason)) if reason.starts_with("failed to get client CA") => Self::Blind(reason.to_owned()),
            _ => Self::Other { status, text },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzzed_answers_are_reported_without_what_a_terminal_obeys() {
        let seeds: [&[u8]; 5] = [
            b"client certificate verification failed: no dataplane CRs found with planeID 'x'",
            b"client certificate verification failed: certificate not valid for any CR with planeID 'x'",
            b"client certificate verification failed: failed to get client CA configurations: x",
            b"invalid planeType: must be 'dataplane', 'workflowplane', or 'observabilityplane'",
            br#"{"connected":true,"connectedAgents":2}"#,
        ];
        crate::fuzz::fuzz(&seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes).trim().to_owned();
            let _ = serde_json::from_str::<crate::gateway::Counted>(&text);
            for status in [200, 400, 401] {
                let reported =
                    Answer::of(Page { status, websocket: false, date: None, text: text.clone() }).to_string();
                assert!(
                    !reported.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)),
                    "{reported:?}"
                );
            }
        });
    }

    #[test]
    fn answers_are_understood() {
        let of =
            |status, websocket, text: &str| Answer::of(Page { status, websocket, date: None, text: text.to_owned() });
        let refused = |reason: &str| of(401, false, &format!("client certificate verification failed: {reason}"));
        assert_eq!(of(400, true, "Bad Request"), Answer::Authorized);
        assert_eq!(of(401, false, "no client certificate presented"), Answer::NoCertificate);
        for kind in crate::plane::KINDS {
            let reason = format!("no {} CRs found with planeID 'x'", kind.family.plane_type);
            assert_eq!(refused(&reason), Answer::NoPlane);
        }
        assert_eq!(refused("certificate not valid for any CR with planeID 'x'"), Answer::NotTrusted);
        assert!(matches!(refused("failed to get client CA configurations: x"), Answer::Blind(_)));
        let other = "invalid planeType: must be 'dataplane', 'workflowplane', or 'observabilityplane'";
        let Answer::OtherRelease(types) = of(400, false, other) else { panic!() };
        assert!(types.knows("workflowplane"));
        assert_eq!(of(404, false, "nothing"), Answer::Other { status: 404, text: "nothing".into() });
    }
}
