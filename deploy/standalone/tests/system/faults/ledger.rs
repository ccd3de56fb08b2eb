//! What was acknowledged and what was only asked for, and whether the services agree in the end.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::assert_refused;
use taskey_proto::auth::v1::{TokenPair, User};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::{
    cluster::Cluster,
    people::{NO_ANSWER, knock, list, log_in, reason, refresh, sign_up, until_refused},
    report::measured,
};

/// Everything is fresh again within this, after whatever had happened.
const SETTLED: Duration = Duration::from_secs(10);

/// Somebody who writes tasks from one session for as long as the test lasts.
pub struct Writer {
    pub pair: Mutex<TokenPair>,
    /// Titles that the services have been asked to write down, each once.
    pub asked: Mutex<HashSet<String>>,
    /// Titles that they have, by the ids of the tasks.
    pub acknowledged: Mutex<HashMap<String, String>>,
}

/// What became of a session that was begun and left.
pub enum End {
    /// It goes on, and this is its refresh token as far as is known.
    Live,
    /// Whether it has ended is not known.
    LogoutAsked,
    LoggedOut,
}

/// An account of which nothing more is heard.
pub struct Visitor {
    pub user: User,
    pub session: Option<(TokenPair, End)>,
}

#[derive(Default)]
pub struct Ledger {
    pub writers: Vec<Writer>,
    pub visitors: Mutex<Vec<Visitor>>,
    /// Addresses with which somebody may have signed up.
    pub perhaps: Mutex<Vec<String>>,
    /// Answers that nobody should get who has done nothing wrong.
    faults: Mutex<Vec<String>>,
    refusals: Mutex<HashMap<String, usize>>,
    /// The longest wait for any answer.
    slowest: Mutex<Duration>,
    /// How many tasks were acknowledged, and how many calls were not.
    pub written: watch::Sender<usize>,
    pub refused: watch::Sender<usize>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Judges the refusal of a call in which everything was right: the services may not be able to answer, and that is
    /// all they may say.
    pub fn refuse(&self, what: &str, status: &Status, took: Duration) {
        let reason = reason(status);
        let excused = match (status.code(), &reason[..]) {
            // Made by tonic on this side when a connection breaks or cannot be had.
            (Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal, "")
            | (Code::Unavailable, "STORE_UNAVAILABLE" | "VERIFIER_NOT_READY")
            | (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
            | (Code::ResourceExhausted, _) => true,
            (code, _) => code == NO_ANSWER.code(),
        };
        if !excused {
            lock(&self.faults).push(format!("{what}: {:?} {reason}: {}", status.code(), status.message()));
        }
        *lock(&self.refusals).entry(format!("{:?} {reason}", status.code())).or_default() += 1;
        self.refused.send_modify(|refused| *refused += 1);
        self.answered(took);
    }

    pub fn answered(&self, took: Duration) {
        let mut slowest = lock(&self.slowest);
        *slowest = took.max(*slowest);
    }

    pub fn slowest(&self) -> Duration {
        *lock(&self.slowest)
    }

    /// Asks the services, which have settled by now, for everything that they have acknowledged.
    pub async fn verify(&self, cluster: &Cluster) {
        let faults = lock(&self.faults).clone();
        assert!(faults.is_empty(), "{} answers that nobody should get, such as {:?}", faults.len(), &faults[..1]);
        let visitors = std::mem::take(&mut *lock(&self.visitors));
        measured(
            "acknowledged",
            format_args!(
                "{} tasks and {} accounts; refused {:?}; slowest answer {:.1?}",
                *self.written.borrow(),
                visitors.len(),
                lock(&self.refusals),
                self.slowest(),
            ),
        );
        for writer in &self.writers {
            writer.verify(cluster).await;
        }
        for visitor in &visitors {
            visitor.verify(cluster).await;
        }
        // A client without a response may sign up again, or already has an account.
        let perhaps = std::mem::take(&mut *lock(&self.perhaps));
        let auth = cluster.auth[0].channel();
        for email in perhaps {
            if let Err(status) = sign_up(&auth, &email).await {
                assert_eq!(reason(&status), "EMAIL_TAKEN", "{status:?}");
            }
            log_in(&auth, &email).await.expect("the account is whole");
        }
    }
}

impl Writer {
    pub fn new(pair: TokenPair) -> Self {
        Self { pair: Mutex::new(pair), asked: Mutex::default(), acknowledged: Mutex::default() }
    }

    /// Every task that was acknowledged is there once; every other was asked for, and is there once and whole; and the
    /// session still lives.
    async fn verify(&self, cluster: &Cluster) {
        let pair = lock(&self.pair).clone();
        let pair = refresh(&cluster.auth[0].channel(), &pair.refresh_token).await.expect("the session lives");
        let (asked, mut missing) = (lock(&self.asked).clone(), lock(&self.acknowledged).clone());
        let mut seen = HashSet::new();
        for task in list(&cluster.task[0].channel(), &pair.access_token).await.expect("listed") {
            assert!(asked.contains(&task.title), "a task of somebody else: {task:?}");
            assert!(seen.insert(task.title.clone()), "a task twice: {task:?}");
            assert_eq!(task.notes, task.title.repeat(10), "half a task");
            if let Some(title) = missing.remove(&task.id) {
                assert_eq!(task.title, title, "another task under the same id");
            }
        }
        assert!(missing.is_empty(), "{} of {} tasks are missing", missing.len(), asked.len());
    }
}

impl Visitor {
    async fn verify(&self, cluster: &Cluster) {
        let auth = cluster.auth[0].channel();
        let again = log_in(&auth, &self.user.email).await.expect("the account is there");
        assert_eq!(again.user.as_ref(), Some(&self.user));
        match &self.session {
            Some((pair, End::Live)) => {
                refresh(&auth, &pair.refresh_token).await.expect("the session lives");
            }
            Some((pair, End::LoggedOut)) => {
                for task in cluster.task_channels() {
                    until_refused(&task, &pair.access_token, "TOKEN_REVOKED", SETTLED).await;
                }
                assert_refused!(refresh(&auth, &pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
            }
            Some((_, End::LogoutAsked)) | None => {}
        }
        for task in cluster.task_channels() {
            knock(&task, &again.access_token).await.expect("let in");
        }
    }
}
