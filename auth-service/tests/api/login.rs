//! Login.

use argon2::password_hash::phc::PasswordHash;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{ListSessionsRequest, LoginRequest};
use tokio::task::JoinSet;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::support::{self, PASSWORD, Server, bearer, issue_service_token};

on_each_database! {
    login_returns_a_token_pair,
    wrong_password_unknown_account_and_disabled_account_return_the_same_error,
    errors_of_invalid_logins_name_the_field,
    composed_and_decomposed_forms_of_a_password_match,
    login_replaces_a_hash_that_is_weaker_than_the_policy,
    login_fails_on_an_unsupported_stored_hash_without_computing_it,
    excess_concurrent_logins_are_refused_as_overload,
    the_forwarded_client_address_is_used_only_with_a_service_token,
}

async fn login_returns_a_token_pair(database: TestDatabase) {
    let server = Server::start(database).await;
    let user = server.sign_up("ann@example.com").await.expect("signed up");
    let pair = server.login("ANN@example.com", PASSWORD).await.expect("logged in");
    assert_eq!(pair.token_type, "Bearer");
    assert_eq!(pair.user.as_ref(), Some(&user));
    assert_eq!(server.get_me(&pair.access_token).await.expect("the token is valid"), user);
    let (access, refresh) = pair.access_expire_time.zip(pair.refresh_expire_time).expect("both expiry times are set");
    assert_eq!(refresh.seconds - access.seconds, 7 * 86_400 - 300);
    assert!((299..=300).contains(&pair.access_lifetime.expect("set").seconds));
    assert_eq!(pair.refresh_lifetime.expect("set").seconds, 7 * 86_400);
    server.stop().await;
}

