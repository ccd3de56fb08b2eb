//! The command `doctor`.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use service_kit::{on_each_database, testing::TestDatabase};

use crate::support::{Server, execute, run_program};

on_each_database! {
    doctor_finds_nothing_wrong_while_the_server_runs,
}

/// Runs `doctor --json`. Returns the status of each check, and whether the program succeeded.
fn diagnose(database: &TestDatabase) -> (bool, Vec<(String, String)>) {
    let keys = database.key_file().display().to_string();
    let (succeeded, report, _) = run_program(database, &["doctor", "--json", "--key-file", &keys]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let checks = report["checks"].as_array().expect("an array").iter();
    (succeeded, checks.map(|check| (text(&check["name"]), text(&check["status"]))).collect())
}

async fn doctor_finds_nothing_wrong_while_the_server_runs(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up_and_login("ann@example.com").await;
    let (succeeded, checks) = diagnose(&server.database);
    assert!(succeeded, "{checks:?}");
    let names: Vec<_> = checks.iter().map(|(name, _)| &name[..]).filter(|name| *name != "clock").collect();
    assert_eq!(names, ["database", "integrity", "key file", "refresh secret"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_a_damaged_page() {
    let server = Server::start(TestDatabase::sqlite()).await;
    server.sign_up_and_login("ann@example.com").await;
    let database = server.stop().await;
    execute(&database, "create table padding (text text)").await;
    for _ in 0..50 {
        execute(&database, "insert into padding values (hex(zeroblob(2000)))").await;
    }
    let path = database.url().trim_start_matches("sqlite:").to_owned();
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("the file exists");
    let length = file.metadata().expect("a file").len();
    file.write_all_at(&[0xff; 4096], length - 3 * 4096).expect("the file is writable");
    let (succeeded, checks) = diagnose(&database);
    let failed: Vec<_> = checks.iter().filter(|(_, status)| status == "failed").map(|(name, _)| &name[..]).collect();
    assert_eq!((succeeded, &failed[..]), (false, &["integrity"][..]), "{checks:?}");
    // The server starts nevertheless: the duration of a start does not depend on the size of the file.
    Server::start(database).await.stop().await;
}
