//! The service tokens, which are kept in memory, so that a call with an unknown token causes no query.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use service_kit::{
    auth::{credential::service_token, token::TokenError},
    clock::Clock,
    db::Db,
    ops::secret_file::Key,
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tonic::Code;

use crate::{
    model::service_token::{Scope, Scopes, ServiceTokenHash},
    store::service_tokens,
};

/// How long the tokens in memory are trusted. A revocation takes effect within this time.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Minimum time between the starts of two queries. Calls with unknown tokens share them.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum time that a call waits for a query.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);

/// When to call again after the tokens could not be read.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The service tokens. [`run`](Self::run) reads all of them from the database when a call needs them, but rarely: the
/// database holds at most 1000. A token that was issued a moment ago is therefore accepted, and any number of calls with
/// unknown tokens causes at most five queries per second.
#[derive(Debug)]
pub struct ServiceTokens {
    db: Db,
    clock: Clock,
    /// The token of the gateway in this process, if there is one.
    gateway_token: Option<ServiceTokenHash>,
    /// The number of queries that were started.
    started: AtomicU64,
    demand: Notify,
    loaded: watch::Sender<Loaded>,
}

/// The result of a query.
#[derive(Debug)]
struct Loaded {
    /// The number of the query; 0 if there was none.
    number: u64,
    at: Duration,
    tokens: Result<HashMap<ServiceTokenHash, Scopes>, ApiError>,
}

impl ServiceTokens {
    /// Creates an empty set. `gateway` is the key of the service token of the gateway, if it runs in this process.
    #[must_use]
    pub fn new(db: Db, clock: Clock, gateway: Option<&Key>) -> Self {
        let gateway_token = gateway.and_then(|key| ServiceTokenHash::from_token(&service_token(key)));
        let loaded = Loaded { number: 0, at: Duration::ZERO, tokens: Ok(HashMap::new()) };
        let (demand, loaded) = (Notify::new(), watch::Sender::new(loaded));
        Self { db, clock, gateway_token, started: AtomicU64::new(0), demand, loaded }
    }

    /// Returns the scopes of a token, or `None` if it is not valid.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE if the tokens cannot be read.
    pub async fn scopes(&self, token: &ServiceTokenHash) -> Result<Option<Scopes>, ApiError> {
        if self.gateway_token.as_ref() == Some(token) {
            return Ok(Some(Scopes::from_iter([Scope::ClientsForward])));
        }
        match self.recent_scopes(token) {
            Some(scopes) => Ok(Some(scopes)),
            None => self.reloaded_scopes(token).await,
        }
    }

    /// Checks that a token is valid and has a scope.
    ///
    /// # Errors
    /// TOKEN_INVALID, SCOPE_MISSING, or STORE_UNAVAILABLE if the tokens cannot be read.
    pub async fn require_scope(&self, token: &ServiceTokenHash, scope: Scope) -> Result<(), ApiError> {
        self.scopes(token).await?.ok_or(TokenError::Invalid)?.require(scope)
    }

    /// Returns the scopes of a token as of a query that starts after this call.
    ///
    /// # Errors
    /// As [`scopes`](Self::scopes).
    pub async fn reloaded_scopes(&self, token: &ServiceTokenHash) -> Result<Option<Scopes>, ApiError> {
        let mut loads = self.loaded.subscribe();
        let earlier = self.started.load(Ordering::SeqCst);
        self.demand.notify_one();
        if let Ok(Ok(loaded)) = timeout(LOAD_TIMEOUT, loads.wait_for(|loaded| loaded.number > earlier)).await {
            return loaded.tokens.as_ref().map(|tokens| tokens.get(token).cloned()).map_err(Clone::clone);
        }
        let message = "service tokens cannot be checked at the moment";
        let error = ApiError::new(Code::Unavailable, ErrorReason::StoreUnavailable, message);
        Err(error.retry_after(RETRY_DELAY))
    }

    /// Reads the tokens on demand, for as long as it is awaited.
    pub async fn run(&self) {
        let mut earliest = Instant::now();
        loop {
            self.demand.notified().await;
            sleep_until(earliest).await;
            earliest = Instant::now() + MIN_INTERVAL;
            let (number, at) = (self.started.fetch_add(1, Ordering::SeqCst) + 1, self.clock.uptime());
            let tokens = service_tokens::list(&self.db).await;
            let tokens = tokens.map(Iterator::collect).map_err(ApiError::from);
            self.loaded.send_replace(Loaded { number, at, tokens });
        }
    }

    fn recent_scopes(&self, token: &ServiceTokenHash) -> Option<Scopes> {
        let loaded = self.loaded.borrow();
        let is_recent = self.clock.uptime().saturating_sub(loaded.at) < MAX_AGE;
        loaded.tokens.as_ref().ok().filter(|_| is_recent)?.get(token).cloned()
    }
}
