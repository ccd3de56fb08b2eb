//! An honest user: keeps tasks in one session after another, and checks everything that the services return.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use service_kit::random;
use taskey_proto::auth::v1::TokenPair;
use tokio::{
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Addresses, Client, RETRY_DELAY, Route, to_problem},
    invariants::check_tokens,
    journal::{Journal, Problem},
    revocation::measure_revocation,
    watcher::{self, Expected},
};
use crate::faults::{
    ledger::lock,
    users::{check_token, list, log_in, log_out, refresh, sign_up},
};

/// A call that still fails after this time is given up.
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// A logout takes effect everywhere within this time while the feed is up to date.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// At most this number of revoked tokens is checked again at the end.
const MAX_REVOKED_TOKENS: usize = 10;

/// A task as the user knows it.
struct Known {
    title: String,
    acknowledged_at: Instant,
}

pub struct User {
    number: usize,
    email: String,
    client: Client,
    journal: Arc<Journal>,
    pair: TokenPair,
    /// When the session was created or refreshed.
    session_changed_at: Instant,
    tasks: HashMap<String, Known>,
    /// Access tokens of sessions that have ended.
    revoked: Vec<String>,
    access_token: Arc<Mutex<String>>,
    expected: Arc<Expected>,
    watcher: AbortHandle,
    calls: usize,
}

impl User {
    /// Signs up a user, and opens a watch.
    pub async fn start(number: usize, addresses: &Addresses, journal: &Arc<Journal>) -> Self {
        let host = u8::try_from(number + 1).expect("at most 255");
        let client = Client::new(addresses, Ipv4Addr::new(127, 1, 1, host));
        let email = format!("user.{number}@example.com");
        sign_up(client.auth(0), &email).await.expect("signed up");
        let pair = log_in(client.auth(0), &email).await.expect("logged in");
        let (access_token, expected) = (Arc::new(Mutex::new(pair.access_token.clone())), Arc::default());
        let route = if number.is_multiple_of(2) { Route::Service } else { Route::Gateway };
        let channels = [client.task(route, 0).clone(), client.task(route, 1).clone()];
        let watch = watcher::watch(channels, Arc::clone(&access_token), Arc::clone(&expected), Arc::clone(journal));
        let watcher = tokio::spawn(watch).abort_handle();
        Self {
            number,
            email,
            client,
            journal: Arc::clone(journal),
            pair,
            session_changed_at: Instant::now(),
            tasks: HashMap::new(),
            revoked: Vec::new(),
            access_token,
            expected,
            watcher,
            calls: number,
        }
    }

