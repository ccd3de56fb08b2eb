//! Exchanges personal access tokens for their claims, for verifiers and for this service.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use futures::future::BoxFuture;
use service_kit::{
    auth::{
        claims::AccessClaims,
        personal_access_token::{Exchange, Exchanged, MAX_AGE, PersonalAccessToken},
    },
    clock::Clock,
    db::Db,
    status::ApiError,
};

use crate::{
    model::personal_access_token::LastUse,
    store::personal_access_tokens::{self, ActiveToken},
};

/// Reads the tokens from the database.
#[derive(Debug)]
pub struct TokenExchange {
    db: Db,
    clock: Clock,
}

impl TokenExchange {
    /// Creates an exchange.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    async fn find(&self, token: &str, client: Option<IpAddr>) -> Result<Option<Exchanged>, ApiError> {
        let Some(PersonalAccessToken { id, hash }) = PersonalAccessToken::parse(token) else { return Ok(None) };
        let now = self.clock.now();
        let found = personal_access_tokens::by_id(&self.db, now, id).await?;
        let is_equal = |found: &ActiveToken| verify_slices_are_equal(found.hash.as_bytes(), hash.as_bytes()).is_ok();
        let Some(ActiveToken { user_id, roles, token, .. }) = found.filter(is_equal) else { return Ok(None) };
        if token.networks.is_empty() || client.is_some_and(|client| contains(&token.networks, client)) {
            self.record_use(&token.last_use, id, client).await;
        }
        let claims = AccessClaims {
            id,
            user_id,
            session_id: token.session_id,
            roles,
            scopes: Some(token.scopes),
            authentication: None,
            issued_at: now,
            expires_at: token.expires_at,
            actors: Vec::new(),
        };
        Ok(Some(Exchanged { claims, networks: token.networks, valid_for: MAX_AGE.min(token.expires_at.since(now)) }))
    }

    /// Stores the day and the address of a use, unless they are those of the previous one. The use of the token does not
    /// depend on it.
    async fn record_use(&self, previous: &LastUse, id: uuid::Uuid, client: Option<IpAddr>) {
        let last_use = LastUse::new(self.clock.now(), client.map(|client| client.to_string()).unwrap_or_default());
        if last_use == *previous {
            return;
        }
        if let Err(error) = personal_access_tokens::record_use(&self.db, id, last_use).await {
            tracing::warn!(%error, "cannot store the last use of a personal access token");
        }
    }
}

fn contains(networks: &[ipnet::IpNet], client: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&client.to_canonical()))
}

impl Exchange for TokenExchange {
    fn exchange<'a>(
        &'a self,
        token: &'a str,
        client: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Option<Exchanged>, ApiError>> {
        Box::pin(self.find(token, client))
    }
}
