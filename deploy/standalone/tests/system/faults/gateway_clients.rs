//! Clients of the gateway that do not read, do not send, cancel or watch, and their effect on other clients.

use std::{any::Any, convert::Infallible, future::poll_fn, net::SocketAddr, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use http_body_util::{Full, StreamBody};
use prost::Message;
use service_kit::testing::TestDatabase;
use taskey_proto::task::v1::{
    CreateTaskRequest, ListTasksRequest, Task, WatchTasksRequest, WatchTasksResponse,
    task_service_client::TaskServiceClient,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Streaming,
    body::Body,
    codegen::{Service, http},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use super::{
    cancelled::make_cancelled_calls,
    cluster::{Cluster, ONE_EACH},
    others::Others,
    programs::start_taskey,
    report::{LOAD_ALLOWANCE, report_percentiles, report_value},
    users::{CALL_TIMEOUT, create, sign_up_and_log_in},
};
use crate::process::{bearer, channel};

/// The address of the attacker. All others call from 127.0.0.1.
const ATTACKER: [u8; 4] = [127, 0, 0, 2];

/// The smallest window of a client that answers pings but does not read.
const WINDOW_BYTES: u32 = 65_535;

/// The tasks of the attacker, whose list is several times larger than a window.
const TASKS: usize = 100;
const NOTES_CHARS: usize = 4000;

/// Cancelled calls per second, and health watches. In debug builds, more would need more than two cores.
const RATE: usize = if cfg!(debug_assertions) { 50 } else { 1000 };
const WATCHES: usize = if cfg!(debug_assertions) { 1000 } else { 4000 };

/// A change reaches the watches of others within this time.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

/// A gateway and the services behind it.
struct Target {
    address: SocketAddr,
    /// Ends the programs when it is dropped.
    _programs: Box<dyn Any + Send>,
}

impl Target {
    /// Starts each program in its own process.
    async fn over_the_network() -> Self {
        let cluster = Cluster::on_sqlite(ONE_EACH).await;
        let gateway = cluster.gateway();
        gateway.wait_until_ready().await;
        Self { address: gateway.address(), _programs: Box::new((gateway, cluster)) }
    }

    /// Starts `taskey`, which contains all programs.
    async fn in_taskey() -> Self {
        let database = TestDatabase::sqlite();
        let taskey = start_taskey(&database, &[]).await;
        Self { address: taskey.address("gateway"), _programs: Box::new((taskey, database)) }
    }

    /// Returns a new connection of others.
    fn channel(&self) -> Channel {
        channel(self.address)
    }

    /// Returns a new connection of the attacker.
    fn attacker(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL");
        endpoint
            .local_address(Some(ATTACKER.into()))
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect_lazy()
    }

    async fn others(&self) -> Others {
        Others::sign_up(self.channel(), self.channel(), Some(self.address)).await
    }

    /// Signs up an attacker with a large list of tasks. Returns the access token.
    async fn sign_up_attacker(&self, email: &str) -> String {
        let token = sign_up_and_log_in(&self.attacker(), email).await.access_token;
        let (client, token) = (TaskServiceClient::new(self.attacker()), &token);
        let creations = stream::iter(0..TASKS).map(|number| {
            let mut client = client.clone();
            let task = Task { title: number.to_string(), notes: "\u{1f600}".repeat(NOTES_CHARS), ..Task::default() };
            let request = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
            async move { client.create_task(bearer(token, request)).await.expect("created") }
        });
        creations.buffer_unordered(16).count().await;
        token.clone()
    }
}

/// Creates a gRPC request with a body.
fn request(path: &str, token: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .expect("a valid request")
}

/// Makes a call and returns its response, whose body has not been read.
async fn call(mut channel: Channel, request: http::Request<Body>) -> Option<http::Response<Body>> {
    poll_fn(|cx| channel.poll_ready(cx)).await.ok()?;
    channel.call(request).await.ok()
}

/// Returns the body of a call with one message.
fn body(message: &impl Message) -> Body {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    Body::new(Full::from([&[0], &length[..], &message].concat()))
}

/// Requests a large list over HTTP/1.1. The response is not read.
async fn get_list_unread(address: SocketAddr, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((ATTACKER, 0).into()).expect("bound");
    socket.set_recv_buffer_size(WINDOW_BYTES).expect("set");
    let mut connection = socket.connect(address).await.expect("connected");
    let request =
        format!("GET /v1/tasks?pageSize=500 HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sent");
    connection
}

async fn assert_unread_responses_do_not_affect_others(target: Target) {
    let token = target.sign_up_attacker("mallory@example.com").await;
    let attack = async |stopped: &CancellationToken| {
        let list = ListTasksRequest { page_size: 500, ..ListTasksRequest::default() };
        let calls = (0..8)
            .map(|_| call(target.attacker(), request("/taskey.task.v1.TaskService/ListTasks", &token, body(&list))));
        let gets = (0..4).map(|_| get_list_unread(target.address, &token));
        let (unread, _connections) = tokio::join!(join_all(calls), join_all(gets));
        let is_success = |response: &&http::Response<Body>| !response.headers().contains_key("grpc-status");
        let unread_count = unread.iter().flatten().filter(is_success).count();
        assert!(unread_count > 0, "{unread:?}");
        report_value("unread responses", unread_count);
        stopped.cancelled().await;
    };
    target.others().await.assert_unaffected("unread responses", attack).await;
}

async fn watch(channel: Channel, token: &str) -> Streaming<WatchTasksResponse> {
    let mut client = TaskServiceClient::new(channel);
    let watching = client.watch_tasks(bearer(token, WatchTasksRequest::default()));
    timeout(CALL_TIMEOUT, watching).await.expect("a response").expect("watched").into_inner()
}

/// Creates tasks until `stopped`, and returns how long each took to reach the watch.
async fn measure_watch(target: &Target, token: &str, stopped: &CancellationToken) -> Vec<Duration> {
    let (task, mut changes, mut took) = (target.channel(), watch(target.channel(), token).await, vec![]);
    while !stopped.is_cancelled() {
        let title = format!("change {}", took.len());
        create(&task, token, &title).await.expect("created");
        let begun = tokio::time::Instant::now();
        let received = async {
            let is_received = |message: &WatchTasksResponse| {
                message.changes.iter().any(|change| change.task.as_ref().is_some_and(|task| task.title == title))
            };
            while !is_received(&changes.message().await.expect("no error").expect("not the end")) {}
        };
        let received = timeout(CHANGE_LIMIT + LOAD_ALLOWANCE, received).await;
        assert!(received.is_ok(), "the watch of others has not received {title:?}");
        took.push(begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    took
}

async fn assert_unread_streams_do_not_affect_others(target: Target) {
    let mut tokens = vec![];
    for email in ["mallory@example.com", "trudy@example.com"] {
        tokens.push(target.sign_up_attacker(email).await);
    }
    let ann = sign_up_and_log_in(&target.channel(), "ann@example.com").await.access_token;
    let attack = async |stopped: &CancellationToken| {
        let watches = tokens.iter().flat_map(|token| (0..8).map(|_| watch(target.attacker(), token)));
        let _unread = join_all(watches).await;
        let writer = TaskServiceClient::new(target.attacker());
        // More changes than a window can contain.
        let change = async |token: &str| {
            let task = Task { title: "x".to_owned(), notes: "\u{1f600}".repeat(NOTES_CHARS), ..Task::default() };
            let request = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
            while !stopped.is_cancelled() {
                _ = writer.clone().create_task(bearer(token, request.clone())).await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        let (took, ..) = tokio::join!(measure_watch(&target, &ann, stopped), change(&tokens[0]), change(&tokens[1]));
        report_percentiles("changes reached the watch of others", took);
    };
    target.others().await.assert_unaffected("unread streams", attack).await;
}

async fn assert_missing_bodies_do_not_affect_others(target: Target) {
    let attack = async |stopped: &CancellationToken| {
        let mut calls = JoinSet::new();
        for _ in 0..4 {
            let channel = target.attacker();
            for _ in 0..128 {
                let never_sent = Body::new(StreamBody::new(stream::pending::<Result<_, Infallible>>()));
                let request = request("/taskey.auth.v1.AuthService/Login", "none", never_sent);
                calls.spawn(call(channel.clone(), request));
            }
        }
        stopped.cancelled().await;
    };
    target.others().await.assert_unaffected("requests without a body", attack).await;
}

async fn assert_cancelled_calls_do_not_affect_others(target: Target) {
    let mallory = sign_up_and_log_in(&target.attacker(), "mallory@example.com").await;
    let others = target.others().await;
    for cancel_after in [0, 1, 50].map(Duration::from_millis) {
        let attack = async |stopped: &CancellationToken| {
            let channels = [target.attacker(), target.attacker()];
            let calls = make_cancelled_calls(channels, &mallory.access_token, RATE, cancel_after, stopped).await;
            report_value(&format!("calls cancelled after {cancel_after:?}"), calls);
        };
        others.assert_unaffected(&format!("calls cancelled after {cancel_after:?}"), attack).await;
    }
}

async fn watch_health(channel: Channel) -> Option<Streaming<HealthCheckResponse>> {
    let mut health = HealthClient::new(channel);
    let service = "taskey.task.v1.TaskService".to_owned();
    health.watch(HealthCheckRequest { service }).await.ok().map(tonic::Response::into_inner)
}

async fn assert_health_watches_do_not_affect_others(target: Target) {
    let attack = async |stopped: &CancellationToken| {
        let channels: Vec<_> = (0..32).map(|_| target.attacker()).collect();
        let watches = channels.iter().flat_map(|channel| (0..WATCHES / 32).map(|_| watch_health(channel.clone())));
        let watches: Vec<_> = stream::iter(watches).buffer_unordered(8).collect().await;
        report_value("health watches", watches.iter().flatten().count());
        stopped.cancelled().await;
    };
    target.others().await.assert_unaffected("health watches", attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_unread_responses_do_not_affect_others_over_the_network() {
    assert_unread_responses_do_not_affect_others(Target::over_the_network().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_unread_responses_do_not_affect_others_in_taskey() {
    assert_unread_responses_do_not_affect_others(Target::in_taskey().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_unread_streams_do_not_affect_others_over_the_network() {
    assert_unread_streams_do_not_affect_others(Target::over_the_network().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_unread_streams_do_not_affect_others_in_taskey() {
    assert_unread_streams_do_not_affect_others(Target::in_taskey().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_missing_bodies_do_not_affect_others_over_the_network() {
    assert_missing_bodies_do_not_affect_others(Target::over_the_network().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_missing_bodies_do_not_affect_others_in_taskey() {
    assert_missing_bodies_do_not_affect_others(Target::in_taskey().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_cancelled_calls_do_not_affect_others_over_the_network() {
    assert_cancelled_calls_do_not_affect_others(Target::over_the_network().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_cancelled_calls_do_not_affect_others_in_taskey() {
    assert_cancelled_calls_do_not_affect_others(Target::in_taskey().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_health_watches_do_not_affect_others_over_the_network() {
    assert_health_watches_do_not_affect_others(Target::over_the_network().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_health_watches_do_not_affect_others_in_taskey() {
    assert_health_watches_do_not_affect_others(Target::in_taskey().await).await;
}
