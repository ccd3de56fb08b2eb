//! Access tokens that are malformed, and calls that need a role that the attacker does not have.

use std::sync::atomic::AtomicUsize;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::random;
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, IntrospectRequest, ListAuditEventsRequest, ListDeletedUsersRequest,
    ListUserChangesRequest, ListUsersRequest, RevokeUserSessionsRequest, WatchRevocationsRequest,
    admin_service_client::AdminServiceClient, token_service_client::TokenServiceClient,
};

use super::{
    calls::{odd_text, repeat},
    target::Target,
};
use crate::{
    faults::users::{check_token, me},
    process::bearer,
};

/// The longest header field that a server accepts has less than 16 KiB.
const LONG: usize = 11_000;

/// Calls with tokens that have no signature, an unknown key, or very long headers and claims, to all services.
pub async fn send_malformed_tokens(target: &Target, count: &AtomicUsize) {
    let (gateway, auth, task) = (target.gateway(), target.auth(), target.task());
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = target.token();
    let mut parts = token.split('.').map(str::to_owned);
    let [header, claims, signature] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let (gateway, auth, task, header, claims, signature) = (&gateway, &auth, &task, &header, &claims, &signature);
    repeat(32, count, |number| async move {
        let kid = random::id();
        let token = match number % 6 {
            0 => format!("{}.{claims}.", encode(r#"{"alg":"none","typ":"at+jwt"}"#)),
            1 => {
                let header = encode(&format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"at+jwt"}}"#));
                format!("{header}.{claims}.{signature}")
            }
            2 => format!("{}.{claims}.{signature}", encode(&format!(r#"{{"alg":"{}""#, "[".repeat(2_000)))),
            3 => format!("{header}.{}.{signature}", "A".repeat(LONG)),
            4 => format!("{header}.{claims}.{signature}{number}"),
            _ => ".".repeat(LONG),
        };
        if number % 2 == 0 {
            return check_token(if number % 4 == 0 { gateway } else { task }, &token).await;
        }
        me(auth, &token).await.map(drop)
    })
    .await;
}

/// Calls what only verifiers may call: with the access token of a user, with no token, and with garbage.
pub async fn call_as_verifier(target: &Target, count: &AtomicUsize) {
    let (channel, user_token) = (target.auth(), target.token());
    let tokens = [&user_token[..], "", "taskey_service_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
    let (channel, tokens) = (&channel, &tokens);
    repeat(32, count, |number| async move {
        let (mut client, token) = (TokenServiceClient::new(channel.clone()), tokens[number % tokens.len()]);
        match number % 5 {
            0 => {
                let request = IntrospectRequest { token: odd_text(30_000), ..IntrospectRequest::default() };
                client.introspect(bearer(token, request)).await.map(drop)
            }
            1 => {
                let mut stream =
                    client.watch_revocations(bearer(token, WatchRevocationsRequest {})).await?.into_inner();
                stream.message().await.map(drop)
            }
            2 => {
                let request = AcknowledgeRevocationsRequest { watch_id: random::id().to_string(), sequence: i64::MAX };
                client.acknowledge_revocations(bearer(token, request)).await.map(drop)
            }
            3 => client.list_user_changes(bearer(token, ListUserChangesRequest::default())).await.map(drop),
            _ => client.list_deleted_users(bearer(token, ListDeletedUsersRequest::default())).await.map(drop),
        }
    })
    .await;
}

/// Calls what only administrators may call, with filters and page tokens that are expensive to parse.
pub async fn call_as_administrator(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.gateway(), target.token());
    let filter = vec!["email:a"; 4_000].join(" OR ");
    let (channel, token, filter) = (&channel, &token, &filter);
    repeat(16, count, |number| async move {
        let mut client = AdminServiceClient::new(channel.clone());
        match number % 3 {
            0 => {
                let request =
                    ListUsersRequest { page_size: 500, filter: filter.clone(), ..ListUsersRequest::default() };
                client.list_users(bearer(token, request)).await.map(drop)
            }
            1 => {
                let request = ListAuditEventsRequest {
                    page_size: 500,
                    page_token: odd_text(20_000),
                    ..ListAuditEventsRequest::default()
                };
                client.list_audit_events(bearer(token, request)).await.map(drop)
            }
            _ => {
                let request = RevokeUserSessionsRequest { user_id: random::id().to_string() };
                client.revoke_user_sessions(bearer(token, request)).await.map(drop)
            }
        }
    })
    .await;
}
