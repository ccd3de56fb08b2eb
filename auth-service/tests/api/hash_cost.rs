//! Changes of the cost of password hashes. The stored ones are replaced at the next login.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{ChangePasswordRequest, LoginRequest};
use tokio::task::JoinSet;

use crate::support::{PASSWORD, Server, bearer, execute, query_string};

on_each_database! {
    concurrent_logins_succeed_after_a_change_of_the_hash_cost,
    a_password_change_succeeds_while_the_hash_is_replaced,
    a_login_succeeds_if_the_hash_cannot_be_replaced,
}

/// Returns the flags for hashes of this cost. Attempts are throttled, but not limited per address.
fn cost(memory_kib: &str) -> [&str; 6] {
    ["--login-rate", "1000000+1/s", "--password-memory-kib", memory_kib, "--password-passes", "1"]
}

fn login_request() -> LoginRequest {
    let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
    LoginRequest { email, password, ..LoginRequest::default() }
}

/// Signs up with a cheap hash, and restarts the server with a more expensive one.
async fn start_with_an_outdated_hash(database: TestDatabase) -> Server {
    let server = Server::start_with(database, &cost("8")).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    Server::start_with(server.stop().await, &cost("1024")).await
}

async fn concurrent_logins_succeed_after_a_change_of_the_hash_cost(database: TestDatabase) {
    let server = start_with_an_outdated_hash(database).await;
    let mut logins = JoinSet::new();
    for _ in 0..12 {
        let mut client = server.auth();
        logins.spawn(async move { client.login(login_request()).await.map(|_| ()) });
    }
    for login in logins.join_all().await {
        login.expect("logged in");
    }
    let hash = query_string(&server.database, "select password_hash from users").await;
    assert!(hash.contains("m=1024"), "{hash}");
    server.stop().await;
}

async fn a_password_change_succeeds_while_the_hash_is_replaced(database: TestDatabase) {
    let server = start_with_an_outdated_hash(database).await;
    let pair = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let database = server.stop().await;
    let server = Server::start_with(database, &cost("2048")).await;
    let new_password = "a stapled battery of horses".to_owned();
    let change = ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password };
    let mut account = server.account();
    let (changed, logged_in) = tokio::join!(
        account.change_password(bearer(&pair.access_token, change)),
        server.login("ann@example.com", PASSWORD)
    );
    changed.expect("changed");
    if let Err(status) = logged_in {
        assert_eq!(refusal(&status).1, "CREDENTIALS_INVALID", "the password was changed first");
        // A wrong password delays the next attempt.
        server.manual_clock.advance(Duration::from_secs(1));
    }
    server.login("ann@example.com", "a stapled battery of horses").await.expect("logged in");
    server.stop().await;
}

async fn a_login_succeeds_if_the_hash_cannot_be_replaced(database: TestDatabase) {
    let server = start_with_an_outdated_hash(database).await;
    // The longer hash violates this constraint. SQLite has no constraints for existing tables.
    let (trigger, remove) = if server.database.url().starts_with("sqlite:") {
        (
            "create trigger fixed before update of password_hash on users begin select raise(abort, 'fixed'); end",
            "drop trigger fixed",
        )
    } else {
        (
            "alter table auth.users add constraint fixed check (password_hash like '%m=8,%')",
            "alter table auth.users drop constraint fixed",
        )
    };
    execute(&server.database, trigger).await;
    server.login("ann@example.com", PASSWORD).await.expect("logged in");
    assert_refused!(server.login("ann@example.com", "a wrong one").await, Unauthenticated, "CREDENTIALS_INVALID");
    execute(&server.database, remove).await;
    server.stop().await;
}
