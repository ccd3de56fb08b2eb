//! Other services learn which accounts were deleted: by listing them, and on the revocation feed.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    DeleteMeRequest, ListDeletedUsersRequest, ListDeletedUsersResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
    watch_revocations_response::{Event, SnapshotEnd},
};
use tokio::time::timeout;
use tonic::Streaming;

use crate::support::{PASSWORD, Server, bearer, start_replica, user_id, verifier_request};

on_each_database! {
    verifiers_page_through_the_deleted_accounts_in_order,
    an_unknown_sequence_number_lists_from_the_start_and_a_negative_one_is_rejected,
    listing_deleted_users_requires_the_verifier_role,
    the_feed_reports_the_sequence_number_of_the_last_deletion,
}

const CHEAP_HASHES: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];

async fn verifiers_page_through_the_deleted_accounts_in_order(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP_HASHES).await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let pair = server.sign_up_and_login(&format!("{number}@example.com")).await;
        server.delete_me(&pair.access_token, PASSWORD).await.expect("deleted");
        expected.push(user_id(&pair));
    }
    let page = async |after, size| {
        let ListDeletedUsersResponse { user_ids, sequence } =
            server.list_deleted_users(after, size).await.expect("a page");
        (user_ids, sequence)
    };
    assert_eq!(page(0, 2).await, (expected[..2].to_vec(), 2));
    assert_eq!(page(2, 2).await, (expected[2..4].to_vec(), 4));
    assert_eq!(page(4, 2).await, (expected[4..].to_vec(), 5));
    assert_eq!(page(5, 2).await, (vec![], 5));
    assert_eq!(page(0, 10_000).await, (expected, 5), "the page size is capped at the maximum");
    server.stop().await;
}

async fn an_unknown_sequence_number_lists_from_the_start_and_a_negative_one_is_rejected(database: TestDatabase) {
    let server = Server::start_with(database, &CHEAP_HASHES).await;
    let empty = ListDeletedUsersResponse { user_ids: vec![], sequence: 0 };
    assert_eq!(server.list_deleted_users(7, 0).await.expect("a page"), empty);
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.delete_me(&pair.access_token, PASSWORD).await.expect("deleted");
    let whole_list = ListDeletedUsersResponse { user_ids: vec![user_id(&pair)], sequence: 1 };
    for unknown in [2, i64::MAX] {
        assert_eq!(server.list_deleted_users(unknown, 0).await.expect("a page"), whole_list);
    }
    let refused = server.list_deleted_users(-1, -1).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "after", "page_size");
    server.stop().await;
}

async fn listing_deleted_users_requires_the_verifier_role(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let mut client = server.token();
    let request = ListDeletedUsersRequest::default();
    let outcome = client.list_deleted_users(bearer(&ann.access_token, request)).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    assert_refused!(client.list_deleted_users(request).await, Unauthenticated, "TOKEN_MISSING");
    server.stop().await;
}

pub type Feed = Streaming<WatchRevocationsResponse>;

/// Returns the end of the snapshot, and the rest of the stream.
pub async fn end_of_snapshot(server: &Server) -> (SnapshotEnd, Feed) {
    let request = verifier_request(server, WatchRevocationsRequest {}).await;
    let mut feed = server.token().watch_revocations(request).await.expect("the stream opens").into_inner();
    loop {
        match next(&mut feed).await {
            Event::SnapshotChunk(_) => {}
            Event::SnapshotEnd(end) => return (end, feed),
            other => panic!("{other:?} in a snapshot"),
        }
    }
}

async fn next(feed: &mut Feed) -> Event {
    feed.message().await.expect("no error").expect("the stream is open").event.expect("an event")
}

/// Asserts that an update reports this change of an account within a second.
pub async fn assert_reported(feed: &mut Feed, sequence: i64) {
    let reported = async {
        loop {
            if let Event::Update(update) = next(feed).await
                && update.last_deletion_sequence == sequence
            {
                return;
            }
        }
    };
    timeout(Duration::from_secs(1), reported).await.expect("reported within a second");
}

async fn the_feed_reports_the_sequence_number_of_the_last_deletion(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) =
        (server.sign_up_and_login("ann@example.com").await, server.sign_up_and_login("bob@example.com").await);
    let (end, mut feed) = end_of_snapshot(&server).await;
    assert_eq!(end.last_deletion_sequence, 0);
    server.delete_me(&ann.access_token, PASSWORD).await.expect("deleted");
    assert_reported(&mut feed, 1).await;

    let other = start_replica(&server).await;
    let request = bearer(&bob.access_token, DeleteMeRequest { current_password: PASSWORD.to_owned() });
    other.account().delete_me(request).await.expect("deleted");
    assert_reported(&mut feed, 2).await;
    other.stop().await;
    let server = Server::start(server.stop().await).await;
    assert_eq!(end_of_snapshot(&server).await.0.last_deletion_sequence, 2);
    server.stop().await;
}
