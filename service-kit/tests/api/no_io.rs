//! The verification of a token asks nobody: not the disk, not the network, not even the system.

use std::{collections::BTreeMap, fs::File, sync::Arc, thread, time::Duration};

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
use tonic::metadata::MetadataMap;

/// What a thread needs to have memory, to wait for a lock, and to end. No file, no socket, no time.
const ALLOWED: [i64; 11] = [
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

/// Refuses this thread every other call of the system from now on.
fn give_up_the_system() {
    let allowed: BTreeMap<_, _> = ALLOWED.map(|call| (call, Vec::new())).into();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with seccomp");
    let filter = SeccompFilter::new(allowed, refuse, SeccompAction::Allow, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("the system takes a filter");
}

fn names() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// Verifies new, known, revoked and wrong tokens on a thread that has given up the system.
fn verify_without_the_system(kind: NewKey) {
    let (folder, clock) = (testing::folder(), Clock::system());
    let file = folder.path().join("keys.json");
    rotation::generate(kind, &file).expect("a key file");
    let keys = Arc::new(KeySource::file(&file, Purpose::Sign, clock.clone()).expect("keys"));
    let headers = |session_id| {
        let (id, now) = (clock.new_id(), clock.now());
        let expires_at = now + claims::MAX_LIFETIME;
        let claims = AccessClaims { id, user_id: id, session_id, roles: Vec::new(), issued_at: now, expires_at };
        let token = token::sign(&keys.current().expect("keys"), &names(), &claims).expect("signed");
        let mut headers = MetadataMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
        headers
    };
    let (revoked, live) = (clock.new_id(), clock.new_id());
    let view = Arc::new(RevocationView::new(Duration::from_secs(600), clock.clone()));
    view.replace([revoked], None);
    view.add([]);
    let good: Vec<_> = (0..500).map(|_| headers(live)).collect();
    let bad = [headers(revoked), MetadataMap::new()];
    let authenticator = Authenticator::new(Arc::clone(&keys), names(), view, clock);

    let refused = thread::spawn(move || {
        give_up_the_system();
        // Without this the test would show nothing.
        let opened = File::open(&file).map(|_| ()).map_err(|error| error.raw_os_error());
        assert_eq!(opened, Err(Some(libc::EPERM)));
        for headers in good.iter().chain(&good) {
            assert!(authenticator.authenticate(headers).is_ok());
        }
        bad.iter().filter(|headers| authenticator.authenticate(headers).is_err()).count()
    });
    assert_eq!(refused.join().expect("no panic"), 2);
}

#[test]
fn a_shared_key_verifies_a_thousand_tokens_without_the_system() {
    verify_without_the_system(NewKey::Hs256);
}

#[test]
fn a_public_key_verifies_a_thousand_tokens_without_the_system() {
    verify_without_the_system(NewKey::EdDsa);
}
