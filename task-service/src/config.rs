//! The settings of task-service. Each is a flag and an environment variable; its doc comment is its help text.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use service_kit::{
    auth::{call_limit::CallRateArgs, claims, credential::VerifierArgs, revocation::peer::Peer},
    db::{DatabaseUrl, Db, Migrate, MigrateArgs, PoolArgs, ServiceDatabase, schema_name},
    network::destination::{AllowedDestination, Destinations, Resolver},
    ops::{
        config::{LimitArgs, OnOff, TokenArgs, duration, endpoint},
        secret_file::Key,
    },
    rate_limit::Rate,
    sealing::source::SealingKeySource,
    server::{health::HealthReport, in_process::InProcessChannel},
    tls::{TlsArgs, UpstreamTlsArgs},
};
use tonic::transport::Endpoint;

use crate::MIGRATIONS;

/// The settings.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, env = "TASKEY_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// The migrations at start.
    #[command(flatten)]
    pub migrations: MigrateArgs,

    /// URL of auth-service, which sends revocations: http or https. For several replicas, repeat the flag or separate the
    /// URLs with commas
    #[arg(long, env = "TASKEY_AUTH_URL", default_value = "http://127.0.0.1:50051", value_name = "URL",
          value_delimiter = ',', value_parser = endpoint)]
    pub auth_url: Vec<Endpoint>,

    /// How access tokens are verified.
    #[command(flatten)]
    pub verifier: VerifierArgs,

    /// The issuer and the audience of access tokens.
    #[command(flatten)]
    pub tokens: TokenArgs,

    /// The settings that only this service has.
    #[command(flatten)]
    pub tasks: TaskArgs,

    /// The health of the server, for the listener for operators.
    #[arg(skip)]
    pub health: HealthReport,

    /// The key of the service token of the gateway, if it runs in this process.
    #[arg(skip)]
    pub gateway: Option<Key>,

    /// auth-service, if it runs in this process. Its URL is then not used.
    #[arg(skip)]
    pub auth: Option<InProcessChannel>,

    /// TLS of the server.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// TLS of the connections to auth-service.
    #[command(flatten)]
    pub upstream: UpstreamTlsArgs,

    /// The limits of the server.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Whether to enforce the rate limits per user
    #[arg(long, env = "TASKEY_RATE_LIMITS", default_value = "on", value_name = "SWITCH")]
    pub rate_limits: OnOff,

    /// The rate limit of calls.
    #[command(flatten)]
    pub call_rate: CallRateArgs,
}

impl Config {
    /// Reads the keys of the secrets of webhooks. Without a setting, there are none if the folder of the key file cannot be
    /// written, so that services with read-only secrets start.
    ///
    /// # Errors
    /// If the file is unusable.
    pub(crate) fn webhook_keys(&self) -> anyhow::Result<Option<SealingKeySource>> {
        let Some(file) = self.webhook_key_file() else { return Ok(None) };
        let opened = SealingKeySource::open(file.clone());
        if self.tasks.webhooks.webhook_key_file.is_some() || file.exists() {
            return opened.map(Some);
        }
        Ok(opened.inspect_err(warn_about_missing_key).ok())
    }

    /// Returns the path of the file with the keys of the secrets of webhooks, which need not exist.
    #[must_use]
    pub fn webhook_key_file(&self) -> Option<PathBuf> {
        let default = || self.verifier.key_file.as_ref().map(|file| file.with_file_name("webhook.key"));
        self.tasks.webhooks.webhook_key_file.clone().or_else(default)
    }

    /// Returns the servers that send revocations.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        match &self.auth {
            Some(channel) => vec![Peer::InProcess(channel.clone())],
            None => self.auth_url.iter().cloned().map(Peer::from).collect(),
        }
    }
}

fn warn_about_missing_key(error: &anyhow::Error) {
    tracing::warn!(error = format!("{error:#}"), "webhooks are disabled: --webhook-key-file is not set");
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
        default_value = "sqlite:task.db",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: DatabaseUrl,

    /// PostgreSQL schema of the tables
    #[arg(long, env = "TASKEY_SCHEMA", default_value = "task", value_name = "NAME", value_parser = schema_name)]
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
        ServiceDatabase {
            service: "task",
            url: database_url,
            schema,
            migrations: &MIGRATIONS,
            pool,
            sqlite_joins: &[("tasks", "tasks join task_texts using (owner_id, id)")],
        }
    }

    /// Opens the database. `migrate` determines what happens to missing and older tables.
    ///
    /// # Errors
    /// If it cannot be reached, is no database, or its tables are not usable.
    pub async fn open(&self, migrate: Migrate) -> anyhow::Result<Db> {
        Db::open(&self.database_url, &self.schema, &MIGRATIONS, migrate, &self.pool).await
    }
}

