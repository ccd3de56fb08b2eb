//! Calls of many users at the same time, which PostgreSQL executes in groups.

use futures::future::join_all;
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use sqlx::{Connection, PgConnection};
use taskey_proto::task::v1::{
    CompleteTaskRequest, CreateTaskRequest, ListTaskChangesRequest, ReopenTaskRequest, Task, UpdateTaskRequest,
};
use tonic::Status;
use uuid::Uuid;

use crate::support::{Service, User, titled, with_revision};

on_each_database! {
    concurrent_writes_of_many_users_have_the_effects_of_writes_one_by_one,
    concurrent_reads_of_many_users_return_each_their_own_task,
}

/// More users than there are in a group.
const USERS: usize = 70;

/// What a user has written so far.
struct Story {
    user: User,
    list: String,
    task: Task,
    outcomes: Vec<String>,
}

/// The number of steps of a story.
const STEPS: usize = 17;

impl Story {
    async fn new(user: User) -> Self {
        let list = user.make_list("Home").await.id;
        Self { user, list, task: Task::default(), outcomes: Vec::new() }
    }

    /// Makes the call of a step, and records the outcome.
    async fn step(&mut self, step: usize) {
        let outcome = match step {
            0 => self.create("", "in the default list", "").await,
            1 => self.create(&self.list, "in another list", "").await,
            2 => self.create(&Uuid::max().to_string(), "in a list that does not exist", "").await,
            3 | 4 => self.create("", "repeated", "01890000-0000-7000-8000-000000000001").await,
            5 => self.create("", "different", "01890000-0000-7000-8000-000000000001").await,
            6 => self.update(&self.task.etag, "with the current etag").await,
            7 => self.update(&with_revision(&self.task.etag, 77), "with another etag").await,
            8 => self.update("", &"long ".repeat(800)).await,
            9 | 10 => self.complete(&self.task.id, "").await,
            11 | 12 => self.reopen("01890000-0000-7000-8000-000000000002").await,
            13 => self.complete(&Uuid::max().to_string(), "").await,
            14 => self.update("", "").await,
            15 => self.complete(&self.task.id, "01890000-0000-7000-8000-000000000003").await,
            _ => self.create("", "the last one", "").await,
        };
        self.outcomes.push(match outcome {
            Ok(task) => {
                let described = self.describe(&task);
                self.task = task;
                described
            }
            Err(status) => format!("{:?}", refusal(&status)),
        });
    }

    /// Describes a task without what differs between users.
    fn describe(&self, task: &Task) -> String {
        let Task { title, notes, list_id, etag, complete_time, .. } = task;
        let (list, revision) = (*list_id == self.list, etag.rsplit_once('.'));
        format!("{title} {notes} {list} {revision:?} {} {}", complete_time.is_some(), task.id == self.task.id)
    }

    async fn create(&self, list: &str, title: &str, request_id: &str) -> Result<Task, Status> {
        let task = Some(Task { list_id: list.to_owned(), ..titled(title) });
        let request = CreateTaskRequest { task, request_id: request_id.to_owned(), ..CreateTaskRequest::default() };
        self.user.client.clone().create_task(request).await.map(tonic::Response::into_inner)
    }

    async fn update(&self, etag: &str, notes: &str) -> Result<Task, Status> {
        let (id, etag, notes) = (self.task.id.clone(), etag.to_owned(), notes.to_owned());
        let task = Some(Task { id, etag, notes, ..Task::default() });
        let request = UpdateTaskRequest { task, ..UpdateTaskRequest::default() };
        self.user.client.clone().update_task(request).await.map(tonic::Response::into_inner)
    }

    async fn complete(&self, id: &str, request_id: &str) -> Result<Task, Status> {
        let (id, request_id) = (id.to_owned(), request_id.to_owned());
        let request = CompleteTaskRequest { id, request_id, ..CompleteTaskRequest::default() };
        self.user.client.clone().complete_task(request).await.map(tonic::Response::into_inner)
    }

    async fn reopen(&self, request_id: &str) -> Result<Task, Status> {
        let (id, request_id) = (self.task.id.clone(), request_id.to_owned());
        let request = ReopenTaskRequest { id, request_id, ..ReopenTaskRequest::default() };
        self.user.client.clone().reopen_task(request).await.map(tonic::Response::into_inner)
    }

    /// Returns the outcomes, the stored tasks in the order of the list, and the order of their last changes.
    async fn finish(self) -> [Vec<String>; 3] {
        let mut stored = Vec::new();
        for id in self.user.list_all(5, true).await {
            stored.push(self.describe(&self.user.get(&id).await.expect("it is listed")));
        }
        let changes = self.user.client.clone().list_task_changes(ListTaskChangesRequest::default()).await;
        let changes = changes.expect("the changes are listed").into_inner().changes;
        let changes = changes.iter().filter_map(|change| change.task.as_ref()).map(|task| self.describe(task));
        [changes.collect(), stored, self.outcomes]
    }
}

/// Returns in how many transactions the last tasks of all users were created.
async fn count_transactions(database: &TestDatabase) -> i64 {
    let mut connection = PgConnection::connect(database.url()).await.expect("the database is reachable");
    let count = "select count(distinct xmin::text) from task.tasks where title = 'the last one'";
    sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("the transactions are counted")
}

async fn concurrent_writes_of_many_users_have_the_effects_of_writes_one_by_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut alone = Story::new(service.user()).await;
    for step in 0..STEPS {
        alone.step(step).await;
    }
    let mut stories = join_all((0..USERS).map(|_| Story::new(service.user()))).await;
    for step in 0..STEPS {
        join_all(stories.iter_mut().map(|story| story.step(step))).await;
    }
    let expected = alone.finish().await;
    assert_eq!(expected.each_ref().map(Vec::len), [4, 4, STEPS], "{expected:?}");
    for story in stories {
        assert_eq!(story.finish().await, expected);
    }
    if database.url().starts_with("postgres") {
        let transactions = count_transactions(&database).await;
        assert!(transactions < 20, "{transactions} transactions for {USERS} users");
    }
}

async fn concurrent_reads_of_many_users_return_each_their_own_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let users: Vec<_> = (0..USERS).map(|_| service.user()).collect();
    let tasks = join_all(users.iter().map(|user| user.make("Buy milk"))).await;
    for shift in [0, 1] {
        // With a shift, each user asks for the task of another one.
        let owners = users.iter().cycle().skip(shift);
        let found = join_all(owners.zip(&tasks).map(|(user, task)| user.get(&task.id))).await;
        for (found, task) in found.into_iter().zip(&tasks) {
            match found {
                Ok(found) => assert_eq!((&found, shift), (task, 0)),
                Err(status) => assert_eq!((refusal(&status).1.as_str(), shift), ("TASK_NOT_FOUND", 1)),
            }
        }
    }
}
