//! Cookie mode: a browser logs in and stays logged in without its scripts ever seeing a token. Login puts the tokens into
//! cookies, calls without an `authorization` header are made with them, and new ones are fetched when the access token
//! has expired.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request, uri::Authority};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use service_kit::{clock::Clock, network::ProxyArgs, status::ApiError};
use taskey_proto::{
    auth::v1::{RefreshRequest, TokenPair, auth_service_client::AuthServiceClient},
    errors::v1::ErrorReason,
};
use tokio::time::sleep;
use tonic::{Code, Extensions, Request, Status, body::Body, metadata::MetadataMap};

use crate::{
    backend::{self, Backend},
    http::{call::Call, error::HttpError, headers},
    routing::binding::Route,
    session::cookie::{Jar, Tokens},
};

/// The RPC whose answer may be kept in cookies.
pub(crate) const LOGIN: &str = "/taskey.auth.v1.AuthService/Login";
const LOGOUT: &str = "/taskey.auth.v1.AuthService/Logout";

/// RPCs of these services are open to anyone, so that they never rely on a cookie.
const OPEN: &str = "/taskey.auth.v1.AuthService/";

/// The parameter by which a login asks for cookies.
pub(crate) const PARAMETER: &str = "cookie";

/// The tokens of a refresh are given to all who ask for so long: a page makes several calls at once, with the same cookie.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// How long a refresh may take, whatever the deadline of who asked for it first.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);

type Refreshed = Shared<BoxFuture<'static, Result<TokenPair, Status>>>;

/// Cookie mode, with the refreshes that are under way.
pub struct CookieMode {
    /// Whether all clients come over TLS, whatever the connection is.
    pub always_secure: bool,
    /// The proxies that are believed.
    pub proxies: ProxyArgs,
    clock: Clock,
    /// Who gives new tokens; without it there are no sessions.
    auth: Option<Backend>,
    refreshes: Arc<Mutex<HashMap<String, Refreshed>>>,
}

impl fmt::Debug for CookieMode {
    /// Without the tokens of the refreshes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieMode").field("always_secure", &self.always_secure).finish_non_exhaustive()
    }
}

/// What a request has to do with cookies.
#[derive(Debug)]
pub enum CookieAuth {
    /// Nothing.
    None,
    /// It logs in, and wants the tokens in cookies: which, the answer says.
    Login(Jar, Vec<HeaderValue>),
    /// It relies on those that it bears.
    Session(Session),
}

/// A request that relies on cookies.
pub struct Session {
    jar: Jar,
    tokens: Tokens,
    /// Cookies that go with the answer.
    set: Vec<HeaderValue>,
}

impl fmt::Debug for Session {
    /// Without the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("jar", &self.jar).finish_non_exhaustive()
    }
}

impl CookieMode {
    /// Without refreshes.
    #[must_use]
    pub fn new(always_secure: bool, proxies: ProxyArgs, clock: Clock, backends: &[Backend]) -> Self {
        let auth =
            backends.iter().find(|backend| OPEN.strip_prefix('/').is_some_and(|open| backend.serves(open))).cloned();
        Self { always_secure, proxies, clock, auth, refreshes: Arc::default() }
    }

    /// What a request to a route has to do with cookies. The parameter that asks for them is taken out of the query.
    ///
    /// # Errors
    /// PERMISSION_DENIED, with 403, if it relies on cookies, changes something, and may come from another site.
    pub fn cookie_auth(
        &self,
        request: &request::Parts,
        route: &Route,
        query: &mut String,
    ) -> Result<CookieAuth, HttpError> {
        let jar = Jar::of(request, &self.proxies, self.always_secure);
        let rpc = route.rpc.as_str();
        let cookie_auth = if rpc == LOGIN {
            if take_parameter(query) { CookieAuth::Login(jar, Vec::new()) } else { CookieAuth::None }
        } else if request.headers.contains_key(header::AUTHORIZATION) || (rpc.starts_with(OPEN) && rpc != LOGOUT) {
            CookieAuth::None
        } else {
            let tokens = jar.tokens(&request.headers);
            let bears = tokens.access.is_some() || tokens.refresh.is_some();
            if bears { CookieAuth::Session(Session { jar, tokens, set: Vec::new() }) } else { CookieAuth::None }
        };
        let is_safe = [Method::GET, Method::HEAD].contains(&request.method);
        if matches!(cookie_auth, CookieAuth::None) || is_safe || is_same_origin(request, jar) {
            Ok(cookie_auth)
        } else {
            let message =
                "a request that relies on cookies must come from this origin: Sec-Fetch-Site or Origin says so";
            let error = ApiError::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message);
            Err(HttpError::from(error).with_http(StatusCode::FORBIDDEN))
        }
    }

    /// Puts what the cookies say into a call: who calls, or, of a logout, which session ends. An access token that has
    /// expired is gone from the browser, and a new one is fetched.
    ///
    /// # Errors
    /// Those of the refresh.
    pub async fn apply(&self, cookie_auth: &mut CookieAuth, call: &mut Call<'_>) -> Result<(), Status> {
        let CookieAuth::Session(session) = cookie_auth else { return Ok(()) };
        match (&session.tokens.access, &session.tokens.refresh) {
            (_, Some(refresh)) if call.route.rpc.as_str() == LOGOUT => {
                call.message.set_field_by_name("refresh_token", Value::String(refresh.clone()));
                session.tokens = Tokens::default();
            }
            (Some(access), _) => authorize(call, access),
            (None, _) => self.renew(cookie_auth, call).await?,
        }
        Ok(())
    }

    /// Makes a call that of a new access token, if there is a refresh token to get it with.
    ///
    /// # Errors
    /// Those of the refresh.
    pub async fn renew(&self, cookie_auth: &mut CookieAuth, call: &mut Call<'_>) -> Result<(), Status> {
        let (CookieAuth::Session(session), Some(auth)) = (cookie_auth, &self.auth) else { return Ok(()) };
        let Some(refresh) = session.tokens.refresh.take() else { return Ok(()) };
        let pair = self.refreshed(refresh, auth, headers::metadata(call.request, call.id, auth)).await;
        let pair = pair.map_err(|status| backend::complete(auth.name, status, call.deadline))?;
        session.set = session.jar.keep(&pair, self.clock.now().into()).to_vec();
        authorize(call, &pair.access_token);
        Ok(())
    }

    /// The pair that a refresh token is good for. Whoever asks for the same at the same time, or soon after, gets the same.
    async fn refreshed(&self, refresh_token: String, auth: &Backend, metadata: HeaderMap) -> Result<TokenPair, Status> {
        let refresh = match self.refreshes().entry(refresh_token) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(vacant) => {
                let refresh = refresh(vacant.key().clone(), auth, metadata);
                tokio::spawn(forget(Arc::clone(&self.refreshes), vacant.key().clone(), refresh.clone()));
                vacant.insert(refresh).clone()
            }
        };
        refresh.await
    }

    // Held until a refresh is found or put there, so that nobody else puts another; never across an await.
    fn refreshes(&self) -> MutexGuard<'_, HashMap<String, Refreshed>> {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the tokens out of the answer to a login that wants them in cookies.
    ///
    /// # Errors
    /// If it is no pair of tokens.
    pub fn strip_tokens(&self, cookie_auth: &mut CookieAuth, answer: &mut DynamicMessage) -> Result<(), ApiError> {
        let CookieAuth::Login(jar, cookies) = cookie_auth else { return Ok(()) };
        let pair = TokenPair::decode(&answer.encode_to_vec()[..]).map_err(ApiError::internal)?;
        for field in ["access_token", "refresh_token"] {
            answer.clear_field_by_name(field);
        }
        *cookies = jar.keep(&pair, self.clock.now().into()).to_vec();
        Ok(())
    }
}

