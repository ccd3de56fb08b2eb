//! Accounts, sessions and access tokens over gRPC.
//!
//! # Layout
//! - [`config`]: the settings. [`command`]: the sub-commands.
//! - `service`: the RPCs; `app` is what they share, `error` how they refuse, `origin` where a call comes from, `limits` how
//!   often it may.
//! - `model`: e-mail addresses, passwords, users, sessions, refresh tokens.
//! - `store`: every SQL statement.
//! - `verifier`: which services may ask about tokens. `hashing`: password hashes. `feed`: the feed of revocations. `purge`: removes what has ended.

use std::{sync::Arc, time::Duration};

use service_kit::{
    clock::Clock,
    config::LimitArgs,
    db::Db,
    interceptor::Authenticator,
    key_source::{KeySource, Purpose},
    page::PageTokens,
    revocation::follow,
    secret_file,
    server::GrpcServer,
};
use sqlx::migrate::Migrator;
use taskey_proto::auth::v1::{
    account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
    auth_service_server::AuthServiceServer, token_service_server::TokenServiceServer,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

mod app;
mod bench;
pub mod command;
pub mod config;
mod error;
mod feed;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hashing;
mod limits;
mod model;
mod origin;
mod purge;
mod roles;
mod secrets;
mod service;
mod store;
mod verifier;

use app::App;
use config::{Config, DatabaseArgs, SecretArgs};
use feed::Feed;
use hashing::Hashing;
use limits::AddressLimits;
use model::refresh_token::RefreshKey;
use origin::ClientInfoResolver;
use service::{account::AccountService, admin::AdminService, auth::AuthService, token::TokenService};

/// How long a call may take, unless the settings say otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Opens and serves until `shutdown`.
///
/// # Errors
/// As [`Server::open`] and [`Server::serve`].
pub async fn run(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    match shutdown.run_until_cancelled(Server::open(config, clock)).await {
        Some(opened) => opened?.serve(listener, shutdown).await,
        None => Ok(()),
    }
}

/// Looks whether the database is usable, and changes nothing.
///
/// # Errors
/// If it cannot be reached, is damaged, or its tables are not those of this program.
pub async fn inspect(config: &Config) -> anyhow::Result<()> {
    let DatabaseArgs { database_url, schema, .. } = &config.database;
    Db::inspect(database_url, schema, &MIGRATIONS).await
}

/// The service with all that it needs, before it serves.
pub struct Server {
    app: Arc<App>,
    secrets: SecretArgs,
    limits: LimitArgs,
}

impl Server {
    /// Reads the secrets, opens the database and learns what has been revoked.
    ///
    /// # Errors
    /// If a setting, a key file or the database is not usable. A database that is damaged or newer is left as it is.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        // What is read comes before what is written.
        let args = &config.secrets;
        let keys = Arc::new(KeySource::file(&args.keys.key_file, Purpose::Sign, clock.clone())?);
        secret_file::read_key(&args.refresh_secret_file())?;
        let hashing = Hashing::new(&config.passwords)?;
        let db = config.database.open().await?;
        let refresh_key = RefreshKey::new(&secrets::refresh_secret(&db, args).await?);
        if let Some(keys) = keys.current() {
            secrets::check(&db, args, &refresh_key, &keys).await?;
        }
        let feed = Feed::open(db.reserved(), &clock).await?;
        let app = App {
            authenticator: Authenticator::new(Arc::clone(&keys), config.tokens.clone(), feed.view(), clock.clone()),
            page_tokens: PageTokens::new(&refresh_key.page_token_key()),
            address_limits: AddressLimits::new(&config.rates, &clock),
            rate_limits: config.rates.rate_limits,
            origins: ClientInfoResolver::new(config.proxies, config.gateway.as_ref()),
            password_min_length: config.passwords.password_min_length.into(),
            refresh_key,
            tokens: config.tokens,
            sessions: config.sessions,
            db,
            clock,
            hashing,
            keys,
            feed,
        };
        Ok(Self { app: Arc::new(app), secrets: config.secrets, limits: config.limits })
    }

    /// Serves until `shutdown`, then drains. Nothing of it is left behind.
    ///
    /// # Errors
    /// If the listener is not usable.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { app, secrets: secret_args, limits } = self;
        let (max_in, max_out) = (limits.max_request_bytes, limits.max_response_bytes);
        let auth = AuthServiceServer::new(AuthService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let account = AccountServiceServer::new(AccountService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let admin = AdminServiceServer::new(AdminService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let token = TokenServiceServer::new(TokenService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let (ready, is_ready) = watch::channel(false);
        let (healthy, is_healthy) = watch::channel(true);
        let server = GrpcServer::new("auth", limits, REQUEST_TIMEOUT)
            .with(auth)
            .with(InterceptedService::new(account, app.authenticator.clone()))
            .with(InterceptedService::new(admin, app.authenticator.clone()))
            .with(token)
            .serve(listener, is_ready, shutdown);
        let beside = async {
            tokio::join!(
                app.feed.run(),
                follow::report("auth", app.feed.view(), is_healthy, ready),
                app.db.watch_health(healthy),
                secrets::follow(&app.db, &secret_args, &app.refresh_key, &app.keys),
                purge::run(&app.db, &app.clock),
                app.keys.follow(),
            )
        };
        // All in one task, so that nothing outlives the server.
        let served = tokio::select! {
            served = server => served,
            _ = beside => Err(anyhow::anyhow!("the work beside the server has ended")),
        };
        app.db.close().await;
        served
    }
}
