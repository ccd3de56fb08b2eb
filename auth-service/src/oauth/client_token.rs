//! Client credentials: a service account calls for itself (RFC 6749, section 4.4).

use service_kit::{auth::claims::AccessClaims, status::ApiError};
use taskey_proto::auth::v1::IssueTokenResponse;

use super::{
    client::Client,
    grants::{OAuth, requested_scopes},
};
use crate::{error, model::service_account::roles, store::service_accounts};

impl OAuth {
    /// Issues an access token with which a service account calls for itself.
    ///
    /// # Errors
    /// SCOPE_INVALID, RATE_LIMITED, or CLIENT_INVALID if the service account was changed in the meantime.
    pub async fn client_token(&self, client: &Client, scope: &str) -> Result<IssueTokenResponse, ApiError> {
        let account = &client.account;
        let scopes = requested_scopes(scope, account.scopes)?;
        self.token_limit.check(account.id)?;
        let now = self.clock.now();
        let claims = AccessClaims {
            id: self.clock.new_id(),
            user_id: account.id,
            session_id: self.clock.new_id(),
            roles: roles(scopes),
            scopes: Some(scopes),
            issued_at: now,
            expires_at: now + self.issuer.access_token_ttl,
            authentication: None,
            actors: Vec::new(),
        };
        let (session_id, expires_at) = (claims.session_id, claims.expires_at);
        let secret = client.secret.clone();
        if !service_accounts::insert_session(&self.db, now, session_id, account.id, secret, expires_at).await? {
            return Err(error::client_invalid());
        }
        self.response(&claims, self.audiences.own())
    }
}
