//! Every RPC verifies access tokens alike.

use std::fs;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::stream;
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    AcknowledgeReminderRequest, BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest,
    CreateWebhookRequest, DeleteTaskListRequest, DeleteTaskRequest, DeleteWebhookRequest, ExportTasksRequest,
    GetTaskListRequest, GetTaskRequest, GetWebhookRequest, ImportTasksRequest, ListTaskChangesRequest,
    ListTaskHistoryRequest, ListTaskListsRequest, ListTasksRequest, ListWebhookAttemptsRequest, ListWebhooksRequest,
    MoveTaskRequest, PreviewOccurrencesRequest, RedeliverWebhookRequest, ReopenTaskRequest, RotateWebhookSecretRequest,
    SkipOccurrenceRequest, SnoozeReminderRequest, StopRecurrenceRequest, TestWebhookRequest, UndeleteTaskRequest,
    UpdateTaskListRequest, UpdateTaskRequest, UpdateWebhookRequest, WatchTasksRequest,
    task_list_service_client::TaskListServiceClient, task_service_client::TaskServiceClient,
    webhook_service_client::WebhookServiceClient,
};
use tokio::time::{Instant, timeout};
use tonic::{Request, Status, transport::Channel};

use crate::support::{Service, WAIT_TIMEOUT};

on_each_database!(
    invalid_tokens_are_refused_on_every_rpc,
    missing_token_is_refused_on_every_rpc,
    expired_token_is_refused_on_every_rpc,
    revoked_token_is_refused_on_every_rpc_within_a_second,
    authorization_scheme_is_case_insensitive,
);

/// Calls every RPC with these `authorization` headers.
pub(crate) async fn call_every_rpc(channel: &Channel, headers: &[&str]) -> Vec<(&'static str, Result<(), Status>)> {
    fn with<T>(message: T, headers: &[&str]) -> Request<T> {
        let mut request = Request::new(message);
        for header in headers {
            request.metadata_mut().append("authorization", header.parse().expect("ASCII"));
        }
        request
    }
    macro_rules! call {
        ($client:ident, $($name:literal: $rpc:ident($request:ident)),* $(,)?) => {{
            let mut client = $client::new(channel.clone());
            vec![$(($name, client.$rpc(with($request::default(), headers)).await.map(drop))),*]
        }};
    }
    let lists = call!(
        TaskListServiceClient,
        "CreateTaskList": create_task_list(CreateTaskListRequest),
        "GetTaskList": get_task_list(GetTaskListRequest),
        "ListTaskLists": list_task_lists(ListTaskListsRequest),
        "UpdateTaskList": update_task_list(UpdateTaskListRequest),
        "DeleteTaskList": delete_task_list(DeleteTaskListRequest),
    );
    let tasks = call!(
        TaskServiceClient,
        "CreateTask": create_task(CreateTaskRequest),
        "GetTask": get_task(GetTaskRequest),
        "ListTasks": list_tasks(ListTasksRequest),
        "UpdateTask": update_task(UpdateTaskRequest),
        "DeleteTask": delete_task(DeleteTaskRequest),
        "UndeleteTask": undelete_task(UndeleteTaskRequest),
        "CompleteTask": complete_task(CompleteTaskRequest),
        "ReopenTask": reopen_task(ReopenTaskRequest),
        "MoveTask": move_task(MoveTaskRequest),
        "BatchWriteTasks": batch_write_tasks(BatchWriteTasksRequest),
        "ListTaskChanges": list_task_changes(ListTaskChangesRequest),
        "WatchTasks": watch_tasks(WatchTasksRequest),
        "ExportTasks": export_tasks(ExportTasksRequest),
        "ListTaskHistory": list_task_history(ListTaskHistoryRequest),
        "PreviewOccurrences": preview_occurrences(PreviewOccurrencesRequest),
        "SkipOccurrence": skip_occurrence(SkipOccurrenceRequest),
        "StopRecurrence": stop_recurrence(StopRecurrenceRequest),
        "SnoozeReminder": snooze_reminder(SnoozeReminderRequest),
        "AcknowledgeReminder": acknowledge_reminder(AcknowledgeReminderRequest),
    );
    let webhooks = call!(
        WebhookServiceClient,
        "CreateWebhook": create_webhook(CreateWebhookRequest),
        "GetWebhook": get_webhook(GetWebhookRequest),
        "ListWebhooks": list_webhooks(ListWebhooksRequest),
        "UpdateWebhook": update_webhook(UpdateWebhookRequest),
        "DeleteWebhook": delete_webhook(DeleteWebhookRequest),
        "TestWebhook": test_webhook(TestWebhookRequest),
        "RotateWebhookSecret": rotate_webhook_secret(RotateWebhookSecretRequest),
        "RedeliverWebhook": redeliver_webhook(RedeliverWebhookRequest),
        "ListWebhookAttempts": list_webhook_attempts(ListWebhookAttemptsRequest),
    );
    let message = stream::iter([ImportTasksRequest::default()]);
    let import = TaskServiceClient::new(channel.clone()).import_tasks(with(message, headers)).await.map(drop);
    [lists, tasks, vec![("ImportTasks", import)], webhooks].concat()
}

