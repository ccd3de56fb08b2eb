//! The second factors of an account, and their changes by its owner.

use std::sync::Arc;

use service_kit::{clock::Clock, db::Db, status::ApiError};
use uuid::Uuid;

use crate::{
    error,
    login::{attempts::PasswordAttempts, sessions::Sessions, token_issuer::TokenIssuer},
    mail::Mailer,
    model::{
        audit::Event,
        client_info::ClientInfo,
        factor::{Factor, FactorUse, SealedTotp},
        login_throttle::lock_duration,
        mail::{NewMail, Template},
        recovery_code::NewRecoveryCodes,
        totp::{TotpCode, TotpSecret},
        user::User,
    },
    store::{
        factors, recovery_codes,
        totp::{self, Confirmation, ConfirmationRecords, Insertion},
        users,
    },
};

/// The second factors of accounts.
pub struct Factors {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) passwords: Arc<PasswordAttempts>,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) mailer: Arc<Mailer>,
}

impl Factors {
    /// Creates the secret of an authenticator app, which is not a factor yet.
    ///
    /// # Errors
    /// QUOTA_EXCEEDED or USER_NOT_FOUND.
    pub async fn create_totp(&self, user_id: Uuid, label: String) -> Result<(Uuid, TotpSecret), ApiError> {
        let (id, secret, keys) = (self.clock.new_id(), TotpSecret::random(), self.issuer.refresh_keys.current());
        let sealed = SealedTotp::seal(&keys, id, user_id, &secret);
        match totp::insert(&self.db, self.clock.now(), sealed, label, keys.first().id()).await? {
            Insertion::Inserted => Ok((id, secret)),
            Insertion::TooMany => Err(error::too_many_factors()),
            Insertion::NoAccount => Err(error::user_not_found()),
        }
    }

    /// Makes an authenticator app a factor, if the code is correct. Returns new recovery codes if it is the only factor.
    ///
    /// # Errors
    /// FACTOR_NOT_FOUND, CODE_INVALID, RATE_LIMITED or QUOTA_EXCEEDED.
    pub async fn confirm_totp(
        &self,
        user: &User,
        (id, code): (Uuid, TotpCode),
        event: Event,
        sessions: &Sessions,
    ) -> Result<(Factor, Vec<String>), ApiError> {
        let Self { db, clock, passwords, issuer, mailer } = self;
        let (now, keys) = (clock.now(), issuer.refresh_keys.current());
        let sealed = totp::unconfirmed(db, now, user.id, id).await?.ok_or_else(error::factor_not_found)?;
        let attempt = passwords.permit(&user.email, &event.client).await?;
        let Some(FactorUse::Totp { step, .. }) = sealed.accept(&keys, &code, now) else {
            return Err(sessions.refuse_code_of_owner(user.id, &attempt, &event).await?);
        };
        let NewRecoveryCodes { codes, hashes } = NewRecoveryCodes::random();
        let notice = self.notice(user, &event.client);
        let records = ConfirmationRecords { recovery_codes: hashes, attempt: attempt.attempt.clone(), event, notice };
        let confirmed = totp::confirm(db, now, (user.id, id, step), records).await?;
        mailer.wake();
        match confirmed {
            Confirmation::Confirmed(factor, is_first) => Ok((factor, if is_first { codes } else { Vec::new() })),
            Confirmation::Gone => Err(error::factor_not_found()),
            Confirmation::TooMany => Err(error::too_many_factors()),
            Confirmation::Throttled => Err(error::too_many_wrong_passwords(lock_duration(now))),
        }
    }

    /// Deletes a factor, and the recovery codes with the last one.
    ///
    /// # Errors
    /// FACTOR_NOT_FOUND.
    pub async fn delete(&self, user: &User, id: Uuid, event: Event) -> Result<(), ApiError> {
        let notice = self.notice(user, &event.client);
        let deleted = factors::delete(&self.db, self.clock.now(), (user.id, id), (event, notice)).await?;
        self.mailer.wake();
        if deleted { Ok(()) } else { Err(error::factor_not_found()) }
    }

    /// Replaces the recovery codes, and returns them.
    ///
    /// # Errors
    /// FACTOR_NOT_FOUND if the account has no factor.
    pub async fn regenerate_recovery_codes(&self, user: &User, event: Event) -> Result<Vec<String>, ApiError> {
        let NewRecoveryCodes { codes, hashes } = NewRecoveryCodes::random();
        let notice = self.notice(user, &event.client);
        let records = (event, notice);
        let replaced = recovery_codes::replace(&self.db, self.clock.now(), user.id, hashes, records).await?;
        self.mailer.wake();
        if replaced { Ok(codes) } else { Err(error::factor_not_found()) }
    }

    /// Deletes all factors and recovery codes of an account, for an administrator. Returns the number of factors.
    ///
    /// # Errors
    /// USER_NOT_FOUND.
    pub async fn delete_all(&self, user_id: Uuid, event: Event) -> Result<i64, ApiError> {
        let user = users::by_id(&self.db, user_id).await?.ok_or_else(error::user_not_found)?;
        let notice = self.notice(&user, &event.client);
        let deleted = factors::delete_all(&self.db, self.clock.now(), user_id, (event, notice)).await?;
        self.mailer.wake();
        Ok(deleted)
    }

    fn notice(&self, user: &User, client: &ClientInfo) -> Option<NewMail> {
        self.mailer.notice(Template::FactorChanged, user, client)
    }
}
