//! Second factors: authenticator apps and recovery codes, and logins with them.

mod administrators;
mod email_undo;
mod keys;
mod login;
mod management;
mod model;
pub mod reauthentication;
pub mod single_use;
mod step_up;
mod tools;

use std::time::Duration;

use aws_lc_rs::hmac;
use service_kit::clock::Timestamp;
use taskey_proto::auth::v1::{
    CompleteLoginRequest, ConfirmTotpRequest, ConfirmTotpResponse, CreateTotpRequest, CreateTotpResponse, Factor,
    ListFactorsRequest, ListFactorsResponse, LoginChallenge, TokenPair, complete_login_request::Factor as LoginFactor,
    factor_service_client::FactorServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::support::{PASSWORD, Server, bearer};

/// How long a code is shown.
const STEP: Duration = Duration::from_secs(30);

fn client(server: &Server) -> FactorServiceClient<Channel> {
    FactorServiceClient::new(server.channel.clone())
}

/// Decodes base32 (RFC 4648) of a whole number of bytes.
fn decode_base32(text: &str) -> Vec<u8> {
    let (mut buffer, mut bits, mut bytes) = (0_u32, 0, Vec::new());
    for character in text.chars() {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(character).expect("a character of base32");
        buffer = (buffer << 5) | u32::try_from(value).expect("below 32");
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits).to_be_bytes()[3]);
        }
    }
    bytes
}

/// Returns the code that an authenticator app shows at a time (RFC 6238).
fn code_at(secret: &str, at: Timestamp) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &decode_base32(secret));
    let step = at.as_seconds() / 30;
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let offset = usize::from(tag.as_ref()[19] % 16);
    let number = u32::from_be_bytes(tag.as_ref()[offset..offset + 4].try_into().expect("4 bytes"));
    format!("{:06}", number % (1 << 31) % 1_000_000)
}

/// Returns the code that an authenticator app shows now.
fn code(server: &Server, secret: &str) -> String {
    code_at(secret, server.clock.now())
}

/// Returns a six-digit code that no app of the secret shows about now.
fn wrong_code(server: &Server, secret: &str) -> String {
    let now = server.clock.now();
    let shown = [now - STEP, now, now + STEP].map(|at| code_at(secret, at));
    (0..4).map(|number| format!("{number:06}")).find(|code| !shown.contains(code)).expect("another code")
}

async fn create_totp(server: &Server, access_token: &str) -> Result<CreateTotpResponse, Status> {
    let request = bearer(access_token, CreateTotpRequest { label: "phone".to_owned() });
    client(server).create_totp(request).await.map(tonic::Response::into_inner)
}

async fn confirm_totp(
    server: &Server,
    access_token: &str,
    factor_id: &str,
    code: &str,
) -> Result<ConfirmTotpResponse, Status> {
    let request = ConfirmTotpRequest { factor_id: factor_id.to_owned(), code: code.to_owned() };
    client(server).confirm_totp(bearer(access_token, request)).await.map(tonic::Response::into_inner)
}

async fn list_factors(server: &Server, access_token: &str) -> ListFactorsResponse {
    let listed = client(server).list_factors(bearer(access_token, ListFactorsRequest {})).await;
    listed.expect("listed").into_inner()
}

/// Adds an authenticator app to the account of an access token.
pub async fn add_totp_to(server: &Server, access_token: &str) {
    let created = create_totp(server, access_token).await.expect("created");
    let code = code(server, &created.secret);
    confirm_totp(server, access_token, &created.factor_id, &code).await.expect("confirmed");
}

/// A user with an authenticator app, and a session from before it was added.
struct Enrolled {
    pair: TokenPair,
    factor: Factor,
    secret: String,
    recovery_codes: Vec<String>,
}

/// Adds an authenticator app to an account. Afterwards, the app shows the next code.
async fn add_totp(server: &Server, pair: TokenPair) -> Enrolled {
    let created = create_totp(server, &pair.access_token).await.expect("created");
    let code = code(server, &created.secret);
    let confirmed = confirm_totp(server, &pair.access_token, &created.factor_id, &code).await.expect("confirmed");
    server.manual_clock.advance(STEP);
    let ConfirmTotpResponse { factor, recovery_codes } = confirmed;
    Enrolled { pair, factor: factor.expect("a factor"), secret: created.secret, recovery_codes }
}

/// Signs up a user with an authenticator app.
async fn enroll(server: &Server, email: &str) -> Enrolled {
    let pair = server.sign_up_and_login(email).await;
    add_totp(server, pair).await
}

/// Logs in with the password, which must return a challenge.
async fn challenge(server: &Server, email: &str) -> LoginChallenge {
    let pair = server.login(email, PASSWORD).await.expect("the password is correct");
    assert_eq!((&pair.access_token[..], &pair.refresh_token[..], pair.user.is_none()), ("", "", true));
    pair.challenge.expect("a challenge")
}

fn totp(code: &str) -> LoginFactor {
    LoginFactor::TotpCode(code.to_owned())
}

fn recovery(code: &str) -> LoginFactor {
    LoginFactor::RecoveryCode(code.to_owned())
}

async fn complete(server: &Server, challenge_token: &str, factor: LoginFactor) -> Result<TokenPair, Status> {
    let request = CompleteLoginRequest { challenge_token: challenge_token.to_owned(), factor: Some(factor) };
    server.auth().complete_login(request).await.map(tonic::Response::into_inner)
}
