//! Compares refresh tokens with a model: random sequences of logins, refreshes, lost responses, concurrent calls,
//! thefts, logouts and waits run on two replicas that share a database and a clock.
//!
//! The model of a login is its [`Session`]: when each token was exchanged, when the session expires, and whether it
//! was revoked. This determines the result for every token ever issued, and implies: only one new token is valid, a
//! client that retries within the grace period stays logged in, any other reuse revokes the session, and no token works
//! after that. The order of concurrent calls is unknown. The model therefore keeps every state of the session that is
//! consistent with their results, and the test fails if there is none. The service stores only the last two rotations,
//! while the contract assumes all of them. Each single call is therefore also compared with the contract, and only the
//! documented difference is allowed.
//!
//! After each operation, every token that would leave its session unchanged is used again. At the end of a case, all
//! tokens of the sessions that are still active are used, even if that changes the session, and once more after a
//! logout.

use std::{iter::zip, time::Duration};

use proptest::{prelude::*, test_runner::TestCaseError};
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{LoginRequest, LogoutRequest, RefreshRequest, auth_service_client::AuthServiceClient};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

mod session;

use crate::{
    random_cases,
    support::{self, PASSWORD, Replica, Server},
};
use session::{CallResult, GRACE_PERIOD, IDLE_TIMEOUT, SUPERSEDED_WINDOW, Session, Step, TICK};

on_each_database! {
    refresh_tokens_behave_like_their_model,
}

/// Cheap hashes, and a maximum session lifetime that a case can reach.
const FLAGS: [&str; 3] = ["--password-memory-kib=8", "--password-passes=1", "--refresh-max-ttl=10d"];
const CASES: u32 = 48;

async fn refresh_tokens_behave_like_their_model(database: TestDatabase) {
    let (first, second) = support::start_two(database, &FLAGS).await;
    random_cases::assert_all_succeed(CASES, &operations(), |operations| Case::run(&first, &second, operations));
    second.stop().await;
    first.stop().await;
}

#[derive(Clone, Debug)]
enum Operation {
    /// Starts another session.
    Login,
    Wait(Duration),
    /// Concurrent calls, each with the index of a replica. The number selects the session, counting back from the
    /// newest.
    Calls(usize, Vec<(Call, usize)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// The client refreshes with its token.
    Refresh,
    /// The client refreshes but the response is lost: the client keeps its token and uses it again later.
    RefreshLost,
    /// A thief refreshes with the token this many before the newest.
    Steal(usize),
    /// Logs out with the token this many before the newest.
    Logout(usize),
}

/// Generates sequences with short waits, which reach the edges of the grace period and the superseded window, or with
/// waits of days, which reach the expiry of sessions.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let edges = |edge: Duration| prop::sample::select(vec![edge.saturating_sub(TICK), edge, edge + TICK]);
    let seconds = |range| Strategy::prop_map(range, Duration::from_secs);
    let hours = (0..=7_200_000_000_u64).prop_map(Duration::from_micros);
    let short_waits = prop_oneof![
        1 => Just(Duration::ZERO),
        3 => edges(SUPERSEDED_WINDOW),
        3 => edges(GRACE_PERIOD),
        4 => seconds(1..=9),
        3 => seconds(10..=60),
        1 => hours,
    ];
    let long_waits =
        prop_oneof![1 => edges(IDLE_TIMEOUT), 1 => edges(SUPERSEDED_WINDOW), 5 => seconds(0..=IDLE_TIMEOUT.as_secs())];
    let sequence = |wait| prop::collection::vec(operation(wait), 1..=30);
    prop_oneof![3 => sequence(short_waits.boxed()), 1 => sequence(long_waits.boxed())]
}

