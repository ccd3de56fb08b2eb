//! What ended long ago is removed.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};

use crate::support::{self, Server};

on_each_database! {
    sessions_that_ended_long_ago_are_removed_and_others_stay,
    events_of_more_than_400_days_ago_are_removed,
    failed_logins_of_nobody_are_soon_removed,
}

async fn sessions_that_ended_long_ago_are_removed_and_others_stay(database: TestDatabase) {
    let server = Server::start(database).await;
    let old = server.person("old@example.com").await;
    let live = server.person("live@example.com").await;
    let database = server.stop().await;
    let expire = "update sessions set expires_at = 1 where user_id in
        (select id from users where email = 'old@example.com')";
    support::execute(&database, expire).await;

    let server = Server::start(database).await;
    let count = "select cast(count(*) as text) from sessions";
    let removed = async { while support::look_up(&server.database, count).await != "1" {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at the start");
    assert_refused!(server.refresh(&old.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.refresh(&live.refresh_token).await.expect("this one stays");
    server.stop().await;
}

async fn events_of_more_than_400_days_ago_are_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    for number in 0..2 {
        server.person(&format!("{number}@example.com")).await;
    }
    let database = server.stop().await;
    let make_old = "update audit_events set created_at = created_at - 401 * 86400000000 where kind = 'KIND_LOGIN'";
    support::execute(&database, make_old).await;
    let make_older = "update audit_events set created_at = created_at - 399 * 86400000000 where kind <> 'KIND_LOGIN'";
    support::execute(&database, make_older).await;

    let server = Server::start(database).await;
    let kinds = "select cast(count(*) as text) || coalesce(min(kind), '') from audit_events";
    let removed = async { while support::look_up(&server.database, kinds).await != "2KIND_SIGN_UP" {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at the start");
    server.stop().await;
}

async fn failed_logins_of_nobody_are_soon_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    server.login("before@example.com", "a wrong one").await.expect_err("refused");
    let database = server.stop().await;
    let make_old = "update failures_of_nobody set created_at = created_at - 3600000000";
    support::execute(&database, make_old).await;

    let server = Server::start(database).await;
    server.login("now@example.com", "a wrong one").await.expect_err("refused");
    let count = "select cast(count(*) as text) from failures_of_nobody";
    let removed = async { while support::look_up(&server.database, count).await != "1" {} };
    tokio::time::timeout(Duration::from_secs(10), removed).await.expect("removed at the start");
    server.stop().await;
}
