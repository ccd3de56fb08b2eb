//! Tokens and etags after the database has lost history, for example because a backup was restored.

use service_kit::{args, assert_refused, on_each_database, random, testing::TestDatabase};
use taskey_proto::task::v1::{ListTasksRequest, Task, TaskList};
use tokio::time::timeout;

use crate::{
    delete::open_database,
    follow::{end, next},
    lists,
    support::{Service, WAIT_TIMEOUT, pause},
};

on_each_database!(
    tokens_and_etags_of_a_lost_history_are_refused,
    tokens_and_etags_survive_a_restart,
    a_lower_sequence_number_of_a_watched_owner_ends_the_watch,
);

/// Begins a new epoch, as the restoration of a backup does.
pub(crate) async fn begin_epoch(database: &TestDatabase) {
    let db = open_database(&database.parsed_url()).await;
    db.execute("update database_epoch set epoch = $1", args![random::id()]).await.expect("an update");
    db.close().await;
}

async fn tokens_and_etags_of_a_lost_history_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, list) = (ann.make("Buy milk").await, ann.make_list("Errands").await);
    ann.make("Buy oats").await;
    let sync_token = ann.current_sync_token().await;
    let first_page = ListTasksRequest { page_size: 1, ..ListTasksRequest::default() };
    let page_token = ann.list(first_page.clone()).await.expect("a page").next_page_token;
    let mut watch = ann.watch(&sync_token).await.expect("a watch");
    next(&mut watch).await.expect("a message");

    begin_epoch(&database).await;

    assert_refused!(ann.complete(&task.id, &task.etag).await, Aborted, "ETAG_MISMATCH");
    assert_refused!(ann.delete(&task.id, &task.etag).await, Aborted, "ETAG_MISMATCH");
    let renamed = TaskList { etag: list.etag.clone(), ..lists::named(&list, "Other") };
    assert_refused!(lists::update(&ann, renamed, &["title"]).await, Aborted, "ETAG_MISMATCH");
    assert_refused!(ann.changes(&sync_token, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    assert_refused!(end(&mut watch).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    let next_page = ListTasksRequest { page_token, ..first_page };
    let refused = async {
        // A page token only contains a position, so it is checked against the epoch that was read last.
        while ann.list(next_page.clone()).await.is_ok() {
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, refused).await.expect("the new epoch is noticed");
    assert_refused!(ann.list(next_page).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");

    let current = ann.get(&task.id).await.expect("it exists");
    assert_eq!(current, Task { etag: current.etag.clone(), ..task });
    ann.complete(&current.id, &current.etag).await.expect("a new etag is valid");
    let sync_token = ann.current_sync_token().await;
    ann.changes(&sync_token, 0).await.expect("a new token is valid");
}

async fn tokens_and_etags_survive_a_restart(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    ann.make("Buy oats").await;
    let sync_token = ann.current_sync_token().await;
    let first_page = ListTasksRequest { page_size: 1, ..ListTasksRequest::default() };
    let page_token = ann.list(first_page.clone()).await.expect("a page").next_page_token;

    let service = service.restart(&database).await;

    let ann = ann.connected_to(&service);
    ann.list(ListTasksRequest { page_token, ..first_page }).await.expect("the token is valid");
    assert_eq!(ann.changed_ids(&sync_token).await.0, [""; 0]);
    ann.complete(&task.id, &task.etag).await.expect("the etag is valid");
}

async fn a_lower_sequence_number_of_a_watched_owner_ends_the_watch(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    ann.make("Buy milk").await;
    bob.make("Buy oats").await;
    let token_of_bob = bob.current_sync_token().await;
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    let task = ann.make("Buy rye").await;
    assert_eq!(next(&mut watch).await.expect("a message").changes[0].id, task.id);

    let db = open_database(&database.parsed_url()).await;
    let lost = async {
        // Until the service has read the sequence number, it cannot notice that a later one is lower.
        const UPDATE: &str = "update owners set last_change = last_change - 1 where owner_id = $1";
        while bob.changes(&token_of_bob, 0).await.is_ok() {
            db.execute(UPDATE, args![ann.id]).await.expect("an update");
        }
    };
    timeout(WAIT_TIMEOUT, lost).await.expect("the loss is noticed");
    assert_refused!(end(&mut watch).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    assert_refused!(bob.changes(&token_of_bob, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    db.close().await;
}
