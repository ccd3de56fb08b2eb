//! The tokens with which service accounts act on behalf of users end with the session of each service account.

use std::time::Duration;

use service_kit::{
    auth::{actor::Actor, claims::AccessClaims, keys::KeySet, token},
    on_each_database,
    ops::config::TokenArgs,
    testing::TestDatabase,
};
use uuid::Uuid;

use crate::{
    feed::{is_reported, snapshot, watch},
    forged_claims::id,
    oauth::{assert_error, introspect},
    service_accounts::{created, delete, rotate},
    support::{Server, execute},
    token_exchange::{FORWARDING, claims, exchange, start},
};

on_each_database! {
    the_deletion_of_a_service_account_ends_the_tokens_with_which_it_acts_for_users,
    a_rotation_without_an_overlap_ends_the_tokens_with_which_the_service_account_acts_for_users,
    a_rotation_with_an_overlap_ends_no_token,
    exchanges_of_a_service_account_share_a_session,
    a_session_that_the_database_has_lost_is_replaced,
    tokens_of_earlier_versions_have_no_session_of_the_actor,
}

/// Returns the session of the service account that acts for the user.
fn actor_session(server: &Server, token: &str) -> Uuid {
    claims(server, token).actors[0].session_id.expect("a session")
}

async fn is_active(server: &Server, token: &str) -> bool {
    introspect(server, token).await.active
}

async fn the_deletion_of_a_service_account_ends_the_tokens_with_which_it_acts_for_users(database: TestDatabase) {
    let (server, ann, first, admin) = start(database).await;
    let second = created(&server, &admin, &FORWARDING).await;
    let third = created(&server, &admin, &FORWARDING).await;
    let token = exchange(&server, &first, &ann.access_token, "").await.expect("exchanged").access_token;
    let again = exchange(&server, &second, &token, "").await.expect("exchanged").access_token;
    let other = exchange(&server, &second, &ann.access_token, "").await.expect("exchanged").access_token;
    let session = actor_session(&server, &token);
    let sessions: Vec<_> = claims(&server, &again).session_ids().collect();
    assert_eq!(sessions, [id(&ann.session_id), actor_session(&server, &other), session]);
    assert!(is_active(&server, &token).await && is_active(&server, &again).await);

    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    delete(&server, &admin, &first.id).await.expect("deleted");
    assert!(is_reported(&mut feed, &session.to_string()).await);
    for ended in [&token, &again] {
        assert!(!is_active(&server, ended).await);
        let refused = exchange(&server, &third, ended, "").await;
        assert_error(refused, "VALIDATION_FAILED", "invalid_request");
    }
    assert!(is_active(&server, &other).await && is_active(&server, &ann.access_token).await);
    exchange(&server, &third, &other, "").await.expect("exchanged");
    server.stop().await;
}

async fn a_rotation_without_an_overlap_ends_the_tokens_with_which_the_service_account_acts_for_users(
    database: TestDatabase,
) {
    let (server, ann, account, admin) = start(database).await;
    let token = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged").access_token;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let rotated = rotate(&server, &admin, &account.id, None).await.expect("rotated");
    assert!(is_reported(&mut feed, &actor_session(&server, &token).to_string()).await);
    assert!(!is_active(&server, &token).await);
    let refused = exchange(&server, &account, &ann.access_token, "").await;
    assert_error(refused, "CLIENT_INVALID", "invalid_client");
    let token = exchange(&server, &rotated, &ann.access_token, "").await.expect("exchanged").access_token;
    assert!(is_active(&server, &token).await);
    server.stop().await;
}

async fn a_rotation_with_an_overlap_ends_no_token(database: TestDatabase) {
    let (server, ann, old, admin) = start(database).await;
    let first = exchange(&server, &old, &ann.access_token, "").await.expect("exchanged").access_token;
    let new = rotate(&server, &admin, &old.id, Some(Duration::from_secs(60))).await.expect("rotated");
    let second = exchange(&server, &old, &ann.access_token, "").await.expect("exchanged").access_token;
    let third = exchange(&server, &new, &ann.access_token, "").await.expect("exchanged").access_token;
    assert_eq!(actor_session(&server, &first), actor_session(&server, &second));
    assert_ne!(actor_session(&server, &first), actor_session(&server, &third), "it has another secret");
    for token in [&first, &second, &third] {
        assert!(is_active(&server, token).await);
    }
    rotate(&server, &admin, &old.id, None).await.expect("rotated");
    for token in [&first, &second, &third] {
        assert!(!is_active(&server, token).await);
    }
    server.stop().await;
}

async fn exchanges_of_a_service_account_share_a_session(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    let first = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged").access_token;
    let bob = server.sign_up_and_login("bob@example.com").await;
    let second = exchange(&server, &account, &bob.access_token, "tasks.read").await.expect("exchanged").access_token;
    let session = actor_session(&server, &first);
    assert_eq!(actor_session(&server, &second), session);
    // The session ends after an hour, which is before a new token would expire.
    server.manual_clock.advance(Duration::from_secs(3600 - 60));
    let bob = server.refresh(&bob.refresh_token).await.expect("refreshed");
    let third = exchange(&server, &account, &bob.access_token, "").await.expect("exchanged").access_token;
    assert_ne!(actor_session(&server, &third), session);
    server.manual_clock.advance(Duration::from_secs(299));
    assert!(is_active(&server, &third).await);
    server.stop().await;
}

async fn a_session_that_the_database_has_lost_is_replaced(database: TestDatabase) {
    let (server, ann, account, _) = start(database).await;
    let lost = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged").access_token;
    execute(&server.database, "delete from sessions where user_id in (select id from service_accounts)").await;
    assert!(!is_active(&server, &lost).await);
    let token = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged").access_token;
    assert!(is_active(&server, &token).await);
    server.stop().await;
}

async fn tokens_of_earlier_versions_have_no_session_of_the_actor(database: TestDatabase) {
    let (server, ann, account, admin) = start(database).await;
    let other = created(&server, &admin, &FORWARDING).await;
    let token = exchange(&server, &account, &ann.access_token, "").await.expect("exchanged").access_token;
    let actors = vec![Actor { id: id(&account.id), session_id: None }];
    let claims = AccessClaims { actors, ..claims(&server, &token) };
    let keys = KeySet::read(&server.database.key_file(), server.clock.now()).expect("a key file");
    let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    let token = token::sign(&keys, &token_args, &claims).expect("signed");
    assert!(is_active(&server, &token).await);
    exchange(&server, &other, &token, "").await.expect("exchanged");
    server.stop().await;
}
