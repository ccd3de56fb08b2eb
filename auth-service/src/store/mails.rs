//! The outbox: mails that wait to be sent, and those that were sent.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, Row},
};
use uuid::Uuid;

use crate::model::mail::{
    Allowance, AttemptOutcome, LIMIT_PERIOD, MAX_MAILS, MAX_PENDING, Mail, NewMail, Template, parse_details,
};

impl FromRow for Mail {
    /// Reads `id, user_id, template, recipient, details, account_state, attempts, created_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            user_id: row.next()?,
            template: Template::from_name(row.next_text()?),
            recipient: row.next()?,
            details: parse_details(row.next_text()?),
            account_state: row.next()?,
            attempt: row.next()?,
            created_at: row.next()?,
        })
    }
}

/// Whether a mail was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It was.
    Yes,
    /// It was not, because the account has too many recent mails.
    TooManyOfAccount,
    /// It was not, because too many mails wait to be sent.
    OutboxFull,
}

/// Stores a mail that is its own cause.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, mail: NewMail) -> Result<Stored, Error> {
    db.write(move |conn| Box::pin(async move { insert_within(conn, now, &mail).await })).await
}

/// Stores a mail within the transaction of its cause.
///
/// # Errors
/// If the database fails.
pub async fn insert_within(conn: &mut Conn, now: Timestamp, mail: &NewMail) -> Result<Stored, Error> {
    const INSERT: &str = "
        insert into mails (id, user_id, template, recipient, details, account_state, is_requested, state, attempts,
            next_attempt_at, last_error, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, 'pending', 0, $8, '', $8)";
    if mail.allowance != Allowance::Unlimited {
        if !is_below_limit(conn, now, mail).await? {
            return Ok(Stored::TooManyOfAccount);
        }
        if is_full(conn).await? {
            return Ok(Stored::OutboxFull);
        }
    }
    let values = args![
        mail.id,
        mail.user_id,
        mail.template.name(),
        &mail.recipient,
        serde_json::to_string(&mail.details).expect("a map of strings can be serialized"),
        &mail.account_state,
        mail.template.is_requested(),
        now,
    ];
    conn.execute(INSERT, values).await?;
    Ok(Stored::Yes)
}

/// Stores a mail, if there is one, within the transaction of its cause. The cause does not fail if the mail cannot be stored
/// because there are too many.
///
/// # Errors
/// If the database fails.
pub async fn insert_optional_within(conn: &mut Conn, now: Timestamp, mail: Option<&NewMail>) -> Result<(), Error> {
    let Some(mail) = mail else { return Ok(()) };
    match insert_within(conn, now, mail).await? {
        Stored::Yes => {}
        stored => tracing::warn!(user_id = %mail.user_id, ?stored, "dropped a mail"),
    }
    Ok(())
}

/// Reports whether the account may have one more mail.
async fn is_below_limit(conn: &mut Conn, now: Timestamp, mail: &NewMail) -> Result<bool, Error> {
    // The templates with an allowance of their own are named in the statement. `$3` is one of them, or empty.
    const COUNT: &str = "
        select count(*) from (
            select created_at from mails
            where user_id = $1 and is_requested = $2
                and case when template in ('ACCOUNT_EXISTS', 'RESET_PASSWORD', 'EMAIL_CHANGED') then template else '' end = $3
            order by id desc limit $4) latest
        where created_at > $5";
    // Serializes the transactions that count the mails of an account.
    conn.advisory_lock(account_lock(mail.user_id)).await?;
    let own_template = match mail.allowance {
        Allowance::Strangers(template) => template.name(),
        Allowance::Notices | Allowance::Requested | Allowance::Unlimited => "",
    };
    let values = args![mail.user_id, mail.template.is_requested(), own_template, MAX_MAILS, now - LIMIT_PERIOD];
    let recent: i64 = conn.fetch_one(COUNT, values).await?;
    Ok(recent < MAX_MAILS)
}

