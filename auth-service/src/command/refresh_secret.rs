//! The commands for the secrets of refresh tokens.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Context;
use clap::Subcommand;
use service_kit::clock::Clock;

use crate::{
    config::{DatabaseArgs, SecretArgs, publish_duration},
    refresh_secrets::{self, SecretFile, SecretInfo},
    store::{factor_keys, installation},
};

/// Commands for the secrets of refresh tokens.
#[derive(Debug, Subcommand)]
pub enum RefreshSecretCommand {
    /// Replace the secret while servers are running, without ending sessions. Adds a new secret to the file, waits for
    /// `--publish-for`, and then lets it issue tokens. Tokens of earlier secrets remain valid until these are removed.
    /// Removes the new secret of an interrupted rotation
    Rotate {
        /// The file with the secrets.
        #[command(flatten)]
        secrets: SecretArgs,

        /// How long the new secret is published before it issues tokens. All servers must read the file, or receive a
        /// copy, within this time
        #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = publish_duration)]
        publish_for: Duration,
    },
    /// List the ids of the secrets. The first one issues tokens
    List {
        /// The file with the secrets.
        #[command(flatten)]
        secrets: SecretArgs,
    },
    /// Remove an earlier secret. Sessions that have not been refreshed since it was replaced end. Unless it was stolen,
    /// wait until no session needs it: for the time of --refresh-idle-ttl, 7 days by default
    Remove {
        /// Id of the secret, as `list` prints it
        id: String,

        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,

        /// The file with the secrets.
        #[command(flatten)]
        secrets: SecretArgs,
    },
}

impl RefreshSecretCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// If the command fails; the message is for the user.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Rotate { secrets, publish_for } => {
                let file = secrets.refresh_secret_file();
                let id = refresh_secrets::rotate(&file, publish_for, &Clock::system())?;
                Ok(writeln!(io::stdout(), "{id} issues refresh tokens now")?)
            }
            Self::List { secrets } => list(&secrets),
            Self::Remove { id, database, secrets } => {
                let db = database.open_existing().await?;
                let stored = installation::refresh_fingerprint(&db).await;
                let sealed = factor_keys::count_sealed_with(&db, &id).await;
                db.close().await;
                anyhow::ensure!(
                    sealed? == 0,
                    "secrets of second factors are still encrypted with {id}; start a server, which encrypts them with the \
                     current secret within seconds"
                );
                refresh_secrets::remove(&secrets.refresh_secret_file(), &id, stored?.as_deref())
            }
        }
    }
}

fn list(secrets: &SecretArgs) -> anyhow::Result<()> {
    let path = secrets.refresh_secret_file();
    let file = SecretFile::read(&path)?.with_context(|| format!("{} does not exist", path.display()))?;
    let mut output = io::stdout().lock();
    for SecretInfo { id, created_at, is_current } in file.describe() {
        let state = if is_current { "issues tokens" } else { "accepted" };
        let created = created_at.map_or("at the first start".to_owned(), |created_at| created_at.to_string());
        writeln!(output, "{id}  {state:<13}  created {created}")?;
    }
    Ok(())
}
