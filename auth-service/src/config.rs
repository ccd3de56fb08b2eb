//! The settings of auth-service.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use service_kit::{
    auth::{call_limit::CallRateArgs, claims, key_source::MAX_RELOAD_DELAY as KEYS_RELOAD_DELAY},
    db::{DatabaseUrl, Db, Migrate, MigrateArgs, PoolArgs, ServiceDatabase, schema_name},
    ops::{
        config::{KeyArgs, LimitArgs, OnOff, TokenArgs, duration, time_limit},
        secret_file::Key,
    },
    public_url::PublicUrl,
    rate_limit::Rate,
    server::health::HealthReport,
    tls::TlsArgs,
};

use crate::{
    MIGRATIONS,
    model::{audience::Audience, email::Email, mail_transport::TransportSetting},
};

/// All settings.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, env = "TASKEY_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// The migrations at start.
    #[command(flatten)]
    pub migrations: MigrateArgs,

    /// The keys and the refresh secret.
    #[command(flatten)]
    pub secrets: SecretArgs,

    /// The key for the service token of the gateway, if it runs in this process.
    #[arg(skip)]
    pub gateway: Option<Key>,

    /// The issuer and the audience of access tokens.
    #[command(flatten)]
    pub tokens: TokenArgs,

    /// The audiences of exchanged tokens.
    #[command(flatten)]
    pub exchange: ExchangeArgs,

    /// The lifetimes of sessions and tokens.
    #[command(flatten)]
    pub sessions: SessionArgs,

    /// The rules for passwords, and the cost of their hashes.
    #[command(flatten)]
    pub passwords: PasswordArgs,

    /// The mails to users.
    #[command(flatten)]
    pub mail: MailArgs,

    /// URL under which browsers reach the gateway, such as `https://tasks.example.org`, for the links in mails. Required
    /// with --mail
    #[arg(long, env = "TASKEY_PUBLIC_URL", value_name = "URL", help_heading = "Mail")]
    pub public_url: Option<PublicUrl>,

    /// The health of the server, for the listener for operators.
    #[arg(skip)]
    pub health: HealthReport,

    /// TLS of the server.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// The limits of the server.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// The rate limits of each address.
    #[command(flatten)]
    pub rates: RateArgs,

    /// The rate limit of calls.
    #[command(flatten)]
    pub call_rate: CallRateArgs,
}

/// The keys of the access tokens, and the secret of the refresh tokens.
#[derive(Args, Clone, Debug)]
pub struct SecretArgs {
    /// The key file of access tokens.
    #[command(flatten)]
    pub keys: KeyArgs,

    /// File with the secret of refresh tokens, which only auth-service uses; created on first start [default:
    /// refresh.secret beside the key file]
    #[arg(long, env = "TASKEY_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// Returns the path of the file with the secret of refresh tokens.
    #[must_use]
    pub fn refresh_secret_file(&self) -> PathBuf {
        self.secret_file.clone().unwrap_or_else(|| self.keys.key_file.with_file_name("refresh.secret"))
    }
}

/// The audiences that a token exchange can request.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct ExchangeArgs {
    /// Audience that a service can request when it exchanges the access token of a user (RFC 8693), besides --audience. Only
    /// services with this --audience accept the new token. Repeatable, at most 16
    #[arg(long = "exchange-audience", env = "TASKEY_EXCHANGE_AUDIENCE", value_name = "NAME", value_delimiter = ',')]
    pub exchange_audiences: Vec<Audience>,
}

/// The database and its connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Database URL: `sqlite:PATH` or `postgres://...`
    // The URL may contain a password, which `--help` would show.
    #[arg(
        long,
        env = "TASKEY_DATABASE_URL",
        default_value = "sqlite:auth.db",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: DatabaseUrl,

    /// PostgreSQL schema of the tables
    #[arg(long, env = "TASKEY_SCHEMA", default_value = "auth", value_name = "NAME", value_parser = schema_name)]
    pub schema: String,

    /// The connections to the database.
    #[command(flatten)]
    pub pool: PoolArgs,
}

