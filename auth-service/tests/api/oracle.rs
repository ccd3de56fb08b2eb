//! Nobody can tell by the answer to a login, nor by its time, whether there is an account.

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
    refused_logins_are_alike_in_answer_and_time,
    refused_logins_are_alike_without_rate_limits,
    refused_logins_are_alike_when_the_hash_is_of_an_older_policy,
}

/// A hash that is quick and still outlasts everything else that a login does.
const POLICY: &[&str] = &["--password-memory-kib", "4096", "--password-passes", "1"];
const OLDER_POLICY: &[&str] = &["--password-memory-kib", "1024", "--password-passes", "1"];

/// All logins come from one address, whose own limit is another test's question.
const LIMITED: &[&str] = &["--login-rate", "1000000+1/s", "--sign-up-rate", "1000000+1/s"];
const UNLIMITED: &[&str] = &["--rate-limits", "off"];

/// How many accounts there are of each kind, so that none has its hundred failures a day.
const ACCOUNTS: usize = 24;

/// How often each kind of login is made at first, and how often as many more are added before a difference is believed,
/// or the noise is.
const ROUNDS: usize = 150;
const TRIES: usize = 4;

/// What is farther from zero than this is no chance: one in three million.
const SIGNIFICANT: f64 = 5.0;

/// What is wrong with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    WrongPassword,
    UnknownAccount,
    /// With the right password.
    DisabledAccount,
    /// Not told apart from the others only by a test that is blind: it is refused before anything is hashed.
    NoAddress,
}
use Kind::{DisabledAccount, NoAddress, UnknownAccount, WrongPassword};

const ALIKE: [(Kind, Kind); 3] =
    [(WrongPassword, UnknownAccount), (WrongPassword, DisabledAccount), (UnknownAccount, DisabledAccount)];

/// How long each login took, by kind; those at the same place were made in the same round.
type Times = BTreeMap<Kind, Vec<f64>>;

/// An answer as the caller sees it, but for its date.
type Answer = (Code, String, Vec<u8>, Vec<String>);

async fn start(database: TestDatabase, flags: &[&str]) -> Server {
    let server = Server::start_with(database, flags).await;
    for number in 0..ACCOUNTS {
        server.sign_up(&format!("on{number}@example.com")).await.expect("signed up");
        server.sign_up(&format!("off{number}@example.com")).await.expect("signed up");
    }
    support::execute(&server.database, "update users set disabled = true where email like 'off%'").await;
    server
}

fn answer(status: &Status) -> Answer {
    let mut headers: Vec<_> = status.metadata().clone().into_headers().iter().map(|it| format!("{it:?}")).collect();
    headers.retain(|header| !header.starts_with("(\"date\""));
    (status.code(), status.message().to_owned(), status.details().to_vec(), headers)
}

async fn refused(server: &Server, kind: Kind, number: usize) -> (Answer, Duration) {
    let (email, password) = match kind {
        WrongPassword => (format!("on{number}@example.com"), "wrong horse battery staple"),
        UnknownAccount => (format!("no{number}@example.com"), PASSWORD),
        DisabledAccount => (format!("off{number}@example.com"), PASSWORD),
        NoAddress => (format!("no{number}.example.com"), PASSWORD),
    };
    let mut request = Request::new(LoginRequest { email, password: password.into(), ..LoginRequest::default() });
    request.metadata_mut().insert("x-request-id", "the-same".parse().expect("ASCII"));
    let begun = Instant::now();
    let status = server.auth().login(request).await.expect_err("refused");
    let took = begun.elapsed();
    let expected = if kind == NoAddress { "VALIDATION_FAILED" } else { "CREDENTIALS_INVALID" };
    assert_eq!(refusal(&status).1, expected, "{kind:?}: {status:?}");
    (answer(&status), took)
}

/// Makes one login of each kind in every round, in an order that nobody knows.
async fn measure(server: &Server, rounds: usize, times: &mut Times) {
    let mut first = None;
    for round in 0..rounds {
        let mut kinds =
            [WrongPassword, UnknownAccount, DisabledAccount, NoAddress].map(|kind| (random::bytes::<8>(), kind));
        kinds.sort_unstable();
        for (_, kind) in kinds {
            let (answer, took) = refused(server, kind, round % ACCOUNTS).await;
            times.entry(kind).or_default().push(took.as_secs_f64());
            if kind != NoAddress {
                assert_eq!(&answer, first.get_or_insert(answer.clone()), "{kind:?}");
            }
        }
        // The longest that a wrong password is to be waited for.
        server.hands.advance(Duration::from_secs(10));
    }
}

/// Wilcoxon's signed-rank test of pairs, as a standard normal variable. Where two kinds are alike, the difference within
/// a round is as likely to be positive as negative, however noisy the machine is.
fn difference(left: &[f64], right: &[f64]) -> f64 {
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

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Whether the test sees a refusal that has no hash, and one that takes a third longer. It is blind where the machine
/// is so busy that the logins are lost in the noise.
fn sees_leaks(times: &Times) -> bool {
    let alike = times.iter().filter(|(kind, _)| **kind != NoAddress);
    alike.clone().all(|(kind, taken)| {
        let slower: Vec<_> = taken.iter().map(|time| time + median(taken) / 3.0).collect();
        let mut others = alike.clone().filter(|(other, _)| *other != kind);
        difference(taken, &times[&NoAddress]) > SIGNIFICANT
            && others.all(|(_, others)| difference(&slower, others) > SIGNIFICANT)
    })
}

async fn are_alike(server: &Server) {
    let (mut told, mut times) = (Vec::new(), Times::new());
    for more in 0..TRIES {
        measure(server, ROUNDS << more, &mut times).await;
        let differences = ALIKE.map(|(left, right)| difference(&times[&left], &times[&right]));
        let medians: Vec<_> =
            times.iter().map(|(kind, times)| format!("{kind:?} {:.2} ms", 1e3 * median(times))).collect();
        let sees = sees_leaks(&times);
        told.push(format!("differences {differences:.1?}, medians {medians:?}, sees leaks: {sees}"));
        if sees && differences.iter().all(|difference| difference.abs() < SIGNIFICANT) {
            return;
        }
    }
    panic!("told apart by their times, or lost in the noise: {told:#?}");
}

async fn refused_logins_are_alike_in_answer_and_time(database: TestDatabase) {
    let server = start(database, &[POLICY, LIMITED].concat()).await;
    are_alike(&server).await;
    server.stop().await;
}

async fn refused_logins_are_alike_without_rate_limits(database: TestDatabase) {
    let server = start(database, &[POLICY, UNLIMITED].concat()).await;
    are_alike(&server).await;
    server.stop().await;
}

async fn refused_logins_are_alike_when_the_hash_is_of_an_older_policy(database: TestDatabase) {
    let server = start(database, &[OLDER_POLICY, LIMITED].concat()).await;
    let server = Server::start_with(server.stop().await, &[POLICY, LIMITED].concat()).await;
    are_alike(&server).await;
    server.stop().await;
}
