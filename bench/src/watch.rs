//! How long after the answer to a write those who watch have it.

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
    client::{Answers, Call, framed},
    load::{histogram, wait_until},
    scenario::{User, Worker, retitle},
};

/// Everything is told in this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The words that all titles begin with.
const TITLE: &str = "watched ";

/// When each of the writes was answered, and when it reached somebody.
#[derive(Default)]
struct Seen {
    answered: Vec<(usize, Instant)>,
    reached: Vec<(usize, Instant)>,
}

/// Has `subscribers` watch, writes at `rate`, and answers how long after the answer to a write each subscriber had it:
/// no time at all, where it came before. It fails unless everybody hears of everything.
pub(crate) async fn watch(
    workers: &[Worker],
    subscribers: usize,
    time: Duration,
    rate: f64,
) -> anyhow::Result<Histogram<u64>> {
    let users: Vec<(&Worker, &User)> =
        workers.iter().flat_map(|worker| worker.users.iter().map(move |user| (worker, user))).collect();
    let users = &users[..users.len().min(subscribers)];
    let each = subscribers / users.len();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (ready, mut are_ready) = mpsc::channel(64);
    let mut watches = JoinSet::new();
    for (worker, user) in users {
        for _ in 0..each {
            let body = framed(&WatchTasksRequest::default());
            let path = "/taskey.task.v1.TaskService/WatchTasks";
            let call = Call { path, authorization: user.authorization.clone(), body };
            let answers = worker.connection.stream(call).await?;
            watches.spawn(follow(answers, ready.clone(), Arc::clone(&seen)));
        }
    }
    let count = users.len() * each;
    for _ in 0..count {
        tokio::select! {
            is_ready = timeout(PATIENCE, are_ready.recv()) => drop(is_ready.context("a watch does not begin")?),
            Some(ended) = watches.join_next() => ended??,
        }
    }

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
        let call = retitle(user, id, format!("{TITLE}{number}"));
        let (connection, seen) = (worker.connection.clone(), Arc::clone(&seen));
        writes.spawn(async move {
            connection.call(call).await?;
            let answered = (number, Instant::now());
            seen.lock().unwrap_or_else(PoisonError::into_inner).answered.push(answered);
            anyhow::Ok(())
        });
    }
    let count = writes.len() * each;
    while let Some(ended) = writes.join_next().await {
        ended??;
    }
    let begin = Instant::now();
    while seen.lock().unwrap_or_else(PoisonError::into_inner).reached.len() < count {
        ensure!(begin.elapsed() < PATIENCE, "those who watch have not heard of everything");
        if let Ok(Some(ended)) = timeout(Duration::from_millis(10), watches.join_next()).await {
            ended??;
        }
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.answered.sort_unstable_by_key(|(number, _)| *number);
    let mut latencies = histogram();
    for (number, reached) in &seen.reached {
        let latency = reached.saturating_duration_since(seen.answered[*number].1);
        latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(latencies)
}

/// Reads what is there at first, says so, and then notes what comes, until the watch ends or is dropped.
async fn follow(mut answers: Answers, ready: mpsc::Sender<()>, seen: Arc<Mutex<Seen>>) -> anyhow::Result<()> {
    let mut is_ready = false;
    while let Some(message) = answers.next().await? {
        let now = Instant::now();
        let message = WatchTasksResponse::decode(message)?;
        if is_ready {
            let titles = message.changes.iter().filter_map(|change| change.task.as_ref());
            let numbers = titles.filter_map(|task| task.title.strip_prefix(TITLE)?.parse().ok());
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.reached.extend(numbers.map(|number: usize| (number, now)));
        } else if message.checkpoint {
            is_ready = true;
            ready.send(()).await?;
        }
    }
    anyhow::bail!("a watch has ended")
}
