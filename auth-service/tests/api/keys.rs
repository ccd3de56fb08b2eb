//! The key file is followed while the server runs.

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

/// What is promised is 5 s; a busy machine may take longer, and that is not this test's question.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(kid: &str) -> Value {
    json!({"kty": "oct", "kid": kid, "k": BASE64.encode(random::bytes::<32>())})
}

/// Replaces a file in one step, so that nobody ever reads half of it.
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
async fn a_rotation_of_keys_is_picked_up_and_fails_no_call() {
    let database = TestDatabase::sqlite();
    let file = database.folder().join("rotated.json");
    let (old, new) = (key("old"), key("new"));
    replace(&file, &json!({"keys": [old]}).to_string());
    let server = Server::start_with(database, &["--key-file", file.to_str().expect("UTF-8")]).await;
    let first = server.person("ann@example.com").await.access_token;
    // Somebody else logs in again and again; the oldest of too many sessions end.
    server.sign_up("bob@example.com").await.expect("signed up");
    assert_eq!(kid(&first), "old");

    // The new key signs, the old one still verifies.
    replace(&file, &json!({"keys": [new, old]}).to_string());
    let signed_anew = async {
        loop {
            server.me(&first).await.expect("the old token is good");
            let token = server.login("bob@example.com", PASSWORD).await.expect("logged in").access_token;
            server.me(&token).await.expect("the new token is good");
            if kid(&token) == "new" {
                return token;
            }
        }
    };
    let second = timeout(PATIENCE, signed_anew).await.expect("the new key signs");

    // The old key goes.
    replace(&file, &json!({"keys": [new]}).to_string());
    assert_refused!(Err::<(), _>(server.refused(&first).await), Unauthenticated, "TOKEN_INVALID");
    server.me(&second).await.expect("the new token is good");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_has_gone_bad_leaves_the_last_good_keys_in_force() {
    let database = TestDatabase::sqlite();
    let file = database.key_file();
    let server = Server::start(database).await;
    let token = server.person("ann@example.com").await.access_token;
    replace(&file, r#"{"keys":[]}"#);
    let begun = Instant::now();
    // Twice as long as it takes to look at the file.
    while begun.elapsed() < Duration::from_secs(4) {
        server.me(&token).await.expect("the token is good");
    }
    server.stop().await;
}
