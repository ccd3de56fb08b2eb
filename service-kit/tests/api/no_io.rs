//! The verification of a token does no I/O: it opens no file or socket, and does not even ask the kernel for the time.

use std::{collections::BTreeMap, fs::File, sync::Arc, thread, time::Duration};

use http::HeaderMap;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        interceptor::Authenticator,
        key_source::{KeySource, Purpose},
        revocation::RevocationView,
        rotation::{self, NewKey},
        token,
    },
    clock::Clock,
    ops::config::TokenArgs,
    testing,
};

/// The system calls for memory, locks and the end of a thread. None opens a file or socket, or reads the time.
const ALLOWED_SYSTEM_CALLS: [i64; 11] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_exit,
];

/// Makes all system calls of this thread fail from now on, except the allowed ones.
fn deny_system_calls() {
    let allowed: BTreeMap<_, _> = ALLOWED_SYSTEM_CALLS.map(|call| (call, Vec::new())).into();
    let deny = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with seccomp");
    let filter = SeccompFilter::new(allowed, deny, SeccompAction::Allow, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("the kernel accepts the filter");
}

fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// Verifies new, cached, revoked and absent tokens on a thread that cannot make other system calls.
fn verify_without_system_calls(kind: NewKey) {
    let (folder, clock) = (testing::folder(), Clock::system());
    let file = folder.path().join("keys.json");
    rotation::generate(kind, &file).expect("a key file");
    let keys = Arc::new(KeySource::file(&file, Purpose::Sign, clock.clone()).expect("keys"));
    let headers = |session_id| {
        let (id, now) = (clock.new_id(), clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let claims = AccessClaims {
            id,
            user_id: id,
            session_id,
            roles: Vec::new(),
            scopes: None,
            authentication: None,
            issued_at: now,
            expires_at,
            actors: Vec::new(),
        };
        let token = token::sign(&keys.current().expect("keys"), &token_args(), &claims).expect("signed");
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
        headers
    };
    let (revoked, active) = (clock.new_id(), clock.new_id());
    let view = Arc::new(RevocationView::new(Duration::from_secs(600), clock.clone()));
    view.add_snapshot([revoked], None);
    view.add([]);
    let valid: Vec<_> = (0..500).map(|_| headers(active)).collect();
    let invalid = [headers(revoked), HeaderMap::new()];
    let authenticator = Authenticator::new(Arc::clone(&keys), token_args(), view, clock);

    let refused = thread::spawn(move || {
        deny_system_calls();
        // Proves that the filter is active.
        let opened = File::open(&file).map(|_| ()).map_err(|error| error.raw_os_error());
        assert_eq!(opened, Err(Some(libc::EPERM)));
        for headers in valid.iter().chain(&valid) {
            assert!(authenticator.authenticate(headers).is_ok());
        }
        invalid.iter().filter(|headers| authenticator.authenticate(headers).is_err()).count()
    });
    assert_eq!(refused.join().expect("no panic"), 2);
}

#[test]
fn shared_key_verifies_a_thousand_tokens_without_system_calls() {
    verify_without_system_calls(NewKey::Hs256);
}

#[test]
fn public_key_verifies_a_thousand_tokens_without_system_calls() {
    verify_without_system_calls(NewKey::EdDsa);
}
