//! Events of the audit log: who did what to which account, and from where.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use service_kit::clock::{Clock, Timestamp};
use uuid::Uuid;

use super::{client_info::ClientInfo, email::Email};

/// Who caused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The owner of the account.
    Owner,
    /// An unauthenticated client, or a command-line tool on the server.
    Unknown,
    /// An administrator.
    Admin(Uuid),
    /// A service account.
    Service(Uuid),
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An account was created.
    SignUp,
    /// A session was created.
    Login,
    /// A login failed.
    LoginFailed,
    /// A session was ended by its owner.
    Logout,
    /// A used refresh token was presented, and its session was revoked.
    RefreshReused,
    /// The password was changed.
    PasswordChanged,
    /// The account was deleted.
    AccountDeleted,
    /// The account was disabled.
    UserDisabled,
    /// The account was enabled.
    UserEnabled,
    /// The roles were changed.
    RolesChanged,
    /// Sessions were revoked.
    SessionsRevoked,
    /// The current password in a request of the owner was wrong.
    CurrentPasswordWrong,
    /// A service token was issued.
    ServiceTokenIssued,
    /// The service tokens of a service were revoked.
    ServiceTokensRevoked,
    /// An administrator read accounts or audit events.
    AdminRead,
    /// The counters of wrong passwords were reset.
    UserUnlocked,
    /// A personal access token was created.
    PersonalAccessTokenCreated,
    /// The label or the networks of a personal access token were changed.
    PersonalAccessTokenUpdated,
    /// The secret of a personal access token was replaced.
    PersonalAccessTokenRotated,
    /// A personal access token was deleted.
    PersonalAccessTokenDeleted,
    /// The email address was verified with a mail.
    EmailVerified,
    /// The password was reset with a mail.
    PasswordReset,
    /// The email address was changed.
    EmailChanged,
    /// The change of the email address was undone.
    EmailChangeUndone,
    /// A mail is sent again.
    MailRetried,
    /// A second factor was added.
    FactorAdded,
    /// The label of a second factor was changed.
    FactorUpdated,
    /// A second factor was deleted.
    FactorDeleted,
    /// The recovery codes were replaced.
    RecoveryCodesRegenerated,
    /// The password or a second factor was proved again.
    Reauthenticated,
    /// The code of a second factor in a request of the owner was wrong.
    FactorCodeWrong,
    /// An administrator deleted all second factors.
    UserFactorsDeleted,
    /// The signature counter of a passkey did not increase, so there may be a copy of it.
    PasskeyCloneSuspected,
    /// A service account was created.
    ServiceAccountCreated,
    /// The secret of a service account was replaced.
    ServiceAccountSecretRotated,
    /// A service account was deleted.
    ServiceAccountDeleted,
    /// A service account exchanged an access token of the account.
    TokenExchanged,
    /// A device was permitted to start a session.
    DeviceApproved,
    /// A device was refused a session.
    DeviceDenied,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 39] = [
        Self::SignUp,
        Self::Login,
        Self::LoginFailed,
        Self::Logout,
        Self::RefreshReused,
        Self::PasswordChanged,
        Self::AccountDeleted,
        Self::UserDisabled,
        Self::UserEnabled,
        Self::RolesChanged,
        Self::SessionsRevoked,
        Self::CurrentPasswordWrong,
        Self::ServiceTokenIssued,
        Self::ServiceTokensRevoked,
        Self::AdminRead,
        Self::UserUnlocked,
        Self::PersonalAccessTokenCreated,
        Self::PersonalAccessTokenUpdated,
        Self::PersonalAccessTokenRotated,
        Self::PersonalAccessTokenDeleted,
        Self::EmailVerified,
        Self::PasswordReset,
        Self::EmailChanged,
        Self::EmailChangeUndone,
        Self::MailRetried,
        Self::FactorAdded,
        Self::FactorUpdated,
        Self::FactorDeleted,
        Self::RecoveryCodesRegenerated,
        Self::Reauthenticated,
        Self::FactorCodeWrong,
        Self::UserFactorsDeleted,
        Self::PasskeyCloneSuspected,
        Self::ServiceAccountCreated,
        Self::ServiceAccountSecretRotated,
        Self::ServiceAccountDeleted,
        Self::TokenExchanged,
        Self::DeviceApproved,
        Self::DeviceDenied,
    ];

    /// Returns the name that is stored, which is that of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SignUp => "KIND_SIGN_UP",
            Self::Login => "KIND_LOGIN",
            Self::LoginFailed => "KIND_LOGIN_FAILED",
            Self::Logout => "KIND_LOGOUT",
            Self::RefreshReused => "KIND_REFRESH_REUSED",
            Self::PasswordChanged => "KIND_PASSWORD_CHANGED",
            Self::AccountDeleted => "KIND_ACCOUNT_DELETED",
            Self::UserDisabled => "KIND_USER_DISABLED",
            Self::UserEnabled => "KIND_USER_ENABLED",
            Self::RolesChanged => "KIND_ROLES_CHANGED",
            Self::SessionsRevoked => "KIND_SESSIONS_REVOKED",
            Self::CurrentPasswordWrong => "KIND_CURRENT_PASSWORD_WRONG",
            Self::ServiceTokenIssued => "KIND_SERVICE_TOKEN_ISSUED",
            Self::ServiceTokensRevoked => "KIND_SERVICE_TOKENS_REVOKED",
            Self::AdminRead => "KIND_ADMIN_READ",
            Self::UserUnlocked => "KIND_USER_UNLOCKED",
            Self::PersonalAccessTokenCreated => "KIND_PERSONAL_ACCESS_TOKEN_CREATED",
            Self::PersonalAccessTokenUpdated => "KIND_PERSONAL_ACCESS_TOKEN_UPDATED",
            Self::PersonalAccessTokenRotated => "KIND_PERSONAL_ACCESS_TOKEN_ROTATED",
            Self::PersonalAccessTokenDeleted => "KIND_PERSONAL_ACCESS_TOKEN_DELETED",
            Self::EmailVerified => "KIND_EMAIL_VERIFIED",
            Self::PasswordReset => "KIND_PASSWORD_RESET",
            Self::EmailChanged => "KIND_EMAIL_CHANGED",
            Self::EmailChangeUndone => "KIND_EMAIL_CHANGE_UNDONE",
            Self::MailRetried => "KIND_MAIL_RETRIED",
            Self::FactorAdded => "KIND_FACTOR_ADDED",
            Self::FactorUpdated => "KIND_FACTOR_UPDATED",
            Self::FactorDeleted => "KIND_FACTOR_DELETED",
            Self::RecoveryCodesRegenerated => "KIND_RECOVERY_CODES_REGENERATED",
            Self::Reauthenticated => "KIND_REAUTHENTICATED",
            Self::FactorCodeWrong => "KIND_FACTOR_CODE_WRONG",
            Self::UserFactorsDeleted => "KIND_USER_FACTORS_DELETED",
            Self::PasskeyCloneSuspected => "KIND_PASSKEY_CLONE_SUSPECTED",
            Self::ServiceAccountCreated => "KIND_SERVICE_ACCOUNT_CREATED",
            Self::ServiceAccountSecretRotated => "KIND_SERVICE_ACCOUNT_SECRET_ROTATED",
            Self::ServiceAccountDeleted => "KIND_SERVICE_ACCOUNT_DELETED",
            Self::TokenExchanged => "KIND_TOKEN_EXCHANGED",
            Self::DeviceApproved => "KIND_DEVICE_APPROVED",
            Self::DeviceDenied => "KIND_DEVICE_DENIED",
        }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A new event of an account. The id of the account is passed when the event is stored.
