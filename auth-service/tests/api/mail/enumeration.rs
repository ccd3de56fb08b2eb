//! The duration of a request for a mail, of a wrong code in one, of a sign-up, or of a login after it, does not reveal whether an address has an account.

use std::time::Duration;

use service_kit::{
    on_each_database, random,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{ResetPasswordRequest, SignUpRequest};
use tokio::time::Instant;

use super::{NEW_PASSWORD, actions::request_reset, start_with};
use crate::{
    support::{Server, execute},
    user_enumeration::{median, signed_rank_statistic},
};

on_each_database! {
    requests_for_known_and_unknown_addresses_take_equally_long,
    sign_ups_with_known_and_unknown_addresses_take_equally_long,
    logins_after_sign_ups_with_known_and_unknown_addresses_take_equally_long,
    wrong_codes_for_known_and_unknown_addresses_take_equally_long,
}

/// The number of accounts.
const ACCOUNTS: usize = 30;

/// The number of requests of each kind in the first attempt. Each further attempt adds twice as many as the one before.
const ROUNDS: usize = 150;

/// The test fails when this many attempts have found a difference, or too much noise to detect one.
const ATTEMPTS: usize = 4;

/// A statistic farther from zero than this is significant: chance alone reaches it once in three million cases.
const SIGNIFICANCE_THRESHOLD: f64 = 5.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    RequestPasswordReset,
    SignUp,
    /// A login with the password of a sign-up, which is not measured.
    LoginAfterSignUp,
    /// A reset with a wrong code, although the account has received a mail.
    ResetWithWrongCode,
}

/// Makes a call for an address, and returns its duration in seconds.
async fn measure(server: &Server, call: Call, email: String) -> f64 {
    if call == Call::LoginAfterSignUp {
        let request = SignUpRequest { email: email.clone(), password: NEW_PASSWORD.to_owned(), ..Default::default() };
        server.auth().sign_up(request).await.expect("the response is the same for all addresses");
    }
    let start = Instant::now();
    let succeeded = match call {
        Call::ResetWithWrongCode => {
            let (code, new_password) = ("12345678".to_owned(), NEW_PASSWORD.to_owned());
            let request = ResetPasswordRequest { email, code, new_password, ..Default::default() };
            let status = server.auth().reset_password(request).await.expect_err("refused");
            if refusal(&status).1 == "CODE_INVALID" { Ok(()) } else { Err(status) }
        }
        Call::LoginAfterSignUp => {
            let status = server.login(&email, NEW_PASSWORD).await.expect_err("refused");
            if refusal(&status).1 == "CREDENTIALS_INVALID" { Ok(()) } else { Err(status) }
        }
        Call::SignUp => server.sign_up(&email).await.map(|_| ()),
        Call::RequestPasswordReset => request_reset(server, &email).await,
    };
    let duration = start.elapsed();
    succeeded.expect("the response is the same for all addresses");
    duration.as_secs_f64()
}

async fn requests_for_known_and_unknown_addresses_take_equally_long(database: TestDatabase) {
    assert_indistinguishable(database, Call::RequestPasswordReset).await;
}

async fn sign_ups_with_known_and_unknown_addresses_take_equally_long(database: TestDatabase) {
    assert_indistinguishable(database, Call::SignUp).await;
}

async fn logins_after_sign_ups_with_known_and_unknown_addresses_take_equally_long(database: TestDatabase) {
    assert_indistinguishable(database, Call::LoginAfterSignUp).await;
}

async fn wrong_codes_for_known_and_unknown_addresses_take_equally_long(database: TestDatabase) {
    assert_indistinguishable(database, Call::ResetWithWrongCode).await;
}

async fn assert_indistinguishable(database: TestDatabase, call: Call) {
    let flags = ["--password-memory-kib", "8", "--password-passes", "1", "--require-verified-email"];
    // Wrong codes are counted.
    let rates = ["--login-rate", "1000000+1/s", "--sign-up-rate", "1000000+1/s"];
    let counts_failures = call == Call::ResetWithWrongCode;
    let (server, _) = start_with(database, &[&flags[..], if counts_failures { &rates } else { &[] }].concat()).await;
    for number in 0..ACCOUNTS {
        server.sign_up(&format!("on{number}@example.com")).await.expect("signed up");
    }
    execute(&server.database, "update users set email_verified = true").await;
    for number in 0..if counts_failures { ACCOUNTS } else { 0 } {
        request_reset(&server, &format!("on{number}@example.com")).await.expect("requested");
    }
    let (mut known, mut unknown, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in 0..ATTEMPTS {
        for round in 0..ROUNDS << attempt {
            let number = round % ACCOUNTS;
            if number == 0 {
                // Below the limit of each account.
                server.manual_clock.advance(Duration::from_secs(3600));
            }
            // A sign-up makes an address known.
            let unused = if call == Call::RequestPasswordReset { number } else { known.len() };
            let (on, no) = (format!("on{number}@example.com"), format!("no{unused}@example.com"));
            if random::bytes::<1>()[0].is_multiple_of(2) {
                known.push(measure(&server, call, on).await);
                unknown.push(measure(&server, call, no).await);
            } else {
                unknown.push(measure(&server, call, no).await);
                known.push(measure(&server, call, on).await);
            }
        }
        let statistic = signed_rank_statistic(&known, &unknown);
        let slower: Vec<_> = known.iter().map(|duration| duration + median(&known) / 3.0).collect();
        let detects_leaks = signed_rank_statistic(&slower, &unknown) > SIGNIFICANCE_THRESHOLD;
        let medians = [median(&known) * 1e3, median(&unknown) * 1e3];
        reports.push(format!("statistic {statistic:.1}, medians {medians:.2?} ms, detects leaks: {detects_leaks}"));
        if detects_leaks && statistic.abs() < SIGNIFICANCE_THRESHOLD {
            server.stop().await;
            return;
        }
    }
    panic!("the durations differ, or the noise hides differences: {reports:#?}");
}
