//! The program `task-service`.

use std::process::ExitCode;

use clap::Parser;
use service_kit::{
    clock::Clock,
    ops::{
        config, shutdown,
        telemetry::{self, TelemetryArgs},
    },
    server::connection,
};
use task_service::config::Config;

/// Tasks and task lists over gRPC
#[derive(Parser)]
#[command(name = "task-service", version)]
struct Cli {
    #[command(flatten)]
    config: Config,

    #[command(flatten)]
    telemetry: TelemetryArgs,
}

fn main() -> ExitCode {
    match config::parse() {
        Ok(cli) => shutdown::exit_code(start(cli)),
        Err(code) => code,
    }
}

#[tokio::main]
async fn start(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.telemetry)?;
    let shutdown = shutdown::on_signal(&cli.config.limits)?;
    let listener = connection::bind(cli.config.listen, &cli.config.limits).await?;
    task_service::run(cli.config, Clock::system(), listener, shutdown).await
}
