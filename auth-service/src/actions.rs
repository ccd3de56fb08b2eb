//! What the links and the codes in mails do.

use std::{sync::Arc, time::Duration};

use service_kit::{clock::Clock, db::Db, ops::secret_file::Key, status::ApiError};
use zeroize::Zeroizing;

use crate::{
    error,
    feed::FeedHandle,
    login::{attempts::PasswordAttempts, token_issuer::TokenIssuer},
    mail::Mailer,
    model::{
        action_token::{Action, Code, UnverifiedToken},
        audit::{Event, unknown_user_id},
        client_info::ClientInfo,
        email::Email,
        mail::{Details, NEW_EMAIL, NewMail, OLD_EMAIL, Template},
        password::{Password, Rules},
        user::Credentials,
    },
    store::{
        accounts,
        email_changes::{self, EmailChange, Undo},
        mail_actions::{self, MailedAction},
        mails::{self, Stored},
        users,
    },
};

/// When a change of the address is undone, factors are deleted that were younger than this at the change. A thief of the
/// password may have added them.
const FACTOR_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What proves that a caller has received a mail.
pub enum Proof {
    /// The token in the link.
    Token(UnverifiedToken),
    /// The code, and the address of the account.
    Code {
        /// The address.
        email: Email,
        /// The code.
        code: Code,
    },
}

impl Proof {
    /// Returns the error for a proof that is not valid, or no longer.
    fn rejection(&self) -> ApiError {
        match self {
            Self::Token(_) => error::action_token_invalid(),
            Self::Code { .. } => error::code_invalid(),
        }
    }
}

/// Requests mails, and does what their links and codes are for.
pub struct Actions {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) feed: FeedHandle,
    pub(crate) passwords: Arc<PasswordAttempts>,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) mailer: Arc<Mailer>,
    /// Minimum length of new passwords, in characters.
    pub(crate) password_min_length: usize,
}

impl Actions {
    /// Stores a mail with which the caller can verify the address of an account. Does nothing if it is verified already.
    ///
    /// # Errors
    /// MAIL_DISABLED, RATE_LIMITED or OVERLOADED.
    pub async fn request_verification(&self, account: &Credentials, client: &ClientInfo) -> Result<(), ApiError> {
        let mail = self.mailer.action(Template::VerifyEmail, account, client).ok_or_else(error::mail_disabled)?;
        if account.user.email_verified {
            return Ok(());
        }
        self.store(mail).await
    }

    /// Stores a mail with which the owner of an address can reset the password of the account. Without an account, stores
    /// a mail that is not sent, so that the response is the same and takes the same time.
    ///
    /// # Errors
    /// MAIL_DISABLED or OVERLOADED.
    pub async fn request_password_reset(&self, email: Email, client: &ClientInfo) -> Result<(), ApiError> {
        let account = users::credentials_by_email(&self.db, &email).await?.filter(|account| !account.user.disabled);
        let account = account.unwrap_or_else(|| Credentials::unknown(&email, self.clock.now()));
        let mail = self.mailer.action(Template::ResetPassword, &account, client).ok_or_else(error::mail_disabled)?;
        let stored = mails::insert(&self.db, self.clock.now(), mail).await?;
        self.mailer.wake();
        // Too many mails of an account are no error, which would reveal that others have requested some.
        if stored == Stored::OutboxFull { Err(error::outbox_full()) } else { Ok(()) }
    }

    /// Marks the address of an account as verified.
    ///
    /// # Errors
    /// ACTION_TOKEN_INVALID, CODE_INVALID or RATE_LIMITED.
    pub async fn verify_email(&self, proof: Proof, event: Event) -> Result<(), ApiError> {
        let MailedAction { account, .. } = self.accept(Template::VerifyEmail, &proof, &event.client).await?;
        let verified = mail_actions::verify_email(&self.db, self.clock.now(), account, event).await?;
        if verified { Ok(()) } else { Err(proof.rejection()) }
    }

    /// Sets a new password, ends all sessions and lifts the delays after wrong passwords.
    ///
    /// # Errors
    /// ACTION_TOKEN_INVALID, CODE_INVALID, PASSWORD_REJECTED, RATE_LIMITED or OVERLOADED.
    pub async fn reset_password(
        &self,
        proof: Proof,
        mut new_password: Zeroizing<String>,
        event: Event,
    ) -> Result<(), ApiError> {
        let MailedAction { account, .. } = self.accept(Template::ResetPassword, &proof, &event.client).await?;
        let rules = Rules {
            min_length: self.password_min_length,
            email: &account.user.email,
            display_name: &account.user.display_name,
        };
        let password = Password::new(std::mem::take(&mut *new_password), rules);
        let password = password.map_err(|violation| error::password_rejected("new_password", &violation))?;
        let permit = self.passwords.hashing.acquire(event.client.rate_limit_key()).await?;
        let new_hash = self.passwords.hashing.hash(permit, password).await?;
        let notice = self.mailer.notice(Template::PasswordChanged, &account.user, &event.client);
        let reset = accounts::reset_password(&self.db, self.clock.now(), account, new_hash, (event, notice)).await;
        self.feed.wake();
        self.mailer.wake();
        if reset? { Ok(()) } else { Err(proof.rejection()) }
    }

    /// Stores a mail to a new address with which the caller can change the address of an account to it.
    ///
    /// # Errors
    /// MAIL_DISABLED, RATE_LIMITED or OVERLOADED.
    pub async fn request_email_change(
        &self,
        account: &Credentials,
        new_email: &Email,
        client: &ClientInfo,
    ) -> Result<(), ApiError> {
        let details = Details::from([(NEW_EMAIL.to_owned(), new_email.as_str().to_owned())]);
        let mail = self.mailer.action_with(Template::ConfirmEmailChange, account, client, details);
        self.store(mail.ok_or_else(error::mail_disabled)?).await
    }

