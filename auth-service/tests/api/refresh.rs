//! Refresh tokens: each is used once, a lost answer is made good, and a stolen one ends the session.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{ListSessionsRequest, RefreshRequest};
use tokio::task::JoinSet;

use crate::support::{self, Server, bearer};

on_each_database! {
    refresh_rotates_the_token,
    the_same_token_within_the_grace_gives_the_same_child,
    the_same_token_after_the_grace_ends_the_session,
    an_overtaken_token_is_superseded_for_ten_seconds,
    reused_refresh_token_ends_the_session,
    an_old_token_is_theft_although_the_session_was_refreshed_just_now,
    twenty_refreshes_at_once_give_one_working_pair,
    an_idle_session_ends,
    a_session_ends_at_its_latest_however_often_it_is_refreshed,
    a_token_of_a_disabled_account_is_invalid,
    a_replayed_token_of_a_disabled_account_is_invalid,
    garbage_is_no_refresh_token,
    roles_are_read_anew_at_each_refresh,
}

const SECOND: Duration = Duration::from_secs(1);

async fn refresh_rotates_the_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_eq!(first.session_id, second.session_id);
    server.me(&second.access_token).await.expect("let in");
    server.refresh(&second.refresh_token).await.expect("the child works");
    server.stop().await;
}

async fn the_same_token_within_the_grace_gives_the_same_child(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    server.hands.advance(60 * SECOND);
    let again = server.refresh(&first.refresh_token).await.expect("the answer may have been lost");
    assert_eq!(again.refresh_token, second.refresh_token);
    server.me(&again.access_token).await.expect("let in");
    server.stop().await;
}

async fn the_same_token_after_the_grace_ends_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    server.hands.advance(61 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_refused!(server.refresh(&second.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    server.stop().await;
}

async fn an_overtaken_token_is_superseded_for_ten_seconds(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    let third = server.refresh(&second.refresh_token).await.expect("refreshed");
    server.hands.advance(10 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Aborted, "REFRESH_TOKEN_SUPERSEDED");
    server.refresh(&third.refresh_token).await.expect("the session lives");
    server.stop().await;
}

async fn reused_refresh_token_ends_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    let third = server.refresh(&second.refresh_token).await.expect("refreshed");
    server.hands.advance(11 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_refused!(server.refresh(&third.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    assert_refused!(Err::<(), _>(server.refused(&third.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn an_old_token_is_theft_although_the_session_was_refreshed_just_now(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    let third = server.refresh(&second.refresh_token).await.expect("refreshed");
    server.hands.advance(11 * SECOND);
    server.refresh(&third.refresh_token).await.expect("refreshed");
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    server.stop().await;
}

async fn twenty_refreshes_at_once_give_one_working_pair(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (mut client, refresh_token) = (server.auth(), first.refresh_token.clone());
        calls.spawn(async move { client.refresh(RefreshRequest { refresh_token }).await });
    }
    let pairs: Vec<_> = calls.join_all().await.into_iter().map(|pair| pair.expect("refreshed").into_inner()).collect();
    for pair in &pairs {
        assert_eq!(pair.refresh_token, pairs[0].refresh_token);
        server.me(&pair.access_token).await.expect("let in");
    }
    let next = server.refresh(&pairs[0].refresh_token).await.expect("the child works");
    let sessions = server.account().list_sessions(bearer(&next.access_token, ListSessionsRequest {})).await;
    assert_eq!(sessions.expect("listed").into_inner().sessions.len(), 1);
    server.stop().await;
}

async fn an_idle_session_ends(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    server.hands.advance(7 * 86_400 * SECOND);
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn a_session_ends_at_its_latest_however_often_it_is_refreshed(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut pair = server.person("ann@example.com").await;
    let begun = pair.access_expire_time.expect("told").seconds - 300;
    for _ in 0..5 {
        server.hands.advance((6 * 86_400 - 60) * SECOND);
        pair = server.refresh(&pair.refresh_token).await.expect("refreshed");
    }
    // Five minutes before the end: neither token outlives the session.
    assert_eq!(pair.refresh_expire_time.expect("told").seconds, begun + 30 * 86_400);
    server.hands.advance(240 * SECOND);
    pair = server.refresh(&pair.refresh_token).await.expect("refreshed");
    assert_eq!(pair.access_expire_time.expect("told").seconds, begun + 30 * 86_400);
    server.hands.advance(61 * SECOND);
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn a_token_of_a_disabled_account_is_invalid(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    support::execute(&server.database, "update users set disabled = true").await;
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn a_replayed_token_of_a_disabled_account_is_invalid(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    server.refresh(&first.refresh_token).await.expect("refreshed");
    support::execute(&server.database, "update users set disabled = true").await;
    assert_refused!(server.refresh(&first.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn garbage_is_no_refresh_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.person("ann@example.com").await;
    let changed = pair.refresh_token.replace(|c: char| c.is_ascii_lowercase(), "A");
    for garbage in ["x", &changed, &pair.access_token[..500.min(pair.access_token.len())], "\u{fffd}", "a\0b"] {
        assert_refused!(server.refresh(garbage).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    assert_refused!(server.refresh("").await, InvalidArgument, "VALIDATION_FAILED", "refresh_token");
    let long = "x".repeat(513);
    assert_refused!(server.refresh(&long).await, InvalidArgument, "VALIDATION_FAILED", "refresh_token");
    server.stop().await;
}

async fn roles_are_read_anew_at_each_refresh(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.person("ann@example.com").await;
    support::execute(&server.database, "update users set roles = 'admin'").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    assert_eq!(second.user.expect("told").roles, ["admin"]);
    server.stop().await;
}
