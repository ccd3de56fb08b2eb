//! Compares the device authorization grant with a model: random sequences of requests, waits, and concurrent polls and
//! decisions run on two replicas that share a database and a clock.
//!
//! The model knows the state of each device, and how often it may poll. The order of concurrent calls is unknown, so the test
//! fails if no order of them explains their results.

use std::time::Duration;

use proptest::{prelude::*, test_runner::TestCaseError};
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    ApproveDeviceAuthorizationRequest, DenyDeviceAuthorizationRequest,
    device_authorization_service_client::DeviceAuthorizationServiceClient, o_auth_service_client::OAuthServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use super::poll_request;
use crate::{
    factors::single_use::{start, stop},
    random_cases,
    support::{PASSWORD, Replica, Server, bearer},
};

on_each_database! {
    devices_behave_like_their_model,
}

const CASES: u32 = 32;
const INTERVAL: Duration = Duration::from_secs(5);
const LIFETIME: Duration = Duration::from_secs(600);

async fn devices_behave_like_their_model(database: TestDatabase) {
    let (first, second) = start(database).await;
    random_cases::assert_all_succeed(CASES, &operations(), |operations| Case::run(&first, &second, operations));
    stop(first, second).await;
}

#[derive(Clone, Debug)]
enum Operation {
    Wait(Duration),
    /// Asks for the codes of another device.
    Request,
    /// Concurrent calls.
    Call(Vec<Call>),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    /// Counts back from the newest device.
    device: usize,
    action: Action,
    replica: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Poll,
    Approve,
    Deny,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let action = prop_oneof![4 => Just(Action::Poll), 2 => Just(Action::Approve), 1 => Just(Action::Deny)];
    let call = (0..2_usize, action, 0..2_usize);
    let call = call.prop_map(|(device, action, replica)| Call { device, action, replica });
    let identical = (call.clone(), 2..=4_usize)
        .prop_map(|(call, count)| (0..count).map(|replica| Call { replica: replica % 2, ..call }).collect());
    let calls = prop_oneof![identical, prop::collection::vec(call, 1..=4)];
    let waits = prop::sample::select(vec![Duration::from_secs(1), INTERVAL, 2 * INTERVAL, 4 * INTERVAL, LIFETIME]);
    let operation = prop_oneof![
        2 => waits.prop_map(Operation::Wait),
        1 => Just(Operation::Request),
        5 => calls.prop_map(Operation::Call),
    ];
    prop::collection::vec(operation, 1..=12)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Approved,
    Denied,
    Fulfilled,
}

/// A device as the model sees it. Times are in seconds since the start of the case.
#[derive(Clone, Copy, Debug)]
struct Device {
    state: State,
    expires_at: u64,
    interval: u64,
    polled_at: Option<u64>,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed(String),
}

type Step = (usize, Action, Outcome);

impl Device {
    /// Applies a call, and returns its outcome.
    fn apply(&mut self, action: Action, now: u64) -> Outcome {
        let failed = |reason: &str| Outcome::Failed(reason.to_owned());
        let is_expired = self.expires_at <= now;
        match (action, self.state) {
            (Action::Poll, _) if is_expired => failed("DEVICE_CODE_EXPIRED"),
            (Action::Poll, State::Pending) => {
                // A poll may come a second early.
                let is_early = self.polled_at.is_some_and(|polled_at| now + 1 < polled_at + self.interval);
                self.polled_at = Some(now);
                self.interval += if is_early { 5 } else { 0 };
                failed(if is_early { "RATE_LIMITED" } else { "AUTHORIZATION_PENDING" })
            }
            (Action::Poll, State::Approved) => {
                self.state = State::Fulfilled;
                Outcome::Succeeded
            }
            (Action::Poll, State::Denied) => failed("AUTHORIZATION_DENIED"),
            (Action::Poll, State::Fulfilled) => failed("GRANT_INVALID"),
            (decision, State::Pending) if !is_expired => {
                self.state = if decision == Action::Approve { State::Approved } else { State::Denied };
                Outcome::Succeeded
            }
            _ => failed("USER_CODE_INVALID"),
        }
    }
}

