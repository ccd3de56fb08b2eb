//! Other callers, who are measured without an attack and during one.

use std::{net::SocketAddr, time::Duration};

use taskey_proto::{
    auth::v1::TokenPair,
    task::v1::{GetTaskRequest, task_service_client::TaskServiceClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    report::{percentile, report_value},
    users::{CALL_TIMEOUT, RETRY_PAUSE, create, log_in, log_out, me, sign_up_and_log_in, wait_until_refused},
};
use crate::process::bearer;

/// An attack lasts at least this long.
const DURATION: Duration = Duration::from_secs(2);

/// The minimum number of measured rounds, each of one call of every kind.
const MIN_ROUNDS: usize = 150;

/// The minimum number of rounds and the pause between two of them, if the calls must stay within the rate limits.
const SLOW_ROUNDS: usize = 50;
const SLOW_PAUSE: Duration = Duration::from_millis(60);

/// The p99 during an attack is at most this multiple of the p99 without one.
const MAX_FACTOR: u32 = 3;

/// A p99 below this passes in any case. In debug builds on a slow machine, attack and measurement alone keep both cores
/// busy for longer than a release build takes; the faults that these tests detect cost others seconds.
const MIN_P99: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 10 });

/// A p99 or a logout beyond its limit is measured again, because other processes of the machine can cause it. A fault
/// causes it each time.
const ATTEMPTS: usize = 3;

/// A logout takes effect everywhere within this time.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// How long a test waits for a logout to take effect.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A user who is not the attacker. Every call of this user must succeed.
pub struct Others {
    auth: Channel,
    task: Channel,
    /// The gateway, if calls over HTTP are measured as well.
    gateway: Option<SocketAddr>,
    pair: TokenPair,
    task_id: String,
    min_rounds: usize,
    pause: Duration,
}

impl Others {
    /// Signs up a user with a task. The channels may lead to the services or to a gateway.
    pub async fn sign_up(auth: Channel, task: Channel, gateway: Option<SocketAddr>) -> Self {
        let pair = sign_up_and_log_in(&auth, "others@example.com").await;
        let task_id = create(&task, &pair.access_token, "of others").await.expect("created").id;
        Self { auth, task, gateway, pair, task_id, min_rounds: MIN_ROUNDS, pause: RETRY_PAUSE }
    }

    /// Runs an attack until others have been measured, and asserts that none of their calls fails, that their p99 is at
    /// most three times the p99 without the attack, and that a logout takes effect within a second. The attack runs
    /// until its token is cancelled; it may run again after that.
    pub async fn assert_unaffected(&self, what: &str, attack: impl AsyncFn(&CancellationToken)) {
        if let Err(measured) = self.measure_during(what, attack).await {
            panic!("{what}: {measured}");
        }
    }

    /// Does the same, but returns the measurements if a limit was exceeded each time.
    pub async fn measure_during(&self, what: &str, attack: impl AsyncFn(&CancellationToken)) -> Result<(), String> {
        let mut measured = String::new();
        for _ in 0..ATTEMPTS {
            let quiet = percentile(99, self.measure(&cancelled()).await);
            let stopped = CancellationToken::new();
            let others = async {
                let (took, lag) = tokio::join!(self.measure(&stopped), self.log_out_and_stop(&stopped));
                (percentile(99, took), lag)
            };
            let ((attacked, lag), ()) = tokio::join!(others, attack(&stopped));
            let limit = (quiet * MAX_FACTOR).max(MIN_P99);
            measured = format!("p99 of others {attacked:.1?}, without it {quiet:.1?}, logout after {lag:.1?}");
            report_value(what, &measured);
            if attacked <= limit && lag <= REVOCATION_LIMIT {
                return Ok(());
            }
        }
        Err(measured)
    }

    /// Makes fewer calls from now on, so that they stay within the rate limits.
    pub fn slow_down(&mut self) {
        (self.min_rounds, self.pause) = (SLOW_ROUNDS, SLOW_PAUSE);
    }

    /// Uses connections from another address from now on, and logs in, so that its network is known.
    pub async fn connect_by(&mut self, auth: Channel, task: Channel) {
        self.pair = log_in(&auth, "others@example.com").await.expect("others can log in");
        (self.auth, self.task) = (auth, task);
    }

    /// Makes one call of each kind per round until `stopped`, but at least the minimum number of rounds. Returns how long
    /// each call took.
    async fn measure(&self, stopped: &CancellationToken) -> Vec<Duration> {
        let (mut took, mut rounds) = (Vec::new(), 0);
        while rounds < self.min_rounds || !stopped.is_cancelled() {
            let begun = Instant::now();
            let request = bearer(&self.pair.access_token, GetTaskRequest { id: self.task_id.clone() });
            let task = timeout(CALL_TIMEOUT, TaskServiceClient::new(self.task.clone()).get_task(request)).await;
            task.expect("others get a response").expect("others get their tasks");
            took.push(begun.elapsed());
            let begun = Instant::now();
            me(&self.auth, &self.pair.access_token).await.expect("others get their accounts");
            took.push(begun.elapsed());
            if let Some(gateway) = self.gateway {
                took.push(self.get(gateway, "/readyz").await);
                took.push(self.get(gateway, &format!("/v1/tasks/{}", self.task_id)).await);
            }
            rounds += 1;
            sleep(self.pause).await;
        }
        took
    }

    /// Makes a GET request over HTTP on a connection of its own. Returns how long it took.
    async fn get(&self, gateway: SocketAddr, path: &str) -> Duration {
        let token = &self.pair.access_token;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {gateway}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let begun = Instant::now();
        let call = async {
            let mut connection = TcpStream::connect(gateway).await?;
            connection.write_all(request.as_bytes()).await?;
            let mut response = String::new();
            connection.read_to_string(&mut response).await.map(|_| response)
        };
        let response = timeout(CALL_TIMEOUT, call).await.expect("others get a response").expect("others can connect");
        assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
        begun.elapsed()
    }

    /// Logs out of another session in the middle of an attack, waits until its token is refused, and ends the attack.
    /// Returns how long that took after the logout.
    async fn log_out_and_stop(&self, stopped: &CancellationToken) -> Duration {
        sleep(DURATION / 2).await;
        let session = log_in(&self.auth, "others@example.com").await.expect("others can log in");
        log_out(&self.auth, &session).await.expect("others can log out");
        let begun = Instant::now();
        wait_until_refused(&self.task, &session.access_token, "TOKEN_REVOKED", REVOCATION_TIMEOUT).await;
        let lag = begun.elapsed();
        sleep(DURATION / 2).await;
        stopped.cancel();
        lag
    }
}

fn cancelled() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}
