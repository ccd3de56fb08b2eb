//! Honest callers and attackers at the same time, while replicas restart and PostgreSQL fails over. `make soak` runs it
//! for ten minutes on the release programs.

use std::{
    env,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use futures::future::join_all;
use service_kit::random;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    cluster::{Cluster, ClusterConfig, TWO_EACH},
    ledger::lock,
    postgres::Postgres,
    service::Service,
};

mod attacks;
mod client;
mod disturbances;
mod each;
mod honest;
mod invariants;
mod journal;
mod memory;
mod revocation;
mod visitor;
mod watcher;

use attacks::{Attack, Target};
use client::Addresses;
use disturbances::{Schedule, operate};
use honest::User;
use invariants::check_logs;
use journal::Journal;
use memory::Memory;

/// How long the soak lasts, unless `SOAK_SECONDS` is set.
const SECONDS: u64 = 25;

/// The honest users, and the calls of all of them per second. In debug builds, 200 per second would need more than two
/// cores.
const USERS: u32 = 20;
const CALLS_PER_SECOND: u32 = if cfg!(debug_assertions) { 40 } else { 200 };

/// One visitor signs up per interval.
const VISITOR_PAUSE: Duration = Duration::from_secs(1);

/// The attacks that run at the same time, and how long each lasts. The short run in debug builds contains about half of
/// the attacks.
const PARALLEL_ATTACKS: usize = 2;
const MEAN_ATTACK_TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 5 });
const MEAN_ATTACK_PAUSE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 2000 });

/// Before the first attack, honest calls are measured without one.
const QUIET_TIME: Duration = Duration::from_secs(5);

/// At most this time is between two disturbances, and remains for honest calls after the last attack.
const MAX_DISTURBANCE_PAUSE: Duration = Duration::from_secs(45);
const MAX_CALM_TIME: Duration = Duration::from_secs(30);

/// The limits are those of production, except that the gateway is a proxy whose `x-forwarded-for` is trusted.
const AUTH_FLAGS: [&str; 4] = ["--rate-limits", "on", "--trusted-proxies", "127.0.0.1"];
const TASK_FLAGS: [&str; 4] = ["--rate-limits", "on", "--trusted-proxies", "127.0.0.1"];

/// The attacks that have not run yet. Each runs once before any runs again.
#[derive(Default)]
struct Queue(Mutex<Vec<(&'static str, Attack)>>);

impl Queue {
    fn next(&self) -> (&'static str, Attack) {
        let mut remaining = lock(&self.0);
        if remaining.is_empty() {
            remaining.extend(attacks::all());
            fastrand::shuffle(&mut remaining);
        }
        remaining.pop().expect("there are attacks")
    }
}

/// Runs one attack after the other until `stopped`.
async fn attack(queue: Arc<Queue>, target: Arc<Target>, journal: Arc<Journal>, stopped: CancellationToken) {
    while !stopped.is_cancelled() {
        target.renew_token().await;
        let (name, attack) = queue.next();
        let (count, lasts) = (AtomicUsize::new(0), random::jitter(MEAN_ATTACK_TIME));
        journal.begin_attack(name);
        _ = stopped.run_until_cancelled(timeout(lasts, attack(&target, &count))).await;
        journal.end_attack(name, count.into_inner());
        stopped.run_until_cancelled(sleep(random::jitter(MEAN_ATTACK_PAUSE))).await;
    }
}

/// Runs the honest callers for this time, and then verifies what they were told. Returns their secrets.
async fn call_honestly(addresses: &Addresses, journal: &Arc<Journal>, length: Duration) -> Vec<String> {
    let stopped = CancellationToken::new();
    let users = join_all((0..USERS as usize).map(|number| User::start(number, addresses, journal))).await;
    let pause = Duration::from_secs(1) * USERS / CALLS_PER_SECOND;
    let users = join_all(users.into_iter().map(|user| user.run(pause, stopped.clone())));
    let visitors = visitor::run(addresses, journal, VISITOR_PAUSE, &stopped);
    let stop = async {
        sleep(length).await;
        stopped.cancel();
    };
    let (users, (), ()) = tokio::join!(users, visitors, stop);
    join_all(users.into_iter().map(User::verify)).await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_honest_callers_are_served_during_attacks_and_restarts() {
    let seconds = env::var("SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("SOAK_SECONDS is a number"));
    let Some(postgres) = Postgres::start().await else { return };
    let config = ClusterConfig { auth_flags: &AUTH_FLAGS, task_flags: &TASK_FLAGS, ..TWO_EACH };
    let mut cluster = Cluster::on_own_server(config, postgres.upstream()).await;
    postgres.replicate_asynchronously().await;
    let gateway = cluster.gateway();
    let addresses = Addresses {
        auth: cluster.auth.iter().map(Service::address).collect(),
        task: cluster.task.iter().map(Service::address).collect(),
        gateway: gateway.address(),
    };
    let target = Arc::new(Target::prepare(addresses.clone(), "user.0@example.com".to_owned()).await);
    let (journal, length) = (Arc::new(Journal::default()), Duration::from_secs(seconds));
    let (attacks_stopped, disturbances_stopped) = (CancellationToken::new(), CancellationToken::new());
    let mut memory = Memory::start();
    // Short runs have no failover: they end before everything has settled.
    let fail_over_at = (seconds >= 60).then(|| Instant::now() + length / 2);
    let schedule = Schedule { pause: (length / 3).min(MAX_DISTURBANCE_PAUSE), fail_over_at };
    // The attackers run in tasks of their own, so that they do not slow down the measurement.
    let attacks = async {
        sleep(QUIET_TIME).await;
        let queue = Arc::new(Queue::default());
        let attackers = (0..PARALLEL_ATTACKS).map(|_| {
            let (target, journal) = (Arc::clone(&target), Arc::clone(&journal));
            tokio::spawn(attack(Arc::clone(&queue), target, journal, attacks_stopped.clone()))
        });
        join_all(attackers).await.into_iter().for_each(|ended| ended.expect("no panic"));
    };
    let stop = async {
        sleep(length.saturating_sub((length / 5).min(MAX_CALM_TIME))).await;
        attacks_stopped.cancel();
        disturbances_stopped.cancel();
    };
    let measured = (&*journal, &mut memory);
    let operate = operate(&mut cluster, &gateway, &postgres, measured, schedule, &disturbances_stopped);
    let (secrets, (), (), ()) = tokio::join!(call_honestly(&addresses, &journal, length), attacks, operate, stop);
    check_logs(cluster.database.folder(), &secrets, &journal);
    memory.measure(&cluster.auth, &cluster.task, &gateway);
    let failures = [journal.report(), memory.report()].concat();
    assert!(failures.is_empty(), "{} failures, among them {failures:#?}", failures.len());
}
