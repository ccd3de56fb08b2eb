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

use crate::{app::App, model::service_token::Hash, store::service_tokens};

/// How often the service token of an open stream is checked.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// An authenticated verifier.
#[derive(Clone, Debug)]
pub enum Verifier {
    /// Authenticated by an access token.
    Caller(Caller),
    /// Authenticated by a service token.
    Service(Hash),
}

impl App {
    /// Authenticates the verifier that calls.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason, PERMISSION_DENIED without the role, or UNAVAILABLE if the token cannot be
    /// checked.
    pub async fn verifier(&self, headers: &MetadataMap) -> Result<Verifier, ApiError> {
        let Some(hash) = Hash::from_token(bearer(headers)?) else {
            let caller = self.authenticator.authenticate(headers)?;
            caller.require_role(ROLE_VERIFIER)?;
            return Ok(Verifier::Caller(caller));
        };
        match service_tokens::name(&self.db, &hash).await? {
            Some(name) => {
                tracing::debug!(name, "authenticated a service by its token");
                Ok(Verifier::Service(hash))
            }
            None => Err(TokenError::Invalid.into()),
        }
    }

    /// Waits until the token of a verifier is no longer valid. Returns the error with which its stream ends.
    pub async fn verifier_invalidated(&self, verifier: Verifier) -> ApiError {
        match verifier {
            Verifier::Caller(caller) => self.authenticator.ended(&caller).await,
            Verifier::Service(hash) => loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                // While the database cannot be read, the feed sends nothing.
                if let Ok(None) = service_tokens::name(&self.db, &hash).await {
                    return TokenError::Invalid.into();
                }
            },
        }
    }
}
