//! Keys across processes: public keys from the feed, and rotation under load.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    assert_refused,
    auth::rotation::{self, NewKey},
    testing,
};
use taskey_proto::{
    auth::v1::{
        LoginRequest, LogoutRequest, RefreshRequest, SignUpRequest, TokenPair, auth_service_client::AuthServiceClient,
    },
    task::v1::{CreateTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{interval, timeout},
};
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::processes::{PASSWORD, Process, bearer, program, wait_until_serving};

const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// An auth-service and a task-service that share at most a key.
struct Services {
    folder: tempfile::TempDir,
    auth: Process,
    task: Process,
}

impl Services {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.auth.channel("auth"))
    }

    fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.task.channel("task"))
    }

    /// Starts both services with a shared key, or with a public key and a service token.
    async fn start(kind: NewKey) -> Self {
        let folder = testing::folder();
        let path = |name: &str| folder.path().join(name).display().to_string();
        rotation::generate(kind, Path::new(&path("keys.json"))).expect("a key file");
        let database = |service: &str| format!("sqlite:{}", path(&format!("{service}.db")));
        let flags = |flags: &[&str]| flags.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (keys, token) = (path("keys.json"), path("service.token"));
        let auth = ["--listen", "127.0.0.1:0", "--database-url", &database("auth"), "--key-file", &keys];
        // Cheap hashes, because many users sign up at once. They share an address, which may have 65 hashes waiting.
        let cheap = ["--password-memory-kib", "8", "--password-passes", "1", "--password-concurrency", "4"];
        let auth = Process::start(&program("auth-service"), &flags(&[&auth[..], &cheap].concat()), &["auth"]);
        let auth_url = format!("http://{}", auth.address("auth"));
        let mut task =
            flags(&["--listen", "127.0.0.1:0", "--database-url", &database("task"), "--auth-url", &auth_url]);
        match kind {
            NewKey::Hs256 => task.extend(flags(&["--key-file", &keys])),
            NewKey::EdDsa => {
                write(Path::new(&token), &issue(folder.path(), "task-service"));
                task.extend(flags(&["--service-token-file", &token]));
            }
        }
        let task = Process::start(&program("task-service"), &task, &["task"]);
        wait_until_serving(auth.channel("auth")).await;
        wait_until_serving(task.channel("task")).await;
        Self { folder, auth, task }
    }

    async fn sign_up_and_log_in(&self, email: &str) -> TokenPair {
        let (email, password) = (email.to_owned(), PASSWORD.to_owned());
        let new = SignUpRequest { email: email.clone(), password: password.clone(), ..SignUpRequest::default() };
        self.auth().sign_up(new).await.expect("signed up");
        let login = LoginRequest { email, password, ..LoginRequest::default() };
        self.auth().login(login).await.expect("logged in").into_inner()
    }

    async fn list(&self, access_token: &str) -> Result<(), Status> {
        self.tasks().list_tasks(bearer(access_token, ListTasksRequest::default())).await.map(|_| ())
    }
}

/// Runs an `auth-service` command while the service is running.
fn auth_service(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program("auth-service"))
        .current_dir(folder)
        .args(arguments)
        .env("TASKEY_DATABASE_URL", "sqlite:auth.db")
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn issue(folder: &Path, name: &str) -> String {
    auth_service(folder, &["tokens", "issue-service", name])
}

/// Writes a file that nobody else may read.
pub fn write(file: &Path, content: &str) {
    use std::io::Write;
    let options = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(file);
    options.expect("opened").write_all(content.as_bytes()).expect("written");
}

