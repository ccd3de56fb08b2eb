//! Accepts connections, limits their number, their idle time and their concurrent calls, and drains them.

use std::{convert::Infallible, future::poll_fn, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, transport::server::TcpConnectInfo};
use tower::Service;

use super::{
    admission::Admission,
    connection_state::ConnectionState,
    in_process::{self, InProcessServer},
    unread::StreamExecutor,
};
use crate::{
    ops::{config::LimitArgs, output},
    tls::FailureLog,
};

mod bare_lf;
mod connection_metrics;
mod error_body;
mod flush;
mod gate;
mod host;
mod lifetime;
mod linger;
mod listener;
mod opening;
mod preface;
mod slots;

use connection_metrics::ConnectionMetrics;
pub use error_body::{Explain, Rejection};
use flush::FlushedConnection;
use gate::{Gate, hold_until_end};
use lifetime::Lifetime;
pub use listener::{Listener, bind};
use opening::{OpenError, Opened, open};
pub use preface::Protocol;
use preface::{Stream, TimeLimits};
use slots::Slots;

/// After an accept error (such as too many open files) the loop pauses, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many calls per concurrent stream may be cancelled before the server has seen them. hyper (1.12) closes a connection
/// after 20, even if many callers share it.
const CANCELLATIONS_PER_STREAM: usize = 8;

/// Space for the access token in the headers of a gRPC call. It exceeds the maximum length of tokens, so that an
/// oversized token is rejected as an invalid token.
const TOKEN_BYTES: u32 = 32 * 1024;

/// The flow-control windows of HTTP/2: how much a client may send before the server reads it. They are fixed, because
/// adaptive windows grow to 16 MiB per connection. One client has at most 16 MiB in 64 connections.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// Serves connections until `shutdown`, then drains them. Prints `listening <name> <address>` to standard output.
///
/// # Errors
/// If the address of the listener cannot be read.
pub async fn serve<S>(
    name: &'static str,
    listener: Listener,
    protocol: Protocol,
    limits: &LimitArgs,
    service: S,
    shutdown: CancellationToken,
) -> anyhow::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let address = listener.local_addr().context("the listener has no address")?;
    output::print(format!("listening {name} {address}"));
    let server = Arc::new(Server::new(protocol, limits));
    let service = Admission::new(service, limits, protocol.clients());
    let in_process = listener.in_process().map(|channel| {
        let (server, service) = (Arc::clone(&server), service.clone());
        channel.open(move |request| server.respond(service.clone(), request, Some(in_process::PEER.ip())))
    });
    let metrics = ConnectionMetrics::new(name);
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer, tls) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Logged once per series of errors, not ten times a second.
                if !failing {
                    tracing::warn!(name, %error, "cannot accept connections");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let slot = match server.gate.acquire_slot(peer.ip()) {
            Ok(slot) => slot,
            Err(full) => {
                metrics.count_refused(full);
                tracing::debug!(name, %peer, ?full, "too many connections; closed a new one");
                continue;
            }
        };
        let (server, service) = (Arc::clone(&server), service.clone());
        let (shutdown, counted) = (shutdown.clone(), metrics.count_open());
        connections.spawn(async move {
            _ = stream.set_nodelay(true);
            let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
            let opened = tokio::select! {
                opened = open(stream, tls.as_ref(), server.gate.protocol, server.time_limits) => opened,
                () = shutdown.cancelled() => return,
            };
            match opened {
                Ok(opened) => server.serve_connection(opened, info, service, shutdown).await,
                Err(OpenError::Tls(failure)) => server.tls_failures.report(name, peer, &failure),
                Err(OpenError::Preface(error)) => {
                    tracing::debug!(%peer, %error, "closed a connection without a valid preface");
                }
            }
            drop((slot, counted));
        });
    }
    drop(listener);
    tracing::info!(name, "draining");
    drain(connections, in_process, limits.drain_timeout).await;
    Ok(())
}

