//! Calls of services that act for users.

use taskey_proto::auth::v1::{
    CreateServiceAccountRequest, IssueTokenRequest, ServiceAccount, admin_service_client::AdminServiceClient,
    o_auth_service_client::OAuthServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::process::bearer;

/// Creates a service account that can act for users, as an administrator.
pub async fn create_service_account(server: &Channel, admin_token: &str) -> Result<ServiceAccount, Status> {
    let scopes = ["tasks.read", "tasks.write", "clients.forward"].map(str::to_owned).to_vec();
    let request = CreateServiceAccountRequest { label: "service".to_owned(), scopes, ..Default::default() };
    let created = AdminServiceClient::new(server.clone()).create_service_account(bearer(admin_token, request)).await;
    created.map(tonic::Response::into_inner)
}

/// Exchanges the access token of a user for one with this scope and this audience.
pub async fn exchange(
    server: &Channel,
    account: &ServiceAccount,
    token: &str,
    scope: &str,
    audience: &str,
) -> Result<String, Status> {
    let request = IssueTokenRequest {
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange".to_owned(),
        client_id: account.id.clone(),
        client_secret: account.secret.clone(),
        subject_token: token.to_owned(),
        subject_token_type: "urn:ietf:params:oauth:token-type:access_token".to_owned(),
        scope: scope.to_owned(),
        audience: audience.to_owned(),
        ..Default::default()
    };
    let issued = OAuthServiceClient::new(server.clone()).issue_token(request).await?;
    Ok(issued.into_inner().access_token)
}
