//! A passkey proves the identity of the user of a session again.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, call_raw},
};
use taskey_proto::auth::v1::{ReauthenticateRequest, ReauthenticateResponse, reauthenticate_request::Proof};
use tonic::{Response, Status};

use super::{
    authenticator::Authenticator,
    support::{FLAGS, add_passkey, login_options, reauthentication_options, second_factor_options, start},
};
use crate::{
    authentication::claims,
    personal_access_tokens::created,
    support::{PASSWORD, Server, bearer, start_replica_with},
};

on_each_database! {
    passkey_renews_the_time_of_authentication,
    refused_responses_do_not_count_as_wrong_passwords,
    responses_for_anything_else_are_refused,
    challenge_is_good_once_on_two_replicas,
    accounts_without_a_passkey_get_no_challenge,
    personal_access_tokens_get_no_challenge,
}

async fn prove(server: &Server, access_token: &str, proof: Proof) -> Result<ReauthenticateResponse, Status> {
    let request = bearer(access_token, ReauthenticateRequest { proof: Some(proof) });
    server.account().reauthenticate(request).await.map(Response::into_inner)
}

async fn reauthenticate(
    server: &Server,
    access_token: &str,
    response: String,
) -> Result<ReauthenticateResponse, Status> {
    prove(server, access_token, Proof::PasskeyResponse(response)).await
}

async fn passkey_renews_the_time_of_authentication(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let access = &pair.access_token;
    let mut device = Authenticator::new();
    device.verifies_user = false;
    add_passkey(&server, access, &mut device).await.expect("added");
    server.manual_clock.advance(Duration::from_secs(60));
    let response = device.get(&reauthentication_options(&server, access).await.expect("options"));
    let renewed = reauthenticate(&server, access, response).await.expect("proved");
    let claims = claims(&renewed.access_token);
    assert_eq!(claims["auth_time"], json!(server.clock.now().as_seconds()));
    assert_eq!(claims["amr"], json!(["pwd", "hwk", "mfa"]));
    server.get_me(&renewed.access_token).await.expect("accepted");

    server.stop().await;
}

/// Signatures cannot be guessed.
async fn refused_responses_do_not_count_as_wrong_passwords(database: TestDatabase) {
    let throttled = ["--login-rate", "1000000+1/s", "--sign-up-rate", "1000000+1/s"];
    let server = Server::start_with(database, &[&FLAGS[..], &throttled].concat()).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let mut device = Authenticator::new();
    add_passkey(&server, &access, &mut device).await.expect("added");
    let response = device.get(&reauthentication_options(&server, &access).await.expect("options"));
    reauthenticate(&server, &access, response.clone()).await.expect("proved");
    for refused in [response, device.get(&login_options(&server).await)] {
        assert_refused!(reauthenticate(&server, &access, refused).await, Unauthenticated, "PASSKEY_INVALID");
    }
    prove(&server, &access, Proof::CurrentPassword(PASSWORD.to_owned())).await.expect("not delayed");
    let wrong = prove(&server, &access, Proof::CurrentPassword("a wrong password".to_owned())).await;
    assert_refused!(wrong, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let delayed = prove(&server, &access, Proof::CurrentPassword(PASSWORD.to_owned())).await;
    assert_refused!(delayed, ResourceExhausted, "RATE_LIMITED");
    server.stop().await;
}

async fn responses_for_anything_else_are_refused(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let access = &pair.access_token;
    let (mut device, mut other) = (Authenticator::new(), Authenticator::new());
    let second_session = server.login("ann@example.com", PASSWORD).await.expect("logged in").access_token;
    add_passkey(&server, access, &mut device).await.expect("added");
    let ben = server.sign_up_and_login("ben@example.com").await.access_token;
    add_passkey(&server, &ben, &mut other).await.expect("added");
    let options = reauthentication_options(&server, access).await.expect("options");
    let of_session = reauthentication_options(&server, &second_session).await.expect("options");
    let of_ben = reauthentication_options(&server, &ben).await.expect("options");
    for (what, response) in [
        ("a login without a password", device.get(&login_options(&server).await)),
        ("a second factor", device.get(&second_factor_options(&server, "ann@example.com").await)),
        ("another session", device.get(&of_session)),
        ("another account", device.get(&of_ben)),
        ("the passkey of another account", other.get(&options)),
        ("another origin", device.with_origin("https://example.com").get(&options)),
        ("no JSON", "{".to_owned()),
        ("nothing", String::new()),
        ("a long response", "a".repeat(64 * 1024)),
    ] {
        let status = reauthenticate(&server, access, response).await.expect_err(what);
        assert_refused!(Err::<(), _>(status), Unauthenticated, "PASSKEY_INVALID");
    }
    // The reverse: the response to this challenge does not log in.
    let login = super::support::finish(&server, device.get(&options)).await;
    assert_refused!(login, Unauthenticated, "PASSKEY_INVALID");
    reauthenticate(&server, access, device.get(&options)).await.expect("the challenge is still valid");
    let response = device.get(&reauthentication_options(&server, access).await.expect("options"));
    server.manual_clock.advance(Duration::from_secs(300));
    let access = server.refresh(&pair.refresh_token).await.expect("refreshed").access_token;
    assert_refused!(reauthenticate(&server, &access, response).await, Unauthenticated, "PASSKEY_INVALID");
    server.stop().await;
}

async fn challenge_is_good_once_on_two_replicas(database: TestDatabase) {
    const CALLS: usize = 20;
    let (server, pair) = start(database).await;
    let replica = start_replica_with(&server, server.clock.clone(), &FLAGS).await;
    let mut device = Authenticator::new();
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let response = device.get(&reauthentication_options(&server, &pair.access_token).await.expect("options"));
    let prove = |index: usize| {
        let mut client = if index.is_multiple_of(2) { server.account() } else { replica.account() };
        let proof = Some(Proof::PasskeyResponse(response.clone()));
        let request = bearer(&pair.access_token, ReauthenticateRequest { proof });
        async move { client.reauthenticate(request).await }
    };
    let outcomes = join_all((0..CALLS).map(prove)).await;
    let (proved, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((proved.len(), refused.len()), (1, CALLS - 1));
    for outcome in refused {
        assert_refused!(outcome, Unauthenticated, "PASSKEY_INVALID");
    }
    replica.stop().await;
    server.stop().await;
}

async fn accounts_without_a_passkey_get_no_challenge(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let options = reauthentication_options(&server, &pair.access_token).await;
    assert_refused!(options, NotFound, "FACTOR_NOT_FOUND");
    server.stop().await;
}

async fn personal_access_tokens_get_no_challenge(database: TestDatabase) {
    let (server, pair) = start(database).await;
    add_passkey(&server, &pair.access_token, &mut Authenticator::new()).await.expect("added");
    let token = created(&server, &pair.access_token, &["account.write"]).await;
    let path = "/taskey.auth.v1.AccountService/BeginPasskeyReauthentication";
    let outcome = call_raw(&server.channel, path, bearer(&token.secret, Vec::new())).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    server.stop().await;
}
