//! The sessions. How they are revoked is in `revocations`.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_look_up, db_read, db_transaction, db_write,
};
use uuid::Uuid;

use super::{
    audit::record,
    revocations::{Which, Why, end_sessions},
};
use crate::model::{audit::Event, refresh_token::RefreshToken, session::Session};

/// Puts the columns of a [`Session`] where a statement lists them.
macro_rules! with_columns {
    ($before:literal $(, $after:literal)?) => {
        concat!(
            $before,
            " id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at, \
             expires_at, revoked_at, reused "
            $(, $after)?
        )
    };
}

/// A new session.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The key.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// What the user calls it.
    pub label: String,
    /// What the client says of itself.
    pub user_agent: String,
    /// Where the login came from.
    pub ip_address: String,
    /// When it ends unless it is refreshed before.
    pub expires_at: Timestamp,
    /// When it ends at the latest.
    pub ends_at: Timestamp,
}

/// Keeps an account from being changed or deleted before the commit, and waits for who is at it. Otherwise one that is
/// changed at the same time would end all sessions but this, which it cannot see yet. `SQLite` has one writer anyway.
const HOLD_ACCOUNT: &str = "select 1 from users where id = $1 for share";

/// Begins a session, unless the account has been deleted, disabled or given another password since `password_hash` was
/// read: then `None`. If the user has too many with it, the oldest end; it says how many did.
pub async fn insert(
    db: &Db,
    now: Timestamp,
    new: NewSession,
    hash: String,
    event: Event,
) -> Result<Option<(Session, usize)>, Error> {
    const SQL: &str = with_columns!(
        "insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
            previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation)
        select $1, id, $3, $4, $5, 0, $6, $6, $6, $7, $8, null, false, null
        from users where id = $2 and password_hash = $9 and not disabled
        returning"
    );
    let replicated = matches!(db, Db::Postgres(_));
    db_transaction!(db, |connection| {
        if replicated {
            sqlx::query(HOLD_ACCOUNT).bind(new.user_id).execute(&mut *connection).await?;
        }
        let insert = sqlx::query_as(SQL)
            .bind(new.id)
            .bind(new.user_id)
            .bind(&new.label)
            .bind(&new.user_agent)
            .bind(&new.ip_address)
            .bind(now)
            .bind(new.expires_at)
            .bind(new.ends_at)
            .bind(&hash);
        let begun: Option<Session> = insert.fetch_optional(&mut *connection).await?;
        Ok(match begun {
            None => None,
            Some(session) => {
                let surplus = Which::Surplus { user_id: session.user_id };
                let ended = end_sessions!(connection, replicated, now, surplus, Why::Wanted);
                record!(connection, now, session.user_id, event);
                Some((session, ended.len()))
            }
        })
    })
}

/// Makes the next refresh token the good one, if `token` is the good one now: of two calls at once only one finds it
/// so. `expires_at` is cut to the session's latest end. `None` if the token is not, or the session or its account has
/// ended.
pub async fn rotate(
    db: &Db,
    now: Timestamp,
    token: RefreshToken,
    expires_at: Timestamp,
) -> Result<Option<Session>, Error> {
    const SQL: &str = with_columns!(
        "update sessions set generation = generation + 1, previous_rotated_at = rotated_at, rotated_at = $3,
            expires_at = case when $4 < ends_at then $4 else ends_at end
        where id = $1 and generation = $2 and revoked_at is null and expires_at > $3
            and exists (select 1 from users where users.id = sessions.user_id and not users.disabled)
        returning"
    );
    db_write!(db, |connection| {
        sqlx::query_as(SQL)
            .bind(token.session_id)
            .bind(token.generation)
            .bind(now)
            .bind(expires_at)
            .fetch_optional(connection)
            .await
    })
}

/// A session, live or not.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<Session>, Error> {
    const SQL: &str = with_columns!("select", "from sessions where id = $1");
    db_look_up!(db, |connection| sqlx::query_as(SQL).bind(id).fetch_optional(connection).await)
}

/// The live sessions of a user, the newest first.
pub async fn live(db: &Db, now: Timestamp, user_id: Uuid) -> Result<Vec<Session>, Error> {
    const SQL: &str = with_columns!(
        "select",
        "from sessions where user_id = $1 and revoked_at is null and expires_at > $2 order by id desc"
    );
    db_read!(db, |connection| sqlx::query_as(SQL).bind(user_id).bind(now).fetch_all(connection).await)
}
