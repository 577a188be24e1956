//! What `wait --for` waits for.

use std::fmt;
use std::str::FromStr;

use super::state::State;

/// A condition on one plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    State(State),
    Exists,
    Deleted,
    /// The agent's certificate is authorized by the plane.
    Trusted,
}

impl Goal {
    /// Whether it holds; `state` is none where the plane doesn't exist. Whether a plane is trusted is not reported by its
    /// state.
    pub fn holds(self, state: Option<State>) -> bool {
        match (self, state) {
            (Self::Trusted, _) => false,
            (Self::Exists, state) => state.is_some(),
            (Self::Deleted, state) => state.is_none(),
            (Self::State(State::Disconnected), Some(state)) => {
                matches!(state, State::Disconnected | State::NeverConnected)
            }
            (Self::State(wanted), state) => state == Some(wanted),
        }
    }

    /// Whether a plane that isn't there can still come to meet it.
    pub fn bears_absence(self) -> bool {
        matches!(self, Self::Exists | Self::Deleted)
    }
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "exists" | "create" => Ok(Self::Exists),
            "deleted" | "delete" => Ok(Self::Deleted),
            "trusted" => Ok(Self::Trusted),
            word => {
                word.parse().map(Self::State).map_err(|error| format!("{error}, or exists, or deleted, or trusted"))
            }
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => state.fmt(f),
            Self::Exists => f.pad("exists"),
            Self::Deleted => f.pad("deleted"),
            Self::Trusted => f.pad("trusted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_stale_are_not_connected() {
        let connected: Goal = "CONNECTED".parse().unwrap();
        assert!(connected.holds(Some(State::Connected)));
        for state in [State::Late, State::Stale, State::Deleting] {
            assert!(!connected.holds(Some(state)));
        }
    }

    #[test]
    fn never_connected_is_disconnected_too() {
        let goal: Goal = "disconnected".parse().unwrap();
        assert!(goal.holds(Some(State::NeverConnected)) && goal.holds(Some(State::Disconnected)));
        let goal: Goal = "neverconnected".parse().unwrap();
        assert!(!goal.holds(Some(State::Disconnected)));
    }

    #[test]
    fn absence_counts_for_two() {
        assert!(Goal::Deleted.holds(None) && !Goal::Exists.holds(None));
        assert_eq!("create".parse(), Ok(Goal::Exists));
        assert!("trusty".parse::<Goal>().unwrap_err().contains("deleted"));
    }
}
