//! Runs the subcommands.

use std::path::Path;

use service_kit::{
    clock::Clock,
    db::{DatabaseUrl, MigrateCommand},
    ops::doctor::DoctorArgs,
};

use crate::{
    command::Command,
    config::{Cli, Configs},
    data_dir::DataDir,
};

/// Runs a command.
///
/// # Errors
/// If the command fails; the message is for the user.
pub async fn run(command: Command, cli: Cli) -> anyhow::Result<()> {
    let data_dir = cli.data_dir.clone();
    let configs = cli.into_command_configs();
    match command {
        Command::Migrate { migrate } => {
            let _lock = if migrate.writes() { lock_files(&configs, &data_dir)? } else { None };
            run_migrate(migrate, &configs).await
        }
        Command::Healthcheck(healthcheck) => healthcheck.run().await,
        Command::Doctor { doctor } => diagnose(doctor, &configs).await,
    }
}

/// Locks the data directory if it contains the databases: files are used by one process at a time. On PostgreSQL,
/// commands can run beside servers.
fn lock_files(configs: &Configs, data_dir: &Path) -> anyhow::Result<Option<DataDir>> {
    match configs.auth.database.database_url {
        DatabaseUrl::Sqlite(_) => DataDir::acquire(data_dir).map(Some),
        DatabaseUrl::Postgres(_) => Ok(None),
    }
}

async fn run_migrate(migrate: MigrateCommand, configs: &Configs) -> anyhow::Result<()> {
    migrate.run(&[configs.auth.database.service_database(), configs.task.database.service_database()]).await
}

async fn diagnose(doctor: DoctorArgs, configs: &Configs) -> anyhow::Result<()> {
    let clock = Clock::system();
    let auth = auth_service::diagnose(&configs.auth.database, &configs.auth.secrets, &clock).await;
    let task = task_service::diagnose(&configs.task, &clock).await;
    let auth = auth.into_iter().map(|check| check.of_service("auth"));
    let checks: Vec<_> = auth.chain(task.into_iter().map(|check| check.of_service("task"))).collect();
    doctor.report(&checks)
}
