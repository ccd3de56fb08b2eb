//! Two kinds of load: a closed loop, as fast as the server responds, and an open loop at a constant rate.

use std::{
    cell::RefCell,
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
    machine::{CpuTime, MeasuredProcesses},
    scenario::{Scenario, Worker},
    workload::Client,
};

/// The precision of timers. Shorter waits poll the clock.
const TIMER_PRECISION: Duration = Duration::from_millis(3);

/// The result of a closed loop.
pub(crate) struct Outcome {
    /// Responses per second.
    pub(crate) rate: f64,
    /// The number of responses with an error, which are not counted in the rate.
    pub(crate) failed: u32,
    /// CPU time per response.
    pub(crate) cpu: CpuTime,
    /// Latencies in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// Returns an empty histogram of microseconds, up to a minute, with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).expect("the bounds are valid")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Runs a closed loop: each caller makes the next call as soon as it has the response. `call` returns whether the call
/// has succeeded. A warm-up of a tenth of `time` is not counted.
pub(crate) async fn closed_loop<C>(
    callers: &mut [C],
    call: impl AsyncFn(&mut C) -> anyhow::Result<bool>,
    time: Duration,
    processes: &MeasuredProcesses,
) -> anyhow::Result<Outcome> {
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    let latencies = RefCell::new(histogram());
    let call_repeatedly = async |caller: &mut C| {
        let (mut succeeded, mut failed) = (0_u32, 0_u32);
        loop {
            let start = Instant::now();
            if start >= end {
                return anyhow::Ok((succeeded, failed));
            }
            let has_succeeded = call(caller).await?;
            if start >= begin {
                latencies.borrow_mut().saturating_record(micros(start.elapsed()));
                *(if has_succeeded { &mut succeeded } else { &mut failed }) += 1;
            }
        }
    };
    let measuring = async {
        sleep_until(begin).await;
        let before = processes.cpu_time();
        sleep_until(end).await;
        anyhow::Ok(processes.cpu_time() - before)
    };
    let calling = async { try_join_all(callers.iter_mut().map(call_repeatedly)).await };
    let (counts, cpu_time) = futures::future::try_join(calling, measuring).await?;
    let (succeeded, failed) = counts.into_iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let rate = f64::from(succeeded) / time.as_secs_f64();
    Ok(Outcome { rate, failed, cpu: cpu_time / (succeeded + failed).max(1), latencies: latencies.into_inner() })
}

/// As [`closed_loop`], for a scenario over gRPC.
pub(crate) async fn closed_grpc_loop(
    workers: &mut [Worker],
    scenario: Scenario,
    time: Duration,
    processes: &MeasuredProcesses,
) -> anyhow::Result<Outcome> {
    let call = async |worker: &mut Worker| {
        let call = worker.next(scenario);
        worker.connection.call(call).await.map(|_| true)
    };
    closed_loop(workers, call, time, processes).await
}

/// As [`closed_loop`], for a call over REST.
pub(crate) async fn closed_rest_loop(
    clients: &mut [Client],
    call: usize,
    time: Duration,
    processes: &MeasuredProcesses,
) -> anyhow::Result<Outcome> {
    closed_loop(clients, async |client: &mut Client| client.call(call).await, time, processes).await
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
