//! Which services may ask about tokens: those with the role `verifier`.

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

/// How often it is looked whether a service token is still good that something long-lived hangs on.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A service that may ask about tokens.
#[derive(Clone, Debug)]
pub enum Verifier {
    /// By an access token.
    Caller(Caller),
    /// By a service token.
    Service(Hash),
}

impl App {
    /// The verifier that calls.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason, PERMISSION_DENIED without the role, or UNAVAILABLE if nobody can say.
    pub async fn verifier(&self, headers: &MetadataMap) -> Result<Verifier, ApiError> {
        let Some(hash) = Hash::of(bearer(headers)?) else {
            let caller = self.authenticator.authenticate(headers)?;
            caller.require_role(ROLE_VERIFIER)?;
            return Ok(Verifier::Caller(caller));
        };
        match service_tokens::name(&self.db, &hash).await? {
            Some(name) => {
                tracing::debug!(name, "a service has shown its token");
                Ok(Verifier::Service(hash))
            }
            None => Err(TokenError::Invalid.into()),
        }
    }

    /// Waits until a verifier's token is no longer good, and says why: the stream that it has opened ends with it.
    pub async fn verifier_ended(&self, verifier: Verifier) -> ApiError {
        match verifier {
            Verifier::Caller(caller) => self.authenticator.ended(&caller).await,
            Verifier::Service(hash) => loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                // While the database cannot be read, the feed is silent anyway.
                if let Ok(None) = service_tokens::name(&self.db, &hash).await {
                    return TokenError::Invalid.into();
                }
            },
        }
    }
}
