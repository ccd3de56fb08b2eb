//! The caller's own account: password, sessions and security events.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, ChangePasswordRequest, ListMySecurityEventsRequest, ListMySecurityEventsResponse, ListSessionsRequest,
    RevokeOtherSessionsRequest, SignUpRequest, TokenPair, audit_event::Kind,
};
use tonic::{Response, Status};

use crate::support::{PASSWORD, Server, bearer, query_string};

on_each_database! {
    a_password_change_ends_all_other_sessions,
    a_password_change_requires_the_current_password,
    only_one_of_two_concurrent_password_changes_succeeds,
    common_passwords_and_the_users_own_name_or_address_are_rejected,
    the_twenty_first_login_ends_the_oldest_session,
    users_can_list_the_security_events_of_their_account,
    failed_logins_are_aggregated_by_minute,
    a_repeated_logout_is_logged_once,
    calls_are_rate_limited_per_account,
    repeated_logouts_are_rate_limited_per_session,
}

const NEW_PASSWORD: &str = "a stapled battery of horses";

async fn change_password(server: &Server, pair: &TokenPair, current: &str, new: &str) -> Result<(), Status> {
    let request = ChangePasswordRequest { current_password: current.to_owned(), new_password: new.to_owned() };
    server.account().change_password(bearer(&pair.access_token, request)).await.map(|_| ())
}

async fn list_security_events(
    server: &Server,
    pair: &TokenPair,
    request: ListMySecurityEventsRequest,
) -> ListMySecurityEventsResponse {
    let page = server.account().list_my_security_events(bearer(&pair.access_token, request)).await;
    page.map(Response::into_inner).expect("listed")
}

async fn event_kinds(server: &Server, pair: &TokenPair) -> Vec<Kind> {
    let events = list_security_events(server, pair, ListMySecurityEventsRequest::default()).await.events;
    events.iter().map(AuditEvent::kind).collect()
}

