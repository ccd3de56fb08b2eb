//! Personal access tokens are exchanged once, remembered, and forgotten when their session is revoked.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{
    assert_refused, auth::personal_access_token::PersonalAccessToken, on_each_database, testing::TestDatabase,
};
use taskey_proto::{
    auth::v1::ExchangePersonalAccessTokenResponse,
    task::v1::{CreateTaskRequest, ListTasksRequest, WatchTasksRequest, task_service_client::TaskServiceClient},
};
use tokio::time::{Instant, timeout};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::support::{Service, WAIT_TIMEOUT, titled};

on_each_database!(
    a_token_is_exchanged_once_and_permits_only_its_scopes,
    a_revoked_token_is_refused_within_a_second,
    remembered_claims_expire,
    a_token_is_refused_outside_its_networks,
    an_unknown_token_is_exchanged_once,
    a_token_that_cannot_be_exchanged_is_not_refused,
    a_stream_lasts_longer_than_the_claims_are_remembered,
);

/// The claims and the secret of a new token.
struct Token {
    secret: String,
    claims: ExchangePersonalAccessTokenResponse,
    session_id: Uuid,
}

impl Token {
    /// Creates a token that auth-service accepts.
    fn new(service: &Service, scope: &str, networks: &[&str]) -> Self {
        let (id, session_id, now) = (service.clock.new_id(), service.clock.new_id(), service.clock.now());
        let claims = ExchangePersonalAccessTokenResponse {
            sub: service.clock.new_id().to_string(),
            sid: session_id.to_string(),
            jti: id.to_string(),
            roles: Vec::new(),
            scope: scope.to_owned(),
            networks: networks.iter().map(|network| (*network).to_owned()).collect(),
            expire_time: Some((now + Duration::from_secs(300)).into()),
            token_expire_time: Some((now + Duration::from_secs(86_400)).into()),
        };
        let secret = PersonalAccessToken::generate(id).0.to_string();
        service.feed.set_claims(&secret, Some(claims.clone()));
        Self { secret, claims, session_id }
    }

    fn sign<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let header = format!("Bearer {}", self.secret).parse().expect("ASCII");
        request.metadata_mut().insert("authorization", header);
        request
    }

    async fn list(&self, service: &Service) -> Result<(), Status> {
        let mut client = TaskServiceClient::new(service.channel.clone());
        client.list_tasks(self.sign(ListTasksRequest::default())).await.map(drop)
    }
}

async fn a_token_is_exchanged_once_and_permits_only_its_scopes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let token = Token::new(&service, "tasks.read", &[]);
    let at_once = join_all((0..20).map(|_| token.list(&service))).await;
    assert!(at_once.iter().all(Result::is_ok), "{at_once:?}");
    for _ in 0..20 {
        token.list(&service).await.expect("permitted");
    }
    let create = token.sign(CreateTaskRequest { task: Some(titled("Buy milk")), ..CreateTaskRequest::default() });
    let outcome = TaskServiceClient::new(service.channel.clone()).create_task(create).await;
    assert_refused!(outcome, PermissionDenied, "SCOPE_MISSING");
    assert_eq!(service.feed.exchanges(), 1);
}

async fn a_revoked_token_is_refused_within_a_second(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (token, other) = (Token::new(&service, "tasks.read", &[]), Token::new(&service, "tasks.read", &[]));
    token.list(&service).await.expect("permitted");
    service.feed.set_claims(&token.secret, None);
    service.feed.revoke(token.session_id);
    let revoked_at = Instant::now();
    let refused = async {
        loop {
            if let Err(status) = token.list(&service).await {
                return status;
            }
        }
    };
    let status = timeout(WAIT_TIMEOUT, refused).await.expect("the revocation arrives");
    assert!(revoked_at.elapsed() < Duration::from_secs(1));
    assert_refused!(Err::<(), _>(status), Unauthenticated, "TOKEN_INVALID");
    let exchanges = service.feed.exchanges();
    for _ in 0..10 {
        assert_refused!(token.list(&service).await, Unauthenticated, "TOKEN_INVALID");
    }
    assert_eq!(service.feed.exchanges(), exchanges, "invalid tokens are remembered");
    other.list(&service).await.expect("other tokens are not affected");
}

async fn remembered_claims_expire(database: TestDatabase) {
    let service = Service::start(&database).await;
    let token = Token::new(&service, "tasks.read", &[]);
    token.list(&service).await.expect("permitted");
    service.feed.set_claims(&token.secret, None);
    service.manual_clock.advance(Duration::from_secs(299));
    token.list(&service).await.expect("remembered");
    service.manual_clock.advance(Duration::from_secs(1));
    assert_refused!(token.list(&service).await, Unauthenticated, "TOKEN_INVALID");
    assert_eq!(service.feed.exchanges(), 2);
}

async fn a_token_is_refused_outside_its_networks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let inside = Token::new(&service, "tasks.read", &["192.0.2.0/24", "127.0.0.0/8"]);
    let outside = Token::new(&service, "tasks.read", &["192.0.2.0/24"]);
    for _ in 0..3 {
        inside.list(&service).await.expect("permitted");
        assert_refused!(outside.list(&service).await, Unauthenticated, "TOKEN_INVALID");
    }
    assert_eq!(service.feed.exchanges(), 2);
}

async fn an_unknown_token_is_exchanged_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let token = Token::new(&service, "tasks.read", &[]);
    service.feed.set_claims(&token.secret, None);
    for outcome in join_all((0..20).map(|_| token.list(&service))).await {
        assert_refused!(outcome, Unauthenticated, "TOKEN_INVALID");
    }
    assert_eq!(service.feed.exchanges(), 1);
}

async fn a_token_that_cannot_be_exchanged_is_not_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let token = Token::new(&service, "tasks.read", &[]);
    let invalid = ExchangePersonalAccessTokenResponse { sub: "x".to_owned(), ..token.claims.clone() };
    service.feed.set_claims(&token.secret, Some(invalid));
    assert_refused!(token.list(&service).await, Unavailable, "VERIFIER_NOT_READY");
    service.feed.set_claims(&token.secret, Some(token.claims.clone()));
    token.list(&service).await.expect("permitted");
}

async fn a_stream_lasts_longer_than_the_claims_are_remembered(database: TestDatabase) {
    let service = Service::start(&database).await;
    let token = Token::new(&service, "tasks.read tasks.write", &[]);
    let mut client = TaskServiceClient::new(service.channel.clone());
    let watch = client.watch_tasks(token.sign(WatchTasksRequest::default())).await.expect("permitted");
    let mut watch = watch.into_inner();
    watch.message().await.expect("no error").expect("the first message");
    service.manual_clock.advance(Duration::from_secs(400));
    let create = token.sign(CreateTaskRequest { task: Some(titled("Buy milk")), ..CreateTaskRequest::default() });
    client.create_task(create).await.expect("permitted");
    timeout(WAIT_TIMEOUT, watch.message()).await.expect("in time").expect("the stream continues");
    service.feed.revoke(token.session_id);
    let ended = timeout(WAIT_TIMEOUT, async {
        while watch.message().await?.is_some() {}
        Ok::<_, Status>(())
    })
    .await;
    assert_refused!(ended.expect("in time"), Unauthenticated, "TOKEN_REVOKED");
}
