//! Load during faults: users call the services and record the outcomes in a ledger.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use super::{
    cluster::Cluster,
    ledger::{Ledger, SessionState, Visitor, Writer, lock},
    users::{create, log_in, log_out, refresh, sign_up, sign_up_and_log_in},
};

/// The number of writers, and of concurrent calls per writer.
const WRITERS: usize = 2;
const CALLS: usize = 3;

/// Pause after an error, before the next replica is called.
const PAUSE: Duration = Duration::from_millis(50);

/// Interval between refreshes of a session.
const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// The services have recovered within this time, on a machine that is busy with other tests.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

pub struct Load {
    ledger: Arc<Ledger>,
    stopped: CancellationToken,
    users: JoinSet<()>,
}

/// The replicas of a service. After an error, the next one is called.
#[derive(Clone)]
struct Replicas {
    channels: Vec<Channel>,
    next: usize,
    ledger: Arc<Ledger>,
}

impl Replicas {
    /// Makes a call and records its outcome.
    async fn call<T>(&mut self, name: &str, call: impl AsyncFnOnce(&Channel) -> Result<T, Status>) -> Option<T> {
        let begun = Instant::now();
        match call(&self.channels[self.next % self.channels.len()]).await {
            Ok(response) => {
                self.ledger.record_duration(begun.elapsed());
                Some(response)
            }
            Err(status) => {
                self.ledger.record_error(name, &status, begun.elapsed());
                self.next += 1;
                sleep(PAUSE).await;
                None
            }
        }
    }
}

impl Load {
    pub async fn start(cluster: &Cluster) -> Self {
        let auth = cluster.auth_channels();
        let mut ledger = Ledger::default();
        for writer in 0..WRITERS {
            ledger
                .writers
                .push(Writer::new(sign_up_and_log_in(&auth[0], &format!("writer.{writer}@example.com")).await));
        }
        let ledger = Arc::new(ledger);
        let replicas =
            |channels: &[Channel], next| Replicas { channels: channels.to_vec(), next, ledger: Arc::clone(&ledger) };
        let (stopped, mut users) = (CancellationToken::new(), JoinSet::new());
        let tasks = cluster.task_channels();
        for writer in 0..WRITERS {
            for call in 0..CALLS {
                users.spawn(write(Arc::clone(&ledger), stopped.clone(), writer, call, replicas(&tasks, call)));
            }
            users.spawn(keep_refreshing(Arc::clone(&ledger), stopped.clone(), writer, replicas(&auth, writer)));
        }
        users.spawn(visit(Arc::clone(&ledger), stopped.clone(), replicas(&auth, 0)));
        Self { ledger, stopped, users }
    }

    /// Waits until this number of further tasks is acknowledged, and returns how long that took.
    pub async fn wait_for_tasks(&self, tasks: usize) -> Duration {
        let begun = Instant::now();
        let goal = *self.ledger.written.borrow() + tasks;
        let mut written = self.ledger.written.subscribe();
        let reached = timeout(RECOVERY_LIMIT, written.wait_for(|written| *written >= goal)).await;
        assert!(reached.is_ok(), "{tasks} more tasks were not written within {RECOVERY_LIMIT:?}");
        begun.elapsed()
    }

    /// Waits until this number of further calls has failed.
    pub async fn wait_for_errors(&self, calls: usize) {
        let mut failed = self.ledger.failed.subscribe();
        let goal = *failed.borrow() + calls;
        let reached = timeout(RECOVERY_LIMIT, failed.wait_for(|failed| *failed >= goal)).await;
        assert!(reached.is_ok(), "{calls} more calls did not fail within {RECOVERY_LIMIT:?}");
    }

    /// Waits until all users have finished, and returns the ledger.
    pub async fn finish(self) -> Arc<Ledger> {
        self.stopped.cancel();
        self.users.join_all().await;
        self.ledger
    }
}

/// Creates tasks sequentially. A creation that was not acknowledged is not retried, so that no task is duplicated.
async fn write(ledger: Arc<Ledger>, stopped: CancellationToken, writer_index: usize, call: usize, mut tasks: Replicas) {
    let writer = &ledger.writers[writer_index];
    for number in 0.. {
        if stopped.is_cancelled() {
            return;
        }
        let title = format!("{writer_index}/{call}/{number}");
        lock(&writer.requested).insert(title.clone());
        let token = lock(&writer.pair).access_token.clone();
        if let Some(task) = tasks.call("a task", async |task| create(task, &token, &title).await).await {
            lock(&writer.acknowledged).insert(task.id, title);
            ledger.written.send_modify(|written| *written += 1);
        }
    }
}

/// Refreshes a session as clients do: a refresh without a response is retried with the same token.
async fn keep_refreshing(ledger: Arc<Ledger>, stopped: CancellationToken, writer_index: usize, mut auth: Replicas) {
    while !stopped.is_cancelled() {
        let token = lock(&ledger.writers[writer_index].pair).refresh_token.clone();
        if let Some(pair) = auth.call("a refresh", async |auth| refresh(auth, &token).await).await {
            *lock(&ledger.writers[writer_index].pair) = pair;
            sleep(REFRESH_INTERVAL).await;
        }
    }
}

/// Signs up, logs in and refreshes as one user after another. Every other user logs out.
async fn visit(ledger: Arc<Ledger>, stopped: CancellationToken, mut auth: Replicas) {
    for number in 0.. {
        if stopped.is_cancelled() {
            return;
        }
        let email = format!("visitor.{number}@example.com");
        let Some(user) = auth.call("a sign-up", async |auth| sign_up(auth, &email).await).await else {
            lock(&ledger.unacknowledged_sign_ups).push(email);
            continue;
        };
        let session = run_session(&mut auth, &email, number % 2 == 0).await;
        lock(&ledger.visitors).push(Visitor { user, session });
        sleep(PAUSE).await;
    }
}

async fn run_session(
    auth: &mut Replicas,
    email: &str,
    log_out_at_end: bool,
) -> Option<(taskey_proto::auth::v1::TokenPair, SessionState)> {
    let first = auth.call("a login", async |auth| log_in(auth, email).await).await?;
    let Some(second) = auth.call("a refresh", async |auth| refresh(auth, &first.refresh_token).await).await else {
        return Some((first, SessionState::Active));
    };
    if !log_out_at_end {
        return Some((second, SessionState::Active));
    }
    let logged_out = auth.call("a logout", async |auth| log_out(auth, &second).await).await;
    let state = if logged_out.is_some() { SessionState::LoggedOut } else { SessionState::LogoutUnacknowledged };
    Some((second, state))
}
