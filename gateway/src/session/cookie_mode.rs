//! Cookie mode: browsers log in and stay logged in without exposing tokens to scripts. Login stores the tokens in
//! cookies. Calls without an `authorization` header use the access token in the cookies. If it has expired, it is
//! renewed with the refresh token.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request};
use prost::Message;
use prost_reflect::Value;
use service_kit::{clock::Clock, status::ApiError};
use taskey_proto::{
    auth::v1::{ReauthenticateResponse, RefreshRequest, TokenPair, auth_service_client::AuthServiceClient},
    errors::v1::ErrorReason,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, body::Body};

use crate::{
    backend::{self, Backend},
    http::{call::Call, error::HttpError, headers},
    quota::Client,
    routing::binding::Route,
    session::{
        cookie::{CookieSettings, TokenCookies, Tokens},
        origin::is_same_origin,
    },
};

/// The RPCs whose tokens can be stored in cookies.
pub(crate) const LOGINS: [&str; 3] = [
    "/taskey.auth.v1.AuthService/Login",
    "/taskey.auth.v1.AuthService/CompleteLogin",
    "/taskey.auth.v1.AuthService/FinishPasskeyLogin",
];

/// The RPC that returns another access token of a session.
const REAUTHENTICATE: &str = "/taskey.auth.v1.AccountService/Reauthenticate";
const LOGOUT: &str = "/taskey.auth.v1.AuthService/Logout";
/// The RPC with which a page renews its tokens before a long call.
pub(crate) const REFRESH: &str = "/taskey.auth.v1.AuthService/Refresh";

/// The prefix of the RPCs of AuthService. They need no access token, so they never use cookies, except for logout, and for a
/// refresh that requests it.
const AUTH_SERVICE: &str = "/taskey.auth.v1.AuthService/";

/// The query parameter with which a login or a refresh requests cookies.
pub(crate) const PARAMETER: &str = "cookie";

/// How long the result of a refresh is reused. A page makes several calls at once with the same refresh token.
const REFRESH_REUSE: Duration = Duration::from_secs(10);

/// Timeout of a refresh. It does not depend on the deadlines of the calls that wait for it.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);

type SharedRefresh = Shared<BoxFuture<'static, Result<TokenPair, Status>>>;

/// Cookie mode and its current refreshes.
pub struct CookieMode {
    /// What the cookies depend on.
    pub settings: CookieSettings,
    clock: Clock,
    /// The backend that refreshes tokens. Without it, tokens are not renewed.
    auth: Option<Backend>,
    /// The current and recent refreshes, by refresh token.
    refreshes: Arc<Mutex<HashMap<String, SharedRefresh>>>,
}

impl fmt::Debug for CookieMode {
    /// Omits the refreshes, which contain tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieMode").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How a request uses cookies.
#[derive(Debug)]
pub enum CookieAuth {
    /// It does not use cookies.
    None,
    /// It logs in and requests cookies. The `set-cookie` headers are filled from the response.
    Login(TokenCookies, Vec<HeaderValue>),
    /// It is authenticated by its cookies.
    Session(Session),
}

/// A request that is authenticated by cookies.
pub struct Session {
    cookies: TokenCookies,
    tokens: Tokens,
    /// The `set-cookie` headers of the response.
    set_cookie: Vec<HeaderValue>,
}

impl fmt::Debug for Session {
    /// Omits the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("cookies", &self.cookies).finish_non_exhaustive()
    }
}

impl CookieMode {
    /// Creates cookie mode without any refreshes.
    #[must_use]
    pub fn new(settings: CookieSettings, clock: Clock, backends: &[Backend]) -> Self {
        let auth = backends
            .iter()
            .find(|backend| AUTH_SERVICE.strip_prefix('/').is_some_and(|service| backend.serves(service)))
            .cloned();
        Self { settings, clock, auth, refreshes: Arc::default() }
    }

    /// Determines how a request uses cookies. Removes the parameter that requests cookies from the query.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` (403) if the request uses cookies, its method is not safe, and it may come from another
    /// origin.
    pub fn cookie_auth(
        &self,
        request: &request::Parts,
        route: &Route,
        query: &mut String,
    ) -> Result<CookieAuth, HttpError> {
        let cookies = TokenCookies::for_request(request, &self.settings);
        let rpc = route.rpc.as_str();
        let uses_refresh_cookie = rpc == REFRESH && remove_cookie_parameter(query);
        let cookie_auth = if LOGINS.contains(&rpc) {
            if remove_cookie_parameter(query) { CookieAuth::Login(cookies, Vec::new()) } else { CookieAuth::None }
        } else if !uses_refresh_cookie
            && (request.headers.contains_key(header::AUTHORIZATION) || (rpc.starts_with(AUTH_SERVICE) && rpc != LOGOUT))
        {
            CookieAuth::None
        } else {
            let tokens = cookies.tokens(&request.headers);
            let has_tokens = tokens.access.is_some() || tokens.refresh.is_some();
            if has_tokens || uses_refresh_cookie {
                CookieAuth::Session(Session { cookies, tokens, set_cookie: Vec::new() })
            } else {
                CookieAuth::None
            }
        };
        let is_safe = [Method::GET, Method::HEAD].contains(&request.method);
        match &cookie_auth {
            CookieAuth::Login(cookies, _) | CookieAuth::Session(Session { cookies, .. })
                if !is_safe && !is_same_origin(request, cookies, &self.settings) =>
            {
                Err(other_origin())
            }
            _ => Ok(cookie_auth),
        }
    }

