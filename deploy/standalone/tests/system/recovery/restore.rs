//! The command `restore`, and what it does to tokens.

use std::{fs, path::Path};

use service_kit::{assert_refused, testing::TestDatabase};
use taskey_proto::{
    auth::v1::{RefreshRequest, TokenPair},
    task::v1::{ListTaskChangesRequest, Task, UpdateTaskRequest},
};
use tonic::Status;

use super::{Backup, data_dir, fail, succeed};
use crate::end_to_end::processes::{Taskey, bearer};

async fn refresh(taskey: &Taskey, pair: &TokenPair) -> Result<(), Status> {
    let request = RefreshRequest { refresh_token: pair.refresh_token.clone() };
    taskey.auth().refresh(request).await.map(drop)
}

/// Returns a sync token after the changes since another one.
async fn changes(taskey: &Taskey, pair: &TokenPair, sync_token: &str) -> Result<String, Status> {
    let request = ListTaskChangesRequest { sync_token: sync_token.to_owned(), ..ListTaskChangesRequest::default() };
    let listed = taskey.tasks().list_task_changes(bearer(&pair.access_token, request)).await?;
    Ok(listed.into_inner().next_sync_token)
}

async fn rename(taskey: &Taskey, pair: &TokenPair, task: &Task) -> Result<(), Status> {
    let (id, etag, title) = (task.id.clone(), task.etag.clone(), "Renamed".to_owned());
    let task = Some(Task { id, etag, title, ..Task::default() });
    let request = UpdateTaskRequest { task, ..UpdateTaskRequest::default() };
    taskey.tasks().update_task(bearer(&pair.access_token, request)).await.map(drop)
}

fn backup(data: &Path, out: &Path) -> String {
    succeed(data, &["backup", "--out", out.to_str().expect("UTF-8")])
}

/// Loses what happens after a backup, and asserts that no token of that time is accepted.
async fn assert_lost_history_is_refused(database: &TestDatabase, output: &str) {
    let backup = Backup::new(database);
    let taskey = Taskey::start(database).await;
    let ann = taskey.sign_up_and_log_in("ann@example.com").await;
    let revoked_later = taskey.log_in("ann@example.com").await;
    let milk = taskey.create(&ann.access_token, "Buy milk").await.expect("created");
    let sync_token = changes(&taskey, &ann, "").await.expect("listed");
    backup.create();
    taskey.logout(&revoked_later).await;
    let begun_later = taskey.log_in("ann@example.com").await;
    taskey.create(&ann.access_token, "Lost").await.expect("created");
    changes(&taskey, &ann, &sync_token).await.expect("the token is valid before the restore");
    taskey.stop().await;

    let restored = backup.restore();
    assert!(restored.ends_with(output), "{restored}");
    let taskey = Taskey::start(database).await;
    for pair in [&ann, &revoked_later, &begun_later] {
        assert_refused!(refresh(&taskey, pair).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    for pair in [&ann, &revoked_later] {
        assert_refused!(taskey.list(&pair.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    }
    // The restored database does not know this session.
    assert_refused!(taskey.list(&begun_later.access_token).await, Unauthenticated, "TOKEN_EXPIRED");

    let again = taskey.log_in("ann@example.com").await;
    assert_eq!(taskey.list(&again.access_token).await.expect("the password is valid").len(), 1);
    assert_refused!(changes(&taskey, &again, &sync_token).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    assert_refused!(rename(&taskey, &again, &milk).await, Aborted, "ETAG_MISMATCH");
    refresh(&taskey, &again).await.expect("the new session continues");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_lost_history_are_refused_on_sqlite() {
    assert_lost_history_is_refused(&TestDatabase::sqlite(), "all users have to log in again\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_lost_history_are_refused_on_postgresql() {
    let Some(database) = TestDatabase::postgres().await else { return };
    assert_lost_history_is_refused(&database, "began a new epoch; sessions revoked: 2\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_is_refused_while_the_program_serves_and_onto_existing_data() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let (data, file) = (data_dir(&database), database.folder().join("file.backup"));
    backup(&data, &file);
    let file = file.to_str().expect("UTF-8");
    for flags in [&[][..], &["--replace"]] {
        fail(&data, &[&["restore", file], flags].concat(), "is in use by process");
    }
    taskey.list(&taskey.log_in("ann@example.com").await.access_token).await.expect("the program still serves");
    taskey.stop().await;
    fail(&data, &["restore", file], "auth.db already exists");

    // Separate services do not lock the directory.
    let separate = TestDatabase::sqlite();
    let services = Taskey::start_separately(&separate).await;
    fail(separate.folder(), &["restore", "--replace", file], "is in use by another process");
    services.sign_up_and_log_in("bob@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_files_are_kept() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let (data, file) = (data_dir(&database), database.folder().join("file.backup"));
    let out = file.to_str().expect("UTF-8");
    succeed(&data, &["backup", "--include-keys", "--out", out]);
    let bob = taskey.sign_up_and_log_in("bob@example.com").await;
    taskey.create(&bob.access_token, "Later").await.expect("created");
    taskey.stop().await;
    succeed(&data, &["restore", "--replace", out]);
    let kept = fs::read_dir(&data).expect("a folder").map(|file| file.expect("an entry").file_name());
    let mut kept: Vec<_> =
        kept.filter_map(|name| name.into_string().ok()).filter(|name| name.contains(".replaced-")).collect();
    kept.sort();
    let names: Vec<_> = kept.iter().filter_map(|name| name.split(".replaced-").next()).collect();
    assert_eq!(names, ["auth.db", "keys.json", "refresh.secret", "task.db", "webhook.key"]);
    // The replaced databases are complete.
    let undone = TestDatabase::sqlite();
    fs::create_dir(data_dir(&undone)).expect("created");
    for name in &kept {
        let original = name.split(".replaced-").next().expect("a name");
        fs::copy(data.join(name), data_dir(&undone).join(original)).expect("copied");
    }
    let taskey = Taskey::start(&undone).await;
    assert_eq!(taskey.list(&bob.access_token).await.expect("nothing is lost").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_with_keys_is_restored_on_another_machine() {
    let (database, other) = (TestDatabase::sqlite(), TestDatabase::sqlite());
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let file = database.folder().join("file.backup");
    for flags in [&["--include-keys"][..], &[]] {
        let out = file.to_str().expect("UTF-8");
        succeed(&data_dir(&database), &[&["backup", "--out", out], flags].concat());
        succeed(&data_dir(&other), &["restore", "--replace", out]);
        fs::remove_file(&file).expect("removed");
        let restored = Taskey::start(&other).await;
        restored.log_in("ann@example.com").await;
        restored.stop().await;
    }
    let keys = |database: &TestDatabase| fs::read(data_dir(database).join("keys.json")).expect("keys");
    assert_eq!(keys(&database), keys(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn program_does_not_start_after_an_interrupted_restore() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let (data, file) = (data_dir(&database), database.folder().join("file.backup"));
    backup(&data, &file);
    taskey.stop().await;
    // As if the restore had been killed between two files.
    fs::write(data.join("restore.incomplete"), "").expect("written");
    let listen = ["--auth-listen", "127.0.0.1:0", "--task-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"];
    fail(&data, &listen, "was interrupted");
    succeed(&data, &["restore", "--replace", file.to_str().expect("UTF-8")]);
    Taskey::start(&database).await.log_in("ann@example.com").await;
}
