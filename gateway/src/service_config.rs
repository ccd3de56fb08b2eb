//! The service config for clients over gRPC: timeouts, and retries of RPCs without side effects. It follows from the
//! contract. See <https://github.com/grpc/grpc/blob/master/doc/service_config.md> and gRFC A6.

use std::time::Duration;

use prost_reflect::{DescriptorPool, MethodDescriptor};
use serde::{Serialize, Serializer};

use crate::{retry, routing::binding::has_no_side_effects};

/// The timeout of unary calls: longer than those of the servers, so that their errors arrive.
const TIMEOUT: Seconds = Seconds(Duration::from_secs(10));

/// How RPCs without side effects are retried. Servers send when to retry in `grpc-retry-pushback-ms`, which takes
/// precedence over the backoff.
const RETRIES: RetryPolicy = RetryPolicy {
    max_attempts: retry::MAX_ATTEMPTS,
    initial_backoff: Seconds(retry::INITIAL_BACKOFF),
    max_backoff: Seconds(retry::MAX_BACKOFF),
    backoff_multiplier: retry::BACKOFF_MULTIPLIER,
    // Other errors are not temporary, or retries would increase the load that has caused them.
    retryable_status_codes: &["UNAVAILABLE"],
};

const RETRY_THROTTLING: RetryThrottling =
    RetryThrottling { max_tokens: retry::MAX_TOKENS, token_ratio: retry::TOKEN_RATIO };

/// The service config. It has no `healthCheckConfig`: the gateway is not healthy while one of the services behind it is not,
/// and clients would then not even call the others.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConfig {
    load_balancing_config: [LoadBalancing; 1],
    method_config: Vec<MethodConfig>,
    retry_throttling: RetryThrottling,
}

#[derive(Debug, Serialize)]
struct LoadBalancing {
    round_robin: RoundRobin,
}

#[derive(Debug, Serialize)]
struct RoundRobin {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MethodConfig {
    name: Vec<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_policy: Option<RetryPolicy>,
}

/// A duration in the JSON format of protobuf.
#[derive(Clone, Copy, Debug)]
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}s", self.0.as_secs_f64()))
    }
}

/// A method, or all methods of a service that are not named elsewhere.
#[derive(Debug, Serialize)]
struct Name {
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RetryPolicy {
    max_attempts: u32,
    initial_backoff: Seconds,
    max_backoff: Seconds,
    backoff_multiplier: u32,
    retryable_status_codes: &'static [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RetryThrottling {
    max_tokens: u32,
    token_ratio: f64,
}

impl ServiceConfig {
    /// Creates the service config of the services in a pool.
    #[must_use]
    pub fn from_pool(pool: &DescriptorPool) -> Self {
        let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let (reads, streams): (Vec<_>, Vec<_>) = methods
            .into_iter()
            .filter(|method| has_no_side_effects(method) || is_stream(method))
            .partition(|method| !is_stream(method));
        let (retried, other): (Vec<_>, Vec<_>) = streams.into_iter().partition(has_no_side_effects);
        let services = pool.services().map(|service| Name { service: service.full_name().to_owned(), method: None });
        let method_config = vec![
            MethodConfig { name: names(&reads), timeout: Some(TIMEOUT), retry_policy: Some(RETRIES) },
            MethodConfig { name: names(&retried), timeout: None, retry_policy: Some(RETRIES) },
            MethodConfig { name: names(&other), timeout: None, retry_policy: None },
            MethodConfig { name: services.collect(), timeout: Some(TIMEOUT), retry_policy: None },
        ];
        Self {
            load_balancing_config: [LoadBalancing { round_robin: RoundRobin {} }],
            method_config: method_config.into_iter().filter(|config| !config.name.is_empty()).collect(),
            retry_throttling: RETRY_THROTTLING,
        }
    }
}

/// Streams have no timeout, because they may stay open.
fn is_stream(method: &MethodDescriptor) -> bool {
    method.is_client_streaming() || method.is_server_streaming()
}

fn names(methods: &[MethodDescriptor]) -> Vec<Name> {
    let name = |method: &MethodDescriptor| Name {
        service: method.parent_service().full_name().to_owned(),
        method: Some(method.name().to_owned()),
    };
    methods.iter().map(name).collect()
}
