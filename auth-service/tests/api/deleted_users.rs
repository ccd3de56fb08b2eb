//! Other services hear which accounts have been deleted.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    DeleteMeRequest, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
    watch_revocations_response::{Event, SnapshotEnd},
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
        let ListDeletedUsersResponse { user_ids, sequence } = server.deleted(after, size).await.expect("a page");
        (user_ids, sequence)
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
    let empty = ListDeletedUsersResponse { user_ids: vec![], sequence: 0 };
    assert_eq!(server.deleted(7, 0).await.expect("a page"), empty);
    let pair = server.person("ann@example.com").await;
    server.delete(&pair.access_token, PASSWORD).await.expect("deleted");
    let anew = ListDeletedUsersResponse { user_ids: vec![id(&pair)], sequence: 1 };
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

type Feed = Streaming<WatchRevocationsResponse>;

/// Returns the end of the snapshot, and the rest of the stream.
async fn end_of_snapshot(server: &Server) -> (SnapshotEnd, Feed) {
    let request = verifier(server, WatchRevocationsRequest {}).await;
    let mut feed = server.token().watch_revocations(request).await.expect("let in").into_inner();
    loop {
        match next(&mut feed).await {
            Event::SnapshotChunk(_) => {}
            Event::SnapshotEnd(end) => return (end, feed),
            other => panic!("{other:?} in a snapshot"),
        }
    }
}

async fn next(feed: &mut Feed) -> Event {
    feed.message().await.expect("no error").expect("not the end").event.expect("an event")
}

/// Waits for the update that reports this deletion, for a second.
async fn assert_reported(feed: &mut Feed, deletion: i64) {
    let reported = async {
        loop {
            if let Event::Update(update) = next(feed).await
                && update.last_deletion_sequence == deletion
            {
                return;
            }
        }
    };
    timeout(Duration::from_secs(1), reported).await.expect("reported within a second");
}

async fn the_feed_says_how_many_accounts_are_deleted(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) = (server.person("ann@example.com").await, server.person("bob@example.com").await);
    let (end, mut feed) = end_of_snapshot(&server).await;
    assert_eq!(end.last_deletion_sequence, 0);
    server.delete(&ann.access_token, PASSWORD).await.expect("deleted");
    assert_reported(&mut feed, 1).await;

    let other = second(&server).await;
    let request = bearer(&bob.access_token, DeleteMeRequest { current_password: PASSWORD.to_owned() });
    other.account().delete_me(request).await.expect("deleted");
    assert_reported(&mut feed, 2).await;
    other.stop().await;
    let server = Server::start(server.stop().await).await;
    assert_eq!(end_of_snapshot(&server).await.0.last_deletion_sequence, 2);
    server.stop().await;
}