fn kid(access_token: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.decode(access_token.split('.').next().expect("a header")).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

async fn health(process: &Process) -> ServingStatus {
    let response = HealthClient::new(process.channel("task")).check(HealthCheckRequest::default()).await;
    response.expect("the health service is reachable").into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_with_public_keys_accepts_and_refuses_tokens() {
    let services = Services::start(NewKey::EdDsa).await;
    let ann = services.sign_up_and_log_in("ann@example.com").await;
    let task = Some(Task { title: "Buy milk".to_owned(), ..Task::default() });
    services
        .tasks()
        .create_task(bearer(&ann.access_token, CreateTaskRequest { task, ..CreateTaskRequest::default() }))
        .await
        .expect("created");
    assert_refused!(services.list("a.b.c").await, Unauthenticated, "TOKEN_INVALID");
    let logout = LogoutRequest { refresh_token: ann.refresh_token, wait_for_verifiers: true };
    let response = services.auth().logout(logout).await.expect("logged out").into_inner();
    assert_eq!(response.acknowledged_verifiers, 1);
    assert_refused!(services.list(&ann.access_token).await, Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_without_keys_is_not_ready_and_refuses_tokens_temporarily() {
    let services = Services::start(NewKey::EdDsa).await;
    let ann = services.sign_up_and_log_in("ann@example.com").await;
    let auth_url = format!("http://{}", services.auth.address("auth"));
    let (token, database) = (services.file("wrong.token"), format!("sqlite:{}", services.file("other.db").display()));
    write(&token, "taskey_service_of_somebody_else");
    let token = token.display().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--service-token-file", &token, "--auth-url", &auth_url];
    let flags = flags.into_iter().chain(["--database-url", &database]).map(str::to_owned).collect::<Vec<_>>();
    let verifier = Process::start(&program("task-service"), &flags, &["task"]);
    assert_eq!(health(&verifier).await, ServingStatus::NotServing);
    let request = bearer(&ann.access_token, ListTasksRequest::default());
    let outcome = TaskServiceClient::new(verifier.channel("task")).list_tasks(request).await;
    assert_refused!(outcome, Unavailable, "VERIFIER_NOT_READY");
    // The right token is picked up without a restart.
    write(Path::new(&token), &issue(services.folder.path(), "late"));
    timeout(WAIT_TIMEOUT, wait_until_serving(verifier.channel("task"))).await.expect("the service serves");
    let request = bearer(&ann.access_token, ListTasksRequest::default());
    TaskServiceClient::new(verifier.channel("task")).list_tasks(request).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_token_is_replaced_without_interruption() {
    let services = Services::start(NewKey::EdDsa).await;
    let ann = services.sign_up_and_log_in("ann@example.com").await;
    write(&services.file("service.token"), &issue(services.folder.path(), "newer"));
    auth_service(services.folder.path(), &["tokens", "revoke-service", "task-service"]);
    // The stream of the old token is ended by the server, and the next one is opened with the new token. From then on
    // confirmations count again.
    let confirmed = async {
        loop {
            services.list(&ann.access_token).await.expect("accepted at any time");
            let bob = services.sign_up_and_log_in(&format!("{}@example.com", unused_number())).await;
            let logout = LogoutRequest { refresh_token: bob.refresh_token, wait_for_verifiers: true };
            let response = services.auth().logout(logout).await.expect("logged out").into_inner();
            if response.acknowledged_verifiers == 1 {
                return;
            }
        }
    };
    timeout(WAIT_TIMEOUT, confirmed).await.expect("the new token is in use");
}

/// Returns a number that was not returned before.
fn unused_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_key_rotation_fails_no_call() {
    rotate_under_load(NewKey::Hs256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_key_rotation_fails_no_call() {
    rotate_under_load(NewKey::EdDsa).await;
}

/// Makes 200 calls per second by 20 users until all of them have a token signed with the new key. Every tenth call of a
/// user is a refresh. Asserts that no call fails.
async fn rotate_under_load(kind: NewKey) {
    let services = Arc::new(Services::start(kind).await);
    let (calls, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<String>::new())));
    let done = Arc::new(AtomicBool::new(false));
    let new_kids = Arc::new(Mutex::new(HashSet::new()));
    let mut users = JoinSet::new();
    let first = services.sign_up_and_log_in("first@example.com").await;
    for number in 0..20 {
        let (services, calls, failures) = (Arc::clone(&services), Arc::clone(&calls), Arc::clone(&failures));
        let (done, new_kids) = (Arc::clone(&done), Arc::clone(&new_kids));
        users.spawn(async move {
            let mut tokens = services.sign_up_and_log_in(&format!("{number}@example.com")).await;
            let (mut ticks, mut call_number) = (interval(Duration::from_millis(100)), 0_usize);
            while !done.load(Ordering::SeqCst) {
                ticks.tick().await;
                call_number += 1;
                let outcome = if call_number % 10 == 0 {
                    let refresh = RefreshRequest { refresh_token: tokens.refresh_token.clone() };
                    services.auth().refresh(refresh).await.map(|response| tokens = response.into_inner())
                } else {
                    services.list(&tokens.access_token).await
                };
                calls.fetch_add(1, Ordering::SeqCst);
                new_kids.lock().expect("no panic").insert((number, kid(&tokens.access_token)));
                if let Err(status) = outcome {
                    failures.lock().expect("no panic").push(format!("{status:?}"));
                }
            }
        });
    }
    let (folder, before) = (services.folder.path().to_owned(), kid(&first.access_token));
    let rotated = spawn_blocking(move || auth_service(&folder, &["keys", "rotate", "--key-file", "keys.json"]));
    assert_eq!(rotated.await.expect("no panic"), "");
    let all_new = async {
        let mut ticks = interval(Duration::from_millis(50));
        while new_kids.lock().expect("no panic").iter().filter(|(_, kid)| *kid != before).count() < 20 {
            ticks.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT, all_new).await.expect("the new key signs for everyone");
    done.store(true, Ordering::SeqCst);
    while let Some(ended) = users.join_next().await {
        ended.expect("no panic");
    }
    let failures = std::mem::take(&mut *failures.lock().expect("no panic"));
    assert!(
        failures.is_empty(),
        "{} of {} calls: {:?}",
        failures.len(),
        calls.load(Ordering::SeqCst),
        failures.first()
    );
    assert!(calls.load(Ordering::SeqCst) > 1000);
    services.list(&first.access_token).await.expect("the old key still verifies");
}
