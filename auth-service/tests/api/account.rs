//! The caller's own account: password, sessions, and what happened to it.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AuditEvent, ChangePasswordRequest, ListMySecurityEventsRequest, ListMySecurityEventsResponse, ListSessionsRequest,
    RevokeOtherSessionsRequest, SignUpRequest, TokenPair, audit_event::Kind,
};
use tonic::{Response, Status};

use crate::support::{PASSWORD, Server, bearer, look_up};

on_each_database! {
    a_changed_password_ends_all_other_sessions,
    a_password_is_changed_by_who_knows_the_current_one,
    of_two_changes_at_once_one_counts,
    a_common_password_or_ones_own_name_is_refused,
    a_user_has_twenty_sessions_at_most_and_the_oldest_ends,
    the_owner_sees_what_happened_to_the_account,
    failed_logins_are_summed_up_by_the_minute,
    a_repeated_logout_is_one_event,
}

const NEW_PASSWORD: &str = "a stapled battery of horses";

async fn change(server: &Server, pair: &TokenPair, current: &str, new: &str) -> Result<(), Status> {
    let request = ChangePasswordRequest { current_password: current.to_owned(), new_password: new.to_owned() };
    server.account().change_password(bearer(&pair.access_token, request)).await.map(|_| ())
}

async fn page(server: &Server, pair: &TokenPair, request: ListMySecurityEventsRequest) -> ListMySecurityEventsResponse {
    let page = server.account().list_my_security_events(bearer(&pair.access_token, request)).await;
    page.map(Response::into_inner).expect("listed")
}

async fn kinds(server: &Server, pair: &TokenPair) -> Vec<Kind> {
    let events = page(server, pair, ListMySecurityEventsRequest::default()).await.events;
    events.iter().map(AuditEvent::kind).collect()
}

