//! Refresh tokens: each is used once, a client can retry after a lost response, and reuse ends the session.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{ListSessionsRequest, RefreshRequest};
use tokio::task::JoinSet;

use crate::support::{self, Server, bearer};

on_each_database! {
    refresh_rotates_the_token,
    a_retry_within_the_grace_period_returns_the_same_new_token,
    reuse_after_the_grace_period_ends_the_session,
    an_old_token_is_superseded_for_ten_seconds_after_its_successor_was_used,
    an_old_token_ends_the_session_more_than_ten_seconds_after_its_successor_was_used,
    an_old_token_ends_the_session_even_right_after_a_refresh,
    twenty_concurrent_refreshes_return_the_same_refresh_token,
    an_idle_session_expires,
    a_session_expires_after_its_maximum_lifetime_even_if_refreshed,
    a_token_of_a_disabled_account_is_invalid,
    a_replayed_token_of_a_disabled_account_is_invalid,
    malformed_refresh_tokens_are_rejected,
    each_refresh_reads_the_current_roles,
}

const SECOND: Duration = Duration::from_secs(1);

async fn refresh_rotates_the_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_eq!(first.session_id, second.session_id);
    server.get_me(&second.access_token).await.expect("the token is valid");
    server.refresh(&second.refresh_token).await.expect("the new token works");
    server.stop().await;
}

async fn a_retry_within_the_grace_period_returns_the_same_new_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(60 * SECOND);
    let again = server.refresh(&first.refresh_token).await.expect("a retry within the grace period succeeds");
    assert_eq!(again.refresh_token, second.refresh_token);
    server.get_me(&again.access_token).await.expect("the token is valid");
    server.stop().await;
}

async fn reuse_after_the_grace_period_ends_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(61 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_refused!(server.refresh(&second.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    server.stop().await;
}

async fn an_old_token_is_superseded_for_ten_seconds_after_its_successor_was_used(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    let third = server.refresh(&second.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(10 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Aborted, "REFRESH_TOKEN_SUPERSEDED");
    server.refresh(&third.refresh_token).await.expect("the session is still active");
    server.stop().await;
}

async fn an_old_token_ends_the_session_more_than_ten_seconds_after_its_successor_was_used(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    let third = server.refresh(&second.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(11 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_refused!(server.refresh(&third.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_refused!(Err::<(), _>(server.await_refusal(&third.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn an_old_token_ends_the_session_even_right_after_a_refresh(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    let third = server.refresh(&second.refresh_token).await.expect("refreshed");
    server.manual_clock.advance(11 * SECOND);
    server.refresh(&third.refresh_token).await.expect("refreshed");
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    server.stop().await;
}

async fn twenty_concurrent_refreshes_return_the_same_refresh_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (mut client, refresh_token) = (server.auth(), first.refresh_token.clone());
        calls.spawn(async move { client.refresh(RefreshRequest { refresh_token }).await });
    }
    let pairs: Vec<_> = calls.join_all().await.into_iter().map(|pair| pair.expect("refreshed").into_inner()).collect();
    for pair in &pairs {
        assert_eq!(pair.refresh_token, pairs[0].refresh_token);
        server.get_me(&pair.access_token).await.expect("the token is valid");
    }
    let next = server.refresh(&pairs[0].refresh_token).await.expect("the new token works");
    let sessions = server.account().list_sessions(bearer(&next.access_token, ListSessionsRequest {})).await;
    assert_eq!(sessions.expect("listed").into_inner().sessions.len(), 1);
    server.stop().await;
}

async fn an_idle_session_expires(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    server.manual_clock.advance(7 * 86_400 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn a_session_expires_after_its_maximum_lifetime_even_if_refreshed(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut pair = server.sign_up_and_login("ann@example.com").await;
    let login_time = pair.access_expire_time.expect("set").seconds - 300;
    for _ in 0..5 {
        server.manual_clock.advance((6 * 86_400 - 60) * SECOND);
        pair = server.refresh(&pair.refresh_token).await.expect("refreshed");
    }
    // Five minutes before the end of the session. Neither token outlives it.
    assert_eq!(pair.refresh_expire_time.expect("set").seconds, login_time + 30 * 86_400);
    server.manual_clock.advance(240 * SECOND);
    pair = server.refresh(&pair.refresh_token).await.expect("refreshed");
    assert_eq!(pair.access_expire_time.expect("set").seconds, login_time + 30 * 86_400);
    assert!((59..=60).contains(&pair.access_lifetime.expect("set").seconds));
    assert!((59..=60).contains(&pair.refresh_lifetime.expect("set").seconds));
    server.manual_clock.advance(61 * SECOND);
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn a_token_of_a_disabled_account_is_invalid(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    support::execute(&server.database, "update users set disabled = true").await;
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn a_replayed_token_of_a_disabled_account_is_invalid(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    server.refresh(&first.refresh_token).await.expect("refreshed");
    support::execute(&server.database, "update users set disabled = true").await;
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn malformed_refresh_tokens_are_rejected(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let changed = pair.refresh_token.replace(|c: char| c.is_ascii_lowercase(), "A");
    for garbage in ["x", &changed, &pair.access_token[..500.min(pair.access_token.len())], "\u{fffd}", "a\0b"] {
        assert_refused!(server.refresh(garbage).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    assert_refused!(server.refresh("").await, InvalidArgument, "VALIDATION_FAILED", "refresh_token");
    let long = "x".repeat(513);
    assert_refused!(server.refresh(&long).await, InvalidArgument, "VALIDATION_FAILED", "refresh_token");
    server.stop().await;
}

async fn each_refresh_reads_the_current_roles(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    support::execute(&server.database, "update users set roles = 'admin'").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    assert_eq!(second.user.expect("refresh returns the user").roles, ["admin"]);
    server.stop().await;
}