fn operation(wait: BoxedStrategy<Duration>) -> impl Strategy<Value = Operation> {
    let call = prop_oneof![
        12 => Just(Call::Refresh),
        4 => Just(Call::RefreshLost),
        3 => (0..=3_usize).prop_map(Call::Steal),
        2 => (4..=30_usize).prop_map(Call::Steal),
        1 => (0..=3_usize).prop_map(Call::Logout),
    ];
    let single = (call.clone(), 0..2_usize).prop_map(|call| vec![call]);
    let identical = (call.clone(), 2..=5_usize).prop_map(|(call, count)| (0..count).map(|n| (call, n % 2)).collect());
    let mixed = prop::collection::vec((call, 0..2_usize), 2..=3);
    let calls = (0..3_usize, prop_oneof![8 => single, 1 => identical, 2 => mixed]);
    prop_oneof![
        1 => Just(Operation::Login),
        5 => wait.prop_map(Operation::Wait),
        12 => calls.prop_map(|(session, calls)| Operation::Calls(session, calls)),
    ]
}

impl Step {
    /// Makes the call, and returns the new refresh token, if any.
    async fn call(self, mut client: AuthServiceClient<Channel>, tokens: &[String]) -> Result<Option<String>, Status> {
        match self {
            Self::Refresh(token) => {
                let request = RefreshRequest { refresh_token: tokens[token].clone() };
                client.refresh(request).await.map(|pair| Some(pair.into_inner().refresh_token))
            }
            Self::Logout(token) => {
                let request = LogoutRequest { refresh_token: tokens[token].clone(), ..LogoutRequest::default() };
                client.logout(request).await.map(|_| None)
            }
            Self::RevokeReused => unreachable!("the service does this without a call"),
        }
    }
}

/// Converts the outcome of a call for the model. Adds a new token to `tokens`.
fn call_result(outcome: Result<Option<String>, Status>, tokens: &mut Vec<String>) -> CallResult {
    let refusal = match outcome {
        Ok(None) => return CallResult::LoggedOut,
        Ok(Some(returned)) => {
            let index = tokens.iter().position(|token| *token == returned);
            return CallResult::Token(index.unwrap_or_else(|| {
                tokens.push(returned);
                tokens.len() - 1
            }));
        }
        Err(status) => refusal(&status),
    };
    match (refusal.0, refusal.1.as_str()) {
        (Code::Aborted, "REFRESH_TOKEN_SUPERSEDED") => CallResult::Superseded,
        (Code::Unauthenticated, "REFRESH_TOKEN_REUSED") => CallResult::Reused,
        (Code::Unauthenticated, "REFRESH_TOKEN_INVALID") => CallResult::Invalid,
        _ => CallResult::Other(refusal.0),
    }
}

/// A session as the test tracks it.
struct Login {
    /// Every token ever issued.
    tokens: Vec<String>,
    /// The index of the token that the client has.
    client_token: usize,
    /// The states that the session may be in. They differ in whether it was revoked, and why.
    states: Vec<Session>,
    /// Whether the session was revoked and all its tokens have been used since.
    is_finished: bool,
}

/// A running case. Each case has its own user.
struct Case {
    replicas: [AuthServiceClient<Channel>; 2],
    email: String,
    now: Duration,
    logins: Vec<Login>,
    log: Vec<String>,
}

impl Case {
    async fn run(first: &Server, second: &Replica, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        let email = format!("{}@example.com", first.clock.new_id());
        first.sign_up(&email).await.expect("signed up");
        let (replicas, now) = ([first.auth(), second.auth()], Duration::ZERO);
        let mut case = Case { replicas, email, now, logins: Vec::new(), log: Vec::new() };
        case.log_in().await;
        for operation in operations {
            match operation {
                Operation::Login => case.log_in().await,
                Operation::Wait(time) => {
                    case.now += time;
                    first.manual_clock.advance(time);
                }
                Operation::Calls(steps_back, calls) => case.call(steps_back, &calls).await?,
            }
            case.use_harmless_tokens().await?;
        }
        for login in (0..case.logins.len()).filter(|login| !case.logins[*login].is_finished).collect::<Vec<_>>() {
            case.use_all_tokens(login).await?;
            case.call_concurrently(login, &[(Step::Logout(0), login % 2)]).await?;
            case.use_all_tokens(login).await?;
        }
        Ok(())
    }

    async fn log_in(&mut self) {
        let (email, session_label) = (self.email.clone(), String::new());
        let request = LoginRequest { email, password: PASSWORD.to_owned(), session_label, ..LoginRequest::default() };
        let pair = self.replicas[self.logins.len() % 2].login(request).await.expect("logged in").into_inner();
        self.logins.push(Login {
            tokens: vec![pair.refresh_token],
            client_token: 0,
            states: vec![Session::new(self.now)],
            is_finished: false,
        });
    }

