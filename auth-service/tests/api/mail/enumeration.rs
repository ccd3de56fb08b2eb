//! The duration of a request for a mail does not reveal whether an address has an account.

use std::time::Duration;

use service_kit::{on_each_database, random, testing::TestDatabase};
use taskey_proto::auth::v1::RequestPasswordResetRequest;
use tokio::time::Instant;

use super::start_with;
use crate::{
    support::Server,
    user_enumeration::{median, signed_rank_statistic},
};

on_each_database! {
    requests_for_known_and_unknown_addresses_take_equally_long,
}

/// The number of accounts.
const ACCOUNTS: usize = 30;

/// The number of requests of each kind in the first attempt. Each further attempt adds twice as many as the one before.
const ROUNDS: usize = 150;

/// The test fails when this many attempts have found a difference, or too much noise to detect one.
const ATTEMPTS: usize = 4;

/// A statistic farther from zero than this is significant: chance alone reaches it once in three million cases.
const SIGNIFICANCE_THRESHOLD: f64 = 5.0;

async fn request(server: &Server, email: String) -> f64 {
    let start = Instant::now();
    let requested = server.auth().request_password_reset(RequestPasswordResetRequest { email }).await;
    let duration = start.elapsed();
    requested.expect("requested");
    duration.as_secs_f64()
}

async fn requests_for_known_and_unknown_addresses_take_equally_long(database: TestDatabase) {
    let flags = ["--password-memory-kib", "8", "--password-passes", "1"];
    let (server, _) = start_with(database, &flags).await;
    for number in 0..ACCOUNTS {
        server.sign_up(&format!("on{number}@example.com")).await.expect("signed up");
    }
    let (mut known, mut unknown, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in 0..ATTEMPTS {
        for round in 0..ROUNDS << attempt {
            let number = round % ACCOUNTS;
            if number == 0 {
                // Below the limit of each account.
                server.manual_clock.advance(Duration::from_secs(3600));
            }
            let emails = [format!("on{number}@example.com"), format!("no{number}@example.com")];
            let [on, no] = emails;
            if random::bytes::<1>()[0] % 2 == 0 {
                known.push(request(&server, on).await);
                unknown.push(request(&server, no).await);
            } else {
                unknown.push(request(&server, no).await);
                known.push(request(&server, on).await);
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
