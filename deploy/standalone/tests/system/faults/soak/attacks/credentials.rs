//! Passwords and tokens that are wrong.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use taskey_proto::auth::v1::{
    IntrospectRequest, LoginRequest, auth_service_client::AuthServiceClient, token_service_client::TokenServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};
use tonic::Request;

use super::target::{Target, pause};
use crate::{
    faults::users::{me, try_password},
    process::{PASSWORD, bearer},
};

/// A malformed service token.
const GARBAGE: &str = "taskey_service_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Calls per tick of 5 ms: 800 per second, or fewer in debug builds.
const CALLS_PER_TICK: usize = if cfg!(debug_assertions) { 1 } else { 4 };

/// Row 5: logs in and introspects with garbage credentials, and cancels each call.
pub async fn cancel_garbage(target: &Target, count: &AtomicUsize) {
    let (auth, mut calls, mut ticks) = (target.auth(), JoinSet::new(), interval(Duration::from_millis(5)));
    loop {
        ticks.tick().await;
        for _ in 0..CALLS_PER_TICK {
            let (auth, number) = (auth.clone(), count.fetch_add(1, Ordering::Relaxed));
            calls.spawn(timeout(Duration::from_millis(1), async move {
                if number.is_multiple_of(2) {
                    let request = IntrospectRequest { token: "x".to_owned(), ..IntrospectRequest::default() };
                    _ = TokenServiceClient::new(auth).introspect(bearer(GARBAGE, request)).await;
                } else {
                    let (email, password) = ("nobody@example.com".to_owned(), PASSWORD.to_owned());
                    let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
                    request.metadata_mut().insert("x-taskey-service-token", GARBAGE.parse().expect("ASCII"));
                    _ = AuthServiceClient::new(auth).login(request).await;
                }
            }));
        }
        while calls.try_join_next().is_some() {}
    }
}

/// Row 13: guesses the password of an honest user.
pub async fn guess_passwords(target: &Target, count: &AtomicUsize) {
    let channel = target.gateway();
    loop {
        let number = count.fetch_add(1, Ordering::Relaxed);
        _ = try_password(&channel, &target.victim, &format!("a wrong password {number}")).await;
        pause().await;
    }
}

/// Calls with tokens that are not valid.
pub async fn send_garbage_tokens(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.gateway(), target.token());
    let unsigned = token.rsplit_once('.').map_or("x", |(message, _)| message).to_owned() + ".AAAA";
    for token in ["x", GARBAGE, &unsigned].into_iter().cycle() {
        _ = me(&channel, token).await;
        count.fetch_add(1, Ordering::Relaxed);
        pause().await;
    }
}
