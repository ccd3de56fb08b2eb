//! Calls of the RPCs of passkeys.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::{
    BeginPasskeyLoginRequest, BeginPasskeyReauthenticationRequest, BeginPasskeyRequest, FinishPasskeyLoginRequest,
    FinishPasskeyRequest, FinishPasskeyResponse, LoginChallenge, TokenPair, factor_service_client::FactorServiceClient,
};
use tonic::{Response, Status, transport::Channel};

use super::authenticator::{Authenticator, ORIGIN};
use crate::support::{PASSWORD, Server, bearer};

pub const FLAGS: [&str; 2] = ["--public-url", ORIGIN];

/// Starts a server that permits passkeys, and logs in a user.
pub async fn start(database: TestDatabase) -> (Server, TokenPair) {
    let server = Server::start_with(database, &FLAGS).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    (server, pair)
}

pub fn factors(server: &Server) -> FactorServiceClient<Channel> {
    FactorServiceClient::new(server.channel.clone())
}

pub async fn creation_options(server: &Server, access_token: &str) -> String {
    let begun = factors(server).begin_passkey(bearer(access_token, BeginPasskeyRequest {})).await;
    begun.expect("options").into_inner().options
}

/// Creates a passkey, and stores it with the label of a phone.
pub async fn add_passkey(
    server: &Server,
    access_token: &str,
    device: &mut Authenticator,
) -> Result<FinishPasskeyResponse, Status> {
    let begun = factors(server).begin_passkey(bearer(access_token, BeginPasskeyRequest {})).await?;
    let response = device.create(&begun.into_inner().options);
    finish_registration(server, access_token, response).await
}

pub async fn finish_registration(
    server: &Server,
    access_token: &str,
    response: String,
) -> Result<FinishPasskeyResponse, Status> {
    let request = FinishPasskeyRequest { response, label: "phone".to_owned() };
    factors(server).finish_passkey(bearer(access_token, request)).await.map(Response::into_inner)
}

pub async fn login_options(server: &Server) -> String {
    server.auth().begin_passkey_login(BeginPasskeyLoginRequest {}).await.expect("options").into_inner().options
}

pub async fn reauthentication_options(server: &Server, access_token: &str) -> Result<String, Status> {
    let request = bearer(access_token, BeginPasskeyReauthenticationRequest {});
    Ok(server.account().begin_passkey_reauthentication(request).await?.into_inner().options)
}

pub async fn log_in(server: &Server, device: &mut Authenticator) -> Result<TokenPair, Status> {
    let response = device.get(&login_options(server).await);
    finish(server, response).await
}

pub async fn finish(server: &Server, response: String) -> Result<TokenPair, Status> {
    let request = FinishPasskeyLoginRequest { response, session_label: "passkey".to_owned() };
    server.auth().finish_passkey_login(request).await.map(Response::into_inner)
}

/// Returns the challenge of a login with the password.
pub async fn login_challenge(server: &Server, email: &str) -> LoginChallenge {
    server.login(email, PASSWORD).await.expect("the password is correct").challenge.expect("there is a second factor")
}

pub async fn second_factor_options(server: &Server, email: &str) -> String {
    login_challenge(server, email).await.passkey_options
}

/// Returns the claim `amr` of an access token.
pub fn methods(pair: &TokenPair) -> String {
    let claims = pair.access_token.split('.').nth(1).expect("claims");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let methods = claims["amr"].as_array().expect("a list").iter();
    methods.map(|method| method.as_str().expect("a text")).collect::<Vec<_>>().join(" ")
}
