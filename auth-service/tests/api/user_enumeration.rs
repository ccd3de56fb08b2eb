//! Neither the response to a refused login nor its duration reveals whether an account exists.

use std::{collections::BTreeMap, time::Duration};

use service_kit::{
    on_each_database, random,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::LoginRequest;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::support::{self, PASSWORD, Server};

on_each_database! {
    refused_logins_do_not_differ_in_response_or_duration,
    refused_logins_do_not_differ_without_rate_limits,
    refused_logins_do_not_differ_when_the_hash_has_an_older_policy,
}

/// Hash parameters that are fast, but still dominate the duration of a login.
const POLICY: &[&str] = &["--password-memory-kib", "4096", "--password-passes", "1"];
const OLDER_POLICY: &[&str] = &["--password-memory-kib", "1024", "--password-passes", "1"];

/// All logins come from one address. Its own limit is raised so that it does not interfere.
const RATE_LIMITED: &[&str] = &["--login-rate", "1000000+1/s", "--sign-up-rate", "1000000+1/s"];
const NOT_RATE_LIMITED: &[&str] = &["--rate-limits", "off"];

/// The number of accounts of each kind. It keeps each account below the limit of 100 failed logins a day.
const ACCOUNTS: usize = 24;

/// The number of logins of each kind in the first attempt. Each further attempt adds twice as many as the one before.
const ROUNDS: usize = 150;
/// The test fails when this many attempts have found a difference, or too much noise to detect one.
const ATTEMPTS: usize = 4;

/// A statistic farther from zero than this is significant: chance alone reaches it once in three million cases.
const SIGNIFICANCE_THRESHOLD: f64 = 5.0;

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    WrongPassword,
    /// Of an account with a second factor.
    WrongPasswordWithFactor,
    UnknownAccount,
    /// With the right password.
    DisabledAccount,
    /// The control: it is refused before anything is hashed, so the test must detect a difference from the others.
    InvalidAddress,
}
use Kind::{DisabledAccount, InvalidAddress, UnknownAccount, WrongPassword, WrongPasswordWithFactor};

const INDISTINGUISHABLE: [(Kind, Kind); 4] = [
    (WrongPassword, UnknownAccount),
    (WrongPassword, DisabledAccount),
    (UnknownAccount, DisabledAccount),
    (WrongPassword, WrongPasswordWithFactor),
];

/// The duration of each login in seconds, by kind. Durations with the same index belong to the same round.
type Durations = BTreeMap<Kind, Vec<f64>>;

/// A response as the client sees it, without its date.
type Response = (Code, String, Vec<u8>, Vec<String>);

/// Gives accounts a second factor.
const ADD_FACTORS: &str = "
    insert into factors (id, user_id, label, sealed_secret, sealed_with, created_at, confirmed_at, last_step)
    select id, id, '', '', '', 1, 1, 0 from users where email like 'factor%'";

async fn start(database: TestDatabase, flags: &[&str]) -> Server {
    let server = Server::start_with(database, flags).await;
    for number in 0..ACCOUNTS {
        server.sign_up(&format!("on{number}@example.com")).await.expect("signed up");
        server.sign_up(&format!("off{number}@example.com")).await.expect("signed up");
        server.sign_up(&format!("factor{number}@example.com")).await.expect("signed up");
    }
    support::execute(&server.database, "update users set disabled = true where email like 'off%'").await;
    support::execute(&server.database, ADD_FACTORS).await;
    server
}

fn response(status: &Status) -> Response {
    let mut headers: Vec<_> =
        status.metadata().clone().into_headers().iter().map(|header| format!("{header:?}")).collect();
    headers.retain(|header| !header.starts_with("(\"date\""));
    (status.code(), status.message().to_owned(), status.details().to_vec(), headers)
}

/// Makes a login that is refused, and returns the response and the duration.
async fn refused_login(server: &Server, kind: Kind, number: usize) -> (Response, Duration) {
    let (email, password) = match kind {
        WrongPassword => (format!("on{number}@example.com"), "wrong horse battery staple"),
        WrongPasswordWithFactor => (format!("factor{number}@example.com"), "wrong horse battery staple"),
        UnknownAccount => (format!("no{number}@example.com"), PASSWORD),
        DisabledAccount => (format!("off{number}@example.com"), PASSWORD),
        InvalidAddress => (format!("no{number}.example.com"), PASSWORD),
    };
    let mut request = Request::new(LoginRequest { email, password: password.into(), ..LoginRequest::default() });
    request.metadata_mut().insert("x-request-id", "the-same".parse().expect("ASCII"));
    let start = Instant::now();
    let status = server.auth().login(request).await.expect_err("refused");
    let duration = start.elapsed();
    let expected = if kind == InvalidAddress { "VALIDATION_FAILED" } else { "CREDENTIALS_INVALID" };
    assert_eq!(refusal(&status).1, expected, "{kind:?}: {status:?}");
    (response(&status), duration)
}

