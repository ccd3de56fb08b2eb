//! Rotation of the secrets of refresh tokens.

use std::{fs, time::Duration};

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::ListMySecurityEventsRequest;
use tokio::{task::spawn_blocking, time::timeout};

use crate::support::{Server, bearer, run_program};

on_each_database! {
    rotation_ends_no_session,
    removed_secret_ends_the_sessions_that_were_not_refreshed,
    secret_that_issues_tokens_cannot_be_removed,
    page_tokens_survive_a_rotation,
}

/// Runs a command of `refresh-secret` on the files of a server.
fn run(database: &TestDatabase, arguments: &[&str]) -> (bool, String, String) {
    let keys = database.key_file().display().to_string();
    run_program(database, &[&["refresh-secret"], arguments, &["--key-file", &keys]].concat())
}

/// Returns the ids of the secrets.
pub fn ids(database: &TestDatabase) -> Vec<String> {
    let (succeeded, listed, error) = run(database, &["list"]);
    assert!(succeeded, "{error}");
    listed.lines().map(|line| line.split(' ').next().expect("an id").to_owned()).collect()
}

/// Rotates beside a running server.
pub async fn rotate(server: Server) -> Server {
    let rotated = spawn_blocking(move || {
        let outcome = run(&server.database, &["rotate", "--publish-for", "5s"]);
        (server, outcome)
    });
    let (server, (succeeded, _, error)) = rotated.await.expect("no panic");
    assert!(succeeded, "{error}");
    server
}

/// Removes a secret when the server has stored that it uses the new one, and has encrypted the secrets of factors with it.
pub async fn remove(server: &Server, id: &str) {
    let removed = async {
        loop {
            let (succeeded, _, error) = run(&server.database, &["remove", id]);
            if succeeded {
                return;
            }
            let expected = ["no server has used the new secret yet", "secrets of second factors are still encrypted"];
            assert!(expected.iter().any(|expected| error.contains(expected)), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), removed).await.expect("the secret is removed");
}

async fn rotation_ends_no_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let before = server.sign_up_and_login("ann@example.com").await;
    let secret_file = server.database.folder().join("refresh.secret");
    let first = fs::read_to_string(&secret_file).expect("a secret");
    let server = rotate(server).await;
    let listed = ids(&server.database);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(fs::read_to_string(&secret_file).expect("the secrets").contains(&first), "the first secret is kept");
    let refreshed = server.refresh(&before.refresh_token).await.expect("the token is valid");
    // Also after a restart.
    let server = Server::start(server.stop().await).await;
    let refreshed = server.refresh(&refreshed.refresh_token).await.expect("the token is valid");
    remove(&server, &listed[1]).await;
    let server = Server::start(server.stop().await).await;
    server.refresh(&refreshed.refresh_token).await.expect("the session was refreshed before the removal");
    assert_eq!(ids(&server.database), listed[..1]);
    server.stop().await;
}

async fn removed_secret_ends_the_sessions_that_were_not_refreshed(database: TestDatabase) {
    let server = Server::start(database).await;
    let before = server.sign_up_and_login("ann@example.com").await;
    let server = rotate(server).await;
    let old = ids(&server.database).remove(1);
    remove(&server, &old).await;
    let refused = async { while server.refresh(&before.refresh_token).await.is_ok() {} };
    timeout(Duration::from_secs(30), refused).await.expect("the removal takes effect without a restart");
    assert_refused!(server.refresh(&before.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn secret_that_issues_tokens_cannot_be_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up_and_login("ann@example.com").await;
    let current = ids(&server.database).remove(0);
    let (succeeded, _, error) = run(&server.database, &["remove", &current]);
    assert!(!succeeded && error.contains("rotate the secrets first"), "{error}");
    let (succeeded, _, error) = run(&server.database, &["remove", "unknown"]);
    assert!(!succeeded && error.contains("has no secret \"unknown\""), "{error}");
    server.stop().await;
}

async fn page_tokens_survive_a_rotation(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let request = |page_token: &str| ListMySecurityEventsRequest { page_size: 1, page_token: page_token.to_owned() };
    let first = server.account().list_my_security_events(bearer(&ann.access_token, request(""))).await;
    let page_token = first.expect("a page").into_inner().next_page_token;
    let server = rotate(server).await;
    let server = Server::start(server.stop().await).await;
    let second = server.account().list_my_security_events(bearer(&ann.access_token, request(&page_token))).await;
    second.expect("the page token is valid");
    server.stop().await;
}

#[tokio::test]
async fn file_with_other_content_is_refused() {
    let database = TestDatabase::sqlite();
    let server = Server::start(database).await;
    server.sign_up_and_login("ann@example.com").await;
    let database = server.stop().await;
    let file = database.folder().join("refresh.secret");
    let first = fs::read_to_string(&file).expect("a secret");
    let keys = database.key_file().display().to_string();
    for content in [
        "{}".to_owned(),
        r#"{"secrets": []}"#.to_owned(),
        r#"{"secrets": [{"secret": "c2hvcnQ"}]}"#.to_owned(),
        format!(r#"{{"secrets": [{{"secret": "{first}", "pending": true}}]}}"#),
        format!("{first}A"),
    ] {
        fs::write(&file, &content).expect("written");
        let (succeeded, _, error) = run_program(&database, &["--listen", "127.0.0.1:0", "--key-file", &keys]);
        assert!(!succeeded && error.contains("does not contain secrets of refresh tokens"), "{content}: {error}");
        assert!(!error.contains(&first), "the error quotes the secret");
    }
}
