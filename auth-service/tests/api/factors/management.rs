//! Authenticator apps are added, listed, renamed and deleted by their owner.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, call_raw},
};
use taskey_proto::auth::v1::{
    DeleteFactorRequest, ExportMeRequest, Factor, ListMySecurityEventsRequest, RegenerateRecoveryCodesRequest,
    UpdateFactorRequest, audit_event::Kind, factor::Type,
};
use tonic::Status;

use super::{
    STEP, add_totp, challenge, client, code, complete, confirm_totp, create_totp, enroll, list_factors, recovery, totp,
    wrong_code,
};
use crate::{
    mail,
    personal_access_tokens::created,
    support::{PASSWORD, Server, bearer, query_string},
};

on_each_database! {
    a_confirmed_authenticator_app_is_a_factor,
    an_unconfirmed_secret_expires_and_is_replaced,
    the_code_of_the_confirmation_cannot_be_used_to_log_in,
    wrong_codes_do_not_confirm,
    an_account_has_at_most_ten_factors,
    only_the_first_factor_returns_recovery_codes,
    recovery_codes_can_be_replaced,
    the_label_can_be_changed,
    the_last_deleted_factor_takes_the_recovery_codes_with_it,
    factors_of_other_accounts_do_not_exist,
    personal_access_tokens_cannot_manage_factors,
    the_owner_gets_a_mail_about_each_change,
    a_deleted_account_leaves_no_factors,
}