    /// Calls the services at this interval until `stopped`.
    pub async fn run(mut self, pause: Duration, stopped: CancellationToken) -> Self {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
            self.calls += 1;
            let route = Route::ALL[fastrand::usize(..3)];
            match fastrand::f32() * 100.0 {
                ..20.0 => self.create(route).await,
                ..55.0 => self.get(route).await,
                ..75.0 => self.update(route).await,
                ..90.0 => self.list(route).await,
                ..99.5 => self.refresh().await,
                // Three logins per minute: the rate limit allows six.
                _ => self.change_session().await,
            }
        }
        self
    }

    /// Makes a call until it succeeds, or until its error is final.
    async fn call<T>(&self, kind: &str, call: impl AsyncFn(usize, &str) -> Result<T, Problem>) -> Result<T, Problem> {
        let begun = Instant::now();
        for attempt in self.calls.. {
            let started = Instant::now();
            match call(attempt, &self.pair.access_token).await {
                Ok(response) => {
                    self.journal.record_call(kind, started.elapsed());
                    return Ok(response);
                }
                Err(problem) if problem.is_transient && begun.elapsed() < RETRY_LIMIT => {
                    self.journal.record_retry(kind, &problem);
                    sleep(RETRY_DELAY).await;
                }
                Err(problem) => return Err(problem),
            }
        }
        unreachable!("the attempts do not end")
    }

    async fn create(&mut self, route: Route) {
        let kind = format!("create by {}", route.name());
        let title = format!("user {} task {}", self.number, self.calls);
        let request_id = random::id().to_string();
        let created = self
            .call(&kind, async |attempt, token| self.client.create(route, attempt, token, &title, &request_id).await);
        match created.await {
            Ok(id) => self.acknowledge(id, title),
            Err(problem) => self.fail(&kind, &problem),
        }
    }

    /// Records the title of a task, which the watch must report.
    fn acknowledge(&mut self, id: String, title: String) {
        let acknowledged_at = Instant::now();
        self.expected.expect(&id, &title, acknowledged_at);
        self.tasks.insert(id, Known { title, acknowledged_at });
    }

    fn random_task(&self) -> Option<(String, String)> {
        let at = fastrand::usize(..self.tasks.len().max(1));
        self.tasks.iter().nth(at).map(|(id, known)| (id.clone(), known.title.clone()))
    }

    async fn get(&mut self, route: Route) {
        let kind = format!("get by {}", route.name());
        let Some((id, title)) = self.random_task() else { return };
        let got = self.call(&kind, async |attempt, token| self.client.get(route, attempt, token, &id).await).await;
        match got {
            Ok(returned) if returned == title => {}
            other => self.handle_mismatch(&kind, &id, other),
        }
    }

    async fn update(&mut self, route: Route) {
        let kind = format!("update by {}", route.name());
        let Some((id, _)) = self.random_task() else { return };
        let title = format!("user {} update {}", self.number, self.calls);
        let updated =
            self.call(&kind, async |attempt, token| self.client.update(route, attempt, token, &id, &title).await);
        match updated.await {
            Ok(()) => self.acknowledge(id, title),
            Err(problem) => self.handle_mismatch(&kind, &id, Err(problem)),
        }
    }

    /// Handles a task that differs from what was acknowledged: the failover may have lost it.
    fn handle_mismatch(&mut self, kind: &str, id: &str, returned: Result<String, Problem>) {
        let known = self.tasks.get(id).expect("a known task");
        let may_be_lost = self.journal.may_be_lost(known.acknowledged_at);
        match returned {
            Ok(title) if may_be_lost => self.acknowledge(id.to_owned(), title),
            Err(problem) if may_be_lost && problem.reason.contains("TASK_NOT_FOUND") => {
                self.tasks.remove(id);
                self.expected.forget(id);
            }
            Ok(title) => {
                let message = format!("{title:?} instead of {:?}", known.title);
                self.journal.record_failure(kind, "an acknowledged write is lost", &message);
            }
            Err(problem) => self.fail(kind, &problem),
        }
    }

    async fn list(&mut self, route: Route) {
        let kind = format!("list by {}", route.name());
        match self.call(&kind, async |attempt, token| self.client.list(route, attempt, token).await).await {
            Ok(tasks) => {
                let own = format!("user {} ", self.number);
                for (id, title) in tasks.iter().filter(|(_, title)| !title.starts_with(&own)) {
                    self.journal.record_failure(&kind, "another user's task", &format!("{id} {title}"));
                }
            }
            Err(problem) => self.fail(&kind, &problem),
        }
    }

    async fn refresh(&mut self) {
        let token = self.pair.refresh_token.clone();
        let refreshed = self.call("refresh", async |attempt, _| {
            refresh(self.client.auth(attempt), &token).await.map_err(|status| to_problem(&status))
        });
        match refreshed.await {
            Ok(pair) => self.use_session(pair),
            Err(_) if self.journal.may_be_lost(self.session_changed_at) => self.log_in().await,
            Err(problem) => {
                self.fail("refresh", &problem);
                self.log_in().await;
            }
        }
    }

    fn use_session(&mut self, pair: TokenPair) {
        lock(&self.access_token).clone_from(&pair.access_token);
        (self.pair, self.session_changed_at) = (pair, Instant::now());
    }

    async fn log_in(&mut self) {
        let logged_in = self.call("log in", async |attempt, _| {
            log_in(self.client.auth(attempt), &self.email).await.map_err(|status| to_problem(&status))
        });
        match logged_in.await {
            Ok(pair) => self.use_session(pair),
            Err(problem) => self.fail("log in", &problem),
        }
    }

    /// Logs in, logs out of the previous session, and measures how long its token is accepted.
    async fn change_session(&mut self) {
        let old = self.pair.clone();
        self.log_in().await;
        if old.session_id == self.pair.session_id {
            return;
        }
        let logged_out = self.call("log out", async |attempt, _| {
            log_out(self.client.auth(attempt), &old).await.map_err(|status| to_problem(&status))
        });
        if let Err(problem) = logged_out.await {
            return self.fail("log out", &problem);
        }
        let lag = measure_revocation(self.client.tasks(), &old.access_token).await;
        self.journal.record_revocation(lag);
        if lag > REVOCATION_LIMIT && !self.journal.is_disturbed() {
            self.journal.record_failure("log out", "a revoked token is accepted", &format!("for {lag:?}"));
        }
        self.revoked.push(old.access_token);
        if self.revoked.len() > MAX_REVOKED_TOKENS {
            self.revoked.remove(0);
        }
    }

    fn fail(&self, kind: &str, problem: &Problem) {
        self.journal.record_failure(kind, &problem.reason, &problem.message);
    }

    /// Checks at the end that every acknowledged write is present, that nothing else is, and that revoked tokens are
    /// refused. Returns the secrets of the user.
    pub async fn verify(mut self) -> Vec<String> {
        self.watcher.abort();
        self.log_in().await;
        self.verify_tasks().await;
        for token in &self.revoked {
            for task in self.client.tasks() {
                if check_token(task, token).await.is_ok() {
                    self.journal.record_failure("at the end", "a revoked token is accepted", "");
                }
            }
        }
        check_tokens(self.client.auth(0), &self.email, &self.pair, &self.journal).await;
        vec![self.pair.access_token, self.pair.refresh_token]
    }

    async fn verify_tasks(&self) {
        let listed = self.call("list all", async |attempt, token| {
            list(self.client.task(Route::Service, attempt), token).await.map_err(|status| to_problem(&status))
        });
        let listed = match listed.await {
            Ok(listed) => listed,
            Err(problem) => return self.fail("list all", &problem),
        };
        let mut titles: HashMap<_, _> = listed.into_iter().map(|task| (task.id, task.title)).collect();
        for (id, known) in &self.tasks {
            let title = titles.remove(id);
            if title.as_ref() != Some(&known.title) && !self.journal.may_be_lost(known.acknowledged_at) {
                let message = format!("{title:?} instead of {:?}", known.title);
                self.journal.record_failure("list all", "an acknowledged write is lost", &message);
            }
        }
        if let Some(title) = titles.values().next() {
            let message = format!("{} tasks, for example {title:?}", titles.len());
            self.journal.record_failure("list all", "unknown tasks", &message);
        }
    }
}
