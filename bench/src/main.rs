//! The program `bench`: load for task-service and what it bears, and what the gateway adds. See `make bench`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod client;
mod echo;
mod gateway;
mod large;
mod load;
mod machine;
mod plot;
mod report;
mod run;
mod scenario;
mod target;
mod watch;

/// Loads task-service, and says what it bears
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loads task-service with every scenario, beside the yardstick
    Run(run::Run),
    /// Asks for the lists of one user with many tasks, whose database holds those of many
    Large(large::Large),
    /// Calls one after the other, directly and through the gateway by turns
    Gateway(gateway::Gateway),
    /// The reference: a bare server that verifies the token and echoes the request
    Echo(echo::Echo),
}

// One thread: the load must not get in its own way.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => run.run().await,
        Command::Large(large) => large.run().await,
        Command::Gateway(gateway) => gateway.run().await,
        Command::Echo(echo) => echo.serve().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
