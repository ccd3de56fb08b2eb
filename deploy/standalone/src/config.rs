//! Settings of the all-in-one program: the settings of the single services that apply within one process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use auth_service::config::{DatabaseArgs, ExchangeArgs, MailArgs, PasswordArgs, RateArgs, SecretArgs, SessionArgs};
use clap::Parser;
use gateway::config::{BrowserArgs, InProcessServices, JsonArgs};
use service_kit::{
    auth::{
        call_limit::CallRateArgs,
        credential::{ServiceTokenArgs, VerifierArgs},
    },
    db::{DatabaseUrl, MigrateArgs, PoolArgs, schema_name},
    network::local_target,
    ops::{
        config::{KeyArgs, LimitArgs, TokenArgs},
        secret_file::Key,
        telemetry::TelemetryArgs,
    },
    server::{health::HealthReport, ops::OpsArgs},
    tls::{TlsArgs, UpstreamTlsArgs},
    trace::TraceArgs,
};
use task_service::config::TaskArgs;
use tonic::transport::Endpoint;

use crate::command::Command;

/// A to-do backend: accounts, sessions and tasks over gRPC and HTTP/JSON, all in one process.
#[derive(Clone, Debug, Parser)]
#[command(name = "taskey", version)]
pub struct Cli {
    /// The command; without one, the program serves.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Directory for databases and keys; created on first start with mode 0700
    #[arg(long, env = "TASKEY_DATA_DIR", default_value = "./data", value_name = "FOLDER", global = true)]
    pub data_dir: PathBuf,

    /// Address of auth-service; port 0 selects a free port
    #[arg(long, env = "TASKEY_AUTH_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub auth_listen: SocketAddr,

    /// Address of task-service; port 0 selects a free port
    #[arg(long, env = "TASKEY_TASK_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub task_listen: SocketAddr,

    /// Address of the gateway; port 0 selects a free port
    #[arg(long, env = "TASKEY_GATEWAY_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub gateway_listen: SocketAddr,

    /// Database URL: `sqlite:PATH` or `postgres://...`. Each service has its own SQLite file: `sqlite:x.db` is
    /// x-auth.db and x-task.db [default: auth.db and task.db in the data directory]
    // The URL may contain a password, so `--help` must not show its value.
    #[arg(long, env = "TASKEY_DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_url: Option<DatabaseUrl>,

    /// PostgreSQL schema for accounts and sessions
    #[arg(long, env = "TASKEY_AUTH_SCHEMA", default_value = "auth", value_name = "NAME", value_parser = schema_name,
          global = true)]
    pub auth_schema: String,

    /// PostgreSQL schema for tasks and lists
    #[arg(long, env = "TASKEY_TASK_SCHEMA", default_value = "task", value_name = "NAME", value_parser = schema_name,
          global = true)]
    pub task_schema: String,

    /// Existing file with the keys of access tokens, as a JWK Set (RFC 7517) [default: keys.json in the data directory,
    /// created on first start]
    #[arg(long, env = "TASKEY_KEY_FILE", value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,

    /// File with the secret of refresh tokens [default: refresh.secret beside the key file, created on first start]
    #[arg(long, env = "TASKEY_SECRET_FILE", value_name = "FILE", global = true)]
    pub secret_file: Option<PathBuf>,

    /// Issuer and audience of access tokens.
    #[command(flatten)]
    pub tokens: TokenArgs,

    /// Audiences of exchanged tokens.
    #[command(flatten)]
    pub exchange: ExchangeArgs,

    /// Lifetimes of sessions and tokens.
    #[command(flatten)]
    pub sessions: SessionArgs,

    /// Password rules and hashing costs.
    #[command(flatten)]
    pub passwords: PasswordArgs,

    /// Mails to users.
    #[command(flatten)]
    pub mail: MailArgs,

    /// Rate limits.
    #[command(flatten)]
    pub rates: RateArgs,

    /// The rate limit of calls.
    #[command(flatten)]
    pub call_rate: CallRateArgs,

    /// Settings for tasks.
    #[command(flatten)]
    pub tasks: TaskArgs,

    /// Settings for browsers.
    #[command(flatten)]
    pub browsers: BrowserArgs,

    /// Settings for JSON.
    #[command(flatten)]
    pub json: JsonArgs,

    /// The migrations at start.
    #[command(flatten)]
    pub migrations: MigrateArgs,

    /// Connection pools.
    #[command(flatten)]
    pub pool: PoolArgs,

    /// TLS of the three servers, which share a certificate.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Limits of each server.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// The listener for operators.
    #[command(flatten)]
    pub ops: OpsArgs,

    /// Logging.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,

    /// Traces.
    #[command(flatten)]
    pub traces: TraceArgs,
}