    /// Changes the address of an account to a new one, which is then verified.
    ///
    /// # Errors
    /// ACTION_TOKEN_INVALID, CODE_INVALID, EMAIL_TAKEN or RATE_LIMITED.
    pub async fn confirm_email_change(&self, proof: Proof, event: Event) -> Result<(), ApiError> {
        let MailedAction { account, details, .. } =
            self.accept(Template::ConfirmEmailChange, &proof, &event.client).await?;
        let new_email = details.get(NEW_EMAIL).cloned().unwrap_or_default();
        let changed = account.with_email(new_email.clone());
        let details = Details::from([(OLD_EMAIL.to_owned(), account.user.email.clone())]);
        let notice = self.mailer.action_with(Template::EmailChanged, &changed, &event.client, details);
        let now = self.clock.now();
        let outcome = email_changes::change(&self.db, now, account, new_email, (event, notice)).await?;
        self.mailer.wake();
        finish(outcome, &proof)
    }

    /// Restores the earlier address of an account, ends all sessions, deletes the factors that were added shortly before the
    /// change or later, and stores a mail with which its owner can choose a new password. The current one becomes invalid,
    /// because the client that changed the address knew it, and may have added factors.
    ///
    /// # Errors
    /// ACTION_TOKEN_INVALID, EMAIL_TAKEN or OVERLOADED.
    pub async fn undo_email_change(&self, proof: Proof, event: Event) -> Result<(), ApiError> {
        let MailedAction { account, details, created_at, .. } =
            self.accept(Template::EmailChanged, &proof, &event.client).await?;
        let email = details.get(OLD_EMAIL).cloned().unwrap_or_default();
        let unknown_password = Password::existing(Key::random().encode().to_string()).map_err(ApiError::internal)?;
        let permit = self.passwords.hashing.acquire(event.client.rate_limit_key()).await?;
        let password_hash = self.passwords.hashing.hash(permit, unknown_password).await?;
        let restored =
            Credentials { password_version: account.password_version + 1, ..account.with_email(email.clone()) };
        let reset = self.mailer.action(Template::ResetPassword, &restored, &event.client).map(NewMail::unlimited);
        let notice = self.mailer.notice(Template::FactorChanged, &restored.user, &event.client);
        let undo = Undo {
            email,
            password_hash,
            factors_since: created_at - FACTOR_AGE,
            event,
            reset,
            factors_changed: notice.map(NewMail::unlimited),
        };
        let undone = email_changes::undo(&self.db, &self.clock, account, undo).await;
        self.feed.wake();
        self.mailer.wake();
        finish(undone?, &proof)
    }

    /// Stores a requested mail.
    async fn store(&self, mail: NewMail) -> Result<(), ApiError> {
        let stored = mails::insert(&self.db, self.clock.now(), mail).await?;
        self.mailer.wake();
        match stored {
            Stored::Yes => Ok(()),
            Stored::TooManyOfAccount => Err(error::too_many_mails()),
            Stored::OutboxFull => Err(error::outbox_full()),
        }
    }

    /// Returns the mail that a proof belongs to.
    async fn accept(&self, template: Template, proof: &Proof, client: &ClientInfo) -> Result<MailedAction, ApiError> {
        match proof {
            Proof::Token(token) => {
                let found = mail_actions::by_mail_id(&self.db, token.mail_id).await?;
                let found = found.and_then(|found| self.if_valid(found, template));
                let keys = self.issuer.refresh_keys.current();
                let found = found.filter(|(_, action)| action.accepts_token(&keys, token));
                found.map(|(found, _)| found).ok_or_else(|| proof.rejection())
            }
            Proof::Code { email, code } => self.accept_code(template, email, code, client).await,
        }
    }

    /// Returns the latest mail of an account if a code belongs to it. Wrong codes count as wrong passwords, also for an
    /// address without an account, where the call takes the same time.
    async fn accept_code(
        &self,
        template: Template,
        email: &Email,
        code: &Code,
        client: &ClientInfo,
    ) -> Result<MailedAction, ApiError> {
        let attempt = self.passwords.permit(email.as_str(), client).await?;
        let account = users::credentials_by_email(&self.db, email).await?;
        let user_id = account.map_or_else(|| unknown_user_id(email), |account| account.user.id);
        let found = mail_actions::latest(&self.db, user_id, template).await?;
        let found = found.and_then(|found| self.if_valid(found, template));
        let keys = self.issuer.refresh_keys.current();
        let Some((found, _)) = found.filter(|(_, action)| action.accepts_code(&keys, code)) else {
            self.passwords.record_failure(&attempt).await?;
            return Err(error::code_invalid());
        };
        self.passwords.record_success(&attempt).await?;
        Ok(found)
    }

    /// Returns a mail and what its secrets depend on if its link does what `template` is for, and has not expired.
    fn if_valid(&self, found: MailedAction, template: Template) -> Option<(MailedAction, Action)> {
        if found.template != Some(template) || self.clock.now() >= found.created_at + template.lifetime() {
            return None;
        }
        let account_state = found.current_state(template)?;
        let action = Action { mail_id: found.mail_id, template, account_state };
        Some((found, action))
    }
}

fn finish(outcome: EmailChange, proof: &Proof) -> Result<(), ApiError> {
    match outcome {
        EmailChange::Changed => Ok(()),
        EmailChange::Stale => Err(proof.rejection()),
        EmailChange::Taken => Err(error::email_taken()),
    }
}
