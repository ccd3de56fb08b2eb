//! Measures the verification of tokens: `cargo bench -p service-kit`.

use std::{sync::Arc, time::Duration};

use divan::{Bencher, black_box};
use http::HeaderMap;
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        interceptor::Authenticator,
        key_source::{KeySource, Purpose},
        keys::KeySet,
        revocation::RevocationView,
        rotation::{self, NewKey},
        token,
    },
    clock::Clock,
    ops::config::TokenArgs,
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
            issued_at: now,
            expires_at,
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

/// Verifies a new token each time.
#[divan::bench(args = [NewKey::Hs256, NewKey::EdDsa])]
fn new_token(bencher: Bencher, kind: NewKey) {
    let fixture = Fixture::new(kind);
    bencher
        .with_inputs(|| fixture.headers())
        .bench_refs(|headers| fixture.authenticator.authenticate(headers).expect("accepted"));
}
