//! An account with thousands of tasks with long notes, and the effect of its calls on others.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use service_kit::testing::execute_sql;
use taskey_proto::task::v1::{
    CreateTaskListRequest, DeleteTaskRequest, ListTasksRequest, MoveTaskRequest, Task, TaskList, UndeleteTaskRequest,
    task_list_service_client::TaskListServiceClient, task_service_client::TaskServiceClient,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use super::{
    cluster::{Cluster, ONE_EACH},
    others::Others,
    report::report_value,
    users::{RETRY_PAUSE, create, list, me, reason, sign_up_and_log_in},
};
use crate::process::bearer;

/// Number of subtasks. With their parent, they do not reach the limit of 10,000 tasks.
const SUBTASKS: usize = if cfg!(debug_assertions) { 5_000 } else { 9_900 };

/// Maximum duration of a call that changes all subtasks. In debug builds, only the deadline of calls limits it.
const MAX_DURATION: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });

/// The attacker, with a task that has many subtasks.
struct Mallory {
    task: Channel,
    access_token: String,
    parent: Task,
}

impl Mallory {
    async fn sign_up(cluster: &Cluster) -> Self {
        let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
        let access_token = sign_up_and_log_in(&auth, "mallory@example.com").await.access_token;
        let user = me(&auth, &access_token).await.expect("the account exists");
        let parent = create(&task, &access_token, "parent").await.expect("created");
        let (url, is_sqlite) = match cluster.database.url() {
            url if url.starts_with("postgres") => (url.to_owned(), false),
            _ => (format!("sqlite:{}", cluster.database.folder().join("task.db").display()), true),
        };
        execute_sql(&url, insert_subtasks(&user.id, &parent.id, is_sqlite)).await;
        Self { task, access_token, parent }
    }

    fn client(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.task.clone())
    }

    async fn list_tasks(&self, filter: &str) -> Result<usize, Status> {
        let request = ListTasksRequest { filter: filter.to_owned(), ..ListTasksRequest::default() };
        Ok(self.client().list_tasks(bearer(&self.access_token, request)).await?.into_inner().tasks.len())
    }

    async fn delete(&self) -> Result<Task, Status> {
        let request = DeleteTaskRequest { id: self.parent.id.clone(), ..DeleteTaskRequest::default() };
        Ok(self.client().delete_task(bearer(&self.access_token, request)).await?.into_inner())
    }

    async fn undelete(&self) -> Result<Task, Status> {
        let request = UndeleteTaskRequest { id: self.parent.id.clone(), ..UndeleteTaskRequest::default() };
        Ok(self.client().undelete_task(bearer(&self.access_token, request)).await?.into_inner())
    }

    async fn move_to(&self, list_id: &str) -> Result<Task, Status> {
        let (id, list_id) = (self.parent.id.clone(), list_id.to_owned());
        let request = MoveTaskRequest { id, list_id, ..MoveTaskRequest::default() };
        Ok(self.client().move_task(bearer(&self.access_token, request)).await?.into_inner())
    }

    async fn create_list(&self) -> TaskList {
        let task_list = Some(TaskList { title: "Errands".to_owned(), ..TaskList::default() });
        let request = CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() };
        let request = bearer(&self.access_token, request);
        TaskListServiceClient::new(self.task.clone()).create_task_list(request).await.expect("created").into_inner()
    }
}

/// Returns SQL that inserts the subtasks, because creating them by calls would take a minute. Their notes are of the
/// maximum length.
fn insert_subtasks(owner: &str, parent: &str, is_sqlite: bool) -> String {
    let uuid = |id: &str| if is_sqlite { format!("x'{}'", id.replace('-', "")) } else { format!("'{id}'::uuid") };
    let (owner, parent) = (uuid(owner), uuid(parent));
    let id = if is_sqlite {
        "unhex(printf('018bcfe5680070008000%012x', n))"
    } else {
        "('018bcfe5-6800-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
    };
    let (notes, prefix) = ("a".repeat(4000), if is_sqlite { "" } else { "set search_path to task;" });
    let (columns, texts) = if is_sqlite {
        ("", String::new())
    } else {
        (", notes, search", format!(", '{notes}', 'task ' || n || chr(10) || '{notes}'"))
    };
    let numbers = format!(
        "with recursive numbers (n) as
        (select cast(1 as bigint) union all select n + 1 from numbers where n < {SUBTASKS})"
    );
    let insert_texts = if is_sqlite {
        format!(
            "{numbers} insert into task_texts (owner_id, id, notes, search)
            select {owner}, {id}, '{notes}', 'task ' || n || char(10) || '{notes}' from numbers;"
        )
    } else {
        String::new()
    };
    format!(
        "{prefix} {numbers}
        insert into tasks (owner_id, id, list_id, parent_id, priority, time_zone, create_time, update_time, revision,
            change, rank, title, labels{columns})
        select {owner}, {id}, {owner}, {parent}, 0, '', n, n, 1,
            2, '6' || substr(cast(10000000000000 + n as text), 2) || '0005', 'Task ' || n, ''{texts}
        from numbers;
        {insert_texts}
        update owners set last_change = 2, live_tasks = live_tasks + {SUBTASKS} where owner_id = {owner};"
    )
}