impl DatabaseArgs {
    /// Returns the database with its migrations, for the command `migrate`.
    #[must_use]
    pub fn service_database(&self) -> ServiceDatabase<'_> {
        let Self { database_url, schema, pool } = self;
        ServiceDatabase { service: "auth", url: database_url, schema, migrations: &MIGRATIONS, pool, sqlite_joins: &[] }
    }

    /// Opens the database. `migrate` determines what happens to missing and older tables.
    ///
    /// # Errors
    /// If it cannot be reached, is no database, or its tables are not usable.
    pub async fn open(&self, migrate: Migrate) -> anyhow::Result<Db> {
        Db::open(&self.database_url, &self.schema, &MIGRATIONS, migrate, &self.pool).await
    }

    /// Opens the database for a command-line tool, which may run beside an older server. Existing tables are not
    /// migrated.
    ///
    /// # Errors
    /// As [`Self::open`], or if its tables are older than this program.
    pub async fn open_for_tool(&self) -> anyhow::Result<Db> {
        self.open(Migrate::IfEmpty).await
    }

    /// Opens the database for a command-line tool as [`Self::open_for_tool`], but creates no file.
    ///
    /// # Errors
    /// As [`Self::open_for_tool`], or if the database file does not exist.
    pub async fn open_existing(&self) -> anyhow::Result<Db> {
        self.open_existing_with(Migrate::IfEmpty).await
    }

    /// Opens the database as [`Self::open`], but creates no file.
    ///
    /// # Errors
    /// As [`Self::open`], or if the database file does not exist.
    pub async fn open_existing_with(&self, migrate: Migrate) -> anyhow::Result<Db> {
        if let DatabaseUrl::Sqlite(path) = &self.database_url {
            anyhow::ensure!(path.exists(), "there is no database {}", path.display());
        }
        self.open(migrate).await
    }

    /// Returns the settings for a command that may write to all rows of a table.
    #[must_use]
    pub fn for_maintenance(&self) -> Self {
        Self { pool: self.pool.for_maintenance(), ..self.clone() }
    }
}

/// The lifetimes of sessions and their tokens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sessions")]
pub struct SessionArgs {
    /// Lifetime of access tokens, at most 15m
    #[arg(long, env = "TASKEY_ACCESS_TOKEN_TTL", default_value = "5m", value_name = "DURATION",
          value_parser = access_ttl)]
    pub access_token_ttl: Duration,

    /// Lifetime of a session that is not refreshed
    #[arg(long, env = "TASKEY_REFRESH_IDLE_TTL", default_value = "7d", value_name = "DURATION", value_parser = ttl)]
    pub refresh_idle_ttl: Duration,

    /// Maximum lifetime of a session
    #[arg(long, env = "TASKEY_REFRESH_MAX_TTL", default_value = "30d", value_name = "DURATION", value_parser = ttl)]
    pub refresh_max_ttl: Duration,

    /// How long a refresh with a used refresh token returns the same new token, in case the response was lost
    #[arg(long, env = "TASKEY_REFRESH_GRACE", default_value = "60s", value_name = "DURATION", value_parser = duration)]
    pub refresh_grace: Duration,

    /// How long after a login, or a further proof of the password or of a second factor, a session can change credentials,
    /// such as second factors and personal access tokens, and administer accounts
    #[arg(long, env = "TASKEY_STEP_UP_MAX_AGE", default_value = "10m", value_name = "DURATION", value_parser = ttl)]
    pub step_up_max_age: Duration,
}

/// The rules for passwords, and the cost of their hashes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Passwords")]
pub struct PasswordArgs {
    /// Minimum length of new passwords, in characters (NIST SP 800-63B-4 requires 15)
    #[arg(long, env = "TASKEY_PASSWORD_MIN_LENGTH", default_value_t = 15, value_name = "COUNT",
          value_parser = clap::value_parser!(u16).range(8..=128))]
    pub password_min_length: u16,

    /// Memory for each password hash (argon2id parameter m)
    #[arg(long, env = "TASKEY_PASSWORD_MEMORY_KIB", default_value_t = 19_456, value_name = "KIB",
          value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub password_memory_kib: u32,

    /// Number of passes over the memory for each password hash (argon2id parameter t)
    #[arg(long, env = "TASKEY_PASSWORD_PASSES", default_value_t = 2, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub password_passes: u32,

    /// Maximum number of password hashes computed in parallel [default: number of cores minus one, at least one]
    #[arg(long, env = "TASKEY_PASSWORD_CONCURRENCY", value_name = "COUNT",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub password_concurrency: Option<u16>,
}