    /// Makes the calls of an operation. A client whose session was revoked logs in again.
    async fn call(&mut self, steps_back: usize, calls: &[(Call, usize)]) -> Result<(), TestCaseError> {
        let login = (self.logins.len() - 1).saturating_sub(steps_back);
        let Login { tokens, client_token, .. } = &self.logins[login];
        let token = |steps_back| (tokens.len() - 1).saturating_sub(steps_back);
        let steps = calls.iter().map(|&(call, replica)| match call {
            Call::Refresh | Call::RefreshLost => (Step::Refresh(*client_token), replica),
            Call::Steal(steps_back) => (Step::Refresh(token(steps_back)), replica),
            Call::Logout(steps_back) => (Step::Logout(token(steps_back)), replica),
        });
        let results = self.call_concurrently(login, &steps.collect::<Vec<_>>()).await?;
        for (call, result) in zip(calls, results) {
            match (call.0, result) {
                (Call::Refresh, CallResult::Token(token)) => self.logins[login].client_token = token,
                (Call::Refresh, CallResult::Reused | CallResult::Invalid) => self.log_in().await,
                _ => {}
            }
        }
        Ok(())
    }

    /// Uses every token that leaves the session unchanged, each on one of the replicas.
    async fn use_harmless_tokens(&mut self) -> Result<(), TestCaseError> {
        let log_length = self.log.len();
        for login in 0..self.logins.len() {
            for token in 0..self.logins[login].tokens.len() {
                let Login { states, is_finished, .. } = &self.logins[login];
                if !is_finished && states.iter().all(|state| state.is_unchanged_by(token, self.now)) {
                    self.call_concurrently(login, &[(Step::Refresh(token), (log_length + token) % 2)]).await?;
                }
            }
            let Login { states, is_finished, .. } = &mut self.logins[login];
            *is_finished = states.iter().all(|state| state.revoked.is_some());
        }
        self.log.truncate(log_length);
        Ok(())
    }

    /// Uses every token on both replicas, even if that changes the session.
    async fn use_all_tokens(&mut self, login: usize) -> Result<(), TestCaseError> {
        for token in 0..self.logins[login].tokens.len() {
            for replica in 0..2 {
                self.call_concurrently(login, &[(Step::Refresh(token), replica)]).await?;
            }
        }
        Ok(())
    }

    /// Makes calls concurrently, and compares their results with the model.
    async fn call_concurrently(
        &mut self,
        login: usize,
        calls: &[(Step, usize)],
    ) -> Result<Vec<CallResult>, TestCaseError> {
        let (now, Login { tokens, states, .. }) = (self.now, &mut self.logins[login]);
        let (mut running, issued) = (JoinSet::new(), tokens.len());
        for (index, &(step, replica)) in calls.iter().enumerate() {
            let (client, tokens) = (self.replicas[replica].clone(), tokens.clone());
            running.spawn(async move { (index, step.call(client, &tokens).await) });
        }
        let mut outcomes = running.join_all().await;
        outcomes.sort_by_key(|(index, _)| *index);
        let results: Vec<_> = outcomes.into_iter().map(|(_, outcome)| call_result(outcome, tokens)).collect();
        self.log.push(format!("at {now:?}, session {login}: {calls:?} -> {results:?}"));

        let log = self.log.join("\n");
        prop_assert!(tokens.len() <= issued + 1, "more than one new token was issued:\n{log}");
        let steps: Vec<_> = zip(calls, &results).map(|(call, result)| (call.0, *result)).collect();
        let mut successors = Vec::new();
        for state in states.iter() {
            state.clone().add_successors(now, &steps, &mut successors);
        }
        prop_assert!(!successors.is_empty(), "the results contradict the model in {states:?}:\n{log}");
        if let [(Step::Refresh(token), result)] = steps[..] {
            let is_allowed = states.iter().any(|state| state.allows(token, now, result));
            prop_assert!(is_allowed, "the result contradicts the contract in {states:?}:\n{log}");
        }
        *states = successors;
        Ok(results)
    }
}
