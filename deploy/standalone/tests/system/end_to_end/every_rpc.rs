//! Rules for every RPC of the contract. The RPCs are read from the descriptors, so that new ones are covered
//! automatically.

use std::fs;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use serde_json::{Value, json};
use service_kit::testing::{TestDatabase, call_raw, refusal};
use tonic::{Code, Request};

use super::processes::Taskey;

/// Services and single RPCs that need no access token.
const OPEN: [&str; 3] =
    ["taskey.auth.v1.AuthService", "taskey.auth.v1.OAuthService", "taskey.auth.v1.TokenService.GetJwks"];

pub fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("the descriptors are valid");
    let services: Vec<_> = pool.services().filter(|service| service.full_name().starts_with("taskey.")).collect();
    services.iter().flat_map(prost_reflect::ServiceDescriptor::methods).collect()
}

fn is_open(method: &MethodDescriptor) -> bool {
    OPEN.contains(&method.full_name()) || OPEN.contains(&method.parent_service().full_name())
}

fn protected() -> Vec<MethodDescriptor> {
    methods().into_iter().filter(|method| !is_open(method)).collect()
}

/// Calls an RPC with an empty message and these `authorization` headers, and returns its error.
async fn call_and_get_error(
    taskey: &Taskey,
    method: &MethodDescriptor,
    authorization: &[String],
) -> (Code, String, Vec<String>) {
    let name = if method.parent_service().package_name() == "taskey.task.v1" { "task" } else { "auth" };
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut request = Request::new(Vec::new());
    for value in authorization {
        request.metadata_mut().append("authorization", value.parse().expect("ASCII"));
    }
    refusal(&call_raw(&taskey.channel(name), &path, request).await.expect_err(method.full_name()))
}

/// Signs arbitrary tokens with the key of the key file.
pub struct Forger {
    kid: String,
    secret: Vec<u8>,
}

impl Forger {
    pub fn new(database: &TestDatabase) -> Self {
        let file = fs::read_to_string(database.folder().join("data/keys.json")).expect("a key file");
        let set: Value = serde_json::from_str(&file).expect("a JWK Set");
        let member = |name: &str| set["keys"][0][name].as_str().expect("a member").to_owned();
        Self { kid: member("kid"), secret: BASE64.decode(member("k")).expect("base64url") }
    }

    pub fn header(&self) -> Value {
        json!({"alg": "HS256", "kid": self.kid, "typ": "at+jwt"})
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), message.as_bytes());
        format!("Bearer {message}.{}", BASE64.encode(tag))
    }
}

/// Returns the object with one member replaced or removed.
pub fn with(mut object: Value, member: &str, value: Option<Value>) -> Value {
    match value {
        Some(value) => object[member] = value,
        None => _ = object.as_object_mut().expect("an object").remove(member),
    }
    object
}

/// Returns the claims of a token.
pub fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&BASE64.decode(payload).expect("base64url")).expect("JSON")
}

/// Guards the other tests, which would pass without any RPC.
#[test]
fn contract_has_protected_and_open_rpcs() {
    assert!(protected().len() >= 15);
    assert_eq!(methods().len() - protected().len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protected_rpc_refuses_invalid_tokens() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let active = taskey.sign_up_and_log_in("ann@example.com").await.access_token;
    let revoked = taskey.sign_up_and_log_in("bob@example.com").await;
    taskey.logout(&revoked).await;
    while taskey.list(&revoked.access_token).await.is_ok() {}

    let forger = Forger::new(&database);
    let claims = claims_of(&active);
    let iat = claims["iat"].as_i64().expect("a number");
    let header = forger.header();
    let forger_with_wrong_key = Forger { kid: forger.kid.clone(), secret: vec![1; 32] };
    let expired = with(with(claims.clone(), "iat", Some(json!(iat - 600))), "exp", Some(json!(iat - 300)));
    let message = active.rsplit_once('.').expect("three parts").0;

    let mut tokens = vec![
        (vec![], "TOKEN_MISSING"),
        (vec![format!("Bearer {active}"), format!("Bearer {active}")], "TOKEN_INVALID"),
        (vec![format!("Basic {active}")], "TOKEN_INVALID"),
        (vec![active.clone()], "TOKEN_INVALID"),
        (vec!["Bearer ".to_owned()], "TOKEN_INVALID"),
        (vec![format!("Bearer {}", revoked.refresh_token)], "TOKEN_INVALID"),
        (vec![format!("Bearer {}", revoked.access_token)], "TOKEN_REVOKED"),
        (vec![forger.sign(&header, &expired)], "TOKEN_EXPIRED"),
        (vec![format!("Bearer {message}.")], "TOKEN_INVALID"),
        (vec![forger.sign(&with(header.clone(), "alg", Some(json!("none"))), &claims)], "TOKEN_INVALID"),
        (vec![forger.sign(&with(header.clone(), "alg", Some(json!("HS512"))), &claims)], "TOKEN_INVALID"),
        (vec![forger.sign(&with(header.clone(), "typ", Some(json!("JWT"))), &claims)], "TOKEN_INVALID"),
        (vec![forger.sign(&with(header.clone(), "kid", Some(json!("x"))), &claims)], "TOKEN_INVALID"),
        (vec![forger_with_wrong_key.sign(&header, &claims)], "TOKEN_INVALID"),
    ];
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        for value in [None, Some(json!(null)), Some(json!({}))] {
            tokens.push((vec![forger.sign(&header, &with(claims.clone(), claim, value))], "TOKEN_INVALID"));
        }
    }
    for method in protected() {
        for (authorization, reason) in &tokens {
            let error = call_and_get_error(&taskey, &method, authorization).await;
            assert_eq!(error, (Code::Unauthenticated, (*reason).to_owned(), vec![]), "{}", method.full_name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_undecodable_messages() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let token = format!("Bearer {}", taskey.sign_up_and_log_in("ann@example.com").await.access_token);
    // The first field as a string that is not UTF-8, if there is a field; a length beyond the end; an overlong varint.
    for garbage in [&[0x0a, 0x02, 0xff, 0xfe][..], &[0x0a, 0x7f], &[0xff; 11]] {
        for method in methods().iter().filter(|method| !method.is_server_streaming()) {
            if garbage[1] == 0x02 && method.input().fields().next().is_none() {
                continue;
            }
            let name = if method.parent_service().package_name() == "taskey.task.v1" { "task" } else { "auth" };
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let mut request = Request::new(garbage.to_vec());
            request.metadata_mut().insert("authorization", token.parse().expect("ASCII"));
            let status = call_raw(&taskey.channel(name), &path, request).await.expect_err(method.full_name());
            let expected = (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned(), vec![]);
            assert_eq!(refusal(&status), expected, "{} {garbage:?}", method.full_name());
            assert_eq!(status.message(), "the request cannot be decoded");
        }
    }
}

#[test]
fn every_rpc_is_documented_and_has_an_http_binding() {
    let file = |name: &str| {
        let path = format!("{}/../../proto/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).expect(&path)
    };
    for method in methods() {
        let source = file(method.parent_file().name());
        let line = format!("  rpc {}(", method.name());
        let (before, after) = source.split_once(&line).expect(&line);
        assert!(before.trim_end().lines().last().is_some_and(|line| line.starts_with("  // ")), "{line}");
        let body = after.split("\n  }\n").next().expect("a body");
        assert!(method.is_server_streaming() || body.contains("google.api.http"), "{line}");
    }
}
