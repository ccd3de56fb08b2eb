//! Shows the service manager that the servers of the program make progress.

use std::{convert::Infallible, future::pending, time::Duration};

use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use crate::{ops::service_manager, server::health::HealthReport};

/// Notifies the service manager once all servers serve connections. Then, if it has a watchdog, tells it that the program
/// is alive, for as long as each server keeps its health up to date. Never ends.
pub async fn supervise(servers: &[HealthReport]) -> Infallible {
    follow(servers, service_manager::watchdog(), service_manager::ready, service_manager::alive).await
}

async fn follow(
    servers: &[HealthReport],
    watchdog: Option<Duration>,
    ready: impl Fn(),
    alive: impl Fn(),
) -> Infallible {
    all_updated(servers).await;
    ready();
    let Some(limit) = watchdog else { return pending().await };
    let mut ticks = interval(limit / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        all_updated(servers).await;
        alive();
    }
}

async fn all_updated(servers: &[HealthReport]) {
    join_all(servers.iter().map(HealthReport::updated)).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::server::health::{Statuses, UPDATE_INTERVAL};

    const WATCHDOG: Duration = Duration::from_secs(30);

    /// Follows two servers for ten times the limit of the watchdog, of which the second one makes progress for this long.
    /// Returns the notifications.
    async fn notifications(progress: Duration) -> Vec<&'static str> {
        let (servers, sent) = ([HealthReport::default(), HealthReport::default()], Mutex::new(Vec::new()));
        let record = |state: &'static str| sent.lock().expect("no panic").push(state);
        let keep_up_to_date = async |server: &HealthReport| loop {
            sleep(UPDATE_INTERVAL).await;
            server.set(Statuses::new());
        };
        let second = async {
            _ = timeout(progress, keep_up_to_date(&servers[1])).await;
            pending::<()>().await;
        };
        let run = async {
            tokio::join!(
                follow(&servers, Some(WATCHDOG), || record("ready"), || record("alive")),
                keep_up_to_date(&servers[0]),
                second
            );
        };
        _ = timeout(WATCHDOG * 10, run).await;
        sent.into_inner().expect("no panic")
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_is_notified_within_its_limit() {
        let notifications = notifications(WATCHDOG * 10).await;
        assert_eq!(notifications[0], "ready");
        assert!(notifications.len() >= 30 && notifications[1..].iter().all(|sent| *sent == "alive"));
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_is_not_notified_while_a_server_makes_no_progress() {
        let notifications = notifications(WATCHDOG).await;
        assert!((1..=6).contains(&notifications.len()), "{notifications:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn program_is_not_ready_before_all_servers_serve() {
        assert_eq!(notifications(Duration::ZERO).await, [""; 0]);
    }
}
