//! The reminders of a disabled account still fall due, but its webhooks send nothing until an administrator enables it.

use std::{convert::Infallible, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use service_kit::{clock::Clock, testing::TestDatabase};
use taskey_proto::{
    auth::v1::{DisableUserRequest, EnableUserRequest, TokenPair, admin_service_client::AdminServiceClient},
    task::v1::{
        CreateTaskRequest, CreateWebhookRequest, Reminder, Task, Webhook, reminder::Time,
        webhook_service_client::WebhookServiceClient,
    },
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::processes::{Taskey, bearer};

const TIMEOUT: Duration = Duration::from_secs(60);

/// How long after their creation the reminders fall due. The account is disabled before.
const REMINDER_DELAY: Duration = Duration::from_secs(15);

/// A receiver of webhooks.
struct Receiver {
    url: String,
    messages: mpsc::UnboundedReceiver<Value>,
    _running: AbortOnDropHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let (sender, messages) = mpsc::unbounded_channel();
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let sender = sender.clone();
                    async move {
                        let body = request.into_body().collect().await.expect("a body").to_bytes();
                        _ = sender.send(serde_json::from_slice(&body).expect("JSON"));
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                // The sender may close the connection at any time.
                tokio::spawn(async move {
                    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, messages, _running: AbortOnDropHandle::new(running) }
    }

    /// Waits for the next message, which must contain one change, and reports whether the reminder of its task has fired.
    async fn next_has_fired(&mut self) -> bool {
        let next = timeout(TIMEOUT, self.messages.recv());
        let message = next.await.expect("a message arrives in time").expect("the receiver runs");
        assert_eq!(message["changes"].as_array().map(Vec::len), Some(1), "{message}");
        message["changes"][0]["task"]["reminders"][0]["fireTime"].is_string()
    }
}

/// Creates a webhook, and a task with a reminder, and waits for the message about the task.
async fn remind(taskey: &Taskey, user: &TokenPair, receiver: &mut Receiver) {
    let webhook = Some(Webhook { url: receiver.url.clone(), ..Webhook::default() });
    let request = bearer(&user.access_token, CreateWebhookRequest { webhook, ..CreateWebhookRequest::default() });
    WebhookServiceClient::new(taskey.channel("task")).create_webhook(request).await.expect("created");
    let remind_time = Clock::system().now() + REMINDER_DELAY;
    let reminder = Reminder { time: Some(Time::RemindTime(remind_time.into())), ..Reminder::default() };
    let task = Some(Task { title: "Buy milk".to_owned(), reminders: vec![reminder], ..Task::default() });
    let request = bearer(&user.access_token, CreateTaskRequest { task, ..CreateTaskRequest::default() });
    taskey.tasks().create_task(request).await.expect("created");
    assert!(!receiver.next_has_fired().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_a_disabled_account_send_nothing_until_it_is_enabled() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_with(&database, &["--webhook-allow", "127.0.0.1"]).await;
    let [ann, bob] =
        [taskey.sign_up_and_log_in("ann@example.com").await, taskey.sign_up_and_log_in("bob@example.com").await];
    Taskey::grant_role(&database, "bob@example.com", "admin");
    let admin = taskey.log_in("bob@example.com").await;
    let mut admin_client = AdminServiceClient::new(taskey.channel("auth"));
    let user_id = ann.user.as_ref().expect("login returns the user").id.clone();
    let (mut receiver, mut other) = (Receiver::start().await, Receiver::start().await);

    remind(&taskey, &ann, &mut receiver).await;
    let request = bearer(&admin.access_token, DisableUserRequest { user_id: user_id.clone() });
    admin_client.disable_user(request).await.expect("disabled");
    // The reminder of this account falls due later.
    remind(&taskey, &bob, &mut other).await;
    assert!(other.next_has_fired().await);
    assert!(receiver.messages.is_empty(), "a message of the disabled account was sent");

    let request = bearer(&admin.access_token, EnableUserRequest { user_id });
    admin_client.enable_user(request).await.expect("enabled");
    assert!(receiver.next_has_fired().await);
}
