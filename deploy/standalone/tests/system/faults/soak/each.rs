//! Each attack alone, while others are measured.

use std::{net::Ipv4Addr, panic::AssertUnwindSafe, sync::atomic::AtomicUsize};

use futures::FutureExt;
use service_kit::testing::TestDatabase;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    AUTH_FLAGS, TASK_FLAGS,
    attacks::{self, Target},
    client::{Addresses, channel_from},
};
use crate::{
    faults::{
        cluster::{Cluster, ClusterConfig, TWO_EACH},
        others::Others,
        programs::command,
        report::report_value,
        service::Service,
    },
    process::{Process, channel, wait_for_health},
};

/// Debug builds are too slow for all attacks, and take some.
const ATTACKS: usize = if cfg!(debug_assertions) { 5 } else { usize::MAX };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_no_attack_affects_others() {
    let config = ClusterConfig { auth_flags: &AUTH_FLAGS, task_flags: &TASK_FLAGS, ..TWO_EACH };
    let Some(cluster) = Cluster::on_postgres(config).await else { return };
    let gateway = cluster.gateway();
    let addresses = Addresses {
        auth: cluster.auth.iter().map(Service::address).collect(),
        task: cluster.task.iter().map(Service::address).collect(),
        gateway: gateway.address(),
    };
    let programs: Vec<_> = cluster.auth.iter().chain(&cluster.task).chain([&gateway]).collect();
    assert_unaffected(addresses, || programs.iter().map(|program| program.memory_kib()[1]).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_no_attack_affects_others_in_the_program_with_all_services() {
    let database = TestDatabase::sqlite();
    let cheap_hashes = ["--password-memory-kib", "8", "--password-passes", "1"];
    let taskey = Process::spawn(&mut command("taskey", &database, &cheap_hashes), &["auth", "task", "gateway"]);
    wait_for_health(channel(taskey.address("gateway")), ServingStatus::Serving).await;
    let addresses = Addresses {
        auth: vec![taskey.address("auth")],
        task: vec![taskey.address("task")],
        gateway: taskey.address("gateway"),
    };
    assert_unaffected(addresses, || vec![taskey.memory_kib()[1]]).await;
}

/// Runs each attack, measures others, and prints the memory of the programs in MiB.
async fn assert_unaffected(addresses: Addresses, memory_kib: impl Fn() -> Vec<u64>) {
    let channels =
        |source: Ipv4Addr| (channel_from(source, addresses.auth[0]), channel_from(source, addresses.task[0]));
    let (auth, task) = channels(Ipv4Addr::new(127, 77, 0, 1));
    let mut others = Others::sign_up(auth, task, Some(addresses.gateway)).await;
    others.slow_down();
    let target = Target::prepare(addresses.clone(), "others@example.com".to_owned()).await;
    let mut failures = Vec::new();
    // In the order of the list: the last attacks create as many tasks as an account may have.
    for ((name, attack), host) in attacks::all().into_iter().take(ATTACKS).zip(2..) {
        // The logins of others stay within the limit of an address.
        let (auth, task) = channels(Ipv4Addr::new(127, 77, 0, host));
        others.connect_by(auth, task).await;
        target.renew_token().await;
        let count = AtomicUsize::new(0);
        let measured = others.measure_during(name, async |stopped| {
            _ = stopped.run_until_cancelled(attack(&target, &count)).await;
        });
        // An error that others receive is a panic.
        let measured = AssertUnwindSafe(measured).catch_unwind().await;
        let failure = measured.unwrap_or_else(|_| Err("a call of others failed".to_owned())).err();
        failures.extend(failure.map(|failure| format!("{name}: {failure}")));
        let count = count.into_inner();
        if count == 0 {
            failures.push(format!("{name}: the attack did nothing"));
        }
        let memory: Vec<_> = memory_kib().into_iter().map(|kib| kib / 1024).collect();
        report_value(name, format_args!("{count} actions, memory {memory:?} MiB"));
    }
    assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
}
