//! Certificates that are replaced while `taskey` is under load.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use service_kit::{
    testing::{
        TestDatabase,
        certificates::{Authority, Issued, Validity},
    },
    tls::Dialer,
};
use taskey_proto::task::v1::{
    CreateTaskRequest, ListTasksRequest, Task, WatchTasksRequest, WatchTasksResponse,
    task_service_client::TaskServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::health_check_response::ServingStatus;
use tower::Service;

use super::{Files, channel, command, is_accepted, sign_up_and_log_in};
use crate::{
    faults::report::report_value,
    process::{Process, bearer, wait_for_health},
};

type Watch = Streaming<WatchTasksResponse>;

const USERS: usize = 10;
const WATCHES_PER_USER: usize = 5;

/// 200 calls per second.
const CALL_INTERVAL: Duration = Duration::from_millis(5);

/// One call in so many is made on a connection of its own.
const CALLS_PER_NEW_CONNECTION: usize = 20;

/// A new certificate is served within 5 s. The rest is for a busy machine.
const RELOAD_LIMIT: Duration = Duration::from_secs(6);

/// How long a watch may take to report a change.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);

const LAST_TITLE: &str = "The last one";

/// The calls of a test, and the errors of those that failed.
#[derive(Default)]
struct Calls {
    made: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Calls {
    fn record<T>(&self, outcome: Result<T, tonic::Status>) {
        self.made.fetch_add(1, Ordering::Relaxed);
        if let Err(status) = outcome {
            self.errors.lock().expect("not poisoned").push(format!("{status:?}"));
        }
    }
}

/// A client that makes calls at a constant rate until it is stopped.
struct Load {
    calls: Arc<Calls>,
    /// Opens its new connections.
    dialer: Arc<Mutex<Dialer>>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(dialer: Dialer, taskey: &Process, token: String) -> Self {
        let (calls, stop) = (Arc::<Calls>::default(), CancellationToken::new());
        let addresses = ["task", "gateway"].map(|name| taskey.address(name));
        let (recorded, stopped) = (Arc::clone(&calls), stop.clone());
        let open = addresses.map(|address| channel(&dialer, address));
        let dialer = Arc::new(Mutex::new(dialer));
        let current_dialer = Arc::clone(&dialer);
        let running = tokio::spawn(async move {
            let (mut ticks, mut in_progress) = (interval(CALL_INTERVAL), JoinSet::new());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0.. {
                if stopped.run_until_cancelled(ticks.tick()).await.is_none() {
                    break;
                }
                let index = number % addresses.len();
                let is_new = number % CALLS_PER_NEW_CONNECTION < addresses.len();
                let dialer = current_dialer.lock().expect("not poisoned").clone();
                let tasks = if is_new { channel(&dialer, addresses[index]) } else { open[index].clone() };
                let (calls, request) = (Arc::clone(&recorded), bearer(&token, ListTasksRequest::default()));
                in_progress.spawn(async move { calls.record(TaskServiceClient::new(tasks).list_tasks(request).await) });
                while in_progress.try_join_next().is_some() {}
            }
            in_progress.join_all().await;
        });
        Self { calls, dialer, stop, running }
    }

    /// Replaces the dialer, and waits until the calls on earlier new connections have ended.
    async fn replace_dialer(&self, dialer: Dialer) {
        *self.dialer.lock().expect("not poisoned") = dialer;
        let count = || self.calls.made.load(Ordering::Relaxed);
        let enough = count() + 5 * CALLS_PER_NEW_CONNECTION;
        while count() < enough {
            tokio::time::sleep(CALL_INTERVAL).await;
        }
    }

    /// Ends the load, and returns the number of calls and the errors.
    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.cancel();
        self.running.await.expect("no panic");
        let errors = self.calls.errors.lock().expect("not poisoned").clone();
        (self.calls.made.load(Ordering::Relaxed), errors)
    }
}

/// Opens a watch, and waits until it has reported the state at its start.
async fn watch(tasks: &Channel, token: &str) -> Watch {
    let request = bearer(token, WatchTasksRequest::default());
    let mut watch = TaskServiceClient::new(tasks.clone()).watch_tasks(request).await.expect("watching").into_inner();
    watch.message().await.expect("open").expect("open");
    watch
}

/// Waits until a watch reports the task with the last title.
async fn wait_for_last(mut watch: Watch) {
    let reported = async {
        loop {
            let message = watch.message().await.expect("the stream has no error").expect("the stream has not ended");
            let mut tasks = message.changes.into_iter().filter_map(|change| change.task);
            if tasks.any(|task| task.title == LAST_TITLE) {
                return;
            }
        }
    };
    timeout(CHANGE_LIMIT, reported).await.expect("the change is reported in time");
}

/// Waits until a server serves a certificate that the dialer trusts, and returns how long that took.
async fn wait_until_connected(dialer: &Dialer, taskey: &Process) -> Duration {
    let (begun, url) = (Instant::now(), format!("https://{}", taskey.address("task")));
    while dialer.clone().call(url.parse().expect("a URL")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// Publishes a new version of the files of the server like Kubernetes: all at once, by replacing a symbolic link.
fn publish(files: &Files, version: &str, server: &Issued, client_authorities: &str) {
    let folder = files.path(version);
    fs::create_dir(&folder).expect("created");
    _ = server.write(&folder, "server");
    fs::write(folder.join("clients.pem"), client_authorities).expect("written");
    symlink(version, files.path("next")).expect("linked");
    fs::rename(files.path("next"), files.path("data")).expect("replaced");
}

/// Opens watches of several users, half of them through the gateway. Returns the access tokens and channels of the users.
async fn open_watches(dialer: &Dialer, taskey: &Process) -> (Vec<(String, Channel)>, Vec<Watch>) {
    let auth = channel(dialer, taskey.address("auth"));
    let (mut users, mut watches) = (Vec::new(), Vec::new());
    for number in 0..USERS {
        let token = sign_up_and_log_in(&auth, &format!("user.{number}@example.com")).await;
        let tasks = channel(dialer, taskey.address(if number % 2 == 0 { "task" } else { "gateway" }));
        for _ in 0..WATCHES_PER_USER {
            watches.push(watch(&tasks, &token).await);
        }
        users.push((token, tasks));
    }
    (users, watches)
}

/// Asserts that clients with this certificate are refused, within the time in which files are reloaded.
async fn assert_becomes_refused(dialer: Dialer, taskey: &Process) {
    let refused = async {
        while is_accepted(channel(&dialer, taskey.address("task"))).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(RELOAD_LIMIT, refused).await.expect("the certificate is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn serial_certificates_are_replaced_under_load_without_a_failed_call() {
    let (files, database, second) = (Files::new(), TestDatabase::sqlite(), Authority::new("second"));
    let both = files.authority.pem() + &second.pem();
    publish(&files, "1", &files.authority.issue(&["127.0.0.1"]), &files.authority.pem());
    _ = second.write(files.folder.path(), "second");
    fs::write(files.path("both.pem"), &both).expect("written");
    files.write("first", &files.authority.issue(&["client"]));
    files.write("second", &second.issue(&["client"]));
    files.write("expired", &files.authority.issue_for(&["client"], Validity::Expired));
    let flags = ["--tls-client-ca-file", &files.flag("data/clients.pem"), "--max-connections-per-address", "500"];
    let mut command = command(&database, &files.path("data"), &flags);
    let log = File::create(files.log()).expect("created");
    let taskey = Process::spawn(command.stderr(log), &["auth", "task", "gateway"]);
    let dialer = files.dialer("both.pem", Some("first")).await;
    for name in ["auth", "task", "gateway"] {
        wait_for_health(channel(&dialer, taskey.address(name)), ServingStatus::Serving).await;
    }
    let (users, watches) = open_watches(&dialer, &taskey).await;
    let (begun, load) = (Instant::now(), Load::start(dialer.clone(), &taskey, users[0].0.clone()));

    let expired = files.dialer("both.pem", Some("expired")).await;
    assert!(!is_accepted(channel(&expired, taskey.address("task"))).await);
    files.wait_for_log("the certificate of the client has expired").await;
    // The server gets a certificate of the second authority, and accepts clients of both.
    publish(&files, "2", &second.issue(&["127.0.0.1"]), &both);
    let trusting_second = files.dialer("second.pem", Some("first")).await;
    let elapsed = wait_until_connected(&trusting_second, &taskey).await;
    assert!(elapsed < RELOAD_LIMIT, "the new certificate is served after {elapsed:?}");
    // The clients get certificates of the second authority, and then the first one is no longer trusted.
    load.replace_dialer(files.dialer("second.pem", Some("second")).await).await;
    publish(&files, "3", &second.issue(&["127.0.0.1"]), &second.pem());
    taskey.signal("HUP");
    assert_becomes_refused(trusting_second, &taskey).await;

    let (calls, errors) = load.stop().await;
    report_value("calls", format_args!("{calls} in {:.1?}; new certificate after {elapsed:.1?}", begun.elapsed()));
    assert!(errors.is_empty(), "{} of {calls} calls failed: {:?}", errors.len(), errors.first());
    for (token, tasks) in &users {
        let task = Some(Task { title: LAST_TITLE.to_owned(), ..Task::default() });
        let request = bearer(token, CreateTaskRequest { task, ..CreateTaskRequest::default() });
        TaskServiceClient::new(tasks.clone()).create_task(request).await.expect("created");
    }
    for watch in watches {
        wait_for_last(watch).await;
    }
}
