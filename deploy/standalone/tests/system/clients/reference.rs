//! The verifier of `service-kit` as an adapter: the scenarios expect of other languages what it does.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    header::AUTHORIZATION,
    http::Extensions,
};
use prost::Message;
use serde_json::{Map, Value, json};
use service_kit::{
    auth::{
        claims::AccessClaims,
        credential::Credential,
        interceptor::Authenticator,
        key_source::{KeySource, Purpose},
        keys::KeySet,
        personal_access_token::{ClientAddresses, cache::PersonalAccessTokens, remote::RemoteExchange},
        revocation::{Freshness, RevocationView, follow::Follower},
        scope::Scope,
        token,
    },
    clock::{Clock, Timestamp},
    ops::config::TokenArgs,
    status::ApiError,
    testing::certificates::replace,
    tls::Dialer,
};
use taskey_proto::task::v1::Task;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinSet, block_in_place},
};
use tonic::{Status, transport::Endpoint};

use super::{
    adapter::Adapter,
    drive,
    fake::{Body, frame, respond, serve, trailers},
};

/// The default maximum staleness, as in `task-service --help`.
const MAX_STALENESS: Duration = Duration::from_secs(30);

/// A verifier, with its gRPC server. Dropping it stops both.
struct Verifier {
    authenticator: Authenticator,
    view: Arc<RevocationView>,
    _running: JoinSet<()>,
    _folder: TempDir,
}

type Verifiers = Arc<Mutex<HashMap<String, Arc<Verifier>>>>;

/// Returns an adapter that runs in this process.
pub fn adapter() -> Adapter {
    let verifiers = Verifiers::default();
    Adapter::in_process(move |request| {
        let verifiers = Arc::clone(&verifiers);
        Box::pin(async move {
            match execute(&verifiers, &request).await {
                Ok(ok) => json!({"ok": ok}),
                Err(Some(status)) => json!({"error": drive::error(&status)}),
                Err(None) => json!({"error": {"code": "UNSUPPORTED"}}),
            }
        })
    })
}

/// Executes an operation. Fails without a status if it is not supported.
async fn execute(verifiers: &Verifiers, request: &Map<String, Value>) -> Result<Value, Option<Status>> {
    let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = text("verifier");
    let verifier = || Arc::clone(&verifiers.lock().expect("not poisoned")[&name]);
    let args = TokenArgs { issuer: text("issuer"), audience: text("audience") };
    match &text("op")[..] {
        "verify_vector" => block_in_place(|| verify_vector(&args, request)),
        "verifier" => {
            let (created, address) = start(args, request).await;
            verifiers.lock().expect("not poisoned").insert(name.clone(), Arc::new(created));
            Ok(json!({"grpc": address.to_string(), "http": null}))
        }
        "verify" => {
            let mut headers = HeaderMap::new();
            let authorization = format!("Bearer {}", text("token"));
            headers.insert(AUTHORIZATION, authorization.parse().expect("a token is ASCII"));
            let verifier = verifier();
            let mut extensions = Extensions::new();
            if let Ok(address) = text("client_address").parse::<IpAddr>() {
                extensions.insert(address);
            }
            let caller = verifier.authenticator.authenticate_any(&extensions, &headers).await.map_err(Status::from)?;
            if let Some(max_age) = request.get("max_age_s").and_then(Value::as_u64) {
                let (now, max_age) = (Clock::system().now(), Duration::from_secs(max_age));
                caller.require_fresh(now, max_age).map_err(Status::from)?;
            }
            Ok(json!({"claims": to_json(caller.claims())}))
        }
        "state" => {
            let state = match verifier().view.freshness() {
                Freshness::Cold => "COLD",
                Freshness::Fresh => "FRESH",
                Freshness::Stale => "STALE",
                Freshness::Lost => "EXPIRED",
            };
            Ok(json!({"state": state}))
        }
        "close_verifier" => {
            verifiers.lock().expect("not poisoned").remove(&name);
            Ok(json!({}))
        }
        _ => Err(None),
    }
}

fn verify_vector(args: &TokenArgs, request: &Map<String, Value>) -> Result<Value, Option<Status>> {
    let now = Timestamp::from_seconds(request["now"].as_i64().expect("a time"));
    let (_folder, file) = write(&request["keys"].to_string());
    let keys = KeySet::read(&file, now).expect("usable keys");
    let token = request["token"].as_str().expect("a token");
    let claims = token::verify(&keys, args, token, now).map_err(|error| Status::from(ApiError::from(error)))?;
    Ok(json!({"claims": to_json(&claims)}))
}

