//! With an invalid setting, file or database, the program prints one line, fails and changes nothing.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use service_kit::{
    auth::rotation::{self, NewKey},
    testing::folder,
};

/// Runs the program in a folder until it exits.
fn run_program(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .current_dir(folder)
        .env_clear()
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Returns the files of a folder, each with a hash of its content.
fn hash_files(folder: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let hash = |path: &Path| {
        let mut hasher = DefaultHasher::new();
        fs::read(path).expect("a file").hash(&mut hasher);
        hasher.finish()
    };
    let mut files: Vec<_> = entries
        .map(|path| (path.display().to_string(), hash(&path)))
        // SQLite uses these files while the database is open. They are not content.
        .filter(|(name, _)| !name.ends_with("-shm") && !name.ends_with("-wal"))
        .collect();
    files.sort();
    files
}

/// Asserts that the program fails with one line that contains `expected`, and leaves the folder unchanged.
#[track_caller]
fn assert_refuses(folder: &Path, arguments: &[&str], expected: &str) {
    let before = hash_files(folder);
    let output = run_program(folder, arguments);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{arguments:?}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("error: ") && errors.contains(expected), "{errors}");
    assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), "");
    assert_eq!(hash_files(folder), before);
}

const SERVE: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn an_invalid_setting_is_refused() {
    let folder = folder();
    let assert_refuses = |arguments: &[&str], expected: &str| assert_refuses(folder.path(), arguments, expected);
    assert_refuses(&["--no-such-setting"], "--no-such-setting");
    assert_refuses(&["--listen", "localhost"], "--listen");
    assert_refuses(&["--access-token-ttl", "16m"], "at most 15m");
    assert_refuses(&["--access-token-ttl", "0s"], "at least 1s");
    assert_refuses(&["--refresh-grace", "soon"], "--refresh-grace");
    assert_refuses(&["--database-url", "mysql://host/db"], "--database-url");
    assert_refuses(&["--database-url", "sqlite::memory:"], "--database-url");
    assert_refuses(&["--password-min-length", "7"], "--password-min-length");
    assert_refuses(&["--password-memory-kib", "7"], "--password-memory-kib");
    assert_refuses(&["--rate-limits", "maybe"], "--rate-limits");
    assert_refuses(&["keys", "generate", "--alg", "none", "--out", "keys.json"], "--alg");
}

#[test]
fn a_key_file_that_is_invalid_or_readable_by_others_is_refused() {
    let folder = folder();
    let keys = folder.path().join("keys.json");
    assert_refuses(folder.path(), &SERVE, "cannot read keys.json");
    let key = |k: &str| format!(r#"{{"keys":[{{"kty":"oct","kid":"a","k":"{k}"}}]}}"#);
    let valid = "A".repeat(43);
    for (content, expected) in [
        (String::new(), "not a JWK Set"),
        ("not JSON".to_owned(), "not a JWK Set"),
        (r#"{"keys":[]}"#.to_owned(), "contains no key"),
        (key("c2hvcnQ"), "at least 32 bytes"),
        (key("!"), "not base64url"),
        (key(&valid).replace("oct", "RSA"), "kty"),
        (key(&valid).replace(r#""kid":"a""#, r#""kid":"""#), "kid"),
        (key(&valid).replace(r#""kid":"a""#, r#""kid":"a","alg":"HS512""#), "alg"),
        (
            key(&valid)
                .replace("}]", r#"},{"kty":"oct","kid":"a","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]"#),
            "same kid",
        ),
    ] {
        fs::write(&keys, content).expect("written");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("changed");
        assert_refuses(folder.path(), &SERVE, expected);
    }
    fs::write(&keys, key(&valid)).expect("written");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o660)).expect("changed");
    assert_refuses(folder.path(), &SERVE, "mode 0660");
}

#[test]
fn a_secret_file_that_is_invalid_or_readable_by_others_is_refused() {
    let folder = folder();
    rotation::generate(NewKey::Hs256, &folder.path().join("keys.json")).expect("a key file");
    let secret = folder.path().join("refresh.secret");
    fs::write(&secret, "short").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("changed");
    assert_refuses(folder.path(), &SERVE, "32 bytes");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("changed");
    assert_refuses(folder.path(), &SERVE, "mode 0644");
}

#[test]
fn a_damaged_database_is_refused() {
    let folder = folder();
    rotation::generate(NewKey::Hs256, &folder.path().join("keys.json")).expect("a key file");
    fs::write(
        folder.path().join("auth.db"),
        "this is no database, but it is long enough to be read as one ".repeat(99),
    )
    .expect("written");
    assert_refuses(folder.path(), &SERVE, "auth.db");
}

#[tokio::test]
async fn a_database_newer_than_the_program_is_refused() {
    use sqlx::{
        ConnectOptions, Connection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    };
    let folder = folder();
    rotation::generate(NewKey::Hs256, &folder.path().join("keys.json")).expect("a key file");
    let file = folder.path().join("auth.db");
    let connection =
        SqliteConnectOptions::new().filename(&file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let mut connection = connection.connect().await.expect("a database");
    sqlx::migrate!().run(&mut connection).await.expect("migrated");
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (9999, 'from the future', true, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.expect("inserted");
    connection.close().await.expect("closed");
    assert_refuses(folder.path(), &SERVE, "newer (version 9999) than this program");
}

#[test]
fn the_password_in_a_database_url_is_not_shown() {
    let folder = folder();
    let url = "postgres://me:hunter2@host:port/db";
    assert_refuses(folder.path(), &["--database-url", url], "--database-url");
    for arguments in [&["--database-url", url][..], &["--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .current_dir(folder.path())
            .env("TASKEY_DATABASE_URL", url)
            .args(arguments)
            .output()
            .expect("the program runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn plaintext_is_refused_outside_of_loopback() {
    let folder = folder();
    rotation::generate(NewKey::Hs256, &folder.path().join("keys.json")).expect("a key file");
    assert_refuses(folder.path(), &["--listen", "0.0.0.0:0"], "--insecure-plaintext");
}

#[test]
fn a_key_file_is_never_overwritten() {
    let folder = folder();
    let generate = ["keys", "generate", "--alg", "HS256", "--out", "keys.json"];
    assert!(run_program(folder.path(), &generate).status.success());
    let mode = fs::metadata(folder.path().join("keys.json")).expect("created").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_refuses(folder.path(), &generate, "was not changed");
}

#[test]
fn public_keys_contain_no_secret() {
    let folder = folder();
    for (alg, count) in [("HS256", 0), ("EdDSA", 1)] {
        let file = format!("{alg}.json");
        assert!(run_program(folder.path(), &["keys", "generate", "--alg", alg, "--out", &file]).status.success());
        let output = run_program(folder.path(), &["keys", "public", "--key-file", &file]);
        let set: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let keys = set["keys"].as_array().expect("a JWK Set");
        assert_eq!(keys.len(), count);
        assert!(keys.iter().all(|key| key.get("d").is_none() && key.get("k").is_none()));
    }
}
