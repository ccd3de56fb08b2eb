//! Logout, session management and profile updates.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    GetMeRequest, ListSessionsRequest, LoginRequest, LogoutRequest, RevokeAllSessionsRequest,
    RevokeOtherSessionsRequest, RevokeSessionRequest, UpdateMeRequest, User,
};
use tonic::Request;

use crate::support::{PASSWORD, Server, bearer};

on_each_database! {
    logout_invalidates_both_tokens,
    logout_by_access_token_ends_its_session,
    logout_is_idempotent,
    logout_with_an_expired_access_token_still_ends_the_session,
    logout_with_a_used_refresh_token_ends_the_session,
    logout_with_an_unknown_refresh_token_succeeds_and_ends_no_session,
    logout_with_an_unknown_refresh_token_uses_the_access_token,
    logout_without_any_token_is_refused,
    a_revoked_token_stays_revoked_after_a_restart,
    sessions_are_listed_with_the_current_one_marked,
    a_session_can_be_ended_from_another_one,
    users_cannot_end_sessions_of_other_users,
    all_other_sessions_can_be_ended,
    all_sessions_can_be_ended,
    the_display_name_can_be_changed,
    an_update_mask_with_read_only_or_unknown_fields_is_rejected,
}

async fn logout_invalidates_both_tokens(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.logout(&pair.refresh_token).await.expect("logged out");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_refused!(Err::<(), _>(server.await_refusal(&pair.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn logout_by_access_token_ends_its_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.auth().logout(bearer(&pair.access_token, LogoutRequest::default())).await.expect("logged out");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_refused!(Err::<(), _>(server.await_refusal(&pair.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.stop().await;
}

async fn logout_is_idempotent(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    for _ in 0..3 {
        server.logout(&pair.refresh_token).await.expect("logged out");
        server.auth().logout(bearer(&pair.access_token, LogoutRequest::default())).await.expect("logged out");
    }
    server.stop().await;
}

async fn logout_with_an_expired_access_token_still_ends_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.manual_clock.advance(std::time::Duration::from_secs(3600));
    assert_refused!(server.get_me(&pair.access_token).await, Unauthenticated, "TOKEN_EXPIRED");
    server.auth().logout(bearer(&pair.access_token, LogoutRequest::default())).await.expect("logged out");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn logout_with_a_used_refresh_token_ends_the_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.refresh(&first.refresh_token).await.expect("refreshed");
    server.logout(&first.refresh_token).await.expect("logged out");
    assert_refused!(server.refresh(&second.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn logout_with_an_unknown_refresh_token_succeeds_and_ends_no_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.logout("an unknown token").await.expect("no error");
    server.refresh(&pair.refresh_token).await.expect("the session is still active");
    server.stop().await;
}

async fn logout_with_an_unknown_refresh_token_uses_the_access_token(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let request = LogoutRequest { refresh_token: "an unknown token".to_owned(), ..LogoutRequest::default() };
    server.auth().logout(bearer(&pair.access_token, request)).await.expect("logged out");
    assert_refused!(server.refresh(&pair.refresh_token).await, Unauthenticated, "REFRESH_TOKEN_INVALID");
    server.stop().await;
}

async fn logout_without_any_token_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    assert_refused!(server.logout("").await, Unauthenticated, "TOKEN_MISSING");
    let garbage = server.auth().logout(bearer("garbage", LogoutRequest::default())).await;
    assert_refused!(garbage, Unauthenticated, "TOKEN_INVALID");
    let mut basic = Request::new(LogoutRequest::default());
    basic.metadata_mut().insert("authorization", "Basic YTpi".parse().expect("ASCII"));
    assert_refused!(server.auth().logout(basic).await, Unauthenticated, "TOKEN_INVALID");
    let long = "x".repeat(513);
    assert_refused!(server.logout(&long).await, InvalidArgument, "VALIDATION_FAILED", "refresh_token");
    server.stop().await;
}

async fn a_revoked_token_stays_revoked_after_a_restart(database: TestDatabase) {
    let server = Server::start(database).await;
    let ended = server.sign_up_and_login("ann@example.com").await;
    let active = server.sign_up_and_login("bob@example.com").await;
    server.logout(&ended.refresh_token).await.expect("logged out");
    let server = Server::start(server.stop().await).await;
    assert_refused!(server.get_me(&ended.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    server.get_me(&active.access_token).await.expect("the token is valid");
    server.stop().await;
}

async fn sessions_are_listed_with_the_current_one_marked(database: TestDatabase) {
    let server = Server::start(database).await;
    server.sign_up_and_login("ann@example.com").await;
    let login = LoginRequest {
        email: "ann@example.com".to_owned(),
        password: PASSWORD.to_owned(),
        session_label: "Ann's phone".to_owned(),
        ..LoginRequest::default()
    };
    let phone = server.auth().login(login).await.expect("logged in").into_inner();
    let sessions = server.account().list_sessions(bearer(&phone.access_token, ListSessionsRequest {})).await;
    let sessions = sessions.expect("listed").into_inner().sessions;
    let listed: Vec<_> = sessions.iter().map(|session| (&session.label[..], session.current)).collect();
    assert_eq!(listed, [("Ann's phone", true), ("", false)]);
    assert_eq!((&sessions[0].id, sessions[0].expire_time), (&phone.session_id, phone.refresh_expire_time));
    server.stop().await;
}

async fn a_session_can_be_ended_from_another_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let lost = server.sign_up_and_login("ann@example.com").await;
    let current = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let request = || bearer(&current.access_token, RevokeSessionRequest { session_id: lost.session_id.clone() });
    server.account().revoke_session(request()).await.expect("revoked");
    assert_refused!(Err::<(), _>(server.await_refusal(&lost.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    server.get_me(&current.access_token).await.expect("the token is valid");
    assert_refused!(server.account().revoke_session(request()).await, NotFound, "SESSION_NOT_FOUND");
    server.stop().await;
}

async fn users_cannot_end_sessions_of_other_users(database: TestDatabase) {
    let server = Server::start(database).await;
    let (ann, bob) =
        (server.sign_up_and_login("ann@example.com").await, server.sign_up_and_login("bob@example.com").await);
    let revoke = async |session_id: &str| {
        let request = RevokeSessionRequest { session_id: session_id.to_owned() };
        server.account().revoke_session(bearer(&bob.access_token, request)).await
    };
    assert_refused!(revoke(&ann.session_id).await, NotFound, "SESSION_NOT_FOUND");
    assert_refused!(revoke("").await, InvalidArgument, "VALIDATION_FAILED", "session_id");
    assert_refused!(revoke("'; drop table users").await, InvalidArgument, "VALIDATION_FAILED", "session_id");
    server.refresh(&ann.refresh_token).await.expect("the session is still active");
    server.stop().await;
}

async fn all_other_sessions_can_be_ended(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.sign_up_and_login("ann@example.com").await;
    let second = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let current = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let bob = server.sign_up_and_login("bob@example.com").await;
    let revoked =
        server.account().revoke_other_sessions(bearer(&current.access_token, RevokeOtherSessionsRequest {})).await;
    assert_eq!(revoked.expect("revoked").into_inner().revoked_count, 2);
    for other in [first, second] {
        assert_refused!(
            Err::<(), _>(server.await_refusal(&other.access_token).await),
            Unauthenticated,
            "TOKEN_REVOKED"
        );
    }
    server.get_me(&current.access_token).await.expect("the token is valid");
    server.get_me(&bob.access_token).await.expect("the token is valid");
    server.stop().await;
}

async fn all_sessions_can_be_ended(database: TestDatabase) {
    let server = Server::start(database).await;
    let other = server.sign_up_and_login("ann@example.com").await;
    let current = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    let revoked =
        server.account().revoke_all_sessions(bearer(&current.access_token, RevokeAllSessionsRequest {})).await;
    assert_eq!(revoked.expect("revoked").into_inner().revoked_count, 2);
    for pair in [other, current] {
        assert_refused!(Err::<(), _>(server.await_refusal(&pair.access_token).await), Unauthenticated, "TOKEN_REVOKED");
    }
    server.stop().await;
}

fn update_name_request(access_token: &str, name: &str, paths: &[&str]) -> Request<UpdateMeRequest> {
    let user = Some(User { display_name: name.to_owned(), ..User::default() });
    let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(prost_types::FieldMask { paths });
    bearer(access_token, UpdateMeRequest { user, update_mask })
}

async fn the_display_name_can_be_changed(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.sign_up_and_login("ann@example.com").await.access_token;
    let mut account = server.account();
    for (name, mask, expected) in [
        ("Ann", &[][..], "Ann"),
        ("", &[], "Ann"),
        ("Bee", &["display_name"], "Bee"),
        ("", &["display_name"], ""),
        ("Cee", &["*"], "Cee"),
    ] {
        let user = account.update_me(update_name_request(&token, name, mask)).await.expect("changed").into_inner();
        assert_eq!(user.display_name, expected, "{name:?} {mask:?}");
        assert_eq!(account.get_me(bearer(&token, GetMeRequest {})).await.expect("returned").into_inner(), user);
    }
    server.stop().await;
}

async fn an_update_mask_with_read_only_or_unknown_fields_is_rejected(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.sign_up_and_login("ann@example.com").await.access_token;
    for path in ["email", "roles", "id", "nothing", "display_name.x", "displayName"] {
        let outcome = server.account().update_me(update_name_request(&token, "Ann", &["display_name", path])).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    }
    let outcome = server.account().update_me(update_name_request(&token, "a\0", &[])).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "user.display_name");
    let outcome = server.account().update_me(bearer(&token, UpdateMeRequest::default())).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "user");
    server.stop().await;
}
