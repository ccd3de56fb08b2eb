//! The interceptor of protected services. It verifies the signature and the claims of the access token, looks up its
//! session in memory, and checks the scope, without I/O.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Extensions, HeaderMap, header::AUTHORIZATION};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::timeout;
use tonic::{Code, Request, Status, service::Interceptor};
use tracing::field::display;

pub use super::caller::{Caller, scope_missing};
use crate::{
    auth::{
        call_limit::CallLimit,
        claims::AccessClaims,
        key_source::KeySource,
        personal_access_token::cache::{Accepted, PersonalAccessTokens},
        revocation::{Freshness, RevocationView, Verdict},
        scope::Scope,
        token::{self, ExpectedNames, TokenError},
    },
    clock::Clock,
    ops::config::TokenArgs,
    status::ApiError,
};

/// How often the token of a stream is checked for expiry.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A token that was issued in the future is logged at most once per this interval.
const FUTURE_TOKEN_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The scope that an RPC requires, as an extension of its request. A method that does not exist requires none: tonic
/// responds with UNIMPLEMENTED.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredScope(pub(super) Option<Scope>);

/// The caller with a personal access token, or why it is refused, as an extension of the request.
#[derive(Clone, Debug)]
pub(super) struct PersonalCaller(pub(super) Result<Caller, ApiError>);

/// Authenticates callers by their access tokens. Implements tonic's [`Interceptor`].
#[derive(Clone, Debug)]
pub struct Authenticator {
    keys: Arc<KeySource>,
    issuer: Arc<str>,
    audiences: Arc<[String]>,
    revocations: Arc<RevocationView>,
    clock: Clock,
    /// When a token from the future was last logged, as the uptime of the clock in seconds, plus one.
    future_token_logged_at: Arc<AtomicU64>,
    call_limit: CallLimit,
    /// Verifies personal access tokens, if they are accepted.
    personal_access_tokens: Option<Arc<PersonalAccessTokens>>,
}

impl Authenticator {
    /// Creates an authenticator that accepts tokens which are signed with `keys`, have the issuer and audience of
    /// `token_args`, and whose session is not in `revocations`.
    #[must_use]
    pub fn new(keys: Arc<KeySource>, token_args: TokenArgs, revocations: Arc<RevocationView>, clock: Clock) -> Self {
        Self {
            keys,
            issuer: token_args.issuer.into(),
            audiences: [token_args.audience].into(),
            revocations,
            clock,
            future_token_logged_at: Arc::default(),
            call_limit: CallLimit::default(),
            personal_access_tokens: None,
        }
    }

    /// Limits the calls of each account, before their messages are received and decoded.
    #[must_use]
    pub fn with_call_limit(self, call_limit: CallLimit) -> Self {
        Self { call_limit, ..self }
    }

    /// Accepts tokens for these audiences as well.
    #[must_use]
    pub fn with_audiences(self, further: &[String]) -> Self {
        Self { audiences: [&self.audiences, further].concat().into(), ..self }
    }

