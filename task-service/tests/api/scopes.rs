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

/// Returns the scope that an RPC requires.
fn scope_of(rpc: &str) -> &'static str {
    let reads = ["Get", "List", "Watch", "Export", "Preview"].iter().any(|verb| rpc.starts_with(verb));
    if reads { "tasks.read" } else { "tasks.write" }
}

async fn a_token_permits_only_the_rpcs_of_its_scopes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let forger = TokenForger::new(&service, &database);
    for granted in ["tasks.read", "tasks.write", "tasks.read tasks.write future", "account.read"] {
        let mut claims = forger.claims();
        claims["scope"] = json!(granted);
        for (rpc, outcome) in call_every_rpc(&service.channel, &[&forger.bearer(&forger.header(), &claims)]).await {
            let required = scope_of(rpc);
            let Err(status) = outcome else {
                assert!(granted.contains(required), "{rpc} with {granted}");
                continue;
            };
            let (_, reason, _) = refusal(&status);
            assert_eq!(reason == "SCOPE_MISSING", !granted.contains(required), "{rpc} with {granted}: {status:?}");
            if reason == "SCOPE_MISSING" {
                assert_eq!(status.code(), Code::PermissionDenied);
                let info = status.get_details_error_info().expect("a reason");
                assert_eq!(info.metadata.get("required").map(String::as_str), Some(required), "{rpc}");
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
