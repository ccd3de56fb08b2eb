//! HTTP/JSON to gRPC: every unary RPC of the contract that has a `google.api.http` binding, by its binding alone.
//!
//! # Layout
//! A request goes through these, from top to bottom:
//! - [`service`]: from its arrival to its answer.
//! - [`router`], over [`template`] and [`binding`]: which RPC is bound to its method and path?
//! - [`request`], over [`parameter`], [`json`], [`message`], [`scalar`], [`well_known`] and [`mask`]: its message.
//! - [`headers`]: its metadata and its deadline. [`etag`]: which version it is about.
//! - [`backend`]: the call.
//! - [`response`]: the answer, or [`failure`]: the error.
//!
//! Beside them are [`health`], [`config`], [`fault`] (what is wrong with a field) and [`percent`].

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http::Request;
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use service_kit::server::connection::{self, Protocol};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod backend;
pub mod binding;
pub mod config;
pub mod etag;
pub mod failure;
pub mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod headers;
pub mod health;
pub mod json;
pub mod mask;
pub mod message;
pub mod parameter;
pub mod percent;
pub mod request;
pub mod response;
pub mod router;
pub mod scalar;
pub mod service;
pub mod template;
pub mod well_known;

pub use config::Config;

use backend::Backend;
use headers::Forwarding;
use service::Gateway;

/// How long a request may take, unless the settings say otherwise. The services' own deadlines are shorter, so that
/// theirs is the answer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the contract on `listener` until `shutdown`.
///
/// # Errors
/// If the service token cannot be read or the contract is at fault.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let limits = &config.limits;
    let token = config.service_token.open().await?;
    let forwarding = Arc::new(Forwarding { token, proxies: config.proxies });
    let backend = |name, package, endpoint, forwarding| Backend {
        name,
        package,
        channel: backend::connect(endpoint, limits.keepalive_interval, limits.keepalive_timeout),
        forwarding,
        max_response_bytes: limits.max_response_bytes,
    };
    let backends = vec![
        backend("auth", "taskey.auth", &config.auth_url, Some(Arc::clone(&forwarding))),
        // It wants no address, so it gets no token either.
        backend("task", "taskey.task", &config.task_url, None),
    ];
    let pool = DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).context("the contract cannot be read")?;
    let timeout = limits.request_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let gateway = Gateway::new(pool, backends, (&config.json).into(), timeout)?;
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { Ok(gateway.answer(request).await) }
    });
    let server = connection::serve("gateway", listener, Protocol::Http1And2, limits, service, shutdown);
    let follow = async {
        match &forwarding.token {
            Some(token) => token.follow().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server => served,
        () = follow => Err(anyhow::anyhow!("the service token is no longer followed")),
    }
}
