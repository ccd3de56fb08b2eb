//! Whatever error an RPC returns, the contract declares it for this RPC.

use std::{collections::BTreeSet, time::Duration};

use gateway::openapi::contract::{code_name, common_error_options, error_options};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value, prost::Message,
};
use serde_json::json;
use service_kit::testing::{TestDatabase, call_raw, refusal};
use taskey_proto::{
    auth::v1::{WatchRevocationsRequest, token_service_client::TokenServiceClient},
    task::v1::WatchTasksRequest,
};
use tokio::time::timeout;
use tonic::{Request, Status};

use super::{
    every_rpc::{Forger, claims_of, methods, with},
    processes::{Taskey, bearer},
};

/// A call of a stream has succeeded if no error arrives within this time.
const STREAM_TIMEOUT: Duration = Duration::from_millis(200);

/// An id that no resource has.
const UNKNOWN_ID: &str = "0198c0de-0000-7000-8000-000000000000";

fn find_method(name: &str) -> MethodDescriptor {
    methods().into_iter().find(|method| method.full_name() == name).expect("the RPC exists")
}

/// Returns the RPCs, those last that revoke the session of the caller.
fn methods_in_order() -> Vec<MethodDescriptor> {
    let revokes = |method: &MethodDescriptor| method.name().contains("Revoke") || method.name() == "Logout";
    let (last, mut first): (Vec<_>, Vec<_>) = methods().into_iter().partition(revokes);
    first.extend(last);
    first
}

/// Returns a message in which every id has a valid value.
fn with_unknown_ids(descriptor: &MessageDescriptor) -> DynamicMessage {
    filled(descriptor, &|field| field.name().ends_with("id").then(|| Value::String(UNKNOWN_ID.to_owned())))
}

/// Returns a message in which every string and number is invalid, if any is.
fn with_invalid_fields(descriptor: &MessageDescriptor) -> DynamicMessage {
    filled(descriptor, &|field| match field.kind() {
        Kind::String => Some(Value::String("x".to_owned())),
        Kind::Int32 => Some(Value::I32(-1)),
        _ => None,
    })
}

/// Returns a message with these values of fields.
fn filled(descriptor: &MessageDescriptor, value: &dyn Fn(&FieldDescriptor) -> Option<Value>) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(|field| !field.is_map()) {
        let value = match field.kind() {
            Kind::Message(inner) if inner.full_name().starts_with("taskey.") => {
                Some(Value::Message(filled(&inner, value)))
            }
            _ => value(&field),
        };
        if let Some(value) = value {
            message.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
        }
    }
    message
}

/// Calls an RPC, and returns its error, if any.
async fn call(taskey: &Taskey, method: &MethodDescriptor, authorization: &str, message: &[u8]) -> Option<Status> {
    let name = if method.parent_service().package_name() == "taskey.task.v1" { "task" } else { "auth" };
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut request = Request::new(message.to_vec());
    if !authorization.is_empty() {
        request.metadata_mut().insert("authorization", authorization.parse().expect("ASCII"));
    }
    let channel = taskey.channel(name);
    let called = call_raw(&channel, &path, request);
    if method.is_server_streaming() { timeout(STREAM_TIMEOUT, called).await.ok()?.err() } else { called.await.err() }
}

/// Asserts that an error is declared, and returns it as `CODE / REASON`.
#[track_caller]
fn assert_declared(method: &MethodDescriptor, status: &Status) -> String {
    let (code, reason, _) = refusal(status);
    let error = format!("{} / {reason}", code_name(code));
    let declared: BTreeSet<_> =
        error_options(method).into_iter().chain(common_error_options(method.parent_service())).collect();
    assert!(declared.contains(&error), "{} does not declare {error}: {}", method.full_name(), status.message());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_invalid_calls_are_declared() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let user = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
    let revoked = taskey.sign_up_and_log_in("bob@example.com").await;
    taskey.logout(&revoked).await;
    while taskey.list(&revoked.access_token).await.is_ok() {}
    Taskey::grant_role(&database, "ann@example.com", "admin");
    let (claims, forger) = (claims_of(&user), Forger::new(&database));
    let expired =
        forger.sign(&forger.header(), &with(with(claims.clone(), "iat", Some(json!(1))), "exp", Some(json!(2))));
    let privileged = forger.sign(&forger.header(), &with(claims, "roles", Some(json!(["admin", "verifier"]))));
    let revoked = format!("Bearer {}", revoked.access_token);
    let tokens = [String::new(), "Bearer x".to_owned(), expired, revoked, format!("Bearer {user}"), privileged];
    let (undecodable, too_large) = (vec![0xff; 11], vec![0; 300 * 1024]);
    let mut seen = BTreeSet::new();
    for method in methods_in_order() {
        let input = method.input();
        let messages = [with_unknown_ids(&input), with_invalid_fields(&input)].map(|message| message.encode_to_vec());
        let calls = messages.iter().flat_map(|message| tokens.iter().map(move |token| (token, message)));
        for (token, message) in calls.chain([(&tokens[4], &undecodable), (&tokens[4], &too_large)]) {
            if let Some(status) = call(&taskey, &method, token, message).await {
                seen.insert(assert_declared(&method, &status));
            }
        }
    }
    // Guards the test itself: the calls fail for many reasons.
    assert!(seen.len() >= 13, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_too_many_calls_are_declared() {
    let limits =
        ["--call-rate", "1+1/h", "--login-rate", "1+1/h", "--sign-up-rate", "1+1/h", "--refresh-rate", "1+1/h"];
    let flags = [&["--rate-limits", "on"], &limits[..]].concat();
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start_with(&database, &flags).await;
    let token = format!("Bearer {}", taskey.sign_up_and_log_in("ann@example.com").await.access_token);
    let mut limited = 0;
    for method in methods_in_order() {
        let message = with_unknown_ids(&method.input()).encode_to_vec();
        for _ in 0..3 {
            if let Some(status) = call(&taskey, &method, &token, &message).await {
                limited += usize::from(assert_declared(&method, &status) == "RESOURCE_EXHAUSTED / RATE_LIMITED");
            }
        }
    }
    assert!(limited >= 15, "only {limited} calls were rate limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_streams_at_shutdown_are_declared() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let user = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
    let forger = Forger::new(&database);
    let verifier = forger.sign(&forger.header(), &with(claims_of(&user), "roles", Some(json!(["verifier"]))));
    let verifier = verifier.trim_start_matches("Bearer ");
    let tasks = taskey.tasks().watch_tasks(bearer(&user, WatchTasksRequest::default())).await;
    let mut tasks = tasks.expect("accepted").into_inner();
    let feed = TokenServiceClient::new(taskey.channel("auth"));
    let feed = feed.clone().watch_revocations(bearer(verifier, WatchRevocationsRequest {})).await;
    let mut feed = feed.expect("accepted").into_inner();
    taskey.process("auth").signal("TERM");
    let error = loop {
        if let Err(status) = tasks.message().await {
            break status;
        }
    };
    let method = find_method("taskey.task.v1.TaskService.WatchTasks");
    assert_eq!(assert_declared(&method, &error), "UNAVAILABLE / SHUTTING_DOWN");
    let error = loop {
        if let Err(status) = feed.message().await {
            break status;
        }
    };
    let method = find_method("taskey.auth.v1.TokenService.WatchRevocations");
    assert_eq!(assert_declared(&method, &error), "UNAVAILABLE / SHUTTING_DOWN");
}
