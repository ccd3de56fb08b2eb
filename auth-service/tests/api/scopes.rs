//! Access tokens with scopes permit only the RPCs of their scopes.

use service_kit::{
    assert_refused,
    auth::scope::{Scope, Scopes},
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{IntrospectRequest, IntrospectResponse};
use tonic::Status;
use tonic_types::StatusExt;

use crate::{
    forged_claims::{ACCOUNT_RPCS, ADMIN_RPCS, call, forge_with_scopes, id, sign_up_admin},
    support::{Server, bearer, execute, issue_service_token, user_id},
};

on_each_database! {
    a_token_permits_only_the_rpcs_of_its_scopes,
    a_scope_does_not_replace_a_role,
    a_verifier_needs_the_scope_as_well_as_the_role,
    introspection_returns_the_scopes,
}

/// Returns the scope that an RPC requires.
fn required_scope(service: &str, rpc: &str) -> Scope {
    match (service, ["Get", "List", "Export"].iter().any(|verb| rpc.starts_with(verb))) {
        ("AccountService", true) => Scope::AccountRead,
        ("AccountService", false) => Scope::AccountWrite,
        (_, true) => Scope::AdminRead,
        (_, false) => Scope::AdminWrite,
    }
}

/// Asserts that a token lacks exactly this scope.
fn assert_scope_missing(status: Status, required: Scope) {
    let metadata = status.get_details_error_info().expect("a reason").metadata;
    assert_eq!(metadata.get("required").map(String::as_str), Some(required.name()));
    assert_refused!(Err::<(), _>(status), PermissionDenied, "SCOPE_MISSING");
}

fn only(scope: Scope) -> Scopes {
    [scope].into_iter().collect()
}

async fn a_token_permits_only_the_rpcs_of_its_scopes(database: TestDatabase) {
    let server = Server::start_with(database, &["--rate-limits", "off"]).await;
    let admin = sign_up_admin(&server).await;
    let (user_id, session_id) = (id(&user_id(&admin)), id(&admin.session_id));
    for granted in Scope::ALL {
        let token = forge_with_scopes(&server, user_id, session_id, &["admin"], Some(only(granted)));
        let rpcs = ADMIN_RPCS.map(|rpc| ("AdminService", rpc)).into_iter();
        for (service, rpc) in rpcs.chain(ACCOUNT_RPCS.map(|rpc| ("AccountService", rpc))) {
            let required = required_scope(service, rpc);
            if granted == required && rpc.starts_with("Revoke") {
                // Would end the session.
                continue;
            }
            match call(&server, service, rpc, &token).await {
                Err(status) if granted != required => assert_scope_missing(status, required),
                outcome => {
                    assert_eq!(granted, required, "{rpc}: {outcome:?}");
                    let reason = outcome.err().map(|status| refusal(&status).1);
                    assert_ne!(reason.as_deref(), Some("SCOPE_MISSING"), "{rpc}");
                }
            }
        }
    }
    server.stop().await;
}

async fn a_scope_does_not_replace_a_role(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let token = forge_with_scopes(&server, id(&user_id(&ann)), id(&ann.session_id), &[], Some(only(Scope::AdminRead)));
    assert_refused!(call(&server, "AdminService", "ListUsers", &token).await, PermissionDenied, "PERMISSION_DENIED");
    server.stop().await;
}

async fn introspect(server: &Server, credential: &str, token: &str) -> Result<IntrospectResponse, Status> {
    let request = bearer(credential, IntrospectRequest { token: token.to_owned(), ..Default::default() });
    server.token().introspect(request).await.map(tonic::Response::into_inner)
}

async fn a_verifier_needs_the_scope_as_well_as_the_role(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    execute(&server.database, "update users set roles = 'verifier'").await;
    let forge = |roles: &[&str], scope| {
        forge_with_scopes(&server, id(&user_id(&ann)), id(&ann.session_id), roles, Some(only(scope)))
    };
    let (verifier, reader) = (forge(&["verifier"], Scope::TokensVerify), forge(&["verifier"], Scope::TasksRead));
    assert!(introspect(&server, &verifier, &ann.access_token).await.expect("introspected").active);
    let status = introspect(&server, &reader, &ann.access_token).await.expect_err("refused");
    assert_scope_missing(status, Scope::TokensVerify);
    let without_role = forge(&[], Scope::TokensVerify);
    let outcome = introspect(&server, &without_role, &ann.access_token).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    server.stop().await;
}

async fn introspection_returns_the_scopes(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let credential = issue_service_token(&server.database, "billing");
    let scopes = Some([Scope::TasksWrite, Scope::TasksRead].into_iter().collect());
    let restricted = forge_with_scopes(&server, id(&user_id(&ann)), id(&ann.session_id), &[], scopes);
    let introspected = introspect(&server, &credential, &restricted).await.expect("introspected");
    assert_eq!(introspected.scope.as_deref(), Some("tasks.read tasks.write"));
    let introspected = introspect(&server, &credential, &ann.access_token).await.expect("introspected");
    assert_eq!((introspected.active, introspected.scope), (true, None));
    server.stop().await;
}
