//! A user who creates and deletes long tasks all the time, and the effect on others and on the size of the database.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use service_kit::testing::refusal;
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, BatchWriteTasksResponse, CreateTaskRequest, DeleteTaskRequest, Task,
    batch_write_tasks_request::{Write, write::Write as Kind},
    task_service_client::TaskServiceClient,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    others::Others,
    report::report_value,
    users::sign_up_and_log_in,
};
use crate::process::bearer;

/// The limit of rows, lower than by default so that a debug build reaches it soon: a burst, then so many per minute.
const BURST: usize = 4_000;
const ROWS_PER_MINUTE: usize = 600;

/// The largest batch.
const BATCH: usize = 100;

/// The others call more often than the default limit of calls allows.
const FLAGS: ClusterConfig<'_> = ClusterConfig {
    task_flags: &["--rate-limits", "on", "--call-rate", "1000000+1000000/s", "--row-rate", "4000+600/m"],
    ..ONE_EACH
};

/// The pause between two calls of the user, who stays below the default limit of calls.
const CALL_INTERVAL: Duration = Duration::from_millis(20);

/// What the user has done.
#[derive(Debug, Default)]
struct Writes {
    rows: AtomicUsize,
    refused: AtomicUsize,
}

async fn write(cluster: &Cluster, token: &str, writes: Vec<Kind>) -> Result<BatchWriteTasksResponse, Status> {
    let writes = writes.into_iter().map(|write| Write { write: Some(write) }).collect();
    let request = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    let mut client = TaskServiceClient::new(cluster.task[0].channel());
    client.batch_write_tasks(bearer(token, request)).await.map(tonic::Response::into_inner)
}

/// Creates and deletes tasks in batches until `stopped`.
async fn create_and_delete(cluster: &Cluster, token: &str, writes: &Writes, stopped: &CancellationToken) {
    let task = Task { title: "Buy milk".to_owned(), notes: "x".repeat(1000), ..Task::default() };
    let create = || Kind::Create(CreateTaskRequest { task: Some(task.clone()), ..CreateTaskRequest::default() });
    let delete = |task: &Task| Kind::Delete(DeleteTaskRequest { id: task.id.clone(), ..DeleteTaskRequest::default() });
    let mut created: Vec<Task> = Vec::new();
    while !stopped.is_cancelled() {
        let batch = match &created[..] {
            [] => (0..BATCH).map(|_| create()).collect(),
            tasks => tasks.iter().map(delete).collect(),
        };
        match write(cluster, token, batch).await {
            Ok(response) => {
                writes.rows.fetch_add(BATCH, Ordering::Relaxed);
                created = if created.is_empty() { response.tasks } else { Vec::new() };
            }
            Err(status) => {
                assert_eq!(refusal(&status).1, "RATE_LIMITED", "{status:?}");
                writes.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        sleep(CALL_INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_creating_and_deleting_in_a_loop_is_bounded_on_sqlite() {
    let cluster = Cluster::on_sqlite(FLAGS).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mallory = sign_up_and_log_in(&auth, "mallory@example.com").await;
    let others = Others::sign_up(auth, task, None).await;
    let (start, writes) = (Instant::now(), Writes::default());
    let attack = async |stopped: &CancellationToken| {
        create_and_delete(&cluster, &mallory.access_token, &writes, stopped).await;
    };
    // The burst may last longer than a measurement.
    while writes.refused.load(Ordering::Relaxed) == 0 {
        others.assert_unaffected("tasks created and deleted in a loop", &attack).await;
    }
    let seconds = usize::try_from(start.elapsed().as_secs() + 1).expect("a short test");
    let (rows, limit) = (writes.rows.load(Ordering::Relaxed), BURST + ROWS_PER_MINUTE * seconds / 60 + BATCH);
    report_value("rows created and deleted", format_args!("{rows} in {seconds} s"));
    assert!(rows <= limit, "{rows} rows in {seconds} s");
    let files = std::fs::read_dir(cluster.database.folder()).expect("a folder").map(|file| file.expect("a file"));
    let task_files = files.filter(|file| file.file_name().to_string_lossy().starts_with("task.db"));
    let bytes: u64 = task_files.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum();
    report_value("bytes of the database", bytes);
    assert!(bytes < 50 << 20, "the database has {bytes} bytes");
}
