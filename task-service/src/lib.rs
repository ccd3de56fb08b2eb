//! The task service: tasks and task lists, visible only to their owners.
//!
//! # Layout
//! Each module imports only modules after it.
//! - [`command`]: the subcommands. [`doctor`]: checks settings, files and the database. [`recovery`]: prepares restored
//!   databases. [`config`]: the settings.
//! - `service`: one method per RPC: parse, execute, respond.
//! - `transfer`: files with tasks.
//! - `reminders`: fires reminders.
//! - `webhooks`: sends changes to the receivers of webhooks.
//! - `watch`: streams of changes, and notifications of changes.
//! - `jobs`: the purge of deleted tasks, and the cleanup of deleted accounts, with their SQL, and the
//!   changes of accounts.
//! - `store`: the SQL of calls, with the owner in every `where`.
//! - `page`: pages of `ListTasks` and `ListTaskHistory`.
//! - `request`: parses messages into types that cannot be invalid. `response`: converts rows to messages.
//! - `model`: the types of tasks, lists, histories, filters and orders, and the logic of writes, without I/O.
//! - `error`: the errors of this service.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use service_kit::{
    auth::{
        call_limit::CallLimit,
        credential::LocalGateway,
        interceptor::Authenticator,
        personal_access_token::{
            cache::PersonalAccessTokens,
            remote::{ProxiedClients, RemoteExchange},
        },
        protected::Protected,
        revocation::{
            RevocationView,
            follow::{Follower, report},
        },
    },
    clock::Clock,
    db::{Db, Searches},
    epoch::CurrentEpoch,
    ops::{
        config::{LimitArgs, OnOff},
        metrics,
        shutdown::Shutdown,
    },
    page::PageTokens,
    random,
    rate_limit::RateLimit,
    server::{GrpcServer, connection::Listener, health::HealthReport},
    trace::ServicePeers,
    turns::TurnQueue,
};
use sqlx::migrate::Migrator;
use taskey_proto::task::v1::{
    task_list_service_server::TaskListServiceServer, task_service_server::TaskServiceServer,
    webhook_service_server::WebhookServiceServer,
};
use tokio::sync::watch::channel as watch_channel;
use tonic::transport::Endpoint;

pub mod command;
pub mod config;
pub mod doctor;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod jobs;
mod model;
mod page;
pub mod recovery;
mod reminders;
mod request;
mod response;
mod service;
mod store;
mod transfer;
mod watch;
mod webhooks;

use config::{Config, TaskArgs};
use jobs::{account_cleanup::AccountCleanup, purge};
use reminders::Reminders;
use service::{App, lists::Lists, tasks::Tasks, webhooks::Webhooks};
use store::{owner_queue::OwnerQueue, read_groups::TaskReads, write_groups::TaskWrites};
use transfer::limit::TransferLimit;
use watch::{Watches, sync_page::ChangeReader};
use webhooks::{dispatcher::Dispatcher, secrets::WebhookSecrets, sender::Sender};

/// The migrations, which both engines share.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// Default timeout of calls.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of exports at a time. Each needs up to 5 MB.
const MAX_EXPORTS: usize = 16;

/// Maximum number of imports at a time. Each needs up to 100 MiB in the folder for temporary files, and a few MB of memory.
const MAX_IMPORTS: usize = 4;

/// Opens the service, and serves until `shutdown`.
///
/// # Errors
/// Those of [`Server::open`] and [`Server::serve`].
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

/// The opened service, before it serves.
pub struct Server {
    db: Db,
    owner_queue: OwnerQueue,
    row_rate_limit: Arc<RateLimit>,
    clock: Clock,
    page_tokens: PageTokens,
    authenticator: Authenticator,
    follower: Follower,
    account_cleanup: Arc<AccountCleanup>,
    tasks: TaskArgs,
    rate_limits: OnOff,
    limits: LimitArgs,
    health: HealthReport,
    /// The gateway, if it runs in this process.
    gateway: Option<Arc<dyn ServicePeers>>,
    webhook_sender: Arc<Sender>,
}

