//! Starts task-service and calls it as signed-in users.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use service_kit::{
    auth::{claims::AccessClaims, keys::KeySet, token},
    clock::Clock,
    ops::config::TokenArgs,
    testing::{ManualClock, TestDatabase, clock},
};
use task_service::config::Config;
use taskey_proto::task::v1::{
    CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, GetTaskRequest, ListTasksRequest, ListTasksResponse,
    ReopenTaskRequest, Task, UndeleteTaskRequest, UpdateTaskRequest, task_list_service_client::TaskListServiceClient,
    task_service_client::TaskServiceClient, webhook_service_client::WebhookServiceClient,
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use uuid::Uuid;

use crate::feed::{Feed, SharedUserList};

/// Limit for everything that a test waits for.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits before a call is repeated, so that a test does not occupy a core, which the services and other tests need.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

/// Returns an etag of the same epoch with another revision.
pub(crate) fn with_revision(etag: &str, revision: u32) -> String {
    let (prefix, _) = etag.rsplit_once('.').expect("an etag ends with the revision");
    format!("{prefix}.{revision:x}\"")
}

/// A running task-service and its revocation feed. Dropping it stops the service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    pub(crate) feed: Feed,
    pub(crate) clock: Clock,
    pub(crate) manual_clock: ManualClock,
    keys: Arc<KeySet>,
    shutdown: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

/// What stays when a service is restarted, and what replicas share, besides the database.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) clock: Clock,
    pub(crate) manual_clock: ManualClock,
    users: SharedUserList,
}

impl Environment {
    fn new() -> Self {
        let (clock, manual_clock) = clock();
        Self { clock, manual_clock, users: SharedUserList::default() }
    }
}

impl Service {
    /// Starts a service and waits until it serves.
    pub(crate) async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts a service with additional flags and waits until it serves.
    pub(crate) async fn start_with(database: &TestDatabase, flags: &[&str]) -> Self {
        Self::start_at(database, flags, Environment::new()).await
    }

    /// Starts a service with changed settings and waits until it serves.
    pub(crate) async fn start_adjusted(
        database: &TestDatabase,
        flags: &[&str],
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let service = Self::launch(database, flags, Environment::new(), true, adjust).await;
        service.wait_for_status(ServingStatus::Serving).await;
        service
    }

    /// Stops the service and starts it again with the same clock.
    pub(crate) async fn restart(self, database: &TestDatabase) -> Self {
        self.restart_with(database, &[]).await
    }

    /// Like [`restart`](Self::restart), with additional flags.
    pub(crate) async fn restart_with(self, database: &TestDatabase, flags: &[&str]) -> Self {
        let environment = self.environment();
        self.stop().await;
        Self::start_at(database, flags, environment).await
    }

    /// Returns the clock and the accounts, for a restart.
    pub(crate) fn environment(&self) -> Environment {
        let (clock, manual_clock) = (self.clock.clone(), self.manual_clock.clone());
        Environment { clock, manual_clock, users: self.feed.users() }
    }

    /// Starts a service with additional flags in this environment, and waits until it serves.
    pub(crate) async fn start_at(database: &TestDatabase, flags: &[&str], environment: Environment) -> Self {
        let service = Self::launch(database, flags, environment, true, |_| {}).await;
        service.wait_for_status(ServingStatus::Serving).await;
        service
    }

    /// Like [`restart`](Self::restart), after some time.
    pub(crate) async fn restart_after(self, database: &TestDatabase, downtime: Duration) -> Self {
        let environment = self.environment();
        self.stop().await;
        environment.manual_clock.advance(downtime);
        Self::start_at(database, &[], environment).await
    }

    /// Starts another replica with the same clock and accounts. Like every service, it purges on start.
    pub(crate) async fn start_replica(&self, database: &TestDatabase, flags: &[&str]) -> Self {
        Self::start_at(database, flags, self.environment()).await
    }

    /// Starts a service whose feed does not send anything yet.
    pub(crate) async fn start_cold(database: &TestDatabase) -> Self {
        Self::launch(database, &["--revocation-max-staleness", "0s"], Environment::new(), false, |_| {}).await
    }

