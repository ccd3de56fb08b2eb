//! Files of up to 100 MiB.

use std::{env, fs};

use futures::{Stream, StreamExt, stream};
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, ImportTasksRequest};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::counts;
use crate::support::{Service, User};

on_each_database!(large_file_needs_little_memory, larger_file_is_refused, account_imports_one_file_at_a_time);

/// Returns a message with the next part of a file.
fn part(content: Vec<u8>) -> ImportTasksRequest {
    ImportTasksRequest { content, ..ImportTasksRequest::default() }
}

/// Returns a dry run of this file, which is not in memory as a whole.
fn dry_run(parts: impl Stream<Item = Vec<u8>> + Send + 'static) -> impl Stream<Item = ImportTasksRequest> + Send {
    let format = FileFormat::Jsonl.into();
    let first = ImportTasksRequest { format, validate_only: true, ..ImportTasksRequest::default() };
    stream::iter([first]).chain(parts.map(part))
}

/// Returns the maximum memory of this process so far, in MiB.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak of the resident memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of KiB") / 1024
}

async fn large_file_needs_little_memory(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let header = b"{\"format\":\"taskey\",\"version\":1}\n".to_vec();
    let notes = "x".repeat(10_000);
    // 99 MB with `make test-import`.
    let count: u16 = if env::var_os("TASKEY_TEST_LARGE_FILES").is_some() { 9_900 } else { 990 };
    let tasks =
        stream::iter((0..count).map(move |n| {
            format!("{{\"task\":{{\"id\":\"{n}\",\"title\":\"x\",\"notes\":\"{notes}\"}}}}\n").into_bytes()
        }));
    let end = format!("{{\"end\":{{\"tasks\":{count}}}}}\n").into_bytes();
    let file = stream::iter([header]).chain(tasks).chain(stream::iter([end]));
    let before = peak_memory();
    let report = ann.client.clone().import_tasks(dry_run(file)).await.expect("a report").into_inner();
    let count = i32::from(count);
    assert_eq!((counts(&report), report.issue_count, report.issues.len()), ([count, 0, 0], count, 100));
    let grown = peak_memory() - before;
    assert!(grown < 48, "the import of {count} tasks needs {grown} MiB");
}

async fn larger_file_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let parts = stream::iter((0..1025).map(|_| vec![b' '; 100 * 1024]));
    let refused = service.user().client.clone().import_tasks(dry_run(parts)).await;
    assert_refused!(refused, ResourceExhausted, "MESSAGE_TOO_LARGE");
}

impl User {
    /// Starts an import, which ends with the sender.
    fn start_import(&self) -> (mpsc::Sender<Vec<u8>>, JoinHandle<Code>) {
        let (sender, parts) = mpsc::channel(1);
        let mut client = self.client.clone();
        let parts = ReceiverStream::new(parts);
        let import =
            async move { client.import_tasks(dry_run(parts)).await.map_or_else(|status| status.code(), |_| Code::Ok) };
        (sender, tokio::spawn(import))
    }
}

async fn account_imports_one_file_at_a_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (sender, first) = ann.start_import();
    // More than the buffers of the connection, so that the first import has started.
    for _ in 0..100 {
        sender.send(vec![b' '; 20_000]).await.expect("the import continues");
    }
    let refused = ann.client.clone().import_tasks(dry_run(stream::empty())).await;
    assert_refused!(refused, ResourceExhausted, "OVERLOADED");
    let others = bob.client.clone().import_tasks(dry_run(stream::empty())).await;
    assert_refused!(others, InvalidArgument, "IMPORT_INVALID", "rows[1]");
    drop(sender);
    assert_eq!(first.await.expect("no panic"), Code::InvalidArgument);
}
