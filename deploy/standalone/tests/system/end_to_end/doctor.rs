//! The command `doctor` of each program.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;
use service_kit::{
    ops::secret_file::{self, Key},
    testing::{
        TestDatabase,
        certificates::{Authority, Validity},
        folder,
    },
};
use taskey_proto::task::v1::{CreateWebhookRequest, Webhook, webhook_service_client::WebhookServiceClient};

use super::processes::{Process, Taskey, program};
use crate::{process::bearer, shim::Shim};

/// Runs `doctor --json` of a program. Returns its findings, and whether it has succeeded.
fn diagnose(name: &str, flags: &[String], environment: &[(String, String)]) -> (Vec<Value>, bool) {
    let mut command = Command::new(program(name));
    command.arg("doctor").arg("--json").args(flags).envs(environment.iter().map(|(name, value)| (name, value)));
    let Output { stdout, status, .. } = command.output().expect("the program runs");
    let mut report: Value = serde_json::from_slice(&stdout).expect("JSON");
    (report["findings"].take().as_array().expect("an array").clone(), status.success())
}

/// Returns the names of the findings at a level.
fn names<'a>(findings: &'a [Value], level: &str) -> Vec<&'a str> {
    let at_level = findings.iter().filter(|finding| finding["level"] == level);
    at_level.map(|finding| finding["name"].as_str().expect("a string")).collect()
}

/// Returns the flags of the programs for a database and its key file.
fn flags(database: &TestDatabase) -> Vec<String> {
    let key_file = database.key_file().display().to_string();
    ["--key-file", &key_file, "--database-url", database.url()].map(str::to_owned).to_vec()
}

