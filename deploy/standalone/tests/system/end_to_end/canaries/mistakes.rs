//! Mistakes of users and programs that have a secret, and database failures.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::prost::Message;
use taskey_proto::auth::v1::{ChangePasswordRequest, LoginRequest, RefreshRequest, SignUpRequest};

use super::{
    calls::{Rpc, percent_encode},
    scenario::{Account, CHANGE_PASSWORD, FORGED, JSON, LIST_TASKS, LOGIN, REFRESH, SIGN_UP, Scenario},
};

/// Fields whose texts are stored and returned by design.
const STORED_FIELDS: [&str; 5] = ["title", "notes", "display_name", "session_label", "label"];

/// Headers that contain a secret or are read by some program.
const HEADERS: [&str; 10] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-taskey-service-token",
    "x-forwarded-for",
    "traceparent",
    "grpc-timeout",
    "request-timeout",
    "if-match",
    "accept",
];

/// Larger than any allowed message.
const OVERSIZED: usize = 4 * 1024 * 1024;

/// Secrets in rotation, so that each gets into every kind of field.
pub struct SecretRotation {
    pub secrets: Vec<String>,
    pub next_index: AtomicUsize,
}

impl SecretRotation {
    fn next(&self) -> &str {
        &self.secrets[self.next_index.fetch_add(1, Ordering::SeqCst) % self.secrets.len()]
    }
}

impl Scenario {
    /// Calls every RPC over gRPC and HTTP with secrets in all fields whose texts are not stored. Sue sends the wrong
    /// passwords, because logins are throttled after that.
    pub async fn call_with_secrets(&mut self, ann: &Account, sue: &Account, secrets: &SecretRotation) {
        let texts = |field: &str| if STORED_FIELDS.contains(&field) { None } else { Some(secrets.next().to_owned()) };
        for rpc in Rpc::all() {
            for over_http in [false, true] {
                // Some RPCs end the session.
                let pair = self.log_in(&ann.email, &ann.password).await.expect("logged in");
                let pair = if rpc.takes_password() { &sue.pair } else { &pair };
                let authorization = format!("Bearer {}", pair.access_token);
                if over_http {
                    let request = rpc.http(&texts);
                    let headers = [JSON, &format!("authorization: {authorization}")];
                    self.recorder.http(&request.verb, &request.path, &headers, &request.body).await;
                } else {
                    let headers = [("authorization", &authorization[..])];
                    _ = self.recorder.grpc(&rpc.path, rpc.message(&texts), &headers).await;
                }
            }
        }
    }

    /// Puts secrets into headers, paths and queries.
    pub async fn misplace_secrets(&self, secrets: &SecretRotation) {
        for name in HEADERS {
            let secret = secrets.next();
            let basic = BASE64_STANDARD.encode(format!("ann:{secret}"));
            for value in [secret, &format!("Bearer {secret}"), &format!("Basic {basic}")] {
                _ = self.recorder.grpc(LIST_TASKS, vec![], &[(name, value)]).await;
                _ = self.recorder.grpc(LOGIN, vec![], &[(name, value)]).await;
                self.recorder.http("POST", "/v1/auth/logout", &[&format!("{name}: {value}")], b"{}").await;
            }
        }
        for path in [
            "/SECRET",
            "/v1/tasks/SECRET",
            "/v1/tasks/SECRET:complete",
            "/v1/SECRET/tasks?page_size=SECRET",
            "/v1/tasks?access_token=SECRET&pageToken=SECRET&pageSize=SECRET&showDeleted=SECRET",
            "/v1/auth/login?password=SECRET",
            "/v1/tasks/%FFSECRET",
        ] {
            let path = path.replace("SECRET", &percent_encode(secrets.next()));
            for verb in ["GET", "DELETE"] {
                self.recorder.http(verb, &path, &[], b"").await;
            }
            _ = self.recorder.grpc(path.split('?').next().expect("a path"), vec![], &[]).await;
        }
    }

