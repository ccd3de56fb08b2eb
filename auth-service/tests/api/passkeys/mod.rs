//! Passkeys: registration, logins without a password, and as second factor. An authenticator in software signs.

mod authenticator;
mod counter;
mod email_undo;
mod model;
mod reauthentication;
mod registration;
mod second_factor;
mod support;

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{FinishPasskeyLoginRequest, ListSessionsRequest};

use self::{
    authenticator::Authenticator,
    support::{FLAGS, add_passkey, log_in, login_options, methods, start},
};
use crate::support::{Server, bearer, start_replica_with};

on_each_database! {
    passkey_logs_in_without_a_password,
    responses_of_others_are_refused,
    challenge_starts_one_session_on_two_replicas,
    challenge_expires,
    disabled_server_refuses_passkeys,
}

async fn passkey_logs_in_without_a_password(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let session = log_in(&server, &mut device).await.expect("logged in");
    assert_eq!(session.user, pair.user);
    assert_eq!(methods(&session), "hwk mfa");
    assert!(server.get_me(&session.access_token).await.is_ok());
    device.is_backed_up = true;
    let session = log_in(&server, &mut device).await.expect("a passkey may be copied to other devices later");
    assert_eq!(methods(&session), "swk mfa");
    let request = bearer(&session.access_token, ListSessionsRequest {});
    let sessions = server.account().list_sessions(request).await.expect("listed").into_inner().sessions;
    let labels: Vec<_> = sessions.iter().map(|session| session.label.as_str()).collect();
    assert_eq!(labels, ["passkey", "passkey", ""]);
    server.stop().await;
}

async fn responses_of_others_are_refused(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let challenge_of_factor = support::second_factor_options(&server, "ann@example.com").await;
    let options = login_options(&server).await;
    for (what, response) in [
        ("another challenge", device.get(&challenge_of_factor)),
        ("a registration", device.create(&support::creation_options(&server, &pair.access_token).await)),
        ("an unknown passkey", Authenticator::new().get(&options)),
        ("another origin", device.with_origin("https://example.com").get(&options)),
        ("another site", device.get(&options.replace("tasks.example.org", "example.com"))),
        ("another user", device.with_user_handle(&[7; 32]).get(&options)),
        ("a user that is not verified", device.without_verification().get(&options)),
        ("a wrong signature", Authenticator::with_id_of(&device).get(&options)),
        ("no JSON", "{".to_owned()),
        ("a long response", "a".repeat(64 * 1024)),
    ] {
        let refused = support::finish(&server, response).await;
        let status = refused.expect_err(what);
        assert_refused!(Err::<(), _>(status), Unauthenticated, "PASSKEY_INVALID");
    }
    assert!(support::finish(&server, device.get(&options)).await.is_ok(), "the challenge is still valid");
    server.stop().await;
}

async fn challenge_starts_one_session_on_two_replicas(database: TestDatabase) {
    const CALLS: usize = 20;
    let (server, pair) = start(database).await;
    let replica = start_replica_with(&server, server.clock.clone(), &FLAGS).await;
    let mut device = Authenticator::new();
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let response = device.get(&login_options(&server).await);
    let finish = |index: usize| {
        let mut client = if index.is_multiple_of(2) { server.auth() } else { replica.auth() };
        let request = FinishPasskeyLoginRequest { response: response.clone(), session_label: String::new() };
        async move { client.finish_passkey_login(request).await }
    };
    let outcomes = join_all((0..CALLS).map(finish)).await;
    let (started, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((started.len(), refused.len()), (1, CALLS - 1));
    for outcome in refused {
        assert_refused!(outcome, Unauthenticated, "PASSKEY_INVALID");
    }
    replica.stop().await;
    server.stop().await;
}

async fn challenge_expires(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let response = device.get(&login_options(&server).await);
    server.manual_clock.advance(std::time::Duration::from_secs(300));
    assert_refused!(support::finish(&server, response).await, Unauthenticated, "PASSKEY_INVALID");
    server.stop().await;
}

async fn disabled_server_refuses_passkeys(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let options = server.auth().begin_passkey_login(taskey_proto::auth::v1::BeginPasskeyLoginRequest {}).await;
    assert_refused!(options, FailedPrecondition, "PASSKEYS_DISABLED");
    let added = add_passkey(&server, &pair.access_token, &mut Authenticator::new()).await;
    assert_refused!(added, FailedPrecondition, "PASSKEYS_DISABLED");
    let options = support::reauthentication_options(&server, &pair.access_token).await;
    assert_refused!(options, FailedPrecondition, "PASSKEYS_DISABLED");
    server.stop().await;
}
