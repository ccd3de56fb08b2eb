//! The bootstrap of a gRPC service: limits, deadlines, health, reflection, drain.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use hyper::body::{Body as HttpBody, Bytes};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::ops::config::LimitArgs;

pub mod body;
pub mod call;
pub mod connection;
mod error_details;
pub mod request_id;

use call::CallLayer;
use connection::Protocol;

/// A gRPC server. Add services with [`with`](Self::with), then call [`serve`](Self::serve).
pub struct GrpcServer {
    name: &'static str,
    limits: LimitArgs,
    default_timeout: Duration,
    routes: RoutesBuilder,
    services: Vec<&'static str>,
}

impl GrpcServer {
    /// Creates a server without services. `name` is printed in its `listening` line. `default_timeout` limits calls
    /// unless the settings contain another timeout.
    #[must_use]
    pub fn new(name: &'static str, limits: LimitArgs, default_timeout: Duration) -> Self {
        Self { name, limits, default_timeout, routes: RoutesBuilder::default(), services: Vec::new() }
    }

    /// Adds a service. It has its own entry in the health service and is described by reflection.
    #[must_use]
    pub fn with<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.services.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Serves until `shutdown`, then drains: health turns `NOT_SERVING`, clients receive GOAWAY, calls in progress may
    /// finish, and the remaining ones are aborted at the drain timeout. Health follows `ready` under the full name of
    /// each service and under the empty name.
    ///
    /// # Errors
    /// If the listener has no address, or reflection cannot be set up.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        mut ready: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (health, health_service) = tonic_health::server::health_reporter();
        // The reporter starts with SERVING for the empty name, so the status is set before the first call.
        let is_ready = *ready.borrow();
        set_health(&health, &self.services, is_ready).await;
        self.routes.add_service(health_service);
        add_reflection(&mut self.routes, &self.services)?;

        let timeout = self.limits.request_timeout.unwrap_or(self.default_timeout);
        let calls = CallLayer::new(timeout, self.limits.max_header_bytes as usize, shutdown.clone())
            .layer(self.routes.routes().prepare());
        let calls = calls.map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new));
        let serving = connection::serve(self.name, listener, Protocol::Http2, &self.limits, calls, shutdown.clone());
        let follow_ready = async {
            while !shutdown.is_cancelled() {
                let is_ready = *ready.borrow_and_update();
                set_health(&health, &self.services, is_ready).await;
                // Once the sender is dropped, the last value remains.
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    Ok(()) = ready.changed() => {}
                }
            }
            set_health(&health, &self.services, false).await;
        };
        tokio::join!(serving, follow_ready).0
    }
}

/// Adds both versions of the reflection service, which describe `services`: current clients use v1, older ones v1alpha.
///
/// # Errors
/// If the descriptors are invalid.
pub fn add_reflection<S: AsRef<str>>(routes: &mut RoutesBuilder, services: &[S]) -> anyhow::Result<()> {
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(taskey_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        services.iter().fold(builder, |builder, service| builder.with_service_name(service.as_ref()))
    };
    let v1 = builder().with_service_name("grpc.reflection.v1.ServerReflection").build_v1()?;
    let v1alpha = builder().with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha()?;
    routes.add_service(v1).add_service(v1alpha);
    Ok(())
}

/// Sets the health of each service and of the empty name, which represents the server.
async fn set_health(health: &HealthReporter, services: &[&'static str], ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services.iter().copied().chain([""]) {
        health.set_service_status(service, status).await;
    }
}
