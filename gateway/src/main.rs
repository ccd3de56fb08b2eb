//! `gateway`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use service_kit::{
    ops::{config, shutdown, telemetry},
    server::connection,
};

/// Taskey over HTTP/JSON.
#[derive(Parser)]
#[command(name = "gateway", version)]
struct Cli {
    #[command(flatten)]
    config: gateway::Config,
    #[command(flatten)]
    telemetry: telemetry::TelemetryArgs,
}

/// The allocator of glibc keeps freed memory for each thread: after ten minutes of attacks, the gateway had twice the
/// memory of the first minute (`make soak`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match config::parse() {
        Ok(cli) => shutdown::exit_code(serve(cli).await),
        Err(code) => code,
    }
}

async fn serve(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.telemetry)?;
    let shutdown = shutdown::on_signal(&cli.config.limits)?;
    let listener = connection::bind(cli.config.listen, &cli.config.limits).await?;
    gateway::run(cli.config, listener, shutdown).await
}
