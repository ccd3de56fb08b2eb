//! Accounts, sessions and access tokens over gRPC.
//!
//! # Layout
//! A call passes through these modules from top to bottom. Each module imports only those after it.
//! - [`command`]: the subcommands; `bench`: the cost of password hashes; [`recovery`]: prepares restored databases;
//!   [`doctor`]: checks settings, files and the database.
//! - `service`: one method per RPC. `caller`, `verifier`: authenticate users and verifiers. `app`: the state that the
//!   services share.
//! - `roles`: changes the roles of an account.
//! - `passkeys`: registers passkeys. `factors`: second factors. `factor_keys`: encrypts their secrets with the current key. `qr_code`: QR codes as SVG.
//! - `actions`: what the links and codes in mails do. `mail`: mails to users.
//! - `oauth`: service accounts and devices as the clients of OAuth 2.0, and their tokens.
//! - `login`: passwords, sessions and their tokens. `client_info`: determines the client of a call. `service_tokens`:
//!   the service tokens in memory.
//! - `personal_access_tokens`: exchanges personal access tokens for their claims.
//! - `feed`: the feed of revocations. `purge`: deletes expired rows.
//! - `refresh_secrets`: the secrets of refresh tokens, and their rotation. `secrets`: checks that the secrets belong to the database. [`config`]: the settings.
//! - `store`: every SQL statement.
//! - `response`: rows turned into messages.
//! - `model`: the domain types, such as email addresses, passwords and sessions.
//! - `webauthn`: verifies the responses of passkeys.
//! - `error`: the errors of the API.

use std::{sync::Arc, time::Duration};

use service_kit::{
    auth::{
        call_limit::CallLimit,
        interceptor::Authenticator,
        key_source::{KeySource, Purpose},
        personal_access_token::cache::PersonalAccessTokens,
        protected::Protected,
        revocation::follow,
    },
    clock::Clock,
    db::{Db, Searches},
    ops::{config::LimitArgs, metrics, shutdown::Shutdown},
    page::PageTokens,
    server::{GrpcServer, connection::Listener, health::HealthReport},
};
use sqlx::migrate::Migrator;
use taskey_proto::auth::v1::{
    account_service_server::AccountServiceServer, admin_service_server::AdminServiceServer,
    auth_service_server::AuthServiceServer, device_authorization_service_server::DeviceAuthorizationServiceServer,
    factor_service_server::FactorServiceServer, o_auth_service_server::OAuthServiceServer,
    personal_access_token_service_server::PersonalAccessTokenServiceServer, token_service_server::TokenServiceServer,
};
use tokio::sync::watch;

mod actions;
mod app;
mod bench;
mod caller;
mod client_info;
pub mod command;
pub mod config;
pub mod doctor;
mod error;
mod factor_keys;
mod factors;
mod feed;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod login;
mod mail;
mod model;
mod oauth;
mod passkeys;
mod personal_access_tokens;
mod purge;
mod qr_code;
pub mod recovery;
mod refresh_secrets;
mod response;
mod roles;
mod secrets;
mod service;
mod service_tokens;
mod store;
mod verifier;
mod webauthn;

use actions::Actions;
use app::App;
use client_info::ClientInfoResolver;
use config::{Config, SecretArgs};
use factors::Factors;
use feed::{Feed, FeedHandle};
use login::{
    address_limits::AddressLimits, attempts::PasswordAttempts, hashing::Hashing, passkeys::Passkeys,
    sessions::Sessions, token_issuer::TokenIssuer,
};
use mail::Mailer;
use oauth::{
    actor_sessions::ActorSessions,
    audiences::Audiences,
    grants::{AccountLimit, OAuth, RecordedExchanges},
};
use passkeys::PasskeyRegistrations;
use personal_access_tokens::TokenExchange;
use refresh_secrets::{RefreshKeySource, SecretFile};
use service::{
    account::AccountService, admin::AdminService, auth::AuthService, device_authorization::DeviceAuthorizationService,
    factor::FactorService, oauth::OAuthService, personal_access_token::PersonalAccessTokenService, token::TokenService,
};
use service_tokens::ServiceTokens;
use store::installation;
use webauthn::relying_party::RelyingParty;

/// Default timeout of calls.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Opens the service and serves until `shutdown`.
///
/// # Errors
/// As [`Server::open`] and [`Server::serve`].
pub async fn run(
    config: Config,
    clock: Clock,
    listener: impl Into<Listener>,
    shutdown: impl Into<Shutdown>,
) -> anyhow::Result<()> {
    let shutdown = shutdown.into();
    match shutdown.announced.run_until_cancelled(Server::open(config, clock)).await {
        Some(opened) => opened?.serve(listener, shutdown).await,
        None => Ok(()),
    }
}

