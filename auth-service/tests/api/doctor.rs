//! The command `doctor`.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use service_kit::{
    clock::{Clock, Timestamp},
    on_each_database,
    testing::{
        TestDatabase,
        certificates::{Authority, Issued, Validity, replace},
    },
};

use crate::{
    migrations::open,
    support::{Server, execute, run_program},
};

on_each_database! {
    doctor_finds_nothing_wrong_while_the_server_runs,
    missing_migration_is_reported_with_the_command_that_applies_it,
}

/// The report of `doctor --json`.
pub struct Report {
    pub succeeded: bool,
    findings: Vec<serde_json::Value>,
}

impl Report {
    /// Returns the level, the message and the fix of a finding.
    pub fn finding(&self, name: &str) -> [&str; 3] {
        let finding = self.findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("{name} was not checked: {:#?}", self.findings));
        ["level", "message", "fix"].map(|key| finding[key].as_str().unwrap_or_default())
    }

    /// Returns the names of the findings at a level.
    fn names(&self, level: &str) -> Vec<&str> {
        let at_level = self.findings.iter().filter(|finding| finding["level"] == level);
        at_level.map(|finding| finding["name"].as_str().expect("a string")).collect()
    }
}

/// Runs `doctor --json` with these flags.
pub fn diagnose(database: &TestDatabase, flags: &[&str]) -> Report {
    let keys = database.key_file().display().to_string();
    let (succeeded, report, _) = run_program(database, &[&["doctor", "--json", "--key-file", &keys], flags].concat());
    let mut report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let findings = report["findings"].take();
    Report { succeeded, findings: findings.as_array().expect("an array").clone() }
}

/// Runs `doctor` with a certificate and a key, and returns the report.
fn diagnose_certificate(database: &TestDatabase, [certificate, key]: [&Path; 2]) -> Report {
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    diagnose(database, &["--tls-cert-file", &certificate, "--tls-key-file", &key])
}

fn days_ago(days: u64) -> Timestamp {
    Clock::system().now() - Duration::from_secs(days * 86_400)
}

async fn doctor_finds_nothing_wrong_while_the_server_runs(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up_and_login("ann@example.com").await;
    let report = diagnose(&server.database, &[]);
    assert!(report.succeeded && report.names("failed").is_empty(), "{:#?}", report.findings);
    for name in ["listener", "trusted_proxies", "sessions", "passwords", "rate_limits", "database", "integrity"] {
        assert_eq!(report.finding(name)[0], "ok", "{name}");
    }
    for name in ["key_file", "key_age", "refresh_secret", "mail"] {
        assert_eq!(report.finding(name)[0], "ok", "{name}");
    }
    server.stop().await;
}