/// Returns the devices after the calls in an order that explains their results.
fn explain(devices: &[Device], steps: &[Step], now: u64) -> Option<Vec<Device>> {
    if steps.is_empty() {
        return Some(devices.to_vec());
    }
    (0..steps.len()).find_map(|index| {
        let (device, action, outcome) = &steps[index];
        let mut devices = devices.to_vec();
        let rest: Vec<_> = [&steps[..index], &steps[index + 1..]].concat();
        (devices[*device].apply(*action, now) == *outcome).then(|| explain(&devices, &rest, now)).flatten()
    })
}

/// A running case. Each case has its own user.
struct Case<'s> {
    server: &'s Server,
    channels: [Channel; 2],
    email: String,
    access_token: String,
    now: u64,
    /// The device codes and the user codes.
    codes: Vec<(String, String)>,
    model: Vec<Device>,
    log: Vec<String>,
}

impl<'s> Case<'s> {
    async fn run(server: &'s Server, second: &Replica, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        let email = format!("{}@example.com", server.clock.new_id());
        let access_token = server.sign_up_and_login(&email).await.access_token;
        let channels = [server.channel.clone(), second.channel.clone()];
        let (codes, model, log) = (Vec::new(), Vec::new(), Vec::new());
        let mut case = Self { server, channels, email, access_token, now: 0, codes, model, log };
        case.request().await;
        for operation in operations {
            match operation {
                Operation::Wait(time) => case.wait(time).await,
                Operation::Request => case.request().await,
                Operation::Call(calls) => case.call(&calls).await?,
            }
        }
        Ok(())
    }

    /// Waits, and logs in again, because the access token may have expired.
    async fn wait(&mut self, time: Duration) {
        self.server.manual_clock.advance(time);
        self.now += time.as_secs();
        self.access_token = self.server.login(&self.email, PASSWORD).await.expect("logged in").access_token;
    }

    async fn request(&mut self) {
        let device = super::codes(self.server).await;
        self.codes.push((device.device_code, device.user_code));
        let expires_at = self.now + LIFETIME.as_secs();
        self.model.push(Device { state: State::Pending, expires_at, interval: INTERVAL.as_secs(), polled_at: None });
    }

    async fn call(&mut self, calls: &[Call]) -> Result<(), TestCaseError> {
        let (mut running, mut steps) = (JoinSet::new(), Vec::new());
        for call in calls {
            let device = (self.codes.len() - 1).saturating_sub(call.device);
            let (codes, channel) = (self.codes[device].clone(), self.channels[call.replica].clone());
            let (access_token, action) = (self.access_token.clone(), call.action);
            running.spawn(async move { (device, action, execute(channel, &access_token, action, codes).await) });
        }
        for (device, action, outcome) in running.join_all().await {
            let outcome = outcome.map_or_else(|status| Outcome::Failed(refusal(&status).1), |()| Outcome::Succeeded);
            steps.push((device, action, outcome));
        }
        self.log.push(format!("{steps:?}"));
        let explained = explain(&self.model, &steps, self.now);
        prop_assert!(explained.is_some(), "{:?} does not explain:\n{}", self.model, self.log.join("\n"));
        self.model = explained.unwrap_or_default();
        Ok(())
    }
}

async fn execute(
    channel: Channel,
    access_token: &str,
    action: Action,
    (device_code, user_code): (String, String),
) -> Result<(), Status> {
    let mut decisions = DeviceAuthorizationServiceClient::new(channel.clone());
    match action {
        Action::Poll => OAuthServiceClient::new(channel).issue_token(poll_request(&device_code)).await.map(drop),
        Action::Approve => {
            let request = bearer(access_token, ApproveDeviceAuthorizationRequest { user_code });
            decisions.approve_device_authorization(request).await.map(drop)
        }
        Action::Deny => {
            let request = bearer(access_token, DenyDeviceAuthorizationRequest { user_code });
            decisions.deny_device_authorization(request).await.map(drop)
        }
    }
}