/// The settings that only task-service has, also when it runs within `taskey`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tasks")]
pub struct TaskArgs {
    /// How long access tokens are accepted while no revocations can be received, at most 15m. Values below 3s have the
    /// effect of 3s
    #[arg(long, env = "TASKEY_REVOCATION_MAX_STALENESS", default_value = "30s", value_name = "DURATION",
          value_parser = staleness)]
    pub revocation_max_staleness: Duration,

    /// Rows that a user may write: 20000+6000/m is a burst of 20,000, then 6,000 per minute. Each 4 KiB of a row count as
    /// one more. A call that exceeds the limit succeeds, and later ones wait
    #[arg(long, env = "TASKEY_ROW_RATE", default_value = "20000+6000/m", value_name = "RATE")]
    pub row_rate: Rate,

    /// Maximum number of active tasks per user. There may be 10,000 deleted ones beside them; beyond that, the oldest are
    /// purged early
    #[arg(long, env = "TASKEY_MAX_TASKS", default_value_t = 10_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_tasks: u32,

    /// Maximum number of lists per user
    #[arg(long, env = "TASKEY_MAX_LISTS", default_value_t = 500, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_lists: u32,

    /// How long deleted tasks can be undeleted before they are purged
    #[arg(long, env = "TASKEY_PURGE_AFTER", default_value = "30d", value_name = "DURATION", value_parser = duration)]
    pub purge_after: Duration,

    /// Webhooks.
    #[command(flatten)]
    pub webhooks: WebhookArgs,
}

/// The settings of webhooks.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookArgs {
    /// File with the keys that encrypt the secrets of webhooks, which all replicas share: 32 bytes in base64url per line.
    /// The first one encrypts. The file is read again when it changes [default: webhook.key beside the key file; created on first start]
    #[arg(long, env = "TASKEY_WEBHOOK_KEY_FILE", value_name = "FILE")]
    pub webhook_key_file: Option<PathBuf>,

    /// Network, address or host name to which webhooks may be sent even if it is not public, also over http. Can be
    /// repeated
    #[arg(long, env = "TASKEY_WEBHOOK_ALLOW", value_name = "CIDR|HOST", value_delimiter = ',')]
    pub webhook_allow: Vec<AllowedDestination>,

    /// File with the certificates of the authorities that issue certificates for receivers of webhooks (PEM) [default:
    /// those that the system trusts]
    #[arg(long, env = "TASKEY_WEBHOOK_CA_FILE", value_name = "FILE")]
    pub webhook_ca_file: Option<PathBuf>,

    /// Resolves the hosts of receivers.
    #[arg(skip)]
    pub resolver: Resolver,
}

impl WebhookArgs {
    /// Returns the servers to which webhooks may be sent.
    pub(crate) fn destinations(&self) -> Destinations {
        Destinations::new(self.webhook_allow.clone(), self.resolver.clone())
    }
}

/// Parses a staleness. Beyond the maximum lifetime of tokens, revocations would have no effect.
fn staleness(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        staleness if staleness > claims::MAX_LIFETIME => Err("at most 15m".to_owned()),
        staleness => Ok(staleness),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        let fixed = ["task-service", "--key-file", "keys.json"];
        Cli::try_parse_from(fixed.iter().chain(arguments)).map(|cli| cli.config)
    }

    #[test]
    fn every_setting_but_the_keys_has_a_default() {
        let config = parse(&[]).expect("the defaults are valid");
        assert_eq!(config.auth_url[0].uri(), "http://127.0.0.1:50051/");
        assert_eq!(config.tasks.revocation_max_staleness, Duration::from_secs(30));
        assert_eq!(config.tasks.purge_after, Duration::from_secs(30 * 24 * 3600));
        assert_eq!(config.rate_limits, OnOff::On);
    }

    #[test]
    fn a_service_token_or_a_certificate_replaces_the_key_file() {
        let config = |arguments: &[&str]| Cli::try_parse_from(["task-service"].iter().chain(arguments));
        let verifier = config(&["--service-token-file", "token"]).expect("no key file is needed").config.verifier;
        assert!(verifier.key_file.is_none() && verifier.service_token_file.is_some());
        assert!(config(&[]).is_err());
        let certificate = ["--upstream-ca-file", "ca", "--upstream-cert-file", "crt", "--upstream-key-file", "key"];
        let verifier = config(&certificate).expect("neither a key file nor a token is needed").config.verifier;
        assert!(verifier.key_file.is_none() && verifier.service_token_file.is_none());
    }

    #[test]
    fn staleness_beyond_the_lifetime_of_a_token_is_refused() {
        for (text, is_valid) in [("0s", true), ("15m", true), ("901s", false), ("soon", false)] {
            assert_eq!(parse(&["--revocation-max-staleness", text]).is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn auth_urls_are_repeated_or_separated_by_commas() {
        let config = parse(&["--auth-url", "http://a:1,http://b:2", "--auth-url", "http://[::1]:3"]).expect("valid");
        let urls: Vec<_> = config.auth_url.iter().map(|peer| peer.uri().to_string()).collect();
        assert_eq!(urls, ["http://a:1/", "http://b:2/", "http://[::1]:3/"]);
    }

    #[test]
    fn an_invalid_auth_url_is_refused() {
        for url in
            ["", "auth:50051", "127.0.0.1:50051", "ftp://auth:1", "http://", "https://", "http://a/path", "http://a b"]
        {
            assert!(parse(&["--auth-url", url]).is_err(), "{url:?}");
        }
    }
}
