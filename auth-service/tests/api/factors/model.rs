//! Compares the single use of codes, recovery codes and challenges with a model: random sequences of logins, waits and
//! concurrent completions run on two replicas that share a database and a clock.
//!
//! The model knows the last time step, and which recovery codes and challenges were used. A completion succeeds if its
//! challenge and its factor are unused, and then uses both; otherwise it changes nothing. The order of concurrent calls is
//! unknown, so the test fails if no order of them explains their results.

use std::{collections::BTreeSet, time::Duration};

use proptest::{prelude::*, test_runner::TestCaseError};
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{CompleteLoginRequest, auth_service_client::AuthServiceClient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Enrolled, STEP, challenge, code_at, enroll, recovery, totp};
use crate::{
    random_cases,
    support::{self, Replica, Server},
};

on_each_database! {
    factors_and_challenges_behave_like_their_model,
}

/// Cheap hashes.
const FLAGS: [&str; 2] = ["--password-memory-kib=8", "--password-passes=1"];
const CASES: u32 = 32;
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(300);
const RECOVERY_CODES: usize = 3;

async fn factors_and_challenges_behave_like_their_model(database: TestDatabase) {
    let (first, second) = support::start_two(database, &FLAGS).await;
    random_cases::assert_all_succeed(CASES, &operations(), |operations| Case::run(&first, &second, operations));
    second.stop().await;
    first.stop().await;
}

#[derive(Clone, Debug)]
enum Operation {
    Wait(Duration),
    /// Logs in with the password, for another challenge.
    Login,
    /// Concurrent calls.
    Complete(Vec<Call>),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    /// Counts back from the newest challenge.
    challenge: usize,
    secret: Secret,
    replica: usize,
}

#[derive(Clone, Copy, Debug)]
enum Secret {
    /// The code of the time step this many after the present one.
    Code(i64),
    Recovery(usize),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let secret =
        prop_oneof![3 => (-2..=2_i64).prop_map(Secret::Code), 2 => (0..RECOVERY_CODES).prop_map(Secret::Recovery)];
    let call = (0..3_usize, secret, 0..2_usize);
    let call = call.prop_map(|(challenge, secret, replica)| Call { challenge, secret, replica });
    let waits = prop::sample::select(vec![Duration::from_secs(1), STEP, 2 * STEP, CHALLENGE_LIFETIME]);
    let identical = (call.clone(), 2..=4_usize)
        .prop_map(|(call, count)| (0..count).map(|replica| Call { replica: replica % 2, ..call }).collect());
    let calls = prop_oneof![identical, prop::collection::vec(call, 1..=4)];
    let operation = prop_oneof![
        2 => waits.prop_map(Operation::Wait),
        2 => Just(Operation::Login),
        5 => calls.prop_map(Operation::Complete),
    ];
    prop::collection::vec(operation, 1..=12)
}

/// The state of an account.
#[derive(Clone, Debug)]
struct Model {
    /// The time step of the last used code.
    last_step: i64,
    used_recovery_codes: BTreeSet<usize>,
    completed_challenges: BTreeSet<usize>,
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    LoggedIn,
    CodeInvalid,
    ChallengeInvalid,
}

/// A call as the model sees it.
#[derive(Clone, Copy, Debug)]
struct Step {
    challenge: usize,
    is_expired: bool,
    secret: Secret,
    /// The present time step.
    now: i64,
}

impl Model {
    /// Reports whether a call can have this result, and applies it.
    fn apply(&mut self, step: Step, outcome: Outcome) -> bool {
        let is_challenge_good = !step.is_expired && !self.completed_challenges.contains(&step.challenge);
        let is_secret_good = match step.secret {
            Secret::Code(offset) => offset.abs() <= 1 && step.now + offset > self.last_step,
            Secret::Recovery(index) => !self.used_recovery_codes.contains(&index),
        };
        match outcome {
            Outcome::CodeInvalid => return !is_secret_good && !step.is_expired,
            Outcome::ChallengeInvalid => return !is_challenge_good,
            Outcome::LoggedIn if !is_challenge_good || !is_secret_good => return false,
            Outcome::LoggedIn => {}
        }
        self.completed_challenges.insert(step.challenge);
        match step.secret {
            Secret::Code(offset) => self.last_step = step.now + offset,
            Secret::Recovery(index) => _ = self.used_recovery_codes.insert(index),
        }
        true
    }
}

