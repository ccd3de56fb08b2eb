//! Tokens with the claim `scope` permit only the RPCs of their scopes.

use serde_json::json;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::task::v1::{ListTasksRequest, task_service_client::TaskServiceClient};
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::{
    support::Service,
    token::{TokenForger, call_every_rpc},
};

on_each_database!(a_token_permits_only_the_rpcs_of_its_scopes, a_token_with_an_invalid_scope_claim_is_refused);

/// Returns the scopes that an RPC requires, in the order in which they are checked.
fn scopes_of(rpc: &str) -> &'static [&'static str] {
    let reads = ["Get", "List", "Watch", "Export", "Preview"].iter().any(|verb| rpc.starts_with(verb));
    // A webhook sends tasks, for as long as it exists.
    let sends_tasks = rpc.contains("Webhook") && rpc != "DeleteWebhook";
    match (reads, sends_tasks) {
        (true, _) => &["tasks.read"],
        (false, true) => &["tasks.write", "tasks.read"],
        (false, false) => &["tasks.write"],
    }
}

async fn a_token_permits_only_the_rpcs_of_its_scopes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let forger = TokenForger::new(&service, &database);
    for granted in ["tasks.read", "tasks.write", "tasks.read tasks.write future", "account.read"] {
        let mut claims = forger.claims();
        claims["scope"] = json!(granted);
        for (rpc, outcome) in call_every_rpc(&service.channel, &[&forger.bearer(&forger.header(), &claims)]).await {
            let missing = scopes_of(rpc).iter().find(|scope| !granted.contains(**scope));
            let Err(status) = outcome else {
                assert_eq!(missing, None, "{rpc} with {granted}");
                continue;
            };
            let (_, reason, _) = refusal(&status);
            assert_eq!(reason == "SCOPE_MISSING", missing.is_some(), "{rpc} with {granted}: {status:?}");
            if let Some(missing) = missing {
                assert_eq!(status.code(), Code::PermissionDenied);
                let info = status.get_details_error_info().expect("a reason");
                assert_eq!(info.metadata.get("required").map(String::as_str), Some(*missing), "{rpc}");
            }
        }
    }
}

async fn a_token_with_an_invalid_scope_claim_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let forger = TokenForger::new(&service, &database);
    let invalid = [json!(null), json!(""), json!(["tasks.read"]), json!("tasks.read tasks.read"), json!("tasks.read ")];
    for scope in invalid {
        let mut claims = forger.claims();
        claims["scope"] = scope;
        let mut request = Request::new(ListTasksRequest::default());
        let header = forger.bearer(&forger.header(), &claims).parse().expect("ASCII");
        request.metadata_mut().insert("authorization", header);
        let outcome = TaskServiceClient::new(service.channel.clone()).list_tasks(request).await;
        assert_refused!(outcome, Unauthenticated, "TOKEN_INVALID");
    }
}
