//! Restarts of replicas, and a failover of PostgreSQL that loses acknowledged writes.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{journal::Journal, memory::Memory};
use crate::faults::{cluster::Cluster, postgres::Postgres, report::report_value, service::Service};

const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// The failover loses what was written in this time.
const LOST_TIME: Duration = Duration::from_secs(1);

/// When disturbances happen.
pub struct Schedule {
    /// The time between two disturbances.
    pub pause: Duration,
    pub fail_over_at: Option<Instant>,
}

/// Measures the memory once per second, and restarts one replica after the other or fails over, until `stopped`.
pub async fn operate(
    cluster: &mut Cluster,
    gateway: &Service,
    postgres: &Postgres,
    (journal, memory): (&Journal, &mut Memory),
    mut schedule: Schedule,
    stopped: &CancellationToken,
) {
    let (mut number, mut next) = (0, Instant::now() + schedule.pause);
    while stopped.run_until_cancelled(sleep(MEASURE_INTERVAL)).await.is_some() {
        memory.measure(&cluster.auth, &cluster.task, gateway);
        let is_failover_due = schedule.fail_over_at.is_some_and(|at| at <= Instant::now());
        if !is_failover_due && Instant::now() < next {
            continue;
        }
        journal.begin_disturbance();
        if is_failover_due {
            schedule.fail_over_at = None;
            fail_over(cluster, postgres, journal).await;
            report_value("disturbance", "PostgreSQL failed over and lost acknowledged writes");
        } else {
            let replicas = if number % 2 == 0 { &mut cluster.task } else { &mut cluster.auth };
            let index = number / 2 % replicas.len();
            restart(&mut replicas[index], number % 8 < 4).await;
            number += 1;
        }
        cluster.wait_until_ready().await;
        journal.end_disturbance();
        next = Instant::now() + schedule.pause;
    }
    report_value("disturbance", format_args!("{number} restarts"));
}

async fn restart(service: &mut Service, is_graceful: bool) {
    if is_graceful {
        service.stop().await;
    } else {
        service.kill();
    }
    service.start_again();
    service.wait_until_ready().await;
}

/// Stops the replication, and makes the replica the primary a moment later.
async fn fail_over(cluster: &Cluster, postgres: &Postgres, journal: &Journal) {
    journal.begin_loss();
    postgres.stop_replication().await;
    sleep(LOST_TIME).await;
    postgres.fail_over().await;
    journal.end_loss();
    for link in [cluster.auth_link(), cluster.task_link()] {
        link.redirect_to(postgres.replica());
    }
}