    /// Adds the tokens from the cookies to a call: the refresh token to a logout or a refresh, the access token to any other
    /// call. If the access token is missing because it has expired, renews it.
    ///
    /// # Errors
    /// If the refresh fails.
    pub async fn apply(&self, cookie_auth: &mut CookieAuth, call: &mut Call<'_>) -> Result<(), Status> {
        let CookieAuth::Session(session) = cookie_auth else { return Ok(()) };
        match (&session.tokens.access, &session.tokens.refresh) {
            (_, Some(refresh)) if [LOGOUT, REFRESH].contains(&call.route.rpc.as_str()) => {
                call.message.set_field_by_name("refresh_token", Value::String(refresh.clone()));
                session.tokens = Tokens::default();
            }
            _ if call.route.rpc.as_str() == REFRESH => {}
            (Some(access), _) => authorize(call, access),
            (None, _) => self.renew(cookie_auth, call).await?,
        }
        Ok(())
    }

    /// Renews the access token of a call, if there is a refresh token.
    ///
    /// # Errors
    /// If the refresh fails.
    pub async fn renew(&self, cookie_auth: &mut CookieAuth, call: &mut Call<'_>) -> Result<(), Status> {
        let (CookieAuth::Session(session), Some(auth)) = (cookie_auth, &self.auth) else { return Ok(()) };
        let Some(refresh) = session.tokens.refresh.take() else { return Ok(()) };
        let (metadata, client) =
            (headers::metadata(call.request, call.id, auth), Client::from_extensions(&call.request.extensions));
        let pair = self.refresh(refresh, auth, metadata, client).await;
        let pair = pair.map_err(|status| backend::ensure_reason(auth.name, status, call.deadline))?;
        session.set_cookie = session.cookies.store(&pair, self.clock.now().into()).to_vec();
        authorize(call, &pair.access_token);
        Ok(())
    }

    /// Exchanges a refresh token for a new pair of tokens. Concurrent and subsequent calls with the same refresh
    /// token share the result for [`REFRESH_REUSE`].
    async fn refresh(
        &self,
        refresh_token: String,
        auth: &Backend,
        metadata: HeaderMap,
        client: Client,
    ) -> Result<TokenPair, Status> {
        let refresh = match self.refreshes().entry(refresh_token) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let refresh = start_refresh(entry.key().clone(), auth, metadata, client)?;
                tokio::spawn(remove_later(Arc::clone(&self.refreshes), entry.key().clone(), refresh.clone()));
                entry.insert(refresh).clone()
            }
        };
        refresh.await
    }

    // The lock is held while a refresh is looked up and inserted, so that only one is started. Never held across an
    // await.
    fn refreshes(&self) -> MutexGuard<'_, HashMap<String, SharedRefresh>> {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the tokens from an encoded response to cookies: those of a login or a refresh that requested it, and the access
    /// token of a session that uses cookies.
    ///
    /// # Errors
    /// If the response does not have the type of the RPC.
    pub fn strip_tokens(
        &self,
        cookie_auth: &mut CookieAuth,
        route: &Route,
        response: Bytes,
    ) -> Result<Bytes, ApiError> {
        let now = self.clock.now().into();
        match cookie_auth {
            CookieAuth::Login(cookies, set_cookie) => {
                let pair = TokenPair::decode(response).map_err(ApiError::internal)?;
                // The response to a password may be a challenge, without tokens.
                if !pair.access_token.is_empty() {
                    *set_cookie = cookies.store(&pair, now).to_vec();
                }
                Ok(without_tokens(pair))
            }
            CookieAuth::Session(session) if route.rpc.as_str() == REFRESH => {
                let pair = TokenPair::decode(response).map_err(ApiError::internal)?;
                session.set_cookie = session.cookies.store(&pair, now).to_vec();
                Ok(without_tokens(pair))
            }
            CookieAuth::Session(session) if route.rpc.as_str() == REAUTHENTICATE => {
                let mut renewed = ReauthenticateResponse::decode(response).map_err(ApiError::internal)?;
                let access = session.cookies.store_access(&renewed.access_token, renewed.access_expire_time, now);
                // If the tokens were refreshed before the call, the first cookie has the access token of the refresh.
                match session.set_cookie.first_mut() {
                    Some(first) => *first = access,
                    None => session.set_cookie.push(access),
                }
                renewed.access_token.clear();
                Ok(renewed.encode_to_vec().into())
            }
            _ => Ok(response),
        }
    }
}

