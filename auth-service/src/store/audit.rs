//! The audit log.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, Row},
};
use taskey_proto::auth::v1::audit_event::Kind;
use uuid::Uuid;

use crate::model::{
    audit::{Event, StoredEvent, nobody},
    email::Email,
};

impl FromRow for StoredEvent {
    /// Reads `id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, occurrences`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            kind: row.next()?,
            user_id: row.next()?,
            actor_id: row.next()?,
            session_id: row.next()?,
            ip_address: row.next()?,
            user_agent: row.next()?,
            details: row.next()?,
            created_at: row.next()?,
            occurrences: row.next()?,
        })
    }
}

/// Adds an event, within the transaction of what it records.
///
/// # Errors
/// Those of the database.
pub async fn insert(conn: &mut Conn, now: Timestamp, user_id: Uuid, event: &Event) -> Result<(), Error> {
    const INSERT: &str = "
        insert into audit_events (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at,
            minute, occurrences)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, null, 1)";
    let values = args![
        event.id,
        event.kind.as_str_name(),
        user_id,
        event.actor_id(user_id),
        event.session_id,
        event.client.ip_address(),
        &event.client.user_agent,
        event.details_as_json(),
        now,
    ];
    conn.execute(INSERT, values).await.map(drop)
}

/// Adds a failed login to those of the same account and minute: a flood of them makes one row a minute. If there is no
/// account, another table is written, so that it takes as long.
///
/// # Errors
/// Those of the database.
pub async fn failed_login(db: &Db, now: Timestamp, email: Email, has_account: bool, event: Event) -> Result<(), Error> {
    const OF_ACCOUNT: &str = "
        insert into audit_events (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at,
            minute, occurrences)
        select $1, $2, coalesce(id, $9), null, null, $4, $5, $6, $7, $8, 1 from users where email = $3
        on conflict (user_id, minute) where minute is not null
        do update set occurrences = audit_events.occurrences + 1";
    const OF_UNKNOWN_USER: &str = "
        insert into failures_of_nobody (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details,
            created_at, minute, occurrences)
        select $1, $2, $9, null, null, $4, $5, $6, $7, $8, 1
        where not exists (select 1 from users where email = $3)
        on conflict (user_id, minute) where minute is not null
        do update set occurrences = failures_of_nobody.occurrences + 1";
    let values = args![
        event.id,
        event.kind.as_str_name(),
        email.as_str(),
        event.client.ip_address(),
        &event.client.user_agent,
        event.details_as_json(),
        now,
        now.as_seconds().div_euclid(60),
        nobody(&email),
    ];
    db.execute(if has_account { OF_ACCOUNT } else { OF_UNKNOWN_USER }, values).await.map(drop)
}

/// Which events to list.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Of this account alone.
    pub user_id: Option<Uuid>,
    /// Of this kind alone.
    pub kind: Option<Kind>,
    /// Only those before this one.
    pub before: Option<Uuid>,
}

/// Returns the events of a selection, the newest first, at most `limit`.
///
/// # Errors
/// Those of the database.
pub async fn list(db: &Db, selection: Selection, limit: usize) -> Result<Vec<StoredEvent>, Error> {
    const OF_USER: &str = "
        select id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, occurrences
        from audit_events where user_id = $1 and ($2 is null or kind = $2) and ($3 is null or id < $3)
        order by id desc limit $4";
    const OF_ALL: &str = "
        select id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, occurrences
        from audit_events where $1 is null and ($2 is null or kind = $2) and ($3 is null or id < $3)
        order by id desc limit $4";
    let Selection { user_id, kind, before } = selection;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = args![user_id, kind.map(|kind| kind.as_str_name()), before, limit];
    db.fetch_all(if user_id.is_some() { OF_USER } else { OF_ALL }, values).await
}
