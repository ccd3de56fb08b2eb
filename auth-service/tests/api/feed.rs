//! The revocation feed, as verifiers receive it.

use std::{collections::HashSet, slice, sync::Arc, time::Duration};

use service_kit::{
    assert_refused,
    auth::{
        credential::Credential,
        key_source::{KeySource, Purpose},
        revocation::HEARTBEAT_LIMIT,
        rotation::{self, NewKey},
    },
    clock::Clock,
    on_each_database,
    ops::config::TokenArgs,
    testing::TestDatabase,
};
use taskey_proto::auth::v1::{
    AcknowledgeRevocationsRequest, GetJwksRequest, LogoutRequest, WatchRevocationsRequest, WatchRevocationsResponse,
    token_service_client::TokenServiceClient,
    watch_revocations_response::{Event, Heartbeat, SnapshotChunk},
};
use tokio::time::{Instant, timeout};
use tonic::{Streaming, transport::Endpoint};

use crate::support::{self, PASSWORD, Server, bearer, verifier_request};

on_each_database! {
    the_feed_begins_with_a_complete_snapshot,
    a_revoked_session_is_reported_within_a_second,
    a_session_revoked_by_another_replica_is_reported_within_a_second,
    a_logout_can_wait_until_the_verifiers_have_acknowledged,
    every_message_has_the_epoch_of_the_database_and_a_sequence_number,
    the_feed_sends_a_heartbeat_every_second,
    the_first_heartbeat_follows_the_snapshot_at_once,
    the_feed_requires_the_verifier_role,
    a_slow_watcher_is_disconnected_without_affecting_others,
    new_public_keys_are_sent_on_the_feed,
    the_feed_ends_when_the_server_stops,
    shared_keys_are_not_published,
    public_keys_are_available_without_authentication,
}

fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

pub async fn watch(server: &Server) -> Streaming<WatchRevocationsResponse> {
    let request = verifier_request(server, WatchRevocationsRequest {}).await;
    server.token().watch_revocations(request).await.expect("the stream opens").into_inner()
}

pub async fn next(feed: &mut Streaming<WatchRevocationsResponse>) -> WatchRevocationsResponse {
    let message = timeout(Duration::from_secs(10), feed.message()).await.expect("a message arrives");
    message.expect("no error").expect("the stream is open")
}

async fn next_event(feed: &mut Streaming<WatchRevocationsResponse>) -> Event {
    next(feed).await.event.expect("an event")
}

/// Returns the sessions that the next event revokes; none if the event is not an update.
async fn next_revoked(feed: &mut Streaming<WatchRevocationsResponse>) -> Vec<String> {
    match next_event(feed).await {
        Event::Update(update) => update.revoked_session_ids,
        _ => Vec::new(),
    }
}

pub async fn snapshot(feed: &mut Streaming<WatchRevocationsResponse>) -> Vec<String> {
    let mut sessions = Vec::new();
    loop {
        match next_event(feed).await {
            Event::SnapshotChunk(chunk) => sessions.extend(chunk.revoked_session_ids),
            Event::SnapshotEnd(_) => return sessions,
            other => panic!("{other:?} in a snapshot"),
        }
    }
}

/// Reports whether the feed delivers the revocation of the session within a second.
pub async fn is_reported(feed: &mut Streaming<WatchRevocationsResponse>, session_id: &str) -> bool {
    let reported = async { while !next_revoked(feed).await.iter().any(|id| id == session_id) {} };
    timeout(Duration::from_secs(1), reported).await.is_ok()
}

async fn the_feed_begins_with_a_complete_snapshot(database: TestDatabase) {
    let server = Server::start(database).await;
    let ended = server.sign_up_and_login("ann@example.com").await;
    server.sign_up_and_login("bob@example.com").await;
    let mut feed = watch(&server).await;
    assert!(snapshot(&mut feed).await.is_empty());
    server.logout(&ended.refresh_token).await.expect("logged out");
    assert!(is_reported(&mut feed, &ended.session_id).await);
    assert_eq!(snapshot(&mut watch(&server).await).await, slice::from_ref(&ended.session_id));
    let server = Server::start(server.stop().await).await;
    assert_eq!(snapshot(&mut watch(&server).await).await, [ended.session_id]);
    server.stop().await;
}

async fn a_revoked_session_is_reported_within_a_second(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    server.logout(&pair.refresh_token).await.expect("logged out");
    assert!(is_reported(&mut feed, &pair.session_id).await);
    server.stop().await;
}

async fn a_session_revoked_by_another_replica_is_reported_within_a_second(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let other = support::start_replica(&server).await;
    other
        .auth()
        .logout(LogoutRequest { refresh_token: pair.refresh_token, ..LogoutRequest::default() })
        .await
        .expect("logged out");
    assert!(is_reported(&mut feed, &pair.session_id).await);
    other.stop().await;
    server.stop().await;
}

