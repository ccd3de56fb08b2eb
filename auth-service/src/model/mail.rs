//! Mails to users.

use std::{collections::BTreeMap, time::Duration};

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::user::User;

/// Maximum number of mails of an account in [`LIMIT_PERIOD`] that were requested, and maximum number of notices.
pub const MAX_MAILS: i64 = 10;

/// The period in which the mails of an account are limited.
pub const LIMIT_PERIOD: Duration = Duration::from_secs(3600);

/// Maximum number of mails that wait to be sent.
pub const MAX_PENDING: i64 = 10_000;

/// Delay after the first failed attempt. It doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(30);

/// Maximum delay between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The password was changed.
    PasswordChanged,
}

impl Template {
    /// All templates.
    pub const ALL: [Self; 1] = [Self::PasswordChanged];

    /// Returns the name that is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PasswordChanged => "PASSWORD_CHANGED",
        }
    }

    /// Returns the template with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name() == name)
    }

    /// Returns how long a mail is useful. Until then, the server tries to send it.
    #[must_use]
    pub fn lifetime(self) -> Duration {
        match self {
            Self::PasswordChanged => Duration::from_secs(24 * 3600),
        }
    }

    /// Reports whether a caller requests the mail. All others inform about a change.
    #[must_use]
    pub fn is_requested(self) -> bool {
        match self {
            Self::PasswordChanged => false,
        }
    }
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
    /// What the text contains besides the address, by name.
    pub details: BTreeMap<String, String>,
}

impl NewMail {
    /// Creates a mail to the address of an account.
    #[must_use]
    pub fn new(id: Uuid, template: Template, user: &User) -> Self {
        Self { id, user_id: user.id, template, recipient: user.email.clone(), details: BTreeMap::new() }
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
    /// What the text contains besides the address, by name.
    pub details: BTreeMap<String, String>,
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
}

impl AttemptOutcome {
    /// Returns the name of the outcome in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retry { .. } => "retry",
            Self::Failed { .. } => "failed",
        }
    }
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
                details: BTreeMap::new(),
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
