//! Compiles the `.proto` files with protox, a compiler written in Rust: no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

/// The files of the contract. `google/rpc/error_details.proto` is among them so that reflection can serve it, and
/// grpcurl print error details in clear.
const FILES: [&str; 14] = [
    "taskey/auth/v1/account_service.proto",
    "taskey/auth/v1/admin_service.proto",
    "taskey/auth/v1/auth_service.proto",
    "taskey/auth/v1/device_authorization_service.proto",
    "taskey/auth/v1/factor_service.proto",
    "taskey/auth/v1/oauth_service.proto",
    "taskey/auth/v1/personal_access_token_service.proto",
    "taskey/auth/v1/token_service.proto",
    "taskey/errors/v1/error_reason.proto",
    "taskey/options/v1/options.proto",
    "taskey/task/v1/task_list_service.proto",
    "taskey/task/v1/task_service.proto",
    "taskey/task/v1/webhook_service.proto",
    "google/rpc/error_details.proto",
];

/// Messages that hold a password or a token: their `Debug` is written by hand, in `lib.rs`.
const SECRET_MESSAGES: [&str; 26] = [
    ".taskey.auth.v1.SignUpRequest",
    ".taskey.auth.v1.LoginRequest",
    ".taskey.auth.v1.RefreshRequest",
    ".taskey.auth.v1.LogoutRequest",
    ".taskey.auth.v1.TokenPair",
    ".taskey.auth.v1.IntrospectRequest",
    ".taskey.auth.v1.ChangePasswordRequest",
    ".taskey.auth.v1.DeleteMeRequest",
    ".taskey.auth.v1.PersonalAccessToken",
    ".taskey.auth.v1.ExchangePersonalAccessTokenRequest",
    ".taskey.auth.v1.CompleteLoginRequest",
    ".taskey.auth.v1.LoginChallenge",
    ".taskey.auth.v1.ReauthenticateRequest",
    ".taskey.auth.v1.ReauthenticateResponse",
    ".taskey.auth.v1.CreateTotpResponse",
    ".taskey.auth.v1.ConfirmTotpRequest",
    ".taskey.auth.v1.ConfirmTotpResponse",
    ".taskey.auth.v1.RegenerateRecoveryCodesResponse",
    ".taskey.auth.v1.ServiceAccount",
    ".taskey.auth.v1.IssueTokenRequest",
    ".taskey.auth.v1.IssueTokenResponse",
    ".taskey.auth.v1.RevokeTokenRequest",
    ".taskey.auth.v1.FinishPasskeyLoginRequest",
    ".taskey.auth.v1.FinishPasskeyResponse",
    ".taskey.auth.v1.AuthorizeDeviceResponse",
    ".taskey.task.v1.Webhook",
];

/// The messages that servers encode themselves.
const ENCODED_MESSAGES: [(&str, &str); 1] =
    [(".taskey.task.v1.ListTasksResponse", "crate::encoded::Encoded<crate::task::v1::ListTasksResponse>")];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=taskey");
    println!("cargo::rerun-if-changed=google");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // The raw bytes keep the extension options (google.api.http), which `prost_types` would drop. The comments are in
    // them too, so that reflection serves the documentation along with the types.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let mut messages = prost_build::Config::new();
    // The codec distinguishes requests from responses by their names.
    messages.extern_path(".google.rpc", "::tonic_types::pb").skip_debug(SECRET_MESSAGES).enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::codec::LimitedCodec")
        .build_server(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), messages)?;

    // The messages exist already. Servers are generated separately, because some of their responses have other types.
    let server_folder = out.join("servers");
    fs::create_dir_all(&server_folder)?;
    let mut servers = prost_build::Config::new();
    servers.extern_path(".google", "::tonic_types::pb");
    for package in ["auth", "errors", "options", "task"] {
        servers.extern_path(format!(".taskey.{package}.v1"), format!("crate::{package}::v1"));
    }
    for (message, path) in ENCODED_MESSAGES {
        servers.extern_path(message, path);
    }
    tonic_prost_build::configure()
        .codec_path("crate::codec::LimitedCodec")
        .build_client(false)
        .out_dir(server_folder)
        .compile_fds_with_config(compiler.file_descriptor_set(), servers)?;
    Ok(())
}
