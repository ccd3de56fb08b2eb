//! The server does not start with secrets that differ from those its database was used with.

use std::{fs, path::Path};

use service_kit::{
    auth::rotation::{self, NewKey},
    on_each_database,
    testing::TestDatabase,
};

use crate::support::{PASSWORD, Server, run_program};

on_each_database! {
    a_different_refresh_secret_is_refused_until_it_is_adopted,
    a_missing_refresh_secret_is_not_replaced_silently,
    a_key_file_without_a_recorded_key_is_refused_until_it_is_adopted,
    keys_can_be_rotated_one_by_one,
}

/// Returns the flags for a key file and a secret file in the folder of the database.
fn secrets(database: &TestDatabase, key_file: &str, secret_file: &str) -> [String; 4] {
    let path = |name: &str| database.folder().join(name).display().to_string();
    ["--key-file".to_owned(), path(key_file), "--secret-file".to_owned(), path(secret_file)]
}

/// Starts a server with these secrets, uses it, and stops it.
async fn serve(database: TestDatabase, secrets: &[String; 4]) -> TestDatabase {
    let server = Server::start_with(database, &secrets.each_ref().map(String::as_str)).await;
    let email = format!("{}@example.com", server.clock.new_id());
    server.sign_up(&email).await.expect("signed up");
    server.login(&email, PASSWORD).await.expect("logged in");
    server.stop().await
}

/// Asserts that a server with these secrets fails to start, and returns its error.
fn start_error(database: &TestDatabase, secrets: &[String; 4]) -> String {
    let secrets = secrets.each_ref().map(String::as_str);
    let (succeeded, output, error) = run_program(database, &[&["--listen", "127.0.0.1:0"][..], &secrets].concat());
    assert!(!succeeded && output.is_empty(), "{output}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn adopt(database: &TestDatabase, secrets: &[String; 4]) {
    let secrets = secrets.each_ref().map(String::as_str);
    let (succeeded, _, error) = run_program(database, &[&["keys", "adopt"][..], &secrets].concat());
    assert!(succeeded, "{error}");
}

fn generate(database: &TestDatabase, file: &str) {
    rotation::generate(NewKey::Hs256, &database.folder().join(file)).expect("generated");
}

async fn a_different_refresh_secret_is_refused_until_it_is_adopted(database: TestDatabase) {
    generate(&database, "keys.json");
    let (own, other) = (secrets(&database, "keys.json", "own"), secrets(&database, "keys.json", "other"));
    let database = serve(database, &own).await;
    service_kit::ops::secret_file::create_key(Path::new(&other[3])).expect("created");
    let error = start_error(&database, &other);
    assert!(error.contains("does not contain the refresh secret") && error.contains("keys adopt"), "{error}");
    let database = serve(database, &own).await;
    adopt(&database, &other);
    assert!(start_error(&database, &own).contains("does not contain the refresh secret"));
    serve(database, &other).await;
}

async fn a_missing_refresh_secret_is_not_replaced_silently(database: TestDatabase) {
    generate(&database, "keys.json");
    let own = secrets(&database, "keys.json", "own");
    let database = serve(database, &own).await;
    fs::remove_file(&own[3]).expect("removed");
    let error = start_error(&database, &own);
    assert!(error.contains("is missing") && error.contains("keys adopt"), "{error}");
    assert!(!Path::new(&own[3]).exists());
    adopt(&database, &own);
    serve(database, &own).await;
}

async fn a_key_file_without_a_recorded_key_is_refused_until_it_is_adopted(database: TestDatabase) {
    generate(&database, "own.json");
    generate(&database, "other.json");
    let (own, other) = (secrets(&database, "own.json", "secret"), secrets(&database, "other.json", "secret"));
    let database = serve(database, &own).await;
    let error = start_error(&database, &other);
    assert!(error.contains("none of the keys") && error.contains("keys adopt"), "{error}");
    let database = serve(database, &own).await;
    adopt(&database, &other);
    serve(database, &other).await;
}

async fn keys_can_be_rotated_one_by_one(database: TestDatabase) {
    let key_set = |names: &[&str]| {
        let keys: Vec<_> = names.iter().map(|name| fs::read_to_string(name).expect("readable")).collect();
        let parsed = keys.iter().map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
        let keys: Vec<_> = parsed.map(|set| set["keys"][0].clone()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    };
    for file in ["first.json", "second.json", "third.json"] {
        generate(&database, file);
    }
    let path = |name: &str| database.folder().join(name).display().to_string();
    let [first, second, third] = ["first.json", "second.json", "third.json"].map(path);
    let current = secrets(&database, "keys.json", "secret");
    let mut database = database;
    for step in [vec![&first], vec![&second, &first], vec![&second], vec![&third, &second], vec![&third]] {
        let step: Vec<&str> = step.into_iter().map(String::as_str).collect();
        _ = fs::remove_file(&current[1]);
        service_kit::ops::secret_file::create(Path::new(&current[1]), &key_set(&step)).expect("written");
        database = serve(database, &current).await;
    }
    // A replica that missed the whole rotation does not start with the first key.
    let outdated = secrets(&database, "first.json", "secret");
    assert!(start_error(&database, &outdated).contains("none of the keys"));
}