    async fn launch(
        database: &TestDatabase,
        flags: &[&str],
        environment: Environment,
        feed_is_sending: bool,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let Environment { clock, manual_clock, users } = environment;
        let key_file = database.key_file();
        let keys = Arc::new(KeySet::read(&key_file, clock.now()).expect("the key file is valid"));
        let feed = Feed::start(Arc::clone(&keys), token_args(), clock.clone(), feed_is_sending, users).await;
        let (auth_url, key_file) = (format!("http://{}", feed.address), key_file.display().to_string());
        let common_flags =
            ["task-service", "--database-url", database.url(), "--key-file", &key_file, "--auth-url", &auth_url];
        // The clock does not advance by itself, so rate limits would never recover.
        let rate_limits = if flags.contains(&"--rate-limits") { &[][..] } else { &["--rate-limits", "off"] };
        let time_limits = missing_time_limits(flags);
        let mut config =
            Cli::parse_from(common_flags.iter().chain(rate_limits).chain(&time_limits).chain(flags)).config;
        adjust(&mut config);

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(task_service::run(config, clock.clone(), listener, shutdown.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("a valid URL").connect_lazy();
        Self { address, channel, feed, clock, manual_clock, keys, shutdown, running: Some(running) }
    }

    /// Waits until the health service reports this status.
    pub(crate) async fn wait_for_status(&self, status: ServingStatus) {
        let request = HealthCheckRequest { service: "taskey.task.v1.TaskService".to_owned() };
        let reached = async {
            let health = HealthClient::new(self.channel.clone()).watch(request).await;
            let mut health = health.expect("the health service is reachable").into_inner();
            while health.message().await.expect("the watch continues").expect("the watch continues").status() != status
            {
            }
        };
        timeout(WAIT_TIMEOUT, reached).await.expect("the health status changes in time");
    }

    /// Shuts the service down gracefully.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let running = self.running.take().expect("the service was not stopped before");
        running.await.expect("no panic").expect("a graceful shutdown");
    }

    /// Returns a new user.
    pub(crate) fn user(&self) -> User {
        self.session(self.clock.new_id(), self.clock.new_id())
    }

    /// Returns a user with this id and session.
    pub(crate) fn session(&self, user_id: Uuid, session_id: Uuid) -> User {
        let bearer = Bearer { keys: Arc::clone(&self.keys), clock: self.clock.clone(), user_id, session_id };
        let client = TaskServiceClient::with_interceptor(self.channel.clone(), bearer.clone());
        let lists = TaskListServiceClient::with_interceptor(self.channel.clone(), bearer.clone());
        let webhooks = WebhookServiceClient::with_interceptor(self.channel.clone(), bearer.clone());
        User { id: user_id, session_id, bearer, client, lists, webhooks }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Returns the flags of the time limits that are not set. PostgreSQL serves many tests at the same time, so that it does not
/// always respond within the limits of production.
fn missing_time_limits(flags: &[&str]) -> Vec<&'static str> {
    let names = ["--database-timeout", "--request-timeout"];
    names.into_iter().filter(|name| !flags.contains(name)).flat_map(|name| [name, "15s"]).collect()
}

/// Returns the issuer and audience of the tests' tokens.
pub(crate) fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// Adds a new token to every call, so that calls still succeed after the clock was advanced.
#[derive(Clone)]
pub(crate) struct Bearer {
    keys: Arc<KeySet>,
    clock: Clock,
    user_id: Uuid,
    session_id: Uuid,
}

impl Bearer {
    fn header(&self) -> String {
        let now = self.clock.now();
        let claims = AccessClaims {
            id: self.clock.new_id(),
            user_id: self.user_id,
            session_id: self.session_id,
            roles: Vec::new(),
            scopes: None,
            authentication: None,
            issued_at: now,
            expires_at: now + Duration::from_secs(300),
            actors: Vec::new(),
        };
        let token = token::sign(&self.keys, &token_args(), &claims).expect("the key signs");
        format!("Bearer {token}")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.header().parse().expect("a token is ASCII"));
        Ok(request)
    }
}

/// A signed-in user.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) session_id: Uuid,
    bearer: Bearer,
    pub(crate) client: TaskServiceClient<InterceptedService<Channel, Bearer>>,
    pub(crate) lists: TaskListServiceClient<InterceptedService<Channel, Bearer>>,
    pub(crate) webhooks: WebhookServiceClient<InterceptedService<Channel, Bearer>>,
}

