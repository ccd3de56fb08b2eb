//! Many who write and many who follow at once, over links that break: everybody ends with the same tasks.

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
    follow::Known,
    proxy::{Proxy, any},
    support::{PATIENCE, Service, User},
};

mod writer;

use writer::{Ids, Writer};

on_each_database!(whoever_follows_ends_with_what_lists_show);

const WRITERS: u64 = 16;
const WRITES: usize = 30;
const FOLLOWERS: u64 = 4;

/// The database and the machine may be slow; nothing is said of it here.
const PATIENT: [&str; 6] =
    ["--revocation-max-staleness", "15m", "--database-timeout", "30s", "--request-timeout", "30s"];

async fn whoever_follows_ends_with_what_lists_show(database: TestDatabase) {
    let rounds: u64 = env::var("TASKEY_TEST_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number")).min(50);
    let service = Service::start_with(&database, &PATIENT).await;
    let replica = service.beside(&database, &PATIENT).await;
    // Two programs on one file would wait for each other.
    let services = if database.url().starts_with("sqlite") { [&service, &service] } else { [&service, &replica] };
    for _ in 0..rounds {
        soak(&database, services).await;
    }
    replica.stop().await;
    service.stop().await;
}

/// One round, of a user of its own.
async fn soak(database: &TestDatabase, services: [&Service; 2]) {
    let service = services[0];
    let ann = service.user();
    let place = async |index: u64, lasts| {
        let service = services[usize::from(index % 2 == 1)];
        let proxy = Proxy::start(service.address, lasts).await;
        (ann.by(proxy.channel.clone()), proxy)
    };
    let ids = Ids::default();
    let half = Barrier::new(usize::try_from(WRITERS).expect("few") + 1);
    let writers = join_all((0..WRITERS).map(async |index| {
        let (user, proxy) = place(index, 5_000..=200_000).await;
        let writer = Writer { user, channel: proxy.channel.clone(), ids: &ids };
        for write in 0..WRITES {
            if write == WRITES / 2 {
                half.wait().await;
            }
            service.hands.advance(Duration::from_millis(1));
            writer.write_something().await;
        }
    }));
    // What has been deleted in the first half is purged while the second is under way.
    let purge = async {
        half.wait().await;
        service.hands.advance(Duration::from_secs(30 * 24 * 3600));
        service.beside(database, &PATIENT).await
    };
    let everything = async {
        let (_, purging) = tokio::join!(writers, purge);
        (ann.everything().await, purging)
    };
    let (written, is_written) = watch::channel(None);
    let watchers = join_all((0..FOLLOWERS).map(async |index| {
        let (user, proxy) = place(index, 3_000..=60_000).await;
        let known = follow(&user, is_written.clone()).await;
        (known, proxy.breaks())
    }));
    let pullers = join_all((0..FOLLOWERS).map(async |index| {
        let (user, proxy) = place(index, 3_000..=60_000).await;
        let known = pull(&user, is_written.clone()).await;
        (known, proxy.breaks())
    }));
    let end = async {
        let (tasks, purging) = everything.await;
        written.send_replace(Some(tasks.clone()));
        (tasks, purging)
    };
    let ((tasks, purging), watchers, pullers) = tokio::join!(end, watchers, pullers);
    assert_eq!(ann.everything().await, tasks, "nobody writes any more");
    for (known, breaks) in watchers.into_iter().chain(pullers) {
        assert_eq!(known.tasks, tasks);
        assert!(breaks > 0, "the link has not broken");
    }
    purging.stop().await;
}

/// All tasks, when nobody writes any more.
type Written = watch::Receiver<Option<BTreeMap<String, Task>>>;

/// Whether a link that breaks, a token that has expired or a place that is not free yet explains it.
fn passes(status: &Status) -> bool {
    matches!(&*refusal(status).1, "" | "TOKEN_EXPIRED" | "QUOTA_EXCEEDED")
}

/// Watches, and takes the watch up again whenever it breaks, until all that was written is known.
async fn follow(user: &User, mut written: Written) -> Known {
    let mut known = Known::default();
    let all = async {
        loop {
            let broken = match user.watch(&known.token).await {
                Err(status) => status,
                Ok(mut watch) => loop {
                    tokio::select! {
                        heard = known.hear(&mut watch) => if let Err(status) = heard { break status },
                        Ok(()) = written.changed() => {}
                    }
                    if written.borrow_and_update().as_ref().is_some_and(|tasks| *tasks == known.tasks) {
                        return;
                    }
                },
            };
            assert!(passes(&broken), "{broken:?}");
        }
    };
    timeout(4 * PATIENCE, all).await.expect("all is told in time");
    known
}

/// Asks again and again, until all that was written is known.
async fn pull(user: &User, written: Written) -> Known {
    let mut known = Known::default();
    let all = async {
        while written.borrow().as_ref().is_none_or(|tasks| *tasks != known.tasks) {
            let size = i32::try_from(any(1..=20)).expect("small");
            match user.changes(&known.token, size).await {
                Ok(page) => known.learn(page.changes, page.next_sync_token),
                Err(status) => assert!(passes(&status), "{status:?}"),
            }
        }
    };
    timeout(4 * PATIENCE, all).await.expect("all is told in time");
    known
}
