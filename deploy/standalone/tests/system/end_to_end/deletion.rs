//! Deleting an account deletes its tasks.

use std::time::Duration;

use service_kit::{
    assert_refused,
    auth::{claims::AccessClaims, keys::KeySet, token},
    clock::Clock,
    on_each_database,
    ops::config::TokenArgs,
    testing::{TestDatabase, report_skipped},
};
use taskey_proto::{
    auth::v1::{DeleteMeRequest, TokenPair, account_service_client::AccountServiceClient},
    task::v1::{CreateTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tokio::{task::yield_now, time::timeout};
use tonic::transport::Channel;

use super::{
    processes::{PASSWORD, Taskey, bearer, curl, wait_until_serving},
    replicas::sign_up_and_log_in,
};

on_each_database! {
    tasks_of_a_deleted_account_are_removed_within_seconds,
    task_service_that_was_down_catches_up_with_deletions,
}

const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// Counts the tasks of an account, even a deleted one, with a token that the test signs. The token has a new session,
/// because those of a deleted account are revoked.
struct TaskCounter {
    keys: KeySet,
    clock: Clock,
}

impl TaskCounter {
    fn new(database: &TestDatabase) -> Self {
        let clock = Clock::system();
        Self { keys: KeySet::read(&database.key_file(), clock.now()).expect("a key file"), clock }
    }

    async fn count(&self, tasks: Channel, owner: &TokenPair) -> usize {
        let (now, owner) = (self.clock.now(), owner.user.as_ref().expect("login returns the user"));
        let claims = AccessClaims {
            id: self.clock.new_id(),
            user_id: owner.id.parse().expect("a UUID"),
            session_id: self.clock.new_id(),
            roles: vec![],
            scopes: None,
            authentication: None,
            issued_at: now,
            expires_at: now + Duration::from_secs(60),
            actors: vec![],
        };
        let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
        let token = token::sign(&self.keys, &token_args, &claims).expect("signed");
        let request = ListTasksRequest { page_size: 500, show_deleted: true, ..ListTasksRequest::default() };
        let listed = TaskServiceClient::new(tasks).list_tasks(bearer(&token, request)).await;
        listed.expect("accepted").into_inner().tasks.len()
    }

    async fn wait_until_removed(&self, tasks: Channel, owner: &TokenPair) {
        let removed = async {
            while self.count(tasks.clone(), owner).await > 0 {
                yield_now().await;
            }
        };
        timeout(REMOVAL_LIMIT, removed).await.expect("removed within seconds");
    }
}

async fn with_tasks(taskey: &Taskey, email: &str) -> TokenPair {
    let pair = taskey.sign_up_and_log_in(email).await;
    for number in 0..20 {
        taskey.create(&pair.access_token, &format!("Task {number}")).await.expect("created");
    }
    pair
}

/// Deletes the account over HTTP/JSON.
async fn delete(taskey: &Taskey, pair: &TokenPair) {
    let bearer = format!("authorization: Bearer {}", pair.access_token);
    let password = format!(r#"{{"currentPassword": "{PASSWORD}"}}"#);
    let arguments = ["-H", "content-type: application/json", "-H", &bearer, "-d", &password];
    assert_eq!(curl(taskey, "/v1/me:delete", &arguments).await, (200, "{}".to_owned()));
}

fn curl_is_installed() -> bool {
    let is_installed = std::process::Command::new("curl").arg("--version").output().is_ok();
    if !is_installed {
        report_skipped("a test with curl", "curl is not installed");
    }
    is_installed
}

async fn tasks_of_a_deleted_account_are_removed_within_seconds(database: TestDatabase) {
    if !curl_is_installed() {
        return;
    }
    let taskey = Taskey::start_separately(&database).await;
    let counter = TaskCounter::new(&database);
    let (ann, bob) = (with_tasks(&taskey, "ann@example.com").await, with_tasks(&taskey, "bob@example.com").await);
    assert_eq!(counter.count(taskey.channel("task"), &ann).await, 20);

    delete(&taskey, &ann).await;
    counter.wait_until_removed(taskey.channel("task"), &ann).await;
    assert_refused!(taskey.list(&ann.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(taskey.list(&bob.access_token).await.expect("Bob is not affected").len(), 20);
    let again = taskey.sign_up_and_log_in("ann@example.com").await;
    assert!(taskey.list(&again.access_token).await.expect("listed").is_empty());
}

async fn task_service_that_was_down_catches_up_with_deletions(database: TestDatabase) {
    if !curl_is_installed() {
        return;
    }
    let mut taskey = Taskey::start_separately(&database).await;
    let counter = TaskCounter::new(&database);
    let (ann, bob) = (with_tasks(&taskey, "ann@example.com").await, with_tasks(&taskey, "bob@example.com").await);
    taskey.without("task", async |taskey| delete(taskey, &ann).await).await;
    wait_until_serving(taskey.channel("task")).await;
    counter.wait_until_removed(taskey.channel("task"), &ann).await;
    assert_eq!(taskey.list(&bob.access_token).await.expect("Bob is not affected").len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_removed_when_an_account_is_deleted_at_another_replica() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let [auth_0, auth_1, task_0, task_1] = Taskey::start_replicas(&database).await;
    let counter = TaskCounter::new(&database);
    let (ann, bob) =
        (sign_up_and_log_in(&auth_0, "ann@example.com").await, sign_up_and_log_in(&auth_1, "bob@example.com").await);
    for (pair, process) in [(&ann, &task_0), (&ann, &task_1), (&bob, &task_0)] {
        let task = Some(Task { title: "Buy milk".to_owned(), ..Task::default() });
        let request = bearer(&pair.access_token, CreateTaskRequest { task, ..CreateTaskRequest::default() });
        TaskServiceClient::new(process.channel("task")).create_task(request).await.expect("created");
    }
    let request = bearer(&ann.access_token, DeleteMeRequest { current_password: PASSWORD.to_owned() });
    AccountServiceClient::new(auth_1.channel("auth")).delete_me(request).await.expect("deleted");
    for process in [&task_0, &task_1] {
        counter.wait_until_removed(process.channel("task"), &ann).await;
        assert_eq!(counter.count(process.channel("task"), &bob).await, 1);
    }
}
