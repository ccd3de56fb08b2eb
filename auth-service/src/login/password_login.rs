//! Logins with a password.

use service_kit::{
    auth::authentication::{AuthMethod, AuthMethods},
    status::ApiError,
};
use taskey_proto::auth::v1::TokenPair;

use super::{hasher::Comparison, second_factor::VerifiedLogin, sessions::Sessions};
use crate::{
    error,
    model::{
        audit::{Actor, Event, Kind, unknown_user_id},
        client_info::ClientInfo,
        email::Email,
        factor::SecondFactor,
        mail::Template,
        password::Password,
        totp::TotpCode,
        user::Credentials,
    },
    store::{audit, factors, mails, sessions, users},
};

/// A validated login request.
pub struct Login {
    pub(crate) email: Email,
    pub(crate) password: Password,
    pub(crate) label: String,
    pub(crate) totp_code: Option<TotpCode>,
}

impl Sessions {
    /// Checks the password and starts a session. If the account has a second factor, returns a challenge instead, unless one
    /// is an authenticator app and the login contains a code.
    ///
    /// # Errors
    /// CREDENTIALS_INVALID, CODE_INVALID, RATE_LIMITED, or OVERLOADED.
    pub async fn begin(&self, login: Login, client: ClientInfo) -> Result<TokenPair, ApiError> {
        let Self { db, clock, .. } = self;
        let credentials = users::credentials_by_email(db, &login.email).await?;
        let has_account = credentials.is_some();
        // From here on, a disabled account is treated like an unknown one. Its hash may have another cost than that for
        // unknown accounts, so the response time would reveal it.
        let credentials = credentials.filter(|found| !found.user.disabled);
        let stored_hash = credentials.as_ref().map(|found| found.password_hash.clone());
        let is_unverified = self.is_unverified_sign_up(&login.email, credentials.as_ref()).await?;
        let compared = self.passwords.compare(login.email.as_str(), &client, login.password, stored_hash);
        let (comparison, attempt) = compared.await?;
        let is_refused = comparison == Comparison::Different || is_unverified;
        let Some(credentials) = credentials.filter(|_| !is_refused) else {
            // Failed logins of unknown accounts are stored, too. Otherwise the response time would reveal which exist.
            let failed = Event::new(clock, Kind::LoginFailed, Actor::Unknown, None, client);
            let audit = audit::failed_login(db, clock.now(), login.email, has_account, failed);
            // The two writes run concurrently, to share a commit. `join!` completes both even if one fails.
            let (recorded, audited) = tokio::join!(self.passwords.record_failure(&attempt), audit);
            recorded?;
            audited?;
            return Err(self.credentials_invalid());
        };
        if self.requires_verified_email && !credentials.user.email_verified {
            self.passwords.record_success(&attempt).await?;
            return self.refuse_unverified(&credentials, &client).await;
        }
        let available = factors::available(db, credentials.user.id).await?;
        let rehash = self.passwords.rehash(credentials.user.id, credentials.password_hash.clone(), comparison);
        let methods = AuthMethods::default().with(AuthMethod::Password);
        let verified = VerifiedLogin { credentials, methods, label: login.label, client, attempt };
        let start = async {
            match login.totp_code.filter(|_| available.totp > 0) {
                Some(code) => self.start_with_factor(verified, SecondFactor::TotpCode(code), None).await,
                None if available.is_required() => self.challenge(verified, available).await,
                None => self.start(verified, None, None).await,
            }
        };
        // The writes run concurrently, to share a commit.
        tokio::join!(start, rehash).0
    }

    /// Reports whether an account was created by a sign-up, but its address was never verified, although the server requires
    /// this. A login to it is refused like one with a wrong password. Otherwise, those who sign up with an address, and then
    /// log in with the same password, would learn whether the address had an account before. Accounts that have a session
    /// are from before the server required verified addresses. The query is the same for unknown addresses.
    async fn is_unverified_sign_up(&self, email: &Email, account: Option<&Credentials>) -> Result<bool, ApiError> {
        if !self.requires_verified_email {
            return Ok(false);
        }
        let user_id = account.map_or_else(|| unknown_user_id(email), |account| account.user.id);
        let has_session = sessions::exists(&self.db, user_id).await?;
        Ok(account.is_some_and(|account| !account.user.email_verified) && !has_session)
    }

    fn credentials_invalid(&self) -> ApiError {
        if self.requires_verified_email {
            error::credentials_invalid_or_unverified()
        } else {
            error::credentials_invalid()
        }
    }

    /// Sends a mail with which the address of an account can be verified, and returns the error.
    pub(super) async fn refuse_unverified(
        &self,
        account: &Credentials,
        client: &ClientInfo,
    ) -> Result<TokenPair, ApiError> {
        if let Some(mail) = self.mailer.action(Template::VerifyEmail, account, client) {
            mails::insert(&self.db, self.clock.now(), mail).await?;
            self.mailer.wake();
        }
        Err(error::email_unverified())
    }
}
