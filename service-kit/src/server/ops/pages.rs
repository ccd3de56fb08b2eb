//! The responses of the listener for operators.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tonic::{body::Body, service::Routes};
use tower::Service;

use crate::{
    ops::{build_info::BuildInfo, metrics::Metrics},
    server::{
        call::{CallService, is_grpc},
        health::HealthReport,
    },
};

pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The text format of Prometheus.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Handles requests. Clones share the state.
#[derive(Clone)]
pub(super) struct Pages {
    /// The gRPC health service.
    calls: CallService<Routes>,
    /// The health of each server.
    health: Arc<[(&'static str, HealthReport)]>,
    build: BuildInfo,
    metrics: Metrics,
}

impl Pages {
    pub(super) fn new(
        calls: CallService<Routes>,
        health: Vec<(&'static str, HealthReport)>,
        build: BuildInfo,
        metrics: Metrics,
    ) -> Self {
        Self { calls, health: health.into(), build, metrics }
    }

    pub(super) async fn respond(&self, request: Request<Body>) -> Response<Body> {
        if is_grpc(request.headers()) {
            return self.calls.clone().call(request).await.unwrap_or_else(|never| match never {});
        }
        let mut response = self.page(request.uri().path()).await;
        if response.status() != StatusCode::NOT_FOUND && ![Method::GET, Method::HEAD].contains(request.method()) {
            response = text(StatusCode::METHOD_NOT_ALLOWED, "this path only accepts GET and HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if request.method() == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn page(&self, path: &str) -> Response<Body> {
        match path {
            "/livez" => json(StatusCode::OK, &json!({"status": "SERVING"})),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics().await,
            "/version" => json(StatusCode::OK, &json!(self.build)),
            _ => text(StatusCode::NOT_FOUND, "the paths are /livez, /readyz, /metrics and /version\n"),
        }
    }

    async fn metrics(&self) -> Response<Body> {
        for (server, health) in &*self.health {
            metrics::gauge!("taskey_ready", "server" => *server).set(f64::from(health.is_serving()));
        }
        let metrics = self.metrics.clone();
        // Formats thousands of lines and reads from `/proc`.
        match spawn_blocking(move || metrics.render()).await {
            Ok(rendered) => response(StatusCode::OK, METRICS, rendered),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be read\n"),
        }
    }

    /// Returns 200 if all servers serve, else 503. The body names each server.
    fn readiness(&self) -> Response<Body> {
        let name = |serves| if serves { "SERVING" } else { "NOT_SERVING" };
        let servers = self.health.iter().map(|(server, health)| (*server, health.is_serving()));
        let all_serve = servers.clone().all(|(_, serves)| serves);
        let servers: Value = servers.map(|(server, serves)| (server.to_owned(), json!(name(serves)))).collect();
        let code = if all_serve { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(code, &json!({"status": name(all_serve), "servers": servers}))
    }
}

fn json(code: StatusCode, body: &Value) -> Response<Body> {
    response(code, JSON, body.to_string())
}

fn text(code: StatusCode, body: &'static str) -> Response<Body> {
    response(code, TEXT, body)
}

fn response(code: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
