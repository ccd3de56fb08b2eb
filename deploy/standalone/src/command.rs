//! The subcommands and their options.

use clap::Subcommand;
use service_kit::{db::MigrateCommand, ops::doctor::DoctorArgs, server::ops::healthcheck::HealthcheckArgs};

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or migrate the tables of both services, and print the migrations that were applied. The program does this
    /// when it starts, unless --migrate forbids it. Of several processes, one migrates and the others wait
    Migrate {
        /// What to do.
        #[command(flatten)]
        migrate: MigrateCommand,
    },
    /// Check the databases and the secrets, and print what is wrong. Reads SQLite files completely, and changes nothing.
    /// Can be used while the program serves
    Doctor {
        /// How to print the report.
        #[command(flatten)]
        doctor: DoctorArgs,
    },
    /// Ask the running program, at its address for health checks, whether it is ready. The exit code is 1 if it is not
    Healthcheck(HealthcheckArgs),
}
