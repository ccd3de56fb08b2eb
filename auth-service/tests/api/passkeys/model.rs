//! Compares the single use of the challenges of passkeys with a model: random sequences of challenges, waits and concurrent
//! responses run on two replicas that share a database and a clock.
//!
//! A response succeeds if its challenge was not used and has not expired, and then uses it. The order of concurrent calls is
//! unknown, so the test fails if no order of them explains their results.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use proptest::{prelude::*, test_runner::TestCaseError};
use service_kit::{
    clock::Timestamp,
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    CompleteLoginRequest, FinishPasskeyLoginRequest, FinishPasskeyRequest, ReauthenticateRequest, TokenPair,
    account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    complete_login_request::Factor, factor_service_client::FactorServiceClient, reauthenticate_request::Proof,
};
use tonic::{Status, transport::Channel};

use super::{
    authenticator::{Authenticator, ORIGIN},
    support::{add_passkey, creation_options, login_challenge, login_options, reauthentication_options},
};
use crate::{
    random_cases,
    support::{self, Replica, Server, bearer},
};

on_each_database! {
    challenges_behave_like_their_model,
}

/// Cheap hashes, and no limit on the age of a login, so that passkeys can be added after long waits.
const FLAGS: [&str; 5] =
    ["--public-url", ORIGIN, "--password-memory-kib=8", "--password-passes=1", "--step-up-max-age=1d"];
const CASES: u32 = 32;
const LIFETIME: Duration = Duration::from_secs(300);
/// With the passkey of the case, fewer than the 10 factors that an account may have.
const MAX_REGISTRATIONS: usize = 8;

async fn challenges_behave_like_their_model(database: TestDatabase) {
    let (first, second) = support::start_two(database, &FLAGS).await;
    random_cases::assert_all_succeed(CASES, &operations(), |operations| Case::run(&first, &second, operations));
    second.stop().await;
    first.stop().await;
}

#[derive(Clone, Debug)]
enum Operation {
    Wait(Duration),
    Begin(Purpose),
    /// Concurrent responses. Each counts back from the newest challenge, and has the index of a replica.
    Respond(Vec<(usize, usize)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Login,
    SecondFactor,
    Reauthentication,
    Registration,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Purpose::{Login, Reauthentication, Registration, SecondFactor};
    let waits =
        [Duration::from_secs(1), Duration::from_secs(150), LIFETIME.saturating_sub(Duration::from_micros(1)), LIFETIME];
    let identical = (0..3_usize, 2..=4_usize)
        .prop_map(|(challenge, count)| (0..count).map(|replica| (challenge, replica % 2)).collect());
    let responses = prop_oneof![identical, prop::collection::vec((0..3_usize, 0..2_usize), 1..=4)];
    let purposes = prop::sample::select(vec![Login, SecondFactor, Reauthentication, Registration]);
    let operation = prop_oneof![
        1 => prop::sample::select(waits.to_vec()).prop_map(Operation::Wait),
        4 => purposes.prop_map(Operation::Begin),
        5 => responses.prop_map(Operation::Respond),
    ];
    prop::collection::vec(operation, 1..=14)
}

/// The used challenges.
type Model = BTreeSet<usize>;

/// A response as the model sees it.
#[derive(Clone, Copy, Debug)]
struct Step {
    challenge: usize,
    is_expired: bool,
    has_succeeded: bool,
}

/// Reports whether a response can have this result, and uses its challenge.
fn apply(used: &mut Model, step: Step) -> bool {
    let is_good = !step.is_expired && !used.contains(&step.challenge);
    is_good == step.has_succeeded && (!is_good || used.insert(step.challenge))
}

/// A challenge, and the response to it.
#[derive(Clone, Debug)]
struct Challenge {
    purpose: Purpose,
    /// The token of the challenge of a login with a password.
    token: String,
    response: String,
    expires_at: Timestamp,
}

/// A running case. Each case has its own user.
struct Case<'s> {
    server: &'s Server,
    replicas: [Channel; 2],
    email: String,
    session: TokenPair,
    device: Authenticator,
    challenges: Vec<Challenge>,
    model: Model,
    log: Vec<String>,
}

