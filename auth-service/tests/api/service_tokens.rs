//! Service tokens: what they permit, and that unknown ones cost no query each.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    args, assert_refused, on_each_database, random,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    IntrospectRequest, IntrospectResponse, LoginRequest, LogoutRequest, RefreshRequest, TokenPair,
    WatchRevocationsRequest,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use crate::{
    migrations,
    support::{PASSWORD, Server, bearer, execute, issue_service_token, query_string, run_program},
};

on_each_database! {
    malformed_credentials_cause_no_query,
    calls_with_unknown_tokens_share_few_queries_and_a_new_token_is_accepted_meanwhile,
    a_token_grants_only_its_scopes,
    a_token_that_was_issued_before_scopes_existed_grants_all,
    a_token_expires,
    the_last_use_of_a_token_is_stored_once_a_day,
}

async fn introspect(server: &Server, credential: &str) -> Result<IntrospectResponse, Status> {
    let request = bearer(credential, IntrospectRequest { token: "x".to_owned(), ..Default::default() });
    server.token().introspect(request).await.map(Response::into_inner)
}

async fn login_for_client(server: &Server, service_token: &str) -> Result<TokenPair, Status> {
    let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
    let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
    request.metadata_mut().insert("x-taskey-service-token", service_token.parse().expect("ASCII"));
    request.metadata_mut().insert("x-forwarded-for", "203.0.113.7".parse().expect("ASCII"));
    server.auth().login(request).await.map(Response::into_inner)
}

/// Returns a token that has the format of service tokens, but was not issued.
fn unknown_token() -> String {
    format!("taskey_service_{}", BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<32>()))
}

fn issue(database: &TestDatabase, arguments: &[&str]) -> String {
    let (succeeded, token, error) = run_program(database, &[&["tokens", "issue-service"], arguments].concat());
    assert!(succeeded && error.is_empty(), "{error}");
    token.trim_end().to_owned()
}

