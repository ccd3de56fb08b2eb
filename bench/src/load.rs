//! Two kinds of load: a closed loop, as fast as the server responds, and an open loop at a constant rate.

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
    machine::MeasuredProcesses,
    scenario::{Scenario, Worker},
};

/// The precision of timers. Shorter waits poll the clock.
const TIMER_PRECISION: Duration = Duration::from_millis(3);

/// The result of a closed loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Responses per second.
    pub(crate) rate: f64,
    /// CPU time of the service and its database per response.
    pub(crate) cpu: Duration,
}

/// Returns an empty histogram of microseconds, up to a minute, with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).expect("the bounds are valid")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Runs a closed loop: each connection sends the next call as soon as it has the response. A warm-up of a tenth of
/// `time` is not counted.
pub(crate) async fn closed_loop(
    workers: &mut [Worker],
    scenario: Scenario,
    time: Duration,
    processes: &MeasuredProcesses,
) -> anyhow::Result<Outcome> {
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    let call_repeatedly = async |worker: &mut Worker| {
        let mut responses = 0_u32;
        loop {
            let start = Instant::now();
            if start >= end {
                return anyhow::Ok(responses);
            }
            let call = worker.next(scenario);
            worker.connection.call(call).await?;
            if start >= begin {
                responses += 1;
            }
        }
    };
    let measuring = async {
        sleep_until(begin).await;
        let before = processes.cpu_time();
        sleep_until(end).await;
        anyhow::Ok(processes.cpu_time().saturating_sub(before))
    };
    let calling = async { try_join_all(workers.iter_mut().map(call_repeatedly)).await };
    let (counts, cpu_time) = futures::future::try_join(calling, measuring).await?;
    let responses: u32 = counts.into_iter().sum();
    let cpu = cpu_time / responses.max(1);
    let rate = f64::from(responses) / time.as_secs_f64();
    Ok(Outcome { rate, cpu })
}

/// Runs an open loop: sends calls at `rate`, and measures each latency from the instant when the call was due. A stall
/// of the server therefore counts for all calls that become due meanwhile.
pub(crate) async fn open_loop(
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

/// Waits until an instant, with microsecond precision.
pub(crate) async fn wait_until(due: Instant) {
    if due.saturating_duration_since(Instant::now()) > TIMER_PRECISION {
        sleep_until(due - TIMER_PRECISION).await;
    }
    while Instant::now() < due {
        yield_now().await;
    }
}
