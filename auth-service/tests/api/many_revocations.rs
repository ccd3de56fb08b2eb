//! Start-up with many revoked sessions in the database.

use std::time::Duration;

use service_kit::{on_each_database, testing::TestDatabase};
use tokio::time::{Instant, timeout};

use crate::support::{Server, execute, query_string};

on_each_database! {
    start_up_does_not_depend_on_the_number_of_revocations,
}

/// Number of sessions that were revoked recently, and as many that were revoked long ago. Four million were tried by
/// hand.
const RECENT: &str = "50000";

/// The limit is 2 s. The rest is for a debug build on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns a statement that inserts revoked sessions. Their ids differ in the engines, which have no common function.
fn insert(is_postgres: bool, first: &str, revoked_at: &str) -> String {
    let id = if is_postgres { "cast(md5(cast(number as text)) as uuid)" } else { "randomblob(16)" };
    format!(
        "with recursive numbers (number) as (
            select cast({first} as bigint) union all select number + 1 from numbers where number < {first} + {RECENT} - 1)
        insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
            previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation)
        select {id}, {id}, '', '', '', 0, {revoked_at}, {revoked_at}, {revoked_at}, 9000000000000000, 9000000000000000,
            {revoked_at}, false, number
        from numbers"
    )
}

async fn start_up_does_not_depend_on_the_number_of_revocations(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let ended = server.login("ann@example.com", crate::support::PASSWORD).await.expect("logged in");
    server.logout(&ended.refresh_token).await.expect("logged out");
    let now = server.clock.now().as_micros();
    let database = server.stop().await;
    let is_postgres = database.url().starts_with("postgres");
    for (first, age_in_seconds) in [("10", 8 * 3600), ("1000000", 600)] {
        let revoked_at = (now - age_in_seconds * 1_000_000).to_string();
        execute(&database, insert(is_postgres, first, &revoked_at)).await;
    }
    execute(&database, "update feed set last_revocation = 2000000").await;

    let begun = Instant::now();
    let server = Server::start(database).await;
    let refused = timeout(LIMIT * 10, server.await_refusal(&ended.access_token)).await.expect("the server starts");
    let took = begun.elapsed();
    assert_eq!(service_kit::testing::refusal(&refused).1, "TOKEN_REVOKED");
    assert!(took < LIMIT, "start-up took {took:?}");
    server.get_me(&pair.access_token).await.expect("an active session is accepted");
    let count = "select cast(count(*) as text) from sessions where revocation is not null";
    assert_eq!(query_string(&server.database, count).await, "100001");
    server.stop().await;
}
