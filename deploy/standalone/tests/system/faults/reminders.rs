//! Replicas of task-service are killed at random while reminders fall due.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use service_kit::{
    clock::{Clock, Timestamp},
    random,
};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, ListTaskChangesRequest, Reminder, Task,
    batch_write_tasks_request::{Write, write},
    reminder::Time,
    task_service_client::TaskServiceClient,
};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    report::report_value,
    service::Service,
    users::{retry, sign_up_and_log_in},
};
use crate::process::bearer;

const USERS: usize = 10;

/// The maximum of a batch.
const TASKS: usize = 100;

const REPLICAS: usize = 3;

/// The first reminders fall due after this time, when all have been stored.
const DELAY: Duration = Duration::from_secs(4);

/// The time between two reminders of a user.
const INTERVAL: Duration = Duration::from_millis(60);

/// The longest time between two kills.
const MAX_KILL_PAUSE: Duration = Duration::from_millis(1500);

/// Pause between two reads of the changes.
const PAUSE: Duration = Duration::from_millis(20);

const TIME_LIMIT: Duration = Duration::from_secs(90);

/// The fire times and the etag of each task.
type Firings = BTreeMap<String, (BTreeSet<(i64, i32)>, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replicas_fire_each_reminder_once() {
    let config = ClusterConfig { task_replicas: REPLICAS, ..ONE_EACH };
    let Some(mut cluster) = Cluster::on_postgres(config).await else { return };
    let start = Clock::system().now() + DELAY;
    let users = join_all((0..USERS).map(|number| prepare(&cluster, number, start))).await;
    let channels: Vec<_> = cluster.task.iter().map(Service::channel).collect();
    let firings = join_all(users.iter().map(|token| follow(&channels, token)));
    let mut kills = 0;
    let firings = tokio::select! {
        firings = timeout(TIME_LIMIT, firings) => firings.expect("all reminders fire in time"),
        () = kill_at_random(&mut cluster.task, &mut kills) => unreachable!("it kills until the end"),
    };
    report_value("reminders that fired", format_args!("{}, {kills} kills", USERS * TASKS));
    assert!(kills > 0, "no replica was killed");
    let firings: Vec<_> = firings.into_iter().flat_map(Firings::into_values).collect();
    assert_eq!(firings.len(), USERS * TASKS);
    assert!(firings.iter().all(|(times, _)| times.len() == 1), "a reminder fired twice: {firings:?}");
    // The etag contains the number of changes of a task.
    let etags: BTreeSet<_> = firings.into_iter().map(|(_, etag)| etag).collect();
    assert_eq!(etags.len(), 1, "{etags:?}");
}

/// Creates the tasks of a user, whose reminders are due one after the other. Returns the access token.
async fn prepare(cluster: &Cluster, number: usize, start: Timestamp) -> String {
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[number % REPLICAS].channel());
    let token = sign_up_and_log_in(&auth, &format!("user.{number}@example.com")).await.access_token;
    let writes = (0..TASKS).scan(start, |time, number| {
        *time = *time + INTERVAL;
        Some(create_task(number, *time))
    });
    let request_id = random::id().to_string();
    let request = BatchWriteTasksRequest { writes: writes.collect(), request_id, ..BatchWriteTasksRequest::default() };
    retry(async || TaskServiceClient::new(task.clone()).batch_write_tasks(bearer(&token, request.clone())).await).await;
    token
}

fn create_task(number: usize, time: Timestamp) -> Write {
    let reminder = Reminder { time: Some(Time::RemindTime(time.into())), ..Reminder::default() };
    let task = Some(Task { title: number.to_string(), reminders: vec![reminder], ..Task::default() });
    Write { write: Some(write::Write::Create(CreateTaskRequest { task, ..CreateTaskRequest::default() })) }
}

/// Reads the changes of a user, from any replica that responds, until all reminders have fired.
async fn follow(replicas: &[Channel], token: &str) -> Firings {
    let (mut firings, mut sync_token) = (Firings::new(), String::new());
    while firings.len() < TASKS {
        let request = ListTaskChangesRequest { sync_token: sync_token.clone(), page_size: 500 };
        let replica = &replicas[fastrand::usize(..replicas.len())];
        // A killed replica does not respond, and the next call reads the same changes.
        if let Ok(page) = TaskServiceClient::new(replica.clone()).list_task_changes(bearer(token, request)).await {
            let page = page.into_inner();
            for task in page.changes.into_iter().filter_map(|change| change.task) {
                if let Some(time) = task.reminders[0].fire_time {
                    let (times, etag) = firings.entry(task.id).or_default();
                    times.insert((time.seconds, time.nanos));
                    *etag = task.etag;
                }
            }
            sync_token = page.next_sync_token;
        }
        sleep(PAUSE).await;
    }
    firings
}

/// Kills one of the replicas after the other. Returns never.
async fn kill_at_random(replicas: &mut [Service], kills: &mut usize) {
    loop {
        let replica = &mut replicas[fastrand::usize(..REPLICAS)];
        replica.kill();
        *kills += 1;
        replica.start_again();
        sleep(MAX_KILL_PAUSE.mul_f32(fastrand::f32())).await;
    }
}
