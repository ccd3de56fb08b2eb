//! Calls of `AdminService` through the gateway.

use anyhow::Context;
use service_kit::clock::Clock;
use taskey_proto::auth::v1::{
    ListUsersRequest, ReauthenticateRequest, User, account_service_client::AccountServiceClient,
    admin_service_client::AdminServiceClient, reauthenticate_request::Proof,
};
use tokio::task::spawn_blocking;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use zeroize::Zeroizing;

use super::args::{Account, AccountArgs};
use crate::token::{AuthClient, InstallationArgs, access_token, prompt_password};

/// The client of a call.
pub type Client = AdminServiceClient<Channel>;

/// An administrator of an installation.
pub struct Admin {
    client: AuthClient,
    access_token: Zeroizing<String>,
    installation: String,
}

impl Admin {
    /// Returns the administrator whose tokens are stored.
    ///
    /// # Errors
    /// If nobody is logged in, or the session has ended.
    pub async fn open(installation: &InstallationArgs, clock: &Clock) -> anyhow::Result<Self> {
        let access_token = access_token(installation, clock).await?;
        let client = AuthClient::open(installation, clock).await?;
        Ok(Self { client, access_token, installation: installation.name() })
    }

    /// Like [`open`](Self::open), and returns the id of an account as well.
    ///
    /// # Errors
    /// As [`open`](Self::open), or if there is no such account.
    pub async fn for_account(arguments: &AccountArgs, clock: &Clock) -> anyhow::Result<(Self, String)> {
        let admin = Self::open(&arguments.common.installation, clock).await?;
        let id = match &arguments.account {
            Account::Id(id) => id.clone(),
            Account::Email(email) => admin.by_email(email).await?.id,
        };
        Ok((admin, id))
    }

    /// Sends a call, and repeats it if the response is lost: the calls of this command change nothing the second time.
    ///
    /// # Errors
    /// If the server returns an error, or does not respond.
    pub async fn call<M: Clone, T>(
        &self,
        message: M,
        rpc: impl AsyncFn(Client, Request<M>) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<T> {
        let authorization: MetadataValue<Ascii> =
            format!("Bearer {}", *self.access_token).parse().context("the stored token is no token")?;
        let call = async |channel| {
            let mut request = Request::new(message.clone());
            request.metadata_mut().insert("authorization", Clone::clone(&authorization));
            rpc(AdminServiceClient::new(channel), request).await
        };
        let response = match self.client.repeat(&call).await {
            Err(error) if error.requires_step_up() => {
                self.prove_password(&authorization).await?;
                self.client.repeat(&call).await
            }
            outcome => outcome,
        };
        Ok(response.with_context(|| format!("the call of {} failed", self.installation))?.into_inner())
    }

    /// Asks for the password, and proves it to the server. The stored access token then permits the calls.
    async fn prove_password(&self, authorization: &MetadataValue<Ascii>) -> anyhow::Result<()> {
        let password = spawn_blocking(prompt_password).await??;
        let call = async |channel| {
            let proof = Some(Proof::CurrentPassword(password.to_string()));
            let mut request = Request::new(ReauthenticateRequest { proof });
            request.metadata_mut().insert("authorization", authorization.clone());
            AccountServiceClient::new(channel).reauthenticate(request).await
        };
        let proved = self.client.repeat(call).await;
        proved.with_context(|| format!("the call of {} failed", self.installation)).map(drop)
    }

    /// Returns the account with an email address. Other addresses may begin with it.
    async fn by_email(&self, email: &str) -> anyhow::Result<User> {
        let filter = format!("email:{}", quote(email));
        let mut request = ListUsersRequest { filter, ..ListUsersRequest::default() };
        loop {
            let page = request.clone();
            let page = self.call(page, async |mut client, request| client.list_users(request).await).await?;
            if let Some(user) = page.users.into_iter().find(|user| user.email == email) {
                return Ok(user);
            }
            anyhow::ensure!(!page.next_page_token.is_empty(), "there is no account with the email address {email}");
            request.page_token = page.next_page_token;
        }
    }
}

/// Quotes a text for a filter.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_end_the_quotes() {
        assert_eq!(quote(r#"a" OR role:"\@b"#), r#""a\" OR role:\"\\@b""#);
    }
}
