//! The queue of webhooks, some of whose accounts are disabled.

use service_kit::{args, on_each_database, testing::TestDatabase};

use super::*;
use crate::store::{
    disabled_owners::{clear_within, delete_within, enable_within, insert_within, lock_within},
    webhook_queue::{claim, mark_all_due, mark_behind, mark_due},
};

on_each_database!(
    webhooks_of_disabled_accounts_are_not_made_due,
    many_due_webhooks_of_disabled_accounts_do_not_hide_others,
    concurrent_claims_and_changes_of_accounts_do_not_deadlock,
);

/// Creates a webhook of each owner. All are behind the changes of their owners, and due at this instant.
async fn create_webhooks(db: &Db, owners: &[Uuid], due_time: Option<Timestamp>) {
    const OWNER: &str = "
        insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists) values ($1, 5, 0, 0, 0)";
    const WEBHOOK: &str = "
        insert into webhooks (owner_id, id, create_time, update_time, revision, due_time, position, sync_token, generation,
            attempts, failures, sealed_secret, url, filter)
        values ($1, $1, 1, 1, 1, $2, 1, '', 0, 0, 0, '', '', '')";
    for owner in owners {
        db.execute(OWNER, args![*owner]).await.expect("an owner");
        db.execute(WEBHOOK, args![*owner, due_time]).await.expect("a webhook");
    }
}

async fn disable(db: &Db, owners: &[Uuid]) {
    let owners = owners.to_vec();
    let disabled = db.write(|conn| {
        Box::pin(async move {
            lock_within(conn).await?;
            insert_within(conn, &owners).await
        })
    });
    disabled.await.expect("disabled");
}

async fn enable(db: &Db, now: Timestamp, owners: &[Uuid]) {
    let owners = owners.to_vec();
    let enabled = db.write(move |conn| {
        Box::pin(async move {
            lock_within(conn).await?;
            enable_within(conn, now, &owners).await
        })
    });
    enabled.await.expect("enabled");
}

/// Returns the owners whose webhooks are due or claimed.
async fn queued(db: &Db) -> Vec<Uuid> {
    const SELECT: &str = "select owner_id from webhooks where due_time is not null order by owner_id";
    db.fetch_all(SELECT, args![]).await.expect("the owners")
}

async fn webhooks_of_disabled_accounts_are_not_made_due(database: TestDatabase) {
    let (db, now) = (open(&database).await, Clock::system().now());
    let [ann, bob] = [1, 2].map(Uuid::from_u128);
    create_webhooks(&db, &[ann, bob], None).await;
    disable(&db, &[ann]).await;
    disable(&db, &[ann]).await;
    mark_due(&db, now, vec![ann]).await.expect("marked");
    assert!(queued(&db).await.is_empty());
    // A batch is full only if there are more.
    assert_eq!(mark_behind(&db, now, 1).await.expect("marked"), 1);
    assert_eq!(queued(&db).await, [bob]);
    assert_eq!(mark_behind(&db, now, 1).await.expect("marked"), 0);
    mark_all_due(&db).await.expect("marked");
    assert_eq!(queued(&db).await, [bob]);
    enable(&db, now, &[ann]).await;
    assert_eq!(queued(&db).await, [ann, bob]);
    db.close().await;
}

async fn many_due_webhooks_of_disabled_accounts_do_not_hide_others(database: TestDatabase) {
    let (db, now) = (open(&database).await, Clock::system().now());
    let disabled: Vec<_> = (1..=7).map(Uuid::from_u128).collect();
    create_webhooks(&db, &disabled, Some(now - Duration::from_secs(1))).await;
    disable(&db, &disabled).await;
    let others = [8, 9].map(Uuid::from_u128);
    create_webhooks(&db, &others, Some(now)).await;
    let mut claimed = Vec::new();
    for is_last in [false, false, false, true] {
        let claims = claim(&db, now, random::id(), 3).await.expect("claimed");
        claimed.extend(claims.webhooks.into_iter().map(|webhook| webhook.owner_id));
        assert_eq!(claims.is_last, is_last);
    }
    claimed.sort_unstable();
    assert_eq!(claimed, others);
    assert_eq!(queued(&db).await, others, "the others are idle");
    db.close().await;
}

async fn concurrent_claims_and_changes_of_accounts_do_not_deadlock(database: TestDatabase) {
    let (db, now) = (open(&database).await, Clock::system().now());
    let owners: Vec<_> = (1..=60).map(Uuid::from_u128).collect();
    create_webhooks(&db, &owners, Some(now)).await;
    let backwards: Vec<_> = owners.iter().rev().copied().collect();
    for _ in 0..10 {
        let claims = async {
            claim(&db, now, random::id(), 50).await.expect("claimed");
        };
        let marks = async {
            mark_due(&db, now, backwards.clone()).await.expect("marked");
            mark_behind(&db, now, 50).await.expect("marked");
        };
        tokio::join!(claims, disable(&db, &backwards), marks, enable(&db, now, &owners));
    }
    let cleared = db.write(|conn| {
        Box::pin(async move {
            lock_within(conn).await?;
            clear_within(conn).await?;
            delete_within(conn, &[]).await
        })
    });
    cleared.await.expect("cleared");
    db.close().await;
}
