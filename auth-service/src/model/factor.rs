//! Second factors.

use std::time::Duration;

use service_kit::{
    auth::authentication::{AuthMethod, AuthMethods},
    clock::Timestamp,
};
use uuid::Uuid;

use super::{
    passkey::PasskeyUse,
    recovery_code::RecoveryCodeHash,
    refresh_token::RefreshKeys,
    sealed::{self, Purpose},
    totp::{TotpCode, TotpSecret},
};
use crate::webauthn::response::Assertion;

/// Maximum number of factors of an account.
pub const MAX_FACTORS: i64 = 10;

/// How long the secret of an authenticator app can be confirmed.
pub const CONFIRMATION_PERIOD: Duration = Duration::from_secs(600);

/// The type of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorType {
    /// An authenticator app.
    Totp,
    /// A passkey.
    Passkey,
}

impl FactorType {
    const ALL: [Self; 2] = [Self::Totp, Self::Passkey];

    /// Returns the name of the type, as in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Totp => "TOTP",
            Self::Passkey => "PASSKEY",
        }
    }

    /// Returns the type with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|factor_type| factor_type.name() == name)
    }
}

/// A factor as it is listed, without its secret.
#[derive(Clone, Debug)]
pub struct Factor {
    /// The primary key.
    pub id: Uuid,
    /// The type.
    pub kind: FactorType,
    /// The name that the user gave to it.
    pub label: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// The secret of an authenticator app as it is stored.
#[derive(Clone)]
pub struct SealedTotp {
    /// The factor.
    pub factor_id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// The encrypted secret.
    pub sealed_secret: String,
    /// The time step of the last accepted code.
    pub last_step: i64,
}

impl SealedTotp {
    /// Encrypts the secret of a new factor.
    #[must_use]
    pub fn seal(keys: &RefreshKeys, factor_id: Uuid, user_id: Uuid, secret: &TotpSecret) -> Self {
        let context = context(factor_id, user_id);
        let sealed_secret = sealed::seal(keys.first(), Purpose::TotpSecret, &context, secret.as_bytes());
        Self { factor_id, user_id, sealed_secret, last_step: 0 }
    }

    /// Decrypts the secret. Returns `None` if its key was removed, or the row was changed.
    #[must_use]
    pub fn open(&self, keys: &RefreshKeys) -> Option<TotpSecret> {
        let context = context(self.factor_id, self.user_id);
        let secret = sealed::open(keys, Purpose::TotpSecret, &context, &self.sealed_secret);
        secret.and_then(|secret| TotpSecret::from_bytes(&secret))
    }

    /// Returns the use of this factor with a code that is accepted now, unless its step was used.
    #[must_use]
    pub fn accept(&self, keys: &RefreshKeys, code: &TotpCode, now: Timestamp) -> Option<FactorUse> {
        let Some(secret) = self.open(keys) else {
            tracing::error!(factor_id = %self.factor_id, "cannot decrypt the secret of a factor");
            return None;
        };
        let step = secret.step_of(code, now, self.last_step)?;
        Some(FactorUse::Totp { factor_id: self.factor_id, step })
    }
}

/// Binds a secret to its row, so that nobody who can write to the database can exchange the factors of two accounts.
fn context(factor_id: Uuid, user_id: Uuid) -> Vec<u8> {
    [factor_id.as_bytes().as_slice(), user_id.as_bytes()].concat()
}

/// What a user enters, or an authenticator signs, as second factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecondFactor {
    /// A code of an authenticator app.
    TotpCode(TotpCode),
    /// A recovery code.
    RecoveryCode(RecoveryCodeHash),
    /// The response of a passkey.
    Passkey(Assertion),
}

/// The use of a factor. Each is possible once: a conditional update decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactorUse {
    /// The code of a time step.
    Totp {
        /// The factor.
        factor_id: Uuid,
        /// The step.
        step: i64,
    },
    /// A recovery code.
    RecoveryCode(RecoveryCodeHash),
    /// The signature of a passkey.
    Passkey(PasskeyUse),
}

impl FactorUse {
    /// Returns the name of the type of the factor, as in the API.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Totp { .. } => FactorType::Totp.name(),
            Self::RecoveryCode(_) => "RECOVERY_CODE",
            Self::Passkey(_) => FactorType::Passkey.name(),
        }
    }

    /// Adds the methods that this use proves to those that were proved before. Without an attestation, it is not known where
    /// the key of a passkey is: it counts as one in software if it may be copied to other devices. An authenticator that
    /// verifies its user has a second factor of its own.
    #[must_use]
    pub fn add_to(&self, methods: AuthMethods) -> AuthMethods {
        let Self::Passkey(PasskeyUse { verified, .. }) = self else {
            return methods.with(AuthMethod::OneTimePassword);
        };
        let key = if verified.backup_eligible { AuthMethod::SoftwareKey } else { AuthMethod::HardwareKey };
        let methods = methods.with(key);
        if verified.user_verified { methods.with(AuthMethod::MultipleFactors) } else { methods }
    }
}

/// The factors with which a login can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvailableFactors {
    /// The number of authenticator apps.
    pub totp: i64,
    /// The number of passkeys.
    pub passkeys: i64,
    /// The number of unused recovery codes.
    pub recovery_codes: i64,
}

impl AvailableFactors {
    /// Reports whether a login needs a second factor.
    #[must_use]
    pub fn is_required(self) -> bool {
        self.totp > 0 || self.passkeys > 0
    }
}
