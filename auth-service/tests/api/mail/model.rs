//! Compares the single use of links and codes in mails with a model: random sequences of mails, waits, changes of the password
//! and concurrent uses run on two replicas that share a database and a clock.
//!
//! A mail that resets the password is valid until the password changes, for one hour. A mail that verifies the address is valid
//! until the address is verified, which a reset also does, for one day. Of several mails, only the latest has a valid code. The
//! order of concurrent calls is unknown, so the test fails if no order of them explains their results.

use std::time::Duration;

use futures::future::join_all;
use proptest::{prelude::*, test_runner::TestCaseError};
use service_kit::{
    clock::Timestamp,
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{ResetPasswordRequest, VerifyEmailRequest, auth_service_client::AuthServiceClient};
use tonic::{Status, transport::Channel};

use super::{FLAGS, Mailbox, actions::request_reset, await_that, change_password, code_in, start_with, token_in};
use crate::{
    random_cases,
    support::{PASSWORD, Replica, Server, start_replica_with},
};

on_each_database! {
    links_and_codes_behave_like_their_model,
}

/// Cheap hashes.
const CHEAP_HASHES: [&str; 2] = ["--password-memory-kib=8", "--password-passes=1"];
const CASES: u32 = 24;
const HOUR: Duration = Duration::from_secs(3600);
/// Fewer than the mails that an account gets in an hour.
const MAX_RESETS: usize = 6;

async fn links_and_codes_behave_like_their_model(database: TestDatabase) {
    let (first, mailbox) = start_with(database, &CHEAP_HASHES).await;
    let setting = mailbox.setting();
    let flags = [&FLAGS[..], &["--mail", &setting], &CHEAP_HASHES].concat();
    let second = start_replica_with(&first, first.clock.clone(), &flags).await;
    random_cases::assert_all_succeed(CASES, &operations(), |operations| {
        Case::run(&first, &second, &mailbox, operations)
    });
    second.stop().await;
    first.stop().await;
}

#[derive(Clone, Debug)]
enum Operation {
    Wait(Duration),
    RequestReset,
    ChangePassword,
    /// Concurrent calls.
    Use(Vec<Call>),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    /// Counts back from the newest mail. The first mail verifies the address, the others reset the password.
    mail: usize,
    has_code: bool,
    replica: usize,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let waits = prop::sample::select(vec![HOUR / 2, HOUR.saturating_sub(Duration::from_micros(1)), HOUR, 23 * HOUR]);
    let call = (0..4_usize, any::<bool>(), 0..2_usize);
    let call = call.prop_map(|(mail, has_code, replica)| Call { mail, has_code, replica });
    let identical = (call.clone(), 2..=4_usize)
        .prop_map(|(call, count)| (0..count).map(|replica| Call { replica: replica % 2, ..call }).collect());
    let calls = prop_oneof![identical, prop::collection::vec(call, 1..=4)];
    let operation = prop_oneof![
        1 => waits.prop_map(Operation::Wait),
        4 => Just(Operation::RequestReset),
        1 => Just(Operation::ChangePassword),
        5 => calls.prop_map(Operation::Use),
    ];
    prop::collection::vec(operation, 1..=10)
}

/// The state of an account.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    /// How often the password was changed.
    password_version: usize,
    is_verified: bool,
}

/// A call as the model sees it.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The version of the password when the mail was stored. `None` if it verifies the address.
    version: Option<usize>,
    is_expired: bool,
    has_succeeded: bool,
}

/// Reports whether a call can have this result, and applies it.
fn apply(model: &mut Model, step: Step) -> bool {
    let is_current = match step.version {
        Some(version) => version == model.password_version,
        None => !model.is_verified,
    };
    let is_good = is_current && !step.is_expired;
    if is_good && step.has_succeeded {
        model.password_version += usize::from(step.version.is_some());
        model.is_verified = true;
    }
    is_good == step.has_succeeded
}

/// The secrets of a mail.
#[derive(Clone, Debug)]
struct Mail {
    token: String,
    code: String,
    version: Option<usize>,
    expires_at: Timestamp,
}

/// A running case. Each case has its own user.
struct Case<'s> {
    server: &'s Server,
    mailbox: &'s Mailbox,
    replicas: [AuthServiceClient<Channel>; 2],
    email: String,
    password: String,
    passwords: usize,
    mails: Vec<Mail>,
    model: Model,
    log: Vec<String>,
}

