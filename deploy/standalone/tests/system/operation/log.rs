//! The log: its fields, and what it contains by default.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use service_kit::testing::TestDatabase;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    end_to_end::processes::Taskey,
    faults::{
        programs::command,
        users::{create, list, log_in, sign_up, sign_up_and_log_in},
    },
    process::{Process, wait_for_health},
    services::{create_service_account, exchange},
};

const MANUAL: &str = include_str!("../../../../README.md");

const CALLS: usize = 20;

/// The crates of Taskey, whose lines the manual documents.
const CRATES: [&str; 5] = ["auth_service", "gateway", "service_kit", "task_service", "taskey"];

/// The access log of services and of the gateway.
const ACCESS_LOG: [&str; 2] = ["--log", "info,service_kit::server::call=debug,gateway::service=debug"];

/// Starts `taskey` with a log, and waits until it serves.
async fn start(database: &TestDatabase, flags: &[&str]) -> (Process, PathBuf) {
    let log = database.folder().join("log");
    let mut command = command("taskey", database, &["--log-format", "json", "--rate-limits", "off"]);
    command.args(flags).stderr(File::create(&log).expect("the folder is writable"));
    let taskey = Process::spawn(&mut command, &["auth", "task", "gateway"]);
    wait_for_health(taskey.channel("gateway"), ServingStatus::Serving).await;
    (taskey, log)
}

/// Stops `taskey`, and returns the lines of the log that the crates of Taskey have written.
async fn stop(mut taskey: Process, log: &Path) -> Vec<Value> {
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
    read(log)
}

/// Makes calls, and returns the lines of the log that the crates of Taskey have written.
async fn log_of_calls(flags: &[&str]) -> Vec<Value> {
    let database = TestDatabase::sqlite();
    let (taskey, log) = start(&database, flags).await;
    let token = sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token;
    create(&taskey.channel("task"), &token, "a title").await.expect("created");
    for _ in 0..CALLS {
        list(&taskey.channel("gateway"), &token).await.expect("the tasks");
    }
    stop(taskey, &log).await
}

fn read(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).expect("UTF-8");
    assert!(!text.contains("ann@example.com") && !text.contains("a title"), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let is_own = |line: &Value| {
        let target = line["target"].as_str().expect("a target");
        CRATES.contains(&target.split("::").next().unwrap_or_default())
    };
    lines.filter(is_own).collect()
}

/// Returns the names of the fields of a line. Those of its span begin with `span.`.
fn fields(line: &Value) -> Vec<String> {
    let line = line.as_object().expect("an object");
    let span = line.get("span").and_then(Value::as_object).into_iter().flatten();
    let own = line.keys().filter(|name| *name != "span").cloned();
    own.chain(span.map(|(name, _)| format!("span.{name}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_has_no_line_for_each_call_by_default() {
    let lines = log_of_calls(&[]).await;
    assert!(lines.len() < CALLS, "{lines:#?}");
    assert!(lines.iter().any(|line| line["message"] == "signed up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_log_has_a_line_for_each_call() {
    let lines = log_of_calls(&ACCESS_LOG).await;
    let completed = lines.iter().filter(|line| line["message"] == "call completed");
    let lists = completed.filter(|line| line["span"]["rpc"] == "/taskey.task.v1.TaskService/ListTasks");
    let (service, gateway): (Vec<_>, Vec<_>) = lists.partition(|line| line["span"]["name"] == "call");
    assert_eq!((service.len(), gateway.len()), (CALLS, CALLS));
    for line in service.iter().chain(&gateway) {
        assert_eq!(line["http"], 200, "{line}");
        assert!(line["elapsed_us"].is_u64() && line["span"]["request_id"].is_string(), "{line}");
    }
    assert!(service.iter().all(|line| line["code"] == "Ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_log_names_the_user_and_the_service_that_acts_for_the_user() {
    let database = TestDatabase::sqlite();
    let (taskey, log) = start(&database, &ACCESS_LOG).await;
    let (auth, task) = (taskey.channel("auth"), taskey.channel("task"));
    sign_up(&auth, "admin@example.com").await.expect("signed up");
    Taskey::grant_role(&database, "admin@example.com", "admin");
    let admin = log_in(&auth, "admin@example.com").await.expect("logged in").access_token;
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    let mut actors = Vec::new();
    let mut token = ann.access_token.clone();
    list(&task, &token).await.expect("the tasks");
    for _ in 0..2 {
        let service = create_service_account(&auth, &admin).await.expect("created");
        token = exchange(&auth, &service, &token, "tasks.read", "").await.expect("exchanged");
        list(&task, &token).await.expect("the tasks");
        actors.push(service.id);
    }
    let lines = stop(taskey, &log).await;
    let is_list = |line: &&Value| line["span"]["rpc"] == "/taskey.task.v1.TaskService/ListTasks";
    let lists = lines.iter().filter(|line| line["message"] == "call completed").filter(is_list);
    let named: Vec<_> = lists.map(|line| (&line["span"]["user_id"], &line["span"]["actor_id"])).collect();
    let user = json!(ann.user.expect("set").id);
    // Only the service that makes the call is named, and none if the user makes it.
    let expected = [(Value::Null, Value::Null), (user.clone(), json!(actors[0])), (user, json!(actors[1]))];
    assert_eq!(named, expected.each_ref().map(|(user, actor)| (user, actor)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_is_in_the_manual() {
    let lines = log_of_calls(&["--log", "debug"]).await;
    let section = MANUAL.split("\n## ").find(|section| section.starts_with("Logs")).expect("a section");
    let fields: BTreeSet<_> = lines.iter().flat_map(fields).collect();
    for field in fields {
        let is_history = field.ends_with("epoch") || field.ends_with("sequence");
        assert!(is_history || section.contains(&format!("`{field}`")), "{field}");
    }
}