async fn wrong_password_unknown_account_and_disabled_account_return_the_same_error(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    server.sign_up("off@example.com").await.expect("signed up");
    support::execute(&server.database, "update users set disabled = true where email = 'off@example.com'").await;

    let mut responses = Vec::new();
    for (email, password) in
        [("ann@example.com", "wrong horse"), ("nobody@example.com", PASSWORD), ("off@example.com", PASSWORD)]
    {
        let mut request =
            Request::new(LoginRequest { email: email.into(), password: password.into(), ..LoginRequest::default() });
        request.metadata_mut().insert("x-request-id", "the-same".parse().expect("ASCII"));
        let status = server.auth().login(request).await.expect_err("refused");
        assert_eq!(refusal(&status), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned(), vec![]));
        responses.push((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(responses[0], responses[1]);
    assert_eq!(responses[0], responses[2]);
    server.stop().await;
}

async fn errors_of_invalid_logins_name_the_field(database: TestDatabase) {
    let server = Server::start(database).await;
    let long = "x".repeat(513);
    assert_refused!(server.login("", PASSWORD).await, InvalidArgument, "VALIDATION_FAILED", "email");
    assert_refused!(server.login("ann", PASSWORD).await, InvalidArgument, "VALIDATION_FAILED", "email");
    assert_refused!(server.login("a@x.io", "").await, InvalidArgument, "VALIDATION_FAILED", "password");
    assert_refused!(server.login("a@x.io", &long).await, InvalidArgument, "VALIDATION_FAILED", "password");
    let invalid_label = LoginRequest {
        email: "a@x.io".to_owned(),
        password: PASSWORD.to_owned(),
        session_label: "a\nb".to_owned(),
        ..LoginRequest::default()
    };
    assert_refused!(server.auth().login(invalid_label).await, InvalidArgument, "VALIDATION_FAILED", "session_label");
    server.stop().await;
}

async fn composed_and_decomposed_forms_of_a_password_match(database: TestDatabase) {
    let server = Server::start(database).await;
    let request = taskey_proto::auth::v1::SignUpRequest {
        email: "ann@example.com".to_owned(),
        password: "schöne grüne Wiesen".to_owned(),
        display_name: String::new(),
    };
    server.auth().sign_up(request).await.expect("signed up");
    let pair = server.login("ann@example.com", "scho\u{308}ne gru\u{308}ne Wiesen").await;
    assert!(pair.is_ok(), "{pair:?}");
    server.stop().await;
}

async fn login_replaces_a_hash_that_is_weaker_than_the_policy(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-memory-kib", "1024", "--password-passes", "1"]).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let server = Server::start(server.stop().await).await;
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let hash = support::query_string(&server.database, "select password_hash from users").await;
    let parameters = argon2::Params::try_from(&PasswordHash::new(&hash).expect("PHC")).expect("argon2");
    assert_eq!((parameters.m_cost(), parameters.t_cost(), parameters.p_cost()), (19_456, 2, 1));
    server.login("ann@example.com", PASSWORD).await.expect("logged in with the new hash");
    server.stop().await;
}

/// Returns the peak size of the address space of this process, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("the file has VmPeak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

async fn login_fails_on_an_unsupported_stored_hash_without_computing_it(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let before = peak_kib();
    macro_rules! set_hash {
        ($hash:literal) => {
            concat!("update users set password_hash = '", $hash, "'")
        };
    }
    for hash in [
        set_hash!("$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQxMjM0NTY$bm90IGEgaGFzaCBvZiBhbnkgcGFzc3dvcmQhISEhISE"),
        set_hash!(
            "$argon2id$v=19$m=19456,t=2147483648,p=1$c29tZXNhbHQxMjM0NTY$bm90IGEgaGFzaCBvZiBhbnkgcGFzc3dvcmQhISEhISE"
        ),
        set_hash!(
            "$argon2id$v=19$m=4294967295,t=4294967295,p=16777215$c29tZXNhbHQxMjM0NTY$bm90IGEgaGFzaCBvZiBhbnkgcGFzc3dvcmQhISEhISE"
        ),
        set_hash!("$scrypt$ln=30,r=8,p=1$c29tZXNhbHQxMjM0NTY$bm90IGEgaGFzaCBvZiBhbnkgcGFzc3dvcmQhISEhISE"),
        set_hash!("correct horse battery staple"),
        set_hash!("$argon2id$"),
        set_hash!(""),
    ] {
        support::execute(&server.database, hash).await;
        let status = server.login("ann@example.com", PASSWORD).await.expect_err("refused");
        assert_eq!(refusal(&status), (Code::Internal, "INTERNAL".to_owned(), vec![]), "{hash}");
        assert_eq!(status.message(), "internal error; the server's log has the cause");
    }
    let growth = peak_kib() - before;
    assert!(growth < 3 * 1024 * 1024, "the address space has grown by {growth} KiB");
    server.stop().await;
}

async fn excess_concurrent_logins_are_refused_as_overload(database: TestDatabase) {
    // The long timeout prevents deadline errors on a slow machine.
    let flags = ["--password-concurrency", "1", "--request-timeout", "60s"];
    let server = Server::start_with(database, &flags).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let mut client = server.auth();
        let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
        calls.spawn(async move { client.login(LoginRequest { email, password, ..LoginRequest::default() }).await });
    }
    let (accepted, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert!(!accepted.is_empty(), "no login succeeded");
    assert!(!refused.is_empty(), "no login was refused");
    for outcome in refused {
        let status = outcome.expect_err("refused");
        assert!(status.get_error_details().retry_info().is_some(), "{status:?}");
        assert_eq!(refusal(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
    }
    server.stop().await;
}

async fn the_forwarded_client_address_is_used_only_with_a_service_token(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let token = issue_service_token(&server.database, "gateway");
    let mut last = None;
    for token in [None, Some("taskey_service_wrong"), Some(token.as_str())] {
        let mut request = Request::new(LoginRequest {
            email: "ann@example.com".to_owned(),
            password: PASSWORD.to_owned(),
            session_label: token.unwrap_or_default().chars().take(20).collect(),
            ..LoginRequest::default()
        });
        request.metadata_mut().insert("x-forwarded-for", "203.0.113.7".parse().expect("ASCII"));
        request.metadata_mut().insert("x-forwarded-user-agent", "Browser/1".parse().expect("ASCII"));
        if let Some(token) = token {
            request.metadata_mut().insert("x-taskey-service-token", token.parse().expect("ASCII"));
        }
        last = Some(server.auth().login(request).await.expect("logged in").into_inner());
    }
    let pair = last.expect("three logins");
    let sessions = server.account().list_sessions(bearer(&pair.access_token, ListSessionsRequest {})).await;
    let sessions = sessions.expect("listed").into_inner().sessions;
    let addresses: Vec<_> = sessions.iter().map(|session| (&session.ip_address[..], session.current)).collect();
    assert_eq!(addresses, [("203.0.113.7", true), ("127.0.0.1", false), ("127.0.0.1", false)]);
    assert_eq!(sessions[0].user_agent, "Browser/1");
    assert!(sessions[1].user_agent.starts_with("tonic/"), "{}", sessions[1].user_agent);
    server.stop().await;
}
