//! People who use the services while these break, and who keep a ledger.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use super::{
    cluster::Cluster,
    ledger::{End, Ledger, Visitor, Writer, lock},
    people::{create, log_in, log_out, person, refresh, sign_up},
};

/// How many people write tasks, and how many calls each has under way.
const WRITERS: usize = 2;
const CALLS: usize = 3;

/// Who was refused asks the next replica after so long.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a session is refreshed.
const REFRESH_EVERY: Duration = Duration::from_millis(200);

/// The services are of use again within this, on a machine that is busy with other tests.
const USE_LIMIT: Duration = Duration::from_secs(30);

pub struct Load {
    ledger: Arc<Ledger>,
    stopped: CancellationToken,
    people: JoinSet<()>,
}

/// Replicas of a service, one after the other.
#[derive(Clone)]
struct Replicas {
    channels: Vec<Channel>,
    turn: usize,
    ledger: Arc<Ledger>,
}

impl Replicas {
    /// Makes a call, and keeps account of its end.
    async fn call<T>(&mut self, what: &str, call: impl AsyncFnOnce(&Channel) -> Result<T, Status>) -> Option<T> {
        let begun = Instant::now();
        match call(&self.channels[self.turn % self.channels.len()]).await {
            Ok(answer) => {
                self.ledger.answered(begun.elapsed());
                Some(answer)
            }
            Err(status) => {
                self.ledger.refuse(what, &status, begun.elapsed());
                self.turn += 1;
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
            ledger.writers.push(Writer::new(person(&auth[0], &format!("writer.{writer}@example.com")).await));
        }
        let ledger = Arc::new(ledger);
        let replicas =
            |channels: &[Channel], turn| Replicas { channels: channels.to_vec(), turn, ledger: Arc::clone(&ledger) };
        let (stopped, mut people) = (CancellationToken::new(), JoinSet::new());
        let tasks = cluster.task_channels();
        for writer in 0..WRITERS {
            for call in 0..CALLS {
                people.spawn(write(Arc::clone(&ledger), stopped.clone(), writer, call, replicas(&tasks, call)));
            }
            people.spawn(stay(Arc::clone(&ledger), stopped.clone(), writer, replicas(&auth, writer)));
        }
        people.spawn(visit(Arc::clone(&ledger), stopped.clone(), replicas(&auth, 0)));
        Self { ledger, stopped, people }
    }

    /// Waits until so many more tasks have been acknowledged, and says how long that took.
    pub async fn progress(&self, tasks: usize) -> Duration {
        let begun = Instant::now();
        let goal = *self.ledger.written.borrow() + tasks;
        let mut written = self.ledger.written.subscribe();
        let reached = timeout(USE_LIMIT, written.wait_for(|written| *written >= goal)).await;
        assert!(reached.is_ok(), "{tasks} more tasks were not written within {USE_LIMIT:?}");
        begun.elapsed()
    }

    /// Waits until so many more calls have been refused.
    pub async fn refusals(&self, calls: usize) {
        let mut refused = self.ledger.refused.subscribe();
        let goal = *refused.borrow() + calls;
        let reached = timeout(USE_LIMIT, refused.wait_for(|refused| *refused >= goal)).await;
        assert!(reached.is_ok(), "{calls} more calls were not refused within {USE_LIMIT:?}");
    }

    /// Lets everyone finish, and gives the ledger.
    pub async fn finish(self) -> Arc<Ledger> {
        self.stopped.cancel();
        self.people.join_all().await;
        self.ledger
    }
}

/// Writes task after task. One that was not acknowledged is not tried again, so none can be there twice.
async fn write(ledger: Arc<Ledger>, stopped: CancellationToken, who: usize, call: usize, mut tasks: Replicas) {
    let writer = &ledger.writers[who];
    for number in 0.. {
        if stopped.is_cancelled() {
            return;
        }
        let title = format!("{who}/{call}/{number}");
        lock(&writer.asked).insert(title.clone());
        let token = lock(&writer.pair).access_token.clone();
        if let Some(task) = tasks.call("a task", async |task| create(task, &token, &title).await).await {
            lock(&writer.acknowledged).insert(task.id, title);
            ledger.written.send_modify(|written| *written += 1);
        }
    }
}

/// Keeps a session going, as clients do: a refresh that was not answered is tried again with the same token.
async fn stay(ledger: Arc<Ledger>, stopped: CancellationToken, who: usize, mut auth: Replicas) {
    while !stopped.is_cancelled() {
        let token = lock(&ledger.writers[who].pair).refresh_token.clone();
        if let Some(pair) = auth.call("a refresh", async |auth| refresh(auth, &token).await).await {
            *lock(&ledger.writers[who].pair) = pair;
            sleep(REFRESH_EVERY).await;
        }
    }
}

/// Signs up, logs in and refreshes as one after the other, and every second logs out.
async fn visit(ledger: Arc<Ledger>, stopped: CancellationToken, mut auth: Replicas) {
    for number in 0.. {
        if stopped.is_cancelled() {
            return;
        }
        let email = format!("visitor.{number}@example.com");
        let Some(user) = auth.call("a sign-up", async |auth| sign_up(auth, &email).await).await else {
            lock(&ledger.perhaps).push(email);
            continue;
        };
        let session = begin(&mut auth, &email, number % 2 == 0).await;
        lock(&ledger.visitors).push(Visitor { user, session });
        sleep(PAUSE).await;
    }
}

async fn begin(auth: &mut Replicas, email: &str, leave: bool) -> Option<(taskey_proto::auth::v1::TokenPair, End)> {
    let first = auth.call("a login", async |auth| log_in(auth, email).await).await?;
    let Some(second) = auth.call("a refresh", async |auth| refresh(auth, &first.refresh_token).await).await else {
        return Some((first, End::Live));
    };
    if !leave {
        return Some((second, End::Live));
    }
    let left = auth.call("a logout", async |auth| log_out(auth, &second).await).await;
    let end = if left.is_some() { End::LoggedOut } else { End::LogoutAsked };
    Some((second, end))
}