type RpcResult<T> = Result<T, Status>;

impl User {
    /// Returns the same user, connected to another service.
    pub(crate) fn connected_to(&self, service: &Service) -> Self {
        service.session(self.id, self.session_id)
    }

    /// Returns the same user on another connection.
    pub(crate) fn with_channel(&self, channel: Channel) -> Self {
        let client = TaskServiceClient::with_interceptor(channel, self.bearer.clone());
        Self { client, ..self.clone() }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.bearer.clock
    }

    /// Returns an `authorization` header with a new token.
    pub(crate) fn header(&self) -> String {
        self.bearer.header()
    }

    /// Creates a task that has only a title.
    pub(crate) async fn make(&self, title: &str) -> Task {
        self.create(titled(title)).await.expect("the task is created")
    }

    pub(crate) async fn create(&self, task: Task) -> RpcResult<Task> {
        let request = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
        Ok(self.client.clone().create_task(request).await?.into_inner())
    }

    pub(crate) async fn get(&self, id: &str) -> RpcResult<Task> {
        Ok(self.client.clone().get_task(GetTaskRequest { id: id.to_owned() }).await?.into_inner())
    }

    pub(crate) async fn list(&self, request: ListTasksRequest) -> RpcResult<ListTasksResponse> {
        Ok(self.client.clone().list_tasks(request).await?.into_inner())
    }

    /// Returns the ids of all tasks, read page by page.
    pub(crate) async fn list_all(&self, page_size: i32, show_deleted: bool) -> Vec<String> {
        let mut ids = Vec::new();
        let mut request =
            ListTasksRequest { page_size, show_deleted, page_token: String::new(), ..ListTasksRequest::default() };
        loop {
            let page = self.list(request.clone()).await.expect("a page");
            ids.extend(page.tasks.into_iter().map(|task| task.id));
            if page.next_page_token.is_empty() {
                return ids;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Updates the fields in `mask`. Sends no mask if `mask` is empty.
    pub(crate) async fn update(&self, task: Task, mask: &[&str]) -> RpcResult<Task> {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = (!mask.is_empty()).then_some(prost_types::FieldMask { paths });
        let request = UpdateTaskRequest { task: Some(task), update_mask, ..UpdateTaskRequest::default() };
        Ok(self.client.clone().update_task(request).await?.into_inner())
    }

    pub(crate) async fn delete(&self, id: &str, etag: &str) -> RpcResult<Task> {
        self.delete_with(DeleteTaskRequest {
            id: id.to_owned(),
            etag: etag.to_owned(),
            allow_missing: false,
            ..DeleteTaskRequest::default()
        })
        .await
    }

    pub(crate) async fn delete_with(&self, request: DeleteTaskRequest) -> RpcResult<Task> {
        Ok(self.client.clone().delete_task(request).await?.into_inner())
    }

    pub(crate) async fn undelete(&self, id: &str, etag: &str) -> RpcResult<Task> {
        let request =
            UndeleteTaskRequest { id: id.to_owned(), etag: etag.to_owned(), ..UndeleteTaskRequest::default() };
        Ok(self.client.clone().undelete_task(request).await?.into_inner())
    }

    pub(crate) async fn complete(&self, id: &str, etag: &str) -> RpcResult<Task> {
        let request =
            CompleteTaskRequest { id: id.to_owned(), etag: etag.to_owned(), ..CompleteTaskRequest::default() };
        Ok(self.client.clone().complete_task(request).await?.into_inner())
    }

    pub(crate) async fn reopen(&self, id: &str, etag: &str) -> RpcResult<Task> {
        let request = ReopenTaskRequest { id: id.to_owned(), etag: etag.to_owned(), ..ReopenTaskRequest::default() };
        Ok(self.client.clone().reopen_task(request).await?.into_inner())
    }
}

/// Returns a task that has only a title.
pub(crate) fn titled(title: &str) -> Task {
    Task { title: title.to_owned(), ..Task::default() }
}
