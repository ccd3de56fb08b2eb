//! The interceptor of protected services. It verifies the signature and the claims of the access token, looks up its
//! session in memory, and checks the scope, without I/O.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, header::AUTHORIZATION};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::timeout;
use tonic::{Code, Request, Status, service::Interceptor};
use uuid::Uuid;

use crate::{
    auth::{
        call_limit::CallLimit,
        claims::AccessClaims,
        key_source::KeySource,
        revocation::{Freshness, RevocationView, Verdict},
        scope::Scope,
        token::{self, TokenError},
    },
    clock::Clock,
    ops::config::TokenArgs,
    status::ApiError,
};

/// How often the token of a stream is checked for expiry.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A token that was issued in the future is logged at most once per this interval.
const FUTURE_TOKEN_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The authenticated caller. It can only be created from a verified token.
#[derive(Clone, Debug)]
pub struct Caller(AccessClaims);

impl Caller {
    /// Returns the caller that the interceptor has authenticated.
    ///
    /// # Errors
    /// INTERNAL if the service is not [protected](super::protected::Protected).
    pub fn from_request<T>(request: &Request<T>) -> Result<&Self, ApiError> {
        request.extensions().get().ok_or_else(|| ApiError::internal("the service is not protected"))
    }

    /// Returns the id of the user.
    #[must_use]
    pub fn user_id(&self) -> Uuid {
        self.0.user_id
    }

    /// Returns the id of the session.
    #[must_use]
    pub fn session_id(&self) -> Uuid {
        self.0.session_id
    }

    /// Checks that the caller has a role.
    ///
    /// # Errors
    /// PERMISSION_DENIED if the caller does not have the role.
    pub fn require_role(&self, role: &str) -> Result<(), ApiError> {
        if self.0.roles.iter().any(|granted| granted == role) {
            return Ok(());
        }
        let message = format!("requires the `{role}` role");
        Err(ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message))
    }

    /// Checks that the token of the caller has a scope. Tokens without the claim `scope` have all scopes.
    ///
    /// # Errors
    /// PERMISSION_DENIED / SCOPE_MISSING if it does not.
    pub fn require_scope(&self, scope: Scope) -> Result<(), ApiError> {
        if self.0.scopes.is_none_or(|granted| granted.contains(scope)) {
            return Ok(());
        }
        Err(scope_missing("access token", scope))
    }
}

/// Returns the error of a call whose `token` lacks a scope.
#[must_use]
pub fn scope_missing(token: &str, scope: Scope) -> ApiError {
    let message = format!("the {token} does not have the scope `{scope}`");
    ApiError::new(Code::PermissionDenied, ErrorReason::ScopeMissing, message).metadata("required", scope)
}

/// The scope that an RPC requires, as an extension of its request. A method that does not exist requires none: tonic
/// responds with UNIMPLEMENTED.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredScope(pub(super) Option<Scope>);

/// Authenticates callers by their access tokens. Implements tonic's [`Interceptor`].
#[derive(Clone, Debug)]
pub struct Authenticator {
    keys: Arc<KeySource>,
    token_args: TokenArgs,
    revocations: Arc<RevocationView>,
    clock: Clock,
    /// When a token from the future was last logged, as the uptime of the clock in seconds, plus one.
    future_token_logged_at: Arc<AtomicU64>,
    call_limit: CallLimit,
}

impl Authenticator {
    /// Creates an authenticator that accepts tokens which are signed with `keys`, have the issuer and audience of
    /// `token_args`, and whose session is not in `revocations`.
    #[must_use]
    pub fn new(keys: Arc<KeySource>, token_args: TokenArgs, revocations: Arc<RevocationView>, clock: Clock) -> Self {
        Self {
            keys,
            token_args,
            revocations,
            clock,
            future_token_logged_at: Arc::default(),
            call_limit: CallLimit::default(),
        }
    }

    /// Limits the calls of each account, before their messages are received and decoded.
    #[must_use]
    pub fn with_call_limit(self, call_limit: CallLimit) -> Self {
        Self { call_limit, ..self }
    }

