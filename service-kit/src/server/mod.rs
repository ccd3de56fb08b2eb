//! The bootstrap of a gRPC service: limits, deadlines, health, reflection, drain.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Bytes};
use tokio::{sync::watch, time::sleep};
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tower::{BoxError, Layer, Service};

use crate::{
    ops::{config::LimitArgs, shutdown::Shutdown},
    trace::ServicePeers,
};

mod admission;
pub mod body;
pub mod call;
pub mod call_metrics;
pub mod check;
pub mod connection;
pub mod connection_state;
mod descriptors;
mod error_details;
pub mod health;
pub mod in_process;
pub mod ops;
pub mod reflection;
pub mod request_id;
mod unread;

use call::CallLayer;
use call_metrics::CallMetrics;
use connection::{Listener, Protocol};
use health::{HealthReport, ServingStatus, Statuses, UPDATE_INTERVAL, health_server};
use reflection::add_reflection;

/// A gRPC server. Add services with [`with`](Self::with), then call [`serve`](Self::serve).
pub struct GrpcServer {
    name: &'static str,
    limits: LimitArgs,
    default_timeout: Duration,
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    conditions: Vec<Condition>,
    health: HealthReport,
    peers: Option<Arc<dyn ServicePeers>>,
}

/// An entry of the health service, and its value.
type Condition = (&'static str, watch::Receiver<bool>);

impl GrpcServer {
    /// Creates a server without services. `name` is printed in its `listening` line. `default_timeout` limits calls
    /// unless the settings contain another timeout.
    #[must_use]
    pub fn new(name: &'static str, limits: LimitArgs, default_timeout: Duration) -> Self {
        Self {
            name,
            limits,
            default_timeout,
            routes: RoutesBuilder::default(),
            services: Vec::new(),
            conditions: Vec::new(),
            health: HealthReport::default(),
            peers: None,
        }
    }

    /// Continues the traces of these callers, in addition to those with a verified certificate.
    #[must_use]
    pub fn with_service_peers(self, peers: Option<Arc<dyn ServicePeers>>) -> Self {
        Self { peers, ..self }
    }

    /// Sets where the server reports its health, in addition to its health service.
    #[must_use]
    pub fn with_health(self, health: HealthReport) -> Self {
        Self { health, ..self }
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

    /// Adds an entry to the health service that does not affect the others: `SERVING` while `condition` is true.
    #[must_use]
    pub fn with_condition(mut self, name: &'static str, condition: watch::Receiver<bool>) -> Self {
        self.conditions.push((name, condition));
        self
    }

    /// Serves until `shutdown` is started, then drains: clients receive GOAWAY, calls in progress may finish, and the
    /// remaining ones are aborted at the drain timeout. Health turns `NOT_SERVING` when the shutdown is announced.
    /// Before that, it follows `ready` under the full name of each service and under the empty name.
    ///
    /// # Errors
    /// If the listener has no address, or reflection cannot be set up.
    pub async fn serve(
        mut self,
        listener: impl Into<Listener>,
        mut ready: watch::Receiver<bool>,
        shutdown: impl Into<Shutdown>,
    ) -> anyhow::Result<()> {
        let Shutdown { announced, started } = shutdown.into();
        let is_ready = *ready.borrow();
        let health = self.health;
        health.set(statuses(&self.services, is_ready, &mut self.conditions));
        self.routes.add_service(health_server(health.subscribe()));
        add_reflection(&mut self.routes, &self.services)?;

        let timeout = self.limits.request_timeout.unwrap_or(self.default_timeout);
        let max_header_bytes = self.limits.max_header_bytes as usize;
        let calls = CallLayer::new(timeout, max_header_bytes, started.clone(), CallMetrics::new(&self.services)?)
            .with_service_peers(self.peers)
            .layer(self.routes.routes().prepare());
        let serving = connection::serve(self.name, listener.into(), Protocol::Http2, &self.limits, calls, started);
        let follow_ready = async {
            while !announced.is_cancelled() {
                let is_ready = *ready.borrow_and_update();
                health.set(statuses(&self.services, is_ready, &mut self.conditions));
                // Once the sender is dropped, the last value remains.
                tokio::select! {
                    () = announced.cancelled() => {}
                    Ok(()) = ready.changed() => {}
                    () = any_changed(&mut self.conditions) => {}
                    () = sleep(UPDATE_INTERVAL) => {}
                }
            }
            health.set(statuses(&self.services, false, &mut self.conditions));
            pending().await
        };
        tokio::select! {
            served = serving => served,
            never = follow_ready => never,
        }
    }
}

/// Returns the health of each service, of the empty name, which represents the server, and of each condition.
fn statuses(services: &[&'static str], is_ready: bool, conditions: &mut [Condition]) -> Statuses {
    let services = services.iter().copied().chain([""]).map(|service| (service, is_ready));
    let conditions = conditions.iter_mut().map(|(name, condition)| (*name, *condition.borrow_and_update()));
    services.chain(conditions).map(|(name, is_serving)| (name.to_owned(), serving_status(is_serving))).collect()
}

/// Waits until one of the conditions changes. Once their senders are dropped, their last values remain.
async fn any_changed(conditions: &mut [Condition]) {
    let changes = conditions.iter_mut().map(|(_, condition)| condition.changed());
    let mut changes: FuturesUnordered<_> = changes.collect();
    while let Some(changed) = changes.next().await {
        if changed.is_ok() {
            return;
        }
    }
    pending::<()>().await;
}

fn serving_status(is_serving: bool) -> ServingStatus {
    if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