#[derive(Clone, Debug)]
pub struct Event {
    /// The primary key, which increases with time.
    pub id: Uuid,
    /// The kind of the event.
    pub kind: Kind,
    /// Who caused it.
    pub actor: Actor,
    /// The session that caused it or that it affects.
    pub session_id: Option<Uuid>,
    /// The client that caused it.
    pub client: ClientInfo,
    /// Additional details by name, without secrets.
    pub details: BTreeMap<&'static str, String>,
}

impl Event {
    /// Creates an event without details.
    #[must_use]
    pub fn new(clock: &Clock, kind: Kind, actor: Actor, session_id: Option<Uuid>, client: ClientInfo) -> Self {
        Self { id: clock.new_id(), kind, actor, session_id, client, details: BTreeMap::new() }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.details.insert(name, value.to_string());
        self
    }

    /// Returns the account that caused this event of the account `user_id`; `None` if it is unknown.
    #[must_use]
    pub fn actor_id(&self, user_id: Uuid) -> Option<Uuid> {
        match self.actor {
            Actor::Owner => Some(user_id),
            Actor::Unknown => None,
            Actor::Admin(id) | Actor::Service(id) => Some(id),
        }
    }

    /// Returns the details as they are stored.
    #[must_use]
    pub fn details_json(&self) -> String {
        serde_json::to_string(&self.details).expect("a map of strings can be serialized")
    }
}

/// Returns a pseudo account id for an email address without an account.
#[must_use]
pub fn unknown_user_id(email: &Email) -> Uuid {
    let digest = digest::digest(&digest::SHA256, email.as_str().as_bytes());
    Uuid::from_bytes(*digest.as_ref().first_chunk().expect("SHA-256 digests have 32 bytes"))
}

/// A row of the audit log.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The primary key.
    pub id: Uuid,
    pub(crate) kind: String,
    pub(crate) user_id: Uuid,
    pub(crate) actor_id: Option<Uuid>,
    pub(crate) session_id: Option<Uuid>,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) details: String,
    pub(crate) created_at: Timestamp,
    pub(crate) occurrences: i64,
}
