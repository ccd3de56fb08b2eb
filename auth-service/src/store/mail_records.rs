//! The mails that administrators see.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error, FromRow, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::audit::Event;

/// A mail without its text.
#[derive(Clone, Debug)]
pub struct MailRecord {
    /// The primary key.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// What the mail is about.
    pub template: String,
    /// The address.
    pub recipient: String,
    /// `pending`, `sent`, `failed` or `obsolete`.
    pub state: String,
    /// How many attempts have begun.
    pub attempts: i64,
    /// Why the last attempt failed.
    pub last_error: String,
    /// When the mail was stored.
    pub created_at: Timestamp,
    /// When the next attempt begins, if the mail is pending.
    pub next_attempt_at: Timestamp,
}

impl FromRow for MailRecord {
    /// Reads `id, user_id, template, recipient, state, attempts, last_error, created_at, next_attempt_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            user_id: row.next()?,
            template: row.next()?,
            recipient: row.next()?,
            state: row.next()?,
            attempts: row.next()?,
            last_error: row.next()?,
            created_at: row.next()?,
            next_attempt_at: row.next()?,
        })
    }
}

/// Returns at most `limit` mails in a state, or in any, newest first. If `before` is set, returns only older ones. Mails that
/// were requested for addresses without an account are not among them.
///
/// # Errors
/// If the database fails.
pub async fn list(
    db: &Db,
    state: Option<&'static str>,
    before: Option<Uuid>,
    limit: usize,
) -> Result<Vec<MailRecord>, Error> {
    const SELECT: &str = "
        select id, user_id, template, recipient, state, attempts, last_error, created_at, next_attempt_at
        from mails where recipient <> '' and ($1 is null or state = $1) and ($2 is null or id < $2)
        order by id desc limit $3";
    db.fetch_all(SELECT, args![state, before, i64::try_from(limit).unwrap_or(i64::MAX)]).await
}

/// Makes a mail due that has failed or waits for another attempt. Returns `None` if there is no such mail.
///
/// # Errors
/// If the database fails.
pub async fn retry(db: &Db, now: Timestamp, id: Uuid, event: Event) -> Result<Option<MailRecord>, Error> {
    const UPDATE: &str = "
        update mails set state = 'pending', next_attempt_at = $2
        where id = $1 and recipient <> '' and state in ('failed', 'pending')
        returning id, user_id, template, recipient, state, attempts, last_error, created_at, next_attempt_at";
    db.write(move |conn| {
        Box::pin(async move {
            let mail: Option<MailRecord> = conn.fetch_optional(UPDATE, args![id, now]).await?;
            if let Some(mail) = &mail {
                audit::insert(conn, now, mail.user_id, &event).await?;
            }
            Ok(mail)
        })
    })
    .await
}
