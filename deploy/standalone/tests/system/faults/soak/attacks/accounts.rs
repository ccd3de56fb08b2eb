//! Calls about accounts, passwords and sessions, all of one account or without one.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use service_kit::random;
use taskey_proto::auth::v1::{
    ChangePasswordRequest, DeleteMeRequest, ListMySecurityEventsRequest, ListSessionsRequest, LogoutRequest,
    RevokeAllSessionsRequest, RevokeOtherSessionsRequest, RevokeSessionRequest, SignUpRequest, UpdateMeRequest, User,
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
};

use super::{
    Attack,
    calls::{Account, odd_text, repeat},
    target::{Target, pause},
    tokens,
};
use crate::{
    faults::{
        ledger::lock,
        users::{refresh, try_password},
    },
    process::{PASSWORD, bearer},
};

/// The attacks of this file and of `tokens` by name.
pub const ACCOUNTS: [(&str, Attack); 14] = [
    ("sign-ups", |target, count| Box::pin(sign_up(target, count))),
    ("odd credentials", |target, count| Box::pin(log_in_with_odd_credentials(target, count))),
    ("password changes", |target, count| Box::pin(change_password(target, count))),
    ("wrong current passwords", |target, count| Box::pin(send_wrong_current_passwords(target, count))),
    ("replayed refresh tokens", |target, count| Box::pin(replay_refresh_token(target, count))),
    ("refreshes", |target, count| Box::pin(refresh_repeatedly(target, count))),
    ("logins and logouts", |target, count| Box::pin(log_in_and_out(target, count))),
    ("repeated logouts", |target, count| Box::pin(log_out_repeatedly(target, count))),
    ("session lists", |target, count| Box::pin(list_and_revoke_sessions(target, count))),
    ("profile updates", |target, count| Box::pin(update_profile(target, count))),
    ("security events", |target, count| Box::pin(list_security_events(target, count))),
    ("malformed access tokens", |target, count| Box::pin(tokens::send_malformed_tokens(target, count))),
    ("calls of verifiers", |target, count| Box::pin(tokens::call_as_verifier(target, count))),
    ("calls of administrators", |target, count| Box::pin(tokens::call_as_administrator(target, count))),
];

/// Signs up with distinct email addresses and with one, through the gateway and directly.
async fn sign_up(target: &Target, count: &AtomicUsize) {
    let channels = [target.gateway(), target.auth()];
    let channels = &channels;
    repeat(16, count, |number| async move {
        let email = if number % 4 < 2 { "one@example.com".to_owned() } else { format!("{}@example.com", random::id()) };
        let request = SignUpRequest { email, password: PASSWORD.to_owned(), display_name: odd_text(100) };
        AuthServiceClient::new(channels[number % 2].clone()).sign_up(request).await
    })
    .await;
}

/// Logs in with passwords of every length, and with email addresses that are expensive to convert. Most of these calls
/// fail before they count against the limit of logins.
async fn log_in_with_odd_credentials(target: &Target, count: &AtomicUsize) {
    let channels = [target.gateway(), target.auth()];
    let domain = format!("{}.example", ["bu\u{308}cher"; 60].join("."));
    let emails = ["MALLORY@EXAMPLE.COM".to_owned(), format!("a@{domain}"), format!("a@{}", odd_text(400))];
    let passwords = [128, 129, 512, 513, 40_000].map(odd_text);
    let (channels, emails, passwords) = (&channels, &emails, &passwords);
    repeat(16, count, |number| async move {
        let (email, password) = (&emails[number % emails.len()], &passwords[number % passwords.len()]);
        try_password(&channels[number % 2], email, password).await
    })
    .await;
}

/// Changes the password of the own account to the same one, 64 calls at once. Each needs two hashes.
async fn change_password(target: &Target, count: &AtomicUsize) {
    let account = Account::sign_up(target).await;
    let channel = target.auth();
    let (account, channel) = (&account, &channel);
    repeat(64, count, |_| async move {
        let (current_password, new_password) = (PASSWORD.to_owned(), PASSWORD.to_owned());
        let request = ChangePasswordRequest { current_password, new_password };
        AccountServiceClient::new(channel.clone()).change_password(bearer(&account.pair.access_token, request)).await
    })
    .await;
}

