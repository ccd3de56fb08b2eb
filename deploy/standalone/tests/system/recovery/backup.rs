//! The command `backup`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use service_kit::testing::{TestDatabase, folder};
use taskey_proto::auth::v1::{GetMeRequest, UpdateMeRequest, User, account_service_client::AccountServiceClient};
use tokio::task::{JoinSet, spawn_blocking};

use super::{data_dir, fail, run, succeed};
use crate::end_to_end::processes::{PASSWORD, Taskey, bearer};

/// How many users write while backups are created.
const WRITERS: usize = 4;

fn email(writer: usize) -> String {
    format!("writer-{writer}@example.com")
}

/// Creates a task, and then sets the name of the user to the title of the task, until `done`.
async fn write_alternately(taskey: Arc<Taskey>, writer: usize, done: Arc<AtomicBool>) {
    let pair = taskey.sign_up_and_log_in(&email(writer)).await;
    let mut account = AccountServiceClient::new(taskey.channel("auth"));
    let mut number = 0;
    while !done.load(Ordering::SeqCst) {
        number += 1;
        taskey.create(&pair.access_token, &number.to_string()).await.expect("created");
        let user = Some(User { display_name: number.to_string(), ..User::default() });
        let request = UpdateMeRequest { user, ..UpdateMeRequest::default() };
        account.update_me(bearer(&pair.access_token, request)).await.expect("renamed");
    }
}

/// Asserts that the task and the name of each writer are at most one write apart.
async fn assert_one_instant(taskey: &Taskey) -> usize {
    let mut account = AccountServiceClient::new(taskey.channel("auth"));
    let mut total = 0;
    for writer in 0..WRITERS {
        let pair = taskey.log_in(&email(writer)).await;
        let me = account.get_me(bearer(&pair.access_token, GetMeRequest {})).await.expect("returned").into_inner();
        let name: usize = me.display_name.parse().unwrap_or(0);
        let tasks = taskey.list(&pair.access_token).await.expect("listed").len();
        assert!(tasks == name || tasks == name + 1, "{tasks} tasks, but the name is {name}");
        total += tasks;
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_load_contains_both_databases_as_of_one_instant() {
    let database = TestDatabase::sqlite();
    let (taskey, done) = (Arc::new(Taskey::start(&database).await), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_alternately(Arc::clone(&taskey), writer, Arc::clone(&done)));
    }
    let (data, backups) = (data_dir(&database), folder());
    let paths = [0, 1, 2].map(|number| backups.path().join(format!("{number}.backup")));
    // All users have signed up when each of them has a task.
    while fs::metadata(data.join("task.db-wal")).map_or(0, |log| log.len()) < 200_000 {
        tokio::task::yield_now().await;
    }
    for path in paths.clone() {
        let data = data.clone();
        let created = spawn_blocking(move || succeed(&data, &["backup", "--out", path.to_str().expect("UTF-8")]));
        created.await.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    writers.join_all().await;
    let mut counts = Vec::new();
    for path in &paths {
        let restored = TestDatabase::sqlite();
        succeed(&data_dir(&restored), &["restore", path.to_str().expect("UTF-8")]);
        counts.push(assert_one_instant(&Taskey::start(&restored).await).await);
    }
    assert!(counts.is_sorted() && counts[0] < counts[2], "nothing was written between the backups: {counts:?}");
}

async fn small_backup(folder: &Path) -> Vec<u8> {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let path = folder.join("whole.backup");
    succeed(&data_dir(&database), &["backup", "--out", path.to_str().expect("UTF-8")]);
    fs::read(path).expect("a file")
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_or_changed_backup_is_refused() {
    let folder = folder();
    let whole = small_backup(folder.path()).await;
    let (data, path) = (folder.path().join("data"), folder.path().join("bad.backup"));
    let path_text = path.to_str().expect("UTF-8");
    let assert_refused = |content: &[u8], expected: &str| {
        fs::write(&path, content).expect("written");
        fail(&data, &["backup", "verify", path_text], expected);
        fail(&data, &["restore", path_text], expected);
    };
    for length in [0, 100, whole.len() / 2, whole.len() - 1] {
        assert_refused(&whole[..length], "it is no backup of Taskey, or its end is missing");
    }
    for index in [0, 600, whole.len() / 3, whole.len() - 3000, whole.len() - 1500, whole.len() - 10] {
        let mut changed = whole.clone();
        changed[index] ^= 1;
        assert_refused(&changed, "it is damaged");
    }
    assert_refused(&[&whole[..], &[0; 512]].concat(), "its end is missing");
    assert_eq!(fs::read_dir(&data).map_or(0, |files| files.filter(is_database).count()), 0);
    let verified = succeed(&data, &["backup", "verify", folder.path().join("whole.backup").to_str().expect("UTF-8")]);
    assert!(verified.contains("\nauth.db: ") && verified.contains("\ntask.db: "), "{verified}");
}

fn is_database(file: &std::io::Result<fs::DirEntry>) -> bool {
    file.as_ref().expect("an entry").file_name().to_string_lossy().contains(".db")
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_private_and_contains_keys_only_on_request() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    taskey.sign_up_and_log_in("ann@example.com").await;
    let (data, folder) = (data_dir(&database), folder());
    let secret = fs::read_to_string(data.join("refresh.secret")).expect("a secret");
    let backup = |name: &str, flags: &[&str]| {
        let path = folder.path().join(name);
        let output = succeed(&data, &[&["backup", "--out", path.to_str().expect("UTF-8")], flags].concat());
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let content = fs::read(&path).expect("a file");
        (output, content.windows(secret.len()).any(|window| window == secret.as_bytes()))
    };
    let (without, contains_secret) = backup("without.backup", &[]);
    assert!(!without.contains("keys.json") && !contains_secret, "{without}");
    let (with, contains_secret) = backup("with.backup", &["--include-keys"]);
    assert!(with.contains("\nkeys.json: ") && with.contains("\nrefresh.secret: ") && contains_secret, "{with}");
    assert!(!with.contains(PASSWORD));
    // Nothing else is left beside the backups.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_an_ordinary_tar_archive() {
    let folder = folder();
    small_backup(folder.path()).await;
    let listed = std::process::Command::new("tar").arg("-tf").arg(folder.path().join("whole.backup")).output();
    let listed = String::from_utf8(listed.expect("tar is installed").stdout).expect("UTF-8");
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["auth.db", "task.db", "manifest.json", "archive.sha256"]);
}

#[test]
fn backup_without_databases_or_onto_an_existing_file_is_refused() {
    let folder = folder();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    fail(&data, &["backup", "--out", out.to_str().expect("UTF-8")], "there is no database");
    fs::write(&out, "precious").expect("written");
    fail(&data, &["backup", "--out", out.to_str().expect("UTF-8")], "already exists and was not changed");
    assert_eq!(fs::read_to_string(&out).expect("a file"), "precious");
    assert!(!run(&data, &["backup"]).status.success(), "--out is required");
}

#[tokio::test]
async fn databases_on_postgresql_are_not_backed_up() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let out = database.folder().join("out").display().to_string();
    let arguments = ["backup", "--database-url", database.url(), "--out", &out];
    fail(database.folder(), &arguments, "pg_dump");
}