async fn a_confirmed_authenticator_app_is_a_factor(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let created = create_totp(&server, &pair.access_token).await.expect("created");
    assert!(list_factors(&server, &pair.access_token).await.factors.is_empty(), "not confirmed yet");
    assert_eq!(
        created.uri,
        format!(
            "otpauth://totp/Taskey:ann%40example.com?secret={}&issuer=Taskey&algorithm=SHA1&digits=6&period=30",
            created.secret
        )
    );
    assert!(created.qr_svg.starts_with("<svg ") && created.secret.len() == 32);
    let stored = query_string(&server.database, "select sealed_secret from factors").await;
    assert!(stored.len() > 60 && !stored.contains(&created.secret), "the secret is encrypted");

    let shown = code(&server, &created.secret);
    let confirmed = confirm_totp(&server, &pair.access_token, &created.factor_id, &shown).await.expect("confirmed");
    assert_eq!(confirmed.recovery_codes.len(), 10);
    let listed = list_factors(&server, &pair.access_token).await;
    assert_eq!((listed.factors.len(), listed.unused_recovery_codes), (1, 10));
    let factor = &listed.factors[0];
    assert_eq!((&factor.id, factor.r#type(), &factor.label[..]), (&created.factor_id, Type::Totp, "phone"));
    assert_eq!((confirmed.factor.as_ref(), factor.last_use_time), (Some(factor), None));
    let exported = server.account().export_me(bearer(&pair.access_token, ExportMeRequest::default())).await;
    assert_eq!(exported.expect("exported").into_inner().factors, listed.factors);
    let again = confirm_totp(&server, &pair.access_token, &created.factor_id, &shown).await;
    assert_refused!(again, NotFound, "FACTOR_NOT_FOUND");
    server.stop().await;
}

async fn an_unconfirmed_secret_expires_and_is_replaced(database: TestDatabase) {
    let server = Server::start_with(database, &["--step-up-max-age", "1h"]).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let replaced = create_totp(&server, &access).await.expect("created");
    let expired = create_totp(&server, &access).await.expect("created");
    let shown = code(&server, &replaced.secret);
    let outcome = confirm_totp(&server, &access, &replaced.factor_id, &shown).await;
    assert_refused!(outcome, NotFound, "FACTOR_NOT_FOUND");
    server.manual_clock.advance(Duration::from_secs(600));
    let access = server.login("ann@example.com", PASSWORD).await.expect("no factor yet").access_token;
    let shown = code(&server, &expired.secret);
    assert_refused!(confirm_totp(&server, &access, &expired.factor_id, &shown).await, NotFound, "FACTOR_NOT_FOUND");
    server.stop().await;
}

async fn the_code_of_the_confirmation_cannot_be_used_to_log_in(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let created = create_totp(&server, &pair.access_token).await.expect("created");
    let shown = code(&server, &created.secret);
    confirm_totp(&server, &pair.access_token, &created.factor_id, &shown).await.expect("confirmed");
    let token = challenge(&server, "ann@example.com").await.token;
    assert_refused!(complete(&server, &token, totp(&shown)).await, Unauthenticated, "CODE_INVALID");
    server.manual_clock.advance(STEP);
    complete(&server, &token, totp(&code(&server, &created.secret))).await.expect("the next code");
    server.stop().await;
}

async fn wrong_codes_do_not_confirm(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let created = create_totp(&server, &access).await.expect("created");
    let wrong = wrong_code(&server, &created.secret);
    // The access token remains valid, so the code is not UNAUTHENTICATED.
    let outcome = confirm_totp(&server, &access, &created.factor_id, &wrong).await;
    assert_refused!(outcome, Unauthenticated, "CODE_INVALID");
    for (id, code, field) in [("x", "123456", "factor_id"), (&created.factor_id[..], "12345", "code")] {
        let outcome = confirm_totp(&server, &access, id, code).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    assert!(list_factors(&server, &access).await.factors.is_empty());
    server.stop().await;
}

async fn an_account_has_at_most_ten_factors(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut pair = server.sign_up_and_login("ann@example.com").await;
    for _ in 0..10 {
        pair = add_totp(&server, pair).await.pair;
    }
    assert_refused!(create_totp(&server, &pair.access_token).await, ResourceExhausted, "QUOTA_EXCEEDED");
    assert_eq!(list_factors(&server, &pair.access_token).await.factors.len(), 10);
    server.stop().await;
}

async fn only_the_first_factor_returns_recovery_codes(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = enroll(&server, "ann@example.com").await;
    let second = add_totp(&server, first.pair).await;
    assert_eq!((first.recovery_codes.len(), second.recovery_codes.len()), (10, 0));
    for (factor, secret) in [(&first.factor, &first.secret), (&second.factor, &second.secret)] {
        let token = challenge(&server, "ann@example.com").await.token;
        complete(&server, &token, totp(&code(&server, secret))).await.expect(&factor.id);
    }
    server.stop().await;
}

async fn recovery_codes_can_be_replaced(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let request = bearer(&ann.pair.access_token, RegenerateRecoveryCodesRequest {});
    let new = client(&server).regenerate_recovery_codes(request).await.expect("replaced").into_inner().recovery_codes;
    assert_eq!(new.len(), 10);
    let token = challenge(&server, "ann@example.com").await.token;
    let old = complete(&server, &token, recovery(&ann.recovery_codes[0])).await;
    assert_refused!(old, Unauthenticated, "CODE_INVALID");
    complete(&server, &token, recovery(&new[0])).await.expect("a new code");
    assert_eq!(list_factors(&server, &ann.pair.access_token).await.unused_recovery_codes, 9);

    let bob = server.sign_up_and_login("bob@example.com").await.access_token;
    let outcome = client(&server).regenerate_recovery_codes(bearer(&bob, RegenerateRecoveryCodesRequest {})).await;
    assert_refused!(outcome, NotFound, "FACTOR_NOT_FOUND");
    server.stop().await;
}

async fn update(server: &Server, access_token: &str, id: &str, label: &str, mask: &[&str]) -> Result<Factor, Status> {
    let factor = Factor { id: id.to_owned(), label: label.to_owned(), ..Factor::default() };
    let update_mask = prost_types::FieldMask { paths: mask.iter().map(ToString::to_string).collect() };
    let request = UpdateFactorRequest { factor: Some(factor), update_mask: Some(update_mask) };
    client(server).update_factor(bearer(access_token, request)).await.map(tonic::Response::into_inner)
}

async fn the_label_can_be_changed(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let (access, id) = (&ann.pair.access_token, &ann.factor.id);
    for (label, mask, expected) in
        [("tablet", &["label"][..], "tablet"), ("watch", &[], "watch"), ("", &[], "watch"), ("", &["*"], "")]
    {
        assert_eq!(update(&server, access, id, label, mask).await.expect("updated").label, expected);
    }
    let outcome = update(&server, access, id, "x", &["type"]).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    let outcome = update(&server, access, id, &"x".repeat(101), &[]).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "factor.label");
    server.stop().await;
}

async fn delete(server: &Server, access_token: &str, factor_id: &str) -> Result<(), Status> {
    let request = bearer(access_token, DeleteFactorRequest { factor_id: factor_id.to_owned() });
    client(server).delete_factor(request).await.map(drop)
}

async fn the_last_deleted_factor_takes_the_recovery_codes_with_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = enroll(&server, "ann@example.com").await;
    let second = add_totp(&server, first.pair).await;
    let access = &second.pair.access_token;
    delete(&server, access, &first.factor.id).await.expect("deleted");
    assert_refused!(delete(&server, access, &first.factor.id).await, NotFound, "FACTOR_NOT_FOUND");
    assert_eq!(list_factors(&server, access).await.unused_recovery_codes, 10);
    delete(&server, access, &second.factor.id).await.expect("deleted");
    assert_eq!(list_factors(&server, access).await.unused_recovery_codes, 0);
    let pair = server.login("ann@example.com", PASSWORD).await.expect("logged in");
    assert!(pair.challenge.is_none() && !pair.access_token.is_empty(), "the password suffices again");
    server.stop().await;
}

async fn factors_of_other_accounts_do_not_exist(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let bob = enroll(&server, "bob@example.com").await;
    let access = &bob.pair.access_token;
    assert_refused!(delete(&server, access, &ann.factor.id).await, NotFound, "FACTOR_NOT_FOUND");
    assert_refused!(update(&server, access, &ann.factor.id, "x", &[]).await, NotFound, "FACTOR_NOT_FOUND");
    let unconfirmed = create_totp(&server, &ann.pair.access_token).await.expect("created");
    let shown = code(&server, &unconfirmed.secret);
    let outcome = confirm_totp(&server, access, &unconfirmed.factor_id, &shown).await;
    assert_refused!(outcome, NotFound, "FACTOR_NOT_FOUND");
    let token = challenge(&server, "bob@example.com").await.token;
    for factor in [totp(&code(&server, &ann.secret)), recovery(&ann.recovery_codes[0])] {
        assert_refused!(complete(&server, &token, factor).await, Unauthenticated, "CODE_INVALID");
    }
    server.stop().await;
}

async fn personal_access_tokens_cannot_manage_factors(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let token = created(&server, &access, &["account.read", "account.write"]).await;
    for rpc in ["CreateTotp", "ConfirmTotp", "ListFactors", "UpdateFactor", "DeleteFactor", "RegenerateRecoveryCodes"] {
        let path = format!("/taskey.auth.v1.FactorService/{rpc}");
        let outcome = call_raw(&server.channel, &path, bearer(&token.secret, Vec::new())).await;
        assert_refused!(outcome, PermissionDenied, "PERMISSION_DENIED");
    }
    server.stop().await;
}

async fn the_owner_gets_a_mail_about_each_change(database: TestDatabase) {
    let (server, mailbox) = mail::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let access = &ann.pair.access_token;
    client(&server)
        .regenerate_recovery_codes(bearer(access, RegenerateRecoveryCodesRequest {}))
        .await
        .expect("replaced");
    update(&server, access, &ann.factor.id, "watch", &[]).await.expect("updated");
    delete(&server, access, &ann.factor.id).await.expect("deleted");
    // The first mail verifies the address. A new label is no change of the factors.
    let last = mailbox.await_mail("ann@example.com", 4).await;
    assert!(last.contains("\nSubject: The second factors of your account were changed\n"), "{last}");

    let events = server.account().list_my_security_events(bearer(access, ListMySecurityEventsRequest::default())).await;
    let events = events.expect("listed").into_inner().events;
    let kinds: Vec<_> = events.iter().take(4).map(taskey_proto::auth::v1::AuditEvent::kind).collect();
    let expected = [Kind::FactorDeleted, Kind::FactorUpdated, Kind::RecoveryCodesRegenerated, Kind::FactorAdded];
    assert_eq!(kinds, expected);
    assert!([0, 1, 3].iter().all(|index| events[*index].details["factor_id"] == ann.factor.id));
    server.stop().await;
}

async fn a_deleted_account_leaves_no_factors(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    server.delete_me(&ann.pair.access_token, PASSWORD).await.expect("deleted");
    let count = "select cast((select count(*) from factors) + (select count(*) from recovery_codes) as text)";
    assert_eq!(query_string(&server.database, count).await, "0");
    server.stop().await;
}
