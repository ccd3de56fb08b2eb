//! Sessions that are limited to scopes obtain no further rights by creating or changing credentials.

use prost::Message;
use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::{
    FILE_DESCRIPTOR_SET,
    auth::v1::{PersonalAccessToken, RotatePersonalAccessTokenRequest, UpdatePersonalAccessTokenRequest},
};
use tonic::{Code, Status};

use super::{CLIENT, approve, poll, request_codes};
use crate::{
    forged_claims::{call, sign_up_admin},
    personal_access_tokens::{self, created},
    support::{Server, bearer},
};

on_each_database! {
    a_limited_session_cannot_change_credentials,
    a_limited_session_changes_only_personal_access_tokens_within_its_scopes,
}

const ALL_SCOPES: &str = "tasks.read tasks.write account.read account.write admin.read admin.write";

/// The RPCs that create or change credentials, which permit all that the roles of their owner do.
const CHANGES_OF_CREDENTIALS: [(&str, &[&str]); 4] = [
    ("AccountService", &["ChangePassword", "ChangeEmail"]),
    (
        "FactorService",
        &[
            "CreateTotp",
            "ConfirmTotp",
            "UpdateFactor",
            "DeleteFactor",
            "RegenerateRecoveryCodes",
            "BeginPasskey",
            "FinishPasskey",
        ],
    ),
    ("DeviceAuthorizationService", &["ApproveDeviceAuthorization"]),
    (
        "AdminService",
        &[
            "DeleteUserFactors",
            "SetUserRoles",
            "CreateServiceAccount",
            "RotateServiceAccountSecret",
            "DeleteServiceAccount",
        ],
    ),
];

/// The RPCs that give no further rights. The changes of personal access tokens have a test of their own. Those that end the
/// sessions of the test are last.
const OTHER_RPCS: [(&str, &[&str]); 5] = [
    ("FactorService", &["ListFactors"]),
    (
        "PersonalAccessTokenService",
        &[
            "CreatePersonalAccessToken",
            "GetPersonalAccessToken",
            "ListPersonalAccessTokens",
            "UpdatePersonalAccessToken",
            "RotatePersonalAccessToken",
            "DeletePersonalAccessToken",
        ],
    ),
    ("DeviceAuthorizationService", &["GetDeviceAuthorization", "DenyDeviceAuthorization"]),
    (
        "AdminService",
        &[
            "GetUser",
            "ListUsers",
            "DisableUser",
            "EnableUser",
            "UnlockUser",
            "RevokeUserSessions",
            "ListUserSessions",
            "ListAuditEvents",
            "ListMail",
            "RetryMail",
            "ListServiceAccounts",
        ],
    ),
    (
        "AccountService",
        &[
            "GetMe",
            "UpdateMe",
            "RequestEmailVerification",
            "DeleteMe",
            "Reauthenticate",
            "BeginPasskeyReauthentication",
            "ListMySecurityEvents",
            "ListSessions",
            "ExportMe",
            "RevokeSession",
            "RevokeOtherSessions",
            "RevokeAllSessions",
        ],
    ),
];

/// The services that do not take access tokens of users, or only those of verifiers.
const OTHER_SERVICES: [&str; 3] = ["AuthService", "OAuthService", "TokenService"];

