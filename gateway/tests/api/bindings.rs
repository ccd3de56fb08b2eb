//! Which bindings a gateway starts with, and which it refuses to.

use std::time::Duration;

use gateway::{routing::binding, service::Gateway};
use http::Method;
use prost_reflect::DescriptorPool;

use crate::support::{backend_at, pool, settings};

/// What is wrong with a binding of `Thing` to `Thing` with this http option.
fn refusal(option: &str) -> Option<String> {
    let text = format!(
        "syntax = \"proto3\"; package test.v2; import \"google/api/annotations.proto\"; import \"test/v1/echo.proto\";
         service S {{ rpc R(test.v1.ThingRequest) returns (test.v1.Thing) {{ option (google.api.http) = {{{option}}}; }} }}"
    );
    let mut pool = pool();
    let file = protox_file(&text);
    pool.decode_file_descriptor_set(&*file).unwrap();
    let backends = [backend_at("http://127.0.0.1:1", None)];
    binding::compile(&pool, &backends).err().map(|error| format!("{error:#}"))
}

/// Compiles one more file beside those of the tests.
fn protox_file(text: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("more.proto"), text).unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let includes = [folder.path().to_owned(), root.join("tests/proto"), root.join("../proto")];
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler.include_imports(true).open_file("more.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

#[tokio::test]
async fn every_good_binding_is_taken() {
    assert_eq!(refusal("get: '/v2/{note}'"), None);
    assert_eq!(refusal("post: '/v2/{thing.text}' body: 'thing' response_body: 'child'"), None);
}

#[tokio::test]
async fn a_binding_that_names_no_field_is_refused() {
    for (option, fault) in [
        ("get: '/v2/{nothing}'", "the variable nothing is no field"),
        ("get: '/v2/{thing.nothing}'", "the variable thing.nothing is no field"),
        ("post: '/v2' body: 'nothing'", "no field nothing for the body"),
        ("post: '/v2' response_body: 'nothing'", "no field nothing for response_body"),
    ] {
        let error = refusal(option).expect(option);
        assert!(error.contains(fault) && error.contains("test.v2.S.R"), "{option}: {error}");
    }
}

#[tokio::test]
async fn a_variable_that_no_text_can_fill_is_refused() {
    for option in
        ["get: '/v2/{thing}'", "get: '/v2/{thing.texts}'", "get: '/v2/{thing.counts}'", "get: '/v2/{thing.any}'"]
    {
        assert!(refusal(option).is_some(), "{option}");
    }
}

#[tokio::test]
async fn a_template_that_cannot_be_read_is_refused() {
    for option in ["get: 'v2'", "get: '/v2/{note'", "get: '/v2/**/a'", "get: '/v2/{note}/{note}'", "body: '*'"] {
        assert!(refusal(option).is_some(), "{option}");
    }
}

#[tokio::test]
async fn two_bindings_of_one_path_are_refused() {
    let error = refusal("get: '/v1/texts/{note}'").unwrap();
    assert!(error.contains("another RPC"), "{error}");
}

#[tokio::test]
async fn additional_bindings_do_not_nest() {
    let option = "get: '/v2' additional_bindings { get: '/v2/a' additional_bindings { get: '/v2/b' } }";
    assert!(refusal(option).unwrap().contains("additional"), "{option}");
}

#[tokio::test]
async fn a_service_that_no_backend_serves_is_refused() {
    let error = Gateway::new(pool(), Vec::new(), settings(Duration::from_secs(1))).unwrap_err();
    assert!(format!("{error:#}").contains("no backend serves test.v1.EchoService"), "{error:#}");
}

#[tokio::test]
async fn every_unary_binding_of_the_contract_has_a_route() {
    let pool = DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut backend = backend_at("http://127.0.0.1:1", None);
    backend.package = "taskey";
    let router = binding::compile(&pool, &[backend]).unwrap();
    for (method, path, rpc) in [
        (Method::POST, "/v1/auth/login", "/taskey.auth.v1.AuthService/Login"),
        (Method::GET, "/v1/me", "/taskey.auth.v1.AccountService/GetMe"),
        (Method::POST, "/v1/me/sessions:revokeAll", "/taskey.auth.v1.AccountService/RevokeAllSessions"),
        (Method::GET, "/.well-known/jwks.json", "/taskey.auth.v1.TokenService/GetJwks"),
        (Method::PATCH, "/v1/tasks/x", "/taskey.task.v1.TaskService/UpdateTask"),
        (Method::POST, "/v1/tasks/x:complete", "/taskey.task.v1.TaskService/CompleteTask"),
    ] {
        assert_eq!(router.find(&method, path).unwrap().target.rpc, rpc);
    }
}
