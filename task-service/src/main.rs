//! The program `task-service`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use service_kit::{
    clock::Clock,
    ops::{
        build_info::BuildInfo,
        command_line,
        doctor::DoctorArgs,
        service_manager::PassedSockets,
        shutdown,
        telemetry::{self, TelemetryArgs},
    },
    server::{
        connection,
        ops::{OpsArgs, OpsServer, healthcheck::HealthcheckArgs},
    },
};
use task_service::config::Config;

/// Tasks and task lists over gRPC
#[derive(Parser)]
#[command(name = "task-service", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    config: Config,

    #[command(flatten)]
    ops: OpsArgs,

    #[command(flatten)]
    telemetry: TelemetryArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Check the database and the keys, and print what is wrong. Reads a SQLite file completely, and changes nothing. Can
    /// be used while the server is running
    Doctor {
        #[command(flatten)]
        doctor: DoctorArgs,

        #[command(flatten)]
        config: Box<Config>,
    },
    /// Ask the running server, at its address for health checks, whether it is ready. The exit code is 1 if it is not
    Healthcheck(HealthcheckArgs),
}

fn main() -> ExitCode {
    match command_line::parse() {
        Ok(Cli { command: Some(Command::Doctor { doctor, config }), .. }) => {
            shutdown::exit_code(diagnose(doctor, &config))
        }
        Ok(Cli { command: Some(Command::Healthcheck(healthcheck)), .. }) => {
            shutdown::exit_code(check_health(healthcheck))
        }
        Ok(cli) => shutdown::exit_code(start(cli)),
        Err(code) => code,
    }
}

/// The allocator of glibc keeps freed memory for each thread: after ten minutes of attacks, the gateway had twice the
/// memory of the first minute (`make soak`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn diagnose(doctor: DoctorArgs, config: &Config) -> anyhow::Result<()> {
    doctor.report(&task_service::diagnose(config, &Clock::system()).await)
}

#[tokio::main]
async fn check_health(healthcheck: HealthcheckArgs) -> anyhow::Result<()> {
    healthcheck.run().await
}

#[tokio::main]
async fn start(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.telemetry)?;
    let shutdown = shutdown::on_signal(&cli.config.limits)?;
    let mut sockets = PassedSockets::from_environment()?;
    let clock = Clock::system();
    let tls = cli.config.tls.open(&clock).await?;
    let ops = OpsServer::bind(cli.ops, &cli.config.limits, BuildInfo::new("task-service"), &mut sockets).await?;
    let listener = connection::bind("task", cli.config.listen, &cli.config.limits, tls, &mut sockets).await?;
    sockets.finish()?;
    let health = [("task", cli.config.health.clone())];
    ops.serve_beside(health, task_service::run(cli.config, clock, listener, shutdown)).await
}
