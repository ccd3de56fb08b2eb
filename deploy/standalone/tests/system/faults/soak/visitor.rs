//! Visitors: each signs up from an address of its own, creates a task, and logs out.

use std::{net::Ipv4Addr, time::Duration};

use service_kit::random;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    client::{Addresses, Client, RETRY_DELAY, Route, to_problem},
    journal::{Journal, Problem},
};
use crate::faults::users::{log_in, log_out, reason, sign_up};

/// The maximum number of attempts of a call.
const MAX_ATTEMPTS: usize = 100;

/// Sends one visitor per interval until `stopped`.
pub async fn run(addresses: &Addresses, journal: &Journal, pause: Duration, stopped: &CancellationToken) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u32.. {
        if stopped.run_until_cancelled(ticks.tick()).await.is_none() {
            return;
        }
        let [_, high, middle, low] = number.to_be_bytes();
        let client = Client::new(addresses, Ipv4Addr::new(127, 2 + high, middle, low));
        let began = Instant::now();
        if let Err((kind, problem)) = visit(&client, journal, number).await
            // The failover may have lost the account or the session.
            && !journal.may_be_lost(began)
        {
            journal.record_failure(kind, &problem.reason, &problem.message);
        }
    }
}

type Failed = (&'static str, Problem);

async fn visit(client: &Client, journal: &Journal, number: u32) -> Result<(), Failed> {
    let email = format!("visitor.{number}@example.com");
    call(journal, "sign up", async |attempt| match sign_up(client.auth(attempt), &email).await {
        // An earlier attempt was executed, but its response was lost.
        Err(status) if attempt > 0 && reason(&status) == "EMAIL_TAKEN" => Ok(()),
        outcome => problem(outcome).map(|_| ()),
    })
    .await?;
    let pair = call(journal, "log in", async |attempt| problem(log_in(client.auth(attempt), &email).await)).await?;
    let request_id = random::id().to_string();
    call(journal, "create by a visitor", async |attempt| {
        client.create(Route::Gateway, attempt, &pair.access_token, "a task", &request_id).await
    })
    .await?;
    call(journal, "log out", async |attempt| problem(log_out(client.auth(attempt), &pair).await)).await
}

fn problem<T>(outcome: Result<T, Status>) -> Result<T, Problem> {
    outcome.map_err(|status| to_problem(&status))
}

/// Makes a call until it succeeds, or until its error is final.
async fn call<T>(
    journal: &Journal,
    kind: &'static str,
    call: impl AsyncFn(usize) -> Result<T, Problem>,
) -> Result<T, Failed> {
    for attempt in 0.. {
        let started = Instant::now();
        match call(attempt).await {
            Ok(response) => {
                journal.record_call(kind, started.elapsed());
                return Ok(response);
            }
            Err(problem) if problem.is_transient && attempt < MAX_ATTEMPTS => journal.record_retry(kind, &problem),
            Err(problem) => return Err((kind, problem)),
        }
        sleep(RETRY_DELAY).await;
    }
    unreachable!("the attempts do not end")
}
