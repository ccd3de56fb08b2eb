//! The listeners of the services.

use gateway::config::InProcessServices;
use service_kit::{
    ops::service_manager::PassedSockets,
    server::connection::{Listener, bind},
    tls::ServerTls,
};

use crate::config::Cli;

/// The bound listeners.
pub struct Listeners {
    /// auth-service.
    pub auth: Listener,
    /// task-service.
    pub task: Listener,
    /// The gateway.
    pub gateway: Listener,
}

impl Listeners {
    /// Binds the listeners of all services. Those of the services behind the gateway also accept the calls of `channels`.
    ///
    /// # Errors
    /// If an address cannot be bound, or is not allowed without TLS.
    pub async fn bind(
        cli: &Cli,
        tls: Option<&ServerTls>,
        channels: &InProcessServices,
        sockets: &mut PassedSockets,
    ) -> anyhow::Result<Self> {
        let auth = bind("auth", cli.auth_listen, &cli.limits, tls.cloned(), sockets).await?;
        let task = bind("task", cli.task_listen, &cli.limits, tls.cloned(), sockets).await?;
        Ok(Self {
            auth: auth.with_in_process(channels.auth.clone()),
            task: task.with_in_process(channels.task.clone()),
            gateway: bind("gateway", cli.gateway_listen, &cli.limits, tls.cloned(), sockets).await?,
        })
    }
}
