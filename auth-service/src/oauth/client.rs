//! Authenticates the clients of OAuth 2.0, which are service accounts.

use std::fmt;

use service_kit::{clock::Timestamp, id, status::ApiError, tls::PeerCertificate};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::grants::OAuth;
use crate::{
    error,
    model::{
        client_info::ClientInfo,
        personal_access_token::LastUse,
        service_account::{SecretHash, ServiceAccount, StoredClient, throttle_name},
    },
    store::service_accounts,
};

/// What a client has sent to authenticate.
pub struct ClientCredentials {
    /// The id of the service account.
    pub id: String,
    /// The secret, or empty.
    pub secret: Zeroizing<String>,
}

/// Writes no secret.
impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where a call comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client of the call.
    pub client: ClientInfo,
    /// The certificate of the client, if it has one and calls for itself.
    pub certificate: Option<PeerCertificate>,
}

/// An authenticated client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The service account.
    pub account: ServiceAccount,
    /// The hash of its secret, unless it has authenticated with a certificate.
    pub(super) secret: Option<SecretHash>,
}

impl OAuth {
    /// Authenticates a client. Wrong secrets count like wrong passwords, by service account and network. A correct one resets
    /// the count.
    ///
    /// # Errors
    /// CLIENT_INVALID, or RATE_LIMITED.
    pub async fn authenticate(&self, credentials: &ClientCredentials, origin: &Origin) -> Result<Client, ApiError> {
        let id = id::parse(&credentials.id).ok_or_else(error::client_invalid)?;
        if credentials.secret.is_empty() && origin.certificate.is_none() {
            return Err(error::client_invalid());
        }
        let throttle_name = throttle_name(id);
        let attempt = self.passwords.permit(&throttle_name, &origin.client).await?;
        let (stored, now) = (service_accounts::by_id(&self.db, id).await?, self.clock.now());
        let Some(client) = stored.and_then(|stored| verify(stored, credentials, origin, now)) else {
            self.passwords.record_failure(&attempt).await?;
            let address = origin.client.ip_address();
            tracing::warn!(client_id = %id, %address, "a service account failed to authenticate");
            return Err(error::client_invalid());
        };
        self.passwords.reset_failures(attempt).await?;
        self.passwords.record_use(&throttle_name, origin.client.address).await;
        self.record_use(&client.account, &origin.client, now).await;
        Ok(client)
    }

    /// Stores the day and the address of a use, unless they are those of the previous one. The use does not depend on it.
    async fn record_use(&self, account: &ServiceAccount, client: &ClientInfo, now: Timestamp) {
        let last_use = LastUse::new(now, client.ip_address());
        if last_use == account.last_use {
            return;
        }
        if let Err(error) = service_accounts::record_use(&self.db, account.id, last_use).await {
            tracing::warn!(%error, "cannot store the last use of a service account");
        }
    }

    /// Reports whether an id is that of a service account.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_service_account(&self, id: Uuid) -> Result<bool, ApiError> {
        Ok(service_accounts::by_id(&self.db, id).await?.is_some())
    }
}

/// Returns the client if its secret or certificate is that of the service account.
fn verify(stored: StoredClient, credentials: &ClientCredentials, origin: &Origin, now: Timestamp) -> Option<Client> {
    let secret = SecretHash::new(&credentials.secret);
    if stored.accepts(&secret, now) {
        return Some(Client { account: stored.account, secret: Some(secret) });
    }
    let name = stored.account.certificate_name.as_ref()?;
    let names = origin.certificate.as_ref().map(PeerCertificate::names).unwrap_or_default();
    names.contains(&name.0).then(|| Client { account: stored.account.clone(), secret: None })
}
