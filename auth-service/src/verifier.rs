//! Authenticates verifiers: services with a service token or a certificate, and callers with the role `verifier`.

use std::time::Duration;

use service_kit::{
    auth::{
        credential::ROLE_VERIFIER,
        interceptor::{Caller, bearer},
        scope::Scope,
        token::TokenError,
    },
    network::{FORWARDED_FOR, FORWARDED_USER_AGENT},
    status::ApiError,
    tls::{PeerCertificate, TlsInfo},
};
use tonic::{Request, metadata::MetadataMap};

use crate::{app::App, model::service_token::ServiceTokenHash, store::service_tokens::CredentialKind};

/// How often the service token or the certificate of an open stream is checked.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// An authenticated verifier.
#[derive(Clone, Debug)]
pub enum Verifier {
    /// Authenticated by an access token.
    Caller(Caller),
    /// Authenticated by a service token or a certificate.
    Service(CredentialKind),
}

impl App {
    /// Authenticates the verifier that makes a call. Its token takes precedence over its certificate.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason, PERMISSION_DENIED without the role or the scope, or UNAVAILABLE if the token
    /// cannot be checked.
    pub async fn authenticate_verifier<T: Sync>(&self, request: &Request<T>) -> Result<Verifier, ApiError> {
        let headers = request.metadata();
        if let Some(certificate) = certificate(request)
            && let Some(san) = self.service_tokens.certificate(certificate, Scope::TokensVerify).await?
        {
            return Ok(Verifier::Service(CredentialKind::Certificate(san)));
        }
        let Some(hash) = ServiceTokenHash::from_token(bearer(headers.as_ref())?) else {
            let caller = self.authenticator.authenticate_any(request.extensions(), headers.as_ref()).await?;
            caller.require_scope(Scope::TokensVerify)?;
            caller.require_role(ROLE_VERIFIER)?;
            return Ok(Verifier::Caller(caller));
        };
        self.service_tokens.require_scope(&hash, Scope::TokensVerify).await?;
        Ok(Verifier::Service(CredentialKind::Token(hash)))
    }

    /// Waits until the token of a verifier is no longer valid. Returns the error with which its stream ends.
    pub async fn verifier_invalidated(&self, verifier: Verifier) -> ApiError {
        match verifier {
            Verifier::Caller(caller) => self.authenticator.wait_until_invalid(&caller).await,
            Verifier::Service(kind) => loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                // Errors are ignored: while the database cannot be read, the stream receives no revocations anyway.
                if self
                    .service_tokens
                    .reload()
                    .await
                    .is_ok_and(|credentials| !credentials.contains(&kind, self.clock.now()))
                {
                    return TokenError::Invalid.into();
                }
            },
        }
    }
}

/// Returns the certificate of a caller that has no token and makes the call for itself. A gateway forwards calls of clients
/// over its own connections, and its certificate must not give these clients its rights.
#[must_use]
pub fn certificate<T>(request: &Request<T>) -> Option<&PeerCertificate> {
    let has = |metadata: &MetadataMap, name: &str| metadata.contains_key(name);
    let headers = request.metadata();
    let is_forwarded = [FORWARDED_FOR.as_str(), FORWARDED_USER_AGENT.as_str()].iter().any(|name| has(headers, name));
    let is_own = !has(headers, "authorization") && !is_forwarded;
    request.extensions().get::<TlsInfo>()?.peer.as_ref().filter(|_| is_own)
}
