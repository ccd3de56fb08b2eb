//! The delay between the response to a write and the arrival of the change at the subscribers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use prost::Message;
use taskey_proto::task::v1::{WatchTasksRequest, WatchTasksResponse};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    client::{Call, Responses, encode_frame},
    load::{histogram, wait_until},
    scenario::{User, Worker, update_title},
};

/// The maximum time until every change has arrived.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The prefix of all titles, which the number of the write follows.
const TITLE_PREFIX: &str = "watched ";

/// The numbers of the writes with the instants at which they returned, and at which subscribers received them.
#[derive(Default)]
struct Timings {
    returned: Vec<(usize, Instant)>,
    received: Vec<(usize, Instant)>,
}

/// Starts `subscribers` watches, writes at `rate`, and returns the delays between the response to a write and the
/// arrival of the change at each subscriber. The delay is zero if the change arrived first. Fails unless every
/// subscriber receives every change. Calls `on_ready` once all watches have received their initial tasks.
pub(crate) async fn measure(
    workers: &[Worker],
    subscribers: usize,
    time: Duration,
    rate: f64,
    on_ready: impl FnOnce(),
) -> anyhow::Result<Histogram<u64>> {
    let users: Vec<(&Worker, &User)> =
        workers.iter().flat_map(|worker| worker.users.iter().map(move |user| (worker, user))).collect();
    let users = &users[..users.len().min(subscribers)];
    let watches_per_user = subscribers / users.len();
    let timings = Arc::new(Mutex::new(Timings::default()));
    let (ready, mut ready_receiver) = mpsc::channel(64);
    let mut watches = JoinSet::new();
    for (worker, user) in users {
        for _ in 0..watches_per_user {
            let body = encode_frame(&WatchTasksRequest::default());
            let path = "/taskey.task.v1.TaskService/WatchTasks";
            let call = Call { path, authorization: user.authorization.clone(), body };
            let responses = worker.connection.stream(call).await?;
            watches.spawn(follow(responses, ready.clone(), Arc::clone(&timings)));
        }
    }
    let watch_count = users.len() * watches_per_user;
    for _ in 0..watch_count {
        tokio::select! {
            is_ready = timeout(TIMEOUT, ready_receiver.recv()) => drop(is_ready.context("a watch does not start")?),
            Some(ended) = watches.join_next() => ended??,
        }
    }

    on_ready();
    let (start, mut writes) = (Instant::now(), JoinSet::new());
    for number in 0_u32.. {
        let offset = Duration::from_secs_f64(f64::from(number) / rate);
        if offset >= time {
            break;
        }
        wait_until(start + offset).await;
        let number = number as usize;
        let (worker, user) = users[number % users.len()];
        let id = user.tasks[(number / users.len()) % user.tasks.len()].clone();
        let call = update_title(user, id, format!("{TITLE_PREFIX}{number}"));
        let (connection, timings) = (worker.connection.clone(), Arc::clone(&timings));
        writes.spawn(async move {
            connection.call(call).await?;
            let returned = (number, Instant::now());
            timings.lock().unwrap_or_else(PoisonError::into_inner).returned.push(returned);
            anyhow::Ok(())
        });
    }
    let expected_count = writes.len() * watches_per_user;
    while let Some(ended) = writes.join_next().await {
        ended??;
    }
    let waiting_since = Instant::now();
    while timings.lock().unwrap_or_else(PoisonError::into_inner).received.len() < expected_count {
        ensure!(waiting_since.elapsed() < TIMEOUT, "the subscribers have not received all changes");
        if let Ok(Some(ended)) = timeout(Duration::from_millis(10), watches.join_next()).await {
            ended??;
        }
    }
    let mut timings = timings.lock().unwrap_or_else(PoisonError::into_inner);
    timings.returned.sort_unstable_by_key(|(number, _)| *number);
    let mut latencies = histogram();
    for (number, received) in &timings.received {
        let latency = received.saturating_duration_since(timings.returned[*number].1);
        latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(latencies)
}

/// Reads the initial tasks, reports that the watch is ready, and then records each change until the watch ends or is
/// dropped.
async fn follow(mut responses: Responses, ready: mpsc::Sender<()>, timings: Arc<Mutex<Timings>>) -> anyhow::Result<()> {
    let mut is_ready = false;
    while let Some(message) = responses.next().await? {
        let now = Instant::now();
        let message = WatchTasksResponse::decode(message)?;
        if is_ready {
            let tasks = message.changes.iter().filter_map(|change| change.task.as_ref());
            let numbers = tasks.filter_map(|task| task.title.strip_prefix(TITLE_PREFIX)?.parse().ok());
            let mut timings = timings.lock().unwrap_or_else(PoisonError::into_inner);
            timings.received.extend(numbers.map(|number: usize| (number, now)));
        } else if message.checkpoint {
            is_ready = true;
            ready.send(()).await?;
        }
    }
    anyhow::bail!("a watch has ended")
}
