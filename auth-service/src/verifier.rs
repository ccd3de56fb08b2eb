//! Authenticates verifiers: services with a service token, and callers with the role `verifier`.

use std::time::Duration;

use service_kit::{
    auth::{
        credential::ROLE_VERIFIER,
        interceptor::{Caller, bearer},
        token::TokenError,
    },
    status::ApiError,
};
use tonic::metadata::MetadataMap;

use crate::{
    app::App,
    model::service_token::{Scope, ServiceTokenHash},
};

/// How often the service token of an open stream is checked.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// An authenticated verifier.
#[derive(Clone, Debug)]
pub enum Verifier {
    /// Authenticated by an access token.
    Caller(Caller),
    /// Authenticated by a service token.
    Service(ServiceTokenHash),
}

impl App {
    /// Authenticates the verifier that makes a call.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason, PERMISSION_DENIED without the role or the scope, or UNAVAILABLE if the token
    /// cannot be checked.
    pub async fn authenticate_verifier(&self, headers: &MetadataMap) -> Result<Verifier, ApiError> {
        let Some(hash) = ServiceTokenHash::from_token(bearer(headers)?) else {
            let caller = self.authenticator.authenticate(headers)?;
            caller.require_role(ROLE_VERIFIER)?;
            return Ok(Verifier::Caller(caller));
        };
        self.service_tokens.require_scope(&hash, Scope::TokensVerify).await?;
        Ok(Verifier::Service(hash))
    }

    /// Waits until the token of a verifier is no longer valid. Returns the error with which its stream ends.
    pub async fn verifier_invalidated(&self, verifier: Verifier) -> ApiError {
        match verifier {
            Verifier::Caller(caller) => self.authenticator.wait_until_invalid(&caller).await,
            Verifier::Service(hash) => loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                // Errors are ignored: while the database cannot be read, the stream receives no revocations anyway.
                if let Ok(None) = self.service_tokens.reloaded_scopes(&hash).await {
                    return TokenError::Invalid.into();
                }
            },
        }
    }
}