impl CookieAuth {
    /// Reports whether there is an unused refresh token.
    #[must_use]
    pub fn can_renew(&self) -> bool {
        matches!(self, Self::Session(session) if session.tokens.refresh.is_some())
    }

    /// Reports whether the tokens were renewed by this request.
    #[must_use]
    pub fn is_renewed(&self) -> bool {
        matches!(self, Self::Session(session) if !session.set_cookie.is_empty())
    }

    /// Adds the cookies to a response: new tokens after a login or a refresh, deleted cookies after a logout.
    #[must_use]
    pub fn apply_to_response(self, route: &Route, mut response: Response<Body>) -> Response<Body> {
        let set_cookie = match self {
            Self::None => return response,
            Self::Login(_, set_cookie) => set_cookie,
            Self::Session(session) if route.rpc.as_str() == LOGOUT => session.cookies.delete().to_vec(),
            Self::Session(session) => session.set_cookie,
        };
        for cookie in set_cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Adds the cookies to an error: deletes them if the tokens are no longer valid, otherwise stores renewed tokens. An access
    /// token that has expired does not end the session while there is a refresh token that was not refused.
    #[must_use]
    pub fn apply_to_error(self, error: HttpError) -> HttpError {
        let has_refresh_token = self.can_renew() || self.is_renewed();
        let Self::Session(session) = self else { return error };
        let has_ended = error.refuses_tokens() && !(error.is_token_expired() && has_refresh_token);
        let set_cookie = if has_ended { session.cookies.delete().to_vec() } else { session.set_cookie };
        set_cookie.into_iter().fold(error, HttpError::with_cookie)
    }
}

/// Returns an encoded pair whose tokens are empty.
fn without_tokens(pair: TokenPair) -> Bytes {
    TokenPair { access_token: String::new(), refresh_token: String::new(), ..pair }.encode_to_vec().into()
}

fn other_origin() -> HttpError {
    let message =
        "a request authenticated by cookies must come from this origin, according to Sec-Fetch-Site or Origin";
    let error = ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message);
    HttpError::from(error).with_status_code(StatusCode::FORBIDDEN)
}

fn authorize(call: &mut Call<'_>, access_token: &str) {
    // A value that is not allowed in a header is not a token. The service then refuses the call.
    if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {access_token}")) {
        bearer.set_sensitive(true);
        call.metadata.insert(header::AUTHORIZATION, bearer);
    }
}

/// Starts a refresh. It continues if the client disconnects, since the refresh token may already have been used.
fn start_refresh(
    refresh_token: String,
    auth: &Backend,
    metadata: HeaderMap,
    client: Client,
) -> Result<SharedRefresh, ApiError> {
    let mut service = AuthServiceClient::new(auth.unary_calls.acquire(client)?);
    let mut request = backend::new_request(RefreshRequest { refresh_token }, metadata);
    // All calls with the same refresh token wait for this request.
    request.set_timeout(REFRESH_TIMEOUT);
    let call = async move { service.refresh(request).await.map(tonic::Response::into_inner) };
    let refresh = tokio::spawn(timeout(REFRESH_TIMEOUT, call));
    let refresh = async {
        match refresh.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(backend::deadline_exceeded().into()),
            Err(_) => Err(ApiError::internal("a token refresh was aborted").into()),
        }
    };
    Ok(refresh.boxed().shared())
}

/// Removes a refresh after [`REFRESH_REUSE`]. Removes a failed refresh immediately, so that it can be retried.
async fn remove_later(
    refreshes: Arc<Mutex<HashMap<String, SharedRefresh>>>,
    refresh_token: String,
    refresh: SharedRefresh,
) {
    if refresh.await.is_ok() {
        sleep(REFRESH_REUSE).await;
    }
    refreshes.lock().unwrap_or_else(PoisonError::into_inner).remove(&refresh_token);
}

/// Removes `cookie=true` from a query and reports whether it was present.
fn remove_cookie_parameter(query: &mut String) -> bool {
    let is_cookie_parameter = |parameter: &&str| *parameter == format!("{PARAMETER}=true");
    let is_present = query.split('&').any(|parameter| is_cookie_parameter(&parameter));
    if is_present {
        *query = query.split('&').filter(|parameter| !is_cookie_parameter(parameter)).collect::<Vec<_>>().join("&");
    }
    is_present
}
