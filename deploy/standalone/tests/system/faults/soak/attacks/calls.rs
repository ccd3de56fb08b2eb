//! Calls in a loop, and accounts that only one attack uses.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;
use service_kit::random;
use taskey_proto::auth::v1::{LoginRequest, TokenPair, auth_service_client::AuthServiceClient};
use tonic::{Response, Status};

use super::target::{Target, pause};
use crate::{
    faults::{
        soak::client::channel_from,
        users::{log_in, sign_up},
    },
    process::PASSWORD,
};

/// Makes a call in this many loops at the same time. Each call receives its number.
pub async fn repeat<T, F: Future<Output = Result<T, Status>>>(
    parallel: usize,
    count: &AtomicUsize,
    call: impl Fn(usize) -> F,
) {
    let call = &call;
    let repeat = |_| async move {
        loop {
            _ = call(count.fetch_add(1, Ordering::Relaxed)).await;
            pause().await;
        }
    };
    join_all((0..parallel).map(repeat)).await;
}

/// An account whose password and sessions an attack may lose.
pub struct Account {
    pub email: String,
    pub pair: TokenPair,
}

impl Account {
    /// Signs up from an address of its own, because sign-ups are limited per address. Tries again after a failure, which
    /// a restart may have caused.
    pub async fn sign_up(target: &Target) -> Self {
        loop {
            let source = Ipv4Addr::new(127, 67, fastrand::u8(..), fastrand::u8(1..255));
            let channel = channel_from(source, target.addresses.auth[0]);
            let email = format!("mallory.{}@example.com", random::id());
            if sign_up(&channel, &email).await.is_ok()
                && let Ok(pair) = log_in(&channel, &email).await
            {
                return Self { email, pair };
            }
            pause().await;
        }
    }

    /// Starts another session from the address of the attacker, with the longest label.
    pub async fn log_in(&self, target: &Target) -> Result<TokenPair, Status> {
        let (email, password, session_label) = (self.email.clone(), PASSWORD.to_owned(), odd_text(100));
        let request = LoginRequest { email, password, session_label, ..LoginRequest::default() };
        AuthServiceClient::new(target.auth()).login(request).await.map(Response::into_inner)
    }
}

/// Returns characters in a fixed order that are hard to normalize: many combining marks, ligatures that expand, and
/// characters whose case changes their length.
pub fn odd_text(characters: usize) -> String {
    ['\u{fdfa}', '\u{1e9e}', 'e', '\u{301}', '\u{345}', '\u{323}', '\u{ac01}', '\u{1d15e}']
        .into_iter()
        .cycle()
        .take(characters)
        .collect()
}
