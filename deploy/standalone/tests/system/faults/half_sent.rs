//! Requests whose bodies never arrive completely, without a token.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use service_kit::testing::TestDatabase;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, codegen::Bytes};

use super::{
    cluster::{Cluster, ONE_EACH},
    others::Others,
    programs::{channel_from, start_taskey},
    report::report_value,
    slow_body::{HEALTH, JSON_LOGIN, LOGIN, send_half},
};
use crate::process::channel;

/// The default limit of concurrent calls per connection.
const STREAMS: usize = 128;

/// The address of the attacker is another one than that of the others.
const ATTACKER: u8 = 2;

/// The number of connections with half-sent requests to each server. In debug builds, 60 would need more than two cores.
const CONNECTIONS: usize = if cfg!(debug_assertions) { 3 } else { 60 };

/// The first requests are spread over this time. A request that has ended is repeated after it.
const PERIOD: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 3 });

/// How much the memory of a server may grow during an attack: the budget of one client, the windows of its connections,
/// and what the streams cost. The client sends 96 MiB to each server in a debug build, otherwise 2 GiB.
const MEMORY_LIMIT_KIB: u64 = if cfg!(debug_assertions) { 64 * 1024 } else { 128 * 1024 };

/// Less than the maximum size of a JSON body.
const HALF_JSON_BYTES: usize = 60 * 1024;

/// The beginning of a large request, without its end.
fn half_request(path: &str) -> Bytes {
    if path == JSON_LOGIN {
        return Bytes::from(vec![b' '; HALF_JSON_BYTES]);
    }
    let size = 256 * 1024_u32;
    Bytes::from([&[0][..], &size.to_be_bytes(), &vec![0; size as usize - 1]].concat())
}

/// Keeps as many incomplete requests in progress on each connection as it allows. Returns the number of requests that
/// were refused as OVERLOADED.
async fn keep_half_sent(target: &Target<'_>, connections: usize, sent: &Bytes, stopped: &CancellationToken) -> usize {
    let refused = &AtomicUsize::new(0);
    let count = u32::try_from(connections * STREAMS).expect("not that many");
    let connections: Vec<_> = (0..connections).map(|_| channel_from(target.address, ATTACKER)).collect();
    let requests = (0..count).map(|number| {
        let connection = connections[number as usize % connections.len()].clone();
        async move {
            let mut pause = PERIOD * number / count;
            while stopped.run_until_cancelled(sleep(pause)).await.is_some() {
                let ended = send_half(connection.clone(), target.path, sent.clone());
                let status = stopped.run_until_cancelled(ended).await;
                if status.is_some_and(|status| status.code() == Code::ResourceExhausted) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                pause = PERIOD;
            }
        }
    });
    join_all(requests).await;
    refused.load(Ordering::Relaxed)
}

/// An attacked server.
struct Target<'a> {
    address: SocketAddr,
    path: &'a str,
    memory: &'a dyn Fn() -> [u64; 2],
}

/// Sends requests without bodies to the first server, and then half-sent ones to all of these servers.
async fn assert_others_are_unaffected(others: &Others, targets: &[Target<'_>], memory_limit_kib: u64) {
    let attack = async |stopped: &_| {
        let refused = keep_half_sent(&targets[0], 4, &Bytes::new(), stopped).await;
        assert!(refused > 0, "the server refuses requests beyond its limit");
    };
    others.assert_unaffected("requests without bodies", attack).await;
    let before: Vec<_> = targets.iter().map(|target| (target.memory)()[1]).collect();
    let attack = async |stopped: &_| {
        let attacks = targets
            .iter()
            .map(async |target| keep_half_sent(target, CONNECTIONS, &half_request(target.path), stopped).await);
        let refused: usize = join_all(attacks).await.into_iter().sum();
        assert!(refused > 0, "the servers refuse requests beyond their limits");
    };
    others.assert_unaffected("half-sent requests", attack).await;
    for (target, before) in targets.iter().zip(before) {
        let [peak, _] = (target.memory)();
        report_value(target.path, format_args!("memory before {before} KiB, peak {peak} KiB"));
        assert!(peak.saturating_sub(before) <= memory_limit_kib, "memory rose from {before} to {peak} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_incomplete_requests_do_not_affect_others() {
    let cluster = Cluster::on_sqlite(ONE_EACH).await;
    let (auth, task, gateway) = (&cluster.auth[0], &cluster.task[0], cluster.gateway());
    let others = Others::sign_up(auth.channel(), task.channel(), Some(gateway.address())).await;
    let targets = [
        Target { address: gateway.address(), path: JSON_LOGIN, memory: &|| gateway.memory_kib() },
        Target { address: auth.address(), path: LOGIN, memory: &|| auth.memory_kib() },
    ];
    assert_others_are_unaffected(&others, &targets, MEMORY_LIMIT_KIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_incomplete_requests_do_not_affect_others_in_taskey() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    let [auth, task, gateway] = ["auth", "task", "gateway"].map(|name| taskey.address(name));
    let others = Others::sign_up(channel(auth), channel(task), Some(gateway)).await;
    let memory = || taskey.memory_kib();
    let targets = [(gateway, JSON_LOGIN), (auth, LOGIN), (task, HEALTH)];
    let targets = targets.map(|(address, path)| Target { address, path, memory: &memory });
    // Three servers share the process. The limits of the gateway are lower.
    assert_others_are_unaffected(&others, &targets, 2 * MEMORY_LIMIT_KIB).await;
}