impl CookieAuth {
    /// Whether there is a refresh token that has not been used yet.
    #[must_use]
    pub fn can_renew(&self) -> bool {
        matches!(self, Self::Session(session) if session.tokens.refresh.is_some())
    }

    /// The answer with the cookies that go with it: those of a login or a refresh, and after a logout none.
    #[must_use]
    pub fn answered(self, route: &Route, mut response: Response<Body>) -> Response<Body> {
        let cookies = match self {
            Self::None => return response,
            Self::Login(_, cookies) => cookies,
            Self::Session(session) if route.rpc.as_str() == LOGOUT => session.jar.forget().to_vec(),
            Self::Session(session) => session.set,
        };
        for cookie in cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// The error, which makes a browser forget tokens that are no longer good.
    #[must_use]
    pub fn refused(self, error: HttpError) -> HttpError {
        let Self::Session(session) = self else { return error };
        let cookies = if error.is_unauthenticated() { session.jar.forget().to_vec() } else { session.set };
        cookies.into_iter().fold(error, HttpError::with_cookie)
    }
}

fn authorize(call: &mut Call<'_>, access_token: &str) {
    // What cannot stand in a header is no token; the service says so.
    if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {access_token}")) {
        bearer.set_sensitive(true);
        call.metadata.insert(header::AUTHORIZATION, bearer);
    }
}

/// Fetches new tokens. It goes on when whoever asked has gone, for the token is spent then.
fn refresh(refresh_token: String, auth: &Backend, metadata: HeaderMap) -> Refreshed {
    let mut client = AuthServiceClient::new(auth.channel.clone());
    let message = RefreshRequest { refresh_token };
    let mut request = Request::from_parts(MetadataMap::from_headers(metadata), Extensions::new(), message);
    // All who ask for it wait for this one.
    request.set_timeout(REFRESH_TIMEOUT);
    let refresh = tokio::spawn(async move { client.refresh(request).await.map(tonic::Response::into_inner) });
    let refresh = async { refresh.await.unwrap_or_else(|_| Err(ApiError::internal("a refresh broke off").into())) };
    refresh.boxed().shared()
}

/// Forgets a refresh some time after its end; one that has failed at once, so that it can be tried again.
async fn forget(refreshes: Arc<Mutex<HashMap<String, Refreshed>>>, refresh_token: String, refresh: Refreshed) {
    if refresh.await.is_ok() {
        sleep(SHARED_FOR).await;
    }
    refreshes.lock().unwrap_or_else(PoisonError::into_inner).remove(&refresh_token);
}

/// Takes `cookie=true` out of a query, and says whether it was there.
fn take_parameter(query: &mut String) -> bool {
    let wanted = |parameter: &&str| *parameter == format!("{PARAMETER}=true");
    let asked = query.split('&').any(|parameter| wanted(&parameter));
    if asked {
        *query = query.split('&').filter(|parameter| !wanted(parameter)).collect::<Vec<_>>().join("&");
    }
    asked
}

/// Whether a browser says that a page of this origin makes the request: by `Sec-Fetch-Site` (Fetch Metadata, section
/// 2.3) or, if it is too old for that, by `Origin`. Who says neither is believed nothing.
fn is_same_origin(request: &request::Parts, jar: Jar) -> bool {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    // HTTP/2 has no `host`.
    let host = request.uri.authority().map(Authority::as_str).or_else(|| text("host"));
    match text("origin").and_then(|origin| origin.split_once("://")) {
        Some((scheme, origin)) => Some(origin) == host && (scheme == "https" || !jar.is_secure()),
        None => false,
    }
}
