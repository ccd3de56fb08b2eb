//! The database loses its last revocations while replicas are running, as in an asynchronous failover or when a backup is
//! restored.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, LogoutRequest, TokenPair, WatchRevocationsRequest, WatchRevocationsResponse,
    watch_revocations_response::Event,
};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    feed::{is_reported, next, snapshot, watch},
    support::{PASSWORD, Server, execute, query_string, start_replica, verifier_request},
};

on_each_database! {
    a_logout_that_the_database_has_lost_is_restored,
    watchers_start_again_in_a_new_epoch_after_history_was_lost,
    an_acknowledgement_of_lost_history_does_not_count,
    a_session_that_the_database_has_lost_can_be_logged_out,
    lost_history_is_noticed_although_its_numbers_are_in_use_again,
    two_replicas_start_one_epoch,
    watchers_start_again_when_another_database_is_restored,
}

/// Sets the database back to a state without revocations.
async fn lose_history(database: &TestDatabase) {
    execute(database, "update sessions set revoked_at = null, revocation = null").await;
    execute(database, "update feed set last_revocation = 0").await;
}

/// Receives messages until the stream ends. Returns the error.
async fn end(feed: &mut Streaming<WatchRevocationsResponse>) -> Status {
    let ended = async {
        while feed.message().await?.is_some() {}
        Ok(())
    };
    let outcome: Result<(), Status> = timeout(Duration::from_secs(5), ended).await.expect("the stream ends in time");
    outcome.expect_err("the stream ends with an error")
}

/// Opens a new stream as soon as that is possible. Returns its first message.
async fn watch_again(server: &Server) -> WatchRevocationsResponse {
    next(&mut watch(server).await).await
}

/// Logs in and out, and waits until the feed has reported it.
async fn log_in_and_out(server: &Server, feed: &mut Streaming<WatchRevocationsResponse>) -> TokenPair {
    let pair = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.logout(&pair.refresh_token).await.expect("logged out");
    assert!(is_reported(feed, &pair.session_id).await);
    pair
}

async fn a_logout_that_the_database_has_lost_is_restored(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let pair = log_in_and_out(&server, &mut feed).await;
    lose_history(&server.database).await;
    assert_refused!(Err::<(), _>(end(&mut feed).await), Unavailable, "VERIFIER_NOT_READY");

    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(snapshot(&mut watch(&server).await).await, [pair.session_id]);
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    // After a restart, only the database has the revocation.
    let server = Server::start(server.stop().await).await;
    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn watchers_start_again_in_a_new_epoch_after_history_was_lost(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    let before = next(&mut feed).await;
    for _ in 0..3 {
        log_in_and_out(&server, &mut feed).await;
    }
    lose_history(&server.database).await;
    end(&mut feed).await;
    let after = watch_again(&server).await;
    assert_ne!(before.epoch, after.epoch);
    assert!(after.sequence > before.sequence + 3, "{} is not beyond the lost numbers", after.sequence);
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    log_in_and_out(&server, &mut feed).await;
    server.stop().await;
}

async fn an_acknowledgement_of_lost_history_does_not_count(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    let watch_id = next(&mut feed).await.watch_id;
    let pair = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    for _ in 0..3 {
        log_in_and_out(&server, &mut feed).await;
    }
    let acknowledgement = AcknowledgeRevocationsRequest { watch_id, sequence: 3 };
    server
        .token()
        .acknowledge_revocations(verifier_request(&server, acknowledgement).await)
        .await
        .expect("acknowledged");
    lose_history(&server.database).await;
    let logout = LogoutRequest { refresh_token: pair.refresh_token, wait_for_verifiers: true };
    let response = server.auth().logout(logout).await.expect("logged out").into_inner();
    assert_eq!(response.acknowledged_verifiers, 0);
    server.stop().await;
}

/// Waits until the server reports this health status.
async fn wait_for_health(server: &Server, expected: ServingStatus) {
    let reached = async {
        let statuses = HealthClient::new(server.channel.clone()).watch(HealthCheckRequest::default()).await;
        let mut statuses = statuses.expect("the health service is reachable").into_inner();
        while statuses.message().await.expect("no error").expect("not the end").status() != expected {}
    };
    timeout(Duration::from_secs(10), reached).await.expect("the status is reached");
}

/// Another connection lets the replica read sessions, but not write them, so that it cannot restore lost revocations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_not_serving_until_lost_history_is_restored() {
    use sqlx::{Connection, Executor, PgConnection};
    let Some(database) = TestDatabase::postgres().await else { return };
    let server = Server::start_with(database, &["--database-timeout", "2s"]).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let pair = log_in_and_out(&server, &mut feed).await;
    wait_for_health(&server, ServingStatus::Serving).await;
    let connect = async || PgConnection::connect(server.database.url()).await.expect("connected");
    let (mut losing, mut locking) = (connect().await, connect().await);
    let mut lost = losing.begin().await.expect("begun");
    lost.execute("update auth.sessions set revoked_at = null, revocation = null").await.expect("updated");
    lost.execute("update auth.feed set last_revocation = 0").await.expect("updated");
    let mut lock = locking.begin().await.expect("begun");
    // The lock is granted when the other transaction commits, before the replica can write.
    let locked = lock.execute("lock table auth.sessions in share mode");
    let waiting = "
        select cast(count(*) as text) from pg_locks join pg_database on pg_database.oid = database
        where not granted and datname = current_database()";
    let (locked, ()) = tokio::join!(locked, async {
        while query_string(&server.database, waiting).await == "0" {}
        lost.commit().await.expect("committed");
    });
    locked.expect("locked");

    wait_for_health(&server, ServingStatus::NotServing).await;
    let request = verifier_request(&server, WatchRevocationsRequest {}).await;
    let outcome = server.token().watch_revocations(request).await;
    assert_refused!(outcome.map(|_| ()), Unavailable, "VERIFIER_NOT_READY");
    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    lock.rollback().await.expect("unlocked");
    wait_for_health(&server, ServingStatus::Serving).await;
    assert_eq!(snapshot(&mut watch(&server).await).await, [pair.session_id]);
    server.stop().await;
}

