//! Scopes: what a token permits (RFC 6749, section 3.3). Each RPC of the contract requires one of them.

use std::{fmt, str::FromStr};

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To read tasks and lists.
    TasksRead,
    /// To change tasks and lists.
    TasksWrite,
    /// To read the account of the caller.
    AccountRead,
    /// To change the account of the caller.
    AccountWrite,
    /// To read all accounts, as an administrator.
    AdminRead,
    /// To change other accounts, as an administrator.
    AdminWrite,
    /// To verify tokens: introspection and the feed of revocations.
    TokensVerify,
    /// To call on behalf of clients, whose addresses are forwarded.
    ClientsForward,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 8] = [
        Self::TasksRead,
        Self::TasksWrite,
        Self::AccountRead,
        Self::AccountWrite,
        Self::AdminRead,
        Self::AdminWrite,
        Self::TokensVerify,
        Self::ClientsForward,
    ];

    /// Returns the name in tokens and in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TasksRead => "tasks.read",
            Self::TasksWrite => "tasks.write",
            Self::AccountRead => "account.read",
            Self::AccountWrite => "account.write",
            Self::AdminRead => "admin.read",
            Self::AdminWrite => "admin.write",
            Self::TokensVerify => "tokens.verify",
            Self::ClientsForward => "clients.forward",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a scope")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.name() == name).ok_or(UnknownScope)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Parses the claim `scope` of an access token: names separated by single spaces, none of them twice. Scopes that
    /// are unknown to this version permit nothing. Returns `None` if the text is invalid.
    #[must_use]
    pub fn from_claim(text: &str) -> Option<Self> {
        let mut names: Vec<_> = text.split(' ').collect();
        names.sort_unstable();
        let has_duplicate = names.windows(2).any(|pair| pair[0] == pair[1]);
        (!has_duplicate && names.iter().all(|name| is_scope_token(name)))
            .then(|| names.into_iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Reports whether `scope` is one of the scopes.
    #[must_use]
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// Reports whether there is no scope.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

/// Reports whether the text is a `scope-token` (RFC 6749, section 3.3).
fn is_scope_token(text: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !text.is_empty() && text.bytes().all(is_allowed)
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

impl fmt::Display for Scopes {
    /// Writes the scopes as the claim `scope`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_one_written_form() {
        let scopes: Scopes = [Scope::TasksWrite, Scope::TasksRead].into_iter().collect();
        assert_eq!(scopes.to_string(), "tasks.read tasks.write");
        assert_eq!(Scopes::from_claim("tasks.write tasks.read"), Some(scopes));
        let all: Scopes = Scope::ALL.into_iter().collect();
        assert_eq!(Scopes::from_claim(&all.to_string()), Some(all));
    }

    #[test]
    fn unknown_scopes_permit_nothing() {
        assert_eq!(Scopes::from_claim("webhooks.write"), Some(Scopes::default()));
        assert_eq!(Scopes::from_claim("x tasks.read"), Some([Scope::TasksRead].into_iter().collect()));
        assert_eq!(Scopes::from_claim("public TASKS.READ"), Some(Scopes::default()));
    }

    #[test]
    fn claims_that_violate_the_grammar_are_invalid() {
        let invalid = ["", " ", "tasks.read ", " tasks.read", "tasks.read  tasks.write", "tasks.read\ttasks.write"];
        for text in invalid.into_iter().chain(["tasks.read tasks.read", "x x", "a\"b", "a\\b", "a\u{7f}", "naïve"]) {
            assert_eq!(Scopes::from_claim(text), None, "{text:?}");
        }
    }
}
