//! How watches end, and the limit on concurrent watches.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::WatchTasksRequest;
use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};
use tonic::Request;

use crate::{
    follow::{Watch, end, next},
    support::{Service, User, WAIT_TIMEOUT},
};

on_each_database!(
    watch_ends_when_the_session_is_revoked,
    watch_ends_when_the_token_expires,
    watch_ends_with_shutting_down_when_the_server_stops,
    user_has_at_most_eight_watches,
    refused_watch_does_not_count,
);

/// The maximum number of watches of one user per replica.
const MAX_WATCHES: usize = 8;

/// Starts the maximum number of watches and receives the first message of each.
async fn start_watches(user: &User) -> Vec<Watch> {
    let mut watches = Vec::new();
    for _ in 0..MAX_WATCHES {
        let mut watch = user.watch("").await.expect("a watch");
        next(&mut watch).await.expect("a message");
        watches.push(watch);
    }
    watches
}

async fn watch_ends_when_the_session_is_revoked(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let elsewhere = service.session(ann.id, service.clock.new_id());
    let mut watch = ann.watch("").await.expect("a watch");
    let mut other = elsewhere.watch("").await.expect("a watch");
    for watch in [&mut watch, &mut other] {
        next(watch).await.expect("a message");
    }
    service.feed.revoke(ann.session_id);
    let revoked_at = Instant::now();
    assert_refused!(end(&mut watch).await, Unauthenticated, "TOKEN_REVOKED");
    assert!(revoked_at.elapsed() < Duration::from_secs(1));

    let task = elsewhere.make("Buy milk").await;
    let message = next(&mut other).await.expect("other sessions of the user are not affected");
    assert_eq!(message.changes[0].id, task.id);
}

async fn watch_ends_when_the_token_expires(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    // The token is valid for five minutes, plus a leeway of five seconds.
    service.manual_clock.advance(Duration::from_secs(304));
    let task = ann.make("Buy milk").await;
    assert_eq!(next(&mut watch).await.expect("the token is still valid").changes[0].id, task.id);
    service.manual_clock.advance(Duration::from_secs(1));
    assert_refused!(end(&mut watch).await, Unauthenticated, "TOKEN_EXPIRED");
}

async fn watch_ends_with_shutting_down_when_the_server_stops(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watches = start_watches(&ann).await;
    let stopped = tokio::spawn(timeout(WAIT_TIMEOUT, service.stop()));
    for watch in &mut watches {
        assert_refused!(end(watch).await, Unavailable, "SHUTTING_DOWN");
    }
    stopped.await.expect("no panic").expect("nothing delays the shutdown");
}

async fn user_has_at_most_eight_watches(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let mut watches_of_ann = start_watches(&ann).await;
    assert_refused!(ann.watch("").await, ResourceExhausted, "QUOTA_EXCEEDED");
    let elsewhere = service.session(ann.id, service.clock.new_id());
    assert_refused!(elsewhere.watch("").await, ResourceExhausted, "QUOTA_EXCEEDED");
    start_watches(&bob).await;

    for _ in 0..3 {
        watches_of_ann.pop();
        let freed = async {
            loop {
                match ann.watch("").await {
                    Ok(watch) => return watch,
                    Err(_) => yield_now().await,
                }
            }
        };
        watches_of_ann.push(timeout(WAIT_TIMEOUT, freed).await.expect("a watch can be started again"));
        assert_refused!(ann.watch("").await, ResourceExhausted, "QUOTA_EXCEEDED");
    }
    let task = ann.make("Buy milk").await;
    for watch in &mut watches_of_ann {
        while next(watch).await.expect("the watch continues").changes.is_empty() {}
    }
    // Watches that end with their session free their slots as well.
    service.feed.revoke(ann.session_id);
    for watch in &mut watches_of_ann {
        assert_refused!(end(watch).await, Unauthenticated, "TOKEN_REVOKED");
    }
    let mut watch = elsewhere.watch("").await.expect("a watch");
    assert_eq!(next(&mut watch).await.expect("a message").changes[0].id, task.id);
}

async fn refused_watch_does_not_count(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for _ in 0..MAX_WATCHES {
        ann.watch("not a token").await.expect_err("no token");
        // A watch that is cancelled before it starts.
        let mut client = ann.client.clone();
        _ = timeout(Duration::ZERO, client.watch_tasks(Request::new(WatchTasksRequest::default()))).await;
    }
    let all = async {
        let mut started = Vec::new();
        while started.len() < MAX_WATCHES {
            // The server notices the cancellation after some time.
            if let Ok(watch) = ann.watch("").await {
                started.push(watch);
            }
        }
        started
    };
    timeout(WAIT_TIMEOUT, all).await.expect("all slots are free");
}
