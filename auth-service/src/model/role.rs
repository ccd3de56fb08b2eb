//! Roles: permissions of accounts beyond their own data.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Administers other people's accounts.
    Admin,
    /// Verifies tokens, like a service.
    Verifier,
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "admin" => Ok(Self::Admin),
            "verifier" => Ok(Self::Verifier),
            _ => Err("must be admin or verifier"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Verifier => "verifier",
        })
    }
}

/// The roles of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Parses roles as they are stored, separated by spaces. Unknown roles are ignored.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.split_whitespace().filter_map(|role| role.parse().ok()).collect())
    }

    /// Adds a role. Reports whether it was missing.
    pub fn insert(&mut self, role: Role) -> bool {
        self.0.insert(role)
    }

    /// Removes a role.
    pub fn remove(&mut self, role: Role) {
        self.0.remove(&role);
    }

    /// Reports whether `role` is one of the roles.
    #[must_use]
    pub fn contains(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Reports whether any of the roles `other` is missing.
    #[must_use]
    pub fn lacks_any_of(&self, other: &Self) -> bool {
        !other.0.is_subset(&self.0)
    }
}

impl fmt::Display for Roles {
    /// Writes the roles as they are stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, Roles};

    #[test]
    fn roles_have_one_stored_form() {
        let mut roles = Roles::from_stored("verifier admin");
        assert_eq!(roles.to_string(), "admin verifier");
        assert!(!roles.insert(Role::Admin) && roles.contains(Role::Verifier));
        let fewer = Roles::from_stored("admin");
        assert!(fewer.lacks_any_of(&roles) && !roles.lacks_any_of(&fewer));
        roles.remove(Role::Verifier);
        assert_eq!(roles, fewer);
        assert_eq!(Roles::from_stored("").to_string(), "");
    }
}