    /// Returns the names that a token must have.
    fn expected_names(&self) -> ExpectedNames<'_> {
        ExpectedNames { issuer: &self.issuer, audiences: &self.audiences }
    }

    /// Accepts personal access tokens as well.
    #[must_use]
    pub fn with_personal_access_tokens(self, tokens: Arc<PersonalAccessTokens>) -> Self {
        Self { personal_access_tokens: Some(tokens), ..self }
    }

    /// Authenticates the caller by the headers of a call, which must contain an access token.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason. UNAVAILABLE / VERIFIER_NOT_READY while keys or revocations are not received,
    /// because clients discard their tokens after UNAUTHENTICATED.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.verify(bearer(headers)?).map(|claims| Caller { claims, has_personal_access_token: false })
    }

    /// Reports whether a call has a personal access token, valid or not, and such tokens are accepted.
    pub(super) fn has_personal_access_token(&self, headers: &HeaderMap) -> bool {
        self.personal_access_token(headers).is_some()
    }

    /// Returns the caller with a personal access token. Returns `None` if [`Self::exchange`] has to check the token.
    pub(super) fn remembered_caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let (tokens, token) = self.personal_access_token(headers)?;
        let accepted = tokens.get(token).filter(|accepted| accepted.permits_all_networks())?;
        self.accept(&accepted).ok()
    }

    /// Authenticates the caller by a personal access token, which is exchanged unless it is remembered.
    ///
    /// # Errors
    /// As [`Self::authenticate`], RATE_LIMITED, or OVERLOADED.
    pub(super) async fn exchange(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let Some((tokens, token)) = self.personal_access_token(headers) else { return self.authenticate(headers) };
        if !self.revocations.freshness().accepts_tokens() {
            return Err(not_ready());
        }
        let client = tokens.client_address(extensions, headers).await?;
        let is_current = |accepted: &Accepted| self.check_still_valid(accepted.claims()).is_ok();
        let accepted = match tokens.get(token).filter(|accepted| is_current(accepted)) {
            Some(accepted) => accepted,
            None => tokens.exchange(token, client, is_current).await?,
        };
        if accepted.permits(client) { self.accept(&accepted) } else { Err(TokenError::Invalid.into()) }
    }

    /// Authenticates the caller by an access token or a personal access token.
    ///
    /// # Errors
    /// As [`Self::authenticate`], RATE_LIMITED, or OVERLOADED.
    pub async fn authenticate_any(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<Caller, ApiError> {
        match self.remembered_caller(headers) {
            Some(caller) => Ok(caller),
            None => self.exchange(extensions, headers).await,
        }
    }

    /// Returns the personal access token in the headers, if there is one and such tokens are accepted.
    fn personal_access_token<'h>(&self, headers: &'h HeaderMap) -> Option<(&PersonalAccessTokens, &'h str)> {
        let token = bearer(headers).ok().filter(|token| PersonalAccessTokens::is_one(token))?;
        Some((self.personal_access_tokens.as_deref()?, token))
    }

    /// Returns the caller with a personal access token, if its session is active.
    fn accept(&self, accepted: &Accepted) -> Result<Caller, ApiError> {
        self.check_still_valid(accepted.claims())?;
        Ok(Caller { claims: accepted.claims().clone(), has_personal_access_token: true })
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub fn verify(&self, token: &str) -> Result<AccessClaims, ApiError> {
        self.verify_with_audience(token).map(|(claims, _)| claims)
    }

    /// Verifies a token and returns its claims and its audience.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub fn verify_with_audience(&self, token: &str) -> Result<(AccessClaims, &str), ApiError> {
        let freshness = self.revocations.freshness();
        let keys = self.keys.current().filter(|_| freshness.accepts_tokens()).ok_or_else(not_ready)?;
        let (names, now) = (self.expected_names(), self.clock.now());
        let verified = token::verify_with_audience(&keys, names, token, now).map_err(|error| match error {
            // New keys are received with the revocations, so they may be missing too.
            TokenError::KeyUnknown if freshness != Freshness::Fresh => not_ready(),
            TokenError::NotYetValid(by) => {
                self.log_future_token(by);
                error.into()
            }
            error => error.into(),
        })?;
        self.check_still_valid(&verified.0)?;
        Ok(verified)
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
            if let Err(error) = self.check_still_valid(&caller.claims) {
                return error;
            }
            // An update and a timeout are handled alike.
            _ = timeout(POLL_INTERVAL, updates.changed()).await;
        }
    }

    /// Returns the claims of a token, even if it has expired or its session was revoked.
    ///
    /// # Errors
    /// UNAUTHENTICATED / TOKEN_INVALID, or UNAVAILABLE / VERIFIER_NOT_READY while there are no keys.
    pub fn verify_expired(&self, token: &str) -> Result<AccessClaims, ApiError> {
        let keys = self.keys.current().ok_or_else(not_ready)?;
        Ok(token::verify_expired(&keys, self.expected_names(), token, self.clock.now())?.0)
    }
}

/// Adds the service that acts on behalf of a user, and this user, to the log lines of the call.
fn log_actor(caller: &Caller) {
    if let Some(actor) = caller.actor() {
        let span = tracing::Span::current();
        span.record("user_id", display(caller.user_id()));
        span.record("actor_id", display(actor));
    }
}

fn not_ready() -> ApiError {
    let message = "revocations are not received at the moment, so no token is accepted";
    ApiError::new(Code::Unavailable, ErrorReason::VerifierNotReady, message).retry_after(Duration::from_secs(1))
}

impl Interceptor for Authenticator {
    /// Authenticates the caller of an RPC, unless [`Protected`] has done so by a personal access token. Counts the call, and
    /// checks the scope that [`Protected`] has looked up.
    ///
    /// [`Protected`]: super::protected::Protected
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = match request.extensions_mut().remove() {
            Some(PersonalCaller(caller)) => caller?,
            None => self.authenticate(request.metadata().as_ref())?,
        };
        log_actor(&caller);
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
