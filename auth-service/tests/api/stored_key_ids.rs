//! The database records which keys are in use, even if a step of a rotation is missed or fails.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use service_kit::{auth::rotation, on_each_database, ops::secret_file, random, testing::TestDatabase};
use tokio::time::timeout;

use crate::support::{PASSWORD, Server, execute, query_string, run_program};

on_each_database! {
    a_rotation_completed_while_the_server_was_stopped_is_accepted,
    key_ids_are_stored_when_the_database_recovers,
    key_ids_that_another_replica_has_removed_are_stored_again,
}

/// How long the server may take to read its key file and to store the ids. Generous, because a busy machine is slow.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

fn key(kid: &str) -> Value {
    json!({ "kty": "oct", "kid": kid, "k": BASE64.encode(random::bytes::<32>()) })
}

/// Marks a key as expired, as a rotation does.
fn expired(mut key: Value) -> Value {
    key["exp"] = json!(1);
    key
}

/// Writes the key file and returns its path.
fn write_key_file(database: &TestDatabase, keys: &[&Value]) -> String {
    let file = database.folder().join("rotated.json");
    if !file.exists() {
        rotation::generate(rotation::NewKey::Hs256, &file).expect("generated");
    }
    secret_file::replace(&file, &json!({ "keys": keys }).to_string()).expect("written");
    file.display().to_string()
}

/// Starts a server with this key file, signs up a user and logs in.
async fn start(database: TestDatabase, key_file: &str) -> Server {
    let server = Server::start_with(database, &["--key-file", key_file]).await;
    server.sign_up_and_login(&format!("{}@example.com", server.clock.new_id())).await;
    server
}

/// Waits until a query returns `expected`.
async fn wait_for(server: &Server, sql: &'static str, expected: &str) {
    let found = async { while query_string(&server.database, sql).await != expected {} };
    timeout(WAIT_TIMEOUT, found).await.unwrap_or_else(|_| panic!("{sql}: never {expected}"));
}

/// Waits until the server signs with a key.
async fn wait_for_key(server: &Server, kid: &str) {
    server.sign_up("bob@example.com").await.expect("signed up");
    let signed = async {
        loop {
            let token = server.login("bob@example.com", PASSWORD).await.expect("logged in").access_token;
            let header = BASE64.decode(token.split('.').next().expect("a header")).expect("base64url");
            if serde_json::from_slice::<Value>(&header).expect("JSON")["kid"] == kid {
                return;
            }
        }
    };
    timeout(WAIT_TIMEOUT, signed).await.expect("the new key signs");
}

const COUNT: &str = "select cast(count(*) as text) from signing_keys";

async fn a_rotation_completed_while_the_server_was_stopped_is_accepted(database: TestDatabase) {
    let [old, new, other] = ["old", "new", "other"].map(key);
    let file = write_key_file(&database, &[&old]);
    let database = start(database, &file).await.stop().await;
    // The server was stopped for longer than the lifetime of a token.
    write_key_file(&database, &[&new, &expired(old.clone())]);
    let database = start(database, &file).await.stop().await;
    assert_eq!(query_string(&database, "select id from signing_keys").await, "new");
    // Two copies of a file that were rotated independently share only the expired key.
    write_key_file(&database, &[&other, &expired(old)]);
    let (succeeded, _, error) = run_program(&database, &["--listen", "127.0.0.1:0", "--key-file", &file]);
    assert!(!succeeded && error.contains("none of the keys"), "{error}");
}

async fn key_ids_are_stored_when_the_database_recovers(database: TestDatabase) {
    let [old, new] = ["old", "new"].map(key);
    let file = write_key_file(&database, &[&old]);
    let server = start(database, &file).await;
    execute(&server.database, "alter table signing_keys rename to hidden").await;
    write_key_file(&server.database, &[&new, &old]);
    wait_for_key(&server, "new").await;
    execute(&server.database, "alter table hidden rename to signing_keys").await;
    wait_for(&server, COUNT, "2").await;
    let database = server.stop().await;
    write_key_file(&database, &[&new]);
    start(database, &file).await.stop().await;
}

async fn key_ids_that_another_replica_has_removed_are_stored_again(database: TestDatabase) {
    let [old, new] = ["old", "new"].map(key);
    let file = write_key_file(&database, &[&new, &old]);
    let server = start(database, &file).await;
    // A replica that was started with an older copy of the file does the same.
    execute(&server.database, "delete from signing_keys where id = 'new'").await;
    wait_for(&server, COUNT, "2").await;
    server.stop().await;
}