async fn missing_migration_is_reported_with_the_command_that_applies_it(database: TestDatabase) {
    open(&database, 12).await.close().await;
    let report = diagnose(&database, &[]);
    let [level, message, fix] = report.finding("database");
    assert_eq!((level, fix, report.succeeded), ("warning", "auth-service migrate", true));
    let missing = sqlx::migrate!().iter().filter(|migration| migration.version > 12).count();
    assert!(message.contains(&format!("lack: {missing}, beginning with 0013")), "{message}");
    // This server would not start.
    let report = diagnose(&database, &["--migrate", "check"]);
    assert_eq!((report.finding("database")[0], report.succeeded), ("failed", false));
    run_program(&database, &["migrate"]);
    assert_eq!(diagnose(&database, &[]).finding("database")[0], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_page_is_reported() {
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
    let report = diagnose(&database, &[]);
    assert_eq!((report.succeeded, report.names("failed")), (false, vec!["integrity"]));
    // The server starts nevertheless: the duration of a start does not depend on the size of the file.
    Server::start(database).await.stop().await;
}

#[test]
fn key_file_that_others_can_read_is_reported_with_the_command_that_protects_it() {
    let database = TestDatabase::sqlite();
    fs::set_permissions(database.key_file(), Permissions::from_mode(0o644)).expect("changed");
    let report = diagnose(&database, &[]);
    let [level, message, fix] = report.finding("key_file");
    assert!(level == "failed" && message.contains("mode 0644") && !report.succeeded, "{message}");
    assert_eq!(fix, format!("chmod 600 {}", database.key_file().display()));
}

#[test]
fn database_file_that_others_can_read_is_a_warning() {
    let database = TestDatabase::sqlite();
    run_program(&database, &["migrate"]);
    assert_eq!(diagnose(&database, &[]).finding("database_file")[0], "ok");
    let path = database.url().trim_start_matches("sqlite:").to_owned();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("changed");
    let report = diagnose(&database, &[]);
    let [level, message, fix] = report.finding("database_file");
    assert!(level == "warning" && message.contains("mode 0644") && report.succeeded, "{message}");
    assert_eq!(fix, format!("chmod 600 {path}"));
}

#[test]
fn keys_older_than_a_year_are_due_for_a_rotation() {
    let database = TestDatabase::sqlite();
    let two_years_ago = u64::try_from(days_ago(730).as_seconds()).expect("after 1970");
    let file = File::open(database.key_file()).expect("the file exists");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(two_years_ago)).expect("changed");
    let report = diagnose(&database, &[]);
    let [level, message, fix] = report.finding("key_age");
    assert!(level == "warning" && message.contains("changed 730 days ago") && report.succeeded, "{message}");
    assert_eq!(fix, format!("auth-service keys rotate --key-file {}", database.key_file().display()));
}

#[test]
fn refresh_secret_that_no_session_needs_is_a_warning() {
    let database = TestDatabase::sqlite();
    let write = |days: u64| {
        let secret = |letter: &str| letter.repeat(42) + "A";
        let (current, earlier, time) = (secret("a"), secret("b"), days_ago(days).as_micros());
        let file =
            format!(r#"{{"secrets": [{{"secret": "{current}", "createTime": {time}}}, {{"secret": "{earlier}"}}]}}"#);
        replace(&database.key_file().with_file_name("refresh.secret"), &file, 0o600);
    };
    write(6);
    let report = diagnose(&database, &[]);
    let [level, message, _] = report.finding("refresh_secret");
    assert!(level == "ok" && message.ends_with("refresh.secret: 2; the current one is 6 days old"), "{message}");
    write(8);
    let report = diagnose(&database, &[]);
    let [level, _, fix] = report.finding("refresh_secret");
    assert!(level == "warning" && fix.starts_with("auth-service refresh-secret remove "), "{fix}");
}

#[test]
fn expired_certificate_is_reported() {
    let (database, authority) = (TestDatabase::sqlite(), Authority::new("authority"));
    let [certificate, key] = authority.issue_for(&["localhost"], Validity::Expired).write(database.folder(), "server");
    let report = diagnose_certificate(&database, [&certificate, &key]);
    let [level, message, fix] = report.finding("tls_expiry");
    assert!(
        level == "failed" && message.contains("server.crt expired at 2020-01-01") && !report.succeeded,
        "{message}"
    );
    assert!(fix.contains(&certificate.display().to_string()), "{fix}");
    assert_eq!(report.finding("tls")[0], "ok");
}

#[test]
fn certificate_that_is_not_valid_yet_is_reported() {
    let (database, authority) = (TestDatabase::sqlite(), Authority::new("authority"));
    let [certificate, key] = authority.issue_for(&["localhost"], Validity::Future).write(database.folder(), "server");
    let report = diagnose_certificate(&database, [&certificate, &key]);
    let [level, message, _] = report.finding("tls_expiry");
    assert!(level == "failed" && message.contains("is not valid before 4000-01-01"), "{message}");
}

#[test]
fn certificate_that_expires_soon_is_a_warning_and_then_a_failure() {
    let (database, authority) = (TestDatabase::sqlite(), Authority::new("authority"));
    for (days, expected) in [(15, "ok"), (10, "warning"), (2, "failed")] {
        let issued = authority.issue_for(&["localhost"], Validity::Days(days));
        let [certificate, key] = issued.write(database.folder(), "server");
        let report = diagnose_certificate(&database, [&certificate, &key]);
        assert_eq!(report.finding("tls_expiry")[0], expected, "{days} days");
    }
}

#[test]
fn key_of_another_certificate_is_reported() {
    let database = TestDatabase::sqlite();
    let [certificate, _] = Issued::self_signed(&["localhost"]).write(database.folder(), "server");
    let [_, key] = Issued::self_signed(&["localhost"]).write(database.folder(), "other");
    let report = diagnose_certificate(&database, [&certificate, &key]);
    let [level, message, fix] = report.finding("tls");
    assert!(level == "failed" && message.contains("has another key than") && !report.succeeded, "{message}");
    assert!(fix.contains("--tls-key-file"), "{fix}");
}

#[test]
fn certificate_of_another_issuer_in_the_chain_is_reported() {
    let (database, authority) = (TestDatabase::sqlite(), Authority::new("authority"));
    let issued = authority.issue(&["localhost"]);
    let [certificate, key] = issued.write(database.folder(), "server");
    replace(&certificate, &format!("{}{}", issued.certificate, authority.pem()), 0o644);
    assert_eq!(diagnose_certificate(&database, [&certificate, &key]).finding("tls")[0], "ok");
    replace(&certificate, &format!("{}{}", issued.certificate, Authority::new("other").pem()), 0o644);
    let report = diagnose_certificate(&database, [&certificate, &key]);
    let [level, message, _] = report.finding("tls");
    assert!(level == "failed" && message.contains("not a chain"), "{message}");
}

#[test]
fn risky_settings_are_warnings_and_contradictory_ones_failures() {
    let database = TestDatabase::sqlite();
    for (flags, name, level) in [
        (&["--listen", "0.0.0.0:1"][..], "listener", "failed"),
        (&["--listen", "0.0.0.0:1", "--insecure-plaintext"], "listener", "warning"),
        (&["--trusted-proxies", "0.0.0.0/0"], "trusted_proxies", "warning"),
        (&["--trusted-proxies", "10.0.0.0/8"], "trusted_proxies", "warning"),
        (&["--trusted-proxies", "127.0.0.1"], "trusted_proxies", "ok"),
        (&["--rate-limits", "off"], "rate_limits", "warning"),
        (&["--refresh-idle-ttl", "60d"], "sessions", "warning"),
        (&["--password-memory-kib", "1024"], "passwords", "warning"),
        (&["--password-min-length", "8"], "passwords", "warning"),
    ] {
        let report = diagnose(&database, flags);
        let [found, message, fix] = report.finding(name);
        assert_eq!((found, fix.is_empty()), (level, level == "ok"), "{flags:?}: {message}");
        assert_eq!(report.succeeded, level != "failed", "{flags:?}: {message}");
    }
}

#[test]
fn report_for_people_contains_the_fix_below_the_finding() {
    let database = TestDatabase::sqlite();
    let keys = database.key_file().display().to_string();
    let (_, report, error) = run_program(&database, &["doctor", "--key-file", &keys, "--listen", "0.0.0.0:1"]);
    let mut lines = report.lines();
    let failed = lines.find(|line| line.starts_with("failed   listener: ")).expect("a finding");
    assert!(failed.contains("0.0.0.0:1"), "{failed}");
    let fix = lines.next().expect("a fix");
    assert_eq!(fix, "         fix: --tls-cert-file and --tls-key-file, or --listen 127.0.0.1:1");
    assert!(error.starts_with("error: 1 of ") && error.ends_with(" checks failed\n"), "{error}");
}
