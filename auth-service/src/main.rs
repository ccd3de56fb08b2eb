//! The `auth-service` program. `--help` lists its commands and settings.

use std::process::ExitCode;

use auth_service::{command::Command, config::Config};
use clap::Parser;
use mimalloc::MiMalloc;
use service_kit::{
    clock::Clock,
    ops::{
        build_info::BuildInfo,
        command_line, runtime,
        service_manager::PassedSockets,
        shutdown,
        telemetry::{self, TelemetryArgs},
    },
    server::{
        connection,
        ops::{OpsArgs, OpsServer},
    },
    trace::{TraceArgs, Traces},
};

/// Accounts, sessions and access tokens over gRPC.
#[derive(Debug, Parser)]
#[command(name = "auth-service", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    config: Config,

    #[command(flatten)]
    ops: OpsArgs,

    #[command(flatten)]
    telemetry: TelemetryArgs,

    #[command(flatten)]
    traces: TraceArgs,
}

/// The allocator of glibc keeps freed memory for each thread: after ten minutes of attacks, the gateway had twice the
/// memory of the first minute (`make soak`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    runtime::run(program())
}

async fn program() -> ExitCode {
    match command_line::parse::<Cli>() {
        Ok(Cli { command: Some(command), .. }) => shutdown::exit_code(command.run().await),
        Ok(cli) => shutdown::exit_code(serve(cli).await),
        Err(code) => code,
    }
}

async fn serve(cli: Cli) -> anyhow::Result<()> {
    let (config, build) = (cli.config, BuildInfo::new("auth-service"));
    telemetry::init(&cli.telemetry)?;
    let shutdown = shutdown::on_signal(&config.limits)?;
    let mut sockets = PassedSockets::from_environment()?;
    let clock = Clock::system();
    // Before the certificate is read, because this installs the recorder of metrics.
    let ops = OpsServer::bind(cli.ops, &config.limits, build, &mut sockets).await?;
    let traces = Traces::start(cli.traces, &build, &clock).await?;
    let tls = config.tls.open(&clock).await?;
    let listener = connection::bind("auth", config.listen, &config.limits, tls, &mut sockets).await?;
    sockets.finish()?;
    let health = [("auth", config.health.clone())];
    traces.flush_after(ops.serve_beside(health, auth_service::run(config, clock, listener, shutdown))).await
}