async fn a_changed_password_ends_all_other_sessions(database: TestDatabase) {
    let server = Server::start(database).await;
    let here = server.person("ann@example.com").await;
    let there = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let other = server.person("bob@example.com").await;
    change(&server, &here, PASSWORD, NEW_PASSWORD).await.expect("changed");
    assert_refused!(Err::<(), _>(server.refused(&there.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    assert_refused!(server.refresh(&there.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.refresh(&here.refresh_token).await.expect("this one goes on");
    server.me(&other.access_token).await.expect("nobody else is touched");
    assert_refused!(server.login("ann@example.com", PASSWORD).await, Unauthenticated, "CREDENTIALS_INVALID");
    server.login("ann@example.com", NEW_PASSWORD).await.expect("logged in");
    server.stop().await;
}

async fn a_password_is_changed_by_who_knows_the_current_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    let wrong = change(&server, &ann, "another horse", NEW_PASSWORD).await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let none = change(&server, &ann, "", NEW_PASSWORD).await;
    assert_refused!(none, InvalidArgument, "VALIDATION_FAILED", "current_password");
    for bad in ["", "short", &"x".repeat(129), "manchesterunited", "ann@example.com.ann"] {
        let refused = change(&server, &ann, PASSWORD, bad).await;
        assert_refused!(refused, InvalidArgument, "PASSWORD_REJECTED", "new_password");
    }
    server.login("ann@example.com", PASSWORD).await.expect("nothing has changed");
    server.stop().await;
}

async fn of_two_changes_at_once_one_counts(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    let other = "another stapled battery";
    let changes = tokio::join!(change(&server, &ann, PASSWORD, NEW_PASSWORD), change(&server, &ann, PASSWORD, other));
    let (won, lost) = match changes {
        (Ok(()), Err(status)) => (NEW_PASSWORD, status),
        (Err(status), Ok(())) => (other, status),
        both => panic!("{both:?}"),
    };
    assert_refused!(Err::<(), _>(lost), PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    server.login("ann@example.com", won).await.expect("logged in");
    server.stop().await;
}

async fn a_common_password_or_ones_own_name_is_refused(database: TestDatabase) {
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

async fn a_user_has_twenty_sessions_at_most_and_the_oldest_ends(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-memory-kib", "8", "--password-passes", "1"]).await;
    let oldest = server.person("ann@example.com").await;
    let other = server.person("bob@example.com").await;
    let mut pairs = Vec::new();
    for _ in 0..20 {
        pairs.push(server.login("ann@example.com", PASSWORD).await.expect("logged in"));
    }
    assert_refused!(Err::<(), _>(server.refused(&oldest.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    let listed = server.account().list_sessions(bearer(&pairs[0].access_token, ListSessionsRequest {})).await;
    let listed: Vec<_> = listed.expect("listed").into_inner().sessions.into_iter().map(|session| session.id).collect();
    let expected: Vec<_> = pairs.iter().rev().map(|pair| pair.session_id.clone()).collect();
    assert_eq!(listed, expected);
    server.me(&other.access_token).await.expect("nobody else is touched");
    server.stop().await;
}

async fn the_owner_sees_what_happened_to_the_account(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    let bob = server.person("bob@example.com").await;
    let there = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.logout(&there.refresh_token).await.expect("logged out");
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let others = RevokeOtherSessionsRequest {};
    server.account().revoke_other_sessions(bearer(&ann.access_token, others)).await.expect("ended");
    change(&server, &ann, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let expected = [
        Kind::PasswordChanged,
        Kind::SessionsRevoked,
        Kind::Login,
        Kind::Logout,
        Kind::Login,
        Kind::Login,
        Kind::SignUp,
    ];
    assert_eq!(kinds(&server, &ann).await, expected);
    assert_eq!(kinds(&server, &bob).await, [Kind::Login, Kind::SignUp]);

    let first = page(&server, &ann, ListMySecurityEventsRequest { page_size: 6, ..Default::default() }).await;
    assert_eq!(first.events[3].session_id, there.session_id);
    let next = ListMySecurityEventsRequest { page_token: first.next_page_token, page_size: 6 };
    let last = page(&server, &ann, next.clone()).await;
    assert_eq!((last.events[0].kind(), last.next_page_token), (Kind::SignUp, String::new()));
    let foreign = server.account().list_my_security_events(bearer(&bob.access_token, next)).await;
    assert_refused!(foreign, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    // A stolen token that comes back late.
    let refreshed = server.refresh(&ann.refresh_token).await.expect("refreshed");
    server.refresh(&refreshed.refresh_token).await.expect("refreshed");
    server.hands.advance(Duration::from_secs(120));
    assert_refused!(server.refresh(&ann.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    let again = server.login("ann@example.com", NEW_PASSWORD).await.expect("logged in");
    let events = page(&server, &again, ListMySecurityEventsRequest::default()).await.events;
    assert_eq!((events[1].kind(), &events[1].actor_id[..]), (Kind::RefreshReused, ""));
    server.stop().await;
}

async fn failed_logins_are_summed_up_by_the_minute(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-memory-kib", "8", "--password-passes", "1"]).await;
    let ann = server.person("ann@example.com").await;
    for _ in 0..5 {
        server.login("ann@example.com", "a wrong one").await.expect_err("refused");
        server.login("nobody@example.com", "a wrong one").await.expect_err("refused");
    }
    server.hands.advance(Duration::from_secs(60));
    server.login("ann@example.com", "a wrong one").await.expect_err("refused");
    let events = page(&server, &ann, ListMySecurityEventsRequest::default()).await.events;
    let failed: Vec<_> = events.iter().filter(|event| event.kind() == Kind::LoginFailed).collect();
    let counts: Vec<_> = failed.iter().map(|event| event.details.get("occurrences").map(String::as_str)).collect();
    assert_eq!(counts, [None, Some("5")]);
    let rows = look_up(&server.database, "select cast(count(*) as text) from audit_events").await;
    assert_eq!(rows, "4", "an address without an account is in no log");
    server.stop().await;
}

async fn a_repeated_logout_is_one_event(database: TestDatabase) {
    let server = Server::start(database).await;
    let (here, there) =
        (server.person("ann@example.com").await, server.login("ann@example.com", PASSWORD).await.expect("logged in"));
    for _ in 0..3 {
        server.logout(&there.refresh_token).await.expect("logged out");
    }
    assert_eq!(kinds(&server, &here).await, [Kind::Logout, Kind::Login, Kind::Login, Kind::SignUp]);
    server.stop().await;
}
