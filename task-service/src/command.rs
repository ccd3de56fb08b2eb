//! The subcommands.

use std::io::{self, Write};

use clap::Subcommand;
use service_kit::{
    clock::Clock, db::MigrateCommand, ops::doctor::DoctorArgs, server::ops::healthcheck::HealthcheckArgs,
};

use crate::{
    config::{Config, DatabaseArgs},
    doctor::diagnose,
    recovery,
};

/// The commands of task-service.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or migrate the tables, and print the migrations that were applied. Servers do this when they start, unless
    /// --migrate forbids it. Of several processes, one migrates and the others wait
    Migrate {
        /// What to do.
        #[command(flatten)]
        migrate: MigrateCommand,

        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Begin a new epoch after the database was restored from a backup or by point-in-time recovery, while no server is
    /// running. Sync tokens, page tokens and etags of the lost history are refused from then on
    NewEpoch {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Check the settings of the server, its database, keys, certificates, and its connection to auth-service, and print
    /// what is wrong and how to mend it. Reads a SQLite file completely, and changes nothing. Can be used while the server
    /// is running
    Doctor {
        /// How to print the report.
        #[command(flatten)]
        doctor: DoctorArgs,

        /// The settings of the server.
        #[command(flatten)]
        config: Box<Config>,
    },
    /// Ask the running server, at its address for health checks, whether it is ready. The exit code is 1 if it is not
    Healthcheck(HealthcheckArgs),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// If the command fails; the message is for the user.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Migrate { migrate, database } => migrate.run(&[database.service_database()]).await,
            Self::NewEpoch { database } => {
                recovery::begin_epoch(&database).await?;
                Ok(writeln!(io::stdout(), "task: began a new epoch")?)
            }
            Self::Healthcheck(healthcheck) => healthcheck.run().await,
            Self::Doctor { doctor, config } => doctor.report(&diagnose(&config, &Clock::system()).await),
        }
    }
}