/// A filter with the maximum number of conditions, each of which compares much text.
fn expensive_filter() -> String {
    (0..64).map(|number| format!("{}b{number:02}", "a".repeat(20))).collect::<Vec<_>>().join(" OR ")
}

async fn assert_expensive_filters_do_not_affect_others(cluster: Cluster) {
    let mallory = Mallory::sign_up(&cluster).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let honest = sign_up_and_log_in(&auth, "honest@example.com").await.access_token;
    create(&task, &honest, "honest").await.expect("created");
    let others = Others::sign_up(auth, task.clone(), None).await;
    let attack = async |stopped: &CancellationToken| {
        let searches = join_all((0..10).map(async |_| {
            let mut refused = 0;
            while !stopped.is_cancelled() {
                match mallory.list_tasks(&expensive_filter()).await {
                    Ok(found) => assert_eq!(found, 0),
                    Err(error) if reason(&error) == "FILTER_TOO_EXPENSIVE" => refused += 1,
                    Err(error) => assert_eq!(reason(&error), "OVERLOADED", "{error:?}"),
                }
            }
            refused
        }));
        let honest_searches = async {
            while !stopped.is_cancelled() {
                let request = ListTasksRequest { filter: "honest".to_owned(), ..ListTasksRequest::default() };
                let found = TaskServiceClient::new(task.clone()).list_tasks(bearer(&honest, request)).await;
                assert_eq!(found.expect("others can search").into_inner().tasks.len(), 1);
                sleep(RETRY_PAUSE).await;
            }
        };
        let (refused, ()) = tokio::join!(searches, honest_searches);
        let refused: usize = refused.into_iter().sum();
        report_value("searches refused with FILTER_TOO_EXPENSIVE", refused);
        assert!(refused > 0, "the filter is not expensive");
    };
    others.assert_unaffected("expensive filters", attack).await;
    assert_eq!(mallory.list_tasks("").await.expect("tasks without a filter"), 50);
}

async fn assert_large_task_trees_do_not_affect_others(cluster: Cluster) {
    let mallory = Mallory::sign_up(&cluster).await;
    let list_id = mallory.create_list().await.id;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let honest = sign_up_and_log_in(&auth, "honest@example.com").await.access_token;
    let others = Others::sign_up(auth, task.clone(), None).await;
    let attack = async |stopped: &CancellationToken| {
        let change_tree = async {
            let mut longest = Duration::ZERO;
            let own_list = mallory.parent.list_id.as_str();
            while !stopped.is_cancelled() {
                for step in 0..4 {
                    let begun = Instant::now();
                    let changed = match step {
                        0 => mallory.delete().await,
                        1 => mallory.undelete().await,
                        2 => mallory.move_to(&list_id).await,
                        _ => mallory.move_to(own_list).await,
                    };
                    changed.unwrap_or_else(|error| panic!("step {step}: {error:?}"));
                    longest = longest.max(begun.elapsed());
                }
            }
            report_value("the longest change of a task with its subtasks", format_args!("{longest:.0?}"));
            assert!(longest < MAX_DURATION, "{longest:?}");
        };
        let creations = async {
            let mut created = BTreeSet::new();
            while !stopped.is_cancelled() {
                created.insert(create(&task, &honest, "honest").await.expect("others can create tasks").id);
                sleep(RETRY_PAUSE).await;
            }
            created
        };
        let ((), created) = tokio::join!(change_tree, creations);
        let listed: BTreeSet<String> =
            list(&task, &honest).await.expect("listed").into_iter().map(|task| task.id).collect();
        assert!(created.is_subset(&listed), "{} created, {} listed", created.len(), listed.len());
    };
    others.assert_unaffected(&format!("changes of a task with {SUBTASKS} subtasks"), attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_expensive_filters_do_not_affect_others_on_sqlite() {
    assert_expensive_filters_do_not_affect_others(Cluster::on_sqlite(ONE_EACH).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_expensive_filters_do_not_affect_others_on_postgresql() {
    let Some(cluster) = Cluster::on_postgres(ONE_EACH).await else { return };
    assert_expensive_filters_do_not_affect_others(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_large_task_trees_do_not_affect_others_on_sqlite() {
    assert_large_task_trees_do_not_affect_others(Cluster::on_sqlite(ONE_EACH).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_large_task_trees_do_not_affect_others_on_postgresql() {
    let Some(cluster) = Cluster::on_postgres(ONE_EACH).await else { return };
    assert_large_task_trees_do_not_affect_others(cluster).await;
}