impl Server {
    /// Reads the keys and opens the database.
    ///
    /// # Errors
    /// If a key file or the database is not usable. The database of a newer program is not changed.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let dialer = config.upstream.open(config.auth_url.iter().map(Endpoint::uri), &clock).await?;
        let (keys, credential) = config.verifier.open(&config.tokens, &clock).await?;
        let db = config.database.open(config.migrations.migrate).await?;
        let webhook_secrets = WebhookSecrets::new(config.webhook_keys()?);
        let webhook_sender = Arc::new(Sender::new(webhook_secrets, &config.tasks.webhooks, clock.clone()));
        let key = store::page_token_key(&db, &random::bytes()).await.context("cannot read the page token key")?;
        let peers = config.peers();
        let epoch = store::epoch::open(&db, random::id()).await.context("cannot read the epoch of the database")?;
        let view = Arc::new(RevocationView::new(config.tasks.revocation_max_staleness, clock.clone()));
        let row_rate_limit = Arc::new(RateLimit::new(config.tasks.row_rate, clock.clone()));
        let account_cleanup = Arc::new(AccountCleanup::new(db.clone(), clock.clone()));
        let user_changes = Some(Arc::clone(&account_cleanup) as Arc<_>);
        let call_limit = CallLimit::new(config.call_rate, config.rate_limits, clock.clone());
        let gateway = config.gateway.map(|key| Arc::new(LocalGateway::new(key)) as Arc<dyn ServicePeers>);
        let exchange = RemoteExchange::new(credential.clone(), &peers, &dialer, clock.clone());
        let clients = ProxiedClients::new(config.limits.proxies.clone(), gateway.clone());
        let personal_access_tokens = PersonalAccessTokens::new(Arc::new(exchange), Arc::new(clients), clock.clone());
        let authenticator = Authenticator::new(Arc::clone(&keys), config.tokens, Arc::clone(&view), clock.clone())
            .with_call_limit(call_limit)
            .with_personal_access_tokens(Arc::new(personal_access_tokens));
        Ok(Self {
            authenticator,
            follower: Follower { view, keys, user_changes, credential, peers, dialer },
            account_cleanup,
            owner_queue: OwnerQueue::new(config.database.pool.database_timeout, Arc::clone(&row_rate_limit)),
            row_rate_limit,
            page_tokens: PageTokens::new(&key, CurrentEpoch::new(epoch)),
            tasks: config.tasks,
            rate_limits: config.rate_limits,
            limits: config.limits,
            health: config.health,
            gateway,
            webhook_sender,
            db,
            clock,
        })
    }

    /// Serves until `shutdown`, then drains. All of its tasks have ended when it returns.
    ///
    /// # Errors
    /// If the listener is not usable.
    pub async fn serve(self, listener: impl Into<Listener>, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
        let Self {
            db,
            owner_queue,
            row_rate_limit,
            clock,
            authenticator,
            follower,
            account_cleanup,
            limits,
            health,
            gateway,
            tasks,
            rate_limits,
            page_tokens,
            webhook_sender,
        } = self;
        let (max_in, max_out) = (limits.max_request_bytes, limits.max_response_bytes);
        let watches = Arc::new(Watches::new(db.clone(), page_tokens.epoch().clone()));
        let changes =
            ChangeReader { db: db.clone(), clock: clock.clone(), tokens: page_tokens.clone(), max_bytes: max_out };
        let reminders = Arc::new(Reminders::new(db.clone(), clock.clone(), Arc::clone(&watches)));
        let searches = Searches::new(db.clone(), clock.clone(), rate_limits);
        let app = Arc::new(App {
            db: db.clone(),
            reads: TaskReads::new(db.clone()),
            writes: TaskWrites::new(db.clone()),
            searches: searches.clone(),
            owner_queue,
            clock: clock.clone(),
            authenticator: authenticator.clone(),
            changes: changes.clone(),
            page_tokens,
            watches: Arc::clone(&watches),
            reminders: Arc::clone(&reminders),
            row_rate_limit,
            rate_limits,
            purge_after: tasks.purge_after,
            max_tasks: tasks.max_tasks,
            max_lists: tasks.max_lists,
            max_response_bytes: max_out,
            exports: TransferLimit::new("exports", MAX_EXPORTS),
            imports: TransferLimit::new("imports", MAX_IMPORTS),
        });
        let task_service = TaskServiceServer::new(Tasks(Arc::clone(&app)))
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let list_service = TaskListServiceServer::new(Lists(Arc::clone(&app)))
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let webhook_service = WebhookServiceServer::new(Webhooks::new(app, Arc::clone(&webhook_sender)))
            .max_decoding_message_size(max_in)
            .max_encoding_message_size(max_out);
        let dispatcher = Arc::new(Dispatcher {
            db: db.clone(),
            clock: clock.clone(),
            watches: Arc::clone(&watches),
            changes,
            searches,
            turns: TurnQueue::default(),
            sender: webhook_sender,
        });

        let (ready, is_ready) = watch_channel(false);
        let (healthy, is_healthy) = watch_channel(true);
        let server = GrpcServer::new("task", limits, REQUEST_TIMEOUT)
            .with_health(health)
            .with_service_peers(gateway)
            .with_condition("clock", follower.view.clock_in_sync())
            .with(Protected::new(task_service, authenticator.clone())?)
            .with(Protected::new(list_service, authenticator.clone())?)
            .with(Protected::new(webhook_service, authenticator)?)
            .serve(listener, is_ready, shutdown);
        let background = async {
            tokio::join!(
                follower.run(),
                report("task", Arc::clone(&follower.view), [is_healthy], ready),
                db.watch_health(healthy),
                purge::run(&db, &clock),
                account_cleanup.run(),
                watches.run(),
                dispatcher.run(),
                reminders.run(),
                follower.keys.follow(),
                metrics::sample(|| {
                    db.record_metrics("task");
                    follower.view.record_metrics("task");
                    watches.record_metrics();
                }),
            )
        };
        // Not spawned, so that the background work ends with the server.
        let served = tokio::select! {
            served = server => served,
            _ = background => Err(anyhow::anyhow!("the background work has ended")),
        };
        db.close().await;
        served
    }
}
