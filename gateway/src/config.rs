//! Command-line flags and environment variables of the gateway.

use std::net::SocketAddr;

use clap::Args;
use service_kit::{
    auth::credential::ServiceTokenArgs,
    ops::config::{LimitArgs, endpoint, message_size},
    public_url::PublicUrl,
    server::{health::HealthReport, in_process::InProcessChannel},
    tls::{TlsArgs, UpstreamTlsArgs},
};
use tonic::transport::Endpoint;

use crate::{
    http::{cors::Origin, request::JsonLimits},
    replica::Address,
};

/// The configuration of the gateway.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, env = "TASKEY_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// URL of auth-service: http or https. For several replicas, repeat the flag or separate the URLs with commas. Calls
    /// are balanced over those that serve
    #[arg(long, env = "TASKEY_AUTH_URL", default_value = "http://127.0.0.1:50051", value_name = "URL",
          value_delimiter = ',', value_parser = endpoint)]
    pub auth_url: Vec<Endpoint>,

    /// URL of task-service, as that of auth-service
    #[arg(long, env = "TASKEY_TASK_URL", default_value = "http://127.0.0.1:50052", value_name = "URL",
          value_delimiter = ',', value_parser = endpoint)]
    pub task_url: Vec<Endpoint>,

    /// The token with which the gateway authenticates to auth-service.
    #[command(flatten)]
    pub service_token: ServiceTokenArgs,

    /// Settings for browsers.
    #[command(flatten)]
    pub browsers: BrowserArgs,

    /// Limits of JSON request bodies.
    #[command(flatten)]
    pub json: JsonArgs,

    /// The services, if they run in this process. Their URLs are then not used.
    #[arg(skip)]
    pub in_process: Option<InProcessServices>,

    /// The health of the server, for the listener for operators.
    #[arg(skip)]
    pub health: HealthReport,

    /// TLS of the server.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// TLS of the connections to the services.
    #[command(flatten)]
    pub upstream: UpstreamTlsArgs,

    /// Limits of the server.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Channels to the services behind the gateway.
#[derive(Clone, Debug, Default)]
pub struct InProcessServices {
    /// auth-service.
    pub auth: InProcessChannel,
    /// task-service.
    pub task: InProcessChannel,
}

impl Config {
    /// Returns the replicas of auth-service, and those of task-service.
    pub(crate) fn replicas(&self) -> [Vec<Address>; 2] {
        let Some(InProcessServices { auth, task }) = &self.in_process else {
            return [&self.auth_url, &self.task_url]
                .map(|urls| urls.iter().map(|endpoint| endpoint.uri().clone().into()).collect());
        };
        [auth, task].map(|channel| vec![channel.clone().into()])
    }
}

/// Settings for browsers.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Browsers")]
pub struct BrowserArgs {
    /// URL under which browsers reach the gateway, such as `https://tasks.example.org`, or `https://example.org/tasks`
    /// behind a proxy that removes the path. Cookies get its path and, for https, the attribute Secure; requests with
    /// cookies must come from its origin [default: the host of each request]
    #[arg(long, env = "TASKEY_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,

    /// Always set the Secure attribute of cookies, and the header Strict-Transport-Security. By default, they are set if
    /// the client uses TLS, or a trusted proxy sends `x-forwarded-proto: https`
    #[arg(long, env = "TASKEY_SECURE_COOKIES")]
    pub secure_cookies: bool,

    /// Comma-separated origins that may call the gateway from a browser, such as `https://app.example.org`. They must
    /// send tokens, because cookies are limited to the gateway's own origin [default: none]
    #[arg(long = "cors-origin", env = "TASKEY_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,
}

/// Limits of JSON request bodies.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct JsonArgs {
    /// Maximum size of a JSON request body
    #[arg(long, env = "TASKEY_MAX_JSON_BYTES", default_value_t = 256 * 1024, value_name = "BYTES",
          value_parser = message_size)]
    pub max_json_bytes: usize,

    /// Maximum nesting depth of a JSON request body
    #[arg(long, env = "TASKEY_MAX_JSON_DEPTH", default_value_t = 32, value_name = "COUNT",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub max_json_depth: u8,
}

impl From<&JsonArgs> for JsonLimits {
    fn from(args: &JsonArgs) -> Self {
        Self { max_bytes: args.max_json_bytes, max_depth: args.max_json_depth.into() }
    }
}
