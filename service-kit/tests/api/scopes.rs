//! The scopes of tokens, and the protection of services by the scopes in their contract.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use service_kit::{
    auth::{
        claims::AccessClaims,
        interceptor::Authenticator,
        key_source::KeySource,
        protected::Protected,
        revocation::RevocationView,
        scope::{Scope, Scopes},
        token::{self, TokenError},
    },
    clock::{Clock, Timestamp},
};
use tonic::server::NamedService;
use uuid::Uuid;

use crate::token::{NOW, claims, forge, header, keys, token_args, verify, with};

#[test]
fn scope_must_follow_the_grammar_and_not_repeat_itself() {
    let verify_scope = |scope: Value| verify(&forge(&header().to_string(), &with(claims(), "scope", scope)));
    let scopes = |scope: &str| verify_scope(json!(scope)).expect("accepted").scopes;
    assert_eq!(verify(&forge(&header().to_string(), &claims().to_string())).expect("accepted").scopes, None);
    assert_eq!(scopes("tasks.read"), Some([Scope::TasksRead].into_iter().collect()));
    assert_eq!(scopes("future tasks.read"), Some([Scope::TasksRead].into_iter().collect()));
    assert_eq!(scopes("future"), Some(Scopes::default()));
    for text in ["", " ", "tasks.read ", "tasks.read  tasks.write", "tasks.read tasks.read", "a\"", "a\\", "ä"] {
        assert_eq!(verify_scope(json!(text)), Err(TokenError::Invalid), "{text:?}");
    }
    for value in [json!(null), json!(["tasks.read"]), json!({}), json!(1), json!(true)] {
        assert_eq!(verify_scope(value.clone()), Err(TokenError::Invalid), "{value}");
    }
}

#[test]
fn token_that_permits_nothing_is_not_issued() {
    let now = Timestamp::from_seconds(NOW);
    let id = Uuid::from_u128(1);
    let (roles, scopes, expires_at) = (Vec::new(), Some(Scopes::default()), Timestamp::from_seconds(NOW + 300));
    let claims = AccessClaims {
        id,
        user_id: id,
        session_id: id,
        roles,
        scopes,
        authentication: None,
        issued_at: now,
        expires_at,
        actors: Vec::new(),
    };
    assert!(token::sign(&keys(), &token_args(), &claims).is_err());
}

/// A service with a name of the contract, or another one.
#[derive(Debug)]
struct Named<const INDEX: usize>;

const NAMES: [&str; 3] = ["taskey.task.v1.TaskService", "taskey.auth.v1.TokenService", "taskey.task.v1.Unknown"];

impl<const INDEX: usize> NamedService for Named<INDEX> {
    const NAME: &'static str = NAMES[INDEX];
}

fn authenticator() -> Authenticator {
    let clock = Clock::system();
    let view = Arc::new(RevocationView::new(Duration::from_secs(3), clock.clone()));
    Authenticator::new(Arc::new(KeySource::feed()), token_args(), view, clock)
}

#[test]
fn only_services_whose_rpcs_all_have_scopes_can_be_protected() {
    Protected::new(Named::<0>, authenticator()).expect("every RPC has a scope");
    let error = Protected::new(Named::<1>, authenticator()).expect_err("an RPC is public");
    assert!(format!("{error:#}").contains(r#"TokenService/GetJwks: the scope "public""#), "{error:#}");
    let error = Protected::new(Named::<2>, authenticator()).expect_err("not in the contract");
    assert!(error.to_string().contains("no RPC of taskey.task.v1.Unknown"), "{error}");
    let error = Protected::with_descriptors(Named::<0>, authenticator(), b"\x0a\xff").expect_err("truncated");
    assert_eq!(error.to_string(), "invalid descriptors");
}
