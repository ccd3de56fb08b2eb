//! The subcommands and their options.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use service_kit::{
    db::{DatabaseUrl, MigrateCommand},
    ops::doctor::DoctorArgs,
    server::ops::healthcheck::HealthcheckArgs,
};

use crate::{token::TokenCommand, users::UsersCommand};

/// The commands of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Create or migrate the tables of both services, and print the migrations that were applied. The program does this
    /// when it starts, unless --migrate forbids it. Of several processes, one migrates and the others wait
    Migrate {
        /// What to do.
        #[command(flatten)]
        migrate: MigrateCommand,
    },
    /// Create a backup of the SQLite databases, or check one. Can be used while the program serves. The backup contains
    /// password hashes and the data of all users
    Backup(BackupArgs),
    /// Restore a backup into the data directory, while the program does not serve. All users have to log in again. A
    /// newer version of the program can restore the backup of an older one
    Restore {
        /// The backup
        file: PathBuf,

        /// Replace existing files, which are kept with `.replaced-` and the time appended to their names
        #[arg(long)]
        replace: bool,
    },
    /// Copy the SQLite databases to PostgreSQL, while the program does not serve, and compare all rows. The schemas must be
    /// empty or not exist. With the same keys, sessions continue
    Copy(CopyArgs),
    /// Begin a new epoch after the databases were restored by other means, such as `pg_restore` or point-in-time
    /// recovery, while the program does not serve. All users have to log in again
    NewEpoch,
    /// Check the settings, the databases, secrets and certificates, and print what is wrong and how to mend it. Reads
    /// SQLite files completely, and changes nothing. Can be used while the program serves
    Doctor {
        /// How to print the report.
        #[command(flatten)]
        doctor: DoctorArgs,
    },
    /// Ask the running program, at its address for health checks, whether it is ready. The exit code is 1 if it is not
    Healthcheck(HealthcheckArgs),
    /// Log in as a user, and print access tokens for scripts. Calls the gateway of any installation; the settings of the
    /// server have no effect
    #[command(subcommand)]
    Token(Box<TokenCommand>),
    /// Administer accounts, as an administrator who has logged in with `token login`. Calls the gateway of any
    /// installation; the settings of the server have no effect
    #[command(subcommand)]
    Users(Box<UsersCommand>),
}

/// The options of `copy`.
#[derive(Args, Clone, Debug)]
pub struct CopyArgs {
    /// The databases to copy: `sqlite:x.db` is x-auth.db and x-task.db [default: auth.db and task.db in the data
    /// directory]
    #[arg(long, value_name = "URL")]
    pub from: Option<DatabaseUrl>,

    /// The database that receives the tables: `postgres://...`. If the URL contains a password, use the environment
    /// variable
    // `--help` must not show the password.
    #[arg(long, env = "TASKEY_COPY_TO", value_name = "URL", hide_env_values = true)]
    pub to: DatabaseUrl,
}

/// The options of `backup`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArgs {
    /// What to do with an existing backup.
    #[command(subcommand)]
    pub command: Option<BackupCommand>,

    /// File to create, with mode 0600. An existing file is not replaced
    #[arg(long, value_name = "FILE", required = true)]
    pub out: Option<PathBuf>,

    /// Include the keys and the secret of refresh tokens. Anyone who has them can log in as any user
    #[arg(long)]
    pub include_keys: bool,
}

/// The commands for an existing backup.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
    /// Check that a backup is complete and undamaged, and print what it contains
    Verify {
        /// The backup
        file: PathBuf,
    },
}
