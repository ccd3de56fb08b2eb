//! Keys in earnest: public ones that come with the feed, and rotation while people work.

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

use super::processes::{PASSWORD, Process, bearer, program, serving};

const PATIENCE: Duration = Duration::from_secs(30);

/// An auth-service and a task-service that share nothing but, if at all, a key.
struct Pair {
    folder: tempfile::TempDir,
    auth: Process,
    task: Process,
}

impl Pair {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.auth.channel("auth"))
    }

    fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.task.channel("task"))
    }

    /// With a shared key, or with a public one and a service token.
    async fn start(kind: NewKey) -> Self {
        let folder = testing::folder();
        let path = |name: &str| folder.path().join(name).display().to_string();
        rotation::generate(kind, Path::new(&path("keys.json"))).expect("a key file");
        let database = |service: &str| format!("sqlite:{}", path(&format!("{service}.db")));
        let flags = |flags: &[&str]| flags.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (keys, token) = (path("keys.json"), path("service.token"));
        let auth = ["--listen", "127.0.0.1:0", "--database-url", &database("auth"), "--key-file", &keys];
        // Many sign up at once, and what that costs is another test's question.
        let cheap = ["--password-memory-kib", "8", "--password-passes", "1"];
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
        serving(auth.channel("auth")).await;
        serving(task.channel("task")).await;
        Self { folder, auth, task }
    }

    async fn person(&self, email: &str) -> TokenPair {
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

/// Runs `auth-service` beside the live one.
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
    let answer = HealthClient::new(process.channel("task")).check(HealthCheckRequest::default()).await;
    answer.expect("told").into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_without_a_key_accepts_and_refuses_as_one_with_it() {
    let pair = Pair::start(NewKey::EdDsa).await;
    let ann = pair.person("ann@example.com").await;
    let task = Some(Task { title: "Buy milk".to_owned(), ..Task::default() });
    pair.tasks()
        .create_task(bearer(&ann.access_token, CreateTaskRequest { task, ..CreateTaskRequest::default() }))
        .await
        .expect("created");
    assert_refused!(pair.list("a.b.c").await, Unauthenticated, "TOKEN_INVALID");
    let logout = LogoutRequest { refresh_token: ann.refresh_token, wait_for_verifiers: true };
    let answer = pair.auth().logout(logout).await.expect("logged out").into_inner();
    assert_eq!(answer.acknowledged_verifiers, 1);
    assert_refused!(pair.list(&ann.access_token).await, Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_without_keys_is_not_ready_and_throws_no_token_away() {
    let pair = Pair::start(NewKey::EdDsa).await;
    let ann = pair.person("ann@example.com").await;
    let auth_url = format!("http://{}", pair.auth.address("auth"));
    let (token, database) = (pair.file("wrong.token"), format!("sqlite:{}", pair.file("other.db").display()));
    write(&token, "taskey_service_of_somebody_else");
    let token = token.display().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--service-token-file", &token, "--auth-url", &auth_url];
    let flags = flags.into_iter().chain(["--database-url", &database]).map(str::to_owned).collect::<Vec<_>>();
    let lost = Process::start(&program("task-service"), &flags, &["task"]);
    assert_eq!(health(&lost).await, ServingStatus::NotServing);
    let request = bearer(&ann.access_token, ListTasksRequest::default());
    let outcome = TaskServiceClient::new(lost.channel("task")).list_tasks(request).await;
    assert_refused!(outcome, Unavailable, "VERIFIER_NOT_READY");
    // The right token is picked up without a restart.
    write(Path::new(&token), &issue(pair.folder.path(), "late"));
    timeout(PATIENCE, serving(lost.channel("task"))).await.expect("it serves");
    let request = bearer(&ann.access_token, ListTasksRequest::default());
    TaskServiceClient::new(lost.channel("task")).list_tasks(request).await.expect("let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_token_is_replaced_without_a_gap() {
    let pair = Pair::start(NewKey::EdDsa).await;
    let ann = pair.person("ann@example.com").await;
    write(&pair.file("service.token"), &issue(pair.folder.path(), "newer"));
    auth_service(pair.folder.path(), &["tokens", "revoke-service", "task-service"]);
    // The stream of the old token is ended by the server, and the next one is opened with the new token. From then on
    // confirmations count again.
    let confirmed = async {
        loop {
            pair.list(&ann.access_token).await.expect("let in all the time");
            let bob = pair.person(&format!("{}@example.com", unused_name())).await;
            let logout = LogoutRequest { refresh_token: bob.refresh_token, wait_for_verifiers: true };
            let answer = pair.auth().logout(logout).await.expect("logged out").into_inner();
            if answer.acknowledged_verifiers == 1 {
                return;
            }
        }
    };
    timeout(PATIENCE, confirmed).await.expect("the new token is in use");
}

/// A name that was not used before.
fn unused_name() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_shared_keys_fails_no_call() {
    rotate_in_mid_load(NewKey::Hs256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_public_keys_fails_no_call() {
    rotate_in_mid_load(NewKey::EdDsa).await;
}

/// 200 calls a second by 20 people, each of whom refreshes every tenth call, until all of them have a token of the new
/// key; whatever fails is kept.
async fn rotate_in_mid_load(kind: NewKey) {
    let pair = Arc::new(Pair::start(kind).await);
    let (calls, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<String>::new())));
    let done = Arc::new(AtomicBool::new(false));
    let new_kids = Arc::new(Mutex::new(HashSet::new()));
    let mut people = JoinSet::new();
    let first = pair.person("first@example.com").await;
    for number in 0..20 {
        let (pair, calls, failures) = (Arc::clone(&pair), Arc::clone(&calls), Arc::clone(&failures));
        let (done, new_kids) = (Arc::clone(&done), Arc::clone(&new_kids));
        people.spawn(async move {
            let mut tokens = pair.person(&format!("{number}@example.com")).await;
            let (mut beat, mut turn) = (interval(Duration::from_millis(100)), 0_usize);
            while !done.load(Ordering::SeqCst) {
                beat.tick().await;
                turn += 1;
                let outcome = if turn % 10 == 0 {
                    let refresh = RefreshRequest { refresh_token: tokens.refresh_token.clone() };
                    pair.auth().refresh(refresh).await.map(|answer| tokens = answer.into_inner())
                } else {
                    pair.list(&tokens.access_token).await
                };
                calls.fetch_add(1, Ordering::SeqCst);
                new_kids.lock().expect("no panic").insert((number, kid(&tokens.access_token)));
                if let Err(status) = outcome {
                    failures.lock().expect("no panic").push(format!("{status:?}"));
                }
            }
        });
    }
    let (folder, before) = (pair.folder.path().to_owned(), kid(&first.access_token));
    let rotated = spawn_blocking(move || auth_service(&folder, &["keys", "rotate", "--key-file", "keys.json"]));
    assert_eq!(rotated.await.expect("no panic"), "");
    let all_new = async {
        let mut beat = interval(Duration::from_millis(50));
        while new_kids.lock().expect("no panic").iter().filter(|(_, kid)| *kid != before).count() < 20 {
            beat.tick().await;
        }
    };
    timeout(PATIENCE, all_new).await.expect("the new key signs for everyone");
    done.store(true, Ordering::SeqCst);
    while let Some(ended) = people.join_next().await {
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
    pair.list(&first.access_token).await.expect("the old key still verifies");
}