    /// Sends requests with a password that cannot be decoded, have wrong types or are too large.
    pub async fn send_undecodable_requests(&self, password: &str) {
        let text = serde_json::json!(password).to_string();
        let form = format!("email=a@x.io&password={}", percent_encode(password));
        let oversized = password.repeat(OVERSIZED / password.len());
        for (kind, body) in [
            (JSON, format!(r#"{{"email": "a@x.io", "password": {text}"#)),
            (JSON, format!(r#"{{"email": "a@x.io", "password": {text}}} {{}}"#)),
            (JSON, format!(r#"{{"email": "a@x.io", "password": [{text}]}}"#)),
            (JSON, format!(r#"{{"email": "a@x.io", "password": {{"it": {text}}}}}"#)),
            (JSON, format!(r#"{{"email": 1, "password": {text}}}"#)),
            (JSON, format!(r#"{{"email": "a@x.io", "password": {text}, "password": {text}}}"#)),
            (JSON, format!(r#"{{"email": "a@x.io", "pasword": {text}}}"#)),
            (JSON, format!(r#"{{"email": {text}, "password": {text}}}"#)),
            (JSON, format!("[{text}]")),
            (JSON, text.clone()),
            (JSON, password.to_owned()),
            (JSON, format!(r#"{{"email": "a@x.io", "password": "{oversized}"}}"#)),
            ("content-type: text/plain", password.to_owned()),
            ("content-type: application/x-www-form-urlencoded", form),
        ] {
            for path in ["/v1/auth/login", "/v1/auth/signup"] {
                let (status, response) = self.recorder.http("POST", path, &[kind], body.as_bytes()).await;
                assert!((400..=415).contains(&status), "{status} {response}");
            }
        }
        let login = LoginRequest { email: "a@x.io".to_owned(), password: password.to_owned(), ..Default::default() };
        let valid = login.encode_to_vec();
        let wrong_type = [&[0x08][..], password.as_bytes()].concat();
        let invalid_utf8 =
            [&[0x12, u8::try_from(password.len() + 1).expect("short")], password.as_bytes(), &[0xff]].concat();
        let oversized = LoginRequest { password: oversized, ..login }.encode_to_vec();
        for message in [&valid[..valid.len() - 1], &wrong_type, &invalid_utf8, &oversized] {
            for rpc in [LOGIN, SIGN_UP, CHANGE_PASSWORD] {
                self.recorder.grpc(rpc, message.to_vec(), &[]).await.expect_err("it cannot be decoded");
            }
        }
    }

    /// Tries to inject lines into the log and into headers.
    pub async fn inject_lines(&self, eve: &Account) {
        for end in ["\n", "\r\n", "\r", "\0\n", "\u{85}\n", "\u{2028}\n", "\u{1b}[2K\n"] {
            let line = format!("{end}{FORGED}");
            let new = SignUpRequest {
                email: format!("eve@example.com{line}"),
                password: format!("{}{line}", eve.password),
                display_name: format!("Eve{line}"),
            };
            let login = LoginRequest {
                email: eve.email.clone(),
                password: eve.password.clone(),
                session_label: format!("hers{line}"),
                ..LoginRequest::default()
            };
            self.recorder.grpc(SIGN_UP, new.encode_to_vec(), &[]).await.expect_err("refused");
            self.recorder.grpc(LOGIN, login.encode_to_vec(), &[]).await.expect_err("refused");
            let email = serde_json::json!({"email": format!("eve{line}@x.io"), "password": eve.password}).to_string();
            assert_eq!(self.recorder.http("POST", "/v1/auth/login", &[JSON], email.as_bytes()).await.0, 400);
            for path in [
                format!("/v1/tasks/{}", percent_encode(&line)),
                format!("/v1/tasks?page_token={}", percent_encode(&line)),
            ] {
                self.recorder.http("GET", &path, &[&format!("user-agent: Eve{}", percent_encode(&line))], b"").await;
            }
            _ = self
                .recorder
                .grpc(&format!("/taskey.auth.v1.AuthService/{}", percent_encode(&line)), vec![], &[])
                .await;
        }
    }

    /// Logs in with wrong passwords, once for an account that does not exist.
    pub async fn guess_passwords(&mut self) {
        let mal = self.sign_up_and_log_in("mal@example.com").await;
        let wrong = self.password("nobody");
        for email in ["mal@example.com", "nobody@example.com", "mal@example.com"] {
            self.log_in(email, &wrong).await.expect_err("refused");
            let body = serde_json::json!({"email": email, "password": wrong}).to_string();
            assert_ne!(self.recorder.http("POST", "/v1/auth/login", &[JSON], body.as_bytes()).await.0, 200);
        }
        // The correct password is not checked before the delay has passed.
        self.log_in(&mal.email, &mal.password).await.expect_err("refused");
    }

    /// Makes calls while the database fails.
    pub async fn call_during_database_faults(&mut self, ann: &Account) {
        let zoe = self.password("zoe@example.com");
        // Kim's password may or may not be changed when the connection is lost.
        let kim = self.sign_up_and_log_in("kim@example.com").await;
        let pair = self.log_in(&ann.email, &ann.password).await.expect("logged in");
        let login = LoginRequest { email: ann.email.clone(), password: ann.password.clone(), ..Default::default() }
            .encode_to_vec();
        let new = SignUpRequest { email: "zoe@example.com".to_owned(), password: zoe.clone(), ..Default::default() };
        let change = ChangePasswordRequest { current_password: kim.password, new_password: zoe };
        let refresh = RefreshRequest { refresh_token: pair.refresh_token };
        let authorization = format!("Bearer {}", kim.pair.access_token);
        let authorization = [("authorization", &authorization[..])];
        let body = serde_json::json!({"email": ann.email, "password": ann.password}).to_string();
        let recorder = &self.recorder;
        let failed = AtomicUsize::new(0);
        recorder
            .with_faults(async || {
                let outcomes = [
                    recorder.grpc(SIGN_UP, new.encode_to_vec(), &[]).await.is_err(),
                    recorder.grpc(CHANGE_PASSWORD, change.encode_to_vec(), &authorization).await.is_err(),
                    recorder.grpc(REFRESH, refresh.encode_to_vec(), &[]).await.is_err(),
                    recorder.grpc(LOGIN, login.clone(), &[]).await.is_err(),
                    recorder.http("POST", "/v1/auth/login", &[JSON], body.as_bytes()).await.0 != 200,
                ];
                failed.fetch_add(outcomes.iter().filter(|failed| **failed).count(), Ordering::SeqCst);
            })
            .await;
        assert!(failed.into_inner() >= 5, "the database did not fail");
    }
}
