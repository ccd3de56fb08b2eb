//! The wire contract of Taskey, generated from the `.proto` files beside this crate, which document it.

use std::fmt;

pub mod codec;
pub mod encoded;

/// `taskey.auth.v1`: accounts, sessions, tokens.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("taskey.auth.v1");
        // Generated separately from the messages and clients.
        tonic::include_proto!("servers/taskey.auth.v1");
    }
}

/// `taskey.errors.v1`: the reasons of refusals.
pub mod errors {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("taskey.errors.v1");
    }
}

/// `taskey.task.v1`: tasks.
pub mod task {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("taskey.task.v1");
        // Generated separately from the messages and clients.
        tonic::include_proto!("servers/taskey.task.v1");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of the whole contract with all that it imports. The options of
/// `google.api.http` are in it.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Implements `Debug` with nothing but the name, so that no secret can reach a log through `{:?}`. A macro because the
/// implementations differ in names only.
macro_rules! debug_without_fields {
    ($($message:ident),* $(,)?) => {$(
        impl fmt::Debug for auth::v1::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}

debug_without_fields!(
    SignUpRequest,
    LoginRequest,
    RefreshRequest,
    LogoutRequest,
    TokenPair,
    IntrospectRequest,
    ChangePasswordRequest,
    DeleteMeRequest,
    PersonalAccessToken,
    ExchangePersonalAccessTokenRequest,
    CompleteLoginRequest,
    LoginChallenge,
    ReauthenticateRequest,
    ReauthenticateResponse,
    CreateTotpResponse,
    ConfirmTotpRequest,
    ConfirmTotpResponse,
    RegenerateRecoveryCodesResponse,
    ServiceAccount,
    IssueTokenRequest,
    IssueTokenResponse,
    RevokeTokenRequest,
    FinishPasskeyLoginRequest,
    FinishPasskeyResponse,
    AuthorizeDeviceResponse,
);

/// It is defined within a message without a derived `Debug`, so it has none, either.
impl fmt::Debug for auth::v1::login_challenge::Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str_name())
    }
}

impl fmt::Debug for task::v1::Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for task::v1::webhook::State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str_name())
    }
}
