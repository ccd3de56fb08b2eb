//! Other services hear which accounts have been deleted.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    DeleteMeRequest, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
};
use tokio::time::timeout;
use tonic::Streaming;

use crate::support::{PASSWORD, Server, bearer, id, second, verifier};

on_each_database! {
    verifiers_page_through_the_deleted_accounts_in_order,
    a_place_that_is_not_there_begins_anew_or_is_refused,
    the_list_is_open_to_verifiers_alone,
    the_feed_says_how_many_accounts_are_deleted,
}

const CHEAP: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];

async fn verifiers_page_through_the_deleted_accounts_in_order(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP).await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let pair = server.person(&format!("{number}@example.com")).await;
        server.delete(&pair.access_token, PASSWORD).await.expect("deleted");
        expected.push(id(&pair));
    }
    let page = async |after, size| {
        let ListDeletedUsersResponse { user_ids, place } = server.deleted(after, size).await.expect("a page");
        (user_ids, place)
    };
    assert_eq!(page(0, 2).await, (expected[..2].to_vec(), 2));
    assert_eq!(page(2, 2).await, (expected[2..4].to_vec(), 4));
    assert_eq!(page(4, 2).await, (expected[4..].to_vec(), 5));
    assert_eq!(page(5, 2).await, (vec![], 5));
    assert_eq!(page(0, 10_000).await, (expected, 5), "too large a page is cut to the largest");
    server.stop().await;
}

async fn a_place_that_is_not_there_begins_anew_or_is_refused(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP).await;
    let empty = ListDeletedUsersResponse { user_ids: vec![], place: 0 };
    assert_eq!(server.deleted(7, 0).await.expect("a page"), empty);
    let pair = server.person("ann@example.com").await;
    server.delete(&pair.access_token, PASSWORD).await.expect("deleted");
    let anew = ListDeletedUsersResponse { user_ids: vec![id(&pair)], place: 1 };
    for beyond in [2, i64::MAX] {
        assert_eq!(server.deleted(beyond, 0).await.expect("a page"), anew);
    }
    let refused = server.deleted(-1, -1).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "after", "page_size");
    server.stop().await;
}

async fn the_list_is_open_to_verifiers_alone(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.person("ann@example.com").await;
    let mut client = server.token();
    let request = ListDeletedUsersRequest::default();
    let outcome = client.list_deleted_users(bearer(&ann.access_token, request)).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(client.list_deleted_users(request).await, Unauthenticated, "TOKEN_MISSING");
    server.stop().await;
}

/// The snapshot's last message.
async fn end_of_snapshot(server: &Server) -> (WatchRevocationsResponse, Streaming<WatchRevocationsResponse>) {
    let request = verifier(server, WatchRevocationsRequest {}).await;
    let mut feed = server.token().watch_revocations(request).await.expect("let in").into_inner();
    loop {
        let message = feed.message().await.expect("no error").expect("not the end");
        if message.snapshot_complete {
            return (message, feed);
        }
        assert_eq!(message.deletion_place, 0, "it only names sessions");
    }
}

async fn the_feed_says_how_many_accounts_are_deleted(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.person("ann@example.com").await, server.person("bob@example.com").await);
    let (first, mut feed) = end_of_snapshot(&server).await;
    assert_eq!(first.deletion_place, 0);
    server.delete(&ann.access_token, PASSWORD).await.expect("deleted");
    let told = async { while feed.message().await.expect("no error").expect("not the end").deletion_place != 1 {} };
    timeout(Duration::from_secs(1), told).await.expect("told within a second");
    let heartbeat = feed.message().await.expect("no error").expect("not the end");
    assert_eq!(heartbeat.deletion_place, 1, "on every message");

    let other = second(&server).await;
    let request = bearer(&bob.access_token, DeleteMeRequest { current_password: PASSWORD.to_owned() });
    other.account().delete_me(request).await.expect("deleted");
    let told = async { while feed.message().await.expect("no error").expect("not the end").deletion_place != 2 {} };
    timeout(Duration::from_secs(1), told).await.expect("told within a second, on the other replica too");
    other.stop().await;
    let server = Server::start(server.stop().await).await;
    assert_eq!(end_of_snapshot(&server).await.0.deletion_place, 2);
    server.stop().await;
}
