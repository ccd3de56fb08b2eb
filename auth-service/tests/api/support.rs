//! Starts auth-service for tests, and calls its RPCs and its commands.

use std::{net::SocketAddr, process::Command, sync::Arc, time::Duration};

use auth_service::config::Config;
use clap::Parser;
use service_kit::{
    args,
    auth::{
        credential::Credential,
        key_source::{KeySource, Purpose},
    },
    clock::Clock,
    db::{Db, Migrate, PoolArgs, QueryBuilder},
    ops::config::TokenArgs,
    testing::{ManualClock, TestDatabase, clock, listen},
};
use taskey_proto::auth::v1::{
    DeleteMeRequest, GetMeRequest, ListDeletedUsersRequest, ListDeletedUsersResponse, LoginRequest, LogoutRequest,
    LogoutResponse, RefreshRequest, SignUpRequest, TokenPair, User, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient, token_service_client::TokenServiceClient,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};

pub const PASSWORD: &str = "correct horse battery staple";

/// The options of the server, parsed as the program parses them.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

/// A running server. Its clock advances only through `manual_clock`.
pub struct Server {
    pub address: SocketAddr,
    pub channel: Channel,
    pub clock: Clock,
    pub manual_clock: ManualClock,
    pub database: TestDatabase,
    shutdown: CancellationToken,
    join_handle: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub async fn start(database: TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts a server with these flags, which may include those of TLS.
    pub async fn start_with(database: TestDatabase, flags: &[&str]) -> Self {
        let (clock, manual_clock) = clock();
        let config = config(&database, flags);
        let tls = config.tls.open(&clock).await.expect("usable files");
        let listener = listen(&config.limits, tls).await;
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let join_handle = tokio::spawn(auth_service::run(config, clock.clone(), listener, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
        Self { address, channel, clock, manual_clock, database, shutdown, join_handle }
    }

    /// Stops the server and returns its database.
    pub async fn stop(self) -> TestDatabase {
        self.shutdown.cancel();
        self.join_handle.await.expect("the server does not panic").expect("the server stops without an error");
        self.database
    }

    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    pub fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    pub fn token(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
    }

    pub async fn sign_up(&self, email: &str) -> Result<User, Status> {
        let request = SignUpRequest { email: email.into(), password: PASSWORD.into(), display_name: String::new() };
        self.auth().sign_up(request).await.map(tonic::Response::into_inner)
    }

    pub async fn login(&self, email: &str, password: &str) -> Result<TokenPair, Status> {
        let request = LoginRequest { email: email.into(), password: password.into(), ..LoginRequest::default() };
        self.auth().login(request).await.map(tonic::Response::into_inner)
    }

    /// Signs up a user and logs in.
    pub async fn sign_up_and_login(&self, email: &str) -> TokenPair {
        self.sign_up(email).await.expect("signed up");
        self.login(email, PASSWORD).await.expect("logged in")
    }

    pub async fn refresh(&self, refresh_token: &str) -> Result<TokenPair, Status> {
        let request = RefreshRequest { refresh_token: refresh_token.into() };
        self.auth().refresh(request).await.map(tonic::Response::into_inner)
    }

    pub async fn logout(&self, refresh_token: &str) -> Result<LogoutResponse, Status> {
        let request = LogoutRequest { refresh_token: refresh_token.into(), ..LogoutRequest::default() };
        self.auth().logout(request).await.map(tonic::Response::into_inner)
    }

    pub async fn get_me(&self, access_token: &str) -> Result<User, Status> {
        self.account().get_me(bearer(access_token, GetMeRequest {})).await.map(tonic::Response::into_inner)
    }

    /// Deletes the account of an access token.
    pub async fn delete_me(&self, access_token: &str, password: &str) -> Result<(), Status> {
        let request = DeleteMeRequest { current_password: password.into() };
        self.account().delete_me(bearer(access_token, request)).await.map(|_| ())
    }

    /// Lists deleted accounts as a verifier.
    pub async fn list_deleted_users(&self, after: i64, page_size: i32) -> Result<ListDeletedUsersResponse, Status> {
        let request = verifier_request(self, ListDeletedUsersRequest { after, page_size }).await;
        self.token().list_deleted_users(request).await.map(tonic::Response::into_inner)
    }

    /// Waits until the access token is refused, and returns the error. Other tests check how long that may take.
    pub async fn await_refusal(&self, access_token: &str) -> Status {
        let refused = async {
            loop {
                if let Err(status) = self.get_me(access_token).await {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), refused).await.expect("refused")
    }
}

fn config(database: &TestDatabase, flags: &[&str]) -> Config {
    let key_file = database.key_file();
    let key_file = ["--key-file", key_file.to_str().expect("UTF-8")];
    let key_file = if flags.contains(&"--key-file") { &[][..] } else { &key_file };
    let has_rate_limits = flags.iter().any(|flag| ["--rate-limits", "--login-rate"].contains(flag));
    let rate_limits = if has_rate_limits { &[][..] } else { &["--rate-limits", "off"] };
    let common = ["auth-service", "--database-url", database.url()];
    let time_limits = missing_time_limits(flags);
    Cli::parse_from(common.iter().chain(key_file).chain(rate_limits).chain(&time_limits).chain(flags)).config
}

/// Returns the flags of the time limits that are not set. PostgreSQL serves many tests at the same time, so that it does not
/// always respond within the limits of production.
fn missing_time_limits(flags: &[&str]) -> Vec<&'static str> {
    let names = ["--database-timeout", "--request-timeout"];
    names.into_iter().filter(|name| !flags.contains(name)).flat_map(|name| [name, "15s"]).collect()
}

/// A second replica, on the database of the first.
pub struct Replica {
    pub channel: Channel,
    shutdown: CancellationToken,
    join_handle: JoinHandle<anyhow::Result<()>>,
}

/// Starts a second replica, which shares only the database and the secrets with the first.
pub async fn start_replica(server: &Server) -> Replica {
    start_replica_with(server, clock().0, &[]).await
}

/// Starts two replicas with these flags, which share a database and a clock.
pub async fn start_two(database: TestDatabase, flags: &[&str]) -> (Server, Replica) {
    let server = Server::start_with(database, flags).await;
    let replica = start_replica_with(&server, server.clock.clone(), flags).await;
    (server, replica)
}

/// Starts a second replica with these flags and this clock, which may be that of the first.
pub async fn start_replica_with(server: &Server, clock: Clock, flags: &[&str]) -> Replica {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let shutdown = CancellationToken::new();
    let config = config(&server.database, flags);
    let join_handle = tokio::spawn(auth_service::run(config, clock, listener, shutdown.clone()));
    Replica { channel: Channel::from_shared(url).expect("a URL").connect_lazy(), shutdown, join_handle }
}

impl Replica {
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    pub fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.join_handle.await.expect("the server does not panic").expect("the server stops without an error");
    }
}

/// Creates a request with an access token.
pub fn bearer<T>(access_token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {access_token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Runs the program next to the server. Returns whether it succeeded, its standard output and its standard error.
pub fn run_program(database: &TestDatabase, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .args(arguments)
        .env("TASKEY_DATABASE_URL", database.url())
        .output()
        .expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Issues a service token.
pub fn issue_service_token(database: &TestDatabase, name: &str) -> String {
    let (succeeded, token, error) = run_program(database, &["tokens", "issue-service", name]);
    assert!(succeeded && error.is_empty(), "{error}");
    token.strip_suffix('\n').expect("one line").to_owned()
}

/// Returns the id of the user who logged in.
pub fn user_id(pair: &TokenPair) -> String {
    pair.user.as_ref().expect("login returns the user").id.clone()
}

/// Creates a request from a verifier that has the shared key and the clock of the server.
pub async fn verifier_request<T>(server: &Server, message: T) -> Request<T> {
    let (key_file, clock) = (server.database.key_file(), server.clock.clone());
    let keys = Arc::new(KeySource::file(&key_file, Purpose::Sign, clock.clone()).expect("keys"));
    let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    Credential::SelfSigned { keys, names: token_args, clock }.sign(message).await.expect("signed")
}

/// Executes a statement directly on the database.
pub async fn execute(database: &TestDatabase, sql: impl Into<String>) {
    let sql = QueryBuilder::new(sql.into()).build().0;
    let db = open(database).await;
    db.execute(sql, args![]).await.expect("the statement succeeds");
}

/// Queries the database directly, and returns the text in the only column of the only row.
pub async fn query_string(database: &TestDatabase, sql: &'static str) -> String {
    let db = open(database).await;
    db.fetch_optional(sql, args![]).await.expect("the query succeeds").expect("there is a row")
}

async fn open(database: &TestDatabase) -> Db {
    #[derive(Parser)]
    struct Pool {
        #[command(flatten)]
        args: PoolArgs,
    }
    // Some statements insert many rows.
    let args = Pool::parse_from(["", "--database-timeout", "60s"]).args;
    Db::open(&database.parsed_url(), "auth", &sqlx::migrate!(), Migrate::Always, &args)
        .await
        .expect("the database opens")
}
