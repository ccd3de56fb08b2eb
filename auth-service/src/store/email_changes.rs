//! Changes of the email addresses of accounts, which mails confirm. While a change can be undone, no other account gets the
//! earlier address.

use aws_lc_rs::digest;
use service_kit::{
    args,
    clock::{Clock, Timestamp},
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::{
    audit, factors, login_attempts, mails,
    revocations::{RevocationReason, SessionSelector, revoke_within},
};
use crate::model::{
    audit::{Actor, Event, Kind},
    login_throttle::address_key,
    mail::{NewMail, Template},
    user::Credentials,
};

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailChange {
    /// The address was changed.
    Changed,
    /// The account was changed after it was read.
    Stale,
    /// Another account has the address, or had it before a change that can be undone.
    Taken,
}

/// What is stored together with a change: the event, and the mail about it.
pub type Records = (Event, Option<NewMail>);

/// Changes the address of an account, which is then verified.
///
/// # Errors
/// If the database fails.
pub async fn change(
    db: &Db,
    now: Timestamp,
    account: Credentials,
    email: String,
    records: Records,
) -> Result<EmailChange, Error> {
    const UPDATE: &str = "
        update users set email = $4, email_verified = true, email_version = email_version + 1,
            updated_at = case when updated_at >= $5 then updated_at + 1 else $5 end
        where id = $1 and email_version = $2 and password_version = $3 and not disabled
            and not exists (select 1 from users others where others.email = $4)
            and not exists (
                select 1 from mails
                where template = 'EMAIL_CHANGED' and recipient = $4 and user_id <> $1 and account_state <> ''
                    and mails.created_at > $6)";
    let changed = db.write(move |conn| {
        Box::pin(async move {
            let (user_id, undoable) = (account.user.id, undoable_since(now));
            lock_addresses_within(conn, &[&account.user.email, &email]).await?;
            let values = args![user_id, account.email_version, account.password_version, &email, now, undoable];
            if conn.execute(UPDATE, values).await? == 0 {
                return refusal(conn, now, user_id, &email).await;
            }
            login_attempts::move_within(conn, &address_key(&account.user.email), &address_key(&email)).await?;
            record(conn, now, user_id, records).await
        })
    });
    or_taken(changed.await)
}

/// What is restored when a change is undone, and what is stored together with it.
pub struct Undo {
    /// The earlier address.
    pub email: String,
    /// The hash of an unknown password.
    pub password_hash: String,
    /// Factors that were added after this time are deleted.
    pub factors_since: Timestamp,
    /// The event.
    pub event: Event,
    /// The mail with which to choose a new password.
    pub reset: Option<NewMail>,
    /// The notice about deleted factors.
    pub factors_changed: Option<NewMail>,
}

/// Restores the address of an account, which is then verified. Replaces the password hash, deletes recently added factors, and
/// revokes all sessions, also those of personal access tokens. Links that undo this change, or later ones, are void
/// afterwards.
///
/// # Errors
/// If the database fails.
pub async fn undo(db: &Db, clock: &Clock, account: Credentials, undo: Undo) -> Result<EmailChange, Error> {
    const UPDATE: &str = "
        update users set email = $3, email_verified = true, email_version = email_version + 1,
            password_hash = $4, password_version = password_version + 1,
            updated_at = case when updated_at >= $5 then updated_at + 1 else $5 end
        where id = $1 and email_version = $2 and not disabled
            and not exists (select 1 from users others where others.email = $3 and others.id <> $1)";
    let clock = clock.clone();
    let undone = db.write(move |conn| {
        Box::pin(async move {
            let (now, user_id, email) = (clock.now(), account.user.id, undo.email.clone());
            let values = args![user_id, account.email_version, &email, undo.password_hash.clone(), now];
            if conn.execute(UPDATE, values).await? == 0 {
                return refusal(conn, now, user_id, &email).await;
            }
            if account.user.email != email {
                login_attempts::move_within(conn, &address_key(&account.user.email), &address_key(&email)).await?;
            }
            void_links_within(conn, user_id, &email).await?;
            let selector = SessionSelector::AllOfUser { user_id, except: None };
            revoke_within(conn, now, selector, RevocationReason::Requested).await?;
            delete_factors(conn, &clock, user_id, undo).await
        })
    });
    or_taken(undone.await)
}

/// Deletes the recently added factors of an account whose address was restored, and stores the records of both.
async fn delete_factors(conn: &mut Conn, clock: &Clock, user_id: Uuid, undo: Undo) -> Result<EmailChange, Error> {
    let Undo { factors_since, mut event, reset, factors_changed, .. } = undo;
    let now = clock.now();
    let deleted = factors::delete_since_within(conn, user_id, factors_since).await?;
    for id in &deleted.ids {
        let deletion = Event::new(clock, Kind::FactorDeleted, Actor::Owner, None, event.client.clone());
        audit::insert(conn, now, user_id, &deletion.with_detail("factor_id", id)).await?;
    }
    if deleted.recovery_codes > 0 {
        event = event.with_detail("deleted_recovery_codes", &deleted.recovery_codes);
    }
    if !deleted.ids.is_empty() || deleted.recovery_codes > 0 {
        mails::insert_optional_within(conn, now, factors_changed.as_ref()).await?;
    }
    record(conn, now, user_id, (event, reset)).await
}

async fn record(conn: &mut Conn, now: Timestamp, user_id: Uuid, (event, mail): Records) -> Result<EmailChange, Error> {
    audit::insert(conn, now, user_id, &event).await?;
    mails::insert_optional_within(conn, now, mail.as_ref()).await?;
    Ok(EmailChange::Changed)
}

/// Makes links void that undo changes of the address, after the owner of `email` has recovered the account: those to this
/// address, and those to addresses that the account had later. Links to earlier addresses remain valid. Otherwise, a thief
/// who changes the address twice could undo the second change, to make the owner's link void.
///
/// # Errors
/// If the database fails.
pub async fn void_links_within(conn: &mut Conn, user_id: Uuid, email: &str) -> Result<(), Error> {
    const UPDATE: &str = "
        update mails set account_state = '', state = case when state = 'pending' then 'obsolete' else state end
        where user_id = $1 and template = 'EMAIL_CHANGED' and account_state <> '' and id >= (
            select earliest.id from mails earliest
            where earliest.user_id = $1 and earliest.template = 'EMAIL_CHANGED' and earliest.recipient = $2
            order by earliest.id limit 1)";
    conn.execute(UPDATE, args![user_id, email]).await.map(drop)
}

/// Returns why no row was updated.
async fn refusal(conn: &mut Conn, now: Timestamp, user_id: Uuid, email: &str) -> Result<EmailChange, Error> {
    let owner: Option<Uuid> = conn.fetch_optional(OWNER, args![email, undoable_since(now)]).await?;
    Ok(if owner.is_some_and(|owner| owner != user_id) { EmailChange::Taken } else { EmailChange::Stale })
}

/// Returns the account that has the address `$1`, or had it before a change after `$2` that can be undone.
pub const OWNER: &str = "
    select id from users where email = $1
    union all
    select user_id from mails
    where template = 'EMAIL_CHANGED' and recipient = $1 and account_state <> '' and mails.created_at > $2
    limit 1";

/// Returns the time after which a change must have happened so that it can be undone.
#[must_use]
pub fn undoable_since(now: Timestamp) -> Timestamp {
    now - Template::EmailChanged.lifetime()
}

/// Reports whether an account has an address, or had it before a change that can be undone.
///
/// # Errors
/// If the database fails.
pub async fn is_taken(db: &Db, now: Timestamp, email: &str) -> Result<bool, Error> {
    let owner: Option<Uuid> = db.fetch_optional(OWNER, args![email, undoable_since(now)]).await?;
    Ok(owner.is_some())
}

/// Serializes the transactions that give an address to an account or take it away. Without this, one that gives it to
/// another account could wait for the unique constraint, and then not see that the change can be undone.
///
/// # Errors
/// If the database fails.
pub async fn lock_addresses_within(conn: &mut Conn, emails: &[&str]) -> Result<(), Error> {
    let mut keys: Vec<_> = emails.iter().map(|email| address_lock(email)).collect();
    // The order is the same in all transactions, so that they do not deadlock.
    keys.sort_unstable();
    for key in keys {
        conn.advisory_lock(key).await?;
    }
    Ok(())
}

/// Returns the advisory lock of an address. Two addresses may share one, which does no harm.
fn address_lock(email: &str) -> i64 {
    let digest = digest::digest(&digest::SHA256, email.as_bytes());
    i64::from_be_bytes(*digest.as_ref().first_chunk().expect("SHA-256 digests have 32 bytes"))
}

/// The unique constraint decides if an account was created with the address at the same time.
fn or_taken(changed: Result<EmailChange, Error>) -> Result<EmailChange, Error> {
    match changed {
        Err(error) if error.is_unique_violation() => Ok(EmailChange::Taken),
        changed => changed,
    }
}
