//! Accounts.

use service_kit::clock::Timestamp;
use uuid::Uuid;

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
}

impl User {
    /// Returns the names of the roles.
    #[must_use]
    pub fn roles(&self) -> Vec<String> {
        self.roles.split_whitespace().map(str::to_owned).collect()
    }
}
