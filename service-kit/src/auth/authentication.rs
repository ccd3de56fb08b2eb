//! How and when a user has proved their identity: the claims `amr` and `auth_time` (OpenID Connect Core 1.0, section 2).

use std::fmt;

use crate::clock::Timestamp;

/// A way of proving one's identity (RFC 8176).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// A password.
    Password,
    /// A one-time password: the code of an authenticator app, or a recovery code.
    OneTimePassword,
    /// A key in hardware.
    HardwareKey,
    /// A key in software.
    SoftwareKey,
    /// Several factors of different kinds.
    MultipleFactors,
}

impl AuthMethod {
    /// All methods.
    pub const ALL: [Self; 5] =
        [Self::Password, Self::OneTimePassword, Self::HardwareKey, Self::SoftwareKey, Self::MultipleFactors];

    /// Returns the name in tokens.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::OneTimePassword => "otp",
            Self::HardwareKey => "hwk",
            Self::SoftwareKey => "swk",
            Self::MultipleFactors => "mfa",
        }
    }
}

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthMethods(u8);

impl AuthMethods {
    /// Reads the names of methods. Methods that are unknown to this version are ignored.
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let methods =
            names.into_iter().filter_map(|name| AuthMethod::ALL.into_iter().find(|method| method.name() == name));
        methods.fold(Self::default(), |methods, method| Self(methods.0 | bit(method)))
    }

    /// Returns the set with a further method. A second one makes it an authentication by multiple factors.
    #[must_use]
    pub fn with(self, method: AuthMethod) -> Self {
        let methods = self.0 | bit(method);
        let is_multiple = (methods & !bit(AuthMethod::MultipleFactors)).count_ones() > 1;
        Self(if is_multiple { methods | bit(AuthMethod::MultipleFactors) } else { methods })
    }

    /// Reports whether the set contains a method.
    #[must_use]
    pub fn contains(self, method: AuthMethod) -> bool {
        self.0 & bit(method) != 0
    }

    /// Returns the methods in the order of [`AuthMethod::ALL`].
    pub fn iter(self) -> impl Iterator<Item = AuthMethod> {
        AuthMethod::ALL.into_iter().filter(move |method| self.contains(*method))
    }

    /// Returns the names of the methods.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.iter().map(|method| method.name().to_owned()).collect()
    }
}

fn bit(method: AuthMethod) -> u8 {
    1 << method as u8
}

impl fmt::Display for AuthMethods {
    /// Writes the names, separated by spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" "))
    }
}

/// How and when a user has proved their identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The methods: `amr`.
    pub methods: AuthMethods,
    /// When the user last proved a factor: `auth_time`. A refresh does not change it.
    pub time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_are_ignored() {
        assert_eq!(AuthMethods::from_names(["otp", "face", "pwd"]).to_string(), "pwd otp");
        assert_eq!(AuthMethods::from_names(["face", ""]), AuthMethods::default());
    }

    #[test]
    fn two_methods_are_multiple_factors() {
        let password = AuthMethods::default().with(AuthMethod::Password);
        assert_eq!(password.with(AuthMethod::Password).names(), ["pwd"]);
        assert_eq!(password.with(AuthMethod::OneTimePassword).names(), ["pwd", "otp", "mfa"]);
        assert_eq!(AuthMethods::default().with(AuthMethod::HardwareKey).names(), ["hwk"]);
    }
}
