//! HTTP/JSON to gRPC: every RPC of the contract that has a `google.api.http` binding, by its binding alone.
//!
//! # Layout
//! A request goes through these, from top to bottom:
//! - [`service`]: from its arrival to its answer. [`transcode`]: what is for an RPC.
//! - [`router`], over [`template`] and [`binding`]: which RPC is bound to its method and path?
//! - [`request`], over [`parameter`], [`json`], [`message`], [`scalar`], [`well_known`] and [`mask`]: its message.
//! - [`headers`]: its metadata and its deadline. [`etag`]: which version it is about. [`idempotency`]: whether it may
//!   come again.
//! - [`cookie_mode`], over [`cookie`]: who calls, in a browser.
//! - [`backend`]: the [`call`].
//! - [`response`], over [`mod@write`]: the answer, [`stream`]: one that goes on, or [`failure`]: the error.
//!   [`negotiation`], [`preference`] and [`compression`]: in the form that the client takes.
//!
//! What is gRPC already goes through [`passthrough`]. Around all of it is [`cors`]. Beside them are [`health`], [`page`]
//! (what browsers show at `/`), [`docs`] (the contract as [`openapi`] and its reader), each of which is made of
//! [`asset`]s, [`config`], [`fault`] (what is wrong with a field) and [`percent`].

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::Request;
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use service_kit::{
    clock::Clock,
    server::connection::{self, Protocol},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;

pub mod asset;
pub mod backend;
pub mod binding;
pub mod call;
pub mod compression;
pub mod config;
pub mod cookie;
pub mod cookie_mode;
pub mod cors;
pub mod docs;
pub mod etag;
pub mod failure;
pub mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod headers;
pub mod health;
pub mod idempotency;
pub mod json;
pub mod mask;
pub mod message;
pub mod negotiation;
pub mod openapi;
pub mod page;
pub mod parameter;
pub mod passthrough;
pub mod percent;
pub mod preference;
pub mod request;
pub mod response;
pub mod router;
pub mod scalar;
pub mod service;
pub mod stream;
pub mod template;
pub mod transcode;
pub mod well_known;
pub mod write;

pub use config::Config;

use backend::{Backend, Forwarding, Streams};
use cookie_mode::CookieMode;
use service::{Gateway, Settings};

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
        assets: docs::assets(&pool)?.into_iter().chain(page::assets()).collect(),
        shutdown: shutdown.clone(),
    };
    let gateway = Gateway::new(pool, backends, settings)?;
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let gateway = gateway.clone();
        async move { Ok(gateway.answer(request).await) }
    });
    let service = ServiceBuilder::new().option_layer(cors::layer(&config.browsers.cors_origins)).service(service);
    let protocol = Protocol::Http1And2(failure::unreadable);
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