async fn a_logout_can_wait_until_the_verifiers_have_acknowledged(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), wait_for_verifiers: true };
    let logout = tokio::spawn({
        let mut client = server.auth();
        async move { client.logout(request).await.expect("logged out").into_inner().acknowledged_verifiers }
    });
    let update = loop {
        let message = next(&mut feed).await;
        if let Some(Event::Update(update)) = &message.event
            && update.revoked_session_ids.contains(&pair.session_id)
        {
            break message;
        }
    };
    let (watch_id, sequence) = (update.watch_id, update.sequence);
    let acknowledgment = async |watch_id: &str| {
        verifier_request(&server, AcknowledgeRevocationsRequest { watch_id: watch_id.to_owned(), sequence }).await
    };
    let mut client = server.token();
    assert_refused!(
        client.acknowledge_revocations(acknowledgment("x").await).await,
        InvalidArgument,
        "VALIDATION_FAILED",
        "watch_id"
    );
    client
        .acknowledge_revocations(acknowledgment(&pair.session_id).await)
        .await
        .expect("an unknown stream is no error");
    client.acknowledge_revocations(acknowledgment(&watch_id).await).await.expect("acknowledged");
    assert_eq!(logout.await.expect("no panic"), 1);
    server.stop().await;
}

async fn every_message_has_the_epoch_of_the_database_and_a_sequence_number(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut feed = watch(&server).await;
    let end = next(&mut feed).await;
    assert!(matches!(end.event, Some(Event::SnapshotEnd(_))) && !end.epoch.is_empty(), "{end:?}");
    assert_eq!(end.sequence, 0);
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.logout(&pair.refresh_token).await.expect("logged out");
    assert!(is_reported(&mut feed, &pair.session_id).await);
    let heartbeat = next(&mut feed).await;
    assert_eq!((heartbeat.sequence, &heartbeat.epoch), (1, &end.epoch));
    let server = Server::start(server.stop().await).await;
    let chunk = next(&mut watch(&server).await).await;
    let revoked = SnapshotChunk { revoked_session_ids: vec![pair.session_id] };
    assert_eq!((chunk.sequence, chunk.epoch, chunk.event), (1, end.epoch, Some(Event::SnapshotChunk(revoked))));
    server.stop().await;
}

/// If watchers waited for the next regular heartbeat, that would take 250 ms on average.
async fn the_first_heartbeat_follows_the_snapshot_at_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut delays = Vec::new();
    for _ in 0..15 {
        let mut feed = watch(&server).await;
        snapshot(&mut feed).await;
        let start = Instant::now();
        assert_eq!(next_event(&mut feed).await, Event::Heartbeat(Heartbeat {}));
        delays.push(start.elapsed());
    }
    delays.sort();
    assert!(delays[7] < Duration::from_millis(100), "{delays:?}");
    server.stop().await;
}

async fn the_feed_sends_a_heartbeat_every_second(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let start = Instant::now();
    for _ in 0..6 {
        assert_eq!(next_event(&mut feed).await, Event::Heartbeat(Heartbeat {}));
    }
    assert!(start.elapsed() < Duration::from_secs(6), "six heartbeats took {:?}", start.elapsed());
    server.stop().await;
}

/// While another connection locks the table, no replica can read its revocations.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_read_its_database_sends_no_heartbeats() {
    use sqlx::{Connection, Executor, PgConnection};
    let Some(database) = TestDatabase::postgres().await else { return };
    let server = Server::start_with(database, &["--database-timeout", "2s"]).await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let mut locker = PgConnection::connect(server.database.url()).await.expect("connected");
    let mut lock = locker.begin().await.expect("begun");
    lock.execute("lock table auth.sessions in access exclusive mode").await.expect("locked");

    let silent = async { while timeout(HEARTBEAT_LIMIT, feed.message()).await.is_ok() {} };
    timeout(Duration::from_secs(20), silent).await.expect("the heartbeats stop");
    let outcome = server.token().watch_revocations(verifier_request(&server, WatchRevocationsRequest {}).await).await;
    assert_refused!(outcome.map(|_| ()), Unavailable, "VERIFIER_NOT_READY");

    lock.rollback().await.expect("unlocked");
    let recovered = async {
        while server
            .token()
            .watch_revocations(verifier_request(&server, WatchRevocationsRequest {}).await)
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), recovered).await.expect("the feed is open again");
    server.stop().await;
}

