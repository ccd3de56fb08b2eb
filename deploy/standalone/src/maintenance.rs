//! Runs the subcommands.

use std::{
    io::{self, Write},
    path::Path,
};

use service_kit::{
    clock::Clock,
    db::{CopiedTable, DatabaseUrl, MigrateCommand, ServiceCopy, copy_to_postgres},
};

use crate::{
    backup,
    command::{BackupArgs, BackupCommand, Command, CopyArgs},
    config::{Cli, Configs},
    data_dir::DataDir,
    doctor::diagnose,
    token, users,
};

/// Runs a command.
///
/// # Errors
/// If the command fails; the message is for the user.
pub async fn run(command: Command, cli: Cli) -> anyhow::Result<()> {
    let data_dir = cli.data_dir.clone();
    let configs = cli.clone().into_command_configs();
    match command {
        Command::Migrate { migrate } => {
            let _lock = if migrate.writes() { lock_files(&configs, &data_dir)? } else { None };
            run_migrate(migrate, &configs).await
        }
        Command::Backup(BackupArgs { command: Some(BackupCommand::Verify { file }), .. }) => {
            Ok(writeln!(io::stdout(), "{}", backup::verify(&file)?)?)
        }
        Command::Backup(BackupArgs { out, include_keys, .. }) => {
            let out = out.ok_or_else(|| anyhow::anyhow!("--out is missing"))?;
            backup::create(configs, &out, include_keys).await
        }
        Command::Restore { file, replace } => {
            let _lock = DataDir::acquire(&data_dir)?;
            backup::restore(configs, &data_dir, &file, replace).await
        }
        Command::Copy(copy) => {
            let _lock = DataDir::acquire(&data_dir)?;
            run_copy(copy, cli).await
        }
        Command::NewEpoch => {
            let _lock = lock_files(&configs, &data_dir)?;
            begin_epoch(&configs).await
        }
        Command::Healthcheck(healthcheck) => healthcheck.run().await,
        Command::Token(command) => token::run(*command, &Clock::system()).await,
        Command::Users(command) => users::run(*command, &Clock::system()).await,
        Command::Doctor { doctor } => doctor.report(&diagnose(&cli, &configs, &Clock::system()).await),
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

/// Copies the databases to PostgreSQL.
async fn run_copy(CopyArgs { from, to }: CopyArgs, cli: Cli) -> anyhow::Result<()> {
    let DatabaseUrl::Postgres(server) = &to else { anyhow::bail!("--to must be a postgres:// URL") };
    let from = Cli { database_url: from, ..cli.clone() }.into_command_configs();
    let to = Cli { database_url: Some(to.clone()), ..cli }.into_command_configs();
    let services = [
        ServiceCopy { source: from.auth.database.service_database(), target: to.auth.database.service_database() },
        ServiceCopy { source: from.task.database.service_database(), target: to.task.database.service_database() },
    ];
    let mut output = io::stdout().lock();
    for CopiedTable { schema, name, rows } in copy_to_postgres(server, &services).await? {
        writeln!(output, "{schema}.{name}: {rows} rows")?;
    }
    Ok(writeln!(output, "all rows are equal")?)
}

async fn run_migrate(migrate: MigrateCommand, configs: &Configs) -> anyhow::Result<()> {
    migrate.run(&[configs.auth.database.service_database(), configs.task.database.service_database()]).await
}

async fn begin_epoch(configs: &Configs) -> anyhow::Result<()> {
    let revoked = auth_service::recovery::begin_epoch(&configs.auth.database, &Clock::system()).await?;
    task_service::recovery::begin_epoch(&configs.task.database).await?;
    Ok(writeln!(io::stdout(), "began a new epoch; sessions revoked: {revoked}")?)
}
