//! A gateway before an auth-service that knows a few tokens by name, and a task-service that takes them.

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
    auth::v1::{LogoutResponse, RefreshRequest, TokenPair},
    errors::v1::ErrorReason,
    task::v1::Task,
};
use tonic::{Code, Status};

use crate::{
    fake_backend::Call,
    program::Program,
    support::{Answer, FakeBackend, Reply, config},
};

pub(crate) const LOGIN: &str = "/taskey.auth.v1.AuthService/Login";
pub(crate) const REFRESH: &str = "/taskey.auth.v1.AuthService/Refresh";
pub(crate) const LOGOUT: &str = "/taskey.auth.v1.AuthService/Logout";

pub(crate) struct Site {
    pub(crate) program: Program,
    pub(crate) auth: FakeBackend,
    pub(crate) task: FakeBackend,
}

impl Site {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::before(Reply::by(of_task), flags).await
    }

    pub(crate) async fn before(task: Reply, flags: &[&str]) -> Self {
        let (auth, task) = (FakeBackend::start(Reply::by(of_auth)).await, FakeBackend::start(task).await);
        let program = Program::start(settings(&auth.url(), &task.url(), flags)).await;
        Self { program, auth, task }
    }

    /// A request with these cookies, and with what a browser says of a page of the same origin.
    pub(crate) fn request(&self, method: Method, path: &str, cookies: &str) -> Request<Full<Bytes>> {
        let body = if method == Method::POST { "{}" } else { "" };
        let mut request = self.program.request(method, path, body);
        request.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
        if !cookies.is_empty() {
            request.headers_mut().insert("cookie", cookies.parse().unwrap());
        }
        request
    }

    pub(crate) async fn get(&self, cookies: &str) -> Answer {
        self.program.send(self.request(Method::GET, "/v1/tasks/x", cookies)).await
    }

    /// The tokens with which the task-service was called.
    pub(crate) fn bearers(&self) -> Vec<String> {
        self.task.calls().iter().map(bearer).collect()
    }

    /// How often auth-service was asked for new tokens.
    pub(crate) fn refreshes(&self) -> usize {
        self.auth.calls().iter().filter(|call| call.rpc == REFRESH).count()
    }
}

pub(crate) fn settings(auth: &str, task: &str, flags: &[&str]) -> Config {
    config(&[&["--auth-url", auth, "--task-url", task], flags].concat())
}

fn refuse(code: Code, reason: ErrorReason) -> Reply {
    Reply::Refuse(Status::from(ApiError::new(code, reason, "no")))
}

pub(crate) fn pair(access_token: &str, refresh_token: &str) -> TokenPair {
    let after = |seconds| -> Timestamp { Clock::system().now() + std::time::Duration::from_secs(seconds) };
    TokenPair {
        access_token: access_token.to_owned(),
        refresh_token: refresh_token.to_owned(),
        token_type: "Bearer".to_owned(),
        access_expire_time: Some(after(300).into()),
        refresh_expire_time: Some(after(3000).into()),
        ..TokenPair::default()
    }
}

/// What auth-service does.
pub(crate) fn of_auth(call: &Call) -> Reply {
    match &call.rpc[..] {
        LOGIN => Reply::message(&pair("access-first", "refresh-first")),
        LOGOUT => Reply::message(&LogoutResponse::default()),
        REFRESH => match &call.message::<RefreshRequest>().refresh_token[..] {
            "refresh-good" => Reply::message(&pair("access-new", "refresh-new")),
            "refresh-useless" => Reply::message(&pair("access-expired", "refresh-new")),
            "refresh-old" => refuse(Code::Aborted, ErrorReason::RefreshTokenSuperseded),
            "refresh-slow" => Reply::Nothing,
            _ => refuse(Code::Unauthenticated, ErrorReason::RefreshTokenInvalid),
        },
        _ => refuse(Code::Unimplemented, ErrorReason::MethodUnknown),
    }
}

/// What task-service does, by the token.
pub(crate) fn of_task(call: &Call) -> Reply {
    let reason = match &bearer(call)[..] {
        "" => ErrorReason::TokenMissing,
        "Bearer access-expired" => ErrorReason::TokenExpired,
        "Bearer access-revoked" => ErrorReason::TokenRevoked,
        _ => return Reply::message(&Task { id: "x".to_owned(), ..Task::default() }),
    };
    refuse(Code::Unauthenticated, reason)
}

fn bearer(call: &Call) -> String {
    call.values("authorization").join(", ")
}

impl Answer {
    /// The cookies that it sets.
    pub(crate) fn cookies(&self) -> Vec<Cookie<'_>> {
        let headers = self.headers.get_all("set-cookie").iter();
        headers.map(|value| Cookie::parse(value.to_str().unwrap()).unwrap()).collect()
    }

    /// The name and value of each cookie that it sets.
    pub(crate) fn kept(&self) -> Vec<(String, String)> {
        self.cookies().iter().map(|cookie| (cookie.name().to_owned(), cookie.value().to_owned())).collect()
    }

    /// Asserts that it makes the browser forget both tokens.
    #[track_caller]
    pub(crate) fn assert_forgets(&self) {
        let gone = |name: &str| (name.to_owned(), String::new());
        assert_eq!(self.kept(), [gone("taskey_access"), gone("taskey_refresh")], "{self:?}");
        assert!(self.cookies().iter().all(|cookie| cookie.max_age() == Some(Duration::ZERO)), "{self:?}");
    }
}
