//! A rolling upgrade: the programs of the previous release and those of this version serve side by side on one PostgreSQL
//! database, under load, and no call fails. `make test-upgrade` builds the previous programs.

mod load;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use service_kit::testing::{TestDatabase, report_skipped};

use crate::{
    end_to_end::processes::{Process, wait_until_serving},
    process::program,
};
use load::{Load, Replicas};

/// The folder with the programs of the previous release.
const PREVIOUS: &str = "TASKEY_TEST_PREVIOUS";

/// How long each stage of the upgrade is under load.
const STAGE: Duration = Duration::from_secs(5);

/// Minimum number of calls in each stage.
const MIN_CALLS: usize = 200;

/// The programs of a version.
#[derive(Clone)]
struct Version(PathBuf);

impl Version {
    fn previous() -> Option<Self> {
        let Ok(folder) = env::var(PREVIOUS) else {
            report_skipped("the test of upgrades", &format!("{PREVIOUS} is not set; `make test-upgrade` sets it"));
            return None;
        };
        Some(Self(folder.into()))
    }

    fn current() -> Self {
        Self(program("taskey").parent().expect("a folder").to_owned())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Starts replicas that share a database and a key file.
struct Installation {
    database: TestDatabase,
    key_file: String,
}

impl Installation {
    fn common_flags(&self) -> Vec<String> {
        let flags = ["--listen", "127.0.0.1:0", "--database-url", self.database.url(), "--key-file", &self.key_file];
        flags.map(str::to_owned).to_vec()
    }

    async fn start_auth(&self, version: &Version) -> Process {
        // Cheap hashes, because users log in again and again.
        let cheap = ["--password-memory-kib", "8", "--password-passes", "1"].map(str::to_owned);
        let flags = [self.common_flags(), cheap.to_vec()].concat();
        start(&version.program("auth-service"), &flags, "auth").await
    }

    /// Starts a task-service that receives revocations from these replicas of auth-service.
    async fn start_task(&self, version: &Version, auth: &[&Process]) -> Process {
        let urls: Vec<_> = auth.iter().map(|process| format!("http://{}", process.address("auth"))).collect();
        let flags = [self.common_flags(), vec!["--auth-url".to_owned(), urls.join(",")]].concat();
        start(&version.program("task-service"), &flags, "task").await
    }
}

async fn start(program: &Path, flags: &[String], name: &str) -> Process {
    let process = Process::start(program, flags, &[name]);
    wait_until_serving(process.channel(name)).await;
    process
}

/// Ends a replica to which no more calls are sent.
fn stop(process: Process) {
    process.signal("TERM");
    assert_eq!(process.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_serve_side_by_side_and_no_call_fails() {
    let (Some(previous), current) = (Version::previous(), Version::current()) else { return };
    let Some(database) = TestDatabase::postgres().await else { return };
    let key_file = database.key_file().display().to_string();
    let installation = Installation { database, key_file };

    let old_auth = installation.start_auth(&previous).await;
    let old_task = installation.start_task(&previous, &[&old_auth]).await;
    let replicas = Replicas::new([old_auth.channel("auth")], [old_task.channel("task")]);
    let load = Load::start(&replicas);
    load.run_for(STAGE, MIN_CALLS, "the previous version").await;

    // The new programs migrate the tables while the old ones serve.
    let new_auth = installation.start_auth(&current).await;
    let new_task = installation.start_task(&current, &[&old_auth, &new_auth]).await;
    replicas.set(
        [old_auth.channel("auth"), new_auth.channel("auth")],
        [old_task.channel("task"), new_task.channel("task")],
    );
    load.run_for(STAGE, MIN_CALLS, "both versions").await;

    // The upgrade is undone: an old program starts on the new tables.
    replicas.set([new_auth.channel("auth")], [new_task.channel("task")]);
    load.drain().await;
    stop(old_task);
    stop(old_auth);
    let old_auth = installation.start_auth(&previous).await;
    let old_task = installation.start_task(&previous, &[&new_auth, &old_auth]).await;
    replicas.set(
        [old_auth.channel("auth"), new_auth.channel("auth")],
        [old_task.channel("task"), new_task.channel("task")],
    );
    load.run_for(STAGE, MIN_CALLS, "the previous version on the new tables").await;

    replicas.set([new_auth.channel("auth")], [new_task.channel("task")]);
    load.drain().await;
    stop(old_task);
    stop(old_auth);
    load.run_for(STAGE, MIN_CALLS, "the new version").await;
    load.stop().await;
}
