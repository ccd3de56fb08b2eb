//! Accounts.

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{audit::unknown_user_id, email::Email};

/// A row of the users table, without the password hash.
#[derive(Clone, Debug)]
pub struct User {
    /// The primary key.
    pub id: Uuid,
    /// The email address in canonical form.
    pub email: String,
    /// The display name.
    pub display_name: String,
    /// Whether the email address has been verified.
    pub email_verified: bool,
    /// The roles, separated by spaces.
    pub roles: String,
    /// Whether the account is disabled, and cannot log in.
    pub disabled: bool,
    /// When the account was created.
    pub created_at: Timestamp,
    /// When the account was last changed.
    pub updated_at: Timestamp,
}

/// An account and the hash of its password.
#[derive(Clone)]
pub struct Credentials {
    /// The account.
    pub user: User,
    /// The password hash as a PHC string.
    pub password_hash: String,
    /// The number of password changes. A new hash of the same password does not count.
    pub password_version: i64,
    /// The number of changes of the email address.
    pub email_version: i64,
}

impl Credentials {
    /// Returns the account with another, verified address.
    #[must_use]
    pub fn with_email(&self, email: String) -> Self {
        let user = User { email, email_verified: true, ..self.user.clone() };
        Self { user, email_version: self.email_version + 1, ..self.clone() }
    }

    /// Returns what stands for the account of an address that has none. Nobody can log in to it, and no mail is sent.
    #[must_use]
    pub fn unknown(email: &Email, now: Timestamp) -> Self {
        let user = User {
            id: unknown_user_id(email),
            email: String::new(),
            display_name: String::new(),
            email_verified: false,
            roles: String::new(),
            disabled: true,
            created_at: now,
            updated_at: now,
        };
        Self { user, password_hash: String::new(), password_version: 0, email_version: 0 }
    }
}

impl User {
    /// Returns the names of the roles.
    #[must_use]
    pub fn roles(&self) -> Vec<String> {
        self.roles.split_whitespace().map(str::to_owned).collect()
    }
}
