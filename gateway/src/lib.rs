//! A gateway from HTTP/JSON to gRPC. Serves every RPC of the contract that has a `google.api.http` binding; all
//! routing and transcoding follows from the bindings.
//!
//! # Layout
//! A request passes through these modules from top to bottom. Each module imports only modules below it.
//! - [`config`]: the settings. [`doctor`]: checks them.
//! - [`service`]: handles every request. [`transcode`]: calls RPCs for HTTP/JSON requests. [`passthrough`]: forwards
//!   gRPC and gRPC-Web requests. [`upload`]: request bodies that are files. [`mod@file`]: responses that are files.
//!   [`stream`]: streaming responses.
//! - [`site`]: the web page, the documentation, and health checks.
//! - [`openapi`]: the OpenAPI document. [`service_config`]: the service config for clients over gRPC.
//! - [`session`]: access and refresh tokens in cookies.
//! - [`semantics`]: entity tags, idempotency, and preferences.
//! - [`http`](mod@http): requests, responses, errors, headers, compression, and CORS.
//! - [`routing`]: routes a method and a path to an RPC.
//! - [`codec`]: converts JSON, parameters and paths to messages, and messages to JSON.
//! - [`backend`]: calls the services behind the gateway. [`exchange`]: unary calls. [`connections`]: connections to the
//!   services. [`connection`]: one of them. [`balancer`]: the choice of one. [`replica`]: their replicas. [`retry`]: requests that are sent again.
//!   [`raw_codec`]: their messages. [`conversion`]: where large messages are converted. [`body`]: bodies that are read
//!   to the end. [`quota`]: limits for each client. [`route_metrics`]: metrics of requests.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::http::Request;
use prost_reflect::DescriptorPool;
use service_kit::{
    auth::credential::ServiceToken,
    clock::Clock,
    ops::shutdown::Shutdown,
    server::connection::{Listener, Protocol, serve},
    trace,
};
use tonic::{body::Body, transport::Endpoint};
use tower::ServiceBuilder;

pub mod backend;
pub mod balancer;
pub mod body;
pub mod codec;
pub mod config;
pub mod connection;
pub mod connections;
pub mod conversion;
pub mod doctor;
pub mod exchange;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod openapi;
pub mod passthrough;
pub mod quota;
pub mod raw_codec;
pub mod replica;
pub mod retry;
pub mod route_metrics;
pub mod routing;
pub mod semantics;
pub mod service;
pub mod service_config;
pub mod session;
pub mod site;
pub mod stream;
pub mod transcode;
pub mod upload;

pub use config::Config;

use backend::{Backend, Forwarding};
use connection::ConnectionArgs;
use quota::Quota;
use service::{Gateway, Settings};
use session::{cookie::CookieSettings, cookie_mode::CookieMode};

/// The default request timeout. Those of the services are shorter, so that the client gets their errors.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the contract on `listener` until `shutdown`.
///
/// # Errors
/// If the service token or the files of TLS cannot be read, or the contract is invalid.
pub async fn run(config: Config, listener: impl Into<Listener>, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
    let (limits, shutdown) = (&config.limits, shutdown.into());
    let [auth, task] = config.replicas();
    let is_local = config.service_token.service_token.is_some() && trace::is_enabled();
    let token = config.service_token.open().await?;
    let proxies = limits.proxies.clone();
    let forwarding = Arc::new(Forwarding { token, proxies: proxies.clone() });
    let bytes = Quota::of_bytes();
    let urls = config.auth_url.iter().chain(&config.task_url).map(Endpoint::uri);
    let dialer = config.upstream.open(urls, &Clock::system()).await?;
    let args = ConnectionArgs { dialer, limits: limits.clone() };
    // task-service does not use client addresses, so it gets no service token, except one that only this process has.
    let (auth, task) = (
        Backend::new("auth", "taskey.auth", auth, &args, &bytes),
        Backend::new("task", "taskey.task", task, &args, &bytes),
    );
    let peer_token = forwarding.token.as_ref().filter(|_| is_local).map(ServiceToken::header);
    let backends = [Backend { forwarding: Some(Arc::clone(&forwarding)), ..auth }, Backend { peer_token, ..task }];
    let cookies = CookieSettings {
        always_secure: config.browsers.secure_cookies,
        public_url: config.browsers.public_url.clone().map(Arc::new),
        proxies,
    };
    let cookies = CookieMode::new(cookies, Clock::system(), &backends);
    let pool = contract();
    let settings = Settings {
        json: (&config.json).into(),
        max_message_bytes: limits.max_request_bytes,
        timeout: limits.request_timeout.unwrap_or(DEFAULT_TIMEOUT),
        bytes,
        cookies,
        assets: site::docs::assets(&pool, config.browsers.public_url.as_ref())?
            .into_iter()
            .chain(site::page::assets())
            .collect(),
        shutdown: shutdown.clone(),
    };
    let gateway = Gateway::new(pool, &backends, settings)?;
    let polling = gateway.poll_health(args.clone());
    let reporting = gateway.report_health(config.health.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let gateway = gateway.clone();
        async move { Ok(gateway.handle(request).await) }
    });
    let service = ServiceBuilder::new().option_layer(http::cors::layer(&config.browsers.cors_origins)).service(service);
    let protocol = Protocol::Http1And2(http::error::rejected_request);
    let server = serve("gateway", listener.into(), protocol, limits, service, shutdown.started);
    let follow_token = async {
        match &forwarding.token {
            Some(token) => token.follow().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server => served,
        () = polling => Err(anyhow::anyhow!("the health of the services is no longer polled")),
        never = reporting => match never {},
        () = follow_token => Err(anyhow::anyhow!("the service token file is no longer watched")),
    }
}

/// Returns the descriptors of the contract, which are compiled in.
fn contract() -> DescriptorPool {
    static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("the compiled-in descriptors are valid")
    });
    CONTRACT.clone()
}
