//! Start-up errors: with an invalid setting, file or database the program prints one line, exits and changes no file.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use service_kit::{
    auth::rotation::{self, NewKey},
    testing::folder,
};

/// Runs the program in a folder until it exits.
fn task_service(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_task-service"))
        .current_dir(folder)
        .env_clear()
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Asserts that the program fails with a one-line error that contains `expected`, and creates no file.
#[track_caller]
fn assert_start_fails(folder: &Path, arguments: &[&str], expected: &str) {
    let count = || fs::read_dir(folder).expect("a folder").count();
    let before = count();
    let output = task_service(folder, arguments);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{arguments:?}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("error: ") && errors.contains(expected), "{errors}");
    assert_eq!((String::from_utf8(output.stdout).expect("UTF-8"), count()), (String::new(), before));
}

#[test]
fn invalid_setting_is_refused() {
    let folder = folder();
    for (flag, value) in [
        ("--auth-url", "auth:50051"),
        ("--database-url", "mysql://db"),
        ("--database-url", "sqlite:"),
        ("--revocation-max-staleness", "soon"),
        ("--purge-after", "never"),
        ("--rate-limits", "maybe"),
        ("--max-response-bytes", "many"),
        ("--nonsense", "1"),
    ] {
        assert_start_fails(folder.path(), &[flag, value], flag);
    }
}

#[test]
fn missing_or_invalid_key_file_is_refused() {
    let folder = folder();
    assert_start_fails(folder.path(), &["--key-file", "none.json"], "none.json");
    fs::write(folder.path().join("open.json"), "{}").expect("a file");
    assert_start_fails(folder.path(), &["--key-file", "open.json"], "open.json");
}

#[test]
fn file_that_is_not_a_database_is_refused_and_not_changed() {
    let folder = folder();
    rotation::generate(NewKey::Hs256, &folder.path().join("keys.json")).expect("a key file");
    let file = folder.path().join("task.db");
    fs::write(&file, "not a database").expect("a file");
    assert_start_fails(folder.path(), &["--key-file", "keys.json"], "task.db");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "not a database");
}

#[test]
fn plaintext_on_a_public_address_is_refused() {
    let folder = folder();
    rotation::generate(NewKey::Hs256, &folder.path().join("keys.json")).expect("a key file");
    let output = Command::new(env!("CARGO_BIN_EXE_task-service"))
        .current_dir(folder.path())
        .env_clear()
        .args(["--listen", "0.0.0.0:0", "--key-file", "keys.json"])
        .output()
        .expect("the program runs");
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).expect("UTF-8").contains("--insecure-plaintext"));
}

#[test]
fn help_does_not_show_the_database_password() {
    let output = Command::new(env!("CARGO_BIN_EXE_task-service"))
        .env("TASKEY_DATABASE_URL", "postgres://user:topsecret@db/task")
        .arg("--help")
        .output()
        .expect("the program runs");
    assert!(output.status.success());
    assert!(!String::from_utf8(output.stdout).expect("UTF-8").contains("topsecret"));
}
