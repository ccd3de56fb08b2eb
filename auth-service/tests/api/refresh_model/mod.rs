//! Refresh tokens against a model: arbitrary sequences of logins, refreshes, lost answers, calls at once, thefts,
//! logouts and waits, made on two replicas that share a database and a clock.
//!
//! The model of a login is its [`Session`]: when each token was exchanged, when it ends, whether it was ended. From
//! that follows the answer to every token ever issued, and so that there is one live child, that a client which asks
//! again within the grace stays logged in, that any other replay ends the session, and that after its end nothing
//! refreshes. Of calls at once the order is not known: the model keeps every state in which the session can be after
//! their answers, and fails when there is none. The service remembers only the last two rotations; that it answers as
//! one who remembers all of them, but for what it documents, is held against the contract at each single call.
//!
//! After each operation all tokens are presented again, as far as that changes nothing. At the end of a case those of
//! live sessions are presented whatever it changes, and once more after a logout.

use std::{iter::zip, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{LoginRequest, LogoutRequest, RefreshRequest, auth_service_client::AuthServiceClient};
use tokio::{
    runtime::Handle,
    task::{JoinSet, block_in_place},
};
use tonic::{Code, Status, transport::Channel};

mod session;

use crate::support::{self, PASSWORD, Replica, Server};
use session::{Answer, GRACE, IDLE, INSTANT, OVERTAKEN, Session, Step};

on_each_database! {
    refresh_tokens_behave_like_their_model,
}

/// Cheap passwords, and a session that can reach its latest end within a case.
const FLAGS: [&str; 3] = ["--password-memory-kib=8", "--password-passes=1", "--refresh-max-ttl=10d"];
const CASES: u32 = 48;

async fn refresh_tokens_behave_like_their_model(database: TestDatabase) {
    let first = Server::start_with(database, &FLAGS).await;
    let second = support::second_with(&first, first.clock.clone(), &FLAGS).await;
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let outcome = block_in_place(|| {
        let case = |operations| Handle::current().block_on(Case::run(&first, &second, operations));
        TestRunner::new(config).run(&operations(), case)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, operations)) => panic!("{reason}\nafter {operations:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    second.stop().await;
    first.stop().await;
}

#[derive(Clone, Debug)]
enum Operation {
    /// One more session begins.
    Login,
    Wait(Duration),
    /// Calls at once, each on one of the replicas, that concern the session so many before the last.
    Calls(usize, Vec<(Call, usize)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// The client refreshes with the token that it holds.
    Refresh,
    /// It does, but the answer is lost: it keeps the token, and presents it again another time.
    RefreshLost,
    /// A thief presents the token so many before the good one.
    Steal(usize),
    /// Logout by the token so many before the good one.
    Logout(usize),
}

/// Either of moments or of days: in the one the windows come into play, in the other the lives of sessions.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let edges = |edge: Duration| prop::sample::select(vec![edge.saturating_sub(INSTANT), edge, edge + INSTANT]);
    let seconds = |range| Strategy::prop_map(range, Duration::from_secs);
    let hours = (0..=7_200_000_000_u64).prop_map(Duration::from_micros);
    let moments = prop_oneof![
        1 => Just(Duration::ZERO),
        3 => edges(OVERTAKEN),
        3 => edges(GRACE),
        4 => seconds(1..=9),
        3 => seconds(10..=60),
        1 => hours,
    ];
    let days = prop_oneof![1 => edges(IDLE), 1 => edges(OVERTAKEN), 5 => seconds(0..=IDLE.as_secs())];
    let sequence = |wait| prop::collection::vec(operation(wait), 1..=30);
    prop_oneof![3 => sequence(moments.boxed()), 1 => sequence(days.boxed())]
}

fn operation(wait: BoxedStrategy<Duration>) -> impl Strategy<Value = Operation> {
    let call = prop_oneof![
        12 => Just(Call::Refresh),
        4 => Just(Call::RefreshLost),
        3 => (0..=3_usize).prop_map(Call::Steal),
        2 => (4..=30_usize).prop_map(Call::Steal),
        1 => (0..=3_usize).prop_map(Call::Logout),
    ];
    let one = (call.clone(), 0..2_usize).prop_map(|call| vec![call]);
    let same = (call.clone(), 2..=5_usize).prop_map(|(call, count)| (0..count).map(|n| (call, n % 2)).collect());
    let mixed = prop::collection::vec((call, 0..2_usize), 2..=3);
    let calls = (0..3_usize, prop_oneof![8 => one, 1 => same, 2 => mixed]);
    prop_oneof![
        1 => Just(Operation::Login),
        5 => wait.prop_map(Operation::Wait),
        12 => calls.prop_map(|(session, calls)| Operation::Calls(session, calls)),
    ]
}

impl Step {
    /// Makes the call. What it gives is the refresh token, if any.
    async fn make(self, mut client: AuthServiceClient<Channel>, tokens: &[String]) -> Result<Option<String>, Status> {
        match self {
            Self::Refresh(token) => {
                let request = RefreshRequest { refresh_token: tokens[token].clone() };
                client.refresh(request).await.map(|pair| Some(pair.into_inner().refresh_token))
            }
            Self::Logout(token) => {
                let request = LogoutRequest { refresh_token: tokens[token].clone(), ..LogoutRequest::default() };
                client.logout(request).await.map(|_| None)
            }
            Self::Theft => unreachable!("nobody calls for it"),
        }
    }
}

/// The answer that a call was given. A token that has not been seen before is taken down.
fn answer(outcome: Result<Option<String>, Status>, tokens: &mut Vec<String>) -> Answer {
    let refusal = match outcome {
        Ok(None) => return Answer::LoggedOut,
        Ok(Some(given)) => {
            let known = tokens.iter().position(|token| *token == given);
            return Answer::Token(known.unwrap_or_else(|| {
                tokens.push(given);
                tokens.len() - 1
            }));
        }
        Err(status) => refusal(&status),
    };
    match (refusal.0, refusal.1.as_str()) {
        (Code::Aborted, "REFRESH_TOKEN_SUPERSEDED") => Answer::Superseded,
        (Code::Unauthenticated, "REFRESH_TOKEN_REUSED") => Answer::Reused,
        (Code::Unauthenticated, "REFRESH_TOKEN_INVALID") => Answer::Invalid,
        _ => Answer::Other(refusal.0),
    }
}

/// One session as the test holds it.
struct Login {
    /// Every token ever issued.
    tokens: Vec<String>,
    /// Which of them the client holds.
    held: usize,
    /// The states that it may be in: they differ in why it ended, if at all.
    states: Vec<Session>,
    /// Whether it has ended, and all its tokens have been presented since.
    settled: bool,
}

/// A case in progress, of a user of its own.
struct Case {
    replicas: [AuthServiceClient<Channel>; 2],
    email: String,
    now: Duration,
    logins: Vec<Login>,
    story: Vec<String>,
}

impl Case {
    async fn run(first: &Server, second: &Replica, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        let email = format!("{}@example.com", first.clock.new_id());
        first.sign_up(&email).await.expect("signed up");
        let (replicas, now) = ([first.auth(), second.auth()], Duration::ZERO);
        let mut case = Case { replicas, email, now, logins: Vec::new(), story: Vec::new() };
        case.log_in().await;
        for operation in operations {
            match operation {
                Operation::Login => case.log_in().await,
                Operation::Wait(time) => {
                    case.now += time;
                    first.hands.advance(time);
                }
                Operation::Calls(before, calls) => case.call(before, &calls).await?,
            }
            case.present_indifferent().await?;
        }
        for login in (0..case.logins.len()).filter(|login| !case.logins[*login].settled).collect::<Vec<_>>() {
            case.present_all(login).await?;
            case.at_once(login, &[(Step::Logout(0), login % 2)]).await?;
            case.present_all(login).await?;
        }
        Ok(())
    }

    async fn log_in(&mut self) {
        let (email, session_label) = (self.email.clone(), String::new());
        let request = LoginRequest { email, password: PASSWORD.to_owned(), session_label };
        let pair = self.replicas[self.logins.len() % 2].login(request).await.expect("logged in").into_inner();
        self.logins.push(Login {
            tokens: vec![pair.refresh_token],
            held: 0,
            states: vec![Session::begin(self.now)],
            settled: false,
        });
    }

    /// The calls of one operation. A client that is thrown out logs in again.
    async fn call(&mut self, before: usize, calls: &[(Call, usize)]) -> Result<(), TestCaseError> {
        let login = (self.logins.len() - 1).saturating_sub(before);
        let Login { tokens, held, .. } = &self.logins[login];
        let token = |before| (tokens.len() - 1).saturating_sub(before);
        let steps = calls.iter().map(|&(call, replica)| match call {
            Call::Refresh | Call::RefreshLost => (Step::Refresh(*held), replica),
            Call::Steal(before) => (Step::Refresh(token(before)), replica),
            Call::Logout(before) => (Step::Logout(token(before)), replica),
        });
        let answers = self.at_once(login, &steps.collect::<Vec<_>>()).await?;
        for (call, answer) in zip(calls, answers) {
            match (call.0, answer) {
                (Call::Refresh, Answer::Token(token)) => self.logins[login].held = token,
                (Call::Refresh, Answer::Reused | Answer::Invalid) => self.log_in().await,
                _ => {}
            }
        }
        Ok(())
    }

    /// Presents what changes nothing to one of the replicas.
    async fn present_indifferent(&mut self) -> Result<(), TestCaseError> {
        let told = self.story.len();
        for login in 0..self.logins.len() {
            for token in 0..self.logins[login].tokens.len() {
                let Login { states, settled, .. } = &self.logins[login];
                if !settled && states.iter().all(|state| state.is_indifferent_to(token, self.now)) {
                    self.at_once(login, &[(Step::Refresh(token), (told + token) % 2)]).await?;
                }
            }
            let Login { states, settled, .. } = &mut self.logins[login];
            *settled = states.iter().all(|state| state.ended.is_some());
        }
        self.story.truncate(told);
        Ok(())
    }

    /// Presents every token to both replicas, come of it what may.
    async fn present_all(&mut self, login: usize) -> Result<(), TestCaseError> {
        for token in 0..self.logins[login].tokens.len() {
            for replica in 0..2 {
                self.at_once(login, &[(Step::Refresh(token), replica)]).await?;
            }
        }
        Ok(())
    }

    /// Makes calls at once, and holds their answers against the model.
    async fn at_once(&mut self, login: usize, calls: &[(Step, usize)]) -> Result<Vec<Answer>, TestCaseError> {
        let (now, Login { tokens, states, .. }) = (self.now, &mut self.logins[login]);
        let (mut made, issued) = (JoinSet::new(), tokens.len());
        for (index, &(step, replica)) in calls.iter().enumerate() {
            let (client, tokens) = (self.replicas[replica].clone(), tokens.clone());
            made.spawn(async move { (index, step.make(client, &tokens).await) });
        }
        let mut made = made.join_all().await;
        made.sort_by_key(|(index, _)| *index);
        let answers: Vec<_> = made.into_iter().map(|(_, outcome)| answer(outcome, tokens)).collect();
        self.story.push(format!("at {now:?}, session {login}: {calls:?} -> {answers:?}"));

        let story = self.story.join("\n");
        prop_assert!(tokens.len() <= issued + 1, "two children live:\n{story}");
        let steps: Vec<_> = zip(calls, &answers).map(|(call, answer)| (call.0, *answer)).collect();
        let mut after = Vec::new();
        for state in states.iter() {
            state.clone().after(now, &steps, &mut after);
        }
        prop_assert!(!after.is_empty(), "the model answers otherwise in {states:?}:\n{story}");
        if let [(Step::Refresh(token), answer)] = steps[..] {
            let kept = states.iter().any(|state| state.keeps_contract(token, now, answer));
            prop_assert!(kept, "the contract answers otherwise in {states:?}:\n{story}");
        }
        *states = after;
        Ok(answers)
    }
}
