//! Invariants that are checked at the end: one live refresh token per session, no credential that grants more than it
//! was issued for, no secret in a log, and no panic.

use std::{fs, path::Path};

use taskey_proto::auth::v1::{ListUsersRequest, TokenPair, admin_service_client::AdminServiceClient};
use tonic::{Code, transport::Channel};

use super::{client::to_problem, journal::Journal};
use crate::{
    faults::users::{refresh, try_password},
    process::{PASSWORD, bearer},
};

/// Checks the tokens of an honest user. Ends the session.
pub async fn check_tokens(auth: &Channel, email: &str, pair: &TokenPair, journal: &Journal) {
    let refreshed = async { refresh(auth, &refresh(auth, &pair.refresh_token).await?.refresh_token).await };
    if let Err(status) = refreshed.await {
        return journal.record_failure("refresh twice", &to_problem(&status).reason, status.message());
    }
    if refresh(auth, &pair.refresh_token).await.is_ok() {
        journal.record_failure("refresh with an old token", "a session has two live refresh tokens", email);
    }
    let mut admin = AdminServiceClient::new(auth.clone());
    let listed = admin.list_users(bearer(&pair.access_token, ListUsersRequest::default()));
    if !listed.await.is_err_and(|status| [Code::PermissionDenied, Code::Unauthenticated].contains(&status.code())) {
        journal.record_failure("list users", "a user has the rights of an administrator", email);
    }
    if try_password(auth, email, "a wrong password, for once").await.is_ok() {
        journal.record_failure("log in", "a wrong password is accepted", email);
    }
}

/// Checks that the logs contain no password, no token and no panic.
pub fn check_logs(folder: &Path, secrets: &[String], journal: &Journal) {
    let files = fs::read_dir(folder).expect("the folder exists").map(|file| file.expect("readable").path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
        let log = fs::read_to_string(&path).expect("readable");
        let name = path.display().to_string();
        if secrets.iter().map(String::as_str).chain([PASSWORD]).any(|secret| log.contains(secret)) {
            journal.record_failure("logs", "a secret", &name);
        }
        if let Some(line) = log.lines().find(|line| line.contains("panic")) {
            journal.record_failure("logs", "a panic", line);
        }
    }
}
