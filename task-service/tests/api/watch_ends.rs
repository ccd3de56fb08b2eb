//! How a watch ends, and how many there may be.

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
    support::{PATIENCE, Service, User},
};

on_each_database!(
    a_watch_ends_when_the_session_is_revoked,
    a_watch_ends_when_the_token_expires,
    a_watch_ends_in_good_order_with_the_server,
    a_user_watches_eight_times_at_most,
    a_watch_that_was_refused_takes_no_place,
);

/// How many a user may have at one replica.
const MOST: usize = 8;

/// As many watches as there may be, each of which has begun.
async fn watches(user: &User) -> Vec<Watch> {
    let mut watches = Vec::new();
    for _ in 0..MOST {
        let mut watch = user.watch("").await.expect("a watch");
        next(&mut watch).await.expect("a message");
        watches.push(watch);
    }
    watches
}

async fn a_watch_ends_when_the_session_is_revoked(database: TestDatabase) {
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
    let message = next(&mut other).await.expect("other sessions of the user are not concerned");
    assert_eq!(message.changes[0].id, task.id);
}

async fn a_watch_ends_when_the_token_expires(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    next(&mut watch).await.expect("a message");
    // The token lives five minutes, and clocks may be five seconds apart.
    service.hands.advance(Duration::from_secs(304));
    let task = ann.make("Buy milk").await;
    assert_eq!(next(&mut watch).await.expect("it is still good").changes[0].id, task.id);
    service.hands.advance(Duration::from_secs(1));
    assert_refused!(end(&mut watch).await, Unauthenticated, "TOKEN_EXPIRED");
}

async fn a_watch_ends_in_good_order_with_the_server(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut watches = watches(&ann).await;
    let stopped = tokio::spawn(timeout(PATIENCE, service.stop()));
    for watch in &mut watches {
        assert_refused!(end(watch).await, Unavailable, "SHUTTING_DOWN");
    }
    stopped.await.expect("no panic").expect("nothing holds it up");
}

async fn a_user_watches_eight_times_at_most(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let mut of_ann = watches(&ann).await;
    assert_refused!(ann.watch("").await, ResourceExhausted, "QUOTA_EXCEEDED");
    let elsewhere = service.session(ann.id, service.clock.new_id());
    assert_refused!(elsewhere.watch("").await, ResourceExhausted, "QUOTA_EXCEEDED");
    watches(&bob).await;

    for _ in 0..3 {
        of_ann.pop();
        let freed = async {
            loop {
                match ann.watch("").await {
                    Ok(watch) => return watch,
                    Err(_) => yield_now().await,
                }
            }
        };
        of_ann.push(timeout(PATIENCE, freed).await.expect("there is a place again"));
        assert_refused!(ann.watch("").await, ResourceExhausted, "QUOTA_EXCEEDED");
    }
    let task = ann.make("Buy milk").await;
    for watch in &mut of_ann {
        while next(watch).await.expect("the watch goes on").changes.is_empty() {}
    }
    // Those whose session ends give their places back as well.
    service.feed.revoke(ann.session_id);
    for watch in &mut of_ann {
        assert_refused!(end(watch).await, Unauthenticated, "TOKEN_REVOKED");
    }
    let mut watch = elsewhere.watch("").await.expect("a watch");
    assert_eq!(next(&mut watch).await.expect("a message").changes[0].id, task.id);
}

async fn a_watch_that_was_refused_takes_no_place(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for _ in 0..MOST {
        ann.watch("not a token").await.expect_err("no token");
        // One that is given up before it has begun.
        let mut client = ann.client.clone();
        _ = timeout(Duration::ZERO, client.watch_tasks(Request::new(WatchTasksRequest::default()))).await;
    }
    let all = async {
        let mut begun = Vec::new();
        while begun.len() < MOST {
            // What was given up is noticed in its time.
            if let Ok(watch) = ann.watch("").await {
                begun.push(watch);
            }
        }
        begun
    };
    timeout(PATIENCE, all).await.expect("all places are free");
}