/// A running case. Each case has its own user.
struct Case<'s> {
    server: &'s Server,
    replicas: [AuthServiceClient<Channel>; 2],
    email: String,
    user: Enrolled,
    /// The tokens of the challenges, and when they expire.
    challenges: Vec<(String, i64)>,
    model: Model,
    log: Vec<String>,
}

impl<'s> Case<'s> {
    async fn run(server: &'s Server, second: &Replica, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        let email = format!("{}@example.com", server.clock.new_id());
        let confirmed_at = server.clock.now().as_seconds() / 30;
        let user = enroll(server, &email).await;
        let model = Model {
            last_step: confirmed_at,
            used_recovery_codes: BTreeSet::new(),
            completed_challenges: BTreeSet::new(),
        };
        let replicas = [server.auth(), second.auth()];
        let mut case = Self { server, replicas, email, user, challenges: Vec::new(), model, log: Vec::new() };
        case.log_in().await;
        for operation in operations {
            match operation {
                Operation::Wait(time) => server.manual_clock.advance(time),
                Operation::Login => case.log_in().await,
                Operation::Complete(calls) => case.complete(&calls).await?,
            }
        }
        Ok(())
    }

    async fn log_in(&mut self) {
        let challenge = challenge(self.server, &self.email).await;
        let lifetime = i64::try_from(CHALLENGE_LIFETIME.as_micros()).expect("short");
        self.challenges.push((challenge.token, self.server.clock.now().as_micros() + lifetime));
    }

    async fn complete(&mut self, calls: &[Call]) -> Result<(), TestCaseError> {
        let (now, mut running, mut steps) = (self.server.clock.now(), JoinSet::new(), Vec::new());
        for (index, call) in calls.iter().enumerate() {
            let challenge = (self.challenges.len() - 1).saturating_sub(call.challenge);
            let (challenge_token, expires_at) = self.challenges[challenge].clone();
            let factor = match call.secret {
                Secret::Code(offset) => {
                    let step = (now.as_seconds() / 30 + offset) * 30;
                    totp(&code_at(&self.user.secret, service_kit::clock::Timestamp::from_seconds(step)))
                }
                Secret::Recovery(index) => recovery(&self.user.recovery_codes[index]),
            };
            let is_expired = expires_at <= now.as_micros();
            steps.push(Step { challenge, is_expired, secret: call.secret, now: now.as_seconds() / 30 });
            let mut client = self.replicas[call.replica].clone();
            let request = CompleteLoginRequest { challenge_token, factor: Some(factor) };
            running.spawn(async move { (index, client.complete_login(request).await) });
        }
        let mut outcomes = running.join_all().await;
        outcomes.sort_by_key(|(index, _)| *index);
        let mut results = Vec::new();
        for (index, outcome) in outcomes {
            let reason = outcome.err().map(|status| refusal(&status).1);
            let outcome = match reason.as_deref() {
                None => Outcome::LoggedIn,
                Some("CODE_INVALID") => Outcome::CodeInvalid,
                Some("CHALLENGE_INVALID") => Outcome::ChallengeInvalid,
                Some(other) => return Err(TestCaseError::fail(format!("{other} after {}", self.log.join("\n")))),
            };
            results.push((steps[index], outcome));
        }
        self.log.push(format!("{results:?}"));
        let explained = random_cases::explain(&self.model, &results, &|model: &mut Model, (step, outcome)| {
            model.apply(step, outcome)
        });
        prop_assert!(explained.is_some(), "{:?} does not explain:\n{}", self.model, self.log.join("\n"));
        self.model = explained.unwrap_or_else(|| self.model.clone());
        Ok(())
    }
}
