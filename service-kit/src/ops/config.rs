//! Settings that several programs share. Each is a flag and an environment variable; its doc comment is its help text.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tonic::transport::{Endpoint, Uri};

use crate::network::ProxyArgs;

/// Maximum of all settings that are durations.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

/// Parses a duration such as `90s`, `5m` or `7d`, up to ten years.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > MAX_DURATION => Err("at most 3650d".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("expected a duration such as 90s, 5m or 7d".to_owned()),
    }
}

/// Parses a time limit: from a millisecond to a day.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn time_limit(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        limit if limit < Duration::from_millis(1) => Err("at least 1ms".to_owned()),
        limit if limit > Duration::from_secs(86_400) => Err("at most 1d".to_owned()),
        limit => Ok(limit),
    }
}

/// Parses an age: from a millisecond.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn age(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        age if age < Duration::from_millis(1) => Err("at least 1ms".to_owned()),
        age => Ok(age),
    }
}

/// Parses a delay: up to an hour.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn delay(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        delay if delay > Duration::from_secs(3600) => Err("at most 1h".to_owned()),
        delay => Ok(delay),
    }
}

/// Parses the maximum size of a response: from 32 KiB, because it must have room for the largest resource, to 1 GiB.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn response_size(text: &str) -> Result<usize, String> {
    message_size(text).ok().filter(|size| *size >= 32 * 1024).ok_or("expected 32768 to 1073741824".to_owned())
}

/// Parses a count from 1 to a million.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or("expected 1 to 1000000".to_owned())
}

/// Parses the maximum size of a message: from 1 KiB to 1 GiB.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn message_size(text: &str) -> Result<usize, String> {
    let sizes = 1024..=1024 * 1024 * 1024;
    text.parse().ok().filter(|size| sizes.contains(size)).ok_or("expected 1024 to 1073741824".to_owned())
}

/// Parses the maximum size of all bodies in memory: from 1 MiB to 1 TiB.
///
/// # Errors
/// If the value is invalid, with a message for the user.
pub fn total_size(text: &str) -> Result<usize, String> {
    let sizes = 1024 * 1024..=1024 * 1024 * 1024 * 1024;
    text.parse().ok().filter(|size| sizes.contains(size)).ok_or("expected 1048576 to 1099511627776".to_owned())
}

/// Parses the URL of a service, such as `http://127.0.0.1:50051` or `https://auth.example.org:50051`.
///
/// # Errors
/// If it is not an `http` or `https` URL, or has a path or a query, which gRPC does not support.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let invalid = || "expected http://HOST:PORT or https://HOST:PORT".to_owned();
    let uri: Uri = text.parse().map_err(|_| invalid())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if is_http && uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == "/" && uri.query().is_none() {
        Ok(Endpoint::from(uri))
    } else {
        Err(invalid())
    }
}

/// The issuer and the audience of access tokens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct TokenArgs {
    /// Issuer of access tokens (claim `iss`)
    #[arg(long, env = "TASKEY_ISSUER", default_value = "taskey")]
    pub issuer: String,

    /// Audience of access tokens (claim `aud`)
    #[arg(long, env = "TASKEY_AUDIENCE", default_value = "taskey")]
    pub audience: String,
}

/// The location of the keys of access tokens.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct KeyArgs {
    /// File with the keys of access tokens, as a JWK Set (RFC 7517); must have mode 0600
    #[arg(long, env = "TASKEY_KEY_FILE", value_name = "FILE", default_value = "keys.json")]
    pub key_file: PathBuf,
}

/// Whether rate limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// Enforced.
    On,
    /// Not enforced.
    Off,
}

