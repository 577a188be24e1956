//! The connection's state: a pure function of what the status says, of the deletion, and of the time.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use super::resource::{AgentConnection, Plane};

/// The state of a plane's connection. The order is from the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// `connected: true`, with a heartbeat over 180 s old or none: the reporting path is broken.
    Stale,
    /// Was connected, and isn't any more.
    Disconnected,
    /// No agent ever got in.
    NeverConnected,
    /// No report yet.
    Unreported,
    /// `connected: true`, with a heartbeat over 120 s old.
    Late,
    /// Waits for its finalizer.
    Deleting,
    /// `connected: true`, with a heartbeat at most 120 s old.
    Connected,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Stale,
        Self::Disconnected,
        Self::NeverConnected,
        Self::Unreported,
        Self::Late,
        Self::Deleting,
        Self::Connected,
    ];

    /// Oldest heartbeat, in whole seconds, of a plane that counts as connected. The gateway pings every 30 s and the
    /// controller asks once a minute, so a healthy heartbeat is up to 90 s old.
    pub const CONNECTED_SECONDS: i64 = 120;
    /// Oldest heartbeat, in whole seconds, before the report itself is in doubt.
    pub const LATE_SECONDS: i64 = 180;

    pub fn of(connection: Option<&AgentConnection>, deleting: bool, now: Timestamp) -> Self {
        let Some(connection) = connection.filter(|_| !deleting) else {
            return if deleting { Self::Deleting } else { Self::Unreported };
        };
        match (connection.connected, connection.heartbeat_age(now)) {
            (true, Some(..=Self::CONNECTED_SECONDS)) => Self::Connected,
            (true, Some(..=Self::LATE_SECONDS)) => Self::Late,
            (true, _) => Self::Stale,
            (false, _) if connection.last_connected_time.is_some() => Self::Disconnected,
            (false, _) => Self::NeverConnected,
        }
    }

    /// The next instant at which time alone makes the state another one.
    pub fn next_change(connection: &AgentConnection, now: Timestamp) -> Option<Timestamp> {
        let heartbeat = connection.last_heartbeat_time.filter(|_| connection.connected)?;
        [Self::CONNECTED_SECONDS, Self::LATE_SECONDS]
            .into_iter()
            .filter_map(|limit| began(heartbeat, limit))
            .find(|change| *change > now)
    }

    /// When the present state began, where the status says.
    pub fn since(connection: &AgentConnection, now: Timestamp) -> Option<Timestamp> {
        match Self::of(Some(connection), false, now) {
            Self::Connected => connection.last_connected_time,
            Self::Late => began(connection.last_heartbeat_time?, Self::CONNECTED_SECONDS),
            Self::Stale => began(connection.last_heartbeat_time?, Self::LATE_SECONDS),
            Self::Disconnected => connection.last_disconnected_time,
            Self::NeverConnected | Self::Unreported | Self::Deleting => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "Stale",
            Self::Disconnected => "Disconnected",
            Self::NeverConnected => "NeverConnected",
            Self::Unreported => "Unreported",
            Self::Late => "Late",
            Self::Deleting => "Deleting",
            Self::Connected => "Connected",
        }
    }
}

/// The instant at which a heartbeat's age exceeds `limit` whole seconds.
fn began(heartbeat: Timestamp, limit: i64) -> Option<Timestamp> {
    heartbeat.checked_add(SignedDuration::from_secs(limit + 1)).ok()
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|state| state.name()).collect();
            format!("not a state: one of {}", names.join(", "))
        })
    }
}

/// `--state S,...`: any of these, or with a leading `!` none of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFilter {
    wanted: Vec<State>,
    unwanted: Vec<State>,
}

impl StateFilter {
    pub fn keeps(&self, state: State) -> bool {
        (self.wanted.is_empty() || self.wanted.contains(&state)) && !self.unwanted.contains(&state)
    }
}

impl FromStr for StateFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in text.split(',').map(str::trim) {
            match word.strip_prefix('!') {
                Some(word) => filter.unwanted.push(word.parse()?),
                None => filter.wanted.push(word.parse()?),
            }
        }
        Ok(filter)
    }
}

impl Plane {
    pub fn state(&self, now: Timestamp) -> State {
        State::of(self.connection(), self.metadata.deletion_timestamp.is_some(), now)
    }

    /// The instant at which the state changes although nobody touches the plane.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        if self.metadata.deletion_timestamp.is_some() {
            return None;
        }
        State::next_change(self.connection()?, now)
    }

    /// When the present state began, as far as the status says.
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        let deleted = self.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        deleted.or_else(|| State::since(self.connection()?, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn connected(heartbeat: Option<i64>) -> AgentConnection {
        AgentConnection {
            connected: true,
            connected_agents: 1,
            last_heartbeat_time: heartbeat.map(at),
            last_connected_time: Some(at(-1000)),
            ..AgentConnection::default()
        }
    }

    #[test]
    fn every_state_is_reached() {
        let now = at(0);
        let gone = AgentConnection { last_connected_time: Some(at(-9)), ..AgentConnection::default() };
        let cases = [
            (Some(connected(Some(0))), false, State::Connected),
            (Some(connected(Some(-120))), false, State::Connected),
            (Some(connected(Some(-121))), false, State::Late),
            (Some(connected(Some(-180))), false, State::Late),
            (Some(connected(Some(-181))), false, State::Stale),
            (Some(connected(Some(3600))), false, State::Connected),
            (Some(connected(None)), false, State::Stale),
            (Some(gone), false, State::Disconnected),
            (Some(AgentConnection::default()), false, State::NeverConnected),
            (None, false, State::Unreported),
            (None, true, State::Deleting),
            (Some(connected(Some(0))), true, State::Deleting),
        ];
        for (connection, deleting, state) in cases {
            assert_eq!(State::of(connection.as_ref(), deleting, now), state, "{connection:?}");
        }
    }

    #[test]
    fn filters_take_and_leave() {
        let filter: StateFilter = "connected,LATE".parse().unwrap();
        assert!(filter.keeps(State::Late) && !filter.keeps(State::Stale));
        let filter: StateFilter = "!Connected".parse().unwrap();
        assert!(filter.keeps(State::Stale) && !filter.keeps(State::Connected));
        assert!("nonsense".parse::<StateFilter>().unwrap_err().contains("NeverConnected"));
    }

    proptest! {
        /// Up to the predicted instant the state stays, and at it the state is another one that began just then.
        #[test]
        fn the_next_change_is_when_the_state_changes(age in -500_i64..500, nanos in 0_i32..1_000_000_000) {
            let connection = connected(Some(-age));
            let now = Timestamp::new(at(0).as_second(), nanos).unwrap();
            let state = State::of(Some(&connection), false, now);
            match State::next_change(&connection, now) {
                None => prop_assert_eq!(state, State::Stale),
                Some(change) => {
                    let before = change.checked_sub(SignedDuration::from_nanos(1)).unwrap();
                    prop_assert_eq!(State::of(Some(&connection), false, before), state);
                    let after = State::of(Some(&connection), false, change);
                    prop_assert_ne!(after, state);
                    prop_assert_eq!(State::since(&connection, change), Some(change));
                }
            }
        }
    }
}
