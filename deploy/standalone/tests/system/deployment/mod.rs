//! The configurations of `deploy/`, with the real programs that they are for. Run by `make test-deploy`.

mod behind_proxy;
mod certificate;
mod failover;
mod patroni;
pub mod proxy;
mod rolling_restart;
pub mod template;
