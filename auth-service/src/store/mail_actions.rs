//! The mails with links and codes, and the accounts that these change.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error, FromRow, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::{
    audit::Event,
    mail::{Details, Template, account_state, parse_details},
    user::Credentials,
};

/// A mail, and its account as it is now.
#[derive(Clone)]
pub struct MailedAction {
    /// The mail.
    pub mail_id: Uuid,
    /// What the mail is about. `None` if only newer servers have this template.
    pub template: Option<Template>,
    /// The details of the mail.
    pub details: Details,
    /// The state of the account when the mail was stored. Empty if the link is void, or there is none.
    pub account_state: String,
    /// When the mail was stored.
    pub created_at: Timestamp,
    /// Whether the account has no later mail with this template.
    pub is_latest: bool,
    /// The account.
    pub account: Credentials,
}

impl MailedAction {
    /// Returns the state of the account that the link of the mail depends on, as it is now. Returns `None` if the link is
    /// void: the account is disabled, a later mail replaces this one, or a change can no longer be undone.
    #[must_use]
    pub fn current_state(&self, template: Template) -> Option<String> {
        let is_replaced = template.replaces_earlier() && !self.is_latest;
        let state = if template == Template::EmailChanged {
            // The link remains valid when the address is changed again, until `email_changes` deletes this state.
            self.account_state.clone()
        } else {
            account_state(template, &self.account, &self.details)
        };
        (!self.account.user.disabled && !is_replaced && !state.is_empty()).then_some(state)
    }
}

impl FromRow for MailedAction {
    /// Reads `mails.id, template, details, account_state, mails.created_at`, whether it is the latest mail, and the columns
    /// of [`Credentials`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            mail_id: row.next()?,
            template: Template::from_name(row.next_text()?),
            details: parse_details(row.next_text()?),
            account_state: row.next()?,
            created_at: row.next()?,
            is_latest: row.next()?,
            account: Credentials::from_row(row)?,
        })
    }
}

/// Returns the mail with an id.
///
/// # Errors
/// If the database fails.
pub async fn by_mail_id(db: &Db, mail_id: Uuid) -> Result<Option<MailedAction>, Error> {
    const SELECT: &str = "
        select mails.id, template, details, account_state, mails.created_at,
            not exists (
                select 1 from mails later
                where later.user_id = mails.user_id and later.template = mails.template and later.id > mails.id),
            users.id, email, display_name, email_verified, roles, disabled, users.created_at, updated_at, password_hash,
            password_version, email_version
        from mails join users on users.id = mails.user_id
        where mails.id = $1";
    db.fetch_optional(SELECT, args![mail_id]).await
}

/// Returns the latest mail of an account with this template.
///
/// # Errors
/// If the database fails.
pub async fn latest(db: &Db, user_id: Uuid, template: Template) -> Result<Option<MailedAction>, Error> {
    const SELECT: &str = "
        select mails.id, template, details, account_state, mails.created_at, true, users.id, email, display_name,
            email_verified, roles, disabled, users.created_at, updated_at, password_hash, password_version, email_version
        from mails join users on users.id = mails.user_id
        where mails.user_id = $1 and template = $2
        order by mails.id desc limit 1";
    db.fetch_optional(SELECT, args![user_id, template.name()]).await
}

/// Marks the address of an account as verified. Returns false if the account was changed after it was read.
///
/// # Errors
/// If the database fails.
pub async fn verify_email(db: &Db, now: Timestamp, account: Credentials, event: Event) -> Result<bool, Error> {
    const UPDATE: &str = "
        update users set email_verified = true,
            updated_at = case when updated_at >= $3 then updated_at + 1 else $3 end
        where id = $1 and email_version = $2 and not email_verified and not disabled";
    db.write(move |conn| {
        Box::pin(async move {
            let user_id = account.user.id;
            let verified = conn.execute(UPDATE, args![user_id, account.email_version, now]).await? > 0;
            if verified {
                audit::insert(conn, now, user_id, &event).await?;
            }
            Ok(verified)
        })
    })
    .await
}