/// The settings of each service.
pub struct Configs {
    /// Settings of auth-service.
    pub auth: auth_service::config::Config,
    /// Settings of task-service.
    pub task: task_service::config::Config,
    /// Settings of the gateway.
    pub gateway: gateway::config::Config,
}

impl Cli {
    /// Returns the path of the key file for access tokens.
    pub fn key_file(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| self.data_dir.join("keys.json"))
    }

    /// Splits the settings into those of each service, which call each other over `channels`. The settings of listeners are
    /// not among them, except for commands, because the listeners are already bound.
    pub fn into_configs(self, channels: InProcessServices) -> Configs {
        // The gateway and the services share this process, so a random token suffices.
        let service_token = Some(Key::random());
        Configs {
            auth: auth_service::config::Config {
                listen: self.auth_listen,
                database: DatabaseArgs {
                    database_url: self.database("auth"),
                    schema: self.auth_schema.clone(),
                    pool: self.pool.clone(),
                },
                migrations: self.migrations,
                secrets: SecretArgs {
                    keys: KeyArgs { key_file: self.key_file() },
                    secret_file: self.secret_file.clone(),
                },
                gateway: service_token.clone(),
                health: HealthReport::default(),
                tokens: self.tokens.clone(),
                exchange: self.exchange.clone(),
                sessions: self.sessions.clone(),
                passwords: self.passwords.clone(),
                mail: self.mail.clone(),
                public_url: self.browsers.public_url.clone(),
                tls: TlsArgs::default(),
                limits: self.limits.clone(),
                rates: self.rates.clone(),
                call_rate: self.call_rate,
            },
            task: task_service::config::Config {
                listen: self.task_listen,
                database: task_service::config::DatabaseArgs {
                    database_url: self.database("task"),
                    schema: self.task_schema.clone(),
                    pool: self.pool.clone(),
                },
                migrations: self.migrations,
                auth_url: Vec::new(),
                verifier: VerifierArgs { key_file: Some(self.key_file()), service_token_file: None },
                tokens: self.tokens,
                tasks: self.tasks,
                gateway: service_token.clone(),
                health: HealthReport::default(),
                auth: Some(channels.auth.clone()),
                tls: TlsArgs::default(),
                upstream: UpstreamTlsArgs::default(),
                limits: self.limits.clone(),
                rate_limits: self.rates.rate_limits,
                call_rate: self.call_rate,
            },
            gateway: gateway::config::Config {
                listen: self.gateway_listen,
                auth_url: Vec::new(),
                task_url: Vec::new(),
                in_process: Some(channels),
                service_token: ServiceTokenArgs { service_token_file: None, service_token },
                browsers: self.browsers,
                json: self.json,
                health: HealthReport::default(),
                tls: TlsArgs::default(),
                upstream: UpstreamTlsArgs::default(),
                limits: self.limits,
            },
        }
    }

    /// Splits the settings into those of each service, for commands, which do not listen.
    pub fn into_command_configs(self) -> Configs {
        self.into_configs(InProcessServices::default())
    }

    fn database(&self, service: &str) -> DatabaseUrl {
        match &self.database_url {
            None => DatabaseUrl::Sqlite(self.data_dir.join(service).with_extension("db")),
            Some(DatabaseUrl::Sqlite(path)) => DatabaseUrl::Sqlite(with_service_suffix(path, service)),
            // The services use separate schemas.
            Some(server) => server.clone(),
        }
    }
}

/// Changes a path such as `taskey.db` to `taskey-auth.db`.
fn with_service_suffix(path: &Path, service: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-");
    name.push(service);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Returns the endpoint at which the same machine reaches a service that listens on this address.
pub fn endpoint(listen: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{}", local_target(listen))).expect("an address makes a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_own_database() {
        let cli = |arguments: &[&str]| Cli::parse_from(["taskey"].iter().chain(arguments));
        let file = |cli: &Cli, service| format!("{:?}", cli.database(service));
        assert_eq!(file(&cli(&[]), "auth"), "sqlite:./data/auth.db");
        assert_eq!(file(&cli(&["--data-dir", "/d"]), "task"), "sqlite:/d/task.db");
        assert_eq!(file(&cli(&["--database-url", "sqlite:/d/x.db"]), "auth"), "sqlite:/d/x-auth.db");
        assert_eq!(file(&cli(&["--database-url", "sqlite:x"]), "task"), "sqlite:x-task");
        assert_eq!(file(&cli(&["--database-url", "postgres://u:p@h/d"]), "task"), "postgres://h:5432");
    }

    #[test]
    fn unspecified_address_is_reached_through_loopback() {
        let uri = |address: &str| endpoint(address.parse().expect("an address")).uri().to_string();
        assert_eq!(uri("0.0.0.0:1"), "http://127.0.0.1:1/");
        assert_eq!(uri("[::]:1"), "http://[::1]:1/");
        assert_eq!(uri("10.0.0.1:1"), "http://10.0.0.1:1/");
    }
}
