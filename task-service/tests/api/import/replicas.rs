//! Two replicas import the same file at the same time.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::FileFormat;

use super::{counts, jsonl};
use crate::support::Service;

on_each_database!(two_replicas_create_the_lists_and_tasks_of_a_file_once);

async fn two_replicas_create_the_lists_and_tasks_of_a_file_once(database: TestDatabase) {
    let first = Service::start(&database).await;
    let second = first.start_replica(&database, &[]).await;
    let ann = first.user();
    let elsewhere = ann.connected_to(&second);
    for round in 0..4 {
        let list = |n: u32| format!("{round}.{}", n % 20);
        let lists = (0..20).map(|n| serde_json::json!({"list": {"id": list(n), "title": list(n)}}).to_string());
        let task = |n: u32| serde_json::json!({"id": format!("{round}-{n}"), "listId": list(n), "title": list(n)});
        let tasks = (0..120).map(|n| serde_json::json!({"task": task(n)}).to_string());
        let file = jsonl(&lists.chain(tasks).collect::<Vec<_>>());
        let (one, two) = tokio::join!(ann.import(FileFormat::Jsonl, &file), elsewhere.import(FileFormat::Jsonl, &file));
        let [one, two] = [counts(&one), counts(&two)];
        assert_eq!([one[0] + two[0], one[1] + two[1], one[2] + two[2]], [120, 120, 20]);
    }
    let mut titles = ann.titles().await;
    titles.sort_unstable();
    assert_eq!((titles.len(), titles.windows(6).filter(|titles| titles[0] == titles[5]).count()), (480, 80));
    first.stop().await;
    second.stop().await;
}