/// Waits for the calls in progress of every connection and of this process. After `limit`, aborts those of connections: a
/// connection whose peer has vanished would never end by itself.
async fn drain(mut connections: JoinSet<()>, in_process: Option<InProcessServer>, limit: Duration) {
    let connections_end = async { while connections.join_next().await.is_some() {} };
    let in_process_end = async {
        if let Some(in_process) = in_process {
            in_process.drain().await;
        }
    };
    if timeout(limit, async { tokio::join!(connections_end, in_process_end) }).await.is_err() {
        tracing::warn!("calls were still in progress at the end of the drain timeout and were aborted");
    }
}

struct Server {
    gate: Arc<Gate>,
    builder: auto::Builder<StreamExecutor>,
    lifetime: Lifetime,
    time_limits: TimeLimits,
    tls_failures: FailureLog,
}

fn builder(protocol: Protocol, limits: &LimitArgs, stall_timeout: Duration) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(StreamExecutor { timeout: stall_timeout });
    let mut header_list_size = limits.max_header_bytes;
    if matches!(protocol, Protocol::Http2) {
        builder = builder.http2_only();
        header_list_size += TOKEN_BYTES;
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.max_header_bytes as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.max_streams)
        .max_pending_accept_reset_streams(CANCELLATIONS_PER_STREAM.saturating_mul(limits.max_streams as usize))
        .max_header_list_size(header_list_size)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

impl Server {
    fn new(protocol: Protocol, limits: &LimitArgs) -> Self {
        let stall_timeout = limits.keepalive_interval.saturating_add(limits.keepalive_timeout);
        Self {
            gate: Arc::new(Gate { protocol, proxies: limits.proxies.clone(), slots: Slots::new(limits) }),
            builder: builder(protocol, limits, stall_timeout),
            lifetime: Lifetime::new(limits),
            time_limits: TimeLimits { handshake: limits.handshake_timeout, stall: stall_timeout },
            tls_failures: FailureLog::default(),
        }
    }

    /// Returns the response of the service to a request, if it is admitted.
    fn respond<S, B>(
        &self,
        mut service: S,
        mut request: Request<B>,
        peer: Option<IpAddr>,
    ) -> impl Future<Output = Response<Body>> + use<S, B>
    where
        S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    {
        let admitted = self.gate.admit(&mut request, peer);
        async move {
            let slot = match admitted {
                Ok(slot) => slot,
                Err(response) => return *response,
            };
            let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
            let Ok(response) = service.call(request).await;
            hold_until_end(response, slot)
        }
    }

    async fn serve_connection<S>(
        self: Arc<Self>,
        opened: Opened<impl Stream>,
        info: TcpConnectInfo,
        service: S,
        shutdown: CancellationToken,
    ) where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let Opened { stream, flusher, is_http1, tls } = opened;
        let peer = info.remote_addr;
        let state = ConnectionState::new(&shutdown);
        let (server, request_state) = (Arc::clone(&self), state.clone());
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            let state = request_state.clone();
            request.extensions_mut().insert(info.clone());
            request.extensions_mut().insert(state.clone());
            if let Some(tls) = &tls {
                request.extensions_mut().insert(tls.clone());
            }
            let response = server.respond(service.clone(), request, info.remote_addr.map(|peer| peer.ip()));
            async move { Ok::<_, Infallible>(state.finish_response(is_http1, response.await)) }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = FlushedConnection::new(connection.into_owned(), flusher);
        let graceful_shutdown = |mut connection: Pin<&mut FlushedConnection<_>>| {
            auto::Connection::graceful_shutdown(connection.connection());
        };
        match self.lifetime.run(connection, graceful_shutdown, is_http1, state, shutdown).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(?peer, error, "a connection ended with an error"),
            None => tracing::debug!(?peer, "closed an old connection with calls in progress"),
        }
    }
}
