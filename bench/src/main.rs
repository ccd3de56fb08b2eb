//! The program `bench`: load tests of taskey, and of other servers over REST. See `make bench`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod client;
mod compare;
mod echo;
mod fill;
mod gateway;
mod large;
mod load;
mod machine;
mod report;
mod rest;
mod run;
mod scale;
mod scenario;
mod target;
mod watch;
mod workload;

/// Load tests of taskey, and of other servers over REST
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures taskey in every scenario, and compares it with the baseline
    Run(run::Run),
    /// Measures the same calls over REST on several running servers
    Compare(compare::Compare),
    /// Measures the cost of calls against the size of the data
    Scale(scale::Scale),
    /// Measures the lists of one user with many tasks, in a database with many users
    Large(large::Large),
    /// Measures sequential calls, alternately with and without the gateway
    Gateway(gateway::Gateway),
    /// Starts the baseline: a bare server that verifies the token and echoes the request
    Echo(echo::Echo),
}

// A single thread, because several would compete with each other for the core of the load.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(run) => run.run().await,
        Command::Compare(compare) => compare.run().await,
        Command::Scale(scale) => scale.run().await,
        Command::Large(large) => large.run().await,
        Command::Gateway(gateway) => gateway.run().await,
        Command::Echo(echo) => echo.serve().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