/// Returns the RPCs of a table with their services.
fn rpcs<'t>(table: &'t [(&'t str, &'t [&'t str])]) -> impl Iterator<Item = (&'t str, &'t str)> {
    table.iter().flat_map(|(service, rpcs)| rpcs.iter().map(move |rpc| (*service, *rpc)))
}

#[test]
fn the_tables_contain_all_rpcs() {
    let descriptors = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let files = descriptors.file.iter().filter(|file| file.package() == "taskey.auth.v1");
    let services = files.flat_map(|file| &file.service).filter(|service| !OTHER_SERVICES.contains(&service.name()));
    let mut all: Vec<_> =
        services.flat_map(|service| service.method.iter().map(|method| (service.name(), method.name()))).collect();
    let mut tables: Vec<_> = rpcs(&CHANGES_OF_CREDENTIALS).chain(rpcs(&OTHER_RPCS)).collect();
    all.sort_unstable();
    tables.sort_unstable();
    assert_eq!(tables, all);
}

/// Returns the access token of a new session with these scopes.
async fn limited_session(server: &Server, access_token: &str, scope: &str) -> String {
    let device = request_codes(server, CLIENT, scope).await.expect("codes");
    approve(server, access_token, &device.user_code).await.expect("approved");
    poll(server, &device).await.expect("issued").access_token
}

/// Returns the code and the reason of an error.
fn error_of<T>(outcome: Result<T, Status>) -> Option<(Code, String)> {
    outcome.err().map(|status| refusal(&status)).map(|(code, reason, _)| (code, reason))
}

async fn a_limited_session_cannot_change_credentials(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = sign_up_admin(&server).await.access_token;
    let limited = limited_session(&server, &admin, ALL_SCOPES).await;
    let denied = Some((Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    for (service, rpc) in rpcs(&CHANGES_OF_CREDENTIALS) {
        assert_eq!(error_of(call(&server, service, rpc, &limited).await), denied, "{rpc}");
        assert_ne!(error_of(call(&server, service, rpc, &admin).await), denied, "{rpc}");
    }
    for (service, rpc) in rpcs(&OTHER_RPCS) {
        let code = error_of(call(&server, service, rpc, &limited).await).map(|(code, _)| code);
        assert!(![Some(Code::PermissionDenied), Some(Code::Unauthenticated)].contains(&code), "{rpc}: {code:?}");
    }
    server.stop().await;
}

async fn rotate(server: &Server, access_token: &str, id: &str) -> Result<PersonalAccessToken, Status> {
    let request = bearer(access_token, RotatePersonalAccessTokenRequest { id: id.to_owned() });
    let rotated = personal_access_tokens::client(server).rotate_personal_access_token(request).await;
    rotated.map(tonic::Response::into_inner)
}

/// Permits the use of a token from another network.
async fn update(server: &Server, access_token: &str, id: &str) -> Result<PersonalAccessToken, Status> {
    let networks = vec!["192.0.2.0/24".to_owned()];
    let token = PersonalAccessToken { id: id.to_owned(), networks, ..Default::default() };
    let request = UpdatePersonalAccessTokenRequest { personal_access_token: Some(token), update_mask: None };
    let updated =
        personal_access_tokens::client(server).update_personal_access_token(bearer(access_token, request)).await;
    updated.map(tonic::Response::into_inner)
}

async fn a_limited_session_changes_only_personal_access_tokens_within_its_scopes(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.sign_up_and_login("ann@example.com").await.access_token;
    let narrow = created(&server, &ann, &["account.write"]).await;
    let limited = limited_session(&server, &ann, "account.write").await;
    for scopes in [&["account.read"][..], &["account.read", "account.write"]] {
        let wide = created(&server, &ann, scopes).await;
        assert_refused!(rotate(&server, &limited, &wide.id).await, PermissionDenied, "PERMISSION_DENIED");
        assert_refused!(update(&server, &limited, &wide.id).await, PermissionDenied, "PERMISSION_DENIED");
        server.get_me(&wide.secret).await.expect("it has not changed");
        rotate(&server, &ann, &wide.id).await.expect("the session of the login is not limited");
        personal_access_tokens::delete(&server, &limited, &wide.id).await.expect("a deletion gives no access");
    }
    update(&server, &limited, &narrow.id).await.expect("within the scopes");
    rotate(&server, &limited, &narrow.id).await.expect("within the scopes");
    let unknown = server.clock.new_id().to_string();
    assert_refused!(rotate(&server, &limited, &unknown).await, NotFound, "PERSONAL_ACCESS_TOKEN_NOT_FOUND");
    server.stop().await;
}
