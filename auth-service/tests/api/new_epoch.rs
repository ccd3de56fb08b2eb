//! The command `new-epoch`, for a database that was restored.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};

use crate::support::{PASSWORD, Server, run_program};

on_each_database! {
    all_sessions_end_also_at_a_running_server,
    new_epoch_of_a_database_without_tables_is_refused,
}

async fn all_sessions_end_also_at_a_running_server(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    server.logout(&bob.refresh_token).await.expect("logged out");
    let (succeeded, output, error) = run_program(&server.database, &["new-epoch"]);
    assert!(succeeded && output == "auth: began a new epoch; sessions revoked: 1\n", "{output}{error}");
    assert_refused!(server.refresh(&ann.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    let status = server.await_refusal(&ann.access_token).await;
    assert_refused!(Err::<(), _>(status), Unauthenticated, "TOKEN_REVOKED");
    // The program has waited until tokens are accepted. The clock of the server has not advanced meanwhile.
    server.manual_clock.advance(Duration::from_secs(60));
    let again = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    server.get_me(&again.access_token).await.expect("accepted");
    server.stop().await;
}

async fn new_epoch_of_a_database_without_tables_is_refused(database: TestDatabase) {
    let (succeeded, _, error) = run_program(&database, &["new-epoch"]);
    assert!(!succeeded && error.lines().count() == 1, "{error}");
    assert!(error.contains("there is no database") || error.contains("it has no tables"), "{error}");
}