    /// Authenticates the caller by the headers of a call.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason. UNAVAILABLE / VERIFIER_NOT_READY while keys or revocations are not received,
    /// because clients discard their tokens after UNAUTHENTICATED.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.verify(bearer(headers)?).map(Caller)
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub fn verify(&self, token: &str) -> Result<AccessClaims, ApiError> {
        let freshness = self.revocations.freshness();
        let keys = self.keys.current().filter(|_| freshness.accepts_tokens()).ok_or_else(not_ready)?;
        let claims = token::verify(&keys, &self.token_args, token, self.clock.now()).map_err(|error| match error {
            // New keys are received with the revocations, so they may be missing too.
            TokenError::KeyUnknown if freshness != Freshness::Fresh => not_ready(),
            TokenError::NotYetValid(by) => {
                self.log_future_token(by);
                error.into()
            }
            error => error.into(),
        })?;
        self.check_still_valid(&claims)?;
        Ok(claims)
    }

    /// Counts a token that was issued in the future, and logs it unless another one was logged recently.
    fn log_future_token(&self, by: Duration) {
        metrics::counter!("taskey_tokens_from_the_future_total").increment(1);
        let now = self.clock.uptime().as_secs() + 1;
        let last = self.future_token_logged_at.load(Ordering::Relaxed);
        let is_due = last == 0 || now >= last + FUTURE_TOKEN_LOG_INTERVAL.as_secs();
        if is_due
            && self.future_token_logged_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let seconds = format!("{:.1}", by.as_secs_f64());
            tracing::warn!(
                seconds,
                "an access token was issued in the future and is refused; the clock of its issuer is ahead of the clock of \
                 this machine"
            );
        }
    }

    /// Checks that a token has not expired and its session has not been revoked.
    fn check_still_valid(&self, claims: &AccessClaims) -> Result<(), ApiError> {
        if claims.has_expired(self.clock.now()) {
            return Err(TokenError::Expired.into());
        }
        match self.revocations.check(claims) {
            Verdict::Active => Ok(()),
            Verdict::Outdated => Err(TokenError::Expired.into()),
            Verdict::Revoked => Err(ApiError::new(
                Code::Unauthenticated,
                ErrorReason::TokenRevoked,
                "the session of the access token has ended",
            )),
            Verdict::Unknown => Err(not_ready()),
        }
    }

    /// Waits until the token of a caller is no longer valid, and returns the reason. Streams end with the token that
    /// opened them.
    pub async fn wait_until_invalid(&self, caller: &Caller) -> ApiError {
        let mut updates = self.revocations.subscribe();
        loop {
            if let Err(error) = self.check_still_valid(&caller.0) {
                return error;
            }
            // An update and a timeout are handled alike.
            _ = timeout(POLL_INTERVAL, updates.changed()).await;
        }
    }

    /// Returns the session of the access token of a call, even if the token has expired or the session was revoked.
    ///
    /// # Errors
    /// UNAUTHENTICATED / TOKEN_MISSING or TOKEN_INVALID, or UNAVAILABLE / VERIFIER_NOT_READY while there are no keys.
    pub fn session_id(&self, headers: &HeaderMap) -> Result<Uuid, ApiError> {
        let keys = self.keys.current().ok_or_else(not_ready)?;
        Ok(token::verify_expired(&keys, &self.token_args, bearer(headers)?, self.clock.now())?.session_id)
    }
}

fn not_ready() -> ApiError {
    let message = "revocations are not received at the moment, so no token is accepted";
    ApiError::new(Code::Unavailable, ErrorReason::VerifierNotReady, message).retry_after(Duration::from_secs(1))
}

impl Interceptor for Authenticator {
    /// Authenticates the caller of an RPC, counts the call, and checks the scope that [`Protected`] has looked up.
    ///
    /// [`Protected`]: super::protected::Protected
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = self.authenticate(request.metadata().as_ref())?;
        self.call_limit.check(caller.user_id())?;
        let required = request.extensions().get().copied();
        let RequiredScope(required) = required.ok_or_else(|| ApiError::internal("the service is not protected"))?;
        required.map_or(Ok(()), |scope| caller.require_scope(scope))?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// Returns the token in the `authorization` header (RFC 6750, section 2.1). The scheme is case-insensitive (RFC 9110,
/// section 11.1).
///
/// # Errors
/// UNAUTHENTICATED / TOKEN_MISSING if there is no header, TOKEN_INVALID if there are several or it has another scheme.
pub fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(ApiError::new(
            Code::Unauthenticated,
            ErrorReason::TokenMissing,
            "an access token is required: authorization: Bearer <token>",
        ));
    };
    let credentials = value.to_str().ok().filter(|_| values.next().is_none());
    match credentials.and_then(|credentials| credentials.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token),
        _ => Err(TokenError::Invalid.into()),
    }
}
