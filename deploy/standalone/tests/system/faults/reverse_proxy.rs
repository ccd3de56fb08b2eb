//! A reverse proxy is not a client: limits, sessions and events see the clients behind it.

use std::{any::Any, net::SocketAddr, time::Duration};

use futures::future::join_all;
use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::{ListMySecurityEventsRequest, account_service_client::AccountServiceClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    nginx,
    others::Others,
    programs::start_taskey,
    report::report_value,
    service::Service,
    users::{CALL_TIMEOUT, log_in, sign_up, sign_up_and_log_in},
};
use crate::process::{PASSWORD, Process, bearer, channel};

/// nginx connects from this address.
const TRUSTED: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

/// Maximum number of connections per address, by default.
const MAX_PER_ADDRESS: usize = 64;

/// Maximum number of watches per account, by default.
const WATCHES_PER_ACCOUNT: usize = 8;

/// A gateway behind nginx.
struct Site {
    auth: Channel,
    task: Channel,
    gateway: SocketAddr,
    nginx: Process,
    /// Killed when they are dropped.
    _programs: Box<dyn Any>,
}

impl Site {
    /// Starts separate programs.
    async fn separate(gateway_flags: &[&str]) -> Self {
        let config = ClusterConfig { auth_flags: &TRUSTED, task_flags: &TRUSTED, ..ONE_EACH };
        let cluster = Cluster::on_sqlite(config).await;
        let url = |service: &Service| format!("http://{}", service.address());
        let urls = ["--auth-url".to_owned(), url(&cluster.auth[0]), "--task-url".to_owned(), url(&cluster.task[0])];
        let flags = [&TRUSTED, gateway_flags].concat();
        let arguments = urls.into_iter().chain(flags.iter().map(ToString::to_string)).collect();
        let gateway = Service::start("gateway", cluster.database.folder(), arguments, &[]);
        let address = gateway.address();
        let nginx = nginx::start(cluster.database.folder(), address).await;
        let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
        Self { auth, task, gateway: address, nginx, _programs: Box::new((cluster, gateway)) }
    }

    /// Starts `taskey`.
    async fn all_in_one(flags: &[&str]) -> Self {
        let database = TestDatabase::sqlite();
        let taskey = start_taskey(&database, &[&TRUSTED[..], flags].concat()).await;
        let [auth, task, gateway] = ["auth", "task", "gateway"].map(|name| taskey.address(name));
        let nginx = nginx::start(database.folder(), gateway).await;
        let programs = Box::new((taskey, database));
        Self { auth: channel(auth), task: channel(task), gateway, nginx, _programs: programs }
    }

    /// Connects to nginx from the loopback address with this last byte.
    async fn connect(&self, client: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 1, client], 0))).expect("a free port");
        socket.connect(nginx::address(&self.nginx)).await.expect("connected")
    }

    /// Signs up users and returns their tokens.
    async fn tokens(&self, count: usize) -> Vec<String> {
        let emails = (0..count).map(|number| format!("user{number}@example.com"));
        let pairs = emails.map(async |email| sign_up_and_log_in(&self.auth, &email).await.access_token);
        join_all(pairs).await
    }
}

/// Sends a request and returns the status code of its response, whose body has a declared length or never ends.
async fn send(stream: &mut TcpStream, request: &[u8]) -> u16 {
    let call = async {
        stream.write_all(request).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a response"));
        }
        let head = String::from_utf8(head).expect("UTF-8").to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("0");
        stream.read_exact(&mut vec![0; length.parse().expect("a length")]).await.expect("a body");
        head.split(' ').nth(1).expect("a code").parse().expect("a number")
    };
    timeout(CALL_TIMEOUT, call).await.expect("a response in time")
}

