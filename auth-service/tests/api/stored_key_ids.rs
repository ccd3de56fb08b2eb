//! The database records which keys are in use, whatever happens during a rotation.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use service_kit::{auth::rotation, on_each_database, ops::secret_file, random, testing::TestDatabase};
use tokio::time::timeout;

use crate::support::{PASSWORD, Server, execute, look_up, program};

on_each_database! {
    a_rotation_that_is_over_when_the_server_starts_is_accepted,
    key_ids_are_stored_once_the_database_works_again,
    key_ids_that_another_replica_has_removed_are_stored_again,
}

/// How long the server may take to read its key file and to store the ids. A busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

fn key(kid: &str) -> Value {
    json!({ "kty": "oct", "kid": kid, "k": BASE64.encode(random::bytes::<32>()) })
}

/// Returns a key that has expired, as a rotation leaves it in the file.
fn expired(mut key: Value) -> Value {
    key["exp"] = json!(1);
    key
}

/// Writes the key file, and returns where it is.
fn write(database: &TestDatabase, keys: &[&Value]) -> String {
    let file = database.folder().join("rotated.json");
    if !file.exists() {
        rotation::generate(rotation::NewKey::Hs256, &file).expect("generated");
    }
    secret_file::replace(&file, &json!({ "keys": keys }).to_string()).expect("written");
    file.display().to_string()
}

async fn serve(database: TestDatabase, key_file: &str) -> Server {
    let server = Server::start_with(database, &["--key-file", key_file]).await;
    server.person(&format!("{}@example.com", server.clock.new_id())).await;
    server
}

/// Waits until a statement finds `expected`.
async fn wait_for(server: &Server, sql: &'static str, expected: &str) {
    let found = async { while look_up(&server.database, sql).await != expected {} };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{sql}: never {expected}"));
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
    timeout(PATIENCE, signed).await.expect("the new key signs");
}

const COUNT: &str = "select cast(count(*) as text) from signing_keys";

async fn a_rotation_that_is_over_when_the_server_starts_is_accepted(database: TestDatabase) {
    let [old, new, other] = ["old", "new", "other"].map(key);
    let file = write(&database, &[&old]);
    let database = serve(database, &file).await.stop().await;
    // The server was stopped for longer than a token lives.
    write(&database, &[&new, &expired(old.clone())]);
    let database = serve(database, &file).await.stop().await;
    assert_eq!(look_up(&database, "select id from signing_keys").await, "new");
    // Two copies of one file that were rotated independently have nothing but the expired key in common.
    write(&database, &[&other, &expired(old)]);
    let (good, _, error) = program(&database, &["--listen", "127.0.0.1:0", "--key-file", &file]);
    assert!(!good && error.contains("none of the keys"), "{error}");
}

async fn key_ids_are_stored_once_the_database_works_again(database: TestDatabase) {
    let [old, new] = ["old", "new"].map(key);
    let file = write(&database, &[&old]);
    let server = serve(database, &file).await;
    execute(&server.database, "alter table signing_keys rename to hidden").await;
    write(&server.database, &[&new, &old]);
    wait_for_key(&server, "new").await;
    execute(&server.database, "alter table hidden rename to signing_keys").await;
    wait_for(&server, COUNT, "2").await;
    let database = server.stop().await;
    write(&database, &[&new]);
    serve(database, &file).await.stop().await;
}

async fn key_ids_that_another_replica_has_removed_are_stored_again(database: TestDatabase) {
    let [old, new] = ["old", "new"].map(key);
    let file = write(&database, &[&new, &old]);
    let server = serve(database, &file).await;
    // As a replica does that was started with an older copy of the file.
    execute(&server.database, "delete from signing_keys where id = 'new'").await;
    wait_for(&server, COUNT, "2").await;
    server.stop().await;
}
