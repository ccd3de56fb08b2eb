//! The tokens and the certificates of services, which are kept in memory, so that a call with an unknown one causes no
//! query.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderMap, header};
use service_kit::{
    auth::{
        credential::{SERVICE_TOKEN_HEADER, service_token},
        scope::{Scope, Scopes},
        token::TokenError,
    },
    clock::Clock,
    db::Db,
    ops::secret_file::Key,
    status::ApiError,
    tls::PeerCertificate,
    trace::ServicePeers,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tonic::Code;

use crate::{
    model::{
        service_certificate::CertificateName,
        service_token::{self, ServiceTokenHash},
    },
    store::service_tokens::{self, Credential, CredentialKind},
};

/// How long what is in memory is trusted. A revocation takes effect within this time.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Minimum time between the starts of two queries. Calls with unknown tokens share them.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum time that a call waits for a query.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);

/// When to call again after the tokens could not be read.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The service tokens, and the certificates. [`run`](Self::run) reads all of them from the database when a call needs
/// them, but rarely: the database holds at most 1000. A token that was issued a moment ago is therefore accepted, and any number of calls with
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

/// The tokens and the certificates of services, with what they permit.
#[derive(Debug, Default)]
pub struct Credentials {
    tokens: HashMap<ServiceTokenHash, Scopes>,
    certificates: HashMap<String, Scopes>,
}

impl FromIterator<Credential> for Credentials {
    fn from_iter<T: IntoIterator<Item = Credential>>(all: T) -> Self {
        let mut credentials = Self::default();
        for Credential { kind, scopes, .. } in all {
            match kind {
                CredentialKind::Token(hash) => _ = credentials.tokens.insert(hash, scopes),
                CredentialKind::Certificate(san) => _ = credentials.certificates.insert(san.0, scopes),
            }
        }
        credentials
    }
}

impl Credentials {
    /// Reports whether a token or a certificate is valid.
    #[must_use]
    pub fn contains(&self, kind: &CredentialKind) -> bool {
        match kind {
            CredentialKind::Token(hash) => self.tokens.contains_key(hash),
            CredentialKind::Certificate(san) => self.certificates.contains_key(&san.0),
        }
    }
}

/// The result of a query.
#[derive(Debug)]
struct Loaded {
    /// The number of the query; 0 if there was none.
    number: u64,
    at: Duration,
    credentials: Result<Arc<Credentials>, ApiError>,
}

impl ServiceTokens {
    /// Creates an empty set. `gateway` is the key of the service token of the gateway, if it runs in this process.
    #[must_use]
    pub fn new(db: Db, clock: Clock, gateway: Option<&Key>) -> Self {
        let gateway_token = gateway.and_then(|key| ServiceTokenHash::from_token(&service_token(key)));
        let loaded = Loaded { number: 0, at: Duration::ZERO, credentials: Ok(Arc::default()) };
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
        let recent = self.recent().and_then(|recent| recent.tokens.get(token).copied());
        match recent {
            Some(scopes) => Ok(Some(scopes)),
            None => Ok(self.reload().await?.tokens.get(token).copied()),
        }
    }

    /// Returns the name by which the certificate of a caller permits `scope`, or `None` if the certificate is not that of
    /// a service. A certificate that was added a moment ago is accepted within 2 s: most callers without rights
    /// have a certificate all the same, and do not wait for a query each.
    ///
    /// # Errors
    /// SCOPE_MISSING, or STORE_UNAVAILABLE if the certificates cannot be read.
    pub async fn certificate(&self, peer: &PeerCertificate, scope: Scope) -> Result<Option<CertificateName>, ApiError> {
        let credentials = match self.recent() {
            Some(recent) => recent,
            None => self.reload().await?,
        };
        let mut missing = None;
        for name in peer.names() {
            match credentials.certificates.get(name).map(|scopes| service_token::require_scope(*scopes, scope)) {
                Some(Ok(())) => return Ok(Some(CertificateName(name.clone()))),
                Some(Err(error)) => missing = Some(error),
                None => {}
            }
        }
        missing.map_or(Ok(None), Err)
    }

    /// Checks that a token is valid and has a scope.
    ///
    /// # Errors
    /// TOKEN_INVALID, SCOPE_MISSING, or STORE_UNAVAILABLE if the tokens cannot be read.
    pub async fn require_scope(&self, token: &ServiceTokenHash, scope: Scope) -> Result<(), ApiError> {
        service_token::require_scope(self.scopes(token).await?.ok_or(TokenError::Invalid)?, scope)
    }

    /// Returns the tokens and certificates as of a query that starts after this call.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE if they cannot be read.
    pub async fn reload(&self) -> Result<Arc<Credentials>, ApiError> {
        let mut loads = self.loaded.subscribe();
        let earlier = self.started.load(Ordering::SeqCst);
        self.demand.notify_one();
        if let Ok(Ok(loaded)) = timeout(LOAD_TIMEOUT, loads.wait_for(|loaded| loaded.number > earlier)).await {
            return loaded.credentials.clone();
        }
        let message = "service tokens cannot be checked at the moment";
        let error = ApiError::new(Code::Unavailable, ErrorReason::StoreUnavailable, message);
        Err(error.retry_after(RETRY_DELAY))
    }

    /// Reads them on demand, for as long as it is awaited.
    pub async fn run(&self) {
        let mut earliest = Instant::now();
        loop {
            self.demand.notified().await;
            sleep_until(earliest).await;
            earliest = Instant::now() + MIN_INTERVAL;
            let (number, at) = (self.started.fetch_add(1, Ordering::SeqCst) + 1, self.clock.uptime());
            let listed = service_tokens::list(&self.db).await;
            let credentials = listed.map(|all| Arc::new(all.into_iter().collect())).map_err(ApiError::from);
            self.loaded.send_replace(Loaded { number, at, credentials });
        }
    }

    fn recent(&self) -> Option<Arc<Credentials>> {
        let loaded = self.loaded.borrow();
        let is_recent = loaded.number > 0 && self.clock.uptime().saturating_sub(loaded.at) < MAX_AGE;
        loaded.credentials.as_ref().ok().filter(|_| is_recent).cloned()
    }
}

/// Services send their token beside that of a client, or instead of it.
impl ServicePeers for ServiceTokens {
    fn have_service_token<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, bool> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let token = text(SERVICE_TOKEN_HEADER).or(bearer).and_then(ServiceTokenHash::from_token);
        Box::pin(async move {
            match token {
                Some(token) => matches!(self.scopes(&token).await, Ok(Some(_))),
                None => false,
            }
        })
    }
}
