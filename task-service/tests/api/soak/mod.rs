//! Concurrent writers and followers over unreliable connections: all followers converge to the tasks that `ListTasks`
//! returns.

use std::{collections::BTreeMap, env, time::Duration};

use futures::future::join_all;
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::task::v1::Task;
use tokio::{
    sync::{Barrier, watch},
    time::timeout,
};
use tonic::Status;

use crate::{
    follow::LocalCopy,
    proxy::{Proxy, any},
    support::{Service, User, WAIT_TIMEOUT},
};

mod writer;

use writer::{Ids, Writer};

on_each_database!(followers_converge_to_the_listed_tasks);

const WRITERS: u64 = 16;
const WRITES: usize = 30;
const FOLLOWERS: u64 = 4;

/// Generous limits: the machine may be slow, and this test does not measure latency.
const GENEROUS_LIMITS: [&str; 6] =
    ["--revocation-max-staleness", "15m", "--database-timeout", "30s", "--request-timeout", "30s"];

async fn followers_converge_to_the_listed_tasks(database: TestDatabase) {
    let rounds: u64 = env::var("TASKEY_TEST_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number")).min(50);
    let service = Service::start_with(&database, &GENEROUS_LIMITS).await;
    let replica = service.start_replica(&database, &GENEROUS_LIMITS).await;
    // SQLite: one service only, because two would wait for each other's lock on the file.
    let services = if database.url().starts_with("sqlite") { [&service, &service] } else { [&service, &replica] };
    for _ in 0..rounds {
        soak(&database, services).await;
    }
    replica.stop().await;
    service.stop().await;
}

/// Runs one round with a new user.
async fn soak(database: &TestDatabase, services: [&Service; 2]) {
    let service = services[0];
    let ann = service.user();
    let connect = async |index: u64, bytes_per_connection| {
        let service = services[usize::from(index % 2 == 1)];
        let proxy = Proxy::start(service.address, bytes_per_connection).await;
        (ann.with_channel(proxy.channel.clone()), proxy)
    };
    let ids = Ids::default();
    let half_written = Barrier::new(usize::try_from(WRITERS).expect("few") + 1);
    let writers = join_all((0..WRITERS).map(async |index| {
        let (user, proxy) = connect(index, 5_000..=200_000).await;
        let writer = Writer { user, channel: proxy.channel.clone(), ids: &ids };
        for write in 0..WRITES {
            if write == WRITES / 2 {
                half_written.wait().await;
            }
            service.manual_clock.advance(Duration::from_millis(1));
            writer.write_at_random().await;
        }
    }));
    // Tasks deleted in the first half are purged during the second.
    let purge = async {
        half_written.wait().await;
        service.manual_clock.advance(Duration::from_secs(30 * 24 * 3600));
        service.start_replica(database, &GENEROUS_LIMITS).await
    };
    let write_all = async {
        let (_, purging) = tokio::join!(writers, purge);
        (ann.all_tasks().await, purging)
    };
    let (sender, final_tasks) = watch::channel(None);
    let watchers = join_all((0..FOLLOWERS).map(async |index| {
        let (user, proxy) = connect(index, 3_000..=60_000).await;
        let copy = follow(&user, final_tasks.clone()).await;
        (copy, proxy.breaks())
    }));
    let pullers = join_all((0..FOLLOWERS).map(async |index| {
        let (user, proxy) = connect(index, 3_000..=60_000).await;
        let copy = pull(&user, final_tasks.clone()).await;
        (copy, proxy.breaks())
    }));
    let end = async {
        let (tasks, purging) = write_all.await;
        sender.send_replace(Some(tasks.clone()));
        (tasks, purging)
    };
    let ((tasks, purging), watchers, pullers) = tokio::join!(end, watchers, pullers);
    assert_eq!(ann.all_tasks().await, tasks, "all writers have finished");
    for (copy, breaks) in watchers.into_iter().chain(pullers) {
        assert_eq!(copy.tasks, tasks);
        assert!(breaks > 0, "no connection was broken");
    }
    purging.stop().await;
}

/// All tasks, once all writers have finished.
type FinalTasks = watch::Receiver<Option<BTreeMap<String, Task>>>;

impl LocalCopy {
    /// Handles an error that is expected: a broken connection, an expired access token, or a watch quota not yet released.
    /// Starts again without a sync token, and returns 1, if the tombstones since it are gone: those of lists deleted in the
    /// first half are as old as the tasks that are purged.
    fn restart_if_expired(&mut self, status: &Status) -> u32 {
        match &*refusal(status).1 {
            "" | "TOKEN_EXPIRED" | "QUOTA_EXCEEDED" => 0,
            "SYNC_TOKEN_EXPIRED" => {
                *self = Self::default();
                1
            }
            _ => panic!("{status:?}"),
        }
    }
}

/// Watches until the copy equals the final tasks. Resumes the watch whenever it breaks.
async fn follow(user: &User, mut final_tasks: FinalTasks) -> LocalCopy {
    let (mut copy, mut restarts) = (LocalCopy::default(), 0);
    let all = async {
        loop {
            let broken = match user.watch(&copy.token).await {
                Err(status) => status,
                Ok(mut watch) => loop {
                    tokio::select! {
                        received = copy.receive(&mut watch) => if let Err(status) = received { break status },
                        Ok(()) = final_tasks.changed() => {}
                    }
                    if final_tasks.borrow_and_update().as_ref().is_some_and(|tasks| *tasks == copy.tasks) {
                        return;
                    }
                },
            };
            restarts += copy.restart_if_expired(&broken);
        }
    };
    timeout(4 * WAIT_TIMEOUT, all).await.expect("all changes arrive in time");
    assert!(restarts <= 1, "{restarts} restarts");
    copy
}

/// Requests changes until the copy equals the final tasks.
async fn pull(user: &User, final_tasks: FinalTasks) -> LocalCopy {
    let (mut copy, mut restarts) = (LocalCopy::default(), 0);
    let all = async {
        while final_tasks.borrow().as_ref().is_none_or(|tasks| *tasks != copy.tasks) {
            let size = i32::try_from(any(1..=20)).expect("small");
            match user.changes(&copy.token, size).await {
                Ok(page) => copy.apply_page(page),
                Err(status) => restarts += copy.restart_if_expired(&status),
            }
        }
    };
    timeout(4 * WAIT_TIMEOUT, all).await.expect("all changes arrive in time");
    assert!(restarts <= 1, "{restarts} restarts");
    copy
}
