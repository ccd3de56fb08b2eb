//! Accounts.

use service_kit::clock::Timestamp;
use taskey_proto::auth::v1 as pb;
use uuid::Uuid;

/// A row of an account, without its password hash.
#[derive(Clone, Debug)]
pub struct User {
    /// The key.
    pub id: Uuid,
    /// In its canonical form.
    pub email: String,
    /// How the person wants to be called.
    pub display_name: String,
    /// Whether mail to the address is known to arrive.
    pub email_verified: bool,
    /// Separated by spaces.
    pub roles: String,
    /// Whether it may not log in.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An account and the hash of its password.
#[derive(Clone)]
pub struct Credentials {
    /// The account.
    pub user: User,
    /// The PHC string.
    pub password_hash: String,
}

impl User {
    /// What the account may do beyond its own affairs.
    #[must_use]
    pub fn roles(&self) -> Vec<String> {
        self.roles.split_whitespace().map(str::to_owned).collect()
    }
}

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
