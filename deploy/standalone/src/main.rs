//! `taskey`: all services in one process; see `--help`.

use std::{process::ExitCode, time::Duration};

use gateway::config::InProcessServices;
use mimalloc::MiMalloc;
use service_kit::{
    auth::keys::KeySet,
    clock::Clock,
    ops::{
        build_info::BuildInfo,
        command_line::parse,
        runtime,
        service_manager::PassedSockets,
        shutdown::{self, Shutdown},
        telemetry,
    },
    server::ops::OpsServer,
    trace::Traces,
};
use tokio_util::sync::CancellationToken;

mod backup;
mod command;
mod config;
mod data_dir;
mod doctor;
mod hint;
mod listen;
mod maintenance;
mod token;
mod users;

use config::{Cli, Configs};
use data_dir::DataDir;
use hint::Hint;
use listen::Listeners;

/// The allocator of glibc keeps freed memory for each thread: after ten minutes of attacks, the gateway had twice the
/// memory of the first minute (`make soak`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    runtime::run(program())
}

async fn program() -> ExitCode {
    match parse::<Cli>() {
        Ok(mut cli) => shutdown::exit_code(match cli.command.take() {
            Some(command) => maintenance::run(command, cli).await,
            None => serve(cli).await,
        }),
        Err(code) => code,
    }
}

/// How long the services may take to close after the gateway has used the whole drain timeout.
const CLOSE_TIME: Duration = Duration::from_secs(1);

async fn serve(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.telemetry)?;
    let shutdown = shutdown::on_signal(&cli.limits)?;
    let mut sockets = PassedSockets::from_environment()?;
    let (build, clock) = (BuildInfo::new("taskey"), Clock::system());
    // Before the certificate is read, because this installs the recorder of metrics.
    let ops = OpsServer::bind(cli.ops, &cli.limits, build, &mut sockets).await?;
    let traces = Traces::start(cli.traces.clone(), &build, &clock).await?;
    let tls = cli.tls.open(&clock).await?;
    let channels = InProcessServices::default();
    let listeners = Listeners::bind(&cli, tls.as_ref(), &channels, &mut sockets).await?;
    sockets.finish()?;
    let (data_dir, key_file, may_create_keys) = (cli.data_dir.clone(), cli.key_file(), cli.key_file.is_none());
    let drain_timeout = cli.limits.drain_timeout;
    let configs = cli.into_configs(channels);
    let health = [
        ("auth", configs.auth.health.clone()),
        ("task", configs.task.health.clone()),
        ("gateway", configs.gateway.health.clone()),
    ];
    let servers = async {
        // Check existing files and databases before creating any.
        if !may_create_keys || key_file.exists() {
            KeySet::read(&key_file, clock.now())?;
        }
        auth_service::inspect(&configs.auth).await?;
        task_service::inspect(&configs.task).await?;
        let _data_dir = DataDir::acquire(&data_dir)?;
        backup::check_complete(&data_dir)?;
        if may_create_keys {
            data_dir::ensure_keys(&key_file)?;
        }
        run(configs, listeners, &shutdown, drain_timeout).await
    };
    traces.flush_after(ops.serve_beside(health, servers)).await
}

/// Opens the services, and runs all servers until the shutdown.
async fn run(
    configs: Configs,
    listeners: Listeners,
    shutdown: &Shutdown,
    drain_timeout: Duration,
) -> anyhow::Result<()> {
    let services = [configs.auth.health.clone(), configs.task.health.clone()];
    let hint = Hint::new(&listeners, services)?;
    let Listeners { auth, task, gateway } = listeners;
    let clock = Clock::system();
    let opened = shutdown
        .announced
        .run_until_cancelled(async {
            let auth = auth_service::Server::open(configs.auth, clock.clone()).await?;
            anyhow::Ok((auth, task_service::Server::open(configs.task, clock).await?))
        })
        .await;
    let Some((auth_service, task_service)) = opened.transpose()? else { return Ok(()) };

    // The gateway stops first, because its calls need the services. If one server ends, the others are shut down too.
    let services = Shutdown { started: CancellationToken::new(), ..shutdown.clone() };
    let servers = async {
        let (auth, task, gateway, ()) = tokio::join!(
            then_shut_down(auth_service.serve(auth, services.clone()), shutdown),
            then_shut_down(task_service.serve(task, services.clone()), shutdown),
            then_shut_down(gateway::run(configs.gateway, gateway, shutdown.clone()), &services),
            hint.print_when_ready(&shutdown.announced),
        );
        auth.and(task).and(gateway)
    };
    tokio::select! {
        served = servers => served,
        () = end_of_drain(shutdown, drain_timeout) => Ok(()),
    }
}

/// Waits until the drain timeout of the program has passed. It applies to all servers together.
async fn end_of_drain(shutdown: &Shutdown, drain_timeout: Duration) {
    shutdown.started.cancelled().await;
    tokio::time::sleep(drain_timeout + CLOSE_TIME).await;
    tracing::warn!("calls were still in progress at the end of the drain timeout and were aborted");
}

async fn then_shut_down(service: impl Future<Output = anyhow::Result<()>>, shutdown: &Shutdown) -> anyhow::Result<()> {
    let served = service.await;
    shutdown.announced.cancel();
    shutdown.started.cancel();
    served
}
