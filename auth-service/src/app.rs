//! What the services of this process share.

use std::sync::Arc;

use service_kit::{auth::interceptor::Authenticator, clock::Clock, db::Db, page::PageTokens};

use crate::{
    client_info::ClientInfoResolver,
    feed::FeedHandle,
    login::{address_limits::AddressLimits, attempts::PasswordAttempts, sessions::Sessions, token_issuer::TokenIssuer},
};

/// What the services of this process share.
pub struct App {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// Authenticates callers.
    pub(crate) authenticator: Authenticator,
    /// Where calls come from.
    pub(crate) clients: ClientInfoResolver,
    /// How often an address may log in, sign up and refresh.
    pub(crate) address_limits: AddressLimits,
    pub(crate) passwords: Arc<PasswordAttempts>,
    /// Minimum length of new passwords, in characters.
    pub(crate) password_min_length: usize,
    pub(crate) sessions: Sessions,
    pub(crate) issuer: Arc<TokenIssuer>,
    /// The feed of revocations.
    pub(crate) feed: FeedHandle,
    /// The page tokens of lists.
    pub(crate) page_tokens: PageTokens,
}
