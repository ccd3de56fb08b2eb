//! A session proves the password or a second factor again.

use std::time::Duration;

use serde_json::json;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, call_raw},
};
use taskey_proto::auth::v1::{
    AuditEvent, ListMySecurityEventsRequest, ReauthenticateRequest, ReauthenticateResponse, audit_event::Kind,
    reauthenticate_request::Proof,
};
use tonic::Status;

use super::{code, enroll, list_factors, wrong_code};
use crate::{
    authentication::claims,
    personal_access_tokens::created,
    support::{PASSWORD, Server, bearer},
};

on_each_database! {
    each_proof_renews_the_time_of_authentication,
    wrong_proofs_are_refused_and_recorded,
    a_code_is_good_once,
    wrong_codes_delay_further_proofs,
    personal_access_tokens_cannot_reauthenticate,
}

pub fn password(password: &str) -> Proof {
    Proof::CurrentPassword(password.to_owned())
}

fn totp(code: &str) -> Proof {
    Proof::TotpCode(code.to_owned())
}

fn recovery(code: &str) -> Proof {
    Proof::RecoveryCode(code.to_owned())
}

pub async fn reauthenticate(
    server: &Server,
    access_token: &str,
    proof: impl Into<Option<Proof>>,
) -> Result<ReauthenticateResponse, Status> {
    let request = bearer(access_token, ReauthenticateRequest { proof: proof.into() });
    server.account().reauthenticate(request).await.map(tonic::Response::into_inner)
}

async fn each_proof_renews_the_time_of_authentication(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let proofs = [Some(password(PASSWORD)), Some(recovery(&ann.recovery_codes[0])), None];
    let first = claims(&ann.pair.access_token);
    for (index, proof) in proofs.into_iter().enumerate() {
        server.manual_clock.advance(Duration::from_secs(60));
        let proof = proof.unwrap_or_else(|| totp(&code(&server, &ann.secret)));
        let renewed = reauthenticate(&server, &ann.pair.access_token, proof).await.expect("proved");
        let claims = claims(&renewed.access_token);
        assert_eq!(claims["auth_time"], json!(server.clock.now().as_seconds()));
        assert_eq!(claims["sid"], first["sid"]);
        let expected = if index == 0 { json!(["pwd"]) } else { json!(["pwd", "otp", "mfa"]) };
        assert_eq!(claims["amr"], expected);
        let lifetime = renewed.access_lifetime.expect("set").seconds;
        assert!(renewed.token_type == "Bearer" && (299..=300).contains(&lifetime), "{lifetime}");
        server.get_me(&renewed.access_token).await.expect("accepted");
    }
    assert_eq!(list_factors(&server, &ann.pair.access_token).await.unused_recovery_codes, 9);
    let authenticated_at = server.clock.now().as_seconds();
    server.manual_clock.advance(Duration::from_secs(60));
    let refreshed = server.refresh(&ann.pair.refresh_token).await.expect("the refresh token is the same");
    assert_eq!(claims(&refreshed.access_token)["auth_time"], json!(authenticated_at));
    server.stop().await;
}

async fn wrong_proofs_are_refused_and_recorded(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let access = &ann.pair.access_token;
    let outcome = reauthenticate(&server, access, password("wrong horse battery staple")).await;
    assert_refused!(outcome, PermissionDenied, "CREDENTIALS_INVALID", "current_password");
    let outcome = reauthenticate(&server, access, totp(&wrong_code(&server, &ann.secret))).await;
    assert_refused!(outcome, Unauthenticated, "CODE_INVALID");
    let unknown = recovery("AAAA-AAAA-AAAA-AAAA");
    assert_refused!(reauthenticate(&server, access, unknown).await, Unauthenticated, "CODE_INVALID");
    for (proof, field) in [
        (None, "current_password"),
        (Some(password("")), "current_password"),
        (Some(totp("1")), "totp_code"),
        (Some(recovery("1")), "recovery_code"),
    ] {
        let outcome = reauthenticate(&server, access, proof).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    let request = bearer(access, ListMySecurityEventsRequest::default());
    let events = server.account().list_my_security_events(request).await.expect("listed").into_inner().events;
    let kinds: Vec<_> = events.iter().take(3).map(AuditEvent::kind).collect();
    assert_eq!(kinds, [Kind::FactorCodeWrong, Kind::FactorCodeWrong, Kind::CurrentPasswordWrong]);
    assert!(events.iter().take(3).all(|event| event.details["attempted"] == "KIND_REAUTHENTICATED"));
    server.stop().await;
}

async fn a_code_is_good_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let access = &ann.pair.access_token;
    for proof in [totp(&code(&server, &ann.secret)), recovery(&ann.recovery_codes[0])] {
        reauthenticate(&server, access, proof.clone()).await.expect("proved");
        assert_refused!(reauthenticate(&server, access, proof).await, Unauthenticated, "CODE_INVALID");
    }
    server.stop().await;
}

async fn wrong_codes_delay_further_proofs(database: TestDatabase) {
    let flags = ["--login-rate", "1000000+1/s", "--sign-up-rate", "1000000+1/s"];
    let server = Server::start_with(database, &flags).await;
    let ann = enroll(&server, "ann@example.com").await;
    let access = &ann.pair.access_token;
    let wrong = totp(&wrong_code(&server, &ann.secret));
    assert_refused!(reauthenticate(&server, access, wrong).await, Unauthenticated, "CODE_INVALID");
    for proof in [password(PASSWORD), totp(&code(&server, &ann.secret))] {
        assert_refused!(reauthenticate(&server, access, proof).await, ResourceExhausted, "RATE_LIMITED");
    }
    server.manual_clock.advance(Duration::from_secs(1));
    reauthenticate(&server, access, totp(&code(&server, &ann.secret))).await.expect("proved");
    server.stop().await;
}

async fn personal_access_tokens_cannot_reauthenticate(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.write"]).await;
    let path = "/taskey.auth.v1.AccountService/Reauthenticate";
    let outcome = call_raw(&server.channel, path, bearer(&token.secret, Vec::new())).await;
    assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    server.stop().await;
}
