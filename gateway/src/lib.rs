//! HTTP/JSON to gRPC: every RPC of the contract that has a `google.api.http` binding, by its binding alone.
//!
//! # Layout
//! A request passes these, from top to bottom; each file and folder imports only those after it.
//! - [`config`]: the settings.
//! - [`service`]: every request, from its arrival to its response. [`transcode`]: HTTP/JSON for an RPC.
//!   [`passthrough`]: what is gRPC already. [`stream`]: a response that goes on.
//! - [`site`]: the page, the documentation, and health.
//! - [`openapi`]: the description of the API.
//! - [`session`]: the access token in a cookie.
//! - [`semantics`]: entity tags, idempotency, and preferences.
//! - [`http`](mod@http): requests, responses, errors, and what surrounds them.
//! - [`routing`]: which RPC is bound to a method and a path.
//! - [`codec`]: JSON, parameters and paths to messages, and back.
//! - [`backend`]: the call of a service.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::http::Request;
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use service_kit::{
    clock::Clock,
    server::connection::{self, Protocol},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;

pub mod backend;
pub mod codec;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod openapi;
pub mod passthrough;
pub mod routing;
pub mod semantics;
pub mod service;
pub mod session;
pub mod site;
pub mod stream;
pub mod transcode;

pub use config::Config;

use backend::{Backend, Forwarding, Streams};
use service::{Gateway, Settings};
use session::cookie_mode::CookieMode;

/// How long a request may take, unless the settings say otherwise. The services' own deadlines are shorter, so that
/// theirs is the answer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the contract on `listener` until `shutdown`.
///
/// # Errors
/// If the service token cannot be read or the contract is invalid.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let limits = &config.limits;
    let token = config.service_token.open().await?;
    let proxies = config.proxies.clone();
    let forwarding = Arc::new(Forwarding { token, proxies: config.proxies });
    let backend = |name, package, endpoint, forwarding| {
        let connect = || backend::connect(endpoint, limits.keepalive_interval, limits.keepalive_timeout);
        let (channel, streams) = (connect(), Streams::new(connect));
        Backend { name, package, channel, streams, forwarding, max_response_bytes: limits.max_response_bytes }
    };
    let backends = vec![
        backend("auth", "taskey.auth", &config.auth_url, Some(Arc::clone(&forwarding))),
        // It wants no address, so it gets no token either.
        backend("task", "taskey.task", &config.task_url, None),
    ];
    let cookies = CookieMode::new(config.browsers.secure_cookies, proxies, Clock::system(), &backends);
    let pool = contract();
    let settings = Settings {
        json: (&config.json).into(),
        timeout: limits.request_timeout.unwrap_or(DEFAULT_TIMEOUT),
        cookies,
        assets: site::docs::assets(&pool)?.into_iter().chain(site::page::assets()).collect(),
        shutdown: shutdown.clone(),
    };
    let gateway = Gateway::new(pool, backends, settings)?;
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { Ok(gateway.answer(request).await) }
    });
    let service = ServiceBuilder::new().option_layer(http::cors::layer(&config.browsers.cors_origins)).service(service);
    let protocol = Protocol::Http1And2(http::error::unreadable);
    let server = connection::serve("gateway", listener, protocol, limits, service, shutdown);
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

/// The descriptors of the contract, which is compiled in.
fn contract() -> DescriptorPool {
    static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("descriptors that protoc has written")
    });
    CONTRACT.clone()
}
