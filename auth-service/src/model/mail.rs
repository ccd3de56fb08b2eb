//! Mails to users.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::user::{Credentials, User};

/// Maximum number of mails of an account in [`LIMIT_PERIOD`], for each [`Allowance`].
pub const MAX_MAILS: i64 = 10;

/// The period in which the mails of an account are limited.
pub const LIMIT_PERIOD: Duration = Duration::from_secs(3600);

/// Maximum number of mails that wait to be sent.
pub const MAX_PENDING: i64 = 10_000;

/// Delay after the first failed attempt. It doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(30);

/// Maximum delay between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// The details of a mail by name, without secrets.
pub type Details = BTreeMap<String, String>;

/// The detail with the IP address of the client that caused a mail.
pub const IP_ADDRESS: &str = "ip_address";

/// The detail with the address that replaces that of the account.
pub const NEW_EMAIL: &str = "new_email";

/// The detail with the address that was replaced.
pub const OLD_EMAIL: &str = "old_email";

/// Parses details as they are stored.
#[must_use]
pub fn parse_details(json: &str) -> Details {
    serde_json::from_str(json).unwrap_or_default()
}

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The password was changed.
    PasswordChanged,
    /// The address can be verified.
    VerifyEmail,
    /// The password can be reset.
    ResetPassword,
    /// The address can be changed to that of the mail.
    ConfirmEmailChange,
    /// The address was changed, and that of the mail can be restored.
    EmailChanged,
    /// Somebody has logged in from another network than before.
    NewDevice,
    /// A refresh token was used twice, and its session has ended.
    RefreshReused,
    /// Somebody has tried to sign up with the address of an account.
    AccountExists,
    /// A second factor was added or deleted, or the recovery codes were replaced.
    FactorChanged,
    /// A passkey was used that may have been copied.
    PasskeyCloneSuspected,
}

impl Template {
    /// All templates.
    pub const ALL: [Self; 10] = [
        Self::PasswordChanged,
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::ConfirmEmailChange,
        Self::EmailChanged,
        Self::NewDevice,
        Self::RefreshReused,
        Self::AccountExists,
        Self::FactorChanged,
        Self::PasskeyCloneSuspected,
    ];

    /// Returns the name that is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PasswordChanged => "PASSWORD_CHANGED",
            Self::VerifyEmail => "VERIFY_EMAIL",
            Self::ResetPassword => "RESET_PASSWORD",
            Self::ConfirmEmailChange => "CONFIRM_EMAIL_CHANGE",
            Self::EmailChanged => "EMAIL_CHANGED",
            Self::NewDevice => "NEW_DEVICE",
            Self::RefreshReused => "REFRESH_REUSED",
            Self::AccountExists => "ACCOUNT_EXISTS",
            Self::FactorChanged => "FACTOR_CHANGED",
            Self::PasskeyCloneSuspected => "PASSKEY_CLONE_SUSPECTED",
        }
    }

    /// Returns the template with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name() == name)
    }

    /// Returns how long a mail is useful: its link is valid, or a notice is news. Until then, the server tries to send it.
    #[must_use]
    pub fn lifetime(self) -> Duration {
        match self {
            Self::ResetPassword => Duration::from_secs(3600),
            Self::EmailChanged => Duration::from_secs(7 * 24 * 3600),
            Self::PasswordChanged
            | Self::VerifyEmail
            | Self::ConfirmEmailChange
            | Self::NewDevice
            | Self::RefreshReused
            | Self::AccountExists
            | Self::FactorChanged
            | Self::PasskeyCloneSuspected => Duration::from_secs(24 * 3600),
        }
    }

    /// Reports whether a mail has a link that changes the account.
    #[must_use]
    pub fn has_link(self) -> bool {
        matches!(self, Self::VerifyEmail | Self::ResetPassword | Self::ConfirmEmailChange | Self::EmailChanged)
    }

    /// Returns the mails that are limited together with those of this template.
    #[must_use]
    pub fn allowance(self) -> Allowance {
        match self {
            Self::EmailChanged => Allowance::Unlimited,
            Self::AccountExists | Self::ResetPassword => Allowance::Strangers(self),
            Self::VerifyEmail | Self::ConfirmEmailChange => Allowance::Requested,
            Self::PasswordChanged
            | Self::NewDevice
            | Self::RefreshReused
            | Self::FactorChanged
            | Self::PasskeyCloneSuspected => Allowance::Notices,
        }
    }

    /// Reports whether anyone can cause the mail. All others inform the owner of an account about what was done with it.
    #[must_use]
    pub fn is_requested(self) -> bool {
        match self {
            Self::PasswordChanged
            | Self::EmailChanged
            | Self::NewDevice
            | Self::RefreshReused
            | Self::FactorChanged
            | Self::PasskeyCloneSuspected => false,
            Self::VerifyEmail | Self::ResetPassword | Self::ConfirmEmailChange | Self::AccountExists => true,
        }
    }

    /// Reports whether a mail makes the link of earlier ones void. A request to change the address replaces the one before,
    /// whose address may be mistyped. Other mails do not: strangers who request them would take the owner's links away.
    #[must_use]
    pub fn replaces_earlier(self) -> bool {
        self == Self::ConfirmEmailChange
    }
}

