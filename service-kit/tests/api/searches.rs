//! Searches that take long: their limits, and their effect on other reads.

use std::time::Duration;

use service_kit::{
    args,
    db::{Db, Engine, QueryBuilder, SearchError, Searches, Sql, Value},
    on_each_database,
    ops::config::OnOff,
    testing::{TestDatabase, clock},
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::abandoned_calls::{ENDLESS_QUERY, ids, insert, open, pool};

on_each_database! {
    search_beyond_its_budget_is_too_expensive,
    account_with_too_many_searches_is_overloaded,
    quick_search_does_not_wait_behind_long_searches_of_others,
    long_searches_leave_connections_for_other_reads,
    abandoned_searches_make_room_for_others,
    account_whose_searches_take_too_long_is_limited,
    abandoned_searches_count,
}

const ANN: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);
const LIMIT: Duration = Duration::from_secs(10);

/// Returns a query that takes longer than the budget.
fn endless(db: &Db) -> (Sql, Vec<Value>) {
    match db.engine() {
        Engine::Sqlite => (ENDLESS_QUERY.into(), args![]),
        Engine::Postgres => QueryBuilder::new("select 1::bigint from pg_sleep(60)").build(),
    }
}

async fn quick(searches: &Searches, account: Uuid) -> Result<Vec<i64>, SearchError> {
    searches.fetch_all(account, ("select id from items order by id".into(), args![])).await
}

async fn endless_search(db: &Db, searches: &Searches, account: Uuid) -> SearchError {
    searches.fetch_all::<i64>(account, endless(db)).await.expect_err("it never ends")
}

async fn search_beyond_its_budget_is_too_expensive(database: TestDatabase) {
    let db = open(&database, &pool(4, LIMIT)).await;
    let searches = Searches::new(db.clone(), clock().0, OnOff::Off);
    let begun = Instant::now();
    let error = endless_search(&db, &searches, ANN).await;
    assert!(matches!(error, SearchError::TooExpensive), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(quick(&searches, ANN).await.expect("the next search of the account is executed"), [0_i64; 0]);
    db.close().await;
}

async fn account_with_too_many_searches_is_overloaded(database: TestDatabase) {
    let db = open(&database, &pool(4, LIMIT)).await;
    let searches = Searches::new(db.clone(), clock().0, OnOff::Off);
    let first = endless_search(&db, &searches, ANN);
    let others = futures::future::join_all((0..100).map(|_| quick(&searches, ANN)));
    let (first, others) = tokio::join!(first, others);
    assert!(matches!(first, SearchError::TooExpensive), "{first}");
    for other in others {
        assert!(matches!(other, Err(SearchError::Overloaded) | Ok(_)), "{other:?}");
    }
    db.close().await;
}

async fn quick_search_does_not_wait_behind_long_searches_of_others(database: TestDatabase) {
    let db = open(&database, &pool(4, LIMIT)).await;
    insert(&db, 1).await.expect("written");
    let searches = Searches::new(db.clone(), clock().0, OnOff::Off);
    let attackers = (10..20).map(|account| endless_search(&db, &searches, Uuid::from_u128(account)));
    let attack = futures::future::join_all(attackers);
    let honest = async {
        for _ in 0..20 {
            assert_eq!(quick(&searches, BOB).await.expect("it is executed"), [1]);
        }
    };
    tokio::select! {
        _ = attack => panic!("the attack ended first"),
        () = honest => {}
    }
    db.close().await;
}

async fn long_searches_leave_connections_for_other_reads(database: TestDatabase) {
    let db = open(&database, &pool(4, LIMIT)).await;
    insert(&db, 1).await.expect("written");
    let searches = Searches::new(db.clone(), clock().0, OnOff::Off);
    let attackers = (10..20).map(|account| endless_search(&db, &searches, Uuid::from_u128(account)));
    let attack = futures::future::join_all(attackers);
    let honest = async {
        for _ in 0..20 {
            let item = db.fetch_optional::<i64>("select id from items where id = $1", args![1_i64]).await;
            assert_eq!(item.expect("a read"), Some(1));
            assert_eq!(ids(&db).await, [1]);
        }
    };
    tokio::select! {
        _ = attack => panic!("the attack ended first"),
        () = honest => {}
    }
    db.close().await;
}

async fn abandoned_searches_make_room_for_others(database: TestDatabase) {
    let db = open(&database, &pool(1, LIMIT)).await;
    let searches = Searches::new(db.clone(), clock().0, OnOff::Off);
    for _ in 0..10 {
        assert!(timeout(Duration::from_millis(100), endless_search(&db, &searches, ANN)).await.is_err());
    }
    quick(&searches, ANN).await.expect("the account's turn has come");
    let error = endless_search(&db, &searches, BOB).await;
    assert!(matches!(error, SearchError::TooExpensive), "{error}");
    db.close().await;
}

/// The time that the searches of an account may take at once, and that they may take until they may take as long again.
const BURST: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(15);

async fn account_whose_searches_take_too_long_is_limited(database: TestDatabase) {
    let db = open(&database, &pool(4, LIMIT)).await;
    let (clock, manual_clock) = clock();
    let searches = Searches::new(db.clone(), clock, OnOff::On);
    for _ in 0..100 {
        quick(&searches, ANN).await.expect("quick searches are not limited");
    }
    let begun = Instant::now();
    let delay = loop {
        match endless_search(&db, &searches, ANN).await {
            SearchError::TooExpensive => {}
            SearchError::RateLimited(delay) => break delay,
            error => panic!("{error}"),
        }
    };
    let elapsed = begun.elapsed();
    assert!(elapsed > BURST / 2 && elapsed < 2 * BURST, "{elapsed:?}");
    assert!(matches!(quick(&searches, ANN).await, Err(SearchError::RateLimited(_))), "quick searches share the limit");
    quick(&searches, BOB).await.expect("another account is not limited");
    assert!(delay < RECOVERY, "{delay:?}");
    manual_clock.advance(delay);
    assert!(matches!(endless_search(&db, &searches, ANN).await, SearchError::TooExpensive));
    db.close().await;
}

async fn abandoned_searches_count(database: TestDatabase) {
    let db = open(&database, &pool(4, LIMIT)).await;
    let searches = Searches::new(db.clone(), clock().0, OnOff::On);
    let limited = async {
        loop {
            let begun = Instant::now();
            if matches!(quick(&searches, ANN).await, Err(SearchError::RateLimited(_))) {
                break;
            }
            // The next search waits as long as this one did, and is then executed for half a second.
            let abandon_after = begun.elapsed() + Duration::from_millis(500);
            _ = timeout(abandon_after, endless_search(&db, &searches, ANN)).await;
        }
    };
    timeout(LIMIT, limited).await.expect("the account is limited");
    db.close().await;
}
