//! The parts of the verifiers' scenarios that are not single steps.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use service_kit::{auth::personal_access_token::PersonalAccessToken, clock::Clock};
use taskey_proto::auth::v1::{
    CreatePersonalAccessTokenRequest, DeletePersonalAccessTokenRequest, DeleteServiceAccountRequest, TokenPair,
    admin_service_client::AdminServiceClient, personal_access_token_service_client::PersonalAccessTokenServiceClient,
};
use tokio::time::{Instant, sleep};
use tonic::{Status, transport::Channel};

use super::{
    drive::{Parameters, get_task},
    expect::difference,
    folder,
    runner::{Ended, Runner},
};
use crate::{
    faults::users::{log_in, log_out, sign_up},
    process::{bearer, channel},
    services::{create_service_account, exchange},
};

/// How many tokens an adapter verifies at the same time.
const CONCURRENT_CALLS: usize = 16;

/// How many differences are reported.
const MAX_DIFFERENCES: usize = 5;

/// The user of the scenarios of verifiers.
const EMAIL: &str = "ann@example.com";

/// The administrator of the scenarios of verifiers.
const ADMIN: &str = "admin@example.com";

/// A revoked token may be accepted this long after the logout.
const LOGOUT_LIMIT: Duration = Duration::from_secs(1);

/// Verifies every token of `vectors.json`.
pub async fn check_vectors(runner: &Runner) -> Result<Value, Ended> {
    let text = fs::read_to_string(folder().join("conformance/vectors.json")).expect("the file exists");
    let file: Value = serde_json::from_str(&text).expect("vectors.json is valid");
    let vectors = file["vectors"].as_array().expect("a list of vectors");
    let verify = async |vector: &Value| {
        let mut request = Map::new();
        request.insert("op".to_owned(), json!("verify_vector"));
        for name in ["keys", "issuer", "audience", "now"] {
            request.insert(name.to_owned(), vector.get(name).unwrap_or(&file[name]).clone());
        }
        request.insert("token".to_owned(), vector["token"].clone());
        let answer = runner.adapter.send(request).answer().await;
        let expected = match vector.get("claims") {
            Some(claims) => json!({"ok": {"claims": claims}}),
            None => json!({"error": {"code": "UNAUTHENTICATED", "reason": vector["reason"]}}),
        };
        let difference = difference(&expected, Some(&answer));
        (answer, difference.map(|difference| format!("{}: {difference}", vector["name"])))
    };
    let results: Vec<_> = stream::iter(vectors).map(verify).buffer_unordered(CONCURRENT_CALLS).collect().await;
    if results.iter().any(|(answer, _)| answer["error"]["code"] == "UNSUPPORTED") {
        return Err(Ended::NotAvailable);
    }
    let differences: Vec<_> = results.into_iter().filter_map(|(_, difference)| difference).collect();
    if differences.is_empty() {
        return Ok(json!({"ok": {"count": vectors.len()}}));
    }
    let first = differences[..differences.len().min(MAX_DIFFERENCES)].join("\n  ");
    Err(Ended::Failed(format!("{} of {} tokens are judged wrongly:\n  {first}", differences.len(), vectors.len())))
}

/// Logs in the user of a scenario, who is signed up first if necessary, and returns the tokens.
pub async fn log_in_at(address: &str) -> Result<Value, String> {
    let auth = channel(address.parse().map_err(|_| "not an address")?);
    // The user may exist already.
    _ = sign_up(&auth, EMAIL).await;
    let pair = log_in(&auth, EMAIL).await.map_err(|status| format!("{status:?}"))?;
    Ok(json!({"access_token": pair.access_token, "refresh_token": pair.refresh_token}))
}

/// Creates a personal access token for the user of a scenario, who is signed up first if necessary.
pub async fn create_personal_access_token(parameters: &Parameters<'_>) -> Result<Value, String> {
    let (address, scopes) = (parameters.text("address")?, parameters.parse("scopes")?);
    let networks = parameters.parse::<Option<_>>("networks")?.unwrap_or_default();
    let request =
        CreatePersonalAccessTokenRequest { label: "scenario".to_owned(), scopes, networks, ..Default::default() };
    let (mut tokens, access_token) = personal_access_tokens(address).await?;
    let created = tokens.create_personal_access_token(bearer(&access_token, request)).await;
    let created = created.map_err(|status| format!("{status:?}"))?.into_inner();
    Ok(json!({"id": created.id, "secret": created.secret}))
}

/// Deletes a personal access token of the user of a scenario.
pub async fn delete_personal_access_token(parameters: &Parameters<'_>) -> Result<Value, String> {
    let request = DeletePersonalAccessTokenRequest { id: parameters.text("id")?.to_owned() };
    let (mut tokens, access_token) = personal_access_tokens(parameters.text("address")?).await?;
    let deleted = tokens.delete_personal_access_token(bearer(&access_token, request)).await;
    deleted.map_err(|status| format!("{status:?}"))?;
    Ok(json!({}))
}

