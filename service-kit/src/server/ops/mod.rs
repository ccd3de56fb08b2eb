//! The listener for operators: health checks, metrics and the version, over plaintext HTTP and gRPC. It has limits of
//! its own, so that probes succeed although the limits of the servers are reached.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::RoutesBuilder};
use tower::Layer;

use super::{
    call::CallLayer,
    call_metrics::CallMetrics,
    connection::{self, Protocol, Rejection},
    health::{HealthReport, health_server, merge},
};
use crate::ops::{build_info::BuildInfo, config::LimitArgs, metrics::Metrics, service_manager::PassedSockets};

pub mod healthcheck;
mod pages;
mod supervise;

use pages::Pages;
use supervise::supervise;

/// The address of the listener.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Operation")]
pub struct OpsArgs {
    /// Address for health checks and metrics, over plaintext and without authentication: `/livez`, `/readyz`,
    /// `/metrics`, `/version`, and the gRPC health service. Clients should not be able to reach it. Without it, no metrics
    /// are recorded [default: none]
    #[arg(long, env = "TASKEY_OPS_LISTEN", value_name = "ADDRESS")]
    pub ops_listen: Option<SocketAddr>,
}

/// Probes and scrapes come from few addresses, which may be one and the same.
const MAX_CONNECTIONS: usize = 64;
const MAX_STREAMS: u32 = 32;
const MAX_HEADER_BYTES: u32 = 8 * 1024;

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the listener waits for responses in progress after the servers have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The listener of a program, if it has one.
#[derive(Debug)]
pub struct OpsServer(Option<Bound>);

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    limits: LimitArgs,
    build: BuildInfo,
    metrics: Metrics,
}

impl OpsServer {
    /// Binds the listener, if there is an address, and begins to record metrics. Call this before the servers are created.
    /// Unlike other listeners, this one may use plaintext on any address.
    ///
    /// # Errors
    /// If the address cannot be bound, or metrics are already recorded.
    pub async fn bind(
        args: OpsArgs,
        limits: &LimitArgs,
        build: BuildInfo,
        sockets: &mut PassedSockets,
    ) -> anyhow::Result<Self> {
        let Some(address) = args.ops_listen else { return Ok(Self(None)) };
        let listener = match sockets.take("ops", address) {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?,
        };
        let limits = LimitArgs {
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: MAX_CONNECTIONS,
            max_streams: MAX_STREAMS,
            max_header_bytes: MAX_HEADER_BYTES,
            drain_timeout: DRAIN_TIMEOUT,
            ..limits.clone()
        };
        Ok(Self(Some(Bound { listener, limits, build, metrics: Metrics::install(&build)? })))
    }

    /// Runs the servers of the program, and serves beside them, also while they start and drain. Notifies the service
    /// manager of their progress. `health` is the health of each server, by its name.
    ///
    /// # Errors
    /// Those of the servers.
    pub async fn serve_beside<const N: usize>(
        self,
        health: [(&'static str, HealthReport); N],
        servers: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        // The future of a whole program is large, and each block that contains it copies it on the stack.
        let servers = Box::pin(servers);
        let reports = health.each_ref().map(|(_, report)| report.clone());
        let servers = async {
            tokio::select! {
                served = servers => served,
                never = supervise(&reports) => match never {},
            }
        };
        let Some(bound) = self.0 else { return servers.await };
        let end = CancellationToken::new();
        let servers = async {
            let served = servers.await;
            end.cancel();
            served
        };
        let (served, ops) = tokio::join!(servers, bound.serve(health.into(), end.clone()));
        served.and(ops)
    }
}

impl Bound {
    async fn serve(self, health: Vec<(&'static str, HealthReport)>, end: CancellationToken) -> anyhow::Result<()> {
        let merged = HealthReport::default();
        let mut routes = RoutesBuilder::default();
        routes.add_service(health_server(merged.subscribe()));
        let calls = CallLayer::new(TIMEOUT, MAX_HEADER_BYTES as usize, end.clone(), CallMetrics::new(&[])?)
            .layer(routes.routes().prepare());
        let pages = Pages::new(calls, health.clone(), self.build, self.metrics.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let pages = pages.clone();
            async move { Ok::<_, Infallible>(pages.respond(request).await) }
        });
        let protocol = Protocol::Http1And2(rejected_request);
        let serving = connection::serve("ops", self.listener.into(), protocol, &self.limits, service, end);
        tokio::select! {
            served = serving => served,
            never = merge(&health, &merged) => match never {},
            never = self.metrics.run_upkeep() => match never {},
        }
    }
}

/// Creates the response to a request that is rejected before it is handled.
fn rejected_request(rejection: Rejection) -> Response<Bytes> {
    let (code, message) = match rejection {
        Rejection::Unparsable(code) => (code, "the request is not well-formed HTTP/1.1\n"),
        Rejection::Plaintext => (http::StatusCode::BAD_REQUEST, "use https:// instead of http://\n"),
        Rejection::InvalidHost => (http::StatusCode::BAD_REQUEST, "the request must have exactly one valid `Host`\n"),
        Rejection::TooManyRequests => (http::StatusCode::TOO_MANY_REQUESTS, "too many requests are in progress\n"),
    };
    let mut response = Response::new(Bytes::from_static(message.as_bytes()));
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, pages::TEXT);
    response
}