/// The limits of a server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Allow plaintext connections on addresses other than loopback, where tokens can be intercepted
    #[arg(long, env = "TASKEY_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,

    /// Maximum duration of a call until its response begins; a shorter deadline of the caller takes precedence
    /// [default: 5s in auth-service, 3s in task-service, 10s in the gateway]
    #[arg(long, env = "TASKEY_REQUEST_TIMEOUT", value_name = "DURATION", value_parser = time_limit)]
    pub request_timeout: Option<Duration>,

    /// Maximum size of a received gRPC message
    #[arg(long, env = "TASKEY_MAX_REQUEST_BYTES", default_value_t = 256 * 1024, value_name = "BYTES",
          value_parser = message_size)]
    pub max_request_bytes: usize,

    /// Maximum size of a sent gRPC message
    #[arg(long, env = "TASKEY_MAX_RESPONSE_BYTES", default_value_t = 4 * 1024 * 1024, value_name = "BYTES",
          value_parser = response_size)]
    pub max_response_bytes: usize,

    /// Maximum size of the headers of a call
    #[arg(long, env = "TASKEY_MAX_HEADER_BYTES", default_value_t = 16 * 1024, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub max_header_bytes: u32,

    /// Maximum number of concurrent connections
    #[arg(long, env = "TASKEY_MAX_CONNECTIONS", default_value_t = 1024, value_name = "COUNT", value_parser = count)]
    pub max_connections: usize,

    /// Maximum number of concurrent connections per IP address or IPv6 /64 network. Connections of a trusted proxy do
    /// not count; instead, each request of its clients counts as a connection of the client
    #[arg(long, env = "TASKEY_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 64, value_name = "COUNT",
          value_parser = count)]
    pub max_connections_per_address: usize,

    /// Maximum number of concurrent calls per connection
    #[arg(long, env = "TASKEY_MAX_STREAMS", default_value_t = 128, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// Maximum number of concurrent calls whose responses have not begun. Half as many calls may be waiting for the rest
    /// of their requests. One client may use half of these limits and of the next two; in the gateway, an eighth
    #[arg(long, env = "TASKEY_MAX_CALLS", default_value_t = 1024, value_name = "COUNT", value_parser = count)]
    pub max_calls: usize,

    /// Maximum size of all request bodies in memory
    #[arg(long, env = "TASKEY_MAX_TOTAL_REQUEST_BYTES", default_value_t = 64 * 1024 * 1024, value_name = "BYTES",
          value_parser = total_size)]
    pub max_total_request_bytes: usize,

    /// Maximum size of all response bodies in memory that clients have not read yet
    #[arg(long, env = "TASKEY_MAX_TOTAL_RESPONSE_BYTES", default_value_t = 256 * 1024 * 1024, value_name = "BYTES",
          value_parser = total_size)]
    pub max_total_response_bytes: usize,

    /// How long a new connection may take to send its first bytes, and a client of HTTP/1 to send the headers of a
    /// request
    #[arg(long, env = "TASKEY_HANDSHAKE_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = time_limit)]
    pub handshake_timeout: Duration,

    /// How long an HTTP/1 connection may wait for its next request; must be longer than a proxy in front of the server
    /// keeps idle connections. HTTP/2 connections are pinged instead
    #[arg(long, env = "TASKEY_IDLE_TIMEOUT", default_value = "75s", value_name = "DURATION",
          value_parser = time_limit)]
    pub idle_timeout: Duration,

    /// How often an idle connection is pinged
    #[arg(long, env = "TASKEY_KEEPALIVE_INTERVAL", default_value = "30s", value_name = "DURATION",
          value_parser = time_limit)]
    pub keepalive_interval: Duration,

    /// How long to wait for the response to a ping before the connection is closed
    #[arg(long, env = "TASKEY_KEEPALIVE_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = time_limit)]
    pub keepalive_timeout: Duration,

    /// How old a connection may become, plus or minus 10 %. Its client is then asked to open another one, which may be to
    /// another replica. Over HTTP/2, it receives GOAWAY; over HTTP/1, `connection: close` in the next response
    #[arg(long, env = "TASKEY_MAX_CONNECTION_AGE", default_value = "15m", value_name = "DURATION", value_parser = age)]
    pub max_connection_age: Duration,

    /// How long calls in progress may continue on a connection that has reached its maximum age. Then streams end with
    /// UNAVAILABLE / SHUTTING_DOWN
    #[arg(long, env = "TASKEY_MAX_CONNECTION_AGE_GRACE", default_value = "30s", value_name = "DURATION",
          value_parser = time_limit)]
    pub max_connection_age_grace: Duration,

    /// How long to accept connections and calls after SIGTERM or SIGINT, while health checks already fail. Set it to
    /// the time in which load balancers notice that
    #[arg(long, env = "TASKEY_SHUTDOWN_DELAY", default_value = "0s", value_name = "DURATION", value_parser = delay)]
    pub shutdown_delay: Duration,

    /// How long to wait for calls in progress after the shutdown delay. Calls that take longer are aborted
    #[arg(long, env = "TASKEY_DRAIN_TIMEOUT", default_value = "10s", value_name = "DURATION",
          value_parser = time_limit)]
    pub drain_timeout: Duration,

    /// The trusted proxies.
    #[command(flatten)]
    pub proxies: ProxyArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_make_a_server_unusable_are_rejected() {
        assert!(time_limit("0s").is_err() && time_limit("100y").is_err() && time_limit("1ms").is_ok());
        assert!(duration("11y").is_err() && duration("0s").is_ok() && duration("soon").is_err());
        assert!(age("0s").is_err() && age("3650d").is_ok());
        assert!(count("0").is_err() && count("18446744073709551615").is_err() && count("1").is_ok());
        assert!(message_size("0").is_err() && message_size("1024").is_ok());
    }
}