/// Starts auth-service. Returns it with the flag of its URL.
fn start_auth(database: &TestDatabase, environment: &[(String, String)]) -> (Process, [String; 2]) {
    let mut command = Command::new(program("auth-service"));
    command.args(flags(database)).args(["--listen", "127.0.0.1:0", "--log", "warn"]);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let process = Process::spawn(&mut command, &["auth"]);
    let url = format!("http://{}", process.address("auth"));
    (process, ["--auth-url".to_owned(), url])
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_checks_both_services_while_the_program_runs() {
    let database = TestDatabase::sqlite();
    let _taskey = Taskey::start(&database).await;
    let data = database.folder().join("data").display().to_string();
    let (findings, succeeded) = diagnose("taskey", &["--data-dir".to_owned(), data], &[]);
    assert!(succeeded && names(&findings, "failed").is_empty(), "{findings:#?}");
    let names = names(&findings, "ok");
    for name in [
        "auth.database",
        "auth.integrity",
        "auth.refresh_secret",
        "task.database",
        "task.integrity",
        "task.webhook_key",
    ] {
        assert!(names.contains(&name), "{name}: {findings:#?}");
    }
    for name in ["auth.listener", "gateway.listener", "trusted_proxies", "key_file", "key_age", "data_dir"] {
        assert!(names.contains(&name), "{name}: {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_unneeded_keys_of_webhooks_are_reported() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_with(&database, &["--webhook-allow", "127.0.0.1"]).await;
    let ann = taskey.sign_up_and_log_in("ann@example.com").await;
    let webhook = Some(Webhook { url: "http://127.0.0.1:9/".to_owned(), ..Webhook::default() });
    let request = bearer(&ann.access_token, CreateWebhookRequest { webhook, ..CreateWebhookRequest::default() });
    WebhookServiceClient::new(taskey.channel("task")).create_webhook(request).await.expect("created");
    let data = database.folder().join("data");
    let file = data.join("webhook.key");
    let key = fs::read_to_string(&file).expect("the key was created at the start");
    let other = Key::random().encode().to_string();
    for (content, level) in [(format!("{key}\n{other}"), "warning"), (other, "failed"), (key, "ok")] {
        // Nobody may read a part of it.
        let new = data.join("new");
        secret_file::create(&new, &content).expect("written");
        fs::rename(new, &file).expect("replaced");
        let (findings, _) = diagnose("taskey", &["--data-dir".to_owned(), data.display().to_string()], &[]);
        assert!(names(&findings, level).contains(&"task.webhook_key"), "{level}: {findings:#?}");
    }
}

#[test]
fn doctor_before_the_first_start_finds_nothing_wrong_and_creates_nothing() {
    let folder = folder();
    let data = folder.path().join("data");
    let (findings, succeeded) = diagnose("taskey", &["--data-dir".to_owned(), data.display().to_string()], &[]);
    assert!(succeeded && names(&findings, "failed").is_empty() && !data.exists(), "{findings:#?}");
}

#[test]
fn unreachable_auth_service_is_reported() {
    let database = TestDatabase::sqlite();
    let (auth, url) = start_auth(&database, &[]);
    let task_database = TestDatabase::sqlite();
    let key_file = database.key_file().display().to_string();
    let flags = ["--key-file", &key_file, "--database-url", task_database.url()].map(str::to_owned);
    let flags = [&flags[..], &url].concat();
    let (findings, succeeded) = diagnose("task-service", &flags, &[]);
    assert!(succeeded && names(&findings, "ok").contains(&"feed"), "{findings:#?}");
    auth.kill();
    let (findings, succeeded) = diagnose("task-service", &flags, &[]);
    assert_eq!((names(&findings, "failed"), succeeded), (vec!["feed"], false), "{findings:#?}");
    let feed = findings.iter().find(|finding| finding["name"] == "feed").expect("checked");
    assert!(feed["message"].as_str().is_some_and(|message| message.contains(&url[1])), "{feed}");
    assert!(feed["fix"].as_str().is_some_and(|fix| fix.starts_with("start auth-service at")), "{feed}");
}

#[test]
fn credential_that_auth_service_refuses_is_reported() {
    let (database, other) = (TestDatabase::sqlite(), TestDatabase::sqlite());
    let (_auth, url) = start_auth(&database, &[]);
    let (findings, succeeded) = diagnose("task-service", &[&flags(&other)[..], &url].concat(), &[]);
    assert_eq!((names(&findings, "failed"), succeeded), (vec!["feed"], false), "{findings:#?}");
    let feed = findings.iter().find(|finding| finding["name"] == "feed").expect("checked");
    assert!(feed["fix"].as_str().is_some_and(|fix| fix.contains("--service-token-file")), "{feed}");
}

#[test]
fn wrong_clock_of_auth_service_is_reported() {
    let (database, other, shim) = (TestDatabase::sqlite(), TestDatabase::sqlite(), Shim::new());
    let (_auth, url) = start_auth(&database, &shim.environment());
    let key_file = database.key_file().display().to_string();
    let flags = ["--key-file", &key_file, "--database-url", other.url()].map(str::to_owned);
    let flags = [&flags[..], &url].concat();
    for (seconds, failed) in [(0, &[][..]), (60, &["feed"]), (-60, &["feed"])] {
        shim.step_clock(seconds);
        let (findings, _) = diagnose("task-service", &flags, &[]);
        assert_eq!(names(&findings, "failed"), failed, "{seconds} s: {findings:#?}");
    }
}

#[tokio::test]
async fn clock_that_differs_from_the_database_is_reported() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let shim = Shim::new();
    for (seconds, failed) in [(0, &[][..]), (60, &["clock"])] {
        shim.step_clock(seconds);
        let (findings, _) = diagnose("auth-service", &flags(&database), &shim.environment());
        assert_eq!(names(&findings, "failed"), failed, "{seconds} s: {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_does_not_serve_is_reported_by_the_gateway() {
    let database = TestDatabase::sqlite();
    let mut taskey = Taskey::start_separately(&database).await;
    let url = |taskey: &Taskey, name: &str| format!("http://{}", taskey.process(name).address(name));
    let flags = ["--auth-url".to_owned(), url(&taskey, "auth"), "--task-url".to_owned(), url(&taskey, "task")];
    let (findings, succeeded) = diagnose("gateway", &flags, &[]);
    assert!(succeeded && names(&findings, "failed").is_empty(), "{findings:#?}");
    // Without a service token, all clients share the limits of the gateway's address.
    assert_eq!(names(&findings, "warning"), ["credential"], "{findings:#?}");
    taskey
        .without("task", async |_| {
            let (findings, succeeded) = diagnose("gateway", &flags, &[]);
            assert_eq!((names(&findings, "failed"), succeeded), (vec!["task_service"], false), "{findings:#?}");
        })
        .await;
}

#[test]
fn expired_certificate_for_other_services_is_reported_by_the_gateway() {
    let (folder, authority) = (folder(), Authority::new("authority"));
    let ca = authority.write(folder.path(), "ca");
    for (validity, level) in [(Validity::Current, "ok"), (Validity::Expired, "failed")] {
        let [certificate, key] = authority.issue_for(&["gateway"], validity).write(folder.path(), "gateway");
        let files =
            [("--upstream-ca-file", &ca), ("--upstream-cert-file", &certificate), ("--upstream-key-file", &key)];
        let flags: Vec<_> = files.iter().map(|(flag, path)| format!("{flag}={}", path.display())).collect();
        let (findings, _) = diagnose("gateway", &flags, &[]);
        assert!(names(&findings, level).contains(&"upstream_tls_expiry"), "{findings:#?}");
        assert!(names(&findings, "ok").contains(&"upstream_tls"), "{findings:#?}");
        assert!(names(&findings, "ok").contains(&"upstream_tls_authorities"), "{findings:#?}");
    }
}
