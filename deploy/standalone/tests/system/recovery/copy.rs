//! The command `copy`, which moves an installation to PostgreSQL.

use service_kit::testing::{TestDatabase, execute_sql};
use taskey_proto::{
    auth::v1::RefreshRequest,
    task::v1::{ListTaskChangesRequest, Task, UpdateTaskRequest},
};

use super::{data_dir, fail, succeed};
use crate::end_to_end::processes::{Taskey, bearer};

/// Characters with a meaning in the text format of `copy`.
const SPECIAL: &str = "tab\tbackslash\\ \\N \\. line\nfeed quote' ü 🦀";

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_tasks_continue_on_postgresql() {
    let Some(target) = TestDatabase::postgres().await else { return };
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let ann = taskey.sign_up_and_log_in("ann@example.com").await;
    let bob = taskey.sign_up_and_log_in("bob@example.com").await;
    let milk = taskey.create(&ann.access_token, "Buy milk").await.expect("created");
    let task = Task { id: milk.id, notes: SPECIAL.to_owned(), ..Task::default() };
    let update = UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() };
    let milk = taskey.tasks().update_task(bearer(&ann.access_token, update)).await.expect("updated").into_inner();
    assert_eq!(milk.notes, SPECIAL);
    let changes = bearer(&ann.access_token, ListTaskChangesRequest::default());
    let sync_token = taskey.tasks().list_task_changes(changes).await.expect("listed").into_inner().next_sync_token;
    taskey.logout(&bob).await;
    taskey.stop().await;

    let output = succeed(&data_dir(&database), &["copy", "--to", target.url()]);
    assert!(output.contains("auth.users: 2 rows\n") && output.contains("task.tasks: 1 rows\n"), "{output}");
    assert!(output.ends_with("all rows are equal\n"), "{output}");

    let flags = ["--database-url", target.url()];
    let taskey = Taskey::start_with(&database, &flags).await;
    assert_eq!(taskey.list(&ann.access_token).await.expect("the access token is valid"), [milk]);
    let refresh = RefreshRequest { refresh_token: ann.refresh_token.clone() };
    taskey.auth().refresh(refresh).await.expect("the session continues");
    taskey.list(&bob.access_token).await.expect_err("the session was revoked before");
    let changes = ListTaskChangesRequest { sync_token, ..ListTaskChangesRequest::default() };
    let changes =
        taskey.tasks().list_task_changes(bearer(&ann.access_token, changes)).await.expect("the token is valid");
    assert!(changes.into_inner().changes.is_empty());
    taskey.create(&ann.access_token, "Buy bread").await.expect("created");
    assert_eq!(taskey.list(&ann.access_token).await.expect("listed").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_a_running_program_are_not_copied() {
    let Some(target) = TestDatabase::postgres().await else { return };
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    fail(&data_dir(&database), &["copy", "--to", target.url()], "is in use by process");
    // Separate services do not lock the directory.
    let separate = TestDatabase::sqlite();
    let services = Taskey::start_separately(&separate).await;
    fail(separate.folder(), &["copy", "--to", target.url()], "is in use by another process");
    services.sign_up_and_log_in("bob@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_with_data_are_not_overwritten() {
    let Some(target) = TestDatabase::postgres().await else { return };
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    taskey.stop().await;
    let data = data_dir(&database);
    succeed(&data, &["copy", "--to", target.url()]);
    fail(&data, &["copy", "--to", target.url()], "already contains data");
    // A failure in the second schema leaves the first one empty.
    succeed(&data, &["copy", "--to", target.url(), "--auth-schema", "auth_2", "--task-schema", "task_2"]);
    execute_sql(target.url(), "drop schema auth cascade".to_owned()).await;
    fail(&data, &["copy", "--to", target.url()], "the schema \"task\" already contains data");
    execute_sql(target.url(), "drop schema task cascade".to_owned()).await;
    succeed(&data, &["copy", "--to", target.url()]);
}

#[tokio::test]
async fn databases_that_do_not_exist_are_not_copied() {
    let Some(target) = TestDatabase::postgres().await else { return };
    let data = target.folder().join("data");
    fail(&data, &["copy", "--to", target.url()], "there is no database");
    fail(&data, &["copy", "--from", target.url(), "--to", target.url()], "the source must be sqlite:PATH");
    fail(&data, &["copy", "--to", "sqlite:x.db"], "--to must be a postgres:// URL");
}
