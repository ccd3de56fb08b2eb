//! What the grants of OAuth 2.0 share: their dependencies and limits, the scopes in requests, and responses.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use service_kit::{
    auth::{
        call_limit::CallLimit,
        claims::AccessClaims,
        interceptor::Authenticator,
        scope::{Scope, Scopes},
    },
    clock::{Clock, Timestamp},
    db::Db,
    ops::config::OnOff,
    public_url::PublicUrl,
    rate_limit::{Rate, RateLimit},
    status::ApiError,
};
use taskey_proto::auth::v1::IssueTokenResponse;
use uuid::Uuid;

use super::{actor_sessions::ActorSessions, audiences::Audiences};
use crate::{
    error,
    login::{attempts::PasswordAttempts, sessions::UserTokens, token_issuer::TokenIssuer},
};

/// The tokens that a service account may request for itself. Each has a session, which is stored for a day.
const TOKEN_RATE: &str = "120+120/m";

/// The codes of devices that a user may send, so that nobody can guess one of the 2.56e10, of which at most 10,000 are valid.
const USER_CODE_RATE: &str = "10+10/m";

/// Maximum number of exchanges that are remembered as recorded in the audit log. Others are recorded again.
const MAX_RECORDED_EXCHANGES: usize = 16_384;

/// Authenticates clients, and issues tokens to them.
pub struct OAuth {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// Verifies tokens of all audiences, for example those that are exchanged.
    pub(crate) authenticator: Authenticator,
    /// The audiences of the tokens.
    pub(crate) audiences: Audiences,
    /// Signs the tokens.
    pub(crate) issuer: Arc<TokenIssuer>,
    /// Throttles wrong secrets.
    pub(crate) passwords: Arc<PasswordAttempts>,
    /// Limits the exchanges of each service account.
    pub(crate) call_limit: CallLimit,
    /// Limits the tokens of each service account.
    pub(crate) token_limit: AccountLimit,
    /// Limits the codes of devices that each user sends.
    pub(crate) user_code_limit: AccountLimit,
    /// The sessions with which service accounts act on behalf of users.
    pub(crate) actor_sessions: ActorSessions,
    /// The exchanges that were recorded in the audit log.
    pub(crate) recorded_exchanges: RecordedExchanges,
    /// The URL of the gateway, if it is configured.
    pub(crate) public_url: Option<PublicUrl>,
}

/// A limit of each account, unless limits are off.
pub struct AccountLimit {
    limit: Option<RateLimit>,
    error: fn(Duration) -> ApiError,
}

impl AccountLimit {
    /// Creates the limit of the tokens that service accounts get for themselves.
    #[must_use]
    pub fn client_tokens(rate_limits: OnOff, clock: &Clock) -> Self {
        Self::new(TOKEN_RATE, (rate_limits, clock), error::too_many_client_tokens)
    }

    /// Creates the limit of the codes of devices that users send.
    #[must_use]
    pub fn user_codes(rate_limits: OnOff, clock: &Clock) -> Self {
        Self::new(USER_CODE_RATE, (rate_limits, clock), error::device::too_many_user_codes)
    }

    fn new(rate: &str, (rate_limits, clock): (OnOff, &Clock), error: fn(Duration) -> ApiError) -> Self {
        let rate: Rate = rate.parse().expect("a valid rate");
        let limit = (rate_limits == OnOff::On).then(|| RateLimit::new(rate, clock.clone()));
        Self { limit, error }
    }

    /// Counts an action of an account.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit is reached.
    pub fn check(&self, account_id: Uuid) -> Result<(), ApiError> {
        self.limit.as_ref().map_or(Ok(()), |limit| limit.check(&account_id)).map_err(self.error)
    }
}

/// When exchanges were last recorded in the audit log, by session and service account.
pub struct RecordedExchanges(pub(super) Cache<(Uuid, Uuid), Timestamp>);

impl Default for RecordedExchanges {
    fn default() -> Self {
        Self(Cache::new(MAX_RECORDED_EXCHANGES))
    }
}

impl OAuth {
    /// Signs a token, and returns it with its lifetime and scopes.
    pub(super) fn response(&self, claims: &AccessClaims, audience: &str) -> Result<IssueTokenResponse, ApiError> {
        Ok(IssueTokenResponse {
            access_token: self.issuer.sign(claims, audience)?,
            token_type: "Bearer".to_owned(),
            expires_in: u32::try_from(claims.expires_at.as_seconds() - claims.issued_at.as_seconds()).unwrap_or(0),
            refresh_token: None,
            scope: claims.scopes.map(|scopes| scopes.to_string()),
            issued_token_type: None,
        })
    }
}

/// Converts the tokens of a session of a user.
#[must_use]
pub fn user_tokens((pair, scopes): UserTokens) -> IssueTokenResponse {
    let lifetime = pair.access_lifetime.map_or(0, |lifetime| lifetime.seconds);
    IssueTokenResponse {
        access_token: pair.access_token,
        token_type: pair.token_type,
        expires_in: u32::try_from(lifetime).unwrap_or(0),
        refresh_token: Some(pair.refresh_token),
        scope: scopes.map(|scopes| scopes.to_string()),
        issued_token_type: None,
    }
}

/// Parses the scopes in a request, which must be among those that are permitted. If it contains none, all of these are
/// requested.
pub(super) fn requested_scopes(text: &str, permitted: Scopes) -> Result<Scopes, ApiError> {
    let mut requested = Vec::new();
    for name in text.split(' ').filter(|_| !text.is_empty()) {
        let scope: Scope = name.parse().map_err(|_| error::scope_invalid("`scope` contains an unknown scope"))?;
        if requested.contains(&scope) {
            return Err(error::scope_invalid("`scope` contains a scope twice"));
        }
        if !permitted.contains(scope) {
            return Err(error::scope_invalid("`scope` contains a scope that is not permitted"));
        }
        requested.push(scope);
    }
    let scopes = if text.is_empty() { permitted } else { requested.into_iter().collect() };
    if scopes.is_empty() { Err(error::scope_invalid("no scope is permitted")) } else { Ok(scopes) }
}

#[cfg(test)]
mod tests {
    use service_kit::auth::scope::Scope;
    use taskey_proto::errors::v1::ErrorReason;

    use super::*;

    #[test]
    fn requested_scopes_must_be_permitted() {
        let permitted: Scopes = [Scope::TasksRead, Scope::TasksWrite].into_iter().collect();
        let read: Scopes = [Scope::TasksRead].into_iter().collect();
        assert_eq!(requested_scopes("", permitted).ok(), Some(permitted));
        assert_eq!(requested_scopes("tasks.write tasks.read", permitted).ok(), Some(permitted));
        assert_eq!(requested_scopes("tasks.read", permitted).ok(), Some(read));
        for invalid in
            ["tasks.read  tasks.write", " ", "tasks.read tasks.read", "admin.read", "x", "public", "TASKS.READ"]
        {
            let error = requested_scopes(invalid, permitted).expect_err(invalid);
            assert_eq!(error.reason(), ErrorReason::ScopeInvalid, "{invalid:?}");
        }
        assert!(requested_scopes("", Scopes::default()).is_err());
    }
}
