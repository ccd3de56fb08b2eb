//! Logins with a passkey instead of a password.

use service_kit::{auth::authentication::AuthMethods, status::ApiError};
use taskey_proto::auth::v1::TokenPair;

use super::{attempts::PermittedAttempt, second_factor::VerifiedLogin, sessions::Sessions};
use crate::{
    error,
    model::{client_info::ClientInfo, passkey_challenge::Use},
    store::users,
    webauthn::{rejection::Rejection, response::Assertion},
};

impl Sessions {
    /// Starts a session with a passkey instead of a password. Other logins to the account are not throttled by this, nor
    /// the reverse: signatures cannot be guessed.
    ///
    /// # Errors
    /// PASSKEY_INVALID, PASSKEYS_DISABLED or EMAIL_UNVERIFIED.
    pub async fn begin_with_passkey(
        &self,
        response: &Assertion,
        label: String,
        client: ClientInfo,
    ) -> Result<TokenPair, ApiError> {
        let (user_id, used) = self.passkeys.verify(response, Use::Login, &client).await?;
        let credentials = users::credentials_by_id(&self.db, user_id).await?.filter(|account| !account.user.disabled);
        let credentials = credentials.ok_or_else(|| error::passkey_invalid(Rejection::WrongCredential))?;
        if self.requires_verified_email && !credentials.user.email_verified {
            return self.refuse_unverified(&credentials, &client).await;
        }
        let (email, address) = (credentials.user.email.clone(), client.address);
        let attempt = PermittedAttempt::unthrottled(self.passwords.is_known_network(&email, address).await?);
        let login = VerifiedLogin { credentials, methods: AuthMethods::default(), label, client, attempt };
        let pair = self.start(login, Some(used), None).await?;
        self.passwords.record_use(&email, address).await;
        Ok(pair)
    }
}
