//! A passkey completes a login with a password.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::auth::v1::{
    CompleteLoginRequest, LoginRequest, TokenPair, complete_login_request::Factor, login_challenge::Method,
};
use tonic::{Response, Status};

use super::{
    authenticator::Authenticator,
    support::{FLAGS, add_passkey, finish, login_challenge, login_options, methods, start},
};
use crate::support::{PASSWORD, Server};

on_each_database! {
    passkey_completes_a_login,
    code_is_ignored_without_an_authenticator_app,
    responses_for_other_logins_are_refused,
}

async fn complete(server: &Server, token: &str, response: String) -> Result<TokenPair, Status> {
    let factor = Some(Factor::PasskeyResponse(response));
    let request = CompleteLoginRequest { challenge_token: token.to_owned(), factor };
    server.auth().complete_login(request).await.map(Response::into_inner)
}

async fn passkey_completes_a_login(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let mut device = Authenticator::new();
    device.verifies_user = false;
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let challenge = login_challenge(&server, "ann@example.com").await;
    assert_eq!(challenge.methods().collect::<Vec<_>>(), [Method::RecoveryCode, Method::Passkey]);
    let response = device.get(&challenge.passkey_options);
    let session = complete(&server, &challenge.token, response.clone()).await.expect("completed");
    assert_eq!(methods(&session), "pwd hwk mfa");

    let repeated = complete(&server, &challenge.token, response.clone()).await;
    assert_refused!(repeated, Unauthenticated, "CHALLENGE_INVALID");
    let next = login_challenge(&server, "ann@example.com").await;
    assert_refused!(complete(&server, &next.token, response).await, Unauthenticated, "PASSKEY_INVALID");
    server.stop().await;
}

async fn code_is_ignored_without_an_authenticator_app(database: TestDatabase) {
    let server = Server::start_with(database, &[&FLAGS[..], &["--login-rate", "1000000+1/s"]].concat()).await;
    let ann = server.sign_up_and_login("ann@example.com").await;
    add_passkey(&server, &ann.access_token, &mut Authenticator::new()).await.expect("added");
    for _ in 0..3 {
        let request = LoginRequest {
            email: "ann@example.com".to_owned(),
            password: PASSWORD.to_owned(),
            totp_code: "123456".to_owned(),
            ..LoginRequest::default()
        };
        // A code that counted as wrong would delay the next login.
        let login = server.auth().login(request).await.expect("the password is correct").into_inner();
        let challenge = login.challenge.expect("a challenge");
        assert_eq!(challenge.methods().collect::<Vec<_>>(), [Method::RecoveryCode, Method::Passkey]);
    }
    server.stop().await;
}

async fn responses_for_other_logins_are_refused(database: TestDatabase) {
    let (server, pair) = start(database).await;
    let (mut device, mut other) = (Authenticator::new(), Authenticator::new());
    add_passkey(&server, &pair.access_token, &mut device).await.expect("added");
    let ben = server.sign_up_and_login("ben@example.com").await;
    add_passkey(&server, &ben.access_token, &mut other).await.expect("added");
    let challenge = login_challenge(&server, "ann@example.com").await;
    let of_ben = login_challenge(&server, "ben@example.com").await;
    for (what, response) in [
        ("a login without a password", device.get(&login_options(&server).await)),
        ("the login of another account", device.get(&of_ben.passkey_options)),
        ("the passkey of another account", other.get(&challenge.passkey_options)),
    ] {
        let status = complete(&server, &challenge.token, response).await.expect_err(what);
        assert_refused!(Err::<(), _>(status), Unauthenticated, "PASSKEY_INVALID");
    }
    // The reverse: the response to this challenge does not replace the password.
    let without_password = finish(&server, device.get(&challenge.passkey_options)).await;
    assert_refused!(without_password, Unauthenticated, "PASSKEY_INVALID");
    let response = device.get(&challenge.passkey_options);
    complete(&server, &challenge.token, response).await.expect("the challenge is still valid");
    server.stop().await;
}
