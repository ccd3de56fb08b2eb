//! Sessions of devices that a user has permitted.

use service_kit::status::ApiError;

use super::sessions::{Sessions, UserTokens};
use crate::{
    error,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        mail::Template,
    },
    store::{
        device_authorizations::ApprovedDevice,
        sessions::{self, NewSession, NewSessionOutcome},
        users,
    },
};

impl Sessions {
    /// Starts the session of a device, unless it has one already.
    ///
    /// # Errors
    /// GRANT_INVALID if the permission was used, or has ended.
    pub async fn start_on_device(&self, device: ApprovedDevice, client: ClientInfo) -> Result<UserTokens, ApiError> {
        let Self { db, clock, args, .. } = self;
        let ApprovedDevice { id, request, permission } = device;
        let ended = || error::grant_invalid("the permission for the device was used before, or has ended");
        let user = users::by_id(db, permission.user_id).await?.ok_or_else(ended)?;
        let (now, session_id) = (clock.now(), clock.new_id());
        let event = Event::new(clock, Kind::Login, Actor::Owner, Some(session_id), client.clone());
        let event = event.with_detail("client_id", &request.client_id);
        let session = NewSession {
            id: session_id,
            user_id: user.id,
            label: request.client_id,
            ip_address: client.ip_address(),
            notice: self.mailer.notice(Template::NewDevice, &user, &client),
            user_agent: client.user_agent,
            expires_at: now + args.refresh_idle_ttl.min(args.refresh_max_ttl),
            ends_at: now + args.refresh_max_ttl,
            authentication: permission.authentication,
            scopes: request.scopes,
            password_version: permission.password_version,
            attempt: None,
            factor: None,
            challenge: None,
            device_authorization: Some(id),
        };
        let outcome = sessions::insert(db, now, session, event).await?;
        let NewSessionOutcome::Created(session, surplus) = outcome else { return Err(ended()) };
        self.mailer.wake();
        tracing::info!(user_id = %session.user_id, session_id = %session.id, surplus, "a device has logged in");
        if surplus > 0 {
            // The oldest sessions were revoked.
            self.feed.wake();
        }
        Ok((self.issuer.token_pair(user, &session, now)?, session.scopes))
    }
}