/// Changes the password and deletes the account with a wrong current password, 64 calls at once.
async fn send_wrong_current_passwords(target: &Target, count: &AtomicUsize) {
    let account = Account::sign_up(target).await;
    let (channel, token) = (target.auth(), &account.pair.access_token);
    let (channel, token) = (&channel, &token);
    repeat(64, count, |number| async move {
        let (mut client, current_password) = (AccountServiceClient::new(channel.clone()), format!("wrong {number}"));
        if number % 2 == 0 {
            return client.delete_me(bearer(token, DeleteMeRequest { current_password })).await.map(drop);
        }
        let request = ChangePasswordRequest { current_password, new_password: PASSWORD.to_owned() };
        client.change_password(bearer(token, request)).await.map(drop)
    })
    .await;
}

/// Sends one refresh token on 32 connections.
async fn replay_refresh_token(target: &Target, count: &AtomicUsize) {
    let account = Account::sign_up(target).await;
    let channels: Vec<_> = (0..32).map(|_| target.auth()).collect();
    let (account, channels) = (&account, &channels);
    repeat(channels.len(), count, |number| async move {
        refresh(&channels[number % channels.len()], &account.pair.refresh_token).await
    })
    .await;
}

/// Exchanges each refresh token for the next one.
async fn refresh_repeatedly(target: &Target, count: &AtomicUsize) {
    let account = Account::sign_up(target).await;
    let (channel, token) = (target.gateway(), Mutex::new(account.pair.refresh_token));
    let (channel, token) = (&channel, &token);
    repeat(1, count, |_| async move {
        let current = lock(token).clone();
        let pair = refresh(channel, &current).await?;
        *lock(token) = pair.refresh_token;
        Ok(())
    })
    .await;
}

/// Logs in with the longest labels, and revokes all sessions, as often as the limit of logins allows.
async fn log_in_and_out(target: &Target, count: &AtomicUsize) {
    let account = Account::sign_up(target).await;
    let channel = target.auth();
    loop {
        if let Ok(pair) = account.log_in(target).await {
            let request = bearer(&pair.access_token, RevokeAllSessionsRequest {});
            _ = AccountServiceClient::new(channel.clone()).revoke_all_sessions(request).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
        count.fetch_add(1, Ordering::Relaxed);
        pause().await;
    }
}

/// Logs out of a session that has ended, 64 calls at once, and waits for the verifiers each time.
async fn log_out_repeatedly(target: &Target, count: &AtomicUsize) {
    let account = Account::sign_up(target).await;
    let channel = target.auth();
    let (account, channel) = (&account, &channel);
    repeat(64, count, |_| async move {
        let request = LogoutRequest { refresh_token: account.pair.refresh_token.clone(), wait_for_verifiers: true };
        AuthServiceClient::new(channel.clone()).logout(request).await
    })
    .await;
}

/// Lists sessions, and revokes sessions that do not exist.
async fn list_and_revoke_sessions(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.auth(), target.token());
    let (channel, token) = (&channel, &token);
    repeat(32, count, |number| async move {
        let mut client = AccountServiceClient::new(channel.clone());
        match number % 3 {
            0 => client.list_sessions(bearer(token, ListSessionsRequest {})).await.map(drop),
            1 => client.revoke_other_sessions(bearer(token, RevokeOtherSessionsRequest {})).await.map(drop),
            _ => {
                let request = RevokeSessionRequest { session_id: random::id().to_string() };
                client.revoke_session(bearer(token, request)).await.map(drop)
            }
        }
    })
    .await;
}

/// Updates the own display name, 64 calls at once, which change the same row.
async fn update_profile(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.auth(), target.token());
    let (channel, token) = (&channel, &token);
    repeat(64, count, |number| async move {
        let display_name = format!("{number} {}", odd_text(80));
        let request = UpdateMeRequest { user: Some(User { display_name, ..User::default() }), update_mask: None };
        AccountServiceClient::new(channel.clone()).update_me(bearer(token, request)).await
    })
    .await;
}

/// Lists the largest pages of the own security events, and sends page tokens that are not valid.
async fn list_security_events(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.gateway(), target.token());
    let (channel, token) = (&channel, &token);
    repeat(16, count, |number| async move {
        let page_token = if number % 4 == 0 { odd_text(20_000) } else { String::new() };
        let request = bearer(token, ListMySecurityEventsRequest { page_size: 500, page_token });
        AccountServiceClient::new(channel.clone()).list_my_security_events(request).await
    })
    .await;
}