impl<'s> Case<'s> {
    async fn run(
        server: &'s Server,
        second: &Replica,
        mailbox: &'s Mailbox,
        operations: Vec<Operation>,
    ) -> Result<(), TestCaseError> {
        let email = format!("{}@example.com", server.clock.new_id());
        server.sign_up(&email).await.expect("signed up");
        let (replicas, password) = ([server.auth(), second.auth()], PASSWORD.to_owned());
        let (mails, model, log) = (Vec::new(), Model::default(), Vec::new());
        let mut case = Self { server, mailbox, replicas, email, password, passwords: 0, mails, model, log };
        case.receive("verifyEmail", None, 24 * HOUR).await;
        for operation in operations {
            match operation {
                Operation::Wait(time) => server.manual_clock.advance(time),
                Operation::RequestReset if case.mails.len() > MAX_RESETS => {}
                Operation::RequestReset => {
                    request_reset(server, &case.email).await.expect("requested");
                    case.receive("resetPassword", Some(case.model.password_version), HOUR).await;
                }
                Operation::ChangePassword => case.change_password().await,
                Operation::Use(calls) => case.send_all(&calls).await?,
            }
        }
        Ok(())
    }

    /// Waits for the next mail with a link to this view of the page.
    async fn receive(&mut self, view: &str, version: Option<usize>, lifetime: Duration) {
        let link = format!("#{view}=");
        let earlier = self.mails.iter().filter(|mail| mail.version.is_some() == version.is_some()).count();
        let received = || self.mailbox.read(&self.email).into_iter().filter(|mail| mail.contains(&link)).nth(earlier);
        await_that("mail", || received().is_some()).await;
        let mail = received().expect("a mail");
        let (token, code) = (token_in(&mail, view), code_in(&mail));
        self.mails.push(Mail { token, code, version, expires_at: self.server.clock.now() + lifetime });
    }

    fn next_password(&mut self) -> String {
        self.passwords += 1;
        format!("a stapled battery of horses {}", self.passwords)
    }

    async fn change_password(&mut self) {
        let pair = self.server.login(&self.email, &self.password).await.expect("logged in");
        let new = self.next_password();
        change_password(self.server, &pair, &self.password, &new).await.expect("changed");
        self.password = new;
        self.model.password_version += 1;
    }

    async fn send_all(&mut self, calls: &[Call]) -> Result<(), TestCaseError> {
        let newest = self.mails.len() - 1;
        let (mut running, mut passwords) = (Vec::new(), Vec::new());
        for call in calls {
            let index = newest.saturating_sub(call.mail);
            passwords.push(self.next_password());
            running.push((index, *call));
        }
        let sent = running.iter().zip(&passwords).map(async |((index, call), new)| {
            send(self.replicas[call.replica].clone(), &self.email, &self.mails[*index], call.has_code, new).await
        });
        let results = join_all(sent).await;
        let mut steps = Vec::new();
        for ((index, call), result) in running.iter().zip(&results) {
            let reason = result.as_ref().err().map(|status| refusal(status).1);
            let expected = if call.has_code { "CODE_INVALID" } else { "ACTION_TOKEN_INVALID" };
            prop_assert!(reason.is_none_or(|reason| reason == expected), "{result:?} after\n{}", self.log.join("\n"));
            let Mail { version, expires_at, .. } = self.mails[*index];
            let is_superseded = call.has_code && version.is_some() && *index < newest;
            let is_expired = is_superseded || expires_at <= self.server.clock.now();
            steps.push(Step { version, is_expired, has_succeeded: result.is_ok() });
        }
        self.log.push(format!("{steps:?}"));
        let explained = random_cases::explain(&self.model, &steps, &apply);
        prop_assert!(explained.is_some(), "{:?} does not explain:\n{}", self.model, self.log.join("\n"));
        self.model = explained.unwrap_or_default();
        for (step, password) in steps.iter().zip(passwords) {
            if step.has_succeeded && step.version.is_some() {
                self.password = password;
            }
        }
        Ok(())
    }
}

async fn send(
    mut replica: AuthServiceClient<Channel>,
    email: &str,
    mail: &Mail,
    has_code: bool,
    new_password: &str,
) -> Result<(), Status> {
    let (token, email, code) = if has_code {
        (String::new(), email.to_owned(), mail.code.clone())
    } else {
        (mail.token.clone(), String::new(), String::new())
    };
    if mail.version.is_none() {
        return replica.verify_email(VerifyEmailRequest { token, email, code }).await.map(drop);
    }
    let new_password = new_password.to_owned();
    replica.reset_password(ResetPasswordRequest { token, email, code, new_password }).await.map(drop)
}
