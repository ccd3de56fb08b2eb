//! The server purges old sessions and events when it starts.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};

use crate::support::{self, Server};

on_each_database! {
    long_expired_sessions_are_removed_and_active_ones_are_kept,
    events_older_than_400_days_are_removed,
    failed_logins_of_unknown_users_are_removed_after_an_hour,
}

async fn long_expired_sessions_are_removed_and_active_ones_are_kept(database: TestDatabase) {
    let server = Server::start(database).await;
    let old = server.sign_up_and_login("old@example.com").await;
    let active = server.sign_up_and_login("live@example.com").await;
    let database = server.stop().await;
    let expire = "update sessions set expires_at = 1 where user_id in
        (select id from users where email = 'old@example.com')";
    support::execute(&database, expire).await;

    let server = Server::start(database).await;
    let count = "select cast(count(*) as text) from sessions";
    let removed = async { while support::query_string(&server.database, count).await != "1" {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at start-up");
    assert_refused!(server.refresh(&old.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.refresh(&active.refresh_token).await.expect("the active session is kept");
    server.stop().await;
}

async fn events_older_than_400_days_are_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    for number in 0..2 {
        server.sign_up_and_login(&format!("{number}@example.com")).await;
    }
    let database = server.stop().await;
    let make_old = "update audit_events set created_at = created_at - 401 * 86400000000 where kind = 'KIND_LOGIN'";
    support::execute(&database, make_old).await;
    let make_older = "update audit_events set created_at = created_at - 399 * 86400000000 where kind <> 'KIND_LOGIN'";
    support::execute(&database, make_older).await;

    let server = Server::start(database).await;
    let kinds = "select cast(count(*) as text) || coalesce(min(kind), '') from audit_events";
    let removed = async { while support::query_string(&server.database, kinds).await != "2KIND_SIGN_UP" {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at start-up");
    server.stop().await;
}

async fn failed_logins_of_unknown_users_are_removed_after_an_hour(database: TestDatabase) {
    let server = Server::start(database).await;
    server.login("before@example.com", "a wrong one").await.expect_err("refused");
    let database = server.stop().await;
    let make_old = "update failures_of_nobody set created_at = created_at - 3600000000";
    support::execute(&database, make_old).await;

    let server = Server::start(database).await;
    server.login("now@example.com", "a wrong one").await.expect_err("refused");
    let count = "select cast(count(*) as text) from failures_of_nobody";
    let removed = async { while support::query_string(&server.database, count).await != "1" {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at start-up");
    server.stop().await;
}
