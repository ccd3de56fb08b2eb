//! Roles: what accounts may do beyond their own affairs.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Administers other people's accounts.
    Admin,
    /// Asks about tokens, as services do.
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
    /// Those that the database holds, separated by spaces. One that this program does not know is left out.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.split_whitespace().filter_map(|role| role.parse().ok()).collect())
    }

    /// Adds a role, and says whether it was missing.
    pub fn insert(&mut self, role: Role) -> bool {
        self.0.insert(role)
    }

    /// Takes a role away.
    pub fn remove(&mut self, role: Role) {
        self.0.remove(&role);
    }

    /// Whether `role` is one of them.
    #[must_use]
    pub fn contains(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Reports whether an account with the roles `before` would lose one.
    #[must_use]
    pub fn lack_any_of(&self, before: &Self) -> bool {
        !before.0.is_subset(&self.0)
    }
}

impl fmt::Display for Roles {
    /// As the database holds them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, Roles};

    #[test]
    fn roles_are_stored_in_one_way() {
        let mut roles = Roles::stored("verifier admin");
        assert_eq!(roles.to_string(), "admin verifier");
        assert!(!roles.insert(Role::Admin) && roles.contains(Role::Verifier));
        let fewer = Roles::stored("admin");
        assert!(fewer.lack_any_of(&roles) && !roles.lack_any_of(&fewer));
        roles.remove(Role::Verifier);
        assert_eq!(roles, fewer);
        assert_eq!(Roles::stored("").to_string(), "");
    }
}
