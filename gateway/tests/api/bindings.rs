//! Valid and invalid bindings.

use std::time::Duration;

use gateway::{routing::binding, service::Gateway};
use http::Method;
use prost_reflect::DescriptorPool;

use crate::support::{backend_at, pool, settings};

/// Compiles an RPC with this `google.api.http` option, and returns the error if the binding is invalid.
fn binding_error(option: &str) -> Option<String> {
    let text = format!(
        "syntax = \"proto3\"; package test.v2; import \"google/api/annotations.proto\"; import \"test/v1/echo.proto\";
         service S {{
             rpc R(test.v1.ThingRequest) returns (test.v1.Thing) {{ option (google.api.http) = {{{option}}}; }}
         }}"
    );
    let mut pool = pool();
    let descriptors = compile(&text);
    pool.decode_file_descriptor_set(&*descriptors).unwrap();
    let backends = [backend_at("http://127.0.0.1:1", None)];
    binding::compile(&pool, &backends).err().map(|error| format!("{error:#}"))
}

/// Compiles a proto file that can import the test protos.
fn compile(text: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("more.proto"), text).unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let includes = [folder.path().to_owned(), root.join("tests/proto"), root.join("../proto")];
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler.include_imports(true).open_file("more.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

#[tokio::test]
async fn valid_bindings_compile() {
    assert_eq!(binding_error("get: '/v2/{note}'"), None);
    assert_eq!(binding_error("post: '/v2/{thing.text}' body: 'thing' response_body: 'child'"), None);
}

#[tokio::test]
async fn binding_to_an_unknown_field_is_rejected() {
    for (option, expected) in [
        ("get: '/v2/{nothing}'", "the variable nothing is no field"),
        ("get: '/v2/{thing.nothing}'", "the variable thing.nothing is no field"),
        ("post: '/v2' body: 'nothing'", "no field nothing for the body"),
        ("post: '/v2' response_body: 'nothing'", "no field nothing for response_body"),
    ] {
        let error = binding_error(option).expect(option);
        assert!(error.contains(expected) && error.contains("test.v2.S.R"), "{option}: {error}");
    }
}

#[tokio::test]
async fn path_variable_of_an_unsupported_type_is_rejected() {
    for option in
        ["get: '/v2/{thing}'", "get: '/v2/{thing.texts}'", "get: '/v2/{thing.counts}'", "get: '/v2/{thing.any}'"]
    {
        assert!(binding_error(option).is_some(), "{option}");
    }
}

#[tokio::test]
async fn invalid_template_is_rejected() {
    for option in ["get: 'v2'", "get: '/v2/{note'", "get: '/v2/**/a'", "get: '/v2/{note}/{note}'", "body: '*'"] {
        assert!(binding_error(option).is_some(), "{option}");
    }
}

#[tokio::test]
async fn duplicate_binding_is_rejected() {
    let error = binding_error("get: '/v1/texts/{note}'").unwrap();
    assert!(error.contains("another RPC"), "{error}");
}

#[tokio::test]
async fn nested_additional_bindings_are_rejected() {
    let option = "get: '/v2' additional_bindings { get: '/v2/a' additional_bindings { get: '/v2/b' } }";
    assert!(binding_error(option).unwrap().contains("additional"), "{option}");
}

#[tokio::test]
async fn service_without_a_backend_is_rejected() {
    let error = Gateway::new(pool(), &[], settings(Duration::from_secs(1))).unwrap_err();
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