/// Signs tokens with arbitrary headers and claims.
pub(crate) struct TokenForger {
    kid: String,
    key: hmac::Key,
    now: i64,
}

impl TokenForger {
    pub(crate) fn new(service: &Service, database: &TestDatabase) -> Self {
        let text = fs::read_to_string(database.key_file()).expect("the key file exists");
        let set: Value = serde_json::from_str(&text).expect("the key file is JSON");
        let member = |name: &str| set["keys"][0][name].as_str().expect("a string").to_owned();
        let secret = BASE64_URL_SAFE_NO_PAD.decode(member("k")).expect("base64url");
        Self {
            kid: member("kid"),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            now: service.clock.now().as_seconds(),
        }
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": "HS256", "kid": self.kid, "typ": "at+jwt" })
    }

    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": "taskey",
            "aud": "taskey",
            "sub": "0198c0de-0000-7000-8000-000000000001",
            "sid": "0198c0de-0000-7000-8000-000000000002",
            "jti": "0198c0de-0000-7000-8000-000000000003",
            "iat": self.now,
            "exp": self.now + 300,
            "roles": [],
        })
    }

    pub(crate) fn bearer(&self, header: &Value, claims: &Value) -> String {
        signed(&self.key, header, claims)
    }

    /// Returns credentials that are not valid access tokens.
    fn invalid_credentials(&self) -> Vec<String> {
        let with = |mut part: Value, name: &str, value: Value| {
            part[name] = value;
            part
        };
        let valid = self.bearer(&self.header(), &self.claims());
        let (message, signature) = valid.rsplit_once('.').expect("a token has dots");
        let wrong_key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let unsigned = self.bearer(&with(self.header(), "alg", json!("none")), &self.claims());
        let unsigned_part = unsigned.rsplit_once('.').expect("a token has dots").0;

        let mut credentials = vec![
            valid.replacen("Bearer", "Basic", 1),
            valid.replacen("Bearer ", "", 1),
            valid.replacen("Bearer ", "Bearer  ", 1),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "Bearer ..".to_owned(),
            "Bearer token".to_owned(),
            format!("{message}."),
            format!("{valid}="),
            format!("{valid}.{signature}"),
            format!("{unsigned_part}."),
            unsigned,
            signed(&wrong_key, &self.header(), &self.claims()),
            self.bearer(&self.header(), &with(self.claims(), "padding", json!("a".repeat(4096)))),
        ];
        for (name, value) in [
            ("alg", json!("HS512")),
            ("alg", json!("EdDSA")),
            ("kid", json!("another")),
            ("typ", json!("JWT")),
            ("crit", json!(["exp"])),
            ("jwk", json!({})),
        ] {
            credentials.push(self.bearer(&with(self.header(), name, value), &self.claims()));
        }
        for name in ["alg", "kid", "typ"] {
            let mut header = self.header();
            header.as_object_mut().expect("an object").remove(name);
            credentials.push(self.bearer(&header, &self.claims()));
        }
        for name in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
            let mut claims = self.claims();
            claims.as_object_mut().expect("an object").remove(name);
            credentials.push(self.bearer(&self.header(), &claims));
            for mistyped in [Value::Null, json!(true), json!("another"), json!({ "a": 1 })] {
                credentials.push(self.bearer(&self.header(), &with(self.claims(), name, mistyped)));
            }
        }
        for (name, value) in [
            ("iat", json!(self.now + 60)),
            ("nbf", json!(self.now + 60)),
            ("nbf", Value::Null),
            ("exp", json!(self.now + 901)),
            ("exp", json!(i64::MAX)),
            ("exp", json!(1e18)),
            ("aud", json!(["taskey"])),
            ("sub", json!("0198c0de000070008000000000000001")),
        ] {
            credentials.push(self.bearer(&self.header(), &with(self.claims(), name, value)));
        }
        credentials.push(format!("Bearer {}", "x".repeat(16 * 1024)));
        credentials
    }
}