async fn a_password_change_ends_all_other_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let current = server.sign_up_and_login("ann@example.com").await;
    let other_session = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let other = server.sign_up_and_login("bob@example.com").await;
    change_password(&server, &current, PASSWORD, NEW_PASSWORD).await.expect("changed");
    assert_refused!(
        Err::<(), _>(server.await_refusal(&other_session.access_token).await),
        Unauthenticated,
        "TOKEN_REVOKED"
    );
    assert_refused!(server.refresh(&other_session.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.refresh(&current.refresh_token).await.expect("the current session is still active");
    server.get_me(&other.access_token).await.expect("other users are unaffected");
    assert_refused!(server.login("ann@example.com", PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    server.login("ann@example.com", NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_password_change_requires_the_current_password(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let wrong = change_password(&server, &ann, "another horse", NEW_PASSWORD).await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let empty = change_password(&server, &ann, "", NEW_PASSWORD).await;
    assert_refused!(empty, InvalidArgument, "VALIDATION_FAILED", "current_password");
    for rejected in ["", "short", &"x".repeat(129), "manchesterunited", "ann@example.com.ann"] {
        let refused = change_password(&server, &ann, PASSWORD, rejected).await;
        assert_refused!(refused, InvalidArgument, "PASSWORD_REJECTED", "new_password");
    }
    server.login("ann@example.com", PASSWORD).await.expect("the password is unchanged");
    server.stop().await;
}

async fn only_one_of_two_concurrent_password_changes_succeeds(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let other_password = "another stapled battery";
    let changes = tokio::join!(
        change_password(&server, &ann, PASSWORD, NEW_PASSWORD),
        change_password(&server, &ann, PASSWORD, other_password)
    );
    let (new_password, error) = match changes {
        (Ok(()), Err(status)) => (NEW_PASSWORD, status),
        (Err(status), Ok(())) => (other_password, status),
        both => panic!("{both:?}"),
    };
    assert_refused!(Err::<(), _>(error), PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    server.login("ann@example.com", new_password).await.expect("logged in");
    server.stop().await;
}

async fn common_passwords_and_the_users_own_name_or_address_are_rejected(database: TestDatabase) {
    let server = Server::start(database).await;
    for password in ["Manchesterunited", "1q2w3e4r5t6y7u8i9o0p", "ann@example.com", "Ann von der Alm-Öhi"] {
        let request = SignUpRequest {
            email: "ann@example.com".to_owned(),
            password: password.to_owned(),
            display_name: "ann von der alm-öhi".to_owned(),
        };
        let refused = server.auth().sign_up(request).await;
        assert_refused!(refused, InvalidArgument, "PASSWORD_REJECTED", "password");
    }
    server.stop().await;
}

async fn the_twenty_first_login_ends_the_oldest_session(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-memory-kib", "8", "--password-passes", "1"]).await;
    let oldest = server.sign_up_and_login("ann@example.com").await;
    let other = server.sign_up_and_login("bob@example.com").await;
    let mut pairs = Vec::new();
    for _ in 0..20 {
        pairs.push(server.login("ann@example.com", PASSWORD).await.expect("logged in"));
    }
    assert_refused!(Err::<(), _>(server.await_refusal(&oldest.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    let listed = server.account().list_sessions(bearer(&pairs[0].access_token, ListSessionsRequest {})).await;
    let listed: Vec<_> = listed.expect("listed").into_inner().sessions.into_iter().map(|session| session.id).collect();
    let expected: Vec<_> = pairs.iter().rev().map(|pair| pair.session_id.clone()).collect();
    assert_eq!(listed, expected);
    server.get_me(&other.access_token).await.expect("other users are unaffected");
    server.stop().await;
}

async fn users_can_list_the_security_events_of_their_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    let other_session = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.logout(&other_session.refresh_token).await.expect("logged out");
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let others = RevokeOtherSessionsRequest {};
    server.account().revoke_other_sessions(bearer(&ann.access_token, others)).await.expect("ended");
    change_password(&server, &ann, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let expected = [
        Kind::PasswordChanged,
        Kind::SessionsRevoked,
        Kind::Login,
        Kind::Logout,
        Kind::Login,
        Kind::Login,
        Kind::SignUp,
    ];
    assert_eq!(event_kinds(&server, &ann).await, expected);
    assert_eq!(event_kinds(&server, &bob).await, [Kind::Login, Kind::SignUp]);

    let first =
        list_security_events(&server, &ann, ListMySecurityEventsRequest { page_size: 6, ..Default::default() }).await;
    assert_eq!(first.events[3].session_id, other_session.session_id);
    let next = ListMySecurityEventsRequest { page_token: first.next_page_token, page_size: 6 };
    let last = list_security_events(&server, &ann, next.clone()).await;
    assert_eq!((last.events[0].kind(), last.next_page_token), (Kind::SignUp, String::new()));
    let foreign = server.account().list_my_security_events(bearer(&bob.access_token, next)).await;
    assert_refused!(foreign, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    // A stolen token is used after the grace period.
    let refreshed = server.refresh(&ann.refresh_token).await.expect("refreshed");
    server.refresh(&refreshed.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(Duration::from_secs(120));
    assert_refused!(server.refresh(&ann.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    let again = server.login("ann@example.com", NEW_PASSWORD).await.expect("logged in");
    let events = list_security_events(&server, &again, ListMySecurityEventsRequest::default()).await.events;
    assert_eq!((events[1].kind(), &events[1].actor_id[..]), (Kind::RefreshReused, ""));
    server.stop().await;
}

async fn failed_logins_are_aggregated_by_minute(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-memory-kib", "8", "--password-passes", "1"]).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    for _ in 0..5 {
        server.login("ann@example.com", "a wrong one").await.expect_err("refused");
        server.login("nobody@example.com", "a wrong one").await.expect_err("refused");
    }
    server.manual_clock.advance(Duration::from_secs(60));
    server.login("ann@example.com", "a wrong one").await.expect_err("refused");
    let events = list_security_events(&server, &ann, ListMySecurityEventsRequest::default()).await.events;
    let failed: Vec<_> = events.iter().filter(|event| event.kind() == Kind::LoginFailed).collect();
    let counts: Vec<_> = failed.iter().map(|event| event.details.get("occurrences").map(String::as_str)).collect();
    assert_eq!(counts, [None, Some("5")]);
    let rows = query_string(&server.database, "select cast(count(*) as text) from audit_events").await;
    assert_eq!(rows, "4", "failed logins without an account are not logged");
    server.stop().await;
}

async fn a_repeated_logout_is_logged_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let (current, other_session) = (
        server.sign_up_and_login("ann@example.com").await,
        server.login("ann@example.com", PASSWORD).await.expect("logged in"),
    );
    for _ in 0..3 {
        server.logout(&other_session.refresh_token).await.expect("logged out");
    }
    assert_eq!(event_kinds(&server, &current).await, [Kind::Logout, Kind::Login, Kind::Login, Kind::SignUp]);
    server.stop().await;
}

async fn calls_are_rate_limited_per_account(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on", "--call-rate", "3+1/s"]).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    for _ in 0..3 {
        server.get_me(&ann.access_token).await.expect("a burst of three");
    }
    assert_refused!(server.get_me(&ann.access_token).await, ResourceExhausted, "RATE_LIMITED");
    server.get_me(&bob.access_token).await.expect("others are not affected");
    server.manual_clock.advance(Duration::from_secs(1));
    server.get_me(&ann.access_token).await.expect("one per second");
    assert_refused!(server.get_me(&ann.access_token).await, ResourceExhausted, "RATE_LIMITED");
}

async fn repeated_logouts_are_rate_limited_per_session(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "on", "--call-rate", "3+1/s"]).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let other_session = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    for _ in 0..3 {
        server.logout(&ann.refresh_token).await.expect("a burst of three");
    }
    assert_refused!(server.logout(&ann.refresh_token).await, ResourceExhausted, "RATE_LIMITED");
    server.logout(&other_session.refresh_token).await.expect("other sessions are not affected");
}
