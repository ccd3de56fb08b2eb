//! Who deletes the account takes the tasks along.

use std::time::Duration;

use service_kit::{
    assert_refused,
    auth::{claims::AccessClaims, keys::KeySet, token},
    clock::Clock,
    on_each_database,
    ops::config::TokenArgs,
    testing::{TestDatabase, leave_out},
};
use taskey_proto::{
    auth::v1::{DeleteMeRequest, TokenPair, account_service_client::AccountServiceClient},
    task::v1::{CreateTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tokio::{task::yield_now, time::timeout};
use tonic::transport::Channel;

use super::{
    processes::{PASSWORD, Taskey, bearer, curl, serving},
    replicas::person,
};

on_each_database! {
    the_tasks_of_a_deleted_account_are_gone_within_seconds,
    a_task_service_that_was_down_makes_up_for_the_deletion,
}

const SECONDS: Duration = Duration::from_secs(5);

/// Shows the tasks that somebody owns, deleted account or not: by a token of the test's own making, with another
/// session, since those of the account are refused.
struct Witness {
    keys: KeySet,
    clock: Clock,
}

impl Witness {
    fn new(database: &TestDatabase) -> Self {
        let clock = Clock::system();
        Self { keys: KeySet::read(&database.key_file(), clock.now()).expect("a key file"), clock }
    }

    async fn count(&self, tasks: Channel, owner: &TokenPair) -> usize {
        let (now, owner) = (self.clock.now(), owner.user.as_ref().expect("told at login"));
        let claims = AccessClaims {
            id: self.clock.new_id(),
            user_id: owner.id.parse().expect("a UUID"),
            session_id: self.clock.new_id(),
            roles: vec![],
            issued_at: now,
            expires_at: now + Duration::from_secs(60),
        };
        let names = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
        let token = token::sign(&self.keys, &names, &claims).expect("signed");
        let request = ListTasksRequest { page_size: 500, show_deleted: true, ..ListTasksRequest::default() };
        let listed = TaskServiceClient::new(tasks).list_tasks(bearer(&token, request)).await;
        listed.expect("let in").into_inner().tasks.len()
    }

    async fn sees_them_go(&self, tasks: Channel, owner: &TokenPair) {
        let gone = async {
            while self.count(tasks.clone(), owner).await > 0 {
                yield_now().await;
            }
        };
        timeout(SECONDS, gone).await.expect("gone within seconds");
    }
}

async fn with_tasks(taskey: &Taskey, email: &str) -> TokenPair {
    let pair = taskey.person(email).await;
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

fn there_is_a_curl() -> bool {
    let there_is = std::process::Command::new("curl").arg("--version").output().is_ok();
    if !there_is {
        leave_out("a test with curl", "there is no curl");
    }
    there_is
}

async fn the_tasks_of_a_deleted_account_are_gone_within_seconds(database: TestDatabase) {
    if !there_is_a_curl() {
        return;
    }
    let taskey = Taskey::start_apart(&database).await;
    let witness = Witness::new(&database);
    let (ann, bob) = (with_tasks(&taskey, "ann@example.com").await, with_tasks(&taskey, "bob@example.com").await);
    assert_eq!(witness.count(taskey.channel("task"), &ann).await, 20);

    delete(&taskey, &ann).await;
    witness.sees_them_go(taskey.channel("task"), &ann).await;
    assert_refused!(taskey.list(&ann.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(taskey.list(&bob.access_token).await.expect("Bob is not concerned").len(), 20);
    let again = taskey.person("ann@example.com").await;
    assert!(taskey.list(&again.access_token).await.expect("listed").is_empty());
}

async fn a_task_service_that_was_down_makes_up_for_the_deletion(database: TestDatabase) {
    if !there_is_a_curl() {
        return;
    }
    let mut taskey = Taskey::start_apart(&database).await;
    let witness = Witness::new(&database);
    let (ann, bob) = (with_tasks(&taskey, "ann@example.com").await, with_tasks(&taskey, "bob@example.com").await);
    taskey.without("task", async |taskey| delete(taskey, &ann).await).await;
    serving(taskey.channel("task")).await;
    witness.sees_them_go(taskey.channel("task"), &ann).await;
    assert_eq!(taskey.list(&bob.access_token).await.expect("Bob is not concerned").len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_deleted_at_one_replica_loses_its_tasks_at_all() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let [auth_0, auth_1, task_0, task_1] = Taskey::start_replicas(&database).await;
    let witness = Witness::new(&database);
    let (ann, bob) = (person(&auth_0, "ann@example.com").await, person(&auth_1, "bob@example.com").await);
    for (pair, process) in [(&ann, &task_0), (&ann, &task_1), (&bob, &task_0)] {
        let task = Some(Task { title: "Buy milk".to_owned(), ..Task::default() });
        let request = bearer(&pair.access_token, CreateTaskRequest { task, ..CreateTaskRequest::default() });
        TaskServiceClient::new(process.channel("task")).create_task(request).await.expect("created");
    }
    let request = bearer(&ann.access_token, DeleteMeRequest { current_password: PASSWORD.to_owned() });
    AccountServiceClient::new(auth_1.channel("auth")).delete_me(request).await.expect("deleted");
    for process in [&task_0, &task_1] {
        witness.sees_them_go(process.channel("task"), &ann).await;
        assert_eq!(witness.count(process.channel("task"), &bob).await, 1);
    }
}