fn signed(key: &hmac::Key, header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = hmac::sign(key, message.as_bytes());
    format!("Bearer {message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn every_rpc_is_called() {
    let set = FileDescriptorSet::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("the descriptors are valid");
    let services = set.file.iter().filter(|file| file.package() == "taskey.task.v1").flat_map(|file| &file.service);
    let mut rpcs: Vec<_> =
        services.flat_map(|service| &service.method).map(|method| method.name().to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let nowhere = async { Channel::from_static("http://127.0.0.1:1").connect_lazy() };
    let called = runtime.block_on(async { call_every_rpc(&nowhere.await, &[]).await });
    let mut called: Vec<_> = called.into_iter().map(|(rpc, _)| rpc).collect();
    called.sort_unstable();
    rpcs.sort_unstable();
    assert_eq!(called, rpcs);
}

async fn invalid_tokens_are_refused_on_every_rpc(database: TestDatabase) {
    let service = Service::start(&database).await;
    let forger = TokenForger::new(&service, &database);
    let valid = forger.bearer(&forger.header(), &forger.claims());
    let invalid_credentials = forger.invalid_credentials();
    let mut headers: Vec<_> = invalid_credentials.iter().map(|credential| vec![&credential[..]]).collect();
    headers.push(vec![&valid, &valid]);
    headers.push(vec![&valid, "Basic YTpi"]);
    for headers in headers {
        for (_, outcome) in call_every_rpc(&service.channel, &headers).await {
            assert_refused!(outcome, Unauthenticated, "TOKEN_INVALID");
        }
    }
    // The unmodified token is valid.
    for (rpc, outcome) in call_every_rpc(&service.channel, &[&valid]).await {
        let field = match rpc {
            "ListTasks" | "ListTaskLists" | "ListTaskChanges" | "WatchTasks" | "ListWebhooks" => {
                outcome.expect("an empty request is valid");
                continue;
            }
            "CreateTask" | "UpdateTask" => "task",
            "CreateTaskList" | "UpdateTaskList" => "task_list",
            "BatchWriteTasks" => "writes",
            "CreateWebhook" | "UpdateWebhook" => "webhook",
            "ListWebhookAttempts" => "webhook_id",
            "ExportTasks" | "ImportTasks" => "format",
            "PreviewOccurrences" => {
                assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "rrule", "start_date");
                continue;
            }
            "SnoozeReminder" => {
                assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "remind_time", "reminder_id", "task_id");
                continue;
            }
            "AcknowledgeReminder" => {
                assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "reminder_id", "task_id");
                continue;
            }
            _ => "id",
        };
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
}

async fn missing_token_is_refused_on_every_rpc(database: TestDatabase) {
    let service = Service::start(&database).await;
    for (_, outcome) in call_every_rpc(&service.channel, &[]).await {
        assert_refused!(outcome, Unauthenticated, "TOKEN_MISSING");
    }
}

async fn expired_token_is_refused_on_every_rpc(database: TestDatabase) {
    let service = Service::start(&database).await;
    let forger = TokenForger::new(&service, &database);
    let mut claims = forger.claims();
    claims["iat"] = json!(forger.now - 600);
    claims["exp"] = json!(forger.now - 5);
    for (_, outcome) in call_every_rpc(&service.channel, &[&forger.bearer(&forger.header(), &claims)]).await {
        assert_refused!(outcome, Unauthenticated, "TOKEN_EXPIRED");
    }
}

async fn revoked_token_is_refused_on_every_rpc_within_a_second(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let token = ann.header();
    let task = ann.make("Buy milk").await;

    service.feed.revoke(ann.session_id);
    let revoked_at = Instant::now();
    let refused = async { while ann.get(&task.id).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, refused).await.expect("the revocation arrives");
    assert!(revoked_at.elapsed().as_secs() < 1);

    for (_, outcome) in call_every_rpc(&service.channel, &[&token]).await {
        assert_refused!(outcome, Unauthenticated, "TOKEN_REVOKED");
    }
    bob.make("Buy oats").await;
}

async fn authorization_scheme_is_case_insensitive(database: TestDatabase) {
    let service = Service::start(&database).await;
    let token = service.user().header();
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        let mut request = Request::new(ListTasksRequest::default());
        let header = token.replacen("Bearer", scheme, 1).parse().expect("ASCII");
        request.metadata_mut().insert("authorization", header);
        TaskServiceClient::new(service.channel.clone()).list_tasks(request).await.expect(scheme);
    }
}
