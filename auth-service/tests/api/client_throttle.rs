//! Wrong secrets of service accounts delay the next attempt, until a correct secret or a new one.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::ServiceAccount;
use tonic_types::StatusExt;

use crate::{
    forged_claims::sign_up_admin,
    oauth::client_token,
    service_accounts::{created, delete, rotate},
    support::{Server, query_string},
};

on_each_database! {
    only_consecutive_wrong_secrets_are_counted,
    a_new_secret_ends_the_delay,
    a_deleted_service_account_leaves_no_counts,
}

/// Starts a server that limits no addresses, with a service account. Returns the access token of the administrator, too.
async fn start(database: TestDatabase) -> (Server, ServiceAccount, String) {
    let server = Server::start_with(database, &["--login-rate", "1000000+1/s"]).await;
    let admin = sign_up_admin(&server).await.access_token;
    let account = created(&server, &admin, &["tasks.read"]).await;
    (server, account, admin)
}

/// Sends a wrong secret, which must be checked.
async fn send_wrong_secret(server: &Server, account: &ServiceAccount) {
    let wrong = ServiceAccount { secret: "wrong".to_owned(), ..account.clone() };
    assert_refused!(client_token(server, &wrong, "").await, Unauthenticated, "CLIENT_INVALID");
}

/// Asserts that a correct secret is delayed, and returns for how many seconds.
async fn delay(server: &Server, account: &ServiceAccount) -> u64 {
    let status = client_token(server, account, "").await.expect_err("delayed");
    assert!(status.message().contains("failed attempts") && !status.message().contains("password"), "{status:?}");
    assert_eq!(refusal(&status).1, "RATE_LIMITED");
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a delay");
    retry.as_secs()
}

async fn only_consecutive_wrong_secrets_are_counted(database: TestDatabase) {
    let (server, account, _) = start(database).await;
    for round in 0..3 {
        for _ in 0..2 {
            send_wrong_secret(&server, &account).await;
            assert_eq!(delay(&server, &account).await, 1, "round {round}");
            server.manual_clock.advance(Duration::from_secs(1));
        }
        client_token(&server, &account, "").await.expect("issued");
    }
    for _ in 0..3 {
        send_wrong_secret(&server, &account).await;
        server.manual_clock.advance(Duration::from_secs(1));
    }
    assert_eq!(delay(&server, &account).await, 2, "the third one in a row");
    server.stop().await;
}

async fn a_new_secret_ends_the_delay(database: TestDatabase) {
    let (server, mut account, admin) = start(database).await;
    for overlap in [None, Some(Duration::from_secs(60)), None] {
        for _ in 0..3 {
            send_wrong_secret(&server, &account).await;
            server.manual_clock.advance(Duration::from_secs(1));
        }
        assert_eq!(delay(&server, &account).await, 2);
        account = rotate(&server, &admin, &account.id, overlap).await.expect("rotated");
        client_token(&server, &account, "").await.expect("issued");
    }
    server.stop().await;
}

async fn a_deleted_service_account_leaves_no_counts(database: TestDatabase) {
    let count =
        async |server: &Server| query_string(&server.database, "select cast(count(*) as text) from guesses").await;
    let (server, account, admin) = start(database).await;
    let before = count(&server).await;
    client_token(&server, &account, "").await.expect("issued");
    send_wrong_secret(&server, &account).await;
    assert_ne!(count(&server).await, before);
    delete(&server, &admin, &account.id).await.expect("deleted");
    assert_eq!(count(&server).await, before);
    server.stop().await;
}
