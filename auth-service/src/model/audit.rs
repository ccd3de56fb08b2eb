//! What the audit log says: who did what to which account, from where.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use service_kit::clock::{Clock, Timestamp};
use taskey_proto::auth::v1::{self as pb, audit_event::Kind};
use uuid::Uuid;

use super::{client_info::ClientInfo, email::Email};

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The owner of the account.
    Owner,
    /// Somebody who has not shown who they are, or somebody at the machine itself.
    Unknown,
    /// An administrator.
    Admin(Uuid),
}

/// Something that happens to an account. To which one is known when it has happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// The key; it ascends with time.
    pub id: Uuid,
    /// What happens.
    pub kind: Kind,
    /// Who does it.
    pub actor: Actor,
    /// From or to which session.
    pub session_id: Option<Uuid>,
    /// From where.
    pub client: ClientInfo,
    /// What else there is to say, by name. Never a secret.
    pub details: BTreeMap<&'static str, String>,
}

impl Event {
    /// An event with nothing more to say.
    #[must_use]
    pub fn new(clock: &Clock, kind: Kind, actor: Actor, session_id: Option<Uuid>, client: ClientInfo) -> Self {
        Self { id: clock.new_id(), kind, actor, session_id, client, details: BTreeMap::new() }
    }

    /// Says something more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.details.insert(name, value.to_string());
        self
    }

    /// The account that did it to this one, if it is known.
    #[must_use]
    pub fn actor_id(&self, user_id: Uuid) -> Option<Uuid> {
        match self.actor {
            Actor::Owner => Some(user_id),
            Actor::Unknown => None,
            Actor::Admin(id) => Some(id),
        }
    }

    /// The details as they are stored.
    #[must_use]
    pub fn details_as_json(&self) -> String {
        serde_json::to_string(&self.details).expect("strings make JSON")
    }
}

/// The account of an address that has none.
#[must_use]
pub fn nobody(email: &Email) -> Uuid {
    let digest = digest::digest(&digest::SHA256, email.as_str().as_bytes());
    Uuid::from_bytes(*digest.as_ref().first_chunk().expect("SHA-256 makes 32 bytes"))
}

/// A row of the audit log.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The key.
    pub id: Uuid,
    pub(crate) kind: String,
    pub(crate) user_id: Uuid,
    pub(crate) actor_id: Option<Uuid>,
    pub(crate) session_id: Option<Uuid>,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) details: String,
    pub(crate) created_at: Timestamp,
    pub(crate) occurrences: i64,
}

impl From<StoredEvent> for pb::AuditEvent {
    fn from(event: StoredEvent) -> Self {
        let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        let mut details: std::collections::HashMap<_, _> = serde_json::from_str(&event.details).unwrap_or_default();
        if event.occurrences > 1 {
            details.insert("occurrences".to_owned(), event.occurrences.to_string());
        }
        Self {
            id: event.id.to_string(),
            kind: Kind::from_str_name(&event.kind).unwrap_or_default().into(),
            user_id: event.user_id.to_string(),
            actor_id: text(event.actor_id),
            session_id: text(event.session_id),
            ip_address: event.ip_address,
            user_agent: event.user_agent,
            create_time: Some(event.created_at.into()),
            details,
        }
    }
}
