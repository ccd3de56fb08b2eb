//! The audit log.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_read, db_write,
};
use taskey_proto::auth::v1::audit_event::Kind;
use uuid::Uuid;

use crate::model::{
    audit::{Event, StoredEvent, nobody},
    email::Email,
};

/// Puts the columns of a [`StoredEvent`] where a statement lists them.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, occurrences ",
            $after
        )
    };
}

pub(super) const INSERT: &str = "
    insert into audit_events (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at,
        minute, occurrences)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, null, 1)";

/// Adds an event, within the transaction of what it records.
macro_rules! record {
    ($connection:expr, $now:expr, $user_id:expr, $event:expr) => {{
        let (user_id, event): (::uuid::Uuid, &$crate::model::audit::Event) = ($user_id, &$event);
        ::sqlx::query($crate::store::audit::INSERT)
            .bind(event.id)
            .bind(event.kind.as_str_name())
            .bind(user_id)
            .bind(event.actor_id(user_id))
            .bind(event.session_id)
            .bind(event.origin.ip_address())
            .bind(&event.origin.user_agent)
            .bind(event.details_as_json())
            .bind($now)
            .execute(&mut *$connection)
            .await?;
    }};
}
pub(super) use record;

/// Adds a failed login to those of the same account and minute: a flood of them makes one row a minute. Where there is
/// no account, it is written elsewhere, so that it takes as long.
pub async fn failed_login(db: &Db, now: Timestamp, email: Email, has_account: bool, event: Event) -> Result<(), Error> {
    macro_rules! insert_into {
        ($table:literal, $selected:literal) => {
            concat!(
                "insert into ",
                $table,
                " (id, kind, user_id, actor_id, session_id, ip_address, user_agent, details, created_at, minute,
                    occurrences) ",
                $selected,
                " on conflict (user_id, minute) where minute is not null
                do update set occurrences = ",
                $table,
                ".occurrences + 1"
            )
        };
    }
    const OF_ACCOUNT: &str = insert_into!(
        "audit_events",
        "select $1, $2, coalesce(id, $9), null, null, $4, $5, $6, $7, $8, 1 from users where email = $3"
    );
    const OF_NOBODY: &str = insert_into!(
        "failures_of_nobody",
        "select $1, $2, $9, null, null, $4, $5, $6, $7, $8, 1
        where not exists (select 1 from users where email = $3)"
    );
    let sql = if has_account { OF_ACCOUNT } else { OF_NOBODY };
    db_write!(db, |connection| {
        sqlx::query(sql)
            .bind(event.id)
            .bind(event.kind.as_str_name())
            .bind(email.as_str())
            .bind(event.origin.ip_address())
            .bind(&event.origin.user_agent)
            .bind(event.details_as_json())
            .bind(now)
            .bind(now.as_seconds().div_euclid(60))
            .bind(nobody(&email))
            .execute(connection)
            .await
            .map(|_| ())
    })
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

/// The events of a selection, the newest first, not more than `limit`.
pub async fn list(db: &Db, which: Selection, limit: usize) -> Result<Vec<StoredEvent>, Error> {
    const OF_USER: &str = with_columns!(
        "select",
        "from audit_events where user_id = $1 and ($2 is null or kind = $2) and ($3 is null or id < $3)
         order by id desc limit $4"
    );
    const OF_ALL: &str = with_columns!(
        "select",
        "from audit_events where $1 is null and ($2 is null or kind = $2) and ($3 is null or id < $3)
         order by id desc limit $4"
    );
    let sql = if which.user_id.is_some() { OF_USER } else { OF_ALL };
    db_read!(db, |connection| {
        sqlx::query_as(sql)
            .bind(which.user_id)
            .bind(which.kind.map(|kind| kind.as_str_name()))
            .bind(which.before)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
    })
}
