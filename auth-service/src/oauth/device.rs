//! The device authorization grant (RFC 8628): a device without a browser waits until a user decides on another one.

use std::time::Duration;

use service_kit::{
    auth::scope::{Scope, Scopes},
    public_url::PublicUrl,
    status::ApiError,
};
use taskey_proto::auth::v1::AuthorizeDeviceResponse;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::grants::{OAuth, requested_scopes};
use crate::{
    error,
    model::{
        client_info::ClientInfo,
        device_authorization::{DeviceAuthorization, DeviceCode, INTERVAL, LIFETIME, UserCode},
    },
    store::device_authorizations::{self, ApprovedDevice, Poll},
};

/// The path of the page on which users type the code.
const PAGE: &str = "/device";

/// How often a user code is generated if another device has it. With 10,000 devices, that is one of 2.5 million.
const MAX_ATTEMPTS: usize = 2;

/// The scopes that a session of a user can have.
const USER_SCOPES: [Scope; 6] =
    [Scope::TasksRead, Scope::TasksWrite, Scope::AccountRead, Scope::AccountWrite, Scope::AdminRead, Scope::AdminWrite];

/// A poll of a device.
pub struct DevicePoll {
    /// The name that the client has given itself.
    pub client_id: String,
    /// The device code.
    pub code: Zeroizing<String>,
}

impl OAuth {
    /// Creates the codes of a device.
    ///
    /// # Errors
    /// SCOPE_INVALID, or OVERLOADED if too many devices wait.
    pub async fn authorize_device(
        &self,
        client_id: String,
        scope: &str,
        client: &ClientInfo,
    ) -> Result<AuthorizeDeviceResponse, ApiError> {
        let (now, id) = (self.clock.now(), self.clock.new_id());
        let mut request = DeviceAuthorization {
            user_code: UserCode::generate(),
            client_id,
            scopes: device_scopes(scope)?,
            user_agent: client.user_agent.clone(),
            ip_address: client.ip_address(),
            created_at: now,
            expires_at: now + LIFETIME,
        };
        for _ in 0..MAX_ATTEMPTS {
            if device_authorizations::insert(&self.db, now, id, &request).await? {
                return Ok(self.codes(id, &request));
            }
            request.user_code = UserCode::generate();
        }
        Err(error::device::too_many())
    }

    fn codes(&self, id: Uuid, request: &DeviceAuthorization) -> AuthorizeDeviceResponse {
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let code = DeviceCode { id, expires_at: request.expires_at };
        let gateway = self.public_url.as_ref().map(PublicUrl::without_slash);
        let page = format!("{}{PAGE}", gateway.unwrap_or_default());
        let user_code = request.user_code.with_hyphen();
        AuthorizeDeviceResponse {
            device_code: code.seal(&self.issuer.refresh_keys.current()),
            // Browsers do not send the part after `#`, so that the code is in no log.
            verification_uri_complete: format!("{page}#{user_code}"),
            verification_uri: page,
            user_code,
            expires_in: seconds(LIFETIME),
            interval: seconds(INTERVAL),
        }
    }

    /// Returns the device that polls, if a user has permitted it.
    ///
    /// # Errors
    /// AUTHORIZATION_PENDING, AUTHORIZATION_DENIED, DEVICE_CODE_EXPIRED, GRANT_INVALID, or RATE_LIMITED if the device polls
    /// too often.
    pub async fn poll(&self, DevicePoll { client_id, code }: &DevicePoll) -> Result<ApprovedDevice, ApiError> {
        let now = self.clock.now();
        let code = DeviceCode::open(&self.issuer.refresh_keys.current(), code).ok_or_else(device_code_invalid)?;
        if code.expires_at <= now {
            return Err(error::device::code_expired());
        }
        match device_authorizations::poll(&self.db, now, code.id, client_id.clone()).await? {
            Poll::Approved(device) => Ok(device),
            Poll::Pending => Err(error::device::pending()),
            Poll::TooOften(interval) => Err(error::device::polls_too_often(interval)),
            Poll::Denied => Err(error::device::denied()),
            Poll::Unknown => Err(device_code_invalid()),
        }
    }
}

fn device_code_invalid() -> ApiError {
    error::grant_invalid("the device code is not valid, or was used before")
}

/// Parses the scopes that a device requests. Returns `None` if it requests all that the roles of the user permit.
fn device_scopes(text: &str) -> Result<Option<Scopes>, ApiError> {
    match text {
        "" => Ok(None),
        text => requested_scopes(text, USER_SCOPES.into_iter().collect()).map(Some),
    }
}
