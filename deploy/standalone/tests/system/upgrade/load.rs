//! Users whose calls go to any replica, and all succeed.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use taskey_proto::{
    auth::v1::{
        ListSessionsRequest, LoginRequest, LogoutRequest, RefreshRequest, SignUpRequest, TokenPair,
        account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    },
    task::v1::{
        CreateTaskRequest, ListTaskChangesRequest, ListTasksRequest, Task, UpdateTaskRequest,
        task_service_client::TaskServiceClient,
    },
};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Status, transport::Channel};

use crate::end_to_end::processes::{PASSWORD, bearer};

/// How many users call at the same time.
const USERS: usize = 8;

/// How long a stage may take until it has enough calls, on a machine that is busy with other tests.
const STAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The replicas that receive calls.
#[derive(Clone)]
pub struct Replicas(Arc<RwLock<(Vec<Channel>, Vec<Channel>)>>);

impl Replicas {
    pub fn new(auth: impl Into<Vec<Channel>>, task: impl Into<Vec<Channel>>) -> Self {
        Self(Arc::new(RwLock::new((auth.into(), task.into()))))
    }

    /// Sends later calls to these replicas.
    pub fn set(&self, auth: impl Into<Vec<Channel>>, task: impl Into<Vec<Channel>>) {
        *self.0.write().expect("not poisoned") = (auth.into(), task.into());
    }

    /// Returns the replica of auth-service for a call, and that of task-service.
    fn pick(&self, call: usize) -> (Channel, Channel) {
        let replicas = self.0.read().expect("not poisoned");
        // Other replicas of the two services meet in each pair of rounds.
        let (auth, task) = (&replicas.0, &replicas.1);
        (auth[call % auth.len()].clone(), task[call / auth.len() % task.len()].clone())
    }
}

/// What the users have done.
#[derive(Clone, Copy, Default)]
struct Progress {
    calls: usize,
    rounds: [usize; USERS],
}

/// What the users share.
struct Shared {
    replicas: Replicas,
    progress: watch::Sender<Progress>,
    failures: Mutex<Vec<String>>,
    done: AtomicBool,
}

/// Running users.
pub struct Load {
    shared: Arc<Shared>,
    users: JoinSet<()>,
}

impl Load {
    pub fn start(replicas: &Replicas) -> Self {
        let shared = Arc::new(Shared {
            replicas: replicas.clone(),
            progress: watch::Sender::default(),
            failures: Mutex::default(),
            done: AtomicBool::new(false),
        });
        let mut users = JoinSet::new();
        for number in 0..USERS {
            users.spawn(use_services(Arc::clone(&shared), number));
        }
        Self { shared, users }
    }

    /// Waits for a time in which the users make at least this number of calls. Fails if one of them failed.
    pub async fn run_for(&self, period: Duration, min_calls: usize, stage: &str) {
        let before = self.shared.progress.borrow().calls;
        tokio::time::sleep(period).await;
        self.wait_for(stage, |progress| progress.calls >= before + min_calls).await;
    }

    /// Waits until no call to a replica that was removed is in progress.
    pub async fn drain(&self) {
        let before = self.shared.progress.borrow().rounds;
        self.wait_for("drain", |progress| progress.rounds.iter().zip(before).all(|(now, before)| *now > before)).await;
    }

    async fn wait_for(&self, stage: &str, is_reached: impl FnMut(&Progress) -> bool) {
        let mut progress = self.shared.progress.subscribe();
        let reached = timeout(STAGE_TIMEOUT, progress.wait_for(is_reached)).await.is_ok();
        let failures = self.shared.failures.lock().expect("not poisoned").clone();
        assert!(failures.is_empty(), "{stage}: {failures:#?}");
        assert!(reached, "{stage}: too few calls");
    }

    pub async fn stop(mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        while let Some(ended) = self.users.join_next().await {
            ended.expect("no user panics");
        }
    }
}

/// Signs up a user, and repeats rounds of calls. The replicas change with every call.
async fn use_services(shared: Arc<Shared>, number: usize) {
    let user = User { shared: Arc::clone(&shared), email: format!("user-{number}@example.com") };
    let outcome = async {
        user.sign_up().await?;
        let mut titles = HashSet::new();
        let mut pair = user.log_in().await?;
        while !shared.done.load(Ordering::SeqCst) {
            pair = user.round(pair, &mut titles).await?;
            shared.progress.send_modify(|progress| progress.rounds[number] += 1);
        }
        Ok(())
    };
    if let Err(failure) = outcome.await {
        shared.failures.lock().expect("not poisoned").push(failure);
    }
}

