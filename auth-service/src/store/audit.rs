//! The audit log.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, Row},
};
use uuid::Uuid;

use crate::model::{
    audit::{Event, Kind, StoredEvent, unknown_user_id},
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

/// Adds an event within the transaction of the change that it records.
///
/// # Errors
/// If the database fails.
pub async fn insert(conn: &mut Conn, now: Timestamp, user_id: Uuid, event: &Event) -> Result<(), Error> {
    const INSERT: &str = "
        insert into audit_events (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at,
            minute, occurrences)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, null, 1)";
    let values = args![
        event.id,
        event.kind.name(),
        user_id,
        event.actor_id(user_id),
        event.session_id,
        event.client.ip_address(),
        &event.client.user_agent,
        event.details_json(),
        now,
    ];
    conn.execute(INSERT, values).await.map(drop)
}

/// Reports whether the log contains a login of an account.
///
/// # Errors
/// If the database fails.
pub async fn has_logged_in_within(conn: &mut Conn, user_id: Uuid) -> Result<bool, Error> {
    const SELECT: &str = "select id from audit_events where user_id = $1 and kind = $2 limit 1";
    let login: Option<Uuid> = conn.fetch_optional(SELECT, args![user_id, Kind::Login.name()]).await?;
    Ok(login.is_some())
}

/// Reports whether the log contains an event of an account and a kind after `since`.
///
/// # Errors
/// If the database fails.
pub async fn has_happened_within(conn: &mut Conn, user_id: Uuid, kind: Kind, since: Timestamp) -> Result<bool, Error> {
    const SELECT: &str = "
        select id from audit_events where user_id = $1 and kind = $2 and created_at > $3 limit 1";
    let event: Option<Uuid> = conn.fetch_optional(SELECT, args![user_id, kind.name(), since]).await?;
    Ok(event.is_some())
}

/// Adds an event of an address without an account within a transaction, to the table of failed logins, so that it takes as
/// long as [`insert`]. It is never read.
///
/// # Errors
/// If the database fails.
pub async fn insert_unknown(conn: &mut Conn, now: Timestamp, user_id: Uuid, event: &Event) -> Result<(), Error> {
    const INSERT: &str = "
        insert into failures_of_nobody (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details,
            created_at, minute, occurrences)
        values ($1, $2, $3, null, null, $4, $5, $6, $7, null, 1)";
    let values = args![
        event.id,
        event.kind.name(),
        user_id,
        event.client.ip_address(),
        &event.client.user_agent,
        event.details_json(),
        now,
    ];
    conn.execute(INSERT, values).await.map(drop)
}

/// Adds an event that records no change.
///
/// # Errors
/// If the database fails.
pub async fn add(db: &Db, now: Timestamp, user_id: Uuid, event: Event) -> Result<(), Error> {
    db.write(move |conn| Box::pin(async move { insert(conn, now, user_id, &event).await })).await
}

/// Counts a failed login. The failed logins of an account within a minute share a row, which limits the size of the
/// log. If there is no account, a row of another table is written, so that the response takes the same time.
///
/// # Errors
/// If the database fails.
pub async fn failed_login(db: &Db, now: Timestamp, email: Email, has_account: bool, event: Event) -> Result<(), Error> {
    // `coalesce` never returns `$9`. It is used because both statements have the same arguments.
    const INSERT_FOR_ACCOUNT: &str = "
        insert into audit_events (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at,
            minute, occurrences)
        select $1, $2, coalesce(id, $9), null, null, $4, $5, $6, $7, $8, 1 from users where email = $3
        on conflict (user_id, minute) where minute is not null
        do update set occurrences = audit_events.occurrences + 1";
    const INSERT_FOR_UNKNOWN_USER: &str = "
        insert into failures_of_nobody (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details,
            created_at, minute, occurrences)
        select $1, $2, $9, null, null, $4, $5, $6, $7, $8, 1
        where not exists (select 1 from users where email = $3)
        on conflict (user_id, minute) where minute is not null
        do update set occurrences = failures_of_nobody.occurrences + 1";
    let values = args![
        event.id,
        event.kind.name(),
        email.as_str(),
        event.client.ip_address(),
        &event.client.user_agent,
        event.details_json(),
        now,
        now.as_seconds().div_euclid(60),
        unknown_user_id(&email),
    ];
    db.execute(if has_account { INSERT_FOR_ACCOUNT } else { INSERT_FOR_UNKNOWN_USER }, values).await.map(drop)
}

/// Selects the events to list.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Only those of this account.
    pub user_id: Option<Uuid>,
    /// Only those of this kind.
    pub kind: Option<Kind>,
    /// Only those before this event.
    pub before: Option<Uuid>,
}

/// Returns at most `limit` events of a selection, newest first.
///
/// # Errors
/// If the database fails.
pub async fn list(db: &Db, selection: Selection, limit: usize) -> Result<Vec<StoredEvent>, Error> {
    const SELECT_BY_USER: &str = "
        select id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, occurrences
        from audit_events where user_id = $1 and ($2 is null or kind = $2) and ($3 is null or id < $3)
        order by id desc limit $4";
    // `$1` is always null here. It is used because both statements have the same arguments.
    const SELECT_ALL: &str = "
        select id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, occurrences
        from audit_events where $1 is null and ($2 is null or kind = $2) and ($3 is null or id < $3)
        order by id desc limit $4";
    let Selection { user_id, kind, before } = selection;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = args![user_id, kind.map(Kind::name), before, limit];
    db.fetch_all(if user_id.is_some() { SELECT_BY_USER } else { SELECT_ALL }, values).await
}