impl<'s> Case<'s> {
    async fn run(server: &'s Server, second: &Replica, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        let email = format!("{}@example.com", server.clock.new_id());
        let session = server.sign_up_and_login(&email).await;
        let mut device = Authenticator::new();
        add_passkey(server, &session.access_token, &mut device).await.expect("added");
        let replicas = [server.channel.clone(), second.channel.clone()];
        let (challenges, model, log) = (Vec::new(), Model::new(), Vec::new());
        let mut case = Self { server, replicas, email, session, device, challenges, model, log };
        case.begin(Purpose::Login).await;
        for operation in operations {
            match operation {
                Operation::Wait(time) => case.wait(time).await,
                Operation::Begin(purpose) => case.begin(purpose).await,
                Operation::Respond(calls) => case.respond(&calls).await?,
            }
        }
        Ok(())
    }

    async fn wait(&mut self, time: Duration) {
        self.server.manual_clock.advance(time);
        self.session = self.server.refresh(&self.session.refresh_token).await.expect("refreshed");
    }

    async fn begin(&mut self, purpose: Purpose) {
        let (server, access) = (self.server, &self.session.access_token);
        let registrations = self.challenges.iter().filter(|challenge| challenge.purpose == Purpose::Registration);
        let (token, response) = match purpose {
            Purpose::Registration if registrations.count() == MAX_REGISTRATIONS => return,
            Purpose::Registration => {
                (String::new(), Authenticator::new().create(&creation_options(server, access).await))
            }
            Purpose::Login => (String::new(), self.device.get(&login_options(server).await)),
            Purpose::SecondFactor => {
                let challenge = login_challenge(server, &self.email).await;
                (challenge.token, self.device.get(&challenge.passkey_options))
            }
            Purpose::Reauthentication => {
                let options = reauthentication_options(server, access).await.expect("options");
                (String::new(), self.device.get(&options))
            }
        };
        self.challenges.push(Challenge { purpose, token, response, expires_at: server.clock.now() + LIFETIME });
    }

    async fn respond(&mut self, calls: &[(usize, usize)]) -> Result<(), TestCaseError> {
        let newest = self.challenges.len() - 1;
        let calls = calls.iter().map(|(back, replica)| (newest.saturating_sub(*back), &self.replicas[*replica]));
        let calls = calls.map(async |(index, replica)| (index, self.send(&self.challenges[index], replica).await));
        let mut steps = Vec::new();
        for (challenge, result) in join_all(calls).await {
            let reason = result.as_ref().err().map(|status| refusal(status).1);
            let is_expected =
                reason.is_none_or(|reason| ["PASSKEY_INVALID", "CHALLENGE_INVALID"].contains(&&reason[..]));
            prop_assert!(is_expected, "{result:?} after\n{}", self.log.join("\n"));
            let is_expired = self.challenges[challenge].expires_at <= self.server.clock.now();
            steps.push(Step { challenge, is_expired, has_succeeded: result.is_ok() });
        }
        self.log.push(format!("{steps:?}"));
        let explained = random_cases::explain(&self.model, &steps, &apply);
        prop_assert!(explained.is_some(), "{:?} does not explain:\n{}", self.model, self.log.join("\n"));
        self.model = explained.unwrap_or_default();
        Ok(())
    }

    async fn send(&self, challenge: &Challenge, replica: &Channel) -> Result<(), Status> {
        let (access, replica) = (&self.session.access_token, replica.clone());
        let Challenge { purpose, token, response, .. } = challenge.clone();
        match purpose {
            Purpose::Login => {
                let request = FinishPasskeyLoginRequest { response, session_label: String::new() };
                AuthServiceClient::new(replica).finish_passkey_login(request).await.map(drop)
            }
            Purpose::SecondFactor => {
                let factor = Some(Factor::PasskeyResponse(response));
                let request = CompleteLoginRequest { challenge_token: token, factor };
                AuthServiceClient::new(replica).complete_login(request).await.map(drop)
            }
            Purpose::Reauthentication => {
                let request = ReauthenticateRequest { proof: Some(Proof::PasskeyResponse(response)) };
                AccountServiceClient::new(replica).reauthenticate(bearer(access, request)).await.map(drop)
            }
            Purpose::Registration => {
                let request = FinishPasskeyRequest { response, label: String::new() };
                FactorServiceClient::new(replica).finish_passkey(bearer(access, request)).await.map(drop)
            }
        }
    }
}