struct User {
    shared: Arc<Shared>,
    email: String,
}

impl User {
    fn next_replicas(&self) -> (Channel, Channel) {
        let mut call = 0;
        self.shared.progress.send_modify(|progress| {
            call = progress.calls;
            progress.calls += 1;
        });
        self.shared.replicas.pick(call)
    }

    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.next_replicas().0)
    }

    fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.next_replicas().1)
    }

    async fn sign_up(&self) -> Result<(), String> {
        let (email, password) = (self.email.clone(), PASSWORD.to_owned());
        let request = SignUpRequest { email, password, ..SignUpRequest::default() };
        self.auth().sign_up(request).await.map(drop).map_err(|status| failure("sign-up", &status))
    }

    async fn log_in(&self) -> Result<TokenPair, String> {
        let (email, password) = (self.email.clone(), PASSWORD.to_owned());
        let request = LoginRequest { email, password, ..LoginRequest::default() };
        let response = self.auth().login(request).await.map_err(|status| failure("login", &status))?;
        Ok(response.into_inner())
    }

    /// Creates, changes and lists tasks, refreshes the session, and every few rounds begins another one.
    async fn round(&self, pair: TokenPair, titles: &mut HashSet<String>) -> Result<TokenPair, String> {
        let token = &pair.access_token;
        let title = format!("Task {}", titles.len());
        let task = Some(Task { title: title.clone(), ..Task::default() });
        let create = CreateTaskRequest { task, ..CreateTaskRequest::default() };
        let created = self.tasks().create_task(bearer(token, create)).await;
        let task = created.map_err(|status| failure("create", &status))?.into_inner();
        titles.insert(title);
        // The etag was returned by another replica.
        let task = Some(Task { id: task.id, etag: task.etag, notes: "changed".to_owned(), ..Task::default() });
        let update = UpdateTaskRequest { task, ..UpdateTaskRequest::default() };
        self.tasks().update_task(bearer(token, update)).await.map_err(|status| failure("update", &status))?;
        self.list(token, titles).await?;
        self.read_changes(token).await?;
        let sessions = AccountServiceClient::new(self.next_replicas().0)
            .list_sessions(bearer(token, ListSessionsRequest {}))
            .await;
        sessions.map_err(|status| failure("list sessions", &status))?;
        let request = RefreshRequest { refresh_token: pair.refresh_token.clone() };
        let refreshed = self.auth().refresh(request).await.map_err(|status| failure("refresh", &status))?.into_inner();
        if !titles.len().is_multiple_of(5) {
            return Ok(refreshed);
        }
        let request = LogoutRequest { refresh_token: refreshed.refresh_token, ..LogoutRequest::default() };
        self.auth().logout(request).await.map_err(|status| failure("logout", &status))?;
        self.log_in().await
    }

    /// Lists all tasks in small pages, each from the next replica, and compares them with the expected ones.
    async fn list(&self, token: &str, titles: &HashSet<String>) -> Result<(), String> {
        let mut listed = HashSet::new();
        let mut request = ListTasksRequest { page_size: 5, ..ListTasksRequest::default() };
        loop {
            let page = self.tasks().list_tasks(bearer(token, request.clone())).await;
            let page = page.map_err(|status| failure("list", &status))?.into_inner();
            listed.extend(page.tasks.into_iter().map(|task| task.title));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        if listed == *titles { Ok(()) } else { Err(format!("{} tasks instead of {}", listed.len(), titles.len())) }
    }

    /// Reads all changes, and then the changes since, from another replica.
    async fn read_changes(&self, token: &str) -> Result<(), String> {
        let mut request = ListTaskChangesRequest::default();
        for _ in 0..2 {
            let changes = self.tasks().list_task_changes(bearer(token, request.clone())).await;
            request.sync_token = changes.map_err(|status| failure("changes", &status))?.into_inner().next_sync_token;
        }
        Ok(())
    }
}

fn failure(call: &str, status: &Status) -> String {
    format!("{call}: {status:?}")
}
