//! The events of the command-line tool.

use service_kit::clock::Clock;

use crate::model::{
    audit::{Actor, Event, Kind},
    client_info::ClientInfo,
};

/// Creates an event that the command-line tool causes.
pub(super) fn tool_event(clock: &Clock, kind: Kind) -> Event {
    Event::new(clock, kind, Actor::Unknown, None, ClientInfo::default())
}
