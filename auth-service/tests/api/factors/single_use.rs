//! Of many concurrent uses of a code, a recovery code or a challenge on two replicas, one succeeds.

use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    CompleteLoginRequest, ConfirmTotpRequest, LoginRequest, TokenPair, complete_login_request::Factor as LoginFactor,
    factor_service_client::FactorServiceClient,
};
use tokio::task::JoinSet;
use tonic::Status;

use super::{challenge, code, create_totp, enroll, recovery, totp};
use crate::support::{self, PASSWORD, Replica, Server, bearer};

on_each_database! {
    a_code_completes_one_of_many_logins,
    a_code_in_a_login_succeeds_once,
    a_recovery_code_completes_one_of_many_logins,
    a_challenge_is_completed_once,
    a_factor_is_confirmed_once,
}

const CALLS: usize = 20;

/// Cheap hashes, so that none waits too long.
const FLAGS: [&str; 2] = ["--password-memory-kib=8", "--password-passes=1"];

pub async fn start(database: TestDatabase) -> (Server, Replica) {
    support::start_two(database, &FLAGS).await
}

pub async fn stop(server: Server, replica: Replica) {
    replica.stop().await;
    server.stop().await;
}

/// Makes the calls concurrently, half of them on each replica. One must succeed, and the others fail for this reason.
pub async fn assert_one_succeeds<T: Send + 'static, F>(expected: &[&str], call: impl Fn(usize) -> F)
where
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for index in 0..CALLS {
        running.spawn(call(index));
    }
    let (succeeded, failed): (Vec<_>, Vec<_>) = running.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(succeeded.len(), 1);
    for status in failed.into_iter().filter_map(Result::err) {
        assert!(expected.contains(&refusal(&status).1.as_str()), "{status:?}");
    }
}

/// Completes these challenges, each with one of the factors.
async fn assert_one_login(
    server: &Server,
    replica: &Replica,
    tokens: &[String],
    factors: &[LoginFactor],
    reason: &str,
) {
    let clients = [server.auth(), replica.auth()];
    assert_one_succeeds(&[reason], |index| {
        let (mut client, factor) = (clients[index % 2].clone(), factors[index % factors.len()].clone());
        let challenge_token = tokens[index % tokens.len()].clone();
        async move { client.complete_login(CompleteLoginRequest { challenge_token, factor: Some(factor) }).await }
    })
    .await;
}

async fn challenges(server: &Server, count: usize) -> Vec<String> {
    let mut tokens = Vec::new();
    for _ in 0..count {
        tokens.push(challenge(server, "ann@example.com").await.token);
    }
    tokens
}

async fn a_code_completes_one_of_many_logins(database: TestDatabase) {
    let (server, replica) = start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let tokens = challenges(&server, CALLS).await;
    let factor = totp(&code(&server, &ann.secret));
    assert_one_login(&server, &replica, &tokens, &[factor], "CODE_INVALID").await;
    stop(server, replica).await;
}

async fn a_code_in_a_login_succeeds_once(database: TestDatabase) {
    let (server, replica) = start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let (clients, totp_code) = ([server.auth(), replica.auth()], code(&server, &ann.secret));
    assert_one_succeeds::<tonic::Response<TokenPair>, _>(&["CODE_INVALID"], |index| {
        let (mut client, totp_code) = (clients[index % 2].clone(), totp_code.clone());
        async move {
            let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
            client.login(LoginRequest { email, password, totp_code, ..LoginRequest::default() }).await
        }
    })
    .await;
    stop(server, replica).await;
}

async fn a_recovery_code_completes_one_of_many_logins(database: TestDatabase) {
    let (server, replica) = start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let tokens = challenges(&server, CALLS).await;
    assert_one_login(&server, &replica, &tokens, &[recovery(&ann.recovery_codes[0])], "CODE_INVALID").await;
    assert_eq!(super::list_factors(&server, &ann.pair.access_token).await.unused_recovery_codes, 9);
    stop(server, replica).await;
}

async fn a_challenge_is_completed_once(database: TestDatabase) {
    let (server, replica) = start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let tokens = challenges(&server, 1).await;
    // Each call has a factor that is still good.
    let factors: Vec<_> = ann.recovery_codes.iter().map(|code| recovery(code)).collect();
    let (clients, factors) = ([server.auth(), replica.auth()], &factors[..10]);
    let token = &tokens[0];
    let mut running = JoinSet::new();
    for (index, factor) in factors.iter().enumerate() {
        let (mut client, factor, challenge_token) = (clients[index % 2].clone(), factor.clone(), token.clone());
        let request = CompleteLoginRequest { challenge_token, factor: Some(factor) };
        running.spawn(async move { client.complete_login(request).await });
    }
    let outcomes = running.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refusal(status).1, "CHALLENGE_INVALID");
    }
    // The codes of the refused calls were not used.
    assert_eq!(super::list_factors(&server, &ann.pair.access_token).await.unused_recovery_codes, 9);
    stop(server, replica).await;
}

async fn a_factor_is_confirmed_once(database: TestDatabase) {
    let (server, replica) = start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let created = create_totp(&server, &access).await.expect("created");
    let clients = [server.channel.clone(), replica.channel.clone()].map(FactorServiceClient::new);
    let shown = code(&server, &created.secret);
    assert_one_succeeds(&["FACTOR_NOT_FOUND"], |index| {
        let (mut client, factor_id, code) = (clients[index % 2].clone(), created.factor_id.clone(), shown.clone());
        let request = bearer(&access, ConfirmTotpRequest { factor_id, code });
        async move { client.confirm_totp(request).await }
    })
    .await;
    let listed = super::list_factors(&server, &access).await;
    assert_eq!((listed.factors.len(), listed.unused_recovery_codes), (1, 10));
    stop(server, replica).await;
}