fn ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        ttl if ttl < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
        ttl => Ok(ttl),
    }
}

fn access_ttl(text: &str) -> Result<Duration, String> {
    ttl(text).and_then(|ttl| if ttl > claims::MAX_LIFETIME { Err("must be at most 15m".to_owned()) } else { Ok(ttl) })
}

/// Parses how long a new key is published before it signs.
pub(crate) fn publish_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        period if period < KEYS_RELOAD_DELAY => {
            Err("must be at least 5s, the time within which services reload their key files".to_owned())
        }
        period => Ok(period),
    }
}

/// The mails to users.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Mail")]
pub struct MailArgs {
    /// How mails are sent. `smtp://USER@HOST:PORT`: by SMTP with STARTTLS, by default to port 587; without a
    /// user, a server on this machine may do without TLS. `smtps://USER@HOST:PORT`: by SMTP over TLS, by default to port 465.
    /// `command:PROGRAM ARGUMENT...`: by a program that reads the mail from standard input, such as
    /// `command:/usr/sbin/sendmail -i -t`. `file:FOLDER`: as files in a directory, for development. `off`: not at all
    #[arg(long, env = "TASKEY_MAIL", default_value = "off", value_name = "TRANSPORT")]
    pub mail: TransportSetting,

    /// Address of the sender of mails, such as `tasks@example.org`. Required with --mail
    #[arg(long, env = "TASKEY_MAIL_FROM", value_name = "ADDRESS", value_parser = mail_sender)]
    pub mail_from: Option<Email>,

    /// File with the password for the SMTP server; must have mode 0600, or 0440 if root owns it. Read again for each
    /// connection
    #[arg(long, env = "TASKEY_MAIL_PASSWORD_FILE", value_name = "FILE")]
    pub mail_password_file: Option<PathBuf>,

    /// File with the certificates of the authorities that issue the certificate of the SMTP server (PEM). Read again for
    /// each connection [default: the authorities that Mozilla trusts]
    #[arg(long, env = "TASKEY_MAIL_CA_FILE", value_name = "FILE")]
    pub mail_ca_file: Option<PathBuf>,

    /// Maximum time for the transport to accept a mail. After that, the server tries again later
    #[arg(long, env = "TASKEY_MAIL_TIMEOUT", default_value = "30s", value_name = "DURATION", value_parser = mail_timeout)]
    pub mail_timeout: Duration,

    /// Refuse logins to accounts whose email address is not verified. Sign-ups then do not reveal whether an address has an
    /// account. Sessions that exist already continue
    #[arg(long, env = "TASKEY_REQUIRE_VERIFIED_EMAIL")]
    pub require_verified_email: bool,
}

fn mail_timeout(text: &str) -> Result<Duration, String> {
    match time_limit(text)? {
        timeout if timeout > Duration::from_secs(600) => Err("at most 10m".to_owned()),
        timeout => Ok(timeout),
    }
}

fn mail_sender(text: &str) -> Result<Email, String> {
    Email::parse(text).map_err(|violation| format!("the address {violation}"))
}

/// The rate limits of addresses.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rate limits")]
pub struct RateArgs {
    /// Whether to enforce rate limits, and delays after wrong passwords. The number of passwords that wait to be hashed
    /// is always limited
    #[arg(long, env = "TASKEY_RATE_LIMITS", default_value = "on", value_name = "SWITCH")]
    pub rate_limits: OnOff,

    /// Logins, changes of the password and deletions of the account per IPv4 address or IPv6 /64 network: 10+6/m is a
    /// burst of 10, then 6 per minute. Units are s, m and h
    #[arg(long, env = "TASKEY_LOGIN_RATE", default_value = "10+6/m", value_name = "RATE")]
    pub login_rate: Rate,

    /// Sign-ups per IPv4 address or IPv6 /64 network
    #[arg(long, env = "TASKEY_SIGN_UP_RATE", default_value = "10+3/h", value_name = "RATE")]
    pub sign_up_rate: Rate,

    /// Refreshes per IPv4 address or IPv6 /64 network, which many users may share
    #[arg(long, env = "TASKEY_REFRESH_RATE", default_value = "120+120/m", value_name = "RATE")]
    pub refresh_rate: Rate,
}