async fn malformed_credentials_cause_no_query(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    // Without these tables, every query fails.
    for table in ["service_tokens", "sessions"] {
        let (rename, _) = hide(table);
        execute(&server.database, rename).await;
    }
    for failed in
        [server.refresh(&pair.refresh_token).await.map(|_| ()), introspect(&server, &unknown_token()).await.map(|_| ())]
    {
        let (_, reason, _) = refusal(&failed.expect_err("the query fails"));
        assert!(["STORE_UNAVAILABLE", "INTERNAL"].contains(&&reason[..]), "{reason}");
    }

    let access_token = &pair.access_token[..pair.access_token.len() - 2];
    for malformed in ["taskey_service_x", &format!("{}A", unknown_token()), "x.y.z", access_token] {
        assert_refused!(introspect(&server, malformed).await, Unauthenticated, "TOKEN_INVALID");
        assert_refused!(server.get_me(malformed).await, Unauthenticated, "TOKEN_INVALID");
        let mut request = Request::new(RefreshRequest { refresh_token: "A".repeat(75) });
        request.metadata_mut().insert("x-taskey-service-token", malformed.parse().expect("ASCII"));
        assert_refused!(server.auth().refresh(request).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    let logout = LogoutRequest { refresh_token: "A".repeat(75), wait_for_verifiers: true };
    assert_eq!(server.auth().logout(logout).await.expect("idempotent").into_inner().acknowledged_verifiers, 0);
    for table in ["service_tokens", "sessions"] {
        execute(&server.database, hide(table).1).await;
    }
    server.stop().await;
}

/// Returns the statements that rename a table, and that undo this.
fn hide(table: &str) -> (&'static str, &'static str) {
    match table {
        "sessions" => {
            ("alter table sessions rename to hidden_sessions", "alter table hidden_sessions rename to sessions")
        }
        _ => (
            "alter table service_tokens rename to hidden_service_tokens",
            "alter table hidden_service_tokens rename to service_tokens",
        ),
    }
}

async fn calls_with_unknown_tokens_share_few_queries_and_a_new_token_is_accepted_meanwhile(database: TestDatabase) {
    const CALLS: usize = 400;
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let is_postgres = !server.database.url().starts_with("sqlite:");
    let sessions = if is_postgres { server.database.session_count().await } else { 0 };
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let mut client = server.token();
        let request = bearer(&unknown_token(), IntrospectRequest { token: "x".to_owned(), ..Default::default() });
        calls.spawn(async move { client.introspect(request).await.map(|_| ()) });
    }
    let token = issue_service_token(&server.database, "billing");
    introspect(&server, &token).await.expect("a token that was issued a moment ago is accepted");
    login_for_client(&server, &token).await.expect("accepted");
    for refused in calls.join_all().await {
        assert_refused!(refused, Unauthenticated, "TOKEN_INVALID");
    }
    if is_postgres {
        let max_queries = begun.elapsed().as_millis() / 200 + 2;
        assert!(server.database.session_count().await - sessions < 10, "a connection per call");
        // Sessions report their statistics about once per second.
        tokio::time::sleep(Duration::from_secs(2)).await;
        introspect(&server, &unknown_token()).await.expect_err("refused");
        let scans = "select cast(seq_scan + coalesce(idx_scan, 0) as text) from pg_stat_user_tables
            where relname = 'service_tokens'";
        let scans: u128 = query_string(&server.database, scans).await.parse().expect("a number");
        // Issuing the token, storing its use and the purge at the start scan the table, too.
        assert!(scans <= max_queries + 8, "{scans} queries for {CALLS} calls");
    }
    server.stop().await;
}

/// Asserts that a call lacks this scope.
fn assert_scope_missing<T: std::fmt::Debug>(outcome: Result<T, Status>, required: &str) {
    let status = outcome.expect_err("refused");
    let metadata = status.get_details_error_info().expect("error info").metadata;
    assert_eq!(metadata.get("required").map(String::as_str), Some(required));
    assert_refused!(Err::<(), _>(status), PermissionDenied, "SCOPE_MISSING");
}

async fn a_token_grants_only_its_scopes(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let verify = issue(&server.database, &["billing", "--scope", "tokens.verify"]);
    introspect(&server, &verify).await.expect("introspected");
    assert_scope_missing(login_for_client(&server, &verify).await, "clients.forward");

    let forward = issue(&server.database, &["gateway", "--scope", "clients.forward"]);
    login_for_client(&server, &forward).await.expect("logged in");
    assert_scope_missing(introspect(&server, &forward).await, "tokens.verify");

    let both = issue(&server.database, &["both", "--scope", "tokens.verify", "--scope", "clients.forward"]);
    for token in [both, issue(&server.database, &["default"])] {
        introspect(&server, &token).await.expect("introspected");
        login_for_client(&server, &token).await.expect("logged in");
    }
    let (succeeded, output, error) =
        run_program(&server.database, &["tokens", "issue-service", "billing", "--scope", "tasks.write"]);
    assert!(!succeeded && output.is_empty() && error.contains("must be tokens.verify or clients.forward"), "{error}");
    server.stop().await;
}

async fn a_token_expires(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = issue(&server.database, &["billing", "--expires-in", "1h", "--scope", "tokens.verify"]);
    introspect(&server, &token).await.expect("introspected");
    server.manual_clock.advance(Duration::from_secs(3599));
    introspect(&server, &token).await.expect("introspected");
    let request = bearer(&token, WatchRevocationsRequest {});
    let mut watch = server.token().watch_revocations(request).await.expect("accepted").into_inner();
    // The clock of the command may be up to a minute ahead of that of the server, which stands still.
    server.manual_clock.advance(Duration::from_secs(61));
    assert_refused!(introspect(&server, &token).await, Unauthenticated, "TOKEN_INVALID");
    let ended = async { while watch.message().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("its streams end");
    let (succeeded, _, error) = run_program(&server.database, &["tokens", "issue-service", "x", "--expires-in", "0s"]);
    assert!(!succeeded && error.contains("at least 1ms"), "{error}");
    server.stop().await;
}

async fn the_last_use_of_a_token_is_stored_once_a_day(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = issue(&server.database, &["billing"]);
    let stored = "select coalesce(cast(last_used_day as text), 'never') from service_tokens";
    assert_eq!(query_string(&server.database, stored).await, "never");
    for _ in 0..2 {
        introspect(&server, &token).await.expect("introspected");
        let today = server.clock.now().as_seconds().div_euclid(86_400).to_string();
        while query_string(&server.database, stored).await != today {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.manual_clock.advance(Duration::from_secs(86_400));
    }
    server.stop().await;
}

async fn a_token_that_was_issued_before_scopes_existed_grants_all(database: TestDatabase) {
    const INSERT: &str = "insert into service_tokens (hash, name, created_at) values ($1, 'old', 1)";
    let token = unknown_token();
    let hash = BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()));
    let db = migrations::open(&database, 8).await;
    db.execute(INSERT, args![hash]).await.expect("inserted");
    db.close().await;
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    introspect(&server, &token).await.expect("introspected");
    login_for_client(&server, &token).await.expect("logged in");
    server.stop().await;
}