/// Opens a watch for each client, with eight of them per token. Returns the connections with their status codes.
async fn watch(site: &Site, tokens: &[String], clients: impl Iterator<Item = u8>) -> Vec<(u16, TcpStream)> {
    join_all(clients.enumerate().map(async |(number, client)| {
        let token = &tokens[number / WATCHES_PER_ACCOUNT];
        let request = format!("GET /v1/tasks:watch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        let mut stream = site.connect(client).await;
        (send(&mut stream, request.as_bytes()).await, stream)
    }))
    .await
}

fn count(watches: &[(u16, TcpStream)], code: u16) -> usize {
    watches.iter().filter(|watch| watch.0 == code).count()
}

async fn assert_65_people_can_watch(site: Site) {
    let tokens = site.tokens(9).await;
    let others = Others::sign_up(site.auth.clone(), site.task.clone(), Some(nginx::address(&site.nginx))).await;
    let attack = async |stopped: &CancellationToken| {
        let watches = watch(&site, &tokens, 1..=65).await;
        report_value("watches through nginx", count(&watches, 200));
        assert_eq!(count(&watches, 200), 65);
        stopped.cancelled().await;
    };
    others.assert_unaffected("65 people watch through one reverse proxy", attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_65_people_can_watch_through_one_reverse_proxy() {
    assert_65_people_can_watch(Site::separate(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_65_people_can_watch_through_one_reverse_proxy_of_taskey() {
    assert_65_people_can_watch(Site::all_in_one(&[]).await).await;
}

async fn assert_one_client_cannot_use_all_connections(site: Site) {
    let tokens = site.tokens(13).await;
    let greedy = watch(&site, &tokens, [1; 100].into_iter()).await;
    report_value(
        "watches of one client: open, rejected",
        format_args!("{}, {}", count(&greedy, 200), count(&greedy, 429)),
    );
    assert_eq!((count(&greedy, 200), count(&greedy, 429)), (MAX_PER_ADDRESS, 100 - MAX_PER_ADDRESS));
    let mut other = site.connect(2).await;
    let request = format!("GET /v1/me HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", tokens[12]);
    assert_eq!(send(&mut other, request.as_bytes()).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_behind_a_reverse_proxy_cannot_use_all_its_connections() {
    assert_one_client_cannot_use_all_connections(Site::separate(&["--max-connections", "128"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_behind_a_reverse_proxy_of_taskey_cannot_use_all_its_connections() {
    assert_one_client_cannot_use_all_connections(Site::all_in_one(&["--max-connections", "128"]).await).await;
}

/// Creates tasks on connections that are idle for longer than a client may take for the handshake.
async fn assert_idle_connections_are_kept(site: Site) {
    let token = site.tokens(1).await.remove(0);
    let request = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 13\r\n\r\n{{\"title\":\"x\"}}"
    );
    let direct = TcpStream::connect(site.gateway).await.expect("connected");
    let through_nginx = site.connect(1).await;
    join_all([direct, through_nginx].map(async |mut stream| {
        assert_eq!(send(&mut stream, request.as_bytes()).await, 200);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(send(&mut stream, request.as_bytes()).await, 200);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connection_of_a_proxy_is_kept_for_longer_than_the_handshake_timeout() {
    let flags = ["--handshake-timeout", "1s"];
    tokio::join!(
        async {
            assert_idle_connections_are_kept(Site::separate(&flags).await).await;
        },
        async {
            assert_idle_connections_are_kept(Site::all_in_one(&flags).await).await;
        },
    );
}

async fn assert_client_is_seen(site: Site) {
    sign_up(&site.auth, "ann@example.com").await.expect("signed up");
    let body = format!(r#"{{"email": "ann@example.com", "password": "{PASSWORD}"}}"#);
    let head = format!("POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    let headers = b"content-type: application/json\r\nx-forwarded-for: \xfc, 198.51.100.1\r\n";
    let user_agent = b"user-agent: B\xc3\xbccher/1 \xfc\r\n";
    let request = [head.as_bytes(), headers, user_agent, b"\r\n", body.as_bytes()].concat();
    assert_eq!(send(&mut site.connect(7).await, &request).await, 200);
    let pair = log_in(&site.auth, "ann@example.com").await.expect("logged in");
    let request = bearer(&pair.access_token, ListMySecurityEventsRequest::default());
    let events = AccountServiceClient::new(site.auth.clone()).list_my_security_events(request).await;
    let events = events.expect("listed").into_inner().events;
    let clients: Vec<_> = events.iter().map(|event| (&event.ip_address[..], &event.user_agent[..])).collect();
    assert_eq!(clients[1], ("127.0.1.7", "Bücher/1 \u{fffd}"), "{clients:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_show_the_client_behind_a_reverse_proxy() {
    tokio::join!(
        async {
            assert_client_is_seen(Site::separate(&[]).await).await;
        },
        async {
            assert_client_is_seen(Site::all_in_one(&[]).await).await;
        },
    );
}