fn to_json(claims: &AccessClaims) -> Value {
    json!({
        "sub": claims.user_id.to_string(),
        "sid": claims.session_id.to_string(),
        "jti": claims.id.to_string(),
        "roles": claims.roles,
        "iat": claims.issued_at.as_seconds(),
        "exp": claims.expires_at.as_seconds(),
        "scope": claims.scopes.map(|scopes| scopes.to_string()),
        "amr": claims.authentication.map(|authentication| authentication.methods.names()),
        "auth_time": claims.authentication.map(|authentication| authentication.time.as_seconds()),
        "act": claims.actors.iter().rev().fold(Value::Null, |act, actor| {
            json!({"sub": actor.id.to_string(), "sid": actor.session_id.map(|id| id.to_string()), "act": act})
        }),
    })
}

/// All clients of the scenarios are on this machine, unless a step has another address.
#[derive(Debug)]
struct LocalClients;

impl ClientAddresses for LocalClients {
    fn address<'a>(
        &'a self,
        extensions: &'a Extensions,
        _: &'a HeaderMap,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, ApiError>> {
        let address = extensions.get().copied();
        Box::pin(async move { Ok(Some(address.unwrap_or(Ipv4Addr::LOCALHOST.into()))) })
    }
}

/// Writes a file that nobody else may read.
fn write(content: &str) -> (TempDir, PathBuf) {
    let folder = service_kit::testing::folder();
    let file = folder.path().join("secret");
    replace(&file, content, 0o600);
    (folder, file)
}

/// Starts a verifier, and a server behind it.
async fn start(args: TokenArgs, request: &Map<String, Value>) -> (Verifier, SocketAddr) {
    let (clock, text) = (Clock::system(), |name: &str| request.get(name).and_then(Value::as_str));
    let (folder, token_file) = write(text("service_token").unwrap_or_default());
    let keys = Arc::new(match text("key_file") {
        Some(file) => KeySource::file(Path::new(file), Purpose::Verify, clock.clone()).expect("usable keys"),
        None => KeySource::feed(),
    });
    let credential = match text("service_token") {
        Some(_) => Credential::TokenFile(token_file),
        None => Credential::SelfSigned { keys: Arc::clone(&keys), names: args.clone(), clock: clock.clone() },
    };
    let max_staleness = request.get("max_staleness_ms").and_then(Value::as_u64);
    let max_staleness = max_staleness.map_or(MAX_STALENESS, Duration::from_millis);
    let view = Arc::new(RevocationView::new(max_staleness, clock.clone()));
    let peer: Endpoint = format!("http://{}", text("address").expect("an address")).parse().expect("a URL");
    let peers = vec![peer.into()];
    let exchange = RemoteExchange::new(credential.clone(), &peers, &Dialer::plaintext(), clock.clone());
    let tokens = PersonalAccessTokens::new(Arc::new(exchange), Arc::new(LocalClients), clock.clone());
    let follower = Follower {
        view: Arc::clone(&view),
        keys: Arc::clone(&keys),
        user_changes: None,
        credential,
        peers,
        dialer: Dialer::plaintext(),
    };
    let authenticator = Authenticator::new(keys, args, Arc::clone(&view), clock);
    let authenticator = authenticator.with_personal_access_tokens(Arc::new(tokens));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the socket is bound");
    let mut running = JoinSet::new();
    running.spawn(async move { follower.run().await });
    let server = authenticator.clone();
    running.spawn(serve(listener, move |request| get_task(server.clone(), request)));
    (Verifier { authenticator, view, _running: running, _folder: folder }, address)
}

/// Answers any call with a task whose id is the user of the token.
async fn get_task(authenticator: Authenticator, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(2);
    let authenticated = authenticator.authenticate_any(&head.extensions, &head.headers).await;
    let permitted = authenticated.and_then(|caller| caller.require_scope(Scope::TasksRead).map(|()| caller));
    let status = match permitted {
        Ok(caller) => {
            let task = Task { id: caller.user_id().to_string(), ..Task::default() };
            _ = sender.send(Frame::data(frame(&task.encode_to_vec()))).await;
            Status::ok("")
        }
        Err(error) => error.into(),
    };
    _ = sender.send(trailers(&status)).await;
    Ok(respond(receiver))
}
