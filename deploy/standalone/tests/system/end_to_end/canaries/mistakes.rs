//! What people and programs do wrong while they hold a secret, and what goes wrong with the database meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::prost::Message;
use taskey_proto::auth::v1::{ChangePasswordRequest, LoginRequest, RefreshRequest, SignUpRequest};

use super::{
    calls::{Rpc, escaped},
    scenario::{CHANGE_PASSWORD, FORGED, JSON, LIST_TASKS, LOGIN, Person, REFRESH, SIGN_UP, Scenario},
};

/// Fields whose texts are kept and shown, since that is what they are for.
const KEPT: [&str; 4] = ["title", "notes", "display_name", "session_label"];

/// Headers that hold a secret, or are read by some program.
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

/// More than any message may have.
const HUGE: usize = 4 * 1024 * 1024;

/// Secrets, dealt one after the other, so that each gets to every kind of place.
pub struct Deck {
    pub secrets: Vec<String>,
    pub dealt: AtomicUsize,
}

impl Deck {
    fn next(&self) -> &str {
        &self.secrets[self.dealt.fetch_add(1, Ordering::SeqCst) % self.secrets.len()]
    }
}

impl Scenario {
    /// Calls every RPC with secrets in all fields whose texts are not kept, over gRPC and over HTTP. Sue gives wrong
    /// passwords, since whoever does that cannot log in for a while.
    pub async fn call_badly(&mut self, ann: &Person, sue: &Person, secrets: &Deck) {
        let texts = |field: &str| if KEPT.contains(&field) { None } else { Some(secrets.next().to_owned()) };
        for rpc in Rpc::all() {
            for over_http in [false, true] {
                // Some of them end the session.
                let pair = self.log_in(&ann.email, &ann.password).await.expect("logged in");
                let pair = if rpc.takes_password() { &sue.pair } else { &pair };
                let authorization = format!("Bearer {}", pair.access_token);
                if over_http {
                    let request = rpc.http(&texts);
                    let headers = [JSON, &format!("authorization: {authorization}")];
                    self.witness.http(&request.verb, &request.path, &headers, &request.body).await;
                } else {
                    let headers = [("authorization", &authorization[..])];
                    _ = self.witness.grpc(&rpc.path, rpc.message(&texts), &headers).await;
                }
            }
        }
    }

    /// Puts secrets into headers, paths and queries where they do not belong.
    pub async fn misplace(&self, secrets: &Deck) {
        for name in HEADERS {
            let secret = secrets.next();
            let basic = BASE64_STANDARD.encode(format!("ann:{secret}"));
            for value in [secret, &format!("Bearer {secret}"), &format!("Basic {basic}")] {
                _ = self.witness.grpc(LIST_TASKS, vec![], &[(name, value)]).await;
                _ = self.witness.grpc(LOGIN, vec![], &[(name, value)]).await;
                self.witness.http("POST", "/v1/auth/logout", &[&format!("{name}: {value}")], b"{}").await;
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
            let path = path.replace("SECRET", &escaped(secrets.next()));
            for verb in ["GET", "DELETE"] {
                self.witness.http(verb, &path, &[], b"").await;
            }
            _ = self.witness.grpc(path.split('?').next().expect("a path"), vec![], &[]).await;
        }
    }

    /// Sends requests with a password in them that cannot be decoded, are of other types, or too large.
    pub async fn send_what_cannot_be_read(&self, password: &str) {
        let text = serde_json::json!(password).to_string();
        let form = format!("email=a@x.io&password={}", escaped(password));
        let huge = password.repeat(HUGE / password.len());
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
            (JSON, format!(r#"{{"email": "a@x.io", "password": "{huge}"}}"#)),
            ("content-type: text/plain", password.to_owned()),
            ("content-type: application/x-www-form-urlencoded", form),
        ] {
            for path in ["/v1/auth/login", "/v1/auth/signup"] {
                let (status, answer) = self.witness.http("POST", path, &[kind], body.as_bytes()).await;
                assert!((400..=415).contains(&status), "{status} {answer}");
            }
        }
        let login = LoginRequest { email: "a@x.io".to_owned(), password: password.to_owned(), ..Default::default() };
        let good = login.encode_to_vec();
        let wrong_type = [&[0x08][..], password.as_bytes()].concat();
        let no_utf8 =
            [&[0x12, u8::try_from(password.len() + 1).expect("short")], password.as_bytes(), &[0xff]].concat();
        let huge = LoginRequest { password: huge, ..login }.encode_to_vec();
        for message in [&good[..good.len() - 1], &wrong_type, &no_utf8, &huge] {
            for rpc in [LOGIN, SIGN_UP, CHANGE_PASSWORD] {
                self.witness.grpc(rpc, message.to_vec(), &[]).await.expect_err("it cannot be read");
            }
        }
    }

    /// Tries to write lines into the log and into headers.
    pub async fn inject_lines(&self, eve: &Person) {
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
            };
            self.witness.grpc(SIGN_UP, new.encode_to_vec(), &[]).await.expect_err("refused");
            self.witness.grpc(LOGIN, login.encode_to_vec(), &[]).await.expect_err("refused");
            let email = serde_json::json!({"email": format!("eve{line}@x.io"), "password": eve.password}).to_string();
            assert_eq!(self.witness.http("POST", "/v1/auth/login", &[JSON], email.as_bytes()).await.0, 400);
            for path in [format!("/v1/tasks/{}", escaped(&line)), format!("/v1/tasks?page_token={}", escaped(&line))] {
                self.witness.http("GET", &path, &[&format!("user-agent: Eve{}", escaped(&line))], b"").await;
            }
            _ = self.witness.grpc(&format!("/taskey.auth.v1.AuthService/{}", escaped(&line)), vec![], &[]).await;
        }
    }

