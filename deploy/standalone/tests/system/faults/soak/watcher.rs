//! An honest user's watch, which must report every acknowledged write.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use taskey_proto::task::v1::{WatchTasksRequest, WatchTasksResponse, task_service_client::TaskServiceClient};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming, transport::Channel};

use super::{
    client::{RETRY_DELAY, to_problem},
    journal::Journal,
};
use crate::{
    faults::{ledger::lock, users::reason},
    process::bearer,
};

/// Every change arrives within this time after it was acknowledged, and a message without changes after 15 s.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
const MESSAGE_LIMIT: Duration = Duration::from_secs(30);

/// The acknowledged titles that the watch has not reported yet.
#[derive(Default)]
pub struct Expected(Mutex<Titles>);

#[derive(Default)]
struct Titles {
    expected: HashMap<String, (String, Instant)>,
    /// The title that was reported last. A report may arrive before the response to the call.
    received: HashMap<String, String>,
}

impl Expected {
    pub fn expect(&self, id: &str, title: &str, acknowledged_at: Instant) {
        let mut titles = lock(&self.0);
        if titles.received.get(id).is_none_or(|received| received != title) {
            titles.expected.insert(id.to_owned(), (title.to_owned(), acknowledged_at));
        }
    }

    pub fn forget(&self, id: &str) {
        lock(&self.0).expected.remove(id);
    }

    /// Handles a reported title. Returns how long after its acknowledgement it arrived.
    fn receive(&self, id: &str, title: &str) -> Option<Duration> {
        let mut titles = lock(&self.0);
        titles.received.insert(id.to_owned(), title.to_owned());
        let (_, acknowledged_at) = titles.expected.get(id).filter(|(other, _)| other == title)?;
        let lag = acknowledged_at.elapsed();
        titles.expected.remove(id);
        Some(lag)
    }

    /// Removes the titles that are overdue, and returns their number.
    fn remove_overdue(&self) -> usize {
        let expected = &mut lock(&self.0).expected;
        let before = expected.len();
        expected.retain(|_, (_, acknowledged_at)| acknowledged_at.elapsed() < CHANGE_LIMIT);
        before - expected.len()
    }
}

/// Watches by one channel after the other.
pub async fn watch(
    channels: [Channel; 2],
    access_token: Arc<Mutex<String>>,
    expected: Arc<Expected>,
    journal: Arc<Journal>,
) {
    let mut sync_token = String::new();
    for number in 0.. {
        let token = lock(&access_token).clone();
        let request = bearer(&token, WatchTasksRequest { sync_token: sync_token.clone() });
        let mut client = TaskServiceClient::new(channels[number % 2].clone());
        let status = match client.watch_tasks(request).await {
            Ok(stream) => receive(stream.into_inner(), &mut sync_token, &expected, &journal).await,
            Err(status) => status,
        };
        match &reason(&status)[..] {
            // The user has another session now, or the other end of the watch of an ended session is still open.
            "TOKEN_EXPIRED" | "TOKEN_REVOKED" | "QUOTA_EXCEEDED" => {}
            "SYNC_TOKEN_EXPIRED" | "SYNC_TOKEN_INVALID" => sync_token.clear(),
            _ => journal.record_retry("watch", &to_problem(&status)),
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Receives changes until the stream ends.
async fn receive(
    mut stream: Streaming<WatchTasksResponse>,
    sync_token: &mut String,
    expected: &Expected,
    journal: &Journal,
) -> Status {
    let opened_at = Instant::now();
    loop {
        let message = match timeout(MESSAGE_LIMIT, stream.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Status::unavailable("the stream ended without a status"),
            Ok(Err(status)) => return status,
            Err(_) => return Status::unavailable("the stream is silent"),
        };
        sync_token.clone_from(&message.sync_token);
        for task in message.changes.into_iter().filter_map(|change| change.task) {
            if let Some(lag) = expected.receive(&task.id, &task.title) {
                journal.record_call("watch", lag);
            }
        }
        let overdue = expected.remove_overdue();
        if overdue > 0 && opened_at.elapsed() > CHANGE_LIMIT && !journal.is_disturbed() {
            journal.record_failure("watch", "changes are missing", &format!("{overdue} changes"));
        }
    }
}