async fn a_session_that_the_database_has_lost_can_be_logged_out(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    execute(&server.database, "delete from sessions").await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    server.logout(&pair.refresh_token).await.expect("logged out");
    assert!(is_reported(&mut feed, &pair.session_id).await);
    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn lost_history_is_noticed_although_its_numbers_are_in_use_again(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    let before = next(&mut feed).await;
    let pair = log_in_and_out(&server, &mut feed).await;
    let other = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    // As if another replica had logged out of the other session after the loss, before this one read the database.
    let exchange = "
        update sessions set
            revocation = case when revocation is null then 1 end,
            revoked_at = case when revocation is null then rotated_at end";
    execute(&server.database, exchange).await;
    end(&mut feed).await;
    assert_ne!(before.epoch, watch_again(&server).await.epoch);
    for pair in [&pair, &other] {
        assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
        assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    server.stop().await;
}

async fn two_replicas_start_one_epoch(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let other = start_replica(&server).await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let pair = log_in_and_out(&server, &mut feed).await;
    lose_history(&server.database).await;
    end(&mut feed).await;
    let mut feed = watch(&server).await;
    let epoch = next(&mut feed).await.epoch;
    // Longer than a replica needs to notice.
    for _ in 0..4 {
        assert!(!matches!(next(&mut feed).await.event, Some(Event::SnapshotChunk(_))));
    }
    let select = "select cast(last_revocation as text) from feed";
    assert!(query_string(&server.database, select).await.parse::<i64>().expect("a number") < 2_000_000);
    assert_eq!(watch_again(&server).await.epoch, epoch);
    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    other.stop().await;
    server.stop().await;
}

async fn watchers_start_again_when_another_database_is_restored(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let pair = log_in_and_out(&server, &mut feed).await;
    // Its sequence number is higher, so that only the epoch differs.
    execute(&server.database, "update feed set last_revocation = 100, epoch = (select id from users)").await;
    execute(&server.database, "delete from sessions").await;
    end(&mut feed).await;
    let after = watch_again(&server).await;
    assert_eq!(after.epoch, ann.id);
    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(snapshot(&mut watch(&server).await).await, [pair.session_id]);
    server.stop().await;
}
