//! The subcommands.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::Subcommand;
use refresh_secret::RefreshSecretCommand;
use service_kit::{
    auth::{
        keys::KeySet,
        rotation::{self, NewKey},
    },
    clock::Clock,
    db::{Db, MigrateCommand},
    ops::{config::KeyArgs, doctor::DoctorArgs},
    server::ops::healthcheck::HealthcheckArgs,
};
use tonic::Status;

use crate::{
    bench,
    config::{Config, DatabaseArgs, SecretArgs, publish_duration},
    doctor::diagnose,
    model::{
        audit::Kind,
        email::Email,
        login_throttle::address_key,
        role::{Role, Roles},
        user::User,
    },
    recovery,
    roles::set_roles,
    secrets,
    store::{login_attempts, users},
};

mod event;
pub mod refresh_secret;
mod tokens;

use event::tool_event;
pub use tokens::TokensCommand;

/// The commands of auth-service.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Manage the keys that sign access tokens
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Manage the secrets of refresh tokens
    #[command(subcommand)]
    RefreshSecret(RefreshSecretCommand),
    /// Manage the tokens and certificates that authenticate services to auth-service
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Manage users: set their roles, for example to create the first administrator, or unlock them
    #[command(subcommand)]
    Users(UsersCommand),
    /// Find suitable parameters for password hashes
    #[command(subcommand)]
    Password(PasswordCommand),
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
    /// running. Ends all sessions: the database may contain sessions that were revoked after the backup
    NewEpoch {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Check the settings of the server, its database, secrets and certificates, and print what is wrong and how to mend
    /// it. Reads a SQLite file completely, and changes nothing. Can be used while the server is running
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

/// Commands for password hashes.
#[derive(Debug, Subcommand)]
pub enum PasswordCommand {
    /// Measure password hashes on this machine and print the most expensive parameters within the target time. After a
    /// change of the parameters, each existing hash is replaced when its user logs in
    Bench {
        /// Maximum duration of a hash in milliseconds
        #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
        target_ms: u64,
    },
}

/// Commands for accounts.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Add a role to an account, or remove it. Can be used while the server is running
    SetRole {
        /// Email address of the account
        email: String,

        /// admin: administers accounts. verifier: introspects tokens and receives revocations, like a service
        role: Role,

        /// Remove the role and revoke the sessions of the account
        #[arg(long)]
        remove: bool,

        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Reset the counters of wrong passwords of an account, which delay or block its logins. Can be used while the
    /// server is running
    Unlock {
        /// Email address of the account
        email: String,

        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// Commands for keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key file with mode 0600. Existing files are not overwritten
    Generate {
        /// HS256: a secret that all services share. EdDSA: a private key that only auth-service has
        #[arg(long, default_value = "HS256")]
        alg: NewKey,

        /// File to create
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Replace the signing key while services are running. Adds a new key to the file, waits for `--publish-for`, and
    /// then lets the new key sign. The old key stays valid until its last token has expired. Removes the new key of an
    /// interrupted rotation
    Rotate {
        /// The key file.
        #[command(flatten)]
        keys: KeyArgs,

        /// Algorithm of the new key [default: that of the current key]
        #[arg(long)]
        alg: Option<NewKey>,

        /// How long the new key is published before it signs. All services must read the file, or receive a copy,
        /// within this time
        #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = publish_duration)]
        publish_for: Duration,
    },
    /// Make the database accept the current key file and refresh secret after they were replaced intentionally. With a
    /// new refresh secret, all users have to log in again
    Adopt {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,

        /// The secrets.
        #[command(flatten)]
        secrets: SecretArgs,
    },
    /// Print the public keys of a key file as a JWK Set. Shared keys are omitted
    Public {
        /// The key file.
        #[command(flatten)]
        keys: KeyArgs,
    },
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// If the command fails; the message is for the user.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::RefreshSecret(command) => command.run().await,
            Self::Keys(KeysCommand::Generate { alg, out }) => rotation::generate(alg, &out),
            Self::Keys(KeysCommand::Rotate { keys, alg, publish_for }) => {
                rotation::rotate(&keys.key_file, alg, publish_for, &Clock::system())
            }
            Self::Keys(KeysCommand::Adopt { database, secrets }) => secrets::adopt(&database, &secrets).await,
            Self::Keys(KeysCommand::Public { keys }) => {
                let keys = KeySet::read(&keys.key_file, Clock::system().now())?;
                Ok(writeln!(io::stdout(), "{}", keys.public_json()?)?)
            }
            Self::Tokens(tokens) => tokens.run().await,
            Self::Password(PasswordCommand::Bench { target_ms }) => {
                bench::recommend(Duration::from_millis(target_ms), |line| Ok(writeln!(io::stdout(), "{line}")?))
            }
            Self::Migrate { migrate, database } => migrate.run(&[database.service_database()]).await,
            Self::NewEpoch { database } => new_epoch(&database).await,
            Self::Doctor { doctor, config } => doctor.report(&diagnose(&config, &Clock::system()).await),
            Self::Healthcheck(healthcheck) => healthcheck.run().await,
            Self::Users(UsersCommand::SetRole { email, role, remove, database }) => {
                set_role(&database, &email, role, remove).await
            }
            Self::Users(UsersCommand::Unlock { email, database }) => unlock(&database, &email).await,
        }
    }
}

async fn new_epoch(database: &DatabaseArgs) -> anyhow::Result<()> {
    let revoked = recovery::begin_epoch(database, &Clock::system()).await?;
    Ok(writeln!(io::stdout(), "auth: began a new epoch; sessions revoked: {revoked}")?)
}

async fn user_by_email(db: &Db, email: &str) -> anyhow::Result<User> {
    let email = Email::parse(email).map_err(|violation| anyhow::anyhow!("the address {violation}"))?;
    let credentials = users::credentials_by_email(db, &email).await?;
    Ok(credentials.with_context(|| format!("{} has no account", email.as_str()))?.user)
}

async fn unlock(database: &DatabaseArgs, email: &str) -> anyhow::Result<()> {
    let (db, clock) = (database.open_existing().await?, Clock::system());
    let User { id, email, .. } = user_by_email(&db, email).await?;
    let event = tool_event(&clock, Kind::UserUnlocked);
    let unlocked = login_attempts::unlock(&db, clock.now(), id, address_key(&email), event).await;
    db.close().await;
    Ok(unlocked?)
}

async fn set_role(database: &DatabaseArgs, email: &str, role: Role, remove: bool) -> anyhow::Result<()> {
    let (db, clock) = (database.open_existing().await?, Clock::system());
    let user = user_by_email(&db, email).await?;
    let event = tool_event(&clock, Kind::RolesChanged);
    let change = |mut roles: Roles| {
        if remove {
            roles.remove(role);
        } else {
            roles.insert(role);
        }
        roles
    };
    let changed = set_roles(&db, &clock, user.id, &event, change).await;
    db.close().await;
    changed.map(|_| ()).map_err(|error| anyhow::anyhow!(Status::from(error).message().to_owned()))
}
