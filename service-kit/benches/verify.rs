//! What the verification of a token costs: `cargo bench -p service-kit`.

use std::{sync::Arc, time::Duration};

use divan::{Bencher, black_box};
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
use tonic::metadata::MetadataMap;
use uuid::Uuid;

fn main() {
    divan::main();
}

/// What stands before a service, and tokens that it accepts.
struct Set {
    clock: Clock,
    keys: Arc<KeySet>,
    authenticator: Authenticator,
    _folder: tempfile::TempDir,
}

fn names() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

impl Set {
    fn new(kind: NewKey) -> Self {
        let (folder, clock) = (testing::folder(), Clock::system());
        let file = folder.path().join("keys.json");
        rotation::generate(kind, &file).expect("a key file");
        let source = Arc::new(KeySource::file(&file, Purpose::Sign, clock.clone()).expect("keys"));
        let view = Arc::new(RevocationView::new(Duration::from_secs(600), clock.clone()));
        // As many as a busy service may hold.
        view.replace((0..10_000).map(|_| clock.new_id()), None);
        view.add([]);
        let keys = source.current().expect("keys");
        let authenticator = Authenticator::new(source, names(), view, clock.clone());
        Self { clock, keys, authenticator, _folder: folder }
    }

    fn headers(&self) -> MetadataMap {
        let (id, now): (Uuid, _) = (self.clock.new_id(), self.clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let claims = AccessClaims { id, user_id: id, session_id: id, roles: Vec::new(), issued_at: now, expires_at };
        let token = token::sign(&self.keys, &names(), &claims).expect("signed");
        let mut headers = MetadataMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
        headers
    }
}

/// The same token again and again, as a client sends it.
#[divan::bench(args = [NewKey::Hs256, NewKey::EdDsa])]
fn the_same_token(bencher: Bencher, kind: NewKey) {
    let set = Set::new(kind);
    let headers = set.headers();
    bencher.bench(|| set.authenticator.authenticate(black_box(&headers)).expect("accepted"));
}

/// A token that was not seen before.
#[divan::bench(args = [NewKey::Hs256, NewKey::EdDsa])]
fn a_new_token(bencher: Bencher, kind: NewKey) {
    let set = Set::new(kind);
    let fresh = || set.headers();
    bencher.with_inputs(fresh).bench_refs(|headers| set.authenticator.authenticate(headers).expect("accepted"));
}