/// The mails of an account that are limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Notices.
    Notices,
    /// Mails that only those cause who have the password, besides the one of the sign-up.
    Requested,
    /// Mails of this template, each of which strangers can cause. They must not prevent the owner from requesting others.
    Strangers(Template),
    /// Mails after a change of the address, which has a limit itself, and after the use of a link, which is possible once.
    /// If one was dropped, the owner could not recover the account.
    Unlimited,
}

/// A mail to store in the outbox.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// The primary key.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// What it is about.
    pub template: Template,
    /// The address.
    pub recipient: String,
    /// What the text contains besides the address.
    pub details: Details,
    /// A digest of what the link in the mail changes. Empty if there is no link.
    pub account_state: String,
    /// The mails that it is limited with.
    pub allowance: Allowance,
}

impl NewMail {
    /// Creates a mail without a link to the address of an account.
    #[must_use]
    pub fn notice(id: Uuid, template: Template, user: &User) -> Self {
        let (recipient, account_state) = (user.email.clone(), String::new());
        let allowance = template.allowance();
        Self { id, user_id: user.id, template, recipient, details: Details::new(), account_state, allowance }
    }

    /// Creates a mail with a link that changes an account: to the address in the details, if there is one, or to that of
    /// the account.
    #[must_use]
    pub fn action(id: Uuid, template: Template, account: &Credentials, details: Details) -> Self {
        let account_state = account_state(template, account, &details);
        let recipient =
            details.get(NEW_EMAIL).or_else(|| details.get(OLD_EMAIL)).unwrap_or(&account.user.email).clone();
        Self { recipient, details, account_state, ..Self::notice(id, template, &account.user) }
    }

    /// Lifts the limit. The caller ensures that there are few.
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self { allowance: Allowance::Unlimited, ..self }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: String) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }
}

/// A mail that a server has begun to send.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The primary key.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// What it is about. `None` if only newer servers have this template.
    pub template: Option<Template>,
    /// The address.
    pub recipient: String,
    /// What the text contains besides the address.
    pub details: Details,
    /// A digest of what the link in the mail changed when the mail was stored. Empty if there is no link.
    pub account_state: String,
    /// The number of this attempt, from 1.
    pub attempt: i64,
    /// When the mail was stored.
    pub created_at: Timestamp,
}

impl Mail {
    /// Returns the delay after this attempt has failed.
    #[must_use]
    pub fn retry_delay(&self) -> Duration {
        let doublings = u32::try_from(self.attempt - 1).unwrap_or(0).min(16);
        (FIRST_DELAY * 2_u32.pow(doublings)).min(MAX_DELAY)
    }
}

/// What has become of an attempt to send a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The mail was accepted.
    Sent,
    /// The attempt failed, and the next one follows at this time.
    Retry {
        /// When the next attempt follows.
        at: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// The mail will not be sent.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// The mail will not be sent, because its link is no longer valid.
    Obsolete,
}

impl AttemptOutcome {
    /// Returns the name of the outcome in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retry { .. } => "retry",
            Self::Failed { .. } => "failed",
            Self::Obsolete => "obsolete",
        }
    }
}

/// Returns a digest of what the link of a template changes in an account. Empty if the template has no link that changes
/// anything.
#[must_use]
pub fn account_state(template: Template, account: &Credentials, details: &Details) -> String {
    let Credentials { user, password_version, email_version, .. } = account;
    let (password, email) = (password_version.to_string(), email_version.to_string());
    let detail = |name: &str| details.get(name).map_or("", String::as_str);
    let fields: &[&str] = match template {
        Template::PasswordChanged
        | Template::NewDevice
        | Template::RefreshReused
        | Template::AccountExists
        | Template::FactorChanged
        | Template::PasskeyCloneSuspected => {
            return String::new();
        }
        Template::VerifyEmail => &[&user.email, &email, if user.email_verified { "verified" } else { "unverified" }],
        Template::ResetPassword => &[&user.email, &email, &password],
        Template::ConfirmEmailChange => &[&user.email, &email, &password, detail(NEW_EMAIL)],
        Template::EmailChanged => &[&user.email, &email, detail(OLD_EMAIL)],
    };
    let mut context = digest::Context::new(&digest::SHA256);
    for field in fields {
        context.update(&field.len().to_be_bytes());
        context.update(field.as_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_an_hour() {
        let delays = [1, 2, 3, 7, 8, 100].map(|attempt| {
            let mail = Mail {
                id: Uuid::nil(),
                user_id: Uuid::nil(),
                template: None,
                recipient: String::new(),
                details: Details::new(),
                account_state: String::new(),
                attempt,
                created_at: Timestamp::from_seconds(0),
            };
            mail.retry_delay().as_secs()
        });
        assert_eq!(delays, [30, 60, 120, 1920, 3600, 3600]);
    }

    #[test]
    fn templates_are_found_by_their_names() {
        for template in Template::ALL {
            assert_eq!(Template::from_name(template.name()), Some(template));
        }
        assert_eq!(Template::from_name("NEWER"), None);
    }
}