/// Makes one login of each kind in every round, in random order.
async fn measure(server: &Server, rounds: usize, durations: &mut Durations) {
    let mut first = None;
    for round in 0..rounds {
        let mut kinds = [WrongPassword, WrongPasswordWithFactor, UnknownAccount, DisabledAccount, InvalidAddress]
            .map(|kind| (random::bytes::<8>(), kind));
        kinds.sort_unstable();
        for (_, kind) in kinds {
            let (response, duration) = refused_login(server, kind, round % ACCOUNTS).await;
            durations.entry(kind).or_default().push(duration.as_secs_f64());
            if kind != InvalidAddress {
                assert_eq!(&response, first.get_or_insert(response.clone()), "{kind:?}");
            }
        }
        // The longest delay that repeated failed logins cause.
        server.manual_clock.advance(Duration::from_secs(10));
    }
}

/// Returns the statistic of Wilcoxon's signed-rank test of pairs, as a standard normal variable. If two kinds take
/// equally long, the difference within a round is as likely to be positive as negative, even on a noisy machine.
pub fn signed_rank_statistic(left: &[f64], right: &[f64]) -> f64 {
    let mut differences: Vec<_> = left.iter().zip(right).map(|(left, right)| left - right).collect();
    differences.sort_by(|left, right| left.abs().total_cmp(&right.abs()));
    let (mut sum, mut squares, mut rank) = (0.0, 0.0, 0.0);
    for difference in differences {
        rank += 1.0;
        sum += rank * difference.signum();
        squares += rank * rank;
    }
    sum / f64::sqrt(squares)
}

/// Returns the median.
pub fn median(durations: &[f64]) -> f64 {
    let mut durations = durations.to_vec();
    durations.sort_by(f64::total_cmp);
    durations[durations.len() / 2]
}

/// Reports whether the test detects a refusal without a hash, and one that takes a third longer. On a very busy machine
/// both disappear in the noise.
fn detects_leaks(durations: &Durations) -> bool {
    let hashed = durations.iter().filter(|(kind, _)| **kind != InvalidAddress);
    hashed.clone().all(|(kind, own)| {
        let slower: Vec<_> = own.iter().map(|duration| duration + median(own) / 3.0).collect();
        let mut others = hashed.clone().filter(|(other, _)| *other != kind);
        signed_rank_statistic(own, &durations[&InvalidAddress]) > SIGNIFICANCE_THRESHOLD
            && others.all(|(_, other)| signed_rank_statistic(&slower, other) > SIGNIFICANCE_THRESHOLD)
    })
}

/// Asserts that the durations of refused logins do not differ significantly.
async fn assert_indistinguishable(server: &Server) {
    let (mut reports, mut durations) = (Vec::new(), Durations::new());
    for attempt in 0..ATTEMPTS {
        measure(server, ROUNDS << attempt, &mut durations).await;
        let statistics =
            INDISTINGUISHABLE.map(|(left, right)| signed_rank_statistic(&durations[&left], &durations[&right]));
        let medians: Vec<_> =
            durations.iter().map(|(kind, own)| format!("{kind:?} {:.2} ms", 1e3 * median(own))).collect();
        let detects_leaks = detects_leaks(&durations);
        reports.push(format!("statistics {statistics:.1?}, medians {medians:?}, detects leaks: {detects_leaks}"));
        if detects_leaks && statistics.iter().all(|statistic| statistic.abs() < SIGNIFICANCE_THRESHOLD) {
            return;
        }
    }
    panic!("the durations differ, or the noise hides differences: {reports:#?}");
}

async fn refused_logins_do_not_differ_in_response_or_duration(database: TestDatabase) {
    let server = start(database, &[POLICY, RATE_LIMITED].concat()).await;
    assert_indistinguishable(&server).await;
    server.stop().await;
}

async fn refused_logins_do_not_differ_without_rate_limits(database: TestDatabase) {
    let server = start(database, &[POLICY, NOT_RATE_LIMITED].concat()).await;
    assert_indistinguishable(&server).await;
    server.stop().await;
}

async fn refused_logins_do_not_differ_when_the_hash_has_an_older_policy(database: TestDatabase) {
    let server = start(database, &[OLDER_POLICY, RATE_LIMITED].concat()).await;
    let server = Server::start_with(server.stop().await, &[POLICY, RATE_LIMITED].concat()).await;
    assert_indistinguishable(&server).await;
    server.stop().await;
}