/// Returns a personal access token with a valid format that does not exist.
pub fn unknown_token() -> String {
    PersonalAccessToken::generate(Clock::system().new_id()).0.to_string()
}

/// Calls the server of a verifier with many tokens that do not exist, and counts the codes and the reasons of the errors.
pub async fn call_with_unknown_tokens(parameters: &Parameters<'_>) -> Result<Value, String> {
    let (address, count) = (parameters.text("address")?, parameters.number("count")?);
    let call = async |_| get_task(address, &json!(unknown_token())).await;
    let mut answers = stream::iter(0..count).map(call).buffer_unordered(CONCURRENT_CALLS);
    let mut counts = BTreeMap::<_, u64>::new();
    while let Some(answer) = answers.next().await {
        let text = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        *counts.entry(format!("{} {}", text("code"), text("reason"))).or_default() += 1;
    }
    Ok(json!(counts))
}

/// Returns a client of the service, and an access token of the user of a scenario.
async fn personal_access_tokens(address: &str) -> Result<(PersonalAccessTokenServiceClient<Channel>, String), String> {
    let tokens = log_in_at(address).await?;
    let service =
        PersonalAccessTokenServiceClient::new(channel(address.parse().map_err(|_| "`address` is not an address")?));
    Ok((service, tokens["access_token"].as_str().unwrap_or_default().to_owned()))
}

/// Exchanges the access token of a user, as a service account that an administrator has just created. Returns the new token
/// and the id of the service account.
pub async fn exchange_token(runner: &Runner, parameters: &Parameters<'_>) -> Result<Value, String> {
    let describe = |status: Status| format!("{status:?}");
    let server = channel(parameters.text("address")?.parse().map_err(|_| "`address` is not an address")?);
    // The administrator may exist already.
    _ = sign_up(&server, ADMIN).await;
    let command = ["users", "set-role", ADMIN, "admin"].map(str::to_owned);
    runner.world.read().await.auth_service(&command).await?;
    let admin = log_in(&server, ADMIN).await.map_err(describe)?.access_token;
    let account = create_service_account(&server, &admin).await.map_err(describe)?;
    let [token, scope, audience] = ["token", "scope", "audience"].map(|name| parameters.text(name));
    let token = exchange(&server, &account, token?, scope?, audience?).await.map_err(describe)?;
    Ok(json!({"access_token": token, "actor": account.id}))
}

/// Deletes a service account, as the administrator that has created it.
pub async fn delete_service_account(parameters: &Parameters<'_>) -> Result<Value, String> {
    let describe = |status: Status| format!("{status:?}");
    let server = channel(parameters.text("address")?.parse().map_err(|_| "`address` is not an address")?);
    let admin = log_in(&server, ADMIN).await.map_err(describe)?.access_token;
    let request = bearer(&admin, DeleteServiceAccountRequest { id: parameters.text("id")?.to_owned() });
    AdminServiceClient::new(server).delete_service_account(request).await.map_err(describe)?;
    Ok(json!({}))
}

/// Ends the session of a refresh token.
pub async fn log_out_at(address: &str, refresh_token: &str) -> Result<Value, String> {
    let auth = channel(address.parse().map_err(|_| "not an address")?);
    let pair = TokenPair { refresh_token: refresh_token.to_owned(), ..TokenPair::default() };
    log_out(&auth, &pair).await.map_err(|status| format!("{status:?}"))?;
    Ok(json!({}))
}

/// Logs out in many rounds, and measures how long the server of a verifier accepts the token after each.
pub async fn measure_logouts(runner: &Arc<Runner>, parameters: &Parameters<'_>) -> Result<Value, String> {
    let (auth, server) = (parameters.text("auth")?, parameters.text("address")?);
    let auth = channel(auth.parse().map_err(|_| "`auth` is not an address")?);
    let describe = |status: Status| format!("{status:?}");
    sign_up(&auth, EMAIL).await.map_err(describe)?;
    for round in 0..parameters.number("rounds")? {
        let pair = log_in(&auth, EMAIL).await.map_err(describe)?;
        let token = json!(pair.access_token);
        let accepted = get_task(server, &token).await;
        if let Some(difference) = difference(&json!({"error": null}), Some(&accepted)) {
            return Err(format!("round {round}: {difference}"));
        }
        log_out(&auth, &pair).await.map_err(describe)?;
        let logged_out = Instant::now();
        let expected = json!({"error": {"code": "UNAUTHENTICATED", "reason": "TOKEN_REVOKED"}});
        while let Some(difference) = difference(&expected, Some(&get_task(server, &token).await)) {
            if logged_out.elapsed() > LOGOUT_LIMIT {
                return Err(format!("round {round}: after {LOGOUT_LIMIT:?}, {difference}"));
            }
            sleep(Duration::from_millis(1)).await;
        }
        runner.measured.lock().expect("not poisoned").push(logged_out.elapsed());
    }
    Ok(json!({}))
}
