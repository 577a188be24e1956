//! How a check comes out: a status, a message, and what to do about it.

use std::fmt;

use serde::Serialize;

/// How a check came out. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Warn,
    Fail,
    /// It was not looked at, or could not be.
    Skip,
}

/// What to do about an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "lowercase")]
pub enum Hint {
    /// A command that removes the fault.
    Fix(String),
    /// A command that shows more, and changes nothing.
    Look(String),
    /// A question or an explanation, or a command with a placeholder.
    Advice(String),
}

impl Hint {
    pub fn text(&self) -> &str {
        match self {
            Self::Fix(text) | Self::Look(text) | Self::Advice(text) => text,
        }
    }

    /// The word before it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Fix(_) => "fix",
            Self::Look(_) => "look",
            Self::Advice(_) => "hint",
        }
    }
}

/// Why a check was left out although nothing else failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unchecked {
    AgentCluster,
    OtherCluster,
    Gateway,
    /// It answered, but has not seen the agent's certificate.
    Presented,
    /// It answered, but its agents are unknown.
    Agents,
    GatewayPods,
    Unread,
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgentCluster => "the plane's cluster was not given",
            Self::OtherCluster => "the agent is not in the cluster that was given",
            Self::Gateway => "the gateway was not contacted",
            Self::Presented => "no certificate was presented to the gateway",
            Self::Agents => "the gateway did not report its agents",
            Self::GatewayPods => "the gateway's pods were not found",
            Self::Unread => "some objects could not be read",
        })
    }
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    pub message: String,
    /// The best one first.
    pub hints: Vec<Hint>,
    /// What the message counts, one by one.
    pub details: Vec<String>,
    /// Whether what it needs could not be read: then nothing is said to be healthy.
    pub unknown: bool,
    /// Why it was left out, where that leaves something in doubt.
    pub unchecked: Option<Unchecked>,
    /// Whether what needs it is unknown.
    pub blocks: bool,
}

impl Outcome {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        let blocks = status == Status::Fail;
        Self {
            status,
            message: message.into(),
            hints: Vec::new(),
            details: Vec::new(),
            unknown: false,
            unchecked: None,
            blocks,
        }
    }

    /// One that is made up.
    #[cfg(test)]
    pub fn reported(status: Status, message: &str, hint: Option<&str>) -> Self {
        let hints = hint.map(|hint| Hint::Fix(hint.to_owned())).into_iter().collect();
        Self { hints, ..Self::new(status, message) }
    }

    pub fn pass(message: impl Into<String>) -> Self {
        Self::new(Status::Pass, message)
    }

    pub fn warn(message: impl Into<String>) -> Self {
        Self::new(Status::Warn, message)
    }

    pub fn fail(message: impl Into<String>) -> Self {
        Self::new(Status::Fail, message)
    }

    /// There is nothing to check.
    pub fn skip(message: impl Into<String>) -> Self {
        Self::new(Status::Skip, message)
    }

    /// There is something to check, and it was not looked at.
    pub fn unchecked(why: Unchecked, message: impl Into<String>) -> Self {
        Self { unchecked: Some(why), ..Self::skip(message) }
    }

    /// The gateway can't be contacted from here, so nothing that needs it can be checked.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { blocks: true, ..Self::unchecked(Unchecked::Gateway, message) }
    }

    pub fn unknown(message: impl Into<String>) -> Self {
        Self { unknown: true, blocks: true, unchecked: Some(Unchecked::Unread), ..Self::skip(message) }
    }

    pub fn depends_on(check: &str) -> Self {
        Self { blocks: true, ..Self::skip(format!("depends on {check}")) }
    }

    pub fn details(self, details: impl IntoIterator<Item = String>) -> Self {
        Self { details: details.into_iter().collect(), ..self }
    }

    pub fn hint(mut self, hint: Hint) -> Self {
        self.hints.push(hint);
        self
    }

    pub fn fix(self, command: impl Into<String>) -> Self {
        self.hint(Hint::Fix(command.into()))
    }

    pub fn look(self, command: impl Into<String>) -> Self {
        self.hint(Hint::Look(command.into()))
    }

    pub fn advice(self, text: impl Into<String>) -> Self {
        self.hint(Hint::Advice(text.into()))
    }
}
