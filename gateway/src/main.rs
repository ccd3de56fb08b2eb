//! `gateway`: see `--help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use service_kit::{
    clock::Clock,
    ops::{
        build_info::BuildInfo, command_line, doctor::DoctorArgs, runtime, service_manager::PassedSockets, shutdown,
        telemetry,
    },
    server::{
        connection,
        ops::{OpsArgs, OpsServer, healthcheck::HealthcheckArgs},
    },
    trace::{TraceArgs, Traces},
};

/// Taskey over HTTP/JSON.
#[derive(Parser)]
#[command(name = "gateway", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: gateway::Config,
    #[command(flatten)]
    ops: OpsArgs,
    #[command(flatten)]
    telemetry: telemetry::TelemetryArgs,
    #[command(flatten)]
    traces: TraceArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the running gateway, at its address for health checks, whether it is ready. The exit code is 1 if it is not
    Healthcheck(HealthcheckArgs),
    /// Check the settings of the gateway, its certificates, and whether the services serve, and print what is wrong and
    /// how to mend it. Can be used while the gateway is running
    Doctor {
        /// How to print the report.
        #[command(flatten)]
        doctor: DoctorArgs,

        /// The settings of the gateway.
        #[command(flatten)]
        config: Box<gateway::Config>,
    },
}

/// The allocator of glibc keeps freed memory for each thread: after ten minutes of attacks, the gateway had twice the
/// memory of the first minute (`make soak`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    runtime::run(program())
}

async fn program() -> ExitCode {
    match command_line::parse() {
        Ok(Cli { command: Some(Command::Healthcheck(healthcheck)), .. }) => {
            shutdown::exit_code(healthcheck.run().await)
        }
        Ok(Cli { command: Some(Command::Doctor { doctor, config }), .. }) => {
            shutdown::exit_code(doctor.report(&gateway::doctor::diagnose(&config, &Clock::system()).await))
        }
        Ok(cli) => shutdown::exit_code(serve(cli).await),
        Err(code) => code,
    }
}

async fn serve(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.telemetry)?;
    let shutdown = shutdown::on_signal(&cli.config.limits)?;
    let mut sockets = PassedSockets::from_environment()?;
    let (build, clock) = (BuildInfo::new("gateway"), Clock::system());
    // Before the certificate is read, because this installs the recorder of metrics.
    let ops = OpsServer::bind(cli.ops, &cli.config.limits, build, &mut sockets).await?;
    let traces = Traces::start(cli.traces, &build, &clock).await?;
    let tls = cli.config.tls.open(&clock).await?;
    let listener = connection::bind("gateway", cli.config.listen, &cli.config.limits, tls, &mut sockets).await?;
    sockets.finish()?;
    let health = [("gateway", cli.config.health.clone())];
    traces.flush_after(ops.serve_beside(health, gateway::run(cli.config, listener, shutdown))).await
}
