//! The sub-commands.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::Subcommand;
use service_kit::{
    clock::Clock,
    config::KeyArgs,
    keys::{self, KeySet, NewKey},
};
use taskey_proto::auth::v1::audit_event::Kind;
use tonic::Status;

use crate::{
    bench,
    config::{DatabaseArgs, SecretArgs, publication},
    model::{
        audit::{Actor, Event},
        email::Email,
        role::{Role, Roles},
        service_token::{self, Name},
    },
    origin::Origin,
    roles::set_roles,
    secrets,
    store::{service_tokens, users},
};

/// What auth-service does instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes and shows the keys of access tokens
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Gives services a token with which they may follow revocations and ask about access tokens
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Gives and takes roles; the first administrator is made here
    #[command(subcommand)]
    Users(UsersCommand),
    /// Helps to choose what a password hash shall cost
    #[command(subcommand)]
    Password(PasswordCommand),
}

/// What can be found out about password hashes.
#[derive(Debug, Subcommand)]
pub enum PasswordCommand {
    /// Measures hashes on this machine, and proposes the costliest that takes no longer than the target; old hashes are
    /// replaced as people log in
    Bench {
        /// How many milliseconds a hash may take
        #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
        target_ms: u64,
    },
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Gives a role to an account, or takes it away; may run beside a live server
    SetRole {
        /// The address of the account
        email: String,

        /// admin: administers other people's accounts. verifier: asks about tokens, as services do
        role: Role,

        /// Takes the role away, and ends the sessions of the account
        #[arg(long)]
        remove: bool,

        /// Where the accounts are.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Makes a new key file (mode 0600); never overwrites one
    Generate {
        /// HS256: a secret that all services share. EdDSA: a private key for auth-service alone
        #[arg(long, default_value = "HS256")]
        alg: NewKey,

        /// The file to make
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Puts a new key in the place of the one that signs, in a file that live services may be using: it is added,
    /// signs after `--publish-for`, and the old one goes when its last token has expired. Takes as long as
    /// `--publish-for`; what an interrupted rotation left behind is thrown away
    Rotate {
        /// The key file.
        #[command(flatten)]
        keys: KeyArgs,

        /// The kind of the new key [default: that of the one that signs]
        #[arg(long)]
        alg: Option<NewKey>,

        /// How long the new key is known before it signs: enough for every service to have read the file, and for
        /// copies of it to have reached other machines
        #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = publication)]
        publish_for: Duration,
    },
    /// Makes the database accept the key file and the refresh secret that are there now, after they were replaced on
    /// purpose; with another refresh secret, everybody has to log in again
    Adopt {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,

        /// The secrets.
        #[command(flatten)]
        secrets: SecretArgs,
    },
    /// Prints the public keys of a key file as a JWK Set; a shared secret is never in it
    Public {
        /// The key file.
        #[command(flatten)]
        keys: KeyArgs,
    },
}

/// What can be done with the tokens of services.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Prints a new token for a service and nothing else; it is stored as a hash, and good until it is revoked. A
    /// service may have several
    IssueService {
        /// What the service is called
        name: Name,

        /// Where the tokens are.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Revokes every token of a service; what it has opened with them ends within seconds
    RevokeService {
        /// What the service is called
        name: Name,

        /// Where the tokens are.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// In words for a person.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Keys(KeysCommand::Generate { alg, out }) => keys::generate(alg, &out),
            Self::Keys(KeysCommand::Rotate { keys, alg, publish_for }) => {
                keys::rotate(&keys.key_file, alg, publish_for, &Clock::system())
            }
            Self::Keys(KeysCommand::Adopt { database, secrets }) => secrets::adopt(&database, &secrets).await,
            Self::Keys(KeysCommand::Public { keys }) => {
                let keys = KeySet::read(&keys.key_file, Clock::system().now())?;
                Ok(writeln!(io::stdout(), "{}", keys.public_json()?)?)
            }
            Self::Tokens(TokensCommand::IssueService { name, database }) => issue_service(&database, name).await,
            Self::Tokens(TokensCommand::RevokeService { name, database }) => revoke_service(&database, name).await,
            Self::Password(PasswordCommand::Bench { target_ms }) => {
                bench::propose(Duration::from_millis(target_ms), |line| Ok(writeln!(io::stdout(), "{line}")?))
            }
            Self::Users(UsersCommand::SetRole { email, role, remove, database }) => {
                set_role(&database, &email, role, remove).await
            }
        }
    }
}

async fn issue_service(database: &DatabaseArgs, name: Name) -> anyhow::Result<()> {
    let db = database.open_for_tool().await?;
    let (token, hash) = service_token::make();
    service_tokens::insert(&db, Clock::system().now(), name, hash).await?;
    db.close().await;
    Ok(writeln!(io::stdout(), "{}", *token)?)
}

async fn revoke_service(database: &DatabaseArgs, name: Name) -> anyhow::Result<()> {
    let db = database.open_existing().await?;
    let removed = service_tokens::remove(&db, name.clone()).await?;
    db.close().await;
    anyhow::ensure!(removed > 0, "{name} has no token");
    Ok(())
}

async fn set_role(database: &DatabaseArgs, email: &str, role: Role, remove: bool) -> anyhow::Result<()> {
    let email = Email::parse(email).map_err(|fault| anyhow::anyhow!("the address {fault}"))?;
    let (db, clock) = (database.open_existing().await?, Clock::system());
    let found = users::by_email(&db, &email).await?;
    let user = found.with_context(|| format!("{} has no account", email.as_str()))?.user;
    let event = Event::new(&clock, Kind::RolesChanged, Actor::Unknown, None, Origin::default());
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
    changed.map(|_| ()).map_err(|refusal| anyhow::anyhow!(Status::from(refusal).message().to_owned()))
}
