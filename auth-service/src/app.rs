//! The state that the services of this process share.

use std::{sync::Arc, time::Duration};

use service_kit::{
    auth::{call_limit::CallLimit, interceptor::Authenticator},
    clock::Clock,
    db::{Db, Searches},
    page::PageTokens,
};

use crate::{
    actions::Actions,
    client_info::ClientInfoResolver,
    factors::Factors,
    feed::FeedHandle,
    login::{address_limits::AddressLimits, attempts::PasswordAttempts, sessions::Sessions, token_issuer::TokenIssuer},
    mail::Mailer,
    oauth::grants::OAuth,
    passkeys::PasskeyRegistrations,
    personal_access_tokens::TokenExchange,
    service_tokens::ServiceTokens,
};

/// The state that the services of this process share.
pub struct App {
    pub(crate) db: Db,
    /// Executes reads with a filter.
    pub(crate) searches: Searches,
    pub(crate) clock: Clock,
    /// Authenticates callers.
    pub(crate) authenticator: Authenticator,
    /// Exchanges personal access tokens.
    pub(crate) token_exchange: Arc<TokenExchange>,
    /// The rate limit of calls of callers that the interceptor does not see.
    pub(crate) call_limit: CallLimit,
    /// The tokens of services.
    pub(crate) service_tokens: Arc<ServiceTokens>,
    /// Determines the clients of calls.
    pub(crate) clients: Arc<ClientInfoResolver>,
    /// The rate limits of each address for logins, sign-ups and refreshes.
    pub(crate) address_limits: AddressLimits,
    pub(crate) passwords: Arc<PasswordAttempts>,
    /// Minimum length of new passwords, in characters.
    pub(crate) password_min_length: usize,
    pub(crate) sessions: Sessions,
    pub(crate) issuer: Arc<TokenIssuer>,
    /// The feed of revocations.
    pub(crate) feed: FeedHandle,
    /// Creates and opens page tokens.
    pub(crate) page_tokens: PageTokens,
    /// Creates mails, and sends those in the outbox.
    pub(crate) mailer: Arc<Mailer>,
    /// Does what the links and codes in mails are for.
    pub(crate) actions: Actions,
    /// Changes second factors.
    pub(crate) factors: Factors,
    /// Registers passkeys.
    pub(crate) passkeys: PasskeyRegistrations,
    /// The maximum time since a user has proved a factor, for calls that require this.
    pub(crate) step_up_max_age: Duration,
    /// Authenticates the clients of OAuth 2.0, and issues their tokens.
    pub(crate) oauth: OAuth,
}

impl App {
    /// Sets the metrics whose values are not events. Call it regularly.
    pub(crate) fn record_metrics(&self) {
        self.db.record_metrics("auth");
        self.passwords.hashing.record_metrics();
        self.feed.record_metrics();
    }
}
