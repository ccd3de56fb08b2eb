//! Measures the verification of tokens: `cargo bench -p service-kit`.

use std::{future::ready, net::IpAddr, sync::Arc, time::Duration};

use divan::{Bencher, black_box};
use futures::{FutureExt, future::BoxFuture};
use http::{Extensions, HeaderMap};
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        interceptor::Authenticator,
        key_source::{KeySource, Purpose},
        keys::KeySet,
        personal_access_token::{
            ClientAddresses, Exchange, Exchanged, MAX_AGE, PersonalAccessToken, cache::PersonalAccessTokens,
        },
        revocation::RevocationView,
        rotation::{self, NewKey},
        scope::Scope,
        token,
    },
    clock::Clock,
    ops::config::TokenArgs,
    status::ApiError,
    testing,
};
use uuid::Uuid;

fn main() {
    divan::main();
}

/// An authenticator, and the keys of tokens that it accepts.
struct Fixture {
    clock: Clock,
    keys: Arc<KeySet>,
    authenticator: Authenticator,
    _folder: tempfile::TempDir,
}

fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

impl Fixture {
    fn new(kind: NewKey) -> Self {
        let (folder, clock) = (testing::folder(), Clock::system());
        let file = folder.path().join("keys.json");
        rotation::generate(kind, &file).expect("a key file");
        let source = Arc::new(KeySource::file(&file, Purpose::Sign, clock.clone()).expect("keys"));
        let view = Arc::new(RevocationView::new(Duration::from_secs(600), clock.clone()));
        // As many revoked sessions as a busy service may have.
        view.add_snapshot((0..10_000).map(|_| clock.new_id()), None);
        view.add([]);
        let keys = source.current().expect("keys");
        let authenticator = Authenticator::new(source, token_args(), view, clock.clone());
        Self { clock, keys, authenticator, _folder: folder }
    }

    fn headers(&self) -> HeaderMap {
        let (id, now): (Uuid, _) = (self.clock.new_id(), self.clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let claims = AccessClaims {
            id,
            user_id: id,
            session_id: id,
            roles: Vec::new(),
            scopes: None,
            authentication: None,
            issued_at: now,
            expires_at,
            actors: Vec::new(),
        };
        let token = token::sign(&self.keys, &token_args(), &claims).expect("signed");
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
        headers
    }
}

/// Verifies the same token again and again, as a client sends it.
#[divan::bench(args = [NewKey::Hs256, NewKey::EdDsa])]
fn repeated_token(bencher: Bencher, kind: NewKey) {
    let fixture = Fixture::new(kind);
    let headers = fixture.headers();
    bencher.bench(|| fixture.authenticator.authenticate(black_box(&headers)).expect("accepted"));
}

/// Exchanges any token for the same claims, and knows no client.
#[derive(Debug)]
struct Stub(AccessClaims);

impl Exchange for Stub {
    fn exchange<'a>(&'a self, _: &'a str, _: Option<IpAddr>) -> BoxFuture<'a, Result<Option<Exchanged>, ApiError>> {
        let exchanged = Exchanged { claims: self.0.clone(), networks: Vec::new(), valid_for: MAX_AGE };
        Box::pin(ready(Ok(Some(exchanged))))
    }
}

impl ClientAddresses for Stub {
    fn address<'a>(&'a self, _: &'a Extensions, _: &'a HeaderMap) -> BoxFuture<'a, Result<Option<IpAddr>, ApiError>> {
        Box::pin(ready(Ok(None)))
    }
}

/// Verifies the same personal access token again and again. Only the first call exchanges it.
#[divan::bench]
fn repeated_personal_access_token(bencher: Bencher) {
    let fixture = Fixture::new(NewKey::Hs256);
    let (id, now) = (fixture.clock.new_id(), fixture.clock.now());
    let (roles, scopes, expires_at) = (Vec::new(), Some([Scope::TasksRead].into_iter().collect()), now + MAX_AGE);
    let stub = Arc::new(Stub(AccessClaims {
        id,
        user_id: id,
        session_id: id,
        roles,
        scopes,
        authentication: None,
        issued_at: now,
        expires_at,
        actors: Vec::new(),
    }));
    let tokens = PersonalAccessTokens::new(Arc::clone(&stub) as _, stub, fixture.clock.clone());
    let authenticator = fixture.authenticator.clone().with_personal_access_tokens(Arc::new(tokens));
    let mut headers = HeaderMap::new();
    let (secret, _) = PersonalAccessToken::generate(id);
    headers.insert("authorization", format!("Bearer {}", *secret).parse().expect("ASCII"));
    let extensions = Extensions::new();
    bencher.bench(|| {
        let authenticated = authenticator.authenticate_any(&extensions, black_box(&headers));
        authenticated.now_or_never().expect("no I/O").expect("accepted")
    });
}

/// Verifies a new token each time.
#[divan::bench(args = [NewKey::Hs256, NewKey::EdDsa])]
fn new_token(bencher: Bencher, kind: NewKey) {
    let fixture = Fixture::new(kind);
    bencher
        .with_inputs(|| fixture.headers())
        .bench_refs(|headers| fixture.authenticator.authenticate(headers).expect("accepted"));
}
