//! Changes of credentials and administration need a recent proof of the password or of a second factor.

use std::time::Duration;

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, call_raw, refusal},
};
use taskey_proto::auth::v1::TokenPair;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::reauthentication::{password, reauthenticate};
use crate::{
    forged_claims::{ADMIN_RPCS, sign_up_admin},
    mail::{NEW_PASSWORD, change_password},
    personal_access_tokens::{create, created, list, with_scopes},
    support::{PASSWORD, Server, bearer},
};

on_each_database! {
    changes_of_credentials_need_a_recent_proof,
    administration_needs_a_recent_proof,
    the_maximum_age_can_be_changed,
    calls_with_the_current_password_need_no_other_proof,
    personal_access_tokens_administer_without_a_proof,
}

const CREDENTIAL_RPCS: [(&str, &[&str]); 3] = [
    (
        "PersonalAccessTokenService",
        &[
            "CreatePersonalAccessToken",
            "UpdatePersonalAccessToken",
            "RotatePersonalAccessToken",
            "DeletePersonalAccessToken",
        ],
    ),
    ("DeviceAuthorizationService", &["ApproveDeviceAuthorization"]),
    ("FactorService", &["CreateTotp", "ConfirmTotp", "UpdateFactor", "DeleteFactor", "RegenerateRecoveryCodes"]),
];

/// Logs in, and lets the proof of the password become too old.
async fn log_in_long_ago(server: &Server, pair: TokenPair) -> String {
    server.manual_clock.advance(Duration::from_secs(601));
    server.refresh(&pair.refresh_token).await.expect("refreshed").access_token
}

async fn call(server: &Server, service: &str, rpc: &str, access_token: &str) -> Result<Vec<u8>, Status> {
    let path = format!("/taskey.auth.v1.{service}/{rpc}");
    call_raw(&server.channel, &path, bearer(access_token, Vec::new())).await
}

fn is_step_up_required(outcome: &Result<Vec<u8>, Status>) -> bool {
    outcome.as_ref().is_err_and(|status| refusal(status).1 == "STEP_UP_REQUIRED")
}

async fn changes_of_credentials_need_a_recent_proof(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let access = log_in_long_ago(&server, pair).await;
    for (service, rpcs) in CREDENTIAL_RPCS {
        for rpc in rpcs {
            let status = call(&server, service, rpc, &access).await.expect_err("refused");
            let metadata = status.get_details_error_info().expect("a reason").metadata;
            let expected = [("required", "reauthentication"), ("max_age", "600")];
            assert!(
                expected.iter().all(|(key, value)| metadata.get(*key).is_some_and(|found| found == value)),
                "{rpc}"
            );
            assert_eq!(refusal(&status), (Code::PermissionDenied, "STEP_UP_REQUIRED".to_owned(), vec![]), "{rpc}");
        }
    }
    list(&server, &access).await;
    super::list_factors(&server, &access).await;

    let renewed = reauthenticate(&server, &access, password(PASSWORD)).await.expect("proved").access_token;
    // The earlier token of the session is accepted as well.
    for access in [renewed, access] {
        for (service, rpcs) in CREDENTIAL_RPCS {
            for rpc in rpcs {
                let outcome = call(&server, service, rpc, &access).await;
                assert!(!is_step_up_required(&outcome), "{rpc}");
            }
        }
    }
    server.stop().await;
}

async fn administration_needs_a_recent_proof(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await;
    call(&server, "AdminService", "ListUsers", &admin.access_token).await.expect("just logged in");
    let access = log_in_long_ago(&server, admin).await;
    for rpc in ADMIN_RPCS {
        assert_refused!(call(&server, "AdminService", rpc, &access).await, PermissionDenied, "STEP_UP_REQUIRED");
    }
    reauthenticate(&server, &access, password(PASSWORD)).await.expect("proved");
    for rpc in ADMIN_RPCS {
        assert!(!is_step_up_required(&call(&server, "AdminService", rpc, &access).await), "{rpc}");
    }
    server.stop().await;
}

async fn the_maximum_age_can_be_changed(database: TestDatabase) {
    let server = Server::start_with(database, &["--step-up-max-age", "1m"]).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    server.manual_clock.advance(Duration::from_secs(60));
    created(&server, &access, &["tasks.read"]).await;
    server.manual_clock.advance(Duration::from_secs(1));
    let outcome = create(&server, &access, with_scopes(&["tasks.read"])).await;
    assert_refused!(outcome, PermissionDenied, "STEP_UP_REQUIRED");
    server.stop().await;
}

async fn calls_with_the_current_password_need_no_other_proof(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let access_token = log_in_long_ago(&server, pair.clone()).await;
    let pair = TokenPair { access_token, ..pair };
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    server.delete_me(&pair.access_token, NEW_PASSWORD).await.expect("deleted");
    server.stop().await;
}

async fn personal_access_tokens_administer_without_a_proof(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await;
    let token = created(&server, &admin.access_token, &["admin.read"]).await;
    server.manual_clock.advance(Duration::from_secs(3600));
    call(&server, "AdminService", "ListUsers", &token.secret).await.expect("permitted");
    server.stop().await;
}
