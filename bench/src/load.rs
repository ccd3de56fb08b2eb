//! Two ways to load a server: as fast as it answers, and so often in a second, whatever it does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until},
};

use crate::{
    machine::Counted,
    scenario::{Scenario, Worker},
};

/// Timers are no finer than this; a shorter time is waited for by asking for the time over and over.
const TIMER: Duration = Duration::from_millis(3);

/// What a load has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Answers in a second.
    pub(crate) rate: f64,
    /// What an answer took of the service and its database.
    pub(crate) cpu: Duration,
}

/// An empty histogram: microseconds, up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).expect("the bounds are good")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Each connection asks again as soon as it has the answer. The first tenth of the time does not count.
pub(crate) async fn closed(
    workers: &mut [Worker],
    scenario: Scenario,
    time: Duration,
    counted: &Counted,
) -> anyhow::Result<Outcome> {
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    let ask = async |worker: &mut Worker| {
        let mut answers = 0_u32;
        loop {
            let start = Instant::now();
            if start >= end {
                return anyhow::Ok(answers);
            }
            let call = worker.next(scenario);
            worker.connection.call(call).await?;
            if start >= begin {
                answers += 1;
            }
        }
    };
    let watch = async {
        sleep_until(begin).await;
        let before = counted.time();
        sleep_until(end).await;
        anyhow::Ok(counted.time().saturating_sub(before))
    };
    let asked = async { try_join_all(workers.iter_mut().map(ask)).await };
    let (all, busy) = futures::future::try_join(asked, watch).await?;
    let answers: u32 = all.into_iter().sum();
    let cpu = busy / answers.max(1);
    let rate = f64::from(answers) / time.as_secs_f64();
    Ok(Outcome { rate, cpu })
}

/// Asks at `rate`, and counts each answer from the moment at which it was to be asked for: while the server stands still,
/// everybody who would have come then waits.
pub(crate) async fn open(
    workers: &mut [Worker],
    scenario: Scenario,
    time: Duration,
    rate: f64,
) -> anyhow::Result<Histogram<u64>> {
    let latencies = Arc::new(Mutex::new(histogram()));
    let (start, mut calls) = (Instant::now(), JoinSet::new());
    for number in 0_u32.. {
        let offset = Duration::from_secs_f64(f64::from(number) / rate);
        if offset >= time {
            break;
        }
        let due = start + offset;
        wait_until(due).await;
        let index = number as usize % workers.len();
        let worker = &mut workers[index];
        let (connection, call, latencies) = (worker.connection.clone(), worker.next(scenario), Arc::clone(&latencies));
        calls.spawn(async move {
            connection.call(call).await?;
            let latency = micros(due.elapsed());
            latencies.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(latency);
            anyhow::Ok(())
        });
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(latencies.clone())
}

/// Waits for an instant, to the microsecond.
pub(crate) async fn wait_until(due: Instant) {
    if due.saturating_duration_since(Instant::now()) > TIMER {
        sleep_until(due - TIMER).await;
    }
    while Instant::now() < due {
        yield_now().await;
    }
}