    /// Wrong passwords, one of them for no account.
    pub async fn guess(&mut self) {
        let mal = self.person("mal@example.com").await;
        let wrong = self.password("nobody");
        for email in ["mal@example.com", "nobody@example.com", "mal@example.com"] {
            self.log_in(email, &wrong).await.expect_err("refused");
            let body = serde_json::json!({"email": email, "password": wrong}).to_string();
            assert_ne!(self.witness.http("POST", "/v1/auth/login", &[JSON], body.as_bytes()).await.0, 200);
        }
        // Not looked at before some time has passed.
        self.log_in(&mal.email, &mal.password).await.expect_err("refused");
    }

    /// What people do while the database fails.
    pub async fn lose_the_database(&mut self, ann: &Person) {
        let zoe = self.password("zoe@example.com");
        // Whose password may have been changed or not, when the connection is lost.
        let kim = self.person("kim@example.com").await;
        let pair = self.log_in(&ann.email, &ann.password).await.expect("logged in");
        let login = LoginRequest { email: ann.email.clone(), password: ann.password.clone(), ..Default::default() }
            .encode_to_vec();
        let new = SignUpRequest { email: "zoe@example.com".to_owned(), password: zoe.clone(), ..Default::default() };
        let change = ChangePasswordRequest { current_password: kim.password, new_password: zoe };
        let refresh = RefreshRequest { refresh_token: pair.refresh_token };
        let authorization = format!("Bearer {}", kim.pair.access_token);
        let authorization = [("authorization", &authorization[..])];
        let body = serde_json::json!({"email": ann.email, "password": ann.password}).to_string();
        let witness = &self.witness;
        let failed = AtomicUsize::new(0);
        witness
            .with_faults(async || {
                let outcomes = [
                    witness.grpc(SIGN_UP, new.encode_to_vec(), &[]).await.is_err(),
                    witness.grpc(CHANGE_PASSWORD, change.encode_to_vec(), &authorization).await.is_err(),
                    witness.grpc(REFRESH, refresh.encode_to_vec(), &[]).await.is_err(),
                    witness.grpc(LOGIN, login.clone(), &[]).await.is_err(),
                    witness.http("POST", "/v1/auth/login", &[JSON], body.as_bytes()).await.0 != 200,
                ];
                failed.fetch_add(outcomes.iter().filter(|failed| **failed).count(), Ordering::SeqCst);
            })
            .await;
        assert!(failed.into_inner() >= 5, "the database did not fail");
    }
}
