//! The running server reloads its key file when the file changes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use service_kit::{assert_refused, random, testing::TestDatabase};
use tokio::time::{Instant, timeout};

use crate::support::{PASSWORD, Server};

/// The documented limit is 5 s. A busy machine may take longer, which this test does not check.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

fn key(kid: &str) -> Value {
    json!({"kty": "oct", "kid": kid, "k": BASE64.encode(random::bytes::<32>())})
}

/// Replaces a file atomically, so that nobody reads a partial file.
fn replace(file: &Path, content: &str) {
    let draft = file.with_extension("draft");
    fs::write(&draft, content).expect("written");
    fs::set_permissions(&draft, Permissions::from_mode(0o600)).expect("changed");
    fs::rename(&draft, file).expect("replaced");
}

fn kid(access_token: &str) -> String {
    let header = access_token.split('.').next().expect("a header");
    let header: Value = serde_json::from_slice(&BASE64.decode(header).expect("base64url")).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotation_is_applied_without_failing_a_call() {
    let database = TestDatabase::sqlite();
    let file = database.folder().join("rotated.json");
    let (old, new) = (key("old"), key("new"));
    replace(&file, &json!({"keys": [old]}).to_string());
    let server = Server::start_with(database, &["--key-file", file.to_str().expect("UTF-8")]).await;
    let first = server.sign_up_and_login("ann@example.com").await.access_token;
    // Another user logs in repeatedly, because too many logins end the oldest sessions of their user.
    server.sign_up("bob@example.com").await.expect("signed up");
    assert_eq!(kid(&first), "old");

    // The new key signs, the old one still verifies.
    replace(&file, &json!({"keys": [new, old]}).to_string());
    let signed_with_new_key = async {
        loop {
            server.get_me(&first).await.expect("the old token is valid");
            let token = server.login("bob@example.com", PASSWORD).await.expect("logged in").access_token;
            server.get_me(&token).await.expect("the new token is valid");
            if kid(&token) == "new" {
                return token;
            }
        }
    };
    let second = timeout(RELOAD_TIMEOUT, signed_with_new_key).await.expect("the new key signs");

    // The old key is removed.
    replace(&file, &json!({"keys": [new]}).to_string());
    assert_refused!(Err::<(), _>(server.await_refusal(&first).await), Unauthenticated, "TOKEN_INVALID");
    server.get_me(&second).await.expect("the new token is valid");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_key_file_leaves_the_previous_keys_in_use() {
    let database = TestDatabase::sqlite();
    let file = database.key_file();
    let server = Server::start(database).await;
    let token = server.sign_up_and_login("ann@example.com").await.access_token;
    replace(&file, r#"{"keys":[]}"#);
    let start = Instant::now();
    // Twice the interval at which the server reads the file.
    while start.elapsed() < Duration::from_secs(4) {
        server.get_me(&token).await.expect("the token is valid");
    }
    server.stop().await;
}
