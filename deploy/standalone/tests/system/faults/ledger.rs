//! Records which requests were sent and which were acknowledged, and checks them against the services.

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
    report::report_value,
    users::{NO_RESPONSE, check_token, list, log_in, reason, refresh, sign_up, wait_until_refused},
};

/// All verifiers are up to date within this time after any fault.
const UP_TO_DATE_LIMIT: Duration = Duration::from_secs(10);

/// A user who creates tasks in one session for the whole test.
pub struct Writer {
    pub pair: Mutex<TokenPair>,
    /// Titles of all requested tasks, each requested once.
    pub requested: Mutex<HashSet<String>>,
    /// Titles of the acknowledged tasks, by task id.
    pub acknowledged: Mutex<HashMap<String, String>>,
}

/// The last known state of a visitor's session.
pub enum SessionState {
    /// The session is active, and its last known refresh token is valid.
    Active,
    /// A logout was requested but not acknowledged.
    LogoutUnacknowledged,
    LoggedOut,
}

/// An account that is not used any more.
pub struct Visitor {
    pub user: User,
    pub session: Option<(TokenPair, SessionState)>,
}

#[derive(Default)]
pub struct Ledger {
    pub writers: Vec<Writer>,
    pub visitors: Mutex<Vec<Visitor>>,
    /// Email addresses of sign-ups that were not acknowledged.
    pub unacknowledged_sign_ups: Mutex<Vec<String>>,
    /// Errors that a valid request must not get, even during a fault.
    unexpected_errors: Mutex<Vec<String>>,
    errors: Mutex<HashMap<String, usize>>,
    /// The longest time until any response.
    slowest: Mutex<Duration>,
    /// The number of acknowledged tasks, and of failed calls.
    pub written: watch::Sender<usize>,
    pub failed: watch::Sender<usize>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Records the error of a valid request. During faults only temporary errors are expected.
    pub fn record_error(&self, name: &str, status: &Status, took: Duration) {
        let reason = reason(status);
        let is_expected = match (status.code(), &reason[..]) {
            // Created by the tonic client when a connection breaks or cannot be established.
            (Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal, "")
            | (Code::Unavailable, "STORE_UNAVAILABLE" | "VERIFIER_NOT_READY")
            | (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
            | (Code::ResourceExhausted, _) => true,
            (code, _) => code == NO_RESPONSE.code(),
        };
        if !is_expected {
            lock(&self.unexpected_errors).push(format!("{name}: {:?} {reason}: {}", status.code(), status.message()));
        }
        *lock(&self.errors).entry(format!("{:?} {reason}", status.code())).or_default() += 1;
        self.failed.send_modify(|failed| *failed += 1);
        self.record_duration(took);
    }

    pub fn record_duration(&self, took: Duration) {
        let mut slowest = lock(&self.slowest);
        *slowest = took.max(*slowest);
    }

    pub fn slowest(&self) -> Duration {
        *lock(&self.slowest)
    }

    /// Checks that the recovered services have everything that they acknowledged.
    pub async fn verify(&self, cluster: &Cluster) {
        let unexpected_errors = lock(&self.unexpected_errors).clone();
        assert!(
            unexpected_errors.is_empty(),
            "{} unexpected errors, for example {:?}",
            unexpected_errors.len(),
            &unexpected_errors[..1]
        );
        let visitors = std::mem::take(&mut *lock(&self.visitors));
        report_value(
            "acknowledged",
            format_args!(
                "{} tasks and {} accounts; errors {:?}; slowest response {:.1?}",
                *self.written.borrow(),
                visitors.len(),
                lock(&self.errors),
                self.slowest(),
            ),
        );
        for writer in &self.writers {
            writer.verify(cluster).await;
        }
        for visitor in &visitors {
            visitor.verify(cluster).await;
        }
        // A sign-up without a response may or may not have created the account.
        let unacknowledged_sign_ups = std::mem::take(&mut *lock(&self.unacknowledged_sign_ups));
        let auth = cluster.auth[0].channel();
        for email in unacknowledged_sign_ups {
            if let Err(status) = sign_up(&auth, &email).await {
                assert_eq!(reason(&status), "EMAIL_TAKEN", "{status:?}");
            }
            log_in(&auth, &email).await.expect("the account is complete");
        }
    }
}

impl Writer {
    pub fn new(pair: TokenPair) -> Self {
        Self { pair: Mutex::new(pair), requested: Mutex::default(), acknowledged: Mutex::default() }
    }

    /// Checks that every acknowledged task exists once, that every other task was requested and is complete and unique,
    /// and that the session is still active.
    async fn verify(&self, cluster: &Cluster) {
        let pair = lock(&self.pair).clone();
        let pair = refresh(&cluster.auth[0].channel(), &pair.refresh_token).await.expect("the session is active");
        let (requested, mut missing) = (lock(&self.requested).clone(), lock(&self.acknowledged).clone());
        let mut seen = HashSet::new();
        for task in list(&cluster.task[0].channel(), &pair.access_token).await.expect("listed") {
            assert!(requested.contains(&task.title), "a task that was not requested: {task:?}");
            assert!(seen.insert(task.title.clone()), "a duplicated task: {task:?}");
            assert_eq!(task.notes, task.title.repeat(10), "partially written task");
            if let Some(title) = missing.remove(&task.id) {
                assert_eq!(task.title, title, "another task under the same id");
            }
        }
        assert!(missing.is_empty(), "{} of {} tasks are missing", missing.len(), requested.len());
    }
}

impl Visitor {
    async fn verify(&self, cluster: &Cluster) {
        let auth = cluster.auth[0].channel();
        let again = log_in(&auth, &self.user.email).await.expect("the account exists");
        assert_eq!(again.user.as_ref(), Some(&self.user));
        match &self.session {
            Some((pair, SessionState::Active)) => {
                refresh(&auth, &pair.refresh_token).await.expect("the session is active");
            }
            Some((pair, SessionState::LoggedOut)) => {
                for task in cluster.task_channels() {
                    wait_until_refused(&task, &pair.access_token, "TOKEN_REVOKED", UP_TO_DATE_LIMIT).await;
                }
                assert_refused!(refresh(&auth, &pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
            }
            Some((_, SessionState::LogoutUnacknowledged)) | None => {}
        }
        for task in cluster.task_channels() {
            check_token(&task, &again.access_token).await.expect("accepted");
        }
    }
}
