//! Tokens that a holder of the shared key has signed: auth-service trusts none of their claims.

use std::time::Duration;

use service_kit::{
    assert_refused,
    auth::{claims::AccessClaims, keys::KeySet, scope::Scopes, token},
    on_each_database,
    ops::config::TokenArgs,
    testing::{TestDatabase, call_raw},
};
use taskey_proto::auth::v1::{IntrospectRequest, TokenPair};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::support::{PASSWORD, Server, bearer, execute, issue_service_token, user_id};

on_each_database! {
    a_forged_role_does_not_make_an_administrator,
    a_forged_session_or_account_is_refused_by_every_rpc,
    the_account_and_its_roles_are_looked_up_in_the_database,
    a_forged_role_makes_an_introspected_token_inactive,
}

pub const ADMIN_RPCS: [&str; 9] = [
    "GetUser",
    "ListUsers",
    "DisableUser",
    "EnableUser",
    "UnlockUser",
    "SetUserRoles",
    "ListUserSessions",
    "RevokeUserSessions",
    "ListAuditEvents",
];

pub const ACCOUNT_RPCS: [&str; 10] = [
    "GetMe",
    "UpdateMe",
    "ChangePassword",
    "DeleteMe",
    "ExportMe",
    "ListMySecurityEvents",
    "ListSessions",
    "RevokeSession",
    "RevokeOtherSessions",
    "RevokeAllSessions",
];

pub fn id(text: &str) -> Uuid {
    text.parse().expect("a UUID")
}

/// Signs a token with the shared key.
fn forge(server: &Server, user_id: Uuid, session_id: Uuid, roles: &[&str]) -> String {
    forge_with_scopes(server, user_id, session_id, roles, None)
}

/// Signs a token that permits only what its scopes permit.
pub fn forge_with_scopes(
    server: &Server,
    user_id: Uuid,
    session_id: Uuid,
    roles: &[&str],
    scopes: Option<Scopes>,
) -> String {
    let (id, issued_at) = (server.clock.new_id(), server.clock.now());
    let roles = roles.iter().map(ToString::to_string).collect();
    let expires_at = issued_at + Duration::from_secs(300);
    let claims = AccessClaims {
        id,
        user_id,
        session_id,
        roles,
        scopes,
        authentication: None,
        issued_at,
        expires_at,
        actors: vec![],
    };
    let keys = KeySet::read(&server.database.key_file(), issued_at).expect("a key file");
    let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    token::sign(&keys, &token_args, &claims).expect("signed")
}

/// Calls an RPC with an empty request.
pub async fn call(server: &Server, service: &str, rpc: &str, token: &str) -> Result<Vec<u8>, Status> {
    let request: Request<Vec<u8>> = bearer(token, Vec::new());
    call_raw(&server.channel, &format!("/taskey.auth.v1.{service}/{rpc}"), request).await
}

async fn a_forged_role_does_not_make_an_administrator(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let forged = forge(&server, id(&user_id(&ann)), id(&ann.session_id), &["admin"]);
    for rpc in ADMIN_RPCS {
        let outcome = call(&server, "AdminService", rpc, &forged).await;
        assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    }
    server.get_me(&forged).await.expect("the session is active");
    server.stop().await;
}

async fn a_forged_session_or_account_is_refused_by_every_rpc(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let bob = server.sign_up_and_login("bob@example.com").await;
    execute(&server.database, "update users set roles = 'admin'").await;
    let new_id = server.clock.new_id();
    for (user_id, session_id) in [
        (id(&user_id(&ann)), new_id),
        (id(&user_id(&ann)), id(&bob.session_id)),
        (new_id, id(&bob.session_id)),
        (new_id, new_id),
    ] {
        let forged = forge(&server, user_id, session_id, &["admin"]);
        let rpcs = ADMIN_RPCS.map(|rpc| ("AdminService", rpc)).into_iter();
        for (service, rpc) in rpcs.chain(ACCOUNT_RPCS.map(|rpc| ("AccountService", rpc))) {
            let outcome = call(&server, service, rpc, &forged).await;
            assert_refused!(outcome, Unauthenticated, "TOKEN_REVOKED");
        }
    }
    for pair in [ann, bob] {
        server.get_me(&pair.access_token).await.expect("nothing has changed");
    }
    server.stop().await;
}

/// Signs up an administrator, and logs in.
pub async fn sign_up_admin(server: &Server) -> TokenPair {
    server.sign_up("admin@example.com").await.expect("signed up");
    execute(&server.database, "update users set roles = 'admin'").await;
    server.login("admin@example.com", PASSWORD).await.expect("logged in")
}

async fn the_account_and_its_roles_are_looked_up_in_the_database(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    call(&server, "AdminService", "ListUsers", &admin).await.expect("an administrator");
    for (change, rpc, reason) in [
        ("update users set roles = ''", "ListUsers", "PERMISSION_DENIED"),
        ("update users set roles = 'admin', disabled = true", "ListUsers", "TOKEN_REVOKED"),
        ("update users set disabled = false", "ListUsers", "OK"),
        // Directly in the database, so the feed does not report it.
        ("update sessions set revoked_at = 1", "ListUsers", "TOKEN_REVOKED"),
    ] {
        execute(&server.database, change).await;
        let outcome = call(&server, "AdminService", rpc, &admin).await;
        let found = outcome.map_or_else(|status| service_kit::testing::refusal(&status).1, |_| "OK".to_owned());
        assert_eq!(found, reason, "{change}");
    }
    assert_refused!(server.get_me(&admin).await, Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn a_forged_role_makes_an_introspected_token_inactive(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    let credential = issue_service_token(&server.database, "billing");
    for (roles, is_active) in [(&[][..], true), (&["admin"], false)] {
        let token = forge(&server, id(&user_id(&ann)), id(&ann.session_id), roles);
        let request = bearer(&credential, IntrospectRequest { token, ..Default::default() });
        let introspected = server.token().introspect(request).await.expect("introspected").into_inner();
        assert_eq!(introspected.active, is_active, "{roles:?}");
    }
    server.stop().await;
}
