//! From rows to messages.

use std::collections::HashMap;

use service_kit::{auth::personal_access_token::Exchanged, clock::Timestamp};
use taskey_proto::auth::v1::{self as pb, audit_event};
use uuid::Uuid;

use crate::{
    model::{
        audit::StoredEvent,
        device_authorization::DeviceAuthorization,
        factor::{Factor, FactorType},
        personal_access_token::StoredToken,
        service_account::ServiceAccount,
        session::Session,
        user::User,
    },
    store::{
        mail_records::MailRecord,
        user_changes::{UserChange, UserState},
    },
};

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        Self {
            roles: user.roles(),
            id: user.id.to_string(),
            email: user.email,
            display_name: user.display_name,
            email_verified: user.email_verified,
            disabled: user.disabled,
            create_time: Some(user.created_at.into()),
            update_time: Some(user.updated_at.into()),
        }
    }
}

/// Converts the session for a caller whose own session is `current`.
#[must_use]
pub fn session(session: Session, current: Uuid) -> pb::Session {
    pb::Session {
        current: session.id == current,
        id: session.id.to_string(),
        label: session.label,
        user_agent: session.user_agent,
        ip_address: session.ip_address,
        create_time: Some(session.created_at.into()),
        last_used_time: Some(session.rotated_at.into()),
        expire_time: Some(session.expires_at.into()),
        scopes: session.scopes.unwrap_or_default().iter().map(|scope| scope.to_string()).collect(),
    }
}

/// Converts a change of an account.
#[must_use]
pub fn user_change(change: UserChange) -> pb::UserChange {
    let state = match change.state {
        None => pb::user_change::State::Unspecified,
        Some(UserState::Deleted) => pb::user_change::State::Deleted,
        Some(UserState::Disabled) => pb::user_change::State::Disabled,
        Some(UserState::Enabled) => pb::user_change::State::Enabled,
    };
    pb::UserChange { user_id: change.user_id.to_string(), state: state.into() }
}

/// Converts a mail.
#[must_use]
pub fn mail(mail: MailRecord) -> pb::Mail {
    let state = pb::mail::State::from_str_name(&format!("STATE_{}", mail.state.to_uppercase())).unwrap_or_default();
    pb::Mail {
        id: mail.id.to_string(),
        user_id: mail.user_id.to_string(),
        template: mail.template,
        recipient: mail.recipient,
        state: state.into(),
        attempts: i32::try_from(mail.attempts).unwrap_or(i32::MAX),
        last_error: mail.last_error,
        create_time: Some(mail.created_at.into()),
        next_attempt_time: (state == pb::mail::State::Pending).then(|| mail.next_attempt_at.into()),
    }
}

impl From<StoredEvent> for pb::AuditEvent {
    fn from(event: StoredEvent) -> Self {
        let id_or_empty = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        let mut details: HashMap<_, _> = serde_json::from_str(&event.details).unwrap_or_default();
        if event.occurrences > 1 {
            details.insert("occurrences".to_owned(), event.occurrences.to_string());
        }
        Self {
            id: event.id.to_string(),
            kind: audit_event::Kind::from_str_name(&event.kind).unwrap_or_default().into(),
            // Events of service tokens belong to no account.
            user_id: id_or_empty(Some(event.user_id).filter(|id| !id.is_nil())),
            actor_id: id_or_empty(event.actor_id),
            session_id: id_or_empty(event.session_id),
            ip_address: event.ip_address,
            user_agent: event.user_agent,
            create_time: Some(event.created_at.into()),
            details,
        }
    }
}

/// Converts the claims of a personal access token, which a verifier may remember from `now`.
#[must_use]
pub fn exchanged(exchanged: Exchanged, now: Timestamp) -> pb::ExchangePersonalAccessTokenResponse {
    let Exchanged { claims, networks, valid_for } = exchanged;
    pb::ExchangePersonalAccessTokenResponse {
        sub: claims.user_id.to_string(),
        sid: claims.session_id.to_string(),
        jti: claims.id.to_string(),
        roles: claims.roles,
        scope: claims.scopes.unwrap_or_default().to_string(),
        networks: networks.iter().map(ToString::to_string).collect(),
        expire_time: Some((now + valid_for).into()),
        token_expire_time: Some(claims.expires_at.into()),
    }
}

impl From<DeviceAuthorization> for pb::DeviceAuthorization {
    fn from(device: DeviceAuthorization) -> Self {
        Self {
            user_code: device.user_code.with_hyphen(),
            client_id: device.client_id,
            scopes: device.scopes.unwrap_or_default().iter().map(|scope| scope.to_string()).collect(),
            ip_address: device.ip_address,
            user_agent: device.user_agent,
            create_time: Some(device.created_at.into()),
            expire_time: Some(device.expires_at.into()),
        }
    }
}

/// Without the secret.
impl From<ServiceAccount> for pb::ServiceAccount {
    fn from(account: ServiceAccount) -> Self {
        Self {
            id: account.id.to_string(),
            label: account.label,
            scopes: account.scopes.iter().map(|scope| scope.to_string()).collect(),
            certificate_name: account.certificate_name.map(|name| name.to_string()).unwrap_or_default(),
            create_time: Some(account.created_at.into()),
            previous_secret_expire_time: account.previous_expires_at.map(Into::into),
            last_use_date: account.last_use.date(),
            last_use_address: account.last_use.address,
            secret: String::new(),
        }
    }
}

/// Without the secret.
impl From<StoredToken> for pb::PersonalAccessToken {
    fn from(token: StoredToken) -> Self {
        Self {
            id: token.id.to_string(),
            label: token.label,
            scopes: token.scopes.iter().map(|scope| scope.to_string()).collect(),
            expire_time: Some(token.expires_at.into()),
            networks: token.networks.iter().map(ToString::to_string).collect(),
            create_time: Some(token.created_at.into()),
            last_use_date: token.last_use.date(),
            last_use_address: token.last_use.address,
            secret: String::new(),
        }
    }
}

impl From<Factor> for pb::Factor {
    fn from(factor: Factor) -> Self {
        Self {
            id: factor.id.to_string(),
            r#type: match factor.kind {
                FactorType::Totp => pb::factor::Type::Totp.into(),
                FactorType::Passkey => pb::factor::Type::Passkey.into(),
            },
            label: factor.label,
            create_time: Some(factor.created_at.into()),
            last_use_time: factor.last_used_at.map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use taskey_proto::auth::v1::audit_event;

    use crate::model::audit::Kind;

    #[test]
    fn kinds_of_events_have_the_names_of_the_api() {
        let of_api = (1..=1000).filter_map(|number| audit_event::Kind::try_from(number).ok());
        let names: Vec<_> = of_api.map(|kind| kind.as_str_name()).collect();
        assert_eq!(names, Kind::ALL.map(Kind::name), "in the order of their numbers");
    }
}
