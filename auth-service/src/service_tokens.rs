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
use quick_cache::sync::Cache;
use service_kit::{
    auth::{
        credential::{SERVICE_TOKEN_HEADER, service_token},
        scope::{Scope, Scopes},
        token::TokenError,
    },
    clock::{Clock, Timestamp},
    db::Db,
    ops::secret_file::Key,
    status::ApiError,
    tls::PeerCertificate,
    trace::ServicePeers,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tonic::Code;

use crate::{
    model::{
        login_throttle::day,
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

/// Maximum number of uses that wait to be stored. Others are stored later that day, or by another replica.
const MAX_PENDING_USES: usize = 64;

/// Maximum number of tokens and certificates whose use is remembered as stored. The database holds at most 1000.
const MAX_RECORDED: usize = 2048;

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
    /// The days on which uses were last stored by this replica.
    recorded_days: Cache<CredentialKind, i64>,
    /// The uses to store.
    uses: mpsc::Sender<(CredentialKind, i64)>,
    pending_uses: Mutex<mpsc::Receiver<(CredentialKind, i64)>>,
}

/// The tokens and the certificates of services, with what they permit.
#[derive(Debug, Default)]
pub struct Credentials {
    tokens: HashMap<ServiceTokenHash, Permission>,
    certificates: HashMap<String, Permission>,
}

/// What a token or a certificate permits, and until when.
#[derive(Clone, Copy, Debug)]
struct Permission {
    scopes: Scopes,
    expires_at: Option<Timestamp>,
    last_used_day: Option<i64>,
}

impl Permission {
    fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl FromIterator<Credential> for Credentials {
    fn from_iter<T: IntoIterator<Item = Credential>>(all: T) -> Self {
        let mut credentials = Self::default();
        for Credential { kind, scopes, expires_at, last_used_day, .. } in all {
            let permission = Permission { scopes, expires_at, last_used_day };
            match kind {
                CredentialKind::Token(hash) => _ = credentials.tokens.insert(hash, permission),
                CredentialKind::Certificate(san) => _ = credentials.certificates.insert(san.0, permission),
            }
        }
        credentials
    }
}

impl Credentials {
    /// Reports whether a token or a certificate is valid.
    #[must_use]
    pub fn contains(&self, kind: &CredentialKind, now: Timestamp) -> bool {
        let permission = match kind {
            CredentialKind::Token(hash) => self.tokens.get(hash),
            CredentialKind::Certificate(san) => self.certificates.get(&san.0),
        };
        permission.is_some_and(|permission| permission.is_valid(now))
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
        let (uses, pending_uses) = mpsc::channel(MAX_PENDING_USES);
        Self {
            db,
            clock,
            gateway_token,
            started: AtomicU64::new(0),
            demand,
            loaded,
            recorded_days: Cache::new(MAX_RECORDED),
            uses,
            pending_uses: Mutex::new(pending_uses),
        }
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
        let permission = match recent {
            Some(permission) => Some(permission),
            None => self.reload().await?.tokens.get(token).copied(),
        };
        let permission = permission.filter(|permission| permission.is_valid(self.clock.now()));
        if let Some(permission) = permission {
            self.note_use(permission, || CredentialKind::Token(token.clone()));
        }
        Ok(permission.map(|permission| permission.scopes))
    }

    /// Has the use of a token or a certificate stored, unless one was stored today.
    fn note_use(&self, permission: Permission, kind: impl Fn() -> CredentialKind) {
        let today = day(self.clock.now());
        if permission.last_used_day >= Some(today) {
            return;
        }
        let kind = kind();
        if self.recorded_days.get(&kind) != Some(today) && self.uses.try_send((kind.clone(), today)).is_ok() {
            self.recorded_days.insert(kind, today);
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
            let Some(permission) = credentials.certificates.get(name) else { continue };
            match service_token::require_scope(permission.scopes, scope) {
                Ok(()) => {
                    let name = CertificateName(name.clone());
                    self.note_use(*permission, || CredentialKind::Certificate(name.clone()));
                    return Ok(Some(name));
                }
                Err(error) => missing = Some(error),
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

    /// Reads them on demand, and stores their uses, for as long as it is awaited.
    pub async fn run(&self) {
        tokio::join!(self.load_on_demand(), self.record_uses());
    }

    async fn record_uses(&self) {
        let mut pending = self.pending_uses.lock().await;
        while let Some((kind, day)) = pending.recv().await {
            if let Err(error) = service_tokens::record_use(&self.db, kind, day).await {
                tracing::warn!(%error, "cannot store the last use of a service token");
            }
        }
    }

    async fn load_on_demand(&self) {
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