async fn the_feed_requires_the_verifier_role(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let mut client = server.token();
    let outcome = client.watch_revocations(bearer(&pair.access_token, WatchRevocationsRequest {})).await;
    assert_refused!(outcome.map(|_| ()), PermissionDenied, "PERMISSION_DENIED");
    let outcome = client.watch_revocations(WatchRevocationsRequest {}).await;
    assert_refused!(outcome.map(|_| ()), Unauthenticated, "TOKEN_MISSING");
    server.stop().await;
}

async fn a_slow_watcher_is_disconnected_without_affecting_others(database: TestDatabase) {
    let server = Server::start_with(database, &["--password-memory-kib", "8", "--password-passes", "1"]).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    // The small window makes the server block until this client reads.
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("a URL");
    let channel = endpoint.initial_stream_window_size(128).connect().await.expect("connected");
    let request = verifier_request(&server, WatchRevocationsRequest {}).await;
    let mut slow_feed =
        TokenServiceClient::new(channel).watch_revocations(request).await.expect("the stream opens").into_inner();

    let mut ended = HashSet::new();
    for _ in 0..400 {
        let pair = server.login("ann@example.com", PASSWORD).await.expect("logged in");
        server.logout(&pair.refresh_token).await.expect("logged out");
        // Other tests check how soon this happens.
        while !next_revoked(&mut feed).await.contains(&pair.session_id) {}
        ended.insert(pair.session_id);
    }
    let disconnected = async {
        loop {
            if let Err(status) = slow_feed.message().await {
                return status;
            }
        }
    };
    let status = timeout(Duration::from_secs(10), disconnected).await.expect("disconnected");
    assert_refused!(Err::<(), _>(status), ResourceExhausted, "OVERLOADED");
    let new_snapshot: HashSet<_> = snapshot(&mut watch(&server).await).await.into_iter().collect();
    assert_eq!(new_snapshot, ended, "a new stream starts with a complete snapshot");
    server.stop().await;
}

async fn new_public_keys_are_sent_on_the_feed(database: TestDatabase) {
    let file = database.folder().join("ed.json");
    rotation::generate(NewKey::EdDsa, &file).expect("a key file");
    let server = Server::start_with(database, &["--key-file", file.to_str().expect("UTF-8")]).await;
    let (clock, token_args) = (Clock::system(), token_args());
    let source = Arc::new(KeySource::file(&file, Purpose::Sign, clock.clone()).expect("keys"));
    let credential = Credential::SelfSigned { keys: source, names: token_args, clock: clock.clone() };
    let request = credential.sign(WatchRevocationsRequest {}).await.expect("signed");
    let mut feed = server.token().watch_revocations(request).await.expect("the stream opens").into_inner();
    let Event::SnapshotEnd(end) = next_event(&mut feed).await else { panic!("the snapshot is not empty") };
    let old_keys = end.keys.expect("the snapshot has the keys").keys;
    assert_eq!(old_keys.len(), 1);
    rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
    let keys_event = async {
        loop {
            if let Event::Keys(public) = next_event(&mut feed).await {
                return public.keys;
            }
        }
    };
    let new_keys = timeout(Duration::from_secs(20), keys_event).await.expect("the new keys arrive");
    assert_eq!((new_keys.len(), &new_keys[1]), (2, &old_keys[0]));
    server.stop().await;
}

async fn the_feed_ends_when_the_server_stops(database: TestDatabase) {
    let server = Server::start(database).await;
    let mut feed = watch(&server).await;
    snapshot(&mut feed).await;
    let stop = tokio::spawn(server.stop());
    while let Ok(Some(_)) = feed.message().await {}
    timeout(Duration::from_secs(5), stop)
        .await
        .expect("an open stream does not keep the server running")
        .expect("no panic");
}

async fn shared_keys_are_not_published(database: TestDatabase) {
    let server = Server::start(database).await;
    assert!(server.token().get_jwks(GetJwksRequest {}).await.expect("returned").into_inner().keys.is_empty());
    server.stop().await;
}

async fn public_keys_are_available_without_authentication(database: TestDatabase) {
    let file = database.folder().join("ed.json");
    rotation::generate(NewKey::EdDsa, &file).expect("a key file");
    let server = Server::start_with(database, &["--key-file", file.to_str().expect("UTF-8")]).await;
    let keys = server.token().get_jwks(GetJwksRequest {}).await.expect("returned").into_inner().keys;
    let kinds: Vec<_> = keys.iter().map(|key| (&key.kty[..], &key.crv[..], &key.alg[..], key.x.len())).collect();
    assert_eq!(kinds, [("OKP", "Ed25519", "EdDSA", 43)]);
    let pair = server.sign_up_and_login("ann@example.com").await;
    server.get_me(&pair.access_token).await.expect("the token is valid");
    server.stop().await;
}
