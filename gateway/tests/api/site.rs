//! A gateway with a fake auth-service and a fake task-service, which recognize a few tokens by name.

use bytes::Bytes;
use cookie::{Cookie, time::Duration};
use gateway::Config;
use http::{Method, Request};
use http_body_util::Full;
use service_kit::{
    clock::{Clock, Timestamp},
    status::ApiError,
};
use taskey_proto::{
    auth::v1::{
        LoginChallenge, LoginRequest, LogoutResponse, ReauthenticateRequest, ReauthenticateResponse, RefreshRequest,
        TokenPair,
    },
    errors::v1::ErrorReason,
    task::v1::Task,
};
use tonic::{Code, Status};

use crate::{
    fake_backend::Call,
    program::Program,
    support::{FakeBackend, Reply, TestResponse, config},
};

pub(crate) const LOGIN: &str = "/taskey.auth.v1.AuthService/Login";
const COMPLETE_LOGIN: &str = "/taskey.auth.v1.AuthService/CompleteLogin";
const REAUTHENTICATE: &str = "/taskey.auth.v1.AccountService/Reauthenticate";

/// The user whose account has a second factor.
pub(crate) const USER_WITH_FACTOR: &str = "factor@example.com";

pub(crate) const REFRESH: &str = "/taskey.auth.v1.AuthService/Refresh";
pub(crate) const LOGOUT: &str = "/taskey.auth.v1.AuthService/Logout";

/// A running gateway with its fake backends.
pub(crate) struct Site {
    pub(crate) program: Program,
    pub(crate) auth: FakeBackend,
    pub(crate) task: FakeBackend,
}

impl Site {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_with(Reply::from_fn(task_reply), flags).await
    }

    /// Starts a gateway whose task-service sends `reply`.
    pub(crate) async fn start_with(reply: Reply, flags: &[&str]) -> Self {
        let (auth, task) = (FakeBackend::start(Reply::from_fn(auth_reply)).await, FakeBackend::start(reply).await);
        let program = Program::start(settings(&auth.url(), &task.url(), flags)).await;
        Self { program, auth, task }
    }

    /// Creates a request of a page of the same origin with these cookies.
    pub(crate) fn request(&self, method: Method, path: &str, cookies: &str) -> Request<Full<Bytes>> {
        let body = if method == Method::POST { "{}" } else { "" };
        let mut request = self.program.request(method, path, body);
        request.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
        if !cookies.is_empty() {
            request.headers_mut().insert("cookie", cookies.parse().unwrap());
        }
        request
    }

    pub(crate) async fn get(&self, cookies: &str) -> TestResponse {
        self.program.send(self.request(Method::GET, "/v1/tasks/x", cookies)).await
    }

    /// Returns the `authorization` of each call of task-service.
    pub(crate) fn bearers(&self) -> Vec<String> {
        self.task.calls().iter().map(bearer).collect()
    }

    /// Returns the number of refreshes.
    pub(crate) fn refresh_count(&self) -> usize {
        self.auth.calls().iter().filter(|call| call.rpc == REFRESH).count()
    }
}

pub(crate) fn settings(auth: &str, task: &str, flags: &[&str]) -> Config {
    config(&[&["--auth-url", auth, "--task-url", task], flags].concat())
}

fn error_reply(code: Code, reason: ErrorReason) -> Reply {
    Reply::Status(Status::from(ApiError::new(code, reason, "no")))
}

pub(crate) fn token_pair(access_token: &str, refresh_token: &str) -> TokenPair {
    let expire_time = |seconds| -> Timestamp { Clock::system().now() + std::time::Duration::from_secs(seconds) };
    TokenPair {
        access_token: access_token.to_owned(),
        refresh_token: refresh_token.to_owned(),
        token_type: "Bearer".to_owned(),
        access_expire_time: Some(expire_time(300).into()),
        refresh_expire_time: Some(expire_time(3000).into()),
        ..TokenPair::default()
    }
}

fn challenge() -> TokenPair {
    let challenge = LoginChallenge { token: "challenge".to_owned(), ..LoginChallenge::default() };
    TokenPair { challenge: Some(challenge), ..TokenPair::default() }
}

fn renewed_token() -> ReauthenticateResponse {
    let TokenPair { access_token, access_expire_time, .. } = token_pair("access-renewed", "");
    ReauthenticateResponse { access_token, access_expire_time, ..ReauthenticateResponse::default() }
}

/// Returns the reply of auth-service to a call.
pub(crate) fn auth_reply(call: &Call) -> Reply {
    match &call.rpc[..] {
        LOGIN if call.message::<LoginRequest>().email == USER_WITH_FACTOR => Reply::message(&challenge()),
        REAUTHENTICATE if call.message::<ReauthenticateRequest>().proof.is_some() => {
            error_reply(Code::Unauthenticated, ErrorReason::CodeInvalid)
        }
        REAUTHENTICATE => Reply::message(&renewed_token()),
        LOGIN | COMPLETE_LOGIN => Reply::message(&token_pair("access-first", "refresh-first")),
        LOGOUT => Reply::message(&LogoutResponse::default()),
        REFRESH => match &call.message::<RefreshRequest>().refresh_token[..] {
            "refresh-good" => Reply::message(&token_pair("access-new", "refresh-new")),
            "refresh-useless" => Reply::message(&token_pair("access-expired", "refresh-new")),
            "refresh-old" => error_reply(Code::Aborted, ErrorReason::RefreshTokenSuperseded),
            "refresh-slow" => Reply::Never,
            _ => error_reply(Code::Unauthenticated, ErrorReason::RefreshTokenInvalid),
        },
        _ => error_reply(Code::Unimplemented, ErrorReason::MethodUnknown),
    }
}

/// Returns the reply of task-service to a call, which depends on the access token.
pub(crate) fn task_reply(call: &Call) -> Reply {
    let reason = match &bearer(call)[..] {
        "" => ErrorReason::TokenMissing,
        "Bearer access-expired" => ErrorReason::TokenExpired,
        "Bearer access-revoked" => ErrorReason::TokenRevoked,
        _ => return Reply::message(&Task { id: "x".to_owned(), ..Task::default() }),
    };
    error_reply(Code::Unauthenticated, reason)
}

fn bearer(call: &Call) -> String {
    call.values("authorization").join(", ")
}

impl TestResponse {
    /// Returns the cookies that the response sets.
    pub(crate) fn cookies(&self) -> Vec<Cookie<'_>> {
        let headers = self.headers.get_all("set-cookie").iter();
        headers.map(|value| Cookie::parse(value.to_str().unwrap()).unwrap()).collect()
    }

    /// Returns the name and value of each cookie that the response sets.
    pub(crate) fn cookie_values(&self) -> Vec<(String, String)> {
        self.cookies().iter().map(|cookie| (cookie.name().to_owned(), cookie.value().to_owned())).collect()
    }

    /// Asserts that the response deletes both cookies.
    #[track_caller]
    pub(crate) fn assert_clears_cookies(&self) {
        let empty = |name: &str| (name.to_owned(), String::new());
        assert_eq!(self.cookie_values(), [empty("taskey_access"), empty("taskey_refresh")], "{self:?}");
        assert!(self.cookies().iter().all(|cookie| cookie.max_age() == Some(Duration::ZERO)), "{self:?}");
    }
}