/// Reports whether too many mails wait. Concurrent transactions may exceed the limit by one each.
async fn is_full(conn: &mut Conn) -> Result<bool, Error> {
    const COUNT: &str = "select count(*) from (select 1 from mails where state = 'pending' limit $1) waiting";
    let waiting: i64 = conn.fetch_one(COUNT, args![MAX_PENDING]).await?;
    Ok(waiting >= MAX_PENDING)
}

/// Returns the advisory lock of the mails of an account. Two accounts may share one, which does no harm.
fn account_lock(user_id: Uuid) -> i64 {
    let (_, random) = user_id.as_u64_pair();
    random.cast_signed()
}

/// Reports whether a mail is due.
///
/// # Errors
/// If the database fails.
pub async fn has_due(db: &Db, now: Timestamp) -> Result<bool, Error> {
    const SELECT: &str = "select id from mails where state = 'pending' and next_attempt_at <= $1 limit 1";
    let due: Option<Uuid> = db.fetch_optional(SELECT, args![now]).await?;
    Ok(due.is_some())
}

/// Begins an attempt to send each of at most `limit` mails that are due. No other server begins one before `lease_end`.
///
/// # Errors
/// If the database fails.
pub async fn claim(db: &Db, now: Timestamp, lease_end: Timestamp, limit: usize) -> Result<Vec<Mail>, Error> {
    // The second condition is evaluated again if another server has claimed the mail at the same time.
    const UPDATE: &str = "
        update mails set next_attempt_at = $2, attempts = attempts + 1
        where id in (
                select id from mails where state = 'pending' and next_attempt_at <= $1
                order by next_attempt_at limit $3)
            and state = 'pending' and next_attempt_at <= $1
        returning id, user_id, template, recipient, details, account_state, attempts, created_at";
    let values = args![now, lease_end, i64::try_from(limit).unwrap_or(i64::MAX)];
    db.write(move |conn| Box::pin(async move { conn.fetch_all(UPDATE, values).await })).await
}

/// Records the outcome of an attempt. Has no effect if another server has begun the next one.
///
/// # Errors
/// If the database fails.
pub async fn record_outcome(db: &Db, mail: &Mail, outcome: &AttemptOutcome) -> Result<(), Error> {
    const UPDATE: &str = "
        update mails set state = $3, last_error = $4, next_attempt_at = coalesce($5, next_attempt_at)
        where id = $1 and attempts = $2 and state = 'pending'";
    let (state, error, next_attempt_at) = match outcome {
        AttemptOutcome::Sent => ("sent", "", None),
        AttemptOutcome::Retry { at, error } => ("pending", &error[..], Some(*at)),
        AttemptOutcome::Failed { error } => ("failed", &error[..], None),
        AttemptOutcome::Obsolete => ("obsolete", "", None),
    };
    db.execute(UPDATE, args![mail.id, mail.attempt, state, error, next_attempt_at]).await.map(drop)
}

/// Returns the number of mails that wait to be sent.
///
/// # Errors
/// If the database fails.
pub async fn count_pending(db: &Db) -> Result<i64, Error> {
    let count = db.fetch_optional("select count(*) from mails where state = 'pending'", args![]).await?;
    Ok(count.unwrap_or(0))
}

/// Deletes the mails of a deleted account, within the transaction that deletes it.
///
/// # Errors
/// If the database fails.
pub async fn delete_within(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    conn.execute("delete from mails where user_id = $1", args![user_id]).await.map(drop)
}

/// Deletes a batch of the mails that were stored before `stored_before`, and of those that were not sent and no longer count
/// against the limit of an account. Returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn purge(db: &Db, now: Timestamp, stored_before: Timestamp, limit: i64) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from mails where id in (
            select id from mails where created_at < $1 or (created_at < $2 and state = 'obsolete') limit $3)";
    db.execute(DELETE, args![stored_before, now - LIMIT_PERIOD, limit]).await.map(u64::cast_signed)
}
