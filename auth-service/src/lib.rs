//! Accounts, sessions and access tokens over gRPC.
//!
//! # Layout
//! - [`config`]: the settings. [`command`]: the sub-commands.
//! - `service`: the RPCs; `app` is what they share, `error` how they refuse, `origin` where a call comes from.
//! - `model`: e-mail addresses, passwords, users, sessions, refresh tokens.
//! - `store`: every SQL statement.
//! - `hashing`: password hashes. `feed`: the feed of revocations. `purge`: removes what has ended.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use service_kit::{
    clock::Clock, db::Db, interceptor::Authenticator, keys::KeySet, revocation::follow, secret_file, server::GrpcServer,
};
use sqlx::migrate::Migrator;
use taskey_proto::auth::v1::{
    account_service_server::AccountServiceServer, auth_service_server::AuthServiceServer,
    token_service_server::TokenServiceServer,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

mod app;
pub mod command;
pub mod config;
mod error;
mod feed;
mod hashing;
mod model;
mod origin;
mod purge;
mod service;
mod store;

use app::App;
use config::Config;
use feed::Feed;
use hashing::Hashing;
use model::refresh_token::RefreshKey;
use service::{account::AccountService, auth::AuthService, token::TokenService};

/// How long a call may take, unless the settings say otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Serves until `shutdown`.
///
/// # Errors
/// If a setting, a key file or the database is not usable; nothing has been changed then.
pub async fn run(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let secrets = Secrets::read(&config)?;
    let db = Db::open(&config.database_url, "auth", &MIGRATIONS, &config.pool).await?;
    let served = async {
        let app = Arc::new(secrets.into_app(&config, clock, db.clone()).await?);
        serve(config, app, listener, shutdown).await
    };
    let served = served.await;
    db.close().await;
    served
}

/// What is read before anything is touched.
struct Secrets {
    keys: KeySet,
    hashing: Hashing,
    /// `None` at the first start.
    refresh: Option<secret_file::Key>,
    gateway: Option<secret_file::Key>,
}

impl Secrets {
    fn read(config: &Config) -> anyhow::Result<Self> {
        let gateway = match &config.gateway_secret_file {
            None => config.gateway_secret.clone(),
            Some(file) => {
                let secret = secret_file::read_key(file)?;
                Some(secret.with_context(|| format!("cannot read {}: there is no such file", file.display()))?)
            }
        };
        Ok(Self {
            keys: KeySet::read(&config.keys.key_file)?,
            hashing: Hashing::new(&config.passwords)?,
            refresh: secret_file::read_key(&config.refresh_secret_file())?,
            gateway,
        })
    }

    async fn into_app(self, config: &Config, clock: Clock, db: Db) -> anyhow::Result<App> {
        let refresh = match self.refresh {
            Some(secret) => secret,
            None => secret_file::create_key(&config.refresh_secret_file())?,
        };
        let feed = Feed::open(db.clone(), &clock).await?;
        let keys = Arc::new(self.keys);
        Ok(App {
            authenticator: Authenticator::new(Arc::clone(&keys), config.tokens.clone(), feed.view(), clock.clone()),
            hashing: self.hashing,
            refresh_key: RefreshKey::new(&refresh),
            tokens: config.tokens.clone(),
            sessions: config.sessions.clone(),
            gateway_secret: self.gateway,
            db,
            clock,
            keys,
            feed,
        })
    }
}

async fn serve(
    config: Config,
    app: Arc<App>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (max_in, max_out) = (config.limits.max_request_bytes, config.limits.max_response_bytes);
    let auth = AuthServiceServer::new(AuthService {
        app: Arc::clone(&app),
        password_min_length: config.passwords.password_min_length.into(),
    })
    .max_decoding_message_size(max_in)
    .max_encoding_message_size(max_out);
    let account = AccountServiceServer::new(AccountService { app: Arc::clone(&app) })
        .max_decoding_message_size(max_in)
        .max_encoding_message_size(max_out);
    let token = TokenServiceServer::new(TokenService { app: Arc::clone(&app), shutdown: shutdown.clone() })
        .max_decoding_message_size(max_in)
        .max_encoding_message_size(max_out);
    let server = GrpcServer::new("auth", config.limits, REQUEST_TIMEOUT)
        .with(auth)
        .with(InterceptedService::new(account, app.authenticator.clone()))
        .with(token);

    let (ready, is_ready) = watch::channel(false);
    tokio::select! {
        served = server.serve(listener, is_ready, shutdown) => served,
        () = app.feed.run() => Ok(()),
        () = follow::report(app.feed.view(), ready) => Ok(()),
        () = purge::run(&app.db, &app.clock) => Ok(()),
    }
}