/// Checks that the server can use the database, and changes nothing.
///
/// # Errors
/// If it cannot be reached, is no database, or its tables are not usable.
pub async fn inspect(config: &Config) -> anyhow::Result<()> {
    config.database.service_database().check(config.migrations.migrate).await
}

/// What the parts of the service share.
struct Opened {
    clock: Clock,
    db: Db,
    keys: Arc<KeySource>,
    refresh_keys: Arc<RefreshKeySource>,
    hashing: Hashing,
    feed: FeedHandle,
    page_tokens: PageTokens,
    audiences: Audiences,
}

/// The opened service, before it serves.
pub struct Server {
    app: Arc<App>,
    secrets: SecretArgs,
    limits: LimitArgs,
    health: HealthReport,
}

impl Server {
    /// Reads the secrets, opens the database and reads the revocations.
    ///
    /// # Errors
    /// If a setting, a key file or the database is not usable. A newer database is not changed.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        // Files are read before anything is written.
        let args = &config.secrets;
        let keys = Arc::new(KeySource::file(&args.keys.key_file, Purpose::Sign, clock.clone())?);
        SecretFile::read(&args.refresh_secret_file())?;
        let hashing = Hashing::new(&config.passwords)?;
        let audiences = Audiences::new(&config.tokens, &config.exchange)?;
        let db = config.database.open(config.migrations.migrate).await?;
        let refresh_secrets = secrets::refresh_secrets(&db, args).await?;
        let refresh_keys = Arc::new(RefreshKeySource::new(args.refresh_secret_file(), &refresh_secrets));
        if let Some(keys) = keys.current() {
            secrets::check(&db, args, &refresh_keys.current(), &keys).await?;
        }
        let derived_key = refresh_keys.current().first().page_token_key();
        let page_token_key = installation::page_token_key(&db, &derived_key).await?;
        let feed = Feed::open(db.for_feed(), &clock).await?;
        let page_tokens = PageTokens::new(&page_token_key, feed.epoch());
        Self::assemble(config, Opened { clock, db, keys, refresh_keys, hashing, feed, page_tokens, audiences })
    }

    /// Creates the parts of the service.
    fn assemble(config: Config, opened: Opened) -> anyhow::Result<Self> {
        let Opened { clock, db, keys, refresh_keys, hashing, feed, page_tokens, audiences } = opened;
        let rate_limits = config.rates.rate_limits;
        let call_limit = CallLimit::new(config.call_rate, rate_limits, clock.clone());
        let passwords = Arc::new(PasswordAttempts::new(db.clone(), clock.clone(), hashing, rate_limits));
        let issuer = Arc::new(TokenIssuer {
            clock: clock.clone(),
            keys,
            token_args: config.tokens.clone(),
            access_token_ttl: config.sessions.access_token_ttl,
            refresh_keys,
        });
        let mailer = Arc::new(Mailer::open(&config, &db, &clock, &issuer.refresh_keys)?);
        let password_min_length = config.passwords.password_min_length.into();
        let actions = Actions {
            db: db.clone(),
            clock: clock.clone(),
            feed: feed.clone(),
            passwords: Arc::clone(&passwords),
            issuer: Arc::clone(&issuer),
            mailer: Arc::clone(&mailer),
            password_min_length,
        };
        let factors = Factors {
            db: db.clone(),
            clock: clock.clone(),
            passwords: Arc::clone(&passwords),
            issuer: Arc::clone(&issuer),
            mailer: Arc::clone(&mailer),
        };
        let passkeys = Arc::new(Passkeys {
            db: db.clone(),
            clock: clock.clone(),
            issuer: Arc::clone(&issuer),
            mailer: Arc::clone(&mailer),
            site: config.public_url.as_ref().and_then(RelyingParty::new),
        });
        let registrations = PasskeyRegistrations { passkeys: Arc::clone(&passkeys), mailer: Arc::clone(&mailer) };
        let step_up_max_age = config.sessions.step_up_max_age;
        let sessions = Sessions {
            db: db.clone(),
            clock: clock.clone(),
            feed: feed.clone(),
            passwords: Arc::clone(&passwords),
            issuer: Arc::clone(&issuer),
            passkeys,
            args: config.sessions,
            mailer: Arc::clone(&mailer),
            requires_verified_email: config.mail.require_verified_email,
        };
        let service_tokens = Arc::new(ServiceTokens::new(db.clone(), clock.clone(), config.gateway.as_ref()));
        let clients =
            ClientInfoResolver::new(clock.clone(), config.limits.proxies.clone(), Arc::clone(&service_tokens));
        let (clients, token_exchange) = (Arc::new(clients), Arc::new(TokenExchange::new(db.clone(), clock.clone())));
        let personal_access_tokens =
            PersonalAccessTokens::new(Arc::clone(&token_exchange) as _, Arc::clone(&clients) as _, clock.clone());
        let (keys, token_args) = (Arc::clone(&issuer.keys), issuer.token_args.clone());
        let authenticator = Authenticator::new(keys, token_args, feed.view(), clock.clone())
            .with_call_limit(call_limit.clone())
            .with_personal_access_tokens(Arc::new(personal_access_tokens));
        let oauth = OAuth {
            db: db.clone(),
            clock: clock.clone(),
            authenticator: authenticator.clone().with_audiences(audiences.further()),
            audiences,
            issuer: Arc::clone(&issuer),
            passwords: Arc::clone(&passwords),
            call_limit: call_limit.clone(),
            token_limit: AccountLimit::client_tokens(rate_limits, &clock),
            user_code_limit: AccountLimit::user_codes(rate_limits, &clock),
            actor_sessions: ActorSessions::new(db.clone(), clock.clone()),
            recorded_exchanges: RecordedExchanges::default(),
            public_url: config.public_url,
        };
        let app = App {
            searches: Searches::new(db.clone(), clock.clone(), rate_limits),
            clients,
            token_exchange,
            service_tokens,
            address_limits: AddressLimits::new(&config.rates, &clock),
            password_min_length,
            db,
            clock,
            authenticator,
            call_limit,
            passwords,
            sessions,
            issuer,
            feed,
            page_tokens,
            mailer,
            actions,
            factors,
            passkeys: registrations,
            step_up_max_age,
            oauth,
        };
        Ok(Self { app: Arc::new(app), secrets: config.secrets, limits: config.limits, health: config.health })
    }

    /// Serves until `shutdown`, then drains. No task outlives this call.
    ///
    /// # Errors
    /// If the listener is not usable.
    pub async fn serve(self, listener: impl Into<Listener>, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
        let Self { app, secrets: secret_args, limits, health } = self;
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
        let device_authorization =
            DeviceAuthorizationServiceServer::new(DeviceAuthorizationService { app: Arc::clone(&app) })
                .max_decoding_message_size(max_in)
                .max_encoding_message_size(max_out);
        let factor = FactorServiceServer::new(FactorService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let personal_access_token =
            PersonalAccessTokenServiceServer::new(PersonalAccessTokenService { app: Arc::clone(&app) })
                .max_decoding_message_size(max_in)
                .max_encoding_message_size(max_out);
        let oauth = OAuthServiceServer::new(OAuthService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let token = TokenServiceServer::new(TokenService { app: Arc::clone(&app) })
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let (ready, is_ready) = watch::channel(false);
        let (healthy, is_healthy) = watch::channel(true);
        let server = GrpcServer::new("auth", limits, REQUEST_TIMEOUT)
            .with_health(health)
            .with_service_peers(Some(Arc::clone(&app.service_tokens) as _))
            .with(auth)
            .with(Protected::new(account, app.authenticator.clone())?)
            .with(Protected::new(admin, app.authenticator.clone())?)
            .with(Protected::new(device_authorization, app.authenticator.clone())?)
            .with(Protected::new(factor, app.authenticator.clone())?)
            .with(Protected::new(personal_access_token, app.authenticator.clone())?)
            .with(token)
            .with(oauth)
            .serve(listener, is_ready, shutdown);
        let background_tasks = async {
            tokio::join!(
                app.feed.run(),
                follow::report("auth", app.feed.view(), [is_healthy, app.feed.consistency()], ready),
                app.db.watch_health(healthy),
                secrets::follow(&app.db, &secret_args, &app.issuer.refresh_keys, &app.issuer.keys),
                app.issuer.refresh_keys.follow(),
                factor_keys::follow(&app.db, &app.clock, &app.issuer.refresh_keys),
                purge::run(&app.db, &app.clock),
                app.passwords.hashing.free_idle_memory(),
                app.issuer.keys.follow(),
                app.service_tokens.run(),
                app.mailer.run(),
                metrics::sample(|| app.record_metrics()),
            )
        };
        // All run in the task of the server, so that none outlives it.
        let served = tokio::select! {
            served = server => served,
            _ = background_tasks => Err(anyhow::anyhow!("the background tasks have ended")),
        };
        app.db.close().await;
        served
    }
}
