//! All replicas are restarted, one after the other, while clients call them through Envoy.

mod grpc;
mod http;

use std::net::SocketAddr;

use super::proxy::start_envoy_for_services;
use crate::{
    faults::{
        cluster::{Cluster, ClusterConfig, TWO_EACH},
        service::Service,
    },
    process::Process,
};

/// Long enough for Envoy and the gateways to notice that a replica shuts down.
const SHUTDOWN_DELAY: [&str; 2] = ["--shutdown-delay", "3s"];

/// Two replicas of auth-service and of task-service, behind Envoy.
struct Services {
    cluster: Cluster,
    /// The addresses of Envoy for auth-service and for task-service.
    addresses: [SocketAddr; 2],
    _envoy: Process,
}

impl Services {
    /// Starts the replicas. Returns `None` without a PostgreSQL server.
    async fn start() -> Option<Self> {
        let config = ClusterConfig { auth_flags: &SHUTDOWN_DELAY, task_flags: &SHUTDOWN_DELAY, ..TWO_EACH };
        let cluster = Cluster::on_postgres(config).await?;
        let replicas = |services: &[Service]| [services[0].address(), services[1].address()];
        let [auth, task] = [replicas(&cluster.auth), replicas(&cluster.task)];
        let (envoy, addresses) = start_envoy_for_services(cluster.database.folder(), auth, task).await;
        Some(Self { cluster, addresses, _envoy: envoy })
    }

    fn replicas(&mut self) -> impl Iterator<Item = &mut Service> {
        self.cluster.auth.iter_mut().chain(&mut self.cluster.task)
    }
}

/// Restarts services, each when the one before it serves again.
async fn restart_each(services: impl Iterator<Item = &mut Service>) {
    for service in services {
        service.stop().await;
        service.start_again();
        service.wait_until_ready().await;
    }
}
