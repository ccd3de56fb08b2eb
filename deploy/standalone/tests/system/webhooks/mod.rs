//! Replicas of task-service are killed at random while messages of webhooks are pending. `make test-webhooks` runs this test.

mod receiver;

use std::{env, time::Duration};

use futures::future::join_all;
use service_kit::{random, testing::report_skipped};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, CreateWebhookRequest, Task, UpdateWebhookRequest, Webhook,
    batch_write_tasks_request::{Write, write},
    task_service_client::TaskServiceClient,
    webhook::State,
    webhook_service_client::WebhookServiceClient,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::{
    faults::{
        cluster::{Cluster, ClusterConfig, ONE_EACH},
        report::report_value,
        users::{retry, sign_up_and_log_in},
    },
    process::bearer,
};
use receiver::Receiver;

/// The number of messages that are pending when the first replica is killed.
const DELIVERIES: &str = "TASKEY_TEST_DELIVERIES";

const USERS: usize = 10;

/// The maximum of an account.
const WEBHOOKS_PER_USER: usize = 10;

/// The number of changes in a message.
const CHANGES: usize = 25;

/// The maximum of a batch.
const BATCH: usize = 100;

const REPLICAS: usize = 3;

/// The longest time between two kills.
const MAX_KILL_PAUSE: Duration = Duration::from_secs(12);

/// Each kill delays the webhooks of the replica by the lease, 30 seconds.
const TIME_LIMIT: Duration = Duration::from_secs(1800);

/// A user with paused webhooks and the tasks whose changes are pending.
struct User {
    token: String,
    webhooks: Vec<Webhook>,
}

impl User {
    /// Creates `changes` tasks, whose titles are their numbers.
    async fn prepare(cluster: &Cluster, receiver: &Receiver, number: usize, changes: usize) -> Self {
        let (auth, task) = (cluster.auth[0].channel(), cluster.task[number % REPLICAS].channel());
        let token = sign_up_and_log_in(&auth, &format!("user.{number}@example.com")).await.access_token;
        let create = async |at: usize| {
            let url = receiver.url(&format!("{number}-{at}"));
            let webhook = Some(Webhook { url, state: State::Paused.into(), ..Webhook::default() });
            let request = bearer(&token, CreateWebhookRequest { webhook, ..CreateWebhookRequest::default() });
            WebhookServiceClient::new(task.clone()).create_webhook(request).await.expect("created").into_inner()
        };
        let webhooks = join_all((0..WEBHOOKS_PER_USER).map(create)).await;
        for first in (0..changes).step_by(BATCH) {
            let writes = (first..changes).take(BATCH).map(create_task).collect();
            // A retry with the same id has no further effect.
            let request_id = random::id().to_string();
            let request = BatchWriteTasksRequest { writes, request_id, ..BatchWriteTasksRequest::default() };
            retry(async || {
                TaskServiceClient::new(task.clone()).batch_write_tasks(bearer(&token, request.clone())).await
            })
            .await;
        }
        Self { token, webhooks }
    }

    /// Lets the server send the messages of all webhooks.
    async fn activate(&self, task: &Channel) {
        let activate = async |webhook: &Webhook| {
            let webhook = Some(Webhook { id: webhook.id.clone(), state: State::Active.into(), ..Webhook::default() });
            let request = UpdateWebhookRequest { webhook, ..UpdateWebhookRequest::default() };
            retry(async || {
                WebhookServiceClient::new(task.clone()).update_webhook(bearer(&self.token, request.clone())).await
            })
            .await;
        };
        join_all(self.webhooks.iter().map(activate)).await;
    }
}

fn create_task(number: usize) -> Write {
    let task = Some(Task { title: number.to_string(), ..Task::default() });
    Write { write: Some(write::Write::Create(CreateTaskRequest { task, ..CreateTaskRequest::default() })) }
}

/// Kills one of the replicas of task-service after the other, until the test ends. Returns never.
async fn kill_at_random(cluster: &mut Cluster, receiver: &Receiver, total: usize, kills: &mut usize) {
    loop {
        let replica = &mut cluster.task[fastrand::usize(..REPLICAS)];
        let messages = receiver.totals().borrow().messages;
        report_value("killed a replica, pending", total - messages);
        replica.kill();
        *kills += 1;
        replica.start_again();
        sleep(MAX_KILL_PAUSE.mul_f32(fastrand::f32())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replicas_lose_no_message_and_keep_the_order() {
    let Ok(deliveries) = env::var(DELIVERIES) else {
        return report_skipped(
            "the test of deliveries",
            &format!("{DELIVERIES} is not set; `make test-webhooks` sets it"),
        );
    };
    let deliveries: usize = deliveries.parse().expect("a number");
    let changes = deliveries.div_ceil(USERS * WEBHOOKS_PER_USER) * CHANGES;
    let total = changes / CHANGES * USERS * WEBHOOKS_PER_USER;
    let flags = ["--webhook-allow", "127.0.0.1"];
    let config = ClusterConfig { task_replicas: REPLICAS, task_flags: &flags, ..ONE_EACH };
    let Some(mut cluster) = Cluster::on_postgres(config).await else { return };
    let receiver = Receiver::start().await;
    let users: Vec<_> = (0..USERS).map(|number| User::prepare(&cluster, &receiver, number, changes)).collect();
    let users = join_all(users).await;
    let start = Instant::now();
    for (number, user) in users.iter().enumerate() {
        user.activate(&cluster.task[number % REPLICAS].channel()).await;
    }
    let mut totals = receiver.totals();
    let wanted = changes * USERS * WEBHOOKS_PER_USER;
    let arrived = totals.wait_for(|totals| totals.changes == wanted || totals.error.is_some());
    let mut kills = 0;
    let last = tokio::select! {
        last = timeout(TIME_LIMIT, arrived) => last.expect("all messages arrive in time").expect("the receiver runs").clone(),
        () = kill_at_random(&mut cluster, &receiver, total, &mut kills) => unreachable!("it kills until the end"),
    };
    assert_eq!(last.error, None);
    assert_eq!(receiver.changes(), vec![changes; USERS * WEBHOOKS_PER_USER]);
    assert!(kills > 0 && last.messages >= total, "{kills} kills, {last:?}");
    report_value("messages", format_args!("{} in {:.0?}, {kills} kills", last.messages, start.elapsed()));
    report_value("messages that arrived twice", last.repetitions);
}
